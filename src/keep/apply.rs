//! Apply: sets rules off and keeps what they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use super::Reason;
use super::derive::Memory;
use super::draft::Draft;
use super::pattern::Template;
use super::rules::{Keep, RULES, When};
use crate::image::ImagePath;

/// Compiled triggers of one kind: a match's number says which rule.
struct Triggers {
    set: GlobSet,
    rules: Vec<usize>,
}

impl Triggers {
    fn of(pick: impl Fn(&When) -> Option<&'static str>) -> Self {
        let mut set = GlobSetBuilder::new();
        let mut rules = Vec::new();
        for (number, rule) in RULES.iter().enumerate() {
            for text in rule.when.iter().filter_map(&pick) {
                // A glob that does not compile is found by the tests of the table.
                if let Ok(glob) = GlobBuilder::new(text).literal_separator(true).empty_alternates(true).build() {
                    set.add(glob);
                    rules.push(number);
                }
            }
        }
        Self { set: set.build().unwrap_or_default(), rules }
    }

    fn set_off(&self, name: &[u8]) -> BTreeSet<usize> {
        let matches = self.set.matches_candidate(&Candidate::from_bytes(name));
        matches.into_iter().filter_map(|at| self.rules.get(at).copied()).collect()
    }
}

static KEPT: LazyLock<Triggers> = LazyLock::new(|| {
    Triggers::of(|when| match when {
        When::Kept(glob) => Some(glob),
        When::Always | When::Needs(_) | When::Env(_) => None,
    })
});

static NEEDS: LazyLock<Triggers> = LazyLock::new(|| {
    Triggers::of(|when| match when {
        When::Needs(glob) => Some(glob),
        When::Always | When::Kept(_) | When::Env(_) => None,
    })
});

/// Which rules were set off already.
#[derive(Default)]
pub(super) struct Applied {
    /// Patterns that mean the same whatever set the rule off.
    patterns: BTreeSet<(usize, &'static str)>,
    needs: BTreeSet<String>,
    memory: Memory,
}

impl Applied {
    /// The rules that nothing in the trace has to set off.
    pub fn at_first(&mut self, draft: &mut Draft<'_>) {
        for (number, rule) in RULES.iter().enumerate() {
            let set_off = |when: &When| match when {
                When::Always => true,
                When::Env(name) => draft.env(name).is_some(),
                When::Kept(_) | When::Needs(_) => false,
            };
            if rule.when.iter().any(set_off) {
                self.fire(draft, number, None);
            }
        }
    }

    /// What a newly kept path sets off.
    pub fn kept(&mut self, draft: &mut Draft<'_>, path: &ImagePath) {
        for number in KEPT.set_off(path.as_bytes()) {
            self.fire(draft, number, Some(path));
        }
    }

    /// What the libraries that kept objects need set off; each name is looked at once.
    pub fn needed(&mut self, draft: &mut Draft<'_>, needed: &BTreeMap<String, ImagePath>) {
        if needed.len() == self.needs.len() {
            return;
        }
        let new: Vec<_> = needed.iter().filter(|(name, _)| !self.needs.contains(*name)).collect();
        for (name, by) in new {
            self.needs.insert(name.clone());
            for number in NEEDS.set_off(name.as_bytes()) {
                self.fire(draft, number, Some(by));
            }
        }
    }

    fn fire(&mut self, draft: &mut Draft<'_>, number: usize, by: Option<&ImagePath>) {
        let rule = RULES[number];
        let reason = Reason::Rule { name: rule.name.into(), by: by.cloned() };
        let root = ImagePath::root();
        match &rule.keep {
            Keep::Paths(patterns) => {
                for text in *patterns {
                    let same_for_all = !text.contains('{');
                    if same_for_all && !self.patterns.insert((number, *text)) {
                        continue;
                    }
                    let Some(pattern) = Template::fill(text, by) else { continue };
                    let (found, links) = pattern.find(draft.ask.tree);
                    for link in found.first().map(|_| links).unwrap_or_default() {
                        draft.keep(&link, Reason::OnTheWay { to: found[0].clone() });
                    }
                    for path in found.iter().filter(|path| Some(*path) != by) {
                        draft.keep_with_target(path, reason.clone());
                    }
                }
            }
            Keep::Derived(find) => {
                let found = find(draft, &mut self.memory, by.unwrap_or(&root));
                for path in found.into_iter().filter(|path| Some(path) != by) {
                    draft.keep_with_target(&path, reason.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_may_leave_a_part_out() {
        let rules = |path: &str| KEPT.set_off(path.as_bytes()).into_iter().map(|number| RULES[number].name).collect::<Vec<_>>();
        for path in ["/bin/tar", "/usr/bin/tar"] {
            assert_eq!(rules(path), ["tar-compressors"], "{path}");
        }
        assert!(rules("/usr/local/nginx/conf/nginx.conf").contains(&"nginx-named"));
    }

    #[test]
    fn every_trigger_compiles_and_every_name_is_unique() {
        let count = |pick: fn(&When) -> bool| RULES.iter().flat_map(|rule| rule.when).filter(|when| pick(when)).count();
        assert_eq!(KEPT.rules.len(), count(|when| matches!(when, When::Kept(_))));
        assert_eq!(NEEDS.rules.len(), count(|when| matches!(when, When::Needs(_))));
        assert_eq!(KEPT.set.len(), KEPT.rules.len());
        let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
        for rule in RULES.iter() {
            assert!(!rule.doc.is_empty());
            if let Keep::Paths(patterns) = rule.keep {
                let by = ImagePath::from("/x/a/b/c.d.e");
                assert!(patterns.iter().all(|text| Template::fill(text, Some(&by)).is_some()), "{}", rule.name);
            }
        }
    }
}
