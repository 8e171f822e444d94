//! Publish: the last stage. What passed gets its names and files, all of them or none; what did not is kept apart.

use anyhow::{Context, Result};

use super::provenance::Made;
use super::prove::Proof;
use super::subject::Subject;
use super::{Session, Verdict, elsewhere};
use crate::exit::Exit;
use crate::image::{ImageConfig, Reference};
use crate::pack::archive::PackedImage;
use crate::pack::config::LABEL_KEEP_SET;
use crate::plan::Source;
use crate::report::figures::counted;
use crate::report::{Builder, VerdictKind, model};

/// What a tag of a result that did not pass ends with.
const APART: &str = "-unverified";

/// A tag has at most this many characters (distribution's reference grammar).
const LONGEST_TAG: usize = 128;

/// Gives the result its tags and files, or keeps it under its own `-unverified` tag.
pub async fn publish(
    session: &Session<'_>,
    subject: &Subject,
    slim: &PackedImage,
    proof: Option<Proof>,
    compressed: Option<u64>,
    report: &mut Builder,
) -> Result<Verdict> {
    let outputs = &session.plan.outputs;
    let wanted = wanted(session, &subject.reference);
    let (kind, why, exit) = judge(proof.as_ref());
    if exit != Exit::Done {
        let apart = apart(&wanted[0])?;
        session.engine.tag(&slim.id, &apart).await.context("tag the unverified image")?;
        warn_of_older(session, &wanted).await?;
        let image = image_of(slim, &apart, vec![apart.clone()], None)?;
        report.result(model::Image { compressed_bytes: compressed, ..image });
        return Ok(Verdict { kind, why, exit, published: Vec::new(), made: None });
    }
    let measured = image_of(slim, "", Vec::new(), None)?;
    report.result(model::Image { compressed_bytes: compressed, ..measured });
    let missed = report.budgets(kind, |report| session.plan.budget.check(report));
    if missed > 0 {
        warn_of_older(session, &wanted).await?;
        let why = format!("{} missed, nothing is published", counted(missed, "budget", "budgets"));
        return Ok(Verdict { kind: VerdictKind::Failed, why, exit: Exit::Gate, published: Vec::new(), made: None });
    }
    session.closing.begin();
    let mut names = Names { session, id: &slim.id, given: Vec::new() };
    let published = match give(&mut names, subject, slim, &wanted).await {
        Ok(published) => published,
        Err(error) => {
            names.take_back().await;
            session.closing.undone();
            return Err(error);
        }
    };
    let archive = outputs.written.first().map(elsewhere::shown);
    let tags = if is_passing(session, subject.passing) { Vec::new() } else { wanted.clone() };
    let image = image_of(slim, &wanted[0], tags, archive)?;
    report.result(model::Image { compressed_bytes: compressed, ..image });
    let keep_set = ImageConfig::parse(&slim.config)?.labels().remove(LABEL_KEEP_SET).unwrap_or_default();
    let made = Some(Made::of(subject, slim, keep_set));
    Ok(Verdict { kind, why, exit, published, made })
}

/// Says which names still mean something older.
async fn warn_of_older(session: &Session<'_>, wanted: &[String]) -> Result<()> {
    for tag in wanted {
        if session.engine.image(tag).await?.is_some() {
            session.warn(format!("{tag} is still the result of an earlier build"));
        }
    }
    Ok(())
}

/// Names that the result is called by.
fn wanted(session: &Session<'_>, reference: &Reference) -> Vec<String> {
    match session.plan.outputs.tags.as_slice() {
        [] => vec![reference.slim_name()],
        tags => tags.to_vec(),
    }
}

/// Names that it gets in the engine.
pub fn names(session: &Session<'_>, reference: &Reference) -> Vec<String> {
    if is_passing(session, matches!(session.plan.source, Source::Elsewhere(_))) { Vec::new() } else { wanted(session, reference) }
}

/// Whether an image comes from elsewhere and goes elsewhere, so that the engine only runs it and names nothing.
fn is_passing(session: &Session<'_>, passing: bool) -> bool {
    let outputs = &session.plan.outputs;
    passing && outputs.tags.is_empty() && !outputs.written.is_empty()
}

/// Tags and what is written elsewhere. What may fail for want of space comes first, what cannot be undone last: an
/// older archive under the same name is gone when the new one has it.
async fn give(names: &mut Names<'_>, subject: &Subject, slim: &PackedImage, wanted: &[String]) -> Result<Vec<(String, String)>> {
    let session = names.session;
    let staged = elsewhere::stage(session, &subject.base, slim, wanted).await?;
    let mut published = Vec::new();
    for tag in wanted.iter().filter(|_| !is_passing(session, subject.passing)) {
        names.give(tag).await.with_context(|| format!("tag the result {tag}"))?;
        published.push((tag.clone(), slim.id.clone()));
    }
    session.closing.go_on()?;
    published.extend(elsewhere::publish(session, staged).await?);
    Ok(published)
}

/// Names that were given so far, each with the image that had it before.
struct Names<'a> {
    session: &'a Session<'a>,
    id: &'a str,
    given: Vec<(String, Option<String>)>,
}

impl Names<'_> {
    async fn give(&mut self, name: &str) -> Result<()> {
        self.session.closing.go_on()?;
        let before = self.session.engine.image(name).await?.map(|image| image.id);
        // Before it is asked for: a request that failed may have been obeyed.
        self.given.push((name.to_owned(), before));
        self.session.engine.tag(self.id, name).await
    }

    /// The last first, so that a name that was given twice ends where it was. What resists is told, and does not
    /// hide why the names are taken back.
    async fn take_back(self) {
        for (name, before) in self.given.iter().rev() {
            if let Err(error) = self.restore(name, before.as_deref()).await {
                self.session.warn(format!("the name {name} could not be taken back: {error:#}"));
            }
        }
    }

    async fn restore(&self, name: &str, before: Option<&str>) -> Result<()> {
        let engine = self.session.engine;
        if let Some(before) = before {
            return engine.tag(before, name).await;
        }
        let (ours, now) = (engine.image(self.id).await?, engine.image(name).await?);
        match (ours, now) {
            (Some(ours), Some(now)) if ours.id == now.id => engine.remove_image(name).await,
            _ => Ok(()),
        }
    }
}

/// The name of a result that did not pass; a tag that is too long to be lengthened is cut first.
fn apart(wanted: &str) -> Result<String> {
    let Reference::Name(name) = Reference::parse(wanted)? else {
        anyhow::bail!("{wanted} is no name");
    };
    let tag = name.tag_or_latest().unwrap_or("latest");
    let room = LONGEST_TAG - APART.len();
    Ok(format!("{}:{}{APART}", name.familiar_repository(), &tag[..tag.len().min(room)]))
}

/// Verdict, what it rests on, exit status.
pub fn judge(proof: Option<&Proof>) -> (VerdictKind, String, Exit) {
    match proof {
        None => (VerdictKind::Unverified, "--no-verify".into(), Exit::Done),
        Some(proof) if proof.agrees() => (VerdictKind::Verified, String::new(), Exit::Done),
        Some(proof) => match proof.flaky() {
            Some(why) => (VerdictKind::Flaky, why.to_owned(), Exit::Baseline),
            None => (VerdictKind::Failed, String::new(), Exit::Differs),
        },
    }
}

fn image_of(slim: &PackedImage, reference: &str, tags: Vec<String>, archive: Option<String>) -> Result<model::Image> {
    Ok(model::Image {
        reference: reference.to_owned(),
        tags,
        archive,
        digest: slim.id.clone(),
        size_bytes: slim.layer.engine_bytes,
        layers: 1,
        user: Some(ImageConfig::parse(&slim.config)?.user().to_owned()),
        layer_list: Some(vec![model::Layer { diff_id: slim.layer.diff_id.clone(), bytes: slim.layer.engine_bytes }]),
        ..model::Image::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unverified_name_is_always_a_name() {
        let long = "x".repeat(LONGEST_TAG);
        for (wanted, expected) in [
            ("app.slim:1", "app.slim:1-unverified".to_owned()),
            ("app", "app:latest-unverified".to_owned()),
            ("host:5000/a/b:2", "host:5000/a/b:2-unverified".to_owned()),
            (&format!("app:{long}"), format!("app:{}-unverified", "x".repeat(117))),
        ] {
            let name = apart(wanted).unwrap();
            assert_eq!(name, expected);
            assert!(Reference::parse(&name).is_ok(), "{name}");
        }
    }
}
