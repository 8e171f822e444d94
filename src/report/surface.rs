//! Surface: programs that an attacker would look for, counted before and after.
//!
//! A *program* is a regular file that somebody may execute (a mode bit of 0111) and that is not a library by
//! its name (`*.so`, `*.so.*`, `*.a`, `*.o`). A *shell*, *package manager* or *network client* is a name of
//! the lists below in a directory called `bin` or `sbin` that leads to a program (symlinks followed), so that
//! the applets of a multi-call binary count too. *setuid* counts regular files with mode bit 04000 or 02000.
//! Every name counts, also where several names share an inode: each is a way in.

use super::model::{Change, Surface};
use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath, Tree};

/// Programs that read commands and run other programs.
pub const SHELLS: &[&str] = &[
    "ash", "bash", "busybox", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "mksh", "nu", "pwsh", "rbash", "sh",
    "tcsh", "toybox", "yash", "zsh",
];

/// Programs that install software, of systems and of languages.
pub const PACKAGE_MANAGERS: &[&str] = &[
    "apk", "apt", "apt-get", "aptitude", "bundle", "bundler", "cargo", "composer", "conda", "cpan", "dnf", "dnf5",
    "dpkg", "emerge", "gem", "mamba", "microdnf", "nix-env", "npm", "npx", "opkg", "pacman", "pip", "pip3", "pipx",
    "pnpm", "poetry", "rpm", "tdnf", "uv", "yarn", "yum", "zypper",
];

/// Programs that fetch files or open connections for their user.
pub const NETWORK_CLIENTS: &[&str] = &[
    "aria2c", "curl", "ftp", "lftp", "nc", "nc.openbsd", "nc.traditional", "ncat", "netcat", "nmap", "rsync", "scp",
    "sftp", "socat", "ssh", "telnet", "tftp", "wget", "wget2",
];

/// At most this many paths of what is left are listed.
const LISTED: usize = 20;

/// Counts both images.
pub fn surface(tree: &Tree, is_kept: impl Fn(&ImagePath) -> bool) -> Surface {
    let mut surface = Surface::default();
    for (path, entry) in tree.iter() {
        let after = is_kept(path);
        if is_program(path, entry) {
            count(&mut surface.programs, after);
        }
        if entry.is_file() && entry.mode & 0o6000 != 0 {
            list(&mut surface.setuid, path, after);
        }
        let Some(name) = command_name(path, entry) else {
            continue;
        };
        for (names, change) in [
            (SHELLS, &mut surface.shells),
            (PACKAGE_MANAGERS, &mut surface.package_managers),
            (NETWORK_CLIENTS, &mut surface.network_clients),
        ] {
            if names.contains(&name) {
                let Some(program) = program_behind(tree, path) else {
                    continue;
                };
                list(change, path, after && is_kept(&program));
            }
        }
    }
    surface
}

/// Whether an entry counts as a program.
pub fn is_program(path: &ImagePath, entry: &Entry) -> bool {
    entry.is_executable() && !path.file_name().is_some_and(is_library_name)
}

/// Whether a file is named like a library.
pub fn is_library_name(name: &[u8]) -> bool {
    [&b".so"[..], b".a", b".o"].iter().any(|end| name.ends_with(end))
        || name.windows(4).any(|part| part == b".so.")
}

/// The commands of an image that have such a name, as the counts of shells take them.
pub fn commands(tree: &Tree, named: impl Fn(&str) -> bool) -> Vec<ImagePath> {
    let of_name = tree.iter().filter(|(path, entry)| command_name(path, entry).is_some_and(&named));
    of_name.filter(|(path, _)| program_behind(tree, path).is_some()).map(|(path, _)| path.clone()).collect()
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

fn count(change: &mut Change, after: bool) {
    change.before += 1;
    change.after += u64::from(after);
}

fn list(change: &mut Change, path: &ImagePath, after: bool) {
    count(change, after);
    if after && change.left.len() < LISTED {
        change.left.push(path.clone());
    }
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
