//! Engine: images read from and written to the store of a container engine, as archives that stream.

use std::io::{Read, Seek, Write};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use crate::engine::host::Surroundings;
use crate::engine::host::EngineKind;
use crate::engine::{DockerEngine, EmbeddedEngine, Engine, EngineChoice};
use crate::exit::Hint;
use crate::progress::Monitor;
use crate::store::archive::{self, Style};
use crate::store::outgoing::Bundle;
use crate::store::{Source, Transport};

/// The engine that a transport means.
async fn connect(transport: &Transport, choice: &EngineChoice, monitor: &Arc<dyn Monitor>) -> Result<Box<dyn Engine>> {
    let choice = match transport {
        Transport::Podman(_) => choice.clone().podman(&Surroundings::here())?,
        _ if choice.kind == EngineKind::Embedded => return Ok(Box::new(EmbeddedEngine::open(monitor.clone())?)),
        _ => choice.clone(),
    };
    Ok(Box::new(DockerEngine::connect(&choice, monitor.clone()).await?))
}

fn name_of(transport: &Transport) -> &str {
    match transport {
        Transport::Daemon(name) | Transport::Podman(name) => name,
        _ => "",
    }
}

/// The image that a transport names in an engine, saved into an unnamed temporary file.
///
/// # Errors
/// When the engine does not answer or has no such image.
pub async fn save(transport: &Transport, choice: &EngineChoice, monitor: &Arc<dyn Monitor>) -> Result<Source> {
    let engine = connect(transport, choice, monitor).await?;
    let name = name_of(transport);
    save_from(engine.as_ref(), name).await?.ok_or_else(|| anyhow!("the engine has no image {name}"))
}

/// The same of an engine that is open; `None` when it has no such image.
///
/// # Errors
/// When the engine does not answer.
pub async fn save_from(engine: &dyn Engine, name: &str) -> Result<Option<Source>> {
    let Some(info) = engine.image(name).await? else { return Ok(None) };
    let mut stream = engine.save(&info.id).await?;
    let mut file = tempfile::tempfile().context("make a temporary file")?;
    while let Some(bytes) = stream.try_next().await.context("save the image")? {
        file.write_all(&bytes).context("save the image").context(Hint::new("set TMPDIR to a directory with more space"))?;
    }
    file.rewind().context("save the image")?;
    Source::of_save(file, name).map(Some)
}

/// Loads an image into the engine that a transport means, under the name that it has there.
///
/// # Errors
/// When the engine does not answer or does not take it.
pub async fn load(transport: &Transport, bundle: &Bundle, choice: &EngineChoice, monitor: &Arc<dyn Monitor>) -> Result<()> {
    let engine = connect(transport, choice, monitor).await?;
    let done = load_into(engine.as_ref(), name_of(transport), bundle).await;
    let swept = engine.sweep().await.context("clean up in the engine");
    done.and(swept)
}

async fn load_into(engine: &dyn Engine, name: &str, bundle: &Bundle) -> Result<()> {
    let (id, archive) = as_archive(bundle).await?;
    engine.load(archive, &id).await.context("load the image")?;
    match crate::image::Reference::parse(name)? {
        crate::image::Reference::Name(_) => engine.tag(&id, name).await.with_context(|| format!("name the image {name}")),
        crate::image::Reference::Id(_) => Err(anyhow!("{name} is an image ID, not a name")).context(Hint::new("write NAME[:TAG]")),
    }
}

/// An image as the stream of bytes that an engine loads, and its ID.
///
/// # Errors
/// When it cannot be written into a temporary file.
pub async fn as_archive(bundle: &Bundle) -> Result<(String, futures_util::stream::BoxStream<'static, Bytes>)> {
    let bundle = bundle.clone();
    let id = bundle.images.first().map(|image| image.config.1.digest.clone()).unwrap_or_default();
    let work = move || -> Result<std::fs::File> {
        let mut file = tempfile::tempfile().context("make a temporary file")?;
        archive::stream(&mut file, &bundle, &Style::Docker(Vec::new()))?;
        file.rewind().context("write a temporary file")?;
        Ok(file)
    };
    let file = tokio::task::spawn_blocking(work).await.context("write the archive")??;
    let pieces = futures_util::stream::unfold(file, |mut file| async move {
        let mut piece = vec![0u8; 1 << 18];
        // A file on this machine that was just written: an error here looks like an end, which the engine notices.
        let n = file.read(&mut piece).unwrap_or(0);
        piece.truncate(n);
        (n > 0).then(|| (Bytes::from(piece), file))
    });
    Ok((id, pieces.boxed()))
}
