//! Markdown: a comparison as a page for a pull request or a job summary (GitHub Flavored Markdown): what is wrong first,
//! then sizes; lists are folded and cut.

use super::model::{Diff, FileList};
use super::show::{figures_of, heaviest, of_file, of_package, of_packages, of_pair, of_pull, of_verdict};
use crate::report::figures::{self, count, counted};
use crate::report::views::markdown::{code, text};
use crate::xray::show::of_secret;

/// Rows of a table, whatever is asked for: a summary has at most 1 MiB.
const ROWS: usize = 200;

/// The page; `top`: so many rows of each table.
pub fn markdown(diff: &Diff, top: usize) -> String {
    let top = top.min(ROWS);
    let mut page = format!("### {} → {}\n\n", code(&diff.before.given), code(&diff.after.given));
    for standing in diff.budgets.iter().take(ROWS) {
        let mark = if standing.kept { "✅ kept" } else { "❌ **missed**" };
        page.push_str(&format!("- {mark}: {}\n", text(&standing.line)));
    }
    for note in &diff.notes {
        page.push_str(&format!("- ⚠️ {}\n", text(note)));
    }
    if let Some(verdict) = diff.after.verdict {
        let before = diff.before.verdict.map(|before| format!("{} → ", of_verdict(before))).unwrap_or_default();
        page.push_str(&format!("- verdict: {before}**{}**\n", of_verdict(verdict)));
    }
    failing(&mut page, diff, top);
    page.push('\n');
    sizes(&mut page, diff);
    let mut parts = Parts { page, top };
    secrets(&mut parts, diff);
    packages(&mut parts, diff);
    files(&mut parts, diff);
    settings(&mut parts, diff);
    layers(&mut parts, diff);
    time(&mut parts, diff);
    let mut page = parts.page;
    if !diff.unknown.is_empty() {
        page.push_str(&format!("not known: {}\n", diff.unknown.iter().map(|line| text(line)).collect::<Vec<_>>().join("; ")));
    }
    page
}

fn failing(page: &mut String, diff: &Diff, top: usize) {
    let Some(probes) = &diff.probes else { return };
    for probe in probes.failing.iter().take(top) {
        page.push_str(&format!("- ❌ {} fails{}: {}\n", code(&probe.name), if probe.known { " now" } else { "" }, text(&probe.failure)));
    }
    if probes.failing.len() > top {
        page.push_str(&format!("- and {} more\n", count((probes.failing.len() - top) as u64)));
    }
    let names = |names: &[String]| names.iter().take(top).map(|name| code(name)).collect::<Vec<_>>().join(" ");
    for (what, list) in [("passing now", &probes.mended), ("not asked any more", &probes.gone)] {
        if !list.is_empty() {
            page.push_str(&format!("- {what}, {}: {}\n", counted(list.len() as u64, "probe", "probes"), names(list)));
        }
    }
}

fn sizes(page: &mut String, diff: &Diff) {
    let rows = figures_of(diff);
    let programs = diff.programs.as_deref().unwrap_or_default();
    if rows.is_empty() && programs.is_empty() {
        return;
    }
    page.push_str("| | before | after | change |\n|---|--:|--:|--:|\n");
    for (name, before, after, change) in rows {
        page.push_str(&format!("| {name} | {before} | {after} | {change} |\n"));
    }
    if let Some(probes) = &diff.probes {
        let of = |passed: Option<u64>, asked: Option<u64>| passed.zip(asked).map_or_else(|| "–".to_owned(), |(passed, asked)| format!("{} of {}", count(passed), count(asked)));
        let (before, after) = (of(probes.passed.before, probes.asked.before), of(probes.passed.after, probes.asked.after));
        page.push_str(&format!("| probes passed | {before} | {after} | |\n"));
    }
    let shown = |figure: Option<u64>| figure.map_or_else(|| "–".to_owned(), count);
    for kind in programs.iter().filter(|kind| kind.count.before.unwrap_or(0) + kind.count.after.unwrap_or(0) > 0) {
        let change = kind.count.before.zip(kind.count.after).map(|(before, after)| figures::percent(before, after));
        page.push_str(&format!("| {} | {} | {} | {} |\n", kind.name, shown(kind.count.before), shown(kind.count.after), change.unwrap_or_default()));
    }
    page.push('\n');
    if let Some(pull) = of_pull(diff) {
        page.push_str(&format!("pull: {}\n\n", text(&pull)));
    }
    for kind in programs {
        let new = kind.new.as_deref().unwrap_or_default();
        if !new.is_empty() {
            let paths: Vec<String> = new.iter().take(10).map(|path| code(&path.to_string())).collect();
            page.push_str(&format!("- new {}: {}{}\n", kind.name, paths.join(" "), if new.len() > 10 { " …" } else { "" }));
        }
    }
    page.push('\n');
}

/// Parts of a page that are folded.
struct Parts {
    page: String,
    top: usize,
}

impl Parts {
    fn folded(&mut self, title: &str, head: &str, rows: &[String]) {
        if rows.is_empty() {
            return;
        }
        let columns = head.matches('|').count() - 1;
        self.page.push_str(&format!("<details><summary>{title}</summary>\n\n{head}\n|{}\n", "---|".repeat(columns)));
        for row in rows.iter().take(self.top) {
            self.page.push_str(&format!("{row}\n"));
        }
        if rows.len() > self.top {
            self.page.push_str(&format!("\nand {} more\n", count((rows.len() - self.top) as u64)));
        }
        self.page.push_str("\n</details>\n\n");
    }
}

fn secrets(parts: &mut Parts, diff: &Diff) {
    let Some(secrets) = &diff.secrets else { return };
    let row = |word: &str, secret: &crate::xray::model::Secret| {
        format!("| {word} | {} | {} |", text(&of_secret(secret)), secret.package.as_deref().map(code).unwrap_or_default())
    };
    let rows: Vec<String> = secrets.new.iter().map(|secret| row("**new**", secret)).chain(secrets.gone.iter().map(|secret| row("gone", secret))).collect();
    let title = format!("secrets: {} new, {} gone", count(secrets.new.len() as u64), count(secrets.gone.len() as u64));
    parts.folded(&title, "| | secret | package |", &rows);
}

fn packages(parts: &mut Parts, diff: &Diff) {
    let Some(packages) = &diff.packages else { return };
    let rows: Vec<String> = packages
        .list
        .iter()
        .map(|package| format!("| {} | {} | {} |", super::packages::word(package.state), text(&package.system), text(&of_package(package))))
        .collect();
    parts.folded(&format!("packages: {}", of_packages(diff)), "| | | package |", &rows);
}

fn files(parts: &mut Parts, diff: &Diff) {
    let Some(files) = &diff.files else { return };
    let rows = |list: &FileList| -> Vec<String> {
        let row = |file: &super::model::File| {
            let size = file.bytes.after.or(file.bytes.before).map(figures::bytes).unwrap_or_default();
            format!("| {} | {size} | {} |", code(&file.path.to_string()), text(&of_file(file)))
        };
        list.list.iter().map(row).collect()
    };
    let title = |word: &str, list: &FileList| format!("files {word}: {} ({})", count(list.files), figures::bytes(list.bytes));
    parts.folded(&title("new", &files.added), "| file | size | why |", &rows(&files.added));
    parts.folded(&title("changed", &files.changed), "| file | size | what |", &rows(&files.changed));
    let groups: Vec<String> = heaviest(&files.removed.groups, usize::MAX)
        .into_iter()
        .map(|group| format!("| {} | {} | {} |", code(&group.directory.to_string()), figures::bytes(group.bytes), count(group.files)))
        .collect();
    parts.folded(&title("gone", &files.removed), "| directory | size | files |", &groups);
}

fn settings(parts: &mut Parts, diff: &Diff) {
    let Some(changes) = &diff.config else { return };
    let value = |value: &Option<String>| value.as_deref().map(code).unwrap_or_default();
    let rows: Vec<String> = changes.iter().map(|change| format!("| {} | {} | {} |", code(&change.field), value(&change.from), value(&change.to))).collect();
    parts.folded(&format!("settings: {} changed", count(changes.len() as u64)), "| setting | before | after |", &rows);
}

fn layers(parts: &mut Parts, diff: &Diff) {
    let Some(layers) = &diff.layers else { return };
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), figures::bytes);
    let rows: Vec<String> = layers
        .iter()
        .map(|layer| {
            let word = match layer.state {
                super::model::State::Shared => "shared",
                super::model::State::Gone => "gone",
                super::model::State::New => "**new**",
            };
            let made_by = if layer.made_by.is_empty() { &layer.diff_id } else { &layer.made_by };
            format!("| {word} | {} | {} | {} |", size(layer.bytes), size(layer.compressed_bytes), code(made_by))
        })
        .collect();
    let number = diff.sizes.as_ref().map(|sizes| of_pair(sizes.layers)).unwrap_or_else(|| count(layers.len() as u64));
    parts.folded(&format!("layers: {number}"), "| | size | compressed | made by |", &rows);
}

fn time(parts: &mut Parts, diff: &Diff) {
    let Some(phases) = &diff.time else { return };
    let shown = |seconds: Option<f64>| seconds.map(figures::seconds).unwrap_or_default();
    let rows: Vec<String> = phases.iter().map(|phase| format!("| {} | {} | {} |", text(&phase.name), shown(phase.before), shown(phase.after))).collect();
    parts.folded("time", "| phase | before | after |", &rows);
}
