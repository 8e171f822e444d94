//! Orphans: what a run left in the engine because it was killed, or because the engine was gone when it wanted to
//! clean up. A later run removes it.
//!
//! Everything of a run carries the label [`OWNER_LABEL`]: which process it belongs to. Only a process of the same
//! kernel and the same PID namespace can be asked after, so what other machines and containers left is theirs to
//! remove, also where they share a remote engine with us.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use bollard::query_parameters::{ListContainersOptions, ListVolumesOptions};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{Core, RUN_LABEL, failed};

/// Label that says which process the things of a run belong to.
pub const OWNER_LABEL: &str = "slim.owner";

/// A process, told apart from every other on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Drawn by the kernel at each boot (random(4)).
    boot: String,
    /// Inode of the PID namespace (namespaces(7)).
    namespace: String,
    pid: i32,
    /// Clock ticks between the boot and its start (proc_pid_stat(5), field 22).
    started: u64,
}

impl Owner {
    /// This process; `None` where /proc does not say, or is of another PID namespace.
    pub(super) fn here() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        let own = std::fs::read_link("/proc/self").ok()?;
        if own.to_str()? != pid.to_string() {
            return None;
        }
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
        let namespace = link.to_str()?.chars().filter(char::is_ascii_digit).collect();
        Some(Self { boot, namespace, pid, started: started(pid)? })
    }

    /// Reads a label.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (boot, namespace) = (next()?.to_owned(), next()?.to_owned());
        let (pid, started) = (next()?.parse().ok().filter(|pid| *pid > 0)?, next()?.parse().ok()?);
        Some(Self { boot, namespace, pid, started })
    }

    /// Whether it has certainly ended. What cannot be asked after has not.
    fn is_gone(&self, here: &Self) -> bool {
        if (&self.boot, &self.namespace) != (&here.boot, &here.namespace) {
            return false;
        }
        match kill(Pid::from_raw(self.pid), None) {
            Err(Errno::ESRCH) => true,
            // Another process may have its number by now.
            Ok(()) | Err(_) => started(self.pid).is_some_and(|started| started != self.started),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.boot, self.namespace, self.pid, self.started)
    }
}

/// When a process started; `None` when it cannot be seen.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may hold anything, spaces and parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// Removes containers, volumes and images of runs whose process has ended. Another run may do the same at the same
/// time: what cannot be removed is not our business.
pub(super) async fn sweep(core: &Arc<Core>) -> Result<()> {
    let Some(here) = Owner::here() else { return Ok(()) };
    let filters = || Some(HashMap::from([("label".to_owned(), vec![OWNER_LABEL.to_owned()])]));
    let dead = |labels: &HashMap<String, String>| {
        let owner = labels.get(OWNER_LABEL).and_then(|text| Owner::parse(text))?;
        let run = labels.get(RUN_LABEL).filter(|run| **run != core.run)?;
        owner.is_gone(&here).then(|| run.clone())
    };
    let mut runs = BTreeSet::new();
    let containers = ListContainersOptions { all: true, filters: filters(), ..ListContainersOptions::default() };
    let volumes = ListVolumesOptions { filters: filters() };
    let containers = core.api.list_containers(Some(containers)).await.map_err(failed("list the containers"))?;
    let volumes = core.api.list_volumes(Some(volumes)).await.map_err(failed("list the volumes"))?;
    for container in containers {
        if let (Some(id), Some(run)) = (container.id, container.labels.as_ref().and_then(dead)) {
            runs.insert(run);
            let _theirs_as_well = core.remove_container(&id).await;
        }
    }
    for volume in volumes.volumes.unwrap_or_default() {
        if let Some(run) = dead(&volume.labels) {
            runs.insert(run);
            let _theirs_as_well = core.remove_volume(&volume.name).await;
        }
    }
    if runs.is_empty() {
        return Ok(());
    }
    let tags = core.image_ids().await?.into_iter().flat_map(|(_, tags)| tags);
    for tag in tags {
        let run = tag.strip_prefix("slim-").and_then(|rest| rest.split(':').next());
        if run.is_some_and(|run| runs.contains(run)) {
            let _theirs_as_well = core.untag(&tag).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_was_here_and_has_ended_is_gone() {
        let here = Owner::here().unwrap();
        assert_eq!(Owner::parse(&here.to_string()).as_ref(), Some(&here));
        assert!(!here.is_gone(&here));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let other = Owner { pid, started: started(pid).unwrap(), ..here.clone() };
        assert!(!other.is_gone(&here), "it runs");
        let before = Owner { started: other.started - 1, ..other.clone() };
        assert!(before.is_gone(&here), "its number is another process's now");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.is_gone(&here));
        for elsewhere in [
            Owner { boot: "another machine, or before its boot".into(), ..other.clone() },
            Owner { namespace: "1".into(), ..other.clone() },
        ] {
            assert!(!elsewhere.is_gone(&here), "{elsewhere}");
        }
        for text in ["", "a/b", "a/b/x/1", "a/b/0/1", "a/b/-5/1", "//1/1"] {
            assert_eq!(Owner::parse(text), None, "{text}");
        }
    }
}
