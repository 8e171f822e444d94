//! Derive: rules whose answer is in a file of the image: what a configuration names, which distribution a
//! module belongs to.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use crate::image::ImagePath;

/// Files of a Python distribution's description that are read at run time.
const DISTRIBUTION_FILES: &[&str] = &[
    "METADATA",
    "PKG-INFO",
    "RECORD",
    "WHEEL",
    "INSTALLER",
    "REQUESTED",
    "direct_url.json",
    "entry_points.txt",
    "namespace_packages.txt",
    "top_level.txt",
];

/// How deep PAM files may include each other.
const MAX_INCLUDES: usize = 8;

/// What was found out already in this pass.
#[derive(Default)]
pub(super) struct Memory {
    done: BTreeSet<&'static str>,
    /// Per directory of packages: path below it (a file, or a top-level name) to the distribution.
    distributions: BTreeMap<ImagePath, BTreeMap<Vec<u8>, ImagePath>>,
}

impl Memory {
    /// Whether this is the first time.
    fn first(&mut self, what: &'static str) -> bool {
        self.done.insert(what)
    }
}

/// The `libnss_NAME.so.2` of every service that nsswitch.conf names; glibc's own defaults without one.
pub(super) fn name_services(draft: &mut Draft<'_>, memory: &mut Memory, _: &ImagePath) -> Vec<ImagePath> {
    const DIRECTORIES: &[&str] = &[
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
    ];
    if !memory.first("name services") {
        return Vec::new();
    }
    let text = draft.text(b"/etc/nsswitch.conf");
    let text = String::from_utf8_lossy(text.unwrap_or(b"hosts: dns files")).into_owned();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let lists = lines.filter_map(|line| line.split_once(':').map(|(_, services)| services));
    let words = lists.flat_map(|services| services.split([' ', '\t', '[', ']']));
    let services: BTreeSet<&str> =
        words.filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).collect();
    let paths = services.iter().flat_map(|service| DIRECTORIES.iter().map(move |dir| format!("{dir}/libnss_{service}.so.2")));
    paths.map(ImagePath::new).filter(|path| draft.ask.tree.find(path.as_bytes()).is_some()).collect()
}

/// The largest locale archive that is kept for a locale in it: what locale-gen makes has some MB, one of all
/// locales 200.
const MAX_ARCHIVE: u64 = 16 << 20;

/// The locales that the environment names: their directories, and the archive, into which glibc looks first.
pub(super) fn locales_in_use(draft: &mut Draft<'_>, memory: &mut Memory, _: &ImagePath) -> Vec<ImagePath> {
    if !memory.first("locales") {
        return Vec::new();
    }
    let tree = draft.ask.tree;
    let names = super::whole::locales(&draft.ask.policy.env);
    let Some(root) = tree.find("/usr/lib/locale") else { return Vec::new() };
    let named = |path: &ImagePath| {
        let name = path.file_name().map(|name| super::whole::normal_locale(&String::from_utf8_lossy(name)));
        name.is_some_and(|name| names.contains(&name))
    };
    let dirs: Vec<&ImagePath> = tree.children(&root).map(|(path, _)| path).filter(|path| named(path)).collect();
    // These are in no archive.
    let builtin = |name: &str| ["C", "C.utf8", "POSIX"].contains(&name);
    let mut found: Vec<ImagePath> = dirs.iter().flat_map(|dir| tree.below(dir)).map(|(path, _)| path.clone()).collect();
    let archive = root.child(b"locale-archive");
    let Some(size) = tree.get(&archive).map(|entry| entry.size) else { return found };
    if names.iter().all(|name| builtin(name)) {
        return found;
    }
    if size <= MAX_ARCHIVE {
        found.push(archive);
    } else if draft.reasons(&archive).is_none() {
        let spelled = |dir: &ImagePath| super::whole::normal_locale(&String::from_utf8_lossy(dir.file_name().unwrap_or_default()));
        let served: BTreeSet<String> = dirs.iter().map(|dir| spelled(dir)).collect();
        let asked = super::whole::locale_values(&draft.ask.policy.env).map(super::whole::normal_locale);
        let gone: BTreeSet<String> = asked.filter(|name| !builtin(name) && !served.contains(name)).collect();
        if !gone.is_empty() {
            let gone = gone.into_iter().collect::<Vec<_>>().join(", ");
            draft.warn(format!("{archive} has {size} bytes and goes, with the locale {gone}; keep it with --include-path {archive}"));
        }
    }
    found
}

/// The files of certificates that the environment names.
pub(super) fn named_certificates(draft: &mut Draft<'_>, memory: &mut Memory, _: &ImagePath) -> Vec<ImagePath> {
    const VARIABLES: &[&str] =
        &["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"];
    if !memory.first("named certificates") {
        return Vec::new();
    }
    let named = VARIABLES.iter().filter_map(|name| draft.env(name)).filter(|value| value.starts_with('/'));
    named.map(ImagePath::new).filter(|path| draft.ask.tree.find(path.as_bytes()).is_some()).collect()
}

/// The specification of the gem that a file belongs to, and the mark of its built extension.
pub(super) fn ruby_gem(draft: &mut Draft<'_>, _: &mut Memory, by: &ImagePath) -> Vec<ImagePath> {
    let dirs: Vec<ImagePath> = by.ancestors().collect();
    let at = dirs.iter().position(|dir| dir.file_name() == Some(b"gems"));
    let Some(((home, gem), name)) = at.and_then(|at| {
        let gem = dirs.get(at.checked_sub(1)?)?;
        Some(((dirs.get(at + 1)?, gem), gem.file_name()?))
    }) else {
        return Vec::new();
    };
    let tree = draft.ask.tree;
    let file = [name, b".gemspec"].concat();
    let mut found = vec![home.join("specifications").child(&file), home.join("specifications/default").child(&file)];
    found.extend(tree.children(gem).map(|(path, _)| path.clone()).filter(|path| path.as_bytes().ends_with(b".gemspec")));
    let platforms = home.join("extensions");
    for (platform, _) in tree.children(&platforms) {
        let versions = tree.children(platform).map(|(version, _)| version.child(name).child(b"gem.build_complete"));
        found.extend(versions.collect::<Vec<_>>());
    }
    found.retain(|path| tree.contains(path));
    found
}

/// The zone files and their indexes; not the copies under `posix` and `right`, which need to be asked for.
pub(super) fn zones(draft: &mut Draft<'_>, memory: &mut Memory, _: &ImagePath) -> Vec<ImagePath> {
    if !memory.first("zones") {
        return Vec::new();
    }
    let Some(root) = draft.ask.tree.find("/usr/share/zoneinfo") else { return Vec::new() };
    let copies = [root.join("posix"), root.join("right")];
    let below = draft.ask.tree.below(&root).map(|(path, _)| path);
    let zones = below.filter(|path| !copies.iter().any(|copy| path.starts_with(copy)));
    zones.cloned().chain(["/etc/localtime".into(), "/etc/timezone".into()]).collect()
}

/// The modules that a PAM file names, and those of the files it includes, which stay as well.
pub(super) fn pam_modules(draft: &mut Draft<'_>, _: &mut Memory, by: &ImagePath) -> Vec<ImagePath> {
    let mut found = Vec::new();
    let mut todo = vec![(by.clone(), 0)];
    while let Some((path, depth)) = todo.pop() {
        let Some(text) = draft.text(path.as_bytes()).filter(|_| depth < MAX_INCLUDES) else { continue };
        found.push(path.clone());
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["@include", name, ..] | [_, "include" | "substack", name, ..] => {
                    // The second is where vendors have theirs.
                    let places = ["/etc/pam.d", "/usr/lib/pam.d"].map(|dir| ImagePath::from(dir).join(name));
                    let place = places.into_iter().find(|place| draft.ask.tree.find(place.as_bytes()).is_some());
                    todo.extend(place.map(|place| (place, depth + 1)));
                }
                _ => {
                    let modules = words.iter().filter(|word| word.ends_with(".so"));
                    found.extend(modules.flat_map(|module| pam_places(draft, module)));
                }
            }
        }
    }
    found
}

fn pam_places(draft: &Draft<'_>, module: &str) -> Vec<ImagePath> {
    let dirs = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib"];
    let places = dirs.iter().map(|dir| ImagePath::from(*dir).join("security").join(module));
    places.filter(|path| draft.ask.tree.find(path.as_bytes()).is_some()).take(1).collect()
}

/// The package.json files of the directories above a module.
pub(super) fn package_json(draft: &mut Draft<'_>, _: &mut Memory, by: &ImagePath) -> Vec<ImagePath> {
    let files = by.ancestors().map(|dir| dir.child(b"package.json"));
    files.filter(|path| draft.ask.tree.contains(path)).collect()
}

/// The description of the distribution that installed a module: by its RECORD, or, where a packager left that
/// out, by its top-level names.
pub(super) fn python_distribution(draft: &mut Draft<'_>, memory: &mut Memory, by: &ImagePath) -> Vec<ImagePath> {
    let packages = |dir: &ImagePath| matches!(dir.file_name(), Some(b"site-packages" | b"dist-packages"));
    let Some(site) = by.ancestors().find(packages) else { return Vec::new() };
    let below = &by.as_bytes()[site.as_bytes().len() + 1..];
    if !memory.distributions.contains_key(&site) {
        let owners = owners(draft, &site);
        memory.distributions.insert(site.clone(), owners);
    }
    let owners = &memory.distributions[&site];
    let top = below.split(|b| *b == b'/').next().unwrap_or_default();
    let stem = top.split(|b| *b == b'.').next().unwrap_or_default();
    let own = is_description(top).then(|| site.child(top));
    let Some(owner) = own.or_else(|| [below, top, stem].iter().find_map(|name| owners.get(*name)).cloned()) else {
        return Vec::new();
    };
    if draft.ask.tree.get(&owner).is_some_and(crate::image::Entry::is_file) {
        return vec![owner];
    }
    let files = DISTRIBUTION_FILES.iter().map(|name| owner.child(name.as_bytes()));
    files.filter(|path| draft.ask.tree.contains(path)).collect()
}

fn is_description(name: &[u8]) -> bool {
    name.ends_with(b".dist-info") || name.ends_with(b".egg-info")
}

/// Whose is what in a directory of packages.
fn owners(draft: &mut Draft<'_>, site: &ImagePath) -> BTreeMap<Vec<u8>, ImagePath> {
    let mut owners = BTreeMap::new();
    let tree = draft.ask.tree;
    for (description, _) in tree.children(site).filter(|(path, _)| path.file_name().is_some_and(is_description)) {
        let record = description.child(b"RECORD");
        let names = description.child(b"top_level.txt");
        let file = if tree.contains(&record) { &record } else { &names };
        let lines = draft.text(file.as_bytes()).unwrap_or_default().split(|b| *b == b'\n');
        let mut any = false;
        for line in lines {
            let path = line.split(|b| *b == b',').next().unwrap_or_default().trim_ascii();
            if !path.is_empty() && !path.starts_with(b"..") {
                owners.entry(path.to_vec()).or_insert_with(|| description.clone());
                any = true;
            }
        }
        if !any {
            // `Foo_Bar-1.2.dist-info` most likely holds the module `foo_bar`.
            let name = description.file_name().unwrap_or_default().split(|b| *b == b'-').next().unwrap_or_default();
            let stem = name.split(|b| *b == b'.').next().unwrap_or_default().to_ascii_lowercase();
            owners.entry(stem).or_insert_with(|| description.clone());
        }
    }
    owners
}
