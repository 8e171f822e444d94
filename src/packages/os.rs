//! Os: which distribution an image is made of, from its os-release(5).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Reading;
use super::gather::text;
use crate::image::{ImagePath, Tree};

/// Where it is said; the second is where the first leads when it is there.
const RELEASES: &[&str] = &["/etc/os-release", "/usr/lib/os-release"];

/// Files that say the version more exactly than os-release(5) of the distribution with this ID does.
const EXACT: &[(&str, &str)] = &[("alpine", "/etc/alpine-release"), ("debian", "/etc/debian_version")];

/// The files of an image by which scanners and we know its distribution, with the links to them.
pub(super) fn files(tree: &Tree) -> BTreeSet<ImagePath> {
    let names = RELEASES.iter().chain(EXACT.iter().map(|(_, path)| path)).map(|path| ImagePath::from(*path));
    names.filter(|path| tree.contains(path)).flat_map(|path| tree.find(path.as_bytes()).into_iter().chain([path])).collect()
}

/// A distribution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os {
    /// `debian`, `alpine`, `fedora`.
    pub id: String,
    /// `12.15`, `3.19.1`; empty where it says none.
    pub version: String,
}

/// Reads it; `None` where nothing says it.
pub(super) fn read(reading: &mut Reading<'_>) -> Option<Os> {
    let release = RELEASES.iter().find_map(|path| text(reading, &ImagePath::from(*path)))?;
    let id = value(&release, "ID").unwrap_or_default().to_lowercase();
    let exact = EXACT.iter().find(|(name, _)| *name == id).and_then(|(_, path)| text(reading, &ImagePath::from(*path)));
    let exact = exact.map(|text| text.trim().to_owned()).filter(|text| text.starts_with(|c: char| c.is_ascii_digit()));
    let version = exact.or_else(|| value(&release, "VERSION_ID")).unwrap_or_default();
    (!id.is_empty()).then_some(Os { id, version })
}

/// The value of a line `NAME=value` or `NAME="value"`.
fn value(release: &str, name: &str) -> Option<String> {
    let line = release.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{Texts, tree_of};
    use super::*;

    fn os(texts: &[(&str, &str)]) -> Option<Os> {
        let tree = tree_of(&texts.iter().map(|(path, _)| *path).collect::<Vec<_>>());
        let texts: Texts = texts.iter().map(|(path, text)| (ImagePath::from(*path), text.as_bytes().to_vec())).collect();
        read(&mut Reading::new(&tree, &texts))
    }

    #[test]
    fn the_exact_version_is_that_of_the_distributions_own_file() {
        let release = "PRETTY_NAME=\"x\"\nVERSION_ID=\"12\"\nID=debian\n";
        let of = |id: &str, version: &str| Some(Os { id: id.to_owned(), version: version.to_owned() });
        assert_eq!(os(&[("/etc/os-release", release)]), of("debian", "12"));
        assert_eq!(os(&[("/usr/lib/os-release", release), ("/etc/debian_version", "12.5\n")]), of("debian", "12.5"));
        assert_eq!(os(&[("/etc/os-release", release), ("/etc/debian_version", "trixie/sid\n")]), of("debian", "12"));
        assert_eq!(os(&[("/etc/os-release", "ID='arch'")]), of("arch", ""));
        assert_eq!(os(&[("/etc/os-release", "NAME=x")]), None);
        assert_eq!(os(&[("/etc/debian_version", "12.5")]), None);
    }
}
