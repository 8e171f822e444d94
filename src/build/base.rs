//! Base: the image that a result is made of, as others name it: its own name, and the digest of its manifest.
//!
//! The name follows from what was typed, so it is the same in every engine and may stand in the result's config. The
//! digest is known to the one engine and not to the other, so it stands only in manifests that are written here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow};

use super::Session;
use super::subject::Subject;
use crate::engine::ImageInfo;
use crate::exit::{Exit, Hint};
use crate::image::path::printable;
use crate::image::reference::Name;
use crate::image::{ImageConfig, Reference};
use crate::pack::config::{self, BASE_DIGEST, BASE_NAME, LABEL_KEEP_SET, LABEL_LEVEL, LABEL_SOURCE, LABEL_VERSION};
use crate::store::{self, Transport};

/// When an image was made (OCI image-spec `annotations.md`).
const CREATED: &str = "org.opencontainers.image.created";

/// How a source is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Its name, every part spelled out. `None`: it has none, as an image ID.
    pub name: Option<String>,
    /// The digest of its manifest. `None`: nobody knows it, or several are known.
    pub digest: Option<String>,
}

impl Base {
    /// Of an image that an engine has. `reference`: what `typed` turned out to be.
    pub fn in_engine(typed: &str, reference: &Reference, info: &ImageInfo) -> Self {
        match Reference::parse(typed) {
            // Another reference than what was typed: that was an ID, and a tag of its image is not its name.
            Ok(Reference::Name(name)) if *reference == Reference::Name(name.clone()) => {
                Self { name: Some(name.normalised()), digest: name.digest.clone().or_else(|| known(&name, info)) }
            }
            Ok(Reference::Name(_) | Reference::Id(_)) | Err(_) => Self::default(),
        }
    }

    /// Of one that is elsewhere.
    pub fn elsewhere(transport: &Transport, source: &store::Source, image: &store::Image) -> Self {
        let parsed = |name: &str| match Reference::parse(name) {
            Ok(Reference::Name(name)) => Some(name.normalised()),
            Ok(Reference::Id(_)) | Err(_) => None,
        };
        let name = match transport {
            Transport::Registry(name) => Some(name.normalised()),
            Transport::DockerArchive(_, Some(name)) | Transport::Daemon(name) | Transport::Podman(name) => parsed(name),
            Transport::DockerArchive(_, None) | Transport::OciDir(..) | Transport::OciArchive(..) => source.name(),
        };
        Self { name, digest: image.manifest.as_ref().map(|(_, _, descriptor)| descriptor.digest.clone()) }
    }

    /// What the manifest of a result says of it.
    pub fn annotations(&self, result: &ImageConfig) -> BTreeMap<String, String> {
        let labels = result.labels();
        // As the label has it: the user may want another name there, or none.
        let name = labels.get(BASE_NAME);
        let created = Some(result.created().to_owned()).filter(|created| !created.is_empty());
        let said = [(BASE_NAME, name.cloned()), (BASE_DIGEST, self.digest.clone()), (CREATED, created)];
        let ours = [LABEL_KEEP_SET, LABEL_LEVEL, LABEL_SOURCE, LABEL_VERSION].map(|label| (label, labels.get(label).cloned()));
        let all = said.into_iter().chain(ours);
        all.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// The manifest's digest, where the engine knows just one in this repository.
fn known(name: &Name, info: &ImageInfo) -> Option<String> {
    let here = |text: &String| match Reference::parse(text) {
        Ok(Reference::Name(other)) if (&other.registry, &other.repository) == (&name.registry, &name.repository) => other.digest,
        Ok(_) | Err(_) => None,
    };
    let digests: BTreeSet<String> = info.repo_digests.iter().filter_map(here).collect();
    digests.into_iter().next().filter(|only| info.repo_digests.iter().filter_map(here).all(|digest| digest == *only))
}

/// Refuses to make an image small that is a result, unless that is asked for.
///
/// # Errors
/// When it is one.
pub fn refuse_result(session: &Session<'_>, subject: &Subject) -> Result<()> {
    if session.plan.outputs.again || !config::is_result(&subject.config) {
        return Ok(());
    }
    let labels = subject.config.labels();
    let said = |label: &str| labels.get(label).map(|text| printable(text.as_bytes()));
    let source = said(BASE_NAME).or(said(LABEL_SOURCE)).unwrap_or_else(|| "another image".into());
    let what = format!(
        "{} is slim already: slim {} made it from {source}, and what no probe touched is gone from it",
        subject.reference.familiar(),
        said(LABEL_VERSION).unwrap_or_default(),
    );
    let hint = Hint::new(format!("build {source} instead, or give --again to make this one still smaller"));
    Err(anyhow!(what)).context(hint).context(Exit::Usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(repo_digests: &[&str]) -> ImageInfo {
        let repo_digests = repo_digests.iter().map(|text| (*text).to_owned()).collect();
        ImageInfo { id: format!("sha256:{}", "a".repeat(64)), repo_digests, ..ImageInfo::default() }
    }

    #[test]
    fn a_name_is_spelled_out_and_a_digest_is_of_its_repository() {
        let (one, two) = (format!("sha256:{}", "1".repeat(64)), format!("sha256:{}", "2".repeat(64)));
        let (ours, theirs) = (format!("app@{one}"), format!("host:5000/app@{two}"));
        let base = |typed: &str, reference: &str, digests: &[&str]| {
            let base = Base::in_engine(typed, &Reference::parse(reference).unwrap(), &info(digests));
            (base.name, base.digest)
        };
        let full = Some("docker.io/library/app:1".to_owned());
        assert_eq!(base("app:1", "app:1", &[&ours, &theirs]), (full.clone(), Some(one.clone())));
        assert_eq!(base("app:1", "app:1", &[&theirs]), (full.clone(), None), "another repository");
        assert_eq!(base("app:1", "app:1", &[&ours, &format!("app@{two}")]), (full, None), "nobody knows which");
        assert_eq!(base("aaaaaaaaaaaa", "app:1", &[&ours]), (None, None), "an ID is no name");
        assert_eq!(base(&theirs, &theirs, &[]), (Some(theirs.clone()), Some(two)));
    }

    #[test]
    fn annotations_name_the_base_as_the_label_does() {
        let base = Base { name: Some("host:5000/app:1".into()), digest: Some("sha256:d".into()) };
        let annotations = |labels: &str| {
            let config = format!(r#"{{"created":"2020-01-02T03:04:05Z","config":{{"Labels":{labels}}},"rootfs":{{"diff_ids":["sha256:1"]}}}}"#);
            base.annotations(&ImageConfig::parse(config.as_bytes()).unwrap())
        };
        let named = annotations(r#"{"org.opencontainers.image.base.name":"other","slim.level":"app"}"#);
        let said: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(said, [(BASE_DIGEST, "sha256:d"), (BASE_NAME, "other"), (CREATED, "2020-01-02T03:04:05Z"), (LABEL_LEVEL, "app")]);
        assert_eq!(annotations("{}").get(BASE_NAME), None, "--remove-label");
    }
}
