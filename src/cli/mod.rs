//! Cli: what the user types. Words, not meaning: `plan` says what they mean.
//!
//! [`parse`] is the whole way from a command line (and variables, and `slim.toml`) to an [`Invocation`], or
//! to a [`Stop`]: help that was asked for, or one line saying what is wrong.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::engine::{EngineChoice, EngineKind};
use crate::report::views::View;

pub mod absent;
pub mod batch;
pub mod build;
pub mod cache;
pub mod copy;
pub mod diff;
pub mod edits;
pub mod keep;
pub mod manual;
pub mod parse;
pub mod probe;
pub mod run;
pub mod settings;
pub mod trace;
pub mod verify;
pub mod xray;

pub use build::BuildArgs;
pub use cache::{CacheCommand, PruneArgs};
pub use copy::CopyArgs;
pub use diff::DiffArgs;
pub use trace::TraceArgs;
pub use verify::VerifyArgs;
pub use xray::XrayArgs;
pub use parse::{Invocation, Stop, UsageError, parse};
pub use settings::{Origins, Vars};

/// Makes container images small: runs an image once, keeps only the files that the run touched, and proves
/// that the result answers the same.
#[derive(Clone, Debug, Parser)]
#[command(name = "slim", version, max_term_width = 110, disable_help_subcommand = false)]
#[command(subcommand_required = true, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Exit status: 0 done, 1 could not, 2 usage, 3 the original fails its probes, 4 recording \
                        incomplete, 5 the slim image differs, 6 budget missed, 70 a bug in slim, 75 try again, \
                        129 130 131 143 ended by SIGHUP, SIGINT, SIGQUIT, SIGTERM.")]
pub struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub common: Common,
    /// `--report` in front of the command, where other minimizers have it.
    #[arg(long = "report", value_name = "FILE", hide = true)]
    report: Option<PathBuf>,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  slim build app --http-probe                       a server: wait until it answers, ask, follow links
  slim build app                                    find out what to ask, and say it
  slim build app --exec 'convert /in.png /out.jpg'  commands in the container, repeatable
  slim build tool --mount .:/w:ro -- --flag arg     a program that runs and exits
  slim build --dockerfile . --tag app:slim          build it first
  slim build --all --jobs 4                         every image that slim.toml lists

Every flag is also a variable (SLIM_HTTP_PROBE=true) and a key of slim.toml.";

const DIFF_EXAMPLES: &str = "\
Examples:
  slim diff app app.slim                            before and after
  slim diff last.json slim.report.json              which new files came in, and why
  slim diff docker-archive:old.tar app --only files,packages --top 30
  slim diff last.json slim.report.json --fail-on 'size>+5%' --markdown";

/// Flags that every command takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Common {
    /// Print events and the result as JSON lines on stdout
    #[arg(long, global = true, help_heading = "Output")]
    pub json: Option<bool>,
    /// Print nothing but the result, `REF@DIGEST`, on stdout
    #[arg(long, short, global = true, help_heading = "Output")]
    pub quiet: Option<bool>,
    /// No colours (NO_COLOR is respected too)
    #[arg(long, global = true, help_heading = "Output")]
    pub no_color: Option<bool>,
    /// How progress is shown [default: auto]
    #[arg(long, global = true, help_heading = "Output", value_name = "STYLE", value_enum)]
    pub progress: Option<Progress>,
    /// Who runs containers [default: auto]
    #[arg(long, global = true, help_heading = "Engine", value_name = "KIND", value_enum)]
    pub engine: Option<EngineKind>,
    /// The engine's address: unix://PATH, tcp://HOST:PORT, ssh://USER@HOST [default: DOCKER_HOST, the docker context, the usual sockets]
    #[arg(long, short = 'H', global = true, help_heading = "Engine", value_name = "URL")]
    pub host: Option<String>,
    /// The docker context to use
    #[arg(long, global = true, help_heading = "Engine", value_name = "NAME")]
    pub context: Option<String>,
    /// Directory with ca.pem, cert.pem and key.pem [default: DOCKER_CERT_PATH]
    #[arg(long, global = true, help_heading = "Engine", value_name = "DIR")]
    pub tls_cert_path: Option<PathBuf>,
    /// Use TLS for a tcp:// engine and check its certificate [default: DOCKER_TLS_VERIFY]
    #[arg(long, global = true, help_heading = "Engine")]
    pub tls_verify: Option<bool>,
    /// Settings file, or `off` [default: slim.toml in the current directory, when there is one]
    #[arg(long, global = true, help_heading = "Output", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Common {
    /// Which engine these flags name.
    pub fn engine(&self) -> EngineChoice {
        EngineChoice {
            kind: self.engine.unwrap_or_default(),
            host: self.host.clone(),
            context: self.context.clone(),
            cert_path: self.tls_cert_path.clone(),
            tls_verify: self.tls_verify,
        }
    }

    /// How progress is shown, `--json` and `--quiet` considered.
    pub fn progress(&self) -> Progress {
        match (self.json, self.quiet) {
            (Some(true), _) => Progress::Json,
            (_, Some(true)) => Progress::Quiet,
            _ => self.progress.unwrap_or_default(),
        }
    }
}

/// `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Moving on a terminal, plain lines anywhere else
    #[default]
    Auto,
    /// Moving bars
    Fancy,
    /// One line for each phase that begins or ends
    Plain,
    /// Warnings, errors and the summary only
    None,
    /// JSON lines on stdout, as `--json`
    Json,
    /// Errors and failed verdicts only, as `--quiet`
    Quiet,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make an image small: run it, record what it touches, pack that, compare the answers
    #[command(after_help = EXAMPLES)]
    Build(Box<BuildArgs>),
    /// Record what an image touches, as a file for `slim build --trace`
    Trace(Box<TraceArgs>),
    /// Compare the answers of two images, and do nothing else
    Verify(Box<VerifyArgs>),
    /// Copy an image between engines, archives, OCI layouts and registries
    Copy(Box<CopyArgs>),
    /// Say what is in an image: secrets, layers, packages, what an attacker would look for; nothing is run
    Xray(Box<XrayArgs>),
    /// Say how two images or reports differ: sizes, probes, secrets, programs, packages, files, settings
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Box<DiffArgs>),
    /// List the container engines within reach, and what each can record with
    Engines,
    /// Look at what slim keeps on this machine to run images without a container engine, or remove it
    Cache {
        /// What to do.
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// List the ready-made probe recipes, or show one
    Probes {
        /// Recipe to show
        name: Option<String>,
    },
    /// Say why a path is in a slim image, or that it was removed
    Why {
        /// A slim image, or a report file
        #[arg(value_name = "IMAGE-or-REPORT")]
        subject: String,
        /// Path in the image; globs are allowed
        path: String,
    },
    /// Work with stored reports
    Report {
        /// What to do.
        #[command(subcommand)]
        command: ReportCommand,
    },
    /// Decide once more from a text fixture: no root, no engine, no network
    #[command(hide = true)]
    Replay {
        /// Directory of the fixture
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Write a completion script for a shell to stdout
    Completions {
        /// Shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual page to stdout, or one page for each command to a directory
    Man {
        /// Directory for the pages
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// `slim report`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ReportCommand {
    /// Show a report on one screen
    Show {
        /// Report file
        #[arg(default_value = "slim.report.json")]
        file: PathBuf,
        /// In another program's format, whole, on stdout
        #[arg(long, value_name = "FORMAT", value_enum)]
        format: Option<View>,
        /// For `openvex`: what a scanner found in the original, JSON of trivy or grype
        #[arg(long, value_name = "SCAN")]
        vex_from: Option<PathBuf>,
    },
    /// Hold a report against budgets, as the build does before it publishes; status 6 when one is missed
    Check {
        /// Report file
        #[arg(default_value = "slim.report.json")]
        file: PathBuf,
        /// As for `slim build`; repeatable [default: those of slim.toml for the report's image]
        #[arg(long, value_name = "BUDGET")]
        fail_on: Vec<String>,
        /// The report that changes are measured against
        #[arg(long, value_name = "REPORT")]
        baseline: Option<PathBuf>,
    },
    /// Write the JSON Schema of reports to stdout
    Schema,
}

/// The whole grammar, with the forms that every flag shares: switches take `=true` and `=false`, a flag given
/// twice means the last one, each has its variable.
pub fn command() -> clap::Command {
    shape(Cli::command())
}

fn shape(command: clap::Command) -> clap::Command {
    let command = command.args_override_self(true).mut_args(|arg| match is_switch(&arg) {
        true => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(clap::builder::ValueParser::new(switch))
            .value_name("BOOL")
            .hide_possible_values(true),
        false => arg,
    });
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, shape))
}

/// Whether a flag is one that is on or off.
pub fn is_switch(arg: &clap::Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set)
        && arg.get_value_parser().type_id() == std::any::TypeId::of::<bool>()
}

/// `true`, `false` and their usual other spellings.
fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("use true or false".into()),
    }
}

/// Reads typed words by the grammar.
fn read(words: Vec<OsString>) -> Result<(Cli, clap::ArgMatches), clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if let (Command::Build(build), Some(report)) = (&mut cli.command, cli.report.take()) {
        build.output.report.get_or_insert(report);
    }
    Ok((cli, matches))
}
