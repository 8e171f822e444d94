//! Surface: programs that an attacker would look for, counted before and after.
//!
//! A *program* is a regular file that somebody may execute (a mode bit of 0111) and that is not a library by
//! its name (`*.so`, `*.so.*`, `*.a`, `*.o`); the first two are *libraries*. A *shell*, *package manager*, *network
//! client*, *compiler* or *interpreter* is a name of the lists below in a directory called `bin` or `sbin` that leads
//! to a program (symlinks followed), so that the applets of a multi-call binary count too. *setuid* counts regular
//! files with mode bit 04000 or 02000. Every name counts, also where several names share an inode: each is a way in.

use super::model::{Change, Report, Surface};
use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath, Tree};

/// Programs that read commands and run other programs.
const SHELLS: &[&str] = &[
    "ash", "bash", "busybox", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "mksh", "nu", "pwsh", "rbash", "sh",
    "tcsh", "toybox", "yash", "zsh",
];

/// Programs that install software, of systems and of languages.
const PACKAGE_MANAGERS: &[&str] = &[
    "apk", "apt", "apt-get", "aptitude", "bundle", "bundler", "cargo", "composer", "conda", "cpan", "dnf", "dnf5",
    "dpkg", "emerge", "gem", "mamba", "microdnf", "nix-env", "npm", "npx", "opkg", "pacman", "pip", "pip3", "pipx",
    "pnpm", "poetry", "rpm", "tdnf", "uv", "yarn", "yum", "zypper",
];

/// Programs that fetch files or open connections for their user.
const NETWORK_CLIENTS: &[&str] = &[
    "aria2c", "curl", "ftp", "lftp", "nc", "nc.openbsd", "nc.traditional", "ncat", "netcat", "nmap", "rsync", "scp",
    "sftp", "socat", "ssh", "telnet", "tftp", "wget", "wget2",
];

/// Compilers, assemblers, linkers, and what drives them; also with a target in front and a version behind
/// (`x86_64-linux-gnu-gcc-12`).
const COMPILERS: &[&str] = &[
    "as", "c++", "c89", "c99", "cc", "clang", "clang++", "cmake", "cpp", "g++", "gcc", "gfortran", "go",
    "javac", "ld", "make", "ninja", "nasm", "rustc", "tcc", "yasm",
];

/// Interpreters of languages other than the shell's; of those with versions in their names also these (`python3.11`).
const INTERPRETERS: &[&str] = &[
    "awk", "bun", "deno", "dotnet", "erl", "gawk", "guile", "java", "lua", "luajit", "mawk", "mono", "node", "nodejs",
    "perl", "php", "pypy", "python", "ruby", "tclsh",
];

/// The capabilities of a file, see capabilities(7).
const CAPABILITIES: &str = "security.capability";

/// At most this many paths of what is left are listed.
const LISTED: usize = 20;

/// What an attacker would look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Files that can be executed and are no libraries.
    Programs,
    /// Shared libraries.
    Libraries,
    /// Shells.
    Shells,
    /// Package managers of systems and languages.
    PackageManagers,
    /// Programs that fetch or open connections.
    NetworkClients,
    /// Compilers, assemblers, linkers and what drives them.
    Compilers,
    /// Interpreters of languages other than the shell's.
    Interpreters,
    /// Regular files with setuid or setgid.
    Setuid,
    /// Files with capabilities.
    Capabilities,
    /// Files, and directories without the sticky bit, that anybody may write.
    Writable,
}

impl Target {
    /// Whether there are so many that their paths are not listed.
    pub fn is_only_counted(self) -> bool {
        matches!(self, Self::Programs | Self::Libraries)
    }
}

/// Each thing of an image that an attacker would look for, in path order: what it is, its path, and what has to be there
/// besides (the program that a command's symlinks lead to).
pub fn targets(tree: &Tree) -> Vec<(Target, &ImagePath, Option<ImagePath>)> {
    let mut found = Vec::new();
    for (path, entry) in tree.iter() {
        let is = [
            (Target::Programs, is_program(path, entry)),
            (Target::Libraries, entry.is_file() && is_shared_library(path)),
            (Target::Setuid, entry.is_file() && entry.mode & 0o6000 != 0),
            (Target::Capabilities, entry.is_file() && entry.xattrs.contains_key(CAPABILITIES)),
            (Target::Writable, is_writable(entry)),
        ];
        found.extend(is.into_iter().filter(|(_, is)| *is).map(|(target, _)| (target, path, None)));
        let named: Vec<Target> = command_name(path, entry).map(named).unwrap_or_default();
        if !named.is_empty()
            && let Some(program) = program_behind(tree, path)
        {
            found.extend(named.into_iter().map(|target| (target, path, Some(program.clone()))));
        }
    }
    found
}

/// What a command is by its name.
fn named(name: &str) -> Vec<Target> {
    let lists = [
        (Target::Shells, SHELLS, name),
        (Target::PackageManagers, PACKAGE_MANAGERS, name),
        (Target::NetworkClients, NETWORK_CLIENTS, name),
        (Target::Compilers, COMPILERS, base(name)),
        (Target::Interpreters, INTERPRETERS, unversioned(name)),
    ];
    lists.into_iter().filter(|(_, names, name)| names.contains(name)).map(|(target, ..)| target).collect()
}

/// Counts both images.
pub fn surface(tree: &Tree, is_kept: impl Fn(&ImagePath) -> bool) -> Surface {
    let mut surface = Surface::default();
    for (target, path, behind) in targets(tree) {
        let change = match target {
            Target::Programs => &mut surface.programs,
            Target::Libraries => &mut surface.libraries,
            Target::Shells => &mut surface.shells,
            Target::PackageManagers => &mut surface.package_managers,
            Target::NetworkClients => &mut surface.network_clients,
            Target::Compilers => &mut surface.compilers,
            Target::Interpreters => &mut surface.interpreters,
            Target::Setuid => &mut surface.setuid,
            Target::Capabilities => &mut surface.capabilities,
            Target::Writable => &mut surface.writable,
        };
        let after = is_kept(path) && behind.as_ref().is_none_or(&is_kept);
        change.before += 1;
        change.after += u64::from(after);
        if after && !target.is_only_counted() && change.left.len() < LISTED {
            change.left.push(path.clone());
        }
    }
    surface
}

impl Report {
    /// The counts with their names for people, in the order in which they are told; packages of which something stays
    /// are among them. Empty when nothing was decided.
    pub fn surface_rows(&self) -> Vec<(&'static str, Change)> {
        let Some(surface) = &self.surface else { return Vec::new() };
        let stay = self.packages.iter().filter(|package| package.kept_files > 0).count() as u64;
        let packages = Change { before: self.packages.len() as u64, after: stay, left: Vec::new() };
        let rows = [
            ("programs", &surface.programs),
            ("shells", &surface.shells),
            ("package managers", &surface.package_managers),
            ("network clients", &surface.network_clients),
            ("setuid", &surface.setuid),
            ("compilers", &surface.compilers),
            ("interpreters", &surface.interpreters),
            ("libraries", &surface.libraries),
            ("capabilities", &surface.capabilities),
            ("writable by anybody", &surface.writable),
            ("packages", &packages),
        ];
        rows.map(|(name, change)| (name, change.clone())).into()
    }
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

/// Whether an entry counts as a program.
fn is_program(path: &ImagePath, entry: &Entry) -> bool {
    entry.is_executable() && !path.file_name().is_some_and(is_library_name)
}

/// Whether a file is named like a library.
fn is_library_name(name: &[u8]) -> bool {
    [&b".so"[..], b".a", b".o"].iter().any(|end| name.ends_with(end))
        || name.windows(4).any(|part| part == b".so.")
}

/// The name under which a command is found: of a file or symlink in a `bin` or `sbin` directory.
fn command_name<'a>(path: &'a ImagePath, entry: &Entry) -> Option<&'a str> {
    if !entry.is_file() && entry.link_target().is_none() {
        return None;
    }
    let mut from_the_end = path.as_bytes().rsplit(|b| *b == b'/');
    let name = std::str::from_utf8(from_the_end.next()?).ok()?;
    let directory = from_the_end.next()?;
    (directory == b"bin" || directory == b"sbin").then_some(name)
}

fn program_behind(tree: &Tree, path: &ImagePath) -> Option<ImagePath> {
    let found = tree.resolve(&ImagePath::root(), path.as_bytes(), Follow::All).found?;
    let entry = tree.get(&found)?;
    is_program(&found, entry).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Kind;

    fn file(mode: u32) -> Entry {
        let mut entry = Entry::new(Kind::File);
        entry.mode = mode;
        entry
    }

    fn tree_of<const N: usize>(files: [(&str, Entry); N]) -> Tree {
        files.map(|(path, entry)| (path.into(), entry)).into_iter().collect()
    }

    #[test]
    fn names_with_a_target_and_a_version_are_those_of_compilers_and_interpreters() {
        let tree = tree_of([
            ("/", Entry::new(Kind::Directory)),
            ("/usr", Entry::new(Kind::Directory)),
            ("/usr/bin", Entry::new(Kind::Directory)),
            ("/usr/bin/x86_64-linux-gnu-gcc-12", file(0o755)),
            ("/usr/bin/gcc", link("x86_64-linux-gnu-gcc-12")),
            ("/usr/bin/python3.11", file(0o755)),
            ("/usr/bin/perl5", file(0o755)),
            ("/usr/bin/pythonic", file(0o755)),
            ("/usr/share/gcc", file(0o755)),
            ("/lib/libc.so.6", file(0o755)),
            ("/lib/libc.a", file(0o755)),
        ]);
        let surface = surface(&tree, |_| true);
        assert_eq!(surface.compilers.left, ["/usr/bin/gcc".into(), "/usr/bin/x86_64-linux-gnu-gcc-12".into()]);
        assert_eq!(surface.interpreters.left, ["/usr/bin/perl5".into(), "/usr/bin/python3.11".into()]);
        assert_eq!((surface.libraries.before, surface.programs.before), (1, 5));
    }

    #[test]
    fn what_anybody_may_write_and_what_has_capabilities_is_named() {
        let directory = |mode| Entry { mode, ..Entry::new(Kind::Directory) };
        let mut able = file(0o777);
        able.xattrs.insert(CAPABILITIES.to_owned(), vec![1]);
        let tree = tree_of([("/", directory(0o755)), ("/tmp", directory(0o1777)), ("/open", directory(0o777)), ("/open/f", able), ("/link", link("f"))]);
        let surface = surface(&tree, |path| *path != "/open/f".into());
        assert_eq!((surface.writable.before, surface.writable.left), (2, vec!["/open".into()]));
        assert_eq!((surface.capabilities.before, surface.capabilities.after), (1, 0));
    }

    fn link(to: &str) -> Entry {
        Entry::new(Kind::Symlink { target: to.as_bytes().to_vec() })
    }

    #[test]
    fn applets_count_as_long_as_their_program_is_there() {
        let tree: Tree = [
            ("/", Entry::new(Kind::Directory)),
            ("/bin", Entry::new(Kind::Directory)),
            ("/bin/busybox", file(0o755)),
            ("/bin/sh", link("busybox")),
            ("/bin/wget", link("/bin/busybox")),
            ("/bin/su", file(0o4755)),
            ("/bin/bash", link("gone")),
            ("/bin/notes", file(0o644)),
            ("/lib.so.1", file(0o755)),
            ("/doc/sh", file(0o755)),
        ]
        .map(|(path, entry)| (path.into(), entry))
        .into_iter()
        .collect();
        let surface = surface(&tree, |path| *path == "/bin/sh".into() || *path == "/bin/su".into());
        assert_eq!((surface.shells.before, surface.shells.after), (2, 0), "a link without its program is no shell");
        assert_eq!((surface.network_clients.before, surface.network_clients.after), (1, 0));
        assert_eq!((surface.programs.before, surface.programs.after), (3, 1));
        assert_eq!(surface.setuid.left, ["/bin/su".into()]);
    }
}
