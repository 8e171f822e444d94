//! Container: one run of an image in the embedded engine, from create to remove, through its shim.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select};
use tokio::io::AsyncSeekExt;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio_util::io::ReaderStream;

use super::plan::{Answer, Call, IdMaps, Network, PLAN_FILE, Plan, ROLE};
use super::wire::{self, Wire};
use crate::engine::sockets;
use crate::engine::{Archive, Attached, Container, ContainerState, EngineError, ExecResult, Output};
use crate::progress::Monitor;
use crate::sys::socket;

/// How long the root file system may take; layers that have to be copied take their time.
const READY: Duration = Duration::from_secs(600);
/// How long a process may take to die once it is killed.
const DEATH: Duration = Duration::from_secs(60);
/// Exit status of a command that was given up.
const TIMED_OUT: i32 = 124;

/// A container of ours.
pub(super) struct EmbeddedContainer {
    held: Arc<Held>,
    stop_signal: i32,
    streams: Mutex<Streams>,
}

/// What the engine keeps of a container, so that the sweep can remove it.
pub(super) struct Held {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    /// Process that holds its namespaces.
    pub(super) pid: u32,
    pub(super) network: Network,
    wire: Wire,
    child: Mutex<Option<std::process::Child>>,
    maps: Option<IdMaps>,
}

/// The two ends of the container's standard streams.
#[derive(Default)]
struct Streams {
    theirs: Vec<OwnedFd>,
    input: Option<OwnedFd>,
    outputs: Option<(OwnedFd, OwnedFd)>,
}

impl EmbeddedContainer {
    /// Starts the shim of a container and waits until its files are there.
    pub(super) async fn create(
        program: &Path,
        dir: PathBuf,
        plan: Plan,
        (stdin, stop_signal): (bool, i32),
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self> {
        let text = serde_json::to_vec(&plan)?;
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        std::fs::write(dir.join(PLAN_FILE), text).with_context(|| format!("write to {}", dir.display()))?;
        let (ours, theirs) = socket::pair().context("make a socket")?;
        let log = std::fs::File::create(dir.join("log")).context("make the shim's log")?;
        let mut command = std::process::Command::new(program);
        command.arg(ROLE).arg(&dir).stdin(theirs).stdout(Stdio::null()).stderr(log);
        // The user's Ctrl-C is for the controller, which sees to it that containers end.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().context("start the process that holds a container")?;
        drop(command);
        let held = Held {
            name: plan.name,
            dir,
            pid: child.id(),
            network: plan.network,
            wire: Wire::new(ours, monitor)?,
            child: Mutex::new(Some(child)),
            maps: plan.user_namespace,
        };
        held.ready().await?;
        let streams = Mutex::new(Streams::new(stdin)?);
        Ok(Self { held: Arc::new(held), stop_signal, streams })
    }

    /// What the sweep needs of it.
    pub(super) fn held(&self) -> Arc<Held> {
        self.held.clone()
    }
}

impl Held {
    async fn ready(&self) -> Result<()> {
        let mut progress = self.wire.progress();
        let wait = progress.wait_for(|progress| progress.ready.is_some() || progress.gone);
        let progress = tokio::time::timeout(READY, wait).await.context("the container's files take too long")?;
        match progress.context("hear of the container")?.ready.clone() {
            Some(Ok(())) => Ok(()),
            Some(Err(failure)) => Err(wire::error(failure)),
            None => Err(anyhow!("the process that holds a container ended: {}", self.last_words())),
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().last().unwrap_or("it did not say why").to_owned()
    }

    /// Ends it and waits until nothing of it is left.
    pub(super) async fn remove(&self) -> Result<()> {
        self.wire.close();
        let mut progress = self.wire.progress();
        let stays = tokio::time::timeout(DEATH, progress.wait_for(|progress| progress.gone)).await.is_err();
        if stays {
            bail!(EngineError::Conflict(format!("the container {} does not end", self.name)));
        }
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            tokio::task::spawn_blocking(move || child.wait()).await?.context("wait for a container's process")?;
        }
        super::inside::remove(&self.dir, self.maps.as_ref())
    }
}

impl Streams {
    fn new(stdin: bool) -> Result<Self> {
        let (output, output_theirs) = socket::pipe().context("make a pipe")?;
        let (error, error_theirs) = socket::pipe().context("make a pipe")?;
        let (input_theirs, input) = match stdin {
            true => {
                let (theirs, ours) = socket::pipe().context("make a pipe")?;
                (theirs, Some(ours))
            }
            false => (std::fs::File::open("/dev/null").context("open /dev/null")?.into(), None),
        };
        let theirs = vec![input_theirs, output_theirs, error_theirs];
        Ok(Self { theirs, input, outputs: Some((output, error)) })
    }
}

/// What comes out of a pipe.
fn output(fd: u8, end: OwnedFd) -> Result<BoxStream<'static, Result<Output>>> {
    let receiver = pipe::Receiver::from_owned_fd(end).context("read a container's output")?;
    let pieces = ReaderStream::with_capacity(receiver, 64 << 10);
    Ok(pieces.map(move |bytes| Ok(Output { fd, bytes: bytes.context("read a container's output")? })).boxed())
}

#[async_trait]
impl Container for EmbeddedContainer {
    fn id(&self) -> &str {
        &self.held.name
    }

    async fn put(&self, dir: &str, mut archive: Archive) -> Result<()> {
        let write = async {
            let mut file = tokio::fs::File::from_std(tempfile::tempfile()?);
            tokio::io::copy(&mut archive, &mut file).await?;
            file.rewind().await?;
            std::io::Result::Ok(file.into_std().await)
        };
        let file = write.await.context("write an archive down")?;
        let put = self.held.wire.ask(Call::Put { dir: dir.to_owned() }, &[file.into()]).await;
        put.map(|_| ()).with_context(|| format!("put files into {}:{dir}", self.held.name))
    }

    async fn get_file(&self, path: &str) -> Result<Vec<u8>> {
        let what = format!("read {}:{path}", self.held.name);
        let (_, fd) = self.held.wire.ask(Call::Get { path: path.to_owned() }, &[]).await.context(what.clone())?;
        let file = std::fs::File::from(fd.context("no file came along")?);
        let read = move || {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut { file }, &mut bytes).map(|_| bytes)
        };
        tokio::task::spawn_blocking(read).await?.context(what)
    }

    async fn attach(&self) -> Result<Attached> {
        let (input, outputs) = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            (streams.input.take(), streams.outputs.take())
        };
        let (out, err) = outputs.context("the container's output is read already")?;
        let input = input.map(|end| pipe::Sender::from_owned_fd(end).context("write to a container")).transpose()?;
        let output = select(output(1, out)?, output(2, err)?).boxed();
        Ok(Attached { input: input.map(|sender| Box::pin(sender) as _), output })
    }

    async fn start(&self) -> Result<()> {
        let (theirs, outputs) = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut streams.theirs), streams.outputs.take())
        };
        if let Some((out, err)) = outputs {
            // Nobody reads it, and it must not block.
            let mut all = select(output(1, out)?, output(2, err)?);
            tokio::spawn(async move { while all.next().await.is_some() {} });
        }
        self.held.wire.ask(Call::Start, &theirs).await.context("start the container").map(|_| ())
    }

    async fn state(&self) -> Result<ContainerState> {
        let progress = self.held.wire.progress().borrow().clone();
        if progress.gone && progress.ended.is_none() {
            bail!(EngineError::Other(format!("the process that holds the container ended: {}", self.held.last_words())));
        }
        Ok(ContainerState {
            exited: progress.ended.map(|(status, _)| status),
            oom_killed: progress.ended.is_some_and(|(_, oom)| oom),
            host_network: self.held.network == Network::Host,
            ..ContainerState::default()
        })
    }

    async fn exec(&self, argv: &[String], timeout: Duration) -> Result<ExecResult> {
        let what = format!("run {} in {}", argv.first().map_or("", String::as_str), self.held.name);
        let (out, out_theirs) = socket::pipe().context("make a pipe")?;
        let (err, err_theirs) = socket::pipe().context("make a pipe")?;
        let theirs = [out_theirs, err_theirs];
        let (id, answer) = self.held.wire.begin(Call::Exec { argv: argv.to_vec() }, &theirs).context(what.clone())?;
        drop(theirs);
        let mut pieces = select(output(1, out)?, output(2, err)?);
        let mut result = ExecResult::default();
        let collect = async {
            let mut answer = std::pin::pin!(wire::finish(answer));
            let mut ended = None;
            loop {
                tokio::select! {
                    piece = pieces.next() => match piece {
                        Some(piece) => {
                            let piece = piece?;
                            let into = if piece.fd == 1 { &mut result.stdout } else { &mut result.stderr };
                            into.extend_from_slice(&piece.bytes);
                        }
                        None => break,
                    },
                    done = &mut answer, if ended.is_none() => ended = Some(done),
                }
            }
            match ended {
                Some(ended) => ended,
                None => answer.await,
            }
        };
        match tokio::time::timeout(timeout, collect).await {
            Ok(Ok((Answer::Status(status), _))) => result.status = status,
            Ok(Ok(_)) => bail!("{what}: the answer is not understood"),
            Ok(Err(error)) => match error.downcast_ref() {
                Some(EngineError::CannotExecute { status, message }) => {
                    result.status = *status;
                    result.stderr.extend_from_slice(message.as_bytes());
                }
                _ => return Err(error.context(what)),
            },
            Err(_) => {
                let _ = self.held.wire.begin(Call::Cancel { id }, &[]);
                result.timed_out = true;
                result.status = TIMED_OUT;
            }
        }
        Ok(result)
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let number = super::signal_number(signal)?;
        let sent = self.held.wire.ask(Call::Signal { number }, &[]).await;
        sent.map(|_| ()).with_context(|| format!("send {signal} to the container {}", self.held.name))
    }

    async fn stop(&self, timeout: Duration) -> Result<i32> {
        let mut progress = self.held.wire.progress();
        // One that has ended takes no signal.
        let _ = self.held.wire.ask(Call::Signal { number: self.stop_signal }, &[]).await;
        let wait = progress.wait_for(|progress| progress.ended.is_some() || progress.gone);
        let stays = tokio::time::timeout(timeout, wait).await.is_err();
        if stays {
            let _ = self.held.wire.ask(Call::Signal { number: libc::SIGKILL }, &[]).await;
        }
        self.wait().await
    }

    async fn wait(&self) -> Result<i32> {
        let mut progress = self.held.wire.progress();
        let progress = progress.wait_for(|progress| progress.ended.is_some() || progress.gone).await;
        match progress.context("hear of the container")?.ended {
            Some((status, _)) => Ok(status),
            None => bail!("the process that holds the container ended: {}", self.held.last_words()),
        }
    }

    async fn remove(&self) -> Result<()> {
        self.held.remove().await
    }

    async fn dial(&self, port: u16) -> Option<std::io::Result<TcpStream>> {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        Some(self.connect(address).await)
    }

    async fn listeners(&self) -> Option<Vec<SocketAddr>> {
        match self.held.wire.ask(Call::Listeners, &[]).await {
            Ok((Answer::Text(text), _)) => {
                let listening = sockets::table(&text).into_iter().filter(|socket| socket.listens);
                Some(listening.map(|socket| socket.local).collect())
            }
            Ok(_) | Err(_) => None,
        }
    }
}

impl EmbeddedContainer {
    async fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        match self.held.wire.ask(Call::Dial { address }, &[]).await {
            Ok((_, Some(fd))) => {
                let stream = std::net::TcpStream::from(fd);
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                TcpStream::from_std(stream)
            }
            Ok((_, None)) => Err(std::io::Error::other("no connection came along")),
            Err(error) => Err(match error.downcast::<std::io::Error>() {
                Ok(error) => error,
                Err(error) => std::io::Error::other(error),
            }),
        }
    }
}
