//! Plain run: an image as a user would run it, no sensor in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::leaving::Leaving;
use super::log::Log;
use super::way::{Helper, Way};
use crate::engine::{Container, ContainerSpec, ContainerState, ExecResult, Health, RunOptions};
use crate::image::config::Healthcheck;
use crate::probe::{Body, Stream, Target};

/// Time for a stopped container's stream to end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A plain run.
pub struct PlainRun<'a> {
    container: Arc<dyn Container>,
    reader: JoinHandle<()>,
    stream_ended: watch::Receiver<bool>,
    log: Log,
    healthcheck: Option<Healthcheck>,
    way: Way<'a>,
}

impl<'a> PlainRun<'a> {
    /// Creates and starts a container of `image`.
    ///
    /// # Errors
    /// When the engine cannot run it.
    pub async fn start(
        helper: Helper<'a>,
        purpose: &str,
        image: &str,
        options: &RunOptions,
        healthcheck: Option<Healthcheck>,
        log: Log,
    ) -> Result<Self> {
        let spec = ContainerSpec {
            purpose: purpose.to_owned(),
            image: image.to_owned(),
            options: options.clone(),
            ..ContainerSpec::default()
        };
        let container: Arc<dyn Container> = Arc::from(helper.engine.create(&spec).await?);
        let mut output = container.attach().await.context("attach to the container")?.output;
        let sink = log.clone();
        let (ended, stream_ended) = watch::channel(false);
        let reader = tokio::spawn(async move {
            while let Some(Ok(piece)) = output.next().await {
                sink.push(piece.fd, &piece.bytes);
            }
            ended.send_replace(true);
        });
        container.start().await?;
        let state = container.state().await.context("look at the started container")?;
        let way = Way::new(helper, container.clone(), state);
        Ok(Self { container, reader, stream_ended, log, healthcheck, way })
    }

    /// Stops it; gives its exit status.
    ///
    /// # Errors
    /// When the engine cannot.
    pub async fn stop(&self, timeout: Duration) -> Result<i32> {
        let status = self.container.stop(timeout).await?;
        // Its last words belong to the log; an engine that does not end the stream is not waited for.
        let mut stream_ended = self.stream_ended.clone();
        let _ = tokio::time::timeout(LAST_WORDS, stream_ended.wait_for(|ended| *ended)).await;
        Ok(status)
    }

    /// Lets it go.
    ///
    /// # Errors
    /// When the relay to it cannot be removed.
    pub async fn close(self, leaving: &Leaving) -> Result<()> {
        self.way.close().await?;
        leaving.add(self.container, Some(self.reader));
        Ok(())
    }

    /// Its last lines of output.
    pub fn log_tail(&self, lines: usize) -> Vec<String> {
        self.log.tail(lines)
    }
}

#[async_trait]
impl Target for PlainRun<'_> {
    async fn dial(&self, port: u16) -> std::io::Result<Box<dyn Stream>> {
        self.way.dial(port).await
    }

    async fn exec(&self, _name: &str, argv: &[String], timeout: Duration) -> Result<ExecResult> {
        self.container.exec(argv, timeout).await
    }

    async fn mark(&self, _name: &str) -> Result<()> {
        Ok(())
    }

    async fn state(&self) -> Result<ContainerState> {
        let mut state = self.container.state().await?;
        if let (Some(check), None) = (&self.healthcheck, state.exited) {
            // Asked now rather than at the engine's interval, which may be half a minute.
            let result = self.container.exec(&check.argv, check.timeout).await?;
            state.health = Some(match result.status {
                0 => Health::Healthy,
                _ => Health::Starting,
            });
        }
        Ok(state)
    }

    async fn ended(&self) -> Result<i32> {
        let status = self.container.wait().await?;
        // The stream ends with the container; what is still in it belongs to the log.
        let mut stream_ended = self.stream_ended.clone();
        stream_ended.wait_for(|ended| *ended).await.context("read the container's output")?;
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
