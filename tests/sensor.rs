//! The sensor on tiny compiled programs, for real: each trap that a recorder can fall into has a test.
//!
//! They need root (namespaces, fanotify, seccomp) and gcc; those in `containers` need a container engine too.
//! `cargo test --test sensor -- --ignored`

#![allow(clippy::unwrap_used)]

#[path = "programs/bed.rs"]
mod bed;
#[path = "programs/containers.rs"]
mod containers;

use bed::{Bed, start};
use slim::sensor::control::{Command, Pid1, Reply, SensorMode, Start};
use slim::sensor::event::AccessKind::{
    Chdir, Exec, Meta, Name, Open, OpenDir, Readlink, Socket, Stat, Watch,
};
use slim::sensor::event::Line;

/// Runs `t` with these words to its end and gives the trace.
fn record(words: &str) -> bed::Trace {
    record_with(&start(words))
}

fn record_with(start: &Start) -> bed::Trace {
    let bed = Bed::new();
    let run = bed.start(start);
    let (trace, status) = run.finish();
    assert_eq!(status, 0, "{}", trace.text());
    trace.must_be_whole();
    trace
}

fn with(mode: SensorMode, words: &str) -> Start {
    Start { sensor: mode, ..start(words) }
}

#[test]
#[ignore = "needs root"]
fn every_kind_of_touch_is_recorded_with_its_kind() {
    // Each has a path of its own: none is in the trace for another's sake.
    let trace = record(
        "stat /data/1 , lstat /data/link , statx /data/2 , access /data/3 , readlink /data/4 , chdir /data/sub , \
         opath /data/a , open /data/b , opendir /data , openat2 /data/c , statfs /data/5 , getxattr /data/6 , \
         watch /data/7 , connect /data/socket , chmod /data/8 , chown /data/9 , utimes /data/10 , \
         link /data/11 /data/12 , rename /data/13 /data/14 , unlink /data/15 , mkdir /data/16 , rmdir /data/17 , \
         symlink /data/18 /data/19",
    );
    trace.must_have(&[
        (Stat, "/data/1"),
        (Stat, "/data/link"),
        (Stat, "/data/2"),
        (Stat, "/data/3"),
        (Readlink, "/data/4"),
        (Chdir, "/data/sub"),
        (Stat, "/data/a"),
        (Open, "/data/b"),
        (OpenDir, "/data"),
        (Open, "/data/c"),
        (Stat, "/data/5"),
        (Stat, "/data/6"),
        (Watch, "/data/7"),
        (Socket, "/data/socket"),
        (Meta, "/data/8"),
        (Meta, "/data/9"),
        (Meta, "/data/10"),
        (Name, "/data/11"),
        (Name, "/data/12"),
        (Name, "/data/13"),
        (Name, "/data/14"),
        (Name, "/data/15"),
        (Name, "/data/16"),
        (Name, "/data/17"),
        (Name, "/data/19"),
        (Exec, "/bin/t"),
    ]);
    assert!(!trace.accesses().any(|access| access.path == b"/data/18"), "what a new link says is no path that was used");
}

/// Every call of the table for x86-64 with its arguments; `P` and `Q` stand for paths that only it names. Those
/// that change how later paths are read stand last.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const EVERY_CALL: &[(&str, u32, slim::sensor::event::AccessKind, &str)] = &[
    ("openat", 257, Open, "@ P 0"), ("newfstatat", 262, Stat, "@ P buf 0"), ("statx", 332, Stat, "@ P 0 0 buf"),
    ("open", 2, Open, "P 0"), ("stat", 4, Stat, "P buf"), ("lstat", 6, Stat, "P buf"),
    ("connect", 42, Socket, "-1 sock:P 110"), ("bind", 49, Socket, "-1 sock:P 110"), ("access", 21, Stat, "P 0"),
    ("faccessat", 269, Stat, "@ P 0"), ("faccessat2", 439, Stat, "@ P 0 0"), ("readlink", 89, Readlink, "P buf 9"),
    ("readlinkat", 267, Readlink, "@ P buf 9"), ("execve", 59, Exec, "P buf buf"),
    ("execveat", 322, Exec, "@ P buf buf 0"), ("openat2", 437, Open, "@ P buf 24"), ("creat", 85, Open, "P 420"),
    ("statfs", 137, Stat, "P buf"), ("getxattr", 191, Stat, "P /x buf 9"), ("lgetxattr", 192, Stat, "P /x buf 9"),
    ("listxattr", 194, Stat, "P buf 9"), ("llistxattr", 195, Stat, "P buf 9"),
    ("getxattrat", 464, Stat, "@ P 0 /x buf 16"), ("listxattrat", 465, Stat, "@ P 0 buf 9"),
    ("file_getattr", 468, Stat, "@ P buf 24 0"), ("name_to_handle_at", 303, Stat, "@ P buf buf 0"),
    ("open_tree", 428, Stat, "@ P 0"), ("mount", 165, Stat, "P Q /x 0 0"), ("umount2", 166, Stat, "P 0"),
    ("move_mount", 429, Stat, "@ P @ Q 0"), ("chdir", 80, Chdir, "P"), ("chmod", 90, Meta, "P 420"),
    ("fchmodat", 268, Meta, "@ P 420"), ("fchmodat2", 452, Meta, "@ P 420 0"), ("chown", 92, Meta, "P 0 0"),
    ("lchown", 94, Meta, "P 0 0"), ("fchownat", 260, Meta, "@ P 0 0 0"), ("utime", 132, Meta, "P 0"),
    ("utimes", 235, Meta, "P 0"), ("futimesat", 261, Meta, "@ P 0"), ("utimensat", 280, Meta, "@ P 0 0"),
    ("setxattr", 188, Meta, "P /x buf 1 0"), ("lsetxattr", 189, Meta, "P /x buf 1 0"),
    ("removexattr", 197, Meta, "P /x"), ("lremovexattr", 198, Meta, "P /x"),
    ("setxattrat", 463, Meta, "@ P 0 /x buf 16"), ("removexattrat", 466, Meta, "@ P 0 /x"),
    ("file_setattr", 469, Meta, "@ P buf 24 0"), ("truncate", 76, Meta, "P 0"), ("rename", 82, Name, "P Q"),
    ("renameat", 264, Name, "@ P @ Q"), ("renameat2", 316, Name, "@ P @ Q 0"), ("link", 86, Name, "P Q"),
    ("linkat", 265, Name, "@ P @ Q 0"), ("unlink", 87, Name, "P"), ("unlinkat", 263, Name, "@ P 0"),
    ("mkdir", 83, Name, "P 493"), ("mkdirat", 258, Name, "@ P 493"), ("rmdir", 84, Name, "P"),
    ("symlink", 88, Name, "/x P"), ("symlinkat", 266, Name, "/x @ P"), ("mknod", 133, Name, "P 4516 0"),
    ("mknodat", 259, Name, "@ P 4516 0"), ("inotify_add_watch", 254, Watch, "-1 P 1"),
    ("fanotify_mark", 301, Watch, "-1 1 1 @ P"), ("pivot_root", 155, Chdir, "P Q"), ("chroot", 161, Chdir, "P"),
];

#[cfg(target_arch = "x86_64")]
#[test]
#[ignore = "needs root"]
fn every_call_of_the_table_is_recorded_under_its_name() {
    // The table itself is private; its lines are its text.
    let table = std::fs::read_to_string("src/sensor/table.rs").unwrap();
    let (calls, _) = table.split_once("pub const GATES").unwrap();
    let in_table = regex::Regex::new(r#"[ (]call\("(\w+)", \[(\d+),"#).unwrap();
    for found in in_table.captures_iter(calls) {
        assert!(EVERY_CALL.iter().any(|call| call.0 == &found[1]), "{} is not tried here", &found[1]);
    }
    let words = EVERY_CALL.iter().map(|(name, number, _, args)| {
        let args = args.replace('P', &format!("/data/raw/{name}")).replace('Q', &format!("/data/raw/{name}-2"));
        format!("raw {number} {args}")
    });
    let bed = Bed::new();
    std::fs::create_dir(bed.root().join("data/raw")).unwrap();
    let words = words.collect::<Vec<_>>().join(" , ");
    let (trace, status) = bed.start(&with(SensorMode::Syscalls, &words)).finish();
    assert_eq!(status, 0, "{}", trace.text());
    trace.must_be_whole();
    for (name, _, kind, args) in EVERY_CALL {
        for path in ["P", "Q"].into_iter().filter(|path| args.contains(path)) {
            let path = path.replace('P', &format!("/data/raw/{name}")).replace('Q', &format!("/data/raw/{name}-2"));
            let seen = trace.accesses().any(|access| {
                access.kind == *kind && access.call == *name && access.path == path.as_bytes()
            });
            assert!(seen, "no {kind:?} {path} by {name} in:\n{}", trace.text());
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_file_that_is_only_stat_ed_is_in_the_trace_in_every_mode_that_traps() {
    for mode in [SensorMode::Split, SensorMode::Auto, SensorMode::Syscalls] {
        record_with(&with(mode, "stat /data/a")).must_have(&[(Stat, "/data/a"), (Exec, "/bin/t")]);
    }
}

#[test]
#[ignore = "needs root"]
fn each_recorder_alone_sees_opens_and_execs() {
    for mode in [SensorMode::Fanotify, SensorMode::Syscalls] {
        let trace =
            record_with(&with(mode, "open /data/a , opendir /data/sub , spawn /bin/applet open /data/b"));
        trace.must_have(&[(Open, "/data/a"), (OpenDir, "/data/sub"), (Open, "/data/b"), (Exec, "/bin/t")]);
        assert_eq!(trace.has(Exec, "/bin/applet"), mode == SensorMode::Syscalls, "{}", trace.text());
        let Some(Line::Header(header)) = trace.0.first() else { panic!("no header") };
        assert_eq!(header.recorders.fanotify.is_some(), mode == SensorMode::Fanotify);
        assert_eq!(header.recorders.syscalls.is_some(), mode == SensorMode::Syscalls);
        assert!(!header.recorders.why.is_empty());
    }
}

#[test]
#[ignore = "needs root"]
fn an_exec_by_a_symlink_names_the_link_and_the_file() {
    let trace = record("spawn /bin/applet stat /data/a");
    trace.must_have(&[(Exec, "/bin/applet"), (Exec, "/bin/t"), (Stat, "/data/a")]);
    let touched = trace.accesses().find(|access| access.path == b"/data/a").unwrap();
    assert_eq!(trace.process(touched.process).exe, b"/bin/t");
    assert_eq!(trace.process(touched.process).comm, "applet");
    assert_eq!(trace.process(touched.process).origin, "target");
}

#[test]
#[ignore = "needs root"]
fn relative_paths_and_descriptors_of_directories_are_joined_to_their_base() {
    record("chdir /data , stat sub/../a , at sub deep , rename b b2 , access ./c , open sub/deep").must_have(
        &[
            (Stat, "/data/sub/../a"),
            (Stat, "/data/sub/deep"),
            (Name, "/data/b"),
            (Name, "/data/b2"),
            (Stat, "/data/./c"),
            (Open, "/data/sub/deep"),
        ],
    );
}

#[test]
#[ignore = "needs root"]
fn an_access_knows_its_base_directory() {
    let bed = Bed::new();
    bed.file("jail/etc/inner", "");
    let words = "stat /data/a , chdir /data , stat sub/deep , at sub deep , chdir /jail , chroot /jail , stat /etc/inner";
    let (trace, _) = bed.start(&start(words)).finish();
    trace.must_be_whole();
    let bases = |path: &str| -> Vec<usize> {
        trace.accesses().filter(|access| access.path == path.as_bytes()).map(|access| access.base).collect()
    };
    assert_eq!(bases("/data/a"), [0]);
    assert_eq!(bases("/data/sub/deep"), ["/data".len(), "/data/sub".len()], "{}", trace.text());
    assert_eq!(bases("/jail/etc/inner"), ["/jail".len()]);
}

#[test]
#[ignore = "needs root"]
fn a_directory_that_is_called_deleted_is_told_from_one_that_was() {
    let bed = Bed::new();
    bed.file("data/x (deleted)/inner", "");
    let words = ["/bin/t", "chdir", "/data/x (deleted)", ",", "stat", "inner", ",", "mkdir", "/data/gone", ",", "chdir",
        "/data/gone", ",", "rmdir", "/data/gone", ",", "stat", "inner"];
    let argv = words.map(str::to_owned).to_vec();
    let (trace, _) = bed.start(&Start { argv, ..start("") }).finish();
    trace.must_be_whole();
    trace.must_have(&[(Stat, "/data/x (deleted)/inner"), (Stat, "/data/gone/inner")]);
}

#[test]
#[ignore = "needs root"]
fn a_path_below_a_root_of_its_own_is_joined_to_it() {
    let bed = Bed::new();
    bed.file("jail/etc/inner", "");
    let words = "inroot /jail /etc/inner , inroot /jail ../../etc/other";
    for mode in [SensorMode::Split, SensorMode::Syscalls] {
        let _ = std::fs::remove_file(bed.volume().join("trace.jsonl"));
        let (trace, _) = bed.start(&with(mode, words)).finish();
        trace.must_be_whole();
        trace.must_have(&[(Open, "/jail/etc/inner"), (Open, "/jail/etc/other")]);
        assert!(!trace.accesses().any(|access| access.path.starts_with(b"/etc/")), "{}", trace.text());
    }
}

#[test]
#[ignore = "needs root"]
fn threads_children_and_orphans_are_recorded() {
    let trace = record("thread stat /data/a , child stat /data/b , orphan stat /data/c , sleep 300");
    trace.must_have(&[(Stat, "/data/a"), (Stat, "/data/b"), (Stat, "/data/c")]);
    for access in trace.accesses() {
        assert_eq!(trace.process(access.process).origin, "target", "{}", trace.text());
    }
}

#[test]
#[ignore = "needs root"]
fn a_chrooted_process_names_paths_from_our_root() {
    let bed = Bed::new();
    bed.file("jail/etc/inner", "");
    let (trace, _) =
        bed.start(&start("chroot /jail , stat /etc/inner , stat etc/inner2 , open /etc/inner")).finish();
    trace.must_be_whole();
    trace.must_have(&[
        (Chdir, "/jail"),
        (Stat, "/jail/etc/inner"),
        (Stat, "/jail/etc/inner2"),
        (Open, "/jail/etc/inner"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_chrooted_process_is_understood_below_ptrace_too() {
    let bed = Bed::new();
    bed.file("jail/etc/inner", "");
    let words = start("chroot /jail , stat /etc/inner , stat etc/inner2 , open /etc/inner");
    let (trace, _) = start_below_a_listener(&bed, &words).finish();
    trace.must_be_whole();
    trace.must_have(&[
        (Chdir, "/jail"),
        (Stat, "/jail/etc/inner"),
        (Stat, "/jail/etc/inner2"),
        (Open, "/jail/etc/inner"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn names_of_any_bytes_and_any_length_are_recorded_and_bad_pointers_are_not() {
    let bed = Bed::new();
    std::fs::write(bed.root().join(bed::os(b"data/\xff\xfe.bin")), "").unwrap();
    let (trace, _) = bed.start(&start("byte , long , bad")).finish();
    trace.must_be_whole();
    assert!(trace.accesses().any(|access| access.path == b"/data/\xff\xfe.bin"), "{}", trace.text());
    let long = trace.accesses().find(|access| access.path.ends_with(b"/longone")).unwrap();
    assert!(long.path.len() > 4080, "{}", long.path.len());
}

#[test]
#[ignore = "needs root"]
fn a_32_bit_program_is_recorded() {
    let bed = Bed::new();
    std::fs::copy(bed::program("i386"), bed.root().join("bin/i386")).unwrap();
    let (trace, status) = bed.start(&Start { argv: vec!["/bin/i386".into()], ..start("") }).finish();
    trace.must_be_whole();
    assert_eq!(status, 32);
    trace.must_have(&[(Stat, "/data/stat32"), (Socket, "/data/socket32"), (Stat, "/data/opath32")]);
}

#[test]
#[ignore = "needs root"]
fn a_file_that_was_opened_and_renamed_or_removed_is_named_as_it_was() {
    let trace = record(
        "open /data/a , rename /data/a /data/z , open /data/b , unlink /data/b , open /data/c , rename /data/b /data/c",
    );
    trace.must_have(&[(Name, "/data/a"), (Name, "/data/b"), (Open, "/data/b"), (Open, "/data/c")]);
}

#[test]
#[ignore = "needs root"]
fn forty_thousand_opens_lose_nothing() {
    let bed = Bed::new();
    std::fs::create_dir(bed.root().join("many")).unwrap();
    for n in 0..40_000 {
        std::fs::write(bed.root().join(format!("many/{n}")), "").unwrap();
    }
    let (trace, status) = bed.start(&start("many /many 40000")).finish();
    assert_eq!(status, 0);
    trace.must_be_whole();
    let opened = trace.accesses().filter(|access| access.kind == Open && access.path.starts_with(b"/many/"));
    assert_eq!(opened.count(), 40_000);
}

/// The kernel's own limit for a queue is 16384 events.
#[test]
#[ignore = "needs root"]
fn a_sensor_that_stalls_loses_nothing_and_holds_up_no_open() {
    use nix::sys::signal::Signal;
    let bed = Bed::new();
    std::fs::create_dir(bed.root().join("many")).unwrap();
    for n in 0..20_000 {
        std::fs::write(bed.root().join(format!("many/{n}")), "").unwrap();
    }
    let run = bed.start(&start("ready , sleep 500 , fstat , many /many 20000 , fstat , say opened , sleep 1"));
    run.wait_for_output("ready");
    run.signal_sensor(Signal::SIGSTOP);
    // Neither opens nor questions about open files wait for an answer: the target gets to its next words.
    run.wait_for_output("opened");
    run.signal_sensor(Signal::SIGCONT);
    let (trace, status) = run.finish();
    assert_eq!(status, 0);
    trace.must_be_whole();
    assert_eq!(trace.accesses().filter(|access| access.path.starts_with(b"/many/")).count(), 20_000);
}

#[test]
#[ignore = "needs root"]
fn an_inode_that_was_seen_stays_quiet_when_it_is_copied_up() {
    let bed = Bed::new();
    std::fs::create_dir(bed.root().join("over")).unwrap();
    let before = "mount -t tmpfs t $R/tmp; mkdir $R/tmp/up $R/tmp/work; \
                  mount -t overlay o -o lowerdir=$R/data,upperdir=$R/tmp/up,workdir=$R/tmp/work $R/over";
    let words = Start { content_mounts: vec!["/over".into()], ..start("open /over/a , ready , pause") };
    let mut run = bed.start_with(&words, before);
    run.wait_for_output("ready");
    run.send(&Command::Mark { n: 1, name: "later".into() });
    run.wait("marked", |reply| matches!(reply, Reply::Marked { n: 1 }).then_some(()));
    run.exec(1, "t append /over/a , open /over/a , append /over/b , open /over/b", 5000);
    run.send(&Command::Stop { signal: 9, timeout_ms: 0 });
    let (trace, _) = run.finish();
    trace.must_be_whole();
    let opened = |path: &str| -> Vec<u32> {
        let opens = trace.accesses().filter(|access| access.kind == Open && access.path == path.as_bytes());
        opens.map(|access| access.mark).collect()
    };
    assert_eq!((opened("/over/a"), opened("/over/b")), (vec![0], vec![1]), "{}", trace.text());
}

#[test]
#[ignore = "needs root"]
fn a_low_limit_of_descriptors_loses_nothing_and_is_the_targets_own() {
    let bed = Bed::new();
    std::fs::create_dir(bed.root().join("many")).unwrap();
    for n in 0..5_000 {
        std::fs::write(bed.root().join(format!("many/{n}")), "").unwrap();
    }
    let run = bed.start_with(&start("identity , many /many 5000"), "ulimit -Sn 20; ulimit -Hn 100");
    let out = std::cell::RefCell::new(String::new());
    run.exited();
    out.replace(run.stdout());
    let (trace, status) = run.finish();
    assert_eq!(status, 0);
    trace.must_be_whole();
    assert_eq!(trace.accesses().filter(|access| access.path.starts_with(b"/many/")).count(), 5_000);
    assert!(out.borrow().contains("limit 7 20 100\n"), "{}", out.borrow());
}

#[test]
#[ignore = "needs root"]
fn the_memory_of_a_process_with_another_uid_and_of_a_setuid_child_is_readable() {
    let bed = Bed::new();
    bed.file("bin/suid", "");
    std::fs::copy(bed::program("t"), bed.root().join("bin/suid")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bed.root().join("bin/suid"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let run = bed
        .start(&start("uid 1000 , nnp , stat /data/a , spawn /bin/suid stat /data/b , spawn /bin/suid ids"));
    run.exited();
    run.wait_for_output("1000 0\n");
    assert!(run.stdout().contains("nnp 0\n"));
    let (trace, _) = run.finish();
    trace.must_be_whole();
    trace.must_have(&[(Stat, "/data/a"), (Stat, "/data/b"), (Exec, "/bin/suid")]);
}

#[test]
#[ignore = "needs root"]
fn paths_through_proc_name_the_file_of_the_image() {
    let trace =
        record("chdir /data , readlink /proc/self/exe , stat /proc/self/cwd/a , stat /proc/self/status");
    trace.must_have(&[(Readlink, "/bin/t"), (Stat, "/data/a")]);
    assert!(!trace.accesses().any(|access| access.path.starts_with(b"/proc")), "{}", trace.text());
}

#[test]
#[ignore = "needs root"]
fn a_number_in_proc_is_the_targets_own() {
    // Process 1 is the target to itself, and the sensor to the sensor.
    for mode in [SensorMode::Split, SensorMode::Syscalls] {
        let words = "chdir /data , stat /proc/1/cwd/a , stat /proc/1/root/data/b , chdir sub , child stat /proc/1/cwd/deep";
        let start = Start { pid1: Pid1::Always, ..with(mode, words) };
        let (trace, _) = Bed::new().start(&start).finish();
        trace.must_be_whole();
        trace.must_have(&[(Stat, "/data/a"), (Stat, "/data/b"), (Stat, "/data/sub/deep")]);
    }
}

#[test]
#[ignore = "needs root"]
fn io_uring_is_refused_and_noted() {
    let bed = Bed::new();
    let run = bed.start(&start("uring"));
    run.wait_for_output("io_uring ENOSYS");
    let (trace, _) = run.finish();
    let noted = trace.0.iter().any(|line| matches!(line, Line::Note { text } if text.contains("io_uring")));
    assert!(noted, "{}", trace.text());
}

#[test]
#[ignore = "needs root"]
fn a_killed_sensor_leaves_a_readable_part_without_an_end() {
    let bed = Bed::new();
    let mut run = bed.start(&start("stat /data/a , ready , pause"));
    run.wait_for_output("ready");
    std::thread::sleep(std::time::Duration::from_millis(50));
    run.kill();
    run.wait_end();
    let trace = run.trace();
    trace.must_have(&[(Stat, "/data/a")]);
    assert!(!matches!(trace.0.last(), Some(Line::End { .. })));
}

#[test]
#[ignore = "needs root"]
fn the_status_is_the_targets_own_or_128_and_the_signal() {
    for (words, expected) in
        [("exit 0", 0), ("exit 3", 3), ("raise 9", 137), ("raise 11", 139), ("raise 15", 143)]
    {
        // As process 1 it would not notice a signal that it sends itself.
        let start = Start { pid1: Pid1::Never, ..start(words) };
        let (trace, status) = Bed::new().start(&start).finish();
        assert_eq!(status, expected, "{words}");
        assert!(trace.0.contains(&Line::Exit { status: expected }), "{}", trace.text());
    }
}

#[test]
#[ignore = "needs root"]
fn a_program_that_cannot_be_executed_fails_with_the_status_of_engines() {
    let bed = Bed::new();
    bed.file("bin/text", "no program\n");
    for (program, expected) in [("/no/such", 127), ("nosuch", 127), ("/bin/text", 126), ("/etc", 126)] {
        let _ = std::fs::remove_file(bed.volume().join("trace.jsonl"));
        let mut run = bed.start(&Start { argv: vec![program.into()], ..start("") });
        let (error, target) = loop {
            let reply = run.reply();
            if let Reply::Failed { error, target } = reply {
                break (error, target);
            }
        };
        assert_eq!(target, Some(expected), "{program}: {error}");
        assert!(error.contains(program), "{error}");
        assert_eq!(run.wait_end(), expected);
    }
}

#[test]
#[ignore = "needs root"]
fn the_target_is_process_1_and_its_proc_says_so() {
    let start = Start { pid1: Pid1::Always, ..start("pid , leads /proc/self , leads /proc/1/exe , open /data/a , adopted") };
    let bed = Bed::new();
    let run = bed.start(&start);
    run.wait_for_output("waited for");
    let said = run.stdout();
    let (trace, status) = run.finish();
    assert_eq!((status, said.as_str()), (0, "1\n1\n/bin/t\norphan of 1\n2 waited for\n"), "{}", trace.text());
    trace.must_be_whole();
    trace.must_have(&[(Exec, "/bin/t"), (Open, "/data/a")]);
}

#[test]
#[ignore = "needs root"]
fn a_process_1_does_not_notice_what_it_does_not_handle() {
    for words in ["raise 15 , raise 2 , exit 4", "raise 9 , exit 4"] {
        let (trace, status) = Bed::new().start(&Start { pid1: Pid1::Always, ..start(words) }).finish();
        assert_eq!(status, 4, "{words}: {}", trace.text());
    }
    let (_, status) = Bed::new().start(&Start { pid1: Pid1::Always, ..start("raise 11 , exit 4") }).finish();
    assert_eq!(status, 4);
}

#[test]
#[ignore = "needs root"]
fn commands_live_in_the_namespaces_of_the_target() {
    let bed = Bed::new();
    let mut run = bed.start(&Start { pid1: Pid1::Always, ..start("ready , pause") });
    run.wait_for_output("ready");
    let (status, out, err, _) = run.exec(1, "t leads /proc/1/exe , open /data/b", 5000);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "/bin/t\n", ""));
    let (_, own, ..) = run.exec(2, "t pid", 5000);
    assert!((2..10).contains(&own.trim().parse::<i32>().unwrap()), "{own}");
    run.send(&Command::Stop { signal: 15, timeout_ms: 300 });
    assert_eq!(run.exited(), (137, false));
    let (trace, _) = run.finish();
    trace.must_be_whole();
    trace.must_have(&[(Open, "/data/b")]);
}

#[test]
#[ignore = "needs root"]
fn what_the_engine_put_over_parts_of_proc_stays_there() {
    let bed = Bed::new();
    bed.file("data/mask", "masked\n");
    let before = "mount --bind $R/data/mask $R/proc/version; mount --bind $R/proc/sys $R/proc/sys; \
                  mount -o remount,bind,ro $R/proc/sys";
    let start = Start { pid1: Pid1::Always, ..start("cat /proc/version , chmod /proc/sys/kernel/hostname , cat /proc/mounts") };
    let run = bed.start_with(&start, before);
    run.wait_for_output("proc /proc/sys proc ro");
    assert!(run.stdout().starts_with("masked\n"), "{}", run.stdout());
    run.finish();
}

#[test]
#[ignore = "needs root"]
fn a_stop_signal_reaches_only_a_target_that_handles_it() {
    let stop = Command::Stop { signal: 15, timeout_ms: 300 };
    for (words, expected) in [
        ("handle 15 , ready , pause", (7, true)),
        ("sigwait 15", (8, true)),
        ("ready , pause", (137, false)),
        ("ignore 15 , ready , pause", (137, false)),
        ("handle 15 , thread ready , pause", (7, true)),
    ] {
        let bed = Bed::new();
        let mut run = bed.start(&start(words));
        run.wait_for_output("ready");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let asked = std::time::Instant::now();
        run.send(&stop);
        assert_eq!(run.exited(), expected, "{words}");
        assert!(asked.elapsed().as_millis() < 250, "{words}: {:?}", asked.elapsed());
        let (trace, _) = run.finish();
        trace.must_be_whole();
    }
}

#[test]
#[ignore = "needs root"]
fn a_target_that_handles_its_stop_signal_and_stays_is_killed_at_the_timeout() {
    let bed = Bed::new();
    let mut run = bed.start(&start("child handle 15 , sigwait 10 , pause"));
    run.wait("started", |reply| matches!(reply, Reply::Started { .. }).then_some(()));
    run.wait_for_output("ready");
    run.send(&Command::Stop { signal: 15, timeout_ms: 300 });
    assert_eq!(run.exited(), (137, false));
    run.finish();
    let bed = Bed::new();
    let mut run = bed.start(&start("block 15 , ready , pause"));
    run.wait_for_output("ready");
    run.send(&Command::Stop { signal: 15, timeout_ms: 300 });
    assert_eq!(run.exited(), (137, true));
    run.finish();
}

#[test]
#[ignore = "needs root"]
fn a_signal_is_forwarded_by_the_rule_of_pid_1() {
    let bed = Bed::new();
    let mut run = bed.start(&start("handle 10 , ready , pause"));
    run.wait_for_output("ready");
    run.send(&Command::Signal { signal: 1 });
    run.send(&Command::Mark { n: 1, name: "still there".into() });
    run.wait("marked", |reply| matches!(reply, Reply::Marked { n: 1 }).then_some(()));
    run.send(&Command::Signal { signal: 10 });
    assert_eq!(run.exited(), (7, true));
    run.finish();
}

#[test]
#[ignore = "needs root"]
fn when_the_controller_is_gone_everything_ends() {
    let bed = Bed::new();
    let mut run = bed.start(&start("background pause , handle 15 , ready , pause"));
    run.wait_for_output("ready");
    run.hang_up();
    assert_eq!(run.wait_end(), 137);
}

#[test]
#[ignore = "needs root"]
fn left_over_processes_do_not_outlive_the_target() {
    let bed = Bed::new();
    let run = bed.start(&start("background pause , orphan pause , exit 4"));
    let (trace, status) = run.finish();
    trace.must_be_whole();
    assert_eq!(status, 4);
}

#[test]
#[ignore = "needs root"]
fn accesses_belong_to_the_mark_that_was_current() {
    let bed = Bed::new();
    let mut run = bed.start(&start("open /data/a , stat /data/a , ready , pause"));
    run.wait_for_output("ready");
    run.send(&Command::Mark { n: 1, name: "first".into() });
    run.wait("marked", |reply| matches!(reply, Reply::Marked { n: 1 }).then_some(()));
    let (status, ..) = run.exec(1, "/bin/t open /data/b , stat /data/b", 5000);
    assert_eq!(status, 0);
    run.send(&Command::Mark { n: 2, name: "second".into() });
    run.wait("marked", |reply| matches!(reply, Reply::Marked { n: 2 }).then_some(()));
    run.exec(2, "/bin/t open /data/c", 5000);
    run.send(&Command::Stop { signal: 9, timeout_ms: 0 });
    let (trace, _) = run.finish();
    trace.must_be_whole();
    for access in trace.accesses() {
        let mark = match access.path.as_slice() {
            b"/data/a" => 0,
            b"/data/b" => 1,
            b"/data/c" => 2,
            _ => continue,
        };
        assert_eq!(access.mark, mark, "{}", trace.text());
        let origin = if mark == 0 { "target" } else { "exec:probe" };
        assert_eq!(trace.process(access.process).origin, origin, "{}", trace.text());
    }
}

#[test]
#[ignore = "needs root"]
fn a_command_runs_as_the_target_and_its_output_comes_whole() {
    let bed = Bed::new();
    let mut run = bed.start(&Start { user: "app".into(), ..start("ready , pause") });
    run.wait_for_output("ready");
    let (status, out, err, _) = run.exec(1, "t ids , say out , cry err , exit 5", 5000);
    assert_eq!((status, out.as_str(), err.as_str()), (5, "1000 1000\nout\n", "err\n"));
    let (status, out, ..) = run.exec(2, "t flood 20000", 20_000);
    assert_eq!((status, out.len()), (0, 128 * 20_000));
    let (status, _, err, _) = run.exec(3, "nosuch", 5000);
    assert_eq!(status, 127);
    assert!(err.contains("nosuch"), "{err}");
    let (status, .., timed_out) = run.exec(4, "t background pause , pause", 200);
    assert_eq!((status, timed_out), (137, true));
    let (status, out, ..) = run.exec(5, "t background pause , say done", 5000);
    assert_eq!((status, out.as_str()), (0, "done\n"));
}

#[test]
#[ignore = "needs root"]
fn settled_is_said_when_no_new_path_came() {
    let bed = Bed::new();
    let mut run = bed.start(&start("ready , sleep 150 , stat /data/a , pause"));
    run.wait_for_output("ready");
    run.send(&Command::Settle { quiet_ms: 300, max_ms: 5000 });
    let settled = |reply: &Reply| match reply {
        Reply::Settled { paths, quiet } => Some((*paths, *quiet)),
        _ => None,
    };
    let asked = std::time::Instant::now();
    assert_eq!(run.wait("settled", settled), (2, true));
    assert!((400..1500).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    run.send(&Command::Settle { quiet_ms: 60_000, max_ms: 100 });
    assert!(!run.wait("settled", settled).1);
}

#[test]
#[ignore = "needs root"]
fn the_target_cannot_reach_the_sensor_nor_close_its_streams() {
    let bed = Bed::new();
    let mut run = bed.start(&start(
        "nonblock , open /.slim-sensor/trace.jsonl , open /.slim-sensor/slim , close 1 , close 2 , handle 15 , pause",
    ));
    run.wait("started", |reply| matches!(reply, Reply::Started { .. }).then_some(()));
    let (status, ..) = run.exec(1, "t cat /.slim-sensor/start.json", 5000);
    assert_eq!(status, 0);
    run.send(&Command::Stop { signal: 15, timeout_ms: 1000 });
    run.exited();
    let (trace, _) = run.finish();
    trace.must_be_whole();
    assert!(
        !trace.accesses().any(|access| access.kind == Open && access.path.starts_with(b"/.slim")),
        "{}",
        trace.text()
    );
}

#[test]
#[ignore = "needs root"]
fn a_target_that_nobody_listens_to_stalls_only_itself() {
    let bed = Bed::new();
    let words = "nonblock , background stat /data/a , ready , pause";
    let mut run = bed.start(&start(words));
    run.wait_for_output("ready");
    for n in 1..2000 {
        run.send(&Command::Mark { n, name: "m".into() });
    }
    run.wait("marked", |reply| matches!(reply, Reply::Marked { n: 1999 }).then_some(()));
}

#[test]
#[ignore = "needs root"]
fn the_environment_and_home_are_those_of_the_target() {
    for (user, home_is_set, home) in [
        ("", false, "HOME=/root"),
        ("app", false, "HOME=/home/app"),
        ("4242", false, "HOME=/"),
        ("app", true, "HOME=/root"),
    ] {
        let bed = Bed::new();
        let run = bed.start(&Start { user: user.into(), home_is_set, ..start("env") });
        run.exited();
        run.wait_for_output("HOME");
        let out = run.stdout();
        let mut lines: Vec<&str> = out.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=b", home, "PATH=/bin"], "{user}");
    }
}

#[test]
#[ignore = "needs root"]
fn both_recorders_missing_is_an_error_with_a_remedy() {
    let bed = Bed::new();
    for (mode, parts) in [
        (
            SensorMode::Auto,
            [
                "fanotify_init(CLASS_NOTIF) = EPERM",
                "seccomp(SET_MODE_FILTER, NEW_LISTENER) = EACCES",
                "CAP_SYS_ADMIN",
            ],
        ),
        (SensorMode::Split, ["fanotify", "CAP_SYS_ADMIN", "--sensor syscalls"]),
    ] {
        let script = "exec setpriv --bounding-set -sys_admin --inh-caps -all --";
        let run = bed.start_as(&with(mode, "pause"), "", script);
        let Reply::Failed { error, target } = run.reply() else { panic!("it must fail") };
        assert_eq!(target, None);
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
    }
}

/// The same below a program that has taken the only seccomp listener.
fn start_below_a_listener(bed: &Bed, start: &Start) -> bed::Run {
    bed.start_as(start, "", &format!("exec {}", bed::program("listener").display()))
}

#[test]
#[ignore = "needs root"]
fn without_a_listener_ptrace_sees_the_same() {
    let bed = Bed::new();
    std::fs::copy(bed::program("i386"), bed.root().join("bin/i386")).unwrap();
    let words = "stat /data/a , thread stat /data/b , child lstat /data/link , spawn /bin/applet access /data/c , \
                 rename /data/b /data/b2 , open /data/c , spawn /bin/i386 x , uring , orphan readlink /data/link , sleep 300 , exit 3";
    for mode in [SensorMode::Auto, SensorMode::Split, SensorMode::Syscalls] {
        let _ = std::fs::remove_file(bed.volume().join("trace.jsonl"));
        let run = start_below_a_listener(&bed, &with(mode, words));
        let recorders = run.wait("armed", |reply| match reply {
            Reply::Armed { recorders } => Some(recorders.clone()),
            _ => None,
        });
        assert_eq!(recorders.syscalls.as_deref(), Some("ptrace"));
        assert!(recorders.why.contains("EBUSY"), "{}", recorders.why);
        run.wait_for_output("io_uring ENOSYS");
        let (trace, status) = run.finish();
        assert_eq!(status, 3, "{}", trace.text());
        trace.must_be_whole();
        trace.must_have(&[
            (Stat, "/data/a"),
            (Stat, "/data/b"),
            (Stat, "/data/link"),
            (Exec, "/bin/applet"),
            (Stat, "/data/c"),
            (Name, "/data/b2"),
            (Open, "/data/c"),
            (Stat, "/data/stat32"),
            (Readlink, "/data/link"),
        ]);
    }
}

#[test]
#[ignore = "needs root"]
fn below_ptrace_signals_stops_and_setuid_work() {
    let bed = Bed::new();
    std::fs::copy(bed::program("t"), bed.root().join("bin/suid")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bed.root().join("bin/suid"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let words = "handle 15 , background raise 19 , spawn /bin/suid ids , ready , pause";
    let mut run = start_below_a_listener(&bed, &Start { user: "app".into(), ..start(words) });
    run.wait_for_output("ready");
    assert!(run.stdout().contains("1000 0\n"), "{}", run.stdout());
    let (status, out, ..) = run.exec(1, "t say hello , stat /data/a , exit 2", 5000);
    assert_eq!((status, out.as_str()), (2, "hello\n"));
    run.send(&Command::Stop { signal: 15, timeout_ms: 2000 });
    assert_eq!(run.exited(), (7, true));
    let (trace, _) = run.finish();
    trace.must_be_whole();
    trace.must_have(&[(Stat, "/data/a"), (Exec, "/bin/suid")]);
}

#[test]
#[ignore = "needs root"]
fn a_controller_that_does_not_read_stalls_no_trapped_call() {
    use std::io::{Read, Write};
    let bed = Bed::new();
    let mut command =
        bed.command(&start("sleep 700 , stat /data/a , stat /data/b , say alive , pause"), "", "exec");
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let (mut unread, full) = std::io::pipe().unwrap();
    let mut child = {
        child = child.stderr(full);
        child.spawn().unwrap()
    };
    drop(command);
    let mut stdin = child.stdin.take().unwrap();
    for n in 1..5000 {
        writeln!(stdin, "{{\"do\":\"mark\",\"n\":{n},\"name\":\"m\"}}").unwrap();
    }
    let mut said = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"alive\n");
    let mut some = [0; 100];
    unread.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"\x1eslimn0nce "));
    drop(stdin);
    child.wait().unwrap();
}

#[test]
#[ignore = "needs root"]
fn each_name_of_a_file_with_two_names_is_recorded() {
    let bed = Bed::new();
    std::fs::hard_link(bed.root().join("data/a"), bed.root().join("data/hard")).unwrap();
    for mode in [SensorMode::Fanotify, SensorMode::Split] {
        let _ = std::fs::remove_file(bed.volume().join("trace.jsonl"));
        let (trace, _) = bed.start(&with(mode, "open /data/a , open /data/hard , open /data/a")).finish();
        trace.must_be_whole();
        trace.must_have(&[(Open, "/data/a"), (Open, "/data/hard")]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_trace_that_cannot_be_written_is_not_called_done() {
    let bed = Bed::new();
    for n in 0..300 {
        bed.file(&format!("data/a-name-that-is-rather-long-so-that-the-trace-grows-{n}"), "");
    }
    let run =
        bed.start_with(&start("spawn /bin/applet opendir /data , list /data"), "ulimit -f 1; trap '' XFSZ");
    let error = loop {
        match run.reply() {
            Reply::Failed { error, .. } => break error,
            Reply::Done { .. } => panic!("it must fail"),
            _ => {}
        }
    };
    assert!(error.contains("cannot write the trace"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn many_commands_at_once_are_each_recorded_and_answered() {
    let bed = Bed::new();
    let mut run = bed.start(&start("ready , pause"));
    run.wait_for_output("ready");
    for id in 0..40 {
        let argv =
            ["t", "stat", &format!("/data/by-{id}"), ",", "sleep", &format!("{}", id % 7), ",", "say", "x"];
        let argv = argv.map(str::to_owned).to_vec();
        run.send(&Command::Exec { id, argv, name: format!("probe {id}"), timeout_ms: 20_000 });
    }
    let ended = std::cell::RefCell::new(std::collections::BTreeSet::new());
    run.wait("all ends", |reply| {
        if let Reply::ExecEnd { id, status: 0, .. } = reply {
            ended.borrow_mut().insert(*id);
        }
        (ended.borrow().len() == 40).then_some(())
    });
    run.send(&Command::Stop { signal: 15, timeout_ms: 100 });
    let (trace, _) = run.finish();
    trace.must_be_whole();
    for id in 0..40 {
        let path = format!("/data/by-{id}");
        let access = trace.accesses().find(|access| access.path == path.as_bytes()).unwrap();
        assert_eq!(trace.process(access.process).origin, format!("exec:probe {id}"));
    }
}

#[test]
#[ignore = "needs root"]
fn a_program_that_signals_itself_all_the_time_still_gets_on() {
    let trace = record("preempted 3000");
    assert_eq!(trace.accesses().filter(|access| access.path.starts_with(b"/data/preempted-")).count(), 3000);
}

#[test]
#[ignore = "needs root"]
fn many_threads_at_once_lose_nothing() {
    for by_ptrace in [false, true] {
        let bed = Bed::new();
        let start = start("chdir /data , threads 16");
        let run = if by_ptrace { start_below_a_listener(&bed, &start) } else { bed.start(&start) };
        let (trace, status) = run.finish();
        assert_eq!(status, 0);
        trace.must_be_whole();
        assert_eq!(
            trace.accesses().filter(|access| access.path.starts_with(b"/data/thread-")).count(),
            16_000
        );
    }
}

#[test]
#[ignore = "needs root"]
fn in_a_user_namespace_auto_records_by_syscalls_alone_and_says_so() {
    let bed = Bed::new();
    let start = with(SensorMode::Auto, "stat /data/a , open /data/b , spawn /bin/applet access /data/c");
    let run = bed.start_as(&start, "", "exec unshare --user --map-root-user");
    let recorders = run.wait("armed", |reply| match reply {
        Reply::Armed { recorders } => Some(recorders.clone()),
        _ => None,
    });
    assert_eq!((recorders.fanotify, recorders.syscalls.as_deref()), (None, Some("user-notification")));
    assert!(recorders.why.contains("EPERM") && recorders.why.contains("slower"), "{}", recorders.why);
    let (trace, status) = run.finish();
    assert_eq!(status, 0);
    trace.must_be_whole();
    trace.must_have(&[(Stat, "/data/a"), (Open, "/data/b"), (Exec, "/bin/applet"), (Stat, "/data/c")]);
}

#[test]
#[ignore = "needs root"]
fn memory_that_must_not_be_read_makes_the_trace_incomplete() {
    let bed = Bed::new();
    let exec = "exec setpriv --bounding-set -sys_ptrace --inh-caps -all --";
    let run = bed.start_as(&Start { user: "app".into(), ..start("stat /data/a") }, "", exec);
    let (trace, _) = run.finish();
    let lost = |line: &Line| matches!(line, Line::Lost { what } if what.contains("add CAP_SYS_PTRACE"));
    assert!(trace.0.iter().any(lost), "{}", trace.text());
}
