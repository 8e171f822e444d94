//! Budget: what must not be, from the words of `--fail-on` and `--baseline`.

use std::path::{Path, PathBuf};

use super::Here;
use crate::cli::UsageError;
use crate::exit;
use crate::gate::{Budget, Rule};
use crate::report;

/// The budgets.
///
/// # Errors
/// When one is none, or the baseline that it needs is not given or cannot be read.
pub fn budget(fail_on: &[String], baseline: Option<&PathBuf>, here: Here<'_>) -> Result<Budget, UsageError> {
    let wrong = |why: String| here.wrong("fail-on", why);
    let rules = fail_on.iter().map(|text| Rule::parse(text).map_err(wrong)).collect::<Result<Vec<_>, _>>()?;
    if let (None, Some(rule)) = (baseline, rules.iter().find(|rule| rule.needs_baseline())) {
        let text = format!("{} is measured against a stored report", rule.text);
        return Err(here.wrong("fail-on", text).hint("say which with --baseline REPORT"));
    }
    let load = |path: &PathBuf| read(path).map_err(|why| here.wrong("baseline", why));
    let baseline = baseline.map(load).transpose()?.map(Box::new);
    Ok(Budget { rules, baseline })
}

fn read(path: &Path) -> Result<report::Report, String> {
    report::load(path).map_err(|error| exit::causes(&error))
}
