//! Manifest: the document that says which blobs an image is made of, and the index that says which image is for
//! which platform. OCI image-spec `manifest.md`, `image-index.md`; Docker's image manifest version 2, schema 2.
//!
//! What is carried on unchanged is carried on as the bytes that were read.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::compress::Compression;
use super::digest::Digest;
use super::limits;

/// Media types.
pub mod media {
    #![allow(missing_docs)]
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// What a registry is asked for.
    pub const ANY: &[&str] = &[OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];
}

/// The annotation by which an OCI layout names an image.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation of what BuildKit attaches to an image in an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// What a document says of a blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it holds.
    #[serde(default)]
    pub media_type: String,
    /// What its bytes are.
    pub digest: String,
    /// How many they are.
    pub size: u64,
    /// Where else it is: only foreign layers have that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Further words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// In an index: what it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What else stands there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// Of some bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, &Digest::of(bytes), bytes.len() as u64)
    }

    /// Of a blob.
    pub fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest: digest.as_str().into(),
            size,
            urls: None,
            annotations: None,
            platform: None,
            other: Map::new(),
        }
    }

    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// What its bytes are, checked.
    ///
    /// # Errors
    /// When it is no digest.
    pub fn digest(&self) -> Result<Digest> {
        Digest::parse(&self.digest)
    }

    /// What it is when it is no image but attached to one; `None` for an image.
    pub fn attached(&self) -> Option<&str> {
        self.annotation(REFERENCE_TYPE).or_else(|| {
            let unknown = self.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
            unknown.then_some("attachment")
        })
    }
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What else stands there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Platform {
    /// Reads `linux/arm64`, `linux/arm/v7`.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(word) {
            bail!("{text:?} is no platform; write linux/amd64 or linux/arm/v7");
        }
        let variant = parts.get(2).map(|variant| (*variant).to_owned());
        Ok(Self { os: parts[0].into(), architecture: parts[1].into(), variant, other: Map::new() })
    }

    /// This machine.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: None, other: Map::new() }
    }

    /// Whether an image for `self` is what was wished for.
    pub fn fits(&self, wish: &Platform) -> bool {
        // Every arm64 machine is a v8.
        let variant = |p: &Platform| p.variant.clone().filter(|v| !(p.architecture == "arm64" && v == "v8"));
        let same = self.os == wish.os && self.architecture == wish.architecture;
        same && (wish.variant.is_none() || variant(self) == variant(wish))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    /// Its own media type; empty when it does not say, which OCI allows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The config document.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// What else stands there: annotations, subject.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An index of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    /// Its own media type; empty when it does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The images, and what is attached to them.
    pub manifests: Vec<Descriptor>,
    /// What else stands there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Either of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// Several.
    Index(Index),
}

impl Document {
    /// Reads a manifest or index, whatever it says that it is.
    ///
    /// # Errors
    /// When it is neither, is malformed or exceeds a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > limits::MANIFEST_BYTES {
            bail!("the manifest has {} bytes; {} are allowed", bytes.len(), limits::MANIFEST_BYTES);
        }
        // serde_json gives up at a depth of 128.
        let value: Value = serde_json::from_slice(bytes).context("read the manifest as JSON")?;
        if value["schemaVersion"] != 2 {
            let hint = "save or push the image again with an engine of this decade";
            bail!("the manifest's schemaVersion is {}, not 2; {hint}", value["schemaVersion"]);
        }
        let said = value["mediaType"].as_str().unwrap_or_default().to_owned();
        // One document that is both means one thing here and another there (CVE-2021-41190).
        match (value.get("manifests").is_some(), value.get("layers").is_some() || value.get("config").is_some()) {
            (true, true) => bail!("the document is a manifest and an index at once"),
            (true, false) if ["", media::OCI_INDEX, media::DOCKER_LIST].contains(&said.as_str()) => {
                let index: Index = serde_json::from_value(value).context("read the index")?;
                if index.manifests.len() > limits::MANIFESTS {
                    bail!("the index has {} manifests; {} are allowed", index.manifests.len(), limits::MANIFESTS);
                }
                Ok(Self::Index(index))
            }
            (false, true) if ["", media::OCI_MANIFEST, media::DOCKER_MANIFEST].contains(&said.as_str()) => {
                let manifest: Manifest = serde_json::from_value(value).context("read the manifest")?;
                manifest.check()?;
                Ok(Self::Manifest(Box::new(manifest)))
            }
            (false, false) => bail!("the document is neither a manifest nor an index"),
            _ => bail!("the document says that it is {:?}, which it is not", said),
        }
    }
}

impl Manifest {
    /// A manifest in OCI's or Docker's own words.
    pub fn new(media_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media_type.into(), config, layers, other: Map::new() }
    }

    fn check(&self) -> Result<()> {
        if self.layers.len() > limits::LAYERS {
            bail!("the image has {} layers; {} are allowed", self.layers.len(), limits::LAYERS);
        }
        self.config.digest().context("read the config's descriptor")?;
        if self.config.size > limits::CONFIG_BYTES {
            bail!("the config has {} bytes; {} are allowed", self.config.size, limits::CONFIG_BYTES);
        }
        for layer in &self.layers {
            layer.digest().context("read a layer's descriptor")?;
            let kind = layer.media_type.as_str();
            if kind.contains("foreign") || kind.contains("nondistributable") || layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                bail!("the layer {} is foreign: its owner does not let it be copied; there is no slim image of it", layer.digest);
            }
            if kind.contains("+encrypted") {
                bail!("the layer {} is encrypted; decrypt the image first, as with `skopeo copy --decryption-key`", layer.digest);
            }
            if compression_of(kind).is_none() {
                bail!("the layer {} is {kind:?}, not the tar of a container image", layer.digest);
            }
        }
        Ok(())
    }
}

impl Index {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media::OCI_INDEX.into(), manifests, other: Map::new() }
    }

    /// The images, without what is attached to them.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| entry.attached().is_none())
    }

    /// What there is, for people.
    pub fn platforms(&self) -> String {
        let mut names: Vec<String> = self.images().filter_map(|entry| Some(entry.platform.as_ref()?.to_string())).collect();
        names.dedup();
        if names.is_empty() { "none that are named".into() } else { names.join(", ") }
    }

    /// The image for a platform. One without a variant comes before one with some.
    ///
    /// # Errors
    /// When there is none; says what there is.
    pub fn choose(&self, wish: &Platform) -> Result<&Descriptor> {
        let fits = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|platform| platform.fits(wish));
        let mut found: Vec<&Descriptor> = self.images().filter(fits).collect();
        found.sort_by_key(|entry| entry.platform.as_ref().and_then(|platform| platform.variant.clone()));
        match found.first() {
            Some(entry) => Ok(entry),
            None => bail!("there is no image for {wish}; there is {}: choose one with --platform", self.platforms()),
        }
    }
}

/// How layers of a media type are compressed; `None` when it is no layer.
pub fn compression_of(media_type: &str) -> Option<Compression> {
    match media_type {
        media::OCI_LAYER | media::DOCKER_LAYER => Some(Compression::None),
        media::OCI_GZIP | media::DOCKER_GZIP => Some(Compression::Gzip),
        media::OCI_ZSTD | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(layer: &str) -> String {
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{HASH}","size":2}},"layers":[{layer}]}}"#)
    }

    #[test]
    fn a_manifest_that_is_no_image_is_refused_with_the_reason() {
        let layer = |media: &str, more: &str| format!(r#"{{"mediaType":"{media}","digest":"{HASH}","size":1{more}}}"#);
        let many = vec![layer(media::OCI_GZIP, ""); 20_000].join(",");
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for (text, expected) in [
            (manifest(&layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "")), "is foreign"),
            (manifest(&layer(media::OCI_GZIP, r#","urls":["http://x/"]"#)), "is foreign"),
            (manifest(&layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "")), "encrypted"),
            (manifest(&layer("application/wasm", "")), "not the tar"),
            (manifest(&layer(media::OCI_GZIP, "").replace(HASH, "sha256:../x")), "no digest"),
            (manifest(&layer(media::OCI_GZIP, "").replace(":1", ":-1")), "read the manifest"),
            (manifest(&many), "20000 layers"),
            (manifest(&vec![layer(media::OCI_GZIP, ""); 1_000_000].join(",")), "bytes; "),
            (manifest("").replace('}', &format!(r#","x":{deep}}}"#)), "recursion"),
            (manifest("").replacen("\"config\"", "\"manifests\":[],\"config\"", 1), "at once"),
            (manifest("").replacen(":2", ":1", 1), "schemaVersion"),
            (r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","layers":[]}"#.into(), "which it is not"),
            (r#"{"schemaVersion":2}"#.into(), "neither"),
            ("[]".into(), "schemaVersion"),
            (String::new(), "JSON"),
        ] {
            let error = format!("{:#}", Document::parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_platform_is_chosen_and_what_there_is_is_said() {
        let entry = |platform: &str| Descriptor { platform: Some(Platform::parse(platform).unwrap()), ..Descriptor::of(platform, b"") };
        let mut attached = entry("unknown/unknown");
        attached.annotations = Some([(REFERENCE_TYPE.to_owned(), "attestation-manifest".to_owned())].into());
        let index = Index::new(vec![entry("linux/amd64"), entry("linux/arm/v7"), entry("linux/arm/v6"), entry("linux/arm64/v8"), attached]);
        let choose = |wish: &str| index.choose(&Platform::parse(wish).unwrap()).map(|found| found.media_type.clone());
        assert_eq!(choose("linux/amd64").unwrap(), "linux/amd64");
        assert_eq!(choose("linux/arm64").unwrap(), "linux/arm64/v8");
        assert_eq!(choose("linux/arm64/v8").unwrap(), "linux/arm64/v8");
        assert_eq!(choose("linux/arm/v7").unwrap(), "linux/arm/v7");
        let error = choose("linux/s390x").unwrap_err().to_string();
        assert!(error.contains("there is linux/amd64, linux/arm/v7, linux/arm/v6, linux/arm64/v8"), "{error}");
        assert!(!error.contains("unknown"), "{error}");
    }
}
