//! Image: a read-only view of one image, wherever it is: its manifest, its config as the bytes that they are, and
//! its layers as streams that are checked while they are read.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cache::LayerCache;
use super::compress::{self, Compression};
use super::digest::{Digest, Verified};
use super::limits;
use super::manifest::{Descriptor, Manifest, Platform, media};
use super::place::Place;
use super::registry::Remote;
use crate::image::{ImageConfig, Tree};

/// One image.
#[derive(Clone)]
pub struct Image {
    /// The manifest with its bytes and what they are; `None` in a docker-archive, which has none.
    pub manifest: Option<(Manifest, Vec<u8>, Descriptor)>,
    /// The config document's bytes. Their digest is the image ID.
    pub config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// What it runs on, by its config.
    pub platform: Platform,
    place: Place,
    remote: Option<Arc<Remote>>,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What it is as it travels; `None` where nobody says so (a compressed layer of a docker-archive).
    pub travels: Option<Descriptor>,
    /// What it is when it is unpacked from its compression.
    pub diff_id: Digest,
    /// How it is compressed.
    pub compression: Compression,
    name: String,
}

impl Image {
    /// The image that a manifest describes. `read` gives the config's bytes, which are checked here.
    ///
    /// # Errors
    /// When config and manifest do not belong together, or exceed a limit.
    pub fn of_manifest(
        (manifest, raw, descriptor): (Manifest, Vec<u8>, Descriptor),
        config: Vec<u8>,
        place: Place,
        remote: Option<Arc<Remote>>,
    ) -> Result<Self> {
        if !manifest.config.digest()?.fits(&config) || manifest.config.size != config.len() as u64 {
            bail!("the config is not {}; it was damaged or changed", manifest.config.digest);
        }
        let (diff_ids, platform) = understood(&config)?;
        if diff_ids.len() != manifest.layers.len() {
            bail!("the manifest has {} layers, the config {}", manifest.layers.len(), diff_ids.len());
        }
        let layer = |(travels, diff_id): (&Descriptor, Digest)| {
            let compression = super::manifest::compression_of(&travels.media_type).unwrap_or(Compression::None);
            Ok(Layer { name: travels.digest()?.blob_path(), travels: Some(travels.clone()), diff_id, compression })
        };
        let layers = manifest.layers.iter().zip(diff_ids).map(layer).collect::<Result<_>>()?;
        Ok(Self { manifest: Some((manifest, raw, descriptor)), config, layers, platform, place, remote })
    }

    /// An image without a manifest: its config, and the names of its layers in `place`.
    ///
    /// # Errors
    /// When the config is none, has another number of layers, or one of them is missing.
    pub fn of_files(config: Vec<u8>, names: &[String], place: Place) -> Result<Self> {
        let (diff_ids, platform) = understood(&config)?;
        if diff_ids.len() != names.len() {
            bail!("there are {} layers, and {} in the config", names.len(), diff_ids.len());
        }
        let mut layers = Vec::new();
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let mut file = place.open(name)?.with_context(|| format!("{place} has no layer {name}"))?;
            let mut start = Vec::new();
            file.by_ref().take(6).read_to_end(&mut start).context("read a layer")?;
            let compression = Compression::of(&start);
            let travels = match compression {
                // What is not compressed travels as what it is.
                Compression::None => {
                    let rest = std::io::copy(&mut file, &mut std::io::sink()).context("read a layer")?;
                    Some(Descriptor::new(media::OCI_LAYER, &diff_id, start.len() as u64 + rest))
                }
                Compression::Gzip | Compression::Zstd => None,
            };
            layers.push(Layer { travels, diff_id, compression, name: name.clone() });
        }
        Ok(Self { manifest: None, config, layers, platform, place, remote: None })
    }

    /// The image ID: the digest of the config.
    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// The config, understood.
    ///
    /// # Errors
    /// When it is no config.
    pub fn parsed_config(&self) -> Result<ImageConfig> {
        ImageConfig::parse(&self.config)
    }

    /// A layer as it travels, checked while it is read.
    ///
    /// # Errors
    /// When it is not there. The stream itself fails where it is not what it should be.
    pub fn raw_layer(&self, index: usize) -> Result<Box<dyn Read + Send>> {
        let layer = self.layers.get(index).context("the image has no such layer")?;
        let raw = self.place.open(&layer.name)?.with_context(|| format!("{} has no {}", self.place, layer.name))?;
        Ok(match &layer.travels {
            Some(travels) => Box::new(Verified::new(raw, travels.digest()?, Some(travels.size))),
            None => raw,
        })
    }

    /// A layer as a plain tar stream, checked while it is read: it is trusted when its end was reached without an
    /// error, no earlier.
    ///
    /// # Errors
    /// As [`Image::raw_layer`].
    pub fn layer(&self, index: usize) -> Result<Box<dyn Read + Send>> {
        let (_, plain) = compress::plain(self.raw_layer(index)?)?;
        Ok(Box::new(Verified::new(plain, self.layers[index].diff_id.clone(), None)))
    }

    /// Fetches layers that are not on this machine. Nothing to do for what is in a file.
    ///
    /// # Errors
    /// When the registry does not give them.
    pub async fn fetch(&self, which: impl Fn(&Layer) -> bool) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let wanted = self.layers.iter().filter(|layer| which(layer)).filter_map(|layer| layer.travels.clone());
        remote.fetch(wanted.collect()).await
    }

    /// The directories of its unpacked layers, lowest first; unpacks those that the cache does not have.
    ///
    /// # Errors
    /// When a layer cannot be had, is not what it should be, or the cache cannot be written.
    pub async fn unpacked(self: &Arc<Self>, cache: &Arc<LayerCache>) -> Result<Vec<PathBuf>> {
        self.fetch(|layer| !matches!(cache.get(layer.diff_id.as_str()), Ok(Some(_)))).await?;
        let (image, cache) = (self.clone(), cache.clone());
        let work = move || {
            let one = |i: usize| cache.layer(image.layers[i].diff_id.as_str(), || image.layer(i));
            (0..image.layers.len()).map(one).collect::<Result<Vec<_>>>()
        };
        tokio::task::spawn_blocking(work).await.context("unpack the layers")?
    }

    /// Every file of the image, from its layers' headers. The layers have to be fetched.
    ///
    /// # Errors
    /// When a layer is malformed or not what it should be.
    pub fn tree(&self) -> Result<Tree> {
        let mut merge = super::merge::Merge::new();
        for (index, layer) in self.layers.iter().enumerate() {
            merge.layer(self.layer(index)?).with_context(|| format!("read the layer {}", layer.diff_id))?;
        }
        Ok(merge.tree())
    }
}

/// What has to be known of a config: its layers and what it runs on.
fn understood(config: &[u8]) -> Result<(Vec<Digest>, Platform)> {
    let parsed = ImageConfig::parse(config)?;
    let Some(list) = parsed.value()["rootfs"]["diff_ids"].as_array() else {
        bail!("its config has no rootfs: it is no container image but some other artifact");
    };
    if list.len() > limits::LAYERS {
        bail!("the image has {} layers; {} are allowed", list.len(), limits::LAYERS);
    }
    let ids = list.iter().map(|id| Digest::parse(id.as_str().unwrap_or_default())).collect::<Result<_>>();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let platform = Platform {
        os: parsed.os().to_owned(),
        architecture: parsed.architecture().to_owned(),
        variant: text(&parsed.value()["variant"]).filter(|variant| !variant.is_empty()),
        other: serde_json::Map::new(),
    };
    Ok((ids.context("read the config's diff_ids")?, platform))
}
