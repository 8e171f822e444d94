//! Sshd: an OpenSSH server on loopback with keys made for it, and an `ssh` command that knows of them. Needs root.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The server; it ends when this is dropped.
pub struct Sshd {
    dir: TempDir,
    port: u16,
    server: Child,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Sshd {
    /// Starts one whose sessions have this DOCKER_HOST.
    pub fn start(docker_host: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for key in ["host", "user", "stranger"] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)));
        }
        std::fs::copy(path("user.pub"), path("authorized")).unwrap();
        // A port that nobody has now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             MaxStartups 100\nSetEnv DOCKER_HOST={docker_host}\n",
            path("host").display(),
            path("authorized").display()
        );
        std::fs::write(path("sshd.conf"), config).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(path("sshd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("openssh-server is needed, and root");
        let sshd = Self { dir, port, server };
        let known = std::fs::read_to_string(sshd.path("host.pub")).unwrap();
        std::fs::write(sshd.path("known"), format!("[127.0.0.1]:{port} {known}")).unwrap();
        std::fs::write(sshd.path("nobody-known"), "").unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "{}", std::fs::read_to_string(sshd.path("log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        sshd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// DOCKER_HOST for the engine behind it.
    pub fn host(&self) -> String {
        format!("ssh://root@127.0.0.1:{}", self.port)
    }

    /// PATH with an `ssh` that uses this key and believes these hosts, as a user's own configuration would.
    pub fn search(&self, key: &str, known: &str) -> String {
        let bin = self.path(&format!("bin-{key}-{known}"));
        std::fs::create_dir_all(&bin).unwrap();
        let config = self.path(&format!("ssh-{key}-{known}.conf"));
        let text = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n",
            self.path(key).display(),
            self.path(known).display()
        );
        std::fs::write(&config, text).unwrap();
        let program = bin.join("ssh");
        std::fs::write(&program, format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", config.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
    }

    /// The ssh programs that its keys still have running.
    pub fn clients(&self) -> String {
        let output = Command::new("pgrep").args(["-f", "-a", &self.dir.path().display().to_string()]).output().unwrap();
        let all = String::from_utf8(output.stdout).unwrap();
        all.lines().filter(|line| line.contains("dial-stdio")).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _gone_already = Command::new("kill").arg(self.server.id().to_string()).status();
        let _status = self.server.wait();
    }
}
