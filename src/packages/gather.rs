//! Gather: what the readers of language packages share: the files below a directory, small texts, and how a
//! package that is installed several times is told apart.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Reading;
use crate::image::{ImagePath, Tree};

/// The largest description that is read, in bytes: the RECORD of a wheel of 50,000 files has 5 MB.
const MAX_SMALL: u64 = 16 << 20;

/// More warnings than this say nothing new.
const MAX_WARNINGS: usize = 100;

/// Directories that no package of a language can be the owner of as a whole, nor what they lie in.
const SHARED: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/share",
    "/usr/sbin",
    "/usr/share",
    "/var/cache",
    "/var/lib",
    "/var/log",
];

/// Whether a directory is, or holds, one that many packages share.
pub(super) fn is_shared(dir: &ImagePath) -> bool {
    SHARED.iter().any(|shared| ImagePath::from(*shared).starts_with(dir))
}

/// What is below a directory and no directory itself; directories that are left out are not entered.
pub(super) fn files_below(tree: &Tree, dir: &ImagePath, leave_out: impl Fn(&ImagePath) -> bool) -> BTreeSet<ImagePath> {
    let mut files = BTreeSet::new();
    let mut todo = vec![dir.clone()];
    while let Some(dir) = todo.pop() {
        for (path, entry) in tree.children(&dir) {
            if !entry.is_dir() {
                files.insert(path.clone());
            } else if !leave_out(path) {
                todo.push(path.clone());
            }
        }
    }
    files
}

/// Everything below a directory, for a directory that holds nothing else.
pub(super) fn all_below(tree: &Tree, dir: &ImagePath) -> BTreeSet<ImagePath> {
    tree.below(dir).filter(|(_, entry)| !entry.is_dir()).map(|(path, _)| path.clone()).collect()
}

/// Whether a directory in somebody's sources is no part of what runs: version control, tools' state,
/// environments and packages of others.
pub(super) fn is_foreign(dir: &ImagePath) -> bool {
    let name = dir.file_name().unwrap_or_default();
    name.starts_with(b".") || [&b"node_modules"[..], b"site-packages", b"dist-packages", b"__pypackages__"].contains(&name)
}

/// Says what is wrong, unless enough was said.
pub(super) fn warn(reading: &mut Reading<'_>, text: String) {
    if reading.warnings.len() < MAX_WARNINGS {
        reading.warnings.push(text);
    }
}

/// The content of a small file; as [`Reading::text`].
pub(super) fn small<'a>(reading: &mut Reading<'a>, path: &ImagePath) -> Option<&'a [u8]> {
    let found = reading.tree.find(path.as_bytes())?;
    let size = reading.tree.get(&found)?.size;
    if size > MAX_SMALL {
        warn(reading, format!("{path} has {size} bytes, too many for the description of a package: not read"));
        return None;
    }
    reading.text(found.as_bytes())
}

/// The content of a small text; what is not UTF-8 in it is replaced. As [`Reading::text`].
pub(super) fn text(reading: &mut Reading<'_>, path: &ImagePath) -> Option<String> {
    small(reading, path).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A JSON document. `None` also when it is not JSON, with a warning.
pub(super) fn json(reading: &mut Reading<'_>, path: &ImagePath) -> Option<Value> {
    let bytes = small(reading, path)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match serde_json::from_slice(bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            warn(reading, format!("{path} is no JSON: {error}"));
            None
        }
    }
}

/// A string of a JSON object.
pub(super) fn string<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The keys of an object in a JSON object.
pub(super) fn keys<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v str> {
    value.get(key).and_then(Value::as_object).into_iter().flat_map(|object| object.keys().map(String::as_str))
}

/// The name of the one copy of a package that stands at this place.
pub(super) fn at_place(name: &str, place: &ImagePath) -> String {
    format!("{name}@{}", place.encode())
}

/// A file name as text.
pub(super) fn name_of(path: &ImagePath) -> String {
    String::from_utf8_lossy(path.file_name().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Texts, tree_of};
    use super::*;

    #[test]
    fn what_holds_the_system_is_nobodys() {
        for dir in ["/", "/usr", "/usr/lib", "/var", "/usr/local"] {
            assert!(is_shared(&dir.into()), "{dir}");
        }
        for dir in ["/app", "/usr/lib/app", "/srv", "/home/me"] {
            assert!(!is_shared(&dir.into()), "{dir}");
        }
    }

    #[test]
    fn absurd_json_is_survived() {
        let tree = tree_of(&["/deep.json", "/empty.json", "/mark.json"]);
        let texts: Texts = [
            ("/deep.json".into(), vec![b'['; 1_000_000]),
            ("/empty.json".into(), Vec::new()),
            ("/mark.json".into(), b"\xef\xbb\xbf{}".to_vec()),
        ]
        .into();
        let mut reading = Reading::new(&tree, &texts);
        assert_eq!(json(&mut reading, &"/deep.json".into()), None);
        assert_eq!(json(&mut reading, &"/empty.json".into()), None);
        assert_eq!(reading.warnings.len(), 2);
        assert!(json(&mut reading, &"/mark.json".into()).is_some());
    }
}
