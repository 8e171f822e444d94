//! Build: the sentence of docs/design.md as a program, one call for each stage.
//!
//! A build that stops early still gives a report of what it found out; what it made in the engine is swept
//! by the caller, whatever happened.

pub mod apart;
mod base;
mod case;
mod compare;
mod current;
mod early;
mod elsewhere;
mod ending;
mod findings;
mod holdout;
mod inputs;
pub mod platforms;
mod prove;
pub mod provenance;
mod publish;
mod record;
mod replays;
mod search;
mod secrets;
mod slim;
mod subject;
mod traces;
mod trial;
mod untouched;
mod uses;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::engine::{self, Engine};
use crate::exit::{self, Exit};
use crate::plan::{BuildPlan, Source};
use crate::probe::Answer;
use crate::progress::{Fact, Monitor};
use crate::report::{self, Builder, Finished, Journal, Redactor, VerdictKind};
use crate::run::leaving::Leaving;
use crate::run::way::Helper;
use crate::store::manifest::media;
use crate::trace::Trace;
use crate::ui::Ui;
use ending::Closing;
use subject::Subject;

/// What every stage needs.
pub struct Session<'a> {
    /// What to do.
    pub plan: &'a BuildPlan,
    /// Who runs containers.
    pub engine: &'a dyn Engine,
    /// Who hears of it.
    pub monitor: Arc<Journal>,
    /// What shows it; it masks what turns out to be secret.
    pub ui: Arc<Ui>,
    /// Containers that are being removed.
    pub leaving: Leaving,
    /// Whether the result is getting its names.
    pub closing: Closing,
    /// Answers of an original that fails, for the report.
    pub heard: Mutex<Vec<Answer>>,
    /// Nothing is made of the recording.
    pub only_record: bool,
}

/// How a build ended.
pub struct Built {
    /// The report, also of a build that failed.
    pub finished: Finished,
    /// References (or `-o` files) with the image's digest; empty unless it was published.
    pub published: Vec<(String, String)>,
    /// The recording, for `--copy-meta-artifacts`; `None` when it was not asked for, or there is none.
    pub recording: Option<traces::Kept>,
    /// What the published image was made of; `None` when none was.
    pub made: Option<provenance::Made>,
    /// Why it stopped; `None` when it came to a verdict.
    pub error: Option<anyhow::Error>,
    /// The result that was there already: nothing was done, and the report says nothing. `None` for a build.
    pub current: Option<Current>,
}

/// What the stages come to.
enum Ended {
    /// The image was made.
    Verdict(Box<Verdict>),
    /// It was there.
    Current(Box<Current>),
}

/// A verdict with what it rests on.
struct Verdict {
    kind: VerdictKind,
    why: String,
    exit: Exit,
    published: Vec<(String, String)>,
    made: Option<provenance::Made>,
}

impl Session<'_> {
    fn phase(&self, name: &'static str, detail: impl Into<String>) {
        self.monitor.tell(Fact::Phase { name, detail: detail.into() });
        trip(name);
    }

    /// Learns the secrets of an environment that only the image told.
    fn learn_env(&self, lines: &[String], report: &mut Builder) {
        report.learn_env(lines);
        self.ui.learn_env(lines);
    }

    /// Keeps the answers of an original that fails.
    fn heard(&self, answers: Vec<Answer>) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }

    fn done(&self, name: &'static str, detail: impl Into<String>) {
        self.monitor.tell(Fact::PhaseDone { name, detail: detail.into() });
    }

    fn warn(&self, text: impl Into<String>) {
        self.monitor.tell(Fact::Warning { text: text.into() });
    }

    fn info(&self, text: impl Into<String>) {
        self.monitor.tell(Fact::Info { text: text.into() });
    }
}

/// A bug that a test can ask for, in debug builds: a panic when this phase begins.
fn trip(phase: &str) {
    if cfg!(debug_assertions) && std::env::var("SLIMTEST_PANIC_AT").is_ok_and(|at| at == phase) {
        panic!("a test asked for this at {phase}");
    }
}

pub use compare::compare;
pub use current::Current;
pub use ending::{Signals, or_signal, with_engine};
pub use traces::record_to;

/// Makes an image small and proves it. Never fails as a function: what went wrong is in [`Built::error`].
pub async fn build(session: &Session<'_>) -> Built {
    let outputs = &session.plan.outputs;
    let options = report::Options { full: outputs.report_full, bodies: outputs.report_bodies };
    let mut builder = Builder::new(options, redactor(session.plan));
    let mut recording = None;
    let ended = stages(session, &mut builder, &mut recording).await;
    let phases = session.monitor.phases();
    let recorded = phases.iter().any(|phase| phase.name == "record");
    builder.phases(phases);
    builder.warnings(session.monitor.warnings());
    match ended {
        Ok(Ended::Verdict(verdict)) => Built {
            finished: builder.finish(verdict.kind, &verdict.why, verdict.exit),
            published: verdict.published,
            recording,
            made: verdict.made,
            error: None,
            current: None,
        },
        Ok(Ended::Current(current)) => Built {
            finished: builder.finish(VerdictKind::Verified, "", Exit::Done),
            published: current.published.clone(),
            recording: None,
            made: None,
            error: None,
            current: Some(*current),
        },
        Err(error) => {
            let (exit, why) = (engine::exit_of(&error), exit::causes(&error));
            if exit == Exit::Trace && recorded {
                builder.incomplete_trace(&why);
            }
            let heard = std::mem::take(&mut *session.heard.lock().unwrap_or_else(PoisonError::into_inner));
            if !heard.is_empty() {
                builder.answers(&heard, None);
            }
            let finished = builder.finish(VerdictKind::Failed, &why, exit);
            Built { finished, published: Vec::new(), recording, made: None, error: Some(error), current: None }
        }
    }
}

/// The sentence.
async fn stages(session: &Session<'_>, report: &mut Builder, kept: &mut Option<traces::Kept>) -> Result<Ended> {
    elsewhere::check_destination(session).await?;
    let masks = redactor(session.plan);
    if let Some(current) = current::before_fetching(session, &masks).await {
        return up_to_date(session, current);
    }
    elsewhere::check_places(session, media::OCI_MANIFEST).await?;
    let mut subject = subject::open(session, report).await?;
    base::refuse_result(session, &subject)?;
    subject.inputs = current::inputs_of(session, &subject, &masks);
    if let Some(inputs) = &subject.inputs
        && let Some(current) = current::find(session, &subject.reference, inputs).await
    {
        return up_to_date(session, current);
    }
    let helper = helper(session, &subject).await?;
    let mut recorded = record::record(session, &subject, &helper, report).await?;
    if session.plan.outputs.artifacts.is_some() {
        *kept = traces::Kept::new(session, &subject, &recorded, report.redactor());
    }
    let (slim, proof) = prove::prove(session, &subject, &helper, &mut recorded, report).await?;
    if let Some(searching) = recorded.searching.take() {
        searching.tell(session, &subject, &mut recorded.image, report).await;
    }
    slim::tell_losses(session, &slim, &recorded.image.pristine);
    session.leaving.add(recorded.image.pristine.close(), None);
    session.leaving.gone().await?;
    let compressed = match recorded.compressed.take() {
        Some(measuring) => Some(measuring.bytes().await?),
        None => None,
    };
    publish::publish(session, &subject, &slim, proof, compressed, report).await.map(|verdict| Ended::Verdict(Box::new(verdict)))
}

fn up_to_date(session: &Session<'_>, current: Current) -> Result<Ended> {
    current::write_digest(session, &current)?;
    Ok(Ended::Current(Box::new(current)))
}

/// What containers of our own need: a volume, into which the recording puts this executable.
async fn helper<'a>(session: &Session<'a>, subject: &Subject) -> Result<Helper<'a>> {
    Ok(Helper {
        engine: session.engine,
        image: subject.info.id.clone(),
        volume: session.engine.create_volume("sensor").await?,
        mount_points: subject.volumes.clone(),
    })
}

/// Secrets that the plan itself holds, to be masked in everything shown.
pub fn redactor(plan: &BuildPlan) -> Redactor {
    let mut redactor = Redactor::new();
    redactor.learn_env(&plan.run.env);
    redactor.learn_env(&plan.edits.env);
    if let Source::Dockerfile(spec) = &plan.source {
        redactor.learn_env(&spec.args);
    }
    let commands = plan.probes.http_commands.iter().flat_map(|command| &command.request.headers);
    for (name, value) in plan.probes.headers.iter().chain(commands) {
        redactor.learn_header(name, value);
    }
    if let Some(auth) = &plan.auth {
        redactor.learn(&auth.secret);
    }
    redactor
}

/// Folds the trace of one run into what is known, and says how many paths were new.
fn fold(trace: &mut Option<Trace>, bytes: &[u8]) -> Result<u64> {
    let run = Trace::read(bytes).context(Exit::Trace)?;
    match trace {
        None => {
            let count = run.facts.len() as u64;
            *trace = Some(run);
            Ok(count)
        }
        Some(known) => Ok(known.union(run).len() as u64),
    }
}

/// `--copy-meta-artifacts`: the report, the list of removed files, and the trace.
///
/// # Errors
/// When the directory or a file in it cannot be written.
pub fn copy_artifacts(dir: &Path, built: &mut Built) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("make the directory {}", dir.display()))?;
    if let Some(recording) = &built.recording {
        recording.write(&dir.join("slim.trace"))?;
    }
    built.finished.write(&dir.join("slim.report.json"))
}
