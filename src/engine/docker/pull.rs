//! Pull: an image from a registry, fetched by the engine with credentials that we find.

use std::collections::HashMap;

use anyhow::{Context, Result};
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;

use super::{Core, failed};
use crate::engine::Credentials;
use crate::engine::auth::{self, Login};
use crate::engine::error::EngineError;
use crate::engine::host::Surroundings;
use crate::image::Reference;
use crate::image::reference::{DEFAULT_REGISTRY, Name};
use crate::progress::Fact;

impl Core {
    /// Pulls what a reference names.
    pub(super) async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        auth: Option<&Credentials>,
    ) -> Result<()> {
        let parsed = Reference::parse(reference).map_err(|error| EngineError::Refused(error.to_string()))?;
        let Reference::Name(name) = parsed else {
            let text = format!("{reference} is an image ID, which no registry knows; pull it by its name");
            return Err(EngineError::Refused(text).into());
        };
        let login = match auth {
            Some(credentials) => Some(Login::Password(credentials.clone())),
            None => stored_login(&name).await?,
        };
        let anonymous = login.is_none();
        let options = CreateImageOptions {
            from_image: Some(name.familiar_repository()),
            tag: name.digest.clone().or_else(|| name.tag_or_latest().map(str::to_owned)),
            platform: platform.unwrap_or_default().to_owned(),
            ..CreateImageOptions::default()
        };
        let credentials = login.map(|login| credentials(login, &name.registry));
        let result = self.receive(options, credentials).await;
        result.map_err(|error| with_remedy(error, &name, anonymous)).with_context(|| format!("pull {name}", name = name.familiar()))
    }

    async fn receive(&self, options: CreateImageOptions, credentials: Option<DockerCredentials>) -> Result<()> {
        let mut layers = HashMap::new();
        let mut answers = std::pin::pin!(self.slow.create_image(Some(options), None, credentials));
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(failed("ask the registry"))?;
            if let Some(fact) = progress(&mut layers, &answer) {
                self.monitor.tell(fact);
            }
        }
        Ok(())
    }
}

/// Helpers are programs that may take their time.
pub(super) async fn stored_login(name: &Name) -> Result<Option<Login>> {
    let registry = name.registry.clone();
    let find = tokio::task::spawn_blocking(move || auth::find(&registry, &Surroundings::here()));
    find.await.context("look for credentials")?
}

pub(super) fn credentials(login: Login, registry: &str) -> DockerCredentials {
    let server = match registry {
        DEFAULT_REGISTRY => "https://index.docker.io/v1/".to_owned(),
        other => other.to_owned(),
    };
    let base = DockerCredentials { serveraddress: Some(server), ..DockerCredentials::default() };
    match login {
        Login::Password(Credentials { username, secret }) => {
            DockerCredentials { username: Some(username), password: Some(secret), ..base }
        }
        Login::Token(token) => DockerCredentials { identitytoken: Some(token), ..base },
    }
}

/// Sums what the engine says of each layer's download.
fn progress(layers: &mut HashMap<String, (u64, u64)>, answer: &CreateImageInfo) -> Option<Fact> {
    let detail = answer.progress_detail.as_ref()?;
    if answer.status.as_deref() != Some("Downloading") {
        return None;
    }
    let number = |value: Option<i64>| u64::try_from(value.unwrap_or_default()).unwrap_or_default();
    layers.insert(answer.id.clone()?, (number(detail.current), number(detail.total)));
    let (done, total) = layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
    Some(Fact::Bytes { done, total: Some(total).filter(|total| *total > 0) })
}

fn with_remedy(error: anyhow::Error, name: &Name, anonymous: bool) -> anyhow::Error {
    match error.downcast_ref() {
        Some(EngineError::Unauthorized(text)) => {
            let remedy = match anonymous {
                true => "log in with `docker login` or give --registry-account and --registry-secret-stdin",
                false => "the credentials given are not accepted",
            };
            EngineError::Unauthorized(format!("{} refuses: {text}; {remedy}", name.registry)).into()
        }
        Some(EngineError::NotFound(_)) => {
            EngineError::NotFound(format!("{} has no {}", name.registry, name.familiar())).into()
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn progress_sums_the_layers_that_download() {
        let mut layers = HashMap::new();
        let mut say = |id: &str, status: &str, current, total| {
            let detail = ProgressDetail { current: Some(current), total: Some(total) };
            let answer = CreateImageInfo {
                id: Some(id.into()),
                status: Some(status.into()),
                progress_detail: Some(detail),
                ..CreateImageInfo::default()
            };
            progress(&mut layers, &answer)
        };
        assert_eq!(say("a", "Downloading", 1, 10), Some(Fact::Bytes { done: 1, total: Some(10) }));
        assert_eq!(say("b", "Downloading", 5, 20), Some(Fact::Bytes { done: 6, total: Some(30) }));
        assert_eq!(say("a", "Downloading", 10, 10), Some(Fact::Bytes { done: 15, total: Some(30) }));
        assert_eq!(say("a", "Extracting", 3, 10), None);
    }
}
