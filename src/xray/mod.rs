//! Xray: one image's contents, told without running anything. Layers go in, a model comes out, and views of it.

use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};

use crate::cli::xray::Format;
use crate::exit::Hint;
use crate::image::{ImageConfig, Reference};
use crate::packages::Packages;
use crate::progress::Fact;
use crate::report::file::to_json;
use crate::report::show::Style;
use crate::report::views::{cyclonedx, spdx};
use crate::store::compress::Compression;
use crate::store::{Image, Source, Transport};

mod certificates;
mod dockerfile;
mod duplicates;
pub mod layers;
mod markdown;
pub mod model;
mod notes;
mod packages;
pub mod plan;
mod rules;
pub mod secrets;
pub mod show;
mod surface;

pub use model::Xray;
pub use plan::{XrayPlan, plan};

use layers::Stack;
use model::{About, Instruction, Layer, SCHEMA, Secret};
use plan::Place;
use secrets::Finder;

/// Looks into an image.
///
/// # Errors
/// When there is none, or it is damaged.
pub async fn xray(plan: &XrayPlan) -> Result<Xray> {
    let monitor = &plan.access.monitor;
    monitor.tell(Fact::Phase { name: "read", detail: plan.text.clone() });
    let image = open(plan).await?;
    let (reference, top) = (plan.text.clone(), plan.top);
    let work = move || look(&image, reference, top);
    let xray = tokio::task::spawn_blocking(work).await.context("read the image")?.with_context(|| format!("read {}", plan.text))?;
    monitor.tell(Fact::PhaseDone { name: "read", detail: String::new() });
    Ok(xray)
}

/// The image that is meant, its layers on this machine.
///
/// # Errors
/// When there is none.
pub async fn open(plan: &XrayPlan) -> Result<Image> {
    let source = source(plan).await?;
    let image = source.image(plan.platform.as_ref()).await.with_context(|| format!("read {}", plan.text))?;
    image.fetch(|_| true).await?;
    Ok(image)
}

/// What is meant, open for reading.
async fn source(plan: &XrayPlan) -> Result<Source> {
    let (text, monitor) = (&plan.text, &plan.access.monitor);
    let transport = match &plan.place {
        Place::Transport(transport @ (Transport::Daemon(_) | Transport::Podman(_))) => {
            return crate::copy::engine::save(transport, &plan.engine, monitor).await;
        }
        Place::Transport(transport) => transport.clone(),
        Place::Bare(reference) => {
            let engine = crate::engine::open(&plan.engine, monitor.clone()).await?;
            if let Some(source) = crate::copy::engine::save_from(engine.as_ref(), text).await? {
                return Ok(source);
            }
            match reference {
                Reference::Name(name) if engine.info().is_embedded() => Transport::Registry(name.clone()),
                _ => {
                    let hint = "pull it first, or say where it is: docker://NAME, docker-archive:FILE, oci:DIR";
                    return Err(anyhow!("the engine has no image {text}")).context(Hint::new(hint));
                }
            }
        }
    };
    Source::open(&transport, &plan.access).await
}

/// All of an image, read.
pub struct Seen {
    /// Its config.
    pub config: ImageConfig,
    /// Its layers and what they come to.
    pub stack: Stack,
    /// What masks its secrets.
    pub finder: Finder,
    /// What its package managers say.
    pub packages: Packages,
    /// What looks like a secret, the worst first.
    pub secrets: Vec<Secret>,
    /// The instructions that made it, secrets masked.
    pub dockerfile: Vec<Instruction>,
}

/// Reads all of an image. Blocks. `top`: so many paths of each kind are named for a layer.
///
/// # Errors
/// When it is damaged or exceeds a limit.
pub fn read(image: &Image, top: usize) -> Result<Seen> {
    let config = image.parsed_config()?;
    let (mut stack, mut finder) = (Stack::default(), Finder::new()?);
    for (index, layer) in image.layers.iter().enumerate() {
        let what = || format!("read the layer {}", layer.diff_id);
        stack.layer(image.layer(index).with_context(what)?, &mut finder, top).with_context(what)?;
    }
    let numbered = numbered(&config, image.layers.len());
    let of_entries: Vec<Option<u64>> = numbered.iter().map(|entry| entry.layer).collect();
    finder.config(&config, &of_entries);
    let dockerfile = numbered.into_iter().map(|entry| Instruction { text: finder.masked(&entry.text), ..entry }).collect();
    let packages = packages::read(image, &stack)?;
    let mut secrets = std::mem::take(&mut finder.found);
    for secret in &mut secrets {
        let owner = secret.path.as_ref().and_then(|path| packages.owner(path));
        secret.package = owner.map(|package| format!("{}:{}", package.system, package.name));
        secret.slimming = secret.fate();
    }
    secrets.sort();
    Ok(Seen { config, stack, finder, packages, secrets, dockerfile })
}

fn look(image: &Image, reference: String, top: usize) -> Result<Xray> {
    let Seen { config, mut stack, finder, packages: found, secrets, dockerfile } = read(image, top)?;
    let mut warnings = found.warnings.clone();
    if finder.more > 0 {
        warnings.push(format!("{} more places look like secrets than the first {}, which are told", finder.more, secrets::MOST));
    }
    let size_bytes = stack.layers.iter().map(|layer| layer.bytes).sum();
    let layers = told(image, &mut stack, &dockerfile);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let certificates = std::mem::take(&mut stack.certificates).told(&stack, &found, now);
    let about = About { size_bytes, reference, ..about(image, &config, &stack, &finder) };
    let notes = notes::notes(&about, &certificates);
    let bom = packages::bom(stack.tree(), &found, &about);
    let (duplicates, duplicate_bytes) = duplicates::duplicates(&stack);
    Ok(Xray {
        schema: SCHEMA.to_owned(),
        image: about,
        notes,
        secrets,
        wasted_bytes: layers.iter().map(|layer| layer.wasted_bytes).sum(),
        layers,
        dockerfile,
        bom,
        packages: packages::weighed(stack.tree(), &found),
        unowned: packages::unowned(stack.tree(), &found),
        surface: surface::surface(stack.tree()),
        certificates,
        duplicates,
        duplicate_bytes,
        warnings,
    })
}

/// The history's instructions, each with its layer; with none at all where their number is not that of the layers.
fn numbered(config: &ImageConfig, layers: usize) -> Vec<Instruction> {
    let entries = dockerfile::entries(config.value());
    let agrees = entries.iter().filter(|entry| entry.layered).count() == layers;
    let mut number = 0;
    let numbered = entries.into_iter().map(|entry| {
        number += u64::from(entry.layered);
        Instruction { text: entry.text, layer: (entry.layered && agrees).then_some(number) }
    });
    numbered.collect()
}

fn told(image: &Image, stack: &mut Stack, dockerfile: &[Instruction]) -> Vec<Layer> {
    let wasted = stack.wasted();
    let all = image.layers.iter().zip(std::mem::take(&mut stack.layers)).zip(wasted).zip(1..);
    let layer = |(((layer, done), wasted_bytes), number): (((&crate::store::image::Layer, layers::Done), u64), u64)| Layer {
        number,
        diff_id: layer.diff_id.to_string(),
        bytes: done.bytes,
        compressed_bytes: compressed(layer),
        made_by: dockerfile.iter().find(|made| made.layer == Some(number)).map(|made| made.text.clone()).unwrap_or_default(),
        added: done.added,
        changed: done.changed,
        removed: done.removed,
        wasted_bytes,
    };
    all.map(layer).collect()
}

/// What a registry transfers; `None` for a layer that is not compressed where it is.
pub fn compressed(layer: &crate::store::image::Layer) -> Option<u64> {
    match layer.compression {
        Compression::None => None,
        Compression::Gzip | Compression::Zstd => layer.travels.as_ref().map(|travels| travels.size),
    }
}

/// All but its size and what the user calls it.
fn about(image: &Image, config: &ImageConfig, stack: &Stack, finder: &Finder) -> About {
    let user = config.user().split(':').next().unwrap_or_default();
    // Together: what an option of the CMD means is for the program to say.
    let mut entrypoint = finder.masked_words(&[config.entrypoint(), config.cmd()].concat());
    let cmd = entrypoint.split_off(config.entrypoint().len());
    let name = |line: &String| line.split_once('=').map_or(line.as_str(), |(name, _)| name).to_owned();
    About {
        id: image.id().to_string(),
        digest: image.manifest.as_ref().map(|(_, _, descriptor)| descriptor.digest.clone()),
        platform: image.platform.to_string(),
        created: config.created().to_owned(),
        packages_changed: notes::packages_changed(stack.tree()),
        compressed_bytes: image.layers.iter().map(compressed).sum(),
        content_bytes: stack.tree().bytes(),
        files: stack.tree().iter().filter(|(_, entry)| !entry.is_dir()).count() as u64,
        layers: image.layers.len() as u64,
        user: config.user().to_owned(),
        root: matches!(user, "" | "root") || user.parse::<u64>() == Ok(0),
        healthcheck: config.healthcheck().is_some(),
        ports: config.exposed_ports(),
        volumes: config.volumes(),
        entrypoint,
        cmd,
        env_names: config.env().iter().map(name).collect(),
        ..About::default()
    }
}

impl Xray {
    /// The model in a format; `top`: so many entries of each list, where people read it.
    pub fn tell(&self, format: Format, top: usize, style: Style) -> String {
        match format {
            Format::Text => show::show(self, top, style),
            Format::Markdown => markdown::markdown(self, top),
            Format::Json => to_json(self),
            Format::Cyclonedx => cyclonedx::cyclonedx(&self.bom),
            Format::Spdx => spdx::spdx(&self.bom),
        }
    }
}
