//! Closure: what a kept program or library cannot do without: its interpreter and the libraries it needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::draft::Draft;
use super::loader::{Loaded, Loader, Search};
use super::whole::may_bring;
use super::{Elf, Reason};
use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath};

/// The state of following: which objects were seen, by whom they were loaded.
pub(super) struct Closure<'a> {
    loader: Loader<'a>,
    /// Objects with the library paths they inherited.
    loaded: BTreeSet<(ImagePath, Vec<String>)>,
    /// Objects, however loaded.
    seen: BTreeSet<ImagePath>,
    /// Each library name that a kept object needs, with the first such object.
    pub needed: BTreeMap<String, ImagePath>,
}

impl<'a> Closure<'a> {
    /// Reads what the image's loader reads.
    pub fn new(draft: &mut Draft<'a>) -> Self {
        Self {
            loader: Loader::new(draft),
            loaded: BTreeSet::new(),
            seen: BTreeSet::new(),
            needed: BTreeMap::new(),
        }
    }

    /// Keeps what this kept path needs, at any depth. Files that are neither executable nor named like a
    /// library are not looked into, unless a flag brings them: nobody saw how those are used.
    pub fn follow(&mut self, draft: &mut Draft<'a>, path: &ImagePath) {
        let Some(entry) = draft.ask.tree.get(path) else { return };
        let asked_for = |reason: &Reason| matches!(reason, Reason::Include { .. });
        let brought = || {
            let may_hold = entry.is_file() && entry.size >= ELF_HEADER;
            may_hold && draft.reasons(path).is_some_and(|reasons| reasons.iter().any(asked_for))
        };
        if self.seen.contains(path) || !(looks_loadable(path, entry) || brought()) {
            return;
        }
        let Some(facts) = draft.head(path) else { return };
        if let Some(words) = &facts.shebang {
            keep_interpreter(draft, path, words);
        }
        if facts.elf.is_some() {
            self.load(draft, Loaded::root(path));
        }
    }

    /// Follows an object and everything that is loaded on its behalf.
    fn load(&mut self, draft: &mut Draft<'a>, root: Loaded) {
        let asked_for = |reason: &Reason| matches!(reason, Reason::Include { .. });
        let reasons = draft.reasons(&root.path).unwrap_or_default();
        // What the run itself loaded worked: only what a flag brings is worth a warning.
        let warns = reasons.iter().any(asked_for)
            && !reasons.iter().any(|reason| matches!(reason, Reason::Touched { .. }));
        let mut queue = VecDeque::from([root]);
        while let Some(object) = queue.pop_front() {
            if !self.loaded.insert((object.path.clone(), object.inherited.clone())) {
                continue;
            }
            self.seen.insert(object.path.clone());
            let Some(elf) = draft.head(&object.path).and_then(|facts| facts.elf.as_ref()) else { continue };
            self.keep_loader(draft, &object.path, elf);
            let optional = elf.dlopen.iter().map(|name| (name, false));
            for (name, required) in elf.needed.iter().map(|name| (name, true)).chain(optional) {
                self.needed.entry(name.clone()).or_insert_with(|| object.path.clone());
                let reason = Reason::NeededBy { object: object.path.clone() };
                match self.loader.search(draft, &object, elf, name) {
                    Search::Pending => {}
                    Search::Found(places) => {
                        for raw in places {
                            if let Some(path) =
                                draft.keep_lookup(&ImagePath::root(), raw.as_bytes(), Follow::All, reason.clone())
                            {
                                queue.push_back(object.loads(elf, path, &raw));
                            }
                        }
                    }
                    Search::Missing if required && warns && !self.already_loaded(draft, elf, name) => draft.warn(format!(
                        "{} needs {name}, which is nowhere the loader looks in this image",
                        object.path
                    )),
                    Search::Missing => {}
                }
            }
        }
    }

    /// PT_INTERP: the kernel starts it in the program's place.
    fn keep_loader(&self, draft: &mut Draft<'a>, path: &ImagePath, elf: &Elf) {
        if let Some(interpreter) = &elf.interpreter {
            let reason = Reason::InterpreterOf { program: path.clone() };
            draft.keep_lookup(&ImagePath::root(), interpreter.as_bytes(), Follow::All, reason);
        }
    }

    /// Whether an object of that name is in already: a loader does not look for it again.
    fn already_loaded(&self, draft: &Draft<'a>, elf: &Elf, name: &str) -> bool {
        self.seen.iter().any(|path| {
            let other = draft.ask.facts.get(path).and_then(|facts| facts.elf.as_ref());
            let fits = other.filter(|other| (other.class, other.machine) == (elf.class, elf.machine));
            fits.is_some_and(|other| {
                other.soname.as_deref() == Some(name) || path.file_name() == Some(name.as_bytes())
            })
        })
    }
}

/// The size of the smallest ELF header in bytes (elf(5), `Elf32_Ehdr`).
const ELF_HEADER: u64 = 52;

/// Whether a file may be run or loaded, judged by its mode and name. Libraries and Node's addons need no x bit.
fn looks_loadable(path: &ImagePath, entry: &Entry) -> bool {
    let name = path.file_name().unwrap_or_default();
    let library = name.ends_with(b".so") || name.ends_with(b".node") || name.windows(4).any(|part| part == b".so.");
    entry.is_executable() || (entry.is_file() && library)
}

/// Keeps a script's interpreter; behind `env` also the program that it would run.
fn keep_interpreter(draft: &mut Draft<'_>, script: &ImagePath, words: &[String]) {
    let Some((interpreter, argument)) = words.split_first() else { return };
    let reason = Reason::InterpreterOf { program: script.clone() };
    let workdir = ImagePath::new(&draft.ask.policy.workdir);
    if !may_bring(draft, script, &workdir.join(interpreter)) {
        return;
    }
    draft.keep_lookup(&workdir, interpreter.as_bytes(), Follow::All, reason.clone());
    if interpreter.rsplit('/').next() != Some("env") {
        return;
    }
    let Some(name) = argument.first().and_then(|argument| env_runs(argument)) else { return };
    if let Some(program) = draft.program(name).filter(|program| may_bring(draft, script, program)) {
        draft.keep_lookup(&ImagePath::root(), program.as_bytes(), Follow::All, reason);
    }
}

/// The program that `env` runs when a script's single argument is this: the words of `-S` are split,
/// options and assignments skipped.
fn env_runs(argument: &str) -> Option<&str> {
    let split = argument.strip_prefix("-S").or_else(|| argument.strip_prefix("--split-string="));
    let Some(words) = split else {
        return (!argument.starts_with('-') && !argument.contains('=')).then_some(argument);
    };
    words.split_whitespace().find(|word| !word.starts_with('-') && !word.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_runs_the_first_word_that_is_neither_option_nor_assignment() {
        for (argument, program) in [
            ("python3", Some("python3")),
            ("-S node --harmony", Some("node")),
            ("-SFOO=1 -i perl -w", Some("perl")),
            ("-i", None),
            ("-S", None),
        ] {
            assert_eq!(env_runs(argument), program, "{argument}");
        }
    }
}
