//! Trace: events folded into facts per path. An incomplete trace is an error, never a value.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufRead, Read};

pub mod file;
pub mod replay;

use crate::sensor::event::{Access, AccessKind, Header, Line, Process, Recorders, TRACE_VERSION};

/// The longest line a trace may have, in bytes: a path of PATH_MAX bytes with every byte escaped fits many
/// times.
const MAX_LINE: u64 = 1 << 20;

/// Everything one or more complete recordings say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// What recorded (the first recording).
    pub recorders: Recorders,
    /// A recording of it saw which files were used and not the names they were looked up by: fanotify alone
    /// names the file itself.
    pub names_unseen: bool,
    /// Per attempted path (absolute, as attempted: not normalised, symlinks not resolved) its facts.
    pub facts: BTreeMap<Vec<u8>, Vec<Fact>>,
    /// Process images by number, from 0 without gaps; facts refer to them. Processes with equal executable,
    /// comm and origin are one here, described as the first of them was.
    pub processes: BTreeMap<u32, Process>,
    /// Marks by number; 0 is `start`.
    pub marks: BTreeMap<u32, String>,
    /// Notes of the sensor, for the report.
    pub notes: Vec<String>,
    /// Exit status of the target, when it was recorded (of the first recording).
    pub exit: Option<i32>,
    /// Number of access events folded.
    pub accesses: u64,
}

/// One use of a path, first of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// What was done.
    pub kind: AccessKind,
    /// By which recorder: fanotify names the file itself, the syscall recorder the path as attempted.
    pub resolved: bool,
    /// The syscall; empty from fanotify.
    pub call: String,
    /// The last component was not followed.
    pub nofollow: bool,
    /// Key of [`Trace::processes`].
    pub process: u32,
    /// Key of [`Trace::marks`].
    pub mark: u32,
}

/// Why a recording is not a trace. Nothing may be made from it.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It could not be read.
    #[error("cannot read the trace after line {line}: {source}")]
    Read {
        /// The last line that was read.
        line: u64,
        /// What the reader said.
        source: std::io::Error,
    },
    /// It is of another version than [`TRACE_VERSION`], or no trace at all.
    #[error("line 1: not a trace of version {TRACE_VERSION}: {reason}")]
    Version {
        /// What was found.
        reason: String,
    },
    /// A line does not follow the format.
    #[error("line {line} of the trace is broken: {reason}")]
    Broken {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The sensor lost events and said so.
    #[error("line {line}: the recording is incomplete: {what}")]
    Lost {
        /// The line that says so.
        line: u64,
        /// What was lost.
        what: String,
    },
    /// There is no `end`: the sensor died, or the file was cut.
    #[error("the recording is incomplete: it stops after line {line} without an end record; the sensor was killed or the file was cut")]
    NoEnd {
        /// The last line.
        line: u64,
    },
    /// A trace file ends before its last line.
    #[error("the trace is incomplete: it stops after line {line} without its `sum` line; the file was cut")]
    Cut {
        /// The last line.
        line: u64,
    },
    /// The `end` counts other accesses than there are.
    #[error("line {line}: the recording is incomplete: {found} accesses, but its end record counts {counted}")]
    Count {
        /// The line of the `end`.
        line: u64,
        /// As counted by the sensor.
        counted: u64,
        /// As found in the trace.
        found: u64,
    },
}

impl Trace {
    /// Reads one recording: JSON lines, see [`crate::sensor::event`].
    ///
    /// # Errors
    /// When it is not a complete trace; the error names the line and the reason.
    pub fn read(from: impl BufRead) -> Result<Self, TraceError> {
        let mut fold = Fold::default();
        let mut lines = Lines { from, number: 0 };
        while let Some(text) = lines.next()? {
            fold.line(lines.number, &text)?;
        }
        match fold.end {
            Some(_) => Ok(fold.trace),
            None => Err(TraceError::NoEnd { line: lines.number }),
        }
    }

    /// What a recording says while it still runs: its whole lines so far. Good for a guess; nothing may be
    /// made from it that is not checked against the complete trace. `None` where it makes no sense.
    pub fn so_far(bytes: &[u8]) -> Option<Self> {
        let whole = bytes.iter().rposition(|b| *b == b'\n')? + 1;
        let mut fold = Fold::default();
        let mut lines = Lines {
            from: &bytes[..whole],
            number: 0,
        };
        while let Some(text) = lines.next().ok()? {
            fold.line(lines.number, &text).ok()?;
        }
        fold.header.then_some(fold.trace)
    }

    /// Adds what another recording saw; what is said of the recording itself stays. Marks of the same name become
    /// one. Returns the paths that only
    /// `other` has, in order: counting those that the image holds says whether another run was worth it.
    pub fn union(&mut self, other: Trace) -> Vec<Vec<u8>> {
        let marks = self.merge_marks(&other.marks);
        let mut processes = BTreeMap::new();
        for (theirs, process) in other.processes {
            let id = self.processes.len() as u32;
            processes.insert(theirs, id);
            self.processes.insert(id, Process { id, ..process });
        }
        let mut new = Vec::new();
        for (path, facts) in other.facts {
            let known = self.facts.entry(path.clone()).or_default();
            if known.is_empty() {
                new.push(path);
            }
            let mut seen: BTreeSet<FactKey> = known.iter().map(|fact| key(&self.processes, fact)).collect();
            for mut fact in facts {
                fact.process = processes.get(&fact.process).copied().unwrap_or_default();
                fact.mark = marks.get(&fact.mark).copied().unwrap_or(0);
                if seen.insert(key(&self.processes, &fact)) {
                    known.push(fact);
                }
            }
        }
        let notes: Vec<String> = other.notes.into_iter().filter(|note| !self.notes.contains(note)).collect();
        self.notes.extend(notes);
        // One that saw no names stays one; that another saw names tells nothing of what the first one used.
        self.names_unseen |= other.names_unseen;
        self.accesses += other.accesses;
        new
    }

    /// The mark's name for people; `start` where none is known.
    pub fn mark(&self, number: u32) -> &str {
        self.marks.get(&number).map_or("start", String::as_str)
    }

    /// Takes another recording's marks in; theirs to ours.
    fn merge_marks(&mut self, theirs: &BTreeMap<u32, String>) -> BTreeMap<u32, u32> {
        let mut next = self.marks.len() as u32;
        let mut ours = BTreeMap::new();
        for (number, name) in theirs {
            let same = self.marks.iter().find(|(_, known)| *known == name).map(|(number, _)| *number);
            let mine = same.unwrap_or_else(|| {
                while self.marks.contains_key(&next) {
                    next = next.wrapping_add(1);
                }
                self.marks.insert(next, name.clone());
                next
            });
            ours.insert(*number, mine);
        }
        ours
    }
}

/// What makes two facts of one path the same: kind, process image, mark, and how the path is to be resolved.
type FactKey = (AccessKind, bool, bool, Vec<u8>, String, u32);

fn key(processes: &BTreeMap<u32, Process>, fact: &Fact) -> FactKey {
    let process = processes.get(&fact.process);
    let exe = process.map(|p| if p.exe.is_empty() { p.comm.clone().into_bytes() } else { p.exe.clone() });
    let origin = process.map(|p| p.origin.clone());
    (
        fact.kind,
        fact.resolved,
        fact.nofollow,
        exe.unwrap_or_default(),
        origin.unwrap_or_default(),
        fact.mark,
    )
}

/// A trace on its way in.
#[derive(Default)]
struct Fold {
    trace: Trace,
    header: bool,
    /// Line of the `end`; `None` before it.
    end: Option<u64>,
    /// The recording's process numbers to keys of [`Trace::processes`].
    images: BTreeMap<u32, u32>,
    /// Executable, comm and origin to keys of [`Trace::processes`].
    image_numbers: BTreeMap<(Vec<u8>, String, String), u32>,
    /// Path, kind, resolved, nofollow, process image, mark of the facts so far.
    seen: HashSet<(Vec<u8>, AccessKind, bool, bool, u32, u32)>,
}

impl Fold {
    fn line(&mut self, number: u64, text: &[u8]) -> Result<(), TraceError> {
        let broken = |reason: String| TraceError::Broken { line: number, reason };
        if self.end.is_some() {
            return Err(broken("it stands after the end record".into()));
        }
        let line: Line = match serde_json::from_slice(text) {
            Ok(line) => line,
            Err(error) if !self.header => return Err(TraceError::Version { reason: error.to_string() }),
            Err(error) => return Err(broken(error.to_string())),
        };
        match line {
            Line::Header(header) if !self.header => return self.header(header),
            Line::Header(_) => return Err(broken("a second header".into())),
            _ if !self.header => {
                return Err(TraceError::Version { reason: "it does not begin with a header".into() });
            }
            Line::Process(process) => self.process(process),
            Line::Mark { n, name } => {
                self.trace.marks.insert(n, name);
            }
            Line::Access(access) => self.access(access).map_err(broken)?,
            Line::Lost { what } => return Err(TraceError::Lost { line: number, what }),
            Line::Note { text } => self.trace.notes.push(text),
            Line::Exit { status } => self.trace.exit = Some(status),
            Line::End { accesses } if accesses == self.trace.accesses => self.end = Some(number),
            Line::End { accesses } => {
                let found = self.trace.accesses;
                return Err(TraceError::Count { line: number, counted: accesses, found });
            }
        }
        Ok(())
    }

    fn header(&mut self, header: Header) -> Result<(), TraceError> {
        if header.slim_trace != TRACE_VERSION {
            let reason = format!("version {}", header.slim_trace);
            return Err(TraceError::Version { reason });
        }
        self.header = true;
        self.trace.names_unseen = header.recorders.fanotify.is_some() && header.recorders.syscalls.is_none();
        self.trace.recorders = header.recorders;
        self.trace.marks.insert(0, "start".into());
        Ok(())
    }

    fn process(&mut self, process: Process) {
        let image = (process.exe.clone(), process.comm.clone(), process.origin.clone());
        let next = self.image_numbers.len() as u32;
        let number = *self.image_numbers.entry(image).or_insert(next);
        self.images.insert(process.id, number);
        self.trace.processes.entry(number).or_insert(Process { id: number, ..process });
    }

    fn access(&mut self, access: Access) -> Result<(), String> {
        let Some(&image) = self.images.get(&access.process) else {
            return Err(format!("process {} was not introduced", access.process));
        };
        if !self.trace.marks.contains_key(&access.mark) {
            return Err(format!("mark {} was not introduced", access.mark));
        }
        if access.path.first() != Some(&b'/') {
            return Err("its path is not absolute".into());
        }
        self.trace.accesses += 1;
        let resolved = access.call.is_empty();
        let key = (access.path.clone(), access.kind, resolved, access.nofollow, image, access.mark);
        if self.seen.insert(key) {
            let fact = Fact {
                kind: access.kind,
                resolved,
                call: access.call,
                nofollow: access.nofollow,
                process: image,
                mark: access.mark,
            };
            self.trace.facts.entry(access.path).or_default().push(fact);
        }
        Ok(())
    }
}

/// Lines of bounded length.
struct Lines<R> {
    from: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its end; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Vec<u8>>, TraceError> {
        let mut text = Vec::new();
        let read = self.from.by_ref().take(MAX_LINE).read_until(b'\n', &mut text);
        let read = read.map_err(|source| TraceError::Read { line: self.number, source })?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if text.pop() != Some(b'\n') {
            // Cut within a line: whatever it was, there is no end record.
            let reason = format!("longer than {MAX_LINE} bytes");
            return Err(match read as u64 {
                MAX_LINE => TraceError::Broken { line: self.number, reason },
                _ => TraceError::NoEnd { line: self.number },
            });
        }
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"t":"header","slim_trace":1,"arch":"amd64","kernel":"6","recorders":{"fanotify":"m","syscalls":null,"why":""}}"#;
    const SH: &str = r#"{"t":"process","id":1,"pid":1,"exe":"/bin/sh","comm":"sh","origin":"target"}"#;
    const OPEN: &str = r#"{"t":"access","kind":"open","path":"/a","process":1,"mark":0}"#;

    fn read(lines: &[&str]) -> Result<Trace, TraceError> {
        Trace::read((lines.join("\n") + "\n").as_bytes())
    }

    #[test]
    fn a_complete_recording_becomes_facts_first_of_each_kind() {
        let lstat = r#"{"t":"access","kind":"stat","path":"/a/../b","call":"newfstatat","nofollow":true,"process":1,"mark":2}"#;
        let mark = r#"{"t":"mark","n":2,"name":"GET /"}"#;
        let trace = read(&[HEADER, SH, OPEN, OPEN, mark, lstat, r#"{"t":"exit","status":0}"#, r#"{"t":"end","accesses":3}"#]).unwrap();
        assert_eq!((trace.accesses, trace.exit), (3, Some(0)));
        assert_eq!(trace.facts[&b"/a"[..]].len(), 1);
        assert!(trace.facts[&b"/a"[..]][0].resolved);
        let fact = &trace.facts[&b"/a/../b"[..]][0];
        assert!(fact.nofollow && !fact.resolved);
        assert_eq!((trace.mark(fact.mark), trace.mark(0)), ("GET /", "start"));
    }

    #[test]
    fn an_incomplete_recording_is_an_error_that_names_line_and_reason() {
        let lost = r#"{"t":"lost","what":"fanotify queue overflow"}"#;
        let end = r#"{"t":"end","accesses":0}"#;
        for (lines, says) in [
            (vec![HEADER, SH, OPEN], "stops after line 3 without an end"),
            (vec![HEADER, SH, OPEN, end], "line 4: the recording is incomplete: 1 accesses, but its end record counts 0"),
            (vec![HEADER, lost, end], "line 2: the recording is incomplete: fanotify queue overflow"),
            (vec![HEADER, "{\"t\":\"acc"], "line 2 of the trace is broken"),
            (vec![HEADER, OPEN], "process 1 was not introduced"),
            (vec![HEADER, end, end], "line 3 of the trace is broken: it stands after the end"),
            (vec![SH], "does not begin with a header"),
            (vec!["hello"], "not a trace of version 1"),
            (vec![], "not a trace of version 1"),
        ] {
            let error = read(&lines).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} should say {says:?}");
        }
        let newer = HEADER.replace(":1,", ":2,");
        assert!(matches!(read(&[&newer]), Err(TraceError::Version { .. })));
        let cut = [HEADER, SH, r#"{"t":"end","accesses":0}"#].join("\n");
        assert!(matches!(Trace::read(cut.as_bytes()), Err(TraceError::NoEnd { line: 3 })));
        assert!(matches!(Trace::read(&b""[..]), Err(TraceError::NoEnd { line: 0 })));
    }

    #[test]
    fn a_union_stays_what_the_first_recording_was() {
        let other = HEADER.replace(r#""fanotify":"m","syscalls":null"#, r#""fanotify":null,"syscalls":"ptrace""#);
        let (first, ends) = (r#"{"t":"exit","status":3}"#, r#"{"t":"end","accesses":0}"#);
        let mut trace = read(&[HEADER, first, ends]).unwrap();
        let before = (trace.recorders.clone(), trace.exit);
        trace.union(read(&[&other, r#"{"t":"exit","status":0}"#, ends]).unwrap());
        assert_eq!((trace.recorders.clone(), trace.exit), before);
        assert!(trace.names_unseen, "a second look by another recorder shows no names of the first");
        let mut trace = read(&[&other, ends]).unwrap();
        assert!(!trace.names_unseen);
        trace.union(read(&[HEADER, ends]).unwrap());
        assert!(trace.names_unseen);
    }

    #[test]
    fn a_union_says_what_is_new_and_keeps_processes_apart() {
        let other = OPEN.replace("/a", "/b");
        let end = r#"{"t":"end","accesses":1}"#;
        let mut trace = read(&[HEADER, SH, OPEN, end]).unwrap();
        let same = trace.union(read(&[HEADER, SH, OPEN, end]).unwrap());
        assert!(same.is_empty());
        assert_eq!(trace.facts[&b"/a"[..]].len(), 1);
        let new = trace.union(read(&[HEADER, SH, &other, end]).unwrap());
        assert_eq!(new, [b"/b".to_vec()]);
        assert_eq!(trace.accesses, 3);
        assert!(trace.processes.contains_key(&trace.facts[&b"/b"[..]][0].process));
    }
}
