//! Engine: the Docker engine against a real daemon (DOCKER_HOST; `tests/run` starts one).

#![allow(clippy::unwrap_used)]

#[path = "support/remote.rs"]
mod remote;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use slim::engine::{
    Archive, Attached, BuildSpec, ContainerSpec, Credentials, DockerEngine, Engine, EngineChoice, EngineError, ImageInfo, RunOptions,
};
use slim::engine::relay::Relay;
use slim::progress::Void;
use slim::sensor::control::{PROGRAM_FILE, SENSOR_DIR};
use remote::Remote;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Debian with a shell, made by `fixtures/make`.
const BASE: &str = "slim-fixture/base:latest";

async fn engine() -> DockerEngine {
    DockerEngine::connect(&EngineChoice::default(), Arc::new(Void)).await.unwrap()
}

fn shell(script: &str) -> ContainerSpec {
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    ContainerSpec {
        purpose: "test".into(),
        image: BASE.into(),
        options: RunOptions { cmd: Some(cmd), ..RunOptions::default() },
        ..ContainerSpec::default()
    }
}

/// The docker command's answer, for a second opinion.
fn docker(args: &[&str]) -> String {
    let output = std::process::Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Everything in the engine that carries a run's label or name.
fn left_of(run: &str) -> String {
    let label = format!("label=slim.run={run}");
    let name = format!("slim-{run}*");
    let containers = docker(&["ps", "-aq", "--filter", &label]);
    let volumes = docker(&["volume", "ls", "-q", "--filter", &label]);
    let images = docker(&["images", "-q", "--filter", &format!("reference={name}")]);
    [containers, volumes, images].concat()
}

fn sent(files: &[(&str, &[u8], u32)]) -> Archive {
    Box::new(std::io::Cursor::new(tar_of(files)))
}

fn tar_of(files: &[(&str, &[u8], u32)]) -> Bytes {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        tar.append_data(&mut header, path, *bytes).unwrap();
    }
    tar.into_inner().unwrap().into()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// A docker archive of one image with one file, and its ID. The content makes the ID.
fn archive(content: &str) -> (Bytes, String) {
    let layer = tar_of(&[("file", content.as_bytes(), 0o644)]);
    let config = serde_json::json!({
        "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": {"Cmd": ["/file"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let id = digest(&config);
    let name = format!("{}.json", id.trim_start_matches("sha256:"));
    let manifest = serde_json::json!([{"Config": name, "RepoTags": null, "Layers": ["layer.tar"]}]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let files: [(&str, &[u8], u32); 3] =
        [(&name, &config, 0o644), ("layer.tar", &layer, 0o644), ("manifest.json", &manifest, 0o644)];
    (tar_of(&files), id)
}

fn stream(bytes: &Bytes) -> futures_util::stream::BoxStream<'static, Bytes> {
    let chunks: Vec<Bytes> = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
    futures_util::stream::iter(chunks).boxed()
}

fn unique(test: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{test} {} {}", std::process::id(), now.as_nanos())
}

async fn text(attached: Attached) -> BTreeMap<u8, String> {
    let mut all: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let mut output = attached.output;
    while let Some(piece) = output.next().await {
        let piece = piece.unwrap();
        all.entry(piece.fd).or_default().extend_from_slice(&piece.bytes);
    }
    all.into_iter().map(|(fd, bytes)| (fd, String::from_utf8(bytes).unwrap())).collect()
}

async fn run(engine: &DockerEngine, spec: &ContainerSpec) -> (i32, BTreeMap<u8, String>) {
    let container = engine.create(spec).await.unwrap();
    let attached = container.attach().await.unwrap();
    container.start().await.unwrap();
    let text = text(attached).await;
    (container.wait().await.unwrap(), text)
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_run_gives_its_streams_and_its_status_and_is_swept() {
    let engine = engine().await;
    let (status, text) = run(&engine, &shell("echo out; echo err >&2; exit 7")).await;
    assert_eq!((status, text[&1].as_str(), text[&2].as_str()), (7, "out\n", "err\n"));
    assert_ne!(left_of(engine.run_id()), "");
    engine.sweep().await.unwrap();
    assert_eq!(left_of(engine.run_id()), "");
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn stdin_reaches_the_container_until_it_is_let_go() {
    let engine = engine().await;
    let spec = ContainerSpec { stdin: true, no_log: true, ..shell("cat; echo end >&2") };
    let container = engine.create(&spec).await.unwrap();
    let mut attached = container.attach().await.unwrap();
    container.start().await.unwrap();
    let mut input = attached.input.take().unwrap();
    input.write_all(b"one\ntwo\n").await.unwrap();
    // Letting go of it is as good as a shutdown, and the output goes on.
    drop(input);
    let text = text(attached).await;
    assert_eq!((text[&1].as_str(), text[&2].as_str()), ("one\ntwo\n", "end\n"));
    assert_eq!(container.wait().await.unwrap(), 0);
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn large_output_arrives_whole() {
    let engine = engine().await;
    let (status, text) = run(&engine, &shell("seq 1 300000")).await;
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(status, 0);
    assert!(text[&1] == expected, "{} of {} bytes", text[&1].len(), expected.len());
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn files_go_in_before_the_start_and_come_out_after_the_end() {
    let engine = engine().await;
    let volume = engine.create_volume("data").await.unwrap();
    let spec = ContainerSpec {
        volume: Some((volume, "/.data".into())),
        options: RunOptions { read_only: true, ..shell("cp /.data/in /.data/out; ls -l /.data/in").options },
        ..shell("")
    };
    let container = engine.create(&spec).await.unwrap();
    container.put("/.data", sent(&[("in", b"content", 0o751)])).await.unwrap();
    assert_eq!(container.get_file("/.data/in").await.unwrap(), b"content");
    let attached = container.attach().await.unwrap();
    container.start().await.unwrap();
    assert!(text(attached).await[&1].starts_with("-rwxr-x--x"));
    assert_eq!(container.wait().await.unwrap(), 0);
    assert_eq!(container.get_file("/.data/out").await.unwrap(), b"content");
    let error = container.get_file("/.data/none").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EngineError::NotFound(_))), "{error:#}");
    let error = container.put("/etc", sent(&[("x", b"", 0o644)])).await.unwrap_err();
    assert!(format!("{error:#}").contains("read-only"), "{error:#}");
    engine.sweep().await.unwrap();
    assert_eq!(left_of(engine.run_id()), "");
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn commands_run_inside_with_their_status_and_time() {
    let engine = engine().await;
    let mut spec = shell("exec sleep 60");
    spec.options.user = Some("1234:5678".into());
    let container = engine.create(&spec).await.unwrap();
    container.start().await.unwrap();
    let table = [
        ("id -u; id -g >&2; exit 3", 3, "1234\n", "5678\n"),
        ("seq 1 3", 0, "1\n2\n3\n", ""),
        ("kill -9 $$", 137, "", ""),
    ];
    for (script, status, stdout, stderr) in table {
        let argv = ["sh", "-c", script].map(str::to_owned);
        let result = container.exec(&argv, Duration::from_secs(20)).await.unwrap();
        assert_eq!((result.status, result.timed_out), (status, false), "{script}");
        assert_eq!((&*result.stdout, &*result.stderr), (stdout.as_bytes(), stderr.as_bytes()), "{script}");
    }
    for (program, status) in [("/no/such", 127), ("no-such", 127), ("/etc/passwd", 126)] {
        let result = container.exec(&[program.to_owned()], Duration::from_secs(20)).await.unwrap();
        assert_eq!((result.status, &*result.stdout), (status, &b""[..]), "{program}");
        assert!(!result.stderr.is_empty(), "{program}");
    }
    let sleep = ["sleep", "30"].map(str::to_owned);
    let result = container.exec(&sleep, Duration::from_millis(300)).await.unwrap();
    assert!(result.timed_out);
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_program_that_cannot_be_executed_has_the_status_of_docker_run() {
    let engine = engine().await;
    for (program, expected) in [("/no/such", 127), ("no-such", 127), ("/etc/passwd", 126)] {
        let mut spec = shell("");
        spec.options.cmd = Some(vec![program.into()]);
        let container = engine.create(&spec).await.unwrap();
        let error = container.start().await.unwrap_err();
        match error.downcast_ref() {
            Some(EngineError::CannotExecute { status, .. }) => assert_eq!(*status, expected, "{program}"),
            _ => panic!("{program}: {error:#}"),
        }
    }
    engine.sweep().await.unwrap();
    assert_eq!(left_of(engine.run_id()), "");
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn stopping_gives_the_status() {
    let engine = engine().await;
    let trap = "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done";
    let ignore = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    for (script, expected) in [(trap, 9), (ignore, 137)] {
        let container = engine.create(&shell(script)).await.unwrap();
        let mut attached = container.attach().await.unwrap();
        container.start().await.unwrap();
        assert_eq!(attached.output.next().await.unwrap().unwrap().bytes, "up\n");
        assert_eq!(container.state().await.unwrap().exited, None);
        assert_eq!(container.stop(Duration::from_secs(2)).await.unwrap(), expected);
        assert_eq!(container.state().await.unwrap().exited, Some(expected));
        assert_eq!(container.stop(Duration::from_secs(2)).await.unwrap(), expected, "once more");
    }
    let container = engine.create(&shell("exec sleep 60")).await.unwrap();
    assert_eq!(container.state().await.unwrap().exited, None, "created only");
    assert_eq!(container.stop(Duration::from_secs(2)).await.unwrap(), 0, "never started");
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn the_end_of_a_container_that_removes_itself_is_not_missed() {
    let engine = engine().await;
    for code in [0, 5, 6] {
        let spec = ContainerSpec { auto_remove: true, ..shell(&format!("exit {code}")) };
        let container = engine.create(&spec).await.unwrap();
        container.start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(container.wait().await.unwrap(), code);
        assert_eq!(container.state().await.unwrap().exited, Some(code));
        container.remove().await.unwrap();
    }
    assert_eq!(left_of(engine.run_id()), "");
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn what_a_dropped_request_makes_is_swept_too() {
    for microseconds in [0, 300, 2_000, 10_000, 40_000] {
        let engine = engine().await;
        let both = async {
            engine.create_volume("dropped").await.unwrap();
            let container = engine.create(&shell("exec sleep 60")).await.unwrap();
            container.start().await.unwrap();
        };
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), both).await;
        engine.sweep().await.unwrap();
        // Whatever was still in flight would have shown up by now.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(left_of(engine.run_id()), "", "dropped after {microseconds} us");
    }
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_loaded_image_goes_unless_it_is_tagged() {
    let engine = engine().await;
    let (bytes, id) = archive(&unique("load"));
    engine.load(stream(&bytes), &id).await.unwrap();
    let ImageInfo { tags, layers, .. } = engine.image(&id).await.unwrap().unwrap();
    assert_eq!((tags.len(), layers), (0, 1));
    engine.sweep().await.unwrap();
    assert_eq!(engine.image(&id).await.unwrap(), None);

    let name = format!("slim-test-tag:{}", std::process::id());
    engine.load(stream(&bytes), &id).await.unwrap();
    engine.tag(&id, &name).await.unwrap();
    engine.sweep().await.unwrap();
    assert_eq!(engine.image(&name).await.unwrap().unwrap().tags, std::slice::from_ref(&name));
    assert_eq!(left_of(engine.run_id()), "");

    // It was there before: another build that loads the same bytes leaves it.
    let other = self::engine().await;
    other.load(stream(&bytes), &id).await.unwrap();
    other.sweep().await.unwrap();
    assert_eq!(engine.image(&name).await.unwrap().unwrap().id, id);
    engine.remove_image(&name).await.unwrap();
    assert_eq!(engine.image(&id).await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_nameless_image_that_was_there_before_stays() {
    let engine = engine().await;
    let (bytes, id) = archive(&unique("nameless"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    docker(&["load", "-qi", file.path().to_str().unwrap()]);
    engine.load(stream(&bytes), &id).await.unwrap();
    engine.sweep().await.unwrap();
    assert_eq!(engine.image(&id).await.unwrap().unwrap().id, id);
    engine.remove_image(&id).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn two_builds_that_load_the_same_bytes_do_not_disturb_each_other() {
    let (one, two) = (engine().await, engine().await);
    let (bytes, id) = archive(&unique("shared"));
    one.load(stream(&bytes), &id).await.unwrap();
    two.load(stream(&bytes), &id).await.unwrap();
    one.sweep().await.unwrap();
    assert!(two.image(&id).await.unwrap().is_some());
    two.sweep().await.unwrap();
    assert_eq!(two.image(&id).await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn an_archive_that_is_cut_short_or_another_one_is_refused() {
    let engine = engine().await;
    let (bytes, id) = archive(&unique("cut"));
    let error = engine.load(stream(&bytes.slice(..bytes.len() / 3)), &id).await.unwrap_err();
    assert!(error.downcast_ref::<EngineError>().is_some(), "{error:#}");
    let wrong = digest(b"something else");
    let error = engine.load(stream(&bytes), &wrong).await.unwrap_err();
    assert!(format!("{error:#}").contains(&wrong), "{error:#}");
    engine.sweep().await.unwrap();
    assert_eq!(engine.image(&id).await.unwrap(), None, "what was loaded instead");
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn the_config_has_the_digest_that_is_the_id() {
    let engine = engine().await;
    let info = engine.image(BASE).await.unwrap().unwrap();
    let config = engine.image_config(BASE).await.unwrap();
    assert_eq!(digest(&config), info.id);
    assert_eq!(engine.image("slim-test-no-such:1").await.unwrap(), None);
    let error = engine.image_config("slim-test-no-such:1").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EngineError::NotFound(_))), "{error:#}");
    let error = engine.image("../containers").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EngineError::Refused(_))), "{error:#}");
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn run_options_reach_the_container() {
    let engine = engine().await;
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("file"), "from outside").unwrap();
    let named = format!("slim-test-named-{}", engine.run_id());
    let text = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let bind = format!("{}:/bound:ro", data.path().display());
    let long = format!("type=bind,src={},dst=/long,ro", data.path().display());
    let script = "cat /bound/file /long/file; echo; ulimit -n; hostname; grep ' /t ' /proc/mounts | cut -d' ' -f3; \
                  cat /proc/sys/net/core/somaxconn; pwd; id -u; id -G; echo $A; grep x.test /etc/hosts | cut -f1; \
                  touch /bound/x 2>/dev/null || echo ro; echo /anon/*; tr -d '\\0' </proc/1/comm";
    let mut spec = shell(script);
    spec.options = RunOptions {
        volumes: text(&[&bind, &format!("{named}:/named"), "/anon"]),
        mounts: text(&[&long]),
        tmpfs: text(&["/t:size=1m"]),
        ulimits: text(&["nofile=100:200"]),
        sysctls: text(&["net.core.somaxconn=77"]),
        hostname: Some("box".into()),
        workdir: Some("/etc".into()),
        user: Some("1000:2000".into()),
        group_add: text(&["3000"]),
        env: text(&["A=b c"]),
        add_hosts: text(&["x.test:10.9.8.7"]),
        publish: text(&["127.0.0.1::8080"]),
        labels: text(&["mine=yes"]),
        init: true,
        ..spec.options
    };
    let container = engine.create(&spec).await.unwrap();
    let attached = container.attach().await.unwrap();
    container.start().await.unwrap();
    let expected = "from outsidefrom outside\n100\nbox\ntmpfs\n77\n/etc\n1000\n2000 3000\nb c\n10.9.8.7\nro\n/anon/*\n";
    let output = self::text(attached).await;
    let shown = output[&1].strip_prefix(expected);
    assert!(shown.is_some_and(|init| init.contains("init")), "{output:?}");
    let label = docker(&["inspect", "-f", "{{.Config.Labels.mine}} {{index .Config.Labels \"slim.run\"}}", container.id()]);
    assert_eq!(label, format!("yes {}", engine.run_id()));
    engine.sweep().await.unwrap();
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &format!("name={named}")]), "", "made by us, so removed");
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_volume_that_was_there_before_stays() {
    let engine = engine().await;
    let name = format!("slim-test-kept-{}", engine.run_id());
    docker(&["volume", "create", &name]);
    let mut spec = shell("echo x > /v/file");
    spec.options.volumes = vec![format!("{name}:/v")];
    let (status, _) = run(&engine, &spec).await;
    engine.sweep().await.unwrap();
    let left = docker(&["volume", "ls", "-q", "--filter", &format!("name={name}")]);
    docker(&["volume", "rm", &name]);
    assert_eq!((status, left), (0, name));
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_containers_address_ports_and_shared_network_are_known() {
    let engine = engine().await;
    let mut spec = shell("exec sleep 60");
    spec.options.publish = vec!["127.0.0.1::8080".into()];
    let container = engine.create(&spec).await.unwrap();
    assert_eq!(container.state().await.unwrap().address, None);
    container.start().await.unwrap();
    let state = container.state().await.unwrap();
    assert!(state.address.unwrap().is_ipv4() && !state.host_network);
    assert!(matches!(state.published[..], [(8080, port)] if port > 0), "{state:?}");

    let mut sharing = shell("exec sleep 60");
    sharing.options.network = Some(format!("container:{}", container.id()));
    let second = engine.create(&sharing).await.unwrap();
    second.start().await.unwrap();
    assert_eq!(second.state().await.unwrap().address, state.address);

    let mut host = shell("exec sleep 60");
    host.options.network = Some("host".into());
    let third = engine.create(&host).await.unwrap();
    third.start().await.unwrap();
    let state = third.state().await.unwrap();
    assert!(state.host_network && state.address.is_none());
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn an_interrupted_load_leaves_nothing() {
    let engine = engine().await;
    let (bytes, id) = archive(&unique("interrupted"));
    let first = bytes.slice(..bytes.len() / 2);
    let stalled = futures_util::stream::iter([first]).chain(futures_util::stream::pending());
    let load = engine.load(stalled.boxed(), &id);
    assert!(tokio::time::timeout(Duration::from_millis(300), load).await.is_err());
    let started = std::time::Instant::now();
    engine.sweep().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(engine.image(&id).await.unwrap(), None);
    assert_eq!(left_of(engine.run_id()), "");
}

fn dockerfile(dir: &std::path::Path, text: &str) -> BuildSpec {
    std::fs::write(dir.join("Dockerfile"), text).unwrap();
    BuildSpec { context: dir.to_owned(), ..BuildSpec::default() }
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_dockerfile_is_built_and_swept_unless_tagged() {
    let engine = engine().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sent"), unique("build")).unwrap();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    std::fs::write(dir.path().join(".dockerignore"), "secret\n").unwrap();
    let text = format!("FROM {BASE} AS one\nARG WHAT\nCOPY . /ctx\nRUN echo $WHAT >/what\nFROM one AS two\nRUN exit 3\n");
    let mut build = dockerfile(dir.path(), &text);
    build.args = vec!["WHAT=this".into()];
    build.target = Some("one".into());
    let id = engine.build(&build).await.unwrap();
    let mut spec = shell("cat /what; ls /ctx");
    spec.image.clone_from(&id);
    assert_eq!(run(&engine, &spec).await.1[&1], "this\nDockerfile\nsent\n");
    engine.sweep().await.unwrap();
    assert_eq!(engine.image(&id).await.unwrap(), None);

    let tag = format!("slim-test-built:{}", std::process::id());
    build.tag = Some(tag.clone());
    let id = engine.build(&build).await.unwrap();
    engine.sweep().await.unwrap();
    assert_eq!(engine.image(&tag).await.unwrap().unwrap().id, id);

    build.target = None;
    let error = format!("{:#}", engine.build(&build).await.unwrap_err());
    assert!(error.contains("returned a non-zero code: 3") && error.contains("RUN exit 3"), "{error}");
    engine.sweep().await.unwrap();
    engine.remove_image(&tag).await.unwrap();
    let stage = dockerfile(dir.path(), &format!("FROM {BASE}\nRUN --mount=type=cache,target=/c true\n"));
    let error = format!("{:#}", engine.build(&stage).await.unwrap_err());
    assert!(error.contains("docker buildx build --load"), "{error}");
}

/// A process of ours that ends with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn command(program: &str, args: &[&str]) -> String {
    let output = std::process::Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(std::time::Instant::now() < end, "{what} takes more than 60 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A password whose JSON has `+` or `/` in base64, which the two alphabets write differently.
const PASSWORD: &str = "p?>~?>~~?>";

async fn registry(dir: &std::path::Path) -> (Running, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let users = dir.join("htpasswd");
    std::fs::write(&users, command("htpasswd", &["-Bbn", "me", PASSWORD])).unwrap();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\nhttp: {{addr: \"{free}\"}}\n\
         auth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}\n",
        dir.display()
    );
    std::fs::write(dir.join("config.yml"), config).unwrap();
    let mut serve = std::process::Command::new("docker-registry");
    let serve = serve.arg("serve").arg(dir.join("config.yml")).stdout(std::process::Stdio::null());
    let server = Running(serve.stderr(std::process::Stdio::null()).spawn().unwrap());
    until("the registry", || std::net::TcpStream::connect(free).is_ok()).await;
    (server, free.to_string())
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_registry_is_asked_with_the_right_credentials() {
    let engine = engine().await;
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = registry(dir.path()).await;
    let (bytes, id) = archive(&unique("pull"));
    let name = format!("{address}/team/app:1");
    engine.load(stream(&bytes), &id).await.unwrap();
    engine.tag(&id, &name).await.unwrap();
    let config = dir.path().to_str().unwrap();
    command("docker", &["--config", config, "login", "-u", "me", "-p", PASSWORD, &address]);
    command("docker", &["--config", config, "push", "-q", &name]);
    engine.sweep().await.unwrap();
    engine.remove_image(&name).await.unwrap();

    let right = Credentials { username: "me".into(), secret: PASSWORD.into() };
    engine.pull(&name, None, Some(&right)).await.unwrap();
    let info = engine.image(&name).await.unwrap().unwrap();
    assert_eq!(info.id, id);
    let by_digest = info.repo_digests[0].clone();
    engine.remove_image(&name).await.unwrap();
    engine.pull(&by_digest, None, Some(&right)).await.unwrap();
    assert_eq!(engine.image(&by_digest).await.unwrap().unwrap().id, id);
    engine.remove_image(&by_digest).await.unwrap();

    let wrong = Credentials { username: "me".into(), secret: "wrong".into() };
    for auth in [Some(&wrong), None] {
        let error = engine.pull(&name, None, auth).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(EngineError::Unauthorized(_))), "{error:#}");
        assert!(!format!("{error:#}").contains("wrong;"), "{error:#}");
    }
    let error = engine.pull(&format!("{address}/team/none:1"), None, Some(&right)).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(EngineError::NotFound(_))), "{error:#}");
    drop(server);
    let error = engine.pull(&name, None, Some(&right)).await.unwrap_err();
    assert!(error.downcast_ref::<EngineError>().unwrap().is_retryable(), "{error:#}");
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_relay_reaches_what_has_no_address() {
    let engine = engine().await;
    let server = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1:7000'); \
                  $| = 1; print \"up\\n\"; while (my $c = $s->accept) { print $c uc(<$c>); close $c }";
    let mut spec = shell("");
    spec.options.cmd = Some(["perl", "-e", server].map(str::to_owned).to_vec());
    spec.options.network = Some("none".into());
    let target = engine.create(&spec).await.unwrap();
    let mut output = target.attach().await.unwrap().output;
    target.start().await.unwrap();
    assert_eq!(output.next().await.unwrap().unwrap().bytes, "up\n");

    let volume = engine.create_volume("kit").await.unwrap();
    let holder = ContainerSpec { volume: Some((volume.clone(), SENSOR_DIR.into())), ..shell("") };
    let program = std::fs::read(env!("CARGO_BIN_EXE_slim")).unwrap();
    let holder = engine.create(&holder).await.unwrap();
    holder.put(SENSOR_DIR, sent(&[(PROGRAM_FILE, &program, 0o755)])).await.unwrap();
    let relay = Relay::start(&engine, BASE, &volume, &[], target.as_ref()).await.unwrap();
    for word in ["one", "two"] {
        let mut stream = relay.dial("127.0.0.1:7000".parse().unwrap()).await.unwrap();
        stream.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, format!("{}\n", word.to_uppercase()));
    }
    let error = relay.dial("127.0.0.1:7001".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    relay.close().await.unwrap();
    engine.sweep().await.unwrap();
    assert_eq!(left_of(engine.run_id()), "");
}

async fn connect(host: &str, certs: Option<&str>) -> anyhow::Result<DockerEngine> {
    let choice = EngineChoice {
        host: Some(host.to_owned()),
        cert_path: certs.map(std::path::PathBuf::from),
        tls_verify: certs.map(|_| true),
        ..EngineChoice::default()
    };
    DockerEngine::connect(&choice, Arc::new(Void)).await
}

#[tokio::test]
#[ignore = "needs a container engine and root: tests/run starts one"]
async fn a_remote_engine_works_over_tls() {
    let (near, remote) = (engine().await, Remote::start());
    let (host, certs) = (remote.host(), remote.certs());
    let far = connect(&host, Some(&certs)).await.unwrap();
    assert!(!far.info().local);

    // The same image there: its bytes go through us, its ID stays, its config comes out of a save.
    let base = near.image(BASE).await.unwrap().unwrap();
    let saved = near.save(&base.id).await.unwrap().map(|piece| piece.unwrap());
    far.load(saved.boxed(), &base.id).await.unwrap();
    assert_eq!(digest(&far.image_config(&base.id).await.unwrap()), base.id);

    let mut spec = ContainerSpec { stdin: true, ..shell("cat; echo done >&2; exit 4") };
    spec.image = base.id.clone();
    spec.options.network = Some("none".into());
    let container = far.create(&spec).await.unwrap();
    let mut attached = container.attach().await.unwrap();
    container.start().await.unwrap();
    let mut input = attached.input.take().unwrap();
    input.write_all(b"over tls\n").await.unwrap();
    input.shutdown().await.unwrap();
    let text = text(attached).await;
    assert_eq!((text[&1].as_str(), text[&2].as_str()), ("over tls\n", "done\n"));
    assert_eq!(container.wait().await.unwrap(), 4);
    far.sweep().await.unwrap();
    assert_eq!(far.image(&base.id).await.unwrap(), None);

    refusals(&host, &remote.address).await;

    // The engine goes away in the middle of a run: what follows is worth retrying, and nothing waits for ever.
    let mut spec = shell("exec sleep 60");
    spec.image = base.id.clone();
    spec.options.network = Some("none".into());
    let saved = near.save(&base.id).await.unwrap().map(|piece| piece.unwrap());
    far.load(saved.boxed(), &base.id).await.unwrap();
    let container = far.create(&spec).await.unwrap();
    container.start().await.unwrap();
    drop(remote);
    match tokio::time::timeout(Duration::from_secs(60), container.wait()).await.unwrap() {
        Ok(status) => assert_eq!(status, 137, "stopped by the engine as it ended"),
        Err(error) => assert!(error.downcast_ref::<EngineError>().unwrap().is_retryable(), "{error:#}"),
    }
    let error = container.state().await.unwrap_err();
    assert!(error.downcast_ref::<EngineError>().unwrap().is_retryable(), "{error:#}");
    let error = tokio::time::timeout(Duration::from_secs(60), far.sweep()).await.unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("left behind"), "{error:#}");
}

async fn refusals(host: &str, address: &str) {
    for (host, certs, expected) in [
        (host, None, "TLS"),
        (host, Some("/nowhere"), "no ca.pem in /nowhere"),
        (&format!("tcp://{address}:1"), None, "onnection refused"),
        ("unix:///nowhere.sock", None, "no such socket"),
    ] {
        let error = connect(host, certs).await.map(|_| ()).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(EngineError::Unreachable(_))), "{error:#}");
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}
