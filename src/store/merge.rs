//! Merge: the file tree of an image from its layers' headers alone, so that nothing has to be unpacked, mounted
//! or run to see it.
//!
//! The same meaning as unpacking each layer into a directory of its own and stacking these by overlayfs.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context, Result, bail};

use super::members::{Content, Member, Members, What};
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
        self.layer_seen(layer, |_, _, _| Ok(())).map(drop)
    }

    /// The same; `see` is shown each member that is a file of the layer: where it really is there, its header, its
    /// content.
    ///
    /// # Errors
    /// As [`Merge::layer`], and those of `see`.
    pub fn layer_seen<R: Read>(
        &mut self,
        layer: R,
        mut see: impl FnMut(&ImagePath, &Member, &mut Content<'_, R>) -> Result<()>,
    ) -> Result<Laid> {
        let mut members = Members::new(layer);
        let mut upper = Upper::default();
        while let Some(member) = members.next_member()? {
            if let Some((path, member)) = upper.place(member)? {
                see(&path, &member, &mut members.content()).with_context(|| format!("read {path}"))?;
                upper.entry(&path, member, &mut self.inodes).with_context(|| format!("read {path}"))?;
            }
        }
        std::io::copy(&mut members.into_inner(), &mut std::io::sink()).context("read the layer")?;
        Ok(upper.onto(&mut self.tree))
    }

    /// The tree so far.
    pub fn so_far(&self) -> &Tree {
        &self.tree
    }

    /// The tree.
    pub fn tree(self) -> Tree {
        self.tree
    }
}

/// What a layer did to the tree.
pub struct Laid {
    /// What it holds.
    pub upper: Tree,
    /// What the layers below held and is gone or another now, directories left out.
    pub hidden: Vec<(ImagePath, Entry)>,
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
    /// Where a member's file really is; `None` for one that speaks of the layers below.
    fn place(&mut self, member: Member) -> Result<Option<(ImagePath, Member)>> {
        match whiteout::meaning(&member)? {
            Meaning::Nothing => {}
            Meaning::Entry(path) => return Ok(Some((self.real(&path), member))),
            Meaning::Opaque(dir) => {
                let dir = self.made(&dir);
                self.opaque.insert(dir);
            }
            Meaning::Gone(path) => {
                let path = self.real(&path);
                self.gone.insert(path);
            }
        }
        Ok(None)
    }

    fn entry(&mut self, path: &ImagePath, member: Member, inodes: &mut u64) -> Result<()> {
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
            What::Hardlink(target) => self.linked(path, &target, inodes)?,
        };
        if path.is_root() && !entry.is_dir() {
            bail!("the root is no directory");
        }
        if !(entry.is_dir() && self.tree.get(path).is_some_and(Entry::is_dir)) {
            self.tree.remove(path);
        }
        self.tree.insert(path.clone(), entry);
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

    fn onto(self, tree: &mut Tree) -> Laid {
        let mut hidden = Vec::new();
        for path in &self.gone {
            hide(tree, path, &mut hidden);
        }
        for dir in &self.opaque {
            let below: Vec<ImagePath> = tree.below(dir).map(|(path, _)| path.clone()).collect();
            below.iter().for_each(|path| hide(tree, path, &mut hidden));
        }
        for (path, entry) in self.tree.iter() {
            if !entry.is_dir() || tree.get(path).is_some_and(|below| !below.is_dir()) {
                hide(tree, path, &mut hidden);
            }
            tree.insert(path.clone(), entry.clone());
        }
        Laid { upper: self.tree, hidden }
    }
}

/// Takes away what is at a path, with everything below it, and remembers it.
fn hide(tree: &mut Tree, path: &ImagePath, hidden: &mut Vec<(ImagePath, Entry)>) {
    match tree.get(path) {
        None => {}
        Some(entry) if entry.is_dir() => {
            let below = tree.below(path).filter(|(_, entry)| !entry.is_dir());
            hidden.extend(below.map(|(path, entry)| (path.clone(), entry.clone())));
            tree.remove(path);
        }
        Some(entry) => {
            hidden.push((path.clone(), entry.clone()));
            tree.remove(path);
        }
    }
}
