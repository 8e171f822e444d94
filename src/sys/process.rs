//! Process: starting a child, and what a child can give up, see fork(2), capabilities(7), credentials(7).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::check;

/// Runs `child` in a new process and gives its pid. What `child` returns is its exit status.
///
/// Only for a program with one thread: in the child of any other one, locks that other threads held are
/// locked for ever.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<i32> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("this process has more than one thread"));
    }
    // SAFETY: the caller has one thread (checked above), so the child may do anything.
    match check(unsafe { libc::fork() }.into())? {
        0 => {
            let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or(70);
            // SAFETY: ends the child without running anything that belongs to the parent.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid as i32),
    }
}

/// A process of this command gets SIGTERM when the thread that starts it ends, however that comes; see prctl(2),
/// PR_SET_PDEATHSIG.
pub fn end_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: one system call, which takes numbers; nothing is allocated or locked between fork and exec.
    unsafe {
        command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0).into()).map(drop));
    }
}

/// Sets every signal that has no default disposition back to it, and unblocks all.
pub fn reset_signals() {
    // The kernel's own struct: the C library lets nobody near the signals that it uses itself, and those too may have
    // come ignored. All zero is SIG_DFL without flags and with an empty mask, on every architecture.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads the struct, of which no more than this is there, and refuses what cannot be set.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8usize) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Marks every descriptor from 3 on to be closed at exec.
pub fn close_on_exec_from_3() {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: only flags of descriptors change, and none is closed in this process.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOSE_RANGE_CLOEXEC) };
}

/// The capabilities by name, in the order of their numbers.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability; `None` for a name that is none. `CAP_` may be left out.
pub fn capability(name: &str) -> Option<u32> {
    let name = name.to_ascii_uppercase();
    let short = name.strip_prefix("CAP_").unwrap_or(&name);
    CAPABILITIES.iter().position(|cap| cap[4..] == *short).map(|number| number as u32)
}

/// The bounding set of this thread as bits.
pub fn bounding_set() -> u64 {
    (0..64u32)
        // SAFETY: reads one bit; a number that the kernel does not know is an error.
        .filter(|cap| unsafe { libc::prctl(libc::PR_CAPBSET_READ, *cap as libc::c_ulong, 0, 0, 0) } == 1)
        .fold(0, |bits, cap| bits | 1 << cap)
}

/// Drops one capability from the bounding set for ever.
pub fn drop_bounding(cap: u32) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0, 0, 0) }.into()).map(drop)
}

/// Sets effective and permitted to `bits`, and inheritable and ambient to nothing.
pub fn set_capabilities(bits: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // SAFETY: takes numbers. Kernels before 4.3 have no ambient set and say EINVAL.
    let _ = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let header = Header { version: 0x2008_0522, pid: 0 };
    let half = |bits: u32| Data { effective: bits, permitted: bits, inheritable: 0 };
    let data = [half(bits as u32), half((bits >> 32) as u32)];
    // SAFETY: header and data are laid out as version 3 of the interface has them; the kernel reads them.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// The permitted set of this thread as bits.
pub fn permitted_set() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Sets the ids of this process: supplementary groups, then group, then user, each with its saved id.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // A user namespace of an unprivileged user cannot have others than it has, see user_namespaces(7).
    let denied = std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.trim_ascii() == b"deny");
    if !denied {
        // SAFETY: the pointer is good for `len` ids, which the kernel reads.
        check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }.into())
            .map_err(|error| named("setgroups", &error))?;
    }
    // SAFETY: takes a number.
    check(unsafe { libc::setgid(gid) }.into()).map_err(|error| named("setgid", &error))?;
    // SAFETY: takes a number.
    check(unsafe { libc::setuid(uid) }.into()).map_err(|error| named("setuid", &error))?;
    Ok(())
}

fn named(call: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}: {error}"))
}

/// Sends a few bytes and possibly a descriptor over a unix socket.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let rights = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    let bytes = [io::IoSlice::new(bytes)];
    sendmsg::<()>(socket.as_raw_fd(), &bytes, rights.as_slice(), MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives a message and possibly a descriptor from a unix socket; empty at its end.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut buffer = [0u8; 1024];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let (length, fds) = {
        let mut bytes = [io::IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut control), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                other => break other?,
            }
        };
        let fds: Vec<OwnedFd> = message
            .cmsgs()?
            .filter_map(|control| match control {
                ControlMessageOwned::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            // SAFETY: the kernel made these descriptors for this message and nobody else knows of them.
            .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
            .collect();
        (message.bytes, fds)
    };
    Ok((buffer[..length].to_vec(), fds.into_iter().next()))
}

/// execve(2); comes back only with an error.
pub fn exec(program: &CStr, argv: &[&CStr], environment: &[&CStr]) -> io::Error {
    match nix::unistd::execve(program, argv, environment) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// A signal's number from its name with or without `SIG`, its number, or `RTMIN+n`; `None` when there is none.
pub fn signal_number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = short.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    if let Some(rest) = short.strip_prefix("RTMIN") {
        // signal(7): the C library keeps the first two real-time signals, so SIGRTMIN is 34.
        let offset: i32 = if rest.is_empty() { 0 } else { rest.parse().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    format!("SIG{short}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

/// kill(2) with any signal number, real-time ones too.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// What became of a child, or of a process that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended, with this exit status as a shell shows it.
    Ended(i32, i32),
    /// It stopped; the status is that of waitpid(2).
    Stopped(i32, i32),
}

/// The next child that changed; `None` when none has. The error is ECHILD when there are no children.
pub fn reap() -> io::Result<Option<Change>> {
    let mut status = 0;
    // SAFETY: the kernel writes an int into the one we own.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) }.into())?;
    let pid = pid as i32;
    Ok(match pid {
        0 => None,
        _ if libc::WIFSTOPPED(status) => Some(Change::Stopped(pid, status)),
        _ if libc::WIFSIGNALED(status) => Some(Change::Ended(pid, 128 + libc::WTERMSIG(status))),
        _ => Some(Change::Ended(pid, libc::WEXITSTATUS(status))),
    })
}

/// Whether a uid_map is that of the machine itself (user_namespaces(7)).
pub fn is_every_user(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}
