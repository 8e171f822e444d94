//! Holdout: requests that are kept out of the recording and put to the slim image all the same. How many it
//! answers as the original does, before anything is repaired, is an honest estimate for paths that nobody probed.
//!
//! Which requests there are is found out in a plain run of the original that asks everything, so a page that is
//! kept out hides no other page: what it links to is known, and is recorded or kept out like any other. The
//! slim image is then asked everything in the same order. When the estimate is made, what was kept out is a
//! probe as any other: where it failed, the original is recorded once more with it, and the image made again.

use std::collections::BTreeSet;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::Session;
use super::case::Case;
use super::subject::Subject;
use crate::plan::Holdout;
use crate::probe::{Action, Comparison, ProbePlan, Request, Until};
use crate::probe::compare::How;
use crate::report::model;
use crate::run::kit;
use crate::run::way::Helper;

/// What was kept out.
pub struct Held {
    /// How it was chosen.
    pub holdout: Holdout,
    /// Names of the requests.
    pub names: BTreeSet<String>,
    /// The plan that asks the others.
    pub others: ProbePlan,
}

/// Asks the original everything, and chooses what is kept out of its recording. With it comes the case by
/// which the slim image is judged.
///
/// # Errors
/// When the original does not answer its probes.
pub async fn keep_out(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    holdout: &Holdout,
) -> Result<(Held, Case)> {
    // For a relay, where one is needed.
    kit::install(session.engine, &subject.info.id, &helper.volume).await?;
    session.phase("baseline", subject.reference.familiar());
    // What somebody does by hand is not asked for twice.
    let until = match subject.probes.until {
        Until::Exit => Until::Exit,
        Until::Probes | Until::Timeout(_) | Until::Signal | Until::Enter => Until::Probes,
    };
    let probes = ProbePlan { until, ..subject.probes.clone() };
    let case = Case::plain(session, subject, helper, (None, session.plan.run.clone(), probes)).await?;
    let requests: Vec<Request> = case.baseline.first.iter().map(|answer| answer.request.clone()).collect();
    let names = choose(&requests, holdout);
    session.done("baseline", crate::report::figures::counted(requests.len() as u64, "answer", "answers"));
    let kept_out = crate::report::figures::counted(names.len() as u64, "request", "requests");
    session.info(format!(
        "{kept_out} of {} kept out of the recording (--holdout {} --holdout-seed {})",
        requests.len(),
        holdout.fraction,
        holdout.seed
    ));
    if names.is_empty() {
        session.warn("--holdout keeps nothing out: there is no second request that changes nothing");
    }
    let others = requests.into_iter().filter(|request| !names.contains(&request.name)).collect();
    let plan = &subject.probes;
    let others = ProbePlan { until: plan.until, ..ProbePlan::of(plan.readiness.clone(), plan.ready_timeout, others) };
    Ok((Held { holdout: holdout.clone(), names, others }, case))
}

/// Draws by seed: the same requests give the same choice, and one request more or less changes little. The first
/// request is never drawn (readiness asks it), nor is what may change something that a later one needs.
fn choose(requests: &[Request], holdout: &Holdout) -> BTreeSet<String> {
    let mut ports = BTreeSet::new();
    let mut drawn: Vec<(Vec<u8>, &str)> = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        let harmless = match &request.action {
            Action::Http(ask) => {
                let first_of_port = ports.insert(ask.port);
                !first_of_port && matches!(ask.method.as_str(), "GET" | "HEAD") && ask.body.is_none()
            }
            Action::Exec { .. } | Action::HostExec { .. } | Action::Tcp { .. } => true,
            Action::Crawl { .. } | Action::Api { .. } | Action::Run => false,
        };
        if harmless && at > 0 {
            let seeded = format!("{}\n{}", holdout.seed, request.name);
            drawn.push((Sha256::digest(seeded.as_bytes()).to_vec(), &request.name));
        }
    }
    drawn.sort();
    let wanted = (drawn.len() as f64 * holdout.fraction).round() as usize;
    let wanted = wanted.max(usize::from(holdout.fraction > 0.0)).min(drawn.len());
    drawn.into_iter().take(wanted).map(|(_, name)| name.to_owned()).collect()
}

/// How the slim image answered what was kept out. Answers of which the original is not sure itself do not count.
pub fn score(held: &Held, comparison: &Comparison) -> model::Holdout {
    let mut score = model::Holdout {
        fraction: held.holdout.fraction,
        seed: held.holdout.seed,
        names: held.names.iter().cloned().collect(),
        ..model::Holdout::default()
    };
    for answer in comparison.answers.iter().filter(|answer| held.names.contains(&answer.name)) {
        match &answer.how {
            How::Whole | How::Masked | How::StatusOnly => score.passed += 1,
            How::Unstable { .. } => continue,
            How::Differs { expected, got } => score.failures.push(model::Difference {
                request: answer.name.clone(),
                expected: expected.clone(),
                got: got.clone(),
            }),
        }
        score.kept_out += 1;
    }
    score
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::{Expect, HttpRequest};

    fn request(name: &str, action: Action) -> Request {
        let (stated, expect, timeout) = (false, Expect::default(), Duration::from_secs(1));
        Request { probe: "p".into(), name: name.into(), action, stated, expect, timeout }
    }

    fn pages(count: usize) -> Vec<Request> {
        (0..count).map(|n| request(&format!("GET /{n}"), Action::Http(HttpRequest::get(80, &format!("/{n}"))))).collect()
    }

    fn holdout(fraction: f64, seed: u64) -> Holdout {
        Holdout { fraction, seed }
    }

    #[test]
    fn a_seed_draws_the_same_and_another_seed_draws_otherwise() {
        let pages = pages(41);
        let drawn = choose(&pages, &holdout(0.2, 1));
        assert_eq!(drawn.len(), 8);
        assert_eq!(drawn, choose(&pages, &holdout(0.2, 1)));
        assert_ne!(drawn, choose(&pages, &holdout(0.2, 2)));
        assert!(!choose(&pages, &holdout(1.0, 1)).contains("GET /0"), "readiness asks the first one");
        assert_eq!(choose(&pages[..2], &holdout(0.1, 1)).len(), 1, "a fraction of few is one");
    }

    #[test]
    fn what_changes_something_is_recorded() {
        let mut post = HttpRequest::get(80, "/new");
        post.method = "POST".into();
        let exec = Action::Exec { argv: vec!["x".into()] };
        let mut requests = pages(1);
        requests.extend([request("POST /new", Action::Http(post)), request("exec x", exec), request("run", Action::Run)]);
        assert_eq!(choose(&requests, &holdout(1.0, 1)), BTreeSet::from(["exec x".to_owned()]));
    }
}
