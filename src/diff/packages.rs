//! Packages: which came, went, or have another version, and of which only a part is left.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::model::{self, Fate, Packages, Share};
use super::side::{Package, Side};

/// Compares what both sides have; `None` where one does not know its packages.
pub fn packages(before: &Side, after: &Side) -> Option<Packages> {
    let (old, new) = (named(before.packages.as_ref()?), named(after.packages.as_ref()?));
    let names: BTreeSet<&(&str, &str)> = old.keys().chain(new.keys()).collect();
    let mut list = Vec::new();
    for name in names {
        let empty = Vec::new();
        let (old, new) = (old.get(name).unwrap_or(&empty), new.get(name).unwrap_or(&empty));
        list.extend(paired(old, new).into_iter().map(|(old, new)| judged(old, new, after)));
    }
    let mut packages = Packages::default();
    for package in &list {
        *packages.counts.entry(word(package.state)).or_default() += 1;
    }
    packages.whole = packages.counts.remove(word(Fate::Whole)).unwrap_or(0);
    list.retain(|package| package.state != Fate::Whole);
    let bytes = |share: &Option<Share>| share.as_ref().map_or(0, |share| share.bytes);
    list.sort_by_cached_key(|package| (package.state, Reverse(bytes(&package.before).max(bytes(&package.after)))));
    packages.list = list;
    Some(packages)
}

/// The word for a state.
pub fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::New => "new",
        Fate::Version => "version",
        Fate::More => "more",
        Fate::Part => "part",
        Fate::Gone => "gone",
        Fate::Whole => "whole",
    }
}

type Named<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Package>>;

fn named(packages: &[Package]) -> Named<'_> {
    let mut named = Named::new();
    for package in packages {
        named.entry((&package.system, &package.name)).or_default().push(package);
    }
    named
}

/// Packages of one name: those of the same version belong together, then the others in their order.
fn paired<'a>(old: &[&'a Package], new: &[&'a Package]) -> Vec<(Option<&'a Package>, Option<&'a Package>)> {
    let mut rest: Vec<&Package> = new.to_vec();
    let mut pairs = Vec::new();
    let mut alone = Vec::new();
    for package in old {
        match rest.iter().position(|other| other.version == package.version) {
            Some(at) => pairs.push((Some(*package), Some(rest.remove(at)))),
            None => alone.push(*package),
        }
    }
    let mut rest = rest.into_iter();
    pairs.extend(alone.into_iter().map(|package| (Some(package), rest.next())));
    pairs.extend(rest.map(|package| (None, Some(package))));
    pairs
}

fn judged(old: Option<&Package>, new: Option<&Package>, after: &Side) -> model::Package {
    // Of what the old one had, as far as it is still there: a database may say more, or less, than is true.
    let left = old.zip(after.files.as_ref()).and_then(|(old, files)| {
        let kept: Vec<u64> = old.paths.as_ref()?.iter().filter_map(|path| Some(files.get(path)?.size)).collect();
        Some((kept.len() as u64, kept.iter().sum::<u64>()))
    });
    let mut share = new.map(|new| Share { version: new.version.clone(), files: new.files, bytes: new.bytes, of: new.of });
    let mut only_listed = false;
    if let (Some(old), Some((files, bytes))) = (old, left)
        // A report knows how many are left, and of two images more than before is no loss. A report counts the files of
        // the original's packages, an image those of its own databases: of these two the paths alone say it.
        && new.is_none_or(|new| new.version == old.version && new.of.is_none() && (old.of.is_some() || new.files <= old.files))
    {
        only_listed = files == 0 && old.files > 0 && new.is_some_and(|new| new.files == 0);
        let stays = files > 0 || (new.is_some() && old.files == 0);
        share = stays.then(|| Share { version: old.version.clone(), files, bytes, of: Some(old.files) });
    }
    let state = match (old, &share) {
        (None, _) => Fate::New,
        (Some(_), None) => Fate::Gone,
        (Some(old), Some(share)) if old.version != share.version => Fate::Version,
        (Some(old), Some(share)) if share.files < old.files => Fate::Part,
        (Some(old), Some(share)) if share.files > old.files => Fate::More,
        (Some(_), Some(_)) => Fate::Whole,
    };
    let some = old.or(new);
    model::Package {
        state,
        system: some.map(|package| package.system.clone()).unwrap_or_default(),
        name: some.map(|package| package.name.clone()).unwrap_or_default(),
        before: old.map(|old| Share { version: old.version.clone(), files: old.files, bytes: old.bytes, of: old.of }),
        after: share,
        only_listed,
    }
}
