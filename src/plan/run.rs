//! Run: how the target runs, from Docker's own spellings. Texts stay texts; what Docker would refuse after
//! the image was pulled is refused here.

use std::net::IpAddr;
use std::path::Path;

use super::{Here, files, value};
use crate::cli::UsageError;
use crate::cli::run::RunArgs;
use crate::engine::RunOptions;
use crate::engine::options::mounts;
use crate::store::manifest::Platform;

/// Options of a bind mount or volume after its second colon.
const VOLUME_OPTIONS: &[&str] = &[
    "ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent", "private", "rprivate", "shared", "rshared",
    "slave", "rslave",
];

/// Keys of `--mount`.
const MOUNT_KEYS: &[&str] = &[
    "type", "source", "src", "target", "dst", "destination", "readonly", "ro", "rw", "bind-propagation",
    "bind-nonrecursive", "bind-recursive", "consistency", "volume-nocopy", "volume-driver", "volume-label",
    "volume-opt", "volume-subpath", "tmpfs-size", "tmpfs-mode",
];

/// How the target runs. `args` are those after `--`.
///
/// # Errors
/// When a value cannot be understood.
pub(super) fn options(run: &RunArgs, args: &[String], here: Here<'_>) -> Result<RunOptions, UsageError> {
    let (volumes, mounts) = storage(run, here)?;
    check_texts(run, here)?;
    let size = |flag: &str, text: &Option<String>| {
        text.as_ref().map(|text| value::size(text).map_err(|why| here.wrong(flag, why))).transpose()
    };
    Ok(RunOptions {
        env: env(run, here)?,
        user: run.user.clone(),
        group_add: run.group_add.clone(),
        workdir: run.workdir.clone(),
        hostname: run.hostname.clone(),
        entrypoint: command("entrypoint", run.entrypoint.as_ref(), here)?,
        cmd: cmd(run, args, here)?,
        volumes,
        mounts,
        tmpfs: run.tmpfs.clone(),
        network: run.network.clone(),
        network_aliases: run.network_alias.clone(),
        links: run.link.clone(),
        dns: run.dns.clone(),
        add_hosts: run.add_host.clone(),
        shm_size: size("shm-size", &run.shm_size)?,
        ulimits: run.ulimit.clone(),
        sysctls: run.sysctl.clone(),
        devices: run.device.clone(),
        gpus: run.gpus.clone(),
        runtime: run.runtime.clone(),
        read_only: run.read_only.unwrap_or(false),
        cap_add: capabilities("cap-add", &run.cap_add, here)?,
        cap_drop: capabilities("cap-drop", &run.cap_drop, here)?,
        security_opt: security(&run.security_opt, here)?,
        init: run.init.unwrap_or(false),
        expose: expose(&run.expose, here)?,
        publish: publish(&run.publish, here)?,
        labels: run.label.clone(),
        memory: size("memory", &run.memory)?,
        pid: run.pid.clone(),
        ipc: run.ipc.clone(),
        platform: match run.platform.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        },
    })
}

fn env(run: &RunArgs, here: Here<'_>) -> Result<Vec<String>, UsageError> {
    let mut env = Vec::new();
    for path in &run.env_file {
        env.extend(files::env(path, here.vars).map_err(|error| here.wrong("env-file", error))?);
    }
    for line in &run.env {
        let name = line.split('=').next().unwrap_or_default();
        value::variable_name(name).map_err(|why| here.wrong("env", why))?;
        env.extend(files::variable(line, here.vars));
    }
    Ok(env)
}

/// An empty text takes the image's away.
fn command(flag: &str, text: Option<&String>, here: Here<'_>) -> Result<Option<Vec<String>>, UsageError> {
    text.map(|text| value::argv(text).map_err(|why| here.wrong(flag, why))).transpose()
}

fn cmd(run: &RunArgs, args: &[String], here: Here<'_>) -> Result<Option<Vec<String>>, UsageError> {
    match (&run.cmd, args.is_empty()) {
        (Some(_), false) => {
            let hint = "leave one of them out";
            Err(here.wrong("cmd", "arguments after -- are the command too").hint(hint))
        }
        (Some(_), true) => command("cmd", run.cmd.as_ref(), here),
        (None, false) => Ok(Some(args.to_vec())),
        (None, true) => Ok(None),
    }
}

/// A path in the container.
pub(super) fn absolute(dir: &str) -> Result<(), String> {
    match dir.starts_with('/') {
        true => Ok(()),
        false => Err(format!("{dir:?} does not begin with /")),
    }
}

/// (`--volume` and the short form of `--mount`, the long form of `--mount`).
fn storage(run: &RunArgs, here: Here<'_>) -> Result<(Vec<String>, Vec<String>), UsageError> {
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    for text in &run.volume {
        volumes.push(volume(text).map_err(|why| here.wrong("volume", why))?);
    }
    for text in &run.mount {
        let long = text.split([',', ':']).next().is_some_and(|first| first.contains('='));
        let short = || match text.contains(':') {
            true => volume(text),
            false => Err(format!("{text:?} has no target; write SRC:DST[:ro] or type=bind,src=...,dst=...")),
        };
        match long {
            true => mounts.push(mount(text).map_err(|why| here.wrong("mount", why))?),
            false => volumes.push(short().map_err(|why| here.wrong("mount", why))?),
        }
    }
    Ok((volumes, mounts))
}

/// `[SRC:]DST[:OPTIONS]`; a source with a slash in it is a path of this machine, made absolute.
fn volume(text: &str) -> Result<String, String> {
    let wrong = |why: &str| format!("{why} in {text:?}; write [SRC:]DST[:OPTIONS]");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => return absolute(target).map(|()| text.to_owned()),
        [source, target] => (source, target, None),
        [source, target, options] => (source, target, Some(options)),
        _ => return Err(wrong("there are too many colons")),
    };
    if source.is_empty() {
        return Err(wrong("the source is empty"));
    }
    if !target.starts_with('/') {
        return Err(wrong("the target does not begin with /"));
    }
    let known = |option: &str| VOLUME_OPTIONS.contains(&option);
    if let Some(option) = options.into_iter().flat_map(|list| list.split(',')).find(|option| !known(option)) {
        return Err(wrong(&format!("there is no option {option:?}")));
    }
    let source = here_path(source).map_err(|why| wrong(&why))?;
    let options = options.map(|options| format!(":{options}")).unwrap_or_default();
    Ok(format!("{source}:{target}{options}"))
}

/// A path of this machine made absolute; the name of a volume as it is.
fn here_path(source: &str) -> Result<String, String> {
    if !source.contains('/') && source != "." && source != ".." {
        let name = source.starts_with(|c: char| c.is_ascii_alphanumeric());
        return match name && source.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
            true => Ok(source.to_owned()),
            false => Err(format!("{source:?} is no name of a volume")),
        };
    }
    let full = absolute_here(source)?;
    match full.contains(':') {
        true => Err(format!("{full:?} has a colon, which this spelling cannot express; use --mount type=bind,...")),
        false => Ok(full),
    }
}

fn absolute_here(source: &str) -> Result<String, String> {
    let full = std::path::absolute(source).map_err(|error| error.to_string())?;
    let full = if Path::new(source).exists() { full.canonicalize().unwrap_or(full) } else { full };
    Ok(full.to_str().ok_or("the path is not UTF-8")?.to_owned())
}

/// `type=bind,src=...,dst=...`: keys checked, the source of a bind made absolute.
fn mount(text: &str) -> Result<String, String> {
    let mut pairs: Vec<(&str, Option<String>)> = Vec::new();
    let fields = mounts::csv(text)?;
    for part in &fields {
        let (key, value) =
            part.split_once('=').map_or((part.as_str(), None), |(key, value)| (key, Some(value.to_owned())));
        if !MOUNT_KEYS.contains(&key) {
            return Err(format!("there is no key {key:?} in {text:?}; known are {}", MOUNT_KEYS.join(", ")));
        }
        pairs.push((key, value));
    }
    let get = |names: &[&str]| {
        let found = pairs.iter().find(|(key, _)| names.contains(key));
        found.and_then(|(_, value)| value.clone()).unwrap_or_default()
    };
    let kind = get(&["type"]);
    if !["", "bind", "volume", "tmpfs"].contains(&kind.as_str()) {
        return Err(format!("type {kind:?} is none of bind, volume, tmpfs"));
    }
    absolute(&get(&["target", "dst", "destination"])).map_err(|_| format!("no absolute dst in {text:?}"))?;
    let source = get(&["source", "src"]);
    if kind == "bind" {
        if source.is_empty() {
            return Err(format!("no src in {text:?}"));
        }
        let full = absolute_here(&source)?;
        for (key, value) in &mut pairs {
            if ["source", "src"].contains(key) {
                *value = Some(full.clone());
            }
        }
    }
    let join = |(key, value): &(&str, Option<String>)| match value {
        Some(value) => quoted(format!("{key}={value}")),
        None => (*key).to_owned(),
    };
    let text = pairs.iter().map(join).collect::<Vec<_>>().join(",");
    mounts::mount(&text).map(|_| text)
}

/// A field of comma-separated values.
fn quoted(field: String) -> String {
    match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

/// Values that go to the engine as they are, when their form is right.
fn check_texts(run: &RunArgs, here: Here<'_>) -> Result<(), UsageError> {
    type Check = fn(&str) -> Result<(), String>;
    let one = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
    let table: [(&str, Vec<String>, Check); 12] = [
        ("user", one(&run.user), nonempty),
        ("group-add", run.group_add.clone(), nonempty),
        ("workdir", one(&run.workdir), absolute),
        ("hostname", one(&run.hostname), nonempty),
        ("network", one(&run.network), nonempty),
        ("tmpfs", run.tmpfs.clone(), absolute),
        ("dns", run.dns.clone(), address),
        ("add-host", run.add_host.clone(), host),
        ("ulimit", run.ulimit.clone(), ulimit),
        ("sysctl", run.sysctl.clone(), pair),
        ("label", run.label.clone(), |text| value::variable_name(text.split('=').next().unwrap_or_default())),
        ("platform", run.platform.clone(), platform),
    ];
    for (flag, texts, check) in table {
        for text in texts {
            check(&text).map_err(|why| here.wrong(flag, why))?;
        }
    }
    Ok(())
}

fn nonempty(text: &str) -> Result<(), String> {
    match text.trim().is_empty() {
        true => Err("it is empty".into()),
        false => Ok(()),
    }
}

fn address(text: &str) -> Result<(), String> {
    text.parse::<IpAddr>().map(|_| ()).map_err(|_| format!("{text:?} is no IP address"))
}

fn host(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is no line of /etc/hosts; write NAME:ADDRESS");
    let (name, ip) = text.split_once([':', '=']).ok_or_else(wrong)?;
    let bare = ip.trim_start_matches('[').trim_end_matches(']');
    match !name.is_empty() && (bare == "host-gateway" || bare.parse::<IpAddr>().is_ok()) {
        true => Ok(()),
        false => Err(wrong()),
    }
}

fn ulimit(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is no limit; write NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let mut numbers = limits.splitn(2, ':').map(str::parse::<i64>);
    match !name.is_empty() && numbers.all(|number| number.is_ok_and(|number| number >= -1)) {
        true => Ok(()),
        false => Err(wrong()),
    }
}

fn pair(text: &str) -> Result<(), String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(()),
        _ => Err(format!("{text:?} has no value; write NAME=VALUE")),
    }
}

fn platform(text: &str) -> Result<(), String> {
    Platform::parse(text).map(drop).map_err(|error| error.to_string())
}

fn capabilities(flag: &str, given: &[String], here: Here<'_>) -> Result<Vec<String>, UsageError> {
    for cap in given {
        if cap.is_empty() || !cap.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(here.wrong(flag, format!("{cap:?} is no capability")).hint("write NET_ADMIN or ALL"));
        }
    }
    Ok(given.to_vec())
}

/// The engine wants the profile itself, so a seccomp file is read here, as docker does.
fn security(given: &[String], here: Here<'_>) -> Result<Vec<String>, UsageError> {
    let one = |text: &String| {
        let Some(("seccomp", name)) = text.split_once(['=', ':']) else { return Ok(text.clone()) };
        if name == "unconfined" || name == "builtin" {
            return Ok(text.clone());
        }
        let path = Path::new(name);
        let profile = files::text(path).map_err(|error| here.wrong("security-opt", error))?;
        let profile: serde_json::Value = serde_json::from_str(&profile).map_err(|error| {
            let place = format!("{name}:{}:{}", error.line(), error.column());
            here.wrong("security-opt", format!("{place}: the seccomp profile is not JSON"))
        })?;
        Ok(format!("seccomp={profile}"))
    };
    given.iter().map(one).collect()
}

fn expose(given: &[String], here: Here<'_>) -> Result<Vec<String>, UsageError> {
    let lists = given.iter().map(|text| value::exposed(text).map_err(|why| here.wrong("expose", why)));
    Ok(lists.collect::<Result<Vec<_>, _>>()?.concat())
}

/// `[[IP:]HOST:]PORT[/PROTO]`, ports may be ranges, IPv6 addresses stand in brackets.
fn publish(given: &[String], here: Here<'_>) -> Result<Vec<String>, UsageError> {
    for text in given {
        published(text).map_err(|why| here.wrong("publish", why))?;
    }
    Ok(given.to_vec())
}

fn published(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is no published port; write [[IP:]HOST:]PORT[/PROTO]");
    let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
    value::exposed(container)?;
    if rest.is_empty() {
        return Ok(());
    }
    let (ip, host) = match rest.rsplit_once(':') {
        Some((ip, host)) => (Some(ip.trim_start_matches('[').trim_end_matches(']')), host),
        None => (None, rest),
    };
    if ip.is_some_and(|ip| ip.parse::<IpAddr>().is_err()) {
        return Err(wrong());
    }
    if !host.is_empty() {
        value::exposed(host).map_err(|_| wrong())?;
    }
    Ok(())
}
