//! Reference: the name by which a user means an image: `host:5000/app:1`, `name@sha256:...`, an image ID.
//!
//! The grammar is that of the OCI distribution project (`reference/reference.go`): a first component with a
//! dot or a colon in it, or `localhost`, is a registry; without one it is the default registry, where a
//! single component lives under `library/`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The registry of names that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// An older name of the same registry.
const OLD_DEFAULT_REGISTRY: &str = "index.docker.io";

/// What a user typed to mean an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// `sha256:HEX` or 64 hexadecimal digits: an image ID (without the prefix, whole or its beginning).
    Id(String),
    /// A name in a registry.
    Name(Name),
}

/// A name in a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Registry with its port: `docker.io`, `host:5000`.
    pub registry: String,
    /// Repository in it: `library/debian`, `team/app`.
    pub repository: String,
    /// Tag; `None` when none was typed.
    pub tag: Option<String>,
    /// `sha256:HEX`; `None` when none was typed.
    pub digest: Option<String>,
}

/// Why a text is no reference. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadReference(String);

impl Reference {
    /// Understands what was typed.
    ///
    /// # Errors
    /// When it names no image; says what is wrong with it and, for a path, which flag was meant.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        if let Some(wrong) = not_a_name(text) {
            return Err(BadReference(wrong));
        }
        if let Some(id) = text.strip_prefix("sha256:") {
            return match is_hex(id) && (1..=64).contains(&id.len()) {
                true => Ok(Self::Id(id.to_owned())),
                false => Err(bad(text, "an image ID is sha256: and up to 64 of the digits 0-9 a-f")),
            };
        }
        if text.len() == 64 && is_hex(text) {
            return Ok(Self::Id(text.to_owned()));
        }
        Name::parse(text).map(Self::Name)
    }

    /// Every part spelled out: `docker.io/library/debian:latest`; an ID as `sha256:HEX`.
    pub fn normalised(&self) -> String {
        match self {
            Self::Id(id) => format!("sha256:{id}"),
            Self::Name(name) => name.normalised(),
        }
    }

    /// As people write it: without the default registry, with a tag: `debian:latest`.
    pub fn familiar(&self) -> String {
        match self {
            Self::Id(id) => format!("sha256:{id}"),
            Self::Name(name) => name.familiar(),
        }
    }

    /// The name of the result: `host:5000/app:1` gives `host:5000/app.slim:1`; a digest without a tag gives
    /// the first 12 digits as the tag, an ID `HEX.slim:latest`.
    pub fn slim_name(&self) -> String {
        match self {
            Self::Id(id) => format!("{}.slim:latest", short(id)),
            Self::Name(name) => name.slim_name(),
        }
    }

    /// The reference that says most about an image: what was typed, or, when that was (the beginning of) its
    /// ID, the first tag that it has.
    pub fn or_tag(self, id: &str, tags: &[String]) -> Self {
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        let typed = match &self {
            Self::Id(typed) => hex.starts_with(typed.as_str()),
            Self::Name(name) => {
                let bare = name.tag.is_none() && name.digest.is_none() && name.is_default();
                let text = name.familiar_repository();
                bare && hex.starts_with(&text) && !tags.contains(&format!("{text}:latest"))
            }
        };
        match tags.iter().filter(|_| typed).find_map(|tag| Self::parse(tag).ok()) {
            Some(tag) => tag,
            None if typed => Self::Id(hex.to_owned()),
            None => self,
        }
    }
}

impl Name {
    fn parse(text: &str) -> Result<Self, BadReference> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(check_digest(text, digest)?)),
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(check_tag(text, tag)?)),
            _ => (rest, None),
        };
        let (registry, path) = match rest.split_once('/') {
            Some((first, path)) if is_registry(first) => (check_registry(text, first)?, path),
            _ => (DEFAULT_REGISTRY.to_owned(), rest),
        };
        check_path(text, path)?;
        let registry = match registry == OLD_DEFAULT_REGISTRY {
            true => DEFAULT_REGISTRY.to_owned(),
            false => registry,
        };
        let repository = match registry == DEFAULT_REGISTRY && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        if registry.len() + 1 + repository.len() > 255 {
            return Err(bad(text, "its name is longer than 255 characters"));
        }
        Ok(Self { registry, repository, tag, digest })
    }

    /// The tag; `latest` when neither tag nor digest was typed.
    pub fn tag_or_latest(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        }
    }

    /// Every part spelled out.
    pub fn normalised(&self) -> String {
        self.with_suffix(format!("{}/{}", self.registry, self.repository))
    }

    /// As people write it.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_repository())
    }

    /// `host:5000/app.slim:1`.
    pub fn slim_name(&self) -> String {
        let tag = match (&self.tag, &self.digest) {
            (Some(tag), _) => tag,
            (None, Some(digest)) => short(digest.strip_prefix("sha256:").unwrap_or(digest)),
            (None, None) => "latest",
        };
        format!("{}.slim:{tag}", self.familiar_repository())
    }

    /// Repository as people write it, with the registry unless that is the default: `host:5000/app`.
    pub fn familiar_repository(&self) -> String {
        match self.is_default() {
            true => self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned(),
            false => format!("{}/{}", self.registry, self.repository),
        }
    }

    fn is_default(&self) -> bool {
        self.registry == DEFAULT_REGISTRY
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = self.tag_or_latest() {
            text.extend([":", tag]);
        }
        if let Some(digest) = &self.digest {
            text.extend(["@", digest]);
        }
        text
    }
}

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

fn bad(text: &str, why: &str) -> BadReference {
    BadReference(format!("{} is not an image reference: {why}", text.escape_debug()))
}

/// The mistakes that have a better answer than the grammar's.
fn not_a_name(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("no image was named".into());
    }
    let path = matches!(text, "." | ".." | "~")
        || ["/", "./", "../", "~/"].iter().any(|start| text.starts_with(start));
    let shown = text.escape_debug();
    if path && (text.ends_with(['/', '.', '~'])) {
        return Some(format!("{shown} is a directory, not an image; to build it first use --dockerfile {shown}"));
    }
    if path {
        return Some(format!("{shown} is a path, not an image; to build a directory first use --dockerfile {shown}"));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Some(format!("{shown} is a URL, not an image; leave {}:// away", scheme.escape_debug()));
    }
    if let Some(odd) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Some(format!("{shown} is not an image reference: it contains {odd:?}"));
    }
    None
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

fn check_digest(text: &str, digest: &str) -> Result<String, BadReference> {
    match digest.split_once(':') {
        Some(("sha256", hex)) if hex.len() == 64 && is_hex(hex) => Ok(digest.to_owned()),
        Some(("sha512", hex)) if hex.len() == 128 && is_hex(hex) => Ok(digest.to_owned()),
        _ => Err(bad(text, "a digest is sha256: and 64 of the digits 0-9 a-f")),
    }
}

fn check_tag(text: &str, tag: &str) -> Result<String, BadReference> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    match good {
        true => Ok(tag.to_owned()),
        false => Err(bad(text, "a tag is 1 to 128 letters, digits, _ . or -, and starts with none of . -")),
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

fn check_registry(text: &str, registry: &str) -> Result<String, BadReference> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(bad(text, "the registry's port is not a number"));
    }
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let good = match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    match good {
        true => Ok(registry.to_owned()),
        false => Err(bad(text, "its registry is not a host name or address")),
    }
}

fn check_path(text: &str, path: &str) -> Result<(), BadReference> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let why = format!("repository names are lower case; {} may be meant", text.to_ascii_lowercase());
        return Err(bad(text, &why));
    }
    match path.split('/').all(is_component) {
        true => Ok(()),
        false => Err(bad(text, "a repository is lower-case letters and digits, with . _ - or / between them")),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends.is_some_and(|(first, last)| alphanumeric(*first) && alphanumeric(*last))
        && separators.into_iter().all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_reference_has_a_full_a_familiar_and_a_slim_form() {
        let table = [
            ("debian", "docker.io/library/debian:latest", "debian:latest", "debian.slim:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12", "debian.slim:12"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest", "me/app.slim:latest"),
            ("host:5000/app:1", "host:5000/app:1", "host:5000/app:1", "host:5000/app.slim:1"),
            ("host:5000/app", "host:5000/app:latest", "host:5000/app:latest", "host:5000/app.slim:latest"),
            ("localhost/a/b", "localhost/a/b:latest", "localhost/a/b:latest", "localhost/a/b.slim:latest"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a.slim:b"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest", "debian.slim:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest", "a/b.slim:latest"),
            ("a__b/c--d.e:F_1.2-3", "docker.io/a__b/c--d.e:F_1.2-3", "a__b/c--d.e:F_1.2-3", "a__b/c--d.e.slim:F_1.2-3"),
            ("deadbeef", "docker.io/library/deadbeef:latest", "deadbeef:latest", "deadbeef.slim:latest"),
        ];
        for (text, full, familiar, slim) in table {
            let reference = Reference::parse(text).unwrap();
            let forms = (reference.normalised(), reference.familiar(), reference.slim_name());
            assert_eq!(forms, (full.into(), familiar.into(), slim.into()), "{text}");
        }
    }

    #[test]
    fn digests_and_ids_are_references_too() {
        let table = [
            (format!("a@sha256:{HEX}"), format!("a@sha256:{HEX}"), "a.slim:0123456789ab"),
            (format!("h:1/a:2@sha256:{HEX}"), format!("h:1/a:2@sha256:{HEX}"), "h:1/a.slim:2"),
            (HEX.to_owned(), format!("sha256:{HEX}"), "0123456789ab.slim:latest"),
            (format!("sha256:{HEX}"), format!("sha256:{HEX}"), "0123456789ab.slim:latest"),
            ("sha256:0123".to_owned(), "sha256:0123".to_owned(), "0123.slim:latest"),
        ];
        for (text, familiar, slim) in table {
            let reference = Reference::parse(&text).unwrap();
            assert_eq!((reference.familiar(), reference.slim_name()), (familiar, slim.into()), "{text}");
            assert_eq!(Reference::parse(&reference.normalised()), Ok(reference), "{text}");
        }
    }

    #[test]
    fn an_image_named_by_its_id_is_called_by_its_tag() {
        let id = format!("sha256:{HEX}");
        let tags = ["app:1".to_owned()];
        for typed in ["0123456789ab", HEX, &id, "0123"] {
            let reference = Reference::parse(typed).unwrap();
            assert_eq!(reference.clone().or_tag(&id, &tags).familiar(), "app:1", "{typed}");
            assert_eq!(reference.or_tag(&id, &[]).slim_name(), "0123456789ab.slim:latest", "{typed}");
        }
        let name = Reference::parse("other:2").unwrap();
        assert_eq!(name.clone().or_tag(&id, &tags), name);
        let like_an_id = Reference::parse("0123").unwrap();
        assert_eq!(like_an_id.clone().or_tag(&id, &["0123:latest".to_owned()]), like_an_id);
    }

    #[test]
    fn what_is_no_reference_is_explained() {
        let long = format!("a:{}", "t".repeat(129));
        let table = [
            ("", "no image was named"),
            (".", "is a directory, not an image; to build it first use --dockerfile ."),
            ("./app/", "is a directory"),
            ("./app", "is a path"),
            ("/srv/app", "use --dockerfile /srv/app"),
            ("../x", "is a path"),
            ("https://h/a", "leave https:// away"),
            ("a b", "contains ' '"),
            ("a\u{1b}[2J", "contains '\\u{1b}'"),
            ("App", "app may be meant"),
            ("UPPER/case", "upper/case may be meant"),
            ("host/App:1", "lower case"),
            ("a:", "a tag is"),
            ("a:-x", "a tag is"),
            (&long, "a tag is"),
            ("a@sha256:12", "a digest is"),
            ("a@md5:12", "a digest is"),
            ("sha256:xyz", "an image ID is"),
            ("h:port/a", "port is not a number"),
            ("-h.x/a", "registry is not"),
            ("a//b", "a repository is"),
            ("a/../b", "a repository is"),
            ("_a", "a repository is"),
            ("a___b", "a repository is"),
            ("a..b", "a repository is"),
            ("a?b", "a repository is"),
            ("host:5000/", "a repository is"),
        ];
        for (text, expected) in table {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
