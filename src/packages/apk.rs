//! apk: the packages of Alpine, from `lib/apk/db/installed` (apk-tools, `doc/apk-package.5.scd` and the index
//! fields of `src/database.c`): one letter, a colon and a value a line, a blank line after each package.

use std::collections::BTreeSet;

use super::{Package, Reading, System, stanzas};
use crate::image::ImagePath;

/// Where apk keeps what is installed: apk-tools 2, and 3 after `/usr` was merged.
pub(super) const DATABASES: &[&str] = &["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// More packages than any image has: the rest of a database is not read.
const MAX_PACKAGES: usize = 100_000;

/// One package of the database.
pub(super) struct Installed<'a> {
    /// What the reader makes known of it.
    pub package: Package,
    /// Its lines, the blank one not included.
    pub stanza: &'a [u8],
}

/// Reads what apk knows.
pub(super) fn read(reading: &mut Reading<'_>) {
    for database in databases(reading) {
        let found = installed(reading, &database);
        reading.packages.extend(found.into_iter().map(|found| found.package));
    }
}

/// The databases of the image; one that has two names only once.
pub(super) fn databases(reading: &Reading<'_>) -> BTreeSet<ImagePath> {
    DATABASES.iter().filter_map(|path| reading.tree.find(path)).collect()
}

/// Every package of one database.
pub(super) fn installed<'a>(reading: &mut Reading<'a>, database: &ImagePath) -> Vec<Installed<'a>> {
    let text = reading.text(database.as_bytes()).unwrap_or_default();
    let mut found: Vec<Installed<'_>> = Vec::new();
    for stanza in stanzas(text) {
        if found.len() == MAX_PACKAGES {
            reading.warnings.push(format!("{database} has more than {MAX_PACKAGES} packages: the others are not read"));
            break;
        }
        let package = package(reading, stanza);
        if !package.name.is_empty() {
            found.push(Installed { package, stanza });
        }
    }
    if found.is_empty() && !text.is_empty() {
        reading.warnings.push(format!("{database} is not what apk writes: not read"));
    }
    found
}

/// The letter and the value of a line. `None` for another line.
fn field(line: &[u8]) -> Option<(u8, &[u8])> {
    match line {
        [letter, b':', value @ ..] => Some((*letter, value)),
        _ => None,
    }
}

fn package(reading: &Reading<'_>, stanza: &[u8]) -> Package {
    let mut package = Package::new(System::Apk, "", "");
    let mut dir: &[u8] = b"";
    for (letter, value) in stanza.split(|b| *b == b'\n').filter_map(field) {
        let text = || String::from_utf8_lossy(value);
        match letter {
            b'P' => package.name = text().into_owned(),
            b'V' => package.version = text().into_owned(),
            b'A' => package.architecture = text().into_owned(),
            b'o' => package.source = text().into_owned(),
            b'D' => package.requires.extend(names(&text()).map(|name| vec![name])),
            b'p' => package.provides.extend(names(&text())),
            b'F' => dir = value,
            b'R' => package.files.extend(reading.installed(listed(dir, value))),
            _ => {}
        }
    }
    package.source = match package.source == package.name {
        true => String::new(),
        false if package.source.is_empty() => String::new(),
        false => format!("{} {}", package.source, package.version),
    };
    package
}

/// The path of an `R:` line, below the directory of the `F:` line before it.
fn listed(dir: &[u8], name: &[u8]) -> Vec<u8> {
    [b"/", dir, b"/", name].concat()
}

/// The names of a list of dependencies, without versions and repositories (`a>=1`, `so:b.so.1`, `c@edge`).
/// What must not be there (`!d`) is no need.
fn names(list: &str) -> impl Iterator<Item = String> {
    list.split_whitespace()
        .filter(|name| !name.starts_with('!'))
        .map(|name| name.split(['<', '>', '=', '~', '@']).next().unwrap_or_default().to_owned())
        .filter(|name| !name.is_empty())
}

/// The lines of a package, its files thinned out to those for which `stays` says so. A directory stays with
/// the files in it.
pub(super) fn trimmed(reading: &Reading<'_>, stanza: &[u8], stays: impl Fn(&ImagePath) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(stanza.len() / 4);
    let mut dir: &[u8] = b"";
    // The lines of the directory, until a file in it stays.
    let mut waiting: Vec<&[u8]> = Vec::new();
    let mut in_file: Option<bool> = None;
    for line in stanza.split_inclusive(|b| *b == b'\n') {
        let (letter, value) = field(line.trim_ascii_end()).unwrap_or_default();
        match letter {
            b'F' => {
                (dir, waiting, in_file) = (value, vec![line], None);
            }
            b'R' => {
                let kept = reading.installed(listed(dir, value)).is_some_and(|path| stays(&path));
                in_file = Some(kept);
                if kept {
                    waiting.drain(..).for_each(|line| out.extend_from_slice(line));
                    out.extend_from_slice(line);
                }
            }
            b'M' if !waiting.is_empty() => waiting.push(line),
            b'M' if in_file.is_some() => {}
            b'a' | b'Z' if in_file == Some(false) => {}
            _ => out.extend_from_slice(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{Texts, read_with, tree_of};

    const DATABASE: &str = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:1\nD:\np:so:libc.musl-x86_64.so.1=1\nF:lib\n\
        R:ld-musl-x86_64.so.1\na:0:0:755\nZ:Q1x=\nR:libc.musl-x86_64.so.1\na:0:0:777\nZ:Q1y=\n\n\
        P:busybox\nV:1.36-r1\nD:so:libc.musl-x86_64.so.1 !uutils musl>=1.2 /bin/sh@edge\np:/bin/sh cmd:sh=1.36\n\
        r:busybox-initscripts\nF:bin\nM:0:0:755\nR:busybox\na:0:0:755\nZ:Q1z=\nF:etc\nF:etc/conf\nR:gone\nZ:Q1g=\n\n\n";

    fn tree() -> crate::image::Tree {
        tree_of(&[
            "/lib/ld-musl-x86_64.so.1",
            "/lib/libc.musl-x86_64.so.1 -> ld-musl-x86_64.so.1",
            "/bin/busybox",
            "/lib/apk/db/installed",
            "/usr/lib -> ../lib",
        ])
    }

    #[test]
    fn packages_have_their_files_and_meet_each_others_needs() {
        let packages = read_with(&tree(), &[("/lib/apk/db/installed", DATABASE)], read);
        let names: Vec<String> = packages.iter().map(|p| format!("{p} {}", p.version)).collect();
        assert_eq!(names, ["apk busybox 1.36-r1", "apk musl 1.2.5-r0"]);
        assert_eq!(packages.at(0).requires, [["so:libc.musl-x86_64.so.1"], ["musl"], ["/bin/sh"]]);
        assert_eq!(packages.at(0).provides, ["/bin/sh", "cmd:sh"]);
        assert_eq!(packages.owner(&"/lib/libc.musl-x86_64.so.1".into()).unwrap().name, "musl");
        assert_eq!(packages.at(0).files, BTreeSet::from(["/bin/busybox".into()]));
        assert_eq!(packages.closure([0]).len(), 2);
        assert_eq!(packages.warnings, [] as [&str; 0]);
    }

    #[test]
    fn a_trimmed_package_lists_only_what_stays() {
        let (tree, texts) = (tree(), Texts::new());
        let reading = Reading::new(&tree, &texts);
        let of = |name: &str| stanzas(DATABASE.as_bytes()).find(|s| String::from_utf8_lossy(s).contains(name)).unwrap();
        let musl = trimmed(&reading, of("P:musl"), |path| *path == "/lib/libc.musl-x86_64.so.1".into());
        assert_eq!(
            String::from_utf8(musl).unwrap(),
            "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:1\nD:\np:so:libc.musl-x86_64.so.1=1\nF:lib\n\
            R:libc.musl-x86_64.so.1\na:0:0:777\nZ:Q1y=\n"
        );
        let busybox = String::from_utf8(trimmed(&reading, of("P:busybox"), |_| true)).unwrap();
        assert!(busybox.ends_with("F:bin\nM:0:0:755\nR:busybox\na:0:0:755\nZ:Q1z=\n"), "{busybox}");
        let none = String::from_utf8(trimmed(&reading, of("P:busybox"), |_| false)).unwrap();
        assert!(none.ends_with("r:busybox-initscripts\n"), "{none}");
    }

    #[test]
    fn garbage_is_one_warning() {
        let packages = read_with(&tree(), &[("/lib/apk/db/installed", "F:x\nR:../../..\n\n\u{0}\n\nP:\n\n")], read);
        assert_eq!(packages.iter().count(), 0);
        assert_eq!(packages.warnings, ["/lib/apk/db/installed is not what apk writes: not read"]);
    }
}
