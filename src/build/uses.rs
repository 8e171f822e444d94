//! Uses: how files of `--uses` run the image that is made smaller: what is probed for them, and whether everything
//! that they run is there.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};

use super::subject::Subject;
use super::untouched::Untouched;
use crate::exit::{Exit, Hint};
use crate::image::ImageConfig;
use crate::keep::{KeepSet, Policy, Used, program_of, programs_of};
use crate::plan::uses::{UseFile, images};
use crate::probe::ProbeRequest;

/// A command line that a file has for the image.
pub struct Found {
    /// It, with its place.
    pub used: Used,
    /// Whether it is executed while the container runs, and is probed so.
    pub probed: bool,
}

/// What the files have for an image of these names.
///
/// # Errors
/// When a file has nothing for it.
pub fn of(files: &[UseFile], names: &[String], config: &ImageConfig) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for file in files {
        let mut containers = file.containers.iter().filter(|container| container.runs(names)).peekable();
        if containers.peek().is_none() {
            let what = format!("--uses {}: no container in it runs {}", file.path.display(), names.first().map_or("", String::as_str));
            let hint = Hint::new(format!("its images are {}", images(file)));
            return Err(anyhow!(what).context(Exit::Usage).context(hint));
        }
        for container in containers {
            let place = |what: &str| format!("{}: {}, {what}", file.path.display(), container.place);
            let line = container.command_line(config);
            found.push(Found { used: Used { place: place("command"), argv: line }, probed: false });
            for exec in &container.execs {
                found.push(Found { used: Used { place: place(&exec.name), argv: exec.command(config) }, probed: true });
            }
        }
    }
    found.retain(|found| !found.used.argv.is_empty());
    Ok(found)
}

/// The request with the probes of the files. What a container runs before it stops comes last.
pub fn probed(request: &ProbeRequest, found: &[Found]) -> ProbeRequest {
    let mut request = request.clone();
    let stops = |found: &&Found| found.used.place.ends_with("preStop") || found.used.place.ends_with("pre_stop");
    let (last, first): (Vec<&Found>, Vec<&Found>) = found.iter().filter(|found| found.probed).partition(stops);
    for Found { used, .. } in first.into_iter().chain(last) {
        if !request.exec.contains(&used.argv) {
            request.exec.push(used.argv.clone());
        }
    }
    request
}

/// Whether the untouched image has the programs.
///
/// # Errors
/// When it has not: the file is not for this image.
pub fn check_original(subject: &Subject, policy: &Policy, image: &Untouched) -> Result<()> {
    let gone = |used: &&Used| program_of(&image.tree, policy, &used.argv).is_none();
    let lines: Vec<String> = subject.uses.iter().filter(gone).map(tell).collect();
    match lines.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("the original image has no such program: {}", lines.join("; "))).context(Exit::Usage),
    }
}

/// Whether the slim image has them, and what their scripts call.
///
/// # Errors
/// When it has not.
pub fn check_slim(policy: &Policy, image: &Untouched, keep: &KeepSet) -> Result<()> {
    let mut lines = BTreeSet::new();
    for used in &policy.uses {
        for program in programs_of(&image.tree, policy, &used.argv) {
            let ends = image.tree.find(program.as_bytes());
            if ends.is_some_and(|end| !keep.kept.contains_key(&end)) {
                lines.insert(format!("{program} ({})", used.place));
            }
        }
    }
    match lines.is_empty() {
        true => Ok(()),
        false => {
            let lines = lines.into_iter().collect::<Vec<_>>().join("; ");
            let hint = Hint::new("leave --exclude-pattern away for them");
            Err(anyhow!("what --uses runs is gone: {lines}")).context(Exit::Differs).context(hint)
        }
    }
}

fn tell(used: &Used) -> String {
    format!("{} ({})", used.argv.first().map_or("", String::as_str), used.place)
}
