//! Who: which process image an event belongs to. A process is looked up in /proc at its first event; an
//! open directory of /proc/PID stands for the process itself, so a reused pid is never taken for it.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};

use super::journal::Journal;
use crate::sys;

/// The processes that were seen lately.
#[derive(Debug)]
pub struct Who {
    seen: HashMap<i32, Seen>,
    roots: HashMap<i32, String>,
    most: usize,
    filters: Option<u32>,
}

/// A thread (or process) by its /proc directory.
#[derive(Debug)]
struct Seen {
    dir: File,
    tgid: i32,
    exe: Vec<u8>,
    process: u32,
    /// It may have executed something else since.
    stale: bool,
    /// When it was last seen to be the same.
    checked: Instant,
    /// The image that executed this one, where its exec was trapped.
    executed_by: Option<u32>,
    origin: String,
}

impl Seen {
    fn is_alive(&self) -> bool {
        sys::readlink_at(self.dir.as_fd(), c"exe").is_ok()
    }
}

/// `target` of [`super::event::Process::origin`].
pub const TARGET: &str = "target";
/// No pid is used again so soon.
const RECENT: Duration = Duration::from_millis(10);
const FOREIGN: &str = "foreign";

impl Who {
    /// Keeps at most `most` descriptors. `filters`: processes that the sensor started have at least so many
    /// seccomp filters; `None` if it installs none.
    pub fn new(most: usize, filters: Option<u32>) -> Self {
        Self { seen: HashMap::new(), roots: HashMap::new(), most: most.max(4), filters }
    }

    /// A process that the sensor started, and what its descendants are called.
    pub fn add_root(&mut self, pid: i32, origin: &str) {
        self.roots.insert(pid, origin.to_owned());
    }

    /// A process that the sensor started ended: its pid may be another one's.
    pub fn remove_root(&mut self, pid: i32) {
        self.roots.remove(&pid);
    }

    /// The process image that a thread runs. `origin`: what started it, where the recorder knows.
    pub fn image(&mut self, tid: i32, origin: Option<&str>, journal: &mut Journal) -> u32 {
        if let Some(seen) = self.seen.get_mut(&tid) {
            // A server makes many calls in a row: it is not looked at for each of them. Only where an
            // exec is trapped: else it would not be noticed.
            if origin.is_some() && !seen.stale && seen.checked.elapsed() < RECENT {
                return seen.process;
            }
            let exe = sys::readlink_at(seen.dir.as_fd(), c"exe");
            if !seen.stale && exe.is_ok_and(|exe| exe == seen.exe) {
                seen.checked = Instant::now();
                return seen.process;
            }
        }
        self.look(tid, origin, journal).unwrap_or_else(|_| {
            // It is gone: what is known is what it was before.
            let last = self.seen.get(&tid);
            if let Some(seen) = last.filter(|seen| !seen.stale) {
                return seen.process;
            }
            let known = last.map(|seen| &seen.origin).or(self.roots.get(&tid));
            let origin = origin.or(known.map(String::as_str)).unwrap_or(TARGET).to_owned();
            journal.process(tid, b"", "", &origin)
        })
    }

    /// The process image whose doing an exec is that fanotify reports: the one before, while /proc may
    /// already show the one after.
    pub fn image_before_exec(&mut self, pid: i32, journal: &mut Journal) -> u32 {
        match self.seen.get_mut(&pid) {
            Some(seen) => {
                seen.stale = true;
                seen.executed_by.unwrap_or(seen.process)
            }
            None => {
                let process = self.image(pid, None, journal);
                self.executes(pid, None);
                process
            }
        }
    }

    /// A thread is about to execute something else; `by`: the image that does it, where that is known.
    pub fn executes(&mut self, tid: i32, by: Option<u32>) {
        let tgid = self.tgid(tid);
        for id in [tid, tgid] {
            if let Some(seen) = self.seen.get_mut(&id) {
                seen.stale = true;
                seen.executed_by = by;
            }
        }
    }

    /// readlink of a name in /proc/TID, of a thread that an image was asked for before.
    pub fn link(&self, tid: i32, name: &CStr) -> io::Result<Vec<u8>> {
        match self.seen.get(&tid) {
            Some(seen) => sys::readlink_at(seen.dir.as_fd(), name),
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// stat of what such a name leads to.
    pub fn stat(&self, tid: i32, name: &CStr) -> io::Result<FileStat> {
        match self.seen.get(&tid) {
            Some(seen) => Ok(fstatat(&seen.dir, name, AtFlags::empty())?),
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// The process that a thread belongs to.
    pub fn tgid(&self, tid: i32) -> i32 {
        self.seen.get(&tid).map_or(tid, |seen| seen.tgid)
    }

    fn look(&mut self, tid: i32, origin: Option<&str>, journal: &mut Journal) -> io::Result<u32> {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
        let dir = options.open(format!("/proc/{tid}"))?;
        let status = Status::read(tid)?;
        let exe = sys::readlink_at(dir.as_fd(), c"exe").unwrap_or_default();
        // Our own children before their exec are not a program of the image.
        let shown = if Some(&exe) == own_exe().as_ref() { Vec::new() } else { exe.clone() };
        let comm = std::fs::read(format!("/proc/{}/comm", status.tgid)).unwrap_or_default();
        let comm = String::from_utf8_lossy(comm.trim_ascii_end()).into_owned();
        let origin = origin.map_or_else(|| self.origin(&status), str::to_owned);
        let process = journal.process(status.tgid, &shown, &comm, &origin);
        if self.seen.len() >= self.most {
            self.seen.clear();
        }
        let executed_by = self.seen.get(&tid).and_then(|seen| seen.executed_by);
        let (tgid, stale, checked) = (status.tgid, false, Instant::now());
        self.seen.insert(tid, Seen { dir, tgid, exe, process, stale, checked, executed_by, origin });
        Ok(process)
    }

    /// What started a process: the first ancestor that is known. Orphans are children of the sensor: they
    /// are the target's, or else have no filter of ours.
    fn origin(&self, status: &Status) -> String {
        let me = std::process::id() as i32;
        let (mut pid, mut parent) = (status.tgid, status.parent);
        for _ in 0..64 {
            if let Some(origin) = self.roots.get(&pid) {
                return origin.clone();
            }
            if let Some(seen) = self.seen.get(&pid).filter(|seen| seen.is_alive()) {
                return seen.origin.clone();
            }
            if parent == me {
                let ours = match (self.filters, status.filters) {
                    (Some(least), Some(has)) => has >= least,
                    _ => true,
                };
                return if ours { TARGET } else { FOREIGN }.to_owned();
            }
            if parent == 0 {
                return FOREIGN.to_owned();
            }
            pid = parent;
            parent = Status::read(pid).map_or(0, |status| status.parent);
        }
        TARGET.to_owned()
    }
}

fn own_exe() -> Option<Vec<u8>> {
    let proc = File::open("/proc/self").ok()?;
    sys::readlink_at(proc.as_fd(), c"exe").ok()
}

/// What /proc/PID/status says, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Process that the thread belongs to.
    pub tgid: i32,
    /// Its parent; 0 when that is in another pid namespace.
    pub parent: i32,
    /// Number of seccomp filters; `None` on kernels before 5.9.
    pub filters: Option<u32>,
    /// Signals with a handler, bit n-1 for signal n.
    pub caught: u64,
    /// Signals that are blocked.
    pub blocked: u64,
}

impl Status {
    /// Reads /proc/PID/status.
    pub fn read(pid: i32) -> io::Result<Self> {
        let bytes = std::fs::read(format!("/proc/{pid}/status"))?;
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match key {
                "Tgid" => status.tgid = value.parse().unwrap_or(0),
                "PPid" => status.parent = value.parse().unwrap_or(0),
                "Seccomp_filters" => status.filters = value.parse().ok(),
                "SigCgt" => status.caught = u64::from_str_radix(value, 16).unwrap_or(0),
                "SigBlk" => status.blocked = u64::from_str_radix(value, 16).unwrap_or(0),
                _ => {}
            }
        }
        status
    }
}
