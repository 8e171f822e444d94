//! Links: symlinks of the image that lead to something kept. They cost nothing, and they are the names by
//! which programs look things up; what the kernel resolved, a recorder no longer shows. For the same reason
//! links that lead to what only a running container has stay (a log that is a link to /dev/stdout).

use std::collections::{BTreeMap, BTreeSet};

use super::Reason;
use super::draft::Draft;
use super::implied::is_below_unwanted;
use super::rules::FILLED_AT_RUN_TIME;
use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath};

/// Directories of programs.
const PROGRAM_DIRECTORIES: &[&str] =
    &["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// Executables that act by the name they are called by, whatever number of names they have.
const MULTI_CALL: &[&[u8]] = &[b"busybox", b"toybox", b"coreutils", b"box", b"sbase-box", b"uutils"];

/// An executable with this many differently named links in program directories acts by name.
const MANY_NAMES: usize = 8;

/// Keeps every symlink whose chain ends at something kept. Of a multi-call binary only the names that were
/// used stay: with the others, a shell that is gone would seem to be there. Where no recorder saw the names
/// (fanotify alone names the binary), all of them stay.
pub(super) fn keep_links(draft: &mut Draft<'_>) {
    let tree = draft.ask.tree;
    let root = ImagePath::root();
    let mut found: Vec<(ImagePath, Vec<ImagePath>)> = Vec::new();
    let mut names: BTreeMap<ImagePath, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut dangling: Vec<Vec<ImagePath>> = Vec::new();
    for (link, _) in tree.iter().filter(|(_, entry)| entry.link_target().is_some()) {
        let lookup = tree.resolve(&root, link.as_bytes(), Follow::All);
        let Some(target) = lookup.found else {
            if leads_to_run_time(draft, link, &lookup.links) && !is_below_unwanted(link) {
                dangling.push(lookup.links);
            }
            continue;
        };
        if draft.reasons(&target).is_none() {
            continue;
        }
        if let Some(name) = link.file_name().filter(|_| is_program_directory(link)) {
            names.entry(target.clone()).or_default().insert(name.to_vec());
        }
        found.push((target, lookup.links));
    }
    for link in dangling.iter().flatten() {
        draft.keep(link, Reason::Rule { name: "link-to-run-time".into(), by: None });
    }
    let names_unseen = draft.ask.trace.names_unseen;
    for (target, links) in found {
        let link = &links[0];
        if !names_unseen && is_multi_call(draft, &target, &names) && is_program_directory(link) {
            continue;
        }
        for link in &links {
            draft.keep(link, Reason::LinkTo { target: target.clone() });
        }
    }
}

/// Whether a link that ends nowhere in the image ends in a place that is filled at run time: one known, a
/// VOLUME, or another mount of the run.
fn leads_to_run_time(draft: &Draft<'_>, link: &ImagePath, links: &[ImagePath]) -> bool {
    let last = links.last().unwrap_or(link);
    let target = draft.ask.tree.get(last).and_then(Entry::link_target).unwrap_or_default();
    let target = last.parent().unwrap_or_else(ImagePath::root).join(target);
    let volumes = draft.ask.config.volumes();
    let mounts = volumes.iter().chain(&draft.ask.policy.mount_points).map(String::as_str);
    let mut places = FILLED_AT_RUN_TIME.iter().copied().chain(mounts);
    places.any(|place| target.starts_with(&ImagePath::new(place)))
}

fn is_program_directory(link: &ImagePath) -> bool {
    link.parent().is_some_and(|dir| PROGRAM_DIRECTORIES.iter().any(|known| dir.as_bytes() == known.as_bytes()))
}

fn is_multi_call(draft: &Draft<'_>, target: &ImagePath, names: &BTreeMap<ImagePath, BTreeSet<Vec<u8>>>) -> bool {
    let name = target.file_name().unwrap_or_default();
    draft.ask.tree.get(target).is_some_and(Entry::is_executable)
        && (MULTI_CALL.contains(&name) || names.get(target).is_some_and(|names| names.len() >= MANY_NAMES))
}
