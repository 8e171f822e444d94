//! Filter: the program that the kernel runs for each system call of the target. It decides whether the call
//! is let through, refused, or handed to the recorder.
//!
//! Classic BPF, see seccomp(2). The calls stand one after the other, each a comparison and what follows, so
//! that no jump is longer than a byte. The kernel computes beforehand which calls are always let through.

use super::table::{Age, Arch, CALLS, Call, Form, GATES, IO_URING_SETUP, NONE};
use crate::sys::process::capability;
use crate::sys::seccomp::Instruction;

/// How a call is handed to the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// SECCOMP_RET_USER_NOTIF.
    Notify,
    /// SECCOMP_RET_TRACE.
    Trace,
}

/// Which calls are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Nothing.
    Nothing,
    /// What fanotify cannot see.
    Unopened,
    /// Every call that takes a path.
    Everything,
}

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_BITS: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// Numbers from here on are calls of the x32 ABI, which is not recorded.
const X32: u32 = 0x4000_0000;
const O_PATH: u32 = libc::O_PATH as u32;
const AT_EMPTY_PATH: u32 = 0x1000;
/// AT_NO_AUTOMOUNT and AT_STATX_SYNC_TYPE: they change nothing about which file is meant.
const AT_HARMLESS: u32 = 0x0800 | 0x6000;

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, jt: yes, jf: no, k }
}

/// The low half of an argument: flags and descriptors have no more.
fn argument(index: usize) -> Instruction {
    op(LOAD, 16 + 8 * index as u32)
}

/// What Docker's default profile would refuse without our added capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// The target's capabilities, bit n for number n.
    pub caps: u64,
    /// How old the profile is.
    pub age: Age,
}

/// The program for a target. Empty when there is nothing to do.
pub fn program(watched: Watched, trap: Trap, narrow: Option<Narrow>) -> Vec<Instruction> {
    if watched == Watched::Nothing && narrow.is_none() {
        return Vec::new();
    }
    let trap = match trap {
        Trap::Notify => RET_USER_NOTIF,
        Trap::Trace => RET_TRACE,
    };
    let mut program = vec![op(LOAD, ARCH)];
    for arch in Arch::here() {
        let calls = calls_of(*arch, watched, trap, narrow);
        program.push(jump(JUMP_EQUAL, arch.audit(), 1, 0));
        program.push(op(JUMP, calls.len() as u32));
        program.extend(calls);
    }
    // Another architecture: the recorder says that it cannot be recorded.
    program.push(op(RETURN, if watched == Watched::Nothing { RET_ALLOW } else { trap }));
    program
}

fn calls_of(arch: Arch, watched: Watched, trap: u32, narrow: Option<Narrow>) -> Vec<Instruction> {
    let mut program = vec![op(LOAD, NUMBER)];
    if arch == Arch::X86_64 {
        program.push(jump(JUMP_AT_LEAST, X32, 0, 1));
        program.push(op(RETURN, RET_ERRNO | libc::ENOSYS as u32));
    }
    let mut add = |number: i32, then: Vec<Instruction>| {
        if number != NONE && !then.is_empty() {
            program.push(jump(JUMP_EQUAL, number as u32, 0, then.len() as u8));
            program.extend(then);
        }
    };
    for gate in GATES {
        let Some(Narrow { caps, age }) = narrow else { break };
        if age > gate.until {
            continue;
        }
        if gate.caps.iter().filter_map(|cap| capability(cap)).any(|cap| caps & (1 << cap) != 0) {
            continue;
        }
        let refuse = op(RETURN, RET_ERRNO | gate.errno as u32);
        let then = match gate.bits {
            0 => vec![refuse],
            bits => vec![argument(0), jump(JUMP_BITS, bits, 0, 1), refuse, op(RETURN, RET_ALLOW)],
        };
        add(gate.numbers[arch as usize], then);
    }
    if watched != Watched::Nothing {
        for call in CALLS {
            add(call.numbers[arch as usize], handed_over(call, watched, trap));
        }
        // With a tracer there is nobody to answer in its place.
        let refuse = if trap == RET_TRACE { RET_ERRNO | libc::ENOSYS as u32 } else { trap };
        add(IO_URING_SETUP[arch as usize], vec![op(RETURN, refuse)]);
    }
    program.push(op(RETURN, RET_ALLOW));
    program
}

/// What follows when the number is that of `call`; nothing when it is not handed over.
fn handed_over(call: &Call, watched: Watched, trap: u32) -> Vec<Instruction> {
    let (trap, allow) = (op(RETURN, trap), op(RETURN, RET_ALLOW));
    match (call.form, watched) {
        (Form::Open(flags), Watched::Unopened) => {
            vec![argument(flags), jump(JUMP_BITS, O_PATH, 0, 1), trap, allow]
        }
        (Form::Creat, Watched::Unopened) => Vec::new(),
        (Form::Fstat(dir, flags), _) => vec![
            argument(flags),
            op(AND, !AT_HARMLESS),
            jump(JUMP_EQUAL, AT_EMPTY_PATH, 0, 2),
            argument(dir),
            jump(JUMP_EQUAL, libc::AT_FDCWD as u32, 0, 1),
            trap,
            allow,
        ],
        (Form::SocketCall, _) => vec![
            argument(0),
            jump(JUMP_EQUAL, SYS_BIND, 1, 0),
            jump(JUMP_EQUAL, SYS_CONNECT, 0, 1),
            trap,
            allow,
        ],
        _ => vec![trap],
    }
}

/// socketcall's number for bind, see linux/net.h.
pub const SYS_BIND: u32 = 2;
/// socketcall's number for connect, see linux/net.h.
pub const SYS_CONNECT: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[Instruction], arch: Arch, number: i32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend((number as u32).to_le_bytes());
        data.extend(arch.audit().to_le_bytes());
        data.extend([0; 8]);
        data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let i = program[at];
            at += 1;
            let mut branch = |yes: bool| at += usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LOAD => a = u32::from_le_bytes(data[i.k as usize..][..4].try_into().unwrap()),
                JUMP => at += i.k as usize,
                JUMP_EQUAL => branch(a == i.k),
                JUMP_AT_LEAST => branch(a >= i.k),
                JUMP_BITS => branch(a & i.k != 0),
                AND => a &= i.k,
                RETURN => return i.k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    const NO_CAPS: Option<Narrow> = Some(Narrow { caps: 0, age: Age::Old });
    const CWD: u64 = libc::AT_FDCWD as u32 as u64;

    #[test]
    fn each_call_gets_the_verdict_of_its_arguments() {
        let split = program(Watched::Unopened, Trap::Notify, NO_CAPS);
        let all = program(Watched::Everything, Trap::Notify, None);
        let errno = |n: i32| RET_ERRNO | n as u32;
        for (program, number, args, expected) in [
            (&split, 257, [CWD, 1, 0, 0, 0, 0], RET_ALLOW),
            (&split, 257, [CWD, 1, u64::from(O_PATH), 0, 0, 0], RET_USER_NOTIF),
            (&all, 257, [CWD, 1, 0, 0, 0, 0], RET_USER_NOTIF),
            (&split, 262, [5, 1, 2, 0x1000, 0, 0], RET_ALLOW),
            (&split, 262, [CWD, 1, 2, 0x1000, 0, 0], RET_USER_NOTIF),
            (&split, 262, [5, 1, 2, 0x1100, 0, 0], RET_USER_NOTIF),
            (&split, 262, [5, 1, 2, 0, 0, 0], RET_USER_NOTIF),
            (&split, 332, [5, 1, 0x1000 | 0x2000, 0, 0, 0], RET_ALLOW),
            (&split, 59, [0; 6], RET_USER_NOTIF),
            (&split, 0, [0; 6], RET_ALLOW),
            (&split, 56, [0x11, 0, 0, 0, 0, 0], RET_ALLOW),
            (&split, 56, [0x1000_0011, 0, 0, 0, 0, 0], errno(libc::EPERM)),
            (&split, 435, [0; 6], errno(libc::ENOSYS)),
            (&split, 165, [0; 6], errno(libc::EPERM)),
            (&all, 165, [0; 6], RET_USER_NOTIF),
            (&all, 425, [0; 6], RET_USER_NOTIF),
            (&all, 0x4000_0000 | 2, [0; 6], errno(libc::ENOSYS)),
        ] {
            assert_eq!(run(program, Arch::X86_64, number, args), expected, "{number} {args:x?}");
        }
        assert_eq!(run(&split, Arch::I386, 195, [0; 6]), RET_USER_NOTIF);
        assert_eq!(run(&split, Arch::I386, 102, [3, 0, 0, 0, 0, 0]), RET_USER_NOTIF);
        assert_eq!(run(&split, Arch::I386, 102, [2, 0, 0, 0, 0, 0]), RET_USER_NOTIF);
        assert_eq!(run(&split, Arch::I386, 102, [1, 0, 0, 0, 0, 0]), RET_ALLOW);
        assert_eq!(run(&split, Arch::I386, 4, [0; 6]), RET_ALLOW);
    }

    #[test]
    fn an_unknown_architecture_is_handed_over() {
        let split = program(Watched::Unopened, Trap::Notify, None);
        assert_eq!(run(&split, Arch::Aarch64, 0, [0; 6]), RET_USER_NOTIF);
    }

    #[test]
    fn a_capability_that_the_target_keeps_opens_its_calls() {
        let admin = 1u64 << 21;
        let split = program(Watched::Unopened, Trap::Notify, Some(Narrow { caps: admin, age: Age::New }));
        assert_eq!(run(&split, Arch::X86_64, 272, [0; 6]), RET_ALLOW);
        assert_eq!(run(&split, Arch::X86_64, 312, [0; 6]), RET_ERRNO | libc::EPERM as u32);
    }

    #[test]
    fn nothing_to_do_is_no_program() {
        assert!(program(Watched::Nothing, Trap::Notify, None).is_empty());
    }
}
