//! Transport: the way to an image outside of the usual names, spelled as skopeo and podman do: `oci:DIR:TAG`.
//!
//! The grammar is that of containers-transports(5). Of the text behind a path the first colon separates the tag.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::image::reference::{Name, Reference};

/// Where an image is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `docker-daemon:NAME`: in the container engine's store.
    Daemon(String),
    /// `containers-storage:NAME`: in podman's store, reached through its socket.
    Podman(String),
    /// `docker://NAME`: in a registry.
    Registry(Name),
    /// `oci:DIR[:TAG]`: an OCI layout.
    OciDir(PathBuf, Option<String>),
    /// `oci-archive:FILE[:TAG]`: an OCI layout in a tar.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<String>),
}

/// How they are spelled, for help and errors.
pub const KNOWN: &str = "docker-daemon:NAME, docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], \
                         docker-archive:FILE[:NAME], containers-storage:NAME";

/// Transports of other tools, which are no image names either.
const FOREIGN: &[&str] = &["atomic", "dir", "docker-tar", "ostree", "sif", "tarball"];

/// Why a text is no transport. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadTransport(String);

impl Transport {
    /// Understands what was typed; `None` when it is a bare name, which begins with no transport.
    ///
    /// # Errors
    /// When the transport is unknown or what stands behind it makes no sense to it.
    pub fn parse(text: &str) -> Result<Option<Self>, BadTransport> {
        let Some((word, rest)) = text.split_once(':') else { return Ok(None) };
        let wrong = |what: &str| BadTransport(format!("{text:?} {what}"));
        let named = |rest: &str| match Reference::parse(rest) {
            Ok(_) => Ok(rest.to_owned()),
            Err(error) => Err(BadTransport(error.to_string())),
        };
        let path = || match rest.split_once(':').unwrap_or((rest, "")) {
            ("", _) => Err(wrong("names no path")),
            (path, "") => Ok((PathBuf::from(path), None)),
            (path, tag) => Ok((PathBuf::from(path), Some(tag.to_owned()))),
        };
        let transport = match word {
            "docker-daemon" => Self::Daemon(named(rest)?),
            "containers-storage" => Self::Podman(named(rest)?),
            "docker" if rest.starts_with("//") => match Reference::parse(&rest[2..]) {
                Ok(Reference::Name(name)) => Self::Registry(name),
                Ok(Reference::Id(_)) => return Err(wrong("is an image ID; a registry knows images by name")),
                Err(error) => return Err(BadTransport(error.to_string())),
            },
            "oci" => path().and_then(|(path, tag)| Ok(Self::OciDir(path, tag.map(checked).transpose()?)))?,
            "oci-archive" => path().and_then(|(path, tag)| Ok(Self::OciArchive(path, tag.map(checked).transpose()?)))?,
            "docker-archive" => {
                let (path, name) = path()?;
                Self::DockerArchive(path, name.as_deref().map(named).transpose()?)
            }
            // A tag begins with neither: this is no name.
            word if FOREIGN.contains(&word) || (!word.contains('/') && rest.starts_with(['/', '.'])) => {
                return Err(BadTransport(format!("{word:?} is no transport that is known; there are {KNOWN}")));
            }
            _ => return Ok(None),
        };
        Ok(Some(transport))
    }

    /// The file or directory of this machine that it names; `None` for engines and registries.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::OciDir(path, _) | Self::OciArchive(path, _) | Self::DockerArchive(path, _) => Some(path),
            Self::Daemon(_) | Self::Podman(_) | Self::Registry(_) => None,
        }
    }
}

/// A tag as `org.opencontainers.image.ref.name` allows it: what a name may have, in several parts.
fn checked(tag: String) -> Result<String, BadTransport> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._:@/+".contains(&b);
    match tag.bytes().all(good) && tag.len() <= 255 {
        true => Ok(tag),
        false => Err(BadTransport(format!("{tag:?} is no tag: it may have letters, digits and -._:@/+"))),
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, word: &str, path: &Path, tag: &Option<String>| {
            write!(f, "{word}:{}", path.display())?;
            tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
        };
        match self {
            Self::Daemon(name) => write!(f, "docker-daemon:{name}"),
            Self::Podman(name) => write!(f, "containers-storage:{name}"),
            Self::Registry(name) => write!(f, "docker://{}", name.familiar()),
            Self::OciDir(path, tag) => with(f, "oci", path, tag),
            Self::OciArchive(path, tag) => with(f, "oci-archive", path, tag),
            Self::DockerArchive(path, tag) => with(f, "docker-archive", path, tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_is_read_and_shown_as_it_was_typed() {
        for text in [
            "docker-daemon:app:1",
            "containers-storage:host/app:1",
            "docker://host:5000/team/app:1",
            "oci:build/app:latest",
            "oci:/x/y",
            "oci-archive:app.tar:v1",
            "docker-archive:app.tar:app:1",
            "docker-archive:app.tar",
        ] {
            assert_eq!(Transport::parse(text).unwrap().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bare_name_is_no_transport() {
        for text in ["app", "app:1", "host:5000/app", "host.example/app:1", "docker:24", "sha256:abcd"] {
            assert_eq!(Transport::parse(text).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_transport_is_answered_with_those_there_are() {
        for text in ["dir:/x", "sif:x", "oic:./x", "http://host/app", "ostree:x"] {
            let error = Transport::parse(text).unwrap_err().to_string();
            assert!(error.contains("docker-archive:FILE"), "{error}");
        }
        for text in ["oci:", "docker://", "docker://UPPER", "docker-daemon:", "oci:x:a b", "docker-archive::x"] {
            assert!(Transport::parse(text).is_err(), "{text}");
        }
    }
}
