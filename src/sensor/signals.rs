//! Signals: how they reach the sensor, and whether a process would notice one if it were PID 1.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::who::Status;
use crate::sys;

/// Signals to the sensor, as something to poll.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks all signals and receives them here.
    pub fn block() -> nix::Result<Self> {
        let all = SigSet::all();
        all.thread_set_mask()?;
        SignalFd::with_flags(&all, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// For poll(2).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The next signal's number; `None` when there is none now.
    pub fn next(&self) -> Option<i32> {
        self.0.read_signal().ok().flatten().map(|info| info.ssi_signo as i32)
    }
}

/// Whether this process, if it were PID 1 of its namespace, would get the signal: it has a handler, or the
/// signal is blocked (and so waits for sigwait or signalfd). The kernel drops any other one, except SIGKILL
/// and SIGSTOP from outside (kernel/signal.c, `sig_task_ignored`). Where the sensor itself is not PID 1 (the
/// container has an init), the target would not be either, and gets every signal.
pub fn would_notice(pid: i32, signal: i32) -> bool {
    if matches!(signal, libc::SIGKILL | libc::SIGSTOP) || std::process::id() != 1 {
        return true;
    }
    let bit = 1u64 << (signal.clamp(1, 64) - 1);
    let status = |pid| Status::read(pid).unwrap_or_default();
    status(pid).caught & bit != 0
        || tasks(pid).into_iter().any(|tid| status(tid).blocked & bit != 0 || waits_for(tid, bit))
}

fn tasks(pid: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a thread is in sigtimedwait(2) for the signal: while it is, the signal is not shown as blocked.
fn waits_for(tid: i32, bit: u64) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap_or_default();
    let mut words = text.split_whitespace();
    let number: Option<i64> = words.next().and_then(|word| word.parse().ok());
    let set = words.next().and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    let (Some(libc::SYS_rt_sigtimedwait), Some(set)) = (number, set) else {
        return false;
    };
    let bytes = sys::read_memory(tid, set, 8).unwrap_or_default();
    <[u8; 8]>::try_from(bytes).is_ok_and(|bytes| u64::from_ne_bytes(bytes) & bit != 0)
}

/// Sends a signal; that there is nobody to get it is no error.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    match sys::process::kill(pid, signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// The processes of a session.
pub fn session(leader: i32) -> Vec<i32> {
    processes().into_iter().filter(|pid| stat_field(*pid, 3) == Some(leader)).collect()
}

/// Kills every other process of the container, as the kernel does when PID 1 ends; where the sensor is not
/// PID 1, its descendants.
pub fn kill_all() {
    let me = std::process::id() as i32;
    if me == 1 {
        let _ = send(-1, libc::SIGKILL);
        return;
    }
    for pid in processes() {
        let mut above = pid;
        while above > 1 && above != me {
            above = stat_field(above, 1).unwrap_or(0);
        }
        if above == me && pid != me {
            let _ = send(pid, libc::SIGKILL);
        }
    }
}

fn processes() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A number of /proc/PID/stat: 1 is the parent, 2 the process group, 3 the session (what follows the name).
fn stat_field(pid: i32, index: usize) -> Option<i32> {
    let bytes = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(index)?.parse().ok()
}
