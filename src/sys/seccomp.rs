//! Seccomp: installing a filter and answering its notifications, see seccomp(2) and seccomp_unotify(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// One instruction of a classic BPF program, as the kernel's `struct sock_filter`.
pub type Instruction = libc::sock_filter;

const SET_MODE_FILTER: libc::c_ulong = 1;
const GET_NOTIF_SIZES: libc::c_ulong = 3;
const FLAG_NEW_LISTENER: libc::c_ulong = 1 << 3;
const FLAG_WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
const FLAG_CONTINUE: u32 = 1;
const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_SET_FLAGS: u64 = 0x4008_2104;
const SYNC_WAKE_UP: u64 = 1;

/// Installs a filter for this thread and all its children.
///
/// Needs CAP_SYS_ADMIN, or no_new_privs set.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    seccomp_filter(0, program).map(drop)
}

/// Installs a filter whose RET_USER_NOTIF calls are handed to the descriptor that is returned.
///
/// Where the kernel has it, a call that was handed over is not interrupted by signals that do not kill:
/// otherwise a runtime that preempts itself by signals restarts the call for ever.
pub fn install_with_listener(program: &[Instruction]) -> io::Result<OwnedFd> {
    let fd = match seccomp_filter(FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV, program) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            seccomp_filter(FLAG_NEW_LISTENER, program)?
        }
        other => other?,
    };
    // SAFETY: the call succeeded, so this is a new descriptor that only we know.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn seccomp_filter(flags: libc::c_ulong, program: &[Instruction]) -> io::Result<libc::c_long> {
    let program = libc::sock_fprog {
        len: program.len().try_into().map_err(|_| io::Error::other("the filter is too long"))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that outlive the call; the kernel only reads them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) })
}

/// Whether this container refuses sockets of AF_VSOCK.
pub fn refuses_vsock() -> bool {
    // SAFETY: takes numbers; what it makes is closed at once.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    let refused = fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    if fd >= 0 {
        // SAFETY: the call succeeded, so this is a new descriptor that only we know.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    refused
}

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    /// Names it in the answer.
    pub id: u64,
    /// Thread that made the call, in our pid namespace.
    pub tid: i32,
    /// Number of the call.
    pub number: i32,
    /// `AUDIT_ARCH_*` of the call.
    pub arch: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// The receiving end of a filter.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    request: Vec<u64>,
    response: Vec<u64>,
}

impl Listener {
    /// Takes the descriptor of [`install_with_listener`].
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut sizes =
            libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
        // SAFETY: the kernel writes the three sizes into the struct that we own.
        check(unsafe { libc::syscall(libc::SYS_seccomp, GET_NOTIF_SIZES, 0, &raw mut sizes) })?;
        let words = |size: u16, least: usize| usize::from(size).max(least).div_ceil(8);
        // Wakes the tracee on our processor: the two take turns. Kernels before 6.6 do not know it.
        // SAFETY: the argument is a plain number.
        let _ = unsafe { libc::ioctl(fd.as_raw_fd(), NOTIF_SET_FLAGS as _, SYNC_WAKE_UP) };
        Ok(Self {
            request: vec![0; words(sizes.seccomp_notif, size_of::<libc::seccomp_notif>())],
            response: vec![0; words(sizes.seccomp_notif_resp, size_of::<libc::seccomp_notif_resp>())],
            fd,
        })
    }

    /// For poll(2).
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// The next call. Call it when poll(2) says so, else it waits. `None`: the caller is already gone.
    pub fn receive(&mut self) -> io::Result<Option<Notification>> {
        self.request.fill(0);
        // SAFETY: the buffer is zeroed, aligned, and as long as the kernel said its struct is.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), NOTIF_RECV as _, self.request.as_mut_ptr()) };
        if let Err(error) = check(result.into()) {
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: the buffer is at least as long as the struct, aligned, and plain data.
        let request: libc::seccomp_notif = unsafe { std::ptr::read(self.request.as_ptr().cast()) };
        Ok(Some(Notification {
            id: request.id,
            tid: request.pid as i32,
            number: request.data.nr,
            arch: request.data.arch,
            args: request.data.args,
        }))
    }

    /// Lets the call run. `false`: it is not waiting any more (its thread was killed), and what was read
    /// from that thread may be another one's.
    pub fn go_on(&mut self, id: u64) -> io::Result<bool> {
        self.answer(id, 0, FLAG_CONTINUE)
    }

    /// Lets the call fail with an error number. `false`: it is not waiting any more.
    pub fn refuse(&mut self, id: u64, errno: i32) -> io::Result<bool> {
        self.answer(id, -errno, 0)
    }

    fn answer(&mut self, id: u64, error: i32, flags: u32) -> io::Result<bool> {
        self.response.fill(0);
        let response = libc::seccomp_notif_resp { id, val: 0, error, flags };
        // SAFETY: the buffer is at least as long as the struct, aligned, and plain data.
        unsafe { std::ptr::write(self.response.as_mut_ptr().cast(), response) };
        // SAFETY: the buffer is as long as the kernel said its struct is; the kernel only reads it.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), NOTIF_SEND as _, self.response.as_mut_ptr()) };
        match check(result.into()) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
