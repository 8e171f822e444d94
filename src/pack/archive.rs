//! Archive: one tar that is a docker-archive and an OCI layout at once, so that every engine loads it.
//!
//! `manifest.json` is what `docker load` reads (moby's image/tarexport); `oci-layout`, `index.json` and the
//! manifest blob are the OCI image-spec's `image-layout.md`. Both point at the same blobs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result};
use oci_spec::image::{
    DescriptorBuilder, Digest as OciDigest, ImageIndexBuilder, ImageManifestBuilder, MediaType, SCHEMA_VERSION,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::layer::LayerInfo;
use crate::image::Reference;

/// What a tar ends with.
const END: [u8; 1024] = [0; 1024];

/// An image ready to be written as an archive.
#[derive(Debug)]
pub struct PackedImage {
    /// The config document's bytes.
    pub config: Vec<u8>,
    /// `sha256:` of the config: the image ID.
    pub id: String,
    /// The OCI manifest's bytes.
    pub manifest: Vec<u8>,
    /// `sha256:` of the manifest.
    pub manifest_digest: String,
    /// The layer.
    pub layer: LayerInfo,
    /// The layer's tar, in an unlinked temporary file.
    pub layer_file: File,
}

/// `sha256:` and hex of some bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

impl PackedImage {
    /// Joins a config and a layer.
    ///
    /// # Errors
    /// When a digest is not one; never for digests made here.
    pub fn new(config: Vec<u8>, layer: LayerInfo, layer_file: File) -> Result<Self> {
        let id = digest_of(&config);
        let descriptor = |media: MediaType, digest: &str, size: u64| -> Result<_> {
            Ok(DescriptorBuilder::default()
                .media_type(media)
                .digest(digest.parse::<OciDigest>().context("make a descriptor")?)
                .size(size)
                .build()?)
        };
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, &id, config.len() as u64)?)
            .layers(vec![descriptor(MediaType::ImageLayer, &layer.diff_id, layer.tar_bytes)?])
            .build()?;
        let manifest = serde_json::to_vec(&manifest)?;
        let manifest_digest = digest_of(&manifest);
        Ok(Self { config, id, manifest, manifest_digest, layer, layer_file })
    }

    /// The archive as a stream of bytes. `references` are the tags that loading it gives; may be empty.
    ///
    /// # Errors
    /// When the layer's temporary file cannot be read again.
    pub fn archive(&self, references: &[String]) -> Result<impl Read + Send + 'static> {
        let head = self.head(references)?;
        let mut file = self.layer_file.try_clone().context("open the packed layer again")?;
        file.seek(SeekFrom::Start(0)).context("rewind the packed layer")?;
        // The layer is a whole number of 512-byte blocks, so the end marker follows directly.
        let body = file.take(self.layer.tar_bytes);
        Ok(std::io::Cursor::new(head).chain(body).chain(std::io::Cursor::new(END)))
    }

    /// All that stands before the layer's content.
    fn head(&self, references: &[String]) -> Result<Vec<u8>> {
        let blob = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
        let docker = json!([{
            "Config": blob(&self.id),
            "RepoTags": if references.is_empty() { json!(null) } else { json!(references) },
            "Layers": [blob(&self.layer.diff_id)],
        }]);
        let mut head = Vec::new();
        for dir in ["blobs/", "blobs/sha256/"] {
            head.extend_from_slice(header(dir, EntryType::Directory, 0o755, 0)?.as_bytes());
        }
        let small = [
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), self.index(references)?),
            ("manifest.json".to_owned(), serde_json::to_vec(&docker)?),
            (blob(&self.id), self.config.clone()),
            (blob(&self.manifest_digest), self.manifest.clone()),
        ];
        for (name, bytes) in small {
            head.extend_from_slice(header(&name, EntryType::Regular, 0o644, bytes.len() as u64)?.as_bytes());
            head.extend_from_slice(&bytes);
            head.resize(head.len().next_multiple_of(512), 0);
        }
        let layer = header(&blob(&self.layer.diff_id), EntryType::Regular, 0o644, self.layer.tar_bytes)?;
        head.extend_from_slice(layer.as_bytes());
        Ok(head)
    }

    /// How many bytes [`PackedImage::archive`] has.
    ///
    /// # Errors
    /// As there.
    pub fn archive_bytes(&self, references: &[String]) -> Result<u64> {
        Ok(self.head(references)?.len() as u64 + self.layer.tar_bytes + END.len() as u64)
    }

    fn index(&self, references: &[String]) -> Result<Vec<u8>> {
        let mut manifest = DescriptorBuilder::default()
            .media_type(MediaType::ImageManifest)
            .digest(self.manifest_digest.parse::<OciDigest>()?)
            .size(self.manifest.len() as u64)
            .build()?;
        if let Some(reference) = references.first() {
            // Podman gives an image the name that stands here, and takes a tag alone for a whole name.
            let whole = Reference::parse(reference).map_or_else(|_| reference.clone(), |name| name.normalised());
            let names = [("io.containerd.image.name", whole), ("org.opencontainers.image.ref.name", reference.clone())];
            manifest.set_annotations(Some(names.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()));
        }
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests(vec![manifest])
            .build()?;
        Ok(serde_json::to_vec(&index)?)
    }
}

fn header(name: &str, kind: EntryType, mode: u32, size: u64) -> Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name).context("name an archive member")?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn every_member_is_where_both_formats_look_for_it() {
        let mut layer_file = tempfile::tempfile().unwrap();
        layer_file.write_all(&[0u8; 1024]).unwrap();
        let layer = LayerInfo {
            diff_id: digest_of(&[0u8; 1024]),
            tar_bytes: 1024,
            content_bytes: 0,
            engine_bytes: 0,
            entries: 0,
            skipped: Vec::new(),
        };
        let image = PackedImage::new(b"{}".to_vec(), layer, layer_file).unwrap();
        let mut names = Vec::new();
        let mut archive = tar::Archive::new(image.archive(&["a/b:c".into()]).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
                assert_eq!(digest_of(&bytes), format!("sha256:{hex}"));
            }
            if name == "index.json" {
                let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                let named = &index["manifests"][0]["annotations"];
                assert_eq!(named["org.opencontainers.image.ref.name"], "a/b:c");
                assert_eq!(named["io.containerd.image.name"], "docker.io/a/b:c");
            }
            names.push(name);
        }
        assert!(names.contains(&"manifest.json".to_owned()) && names.contains(&"oci-layout".to_owned()));
        assert_eq!(names.iter().filter(|name| name.starts_with("blobs/sha256/") && name.len() > 13).count(), 3);
    }
}
