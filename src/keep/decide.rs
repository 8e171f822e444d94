//! Decide: from what was seen to what stays, in one pass over what is known. Where the pass meets a file whose
//! content matters and is not known yet, it goes on without and asks for it; the caller answers and calls again.
//!
//! The six inputs stay apart because each has another origin: image, recording, image, user, untouched files, and
//! the databases of package managers.

use super::apply::Applied;
use super::closure::Closure;
use super::draft::Draft;
use super::implied::keep_implied;
use super::imports::Imports;
use super::include::keep_included;
use super::links::keep_links;
use super::own::Own;
use super::scripts::Scripts;
use super::touched::keep_touched;
use super::whole::keep_packages;
use super::{Facts, Level, Policy, Step};
use crate::image::{ImageConfig, Tree};
use crate::packages::Packages;
use crate::trace::Trace;

/// What is asked.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub tree: &'a Tree,
    pub trace: &'a Trace,
    pub config: &'a ImageConfig,
    pub policy: &'a Policy,
    pub facts: &'a Facts,
    pub packages: &'a Packages,
}

/// Decides what stays. Pure: the same inputs give the same step.
///
/// [`Step::Need`] names files whose facts are missing; put what is found out about them into `facts` by
/// [`super::answer`] and call again. Each round asks for other files, or for the text of one whose head was
/// known, so this ends.
pub fn decide(
    tree: &Tree,
    trace: &Trace,
    config: &ImageConfig,
    policy: &Policy,
    facts: &Facts,
    packages: &Packages,
) -> Step {
    let mut draft = Draft::new(Question { tree, trace, config, policy, facts, packages });
    let mut closure = Closure::new(&mut draft);
    let mut rules = Applied::default();
    keep_touched(&mut draft);
    keep_included(&mut draft);
    keep_implied(&mut draft);
    let own = Own::find(&mut draft);
    if policy.level >= Level::App {
        own.keep(&mut draft);
    }
    let scripts = Scripts::find(&mut draft);
    keep_packages(&mut draft, &own);
    let mut imports = Imports::new(&draft);
    rules.at_first(&mut draft);
    while let Some(path) = draft.next() {
        closure.follow(&mut draft, &path);
        rules.kept(&mut draft, &path);
        imports.follow(&mut draft, &path);
        rules.needed(&mut draft, &closure.needed);
    }
    let need = draft.need();
    if !need.is_empty() {
        return Step::Need(need);
    }
    keep_links(&mut draft);
    let app = own.summary(&draft);
    let scripts = scripts.summary(&mut draft);
    Step::Done(draft.finish(app, scripts))
}
