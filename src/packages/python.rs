//! Python distributions: what pip, setuptools, uv or a packager left in directories of modules, as
//! `NAME.dist-info` ("Recording installed projects" of packaging.python.org) or `NAME.egg-info`; and
//! interpreters that are no package of the operating system.

mod files;
mod interpreter;
mod requirement;

use std::collections::{BTreeMap, BTreeSet};

use super::gather::{at_place, name_of, text};
use super::{Package, Reading, System};
use crate::image::{ImagePath, Tree};
use requirement::{Environment, Requirement, normal};

/// How many extras of others one distribution may ask for, with those that these ask for.
const MAX_EXTRAS: usize = 500;

/// Files of a description that are read at run time, or by which scanners know a distribution.
const DESCRIPTION: &[&[u8]] = &[
    b"INSTALLER",
    b"METADATA",
    b"PKG-INFO",
    b"RECORD",
    b"REQUESTED",
    b"SOURCES.txt",
    b"WHEEL",
    b"dependency_links.txt",
    b"direct_url.json",
    b"entry_points.txt",
    b"installed-files.txt",
    b"namespace_packages.txt",
    b"requires.txt",
    b"top_level.txt",
];

/// One installed distribution.
struct Distribution {
    /// The directory of modules that it is installed in.
    site: ImagePath,
    /// Its description, a directory or (distutils) a file.
    description: ImagePath,
    /// As it spells it.
    name: String,
    version: String,
    requires: Vec<Requirement>,
    /// The Python that it is installed for; `None` when the directory does not tell.
    python: Option<(u32, u32)>,
}

/// Reads the distributions of an image.
pub(super) fn read(reading: &mut Reading<'_>) {
    interpreter::read(reading);
    let mut pythons = BTreeMap::new();
    let mut all = Vec::new();
    for description in descriptions(reading.tree) {
        let site = site_of(&description);
        let python = *pythons.entry(site).or_insert_with_key(|site| python_of(reading.tree, site));
        all.push(Distribution::read(reading, description, python));
    }
    let mut files = files::of(reading, &all);
    let needs = Needs::new(&all);
    for (index, distribution) in all.iter().enumerate() {
        let name = normal(&distribution.name);
        let mut package = Package::new(System::Python, &distribution.name, &distribution.version);
        package.provides = vec![at_place(&name, &distribution.site), name];
        package.requires = needs.of(index);
        let files::Owned { files, in_place } = std::mem::take(&mut files[index]);
        package.description = files.iter().filter(|path| distribution.is_described_by(path)).cloned().collect();
        (package.files, package.in_place) = (files, in_place);
        reading.packages.push(package);
    }
}

/// Whether it is a directory of modules by its name.
fn is_site(dir: &ImagePath) -> bool {
    matches!(dir.file_name(), Some(b"site-packages" | b"dist-packages"))
}

/// All descriptions of distributions. Those that a distribution brings along in a directory of its own
/// (`setuptools/_vendor`) are that distribution's files.
fn descriptions(tree: &Tree) -> Vec<ImagePath> {
    let mut found = Vec::new();
    for (path, entry) in tree.iter() {
        let name = path.file_name().unwrap_or_default();
        let is_egg = name == b"EGG-INFO" && path.parent().is_some_and(|egg| egg.as_bytes().ends_with(b".egg"));
        let is_description = match entry.is_dir() {
            true => name.ends_with(b".dist-info") || name.ends_with(b".egg-info") || is_egg,
            false => entry.is_file() && name.ends_with(b".egg-info"),
        };
        if is_description {
            found.push(path.clone());
        }
    }
    found.retain(|path| {
        let site = site_of(path);
        is_site(&site) || !site.ancestors().any(|above| is_site(&above)) && !site.components().any(|part| part == b"_vendor")
    });
    found
}

fn site_of(description: &ImagePath) -> ImagePath {
    let above = description.parent().unwrap_or_else(ImagePath::root);
    match description.file_name() {
        // An egg is on the path itself, and stands in a directory of modules.
        Some(b"EGG-INFO") => above.parent().unwrap_or_else(ImagePath::root),
        _ => above,
    }
}

impl Distribution {
    fn read(reading: &mut Reading<'_>, description: ImagePath, python: Option<(u32, u32)>) -> Self {
        let site = site_of(&description);
        let is_dir = reading.tree.get(&description).is_some_and(|entry| entry.is_dir());
        let metadata = match is_dir {
            true => ["METADATA", "PKG-INFO"].map(|name| text(reading, &description.child(name.as_bytes()))).into_iter().flatten().next(),
            false => text(reading, &description),
        };
        let header = Header::parse(&metadata.unwrap_or_default());
        let mut requires: Vec<Requirement> = header.requires.iter().filter_map(|line| Requirement::parse(line)).collect();
        if is_dir && description.as_bytes().to_ascii_lowercase().ends_with(b"egg-info") {
            let text = text(reading, &description.child(b"requires.txt")).unwrap_or_default();
            requires.extend(egg_requires(&text));
        }
        let stem = stem(&description);
        let (name, version) = stem.split_once('-').unwrap_or((&stem, ""));
        Self {
            name: header.name.unwrap_or_else(|| name.to_owned()),
            version: header.version.unwrap_or_else(|| version.split('-').next().unwrap_or_default().to_owned()),
            requires,
            python,
            site,
            description,
        }
    }

    fn is_described_by(&self, path: &ImagePath) -> bool {
        *path == self.description
            || (path.parent().as_ref() == Some(&self.description) && DESCRIPTION.contains(&path.file_name().unwrap_or_default()))
    }
}

/// `Foo-1.2` of `Foo-1.2.dist-info`, `Foo-1.2-py3.11.egg-info` or `Foo-1.2-py3.8.egg/EGG-INFO`.
fn stem(description: &ImagePath) -> String {
    let name = match description.file_name() {
        Some(b"EGG-INFO") => description.parent().map(|egg| name_of(&egg)).unwrap_or_default(),
        _ => name_of(description),
    };
    name.rsplit_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned())
}

/// What the head of `METADATA` or `PKG-INFO` says ("Core metadata specifications"), up to the first empty line.
/// A line of spaces is not empty, but goes on with a licence text.
#[derive(Default)]
struct Header {
    name: Option<String>,
    version: Option<String>,
    requires: Vec<String>,
}

impl Header {
    fn parse(text: &str) -> Self {
        let mut header = Self::default();
        for line in text.lines().take_while(|line| !line.is_empty()) {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.to_ascii_lowercase().as_str() {
                _ if value.is_empty() => {}
                "name" => header.name = header.name.or_else(|| Some(value.to_owned())),
                "version" => header.version = header.version.or_else(|| Some(value.to_owned())),
                "requires-dist" => header.requires.push(value.to_owned()),
                _ => {}
            }
        }
        header
    }
}

/// `requires.txt` of setuptools: requirements, those below `[extra:marker]` only under these conditions.
fn egg_requires(text: &str) -> Vec<Requirement> {
    let mut marker = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let (extra, condition) = section.split_once(':').unwrap_or((section, ""));
            let extra = (!extra.is_empty()).then(|| format!("extra == '{}'", extra.replace('\'', "")));
            let condition = (!condition.is_empty()).then(|| format!("({condition})"));
            marker = [extra, condition].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        } else if let Some(requirement) = Requirement::parse(line) {
            found.push(Requirement { marker: marker.clone(), ..requirement });
        }
    }
    found
}

/// The version in `lib/python3.11/site-packages`; of Debian's `/usr/lib/python3/dist-packages` that of the only
/// Python beside it.
fn python_of(tree: &Tree, site: &ImagePath) -> Option<(u32, u32)> {
    let above = site.parent().filter(|_| is_site(site))?;
    let version = |dir: &ImagePath| {
        let name = String::from_utf8_lossy(dir.file_name()?).into_owned();
        let (major, minor) = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"))?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    version(&above).or_else(|| {
        let lib = above.parent()?;
        let mut beside = tree.children(&lib).filter_map(|(dir, _)| version(dir).filter(|_| tree.contains(&dir.child(b"os.py"))));
        beside.next().filter(|_| beside.next().is_none())
    })
}

/// Who needs what.
struct Needs<'a> {
    all: &'a [Distribution],
    /// By normalised name: those of a site, and of any site.
    by_site: BTreeMap<(&'a ImagePath, String), usize>,
    by_name: BTreeMap<String, usize>,
}

impl<'a> Needs<'a> {
    fn new(all: &'a [Distribution]) -> Self {
        let names = || all.iter().enumerate().rev().map(|(index, one)| (index, &one.site, normal(&one.name)));
        Self {
            all,
            by_site: names().map(|(index, site, name)| ((site, name), index)).collect(),
            by_name: names().map(|(index, _, name)| (name, index)).collect(),
        }
    }

    /// The needs of one, those of the extras that it asks for included: in its own site first.
    fn of(&self, index: usize) -> Vec<Vec<String>> {
        let site = &self.all[index].site;
        let mut needs = BTreeSet::new();
        let mut seen: BTreeSet<(usize, &str)> = BTreeSet::new();
        let mut todo: Vec<(usize, Option<&str>)> = vec![(index, None)];
        while let Some((one, extra)) = todo.pop() {
            let environment = Environment { version: self.all[one].python, extra };
            for requirement in self.all[one].requires.iter().filter(|requirement| requirement.applies(&environment)) {
                needs.insert(vec![at_place(&requirement.name, site), requirement.name.clone()]);
                let target = self.by_site.get(&(site, requirement.name.clone())).or_else(|| self.by_name.get(&requirement.name));
                for (target, extra) in target.into_iter().flat_map(|target| requirement.extras.iter().map(|extra| (*target, extra))) {
                    if seen.len() < MAX_EXTRAS && seen.insert((target, extra)) {
                        todo.push((target, Some(extra)));
                    }
                }
            }
        }
        let interpreter = site.parent().map(|library| at_place("cpython", &library));
        needs.into_iter().chain([interpreter.into_iter().chain(["cpython".to_owned()]).collect()]).collect()
    }
}

#[cfg(test)]
mod tests;
