//! Log: what a target wrote to stdout and stderr, in the order it came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::image::path::printable;
use crate::probe::{Body, Collector};
use crate::progress::{Fact, Monitor};

/// The most bytes held; past that the oldest go.
const MAX_LOG: usize = 4 << 20;

/// Bytes of one stream that came next to each other are held together up to this many.
const PIECE: usize = 64 << 10;

/// A growing log that many may read.
#[derive(Clone)]
pub struct Log {
    held: Arc<Mutex<Held>>,
    show: Option<Arc<dyn Monitor>>,
    line: Arc<Mutex<Vec<u8>>>,
    /// stdout and stderr from their first byte on: what is compared must not depend on how much is held.
    whole: Arc<Mutex<[Collector; 2]>>,
}

/// Pieces as they came: the stream (1, 2) and its bytes.
#[derive(Default)]
struct Held {
    pieces: VecDeque<(u8, Vec<u8>)>,
    bytes: usize,
}

impl Held {
    fn push(&mut self, fd: u8, chunk: &[u8]) {
        match self.pieces.back_mut() {
            Some((last, piece)) if *last == fd && piece.len() < PIECE => piece.extend_from_slice(chunk),
            _ => self.pieces.push_back((fd, chunk.to_vec())),
        }
        self.bytes += chunk.len();
        while self.bytes > MAX_LOG && self.pieces.len() > 1 {
            self.bytes -= self.pieces.pop_front().map_or(0, |(_, piece)| piece.len());
        }
    }

    fn all(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(_, piece)| piece).copied().collect()
    }
}

impl Log {
    /// An empty log; with a monitor, each line is announced as it comes (`--show-clogs`).
    pub fn new(show: Option<Arc<dyn Monitor>>) -> Self {
        Self { held: Arc::default(), show, line: Arc::default(), whole: Arc::default() }
    }

    /// Adds what came on stdout (1) or stderr (2).
    pub fn push(&self, fd: u8, chunk: &[u8]) {
        lock(&self.held).push(fd, chunk);
        lock(&self.whole)[usize::from(fd == 2)].push(chunk);
        if let Some(monitor) = &self.show {
            let mut line = lock(&self.line);
            for part in chunk.split_inclusive(|b| *b == b'\n') {
                line.extend_from_slice(part);
                if line.ends_with(b"\n") {
                    line.pop();
                    monitor.tell(Fact::Log { line: printable(&line) });
                    line.clear();
                }
            }
        }
    }

    /// Everything held.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.held).all()
    }

    /// All that came on one stream.
    pub fn stream(&self, fd: u8) -> Body {
        lock(&self.whole)[usize::from(fd == 2)].clone().finish()
    }

    /// The last lines, made printable.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let bytes = self.bytes();
        let all: Vec<&[u8]> = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| printable(line)).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_holds_each_stream_and_both_as_they_came() {
        let log = Log::new(None);
        for (fd, text) in [(1, "a"), (1, "b\n"), (2, "c\n"), (1, "d\n")] {
            log.push(fd, text.as_bytes());
        }
        assert_eq!(log.bytes(), b"ab\nc\nd\n");
        assert_eq!((log.stream(1), log.stream(2)), (Body::of(b"ab\nd\n"), Body::of(b"c\n")));
        assert_eq!(log.tail(2), ["c", "d"]);
    }

    #[test]
    fn a_stream_is_known_whole_however_long_it_is() {
        let with = |first: &[u8]| {
            let log = Log::new(None);
            log.push(1, first);
            for _ in 0..100 {
                log.push(1, &[b'x'; PIECE]);
            }
            log
        };
        let (one, other) = (with(b"a"), with(b"b"));
        assert_eq!(one.bytes(), other.bytes(), "what is held is the end");
        assert_eq!(one.stream(1).length, 1 + 100 * PIECE as u64);
        assert_ne!(one.stream(1), other.stream(1));
    }

    #[test]
    fn a_log_that_grows_for_ever_loses_its_beginning() {
        let log = Log::new(None);
        for n in 0..200u8 {
            log.push(1 + n % 2, &vec![n; PIECE]);
        }
        assert!(log.bytes().len() <= MAX_LOG && log.bytes().ends_with(&[199; PIECE]));
    }
}
