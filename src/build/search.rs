//! Search: the slim image once more, under the syscall recorder, to see what it looks for and does not find.
//! Answers alone do not tell: a program that falls back answers as before.

use std::time::Duration;

use anyhow::Result;

use super::Session;
use super::case::Case;
use super::record::{self, Recordee};
use super::slim;
use super::subject::Subject;
use super::untouched::Untouched;
use crate::engine::EngineError;
use crate::keep::{KeepSet, Miss};
use crate::pack::archive::PackedImage;
use crate::progress::Void;
use crate::probe::Target;
use crate::run;
use crate::run::log::Log;
use crate::run::recording::Recording;
use crate::run::way::Helper;
use crate::sensor::control::{SensorMode, TraceOf};
use crate::trace::Trace;
use crate::verify::{self, seconds};

/// A recording of the slim image, and what it missed.
pub struct Found {
    /// What was missed, by path.
    pub misses: Vec<Miss>,
    /// The events of the misses, to be added to the trace of the original.
    pub trace: Trace,
}

/// Records a run of the slim image. That it does not start, or does not answer, is for the comparison to say;
/// what it looked for until then counts. Says why it did not see everything; `None` when it did.
pub async fn run(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    slim: &PackedImage,
    case: &Case,
) -> Result<Option<String>> {
    let Case { options, baseline, .. } = case;
    let probes = &baseline.plan;
    let what = Recordee { purpose: "search", image: &slim.id, sensor: SensorMode::Syscalls, options, probes, trace: TraceOf::Slim };
    let (container, nonce) = record::prepare(session, subject, &helper.volume, &what, None).await?;
    let log = Log::new(None);
    let check = subject.config.healthcheck();
    let (recording, _) = Recording::start(helper.clone(), container, &nonce, check, log).await?;
    let setting = case.setting(session, subject, helper);
    let asked = verify::ask(&setting, &recording, baseline, &Void).await?;
    let timely = baseline.stop.handled && asked.late.is_none();
    let timeout = if timely { subject.config.stop_timeout() } else { Duration::ZERO };
    recording.mark("stop").await?;
    recording.stop(run::signal_number(subject.config.stop_signal())?, timeout).await?;
    recording.close(&session.leaving).await?;
    Ok(asked.late.map(|limit| format!("it had not answered everything after {} (--verify-timeout)", seconds(limit))))
}

/// Reads the recording that [`run`] left.
///
/// # Errors
/// When it is not complete: then nothing is known of misses, which is not the same as none.
pub async fn misses(
    session: &Session<'_>,
    subject: &Subject,
    image: &mut Untouched,
    (keep, case): (&KeepSet, &Case),
    round: u32,
) -> Result<Found> {
    let bytes = image.pristine.trace(TraceOf::Slim).await?;
    let mut trace = Trace::read(&bytes[..])?;
    let policy = slim::policy(session.plan, subject);
    let misses = crate::keep::retain_misses(&image.tree, &subject.config, &policy, keep, &mut trace);
    for name in trace.marks.values_mut() {
        *name = format!("repair {round}, {}", case.label(name));
    }
    Ok(Found { misses, trace })
}

/// What kept the slim image from being recorded; the engine's own trouble stays an error.
pub fn excuse(error: anyhow::Error) -> Result<String> {
    match error.downcast_ref().is_some_and(EngineError::is_trouble) {
        true => Err(error),
        false => Ok(format!("{error:#}")),
    }
}
