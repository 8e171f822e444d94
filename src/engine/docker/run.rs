//! Run: run options as the Docker API spells them, the way the docker command translates its flags.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointIpamConfig, EndpointSettings, HostConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkingConfig, PortBinding, PortMap, ResourcesUlimits,
};

use crate::engine::RunOptions;
use crate::engine::error::EngineError;
use crate::engine::options::limits::{self, Device, Gpus, Network, Security};
use crate::engine::options::mounts::{self, MountKind, MountText, Volume};
use crate::engine::options::{self, ports};

/// The options of one container, without what our own use of it adds.
pub(super) fn body(run: &RunOptions) -> Result<ContainerCreateBody> {
    options::check(run).map_err(EngineError::Refused)?;
    translate(run).context("translate the run options")
}

/// Everything below parses again what `check` has found good, so its errors name no flag.
fn translate(run: &RunOptions) -> Result<ContainerCreateBody> {
    let mut host = HostConfig {
        cap_add: list(&run.cap_add),
        cap_drop: list(&run.cap_drop),
        dns: list(&run.dns),
        extra_hosts: all(&run.add_hosts, limits::add_host)?,
        group_add: list(&run.group_add),
        init: run.init.then_some(true),
        ipc_mode: run.ipc.clone(),
        memory: run.memory.map(signed),
        pid_mode: run.pid.clone(),
        readonly_rootfs: Some(run.read_only),
        runtime: run.runtime.clone(),
        shm_size: run.shm_size.map(signed),
        sysctls: map(all(&run.sysctls, limits::pair)?),
        tmpfs: map(all(&run.tmpfs, mounts::tmpfs)?),
        ulimits: all(&run.ulimits, ulimit)?,
        ..HostConfig::default()
    };
    let anonymous = storage(run, &mut host)?;
    devices(run, &mut host)?;
    security(run, &mut host)?;
    let exposed = published(run, &mut host)?;
    let networking = network(run, &mut host)?;
    Ok(ContainerCreateBody {
        user: run.user.clone(),
        hostname: run.hostname.clone(),
        working_dir: run.workdir.clone(),
        env: list(&run.env),
        // One empty string is how the API spells "no entrypoint"; an empty list means the image's.
        entrypoint: run.entrypoint.clone().map(|argv| if argv.is_empty() { vec![String::new()] } else { argv }),
        cmd: run.cmd.clone(),
        labels: map(Some(run.labels.iter().map(|text| label(text)).collect())),
        volumes: Some(anonymous).filter(|list| !list.is_empty()),
        exposed_ports: Some(exposed).filter(|list| !list.is_empty()),
        networking_config: networking,
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

fn list(texts: &[String]) -> Option<Vec<String>> {
    (!texts.is_empty()).then(|| texts.to_vec())
}

fn all<T>(texts: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<Vec<T>>> {
    let parsed: Result<Vec<T>, String> = texts.iter().map(|text| parse(text)).collect();
    let parsed = parsed.map_err(EngineError::Refused)?;
    Ok(Some(parsed).filter(|list| !list.is_empty()))
}

fn map(pairs: Option<Vec<(String, String)>>) -> Option<HashMap<String, String>> {
    pairs.filter(|pairs| !pairs.is_empty()).map(|pairs| pairs.into_iter().collect())
}

fn label(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.into(), value.into())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn ulimit(text: &str) -> Result<ResourcesUlimits, String> {
    let limit = limits::ulimit(text)?;
    Ok(ResourcesUlimits { name: Some(limit.name), soft: Some(limit.soft), hard: Some(limit.hard) })
}

/// Binds and mounts; gives the paths of volumes without a name.
fn storage(run: &RunOptions, host: &mut HostConfig) -> Result<Vec<String>> {
    let (mut anonymous, mut binds, mut mounted) = (Vec::new(), Vec::new(), Vec::new());
    let short = run.volumes.iter().map(|text| mounts::volume(text).map(MountText::Short));
    let long = run.mounts.iter().map(|text| mounts::mount(text));
    for text in short.chain(long) {
        match text.map_err(EngineError::Refused)? {
            MountText::Short(Volume::Anonymous(path)) => anonymous.push(path),
            MountText::Short(Volume::Bind { source, target, options }) => {
                let colon = if options.is_empty() { "" } else { ":" };
                binds.push(format!("{}:{target}{colon}{options}", absolute(&source)?));
            }
            MountText::Keys(text) => mounted.push(mount(*text)?),
        }
    }
    host.binds = Some(binds).filter(|list| !list.is_empty());
    host.mounts = Some(mounted).filter(|list| !list.is_empty());
    Ok(anonymous)
}

/// The engine takes absolute paths only; a relative one is ours.
fn absolute(source: &str) -> Result<String> {
    if !source.starts_with('.') {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(source).with_context(|| format!("find {source}"))?;
    let path = path.canonicalize().unwrap_or(path);
    Ok(path.to_string_lossy().into_owned())
}

fn mount(text: mounts::Mount) -> Result<Mount> {
    let mut mount = Mount {
        target: Some(text.target),
        read_only: Some(text.read_only),
        ..Mount::default()
    };
    match text.kind {
        MountKind::Bind => {
            mount.typ = Some(MountType::BIND);
            mount.source = Some(absolute(&text.source)?);
            let propagation = text.propagation.as_deref().map(propagation);
            if propagation.is_some() || text.non_recursive {
                let non_recursive = text.non_recursive.then_some(true);
                mount.bind_options =
                    Some(MountBindOptions { propagation, non_recursive, ..MountBindOptions::default() });
            }
        }
        MountKind::Volume => {
            mount.typ = Some(MountType::VOLUME);
            mount.source = Some(text.source).filter(|source| !source.is_empty());
            let driver = text.driver.or_else(|| (!text.driver_options.is_empty()).then(|| "local".to_owned()));
            mount.volume_options = Some(MountVolumeOptions {
                no_copy: text.no_copy.then_some(true),
                labels: hash(text.labels),
                driver_config: driver.map(|name| MountVolumeOptionsDriverConfig {
                    name: Some(name),
                    options: hash(text.driver_options),
                }),
                subpath: text.subpath,
            });
        }
        MountKind::Tmpfs => {
            mount.typ = Some(MountType::TMPFS);
            mount.tmpfs_options = Some(MountTmpfsOptions {
                size_bytes: text.tmpfs_size.map(signed),
                mode: text.tmpfs_mode.map(i64::from),
                options: None,
            });
        }
    }
    Ok(mount)
}

fn hash(map: BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.into_iter().collect())
}

fn propagation(text: &str) -> MountBindOptionsPropagationEnum {
    match text {
        "private" => MountBindOptionsPropagationEnum::PRIVATE,
        "shared" => MountBindOptionsPropagationEnum::SHARED,
        "rshared" => MountBindOptionsPropagationEnum::RSHARED,
        "slave" => MountBindOptionsPropagationEnum::SLAVE,
        "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
        _ => MountBindOptionsPropagationEnum::RPRIVATE,
    }
}

fn devices(run: &RunOptions, host: &mut HostConfig) -> Result<()> {
    let mut requests = Vec::new();
    for device in all(&run.devices, limits::device)?.unwrap_or_default() {
        match device {
            Device::File { host: path, container, permissions } => {
                host.devices.get_or_insert_default().push(DeviceMapping {
                    path_on_host: Some(path),
                    path_in_container: Some(container),
                    cgroup_permissions: Some(permissions),
                });
            }
            Device::Cdi(name) => requests.push(DeviceRequest {
                driver: Some("cdi".into()),
                device_ids: Some(vec![name]),
                ..DeviceRequest::default()
            }),
        }
    }
    let gpus = all(run.gpus.as_slice(), limits::gpus)?.unwrap_or_default();
    requests.extend(gpus.into_iter().map(gpu_request));
    host.device_requests = Some(requests).filter(|list| !list.is_empty());
    Ok(())
}

fn gpu_request(gpus: Gpus) -> DeviceRequest {
    let mut capabilities = vec!["gpu".to_owned()];
    capabilities.extend(gpus.capabilities.into_iter().filter(|name| name != "gpu"));
    DeviceRequest {
        driver: Some(gpus.driver),
        count: Some(gpus.count),
        device_ids: Some(gpus.devices).filter(|list| !list.is_empty()),
        capabilities: Some(vec![capabilities]),
        options: hash(gpus.options),
    }
}

fn security(run: &RunOptions, host: &mut HostConfig) -> Result<()> {
    let mut plain = Vec::new();
    for option in all(&run.security_opt, limits::security)?.unwrap_or_default() {
        match option {
            Security::Plain(text) => plain.push(text),
            Security::Unconfined => {
                host.masked_paths = Some(Vec::new());
                host.readonly_paths = Some(Vec::new());
            }
        }
    }
    host.security_opt = Some(plain).filter(|list| !list.is_empty());
    Ok(())
}

/// Port bindings; gives every exposed port, the published ones too.
fn published(run: &RunOptions, host: &mut HostConfig) -> Result<Vec<String>> {
    let mut exposed: Vec<String> = Vec::new();
    let mut bindings = PortMap::new();
    for port in all(&run.expose, ports::expose)?.unwrap_or_default().iter().flatten() {
        exposed.push(port.to_string());
    }
    for published in all(&run.publish, ports::publish)?.unwrap_or_default().into_iter().flatten() {
        let port = published.port.to_string();
        exposed.push(port.clone());
        let list = bindings.entry(port).or_default().get_or_insert_default();
        list.push(PortBinding { host_ip: Some(published.host_ip), host_port: Some(published.host_port) });
    }
    host.port_bindings = Some(bindings).filter(|map| !map.is_empty());
    exposed.sort_unstable();
    exposed.dedup();
    Ok(exposed)
}

fn network(run: &RunOptions, host: &mut HostConfig) -> Result<Option<NetworkingConfig>> {
    let Some(text) = &run.network else {
        host.links = list(&run.links);
        return Ok(None);
    };
    let network: Network = limits::network(text).map_err(EngineError::Refused)?;
    host.network_mode = Some(network.mode.clone());
    if !network.is_user_defined() {
        host.links = list(&run.links);
        return Ok(None);
    }
    let aliases = [network.aliases, run.network_aliases.clone()].concat();
    let endpoint = EndpointSettings {
        aliases: list(&aliases),
        links: list(&run.links),
        ipam_config: network.ip.map(|ip| match ip.contains(':') {
            true => EndpointIpamConfig { ipv6_address: Some(ip), ..EndpointIpamConfig::default() },
            false => EndpointIpamConfig { ipv4_address: Some(ip), ..EndpointIpamConfig::default() },
        }),
        ..EndpointSettings::default()
    };
    Ok(Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network.mode, endpoint)])) }))
}

/// Volumes that a container calls by name.
pub(super) fn named_volumes(host: &HostConfig) -> Vec<String> {
    let binds = host.binds.iter().flatten().filter_map(|bind| bind.split(':').next());
    let binds = binds.filter(|source| !source.starts_with('/')).map(str::to_owned);
    // One with a driver or options of its own is left to the engine, which is told how to make it.
    let plain = |mount: &&Mount| {
        mount.typ == Some(MountType::VOLUME)
            && mount.volume_options.as_ref().is_none_or(|options| options.driver_config.is_none())
    };
    let mounts = host.mounts.iter().flatten().filter(plain).filter_map(|mount| mount.source.clone());
    binds.chain(mounts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    fn api(run: &RunOptions) -> serde_json::Value {
        serde_json::to_value(body(run).unwrap()).unwrap()
    }

    #[test]
    fn options_reach_the_api_as_the_docker_command_sends_them() {
        let run = RunOptions {
            volumes: texts(&["/a:/b:ro", "name:/c", "/anon"]),
            mounts: texts(&["type=bind,src=/d,dst=/e,ro", "/f:/g:ro", "type=tmpfs,dst=/h,tmpfs-mode=1777"]),
            tmpfs: texts(&["/t:size=1m", "/u"]),
            ulimits: texts(&["nofile=10:20"]),
            sysctls: texts(&["net.x=1"]),
            publish: texts(&["127.0.0.1:8080:80", "53/udp"]),
            expose: texts(&["80"]),
            devices: texts(&["/dev/fuse:r"]),
            gpus: Some("all".into()),
            security_opt: texts(&["no-new-privileges", "systempaths=unconfined"]),
            labels: texts(&["a=b", "c"]),
            init: true,
            shm_size: Some(64),
            ..RunOptions::default()
        };
        let body = api(&run);
        let host = &body["HostConfig"];
        assert_eq!(host["Binds"], json!(["/a:/b:ro", "name:/c", "/f:/g:ro"]));
        assert_eq!(host["Mounts"][0], json!({"Target": "/e", "Source": "/d", "Type": "bind", "ReadOnly": true}));
        assert_eq!(host["Mounts"][1]["TmpfsOptions"], json!({"Mode": 0o1777}));
        assert_eq!(body["Volumes"], json!({"/anon": {}}));
        assert_eq!(host["Tmpfs"], json!({"/t": "size=1m", "/u": ""}));
        assert_eq!(host["Ulimits"], json!([{"Name": "nofile", "Soft": 10, "Hard": 20}]));
        assert_eq!(host["Sysctls"], json!({"net.x": "1"}));
        assert_eq!(body["ExposedPorts"], json!({"53/udp": {}, "80/tcp": {}}));
        assert_eq!(host["PortBindings"]["80/tcp"], json!([{"HostIp": "127.0.0.1", "HostPort": "8080"}]));
        assert_eq!(host["PortBindings"]["53/udp"], json!([{"HostIp": "", "HostPort": ""}]));
        assert_eq!(host["Devices"][0]["CgroupPermissions"], "r");
        assert_eq!(host["DeviceRequests"][0]["Count"], -1);
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
        assert_eq!((&host["MaskedPaths"], &host["ReadonlyPaths"]), (&json!([]), &json!([])));
        assert_eq!(body["Labels"], json!({"a": "b", "c": ""}));
        assert_eq!((&host["Init"], &host["ShmSize"]), (&json!(true), &json!(64)));
    }

    #[test]
    fn an_empty_entrypoint_is_none_and_an_absent_one_the_images() {
        let none = RunOptions { entrypoint: Some(vec![]), ..RunOptions::default() };
        assert_eq!(api(&none)["Entrypoint"], json!([""]));
        assert_eq!(api(&RunOptions::default())["Entrypoint"], json!(null));
    }

    #[test]
    fn aliases_and_links_belong_to_the_network_of_ones_own() {
        let own = RunOptions {
            network: Some("mine".into()),
            network_aliases: texts(&["web"]),
            links: texts(&["db:database"]),
            ..RunOptions::default()
        };
        let body = api(&own);
        assert_eq!(body["HostConfig"]["NetworkMode"], "mine");
        let endpoint = json!({"Links": ["db:database"], "Aliases": ["web"]});
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["mine"], endpoint);
        let default = RunOptions { links: texts(&["db"]), ..RunOptions::default() };
        assert_eq!(api(&default)["HostConfig"]["Links"], json!(["db"]));
    }

    #[test]
    fn a_seccomp_profile_is_sent_as_it_was_read() {
        let run = RunOptions {
            security_opt: texts(&[r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#]),
            ..RunOptions::default()
        };
        assert_eq!(api(&run)["HostConfig"]["SecurityOpt"], json!(["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]));
    }
}
