//! Touched: what the recorded run used, as paths of the image.

use super::draft::Draft;
use super::reason::{SEARCHED, WALKED, how};
use super::walkers::Walkers;
use super::Reason;
use crate::image::path::printable;
use crate::image::tree::{Follow, Resolution};
use crate::image::{Entry, ImagePath};
use crate::sensor::event::AccessKind;
use crate::trace::{Fact, Trace};

/// Keeps every path of the trace that the image has.
///
/// fanotify names the file itself. What the syscall recorder saw is looked up in the image as the kernel did:
/// the links followed and the directories entered stay as well. A lookup that leads nowhere keeps its links
/// and the directory where it ended: a program may create the file there, or ask whether the directory exists.
pub(super) fn keep_touched(draft: &mut Draft<'_>) {
    let root = ImagePath::root();
    let (tree, trace) = (draft.ask.tree, draft.ask.trace);
    let walkers = Walkers::of(tree, trace);
    for (raw, facts) in &trace.facts {
        let exact = ImagePath::new(raw);
        if !tree.contains(&exact) && draft.refusal(&exact).is_some() {
            continue;
        }
        let mut lookups: [Option<Resolution>; 2] = [None, None];
        for fact in facts {
            let word = if walkers.walked(&exact, fact) { WALKED } else { how(fact.kind) };
            if fact.resolved {
                keep_exact(draft, &exact, touched(trace, fact, word));
                continue;
            }
            let follow = if keeps_the_link(fact) { Follow::NotLast } else { Follow::All };
            let lookup = lookups[usize::from(follow == Follow::All)].get_or_insert_with(|| tree.resolve(&root, raw, follow));
            keep_lookup(draft, lookup, touched(trace, fact, word));
        }
    }
}

/// Keeps what a lookup of the run went through and where it ended.
fn keep_lookup(draft: &mut Draft<'_>, lookup: &Resolution, reason: Reason) {
    let tree = draft.ask.tree;
    let way = lookup.links.iter().chain(&lookup.passed);
    let Some(found) = &lookup.found else {
        // There is nothing that these are on the way to: they were touched themselves.
        way.for_each(|path| _ = draft.keep(path, reason.clone()));
        let directory = tree.get(&lookup.reached).is_some_and(Entry::is_dir);
        let end = if directory { Some(lookup.reached.clone()) } else { lookup.reached.parent() };
        end.map(|end| draft.keep(&end, searched(reason)));
        return;
    };
    for path in way {
        draft.keep(path, Reason::OnTheWay { to: found.clone() });
    }
    draft.keep(found, reason);
}

/// Keeps a path that is known to be the file itself; one that the run made keeps the directory it is in.
fn keep_exact(draft: &mut Draft<'_>, path: &ImagePath, reason: Reason) {
    if draft.ask.tree.contains(path) {
        draft.keep(path, reason);
    } else if let Some(above) = path.ancestors().find(|above| draft.ask.tree.contains(above)) {
        draft.keep(&above, searched(reason));
    }
}

/// The same use, of the directory in which a name was not found.
fn searched(reason: Reason) -> Reason {
    match reason {
        Reason::Touched { process, probe, .. } => Reason::Touched { how: SEARCHED.into(), process, probe },
        other => other,
    }
}

/// Calls that act on the last component itself even where the event does not say so.
pub(super) fn keeps_the_link(fact: &Fact) -> bool {
    fact.nofollow || matches!(fact.kind, AccessKind::Readlink | AccessKind::Name)
}

fn touched(trace: &Trace, fact: &Fact, how: &str) -> Reason {
    let process = trace.processes.get(&fact.process);
    let (exe, comm) = process.map_or((&b"?"[..], ""), |p| (&p.exe, &p.comm));
    let name = if exe.is_empty() { comm.as_bytes() } else { exe };
    let mut name = printable(name);
    // A walk is often an applet of a shell or a script's: the executable alone would not say which.
    if how == WALKED && !comm.is_empty() && name.rsplit('/').next() != Some(comm) {
        name = format!("{name} ({})", printable(comm.as_bytes()));
    }
    Reason::Touched { how: how.into(), process: name, probe: trace.mark(fact.mark).into() }
}
