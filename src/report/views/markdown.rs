//! Markdown: the report as a page for a pull request or a job summary (GitHub Flavored Markdown). The verdict comes
//! first, and tables are cut, since a summary has at most 1 MiB.

use super::super::figures::{self, count};
use super::super::model::{Image, Report, VerdictKind};
use super::super::show::cut;
use crate::image::path::printable;

/// Rows of a table.
const ROWS: usize = 50;

/// Columns of a cell.
const CELL: usize = 300;

/// The page.
pub fn markdown(report: &Report) -> String {
    let mut page = format!("### {} {}\n\n", mark(report.verdict.kind), text(&report.verdict.line));
    budgets(&mut page, report);
    differences(&mut page, report);
    secrets(&mut page, report);
    sizes(&mut page, report);
    probes(&mut page, report);
    list(&mut page, "warnings", report.warnings.iter().map(|line| text(line)));
    if let Some(result) = report.result.as_ref().filter(|result| !result.tags.is_empty() || result.archive.is_some()) {
        let names = result.tags.iter().chain(&result.archive).map(|name| code(name)).collect::<Vec<_>>().join(", ");
        page.push_str(&format!("{names} {}\n\n", code(&result.digest)));
    }
    page
}

fn mark(kind: VerdictKind) -> &'static str {
    match kind {
        VerdictKind::Verified => "✅",
        VerdictKind::Unverified | VerdictKind::Flaky => "⚠️",
        VerdictKind::Failed => "❌",
    }
}

fn budgets(page: &mut String, report: &Report) {
    if report.budgets.is_empty() {
        return;
    }
    page.push_str("| budget | |\n|---|---|\n");
    for standing in report.budgets.iter().take(ROWS) {
        let word = if standing.kept { "kept" } else { "**missed**" };
        page.push_str(&format!("| {} | {word} |\n", text(&standing.line)));
    }
    more(page, report.budgets.len());
}

fn differences(page: &mut String, report: &Report) {
    let Some(verify) = report.verify.as_ref().filter(|verify| !verify.differences.is_empty()) else { return };
    page.push_str("| differs | expected | got |\n|---|---|---|\n");
    for difference in verify.differences.iter().take(ROWS) {
        page.push_str(&format!("| {} | {} | {} |\n", code(&difference.request), text(&difference.expected), text(&difference.got)));
    }
    more(page, verify.differences.len());
}

/// Those that stay.
fn secrets(page: &mut String, report: &Report) {
    let open = report.open_secrets().unwrap_or_default();
    if open.is_empty() {
        return;
    }
    page.push_str("| secrets that are STILL PRESENT |\n|---|\n");
    for secret in open.iter().take(ROWS) {
        page.push_str(&format!("| {} |\n", text(&secret.line())));
    }
    more(page, open.len());
}

fn sizes(page: &mut String, report: &Report) {
    let before = &report.source;
    if before.size_bytes == 0 && before.files == 0 {
        return;
    }
    page.push_str(&format!("| {} | before | after | change |\n|---|--:|--:|--:|\n", code(&before.reference)));
    let mut row = |name: &str, from: Option<u64>, to: Option<u64>, shown: fn(u64) -> String| {
        let cell = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), shown);
        let change = from.zip(to).map(|(from, to)| figures::percent(from, to)).unwrap_or_default();
        page.push_str(&format!("| {name} | {} | {} | {change} |\n", cell(from), cell(to)));
    };
    let made = report.result.as_ref();
    let of = |read: fn(&Image) -> u64| (Some(read(before)), made.map(read));
    let (from, to) = of(|image| image.size_bytes);
    row("size", from, to, figures::bytes);
    row("compressed", before.compressed_bytes, made.and_then(|image| image.compressed_bytes), figures::bytes);
    let (from, to) = of(|image| image.files);
    row("files", from, to, count);
    let (from, to) = of(|image| image.layers);
    row("layers", from, to, count);
    for (name, change) in report.surface_rows().iter().filter(|(_, change)| change.before > 0) {
        row(name, Some(change.before), Some(change.after), count);
    }
    page.push('\n');
}

fn probes(page: &mut String, report: &Report) {
    if report.probes.is_empty() {
        return;
    }
    let passed = report.probes.iter().filter(|probe| probe.passed).count() as u64;
    let summary = format!("{} of {} answers", count(passed), count(report.probes.len() as u64));
    page.push_str(&format!("<details><summary>{summary}</summary>\n\n| request | |\n|---|---|\n"));
    // What failed is what the table is opened for.
    let (good, bad): (Vec<_>, Vec<_>) = report.probes.iter().partition(|probe| probe.passed);
    for probe in bad.iter().chain(&good).take(ROWS) {
        let why = probe.failure.as_deref().map_or_else(|| "passed".to_owned(), |why| format!("**failed** {}", text(why)));
        page.push_str(&format!("| {} | {why} |\n", code(&probe.name)));
    }
    more(page, report.probes.len());
    page.push_str("</details>\n\n");
}

fn list(page: &mut String, name: &str, lines: impl ExactSizeIterator<Item = String>) {
    let all = lines.len();
    if all == 0 {
        return;
    }
    page.push_str(&format!("<details><summary>{} {name}</summary>\n\n", count(all as u64)));
    for line in lines.take(ROWS) {
        page.push_str(&format!("- {line}\n"));
    }
    more(page, all);
    page.push_str("</details>\n\n");
}

/// What a table or list leaves out, and the empty line behind it.
fn more(page: &mut String, all: usize) {
    if all > ROWS {
        page.push_str(&format!("\nand {} more: the report has them\n", count((all - ROWS) as u64)));
    }
    page.push('\n');
}

/// A text that Markdown and HTML take as it stands: no markup, no link, no mention, no second line.
pub fn text(raw: &str) -> String {
    let mut out = String::new();
    for c in cut(&printable(raw.as_bytes()), CELL).chars() {
        match c {
            '&' | '<' | '>' | '|' | '`' | '*' | '_' | '[' | ']' | '~' | '\\' | '#' | '@' | '!' | '$' => out.push_str(&format!("&#{};", c as u32)),
            _ => out.push(c),
        }
    }
    // Bare addresses become links by themselves.
    out.replace("://", "&#58;//").replace("www.", "www&#46;")
}

/// A name.
pub fn code(raw: &str) -> String {
    format!("<code>{}</code>", text(raw))
}

#[cfg(test)]
mod tests {
    use super::super::super::model::Probe;
    use super::*;

    #[test]
    fn the_longest_page_fits_into_a_summary() {
        let long = "<".repeat(100_000);
        let probe = |n: usize| Probe { name: format!("{n}{long}"), failure: Some(long.clone()), ..Probe::default() };
        let warnings = (0..100).map(|n| format!("{n}{long}")).collect();
        let report = Report { probes: (0..100).map(probe).collect(), warnings, ..Report::default() };
        assert!(markdown(&report).len() < 1 << 20);
    }

    #[test]
    fn a_name_is_a_name_and_nothing_else() {
        let hostile = "/a|b\n# `x` <img src=x onerror=alert(1)> [l](http://x) @all ![i](u) \u{202e}www.x.y";
        let shown = code(hostile);
        for bad in ["|", "\n", "`", "<img", "[", "@", "!", "\u{202e}", "://", "www."] {
            assert!(!shown.contains(bad), "{bad:?} in {shown}");
        }
        assert!(shown.contains("onerror=alert(1)&#62;"), "{shown}");
    }
}
