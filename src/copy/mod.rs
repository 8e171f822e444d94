//! Copy: an image from one place to another, unchanged but for its compression: engines, archives, layouts,
//! registries in any combination.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use crate::engine::EngineChoice;
use crate::exit::{Exit, Hint};
use crate::progress::Fact;
use crate::report::file::replace;
use crate::store::compress::Compression;
use crate::store::layout::Replace;
use crate::store::manifest::{Descriptor, Platform};
use crate::store::outgoing::{Bundle, Outgoing};
use crate::store::{Access, Source, Transport, sink};

pub mod access;
pub mod engine;
pub mod plan;

pub use plan::plan;

/// What is copied, checked.
pub struct CopyPlan {
    /// From where.
    pub source: Transport,
    /// To where.
    pub destination: Transport,
    /// Which platforms.
    pub wanted: Wanted,
    /// `None`: as they are, gzip where they are not compressed.
    pub compress: Option<Compression>,
    /// Whether an index may give way to one image.
    pub replace: Replace,
    /// File for the digest of the result; `None` when nobody wants it.
    pub digest_file: Option<PathBuf>,
    /// Which engine, where one is named.
    pub engine: EngineChoice,
    /// How registries are reached.
    pub access: Access,
}

/// Which platforms of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This machine's; of one image, that.
    Here,
    /// Exactly one: one image comes out.
    One(Platform),
    /// Several: an index comes out.
    Several(Vec<Platform>),
    /// All: what comes out is what was there.
    All,
}

impl Wanted {
    /// Reads `--platform`.
    ///
    /// # Errors
    /// When a platform is none.
    pub fn parse(texts: &[String]) -> Result<Self> {
        match texts {
            [] => Ok(Self::Here),
            [all] if all == "all" => Ok(Self::All),
            [one] => Platform::parse(one).map(Self::One),
            several => several.iter().map(|text| Platform::parse(text)).collect::<Result<_>>().map(Self::Several),
        }
    }
}

/// Copies; gives the digest of the manifest or index that is now there.
///
/// # Errors
/// When the source cannot be read or the destination not be written; nothing is half-written then.
pub async fn copy(plan: &CopyPlan) -> Result<String> {
    let monitor = &plan.access.monitor;
    monitor.tell(Fact::Phase { name: "read", detail: plan.source.to_string() });
    let source = match &plan.source {
        Transport::Daemon(_) | Transport::Podman(_) => engine::save(&plan.source, &plan.engine, monitor).await?,
        other => Source::open(other, &plan.access).await?,
    };
    let bundle = gather(plan, &source).await?;
    monitor.tell(Fact::PhaseDone { name: "read", detail: String::new() });
    monitor.tell(Fact::Phase { name: "write", detail: plan.destination.to_string() });
    match &plan.destination {
        Transport::Daemon(_) | Transport::Podman(_) => engine::load(&plan.destination, &bundle, &plan.engine, monitor).await?,
        other => {
            let from = match &plan.source {
                Transport::Registry(name) => Some(name),
                _ => None,
            };
            sink::write(other, &bundle, &plan.access, plan.replace, from).await?;
        }
    }
    monitor.tell(Fact::PhaseDone { name: "write", detail: String::new() });
    let digest = bundle.digest().to_string();
    if let Some(file) = &plan.digest_file {
        replace(file, |out| out.write_all(digest.as_bytes())).context("write the digest")?;
    }
    Ok(digest)
}

/// Reads the images that were asked for and makes them ready.
async fn gather(plan: &CopyPlan, source: &Source) -> Result<Bundle> {
    let wishes: Vec<Option<Platform>> = match (&plan.wanted, source.index()) {
        (Wanted::Here, _) => vec![None],
        (Wanted::One(platform), _) => vec![Some(platform.clone())],
        (Wanted::Several(platforms), _) => platforms.iter().cloned().map(Some).collect(),
        (Wanted::All, None) => vec![None],
        (Wanted::All, Some((index, ..))) => index.images().map(|entry| entry.platform.clone()).collect(),
    };
    let single = wishes.len() == 1 && !matches!((&plan.wanted, source.index()), (Wanted::All, Some(_)));
    if wishes.is_empty() {
        bail!("the index of {} holds no image", plan.source);
    }
    if !single && plan.destination.compression().is_some() {
        let hint = Hint::new("choose one platform, or write oci:, oci-archive: or docker://");
        return Err(anyhow!("{} holds one image, not an index", plan.destination)).context(hint).context(Exit::Usage);
    }
    let wish = match (plan.destination.compression(), plan.compress) {
        (Some(forced), Some(asked)) if forced != asked => {
            let what = format!("layers cannot be compressed in {}", plan.destination);
            return Err(anyhow!(what)).context(Hint::new("leave --compress out")).context(Exit::Usage);
        }
        (forced, asked) => forced.or(asked),
    };
    let words = plan.destination.words();
    let (mut images, mut taken) = (Vec::new(), Vec::new());
    for platform in &wishes {
        let image = Arc::new(source.image(platform.as_ref()).await?);
        taken.extend(image.manifest.as_ref().map(|(_, _, descriptor)| descriptor.digest.clone()));
        image.fetch(|_| true).await?;
        let ready = move || Outgoing::prepare(&image, words, wish);
        images.push(tokio::task::spawn_blocking(ready).await.context("prepare the image")??);
    }
    let bundle = match single {
        true => Bundle::one(images.remove(0)),
        false => same_index(source, images)?,
    };
    for text in left_out(source, &taken).await? {
        plan.access.monitor.tell(Fact::Warning { text });
    }
    Ok(bundle)
}

/// The index as it was, when it still says what there is; else a new one.
fn same_index(source: &Source, images: Vec<Outgoing>) -> Result<Bundle> {
    if let Some((index, raw, descriptor)) = source.index() {
        let has = |digest: &str| images.iter().any(|image| image.descriptor.digest == digest);
        if index.manifests.iter().all(|entry| entry.attached().is_none() && has(&entry.digest)) {
            return Ok(Bundle { images, index: Some((raw.to_vec(), descriptor.clone())) });
        }
    }
    Bundle::index(images)
}

/// What is not carried on when only the images with these manifests are, one line each: platforms of an index, and
/// what is attached to the images.
///
/// # Errors
/// When a digest is none.
pub async fn left_out(source: &Source, taken: &[String]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if let Some((index, ..)) = source.index() {
        let others = index.images().filter(|entry| !taken.contains(&entry.digest));
        let platforms: Vec<String> = others.filter_map(|entry| Some(entry.platform.as_ref()?.to_string())).collect();
        if !platforms.is_empty() {
            lines.push(format!("left out: {}", platforms.join(", ")));
        }
        let attached: Vec<&str> = index.manifests.iter().filter_map(Descriptor::attached).collect();
        let kinds: BTreeSet<&str> = attached.iter().copied().collect();
        if !attached.is_empty() {
            let kinds: Vec<&str> = kinds.into_iter().collect();
            lines.push(format!("left out, attached to the images: {} ({})", attached.len(), kinds.join(", ")));
        }
    }
    let index = source.index().map(|(_, _, descriptor)| descriptor.digest.as_str());
    let digests: Vec<&str> = taken.iter().map(String::as_str).chain(index).collect();
    let found = source.attached(&digests).await?.into_iter();
    lines.extend(found.map(|found| format!("left out: the {found}; copy it under its own name, or sign what comes out")));
    Ok(lines)
}
