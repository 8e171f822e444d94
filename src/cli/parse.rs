//! Parse: from typed words, variables and `slim.toml` to an [`Invocation`]. What is typed comes before
//! `SLIM_` variables, these before `DSLIM_` ones, these before the settings of the image, these before those
//! of `[build]`. The highest that names a flag decides it, lists too.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;

use super::batch::{self, Entry};
use super::settings::{self, Origins, Setting, SettingsFile, Vars};
use super::{Command, Common, absent, read};
use crate::exit::{Exit, Hint};

/// A command line that can be read.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// What all commands share.
    pub common: Common,
    /// Which command.
    pub command: Command,
    /// Where flags that were not typed come from, by their long names.
    pub origins: Origins,
    /// The long names of all flags that were given, typed or not.
    pub given: BTreeSet<String>,
    /// Variables that look like ours and name nothing, one line each.
    pub warnings: Vec<String>,
    /// `--all`: the command lines that this one stands for; `None` for one that stands for itself.
    pub batch: Option<Vec<Entry>>,
}

impl Entry {
    /// Its command line with more words that are not for the program in the image.
    #[must_use]
    pub fn with(&self, added: &[String]) -> Vec<OsString> {
        let mut grammar = super::command();
        grammar.build();
        insert(&self.words, added.iter(), &grammar.find_subcommand("build").map(takes_hyphens).unwrap_or_default())
    }
}

/// Why there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Help or the version was asked for: the text for stdout, exit status 0.
    Show(String),
    /// The command line is wrong: exit status 2.
    Wrong(UsageError),
}

/// What is wrong with a command line or with a file that it names, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// What is wrong, where.
    pub text: String,
    /// What to do; `None` when the text says it.
    pub hint: Option<String>,
}

impl UsageError {
    /// An error whose text says what to do.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// As an error that carries its exit status and its hint.
    pub fn into_error(self) -> anyhow::Error {
        let error = anyhow::Error::msg(self.text).context(Exit::Usage);
        match self.hint {
            Some(hint) => error.context(Hint::new(hint)),
            None => error,
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{}; {hint}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for UsageError {}

impl From<UsageError> for Stop {
    fn from(error: UsageError) -> Self {
        Self::Wrong(error)
    }
}

/// Reads a command line (program name first) with the variables of its environment.
///
/// # Errors
/// [`Stop::Show`] when help or the version was asked for, [`Stop::Wrong`] when the line, a variable or the
/// settings file is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>, vars: &Vars) -> Result<Invocation, Stop> {
    let words: Vec<OsString> = words.into_iter().collect();
    let (typed, matches) = read(words.clone()).map_err(explain)?;
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    let mut grammar = super::command();
    grammar.build();
    let command = grammar.find_subcommand(&name).unwrap_or(&grammar);
    let mut said = said(matches.subcommand_matches(&name).unwrap_or(&matches));
    said.extend(matches.value_source("report").map(|_| "report".to_owned()));
    let known = settings::flags(command);
    let image = image_of(&typed.command, vars);
    // Commands that ask no engine work without the settings file, and with one that is wrong.
    let file = match typed.command {
        Command::Build(_) | Command::Why { .. } | Command::Trace(_) | Command::Verify(_) | Command::Copy(_) | Command::Xray(_) | Command::Diff(_) | Command::Engines => SettingsFile::find(typed.common.config.as_deref(), vars)?,
        Command::Cache { .. } | Command::Probes { .. } | Command::Report { .. } | Command::Replay { .. } => SettingsFile::default(),
        Command::Completions { .. } | Command::Man { .. } => SettingsFile::default(),
    };
    let settable = grammar.find_subcommand("build").map(settings::flags).unwrap_or_default();
    let batch = match &typed.command {
        Command::Build(build) if build.batch.all == Some(true) => {
            batch::check(build, |flag| said.contains(flag), vars)?;
            let hyphens = takes_hyphens(command);
            let entry = |section: settings::Section| Entry {
                words: insert(&words, batch::added(&section).iter(), &hyphens),
                name: section.name,
                origin: section.origin,
            };
            Some(file.images(&settable)?.into_iter().map(entry).collect())
        }
        Command::Build(_) if said.contains("jobs") && !said.contains("all") => {
            let hint = "give --all too, or leave --jobs away";
            return Err(UsageError::new("--jobs says how many images of --all are built at a time").hint(hint).into());
        }
        _ => None,
    };
    let layers = file.layers(&settable, image.as_deref())?;
    let added = settings::gather(&known, &said, vars, layers);
    let warnings = settings::strangers(&known, vars);
    let origins = added.iter().map(|setting| (setting.flag.clone(), setting.origin.clone())).collect();
    let given = said.iter().cloned().chain(added.iter().map(|setting| setting.flag.clone()));
    let given = given.filter(|name| known.iter().any(|flag| flag.name == *name)).collect();
    let cli = match added.is_empty() {
        true => typed,
        false => {
            let all = insert(&words, added.iter().flat_map(|setting| &setting.words), &takes_hyphens(command));
            read(all).map_err(|error| blame(&name, &added, error))?.0
        }
    };
    Ok(Invocation { common: cli.common, command: cli.command, origins, given, warnings, batch })
}

/// Names of the flags that were typed.
fn said(matches: &ArgMatches) -> BTreeSet<String> {
    let typed = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches.ids().filter(typed).map(|id| id.as_str().replace('_', "-")).collect()
}

/// The image that the settings file may have a section for, as far as typed words and variables name it.
fn image_of(command: &Command, vars: &Vars) -> Option<String> {
    let source = match command {
        Command::Build(build) => &build.source,
        Command::Trace(trace) => &trace.source,
        Command::Verify(verify) => return Some(verify.image.clone()),
        _ => return None,
    };
    let typed = source.image.clone().or_else(|| source.target.clone()).or_else(|| source.tag_fat.clone());
    let from_vars = || vars.get("SLIM_TARGET").or_else(|| vars.get("DSLIM_TARGET")).cloned();
    typed.or_else(from_vars)
}

/// Flags whose value may begin with a hyphen, and may even be `--`.
fn takes_hyphens(command: &clap::Command) -> Vec<String> {
    let args = command.get_arguments().filter(|arg| arg.is_allow_hyphen_values_set());
    args.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect()
}

/// Settings go behind what was typed, in front of the arguments of the program in the image.
fn insert<'a>(typed: &[OsString], added: impl Iterator<Item = &'a String>, hyphens: &[String]) -> Vec<OsString> {
    let value = |at: usize| at > 0 && hyphens.iter().any(|flag| typed[at - 1] == flag.as_str());
    let end = (0..typed.len()).find(|at| typed[*at] == "--" && !value(*at)).unwrap_or(typed.len());
    let (flags, args) = typed.split_at(end);
    flags.iter().cloned().chain(added.map(OsString::from)).chain(args.iter().cloned()).collect()
}

/// What was typed can be read alone, so a setting is wrong: says which.
fn blame(name: &str, added: &[Setting], error: clap::Error) -> Stop {
    for setting in added {
        let words = ["slim", name].map(OsString::from).into_iter();
        if let Err(alone) = read(words.chain(setting.words.iter().map(OsString::from)).collect())
            && let Stop::Wrong(wrong) = explain(alone)
        {
            return UsageError { text: format!("{}: {}", setting.origin, wrong.text), ..wrong }.into();
        }
    }
    explain(error)
}

/// A clap error as one line, with what to do instead of flags that others have.
fn explain(error: clap::Error) -> Stop {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) && error.exit_code() == 0
    {
        return Stop::Show(error.render().to_string());
    }
    let context = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let arg = context(ContextKind::InvalidArg).unwrap_or_default();
    if error.kind() == ErrorKind::UnknownArgument {
        if let Some(instead) = arg.strip_prefix("--").and_then(absent::instead_of) {
            return UsageError::new(format!("there is no {arg} here")).hint(instead).into();
        }
        if !arg.starts_with('-') {
            let hint = "arguments of the program in the image go after --";
            return UsageError::new(format!("unexpected argument {arg:?}")).hint(hint).into();
        }
    }
    if matches!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) {
        let hint = "`slim build IMAGE` makes an image small, `slim --help` lists the commands";
        return UsageError::new("no command given").hint(hint).into();
    }
    let rendered = error.render().to_string();
    let mut lines = rendered.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut text = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    let mut hint = None;
    for line in lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")) {
        match line.strip_prefix("tip: ") {
            // clap's advice to put an unknown flag behind `--` would hand it to the program in the image.
            Some(tip) if tip.starts_with("to pass ") => {}
            Some(tip) => hint = hint.or_else(|| Some(tip.to_owned())),
            None => text = format!("{text} {line}"),
        }
    }
    let hint = hint.unwrap_or_else(|| format!("see `{} --help`", command_of(&rendered)));
    UsageError::new(text).hint(hint).into()
}

/// The command that an error is about, from its line of usage: `slim`, `slim trace`.
fn command_of(rendered: &str) -> String {
    let usage = rendered.lines().find_map(|line| line.trim().strip_prefix("Usage: ")).unwrap_or("slim");
    let is_name = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase());
    // Whatever the executable is called here.
    let commands = usage.split(' ').skip(1).take_while(is_name);
    std::iter::once("slim").chain(commands).collect::<Vec<_>>().join(" ")
}
