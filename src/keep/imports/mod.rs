//! Imports: modules that a program's text names. What a run did not come to, it may still load later: a route's
//! own library, the other half of a package. From level `app` on, what the application's files and the modules
//! in use name literally stays, as far as the image has it.
//!
//! [`names`] reads one text, where the file is; [`Imports`] finds what the names mean in the image. A name that
//! is computed is not seen.

mod javascript;
mod node;
mod python;
mod roots;
mod ruby;

use std::collections::BTreeSet;

use super::draft::Draft;
use super::own::is_used;
use super::{Level, Question, Reason};
use crate::image::{Entry, ImagePath};

/// Rules by which modules stay, with what they are for.
pub(super) const DESCRIBED: &[(&str, &str)] = &[
    ("python-import", "a module that an application's file, or a module in use, imports when it comes to that line"),
    ("ruby-require", "a file that an application's file, or a file in use, requires when it comes to that line"),
    ("node-import", "a module that an application's file, or a module in use, requires when it comes to that line"),
];

/// The largest text that is read for its imports, in bytes: bundles of a whole application are that large.
pub const MAX_TEXT: u64 = 8 << 20;

/// As many names of one text are followed.
const MAX_NAMES: usize = 10_000;

/// A language whose imports are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `import a.b`, `from .c import d`, `import_module('e')`.
    Python,
    /// `require('a')`, `import x from './b'`, `import('c')`.
    JavaScript,
    /// `require 'a'`, `require_relative 'b'`, `autoload :C, 'c'`.
    Ruby,
}

impl Language {
    /// By a file's name; `None` where that says nothing.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        let end = name.iter().rposition(|byte| *byte == b'.').map(|dot| &name[dot + 1..])?;
        match end {
            b"py" => Some(Self::Python),
            b"js" | b"cjs" | b"mjs" => Some(Self::JavaScript),
            b"rb" | b"ru" => Some(Self::Ruby),
            _ => None,
        }
    }

    /// By the words after `#!`.
    fn of_shebang(words: &[String]) -> Option<Self> {
        let names = words.iter().flat_map(|word| word.split_whitespace());
        names.map(|word| word.rsplit('/').next().unwrap_or(word)).find_map(|name| match name {
            "node" | "nodejs" => Some(Self::JavaScript),
            name if name.starts_with("python") => Some(Self::Python),
            name if name.starts_with("ruby") => Some(Self::Ruby),
            _ => None,
        })
    }
}

/// The modules that a text names, in order and once each, as its language writes them; for Python `from .a import
/// b` names `.a` and `.a.b`, for it may mean either.
pub fn names(path: &ImagePath, text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let by_line = || {
        let first = text.lines().next()?.strip_prefix("#!")?;
        Language::of_shebang(&[first.to_owned()])
    };
    let language = Language::of_name(path.file_name().unwrap_or_default()).or_else(by_line);
    let found = match language {
        Some(Language::Python) => python::names(&text),
        Some(Language::JavaScript) => javascript::names(&text),
        Some(Language::Ruby) => ruby::names(&text),
        None => Vec::new(),
    };
    let mut seen = BTreeSet::new();
    found.into_iter().filter(|name| seen.insert(name.clone())).take(MAX_NAMES).collect()
}

/// The texts that lie directly in a directory, by their names.
pub(super) fn texts_in(ask: Question<'_>, dir: &ImagePath) -> Vec<ImagePath> {
    let is_text = |path: &ImagePath, entry: &Entry| {
        entry.is_file() && entry.size <= MAX_TEXT && Language::of_name(path.file_name().unwrap_or_default()).is_some()
    };
    ask.tree.children(dir).filter(|(path, entry)| is_text(path, entry)).map(|(path, _)| path.clone()).collect()
}

/// Follows imports while a keep set grows.
#[derive(Default)]
pub(super) struct Imports {
    roots: roots::Roots,
    /// Where Ruby's files in use were found.
    ruby: BTreeSet<ImagePath>,
}

impl Imports {
    /// Knows where the modules that are kept so far were found.
    pub fn new(draft: &Draft<'_>) -> Self {
        let mut imports = Self::default();
        for (path, _) in draft.kept() {
            imports.learn(draft, path);
        }
        imports
    }

    fn learn(&mut self, draft: &Draft<'_>, path: &ImagePath) {
        self.roots.learn(draft.ask.tree, path);
        if path.as_bytes().ends_with(b".rb") || path.as_bytes().ends_with(b".so") {
            self.ruby.extend(ruby::root_of(path));
        }
    }

    /// Keeps what a newly kept file names. Files of packages that are kept whole for their own sake are not
    /// looked into: what they need is in their manager's database.
    pub fn follow(&mut self, draft: &mut Draft<'_>, path: &ImagePath) {
        self.learn(draft, path);
        if draft.ask.policy.level < Level::App || !counts(draft.reasons(path)) {
            return;
        }
        let Some(language) = language(draft, path) else { return };
        let Some(names) = draft.imports(path) else { return };
        let (rule, found): (&str, Vec<ImagePath>) = match language {
            Language::Python => {
                ("python-import", names.iter().flat_map(|name| self.roots.modules(draft.ask.tree, path, name)).collect())
            }
            Language::Ruby => {
                ("ruby-require", names.iter().flat_map(|name| ruby::files(draft.ask.tree, &self.ruby, path, name)).collect())
            }
            Language::JavaScript => ("node-import", names.iter().flat_map(|name| node::files(draft, path, name)).collect()),
        };
        let reason = Reason::Rule { name: rule.into(), by: Some(path.clone()) };
        for file in found.iter().filter(|file| *file != path) {
            draft.keep_with_target(file, reason.clone());
        }
    }
}

fn counts(reasons: Option<&[Reason]>) -> bool {
    let names_it = |reason: &Reason| match reason {
        Reason::App { .. } | Reason::Include { .. } => true,
        // What a rule brings is there to be loaded.
        Reason::Rule { .. } => true,
        _ => false,
    };
    is_used(reasons) || reasons.unwrap_or_default().iter().any(names_it)
}

fn language(draft: &mut Draft<'_>, path: &ImagePath) -> Option<Language> {
    let entry = draft.ask.tree.get(path).filter(|entry| entry.is_file() && entry.size <= MAX_TEXT)?;
    let name = path.file_name().unwrap_or_default();
    if let Some(language) = Language::of_name(name) {
        return Some(language);
    }
    // Programs are often without an ending.
    let may_be_script = Entry::is_executable(entry) && !name.contains(&b'.');
    let facts = may_be_script.then(|| draft.head(path)).flatten()?;
    Language::of_shebang(facts.shebang.as_deref()?)
}
