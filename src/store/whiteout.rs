//! Whiteout: a member of a layer that says what of the layers below is gone (OCI image-spec `layer.md`).

use anyhow::{Result, bail};

use super::members::Member;
use crate::image::ImagePath;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a member of a layer means for the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// This path is as the member says.
    Entry(ImagePath),
    /// This path of the layers below is gone.
    Gone(ImagePath),
    /// What this directory holds in the layers below is gone.
    Opaque(ImagePath),
    /// Nothing: what an old storage driver wrote down for itself (`.wh..wh.plnk` and the like).
    Nothing,
}

/// Reads a member's name.
///
/// # Errors
/// When the name leaves the layer or is no name of a file.
pub fn meaning(member: &Member) -> Result<Meaning> {
    let path = inside(&member.path)?;
    // AUFS's own names may be directories too.
    if path.components().any(|part| part.starts_with(b".wh..wh.") && part != OPAQUE) {
        return Ok(Meaning::Nothing);
    }
    let parent = path.parent().unwrap_or_else(ImagePath::root);
    if parent.components().any(|part| part.starts_with(PREFIX)) {
        bail!("{path} lies below a whiteout");
    }
    match path.file_name() {
        Some(OPAQUE) => Ok(Meaning::Opaque(parent)),
        Some(name) => match name.strip_prefix(PREFIX) {
            None => Ok(Meaning::Entry(path)),
            Some(b"" | b"." | b"..") => bail!("{path} is a whiteout of nothing"),
            Some(gone) => Ok(Meaning::Gone(parent.child(gone))),
        },
        None => Ok(Meaning::Entry(path)),
    }
}

/// A name in a layer as a path; absolute names are taken as relative to the root, as engines do.
///
/// # Errors
/// When it has `..` in it, or a component or the whole is longer than the kernel takes.
pub fn inside(name: &[u8]) -> Result<ImagePath> {
    let shown = || ImagePath::new(name);
    if name.split(|b| *b == b'/').any(|part| part == b"..") {
        bail!("{:?} has .. in it: a layer names what lies in it", crate::image::path::printable(name));
    }
    if name.split(|b| *b == b'/').any(|part| part.len() > 255) {
        let start: String = shown().to_string().chars().take(80).collect();
        bail!("{start}... has a component of more than 255 bytes, which no file can have");
    }
    Ok(shown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_becomes_of_the_layers_below() {
        let read = |name: &[u8]| meaning(&Member::named(name));
        for (name, expected) in [
            (&b"a/b"[..], Meaning::Entry("/a/b".into())),
            (b"/etc//./passwd", Meaning::Entry("/etc/passwd".into())),
            (b"./", Meaning::Entry("/".into())),
            (b"a/.wh.b", Meaning::Gone("/a/b".into())),
            (b"a/.wh..b", Meaning::Gone("/a/.b".into())),
            (b".wh..wh..opq", Meaning::Opaque("/".into())),
            (b"a/.wh..wh..opq", Meaning::Opaque("/a".into())),
            (b".wh..wh.plnk/12.34", Meaning::Nothing),
            (b"a/.wh..wh.aufs", Meaning::Nothing),
        ] {
            assert_eq!(read(name).unwrap(), expected, "{}", String::from_utf8_lossy(name));
        }
        for bad in [&b"../a"[..], b"a/../../b", b"a/.wh.", b"a/.wh...", b"a/.wh..", b"a/.wh.b/c", &[b'x'; 300]] {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
