//! Create: what is asked of the engine for one container, and the ledger entries that go before it.

use std::sync::Arc;

use anyhow::Result;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, VolumeCreateRequest,
};
use bollard::query_parameters::CreateContainerOptions;

use super::container::DockerContainer;
use super::ledger::Made;
use super::run;
use super::{Core, failed, is_not_found};
use crate::engine::ContainerSpec;

/// Creates a container under a name of ours.
pub(super) async fn create(core: &Arc<Core>, name: &str, spec: &ContainerSpec) -> Result<DockerContainer> {
    let body = body(core, spec)?;
    let host = body.host_config.as_ref();
    for volume in host.map(run::named_volumes).unwrap_or_default() {
        core.claim_volume(&volume).await?;
    }
    let options = CreateContainerOptions {
        name: Some(name.to_owned()),
        platform: spec.options.platform.clone().unwrap_or_default(),
    };
    core.ledger.add(Made::Container(name.to_owned()));
    let api = core.slow.clone();
    let request = async move { api.create_container(Some(options), body).await.map_err(failed("ask the engine")) };
    let created = core.ledger.make(request).await?;
    Ok(DockerContainer::new(core.clone(), created.id, name.to_owned(), spec.stdin))
}

impl Core {
    /// A volume that a container names and that does not exist yet would be made by the engine and stay: it is
    /// made here instead, so that it goes with everything else.
    async fn claim_volume(self: &Arc<Self>, name: &str) -> Result<()> {
        let found = self.api.inspect_volume(name).await.map_err(failed(format!("look the volume {name} up")));
        match found {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => self.make_volume(name.to_owned()).await,
            Err(error) => Err(error),
        }
    }

    /// Makes a volume that the sweep removes.
    pub(super) async fn make_volume(self: &Arc<Self>, name: String) -> Result<()> {
        self.ledger.add(Made::Volume(name.clone()));
        let core = self.clone();
        let request =
            VolumeCreateRequest { name: Some(name), labels: Some(core.labels()), ..VolumeCreateRequest::default() };
        let create = async move { core.api.create_volume(request).await.map_err(failed("create a volume")) };
        self.ledger.make(create).await.map(|_| ())
    }
}

fn body(core: &Core, spec: &ContainerSpec) -> Result<ContainerCreateBody> {
    let mut body = run::body(&spec.options)?;
    let host = body.host_config.get_or_insert_default();
    host.auto_remove = Some(spec.auto_remove);
    if spec.no_log {
        host.log_config = Some(HostConfigLogConfig { typ: Some("none".into()), config: None });
    }
    if let Some((volume, path)) = &spec.volume {
        host.mounts.get_or_insert_default().push(Mount {
            target: Some(path.clone()),
            source: Some(volume.clone()),
            typ: Some(MountType::VOLUME),
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
            ..Mount::default()
        });
    }
    if spec.disable_healthcheck {
        body.healthcheck = Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() });
    }
    body.image = Some(core.resolve(&spec.image));
    body.labels.get_or_insert_default().extend(core.labels());
    body.attach_stdin = Some(spec.stdin);
    body.open_stdin = Some(spec.stdin);
    body.stdin_once = Some(spec.stdin);
    body.attach_stdout = Some(true);
    body.attach_stderr = Some(true);
    Ok(body)
}
