//! Verify: the words of `slim verify`: the comparison alone, of any two images.

use std::path::PathBuf;

use clap::Args;

use super::build::{BuildArgs, OutputArgs, RecordArgs, SourceArgs};
use super::probe::ProbeArgs;
use super::run::RunArgs;

/// Everything after `slim verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct VerifyArgs {
    /// The image whose answers are the measure
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The image that is to answer the same
    #[arg(value_name = "OTHER")]
    pub other: String,
    /// Arguments of the program in both images; they take the place of the CMD
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
    /// Where the report goes [default: no report]
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub report: Option<PathBuf>,
    /// Time for the other image to get ready and answer [default: the time to get ready, 30s and five times what the
    /// first took]
    #[arg(long, value_name = "TIME", help_heading = "Results")]
    pub verify_timeout: Option<String>,
    /// What is asked of both.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// How both run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Command on this machine before each run of a target, to reset state outside of it
    #[arg(long, value_name = "COMMAND", help_heading = "Run")]
    pub before_run: Option<String>,
    /// Show the targets' logs as they come
    #[arg(long, help_heading = "Run")]
    pub show_clogs: Option<bool>,
}

impl VerifyArgs {
    /// The same words as a build's.
    pub fn as_build(&self) -> BuildArgs {
        BuildArgs {
            source: SourceArgs { image: Some(self.image.clone()), args: self.args.clone(), ..SourceArgs::default() },
            output: OutputArgs {
                report: Some(self.report.clone().unwrap_or_else(|| "off".into())),
                verify_timeout: self.verify_timeout.clone(),
                ..OutputArgs::default()
            },
            probe: self.probe.clone(),
            run: self.run.clone(),
            record: RecordArgs {
                before_run: self.before_run.clone(),
                show_clogs: self.show_clogs,
                ..RecordArgs::default()
            },
            ..BuildArgs::default()
        }
    }
}
