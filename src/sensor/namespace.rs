//! Namespace: the target as process 1 of a PID namespace of its own, as it is process 1 of its container when it
//! runs without us, with a /proc that shows it so (pid_namespaces(7), mount_namespaces(7)).
//!
//! Process 1 is special: a signal that it does not handle does not end it, orphans become its children, and some
//! programs (s6-overlay, systemd) start as nothing else.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::opens::Marks;

/// Where a child of the sensor lives.
#[derive(Debug)]
pub enum Place {
    /// Among the sensor's own processes.
    Beside,
    /// In namespaces that it makes when it starts.
    New {
        /// Puts the marks of the fanotify recorder on its copies of the mounts; `None` without that recorder.
        marks: Option<Marks>,
    },
    /// In those of the target: its mount namespace, and the working directory there.
    Joined(OwnedFd, PathBuf),
}

/// Makes the next child of this process the first of a new PID namespace. May be called again when that child
/// ended.
///
/// # Errors
/// When the kernel refuses: CAP_SYS_ADMIN is missing, or namespaces are forbidden.
pub fn before_fork() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        // It was done before, for a child that is gone.
        Err(Errno::EINVAL) => {
            stay()?;
            unshare(CloneFlags::CLONE_NEWPID)
        }
        done => done,
    }
    .context("unshare(NEWPID)")
}

/// Children are ours again.
///
/// # Errors
/// When CAP_SYS_ADMIN is missing: then they never were anybody else's.
pub fn stay() -> Result<()> {
    let own = File::open("/proc/self/ns/pid").context("open our PID namespace")?;
    setns(own, CloneFlags::CLONE_NEWPID).context("setns(NEWPID)")
}

/// The place of later children, once the target stands at its exec.
///
/// # Errors
/// When the target is gone.
pub fn of_target(pid: i32) -> Result<Place> {
    let mounts = File::open(format!("/proc/{pid}/ns/mnt")).context("open the target's mount namespace")?;
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    Ok(Place::Joined(mounts.into(), here))
}

impl Place {
    /// Goes there; called by the child, which still has the sensor's rights.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        match self {
            Self::Beside => Ok(()),
            Self::New { marks } => {
                unshare(CloneFlags::CLONE_NEWNS).context("unshare(NEWNS)")?;
                let none = None::<&str>;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
                new_proc()?;
                marks.as_ref().map_or(Ok(()), Marks::put)
            }
            Self::Joined(mounts, here) => {
                setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS).context("setns(NEWNS)")?;
                std::env::set_current_dir(here).context("go to the working directory")
            }
        }
    }
}

/// Mounts a /proc of this namespace over the old one, and over that again what the engine had put over parts of
/// it: masks, and directories that may only be read.
fn new_proc() -> Result<()> {
    let table = std::fs::read("/proc/self/mountinfo").context("read our mounts")?;
    let mut covers = Vec::new();
    for point in below_proc(&table) {
        // Held open: its name will mean what lies in the new /proc.
        let cover = File::options().read(true).custom_flags_path().open(&point);
        covers.push((cover.with_context(|| format!("open {}", point.display()))?, point));
    }
    let none = None::<&str>;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).context("mount /proc")?;
    for (cover, point) in covers {
        let source = format!("/proc/self/fd/{}", cover.as_raw_fd());
        let bound = mount(Some(source.as_str()), &point, none, MsFlags::MS_BIND | MsFlags::MS_REC, none);
        bound.with_context(|| format!("cover {}", point.display()))?;
    }
    Ok(())
}

/// An O_PATH open, which needs no right to the file.
trait PathOnly {
    fn custom_flags_path(&mut self) -> &mut Self;
}

impl PathOnly for std::fs::OpenOptions {
    fn custom_flags_path(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.custom_flags(libc::O_PATH | libc::O_CLOEXEC)
    }
}

/// The mount points below /proc, in the order of the table (proc(5), mountinfo): what was mounted later stands
/// further down. Of several at one point the last is what is seen.
fn below_proc(table: &[u8]) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        let Some(point) = line.split(|byte| *byte == b' ').nth(4) else { continue };
        if !point.starts_with(b"/proc/") {
            continue;
        }
        let point = crate::sys::unescape_mount(point);
        if !points.contains(&point) {
            points.push(point);
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_parts_of_proc_is_found_once_each() {
        let table = b"1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /proc rw - proc proc rw\n\
            3 2 0:2 /sys /proc/sys ro - proc proc rw\n4 2 0:3 /null /proc/kcore rw - tmpfs t rw\n\
            5 2 0:9 / /proc/a\\040b ro - tmpfs t rw\n6 2 0:9 / /proc/kcore ro - tmpfs t rw\n7 1 0:7 / /processes rw - x x rw\n";
        let points = below_proc(table);
        assert_eq!(points, ["/proc/sys", "/proc/kcore", "/proc/a b"].map(PathBuf::from));
    }
}
