//! Sweep: everything in the ledger goes, in an order in which nothing is in use any more.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::ledger::Made;
use super::{Core, is_not_found};
use crate::engine::error::EngineError;

/// Tries for one thing before it is reported as left behind.
const TRIES: u32 = 10;
/// Pause between tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Removes what was made and not published. What is gone already is fine; what resists is named.
pub(super) async fn sweep(core: &Arc<Core>) -> Result<()> {
    let settled = core.ledger.settle().await;
    let mut left = Vec::new();
    let (images, others): (Vec<_>, Vec<_>) =
        core.ledger.list().into_iter().partition(|made| matches!(made, Made::Image(_)));
    for made in others {
        match remove(core, &made).await {
            Ok(()) => core.ledger.strike(&made),
            Err(error) => left.push(format!("{made:?}: {error:#}")),
        }
    }
    left.extend(remove_images(core, images).await);
    settled?;
    match left.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("left behind in the engine: {}", left.join("; "))),
    }
}

/// Images of one build stand on each other: rounds, until one removes nothing. What is in use then is in use
/// by something that has a name or is not ours, and stays.
async fn remove_images(core: &Arc<Core>, mut images: Vec<Made>) -> Vec<String> {
    let mut left = Vec::new();
    loop {
        let mut used = Vec::new();
        let before = images.len();
        for made in images {
            match remove(core, &made).await {
                Ok(()) => core.ledger.strike(&made),
                Err(error) if is_conflict(&error) => used.push(made),
                Err(error) => left.push(format!("{made:?}: {error:#}")),
            }
        }
        if used.is_empty() || used.len() == before {
            used.iter().for_each(|made| core.ledger.strike(made));
            return left;
        }
        images = used;
    }
}

async fn remove(core: &Arc<Core>, made: &Made) -> Result<()> {
    let mut tries = 0;
    loop {
        let result = match made {
            Made::Container(name) => core.remove_container(name).await,
            Made::Volume(name) => core.remove_volume(name).await,
            Made::Tag(reference) => core.untag(reference).await,
            Made::Image(id) => core.remove_unpublished(id).await,
        };
        tries += 1;
        match result {
            Ok(()) => return Ok(()),
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) if matches!(made, Made::Image(_)) && is_conflict(&error) => return Err(error),
            // A connection that broke, or a removal that is already under way: once more, in a moment.
            Err(error) if tries < TRIES && passes(&error) => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(EngineError::Conflict(_)))
}

fn passes(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(EngineError::Busy(_) | EngineError::Conflict(_)))
}
