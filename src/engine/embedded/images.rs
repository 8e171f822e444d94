//! Images: those that the embedded engine has on this machine: a directory of config documents by digest, their
//! layers unpacked, and a file of names.
//!
//! ```text
//! ROOT/images/HEX.json      the config, byte for byte: its SHA-256 is the image's ID
//! ROOT/names.json           NAME:TAG to ID; changed under ROOT/names.lock (flock(2))
//! ROOT/images/HEX.about     what is known of its files: size; owners, where the unpacked ones have others
//! ROOT/layers/...           unpacked layers, see [`crate::store::cache`]
//! ROOT/runs/RUN/            what one process has at work; ROOT/runs/RUN.lock is held as long as it lives
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::archive::{Archive, Found};
use super::plan::IdMaps;
use crate::engine::host::hex;
use crate::engine::{EngineError, ImageInfo};
use crate::image::reference::Name;
use crate::image::{Entry, ImageConfig, ImagePath, Reference};
use crate::store::merge::Merge;
use crate::store::unpack::Form;
use crate::store::LayerCache;

/// Names by which images are known.
type Names = BTreeMap<String, String>;

/// The images of a cache directory.
pub struct Images {
    root: PathBuf,
    layers: LayerCache,
    /// Files belong to whom they can, not to whom they should.
    foreign: bool,
}

impl Images {
    /// Opens the images of a directory, which is made where it is missing. `maps` are the ids that an ordinary user
    /// has to give to files; `None` for root, who has all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(root: &Path, maps: Option<&IdMaps>) -> Result<Self> {
        let make = || fs::create_dir_all(root.join("images"));
        make().with_context(|| format!("cannot write to the cache {}; set SLIM_CACHE_DIR to a directory that can be written", root.display()))?;
        let layers = match maps {
            None => LayerCache::open_as(root, Form::Root),
            Some(maps) if maps.by_helpers => LayerCache::open_as(root, Form::User),
            Some(_) => LayerCache::open_as(&root.join("one-id"), Form::User),
        };
        Ok(Self { root: root.to_owned(), layers: layers?, foreign: maps.is_some() })
    }

    /// The images of a directory that need not be there, to be listed and forgotten.
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), layers: LayerCache::at(root.join("layers"), Form::Root), foreign: false }
    }

    /// Takes an image of an archive in; gives whether it was not here before.
    ///
    /// # Errors
    /// When the archive is not what it says, or there is no room.
    pub fn add(&self, archive: &Archive, image: &Found) -> Result<bool> {
        let config = ImageConfig::parse(&image.config)?;
        for (number, diff_id) in config.diff_ids().iter().enumerate() {
            self.layers.layer(diff_id, || archive.layer(image, number))?;
        }
        let path = self.config_path(&image.id())?;
        let is_new = !path.exists();
        self.write(&path.with_extension("about"), &serde_json::to_vec(&self.about(archive, image, &config)?)?)?;
        if is_new {
            self.write(&path, &image.config)?;
        }
        Ok(is_new)
    }

    /// Measured by who may read the layers.
    fn about(&self, archive: &Archive, image: &Found, config: &ImageConfig) -> Result<About> {
        let (mut about, mut merge) = (About::default(), Merge::new());
        for (number, diff_id) in config.diff_ids().iter().enumerate() {
            about.sizes.push(self.layers.bytes(diff_id)?);
            if self.foreign {
                merge.layer(archive.layer(image, number)?)?;
            }
        }
        about.size = about.sizes.iter().sum();
        if self.foreign {
            about.files = merge.tree().iter().map(|(path, entry)| (path.clone(), entry.clone())).collect();
        }
        Ok(about)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.root.join("images")).context("make a file in the cache")?;
        file.write_all(bytes).context("write to the cache")?;
        file.persist(path).with_context(|| format!("make {}", path.display()))?;
        Ok(())
    }

    fn read_about(&self, id: &str) -> Result<About> {
        let path = self.config_path(id)?.with_extension("about");
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("understand {}", path.display()))
    }

    /// The files of an image as its layers have them, where the unpacked ones may differ; `None` where they do not.
    ///
    /// # Errors
    /// When the image is gone.
    pub fn files(&self, id: &str) -> Result<Option<Vec<(ImagePath, Entry)>>> {
        if !self.foreign {
            return Ok(None);
        }
        Ok(Some(self.read_about(id)?.files))
    }

    /// Bytes of each layer, lowest first; `None` where nobody measured them.
    ///
    /// # Errors
    /// When the image is gone.
    pub fn layer_sizes(&self, id: &str) -> Result<Option<Vec<u64>>> {
        Ok(Some(self.read_about(id)?.sizes).filter(|sizes| !sizes.is_empty()))
    }

    /// The unpacked layers of an image, lowest first.
    ///
    /// # Errors
    /// When one is gone.
    pub fn layers(&self, id: &str) -> Result<Vec<PathBuf>> {
        let config = ImageConfig::parse(&self.config(id)?)?;
        let layer = |diff_id: &String| {
            let gone = || format!("the layer {diff_id} of {id} is gone from the cache; load the image again");
            self.layers.get(diff_id)?.with_context(gone)
        };
        config.diff_ids().iter().map(layer).collect()
    }

    pub(super) fn config_path(&self, id: &str) -> Result<PathBuf> {
        let digits = id.strip_prefix("sha256:").filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.with_context(|| format!("{id} is no image ID"))?;
        Ok(self.root.join("images").join(format!("{digits}.json")))
    }

    /// The config document of an image, by ID.
    ///
    /// # Errors
    /// When there is no such image, or the file was changed.
    pub fn config(&self, id: &str) -> Result<Vec<u8>> {
        let path = self.config_path(id)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(id)),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        match format!("sha256:{}", hex(&Sha256::digest(&bytes))) == id {
            true => Ok(bytes),
            false => bail!("{} was changed: its digest is another; remove it", path.display()),
        }
    }

    /// The ID that a reference means; `None` when nothing has it.
    ///
    /// # Errors
    /// When it makes no sense, or means several images.
    pub fn resolve(&self, reference: &str) -> Result<Option<String>> {
        match Reference::parse(reference).map_err(|error| EngineError::Refused(error.to_string()))? {
            Reference::Id(digits) => self.by_digits(&digits),
            Reference::Name(name) => match (&name.digest, self.names()?.get(&key(&name))) {
                (None, Some(id)) => Ok(Some(id.clone())),
                // As the docker command does: what looks like a name may be the beginning of an ID.
                (None, None) if name.tag.is_none() && is_digits(reference) => self.by_digits(reference),
                (_, _) => Ok(None),
            },
        }
    }

    fn by_digits(&self, digits: &str) -> Result<Option<String>> {
        let mut found = self.ids()?.into_iter().filter(|id| id["sha256:".len()..].starts_with(digits));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(EngineError::Refused(format!("{digits} is the beginning of several image IDs")).into()),
            (first, _) => Ok(first),
        }
    }

    /// The IDs of all images.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn ids(&self) -> Result<Vec<String>> {
        let dir = self.root.join("images");
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            ids.extend(name.strip_suffix(".json").map(|digits| format!("sha256:{digits}")));
        }
        ids.sort();
        Ok(ids)
    }

    /// What is known of an image; `None` when there is no such one.
    ///
    /// # Errors
    /// When the reference makes no sense.
    pub fn info(&self, reference: &str) -> Result<Option<ImageInfo>> {
        let Some(id) = self.resolve(reference)? else { return Ok(None) };
        let config = match self.config(&id) {
            Ok(bytes) => ImageConfig::parse(&bytes)?,
            Err(error) if super::is_not_found(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(ImageInfo {
            tags: self.names()?.into_iter().filter(|(_, named)| *named == id).map(|(name, _)| name).collect(),
            repo_digests: Vec::new(),
            arch: config.architecture().to_owned(),
            os: config.os().to_owned(),
            size: self.read_about(&id)?.size,
            layers: config.diff_ids().len(),
            id,
        }))
    }

    /// Gives an image a name, taking it from the image that had it.
    ///
    /// # Errors
    /// When there is no such image, or the reference cannot be a name.
    pub fn tag(&self, id: &str, reference: &str) -> Result<()> {
        let name = match Reference::parse(reference).map_err(|error| EngineError::Refused(error.to_string()))? {
            Reference::Name(name) if name.digest.is_none() => name,
            Reference::Name(_) | Reference::Id(_) => {
                let text = format!("{reference} cannot be a tag: give NAME:TAG without a digest");
                return Err(EngineError::Refused(text).into());
            }
        };
        let id = self.resolve(id)?.ok_or_else(|| missing(id))?;
        self.change(|names| {
            names.insert(key(&name), id);
        })
    }

    /// Takes a name away; gives whether there was one.
    ///
    /// # Errors
    /// When the names cannot be written.
    pub fn untag(&self, reference: &str) -> Result<bool> {
        let Ok(Reference::Name(name)) = Reference::parse(reference) else { return Ok(false) };
        let mut had = false;
        self.change(|names| had = names.remove(&key(&name)).is_some())?;
        Ok(had)
    }

    /// Forgets an image and its names. Its layers stay: they may be another image's too.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn remove(&self, id: &str) -> Result<()> {
        let _lock = self.lock_names()?;
        self.forget(id, true).map(drop)
    }

    /// The same for who has the lock of the names; gives whether it is gone. One with a name goes only with `named`.
    pub(super) fn forget(&self, id: &str, named: bool) -> Result<bool> {
        let mut names = self.names()?;
        let all = names.len();
        names.retain(|_, other| other != id);
        if names.len() < all {
            if !named {
                return Ok(false);
            }
            self.write_names(&names)?;
        }
        let path = self.config_path(id)?;
        let _ = fs::remove_file(path.with_extension("about"));
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("remove the image's config"),
            _ => Ok(true),
        }
    }

    /// The names that images have.
    pub(super) fn names(&self) -> Result<Names> {
        let path = self.root.join("names.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("understand {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Names::new()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Names)) -> Result<()> {
        let _lock = self.lock_names()?;
        let mut names = self.names()?;
        edit(&mut names);
        self.write_names(&names)
    }

    /// As long as it is held, no image gets or loses a name, and none is forgotten.
    pub(super) fn lock_names(&self) -> Result<Flock<File>> {
        lock(&self.root.join("names.lock"), FlockArg::LockExclusive)?.context("lock the names")
    }

    fn write_names(&self, names: &Names) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.root).context("make a file in the cache")?;
        file.write_all(&serde_json::to_vec_pretty(names)?).context("write the names")?;
        file.persist(self.root.join("names.json")).context("write the names")?;
        Ok(())
    }
}

/// What is known of an image's files.
#[derive(Debug, Default, Serialize, Deserialize)]
struct About {
    size: u64,
    /// Of each layer; empty in what older versions wrote.
    #[serde(default)]
    sizes: Vec<u64>,
    /// As the layers have them; empty for root, whose unpacked ones are the same.
    files: Vec<(ImagePath, Entry)>,
}

fn missing(id: &str) -> anyhow::Error {
    EngineError::NotFound(format!("the engine has no image {id}")).into()
}

fn is_digits(text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn key(name: &Name) -> String {
    format!("{}:{}", name.familiar_repository(), name.tag.as_deref().unwrap_or("latest"))
}

/// Takes a lock file; `None` when another process has it and `how` says not to wait.
///
/// # Errors
/// When it cannot be made.
pub(super) fn lock(path: &Path, how: FlockArg) -> Result<Option<Flock<File>>> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}
