//! Java: run-times that were unpacked rather than installed by the operating system, unpacked web applications,
//! and directories of jars. A jar is one file; those that stand together are one class path, of which a run
//! opens only what it comes to need.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::{all_below, at_place, is_shared, text};
use super::{Package, Reading, System};
use crate::image::{ImagePath, Tree};

/// What of a Java home is for those who make programs, or to be read by people.
const DEVELOPMENT: &[&[u8]] = &[b"demo", b"docs", b"include", b"jmods", b"legal", b"man", b"sample", b"src.zip"];

/// The same in its `lib`: signatures of older releases, for the compiler, and sources.
const DEVELOPMENT_LIB: &[&[u8]] = &[b"ct.sym", b"src.zip", b"static"];

/// Directories in which jars of many packages stand, each for itself.
const STORES: &[&str] = &["/usr/share/java", "/usr/share/maven-repo", "/usr/share/maven-repo-legacy"];

/// Directories that an unpacked application has at its top (Servlet specification; Spring Boot's executable jars).
const UNPACKED: &[&[u8]] = &[b"BOOT-INF", b"WEB-INF"];

/// Reads the run-times and applications of an image.
pub(super) fn read(reading: &mut Reading<'_>) {
    let tree = reading.tree;
    let homes = homes(tree);
    for home in &homes {
        read_home(reading, home);
    }
    let applications = applications(tree);
    for dir in &applications {
        let mut package = Package::new(System::Java, dir.encode(), "");
        package.files = match is_shared(dir) {
            true => [&b"META-INF"[..], b"BOOT-INF", b"WEB-INF", b"org"].iter().flat_map(|part| all_below(tree, &dir.child(part))).collect(),
            false => all_below(tree, dir),
        };
        add(reading, package);
    }
    for (dir, jars) in jars(tree, &homes, &applications) {
        let mut package = Package::new(System::Java, dir.encode(), "");
        package.files = jars;
        add(reading, package);
    }
}

/// A package of the user's own classes.
fn add(reading: &mut Reading<'_>, mut package: Package) {
    package.in_place = true;
    package.requires = vec![vec!["java-runtime".to_owned()]];
    reading.packages.push(package);
}

/// Java homes: directories with a `release` and either classes of Java 9 and later or those of Java 8. The
/// outermost: an older JDK holds a JRE.
fn homes(tree: &Tree) -> BTreeSet<ImagePath> {
    let releases = tree.iter().filter(|(path, _)| path.file_name() == Some(b"release"));
    let dirs = releases.filter_map(|(path, _)| path.parent());
    let classes = ["lib/modules", "lib/rt.jar", "jre/lib/rt.jar", "lib/server/libjvm.so"];
    let mut found: BTreeSet<ImagePath> = BTreeSet::new();
    for dir in dirs.filter(|dir| !is_shared(dir) && classes.iter().any(|path| tree.contains(&dir.join(path)))) {
        if !dir.ancestors().any(|above| found.contains(&above)) {
            found.insert(dir);
        }
    }
    found
}

fn read_home(reading: &mut Reading<'_>, home: &ImagePath) {
    let release = text(reading, &home.child(b"release")).unwrap_or_default();
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=")).unwrap_or_default().trim().trim_matches('"');
    let mut runtime = Package::new(System::Java, "java-runtime", version);
    let mut development = Package::new(System::Java, "java-development", version);
    for path in all_below(reading.tree, home) {
        let mut parts = path.components().skip(home.components().count());
        let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_development = DEVELOPMENT.contains(&first) || (first == b"lib" && DEVELOPMENT_LIB.contains(&second));
        let package = if is_development { &mut development } else { &mut runtime };
        package.files.insert(path.clone());
    }
    runtime.provides = vec![at_place("java-runtime", home)];
    development.requires = vec![runtime.provides.clone()];
    reading.packages.push(runtime);
    reading.packages.extend(Some(development).filter(|package| !package.files.is_empty()));
}

/// Unpacked applications, the outermost.
fn applications(tree: &Tree) -> BTreeSet<ImagePath> {
    let mut found: BTreeSet<ImagePath> = BTreeSet::new();
    let marks = tree.iter().filter(|(path, entry)| entry.is_dir() && path.file_name().is_some_and(|name| UNPACKED.contains(&name)));
    for dir in marks.filter_map(|(path, _)| path.parent()) {
        if !dir.ancestors().any(|above| found.contains(&above)) {
            found.insert(dir);
        }
    }
    found
}

/// Jars by the directory that they stand in.
fn jars(tree: &Tree, homes: &BTreeSet<ImagePath>, applications: &BTreeSet<ImagePath>) -> BTreeMap<ImagePath, BTreeSet<ImagePath>> {
    let known: BTreeSet<ImagePath> =
        homes.iter().chain(applications).cloned().chain(STORES.iter().map(|dir| ImagePath::from(*dir))).collect();
    let mut found: BTreeMap<ImagePath, BTreeSet<ImagePath>> = BTreeMap::new();
    for (path, _) in tree.iter().filter(|(path, entry)| !entry.is_dir() && path.as_bytes().ends_with(b".jar")) {
        let is_known = || path.ancestors().any(|above| known.contains(&above));
        if let Some(dir) = path.parent().filter(|_| !is_known()) {
            found.entry(dir).or_default().insert(path.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Packages, read_with, tree_of};
    use super::*;

    fn owner(packages: &Packages, path: &str) -> Option<String> {
        packages.owner(&path.into()).map(|package| package.name.clone())
    }

    #[test]
    fn a_runtime_is_without_what_makes_programs() {
        let tree = tree_of(&[
            "/opt/jdk/release",
            "/opt/jdk/bin/java",
            "/opt/jdk/conf/security/java.security",
            "/opt/jdk/lib/modules",
            "/opt/jdk/lib/ct.sym",
            "/opt/jdk/lib/jrt-fs.jar",
            "/opt/jdk/jmods/java.base.jmod",
            "/opt/jdk/lib/src.zip",
            "/opt/other/release",
        ]);
        let packages = read_with(&tree, &[("/opt/jdk/release", "IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"17.0.15\"\n")], read);
        let runtime = packages.iter().find(|package| package.name == "java-runtime").unwrap();
        assert_eq!((runtime.version.as_str(), runtime.files.len()), ("17.0.15", 5));
        for path in ["lib/ct.sym", "jmods/java.base.jmod", "lib/src.zip"] {
            assert_eq!(owner(&packages, &format!("/opt/jdk/{path}")).as_deref(), Some("java-development"));
        }
        assert_eq!(packages.iter().count(), 2);
    }

    #[test]
    fn jars_that_stand_together_belong_together() {
        let tree = tree_of(&["/app/app.jar", "/app/lib/a.jar", "/app/lib/b.jar", "/app/lib/notes.txt", "/usr/share/java/c.jar"]);
        let packages = read_with(&tree, &[], read);
        assert_eq!(owner(&packages, "/app/lib/a.jar").as_deref(), Some("/app/lib"));
        assert_eq!(owner(&packages, "/app/lib/b.jar").as_deref(), Some("/app/lib"));
        assert_eq!(owner(&packages, "/app/app.jar").as_deref(), Some("/app"));
        assert_eq!(owner(&packages, "/app/lib/notes.txt"), None);
        assert_eq!(owner(&packages, "/usr/share/java/c.jar"), None);
        assert!(packages.iter().all(|package| package.in_place));
    }

    #[test]
    fn an_unpacked_application_is_whole_unless_it_lies_among_others() {
        let tree = tree_of(&[
            "/srv/app/WEB-INF/web.xml",
            "/srv/app/WEB-INF/lib/a.jar",
            "/srv/app/index.jsp",
            "/BOOT-INF/classes/A.class",
            "/org/springframework/boot/loader/L.class",
            "/etc/passwd",
        ]);
        let packages = read_with(&tree, &[], read);
        assert_eq!(owner(&packages, "/org/springframework/boot/loader/L.class").as_deref(), Some("/"));
        assert_eq!(owner(&packages, "/etc/passwd"), None);
        let tree = tree_of(&["/srv/app/WEB-INF/web.xml", "/srv/app/WEB-INF/lib/a.jar", "/srv/app/index.jsp"]);
        let packages = read_with(&tree, &[], read);
        assert_eq!(owner(&packages, "/srv/app/index.jsp").as_deref(), Some("/srv/app"));
        assert_eq!(packages.iter().count(), 1);
    }
}
