//! Packages: what package managers say the original has, and how much of each stays.

use std::collections::{BTreeSet, HashSet};

use super::model::Package;
use crate::image::{ImagePath, Tree};
use crate::packages::Packages;

/// All of them, by system, name and version.
pub fn packages(tree: &Tree, packages: &Packages, is_kept: impl Fn(&ImagePath) -> bool) -> Vec<Package> {
    let weigh = |package: &crate::packages::Package| {
        let files: BTreeSet<&ImagePath> = package.files.iter().chain(&package.description).collect();
        let files: Vec<&ImagePath> = files.into_iter().filter(|path| tree.contains(path)).collect();
        let kept: Vec<&ImagePath> = files.iter().copied().filter(|path| is_kept(path)).collect();
        Package {
            system: package.system.name().to_owned(),
            name: package.name.clone(),
            version: package.version.clone(),
            files: files.len() as u64,
            kept_files: kept.len() as u64,
            bytes: bytes(tree, files),
            kept_bytes: bytes(tree, kept),
        }
    };
    packages.iter().map(weigh).collect()
}

/// Their content, each inode once.
pub fn bytes<'a>(tree: &Tree, paths: impl IntoIterator<Item = &'a ImagePath>) -> u64 {
    let mut seen = HashSet::new();
    let entries = paths.into_iter().filter_map(|path| tree.get(path));
    entries.filter(|entry| entry.hardlink.is_none_or(|id| seen.insert(id))).map(|entry| entry.size).sum()
}
