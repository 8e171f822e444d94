//! Views: a report in other programs' formats, one file for each. Everything in them is of the model.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use super::build::Finished;
use super::file::replace;
use super::model::{RemovedPath, Report};

pub mod csv;
mod html;
mod junit;
mod sarif;
pub mod markdown;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// For people on a page: GitHub Flavored Markdown
    Markdown,
    /// For CI servers: one test case for each answer and budget
    Junit,
    /// For spreadsheets: one line for each file, kept or removed
    Csv,
    /// For people in a browser: one page with everything in it
    Html,
    /// For code scanning: SARIF 2.1.0, one result for each finding
    Sarif,
}

impl View {
    /// The report in this format. `removed`: every removed path; `None` where nobody has the list.
    pub fn of(self, report: &Report, removed: Option<&[RemovedPath]>) -> String {
        match self {
            View::Markdown => markdown::markdown(report),
            View::Junit => junit::junit(report),
            View::Csv => csv::csv(report, removed),
            View::Html => html::html(report, removed),
            View::Sarif => sarif::sarif(report),
        }
    }
}

/// Writes the views that are asked for, whole or not at all.
///
/// # Errors
/// When a file cannot be written.
pub fn write(views: &[(View, PathBuf)], finished: &Finished) -> Result<()> {
    let removed = finished.report.removed.list.as_deref().unwrap_or(&finished.removed);
    for (view, path) in views {
        let text = view.of(&finished.report, Some(removed));
        replace(path, |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// Adds the Markdown view to the summary of a CI job: a file of which the server shows what is appended.
///
/// # Errors
/// When it cannot be written.
pub fn append(path: &Path, report: &Report) -> Result<()> {
    use anyhow::Context;
    use std::io::Write;
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(View::Markdown.of(report, None).as_bytes()));
    written.with_context(|| format!("write the job summary {}", path.display()))
}
