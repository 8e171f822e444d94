//! Side: all that is known of one of two things that are compared, wherever that is from. What is not known is `None`.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{About, Measured};
use crate::image::{Entry, ImagePath, Kind, Tree};
use crate::report::Report;
use crate::report::config::Field;
use crate::report::model::{FileKind, Phase};
use crate::report::surface::{Target, targets};
use crate::xray::model::Secret;

/// One of two things that are compared.
pub struct Side {
    /// What it is.
    pub about: About,
    /// Sum of the layers.
    pub size: Option<u64>,
    /// What a registry transfers, and who says so.
    pub compressed: Option<(u64, Measured)>,
    /// Content of the merged files.
    pub content: Option<u64>,
    /// Everything that is no directory.
    pub file_count: Option<u64>,
    /// Layers.
    pub layer_count: Option<u64>,
    /// They, lowest first.
    pub layers: Option<Vec<Layer>>,
    /// Everything in the merged view.
    pub files: Option<BTreeMap<ImagePath, File>>,
    /// Packages by system, name and version.
    pub packages: Option<Vec<Package>>,
    /// What an attacker would look for, by the names of [`KINDS`].
    pub programs: BTreeMap<&'static str, Found>,
    /// Settings of the image, by the names that reports have for them; `None` where not all are known.
    pub config: Option<BTreeMap<String, Field>>,
    /// Settings that were known, where not all were.
    pub some_config: BTreeMap<String, Field>,
    /// How it ran, in the same way; `None` where it did not.
    pub ran: Option<BTreeMap<String, Field>>,
    /// What looks like a secret, by name and content.
    pub secrets: Option<Vec<Secret>>,
    /// Where the time went.
    pub phases: Option<Vec<Phase>>,
    /// The report; `None` where there is none.
    pub report: Option<Box<Report>>,
}

/// A layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of its tar.
    pub diff_id: String,
    /// Uncompressed.
    pub bytes: Option<u64>,
    /// As it travels.
    pub compressed: Option<u64>,
    /// The instruction that made it; empty where nobody says.
    pub made_by: String,
}

/// A file as far as it is known.
#[derive(Clone, Debug)]
pub struct File {
    /// What.
    pub kind: FileKind,
    /// Content bytes.
    pub size: u64,
    /// 07777.
    pub mode: Option<u32>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// `security.capability`, empty without; `None` where that is not known.
    pub capabilities: Option<Vec<u8>>,
    /// A sum of the content; of two of the same length it is the same sum.
    pub sum: Option<Vec<u8>>,
    /// Of a symlink.
    pub target: Option<Vec<u8>>,
    /// The same for all names of one inode.
    pub inode: Option<u64>,
    /// `SYSTEM:NAME`.
    pub package: Option<String>,
    /// Why it is there.
    pub reason: Option<String>,
}

/// A package.
#[derive(Clone, Debug)]
pub struct Package {
    /// `dpkg`, `python` ...
    pub system: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Files of it that are there.
    pub files: u64,
    /// Their content.
    pub bytes: u64,
    /// How many files it has when it is whole.
    pub of: Option<u64>,
    /// The files that are there.
    pub paths: Option<BTreeSet<ImagePath>>,
}

/// Things of one kind.
#[derive(Clone, Debug)]
pub struct Found {
    /// How many.
    pub count: u64,
    /// All of them.
    pub paths: Option<BTreeSet<ImagePath>>,
}

/// What an attacker would look for, in the order in which it is told.
pub const KINDS: [(&str, Target); 10] = [
    ("programs", Target::Programs),
    ("shells", Target::Shells),
    ("package managers", Target::PackageManagers),
    ("network clients", Target::NetworkClients),
    ("setuid", Target::Setuid),
    ("capabilities", Target::Capabilities),
    ("writable by anybody", Target::Writable),
    ("compilers", Target::Compilers),
    ("interpreters", Target::Interpreters),
    ("libraries", Target::Libraries),
];

/// The extended attribute of capabilities, see capabilities(7).
const CAPABILITIES: &str = "security.capability";

impl Side {
    /// A side of which nothing is known.
    pub fn new(about: About) -> Self {
        Self {
            about,
            size: None,
            compressed: None,
            content: None,
            file_count: None,
            layer_count: None,
            layers: None,
            files: None,
            packages: None,
            programs: BTreeMap::new(),
            config: None,
            some_config: BTreeMap::new(),
            ran: None,
            secrets: None,
            phases: None,
            report: None,
        }
    }
}

impl File {
    /// What a tree knows of it.
    pub fn of(entry: &Entry) -> Self {
        Self {
            kind: crate::report::removed::kind_of(&entry.kind),
            size: entry.size,
            mode: Some(entry.mode & 0o7777),
            owner: Some((entry.uid, entry.gid)),
            capabilities: Some(entry.xattrs.get(CAPABILITIES).cloned().unwrap_or_default()),
            sum: None,
            target: entry.link_target().map(<[u8]>::to_vec),
            inode: entry.hardlink,
            package: None,
            reason: None,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }
}

/// All that an attacker would look for in a tree, each kind with its paths.
pub fn programs(tree: &Tree) -> BTreeMap<&'static str, Found> {
    let mut all: BTreeMap<&'static str, BTreeSet<ImagePath>> = KINDS.iter().map(|(name, _)| (*name, BTreeSet::new())).collect();
    for (target, path, _) in targets(tree) {
        let kind = KINDS.iter().find(|(_, kind)| *kind == target);
        if let Some(paths) = kind.and_then(|(name, _)| all.get_mut(name)) {
            paths.insert(path.clone());
        }
    }
    all.into_iter().map(|(name, paths)| (name, Found { count: paths.len() as u64, paths: Some(paths) })).collect()
}

/// Files as a tree, for those who look for programs; what has no mode has none.
pub fn tree(files: &BTreeMap<ImagePath, File>) -> Tree {
    let entry = |file: &File| {
        let kind = match (file.kind, &file.target) {
            (_, Some(target)) => Kind::Symlink { target: target.clone() },
            (FileKind::Directory, None) => Kind::Directory,
            (FileKind::File, None) => Kind::File,
            (FileKind::Symlink | FileKind::Fifo | FileKind::Unknown, None) => Kind::Fifo,
            (FileKind::Socket, None) => Kind::Socket,
            (FileKind::CharDevice, None) => Kind::CharDevice { rdev: (0, 0) },
            (FileKind::BlockDevice, None) => Kind::BlockDevice { rdev: (0, 0) },
        };
        Entry { mode: file.mode.unwrap_or(0), size: file.size, hardlink: file.inode, ..Entry::new(kind) }
    };
    files.iter().map(|(path, file)| (path.clone(), entry(file))).collect()
}
