//! Interpreter: a Python that was built or unpacked in a place of its own, as the official images do it. One
//! that the operating system's packages installed is theirs.

use std::collections::BTreeSet;

use super::super::gather::{all_below, at_place, files_below, text};
use super::super::{Package, Reading, System};
use crate::image::{ImagePath, Tree};

/// Databases of the operating system's packages, which own what is in `/usr`.
const DATABASES: &[&str] = &[
    "/lib/apk/db/installed",
    "/usr/lib/sysimage/rpm",
    "/var/lib/dpkg/status",
    "/var/lib/dpkg/status.d",
    "/var/lib/rpm",
];

/// Programs of an installation, each also with a version behind it.
const PROGRAMS: &[&str] = &["idle", "pydoc", "pypy", "python", "2to3"];

/// Reads the interpreters of an image.
pub(super) fn read(reading: &mut Reading<'_>) {
    let tree = reading.tree;
    for library in libraries(tree) {
        let Some((prefix, kind)) = prefix(&library) else { continue };
        let of_system = [ImagePath::root(), "/usr".into()].contains(&prefix);
        if of_system && DATABASES.iter().any(|path| tree.find(path).is_some()) {
            continue;
        }
        let headers = prefix.child(b"include").child(library.file_name().unwrap_or_default());
        let dotted = String::from_utf8_lossy(library.file_name().unwrap_or_default()).into_owned();
        let dotted = dotted.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned();
        let version = full_version(reading, &headers).unwrap_or(dotted.clone());
        let built = |dir: &ImagePath| dir.file_name().is_some_and(|name| name.starts_with(b"config-"));
        let others = |dir: &ImagePath| matches!(dir.file_name(), Some(b"site-packages" | b"dist-packages"));
        let mut package = Package::new(System::Python, kind, version.clone());
        package.files = files_below(tree, &library, |dir| dir.parent().as_ref() == Some(&library) && (others(dir) || built(dir)));
        package.files.extend(programs(tree, &prefix, &dotted));
        package.provides = vec!["python".into(), "python3".into(), at_place(kind, &library)];
        reading.packages.push(package);
        let mut development = Package::new(System::Python, format!("{kind}-development"), version);
        development.files = all_below(tree, &headers);
        let configs = ["", "3", &dotted].map(|version| prefix.child(b"bin").child(format!("python{version}-config").as_bytes()));
        development.files.extend(configs.into_iter().filter(|path| tree.get(path).is_some_and(|entry| !entry.is_dir())));
        for (dir, _) in tree.children(&library).filter(|(dir, entry)| entry.is_dir() && built(dir)) {
            development.files.extend(all_below(tree, dir));
        }
        reading.packages.extend(Some(development).filter(|package| !package.files.is_empty()));
    }
}

/// Directories of standard libraries: `os.py` and `encodings` are what an interpreter looks for itself.
fn libraries(tree: &Tree) -> Vec<ImagePath> {
    let marks = tree.iter().filter(|(path, entry)| path.file_name() == Some(b"os.py") && !entry.is_dir());
    let dirs = marks.filter_map(|(path, _)| path.parent());
    dirs.filter(|dir| tree.contains(&dir.child(b"encodings").child(b"__init__.py"))).collect()
}

/// Where an interpreter with this standard library is installed, and what it is: `PREFIX/lib/python3.11`.
fn prefix(library: &ImagePath) -> Option<(ImagePath, &'static str)> {
    let lib = library.parent().filter(|lib| matches!(lib.file_name(), Some(b"lib" | b"lib64")))?;
    let name = library.file_name()?;
    let kind = if name.starts_with(b"python") {
        "cpython"
    } else if name.starts_with(b"pypy") {
        "pypy"
    } else {
        return None;
    };
    Some((lib.parent()?, kind))
}

/// `PY_VERSION` of `patchlevel.h`. `None` where the headers are gone.
fn full_version(reading: &mut Reading<'_>, headers: &ImagePath) -> Option<String> {
    let text = text(reading, &headers.child(b"patchlevel.h"))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("#define PY_VERSION"));
    let value = lines.find(|rest| rest.starts_with([' ', '\t']))?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// What of an interpreter stands outside its library: its programs, their links, and its shared object.
fn programs(tree: &Tree, prefix: &ImagePath, dotted: &str) -> BTreeSet<ImagePath> {
    let major = dotted.split('.').next().unwrap_or_default();
    let mut names = BTreeSet::new();
    for program in PROGRAMS {
        for version in ["", major, dotted, &format!("-{dotted}")] {
            names.insert(prefix.child(b"bin").child(format!("{program}{version}").as_bytes()));
        }
    }
    names.retain(|path| tree.get(path).is_some_and(|entry| !entry.is_dir()));
    for lib in [prefix.child(b"lib"), prefix.child(b"lib64")] {
        for object in [format!("libpython{dotted}"), format!("libpypy{dotted}"), format!("libpython{major}.so")] {
            let prefix = [lib.as_bytes(), b"/", object.as_bytes()].concat();
            let objects = tree.with_prefix(&prefix).filter(|(path, entry)| !entry.is_dir() && path.parent().as_ref() == Some(&lib));
            names.extend(objects.map(|(path, _)| path.clone()).filter(|path| !path.as_bytes().ends_with(b".a")));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::super::{read_with, tree_of};
    use super::*;

    const BUILT: &[&str] = &[
        "/usr/local/bin/python3 -> python3.11",
        "/usr/local/bin/python3.11",
        "/usr/local/bin/gunicorn",
        "/usr/local/include/python3.11/patchlevel.h",
        "/usr/local/lib/libpython3.11.so.1.0",
        "/usr/local/lib/libpython3.so",
        "/usr/local/lib/python3.11/os.py",
        "/usr/local/lib/python3.11/encodings/__init__.py",
        "/usr/local/lib/python3.11/lib-dynload/_ssl.so",
        "/usr/local/lib/python3.11/config-3.11-x86_64-linux-gnu/libpython3.11.a",
        "/usr/local/lib/python3.11/site-packages/x.py",
    ];

    #[test]
    fn an_interpreter_of_its_own_is_a_package_without_what_was_installed_into_it() {
        let version = ("/usr/local/include/python3.11/patchlevel.h", "#define PY_VERSION_HEX 1\n#define PY_VERSION      \"3.11.7\"\n");
        let packages = read_with(&tree_of(BUILT), &[version], read);
        let python = packages.iter().find(|package| package.name == "cpython").unwrap();
        assert_eq!(python.version, "3.11.7");
        let files: Vec<String> = python.files.iter().map(|path| path.encode().replace("/usr/local/", "")).collect();
        assert_eq!(
            files,
            [
                "bin/python3",
                "bin/python3.11",
                "lib/libpython3.11.so.1.0",
                "lib/libpython3.so",
                "lib/python3.11/encodings/__init__.py",
                "lib/python3.11/lib-dynload/_ssl.so",
                "lib/python3.11/os.py",
            ]
        );
        let archive = "/usr/local/lib/python3.11/config-3.11-x86_64-linux-gnu/libpython3.11.a";
        assert_eq!(packages.owner(&archive.into()).unwrap().name, "cpython-development");
        assert!(packages.owner(&"/usr/local/bin/gunicorn".into()).is_none());
    }

    #[test]
    fn the_interpreter_of_the_operating_system_is_its_packages() {
        let lines: Vec<String> = BUILT.iter().map(|line| line.replace("/local", "")).collect();
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert!(read_with(&tree_of(&lines), &[], read).iter().any(|package| package.name == "cpython"));
        lines.push("/var/lib/dpkg/status");
        assert_eq!(read_with(&tree_of(&lines), &[], read).iter().count(), 0);
    }
}
