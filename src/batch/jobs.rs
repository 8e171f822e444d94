//! Jobs: what the command lines of a batch mean, all of it checked before the first of them runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Job;
use crate::cli::batch::Entry;
use crate::cli::{self, Command, Stop, UsageError, Vars};
use crate::image::Reference;
use crate::plan::{self, BuildPlan, Source};
use crate::probe::Until;

/// What jobs depend on besides their words.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Environment variables.
    pub vars: &'a Vars,
    /// What came on stdin, for `--registry-secret-stdin`.
    pub stdin: &'a [u8],
}

/// One job for each entry.
///
/// # Errors
/// When the words of one of them are wrong, or two would write to the same place.
pub fn jobs(entries: &[Entry], here: Here<'_>) -> Result<Vec<Job>, UsageError> {
    let mut taken = BTreeMap::new();
    let mut jobs = Vec::new();
    for entry in entries {
        let (plan, asks_stdin) = plan_of(entry, here).map_err(|error| at(entry, error))?;
        for place in places(&plan) {
            if let Some(first) = taken.insert(place.clone(), &entry.name) {
                let text = format!("{}: {place} is also where that of {first:?} goes", entry.origin);
                return Err(UsageError::new(text).hint("say it in the section of each image, not for all"));
            }
        }
        let report = plan.outputs.report.as_ref().map_or("off".into(), |path| path.display().to_string());
        jobs.push(Job {
            name: entry.name.clone(),
            words: entry.with(&["--json=true".into(), format!("--report={report}")]),
            // Of several platforms each has its own.
            report: plan.outputs.report.filter(|_| plan.platforms.is_empty()),
            stdin: asks_stdin.then(|| here.stdin.to_vec()),
        });
    }
    Ok(jobs)
}

/// What one of them means, and whether it reads stdin.
fn plan_of(entry: &Entry, here: Here<'_>) -> Result<(BuildPlan, bool), UsageError> {
    let invocation = cli::parse(entry.words.iter().cloned(), here.vars).map_err(|stop| match stop {
        Stop::Wrong(error) => error,
        Stop::Show(text) => UsageError::new(text),
    })?;
    let Command::Build(mut args) = invocation.command else {
        return Err(UsageError::new("only builds come in batches"));
    };
    args.output.report.get_or_insert_with(|| report_file(&entry.name));
    let origins = plan::Here { vars: here.vars, origins: &invocation.origins };
    let plan = BuildPlan::new(&invocation.common, &args, origins, &mut &here.stdin[..])?;
    if plan.probes.until == Some(Until::Enter) {
        return Err(UsageError::new("--continue-after enter: nobody knows which of several images an Enter is for"));
    }
    Ok((plan, args.source.registry_secret_stdin == Some(true)))
}

/// Where the report on an image goes when nothing is said.
fn report_file(name: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    PathBuf::from(format!("slim.report.{}.json", name.chars().map(plain).collect::<String>()))
}

/// What only one image can have, in words.
fn places(plan: &BuildPlan) -> Vec<String> {
    let outputs = &plan.outputs;
    let full = |name: &String| Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
    let named = match (&plan.source, outputs.tags.as_slice()) {
        (Source::Image(name), []) => Reference::parse(name).iter().map(Reference::slim_name).collect(),
        (_, tags) => tags.to_vec(),
    };
    let mut places: Vec<String> = named.iter().map(|name| format!("the name {}", full(name))).collect();
    places.extend(outputs.written.iter().map(|to| format!("the output {to}")));
    let file = |what: &str, path: &Path| format!("the {what} {}", path.display());
    places.extend(outputs.report.iter().map(|path| file("report", path)));
    places.extend(outputs.views.iter().map(|(_, path)| file("report", path)));
    places.extend(outputs.provenance.iter().map(|path| file("provenance", path)));
    places.extend(outputs.digest_file.iter().map(|path| file("digest file", path)));
    places.extend(outputs.artifacts.iter().map(|path| file("directory", path)));
    places
}

/// Says which image is meant, where the text does not.
fn at(entry: &Entry, error: UsageError) -> UsageError {
    let file = entry.origin.split(':').next().unwrap_or_default();
    match error.text.starts_with(file) {
        true => error,
        false => UsageError { text: format!("{}: {}: {}", entry.origin, entry.name, error.text), ..error },
    }
}
