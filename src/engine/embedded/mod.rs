//! Embedded: an engine without a daemon. Images lie in a directory of this machine, their layers unpacked once;
//! containers are made by libcontainer, each in a process of its own ([`shim`]).

pub mod archive;
pub mod cache;
mod container;
mod copy;
mod create;
mod files;
mod images;
mod ids;
pub mod inside;
mod plan;
mod profile;
mod program;
pub mod shim;
pub mod survey;
mod spec;
mod wire;

pub use plan::{EXEC_ROLE, ROLE};
pub use program::use_program;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use nix::fcntl::{Flock, FlockArg};

use super::docker::go_arch;
use super::error::EngineError;
use super::{BuildSpec, Container, ContainerSpec, Credentials, Engine, EngineInfo, ImageInfo};
use crate::image::{Entry, ImageConfig, ImagePath};
use crate::progress::Monitor;
use crate::store::cache::take;
use archive::Archive;
use plan::IdMaps;
use container::Held;
use images::{Images, lock};

/// What it calls itself.
pub const NAME: &str = "embedded";

/// The engine in this program.
pub struct EmbeddedEngine {
    info: EngineInfo,
    images: Arc<Images>,
    root: PathBuf,
    /// The ids that an ordinary user has to give; `None` for root.
    maps: Option<IdMaps>,
    /// What this process has at work.
    dir: PathBuf,
    /// Held as long as this process lives.
    _lock: Flock<File>,
    run: String,
    counter: AtomicU32,
    made: Mutex<Made>,
    monitor: Arc<dyn Monitor>,
}

/// What the sweep removes.
#[derive(Default)]
struct Made {
    containers: Vec<Arc<Held>>,
    volumes: BTreeSet<String>,
    images: BTreeSet<String>,
}

impl EmbeddedEngine {
    /// Opens the engine in its cache directory: SLIM_CACHE_DIR, else `slim` in XDG_CACHE_HOME or `~/.cache`.
    ///
    /// # Errors
    /// When there is no such directory, or it cannot be written.
    pub fn open(monitor: Arc<dyn Monitor>) -> Result<Self> {
        Self::open_at(&cache_dir()?, monitor)
    }

    /// Opens the engine in a directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open_at(root: &Path, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let maps = ids::maps()?;
        let images = Arc::new(Images::open(root, maps.as_ref())?);
        // Containers are told of it from other directories.
        let root = root.canonicalize().with_context(|| format!("find {}", root.display()))?;
        let runs = root.join("runs");
        fs::create_dir_all(&runs).with_context(|| format!("make {}", runs.display()))?;
        fs::set_permissions(&runs, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        sweep_dead(&runs, maps.as_ref())?;
        let run = super::docker::run_id()?;
        // Waits for a sweep that takes the new file for one of a dead process, and makes it again.
        let lock = take(&runs.join(format!("{run}.lock")), FlockArg::LockExclusive).context("lock the name of this run")?;
        let dir = runs.join(&run);
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self {
            info: Self::about(&root),
            images,
            root,
            maps,
            dir,
            _lock: lock,
            run,
            counter: AtomicU32::new(1),
            made: Mutex::default(),
            monitor,
        })
    }

    /// What it says of itself with its cache in this directory.
    fn about(root: &Path) -> EngineInfo {
        EngineInfo {
            name: NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            os: "linux".into(),
            arch: go_arch(std::env::consts::ARCH).into(),
            host: format!("embedded:{}", root.display()),
            local: true,
            root_dir: None,
        }
    }

    /// A name that nobody else has: `slim-RUN-PURPOSE-N`.
    fn name(&self, purpose: &str) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let good = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
        let purpose: String = purpose.chars().map(good).take(40).collect();
        format!("slim-{}-{purpose}-{number}", self.run)
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn volume_dir(&self, name: &str) -> PathBuf {
        self.dir.join("volumes").join(name)
    }

    fn make_volume(&self, name: &str) -> Result<PathBuf> {
        let dir = self.volume_dir(name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        self.made().volumes.insert(name.to_owned());
        Ok(dir)
    }

    fn existing(&self, reference: &str) -> Result<String> {
        let id = self.images.resolve(reference)?;
        id.ok_or_else(|| EngineError::NotFound(format!("the engine has no image {reference}")).into())
    }

    /// A file that says that this run needs an image.
    fn hold(&self, id: &str) -> Result<()> {
        let dir = self.dir.join("holds");
        fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join(id), b"")).context("write to the cache")
    }

    /// Whether another run needs an image.
    fn is_held(&self, id: &str) -> bool {
        let runs = self.dir.parent().and_then(|runs| fs::read_dir(runs).ok());
        runs.into_iter().flatten().flatten().any(|run| run.path() != self.dir && run.path().join("holds").join(id).exists())
    }
}

/// SLIM_CACHE_DIR, else `slim` in XDG_CACHE_HOME, else in `~/.cache`.
///
/// # Errors
/// When none of these variables nor HOME is set.
pub fn cache_dir() -> Result<PathBuf> {
    crate::store::cache::default_root(|name| std::env::var(name).ok())
}

/// Removes what processes left that ended before they could.
fn sweep_dead(runs: &Path, maps: Option<&IdMaps>) -> Result<()> {
    for entry in fs::read_dir(runs).with_context(|| format!("read {}", runs.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "lock")
            && let Some(_dead) = lock(&path, FlockArg::LockExclusiveNonblock)?
        {
            let dir = path.with_extension("");
            inside::remove(&dir, maps).context("take away what a dead process left")?;
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether an error says that the engine does not have the thing.
fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<EngineError>().is_some_and(EngineError::is_not_found)
}

fn signal_number(text: &str) -> Result<i32> {
    crate::sys::process::signal_number(text).with_context(|| format!("there is no signal {text:?}"))
}

#[async_trait]
impl Engine for EmbeddedEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageInfo>> {
        if let Some(id) = self.images.resolve(reference)? {
            let _no_prune = self.images.lock_names()?;
            self.hold(&id)?;
            // Holds its layers, too. Where one is gone, whoever runs the image says so.
            let _ = self.images.layers(&id);
        }
        self.images.info(reference)
    }

    async fn pull(&self, reference: &str, _platform: Option<&str>, _auth: Option<&Credentials>) -> Result<()> {
        bail!(EngineError::Refused(format!("the embedded engine does not pull; to read {reference} from its registry, write docker://{reference}")))
    }

    async fn image_config(&self, id: &str) -> Result<Vec<u8>> {
        self.images.config(&self.existing(id)?)
    }

    async fn layer_sizes(&self, id: &str, _config: &ImageConfig) -> Result<Option<Vec<u64>>> {
        self.images.layer_sizes(&self.existing(id)?)
    }

    async fn save(&self, id: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let why = "has its layers unpacked, and those give their bytes back to nobody";
        bail!(EngineError::Refused(format!("the embedded engine {why}: copy {id} from where it came from, or write it with `slim build -o`")))
    }

    async fn load(&self, mut archive: BoxStream<'static, Bytes>, expect: &str) -> Result<()> {
        let mut file = tempfile::tempfile_in(&self.dir).context("make a file in the cache")?;
        while let Some(bytes) = archive.next().await {
            file.write_all(&bytes).context("write the archive to the cache")?;
        }
        file.rewind().context("rewind the archive")?;
        self.hold(expect)?;
        if self.maps.is_none() {
            survey::can_unpack()?;
        }
        let (images, wanted) = (self.images.clone(), expect.to_owned());
        let (root, maps) = (self.root.clone(), self.maps.clone());
        let take = move || match maps {
            None => {
                let archive = Archive::open(file)?;
                images.add(&archive, &archive.image(&wanted)?)
            }
            Some(maps) => {
                let is_new = images.config(&wanted).is_err();
                let load = || {
                    let mut archive = file.try_clone()?;
                    archive.rewind()?;
                    inside::load(&root, &maps, archive, &wanted)
                };
                load()?;
                // Between the other process's end and our own locks the layers may be pruned: then once more.
                if images.layers(&wanted).is_err() {
                    load()?;
                    images.layers(&wanted)?;
                }
                Ok(is_new)
            }
        };
        let is_new = tokio::task::spawn_blocking(take).await.context("load an image")?.context("load the image")?;
        if is_new {
            self.made().images.insert(expect.to_owned());
        }
        Ok(())
    }

    async fn files(&self, id: &str) -> Result<Option<Vec<(ImagePath, Entry)>>> {
        self.images.files(&self.existing(id)?)
    }

    async fn tag(&self, id: &str, reference: &str) -> Result<()> {
        self.images.tag(id, reference).with_context(|| format!("tag {id} as {reference}"))
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let id = self.existing(reference)?;
        let is_id = id.ends_with(reference) || id == reference;
        if !is_id && self.images.untag(reference)? && self.images.info(&id)?.is_some_and(|info| !info.tags.is_empty()) {
            return Ok(());
        }
        self.images.remove(&id)
    }

    async fn build(&self, _build: &BuildSpec) -> Result<String> {
        let text = "the embedded engine builds no Dockerfile; build it elsewhere and name the result (docker-archive:FILE, oci:DIR, docker://NAME), or use --engine docker";
        bail!(EngineError::Refused(text.into()))
    }

    async fn create_volume(&self, purpose: &str) -> Result<String> {
        let name = self.name(purpose);
        self.make_volume(&name)?;
        Ok(name)
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Box<dyn Container>> {
        let container = create::create(self, spec).await;
        let container = container.with_context(|| format!("create the {} container", spec.purpose))?;
        Ok(Box::new(container))
    }

    async fn sweep(&self) -> Result<()> {
        let made = std::mem::take(&mut *self.made());
        let mut left = Vec::new();
        for held in made.containers {
            if let Err(error) = held.remove().await {
                left.push(format!("{}: {error:#}", held.name));
            }
        }
        let _ = fs::remove_dir_all(self.dir.join("holds"));
        for id in made.images {
            let unnamed = self.images.info(&id)?.is_some_and(|info| info.tags.is_empty());
            if unnamed && !self.is_held(&id) {
                self.images.remove(&id)?;
            }
        }
        for name in made.volumes {
            let dir = self.volume_dir(&name);
            if let Err(error) = inside::remove(&dir, self.maps.as_ref()) {
                left.push(format!("{}: {error:#}", dir.display()));
            }
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(anyhow!("left behind by the embedded engine: {}", left.join("; "))),
        }
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        // What resists is removed by the next engine that opens here.
        let _ = inside::remove(&self.dir, self.maps.as_ref());
        let _ = fs::remove_file(self.dir.with_extension("lock"));
    }
}

/// The image that a file holds, and the file as a stream for [`Engine::load`].
///
/// # Errors
/// When it holds none, or several.
pub fn image_of(file: &Path) -> Result<(archive::Found, File)> {
    let open = || File::open(file).with_context(|| format!("open {}", file.display()));
    let archive = Archive::open(open()?)?;
    let mut found = archive.images().with_context(|| format!("read {}", file.display()))?;
    match (found.pop(), found.is_empty()) {
        (Some(image), true) => Ok((image, open()?)),
        (None, _) => bail!("{} holds no image", file.display()),
        (Some(_), false) => bail!("{} holds several images; save one of them", file.display()),
    }
}

/// What a run of an image uses of its config.
fn parse(config: &[u8]) -> Result<ImageConfig> {
    ImageConfig::parse(config)
}
