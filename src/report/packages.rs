//! Packages: what package managers say the original has, and how much of each stays.

use std::collections::{BTreeSet, HashSet};

use super::model::{Embedded, Os, Package};
use crate::image::{ImagePath, Tree};
use crate::keep::package_label;
use crate::packages::metadata::is_there;
use crate::packages::{Packages, purl};

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
            purl: purl::of_package(package, packages.os.as_ref()),
            source: Some(package.source.clone()).filter(|source| !source.is_empty()),
            within: within(packages, package),
            described_by: described_by(package).cloned(),
            present: Some(is_there(package, &is_kept)),
        }
    };
    packages.iter().map(weigh).collect()
}

/// The file that describes a package of a language.
fn described_by(package: &crate::packages::Package) -> Option<&ImagePath> {
    let head = |path: &&ImagePath| path.as_bytes().ends_with(b"/METADATA") || path.as_bytes().ends_with(b"/PKG-INFO");
    let found = package.description.iter().find(head).or(package.description.first());
    found.filter(|_| !package.system.is_os())
}

/// The package of the operating system that brought a package of a language: its description, or what has none.
fn within(packages: &Packages, package: &crate::packages::Package) -> Option<String> {
    let mark = described_by(package).or(package.files.first()).filter(|_| !package.system.is_os());
    mark.and_then(|path| of_system(packages, path))
}

/// The package of the operating system that owns a file.
fn of_system(packages: &Packages, path: &ImagePath) -> Option<String> {
    packages.owner(path).filter(|owner| owner.system.is_os()).map(package_label)
}

/// Those that are in files.
pub fn embedded(packages: &Packages, is_kept: impl Fn(&ImagePath) -> bool) -> Vec<Embedded> {
    let tell = |one: &crate::packages::Embedded| Embedded {
        path: one.path.clone(),
        language: one.found.language.name().to_owned(),
        name: one.found.name.clone(),
        version: one.found.version.clone(),
        purl: purl::in_language(one.found.language, &one.found.name, &one.found.version),
        within: packages.owner(&one.path).map(package_label),
        kept: is_kept(&one.path),
    };
    packages.embedded.iter().map(tell).collect()
}

/// The distribution.
pub fn os(packages: &Packages) -> Option<Os> {
    packages.os.as_ref().map(|os| Os { id: os.id.clone(), version: os.version.clone() })
}

/// Their content, each inode once.
pub fn bytes<'a>(tree: &Tree, paths: impl IntoIterator<Item = &'a ImagePath>) -> u64 {
    let mut seen = HashSet::new();
    let entries = paths.into_iter().filter_map(|path| tree.get(path));
    entries.filter(|entry| entry.hardlink.is_none_or(|id| seen.insert(id))).map(|entry| entry.size).sum()
}
