//! Reports, from the values that stages hand over to what a person or a program reads. Pure: no engine.
//!
//! Golden texts are in fixtures/report; UPDATE_GOLDEN=1 writes them anew.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slim::exit::Exit;
use slim::image::{Entry, ImageConfig, ImagePath, Kind, Tree};
use slim::keep::{AppRoot, KeepSet, Level, Reason, Walker};
use slim::packages::Packages;
use slim::probe::{Action, Answer, Body, Content, Expect, HttpRequest, Outcome, Request};
use slim::report::model::{self, Compared, Difference, Verify};
use slim::report::show::{MAX_LINES, Style, show};
use slim::report::{Builder, Finished, Options, Redactor, Report, VerdictKind, file, load, load_removed, why};
use slim::sensor::event::Recorders;
use slim::trace::Trace;

#[path = "report/sbom.rs"]
mod sbom;
#[path = "report/schema.rs"]
mod schema;
#[path = "report/views.rs"]
mod views;
#[path = "report/why.rs"]
mod whys;

const CANARY: &str = "canary-9f3Kq7Zt";
const HOSTILE: &[u8] = b"/srv/\x1b]0;owned\x07\x1b[2J\n\xe2\x80\xaegpj.exe\xff";

// ---- the material: a small web server -------------------------------------------------------------------

fn file_of(size: u64, mode: u32) -> Entry {
    let mut entry = Entry::new(Kind::File);
    (entry.size, entry.mode) = (size, mode);
    entry
}

fn link(to: &str) -> Entry {
    Entry::new(Kind::Symlink { target: to.as_bytes().to_vec() })
}

fn dir() -> Entry {
    Entry::new(Kind::Directory)
}

fn server_tree() -> Tree {
    let mut tree: Tree = [
        ("/", dir()),
        ("/bin", link("usr/bin")),
        ("/lib", link("usr/lib")),
        ("/etc", dir()),
        ("/etc/nginx.conf", file_of(1_200, 0o644)),
        ("/etc/hosts", file_of(0, 0o644)),
        ("/etc/shadow.bak", file_of(600, 0o600)),
        ("/usr", dir()),
        ("/usr/bin", dir()),
        ("/usr/bin/apt", file_of(18_000, 0o755)),
        ("/usr/bin/bash", file_of(1_265_000, 0o755)),
        ("/usr/bin/curl", file_of(277_000, 0o755)),
        ("/usr/bin/dash", file_of(125_000, 0o755)),
        ("/usr/bin/passwd", file_of(68_000, 0o4755)),
        ("/usr/bin/sh", link("dash")),
        ("/usr/lib", dir()),
        ("/usr/lib/ld.so.2", file_of(210_000, 0o755)),
        ("/usr/lib/libc.so.6", file_of(1_900_000, 0o755)),
        ("/usr/lib/libssl.so.3", file_of(668_000, 0o644)),
        ("/usr/lib/libssl.so.3.0.1", link("libssl.so.3")),
        ("/usr/sbin", dir()),
        ("/usr/sbin/nginx", file_of(1_270_000, 0o755)),
        ("/usr/share", dir()),
        ("/usr/share/doc", dir()),
        ("/var", dir()),
        ("/var/www", dir()),
        ("/var/www/index.html", file_of(615, 0o644)),
    ]
    .map(|(path, entry)| (ImagePath::from(path), entry))
    .into_iter()
    .collect();
    for n in 0..40 {
        tree.insert(format!("/usr/share/doc/pkg{n:02}").as_str().into(), dir());
        tree.insert(format!("/usr/share/doc/pkg{n:02}/copyright").as_str().into(), file_of(9_000, 0o644));
    }
    tree.insert(ImagePath::new(HOSTILE), file_of(5, 0o644));
    tree
}

fn touched(how: &str, process: &str, probe: &str) -> Reason {
    Reason::Touched { how: how.into(), process: process.into(), probe: probe.into() }
}

fn server_keep() -> KeepSet {
    let on_the_way = |to: &str| vec![Reason::OnTheWay { to: to.into() }];
    let needed = |by: &str| vec![Reason::NeededBy { object: by.into() }];
    let mut kept: BTreeMap<ImagePath, Vec<Reason>> = [
        ("/", on_the_way("/usr")),
        ("/bin", on_the_way("/usr/bin/sh")),
        ("/lib", on_the_way("/usr/lib/ld.so.2")),
        ("/etc", on_the_way("/etc/nginx.conf")),
        ("/etc/nginx.conf", vec![touched("opened", "/usr/sbin/nginx", "start")]),
        ("/usr", on_the_way("/usr/sbin/nginx")),
        ("/usr/bin", on_the_way("/usr/bin/sh")),
        ("/usr/bin/dash", vec![touched("executed", "/usr/bin/dash", "start"), touched("stat()ed", "/usr/bin/du", "stop")]),
        ("/usr/bin/sh", vec![Reason::LinkTo { target: "/usr/bin/dash".into() }]),
        ("/usr/lib", on_the_way("/usr/lib/libc.so.6")),
        ("/usr/lib/ld.so.2", vec![Reason::InterpreterOf { program: "/usr/sbin/nginx".into() }]),
        ("/usr/lib/libc.so.6", [needed("/usr/lib/libssl.so.3"), needed("/usr/sbin/nginx")].concat()),
        ("/usr/lib/libssl.so.3", needed("/usr/sbin/nginx")),
        ("/usr/lib/libssl.so.3.0.1", vec![Reason::LinkTo { target: "/usr/lib/libssl.so.3".into() }]),
        ("/usr/sbin", on_the_way("/usr/sbin/nginx")),
        ("/usr/sbin/nginx", vec![touched("executed", "/usr/bin/dash", "start")]),
        ("/var", on_the_way("/var/www")),
        ("/var/www", vec![Reason::Rule { name: "workdir".into(), by: None }]),
        ("/var/www/index.html", vec![touched("opened", "/usr/sbin/nginx", &format!("GET /?token={CANARY}"))]),
    ]
    .map(|(path, reasons)| (ImagePath::from(path), reasons))
    .into();
    kept.insert(ImagePath::new(HOSTILE), vec![Reason::Include { flag: "--include-path /srv/**".into() }]);
    KeepSet {
        kept,
        left_out: [("/etc/hosts".into(), "engine-provided".to_owned())].into(),
        written: BTreeMap::new(),
        warnings: vec!["--include-path /opt/none matches nothing".into()],
        level: Level::Touched,
        app: vec![AppRoot { root: "/var/www".into(), files: 3, kept: 1, bytes: 41_000 }],
        walkers: vec![Walker { process: "/usr/bin/du, started by the target".into(), files: 12, bytes: 4_200_000 }],
        scripts: Vec::new(),
    }
}

fn body(bytes: &[u8]) -> Body {
    Body { length: bytes.len() as u64, sha256: "ab".repeat(32), bytes: Some(bytes.to_vec()) }
}

fn http(path: &str, status: u16, text: &str) -> Answer {
    let request = HttpRequest {
        tls: Some(false),
        http2: false,
        port: 80,
        method: "GET".into(),
        path: path.into(),
        headers: vec![("Authorization".into(), format!("Bearer {CANARY}"))],
        body: None,
        host: None,
    };
    Answer {
        request: Request {
            probe: "http GET /".into(),
            name: format!("GET {path}"),
            action: Action::Http(request),
            stated: path == "/",
            expect: Expect { status: Some(200), contains: None },
            timeout: Duration::from_secs(10),
        },
        content: Content::Http {
            status,
            headers: [("content-type".to_owned(), "text/html".to_owned())].into(),
            body: body(text.as_bytes()),
        },
        outcome: Outcome::Passed,
        took: Duration::from_millis(3),
    }
}

fn image(name: &str, size: u64, layers: u64) -> model::Image {
    model::Image {
        reference: name.into(),
        tags: vec![name.into()],
        digest: format!("sha256:{}", "1f".repeat(32)),
        size_bytes: size,
        layers,
        ..model::Image::default()
    }
}

fn filled(options: Options) -> Builder {
    let mut redactor = Redactor::new();
    let env = ["PATH=/usr/bin".to_owned(), format!("API_TOKEN={CANARY}")];
    redactor.learn_env(&env);
    let mut builder = Builder::new(options, redactor);
    builder.source(image("shop/web:1.4", 187_654_321, 5));
    let argv = ["/usr/sbin/nginx".to_owned(), format!("--secret={CANARY}"), "-g".into(), "daemon off;".into()];
    builder.target(&argv, "www-data", "/var/www", &env);
    let trace = Trace {
        recorders: Recorders {
            fanotify: Some("fanotify".into()),
            syscalls: Some("user-notification".into()),
            why: String::new(),
        },
        accesses: 1_234,
        notes: vec![format!("io_uring was refused; token={CANARY}")],
        ..Trace::default()
    };
    builder.trace(&trace, &[310, 0], true);
    builder.decided(&server_tree(), &server_keep(), &Packages::default());
    let config = |text: &str| ImageConfig::parse(text.as_bytes()).unwrap();
    builder.config(
        &config(&format!(r#"{{"config":{{"Env":["API_TOKEN={CANARY}"]}}}}"#)),
        &config(r#"{"config":{"Env":["API_TOKEN=other"],"Labels":{"slim.keep":"sha256:00"}}}"#),
    );
    builder.result(image("shop/web.slim:1.4", 5_456_789, 1));
    builder.phases(vec![model::Phase { name: "record".into(), start: 0.5, seconds: 3.25, bytes: None }]);
    let secret = |name: &str, path: Option<&str>, line, present| model::Secret {
        package: None,
        rule: "variable".into(),
        description: "variable that is named like a secret".into(),
        place: if path.is_some() { model::SecretPlace::File } else { model::SecretPlace::Environment },
        path: path.map(ImagePath::from),
        name: path.is_none().then(|| name.to_owned()),
        line,
        present,
    };
    builder.secrets(vec![secret("API_TOKEN", None, None, true), secret("", Some("/app/.env"), Some(3), false)]);
    builder
}

fn verified() -> Finished {
    let mut builder = filled(Options::default());
    let answers = [http("/", 200, "hello"), http("/about.html", 200, "about")];
    builder.answers(&answers, Some(&answers));
    let compared = Compared { answers: 2, whole: 1, masked: 1, status_only: 0 };
    builder.verify(Verify { compared, rounds: 1, ..Verify::default() });
    builder.finish(VerdictKind::Verified, "", Exit::Done)
}

fn failed() -> Finished {
    let mut builder = filled(Options::default());
    let broken = [http("/", 200, "hello"), http("/about.html", 500, "oops")];
    builder.answers(&[http("/", 200, "hello"), http("/about.html", 200, "about")], Some(&broken));
    let compared = Compared { answers: 2, whole: 2, masked: 0, status_only: 0 };
    builder.verify(Verify {
        compared,
        differences: vec![Difference {
            request: "GET /about.html".into(),
            expected: "200 text/html, 5 bytes".into(),
            got: "500 text/html, 4 bytes".into(),
        }],
        rounds: 2,
        missed: Vec::new(),
        repaired: vec![],
        log_tail: vec![format!("open() failed, password={CANARY}")],
        ..Verify::default()
    });
    builder.finish(VerdictKind::Failed, "", Exit::Differs)
}

// ---- helpers --------------------------------------------------------------------------------------------

fn golden(name: &str, text: &str) {
    let path = Path::new("fixtures/report").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all("fixtures/report").unwrap();
        fs::write(&path, text).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert!(want == text, "{} differs; UPDATE_GOLDEN=1 writes it anew. It is now:\n{text}", path.display());
}

fn written(finished: &mut Finished) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("slim.report.json");
    finished.write(&path).unwrap();
    (home, path)
}

fn tell(report: &Report, removed: Option<&[model::RemovedPath]>, query: &str) -> String {
    why::find(report, removed, query).unwrap().tell(report, Style::default())
}

fn assert_harmless(text: &str) {
    for bad in ["\x1b", "\x07", "\u{202e}"] {
        assert!(!text.contains(bad), "{bad:?} in {text:?}");
    }
}

// ---- what people read -----------------------------------------------------------------------------------

#[test]
fn a_summary_says_the_verdict_first_and_fits_one_screen() {
    let paint = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    let file = Some("slim.report.json");
    let mut flaky = filled(Options::default());
    flaky.warnings((0..40).map(|n| format!("port {n} answers only on 127.0.0.1")));
    let mut early = Builder::new(Options::default(), Redactor::new());
    early.source(image("shop/web:1.4", 187_654_321, 5));
    early.incomplete_trace("fanotify queue overflow");
    for (name, report) in [
        ("show-verified.txt", verified().report),
        ("show-failed.txt", failed().report),
        ("show-unverified.txt", {
            let mut builder = filled(Options::default());
            builder.answers(&[http("/", 200, "hello")], None);
            builder.finish(VerdictKind::Unverified, "--no-verify was given", Exit::Done).report
        }),
        ("show-flaky.txt", flaky.finish(VerdictKind::Flaky, "GET /time gave 200, then 503", Exit::Baseline).report),
        ("show-early.txt", early.finish(VerdictKind::Failed, "the recording is incomplete", Exit::Trace).report),
    ] {
        let text = show(&report, Style { width: 100, color: false }, file);
        assert!(text.lines().count() <= MAX_LINES, "{name}");
        assert!(text.starts_with(&report.verdict.line), "{name}");
        golden(name, &text);
        let narrow = show(&report, Style { width: 50, color: false }, file);
        assert!(narrow.lines().all(|line| line.chars().count() <= 50), "{narrow}");
        let colored = show(&report, Style { width: 100, color: true }, file);
        let plain = paint.replace_all(&colored, "").into_owned();
        assert_eq!(plain, text, "colour changes no word");
    }
}

#[test]
fn the_file_is_the_same_every_time_and_one_line_for_each_kept_path() {
    let text = file::to_json(&failed().report);
    assert_eq!(text, file::to_json(&failed().report));
    golden("failed.report.json", &text);
    let kept_lines = text.lines().filter(|line| line.starts_with("  {\"path\": ")).count();
    assert!(kept_lines >= failed().report.kept.len());
}

#[test]
fn hostile_names_reach_no_output_raw() {
    let mut finished = verified();
    finished.report.warnings.push(String::from_utf8_lossy(HOSTILE).into_owned());
    finished.report.walkers[0].process = String::from_utf8_lossy(HOSTILE).into_owned();
    finished.report.source.reference = String::from_utf8_lossy(HOSTILE).into_owned();
    let (_home, path) = written(&mut finished);
    let removed = load_removed(&path, &finished.report).unwrap();
    assert_harmless(&show(&finished.report, Style::default(), Some("slim.report.json")));
    for query in ["/srv/**", "/**", &ImagePath::new(HOSTILE).encode()] {
        let text = tell(&finished.report, removed.as_deref(), query);
        assert_harmless(&text);
        assert!(text.contains("gpj.exe\\xff"), "{text}");
    }
    let beside = file::list_path(&path);
    assert_harmless(&fs::read_to_string(&path).unwrap());
    assert_harmless(&fs::read_to_string(&beside).unwrap());
}

#[test]
fn no_secret_reaches_any_output() {
    for options in [Options::default(), Options { full: true, bodies: true }] {
        let mut builder = filled(options);
        let mut answers = vec![http("/", 200, &format!("your token is {CANARY}")), http(&format!("/x?token={CANARY}"), 200, "")];
        answers[1].outcome = Outcome::Failed(format!("sent Authorization: Bearer {CANARY}"));
        builder.answers(&answers, Some(&answers));
        builder.warnings([format!("the log says password: {CANARY}")]);
        builder.verify(failed().report.verify.unwrap());
        let mut finished = builder.finish(VerdictKind::Failed, &format!("exit 1: {CANARY}"), Exit::Differs);
        let (home, path) = written(&mut finished);
        for file in fs::read_dir(home.path()).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(!text.contains(CANARY), "{text}");
        }
        let report = load(&path).unwrap();
        assert!(report.target.env_names.contains(&"API_TOKEN".to_owned()));
        assert!(!show(&report, Style::default(), None).contains(CANARY));
        assert!(!tell(&report, None, "/**").contains(CANARY));
    }
}

// ---- what programs read ---------------------------------------------------------------------------------

#[test]
fn a_report_reads_back_as_it_was_written() {
    for full in [false, true] {
        let mut builder = filled(Options { full, bodies: true });
        let answers = [http("/", 200, "hello")];
        builder.answers(&answers, Some(&answers));
        let mut finished = builder.finish(VerdictKind::Unverified, "", Exit::Done);
        let (_home, path) = written(&mut finished);
        let report = load(&path).unwrap();
        assert_eq!(report, finished.report);
        assert_eq!(report.kept.iter().find(|k| k.path.starts_with(&"/srv".into())).unwrap().path, ImagePath::new(HOSTILE));
        let removed = load_removed(&path, &report).unwrap().unwrap();
        assert_eq!(removed.len() as u64, report.removed.files + report.removed.directories);
    }
}

#[test]
fn figures_add_up() {
    let report = verified().report;
    let removed = &report.removed;
    assert_eq!(report.source.content_bytes, report.kept_bytes() + removed.bytes);
    assert_eq!(report.source.files, report.kept_files() + removed.files);
    assert_eq!(removed.groups.iter().map(|group| group.bytes).sum::<u64>(), removed.bytes);
    assert_eq!(removed.groups.iter().map(|group| group.files).sum::<u64>(), removed.files);
    assert_eq!(report.shares().iter().map(|share| share.files).sum::<u64>(), report.kept_files());
}

#[test]
fn what_engines_put_in_every_container_is_not_said_to_be_missing_from_the_image() {
    let report = verified().report;
    for path in ["/etc/mtab", "/.dockerenv", "/run/.containerenv"] {
        for removed in [None, Some(&[][..])] {
            let text = tell(&report, removed, path);
            assert!(text.contains("engines put their own there in every container"), "{text}");
        }
    }
    assert!(tell(&report, Some(&[]), "/etc/hosts.allow").contains("not in the original image"));
}

#[test]
fn fields_of_a_newer_minor_version_are_skipped() {
    let text = file::to_json(&verified().report)
        .replacen("slim.report/1", "slim.report/1.7", 1)
        .replacen("\"verdict\": {", "\"mood\": {\"x\": [1]}, \"verdict\": {\"colour\": \"green\",", 1)
        .replacen("\"kind\": \"link_to\"", "\"kind\": \"dreamt_of\"", 1);
    let report = file::parse(text.as_bytes()).unwrap();
    assert!(report.reasons.contains(&model::Reason::Unknown));
    assert_eq!(report.kept.len(), verified().report.kept.len());
    assert_eq!(file::parse(br#"{"schema": "slim.report/1"}"#).unwrap().kept, []);
}

#[test]
fn what_is_not_a_readable_report_is_refused_with_a_clear_line() {
    let whole = file::to_json(&verified().report);
    let cut = &whole[..whole.len() / 2];
    let newer = whole.replacen("slim.report/1", "slim.report/2", 1);
    for (text, says) in [
        (newer.as_str(), "of a newer version (slim.report/2)"),
        (cut, "cut short at line"),
        (r#"{"version":"1.1","engine":"x","containerized":false}"#, "a report of SlimToolkit, which `slim diff` compares"),
        (r#"{"a": 1}"#, "no `schema`"),
        (r#"{"schema": "other/1"}"#, "its `schema` is `other/1`"),
        ("<html>", "not JSON"),
        (r#"{"schema": "slim.report/1", "kept": 3}"#, "another shape"),
        ("", "cut short"),
    ] {
        let error = format!("{:#}", file::parse(text.as_bytes()).unwrap_err());
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_report_is_written_whole_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("r.json");
    fs::write(&path, "old").unwrap();
    let link = home.path().join("link.json");
    std::os::unix::fs::symlink("r.json", &link).unwrap();
    file::write(&link, &verified().report).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "a link stays a link");
    assert!(load(&path).is_ok());
    let left = fs::read_dir(home.path()).unwrap().count();
    assert_eq!(left, 2, "no temporary file stays");
    file::write(Path::new("/dev/null"), &verified().report).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file(), "a device is written to, not replaced");
    assert!(slim::report::check_path(&path).is_ok());
    assert!(slim::report::check_path(home.path()).is_err());
    assert!(slim::report::check_path(&home.path().join("no/such/r.json")).is_err());
}

#[test]
fn a_hundred_thousand_files_are_grouped_and_written_quickly() {
    let mut tree = Tree::new();
    let mut keep = KeepSet::default();
    tree.insert(ImagePath::root(), dir());
    for n in 0..100_000u64 {
        let path = ImagePath::from(format!("/usr/lib/node_modules/m{}/dist/d{}/f{n}.js", n % 900, n % 13).as_str());
        tree.insert(path, file_of(n % 5000, 0o644));
        let path = ImagePath::from(format!("/opt/app/{}/{}/f{n}", n % 70, n % 50).as_str());
        tree.insert(path.clone(), file_of(100, 0o644));
        keep.kept.insert(path, vec![touched("opened", "/usr/bin/node", "http GET /")]);
    }
    let begin = Instant::now();
    let mut builder = Builder::new(Options::default(), Redactor::new());
    builder.source(image("big:1", 1 << 30, 30));
    builder.decided(&tree, &keep, &Packages::default());
    let mut finished = builder.finish(VerdictKind::Unverified, "", Exit::Done);
    let (_home, path) = written(&mut finished);
    let report = load(&path).unwrap();
    let took = begin.elapsed();
    assert_eq!(report.removed.files, 100_000);
    assert!(report.removed.groups.len() <= 400, "{}", report.removed.groups.len());
    assert_eq!(report.reasons.len(), 1, "reasons are interned");
    // Unoptimised and on a busy machine; optimised it is well below a second.
    assert!(took < Duration::from_secs(20), "{took:?}");
    let text = tell(&report, load_removed(&path, &report).unwrap().as_deref(), "/usr/lib/node_modules/m7/**");
    assert!(text.contains("never touched"));
}
