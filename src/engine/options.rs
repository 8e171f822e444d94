//! Run options: how a container runs, in Docker's own terms. They never change the image.

pub mod limits;
pub mod mounts;
pub mod ports;

pub use limits::bytes;

use anyhow::{Result, bail};

use crate::image::ImageConfig;

/// `docker run`'s settings. Text fields are in Docker's own spelling and are checked by the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// `--env`: `NAME=value`, resolved (a bare NAME was filled from our environment).
    pub env: Vec<String>,
    /// `--user`; `None`: the image's.
    pub user: Option<String>,
    /// `--group-add`.
    pub group_add: Vec<String>,
    /// `--workdir`; `None`: the image's.
    pub workdir: Option<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--entrypoint`; `None`: the image's; empty: none.
    pub entrypoint: Option<Vec<String>>,
    /// Command; `None`: the image's.
    pub cmd: Option<Vec<String>>,
    /// Bind mounts and volumes, in the spelling of `-v`: `src:dst[:ro]`, `name:dst`, `dst`.
    pub volumes: Vec<String>,
    /// `--mount` in its key=value spelling.
    pub mounts: Vec<String>,
    /// `--tmpfs` PATH[:options].
    pub tmpfs: Vec<String>,
    /// `--network`.
    pub network: Option<String>,
    /// `--network-alias`.
    pub network_aliases: Vec<String>,
    /// `--link`.
    pub links: Vec<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--add-host` name:address.
    pub add_hosts: Vec<String>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit` name=soft[:hard].
    pub ulimits: Vec<String>,
    /// `--sysctl` name=value.
    pub sysctls: Vec<String>,
    /// `--device` src[:dst[:perms]].
    pub devices: Vec<String>,
    /// `--gpus`.
    pub gpus: Option<String>,
    /// `--runtime`.
    pub runtime: Option<String>,
    /// `--read-only`.
    pub read_only: bool,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security_opt: Vec<String>,
    /// `--init`.
    pub init: bool,
    /// `--expose` port[/proto].
    pub expose: Vec<String>,
    /// `--publish` / `--publish-port` in Docker's spelling.
    pub publish: Vec<String>,
    /// `--label` name=value, on the container.
    pub labels: Vec<String>,
    /// `--memory` in bytes.
    pub memory: Option<u64>,
    /// `--pid`, `--ipc`, `--userns` modes.
    pub pid: Option<String>,
    /// `--ipc`.
    pub ipc: Option<String>,
    /// `--platform` os/arch[/variant].
    pub platform: Option<String>,
}

/// Finds the first option whose spelling no engine would take, before anything runs.
///
/// # Errors
/// One line: the flag, its text, what is wrong with it.
pub fn check(run: &RunOptions) -> std::result::Result<(), String> {
    each("--volume", &run.volumes, mounts::volume)?;
    each("--mount", &run.mounts, mounts::mount)?;
    each("--tmpfs", &run.tmpfs, mounts::tmpfs)?;
    each("--expose", &run.expose, ports::expose)?;
    each("--publish-port", &run.publish, ports::publish)?;
    each("--ulimit", &run.ulimits, limits::ulimit)?;
    each("--sysctl", &run.sysctls, limits::pair)?;
    each("--device", &run.devices, limits::device)?;
    each("--gpus", run.gpus.as_slice(), limits::gpus)?;
    each("--add-host", &run.add_hosts, limits::add_host)?;
    each("--network", run.network.as_slice(), limits::network)?;
    each("--security-opt", &run.security_opt, limits::security)?;
    each("--dns", &run.dns, |text| text.parse::<std::net::IpAddr>().map_err(|_| "an address is meant".to_owned()))?;
    if run.env.iter().any(|text| text.is_empty() || text.starts_with('=')) {
        // Its text is not shown: what stands behind the = may be a secret.
        return Err("--env: a variable has no name; NAME=VALUE is meant".into());
    }
    each("--workdir", run.workdir.as_slice(), |text| match text.starts_with('/') {
        true => Ok(()),
        false => Err("it does not begin with /".to_owned()),
    })?;
    each("--link", &run.links, |text| match text.split(':').all(|part| !part.is_empty()) {
        true => Ok(()),
        false => Err("NAME[:ALIAS] is meant".to_owned()),
    })?;
    each("--cap-add", &run.cap_add, capability)?;
    each("--cap-drop", &run.cap_drop, capability)?;
    check_network(run)
}

/// The command line that runs: Docker's rule for entrypoint and command. An entrypoint of the run takes the
/// image's command away.
///
/// # Errors
/// When there is nothing to run.
pub fn argv_of(config: &ImageConfig, options: &RunOptions) -> Result<Vec<String>> {
    let entrypoint = options.entrypoint.clone().unwrap_or_else(|| config.entrypoint());
    let cmd = match (&options.cmd, &options.entrypoint) {
        (Some(cmd), _) => cmd.clone(),
        (None, Some(_)) => Vec::new(),
        (None, None) => config.cmd(),
    };
    let argv = [entrypoint, cmd].concat();
    if argv.is_empty() {
        bail!("the image has neither ENTRYPOINT nor CMD, so nothing can be run; give a command after `--` or --entrypoint");
    }
    Ok(argv)
}

/// The environment that the target gets, `NAME=value`: the image's, overridden by the run's.
pub fn env_of(config: &ImageConfig, options: &RunOptions) -> Vec<String> {
    let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let mut env = config.env();
    for line in &options.env {
        env.retain(|old| name(old) != name(line));
        env.push(line.clone());
    }
    env
}

fn each<T>(flag: &str, texts: &[String], parse: impl Fn(&str) -> std::result::Result<T, String>) -> std::result::Result<(), String> {
    let wrong = texts.iter().find_map(|text| Some((text, parse(text).err()?)));
    match wrong {
        Some((text, why)) => Err(format!("{flag} {}: {why}", text.escape_debug())),
        None => Ok(()),
    }
}

fn capability(text: &str) -> std::result::Result<(), String> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
        true => Ok(()),
        false => Err("a capability such as NET_ADMIN, or ALL, is meant".into()),
    }
}

fn check_network(run: &RunOptions) -> std::result::Result<(), String> {
    let network = limits::network(run.network.as_deref().unwrap_or("default"))?;
    if !run.network_aliases.is_empty() && !network.is_user_defined() {
        return Err("--network-alias works in a network of your own only; give one with --network".into());
    }
    let shares = network.mode == "host" || network.mode.starts_with("container:");
    if shares && !run.publish.is_empty() && network.mode != "host" {
        return Err(format!("--publish-port cannot be used with --network {}", network.mode));
    }
    if network.mode.starts_with("container:") && run.hostname.is_some() {
        return Err(format!("--hostname cannot be used with --network {}", network.mode));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn the_first_bad_option_is_named_with_its_flag() {
        let table = [
            (RunOptions { volumes: list("a/b:/c"), ..RunOptions::default() }, "--volume a/b:/c: "),
            (RunOptions { publish: list("x"), ..RunOptions::default() }, "--publish-port x: "),
            (RunOptions { ulimits: list("x=1"), ..RunOptions::default() }, "--ulimit x=1: "),
            (RunOptions { dns: list("here"), ..RunOptions::default() }, "--dns here: an address"),
            (RunOptions { workdir: Some("srv".into()), ..RunOptions::default() }, "--workdir srv: "),
            (RunOptions { cap_add: list("NET-ADMIN"), ..RunOptions::default() }, "--cap-add NET-ADMIN: "),
            (RunOptions { network_aliases: list("a"), ..RunOptions::default() }, "--network-alias works in"),
        ];
        for (run, expected) in table {
            let error = check(&run).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(check(&RunOptions::default()), Ok(()));
    }

    #[test]
    fn an_environment_value_is_never_shown() {
        let error = check(&RunOptions { env: list("=hunter2"), ..RunOptions::default() }).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
