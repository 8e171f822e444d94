//! Event: one line of a trace. A trace is JSON lines: a header, then events as they come, then `end`.
//!
//! The format is described in docs/formats.md, "Trace". A trace without its `end` line is incomplete.
//! Paths are in the lossless text form of [`crate::image::path::encode_bytes`].

use serde::{Deserialize, Serialize};

use crate::image::tree::text_bytes;

/// The version of the trace format that this program writes and reads.
pub const TRACE_VERSION: u32 = 1;

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Line {
    /// First line.
    Header(Header),
    /// A process image, once, before its first access.
    Process(Process),
    /// A probe (or other named phase) began; accesses after it belong to it.
    Mark {
        /// Number that accesses refer to; 0 is "start", before any mark.
        n: u32,
        /// The probe's name.
        name: String,
    },
    /// A path was touched. Equal accesses (same kind, path, process image, mark) are written once.
    Access(Access),
    /// Something was not recorded: the trace is incomplete.
    Lost {
        /// What happened, for people: "fanotify queue overflow".
        what: String,
    },
    /// A thing worth telling that does not make the trace incomplete.
    Note {
        /// For people.
        text: String,
    },
    /// The target (the first process) ended.
    Exit {
        /// Exit status as a shell shows it: 0-255, 128+n for signal n.
        status: i32,
    },
    /// Last line. Its absence means that the sensor died.
    End {
        /// How many `access` lines the trace holds.
        accesses: u64,
    },
}

/// First line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`TRACE_VERSION`].
    pub slim_trace: u32,
    /// Architecture of the machine as Go names it: `amd64`, `arm64`.
    pub arch: String,
    /// Kernel release, as uname(2) gives it.
    pub kernel: String,
    /// What recorded, and why so.
    pub recorders: Recorders,
}

/// Which recorders ran, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorders {
    /// `None`: not armed.
    pub fanotify: Option<String>,
    /// `None`: not armed; else how: `user-notification` or `ptrace`.
    pub syscalls: Option<String>,
    /// Why one is missing or was left out, for people; empty when both run.
    pub why: String,
}

/// A process as it was when it first touched something (after an exec it counts as another one). Processes
/// with the same `exe`, `comm` and `origin` share the first one's number and pid: a server that forks for
/// each request does not make the trace grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Number that accesses refer to.
    pub id: u32,
    /// Process id in the container's pid namespace.
    pub pid: i32,
    /// The executable as /proc/PID/exe names it; empty when it was gone too soon.
    #[serde(with = "text_bytes")]
    pub exe: Vec<u8>,
    /// comm, see proc(5).
    pub comm: String,
    /// What started it: `target`, `exec:NAME` for probes and the healthcheck, `foreign` for a
    /// process that came into the container another way (`docker exec`).
    pub origin: String,
}

/// A path was touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Access {
    /// Which recorder and what kind of use.
    pub kind: AccessKind,
    /// Absolute path. From fanotify: the file itself, symlinks resolved. From the syscall recorder: the
    /// attempted path joined to its base directory, not normalised, symlinks not resolved.
    #[serde(with = "text_bytes")]
    pub path: Vec<u8>,
    /// How many of its first bytes are the base directory: the working directory, a directory that was open, the
    /// root of a chroot(). What follows, without a `/` between them, is the path as attempted. 0: the whole path.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub base: usize,
    /// Syscall name (`newfstatat`); empty from fanotify.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call: String,
    /// The symlink in the last component was itself the object (lstat, readlink, O_NOFOLLOW, unlink).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nofollow: bool,
    /// [`Process::id`].
    pub process: u32,
    /// Mark that was current.
    pub mark: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What an access says about a path. Kinds stay apart up to the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessKind {
    /// fanotify FAN_OPEN_EXEC, or an exec syscall: executed.
    Exec,
    /// fanotify FAN_OPEN, or an open syscall with anything but O_PATH and O_DIRECTORY.
    Open,
    /// A directory was opened (FAN_ONDIR, O_DIRECTORY).
    OpenDir,
    /// Metadata was asked for: stat family, access family, statfs, xattr reads, O_PATH.
    Stat,
    /// A symlink was read: readlink.
    Readlink,
    /// chdir, chroot, pivot_root.
    Chdir,
    /// A unix socket was connected or bound there.
    Socket,
    /// Metadata was written: chmod, chown, utimes, xattr writes.
    Meta,
    /// A name was made, removed or moved: rename, link, unlink, mkdir, rmdir, symlink, mknod. The path was
    /// possibly in the image before.
    Name,
    /// A watch was set: inotify, fanotify.
    Watch,
}
