//! Verify: the recorded requests again, on the slim image as a user would run it, compared with what the
//! untouched image answered.

pub mod complaints;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::engine::{EngineError, RunOptions};
use crate::exit::Exit;
use crate::image::config::Healthcheck;
use crate::probe::compare::How;
use crate::probe::{self, Answer, Comparison, Ports, ProbePlan, Ready, Target, Verdict};
use crate::progress::{Fact, Monitor};
use crate::run::leaving::Leaving;
use crate::run::log::Log;
use crate::run::plain::PlainRun;
use crate::run::way::Helper;

/// What the untouched image answered: the measure.
#[derive(Clone)]
pub struct Baseline {
    /// First answers, in order.
    pub first: Vec<Answer>,
    /// The same requests asked again, as often as they were; what differs is volatile.
    pub others: Vec<Vec<Answer>>,
    /// Exit status when it was stopped (or ended), and whether it handled the stop signal.
    pub stop: StopStatus,
    /// What it logged.
    pub log: Vec<u8>,
    /// How long it took to get ready and to answer.
    pub took: Duration,
    /// The plan as it was carried out.
    pub plan: ProbePlan,
}

/// Waits for a target that is the measure; gives its ports and the plan that it is asked by. A command that the
/// user gave, of which nobody said how to probe it (`job`), may be no server at all although the image exposes
/// a port: when it ends well, its end is the answer.
///
/// # Errors
/// When it is not ready in time, or ends otherwise.
pub async fn ready(
    plan: &ProbePlan,
    job: bool,
    target: &dyn Target,
    monitor: &dyn Monitor,
) -> Result<(Ports, ProbePlan)> {
    match probe::ready(plan, target, monitor).await? {
        Ready::Yes(ports) => Ok((ports, plan.clone())),
        Ready::Exited { status: 0, .. } if job => {
            monitor.tell(Fact::Info { text: "it ended before it could be probed: the run itself is the probe".into() });
            Ok((Ports::new(), ProbePlan::of_the_run(plan.ready_timeout)))
        }
        Ready::Exited { why, .. } | Ready::TimedOut { why } => Err(anyhow!(why).context(Exit::Baseline)),
    }
}

/// How a target went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopStatus {
    /// Exit status.
    pub status: i32,
    /// It handled the signal or ended by itself; otherwise it was killed.
    pub handled: bool,
}

/// How to run an image for comparison.
pub struct Setting<'a> {
    /// Runs containers, and relays to them.
    pub helper: Helper<'a>,
    /// Run options of the plan.
    pub options: &'a RunOptions,
    /// Readiness and time limits.
    pub probes: &'a ProbePlan,
    /// See [`ready`].
    pub job: bool,
    /// The image's HEALTHCHECK, asked when readiness needs it.
    pub healthcheck: Option<Healthcheck>,
    /// Time between stop signal and SIGKILL.
    pub stop_timeout: Duration,
    /// `--before-run`.
    pub before_run: Option<&'a [String]>,
    /// Gets announcements.
    pub monitor: Arc<dyn Monitor>,
    /// `--show-clogs`.
    pub show_logs: bool,
    /// Where used containers go.
    pub leaving: &'a Leaving,
    /// `--verify-timeout`; `None`: derived, see [`Setting::limit`].
    pub limit: Option<Duration>,
}

/// What a run may take however quick the original was.
const LEAST: Duration = Duration::from_secs(30);

/// A run may take this many times as long as the original.
const SLOWER: u32 = 5;

impl Setting<'_> {
    /// How long a run may take to get ready and to answer everything that the original answered.
    pub fn limit(&self, baseline: &Baseline) -> Duration {
        self.limit.unwrap_or_else(|| self.probes.ready_timeout.saturating_add(LEAST).saturating_add(baseline.took * SLOWER))
    }
}

/// What a plain run of an image answered.
pub struct Rerun {
    /// The answers; fewer than asked when the target did not get ready.
    pub answers: Vec<Answer>,
    /// Why it never got ready; `None` when it did.
    pub not_ready: Option<String>,
    /// The limit that ran out before everything was answered; `None` when none did.
    pub late: Option<Duration>,
    /// Exit status at the end.
    pub stop: i32,
    /// Last lines of the log.
    pub log_tail: Vec<String>,
    /// The log.
    pub log: Vec<u8>,
}

impl Rerun {
    /// Whether it answered this request.
    pub fn has(&self, name: &str) -> bool {
        self.answers.iter().any(|answer| answer.request.name == name)
    }
}

/// Probes a plain run of the image that is the measure.
///
/// # Errors
/// When the engine cannot run it, or it does not answer its probes.
pub async fn baseline(setting: &Setting<'_>, image: &str) -> Result<Baseline> {
    alone(setting).await?;
    crate::run::before(setting.before_run).await?;
    let log = Log::new(setting.show_logs.then(|| setting.monitor.clone()));
    let check = setting.healthcheck.clone();
    let run = PlainRun::start(setting.helper.clone(), "baseline", image, setting.options, check, log.clone()).await?;
    let monitor = setting.monitor.as_ref();
    let began = Instant::now();
    let probed = async {
        let (ports, plan) = ready(setting.probes, setting.job, &run, monitor).await?;
        let asked = probe::run(&plan, &ports, &run, monitor).await?;
        match asked.verdict() {
            Verdict::Passed => {}
            Verdict::Failed(lines) => return Err(anyhow!(lines.join("; ")).context(Exit::Baseline)),
            Verdict::Nothing(why) => return Err(anyhow!(why).context(Exit::Baseline)),
        }
        let took = began.elapsed();
        // What differs when it is asked again is volatile.
        let others = match asked.ended {
            None => vec![probe::replay(&asked.requests(), &run, monitor).await?],
            Some(_) => Vec::new(),
        };
        Ok((asked.answers, others, took, plan))
    };
    let (first, others, took, plan) = match probed.await {
        Ok(answers) => answers,
        Err(error) => {
            for line in run.log_tail(LOG_TAIL) {
                monitor.tell(Fact::Log { line });
            }
            return Err(error);
        }
    };
    let status = run.stop(setting.stop_timeout).await?;
    run.close(setting.leaving).await?;
    let stop = StopStatus { status, handled: status != KILLED };
    Ok(Baseline { first, others, stop, log: log.bytes(), took, plan })
}

/// The status of a target that did not handle its stop signal.
const KILLED: i32 = 137;

/// Runs `image` plainly and asks the recorded requests.
///
/// # Errors
/// When the engine cannot run it. A target that misbehaves is not an error.
pub async fn rerun(setting: &Setting<'_>, purpose: &str, image: &str, baseline: &Baseline) -> Result<Rerun> {
    alone(setting).await?;
    crate::run::before(setting.before_run).await?;
    let log = Log::new(setting.show_logs.then(|| setting.monitor.clone()));
    let started =
        PlainRun::start(setting.helper.clone(), purpose, image, setting.options, setting.healthcheck.clone(), log.clone());
    let run = match started.await {
        Ok(run) => run,
        Err(error) if error.downcast_ref().is_some_and(EngineError::is_trouble) => return Err(error),
        Err(error) => {
            // A slim image that cannot even start is a finding about it.
            return Ok(Rerun {
                answers: Vec::new(),
                not_ready: Some(format!("{error:#}")),
                late: None,
                stop: 127,
                log_tail: log.tail(LOG_TAIL),
                log: log.bytes(),
            });
        }
    };
    let asked = ask(setting, &run, baseline, setting.monitor.as_ref()).await?;
    // What ignored the stop signal the first time is not given ten seconds to ignore it again.
    let timeout = if baseline.stop.handled && asked.late.is_none() { setting.stop_timeout } else { Duration::ZERO };
    let stop = run.stop(timeout).await?;
    let log_tail = run.log_tail(LOG_TAIL);
    run.close(setting.leaving).await?;
    let Asked { answers, not_ready, late } = asked;
    Ok(Rerun { answers, not_ready, late, stop, log_tail, log: log.bytes() })
}

/// Only one run of the target at a time: the one before may still hold a port, a mount, a database.
async fn alone(setting: &Setting<'_>) -> Result<()> {
    match crate::run::shares(setting.options) || setting.before_run.is_some() {
        true => setting.leaving.gone().await,
        false => Ok(()),
    }
}

/// What a target answered in the time that it has.
pub struct Asked {
    /// The answers that came in time, in order.
    pub answers: Vec<Answer>,
    /// See [`Rerun::not_ready`].
    pub not_ready: Option<String>,
    /// See [`Rerun::late`].
    pub late: Option<Duration>,
}

/// Waits until a target is ready and puts the requests of the baseline to it, all within the limit.
///
/// # Errors
/// When the way to the target itself fails.
pub async fn ask(
    setting: &Setting<'_>,
    target: &dyn Target,
    baseline: &Baseline,
    monitor: &dyn Monitor,
) -> Result<Asked> {
    let limit = setting.limit(baseline);
    let end = tokio::time::Instant::now() + limit;
    let mut asked = Asked { answers: Vec::new(), not_ready: None, late: None };
    match tokio::time::timeout_at(end, probe::ready(setting.probes, target, monitor)).await {
        Err(_) => asked.not_ready = Some(format!("not within {} (--verify-timeout)", seconds(limit))),
        Ok(ready) => match ready? {
            Ready::Exited { why, .. } | Ready::TimedOut { why } => asked.not_ready = Some(why),
            Ready::Yes(_) => {
                for answer in &baseline.first {
                    let one = std::slice::from_ref(&answer.request);
                    match tokio::time::timeout_at(end, probe::replay(one, target, monitor)).await {
                        Ok(answers) => asked.answers.extend(answers?),
                        Err(_) => {
                            asked.late = Some(limit);
                            break;
                        }
                    }
                }
            }
        },
    }
    Ok(asked)
}

/// `1.5 s`.
pub fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
}

/// Lines of the log that a failure shows.
const LOG_TAIL: usize = 20;

/// What the comparison came to.
pub struct Verified {
    /// Per request.
    pub comparison: Comparison,
    /// The slim image's run.
    pub rerun: Rerun,
    /// Differences besides answers: readiness, exit status. (what, expected, got)
    pub others: Vec<(String, String, String)>,
}

impl Verified {
    /// Whether nothing differs, and everything could be compared.
    pub fn agrees(&self) -> bool {
        self.others.is_empty() && self.comparison.passed()
    }

    /// An answer that the untouched image itself does not give twice, and that the slim image gave in yet
    /// another way; `None` when there is none, or something else differs as well.
    pub fn unsure(&self) -> Option<String> {
        let differs = !self.others.is_empty() || self.comparison.differences().next().is_some();
        if differs { None } else { self.why() }
    }

    /// Why this is not the same, in a few words; `None` when it is.
    pub fn why(&self) -> Option<String> {
        let answers = self.comparison.answers.iter();
        let answer = answers.filter_map(|answer| match &answer.how {
            How::Differs { expected, got } => Some(format!("{}: first {expected}, then {got}", answer.name)),
            How::Unstable { first, later } => Some(format!("{}: first {first}, then {later}", answer.name)),
            How::Whole | How::Masked | How::StatusOnly => None,
        });
        let other = self.others.iter().map(|(what, expected, got)| format!("{what}: first {expected}, then {got}"));
        answer.chain(other).next()
    }
}

/// Runs the slim image and compares.
///
/// # Errors
/// As [`rerun`].
pub async fn verify(setting: &Setting<'_>, image: &str, baseline: &Baseline) -> Result<Verified> {
    Ok(judge(rerun(setting, "verify", image, baseline).await?, baseline))
}

/// The answers of a rerun and those of the baseline; pure.
pub fn compare(rerun: &Rerun, baseline: &Baseline) -> Comparison {
    probe::compare(&baseline.first, &baseline.others.iter().map(Vec::as_slice).collect::<Vec<_>>(), &rerun.answers)
}

/// Compares a rerun with the baseline; pure.
pub fn judge(rerun: Rerun, baseline: &Baseline) -> Verified {
    let comparison = compare(&rerun, baseline);
    let mut others = Vec::new();
    if let Some(why) = &rerun.not_ready {
        others.push(("ready for probes".into(), "yes".into(), why.clone()));
    } else if let Some(limit) = rerun.late {
        let took = format!("as the original, after {}", seconds(baseline.took));
        let missing = baseline.first.len() - rerun.answers.len();
        let first = &baseline.first[rerun.answers.len()].request.name;
        others.push((
            "all answers".into(),
            took,
            format!("{missing} missing after {}, the first is {first} (--verify-timeout)", seconds(limit)),
        ));
    } else if rerun.stop != baseline.stop.status {
        others.push((
            "exit status when stopped".into(),
            baseline.stop.status.to_string(),
            rerun.stop.to_string(),
        ));
    }
    Verified { comparison, rerun, others }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Action, Content, Expect, HttpRequest, Outcome, Request};

    fn answer(path: &str) -> Answer {
        let request = Request {
            probe: "http".into(),
            name: format!("GET {path}"),
            action: Action::Http(HttpRequest::get(80, path)),
            stated: true,
            expect: Expect::default(),
            timeout: Duration::from_secs(1),
        };
        let content = Content::None { error: "nothing".into() };
        Answer { request, content, outcome: Outcome::Passed, took: Duration::ZERO }
    }

    fn baseline() -> Baseline {
        Baseline {
            first: vec![answer("/a"), answer("/b"), answer("/c")],
            others: Vec::new(),
            stop: StopStatus { status: 0, handled: true },
            log: Vec::new(),
            took: Duration::from_millis(1500),
            plan: ProbePlan::of_the_run(Duration::from_secs(1)),
        }
    }

    #[test]
    fn a_run_that_is_out_of_time_differs_and_says_where_it_stuck() {
        let late = Some(Duration::from_secs(7));
        let answers = vec![answer("/a")];
        let rerun = Rerun { answers, not_ready: None, late, stop: 0, log_tail: Vec::new(), log: Vec::new() };
        let verified = judge(rerun, &baseline());
        assert!(!verified.agrees());
        let (what, expected, got) = &verified.others[0];
        assert_eq!((what.as_str(), expected.as_str()), ("all answers", "as the original, after 1.5 s"));
        assert_eq!(got, "2 missing after 7 s, the first is GET /b (--verify-timeout)");
    }
}
