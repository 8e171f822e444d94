//! HTML: the report as one page for a browser. It asks for nothing from elsewhere, and its Content-Security-Policy
//! lets nothing run but the script and the style that are its own. What is of the image or the run goes in as data,
//! which the script puts on the page as text.

use serde::Serialize;
use sha2::{Digest, Sha256};

use self::columns::Columns;
use self::tables::Table;
use super::super::figures::{self, count};
use super::super::model::{RemovedPath, Report, VerdictKind};
use crate::image::path::printable;

mod columns;
mod tables;

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = concat!(include_str!("html/page.js"), include_str!("html/files.js"), include_str!("html/map.js"));

/// What the script draws.
#[derive(Serialize)]
struct Data {
    /// Before the sizes: what is wrong.
    first: Vec<Table>,
    /// Name, before, after, and both for people.
    sizes: Vec<(&'static str, Option<u64>, Option<u64>, String)>,
    floor: String,
    /// After the sizes.
    second: Vec<Table>,
    files: Columns,
    /// After the files.
    rest: Vec<Table>,
    /// Name, when it began and how long it took in seconds, and the latter for people.
    phases: Vec<(String, f64, f64, String)>,
}

/// The page. `removed`: every removed path; without it what goes is known by directory.
pub fn html(report: &Report, removed: Option<&[RemovedPath]>) -> String {
    let data = Data {
        first: tables::wrong(report),
        sizes: sizes(report),
        floor: tables::floor(report),
        second: tables::summary(report),
        files: Columns::new(report, removed),
        rest: tables::details(report),
        phases: report.phases.iter().map(|phase| (printable(phase.name.as_bytes()), phase.start, phase.seconds, tables::spent(phase))).collect(),
    };
    let kind = match report.verdict.kind {
        VerdictKind::Verified => "verified",
        VerdictKind::Unverified => "unverified",
        VerdictKind::Failed => "failed",
        VerdictKind::Flaky => "flaky",
    };
    fill(PAGE, |name| match name {
        "title" => text(&format!("{}: {kind}", report.source.reference)),
        "image" => text(&tables::names(report)),
        "kind" => kind.to_owned(),
        "verdict" => text(&report.verdict.line),
        "tool" => text(&format!("{} {}", report.tool.name, report.tool.version)),
        "style" => STYLE.to_owned(),
        "style-hash" => hash(STYLE),
        "script" => SCRIPT.to_owned(),
        "script-hash" => hash(SCRIPT),
        "data" => embedded(&data),
        _ => String::new(),
    })
}

/// A page with the values of its `{{names}}`. Values are not looked into.
fn fill(page: &str, value: impl Fn(&str) -> String) -> String {
    let mut parts = page.split("{{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap_or((part, ""));
        out.push_str(&value(name));
        out.push_str(rest);
    }
    out
}

/// A text that HTML takes as it stands, also in an attribute's quotes.
fn text(raw: &str) -> String {
    let mut out = String::new();
    for c in printable(raw.as_bytes()).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// JSON that can stand in a `<script>`: these characters occur in JSON only within strings, where the escape is the
/// same string, and without them no end tag and no comment can begin.
fn embedded<T: Serialize>(data: &T) -> String {
    // Writing plain data into memory does not fail.
    let json = serde_json::to_string(data).unwrap_or_default();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

/// A source expression of CSP: `sha256-` and the hash in base64.
fn hash(content: &str) -> String {
    use base64::Engine;
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(content)))
}

fn sizes(report: &Report) -> Vec<(&'static str, Option<u64>, Option<u64>, String)> {
    let (before, after) = (&report.source, report.result.as_ref());
    let row = |name, from: Option<u64>, to: Option<u64>, shown: fn(u64) -> String| {
        let shown = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), shown);
        let change = from.zip(to).map(|(from, to)| format!(" ({})", figures::percent(from, to))).filter(|_| from > Some(0));
        (name, from, to, format!("{} → {}{}", shown(from), shown(to), change.unwrap_or_default()))
    };
    let mut rows = Vec::new();
    if before.size_bytes == 0 && before.files == 0 {
        return rows;
    }
    rows.push(row("size", Some(before.size_bytes), after.map(|image| image.size_bytes), figures::bytes));
    let compressed = after.and_then(|image| image.compressed_bytes);
    if before.compressed_bytes.or(compressed).is_some() {
        rows.push(row("compressed", before.compressed_bytes, compressed, figures::bytes));
    }
    rows.push(row("files", Some(before.files), after.map(|image| image.files), count));
    rows.push(row("layers", Some(before.layers), after.map(|image| image.layers), count));
    rows
}

#[cfg(test)]
mod tests {
    use super::super::super::model::{Kept, Reason};
    use super::*;

    const HOSTILE: &str = "/x</script><img src=x onerror=alert(1)><!--{{data}}\n\u{2028}\u{202e}\"'&";

    fn kept(path: &str) -> Kept {
        serde_json::from_value(serde_json::json!({ "path": path, "size": 5, "kind": "file", "reasons": [0] })).unwrap()
    }

    fn data_of(page: &str) -> &str {
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        rest.split_once("</script>").unwrap().0
    }

    #[test]
    fn no_name_ends_the_data_or_begins_markup() {
        let mut report = Report { kept: vec![kept(HOSTILE)], ..Report::default() };
        report.source.reference = HOSTILE.into();
        report.verdict.line = HOSTILE.into();
        report.warnings.push(HOSTILE.into());
        report.reasons.push(Reason::Include { flag: HOSTILE.into() });
        let page = html(&report, None);
        assert_eq!(page.matches("</script>").count(), 2, "the data's and the script's own");
        for bad in ["<img", "<!--", "\u{2028}", "\u{202e}"] {
            assert!(!page.contains(bad), "{bad:?}");
        }
        let data: serde_json::Value = serde_json::from_str(data_of(&page)).unwrap();
        assert!(data["files"]["strings"].as_array().unwrap().iter().any(|name| name.as_str().unwrap().contains("script><img")));
    }

    #[test]
    fn the_policy_names_what_stands_in_the_page() {
        let page = html(&Report::default(), None);
        for (tag, end, kind) in [("<style>", "</style>", "style-src"), ("<script>", "</script>", "script-src")] {
            let content = page.split_once(tag).unwrap().1.split_once(end).unwrap().0;
            assert!(page.contains(&format!("{kind} '{}'", hash(content))), "{kind}");
        }
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let page = html(&Report::default(), None);
        for bad in ["http:", "https:", "//", "src=", "href=\"/", "url(", "@import", "fetch(", "innerHTML", "unsafe-"] {
            let found = page.lines().any(|line| line.contains(bad) && !line.starts_with("//") && !line.contains("// "));
            assert!(!found, "{bad}");
        }
    }
}
