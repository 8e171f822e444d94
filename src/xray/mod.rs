//! Xray: one image's contents, told without running anything. Layers go in, a model comes out, and views of it.

use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};

use crate::cli::xray::Format;
use crate::exit::Hint;
use crate::image::{ImageConfig, Reference};
use crate::progress::Fact;
use crate::report::file::to_json;
use crate::report::show::Style;
use crate::report::views::{cyclonedx, spdx};
use crate::store::compress::Compression;
use crate::store::{Image, Source, Transport};

mod certificates;
mod dockerfile;
mod notes;
mod duplicates;
mod layers;
mod markdown;
pub mod model;
mod packages;
mod plan;
mod rules;
pub mod secrets;
mod show;
mod surface;

pub use model::Xray;
pub use plan::{XrayPlan, plan};

use layers::Stack;
use model::{About, Instruction, Layer, SCHEMA};
use plan::Place;
use secrets::Finder;

/// Looks into an image.
///
/// # Errors
/// When there is none, or it is damaged.
pub async fn xray(plan: &XrayPlan) -> Result<Xray> {
    let monitor = &plan.access.monitor;
    monitor.tell(Fact::Phase { name: "read", detail: plan.text.clone() });
    let source = open(plan).await?;
    let image = source.image(plan.platform.as_ref()).await.with_context(|| format!("read {}", plan.text))?;
    image.fetch(|_| true).await?;
    let (reference, top) = (plan.text.clone(), plan.top);
    let work = move || look(&image, reference, top);
    let xray = tokio::task::spawn_blocking(work).await.context("read the image")?.with_context(|| format!("read {}", plan.text))?;
    monitor.tell(Fact::PhaseDone { name: "read", detail: String::new() });
    Ok(xray)
}

/// What is meant, open for reading.
async fn open(plan: &XrayPlan) -> Result<Source> {
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

/// Reads all of an image. Blocks.
fn look(image: &Image, reference: String, top: usize) -> Result<Xray> {
    let config = image.parsed_config()?;
    let (mut stack, mut finder) = (Stack::default(), Finder::new()?);
    for (index, layer) in image.layers.iter().enumerate() {
        let what = || format!("read the layer {}", layer.diff_id);
        stack.layer(image.layer(index).with_context(what)?, &mut finder, top).with_context(what)?;
    }
    let numbered = numbered(&config, image.layers.len());
    let of_entries: Vec<Option<u64>> = numbered.iter().map(|entry| entry.layer).collect();
    finder.config(&config, &of_entries);
    let dockerfile: Vec<Instruction> =
        numbered.into_iter().map(|entry| Instruction { text: finder.masked(&entry.text), ..entry }).collect();
    let found = packages::read(image, &stack)?;
    let mut secrets = std::mem::take(&mut finder.found);
    for secret in &mut secrets {
        let owner = secret.path.as_ref().and_then(|path| found.owner(path));
        secret.package = owner.map(|package| format!("{}:{}", package.system, package.name));
    }
    secrets.sort();
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
fn compressed(layer: &crate::store::image::Layer) -> Option<u64> {
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
