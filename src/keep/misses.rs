//! Misses: what a run of the slim image looked for, that the untouched image has and the slim one has not. An
//! answer can be right although something was missed: a program that falls back says nothing.

use super::draft::Draft;
use super::touched::keeps_the_link;
use super::{Facts, KeepSet, Policy, Question};
use crate::image::tree::Follow;
use crate::image::{ImageConfig, ImagePath, Tree};
use crate::packages::Packages;
use crate::trace::{Fact, Trace};

/// One thing that a run of the slim image did not find.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Miss {
    /// The path of the untouched image that is not in the slim one.
    pub path: ImagePath,
    /// The executable that looked for it; empty when it was gone too soon to be named.
    pub process: Vec<u8>,
    /// The probe that ran.
    pub probe: String,
}

/// Takes out of a recording of the slim image everything but its misses, so that what is left can be added to
/// the trace of the untouched image. Paths that the engine provides, or that the user excluded, are no misses.
pub fn retain_misses(
    tree: &Tree,
    config: &ImageConfig,
    policy: &Policy,
    keep: &KeepSet,
    run: &mut Trace,
) -> Vec<Miss> {
    let (trace, facts, packages) = (Trace::default(), Facts::new(), Packages::default());
    let draft = Draft::new(Question { tree, trace: &trace, config, policy, facts: &facts, packages: &packages });
    let mut misses = Vec::new();
    let Trace { facts, processes, marks, .. } = run;
    facts.retain(|raw, uses| {
        uses.retain(|fact| {
            let missing = missing(&draft, keep, raw, fact);
            misses.extend(missing.iter().map(|path| Miss {
                path: path.clone(),
                process: processes.get(&fact.process).map(|process| process.exe.clone()).unwrap_or_default(),
                probe: marks.get(&fact.mark).cloned().unwrap_or_default(),
            }));
            !missing.is_empty()
        });
        !uses.is_empty()
    });
    misses.sort();
    misses.dedup_by(|a, b| a.path == b.path);
    misses
}

/// The paths that this use would have needed and that are not kept, when the untouched image has what it
/// leads to.
fn missing(draft: &Draft<'_>, keep: &KeepSet, raw: &[u8], fact: &Fact) -> Vec<ImagePath> {
    let follow = if fact.resolved || keeps_the_link(fact) { Follow::NotLast } else { Follow::All };
    let lookup = draft.ask.tree.resolve(&ImagePath::root(), raw, follow);
    let Some(found) = lookup.found else { return Vec::new() };
    let needed = lookup.links.into_iter().chain(lookup.passed).chain([found]);
    needed.filter(|path| !keep.kept.contains_key(path) && draft.refusal(path).is_none()).collect()
}
