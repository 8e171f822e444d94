//! Subject: the image that is to be made smaller, found, checked and understood.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use super::base::Base;
use super::{Session, elsewhere, traces};
use crate::engine::options::mounts;
use crate::engine::{ImageInfo, RunOptions};
use crate::exit::{Exit, Hint};
use crate::image::ImageConfig;
use crate::image::reference::Reference;
use crate::keep::Used;
use crate::plan::{Pull, Source};
use crate::probe::{ProbePlan, Readiness};
use crate::report::{Builder, model};
use crate::run;
use crate::store::manifest::Platform;

/// The image, and what follows from its config and the plan.
pub struct Subject {
    /// What the user called it.
    pub reference: Reference,
    /// It comes from elsewhere: the engine was given it to run, and knows it by no name.
    pub passing: bool,
    /// How others name it.
    pub base: Base,
    /// What the engine says of it.
    pub info: ImageInfo,
    /// Its config document.
    pub config: ImageConfig,
    /// `sha256:` of that document: the same in every store, where the ID may be that of a manifest.
    pub config_digest: String,
    /// Digest of all that the result follows from; `None` where it is not known, or nothing is verified.
    pub inputs: Option<String>,
    /// The command line that runs.
    pub argv: Vec<String>,
    /// The image's VOLUMEs: a container of any purpose has mounts there.
    pub volumes: Vec<String>,
    /// Where the run has mounts: VOLUMEs, binds, tmpfs.
    pub mount_points: Vec<String>,
    /// What is probed.
    pub probes: ProbePlan,
    /// Command lines with which files of `--uses` run it.
    pub uses: Vec<Used>,
}

/// Finds the image, builds or pulls it when asked, and works out how it is run and probed.
pub async fn open(session: &Session<'_>, report: &mut Builder) -> Result<Subject> {
    let plan = session.plan;
    let mut passing = false;
    let (reference, info, base) = match &plan.source {
        Source::Image(text) => match elsewhere::registry_of(session, text).await? {
            Some(registry) => {
                passing = true;
                let what = || format!("the engine in this program has no image {text}, nor is it to be had from the registry that its name implies");
                elsewhere::fetch(session, &registry).await.with_context(what)?
            }
            None => {
                let (reference, info) = find(session, text).await?;
                let base = Base::in_engine(text, &reference, &info);
                (reference, info, base)
            }
        },
        Source::Elsewhere(transport) => {
            passing = true;
            elsewhere::fetch(session, transport).await?
        }
        Source::Dockerfile(spec) => {
            session.phase("build", format!("{}", spec.context.display()));
            let id = session.engine.build(spec).await.context("build the Dockerfile")?;
            session.done("build", String::new());
            let name = spec.tag.clone().unwrap_or_else(|| id.clone());
            let (reference, info) = (Reference::parse(&name)?, found(session, &id).await?);
            let base = Base::in_engine(&name, &reference, &info);
            (reference, info, base)
        }
    };
    let info_of_engine = session.engine.info();
    if !info_of_engine.runs(&info.os, &info.arch) {
        return Err(anyhow!(
            "{} is for {}/{}, the engine runs linux/{}: an image has to run to be recorded",
            reference.familiar(),
            info.os,
            info.arch,
            info_of_engine.arch
        ));
    }
    other_than_asked(plan.run.platform.as_deref(), &reference, &info)?;
    let raw = session.engine.image_config(&info.id).await.context("read the image's config")?;
    let config = ImageConfig::parse(&raw)?;
    let env = run::env_of(&config, &plan.run);
    session.learn_env(&config.env(), report);
    session.learn_env(&env, report);
    let config_digest = digest(&raw);
    let uses = super::uses::of(&plan.uses, &names(&reference, &info), &config)?;
    let request = super::uses::probed(&plan.probes, &uses);
    let uses = uses.into_iter().map(|found| found.used).collect();
    let (argv, probes) = match traces::alone(plan) {
        // How it runs and what it is asked is in the traces.
        true => (run::argv_of(&config, &plan.run).unwrap_or_default(), ProbePlan::of(Readiness::Started, Duration::ZERO, Vec::new())),
        false => (
            run::argv_of(&config, &plan.run).context(Exit::Usage)?,
            crate::probe::choose(&config, &plan.run, &request).context(Exit::Usage)?,
        ),
    };
    for note in &probes.notes {
        session.info(note.clone());
    }
    for warning in &probes.warnings {
        session.warn(warning.clone());
    }
    let user = plan.run.user.clone().unwrap_or_else(|| config.user().to_owned());
    let workdir = plan.run.workdir.clone().unwrap_or_else(|| config.workdir().to_owned());
    report.target(&argv, &user, &workdir, &env);
    report.source(model::Image {
        reference: reference.familiar(),
        tags: info.tags.clone(),
        digest: info.id.clone(),
        size_bytes: info.size,
        layers: info.layers as u64,
        user: Some(config.user().to_owned()),
        layer_list: layers(session, &info.id, &config).await,
        ..model::Image::default()
    });
    for mount in writable_mounts(&plan.run) {
        session.warn(format!(
            "{mount} is writable: what one run leaves in it, the next one finds; mount it :ro or reset it with --before-run"
        ));
    }
    let volumes = config.volumes();
    let mount_points = mount_points(&volumes, &plan.run);
    Ok(Subject { reference, passing, base, info, config, config_digest, inputs: None, argv, volumes, mount_points, probes, uses })
}

/// `--platform` picks from what has several: an image that the engine has is for one.
fn other_than_asked(asked: Option<&str>, reference: &Reference, info: &ImageInfo) -> Result<()> {
    let Some(asked) = asked.map(Platform::parse).transpose().context(Exit::Usage)? else { return Ok(()) };
    if asked.os == info.os && asked.architecture == info.arch {
        return Ok(());
    }
    let (name, has) = (reference.familiar(), format!("{}/{}", info.os, info.arch));
    let what = format!("{name} is for {has}, not for {asked} as --platform says");
    Err(anyhow!(what)).context(Hint::new("drop --platform, or give --pull=always to fetch the other one"))
}

/// The layers with what each adds; `None` where the engine does not say, which is no reason to build nothing.
pub(super) async fn layers(session: &Session<'_>, id: &str, config: &ImageConfig) -> Option<Vec<model::Layer>> {
    let sizes = session.engine.layer_sizes(id, config).await.ok()??;
    let layers = config.diff_ids().into_iter().zip(sizes);
    Some(layers.map(|(diff_id, bytes)| model::Layer { diff_id, bytes }).collect())
}

/// `sha256:` and the hex.
pub fn digest(document: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(document).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The names by which files may mean the image.
fn names(reference: &Reference, info: &ImageInfo) -> Vec<String> {
    let mut names = vec![reference.familiar(), info.id.clone()];
    names.extend(info.tags.iter().chain(&info.repo_digests).cloned());
    names
}

async fn find(session: &Session<'_>, text: &str) -> Result<(Reference, ImageInfo)> {
    let plan = session.plan;
    let reference = Reference::parse(text).context(Exit::Usage)?;
    let known = session.engine.image(text).await?;
    let pull = match plan.pull {
        Pull::Always => true,
        Pull::Missing => known.is_none(),
        Pull::Never | Pull::Unsaid => false,
    };
    if pull {
        if let Reference::Id(_) = reference {
            let what = format!("the engine has no image {text}, and an image ID cannot be pulled: registries know images by name");
            return Err(anyhow!(what)).context(Hint::new("name it, as NAME[:TAG] or NAME@DIGEST"));
        }
        if let Some(platform) = &plan.run.platform {
            elsewhere::can_run(session, &Platform::parse(platform).context(Exit::Usage)?)?;
        }
        session.phase("pull", reference.familiar());
        session.engine.pull(&reference.normalised(), plan.run.platform.as_deref(), plan.auth.as_ref()).await?;
        session.done("pull", String::new());
    } else if known.is_none() {
        let what = format!("the engine has no image {}", reference.familiar());
        return Err(anyhow!(what)).context(Hint::new("give --pull to fetch it, or build it first"));
    }
    let info = found(session, text).await?;
    let reference = reference.or_tag(&info.id, &info.tags);
    Ok((reference, info))
}

pub(super) async fn found(session: &Session<'_>, reference: &str) -> Result<ImageInfo> {
    match session.engine.image(reference).await? {
        Some(info) => Ok(info),
        None => bail!("the image {reference} is gone again"),
    }
}

/// Binds and named volumes that keep what a run writes.
fn writable_mounts(run: &RunOptions) -> Vec<String> {
    let mounts = mounts::all(run).into_iter();
    mounts.filter(|mount| mount.stays && !mount.read_only).map(|mount| mount.text).collect()
}

/// VOLUMEs of the image, and what the run mounts.
fn mount_points(volumes: &[String], run: &RunOptions) -> Vec<String> {
    let mut points = volumes.to_vec();
    points.extend(mounts::all(run).into_iter().map(|mount| mount.target));
    points.retain(|point| point.starts_with('/'));
    points.sort();
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_keep_what_a_run_writes_are_known() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let run = RunOptions {
            volumes: list(&["/a:/b", "/a:/b:ro", "/only", "name:/c:z", "/a:/d:z,ro"]),
            mounts: list(&[
                "type=bind,src=/a,dst=/b",
                "type=bind,src=/a,dst=/b,readonly",
                "type=tmpfs,dst=/t",
                "type=bind,src=/a,dst=/e,ro=false",
                "type=bind,\"src=/a,readonly\",dst=/f",
                "type=volume,dst=/g",
            ]),
            ..RunOptions::default()
        };
        assert_eq!(writable_mounts(&run), [
            "/a:/b",
            "name:/c:z",
            "type=bind,src=/a,dst=/b",
            "type=bind,src=/a,dst=/e,ro=false",
            "type=bind,\"src=/a,readonly\",dst=/f",
        ]);
    }
}
