//! Image path: an absolute, normal byte string inside an image. It cannot name anything outside the root.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An absolute path inside an image: bytes, `/`-separated, no `.`, `..`, empty component or NUL.
///
/// File names on Linux are byte strings (path_resolution(7)), so this is not a `str`. Ordering is by
/// components (`/a/b` sorts before `/a.txt`), so a directory always stands directly before what it holds.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ImagePath(Box<[u8]>);

/// In the lossless text form of docs/formats.md, "Paths' text form".
impl schemars::JsonSchema for ImagePath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Path".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": r"^/([^\\]|\\\\|\\x[0-9a-f]{2})*$",
            "description": "An absolute path in the image: UTF-8 as it is, a backslash as two, every other byte as \\xNN."
        })
    }
}

impl ImagePath {
    /// `/`.
    pub fn root() -> Self {
        Self(Box::from(&b"/"[..]))
    }

    /// Takes any bytes as a path from the image's root: `.` and empty components vanish, `..` goes up and
    /// stops at the root, a NUL ends the name (nothing after it can be named on Linux).
    ///
    /// This is lexical. Where `..` may follow a symlink use [`crate::image::Tree::resolve`].
    pub fn new(raw: impl AsRef<[u8]>) -> Self {
        let raw = raw.as_ref();
        let raw = raw.split(|b| *b == 0).next().unwrap_or_default();
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in raw.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        let mut bytes = Vec::with_capacity(raw.len() + 1);
        for part in parts {
            bytes.push(b'/');
            bytes.extend_from_slice(part);
        }
        if bytes.is_empty() {
            bytes.push(b'/');
        }
        Self(bytes.into_boxed_slice())
    }

    /// The path as bytes, with its leading `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as tar and OCI layers spell it: no leading `/`; the root is the empty string.
    pub fn relative(&self) -> &[u8] {
        &self.0[1..]
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().last()
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<ImagePath> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(Box::from(&self.0[..cut.max(1)])))
    }

    /// The components from the root down, without slashes.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// The path below this one that `raw` names lexically; an absolute `raw` starts again at the root.
    pub fn join(&self, raw: impl AsRef<[u8]>) -> ImagePath {
        let raw = raw.as_ref();
        if raw.first() == Some(&b'/') {
            return Self::new(raw);
        }
        let mut bytes = self.0.to_vec();
        bytes.push(b'/');
        bytes.extend_from_slice(raw);
        Self::new(bytes)
    }

    /// The path of one entry of this directory. `name` is a single component as a directory holds it: no
    /// slash, not `.` or `..`.
    pub fn child(&self, name: &[u8]) -> ImagePath {
        debug_assert!(!name.contains(&b'/') && ![&b"."[..], b"..", b""].contains(&name));
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(if self.is_root() { b"" } else { &self.0 });
        bytes.push(b'/');
        bytes.extend_from_slice(name.split(|b| *b == 0).next().unwrap_or_default());
        Self(bytes.into_boxed_slice())
    }

    /// The smallest path that sorts after everything below this one.
    pub(super) fn after_below(&self) -> ImagePath {
        Self([&self.0, &b"\x01"[..]].concat().into_boxed_slice())
    }

    /// Whether this path is `other` or lies below it.
    pub fn starts_with(&self, other: &ImagePath) -> bool {
        other.is_root()
            || (self.0.starts_with(&other.0)
                && (self.0.len() == other.0.len() || self.0[other.0.len()] == b'/'))
    }

    /// The directories above this path, nearest first, the root last.
    pub fn ancestors(&self) -> impl Iterator<Item = ImagePath> {
        std::iter::successors(self.parent(), ImagePath::parent)
    }

    /// The lossless text form of reports and traces: UTF-8 as it is, `\` as `\\`, any other byte as `\xNN`.
    pub fn encode(&self) -> String {
        encode_bytes(&self.0)
    }

    /// Reads what [`ImagePath::encode`] wrote. `None` where an escape is broken.
    pub fn decode(text: &str) -> Option<Self> {
        decode_bytes(text).map(Self::new)
    }
}

/// Bytes as text without loss: valid UTF-8 stays, `\` becomes `\\`, every other byte becomes `\xNN`.
pub fn encode_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push('\\');
            }
            text.push(c);
        }
        for b in chunk.invalid() {
            text.push_str(&format!("\\x{b:02x}"));
        }
    }
    text
}

/// The inverse of [`encode_bytes`]; `None` where an escape is broken.
pub fn decode_bytes(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match rest {
            [b'\\', tail @ ..] => {
                out.push(b'\\');
                rest = tail;
            }
            [b'x', hi, lo, tail @ ..] => {
                let hex = |c: &u8| (*c as char).to_digit(16);
                out.push((hex(hi)? * 16 + hex(lo)?) as u8);
                rest = tail;
            }
            _ => return None,
        }
    }
    Some(out)
}

/// Whether a terminal acts on a character instead of showing it: control characters, bidirectional
/// overrides, and what has no width.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

/// Bytes from an image made safe for a terminal or a log line: control characters, bidirectional overrides
/// and invalid UTF-8 appear as escapes, so a file name cannot move the cursor or hide itself.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_hidden(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for b in chunk.invalid() {
            text.push_str(&format!("\\x{b:02x}"));
        }
    }
    text
}

impl Ord for ImagePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // By bytes, with `/` before everything else: the same order as comparing component by component.
        let rank = |b: u8| if b == b'/' { 0 } else { b };
        // Paths share long beginnings: eight bytes at a time.
        let (mut a, mut b) = (&*self.0, &*other.0);
        while let (Some((x, a_rest)), Some((y, b_rest))) = (a.split_first_chunk::<8>(), b.split_first_chunk::<8>()) {
            if u64::from_ne_bytes(*x) != u64::from_ne_bytes(*y) {
                break;
            }
            (a, b) = (a_rest, b_rest);
        }
        match a.iter().zip(b).find(|(a, b)| a != b) {
            Some((a, b)) => rank(*a).cmp(&rank(*b)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for ImagePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.encode())
    }
}

impl From<&str> for ImagePath {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl Serialize for ImagePath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for ImagePath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::decode(&text).ok_or_else(|| serde::de::Error::custom("a path has a broken \\ escape"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_leaves_the_root() {
        for (raw, normal) in [
            ("", "/"),
            ("../../etc", "/etc"),
            ("/a/./b//c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("a\0b", "/a"),
        ] {
            assert_eq!(ImagePath::from(raw), ImagePath::from(normal), "{raw}");
        }
    }

    #[test]
    fn order_is_that_of_components() {
        let mut paths = ["/", "/a", "/a/b", "/a/b/c", "/a.txt", "/a-", "/a b", "/ab", "/a/b.c", "/b", "/a\u{1}"];
        paths.sort_by_key(|path| ImagePath::from(*path));
        for pair in paths.windows(2) {
            let [a, b] = [ImagePath::from(pair[0]), ImagePath::from(pair[1])];
            assert_eq!(a.cmp(&b), a.components().cmp(b.components()), "{a} {b}");
            assert!(a < b, "{a} {b}");
        }
    }

    #[test]
    fn text_form_loses_no_byte() {
        let odd = ImagePath::new(b"/a\\b/\xff\xfe\n\"\xc3\xa9");
        assert_eq!(odd.encode(), "/a\\\\b/\\xff\\xfe\n\"é");
        assert_eq!(ImagePath::decode(&odd.encode()), Some(odd.clone()));
        assert!(!odd.to_string().contains('\n'));
        assert_eq!(ImagePath::decode("/a\\q"), None);
    }

    #[test]
    fn a_directory_sorts_directly_before_what_it_holds() {
        let mut paths = ["/a.txt", "/a/b", "/a", "/a/b/c", "/a-b"].map(ImagePath::from);
        paths.sort();
        let order: Vec<String> = paths.iter().map(ImagePath::encode).collect();
        assert_eq!(order, ["/a", "/a/b", "/a/b/c", "/a-b", "/a.txt"]);
    }

    #[test]
    fn starts_with_compares_whole_components() {
        assert!(ImagePath::from("/a/b").starts_with(&"/a".into()));
        assert!(!ImagePath::from("/ab").starts_with(&"/a".into()));
        assert!(ImagePath::from("/ab").starts_with(&ImagePath::root()));
    }
}
