//! Xray: the words of `slim xray`: what is in an image.

use clap::{Args, ValueEnum};

use super::copy::RegistryArgs;

/// Everything after `slim xray`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct XrayArgs {
    /// The image: a name, docker-daemon:NAME, docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG],
    /// docker-archive:FILE[:NAME] or containers-storage:NAME
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// How it is told [default: text; json with --json]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Option<Format>,
    /// Entries of each list [default: 10]
    #[arg(long, value_name = "N")]
    pub top: Option<u32>,
    /// Which platform of an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Who talks to registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// A format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people at a terminal
    #[default]
    Text,
    /// For people on a page: GitHub Flavored Markdown
    Markdown,
    /// For programs
    Json,
    /// Software bill of materials: CycloneDX 1.6, JSON
    Cyclonedx,
    /// The same as SPDX 2.3, JSON
    Spdx,
}
