//! Outgoing: an image made ready for where it goes: layers compressed as wanted, a manifest in words that are
//! understood there. What need not change goes as it came, byte for byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::compress::{Compression, compress};
use super::digest::{Digest, Hash};
use super::image::{Image, Layer};
use super::manifest::{Descriptor, Document, Index, Manifest, media};
use super::place::Place;
use crate::exit::Hint;

/// Which words a manifest may have where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// OCI's only.
    Oci,
    /// Docker's too.
    Any,
}

/// One image on its way out.
#[derive(Clone)]
pub struct Outgoing {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// What they are, with the platform.
    pub descriptor: Descriptor,
    /// The config's bytes, and what they are.
    pub config: (Vec<u8>, Descriptor),
    /// The layers, lowest first.
    pub layers: Vec<OutLayer>,
}

/// One layer on its way out.
#[derive(Clone)]
pub struct OutLayer {
    /// What it is as it travels.
    pub descriptor: Descriptor,
    image: Arc<Image>,
    index: usize,
    /// `None`: as it is in the image.
    made: Option<Place>,
}

/// What goes to one place: one image, or several under an index.
#[derive(Clone)]
pub struct Bundle {
    /// The images.
    pub images: Vec<Outgoing>,
    /// The index with what it is; `None` for one image without one.
    pub index: Option<(Vec<u8>, Descriptor)>,
}

impl OutLayer {
    /// Its bytes as they travel.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        match &self.made {
            None => self.image.raw_layer(self.index),
            Some(place) => place.open("").transpose().context("the new layer is gone")?,
        }
    }
}

impl Outgoing {
    /// Makes an image ready; its layers have to be fetched. Without a wish, what is compressed stays as it is and
    /// the rest becomes gzip.
    ///
    /// # Errors
    /// When a layer cannot be read or is not what it should be.
    pub fn prepare(image: &Arc<Image>, words: Words, wish: Option<Compression>) -> Result<Self> {
        let mut layers = Vec::new();
        for (index, layer) in image.layers.iter().enumerate() {
            layers.push(one(image, index, layer, wish).with_context(|| format!("prepare the layer {}", layer.diff_id))?);
        }
        let unchanged = layers.iter().all(|layer| layer.made.is_none());
        let (manifest, mut descriptor, config) = match &image.manifest {
            Some((manifest, raw, descriptor))
                if unchanged && (words == Words::Any || descriptor.media_type == media::OCI_MANIFEST) =>
            {
                (raw.clone(), descriptor.clone(), manifest.config.clone())
            }
            _ => written(image, &mut layers)?,
        };
        descriptor.annotations = None;
        if descriptor.platform.is_none() {
            descriptor.platform = Some(image.platform.clone());
        }
        Ok(Self { manifest, descriptor, config: (image.config.clone(), config), layers })
    }

    /// The same image with annotations in its manifest, in place of those of the same names.
    ///
    /// # Errors
    /// Never for what was prepared here.
    pub fn annotated(mut self, annotations: BTreeMap<String, String>) -> Result<Self> {
        let Document::Manifest(mut manifest) = Document::parse(&self.manifest)? else {
            bail!("the document of one image is an index");
        };
        let place = manifest.other.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        let place = place.as_object_mut().context("the manifest's annotations are no object")?;
        place.extend(annotations.into_iter().map(|(name, value)| (name, Value::String(value))));
        self.manifest = serde_json::to_vec(&manifest).context("write the manifest")?;
        let written = Descriptor::of(&self.descriptor.media_type, &self.manifest);
        self.descriptor = Descriptor { platform: self.descriptor.platform.take(), ..written };
        Ok(self)
    }

    /// What the manifest's bytes are.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

impl Bundle {
    /// One image.
    pub fn one(image: Outgoing) -> Self {
        Self { images: vec![image], index: None }
    }

    /// Several images under an index of their own.
    ///
    /// # Errors
    /// Never for what was read here.
    pub fn index(images: Vec<Outgoing>) -> Result<Self> {
        let index = Index::new(images.iter().map(|image| image.descriptor.clone()).collect());
        let raw = serde_json::to_vec(&index).context("write the index")?;
        let descriptor = Descriptor::of(media::OCI_INDEX, &raw);
        Ok(Self { images, index: Some((raw, descriptor)) })
    }

    /// The document that the name means: bytes and what they are.
    pub fn top(&self) -> (&[u8], &Descriptor) {
        match &self.index {
            Some((raw, descriptor)) => (raw, descriptor),
            None => (&self.images[0].manifest, &self.images[0].descriptor),
        }
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.top().0)
    }
}

fn one(image: &Arc<Image>, index: usize, layer: &Layer, wish: Option<Compression>) -> Result<OutLayer> {
    let as_is = match wish {
        Some(wish) => layer.compression == wish,
        None => layer.compression != Compression::None,
    };
    if let (true, Some(travels)) = (as_is, &layer.travels) {
        return Ok(OutLayer { descriptor: travels.clone(), image: image.clone(), index, made: None });
    }
    let how = wish.unwrap_or_default();
    let hint = || Hint::new("set TMPDIR to a directory with more space");
    let mut file = tempfile::tempfile().context("make a temporary file").with_context(hint)?;
    let (digest, length) = {
        let mut out = Hashed { to: io::BufWriter::new(&mut file), hash: Hash::new(), length: 0 };
        compress(image.layer(index)?, &mut out, how)?;
        out.to.flush().context("write the layer").with_context(hint)?;
        (out.hash.finish(), out.length)
    };
    file.rewind().context("rewind the new layer")?;
    let made = Some(Place::One(Arc::new(file)));
    Ok(OutLayer { descriptor: Descriptor::new(media_of(how), &digest, length), image: image.clone(), index, made })
}

/// A manifest of our own, in OCI's words.
fn written(image: &Image, layers: &mut [OutLayer]) -> Result<(Vec<u8>, Descriptor, Descriptor)> {
    for layer in layers.iter_mut() {
        let how = super::manifest::compression_of(&layer.descriptor.media_type).unwrap_or(Compression::None);
        layer.descriptor.media_type = media_of(how).into();
    }
    let config = Descriptor::of(media::OCI_CONFIG, &image.config);
    let list = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let mut manifest = Manifest::new(media::OCI_MANIFEST, config.clone(), list);
    let mut platform = None;
    if let Some((old, _, descriptor)) = &image.manifest {
        manifest.other = old.other.clone();
        platform = descriptor.platform.clone();
    }
    let raw = serde_json::to_vec(&manifest).context("write the manifest")?;
    let descriptor = Descriptor { platform, ..Descriptor::of(media::OCI_MANIFEST, &raw) };
    Ok((raw, descriptor, config))
}

fn media_of(how: Compression) -> &'static str {
    match how {
        Compression::None => media::OCI_LAYER,
        Compression::Gzip => media::OCI_GZIP,
        Compression::Zstd => media::OCI_ZSTD,
    }
}

/// Hashes and counts what is written.
struct Hashed<W> {
    to: W,
    hash: Hash,
    length: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.length += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// An image of one plain layer that is in a file, as the packer makes it.
///
/// # Errors
/// When config and layer do not belong together.
pub fn of_parts(config: Vec<u8>, layer: File) -> Result<Image> {
    Image::of_files(config, &["the layer".to_owned()], Place::One(Arc::new(layer)))
}
