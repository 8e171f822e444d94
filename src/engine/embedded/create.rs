//! Create: from what is asked of the engine to the plan of a container.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::container::EmbeddedContainer;
use super::plan::{Network, Plan, Process};
use super::spec::{self, Parts};
use super::program::program;
use super::{EmbeddedEngine, files, profile, survey};
use crate::engine::error::EngineError;
use crate::engine::options::mounts::{self, MountKind, MountText, Volume};
use crate::engine::options::{self, limits};
use crate::engine::{ContainerSpec, EngineInfo, RunOptions};
use crate::image::ImageConfig;

/// PATH of an image that sets none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Creates a container.
pub(super) async fn create(engine: &EmbeddedEngine, spec: &ContainerSpec) -> Result<EmbeddedContainer> {
    let run = &spec.options;
    options::check(run).map_err(EngineError::Refused)?;
    offered(run, &engine.info).map_err(EngineError::Refused)?;
    let id = engine.existing(&spec.image)?;
    let config = super::parse(&engine.images.config(&id)?)?;
    let name = engine.name(&spec.purpose);
    let dir = engine.dir.join(&name);
    std::fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
    let hostname = run.hostname.clone().unwrap_or_else(|| match run.network.as_deref() {
        Some("host") => nix::unistd::gethostname().map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned()),
        _ => engine.run.clone(),
    });
    files::write(&dir, run, &hostname)?;
    let network = network(engine, run)?;
    if engine.maps.is_none() {
        survey::capabilities(&network)?;
    }
    let caps = spec::capabilities(run, engine.maps.is_some())?;
    let workdir = run.workdir.clone().unwrap_or_else(|| config.workdir().to_owned());
    let workdir = if workdir.is_empty() { "/".to_owned() } else { workdir };
    let storage = storage(engine, spec, &config, &dir)?;
    let parts = Parts {
        name: &name,
        hostname: &hostname,
        dir: &dir,
        caps: &caps,
        workdir: &workdir,
        network: &network,
        mounts: storage.mounts,
        few_ids: engine.maps.as_ref().is_some_and(|maps| !maps.by_helpers),
        rootless: engine.maps.is_some(),
    };
    let plan = Plan {
        layers: engine.images.layers(&id)?,
        spec: spec::spec(run, parts)?,
        process: process(&config, run, &hostname, caps)?,
        dirs: vec![workdir],
        volumes: storage.own,
        filled: storage.filled,
        shared: storage.shared,
        network,
        user_namespace: engine.maps.clone(),
        limited: run.memory.is_some(),
        name,
    };
    let stop_signal = super::signal_number(config.stop_signal())?;
    let program = program()?;
    let ways = (spec.stdin, stop_signal);
    let created = EmbeddedContainer::create(&program, dir, plan, ways, engine.monitor.clone()).await?;
    engine.made().containers.push(created.held());
    Ok(created)
}

fn runs(engine: &EngineInfo, platform: &str) -> bool {
    let mut words = platform.split('/');
    engine.runs(words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// What no engine without a daemon of its own can do.
fn offered(run: &RunOptions, engine: &EngineInfo) -> Result<(), String> {
    let user_defined = run.network.as_deref().and_then(|text| limits::network(text).ok()).filter(limits::Network::is_user_defined);
    let missing = [
        (run.links.first(), "--link"),
        (run.gpus.as_ref(), "--gpus"),
        (run.runtime.as_ref(), "--runtime"),
        (run.network_aliases.first(), "--network-alias"),
        (user_defined.as_ref().map(|network| &network.mode), "--network"),
        (run.publish.first().filter(|_| run.network.as_deref() != Some("host")), "--publish-port"),
    ];
    if let Some((text, flag)) = missing.into_iter().find_map(|(value, flag)| Some((value?, flag))) {
        return Err(format!("{flag} {text}: the embedded engine does not offer this; use --engine docker, or --network host"));
    }
    if run.init {
        return Err("--init: the embedded engine has no init to put before the program; use --engine docker".into());
    }
    if let Some(platform) = run.platform.as_deref().filter(|platform| !runs(engine, platform)) {
        return Err(format!("--platform {platform}: the embedded engine runs linux/{} only", engine.arch));
    }
    for (flag, mode) in [("--pid", &run.pid), ("--ipc", &run.ipc)] {
        if let Some(mode) = mode.as_deref().filter(|mode| !matches!(*mode, "" | "host" | "private" | "shareable" | "none")) {
            return Err(format!("{flag} {mode}: the embedded engine knows host and private"));
        }
    }
    let unknown = run.security_opt.iter().find(|option| {
        !option.starts_with("no-new-privileges")
            && !matches!(option.as_str(), "seccomp=unconfined" | "seccomp=builtin" | "systempaths=unconfined" | "apparmor=unconfined" | "label=disable")
    });
    match unknown {
        Some(option) => Err(format!("--security-opt {option}: the embedded engine does not offer this; use --engine docker")),
        None => Ok(()),
    }
}

fn network(engine: &EmbeddedEngine, run: &RunOptions) -> Result<Network> {
    match run.network.as_deref() {
        Some("host") => Ok(Network::Host),
        Some(mode) if mode.starts_with("container:") => {
            let name = mode.trim_start_matches("container:");
            let made = engine.made();
            let held = made.containers.iter().find(|held| held.name == name);
            let held = held.ok_or_else(|| EngineError::NotFound(format!("the engine runs no container {name}")))?;
            match (&held.network, &engine.maps) {
                (Network::Host, _) => Ok(Network::Host),
                (_, None) => Ok(Network::Of(held.pid)),
                (_, Some(_)) => {
                    let text = "--network container: needs root with the embedded engine: each container of an ordinary user has a user namespace of its own";
                    Err(EngineError::Refused(text.into()).into())
                }
            }
        }
        _ => Ok(Network::Own),
    }
}

fn process(config: &ImageConfig, run: &RunOptions, hostname: &str, capabilities: Vec<u32>) -> Result<Process> {
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    for line in options::env_of(config, run) {
        let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
        match env.iter_mut().find(|old| name(old) == name(&line)) {
            Some(old) => *old = line,
            None => env.push(line),
        }
    }
    let unconfined = run.security_opt.iter().any(|option| option == "seccomp=unconfined");
    let filter = if unconfined { Vec::new() } else { profile::filter(&capabilities) };
    let filter = filter.into_iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect();
    Ok(Process {
        argv: options::argv_of(config, run)?,
        // A bare name takes the variable away.
        env: env.into_iter().filter(|line| line.contains('=')).collect(),
        user: run.user.clone().unwrap_or_else(|| config.user().to_owned()),
        groups: run.group_add.clone(),
        capabilities,
        filter,
    })
}

/// Volumes and binds.
#[derive(Default)]
struct Storage {
    mounts: Vec<Value>,
    /// VOLUMEs without a name.
    own: Vec<String>,
    filled: Vec<(String, PathBuf)>,
    shared: Vec<(String, PathBuf)>,
}

impl Storage {
    fn bind(&mut self, source: &Path, target: &str, read_only: bool, more: &[&str]) -> Result<()> {
        let options = [&["rbind", if read_only { "ro" } else { "rw" }], more].concat();
        self.mounts.push(spec::bind(source, target, &options)?);
        self.shared.push((target.to_owned(), source.to_owned()));
        Ok(())
    }

    /// A mount of its own that shows what the image has there, and takes what is written.
    fn anonymous(&mut self, dir: &Path, target: &str) -> Result<()> {
        let source = dir.join("rootfs").join(target.trim_start_matches('/'));
        self.mounts.push(spec::bind(&source, target, &["rbind", "rw"])?);
        self.own.push(target.to_owned());
        Ok(())
    }
}

fn storage(engine: &EmbeddedEngine, spec: &ContainerSpec, config: &ImageConfig, dir: &Path) -> Result<Storage> {
    let run = &spec.options;
    let mut storage = Storage::default();
    let short = run.volumes.iter().map(|text| mounts::volume(text).map(MountText::Short));
    let long = run.mounts.iter().map(|text| mounts::mount(text));
    let mut targets: Vec<String> = run.tmpfs.iter().filter_map(|text| Some(mounts::tmpfs(text).ok()?.0)).collect();
    for text in short.chain(long) {
        targets.push(one(engine, &mut storage, dir, text.map_err(EngineError::Refused)?)?);
    }
    for target in config.volumes() {
        if !targets.contains(&target) {
            storage.anonymous(dir, &target)?;
        }
    }
    if let Some((volume, path)) = &spec.volume {
        storage.bind(&engine.volume_dir(volume), path, false, &[])?;
    }
    Ok(storage)
}

/// Adds one mount; gives where it is.
fn one(engine: &EmbeddedEngine, storage: &mut Storage, dir: &Path, text: MountText) -> Result<String> {
    match text {
        MountText::Short(Volume::Anonymous(target)) => {
            storage.anonymous(dir, &target)?;
            Ok(target)
        }
        MountText::Short(Volume::Bind { source, target, options }) => {
            let has = |option: &str| options.split(',').any(|one| one == option);
            let propagation = ["shared", "rshared", "slave", "rslave", "private"].into_iter().find(|one| has(one));
            let source = match source.starts_with(['/', '.']) {
                true => here(&source, true)?,
                false => named(engine, storage, &source, &target, !has("nocopy"))?,
            };
            storage.bind(&source, &target, has("ro"), &[propagation.unwrap_or("rprivate")])?;
            Ok(target)
        }
        MountText::Keys(mount) => {
            match mount.kind {
                MountKind::Bind => {
                    let propagation = mount.propagation.as_deref().unwrap_or("rprivate");
                    storage.bind(&here(&mount.source, false)?, &mount.target, mount.read_only, &[propagation])?;
                }
                MountKind::Volume if mount.driver.is_some() || mount.subpath.is_some() || !mount.driver_options.is_empty() => {
                    let text = format!("--mount {}: the embedded engine has no volume drivers", mount.target);
                    return Err(EngineError::Refused(text).into());
                }
                MountKind::Volume if mount.source.is_empty() => storage.anonymous(dir, &mount.target)?,
                MountKind::Volume => {
                    let source = named(engine, storage, &mount.source, &mount.target, !mount.no_copy)?;
                    storage.bind(&source, &mount.target, mount.read_only, &[])?;
                }
                MountKind::Tmpfs => {
                    let size = mount.tmpfs_size.map(|size| format!("size={size}"));
                    let mode = mount.tmpfs_mode.map(|mode| format!("mode={mode:o}"));
                    let options: Vec<String> =
                        ["nosuid", "nodev", "noexec"].map(str::to_owned).into_iter().chain(size).chain(mode).collect();
                    storage.mounts.push(serde_json::json!({
                        "destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options,
                    }));
                }
            }
            Ok(mount.target)
        }
    }
}

/// A path of this machine. What `-v` names and does not exist becomes a directory, as with Docker.
fn here(source: &str, make: bool) -> Result<PathBuf> {
    let path = std::path::absolute(source).with_context(|| format!("find {source}"))?;
    if make && !path.exists() {
        std::fs::create_dir_all(&path).with_context(|| format!("make {source}"))?;
    }
    path.canonicalize().map_err(|error| EngineError::Refused(format!("the mount {source}: {error}")).into())
}

fn named(engine: &EmbeddedEngine, storage: &mut Storage, name: &str, target: &str, fill: bool) -> Result<PathBuf> {
    let dir = engine.make_volume(name)?;
    if fill {
        storage.filled.push((target.to_owned(), dir.clone()));
    }
    Ok(dir)
}
