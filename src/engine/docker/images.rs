//! Images: looked up, read, loaded, named and removed in the engine's store.

use std::io::Read;
use std::path::PathBuf;
use std::sync::PoisonError;

use anyhow::{Context, Result, bail};
use bollard::query_parameters::{ImportImageOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ledger::Made;
use super::connect::go_arch;
use super::{Core, failed, is_not_found};
use crate::engine::error::EngineError;
use crate::engine::ImageInfo;
use crate::engine::host::hex;
use crate::image::{ImageConfig, Reference};
use crate::image::reference::Name;

impl Core {
    /// The name or ID by which the engine knows an image: ours may be the digest of its config.
    pub(super) fn resolve(&self, reference: &str) -> String {
        let aliases = self.aliases.lock().unwrap_or_else(PoisonError::into_inner);
        aliases.get(reference).cloned().unwrap_or_else(|| reference.to_owned())
    }

    /// Looks an image up; `None` when the engine does not have it.
    pub(super) async fn image(&self, reference: &str) -> Result<Option<ImageInfo>> {
        // What is no reference would become part of a URL.
        Reference::parse(reference).map_err(|error| EngineError::Refused(error.to_string()))?;
        let found = self.api.inspect_image(&self.resolve(reference)).await;
        let image = match found.map_err(failed(format!("look {reference} up"))) {
            Ok(image) => image,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let others = |tag: &String| !self.is_own_tag(tag);
        let tags = image.repo_tags.unwrap_or_default();
        Ok(Some(ImageInfo {
            id: image.id.unwrap_or_default(),
            tags: tags.iter().map(|tag| familiar(tag)).filter(others).collect(),
            repo_digests: image.repo_digests.unwrap_or_default(),
            arch: image.architecture.unwrap_or_default(),
            os: image.os.unwrap_or_default(),
            size: image.size.unwrap_or_default().try_into().unwrap_or_default(),
            layers: image.root_fs.and_then(|root| root.layers).unwrap_or_default().len(),
        }))
    }

    async fn existing(&self, reference: &str) -> Result<ImageInfo> {
        let image = self.image(reference).await?;
        image.ok_or_else(|| EngineError::NotFound(format!("the engine has no image {reference}")).into())
    }

    /// The image's config document, byte for byte: from the engine's store where we can read it and its
    /// digest is the image's ID, else out of a `save`.
    pub(super) async fn image_config(&self, id: &str) -> Result<Vec<u8>> {
        let id = self.existing(id).await?.id;
        if let Some(bytes) = self.stored_config(&id) {
            return Ok(bytes);
        }
        let archive = self.save(&id)?;
        let reader = tokio_util::io::StreamReader::new(archive.map_err(std::io::Error::other));
        let bridge = tokio_util::io::SyncIoBridge::new(Box::pin(reader));
        let wanted = id.clone();
        let read = tokio::task::spawn_blocking(move || config_of_archive(bridge, &wanted));
        read.await.context("read a saved image")?.with_context(|| format!("find the config of {id} in its archive"))
    }

    /// What each layer adds, as the engine's history of the image has it. Its entries and those of the config are the
    /// same, in opposite orders; which of them have a layer only the config says.
    pub(super) async fn layer_sizes(&self, id: &str, config: &ImageConfig) -> Result<Option<Vec<u64>>> {
        let what = format!("read the history of {id}");
        let steps = self.api.image_history(&self.resolve(id)).await.map_err(failed(what))?;
        let Some(history) = config.value()["history"].as_array().filter(|history| history.len() == steps.len()) else {
            return Ok(None);
        };
        let has_layer = |entry: &Value| entry["empty_layer"] != true;
        let sizes = steps.iter().rev().zip(history).filter(|(_, entry)| has_layer(entry));
        let sizes: Vec<u64> = sizes.map(|(step, _)| step.size.try_into().unwrap_or_default()).collect();
        Ok((sizes.len() == config.diff_ids().len()).then_some(sizes))
    }

    fn stored_config(&self, id: &str) -> Option<Vec<u8>> {
        let digest = id.strip_prefix("sha256:")?;
        let root = PathBuf::from(self.info.root_dir.as_ref().filter(|_| self.info.local)?);
        let store = root.join("image").join(&self.driver).join("imagedb/content/sha256");
        let bytes = std::fs::read(store.join(digest)).ok()?;
        (hex(&Sha256::digest(&bytes)) == digest).then_some(bytes)
    }

    /// One `docker save` of an image.
    pub(super) fn save(&self, id: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let id = self.resolve(id);
        Reference::parse(&id).map_err(|error| EngineError::Refused(error.to_string()))?;
        let what = format!("save {id}");
        let archive = self.slow.export_image(&id);
        Ok(archive.map_err(failed(what)).boxed())
    }

    /// Loads an archive; the image is ours until it is published.
    pub(super) async fn load(&self, archive: BoxStream<'static, std::io::Result<Bytes>>, expect: &str) -> Result<()> {
        let before = self.image_ids().await?;
        let known = before.iter().find(|(id, _)| id == expect);
        let tag = format!("slim-{}:{}", self.run, self.number());
        if known.is_none() {
            self.ledger.add(Made::Image(expect.to_owned()));
        }
        self.ledger.add(Made::Tag(tag.clone()));
        let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
        let answers = self.slow.import_image(options, bollard::body_try_stream(archive), None);
        let mut said = String::new();
        let mut answers = std::pin::pin!(answers);
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(failed("load the image"))?;
            said.push_str(answer.stream.as_deref().unwrap_or_default());
        }
        self.find_loaded(expect, &said, &before).await?;
        // A reference of our own keeps it alive when another build that loaded the same bytes gives up. An
        // image that had no name before keeps having none: taking ours away would remove it.
        if known.is_none_or(|(_, tags)| !tags.is_empty()) {
            self.tag(expect, &tag).await?;
        } else {
            self.ledger.strike(&Made::Tag(tag));
        }
        Ok(())
    }

    /// Checks that the loaded image is the expected one; learns its ID where that is not its config's digest.
    async fn find_loaded(&self, expect: &str, said: &str, before: &[(String, Vec<String>)]) -> Result<()> {
        if self.image(expect).await?.is_some() {
            return Ok(());
        }
        let loaded = said.lines().find_map(|line| line.strip_prefix("Loaded image ID: ").map(str::trim));
        let Some(id) = loaded else {
            bail!("the engine loaded something else than {expect}: {}", said.trim());
        };
        if !before.iter().any(|(old, _)| old == id) {
            self.ledger.add(Made::Image(id.to_owned()));
        }
        let config = self.image_config(id).await?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&config)));
        if digest != expect {
            bail!("the engine loaded an image with config {digest} instead of {expect}");
        }
        self.ledger.strike(&Made::Image(expect.to_owned()));
        self.aliases.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, id.to_owned());
        Ok(())
    }

    pub(super) async fn image_ids(&self) -> Result<Vec<(String, Vec<String>)>> {
        let options = ListImagesOptions { all: true, ..ListImagesOptions::default() };
        let images = self.api.list_images(Some(options)).await.map_err(failed("list the images"))?;
        let named = |tags: Vec<String>| tags.iter().filter(|tag| *tag != "<none>:<none>").map(|tag| familiar(tag)).collect();
        Ok(images.into_iter().map(|image| (image.id, named(image.repo_tags))).collect())
    }

    fn number(&self) -> u32 {
        self.counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    fn is_own_tag(&self, tag: &str) -> bool {
        tag.strip_prefix("slim-").and_then(|rest| rest.strip_prefix(self.run.as_str())).is_some_and(|rest| rest.starts_with(':'))
    }

    /// Gives an image a name, taking it from the image that had it.
    pub(super) async fn tag(&self, id: &str, reference: &str) -> Result<()> {
        let name = named(reference)?;
        let options = TagImageOptions {
            repo: Some(name.familiar_repository()),
            tag: name.tag_or_latest().map(str::to_owned),
        };
        let result = self.api.tag_image(&self.resolve(id), Some(options)).await;
        result.map_err(failed(format!("tag {id} as {reference}")))
    }

    /// Takes a name away, or removes an image by ID, with its nameless parents as docker does.
    pub(super) async fn remove_image(&self, reference: &str) -> Result<()> {
        self.remove_image_and(reference, RemoveImageOptions::default()).await
    }

    /// Takes a reference of our own away.
    pub(super) async fn untag(&self, reference: &str) -> Result<()> {
        self.remove_ours(reference).await
    }

    /// Removes an image of ours unless somebody has named it since.
    pub(super) async fn remove_unpublished(&self, id: &str) -> Result<()> {
        match self.image(id).await? {
            Some(image) if image.tags.is_empty() => self.remove_ours(&image.id).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Removes this and nothing else: nameless parents may have been there before.
    async fn remove_ours(&self, reference: &str) -> Result<()> {
        let alone = RemoveImageOptions { noprune: true, ..RemoveImageOptions::default() };
        self.remove_image_and(reference, alone).await
    }

    async fn remove_image_and(&self, reference: &str, options: RemoveImageOptions) -> Result<()> {
        Reference::parse(reference).map_err(|error| EngineError::Refused(error.to_string()))?;
        let result = self.api.remove_image(&self.resolve(reference), Some(options), None).await;
        result.map(|_| ()).map_err(failed(format!("remove the image {reference}")))
    }
}

/// A name as Docker lists it; podman spells the default registry out.
fn familiar(tag: &str) -> String {
    Reference::parse(tag).map_or_else(|_| tag.to_owned(), |reference| reference.familiar())
}

fn named(reference: &str) -> Result<Name> {
    match Reference::parse(reference).map_err(|error| EngineError::Refused(error.to_string()))? {
        Reference::Name(name) if name.digest.is_none() => Ok(name),
        Reference::Name(_) | Reference::Id(_) => {
            let text = format!("{reference} cannot be a tag: give NAME:TAG without a digest");
            Err(EngineError::Refused(text).into())
        }
    }
}

/// Documents larger than this are no config and no manifest.
const LARGEST_DOCUMENT: u64 = 8 << 20;

/// Finds the config of an image in its `save` archive. The ID is the digest of the config (then the first
/// entry with that digest is it) or of the manifest (containerd image store).
fn config_of_archive(archive: impl Read, id: &str) -> Result<Vec<u8>> {
    let wanted = id.strip_prefix("sha256:").unwrap_or(id);
    let mut documents: std::collections::BTreeMap<String, Vec<u8>> = std::collections::BTreeMap::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() || entry.size() > LARGEST_DOCUMENT {
            continue;
        }
        let name = entry.path()?.to_string_lossy().into_owned();
        let mut first = [0u8; 1];
        if entry.read(&mut first)? == 0 || first[0] != b'{' && first[0] != b'[' {
            continue;
        }
        let mut bytes = first.to_vec();
        entry.read_to_end(&mut bytes)?;
        documents.insert(name, bytes);
        if let Some(config) = config_among(&documents, wanted) {
            return Ok(config);
        }
    }
    bail!("the archive holds no config that belongs to {id}")
}

fn config_among(documents: &std::collections::BTreeMap<String, Vec<u8>>, wanted: &str) -> Option<Vec<u8>> {
    let digest = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let by_digest = |wanted: &str| {
        let named = |name: &str| name.trim_end_matches(".json").ends_with(wanted);
        documents.iter().find(|(name, bytes)| named(name) && digest(bytes) == wanted).map(|(_, bytes)| bytes)
    };
    let found = by_digest(wanted)?;
    let document: Value = serde_json::from_slice(found).ok()?;
    if document.get("rootfs").is_some() {
        return Some(found.clone());
    }
    if let Some(config) = document["config"]["digest"].as_str() {
        return by_digest(config.strip_prefix("sha256:")?).cloned();
    }
    // An index: of the manifests in it, ours. An attestation has the platform unknown/unknown.
    let ours = |manifest: &&Value| {
        let platform = &manifest["platform"];
        platform.is_null() || platform["architecture"] == go_arch(std::env::consts::ARCH) && platform["os"] == "linux"
    };
    let manifest = document["manifests"].as_array()?.iter().find(ours)?;
    config_among(documents, manifest["digest"].as_str()?.strip_prefix("sha256:")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn blob(value: &Value) -> (String, (String, Vec<u8>)) {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = digest(&bytes);
        (digest.clone(), (format!("blobs/sha256/{digest}"), bytes))
    }

    #[test]
    fn the_config_is_found_in_every_kind_of_archive() {
        let (id, (_, config)) = blob(&json!({"architecture": "x", "rootfs": {"diff_ids": []}}));
        let (_, other) = blob(&json!({"architecture": "unknown", "rootfs": {"diff_ids": []}}));
        let layer = ("blobs/sha256/00".to_owned(), vec![0u8; 2000]);
        let legacy = archive(&[layer.clone(), (format!("{id}.json"), config.clone())]);
        assert_eq!(config_of_archive(&legacy[..], &format!("sha256:{id}")).unwrap(), config);

        let own = (format!("blobs/sha256/{id}"), config.clone());
        let (manifest, manifest_file) = blob(&json!({"config": {"digest": format!("sha256:{id}")}, "layers": []}));
        let files = [manifest_file.clone(), layer.clone(), own.clone()];
        assert_eq!(config_of_archive(&archive(&files)[..], &format!("sha256:{manifest}")).unwrap(), config);

        let (attested, attestation) =
            blob(&json!({"config": {"digest": format!("sha256:{}", digest(&other.1))}, "layers": []}));
        let platform = json!({"architecture": go_arch(std::env::consts::ARCH), "os": "linux"});
        let (index, index_file) = blob(&json!({"manifests": [
            {"digest": format!("sha256:{attested}"), "platform": {"architecture": "unknown", "os": "unknown"}},
            {"digest": format!("sha256:{manifest}"), "platform": platform},
        ]}));
        let files = [other, attestation, index_file, layer.clone(), manifest_file, own];
        assert_eq!(config_of_archive(&archive(&files)[..], &format!("sha256:{index}")).unwrap(), config);

        let wrong = archive(&[layer, (format!("{id}.json"), b"{\"rootfs\":1}".to_vec())]);
        assert!(config_of_archive(&wrong[..], &format!("sha256:{id}")).is_err(), "its digest is another");
    }
}
