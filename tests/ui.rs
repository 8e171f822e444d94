//! The ui in its modes: which words go to which stream.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use slim::exit::{Exit, Hint};
use slim::progress::{Fact, Monitor};
use slim::report::model::{Image, Verdict};
use slim::report::show::Style;
use slim::report::{Redactor, Report, VerdictKind};
use slim::ui::{Mode, Ui};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream whose reader went away, or whose disk is full.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn image(name: &str, size: u64) -> Image {
    Image { reference: name.into(), size_bytes: size, files: size / 1000, layers: 1, ..Image::default() }
}

/// Everything that a build shows, as (stdout, stderr).
fn played(mode: Mode) -> (String, String) {
    let (out, err) = (Sink::default(), Sink::default());
    let ui = Ui::to(mode, Style::default(), Box::new(out.clone()), Box::new(err.clone()));
    let mut redactor = Redactor::new();
    redactor.learn("canary-4711");
    ui.redact(redactor);
    for fact in [
        Fact::Phase { name: "record", detail: "shop/web:1.4".into() },
        Fact::Probe { name: "GET /".into(), result: Ok("200 text/html".into()) },
        Fact::Probe { name: "GET /x".into(), result: Err("500\x1b[2J".into()) },
        Fact::Log { line: "password is canary-4711\r".into() },
        Fact::Bytes { done: 5, total: Some(10) },
        Fact::Bytes { done: 6, total: Some(10) },
        Fact::Bytes { done: 10, total: Some(10) },
        Fact::Warning { text: "port 81 answers only on 127.0.0.1".into() },
        Fact::Info { text: "the image has a HEALTHCHECK".into() },
        Fact::PhaseDone { name: "record", detail: "310 paths".into() },
    ] {
        ui.tell(fact);
    }
    let report = Report {
        verdict: Verdict { kind: VerdictKind::Verified, line: "VERIFIED: 1 probe, 2 answers: 2 whole".into() },
        source: image("shop/web:1.4", 188_000_000),
        result: Some(image("shop/web.slim:1.4", 5_000_000)),
        ..Report::default()
    };
    ui.result(&[("shop/web.slim:1.4".into(), "sha256:1f".into())]).unwrap();
    ui.summary(&report, None);
    ui.error(&anyhow::anyhow!("refused, token canary-4711").context(Exit::Retry).context(Hint::new("log in")));
    (out.text(), err.text())
}

/// Times differ from run to run.
fn timeless(text: &str) -> String {
    regex::Regex::new(r"\(\d+\.\d s\)|\d\.\d+,?\}?$").unwrap().replace_all(text, "(TIME)").into_owned()
}

#[test]
fn quiet_prints_the_reference_and_errors_only() {
    let (out, err) = played(Mode::Quiet);
    assert_eq!(out, "shop/web.slim:1.4@sha256:1f\n");
    assert_eq!(err, "slim: a passing trouble, worth trying again: refused, token ***\nhint: log in\n");
}

#[test]
fn quiet_says_why_nothing_was_published() {
    for (exit, says) in [(Exit::Done, ""), (Exit::Differs, "slim: FAILED: it differs\n"), (Exit::Baseline, "slim: FAILED: it differs\n")] {
        let (out, err) = (Sink::default(), Sink::default());
        let ui = Ui::to(Mode::Quiet, Style::default(), Box::new(out.clone()), Box::new(err.clone()));
        let verdict = Verdict { kind: VerdictKind::Failed, line: "FAILED: it differs".into() };
        ui.summary(&Report { verdict, exit: exit.into(), ..Report::default() }, None);
        assert_eq!((out.text().as_str(), err.text().as_str()), ("", says));
    }
}

#[test]
fn plain_says_when_a_phase_begins_and_ends_and_leaves_stdout_alone() {
    let (out, err) = played(Mode::Plain);
    assert_eq!(out, "");
    let head = "record: shop/web:1.4\n\
        failed: GET /x: 500\\u{1b}[2J\n\
        | password is ***\n\
        warning: port 81 answers only on 127.0.0.1\n\
        the image has a HEALTHCHECK\n\
        record: 310 paths (TIME)\n\
        VERIFIED: 1 probe, 2 answers: 2 whole\n";
    assert!(timeless(&err).starts_with(head), "{err}");
}

#[test]
fn none_shows_what_needs_attention_and_the_summary() {
    let (out, err) = played(Mode::None);
    assert_eq!(out, "");
    assert!(!err.contains("310 paths") && err.contains("warning: port 81") && err.contains("VERIFIED"), "{err}");
}

#[test]
fn fancy_leaves_a_line_for_each_phase_that_ended() {
    let (out, err) = played(Mode::Fancy);
    assert_eq!(out, "");
    assert!(!err.contains("record: shop/web:1.4\n") && timeless(&err).contains("record: 310 paths (TIME)\n"), "{err}");
}

#[test]
fn json_has_events_on_stdout_and_nothing_else() {
    let (out, err) = played(Mode::Json);
    let events: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "begin", "phase", "probe", "probe", "log", "bytes", "bytes", "warning", "info", "phase_done", "result",
            "summary", "error"
        ],
        "bytes in between are left out, the last ones are not"
    );
    assert_eq!(events[0]["schema"], "slim.events/1");
    assert_eq!(events[11]["verdict"]["kind"], "verified");
    assert_eq!(events[12]["exit"], 75);
    assert!(!out.contains("canary") && !err.contains("canary"));
    assert!(err.starts_with("slim: "), "people read errors on stderr still: {err}");
}

#[test]
fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
    let ui = |kind| Ui::to(Mode::Plain, Style::default(), Box::new(Broken(kind)), Box::new(Sink::default()));
    assert!(ui(io::ErrorKind::BrokenPipe).print_stdout("much data").is_ok());
    let error = ui(io::ErrorKind::StorageFull).print_stdout("much data").unwrap_err();
    assert_eq!(error.to_string(), "write to stdout");
}
