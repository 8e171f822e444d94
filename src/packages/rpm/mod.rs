//! rpm: the packages of Fedora, RHEL and SUSE, from `rpmdb.sqlite` or `Packages.db`. The Berkeley DB of rpm
//! before 4.16 is not read.

mod header;
mod ndb;
mod sqlite;

use std::collections::{BTreeMap, BTreeSet};

use self::header::{Header, tag};
use super::{Package, Reading, System};
use crate::image::ImagePath;

/// Where rpm keeps its database, today and before; the last is where images of ostree have it.
pub(super) const DIRECTORIES: &[&str] = &["/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm"];

/// More packages than any image has: the rest of a database is not read.
const MAX_PACKAGES: usize = 100_000;

/// Longer than the kernel takes a path.
const MAX_PATH: usize = 4096;

/// The directory bit of a file mode (inode(7)).
const DIRECTORY: (u32, u32) = (0o170_000, 0o040_000);

/// Reads what rpm knows.
pub(super) fn read(reading: &mut Reading<'_>) {
    let dirs: BTreeSet<ImagePath> = DIRECTORIES.iter().filter_map(|dir| reading.tree.find(dir)).collect();
    let mut found = Vec::new();
    for dir in dirs {
        for blob in blobs(reading, &dir).iter().take(MAX_PACKAGES) {
            // gpg-pubkey: keys are filed among packages.
            found.extend(Header::parse(blob).map(|header| package(reading, &header)).filter(|p| p.name != "gpg-pubkey"));
        }
    }
    found.retain(|package| !package.name.is_empty());
    provide_files(reading, &mut found);
    reading.packages.append(&mut found);
}

/// The headers of the database in a directory.
fn blobs(reading: &mut Reading<'_>, dir: &ImagePath) -> Vec<Vec<u8>> {
    let (sqlite, ndb, bdb) = (dir.child(b"rpmdb.sqlite"), dir.child(b"Packages.db"), dir.child(b"Packages"));
    let has = |path: &ImagePath| reading.tree.contains(path);
    let (database, is_sqlite) = match (has(&sqlite), has(&ndb)) {
        (true, _) => (sqlite, true),
        (false, true) => (ndb, false),
        (false, false) => {
            if has(&bdb) {
                reading.warnings.push(format!("{bdb} is a Berkeley DB, which is not read: rpm's packages are not known"));
            }
            return Vec::new();
        }
    };
    let log = dir.child(b"rpmdb.sqlite-wal");
    if is_sqlite && reading.tree.get(&log).is_some_and(|entry| entry.size > 0) {
        reading.warnings.push(format!("{log} has changes that are not in the database yet and are not read"));
    }
    let Some(file) = reading.text(database.as_bytes()) else { return Vec::new() };
    let (found, damage) = if is_sqlite { sqlite::blobs(file, "Packages") } else { ndb::blobs(file) };
    if let Some(damage) = damage {
        reading.warnings.push(format!("{database} is damaged ({damage}): {} packages were read", found.len()));
    }
    found
}

fn package(reading: &Reading<'_>, header: &Header<'_>) -> Package {
    let epoch = header.numbers(tag::EPOCH).next().map(|epoch| format!("{epoch}:")).unwrap_or_default();
    let release = header.text(tag::RELEASE);
    let version = format!("{epoch}{}-{release}", header.text(tag::VERSION));
    let mut package = Package::new(System::Rpm, header.text(tag::NAME), version);
    package.files = files(reading, header);
    package.architecture = header.text(tag::ARCH);
    package.source = source(&header.text(tag::SOURCE_RPM));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    package.provides = header.texts(tag::PROVIDE_NAME).map(text).filter(|name| !is_internal(name)).collect();
    package.requires = header.texts(tag::REQUIRE_NAME).map(text).flat_map(|need| needs(&need)).collect();
    package
}

/// `NAME VERSION-RELEASE` of `NAME-VERSION-RELEASE.src.rpm`; empty for another text.
fn source(file: &str) -> String {
    let stem = file.strip_suffix(".src.rpm").unwrap_or_default();
    let mut parts = stem.rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(release), Some(version), Some(name)) => format!("{name} {version}-{release}"),
        _ => String::new(),
    }
}

/// What the image has of a package's files. Not its directories, which may be links in the image, nor what
/// rpm says it replaced or never installed.
fn files(reading: &Reading<'_>, header: &Header<'_>) -> BTreeSet<ImagePath> {
    let dirs: Vec<&[u8]> = header.texts(tag::DIR_NAMES).collect();
    let mut modes = header.numbers(tag::FILE_MODES);
    let mut states = header.numbers(tag::FILE_STATES);
    let mut found = BTreeSet::new();
    let mut add = |path: &[u8]| {
        let is_dir = modes.next().is_some_and(|mode| mode & DIRECTORY.0 == DIRECTORY.1);
        let is_gone = matches!(states.next(), Some(1 | 2));
        if !is_dir && !is_gone && path.len() < MAX_PATH {
            found.extend(reading.installed(path));
        }
    };
    for (base, dir) in header.texts(tag::BASE_NAMES).zip(header.numbers(tag::DIR_INDEXES)) {
        match dirs.get(dir as usize) {
            Some(dir) if dir.len() + base.len() < MAX_PATH => add(&[dir, base].concat()),
            _ => add(b"/"),
        }
    }
    header.texts(tag::OLD_FILE_NAMES).for_each(&mut add);
    found
}

/// `rpmlib(...)`: what rpm itself must be able to do; `config(...)`: a package's own configuration.
fn is_internal(name: &str) -> bool {
    name.is_empty() || name.starts_with("rpmlib(") || name.starts_with("config(")
}

/// What a requirement asks for. Of a boolean one (rpm, `docs/manual/boolean_dependencies.md`): `(a or b)` is
/// met by one of them, `(a and b)`, `(a with b)` by both, `(a if b)`, `(a unless b)` by a, needed or not.
fn needs(need: &str) -> Vec<Vec<String>> {
    if is_internal(need) {
        return Vec::new();
    }
    if !need.starts_with('(') {
        return vec![vec![need.to_owned()]];
    }
    let spaced = need.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(need);
    let mut words = spaced.split_whitespace().map(|word| word.trim_start_matches('('));
    let mut names: Vec<String> = Vec::new();
    let mut any = false;
    while let Some(word) = words.next() {
        match word.trim_end_matches(')') {
            "or" => any = true,
            "and" | "with" | "" => {}
            "if" | "unless" | "else" | "without" => break,
            word if word.starts_with(['<', '>', '=']) => drop(words.next()),
            _ if is_internal(word) => {}
            // A name may have brackets of its own: libc.so.6()(64bit).
            _ => names.push(balanced(word).to_owned()),
        }
    }
    if any { vec![names] } else { names.into_iter().map(|name| vec![name]).collect() }
}

/// A word without the closing brackets at its end that it did not open.
fn balanced(word: &str) -> &str {
    let opened = word.matches('(').count();
    let mut word = word;
    while word.ends_with(')') && word.matches(')').count() > opened {
        word = &word[..word.len() - 1];
    }
    word
}

/// A requirement may be a path: then the package that has the file provides it.
fn provide_files(reading: &Reading<'_>, packages: &mut [Package]) {
    let wanted: BTreeSet<&String> =
        packages.iter().flat_map(|package| package.requires.iter().flatten()).filter(|name| name.starts_with('/')).collect();
    let mut by_file: BTreeMap<ImagePath, Vec<String>> = BTreeMap::new();
    for name in wanted {
        if let Some(file) = reading.installed(name) {
            by_file.entry(file).or_default().push(name.clone());
        }
    }
    for package in packages {
        // One of the packages that share a file is enough.
        let names = package.files.iter().filter_map(|file| by_file.remove(file));
        package.provides.extend(names.flatten());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::image::{Entry, Kind, Tree};
    use crate::packages::{Packages, Step, Texts, tree_of};

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Made by `fixtures/rpm/make sqlite` with rpm 4.18.
    fn sqlite() -> Vec<u8> {
        unpacked(include_bytes!("../../../fixtures/rpm/rpmdb.sqlite.gz"))
    }

    /// Made by `fixtures/rpm/make ndb` with rpm 4.16.
    fn ndb() -> Vec<u8> {
        unpacked(include_bytes!("../../../fixtures/rpm/Packages.db.gz"))
    }

    fn tree_with(database: &str) -> Tree {
        let part = |n: usize| format!("/usr/lib64/libhello-part-{n}.so");
        let parts: Vec<String> = (1..=99).map(part).collect();
        let mut lines = vec![
            "/lib -> usr/lib", "/usr/lib/", "/usr/bin/hello", "/usr/bin/hi -> hello", "/usr/bin/tool", "/etc/hello.conf",
            "/usr/share/hello/empty/", "/var/lib/rpm -> ../../usr/lib/sysimage/rpm", database,
        ];
        lines.extend(parts.iter().map(String::as_str));
        tree_of(&lines)
    }

    fn read_bytes(file: &str, bytes: Vec<u8>) -> Packages {
        let tree = tree_with(file);
        let texts = Texts::from([(file.into(), bytes)]);
        let mut reading = Reading::new(&tree, &texts);
        read(&mut reading);
        assert!(reading.need.is_empty());
        Packages::new(reading.packages, reading.warnings)
    }

    fn assert_is_what_was_installed(packages: &Packages) {
        assert_eq!(packages.warnings, [] as [&str; 0]);
        let names: Vec<String> = packages.iter().map(|p| format!("{p} {} {}", p.version, p.files.len())).collect();
        assert_eq!(names, ["rpm hello 3:1.0-2 3", "rpm libhello 1.0-2 99", "rpm tool 1.0-2 1"]);
        let hello = packages.at(0);
        assert_eq!(hello.requires, [vec!["world", "tool"], vec!["/usr/bin/tool"], vec!["libhello"]]);
        assert_eq!(hello.provides, ["greeting", "hello"]);
        assert_eq!(packages.at(2).provides, ["tool", "/usr/bin/tool"]);
        assert_eq!(packages.closure([0]).len(), 3);
        assert_eq!(packages.owner(&"/usr/bin/hi".into()).unwrap().name, "hello");
        assert!(packages.owner(&"/lib".into()).is_none());
    }

    const SQLITE: &str = "/usr/lib/sysimage/rpm/rpmdb.sqlite";
    const NDB: &str = "/usr/lib/sysimage/rpm/Packages.db";

    #[test]
    fn an_rpmdb_in_sqlite_is_read() {
        assert_is_what_was_installed(&read_bytes(SQLITE, sqlite()));
    }

    #[test]
    fn an_rpmdb_in_ndb_is_read() {
        assert_is_what_was_installed(&read_bytes(NDB, ndb()));
    }

    #[test]
    fn a_damaged_database_is_survived_with_one_warning() {
        for (file, whole) in [(SQLITE, sqlite()), (NDB, ndb())] {
            let step = whole.len() / 37;
            for cut in (0..whole.len()).step_by(step) {
                let packages = read_bytes(file, whole[..cut].to_vec());
                assert!(packages.warnings.len() <= 1 && packages.iter().count() <= 3, "{file} cut at {cut}");
            }
            for flip in (0..whole.len()).step_by(step).chain(0..120) {
                for byte in [0, 0x7f, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[flip] = byte;
                    let packages = read_bytes(file, bytes);
                    assert!(packages.warnings.len() <= 1, "{file} with {byte} at {flip}");
                }
            }
            assert_eq!(read_bytes(file, b"garbage".to_vec()).warnings.len(), 1);
        }
    }

    #[test]
    fn what_is_not_read_is_said() {
        let warnings = |lines: &[&str], log: u64| {
            let mut tree = tree_of(lines);
            let entry = Entry { size: log, ..Entry::new(Kind::File) };
            tree.insert("/var/lib/rpm/rpmdb.sqlite-wal".into(), entry);
            let texts = Texts::from([("/var/lib/rpm/rpmdb.sqlite".into(), sqlite())]);
            match crate::packages::read(&tree, &texts) {
                Step::Done(packages) => packages.warnings,
                Step::Need(_) => panic!("asks for what is not there"),
            }
        };
        let of_bdb = warnings(&["/var/lib/rpm/Packages"], 0);
        assert!(of_bdb.len() == 1 && of_bdb[0].contains("Berkeley DB"), "{of_bdb:?}");
        let of_log = warnings(&["/var/lib/rpm/rpmdb.sqlite"], 32);
        assert!(of_log.len() == 1 && of_log[0].contains("-wal has changes"), "{of_log:?}");
        assert!(warnings(&["/var/lib/rpm/rpmdb.sqlite"], 0).is_empty());
    }

    #[test]
    fn boolean_requirements_are_taken_apart() {
        for (need, names) in [
            ("libc.so.6()(64bit)", "libc.so.6()(64bit)"),
            ("(a or b)", "a|b"),
            ("(a >= 1 and libb.so()(64bit))", "a libb.so()(64bit)"),
            ("((a or b) if c)", "a|b"),
            ("(a if (b or c) else d)", "a"),
            ("rpmlib(X)", ""),
            ("config(a)", ""),
            ("(((", ""),
        ] {
            let found: Vec<String> = needs(need).iter().map(|need| need.join("|")).collect();
            assert_eq!(found.join(" "), names, "{need}");
        }
    }
}
