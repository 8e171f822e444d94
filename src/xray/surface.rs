//! Surface: what an attacker would look for in an image. Programs, shells, package managers, network clients and setuid
//! files are those that a build counts (`report/surface.rs`).

use super::model::{Found, Surface};
use crate::image::{Entry, ImagePath, Tree};
use crate::report::surface::{NETWORK_CLIENTS, PACKAGE_MANAGERS, SHELLS, commands, is_library_name, is_program};

/// Compilers, assemblers, linkers, and what drives them.
const COMPILERS: &[&str] = &[
    "as", "c++", "c89", "c99", "cc", "clang", "clang++", "cmake", "cpp", "g++", "gcc", "gfortran", "go",
    "javac", "ld", "make", "ninja", "nasm", "rustc", "tcc", "yasm",
];

/// Interpreters of languages; of those with versions in their names also these (`python3.11`).
const INTERPRETERS: &[&str] = &[
    "awk", "bun", "deno", "dotnet", "erl", "gawk", "guile", "java", "lua", "luajit", "mawk", "mono", "node", "nodejs",
    "perl", "php", "pypy", "python", "ruby", "tclsh",
];

/// The capabilities of a file, see capabilities(7).
const CAPABILITIES: &str = "security.capability";

/// At most so many paths of a kind are listed.
const LISTED: usize = 100;

/// Looks at all of an image.
pub fn surface(tree: &Tree) -> Surface {
    let of_names = |names: &[&str]| found(commands(tree, |name| names.contains(&name)));
    let of_files = |is: &dyn Fn(&ImagePath, &Entry) -> bool| -> Vec<ImagePath> {
        tree.iter().filter(|(path, entry)| is(path, entry)).map(|(path, _)| path.clone()).collect()
    };
    let counted = |is: &dyn Fn(&ImagePath, &Entry) -> bool| Found { count: of_files(is).len() as u64, paths: Vec::new() };
    let listed = |is: &dyn Fn(&ImagePath, &Entry) -> bool| found(of_files(is));
    Surface {
        programs: counted(&is_program),
        shells: of_names(SHELLS),
        package_managers: of_names(PACKAGE_MANAGERS),
        network_clients: of_names(NETWORK_CLIENTS),
        compilers: found(commands(tree, |name| COMPILERS.contains(&base(name)))),
        interpreters: found(commands(tree, |name| INTERPRETERS.contains(&unversioned(name)))),
        libraries: counted(&|path, entry| entry.is_file() && is_shared_library(path)),
        setuid: listed(&|_, entry| entry.is_file() && entry.mode & 0o6000 != 0),
        capabilities: listed(&|_, entry| entry.is_file() && entry.xattrs.contains_key(CAPABILITIES)),
        writable: listed(&|_, entry| is_writable(entry)),
    }
}

fn found(paths: Vec<ImagePath>) -> Found {
    Found { count: paths.len() as u64, paths: paths.into_iter().take(LISTED).collect() }
}

fn is_shared_library(path: &ImagePath) -> bool {
    path.file_name().is_some_and(|name| is_library_name(name) && !name.ends_with(b".a") && !name.ends_with(b".o"))
}

/// Whether anybody may write it. Who writes into a directory with the sticky bit cannot replace what others have there.
fn is_writable(entry: &Entry) -> bool {
    let others = entry.mode & 0o002 != 0;
    (entry.is_file() && others) || (entry.is_dir() && others && entry.mode & 0o1000 == 0)
}

/// `python3.11` as `python`.
fn unversioned(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}

/// `x86_64-linux-gnu-gcc-12` as `gcc`.
fn base(name: &str) -> &str {
    let name = unversioned(name);
    name.rsplit_once("-gnu-").or_else(|| name.rsplit_once("-musl-")).map_or(name, |(_, base)| base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::tree_of;

    #[test]
    fn names_with_a_target_and_a_version_are_those_of_compilers_and_interpreters() {
        let mut tree = tree_of(&[
            "/usr/bin/x86_64-linux-gnu-gcc-12",
            "/usr/bin/gcc -> x86_64-linux-gnu-gcc-12",
            "/usr/bin/python3.11",
            "/usr/bin/perl5",
            "/usr/bin/pythonic",
            "/usr/share/gcc",
            "/lib/libc.so.6",
            "/lib/libc.a",
        ]);
        change(&mut tree, |entry| entry.mode = 0o755);
        let surface = surface(&tree);
        assert_eq!(surface.compilers.paths, ["/usr/bin/gcc".into(), "/usr/bin/x86_64-linux-gnu-gcc-12".into()]);
        assert_eq!(surface.interpreters.paths, ["/usr/bin/perl5".into(), "/usr/bin/python3.11".into()]);
        assert_eq!((surface.libraries.count, surface.programs.count), (1, 5));
    }

    #[test]
    fn what_anybody_may_write_and_what_has_capabilities_is_named() {
        let mut tree = tree_of(&["/tmp/", "/open/", "/open/f", "/link -> f"]);
        change(&mut tree, |entry| entry.mode = 0o777);
        for (path, mode) in [("/", 0o755), ("/tmp", 0o1777)] {
            change_one(&mut tree, path, |entry| entry.mode = mode);
        }
        change_one(&mut tree, "/open/f", |entry| drop(entry.xattrs.insert(CAPABILITIES.to_owned(), vec![1])));
        let surface = surface(&tree);
        assert_eq!(surface.writable.paths, ["/open".into(), "/open/f".into()]);
        assert_eq!(surface.capabilities.paths, ["/open/f".into()]);
    }

    fn change(tree: &mut Tree, with: impl Fn(&mut Entry)) {
        let paths: Vec<ImagePath> = tree.iter().map(|(path, _)| path.clone()).collect();
        paths.iter().for_each(|path| change_one(tree, &path.encode(), &with));
    }

    fn change_one(tree: &mut Tree, path: &str, with: impl Fn(&mut Entry)) {
        let mut entry = tree.get(&path.into()).unwrap().clone();
        with(&mut entry);
        tree.insert(path.into(), entry);
    }
}
