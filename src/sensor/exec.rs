//! Exec: a command that a probe runs inside the container, as the target's user and under the recorders.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine as _;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};

use super::control::{MAX_OUTPUT, Reply};
use super::signals;
use super::spawn::{Output, Recipe, Spawned};
use super::talk::Talk;
use crate::sys::c_string;

/// A command that runs, or ran and left processes behind that still hold its output.
#[derive(Debug)]
pub struct Exec {
    id: u32,
    /// Its pid.
    pub pid: i32,
    /// Until its program was executed, or not.
    pub starting: Option<Spawned>,
    /// stdout and stderr; `None` after their end.
    pub pipes: [Option<OwnedFd>; 2],
    deadline: Instant,
    timed_out: bool,
    ended: bool,
}

impl Exec {
    /// Starts it up to its exec. Its listener stays in `starting` for the caller to take.
    pub fn start(recipe: &Recipe, id: u32, argv: &[String], timeout_ms: u64) -> Result<Self> {
        let argv: Vec<_> = argv.iter().map(|arg| c_string(arg.as_bytes())).collect();
        let (out, out_end) = pipe2(OFlag::O_CLOEXEC)?;
        let (err, err_end) = pipe2(OFlag::O_CLOEXEC)?;
        for end in [&out, &err] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let spawned = recipe.spawn(&argv, Output::Pipes(out_end, err_end))?;
        let timeout = Duration::from_millis(timeout_ms.min(1 << 40));
        Ok(Self {
            id,
            pid: spawned.pid,
            starting: Some(spawned),
            pipes: [Some(out), Some(err)],
            deadline: Instant::now() + timeout,
            timed_out: false,
            ended: false,
        })
    }

    /// When it has to be killed; `None` when it ended or was killed.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.ended && !self.timed_out).then_some(self.deadline)
    }

    /// Kills it and its session.
    pub fn time_out(&mut self) {
        self.timed_out = true;
        let _ = signals::send(-self.pid, libc::SIGKILL);
        let _ = signals::send(self.pid, libc::SIGKILL);
        for pid in signals::session(self.pid) {
            let _ = signals::send(pid, libc::SIGKILL);
        }
    }

    /// The socket of a command that is starting, for poll(2).
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.starting.as_ref().map(|starting| starting.socket.as_fd())
    }

    /// Learns whether the program was executed; says why not as its error output.
    pub fn learn(&mut self, talk: &mut Talk) {
        let Some(starting) = self.starting.take() else {
            return;
        };
        if let Err(failed) = starting.outcome() {
            self.say(2, format!("{}\n", failed.text).as_bytes(), talk);
        }
    }

    /// Sends what is in one of its pipes, as much as a frame holds; `false` when there is nothing now.
    pub fn forward(&mut self, pipe: usize, talk: &mut Talk) -> bool {
        let Some(end) = &self.pipes[pipe] else {
            return false;
        };
        let mut buffer = [0u8; MAX_OUTPUT];
        match read(end, &mut buffer) {
            Ok(0) => self.pipes[pipe] = None,
            // What its left-over children say after its end belongs to nobody.
            Ok(_) if self.ended => {}
            Ok(got) => self.say(pipe as u8 + 1, &buffer[..got], talk),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return false,
            Err(_) => self.pipes[pipe] = None,
        }
        self.pipes[pipe].is_some()
    }

    /// Its process ended: sends the rest of its output and its status.
    pub fn end(&mut self, status: i32, talk: &mut Talk) {
        self.learn(talk);
        for pipe in 0..2 {
            while self.forward(pipe, talk) {}
        }
        self.ended = true;
        talk.say(&Reply::ExecEnd { id: self.id, status, timed_out: self.timed_out });
    }

    /// Whether its process ended and its status was sent.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether nothing of it is left.
    pub fn is_over(&self) -> bool {
        self.ended && self.pipes.iter().all(Option::is_none)
    }

    fn say(&self, fd: u8, bytes: &[u8], talk: &mut Talk) {
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        talk.say(&Reply::Output { id: self.id, fd, data });
    }
}
