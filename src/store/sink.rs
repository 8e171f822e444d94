//! Sink: where an image or index goes, outside of an engine.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::archive::{self, Style};
use super::compress::Compression;
use super::layout::{self, Replace};
use super::manifest::{Descriptor, Document, media};
use super::outgoing::{Bundle, Words};
use super::push::{Open, Upload};
use super::registry::{Access, Remote};
use super::source::Source;
use super::transport::Transport;
use crate::image::reference::Name;

impl Transport {
    /// Which words a manifest may have there.
    pub fn words(&self) -> Words {
        match self {
            Self::Registry(_) => Words::Any,
            _ => Words::Oci,
        }
    }

    /// How layers have to be compressed there; `None` where that is free.
    pub fn compression(&self) -> Option<Compression> {
        match self {
            Self::DockerArchive(..) | Self::Daemon(_) | Self::Podman(_) => Some(Compression::None),
            Self::Registry(_) | Self::OciDir(..) | Self::OciArchive(..) => None,
        }
    }
}

/// Puts an image or index where a transport says. `from` is a repository whose blobs a registry may take over;
/// `None` when there is none. Engines are not written to here.
///
/// # Errors
/// When it cannot be written, or an index would give way to a single image; nothing is half-written then.
pub async fn write(to: &Transport, bundle: &Bundle, access: &Access, replace: Replace, from: Option<&Name>) -> Result<()> {
    gives_way(to, bundle.top().1, access, replace).await?;
    match to {
        Transport::Registry(name) => push(name, bundle, access, from).await,
        Transport::Daemon(_) | Transport::Podman(_) => bail!("{to} is in an engine"),
        Transport::OciDir(..) | Transport::OciArchive(..) | Transport::DockerArchive(..) => {
            let (to, bundle) = (to.clone(), bundle.clone());
            let work = move || match &to {
                Transport::OciDir(dir, tag) => layout::write(dir, tag.as_deref(), &bundle, replace),
                Transport::OciArchive(file, tag) => archive::write(file, &bundle, &Style::Oci(tag.clone())),
                Transport::DockerArchive(file, name) => archive::write(file, &bundle, &Style::Docker(full(name.as_deref()))),
                Transport::Registry(_) | Transport::Daemon(_) | Transport::Podman(_) => Ok(()),
            };
            tokio::task::spawn_blocking(work).await.context("write the image")?
        }
    }
}

/// A name as `manifest.json` has it: with a tag.
fn full(name: Option<&str>) -> Vec<String> {
    let reference = name.and_then(|name| crate::image::Reference::parse(name).ok());
    reference.map(|reference| reference.familiar()).into_iter().collect()
}

/// Checks that what is there may give way to what comes, of which `new` says whether it is an index.
///
/// # Errors
/// When an index would give way to a single image, or a registry does not say what it has.
pub async fn gives_way(to: &Transport, new: &Descriptor, access: &Access, replace: Replace) -> Result<()> {
    match to {
        Transport::Registry(name) => {
            let old = Remote::new(name, access)?.manifest(None).await?;
            match old.map(|raw| Document::parse(&raw)) {
                Some(Ok(Document::Index(_))) => replace.check(media::OCI_INDEX, &new.media_type, &name.familiar()),
                Some(Ok(Document::Manifest(_)) | Err(_)) | None => Ok(()),
            }
        }
        Transport::OciDir(dir, tag) => layout::gives_way(dir, tag.as_deref(), new, replace),
        // An archive is replaced as a whole: that must not lose the platforms of an index.
        Transport::OciArchive(file, _) | Transport::DockerArchive(file, _) if file.is_file() => {
            let old = Source::open(&Transport::OciArchive(file.to_owned(), None), access).await;
            match old.ok().as_ref().and_then(|old| old.index()) {
                Some((_, _, descriptor)) => replace.check(&descriptor.media_type, &new.media_type, &file.display().to_string()),
                None => Ok(()),
            }
        }
        Transport::OciArchive(..) | Transport::DockerArchive(..) | Transport::Daemon(_) | Transport::Podman(_) => Ok(()),
    }
}

async fn push(name: &Name, bundle: &Bundle, access: &Access, from: Option<&Name>) -> Result<()> {
    let remote = Remote::new(name, access)?;
    if name.digest.is_some() {
        bail!("{} names a digest, which follows from what is pushed; give a tag", name.familiar());
    }
    let (raw, descriptor) = bundle.top();
    let mut uploads: Vec<Upload> = Vec::new();
    let mut add = |blob: &Descriptor, open: Open| {
        if !uploads.iter().any(|upload| upload.blob.digest == blob.digest) {
            uploads.push(Upload { blob: blob.clone(), open });
        }
    };
    for image in &bundle.images {
        for layer in image.layers.iter().cloned() {
            add(&layer.descriptor.clone(), Arc::new(move || layer.open()));
        }
        let config = image.config.0.clone();
        add(&image.config.1, Arc::new(move || Ok(Box::new(std::io::Cursor::new(config.clone())))));
    }
    let from = from.filter(|from| from.registry == name.registry && from.repository != name.repository);
    remote.send(uploads, from.map(|from| from.repository.as_str())).await?;
    if bundle.index.is_some() {
        for image in &bundle.images {
            remote.put(&image.manifest, &image.descriptor.media_type, false).await?;
        }
    }
    remote.put(raw, &descriptor.media_type, true).await
}
