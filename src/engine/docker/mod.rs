//! Docker: an engine that speaks the Docker Engine API (Docker, and podman's service of the same shape).
//!
//! Everything it makes carries the label `slim.run=RUN` and, where the engine lets us choose, a name
//! `slim-RUN-PURPOSE`, so that two builds at once never meet and leftovers are recognised.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bollard::Docker;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::error::EngineError;
use super::host::EngineChoice;
use super::{BuildSpec, Container, ContainerSpec, Credentials, Engine, EngineInfo, ImageInfo};
use crate::image::ImageConfig;
use crate::progress::Monitor;

mod build;
pub(super) mod connect;
mod container;
mod context;
mod create;
mod ignore;
mod images;
mod ledger;
mod orphans;
mod pull;
mod remove;
mod run;
mod streams;
mod sweep;

pub(crate) use connect::{go_arch, run_id};
use ledger::Ledger;

/// Label that everything of one run carries.
pub const RUN_LABEL: &str = "slim.run";

/// A Docker engine, connected.
#[derive(Clone)]
pub struct DockerEngine {
    core: Arc<Core>,
}

/// What the engine and its containers share.
struct Core {
    /// For calls that answer at once.
    api: Docker,
    /// For calls that take as long as they take: loads, builds, waits.
    slow: Docker,
    info: EngineInfo,
    /// Storage driver, part of the path of the image store.
    driver: String,
    /// Random, in the name of everything we make.
    run: String,
    counter: AtomicU32,
    ledger: Ledger,
    /// Loaded images whose ID in this engine is not the digest of their config (containerd image store).
    aliases: std::sync::Mutex<HashMap<String, String>>,
    monitor: Arc<dyn Monitor>,
}

impl DockerEngine {
    /// Connects to the engine that was chosen.
    ///
    /// # Errors
    /// [`EngineError::Unreachable`] when nobody answers, [`EngineError::WrongPlatform`] when its containers
    /// are not Linux or not of our architecture.
    pub async fn connect(choice: &EngineChoice, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let core = connect::connect(choice, monitor).await?;
        Ok(Self { core: Arc::new(core) })
    }

    /// The random part of the names of everything this engine makes for us.
    pub fn run_id(&self) -> &str {
        &self.core.run
    }
}

impl Core {
    /// A name that nobody else has: `slim-RUN-PURPOSE`, numbered from the second of its kind on.
    fn name(&self, purpose: &str) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let good = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
        let purpose: String = purpose.chars().map(good).take(40).collect();
        format!("slim-{}-{purpose}-{number}", self.run)
    }

    fn labels(&self) -> HashMap<String, String> {
        let owner = orphans::Owner::here().map(|owner| (orphans::OWNER_LABEL.to_owned(), owner.to_string()));
        owner.into_iter().chain([(RUN_LABEL.to_owned(), self.run.clone())]).collect()
    }
}

/// A failed API call as an error of ours, with what was being done.
fn failed(what: impl Into<String>) -> impl Fn(bollard::errors::Error) -> anyhow::Error {
    let what = what.into();
    move |error| anyhow::Error::new(EngineError::from_api(error)).context(what.clone())
}

/// Whether an error says that the engine does not have the thing (any more).
fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<EngineError>().is_some_and(EngineError::is_not_found)
}

/// Time for a call that takes as long as it takes.
const SLOW: Duration = Duration::from_secs(6 * 3600);

#[async_trait]
impl Engine for DockerEngine {
    fn info(&self) -> &EngineInfo {
        &self.core.info
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageInfo>> {
        self.core.image(reference).await
    }

    async fn pull(&self, reference: &str, platform: Option<&str>, auth: Option<&Credentials>) -> Result<()> {
        self.core.pull(reference, platform, auth).await
    }

    async fn image_config(&self, id: &str) -> Result<Vec<u8>> {
        self.core.image_config(id).await
    }

    async fn layer_sizes(&self, id: &str, config: &ImageConfig) -> Result<Option<Vec<u64>>> {
        self.core.layer_sizes(id, config).await
    }

    async fn save(&self, id: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.core.save(id)
    }

    async fn load(&self, archive: BoxStream<'static, Bytes>, expect: &str) -> Result<()> {
        let (core, expect) = (self.core.clone(), expect.to_owned());
        let archive = self.core.ledger.until_given_up(archive);
        self.core.ledger.make(async move { core.load(archive, &expect).await }).await
    }

    async fn tag(&self, id: &str, reference: &str) -> Result<()> {
        self.core.tag(id, reference).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.core.remove_image(reference).await
    }

    async fn build(&self, build: &BuildSpec) -> Result<String> {
        let (core, build) = (self.core.clone(), build.clone());
        self.core.ledger.make_or_give_up(async move { core.build(build).await }).await
    }

    async fn create_volume(&self, purpose: &str) -> Result<String> {
        let name = self.core.name(purpose);
        self.core.make_volume(name.clone()).await?;
        Ok(name)
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Box<dyn Container>> {
        let name = self.core.name(&spec.purpose);
        let container = create::create(&self.core, &name, spec);
        let container = container.await.with_context(|| format!("create the {} container", spec.purpose))?;
        Ok(Box::new(container))
    }

    async fn sweep_orphans(&self) -> Result<()> {
        orphans::sweep(&self.core).await
    }

    async fn sweep(&self) -> Result<()> {
        sweep::sweep(&self.core).await
    }
}
