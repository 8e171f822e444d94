//! Embedded: the engine without a daemon, against what the docker command gives for the same image.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use slim::engine::{Archive, Container, ContainerSpec, EmbeddedEngine, Engine, EngineError, RunOptions, embedded};
use slim::progress::Void;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// Debian with a shell, made by `fixtures/make`.
const BASE: &str = "slim-fixture/base";

/// An image of the docker engine as a file, saved once.
fn saved(name: &str) -> PathBuf {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let dir = DIR.get_or_init(|| tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap());
    let file = dir.path().join(name.replace('/', "-"));
    let _one = LOCK.lock();
    if !file.exists() {
        docker(&["save", "-o", file.to_str().unwrap(), name]);
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    }
    file
}

fn open_to_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {args:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

/// An engine with an image in it.
async fn engine_with(dir: &Path, name: &str) -> (EmbeddedEngine, String) {
    embedded::use_program(Path::new(env!("CARGO_BIN_EXE_slim")));
    let engine = EmbeddedEngine::open_at(dir, Arc::new(Void)).unwrap();
    let (image, file) = embedded::image_of(&saved(name)).unwrap();
    let bytes = tokio_util::io::ReaderStream::new(tokio::fs::File::from_std(file)).map(Result::unwrap);
    engine.load(bytes.boxed(), &image.id()).await.unwrap();
    (engine, image.id())
}

fn shell(image: &str, script: &str) -> ContainerSpec {
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    let options = RunOptions { cmd: Some(cmd), ..RunOptions::default() };
    ContainerSpec { purpose: "test".into(), image: image.into(), options, ..ContainerSpec::default() }
}

/// Runs a container to its end: status, and what it wrote.
async fn run(engine: &EmbeddedEngine, spec: &ContainerSpec) -> (i32, BTreeMap<u8, String>) {
    let container = engine.create(spec).await.unwrap();
    let mut output = container.attach().await.unwrap().output;
    container.start().await.unwrap();
    let mut all: BTreeMap<u8, Vec<u8>> = BTreeMap::from([(1, Vec::new()), (2, Vec::new())]);
    while let Some(piece) = output.next().await {
        let piece = piece.unwrap();
        all.entry(piece.fd).or_default().extend_from_slice(&piece.bytes);
    }
    let status = container.wait().await.unwrap();
    container.remove().await.unwrap();
    (status, all.into_iter().map(|(fd, bytes)| (fd, String::from_utf8_lossy(&bytes).into_owned())).collect())
}

/// What a process sees of itself. What differs between two engines by right is left out.
const IDENTITY: &str = "
    grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|SigIgn|SigBlk):' /proc/self/status
    echo pid $$ umask $(umask) cwd $(pwd)
    env | grep -v -E '^(HOSTNAME|_)=' | sort
    id
    for limit in c d f l m s t v; do echo limit $limit $(ulimit -S$limit) $(ulimit -H$limit); done
    ls -ln /dev | awk '{print $1, $3, $4, $NF, $5, $6}' | grep -v total
    awk '{print $5, $6}' /proc/self/mountinfo | grep -v -E '^/(sys/fs/cgroup|etc)' | sort -u
    ls -ld / /tmp /etc /.dockerenv /etc/mtab /etc/hosts /etc/hostname /etc/resolv.conf | awk '{print $1, $3, $4, $9, $10, $11}'
    for path in /proc/kcore /proc/keys /proc/timer_list /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/firmware; do
        test -w $path && echo may write $path; head -c1 $path 2>&1 | wc -c
    done
    touch /proc/sys/kernel/x /sys/x 2>&1
    readlink /proc/self/fd/0
    echo out > /dev/stdout; echo err > /dev/stderr
";

#[tokio::test]
#[ignore = "needs root and a container engine"]
async fn a_process_is_what_docker_makes_it() {
    let dir = TempDir::new().unwrap();
    let (engine, image) = engine_with(dir.path(), BASE).await;
    let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let default = RunOptions::default;
    let cases: [(&[&str], RunOptions); 9] = [
        (&[], default()),
        (&["--user", "daemon"], RunOptions { user: Some("daemon".into()), ..default() }),
        (&["--user", "4242"], RunOptions { user: Some("4242".into()), ..default() }),
        (&["--user", "4242:77"], RunOptions { user: Some("4242:77".into()), ..default() }),
        (
            &["--user", "nobody", "--group-add", "tty"],
            RunOptions { user: Some("nobody".into()), group_add: texts(&["tty"]), ..default() },
        ),
        (
            &["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"],
            RunOptions { cap_drop: texts(&["ALL"]), cap_add: texts(&["NET_ADMIN"]), ..default() },
        ),
        (&["--cap-drop", "CHOWN"], RunOptions { cap_drop: texts(&["CHOWN"]), ..default() }),
        (
            &["--read-only", "--tmpfs", "/tmp", "--workdir", "/made/for/it", "--env", "A=b"],
            RunOptions {
                read_only: true,
                tmpfs: texts(&["/tmp"]),
                workdir: Some("/made/for/it".into()),
                env: texts(&["A=b"]),
                ..default()
            },
        ),
        (
            &["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"],
            RunOptions { security_opt: texts(&["no-new-privileges", "seccomp=unconfined"]), ..default() },
        ),
    ];
    for (flags, options) in cases {
        let words = [&["run", "--rm", "--log-driver", "none", "--network", "none"], flags, &[BASE, "sh", "-c", IDENTITY]].concat();
        let expected = docker(&words);
        let spec = shell(&image, IDENTITY);
        let options = RunOptions { cmd: spec.options.cmd.clone(), ..options };
        let (_, text) = run(&engine, &ContainerSpec { options, ..spec }).await;
        let (expected, got): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), text[&1].lines().collect());
        let differ: Vec<String> = (0..expected.len().max(got.len()))
            .map(|n| (expected.get(n).unwrap_or(&""), got.get(n).unwrap_or(&"")))
            .filter(|(docker, ours)| docker != ours)
            .map(|(docker, ours)| format!("docker {docker:?}, embedded {ours:?}"))
            .collect();
        assert!(differ.is_empty(), "{flags:?}: {}\n{}", text[&2], differ.join("\n"));
        assert!(got.len() > 40, "{flags:?}: {got:?}");
    }
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs root and a container engine"]
async fn the_filter_of_system_calls_is_really_there() {
    let dir = TempDir::new().unwrap();
    let (engine, image) = engine_with(dir.path(), BASE).await;
    // keyctl, unshare(NEWUSER), mount, clone3, and a call that does not exist yet; then one that is allowed.
    let script = "for call in '250, 0, 0' '272, 0x10000000' '165, 0, 0, 0, 0, 0' '435, 0, 0' '470' '39'; do \
        perl -e \"my \\$r = syscall($call); print \\$r < 0 ? \\$!+0 : 'ok', ' '\"; done";
    let (status, text) = run(&engine, &shell(&image, script)).await;
    assert_eq!((status, text[&1].trim()), (0, "1 1 1 38 38 ok"), "{}", text[&2]);
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs root and a container engine"]
async fn streams_stdin_and_statuses_are_the_programs_own() {
    let dir = TempDir::new().unwrap();
    let (engine, image) = engine_with(dir.path(), BASE).await;
    let (status, text) = run(&engine, &shell(&image, "echo out; echo err >&2; exit 7")).await;
    assert_eq!((status, text[&1].as_str(), text[&2].as_str()), (7, "out\n", "err\n"));
    let (status, _) = run(&engine, &shell(&image, "kill -9 $$; sh -c 'kill -9 $PPID'; exit 3")).await;
    assert_eq!(status, 3, "a process 1 does not end by a signal of its own namespace");

    let spec = ContainerSpec { stdin: true, ..shell(&image, "cat; echo end >&2") };
    let container = engine.create(&spec).await.unwrap();
    let mut attached = container.attach().await.unwrap();
    container.start().await.unwrap();
    let mut input = attached.input.take().unwrap();
    input.write_all(b"through").await.unwrap();
    drop(input);
    let mut all: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while let Some(piece) = attached.output.next().await {
        let piece = piece.unwrap();
        all.entry(piece.fd).or_default().extend_from_slice(&piece.bytes);
    }
    assert_eq!((all[&1].as_slice(), all[&2].as_slice()), (&b"through"[..], &b"end\n"[..]));
    assert_eq!(container.wait().await.unwrap(), 0);

    for (program, status) in [("/no/such", 127), ("no-such", 127), ("/etc/passwd", 126), ("/etc", 126)] {
        let mut spec = shell(&image, "");
        spec.options.cmd = Some(vec![program.into()]);
        let container = engine.create(&spec).await.unwrap();
        let error = container.start().await.unwrap_err();
        match error.downcast_ref() {
            Some(EngineError::CannotExecute { status: got, .. }) => assert_eq!(*got, status, "{program}: {error:#}"),
            _ => panic!("{program}: {error:#}"),
        }
    }
    engine.sweep().await.unwrap();
}

async fn started(engine: &EmbeddedEngine, spec: &ContainerSpec) -> Box<dyn Container> {
    let container = engine.create(spec).await.unwrap();
    container.start().await.unwrap();
    container
}

#[tokio::test]
#[ignore = "needs root and a container engine"]
async fn commands_run_as_the_containers_user_and_are_given_up() {
    let dir = TempDir::new().unwrap();
    let (engine, image) = engine_with(dir.path(), BASE).await;
    let mut spec = shell(&image, "sleep 600");
    spec.options.user = Some("daemon".into());
    spec.options.env = vec!["WHO=me".into()];
    spec.options.workdir = Some("/usr/share".into());
    let container = started(&engine, &spec).await;
    let words = |text: &str| ["sh", "-c", text].map(str::to_owned).to_vec();
    let long = Duration::from_secs(60);
    let script = "id -un; pwd; echo $WHO $HOME; grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status; cat /proc/1/comm; echo err >&2; exit 5";
    let done = container.exec(&words(script), long).await.unwrap();
    let expected = "daemon\n/usr/share\nme /usr/sbin\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\nsh\n";
    assert_eq!((String::from_utf8(done.stdout).unwrap().as_str(), done.status), (expected, 5));
    assert_eq!(done.stderr, b"err\n");
    let done = container.exec(&["/no/such".to_owned()], long).await.unwrap();
    assert_eq!(done.status, 127, "{}", String::from_utf8_lossy(&done.stderr));
    let begun = Instant::now();
    let done = container.exec(&words("sleep 100"), Duration::from_millis(500)).await.unwrap();
    assert!(done.timed_out && begun.elapsed() < Duration::from_secs(20), "{done:?}");
    let gone = async || {
        let done = container.exec(&words("ls /proc | grep -c '^[0-9]'"), long).await.unwrap();
        String::from_utf8(done.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    while gone().await > 5 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the command that was given up still runs");
    }
    container.remove().await.unwrap();
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs root and a container engine"]
async fn a_stop_is_a_signal_first_and_then_the_end() {
    let dir = TempDir::new().unwrap();
    let (engine, image) = engine_with(dir.path(), BASE).await;
    let ready = async |container: &dyn Container| {
        while container.get_file("/tmp/ready").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let container = started(&engine, &shell(&image, "trap 'exit 42' TERM; touch /tmp/ready; while :; do sleep 0.1; done")).await;
    ready(container.as_ref()).await;
    assert_eq!(container.state().await.unwrap().exited, None);
    assert_eq!(container.stop(Duration::from_secs(30)).await.unwrap(), 42);
    assert_eq!(container.state().await.unwrap().exited, Some(42));
    let container = started(&engine, &shell(&image, "touch /tmp/ready; sleep 600")).await;
    ready(container.as_ref()).await;
    assert_eq!(container.stop(Duration::from_millis(200)).await.unwrap(), 137, "a process 1 without a handler");
    engine.sweep().await.unwrap();
}

fn tar_of(name: &str, bytes: &[u8]) -> Archive {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o640);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    tar.append_data(&mut header, name, bytes).unwrap();
    Box::new(std::io::Cursor::new(tar.into_inner().unwrap()))
}

#[tokio::test]
#[ignore = "needs root and a container engine"]
async fn files_go_in_and_out_and_nothing_stays() {
    let dir = TempDir::new().unwrap();
    let (engine, image) = engine_with(dir.path(), BASE).await;
    let volume = engine.create_volume("data").await.unwrap();
    let mut spec = shell(&image, "cat /.data/in > /.data/out; cat /etc/put; ls -l /etc/put | cut -c1-10; echo v > /data/mine");
    spec.volume = Some((volume, "/.data".into()));
    spec.options.volumes = vec!["/data".into()];
    spec.options.read_only = true;
    let container = engine.create(&spec).await.unwrap();
    container.put("/.data", tar_of("in", b"content")).await.unwrap();
    container.put("/etc", tar_of("put", b"before the start\n")).await.unwrap();
    let mut output = container.attach().await.unwrap().output;
    container.start().await.unwrap();
    assert_eq!(container.wait().await.unwrap(), 0, "a volume is written to although the rest is read-only");
    let mut all = Vec::new();
    while let Some(piece) = output.next().await {
        all.extend_from_slice(&piece.unwrap().bytes);
    }
    assert_eq!(String::from_utf8(all).unwrap(), "before the start\n-rw-r-----\n");
    assert_eq!(container.get_file("/.data/out").await.unwrap(), b"content");
    let error = container.get_file("/.data/none").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EngineError::NotFound(_))), "{error:#}");
    let link = container.get_file("/etc/mtab").await.unwrap_err();
    assert!(!format!("{link:#}").contains("overlay"), "the link to /proc/mounts leads into the container");
    engine.sweep().await.unwrap();
    engine.sweep().await.unwrap();
    assert!(engine.image(&image).await.unwrap().is_none(), "an image without a name goes");
    drop(engine);
    assert_eq!(std::fs::read_dir(dir.path().join("runs")).unwrap().count(), 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()));
}

/// `slim` with these words.
fn slim(cache: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
    command.args(words).env("SLIM_CACHE_DIR", cache).env("SLIM_ENGINE", "embedded").env("SLIM_SETTLE", "300ms");
    command.env_remove("DOCKER_HOST");
    command
}

/// Image ID and layer of an archive.
fn made(archive: &Path) -> (String, String) {
    let output = Command::new("tar").arg("-xOf").arg(archive).arg("manifest.json").output().unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (manifest[0]["Config"].to_string(), manifest[0]["Layers"].to_string())
}

#[test]
#[ignore = "needs root and a container engine"]
fn the_embedded_engine_makes_the_same_image_as_docker() {
    for (name, probe) in [("nginx", vec!["--http-probe"]), ("scratch", vec![])] {
        let dir = TempDir::new().unwrap();
        let image = format!("slim-fixture/{name}");
        let source = format!("docker-archive:{}", saved(&image).display());
        let ours = dir.path().join("ours.tar");
        let words = [&["build", &source, "-o", ours.to_str().unwrap(), "--tag", "x/ours"], probe.as_slice()].concat();
        let output = slim(dir.path(), &words).current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("VERIFIED"), "{name}: {text}");

        let theirs = dir.path().join("theirs.tar");
        let tag = format!("slim-embedded-test/{name}:{}", std::process::id());
        let words = [&["build", &image, "--engine", "docker", "-o", theirs.to_str().unwrap(), "--tag", &tag], probe.as_slice()].concat();
        let mut command = slim(dir.path(), &words);
        command.env("DOCKER_HOST", std::env::var_os("DOCKER_HOST").unwrap_or_default());
        let output = command.current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {text}");
        docker(&["rmi", &tag]);
        assert_eq!(made(&ours), made(&theirs), "{name}");
        assert_eq!(std::fs::read_dir(dir.path().join("runs")).unwrap().count(), 0, "{name}");
    }
}

#[test]
#[ignore = "needs root and a container engine"]
fn a_database_with_a_volume_and_a_user_is_made_small() {
    let dir = TempDir::new().unwrap();
    let source = format!("docker-archive:{}", saved("slim-fixture/postgres").display());
    let words = ["build", &source, "-o", "slim.tar", "--tag", "x/postgres", "--probe", "postgresql", "--env", "POSTGRES_PASSWORD=x"];
    let output = slim(dir.path(), &words).current_dir(dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("VERIFIED"), "{text}");
}

#[test]
#[ignore = "needs root and a container engine"]
fn what_a_killed_process_left_is_gone_and_its_containers_with_it() {
    let dir = TempDir::new().unwrap();
    let source = format!("docker-archive:{}", saved("slim-fixture/nginx").display());
    let mut child = slim(dir.path(), &["build", &source, "--http-probe", "--settle", "60s"]).current_dir(dir.path()).spawn().unwrap();
    let runs = dir.path().join("runs");
    let shims = || -> usize {
        std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            words.contains("\0runtime\0") && words.contains(dir.path().to_str().unwrap())
        }).count()
    };
    let begun = Instant::now();
    while shims() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(120), "no container came up");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    while shims() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "containers outlive the process that made them");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_ne!(std::fs::read_dir(&runs).unwrap().count(), 0);
    let engine = EmbeddedEngine::open_at(dir.path(), Arc::new(Void)).unwrap();
    assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 2, "its own directory and lock");
    drop(engine);
}

#[tokio::test]
#[ignore = "needs root and a container engine"]
async fn what_it_does_not_offer_is_one_line_before_the_run() {
    let dir = TempDir::new().unwrap();
    let (engine, image) = engine_with(dir.path(), "slim-fixture/scratch").await;
    let text = |word: &str| vec![word.to_owned()];
    let default = RunOptions::default;
    for (options, named) in [
        (RunOptions { links: text("db"), ..default() }, "--link db"),
        (RunOptions { gpus: Some("all".into()), ..default() }, "--gpus all"),
        (RunOptions { network: Some("mine".into()), ..default() }, "--network mine"),
        (RunOptions { publish: text("80:80"), ..default() }, "--publish-port 80:80"),
        (RunOptions { init: true, ..default() }, "--init"),
        (RunOptions { platform: Some("linux/s390x".into()), ..default() }, "--platform linux/s390x"),
        (RunOptions { security_opt: text("apparmor=x"), ..default() }, "--security-opt apparmor=x"),
        (RunOptions { pid: Some("container:x".into()), ..default() }, "--pid container:x"),
    ] {
        let spec = ContainerSpec { image: image.clone(), purpose: "test".into(), options, ..ContainerSpec::default() };
        let error = engine.create(&spec).await.err().expect(named);
        assert!(matches!(error.downcast_ref(), Some(EngineError::Refused(_))), "{error:#}");
        assert!(format!("{error:#}").contains(named), "{error:#}");
    }
    engine.sweep().await.unwrap();
}

/// Builds an image as an ordinary user and as root; gives both results.
fn as_user_and_root(user: u32, image: &str, words: &[&str]) -> [(std::process::Output, PathBuf); 2] {
    let dir = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap().keep();
    let program = dir.join("slim");
    std::fs::copy(env!("CARGO_BIN_EXE_slim"), &program).unwrap();
    let source = format!("docker-archive:{}", saved(image).display());
    [("user", user), ("root", 0)].map(|(name, uid)| {
        let home = dir.join(name);
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
        let mut command = Command::new(&program);
        command.args(["build", &source, "-o", "out.tar", "--tag", "x/y"]).args(words).current_dir(&home).env("HOME", &home);
        command.env_remove("DOCKER_HOST").env_remove("SLIM_CACHE_DIR").env("SLIM_ENGINE", "embedded").env("SLIM_SETTLE", "300ms");
        let output = command.uid(uid).gid(uid).output().unwrap();
        let runs = home.join(".cache/slim/runs");
        assert_eq!(std::fs::read_dir(runs).unwrap().count(), 0, "{}", String::from_utf8_lossy(&output.stderr));
        (output, home.join("out.tar"))
    })
}

/// The same image, and no fanotify where an ordinary user made it.
fn must_be_the_same([(by_user, ours), (by_root, theirs)]: [(std::process::Output, PathBuf); 2]) {
    let text = String::from_utf8_lossy(&by_user.stderr);
    assert!(by_user.status.success() && text.contains("VERIFIED"), "{text}");
    assert!(text.contains("recorded") && !text.contains("mount marks"), "there is no fanotify for a user: {text}");
    assert!(text.contains("only root of the machine itself") && !text.contains("add CAP_SYS_ADMIN"), "{text}");
    assert!(by_root.status.success(), "{}", String::from_utf8_lossy(&by_root.stderr));
    assert_eq!(made(&ours), made(&theirs), "{text}");
    std::fs::remove_dir_all(ours.parent().unwrap().parent().unwrap()).unwrap();
}

#[test]
#[ignore = "needs root and a container engine"]
fn an_ordinary_user_with_one_id_makes_an_image_that_runs_as_root() {
    let script = "trap 'exit 0' TERM; while :; do sleep 0.2; done";
    let words = ["--exec", "grep root /etc/passwd", "--exec", "ls -l /etc/alternatives", "--", "sh", "-c", script];
    must_be_the_same(as_user_and_root(54_321, "slim-fixture/base", &words));
}

#[test]
#[ignore = "needs root and a container engine"]
fn an_ordinary_user_with_one_id_is_told_what_another_user_needs() {
    let [(output, archive), _] = as_user_and_root(54_322, "slim-fixture/scratch", &[]);
    std::fs::remove_dir_all(archive.parent().unwrap().parent().unwrap()).unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("newuidmap") && text.contains("/etc/subuid"), "{text}");
}

#[test]
#[ignore = "needs root, a container engine, useradd, and newuidmap (package uidmap)"]
fn an_ordinary_user_with_ranges_of_ids_makes_the_same_image_as_root() {
    const NAME: &str = "slim-test-ranges";
    let user = |program: &str, words: &[&str]| Command::new(program).args(words).output().unwrap();
    let added = user("useradd", &["--no-create-home", "--uid", "54323", NAME]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let ranges = std::fs::read_to_string("/etc/subuid").unwrap();
    let made = std::panic::catch_unwind(|| {
        assert!(ranges.contains(NAME), "useradd gave {NAME} no ranges");
        let scratch = as_user_and_root(54_323, "slim-fixture/scratch", &[]);
        [scratch, as_user_and_root(54_323, "slim-fixture/nginx", &["--http-probe"])]
    });
    user("userdel", &[NAME]);
    made.unwrap().into_iter().for_each(must_be_the_same);
}

#[test]
#[ignore = "needs root, and Debian's packages: tests/run has both"]
fn the_demo_needs_no_container_engine() {
    // Every engine's programs are hidden, and so are their sockets.
    let hide = "for p in docker dockerd podman containerd runc crun; do f=$(command -v $p) && mount --bind /dev/null \"$f\"; done
        mount -t tmpfs none /run
        docker version && exit 99
        exec fixtures/demo";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", hide]);
    command.env_remove("DOCKER_HOST").env("SLIM", env!("CARGO_BIN_EXE_slim")).env("SLIM_SETTLE", "300ms");
    let output = command.output().unwrap();
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("VERIFIED"), "{out}\n{said}");
    assert!(out.contains("MB before, 13.") && out.contains("GET https://127.0.0.1/        200, "), "{out}\n{said}");
}
