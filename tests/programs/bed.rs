//! Bed: a small root filesystem of compiled programs, and a sensor that runs in it: in namespaces of its
//! own on this machine, or in a container.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use slim::sensor::control::{Command, FrameFilter, Pid1, Reply, SensorMode, Start, TraceOf};
use slim::sensor::event::{Access, AccessKind, Line, Process as Image};

pub const PASSWD: &str = "root:x:0:0:root:/root:/bin/t\napp:x:1000:1000::/home/app:/bin/t\n";
pub const GROUP: &str = "root:x:0:\nlog:x:4:app\nwheel:x:10:root,app\napp:x:1000:\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// A root filesystem in a temporary directory, and a directory that stands for the sensor's volume.
pub struct Bed {
    pub dir: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bed = Self { dir };
        for name in
            ["bin", "etc", "proc", "dev", "sys", "tmp", "data/sub", "root", "home/app", ".slim-sensor"]
        {
            std::fs::create_dir_all(bed.root().join(name)).expect("a directory");
        }
        std::fs::create_dir(bed.volume()).expect("the volume");
        for name in ["a", "b", "c", "sub/deep", "stat32", "opath32"] {
            bed.file(&format!("data/{name}"), name);
        }
        bed.file("etc/passwd", PASSWD);
        bed.file("etc/group", GROUP);
        std::fs::copy(program("t"), bed.root().join("bin/t")).expect("the program");
        std::os::unix::fs::symlink("t", bed.root().join("bin/applet")).expect("a link");
        std::os::unix::fs::symlink("a", bed.root().join("data/link")).expect("a link");
        let slim = PathBuf::from(env!("CARGO_BIN_EXE_slim"));
        std::fs::hard_link(&slim, bed.volume().join("slim"))
            .or_else(|_| std::fs::copy(&slim, bed.volume().join("slim")).map(drop))
            .expect("the sensor");
        bed
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    pub fn file(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    /// Starts a sensor in this root, in pid and mount namespaces of its own.
    pub fn start(&self, start: &Start) -> Run {
        self.start_with(start, "")
    }

    /// The same, with shell commands before.
    pub fn start_with(&self, start: &Start, before: &str) -> Run {
        self.start_as(start, before, "exec")
    }

    /// The same, with a command that executes the rest of its line.
    pub fn start_as(&self, start: &Start, before: &str, exec: &str) -> Run {
        let mut command = self.command(start, before, exec);
        Run::new(&mut command, &start.nonce, self.volume().join("trace.jsonl"))
    }

    /// The same, not yet started.
    pub fn command(&self, start: &Start, before: &str, exec: &str) -> Process {
        self.write_start(start);
        // Who lost the right to pivot before can still chroot.
        let pivot = match exec.contains("sys_admin") || exec.contains("--user") {
            false => program("pivot").display().to_string(),
            true => "/usr/sbin/chroot".to_owned(),
        };
        let script = format!(
            "set -e; R={root}; mount --bind $R $R; mount -t proc proc $R/proc; mount --bind /dev $R/dev; \
             mount --bind {volume} $R/.slim-sensor; cd $R; {before}\n\
             {exec} env -i PATH=/bin HOME=/root A=b {pivot} $R /.slim-sensor/slim sensor",
            root = self.root().display(),
            volume = self.volume().display(),
        );
        let mut command = Process::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c"]);
        command.arg(script);
        command
    }

    pub fn write_start(&self, start: &Start) {
        let json = serde_json::to_vec(start).expect("json");
        std::fs::write(self.volume().join("start.json"), json).expect("start.json");
    }
}

/// A document that runs `t` with these words.
pub fn start(words: &str) -> Start {
    Start {
        nonce: "n0nce".into(),
        argv: [&["/bin/t"], words.split_whitespace().collect::<Vec<_>>().as_slice()]
            .concat()
            .iter()
            .map(|word| (*word).to_owned())
            .collect(),
        trace: TraceOf::Original,
        user: String::new(),
        groups: Vec::new(),
        home_is_set: false,
        drop_caps: Vec::new(),
        narrow_seccomp: false,
        sensor: SensorMode::Split,
        content_mounts: Vec::new(),
        pid1: Pid1::Auto,
    }
}

/// Compiles a program of this directory once.
pub fn program(name: &str) -> PathBuf {
    static DONE: OnceLock<Mutex<BTreeMap<String, PathBuf>>> = OnceLock::new();
    let mut done = DONE.get_or_init(Mutex::default).lock().expect("a lock");
    if let Some(path) = done.get(name) {
        return path.clone();
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(format!("{name}.c"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let flags: &[&str] = match name {
        "i386" => &["-m32", "-nostdlib", "-fno-stack-protector"],
        _ => &["-O1", "-w"],
    };
    let made = Process::new("gcc").args(flags).arg("-static").arg("-o").arg(&out).arg(source).status();
    assert!(made.expect("gcc is needed").success(), "gcc cannot compile {name}");
    done.insert(name.to_owned(), out.clone());
    out
}

/// A sensor that runs.
pub struct Run {
    child: Child,
    stdin: Option<ChildStdin>,
    replies: Receiver<Reply>,
    own: Arc<Mutex<Vec<u8>>>,
    out: Arc<Mutex<Vec<u8>>>,
    trace: PathBuf,
    nonce: String,
}

impl Run {
    pub fn new(command: &mut Process, nonce: &str, trace: PathBuf) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the sensor starts");
        let (say, replies) = channel();
        let (own, out) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let (mut stderr, kept) = (child.stderr.take().expect("stderr"), Arc::clone(&own));
        let mut filter = FrameFilter::new(nonce);
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(got @ 1..) = stderr.read(&mut buffer) {
                let (bytes, found) = filter.push(&buffer[..got]);
                kept.lock().expect("a lock").extend(bytes);
                found.into_iter().for_each(|reply| drop(say.send(reply)));
            }
            kept.lock().expect("a lock").extend(filter.finish());
        });
        let (mut stdout, kept) = (child.stdout.take().expect("stdout"), Arc::clone(&out));
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(got @ 1..) = stdout.read(&mut buffer) {
                kept.lock().expect("a lock").extend_from_slice(&buffer[..got]);
            }
        });
        Self { stdin: child.stdin.take(), child, replies, own, out, trace, nonce: nonce.to_owned() }
    }

    pub fn send(&mut self, command: &Command) {
        let mut line = serde_json::to_vec(command).expect("json");
        line.push(b'\n');
        self.stdin.as_mut().expect("an open stdin").write_all(&line).expect("the sensor listens");
    }

    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
    }

    /// Stops the sensor, or lets it go on: it is the only child of the process that made its namespaces.
    pub fn signal_sensor(&self, signal: nix::sys::signal::Signal) {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("its children");
        let sensor = nix::unistd::Pid::from_raw(children.trim().parse().expect("one child"));
        nix::sys::signal::kill(sensor, signal).expect("it is there");
    }

    /// The next reply.
    pub fn reply(&self) -> Reply {
        let reply = self.replies.recv_timeout(PATIENCE);
        reply.unwrap_or_else(|error| panic!("no reply: {error}; stderr: {}", self.stderr()))
    }

    /// The next reply that `pick` takes; others before it are dropped.
    pub fn wait<T>(&self, what: &str, pick: impl Fn(&Reply) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.replies.recv_timeout(left) {
                Ok(reply) => {
                    if let Some(found) = pick(&reply) {
                        return found;
                    }
                    assert!(!matches!(reply, Reply::Failed { .. }), "waiting for {what}: {reply:?}");
                }
                Err(error) => panic!("no {what}: {error}; stderr: {}", self.stderr()),
            }
        }
    }

    /// Waits until the target wrote `text` to stdout.
    pub fn wait_for_output(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.stdout().contains(text) {
            assert!(Instant::now() < until, "no {text:?} in {:?}; stderr: {}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn stdout(&self) -> String {
        let mut filter = FrameFilter::new(&self.nonce);
        let (mut own, _output_end) = filter.push(&self.out.lock().expect("a lock"));
        own.extend(filter.finish());
        String::from_utf8_lossy(&own).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.own.lock().expect("a lock")).into_owned()
    }

    /// Waits until the target ended; gives its status and whether it handled its stop signal.
    pub fn exited(&self) -> (i32, bool) {
        self.wait("exited", |reply| match reply {
            Reply::Exited { status, handled } => Some((*status, *handled)),
            _ => None,
        })
    }

    /// Runs a command in it; gives its status, stdout, stderr and whether it timed out.
    pub fn exec(&mut self, id: u32, words: &str, timeout_ms: u64) -> (i32, String, String, bool) {
        use base64::Engine as _;
        let argv = words.split_whitespace().map(str::to_owned).collect();
        self.send(&Command::Exec { id, argv, name: "probe".into(), timeout_ms });
        let output = std::cell::RefCell::new([Vec::new(), Vec::new()]);
        let (status, timed_out) = self.wait("exec end", |reply| match reply {
            Reply::Output { id: of, fd, data } if *of == id => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
                output.borrow_mut()[usize::from(*fd) - 1].extend(bytes);
                None
            }
            Reply::ExecEnd { id: of, status, timed_out } if *of == id => Some((*status, *timed_out)),
            _ => None,
        });
        let [out, err] = output.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (status, out, err, timed_out)
    }

    /// Waits for the end and gives the trace and the exit status.
    pub fn finish(mut self) -> (Trace, i32) {
        self.wait("done", |reply| matches!(reply, Reply::Done { .. }).then_some(()));
        let trace = self.trace();
        self.send(&Command::Bye);
        let status = self.child.wait().expect("it ends").code().expect("a status");
        (trace, status)
    }

    pub fn wait_end(&mut self) -> i32 {
        self.child.wait().expect("it ends").code().unwrap_or(-1)
    }

    pub fn trace(&self) -> Trace {
        Trace::read(&self.trace)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A trace that was read.
#[derive(Debug)]
pub struct Trace(pub Vec<Line>);

impl Trace {
    pub fn read(path: &Path) -> Self {
        let file = std::fs::File::open(path).expect("a trace");
        let lines = BufReader::new(file).lines().map(|line| line.expect("text"));
        Self(
            lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect(),
        )
    }

    pub fn accesses(&self) -> impl Iterator<Item = &Access> {
        self.0.iter().filter_map(|line| match line {
            Line::Access(access) => Some(access),
            _ => None,
        })
    }

    pub fn process(&self, id: u32) -> &Image {
        let found = self.0.iter().find_map(|line| match line {
            Line::Process(process) if process.id == id => Some(process),
            _ => None,
        });
        found.expect("each access has its process before it")
    }

    pub fn has(&self, kind: AccessKind, path: &str) -> bool {
        self.accesses().any(|access| access.kind == kind && access.path == path.as_bytes())
    }

    /// Fails with the whole trace if these are not all in it.
    pub fn must_have(&self, expected: &[(AccessKind, &str)]) {
        for (kind, path) in expected {
            assert!(self.has(*kind, path), "no {kind:?} {path} in:\n{}", self.text());
        }
    }

    /// Nothing is lost, the header is first, the end is last and counts right.
    pub fn must_be_whole(&self) {
        assert!(matches!(self.0.first(), Some(Line::Header(_))), "{}", self.text());
        let count = self.accesses().count() as u64;
        assert_eq!(self.0.last(), Some(&Line::End { accesses: count }), "{}", self.text());
        assert!(!self.0.iter().any(|line| matches!(line, Line::Lost { .. })), "{}", self.text());
    }

    pub fn text(&self) -> String {
        let lines = self.0.iter().map(|line| match line {
            Line::Access(a) => {
                format!("{:?} {} {} p{} m{}", a.kind, a.path.escape_ascii(), a.call, a.process, a.mark)
            }
            other => format!("{other:?}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A path as std has it.
pub fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(bytes)
}
