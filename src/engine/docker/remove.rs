//! Remove: containers and volumes go, whatever they are doing and whoever else is removing them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bollard::query_parameters::{RemoveContainerOptions, RemoveVolumeOptions, WaitContainerOptions};
use futures_util::StreamExt;

use super::{Core, RUN_LABEL, failed, is_not_found};
use crate::engine::error::EngineError;

/// Tries to remove a container that ends at the same moment, and the pause between them.
const REMOVAL_TRIES: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(100);

impl Core {
    /// Removes a container with its anonymous volumes; gone, or going, is as good.
    pub(super) async fn remove_container(&self, name: &str) -> Result<()> {
        let mut tries = 0;
        loop {
            let options = RemoveContainerOptions { v: true, force: true, link: false };
            let removed = self.slow.remove_container(name, Some(options)).await;
            let Err(error) = removed.map_err(failed(format!("remove the container {name}"))) else {
                return Ok(());
            };
            let text = format!("{error:#}");
            tries += 1;
            match text {
                _ if is_not_found(&error) => return Ok(()),
                text if text.contains("already in progress") => return self.gone(name).await,
                _ if tries >= REMOVAL_TRIES => return Err(error),
                text if has_just_ended(&text) => tokio::time::sleep(REMOVAL_PAUSE).await,
                text if self.remove_dependents(name, &text).await? => {}
                _ => return Err(error),
            }
        }
    }

    /// Podman keeps a container while another one shares its network, even one that was only created: what is of
    /// the same run goes first. Whether there was any.
    async fn remove_dependents(&self, name: &str, text: &str) -> Result<bool> {
        let mut removed = false;
        for other in dependents(text) {
            let (run, its) = (self.run_of(name).await?, self.run_of(&other).await?);
            if run.is_some() && run == its {
                Box::pin(self.remove_container(&other)).await?;
                removed = true;
            }
        }
        Ok(removed)
    }

    /// The run that a container belongs to.
    async fn run_of(&self, name: &str) -> Result<Option<String>> {
        match self.inspect(name).await.with_context(|| format!("inspect the container {name}")) {
            Ok(found) => Ok(found.config.and_then(|config| config.labels?.remove(RUN_LABEL))),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until the engine has removed a container that it is removing.
    async fn gone(&self, name: &str) -> Result<()> {
        let options = WaitContainerOptions { condition: "removed".into() };
        let mut answers = std::pin::pin!(self.slow.wait_container(name, Some(options)));
        let waited = tokio::time::timeout(Duration::from_secs(30), answers.next()).await;
        match waited {
            Ok(_) => Ok(()),
            Err(_) => bail!(EngineError::Conflict(format!("the engine does not finish removing {name}"))),
        }
    }

    /// Removes a volume; gone is as good.
    pub(super) async fn remove_volume(&self, name: &str) -> Result<()> {
        let removed = self.api.remove_volume(name, None::<RemoveVolumeOptions>).await;
        match removed.map_err(failed(format!("remove the volume {name}"))) {
            Err(error) if !is_not_found(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Whether an engine went to kill a container that ended by itself in that moment, and gave up in wonder: podman's words,
/// and Docker's. A moment later it can be removed.
fn has_just_ended(text: &str) -> bool {
    let docker = text.contains("Could not kill running container") && text.contains("is not running");
    docker || text.contains("container state improper")
}

/// The containers that podman names when it refuses to remove one that they depend on.
fn dependents(text: &str) -> Vec<String> {
    let (_, list) = text.split_once("must be removed before it:").unwrap_or_default();
    let words = list.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64);
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_ends_while_it_is_killed_is_tried_again() {
        let docker = "remove the container x: Could not kill running container x, cannot remove - Container x is not running";
        assert!(has_just_ended(docker) && has_just_ended("cannot kill x: container state improper"));
        assert!(!has_just_ended("Could not kill running container x, cannot remove - permission denied"));
        assert!(!has_just_ended("the container x is not running"));
    }

    #[test]
    fn dependents_are_read_from_podmans_refusal() {
        let (one, two) = ("a".repeat(64), "b1".repeat(32));
        let text = format!(
            "remove the container x: container {one} has dependent containers which must be removed before it: {one}, {two}: \
             container already exists"
        );
        assert_eq!(dependents(&text), [one, two]);
        assert_eq!(dependents("container state improper"), [""; 0]);
    }
}
