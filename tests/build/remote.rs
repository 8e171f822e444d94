//! Engines whose containers cannot be reached from here: elsewhere over TLS, behind a socket that only looks
//! local, and targets without a network.

use std::process::{Command, Stdio};

use crate::support::{Build, Image, Remote, Source, docker};

/// `docker` at another engine.
fn far(remote: &Remote, args: &[&str]) -> String {
    docker(&[&["-H", &remote.socket()], args].concat())
}

/// Gives an image to the other engine.
fn send(remote: &Remote, image: &Image) {
    let mut save = Command::new("docker").args(["save", &image.name]).stdout(Stdio::piped()).spawn().unwrap();
    let mut load = Command::new("docker");
    load.args(["-H", &remote.socket(), "load", "-q"]).stdin(save.stdout.take().unwrap()).stdout(Stdio::null());
    assert!(load.status().unwrap().success() && save.wait().unwrap().success());
}

/// `slim build` there, with a command of this machine among the probes.
fn build(image: &Image, env: &[(&str, &str)], tag: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
    let host = "bash -c 'exec 3<>/dev/tcp/$SLIM_TARGET_HOST/$SLIM_TARGET_PORT && printf \"GET /about.html HTTP/1.0\\r\\n\\r\\n\" >&3 && grep about <&3'";
    command.args(["build", &image.name, "--http-probe", "--host-exec", host, "-t", tag]).current_dir(dir.path());
    command.env_remove("DOCKER_HOST").envs(env.iter().copied()).env("SLIM_SETTLE", "100ms").stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {}\n{text}", output.status, String::from_utf8_lossy(&output.stdout));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.path().join("slim.report.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"]["kind"], "verified", "{text}");
    let kept = report["kept"].to_string();
    assert!(kept.contains("/www/about.html") && !kept.contains("/www/unlinked.html"), "{kept}");
}

#[test]
#[ignore = "needs a container engine and root: tests/run starts one"]
fn an_image_of_a_remote_engine_becomes_small_over_tls() {
    let (image, remote) = (Image::new("far"), Remote::start());
    send(&remote, &image);
    let (host, certs) = (remote.host(), remote.certs());
    let env = [("DOCKER_HOST", host.as_str()), ("DOCKER_CERT_PATH", &certs), ("DOCKER_TLS_VERIFY", "1")];
    build(&image, &env, "far.slim:1");
    assert_eq!(far(&remote, &["images", "-q", "far.slim:1"]).lines().count(), 1);
    for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["images", "-q", "--filter", "reference=slim-*"]] {
        assert_eq!(far(&remote, list), "", "{list:?}");
    }
}

/// Removes a network with its container.
struct Decoy(String);

impl Drop for Decoy {
    fn drop(&mut self) {
        for args in [["rm", "-f", &self.0].as_slice(), &["network", "rm", &self.0]] {
            let _gone_already = Command::new("docker").args(args).output();
        }
    }
}

#[test]
#[ignore = "needs a container engine and root: tests/run starts one"]
fn a_socket_that_leads_elsewhere_is_not_taken_for_this_machine() {
    let (image, remote) = (Image::new("near"), Remote::start());
    send(&remote, &image);
    // Here too there is something at the address that the target gets there, and it answers otherwise.
    let decoy = Decoy(format!("slim-decoy-{}", std::process::id()));
    let mut other = Source::default();
    other.files.retain(|(path, _)| path != "www/index.html");
    let other = other.with("www/index.html", "<p>somebody else</p>\n").load("decoy");
    docker(&["network", "create", "--subnet", &format!("{}.0/24", remote.network), &decoy.0]);
    let at = format!("{}.2", remote.network);
    docker(&["run", "-d", "--name", &decoy.0, "--network", &decoy.0, "--ip", &at, &other.name]);
    build(&image, &[("DOCKER_HOST", &remote.socket())], "near.slim:1");
    assert_eq!(far(&remote, &["ps", "-aq"]), "");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_target_without_a_network_is_probed_all_the_same() {
    let image = Image::new("alone");
    let script = "bash -c 'exec 3<>/dev/tcp/$SLIM_TARGET_HOST/$SLIM_TARGET_PORT && printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3 && grep about <&3'";
    let done = Build::of(&image).args(&["--http-probe", "--network", "none", "--host-exec", script]).run().ended(0);
    assert!(done.kept().iter().any(|path| path == "/www/about.html"));
    let done = Build::of(&image).args(&["--http-probe", "--network", "host", "--cmd", "serve 18973", "--http-probe-ports", "18973"]).run();
    done.ended(0);
}
