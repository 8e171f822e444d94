//! Archive: an image in a file that `docker save` wrote, or that is an OCI layout in a tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::engine::host::hex;
use crate::store::compress;

/// Documents larger than this are no config and no manifest.
const LARGEST_DOCUMENT: u64 = 16 << 20;

/// An image archive, with the places of its files.
pub struct Archive {
    file: File,
    members: BTreeMap<String, Place>,
}

/// Where a file lies.
#[derive(Clone, Debug)]
enum Place {
    Bytes(u64, u64),
    Link(String),
}

/// One image of an archive.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its config document.
    pub config: Vec<u8>,
    /// References that it has there.
    pub tags: Vec<String>,
    /// Its layers' files, lowest first.
    layers: Vec<String>,
}

impl Found {
    /// The image ID.
    pub fn id(&self) -> String {
        format!("sha256:{}", hex(&Sha256::digest(&self.config)))
    }
}

impl Archive {
    /// Finds out what is in an archive.
    ///
    /// # Errors
    /// When it is no tar archive.
    pub fn open(file: File) -> Result<Self> {
        let mut members = BTreeMap::new();
        let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 16, file.try_clone()?));
        for entry in archive.entries_with_seek().context("read the archive")? {
            let entry = entry.context("read the archive")?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            let place = match entry.header().entry_type() {
                tar::EntryType::Regular => Place::Bytes(entry.raw_file_position(), entry.size()),
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = Path::new(std::ffi::OsStr::from_bytes(&target)).to_owned();
                    Place::Link(beside(&name, &target, entry.header().entry_type()))
                }
                _ => continue,
            };
            members.insert(name, place);
        }
        Ok(Self { file, members })
    }

    /// The images in it.
    ///
    /// # Errors
    /// When it holds none, or says what is not so.
    pub fn images(&self) -> Result<Vec<Found>> {
        if self.members.contains_key("manifest.json") {
            return self.of_docker();
        }
        if self.members.contains_key("index.json") {
            return self.of_oci();
        }
        bail!("it is no image: it has neither manifest.json nor index.json")
    }

    /// The image with this ID.
    ///
    /// # Errors
    /// When there is none.
    pub fn image(&self, id: &str) -> Result<Found> {
        let found = self.images()?.into_iter().find(|image| image.id() == id);
        found.with_context(|| format!("the archive holds no image {id}"))
    }

    fn of_docker(&self) -> Result<Vec<Found>> {
        let manifest = self.json("manifest.json")?;
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let one = |image: &Value| {
            let config = image["Config"].as_str().context("manifest.json names no config")?;
            Ok(Found { config: self.document(config)?, tags: texts(&image["RepoTags"]), layers: texts(&image["Layers"]) })
        };
        manifest.as_array().context("manifest.json is no list")?.iter().map(one).collect()
    }

    fn of_oci(&self) -> Result<Vec<Found>> {
        let index = self.json("index.json")?;
        let blob = |descriptor: &Value| -> Result<String> {
            let digest = descriptor["digest"].as_str().context("a descriptor has no digest")?;
            Ok(format!("blobs/{}", digest.replace(':', "/")))
        };
        let mut found = Vec::new();
        for descriptor in index["manifests"].as_array().context("index.json has no manifests")? {
            let manifest = self.json(&blob(descriptor)?)?;
            let layers = manifest["layers"].as_array().context("a manifest has no layers")?;
            found.push(Found {
                config: self.document(&blob(&manifest["config"])?)?,
                tags: Vec::new(),
                layers: layers.iter().map(blob).collect::<Result<_>>()?,
            });
        }
        Ok(found)
    }

    /// The tar stream of an image's layer, uncompressed.
    ///
    /// # Errors
    /// When it is not in the archive.
    pub fn layer(&self, image: &Found, number: usize) -> Result<Box<dyn Read + Send>> {
        let name = image.layers.get(number).context("the archive has fewer layers than the image")?;
        let (_, stream) = compress::plain(Box::new(self.stream(name)?)).with_context(|| format!("read {name}"))?;
        Ok(stream)
    }

    fn json(&self, name: &str) -> Result<Value> {
        serde_json::from_slice(&self.document(name)?).with_context(|| format!("understand {name}"))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let mut stream = self.stream(name)?;
        if stream.limit() > LARGEST_DOCUMENT {
            bail!("{name} has {} bytes", stream.limit());
        }
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).with_context(|| format!("read {name}"))?;
        Ok(bytes)
    }

    fn stream(&self, name: &str) -> Result<std::io::Take<At>> {
        let mut name = name.to_owned();
        for _ in 0..10 {
            match self.members.get(&name) {
                Some(Place::Bytes(at, size)) => return Ok(At { file: self.file.try_clone()?, at: *at }.take(*size)),
                Some(Place::Link(target)) => name.clone_from(target),
                None => bail!("the archive has no {name}"),
            }
        }
        bail!("{name} is a link to a link without end")
    }
}

/// What a link in an archive means: a hardlink names from the top, a symlink from where it is.
fn beside(name: &str, target: &Path, kind: tar::EntryType) -> String {
    let base = if kind == tar::EntryType::Symlink { Path::new(name).parent() } else { None };
    let mut path = base.unwrap_or(Path::new("")).to_owned();
    for part in target.components() {
        match part {
            std::path::Component::ParentDir => drop(path.pop()),
            std::path::Component::Normal(part) => path.push(part),
            _ => {}
        }
    }
    path.to_string_lossy().into_owned()
}

/// A file read from a place of its own.
struct At {
    file: File,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = std::os::unix::fs::FileExt::read_at(&self.file, buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

