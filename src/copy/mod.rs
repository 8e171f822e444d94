//! Copy: an image from one place to another, unchanged but for its compression: engines, archives, layouts,
//! registries in any combination.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use crate::engine::EngineChoice;
use crate::exit::{Exit, Hint};
use crate::progress::{Fact, Monitor};
use crate::store::compress::Compression;
use crate::store::layout::Replace;
use crate::store::manifest::{Index, Platform};
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
        std::fs::write(file, &digest).with_context(|| format!("write the digest to {}", file.display()))?;
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
    let mut images = Vec::new();
    for platform in &wishes {
        let image = Arc::new(source.image(platform.as_ref()).await?);
        image.fetch(|_| true).await?;
        let ready = move || Outgoing::prepare(&image, words, wish);
        images.push(tokio::task::spawn_blocking(ready).await.context("prepare the image")??);
    }
    if let Some((index, ..)) = source.index() {
        tell_dropped(index, &images, &plan.access.monitor);
    }
    let bundle = match single {
        true => Bundle::one(images.remove(0)),
        false => same_index(source, images)?,
    };
    let mut digests: Vec<&str> = bundle.images.iter().map(|image| image.descriptor.digest.as_str()).collect();
    digests.extend(source.index().map(|(_, _, descriptor)| descriptor.digest.as_str()));
    for found in source.attached(&digests).await? {
        plan.access.monitor.tell(Fact::Warning { text: format!("left out: the {found}; copy it under its own name, or sign the copy") });
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

/// Names what of an index is not carried on.
fn tell_dropped(index: &Index, images: &[Outgoing], monitor: &Arc<dyn Monitor>) {
    let taken = |entry: &&crate::store::manifest::Descriptor| {
        let platform = entry.platform.as_ref();
        images.iter().any(|image| image.descriptor.digest == entry.digest || (platform.is_some() && image.descriptor.platform.as_ref() == platform))
    };
    let platforms: Vec<String> = index.images().filter(|entry| !taken(entry)).filter_map(|entry| Some(entry.platform.as_ref()?.to_string())).collect();
    let attached: Vec<&str> = index.manifests.iter().filter_map(|entry| entry.attached()).collect();
    if !platforms.is_empty() {
        monitor.tell(Fact::Warning { text: format!("left out: {}", platforms.join(", ")) });
    }
    if !attached.is_empty() {
        let text = format!("left out, attached to the images: {} ({})", attached.len(), first_of_each(&attached).join(", "));
        monitor.tell(Fact::Warning { text });
    }
}

fn first_of_each<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let set: std::collections::BTreeSet<&str> = words.iter().copied().collect();
    set.into_iter().collect()
}
