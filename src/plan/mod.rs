//! Plan: what the command line means, checked, without side effects but reading the files that flags name.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::copy::AccessArgs;
use crate::cli::{BuildArgs, Common, Origins, UsageError, Vars};
pub use crate::engine::host::EngineChoice;
use crate::engine::{BuildSpec, Credentials, RunOptions};
use crate::gate::Budget;
use crate::keep::Policy;
use crate::probe::ProbeRequest;
use crate::report::scan::Finding;
use crate::report::views::View;
use crate::sensor::control::{Pid1, SensorMode};
use crate::store::Transport;
use crate::store::compress::Compression;
use crate::store::manifest::Platform;

pub mod budget;
pub mod cache;
pub mod edits;
pub mod files;
pub mod keep;
pub mod outputs;
pub mod platforms;
pub mod probe;
pub mod run;
pub mod source;
pub mod uses;
pub mod value;

/// How long no new path has to come before the target is stopped, unless `--settle` says otherwise.
const SETTLE: Duration = Duration::from_secs(1);

/// Rounds of repair when none are given: what a repaired file leads to is found in the next one.
const REPAIR_ROUNDS: u32 = 3;

/// The same choice for everybody who does not want another one.
const HOLDOUT_SEED: u64 = 1;

/// Where the image to be slimmed comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A reference or image ID in the engine, as typed and parsed.
    Image(String),
    /// Outside of the engine: a registry, a layout or an archive.
    Elsewhere(Transport),
    /// Built first.
    Dockerfile(BuildSpec),
}

/// `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// Nothing was said: a container engine has to have the image, the one in this program fetches what it has not.
    #[default]
    Unsaid,
    /// `--pull=never`: the engine has to have it.
    Never,
    /// `--pull` or `--pull=missing`: when the engine does not have it.
    Missing,
    /// `--pull=always`.
    Always,
}

/// Where results go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// `--tag`; empty: `REPO.slim:TAG` of the source.
    pub tags: Vec<String>,
    /// `-o`, in the order given.
    pub written: Vec<Transport>,
    /// `--compress`, for those; `None`: gzip where that is free.
    pub compress: Option<Compression>,
    /// `--force`: one image may take the place of an index.
    pub force: bool,
    /// `--rebuild`: also what is up to date.
    pub rebuild: bool,
    /// `--again`: also what slim made.
    pub again: bool,
    /// `--provenance`.
    pub provenance: Option<PathBuf>,
    /// `--digest-file`.
    pub digest_file: Option<PathBuf>,
    /// `--copy-meta-artifacts`.
    pub artifacts: Option<PathBuf>,
    /// `--report`; default `slim.report.json`; `None`: `--report=off`.
    pub report: Option<PathBuf>,
    /// `--html`, `--markdown`, `--junit`, `--csv`, `--sarif`.
    pub views: Vec<(View, PathBuf)>,
    /// What a scanner found in the original; only read when a view tells of it.
    pub findings: Vec<Finding>,
    /// `--report-full`.
    pub report_full: bool,
    /// `--report-bodies`.
    pub report_bodies: bool,
}

/// `--holdout`, `--holdout-seed`.
#[derive(Clone, Debug, PartialEq)]
pub struct Holdout {
    /// Of the requests, more than 0 and at most 1.
    pub fraction: f64,
    /// By which they are drawn.
    pub seed: u64,
}

/// `--new-*`, `--remove-*`, `--image-overrides`: the only things that change the image's config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigEdits {
    /// `--new-entrypoint`.
    pub entrypoint: Option<Vec<String>>,
    /// `--new-cmd`.
    pub cmd: Option<Vec<String>>,
    /// `--new-user`.
    pub user: Option<String>,
    /// `--new-workdir`.
    pub workdir: Option<String>,
    /// `--new-env` NAME=value.
    pub env: Vec<String>,
    /// `--new-expose` port[/proto].
    pub expose: Vec<String>,
    /// `--new-volume`.
    pub volumes: Vec<String>,
    /// `--new-label` name=value.
    pub labels: Vec<String>,
    /// `--remove-env` names.
    pub remove_env: Vec<String>,
    /// `--remove-label` names.
    pub remove_labels: Vec<String>,
    /// `--remove-expose` port[/proto].
    pub remove_expose: Vec<String>,
    /// `--remove-volume` paths.
    pub remove_volumes: Vec<String>,
    /// `--remove-healthcheck`.
    pub remove_healthcheck: bool,
    /// `--new-stop-signal`.
    pub stop_signal: Option<String>,
}

/// `slim build`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildPlan {
    /// What.
    pub source: Source,
    /// Where.
    pub engine: EngineChoice,
    /// `--pull`.
    pub pull: Pull,
    /// `--registry-account`, `--registry-secret-stdin`; `None`: Docker's credential files and helpers.
    pub auth: Option<Credentials>,
    /// How registries are reached where no engine does it.
    pub access: AccessArgs,
    /// How the target runs.
    pub run: RunOptions,
    /// `--platform`, where it names several: of each an image is made, and an index of them. Empty: one image.
    pub platforms: Vec<Platform>,
    /// `--before-run`, split; run before each run of the target.
    pub before_run: Option<Vec<String>>,
    /// `--sensor`.
    pub sensor: SensorMode,
    /// `--pid1`.
    pub pid1: Pid1,
    /// What to probe.
    pub probes: ProbeRequest,
    /// `--uses`: how files run images, this one among them.
    pub uses: Vec<uses::UseFile>,
    /// `--trace`: recordings to add.
    pub traces: Vec<PathBuf>,
    /// `--trace-other-digest`: also those of another image.
    pub trace_other_digest: bool,
    /// `--settle`: record until no new path came for this long.
    pub settle: Duration,
    /// `--repeat`: recording runs.
    pub repeat: u32,
    /// What to keep besides; `argv`, `user`, `workdir`, `env` and `mount_points` are filled in from the image.
    pub policy: Policy,
    /// `--no-verify` is false.
    pub verify: bool,
    /// `--verify-timeout`: time for each run of the slim image; `None`: by how long the original took.
    pub verify_timeout: Option<Duration>,
    /// `--holdout`: what is kept out of the recording; `None`: nothing.
    pub holdout: Option<Holdout>,
    /// `--repair-rounds`: how often the slim image may be made again with what it missed; 0: do not look.
    pub repair_rounds: u32,
    /// `--show-clogs`.
    pub show_logs: bool,
    /// Results.
    pub outputs: Outputs,
    /// `--fail-on`, `--baseline`: what a result must keep to be published.
    pub budget: Budget,
    /// Config changes.
    pub edits: ConfigEdits,
    /// Long names of the flags that were given, however. Empty where the plan was not made from a command line.
    pub given: BTreeSet<String>,
}

/// What a plan depends on besides the words of the command line.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Environment variables: bare `-e NAME`, `env:VAR`.
    pub vars: &'a Vars,
    /// Where flags that were not typed come from, for errors.
    pub origins: &'a Origins,
}

impl Here<'_> {
    /// Whether a flag was typed, not set by a variable or the settings file. What was typed beats what was set.
    pub fn typed(&self, flag: &str) -> bool {
        !self.origins.contains_key(flag)
    }

    /// What is wrong with the value of a flag, and where it was given.
    pub fn wrong(&self, flag: &str, text: impl std::fmt::Display) -> UsageError {
        match self.origins.get(flag) {
            Some(origin) => UsageError::new(format!("{origin}: --{flag}: {text}")),
            None => UsageError::new(format!("--{flag}: {text}")),
        }
    }
}

impl BuildPlan {
    /// What the words of `slim build` mean. `stdin` is read only for `--registry-secret-stdin`.
    ///
    /// # Errors
    /// When a value cannot be understood, two flags contradict each other, or a file that a flag names
    /// cannot be read.
    pub fn new(
        common: &Common,
        args: &BuildArgs,
        here: Here<'_>,
        stdin: &mut dyn Read,
    ) -> Result<Self, UsageError> {
        if args.keep.include_new == Some(true) {
            return Err(here
                .wrong("include-new", "files that a run makes are never packed: content comes from the untouched image")
                .hint("make the files in the image's Dockerfile, or mount a volume for them"));
        }
        let unproven = args.output.no_verify == Some(true) && args.keep.trace_other_digest == Some(true);
        if unproven && !args.keep.trace.is_empty() {
            let why = "what another image touched proves nothing without a comparison: leave --no-verify away";
            return Err(here.wrong("trace-other-digest", why));
        }
        let source = source::source(args, here)?;
        let run = run::options(&args.run, &args.source.args, here)?;
        crate::engine::options::check(&run).map_err(UsageError::new)?;
        let probes = probe::request(&args.probe, here)?;
        let outputs = outputs::outputs(&args.output, here)?;
        let platforms = platforms::platforms(&args.run.platform, &source, &outputs, here)?;
        let record = &args.record;
        let time = |text: &String| value::duration(text).map_err(|why| here.wrong("settle", why));
        let before = |text: &String| value::program(text).map_err(|why| here.wrong("before-run", why));
        Ok(Self {
            source,
            engine: source::engine(args, common.engine())?,
            pull: source::pull(args.source.pull),
            access: args.source.access.clone(),
            edits: edits::edits(&args.edits, &run, here)?,
            run,
            platforms,
            before_run: record.before_run.as_ref().map(before).transpose()?,
            sensor: record.sensor.unwrap_or_default(),
            pid1: record.pid1.unwrap_or_default(),
            probes,
            uses: uses::read(&args.probe.uses, here)?,
            settle: record.settle.as_ref().map(time).transpose()?.unwrap_or(SETTLE),
            traces: args.keep.trace.clone(),
            trace_other_digest: args.keep.trace_other_digest.unwrap_or(false),
            repeat: record.repeat.unwrap_or(1),
            policy: keep::policy(&args.keep, here)?,
            verify: !args.output.no_verify.unwrap_or(false),
            repair_rounds: args.output.repair_rounds.unwrap_or(REPAIR_ROUNDS),
            verify_timeout: args.output.verify_timeout.as_ref().map(|text| limit(text, here)).transpose()?,
            holdout: holdout(args, here)?,
            show_logs: record.show_clogs.unwrap_or(false),
            outputs,
            budget: budget::budget(&args.output.fail_on, args.output.baseline.as_ref(), here)?,
            given: BTreeSet::new(),
            // Last, so that nothing is read from stdin for a command line that is wrong anyway.
            auth: source::credentials(&args.source, here, stdin)?,
        })
    }
}

/// Time for the verification.
fn limit(text: &str, here: Here<'_>) -> Result<Duration, UsageError> {
    match value::duration(text) {
        Ok(time) if time.is_zero() => Err(here.wrong("verify-timeout", "no run ends in no time; write 30s or 5m")),
        Ok(time) => Ok(time),
        Err(why) => Err(here.wrong("verify-timeout", why)),
    }
}

/// What is kept out: nothing for 0.
fn holdout(args: &BuildArgs, here: Here<'_>) -> Result<Option<Holdout>, UsageError> {
    let output = &args.output;
    let Some(text) = &output.holdout else {
        return match output.holdout_seed {
            Some(_) if here.typed("holdout-seed") => Err(here.wrong("holdout-seed", "there is nothing to draw without --holdout")),
            _ => Ok(None),
        };
    };
    let fraction = text.parse::<f64>().ok().filter(|fraction| (0.0..=1.0).contains(fraction));
    let Some(fraction) = fraction else {
        return Err(here.wrong("holdout", format!("{text:?} is no fraction; write a number from 0 to 1, as 0.2")));
    };
    if fraction == 0.0 {
        return Ok(None);
    }
    if output.no_verify == Some(true) {
        return Err(here.wrong("holdout", "what is kept out is asked in the verification: leave --no-verify away"));
    }
    Ok(Some(Holdout { fraction, seed: output.holdout_seed.unwrap_or(HOLDOUT_SEED) }))
}
