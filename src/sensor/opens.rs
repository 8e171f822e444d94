//! Opens: the fanotify recorder. The kernel queues an event for each open and exec below the marked mounts,
//! by whatever process; the reader names the file, and tells the kernel to be quiet about that inode.
//!
//! fanotify-rs does init and mark; events are read by [`crate::sys::fanotify_read`], because the crate's
//! reader swallows errors, cannot report an overflow, and panics on names that are not UTF-8.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use fanotify::low_level as fan;
use nix::sys::stat::fstat;

use super::event::AccessKind;
use super::journal::{Journal, Touch};
use super::who::Who;
use crate::sys::{self, FanotifyEvent, errno};

/// FAN_UNLIMITED_QUEUE and the rest; without the first a stalled reader loses events.
const FLAGS: u32 = fan::FAN_CLASS_NOTIF
    | fan::FAN_CLOEXEC
    | fan::FAN_NONBLOCK
    | fan::FAN_UNLIMITED_QUEUE
    | fan::FAN_UNLIMITED_MARKS;

/// How the kernel opens a file for us. Without O_NONBLOCK a fifo would wait for its writer.
const EVENT_FLAGS: i32 = libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC | libc::O_NONBLOCK;

const MASK: u64 = fan::FAN_OPEN | fan::FAN_OPEN_EXEC | fan::FAN_ONDIR;

/// The recorder.
#[derive(Debug)]
pub struct Opens {
    group: OwnedFd,
    batch: usize,
    own_pid: i32,
}

impl Opens {
    /// Marks `/` and each of `mounts`. At most `batch` files are open at a time.
    /// Also gives notes for the trace.
    pub fn arm(mounts: &[String], batch: usize) -> Result<(Self, Vec<String>)> {
        let remedy = match sys::process::is_every_user(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default()) {
            true => "add CAP_SYS_ADMIN or use --sensor syscalls",
            false => "only root of the machine itself may have it, not root of a user namespace; --sensor syscalls does without",
        };
        let group = sys::fanotify_open(FLAGS, EVENT_FLAGS as u32)
            .map_err(|error| anyhow!("fanotify_init(CLASS_NOTIF) = {}; {remedy}", errno(&error)))?;
        let mark = |path: &str| mark_mount(group.as_fd(), path);
        let mut notes = Vec::new();
        for mount in std::iter::once("/").chain(mounts.iter().map(String::as_str)) {
            match mark(mount) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    notes.push(format!("there is no {mount} to watch"));
                }
                Err(error) => bail!("fanotify_mark(MOUNT, {mount}) = {}; {remedy}", errno(&error)),
            }
        }
        Ok((Self { group, batch, own_pid: std::process::id() as i32 }, notes))
    }

    /// Marks for the copies of the mounts that a new mount namespace has.
    pub fn marks(&self, mounts: &[String]) -> Result<Marks> {
        let group = self.group.try_clone().context("share the fanotify group")?;
        Ok(Marks { group, mounts: mounts.to_vec() })
    }

    /// For poll(2).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// Reads one batch; `false` when there was nothing.
    pub fn read(&mut self, who: &mut Who, journal: &mut Journal) -> bool {
        let events = match sys::fanotify_read(self.group.as_fd(), self.batch) {
            Ok(events) => events,
            Err(error) => {
                // The kernel has already dropped the event that it could not open.
                journal.lost(format!("an event of fanotify could not be read: {error}"));
                return false;
            }
        };
        let some = !events.is_empty();
        for event in events {
            self.take(&event, who, journal);
        }
        some
    }

    fn take(&self, event: &FanotifyEvent, who: &mut Who, journal: &mut Journal) {
        if event.mask & fan::FAN_Q_OVERFLOW != 0 {
            journal.lost("fanotify queue overflow");
        }
        let Some(file) = &event.file else { return };
        if event.pid == self.own_pid {
            return;
        }
        let path = match name(file) {
            Ok(path) => path,
            Err(error) => return journal.lost(format!("an opened file has no name: {error}")),
        };
        let stat = fstat(file);
        let is_dir = stat.as_ref().is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
        // A file with other names may be opened by one of them next.
        if is_dir || stat.is_ok_and(|stat| stat.st_nlink <= 1) {
            self.be_quiet(file, event.mask);
        }
        let kind = if event.mask & fan::FAN_OPEN_EXEC != 0 {
            AccessKind::Exec
        } else if is_dir {
            AccessKind::OpenDir
        } else {
            AccessKind::Open
        };
        let process = match kind {
            AccessKind::Exec => who.image_before_exec(event.pid, journal),
            _ => who.image(event.pid, None, journal),
        };
        journal.access(Touch { kind, path, base: 0, call: "", nofollow: false }, process);
    }

    /// Ignores the inode from now on, for just the kinds of event that it had. Failing costs time only.
    fn be_quiet(&self, file: &OwnedFd, mask: u64) {
        let flags = fan::FAN_MARK_ADD | fan::FAN_MARK_IGNORED_MASK | fan::FAN_MARK_IGNORED_SURV_MODIFY;
        let bits = mask & (fan::FAN_OPEN | fan::FAN_OPEN_EXEC);
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let _ = sys::fanotify_mark(self.group.as_fd(), flags, bits, &path);
    }
}

fn mark_mount(group: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    sys::fanotify_mark(group, fan::FAN_MARK_ADD | fan::FAN_MARK_MOUNT, MASK, Path::new(path))
}

/// Marks to be put on other mounts of the same names.
#[derive(Debug)]
pub struct Marks {
    group: OwnedFd,
    mounts: Vec<String>,
}

impl Marks {
    /// Marks what `/` and the mounts are in the mount namespace of the caller.
    pub fn put(&self) -> Result<()> {
        for mount in std::iter::once("/").chain(self.mounts.iter().map(String::as_str)) {
            match mark_mount(self.group.as_fd(), mount) {
                Ok(()) => {}
                // That it is not there was noted when the recorder was armed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => bail!("fanotify_mark(MOUNT, {mount}) = {}", errno(&error)),
            }
        }
        Ok(())
    }
}

/// The path of an open file. One that was deleted since is named as it was: if the image has that name it
/// was the image's file, and if not, the run made it and nothing is lost.
fn name(file: &OwnedFd) -> Result<Vec<u8>> {
    let link = sys::c_string(format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes());
    let mut path = sys::readlink_at(file.as_fd(), &link)?;
    anyhow::ensure!(path.first() == Some(&b'/'), "{} is below no root", crate::image::path::printable(&path));
    if let Some(kept) = path.strip_suffix(b" (deleted)") {
        // A file may be called so, too: then the name leads to it.
        if nix::sys::stat::lstat(path.as_slice()).is_err() {
            path.truncate(kept.len());
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::event::Line;

    #[test]
    fn queue_overflow_makes_the_trace_incomplete() {
        let mut file = tempfile::tempfile().unwrap();
        let mut journal = Journal::new(file.try_clone().unwrap());
        let opens = Opens { group: file.try_clone().unwrap().into(), batch: 1, own_pid: 1 };
        let event = FanotifyEvent { mask: fan::FAN_Q_OVERFLOW, file: None, pid: 0 };
        opens.take(&event, &mut Who::new(4, None), &mut journal);
        journal.flush();
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        let line: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(line, Line::Lost { what: "fanotify queue overflow".into() });
    }
    /// With a queue as long as the kernel's default (`fs.fanotify.max_queued_events`): the kernel's own overflow.
    #[test]
    #[ignore = "needs root"]
    fn a_queue_that_overflowed_says_so() {
        let limit = std::fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let group = sys::fanotify_open(FLAGS & !fan::FAN_UNLIMITED_QUEUE, EVENT_FLAGS as u32).unwrap();
        let below = fan::FAN_OPEN | fan::FAN_EVENT_ON_CHILD;
        sys::fanotify_mark(group.as_fd(), fan::FAN_MARK_ADD, below, dir.path()).unwrap();
        for n in 0..limit + 10 {
            std::fs::File::create(dir.path().join(n.to_string())).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        let mut journal = Journal::new(file.try_clone().unwrap());
        let mut opens = Opens { group, batch: 64, own_pid: 1 };
        let mut who = Who::new(4, None);
        while opens.read(&mut who, &mut journal) {}
        journal.flush();
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        let lost = text.lines().filter(|line| line.contains("lost")).collect::<Vec<_>>();
        assert_eq!(lost, [r#"{"t":"lost","what":"fanotify queue overflow"}"#]);
    }
}
