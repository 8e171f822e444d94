//! Metadata: what a slim image carries so that vulnerability scanners report the packages that are still there.
//! Pure. What is written is taken from the untouched image's own databases: whole stanzas, fewer of them.
//!
//! dpkg: the convention of distroless images, `status.d/PACKAGE` with the package's stanza and
//! `status.d/PACKAGE.md5sums`; apk: its list of what is installed, trimmed; rpm: its database whole, because
//! nothing smaller is understood by rpm and scanners alike. A database that the run itself used stays as it
//! is: a program read it, and a program must find what it found.

use std::collections::{BTreeMap, BTreeSet};

use super::{Package, Packages, Reading, System, Texts, apk, dpkg, os, rpm};
use crate::image::{Entry, ImagePath, Kind, Tree};

/// How much of the databases a slim image has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// What tells of the packages of which files stay.
    #[default]
    Auto,
    /// The databases as they are: scanners report every package of the untouched image.
    Full,
    /// Only what the run touched.
    None,
}

/// What is known when the metadata is made.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The untouched image.
    pub tree: &'a Tree,
    /// Contents that were asked for so far; those of [`super::read`] will do at first.
    pub texts: &'a Texts,
    /// Its packages.
    pub packages: &'a Packages,
    /// Every path that stays.
    pub kept: &'a BTreeSet<ImagePath>,
    /// Those of them that the run touched or that a flag includes: they stay, and stay as they are.
    pub wanted: &'a BTreeSet<ImagePath>,
}

/// A file or directory of the slim image that the untouched one does not have, or has with other content.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Owner, mode and time of the database that it was made from; its own size.
    pub entry: Entry,
    /// All of it; empty for a directory.
    pub content: Vec<u8>,
}

/// What changes in a keep set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// What is written; directories above that the tree has are not among it.
    pub written: BTreeMap<ImagePath, Written>,
    /// Paths of the untouched image that stay as they are.
    pub keep: BTreeSet<ImagePath>,
    /// Kept paths that go: parts of a database that is replaced, which nothing that runs asked for.
    pub leave_out: BTreeSet<ImagePath>,
    /// Where scanners will report more than is there, and why.
    pub warnings: Vec<String>,
}

/// The result of one round.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// These files' contents are needed first, as for [`super::Step::Need`].
    Need(BTreeSet<ImagePath>),
    /// Made.
    Done(Metadata),
}

/// What the slim image carries.
pub fn metadata(ask: Ask<'_>, mode: Mode) -> Step {
    let mut made = Metadata::default();
    match mode {
        Mode::None => {}
        Mode::Full => {
            for dir in databases(ask.tree) {
                made.keep.extend(os::files(ask.tree));
                made.keep.extend(ask.tree.below(&dir).filter(|(path, entry)| is_record(path, entry)).map(|(path, _)| path.clone()));
            }
        }
        Mode::Auto => {
            let releases = releases(ask);
            let kept = ask.kept.union(&releases).cloned().collect();
            let ask = Ask { kept: &kept, ..ask };
            made.keep.extend(releases);
            // What is wrong with the databases was said when they were read.
            let mut reading = Reading::new(ask.tree, ask.texts);
            for_dpkg(ask, &mut reading, &mut made);
            for_apk(ask, &mut reading, &mut made);
            for_rpm(ask, &mut made);
            if !reading.need.is_empty() {
                return Step::Need(reading.need);
            }
        }
    }
    Step::Done(made)
}

/// The directories of all databases.
fn databases(tree: &Tree) -> BTreeSet<ImagePath> {
    let apk = apk::DATABASES.iter().filter_map(|path| tree.find(path)?.parent());
    let others = [dpkg::DATABASE].iter().chain(rpm::DIRECTORIES).filter_map(|dir| tree.find(dir));
    apk.chain(others).filter(|dir| tree.get(dir).is_some_and(Entry::is_dir)).collect()
}

/// Whether a file of a database directory records something: no lock, no shared memory, no old copy.
fn is_record(path: &ImagePath, entry: &Entry) -> bool {
    let name = path.file_name().unwrap_or_default().to_ascii_lowercase();
    let passing = [&b"lock"[..], b"lock-frontend", b".rpm.lock"].contains(&&name[..])
        || name.ends_with(b"-shm")
        || name.ends_with(b"-old");
    entry.is_file() && !passing
}

/// Directories of what is read by people only, and of translations: a package of which nothing else is there
/// is gone.
const DOCUMENTATION: &[&str] = &["bug", "doc", "doc-base", "info", "licenses", "lintian", "locale", "man"];

/// Whether a path is documentation or a translation.
fn is_documentation(path: &ImagePath) -> bool {
    let mut parts = path.components();
    parts.next() == Some(b"usr")
        && parts.next() == Some(b"share")
        && parts.next().is_some_and(|dir| DOCUMENTATION.iter().any(|name| name.as_bytes() == dir))
}

/// Whether a package is there where these files are: one of its files is, that is no documentation.
pub fn is_there(package: &Package, is_kept: impl Fn(&ImagePath) -> bool) -> bool {
    package.files.iter().any(|path| is_kept(path) && !is_documentation(path))
}

fn is_present(ask: Ask<'_>, package: &Package) -> bool {
    is_there(package, |path| ask.kept.contains(path))
}

/// What says which distribution it is, when a package of that is there: without it a scanner does not know whose
/// packages these are, and reports no vulnerability of them.
fn releases(ask: Ask<'_>) -> BTreeSet<ImagePath> {
    let any = ask.packages.iter().any(|package| package.system.is_os() && is_present(ask, package));
    if any { os::files(ask.tree) } else { BTreeSet::new() }
}

fn for_dpkg(ask: Ask<'_>, reading: &mut Reading<'_>, made: &mut Metadata) {
    let Some(dir) = ask.tree.find(dpkg::DATABASE) else { return };
    let found = dpkg::installed(reading);
    let status = dir.child(b"status");
    let gone = found.iter().filter(|one| !is_present(ask, &one.package)).count();
    if ask.wanted.contains(&status) {
        if gone > 0 {
            made.warnings.push(stays_whole(&status, found.len(), gone));
        }
        return;
    }
    let each = dir.child(b"status.d");
    for one in found.iter().filter(|one| is_present(ask, &one.package)) {
        let own = one.own_file.clone().or_else(|| free_name(&each, one, made));
        let Some(own) = own else { continue };
        let sums_file = ImagePath::new([own.as_bytes(), b".md5sums"].concat());
        let sums = one.md5sums.as_ref().and_then(|path| reading.text(path.as_bytes()).map(|text| (path, text)));
        let source = match &one.own_file {
            Some(own) => {
                made.keep.insert(own.clone());
                own
            }
            None => {
                made.write(ask.tree, own, &status, ended(one.stanza));
                &status
            }
        };
        match sums {
            Some((path, _)) if ask.wanted.contains(path) && one.own_file.is_some() => {}
            Some((_, text)) => made.write(ask.tree, sums_file, source, trimmed_sums(reading, text, ask.kept)),
            None => {}
        }
    }
    if !made.written.is_empty() && !ask.tree.contains(&each) {
        made.write_directory(ask.tree, each.clone(), &dir);
    }
    let replaced = [status, dir.child(b"status-old"), dir.child(b"available")];
    let below = [dir.child(b"info"), each];
    let ours = |path: &ImagePath| replaced.contains(path) || below.iter().any(|dir| path.starts_with(dir));
    made.leave_out(ask, ours);
}

/// `status.d/NAME`; `NAME:ARCH` where the name is taken by the same package of another architecture. `None`
/// for what is no name of a file.
fn free_name(each: &ImagePath, one: &dpkg::Installed<'_>, made: &Metadata) -> Option<ImagePath> {
    let name = one.package.name.as_str();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_name) || name.len() > 200 {
        return None;
    }
    let path = each.child(name.as_bytes());
    if !made.written.contains_key(&path) {
        return Some(path);
    }
    let is_architecture = !one.architecture.is_empty() && one.architecture.len() < 50 && one.architecture.chars().all(is_name);
    is_architecture.then(|| each.child(format!("{name}:{}", one.architecture).as_bytes()))
}

/// The lines of a checksums file whose files stay.
fn trimmed_sums(reading: &Reading<'_>, text: &[u8], kept: &BTreeSet<ImagePath>) -> Vec<u8> {
    let stays = |line: &&[u8]| {
        dpkg::sum_path(line.trim_ascii_end())
            .and_then(|path| reading.installed(dpkg::rooted(path)))
            .is_some_and(|path| kept.contains(&path))
    };
    text.split_inclusive(|b| *b == b'\n').filter(stays).flatten().copied().collect()
}

fn for_apk(ask: Ask<'_>, reading: &mut Reading<'_>, made: &mut Metadata) {
    for database in apk::databases(reading) {
        let found = apk::installed(reading, &database);
        let gone = found.iter().filter(|one| !is_present(ask, &one.package)).count();
        if ask.wanted.contains(&database) {
            if gone > 0 {
                made.warnings.push(stays_whole(&database, found.len(), gone));
            }
            continue;
        }
        let mut content = Vec::new();
        for one in found.iter().filter(|one| is_present(ask, &one.package)) {
            content.extend(ended(&apk::trimmed(reading, one.stanza, |path| ask.kept.contains(path))));
            content.push(b'\n');
        }
        if !content.is_empty() {
            made.write(ask.tree, database.clone(), &database, content);
        }
        let dir = database.parent().unwrap_or_else(ImagePath::root);
        made.leave_out(ask, |path| path.starts_with(&dir));
    }
}

/// A database that cannot be read here tells of packages all the same.
fn for_rpm(ask: Ask<'_>, made: &mut Metadata) {
    let known: Vec<&Package> = ask.packages.iter().filter(|package| package.system == System::Rpm).collect();
    let gone = known.iter().filter(|package| !is_present(ask, package)).count();
    if !known.is_empty() && gone == known.len() {
        return;
    }
    let dirs: BTreeSet<ImagePath> = rpm::DIRECTORIES.iter().filter_map(|dir| ask.tree.find(dir)).collect();
    for dir in dirs {
        let names: [&[u8]; 4] = [b"rpmdb.sqlite", b"rpmdb.sqlite-wal", b"Packages.db", b"Packages"];
        let files: Vec<ImagePath> = names.iter().map(|name| dir.child(name)).collect();
        let there = files.into_iter().filter(|path| ask.tree.get(path).is_some_and(|entry| entry.is_file() && entry.size > 0));
        let there: Vec<ImagePath> = there.collect();
        match there.first() {
            Some(database) if known.is_empty() => made.warnings.push(format!(
                "{database} could not be read and stays whole: scanners report every package of the original image"
            )),
            Some(database) if gone > 0 => made.warnings.push(stays_whole(database, known.len(), gone)),
            _ => {}
        }
        made.keep.extend(there);
    }
}

fn stays_whole(database: &ImagePath, all: usize, gone: usize) -> String {
    format!("{database} stays whole: scanners report {all} packages, {gone} of which are gone")
}

/// With a newline at its end.
fn ended(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text
}

impl Metadata {
    fn write(&mut self, tree: &Tree, path: ImagePath, source: &ImagePath, content: Vec<u8>) {
        self.put(tree, path, source, Kind::File, content);
    }

    fn write_directory(&mut self, tree: &Tree, path: ImagePath, source: &ImagePath) {
        self.put(tree, path, source, Kind::Directory, Vec::new());
    }

    fn put(&mut self, tree: &Tree, path: ImagePath, source: &ImagePath, kind: Kind, content: Vec<u8>) {
        let fresh = Entry::new(kind);
        let entry = match tree.get(source) {
            Some(from) => Entry {
                mode: from.mode,
                uid: from.uid,
                gid: from.gid,
                mtime: from.mtime,
                size: content.len() as u64,
                ..fresh
            },
            None => Entry { size: content.len() as u64, ..fresh },
        };
        self.written.insert(path, Written { entry, content });
    }

    /// Of what is kept, files that are part of a replaced database go.
    fn leave_out(&mut self, ask: Ask<'_>, ours: impl Fn(&ImagePath) -> bool) {
        let is_file = |path: &&ImagePath| ask.tree.get(path).is_some_and(|entry| !entry.is_dir());
        let stays = |path: &ImagePath| {
            ask.wanted.contains(path) || self.keep.contains(path) || self.written.contains_key(path)
        };
        let gone: Vec<ImagePath> =
            ask.kept.iter().filter(|path| ours(path) && !stays(path)).filter(is_file).cloned().collect();
        self.leave_out.extend(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{Reader, tree_of};

    fn set(paths: &[&str]) -> BTreeSet<ImagePath> {
        paths.iter().map(|path| ImagePath::from(*path)).collect()
    }

    /// Until nothing is asked for any more; what is asked and not there is empty.
    fn made(tree: &Tree, texts: &[(&str, &str)], reader: Reader, (kept, wanted): (&[&str], &[&str]), mode: Mode) -> Metadata {
        let packages = crate::packages::read_with(tree, texts, reader);
        let texts: Texts = texts.iter().map(|(path, text)| (ImagePath::from(*path), text.as_bytes().to_vec())).collect();
        let (kept, wanted) = (set(kept), set(wanted));
        let ask = Ask { tree, texts: &texts, packages: &packages, kept: &kept, wanted: &wanted };
        match metadata(ask, mode) {
            Step::Done(made) => made,
            Step::Need(paths) => panic!("needs {paths:?}"),
        }
    }

    fn shown(made: &Metadata) -> Vec<(String, String)> {
        let text = |one: &Written| String::from_utf8(one.content.clone()).unwrap();
        made.written.iter().map(|(path, one)| (path.encode(), text(one))).collect()
    }

    const STATUS: &str = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n\
        Package: b\nStatus: install ok installed\nVersion: 2\nArchitecture: all\n\n\
        Package: c\nStatus: install ok installed\nVersion: 3\nArchitecture: all\n";
    #[test]
    fn the_distribution_is_told_where_a_package_of_it_stays() {
        let mut tree = dpkg_tree();
        for (path, entry) in tree_of(&["/etc/os-release -> ../usr/lib/os-release", "/usr/lib/os-release", "/etc/debian_version"]).iter() {
            tree.insert(path.clone(), entry.clone());
        }
        let info = |name: &str| format!("/var/lib/dpkg/info/{name}");
        let (a, sums, b, c) = (info("a.list"), info("a.md5sums"), info("b.list"), info("c.list"));
        let texts = [("/var/lib/dpkg/status", STATUS), (a.as_str(), ""), (&sums, ""), (&b, ""), (&c, "/usr/bin/c\n")];
        let files = set(&["/etc/debian_version", "/etc/os-release", "/usr/lib/os-release"]);
        assert_eq!(made(&tree, &texts, dpkg::read, (&["/usr/bin/c"], &[]), Mode::Auto).keep, files);
        assert_eq!(made(&tree, &texts, dpkg::read, (&["/elsewhere"], &[]), Mode::Auto).keep, set(&[]));
        assert!(made(&tree, &texts, dpkg::read, (&[], &[]), Mode::Full).keep.is_superset(&files));
    }

    const SUM: &str = "0123456789abcdef0123456789abcdef";

    fn dpkg_tree() -> Tree {
        let mut tree = tree_of(&[
            "/lib -> usr/lib", "/usr/lib/a.so", "/usr/lib/a2.so", "/usr/bin/b", "/usr/share/doc/b/copyright", "/usr/bin/c",
            "/var/lib/dpkg/status", "/var/lib/dpkg/status-old", "/var/lib/dpkg/lock", "/var/lib/dpkg/info/a.list",
            "/var/lib/dpkg/info/a.md5sums", "/var/lib/dpkg/info/b.list", "/var/lib/dpkg/info/c.list",
        ]);
        let status = Entry { mtime: (77, 5), mode: 0o640, gid: 4, ..Entry::new(Kind::File) };
        tree.insert("/var/lib/dpkg/status".into(), status);
        tree
    }

    fn dpkg_made(kept: &[&str], wanted: &[&str], mode: Mode) -> Metadata {
        let sums = format!("{SUM}  lib/a.so\n{SUM}  usr/lib/a2.so\nnonsense\n");
        let texts = [
            ("/var/lib/dpkg/status", STATUS),
            ("/var/lib/dpkg/info/a.list", "/lib\n/lib/a.so\n/lib/a2.so\n"),
            ("/var/lib/dpkg/info/a.md5sums", &sums),
            ("/var/lib/dpkg/info/b.list", "/usr/bin/b\n/usr/share/doc/b/copyright\n"),
            ("/var/lib/dpkg/info/c.list", "/usr/bin/c\n"),
        ];
        made(&dpkg_tree(), &texts, dpkg::read, (kept, wanted), mode)
    }

    const KEPT: &[&str] = &["/usr/lib/a.so", "/usr/share/doc/b/copyright", "/usr/bin/c", "/var/lib/dpkg/info/a.list"];

    #[test]
    fn each_dpkg_package_with_a_kept_file_has_its_stanza_and_its_kept_checksums() {
        let made = dpkg_made(KEPT, &[], Mode::Auto);
        let file = |name: &str, text: &str| (format!("/var/lib/dpkg/status.d{name}"), text.to_owned());
        assert_eq!(
            shown(&made),
            [
                file("", ""),
                file("/a", "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"),
                file("/a.md5sums", &format!("{SUM}  lib/a.so\n")),
                file("/c", "Package: c\nStatus: install ok installed\nVersion: 3\nArchitecture: all\n"),
            ]
        );
        let entry = &made.written[&"/var/lib/dpkg/status.d/a".into()].entry;
        assert_eq!((entry.mtime, entry.mode, entry.gid), ((77, 5), 0o640, 4));
        assert_eq!(entry.size, made.written[&"/var/lib/dpkg/status.d/a".into()].content.len() as u64);
        assert_eq!(made.leave_out, set(&["/var/lib/dpkg/info/a.list"]));
        assert_eq!((made.keep, made.warnings.len()), (BTreeSet::new(), 0));
    }

    #[test]
    fn a_database_that_the_run_touched_stays_as_it_is_and_is_warned_of() {
        let made = dpkg_made(KEPT, &["/var/lib/dpkg/status"], Mode::Auto);
        assert_eq!(shown(&made), []);
        assert_eq!(made.leave_out, BTreeSet::new());
        assert_eq!(made.warnings, ["/var/lib/dpkg/status stays whole: scanners report 3 packages, 1 of which are gone"]);
    }

    #[test]
    fn full_keeps_every_record_and_none_nothing() {
        let full = dpkg_made(KEPT, &[], Mode::Full);
        let names: Vec<String> = full.keep.iter().map(ImagePath::encode).collect();
        let records = ["info/a.list", "info/a.md5sums", "info/b.list", "info/c.list", "status"];
        assert_eq!(names, records.map(|name| format!("/var/lib/dpkg/{name}")));
        assert!(full.written.is_empty() && full.leave_out.is_empty());
        assert_eq!(dpkg_made(KEPT, &[], Mode::None), Metadata::default());
    }

    #[test]
    fn a_distroless_image_keeps_the_descriptions_of_what_stays() {
        let tree = tree_of(&[
            "/a", "/a2", "/b", "/var/lib/dpkg/status.d/a", "/var/lib/dpkg/status.d/a.md5sums", "/var/lib/dpkg/status.d/b",
            "/var/lib/dpkg/status.d/b.md5sums",
        ]);
        let (of_a, of_b) = (format!("{SUM}  a\n{SUM}  a2\n"), format!("{SUM}  b\n"));
        let texts = [
            ("/var/lib/dpkg/status.d/a", "Package: a\n"), ("/var/lib/dpkg/status.d/a.md5sums", of_a.as_str()),
            ("/var/lib/dpkg/status.d/b", "Package: b\n"), ("/var/lib/dpkg/status.d/b.md5sums", of_b.as_str()),
        ];
        let made = made(&tree, &texts, dpkg::read, (&["/a", "/var/lib/dpkg/status.d/b"], &[]), Mode::Auto);
        assert_eq!(made.keep, set(&["/var/lib/dpkg/status.d/a"]));
        assert_eq!(shown(&made), [("/var/lib/dpkg/status.d/a.md5sums".to_owned(), format!("{SUM}  a\n"))]);
        assert_eq!(made.leave_out, set(&["/var/lib/dpkg/status.d/b"]));
    }

    #[test]
    fn a_hostile_name_writes_nothing_elsewhere_and_two_architectures_have_two_files() {
        let tree = tree_of(&[
            "/x", "/y", "/z", "/var/lib/dpkg/status", "/var/lib/dpkg/info/...list", "/var/lib/dpkg/info/l:i386.list",
            "/var/lib/dpkg/info/l:amd64.list",
        ]);
        let status = "Package: ..\nVersion: 1\n\nPackage: l\nArchitecture: amd64\n\nPackage: l\nArchitecture: i386\n";
        let texts = [
            ("/var/lib/dpkg/status", status), ("/var/lib/dpkg/info/...list", "/x\n"),
            ("/var/lib/dpkg/info/l:amd64.list", "/y\n"), ("/var/lib/dpkg/info/l:i386.list", "/z\n"),
        ];
        let made = made(&tree, &texts, dpkg::read, (&["/x", "/y", "/z"], &[]), Mode::Auto);
        let names: Vec<String> = made.written.keys().map(ImagePath::encode).collect();
        assert_eq!(names, ["", "/l", "/l:i386"].map(|name| format!("/var/lib/dpkg/status.d{name}")));
    }

    #[test]
    fn the_list_of_apk_has_the_packages_and_files_that_stay() {
        let tree = tree_of(&["/lib/a", "/lib/b", "/bin/c", "/lib/apk/db/installed", "/lib/apk/db/triggers"]);
        let installed = "P:ab\nV:1\nF:lib\nR:a\nZ:Q1\nR:b\n\nP:c\nV:2\nF:bin\nR:c\n\n";
        let texts = [("/lib/apk/db/installed", installed)];
        let of = |kept: &[&str], wanted: &[&str]| made(&tree, &texts, apk::read, (kept, wanted), Mode::Auto);
        let some = of(&["/lib/b", "/lib/apk/db/triggers"], &[]);
        assert_eq!(shown(&some), [("/lib/apk/db/installed".to_owned(), "P:ab\nV:1\nF:lib\nR:b\n\n".to_owned())]);
        assert_eq!(some.leave_out, set(&["/lib/apk/db/triggers"]));
        assert_eq!(shown(&of(&[], &[])), []);
        let touched = of(&["/lib/b", "/lib/apk/db/installed"], &["/lib/apk/db/installed"]);
        assert_eq!((shown(&touched).len(), touched.warnings.len()), (0, 1));
    }

    #[test]
    fn the_rpm_database_stays_whole_while_a_package_of_it_is_there() {
        let mut tree = tree_of(&["/a", "/b"]);
        tree.insert("/var/lib/rpm".into(), Entry::new(Kind::Directory));
        let database = Entry { size: 9, ..Entry::new(Kind::File) };
        tree.insert("/var/lib/rpm/rpmdb.sqlite".into(), database);
        for above in ["/var", "/var/lib"] {
            tree.insert(above.into(), Entry::new(Kind::Directory));
        }
        let package = |name: &str| Package { files: set(&[name]), ..Package::new(System::Rpm, name, "1") };
        let of = |packages: Vec<Package>, kept: &[&str]| {
            let (packages, kept) = (Packages::new(packages, Vec::new()), set(kept));
            let (texts, wanted) = (Texts::new(), BTreeSet::new());
            let ask = Ask { tree: &tree, texts: &texts, packages: &packages, kept: &kept, wanted: &wanted };
            match metadata(ask, Mode::Auto) {
                Step::Done(made) => (made.keep.len(), made.warnings),
                Step::Need(paths) => panic!("needs {paths:?}"),
            }
        };
        let both = || vec![package("/a"), package("/b")];
        let whole = "/var/lib/rpm/rpmdb.sqlite stays whole: scanners report 2 packages, 1 of which are gone".to_owned();
        assert_eq!(of(both(), &["/a"]), (1, vec![whole]));
        assert_eq!(of(both(), &["/a", "/b"]), (1, vec![]));
        assert_eq!(of(both(), &[]), (0, vec![]));
        let (kept, warnings) = of(Vec::new(), &["/a"]);
        assert!(kept == 1 && warnings.len() == 1 && warnings[0].contains("could not be read"), "{warnings:?}");
    }
}
