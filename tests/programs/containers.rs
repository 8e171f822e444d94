//! Containers: the sensor in a real engine's containers, compared with a plain `docker run`.

use std::process::{Command as Process, Output};

use slim::sensor::control::{Command, Reply, SensorMode, Start};
use slim::sensor::event::AccessKind::{Exec, Open, Stat};

use crate::bed::{Bed, Run, start};

/// An image made of a bed; removed with what was made from it.
struct Image {
    bed: Bed,
    name: String,
}

fn docker(args: &[&str]) -> Output {
    let output = Process::new("docker").args(args).output().expect("the docker client");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !error.contains("Cannot connect to the Docker daemon"),
        "set DOCKER_HOST (fixtures/engine env): {error}"
    );
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Image {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let bed = Bed::new();
        bed.file("tmp/mine", "");
        let name = format!("slim-sensor-test:{}-{count}", std::process::id());
        let tar = bed.dir.path().join("image.tar");
        let made = Process::new("tar").arg("-C").arg(bed.root()).arg("-cf").arg(&tar).arg(".").status();
        assert!(made.expect("tar").success());
        let changes = ["ENV PATH=/bin", "ENV WHO=me", "WORKDIR /data", "VOLUME /data/sub"];
        let mut args = vec!["import"];
        for change in &changes {
            args.extend(["-c", change]);
        }
        let tar = tar.to_string_lossy().into_owned();
        args.extend([tar.as_str(), name.as_str()]);
        let made = docker(&args);
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self { bed, name }
    }

    fn plain(&self, flags: &[&str], words: &str) -> Output {
        let words: Vec<&str> = words.split_whitespace().collect();
        docker(
            &[&["run", "--rm", "--log-driver", "none"], flags, &[&self.name, "/bin/t"], words.as_slice()]
                .concat(),
        )
    }

    fn recorded(&self, flags: &[&str], start: &Start) -> Run {
        let caps = ["--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"];
        self.recorded_as(&[&caps, flags].concat(), start)
    }

    fn recorded_as(&self, flags: &[&str], start: &Start) -> Run {
        let _ = std::fs::remove_file(self.bed.volume().join("trace.jsonl"));
        self.bed.write_start(start);
        let volume = format!("{}:/.slim-sensor", self.bed.volume().display());
        let mut command = Process::new("docker");
        command.args(["run", "-i", "--rm", "--log-driver", "none", "--user", "0:0", "--volume", &volume]);
        command.args(["--entrypoint", "/.slim-sensor/slim"]);
        command.args(flags).args([&self.name, "sensor"]);
        Run::new(&mut command, &start.nonce, self.bed.volume().join("trace.jsonl"))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["rmi", "-f", &self.name]);
    }
}

fn target(words: &str) -> Start {
    Start {
        drop_caps: vec!["CAP_SYS_ADMIN".into(), "CAP_SYS_PTRACE".into()],
        narrow_seccomp: true,
        content_mounts: vec!["/data/sub".into()],
        ..start(words)
    }
}

/// Each line of both, so that a difference names itself.
fn must_be_equal(what: &str, plain: &str, recorded: &str) {
    let (plain, recorded): (Vec<_>, Vec<_>) = (plain.lines().collect(), recorded.lines().collect());
    let differ: Vec<String> = (0..plain.len().max(recorded.len()))
        .map(|n| (plain.get(n).unwrap_or(&""), recorded.get(n).unwrap_or(&"")))
        .filter(|(a, b)| a != b)
        .map(|(a, b)| format!("plain {a:?}, recorded {b:?}"))
        .collect();
    assert!(differ.is_empty(), "{what}:\n{}", differ.join("\n"));
    assert!(plain.len() > 60, "{what}: {plain:?}");
}

#[test]
#[ignore = "needs root and a container engine"]
fn the_target_is_what_a_plain_run_gives() {
    let image = Image::new();
    let extra = ["SETPCAP", "SETUID", "SETGID", "CHOWN", "KILL", "DAC_OVERRIDE"];
    let adds: Vec<&str> = extra.iter().flat_map(|cap| ["--cap-add", cap]).collect();
    let no_caps = [&["--cap-drop", "ALL"], adds.as_slice()].concat();
    for (what, user, groups, flags, plain_flags) in [
        ("root", "", vec![], vec![], vec![]),
        ("named, with supplementary groups", "app", vec![], vec![], vec![]),
        ("numeric with a passwd line", "1000", vec![], vec![], vec![]),
        ("numeric without a passwd line", "4242", vec![], vec![], vec![]),
        ("uid:gid", "4242:77", vec![], vec![], vec![]),
        ("name:group", "app:log", vec![], vec![], vec![]),
        (
            "further groups",
            "app",
            vec!["wheel", "99"],
            vec![],
            vec!["--group-add", "wheel", "--group-add", "99"],
        ),
        ("no capabilities", "", vec![], no_caps.clone(), vec!["--cap-drop", "ALL"]),
        ("no capabilities, named", "app", vec![], no_caps, vec!["--cap-drop", "ALL"]),
        ("read-only", "", vec![], vec!["--read-only"], vec!["--read-only"]),
        ("limits", "app", vec![], vec!["--ulimit", "nofile=99:200"], vec!["--ulimit", "nofile=99:200"]),
        ("an added capability", "", vec![], vec!["--cap-add", "SYSLOG"], vec!["--cap-add", "SYSLOG"]),
    ] {
        let plain_flags = [vec!["--user", user], plain_flags].concat();
        let plain_flags = if user.is_empty() { &plain_flags[2..] } else { &plain_flags };
        let plain = image.plain(plain_flags, "identity , env");
        let mut start = target("identity , env");
        start.user = user.into();
        start.groups = groups.into_iter().map(str::to_owned).collect();
        if what.starts_with("no capabilities") {
            start.drop_caps.extend(extra.map(|cap| format!("CAP_{cap}")));
        }
        let run = image.recorded(&flags, &start);
        run.exited();
        run.wait_for_output("HOME=");
        std::thread::sleep(std::time::Duration::from_millis(50));
        let sorted = |text: &str| {
            let (identity, env) = text.split_at(text.find("PATH=").unwrap_or(text.len()));
            let mut env: Vec<&str> = env.lines().filter(|line| !line.starts_with("HOSTNAME=")).collect();
            env.sort_unstable();
            format!("{identity}{}", env.join("\n"))
        };
        must_be_equal(what, &sorted(&text(&plain.stdout)), &sorted(&run.stdout()));
        let (trace, _) = run.finish();
        trace.must_be_whole();
    }
}

#[test]
#[ignore = "needs root and a container engine"]
fn statuses_are_those_of_a_plain_run() {
    let image = Image::new();
    for words in ["exit 0", "exit 9", "child raise 9"] {
        let plain = image.plain(&[], words).status.code();
        let (_, status) = image.recorded(&[], &target(words)).finish();
        assert_eq!(Some(status), plain, "{words}");
    }
}

#[test]
#[ignore = "needs root and a container engine"]
fn the_first_open_of_the_target_volumes_and_foreign_processes_are_in_the_trace() {
    let image = Image::new();
    let name = format!("slim-sensor-{}", std::process::id());
    let mut run = image.recorded(
        &["--name", &name],
        &target("open /data/a , open /data/sub/deep , stat /data/sub , handle 15 , ready , pause"),
    );
    run.wait_for_output("ready");
    let foreign = docker(&["exec", &name, "/bin/t", "open", "/data/b"]);
    assert!(foreign.status.success(), "{}", text(&foreign.stderr));
    run.send(&Command::Stop { signal: 15, timeout_ms: 5000 });
    assert_eq!(run.exited(), (7, true));
    let (trace, status) = run.finish();
    assert_eq!(status, 7);
    trace.must_be_whole();
    trace.must_have(&[
        (Exec, "/bin/t"),
        (Open, "/data/a"),
        (Open, "/data/sub/deep"),
        (Stat, "/data/sub"),
        (Open, "/data/b"),
    ]);
    let access = trace.accesses().find(|access| access.path == b"/data/b").expect("seen");
    assert_eq!(trace.process(access.process).origin, "foreign", "{}", trace.text());
    let first = trace.accesses().next().expect("an access");
    assert_eq!((first.kind, first.path.as_slice()), (Exec, &b"/bin/t"[..]));
}

#[test]
#[ignore = "needs root and a container engine"]
fn without_sys_admin_the_error_says_what_to_add() {
    let image = Image::new();
    let start = Start { sensor: SensorMode::Auto, ..target("pause") };
    let run = image.recorded_as(&["--cap-add", "SYS_PTRACE"], &start);
    let Reply::Failed { error, target: None } = run.reply() else { panic!("it must fail") };
    for part in ["fanotify_init", "seccomp", "CAP_SYS_ADMIN"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
#[ignore = "needs root and a container engine"]
fn the_engines_own_stop_is_obeyed() {
    let image = Image::new();
    let name = format!("slim-sensor-stop-{}", std::process::id());
    let run = image.recorded(&["--name", &name], &target("handle 15 , ready , pause"));
    run.wait_for_output("ready");
    assert!(docker(&["kill", "--signal", "TERM", &name]).status.success());
    assert_eq!(run.exited(), (7, true));
    let (trace, status) = run.finish();
    trace.must_be_whole();
    assert_eq!(status, 7);
}

#[test]
#[ignore = "needs root and a container engine"]
fn below_an_init_signals_reach_the_target_as_without_us() {
    let image = Image::new();
    let name = format!("slim-sensor-init-{}", std::process::id());
    let mut run = image
        .recorded(&["--init", "--name", &name], &target("background pause , orphan pause , ready , pause"));
    run.wait_for_output("ready");
    run.send(&Command::Stop { signal: 15, timeout_ms: 5000 });
    assert_eq!(run.exited(), (143, true));
    let (trace, status) = run.finish();
    trace.must_be_whole();
    assert_eq!(status, 143);
}
