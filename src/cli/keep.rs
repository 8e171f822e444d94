//! Keep: the words that name files to keep or to leave out, whatever the run touched.

use std::path::PathBuf;

use clap::Args;

use crate::keep::Level;
use crate::packages::metadata::Mode;

/// What is kept besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Files")]
pub struct KeepArgs {
    /// What stays: what was touched with what that implies, also your own files, or also touched packages whole
    /// [default: touched]
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub keep: Option<Level>,
    /// Package to keep whole, with those that it needs to run: a name or a glob, of any package manager or of the
    /// one before a colon (python:flask)
    #[arg(long, value_name = "NAME")]
    pub keep_package: Vec<String>,
    /// Keep also what this recording of the image touched (`slim trace`); repeatable
    #[arg(long, value_name = "FILE")]
    pub trace: Vec<PathBuf>,
    /// Take traces of another image too, on the word of the comparison
    #[arg(long)]
    pub trace_other_digest: Option<bool>,
    /// File, directory or glob to keep, with the libraries that it needs
    #[arg(long, value_name = "PATH|GLOB")]
    pub include_path: Vec<String>,
    /// File of such paths, one to a line
    #[arg(long, value_name = "FILE")]
    pub include_path_file: Vec<PathBuf>,
    /// The same as --include-path: content always comes from the untouched image
    #[arg(long, value_name = "PATH|GLOB")]
    pub preserve_path: Vec<String>,
    /// File of such paths, one to a line
    #[arg(long, value_name = "FILE")]
    pub preserve_path_file: Vec<PathBuf>,
    /// Program or library to keep, by path, with the libraries that it needs
    #[arg(long, value_name = "PATH")]
    pub include_bin: Vec<String>,
    /// File of such paths, one to a line
    #[arg(long, value_name = "FILE")]
    pub include_bin_file: Vec<PathBuf>,
    /// Program to keep, by its name in PATH, with the libraries that it needs
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub include_exe: Vec<String>,
    /// File of such names, one to a line
    #[arg(long, value_name = "FILE")]
    pub include_exe_file: Vec<PathBuf>,
    /// Keep a shell and the usual few tools
    #[arg(long)]
    pub include_shell: Option<bool>,
    /// Keep also what shell scripts call that the run never executed, with the libraries that it needs
    /// [default: from --keep app on]
    #[arg(long)]
    pub include_script_commands: Option<bool>,
    /// What scanners find of the packages: those that are still there, all of the image, or none [default: auto]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub package_metadata: Option<Mode>,
    /// Keep the time zone data
    #[arg(long)]
    pub include_zoneinfo: Option<bool>,
    /// Keep all certificates that are found
    #[arg(long)]
    pub include_cert_all: Option<bool>,
    /// Accepted as =false only: files that a run makes are never packed
    #[arg(long)]
    pub include_new: Option<bool>,
    /// Glob of paths that go, whatever touched them
    #[arg(long, value_name = "GLOB")]
    pub exclude_pattern: Vec<String>,
}
