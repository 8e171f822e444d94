//! Spec: a container in the words of the OCI runtime-spec (`config.md`, `config-linux.md`), with Docker's defaults.

use std::path::Path;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::plan::Network;
use crate::engine::options::limits::{self, Device};
use crate::engine::options::mounts;
use crate::engine::{EngineError, RunOptions};

/// What Docker gives (moby, `oci/caps/defaults.go`).
const DEFAULT_CAPS: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
];

/// What the container's process needs besides until it becomes the image's program.
const INIT_CAPS: &[&str] = &["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_SYS_ADMIN"];

/// Hidden by Docker (moby, `oci/defaults.go`).
const MASKED: &[&str] = &[
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
];

/// Not writable in Docker.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Size of /dev/shm.
const SHM: u64 = 64 << 20;

/// Descriptors that a process may have open.
const NOFILE: u64 = 1 << 20;

/// The capabilities that the flags mean, by number. `rootless`: they are those of a user namespace, which has all.
///
/// # Errors
/// When a name is no capability.
pub(super) fn capabilities(run: &RunOptions, rootless: bool) -> Result<Vec<u32>> {
    let number = |name: &str| {
        crate::sys::process::capability(name).ok_or_else(|| refused(format!("{name} is no capability")))
    };
    let all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let named = |list: &[String]| -> Result<Vec<u32>> {
        list.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")).map(|name| number(name)).collect()
    };
    let (added, dropped) = (named(&run.cap_add)?, named(&run.cap_drop)?);
    let every = 0..crate::sys::process::CAPABILITIES.len() as u32;
    let mut caps: Vec<u32> = match (all(&run.cap_add), all(&run.cap_drop)) {
        (true, _) => every.filter(|cap| !dropped.contains(cap)).collect(),
        (false, true) => added,
        (false, false) => {
            let defaults: Vec<u32> = DEFAULT_CAPS.iter().map(|name| number(name)).collect::<Result<_>>()?;
            defaults.into_iter().filter(|cap| !dropped.contains(cap)).chain(added).collect()
        }
    };
    // What this machine does not give to us cannot be passed on.
    let ours = crate::sys::process::bounding_set();
    caps.retain(|cap| rootless || ours & (1 << cap) != 0);
    caps.sort_unstable();
    caps.dedup();
    Ok(caps)
}

fn refused(text: String) -> anyhow::Error {
    EngineError::Refused(text).into()
}

/// What the spec is made of besides the run's options.
pub(super) struct Parts<'a> {
    /// Its name on this machine.
    pub name: &'a str,
    /// Host name.
    pub hostname: &'a str,
    /// Directory with `hosts`, `hostname` and `resolv.conf`.
    pub dir: &'a Path,
    /// Capabilities of the program.
    pub caps: &'a [u32],
    /// Working directory.
    pub workdir: &'a str,
    /// Network.
    pub network: &'a Network,
    /// Mounts of volumes and binds.
    pub mounts: Vec<Value>,
    /// An ordinary user runs it.
    pub rootless: bool,
    /// And has one id to give: there is no group of terminals.
    pub few_ids: bool,
}

/// The spec.
///
/// # Errors
/// When an option makes no sense.
pub(super) fn spec(run: &RunOptions, parts: Parts<'_>) -> Result<Value> {
    let mut init: Vec<&str> = parts.caps.iter().map(|cap| crate::sys::process::CAPABILITIES[*cap as usize]).collect();
    init.extend(INIT_CAPS);
    init.sort_unstable();
    init.dedup();
    let unconfined = run.security_opt.iter().any(|opt| limits::security(opt) == Ok(limits::Security::Unconfined));
    let no_new_privileges = run.security_opt.iter().any(|opt| {
        opt.starts_with("no-new-privileges") && !opt.ends_with("false")
    });
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "uts"})];
    if run.pid.as_deref() != Some("host") {
        namespaces.push(json!({"type": "pid"}));
    }
    if run.ipc.as_deref() != Some("host") {
        namespaces.push(json!({"type": "ipc"}));
    }
    if *parts.network != Network::Host {
        // The shim is in it already.
        namespaces.push(json!({"type": "network", "path": "/proc/self/ns/net"}));
    }
    let mut linux = json!({
        "namespaces": namespaces,
        "maskedPaths": if unconfined { &[] } else { MASKED },
        "readonlyPaths": if unconfined { &[] } else { READ_ONLY },
        "cgroupsPath": format!("/slim/{}", parts.name),
        "resources": resources(run),
        "devices": devices(run)?,
        "rootfsPropagation": "private",
    });
    let sysctls: Vec<(String, String)> =
        run.sysctls.iter().map(|text| limits::pair(text).map_err(refused)).collect::<Result<_>>()?;
    if !sysctls.is_empty() {
        linux["sysctl"] = sysctls.into_iter().map(|(name, value)| (name, Value::from(value))).collect::<serde_json::Map<_, _>>().into();
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/"],
            "env": ["PATH=/"],
            "cwd": parts.workdir,
            "capabilities": {"bounding": init, "effective": init, "permitted": init, "inheritable": [], "ambient": []},
            "rlimits": rlimits(run)?,
            "noNewPrivileges": no_new_privileges,
        },
        "root": {"path": "rootfs", "readonly": run.read_only},
        "hostname": parts.hostname,
        "mounts": mounts_of(run, &parts)?,
        "linux": linux,
    }))
}

fn rlimits(run: &RunOptions) -> Result<Vec<Value>> {
    let mut limits: Vec<Value> = Vec::new();
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    for text in &run.ulimits {
        let limit = limits::ulimit(text).map_err(refused)?;
        let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
        limits.push(json!({"type": name, "soft": value(limit.soft), "hard": value(limit.hard)}));
    }
    if !run.ulimits.iter().any(|text| text.starts_with("nofile=")) {
        let ours = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?.1;
        let resource = crate::sys::process::capability("SYS_RESOURCE").unwrap_or(63);
        let may_raise = crate::sys::process::permitted_set() & (1 << resource) != 0;
        let hard = if may_raise { NOFILE } else { ours.min(NOFILE) };
        limits.push(json!({"type": "RLIMIT_NOFILE", "soft": hard, "hard": hard}));
    }
    Ok(limits)
}

/// Devices as Docker allows them (moby, `oci/defaults.go`), and memory.
fn resources(run: &RunOptions) -> Value {
    let device = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut rule = json!({"allow": true, "type": kind, "access": access});
        for (name, number) in [("major", major), ("minor", minor)] {
            if let Some(number) = number {
                rule[name] = number.into();
            }
        }
        rule
    };
    let mut rules = vec![
        json!({"allow": false, "access": "rwm"}),
        device("c", None, None, "m"),
        device("b", None, None, "m"),
    ];
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(device("c", Some(major), Some(minor), "rwm"));
    }
    rules.push(device("c", Some(136), None, "rwm"));
    for text in &run.devices {
        if let Ok(Device::File { host, permissions, .. }) = limits::device(text)
            && let Some((kind, major, minor)) = numbers(&host)
        {
            rules.push(device(kind, Some(major), Some(minor), &permissions));
        }
    }
    let mut resources = json!({"devices": rules});
    if let Some(limit) = run.memory {
        // As Docker: as much swap again.
        resources["memory"] = json!({"limit": limit, "swap": limit.saturating_mul(2)});
    }
    resources
}

fn numbers(path: &str) -> Option<(&'static str, i64, i64)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let meta = std::fs::metadata(path).ok()?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return None,
    };
    let (major, minor) = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
    Some((kind, major as i64, minor as i64))
}

fn devices(run: &RunOptions) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for text in &run.devices {
        let Device::File { host, container, .. } = limits::device(text).map_err(refused)? else {
            return Err(refused(format!("--device {text}: the embedded engine has no CDI devices; name a file in /dev")));
        };
        let (kind, major, minor) =
            numbers(&host).ok_or_else(|| refused(format!("--device {text}: {host} is no device here")))?;
        found.push(json!({"path": container, "type": kind, "major": major, "minor": minor, "fileMode": 0o660}));
    }
    Ok(found)
}

fn mounts_of(run: &RunOptions, parts: &Parts<'_>) -> Result<Vec<Value>> {
    let mount = |point: &str, kind: &str, options: &[&str]| json!({"destination": point, "type": kind, "source": kind, "options": options});
    let shm = format!("size={}", run.shm_size.unwrap_or(SHM));
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !parts.few_ids {
        pts.push("gid=5");
    }
    let mut all = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &pts),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
    ];
    if parts.rootless && *parts.network == Network::Host {
        // sysfs belongs to a network namespace, and this one is not ours.
        all[3] = json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
    }
    for name in ["resolv.conf", "hostname", "hosts"] {
        let source = parts.dir.join(name);
        all.push(json!({"destination": format!("/etc/{name}"), "type": "bind", "source": source, "options": ["rbind", "rprivate"]}));
    }
    // What is mounted deeper comes later, whatever it is.
    let mut more = parts.mounts.clone();
    for text in &run.tmpfs {
        let (point, options) = mounts::tmpfs(text).map_err(refused)?;
        let own = options.split(',').filter(|option| !option.is_empty());
        let options: Vec<&str> = ["nosuid", "nodev", "noexec"].into_iter().chain(own).collect();
        more.push(mount(&point, "tmpfs", &options));
    }
    more.sort_by_key(|mount| mount["destination"].as_str().unwrap_or_default().matches('/').count());
    // One that covers a mount of the engine's replaces it.
    let covered = |mount: &Value| more.iter().any(|other| other["destination"] == mount["destination"]);
    all.retain(|mount| !covered(mount));
    all.extend(more);
    Ok(all)
}

/// A bind mount.
pub(super) fn bind(source: &Path, target: &str, options: &[&str]) -> Result<Value> {
    let source = source.to_str().ok_or_else(|| anyhow!("the path {} is not UTF-8", source.display()))?;
    Ok(json!({"destination": target, "type": "bind", "source": source, "options": options}))
}
