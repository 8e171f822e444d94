//! Trace file: recordings of one image with what they were recorded from, in one file that can be carried
//! around (`slim trace -o FILE`, `slim build --trace FILE`).
//!
//! Line 1 says which image and which run, `ask` lines what it was asked and how, then come the sensor's own lines of each recording, unchanged but
//! for masked secrets, then a `sum` line by which a file that was cut or changed is known. The format is
//! described in docs/formats.md, "Trace file".

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::replay::Replay;
use super::{Fold, Lines, Trace, TraceError};
use crate::probe::Request;
use crate::sensor::event::{Line, Process, Recorders};

/// What this program writes into [`Head::schema`]: a name and a major version.
pub const SCHEMA: &str = "slim.trace/1";

/// How a `sum` line begins, and the first line of each recording.
const SUM: &[u8] = br#"{"t":"sum","#;
const HEADER: &[u8] = br#"{"t":"header","#;
const ASK: &[u8] = br#"{"t":"ask","#;

/// What a trace file was recorded from, and how. No values of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the program that wrote it.
    pub slim: String,
    /// The image as the user called it.
    pub image: String,
    /// The engine's ID of it.
    pub id: String,
    /// `sha256:` of its config document, the same in every engine.
    pub config: String,
    /// Architecture as Go names it.
    pub arch: String,
    /// What recorded (in the last run).
    pub recorders: Recorders,
    /// Command line, arguments that look secret masked.
    pub argv: Vec<String>,
    /// USER of the run; empty for root by default.
    pub user: String,
    /// Working directory.
    pub workdir: String,
    /// Names of the environment variables, sorted.
    pub env_names: Vec<String>,
    /// Names of the planned probes.
    pub probes: Vec<String>,
    /// Where the run had mounts.
    pub mounts: Vec<String>,
    /// How to ask the same again. `None` in files of programs that did not write it.
    pub replay: Option<Replay>,
}

impl Head {
    /// Whether it was recorded from the image with this ID or this config document.
    pub fn is_of(&self, id: &str, config: &str) -> bool {
        self.id == id || self.config == config
    }
}

/// The lines that a trace file has besides the sensor's.
#[derive(Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
enum Frame {
    Trace(Box<Head>),
    Ask(Box<Request>),
    Sum { lines: u64, sha256: String },
}

/// A trace file, read and found whole.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceFile {
    /// What it was recorded from.
    pub head: Head,
    /// What it was asked, as far as the file holds it.
    pub asks: Vec<Request>,
    /// All its recordings together.
    pub trace: Trace,
    /// How many paths each recording added.
    pub new_paths: Vec<u64>,
}

/// Writes a trace file of these recordings (the sensor's bytes, complete each), with requests that hold no
/// secret; gives its checksum as hex. `mask` takes secrets out of the names of probes and processes.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(
    out: &mut dyn Write,
    (head, asks): (&Head, &[Request]),
    runs: &[Vec<u8>],
    mask: &dyn Fn(&str) -> String,
) -> io::Result<String> {
    let mut sum = Sum { out, hash: Sha256::new(), lines: 0 };
    sum.line(&serde_json::to_vec(&Frame::Trace(Box::new(head.clone())))?)?;
    for ask in asks {
        sum.line(&serde_json::to_vec(&Frame::Ask(Box::new(ask.clone())))?)?;
    }
    for line in runs.iter().flat_map(|run| run.split_inclusive(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        match masked(line, mask) {
            Some(other) => sum.line(&other)?,
            None => sum.line(line)?,
        }
    }
    let sha256 = hex(sum.hash.clone());
    let last = Frame::Sum { lines: sum.lines, sha256: sha256.clone() };
    sum.line(&serde_json::to_vec(&last)?)?;
    Ok(sha256)
}

struct Sum<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    lines: u64,
}

impl Sum<'_> {
    fn line(&mut self, text: &[u8]) -> io::Result<()> {
        add(&mut self.hash, text);
        self.lines += 1;
        self.out.write_all(text)?;
        self.out.write_all(b"\n")
    }
}

fn add(hash: &mut Sha256, line: &[u8]) {
    hash.update(line);
    hash.update(b"\n");
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line whose texts hold a secret, without it; `None` when it holds none.
fn masked(line: &[u8], mask: &dyn Fn(&str) -> String) -> Option<Vec<u8>> {
    let texts = [&br#"{"t":"mark","#[..], br#"{"t":"note","#, br#"{"t":"process","#];
    if !texts.iter().any(|begin| line.starts_with(begin)) {
        return None;
    }
    let before: Line = serde_json::from_slice(line).ok()?;
    let after = match before.clone() {
        Line::Mark { n, name } => Line::Mark { n, name: mask(&name) },
        Line::Note { text } => Line::Note { text: mask(&text) },
        Line::Process(process) => {
            Line::Process(Process { comm: mask(&process.comm), origin: mask(&process.origin), ..process })
        }
        Line::Header(_) | Line::Access(_) | Line::Lost { .. } | Line::Exit { .. } | Line::End { .. } => return None,
    };
    if after == before { None } else { serde_json::to_vec(&after).ok() }
}

/// Reads a trace file.
///
/// # Errors
/// When it is none, was cut or changed, or holds a recording that is not complete; the error names the line.
pub fn read(from: impl BufRead) -> Result<TraceFile, TraceError> {
    let mut lines = Lines { from, number: 0 };
    let first = lines.next()?.unwrap_or_default();
    let head = head_of(&first)?;
    let mut hash = Sha256::new();
    add(&mut hash, &first);
    let mut runs: Vec<Fold> = Vec::new();
    let mut asks = Vec::new();
    let mut summed = false;
    while let Some(text) = lines.next()? {
        let line = lines.number;
        if summed {
            return Err(TraceError::Broken { line, reason: "it stands after the `sum` line".into() });
        }
        if text.starts_with(SUM) {
            check(&text, line, hash.clone())?;
            summed = true;
            continue;
        }
        add(&mut hash, &text);
        if runs.is_empty() && text.starts_with(ASK) {
            asks.push(ask_of(&text).map_err(|reason| TraceError::Broken { line, reason })?);
            continue;
        }
        if text.starts_with(HEADER) {
            complete(&runs, line - 1)?;
            runs.push(Fold::default());
        }
        let Some(run) = runs.last_mut() else {
            return Err(TraceError::Broken { line, reason: "it stands before a recording's header".into() });
        };
        run.line(line, &text).map_err(|error| match error {
            TraceError::Version { reason } => TraceError::Broken { line, reason },
            other => other,
        })?;
    }
    if !summed {
        return Err(TraceError::Cut { line: lines.number });
    }
    complete(&runs, lines.number - 1)?;
    united(head, asks, runs, lines.number)
}

fn head_of(text: &[u8]) -> Result<Head, TraceError> {
    let wrong = |reason: String| TraceError::Broken { line: 1, reason };
    match serde_json::from_slice(text) {
        Ok(Frame::Trace(head)) if is_readable(&head.schema) => Ok(*head),
        Ok(Frame::Trace(head)) => Err(wrong(format!("it is of {:?}, this slim reads {SCHEMA}", head.schema))),
        Ok(Frame::Ask(_) | Frame::Sum { .. }) => Err(wrong("it is not a `trace` line".into())),
        Err(error) => Err(wrong(format!("it is no `trace` line, with which a file of `slim trace` begins: {error}"))),
    }
}

fn ask_of(text: &[u8]) -> Result<Request, String> {
    match serde_json::from_slice(text) {
        Ok(Frame::Ask(ask)) => Ok(*ask),
        Ok(Frame::Trace(_) | Frame::Sum { .. }) => Err("it is no `ask` line".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// A minor version only adds fields.
fn is_readable(schema: &str) -> bool {
    schema.strip_prefix(SCHEMA).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn check(text: &[u8], line: u64, hash: Sha256) -> Result<(), TraceError> {
    let broken = |reason: String| TraceError::Broken { line, reason };
    let Ok(Frame::Sum { lines, sha256 }) = serde_json::from_slice(text) else {
        return Err(broken("it is no `sum` line".into()));
    };
    if lines != line - 1 {
        return Err(broken(format!("it counts {lines} lines before it, there are {}", line - 1)));
    }
    if sha256 != hex(hash) {
        return Err(broken(format!("its checksum is not that of lines 1 to {lines}: one of them was changed")));
    }
    Ok(())
}

/// The last recording has its end.
fn complete(runs: &[Fold], line: u64) -> Result<(), TraceError> {
    match runs.last() {
        Some(run) if run.end.is_none() => Err(TraceError::NoEnd { line }),
        _ => Ok(()),
    }
}

fn united(head: Head, asks: Vec<Request>, runs: Vec<Fold>, line: u64) -> Result<TraceFile, TraceError> {
    let mut runs = runs.into_iter().map(|run| run.trace);
    let Some(mut trace) = runs.next() else {
        return Err(TraceError::Broken { line, reason: "there is no recording before it".into() });
    };
    let mut new_paths = vec![trace.facts.len() as u64];
    new_paths.extend(runs.map(|run| trace.union(run).len() as u64));
    Ok(TraceFile { head, asks, trace, new_paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"{"t":"header","slim_trace":1,"arch":"amd64","kernel":"6","recorders":{"fanotify":"m","syscalls":null,"why":""}}
{"t":"process","id":1,"pid":1,"exe":"/bin/sh","comm":"sh","origin":"exec:sh --token hunter2"}
{"t":"mark","n":1,"name":"exec sh --token hunter2"}
{"t":"access","kind":"open","path":"/a","process":1,"mark":1}
{"t":"end","accesses":1}
"#;

    fn mask(text: &str) -> String {
        text.replace("hunter2", "***")
    }

    fn asks() -> Vec<Request> {
        vec![Request {
            probe: "http".into(),
            name: "GET /".into(),
            action: crate::probe::Action::Http(crate::probe::HttpRequest::get(80, "/")),
            stated: true,
            expect: crate::probe::Expect::default(),
            timeout: std::time::Duration::from_millis(1500),
        }]
    }

    fn file(runs: &[&str]) -> String {
        let head = Head { schema: SCHEMA.into(), id: "sha256:1".into(), config: "sha256:2".into(), ..Head::default() };
        let runs: Vec<Vec<u8>> = runs.iter().map(|run| run.as_bytes().to_vec()).collect();
        let mut out = Vec::new();
        write(&mut out, (&head, &asks()), &runs, &mask).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_without_its_secrets() {
        let other = RUN.replace("/a", "/b");
        let text = file(&[RUN, &other]);
        assert!(!text.contains("hunter2"), "{text}");
        let found = read(text.as_bytes()).unwrap();
        assert!(found.head.is_of("sha256:1", "") && found.head.is_of("", "sha256:2"));
        assert!(!found.head.is_of("sha256:2", "sha256:1"));
        assert_eq!(found.new_paths, [1, 1]);
        assert_eq!(found.asks, asks());
        assert_eq!(found.trace.facts.keys().collect::<Vec<_>>(), [b"/a", b"/b"]);
        assert!(found.trace.marks.values().any(|name| name == "exec sh --token ***"));
    }

    #[test]
    fn a_file_cut_anywhere_is_no_trace() {
        let text = file(&[RUN, RUN]);
        for length in 0..text.len() {
            let error = read(&text.as_bytes()[..length]).expect_err(&text[..length]).to_string();
            assert!(error.contains("line "), "{error}");
        }
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let without_sum = lines[..lines.len() - 1].concat();
        let error = read(without_sum.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("stops after line 12 without its `sum` line"), "{error}");
    }

    #[test]
    fn a_file_with_any_byte_changed_is_no_trace() {
        let text = file(&[RUN]);
        for at in 0..text.len() {
            for other in [b'x', b'\n', b'0'] {
                let mut bytes = text.clone().into_bytes();
                if std::mem::replace(&mut bytes[at], other) != other {
                    assert!(read(&bytes[..]).is_err(), "byte {at} as {:?}", char::from(other));
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let good = file(&[RUN]);
        let lines: Vec<&str> = good.lines().collect();
        let text = |lines: &[&str]| lines.join("\n") + "\n";
        let newer = good.replace("slim.trace/1", "slim.trace/2");
        for (text, says) in [
            (String::new(), "line 1 of the trace is broken: it is no `trace` line"),
            (RUN.to_owned(), "line 1 of the trace is broken: it is no `trace` line"),
            (newer, "line 1 of the trace is broken: it is of \"slim.trace/2\", this slim reads slim.trace/1"),
            (good.replace("/a\"", "/b\""), "line 8 of the trace is broken: its checksum is not that of lines 1 to 7"),
            (good.replace("\"open\"", "\"opened\""), "line 6 of the trace is broken: unknown variant `opened`"),
            (text(&[&lines[..5], &lines[6..]].concat()), "line 6: the recording is incomplete: 0 accesses"),
            (text(&[&lines[..4], &lines[5..]].concat()), "line 5 of the trace is broken: mark 1 was not introduced"),
            (text(&[&lines[..2], &lines[3..]].concat()), "line 3 of the trace is broken: it stands before"),
            (good.replace("\"stated\":true", "\"stated\":7"), "line 2 of the trace is broken: invalid type"),
            (text(&[&lines[..], &lines[7..]].concat()), "line 9 of the trace is broken: it stands after the `sum`"),
            (file(&[]), "line 3 of the trace is broken: there is no recording before it"),
            (file(&[&RUN[..RUN.len() - 25]]), "it stops after line 6 without an end record"),
            (file(&[&RUN.replace(r#"{"t":"mark","n":1"#, r#"{"t":"lost","what":"queue overflow","n":1"#)]), "line 5: the recording is incomplete: queue overflow"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} should say {says:?}");
        }
    }

    #[test]
    fn a_minor_version_is_read() {
        let head = Head { schema: "slim.trace/1.3".into(), ..Head::default() };
        let mut out = Vec::new();
        write(&mut out, (&head, &[]), &[RUN.as_bytes().to_vec()], &mask).unwrap();
        assert!(read(&out[..]).is_ok());
    }
}
