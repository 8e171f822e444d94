//! Views: a report in other programs' formats, one file for each. Everything in them is of the model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::bom::Bom;
use super::build::Finished;
use super::file::replace;
use super::model::{RemovedPath, Report};
use super::scan::Finding;
use crate::packages::purl;

pub mod csv;
pub mod cyclonedx;
mod html;
mod junit;
mod sarif;
pub mod markdown;
mod openvex;
pub mod spdx;

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
    /// Software bill of materials of what stays: CycloneDX 1.6, JSON
    Cyclonedx,
    /// The same as SPDX 2.3, JSON
    Spdx,
    /// Which vulnerabilities of the original the result does not have: OpenVEX 0.2.0, JSON; needs --vex-from
    Openvex,
}

/// What views need besides the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Every removed path; `None` where nobody has the list.
    pub removed: Option<&'a [RemovedPath]>,
    /// What a scanner found in the original.
    pub findings: &'a [Finding],
}

impl View {
    /// The report in this format; `None` where the format has no document for nothing.
    pub fn of(self, report: &Report, beside: Beside<'_>) -> Option<String> {
        match self {
            View::Markdown => Some(markdown::markdown(report)),
            View::Junit => Some(junit::junit(report)),
            View::Csv => Some(csv::csv(report, beside.removed)),
            View::Html => Some(html::html(report, beside.removed)),
            View::Sarif => Some(sarif::sarif(report)),
            View::Cyclonedx => Some(cyclonedx::cyclonedx(&Bom::of_report(report))),
            View::Spdx => Some(spdx::spdx(&Bom::of_report(report))),
            View::Openvex => openvex::openvex(report, beside.findings),
        }
    }
}

/// An image by its ID (`types/docker` of the Package URL specification); `None` where it is not known.
fn image_purl(bom: &Bom) -> Option<String> {
    let name = bom.name.rsplit_once('@').map_or(bom.name.as_str(), |(name, _)| name);
    let last = name.rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let last = if last.is_empty() { "image" } else { last };
    (!bom.digest.is_empty()).then(|| purl::write(["docker", "", last, &bom.digest], &[]))
}

/// Writes the views that are asked for, whole or not at all. Says for which there was nothing to write: an older file
/// in its place would tell of another image, and goes.
///
/// # Errors
/// When a file cannot be written.
pub fn write(views: &[(View, PathBuf)], finished: &Finished, findings: &[Finding]) -> Result<Vec<String>> {
    let removed = finished.report.removed.list.as_deref().unwrap_or(&finished.removed);
    let mut empty = Vec::new();
    for (view, path) in views {
        match view.of(&finished.report, Beside { removed: Some(removed), findings }) {
            Some(text) => replace(path, |out| out.write_all(text.as_bytes()))?,
            None => {
                if path.is_file() {
                    std::fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
                }
                empty.push(format!("{} is not written: {NOTHING_TO_STATE}", path.display()));
            }
        }
    }
    Ok(empty)
}

/// Why there is no OpenVEX document.
pub const NOTHING_TO_STATE: &str = "none of the scan's vulnerabilities is of a package of which the result holds no file";

/// Adds the Markdown view to the summary of a CI job: a file of which the server shows what is appended.
///
/// # Errors
/// When it cannot be written.
pub fn append(path: &Path, report: &Report) -> Result<()> {
    use std::io::Write;
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(markdown::markdown(report).as_bytes()));
    written.with_context(|| format!("write the job summary {}", path.display()))
}
