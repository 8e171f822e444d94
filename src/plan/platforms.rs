//! Platforms: several images of one index, each made small by one command, and the index that holds what comes of them.

use super::{Here, Outputs, Source};
use crate::cli::UsageError;
use crate::cli::run::RunArgs;
use crate::store::Transport;
use crate::store::manifest::Platform;

/// The platforms where several are named; none for one image.
///
/// # Errors
/// When one is named twice, or the source has no index, or an index cannot go where the result is to go.
pub(super) fn platforms(
    texts: &[String],
    source: &Source,
    outputs: &Outputs,
    here: Here<'_>,
) -> Result<Vec<Platform>, UsageError> {
    if texts.len() < 2 {
        return Ok(Vec::new());
    }
    let wrong = |what: &str, hint: &str| Err(here.wrong("platform", what).hint(hint));
    let mut platforms: Vec<Platform> = Vec::new();
    for text in texts {
        let platform = Platform::parse(text).map_err(|error| here.wrong("platform", error))?;
        if platforms.contains(&platform) {
            return wrong(&format!("{text} is named twice"), "name it once");
        }
        platforms.push(platform);
    }
    match source {
        Source::Elsewhere(Transport::Registry(_) | Transport::OciDir(..) | Transport::OciArchive(..)) => {}
        Source::Elsewhere(_) | Source::Image(_) | Source::Dockerfile(_) => {
            return wrong("several are images of an index, and the source is one image", "name the index: docker://NAME, oci:DIR[:TAG] or oci-archive:FILE[:TAG]");
        }
    }
    let one_only = outputs.written.iter().find(|to| to.compression().is_some());
    match (one_only, outputs.written.is_empty(), outputs.tags.is_empty()) {
        (Some(to), ..) => wrong(&format!("{to} holds one image, not an index of several"), "give -o oci:DIR, oci-archive:FILE or docker://NAME"),
        (None, true, _) => wrong("nothing says where the index goes", "say it with -o: oci:DIR, oci-archive:FILE or docker://NAME"),
        (None, _, false) => wrong("a name in an engine is that of one image, not of an index", "leave --tag away"),
        (None, false, true) => Ok(platforms),
    }
}

/// Checks that not several are named where one image runs.
///
/// # Errors
/// When they are.
pub fn one(run: &RunArgs) -> Result<(), UsageError> {
    match run.platform.len() {
        0 | 1 => Ok(()),
        _ => Err(UsageError::new("--platform: this runs one image, which is for one platform").hint("name one of them")),
    }
}
