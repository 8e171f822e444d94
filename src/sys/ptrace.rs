//! Ptrace: following processes whose filter says SECCOMP_RET_TRACE, see ptrace(2).

use std::io;

use super::check;

const SEIZE: i32 = 0x4206;
const LISTEN: i32 = 0x4208;
const GET_SYSCALL_INFO: i32 = 0x420e;
const EVENT_SECCOMP: i32 = 7;
const EVENT_STOP: i32 = 128;
const INFO_SECCOMP: u8 = 3;

/// TRACEFORK, TRACEVFORK, TRACECLONE, TRACESECCOMP, EXITKILL.
const OPTIONS: usize = 0x2 | 0x4 | 0x8 | 0x80 | 0x10_0000;

/// Why a thread that is followed has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its filter stopped a call at its entry.
    Call,
    /// It was stopped by a signal, as a job is.
    Group,
    /// A signal is about to be delivered.
    Signal(i32),
    /// It forked, or was forked.
    Other,
}

impl Stop {
    /// From the status of waitpid(2).
    pub fn of(status: i32) -> Self {
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            EVENT_SECCOMP => Self::Call,
            EVENT_STOP => match signal {
                libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Self::Group,
                _ => Self::Other,
            },
            0 => Self::Signal(signal),
            _ => Self::Other,
        }
    }
}

/// Follows a process and whatever it starts. All are killed when this process ends.
pub fn seize(pid: i32) -> io::Result<()> {
    ptrace(SEIZE, pid, OPTIONS)
}

/// Lets a stopped thread run on.
pub fn go_on(tid: i32, stop: Stop) -> io::Result<()> {
    match stop {
        Stop::Group => ptrace(LISTEN, tid, 0),
        Stop::Signal(signal) => ptrace(libc::PTRACE_CONT as i32, tid, signal as usize),
        Stop::Call | Stop::Other => ptrace(libc::PTRACE_CONT as i32, tid, 0),
    }
}

fn ptrace(request: i32, pid: i32, data: usize) -> io::Result<()> {
    // SAFETY: these requests take numbers and touch no memory of ours.
    check(unsafe { libc::ptrace(request as _, pid, 0usize, data) }).map(drop)
}

/// The call at whose entry a thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the call.
    pub number: i32,
    /// `AUDIT_ARCH_*` of the call.
    pub arch: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// `struct ptrace_syscall_info` of linux/ptrace.h, for a seccomp stop.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Info {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    instruction: u64,
    stack: u64,
    number: u64,
    args: [u64; 6],
    data: u32,
    reserved: u32,
}

/// Reads the call of a thread that stopped with [`Stop::Call`].
pub fn entry(tid: i32) -> io::Result<Entry> {
    let mut info = Info::default();
    // SAFETY: the kernel writes at most the given size into the struct that we own.
    let got = unsafe { libc::ptrace(GET_SYSCALL_INFO as _, tid, size_of::<Info>(), &raw mut info) };
    match check(got) {
        Ok(_) if info.op == INFO_SECCOMP => {
            Ok(Entry { number: info.number as i32, arch: info.arch, args: info.args })
        }
        Ok(_) => Err(io::Error::other("not at the entry of a call")),
        // Kernels before 5.3.
        Err(error) if error.raw_os_error() == Some(libc::EIO) => registers(tid),
        Err(error) => Err(error),
    }
}

#[cfg(target_arch = "x86_64")]
fn registers(tid: i32) -> io::Result<Entry> {
    // SAFETY: all-zero bytes are a valid value of this plain struct.
    let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct that we own.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0usize, &raw mut regs) })?;
    Ok(from_registers(&regs))
}

#[cfg(target_arch = "x86_64")]
fn from_registers(regs: &libc::user_regs_struct) -> Entry {
    const CODE_SEGMENT_32: u64 = 0x23;
    let number = regs.orig_rax as i32;
    if regs.cs == CODE_SEGMENT_32 {
        let args = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(|arg| arg & 0xffff_ffff);
        return Entry { number, arch: 0x4000_0003, args };
    }
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    Entry { number, arch: 0xc000_003e, args }
}

#[cfg(not(target_arch = "x86_64"))]
fn registers(_: i32) -> io::Result<Entry> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_says_why_a_thread_stopped() {
        let status = |event: i32, signal: i32| event << 16 | signal << 8 | 0x7f;
        assert_eq!(Stop::of(status(7, libc::SIGTRAP)), Stop::Call);
        assert_eq!(Stop::of(status(128, libc::SIGSTOP)), Stop::Group);
        assert_eq!(Stop::of(status(128, libc::SIGTRAP)), Stop::Other);
        assert_eq!(Stop::of(status(1, libc::SIGTRAP)), Stop::Other);
        assert_eq!(Stop::of(status(0, libc::SIGUSR1)), Stop::Signal(libc::SIGUSR1));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn registers_of_both_word_sizes_give_the_call() {
        // SAFETY: all-zero bytes are a valid value of this plain struct.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        (regs.orig_rax, regs.rdi, regs.r10, regs.cs) = (257, 1, 4, 0x33);
        assert_eq!(from_registers(&regs), Entry { number: 257, arch: 0xc000_003e, args: [1, 0, 0, 4, 0, 0] });
        (regs.orig_rax, regs.rbx, regs.rbp, regs.cs) = (5, 0xffff_ffff_0000_0001, 6, 0x23);
        let entry = from_registers(&regs);
        assert_eq!((entry.number, entry.arch, entry.args), (5, 0x4000_0003, [1, 0, 0, 0, 1, 6]));
    }
}
