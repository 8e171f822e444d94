//! Remote: a second engine in a network namespace of its own, reached over TCP with TLS and client certificates,
//! and over a socket that is here while its containers' network is not.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The engine; it ends with this, with all that it has.
pub struct Remote {
    dir: tempfile::TempDir,
    name: String,
    /// Its address as it is reached from here.
    pub address: String,
    /// What its containers' addresses begin with: `10.214.7`.
    pub network: String,
    daemon: Option<Child>,
}

/// A command that must succeed.
fn command(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Remote {
    /// Starts one and waits for its first answer.
    pub fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() * 4 + COUNT.fetch_add(1, Ordering::Relaxed)) % 250;
        let (name, dir) = (format!("slim-far-{number}"), tempfile::tempdir().unwrap());
        let (ours, address) = (format!("10.213.{number}.1"), format!("10.213.{number}.2"));
        let link = format!("slf{number}");
        for line in [
            format!("ip netns add {name}"),
            format!("ip link add {link}a type veth peer name {link}b netns {name}"),
            format!("ip addr add {ours}/24 dev {link}a"),
            format!("ip link set {link}a up"),
            format!("ip -n {name} addr add {address}/24 dev {link}b"),
            format!("ip -n {name} link set {link}b up"),
            format!("ip -n {name} link set lo up"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            command(words[0], &words[1..]);
        }
        let mut remote = Self { dir, name, address, network: format!("10.214.{number}"), daemon: None };
        remote.certify();
        remote.launch();
        remote
    }

    /// DOCKER_HOST for it.
    pub fn host(&self) -> String {
        format!("tcp://{}:2376", self.address)
    }

    /// DOCKER_HOST for its socket on this side.
    pub fn socket(&self) -> String {
        format!("unix://{}", self.file("engine.sock"))
    }

    /// DOCKER_CERT_PATH for it.
    pub fn certs(&self) -> String {
        self.file("certs")
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn certify(&self) {
        let key = |args: &[&str]| command("openssl", &[&["req", "-newkey", "rsa:2048", "-nodes"], args].concat());
        let (ca, ca_key) = (self.file("ca.pem"), self.file("ca-key.pem"));
        key(&["-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", &ca_key, "-out", &ca]);
        let subject = format!("subjectAltName=IP:{}", self.address);
        for (name, extra) in [("server", subject.as_str()), ("client", "extendedKeyUsage=clientAuth")] {
            let [pem, csr, cert, ext] = ["-key.pem", ".csr", "-cert.pem", ".ext"].map(|end| self.file(&format!("{name}{end}")));
            key(&["-subj", &format!("/CN={name}"), "-keyout", &pem, "-out", &csr]);
            std::fs::write(&ext, extra).unwrap();
            let sign = ["x509", "-req", "-days", "2", "-in", &csr, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
            command("openssl", &[&sign[..], &["-extfile", &ext, "-out", &cert]].concat());
        }
        for (from, to) in [("ca.pem", "ca.pem"), ("client-key.pem", "key.pem"), ("client-cert.pem", "cert.pem")] {
            let certs = self.dir.path().join("certs");
            std::fs::create_dir_all(&certs).unwrap();
            std::fs::copy(self.file(from), certs.join(to)).unwrap();
        }
    }

    fn launch(&mut self) {
        let output = std::fs::File::create(self.file("log")).unwrap();
        let pairs = [
            ("--data-root", self.file("data")),
            ("--exec-root", self.file("exec")),
            ("--pidfile", self.file("pid")),
            ("--host", self.host()),
            ("--host", self.socket()),
            ("--bip", format!("{}.1/24", self.network)),
            ("--tlscacert", self.file("ca.pem")),
            ("--tlscert", self.file("server-cert.pem")),
            ("--tlskey", self.file("server-key.pem")),
        ];
        // Not `ip netns exec`: it mounts another /sys, which has no cgroups.
        let mut daemon = Command::new("nsenter");
        daemon.arg(format!("--net=/run/netns/{}", self.name));
        daemon.args(["dockerd", "--tlsverify", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]);
        for (name, value) in pairs {
            daemon.arg(name).arg(value);
        }
        daemon.stdout(output.try_clone().unwrap()).stderr(output);
        self.daemon = Some(daemon.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(60);
        let socket = self.socket();
        let answers = || Command::new("docker").args(["-H", &socket, "version"]).output().unwrap().status.success();
        while !answers() {
            let log = std::fs::read_to_string(self.file("log")).unwrap();
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap());
            assert!(ended.is_none() && Instant::now() < end, "{log}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = nix::unistd::Pid::from_raw(daemon.id() as i32);
            let _gone_already = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _status = daemon.wait();
        }
        // Its mounts are its own namespace's or gone with it; what it left in ours goes here.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root: &Path = self.dir.path();
        let below = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| Path::new(path).starts_with(root));
        for mount in below {
            let _gone_already = Command::new("umount").args(["-l", mount]).status();
        }
        let _gone_already = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
