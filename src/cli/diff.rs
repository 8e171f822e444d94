//! Diff: the words of `slim diff`: how two images or reports differ.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::copy::RegistryArgs;

/// Everything after `slim diff`. Flags whose names begin with `own_` here are not set by what is set for builds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct DiffArgs {
    /// An image, in the words of `slim xray`, or a report file
    #[arg(value_name = "BEFORE")]
    pub before: String,
    /// The same
    #[arg(value_name = "AFTER")]
    pub after: String,
    /// Sections to tell: sizes, probes, secrets, programs, packages, files, config, layers, time [default: all]
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Entries of each list [default: 10; 10000 for json, all for csv]
    #[arg(long, value_name = "N")]
    pub top: Option<u32>,
    /// How it is told [default: text; json with --json]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Option<Format>,
    /// As --format markdown
    #[arg(long = "markdown", id = "own_markdown")]
    pub own_markdown: Option<bool>,
    /// Write it to this file, whole or not at all [default: stdout]
    #[arg(long = "output", short = 'o', id = "own_output", value_name = "FILE")]
    pub own_output: Option<PathBuf>,
    /// Budget that AFTER has to keep, as for `slim build`; changes are measured against BEFORE; repeatable; status 6
    /// when one is missed
    #[arg(long = "fail-on", id = "own_fail_on", value_name = "BUDGET")]
    pub own_fail_on: Vec<String>,
    /// Which platform of an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Who talks to registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// A format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people at a terminal
    #[default]
    Text,
    /// For people on a page: GitHub Flavored Markdown
    Markdown,
    /// For programs
    Json,
    /// For spreadsheets: one line for each file that differs
    Csv,
}
