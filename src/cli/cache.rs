//! Cache: the words of `slim cache`: what is kept on this machine, and what of it goes.

use clap::{Args, Subcommand};

/// `slim cache`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CacheCommand {
    /// List what is there: unpacked layers, images with a name, what runs have at work
    Ls,
    /// Remove what no running build uses and no named image is made of
    Prune(PruneArgs),
}

/// Everything after `slim cache prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct PruneArgs {
    /// Only what was not used for this long: 12h, 30d
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<String>,
    /// Only as much, the least recently used first, as brings the cache down to this: 500m, 10g
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Images that have a name, too: results of earlier builds that are nowhere else
    #[arg(long)]
    pub all: Option<bool>,
}
