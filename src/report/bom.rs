//! Bom: what an image is made of, package by package and file by file, as the formats of software bills of materials
//! want it. Of a report it is what stays, of an image all that it has.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::model::{Embedded, FileKind, Os, Package, Report};
use crate::image::ImagePath;

/// Embedded packages of these languages are told as the package of the operating system that brought their file.
const TOLD_BY_SYSTEM: &[&str] = &["go", "node", "python", "ruby"];

/// An image in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bom {
    /// What the image is called; empty when it has no name.
    pub name: String,
    /// Image ID, `sha256:` and 64 digits; empty where it is not known.
    pub digest: String,
    /// When it was made (RFC 3339, UTC, whole seconds).
    pub created: String,
    /// Its distribution; `None` where it does not say.
    pub os: Option<Os>,
    /// The packages, by system, name, version and place.
    pub components: Vec<Component>,
    /// Files that are of no component, in path order, in their text form.
    pub files: Vec<String>,
    /// What this list cannot say, each a sentence.
    pub notes: Vec<String>,
}

/// A package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Component {
    /// `dpkg`, `python`; `go` for a package in a file.
    pub system: String,
    /// Its name.
    pub name: String,
    /// Its version; empty when none is known.
    pub version: String,
    /// Where it is told apart: the file that describes it, or that it is in.
    pub place: Option<String>,
    /// Package URL.
    pub purl: Option<String>,
    /// What it was built from.
    pub source: Option<String>,
    /// How many of its files are there, and how many the original has; `None` for a package in a file.
    pub parts: Option<(u64, u64)>,
    /// Its files that are there, in path order, in their text form.
    pub files: Vec<String>,
}

/// What is known of the image itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'a> {
    /// As in [`Bom`].
    pub name: &'a str,
    /// As in [`Bom`].
    pub digest: &'a str,
    /// RFC 3339; empty where it is not known.
    pub created: &'a str,
    /// As in [`Bom`].
    pub os: Option<&'a Os>,
}

impl Bom {
    /// What stays: of the result where there is one.
    pub fn of_report(report: &Report) -> Self {
        let result = report.result.as_ref();
        let head = Head {
            name: result.map_or("", |image| &image.reference),
            digest: result.map_or("", |image| &image.digest),
            created: report.created.as_deref().unwrap_or_default(),
            os: report.os.as_ref(),
        };
        let kept = report.kept.iter().filter(|kept| kept.kind != FileKind::Directory);
        let mut bom = Self::new(head, (&report.packages, &report.embedded), kept.map(|kept| (&kept.path, kept.package.as_deref())));
        if !report.packages.is_empty() && report.packages.iter().all(|package| package.purl.is_none()) {
            bom.notes.push("the report is of a version that knows no package URLs and no packages in files".to_owned());
        }
        if result.is_none() {
            bom.notes.push("no image was made: this is what would have stayed".to_owned());
        }
        bom
    }

    /// The parts of an image with these packages, and with these files, each with its owner as `SYSTEM:NAME`.
    pub fn new<'a>(
        head: Head<'_>,
        (packages, embedded): (&'a [Package], &'a [Embedded]),
        files: impl Iterator<Item = (&'a ImagePath, Option<&'a str>)>,
    ) -> Self {
        let told: Vec<&Package> = packages.iter().filter(|package| is_told(package)).collect();
        let mut by_label: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, package) in told.iter().enumerate() {
            by_label.entry(format!("{}:{}", package.system, package.name)).or_default().push(index);
        }
        let mut of_each: Vec<Vec<String>> = vec![Vec::new(); told.len()];
        let mut nobodys = Vec::new();
        for (path, owner) in files {
            let owners = owner.and_then(|label| by_label.get(label)).map(Vec::as_slice).unwrap_or_default();
            match owner_of(path, owners, &told) {
                Some(index) => of_each[index].push(path.encode()),
                None => nobodys.push(path.encode()),
            }
        }
        let mut components: Vec<Component> = told.iter().zip(of_each).map(|(package, files)| component(package, files)).collect();
        components.extend(embedded.iter().filter(|one| is_embedded_told(one)).map(embedded_component));
        components.sort();
        Self {
            name: head.name.to_owned(),
            digest: head.digest.to_owned(),
            created: whole_seconds(head.created),
            os: head.os.cloned(),
            components,
            files: nobodys,
            notes: Vec::new(),
        }
    }

    /// A UUID (RFC 9562, version 8) that follows from the image and what it is for: the same list has the same.
    pub fn uuid(&self, what: &str) -> String {
        let parts: Vec<String> = self.components.iter().map(|one| format!("{one:?}")).collect();
        let sum = Sha256::digest(format!("{what}\n{}\n{}\n{}", self.digest, self.created, parts.join("\n")));
        let mut bytes: Vec<u8> = sum[..16].to_vec();
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// Whether it is there. A package that another one brought is told as that one; files that only stand together are
/// no package.
fn is_told(package: &Package) -> bool {
    let is_there = package.present.unwrap_or(package.kept_files > 0);
    is_there && package.within.is_none() && !package.name.starts_with('/')
}

fn is_embedded_told(one: &Embedded) -> bool {
    let by_system = one.within.as_deref().is_some_and(|label| ["dpkg:", "apk:", "rpm:"].iter().any(|system| label.starts_with(system)));
    one.kept && !(by_system && TOLD_BY_SYSTEM.contains(&one.language.as_str()))
}

/// Which of several packages of one name a file belongs to: the one whose directory it is in. `None` where that cannot
/// be told.
fn owner_of(path: &ImagePath, owners: &[usize], told: &[&Package]) -> Option<usize> {
    if let [only] = owners {
        return Some(*only);
    }
    let home = |index: &usize| told[*index].described_by.as_ref().and_then(ImagePath::parent);
    let near = owners.iter().filter_map(|index| Some((home(index)?, *index))).filter(|(home, _)| path.starts_with(home));
    near.max_by_key(|(home, _)| home.components().count()).map(|(_, index)| index)
}

fn component(package: &Package, files: Vec<String>) -> Component {
    Component {
        system: package.system.clone(),
        name: package.name.clone(),
        version: package.version.clone(),
        place: package.described_by.as_ref().map(ImagePath::encode),
        purl: package.purl.clone(),
        source: package.source.clone(),
        parts: Some((package.kept_files, package.files)),
        files,
    }
}

fn embedded_component(one: &Embedded) -> Component {
    Component {
        system: one.language.clone(),
        name: one.name.clone(),
        version: one.version.clone(),
        place: Some(one.path.encode()),
        purl: one.purl.clone(),
        source: None,
        parts: None,
        files: vec![one.path.encode()],
    }
}

/// Both formats want whole seconds of UTC; the first second of 1970 stands for no time or another one.
fn whole_seconds(created: &str) -> String {
    let plain = created.get(..19).filter(|_| created.ends_with('Z') && created.is_ascii());
    format!("{}Z", plain.unwrap_or("1970-01-01T00:00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(version: &str, dir: &str) -> Package {
        Package {
            system: "node".to_owned(),
            name: "c".to_owned(),
            version: version.to_owned(),
            files: 2,
            kept_files: 1,
            present: Some(true),
            described_by: Some(format!("{dir}/package.json").as_str().into()),
            ..Package::default()
        }
    }

    #[test]
    fn files_of_two_copies_of_a_package_are_told_apart_by_their_place() {
        let packages = [node("1", "/app/node_modules/c"), node("2", "/app/node_modules/a/node_modules/c")];
        let paths: Vec<ImagePath> = ["/app/node_modules/a/node_modules/c/i.js", "/app/node_modules/c/i.js", "/elsewhere"].map(ImagePath::from).to_vec();
        let bom = Bom::new(Head::default(), (&packages, &[]), paths.iter().map(|path| (path, Some("node:c"))));
        let files: Vec<(&str, &[String])> = bom.components.iter().map(|one| (one.version.as_str(), one.files.as_slice())).collect();
        assert_eq!(files, [("1", &[paths[1].encode()][..]), ("2", &[paths[0].encode()][..])]);
        assert_eq!(bom.files, ["/elsewhere"]);
    }

    #[test]
    fn what_is_gone_or_told_as_another_is_no_component() {
        let gone = Package { present: Some(false), ..node("1", "/a") };
        let brought = Package { within: Some("dpkg:node-c".to_owned()), ..node("2", "/b") };
        let old = Package { present: None, ..node("3", "/c") };
        let embedded = |kept: bool, language: &str| Embedded {
            kept,
            language: language.to_owned(),
            name: "x".to_owned(),
            version: String::new(),
            path: "/x".into(),
            purl: None,
            within: Some("dpkg:y".to_owned()),
        };
        let embedded = [embedded(true, "go"), embedded(true, "rust"), embedded(false, "rust")];
        let bom = Bom::new(Head::default(), (&[gone, brought, old], &embedded), [].into_iter());
        let told: Vec<(&str, &str)> = bom.components.iter().map(|one| (one.system.as_str(), one.version.as_str())).collect();
        assert_eq!(told, [("node", "3"), ("rust", "")]);
    }

    #[test]
    fn times_are_whole_seconds_and_uuids_follow_from_the_image() {
        assert_eq!(whole_seconds("2026-11-23T20:43:00.123Z"), "2026-11-23T20:43:00Z");
        assert_eq!(whole_seconds("yesterday"), "1970-01-01T00:00:00Z");
        let bom = Bom { digest: "sha256:1".to_owned(), ..Bom::default() };
        assert_eq!(bom.uuid("a"), bom.clone().uuid("a"));
        assert_ne!(bom.uuid("a"), bom.uuid("b"));
        assert_eq!(bom.uuid("a").as_bytes()[14], b'8');
    }
}
