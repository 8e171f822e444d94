//! The engine in slim inside a container of another engine, as in a CI job: with what it needs it works, and without it
//! says what is missing, all of it that can be known by then.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

/// A directory that everybody may write to, with slim and an image in it.
fn place() -> TempDir {
    let open = std::fs::Permissions::from_mode(0o777);
    let dir = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_slim"), dir.path().join("slim")).unwrap();
    let saved = Command::new("docker").args(["save", "-o"]).arg(dir.path().join("base.tar")).arg("slim-fixture/base").status();
    assert!(saved.unwrap().success(), "fixtures/make base");
    std::fs::set_permissions(dir.path().join("base.tar"), std::fs::Permissions::from_mode(0o644)).unwrap();
    dir
}

/// `slim build` as a user of a container with these options. The cache is in memory, for an overlay cannot lie upon
/// another one.
fn inside(dir: &TempDir, user: &str, options: &str) -> (bool, String) {
    let dir = dir.path().display();
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--user", user, "-v", &format!("{dir}:/w"), "-w", "/w", "--tmpfs", "/c:mode=777,exec,size=600m"]);
    command.args(["-e", "SLIM_CACHE_DIR=/c/cache", "-e", "SLIM_SETTLE=100ms", "-e", "HOME=/c"]).args(options.split_whitespace());
    let script = "exec /w/slim build docker-archive:/w/base.tar --engine embedded --exec 'cat /etc/passwd' \
                  -o /tmp/small.tar --report off -- sh -c 'trap \"exit 0\" TERM; while :; do sleep 0.2; done'";
    let output = command.args(["slim-fixture/base", "sh", "-c", script]).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn works(dir: &TempDir, user: &str, options: &str) {
    let (ok, said) = inside(dir, user, options);
    assert!(ok && said.contains("VERIFIED"), "{options}: {said}");
}

/// It ends with one line, in which these words are.
#[track_caller]
fn lacks(dir: &TempDir, user: &str, options: &str, words: &[&str]) {
    let (ok, said) = inside(dir, user, options);
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("slim: ")).collect();
    assert!(!ok && lines.len() == 1 && words.iter().all(|word| lines[0].contains(word)), "{options}: {said}");
}

const SECCOMP: &str = "--security-opt seccomp=unconfined";
const SYSTEM_PATHS: &str = "--security-opt systempaths=unconfined";

#[test]
#[ignore = "needs root and a container engine with the fixture images: tests/run has them"]
fn root_in_a_container_works_with_three_capabilities_and_no_profile() {
    let dir = place();
    let add = |caps: &[&str]| caps.iter().map(|cap| format!("--cap-add {cap} ")).collect::<String>();
    let three = add(&["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"]);
    works(&dir, "0", &format!("{three}{SECCOMP}"));
    lacks(&dir, "0", &three, &["pivot_root = EPERM", "--security-opt seccomp=unconfined"]);
    lacks(&dir, "0", SECCOMP, &["needs CAP_SYS_ADMIN and CAP_NET_ADMIN: root lacks them here", "--cap-add"]);
    lacks(&dir, "0", &format!("{three}{SECCOMP} -e SLIM_MEMORY=100m"), &["--memory needs control groups: /sys/fs/cgroup", "Read-only file system"]);
    let others = add(&["SYS_ADMIN", "SYS_PTRACE"]);
    lacks(&dir, "0", &format!("{others}{SECCOMP}"), &["needs CAP_NET_ADMIN: root lacks"]);
    let dropped = "--cap-drop CHOWN --cap-drop SETPCAP";
    lacks(&dir, "0", &format!("{three}{SECCOMP} {dropped}"), &["needs CAP_CHOWN and CAP_SETPCAP: root lacks"]);
}

#[test]
#[ignore = "needs root and a container engine with the fixture images: tests/run has them"]
fn an_ordinary_user_in_a_container_works_without_profile_and_hidden_paths() {
    let dir = place();
    works(&dir, "1000", &format!("{SECCOMP} {SYSTEM_PATHS}"));
    lacks(&dir, "1000", SECCOMP, &["mount(proc) = EPERM", "--security-opt systempaths=unconfined"]);
    lacks(&dir, "1000", SYSTEM_PATHS, &["user namespaces are forbidden", "--security-opt seccomp=unconfined"]);
}
