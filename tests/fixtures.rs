//! Fixtures: every fixture image is made small with exactly its build.args, once at each level of `--keep`, and
//! then behaves, beyond what its probes exercised, as its LEVEL.expected says (no file: no check fails): no more
//! checks fail than are listed there, and no fewer. `UPDATE_EXPECTED=1` writes the names of the failing checks
//! anew; the reasons are for people to write.
//!
//! What is said about a failure in passing is gone with the next run, so each run's output stays in
//! `target/tmp/fixtures/`. Checks that come out otherwise than expected are run again: what does so twice in three
//! runs fails the test, what does so once is printed as INTERMITTENT.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use slim::keep::Level;

#[path = "fixtures/scanner.rs"]
mod scanner;
#[path = "fixtures/tally.rs"]
mod tally;

/// Between a check's name and the reason why it fails on a slim image.
const BETWEEN: &str = " — ";
/// What `UPDATE_EXPECTED` writes where a person has to write a reason.
const UNKNOWN: &str = "?";

/// A directory under fixtures/images.
struct Fixture {
    name: &'static str,
    dir: PathBuf,
}

/// A check that failed, and what it said.
struct Failure {
    name: String,
    why: String,
}

impl Fixture {
    fn new(name: &'static str) -> Self {
        Self { name, dir: Path::new("fixtures/images").join(name) }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap_or_default()
    }

    /// The lines of LEVEL.expected: check and reason, in the order of the file.
    fn expected(&self, level: Level) -> Vec<(String, String)> {
        let text = self.read(&expected_file(level));
        let split = |line: &str| {
            let (name, reason) = line.split_once(BETWEEN).unwrap_or((line, ""));
            (name.to_owned(), reason.to_owned())
        };
        text.lines().filter(|line| !line.is_empty()).map(split).collect()
    }

    /// The names of its checks.
    fn checks(&self) -> Vec<String> {
        let text = self.read("checks");
        let names = text.lines().filter_map(|line| line.strip_prefix("check \"")?.split('"').next());
        names.map(str::to_owned).collect()
    }

    /// Runs the checks on an image. Each of them has to come to a result.
    fn check(&self, image: &str) -> Vec<Failure> {
        let done = Command::new(self.dir.join("checks")).arg(image).output().unwrap();
        note(image, &shown(&done));
        let text = String::from_utf8_lossy(&done.stdout);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("ok ") || line.starts_with("not ok ")).collect();
        assert_eq!(lines.len(), self.checks().len(), "the checks of {image} did not all run: {}", shown(&done));
        let failed = lines.iter().filter_map(|line| line.strip_prefix("not ok ")?.split_once(": "));
        failed.map(|(name, why)| Failure { name: name.into(), why: why.into() }).collect()
    }

    /// Makes it small, has it checked, and compares; at the first level also the image as it was made.
    fn test(&self, level: Level) {
        let fat = format!("slim-fixture/{}:latest", self.name);
        if level == Level::Touched {
            let broken = tally::unexpected(&fat, &BTreeSet::new(), || self.check(&fat));
            assert!(broken.is_empty(), "the image as it was made fails:\n{}", list(&broken));
        }
        let slim = Slim::build(self, &fat, level);
        scanner::agrees_on_the_result(&slim.tag, &slim.report);
        if level == Level::Touched {
            scanner::agrees_on_the_original(&fat, &slim.report);
        }
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            return self.update(level, &self.check(&slim.tag));
        }
        let expected: BTreeSet<String> = self.expected(level).into_iter().map(|(name, _)| name).collect();
        let odd = tally::unexpected(&slim.tag, &expected, || self.check(&slim.tag));
        let (mended, new): (BTreeMap<_, _>, BTreeMap<_, _>) = odd.into_iter().partition(|(name, _)| expected.contains(name));
        assert!(
            mended.is_empty() && new.is_empty(),
            "{} at level {}, in two runs at least:\nfail and are not in {}:\n{}are in it and pass:\n{}output of the runs: {}",
            self.name,
            level.name(),
            self.dir.join(expected_file(level)).display(),
            list(&new),
            list(&mended),
            note_file(&slim.tag).display(),
        );
    }

    fn update(&self, level: Level, failures: &[Failure]) {
        let known: BTreeMap<String, String> = self.expected(level).into_iter().collect();
        let reason = |name: &str| known.get(name).map_or(UNKNOWN, String::as_str);
        let lines = failures.iter().map(|failure| format!("{}{BETWEEN}{}\n", failure.name, reason(&failure.name)));
        let text = lines.collect::<String>();
        let file = self.dir.join(expected_file(level));
        if !text.is_empty() {
            fs::write(file, text).unwrap();
        } else if file.exists() {
            fs::remove_file(file).unwrap();
        }
    }
}

fn expected_file(level: Level) -> String {
    format!("{}.expected", level.name())
}

/// Where the output of runs on an image is kept.
fn note_file(image: &str) -> PathBuf {
    let name = image.replace(['/', ':'], "_");
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures").join(format!("{name}.log"))
}

/// Adds to the output that is kept.
fn note(image: &str, text: &str) {
    let file = note_file(image);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut log = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    writeln!(log, "{text}").unwrap();
}

/// A slim image under a name of its own, gone afterwards.
struct Slim {
    tag: String,
    report: serde_json::Value,
}

impl Slim {
    /// Builds it: verified, and smaller. An image of the user's own files alone may be all of it at a higher level.
    fn build(fixture: &Fixture, fat: &str, level: Level) -> Self {
        let tag = format!("slim-fixture/{}.{}-{}:test", fixture.name, level.name(), std::process::id());
        let mut slim = Self { tag, report: serde_json::Value::Null };
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("report.json");
        let mut build = Command::new(env!("CARGO_BIN_EXE_slim"));
        build.args(["build", fat, "--keep", level.name(), "--tag", &slim.tag, "--report"]).arg(&report);
        let done = build.args(fixture.read("build.args").lines()).output().unwrap();
        note(&slim.tag, &shown(&done));
        assert_eq!(done.status.code(), Some(0), "{}", shown(&done));
        let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        assert_eq!(report["verdict"]["kind"], "verified", "{}", shown(&done));
        let size = |side: &str| report[side]["size_bytes"].as_u64().unwrap();
        assert_eq!(report["level"], level.name());
        let room = u64::from(level != Level::Touched);
        assert!(size("result") < size("source") + room, "{} is not smaller: {}", fixture.name, shown(&done));
        let counted = Command::new("docker").args(["image", "inspect", "--format", "{{.Size}}", &slim.tag]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), size("result").to_string(), "as the engine counts");
        slim.report = report;
        slim
    }
}

impl Drop for Slim {
    fn drop(&mut self) {
        // The result of a test does not depend on it; an image that is not there is no news.
        Command::new("docker").args(["rmi", &self.tag]).output().ok();
    }
}

fn shown(done: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", done.status, text(&done.stdout), text(&done.stderr))
}

fn list(failures: &BTreeMap<String, String>) -> String {
    failures.iter().map(|(name, why)| format!("  {name}: {why}\n")).collect()
}

/// A module per fixture with a test per level, so that several run at a time: `cargo test --test fixtures nginx::app`.
macro_rules! fixtures {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            mod $name {
                use super::{Fixture, Level};

                #[test]
                #[ignore = "needs a container engine: tests/run starts one"]
                fn touched() {
                    Fixture::new(stringify!($name)).test(Level::Touched);
                }

                #[test]
                #[ignore = "needs a container engine: tests/run starts one"]
                fn app() {
                    Fixture::new(stringify!($name)).test(Level::App);
                }

                #[test]
                #[ignore = "needs a container engine: tests/run starts one"]
                fn package() {
                    Fixture::new(stringify!($name)).test(Level::Package);
                }
            }
        )*
    };
}

fixtures!(
    postgres apache batch cron distroless django express fastapi flask golang imagemagick jvm mariadb memcached musl next nginx oddities
    overlayinit redis scratch sinatra supervisord
);

#[test]
fn every_fixture_has_its_test() {
    let dirs = fs::read_dir("fixtures/images").unwrap().map(|dir| dir.unwrap().path());
    for dir in dirs.filter(|dir| dir.join("build.args").exists()) {
        let name = dir.file_name().unwrap().to_str().unwrap();
        assert!(NAMES.contains(&name), "fixtures/images/{name} has no test here");
    }
}

#[test]
fn every_expected_failure_is_a_check_and_has_a_reason() {
    for fixture in NAMES.iter().copied().map(Fixture::new) {
        let checks = fixture.checks();
        assert!(checks.len() >= 8, "{} checks too little", fixture.name);
        let levels = [Level::Touched, Level::App, Level::Package];
        for (name, reason) in levels.into_iter().flat_map(|level| fixture.expected(level)) {
            assert!(checks.contains(&name), "{}: no check is called '{name}'", fixture.name);
            assert!(!reason.is_empty() && reason != UNKNOWN, "{}: why does '{name}' fail?", fixture.name);
        }
    }
}

/// Of all checks beyond the probes, the part that a level promises to pass, in percent.
const PROMISED: &[(Level, usize)] = &[(Level::App, 90), (Level::Package, 98)];

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn xray_tells_of_an_image_what_a_scanner_finds_in_it() {
    for (name, least) in [("flask", 100), ("golang", 2), ("next", 50)] {
        scanner::agrees_with_xray(&format!("slim-fixture/{name}:latest"), least);
    }
}

/// An image of nothing but the databases that rpm wrote.
#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn xray_tells_of_an_rpm_database_what_a_scanner_finds_in_it() {
    for (database, distribution) in [("rpmdb.sqlite", "ID=fedora\nVERSION_ID=40\n"), ("Packages.db", "ID=opensuse-leap\nVERSION_ID=15.6\n")] {
        let root = tempfile::tempdir().unwrap();
        for dir in ["etc", "usr/lib/sysimage/rpm"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        fs::write(root.path().join("etc/os-release"), distribution).unwrap();
        if distribution.contains("fedora") {
            // By this file trivy knows it.
            fs::write(root.path().join("etc/fedora-release"), "Fedora release 40 (Forty)\n").unwrap();
        }
        let packed = fs::File::open(format!("fixtures/rpm/{database}.gz")).unwrap();
        let mut out = fs::File::create(root.path().join("usr/lib/sysimage/rpm").join(database)).unwrap();
        std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut out).unwrap();
        let image = format!("slim-test/rpm-{}:1", std::process::id());
        let made = Command::new("sh").args(["-c", "tar -cC \"$1\" . | docker import - \"$2\"", "sh"]).arg(root.path()).arg(&image).output();
        assert!(made.unwrap().status.success(), "docker cannot import {database}");
        scanner::agrees_with_xray(&image, 3);
        Command::new("docker").args(["rmi", &image]).output().unwrap();
    }
}

#[test]
fn each_level_passes_the_part_of_the_checks_that_it_promises() {
    for (level, promised) in PROMISED {
        let fixtures = || NAMES.iter().copied().map(Fixture::new);
        let total: usize = fixtures().map(|fixture| fixture.checks().len()).sum();
        let failing = |fixture: Fixture| (fixture.name, fixture.expected(*level).len());
        let failing: Vec<(&str, usize)> = fixtures().map(failing).filter(|(_, count)| *count > 0).collect();
        let passed = total - failing.iter().map(|(_, count)| count).sum::<usize>();
        assert!(passed * 100 >= promised * total, "{} passes {passed} of {total}; fail: {failing:?}", level.name());
    }
}
