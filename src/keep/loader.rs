//! Loader: where the image's dynamic loader finds a library: glibc's as ld.so(8) says, musl's as its
//! `load_library` does. What it reads itself (ld.so.cache, or ld.so.conf where there is no cache to read;
//! `/etc/ld-musl-ARCH.path`) is read here.

use std::collections::BTreeMap;

use super::Elf;
use super::draft::Draft;
use super::pattern::PathGlob;
use crate::image::{Entry, ImagePath};

/// Directories that glibc knows without being told, in the orders of the distributions; those an image
/// does not have do no harm, because class and machine have to fit.
const GLIBC_DIRECTORIES: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu",
    "/lib/arm-linux-gnueabihf",
    "/usr/lib/arm-linux-gnueabihf",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/lib32",
    "/usr/lib32",
];
const MUSL_DIRECTORIES: &[&str] = &["/lib", "/usr/local/lib", "/usr/lib"];

/// How deep ld.so.conf files may include each other.
const MAX_INCLUDES: usize = 8;

/// An object in a process, with what it was loaded as and by.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    /// The file.
    pub path: ImagePath,
    /// What `$ORIGIN` may be: the directory of the file, and that of the name it was loaded by.
    origins: Vec<ImagePath>,
    /// DT_RPATHs (with musl also DT_RUNPATHs) of the objects that loaded it, nearest first, expanded.
    pub inherited: Vec<String>,
    /// Which loader runs in the process.
    musl: bool,
}

impl Loaded {
    /// A program, or a library on its own.
    pub fn root(path: &ImagePath) -> Self {
        Self { path: path.clone(), origins: path.parent().into_iter().collect(), inherited: Vec::new(), musl: false }
    }

    /// A library that this object loads, found under the name `raw`.
    pub fn loads(&self, elf: &Elf, path: ImagePath, raw: &ImagePath) -> Self {
        let musl = self.musl || is_musl(elf);
        let mut origins: Vec<ImagePath> = [path.parent(), raw.parent()].into_iter().flatten().collect();
        origins.dedup();
        let mut inherited = Vec::new();
        if elf.runpath.is_empty() || musl {
            inherited.extend(self.expand(&elf.rpath));
        }
        if musl {
            inherited.extend(self.expand(&elf.runpath));
        }
        let above = self.inherited.iter().filter(|dir| !inherited.contains(dir)).cloned().collect::<Vec<_>>();
        inherited.extend(above);
        Self { path, origins, inherited, musl }
    }

    /// Replaces the dynamic string tokens, by every value they may have.
    fn expand(&self, dirs: &[String]) -> Vec<String> {
        let mut out = Vec::new();
        for dir in dirs.iter().filter(|dir| !dir.is_empty()) {
            if !dir.contains('$') {
                out.push(dir.clone());
                continue;
            }
            for origin in &self.origins {
                let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
                let with = |name: &str, value: &str, text: &str| {
                    text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
                };
                let dir = with("ORIGIN", &origin, dir);
                if !dir.contains("$LIB") && !dir.contains("${LIB}") && !dir.contains("PLATFORM") {
                    out.push(dir);
                    continue;
                }
                for lib in ["lib64", "lib", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"] {
                    for platform in ["x86_64", "aarch64", "haswell"] {
                        out.push(with("PLATFORM", platform, &with("LIB", lib, &dir)));
                    }
                }
            }
        }
        out
    }
}

/// Where a library was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// The names it is found by: the one that loads on every machine and its variants for newer ones
    /// (`glibc-hwcaps`).
    Found(Vec<ImagePath>),
    /// Nowhere.
    Missing,
    /// Not known before facts about candidates are.
    Pending,
}

/// The image's loader.
pub(super) struct Loader<'a> {
    /// LD_LIBRARY_PATH of the run.
    environment: Vec<String>,
    /// ld.so.cache: library name to paths.
    cache: BTreeMap<&'a [u8], Vec<&'a [u8]>>,
    /// Directories of ld.so.conf, where there is no cache that can be read.
    configured: Vec<String>,
    /// `/etc/ld-musl-*.path`; `None`: musl's own list.
    musl: Option<Vec<String>>,
    /// Answers that do not depend on who asks: name, class, machine, musl.
    known: BTreeMap<(String, u8, u16, bool), Search>,
}

impl<'a> Loader<'a> {
    /// Reads the loader's own files.
    pub fn new(draft: &mut Draft<'a>) -> Self {
        let environment = draft.env("LD_LIBRARY_PATH").unwrap_or_default();
        let environment = environment.split([':', ';']).filter(|dir| !dir.is_empty()).map(str::to_owned).collect();
        let cache = draft.text(b"/etc/ld.so.cache").map(read_cache).unwrap_or_default();
        let mut configured = Vec::new();
        if cache.is_empty() {
            read_conf(draft, b"/etc/ld.so.conf", 0, &mut configured);
        }
        let musl = ["x86_64", "aarch64", "armhf", "i386"]
            .into_iter()
            .find_map(|arch| draft.text(format!("/etc/ld-musl-{arch}.path").as_bytes()));
        let musl = musl.map(|text| {
            let text = String::from_utf8_lossy(text);
            text.split([':', '\n']).filter(|dir| !dir.is_empty()).map(str::to_owned).collect()
        });
        Self { environment, cache, configured, musl, known: BTreeMap::new() }
    }

    /// Finds the library `name` that `object` needs.
    pub fn search(&mut self, draft: &mut Draft<'a>, object: &Loaded, elf: &Elf, name: &str) -> Search {
        let musl = object.musl || is_musl(elf);
        if musl && (name == "libc.so" || name.starts_with("libc.musl-")) {
            // musl's loader is the C library.
            let loader = elf.interpreter.clone().or_else(|| musl_loader(draft));
            return loader.map_or(Search::Missing, |path| Search::Found(vec![ImagePath::new(path)]));
        }
        if name.contains('/') {
            let expanded = object.expand(&[name.to_owned()]);
            let workdir = ImagePath::new(&draft.ask.policy.workdir);
            return self.first(draft, elf, expanded.iter().map(|path| vec![workdir.join(path)]));
        }
        let own = |dirs: &[String]| object.expand(dirs);
        let (rpath, runpath) = (own(&elf.rpath), own(&elf.runpath));
        let mut dirs: Vec<String> = Vec::new();
        if musl {
            dirs.extend(self.environment.iter().cloned());
            dirs.extend(rpath.into_iter().chain(runpath).chain(object.inherited.iter().cloned()));
        } else {
            if elf.runpath.is_empty() {
                dirs.extend(rpath.into_iter().chain(object.inherited.iter().cloned()));
            }
            dirs.extend(self.environment.iter().cloned());
            dirs.extend(runpath);
        }
        let places = dirs.iter().map(|dir| variants(draft, dir, name)).collect::<Vec<_>>();
        match self.first(draft, elf, places.into_iter()) {
            Search::Missing => self.by_default(draft, elf, name, musl),
            found => found,
        }
    }

    /// Looks where every object may look.
    fn by_default(&mut self, draft: &mut Draft<'a>, elf: &Elf, name: &str, musl: bool) -> Search {
        let key = (name.to_owned(), elf.class, elf.machine, musl);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let mut places: Vec<Vec<ImagePath>> = Vec::new();
        let dirs: Vec<&str> = match (&self.musl, musl) {
            (Some(dirs), true) => dirs.iter().map(String::as_str).collect(),
            (None, true) => MUSL_DIRECTORIES.to_vec(),
            (_, false) => {
                let cached = self.cache.get(name.as_bytes()).into_iter().flatten().map(ImagePath::new);
                // All of them that fit: which one is loaded depends on the machine's capabilities.
                places.push(cached.collect());
                self.configured.iter().map(String::as_str).chain(GLIBC_DIRECTORIES.iter().copied()).collect()
            }
        };
        places.extend(dirs.into_iter().map(|dir| variants(draft, dir, name)));
        let found = self.first(draft, elf, places.into_iter());
        self.known.insert(key, found.clone());
        found
    }

    /// The first place that has a library for this class and machine, with all its variants.
    fn first(&self, draft: &mut Draft<'a>, elf: &Elf, places: impl Iterator<Item = Vec<ImagePath>>) -> Search {
        for place in places {
            let mut fitting = Vec::new();
            for raw in place {
                let Some(path) = draft.ask.tree.find(raw.as_bytes()) else { continue };
                if !draft.ask.tree.get(&path).is_some_and(Entry::is_file) {
                    continue;
                }
                match draft.head(&path).map(|facts| facts.elf.as_ref()) {
                    None => return Search::Pending,
                    Some(Some(other)) if (other.class, other.machine) == (elf.class, elf.machine) => fitting.push(raw),
                    Some(_) => {}
                }
            }
            if !fitting.is_empty() {
                return Search::Found(fitting);
            }
        }
        Search::Missing
    }
}

/// Whether musl's loader runs this.
fn is_musl(elf: &Elf) -> bool {
    elf.interpreter.as_ref().is_some_and(|path| path.contains("ld-musl"))
        || elf.needed.iter().any(|name| name.starts_with("libc.musl-"))
}

fn musl_loader(draft: &Draft<'_>) -> Option<String> {
    let found = draft.ask.tree.with_prefix(b"/lib/ld-musl-").next()?;
    Some(String::from_utf8_lossy(found.0.as_bytes()).into_owned())
}

/// A library's names in one directory: plain, and for newer machines.
fn variants(draft: &Draft<'_>, dir: &str, name: &str) -> Vec<ImagePath> {
    let dir = ImagePath::new(&draft.ask.policy.workdir).join(dir);
    let mut found = vec![dir.join(name)];
    if let Some(capable) = draft.ask.tree.find(dir.join("glibc-hwcaps").as_bytes()) {
        found.extend(draft.ask.tree.children(&capable).map(|(level, _)| level.join(name)));
    }
    found
}

/// ld.so.cache of glibc 2.2 and later ("glibc-ld.so.cache1.1", dl-cache.h of glibc): name to paths, every
/// variant. Empty for any other content; nothing in it is trusted to be within bounds.
fn read_cache(bytes: &[u8]) -> BTreeMap<&[u8], Vec<&[u8]>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    let mut names: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    // The format of before 2.2 may stand in front.
    let at = bytes.windows(MAGIC.len()).position(|part| part == MAGIC);
    let Some(cache) = at.map(|at| &bytes[at..]).filter(|cache| cache.len() >= HEADER) else { return names };
    let number = |at: usize| {
        let bytes = cache.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?) as usize)
    };
    let string = |at: usize| cache.get(number(at)?..)?.split(|b| *b == 0).next();
    let count = number(MAGIC.len()).unwrap_or(0).min((cache.len() - HEADER) / ENTRY);
    for entry in (0..count).map(|n| HEADER + n * ENTRY) {
        if let (Some(name), Some(path)) = (string(entry + 4), string(entry + 8)) {
            names.entry(name).or_default().push(path);
        }
    }
    names
}

/// ld.so.conf with its includes: one directory a line.
fn read_conf(draft: &mut Draft<'_>, path: &[u8], depth: usize, dirs: &mut Vec<String>) {
    let Some(text) = draft.text(path).filter(|_| depth < MAX_INCLUDES) else { return };
    for line in String::from_utf8_lossy(text).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(globs) = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
            for glob in globs.split_whitespace() {
                let glob = if glob.starts_with('/') { glob.to_owned() } else { format!("/etc/{glob}") };
                let found = PathGlob::new(draft.ask.tree, &glob).map(|glob| glob.find(draft.ask.tree).0);
                for path in found.unwrap_or_default() {
                    read_conf(draft, path.as_bytes(), depth + 1, dirs);
                }
            }
        } else if line.starts_with('/') {
            dirs.push(line.split_once('=').map_or(line, |(dir, _)| dir).to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_cache_is_read_and_survives_nonsense() {
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend(2u32.to_ne_bytes());
        cache.resize(48, 0);
        for (name, path) in [(96u32, 103u32), (96, u32::MAX)] {
            cache.extend([0; 4]);
            cache.extend(name.to_ne_bytes());
            cache.extend(path.to_ne_bytes());
            cache.extend([0; 12]);
        }
        cache.extend(b"libx.1\0/lib/libx.1\0");
        let names = read_cache(&cache);
        assert_eq!(names[&b"libx.1"[..]], [b"/lib/libx.1"]);
        for cut in 0..cache.len() {
            let _ = read_cache(&cache[..cut]);
        }
    }
}
