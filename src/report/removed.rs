//! Removed: what an image loses, counted so that hardlinks are not counted twice, and grouped by directory so
//! that a report of a big image stays small.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::model::{FileKind, Group, Mode, RemovedPath};
use crate::image::{Entry, ImagePath, Kind, Tree};

/// A report has at most this many groups.
pub const MAX_GROUPS: usize = 400;

/// A directory gets a group of its own when it holds at least one part in this many of all removed files or
/// bytes, and not less than [`FEW_FILES`] or [`FEW_BYTES`]. Directories of the root always do.
const SHARE: u64 = 500;
const FEW_FILES: u64 = 20;
const FEW_BYTES: u64 = 500_000;

/// Everything that a keep set leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Removed paths in path order, directories too.
    pub paths: Vec<RemovedPath>,
    /// Those that are not directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes, each inode once, none for an inode that keeps a name.
    pub bytes: u64,
    /// The files by directory.
    pub groups: Vec<Group>,
}

/// The paths of `tree` that `is_kept` does not name.
pub fn losses(tree: &Tree, is_kept: impl Fn(&ImagePath) -> bool) -> Losses {
    let mut counted: HashMap<u64, &ImagePath> = HashMap::new();
    for (path, inode) in tree.iter().filter(|(path, _)| is_kept(path)).filter_map(|(path, entry)| Some((path, entry.hardlink?))) {
        counted.entry(inode).or_insert(path);
    }
    let mut losses = Losses::default();
    let mut weights: Vec<(&ImagePath, u64)> = Vec::new();
    for (path, entry) in tree.iter().filter(|(path, _)| !is_kept(path)) {
        let same_as = entry.hardlink.and_then(|inode| counted.get(&inode).copied());
        losses.paths.push(RemovedPath { same_as: same_as.cloned(), ..removed_path(path, entry) });
        if entry.is_dir() {
            losses.directories += 1;
            continue;
        }
        let bytes = if same_as.is_none() { entry.size } else { 0 };
        if let (None, Some(inode)) = (same_as, entry.hardlink) {
            counted.insert(inode, path);
        }
        losses.files += 1;
        losses.bytes += bytes;
        weights.push((path, bytes));
    }
    losses.groups = group(&weights);
    losses
}

/// The report's word for a kind.
pub fn kind_of(kind: &Kind) -> FileKind {
    match kind {
        Kind::File => FileKind::File,
        Kind::Directory => FileKind::Directory,
        Kind::Symlink { .. } => FileKind::Symlink,
        Kind::Fifo => FileKind::Fifo,
        Kind::Socket => FileKind::Socket,
        Kind::CharDevice { .. } => FileKind::CharDevice,
        Kind::BlockDevice { .. } => FileKind::BlockDevice,
    }
}

/// Permission bits as reports hold them.
pub fn mode_of(entry: &Entry) -> Mode {
    Mode((entry.mode & 0o7777) as u16)
}

fn removed_path(path: &ImagePath, entry: &Entry) -> RemovedPath {
    RemovedPath {
        path: path.clone(),
        kind: kind_of(&entry.kind),
        size: entry.size,
        mode: mode_of(entry),
        package: None,
        layer: None,
        same_as: None,
    }
}

/// A directory that holds removed files: what is below it, and the directories just below it.
#[derive(Default)]
struct Dir {
    files: u64,
    bytes: u64,
    children: Vec<usize>,
    parent: Option<usize>,
}

/// Groups files by directory: starts with the root as the one group and splits off the heaviest directory,
/// again and again, until groups would be too many or too light.
pub fn group(files: &[(&ImagePath, u64)]) -> Vec<Group> {
    let (names, dirs) = directories(files);
    let Some(root) = dirs.first() else {
        return Vec::new();
    };
    let least_files = (root.files / SHARE).max(FEW_FILES);
    let least_bytes = (root.bytes / SHARE).max(FEW_BYTES);
    let worth = |dir: &Dir| dir.parent == Some(0) || dir.files >= least_files || dir.bytes >= least_bytes;
    let mut own: BTreeMap<usize, (u64, u64)> = BTreeMap::from([(0, (root.files, root.bytes))]);
    let mut full = 1;
    let rank = |i: usize| (dirs[i].bytes, dirs[i].files, Reverse(names[i].clone()), i);
    let mut heap: BinaryHeap<_> = root.children.iter().map(|i| rank(*i)).collect();
    while let Some((_, _, _, at)) = heap.pop() {
        let dir = &dirs[at];
        if full >= MAX_GROUPS {
            break;
        }
        if !worth(dir) {
            continue;
        }
        let mut up = dir.parent;
        while let Some(i) = up {
            if let Some(rest) = own.get_mut(&i) {
                rest.0 -= dir.files;
                rest.1 -= dir.bytes;
                full -= usize::from(rest.0 == 0);
                break;
            }
            up = dirs[i].parent;
        }
        own.insert(at, (dir.files, dir.bytes));
        full += 1;
        heap.extend(dir.children.iter().map(|i| rank(*i)));
    }
    let mut groups: Vec<Group> = own
        .into_iter()
        .filter(|(_, (files, _))| *files > 0)
        .map(|(i, (files, bytes))| Group { directory: names[i].clone(), files, bytes })
        .collect();
    groups.sort_by(|a, b| a.directory.cmp(&b.directory));
    groups
}

/// Every directory above a file, the root first, with totals. Empty without files.
fn directories(files: &[(&ImagePath, u64)]) -> (Vec<ImagePath>, Vec<Dir>) {
    let mut index: HashMap<ImagePath, usize> = HashMap::new();
    let (mut names, mut dirs): (Vec<ImagePath>, Vec<Dir>) = (Vec::new(), Vec::new());
    if !files.is_empty() {
        index.insert(ImagePath::root(), 0);
        names.push(ImagePath::root());
        dirs.push(Dir::default());
    }
    for (path, bytes) in files {
        // From the nearest known directory down, the missing ones are made.
        let above: Vec<ImagePath> = path.ancestors().collect();
        let mut parent = None;
        for name in above.into_iter().rev() {
            let at = match index.get(&name) {
                Some(at) => *at,
                None => {
                    let at = dirs.len();
                    index.insert(name.clone(), at);
                    names.push(name);
                    dirs.push(Dir { parent, ..Dir::default() });
                    if let Some(parent) = parent {
                        dirs[parent].children.push(at);
                    }
                    at
                }
            };
            dirs[at].files += 1;
            dirs[at].bytes += bytes;
            parent = Some(at);
        }
    }
    (names, dirs)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn file(size: u64, inode: Option<u64>) -> Entry {
        let mut entry = Entry::new(Kind::File);
        entry.size = size;
        entry.hardlink = inode;
        entry
    }

    #[test]
    fn an_inode_counts_once_and_not_at_all_while_it_keeps_a_name() {
        let tree: Tree = [
            ("/".into(), Entry::new(Kind::Directory)),
            ("/a".into(), file(10, Some(1))),
            ("/b".into(), file(10, Some(1))),
            ("/c".into(), file(5, Some(2))),
            ("/d".into(), file(5, Some(2))),
            ("/e".into(), file(1, None)),
        ]
        .into_iter()
        .collect();
        let kept: HashSet<ImagePath> = ["/".into(), "/a".into()].into();
        let losses = losses(&tree, |path| kept.contains(path));
        assert_eq!((losses.files, losses.bytes), (4, 6));
    }

    #[test]
    fn groups_are_disjoint_few_and_sum_to_the_whole() {
        let mut paths: Vec<ImagePath> = Vec::new();
        for dir in 0..700 {
            for n in 0..=(dir % 7) {
                paths.push(format!("/usr/share/deep/{dir}/sub/{n}").as_str().into());
            }
        }
        paths.push("/opt/one".into());
        let files: Vec<(&ImagePath, u64)> = paths.iter().map(|path| (path, 3)).collect();
        let groups = group(&files);
        assert!(groups.len() <= MAX_GROUPS, "{}", groups.len());
        assert_eq!(groups.iter().map(|g| g.files).sum::<u64>(), paths.len() as u64);
        assert_eq!(groups.iter().map(|g| g.bytes).sum::<u64>(), 3 * paths.len() as u64);
        assert!(!groups.iter().any(|g| g.directory == "/usr".into()), "a lone chain is one group");
    }

    #[test]
    fn the_deepest_directory_with_weight_names_the_group() {
        let files: Vec<ImagePath> =
            ["/usr/share/doc/a/x", "/usr/share/doc/b/y", "/usr/lib/z", "/etc/few"].map(Into::into).into();
        let weights: Vec<(&ImagePath, u64)> = files.iter().zip([400_000, 400_000, 700_000, 1]).collect();
        let names: Vec<String> = group(&weights).iter().map(|g| g.directory.to_string()).collect();
        assert_eq!(names, ["/etc", "/usr/lib", "/usr/share/doc"]);
    }
}
