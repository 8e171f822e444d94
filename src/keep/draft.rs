//! Draft: a keep set while it grows. Adding a path brings the directories above it; what must not stay is
//! refused here, so that nothing can follow from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::pattern::PathGlob;
use super::scripts::{Calls, Dialect, Script};
use super::{AppRoot, ENGINE_PATHS, FileFacts, KeepSet, Question, Reason, Want};
use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath};

/// Directories whose content the kernel or the engine provides in every container.
const ENGINE_DIRECTORIES: &[&str] = &["/dev", "/proc", "/sys"];

/// Where a program is looked up when the run has no PATH, as Docker sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A keep set while it grows.
pub(super) struct Draft<'a> {
    /// What is asked: image, trace, policy, facts.
    pub ask: Question<'a>,
    kept: BTreeMap<ImagePath, Vec<Reason>>,
    left_out: BTreeMap<ImagePath, String>,
    warnings: BTreeSet<String>,
    need: BTreeMap<ImagePath, Want>,
    /// Kept paths whose consequences were not followed yet.
    queue: VecDeque<ImagePath>,
    /// Paths that were in the queue.
    queued: BTreeSet<ImagePath>,
    excludes: Vec<PathGlob>,
    /// Paths that an include flag names letter by letter.
    named: BTreeSet<ImagePath>,
    /// Packages that are kept whole.
    pub whole: BTreeSet<usize>,
}

impl<'a> Draft<'a> {
    /// Nothing is kept yet.
    pub fn new(ask: Question<'a>) -> Self {
        let mut draft = Self {
            ask,
            kept: BTreeMap::new(),
            left_out: BTreeMap::new(),
            warnings: BTreeSet::new(),
            need: BTreeMap::new(),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            excludes: Vec::new(),
            whole: BTreeSet::new(),
            named: ask.policy.include_paths.iter().map(ImagePath::new).collect(),
        };
        for text in &ask.policy.excludes {
            match PathGlob::new(ask.tree, text) {
                Ok(glob) => draft.excludes.push(glob),
                Err(why) => draft.warn(format!("--exclude-pattern {text}: {why}")),
            }
        }
        draft
    }

    /// Keeps exactly this path, and the directories above it, if the image has it and nothing forbids it.
    /// Returns whether it stays.
    pub fn keep(&mut self, path: &ImagePath, reason: Reason) -> bool {
        if !self.ask.tree.contains(path) {
            return false;
        }
        if let Some(rule) = self.refusal(path) {
            if matches!(reason, Reason::Touched { .. }) {
                self.left_out.insert(path.clone(), rule.into());
            }
            return false;
        }
        let consequences = reason.has_consequences();
        if !self.add(path, reason) {
            return true;
        }
        if consequences && self.queued.insert(path.clone()) {
            self.queue.push_back(path.clone());
        }
        for above in path.ancestors().filter(|above| self.ask.tree.contains(above)).collect::<Vec<_>>() {
            if !self.add(&above, Reason::OnTheWay { to: path.clone() }) {
                break;
            }
        }
        true
    }

    /// Looks a path up as the kernel would and keeps what it ends at, the links followed and the directories
    /// entered. Returns where it ended, when that stays.
    pub fn keep_lookup(&mut self, base: &ImagePath, raw: &[u8], follow: Follow, reason: Reason) -> Option<ImagePath> {
        let walk = self.ask.tree.resolve(base, raw, follow);
        let to = walk.found.clone().unwrap_or_else(|| base.join(raw));
        for path in walk.links.iter().chain(&walk.passed) {
            self.keep(path, Reason::OnTheWay { to: to.clone() });
        }
        walk.found.filter(|found| self.keep(found, reason))
    }

    /// Keeps an entry that a rule or a flag named, and, for a link, what it leads to.
    pub fn keep_with_target(&mut self, path: &ImagePath, reason: Reason) -> Option<ImagePath> {
        if self.ask.tree.get(path).is_some_and(|entry| entry.link_target().is_some()) {
            self.keep(path, reason.clone());
        }
        self.keep_lookup(&ImagePath::root(), path.as_bytes(), Follow::All, reason)
    }

    /// The next kept path whose consequences are to be followed.
    pub fn next(&mut self) -> Option<ImagePath> {
        self.queue.pop_front()
    }

    /// Why a path must not stay; `None` when it may.
    pub fn refusal(&self, path: &ImagePath) -> Option<&'static str> {
        let inside =
            |dir: &&str| path.as_bytes().strip_prefix(dir.as_bytes()).is_some_and(|tail| tail.starts_with(b"/"));
        let engine = ENGINE_PATHS.iter().any(|name| path.as_bytes() == name.as_bytes());
        if (engine || ENGINE_DIRECTORIES.iter().any(inside)) && !self.named.contains(path) {
            return Some("engine-provided");
        }
        let excluded = |path: &ImagePath| self.excludes.iter().any(|glob| glob.matches(path));
        let gone = !self.excludes.is_empty()
            && !path.is_root()
            && (excluded(path) || path.ancestors().any(|above| !above.is_root() && excluded(&above)));
        gone.then_some("exclude")
    }

    /// The reasons a path has so far; `None` when it is not kept.
    pub fn reasons(&self, path: &ImagePath) -> Option<&[Reason]> {
        self.kept.get(path).map(Vec::as_slice)
    }

    /// Everything that is kept so far.
    pub fn kept(&self) -> impl Iterator<Item = (&ImagePath, &[Reason])> {
        self.kept.iter().map(|(path, reasons)| (path, reasons.as_slice()))
    }

    /// Says something to the user.
    pub fn warn(&mut self, text: String) {
        self.warnings.insert(text);
    }

    /// ELF and shebang facts of a regular file; `None` when they are not known yet, and then asked for.
    pub fn head(&mut self, path: &ImagePath) -> Option<&'a FileFacts> {
        let facts = self.ask.facts.get(path);
        if facts.is_none() {
            self.need.entry(path.clone()).or_insert(Want::Head);
        }
        facts
    }

    /// The text of a file, found as the kernel would; `None` when the image does not have it, or when it is
    /// not known yet, and then asked for.
    pub fn text(&mut self, raw: &[u8]) -> Option<&'a [u8]> {
        let path = self.ask.tree.find(raw).filter(|path| self.ask.tree.get(path).is_some_and(Entry::is_file))?;
        let text = self.ask.facts.get(&path).and_then(|facts| facts.text.as_deref());
        if text.is_none() {
            self.ask_for(path, Want::Text);
        }
        text
    }

    /// The modules that a file's text names; `None` when that is not known yet, and then asked for.
    pub fn imports(&mut self, path: &ImagePath) -> Option<&'a [String]> {
        let imports = self.ask.facts.get(path).and_then(|facts| facts.imports.as_deref());
        if imports.is_none() {
            // Modules name their neighbours first: asking for all of them saves a round for each.
            let neighbours = path.parent().into_iter().flat_map(|dir| super::imports::texts_in(self.ask, &dir));
            let unknown = |path: &ImagePath| self.ask.facts.get(path).is_none_or(|facts| facts.imports.is_none());
            let asked: Vec<ImagePath> = neighbours.filter(unknown).chain([path.clone()]).collect();
            self.need.extend(asked.into_iter().map(|path| (path, Want::Imports)));
        }
        imports
    }

    /// What the text of a file calls; `None` when the image does not have it, or when it is not known yet, and
    /// then asked for.
    pub fn script(&mut self, path: &ImagePath, dialect: Dialect) -> Option<&'a Script> {
        let path = self.ask.tree.find(path.as_bytes()).filter(|path| self.ask.tree.get(path).is_some_and(Entry::is_file))?;
        let script = self.ask.facts.get(&path).and_then(|facts| facts.script.as_ref());
        if script.is_none() {
            self.ask_for(path, Want::Calls(dialect));
        }
        script
    }

    fn ask_for(&mut self, path: ImagePath, want: Want) {
        let asked = self.need.entry(path).or_insert(want);
        *asked = want.max(*asked);
    }

    /// The run's value of an environment variable.
    pub fn env(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.ask.policy.env.iter().rev().filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Where execvp(3) would find a program: a path as it is to be looked up, through the run's PATH.
    pub fn program(&self, name: &str) -> Option<ImagePath> {
        let workdir = ImagePath::new(&self.ask.policy.workdir);
        let runs = |path: &ImagePath| {
            let found = self.ask.tree.find(path.as_bytes());
            found.and_then(|found| self.ask.tree.get(&found)).is_some_and(Entry::is_executable)
        };
        if name.is_empty() {
            return None;
        }
        if name.contains('/') {
            return Some(workdir.join(name)).filter(runs);
        }
        let path = self.env("PATH").filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH);
        path.split(':').map(|dir| workdir.join(dir).join(name)).find(runs)
    }

    /// What is not known yet; empty when the draft is whole.
    pub fn need(&mut self) -> BTreeMap<ImagePath, Want> {
        std::mem::take(&mut self.need)
    }

    /// The keep set, reasons strongest first.
    pub fn finish(mut self, app: Vec<AppRoot>, scripts: Vec<Calls>) -> KeepSet {
        for reasons in self.kept.values_mut() {
            reasons.sort_by_cached_key(|reason| (reason.strength(), reason.clone()));
        }
        KeepSet {
            walkers: super::walkers::summary(&self.kept, self.ask.tree),
            kept: self.kept,
            left_out: self.left_out,
            warnings: self.warnings.into_iter().collect(),
            written: BTreeMap::new(),
            level: self.ask.policy.level,
            app,
            scripts,
        }
    }

    /// Whether the reason was new.
    fn add(&mut self, path: &ImagePath, reason: Reason) -> bool {
        let Some(reasons) = self.kept.get_mut(path) else {
            self.kept.insert(path.clone(), vec![reason]);
            return true;
        };
        let new = !reasons.iter().any(|known| reason.repeats(known));
        if new {
            reasons.push(reason);
        }
        new
    }
}
