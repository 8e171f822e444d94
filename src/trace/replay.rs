//! Replay: how a recording was run and asked, as far as the same can be run and asked again. It holds no secret,
//! no value of the environment, and nothing that would run on the machine of whoever takes the file.

use serde::{Deserialize, Serialize};

use crate::engine::RunOptions;
use crate::engine::options::mounts;
use crate::probe::Readiness;

/// How to run and ask an image as it was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replay {
    /// `--entrypoint`; `None`: the image's.
    pub entrypoint: Option<Vec<String>>,
    /// The command; `None`: the image's.
    pub cmd: Option<Vec<String>>,
    /// `--user`; `None`: the image's.
    pub user: Option<String>,
    /// `--workdir`; `None`: the image's.
    pub workdir: Option<String>,
    /// What the run was given besides, see [`given`].
    pub given: Vec<String>,
    /// What was waited for. `None`: it cannot be asked again, [`Replay::omitted`] says why.
    pub readiness: Option<Readiness>,
    /// At most so long, in milliseconds.
    pub ready_timeout_ms: u64,
    /// What was asked and is not in the file, each with the reason.
    pub omitted: Vec<String>,
}

/// The options of a run that are neither its command nor its user, by name: `env TOKEN`, `mount /data`,
/// `network`. A run that lacks one of them is another run.
pub fn given(options: &RunOptions) -> Vec<String> {
    // Every field, so that a new one is not forgotten.
    let RunOptions {
        env, user: _, group_add, workdir: _, hostname, entrypoint: _, cmd: _, volumes: _, mounts: _, tmpfs: _, network,
        network_aliases, links, dns, add_hosts, shm_size, ulimits, sysctls, devices, gpus, runtime, read_only,
        cap_add, cap_drop, security_opt, init, expose: _, publish: _, labels: _, memory, pid, ipc, platform: _,
    } = options;
    let name = |line: &String| format!("env {}", line.split('=').next().unwrap_or_default());
    let mut found: Vec<String> = env.iter().map(name).collect();
    found.extend(mounts::all(options).into_iter().map(|mount| format!("mount {}", mount.target)));
    let switches = [
        ("hostname", hostname.is_some()),
        ("network", network.is_some() || !network_aliases.is_empty()),
        ("shm-size", shm_size.is_some()),
        ("gpus", gpus.is_some()),
        ("runtime", runtime.is_some()),
        ("read-only", *read_only),
        ("init", *init),
        ("memory", memory.is_some()),
        ("pid", pid.is_some()),
        ("ipc", ipc.is_some()),
    ];
    found.extend(switches.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()));
    let lists = [
        ("group-add", group_add),
        ("link", links),
        ("dns", dns),
        ("add-host", add_hosts),
        ("ulimit", ulimits),
        ("sysctl", sysctls),
        ("device", devices),
        ("cap-add", cap_add),
        ("cap-drop", cap_drop),
        ("security-opt", security_opt),
    ];
    found.extend(lists.iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| (*name).to_owned()));
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_was_given_is_named_without_values() {
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let options = RunOptions {
            env: text(&["TOKEN=hunter2", "A=b"]),
            volumes: text(&["/here:/data:ro", "/only"]),
            mounts: text(&["type=bind,src=/x,dst=/y"]),
            tmpfs: text(&["/tmp:size=1m"]),
            cmd: Some(text(&["other"])),
            read_only: true,
            ..RunOptions::default()
        };
        let named = ["env A", "env TOKEN", "mount /data", "mount /only", "mount /tmp", "mount /y", "read-only"];
        assert_eq!(given(&options), named);
        assert!(given(&RunOptions::default()).is_empty());
    }
}
