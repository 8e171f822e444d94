//! Sys: the one door to the kernel for what has no safe interface elsewhere. Every unsafe block and every
//! raw syscall of this program is behind it; each function here is safe to call with any arguments.

#![allow(unsafe_code)]

pub mod process;
pub mod ptrace;
pub mod seccomp;
pub mod socket;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The result of a call as an `io::Result`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An error as system calls name it: `EPERM`.
pub fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
        None => error.to_string(),
    }
}

/// Bytes as a C string, cut at the first NUL: the kernel would see no more of it.
pub fn c_string(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

/// The environment as it was handed to this process, `NAME=value` bytes in the order of environ(7).
pub fn environment() -> Vec<Vec<u8>> {
    std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect()
}

/// One of the standard streams. It stays open for the life of the process.
pub fn standard(stream: Standard) -> BorrowedFd<'static> {
    // SAFETY: Rust's runtime opens 0, 1 and 2 at start if they were closed, and nothing here closes them.
    unsafe { BorrowedFd::borrow_raw(stream as i32) }
}

/// The standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// Descriptor 0.
    Input = 0,
    /// Descriptor 1.
    Output = 1,
    /// Descriptor 2.
    Error = 2,
}

/// An event of a fanotify group, see fanotify(7).
#[derive(Debug)]
pub struct FanotifyEvent {
    /// `FAN_*` bits.
    pub mask: u64,
    /// The file, opened for us; `None` with `FAN_Q_OVERFLOW`.
    pub file: Option<OwnedFd>,
    /// Process that caused it, in our pid namespace; 0 when it is in another one.
    pub pid: i32,
}

const EVENT_SIZE: usize = size_of::<libc::fanotify_event_metadata>();

/// Reads at most `most` events of a fanotify group; none when there is none now.
///
/// The kernel opens a descriptor for each event while it is read. A failure to do so after the first event
/// is not reported by it, so the caller chooses `most` such that the limit cannot be hit.
pub fn fanotify_read(group: BorrowedFd<'_>, most: usize) -> io::Result<Vec<FanotifyEvent>> {
    let mut buffer = vec![0u8; EVENT_SIZE * most.max(1)];
    // SAFETY: the buffer is writable for its whole length.
    let got = unsafe { libc::read(group.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let got = match check(got as libc::c_long) {
        Ok(got) => got as usize,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut events = Vec::new();
    let mut at = 0;
    while at + EVENT_SIZE <= got {
        // SAFETY: at + EVENT_SIZE is inside the buffer, and any bytes are a valid value of this plain struct.
        let event: libc::fanotify_event_metadata =
            unsafe { std::ptr::read_unaligned(buffer[at..].as_ptr().cast()) };
        if event.vers != libc::FANOTIFY_METADATA_VERSION {
            return Err(io::Error::other(format!("fanotify speaks version {}", event.vers)));
        }
        // SAFETY: the kernel made this descriptor for this event and nobody else knows of it.
        let file = (event.fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(event.fd) });
        events.push(FanotifyEvent { mask: event.mask, file, pid: event.pid });
        at += (event.event_len as usize).max(EVENT_SIZE);
    }
    Ok(events)
}

/// Opens a fanotify group. See fanotify_init(2) for the flags.
pub fn fanotify_open(flags: u32, event_flags: u32) -> io::Result<OwnedFd> {
    let fd = fanotify::low_level::fanotify_init(flags, event_flags)?;
    // SAFETY: the call succeeded, so this is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds a mark to a fanotify group. See fanotify_mark(2) for the flags.
pub fn fanotify_mark(group: BorrowedFd<'_>, flags: u32, mask: u64, path: &Path) -> io::Result<()> {
    fanotify::low_level::fanotify_mark(group.as_raw_fd(), flags, mask, libc::AT_FDCWD, path)
}

/// A path of mountinfo as it is: space, tab, newline and backslash stand there as octal escapes (proc(5)).
pub fn unescape_mount(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        let octal = |c: u8| (b'0'..=b'7').contains(&c).then(|| u32::from(c - b'0'));
        match (b, tail) {
            (b'\\', [x, y, z, tail @ ..]) => match (octal(*x), octal(*y), octal(*z)) {
                (Some(x), Some(y), Some(z)) => {
                    bytes.push((x * 64 + y * 8 + z) as u8);
                    rest = tail;
                }
                _ => bytes.push(b),
            },
            _ => bytes.push(b),
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Opens another description of what a descriptor refers to, so that flags set on it are ours alone.
pub fn reopen(fd: BorrowedFd<'_>, flags: i32) -> io::Result<OwnedFd> {
    let path = c_string(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes());
    open(&path, flags)
}

fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string that outlives the call.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }.into())?;
    // SAFETY: the call succeeded, so this is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// readlinkat(2) into a buffer of the greatest path length; `path` is relative to `dir`.
pub fn readlink_at(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<Vec<u8>> {
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the path is a C string and the buffer is writable for the length given.
    let got =
        unsafe { libc::readlinkat(dir.as_raw_fd(), path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let got = check(got as libc::c_long)? as usize;
    Ok(buffer[..got].to_vec())
}

/// Reads from the memory of a thread, up to the first NUL, `most` bytes or the end of what is mapped.
pub fn read_memory(tid: i32, address: u64, most: usize) -> io::Result<Vec<u8>> {
    const PAGE: u64 = 4096;
    let mut buffer = vec![0u8; most];
    let end = address.saturating_add(most as u64);
    let mut remote = Vec::with_capacity(3);
    let mut from = address;
    // The kernel copies whole pieces, so a piece must not reach into a page that may be unmapped.
    while from < end {
        let to = ((from / PAGE + 1) * PAGE).min(end);
        remote.push(libc::iovec { iov_base: from as usize as *mut _, iov_len: (to - from) as usize });
        from = to;
    }
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: most };
    // SAFETY: the local piece is our buffer; the remote ones are addresses of the other process, which the
    // kernel checks.
    let got = unsafe {
        libc::process_vm_readv(tid, &raw const local, 1, remote.as_ptr(), remote.len() as libc::c_ulong, 0)
    };
    let got = check(got as libc::c_long)? as usize;
    buffer.truncate(got);
    Ok(buffer)
}
