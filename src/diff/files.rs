//! Files: which are on one side only, and what differs of those on both.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use super::model::{self, Change, FileList, Files, Pair};
use super::side::{File, Side};
use crate::image::ImagePath;
use crate::image::path::printable;
use crate::report::model::FileKind;
use crate::report::removed;

/// Compares what both sides have; `None` where one does not know its files.
pub fn files(before: &Side, after: &Side) -> Option<Files> {
    let (old, new) = (before.files.as_ref()?, after.files.as_ref()?);
    let compared = compared(old, new);
    let by_content = compared.contains(&"content");
    let mut changed = Vec::new();
    let mut same = 0;
    for (path, now) in new {
        let Some(was) = old.get(path) else { continue };
        match changes(was, now, by_content) {
            changes if changes.is_empty() => same += u64::from(!now.is_dir()),
            changes => changed.push(row(path, Some(was), Some(now), changes)),
        }
    }
    let bytes = changed.iter().filter_map(|file| file.bytes.after).sum();
    let rank = |file: &model::File| {
        let first = file.changes.first().map_or(ORDER.len(), |change| ORDER.iter().position(|what| *what == change.what).unwrap_or(ORDER.len()));
        let by = file.bytes.before.unwrap_or(0).abs_diff(file.bytes.after.unwrap_or(0));
        (first, Reverse(by))
    };
    // They are in path order, which stays among equal ones.
    changed.sort_by_cached_key(rank);
    let files = changed.len() as u64;
    Some(Files {
        compared,
        same,
        added: only(new, old, |path, file| row(path, None, Some(file), Vec::new())),
        changed: FileList { files, bytes, groups: Vec::new(), list: changed, more: 0 },
        removed: only(old, new, |path, file| row(path, Some(file), None, Vec::new())),
    })
}

/// What of a file can change, the most important first.
const ORDER: [&str; 6] = ["capabilities", "mode", "owner", "kind", "target", "content"];

/// What can be compared of these two: what both know of files that both have.
fn compared(old: &BTreeMap<ImagePath, File>, new: &BTreeMap<ImagePath, File>) -> Vec<&'static str> {
    let both = |known: fn(&File) -> bool| {
        let regular = || old.iter().filter_map(|(path, was)| Some((was, new.get(path)?)))
            .filter(|(was, now)| was.kind == FileKind::File && now.kind == FileKind::File);
        regular().next().is_some() && regular().all(|(was, now)| known(was) && known(now))
    };
    let sums = |old: &BTreeMap<ImagePath, File>| old.values().find_map(|file| Some(file.sum.as_ref()?.len()));
    let content = both(|file| file.sum.is_some()) && sums(old) == sums(new);
    let mut compared = vec![if content { "content" } else { "size" }];
    compared.extend(both(|file| file.mode.is_some()).then_some("mode"));
    compared.extend(both(|file| file.owner.is_some()).then_some("owner"));
    compared.extend(both(|file| file.capabilities.is_some()).then_some("capabilities"));
    compared
}

/// What differs, in [`ORDER`].
fn changes(was: &File, now: &File, by_content: bool) -> Vec<Change> {
    let change = |what, from: String, to: String| Change { what, from, to };
    let mut changes = Vec::new();
    if let (Some(old), Some(new)) = (&was.capabilities, &now.capabilities)
        && old != new
    {
        changes.push(change("capabilities", hex(old), hex(new)));
    }
    if let (Some(old), Some(new)) = (was.mode, now.mode)
        && old != new
        && now.kind != FileKind::Symlink
    {
        changes.push(change("mode", format!("{old:04o}"), format!("{new:04o}")));
    }
    if let (Some(old), Some(new)) = (was.owner, now.owner)
        && old != new
    {
        changes.push(change("owner", format!("{}:{}", old.0, old.1), format!("{}:{}", new.0, new.1)));
    }
    if was.kind != now.kind {
        let word = |file: &File| crate::report::views::csv::kind(file.kind).to_owned();
        changes.push(change("kind", word(was), word(now)));
        return changes;
    }
    if was.target != now.target {
        let target = |file: &File| printable(file.target.as_deref().unwrap_or_default());
        changes.push(change("target", target(was), target(now)));
    }
    let other = by_content && was.sum != now.sum;
    if was.kind == FileKind::File && (was.size != now.size || other) {
        changes.push(change("content", String::new(), String::new()));
    }
    changes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn row(path: &ImagePath, was: Option<&File>, now: Option<&File>, changes: Vec<Change>) -> model::File {
    let some = now.or(was);
    model::File {
        path: path.clone(),
        kind: some.map_or(FileKind::Unknown, |file| file.kind),
        bytes: Pair { before: was.map(|file| file.size), after: now.map(|file| file.size) },
        changes,
        package: now.and_then(|file| file.package.clone()).or_else(|| was.and_then(|file| file.package.clone())),
        reason: now.and_then(|file| file.reason.clone()),
    }
}

/// What only `here` has, directories left away, the largest first. An inode that has a name `there` too costs nothing.
fn only(here: &BTreeMap<ImagePath, File>, there: &BTreeMap<ImagePath, File>, row: impl Fn(&ImagePath, &File) -> model::File) -> FileList {
    let (mut counted, mut paths): (HashSet<u64>, Vec<(&ImagePath, &File)>) = (HashSet::new(), Vec::new());
    for (path, file) in here.iter().filter(|(_, file)| !file.is_dir()) {
        match there.contains_key(path) {
            true => counted.extend(file.inode),
            false => paths.push((path, file)),
        }
    }
    let weights: Vec<(&ImagePath, u64)> = paths
        .iter()
        .map(|(path, file)| (*path, if file.inode.is_none_or(|inode| counted.insert(inode)) { file.size } else { 0 }))
        .collect();
    let groups = removed::group(&weights);
    let mut list: Vec<model::File> = paths.into_iter().map(|(path, file)| row(path, file)).collect();
    list.sort_by_cached_key(|file| Reverse(file.bytes.before.or(file.bytes.after)));
    FileList { files: list.len() as u64, bytes: weights.iter().map(|(_, bytes)| bytes).sum(), groups, list, more: 0 }
}
