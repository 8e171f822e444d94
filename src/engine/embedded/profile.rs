//! Profile: the filter of a container's system calls, as Docker's default profile (moby `seccomp/default.json`) has it.
//!
//! That profile lists what is allowed; here stands what is left: calls that are refused unless the container has a
//! capability, and those that are always refused. Calls that are younger than the profile do not exist (ENOSYS), so
//! that programs fall back. The numbers are those of Linux 6.18, as in the sensor's table.

use crate::sensor::table::{Arch, NONE};
use crate::sys::process::capability;
use crate::sys::seccomp::Instruction;

/// A refused call: its numbers on x86-64, i386 and arm64, and the capabilities of which one opens it.
type Refused = (&'static str, [i32; 3], &'static [&'static str]);

const ADMIN: &[&str] = &["CAP_SYS_ADMIN"];
const TRACE: &[&str] = &["CAP_SYS_PTRACE"];
const NICE: &[&str] = &["CAP_SYS_NICE"];
const MODULE: &[&str] = &["CAP_SYS_MODULE"];
const TIME: &[&str] = &["CAP_SYS_TIME"];
const NEVER: &[&str] = &[];

const REFUSED: &[Refused] = &[
    ("_sysctl", [156, 149, NONE], NEVER),
    ("acct", [163, 51, 89], &["CAP_SYS_PACCT"]),
    ("add_key", [248, 286, 217], NEVER),
    ("bpf", [321, 357, 280], &["CAP_SYS_ADMIN", "CAP_BPF"]),
    ("chroot", [161, 61, 51], &["CAP_SYS_CHROOT"]),
    ("clock_settime", [227, 264, 112], TIME),
    ("clock_settime64", [NONE, 404, NONE], TIME),
    ("create_module", [174, 127, NONE], NEVER),
    ("delete_module", [176, 129, 106], MODULE),
    ("fanotify_init", [300, 338, 262], ADMIN),
    ("finit_module", [313, 350, 273], MODULE),
    ("fsconfig", [431, 431, 431], ADMIN),
    ("fsmount", [432, 432, 432], ADMIN),
    ("fsopen", [430, 430, 430], ADMIN),
    ("fspick", [433, 433, 433], ADMIN),
    ("get_kernel_syms", [177, 130, NONE], NEVER),
    ("get_mempolicy", [239, 275, 236], NICE),
    ("init_module", [175, 128, 105], MODULE),
    ("io_uring_enter", [426, 426, 426], NEVER),
    ("io_uring_register", [427, 427, 427], NEVER),
    ("io_uring_setup", [425, 425, 425], NEVER),
    ("ioperm", [173, 101, NONE], &["CAP_SYS_RAWIO"]),
    ("iopl", [172, 110, NONE], &["CAP_SYS_RAWIO"]),
    ("kcmp", [312, 349, 272], TRACE),
    ("kexec_file_load", [320, NONE, 294], NEVER),
    ("kexec_load", [246, 283, 104], NEVER),
    ("keyctl", [250, 288, 219], NEVER),
    ("lookup_dcookie", [212, 253, 18], ADMIN),
    ("mbind", [237, 274, 235], NICE),
    ("migrate_pages", [256, 294, 238], NEVER),
    ("mount", [165, 21, 40], ADMIN),
    ("mount_setattr", [442, 442, 442], ADMIN),
    ("move_mount", [429, 429, 429], ADMIN),
    ("move_pages", [279, 317, 239], NEVER),
    ("nfsservctl", [180, 169, 42], NEVER),
    ("open_by_handle_at", [304, 342, 265], &["CAP_DAC_READ_SEARCH"]),
    ("open_tree", [428, 428, 428], ADMIN),
    ("perf_event_open", [298, 336, 241], &["CAP_SYS_ADMIN", "CAP_PERFMON"]),
    ("pidfd_getfd", [438, 438, 438], TRACE),
    ("pivot_root", [155, 217, 41], NEVER),
    ("process_madvise", [440, 440, 440], TRACE),
    ("query_module", [178, 167, NONE], NEVER),
    ("quotactl", [179, 131, 60], ADMIN),
    ("quotactl_fd", [443, 443, 443], ADMIN),
    ("reboot", [169, 88, 142], &["CAP_SYS_BOOT"]),
    ("request_key", [249, 287, 218], NEVER),
    ("set_mempolicy", [238, 276, 237], NICE),
    ("set_mempolicy_home_node", [450, 450, 450], NICE),
    ("setdomainname", [171, 121, 162], ADMIN),
    ("sethostname", [170, 74, 161], ADMIN),
    ("setns", [308, 346, 268], ADMIN),
    ("settimeofday", [164, 79, 170], TIME),
    ("stime", [NONE, 25, NONE], TIME),
    ("swapoff", [168, 115, 225], NEVER),
    ("swapon", [167, 87, 224], NEVER),
    ("sysfs", [139, 135, NONE], NEVER),
    ("syslog", [103, 103, 116], &["CAP_SYS_ADMIN", "CAP_SYSLOG"]),
    ("umount", [NONE, 22, NONE], ADMIN),
    ("umount2", [166, 52, 39], ADMIN),
    ("unshare", [272, 310, 97], ADMIN),
    ("uselib", [134, 86, NONE], NEVER),
    ("userfaultfd", [323, 374, 282], NEVER),
    ("ustat", [136, 62, NONE], NEVER),
    ("vhangup", [153, 111, 58], &["CAP_SYS_TTY_CONFIG"]),
    ("vm86", [NONE, 166, NONE], NEVER),
    ("vm86old", [NONE, 113, NONE], NEVER),
];

const CLONE: [i32; 3] = [56, 120, 220];
const CLONE3: [i32; 3] = [435, 435, 435];
const PERSONALITY: [i32; 3] = [135, 136, 92];
const SOCKET: [i32; 3] = [41, 359, 198];

/// CLONE_NEWNS and its like, see clone(2).
const CLONE_NEW: u32 = 0x7e02_0000;

/// What personality(2) may be asked for: Linux, Linux 32, each without address randomisation, and the question.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];

/// Families of sockets that lead around the namespaces: AF_ALG and AF_VSOCK.
const FAMILIES: [u32; 2] = [38, 40];

/// The youngest call that the profile knows: removexattrat.
const YOUNGEST: u32 = 466;

/// Numbers from here on are calls of the x32 ABI.
const X32: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const BITS: u16 = 0x45;
const RETURN: u16 = 0x06;
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENT: u32 = 16;

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, jt: yes, jf: no, k }
}

/// The filter of a container with these capabilities, by number.
pub(super) fn filter(capabilities: &[u32]) -> Vec<Instruction> {
    let mut program = vec![op(LOAD, ARCH)];
    for arch in Arch::here() {
        let calls = calls(*arch, capabilities);
        program.push(jump(EQUAL, arch.audit(), 1, 0));
        program.push(op(JUMP, calls.len() as u32));
        program.extend(calls);
    }
    program.push(op(RETURN, EPERM));
    program
}

fn calls(arch: Arch, capabilities: &[u32]) -> Vec<Instruction> {
    let has = |names: &[&str]| names.iter().filter_map(|name| capability(name)).any(|cap| capabilities.contains(&cap));
    let mut program = vec![op(LOAD, NUMBER)];
    if arch == Arch::X86_64 {
        program.push(jump(AT_LEAST, X32, 0, 1));
        program.push(op(RETURN, EPERM));
    }
    program.push(jump(GREATER, YOUNGEST, 0, 1));
    program.push(op(RETURN, ENOSYS));
    let mut add = |number: i32, then: Vec<Instruction>| {
        if number != NONE {
            program.push(jump(EQUAL, number as u32, 0, then.len() as u8));
            program.extend(then);
        }
    };
    for (_, numbers, opened_by) in REFUSED {
        if !has(opened_by) {
            add(numbers[arch as usize], vec![op(RETURN, EPERM)]);
        }
    }
    if !has(ADMIN) {
        let then = vec![op(LOAD, ARGUMENT), jump(BITS, CLONE_NEW, 0, 1), op(RETURN, EPERM), op(RETURN, ALLOW)];
        add(CLONE[arch as usize], then);
        // Its flags are behind a pointer; programs fall back to clone.
        add(CLONE3[arch as usize], vec![op(RETURN, ENOSYS)]);
    }
    add(SOCKET[arch as usize], one_of(&FAMILIES, EPERM, ALLOW));
    add(PERSONALITY[arch as usize], one_of(&PERSONALITIES, ALLOW, EPERM));
    program.push(op(RETURN, ALLOW));
    program
}

/// What is returned when the first argument is one of these, and when it is not.
fn one_of(values: &[u32], yes: u32, no: u32) -> Vec<Instruction> {
    let tests = values.iter().enumerate().map(|(at, value)| jump(EQUAL, *value, (values.len() - at) as u8, 0));
    [op(LOAD, ARGUMENT)].into_iter().chain(tests).chain([op(RETURN, no), op(RETURN, yes)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[Instruction], arch: Arch, number: i32, argument: u32) -> u32 {
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let i = program[at];
            at += 1;
            let mut branch = |yes: bool| at += usize::from(if yes { i.jt } else { i.jf });
            match (i.code, i.k) {
                (LOAD, NUMBER) => a = number as u32,
                (LOAD, ARCH) => a = arch.audit(),
                (LOAD, ARGUMENT) => a = argument,
                (JUMP, k) => at += k as usize,
                (EQUAL, k) => branch(a == k),
                (GREATER, k) => branch(a > k),
                (AT_LEAST, k) => branch(a >= k),
                (BITS, k) => branch(a & k != 0),
                (RETURN, k) => return k,
                (code, _) => panic!("instruction {code:#x}"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn each_call_gets_the_verdict_of_dockers_profile() {
        let plain = filter(&[]);
        let admin = filter(&[21]);
        for (program, arch, number, argument, verdict) in [
            (&plain, Arch::X86_64, 0, 0, ALLOW),
            (&plain, Arch::X86_64, 165, 0, EPERM),
            (&admin, Arch::X86_64, 165, 0, ALLOW),
            (&plain, Arch::X86_64, 250, 0, EPERM),
            (&admin, Arch::X86_64, 250, 0, EPERM),
            (&plain, Arch::X86_64, 56, 0x11, ALLOW),
            (&plain, Arch::X86_64, 56, 0x1000_0011, EPERM),
            (&plain, Arch::X86_64, 435, 0, ENOSYS),
            (&admin, Arch::X86_64, 435, 0, ALLOW),
            (&plain, Arch::X86_64, 41, 2, ALLOW),
            (&plain, Arch::X86_64, 41, 40, EPERM),
            (&plain, Arch::X86_64, 41, 38, EPERM),
            (&plain, Arch::X86_64, 135, 0x2_0000, ALLOW),
            (&plain, Arch::X86_64, 135, 0x4_0000, EPERM),
            (&plain, Arch::X86_64, 467, 0, ENOSYS),
            (&plain, Arch::X86_64, 0x4000_0002, 0, EPERM),
            (&plain, Arch::I386, 21, 0, EPERM),
            (&plain, Arch::I386, 5, 0, ALLOW),
            (&plain, Arch::Aarch64, 0, 0, EPERM),
        ] {
            assert_eq!(run(program, arch, number, argument), verdict, "{arch:?} {number} {argument:#x}");
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_sensors_table() {
        for (name, numbers, _) in REFUSED {
            if let Some(gate) = crate::sensor::table::GATES.iter().find(|gate| gate.name == *name) {
                assert_eq!(*numbers, gate.numbers, "{name}");
            }
        }
    }
}
