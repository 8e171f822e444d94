//! Container: one run of an image in a Docker engine, from create to remove.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bollard::errors::Error as Bollard;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum, NetworkSettings};
use bollard::query_parameters::{
    AttachContainerOptions, DownloadFromContainerOptions, EventsOptions, KillContainerOptions, StopContainerOptions,
    UploadToContainerOptions, WaitContainerOptions,
};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::{Notify, watch};
use tokio_util::io::ReaderStream;

use super::ledger::Made;
use super::{Core, failed, is_not_found, streams};
use crate::engine::error::EngineError;
use crate::engine::{Archive, Attached, Container, ContainerState, ExecResult, Health};

/// What is sent at a time.
const PIECE: usize = 64 << 10;

/// A container of ours.
pub(super) struct DockerContainer {
    core: Arc<Core>,
    id: String,
    name: String,
    stdin: bool,
    /// Set by the waiter that `start` leaves behind: the end is not missed when the engine removes the
    /// container by itself.
    end: Mutex<Option<watch::Receiver<Option<Ending>>>>,
    /// The engine has said that it is started.
    is_started: Arc<Notify>,
}

/// How the wait for a container's end came out.
type Ending = Result<i32, Arc<anyhow::Error>>;

impl DockerContainer {
    pub(super) fn new(core: Arc<Core>, id: String, name: String, stdin: bool) -> Self {
        Self { core, id, name, stdin, end: Mutex::new(None), is_started: Arc::default() }
    }

    fn waiter(&self) -> watch::Receiver<Option<Ending>> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.get_or_insert_with(|| {
            let (send, receive) = watch::channel(None);
            let (core, id, is_started) = (self.core.clone(), self.id.clone(), self.is_started.clone());
            tokio::spawn(async move {
                // Asked before the start, so that the end of one that removes itself is not missed; and once more after
                // it, for what ended before that question came to the engine would not end again.
                let late = async {
                    is_started.notified().await;
                    core.wait_for_end(&id, "not-running").await
                };
                let ending = tokio::select! {
                    ending = core.wait_for_end(&id, "next-exit") => ending,
                    ending = late => ending,
                    () = send.closed() => return,
                };
                let _ = send.send(Some(ending.map_err(Arc::new)));
            });
            receive
        })
        .clone()
    }

    fn started(&self) -> bool {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn inspect(&self) -> Result<ContainerInspectResponse> {
        self.core.inspect(&self.id).await.with_context(|| format!("inspect the container {}", self.name))
    }
}

/// Podman says "stopped" of a container that has ended and is not yet cleaned up, which may take for ever when its
/// cleaner was killed. The API has no such word (its client refuses the answer): there it is "exited".
fn without_stopped(error: Bollard) -> Result<ContainerInspectResponse, Bollard> {
    let Bollard::JsonDataError { contents, .. } = &error else { return Err(error) };
    let mut answer: serde_json::Value = serde_json::from_str(contents).unwrap_or_default();
    match answer.pointer_mut("/State/Status") {
        Some(word) if word == "stopped" => *word = "exited".into(),
        _ => return Err(error),
    }
    serde_json::from_value(answer).map_err(|_still_odd| error)
}

impl Core {
    /// What the engine says of a container.
    pub(super) async fn inspect(&self, name: &str) -> Result<ContainerInspectResponse> {
        let answer = self.api.inspect_container(name, None).await;
        answer.or_else(without_stopped).map_err(failed("ask the engine"))
    }

    /// The exit status of a container that runs or ran, when a condition of the API's is met.
    async fn wait_for_end(&self, id: &str, condition: &str) -> Result<i32> {
        let options = WaitContainerOptions { condition: condition.into() };
        let mut answers = std::pin::pin!(self.slow.wait_container(id, Some(options)));
        match answers.next().await {
            Some(Ok(answer)) => Ok(status(answer.status_code)),
            Some(Err(Bollard::DockerContainerWaitError { code, .. })) => Ok(status(code)),
            Some(Err(error)) => {
                let error = failed("wait for a container")(error);
                match is_not_found(&error) {
                    true => self.end_in_events(id).await?.ok_or(error),
                    false => Err(error),
                }
            }
            None => bail!(EngineError::Busy("the engine went away while a container ran".into())),
        }
    }

    /// What the engine remembers of a container that it has removed already.
    async fn end_in_events(&self, id: &str) -> Result<Option<i32>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let filters = HashMap::from([
            ("container".to_owned(), vec![id.to_owned()]),
            ("event".to_owned(), vec!["die".to_owned()]),
        ]);
        let options = EventsOptions {
            since: Some("0".into()),
            until: Some(now.to_string()),
            filters: Some(filters),
        };
        let events: Vec<_> = self.api.events(Some(options)).try_collect().await.map_err(failed("read the events"))?;
        let code = events.into_iter().rev().find_map(|event| {
            let attributes = event.actor?.attributes?;
            attributes.get("exitCode")?.parse().ok()
        });
        Ok(code)
    }
}

fn status(code: i64) -> i32 {
    i32::try_from(code).unwrap_or(i32::MAX)
}

#[async_trait]
impl Container for DockerContainer {
    fn id(&self) -> &str {
        &self.id
    }

    async fn put(&self, dir: &str, archive: Archive) -> Result<()> {
        let options = UploadToContainerOptions { path: dir.to_owned(), ..UploadToContainerOptions::default() };
        let body = bollard::body_try_stream(ReaderStream::with_capacity(archive, PIECE));
        let put = self.core.slow.upload_to_container(&self.id, Some(options), body).await;
        put.map_err(failed(format!("put files into {}:{dir}", self.name)))
    }

    async fn get_file(&self, path: &str) -> Result<Vec<u8>> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let archive = self.core.slow.download_from_container(&self.id, Some(options));
        let what = format!("read {}:{path}", self.name);
        let bytes = archive.try_fold(Vec::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        });
        let bytes = bytes.await.map_err(failed(&what))?;
        streams::only_file(&bytes).context(what)
    }

    async fn attach(&self) -> Result<Attached> {
        let options = AttachContainerOptions {
            stream: true,
            stdin: self.stdin,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let attached = self.core.slow.attach_container(&self.id, Some(options)).await;
        let attached = attached.map_err(failed(format!("attach to the container {}", self.name)))?;
        let output = attached.output.map_ok(streams::output).map_err(failed("read a container's output"));
        let input = self.stdin.then(|| streams::input(attached.input));
        Ok(Attached { input, output: output.boxed() })
    }

    async fn start(&self) -> Result<()> {
        let _ = self.waiter();
        let (core, id) = (self.core.clone(), self.id.clone());
        let start = async move {
            let started = core.slow.start_container(&id, None).await;
            started.map_err(failed("start the container"))
        };
        self.core.ledger.make(start).await?;
        self.is_started.notify_one();
        Ok(())
    }

    async fn state(&self) -> Result<ContainerState> {
        let inspected = match self.inspect().await {
            Ok(inspected) => inspected,
            Err(error) if is_not_found(&error) => {
                // Removed by the engine as it ended.
                return Ok(ContainerState { exited: Some(self.wait().await?), ..ContainerState::default() });
            }
            Err(error) => return Err(error),
        };
        let mut state = state_of(&inspected);
        let mode = inspected.host_config.and_then(|host| host.network_mode).unwrap_or_default();
        if let Some(other) = mode.strip_prefix("container:") {
            let other = self.core.inspect(other).await.context("inspect the container whose network is shared")?;
            let shared = state_of(&other);
            (state.address, state.published) = (shared.address, shared.published);
            state.host_network = shared.host_network;
        }
        Ok(state)
    }

    async fn exec(&self, argv: &[String], timeout: Duration) -> Result<ExecResult> {
        let mut result = ExecResult::default();
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.to_vec()),
            ..CreateExecOptions::default()
        };
        let what = format!("run {} in {}", argv.first().map_or("", String::as_str), self.name);
        let exec = self.core.api.create_exec(&self.id, options).await.map_err(failed(&what))?;
        let run = self.collect(&exec.id, &mut result);
        match tokio::time::timeout(timeout, run).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return unexecutable(error, result).context(what),
            Err(_) => {
                result.timed_out = true;
                result.status = 124;
                return Ok(result);
            }
        }
        let inspected = self.core.api.inspect_exec(&exec.id).await.map_err(failed(what))?;
        result.status = status(inspected.exit_code.unwrap_or_default());
        Ok(not_begun(result))
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        let sent = self.core.api.kill_container(&self.id, Some(options)).await;
        sent.map_err(failed(format!("send {signal} to the container {}", self.name)))
    }

    async fn stop(&self, timeout: Duration) -> Result<i32> {
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let options = StopContainerOptions { t: i32::try_from(seconds).ok(), signal: None };
        let stopped = self.core.slow.stop_container(&self.id, Some(options)).await;
        match stopped.map_err(failed(format!("stop the container {}", self.name))) {
            Err(error) if !is_not_found(&error) => Err(error),
            Ok(()) | Err(_) => self.wait().await,
        }
    }

    async fn wait(&self) -> Result<i32> {
        if !self.started() {
            let state = self.inspect().await?.state.unwrap_or_default();
            return Ok(status(state.exit_code.unwrap_or_default()));
        }
        let mut waiter = self.waiter();
        let ending = waiter.wait_for(Option::is_some).await.context("the wait for a container was abandoned")?;
        match ending.as_ref() {
            Some(Ok(status)) => Ok(*status),
            Some(Err(error)) => {
                let text = format!("{error:#}");
                Err(EngineError::Busy(text).into())
            }
            None => bail!("the wait for a container was abandoned"),
        }
    }

    async fn remove(&self) -> Result<()> {
        self.core.remove_container(&self.id).await?;
        self.core.ledger.strike(&Made::Container(self.name.clone()));
        Ok(())
    }
}

impl DockerContainer {
    async fn collect(&self, exec: &str, result: &mut ExecResult) -> Result<()> {
        let options = StartExecOptions { output_capacity: Some(64 << 10), ..StartExecOptions::default() };
        let started = self.core.slow.start_exec(exec, Some(options)).await;
        let StartExecResults::Attached { mut output, .. } = started.map_err(failed("start it"))? else {
            bail!("the engine did not attach to a command");
        };
        while let Some(piece) = output.next().await {
            let piece = streams::output(piece.map_err(failed("read its output"))?);
            match piece.fd {
                2 => result.stderr.extend_from_slice(&piece.bytes),
                _ => result.stdout.extend_from_slice(&piece.bytes),
            }
        }
        Ok(())
    }
}

/// A command that cannot be executed is a result, as in a shell.
fn unexecutable(error: anyhow::Error, mut result: ExecResult) -> Result<ExecResult> {
    let Some(EngineError::CannotExecute { status, message }) = error.downcast_ref() else {
        return Err(error);
    };
    result.status = *status;
    result.stderr.extend_from_slice(message.as_bytes());
    Ok(result)
}

/// Docker says on the command's stdout that it could not be executed, with 126 for everything.
fn not_begun(mut result: ExecResult) -> ExecResult {
    if !matches!(result.status, 126 | 127) || !result.stdout.starts_with(b"OCI runtime exec failed") {
        return result;
    }
    let text = String::from_utf8_lossy(&result.stdout).trim().to_owned();
    if let EngineError::CannotExecute { status, message } = EngineError::from_text(text) {
        result = ExecResult { status, stdout: Vec::new(), stderr: message.into_bytes(), timed_out: false };
    }
    result
}

fn state_of(inspected: &ContainerInspectResponse) -> ContainerState {
    let state = inspected.state.clone().unwrap_or_default();
    let ended = matches!(state.status, Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD));
    let mode = inspected.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or_default();
    let network = inspected.network_settings.clone().unwrap_or_default();
    ContainerState {
        exited: ended.then(|| status(state.exit_code.unwrap_or_default())),
        oom_killed: state.oom_killed.unwrap_or_default(),
        health: state.health.and_then(|health| match health.status? {
            HealthStatusEnum::STARTING => Some(Health::Starting),
            HealthStatusEnum::HEALTHY => Some(Health::Healthy),
            HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
            HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => None,
        }),
        address: address(&network, mode),
        process: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        host_network: mode == "host",
        published: published(&network),
    }
}

/// The address in the network that was asked for, else in the first that has one; IPv4 before IPv6.
fn address(network: &NetworkSettings, mode: &str) -> Option<std::net::IpAddr> {
    let networks = network.networks.as_ref()?;
    let mut names: Vec<_> = networks.keys().collect();
    names.sort_by_key(|name| (name.as_str() != mode, name.as_str()));
    let addresses = |v6: bool| {
        names.iter().filter_map(move |name| {
            let endpoint = &networks[*name];
            let text = if v6 { &endpoint.global_ipv6_address } else { &endpoint.ip_address };
            text.as_ref()?.parse().ok()
        })
    };
    addresses(false).chain(addresses(true)).next()
}

fn published(network: &NetworkSettings) -> Vec<(u16, u16)> {
    let mut pairs = Vec::new();
    for (port, bindings) in network.ports.iter().flatten() {
        let Some(Ok(container)) = port.strip_suffix("/tcp").map(str::parse) else {
            continue;
        };
        let hosts = bindings.iter().flatten().filter_map(|binding| binding.host_port.as_ref()?.parse().ok());
        pairs.extend(hosts.map(|host| (container, host)));
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(contents: &str) -> Bollard {
        Bollard::JsonDataError { message: "unknown variant".into(), contents: contents.into(), column: 1 }
    }

    #[test]
    fn a_container_that_podman_has_not_cleaned_up_is_one_that_has_exited() {
        let answer = without_stopped(refused(r#"{"Id": "a1", "State": {"Status": "stopped", "ExitCode": 3}}"#)).unwrap();
        let state = answer.state.unwrap();
        assert_eq!((state.status, state.exit_code), (Some(ContainerStateStatusEnum::EXITED), Some(3)));
        for other in [r#"{"State": {"Status": "melted"}}"#, r#"{"State": {"Status": "stopped", "ExitCode": "three"}}"#, "", "[]"] {
            assert!(without_stopped(refused(other)).is_err(), "{other}");
        }
    }
}
