//! Implied: what a container of this image needs to start and to live, whatever the run touched.

use std::collections::BTreeMap;

use super::Reason;
use super::account::Account;
use super::draft::Draft;
use super::rules::NO_EMPTY_DIRECTORIES;
use super::scripts::programs;
use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath};

/// Keeps the programs of entrypoint, cmd and healthcheck, and the directories that have to be there.
pub(super) fn keep_implied(draft: &mut Draft<'_>) {
    draft.keep(&ImagePath::root(), rule("root", None));
    keep_programs(draft);
    let (config, policy) = (draft.ask.config, draft.ask.policy);
    for workdir in [config.workdir(), &policy.workdir] {
        keep_directory(draft, workdir, "workdir");
    }
    let volumes = config.volumes();
    for mount in volumes.iter().chain(&policy.mount_points) {
        keep_directory(draft, mount, "mount-point");
    }
    for mount in ["/dev", "/proc", "/sys"] {
        keep_directory(draft, mount, "mount-point");
    }
    if let Some(home) = draft.env("HOME") {
        keep_directory(draft, home, "home");
    }
    let (passwd, group) = (draft.text(b"/etc/passwd"), draft.text(b"/etc/group"));
    let (passwd, group) = (passwd.unwrap_or_default(), group.unwrap_or_default());
    let mut accounts = Vec::new();
    for user in [config.user(), &policy.user] {
        if let Some(account) = Account::find(user, passwd, group) {
            keep_directory(draft, &account.home, "home");
            accounts.push(account);
        }
    }
    keep_places_to_write(draft, &accounts);
}

fn rule(name: &str, by: Option<ImagePath>) -> Reason {
    Reason::Rule { name: name.into(), by }
}

/// A directory that has to exist, without its content.
fn keep_directory(draft: &mut Draft<'_>, path: &str, name: &str) {
    draft.keep_lookup(&ImagePath::root(), path.as_bytes(), Follow::All, rule(name, None));
}

/// What the image starts: the programs of its entrypoint and cmd, of the command line that ran, and of the
/// healthcheck; behind a shell's `-c` also those that the text calls.
fn keep_programs(draft: &mut Draft<'_>) {
    let config = draft.ask.config;
    let healthcheck = config.healthcheck().map(|check| check.argv).unwrap_or_default();
    for (name, argv) in [
        ("entrypoint", config.entrypoint()),
        ("command", config.cmd()),
        ("command-line", draft.ask.policy.argv.clone()),
        ("healthcheck", healthcheck),
    ] {
        for program in programs(draft, &argv) {
            draft.keep_lookup(&ImagePath::root(), program.as_bytes(), Follow::All, rule(name, None));
        }
    }
}

/// Empty directories (somebody made them to be there), and those to which the target's user, the user of a
/// service that it starts, or everybody may write; without their content. Of a tree that may be written to as
/// a whole its top and the directories in it stay, not the thousands that a package manager made further down.
/// Trees that only package tools and people use are left out.
fn keep_places_to_write(draft: &mut Draft<'_>, accounts: &[Account]) {
    let tree = draft.ask.tree;
    let mut places: Vec<(ImagePath, &str)> = Vec::new();
    // Directories that may be written to, with how many above them may as well.
    let mut depths: BTreeMap<ImagePath, usize> = BTreeMap::new();
    let mut entries = tree.iter().peekable();
    while let Some((path, entry)) = entries.next() {
        if !entry.is_dir() || is_below_unwanted(path) {
            continue;
        }
        let writable = accounts.iter().any(|account| may_write(account, entry));
        let depth = path.parent().and_then(|above| depths.get(&above)).map_or(0, |depth| depth + 1);
        if writable {
            depths.insert(path.clone(), depth);
        }
        if entries.peek().is_none_or(|(next, _)| !next.starts_with(path)) {
            places.push((path.clone(), "empty-directory"));
        } else if writable && depth < 2 {
            places.push((path.clone(), "writable-directory"));
        }
    }
    for (path, name) in places {
        draft.keep(&path, rule(name, None));
    }
}

/// Whether a path is in one of [`NO_EMPTY_DIRECTORIES`].
pub(super) fn is_below_unwanted(path: &ImagePath) -> bool {
    let unwanted = |dir: &&str| {
        path.as_bytes().strip_prefix(dir.as_bytes()).is_some_and(|tail| tail.is_empty() || tail.starts_with(b"/"))
    };
    NO_EMPTY_DIRECTORIES.iter().any(unwanted)
}

/// Whether the mode lets an account write. Root may write everywhere, so for it counts what another user owns:
/// services that start as root go on as such a user.
fn may_write(account: &Account, entry: &Entry) -> bool {
    let owner = if account.uid == 0 { entry.uid != 0 } else { entry.uid == account.uid };
    let group = account.uid != 0 && account.gids.contains(&entry.gid);
    (owner && entry.mode & 0o200 != 0) || (group && entry.mode & 0o020 != 0) || entry.mode & 0o002 != 0
}
