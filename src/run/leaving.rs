//! Leaving: containers that are of no more use. They are removed while the next stage goes on; who needs what
//! they hold (a published port, a mount) waits until they are gone.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::task::{JoinHandle, JoinSet};

use crate::engine::Container;

/// Containers on their way out.
#[derive(Debug, Default)]
pub struct Leaving(Mutex<JoinSet<Result<()>>>);

impl Leaving {
    /// Removes a container; `reader` is the task that reads its streams, which ends with it.
    pub fn add(&self, container: Arc<dyn Container>, reader: Option<JoinHandle<()>>) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set.spawn(async move {
            let removed = container.remove().await;
            if let Some(reader) = reader {
                reader.abort();
            }
            removed
        });
    }

    /// Waits until all of them are gone.
    ///
    /// # Errors
    /// When the engine could not remove one.
    pub async fn gone(&self) -> Result<()> {
        let mut set = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some(removed) = set.join_next().await {
            removed.context("remove a container")?.context("remove a container")?;
        }
        Ok(())
    }
}
