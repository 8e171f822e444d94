//! Slim: the slim image, from what is known of the run to an image in the engine that has no name yet.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::StreamExt;

use super::Session;
use super::early::Made;
use super::record::Recorded;
use super::secrets::Searching;
use super::apart::Reader;
use super::subject::Subject;
use super::trial::Trial;
use super::untouched::Untouched;
use super::uses;
use crate::exit::Exit;
use crate::image::ImageConfig;
use crate::keep::scripts::{self, Dialect};
use crate::keep::{KeepSet, Policy, Step, Want};
use crate::pack::archive::PackedImage;
use crate::pack::compressed::Measuring;
use crate::pack::config::Provenance;
use crate::pack::overlay::Overlay;
use crate::pack::sparse::Sparse;
use crate::pack::{self, PristineImage, layer};
use crate::plan::BuildPlan;
use crate::progress::{Fact, Later, Monitor};
use crate::report::Builder;
use crate::trace::Trace;

/// Rounds of asking for facts: a chain of libraries is never this long.
const MAX_ROUNDS: usize = 100;

/// The slim image.
pub struct Slim {
    /// What it holds, and why.
    pub keep: KeepSet,
    /// It, in the engine.
    pub image: PackedImage,
    /// How it did when it was run while settling went on; `None` when it was not.
    pub trial: Option<Trial>,
    /// What was to be said then.
    pub told: Arc<Later>,
}

/// Decides, packs and loads, one phase each. What was made early is taken where it is the same.
pub async fn make(
    session: &Session<'_>,
    subject: &Subject,
    recorded: &mut Recorded,
    report: &mut Builder,
) -> Result<Slim> {
    let Recorded { image: untouched, trace, early, compressed, searching, .. } = recorded;
    session.phase("decide", "which files stay");
    let keep = decide(session, subject, untouched, trace).await?;
    report.decided(&untouched.tree, &keep, &untouched.packages);
    session.done("decide", format!("{} of {} paths", keep.kept.len(), untouched.tree.len()));

    session.phase("pack", "one layer with the files that stay");
    let loaded = early.take().and_then(|early| early.take(&keep));
    let is_loaded = loaded.is_some();
    let (image, measuring, (trial, told)) = match loaded {
        Some(Made { image, measuring, tried, .. }) => (image, measuring, tried),
        None => {
            let image = pack(session, subject, untouched, &keep).await?;
            let measuring = Measuring::start(&image)?;
            (image, measuring, Default::default())
        }
    };
    let bytes = image.layer.content_bytes;
    session.monitor.tell(Fact::Bytes { done: bytes, total: Some(bytes) });
    report.config(&subject.config, &ImageConfig::parse(&image.config)?);
    let when = if is_loaded { ", while the run settled" } else { "" };
    session.done("pack", format!("{} files{when}", image.layer.entries));
    // That of an image that misses something is given up here.
    *compressed = Some(measuring);
    *searching = Some(Searching::start(&image, untouched, &keep)?);

    session.phase("load", "into the engine");
    if !is_loaded {
        load(session, &image).await?;
    }
    let bytes = image.archive_bytes(&[])?;
    session.monitor.tell(Fact::Bytes { done: bytes, total: Some(bytes) });
    session.done("load", String::new());
    Ok(Slim { keep, image, trial, told })
}

/// Says what could not be taken over.
pub fn tell_losses(session: &Session<'_>, image: &PackedImage, pristine: &PristineImage) {
    for path in &image.layer.skipped {
        session.warn(format!("{path} is a socket, which no layer can hold"));
    }
    for warning in &pristine.warnings {
        session.warn(warning.clone());
    }
}

/// Decides, and finds out what deciding asks for.
pub async fn decide(
    session: &Session<'_>,
    subject: &Subject,
    image: &mut Untouched,
    trace: &Trace,
) -> Result<KeepSet> {
    let mut reader = Reader::default();
    let mut policy = policy(session.plan, subject);
    for line in scripts::lines(&subject.config, &policy) {
        let script = reader.read(Dialect::Words, &scripts::words_text(&line)).await;
        policy.lines.insert(line, script);
    }
    for _ in 0..MAX_ROUNDS {
        match crate::keep::decide(&image.tree, trace, &subject.config, &policy, &image.facts, &image.packages) {
            Step::Need(want) => {
                let mut found = image.pristine.facts(want.clone()).await?;
                for (path, want) in &want {
                    if let (Want::Calls(dialect), Some(facts)) = (want, found.get_mut(path)) {
                        facts.script = Some(reader.read(*dialect, facts.text.as_deref().unwrap_or_default()).await);
                    }
                }
                crate::keep::answer(&mut image.facts, want, found);
            }
            Step::Done(mut keep) => {
                let made = image.metadata(&keep, policy.metadata).await?;
                keep.describe_packages(&image.tree, made);
                uses::check_slim(&policy, image, &keep)?;
                return Ok(keep);
            }
        }
    }
    Err(anyhow::anyhow!("deciding asks for ever more facts")).context(Exit::Bug)
}

/// What the user wants kept, and how the target runs.
pub fn policy(plan: &BuildPlan, subject: &Subject) -> Policy {
    Policy {
        argv: subject.argv.clone(),
        user: plan.run.user.clone().unwrap_or_else(|| subject.config.user().to_owned()),
        workdir: plan.run.workdir.clone().unwrap_or_else(|| subject.config.workdir().to_owned()),
        env: crate::run::env_of(&subject.config, &plan.run),
        mount_points: subject.mount_points.clone(),
        uses: subject.uses.clone(),
        ..plan.policy.clone()
    }
}

/// Writes the layer into a temporary file that has no name, and makes the config for it.
pub async fn pack(
    session: &Session<'_>,
    subject: &Subject,
    image: &mut Untouched,
    keep: &KeepSet,
) -> Result<PackedImage> {
    let file = tempfile::tempfile().context("make a temporary file for the layer")?;
    let out = Sparse(file.try_clone().context("open the layer's file")?);
    let mut out = std::io::BufWriter::with_capacity(1 << 20, out);
    let written = keep.written.iter().filter(|(_, written)| written.entry.is_file());
    let written = written.map(|(path, written)| (path.clone(), written.content.clone())).collect();
    let mut contents = Overlay::new(&mut image.pristine, &written);
    let layer = layer::write(&keep.tree(&image.tree), keep.kept.keys(), &mut contents, &mut out).await?;
    drop(out);
    let provenance = Provenance {
        source_id: subject.info.id.clone(),
        keep_set: keep.digest(),
        level: keep.level.name().to_owned(),
        base_name: subject.base.name.clone(),
        inputs: subject.inputs.clone(),
    };
    let config = pack::config::build(&subject.config, &layer.diff_id, &session.plan.edits, &provenance)?;
    PackedImage::new(config, layer, file)
}

/// Gives the image to the engine.
pub async fn load(session: &Session<'_>, image: &PackedImage) -> Result<()> {
    let stream = chunks(image.archive(&[])?);
    session.engine.load(stream, &image.id).await.context("load the slim image")
}

/// A reader as a stream, read on a thread that may block.
fn chunks(mut reader: impl Read + Send + 'static) -> futures_util::stream::BoxStream<'static, Bytes> {
    let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(4);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut block = vec![0u8; 1 << 18];
            match reader.read(&mut block) {
                // A short archive is refused by the engine, which then says what is missing.
                Ok(0) | Err(_) => return,
                Ok(n) => block.truncate(n),
            }
            if send.blocking_send(block.into()).is_err() {
                return;
            }
        }
    });
    futures_util::stream::unfold(receive, |mut receive| async move {
        let block = receive.recv().await?;
        Some((block, receive))
    })
    .boxed()
}
