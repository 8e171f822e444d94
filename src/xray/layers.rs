//! Layers: one pass over each layer, from the lowest to the highest: what it adds, changes and removes, whose content
//! the merged image shows, and what of it looks like a secret. Content is read and let go, one file at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use super::certificates::Certificates;
use super::model::{Changes, Weight};
use super::secrets::{Finder, MAX_TEXT};
use crate::image::{ImagePath, Kind, Tree};
use crate::store::members::{Member, What};
use crate::store::merge::{Laid, Merge};

/// SHA-256 of a file's content.
pub type Sum = [u8; 32];

/// Where the content of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The layer, from 0.
    pub layer: usize,
    /// Its sum; `None` for what has no content of its own.
    pub sum: Option<Sum>,
}

/// One layer, read.
#[derive(Debug, Default)]
pub struct Done {
    /// Content of its members.
    pub bytes: u64,
    /// What was not there.
    pub added: Changes,
    /// What was another file.
    pub changed: Changes,
    /// What it took away.
    pub removed: Changes,
}

/// An image in the reading.
#[derive(Default)]
pub struct Stack {
    merge: Merge,
    /// Of everything that is there now and no directory.
    origins: BTreeMap<ImagePath, Origin>,
    /// The layers so far.
    pub layers: Vec<Done>,
    /// The certificates in them.
    pub certificates: Certificates,
}

impl Stack {
    /// Lays a layer (an uncompressed tar stream) on top. `top`: so many paths of each kind are named.
    ///
    /// # Errors
    /// When the layer is malformed or exceeds a limit.
    pub fn layer(&mut self, layer: impl Read, finder: &mut Finder, top: usize) -> Result<()> {
        let at = self.layers.len();
        let (mut sums, mut bytes, before) = (BTreeMap::new(), 0, finder.found.len());
        let certificates = &mut self.certificates;
        let laid = self.merge.layer_seen(layer, |path, member, content| {
            bytes += match &member.what {
                What::Kind(kind) => weight(kind, member.size),
                What::Hardlink(_) => 0,
            };
            if member.what == What::Kind(Kind::File) {
                sums.insert(path.clone(), read(path, member, content, |text| {
                    finder.file(path, at as u64 + 1, text);
                    certificates.file(path, at, text.unwrap_or_default());
                })?);
            }
            Ok(())
        })?;
        let hidden: BTreeSet<&ImagePath> = laid.hidden.iter().map(|(path, _)| path).collect();
        for secret in &mut finder.found[..before] {
            if let Some(path) = secret.path.as_ref().filter(|path| secret.gone_in.is_none() && hidden.contains(path)) {
                secret.replaced = laid.upper.contains(path);
                secret.gone_in = Some(at as u64 + 1);
            }
        }
        let mut done = changes(&laid, top);
        done.bytes = bytes;
        self.layers.push(done);
        self.place(laid, sums);
        Ok(())
    }

    /// Whose content is where now.
    fn place(&mut self, laid: Laid, sums: BTreeMap<ImagePath, Sum>) {
        let layer = self.layers.len() - 1;
        for (path, _) in &laid.hidden {
            self.origins.remove(path);
        }
        let ids = laid.upper.iter().filter_map(|(path, entry)| Some((entry.hardlink?, *sums.get(path)?)));
        let of_inode: HashMap<u64, Sum> = ids.collect();
        for (path, entry) in laid.upper.iter().filter(|(_, entry)| !entry.is_dir()) {
            let of_other = || entry.hardlink.and_then(|id| of_inode.get(&id));
            let sum = sums.get(path).or_else(of_other).copied();
            self.origins.insert(path.clone(), Origin { layer, sum });
        }
    }

    /// The merged tree.
    pub fn tree(&self) -> &Tree {
        self.merge.so_far()
    }

    /// Where the content of a file of the tree is; `None` for directories and what is not there.
    pub fn origin(&self, path: &ImagePath) -> Option<&Origin> {
        self.origins.get(path)
    }

    /// What of the tree counts, each inode once: its path, its weight, where it is.
    pub fn contents(&self) -> impl Iterator<Item = (&ImagePath, u64, &Origin)> {
        let mut seen = HashSet::new();
        self.tree().iter().filter_map(move |(path, entry)| {
            let weight = weight(&entry.kind, entry.size);
            let counts = weight > 0 && entry.hardlink.is_none_or(|id| seen.insert(id));
            counts.then(|| Some((path, weight, self.origins.get(path)?))).flatten()
        })
    }

    /// For each layer, what of its content the merged image does not have.
    pub fn wasted(&self) -> Vec<u64> {
        let mut wasted: Vec<u64> = self.layers.iter().map(|layer| layer.bytes).collect();
        for (_, weight, origin) in self.contents() {
            wasted[origin.layer] = wasted[origin.layer].saturating_sub(weight);
        }
        wasted
    }
}

/// Bytes as engines count them: the content of a file, the target of a symlink.
fn weight(kind: &Kind, size: u64) -> u64 {
    match kind {
        Kind::Symlink { target } => target.len() as u64,
        Kind::File | Kind::Directory | Kind::Fifo | Kind::Socket | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => size,
    }
}

/// Reads a file for its sum; `see` gets its content, or `None` where that is too long to be searched.
fn read(path: &ImagePath, member: &Member, content: &mut impl Read, mut see: impl FnMut(Option<&[u8]>)) -> Result<Sum> {
    let mut hash = Sha256::new();
    let mut text = Vec::new();
    content.take(MAX_TEXT).read_to_end(&mut text).with_context(|| format!("read {path}"))?;
    hash.update(&text);
    see((member.size <= MAX_TEXT).then_some(&text));
    drop(text);
    std::io::copy(content, &mut hash).with_context(|| format!("read {path}"))?;
    Ok(hash.finalize().into())
}

fn changes(laid: &Laid, top: usize) -> Done {
    let hidden: BTreeMap<&ImagePath, u64> = laid.hidden.iter().map(|(path, entry)| (path, entry.size)).collect();
    let (mut added, mut changed, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (path, entry) in laid.upper.iter().filter(|(_, entry)| !entry.is_dir()) {
        let list = if hidden.contains_key(path) { &mut changed } else { &mut added };
        list.push((path, entry.size));
    }
    let taken = |path: &ImagePath| laid.upper.get(path).is_none_or(|entry| entry.is_dir());
    removed.extend(hidden.iter().filter(|(path, _)| taken(path)).map(|(path, size)| (*path, *size)));
    Done { bytes: 0, added: summed(added, top), changed: summed(changed, top), removed: summed(removed, top) }
}

fn summed(mut paths: Vec<(&ImagePath, u64)>, top: usize) -> Changes {
    let (files, bytes) = (paths.len() as u64, paths.iter().map(|(_, bytes)| bytes).sum());
    // They are in path order, which stays among equal ones.
    paths.sort_by_key(|(_, bytes)| Reverse(*bytes));
    let weight = |(path, bytes): (&ImagePath, u64)| Weight { path: path.clone(), bytes };
    Changes { files, bytes, largest: paths.into_iter().take(top).map(weight).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer of regular files; a name that begins with `.wh.` deletes.
    fn layer(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn stack(layers: &[Vec<u8>]) -> (Stack, Finder) {
        let (mut stack, mut finder) = (Stack::default(), Finder::new().unwrap());
        for layer in layers {
            stack.layer(&layer[..], &mut finder, 2).unwrap();
        }
        (stack, finder)
    }

    #[test]
    fn what_a_later_layer_replaces_or_deletes_is_wasted() {
        let (stack, _) = stack(&[
            layer(&[("a", "12345"), ("b", "123"), ("c", "1")]),
            layer(&[("a", "1234567"), (".wh.b", ""), ("d", "12")]),
        ]);
        assert_eq!(stack.wasted(), [8, 0]);
        let counts = |changes: &Changes| (changes.files, changes.bytes);
        let [low, high] = &stack.layers[..] else { panic!() };
        assert_eq!((low.bytes, counts(&low.added)), (9, (3, 9)));
        assert_eq!(low.added.largest, [Weight { path: "/a".into(), bytes: 5 }, Weight { path: "/b".into(), bytes: 3 }]);
        assert_eq!((counts(&high.added), counts(&high.changed), counts(&high.removed)), ((1, 2), (1, 7), (1, 3)));
        assert_eq!(stack.origin(&"/c".into()).map(|origin| origin.layer), Some(0));
    }

    #[test]
    fn a_secret_that_a_later_layer_deleted_is_still_found() {
        let (_, finder) = stack(&[
            layer(&[("root/.ssh/id_rsa", "x"), ("root/.bash_history", "ls"), ("app/.git/HEAD", "ref")]),
            layer(&[("root/.ssh/.wh.id_rsa", ""), ("root/.bash_history", "")]),
            layer(&[("app/.wh..wh..opq", "")]),
        ]);
        let found: Vec<_> = finder.found.iter().map(|s| (s.rule.as_str(), s.layer, s.gone_in, s.replaced)).collect();
        assert_eq!(found, [
            ("ssh-key", Some(1), Some(2), false),
            ("shell-history", Some(1), Some(2), true),
            ("git-directory", Some(1), Some(3), false),
            ("shell-history", Some(2), None, false),
        ]);
    }
}
