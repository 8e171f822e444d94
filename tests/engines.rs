//! Engines elsewhere and of another age: through ssh, and Docker 26; and what `slim engines` says of what is here.

#![allow(clippy::unwrap_used)]

#[path = "engines/sshd.rs"]
mod sshd;

use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sshd::Sshd;

fn slim(args: &[&str]) -> Command {
    let mut slim = Command::new(env!("CARGO_BIN_EXE_slim"));
    slim.args(args).stdin(Stdio::null()).env("SLIM_SETTLE", "100ms").env_remove("SOURCE_DATE_EPOCH");
    slim
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The docker command's answer.
#[track_caller]
fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `slim build` of an image, verified; its report.
#[track_caller]
fn build(image: &str, env: &[(&str, &str)], tag: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let output = slim(&["build", image, "--http-probe", "--rebuild", "-t", tag]).current_dir(dir.path()).envs(env.iter().copied()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&std::fs::read(dir.path().join("slim.report.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"]["kind"], "verified", "{}", said(&output));
    report
}

/// Takes a name away again.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        let _gone_already = Command::new("docker").args(["rmi", &self.0]).output();
    }
}

fn engine() -> String {
    std::env::var("DOCKER_HOST").expect("DOCKER_HOST names the engine of the tests")
}

#[test]
#[ignore = "needs root, sshd, and a container engine with the fixture images: tests/run has them"]
fn an_engine_behind_ssh_is_used_as_the_docker_command_does() {
    let sshd = Sshd::start(&engine());
    let (host, path) = (sshd.host(), sshd.search("user", "known"));
    let tag = Named(format!("engines-test-ssh-{}.slim:1", std::process::id()));
    let there = build("slim-fixture/musl:latest", &[("DOCKER_HOST", &host), ("PATH", &path)], &tag.0);
    let here = build("slim-fixture/musl:latest", &[], &tag.0);
    assert_eq!(there["result"]["digest"], here["result"]["digest"]);
    assert_eq!(sshd.clients(), "", "connections are left");
    // The socket may be named, where the docker command there would take another one.
    let socket = format!("{host}{}", engine().strip_prefix("unix://").expect("the tests' engine has a socket"));
    let other = Sshd::start("unix:///nowhere.sock");
    let named = socket.replace(&sshd.host(), &other.host());
    let path = other.search("user", "known");
    let output = slim(&["engines", "--json"]).env("DOCKER_HOST", &named).env("PATH", &path).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let engine = &found["engines"][0];
    assert_eq!((&engine["host"], &engine["name"], &engine["problem"]), (&named.into(), &"docker".into(), &Value::Null));
    for recorder in ["fanotify", "ptrace", "user-notification"] {
        assert_eq!(engine["recorders"][recorder]["usable"], "unknown", "{engine}");
    }
}

#[test]
#[ignore = "needs root, sshd, and a container engine: tests/run has them"]
fn what_ssh_does_not_like_is_said_in_its_own_words() {
    let sshd = Sshd::start("unix:///nowhere.sock");
    for (key, known, why) in [
        ("stranger", "known", "Permission denied (publickey)"),
        ("user", "nobody-known", "Host key verification failed"),
        ("user", "known", "nowhere.sock"),
    ] {
        let path = sshd.search(key, known);
        let output = slim(&["build", "x"]).env("DOCKER_HOST", sshd.host()).env("PATH", path).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(why) && text.contains("ssh HOST docker version"), "{why}\n{text}");
        assert_eq!(text.trim().lines().count(), 1, "{text}");
    }
    let output = slim(&["build", "x"]).env("DOCKER_HOST", "ssh://me@box").env("PATH", "/nowhere").output().unwrap();
    assert!(said(&output).contains("there is no ssh command here"), "{}", said(&output));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_engine_in_use_is_listed_with_its_recorders() {
    let output = slim(&["engines"]).output().unwrap();
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find(|line| line.contains(&engine())).unwrap();
    assert!(line.starts_with("docker ") && line.contains("DOCKER_HOST"), "{text}");
    let version = docker(&["version", "--format", "{{.Server.Version}}"]);
    assert!(line.contains(&version) && line.contains("fanotify ptrace user-notification"), "{text}");
}

#[test]
fn an_engine_that_does_not_answer_is_listed_beside_the_one_in_this_program() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = format!("unix://{}/none.sock", dir.path().display());
    let mut asked = slim(&["engines", "-H", &nowhere]);
    let output = asked.env_remove("DOCKER_HOST").env_remove("SLIM_CACHE_DIR").env("HOME", dir.path()).output().unwrap();
    let text = said(&output);
    assert!(text.contains(&nowhere) && text.contains("no such socket"), "{text}");
    let own = text.lines().find(|line| line.starts_with("embedded")).unwrap();
    assert!(own.contains("built in") && own.contains(&format!("embedded:{}", dir.path().display())), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "looking makes nothing");
}

/// What `slim engines` says of the engine in slim, as a user or with less than root has: status, and all lines.
fn embedded_as(user: u32, capabilities: &str, cache: &str) -> (Option<i32>, String) {
    let dir = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_slim"), dir.path().join("slim")).unwrap();
    let ids = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()];
    let mut command = Command::new("setpriv");
    command.args(ids).arg(format!("--bounding-set={capabilities}")).arg(dir.path().join("slim")).arg("engines");
    command.env_remove("DOCKER_HOST").env_remove("CONTAINER_HOST").env("SLIM_CACHE_DIR", cache).stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), said(&output))
}

#[test]
#[ignore = "needs root and setpriv (util-linux): tests/run has both"]
fn the_engine_in_this_program_says_what_it_lacks() {
    let (status, text) = embedded_as(0, "+all", "/tmp");
    assert!(status == Some(0) && text.contains("embedded:/tmp  fanotify ptrace user-notification"), "{text}");
    let (status, text) = embedded_as(54_321, "+all", "/tmp");
    assert!(status == Some(0) && text.contains("embedded (rootless)") && text.contains("/tmp  ptrace user-notification"), "{text}");
    assert!(text.contains("fanotify: needs CAP_SYS_ADMIN of the machine itself, which a rootless engine has not"), "{text}");
    let (status, text) = embedded_as(0, "-sys_admin", "/tmp");
    assert!(status == Some(1) && text.contains("needs CAP_SYS_ADMIN: root lacks them here"), "{text}");
    let (status, text) = embedded_as(54_321, "+all", "/proc/none");
    assert!(status == Some(1) && text.contains("set SLIM_CACHE_DIR to a directory that can be written"), "{text}");
}

/// Docker 26 of `fixtures/engine-new`, stopped again unless it ran before.
struct NewEngine {
    host: String,
    ours: bool,
}

impl NewEngine {
    fn start() -> Self {
        let script = |word: &str| Command::new("fixtures/engine-new").arg(word).output().unwrap();
        let ours = !script("status").status.success();
        let started = script("start");
        assert!(started.status.success(), "{}", said(&started));
        let line = said(&script("env"));
        Self { host: line.trim().rsplit('=').next().unwrap().to_owned(), ours }
    }
}

impl Drop for NewEngine {
    fn drop(&mut self) {
        if self.ours {
            let _gone_already = Command::new("fixtures/engine-new").arg("stop").status();
        }
    }
}

#[test]
#[ignore = "needs root, debootstrap, and a container engine with the fixture images: tests/run has them"]
fn docker_26_makes_the_same_image_as_docker_20() {
    let new = NewEngine::start();
    let major = docker(&["-H", &new.host, "version", "--format", "{{.Server.Version}}"]);
    let major: u32 = major.split('.').next().unwrap().parse().unwrap();
    assert!(major >= 26, "{major}");
    let image = "slim-fixture/nginx:latest";
    let copy = format!("docker save {image} | docker -H {} load -q", new.host);
    assert!(Command::new("bash").args(["-o", "pipefail", "-c", &copy]).stdout(Stdio::null()).status().unwrap().success());
    let tag = Named(format!("engines-test-new-{}.slim:1", std::process::id()));
    let there = build(image, &[("DOCKER_HOST", &new.host)], &tag.0);
    let here = build(image, &[], &tag.0);
    assert_eq!(there["result"]["digest"], here["result"]["digest"]);
    docker(&["-H", &new.host, "rmi", &tag.0]);
    for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["images", "-q", "--filter", "reference=slim-*"]] {
        assert_eq!(docker(&[&["-H", &new.host], list].concat()), "", "{list:?}");
    }
}
