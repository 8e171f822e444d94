//! Layout: an OCI layout directory (OCI image-spec `image-layout.md`) that gets one more image.
//!
//! Blobs come first, each under a temporary name until it is whole; then `index.json` is replaced by rename(2). A
//! directory that is new gets its name at the very end. Two writers wait for each other (flock(2) on the
//! directory).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};

use super::digest::{Digest, Verified};
use super::limits;
use super::manifest::{Descriptor, Document, Index, REF_NAME, media};
use super::outgoing::Bundle;
use super::place::Place;
use crate::exit::Hint;

/// What `oci-layout` holds.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Whether an index may give way to a single image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// An image takes the place of an image, an index that of either.
    Alike,
    /// Anything takes the place of anything (`--force`).
    Anything,
}

impl Replace {
    /// # Errors
    /// When an index would give way to a single image.
    pub fn check(self, old: &str, new: &str, shown: &str) -> Result<()> {
        let is_index = |kind: &str| [media::OCI_INDEX, media::DOCKER_LIST].contains(&kind);
        match self == Self::Alike && is_index(old) && !is_index(new) {
            true => Err(anyhow!("{shown} is an index of several platforms, and would become one image")).context(Hint::new(
                "name the platforms with --platform A,B, choose another tag, or --force",
            )),
            false => Ok(()),
        }
    }
}

/// Puts an image or index into a layout, which is made where it is missing. Other tags stay.
///
/// # Errors
/// When something else is there, or it cannot be written; what was there stays as it was.
pub fn write(dir: &Path, tag: Option<&str>, bundle: &Bundle, replace: Replace) -> Result<()> {
    let what = || format!("write the OCI layout {}", dir.display());
    let is_new = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(what),
    };
    if !is_new {
        if !dir.join("index.json").is_file() {
            return Err(anyhow!("{} is neither empty nor an OCI layout", dir.display())).context(Hint::new("name another directory"));
        }
        return add(dir, tag, bundle, replace).with_context(what);
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(what)?;
    let made = tempfile::Builder::new().prefix(".slim-").tempdir_in(parent).with_context(what)?;
    add(made.path(), tag, bundle, replace).with_context(what)?;
    fs::set_permissions(made.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).with_context(what)?;
    // An empty directory gives way to it; one that another writer filled meanwhile does not.
    match fs::rename(made.path(), dir) {
        Ok(()) => {
            let _ = made.keep();
            Ok(())
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => add(dir, tag, bundle, replace).with_context(what),
        Err(error) => Err(error).with_context(what),
    }
}

fn add(dir: &Path, tag: Option<&str>, bundle: &Bundle, replace: Replace) -> Result<()> {
    let lock = File::open(dir).context("open it")?;
    let _alone = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).context("lock it")?;
    let (raw, descriptor) = bundle.top();
    let index = with(dir, tag, descriptor, replace)?;
    for image in &bundle.images {
        for layer in &image.layers {
            blob(dir, &layer.descriptor, || layer.open())?;
        }
        let (config, described) = &image.config;
        blob(dir, described, || bytes(config))?;
        blob(dir, &image.descriptor, || bytes(&image.manifest))?;
    }
    blob(dir, descriptor, || bytes(raw))?;
    place(dir, "oci-layout", LAYOUT)?;
    place(dir, "index.json", &index)
}

/// Checks that what has this tag, if anything has, may give way to what comes.
///
/// # Errors
/// When an index would give way to a single image.
pub fn gives_way(dir: &Path, tag: Option<&str>, new: &Descriptor, replace: Replace) -> Result<()> {
    let old = Place::Dir(dir.to_owned()).read("index.json", limits::MANIFEST_BYTES)?;
    match old.map(|raw| Document::parse(&raw)) {
        Some(Ok(Document::Index(index))) => check(&index, dir, tag, new, replace),
        // What is no layout is told by who writes to it.
        Some(Ok(Document::Manifest(_)) | Err(_)) | None => Ok(()),
    }
}

fn check(index: &Index, dir: &Path, tag: Option<&str>, new: &Descriptor, replace: Replace) -> Result<()> {
    let shown = tag.map_or_else(|| dir.display().to_string(), |tag| format!("{}:{tag}", dir.display()));
    let mut same = index.manifests.iter().filter(|entry| entry.annotation(REF_NAME) == tag);
    same.try_for_each(|old| replace.check(&old.media_type, &new.media_type, &shown))
}

/// The bytes of `index.json` when the image is in it.
fn with(dir: &Path, tag: Option<&str>, new: &Descriptor, replace: Replace) -> Result<Vec<u8>> {
    let old = Place::Dir(dir.to_owned()).read("index.json", limits::MANIFEST_BYTES)?;
    let mut index = match old.map(|raw| Document::parse(&raw)).transpose().context("read its index.json")? {
        Some(Document::Index(index)) => index,
        Some(Document::Manifest(_)) => bail!("its index.json is no index"),
        None => Index::new(Vec::new()),
    };
    check(&index, dir, tag, new, replace)?;
    index.manifests.retain(|entry| entry.annotation(REF_NAME) != tag);
    index.manifests.push(entry(new, tag));
    serde_json::to_vec(&index).context("write index.json")
}

/// A descriptor as it stands in `index.json`.
pub fn entry(descriptor: &Descriptor, tag: Option<&str>) -> Descriptor {
    let mut entry = descriptor.clone();
    entry.annotations = tag.map(|tag| [(REF_NAME.to_owned(), tag.to_owned())].into());
    entry
}

fn bytes(bytes: &[u8]) -> Result<Box<dyn Read + Send>> {
    Ok(Box::new(io::Cursor::new(bytes.to_vec())))
}

fn blob(dir: &Path, descriptor: &Descriptor, open: impl FnOnce() -> Result<Box<dyn Read + Send>>) -> Result<()> {
    let digest = descriptor.digest()?;
    let path = dir.join(digest.blob_path());
    if is_whole(&path, &digest, descriptor.size) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(dir);
    fs::create_dir_all(parent).context("make its blobs directory")?;
    let mut file = tempfile::Builder::new().prefix(".slim-").tempfile_in(parent).context("make a file in it")?;
    let mut stream = Verified::new(open()?, digest.clone(), Some(descriptor.size));
    io::copy(&mut stream, &mut file).with_context(|| format!("write {digest}"))?;
    readable(file.as_file())?;
    file.persist(&path).with_context(|| format!("write {digest}"))?;
    Ok(())
}

/// Whether a blob is there already, and undamaged.
fn is_whole(path: &Path, digest: &Digest, size: u64) -> bool {
    let Ok(file) = File::open(path) else { return false };
    io::copy(&mut Verified::new(file, digest.clone(), Some(size)), &mut io::sink()).is_ok()
}

fn place(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = tempfile::Builder::new().prefix(".slim-").tempfile_in(dir).context("make a file in it")?;
    file.write_all(bytes).with_context(|| format!("write {name}"))?;
    readable(file.as_file())?;
    file.persist(dir.join(name)).with_context(|| format!("write {name}"))?;
    Ok(())
}

fn readable(file: &File) -> Result<()> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).context("make it readable")
}
