//! Early: a slim image made from the trace so far, and tried, in the time in which the recorded run settles. Most
//! targets touch nothing new then, nor on their way down; it counts only when the complete trace says the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;

use super::Session;
use super::case::Case;
use super::subject::Subject;
use super::trial::{self, Trial};
use super::untouched::Untouched;
use super::slim;
use crate::image::{ImagePath, Tree};
use crate::keep::KeepSet;
use crate::pack::archive::PackedImage;
use crate::pack::compressed::Measuring;
use crate::packages::metadata::Written;
use crate::progress::Later;
use crate::run::way::Helper;
use crate::sensor::control::TraceOf;
use crate::trace::Trace;
use crate::verify::Baseline;

/// More content than this is not packed on a guess: the engine would still be busy with it when settling is over.
const MAX_BYTES: u64 = 128 << 20;

/// An image that was made on a guess, and what it was made of.
pub struct Early {
    made_of: MadeOf,
    made: Made,
}

/// The image, in the engine.
pub struct Made {
    /// It.
    pub image: PackedImage,
    /// Its layer, being compressed.
    pub measuring: Measuring,
    /// How it did.
    pub tried: Tried,
}

/// How the image did when it was run on a guess, and what was to be said then.
pub type Tried = (Option<Trial>, Arc<Later>);

/// What of a keep set is in an image: which files, and the content of those that are written rather than copied,
/// which depends on more (a package database that is touched after all stays whole).
#[derive(PartialEq)]
struct MadeOf {
    keep_set: String,
    written: BTreeMap<ImagePath, Written>,
}

impl MadeOf {
    fn of(keep: &KeepSet) -> Self {
        Self { keep_set: keep.digest(), written: keep.written.clone() }
    }
}

impl Early {
    /// The image, when it is what this keep set asks for.
    pub fn take(self, keep: &KeepSet) -> Option<Made> {
        (self.made_of == MadeOf::of(keep)).then_some(self.made)
    }
}

/// Decides on what the trace says so far, packs and loads it, and tries it. `None` where that is not worth the while,
/// or was for nothing: `over` is when the trace is complete.
///
/// # Errors
/// When the image cannot be read, or the engine does not take the result or cannot run it: that would fail later as
/// well.
pub async fn make(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    untouched: &mut Untouched,
    (baseline, over): (Baseline, impl Future<Output = ()>),
) -> Result<Option<Early>> {
    let Some(trace) = Trace::so_far(&untouched.pristine.trace(TraceOf::Original).await?) else {
        return Ok(None);
    };
    let keep = slim::decide(session, subject, untouched, &trace).await?;
    if bytes_of(&untouched.tree, keep.kept.keys()) > MAX_BYTES {
        return Ok(None);
    }
    let image = slim::pack(session, subject, untouched, &keep).await?;
    slim::load(session, &image).await?;
    let made = Made { measuring: Measuring::start(&image)?, image, tried: Tried::default() };
    let mut early = Early { made_of: MadeOf::of(&keep), made };
    let case = Case { name: None, options: session.plan.run.clone(), baseline };
    // What was kept out of the recording is asked in the verification, and not known here.
    if !session.plan.verify || session.plan.holdout.is_some() || case.alone(session) {
        return Ok(Some(early));
    }
    let trial = {
        let told = early.made.tried.1.clone();
        let mut trying = std::pin::pin!(trial::run(session, subject, helper, (&early.made.image, &case), told));
        tokio::select! {
            trial = &mut trying => trial?,
            () = over => match still(session, subject, untouched, &early.made_of).await? {
                true => trying.await?,
                false => return Ok(None),
            }
        }
    };
    early.made.tried.0 = Some(trial);
    Ok(Some(early))
}

/// Whether the complete trace asks for the same image.
async fn still(session: &Session<'_>, subject: &Subject, untouched: &mut Untouched, made_of: &MadeOf) -> Result<bool> {
    // One that is not complete is for others to say.
    let Ok(trace) = Trace::read(&untouched.pristine.trace(TraceOf::Original).await?[..]) else { return Ok(false) };
    Ok(*made_of == MadeOf::of(&slim::decide(session, subject, untouched, &trace).await?))
}

fn bytes_of<'a>(tree: &Tree, paths: impl Iterator<Item = &'a ImagePath>) -> u64 {
    paths.filter_map(|path| tree.get(path)).map(|entry| entry.size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Entry, Kind};
    use crate::pack::layer::LayerInfo;

    fn keep(content: Option<&str>) -> KeepSet {
        let written = content.map(|text| Written { entry: Entry::new(Kind::File), content: text.into() });
        KeepSet {
            kept: BTreeMap::from([("/lib/apk/db/installed".into(), Vec::new())]),
            written: written.into_iter().map(|written| ("/lib/apk/db/installed".into(), written)).collect(),
            ..KeepSet::default()
        }
    }

    /// A database that was trimmed on a guess, and of which the rest of the run read the whole.
    #[tokio::test]
    async fn an_image_counts_only_with_the_content_that_is_written_now() {
        let guess = |keep: &KeepSet| {
            let layer = LayerInfo {
                diff_id: format!("sha256:{}", "0".repeat(64)),
                tar_bytes: 0,
                content_bytes: 0,
                engine_bytes: 0,
                entries: 0,
                skipped: Vec::new(),
            };
            let image = PackedImage::new(b"{}".to_vec(), layer, tempfile::tempfile().unwrap()).unwrap();
            let made = Made { measuring: Measuring::start(&image).unwrap(), image, tried: Tried::default() };
            Early { made_of: MadeOf::of(keep), made }
        };
        assert!(guess(&keep(Some("P:a"))).take(&keep(Some("P:a"))).is_some());
        assert!(guess(&keep(Some("P:a"))).take(&keep(Some("P:b"))).is_none());
        assert!(guess(&keep(Some("P:a"))).take(&keep(None)).is_none());
    }
}
