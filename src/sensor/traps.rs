//! Traps: the syscall recorder. The kernel stops a call of the target at its entry and tells us; we read
//! which path it names, let it go on, and write the path down.
//!
//! It tells us by user notification, or where that cannot be had, because we follow the target by ptrace.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::call::{Stopped, Unread};
use super::event::AccessKind;
use super::journal::{Journal, Touch};
use super::spawn::Spawned;
use super::table::{self, Arch, Call, Form, IO_URING_SETUP};
use super::who::Who;
use crate::sys::errno;
use crate::sys::ptrace::{self, Entry, Stop};
use crate::sys::seccomp::Listener;

/// The recorder: the receiving ends of the filters (one for the target, one for each exec), or the
/// processes that are followed.
#[derive(Debug, Default)]
pub struct Traps {
    ends: Vec<End>,
    /// Processes that we started, until they executed their program: so long they run our own code.
    starting: HashSet<i32>,
    chrooted: bool,
}

#[derive(Debug)]
struct End {
    listener: Listener,
    origin: String,
}

/// What a stopped call is.
enum Look {
    /// Of no interest.
    Nothing,
    /// Refused while recording.
    IoUring,
    /// Not readable for us.
    Foreign(u32),
    /// It names paths.
    Names { call: &'static Call, process: u32, touches: Result<Vec<Touch>, Unread> },
}

impl Traps {
    /// Records a process that was spawned, and all that it starts. Everything there is `origin`.
    pub fn attach(&mut self, spawned: &mut Spawned, origin: &str) -> anyhow::Result<()> {
        match (spawned.listener.take(), spawned.followed) {
            (Some(listener), _) => {
                let listener = Listener::new(listener).context("cannot use the filter's listener")?;
                self.ends.push(End { listener, origin: origin.to_owned() });
            }
            (None, true) => {
                ptrace::seize(spawned.pid).context("ptrace(SEIZE) failed; add CAP_SYS_PTRACE")?;
            }
            (None, false) => return Ok(()),
        }
        self.starting.insert(spawned.pid);
        Ok(())
    }

    /// For poll(2), in the order of [`Traps::answer`]'s index.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ends.iter().map(|end| end.listener.fd())
    }

    /// Answers the call that poll(2) announced at one end.
    pub fn answer(&mut self, end: usize, who: &mut Who, journal: &mut Journal) {
        if let Err(error) = self.try_answer(end, who, journal) {
            journal.lost(format!("a trapped system call could not be answered: {error}"));
        }
    }

    /// Answers the calls that wait now, but not for ever: a busy target makes more meanwhile.
    pub fn answer_waiting(&mut self, who: &mut Who, journal: &mut Journal) {
        for _ in 0..64 {
            let mut fds: Vec<PollFd<'_>> = self.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0) {
                return;
            }
            let waits = |fd: &PollFd<'_>| fd.revents().is_some_and(|flags| flags.contains(PollFlags::POLLIN));
            let waiting: Vec<bool> = fds.iter().map(waits).collect();
            for (end, _) in waiting.into_iter().enumerate().filter(|(_, waits)| *waits) {
                self.answer(end, who, journal);
            }
        }
    }

    fn try_answer(&mut self, end: usize, who: &mut Who, journal: &mut Journal) -> io::Result<()> {
        let Some(End { listener, origin }) = self.ends.get_mut(end) else { return Ok(()) };
        let Some(call) = listener.receive()? else { return Ok(()) };
        let entry = Entry { number: call.number, arch: call.arch, args: call.args };
        let look = look(call.tid, &entry, Some(origin), &mut self.starting, self.chrooted, who, journal);
        let goes_on = match look {
            Look::IoUring => listener.refuse(call.id, libc::ENOSYS)?,
            _ => listener.go_on(call.id)?,
        };
        // If it does not, its thread was killed, and what we read may be another one's.
        if goes_on {
            self.write(call.tid, look, who, journal);
        }
        Ok(())
    }

    /// A process that was spawned ended: its pid may be another one's.
    pub fn forget(&mut self, pid: i32) {
        self.starting.remove(&pid);
    }

    /// Forgets an end that nobody is behind any more.
    pub fn close(&mut self, end: usize) {
        if end < self.ends.len() {
            self.ends.remove(end);
        }
    }

    /// Lets a followed thread that stopped run on; records what it stopped for.
    pub fn stopped(&mut self, tid: i32, status: i32, who: &mut Who, journal: &mut Journal) {
        let stop = Stop::of(status);
        let mut seen = Look::Nothing;
        if stop == Stop::Call {
            match ptrace::entry(tid) {
                Ok(entry) => {
                    seen = look(tid, &entry, None, &mut self.starting, self.chrooted, who, journal);
                }
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => journal.lost(format!("a stopped system call could not be read: {error}")),
            }
        }
        // ESRCH: it was killed meanwhile.
        if ptrace::go_on(tid, stop).is_ok() {
            self.write(tid, seen, who, journal);
        }
    }

    fn write(&mut self, tid: i32, look: Look, who: &mut Who, journal: &mut Journal) {
        let (call, process, touches) = match look {
            Look::Nothing => return,
            Look::IoUring => {
                return journal.note(
                    "io_uring was asked for and refused (ENOSYS): what a ring does cannot be recorded",
                );
            }
            Look::Foreign(arch) => {
                return journal.lost(format!(
                    "a program of an architecture that is not recorded ran (AUDIT_ARCH {arch:#x})"
                ));
            }
            Look::Names { call, process, touches } => (call, process, touches),
        };
        self.chrooted |= call.form == Form::Root;
        if call.kind == AccessKind::Exec {
            who.executes(tid, Some(process));
        }
        match touches {
            Ok(touches) => touches.into_iter().for_each(|touch| journal.access(touch, process)),
            Err(Unread::Nothing) => {}
            Err(Unread::Error(error)) => {
                let remedy = match error.raw_os_error() {
                    Some(libc::EPERM | libc::EACCES) => "; add CAP_SYS_PTRACE",
                    _ => "",
                };
                let error = errno(&error);
                journal.lost(format!("the path of a call to {} could not be read: {error}{remedy}", call.name));
            }
        }
    }
}

/// Finds out what a stopped call is. Its thread must not run on meanwhile.
fn look(
    tid: i32,
    entry: &Entry,
    origin: Option<&str>,
    starting: &mut HashSet<i32>,
    chrooted: bool,
    who: &mut Who,
    journal: &mut Journal,
) -> Look {
    let Some(arch) = Arch::from_audit(entry.arch) else { return Look::Foreign(entry.arch) };
    if entry.number == IO_URING_SETUP[arch as usize] {
        return Look::IoUring;
    }
    let Some(call) = table::find(arch, entry.number) else { return Look::Nothing };
    if starting.contains(&tid) {
        // Our own code looks for the program.
        if call.kind != AccessKind::Exec {
            return Look::Nothing;
        }
        starting.remove(&tid);
    }
    let process = who.image(tid, origin, journal);
    let touches = Stopped { tid, call, args: entry.args }.touches(who, chrooted);
    Look::Names { call, process, touches }
}
