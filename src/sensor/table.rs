//! Table: the system calls that take a path, as data: their number on each architecture, which argument
//! is the path, what it is relative to, and what the call says about it.
//!
//! Numbers: arch/x86/entry/syscalls/syscall_64.tbl, syscall_32.tbl and include/uapi/asm-generic/unistd.h of
//! Linux 6.18. [`NONE`] stands where an architecture does not have a call on purpose.

use super::event::AccessKind::{self, Chdir, Exec, Meta, Name, Open, Readlink, Socket, Stat, Watch};

/// The architectures whose calls are known, in the order of [`Call::numbers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    X86_64 = 0,
    /// 32-bit programs on x86-64.
    I386 = 1,
    /// 64-bit ARM.
    Aarch64 = 2,
}

impl Arch {
    /// `AUDIT_ARCH_*` of linux/audit.h.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// The one with this `AUDIT_ARCH_*` number; `None` for one that is not known here.
    pub fn from_audit(number: u32) -> Option<Self> {
        [Self::X86_64, Self::I386, Self::Aarch64].into_iter().find(|arch| arch.audit() == number)
    }

    /// Those that programs on this machine can use.
    pub fn here() -> &'static [Arch] {
        if cfg!(target_arch = "aarch64") { &[Self::Aarch64] } else { &[Self::X86_64, Self::I386] }
    }
}

/// No such call on this architecture.
pub const NONE: i32 = -1;

/// A call that takes a path.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its number by [`Arch`].
    pub numbers: [i32; 3],
    /// What it says about its paths.
    pub kind: AccessKind,
    /// Where its paths are.
    pub paths: &'static [At],
    /// Whether a symlink in the last component is followed.
    pub last: Last,
    /// What is particular about it.
    pub form: Form,
}

/// Where a path is among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Relative to the working directory.
    Cwd(usize),
    /// Relative to the directory that another argument refers to.
    Dir(usize, usize),
}

/// Whether a symlink in the last component is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Always.
    Follow,
    /// Never: the link itself is the object.
    Itself,
    /// Not if this argument has one of these bits.
    ItselfIf(usize, u64),
    /// Only if this argument has one of these bits.
    FollowIf(usize, u64),
}

/// What is particular about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    Plain,
    /// Opens; the argument has O_ flags.
    Open(usize),
    /// Opens for writing and creates.
    Creat,
    /// openat2: the argument points to a struct that begins with O_ flags.
    OpenHow(usize),
    /// Asks about a descriptor when the second argument is AT_EMPTY_PATH and the first is not AT_FDCWD.
    Fstat(usize, usize),
    /// The arguments are a pointer to a socket address and its length.
    Address(usize, usize),
    /// i386's socketcall: which call, and a pointer to its arguments.
    SocketCall,
    /// Programs that have chroot()ed name paths from another root.
    Root,
}

const fn call(
    name: &'static str,
    numbers: [i32; 3],
    kind: AccessKind,
    paths: &'static [At],
    last: Last,
) -> Call {
    Call { name, numbers, kind, paths, last, form: Form::Plain }
}

const fn special(call: Call, form: Form) -> Call {
    Call { form, ..call }
}

const NOFOLLOW: u64 = 0x100;
const FOLLOW: u64 = 0x400;
const IN_DONT_FOLLOW: u64 = 0x0200_0000;
const FAN_MARK_DONT_FOLLOW: u64 = 4;
const O_NOFOLLOW: u64 = libc::O_NOFOLLOW as u64;

const P0: &[At] = &[At::Cwd(0)];
const P1: &[At] = &[At::Cwd(1)];
const P01: &[At] = &[At::Cwd(0), At::Cwd(1)];
const D01: &[At] = &[At::Dir(0, 1)];
const D12: &[At] = &[At::Dir(1, 2)];
const D34: &[At] = &[At::Dir(3, 4)];
const D45: &[At] = &[At::Dir(4, 5)];
const D0123: &[At] = &[At::Dir(0, 1), At::Dir(2, 3)];

use Last::{Follow, FollowIf, Itself, ItselfIf};

/// Every call that is recorded. Those that servers make for each request stand first: a filter is a list.
#[rustfmt::skip]
pub const CALLS: &[Call] = &[
    special(call("openat", [257, 295, 56], Open, D01, ItselfIf(2, O_NOFOLLOW)), Form::Open(2)),
    special(call("newfstatat", [262, NONE, 79], Stat, D01, ItselfIf(3, NOFOLLOW)), Form::Fstat(0, 3)),
    special(call("fstatat64", [NONE, 300, NONE], Stat, D01, ItselfIf(3, NOFOLLOW)), Form::Fstat(0, 3)),
    special(call("statx", [332, 383, 291], Stat, D01, ItselfIf(2, NOFOLLOW)), Form::Fstat(0, 2)),
    special(call("open", [2, 5, NONE], Open, P0, ItselfIf(1, O_NOFOLLOW)), Form::Open(1)),
    call("stat", [4, 106, NONE], Stat, P0, Follow),
    call("lstat", [6, 107, NONE], Stat, P0, Itself),
    call("stat64", [NONE, 195, NONE], Stat, P0, Follow),
    call("lstat64", [NONE, 196, NONE], Stat, P0, Itself),
    call("oldstat", [NONE, 18, NONE], Stat, P0, Follow),
    call("oldlstat", [NONE, 84, NONE], Stat, P0, Itself),
    special(call("connect", [42, 362, 203], Socket, &[], Follow), Form::Address(1, 2)),
    special(call("bind", [49, 361, 200], Socket, &[], Follow), Form::Address(1, 2)),
    special(call("socketcall", [NONE, 102, NONE], Socket, &[], Follow), Form::SocketCall),
    call("access", [21, 33, NONE], Stat, P0, Follow),
    call("faccessat", [269, 307, 48], Stat, D01, Follow),
    call("faccessat2", [439, 439, 439], Stat, D01, ItselfIf(3, NOFOLLOW)),
    call("readlink", [89, 85, NONE], Readlink, P0, Itself),
    call("readlinkat", [267, 305, 78], Readlink, D01, Itself),
    call("execve", [59, 11, 221], Exec, P0, Follow),
    call("execveat", [322, 358, 281], Exec, D01, ItselfIf(4, NOFOLLOW)),
    special(call("openat2", [437, 437, 437], Open, D01, Follow), Form::OpenHow(2)),
    special(call("creat", [85, 8, NONE], Open, P0, Follow), Form::Creat),
    call("statfs", [137, 99, 43], Stat, P0, Follow),
    call("statfs64", [NONE, 268, NONE], Stat, P0, Follow),
    call("getxattr", [191, 229, 8], Stat, P0, Follow),
    call("lgetxattr", [192, 230, 9], Stat, P0, Itself),
    call("listxattr", [194, 232, 11], Stat, P0, Follow),
    call("llistxattr", [195, 233, 12], Stat, P0, Itself),
    call("getxattrat", [464, 464, 464], Stat, D01, ItselfIf(2, NOFOLLOW)),
    call("listxattrat", [465, 465, 465], Stat, D01, ItselfIf(2, NOFOLLOW)),
    call("file_getattr", [468, 468, 468], Stat, D01, ItselfIf(4, NOFOLLOW)),
    call("name_to_handle_at", [303, 341, 264], Stat, D01, FollowIf(4, FOLLOW)),
    call("open_tree", [428, 428, 428], Stat, D01, ItselfIf(2, NOFOLLOW)),
    call("mount", [165, 21, 40], Stat, P01, Follow),
    call("umount", [NONE, 22, NONE], Stat, P0, Follow),
    call("umount2", [166, 52, 39], Stat, P0, Follow),
    call("move_mount", [429, 429, 429], Stat, D0123, Follow),
    call("chdir", [80, 12, 49], Chdir, P0, Follow),
    special(call("chroot", [161, 61, 51], Chdir, P0, Follow), Form::Root),
    special(call("pivot_root", [155, 217, 41], Chdir, P01, Follow), Form::Root),
    call("chmod", [90, 15, NONE], Meta, P0, Follow),
    call("fchmodat", [268, 306, 53], Meta, D01, Follow),
    call("fchmodat2", [452, 452, 452], Meta, D01, ItselfIf(3, NOFOLLOW)),
    call("chown", [92, 182, NONE], Meta, P0, Follow),
    call("lchown", [94, 16, NONE], Meta, P0, Itself),
    call("chown32", [NONE, 212, NONE], Meta, P0, Follow),
    call("lchown32", [NONE, 198, NONE], Meta, P0, Itself),
    call("fchownat", [260, 298, 54], Meta, D01, ItselfIf(4, NOFOLLOW)),
    call("utime", [132, 30, NONE], Meta, P0, Follow),
    call("utimes", [235, 271, NONE], Meta, P0, Follow),
    call("futimesat", [261, 299, NONE], Meta, D01, Follow),
    call("utimensat", [280, 320, 88], Meta, D01, ItselfIf(3, NOFOLLOW)),
    call("utimensat_time64", [NONE, 412, NONE], Meta, D01, ItselfIf(3, NOFOLLOW)),
    call("setxattr", [188, 226, 5], Meta, P0, Follow),
    call("lsetxattr", [189, 227, 6], Meta, P0, Itself),
    call("removexattr", [197, 235, 14], Meta, P0, Follow),
    call("lremovexattr", [198, 236, 15], Meta, P0, Itself),
    call("setxattrat", [463, 463, 463], Meta, D01, ItselfIf(2, NOFOLLOW)),
    call("removexattrat", [466, 466, 466], Meta, D01, ItselfIf(2, NOFOLLOW)),
    call("file_setattr", [469, 469, 469], Meta, D01, ItselfIf(4, NOFOLLOW)),
    call("truncate", [76, 92, 45], Meta, P0, Follow),
    call("truncate64", [NONE, 193, NONE], Meta, P0, Follow),
    call("rename", [82, 38, NONE], Name, P01, Itself),
    call("renameat", [264, 302, 38], Name, D0123, Itself),
    call("renameat2", [316, 353, 276], Name, D0123, Itself),
    call("link", [86, 9, NONE], Name, P01, Itself),
    call("linkat", [265, 303, 37], Name, D0123, FollowIf(4, FOLLOW)),
    call("unlink", [87, 10, NONE], Name, P0, Itself),
    call("unlinkat", [263, 301, 35], Name, D01, Itself),
    call("mkdir", [83, 39, NONE], Name, P0, Itself),
    call("mkdirat", [258, 296, 34], Name, D01, Itself),
    call("rmdir", [84, 40, NONE], Name, P0, Itself),
    call("symlink", [88, 83, NONE], Name, P1, Itself),
    call("symlinkat", [266, 304, 36], Name, D12, Itself),
    call("mknod", [133, 14, NONE], Name, P0, Itself),
    call("mknodat", [259, 297, 33], Name, D01, Itself),
    call("inotify_add_watch", [254, 292, 27], Watch, P1, ItselfIf(2, IN_DONT_FOLLOW)),
    call("fanotify_mark", [301, NONE, 263], Watch, D34, ItselfIf(1, FAN_MARK_DONT_FOLLOW)),
    // 32-bit programs pass the mask as two arguments.
    call("fanotify_mark", [NONE, 339, NONE], Watch, D45, ItselfIf(1, FAN_MARK_DONT_FOLLOW)),
];

/// io_uring_setup is refused while recording: what a ring does passes by the filter.
pub const IO_URING_SETUP: [i32; 3] = [425, 425, 425];

/// What a call is refused with when the target lacks all of some capabilities: the rules that Docker's
/// default seccomp profile has for containers without them (moby, profiles/seccomp/default_linux.go).
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Its name, for readers and tests.
    #[cfg_attr(not(test), expect(dead_code))]
    pub name: &'static str,
    /// Its number by [`Arch`].
    pub numbers: [i32; 3],
    /// With any of these the call is allowed.
    pub caps: &'static [&'static str],
    /// What it fails with.
    pub errno: i32,
    /// Refused only if the first argument has one of these bits; 0: always.
    pub bits: u32,
    /// Newer profiles allow it to everybody.
    pub until: Age,
}

/// How old a version of Docker's default profile is, told by what it refuses to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// Before Docker 23: it lets sockets of AF_VSOCK through.
    Old,
    /// It refuses them.
    New,
}

const fn gate(name: &'static str, numbers: [i32; 3], caps: &'static [&'static str]) -> Gate {
    Gate { name, numbers, caps, errno: libc::EPERM, bits: 0, until: Age::New }
}

const ADMIN: &[&str] = &["CAP_SYS_ADMIN"];
const TRACE: &[&str] = &["CAP_SYS_PTRACE"];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
pub const CLONE_NEW: u32 = 0x7e02_0000;

/// Every call that our own two capabilities open in Docker's profile.
#[rustfmt::skip]
pub const GATES: &[Gate] = &[
    Gate { bits: CLONE_NEW, ..gate("clone", [56, 120, 220], ADMIN) },
    Gate { errno: libc::ENOSYS, ..gate("clone3", [435, 435, 435], ADMIN) },
    gate("bpf", [321, 357, 280], &["CAP_SYS_ADMIN", "CAP_BPF"]),
    gate("fanotify_init", [300, 338, 262], ADMIN),
    gate("fsconfig", [431, 431, 431], ADMIN),
    gate("fsmount", [432, 432, 432], ADMIN),
    gate("fsopen", [430, 430, 430], ADMIN),
    gate("fspick", [433, 433, 433], ADMIN),
    gate("lookup_dcookie", [212, 253, 18], ADMIN),
    gate("mount", [165, 21, 40], ADMIN),
    gate("mount_setattr", [442, 442, 442], ADMIN),
    gate("move_mount", [429, 429, 429], ADMIN),
    gate("open_tree", [428, 428, 428], ADMIN),
    gate("perf_event_open", [298, 336, 241], &["CAP_SYS_ADMIN", "CAP_PERFMON"]),
    gate("quotactl", [179, 131, 60], ADMIN),
    gate("quotactl_fd", [443, 443, 443], ADMIN),
    gate("setdomainname", [171, 121, 162], ADMIN),
    gate("sethostname", [170, 74, 161], ADMIN),
    gate("setns", [308, 346, 268], ADMIN),
    gate("syslog", [103, 103, 116], &["CAP_SYS_ADMIN", "CAP_SYSLOG"]),
    gate("umount", [NONE, 22, NONE], ADMIN),
    gate("umount2", [166, 52, 39], ADMIN),
    gate("unshare", [272, 310, 97], ADMIN),
    gate("kcmp", [312, 349, 272], TRACE),
    gate("pidfd_getfd", [438, 438, 438], TRACE),
    gate("process_madvise", [440, 440, 440], TRACE),
    Gate { until: Age::Old, ..gate("process_vm_readv", [310, 347, 270], TRACE) },
    Gate { until: Age::Old, ..gate("process_vm_writev", [311, 348, 271], TRACE) },
    Gate { until: Age::Old, ..gate("name_to_handle_at", [303, 341, 264], ADMIN) },
];

/// The call with this number; `None` if it is not recorded.
pub fn find(arch: Arch, number: i32) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.numbers[arch as usize] == number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// `__NR_name number` of a kernel header; generic names that differ by word size become the 64-bit one.
    fn header(path: &str) -> BTreeMap<String, i32> {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{path}: {error}; install the kernel headers (linux-libc-dev)"));
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (Some("#define"), Some(name), Some(number)) = (words.next(), words.next(), words.next())
                else {
                    return None;
                };
                let name = match name.strip_prefix("__NR3264_") {
                    Some("fstatat") => "newfstatat",
                    Some(name) => name,
                    None => name.strip_prefix("__NR_")?,
                };
                Some((name.to_owned(), number.parse().ok()?))
            })
            .collect()
    }

    #[test]
    fn the_table_agrees_with_the_kernels_headers_on_every_architecture() {
        // Calls that are younger than the headers of Debian 12.
        const YOUNG: [&str; 7] = [
            "fchmodat2",
            "getxattrat",
            "listxattrat",
            "setxattrat",
            "removexattrat",
            "file_getattr",
            "file_setattr",
        ];
        let headers = [
            (Arch::X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
            (Arch::I386, "/usr/include/x86_64-linux-gnu/asm/unistd_32.h"),
            (Arch::Aarch64, "/usr/include/asm-generic/unistd.h"),
        ];
        for (arch, path) in headers {
            let known = header(path);
            let gates = GATES.iter().map(|gate| (gate.name, gate.numbers));
            let all = CALLS.iter().map(|call| (call.name, call.numbers)).chain(gates);
            for (name, numbers) in all {
                let number = numbers[arch as usize];
                let twin = CALLS.iter().any(|call| call.name == name && call.numbers[arch as usize] != NONE);
                match known.get(name) {
                    Some(expected) if number == NONE && twin && name == "fanotify_mark" => {
                        assert!(*expected > 0);
                    }
                    // The generic list has it for 32-bit machines.
                    Some(412) if arch == Arch::Aarch64 => assert_eq!(number, NONE, "{name}"),
                    Some(expected) => assert_eq!(number, *expected, "{name} on {arch:?}"),
                    None if YOUNG.contains(&name) => assert!(number > 450, "{name}"),
                    None => assert_eq!(number, NONE, "{name} is absent on {arch:?}"),
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_table_agrees_with_libc() {
        for (name, number) in [
            ("openat", libc::SYS_openat),
            ("statx", libc::SYS_statx),
            ("execveat", libc::SYS_execveat),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("mount_setattr", libc::SYS_mount_setattr),
        ] {
            let calls = CALLS.iter().map(|call| (call.name, call.numbers[0]));
            let mut all = calls.chain(GATES.iter().map(|gate| (gate.name, gate.numbers[0])));
            assert!(all.any(|(n, found)| n == name && i64::from(found) == number), "{name}");
        }
    }

    #[test]
    fn no_number_stands_twice_for_one_architecture() {
        for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64] {
            let mut numbers: Vec<i32> = CALLS.iter().map(|call| call.numbers[arch as usize]).collect();
            numbers.retain(|number| *number != NONE);
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{arch:?}");
        }
    }
}
