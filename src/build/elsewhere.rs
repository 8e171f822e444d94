//! Elsewhere: images that come from, or go to, where no engine is asked: registries, layouts, archives.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use super::base::Base;
use super::{Session, current, subject};
use crate::copy::access::access;
use crate::copy::engine::as_archive;
use crate::copy::left_out;
use crate::engine::ImageInfo;
use crate::exit::{Exit, Hint};
use crate::image::reference::Name;
use crate::image::{ImageConfig, Reference};
use crate::pack::archive::PackedImage;
use crate::plan::{Pull, Source};
use crate::progress::Monitor;
use crate::report;
use crate::store::archive::{self, Style};
use crate::store::compress::Compression;
use crate::store::layout::Replace;
use crate::store::manifest::{Descriptor, Platform};
use crate::store::outgoing::{Bundle, Outgoing, Words, of_parts};
use crate::store::{self, Access, Transport, sink};

/// Reads an image from where it is, and gives it to the engine to run. It goes when the engine is swept.
///
/// # Errors
/// When it cannot be read, has no image for the engine's platform, or the engine does not take it.
pub async fn fetch(session: &Session<'_>, transport: &Transport) -> Result<(Reference, ImageInfo, Base)> {
    session.phase("pull", transport.to_string());
    let (source, image) = open(session, transport).await?;
    can_run(session, &image.platform)?;
    // Of several platforms it is said once, for all of them.
    if session.plan.platforms.is_empty() {
        tell_left_out(session, &source, std::slice::from_ref(&image)).await?;
    }
    let base = Base::elsewhere(transport, &source, &image);
    image.fetch(|_| true).await?;
    let ready = move || Outgoing::prepare(&image, Words::Oci, Some(Compression::None));
    let bundle = Bundle::one(tokio::task::spawn_blocking(ready).await.context("prepare the image")??);
    let (id, archive) = as_archive(&bundle).await?;
    session.engine.load(archive, &id).await.context("load the image into the engine")?;
    session.done("pull", String::new());
    let info = subject::found(session, &id).await?;
    Ok((name_of(transport, &id)?, info, base))
}

/// Checks that the engine runs images for a platform.
///
/// # Errors
/// When it does not.
pub fn can_run(session: &Session<'_>, platform: &Platform) -> Result<()> {
    let engine = session.engine.info();
    if engine.runs(&platform.os, &platform.architecture) {
        return Ok(());
    }
    let what = format!("{platform} cannot run here: the engine runs linux/{}, and an image has to run to be recorded", engine.arch);
    Err(anyhow!(what)).context(Hint::new("leave it out; `slim copy --platform` takes an image from place to place as it is"))
}

/// Names what of a source is not carried on where only these images are taken.
pub async fn tell_left_out(session: &Session<'_>, source: &store::Source, taken: &[Arc<store::Image>]) -> Result<()> {
    let digest = |image: &Arc<store::Image>| image.manifest.as_ref().map(|(_, _, descriptor)| descriptor.digest.clone());
    for text in left_out(source, &taken.iter().filter_map(digest).collect::<Vec<_>>()).await? {
        session.warn(text);
    }
    Ok(())
}

/// Checks that the result may take the place of what is where it is to go, of which `media_type` says whether it is an
/// index. It is asked before the work, and once more at its end.
///
/// # Errors
/// When an index would give way to one image, or a registry cannot be asked.
pub async fn check_places(session: &Session<'_>, media_type: &str) -> Result<()> {
    let new = Descriptor::of(media_type, b"");
    for to in &session.plan.outputs.written {
        let checked = sink::gives_way(to, &new, &reach(session), replace(session)).await;
        checked.with_context(|| format!("write the result to {to}"))?;
    }
    Ok(())
}

/// The registry that a bare name implies, where no container engine is there to be asked: the one in this program has
/// no image of that name, and fetches it unless `--pull=never` forbids. `None` where the engine is asked.
///
/// # Errors
/// When the cache cannot be read.
pub async fn registry_of(session: &Session<'_>, text: &str) -> Result<Option<Transport>> {
    let plan = session.plan;
    let Some(name) = embedded_name(session, text) else { return Ok(None) };
    let known = session.engine.image(text).await?.is_some();
    let wanted = match plan.pull {
        Pull::Never => false,
        Pull::Unsaid | Pull::Missing => !known,
        Pull::Always => true,
    };
    Ok(wanted.then_some(Transport::Registry(name)))
}

/// Whether it is known where the result goes.
///
/// # Errors
/// When the image comes from a registry through the engine in this program, which nobody would look for the result in.
pub async fn check_destination(session: &Session<'_>) -> Result<()> {
    let Source::Image(text) = &session.plan.source else { return Ok(()) };
    if !session.plan.outputs.written.is_empty() || registry_of(session, text).await?.is_none() {
        return Ok(());
    }
    let what = format!("no container engine runs {text}, so it would come from its registry: nothing says where the result goes");
    Err(anyhow!(what)).context(Hint::new("say it with -o: a FILE, oci:DIR or docker://NAME")).context(Exit::Usage)
}

/// A name, where the engine is the one in this program.
fn embedded_name(session: &Session<'_>, text: &str) -> Option<Name> {
    match Reference::parse(text) {
        Ok(Reference::Name(name)) if session.engine.info().is_embedded() => Some(name),
        _ => None,
    }
}

/// What an image elsewhere is called, the digest of its config, and how others name it; its layers stay where they are.
///
/// # Errors
/// As [`fetch`].
pub async fn peek(session: &Session<'_>, transport: &Transport) -> Result<(Reference, String, Base)> {
    let (source, image) = open(session, transport).await?;
    let id = image.id().to_string();
    Ok((name_of(transport, &id)?, id, Base::elsewhere(transport, &source, &image)))
}

/// What is where a result is to go, compressed as that is to be. `None`: something else.
///
/// # Errors
/// When nothing is there, or it cannot be read.
pub async fn there(session: &Session<'_>, to: &Transport) -> Result<Option<There>> {
    let source = store::Source::open(&current::as_layout(to), &reach(session)).await?;
    if source.index().is_some() {
        return Ok(None);
    }
    let image = source.image(None).await?;
    let wish = to.compression().or(session.plan.outputs.compress).unwrap_or(Compression::Gzip);
    let alike = image.layers.iter().all(|layer| layer.compression == wish);
    match &image.manifest {
        Some((_, _, descriptor)) if alike => {
            Ok(Some(There { config: image.parsed_config()?, id: image.id().to_string(), digest: descriptor.digest.clone() }))
        }
        Some(_) | None => Ok(None),
    }
}

/// An image that is where a result is to go.
pub struct There {
    /// Its config.
    pub config: ImageConfig,
    /// The digest of that.
    pub id: String,
    /// The digest of its manifest.
    pub digest: String,
}

/// What a transport names, open for reading.
///
/// # Errors
/// When it is not there, or malformed.
pub async fn source(session: &Session<'_>, transport: &Transport) -> Result<store::Source> {
    store::Source::open(transport, &reach(session)).await
}

async fn open(session: &Session<'_>, transport: &Transport) -> Result<(store::Source, Arc<store::Image>)> {
    let source = source(session, transport).await?;
    let wish = match &session.plan.run.platform {
        Some(text) => Some(Platform::parse(text)?),
        None => source.index().map(|_| Platform { architecture: session.engine.info().arch.clone(), ..Platform::here() }),
    };
    let image = Arc::new(source.image(wish.as_ref()).await?);
    Ok((source, image))
}

/// What an image from elsewhere is called: its name, or one made of its file's.
fn name_of(transport: &Transport, id: &str) -> Result<Reference> {
    let of_path = |path: &std::path::Path, tag: &Option<String>| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        let text = tag.as_ref().map_or(stem.clone(), |tag| format!("{stem}:{tag}"));
        Reference::parse(&text).ok()
    };
    let name = match transport {
        Transport::Registry(name) => Some(Reference::Name(name.clone())),
        Transport::DockerArchive(_, Some(name)) | Transport::Daemon(name) | Transport::Podman(name) => Reference::parse(name).ok(),
        Transport::OciDir(path, tag) | Transport::OciArchive(path, tag) => of_path(path, tag),
        Transport::DockerArchive(path, None) => of_path(path, &None),
    };
    name.map_or_else(|| Ok(Reference::parse(id)?), Ok)
}

/// A result that is ready for one `-o`.
pub struct Staged {
    to: Transport,
    bundle: Bundle,
    /// A whole archive that does not have its name yet; `None` for what is not a plain FILE.
    file: Option<archive::Staged>,
}

/// Makes the result ready for every `-o`: what may fail for want of space has not failed then.
///
/// # Errors
/// When it cannot be compressed, or a FILE not be written.
pub async fn stage(session: &Session<'_>, base: &Base, slim: &PackedImage, tags: &[String]) -> Result<Vec<Staged>> {
    let outputs = &session.plan.outputs;
    let mut staged = Vec::new();
    if outputs.written.is_empty() {
        return Ok(staged);
    }
    let file = slim.layer_file.try_clone().context("open the packed layer again")?;
    let image = Arc::new(of_parts(slim.config.clone(), file)?);
    let annotations = base.annotations(&image.parsed_config()?);
    for to in &outputs.written {
        let wish = to.compression().or(outputs.compress).or(Some(Compression::Gzip));
        let (image, annotations, to, names) = (image.clone(), annotations.clone(), to.clone(), tags.iter().filter_map(|tag| familiar(tag)).collect());
        let ready = move || -> Result<Staged> {
            let bundle = Bundle::one(Outgoing::prepare(&image, Words::Oci, wish)?.annotated(annotations)?);
            let file = match &to {
                // A bare file has all names that the result gets.
                Transport::DockerArchive(path, None) => Some(archive::stage(path, &bundle, &Style::Docker(names))?),
                _ => None,
            };
            Ok(Staged { to, bundle, file })
        };
        staged.push(tokio::task::spawn_blocking(ready).await.context("make the result ready")??);
    }
    Ok(staged)
}

/// Writes the result to every `-o`; gives where it is and the digest of its manifest there.
///
/// # Errors
/// When it cannot be written somewhere.
pub async fn publish(session: &Session<'_>, staged: Vec<Staged>) -> Result<Vec<(String, String)>> {
    let mut written = Vec::new();
    for Staged { to, bundle, file } in staged {
        let digest = bundle.digest().to_string();
        match file {
            Some(file) => file.publish()?,
            None => {
                write(session, &to, &bundle).await?;
            }
        }
        written.push((shown(&to), digest));
    }
    write_digest(session, written.first().map(|(_, digest)| digest.as_str()))?;
    Ok(written)
}

/// Writes images to one `-o`.
///
/// # Errors
/// When they cannot be written.
pub async fn write(session: &Session<'_>, to: &Transport, bundle: &Bundle) -> Result<()> {
    let from = match &session.plan.source {
        Source::Elsewhere(Transport::Registry(name)) => Some(name),
        Source::Elsewhere(_) | Source::Image(_) | Source::Dockerfile(_) => None,
    };
    let done = sink::write(to, bundle, &reach(session), replace(session), from).await;
    done.with_context(|| format!("write the result to {to}"))
}

/// Writes the digest of what is in the first `-o` into the file that is to have it, where it has not.
///
/// # Errors
/// When the file cannot be written.
pub fn write_digest(session: &Session<'_>, digest: Option<&str>) -> Result<()> {
    match (&session.plan.outputs.digest_file, digest) {
        (Some(file), Some(digest)) if std::fs::read_to_string(file).ok().as_deref() != Some(digest) => {
            report::file::replace(file, |out| out.write_all(digest.as_bytes())).context("write the digest")
        }
        _ => Ok(()),
    }
}

/// What may give way to what.
fn replace(session: &Session<'_>) -> Replace {
    if session.plan.outputs.force { Replace::Anything } else { Replace::Alike }
}

/// Where the result is, for people: a FILE as it was typed.
pub fn shown(to: &Transport) -> String {
    match to {
        Transport::DockerArchive(file, None) => file.display().to_string(),
        other => other.to_string(),
    }
}

/// A name with its tag.
fn familiar(name: &str) -> Option<String> {
    Reference::parse(name).ok().map(|reference| reference.familiar())
}

/// How registries are reached. An account of the command line is for the one that the image comes from; where it
/// comes from none, for the one that it goes to.
fn reach(session: &Session<'_>) -> Access {
    let plan = session.plan;
    let registry = match &plan.source {
        Source::Elsewhere(Transport::Registry(name)) => Some(name.registry.clone()),
        Source::Image(text) if plan.pull != Pull::Never && session.engine.info().is_embedded() => {
            embedded_name(session, text).map(|name| name.registry)
        }
        Source::Image(_) if matches!(plan.pull, Pull::Missing | Pull::Always) => None,
        Source::Image(_) | Source::Elsewhere(_) | Source::Dockerfile(_) => plan.outputs.written.iter().find_map(|to| match to {
            Transport::Registry(name) => Some(name.registry.clone()),
            _ => None,
        }),
    };
    let given = plan.auth.as_ref().zip(registry);
    let monitor: Arc<dyn Monitor> = session.monitor.clone();
    access(&plan.access, given, monitor)
}
