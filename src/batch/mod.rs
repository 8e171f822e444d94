//! Batch: several images made small by one command, each by a process of its own: what one of them does, and how much
//! memory it takes, and how it ends, is nothing to the others. There are never more processes than were allowed.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::build::Signals;
use crate::exit::Exit;
use crate::ui::Ui;
use crate::ui::batch::{Outcome, State};

mod child;
mod jobs;
mod sum;

pub use jobs::{Here, jobs};
pub use sum::sum;

/// One image of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// As its section calls it.
    pub name: String,
    /// The command line of its process, the program's name first.
    pub words: Vec<std::ffi::OsString>,
    /// Where its report goes; `None`: nowhere.
    pub report: Option<PathBuf>,
    /// What its process reads on stdin: a registry's secret.
    pub stdin: Option<Vec<u8>>,
}

/// How many images at a time when nobody says: building one keeps a processor busy, and running it another.
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}

/// Runs all of them, `at_once` at a time, and shows what comes of each and of all.
///
/// # Errors
/// When signals cannot be waited for. That an image could not be made small is no error, but a status.
pub async fn run(jobs: Vec<Job>, at_once: usize, ui: &Arc<Ui>) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let (tell, told) = watch::channel(None);
    let mut outcomes: Vec<Option<Outcome>> = jobs.iter().map(|_| None).collect();
    let mut waiting = jobs.iter().enumerate();
    let mut running = FuturesUnordered::new();
    let mut stopped = None;
    loop {
        while running.len() < at_once && stopped.is_none() {
            let Some((number, job)) = waiting.next() else { break };
            let (told, ui) = (told.clone(), ui.clone());
            running.push(async move { (number, child::run(job, &ui, told).await) });
        }
        tokio::select! {
            ended = running.next() => match ended {
                Some((number, outcome)) => {
                    ui.ended(&outcome);
                    outcomes[number] = Some(outcome);
                }
                None => break,
            },
            exit = signals.next(), if stopped.is_none() => {
                stopped = Some(exit);
                // Those that run clean up after themselves; nobody else is started.
                let _nobody_runs = tell.send(Some(exit));
            }
        }
    }
    let never = |job: &Job| Outcome::new(&job.name, State::NotStarted);
    let outcomes: Vec<Outcome> = outcomes.into_iter().zip(&jobs).map(|(outcome, job)| outcome.unwrap_or_else(|| never(job))).collect();
    let exit = stopped.unwrap_or_else(|| outcomes.iter().map(|outcome| outcome.exit).max().unwrap_or_default());
    ui.batch(&sum(outcomes, exit))?;
    Ok(exit)
}
