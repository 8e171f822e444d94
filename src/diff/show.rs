//! Show: a comparison on a terminal: what is wrong first, then sizes, then what came, changed and went; every line makes
//! sense without colour.

use super::model::{Diff, Fate, File, FileList, Package, Pair, Programs, Section, Share, State};
use super::packages::word;
use super::plan::TOP;
use crate::report::figures::{self, count, counted};
use crate::report::model::{FileKind, Group, VerdictKind};
use crate::report::show::{Paint, Style, cut, verdict_paint};
use crate::xray::show::{Lines, of_secret};

/// Columns of a figure.
const FIGURE: usize = 10;
/// Paths that a line names, and entries of the lists that matter less, where nobody says how many he wants.
const NAMED: usize = 4;

/// The text, each line ended by a newline. `top`: so many entries of each list; where nobody said so, what comes to one
/// screen.
pub fn show(diff: &Diff, top: Option<usize>, style: Style) -> String {
    let mut lines = Lines::new(style);
    lines.painted(Paint::Strong, &format!("{} -> {}", diff.before.given, diff.after.given));
    for note in &diff.notes {
        lines.painted(Paint::Caution, &format!("  note: {note}"));
    }
    for standing in &diff.budgets {
        let (paint, word) = if standing.kept { (Paint::Good, "kept") } else { (Paint::Bad, "MISSED") };
        lines.painted(paint, &format!("  {word:<LABEL$}{}", standing.line, LABEL = 11));
    }
    let mut show = Show { diff, top: top.unwrap_or(TOP), few: top.unwrap_or(NAMED), lines };
    show.verdict();
    for section in &diff.only {
        match section {
            Section::Sizes => show.sizes(),
            Section::Probes => show.probes(),
            Section::Secrets => show.secrets(),
            Section::Programs => show.programs(),
            Section::Packages => show.packages(),
            Section::Files => show.files(),
            Section::Config => show.config(),
            Section::Layers => show.layers(),
            Section::Time => show.time(),
        }
    }
    for (at, line) in diff.unknown.iter().enumerate() {
        let parts: Vec<String> = line.split("; ").map(str::to_owned).collect();
        show.lines.listed(if at == 0 { "not known" } else { "" }, &parts);
    }
    show.lines.text()
}

/// A verdict in a word.
pub fn of_verdict(kind: VerdictKind) -> &'static str {
    match kind {
        VerdictKind::Verified => "verified",
        VerdictKind::Unverified => "unverified",
        VerdictKind::Failed => "failed",
        VerdictKind::Flaky => "flaky",
    }
}

/// Rows of figures: name, both sides, and the change in percent; those that nobody knows are left away.
pub fn figures_of(diff: &Diff) -> Vec<(String, String, String, String)> {
    let Some(sizes) = &diff.sizes else { return Vec::new() };
    type Shown = fn(u64) -> String;
    let bytes: Shown = figures::bytes;
    let rows = [
        ("size", sizes.size_bytes, bytes),
        ("compressed", sizes.compressed_bytes, bytes),
        ("content", sizes.content_bytes, bytes),
        ("files", sizes.files, count),
        ("layers", sizes.layers, count),
    ];
    let shown = |figure: Option<u64>, show: Shown| figure.map_or_else(|| "not known".to_owned(), show);
    let row = |(name, pair, show): (&str, Pair, Shown)| {
        let change = pair.before.zip(pair.after).map(|(before, after)| figures::percent(before, after));
        (name.to_owned(), shown(pair.before, show), shown(pair.after, show), change.unwrap_or_default())
    };
    rows.into_iter().filter(|(_, pair, _)| *pair != Pair::default()).map(row).collect()
}

/// What a host pulls, in words; `None` where that is not known.
pub fn of_pull(diff: &Diff) -> Option<String> {
    let pull = diff.sizes.as_ref()?.pull.as_ref()?;
    if pull.layers == 0 {
        return Some(format!("nothing, by a host that has {}", diff.before.given));
    }
    let known = |bytes: Option<u64>, word: &str| bytes.map(|bytes| format!("{} {word}", figures::bytes(bytes)));
    let sizes: Vec<String> = [known(pull.compressed_bytes, "compressed"), known(pull.bytes, "unpacked")].into_iter().flatten().collect();
    let layers = counted(pull.layers, "layer", "layers");
    Some(format!("{} in {layers}, by a host that has {}", sizes.join(", "), diff.before.given))
}

/// `4 -> 0`.
pub fn of_pair(pair: Pair) -> String {
    let shown = |figure: Option<u64>| figure.map_or_else(|| "?".to_owned(), count);
    match pair.before == pair.after {
        true => shown(pair.before),
        false => format!("{} -> {}", shown(pair.before), shown(pair.after)),
    }
}

/// What became of a package.
pub fn of_package(package: &Package) -> String {
    let share = |share: &Share| match (share.of, share.files) {
        (Some(of), files) if of == files => format!("{}, whole", counted(files, "file", "files")),
        (Some(of), files) => format!("{} of {}", count(files), counted(of, "file", "files")),
        (None, files) => counted(files, "file", "files"),
    };
    let size = |share: &Option<Share>| share.as_ref().map_or(0, |share| share.bytes);
    let version = |share: &Option<Share>| share.as_ref().map(|share| share.version.clone()).unwrap_or_default();
    let (before, after) = (&package.before, &package.after);
    let text = match (package.state, before, after) {
        (Fate::Version, Some(old), Some(new)) => format!("{} -> {}", old.version, new.version),
        (Fate::Part | Fate::More | Fate::Whole, Some(old), Some(new)) => {
            let from = if old.of.is_some() { format!("{} -> ", share(old)) } else { String::new() };
            format!("{}: {from}{}, {} -> {}", new.version, share(new), figures::bytes(old.bytes), figures::bytes(new.bytes))
        }
        (_, None, _) => format!("{}, {}", version(after), figures::bytes(size(after))),
        _ => format!("{}, {}", version(before), figures::bytes(size(before))),
    };
    let listed = if package.only_listed { "; a database still lists it" } else { "" };
    format!("{} {}{listed}", package.name, text.trim_start_matches([':', ',', ' ']))
}

/// How many packages there are of each state, those that say something first.
pub fn of_packages(diff: &Diff) -> String {
    let Some(packages) = &diff.packages else { return String::new() };
    let words = [
        (Fate::New, "new"),
        (Fate::Version, "of another version"),
        (Fate::More, "with more files"),
        (Fate::Gone, "gone"),
        (Fate::Part, "in part"),
    ];
    let number = |fate| packages.counts.get(word(fate)).copied().unwrap_or(0);
    let mut parts: Vec<String> = words.into_iter().filter(|(fate, _)| number(*fate) > 0).map(|(fate, word)| format!("{} {word}", count(number(fate)))).collect();
    parts.push(format!("{} as before", count(packages.whole)));
    parts.join(", ")
}

/// What differs of a file, or why it is there.
pub fn of_file(file: &File) -> String {
    let change = |change: &super::model::Change| match change.what {
        "content" => {
            let (from, to) = (file.bytes.before.unwrap_or(0), file.bytes.after.unwrap_or(0));
            if from == to { format!("other content, {}", figures::bytes(to)) } else { format!("content {} -> {}", figures::bytes(from), figures::bytes(to)) }
        }
        "capabilities" => match (change.from.is_empty(), change.to.is_empty()) {
            (true, _) => "gained capabilities".to_owned(),
            (_, true) => "lost its capabilities".to_owned(),
            (false, false) => "other capabilities".to_owned(),
        },
        what => format!("{what} {} -> {}", change.from, change.to),
    };
    match &file.reason {
        _ if !file.changes.is_empty() => file.changes.iter().map(change).collect::<Vec<_>>().join(", "),
        Some(reason) => reason.clone(),
        None => file.package.clone().unwrap_or_default(),
    }
}

/// The heaviest directories.
pub fn heaviest(groups: &[Group], top: usize) -> Vec<&Group> {
    let mut groups: Vec<&Group> = groups.iter().collect();
    groups.sort_by_key(|group| std::cmp::Reverse((group.bytes, group.files)));
    groups.truncate(top);
    groups
}

struct Show<'a> {
    diff: &'a Diff,
    top: usize,
    few: usize,
    lines: Lines,
}

impl Show<'_> {
    fn verdict(&mut self) {
        let (before, after) = (self.diff.before.verdict, self.diff.after.verdict);
        let text = match (before, after) {
            (Some(before), Some(after)) if before != after => format!("{} -> {}", of_verdict(before), of_verdict(after)),
            (_, Some(after)) => of_verdict(after).to_owned(),
            (_, None) => return,
        };
        let paint = after.map_or(Paint::Strong, verdict_paint);
        self.lines.painted(paint, &format!("  {:<11}{text}", "verdict"));
    }

    fn sizes(&mut self) {
        // What is left of content when layers are merged is told elsewhere.
        for (name, before, after, change) in figures_of(self.diff).into_iter().filter(|(name, ..)| name != "content") {
            self.lines.push(&format!("  {name:<11}{before:>FIGURE$} -> {after:>FIGURE$}  {change:>9}"));
        }
        if let Some(pull) = of_pull(self.diff) {
            self.lines.labelled("pull", &pull);
        }
    }

    fn probes(&mut self) {
        let Some(probes) = &self.diff.probes else { return };
        let told = |asked: Option<u64>, passed: Option<u64>| asked.zip(passed).map(|(asked, passed)| format!("{} of {} passed", count(passed), count(asked)));
        let sides = [told(probes.asked.before, probes.passed.before), told(probes.asked.after, probes.passed.after)];
        let sides: Vec<String> = sides.into_iter().flatten().collect();
        self.lines.labelled("probes", &sides.join(" -> "));
        for probe in probes.failing.iter().take(self.top) {
            let what = if probe.known { "fails now" } else { "fails" };
            self.lines.painted(Paint::Bad, &format!("    {} {what}: {}", probe.name, probe.failure));
        }
        self.lines.more(probes.failing.len(), self.top);
        for (what, names) in [("passes now", &probes.mended), ("new", &probes.new), ("not asked any more", &probes.gone)] {
            if !names.is_empty() {
                let more = names.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {} more", count(more as u64)) } else { String::new() };
                self.lines.push(&format!("    {what}: {}{more}", names[..names.len().min(NAMED)].join(", ")));
            }
        }
    }

    fn secrets(&mut self) {
        let Some(secrets) = &self.diff.secrets else { return };
        let own = |secrets: &[crate::xray::model::Secret]| secrets.iter().filter(|secret| secret.package.is_none()).cloned().collect::<Vec<_>>();
        let (new, gone) = (own(&secrets.new), own(&secrets.gone));
        if new.is_empty() && gone.is_empty() {
            return;
        }
        let text = format!("  {:<11}{} new, {} gone", "secrets", count(new.len() as u64), count(gone.len() as u64));
        if new.is_empty() { self.lines.push(&text) } else { self.lines.painted(Paint::Bad, &text) }
        for secret in new.iter().take(self.top) {
            self.lines.push(&format!("    + {}", of_secret(secret)));
        }
        self.lines.more(new.len(), self.top);
        for secret in gone.iter().take(self.few) {
            self.lines.push(&format!("    - {}", of_secret(secret)));
        }
        self.lines.more(gone.len(), self.few);
    }

    fn programs(&mut self) {
        let Some(programs) = &self.diff.programs else { return };
        let differs = |kind: &&Programs| kind.count.before != kind.count.after && (kind.count.before.is_some() && kind.count.after.is_some());
        let parts: Vec<String> = programs.iter().filter(differs).map(|kind| format!("{} {}", kind.name, of_pair(kind.count))).collect();
        if parts.is_empty() {
            self.lines.labelled("programs", "as many of each kind as before");
        } else {
            self.lines.listed("programs", &parts);
        }
        for kind in programs {
            let Some(new) = kind.new.as_ref().filter(|new| !new.is_empty()) else { continue };
            let shown: Vec<String> = new.iter().take(NAMED).map(ToString::to_string).collect();
            let more = new.len() - shown.len();
            let more = if more > 0 { format!(" and {} more", count(more as u64)) } else { String::new() };
            self.lines.painted(Paint::Caution, &format!("    + {}: {}{more}", kind.name, shown.join(" ")));
        }
    }

    fn packages(&mut self) {
        let Some(packages) = &self.diff.packages else { return };
        if packages.list.is_empty() && packages.whole == 0 {
            return;
        }
        self.lines.labelled("packages", &of_packages(self.diff));
        let mut told = 0;
        for state in [Fate::New, Fate::Version, Fate::More, Fate::Part, Fate::Gone] {
            let most = if matches!(state, Fate::Part | Fate::Gone) { self.few } else { self.top };
            for package in packages.list.iter().filter(|package| package.state == state).take(most) {
                self.lines.push(&format!("    {} {}", sign(package.state), of_package(package)));
                told += 1;
            }
        }
        self.lines.more(packages.list.len(), told);
    }

    fn files(&mut self) {
        let Some(files) = &self.diff.files else { return };
        let part = |list: &FileList, word: &str| format!("{} {word} ({})", count(list.files), figures::bytes(list.bytes));
        let changed = format!("{} changed", count(files.changed.files));
        self.lines.labelled("files", &format!("{}, {changed}, {}, {} as before", part(&files.added, "new"), part(&files.removed, "gone"), count(files.same)));
        self.list(&files.added, "+");
        self.list(&files.changed, "~");
        // What is gone is told by its directories: there may be thousands of files, and no reason to name each.
        let groups = heaviest(&files.removed.groups, self.few);
        for group in &groups {
            let size = figures::bytes(group.bytes);
            self.lines.push(&format!("    - {size:>8} {:<40} {}", group.directory.to_string(), counted(group.files, "file", "files")));
        }
        let rest = files.removed.groups.len().saturating_sub(self.few) as u64;
        if rest > 0 {
            self.lines.push(&format!("    and {} (--top, --json)", counted(rest, "more directory", "more directories")));
        }
    }

    fn list(&mut self, list: &FileList, sign: &str) {
        for file in list.list.iter().take(self.top) {
            let size = match file.kind {
                FileKind::Directory => String::new(),
                _ => file.bytes.after.map(figures::bytes).unwrap_or_default(),
            };
            let path = cut(&file.path.to_string(), 60);
            self.lines.push(format!("    {sign} {size:>8} {path:<40} {}", of_file(file)).trim_end());
        }
        self.lines.more(list.list.len(), self.top);
    }

    fn config(&mut self) {
        let Some(changes) = self.diff.config.as_ref().filter(|changes| !changes.is_empty()) else { return };
        self.lines.labelled("settings", &counted(changes.len() as u64, "changed", "changed"));
        for change in changes.iter().take(self.few) {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
            self.lines.push(&format!("    {} {} -> {}", change.field, value(&change.from), value(&change.to)));
        }
        self.lines.more(changes.len(), self.few);
    }

    fn layers(&mut self) {
        let Some(layers) = &self.diff.layers else { return };
        let number = |state| layers.iter().filter(|layer| layer.state == state).count() as u64;
        self.lines.labelled("layers", &format!("{} shared, {} new, {} gone", count(number(State::Shared)), count(number(State::New)), count(number(State::Gone))));
        let told: Vec<_> = [State::New, State::Gone].into_iter().flat_map(|state| layers.iter().filter(move |layer| layer.state == state)).collect();
        for layer in told.iter().take(self.few) {
            let sign = if layer.state == State::New { "+" } else { "-" };
            let size = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), figures::bytes);
            let made_by: Vec<&str> = layer.made_by.split_whitespace().collect();
            let made_by = if made_by.is_empty() { layer.diff_id.clone() } else { made_by.join(" ") };
            self.lines.push(&format!("    {sign} {:>8} {:>8} compressed  {made_by}", size(layer.bytes), size(layer.compressed_bytes)));
        }
        self.lines.more(told.len(), self.few);
    }

    fn time(&mut self) {
        let Some(phases) = &self.diff.time else { return };
        let total = |read: fn(&super::model::Phase) -> Option<f64>| {
            let known: Vec<f64> = phases.iter().filter_map(read).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>())
        };
        let shown = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), figures::seconds);
        let of = |before, after| if before == after { shown(before) } else { format!("{} -> {}", shown(before), shown(after)) };
        let (before, after) = (total(|phase| phase.before), total(|phase| phase.after));
        let mut parts = vec![match (before, after) {
            (Some(_), Some(_)) => of(before, after),
            (Some(_), None) => format!("{} (before)", shown(before)),
            _ => format!("{} (after)", shown(after)),
        }];
        if before.is_some() && after.is_some() {
            parts.extend(phases.iter().map(|phase| format!("{} {}", phase.name, of(phase.before, phase.after))));
        }
        self.lines.listed("time", &parts);
    }
}

fn sign(fate: Fate) -> &'static str {
    match fate {
        Fate::New => "+",
        Fate::Version | Fate::More | Fate::Part | Fate::Whole => "~",
        Fate::Gone => "-",
    }
}
