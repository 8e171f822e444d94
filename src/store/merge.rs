//! Merge: the file tree of an image from its layers' headers alone, so that nothing has to be unpacked, mounted
//! or run to see it.
//!
//! The same meaning as unpacking each layer into a directory of its own and stacking these by overlayfs.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context, Result, bail};

use super::members::{Member, Members, What};
use super::whiteout::{self, Meaning};
use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath, Kind, Tree};

/// A merged tree in the making: layers are laid on it from the lowest to the highest.
#[derive(Debug)]
pub struct Merge {
    tree: Tree,
    inodes: u64,
}

impl Default for Merge {
    fn default() -> Self {
        Self::new()
    }
}

impl Merge {
    /// Before the first layer there is an empty root.
    pub fn new() -> Self {
        Self { tree: [(ImagePath::root(), Entry::new(Kind::Directory))].into_iter().collect(), inodes: 0 }
    }

    /// Lays a layer (an uncompressed tar stream) on top. The stream is read to its end.
    ///
    /// # Errors
    /// When the layer is malformed or exceeds a limit.
    pub fn layer(&mut self, layer: impl Read) -> Result<()> {
        let mut members = Members::new(layer);
        let mut upper = Upper::default();
        while let Some(member) = members.next_member()? {
            upper.place(member, &mut self.inodes)?;
        }
        std::io::copy(&mut members.into_inner(), &mut std::io::sink()).context("read the layer")?;
        upper.onto(&mut self.tree);
        Ok(())
    }

    /// The tree.
    pub fn tree(self) -> Tree {
        self.tree
    }
}

/// One layer.
#[derive(Default)]
struct Upper {
    tree: Tree,
    /// Paths of the layers below that are gone, and directories that hide what those hold.
    gone: BTreeSet<ImagePath>,
    opaque: BTreeSet<ImagePath>,
}

impl Upper {
    fn place(&mut self, member: Member, inodes: &mut u64) -> Result<()> {
        match whiteout::meaning(&member)? {
            Meaning::Nothing => Ok(()),
            Meaning::Entry(path) => self.entry(&path, member, inodes).with_context(|| format!("read {path}")),
            Meaning::Opaque(dir) => {
                let dir = self.made(&dir);
                self.opaque.insert(dir);
                Ok(())
            }
            Meaning::Gone(path) => {
                let path = self.real(&path);
                self.gone.insert(path);
                Ok(())
            }
        }
    }

    fn entry(&mut self, path: &ImagePath, member: Member, inodes: &mut u64) -> Result<()> {
        let path = self.real(path);
        let entry = match member.what {
            What::Kind(Kind::CharDevice { rdev: (0, 0) }) => {
                bail!("it is the device 0/0, which overlayfs takes for a whiteout")
            }
            What::Kind(kind) => Entry {
                mode: if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { member.mode },
                kind,
                uid: member.uid,
                gid: member.gid,
                mtime: member.mtime,
                size: member.size,
                allocated: 0,
                hardlink: None,
                xattrs: member.xattrs,
            },
            What::Hardlink(target) => self.linked(&path, &target, inodes)?,
        };
        if path.is_root() && !entry.is_dir() {
            bail!("the root is no directory");
        }
        if !(entry.is_dir() && self.tree.get(&path).is_some_and(Entry::is_dir)) {
            self.tree.remove(&path);
        }
        self.tree.insert(path, entry);
        Ok(())
    }

    /// The entry of a further name of a file; the file then says that it has several.
    fn linked(&mut self, path: &ImagePath, target: &[u8], inodes: &mut u64) -> Result<Entry> {
        let named = whiteout::inside(target)?;
        let found = self.tree.resolve(&ImagePath::root(), named.as_bytes(), Follow::NotLast).found;
        let first = found.and_then(|found| Some((self.tree.get(&found)?.clone(), found)));
        let Some((mut entry, found)) = first.filter(|(_, found)| found != path) else {
            bail!("it is a hardlink to {named}, which the layer does not hold");
        };
        if entry.is_dir() {
            bail!("it is a hardlink to the directory {named}");
        }
        if entry.hardlink.is_none() {
            *inodes += 1;
            entry.hardlink = Some(*inodes);
            self.tree.insert(found, entry.clone());
        }
        Ok(entry)
    }

    /// Where a path really is in this layer: its directory resolved and made where it is missing.
    fn real(&mut self, path: &ImagePath) -> ImagePath {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => self.made(&parent).child(name),
            _ => path.clone(),
        }
    }

    fn made(&mut self, dir: &ImagePath) -> ImagePath {
        let mut at = ImagePath::root();
        for part in dir.components() {
            let below = at.child(part);
            let found = self.tree.resolve(&ImagePath::root(), below.as_bytes(), Follow::All).found;
            at = match found.filter(|found| found.is_root() || self.tree.get(found).is_some_and(Entry::is_dir)) {
                Some(found) => found,
                None => {
                    self.tree.remove(&below);
                    self.tree.insert(below.clone(), Entry::new(Kind::Directory));
                    below
                }
            };
        }
        at
    }

    fn onto(self, tree: &mut Tree) {
        for path in &self.gone {
            tree.remove(path);
        }
        for dir in &self.opaque {
            tree.remove_below(dir);
        }
        for (path, entry) in self.tree.iter() {
            if !entry.is_dir() || tree.get(path).is_some_and(|below| !below.is_dir()) {
                tree.remove(path);
            }
            tree.insert(path.clone(), entry.clone());
        }
    }
}
