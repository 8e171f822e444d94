//! Copy: the words of `slim copy`: an image from one place to another.

use std::path::PathBuf;

use clap::Args;

use super::build::SourceArgs;
use crate::store::compress::Compression;

/// Everything after `slim copy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct CopyArgs {
    /// Where the image is: docker-daemon:NAME, docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG],
    /// docker-archive:FILE[:NAME], containers-storage:NAME; a bare NAME is in the engine
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Where it goes, in the same words
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// Platforms to take from an index, or `all`; several make an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// How layers are compressed there [default: as they are, gzip where they are not]
    #[arg(long, value_name = "HOW", value_enum)]
    pub compress: Option<Compression>,
    /// Let one image take the place of an index of several platforms
    #[arg(long)]
    pub force: Option<bool>,
    /// Write the digest of the result's manifest to this file
    #[arg(long, value_name = "FILE")]
    pub digest_file: Option<PathBuf>,
    /// Who talks to registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Registry")]
pub struct RegistryArgs {
    /// Account at the registry [default: what docker login stored]
    #[arg(long, value_name = "NAME")]
    pub registry_account: Option<String>,
    /// Password or token of the account; other users of this machine can see it, better is --registry-secret-stdin
    #[arg(long, value_name = "SECRET")]
    pub registry_secret: Option<String>,
    /// Read the password or token from stdin
    #[arg(long)]
    pub registry_secret_stdin: Option<bool>,
    /// Which registries are trusted.
    #[command(flatten)]
    pub access: AccessArgs,
}

impl RegistryArgs {
    /// The account, as the flags of a build have it.
    pub fn as_source(&self) -> SourceArgs {
        SourceArgs {
            registry_account: self.registry_account.clone(),
            registry_secret: self.registry_secret.clone(),
            registry_secret_stdin: self.registry_secret_stdin,
            ..SourceArgs::default()
        }
    }
}

/// Which registries are trusted. It has no heading of its own: it stands among what else is said of registries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct AccessArgs {
    /// Registry that may be asked by plain HTTP; those on this machine always may
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub insecure_registry: Vec<String>,
    /// Trust registries with certificates of these authorities too (PEM) [default: the system's, or SSL_CERT_FILE]
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Option<PathBuf>,
}
