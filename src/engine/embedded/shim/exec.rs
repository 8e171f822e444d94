//! Exec: a command in a running container, by a process that joins it: the shim itself has threads by then, and
//! libcontainer forks.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use serde::{Deserialize, Serialize};

use super::super::plan::{EXEC_ROLE, PLAN_FILE, Plan};
use super::init::{self, Init, NotExecuted};
use super::{rootfs, said};
use crate::sys::socket;

/// What came of a command.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Ended(i32),
    NotExecuted(i32, String),
    Failed(String),
}

fn file(dir: &Path, id: u64, kind: &str) -> PathBuf {
    dir.join(format!("exec-{id}.{kind}"))
}

/// Starts the process that runs a command with these streams.
pub(super) fn start(dir: &Path, id: u64, argv: &[String], fds: Vec<OwnedFd>) -> Result<Child> {
    let [output, error]: [OwnedFd; 2] = fds.try_into().ok().context("two streams are needed")?;
    rootfs::write(&file(dir, id, "command"), &serde_json::to_vec(argv)?)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(EXEC_ROLE).arg(dir).arg(id.to_string());
    command.stdin(Stdio::null()).stdout(output).stderr(error);
    command.spawn().context("start the process that joins the container")
}

/// Waits for it.
pub(super) fn wait(dir: &Path, id: u64, mut child: Child) -> Result<i32> {
    let status = child.wait().context("wait for a command")?;
    let outcome = std::fs::read(file(dir, id, "outcome"));
    for kind in ["command", "outcome", "said"] {
        let _ = std::fs::remove_file(file(dir, id, kind));
    }
    match outcome.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        Some(Outcome::Ended(status)) => Ok(status),
        Some(Outcome::NotExecuted(status, text)) => Err(NotExecuted { status, text }.into()),
        Some(Outcome::Failed(text)) => Err(anyhow!(text)),
        // It was ended because nobody waits any longer.
        None if std::os::unix::process::ExitStatusExt::signal(&status).is_some() => Ok(137),
        None => Err(anyhow!("the process that joins the container ended with {status}")),
    }
}

/// The process that joins the container and waits for the command.
///
/// # Errors
/// When the outcome cannot be written down.
pub fn run(dir: &Path, id: &str) -> Result<()> {
    let id: u64 = id.parse().context("the number of a command")?;
    let outcome = match joined(dir, id) {
        Ok(status) => Outcome::Ended(status),
        Err(error) => match error.downcast_ref() {
            Some(NotExecuted { status, text }) => Outcome::NotExecuted(*status, text.clone()),
            None => Outcome::Failed(format!("{error:#}")),
        },
    };
    rootfs::write(&file(dir, id, "outcome"), &serde_json::to_vec(&outcome)?)
}

fn joined(dir: &Path, id: u64) -> Result<i32> {
    let plan: Plan = super::read(&dir.join(PLAN_FILE))?;
    let argv: Vec<String> = super::read(&file(dir, id, "command"))?;
    // Where the container's first process began, as with every engine.
    let workdir = plan.spec["process"]["cwd"].as_str().map(PathBuf::from);
    let mut process = plan.process;
    process.argv = argv.clone();
    // When this process is ended, the command is too.
    let (report, theirs) = socket::pipe().context("make a pipe")?;
    let log = file(dir, id, "said");
    said::listen(&log)?;
    let built = ContainerBuilder::new(init::name(), SyscallType::default())
        .with_root_path(dir.join("state"))
        .map(|builder| builder.with_executor(Init::new(process, theirs)))
        .and_then(|builder| builder.as_tenant().with_cwd(workdir).with_container_args(argv).with_detach(true).build());
    let reported = init::reported(report);
    match (built, reported) {
        // What the process itself said is the better word.
        (_, Err(error)) => Err(error),
        (Ok(pid), Ok(())) => Ok(super::wait(pid.as_raw())),
        (Err(error), Ok(())) => Err(anyhow!("{}", said::cause(&log).unwrap_or_else(|| init::words(&error))).context("join the container")),
    }
}
