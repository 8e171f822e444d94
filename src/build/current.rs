//! Current: a result that is there already, verified, of the same inputs. Nothing is done then.
//!
//! A result says by its label what it followed from ([`super::inputs`]). Only one that passed has the names that are
//! asked for, and only one that was compared has the label; so that a name with the right label is proof enough.

use std::collections::BTreeSet;

use anyhow::Result;

use super::subject::Subject;
use super::{Session, elsewhere, inputs, publish, subject};
use crate::image::{ImageConfig, Reference};
use crate::pack::config::{LABEL_INPUTS, is_result};
use crate::plan::Source;
use crate::report::{self, Redactor, model};
use crate::store::Transport;

/// What is there, and was not touched.
pub struct Current {
    /// What the image is called.
    pub name: String,
    /// Names with digests, as a build that makes it gives them.
    pub published: Vec<(String, String)>,
    /// The image that it was made from; `None` where nobody can say how large that is.
    pub source: Option<model::Image>,
    /// It; `None` likewise.
    pub result: Option<model::Image>,
}

/// Looks before an image from elsewhere is fetched, so that nothing is for what is up to date.
pub async fn before_fetching(session: &Session<'_>, redactor: &Redactor) -> Option<Current> {
    let Source::Elsewhere(transport) = &session.plan.source else { return None };
    if !wanted(session) {
        return None;
    }
    // What is wrong with it, fetching it tells.
    let (reference, config, base) = elsewhere::peek(session, transport).await.ok()?;
    let image = inputs::Image { config: &config, name: base.name.as_deref() };
    let inputs = inputs::of(session.plan, &image, session.engine.info().local, redactor).ok()?;
    find(session, &reference, &inputs).await
}

/// Finds out what the result will follow from. `None`: it is no use to anybody to know.
pub fn inputs_of(session: &Session<'_>, subject: &Subject, redactor: &Redactor) -> Option<String> {
    if !session.plan.verify {
        return None;
    }
    let image = inputs::Image { config: &subject.config_digest, name: subject.base.name.as_deref() };
    match inputs::of(session.plan, &image, session.engine.info().local, redactor) {
        Ok(inputs) => Some(inputs),
        Err(why) => {
            session.info(format!("it is built each time, whether it is up to date is not known: {why}"));
            None
        }
    }
}

/// The result that is there under every name and in every place where it is to be, of these inputs.
pub async fn find(session: &Session<'_>, reference: &Reference, inputs: &str) -> Option<Current> {
    if !wanted(session) {
        return None;
    }
    let mut ids = BTreeSet::new();
    let mut published = Vec::new();
    for tag in publish::names(session, reference) {
        let image = session.engine.image(&tag).await.ok()??;
        let config = ImageConfig::parse(&session.engine.image_config(&image.id).await.ok()?).ok()?;
        if ids.insert(image.id.clone()) && !says(&config, inputs) {
            return None;
        }
        published.push((tag, image.id));
    }
    let mut written = BTreeSet::new();
    for to in &session.plan.outputs.written {
        let there = elsewhere::there(session, to).await.ok()??;
        if !says(&there.config, inputs) {
            return None;
        }
        written.insert(there.id);
        published.push((elsewhere::shown(to), there.digest));
    }
    if ids.len() > 1 || written.len() > 1 {
        return None;
    }
    let (source, result) = figures(session, ids.first().or(written.first()), reference).await;
    Some(Current { name: reference.familiar(), published, source, result })
}

/// What the user asked for besides the image: the digest of its manifest, where the file does not say it yet.
///
/// # Errors
/// When the file cannot be written.
pub fn write_digest(session: &Session<'_>, current: &Current) -> Result<()> {
    let written = session.plan.outputs.written.first().map(elsewhere::shown);
    let digest = current.published.iter().find(|(place, _)| Some(place) == written.as_ref());
    elsewhere::write_digest(session, digest.map(|(_, digest)| digest.as_str()))
}

/// Whether a result that is there would be taken. One that is not verified is what nobody relies on.
fn wanted(session: &Session<'_>) -> bool {
    session.plan.verify && !session.plan.outputs.rebuild
}

/// Whether an image is a result of these inputs.
fn says(config: &ImageConfig, inputs: &str) -> bool {
    is_result(config) && config.labels().get(LABEL_INPUTS).is_some_and(|label| label == inputs)
}

/// Source and result in figures: of the report that made the result, where it is still there; else as the engine has
/// them.
async fn figures(
    session: &Session<'_>,
    id: Option<&String>,
    reference: &Reference,
) -> (Option<model::Image>, Option<model::Image>) {
    let report = session.plan.outputs.report.as_deref().and_then(|path| report::load(path).ok());
    let made = |report: &report::Report| report.result.as_ref().is_some_and(|result| Some(&result.digest) == id);
    if let Some(report) = report.filter(made) {
        return (Some(report.source), report.result);
    }
    let source = match &session.plan.source {
        Source::Image(name) => figure(session, name, reference).await,
        Source::Elsewhere(_) | Source::Dockerfile(_) => None,
    };
    let result = match id {
        Some(id) => figure(session, id, reference).await,
        None => None,
    };
    (source, result)
}

async fn figure(session: &Session<'_>, name: &str, reference: &Reference) -> Option<model::Image> {
    let image = session.engine.image(name).await.ok()??;
    let config = ImageConfig::parse(&session.engine.image_config(&image.id).await.ok()?).ok()?;
    let layer_list = subject::layers(session, &image.id, &config).await;
    Some(model::Image {
        reference: image.tags.first().cloned().unwrap_or_else(|| reference.familiar()),
        tags: image.tags,
        digest: image.id,
        size_bytes: image.size,
        layers: image.layers as u64,
        layer_list,
        ..model::Image::default()
    })
}

/// How an archive of ours is read to learn the digest of its manifest: it is an OCI layout, too.
pub(super) fn as_layout(to: &Transport) -> Transport {
    match to {
        Transport::DockerArchive(path, _) => Transport::OciArchive(path.clone(), None),
        other => other.clone(),
    }
}
