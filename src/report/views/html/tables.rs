//! Tables: everything of a report but its paths, in words. A table without rows is not there.

use serde::Serialize;

use super::super::super::figures::{self, count, counted};
use super::super::super::model::{Answer, Body, Change, Difference, Package, Phase, Probe, Report, Secret};
use crate::image::path::printable;

/// Rows of a table: a browser lays out so many in a moment.
const ROWS: usize = 5000;

/// A table with a title.
#[derive(Debug, Serialize)]
pub struct Table {
    title: String,
    /// Whether it is seen before anybody opens it.
    open: bool,
    /// Above the table; may be empty.
    note: String,
    head: &'static [&'static str],
    /// Columns of figures.
    right: &'static [usize],
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: &str, head: &'static [&'static str], rows: Vec<Vec<String>>) -> Self {
        Self { title: title.to_owned(), open: false, note: String::new(), head, right: &[], rows }
    }

    fn open(self) -> Self {
        Self { open: true, ..self }
    }

    fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    fn right(self, right: &'static [usize]) -> Self {
        Self { right, ..self }
    }

    /// The table with what it leaves out, when there is a row.
    fn some(mut self) -> Option<Self> {
        if self.rows.len() > ROWS {
            let more = format!("{} more: the report has them", count((self.rows.len() - ROWS) as u64));
            self.note = if self.note.is_empty() { more } else { format!("{}; {more}", self.note) };
            self.rows.truncate(ROWS);
        }
        (!self.rows.is_empty()).then_some(self)
    }
}

/// What the verdict rests on when it is not good: missed budgets, answers that differ, the log.
pub fn wrong(report: &Report) -> Vec<Table> {
    let missed = report.missed_budgets().map(|standing| vec![clean(&standing.line)]).collect();
    let verify = report.verify.as_ref();
    let open = report.open_secrets().unwrap_or_default().iter().map(|secret| vec![clean(&secret.line())]).collect();
    let differences = verify.map(|verify| verify.differences.iter().map(difference).collect()).unwrap_or_default();
    let log = verify.map(|verify| verify.log_tail.iter().map(|line| vec![clean(line)]).collect()).unwrap_or_default();
    let tables = [
        Table::new("Missed budgets", &["budget"], missed).open(),
        Table::new("Answers that differ", &["request", "expected", "got"], differences).open(),
        Table::new("Last lines of the slim image's log", &["line"], log),
        Table::new("Secrets that are still present", &["what looks like a secret"], open).open(),
    ];
    tables.into_iter().filter_map(Table::some).collect()
}

/// What is worth knowing at once.
pub fn summary(report: &Report) -> Vec<Table> {
    let warnings: Vec<_> = report.warnings.iter().map(|line| vec![clean(line)]).collect();
    let few = warnings.len() <= 5;
    let warnings = Table::new(&counted(warnings.len() as u64, "warning", "warnings"), &["warning"], warnings);
    let shares = report.shares();
    let shares = shares.iter().map(|share| vec![share.kind.to_owned(), count(share.files), figures::bytes(share.bytes)]);
    let tables = [
        if few { warnings.open() } else { warnings },
        Table::new("Attack surface", &["", "before", "after", "what is left"], surface(report)).right(&[1, 2]).open(),
        Table::new("Why files stay", &["", "files", "bytes"], shares.collect()).right(&[1, 2]).open(),
    ];
    tables.into_iter().filter_map(Table::some).collect()
}

/// Everything else.
pub fn details(report: &Report) -> Vec<Table> {
    let passed = report.probes.iter().filter(|probe| probe.passed).count() as u64;
    let title = format!("Probes: {} of {} answers", count(passed), count(report.probes.len() as u64));
    // What failed is what the table is opened for.
    let (good, bad): (Vec<_>, Vec<_>) = report.probes.iter().partition(|probe| probe.passed);
    let asked = bad.into_iter().chain(good).map(probe).collect();
    let budgets = report.budgets.iter().map(|standing| vec![clean(&standing.line), if standing.kept { "kept" } else { "missed" }.to_owned()]);
    let mut tables = vec![
        packages(report),
        Table::new(&title, &["request", "", "original", "slim image"], asked),
        Table::new("Budgets", &["budget", ""], budgets.collect()),
        secrets(report),
        config(report),
    ];
    tables.extend(how_it_ran(report));
    tables.extend(rounds(report));
    tables.extend(around_files(report));
    tables.into_iter().filter_map(Table::some).collect()
}

/// What looks like a secret, the open ones apart: those stand above.
fn secrets(report: &Report) -> Table {
    let row = |secret: &Secret| {
        let state = match (secret.present, &secret.package) {
            (false, _) => "gone".to_owned(),
            (true, Some(package)) => format!("stays, of the package {}", clean(package)),
            (true, None) => "STILL PRESENT".to_owned(),
        };
        vec![clean(&secret.line()), state]
    };
    let rows: Vec<_> = report.secrets.iter().flatten().map(row).collect();
    let title = format!("What looks like a secret: {}, {} gone", count(rows.len() as u64), count(report.gone_secrets()));
    Table::new(&title, &["what looks like a secret", ""], rows)
}

/// The image and what was made of it.
pub fn names(report: &Report) -> String {
    let source = &report.source.reference;
    let Some(result) = report.result.as_ref() else { return source.clone() };
    let made: Vec<&str> = result.tags.iter().chain(&result.archive).map(String::as_str).collect();
    match made.is_empty() {
        true => source.clone(),
        false => format!("{source} → {}", made.join(", ")),
    }
}

/// How far the result is from what was really opened; empty when that is not known.
pub fn floor(report: &Report) -> String {
    let Some(floor) = report.floor_bytes.filter(|floor| *floor > 0) else { return String::new() };
    format!("{} in files that were really opened, {} stay", figures::bytes(floor), figures::bytes(report.kept_bytes()))
}

/// The time of a phase, and the bytes that it moved.
pub fn spent(phase: &Phase) -> String {
    let moved = phase.bytes.map(|bytes| format!(", {}", figures::bytes(bytes))).unwrap_or_default();
    format!("{}{moved}", figures::seconds(phase.seconds))
}

fn clean(text: &str) -> String {
    printable(text.as_bytes())
}

fn listed(texts: impl IntoIterator<Item = impl ToString>) -> String {
    texts.into_iter().map(|text| clean(&text.to_string())).collect::<Vec<_>>().join(", ")
}

fn difference(difference: &Difference) -> Vec<String> {
    [&difference.request, &difference.expected, &difference.got].map(|text| clean(text)).to_vec()
}

fn surface(report: &Report) -> Vec<Vec<String>> {
    let row = |(name, change): &(&str, Change)| vec![(*name).to_owned(), count(change.before), count(change.after), listed(&change.left)];
    report.surface_rows().iter().map(row).collect()
}

fn probe(probe: &Probe) -> Vec<String> {
    let state = match (&probe.failure, probe.passed) {
        (_, true) => "passed".to_owned(),
        (Some(why), false) => format!("failed: {}", clean(why)),
        (None, false) => "failed".to_owned(),
    };
    let expected = probe.expected.as_deref().map(|what| format!(" (expects {})", clean(what))).unwrap_or_default();
    vec![format!("{}{expected}", clean(&probe.name)), state, answer(probe.baseline.as_ref()), answer(probe.slim.as_ref())]
}

fn answer(answer: Option<&Answer>) -> String {
    let Some(answer) = answer else { return "not asked".to_owned() };
    let mut parts = Vec::new();
    parts.extend(answer.status.map(|status| status.to_string()));
    parts.extend(answer.content_type.as_deref().map(clean));
    parts.extend(answer.body.as_ref().map(body));
    parts.extend(answer.stderr.as_ref().filter(|text| text.length > 0).map(|text| format!("stderr {}", body(text))));
    parts.extend(answer.error.as_deref().map(clean));
    parts.join(", ")
}

fn body(body: &Body) -> String {
    let hash = body.sha256.get(..8).unwrap_or_default();
    let excerpt = body.excerpt.as_deref().map(|text| format!(": {}", clean(text))).unwrap_or_default();
    format!("{} ({hash}){excerpt}", figures::bytes(body.length))
}

/// What is there of each package, and what goes.
fn packages(report: &Report) -> Table {
    let row = |package: &&Package| {
        let state = match (package.kept_files, package.files - package.kept_files.min(package.files)) {
            (0, _) => "removed",
            (_, 0) => "whole",
            _ => "in part",
        };
        let name = format!("{}:{} {}", package.system, package.name, package.version);
        let cells = [package.files, package.kept_files].map(count);
        let [files, kept_files] = cells;
        let [bytes, kept_bytes] = [package.bytes, package.kept_bytes].map(figures::bytes);
        [clean(name.trim_end()), state.to_owned()].into_iter().chain([kept_files, kept_bytes, files, bytes]).collect()
    };
    let mut packages: Vec<&Package> = report.packages.iter().collect();
    packages.sort_by_key(|package| std::cmp::Reverse((package.kept_bytes, package.bytes)));
    let title = counted(packages.len() as u64, "package", "packages");
    let rows = packages.iter().map(row).collect();
    Table::new(&title, &["package", "", "files that stay", "bytes", "files before", "bytes"], rows).right(&[2, 3, 4, 5]).note("Of whole ones no file goes")
}

fn config(report: &Report) -> Table {
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "–".to_owned(), clean);
    let changed = &report.config.changed;
    let rows = changed.iter().map(|change| vec![clean(&change.field), value(&change.from), value(&change.to)]).collect();
    Table::new("Changes of the config", &["field", "before", "after"], rows)
}

/// What was run, and what was recorded of it.
fn how_it_ran(report: &Report) -> Vec<Table> {
    let target = &report.target;
    let mut run = Vec::new();
    let mut say = |name: &str, text: String| {
        if !text.is_empty() {
            run.push(vec![name.to_owned(), text]);
        }
    };
    say("command line", target.argv.iter().map(|word| clean(&shell_words::quote(word))).collect::<Vec<_>>().join(" "));
    say("user", clean(&target.user));
    say("working directory", clean(&target.workdir));
    say("environment", listed(&target.env_names));
    if let Some(trace) = &report.trace {
        say("recorded by", listed(&trace.recorders));
        say("recorded", if trace.complete { "everything".to_owned() } else { format!("incomplete: {}", clean(&trace.why)) });
        say("accesses", count(trace.events));
        say("new paths of each run", listed(&trace.new_paths_per_run));
        say("notes", listed(&trace.notes));
    }
    say("level", clean(&report.level));
    let traces = report.traces.iter().map(|used| {
        vec![clean(&used.path), count(used.paths), count(used.new_paths), count(used.asked), used.not_asked.as_deref().map(clean).unwrap_or_default()]
    });
    vec![
        Table::new("How it ran", &["", ""], run),
        Table::new("Trace files", &["file", "paths", "only in it", "asked again", "why not all"], traces.collect()).right(&[1, 2, 3]),
    ]
}

/// The slim images on the way to the last, and what was kept out of the recording.
fn rounds(report: &Report) -> Vec<Table> {
    let rounds = report.rounds.iter().map(|round| {
        let misses = round.misses.iter().map(|miss| format!("{} (by {} in {})", miss.path, miss.process, miss.probe));
        let differences = round.differences.iter().map(|difference| &difference.request);
        vec![round.round.to_string(), figures::bytes(round.size_bytes), listed(misses), listed(differences)]
    });
    let verify = report.verify.as_ref();
    let late = verify.into_iter().flat_map(|verify| {
        let added = verify.repaired.iter().map(|path| vec![path.to_string(), "added".to_owned()]);
        added.chain(verify.missed.iter().map(|path| vec![path.to_string(), "still missing".to_owned()]))
    });
    let mut tables = vec![
        Table::new("Rounds", &["round", "size", "looked for and missed", "answered differently"], rounds.collect()).right(&[1]),
        Table::new("What the slim image missed", &["path", ""], late.collect()),
    ];
    if let Some(holdout) = &report.holdout {
        let failed = |name: &String| holdout.failures.iter().find(|failure| failure.request == *name);
        let row = |name: &String| match failed(name) {
            Some(failure) => vec![clean(name), format!("expected {}, got {}", clean(&failure.expected), clean(&failure.got))],
            None => vec![clean(name), "as the original, or the original was not sure".to_owned()],
        };
        let note = format!("{} of {} passed, before any repair", count(holdout.passed), count(holdout.kept_out));
        tables.push(Table::new("Kept out of the recording", &["request", ""], holdout.names.iter().map(row).collect()).note(note));
    }
    tables
}

/// What there is to say of files besides why each stays.
fn around_files(report: &Report) -> Vec<Table> {
    let left = report.left_out.iter().map(|left| vec![left.path.to_string(), clean(&left.rule)]).collect();
    let walkers = report.walkers.iter().map(|walker| vec![clean(&walker.process), count(walker.files), figures::bytes(walker.bytes)]);
    let yours = report.app.iter().map(|app| vec![app.root.to_string(), count(app.files), count(app.kept), figures::bytes(app.bytes)]);
    let scripts = report.scripts.iter().map(|script| {
        let calls = |kept| listed(script.calls.iter().filter(|call| call.kept == kept).map(|call| &call.name));
        vec![script.path.to_string(), calls(true), calls(false), script.unread.as_deref().map(clean).unwrap_or_default()]
    });
    vec![
        Table::new("Files of your own", &["directory", "files", "stay", "bytes that go"], yours.collect()).right(&[1, 2, 3]),
        Table::new("What scripts call", &["script", "stays", "goes", "why it was not read"], scripts.collect()),
        Table::new("Walked directories", &["process", "files only for it", "bytes"], walkers.collect()).right(&[1, 2]),
        Table::new("Touched and left out", &["path", "rule"], left),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_has_no_tables() {
        let report = Report::default();
        let tables = [wrong(&report), summary(&report), details(&report)].into_iter().flatten();
        assert_eq!(tables.map(|table| table.title).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn a_package_is_whole_in_part_or_removed() {
        let package = |name: &str, kept_files| Package { system: "dpkg".into(), name: name.into(), version: "1".into(), files: 2, kept_files, ..Package::default() };
        let report = Report { packages: vec![package("gone", 0), package("part", 1), package("whole", 2)], ..Report::default() };
        let states: Vec<String> = packages(&report).rows.into_iter().map(|row| row[..2].join(" ")).collect();
        assert_eq!(states, ["dpkg:gone 1 removed", "dpkg:part 1 in part", "dpkg:whole 1 whole"]);
    }

    #[test]
    fn what_only_some_builds_have_is_there_when_they_have_it() {
        let report: Report = serde_json::from_value(serde_json::json!({
            "budgets": [{ "rule": "shells", "kept": false, "line": "shells: 2" }],
            "rounds": [{ "round": 1, "size_bytes": 5, "misses": [{ "path": "/m", "process": "/bin/p", "probe": "GET /" }] }],
            "verify": { "repaired": ["/m"], "missed": ["/n"] },
            "holdout": { "names": ["GET /a", "GET /b"], "kept_out": 2, "passed": 1,
                         "failures": [{ "request": "GET /b", "expected": "200", "got": "404" }] },
            "traces": [{ "path": "web.trace" }],
            "scripts": [{ "path": "/s", "calls": [{ "name": "sed", "path": "/bin/sed" }, { "name": "ls", "path": "/bin/ls", "kept": true }] }],
        }))
        .unwrap();
        let tables: Vec<Table> = wrong(&report).into_iter().chain(details(&report)).collect();
        let told = |title: &str| tables.iter().find(|table| table.title == title).map(|table| table.rows.concat().join("|"));
        for (title, rows) in [
            ("Missed budgets", "shells: 2"),
            ("Budgets", "shells: 2|missed"),
            ("Rounds", "1|5 B|/m (by /bin/p in GET /)|"),
            ("What the slim image missed", "/m|added|/n|still missing"),
            ("Kept out of the recording", "GET /a|as the original, or the original was not sure|GET /b|expected 200, got 404"),
            ("Trace files", "web.trace|0|0|0|"),
            ("What scripts call", "/s|ls|sed|"),
        ] {
            assert_eq!(told(title).as_deref(), Some(rows), "{title}");
        }
    }

    #[test]
    fn a_very_long_table_is_cut_and_says_so() {
        let rows = vec![vec!["x".to_owned()]; ROWS + 3];
        let table = Table::new("t", &["h"], rows).some().unwrap();
        assert_eq!((table.rows.len(), table.note.as_str()), (ROWS, "3 more: the report has them"));
    }
}
