//! Trace: the words of `slim trace`: a recording that is kept as a file.

use std::path::PathBuf;

use clap::Args;

use super::build::{BuildArgs, OutputArgs, RecordArgs, SourceArgs};
use super::probe::ProbeArgs;
use super::run::RunArgs;

/// Everything after `slim trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct TraceArgs {
    /// What is recorded.
    #[command(flatten)]
    pub source: SourceArgs,
    /// File for the trace
    #[arg(long, short, value_name = "FILE", required = true, help_heading = "Results")]
    pub output: Option<PathBuf>,
    /// What is asked of the target.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// How the target runs.
    #[command(flatten)]
    pub run: RunArgs,
    /// How it is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
}

impl TraceArgs {
    /// The same words as a build's that gives no image.
    pub fn as_build(&self) -> BuildArgs {
        BuildArgs {
            source: self.source.clone(),
            output: OutputArgs { report: Some("off".into()), no_verify: Some(true), ..OutputArgs::default() },
            probe: self.probe.clone(),
            run: self.run.clone(),
            record: self.record.clone(),
            ..BuildArgs::default()
        }
    }
}
