//! Walker: a process that went over whole directories (find, du, chown -R, ls -l, rsync) without reading what
//! is in the files. What only a walker touched is kept, but told apart, with its bytes.
//!
//! The rule: a directory is walked by a process when somebody opened it, it holds at least two entries, and
//! the process lstat()ed or wrote the metadata of every one. A process is a walker when the directories it
//! walked hold at least [`ENOUGH`] entries. Who opened the directory is not asked, because a recorder reports
//! an inode's first opening only.

use std::collections::{BTreeMap, BTreeSet};

use super::{Reason, Walker};
use crate::image::{Entry, ImagePath, Tree};
use crate::sensor::event::AccessKind;
use crate::trace::{Fact, Trace};

/// Fewer entries than this may be covered by chance.
const ENOUGH: usize = 8;

/// The directories that each walker walked.
pub(super) struct Walkers(BTreeMap<u32, BTreeSet<ImagePath>>);

impl Walkers {
    /// Finds those of a trace.
    pub fn of(tree: &Tree, trace: &Trace) -> Self {
        let mut opened: BTreeSet<ImagePath> = BTreeSet::new();
        let mut covered: BTreeMap<(u32, ImagePath), BTreeSet<ImagePath>> = BTreeMap::new();
        for (raw, facts) in &trace.facts {
            let path = ImagePath::new(raw);
            let Some(entry) = tree.get(&path) else { continue };
            for fact in facts {
                match fact.kind {
                    AccessKind::OpenDir => {
                        opened.insert(path.clone());
                    }
                    AccessKind::Open if entry.is_dir() => {
                        opened.insert(path.clone());
                    }
                    _ => {}
                }
                if let Some(parent) = path.parent().filter(|_| glances(fact)) {
                    covered.entry((fact.process, parent)).or_default().insert(path.clone());
                }
            }
        }
        let mut walked: BTreeMap<u32, BTreeSet<ImagePath>> = BTreeMap::new();
        let mut entries: BTreeMap<u32, usize> = BTreeMap::new();
        for ((process, dir), seen) in covered {
            if seen.len() >= 2 && opened.contains(&dir) && seen.len() == tree.children(&dir).count() {
                *entries.entry(process).or_default() += seen.len();
                walked.entry(process).or_default().insert(dir);
            }
        }
        walked.retain(|process, _| entries.get(process).is_some_and(|n| *n >= ENOUGH));
        Self(walked)
    }

    /// Whether this use of a path is part of a walk.
    pub fn walked(&self, path: &ImagePath, fact: &Fact) -> bool {
        let Some(dirs) = self.0.get(&fact.process) else { return false };
        (glances(fact) || fact.kind == AccessKind::OpenDir)
            && (dirs.contains(path) || path.parent().is_some_and(|parent| dirs.contains(&parent)))
    }
}

/// What walkers do to each entry.
fn glances(fact: &Fact) -> bool {
    match fact.kind {
        AccessKind::Stat => fact.nofollow,
        AccessKind::Meta => true,
        AccessKind::Exec
        | AccessKind::Open
        | AccessKind::OpenDir
        | AccessKind::Readlink
        | AccessKind::Chdir
        | AccessKind::Socket
        | AccessKind::Name
        | AccessKind::Watch => false,
    }
}

/// Per walker, what is kept for no better reason than its walk; directories are not counted.
pub(super) fn summary(kept: &BTreeMap<ImagePath, Vec<Reason>>, tree: &Tree) -> Vec<Walker> {
    let mut walkers: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut inodes: BTreeSet<u64> = BTreeSet::new();
    for (path, reasons) in kept {
        let mut process = None;
        let only = reasons.iter().all(|reason| match reason {
            Reason::Touched { process: by, .. } if reason.is_walked() => {
                process.get_or_insert(by.as_str());
                true
            }
            Reason::OnTheWay { .. } | Reason::LinkTo { .. } => true,
            _ => false,
        });
        let Some(entry) = tree.get(path).filter(|entry| !Entry::is_dir(entry)) else { continue };
        if let Some(process) = process.filter(|_| only) {
            let sum = walkers.entry(process).or_default();
            sum.0 += 1;
            if entry.hardlink.is_none_or(|inode| inodes.insert(inode)) {
                sum.1 += entry.size;
            }
        }
    }
    let walker = |(process, (files, bytes)): (&str, _)| Walker { process: process.into(), files, bytes };
    walkers.into_iter().map(walker).collect()
}
