//! Ending: what ends a session before its work is done, a signal or a bug of ours. Whatever it is, nothing of the
//! session stays in the engine, and names are given out whole or not at all.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use anyhow::{Context, Result, anyhow};
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Session;
use crate::engine::{self, EngineError};
use crate::exit::{self, Exit};
use crate::plan::BuildPlan;
use crate::report::{self, Journal};
use crate::run::leaving::Leaving;
use crate::ui::Ui;

/// The signals that end a session, with the status that it ends with.
fn ends() -> [(SignalKind, Exit); 4] {
    [
        (SignalKind::interrupt(), Exit::Interrupted),
        (SignalKind::terminate(), Exit::Terminated),
        (SignalKind::hangup(), Exit::HungUp),
        (SignalKind::quit(), Exit::Quit),
    ]
}

/// Those signals, from now on until the program ends: once somebody listens they kill no more.
pub struct Signals(Vec<(Signal, Exit)>);

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub fn listen() -> Result<Self> {
        let listen = |(kind, exit)| Ok((signal(kind).with_context(|| format!("wait for {kind:?}"))?, exit));
        ends().into_iter().map(listen).collect::<Result<_>>().map(Self)
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) -> Exit {
        std::future::poll_fn(|cx| {
            let came = self.0.iter_mut().find_map(|(signal, exit)| signal.poll_recv(cx).is_ready().then_some(*exit));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Whether names are being given out, and whether somebody wants that undone.
#[derive(Debug, Default)]
pub struct Closing {
    begun: AtomicBool,
    asked: AtomicBool,
    undone: AtomicBool,
}

impl Closing {
    /// From now on a signal does not break the work off: it is asked to end, and undoes what it did.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    /// Goes on unless a signal came.
    pub(super) fn go_on(&self) -> Result<()> {
        match self.asked.load(Ordering::SeqCst) {
            true => Err(anyhow!("interrupted while the result got its names")),
            false => Ok(()),
        }
    }

    /// What was done has been undone.
    pub(super) fn undone(&self) {
        self.undone.store(true, Ordering::SeqCst);
    }

    /// A signal came; whether the work wants to end by itself.
    fn ask(&self) -> bool {
        self.asked.store(true, Ordering::SeqCst);
        self.begun.load(Ordering::SeqCst)
    }
}

/// Does something with an engine until it ends or a signal ends it; either way nothing of it stays there.
///
/// # Errors
/// When there is no engine, or the work failed. The second result is that of the cleaning up.
pub async fn with_engine<T>(
    plan: &BuildPlan,
    ui: &Arc<Ui>,
    only_record: bool,
    work: impl AsyncFnOnce(&Session<'_>) -> Result<T>,
) -> Result<(Result<T, Exit>, Result<()>)> {
    let mut signals = Signals::listen()?;
    crate::probe::listen_for_signal().await?;
    ui.redact(super::redactor(plan));
    if let Some(path) = &plan.outputs.report {
        report::check_path(path).context(Exit::Usage)?;
    }
    let journal = Arc::new(Journal::new(ui.clone()));
    let engine = tokio::select! {
        engine = engine::open(&plan.engine, journal.clone()) => engine?,
        exit = signals.next() => return Ok((Err(exit), Ok(()))),
    };
    let session = Session {
        plan,
        engine: engine.as_ref(),
        monitor: journal,
        ui: ui.clone(),
        leaving: Leaving::default(),
        closing: Closing::default(),
        heard: Mutex::default(),
        only_record,
    };
    let ended = until_ended(&session, &mut signals, async |session| {
        match engine.sweep_orphans().await {
            Err(error) if error.downcast_ref().is_some_and(EngineError::is_trouble) => return Err(error),
            // Who may not ask for all that there is may still build.
            Err(error) => session.warn(format!("what killed runs may have left is not removed: {error:#}")),
            Ok(()) => {}
        }
        work(session).await
    })
    .await;
    let swept = engine.sweep().await.context("clean up in the engine");
    Ok((ended?, swept))
}

/// Work without a session, or the signal that ended it. What it holds is gone when this returns.
///
/// # Errors
/// Those of the work, and when signals cannot be waited for.
pub async fn or_signal<T>(work: impl Future<Output = Result<T>>) -> Result<Result<T, Exit>> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = work => done.map(Ok),
        exit = signals.next() => Ok(Err(exit)),
    }
}

/// The work, or the signal that ended it. What the work holds is gone when this returns.
async fn until_ended<T>(
    session: &Session<'_>,
    signals: &mut Signals,
    work: impl AsyncFnOnce(&Session<'_>) -> Result<T>,
) -> Result<Result<T, Exit>> {
    let work = AssertUnwindSafe(work(session)).catch_unwind();
    let mut work = pin!(work);
    let done = tokio::select! {
        done = &mut work => done,
        exit = signals.next() => {
            if !session.closing.ask() {
                return Ok(Err(exit));
            }
            let done = work.await;
            if session.closing.undone.load(Ordering::SeqCst) {
                return Ok(Err(exit));
            }
            done
        }
    };
    match done {
        Ok(done) => done.map(Ok),
        Err(_) => Err(exit::bug().unwrap_or_else(|| anyhow!("something panicked").context(Exit::Bug))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_that_ends_a_session_has_its_shell_status() {
        for (kind, exit) in ends() {
            assert_eq!(i32::from(exit.code()), 128 + kind.as_raw_value());
        }
    }
}
