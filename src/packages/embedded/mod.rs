//! Embedded: packages that are in a file, or are described by one, and that no package manager of the image installed:
//! the modules of a Go program, the crates of a Rust program, what is in a jar, a Node package inside another's.
//! They own nothing and decide nothing; they are told of where their file is.

mod elf;
mod go;
mod jar;
mod rust;
mod text;

use std::collections::{BTreeSet, HashSet};
use std::io::{Read, Seek};

use serde::{Deserialize, Serialize};

use super::Packages;
use crate::image::{ImagePath, Tree};

/// Of one file, more than this many packages are not believed.
const MAX_FOUND: usize = 10_000;

/// A language with a registry of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Modules, and the standard library as `stdlib`.
    Go,
    /// Maven's artifacts: `GROUP:ARTIFACT`, or an artifact whose group nothing tells.
    Java,
    /// Packages of npm.
    Node,
    /// Distributions of PyPI.
    Python,
    /// Gems.
    Ruby,
    /// Crates.
    Rust,
}

impl Language {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Java => "java",
            Self::Node => "node",
            Self::Python => "python",
            Self::Ruby => "ruby",
            Self::Rust => "rust",
        }
    }
}

/// A package that is in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Embedded {
    /// The file.
    pub path: ImagePath,
    /// What it is.
    pub found: Found,
}

/// What a file says of one package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Found {
    /// Whose package.
    pub language: Language,
    /// As the language spells it.
    pub name: String,
    /// Empty where the file does not say it.
    pub version: String,
}

impl Found {
    fn new(language: Language, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { language, name: name.into(), version: version.into() }
    }
}

/// What kind of file it is, by its name and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Program,
    Jar,
    PackageJson,
    Metadata,
}

/// Files to look into: programs, jars, and descriptions that are of no package that is known. Of an inode with several
/// names the first.
pub fn candidates(tree: &Tree, packages: &Packages) -> BTreeSet<ImagePath> {
    let known: HashSet<&ImagePath> = packages.iter().flat_map(|package| &package.description).collect();
    let mut inodes = HashSet::new();
    let mut found = BTreeSet::new();
    for (path, entry) in tree.iter().filter(|(_, entry)| entry.is_file() && entry.size > 0) {
        let form = form(path).or((entry.mode & 0o111 != 0).then_some(Form::Program));
        let is_new = match form {
            Some(Form::Program | Form::Jar) => true,
            Some(Form::PackageJson | Form::Metadata) => !known.contains(path),
            None => false,
        };
        if is_new && entry.hardlink.is_none_or(|inode| inodes.insert(inode)) {
            found.insert(path.clone());
        }
    }
    found
}

/// By its name alone.
fn form(path: &ImagePath) -> Option<Form> {
    let name = path.file_name()?;
    let ends_with = |name: &[u8], end: &[u8]| name.len() > end.len() && name[name.len() - end.len()..].eq_ignore_ascii_case(end);
    let above = || path.parent().and_then(|dir| dir.file_name().map(<[u8]>::to_vec)).unwrap_or_default();
    if [&b".jar"[..], b".war", b".ear", b".par"].iter().any(|end| ends_with(name, end)) {
        return Some(Form::Jar);
    }
    match name {
        b"package.json" => Some(Form::PackageJson),
        b"METADATA" if above().ends_with(b".dist-info") => Some(Form::Metadata),
        b"PKG-INFO" if above().ends_with(b".egg-info") || above() == b"EGG-INFO" => Some(Form::Metadata),
        _ if name.ends_with(b".egg-info") => Some(Form::Metadata),
        _ => None,
    }
}

/// What is in a file of an image, by name and version. Bounded in what it reads and unpacks; a file that is not what
/// it seems holds nothing.
pub fn inside(path: &ImagePath, file: &mut (impl Read + Seek)) -> Vec<Found> {
    let mut found = match form(path) {
        Some(Form::Jar) => jar::read(path, file),
        Some(Form::PackageJson) => text::package_json(file).into_iter().collect(),
        Some(Form::Metadata) => text::metadata(file).into_iter().collect(),
        Some(Form::Program) | None => elf::sections(file).map(|sections| [go::read(&sections), rust::read(&sections)].concat()).unwrap_or_default(),
    };
    found.retain(|one| !one.name.is_empty());
    found.sort();
    found.dedup();
    found.truncate(MAX_FOUND);
    found
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::{Package, System, tree_of};
    use super::*;
    use crate::image::Entry;

    #[test]
    fn programs_jars_and_descriptions_of_nobody_are_looked_into() {
        let paths = [
            "/bin/a", "/bin/b", "/lib/x.JAR", "/app/package.json", "/n/package.json", "/s/_vendor/v-1.dist-info/METADATA",
            "/s/METADATA", "/etc/passwd", "/empty",
        ];
        let mut tree = tree_of(&paths);
        for path in paths {
            let mode = if path.starts_with("/bin") || path == "/empty" { 0o755 } else { 0o644 };
            let hardlink = path.starts_with("/bin").then_some(7);
            let size = if path == "/empty" { 0 } else { 9 };
            let entry = Entry { mode, hardlink, size, ..tree.get(&path.into()).unwrap().clone() };
            tree.insert(path.into(), entry);
        }
        let mut known = Package::new(System::Node, "n", "1");
        known.description = BTreeSet::from(["/n/package.json".into()]);
        let found = candidates(&tree, &Packages::new(vec![known], Vec::new()));
        let found: Vec<String> = found.iter().map(ImagePath::encode).collect();
        assert_eq!(found, ["/app/package.json", "/bin/a", "/lib/x.JAR", "/s/_vendor/v-1.dist-info/METADATA"]);
    }

    #[test]
    fn a_file_that_is_not_what_it_seems_holds_nothing() {
        for path in ["/a.jar", "/package.json", "/x.egg-info", "/bin/a"] {
            for content in [&b""[..], b"PK", b"\x7fELF", b"{", b"\xff\xfe", &[0; 100]] {
                assert_eq!(inside(&path.into(), &mut Cursor::new(content)), [], "{path}");
            }
        }
    }
}
