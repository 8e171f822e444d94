//! Record: the stage that runs the untouched image under the sensor, probes it, and reads its trace.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use futures_util::future::try_join;
use tokio::sync::watch;

use super::Session;
use super::case::{self, Case};
use super::early::{self, Early};
use super::holdout::{self, Held};
use super::secrets::Searching;
use super::subject::Subject;
use super::traces::{self, Loaded};
use super::{slim, uses};
use super::untouched::Untouched;
use crate::engine::{Container, ContainerSpec, RunOptions};
use crate::exit::{Exit, Hint};
use crate::pack::compressed::Measuring;
use crate::probe::{self, Answer, ProbePlan, Request, Target, Verdict};
use crate::progress::{Fact, Monitor, Void};
use crate::report::Builder;
use crate::report::figures::counted;
use crate::run::log::Log;
use crate::run::recording::{Ended, Recording};
use crate::run::way::Helper;
use crate::run::{self, kit};
use crate::sensor::control::{SENSOR_DIR, SensorMode, TraceOf};
use crate::trace::Trace;
use crate::verify::{self, Baseline, StopStatus};

/// What the recording stage gives to the next ones.
pub struct Recorded {
    /// The untouched image.
    pub image: Untouched,
    /// What its processes touched, all runs and traces together.
    pub trace: Trace,
    /// How it was asked, and what it answered: the build's own run first, then traces.
    pub cases: Vec<Case>,
    /// The layer of the slim image that was made last, being compressed; `None` before there is one.
    pub compressed: Option<Measuring>,
    /// It, being searched for secrets.
    pub searching: Option<Searching>,
    /// The recordings as the sensor wrote them.
    pub runs: Vec<Vec<u8>>,
    /// A slim image made from what was known when settling began; it counts if nothing came that changes it.
    pub early: Option<Early>,
    /// What was kept out of the recording. `None` without `--holdout`.
    pub held: Option<Held>,
    /// How many paths each run added.
    new_paths: Vec<u64>,
    settled: bool,
}

/// How far a run is.
enum Moment {
    Preparing,
    /// The target runs.
    Started,
    /// The probes are through; the trace up to here is in the volume. How the target goes down is not known yet.
    Settling(Box<Baseline>),
}

/// How long settling may take, as a multiple of `--settle`.
const SETTLE_BOUND: u32 = 10;

/// Lines of the log that a failure shows.
const LOG_TAIL: usize = 20;

/// Records `--repeat` runs, and takes traces in; where there are only traces, nothing is recorded.
pub async fn record(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    report: &mut Builder,
) -> Result<Recorded> {
    let mut traces = traces::read(session, subject)?;
    let mut recorded = match traces::alone(session.plan) {
        true => from_traces(session, subject, helper, &traces).await?,
        false => by_running(session, subject, helper).await?,
    };
    for loaded in &mut traces {
        loaded.used.new_paths = traces::add(&mut recorded.trace, loaded);
        let new = counted(loaded.used.new_paths, "path", "paths");
        session.info(format!("{} adds {new}", loaded.used.path));
    }
    let Recorded { trace, new_paths, .. } = &recorded;
    report.trace(trace, new_paths, recorded.settled);
    // What was asked for by name is no surprise; it stands in the report.
    if session.plan.sensor == SensorMode::Auto && !trace.recorders.why.is_empty() {
        session.warn(trace.recorders.why.clone());
    }
    let bytes = recorded.runs.iter().map(|run| run.len() as u64).sum();
    session.monitor.tell(Fact::Bytes { done: bytes, total: Some(bytes) });
    session.done("record", format!("{} paths touched", trace.facts.len()));
    if session.plan.verify {
        recorded.cases.extend(traces::cases(session, subject, helper, &mut traces).await?);
        if recorded.cases.is_empty() {
            let hint = Hint::new("say what to probe, or give --no-verify");
            return Err(anyhow!("nothing of the traces can be asked again").context(Exit::Usage).context(hint));
        }
    }
    report.traces(traces.into_iter().map(|loaded| loaded.used).collect());
    Ok(recorded)
}

/// Opens the image; what was touched is in the traces alone.
async fn from_traces(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    traces: &[Loaded],
) -> Result<Recorded> {
    session.phase("record", "nothing: what was recorded is in the traces");
    kit::install(session.engine, &subject.info.id, &helper.volume).await?;
    let image = open(session, subject, helper).await?;
    let recorders = traces.first().map(|loaded| loaded.file.trace.recorders.clone()).unwrap_or_default();
    Ok(Recorded {
        image,
        trace: Trace { recorders, ..Trace::default() },
        cases: Vec::new(),
        runs: Vec::new(),
        early: None,
        compressed: None,
        searching: None,
        held: None,
        new_paths: Vec::new(),
        settled: true,
    })
}

async fn by_running(session: &Session<'_>, subject: &Subject, helper: &Helper<'_>) -> Result<Recorded> {
    let mut kept_out = match &session.plan.holdout {
        Some(holdout) => Some(holdout::keep_out(session, subject, helper, holdout).await?),
        None => None,
    };
    let probes = kept_out.as_ref().map_or(&subject.probes, |(held, _)| &held.others);
    let what = Recordee { purpose: "record", image: &subject.info.id, sensor: session.plan.sensor, options: &session.plan.run, probes, trace: TraceOf::Original };
    session.phase("record", subject.reference.familiar());
    let (prepared, nonce) = prepare(session, subject, &helper.volume, &what, Some(Path::new(kit::THIS_PROGRAM))).await?;
    // What a file of `--uses` wants of another image is no reason to run this one.
    let opened = match subject.uses.is_empty() {
        true => None,
        false => Some(open(session, subject, helper).await?),
    };
    let (tell, hear) = watch::channel(Moment::Preparing);
    let ((baseline, mut settled), (mut image, early)) = try_join(
        one_run(session, subject, helper, (prepared, &nonce, &what), Some(tell)),
        meanwhile(session, subject, helper, hear, opened),
    )
    .await
    .map_err(|error| match &kept_out {
        Some(_) => error.context(Hint::new("if a probe needs one that was kept out: another --holdout-seed, or no --holdout")),
        None => error,
    })?;
    let mut trace = None;
    let mut runs = vec![image.pristine.trace(TraceOf::Original).await?];
    let mut new_paths = vec![super::fold(&mut trace, &runs[0])?];
    for n in 1..session.plan.repeat.max(1) {
        session.info(format!("recording run {}", n + 1));
        let (run, quiet) = once_more(session, subject, helper, &mut image, &what).await?;
        settled &= quiet;
        new_paths.push(super::fold(&mut trace, &run)?);
        runs.push(run);
    }
    match new_paths[1..].last() {
        None => {}
        Some(0) => session.info("the last recording run found nothing new"),
        Some(_) => session.warn("the last recording run still found new paths: --repeat more, or probe more"),
    }
    let trace = trace.context("no run was recorded")?;
    let (held, case) = match kept_out.take() {
        Some((held, case)) => (Some(held), case),
        None => {
            (None, Case { name: None, options: session.plan.run.clone(), baseline })
        }
    };
    Ok(Recorded { image, trace, cases: vec![case], runs, early, compressed: None,
        searching: None, held, new_paths, settled })
}

/// Another recording of the untouched image: the sensor's bytes, and whether it became quiet.
pub async fn once_more(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    image: &mut Untouched,
    what: &Recordee<'_>,
) -> Result<(Vec<u8>, bool)> {
    let (prepared, nonce) = prepare(session, subject, &helper.volume, what, None).await?;
    let (_, quiet) = one_run(session, subject, helper, (prepared, &nonce, what), None).await?;
    Ok((image.pristine.trace(what.trace).await?, quiet))
}

/// Opens the image for reading.
async fn open(session: &Session<'_>, subject: &Subject, helper: &Helper<'_>) -> Result<Untouched> {
    let image = Untouched::open(session, subject, helper).await?;
    uses::check_original(subject, &slim::policy(session.plan, subject), &image)?;
    for warning in &image.packages.warnings {
        session.warn(warning.clone());
    }
    Ok(image)
}

/// Reads the image while the first run goes on, and uses the time in which it settles.
async fn meanwhile(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    mut run: watch::Receiver<Moment>,
    opened: Option<Untouched>,
) -> Result<(Untouched, Option<Early>)> {
    // Not sooner: two containers that start at once take twice as long. A run that is over is no reason to wait.
    let _over = run.wait_for(|moment| !matches!(moment, Moment::Preparing)).await.is_err();
    let mut image = match opened {
        Some(image) => image,
        None => open(session, subject, helper).await?,
    };
    let baseline = match run.wait_for(|moment| matches!(moment, Moment::Settling(_))).await.as_deref() {
        Ok(Moment::Settling(baseline)) => Some(Baseline::clone(baseline)),
        _ => None,
    };
    let alone = session.plan.repeat <= 1 && session.plan.traces.is_empty() && !session.only_record;
    let over = async move { while run.changed().await.is_ok() {} };
    let early = match baseline.filter(|_| alone) {
        Some(baseline) => early::make(session, subject, helper, &mut image, (baseline, over)).await?,
        None => None,
    };
    Ok((image, early))
}

/// What is recorded, and how.
pub struct Recordee<'a> {
    /// Part of the container's name.
    pub purpose: &'static str,
    /// Image ID.
    pub image: &'a str,
    /// Which recorders.
    pub sensor: SensorMode,
    /// How it runs.
    pub options: &'a RunOptions,
    /// What it is asked.
    pub probes: &'a ProbePlan,
    /// Whose recording it is.
    pub trace: TraceOf,
}

/// A container of an image with the sensor in it, not yet started; the program is already in the volume unless it
/// is given.
pub async fn prepare(
    session: &Session<'_>,
    subject: &Subject,
    volume: &str,
    what: &Recordee<'_>,
    program: Option<&Path>,
) -> Result<(Box<dyn Container>, String)> {
    let before_run = session.plan.before_run.as_deref();
    if run::shares(what.options) || before_run.is_some() {
        session.leaving.gone().await?;
    }
    run::before(before_run).await?;
    let nonce = random_hex()?;
    let (start, options) = kit::prepare(&subject.config, what.options, (what.sensor, session.plan.pid1), (what.trace, &nonce))?;
    let spec = ContainerSpec::with_program(what.purpose, what.image, volume, options);
    let container = session.engine.create(&spec).await.context("create the container to record")?;
    let archive = kit::archive(program, &start)?;
    container.put(SENSOR_DIR, archive).await.context("put the sensor in place")?;
    Ok((container, nonce))
}

fn random_hex() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Runs, probes and stops the target once. The trace is complete in the volume afterwards.
async fn one_run(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    (container, nonce, what): (Box<dyn Container>, &str, &Recordee<'_>),
    moments: Option<watch::Sender<Moment>>,
) -> Result<(Baseline, bool)> {
    let log = Log::new(session.plan.show_logs.then(|| session.monitor.clone() as _));
    let healthcheck = subject.config.healthcheck();
    let (recording, _) = Recording::start(helper.clone(), container, nonce, healthcheck, log).await?;
    let reached = |moment| {
        if let Some(moments) = &moments {
            // Nobody listens when reading the image failed; that error is the one that counts.
            moments.send_replace(moment);
        }
    };
    reached(Moment::Started);
    let probed = probe_and_stop(session, subject, (&recording, what.probes), reached).await;
    match probed {
        Ok((baseline, quiet)) => {
            recording.close(&session.leaving).await?;
            Ok((baseline, quiet))
        }
        Err(error) => {
            if !session.plan.show_logs {
                for line in recording.last_words(LOG_TAIL).await {
                    session.monitor.tell(Fact::Log { line });
                }
            }
            Err(recording.blame(error).await)
        }
    }
}

async fn probe_and_stop(
    session: &Session<'_>,
    subject: &Subject,
    (recording, plan): (&Recording<'_>, &ProbePlan),
    reached: impl Fn(Moment),
) -> Result<(Baseline, bool)> {
    let monitor = session.monitor.as_ref();
    let began = Instant::now();
    let (ports, plan) = verify::ready(plan, case::is_job(session), recording, monitor).await?;
    session.phase("probe", String::new());
    let asked = probe::run(&plan, &ports, recording, monitor).await?;
    let failed = match asked.verdict() {
        Verdict::Passed => None,
        Verdict::Failed(lines) => Some(lines.join("; ")),
        Verdict::Nothing(why) => Some(why),
    };
    if let Some(why) = failed {
        session.heard(asked.answers);
        return Err(anyhow!(why)).context(Exit::Baseline);
    }
    let took = began.elapsed();
    let others = again(&asked.requests(), asked.ended.is_some(), recording).await?;
    session.done("probe", counted(asked.answers.len() as u64, "answer", "answers"));
    recording.mark("settle").await?;
    let mut baseline = Baseline {
        first: asked.answers,
        others,
        stop: StopStatus { status: 0, handled: true },
        log: Vec::new(),
        took,
        plan,
    };
    if asked.ended.is_none() {
        reached(Moment::Settling(Box::new(baseline.clone())));
    }
    let settle = session.plan.settle;
    let (_, quiet) = recording.settle(settle, settle * SETTLE_BOUND).await?;
    recording.mark("stop").await?;
    let signal = run::signal_number(subject.config.stop_signal())?;
    let Ended { status, handled } = recording.stop(signal, subject.config.stop_timeout()).await?;
    if !quiet {
        session.warn("the target was still touching new files when it was stopped: --settle longer, or probe more");
    }
    baseline.stop = StopStatus { status, handled };
    baseline.log = recording.log();
    Ok((baseline, quiet))
}

/// Asks everything again that can be asked again in the same run; what differs is volatile.
async fn again(requests: &[Request], ended: bool, target: &Recording<'_>) -> Result<Vec<Vec<Answer>>> {
    if ended {
        return Ok(Vec::new());
    }
    target.mark("again").await?;
    Ok(vec![probe::replay(requests, target, &Void).await?])
}
