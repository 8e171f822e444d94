//! Tables: files that are no scripts and name commands: cron's tables (crontab(5)) and supervisord's
//! configuration.

use super::parse::Reader;
use super::words::HERE;
use super::{CallKind, TableUser};

/// The command lines of a cron table.
pub(super) fn cron(reader: &mut Reader, text: &str, user: TableUser) {
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let times = if line.starts_with('@') { 1 } else { 5 };
        let fields = times + usize::from(user == TableUser::Named);
        // NAME = value: a schedule has no `=` in its first word.
        if line.split(['=', ' ', '\t']).next().is_some_and(|name| line[name.len()..].trim_start().starts_with('=')) {
            continue;
        }
        let mut rest = line;
        for _ in 0..fields {
            rest = rest.split_once([' ', '\t']).map_or("", |(_, rest)| rest.trim_start());
        }
        // What comes after a bare % is the command's input.
        let mut command = String::new();
        let mut escaped = false;
        for c in rest.chars() {
            match c {
                '%' if escaped => _ = command.pop(),
                '%' => break,
                _ => {}
            }
            escaped = c == '\\';
            command.push(c);
        }
        reader.text(&command);
    }
}

/// The commands of supervisord's programs, and the files that it includes.
pub(super) fn supervisor(reader: &mut Reader, text: &str) {
    for (section, key, value) in settings(text) {
        let runs = ["program:", "eventlistener:", "fcgi-program:"].iter().any(|kind| section.starts_with(kind));
        let words = shell_words::split(&expanded(&value)).unwrap_or_default();
        match key.as_str() {
            "command" if runs => reader.command(&words.into_iter().map(|word| vec![word]).collect::<Vec<_>>(), false),
            "files" if section == "include" => words.iter().for_each(|glob| reader.call(glob, CallKind::Included)),
            _ => {}
        }
    }
}

/// Section, key and value of each setting; a line that is indented goes on with the value before it.
fn settings(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut settings: Vec<(String, String, String)> = Vec::new();
    for line in text.lines() {
        let bare = line.split(" ;").next().unwrap_or_default();
        if bare.trim().is_empty() || bare.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = bare.strip_prefix('[') {
            section = name.trim_end().trim_end_matches(']').to_owned();
            continue;
        }
        match (bare.split_once(['=', ':']).filter(|_| !bare.starts_with([' ', '\t'])), settings.last_mut()) {
            (Some((name, value)), _) => settings.push((section.clone(), name.trim().to_owned(), value.trim().to_owned())),
            (None, Some((_, _, value))) => {
                value.push('\n');
                value.push_str(bare.trim());
            }
            (None, None) => {}
        }
    }
    settings
}

/// `%(ENV_X)s` and `%(here)s` as words have them.
fn expanded(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let name = after.strip_prefix('(').and_then(|name| name.split_once(")s"));
        (rest, _) = match (name, after.strip_prefix('%')) {
            (Some(("here", rest)), _) => (rest, out.push_str(HERE)),
            (Some((name, rest)), _) => (rest, out.push_str(&format!("${{{}}}", name.trim_start_matches("ENV_")))),
            (None, Some(rest)) => (rest, out.push('%')),
            (None, None) => (after, out.push('%')),
        };
    }
    out.push_str(rest);
    out
}
