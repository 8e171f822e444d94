//! Apart: shell scripts are read in a process of their own. What an image's scripts hold is not ours, and a parser
//! that hangs, eats memory or overflows its stack on one of them shall cost that script, not the build.
//!
//! The role reads requests as JSON lines on stdin and answers each with a line on stdout, in order.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::keep::scripts::{self, Dialect, Script};
use crate::run::kit::THIS_PROGRAM;

/// The word that starts this role.
pub const ROLE: &str = "script-reader";

/// How long one text may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the process may have: memory, with the stack in it, in bytes; time on a processor, in seconds.
const MEMORY: u64 = 1 << 30;
const STACK: usize = 128 << 20;
const SECONDS: u64 = 120;
/// The longest text that is read, in bytes; what generates longer ones is no person.
const LONGEST: usize = 256 << 10;

/// A text to be read.
#[derive(Serialize, Deserialize)]
struct Request {
    dialect: Dialect,
    text: String,
}

/// Runs the role until stdin ends.
///
/// # Errors
/// When it cannot be bounded, or the controller is gone.
pub fn serve(from: impl BufRead, mut to: impl Write) -> Result<()> {
    for (resource, most) in [(Resource::RLIMIT_AS, MEMORY), (Resource::RLIMIT_CPU, SECONDS), (Resource::RLIMIT_CORE, 0)] {
        setrlimit(resource, most, most).with_context(|| format!("limit {resource:?}"))?;
    }
    for line in from.lines() {
        let Request { dialect, text } = serde_json::from_str(&line.context("read a request")?).context("understand a request")?;
        let read = std::thread::Builder::new().stack_size(STACK).spawn(move || scripts::read(dialect, text.as_bytes()));
        // A panic of the parser ends its thread.
        let script = read.context("start a thread")?.join().unwrap_or_else(|_| unread("it is beyond the parser"));
        writeln!(to, "{}", serde_json::to_string(&script)?).and_then(|()| to.flush()).context("write an answer")?;
    }
    Ok(())
}

fn unread(why: &str) -> Script {
    Script { unread: Some(why.to_owned()), ..Script::default() }
}

/// The controller's side: starts the process when it is needed, and again when it died.
pub struct Reader {
    program: PathBuf,
    process: Option<Process>,
}

struct Process {
    // Killed when dropped.
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::of(THIS_PROGRAM.into())
    }
}

impl Reader {
    /// One that starts this executable.
    pub fn of(program: PathBuf) -> Self {
        Self { program, process: None }
    }

    /// What a text calls. One that cannot be read says why, and is no error.
    pub async fn read(&mut self, dialect: Dialect, text: &[u8]) -> Script {
        if text.is_empty() {
            return Script::default();
        }
        if text.len() > LONGEST {
            return unread("it is too long to be read");
        }
        match timeout(PATIENCE, self.ask(dialect, text)).await {
            Ok(Ok(script)) => script,
            Ok(Err(_)) => {
                self.process = None;
                unread("it is beyond the parser")
            }
            Err(_) => {
                self.process = None;
                unread("reading it takes too long")
            }
        }
    }

    async fn ask(&mut self, dialect: Dialect, text: &[u8]) -> Result<Script> {
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start(&self.program)?),
        };
        let text = String::from_utf8_lossy(text).into_owned();
        let mut line = serde_json::to_vec(&Request { dialect, text })?;
        line.push(b'\n');
        process.stdin.write_all(&line).await.context("ask the script reader")?;
        let mut answer = String::new();
        process.stdout.read_line(&mut answer).await.context("hear the script reader")?;
        serde_json::from_str(&answer).context("understand the script reader")
    }
}

impl Process {
    fn start(program: &PathBuf) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(ROLE).env_clear().current_dir("/").kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("start the script reader")?;
        let stdin = child.stdin.take().context("it has no stdin")?;
        let stdout = child.stdout.take().context("it has no stdout")?;
        Ok(Self { _child: child, stdin, stdout: BufReader::new(stdout) })
    }
}
