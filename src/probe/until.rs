//! Until: what ends the probing (`--continue-after`).

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, MutexGuard};

use super::{Target, Until};
use crate::progress::{Fact, Monitor};

/// SIGUSR1, from when somebody began to listen: one that comes before anybody waits for it counts.
static SIGNALS: Mutex<Option<Signal>> = Mutex::const_new(None);

/// From now on SIGUSR1 does not end the program; one that comes is kept for who waits for it.
///
/// # Errors
/// When the system refuses a signal handler.
pub async fn listen_for_signal() -> Result<()> {
    listening().await.map(|_| ())
}

async fn listening() -> Result<MutexGuard<'static, Option<Signal>>> {
    let mut held = SIGNALS.lock().await;
    if held.is_none() {
        *held = Some(signal(SignalKind::user_defined1()).context("listen for SIGUSR1")?);
    }
    Ok(held)
}

/// Waits for it. Gives the target's exit status when the target ended meanwhile, which ends every waiting.
pub(super) async fn wait(
    until: Until,
    began: tokio::time::Instant,
    target: &dyn Target,
    monitor: &dyn Monitor,
) -> Result<Option<i32>> {
    let what = async {
        match until {
            Until::Probes => Ok(()),
            Until::Exit => std::future::pending().await,
            Until::Timeout(time) => {
                tell(monitor, format!("going on until {} s after readiness", time.as_secs_f64()));
                tokio::time::sleep_until(began + time).await;
                Ok(())
            }
            Until::Signal => {
                tell(monitor, format!("going on until SIGUSR1 comes: kill -USR1 {}", std::process::id()));
                if let Some(signals) = listening().await?.as_mut() {
                    signals.recv().await;
                }
                Ok(())
            }
            Until::Enter => {
                tell(monitor, "going on until Enter is pressed".to_owned());
                enter().await
            }
        }
    };
    tokio::select! {
        biased;
        done = what => done.map(|()| None),
        status = target.ended() => status.map(Some),
    }
}

fn tell(monitor: &dyn Monitor, text: String) {
    monitor.tell(Fact::Info { text });
}

/// A thread of its own reads the line: a runtime's blocking read could not be abandoned.
async fn enter() -> Result<()> {
    let (sender, line) = tokio::sync::oneshot::channel();
    let read = move || {
        let mut text = String::new();
        let _ = sender.send(std::io::stdin().read_line(&mut text));
    };
    std::thread::Builder::new().name("enter".to_owned()).spawn(read).context("start a thread that reads stdin")?;
    match line.await {
        Ok(Ok(0)) => anyhow::bail!(
            "stdin ended before Enter was pressed; use --continue-after probe, signal or timeout:N where no terminal is"
        ),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error).context("read stdin"),
        Err(_) => Ok(()),
    }
}

/// Waits a little longer each time, between 10 and 250 ms: for things that cannot tell us that they happened.
pub(super) struct Backoff(Duration);

impl Backoff {
    /// Begins with 10 ms.
    pub(super) fn new() -> Self {
        Self(Duration::from_millis(10))
    }

    /// Waits.
    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(Duration::from_millis(250));
    }
}
