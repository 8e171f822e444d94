//! Budget: what must not be, from the words of `--fail-on` and `--baseline`.

use std::path::{Path, PathBuf};

use super::Here;
use crate::cli::{Origins, UsageError, Vars, settings};
use crate::exit;
use crate::gate::{Budget, Rule};
use crate::report::{self, Report};

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

/// The budgets for a stored report: those that were typed, else those that variables and the settings file have for its
/// image. `None` when there is none.
///
/// # Errors
/// As [`budget`], and when the settings file cannot be read.
pub fn for_report(
    report: &Report,
    (fail_on, baseline): (&[String], Option<&PathBuf>),
    config: Option<&Path>,
    vars: &Vars,
) -> Result<Option<Budget>, UsageError> {
    let (mut rules, mut baseline, mut origins) = (fail_on.to_vec(), baseline.cloned(), Origins::new());
    let set = match rules.is_empty() || baseline.is_none() {
        true => settings::of_image(config, vars, &report.source.reference, &["fail-on", "baseline"])?,
        false => Vec::new(),
    };
    for setting in set {
        match setting.flag.as_str() {
            "fail-on" if fail_on.is_empty() => rules = setting.values().map(str::to_owned).collect(),
            "baseline" if baseline.is_none() => baseline = setting.values().next().map(PathBuf::from),
            _ => continue,
        }
        origins.insert(setting.flag, setting.origin);
    }
    match rules.is_empty() {
        true => Ok(None),
        false => budget(&rules, baseline.as_ref(), Here { vars, origins: &origins }).map(Some),
    }
}

fn read(path: &Path) -> Result<Report, String> {
    report::load(path).map_err(|error| exit::causes(&error))
}
