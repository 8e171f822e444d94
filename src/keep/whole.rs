//! Whole: packages that are kept whole, because a file of theirs was used or a flag names them, with those that
//! they need to run. Whole is what serves a running program: [`super::trim`] says what does not.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobMatcher};

use super::draft::Draft;
use super::own::{Own, is_used};
use super::projects::declared;
use super::trim::{self, Trim};
use super::{Level, Reason};
use crate::image::{Entry, ImagePath};
use crate::packages::{Package, System};

/// A package as `SYSTEM:NAME`, which is also what `--keep-package` takes.
pub fn label(package: &Package) -> String {
    format!("{}:{}", package.system, package.name)
}

/// Whether `--keep-package` can take this.
///
/// # Errors
/// When it is no glob; the text says why.
pub fn check_pattern(text: &str) -> Result<(), String> {
    Pattern::new(text).map(|_| ())
}

/// Keeps what the level and `--keep-package` ask for. A pattern that means no package is a warning.
pub(super) fn keep_packages(draft: &mut Draft<'_>, own: &Own) {
    let mut wanted = named_packages(draft);
    if draft.ask.policy.level >= Level::Package {
        wanted.extend(used_packages(draft));
        wanted.extend(declared(draft, own.files()));
        wanted.extend(draft.ask.packages.iter().enumerate().filter(|(_, package)| trim::is_data(package)).map(|(at, _)| at));
    }
    let packages = draft.ask.packages;
    let whole = packages.closure_without(wanted, trim::is_only_for_installing);
    draft.whole = whole.keys().copied().collect();
    let trim = Trim::new(draft);
    for (index, needed_by) in whole {
        let package = packages.at(index);
        let reason = Reason::Package { name: label(package), needed_by: needed_by.map(|other| label(packages.at(other))) };
        // Where a package manager of the system lists what it knows of a package, nothing running reads.
        let described = package.description.iter().filter(|_| !package.system.is_os());
        for path in package.files.iter().chain(described).filter(|path| !trim.is_left_out(package, path)) {
            match draft.ask.tree.get(path).and_then(Entry::link_target) {
                Some(_) => draft.keep_with_target(path, reason.clone()).is_some(),
                None => draft.keep(path, reason.clone()),
            };
        }
    }
}

/// Packages of which the run used a file.
fn used_packages(draft: &Draft<'_>) -> BTreeSet<usize> {
    let file = |path: &ImagePath| draft.ask.tree.get(path).is_some_and(Entry::is_file);
    let used = draft.kept().filter(|(path, reasons)| is_used(Some(reasons)) && file(path) && !trim::is_read_by_all(path));
    used.flat_map(|(path, _)| draft.ask.packages.owners(path).iter().copied()).collect()
}

/// Packages that flags name.
fn named_packages(draft: &mut Draft<'_>) -> BTreeSet<usize> {
    let packages = draft.ask.packages;
    // A package's index is its place in the order of `iter`.
    let mut found = BTreeSet::new();
    for text in &draft.ask.policy.keep_packages {
        let matches: Vec<usize> = match Pattern::new(text) {
            Ok(pattern) => packages.iter().enumerate().filter(|(_, package)| pattern.means(package)).map(|(at, _)| at).collect(),
            Err(why) => {
                draft.warn(format!("--keep-package {text}: {why}"));
                continue;
            }
        };
        if matches.is_empty() {
            let none = if packages.is_empty() { "no package manager left anything in the image" } else { "the image has no such package" };
            draft.warn(format!("--keep-package {text}: {none}"));
        }
        found.extend(matches);
    }
    found
}

/// What `--keep-package` takes: a glob of names, whatever their case, of one system or of all.
struct Pattern {
    system: Option<&'static str>,
    name: GlobMatcher,
    /// As Python's packaging compares names (PEP 503).
    python: GlobMatcher,
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        const SYSTEMS: &[&str] = &["dpkg", "apk", "rpm", "python", "node", "ruby", "java", "php", "dotnet"];
        let of_system = text.split_once(':').and_then(|(system, name)| {
            SYSTEMS.iter().find(|known| **known == system).map(|known| (Some(*known), name))
        });
        let (system, name) = of_system.unwrap_or((None, text));
        if name.is_empty() {
            return Err(format!("{text:?} names no package"));
        }
        let compile = |name: &str| {
            let glob = GlobBuilder::new(name).case_insensitive(true).build();
            glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("{text:?}: {}", error.kind()))
        };
        Ok(Self { system, name: compile(name)?, python: compile(&normal(name))? })
    }

    fn means(&self, package: &Package) -> bool {
        if self.system.is_some_and(|system| system != package.system.name()) {
            return false;
        }
        self.name.is_match(&package.name)
            || (package.system == System::Python && self.python.is_match(normal(&package.name)))
    }
}

/// PEP 503, except for runs of separators.
fn normal(name: &str) -> String {
    name.replace(['_', '.'], "-")
}

/// Whether two names mean one distribution.
pub(super) fn same_python_name(one: &str, other: &str) -> bool {
    normal(one).eq_ignore_ascii_case(&normal(other))
}

/// What a script that is kept only as part of packages may be run by: a program that no package owns, or one of
/// a package that is kept whole. Packages bring scripts (in Perl, mostly) that they do not depend on running.
pub(super) fn may_bring(draft: &Draft<'_>, script: &ImagePath, program: &ImagePath) -> bool {
    let packaged = |reason: &Reason| matches!(reason, Reason::Package { .. } | Reason::OnTheWay { .. });
    if !draft.reasons(script).is_some_and(|reasons| reasons.iter().all(packaged)) {
        return true;
    }
    let owners = draft.ask.tree.find(program.as_bytes()).map(|end| draft.ask.packages.owners(&end)).unwrap_or_default();
    owners.is_empty() || owners.iter().any(|owner| draft.whole.contains(owner))
}

/// Names of every locale that the run's environment asks for, as directories of locales spell them.
pub(super) fn locales(env: &[String]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["C", "C.utf8", "POSIX"].map(str::to_owned).into();
    let languages = values(env, |name| name == "LANGUAGE").flat_map(|value| value.split(':')).filter(|locale| !locale.is_empty());
    for locale in locale_values(env).chain(languages) {
        // language[_territory][.codeset][@modifier], see setlocale(3)
        let (rest, modifier) = locale.split_once('@').map_or((locale, ""), |(rest, modifier)| (rest, modifier));
        let place = rest.split('.').next().unwrap_or_default();
        let language = place.split('_').next().unwrap_or_default();
        names.extend([normal_locale(locale), normal_locale(rest), place.to_owned(), language.to_owned()]);
        if !modifier.is_empty() {
            names.extend([format!("{place}@{modifier}"), format!("{language}@{modifier}")]);
        }
    }
    names
}

/// The locales that a program's categories have by the environment, as they are written there.
pub(super) fn locale_values(env: &[String]) -> impl Iterator<Item = &str> {
    values(env, |name| name == "LANG" || name.starts_with("LC_"))
}

/// The values, of each variable the last, that are not empty.
fn values(env: &[String], is_meant: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
    let pairs: BTreeMap<&str, &str> = env.iter().filter_map(|pair| pair.split_once('=')).collect();
    pairs.into_iter().filter(move |(name, value)| is_meant(name) && !value.is_empty()).map(|(_, value)| value)
}

/// `de_DE.UTF-8` as `de_DE.utf8`.
pub(super) fn normal_locale(name: &str) -> String {
    match name.split_once('.') {
        Some((place, codeset)) => format!("{place}.{}", codeset.to_ascii_lowercase().replace('-', "")),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_packages_as_their_managers_compare_names() {
        for (text, system, name, means) in [
            ("flask", System::Python, "Flask", true),
            ("python:flask", System::Python, "Flask", true),
            ("dpkg:flask", System::Python, "Flask", false),
            ("ruamel.yaml", System::Python, "ruamel_yaml", true),
            ("ruamel.yaml", System::Dpkg, "ruamel_yaml", false),
            ("lib*", System::Apk, "libssl3", true),
            ("@babel/*", System::Node, "@babel/core", true),
            ("ssl", System::Apk, "libssl3", false),
            ("org.slf4j:slf4j-api", System::Java, "org.slf4j:slf4j-api", true),
        ] {
            let package = Package::new(system, name, "1");
            assert_eq!(Pattern::new(text).unwrap().means(&package), means, "{text} {package}");
        }
        assert!(Pattern::new("").is_err() && Pattern::new("dpkg:").is_err() && Pattern::new("a[").is_err());
    }

    #[test]
    fn locales_of_the_environment_are_found_under_each_of_their_names() {
        let env = ["LANG=de_AT.UTF-8@euro", "LANGUAGE=nds:pt_BR", "LC_ALL=", "PATH=/fr"].map(str::to_owned);
        let names = locales(&env);
        for name in ["C.utf8", "de_AT.utf8", "de_AT", "de", "de@euro", "nds", "pt_BR", "pt"] {
            assert!(names.contains(name), "{name} {names:?}");
        }
        assert!(!names.contains("fr"));
    }
}
