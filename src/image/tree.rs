//! Tree: every file of an image as its merged layers show it, with all the metadata a layer can carry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::path::ImagePath;

/// How many symlinks a lookup follows before it gives up, as the kernel does (ELOOP, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What kind of file an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; the target is as stored, relative or absolute.
    Symlink {
        /// The link's bytes.
        #[serde(with = "text_bytes")]
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A unix socket. Layers cannot hold one; a container's view can.
    Socket,
    /// A character device.
    CharDevice {
        /// Device number as major, minor.
        rdev: (u32, u32),
    },
    /// A block device.
    BlockDevice {
        /// Device number as major, minor.
        rdev: (u32, u32),
    },
}

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Content length in bytes; 0 for everything but regular files.
    pub size: u64,
    /// Bytes allocated on disk, for sparse detection; 0 when unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub allocated: u64,
    /// Identity shared by all names of one inode. `None` for a file with one name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardlink: Option<u64>,
    /// Extended attributes, name (with its namespace) to value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Entry {
    /// An entry of this kind owned by root, mode 0644 (0755 for directories, 0777 for symlinks), time 0.
    pub fn new(kind: Kind) -> Self {
        let mode = match kind {
            Kind::Directory => 0o755,
            Kind::Symlink { .. } => 0o777,
            Kind::File
            | Kind::Fifo
            | Kind::Socket
            | Kind::CharDevice { .. }
            | Kind::BlockDevice { .. } => 0o644,
        };
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            allocated: 0,
            hardlink: None,
            xattrs: BTreeMap::new(),
        }
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The target of a symlink; `None` for every other kind.
    pub fn link_target(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Symlink { target } => Some(target),
            _ => None,
        }
    }

    /// Whether anyone may execute it.
    pub fn is_executable(&self) -> bool {
        self.is_file() && self.mode & 0o111 != 0
    }
}

/// Where a lookup led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The path that the lookup ends at, with every symlink resolved; `None` where a component is missing,
    /// is not a directory, or links go round in circles.
    pub found: Option<ImagePath>,
    /// The symlinks that were followed, in order.
    pub links: Vec<ImagePath>,
    /// Directories that were entered and left again by `..`: they have to exist for the lookup to succeed.
    pub passed: Vec<ImagePath>,
    /// The last existing thing the lookup came to; the same as `found` where that is `Some`.
    pub reached: ImagePath,
}

/// Whether a lookup follows a symlink in its last component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// As open(2) and stat(2).
    All,
    /// As lstat(2) and readlink(2).
    NotLast,
}

/// A merged file tree. Iteration is in [`ImagePath`] order: a directory stands before what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<ImagePath, Entry>,
}

impl Tree {
    /// A tree without even a root directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, path: ImagePath, entry: Entry) {
        self.entries.insert(path, entry);
    }

    /// Takes away what is at exactly this path, with everything below it.
    pub fn remove(&mut self, path: &ImagePath) {
        if self.entries.remove(path).is_some_and(|entry| entry.is_dir()) {
            self.remove_below(path);
        }
    }

    /// Takes away everything below a directory.
    pub fn remove_below(&mut self, dir: &ImagePath) {
        let below: Vec<ImagePath> = self.below(dir).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.entries.remove(&path);
        }
    }

    /// The entry at exactly this path, no symlink followed.
    pub fn get(&self, path: &ImagePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Whether something is at exactly this path.
    pub fn contains(&self, path: &ImagePath) -> bool {
        self.entries.contains_key(path)
    }

    /// All entries in path order.
    pub fn iter(&self) -> impl Iterator<Item = (&ImagePath, &Entry)> {
        self.entries.iter()
    }

    /// Everything below a directory, at any depth, without the directory itself.
    pub fn below<'a>(&'a self, dir: &'a ImagePath) -> impl Iterator<Item = (&'a ImagePath, &'a Entry)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.entries
            .range((Excluded(dir.clone()), Unbounded))
            .take_while(move |(path, _)| path.starts_with(dir))
    }

    /// What a directory holds itself.
    pub fn children<'a>(&'a self, dir: &'a ImagePath) -> impl Iterator<Item = (&'a ImagePath, &'a Entry)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let depth = dir.components().count() + 1;
        let mut from = Excluded(dir.clone());
        std::iter::from_fn(move || {
            loop {
                let (path, entry) = self.entries.range((from.clone(), Unbounded)).next()?;
                if !path.starts_with(dir) {
                    return None;
                }
                // The next one that does not lie below this: byte 1 sorts right after the slash.
                from = Included(path.after_below());
                if path.components().count() == depth {
                    return Some((path, entry));
                }
            }
        })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of content, each inode counted once.
    pub fn bytes(&self) -> u64 {
        let mut seen = std::collections::BTreeSet::new();
        self.entries
            .values()
            .filter(|entry| entry.hardlink.is_none_or(|id| seen.insert(id)))
            .map(|entry| entry.size)
            .sum()
    }

    /// Everything whose path begins with these bytes, also within a component (`/usr/lib/lib`).
    pub fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a ImagePath, &'a Entry)> {
        // Such paths stand together: the order is that of bytes with `/` before everything else. A prefix
        // with a slash at its end names the directory, which itself does not begin with it.
        self.entries
            .range(ImagePath::new(prefix)..)
            .skip(usize::from(prefix.len() > 1 && prefix.ends_with(b"/") && self.contains(&ImagePath::new(prefix))))
            .take_while(move |(path, _)| path.as_bytes().starts_with(prefix))
    }

    /// Looks `raw` up as the kernel would inside this root (path_resolution(7)): relative to `base`, through
    /// symlinks, `..` applied to where a link led and stopping at the root. A slash at the end asks for what
    /// a last symlink leads to, also with [`Follow::NotLast`].
    pub fn resolve(&self, base: &ImagePath, raw: &[u8], follow: Follow) -> Resolution {
        let absolute = raw.first() == Some(&b'/');
        let follow_last = follow == Follow::All || raw.ends_with(b"/") || raw.ends_with(b"/.");
        if let Some(found) = self.plainly(base, raw, follow_last) {
            return Resolution { found: Some(found.clone()), links: Vec::new(), passed: Vec::new(), reached: found };
        }
        let mut walk = Resolution {
            found: None,
            links: Vec::new(),
            passed: Vec::new(),
            reached: if absolute { ImagePath::root() } else { base.clone() },
        };
        let mut todo: Vec<&[u8]> = split_reversed(raw).collect();
        while let Some(part) = todo.pop() {
            if part == b".." {
                if let Some(parent) = walk.reached.parent() {
                    walk.passed.push(std::mem::replace(&mut walk.reached, parent));
                }
                continue;
            }
            let next = walk.reached.child(part);
            let Some(entry) = self.get(&next) else { return walk };
            match &entry.kind {
                Kind::Symlink { target } if !todo.is_empty() || follow_last => {
                    if walk.links.len() == MAX_LINKS {
                        return walk;
                    }
                    walk.links.push(next);
                    if target.first() == Some(&b'/') {
                        walk.reached = ImagePath::root();
                    }
                    todo.extend(split_reversed(target));
                }
                Kind::Directory => walk.reached = next,
                _ if todo.is_empty() => walk.reached = next,
                _ => {
                    walk.reached = next;
                    return walk;
                }
            }
        }
        walk.found = Some(walk.reached.clone());
        walk
    }

    /// The most frequent lookup: no link and no `..` in it. What is in the tree lies in real directories only,
    /// so that one search answers.
    fn plainly(&self, base: &ImagePath, raw: &[u8], follow_last: bool) -> Option<ImagePath> {
        if raw.split(|b| *b == b'/').any(|part| part == b"..") {
            return None;
        }
        let path = base.join(raw);
        let entry = self.get(&path)?;
        (!follow_last || entry.link_target().is_none()).then_some(path)
    }

    /// [`Tree::resolve`] from the root, every symlink followed: where it ends.
    pub fn find(&self, raw: impl AsRef<[u8]>) -> Option<ImagePath> {
        self.resolve(&ImagePath::root(), raw.as_ref(), Follow::All).found
    }
}

/// Components in reverse, `.` and empty ones left out: a stack for [`Tree::resolve`].
fn split_reversed(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").rev()
}

impl FromIterator<(ImagePath, Entry)> for Tree {
    fn from_iter<I: IntoIterator<Item = (ImagePath, Entry)>>(entries: I) -> Self {
        Self {
            entries: entries.into_iter().collect(),
        }
    }
}

/// Bytes as the text form of [`super::path::encode_bytes`].
pub mod text_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::image::path::{decode_bytes, encode_bytes};

    /// Writes bytes as text.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode_bytes(bytes))
    }

    /// Reads bytes from text.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        decode_bytes(&text).ok_or_else(|| serde::de::Error::custom("broken \\ escape"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(lines: &[(&str, Kind)]) -> Tree {
        lines
            .iter()
            .map(|(path, kind)| (ImagePath::from(*path), Entry::new(kind.clone())))
            .collect()
    }

    fn link(to: &str) -> Kind {
        Kind::Symlink {
            target: to.as_bytes().to_vec(),
        }
    }

    #[test]
    fn dotdot_after_a_symlink_goes_up_from_where_the_link_led() {
        let tree = tree(&[
            ("/", Kind::Directory),
            ("/a", Kind::Directory),
            ("/a/b", Kind::Directory),
            ("/a/f", Kind::File),
            ("/l", link("a/b")),
            ("/loop", link("loop")),
            ("/up", link("../../../a/f")),
        ]);
        let root = ImagePath::root();
        let find = |raw: &str| tree.resolve(&root, raw.as_bytes(), Follow::All);
        assert_eq!(find("/l/../f").found, Some("/a/f".into()));
        assert_eq!(find("/l/../f").links, ["/l".into()]);
        assert_eq!(find("/up").found, Some("/a/f".into()));
        assert_eq!(find("/loop").found, None);
        assert_eq!(find("/a/f/x").found, None);
        let at = tree.resolve(&root, b"/up", Follow::NotLast);
        assert_eq!(at.found, Some("/up".into()));
        let slashed = tree.resolve(&root, b"/l/", Follow::NotLast);
        assert_eq!(slashed.found, Some("/a/b".into()));
        assert_eq!(find("/l/../f").passed, ["/a/b".into()]);
        assert_eq!(find("/a/none/x").reached, "/a".into());
        let below: Vec<String> = tree.with_prefix(b"/a/").map(|(p, _)| p.encode()).collect();
        assert_eq!(below, ["/a/b", "/a/f"]);
        let held = |dir: &str| tree.children(&dir.into()).map(|(p, _)| p.encode()).collect::<Vec<_>>();
        assert_eq!(held("/"), ["/a", "/l", "/loop", "/up"]);
        assert_eq!(held("/a"), ["/a/b", "/a/f"]);
        assert!(held("/a/b").is_empty());
        assert_eq!(tree.with_prefix(b"/lo").count(), 1);
        assert_eq!(tree.with_prefix(b"/").count(), tree.len());
    }

    #[test]
    fn a_hardlinked_inode_counts_once() {
        let mut one = Entry::new(Kind::File);
        one.size = 10;
        one.hardlink = Some(7);
        let tree: Tree = [("/a".into(), one.clone()), ("/b".into(), one)].into_iter().collect();
        assert_eq!(tree.bytes(), 10);
    }
}
