//! Packages: what the package managers of an image say belongs together. Reading is pure: a tree and the texts
//! of the managers' own files go in; packages with their files and their needs come out. The databases come
//! from an image and may lie: what is missing, circular or absurd is survived, with a warning.

mod dotnet;
mod gather;
mod java;
mod node;
mod php;
mod python;
mod ruby;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod apk;
mod dpkg;
pub mod embedded;
pub mod metadata;
pub mod os;
pub mod purl;
mod rpm;

pub use embedded::Embedded;
pub use os::Os;

use crate::image::tree::Follow;
use crate::image::{ImagePath, Tree};

/// A package manager, or a format of packages. In the order of [`Packages::owner`]: where an OS package
/// installed a language's package, the OS package is its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// Debian, Ubuntu.
    Dpkg,
    /// Alpine.
    Apk,
    /// Fedora, RHEL, SUSE.
    Rpm,
    /// Python distributions (wheel, egg-info).
    Python,
    /// Node packages (package.json).
    Node,
    /// Ruby gems.
    Ruby,
    /// A Java run-time, and jars.
    Java,
    /// PHP extensions.
    Php,
    /// .NET applications and frameworks (deps.json).
    DotNet,
}

impl System {
    /// Its name for people and reports, lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
            Self::Python => "python",
            Self::Node => "node",
            Self::Ruby => "ruby",
            Self::Java => "java",
            Self::Php => "php",
            Self::DotNet => "dotnet",
        }
    }

    /// Whether it manages the operating system rather than one language.
    pub fn is_os(self) -> bool {
        matches!(self, Self::Dpkg | Self::Apk | Self::Rpm)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One installed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Who installed it.
    pub system: System,
    /// As its manager spells it (`libssl3`, `Flask`, `@scope/name`).
    pub name: String,
    /// As its manager spells it; empty when it says none.
    pub version: String,
    /// What it installed and the image still has: regular files, links and devices, not directories. Paths are
    /// those of the tree, links in their directories resolved.
    pub files: BTreeSet<ImagePath>,
    /// What it needs at run time. Each need is met by any one of its names.
    pub requires: Vec<Vec<String>>,
    /// Other names under which packages of the same system need it.
    pub provides: Vec<String>,
    /// The files by which its manager and scanners know it, where these are its own (`METADATA`,
    /// `package.json`, `info/NAME.list`). A database of all packages is not among them.
    pub description: BTreeSet<ImagePath>,
    /// Whether its files are the user's own, which a manager knows in the place where they were written
    /// (`pip install -e`, a Node workspace, the application that a `deps.json` describes).
    pub in_place: bool,
    /// `amd64`, `all`; empty where its manager knows none.
    pub architecture: String,
    /// What it was built from, `NAME VERSION`, where that differs from its own; else empty.
    pub source: String,
}

impl Package {
    /// A package of which only this is known.
    pub fn new(system: System, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            system,
            name: name.into(),
            version: version.into(),
            files: BTreeSet::new(),
            requires: Vec::new(),
            provides: Vec::new(),
            description: BTreeSet::new(),
            in_place: false,
            architecture: String::new(),
            source: String::new(),
        }
    }
}

/// `dpkg libssl3`, `python Flask`.
impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.system, self.name)
    }
}

/// All packages of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packages {
    all: Vec<Package>,
    /// Indices of the packages that say a file is theirs, in the order of [`System`].
    owners: BTreeMap<ImagePath, Vec<usize>>,
    /// The distribution; `None` where the image does not say.
    pub os: Option<Os>,
    /// Packages that are in files, by path, kind, name and version. They own nothing.
    pub embedded: Vec<Embedded>,
    /// What was wrong with the databases.
    pub warnings: Vec<String>,
}

impl Packages {
    /// Orders packages by system and name, and finds out whose is what.
    pub fn new(mut all: Vec<Package>, warnings: Vec<String>) -> Self {
        all.sort_by(|a, b| (a.system, &a.name, &a.version).cmp(&(b.system, &b.name, &b.version)));
        let mut owners: BTreeMap<ImagePath, Vec<usize>> = BTreeMap::new();
        for (index, package) in all.iter().enumerate() {
            for path in package.files.iter().chain(&package.description) {
                let of_path = owners.entry(path.clone()).or_default();
                if of_path.last() != Some(&index) {
                    of_path.push(index);
                }
            }
        }
        Self { all, owners, os: None, embedded: Vec::new(), warnings }
    }

    /// All of them, by system, name and version.
    pub fn iter(&self) -> impl Iterator<Item = &Package> {
        self.all.iter()
    }

    /// Whether no package manager left anything.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The package at an index of [`Packages::owners`] and [`Packages::closure`].
    pub fn at(&self, index: usize) -> &Package {
        &self.all[index]
    }

    /// The indices of all packages that a file belongs to, an OS package first.
    pub fn owners(&self, path: &ImagePath) -> &[usize] {
        self.owners.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    /// The package that a file belongs to: the OS package where there is one.
    pub fn owner(&self, path: &ImagePath) -> Option<&Package> {
        self.owners(path).first().map(|index| self.at(*index))
    }

    /// These packages and all that they need to run, each with the package that needed it first; `None` for
    /// those given. A need that no installed package meets is passed over: managers allow images in which
    /// that is so.
    pub fn closure(&self, start: impl IntoIterator<Item = usize>) -> BTreeMap<usize, Option<usize>> {
        self.closure_without(start, |_| false)
    }

    /// The same, but needs of these packages are taken for unmet: they come only where they are given.
    pub fn closure_without(
        &self,
        start: impl IntoIterator<Item = usize>,
        barred: impl Fn(&Package) -> bool,
    ) -> BTreeMap<usize, Option<usize>> {
        let names = self.names();
        let mut found: BTreeMap<usize, Option<usize>> = start.into_iter().map(|index| (index, None)).collect();
        let mut todo: Vec<usize> = found.keys().copied().collect();
        while let Some(index) = todo.pop() {
            let package = &self.all[index];
            for need in &package.requires {
                let met = need.iter().find_map(|name| names.get(&(package.system, name.as_str())));
                for other in met.into_iter().flatten() {
                    if !found.contains_key(other) && !barred(&self.all[*other]) {
                        found.insert(*other, Some(index));
                        todo.push(*other);
                    }
                }
            }
        }
        found
    }

    /// Every name by which a package can be needed. A name may mean several (one package installed for two
    /// architectures, two versions of a Node package): then all of them.
    fn names(&self) -> BTreeMap<(System, &str), Vec<usize>> {
        let mut names: BTreeMap<(System, &str), Vec<usize>> = BTreeMap::new();
        for (index, package) in self.all.iter().enumerate() {
            for name in std::iter::once(&package.name).chain(&package.provides) {
                let of_name = names.entry((package.system, name)).or_default();
                if of_name.last() != Some(&index) {
                    of_name.push(index);
                }
            }
        }
        names
    }
}

/// Contents of files that [`Step::Need`] named. A file that could not be read is there, and empty.
pub type Texts = BTreeMap<ImagePath, Vec<u8>>;

/// The result of one round of reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// These files' contents are needed first: regular files of the tree, none of more than [`MAX_TEXT`] bytes.
    Need(BTreeSet<ImagePath>),
    /// All that there is.
    Done(Packages),
}

/// The largest file that a reader may ask for, in bytes: the rpm database of a full desktop has 150 MB.
pub const MAX_TEXT: u64 = 256 << 20;

/// What one reader works with and fills.
pub struct Reading<'a> {
    /// The image.
    pub tree: &'a Tree,
    texts: &'a Texts,
    need: BTreeSet<ImagePath>,
    /// What was found.
    pub packages: Vec<Package>,
    /// What was wrong, each a sentence for people.
    pub warnings: Vec<String>,
}

impl<'a> Reading<'a> {
    /// Nothing read yet.
    pub fn new(tree: &'a Tree, texts: &'a Texts) -> Self {
        Self { tree, texts, need: BTreeSet::new(), packages: Vec::new(), warnings: Vec::new() }
    }

    /// The content of a regular file, looked up as the kernel would. `None` when the image has no such file,
    /// or when it is not known yet, and then asked for: a reader goes on without, and is called again.
    pub fn text(&mut self, raw: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        let path = self.tree.find(raw.as_ref())?;
        let size = self.tree.get(&path).filter(|entry| entry.is_file())?.size;
        if size > MAX_TEXT {
            self.warnings.push(format!("{path} has {size} bytes, too many for a package database: not read"));
            return None;
        }
        let text = self.texts.get(&path).map(Vec::as_slice);
        if text.is_none() {
            self.need.insert(path);
        }
        text
    }

    /// The path of the tree that a database's spelling of an installed file means: links in its directories
    /// followed (`/lib/x` is `/usr/lib/x` where `/lib` is a link), a last link not. `None` when the image does
    /// not have it, or for a directory.
    pub fn installed(&self, raw: impl AsRef<[u8]>) -> Option<ImagePath> {
        let found = self.tree.resolve(&ImagePath::root(), raw.as_ref(), Follow::NotLast).found?;
        self.tree.get(&found).filter(|entry| !entry.is_dir()).map(|_| found)
    }
}

/// A reader: what one package manager knows of an image.
type Reader = fn(&mut Reading<'_>);

/// The readers.
const READERS: &[Reader] = &[
    dpkg::read,
    apk::read,
    rpm::read,
    // Languages.
    python::read,
    node::read,
    ruby::read,
    java::read,
    php::read,
    dotnet::read,
];

/// Reads what every package manager left in an image. Pure.
pub fn read(tree: &Tree, texts: &Texts) -> Step {
    let mut reading = Reading::new(tree, texts);
    for reader in READERS {
        reader(&mut reading);
    }
    let os = os::read(&mut reading);
    if !reading.need.is_empty() {
        return Step::Need(reading.need);
    }
    Step::Done(Packages { os, ..Packages::new(reading.packages, reading.warnings) })
}

/// The parts of a text between blank lines, each with the newline at its end where it has one.
fn stanzas(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while rest.first() == Some(&b'\n') {
            rest = &rest[1..];
        }
        if rest.is_empty() {
            return None;
        }
        let end = rest.windows(2).position(|two| two == b"\n\n").map_or(rest.len(), |at| at + 1);
        let stanza = &rest[..end];
        rest = &rest[end..];
        Some(stanza)
    })
}

/// Reads with texts at hand, for tests: what is asked for and not there is empty.
#[cfg(test)]
pub(crate) fn read_with(tree: &Tree, texts: &[(&str, &str)], reader: Reader) -> Packages {
    let mut known: Texts = texts.iter().map(|(path, text)| (ImagePath::from(*path), text.as_bytes().to_vec())).collect();
    for _ in 0..20 {
        let mut reading = Reading::new(tree, &known);
        reader(&mut reading);
        if reading.need.is_empty() {
            return Packages::new(reading.packages, reading.warnings);
        }
        let need = reading.need;
        known.extend(need.into_iter().map(|path| (path, Vec::new())));
    }
    panic!("a reader asks for ever more");
}

/// A tree of these files, for tests; a path that ends in `/` is a directory, `a -> b` a link.
#[cfg(test)]
pub(crate) fn tree_of(lines: &[&str]) -> Tree {
    use crate::image::{Entry, Kind};
    let mut tree = Tree::new();
    tree.insert(ImagePath::root(), Entry::new(Kind::Directory));
    for line in lines {
        let (path, kind) = match line.split_once(" -> ") {
            Some((path, target)) => (path, Kind::Symlink { target: target.into() }),
            None if line.ends_with('/') => (*line, Kind::Directory),
            None => (*line, Kind::File),
        };
        let path = ImagePath::from(path);
        for above in path.ancestors() {
            if !tree.contains(&above) {
                tree.insert(above, Entry::new(Kind::Directory));
            }
        }
        tree.insert(path, Entry::new(kind));
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(system: System, name: &str, requires: &[&[&str]], files: &[&str]) -> Package {
        Package {
            requires: requires.iter().map(|need| need.iter().map(|name| (*name).to_owned()).collect()).collect(),
            files: files.iter().map(|path| ImagePath::from(*path)).collect(),
            ..Package::new(system, name, "1")
        }
    }

    #[test]
    fn a_circle_of_needs_comes_to_an_end_and_unmet_ones_are_passed_over() {
        let all = vec![
            package(System::Dpkg, "a", &[&["nobody", "b"], &["gone"]], &[]),
            package(System::Dpkg, "b", &[&["a"]], &[]),
            package(System::Python, "b", &[], &[]),
        ];
        let packages = Packages::new(all, Vec::new());
        assert_eq!(packages.closure([0]), BTreeMap::from([(0, None), (1, Some(0))]));
    }

    #[test]
    fn the_os_package_owns_what_a_language_claims_too() {
        let all = vec![
            package(System::Python, "Flask", &[], &["/f.py"]),
            package(System::Dpkg, "python3-flask", &[], &["/f.py"]),
        ];
        let packages = Packages::new(all, Vec::new());
        assert_eq!(packages.owner(&"/f.py".into()).unwrap().name, "python3-flask");
        assert_eq!(packages.owners(&"/f.py".into()).len(), 2);
        assert!(packages.owner(&"/g".into()).is_none());
    }

    #[test]
    fn a_database_of_an_absurd_size_is_a_warning_and_is_not_read() {
        let mut tree = tree_of(&["/db", "/small"]);
        for (path, size) in [("/db", MAX_TEXT + 1), ("/small", MAX_TEXT)] {
            let mut entry = tree.get(&path.into()).unwrap().clone();
            entry.size = size;
            tree.insert(path.into(), entry);
        }
        let texts = Texts::new();
        let mut reading = Reading::new(&tree, &texts);
        assert_eq!((reading.text("/db"), reading.text("/small")), (None, None));
        assert_eq!(reading.need, BTreeSet::from(["/small".into()]));
        assert_eq!(reading.warnings, ["/db has 268435457 bytes, too many for a package database: not read"]);
    }

    #[test]
    fn installed_files_are_found_through_a_merged_usr() {
        let tree = tree_of(&["/lib -> usr/lib", "/usr/lib/a.so -> a.so.1", "/usr/lib/a.so.1"]);
        let texts = Texts::new();
        let reading = Reading::new(&tree, &texts);
        assert_eq!(reading.installed("/lib/a.so"), Some("/usr/lib/a.so".into()));
        assert_eq!(reading.installed("/lib"), Some("/lib".into()));
        assert_eq!(reading.installed("/usr/lib"), None);
        assert_eq!(reading.installed("/nope"), None);
    }
}
