//! Show: a report on one terminal screen. The verdict comes first; every line makes sense without colour.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::figures::{self, count, counted};
use super::model::{Group, Image, Report, Standing, VerdictKind};
use super::verdict::Share;
use crate::image::path::printable;

/// A summary has at most this many lines.
pub const MAX_LINES: usize = 24;

/// How text is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns; longer lines are cut with `…`.
    pub width: usize,
    /// Whether colours may be used.
    pub color: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: 100, color: false }
    }
}

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// All is well.
    Good,
    /// Look here.
    Caution,
    /// Something is wrong.
    Bad,
    /// What matters in a line.
    Strong,
    /// What does not.
    Faint,
}

impl Style {
    /// The text in its colour; as it is without colours.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "1;32",
            Paint::Caution => "1;33",
            Paint::Bad => "1;31",
            Paint::Strong => "1",
            Paint::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The line made printable and cut to the width.
    pub fn line(self, text: &str) -> String {
        cut(&printable(text.as_bytes()), self.width)
    }
}

/// Cuts a printable text to so many columns.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    out.push('…');
    out
}

/// A printable text on as many lines as it takes; what the first begins with, and the others.
pub fn wrap(text: &str, width: usize, (first, others): (&str, &str)) -> Vec<String> {
    let (mut lines, mut line, mut empty) = (Vec::new(), first.to_owned(), true);
    for word in text.split(' ') {
        if !empty && line.width() + 1 + word.width() > width {
            lines.push(std::mem::replace(&mut line, others.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

/// The report as a screen of text, each line ended by a newline. `file` is where the report is, for the hints.
pub fn show(report: &Report, style: Style, file: Option<&str>) -> String {
    let mut lines = Lines { style, lines: Vec::new() };
    lines.verdict(report);
    lines.differences(report);
    lines.budgets(report);
    lines.sizes(report);
    lines.surface(report);
    lines.secrets(report);
    lines.shares(&report.shares());
    lines.floor(report);
    lines.losses(report);
    lines.app(report);
    lines.walkers(report);
    lines.trace(report);
    let tail = Tail::of(report, file);
    // The verdict and the tail always show; one line is left for warnings.
    let room = MAX_LINES - tail.len();
    lines.lines.truncate(room - usize::from(!report.warnings.is_empty()));
    lines.warnings(report, room);
    lines.tail(&tail);
    lines.lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A line for each budget.
pub fn standings(standings: &[Standing], style: Style) -> String {
    let line = |standing: &Standing| {
        let (paint, word) = if standing.kept { (Paint::Good, "kept  ") } else { (Paint::Bad, "MISSED") };
        format!("{} {}\n", style.paint(paint, word), printable(standing.line.as_bytes()))
    };
    standings.iter().map(line).collect()
}

/// The colour of a verdict.
pub fn verdict_paint(kind: VerdictKind) -> Paint {
    match kind {
        VerdictKind::Verified => Paint::Good,
        VerdictKind::Unverified | VerdictKind::Flaky => Paint::Caution,
        VerdictKind::Failed => Paint::Bad,
    }
}

struct Lines {
    style: Style,
    lines: Vec<String>,
}

/// The last lines: where the results are and what to do next.
struct Tail(Vec<(&'static str, String)>);

impl Tail {
    fn of(report: &Report, file: Option<&str>) -> Self {
        let mut lines = Vec::new();
        // What missed a budget is nowhere.
        let gone = report.missed_budgets().next().is_some();
        if let Some(result) = report.result.as_ref().filter(|_| !gone) {
            let mut tags: Vec<&str> = result.tags.iter().map(String::as_str).collect();
            if tags.is_empty() && !result.reference.is_empty() {
                tags.push(&result.reference);
            }
            let id = short_id(&result.digest);
            let place = if tags.is_empty() { id } else { format!("{}  {id}", tags.join(", ")) };
            lines.push(("image", place.trim().to_owned()));
            lines.extend(result.archive.clone().map(|archive| ("archive", archive)));
        }
        if let Some(file) = file {
            lines.push(("report", file.to_owned()));
        }
        lines.extend(next_step(report, file).map(|step| ("next", step)));
        Self(lines)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// `sha256:0123456789ab`.
fn short_id(digest: &str) -> String {
    match digest.split_once(':') {
        Some((kind, hex)) => format!("{kind}:{}", hex.chars().take(12).collect::<String>()),
        None => digest.to_owned(),
    }
}

fn next_step(report: &Report, file: Option<&str>) -> Option<String> {
    let file = file.unwrap_or("slim.report.json");
    match report.verdict.kind {
        _ if report.missed_budgets().next().is_some() => Some("make it smaller (slim why says what keeps a file), or change the budget (--fail-on)".to_owned()),
        VerdictKind::Verified => {
            let biggest = report.kept.iter().max_by(|a, b| a.own_bytes().cmp(&b.own_bytes()).then(b.path.cmp(&a.path)))?;
            Some(format!("slim why {file} {}   (the largest file that stays)", shell_word(&biggest.path.to_string())))
        }
        VerdictKind::Unverified => Some("run it again without --no-verify to compare the two images".to_owned()),
        VerdictKind::Failed if report.verify.is_some() => {
            Some("keep what is missing with --include-path, or probe it so that it is recorded".to_owned())
        }
        VerdictKind::Failed => None,
        VerdictKind::Flaky => Some("reset state between runs with --before-run, or probe something stable".to_owned()),
    }
}

/// A word that a shell reads as one.
fn shell_word(text: &str) -> String {
    shell_words::quote(text).into_owned()
}

impl Lines {
    fn push(&mut self, text: &str) {
        self.lines.push(self.style.line(text));
    }

    fn painted(&mut self, paint: Paint, text: &str) {
        let line = self.style.line(text);
        self.lines.push(self.style.paint(paint, &line));
    }

    /// Whole, however long it is: it is what the rest is for.
    fn verdict(&mut self, report: &Report) {
        let paint = verdict_paint(report.verdict.kind);
        let lines = wrap(&printable(report.verdict.line.as_bytes()), self.style.width, ("", "  "));
        self.lines.extend(lines.iter().map(|line| self.style.paint(paint, line)));
    }

    /// `  label     text`, the label faint.
    fn labelled(&mut self, label: &str, text: &str) {
        let line = self.style.line(&format!("  {label:<9} {text}"));
        let (label, rest) = line.split_at_checked(2 + label.len()).unwrap_or((&line, ""));
        self.lines.push(format!("{}{rest}", self.style.paint(Paint::Faint, label)));
    }

    /// Parts after a label, on as many lines as they need.
    fn listed(&mut self, label: &str, parts: &[String]) {
        let room = self.style.width.saturating_sub(12);
        let mut label = label;
        let mut line = String::new();
        for (n, part) in parts.iter().enumerate() {
            let end = if n + 1 == parts.len() { "" } else { ", " };
            let part = printable(part.as_bytes());
            if !line.is_empty() && line.width() + part.width() + end.trim_end().len() > room {
                self.labelled(std::mem::take(&mut label), line.trim_end());
                line.clear();
            }
            line.push_str(&part);
            line.push_str(end);
        }
        if !line.is_empty() {
            self.labelled(label, line.trim_end());
        }
    }

    fn differences(&mut self, report: &Report) {
        let Some(verify) = &report.verify else {
            return;
        };
        const SHOWN: usize = 4;
        for difference in verify.differences.iter().take(SHOWN) {
            let (request, expected, got) = (&difference.request, &difference.expected, &difference.got);
            // Whole: the end of it is often the cause of a failure.
            self.wrapped(&printable(format!("{request}: expected {expected}, got {got}").as_bytes()));
        }
        if verify.differences.len() > SHOWN {
            self.push(&format!("  and {} more", count((verify.differences.len() - SHOWN) as u64)));
        }
        for line in &verify.log_tail[verify.log_tail.len().saturating_sub(SHOWN)..] {
            self.labelled("log", line);
        }
    }

    /// The budgets that are missed.
    fn budgets(&mut self, report: &Report) {
        const SHOWN: usize = 6;
        let missed: Vec<_> = report.missed_budgets().collect();
        for standing in missed.iter().take(SHOWN) {
            self.wrapped(&printable(standing.line.as_bytes()));
        }
        if missed.len() > SHOWN {
            self.push(&format!("  and {} more", count((missed.len() - SHOWN) as u64)));
        }
    }

    /// A text on as many lines as it takes.
    fn wrapped(&mut self, text: &str) {
        self.lines.extend(wrap(text, self.style.width, ("  ", "    ")));
    }

    fn sizes(&mut self, report: &Report) {
        let before = &report.source;
        if before.size_bytes == 0 && before.files == 0 {
            return;
        }
        let nothing = Image::default();
        let made = report.result.as_ref();
        let after = made.unwrap_or(&nothing);
        let mut rows: Vec<[String; 5]> = vec![["", "before", "after", "change", ""].map(str::to_owned)];
        let mut row = |name: &str, from: u64, to: u64, shown: fn(u64) -> String| {
            rows.push(match made {
                Some(_) => [
                    name.to_owned(),
                    shown(from),
                    shown(to),
                    figures::percent(from, to),
                    match figures::factor(from, to) {
                        times if times.is_empty() => times,
                        times => format!("{times} smaller"),
                    },
                ],
                None => [name.to_owned(), shown(from), "-".to_owned(), String::new(), String::new()],
            });
        };
        row("size", before.size_bytes, after.size_bytes, figures::bytes);
        if let (Some(from), Some(to)) = (before.compressed_bytes, after.compressed_bytes) {
            row("compressed", from, to, figures::bytes);
        }
        row("files", before.files, after.files, count);
        row("layers", before.layers, after.layers, count);
        for row in &mut rows[2..] {
            row[4].clear();
        }
        self.table(&rows);
    }

    /// The first column to the left, the rest to the right.
    fn table(&mut self, rows: &[[String; 5]]) {
        let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..5).map(width).collect();
        for (n, row) in rows.iter().enumerate() {
            let mut line = format!("  {:<w$}", row[0], w = widths[0].max(10));
            for column in 1..5 {
                line.push_str(&format!("  {:>w$}", row[column], w = widths[column]));
            }
            match n {
                0 => self.painted(Paint::Faint, line.trim_end()),
                1 => self.painted(Paint::Strong, line.trim_end()),
                _ => self.push(line.trim_end()),
            }
        }
    }

    fn surface(&mut self, report: &Report) {
        let there = report.surface_rows().into_iter().filter(|(_, change)| change.before > 0);
        let shown: Vec<String> =
            there.map(|(name, change)| format!("{name} {} -> {}", count(change.before), count(change.after))).collect();
        if !shown.is_empty() {
            self.listed("surface", &shown);
        }
    }

    /// Those that stay are told whatever else there is; a warning says what to do.
    fn secrets(&mut self, report: &Report) {
        const SHOWN: usize = 3;
        let Some(open) = report.open_secrets() else { return };
        let gone = match report.gone_secrets() {
            0 => None,
            n => Some(format!("{} gone", count(n))),
        };
        let more = open.len().saturating_sub(SHOWN) as u64;
        let lines = open.iter().take(SHOWN).map(|secret| format!("STILL PRESENT: {}", secret.line()));
        let lines: Vec<String> = lines.chain((more > 0).then(|| format!("and {} more", count(more)))).chain(gone).collect();
        for (n, line) in lines.iter().enumerate() {
            let label = if n == 0 { "secrets" } else { "" };
            self.labelled(label, line);
        }
    }

    fn shares(&mut self, shares: &[Share]) {
        let part = |share: &Share| format!("{} {} ({})", share.kind, figures::bytes(share.bytes), count(share.files));
        self.listed("stays", &shares.iter().map(part).collect::<Vec<_>>());
    }

    /// How far the result is from what was really opened.
    fn floor(&mut self, report: &Report) {
        let Some(floor) = report.floor_bytes.filter(|floor| *floor > 0) else {
            return;
        };
        let mut text = format!("{} in files that were really opened", figures::bytes(floor));
        if report.result.is_some() {
            let kept = report.kept_bytes();
            text.push_str(&format!(", {} stay", figures::bytes(kept)));
        }
        self.labelled("floor", &text);
    }

    /// The heaviest groups of removed files.
    fn losses(&mut self, report: &Report) {
        const SHOWN: usize = 3;
        let mut groups: Vec<&Group> = report.removed.groups.iter().collect();
        groups.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.directory.cmp(&b.directory)));
        let mut parts: Vec<String> =
            groups.iter().take(SHOWN).map(|g| format!("{} {}", g.directory, figures::bytes(g.bytes))).collect();
        if let Some(rest) = groups.get(SHOWN..).filter(|rest| !rest.is_empty()) {
            let bytes = rest.iter().map(|group| group.bytes).sum();
            parts.push(format!("{} elsewhere", figures::bytes(bytes)));
        }
        self.listed("goes", &parts);
    }

    /// What the level leaves out of the user's own files.
    fn app(&mut self, report: &Report) {
        const SHOWN: usize = 2;
        let mut roots: Vec<_> = report.app.iter().filter(|app| app.kept < app.files).collect();
        roots.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.root.cmp(&b.root)));
        for app in roots.into_iter().take(SHOWN) {
            let files = format!("{} of {} of yours", count(app.files - app.kept), counted(app.files, "file", "files"));
            let bytes = figures::bytes(app.bytes);
            let text = match report.level.as_str() {
                "touched" => format!("{files} never touched, +{bytes} with --keep app: {}", app.root),
                _ => format!("{files} left out, {bytes}: {}", app.root),
            };
            self.labelled("yours", &text);
        }
    }

    fn walkers(&mut self, report: &Report) {
        const SHOWN: usize = 3;
        let mut walkers: Vec<_> = report.walkers.iter().filter(|walker| walker.files > 0).collect();
        walkers.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.process.cmp(&b.process)));
        for walker in walkers.into_iter().take(SHOWN) {
            let files = counted(walker.files, "file", "files");
            self.labelled("walked", &format!("{} only for {} ({files})", figures::bytes(walker.bytes), walker.process));
        }
    }

    fn trace(&mut self, report: &Report) {
        let Some(trace) = &report.trace else {
            return;
        };
        if !trace.complete {
            self.labelled("recorded", &format!("incomplete: {}", trace.why));
            return;
        }
        let recorders = if trace.recorders.is_empty() { "nothing".to_owned() } else { trace.recorders.join(" and ") };
        let mut parts = vec![
            format!("{} by {recorders}", counted(trace.events, "access", "accesses")),
            counted(u64::from(trace.runs), "run", "runs"),
        ];
        if let [_, .., last] = trace.new_paths_per_run[..] {
            parts.push(format!("the last one added {}", counted(last, "path", "paths")));
        }
        if !trace.settled {
            parts.push("new paths still came when it ended".to_owned());
        }
        self.listed("recorded", &parts);
    }

    fn warnings(&mut self, report: &Report, until: usize) {
        let room = until.saturating_sub(self.lines.len());
        let all = report.warnings.len();
        let shown = if all > room { room.saturating_sub(1) } else { all };
        for warning in &report.warnings[..shown] {
            self.painted(Paint::Caution, &format!("  warning: {warning}"));
        }
        if shown < all && room > 0 {
            let more = counted((all - shown) as u64, "warning", "warnings");
            self.painted(Paint::Caution, &format!("  warning: {more} more in the report"));
        }
    }

    fn tail(&mut self, tail: &Tail) {
        for (label, text) in &tail.0 {
            self.labelled(label, text);
        }
    }
}
