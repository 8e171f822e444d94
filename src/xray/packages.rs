//! Packages: what package managers say of an image, with sizes, and what nobody says he owns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Read, Seek};

use anyhow::{Context, Result, anyhow};
use sha2::{Digest as _, Sha256};
use tempfile::SpooledTempFile;

use super::layers::{Stack, Sum};
use super::model::{About, Package, Unowned, Weight};
use crate::exit::Exit;
use crate::image::{ImagePath, Tree};
use crate::packages::embedded::{self, Embedded};
use crate::packages::{self, Packages, Step, Texts};
use crate::keep::package_label;
use crate::report::bom::{Bom, Head};
use crate::report::{self, packages::bytes};
use crate::store::Image;
use crate::store::merge::Merge;

/// Rounds of asking for files of package managers: a chain of references among them is never this long.
const MAX_ROUNDS: usize = 100;

/// Larger files are set aside on disk.
const IN_MEMORY: usize = 16 << 20;

/// Reads the packages of an image. Only layers that hold a wanted file are read once more.
///
/// # Errors
/// When a layer cannot be read.
pub fn read(image: &Image, stack: &Stack) -> Result<Packages> {
    let mut texts = Texts::new();
    for _ in 0..MAX_ROUNDS {
        match packages::read(stack.tree(), &texts) {
            Step::Need(paths) => texts.extend(contents(image, stack, &paths)?),
            Step::Done(mut packages) => {
                packages.embedded = inside(image, stack, &embedded::candidates(stack.tree(), &packages))?;
                return Ok(packages);
            }
        }
    }
    Err(anyhow!("reading packages asks for ever more files")).context(Exit::Bug)
}

/// The packages in files of the merged tree, by path.
fn inside(image: &Image, stack: &Stack, paths: &BTreeSet<ImagePath>) -> Result<Vec<Embedded>> {
    let mut all = BTreeSet::new();
    // Programs may be large: only their headers and a section are looked at.
    each(image, stack, (paths, u64::MAX), |path, content| {
        let found = embedded::inside(path, content);
        all.extend(found.into_iter().map(|found| Embedded { path: path.clone(), found }));
        Ok(())
    })?;
    Ok(all.into_iter().collect())
}

/// Contents of files of the merged tree. What cannot be had is empty.
fn contents(image: &Image, stack: &Stack, paths: &BTreeSet<ImagePath>) -> Result<Texts> {
    let mut texts: Texts = paths.iter().map(|path| (path.clone(), Vec::new())).collect();
    each(image, stack, (paths, packages::MAX_TEXT), |path, content| {
        let mut text = Vec::new();
        content.read_to_end(&mut text).context("read the package databases")?;
        texts.insert(path.clone(), text);
        Ok(())
    })?;
    Ok(texts)
}

/// Shows the content of files of the merged tree that have at most `most` bytes, one after the other. Each layer that
/// has one is read once more; a large file lies on disk meanwhile.
fn each(
    image: &Image,
    stack: &Stack,
    (paths, most): (&BTreeSet<ImagePath>, u64),
    mut see: impl FnMut(&ImagePath, &mut SpooledTempFile) -> Result<()>,
) -> Result<()> {
    // By their sums: of an inode with several names, another name may have the content.
    let mut wanted: BTreeMap<usize, BTreeMap<Sum, Vec<&ImagePath>>> = BTreeMap::new();
    for path in paths {
        if let Some((origin, sum)) = stack.origin(path).and_then(|origin| Some((origin, origin.sum?))) {
            wanted.entry(origin.layer).or_default().entry(sum).or_default().push(path);
        }
    }
    for (layer, sums) in wanted {
        let sizes: HashSet<u64> = sums.values().flatten().filter_map(|path| Some(stack.tree().get(path)?.size)).collect();
        let seen = Merge::new().layer_seen(image.layer(layer)?, |_, member, content| {
            if !sizes.contains(&member.size) || member.size > most {
                return Ok(());
            }
            let mut spool = SpooledTempFile::new(IN_MEMORY);
            std::io::copy(content, &mut spool).context("set a file aside")?;
            spool.rewind()?;
            let mut hash = Sha256::new();
            std::io::copy(&mut spool, &mut hash)?;
            let sum: Sum = hash.finalize().into();
            for path in sums.get(&sum).into_iter().flatten() {
                spool.rewind()?;
                see(path, &mut spool)?;
            }
            Ok(())
        });
        seen.with_context(|| format!("read the layer {}", image.layers[layer].diff_id))?;
    }
    Ok(())
}

/// All of it, part by part.
pub fn bom(tree: &Tree, packages: &Packages, about: &About) -> Bom {
    let mut all = report::packages::packages(tree, packages, |_| true);
    // Nothing was taken from it: a package of nothing but documentation is there too.
    all.iter_mut().for_each(|package| package.present = Some(true));
    let embedded = report::packages::embedded(packages, |_| true);
    let os = report::packages::os(packages);
    let owners: Vec<(&ImagePath, Option<String>)> = tree
        .iter()
        .filter(|(_, entry)| !entry.is_dir())
        .map(|(path, _)| (path, packages.owner(path).map(package_label)))
        .collect();
    let head = Head { name: &about.reference, digest: &about.id, created: &about.created, os: os.as_ref() };
    Bom::new(head, (&all, &embedded), owners.iter().map(|(path, owner)| (*path, owner.as_deref())))
}

/// All packages, the largest first.
pub fn weighed(tree: &Tree, packages: &Packages) -> Vec<Package> {
    let told = |package: crate::report::model::Package| Package {
        system: package.system,
        name: package.name,
        version: package.version,
        files: package.files,
        bytes: package.bytes,
    };
    let mut all: Vec<Package> = report::packages::packages(tree, packages, |_| true).into_iter().map(told).collect();
    // They are in order, which stays among equal ones.
    all.sort_by_key(|package| Reverse(package.bytes));
    all
}

/// Files that no package owns.
pub fn unowned(tree: &Tree, packages: &Packages) -> Unowned {
    let free = |path: &&ImagePath| packages.owner(path).is_none();
    let files: Vec<&ImagePath> = tree.iter().filter(|(_, entry)| !entry.is_dir()).map(|(path, _)| path).filter(free).collect();
    let mut by_top: BTreeMap<ImagePath, Vec<&ImagePath>> = BTreeMap::new();
    for path in &files {
        // What lies in the root itself counts there.
        let top = path.ancestors().filter(|above| !above.is_root()).min().unwrap_or_else(ImagePath::root);
        by_top.entry(top).or_default().push(path);
    }
    let mut directories: Vec<Weight> = by_top.into_iter().map(|(path, files)| Weight { path, bytes: bytes(tree, files) }).collect();
    directories.sort_by_key(|directory| Reverse(directory.bytes));
    Unowned { files: files.len() as u64, bytes: bytes(tree, files), directories }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{System, tree_of};

    #[test]
    fn what_no_package_owns_is_summed_by_directory_of_the_root() {
        let mut tree = tree_of(&["/app/a/x", "/app/y", "/usr/bin/z", "/start.sh"]);
        for (path, size) in [("/app/a/x", 10), ("/app/y", 5), ("/usr/bin/z", 100), ("/start.sh", 1)] {
            let mut entry = tree.get(&path.into()).unwrap().clone();
            entry.size = size;
            tree.insert(path.into(), entry);
        }
        let mut owner = packages::Package::new(System::Dpkg, "z", "1.2");
        owner.files = BTreeSet::from(["/usr/bin/z".into()]);
        let packages = Packages::new(vec![owner], Vec::new());
        let unowned = unowned(&tree, &packages);
        assert_eq!((unowned.files, unowned.bytes), (3, 16));
        assert_eq!(unowned.directories, [Weight { path: "/app".into(), bytes: 15 }, Weight { path: "/".into(), bytes: 1 }]);
        let weighed = weighed(&tree, &packages);
        assert_eq!((weighed[0].name.as_str(), weighed[0].files, weighed[0].bytes), ("z", 1, 100));
    }
}
