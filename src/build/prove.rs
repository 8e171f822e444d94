//! Prove: the slim image answers as the original does, and finds all that it looks for. What it misses is added
//! and the image made again, a bounded number of times.

use anyhow::Result;

use super::case::Case;
use super::findings::{self, Rounds};
use super::record::{self, Recorded, Recordee};
use super::subject::Subject;
use super::slim::{self, Slim};
use super::{Session, holdout, search, trial};
use crate::keep::Miss;
use crate::pack::archive::PackedImage;
use crate::report::figures::counted;
use crate::sensor::control::TraceOf;
use crate::report::{Builder, model};
use crate::run::way::Helper;
use crate::trace::Trace;
use crate::verify::{self, Baseline, Setting, StopStatus, Verified};

/// What the verification of one case came to.
pub struct Check {
    /// The comparison.
    pub verified: Verified,
    /// Why the original is flaky; `None` when it answered the same again.
    pub flaky: Option<String>,
}

/// What the verification of all cases came to.
#[derive(Default)]
pub struct Proof {
    /// One for each case, in their order.
    pub checks: Vec<Check>,
    /// What is still missed and must not be added any more.
    pub missed: Vec<Miss>,
}

impl Proof {
    /// Whether nothing differs and nothing is missed.
    pub fn agrees(&self) -> bool {
        self.missed.is_empty() && self.checks.iter().all(|check| check.verified.agrees())
    }

    /// Why no more can be said than that the original is flaky. `None`: it is not, or what differs elsewhere, and
    /// what is missed, is no matter of chance.
    pub fn flaky(&self) -> Option<&str> {
        let mut differing = self.checks.iter().filter(|check| !check.verified.agrees());
        let sure = !self.missed.is_empty() || differing.any(|check| check.flaky.is_none());
        if sure { None } else { self.checks.iter().find_map(|check| check.flaky.as_deref()) }
    }
}

/// What one look at a slim image showed.
struct Look {
    /// One for each case.
    verified: Vec<Verified>,
    misses: Vec<Miss>,
    /// The events of the misses.
    traces: Vec<Trace>,
    /// Why it is not known what it misses, or not of all. `None`: it is.
    unsearched: Option<String>,
}

/// Makes the slim image, compares it, and makes it again while it misses something. There is no proof when
/// verification was not asked for.
pub async fn prove(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    recorded: &mut Recorded,
    report: &mut Builder,
) -> Result<(PackedImage, Option<Proof>)> {
    let mut slim = slim::make(session, subject, recorded, report).await?;
    if !session.plan.verify {
        let answers = recorded.cases.iter().flat_map(|case| case.labelled(&case.baseline.first)).collect::<Vec<_>>();
        report.answers(&answers, None);
        return Ok((slim.image, None));
    }
    let mut rounds = Rounds::default();
    let mut repairs = 0;
    loop {
        session.phase("verify", if slim.trial.is_some() { "the same requests, put to the slim image while the run settled" } else { "the same requests to the slim image" });
        slim.told.tell_all(session.monitor.as_ref());
        let look = look(session, subject, helper, &mut slim, recorded, rounds.number()).await?;
        let Look { mut verified, misses, traces, unsearched } = look;
        rounds.looked(&recorded.cases, &verified, &misses, (slim.image.layer.engine_bytes, unsearched));
        let more = match rounds.is_first() {
            true => estimate(session, subject, helper, recorded, &mut verified, report).await?,
            false => false,
        };
        let spent = !misses.is_empty() && repairs >= session.plan.repair_rounds;
        if spent || (misses.is_empty() && !more) {
            let proof = conclude(session, subject, helper, &recorded.cases, verified, misses).await?;
            findings::tell(session, report, &recorded.cases, &proof, rounds);
            return Ok((slim.image, Some(proof)));
        }
        if !misses.is_empty() {
            repairs += 1;
            session.done("verify", format!("{} looked for and not found: added", counted(misses.len() as u64, "path", "paths")));
        }
        for trace in traces {
            recorded.trace.union(trace);
        }
        rounds.repaired(misses);
        slim = slim::make(session, subject, recorded, report).await?;
    }
}

/// Scores what was kept out of the recording. Where something failed, the original is recorded with it; then there
/// is more to keep.
async fn estimate(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    recorded: &mut Recorded,
    verified: &mut [Verified],
    report: &mut Builder,
) -> Result<bool> {
    let Recorded { held: Some(held), cases, image, trace, .. } = recorded else { return Ok(false) };
    let (Some(case), Some(verified)) = (cases.first(), verified.first_mut()) else { return Ok(false) };
    let mut score = holdout::score(held, &verified.comparison);
    if !score.failures.is_empty() {
        // What only changes slowly is no failure: the original says so itself.
        let setting = case.setting(session, subject, helper);
        let again = again(session, subject, &setting, &case.baseline).await?;
        score = holdout::score(held, &verify::compare(&verified.rerun, &again.wider));
    }
    let failed = !score.failures.is_empty();
    session.info(format!("kept-out probes passed: {} of {}", score.passed, score.kept_out));
    report.holdout(score);
    if failed {
        session.info("recording what was kept out");
        let (sensor, options) = (session.plan.sensor, &case.options);
        let what = Recordee { purpose: "record", image: &subject.info.id, sensor, options, probes: &case.baseline.plan, trace: TraceOf::Original };
        let (bytes, _) = record::once_more(session, subject, helper, image, &what).await?;
        let mut run = Trace::read(&bytes[..]).map_err(|error| anyhow::Error::new(error).context(crate::exit::Exit::Trace))?;
        for name in run.marks.values_mut() {
            *name = format!("kept out, {name}");
        }
        trace.union(run);
    }
    Ok(failed)
}

/// Runs the slim image in every case, or takes what is known of it already.
async fn look(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    slim: &mut Slim,
    recorded: &mut Recorded,
    round: u32,
) -> Result<Look> {
    let mut look = Look { verified: Vec::new(), misses: Vec::new(), traces: Vec::new(), unsearched: None };
    for case in &recorded.cases {
        let trial = match slim.trial.take() {
            Some(trial) => trial,
            None => trial::run(session, subject, helper, (&slim.image, case), session.monitor.clone()).await?,
        };
        look.verified.push(verify::judge(trial.rerun, &case.baseline));
        let searched = match trial.searched {
            None => {
                look.unsearched = Some("--repair-rounds 0".into());
                continue;
            }
            Some(Ok(part)) => search::misses(session, subject, &mut recorded.image, (&slim.keep, case), round).await.map(|found| (part, found)),
            Some(Err(error)) => Err(error),
        };
        match searched {
            Ok((part, found)) => {
                look.unsearched = part.map(|why| case.label(&why)).or(look.unsearched);
                look.misses.extend(found.misses);
                look.traces.push(found.trace);
            }
            Err(error) => look.unsearched = Some(case.label(&search::excuse(error)?)),
        }
    }
    look.misses.sort();
    look.misses.dedup_by(|a, b| a.path == b.path);
    Ok(look)
}

/// Judges every case; where one is not the same, the original is asked once more.
async fn conclude(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    cases: &[Case],
    verified: Vec<Verified>,
    missed: Vec<Miss>,
) -> Result<Proof> {
    let mut checks = Vec::new();
    for (case, verified) in cases.iter().zip(verified) {
        let setting = case.setting(session, subject, helper);
        checks.push(judge(session, subject, &setting, verified, &case.baseline).await?);
    }
    Ok(Proof { checks, missed })
}

/// The original, asked once more.
struct Again {
    /// How it compares with itself.
    original: Verified,
    /// The measure with what it answered now: what it does not answer the same way twice is volatile.
    wider: Baseline,
}

async fn again(
    session: &Session<'_>,
    subject: &Subject,
    setting: &Setting<'_>,
    baseline: &Baseline,
) -> Result<Again> {
    session.info("answers differ: asking the original image once more");
    let again = verify::rerun(setting, "again", &subject.info.id, baseline).await?;
    // A program that ends itself by the default action of a signal ends so under the sensor, and not where it is
    // process 1 of its container, as it is here and in the slim image (pid_namespaces(7)).
    let stop = StopStatus { status: again.stop, ..baseline.stop };
    let baseline = Baseline { stop, ..baseline.clone() };
    let original = verify::judge(again, &baseline);
    let mut others = baseline.others.clone();
    others.push(original.rerun.answers.clone());
    Ok(Again { original, wider: Baseline { others, ..baseline } })
}

/// Whether it is the same; where it is not, the original is asked once more.
pub async fn judge(
    session: &Session<'_>,
    subject: &Subject,
    setting: &Setting<'_>,
    verified: Verified,
    baseline: &Baseline,
) -> Result<Check> {
    if verified.agrees() {
        return Ok(Check { verified, flaky: None });
    }
    let Again { original, wider } = again(session, subject, setting, baseline).await?;
    // What the original does not answer the same way twice is volatile, in the slim image too.
    let verified = verify::judge(verified.rerun, &wider);
    let flaky = original.why().or_else(|| verified.unsure());
    Ok(Check { verified, flaky })
}

/// A path that is still missed, as a difference.
pub fn difference(miss: &Miss) -> model::Difference {
    let process = crate::image::path::printable(&miss.process);
    model::Difference {
        request: format!("{process} looks for {}", miss.path),
        expected: "found".into(),
        got: "not in the slim image".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImagePath;
    use crate::probe::Comparison;
    use crate::verify::Rerun;

    fn check(differs: bool, flaky: Option<&str>) -> Check {
        let rerun = Rerun { answers: Vec::new(), not_ready: None, late: None, stop: 0, log_tail: Vec::new(), log: Vec::new() };
        let others = if differs { vec![("a".into(), "b".into(), "c".into())] } else { Vec::new() };
        Check { verified: Verified { comparison: Comparison::default(), rerun, others }, flaky: flaky.map(str::to_owned) }
    }

    fn miss() -> Miss {
        Miss { path: ImagePath::new("/x"), process: b"/bin/p".to_vec(), probe: "GET /".into() }
    }

    #[test]
    fn chance_excuses_what_differs_by_chance_and_nothing_else() {
        let proof = |checks: Vec<Check>, missed: Vec<Miss>| {
            let proof = Proof { checks, missed };
            (proof.agrees(), proof.flaky().map(str::to_owned))
        };
        assert_eq!(proof(vec![check(false, None)], vec![]), (true, None));
        assert_eq!(proof(vec![check(true, None)], vec![]), (false, None));
        assert_eq!(proof(vec![check(true, Some("coin")), check(false, None)], vec![]), (false, Some("coin".into())));
        assert_eq!(proof(vec![check(true, Some("coin")), check(true, None)], vec![]), (false, None));
        // A file that is there in one image and not in the other is no matter of chance.
        assert_eq!(proof(vec![check(true, Some("coin"))], vec![miss()]), (false, None));
        assert_eq!(proof(vec![check(false, None)], vec![miss()]), (false, None));
    }
}
