//! Findings: what proving came to, told and written into the report.

use super::Session;
use super::case::Case;
use super::prove::{Proof, difference};
use crate::image::ImagePath;
use crate::image::path::printable;
use crate::keep::Miss;
use crate::probe::Answer;
use crate::probe::compare::How;
use crate::progress::{Fact, Monitor};
use crate::report::{Builder, model};
use crate::verify::{Verified, complaints};

/// How the rounds went: the slim image is made, looked at, and made again.
#[derive(Default)]
pub struct Rounds {
    list: Vec<model::Round>,
    repaired: Vec<ImagePath>,
    unsearched: Option<String>,
    /// Nobody looks for misses at all (`slim verify`).
    only_compared: bool,
}

impl Rounds {
    /// For a comparison alone.
    pub fn of_a_comparison() -> Self {
        Self { only_compared: true, ..Self::default() }
    }

    /// Number of the next round, from 1.
    pub fn number(&self) -> u32 {
        self.list.len() as u32 + 1
    }

    /// Whether the round that was looked at last is the first.
    pub fn is_first(&self) -> bool {
        self.list.len() == 1
    }

    /// Takes what a look showed, with the image's size and why it is not known what it misses.
    pub fn looked(
        &mut self,
        cases: &[Case],
        verified: &[Verified],
        misses: &[Miss],
        (size_bytes, unsearched): (u64, Option<String>),
    ) {
        let miss = |miss: &Miss| model::Miss {
            path: miss.path.clone(),
            process: printable(&miss.process),
            probe: miss.probe.clone(),
        };
        let differences = cases.iter().zip(verified).flat_map(|(case, verified)| compared(case, verified).1).collect();
        let misses = misses.iter().map(miss).collect();
        self.list.push(model::Round { round: self.number(), misses, differences, size_bytes });
        self.unsearched = unsearched;
    }

    /// Takes what was missed and is added.
    pub fn repaired(&mut self, misses: Vec<Miss>) {
        self.repaired.extend(misses.into_iter().map(|miss| miss.path));
    }
}

/// Tells what it came to.
pub fn tell(session: &Session<'_>, report: &mut Builder, cases: &[Case], proof: &Proof, rounds: Rounds) {
    let (mut first, mut slim): (Vec<Answer>, Vec<Answer>) = Default::default();
    let mut verify = model::Verify { rounds: rounds.number().saturating_sub(1).max(1), ..model::Verify::default() };
    for (case, check) in cases.iter().zip(&proof.checks) {
        let verified = &check.verified;
        if !verified.agrees() {
            for line in &verified.rerun.log_tail {
                session.monitor.tell(Fact::Log { line: line.clone() });
            }
            verify.log_tail.extend(verified.rerun.log_tail.iter().cloned());
        }
        for line in complaints::new_complaints(&case.baseline.log, &verified.rerun.log) {
            session.warn(format!("only the slim image logs: {line}"));
        }
        if let (Some(why), false) = (&check.flaky, proof.missed.is_empty()) {
            session.warn(format!("the original image is not sure itself: {why}"));
        }
        first.extend(case.labelled(&case.baseline.first));
        slim.extend(case.labelled(&verified.rerun.answers));
        let (count, differences) = compared(case, verified);
        verify.compared += count;
        verify.differences.extend(differences);
        session.done("verify", verified.comparison.summary());
    }
    verify.differences.extend(proof.missed.iter().map(difference));
    verify.repaired = rounds.repaired;
    verify.missed = proof.missed.iter().map(|miss| miss.path.clone()).collect();
    // An image that differs anyway leaves more unknown than that.
    if let Some(why) = &rounds.unsearched
        && session.plan.repair_rounds > 0
        && proof.agrees()
    {
        session.warn(format!(
            "what the slim image looks for and does not find is not known ({why}): what it does without and never says is not repaired"
        ));
    }
    verify.unsearched = rounds.unsearched;
    verify.only_compared = rounds.only_compared;
    report.answers(&first, Some(&slim));
    report.rounds(rounds.list);
    report.verify(verify);
}

/// How closely a case was compared, and what differs in it.
fn compared(case: &Case, verified: &Verified) -> (model::Compared, Vec<model::Difference>) {
    let mut compared = model::Compared { answers: verified.comparison.answers.len() as u64, ..Default::default() };
    let mut differences = Vec::new();
    let difference = |request: &str, expected: &str, got: &str| model::Difference {
        request: case.label(request),
        expected: expected.to_owned(),
        got: got.to_owned(),
    };
    let rerun = &verified.rerun;
    for answer in &verified.comparison.answers {
        match &answer.how {
            How::Whole => compared.whole += 1,
            How::Masked => compared.masked += 1,
            How::StatusOnly | How::Unstable { .. } => compared.status_only += 1,
            // What never got ready was asked nothing: that it was not ready is the one thing that differs.
            How::Differs { .. } if rerun.not_ready.is_some() => {}
            How::Differs { .. } if rerun.late.is_some() && !rerun.has(&answer.name) => {}
            How::Differs { expected, got } => differences.push(difference(&answer.name, expected, got)),
        }
    }
    differences.extend(verified.others.iter().map(|(what, expected, got)| difference(what, expected, got)));
    (compared, differences)
}
