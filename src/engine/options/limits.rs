//! Limits and devices: the options with a small grammar of their own (`--ulimit`, `--device`, `--gpus`,
//! `--add-host`, `--network`, `--security-opt`, sizes, pairs).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::mounts::csv;

/// `--ulimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile`.
    pub name: String,
    /// -1: unlimited.
    pub soft: i64,
    /// -1: unlimited.
    pub hard: i64,
}

/// Names of setrlimit(2)'s resources as Docker spells them.
const ULIMITS: &[&str] = &[
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
];

/// `NAME=SOFT[:HARD]`.
///
/// # Errors
/// Says which part is wrong.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, values) = text.split_once('=').ok_or("NAME=SOFT[:HARD] is meant")?;
    if !ULIMITS.contains(&name) {
        return Err(format!("{name:?} is no limit: {}", ULIMITS.join(", ")));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Ok(number) if number >= -1 => Ok(number),
        _ => Err(format!("{text:?} is no limit's value: a number, or -1 for none")),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("the soft limit {soft} is above the hard limit {hard}"));
    }
    Ok(Ulimit { name: name.into(), soft, hard })
}

/// `NAME=VALUE` with a name.
///
/// # Errors
/// When there is no `=` or nothing before it.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("NAME=VALUE is meant".into()),
    }
}

/// A size: a number of bytes with an optional b, k, m, g or t.
///
/// # Errors
/// When it is no such size.
pub fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let trimmed = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match trimmed.chars().last() {
        Some('k') => (&trimmed[..trimmed.len() - 1], 10),
        Some('m') => (&trimmed[..trimmed.len() - 1], 20),
        Some('g') => (&trimmed[..trimmed.len() - 1], 30),
        Some('t') => (&trimmed[..trimmed.len() - 1], 40),
        _ => (trimmed, 0),
    };
    let number: Option<u64> = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let size = number.and_then(|number| number.checked_mul(1 << shift));
    size.ok_or_else(|| format!("{text:?} is no size: a number with b, k, m or g behind it"))
}

/// `--device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A device file.
    File {
        /// On the engine's machine.
        host: String,
        /// In the container.
        container: String,
        /// `rwm` or fewer.
        permissions: String,
    },
    /// A name of the Container Device Interface: `vendor.com/class=name`.
    Cdi(String),
}

/// `SOURCE[:TARGET[:PERMISSIONS]]`.
///
/// # Errors
/// Says which part is wrong.
pub fn device(text: &str) -> Result<Device, String> {
    if !text.starts_with('/') && text.contains('/') && text.contains('=') {
        return Ok(Device::Cdi(text.into()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let is_mode = |text: &str| !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte));
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [host, container, mode] => (host, container, mode),
        _ => return Err("SOURCE[:TARGET[:rwm]] is meant".into()),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err("the paths of a device begin with /".into());
    }
    if !is_mode(permissions) {
        return Err(format!("{permissions:?} are no permissions of a device: some of r, w and m"));
    }
    Ok(Device::File { host: host.into(), container: container.into(), permissions: permissions.into() })
}

/// `--gpus`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// -1: all; 0 with [`Gpus::devices`].
    pub count: i64,
    /// Named ones.
    pub devices: Vec<String>,
    /// Driver; empty: the engine's choice.
    pub driver: String,
    /// Besides `gpu`.
    pub capabilities: Vec<String>,
    /// Driver's options.
    pub options: BTreeMap<String, String>,
}

/// `all`, a number, or `device=0,capabilities=utility` with quotes around lists.
///
/// # Errors
/// Says which part is wrong.
pub fn gpus(text: &str) -> Result<Gpus, String> {
    let mut gpus = Gpus::default();
    let count = |text: &str| match text {
        "all" => Ok(-1),
        number => number.parse::<u32>().map(i64::from).map_err(|_| format!("{number:?}: all, a number or device=ID")),
    };
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    for field in csv(text)? {
        match field.split_once('=') {
            None => gpus.count = count(&field)?,
            Some(("count", value)) => gpus.count = count(value)?,
            Some(("device", value)) => gpus.devices = list(value),
            Some(("driver", value)) => gpus.driver = value.into(),
            Some(("capabilities", value)) => gpus.capabilities = list(value),
            Some(("options", value)) => gpus.options.extend(list(value).iter().filter_map(|text| pair(text).ok())),
            Some((key, _)) => return Err(format!("{key:?} is no key: count, device, driver, capabilities, options")),
        }
    }
    if gpus.count == 0 && gpus.devices.is_empty() {
        gpus.count = -1;
    }
    Ok(gpus)
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; `host-gateway` is an address too. Gives `NAME:ADDRESS`.
///
/// # Errors
/// Says which part is wrong.
pub fn add_host(text: &str) -> Result<String, String> {
    let split = text.split_once('=').filter(|(name, _)| !name.contains(':')).or_else(|| text.split_once(':'));
    let (name, address) = split.ok_or("NAME:ADDRESS is meant")?;
    let bare = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
    if name.is_empty() {
        return Err("NAME:ADDRESS is meant".into());
    }
    match bare == "host-gateway" || bare.parse::<IpAddr>().is_ok() {
        true => Ok(format!("{name}:{bare}")),
        false => Err(format!("{address:?} is no address")),
    }
}

/// `--network`: a mode or name, or `name=NET,alias=A,ip=X`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// `bridge`, `host`, `none`, `container:NAME`, or a network's name.
    pub mode: String,
    /// Aliases in it.
    pub aliases: Vec<String>,
    /// A fixed address.
    pub ip: Option<String>,
}

impl Network {
    /// Whether it is a network that somebody made, where names and aliases work.
    pub fn is_user_defined(&self) -> bool {
        !matches!(self.mode.as_str(), "" | "default" | "bridge" | "host" | "none" | "nat")
            && !self.mode.starts_with("container:")
    }
}

/// Reads `--network`.
///
/// # Errors
/// Says which part is wrong.
pub fn network(text: &str) -> Result<Network, String> {
    if !text.contains('=') {
        let bad = text.is_empty() || text.contains([',', '/', ' ']) || text == "container:";
        return match bad {
            true => Err("bridge, host, none, container:NAME or a network's name is meant".into()),
            false => Ok(Network { mode: text.into(), ..Network::default() }),
        };
    }
    let mut network = Network::default();
    for field in csv(text)? {
        match field.split_once('=') {
            Some(("name", name)) => network.mode = name.into(),
            Some(("alias", alias)) => network.aliases.push(alias.into()),
            Some(("ip" | "ip6", ip)) if ip.parse::<IpAddr>().is_ok() => network.ip = Some(ip.into()),
            _ => return Err(format!("{field:?} is not understood: name=NET, alias=NAME or ip=ADDRESS")),
        }
    }
    match network.mode.is_empty() {
        true => Err("it has no name=".into()),
        false => Ok(network),
    }
}

/// `--security-opt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// `systempaths=unconfined`: nothing of /proc and /sys is hidden.
    Unconfined,
    /// Anything else, as the engine takes it; a seccomp profile is its JSON, which the plan has read.
    Plain(String),
}

/// Reads `--security-opt`.
///
/// # Errors
/// When it is no option that an engine knows.
pub fn security(text: &str) -> Result<Security, String> {
    let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some(pair) => pair,
        None => (text, ""),
    };
    match (key, value) {
        ("no-new-privileges", "" | "true" | "false") => Ok(Security::Plain(text.into())),
        ("seccomp", "unconfined" | "builtin") => Ok(Security::Plain(format!("seccomp={value}"))),
        ("seccomp", profile) if profile.starts_with('{') => Ok(Security::Plain(format!("seccomp={profile}"))),
        ("systempaths", "unconfined") => Ok(Security::Unconfined),
        ("apparmor" | "label" | "mask" | "unmask" | "proc-opts", value) if !value.is_empty() => {
            Ok(Security::Plain(format!("{key}={value}")))
        }
        _ => Err("seccomp=FILE, apparmor=PROFILE, label=..., no-new-privileges or systempaths=unconfined".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        let show = |text| ulimit(text).map(|limit| format!("{} {} {}", limit.name, limit.soft, limit.hard));
        for (text, expected) in
            [("nofile=1024", "nofile 1024 1024"), ("nofile=10:20", "nofile 10 20"), ("core=0:-1", "core 0 -1")]
        {
            assert_eq!(show(text).unwrap(), expected, "{text}");
        }
        for text in ["nofile", "files=1", "nofile=20:10", "nofile=x", "nofile=-1:5", "nofile=-2"] {
            assert!(show(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in
            [("64m", 64 << 20), ("1G", 1 << 30), ("512", 512), ("1kb", 1024), ("7b", 7), ("0", 0)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "1.5g", "-1", "+1", "1x", "99999999999999999999", "18446744073709551615t"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn devices() {
        let file = |host: &str, container: &str, permissions: &str| {
            Ok(Device::File { host: host.into(), container: container.into(), permissions: permissions.into() })
        };
        assert_eq!(device("/dev/fuse"), file("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(device("/dev/a:/dev/b"), file("/dev/a", "/dev/b", "rwm"));
        assert_eq!(device("/dev/a:r"), file("/dev/a", "/dev/a", "r"));
        assert_eq!(device("/dev/a:/dev/b:rw"), file("/dev/a", "/dev/b", "rw"));
        assert_eq!(device("nvidia.com/gpu=all"), Ok(Device::Cdi("nvidia.com/gpu=all".into())));
        for text in ["dev/fuse", "/dev/a:/dev/b:x", "/a:/b:r:w", "/dev/a:b"] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn graphics() {
        let all = Gpus { count: -1, ..Gpus::default() };
        assert_eq!(gpus("all"), Ok(all));
        assert_eq!(gpus("2").unwrap().count, 2);
        let named = gpus("\"device=0,1\",capabilities=utility").unwrap();
        assert_eq!((named.count, named.devices.len(), named.capabilities.len()), (0, 2, 1));
        assert!(gpus("some").is_err() && gpus("colour=red").is_err());
    }

    #[test]
    fn hosts_and_networks() {
        assert_eq!(add_host("db:10.0.0.1"), Ok("db:10.0.0.1".into()));
        assert_eq!(add_host("db=10.0.0.1"), Ok("db:10.0.0.1".into()));
        assert_eq!(add_host("db:::1"), Ok("db:::1".into()));
        assert_eq!(add_host("me:host-gateway"), Ok("me:host-gateway".into()));
        assert!(add_host("db").is_err() && add_host("db:there").is_err() && add_host(":1.2.3.4").is_err());
        assert!(network("mine").unwrap().is_user_defined());
        for mode in ["host", "none", "bridge", "default", "container:x"] {
            assert!(!network(mode).unwrap().is_user_defined(), "{mode}");
        }
        let long = network("name=mine,alias=web,ip=10.1.1.1").unwrap();
        assert_eq!((long.mode.as_str(), long.aliases[0].as_str()), ("mine", "web"));
        assert!(network("").is_err() && network("alias=x").is_err() && network("a b").is_err());
    }

    #[test]
    fn security_options() {
        let plain = |text: &str| Ok(Security::Plain(text.into()));
        let profile = r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#;
        assert_eq!(security(profile), plain(profile));
        assert_eq!(security("seccomp:unconfined"), plain("seccomp=unconfined"));
        assert_eq!(security("no-new-privileges"), plain("no-new-privileges"));
        assert_eq!(security("label=type:x_t"), plain("label=type:x_t"));
        assert_eq!(security("systempaths=unconfined"), Ok(Security::Unconfined));
        assert!(security("privileged").is_err() && security("seccomp=/p.json").is_err() && security("seccomp=").is_err());
    }
}
