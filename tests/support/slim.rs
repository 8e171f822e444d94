//! Slim: the binary as a user runs it, in a directory and with a TMPDIR of its own, and what came of it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;
use tempfile::TempDir;

use super::{Act, Image, Proxy, left_of, until};

/// A command line to be.
pub struct Build {
    command: Command,
    dir: TempDir,
    proxy: Proxy,
    stdin: Option<Vec<u8>>,
}

/// What a run came to.
pub struct Done {
    /// Exit status, 128 and the signal's number when a signal killed it.
    pub code: i32,
    /// stdout.
    pub stdout: String,
    /// stderr.
    pub stderr: String,
    /// Where it ran.
    pub dir: TempDir,
    /// The run's name in the engine; `None` when it made nothing there.
    pub run: Option<String>,
    /// The names of all runs, when there were several.
    pub runs: Vec<String>,
}

impl Build {
    /// `slim build IMAGE`, which gives up settling quickly.
    pub fn of(image: &Image) -> Self {
        Self::new(&["build", &image.name])
    }

    /// `slim` with these words.
    pub fn new(words: &[&str]) -> Self {
        Self::through(words, None)
    }

    /// `slim build IMAGE`, and the engine goes away when a request with this text is sent.
    pub fn cut_at(image: &Image, trigger: &str) -> Self {
        Self::acting(&["build", &image.name], Act::Cut, trigger)
    }

    /// `slim` with these words, and something happens to requests to the engine with this text.
    pub fn acting(words: &[&str], act: Act, trigger: &str) -> Self {
        Self::through(words, Some((act, trigger.to_owned())))
    }

    fn through(words: &[&str], trigger: Option<(Act, String)>) -> Self {
        let dir = TempDir::new().unwrap();
        let (tmp, outside) = (dir.path().join("tmp"), dir.path().join("outside"));
        std::fs::create_dir(&tmp).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let proxy = Proxy::start(&outside, trigger);
        let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
        command.args(words).current_dir(dir.path().join("work")).env("TMPDIR", tmp).env("DOCKER_HOST", proxy.host());
        // What is tested is building, unless a test says otherwise.
        command.env("SLIM_REBUILD", "true");
        command.env("SLIM_SETTLE", "100ms").env_remove("SOURCE_DATE_EPOCH");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, dir, proxy, stdin: None }
    }

    /// More words.
    pub fn args(mut self, words: &[&str]) -> Self {
        self.command.args(words);
        self
    }

    /// With a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With something on stdin.
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.as_bytes().to_vec());
        self
    }

    /// With a file in the directory where it runs.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// The directory where it runs.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Runs it to its end.
    pub fn run(self) -> Done {
        self.start().end()
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        if self.stdin.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = self.command.spawn().unwrap();
        if let Some(text) = self.stdin {
            // What does not read its stdin closes it.
            let _closed = std::io::Write::write_all(&mut child.stdin.take().unwrap(), &text);
        }
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        Running { child, stdout, read: String::new(), stderr, dir: self.dir, proxy: self.proxy }
    }
}

/// A run of slim that has not ended.
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    read: String,
    stderr: JoinHandle<String>,
    dir: TempDir,
    proxy: Proxy,
}

impl Running {
    /// Reads stdout until a line holds this text; false when it ended before.
    pub fn until_line(&mut self, text: &str) -> bool {
        loop {
            let from = self.read.len();
            if self.stdout.read_line(&mut self.read).unwrap() == 0 {
                return false;
            }
            if self.read[from..].contains(text) {
                return true;
            }
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until a request is held back.
    pub fn until_held(&self) {
        until("a request is held back", || self.proxy.holds());
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.proxy.release();
    }

    /// Takes the engine away.
    pub fn cut(&self) {
        self.proxy.cut();
    }

    /// The run's name in the engine.
    pub fn run_id(&self) -> Option<String> {
        self.proxy.run()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Done {
        use std::os::unix::process::ExitStatusExt;
        self.stdout.read_to_string(&mut self.read).unwrap();
        let status = self.child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        let stderr = self.stderr.join().unwrap();
        Done { code, stdout: self.read, stderr, dir: self.dir, run: self.proxy.run(), runs: self.proxy.runs() }
    }
}

impl Done {
    /// It ended with this status, and nothing that it made without a name is left anywhere.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n{}\n{}", self.stdout, self.stderr);
        self.clean()
    }

    /// Nothing that it made without a name is left anywhere.
    #[track_caller]
    pub fn clean(self) -> Self {
        for run in &self.runs {
            assert_eq!(left_of(run), "", "left in the engine\n{}", self.stderr);
        }
        assert_eq!(names(&self.dir.path().join("tmp")), [""; 0], "temporary files are left");
        let left: Vec<String> = names(&self.work()).into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(left, [""; 0], "files are left");
        self
    }

    /// Every one of these is on stderr.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not in\n{}", self.stderr);
        }
        self
    }

    /// Where it ran.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The report.
    #[track_caller]
    pub fn report(&self) -> Value {
        let path = self.work().join("slim.report.json");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{error}\n{}", self.stderr));
        let report = serde_json::from_slice(&bytes).unwrap();
        let schema = serde_json::from_str(include_str!("../../docs/report.schema.json")).unwrap();
        jsonschema::validate(&schema, &report).unwrap_or_else(|error| panic!("the report does not keep its schema: {error}"));
        report
    }

    /// The paths that the report says are kept.
    pub fn kept(&self) -> Vec<String> {
        let report = self.report();
        report["kept"].as_array().unwrap().iter().map(|kept| kept["path"].as_str().unwrap().to_owned()).collect()
    }

    /// Another command in the same directory.
    pub fn then(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
        let output = command.args(words).current_dir(self.work()).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
