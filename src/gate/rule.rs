//! Rule: one thing that fails a build, as `--fail-on` spells it.
//!
//! `FIGURE>LIMIT` and `FIGURE<LIMIT` compare a figure of the report; a limit with a sign (`size>+5%`) is a change
//! since the stored report. `path:GLOB` and `package:NAME` name what must not stay, `root` and `unverified` what must
//! not be so. The name of a count alone (`shells`) means more than none.

use globset::{Candidate, Glob, GlobBuilder, GlobMatcher};

use crate::report::figures::{self, count};
use crate::report::model::{Image, Surface};
use crate::report::{Report, VerdictKind};

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As it was given.
    pub text: String,
    test: Test,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[derive(Clone, Debug)]
enum Test {
    /// A figure beyond its limit.
    Figure { figure: Figure, above: bool, limit: Limit },
    /// A kept path.
    Path(GlobMatcher),
    /// A package of which something is kept.
    Package(GlobMatcher),
    /// A result that runs as root.
    Root,
    /// A result that was not compared, or not everything was the same.
    Unverified,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// The figure itself.
    Value(f64),
    /// How much more (or less) than in the stored report.
    By(f64),
    /// The same in percent of what it was.
    ByPercent(f64),
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    Count,
    Percent,
}

/// A number of a report; `None` where it was not measured.
#[derive(Clone, Copy, Debug)]
struct Figure {
    name: &'static str,
    unit: Unit,
    read: fn(&Report) -> Option<f64>,
}

/// All of them. docs/formats.md, "Budgets", has what each means.
const FIGURES: &[Figure] = &[
    Figure { name: "size", unit: Unit::Bytes, read: |report| of_result(report, |image| Some(image.size_bytes)) },
    Figure { name: "compressed", unit: Unit::Bytes, read: |report| of_result(report, |image| image.compressed_bytes) },
    Figure { name: "files", unit: Unit::Count, read: |report| of_result(report, |image| Some(image.files)) },
    Figure { name: "layers", unit: Unit::Count, read: |report| of_result(report, |image| Some(image.layers)) },
    Figure { name: "reduction", unit: Unit::Percent, read: reduction },
    Figure { name: "programs", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.programs.after) },
    Figure { name: "shells", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.shells.after) },
    Figure { name: "package-managers", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.package_managers.after) },
    Figure { name: "network-clients", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.network_clients.after) },
    Figure { name: "setuid", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.setuid.after) },
    Figure { name: "compilers", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.compilers.after) },
    Figure { name: "interpreters", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.interpreters.after) },
    Figure { name: "libraries", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.libraries.after) },
    Figure { name: "capabilities", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.capabilities.after) },
    Figure { name: "writable", unit: Unit::Count, read: |report| of_surface(report, |surface| surface.writable.after) },
    Figure { name: "secrets", unit: Unit::Count, read: |report| report.open_secrets().map(|open| open.len() as f64) },
    Figure { name: "packages", unit: Unit::Count, read: |report| report.result.as_ref().map(|_| packages(report).len() as f64) },
    Figure { name: "holdout", unit: Unit::Percent, read: holdout },
];

fn of_result(report: &Report, read: fn(&Image) -> Option<u64>) -> Option<f64> {
    report.result.as_ref().and_then(read).map(|n| n as f64)
}

fn of_surface(report: &Report, read: fn(&Surface) -> u64) -> Option<f64> {
    report.surface.as_ref().map(|surface| read(surface) as f64)
}

/// How much smaller the result is, in percent of the source.
fn reduction(report: &Report) -> Option<f64> {
    let after = report.result.as_ref()?.size_bytes as f64;
    let before = report.source.size_bytes as f64;
    (before > 0.0).then(|| (before - after) / before * 100.0)
}

/// How many of the kept-out probes passed, in percent.
fn holdout(report: &Report) -> Option<f64> {
    let held = report.holdout.as_ref().filter(|held| held.kept_out > 0)?;
    Some(held.passed as f64 / held.kept_out as f64 * 100.0)
}

/// Packages of which something is kept, as `SYSTEM:NAME`.
fn packages(report: &Report) -> std::collections::BTreeSet<&str> {
    report.kept.iter().filter_map(|kept| kept.package.as_deref()).collect()
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// When it is none: says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let test = match text.split_once(':') {
            Some(("path", glob)) => Test::Path(path_glob(glob)?),
            Some(("package", name)) => Test::Package(glob(name)?),
            _ if text == "root" => Test::Root,
            _ if text == "unverified" => Test::Unverified,
            _ => figure_test(text)?,
        };
        Ok(Self { text: text.to_owned(), test })
    }

    /// Whether it is a change since a stored report that it limits.
    pub fn needs_baseline(&self) -> bool {
        matches!(self.test, Test::Figure { limit: Limit::By(_) | Limit::ByPercent(_), .. })
    }

    /// What it is measured against in a stored report; `None` where it is not, or that does not know.
    pub fn before(&self, baseline: &Report) -> Option<f64> {
        match &self.test {
            Test::Figure { figure, limit: Limit::By(_) | Limit::ByPercent(_), .. } => (figure.read)(baseline),
            _ => None,
        }
    }

    /// Whether the report keeps it; the figure and the limit in a line.
    pub fn check(&self, report: &Report, baseline: Option<&Report>) -> (bool, String) {
        match &self.test {
            Test::Figure { figure, above, limit } => figure.check(report, baseline, *above, *limit),
            Test::Path(glob) => {
                let is_meant = |path: &[u8]| glob.is_match_candidate(&Candidate::from_bytes(path));
                let found: Vec<String> =
                    report.kept.iter().filter(|kept| is_meant(kept.path.as_bytes())).map(|kept| kept.path.to_string()).collect();
                none_of("path", &self.text, &found, report)
            }
            Test::Package(glob) => {
                let is_meant = |package: &&str| glob.is_match(package) || package.split_once(':').is_some_and(|(_, name)| glob.is_match(name));
                let found: Vec<String> = packages(report).into_iter().filter(is_meant).map(str::to_owned).collect();
                none_of("package", &self.text, &found, report)
            }
            Test::Root => match report.result.as_ref().and_then(|result| result.user.as_deref()) {
                None => (false, "user: not known, it must not be root".into()),
                Some(user) if is_root(user) => (false, "user: root, it must not be".into()),
                Some(user) => (true, format!("user: {user}, not root")),
            },
            Test::Unverified => match report.proven() {
                VerdictKind::Verified => (true, "verdict: verified".into()),
                VerdictKind::Unverified => (false, "verdict: unverified, it has to be verified".into()),
                VerdictKind::Failed => (false, "verdict: failed, it has to be verified".into()),
                VerdictKind::Flaky => (false, "verdict: flaky, it has to be verified".into()),
            },
        }
    }
}

/// What stays and must not.
fn none_of(what: &str, rule: &str, found: &[String], report: &Report) -> (bool, String) {
    if report.result.is_none() {
        return (false, format!("{rule}: not known, there is no result"));
    }
    match found {
        [] => (true, format!("{rule}: no such {what}")),
        [one] => (false, format!("{rule}: {one} stays")),
        [first, others @ ..] => (false, format!("{rule}: {first} and {} more stay", count(others.len() as u64))),
    }
}

/// USER of a config: empty is root.
fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), Some("" | "0" | "root"))
}

impl Figure {
    fn check(self, report: &Report, baseline: Option<&Report>, above: bool, limit: Limit) -> (bool, String) {
        let name = self.name;
        let side = if above { "at most" } else { "at least" };
        let Some(now) = (self.read)(report) else {
            return (false, format!("{name}: not measured, the limit is {side} {}", self.limit(limit)));
        };
        let (value, shown) = match limit {
            Limit::Value(_) => (now, self.show(now)),
            Limit::By(_) | Limit::ByPercent(_) => {
                let Some(before) = baseline.and_then(self.read) else {
                    let text = format!("{name}: {}, not measured before, the limit is {side} {}", self.show(now), self.limit(limit));
                    return (false, text);
                };
                let change = now - before;
                let shown = format!("{}, before {}", self.show(now), self.show(before));
                match limit {
                    Limit::ByPercent(_) if before == 0.0 && change == 0.0 => (0.0, shown),
                    // From nothing, any growth is beyond every percentage.
                    Limit::ByPercent(_) if before == 0.0 => (f64::INFINITY, shown),
                    Limit::ByPercent(_) => (change / before * 100.0, shown),
                    _ => (change, shown),
                }
            }
        };
        let (Limit::Value(bound) | Limit::By(bound) | Limit::ByPercent(bound)) = limit;
        let kept = if above { value <= bound } else { value >= bound };
        (kept, format!("{name}: {shown}, the limit is {side} {}", self.limit(limit)))
    }

    fn show(self, value: f64) -> String {
        match self.unit {
            Unit::Bytes => figures::bytes(value as u64),
            Unit::Count => count(value as u64),
            Unit::Percent => format!("{value:.1} %"),
        }
    }

    fn limit(self, limit: Limit) -> String {
        match limit {
            Limit::Value(value) => self.show(value),
            Limit::ByPercent(value) => format!("{value:+} %"),
            Limit::By(value) => format!("{}{}", if value < 0.0 { '-' } else { '+' }, self.show(value.abs())),
        }
    }
}

fn figure_test(text: &str) -> Result<Test, String> {
    let at = text.find(['>', '<']);
    let name = text[..at.unwrap_or(text.len())].trim();
    let Some(figure) = FIGURES.iter().copied().find(|figure| figure.name == name) else {
        let names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        return Err(format!("{text:?} is no budget; write a figure and its limit, as size>60MB ({}), or path:GLOB, package:NAME, root, unverified", names.join(", ")));
    };
    let Some(at) = at else {
        return match figure.unit {
            Unit::Count => Ok(Test::Figure { figure, above: true, limit: Limit::Value(0.0) }),
            Unit::Bytes | Unit::Percent => Err(format!("{text:?} has no limit; write {name}>LIMIT or {name}<LIMIT")),
        };
    };
    let above = text[at..].starts_with('>');
    let limit = text[at + 1..].trim();
    let column = text[..at].chars().count() + 2;
    let limit = figure.read_limit(limit).ok_or_else(|| format!("{limit:?} (column {column}) is no limit for {name}; {}", figure.allowed()))?;
    Ok(Test::Figure { figure, above, limit })
}

impl Figure {
    fn read_limit(self, text: &str) -> Option<Limit> {
        let signed = text.starts_with(['+', '-']);
        let bare = text.trim_start_matches(['+', '-']);
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        let limit = match (bare.strip_suffix('%'), self.unit) {
            (Some(percent), Unit::Percent) if !signed => Limit::Value(number(percent)?),
            (Some(percent), Unit::Bytes | Unit::Count) if signed => Limit::ByPercent(sign * number(percent)?),
            (None, Unit::Bytes) => value(sign * bytes(bare)?, signed),
            (None, Unit::Count) => value(sign * number(bare)?, signed),
            _ => return None,
        };
        Some(limit)
    }

    fn allowed(self) -> String {
        match self.unit {
            Unit::Bytes => "write 60MB, 64MiB, a number of bytes, or a change as +5% or +1MB".into(),
            Unit::Count => "write a number, or a change as +5% or +2".into(),
            Unit::Percent => "write a part as 90%".into(),
        }
    }
}

fn value(value: f64, signed: bool) -> Limit {
    if signed { Limit::By(value) } else { Limit::Value(value) }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

/// Bytes as figures are shown: `kB`, `MB`, `GB` are decimal; `KiB`, `MiB`, `GiB` are not.
fn bytes(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return None,
    };
    Some(number(&text[..end])? * unit)
}

/// A glob of paths: `*` stays within a component, `**` does not.
fn path_glob(text: &str) -> Result<GlobMatcher, String> {
    let path = format!("/{}", text.trim_start_matches('/'));
    let glob = GlobBuilder::new(&path).literal_separator(true).backslash_escape(true).empty_alternates(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("path:{text} is no glob: {}", error.kind()))
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    Glob::new(text).map(|glob| glob.compile_matcher()).map_err(|error| format!("package:{text} is no glob: {}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::{Change, Holdout, Kept, Verdict};

    fn report() -> Report {
        let kept = |path: &str, package: Option<&str>| -> Kept {
            serde_json::from_value(serde_json::json!({"path": path, "package": package})).unwrap()
        };
        Report {
            source: Image { size_bytes: 100_000_000, ..Image::default() },
            result: Some(Image { size_bytes: 13_600_000, files: 3, layers: 1, user: Some("0:5".into()), ..Image::default() }),
            surface: Some(Surface { shells: Change { after: 2, ..Change::default() }, ..Surface::default() }),
            kept: vec![kept("/usr/bin/curl", Some("dpkg:curl")), kept("/usr/lib/x.so", Some("dpkg:libx")), kept("/app/a", None)],
            verdict: Verdict { kind: VerdictKind::Verified, line: String::new() },
            ..Report::default()
        }
    }

    fn check(rule: &str) -> (bool, String) {
        let before = Report { result: Some(Image { size_bytes: 13_000_000, ..Image::default() }), ..Report::default() };
        Rule::parse(rule).unwrap().check(&report(), Some(&before))
    }

    #[test]
    fn a_figure_and_its_limit_are_said_whether_it_is_kept_or_not() {
        for (rule, kept, line) in [
            ("size>13MB", false, "size: 13.6 MB, the limit is at most 13.0 MB"),
            ("size > 13MiB", true, "size: 13.6 MB, the limit is at most 13.6 MB"),
            ("size>+4%", false, "size: 13.6 MB, before 13.0 MB, the limit is at most +4 %"),
            ("size>+5%", true, "size: 13.6 MB, before 13.0 MB, the limit is at most +5 %"),
            ("size>+0.5MB", false, "size: 13.6 MB, before 13.0 MB, the limit is at most +500 kB"),
            ("size>-1%", false, "size: 13.6 MB, before 13.0 MB, the limit is at most -1 %"),
            ("reduction<90%", false, "reduction: 86.4 %, the limit is at least 90.0 %"),
            ("shells", false, "shells: 2, the limit is at most 0"),
            ("shells>2", true, "shells: 2, the limit is at most 2"),
            ("setuid", true, "setuid: 0, the limit is at most 0"),
            ("packages>1", false, "packages: 2, the limit is at most 1"),
            ("path:/usr/bin/cu*", false, "path:/usr/bin/cu*: /usr/bin/curl stays"),
            ("path:usr/**", false, "path:usr/**: /usr/bin/curl and 1 more stay"),
            ("path:/usr/*", true, "path:/usr/*: no such path"),
            ("package:curl", false, "package:curl: dpkg:curl stays"),
            ("package:dpkg:lib*", false, "package:dpkg:lib*: dpkg:libx stays"),
            ("package:wget", true, "package:wget: no such package"),
            ("root", false, "user: root, it must not be"),
            ("unverified", true, "verdict: verified"),
        ] {
            assert_eq!(check(rule), (kept, line.to_owned()), "{rule}");
        }
    }

    #[test]
    fn what_was_not_measured_keeps_no_budget() {
        for (rule, line) in [
            ("compressed>1GB", "compressed: not measured, the limit is at most 1.00 GB"),
            ("holdout<50%", "holdout: not measured, the limit is at least 50.0 %"),
            ("files>+5%", "files: 3, before 0, the limit is at most +5 %"),
        ] {
            assert_eq!(check(rule), (false, line.to_owned()), "{rule}");
        }
        let rule = Rule::parse("size>+5%").unwrap();
        assert!(rule.needs_baseline() && !rule.check(&report(), None).0);
        let nothing = Report::default();
        for rule in ["size>1GB", "shells>9", "packages>9", "path:/x", "package:x", "root", "unverified", "reduction<1%"] {
            assert!(!Rule::parse(rule).unwrap().check(&nothing, None).0, "{rule}");
        }
        let held = Report { holdout: Some(Holdout { kept_out: 4, passed: 3, ..Holdout::default() }), ..report() };
        assert_eq!(Rule::parse("holdout<75%").unwrap().check(&held, None), (true, "holdout: 75.0 %, the limit is at least 75.0 %".into()));
    }

    #[test]
    fn what_is_no_budget_says_what_is() {
        for (rule, says) in [
            ("sise>5MB", "\"sise>5MB\" is no budget; write a figure and its limit, as size>60MB (size, compressed,"),
            ("size", "\"size\" has no limit; write size>LIMIT or size<LIMIT"),
            ("size>much", "\"much\" (column 6) is no limit for size; write 60MB, 64MiB, a number of bytes, or a change as +5% or +1MB"),
            ("size>5%", "\"5%\" (column 6) is no limit for size; write 60MB"),
            ("size>NaN", "\"NaN\" (column 6) is no limit for size"),
            ("shells>-", "\"-\" (column 8) is no limit for shells; write a number"),
            ("holdout<90", "\"90\" (column 9) is no limit for holdout; write a part as 90%"),
            ("path:/a[", "path:/a[ is no glob: "),
            ("", "\"\" is no budget"),
        ] {
            let said = Rule::parse(rule).unwrap_err();
            assert!(said.starts_with(says), "{said}");
        }
    }
}
