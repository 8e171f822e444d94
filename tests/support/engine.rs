//! Engine: a dockerd of a test's own, which may be restarted. It shares nothing with the one that the other tests
//! use: own data, own socket, no bridge. Needs root.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::until;

/// A dockerd; it ends, with all it has, when this is dropped.
pub struct OwnEngine {
    dir: TempDir,
    daemon: Child,
}

impl OwnEngine {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        // Sockets' paths are short.
        let dir = tempfile::Builder::new().prefix("slim-d").tempdir_in("/tmp").unwrap();
        let daemon = launch(&dir);
        let engine = Self { dir, daemon };
        engine.wait();
        engine
    }

    /// DOCKER_HOST for it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("sock").display())
    }

    /// The docker command's answer.
    pub fn docker(&self, args: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.host()]).args(args).output().unwrap();
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Copies an image from the engine of the other tests.
    pub fn take(&self, image: &str) {
        let copy = format!("docker save {image} | docker -H {} load -q", self.host());
        assert!(Command::new("sh").args(["-c", &copy]).stdout(Stdio::null()).status().unwrap().success());
    }

    /// As an administrator restarts it.
    pub fn restart(&mut self) {
        self.stop();
        self.daemon = launch(&self.dir);
        self.wait();
    }

    fn wait(&self) {
        let version = || Command::new("docker").args(["-H", &self.host(), "version"]).output().unwrap();
        until("dockerd answers", || version().status.success());
    }

    fn stop(&mut self) {
        let _gone_already = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _waited = self.daemon.wait();
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        self.stop();
        // What a daemon that was killed leaves mounted.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.dir.path().to_string_lossy().into_owned();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&own)) {
            let _gone_already = Command::new("umount").args(["-l", point]).status();
        }
    }
}

fn launch(dir: &TempDir) -> Child {
    let path = |name: &str| dir.path().join(name).display().to_string();
    let log = std::fs::File::options().create(true).append(true).open(path("log")).unwrap();
    Command::new("dockerd")
        .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
        .args(["--host", &format!("unix://{}", path("sock")), "--bridge", "none", "--iptables=false"])
        .args(["--ip6tables=false", "--log-level", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("dockerd is needed, and root")
}
