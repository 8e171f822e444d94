//! Traces: recordings that are kept as files, written by `slim trace` and taken in by `slim build --trace`.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::case::Case;
use super::record::Recorded;
use super::subject::Subject;
use super::{Session, record, replays, subject};
use crate::exit::{Exit, Hint};
use crate::plan::BuildPlan;
use crate::probe::Request;
use crate::report::{self, Builder, Redactor, model};
use crate::run::way::Helper;
use crate::trace::Trace;
use crate::trace::file::{self, Head, TraceFile};

/// Records an image and writes the trace file. What it says: how many paths there are.
///
/// # Errors
/// When nothing could be recorded, or the file not be written; then there is no file.
pub async fn record_to(session: &Session<'_>, path: &Path) -> Result<u64> {
    let mut report = Builder::new(report::Options::default(), super::redactor(session.plan));
    let subject = subject::open(session, &mut report).await?;
    let helper = super::helper(session, &subject).await?;
    let recorded = record::record(session, &subject, &helper, &mut report).await?;
    let kept = Kept::new(session, &subject, &recorded, report.redactor()).context("nothing was recorded")?;
    session.leaving.add(recorded.image.pristine.close(), None);
    session.leaving.gone().await?;
    kept.write(path)?;
    Ok(recorded.trace.facts.len() as u64)
}

/// A recording with what it was recorded from, to be written.
pub struct Kept {
    head: Head,
    asks: Vec<Request>,
    runs: Vec<Vec<u8>>,
    redactor: Redactor,
}

impl Kept {
    /// Takes what the recording stage found. `None` where nothing was recorded.
    pub(super) fn new(
        session: &Session<'_>,
        subject: &Subject,
        recorded: &Recorded,
        redactor: &Redactor,
    ) -> Option<Self> {
        let case = recorded.cases.first().filter(|_| !recorded.runs.is_empty())?;
        let (replay, asks) = replays::replay(session, subject, &case.baseline, redactor);
        let head = Head { replay: Some(replay), ..head(session, subject, &recorded.trace, redactor) };
        Some(Self { head, asks, runs: recorded.runs.clone(), redactor: redactor.clone() })
    }

    /// Writes the trace file, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write(path, (&self.head, &self.asks), &self.runs, &self.redactor)
    }
}

fn head(session: &Session<'_>, subject: &Subject, trace: &Trace, redactor: &Redactor) -> Head {
    let run = &session.plan.run;
    let name = |line: &String| line.split('=').next().unwrap_or_default().to_owned();
    let mut env_names: Vec<String> = crate::run::env_of(&subject.config, run).iter().map(name).collect();
    env_names.sort();
    env_names.dedup();
    Head {
        schema: file::SCHEMA.into(),
        slim: env!("CARGO_PKG_VERSION").into(),
        image: subject.reference.familiar(),
        id: subject.info.id.clone(),
        config: subject.config_digest.clone(),
        arch: subject.info.arch.clone(),
        recorders: trace.recorders.clone(),
        argv: redactor.arguments(&subject.argv),
        user: run.user.clone().unwrap_or_else(|| subject.config.user().to_owned()),
        workdir: run.workdir.clone().unwrap_or_else(|| subject.config.workdir().to_owned()),
        env_names,
        probes: trace.marks.values().map(|name| redactor.text(name)).collect(),
        mounts: subject.mount_points.clone(),
        replay: None,
    }
}

/// Writes it whole or not at all.
fn write(path: &Path, head: (&Head, &[Request]), runs: &[Vec<u8>], redactor: &Redactor) -> Result<()> {
    report::file::replace(path, |out| file::write(out, head, runs, &|text| redactor.text(text)).map(drop))
}

/// A trace file that was read.
pub struct Loaded {
    /// Name for reasons and requests: the file's, without its directory and ending.
    pub name: String,
    /// What is in it.
    pub file: TraceFile,
    /// What the report says of it.
    pub used: model::TraceUse,
}

/// Whether the build rests on traces alone: there are some, and nothing was said of how to run or probe.
pub fn alone(plan: &BuildPlan) -> bool {
    let silent = crate::probe::says_nothing(&plan.probes) && plan.run.cmd.is_none() && plan.run.entrypoint.is_none();
    !plan.traces.is_empty() && silent
}

/// Reads the files of `--trace` before anything is started.
pub fn read(session: &Session<'_>, subject: &Subject) -> Result<Vec<Loaded>> {
    let mut all: Vec<Loaded> = Vec::new();
    for path in &session.plan.traces {
        let mut one = read_one(session, subject, path)?;
        // Two files of one name in two directories.
        let numbered = format!("{} #", one.name);
        let same = all.iter().filter(|other| other.name == one.name || other.name.starts_with(&numbered)).count();
        if same > 0 {
            one.name = format!("{} #{}", one.name, same + 1);
        }
        all.push(one);
    }
    Ok(all)
}

fn read_one(session: &Session<'_>, subject: &Subject, path: &Path) -> Result<Loaded> {
    let bytes = std::fs::read(path).with_context(|| format!("read the trace {}", path.display())).context(Exit::Usage)?;
    let found = file::read(&bytes[..]).with_context(|| path.display().to_string()).context(Exit::Trace)?;
    let id = &subject.info.id;
    if !found.head.is_of(id, &subject.config_digest) && !session.plan.trace_other_digest {
        let what = format!(
            "{} was recorded from {} ({}), and {} is {id}",
            path.display(),
            found.head.image,
            found.head.id,
            subject.reference.familiar()
        );
        let hint = Hint::new("record it again, or give --trace-other-digest if the images are alike");
        return Err(anyhow!(what).context(Exit::Usage).context(hint));
    }
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let used = model::TraceUse {
        path: path.display().to_string(),
        sha256: super::subject::digest(&bytes).trim_start_matches("sha256:").to_owned(),
        image: found.head.image.clone(),
        id: found.head.id.clone(),
        argv: found.head.argv.clone(),
        paths: found.trace.facts.len() as u64,
        ..model::TraceUse::default()
    };
    Ok(Loaded { name, file: found, used })
}

/// Adds the recordings of a trace; its marks are told apart by its name. How many paths are new.
pub fn add(trace: &mut Trace, loaded: &Loaded) -> u64 {
    let mut other = loaded.file.trace.clone();
    for mark in other.marks.values_mut() {
        *mark = format!("{}: {mark}", loaded.name);
    }
    trace.union(other).len() as u64
}

/// Asks the untouched image again what the traces were asked, so that the slim one can be compared.
///
/// # Errors
/// When the untouched image does not answer any more, or, where nothing else is compared, nothing can be asked.
pub async fn cases(
    session: &Session<'_>,
    subject: &Subject,
    helper: &Helper<'_>,
    traces: &mut [Loaded],
) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for loaded in traces {
        let (way, not_asked) = replays::way(session, loaded);
        if let Some(way) = way {
            session.phase("baseline", loaded.name.clone());
            let case = Case::plain(session, subject, helper, way).await?;
            let answers = case.baseline.first.len() as u64;
            loaded.used.asked = answers;
            session.done("baseline", crate::report::figures::counted(answers, "answer", "answers"));
            cases.push(case);
        }
        if let Some(why) = not_asked {
            session.warn(format!("{}: not asked again: {why}", loaded.used.path));
            loaded.used.not_asked = Some(why);
        }
    }
    Ok(cases)
}
