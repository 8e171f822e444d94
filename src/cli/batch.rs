//! Batch: the words of `slim build --all`, and the command lines that it stands for: one for each image that the
//! settings file has a section for, as a user would type it.

use std::ffi::OsString;

use clap::Args;

use super::settings::{Section, Vars};
use super::{BuildArgs, UsageError};

/// Several images at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Batch")]
pub struct BatchArgs {
    /// Make all images small that slim.toml has a section [image."NAME"] for
    #[arg(long)]
    pub all: Option<bool>,
    /// How many of them at a time [default: half of the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: Option<u32>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The image.
    pub name: String,
    /// Where its section begins.
    pub origin: String,
    /// The command line that makes it small.
    pub words: Vec<OsString>,
}

/// Flags that say which image is meant.
const IMAGE: &[&str] = &["image", "target", "dockerfile", "tag-fat"];

/// Checks that nothing but the settings file says which images are meant. `said` tells what was typed.
pub(super) fn check(build: &BuildArgs, said: impl Fn(&str) -> bool, vars: &Vars) -> Result<(), UsageError> {
    let hint = "leave --all away to make one image small, or give it a section in the settings file";
    if let Some(name) = IMAGE.iter().find(|name| said(name)) {
        let shown = match (*name, &build.source.image) {
            ("image", Some(image)) => format!("{image:?}"),
            (flag, _) => format!("--{flag}"),
        };
        return Err(UsageError::new(format!("--all takes its images from the settings file, and {shown} names one")).hint(hint));
    }
    let set = |name: &&String| IMAGE.iter().any(|flag| {
        let flag = flag.to_uppercase().replace('-', "_");
        [format!("SLIM_{flag}"), format!("DSLIM_{flag}")].contains(name)
    });
    match vars.iter().find(|(name, value)| set(name) && !value.is_empty()) {
        Some((name, _)) => Err(UsageError::new(format!("--all takes its images from the settings file, and {name} names one")).hint(hint)),
        None => Ok(()),
    }
}

/// What is typed besides, to make the image of a section small alone.
pub(super) fn added(section: &Section) -> Vec<String> {
    let image = match section.sets("dockerfile") {
        true => format!("--tag-fat={}", section.name),
        false => section.name.clone(),
    };
    vec!["--all=false".into(), image]
}
