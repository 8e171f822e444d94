//! Files: what belongs to each distribution. By the list that its installer wrote where there is one; by names of
//! modules where a packager left that out; by the directory of its sources where it was installed in place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::Reading;
use super::super::gather::{all_below, files_below, is_foreign, is_shared, json, small, string, text, warn};
use super::{Distribution, is_site, stem};
use crate::image::tree::Follow;
use crate::image::{ImagePath, Tree};

/// Where below its prefix a distribution may own files outside its directory of modules, in the order of
/// `sysconfig`'s schemes.
const PLACES: &[&[u8]] = &[b"bin", b"sbin", b"share", b"include", b"man"];

/// Further places, where the prefix is not that of the operating system.
const OWN_PLACES: &[&[u8]] = &[b"etc", b"lib", b"lib64"];

/// How many files may be claimed by names and directories, as a multiple of all files.
const MAX_CLAIMS: usize = 8;

/// What one distribution owns.
#[derive(Default)]
pub(super) struct Owned {
    pub files: BTreeSet<ImagePath>,
    /// Whether they are sources in place.
    pub in_place: bool,
}

/// The files of each, in their order.
pub(super) fn of(reading: &mut Reading<'_>, all: &[Distribution]) -> Vec<Owned> {
    let listed: Vec<Option<BTreeSet<ImagePath>>> = all.iter().map(|one| listed(reading, one)).collect();
    let claimed: BTreeSet<&ImagePath> = listed.iter().flatten().flatten().collect();
    let linked = linked(reading);
    for site in all.iter().map(|one| &one.site).collect::<BTreeSet<_>>() {
        let paths = reading.tree.children(site).filter(|(path, _)| path.as_bytes().ends_with(b".pth"));
        for path in paths.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            // Asked for together with the lists, which will name some of them.
            small(reading, &path);
        }
    }
    let mut budget = reading.tree.len().saturating_mul(MAX_CLAIMS);
    let mut found = Vec::new();
    for (one, list) in all.iter().zip(&listed) {
        let mut owned = Owned::default();
        let sources = sources(reading, one, list.as_ref(), &linked);
        match list {
            Some(list) => owned.files.extend(list.iter().cloned()),
            None if sources.is_empty() && !is_awaited(reading, one) => owned.files = by_names(reading, one, &claimed, &mut budget),
            None => {}
        }
        owned.files.extend(linked.get(&one.site).into_iter().flatten().cloned());
        for dir in &sources {
            owned.in_place = true;
            if budget == 0 {
                break;
            }
            let leave_out = |dir: &ImagePath| is_foreign(dir) || is_environment(reading.tree, dir);
            take(&mut owned.files, files_below(reading.tree, dir, leave_out), &mut budget);
        }
        if reading.tree.get(&one.description).is_some_and(|entry| entry.is_dir()) {
            owned.files.extend(all_below(reading.tree, &one.description));
        } else {
            owned.files.insert(one.description.clone());
        }
        let compiled: Vec<ImagePath> = owned.files.iter().flat_map(|path| compiled(reading.tree, path)).collect();
        owned.files.extend(compiled);
        found.push(owned);
    }
    if budget == 0 {
        warn(reading, "Python distributions claim the same files many times over: not all are known as theirs".to_owned());
    }
    found
}

fn take(files: &mut BTreeSet<ImagePath>, more: BTreeSet<ImagePath>, budget: &mut usize) {
    let more: Vec<ImagePath> = more.into_iter().take(*budget).collect();
    *budget -= more.len();
    files.extend(more);
}

/// By RECORD, or by the list that `setup.py install --record` made. `None` where nothing lists files.
fn listed(reading: &mut Reading<'_>, one: &Distribution) -> Option<BTreeSet<ImagePath>> {
    let record = small(reading, &one.description.child(b"RECORD"));
    let installed = small(reading, &one.description.child(b"installed-files.txt"));
    let (lines, base) = record.map(|text| (text, &one.site)).or(installed.map(|text| (text, &one.description)))?;
    let mut outside = 0;
    let mut files = BTreeSet::new();
    for line in lines.split(|b| *b == b'\n') {
        let path = first_field(line.trim_ascii());
        let resolution = reading.tree.resolve(base, &path, Follow::NotLast);
        let Some(found) = resolution.found.filter(|found| reading.tree.get(found).is_some_and(|entry| !entry.is_dir())) else {
            continue;
        };
        if may_own(one, &found) {
            files.insert(found);
        } else {
            outside += 1;
        }
    }
    if outside > 0 {
        warn(reading, format!("{} lists {outside} files outside its prefix: passed over", one.description));
    }
    (!files.is_empty()).then_some(files)
}

/// Whether a list will be there when this is read again.
fn is_awaited(reading: &Reading<'_>, one: &Distribution) -> bool {
    [&b"RECORD"[..], b"installed-files.txt"].iter().any(|name| reading.need.contains(&one.description.child(name)))
}

/// The first field of a CSV line, quoted or not.
fn first_field(line: &[u8]) -> Vec<u8> {
    let Some(quoted) = line.strip_prefix(b"\"") else {
        return line.split(|b| *b == b',').next().unwrap_or_default().to_vec();
    };
    let mut field = Vec::new();
    let mut rest = quoted.iter().peekable();
    while let Some(b) = rest.next() {
        if *b == b'"' && rest.next_if(|next| **next == b'"').is_none() {
            break;
        }
        field.push(*b);
    }
    field
}

/// Whether a distribution can have installed a file there.
fn may_own(one: &Distribution, path: &ImagePath) -> bool {
    if path.starts_with(&one.site) {
        return true;
    }
    let Some(prefix) = prefix(&one.site) else { return false };
    let Some(place) = path.components().nth(prefix.components().count()).filter(|_| path.starts_with(&prefix)) else {
        return false;
    };
    let is_system = prefix.is_root() || prefix == "/usr".into();
    PLACES.contains(&place) || (!is_system && OWN_PLACES.contains(&place))
}

/// `/usr/local` of `/usr/local/lib/python3.11/site-packages`. `None` for a directory that is none of a prefix.
fn prefix(site: &ImagePath) -> Option<ImagePath> {
    let library = site.parent().filter(|_| is_site(site))?;
    let lib = library.parent().filter(|lib| matches!(lib.file_name(), Some(b"lib" | b"lib64")))?;
    lib.parent()
}

/// By the names of its modules, without what others list as theirs.
fn by_names(reading: &mut Reading<'_>, one: &Distribution, claimed: &BTreeSet<&ImagePath>, budget: &mut usize) -> BTreeSet<ImagePath> {
    if one.description.file_name() == Some(b"EGG-INFO") {
        return one.description.parent().map(|egg| all_below(reading.tree, &egg)).unwrap_or_default();
    }
    let lines = |text: Option<String>| -> Vec<String> { text.unwrap_or_default().lines().map(|line| line.trim().to_owned()).collect() };
    let namespaces = lines(text(reading, &one.description.child(b"namespace_packages.txt")));
    let mut names = lines(text(reading, &one.description.child(b"top_level.txt")));
    names.retain(|name| !name.is_empty() && !namespaces.contains(name));
    if names.is_empty() {
        // `Foo_Bar` most likely holds the module `foo_bar`, and `zope.interface` of a namespace `zope/interface`.
        let name = one.name.replace('-', "_");
        names = vec![name.to_lowercase(), name.replace('.', "/"), name];
    }
    let mut files = BTreeSet::new();
    for name in &names {
        if *budget == 0 {
            break;
        }
        for path in module(reading.tree, &one.site, name) {
            let is_dir = reading.tree.get(&path).is_some_and(|entry| entry.is_dir());
            let below = if is_dir { all_below(reading.tree, &path) } else { BTreeSet::from([path]) };
            take(&mut files, below, budget);
        }
    }
    for line in lines(text(reading, &one.description.child(b"SOURCES.txt"))) {
        let below = line.strip_prefix("src/").or_else(|| line.strip_prefix("lib/")).unwrap_or(&line);
        let is_module = below.contains('/') && !line.contains("..");
        let found = is_module.then(|| one.site.join(below)).filter(|path| reading.tree.get(path).is_some_and(|entry| entry.is_file()));
        files.extend(found.filter(|path| path.starts_with(&one.site)));
    }
    let stem = stem(&one.description);
    for (path, _) in reading.tree.with_prefix(one.site.child(stem.as_bytes()).as_bytes()) {
        if path.as_bytes().ends_with(b".pth") {
            files.insert(path.clone());
        }
    }
    files.retain(|path| !claimed.contains(path));
    files
}

/// The directory or the files of a top-level module: `NAME/`, `NAME.py`, `NAME.cpython-311-x86_64-linux-gnu.so`.
fn module(tree: &Tree, site: &ImagePath, name: &str) -> Vec<ImagePath> {
    let path = site.join(name.trim_matches('/'));
    if path == *site || !path.starts_with(site) {
        return Vec::new();
    }
    let mut found: Vec<ImagePath> = tree.get(&path).map(|_| path.clone()).into_iter().collect();
    let file = [path.as_bytes(), b"."].concat();
    let is_code = |name: &[u8]| [&b".py"[..], b".so", b".pyi", b".pyc"].iter().any(|end| name.ends_with(end));
    let files = tree.with_prefix(&file).filter(|(path, entry)| !entry.is_dir() && is_code(path.as_bytes()));
    found.extend(files.map(|(path, _)| path.clone()).filter(|found| found.parent() == path.parent()));
    found
}

/// What Python compiled a module to, which installers do not always list.
fn compiled(tree: &Tree, path: &ImagePath) -> Vec<ImagePath> {
    let Some(stem) = path.file_name().and_then(|name| name.strip_suffix(b".py")) else { return Vec::new() };
    let Some(dir) = path.parent() else { return Vec::new() };
    let cache = dir.child(b"__pycache__").join([stem, b"."].concat());
    let found = tree.with_prefix(cache.as_bytes()).filter(|(path, entry)| entry.is_file() && path.as_bytes().ends_with(b".pyc"));
    found.map(|(path, _)| path.clone()).collect()
}

/// Whether a directory holds a virtual environment.
fn is_environment(tree: &Tree, dir: &ImagePath) -> bool {
    tree.contains(&dir.child(b"pyvenv.cfg"))
}

/// The directories that `*.egg-link` files name, where `setup.py develop` left sources and their description; with
/// each what leads there: the link, and the paths that all such installations of a site share.
fn linked(reading: &mut Reading<'_>) -> BTreeMap<ImagePath, BTreeSet<ImagePath>> {
    let tree = reading.tree;
    let links = tree.iter().filter(|(path, entry)| entry.is_file() && path.as_bytes().ends_with(b".egg-link"));
    let mut found: BTreeMap<ImagePath, BTreeSet<ImagePath>> = BTreeMap::new();
    for (link, _) in links {
        let text = text(reading, link).unwrap_or_default();
        let Some(dir) = text.lines().next().and_then(|line| source(tree, line.trim())) else { continue };
        let shared = link.parent().map(|site| site.child(b"easy-install.pth")).filter(|path| tree.contains(path));
        found.entry(dir).or_default().extend(shared.into_iter().chain([link.clone()]));
    }
    found
}

/// The directories of sources that a distribution was installed in place from.
fn sources(
    reading: &mut Reading<'_>,
    one: &Distribution,
    list: Option<&BTreeSet<ImagePath>>,
    linked: &BTreeMap<ImagePath, BTreeSet<ImagePath>>,
) -> BTreeSet<ImagePath> {
    let mut found = BTreeSet::new();
    if linked.contains_key(&one.site) {
        found.insert(one.site.clone());
    }
    let direct = one.description.child(b"direct_url.json");
    if reading.tree.contains(&direct) {
        let value = json(reading, &direct).unwrap_or(Value::Null);
        let editable = value.pointer("/dir_info/editable").and_then(Value::as_bool) == Some(true);
        let path = string(&value, "url").and_then(|url| url.strip_prefix("file://")).filter(|_| editable);
        found.extend(path.and_then(|path| source(reading.tree, &decoded(path))));
    }
    let paths: Vec<&ImagePath> = list.into_iter().flatten().filter(|path| path.as_bytes().ends_with(b".pth")).collect();
    for path in paths {
        let text = text(reading, path).unwrap_or_default();
        let dirs = text.lines().map(str::trim).filter(|line| line.starts_with('/'));
        found.extend(dirs.filter_map(|line| source(reading.tree, line)).filter(|dir| !dir.starts_with(&one.site)));
    }
    found
}

/// The directory of the tree that a source directory's spelling means, unless it holds more than sources.
fn source(tree: &Tree, raw: &str) -> Option<ImagePath> {
    let found = tree.find(raw).filter(|_| raw.starts_with('/'))?;
    let is_dir = tree.get(&found).is_some_and(|entry| entry.is_dir());
    (is_dir && !is_shared(&found) && !is_site(&found)).then_some(found)
}

/// A URL's path without percent escapes.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((b, tail)) = rest.split_first() {
        let hex = tail.first_chunk::<2>().filter(|_| *b == b'%');
        let value = hex.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(value.unwrap_or(*b));
        rest = if value.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
