//! Child: the process that makes one image of a batch small, and what it tells of that.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::Job;
use crate::exit::{Exit, causes};
use crate::sys::process::end_with_parent;
use crate::ui::Ui;
use crate::ui::batch::{Outcome, State};

/// A line of events is never this long; one that is longer is skipped.
const LONGEST: usize = 16 << 20;
/// As much of what it says on stderr is remembered.
const LAST_WORDS: usize = 4096;

/// Runs it to its end, and shows what it announces. `told` says which signal ends it.
pub async fn run(job: &Job, ui: &Ui, told: watch::Receiver<Option<Exit>>) -> Outcome {
    match follow(job, ui, told).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome { exit: Exit::of(&error), ..Outcome::new(&job.name, State::Failed(causes(&error))) },
    }
}

async fn follow(job: &Job, ui: &Ui, mut told: watch::Receiver<Option<Exit>>) -> Result<Outcome> {
    let mut child = start(job).await?;
    let out = child.stdout.take().context("its stdout is not there")?;
    let last_words = tokio::spawn(last_words(child.stderr.take().context("its stderr is not there")?));
    let mut lines = FramedRead::new(out, LinesCodec::new_with_max_length(LONGEST));
    let mut outcome = Outcome { report: job.report.clone(), ..Outcome::new(&job.name, State::NotStarted) };
    let mut passed_on = false;
    loop {
        tokio::select! {
            line = lines.next() => match line {
                // Lines that are too long, or no JSON, say nothing that anybody waits for.
                Some(line) => if let Some(event) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) {
                    outcome.learn(&event);
                    ui.of_image(&job.name, event);
                },
                None => break,
            },
            changed = told.changed(), if !passed_on => {
                passed_on = true;
                if let (Ok(()), Some(exit)) = (changed, *told.borrow()) {
                    signal(&child, exit);
                }
            }
        }
    }
    let status = ended(&mut child, told, passed_on).await?;
    let said = last_words.await.unwrap_or_default();
    outcome.end(exit_of(status), || why(status, &said));
    Ok(outcome)
}

/// The process. It ends with this one, whatever ends this one.
async fn start(job: &Job) -> Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args(&job.words[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if job.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    end_with_parent(command.as_std_mut());
    let mut child = command.spawn().context("start a process for it")?;
    if let (Some(bytes), Some(mut stdin)) = (&job.stdin, child.stdin.take()) {
        // Who does not read it closes it.
        let _closed = stdin.write_all(bytes).await;
    }
    Ok(child)
}

/// Waits for the end of a process that says no more. It may still be cleaning up when a signal comes.
async fn ended(child: &mut Child, mut told: watch::Receiver<Option<Exit>>, passed_on: bool) -> Result<ExitStatus> {
    if !passed_on {
        let pid = child.id();
        tokio::select! {
            status = child.wait() => return status.context("wait for its process"),
            _ = told.changed() => if let (Some(pid), Some(exit)) = (pid, *told.borrow()) {
                send(pid, exit);
            },
        }
    }
    child.wait().await.context("wait for its process")
}

fn signal(child: &Child, exit: Exit) {
    if let Some(pid) = child.id() {
        send(pid, exit);
    }
}

/// The signal that a status stands for. A process that has ended needs none.
fn send(pid: u32, exit: Exit) {
    let number = i32::from(exit.code()) - 128;
    if let (Ok(pid), Ok(signal)) = (i32::try_from(pid), Signal::try_from(number)) {
        let _ended = kill(Pid::from_raw(pid), signal);
    }
}

/// The end of what it says on stderr, where a process says why it cannot go on.
async fn last_words(mut stream: impl AsyncRead + Unpin) -> String {
    let (mut said, mut block) = (Vec::new(), [0u8; 1024]);
    while let Ok(n @ 1..) = stream.read(&mut block).await {
        said.extend_from_slice(&block[..n]);
        said.drain(..said.len().saturating_sub(LAST_WORDS));
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Its status. A signal that comes before it listens for one ends it as well.
fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).and_then(Exit::from_code).unwrap_or(Exit::Failed)
}

/// Why a process ended that did not say it in an event.
fn why(status: ExitStatus, said: &str) -> String {
    let how = match (status.signal(), status.code()) {
        (Some(9), _) => "its process was killed; was there too little memory?".to_owned(),
        (Some(signal), _) => format!("its process was ended by signal {signal}"),
        (None, code) => format!("its process ended with status {}", code.unwrap_or_default()),
    };
    match said.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => format!("{how}: {}", line.trim().trim_start_matches("slim: ")),
        None => how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_process_ended_is_its_status_or_a_reason() {
        let of = |raw: i32| ExitStatus::from_raw(raw);
        for (raw, exit) in [(0, Exit::Done), (5 << 8, Exit::Differs), (2, Exit::Interrupted), (15, Exit::Terminated), (9, Exit::Failed), (99 << 8, Exit::Failed)] {
            assert_eq!(exit_of(of(raw)), exit, "{raw}");
        }
        assert_eq!(why(of(9), ""), "its process was killed; was there too little memory?");
        assert_eq!(why(of(1 << 8), "slim: no\n\n"), "its process ended with status 1: no");
    }
}
