//! dpkg: the packages of Debian and Ubuntu, from `/var/lib/dpkg/status` and `info/*.list` (dpkg(1),
//! deb822(5)), and of distroless images, from `status.d/PACKAGE` and `status.d/PACKAGE.md5sums`.

mod plugins;

use std::collections::{BTreeMap, BTreeSet};

use super::{Package, Reading, System};
use crate::image::{ImagePath, Tree};

/// Where dpkg keeps what it knows.
pub(super) const DATABASE: &str = "/var/lib/dpkg";

/// More packages than any image has: the rest of a database is not read.
const MAX_PACKAGES: usize = 100_000;

/// Bytes of file lists read from one image; a desktop with 3000 packages has 40 MB.
const MAX_LISTS: u64 = 256 << 20;

/// What is data of no use but to programs that ask for it by name, and is therefore only recommended to them:
/// fonts, which ImageMagick, Java or a renderer of PDF cannot do without once they draw text. How names begin.
const RECOMMENDED_DATA: &[&str] = &["fonts-", "gsfonts", "poppler-data", "ttf-"];

/// One installed package, with the places that tell of it.
pub(super) struct Installed<'a> {
    /// What the reader makes known of it.
    pub package: Package,
    /// `amd64`, `all`.
    pub architecture: String,
    /// What dpkg wrote of it, without the blank line at its end.
    pub stanza: &'a [u8],
    /// The file of distroless images that holds this stanza alone. `None` where all stanzas are in `status`.
    pub own_file: Option<ImagePath>,
    /// Its checksums file, where the image has one.
    pub md5sums: Option<ImagePath>,
}

/// Reads what dpkg knows.
pub(super) fn read(reading: &mut Reading<'_>) {
    let found = installed(reading);
    reading.packages.extend(found.into_iter().map(|found| found.package));
}

/// Every installed package.
pub(super) fn installed<'a>(reading: &mut Reading<'a>) -> Vec<Installed<'a>> {
    let Some(dir) = reading.tree.find(DATABASE) else { return Vec::new() };
    let stanzas = stanzas(reading, &dir);
    let mut lists = Lists::new(reading, &dir);
    let mut found = Vec::with_capacity(stanzas.len());
    for (stanza, own_file) in stanzas {
        found.extend(lists.installed(reading, stanza, own_file));
    }
    if let Some(example) = &lists.example_without {
        let count = lists.without;
        reading.warnings.push(format!("dpkg has no list of files for {count} of its packages, {example} the first"));
    }
    if lists.too_long {
        reading.warnings.push("dpkg has more lists of files than are believed: not all were read".into());
    }
    directories_are_nobodys(reading.tree, &mut found);
    add_alternatives(reading.tree, &mut found);
    plugins::add(&mut found);
    found
}

/// The stanzas of all packages that are there, with the file of their own of those that have one.
fn stanzas<'a>(reading: &mut Reading<'a>, dir: &ImagePath) -> Vec<(&'a [u8], Option<ImagePath>)> {
    let mut all: Vec<(&[u8], Option<ImagePath>)> = Vec::new();
    if let Some(status) = reading.text(dir.child(b"status").as_bytes()) {
        all.extend(package_stanzas(status).map(|stanza| (stanza, None)));
        if all.is_empty() && status.iter().any(|b| !b.is_ascii_whitespace()) {
            reading.warnings.push(format!("{} is not what dpkg writes: not read", dir.child(b"status")));
        }
    }
    let each = dir.child(b"status.d");
    for (path, _) in reading.tree.children(&each).take(MAX_PACKAGES) {
        let name = path.file_name().unwrap_or_default();
        if name.ends_with(b".md5sums") || name.ends_with(b".list") {
            continue;
        }
        let text = reading.text(path.as_bytes()).unwrap_or_default();
        all.extend(package_stanzas(text).take(1).map(|stanza| (stanza, Some(path.clone()))));
    }
    if all.len() > MAX_PACKAGES {
        reading.warnings.push(format!("dpkg names {} packages: those after {MAX_PACKAGES} are not read", all.len()));
        all.truncate(MAX_PACKAGES);
    }
    all.retain(|(stanza, _)| is_installed(stanza));
    all
}

/// The parts of a deb822(5) file that have a `Package` field.
fn package_stanzas(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    super::stanzas(text).filter(|stanza| field(stanza, "Package").is_some())
}

/// A field's value, the lines that continue it included. `None` when the stanza does not have it.
fn field<'a>(stanza: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = 0;
    for line in stanza.split_inclusive(|b| *b == b'\n') {
        let start = at + name.len() + 1;
        at += line.len();
        if line.len() > name.len()
            && line[name.len()] == b':'
            && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        {
            let mut end = at;
            for more in stanza[at..].split_inclusive(|b| *b == b'\n') {
                if !matches!(more.first(), Some(b' ' | b'\t')) {
                    break;
                }
                end += more.len();
            }
            return Some(stanza[start..end].trim_ascii());
        }
    }
    None
}

fn text_field(stanza: &[u8], name: &str) -> String {
    String::from_utf8_lossy(field(stanza, name).unwrap_or_default()).into_owned()
}

/// Whether its files are there: the third word of `Status`. Distroless stanzas have none.
fn is_installed(stanza: &[u8]) -> bool {
    let status = text_field(stanza, "Status");
    !matches!(status.split_whitespace().nth(2), Some("config-files" | "not-installed"))
}

/// `NAME VERSION` of `Source: NAME (VERSION)`; both only where they differ from the package's own (deb822(5)).
fn source(field: &str, version: &str) -> String {
    let (name, own) = field.split_once(" (").unwrap_or((field, version));
    if name.is_empty() { String::new() } else { format!("{name} {}", own.trim_end_matches(')')) }
}

/// The needs of `Depends`: `a (>= 1) | b:any, c [amd64]` are two, the first met by a or b.
fn needs(text: &str) -> impl Iterator<Item = Vec<String>> {
    text.split(',')
        .map(|need| need.split('|').map(bare_name).filter(|name| !name.is_empty()).collect::<Vec<_>>())
        .filter(|need| !need.is_empty())
}

/// The needs of `Recommends` that are for data. An image that was made without them does not have them.
fn data_needs(text: &str) -> impl Iterator<Item = Vec<String>> {
    let is_data = |name: &String| RECOMMENDED_DATA.iter().any(|start| name.starts_with(start));
    needs(text).map(move |need| need.into_iter().filter(is_data).collect::<Vec<_>>()).filter(|need| !need.is_empty())
}

/// A relation's package name without version, architecture and profile.
fn bare_name(relation: &str) -> String {
    let end = |c: char| c.is_whitespace() || "([<:".contains(c);
    relation.trim().split(end).next().unwrap_or_default().to_owned()
}

/// The files of `info/`, and what was made of them so far.
struct Lists {
    /// By the name before the last dot: `libc6:amd64` has `libc6:amd64.list`, `libc6:amd64.md5sums` ...
    of_package: BTreeMap<Vec<u8>, Vec<ImagePath>>,
    diversions: BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
    used: BTreeSet<ImagePath>,
    bytes: u64,
    too_long: bool,
    without: usize,
    example_without: Option<String>,
}

impl Lists {
    fn new(reading: &mut Reading<'_>, dir: &ImagePath) -> Self {
        let mut of_package: BTreeMap<Vec<u8>, Vec<ImagePath>> = BTreeMap::new();
        let info = dir.child(b"info");
        for (path, _) in reading.tree.children(&info).filter(|(_, entry)| !entry.is_dir()) {
            let name = path.file_name().unwrap_or_default();
            if let Some(dot) = name.iter().rposition(|b| *b == b'.') {
                of_package.entry(name[..dot].to_vec()).or_default().push(path.clone());
            }
        }
        let diverted = reading.text(dir.child(b"diversions").as_bytes()).unwrap_or_default();
        Self {
            of_package,
            diversions: diversions(diverted),
            used: BTreeSet::new(),
            bytes: 0,
            too_long: false,
            without: 0,
            example_without: None,
        }
    }

    /// One package. `None` for one that was there already.
    fn installed<'a>(
        &mut self,
        reading: &mut Reading<'a>,
        stanza: &'a [u8],
        own_file: Option<ImagePath>,
    ) -> Option<Installed<'a>> {
        let mut package = Package::new(System::Dpkg, text_field(stanza, "Package"), text_field(stanza, "Version"));
        for name in ["Pre-Depends", "Depends"] {
            package.requires.extend(needs(&text_field(stanza, name)));
        }
        package.requires.extend(data_needs(&text_field(stanza, "Recommends")));
        package.provides.extend(needs(&text_field(stanza, "Provides")).flatten());
        let architecture = text_field(stanza, "Architecture");
        package.architecture = architecture.clone();
        package.source = source(&text_field(stanza, "Source"), &package.version);
        package.description = match &own_file {
            Some(path) => beside(reading.tree, path),
            None => self.description(&package.name, &architecture),
        };
        let ends_with = |end: &[u8]| package.description.iter().find(|path| path.as_bytes().ends_with(end)).cloned();
        let md5sums = ends_with(b".md5sums");
        let list = ends_with(b".list").or_else(|| own_file.as_ref().and(md5sums.clone()));
        if let Some(list) = &list
            && !self.used.insert(list.clone())
        {
            return None;
        }
        self.add_files(reading, &mut package, list);
        add_conffiles(reading, &mut package, stanza);
        Some(Installed { package, architecture, stanza, own_file, md5sums })
    }

    /// `info/NAME:ARCH.*`, or `info/NAME.*`.
    fn description(&self, name: &str, architecture: &str) -> BTreeSet<ImagePath> {
        let with_architecture = self.of_package.get(format!("{name}:{architecture}").as_bytes());
        let found = with_architecture.or_else(|| self.of_package.get(name.as_bytes()));
        found.into_iter().flatten().cloned().collect()
    }

    fn add_files(&mut self, reading: &mut Reading<'_>, package: &mut Package, list: Option<ImagePath>) {
        let size = list.as_ref().and_then(|list| reading.tree.get(list)).map_or(0, |entry| entry.size);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MAX_LISTS {
            self.too_long = true;
            return;
        }
        let sums = list.as_ref().is_some_and(|list| list.as_bytes().ends_with(b".md5sums"));
        let text = list.and_then(|list| reading.text(list.as_bytes())).unwrap_or_default();
        if text.is_empty() {
            self.without += 1;
            self.example_without.get_or_insert_with(|| package.name.clone());
        }
        let listed: Vec<&[u8]> = text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        for (at, line) in listed.iter().enumerate() {
            let path: &[u8] = if sums { sum_path(line).unwrap_or_default() } else { line };
            // dpkg writes a directory before what is in it.
            let is_dir = listed.get(at + 1).is_some_and(|next| is_below(next, path));
            if path.is_empty() || (is_dir && !sums) {
                continue;
            }
            let place = match self.diversions.get(path) {
                Some((to, by)) if by != package.name.as_bytes() => to,
                _ => path,
            };
            package.files.extend(reading.installed(rooted(place)));
        }
    }
}

/// Configuration files that `Conffiles` names; distroless checksums leave them out.
fn add_conffiles(reading: &Reading<'_>, package: &mut Package, stanza: &[u8]) {
    for line in field(stanza, "Conffiles").unwrap_or_default().split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        let line = line.strip_suffix(b" obsolete").unwrap_or(line);
        let line = line.strip_suffix(b" remove-on-upgrade").unwrap_or(line);
        if let Some(space) = line.iter().rposition(|b| *b == b' ') {
            package.files.extend(reading.installed(&line[..space]));
        }
    }
}

/// The path of a line of a checksums file: 32 digits, two spaces, a path without its first slash. `None` for
/// another line.
pub(super) fn sum_path(line: &[u8]) -> Option<&[u8]> {
    let (sum, path) = line.split_at_checked(34)?;
    (sum[..32].iter().all(u8::is_ascii_hexdigit) && sum.ends_with(b"  ")).then_some(path)
}

/// A listed path with its slash: checksums files spell them without.
pub(super) fn rooted(path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() }
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
}

/// `status.d/NAME` and the files that belong to it.
fn beside(tree: &Tree, own_file: &ImagePath) -> BTreeSet<ImagePath> {
    let named = |end: &str| ImagePath::new([own_file.as_bytes(), end.as_bytes()].concat());
    [named(""), named(".md5sums"), named(".list")].into_iter().filter(|path| tree.contains(path)).collect()
}

/// `diversions` (dpkg-divert(1)): three lines each, the path, where it went, and the package whose file has
/// the path; `:` when it is nobody's.
fn diversions(text: &[u8]) -> BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)> {
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    lines.chunks_exact(3).map(|three| (three[0].to_vec(), (three[1].to_vec(), three[2].to_vec()))).collect()
}

/// A list does not say what is a directory. Where the image has a link in a directory's place (`/lib`,
/// `/var/run`), many packages list it, which they can do with directories only: it belongs to none of them,
/// else whoever passes through it would seem to use them all.
fn directories_are_nobodys(tree: &Tree, found: &mut [Installed<'_>]) {
    let mut claims: BTreeMap<ImagePath, BTreeSet<String>> = BTreeMap::new();
    for Installed { package, .. } in found.iter() {
        for path in package.files.iter().filter(|path| is_link_to_directory(tree, path)) {
            claims.entry(path.clone()).or_default().insert(package.name.clone());
        }
    }
    claims.retain(|_, names| names.len() > 1);
    for Installed { package, .. } in found.iter_mut() {
        package.files.retain(|path| !claims.contains_key(path));
    }
}

fn is_link_to_directory(tree: &Tree, path: &ImagePath) -> bool {
    let is_link = tree.get(path).is_some_and(|entry| entry.link_target().is_some());
    is_link && tree.find(path.as_bytes()).and_then(|end| tree.get(&end)).is_some_and(|entry| entry.is_dir())
}

/// The links of update-alternatives(1), which no list names, belong to the package whose file they lead to.
fn add_alternatives(tree: &Tree, found: &mut [Installed<'_>]) {
    if found.is_empty() {
        return;
    }
    let alternatives = ImagePath::from("/etc/alternatives");
    let mut leads: BTreeMap<ImagePath, Vec<ImagePath>> = BTreeMap::new();
    for (path, entry) in tree.iter() {
        let Some(target) = entry.link_target() else { continue };
        let above = path.parent().unwrap_or_else(ImagePath::root);
        if !path.starts_with(&alternatives) && !above.join(target).starts_with(&alternatives) {
            continue;
        }
        if let Some(end) = tree.find(path.as_bytes()) {
            leads.entry(end).or_default().push(path.clone());
        }
    }
    for Installed { package, .. } in found {
        let links: Vec<ImagePath> = package.files.iter().filter_map(|path| leads.remove(path)).flatten().collect();
        package.files.extend(links);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{Packages, read_with, tree_of};

    fn paths(packages: &Packages, name: &str) -> Vec<String> {
        let package = packages.iter().find(|package| package.name == name).unwrap();
        package.files.iter().map(ImagePath::encode).collect()
    }

    #[test]
    fn a_package_has_its_listed_files_its_needs_and_its_description() {
        let tree = tree_of(&[
            "/lib -> usr/lib",
            "/usr/lib/libc.so.6",
            "/usr/lib/libd.so.1",
            "/etc/d.conf",
            "/var/lib/dpkg/status",
            "/var/lib/dpkg/info/libc6:amd64.list",
            "/var/lib/dpkg/info/libc6:amd64.md5sums",
            "/var/lib/dpkg/info/libd1.list",
            "/var/lib/dpkg/info/libd1.2.list",
            "/var/lib/dpkg/info/libd1.postinst",
        ]);
        let status = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n\
            Provides: libc6-2.36, libcee (= 1)\nDepends: libgcc-s1\n\n\
            Package: libd1\nstatus: install ok half-configured\nArchitecture: all\nVersion: 1:2\n\
            Pre-Depends: libc6 (>= 2.3) | musl:any, init [linux-any]\nDepends: a,\n b <!nocheck>\n\
            Recommends: editor, gsfonts | psfontmgr, fonts-urw-base35 (>= 2)\n\
            Conffiles:\n /etc/d.conf 0123 obsolete\nDescription: d\n Package: none\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        let packages = read_with(
            &tree,
            &[
                ("/var/lib/dpkg/status", status),
                ("/var/lib/dpkg/info/libc6:amd64.list", "/.\n/lib\n/lib/libc.so.6\n/usr/share/doc/libc6/copyright\n"),
                ("/var/lib/dpkg/info/libd1.list", "/.\n/lib\n/lib/libd.so.1\n"),
            ],
            read,
        );
        assert_eq!(packages.warnings, [] as [&str; 0]);
        let names: Vec<String> = packages.iter().map(|p| format!("{p} {}", p.version)).collect();
        assert_eq!(names, ["dpkg libc6 2.36-9", "dpkg libd1 1:2"]);
        assert_eq!(paths(&packages, "libc6"), ["/usr/lib/libc.so.6"]);
        assert_eq!(paths(&packages, "libd1"), ["/etc/d.conf", "/usr/lib/libd.so.1"]);
        let (libc, libd) = (packages.at(0), packages.at(1));
        assert_eq!(libc.provides, ["libc6-2.36", "libcee"]);
        assert_eq!(libd.requires, [vec!["libc6", "musl"], vec!["init"], vec!["a"], vec!["b"], vec!["gsfonts"], vec!["fonts-urw-base35"]]);
        assert_eq!(libc.description.len(), 2);
        let described: Vec<String> = libd.description.iter().map(ImagePath::encode).collect();
        assert_eq!(described, ["/var/lib/dpkg/info/libd1.list", "/var/lib/dpkg/info/libd1.postinst"]);
        assert!(packages.owner(&"/lib".into()).is_none());
    }

    #[test]
    fn distroless_packages_are_known_by_their_checksums() {
        let tree = tree_of(&[
            "/usr/lib/libc.so.6",
            "/etc/c.conf",
            "/var/lib/dpkg/status.d/libc6",
            "/var/lib/dpkg/status.d/libc6.md5sums",
        ]);
        let sums = "0123456789abcdef0123456789abcdef  usr/lib/libc.so.6\nnonsense\n";
        let stanza = "Package: libc6\nVersion: 2\nConffiles:\n /etc/c.conf 00\n";
        let texts = [("/var/lib/dpkg/status.d/libc6", stanza), ("/var/lib/dpkg/status.d/libc6.md5sums", sums)];
        let packages = read_with(&tree, &texts, read);
        assert_eq!(paths(&packages, "libc6"), ["/etc/c.conf", "/usr/lib/libc.so.6"]);
        assert_eq!(packages.at(0).description.len(), 2);
        assert_eq!(packages.warnings, [] as [&str; 0]);
    }

    #[test]
    fn a_diverted_file_is_where_it_was_diverted_to() {
        let tree = tree_of(&[
            "/bin/sh",
            "/bin/sh.distrib",
            "/var/lib/dpkg/diversions",
            "/var/lib/dpkg/status",
            "/var/lib/dpkg/info/bash.list",
            "/var/lib/dpkg/info/dash.list",
        ]);
        let packages = read_with(
            &tree,
            &[
                ("/var/lib/dpkg/diversions", "/bin/sh\n/bin/sh.distrib\ndash\n"),
                ("/var/lib/dpkg/status", "Package: bash\n\nPackage: dash\n"),
                ("/var/lib/dpkg/info/bash.list", "/bin/sh\n"),
                ("/var/lib/dpkg/info/dash.list", "/bin/sh\n"),
            ],
            read,
        );
        assert_eq!(paths(&packages, "bash"), ["/bin/sh.distrib"]);
        assert_eq!(paths(&packages, "dash"), ["/bin/sh"]);
    }

    #[test]
    fn an_alternative_belongs_to_the_package_that_it_leads_to() {
        let tree = tree_of(&[
            "/etc/alternatives/awk -> /usr/bin/mawk",
            "/etc/alternatives/none -> /usr/bin/none",
            "/usr/bin/awk -> ../../etc/alternatives/awk",
            "/usr/bin/mawk",
            "/usr/bin/other -> mawk",
            "/var/lib/dpkg/status",
            "/var/lib/dpkg/info/mawk.list",
        ]);
        let texts = [("/var/lib/dpkg/status", "Package: mawk\n"), ("/var/lib/dpkg/info/mawk.list", "/usr/bin/mawk\n")];
        let packages = read_with(&tree, &texts, read);
        assert_eq!(paths(&packages, "mawk"), ["/etc/alternatives/awk", "/usr/bin/awk", "/usr/bin/mawk"]);
    }

    #[test]
    fn a_link_that_many_list_as_a_directory_is_nobodys() {
        let tree = tree_of(&[
            "/var/run -> /run",
            "/run/",
            "/usr/share/doc/b -> a",
            "/usr/share/doc/a/",
            "/var/lib/dpkg/status",
            "/var/lib/dpkg/info/a.list",
            "/var/lib/dpkg/info/b.list",
        ]);
        let texts = [
            ("/var/lib/dpkg/status", "Package: a\n\nPackage: b\n"),
            ("/var/lib/dpkg/info/a.list", "/var/run\n/usr/share/doc/a\n"),
            ("/var/lib/dpkg/info/b.list", "/var/run\n/usr/share/doc/b\n"),
        ];
        let packages = read_with(&tree, &texts, read);
        assert_eq!(paths(&packages, "a"), [] as [&str; 0]);
        assert_eq!(paths(&packages, "b"), ["/usr/share/doc/b"]);
    }

    #[test]
    fn a_database_that_lies_is_survived_with_few_warnings() {
        let tree = tree_of(&["/var/lib/dpkg/status", "/var/lib/dpkg/info/a.list", "/loop -> loop"]);
        let status = "Package: a\nDepends: ((, |||, a\n\n".repeat(5000) + "Package: ../x\n\nPackage:\n\n\n";
        let texts = [("/var/lib/dpkg/status", status.as_str()), ("/var/lib/dpkg/info/a.list", "/../..//loop/x\nqq\n\u{0}\n")];
        let packages = read_with(&tree, &texts, read);
        assert_eq!(packages.iter().filter(|package| package.name == "a").count(), 1);
        assert_eq!(packages.warnings, ["dpkg has no list of files for 2 of its packages, ../x the first"]);
        let garbage = read_with(&tree, &[("/var/lib/dpkg/status", "\u{1}\u{2}garbage\n\n:::\n")], read);
        assert_eq!(garbage.warnings, ["/var/lib/dpkg/status is not what dpkg writes: not read"]);
        assert_eq!(garbage.iter().count(), 0);
        assert_eq!(read_with(&tree_of(&["/var/lib/dpkg -> /nope"]), &[], read), Packages::default());
    }
}
