//! Cache: what of the cache may go, from the words of `slim cache prune`.

use super::value;
use crate::cli::{PruneArgs, UsageError};
use crate::engine::embedded::cache::Limits;

/// What may go.
///
/// # Errors
/// When a time or a size is none.
pub fn limits(args: &PruneArgs) -> Result<Limits, UsageError> {
    let wrong = |flag: &str, why: String| UsageError::new(format!("--{flag}: {why}"));
    Ok(Limits {
        older_than: args.older_than.as_deref().map(value::duration).transpose().map_err(|why| wrong("older-than", why))?,
        max_size: args.max_size.as_deref().map(value::size).transpose().map_err(|why| wrong("max-size", why))?,
        named: args.all.unwrap_or(false),
    })
}
