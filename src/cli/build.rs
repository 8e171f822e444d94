//! Build: the words of `slim build`, in groups: what to make small, the run, the probes, what to keep, what
//! comes out.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::batch::BatchArgs;
use super::copy::AccessArgs;
use super::edits::EditArgs;
use super::keep::KeepArgs;
use super::probe::ProbeArgs;
use super::run::RunArgs;
use crate::sensor::control::{Pid1, SensorMode};
use crate::store::compress::Compression;

/// Everything after `slim build`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct BuildArgs {
    /// What to make small.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Several images at once.
    #[command(flatten)]
    pub batch: BatchArgs,
    /// What comes out.
    #[command(flatten)]
    pub output: OutputArgs,
    /// What is asked of the target.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// What is kept besides.
    #[command(flatten)]
    pub keep: KeepArgs,
    /// How the target runs.
    #[command(flatten)]
    pub run: RunArgs,
    /// How it is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// What changes in the image's config.
    #[command(flatten)]
    pub edits: EditArgs,
}

/// What to make small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Image")]
pub struct SourceArgs {
    /// Image to make small: NAME[:TAG], NAME@DIGEST, an image ID, or a transport
    ///
    /// Transports: docker-daemon:NAME, docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG],
    /// docker-archive:FILE[:NAME], containers-storage:NAME.
    #[arg(value_name = "IMAGE", help_heading = "Arguments", display_order = 1)]
    pub image: Option<String>,
    /// Arguments of the program in the image; they take the place of its CMD for the run
    #[arg(last = true, value_name = "ARGS", help_heading = "Arguments", display_order = 2)]
    pub args: Vec<String>,
    /// The image, as a flag
    #[arg(long, value_name = "IMAGE")]
    pub target: Option<String>,
    /// Pull the image: `missing` (the meaning of a bare --pull), `always` or `never` [default: never in a container engine, missing in the one in slim]
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "missing")]
    pub pull: Option<PullWhen>,
    /// Account at the registry [default: what docker login stored]
    #[arg(long, value_name = "NAME")]
    pub registry_account: Option<String>,
    /// Password or token of the account; other users of this machine can see it, better is --registry-secret-stdin
    #[arg(long, value_name = "SECRET")]
    pub registry_secret: Option<String>,
    /// Read the password or token from stdin
    #[arg(long)]
    pub registry_secret_stdin: Option<bool>,
    /// Which registries are trusted.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Build the image first from this directory or Dockerfile
    #[arg(long, value_name = "PATH")]
    pub dockerfile: Option<PathBuf>,
    /// Context directory of that build [default: the Dockerfile's directory]
    #[arg(long, value_name = "DIR")]
    pub dockerfile_context: Option<PathBuf>,
    /// Name for the image that was built first
    #[arg(long, value_name = "NAME[:TAG]")]
    pub tag_fat: Option<String>,
    /// Build-time variable of that build; a bare NAME takes its value from the environment
    #[arg(long, alias = "cbo-build-arg", value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Stage of that build
    #[arg(long, alias = "cbo-target", value_name = "STAGE")]
    pub build_target: Option<String>,
    /// Network mode of that build
    #[arg(long, alias = "cbo-network", value_name = "MODE")]
    pub build_network: Option<String>,
}

/// `--pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullWhen {
    /// When the engine does not have the image
    #[value(alias = "true", alias = "1", alias = "yes")]
    Missing,
    /// Each time
    Always,
    /// Not at all
    #[value(alias = "false", alias = "0", alias = "no")]
    Never,
}

/// What comes out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Results")]
pub struct OutputArgs {
    /// Name of the slim image; repeatable [default: NAME.slim:TAG]
    #[arg(long, short, value_name = "NAME[:TAG]", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Also write the slim image there: a FILE, oci:DIR[:TAG], oci-archive:FILE, docker://NAME; repeatable
    ///
    /// A FILE is what `docker load` reads (docker-archive:) and an OCI layout at once.
    #[arg(long, short, value_name = "WHERE")]
    pub output: Vec<String>,
    /// How the layer is compressed there [default: gzip; not at all in a FILE]
    #[arg(long, value_name = "HOW", value_enum)]
    pub compress: Option<Compression>,
    /// Let the slim image take the place of an index of several platforms
    #[arg(long)]
    pub force: Option<bool>,
    /// Build also what is up to date: made before, verified, of the same inputs
    #[arg(long)]
    pub rebuild: Option<bool>,
    /// Also make an image small that slim made: what no probe touched is gone from it already
    #[arg(long)]
    pub again: Option<bool>,
    /// Write the digest of the result's manifest to this file
    #[arg(long, value_name = "FILE")]
    pub digest_file: Option<PathBuf>,
    /// Write what the published result was made of, and how, as an in-toto statement (SLSA provenance)
    #[arg(long, value_name = "FILE")]
    pub provenance: Option<PathBuf>,
    /// Publish nothing when this is so, and end with status 6; repeatable
    ///
    /// A figure beyond its limit: size>60MB, compressed>20MB, files>500, reduction<50%, programs>20, packages>30,
    /// holdout<90%; a count alone means more than none: shells, setuid, package-managers, network-clients,
    /// compilers, interpreters, capabilities, writable, secrets. A change since --baseline: size>+5%. What must not stay: path:GLOB, package:NAME. And root, unverified.
    #[arg(long, value_name = "BUDGET")]
    pub fail_on: Vec<String>,
    /// The report that changes are measured against, as one of the last build
    #[arg(long, value_name = "REPORT")]
    pub baseline: Option<PathBuf>,
    /// Where the report goes, or `off` [default: slim.report.json]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Also write the report as a page for a browser: one file, which needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also write it as a Markdown page, for a pull request; GitHub's job summary gets it by itself
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Also write it as JUnit XML, a test case for each answer and budget
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Also write it as CSV, a line for each file that stays or goes
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Also write what it found as SARIF, for code scanning: missed budgets, answers that differ, what an attacker would look for
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// Also write a software bill of materials of what stays: FORMAT (cyclonedx, spdx), `=`, FILE; repeatable
    #[arg(long, value_name = "FORMAT=FILE")]
    pub sbom: Vec<String>,
    /// Also write which of the vulnerabilities of --vex-from the slim image does not have, as OpenVEX
    ///
    /// Those of packages of which it holds no file. The document is bound to the ID of the slim image; where there is
    /// nothing to state none is written.
    #[arg(long, value_name = "FILE")]
    pub vex: Option<PathBuf>,
    /// What a scanner found in the original: JSON of trivy or grype
    #[arg(long, value_name = "SCAN")]
    pub vex_from: Option<PathBuf>,
    /// Name every removed file in the report, not only directories
    #[arg(long)]
    pub report_full: Option<bool>,
    /// Put excerpts of response bodies into the report
    #[arg(long)]
    pub report_bodies: Option<bool>,
    /// Copy the report, the list of removed files and the trace into this directory
    #[arg(long, value_name = "DIR")]
    pub copy_meta_artifacts: Option<PathBuf>,
    /// Do not run the slim image and compare its answers; the verdict is then UNVERIFIED
    #[arg(long)]
    pub no_verify: Option<bool>,
    /// How often files that the slim image looks for and misses may be added and the image made again; 0 does
    /// not look [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub repair_rounds: Option<u32>,
    /// Time for each run of the slim image to get ready and answer [default: the time to get ready, 30s and five
    /// times what the original took]
    #[arg(long, value_name = "TIME")]
    pub verify_timeout: Option<String>,
    /// Keep this part of the requests out of the recording and ask the slim image for them all the same: how many
    /// it answers is an estimate for what nobody probes
    ///
    /// A number from 0 to 1. Pages that a crawl finds and stated probes are drawn by --holdout-seed; the first
    /// request, and one that may change something, never is. Those that fail do not fail the build: they count in
    /// the verdict, then they are recorded too and the image is made again.
    #[arg(long, value_name = "FRACTION")]
    pub holdout: Option<String>,
    /// Number by which they are drawn [default: 1]
    #[arg(long, value_name = "N")]
    pub holdout_seed: Option<u64>,
}

/// How the run is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Recording")]
pub struct RecordArgs {
    /// Which recorders to use [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub sensor: Option<SensorMode>,
    /// Whether the target is process 1 while it is recorded, as it is without slim [default: auto, where possible]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub pid1: Option<Pid1>,
    /// After the probes, record until no new path came for this long [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub settle: Option<String>,
    /// Record this many runs and keep what any of them touched [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: Option<u32>,
    /// Command on this machine before each run of the target, to reset state outside of it
    #[arg(long, value_name = "COMMAND")]
    pub before_run: Option<String>,
    /// Show the target's log as it comes
    #[arg(long)]
    pub show_clogs: Option<bool>,
}
