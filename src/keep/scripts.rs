//! Scripts: shell scripts that the run touched, and what their text calls. A run takes one way through a script;
//! a program on another way was never executed, is gone at level `touched`, and fails when that way is taken.
//! So is what a cron table, supervisord's configuration or a file of `--uses` names.

mod carriers;
mod parse;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::draft::Draft;
use super::own::is_used;
use super::pattern::PathGlob;
use super::{Facts, Level, Policy, Question, Reason};
use crate::image::tree::Follow;
use crate::image::{Entry, ImageConfig, ImagePath, Tree};
use crate::packages::Packages;
use crate::sensor::event::{AccessKind, Process};
use crate::trace::Trace;
use words::HERE;

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// A shell's language.
    Shell,
    /// A command line that no shell reads: words, a NUL after each.
    Words,
    /// A cron table.
    Cron(TableUser),
    /// supervisord's configuration.
    Supervisor,
}

/// Whether the lines of a cron table name a user, as those of the system's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableUser {
    /// /etc/crontab, /etc/cron.d
    Named,
    /// A user's own table.
    Owner,
}

/// What a text calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// In the order of the text, each once.
    pub calls: Vec<Call>,
    /// Functions that it defines: names of them are no programs, where it is sourced neither.
    pub functions: BTreeSet<String>,
    /// Why it could not be read; `None` when it could.
    pub unread: Option<String>,
}

/// Something that a text calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// As written: a name to be looked up in PATH, or a path. `${NAME}` stands for a variable of the environment.
    pub name: String,
    /// How.
    pub kind: CallKind,
}

/// How something is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// Executed.
    Program,
    /// Read by a shell: `. FILE`, `sh FILE`.
    Source,
    /// Every program in a directory: `run-parts DIR`.
    Directory,
    /// Configuration files that a glob means.
    Included,
}

/// A script of the image with the programs that it calls and the image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// The script.
    pub path: ImagePath,
    /// By name.
    pub calls: Vec<Called>,
    /// Why it could not be read; `None` when it could.
    pub unread: Option<String>,
}

/// A program that a script calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Called {
    /// As the script has it.
    pub name: String,
    /// Where that is in the image.
    pub path: ImagePath,
    /// Whether it stays.
    pub kept: bool,
    /// Whether the run executed it.
    pub ran: bool,
}

/// Reads a text. Not bounded in time or memory: what may be hostile is read in a process of its own.
pub fn read(dialect: Dialect, text: &[u8]) -> Script {
    let text = String::from_utf8_lossy(text);
    let mut reader = parse::Reader::default();
    match dialect {
        Dialect::Shell => reader.text(&text),
        Dialect::Words => {
            let words = text.split_terminator('\0').map(|word| vec![word.to_owned()]);
            reader.command(&words.collect::<Vec<_>>(), false);
        }
        Dialect::Cron(user) => tables::cron(&mut reader, &text, user),
        Dialect::Supervisor => tables::supervisor(&mut reader, &text),
    }
    reader.finish()
}

/// The command lines whose calls [`Policy::lines`] should hold, each as the text of [`Dialect::Words`].
pub fn lines(config: &ImageConfig, policy: &Policy) -> Vec<Vec<String>> {
    let healthcheck = config.healthcheck().map(|check| check.argv).unwrap_or_default();
    let mut lines = vec![config.entrypoint(), config.cmd(), policy.argv.clone(), healthcheck];
    lines.extend(policy.uses.iter().map(|used| used.argv.clone()));
    lines.retain(|line| !line.is_empty());
    lines.sort();
    lines.dedup();
    lines
}

/// A command line as the text of [`Dialect::Words`].
pub fn words_text(argv: &[String]) -> Vec<u8> {
    argv.iter().flat_map(|word| word.bytes().chain([0])).collect()
}

/// The programs that a command line runs: its first word, and what it, or a shell's text behind `-c`, calls.
pub(super) fn programs(draft: &Draft<'_>, argv: &[String]) -> Vec<ImagePath> {
    let Some(first) = argv.first() else { return Vec::new() };
    let fallback = || vec![Call { name: first.clone(), kind: CallKind::Program }];
    let calls = draft.ask.policy.lines.get(argv).map_or_else(fallback, |line| line.calls.clone());
    calls.iter().flat_map(|call| targets(draft, None, call)).map(|target| target.path).collect()
}

/// Where a command line's first word is in the image; `None` when the image has no such program.
pub fn program_of(tree: &Tree, policy: &Policy, argv: &[String]) -> Option<ImagePath> {
    with_draft(tree, policy, |draft| draft.program(argv.first()?))
}

/// Everything that a command line runs, as far as the image has it.
pub fn programs_of(tree: &Tree, policy: &Policy, argv: &[String]) -> Vec<ImagePath> {
    with_draft(tree, policy, |draft| programs(draft, argv))
}

fn with_draft<T>(tree: &Tree, policy: &Policy, find: impl FnOnce(&Draft<'_>) -> T) -> T {
    let (trace, facts, packages, config) = (Trace::default(), Facts::new(), Packages::default(), ImageConfig::default());
    find(&Draft::new(Question { tree, trace: &trace, config: &config, policy, facts: &facts, packages: &packages }))
}

/// What a call leads to.
struct Target {
    path: ImagePath,
    kind: CallKind,
}

fn targets(draft: &Draft<'_>, script: Option<&ImagePath>, call: &Call) -> Vec<Target> {
    let Some(name) = fill(draft, script, &call.name) else { return Vec::new() };
    let tree = draft.ask.tree;
    let workdir = ImagePath::new(&draft.ask.policy.workdir);
    let file = |path: &ImagePath| tree.find(path.as_bytes()).and_then(|end| tree.get(&end)).is_some_and(Entry::is_file);
    let target = |path: ImagePath| Target { path, kind: call.kind };
    match call.kind {
        CallKind::Program => draft.program(&name).map(target).into_iter().collect(),
        CallKind::Source => {
            let dirs = [Some(workdir), script.and_then(ImagePath::parent)];
            let beside = dirs.into_iter().flatten().map(|dir| dir.join(&name)).find(file);
            beside.or_else(|| draft.program(&name)).map(target).into_iter().collect()
        }
        CallKind::Directory => {
            let Some(dir) = tree.find(workdir.join(&name).as_bytes()) else { return Vec::new() };
            let programs = tree.children(&dir).filter(|(path, _)| draft.program(&String::from_utf8_lossy(path.as_bytes())).is_some());
            programs.map(|(path, _)| Target { path: path.clone(), kind: CallKind::Program }).collect()
        }
        CallKind::Included => {
            let dir = script.and_then(ImagePath::parent).unwrap_or(workdir);
            let glob = dir.join(&name);
            let glob = PathGlob::new(tree, &String::from_utf8_lossy(glob.as_bytes()));
            glob.map(|glob| glob.find(tree).0).unwrap_or_default().into_iter().filter(file).map(target).collect()
        }
    }
}

/// A name with the environment's values in it; `None` when one of them is not set.
fn fill(draft: &Draft<'_>, script: Option<&ImagePath>, name: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (variable, tail) = after.split_once('}')?;
        match HERE.strip_prefix("${").and_then(|here| here.strip_suffix('}')) {
            Some(here) if here == variable => out.push_str(&String::from_utf8_lossy(script?.parent()?.as_bytes())),
            _ => out.push_str(draft.env(variable).filter(|value| !value.is_empty())?),
        }
        rest = tail;
    }
    out.push_str(rest);
    Some(out)
}

/// The scripts of an image that matter, and what each of them calls.
pub(super) struct Scripts {
    found: BTreeMap<ImagePath, Found>,
}

#[derive(Default)]
struct Found {
    calls: BTreeMap<String, ImagePath>,
    unread: Option<String>,
}

/// A text that is to be read.
struct Next {
    path: ImagePath,
    dialect: Dialect,
    /// What it calls stays.
    keep: bool,
}

impl Scripts {
    /// Reads the scripts that the run touched or that the image starts, and those that they call. Keeps what they
    /// call where that is asked for.
    pub fn find(draft: &mut Draft<'_>) -> Self {
        let policy = draft.ask.policy;
        let keep = policy.include_script_commands.unwrap_or(policy.level >= Level::App);
        let mut queue: VecDeque<Next> = begin(draft, keep).into();
        let mut texts: BTreeMap<ImagePath, &Script> = BTreeMap::new();
        let mut seen: BTreeSet<(ImagePath, bool)> = BTreeSet::new();
        let mut scripts = Self { found: BTreeMap::new() };
        while let Some(Next { path, dialect, keep }) = queue.pop_front() {
            if !seen.insert((path.clone(), keep)) {
                continue;
            }
            let Some(script) = draft.script(&path, dialect) else { continue };
            texts.insert(path.clone(), script);
            for call in &script.calls {
                for target in targets(draft, Some(&path), call) {
                    scripts.called(draft, &path, call, &target, keep);
                    queue.extend(follow(draft, &target, dialect, keep));
                }
            }
            scripts.found.entry(path).or_default().unread.clone_from(&script.unread);
        }
        scripts.drop_functions(draft, &texts);
        scripts
    }

    fn called(&mut self, draft: &mut Draft<'_>, script: &ImagePath, call: &Call, target: &Target, keep: bool) {
        let name = match call.kind {
            CallKind::Program | CallKind::Source => call.name.clone(),
            CallKind::Directory | CallKind::Included => target.path.to_string(),
        };
        if keep {
            let reason = Reason::Rule { name: "script-command".into(), by: Some(script.clone()) };
            draft.keep_with_target(&target.path, reason);
        }
        self.found.entry(script.clone()).or_default().calls.insert(name, target.path.clone());
    }

    /// A name that a sourced file defines as a function is no program.
    fn drop_functions(&mut self, draft: &Draft<'_>, texts: &BTreeMap<ImagePath, &Script>) {
        for (path, found) in &mut self.found {
            let (mut queue, mut seen) = (vec![path.clone()], BTreeSet::new());
            while let Some(path) = queue.pop().filter(|path| seen.insert(path.clone())) {
                let Some(script) = texts.get(&path) else { continue };
                found.calls.retain(|name, _| !script.functions.contains(name));
                let sources = script.calls.iter().filter(|call| call.kind == CallKind::Source);
                let ends = sources.flat_map(|call| targets(draft, Some(&path), call)).map(|target| target.path);
                queue.extend(ends.filter_map(|raw| draft.ask.tree.find(raw.as_bytes())));
            }
        }
    }

    /// What became of it, when everything else is decided; scripts that call nothing are left out. Says what goes.
    pub fn summary(self, draft: &mut Draft<'_>) -> Vec<Calls> {
        let ran = executed(draft);
        let mut all = Vec::new();
        for (path, found) in self.found {
            let tell = |(name, raw): (String, ImagePath)| {
                let tree = draft.ask.tree;
                let link = tree.resolve(&ImagePath::root(), raw.as_bytes(), Follow::NotLast).found?;
                let end = tree.find(raw.as_bytes())?;
                let kept = draft.reasons(&link).is_some() && draft.reasons(&end).is_some();
                Some(Called { name, path: end, kept, ran: ran.contains(&link) })
            };
            let calls: Vec<Called> = found.calls.into_iter().filter_map(tell).collect();
            if let Some(why) = &found.unread {
                draft.warn(format!("cannot tell what {path} calls: {why}"));
            }
            if let Some(gone) = gone(&calls) {
                draft.warn(format!("{path} also calls: {gone} (not kept; --include-script-commands keeps them)"));
            }
            if !calls.is_empty() || found.unread.is_some() {
                all.push(Calls { path, calls, unread: found.unread });
            }
        }
        all
    }
}

/// Names of programs that go, so many as fit into a line.
fn gone(calls: &[Called]) -> Option<String> {
    const SHOWN: usize = 8;
    let gone: Vec<&str> = calls.iter().filter(|call| !call.kept).map(|call| call.name.as_str()).collect();
    let shown = gone.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match gone.len() {
        0 => None,
        n if n > SHOWN => Some(format!("{shown} and {} more", n - SHOWN)),
        _ => Some(shown),
    }
}

/// Where a call leads on: to a script, or to more configuration.
fn follow(draft: &mut Draft<'_>, target: &Target, from: Dialect, keep: bool) -> Option<Next> {
    let path = draft.ask.tree.find(target.path.as_bytes())?;
    let dialect = match target.kind {
        CallKind::Included => from,
        CallKind::Source => Dialect::Shell,
        // A script that stays away takes what it calls with it.
        CallKind::Program | CallKind::Directory => {
            let known = draft.reasons(&path).is_some();
            (known && is_shell_script(draft, &path)).then_some(Dialect::Shell)?
        }
    };
    Some(Next { path, dialect, keep })
}

/// The scripts, tables and configurations to begin with.
fn begin(draft: &mut Draft<'_>, keep: bool) -> Vec<Next> {
    let mut next = keep_used(draft);
    let shells = opened_by(draft, is_shell);
    let supervised = opened_by(draft, is_supervisord);
    let starts = |reason: &Reason| match reason {
        Reason::Rule { name, .. } => ["entrypoint", "command", "command-line", "healthcheck"].contains(&name.as_str()),
        // A script that stays for its own sake is to run.
        Reason::App { .. } | Reason::Include { .. } => true,
        _ => false,
    };
    let file = |path: &ImagePath| draft.ask.tree.get(path).is_some_and(Entry::is_file);
    let kept = draft.kept().filter(|(path, reasons)| (is_used(Some(reasons)) || reasons.iter().any(starts)) && file(path));
    let paths: Vec<ImagePath> = kept.map(|(path, _)| path.clone()).collect();
    for path in paths {
        let executable = draft.ask.tree.get(&path).is_some_and(Entry::is_executable);
        let dialect = match table(&path) {
            Some(dialect) => Some(dialect),
            None if supervised.contains(&path) && is_settings(&path) => Some(Dialect::Supervisor),
            None if is_sourced(draft, &path) => Some(Dialect::Shell),
            None => ((executable || shells.contains(&path)) && is_shell_script(draft, &path)).then_some(Dialect::Shell),
        };
        next.extend(dialect.map(|dialect| Next { path, dialect, keep }));
    }
    if cron_runs(draft) {
        let tables: Vec<(ImagePath, Dialect)> =
            draft.ask.tree.iter().filter(|(_, entry)| entry.is_file()).filter_map(|(path, _)| Some((path.clone(), table(path)?))).collect();
        let cron = tables.into_iter().filter(|(_, dialect)| matches!(dialect, Dialect::Cron(_)));
        next.extend(cron.map(|(path, dialect)| Next { path, dialect, keep }));
    }
    next
}

/// Keeps what files of `--uses` run; the scripts among it.
fn keep_used(draft: &mut Draft<'_>) -> Vec<Next> {
    let mut next = Vec::new();
    for used in &draft.ask.policy.uses {
        let reason = Reason::Include { flag: used.flag() };
        for program in programs(draft, &used.argv) {
            if let Some(end) = draft.keep_with_target(&program, reason.clone())
                && is_shell_script(draft, &end)
            {
                next.push(Next { path: end, dialect: Dialect::Shell, keep: true });
            }
        }
    }
    next
}

/// Whether a file's first line names a shell.
fn is_shell_script(draft: &mut Draft<'_>, path: &ImagePath) -> bool {
    if !draft.ask.tree.get(path).is_some_and(Entry::is_file) {
        return false;
    }
    let words = draft.head(path).and_then(|facts| facts.shebang.as_deref()).unwrap_or_default();
    words.iter().flat_map(|word| word.split_whitespace()).any(carriers::is_shell)
}

/// Whether a file of the application's own is a part of a script, judged by its name: such parts need no first line.
fn is_sourced(draft: &Draft<'_>, path: &ImagePath) -> bool {
    let own = |reason: &Reason| matches!(reason, Reason::App { .. });
    let name = path.file_name().unwrap_or_default();
    (name.ends_with(b".sh") || name.ends_with(b".bash")) && draft.reasons(path).is_some_and(|reasons| reasons.iter().any(own))
}

/// Files that processes opened for which this holds.
fn opened_by(draft: &Draft<'_>, is_meant: impl Fn(&Process) -> bool) -> BTreeSet<ImagePath> {
    let (tree, trace) = (draft.ask.tree, draft.ask.trace);
    let opens = |fact: &crate::trace::Fact| fact.kind == AccessKind::Open && trace.processes.get(&fact.process).is_some_and(&is_meant);
    let opened = trace.facts.iter().filter(|(_, facts)| facts.iter().any(opens));
    opened.filter_map(|(raw, _)| tree.find(raw)).collect()
}

fn is_shell(process: &Process) -> bool {
    carriers::is_shell(&String::from_utf8_lossy(&process.exe))
}

/// A script's process has the script's name.
fn is_supervisord(process: &Process) -> bool {
    process.comm == "supervisord" || process.exe.ends_with(b"/supervisord")
}

fn is_settings(path: &ImagePath) -> bool {
    path.as_bytes().ends_with(b".conf") || path.as_bytes().ends_with(b".ini")
}

/// What the run executed, by the name it was executed by.
fn executed(draft: &Draft<'_>) -> BTreeSet<ImagePath> {
    let (tree, trace) = (draft.ask.tree, draft.ask.trace);
    let mut ran = BTreeSet::new();
    for (raw, facts) in &trace.facts {
        for fact in facts.iter().filter(|fact| fact.kind == AccessKind::Exec) {
            match fact.resolved {
                true => _ = ran.insert(ImagePath::new(raw)),
                false => ran.extend(tree.resolve(&ImagePath::root(), raw, Follow::NotLast).found),
            }
        }
    }
    ran
}

/// The dialect of a cron table or of supervisord's configuration, judged by its place.
fn table(path: &ImagePath) -> Option<Dialect> {
    let text = String::from_utf8_lossy(path.as_bytes());
    let (dir, name) = text.rsplit_once('/')?;
    match (dir, name) {
        (_, ".placeholder") => None,
        ("/etc", "crontab") | ("/etc/cron.d", _) => Some(Dialect::Cron(TableUser::Named)),
        ("/var/spool/cron" | "/var/spool/cron/crontabs" | "/etc/crontabs", _) => Some(Dialect::Cron(TableUser::Owner)),
        (_, "supervisord.conf") => Some(Dialect::Supervisor),
        _ => None,
    }
}

/// Whether the run executed a cron daemon.
fn cron_runs(draft: &Draft<'_>) -> bool {
    const DAEMONS: &[&[u8]] = &[b"cron", b"crond", b"fcron", b"anacron"];
    executed(draft).iter().any(|path| path.file_name().is_some_and(|name| DAEMONS.contains(&name)))
}
