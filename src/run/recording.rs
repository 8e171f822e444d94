//! Recording: a run of the untouched image under the sensor.
//!
//! The sensor's replies arrive on the container's stderr between the target's own bytes. One task reads the
//! streams into a shared state; everything else waits for that state to become what it needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use base64::Engine as _;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::leaving::Leaving;
use super::log::Log;
use super::way::{Helper, Way};
use crate::engine::{Container, ContainerState, EngineError, ExecResult, Health, Output};
use crate::exit::Exit;
use crate::image::config::Healthcheck;
use crate::probe::{Body, Stream, Target};
use crate::sensor::control::{Command, FrameFilter, Reply};
use crate::sensor::event::Recorders;

/// Time for the sensor's answers that need no work of the target.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What the sensor has said so far.
#[derive(Debug, Default)]
struct State {
    recorders: Option<Recorders>,
    started: bool,
    failed: Option<(String, Option<i32>)>,
    marked: u32,
    execs: BTreeMap<u32, Exec>,
    settled: Option<(u64, bool)>,
    exited: Option<(i32, bool)>,
    done: Option<u64>,
    output_ended: bool,
    stream_ended: bool,
}

#[derive(Debug, Default)]
struct Exec {
    result: ExecResult,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, reply: Reply) {
        let mut state = self.lock();
        match reply {
            Reply::Armed { recorders } => state.recorders = Some(recorders),
            Reply::Started { .. } => state.started = true,
            Reply::Failed { error, target } => state.failed = Some((error, target)),
            Reply::Marked { n } => state.marked = state.marked.max(n),
            Reply::Output { id, fd, data } => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default();
                let result = &mut state.execs.entry(id).or_default().result;
                if fd == 1 { result.stdout.extend(bytes) } else { result.stderr.extend(bytes) }
            }
            Reply::ExecEnd { id, status, timed_out } => {
                let exec = state.execs.entry(id).or_default();
                exec.result.status = status;
                exec.result.timed_out = timed_out;
                exec.ended = true;
            }
            Reply::Settled { paths, quiet } => state.settled = Some((paths, quiet)),
            Reply::Exited { status, handled } => state.exited = Some((status, handled)),
            Reply::OutputEnd => state.output_ended = true,
            Reply::Done { accesses } => state.done = Some(accesses),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn end(&self) {
        self.lock().stream_ended = true;
        self.changed.notify_waiters();
    }

    /// Waits until `look` finds what it wants.
    async fn until<T>(&self, what: &str, look: impl Fn(&mut State) -> Option<T>) -> Result<T> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.lock();
                if let Some(found) = look(&mut state) {
                    return Ok(found);
                }
                match &state.failed {
                    // The untouched image cannot run.
                    Some((error, Some(_))) => return Err(anyhow!("{error}").context(Exit::Baseline)),
                    Some((error, None)) if state.started => return Err(anyhow!("{error}").context(Exit::Trace)),
                    Some((error, None)) => bail!("{error}"),
                    None => {}
                }
                if state.stream_ended {
                    return Err(anyhow!("the sensor ended before it could {what}").context(Exit::Trace));
                }
            }
            changed.await;
        }
    }
}

/// A target that runs under the sensor.
pub struct Recording<'a> {
    container: Arc<dyn Container>,
    input: tokio::sync::Mutex<Pin<Box<dyn AsyncWrite + Send>>>,
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
    log: Log,
    health: tokio::sync::Mutex<Option<Health>>,
    healthcheck: Option<Healthcheck>,
    next: AtomicU32,
    way: Way<'a>,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit status of the target.
    pub status: i32,
    /// It handled the stop signal, or ended by itself.
    pub handled: bool,
}

impl<'a> Recording<'a> {
    /// Starts a prepared container (the kit is in it) and waits until the recorders are armed and the target
    /// runs.
    ///
    /// # Errors
    /// When the container cannot start, nothing can be recorded, or the target cannot be executed.
    pub async fn start(
        helper: Helper<'a>,
        container: Box<dyn Container>,
        nonce: &str,
        healthcheck: Option<Healthcheck>,
        log: Log,
    ) -> Result<(Self, Recorders)> {
        let container: Arc<dyn Container> = Arc::from(container);
        let attached = container.attach().await.context("attach to the target")?;
        let input = attached.input.context("the engine gave no stdin for the sensor")?;
        let shared = Arc::new(Shared::default());
        let filters = (FrameFilter::new(nonce), FrameFilter::new(nonce));
        let reader = tokio::spawn(read(attached.output, filters, shared.clone(), log.clone()));
        container.start().await.context("start the target")?;
        let wait = shared.until("start the target", |state| {
            if state.started { state.recorders.clone() } else { None }
        });
        let recorders = match tokio::time::timeout(Duration::from_secs(60), wait).await {
            Ok(Ok(recorders)) => recorders,
            Ok(Err(error)) => return Err(blame(container.as_ref(), error).await),
            Err(_) => bail!("the sensor did not start the target within 60 s"),
        };
        let state = container.state().await.context("look at the started target")?;
        let recording = Self {
            container: container.clone(),
            input: tokio::sync::Mutex::new(input),
            shared,
            reader,
            log,
            health: tokio::sync::Mutex::new(healthcheck.as_ref().map(|_| Health::Starting)),
            healthcheck,
            next: AtomicU32::new(1),
            way: Way::new(helper, container, state),
        };
        Ok((recording, recorders))
    }

    async fn send(&self, command: &Command) -> Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        let mut input = self.input.lock().await;
        let sent = async {
            input.write_all(&line).await?;
            input.flush().await
        };
        match sent.await {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = anyhow::Error::new(error).context("speak to the sensor").context(Exit::Trace);
                Err(blame(self.container.as_ref(), error).await)
            }
        }
    }

    /// Waits until no new path came for `quiet`, at most `max`; says whether it became quiet and how many
    /// distinct paths there are.
    ///
    /// # Errors
    /// When the sensor is gone.
    pub async fn settle(&self, quiet: Duration, max: Duration) -> Result<(u64, bool)> {
        self.shared.lock().settled = None;
        let millis = |time: Duration| time.as_millis() as u64;
        self.send(&Command::Settle { quiet_ms: millis(quiet), max_ms: millis(max) }).await?;
        let wait = self.shared.until("settle", |state| state.settled.or(state.exited.map(|_| (0, true))));
        tokio::time::timeout(max + ANSWER_TIMEOUT, wait)
            .await
            .map_err(|_| anyhow!("the sensor does not answer"))?
    }

    /// Stops the target as the engine would; returns when the trace is complete in the volume.
    ///
    /// # Errors
    /// When the sensor is gone: the recording is not complete.
    pub async fn stop(&self, signal: i32, timeout: Duration) -> Result<Ended> {
        if self.shared.lock().exited.is_none() {
            let timeout_ms = timeout.as_millis() as u64;
            self.send(&Command::Stop { signal, timeout_ms }).await?;
        }
        let wait = self.shared.until("finish the trace", |state| state.done.and(state.exited));
        let (status, handled) = tokio::time::timeout(timeout + Duration::from_secs(60), wait)
            .await
            .map_err(|_| anyhow!("the sensor did not finish the trace in time"))??;
        Ok(Ended { status, handled })
    }

    /// Lets the sensor go, after the trace is complete; the container leaves.
    ///
    /// # Errors
    /// When the relay to it cannot be removed.
    pub async fn close(self, leaving: &Leaving) -> Result<()> {
        // The container may be gone before it has read this; then there is nobody to tell.
        let _told = self.send(&Command::Bye).await;
        self.way.close().await?;
        leaving.add(self.container, Some(self.reader));
        Ok(())
    }

    /// Why a recording failed: the engine, when it is no longer there, or what was found out otherwise.
    pub async fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        blame(self.container.as_ref(), error).await
    }

    /// The last lines of the target's output; of a target that has ended, the very last.
    pub async fn last_words(&self, lines: usize) -> Vec<String> {
        if self.shared.lock().exited.is_some() {
            // What has not come by then does not come: the lines that are there are shown.
            let _ = self.output_ended().await;
        }
        self.log.tail(lines)
    }

    /// Waits until everything that the target wrote is in the log. Its two streams come by different ways, so
    /// that its end may be heard of before its last words.
    async fn output_ended(&self) -> Result<()> {
        let wait = self.shared.until("pass the target's output on", |state| state.output_ended.then_some(()));
        match tokio::time::timeout(ANSWER_TIMEOUT, wait).await {
            Ok(ended) => ended,
            Err(_) => bail!("the end of the target's output does not come"),
        }
    }

    async fn check_health(&self, check: &Healthcheck) -> Result<Health> {
        let result = self.exec("healthcheck", &check.argv, check.timeout).await?;
        Ok(if result.status == 0 && !result.timed_out { Health::Healthy } else { Health::Starting })
    }
}

/// A stream that ended says nothing about who ended it; see [`Recording::blame`].
async fn blame(container: &dyn Container, error: anyhow::Error) -> anyhow::Error {
    if Exit::of(&error) != Exit::Trace {
        return error;
    }
    match container.state().await {
        Err(engine) if engine.downcast_ref().is_some_and(EngineError::is_trouble) => {
            engine.context("the engine went away during the recording")
        }
        _ => error,
    }
}

async fn read(
    mut output: BoxStream<'static, Result<Output>>,
    (mut out, mut err): (FrameFilter, FrameFilter),
    shared: Arc<Shared>,
    log: Log,
) {
    while let Some(Ok(piece)) = output.next().await {
        let filter = if piece.fd == 1 { &mut out } else { &mut err };
        let (own, replies) = filter.push(&piece.bytes);
        if !own.is_empty() {
            log.push(piece.fd, &own);
        }
        for reply in replies {
            shared.take(reply);
        }
    }
    log.push(1, &out.finish());
    log.push(2, &err.finish());
    shared.end();
}

#[async_trait]
impl Target for Recording<'_> {
    async fn dial(&self, port: u16) -> std::io::Result<Box<dyn Stream>> {
        self.way.dial(port).await
    }

    async fn exec(&self, name: &str, argv: &[String], timeout: Duration) -> Result<ExecResult> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (argv, name) = (argv.to_vec(), name.to_owned());
        let timeout_ms = timeout.as_millis() as u64;
        self.send(&Command::Exec { id, argv, name, timeout_ms }).await?;
        let wait = self.shared.until("run a command", |state| {
            let ended = state.execs.get(&id).is_some_and(|exec| exec.ended);
            let gone = state.exited.is_some() && state.done.is_some();
            match (ended, gone) {
                (true, _) => state.execs.remove(&id).map(|exec| Ok(exec.result)),
                (false, true) => Some(Err(anyhow!("the target ended while the command ran"))),
                (false, false) => None,
            }
        });
        tokio::time::timeout(timeout + ANSWER_TIMEOUT, wait)
            .await
            .map_err(|_| anyhow!("the sensor does not answer"))??
    }

    async fn mark(&self, name: &str) -> Result<()> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if self.shared.lock().exited.is_some() {
            return Ok(());
        }
        self.send(&Command::Mark { n, name: name.to_owned() }).await?;
        let wait = self.shared.until("take a mark", |state| {
            (state.marked >= n || state.exited.is_some()).then_some(())
        });
        tokio::time::timeout(ANSWER_TIMEOUT, wait)
            .await
            .map_err(|_| anyhow!("the sensor does not answer"))?
    }

    async fn state(&self) -> Result<ContainerState> {
        let look = |state: &mut State| (!state.stream_ended || state.exited.is_some()).then_some(state.exited);
        let exited = self.shared.until("see the target end", look).await?.map(|(status, _)| status);
        let mut state = ContainerState { exited, ..ContainerState::default() };
        if let (Some(check), None) = (&self.healthcheck, state.exited) {
            let mut health = self.health.lock().await;
            if *health != Some(Health::Healthy) {
                *health = Some(self.check_health(check).await?);
            }
            state.health = *health;
        }
        Ok(state)
    }

    async fn ended(&self) -> Result<i32> {
        let status = self.shared.until("see the target end", |state| state.exited.map(|(status, _)| status)).await?;
        self.output_ended().await?;
        Ok(status)
    }

    fn log(&self) -> Vec<u8> {
        self.log.bytes()
    }

    fn is_within_reach(&self) -> bool {
        self.way.is_straight()
    }

    fn streams(&self) -> (Body, Body) {
        (self.log.stream(1), self.log.stream(2))
    }

    fn address(&self) -> String {
        self.way.address()
    }

    async fn listeners(&self) -> Option<Vec<SocketAddr>> {
        self.way.listeners().await
    }
}
