//! Plan: what the words of `slim diff` mean, checked.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;

use super::model::Section;
use crate::cli::diff::Format;
use crate::cli::{Common, DiffArgs, Origins, UsageError, Vars};
use crate::copy::access;
use crate::gate::Rule;
use crate::plan::Here;
use crate::plan::outputs::writable;
use crate::progress::Monitor;
use crate::store::manifest::Platform;
use crate::xray::XrayPlan;
use crate::xray::plan::{place, registry};

/// Entries of each list for people, where nobody says.
pub const TOP: usize = 10;
/// The same for programs.
pub const TOP_JSON: usize = 10_000;

/// What is compared, and how it is told.
pub struct DiffPlan {
    /// What it is compared with.
    pub before: Subject,
    /// What it is about.
    pub after: Subject,
    /// Which sections.
    pub only: Vec<Section>,
    /// Entries of each list; `None`: what the format has where nobody says.
    pub top: Option<usize>,
    /// How it is told.
    pub format: Format,
    /// Where; `None`: stdout.
    pub output: Option<PathBuf>,
    /// What `after` must not be.
    pub rules: Vec<Rule>,
}

/// One of two things that are compared.
pub enum Subject {
    /// A file with a report in it.
    File(PathBuf),
    /// An image.
    Image(Box<XrayPlan>),
}

impl Subject {
    /// What the user called it.
    pub fn given(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Image(plan) => plan.text.clone(),
        }
    }
}

/// What the words of `slim diff` mean. Stdin is read only for `--registry-secret-stdin`.
///
/// # Errors
/// When a word makes no sense, or the output cannot be written.
pub fn plan(common: &Common, args: &DiffArgs, origins: &Origins, vars: &Vars, monitor: Arc<dyn Monitor>) -> Result<DiffPlan> {
    let here = Here { vars, origins };
    let usage = |error: UsageError| error.into_error();
    let format = format(common, args, here).map_err(usage)?;
    let only = sections(&args.only, here).map_err(usage)?;
    let rules = rules(&args.own_fail_on, here).map_err(usage)?;
    if let Some(path) = &args.own_output {
        writable(path).map_err(|why| here.wrong("output", why).into_error())?;
    }
    let [before, after] = subjects(common, args, here, &monitor).map_err(usage)?;
    let top = args.top.map(|top| top as usize);
    Ok(DiffPlan { before, after, only, top, format, output: args.own_output.clone(), rules })
}

fn format(common: &Common, args: &DiffArgs, here: Here<'_>) -> Result<Format, UsageError> {
    let mut asked: Vec<Format> = args.format.into_iter().collect();
    asked.extend((common.json == Some(true)).then_some(Format::Json));
    asked.extend((args.own_markdown == Some(true)).then_some(Format::Markdown));
    asked.dedup();
    match asked.as_slice() {
        [] => Ok(Format::default()),
        [format] => Ok(*format),
        _ => Err(here.wrong("format", "several formats are asked for").hint("leave all but one of --format, --markdown and --json away")),
    }
}

/// In the order in which they are told; all where none is named.
fn sections(words: &[String], here: Here<'_>) -> Result<Vec<Section>, UsageError> {
    let all = Section::value_variants();
    let name = |section: &Section| section.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    for word in words {
        if !all.iter().any(|section| name(section) == *word) {
            let names: Vec<String> = all.iter().map(name).collect();
            return Err(here.wrong("only", format!("there is no section {word:?}")).hint(format!("they are: {}", names.join(", "))));
        }
    }
    Ok(all.iter().filter(|section| words.is_empty() || words.contains(&name(section))).copied().collect())
}

fn rules(budgets: &[String], here: Here<'_>) -> Result<Vec<Rule>, UsageError> {
    let rule = |(number, text): (usize, &String)| {
        Rule::parse(text).map_err(|why| match budgets.len() {
            1 => here.wrong("fail-on", why),
            _ => here.wrong("fail-on", format!("budget {}: {why}", number + 1)),
        })
    };
    budgets.iter().enumerate().map(rule).collect()
}

fn subjects(common: &Common, args: &DiffArgs, here: Here<'_>, monitor: &Arc<dyn Monitor>) -> Result<[Subject; 2], UsageError> {
    let platform = args.platform.as_deref().map(Platform::parse).transpose().map_err(|error| here.wrong("platform", error))?;
    let mut secret = Vec::new();
    if args.registry.registry_secret_stdin == Some(true) {
        // Both may be in a registry, and stdin is there once.
        std::io::stdin().read_to_end(&mut secret).map_err(|error| here.wrong("registry-secret-stdin", error))?;
    }
    let given = crate::plan::source::credentials(&args.registry.as_source(), here, &mut secret.as_slice())?;
    let mut in_registry = false;
    let mut subject = |text: &String| {
        let path = Path::new(text);
        if path.is_file() {
            return Ok(Subject::File(path.to_owned()));
        }
        if text.ends_with(".json") && !text.contains(':') {
            return Err(UsageError::new(format!("there is no report {text}")).hint("give the file that `slim build --report` wrote, or an image"));
        }
        let place = place(text)?;
        let registry = registry(&place).map(|name| name.registry.clone());
        in_registry |= registry.is_some();
        Ok(Subject::Image(Box::new(XrayPlan {
            access: access::access(&args.registry.access, given.as_ref().zip(registry), monitor.clone()),
            text: text.clone(),
            place,
            platform: platform.clone(),
            format: crate::cli::xray::Format::default(),
            top: 0,
            engine: common.engine(),
        })))
    };
    let subjects = [subject(&args.before)?, subject(&args.after)?];
    match given.is_some() && !in_registry {
        true => Err(here.wrong("registry-account", "no registry is named").hint("leave it out")),
        false => Ok(subjects),
    }
}
