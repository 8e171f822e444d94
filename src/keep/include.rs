//! Include: what the user's flags keep besides.

use super::{ENGINE_PATHS, Reason};
use super::draft::Draft;
use super::pattern::PathGlob;
use crate::image::ImagePath;
use crate::image::tree::Follow;

/// `--include-shell`: a shell and what people and small scripts type into it. Those that the image has.
pub const SHELL_PROGRAMS: &[&str] = &[
    "sh", "bash", "ash", "dash", "cat", "chmod", "chown", "cp", "cut", "date", "df", "du", "echo", "env", "find",
    "grep", "head", "id", "kill", "ln", "ls", "mkdir", "mv", "ps", "pwd", "rm", "rmdir", "sed", "sleep", "sort",
    "tail", "test", "touch", "tr", "uname", "wc", "which", "whoami", "xargs",
];

/// `--include-zoneinfo`.
const ZONEINFO: &[&str] = &["/usr/share/zoneinfo/**", "/etc/localtime", "/etc/timezone"];

/// `--include-cert-all`: where distributions and language run times have certificates and trust settings.
const CERTIFICATES: &[&str] = &[
    "/etc/ssl/**",
    "/etc/pki/**",
    "/etc/ca-certificates/**",
    "/etc/ca-certificates.conf",
    "/usr/lib/ssl/**",
    "/usr/local/ssl/certs/**",
    "/usr/share/ca-certificates/**",
    "/usr/local/share/ca-certificates/**",
    "/usr/share/pki/**",
    "/usr/share/ssl/**",
    "/opt/**/cacerts",
    "/usr/lib/jvm/**/cacerts",
    "/usr/**/certifi/cacert.pem",
    "/opt/**/certifi/cacert.pem",
];

/// Keeps what the include flags name. One that means nothing is a warning.
pub(super) fn keep_included(draft: &mut Draft<'_>) {
    let policy = draft.ask.policy;
    for text in &policy.include_paths {
        keep_glob(draft, "--include-path", text);
    }
    for text in &policy.include_bins {
        keep_glob(draft, "--include-bin", text);
    }
    for name in &policy.include_exes {
        if !keep_program(draft, name, &format!("--include-exe {name}")) {
            draft.warn(format!("--include-exe {name}: no such program on the image's PATH"));
        }
    }
    if policy.include_shell {
        let mut shells = SHELL_PROGRAMS.iter().map(|name| keep_program(draft, name, "--include-shell"));
        if !shells.by_ref().take(4).fold(false, |any, kept| any | kept) {
            drop(shells);
            draft.warn("--include-shell: the image has no shell on its PATH".into());
            return keep_lists(draft);
        }
        shells.for_each(drop);
    }
    keep_lists(draft);
}

fn keep_lists(draft: &mut Draft<'_>) {
    let policy = draft.ask.policy;
    let lists = [
        (policy.include_zoneinfo, "--include-zoneinfo", ZONEINFO),
        (policy.include_certs, "--include-cert-all", CERTIFICATES),
    ];
    for (_, flag, globs) in lists.into_iter().filter(|(wanted, _, _)| *wanted) {
        let kept: usize = globs.iter().map(|glob| keep_matches(draft, glob, flag)).sum();
        if kept == 0 {
            draft.warn(format!("{flag}: the image has none of it"));
        }
    }
}

/// A path or a glob as typed; a directory stands for all that is in it.
fn keep_glob(draft: &mut Draft<'_>, flag: &str, text: &str) {
    if keep_matches(draft, text, &format!("{flag} {text}")) == 0 {
        if ENGINE_PATHS.contains(&text.trim_end_matches('/')) {
            return draft.warn(format!("{flag} {text}: engines put a file of their own there in every container; the image's does not stay"));
        }
        draft.warn(format!("{flag} {text}: the image has nothing there that may stay"));
    }
}

/// Keeps what a glob means; returns how many of its matches stay.
fn keep_matches(draft: &mut Draft<'_>, text: &str, flag: &str) -> usize {
    let tree = draft.ask.tree;
    let reason = Reason::Include { flag: flag.into() };
    // A name as it stands comes first: it may hold what would be a wildcard.
    let plain = tree.resolve(&ImagePath::root(), text.as_bytes(), Follow::NotLast);
    let found = match plain.found {
        Some(found) => {
            keep_links(draft, &plain.links, &found);
            vec![found]
        }
        None => match PathGlob::new(tree, text) {
            Ok(glob) => {
                let (found, links) = glob.find(tree);
                if let Some(first) = found.first() {
                    keep_links(draft, links, first);
                }
                found
            }
            Err(why) => {
                draft.warn(format!("{flag}: {why}"));
                return 0;
            }
        },
    };
    found.iter().filter(|path| keep_whole(draft, path, &reason)).count()
}

fn keep_links(draft: &mut Draft<'_>, links: &[ImagePath], to: &ImagePath) {
    for link in links {
        draft.keep(link, Reason::OnTheWay { to: to.clone() });
    }
}

/// Keeps an entry, what it links to, and all that is below where it ends. Returns whether it stays.
fn keep_whole(draft: &mut Draft<'_>, path: &ImagePath, reason: &Reason) -> bool {
    let tree = draft.ask.tree;
    let Some(end) = draft.keep_with_target(path, reason.clone()) else { return draft.reasons(path).is_some() };
    if tree.get(&end).is_some_and(crate::image::Entry::is_dir) {
        for (below, entry) in tree.below(&end) {
            match entry.link_target() {
                Some(_) => draft.keep_with_target(below, reason.clone()).is_some(),
                None => draft.keep(below, reason.clone()),
            };
        }
    }
    true
}

/// Keeps a program found through PATH; returns whether there is one.
fn keep_program(draft: &mut Draft<'_>, name: &str, flag: &str) -> bool {
    let Some(program) = draft.program(name) else { return false };
    draft.keep_with_target(&program, Reason::Include { flag: flag.into() });
    true
}
