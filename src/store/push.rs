//! Push: blobs and manifests into a registry, several at once; what it has already, or can mount from another of
//! its repositories, is not sent.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use oci_client::errors::OciDistributionError as Trouble;

use super::digest::Digest;
use super::manifest::Descriptor;
use super::registry::{AT_ONCE, Meter, Remote};

/// Opens a blob's bytes, from the beginning each time.
pub type Open = Arc<dyn Fn() -> Result<Box<dyn Read + Send>> + Send + Sync>;

/// A blob to be sent.
#[derive(Clone)]
pub struct Upload {
    /// What it is.
    pub blob: Descriptor,
    /// Its bytes.
    pub open: Open,
}

impl Remote {
    /// Sends blobs. `from` is a repository of the same registry that has them; `None` when there is none.
    ///
    /// # Errors
    /// When the registry does not take one.
    pub async fn send(&self, uploads: Vec<Upload>, from: Option<&str>) -> Result<()> {
        for client in [&self.client, &self.sender] {
            client.store_auth_if_needed(self.reference.resolve_registry(), &self.auth).await;
        }
        let meter = Arc::new(Meter::new(self.access.monitor.clone(), Some(uploads.iter().map(|upload| upload.blob.size).sum())));
        let sends = uploads.into_iter().map(|upload| {
            let meter = meter.clone();
            async move { self.send_one(&upload, from, meter).await.with_context(|| format!("push {}", upload.blob.digest)) }
        });
        futures_util::stream::iter(sends.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    async fn send_one(&self, upload: &Upload, from: Option<&str>, meter: Arc<Meter>) -> Result<()> {
        let digest = upload.blob.digest.as_str();
        let there = self.patiently(|| self.client.blob_exists(&self.reference, digest)).await.map_err(|error| self.explain(error))?;
        if there || self.mounted(digest, from).await {
            meter.add(upload.blob.size);
            return Ok(());
        }
        let sent = self.patiently(|| self.watched(upload, meter.clone())).await;
        sent.map_err(|error| self.explain(error))
    }

    /// Whether the registry took it over from another repository. One that cannot begins an upload instead, which
    /// ends by itself.
    async fn mounted(&self, digest: &str, from: Option<&str>) -> bool {
        let Some(repository) = from else { return false };
        let tag = "latest".to_owned();
        let other = oci_client::Reference::with_tag(self.home().0.to_owned(), repository.to_owned(), tag);
        self.client.mount_blob(&self.reference, &other, digest).await.is_ok()
    }

    /// Sends a blob; fails when nothing moves for too long.
    async fn watched(&self, upload: &Upload, meter: Arc<Meter>) -> Result<(), Trouble> {
        let moved = Arc::new(AtomicU64::new(0));
        let stream = stream(upload.open.clone(), moved.clone(), meter);
        let send = self.sender.push_blob_stream(&self.reference, stream, &upload.blob.digest, Some(upload.blob.size));
        let stall = self.access.stall;
        let watch = async {
            let mut last = u64::MAX;
            loop {
                let now = moved.load(Ordering::Relaxed);
                if now == last {
                    return Trouble::IoError(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("it took nothing for {} s", stall.as_secs())));
                }
                last = now;
                // Once all is sent, a registry may think for longer.
                let patience = if now >= upload.blob.size { 5 } else { 1 };
                tokio::time::sleep(stall.max(Duration::from_millis(10)) * patience).await;
            }
        };
        tokio::select! {
            sent = send => sent.map(drop),
            stalled = watch => Err(stalled),
        }
    }

    /// Puts a manifest or index under the name, or under its own digest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn put(&self, bytes: &[u8], media_type: &str, named: bool) -> Result<()> {
        let digest = Digest::of(bytes);
        let reference = match named && self.reference.digest().is_none() {
            true => self.reference.clone(),
            false => self.reference.clone_with_digest(digest.as_str().to_owned()),
        };
        self.client.store_auth_if_needed(self.reference.resolve_registry(), &self.auth).await;
        let kind = http::HeaderValue::from_str(media_type).context("name the manifest's type")?;
        let put = || self.client.push_manifest_raw(&reference, bytes.to_vec(), kind.clone());
        self.patiently(put).await.map_err(|error| self.explain(error)).with_context(|| format!("push the manifest {digest}"))?;
        Ok(())
    }

    /// What is attached to an image under names of their own, where cosign puts it.
    pub async fn attached(&self, digest: &Digest) -> Vec<String> {
        let mut found = Vec::new();
        for (suffix, what) in [("sig", "signature"), ("att", "attestation"), ("sbom", "SBOM")] {
            let tag = format!("{}-{}.{suffix}", digest.algorithm(), digest.hex());
            let (registry, repository) = self.home();
            let reference = oci_client::Reference::with_tag(registry.to_owned(), repository.to_owned(), tag.clone());
            // The registry answered for the image itself: whatever else it says of this name is no.
            if self.client.fetch_manifest_digest(&reference, &self.auth).await.is_ok() {
                found.push(format!("{what} {tag}"));
            }
        }
        found
    }
}

fn stream(open: Open, moved: Arc<AtomicU64>, meter: Arc<Meter>) -> impl futures_util::Stream<Item = Result<Bytes, Trouble>> + Send + 'static {
    let (give, take) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(8);
    tokio::task::spawn_blocking(move || {
        let mut from = match open() {
            Ok(from) => from,
            Err(error) => return drop(give.blocking_send(Err(broken(format!("{error:#}"))))),
        };
        loop {
            let mut piece = vec![0u8; 1 << 17];
            let item = match from.read(&mut piece) {
                Ok(0) => return,
                Ok(n) => {
                    piece.truncate(n);
                    Ok(piece.into())
                }
                // What is wrong here stays wrong: it is no reason to try again.
                Err(error) => Err(broken(error.to_string())),
            };
            let ended = item.is_err();
            if give.blocking_send(item).is_err() || ended {
                return;
            }
        }
    });
    futures_util::stream::unfold((take, moved, meter), |(mut take, moved, meter)| async move {
        let item = take.recv().await?;
        if let Ok(bytes) = &item {
            moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            meter.add(bytes.len() as u64);
        }
        Some((item.map_err(Trouble::IoError), (take, moved, meter)))
    })
}

fn broken(text: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, text)
}
