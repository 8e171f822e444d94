//! Deciding what stays, on images written as text: every fixture under fixtures/trees against its golden.
//! `UPDATE_GOLDEN=1 cargo test --test keep` writes the goldens anew; read the difference before committing it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slim::image::{Entry, ImageConfig, ImagePath, Kind, Tree};
use slim::keep::replay::{Fixture, replay, replay_at};
use slim::keep::{Elf, Facts, FileFacts, Level, Policy, Step, answer, decide};
use slim::packages::Packages;
use slim::sensor::event::{AccessKind, Process};
use slim::trace::{Fact, Trace};

fn fixtures() -> Vec<PathBuf> {
    let dirs = fs::read_dir("fixtures/trees").unwrap().map(|entry| entry.unwrap().path());
    let mut dirs: Vec<PathBuf> = dirs.filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

/// A fixture as its policy.toml says, and at each level for which it has a golden of its own.
fn levels(dir: &PathBuf) -> Vec<(&PathBuf, Option<Level>)> {
    let own = [Level::App, Level::Package].map(Some).into_iter().filter(|level| golden(dir, *level).exists());
    std::iter::once(None).chain(own).map(|level| (dir, level)).collect()
}

fn golden(dir: &Path, level: Option<Level>) -> PathBuf {
    dir.join(level.map_or("expected.txt".into(), |level| format!("expected.{}.txt", level.name())))
}

/// The lines that differ, `-` expected and `+` got, so that a failure names path and reason.
fn difference(expected: &str, got: &str) -> String {
    let gone = expected.lines().filter(|line| !got.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let new = got.lines().filter(|line| !expected.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_stays_and_why_is_as_expected() {
    let mut wrong = Vec::new();
    for (dir, level) in fixtures().iter().flat_map(levels) {
        let got = match level {
            None => replay(dir),
            Some(level) => replay_at(dir, level),
        };
        let got = got.unwrap_or_else(|error| panic!("{}: {error:#}", dir.display()));
        let golden = golden(dir, level);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &got).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if expected != got {
            wrong.push(format!("{}:\n{}", golden.display(), difference(&expected, &got)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

/// A rule that no fixture sets off could be wrong for years.
#[test]
fn every_rule_keeps_something_in_some_fixture() {
    let goldens = fixtures().into_iter().flat_map(|dir| {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("expected")).collect::<Vec<_>>()
    });
    let text: String = goldens.map(|path| fs::read_to_string(path).unwrap()).collect();
    let said = |name: &str| text.split(|c: char| "; ,\n".contains(c)).any(|word| word == name);
    let silent: Vec<&str> = slim::keep::describe_rules().map(|(name, _)| name).filter(|name| !said(name)).collect();
    assert!(silent.is_empty(), "no fixture under fixtures/trees sets off: {silent:?}");
}

/// What has to hold for every keep set, whatever the image.
#[test]
fn a_keep_set_holds_together() {
    for dir in fixtures() {
        let fixture = Fixture::read(Path::new(&dir)).unwrap();
        let keep = fixture.decide().unwrap();
        for (path, reasons) in &keep.kept {
            assert!(fixture.tree.contains(path), "{path} is not in the image");
            assert!(!reasons.is_empty(), "{path} has no reason");
            assert!(path.parent().is_none_or(|above| keep.kept.contains_key(&above)), "{path} has no directory");
        }
        assert!(keep.left_out.keys().all(|path| !keep.kept.contains_key(path)));
        let again = fixture.decide().unwrap();
        assert_eq!(keep, again);
        assert_eq!(keep.digest(), again.digest());
    }
}

/// A big image: 200,000 entries with libraries, links and modules, of which a run touched 20,000 (a tenth of
/// that without optimisation).
fn big_image() -> (Tree, Trace, Facts) {
    let mut tree = Tree::new();
    let mut trace = Trace::default();
    let mut facts = Facts::new();
    let dir = Entry::new(Kind::Directory);
    for path in ["/", "/usr", "/usr/lib", "/usr/bin", "/lib64", "/opt"] {
        tree.insert(path.into(), dir.clone());
    }
    let exe = |text: &[u8]| Process { id: 0, pid: 1, exe: text.into(), comm: String::new(), origin: "target".into() };
    trace.processes.insert(0, exe(b"/usr/bin/app"));
    trace.marks.insert(0, "start".into());
    let mut touch = |path: &str, kind: AccessKind, resolved: bool| {
        let fact = Fact { kind, resolved, call: String::new(), nofollow: false, process: 0, mark: 0 };
        trace.facts.entry(path.as_bytes().to_vec()).or_default().push(fact);
    };
    for n in 0..200 {
        let library = format!("/usr/lib/liba{n}.so.1");
        let needed = (0..8).map(|k| format!("liba{}.so.1", (n * 7 + k * 13) % 200)).collect();
        let elf = Elf { class: 64, machine: 62, needed, ..Elf::default() };
        facts.insert(library.as_str().into(), FileFacts { elf: Some(elf), ..FileFacts::default() });
        tree.insert(library.as_str().into(), Entry::new(Kind::File));
        let target = format!("/usr/lib/liba{n}.so.1").into_bytes();
        tree.insert(format!("/lib64/liba{n}.so.1").as_str().into(), Entry::new(Kind::Symlink { target }));
        touch(&library, AccessKind::Open, true);
    }
    let packages = if cfg!(debug_assertions) { 100 } else { 1000 };
    for package in 0..packages {
        let site = format!("/opt/python3/lib/site-packages/package{package}");
        for above in ImagePath::from(site.as_str()).ancestors() {
            tree.insert(above, dir.clone());
        }
        tree.insert(site.as_str().into(), dir.clone());
        tree.insert(format!("{site}/__pycache__").as_str().into(), dir.clone());
        for module in 0..98 {
            for path in [format!("{site}/m{module}.py"), format!("{site}/__pycache__/m{module}.cpython-313.pyc")] {
                tree.insert(path.as_str().into(), Entry::new(Kind::File));
                if package % 10 == 0 {
                    touch(&path, if module % 2 == 0 { AccessKind::Open } else { AccessKind::Stat }, module % 2 == 0);
                }
            }
        }
    }
    (tree, trace, facts)
}

/// And at level `app` nothing of the user's own goes.
#[test]
fn each_level_keeps_what_the_one_before_it_keeps() {
    for dir in fixtures() {
        let mut fixture = Fixture::read(&dir).unwrap();
        let mut at = |level| {
            fixture.policy.level = level;
            fixture.decide().unwrap()
        };
        let (touched, app, package) = (at(Level::Touched), at(Level::App), at(Level::Package));
        for (less, more) in [(&touched, &app), (&app, &package)] {
            let gone: Vec<&ImagePath> = less.kept.keys().filter(|path| !more.kept.contains_key(*path)).collect();
            assert!(gone.is_empty(), "{}: {gone:?} go at a higher level", dir.display());
        }
        assert_eq!(app.app.iter().map(|app| app.bytes).sum::<u64>(), 0, "{}", dir.display());
    }
}

#[test]
fn a_big_image_is_decided_quickly() {
    let (tree, trace, known) = big_image();
    let config = ImageConfig::parse(b"{}").unwrap();
    let policy = Policy { workdir: "/".into(), ..Policy::default() };
    let mut facts = Facts::new();
    // Of this thread: what else the machine does costs nothing here.
    let now = || Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let begin = now();
    let mut rounds = Vec::new();
    let keep = loop {
        let begin = now();
        let step = decide(&tree, &trace, &config, &policy, &facts, &Packages::default());
        rounds.push(now() - begin);
        match step {
            Step::Done(keep) => break keep,
            Step::Need(need) => answer(&mut facts, need, known.clone()),
        }
    };
    let took = now() - begin;
    assert!(keep.kept.len() > trace.facts.len());
    // Half a second for both rounds with optimisation.
    let slow = took.as_secs() >= 10 || std::env::var_os("SHOW_TIMES").is_some();
    assert!(!slow, "{took:?}: {rounds:?}, {} entries, {} facts", tree.len(), trace.facts.len());
}

/// A file that cannot be read, and one too large for a text, are asked for once.
#[test]
fn what_cannot_be_found_out_is_not_asked_for_again() {
    let fixture = Fixture::read(Path::new("fixtures/trees/nginx")).unwrap();
    let mut facts = Facts::new();
    let mut asked = std::collections::BTreeSet::new();
    while let Step::Need(need) = decide(
        &fixture.tree,
        &fixture.trace,
        &fixture.config,
        &fixture.policy,
        &facts,
        &fixture.packages,
    ) {
        for (path, want) in &need {
            assert!(asked.insert((path.clone(), *want)), "{path} is asked for again");
        }
        answer(&mut facts, need, Facts::new());
    }
    assert!(!asked.is_empty());
}

/// What the linker was told is what is read, by program headers alone.
#[test]
fn facts_of_an_object_are_what_the_linker_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let run = |program: &str, args: &[&str]| {
        let done = std::process::Command::new(program).args(args).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let note = r#"[{"soname":["libz.so.1"],"priority":"recommended"},{"soname":["libx.so"],"priority":"suggested"}]"#;
    fs::write(at("note.json"), note).unwrap();
    let assembly = [
        ".section .note.dlopen,\"a\",%note",
        ".balign 4",
        ".long 4, 2f-1f, 0x407c0c0a",
        ".asciz \"FDO\"",
        "1: .incbin \"note.json\"",
        ".byte 0",
        "2: .balign 4",
        ".section .note.GNU-stack,\"\",%progbits\n",
    ];
    fs::write(at("note.s"), assembly.join("\n")).unwrap();
    fs::write(at("lib.c"), "int f(void) { return 0; }").unwrap();
    fs::write(at("main.c"), "int f(void); int main(void) { return f(); }").unwrap();
    run("cc", &["-shared", "-fPIC", "lib.c", "note.s", "-o", "libf.so.1", "-Wl,-soname,libf.so.1"]);
    run("cc", &["main.c", "libf.so.1", "-o", "old", "-Wl,--disable-new-dtags,-rpath,/a:/b"]);
    run("cc", &["main.c", "libf.so.1", "-o", "new", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib"]);
    // The loader needs no section headers, and some programs have none: e_shoff, e_shnum, e_shstrndx.
    let mut new = fs::read(at("new")).unwrap();
    new[0x28..0x30].fill(0);
    new[0x3c..0x40].fill(0);
    fs::write(at("new"), new).unwrap();
    let facts = |name: &str| slim::keep::elf::facts(&mut fs::File::open(at(name)).unwrap()).elf.unwrap();
    let (library, old, new) = (facts("libf.so.1"), facts("old"), facts("new"));
    assert_eq!(library.soname.as_deref(), Some("libf.so.1"));
    assert_eq!(library.dlopen, ["libz.so.1"]);
    assert_eq!((old.rpath.as_slice(), old.runpath.len()), (&["/a".to_owned(), "/b".to_owned()][..], 0));
    assert_eq!((new.runpath, new.rpath.len()), (vec!["$ORIGIN/../lib".to_owned()], 0));
    assert!(new.needed.contains(&"libf.so.1".to_owned()) && new.needed.iter().any(|name| name.starts_with("libc.")));
    assert!(new.interpreter.unwrap().contains("ld-"));
}
