//! Mounts: `-v`, `--mount` and `--tmpfs` in Docker's spelling.

use std::collections::BTreeMap;

/// What `-v` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// A volume without a name at this path.
    Anonymous(String),
    /// A path of the engine's machine, or a volume by name, at a path of the container.
    Bind {
        /// Absolute or relative path (with a leading `/` or `.`), or a volume's name.
        source: String,
        /// Path in the container.
        target: String,
        /// `ro`, `z`, ... joined by commas; may be empty.
        options: String,
    },
}

/// What `--mount` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Path or volume name; empty for tmpfs and for volumes without a name.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Not writable.
    pub read_only: bool,
    /// `bind-propagation`.
    pub propagation: Option<String>,
    /// `bind-recursive=disabled`.
    pub non_recursive: bool,
    /// `volume-nocopy`.
    pub no_copy: bool,
    /// `volume-subpath`.
    pub subpath: Option<String>,
    /// `volume-driver`.
    pub driver: Option<String>,
    /// `volume-opt` pairs.
    pub driver_options: BTreeMap<String, String>,
    /// `volume-label` pairs.
    pub labels: BTreeMap<String, String>,
    /// `tmpfs-size` in bytes.
    pub tmpfs_size: Option<u64>,
    /// `tmpfs-mode`.
    pub tmpfs_mode: Option<u32>,
}

/// What kind of thing is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// A volume of the engine.
    #[default]
    Volume,
    /// A path of the engine's machine.
    Bind,
    /// Memory.
    Tmpfs,
}

/// `--mount` as Docker spells it, or in the short form of `-v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountText {
    /// `type=bind,src=...,dst=...`.
    Keys(Box<Mount>),
    /// `src:dst[:ro]`.
    Short(Volume),
}

/// A place where a run mounts something, however that was spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// As the user wrote it.
    pub text: String,
    /// Path or volume name; empty for memory and for volumes without a name.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
    /// It has a name or a path, so that the next run finds it again.
    pub stays: bool,
    /// Not writable.
    pub read_only: bool,
    /// The engine fills it with what the image has there, when it is new and empty.
    pub copies: bool,
}

/// Every mount of a run. What cannot be understood is left out: `check` says so.
pub fn all(run: &super::RunOptions) -> Vec<Mounted> {
    let short = run.volumes.iter().map(|text| (text, volume(text).map(MountText::Short)));
    let long = run.mounts.iter().map(|text| (text, mount(text)));
    let mut all: Vec<Mounted> = short
        .chain(long)
        .filter_map(|(text, parsed)| match parsed.ok()? {
            MountText::Short(volume) => Some(mounted_short(text, volume)),
            MountText::Keys(mount) => Some(mounted(text, *mount)),
        })
        .collect();
    let memory = run.tmpfs.iter().filter_map(|text| Some((text, tmpfs(text).ok()?)));
    all.extend(memory.map(|(text, (target, options))| Mounted {
        text: text.clone(),
        source: String::new(),
        target,
        kind: MountKind::Tmpfs,
        stays: false,
        read_only: options.split(',').any(|option| option == "ro"),
        copies: false,
    }));
    all
}

fn mounted_short(text: &str, volume: Volume) -> Mounted {
    let (source, target, options) = match volume {
        Volume::Anonymous(target) => (String::new(), target, String::new()),
        Volume::Bind { source, target, options } => (source, target, options),
    };
    let has = |names: &[&str]| options.split(',').any(|option| names.contains(&option));
    let kind = if source.starts_with(['/', '.']) { MountKind::Bind } else { MountKind::Volume };
    Mounted {
        text: text.to_owned(),
        target,
        kind,
        stays: !source.is_empty(),
        source,
        read_only: has(&["ro"]),
        copies: kind == MountKind::Volume && !has(&["nocopy", "volume-nocopy"]),
    }
}

fn mounted(text: &str, mount: Mount) -> Mounted {
    Mounted {
        text: text.to_owned(),
        target: mount.target,
        kind: mount.kind,
        stays: mount.kind == MountKind::Bind || !mount.source.is_empty(),
        source: mount.source,
        read_only: mount.read_only,
        copies: mount.kind == MountKind::Volume && !mount.no_copy,
    }
}

/// What may stand behind the second colon of `-v`.
const VOLUME_OPTIONS: &[&str] = &[
    "ro", "rw", "z", "Z", "nocopy", "copy", "volume-nocopy", "consistent", "cached", "delegated", "shared", "rshared",
    "slave", "rslave", "private", "rprivate", "U", "O", "idmap", "dev", "nodev", "exec", "noexec", "suid", "nosuid",
];

/// `[SOURCE:]TARGET[:OPTIONS]`.
///
/// # Errors
/// Says which part is wrong.
pub fn volume(text: &str) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => return Ok(Volume::Anonymous(absolute(target)?)),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err("it has more than two colons: SOURCE:TARGET[:ro]".into()),
    };
    if source.is_empty() {
        return Err("nothing stands before the first colon".into());
    }
    let is_path = source.starts_with(['/', '.']);
    let named = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !is_path && (source.contains('/') || source.len() < 2 || !source.chars().all(named)) {
        return Err(format!("{source:?} is neither a path (begin it with / or ./) nor a volume's name"));
    }
    let unknown = options.split(',').find(|option| !option.is_empty() && !VOLUME_OPTIONS.contains(option));
    if let Some(unknown) = unknown {
        return Err(format!("{unknown:?} is no option of a volume: ro, rw, z, Z, nocopy, rshared ..."));
    }
    Ok(Volume::Bind { source: source.into(), target: absolute(target)?, options: options.into() })
}

fn absolute(path: &str) -> Result<String, String> {
    match path {
        "/" => Err("the container's / cannot be mounted over".into()),
        path if path.starts_with('/') => Ok(path.into()),
        path => Err(format!("the path in the container, {path:?}, does not begin with /")),
    }
}

/// `--mount`: `key=value,...` or the short form `src:dst[:ro]`.
///
/// # Errors
/// Says which part is wrong.
pub fn mount(text: &str) -> Result<MountText, String> {
    let fields = csv(text)?;
    let first = fields.first().map(String::as_str).unwrap_or_default();
    let key = first.split_once('=').map_or(first, |(key, _)| key);
    match text.contains(':') && !is_key(key) {
        true => volume(text).map(MountText::Short),
        false => keys(&fields).map(|mount| MountText::Keys(Box::new(mount))),
    }
}

fn is_key(key: &str) -> bool {
    let plain = ["type", "src", "source", "dst", "target", "destination", "ro", "rw", "readonly", "consistency"];
    plain.contains(&key) || ["bind-", "volume-", "tmpfs-"].iter().any(|prefix| key.starts_with(prefix))
}

fn keys(fields: &[String]) -> Result<Mount, String> {
    let mut mount = Mount::default();
    for field in fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, value),
            None => (field.as_str(), ""),
        };
        let flag = || match value.to_ascii_lowercase().as_str() {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(format!("{key}={value}: true or false is meant")),
        };
        match key {
            "type" => mount.kind = kind(value)?,
            "src" | "source" => mount.source = value.into(),
            "dst" | "target" | "destination" => mount.target = absolute(value)?,
            "ro" | "readonly" => mount.read_only = flag()?,
            "rw" => mount.read_only = !flag()?,
            "consistency" => {}
            "bind-propagation" => mount.propagation = Some(propagation(value)?),
            "bind-nonrecursive" => mount.non_recursive = flag()?,
            "bind-recursive" => mount.non_recursive = value == "disabled",
            "volume-nocopy" => mount.no_copy = flag()?,
            "volume-subpath" => mount.subpath = Some(value.into()),
            "volume-driver" => mount.driver = Some(value.into()),
            "volume-opt" => insert(&mut mount.driver_options, value),
            "volume-label" => insert(&mut mount.labels, value),
            "tmpfs-size" => mount.tmpfs_size = Some(super::bytes(value)?),
            "tmpfs-mode" => mount.tmpfs_mode = Some(mode(value)?),
            _ => return Err(format!("{key:?} is no key of a mount: type, src, dst, ro, volume-nocopy, tmpfs-size ...")),
        }
    }
    check(mount)
}

fn check(mount: Mount) -> Result<Mount, String> {
    if mount.target.is_empty() {
        return Err("it names no dst= in the container".into());
    }
    match (mount.kind, mount.source.is_empty()) {
        (MountKind::Bind, true) => Err("a bind mount needs src=".into()),
        (MountKind::Tmpfs, false) => Err("a tmpfs has no src=".into()),
        (MountKind::Bind | MountKind::Volume | MountKind::Tmpfs, _) => Ok(mount),
    }
}

fn kind(text: &str) -> Result<MountKind, String> {
    match text {
        "bind" => Ok(MountKind::Bind),
        "volume" => Ok(MountKind::Volume),
        "tmpfs" => Ok(MountKind::Tmpfs),
        other => Err(format!("type={other}: bind, volume or tmpfs")),
    }
}

fn propagation(text: &str) -> Result<String, String> {
    match text {
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => Ok(text.into()),
        other => Err(format!("bind-propagation={other}: private, rprivate, shared, rshared, slave or rslave")),
    }
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| format!("tmpfs-mode={text}: an octal mode such as 1777"))
}

fn insert(map: &mut BTreeMap<String, String>, pair: &str) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    map.insert(name.into(), value.into());
}

/// `PATH[:OPTIONS]`.
///
/// # Errors
/// Says which part is wrong.
pub fn tmpfs(text: &str) -> Result<(String, String), String> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    Ok((absolute(path)?, options.into()))
}

/// One line of comma-separated fields; a field or part in double quotes may hold commas, and a double quote
/// that is written twice (RFC 4180).
///
/// # Errors
/// When a double quote is never closed.
pub fn csv(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err("a double quote is never closed".into());
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match volume(text) {
            Ok(Volume::Anonymous(path)) => format!("anonymous {path}"),
            Ok(Volume::Bind { source, target, options }) => format!("{source} {target} {options}"),
            Err(error) => error,
        }
    }

    #[test]
    fn volumes_are_spelled_as_for_docker() {
        let table = [
            ("/data", "anonymous /data"),
            ("/a:/b", "/a /b "),
            ("./a:/b:ro", "./a /b ro"),
            ("name:/b:ro,nocopy", "name /b ro,nocopy"),
            ("/a b:/c", "/a b /c "),
            ("data", "the path in the container, \"data\", does not begin with /"),
            ("/a:b", "the path in the container, \"b\", does not begin with /"),
            ("/a:/", "the container's / cannot be mounted over"),
            (":/b", "nothing stands before the first colon"),
            ("a/b:/c", "\"a/b\" is neither a path (begin it with / or ./) nor a volume's name"),
            ("/a:/b:r", "\"r\" is no option of a volume: ro, rw, z, Z, nocopy, rshared ..."),
            ("/a:/b:ro:x", "it has more than two colons: SOURCE:TARGET[:ro]"),
        ];
        for (text, expected) in table {
            assert_eq!(show(text), expected, "{text}");
        }
    }

    fn keyed(text: &str) -> Mount {
        match mount(text) {
            Ok(MountText::Keys(mount)) => *mount,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn mounts_are_keys_or_the_short_form() {
        let bind = Mount {
            kind: MountKind::Bind,
            source: "/a,b".into(),
            target: "/c".into(),
            read_only: true,
            ..Mount::default()
        };
        assert_eq!(keyed("type=bind,\"src=/a,b\",dst=/c,ro"), bind);
        assert_eq!(keyed("type=bind,\"source=/a,b\",target=/c,readonly=true"), bind);
        let volume = keyed("src=data,destination=/d,volume-nocopy,volume-opt=type=nfs,volume-label=a=b");
        assert_eq!((volume.kind, volume.no_copy, volume.driver_options["type"].as_str()), (MountKind::Volume, true, "nfs"));
        let tmpfs = keyed("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770");
        assert_eq!((tmpfs.tmpfs_size, tmpfs.tmpfs_mode), (Some(64 << 20), Some(0o1770)));
        for short in ["/a:/b:ro", "/a=b:/c"] {
            assert!(matches!(mount(short), Ok(MountText::Short(_))), "{short}");
        }
    }

    #[test]
    fn a_quoted_field_may_hold_commas_and_quotes() {
        assert_eq!(csv(r#"a,"b,c",d"#).unwrap(), ["a", "b,c", "d"]);
        assert_eq!(csv(r#""a""b",c"#).unwrap(), ["a\"b", "c"]);
        assert!(csv("\"a").is_err());
    }

    #[test]
    fn every_spelling_of_a_mount_says_where_it_is_and_whether_the_image_fills_it() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let run = crate::engine::RunOptions {
            volumes: list(&["/h:/a:ro", "/b", "name:/c", "name:/d:nocopy"]),
            mounts: list(&["type=volume,dst=/e", "type=bind,\"src=/x,y\",dst=/f,rw", "type=tmpfs,dst=/g", "src=n,dst=/h,volume-nocopy"]),
            tmpfs: list(&["/i:size=1m"]),
            ..crate::engine::RunOptions::default()
        };
        let all = all(&run);
        let those = |which: fn(&Mounted) -> bool| {
            all.iter().filter(|mount| which(mount)).map(|mount| mount.target.as_str()).collect::<Vec<_>>().concat()
        };
        assert_eq!(those(|_| true), "/a/b/c/d/e/f/g/h/i");
        assert_eq!(those(|mount| mount.copies), "/b/c/e");
        assert_eq!(those(|mount| mount.stays && !mount.read_only), "/c/d/f/h");
        assert_eq!(those(|mount| mount.kind == MountKind::Tmpfs), "/g/i");
    }

    #[test]
    fn a_mount_that_cannot_be_meant_is_explained() {
        for (text, expected) in [
            ("type=bind,dst=/c", "needs src="),
            ("type=bind,src=/a", "names no dst="),
            ("type=nfs,dst=/c", "bind, volume or tmpfs"),
            ("type=tmpfs,src=/a,dst=/c", "has no src="),
            ("type=bind,src=/a,dst=c", "does not begin with /"),
            ("type=bind,src=/a,dst=/c,ro=maybe", "true or false"),
            ("type=bind,src=/a,dst=/c,colour=red", "\"colour\" is no key"),
            ("type=tmpfs,dst=/c,tmpfs-mode=rw", "octal"),
            ("\"type=bind", "never closed"),
        ] {
            let error = mount(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
