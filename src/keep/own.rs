//! Own: what is the user's own in an image: files that no package owns, in the directories of the application.
//! Which directories these are follows from evidence: where the run worked, what it started, what it touched
//! that no package owns, what a web server's configuration names. [`super::places`] says what never counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use super::draft::Draft;
use super::{AppRoot, Reason, named, places};
use crate::image::{Entry, ImagePath};
use crate::packages::System;

/// As many secrets are named in a warning.
const NAMED_SECRETS: usize = 5;

/// The application's files.
pub(super) struct Own {
    roots: BTreeMap<ImagePath, Vec<ImagePath>>,
    /// What looks like a secret and was not touched.
    secrets: Vec<ImagePath>,
}

impl Own {
    /// Finds them, from what is kept so far: what the run touched, and the programs that the image starts.
    pub fn find(draft: &mut Draft<'_>) -> Self {
        let mut own = Self { roots: BTreeMap::new(), secrets: Vec::new() };
        let roots = Roots::new(draft).all(draft);
        let volumes = untouched_volumes(draft);
        for root in roots {
            let mut files = Vec::new();
            let scripts = is_one_of(places::OWN_PROGRAMS, &root);
            for path in candidates(draft, &root) {
                if scripts && draft.head(&path).is_none_or(|facts| facts.shebang.is_none()) {
                    continue;
                }
                let below = &path.as_bytes()[root.relative().len() + 1..];
                let below = below.strip_prefix(b"/").unwrap_or(below);
                if volumes.iter().any(|volume| path.starts_with(volume)) || is_something_else(draft, &path, below) {
                    continue;
                }
                if is_secret(draft, &path, below) {
                    if !is_used(draft.reasons(&path)) {
                        own.secrets.push(path);
                    }
                    continue;
                }
                files.push(path);
            }
            if !files.is_empty() {
                own.roots.insert(root, files);
            }
        }
        own
    }

    /// All of them.
    pub fn files(&self) -> impl Iterator<Item = &ImagePath> {
        self.roots.values().flatten()
    }

    /// Keeps all of them, and names the secrets that go.
    pub fn keep(&self, draft: &mut Draft<'_>) {
        for (root, files) in &self.roots {
            for path in files {
                draft.keep_with_target(path, Reason::App { root: root.clone() });
            }
        }
        if !self.secrets.is_empty() {
            let some: Vec<String> = self.secrets.iter().take(NAMED_SECRETS).map(ToString::to_string).collect();
            let more = self.secrets.len() - some.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            draft.warn(format!(
                "left out, because by the name it may be a secret and the run did not touch it: {}{more}; --include-path keeps it",
                some.join(", ")
            ));
        }
    }

    /// What stays of them.
    pub fn summary(&self, draft: &Draft<'_>) -> Vec<AppRoot> {
        let of_root = |(root, files): (&ImagePath, &Vec<ImagePath>)| {
            let mut inodes = BTreeSet::new();
            let gone = files.iter().filter(|path| draft.reasons(path).is_none());
            let entries: Vec<&Entry> = gone.filter_map(|path| draft.ask.tree.get(path)).collect();
            let once = entries.iter().filter(|entry| entry.hardlink.is_none_or(|inode| inodes.insert(inode)));
            AppRoot {
                root: root.clone(),
                files: files.len() as u64,
                kept: (files.len() - entries.len()) as u64,
                bytes: once.map(|entry| entry.size).sum(),
            }
        };
        self.roots.iter().map(of_root).collect()
    }
}

/// Whether the run itself used a path: not one that only a directory walker passed.
pub(super) fn is_used(reasons: Option<&[Reason]>) -> bool {
    let used = |reason: &Reason| matches!(reason, Reason::Touched { .. }) && reason.has_consequences();
    reasons.unwrap_or_default().iter().any(used)
}

/// Whether a file is the user's: no package owns it, or one does that is the user's own project. What lies
/// outside of the places where package managers install is such.
pub(super) fn is_users(draft: &Draft<'_>, path: &ImagePath) -> bool {
    let packages = draft.ask.packages;
    packages.owners(path).iter().map(|index| packages.at(*index)).all(|package| match package.system {
        _ if package.in_place => true,
        System::Dpkg | System::Apk | System::Rpm | System::Php => false,
        // A run-time is no application; a jar in an application's directory is part of it.
        System::Java => path.as_bytes().ends_with(b".jar") || path.as_bytes().ends_with(b".war"),
        System::Python | System::Node | System::Ruby | System::DotNet => !is_installed(path),
    })
}

/// Whether a path is where packages of languages are installed.
fn is_installed(path: &ImagePath) -> bool {
    let among = |part: &[u8]| places::INSTALLED.iter().any(|name| name.as_bytes() == part);
    path.components().any(among) || path.ancestors().any(|above| matches_any(&SYSTEM, above.as_bytes()))
}

/// The files and links below an application's directory that are the user's.
fn candidates(draft: &Draft<'_>, root: &ImagePath) -> Vec<ImagePath> {
    let flat = root.is_root() || is_one_of(places::OWN_PROGRAMS, root);
    let fits = |(path, entry): &(&ImagePath, &Entry)| {
        let kind = entry.is_file() || (entry.link_target().is_some() && !flat);
        kind && draft.refusal(path).is_none() && is_users(draft, path)
    };
    let paths = |found: &mut dyn Iterator<Item = (&ImagePath, &Entry)>| {
        found.filter(fits).map(|(path, _)| path.clone()).collect::<Vec<_>>()
    };
    // Below / lies everything; of what lies directly in it, links are the system's (/bin -> usr/bin).
    if flat { paths(&mut draft.ask.tree.children(root)) } else { paths(&mut draft.ask.tree.below(root)) }
}

/// VOLUMEs and mounts that hold nothing that the run read: what is in them is state.
fn untouched_volumes(draft: &Draft<'_>) -> Vec<ImagePath> {
    let volumes = draft.ask.config.volumes();
    let points = volumes.iter().chain(&draft.ask.policy.mount_points).map(ImagePath::new);
    let read = |point: &ImagePath| {
        let mut below = draft.ask.tree.below(point).filter(|(_, entry)| entry.is_file());
        below.any(|(path, _)| is_used(draft.reasons(path)))
    };
    points.filter(|point| !point.is_root() && !read(point)).collect()
}

/// Run-time state, caches, version control, builds.
fn is_something_else(draft: &Draft<'_>, path: &ImagePath, below: &[u8]) -> bool {
    matches_any(&NOT_THE_APPLICATION, below) || path.ancestors().any(|dir| is_build_tree(draft, &dir))
}

fn is_build_tree(draft: &Draft<'_>, dir: &ImagePath) -> bool {
    let Some((name, parent)) = dir.file_name().zip(dir.parent()) else { return false };
    let Some((_, markers)) = places::BUILD_TREES.iter().find(|(tree, _)| tree.as_bytes() == name) else { return false };
    markers.iter().any(|marker| match marker.strip_prefix('*') {
        Some(end) => draft.ask.tree.children(&parent).any(|(path, _)| path.as_bytes().ends_with(end.as_bytes())),
        None => draft.ask.tree.contains(&parent.child(marker.as_bytes())),
    })
}

/// Whether a file looks like it holds a secret: by its name, and for a `.pem` by what is in it.
fn is_secret(draft: &mut Draft<'_>, path: &ImagePath, below: &[u8]) -> bool {
    if matches_any(&NO_SECRETS, below) {
        return false;
    }
    if below.ends_with(b".pem") && draft.ask.policy.level != super::Level::Touched {
        let text = draft.text(path.as_bytes()).unwrap_or_default();
        return text.windows(11).any(|part| part == b"PRIVATE KEY");
    }
    matches_any(&SECRETS, below)
}

/// The search for the application's directories.
struct Roots {
    found: BTreeSet<ImagePath>,
    /// Whether a directory holds nothing of the system's packages.
    free: BTreeMap<ImagePath, bool>,
}

impl Roots {
    fn new(draft: &Draft<'_>) -> Self {
        let mut roots = Self { found: BTreeSet::new(), free: BTreeMap::new() };
        for workdir in [draft.ask.config.workdir(), &draft.ask.policy.workdir] {
            let found = draft.ask.tree.find(workdir);
            roots.found.extend(found.filter(|dir| is_directory(draft, dir) && may_be_named(dir)));
        }
        roots
    }

    fn all(mut self, draft: &mut Draft<'_>) -> BTreeSet<ImagePath> {
        let mut servers = Vec::new();
        let mut touched = Vec::new();
        for (path, reasons) in draft.kept() {
            let started = |reason: &Reason| matches!(reason, Reason::Rule { name, by: None } if STARTED.contains(&name.as_str()));
            if !draft.ask.tree.get(path).is_some_and(Entry::is_file) {
                continue;
            }
            if !(is_used(Some(reasons)) || reasons.iter().any(started)) {
                continue;
            }
            if matches_any(&NGINX, path.as_bytes()) || matches_any(&APACHE, path.as_bytes()) {
                servers.push(path.clone());
            }
            if is_users(draft, path) && !matches_any(&NOT_THE_APPLICATION, path.relative()) {
                touched.push(path.clone());
            }
        }
        for path in touched {
            let known = self.found.iter().any(|root| !root.is_root() && path.starts_with(root));
            if !known && let Some(root) = self.root_of(draft, &path) {
                self.found.insert(root);
            }
        }
        for path in servers {
            let named = match matches_any(&NGINX, path.as_bytes()) {
                true => named::nginx_roots(draft, &path),
                false => named::apache_roots(draft, &path),
            };
            self.found.extend(named.into_iter().filter(|dir| is_directory(draft, dir) && may_be_served(dir)));
        }
        for dir in places::OWN_DATA.iter().map(|dir| ImagePath::from(*dir)) {
            if is_directory(draft, &dir) && self.is_free(draft, &dir) {
                self.found.insert(dir);
            }
        }
        let inside = |path: &ImagePath| path.ancestors().any(|above| !above.is_root() && self.found.contains(&above));
        self.found.iter().filter(|path| !inside(path)).cloned().collect()
    }

    /// The top-most directory above a file of the user's that is still the user's alone; `None` where there is
    /// none.
    fn root_of(&mut self, draft: &Draft<'_>, path: &ImagePath) -> Option<ImagePath> {
        let parent = path.parent()?;
        if parent.is_root() || is_one_of(places::OWN_PROGRAMS, &parent) {
            return Some(parent);
        }
        let mut above: Vec<ImagePath> = path.ancestors().filter(|dir| !dir.is_root()).collect();
        above.reverse();
        for dir in &above {
            if matches_any(&SYSTEM, dir.as_bytes()) {
                return self.installed_root(draft, &above).or_else(|| self.plugins_root(draft, &above));
            }
            if !is_one_of(places::SHARED, dir) && !is_one_of(places::COLLECTIONS, dir) && self.is_free(draft, dir) {
                return Some(dir.clone());
            }
        }
        Some(parent).filter(|dir| is_one_of(places::COLLECTIONS, dir))
    }

    /// What somebody put among installed packages of a language, and no package owns.
    fn installed_root(&self, draft: &Draft<'_>, above: &[ImagePath]) -> Option<ImagePath> {
        let among = |dir: &ImagePath| dir.file_name().is_some_and(|name| places::INSTALLED.iter().any(|known| known.as_bytes() == name));
        let at = above.iter().rposition(among)?;
        let root = above.get(at + 1).filter(|dir| dir.file_name() != Some(b"__pycache__"))?;
        let owned = draft.ask.tree.below(root).any(|(path, _)| !draft.ask.packages.owners(path).is_empty());
        (!owned && !draft.ask.packages.is_empty()).then(|| root.clone())
    }

    /// What somebody put beside the libraries of packages, for programs that load by name: a directory below one of
    /// libraries in which no package has anything.
    fn plugins_root(&mut self, draft: &Draft<'_>, above: &[ImagePath]) -> Option<ImagePath> {
        if draft.ask.packages.is_empty() {
            return None;
        }
        let libraries = |dir: &ImagePath| matches_any(&LIBRARIES, dir.as_bytes());
        let at = above.iter().rposition(libraries)?;
        let below = &above[at + 1..];
        if below.iter().any(|dir| matches_any(&NOT_PLUGINS, dir.as_bytes())) {
            return None;
        }
        below.iter().find(|dir| self.is_free(draft, dir)).cloned()
    }

    fn is_free(&mut self, draft: &Draft<'_>, dir: &ImagePath) -> bool {
        let packages = draft.ask.packages;
        *self.free.entry(dir.clone()).or_insert_with(|| {
            let systems = |path: &ImagePath| packages.owner(path).is_some_and(|package| package.system.is_os());
            !draft.ask.tree.below(dir).any(|(path, _)| systems(path))
        })
    }
}

/// Rules that keep the programs which the image starts.
const STARTED: &[&str] = &["entrypoint", "command", "command-line"];

fn is_directory(draft: &Draft<'_>, path: &ImagePath) -> bool {
    draft.ask.tree.get(path).is_some_and(Entry::is_dir)
}

/// Whether a directory that the image's config names as its place of work may be an application's.
fn may_be_named(dir: &ImagePath) -> bool {
    let system = std::iter::once(dir.clone()).chain(dir.ancestors()).any(|above| matches_any(&SYSTEM, above.as_bytes()));
    !is_one_of(places::SHARED, dir) && !system
}

/// Whether a directory that a web server's configuration names may be an application's: also one below a
/// directory of the system, but not that itself.
fn may_be_served(dir: &ImagePath) -> bool {
    let kernel = ["/dev", "/proc", "/sys"].iter().any(|top| dir.starts_with(&ImagePath::from(*top)));
    !kernel && !is_one_of(places::SHARED, dir) && !matches_any(&SYSTEM, dir.as_bytes())
}

fn is_one_of(list: &[&str], dir: &ImagePath) -> bool {
    list.iter().any(|name| name.as_bytes() == dir.as_bytes())
}

static SYSTEM: LazyLock<GlobSet> = LazyLock::new(|| set(places::SYSTEM));
static LIBRARIES: LazyLock<GlobSet> = LazyLock::new(|| set(places::LIBRARIES));
static NOT_PLUGINS: LazyLock<GlobSet> = LazyLock::new(|| set(places::NOT_PLUGINS));
static NOT_THE_APPLICATION: LazyLock<GlobSet> = LazyLock::new(|| set(places::NOT_THE_APPLICATION));
static SECRETS: LazyLock<GlobSet> = LazyLock::new(|| set(places::SECRETS));
static NO_SECRETS: LazyLock<GlobSet> = LazyLock::new(|| set(places::NO_SECRETS));
static NGINX: LazyLock<GlobSet> = LazyLock::new(|| set(places::NGINX_CONFIGURATION));
static APACHE: LazyLock<GlobSet> = LazyLock::new(|| set(places::APACHE_CONFIGURATION));

/// Globs of a table in one. One that does not compile is found by the tests of the tables.
pub(super) fn set(globs: &[&str]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in globs.iter().filter_map(|text| GlobBuilder::new(text).literal_separator(true).empty_alternates(true).build().ok()) {
        set.add(glob);
    }
    set.build().unwrap_or_default()
}

/// Whether one of the globs of a table means these bytes.
pub(super) fn matches_any(set: &GlobSet, bytes: &[u8]) -> bool {
    set.is_match_candidate(&Candidate::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glob_of_the_tables_compiles() {
        for table in [
            places::SYSTEM,
            places::LIBRARIES,
            places::NOT_PLUGINS,
            places::NOT_THE_APPLICATION,
            places::SECRETS,
            places::NO_SECRETS,
            places::NGINX_CONFIGURATION,
            places::APACHE_CONFIGURATION,
        ] {
            assert_eq!(set(table).len(), table.len());
        }
    }

    #[test]
    fn names_below_an_application_are_told_apart() {
        for (name, other, secret) in [
            ("server.py", false, false),
            (".env", false, true),
            (".env.production", false, true),
            ("config/.env.example", false, false),
            ("deploy/id_rsa", false, true),
            ("deploy/id_rsa.pub", false, false),
            (".git/config", true, false),
            (".gitignore", true, false),
            ("node_modules/.cache/x/y", true, false),
            ("logs/app.log", true, false),
            ("logs/app.log.1", true, false),
            ("templates/login.html", false, false),
            (".aws/credentials", false, true),
            ("src/x.o", true, false),
        ] {
            let path = name.as_bytes();
            assert_eq!(matches_any(&NOT_THE_APPLICATION, path), other, "{name}");
            let secret_name = matches_any(&SECRETS, path) && !matches_any(&NO_SECRETS, path);
            assert_eq!(secret_name, secret, "{name}");
        }
    }
}
