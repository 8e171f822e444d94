//! Journal: the trace while it is written. It writes each access once, counts distinct paths, and knows
//! which mark is current.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use anyhow::{Context, Result};

use super::event::{Access, AccessKind, Line, Process};

/// The trace while it is written.
#[derive(Debug)]
pub struct Journal {
    out: BufWriter<File>,
    seen: HashSet<Key>,
    paths: HashSet<Box<[u8]>>,
    told: HashSet<String>,
    processes: HashMap<(Vec<u8>, String, String), u32>,
    mark: u32,
    accesses: u64,
    last_new: Instant,
    dirty: Option<Instant>,
    broken: Option<std::io::Error>,
    ended: bool,
}

/// What makes accesses equal: kind, nofollow, process, mark, path.
type Key = (AccessKind, bool, u32, u32, Box<[u8]>);

/// A use of a path, before it is known to be new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// What it says about the path.
    pub kind: AccessKind,
    /// Absolute path.
    pub path: Vec<u8>,
    /// How many of its first bytes are the directory that it was relative to.
    pub base: usize,
    /// Syscall name; empty from fanotify.
    pub call: &'static str,
    /// The symlink in the last component was itself the object.
    pub nofollow: bool,
}

impl Journal {
    /// A journal that writes to this file.
    pub fn new(file: File) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, file),
            seen: HashSet::new(),
            paths: HashSet::new(),
            told: HashSet::new(),
            processes: HashMap::new(),
            mark: 0,
            accesses: 0,
            last_new: Instant::now(),
            dirty: None,
            broken: None,
            ended: false,
        }
    }

    /// Writes a line as it is. Nothing follows the end: a mark that the controller sent before it heard of it
    /// has nothing to tell apart.
    pub fn line(&mut self, line: &Line) {
        if self.broken.is_some() || self.ended {
            return;
        }
        let written = serde_json::to_writer(&mut self.out, line)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
        self.broken = written.err();
        self.dirty.get_or_insert_with(Instant::now);
    }

    /// The number of a process image. Processes with the same executable, comm and origin share the first
    /// one's: a server that forks for each request must not make the trace grow.
    pub fn process(&mut self, pid: i32, exe: &[u8], comm: &str, origin: &str) -> u32 {
        let key = (exe.to_vec(), comm.to_owned(), origin.to_owned());
        if let Some(id) = self.processes.get(&key) {
            return *id;
        }
        let id = self.processes.len() as u32 + 1;
        let (exe, comm, origin) = key.clone();
        self.processes.insert(key, id);
        self.line(&Line::Process(Process { id, pid, exe, comm, origin }));
        id
    }

    /// Writes an access unless an equal one was written.
    pub fn access(&mut self, touch: Touch, process: u32) {
        let Touch { kind, path, base, call, nofollow } = touch;
        let key = (kind, nofollow, process, self.mark, path.clone().into_boxed_slice());
        if !self.seen.insert(key) {
            return;
        }
        if !self.paths.contains(path.as_slice()) {
            self.paths.insert(path.clone().into_boxed_slice());
            self.last_new = Instant::now();
        }
        self.accesses += 1;
        let call = call.to_owned();
        self.line(&Line::Access(Access { kind, path, base, call, nofollow, process, mark: self.mark }));
    }

    /// Accesses from now on belong to this mark.
    pub fn mark(&mut self, n: u32, name: &str) {
        self.mark = n;
        self.last_new = Instant::now();
        self.line(&Line::Mark { n, name: name.to_owned() });
    }

    /// Says once that something was not recorded.
    pub fn lost(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.told.insert(format!("lost {what}")) {
            self.line(&Line::Lost { what });
        }
    }

    /// Says something once.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.told.insert(text.clone()) {
            self.line(&Line::Note { text });
        }
    }

    /// Number of distinct paths.
    pub fn paths(&self) -> u64 {
        self.paths.len() as u64
    }

    /// When a path came that had not been seen before, or a mark was set.
    pub fn last_new(&self) -> Instant {
        self.last_new
    }

    /// Since when there is something that [`Journal::flush`] would write; `None`: nothing.
    pub fn dirty(&self) -> Option<Instant> {
        self.dirty
    }

    /// Hands everything to the kernel, so that it outlives this process.
    pub fn flush(&mut self) {
        self.dirty = None;
        if self.broken.is_none() {
            self.broken = self.out.flush().err();
        }
    }

    /// Writes the last line; nothing is written after it (a mark may still be on its way when a target ends).
    /// An error at any time before makes the trace incomplete, and is said here.
    pub fn end(&mut self) -> Result<u64> {
        self.line(&Line::End { accesses: self.accesses });
        self.ended = true;
        self.flush();
        match self.broken.take() {
            None => Ok(self.accesses),
            Some(error) => {
                Err(error).context("cannot write the trace; make room where the engine keeps volumes")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &str) -> Touch {
        Touch { kind: AccessKind::Stat, path: path.into(), base: 0, call: "stat", nofollow: false }
    }

    #[test]
    fn equal_accesses_are_written_once_for_each_mark_and_process() {
        let mut file = tempfile::tempfile().unwrap();
        let mut journal = Journal::new(file.try_clone().unwrap());
        let sh = journal.process(7, b"/bin/sh", "sh", "target");
        assert_eq!(journal.process(8, b"/bin/sh", "sh", "target"), sh);
        journal.access(touch("/a"), sh);
        journal.access(touch("/a"), sh);
        journal.access(Touch { nofollow: true, ..touch("/a") }, sh);
        journal.mark(1, "http");
        journal.access(touch("/a"), sh);
        journal.lost("queue");
        journal.lost("queue");
        assert_eq!((journal.end().unwrap(), journal.paths()), (3, 1));
        journal.mark(2, "too late");
        journal.access(touch("/b"), sh);
        journal.flush();
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        let kinds: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["t"].to_string())
            .collect();
        assert_eq!(kinds.join(" ").replace('"', ""), "process access access mark access lost end");
    }
}
