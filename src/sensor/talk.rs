//! Talk: the sensor's side of the control streams: commands come in on stdin, frames go out on stderr.
//!
//! Frames wait in a queue: a full pipe must never stop the recorder. They go out through a description of
//! our own, so that neither side changes flags for the other.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{read, write};

use super::control::{Command, Reply, frame};
use crate::sys::{self, Standard};

/// The control streams.
#[derive(Debug)]
pub struct Talk {
    nonce: String,
    out: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    held: Vec<u8>,
    open: bool,
}

/// With more frames than this waiting, output of execs is left in its pipe.
const MANY: usize = 256;

impl Talk {
    /// Takes over the streams of this process.
    pub fn new(nonce: &str) -> io::Result<Self> {
        let stderr = sys::standard(Standard::Error);
        // What is no pipe (a socket) cannot be opened again; then a write waits for as long as it has to.
        let out = sys::reopen(stderr, libc::O_WRONLY | libc::O_NONBLOCK | libc::O_APPEND)
            .or_else(|_| stderr.try_clone_to_owned())?;
        Ok(Self { nonce: nonce.to_owned(), out, waiting: VecDeque::new(), held: Vec::new(), open: true })
    }

    /// Queues a reply, and sends what can be sent.
    pub fn say(&mut self, reply: &Reply) {
        self.waiting.push_back(frame(&self.nonce, reply));
        self.send();
    }

    /// Sends what can be sent now.
    pub fn send(&mut self) {
        while let Some(frame) = self.waiting.front() {
            match write(&self.out, frame) {
                Ok(_) | Err(Errno::EPIPE) => {
                    self.waiting.pop_front();
                }
                Err(_) => return,
            }
        }
    }

    /// Marks the end of the target's stdout, in that stream. Nobody else writes there any more; the pipe has
    /// room as soon as the engine has read it, which is waited for at most a second.
    pub fn end_output(&self) {
        use nix::poll::{PollFd, PollFlags, poll};
        let stdout = sys::standard(Standard::Output);
        let _ = poll(&mut [PollFd::new(stdout, PollFlags::POLLOUT)], 1000u16);
        let out = sys::reopen(stdout, libc::O_WRONLY | libc::O_NONBLOCK | libc::O_APPEND)
            .or_else(|_| stdout.try_clone_to_owned());
        if let Ok(out) = out {
            // A pipe that stays full loses the mark, and then the controller does not wait for ever either.
            let _ = write(&out, &frame(&self.nonce, &Reply::OutputEnd));
        }
    }

    /// Sends everything, for at most a second.
    pub fn finish(&mut self) {
        use nix::poll::{PollFd, PollFlags, poll};
        self.send();
        for _ in 0..10 {
            if self.waiting.is_empty() {
                return;
            }
            let _ = poll(&mut [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)], 100u16);
            self.send();
        }
    }

    /// Whether frames wait for room in the pipe.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether so much waits that no more should be made.
    pub fn is_full(&self) -> bool {
        self.waiting.len() > MANY
    }

    /// Where frames go, for poll(2).
    pub fn out(&self) -> BorrowedFd<'_> {
        self.out.as_fd()
    }

    /// Where commands come from, for poll(2); `None` after its end.
    pub fn input(&self) -> Option<BorrowedFd<'static>> {
        self.open.then(|| sys::standard(Standard::Input))
    }

    /// Reads what poll(2) announced. `None` in the list: a line that is no command. The flag is false when
    /// the stream ended: the controller is gone.
    pub fn listen(&mut self) -> (Vec<Option<Command>>, bool) {
        let mut buffer = [0u8; 1 << 16];
        match read(sys::standard(Standard::Input), &mut buffer) {
            Ok(0) => self.open = false,
            Ok(got) => self.held.extend_from_slice(&buffer[..got]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.open = false,
        }
        let mut commands = Vec::new();
        while let Some(end) = self.held.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.held.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                commands.push(serde_json::from_slice(&line).ok());
            }
        }
        (commands, self.open)
    }
}

/// A text of at most `most` bytes, cut between characters, so that it fits a frame.
pub fn shorten(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
