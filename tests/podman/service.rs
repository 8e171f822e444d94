//! Service: a podman of a test's own, with storage, sockets and settings of its own, of root or of an ordinary user
//! who is made for it. Needs root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use tempfile::TempDir;

/// Two of root's would share a bridge and not know of each other's addresses.
static ONE: Mutex<()> = Mutex::new(());

/// As long as it is held, no podman of root is started by another test.
pub fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `podman system service`; it ends, with all it has, when this is dropped.
pub struct Podman {
    dir: TempDir,
    /// The ordinary user.
    user: Option<String>,
    service: Option<Child>,
    _one: MutexGuard<'static, ()>,
}

/// A command that must succeed; what it said.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

impl Podman {
    /// Root's.
    pub fn root() -> Self {
        Self::start(None)
    }

    /// That of an ordinary user.
    pub fn rootless() -> Self {
        let name = format!("slimtest{}", std::process::id());
        run(Command::new("useradd").args(["--no-create-home", "--shell", "/bin/sh", &name]));
        Self::start(Some(name))
    }

    fn start(user: Option<String>) -> Self {
        let one = alone();
        // Sockets' paths are short.
        let dir = tempfile::Builder::new().prefix("slim-p").tempdir_in("/tmp").unwrap();
        let mut podman = Self { dir, user, service: None, _one: one };
        podman.configure();
        let log = std::fs::File::create(podman.path("log")).unwrap();
        let mut service = podman.command("podman");
        service.args(["system", "service", "--time", "0", &podman.host()]).stdin(Stdio::null());
        service.stdout(log.try_clone().unwrap()).stderr(log);
        podman.service = Some(service.spawn().expect("podman is needed, and root"));
        let end = Instant::now() + Duration::from_secs(30);
        while !Command::new("docker").args(["-H", &podman.host(), "version"]).output().unwrap().status.success() {
            assert!(Instant::now() < end, "podman does not answer: {}", podman.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        podman
    }

    /// What it needs to know of this machine: limits that can be kept, and a runtime for these cgroups.
    fn configure(&self) {
        let limit = |resource| getrlimit(resource).unwrap().1.min(20_000);
        let (files, processes) = (limit(Resource::RLIMIT_NOFILE), limit(Resource::RLIMIT_NPROC));
        // crun refuses a version 1 hierarchy with a version 2 beside it; runc does not.
        let runtime = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "crun" } else { "runc" };
        let containers = format!(
            "[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
             [engine]\nruntime = \"{runtime}\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n"
        );
        let driver = if self.user.is_some() { "vfs" } else { "overlay" };
        let storage = format!(
            "[storage]\ndriver = \"{driver}\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
            self.path("run").display(),
            self.path("data").display()
        );
        std::fs::write(self.path("containers.conf"), containers).unwrap();
        std::fs::write(self.path("storage.conf"), storage).unwrap();
        for name in ["run", "data", "home"] {
            std::fs::create_dir(self.path(name)).unwrap();
        }
        if let Some(user) = &self.user {
            run(Command::new("chown").args(["-R", user]).arg(self.dir.path()));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory that its user may write to.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Numbers of the processes that have its directory among their arguments.
    fn processes(&self) -> Vec<String> {
        let own = self.dir.path().to_string_lossy().into_owned();
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let ours = all.filter(|process| {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&own)
        });
        ours.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
    }

    /// DOCKER_HOST for it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("sock").display())
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A program with its settings, as its user.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", user, "--clear-groups", program]);
                command
            }
            None => Command::new(program),
        };
        command.env("CONTAINERS_CONF", self.path("containers.conf")).env("HOME", self.path("home"));
        command.env("CONTAINERS_STORAGE_CONF", self.path("storage.conf")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("TMPDIR", self.path("home")).current_dir(self.path("home"));
        command
    }

    /// The docker command's answer from it.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        run(Command::new("docker").args(["-H", &self.host()]).args(args))
    }

    /// Copies an image from the engine of the other tests.
    pub fn take(&self, image: &str) {
        let copy = format!("docker save {image} | docker -H {} load -q", self.host());
        run(Command::new("bash").args(["-o", "pipefail", "-c", &copy]));
    }

    /// Nothing that slim made and gave no name to is left.
    #[track_caller]
    pub fn is_clean(&self) {
        for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["images", "-q", "--filter", "dangling=true"]] {
            assert_eq!(self.docker(list), "", "{list:?}\n{}", self.log());
        }
        let names = self.docker(&["images", "--format", "{{.Repository}}"]);
        assert!(!names.lines().any(|name| name.rsplit('/').next().unwrap().starts_with("slim-")), "{names}");
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // The process that keeps an ordinary user's namespace, the service, and the monitors of execs, which stay for
        // minutes.
        let pause = std::fs::read_to_string(self.path("run/libpod/tmp/pause.pid")).unwrap_or_default();
        let own: Vec<String> = self.processes().into_iter().chain(pause.trim().parse().ok()).collect();
        for pid in own.iter().filter(|pid| !pid.is_empty()) {
            let _gone_already = Command::new("kill").arg(pid).output();
        }
        if let Some(mut service) = self.service.take() {
            let _status = service.wait();
        }
        let end = Instant::now() + Duration::from_secs(10);
        while !self.processes().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.dir.path().to_string_lossy().into_owned();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&own)) {
            let _gone_already = Command::new("umount").args(["-l", point]).status();
        }
        if let Some(user) = &self.user {
            let _gone_already = Command::new("userdel").args(["--force", user]).output();
        }
    }
}
