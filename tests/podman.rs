//! podman's service, of root and of an ordinary user, is an engine like Docker's: the same files stay, in the same
//! bytes.

#![allow(clippy::unwrap_used)]

#[path = "podman/imitation.rs"]
mod imitation;
#[path = "podman/service.rs"]
mod service;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use service::{Podman, run};
use slim::engine::{ContainerSpec, DockerEngine, Engine, EngineChoice};

/// `slim build` of an image somewhere; its report.
#[track_caller]
fn build(mut slim: Command, dir: &Path, image: &str, flags: &[&str]) -> Value {
    let report = dir.join("report.json");
    slim.args(["build", image, "--rebuild", "--report"]).arg(&report).args(flags).stdin(Stdio::null());
    slim.env("SLIM_SETTLE", "100ms").env_remove("SOURCE_DATE_EPOCH");
    let output = slim.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{image} {flags:?}: {:?}\n{said}", output.status);
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["verdict"]["kind"], "verified", "{said}");
    report
}

/// `slim` at the engine of the other tests.
fn at_docker() -> Command {
    Command::new(env!("CARGO_BIN_EXE_slim"))
}

/// `slim` at a podman, as its user.
fn at(podman: &Podman) -> Command {
    // Its user may not be allowed to look where the tests' own is.
    let program = podman.home().join("slim");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_slim"), &program).unwrap();
    }
    let mut slim = podman.command(program.to_str().unwrap());
    slim.env("DOCKER_HOST", podman.host());
    slim
}

/// What stays, with all that is known of it but why: reasons name the probe in whose time something was touched.
fn kept(report: &Value) -> Vec<Value> {
    let mut kept = report["kept"].as_array().unwrap().clone();
    kept.iter_mut().for_each(|file| drop(file.as_object_mut().unwrap().remove("reasons")));
    kept
}

/// Why a path stays.
fn reasons(report: &Value, path: &str) -> Vec<Value> {
    let file = report["kept"].as_array().unwrap().iter().find(|file| file["path"] == path).unwrap();
    let index = file["reasons"].as_array().unwrap().iter();
    index.map(|at| report["reasons"][at.as_u64().unwrap() as usize].clone()).collect()
}

/// What differs, for people; empty when nothing does.
fn difference(one: &[Value], other: &[Value]) -> Vec<String> {
    let only = |these: &[Value], those: &[Value]| -> Vec<String> {
        these.iter().filter(|file| !those.contains(file)).map(Value::to_string).collect()
    };
    [only(one, other), only(other, one)].concat()
}

/// Takes a name away again.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        let _gone_already = Command::new("docker").args(["rmi", &self.0]).output();
    }
}

#[test]
#[ignore = "needs root, podman, and a container engine with the fixture images: tests/run has them"]
fn podman_makes_the_same_image_as_docker() {
    let podman = Podman::root();
    let dir = tempfile::tempdir().unwrap();
    for (image, probe) in [("slim-fixture/musl:latest", "--http-probe"), ("slim-fixture/nginx:latest", "--http-probe")] {
        podman.take(image);
        let tag = Named(format!("podman-test-{}.slim:1", std::process::id()));
        let flags = [probe, "-t", &tag.0];
        let docker = build(at_docker(), dir.path(), image, &flags);
        let same = build(at(&podman), dir.path(), image, &flags);
        assert_eq!(difference(&kept(&docker), &kept(&same)), [""; 0], "{image}");
        assert_eq!(docker["result"]["digest"], same["result"]["digest"], "{image}: one keep set, other bytes");
        // And it is there, under its name, with the layer that Docker has.
        let layers = ["inspect", "--format", "{{json .RootFS.Layers}}", &tag.0];
        assert_eq!(podman.docker(&layers), run(Command::new("docker").args(layers)), "{image}");
        podman.docker(&["rmi", &tag.0]);
        podman.is_clean();
    }
}

#[test]
#[ignore = "needs root, podman, and a container engine with the fixture images: tests/run has them"]
fn an_archive_of_a_slim_image_loads_into_podman() {
    let podman = Podman::root();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slim.tar");
    let (tag, archive) = (format!("podman-test-archive-{}:1", std::process::id()), file.to_str().unwrap());
    let _tag = Named(tag.clone());
    let report = build(at_docker(), dir.path(), "slim-fixture/musl:latest", &["--http-probe", "-t", &tag, "-o", archive]);
    let said = run(podman.command("podman").args(["load", "-q", "-i", archive]));
    assert!(said.contains(&tag), "{said}");
    let id = run(podman.command("podman").args(["inspect", "--type", "image", "--format", "{{.Id}}", &tag]));
    assert_eq!(format!("sha256:{id}"), report["result"]["digest"].as_str().unwrap());
    let said = run(podman.command("podman").args(["run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", &tag, "-c", "echo runs"]));
    assert_eq!(said, "runs");
}

/// `slim` with podman's socket as the podman command finds it, and Docker's named too; what it said.
#[track_caller]
fn with_both(podman: &Podman, words: &[&str]) -> String {
    let mut slim = podman.command(env!("CARGO_BIN_EXE_slim"));
    slim.args(words).env("CONTAINER_HOST", podman.host()).env("DOCKER_HOST", std::env::var("DOCKER_HOST").unwrap());
    let output = slim.env("SLIM_SETTLE", "100ms").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    said
}

#[test]
#[ignore = "needs root, podman, skopeo, and a container engine with the fixture images: tests/run has them"]
fn what_containers_storage_names_is_in_podman_wherever_docker_is() {
    let podman = Podman::root();
    podman.take("slim-fixture/musl:latest");
    let number = std::process::id();
    let named = format!("podman-test-store-{number}:1");
    let (there, again) = (format!("containers-storage:{named}"), format!("containers-storage:podman-test-again-{number}:1"));
    // Made small where it is: podman has the result, and Docker knows of nothing.
    let said = with_both(&podman, &["build", "containers-storage:slim-fixture/musl:latest", "--http-probe", "-t", &named, "--report", "off"]);
    assert!(said.contains("VERIFIED"), "{said}");
    let id = run(podman.command("podman").args(["inspect", "--type", "image", "--format", "{{.Id}}", &named]));
    assert_eq!(run(Command::new("docker").args(["images", "-q", &named])), "");
    // Copied out and back in: the same image.
    with_both(&podman, &["copy", &there, "oci:out:1"]);
    with_both(&podman, &["copy", "oci:out:1", &again]);
    let same = run(podman.command("podman").args(["inspect", "--type", "image", "--format", "{{.Id}}", &again["containers-storage:".len()..]]));
    assert_eq!(id, same);
    let config = run(podman.command("skopeo").args(["inspect", "--config", "--raw", "oci:out:1"]));
    assert_eq!(slim::store::digest::Digest::of(config.as_bytes()).hex(), id);
    for name in [&named, &again["containers-storage:".len()..]] {
        podman.docker(&["rmi", name]);
    }
    podman.is_clean();
}

#[test]
#[ignore = "needs root, podman with user namespaces, and a container engine with the fixture images: tests/run has them"]
fn rootless_podman_keeps_the_same_files_with_the_syscall_recorder_alone() {
    let podman = Podman::rootless();
    let (image, dir, own) = ("slim-fixture/musl:latest", tempfile::tempdir().unwrap(), podman.home());
    podman.take(image);
    // slirp4netns needs a /dev/net/tun that everybody may open.
    let flags = ["--http-probe", "--network", "none", "-t"];
    let tag = Named(format!("podman-test-rootless-{}.slim:1", std::process::id()));
    let flags = [&flags[..], &[&tag.0]].concat();
    let same = build(at(&podman), &own, image, &flags);
    assert_eq!(same["trace"]["recorders"], serde_json::json!(["syscalls (user-notification)"]));
    // With the same recorder Docker gives the same layer to the byte. The flag that asks for it is an input of its own, and
    // so are the labels.
    let syscalls = build(at_docker(), dir.path(), image, &[&flags[..], &["--sensor", "syscalls"]].concat());
    assert_eq!(difference(&kept(&syscalls), &kept(&same)), [""; 0]);
    assert!(same["result"]["layer_list"].is_array(), "{}", same["result"]);
    assert_eq!(syscalls["result"]["layer_list"], same["result"]["layer_list"]);
    // With both recorders an open that fails is not seen: the rootless one knows more directories that were
    // searched in vain, and nothing else.
    let both = kept(&build(at_docker(), dir.path(), image, &flags));
    let more: Vec<Value> = kept(&same).into_iter().filter(|file| !both.contains(file)).collect();
    assert_eq!(both.len() + more.len(), kept(&same).len(), "{:?}", difference(&both, &kept(&same)));
    for file in &more {
        let why = reasons(&same, file["path"].as_str().unwrap());
        assert!(why.iter().all(|reason| reason["how"] == "searched for a missing name"), "{file}: {why:?}");
    }
    podman.docker(&["rmi", &tag.0]);
    podman.is_clean();
    let output = at(&podman).arg("engines").output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && table.contains("podman (rootless)"), "{table}");
    assert!(table.contains("fanotify: needs CAP_SYS_ADMIN of the machine itself"), "{table}");
}

/// `fixtures/same` without names does it for all.
#[test]
#[ignore = "needs root, podman, newuidmap, and a container engine with the fixture images: tests/run has them"]
fn every_engine_keeps_the_same_files_in_the_same_layer() {
    let _no_other_podman_of_root = service::alone();
    let output = Command::new("fixtures/same").args(["musl", "redis"]).env("SLIM", env!("CARGO_BIN_EXE_slim")).env("SLIM_SETTLE", "300ms").output().unwrap();
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{said}");
    let rows: Vec<&str> = out.lines().filter(|line| line.starts_with("| musl") || line.starts_with("| redis")).collect();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.contains("| same | same | same |") && row.ends_with("| yes |")), "{out}");
}

#[tokio::test]
#[ignore = "needs root, podman, and a container engine with the fixture images: tests/run has them"]
async fn names_in_podman_are_spelled_as_in_docker() {
    let podman = Podman::root();
    podman.take("slim-fixture/scratch:latest");
    let choice = EngineChoice { host: Some(podman.host()), ..EngineChoice::default() };
    let engine = DockerEngine::connect(&choice, Arc::new(slim::progress::Void)).await.unwrap();
    let id = engine.image("slim-fixture/scratch:latest").await.unwrap().unwrap().id;
    engine.tag(&id, "podman-test-name:1").await.unwrap();
    // One of ours, by which an image is kept alive, is nobody's name for it.
    engine.tag(&id, &format!("slim-{}:1", engine.run_id())).await.unwrap();
    let mut tags = engine.image(&id).await.unwrap().unwrap().tags;
    tags.sort();
    assert_eq!(tags, ["localhost/slim-fixture/scratch:latest", "podman-test-name:1"]);
    engine.sweep().await.unwrap();
}

#[tokio::test]
async fn a_container_that_podman_is_cleaning_up_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    imitation::serve(&socket, 3);
    let choice = EngineChoice { host: Some(format!("unix://{}", socket.display())), ..EngineChoice::default() };
    let engine = DockerEngine::connect(&choice, Arc::new(slim::progress::Void)).await.unwrap();
    assert_eq!(engine.info().name, "podman");
    let spec = ContainerSpec { image: "x".into(), purpose: "test".into(), ..ContainerSpec::default() };
    let container = engine.create(&spec).await.unwrap();
    assert_eq!(container.state().await.unwrap().exited, Some(3));
}

#[test]
#[ignore = "needs root and podman: tests/run has them"]
fn a_podman_of_root_is_listed_with_all_recorders() {
    let podman = Podman::root();
    let mut slim = at(&podman);
    // It is named twice, and listed once.
    let output = slim.args(["engines", "--json"]).env("CONTAINER_HOST", podman.host()).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let engines: Vec<&Value> = found["engines"].as_array().unwrap().iter().filter(|engine| engine["host"] == podman.host()).collect();
    assert_eq!(engines.len(), 1, "{found}");
    let engine = engines[0];
    assert_eq!((&engine["name"], &engine["by"], &engine["rootless"]), (&"podman".into(), &"DOCKER_HOST".into(), &false.into()));
    let usable = |name: &str| engine["recorders"][name]["usable"] == "yes";
    assert!(["fanotify", "user-notification", "ptrace"].into_iter().all(usable), "{engine}");
}
