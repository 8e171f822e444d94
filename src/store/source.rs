//! Source: what a transport names, open for reading: one image, or an index of several.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::digest::Digest;
use super::image::Image;
use super::limits;
use super::manifest::{Descriptor, Document, Index, Manifest, Platform, REF_NAME};
use super::place::{Place, TarFile};
use super::registry::{Access, Remote};
use super::transport::Transport;
use crate::exit::Hint;
use crate::image::reference::Reference;

/// Something that can be read.
pub struct Source {
    place: Place,
    remote: Option<Arc<Remote>>,
    top: Top,
}

enum Top {
    Manifest(Box<Manifest>, Vec<u8>, Descriptor),
    Index(Index, Vec<u8>, Descriptor),
    Files(Saved),
}

/// One entry of a docker-archive's `manifest.json` (moby, `image/tarexport`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Source {
    /// Opens what a transport names. Engines are not asked here.
    ///
    /// # Errors
    /// When there is nothing of that name, or it is malformed.
    pub async fn open(transport: &Transport, access: &Access) -> Result<Self> {
        let opened = match transport {
            Transport::OciDir(dir, tag) => layout_dir(dir).and_then(|place| Self::layout(place, tag.as_deref())),
            Transport::OciArchive(file, tag) => tar(file).and_then(|place| Self::layout(place, tag.as_deref())),
            Transport::DockerArchive(file, name) => tar(file).and_then(|place| Self::saved(place, name.as_deref())),
            Transport::Registry(name) => Self::registry(Arc::new(Remote::new(name, access)?)).await,
            Transport::Daemon(_) | Transport::Podman(_) => bail!("{transport} is in an engine"),
        };
        opened.with_context(|| format!("read {transport}"))
    }

    /// An archive that an engine saved into a file.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn of_save(file: std::fs::File, name: &str) -> Result<Self> {
        let tar = TarFile::new(Path::new(name), file)?;
        Self::saved(Place::Tar(Arc::new(tar)), None).with_context(|| format!("read {name} as the engine saved it"))
    }

    fn layout(place: Place, tag: Option<&str>) -> Result<Self> {
        let hint = || Hint::new("an OCI layout has a file index.json; is it docker-archive: instead?");
        let raw = place.read("index.json", limits::MANIFEST_BYTES)?;
        let raw = raw.ok_or_else(|| anyhow!("{place} has no index.json")).with_context(hint)?;
        let Document::Index(index) = Document::parse(&raw).context("read index.json")? else {
            bail!("index.json is no index");
        };
        // Without names and with platforms, the file itself is the index of one image.
        let unnamed = |entry: &Descriptor| entry.annotation(REF_NAME).is_none() && entry.platform.is_some();
        if tag.is_none() && index.manifests.len() > 1 && index.manifests.iter().all(unnamed) {
            let descriptor = Descriptor::of(super::manifest::media::OCI_INDEX, &raw);
            return Ok(Self { place, remote: None, top: Top::Index(index, raw, descriptor) });
        }
        let entry = named(&index, tag, &place)?.clone();
        let raw = blob(&place, &entry)?;
        Ok(Self { place, remote: None, top: Top::of(raw, entry)? })
    }

    fn saved(place: Place, name: Option<&str>) -> Result<Self> {
        let hint = || Hint::new("`docker save` writes a manifest.json; is it oci-archive: instead?");
        let raw = place.read("manifest.json", limits::MANIFEST_BYTES)?;
        let raw = raw.ok_or_else(|| anyhow!("{place} has no manifest.json")).with_context(hint)?;
        let list: Vec<Saved> = serde_json::from_slice(&raw).context("read manifest.json")?;
        let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
        let normal = |tag: &str| Reference::parse(tag).map(|reference| reference.normalised()).ok();
        let mut found = list.iter().filter(|saved| match name {
            Some(name) => tags(saved).iter().any(|tag| normal(tag) == normal(name)),
            None => true,
        });
        let all = || list.iter().flat_map(tags).collect::<Vec<_>>().join(", ");
        match (found.next(), found.next()) {
            (Some(saved), None) => Ok(Self { top: Top::Files(saved.clone()), place, remote: None }),
            (Some(_), Some(_)) => Err(anyhow!("{place} holds several images: {}", all())).context(Hint::new("name one: docker-archive:FILE:NAME")),
            (None, _) if list.is_empty() => bail!("{place} holds no image"),
            (None, _) => bail!("{place} has no image {}; it has {}", name.unwrap_or_default(), all()),
        }
    }

    async fn registry(remote: Arc<Remote>) -> Result<Self> {
        let raw = remote.manifest(None).await?;
        let Some(raw) = raw else {
            let what = format!("the registry has no image {}", remote.shown());
            return Err(anyhow!(what)).context(Hint::new("check its name and tag; a private one may need `docker login` first"));
        };
        let descriptor = Descriptor::of("", &raw);
        Ok(Self { place: remote.place(), top: Top::of(raw, descriptor)?, remote: Some(remote) })
    }

    /// The index, with its bytes and what they are; `None` when it is one image.
    pub fn index(&self) -> Option<(&Index, &[u8], &Descriptor)> {
        match &self.top {
            Top::Index(index, raw, descriptor) => Some((index, raw, descriptor)),
            Top::Manifest(..) | Top::Files(_) => None,
        }
    }

    /// The one whole name that the image has where it is: of an archive that an engine saved, or as containerd writes it
    /// into a layout. `None`: there is none, or several. A tag alone is no name.
    pub fn name(&self) -> Option<String> {
        let text = match &self.top {
            Top::Manifest(_, _, descriptor) | Top::Index(_, _, descriptor) => {
                let whole = descriptor.annotation("io.containerd.image.name");
                whole.or(descriptor.annotation(REF_NAME).filter(|name| name.contains('/')))?
            }
            Top::Files(saved) => match saved.repo_tags.as_deref() {
                Some([name]) => name,
                Some(_) | None => return None,
            },
        };
        match Reference::parse(text).ok()? {
            Reference::Name(name) => Some(name.normalised()),
            Reference::Id(_) => None,
        }
    }

    /// What is attached to these digests under names of its own: signatures, attestations, lists of packages.
    ///
    /// # Errors
    /// When a digest is none.
    pub async fn attached(&self, digests: &[&str]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let beside = self.place.read("index.json", limits::MANIFEST_BYTES).ok().flatten().map(|raw| Document::parse(&raw));
        for digest in digests {
            let digest = Digest::parse(digest)?;
            if let Some(remote) = &self.remote {
                found.extend(remote.attached(&digest).await);
            }
            if let Some(Ok(Document::Index(index))) = &beside {
                let start = format!("{}-{}.", digest.algorithm(), digest.hex());
                let names = index.manifests.iter().filter_map(|entry| entry.annotation(REF_NAME));
                found.extend(names.filter(|name| name.starts_with(&start)).map(|name| format!("attachment {name}")));
            }
        }
        Ok(found)
    }

    /// The image for a platform; this machine's where none was asked for. When there is one only, that.
    ///
    /// # Errors
    /// When there is none for it, or it is malformed.
    pub async fn image(&self, wish: Option<&Platform>) -> Result<Image> {
        let image = match &self.top {
            Top::Files(saved) => {
                let config = self.place.read(&saved.config, limits::CONFIG_BYTES)?;
                let config = config.with_context(|| format!("{} has no {}", self.place, saved.config))?;
                saved_as_named(&saved.config, &config)?;
                Image::of_files(config, &saved.layers, self.place.clone())?
            }
            Top::Manifest(manifest, raw, descriptor) => self.of(*manifest.clone(), raw.clone(), descriptor.clone()).await?,
            Top::Index(index, ..) => {
                let here = Platform::here();
                let entry = index.choose(wish.unwrap_or(&here))?.clone();
                let raw = match &self.remote {
                    Some(remote) => remote.manifest(Some(&entry.digest()?)).await?.with_context(|| format!("the registry has no {}", entry.digest))?,
                    None => blob(&self.place, &entry)?,
                };
                match Top::of(raw, entry)? {
                    Top::Manifest(manifest, raw, descriptor) => self.of(*manifest, raw, descriptor).await?,
                    Top::Index(..) | Top::Files(_) => bail!("the index holds an index where it should hold an image"),
                }
            }
        };
        match wish {
            Some(wish) if !image.platform.fits(wish) => bail!("there is no image for {wish}; it is for {} only", image.platform),
            _ => Ok(image),
        }
    }

    async fn of(&self, manifest: Manifest, raw: Vec<u8>, descriptor: Descriptor) -> Result<Image> {
        let config = match &self.remote {
            Some(remote) => remote.small(&manifest.config).await?,
            None => blob(&self.place, &manifest.config)?,
        };
        Image::of_manifest((manifest, raw, descriptor), config, self.place.clone(), self.remote.clone())
    }
}

impl Top {
    fn of(raw: Vec<u8>, mut descriptor: Descriptor) -> Result<Self> {
        let typed = |said: &str, default: &str| if said.is_empty() { default.to_owned() } else { said.to_owned() };
        Ok(match Document::parse(&raw)? {
            Document::Manifest(manifest) => {
                descriptor.media_type = typed(&manifest.media_type, super::manifest::media::OCI_MANIFEST);
                Self::Manifest(manifest, raw, descriptor)
            }
            Document::Index(index) => {
                descriptor.media_type = typed(&index.media_type, super::manifest::media::OCI_INDEX);
                Self::Index(index, raw, descriptor)
            }
        })
    }
}

/// Docker names the config after its digest, with `.json` or as a blob. Other names say nothing.
fn saved_as_named(name: &str, config: &[u8]) -> Result<()> {
    let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".json");
    match Digest::parse(&format!("sha256:{stem}")) {
        Ok(digest) if !digest.fits(config) => bail!("the config {name} is not what its name says; it was damaged or changed"),
        _ => Ok(()),
    }
}

fn tar(file: &Path) -> Result<Place> {
    Ok(Place::Tar(Arc::new(TarFile::open_path(file)?)))
}

fn layout_dir(dir: &Path) -> Result<Place> {
    match dir.is_dir() {
        true => Ok(Place::Dir(dir.to_owned())),
        false => Err(anyhow!("{} is no directory", dir.display())).context(Hint::new("for a file write oci-archive: or docker-archive:")),
    }
}

/// The entry of a layout's index that a tag names; the only one when there is no tag.
fn named<'a>(index: &'a Index, tag: Option<&str>, place: &Place) -> Result<&'a Descriptor> {
    let names: Vec<&str> = index.manifests.iter().filter_map(|entry| entry.annotation(REF_NAME)).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut found = index.manifests.iter().filter(|entry| tag.is_none() || entry.annotation(REF_NAME) == tag);
    match (found.next(), found.next(), tag) {
        (Some(entry), None, _) => Ok(entry),
        (Some(_), Some(_), Some(tag)) => bail!("{place} has several images with the tag {tag}"),
        (Some(_), Some(_), None) => Err(anyhow!("{place} holds several images")).context(Hint::new(format!("name one by its tag: {names}"))),
        (None, _, Some(tag)) => bail!("{place} has no tag {tag}; it has {names}"),
        (None, _, None) => bail!("{place} holds no image"),
    }
}

/// A small blob of a layout, checked.
fn blob(place: &Place, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let digest = descriptor.digest()?;
    let bytes = place.read(&digest.blob_path(), limits::CONFIG_BYTES)?;
    let bytes = bytes.with_context(|| format!("{place} has no blob {digest}"))?;
    match digest.fits(&bytes) && bytes.len() as u64 == descriptor.size {
        true => Ok(bytes),
        false => bail!("the blob {digest} of {place} is not what its name says; it was damaged or changed"),
    }
}
