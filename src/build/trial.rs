//! Trial: a slim image run in one case, plainly to compare its answers, and recorded to search what it misses.

use std::sync::Arc;

use anyhow::Result;

use super::Session;
use super::case::Case;
use super::search;
use super::subject::Subject;
use crate::pack::archive::PackedImage;
use crate::progress::Monitor;
use crate::run::way::Helper;
use crate::verify::{self, Rerun};

/// What the runs of a trial left.
pub struct Trial {
    /// The answers of the plain run.
    pub rerun: Rerun,
    /// Of the recorded run, whose trace is in the volume: why it did not see everything (`None`: it did), or why it
    /// failed. `None` when nothing was to be searched.
    pub searched: Option<Result<Option<String>>>,
}

/// Runs the image both ways: at the same time, unless that would be in its own way.
///
/// # Errors
/// When the engine cannot run it plainly. A target that misbehaves is not an error.
pub async fn run(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    (image, case): (&PackedImage, &Case),
    monitor: Arc<dyn Monitor>,
) -> Result<Trial> {
    let mut setting = case.setting(session, subject, helper);
    setting.monitor = monitor;
    let comparing = verify::rerun(&setting, "verify", &image.id, &case.baseline);
    if session.plan.repair_rounds == 0 {
        return Ok(Trial { rerun: comparing.await?, searched: None });
    }
    let searching = search::run(session, subject, helper, image, case);
    let (rerun, searched) = match case.alone(session) {
        true => (comparing.await, searching.await),
        false => futures_util::join!(comparing, searching),
    };
    Ok(Trial { rerun: rerun?, searched: Some(searched) })
}
