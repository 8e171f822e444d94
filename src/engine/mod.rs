//! Engine: whoever runs containers and stores images. A container is one run of an image.
//!
//! Everything an engine makes for us (containers, volumes, networks, unpublished images) is registered
//! before it is asked for and removed by [`Engine::sweep`], on success, failure and interruption alike.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::image::{Entry, ImageConfig, ImagePath};
use crate::progress::{Fact, Monitor};
use crate::sensor::control::SENSOR_DIR;

pub mod auth;
pub mod docker;
pub mod embedded;
pub mod error;
pub mod host;
pub mod options;
pub mod relay;
pub mod sockets;
pub mod ssh;
pub mod survey;

pub use docker::DockerEngine;
pub use embedded::EmbeddedEngine;
pub use error::{EngineError, exit_of};
pub use host::{EngineChoice, EngineKind};
pub use options::RunOptions;

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// `docker`, `podman`.
    pub name: String,
    /// The engine's version.
    pub version: String,
    /// Operating system of the containers: `linux`.
    pub os: String,
    /// Architecture of the engine's machine as Go names it.
    pub arch: String,
    /// How it is reached, for people: `unix:///run/docker.sock`.
    pub host: String,
    /// Whether it is reached over a socket of this machine. What is behind it may be elsewhere all the same.
    pub local: bool,
    /// Docker's data directory, when the engine says it (`/var/lib/docker`).
    pub root_dir: Option<String>,
}

impl EngineInfo {
    /// Whether it is the one in this program.
    pub fn is_embedded(&self) -> bool {
        self.name == embedded::NAME
    }

    /// Whether programs of a platform run there: its own, and 32-bit ones on amd64, whose kernel has their system calls.
    pub fn runs(&self, os: &str, arch: &str) -> bool {
        os == "linux" && (arch == self.arch || (self.arch == "amd64" && arch == "386"))
    }
}

/// An image that the engine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Image ID, `sha256:...`.
    pub id: String,
    /// References it has (`name:tag`).
    pub tags: Vec<String>,
    /// `name@sha256:...` references.
    pub repo_digests: Vec<String>,
    /// Architecture as Go names it.
    pub arch: String,
    /// Operating system.
    pub os: String,
    /// Uncompressed size in bytes as the engine counts it.
    pub size: u64,
    /// Number of layers.
    pub layers: usize,
}

/// Credentials for a registry. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Account name.
    pub username: String,
    /// Password or token; never printed.
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A container to create.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    /// What it is for: part of its name, `slim-RUN-PURPOSE`.
    pub purpose: String,
    /// Image ID or reference.
    pub image: String,
    /// How it runs.
    pub options: RunOptions,
    /// Keep stdin open for us until we close it (OpenStdin, StdinOnce, AttachStdin).
    pub stdin: bool,
    /// Turn the image's HEALTHCHECK off (we run it ourselves, or not at all).
    pub disable_healthcheck: bool,
    /// A named volume of ours mounted at a path: (volume name from [`Engine::create_volume`], path).
    pub volume: Option<(String, String)>,
    /// Do not store its log: we read it from the attached streams.
    pub no_log: bool,
    /// The engine removes it when it exits, also when we are gone by then.
    pub auto_remove: bool,
}

impl ContainerSpec {
    /// A container that runs this executable out of `volume` (mounted at [`SENSOR_DIR`]): it talks over its
    /// attached streams, stores no log, and goes when it ends, also when we are gone by then.
    pub fn with_program(purpose: &str, image: &str, volume: &str, options: RunOptions) -> Self {
        Self {
            purpose: purpose.to_owned(),
            image: image.to_owned(),
            options,
            stdin: true,
            disable_healthcheck: true,
            volume: Some((volume.to_owned(), SENSOR_DIR.to_owned())),
            no_log: true,
            auto_remove: true,
        }
    }
}

/// A piece of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// 1 for stdout, 2 for stderr.
    pub fd: u8,
    /// The bytes.
    pub bytes: Bytes,
}

/// A container's streams, attached before it starts so that no byte is missed.
pub struct Attached {
    /// Its stdin; `None` unless [`ContainerSpec::stdin`].
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// stdout and stderr as they come; ends when the container ends.
    pub output: BoxStream<'static, Result<Output>>,
}

/// What a command in a container gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecResult {
    /// Exit status as a shell shows it; 126 or 127 when it could not be executed.
    pub status: i32,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
    /// It was given up at its timeout.
    pub timed_out: bool,
}

/// State of a HEALTHCHECK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No result yet that counts.
    Starting,
    /// The last check passed.
    Healthy,
    /// Too many checks failed.
    Unhealthy,
}

/// State of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// `None` while it runs; exit status once it ended.
    pub exited: Option<i32>,
    /// Killed by the kernel for memory.
    pub oom_killed: bool,
    /// `None` without a healthcheck.
    pub health: Option<Health>,
    /// Its address as the engine's machine sees it. `None` without a network of its own.
    pub address: Option<IpAddr>,
    /// Its process as the engine's machine numbers it. `None` while it does not run.
    pub process: Option<u32>,
    /// It shares the network of the engine's machine (`--network host`).
    pub host_network: bool,
    /// Published ports: (container port, host port), tcp.
    pub published: Vec<(u16, u16)>,
}

/// Runs containers and stores images.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What it says of itself.
    fn info(&self) -> &EngineInfo;
    /// Looks an image up by reference or ID; `None` when it does not have it.
    async fn image(&self, reference: &str) -> Result<Option<ImageInfo>>;
    /// Pulls an image; progress is announced through the engine's monitor.
    async fn pull(&self, reference: &str, platform: Option<&str>, auth: Option<&Credentials>) -> Result<()>;
    /// The image's config document, byte for byte (its SHA-256 is the image ID where the engine's store
    /// is content-addressed by config).
    async fn image_config(&self, id: &str) -> Result<Vec<u8>>;
    /// Uncompressed bytes of each layer of an image that has this config, lowest first; `None` where the engine does not
    /// say.
    async fn layer_sizes(&self, _id: &str, _config: &ImageConfig) -> Result<Option<Vec<u64>>> {
        Ok(None)
    }
    /// The files of an image as its layers have them, where a container shows them otherwise (an ordinary user cannot
    /// give files away); `None` where it shows them as they are.
    async fn files(&self, _id: &str) -> Result<Option<Vec<(ImagePath, Entry)>>> {
        Ok(None)
    }
    /// One `docker save` archive (tar) of the image, streamed.
    async fn save(&self, id: &str) -> Result<BoxStream<'static, Result<Bytes>>>;
    /// Loads a docker-archive/OCI-layout tar. The loaded image's ID must be `expect` and is removed by
    /// `sweep` unless it was published by `tag` or was there before.
    async fn load(&self, archive: BoxStream<'static, Bytes>, expect: &str) -> Result<()>;
    /// Gives an image a reference; the image is then published: `sweep` leaves it.
    async fn tag(&self, id: &str, reference: &str) -> Result<()>;
    /// Takes a reference away, or removes an image by ID.
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// Builds a Dockerfile directory with the engine's builder; gives the image ID.
    async fn build(&self, build: &BuildSpec) -> Result<String>;
    /// Makes a volume that `sweep` removes; gives its name.
    async fn create_volume(&self, purpose: &str) -> Result<String>;
    /// Creates a container, not yet started.
    async fn create(&self, spec: &ContainerSpec) -> Result<Box<dyn Container>>;
    /// Removes what runs left whose processes are gone.
    async fn sweep_orphans(&self) -> Result<()> {
        Ok(())
    }
    /// Removes everything made through this engine that was not published. Safe to call twice.
    async fn sweep(&self) -> Result<()>;
}

/// Opens the engine that was chosen.
///
/// # Errors
/// As [`DockerEngine::connect`] and [`EmbeddedEngine::open`]; with neither, what is wrong with both.
pub async fn open(choice: &EngineChoice, monitor: Arc<dyn Monitor>) -> Result<Box<dyn Engine>> {
    let docker = match choice.kind {
        EngineKind::Embedded => return Ok(Box::new(EmbeddedEngine::open(monitor)?)),
        EngineKind::Docker => return Ok(Box::new(DockerEngine::connect(choice, monitor).await?)),
        EngineKind::Auto => DockerEngine::connect(choice, monitor.clone()).await,
    };
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let named = choice.host.is_some() || choice.context.is_some() || set("DOCKER_HOST") || set("DOCKER_CONTEXT");
    match docker {
        Ok(engine) => Ok(Box::new(engine)),
        Err(error) if !named && matches!(error.downcast_ref(), Some(EngineError::Unreachable(_))) => {
            monitor.tell(Fact::Info { text: "no container engine is reachable; the one in this program is used".into() });
            let embedded = EmbeddedEngine::open(monitor).with_context(|| format!("{error:#}; nor the one in this program"))?;
            Ok(Box::new(embedded))
        }
        Err(error) => Err(error),
    }
}

/// `--dockerfile`: what to build first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildSpec {
    /// Context directory on this machine.
    pub context: std::path::PathBuf,
    /// Dockerfile relative to the context.
    pub dockerfile: String,
    /// `--build-arg` NAME=value.
    pub args: Vec<String>,
    /// `--target` stage.
    pub target: Option<String>,
    /// Reference for the result (`--tag-fat`).
    pub tag: Option<String>,
    /// Network mode of the build.
    pub network: Option<String>,
}

/// A tar archive on its way into a container.
pub type Archive = Box<dyn AsyncRead + Send + Unpin>;

/// One container.
#[async_trait]
pub trait Container: Send + Sync {
    /// The engine's ID of it.
    fn id(&self) -> &str;
    /// Unpacks a tar archive at a directory in it, while it is read. Works before start too.
    async fn put(&self, dir: &str, archive: Archive) -> Result<()>;
    /// Reads one file from it, whole. Works before start and after the end too.
    async fn get_file(&self, path: &str) -> Result<Vec<u8>>;
    /// Attaches to its streams; call before `start`.
    async fn attach(&self) -> Result<Attached>;
    /// Starts it.
    async fn start(&self) -> Result<()>;
    /// Its state now.
    async fn state(&self) -> Result<ContainerState>;
    /// Runs a command in it as the container's user.
    async fn exec(&self, argv: &[String], timeout: Duration) -> Result<ExecResult>;
    /// Sends a signal to its PID 1.
    async fn signal(&self, signal: &str) -> Result<()>;
    /// Stops it with its own stop signal, SIGKILL after `timeout`; gives the exit status.
    async fn stop(&self, timeout: Duration) -> Result<i32>;
    /// Waits for its end; gives the exit status.
    async fn wait(&self) -> Result<i32>;
    /// Removes it with its anonymous volumes, running or not. Gone already is fine.
    async fn remove(&self) -> Result<()>;
    /// Connects to a port from within its network; `None` where the engine offers no such way.
    async fn dial(&self, _port: u16) -> Option<std::io::Result<TcpStream>> {
        None
    }
    /// The tcp sockets that listen in its network; `None` where the engine does not tell.
    async fn listeners(&self) -> Option<Vec<SocketAddr>> {
        None
    }
}
