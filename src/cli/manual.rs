//! Manual: what is generated from the grammar: manual pages, completion scripts, the table of flags.

use std::fmt::Write as _;

use super::{command, settings};

/// The completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "slim", &mut script);
    script
}

/// Manual pages: file name and roff text, the main one first.
///
/// # Errors
/// Never in practice: writing to memory.
pub fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command();
    command.build();
    let mut pages = Vec::new();
    collect(&command, "slim", &mut pages)?;
    Ok(pages)
}

fn collect(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.to_owned()).display_name(name.to_owned())).render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    for sub in visible {
        collect(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

/// `docs/flags.md`: every flag of `slim build` with its variable, by group, and of `slim trace` and `slim verify` what
/// they share with it and what is their own.
pub fn table() -> String {
    let mut grammar = command();
    grammar.build();
    let mut text = String::from(
        "# Flags of `slim build`, `slim trace` and `slim verify`\n\nGenerated from the grammar; `UPDATE_GOLDEN=1 cargo test --test cli` writes it \
         anew.\n\nEach flag can also be set by its variable and, without the dashes in front, in `slim.toml`. What is \
         typed comes first, then `SLIM_` variables, then their older `DSLIM_` spelling, then `[image.\"NAME\"]`, then \
         `[build]`; the first that names a flag decides it, lists too. A list in a variable has one value to a line, \
         or is a JSON array.\n\n```toml\n[build]\nhttp-probe = true\ninclude-path = [\"/app/templates\"]\n\n\
         [image.\"registry.example:5000/app:1\"]\nexec = [[\"app\", \"--selftest\"]]\nenv = { MODE = \"test\" }\n```\n",
    );
    let Some(build) = grammar.find_subcommand("build") else { return text };
    let flags = settings::flags(build);
    for group in groups(build) {
        let _ = write!(text, "\n## {group}\n{HEAD}");
        for arg in build.get_arguments().filter(|arg| arg.get_help_heading() == Some(group)) {
            row(&mut text, arg, &flags);
        }
    }
    for name in ["trace", "verify"] {
        if let Some(command) = grammar.find_subcommand(name) {
            beside(&mut text, build, command);
        }
    }
    text
}

const HEAD: &str = "\n| flag | variable | meaning |\n|---|---|---|\n";

/// Headings of a command's flags, in their order.
fn groups(command: &clap::Command) -> Vec<&str> {
    let mut groups = Vec::new();
    for group in command.get_arguments().filter_map(clap::Arg::get_help_heading) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// A command whose flags are partly those of `slim build`.
fn beside(text: &mut String, build: &clap::Command, command: &clap::Command) {
    let help = |arg: &clap::Arg| arg.get_help().map(ToString::to_string);
    let same = |arg: &clap::Arg| build.get_arguments().any(|other| other.get_id() == arg.get_id() && help(other) == help(arg));
    let (mut whole, mut shared) = (Vec::new(), Vec::new());
    for group in groups(build) {
        let of = |command: &clap::Command| {
            let flags = command.get_arguments().filter(|arg| arg.get_help_heading() == Some(group) && same(arg));
            flags.map(|arg| arg.get_long().map_or_else(|| arg.get_id().to_string().to_uppercase(), |long| format!("--{long}"))).collect::<Vec<_>>()
        };
        match (of(build), of(command)) {
            (_, here) if here.is_empty() => {}
            (all, here) if all.iter().all(|flag| here.contains(flag)) => whole.push(group),
            (_, here) => shared.extend(here.into_iter().map(|flag| format!("`{flag}`"))),
        }
    }
    let some = if shared.is_empty() { String::new() } else { format!(", and {}", shared.join(", ")) };
    let name = command.get_name();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, "\n## `slim {name}`\n\n{about}.\n\nTakes everything under {}{some}, with the same variables. Its own:\n{HEAD}", whole.join(", "));
    let flags = settings::flags(command);
    for arg in command.get_arguments().filter(|arg| !same(arg) && !arg.is_hide_set() && arg.get_id() != "help" && arg.get_id() != "version") {
        row(text, arg, &flags);
    }
}

fn row(text: &mut String, arg: &clap::Arg, flags: &[settings::Flag]) {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_value_names().unwrap_or_default().join(" ");
    let Some(long) = arg.get_long() else {
        let _ = writeln!(text, "| `{}` | | {} |", cell(&values), cell(&help));
        return;
    };
    let short = arg.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let flag = flags.iter().find(|flag| flag.name == long);
    let form = match (super::is_switch(arg), flag.is_some_and(|flag| flag.list)) {
        (true, _) => format!("`--{long}[=BOOL]`"),
        (false, true) => format!("`--{long} {values}` ..."),
        (false, false) => format!("`--{long} {values}`"),
    };
    let aliases: Vec<String> = arg.get_visible_aliases().unwrap_or_default().iter().map(|a| format!(", `--{a}`")).collect();
    let variable = flag.and_then(|flag| flag.vars.first()).map(|name| format!("`{name}`")).unwrap_or_default();
    let _ = writeln!(text, "| {short}{}{} | {variable} | {} |", cell(&form), aliases.concat(), cell(&help));
}
