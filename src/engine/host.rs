//! Host: where the engine listens, found the way the docker command finds it.
//!
//! `--host`, then `--context`, DOCKER_HOST, DOCKER_CONTEXT, `currentContext` of config.json, then the usual
//! sockets of Docker and podman. TLS material comes from `--tls-cert-path`, DOCKER_CERT_PATH, the context's
//! own directory or `~/.docker`.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::EngineError;
use super::ssh::Login;

/// `--engine`: who runs containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    /// A container engine that is reachable, else the one in this program
    #[default]
    Auto,
    /// Docker, or podman's service
    Docker,
    /// The one in this program: no daemon
    Embedded,
}

/// What the user said about which engine to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineChoice {
    /// `--engine`.
    pub kind: EngineKind,
    /// `--host`; `None`: DOCKER_HOST, then the docker context, then the usual sockets.
    pub host: Option<String>,
    /// `--context`.
    pub context: Option<String>,
    /// `--tls-cert-path`; `None`: DOCKER_CERT_PATH.
    pub cert_path: Option<PathBuf>,
    /// `--tls-verify`; `None`: DOCKER_TLS_VERIFY.
    pub tls_verify: Option<bool>,
}

impl EngineChoice {
    /// Podman's service, of root or of this user: CONTAINER_HOST, else the first of its usual sockets that answers. The
    /// same, when an address was named.
    ///
    /// # Errors
    /// When none answers; says what to start.
    pub fn podman(self, here: &Surroundings) -> Result<Self> {
        if self.host.is_some() {
            return Ok(self);
        }
        let named = here.var("CONTAINER_HOST").map(str::to_owned);
        let places = podman_sockets(here);
        let answers = || places.iter().find(|path| UnixStream::connect(path).is_ok());
        match named.or_else(|| Some(format!("unix://{}", answers()?.display()))) {
            Some(host) => Ok(Self { host: Some(host), context: None, ..self }),
            None => {
                let looked: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
                let text = format!(
                    "no podman service answers (looked at {}); start one with `podman system service --time 0 &` or \
                     set CONTAINER_HOST",
                    looked.join(", ")
                );
                Err(EngineError::Unreachable(text).into())
            }
        }
    }
}

/// Where podman's service listens, root's first.
fn podman_sockets(here: &Surroundings) -> Vec<PathBuf> {
    here.sockets.iter().filter(|path| path.ends_with("podman/podman.sock")).cloned().collect()
}

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A unix socket.
    Unix(PathBuf),
    /// Plain HTTP at `host:port`.
    Http(String),
    /// HTTP over TLS at `host:port`.
    Https {
        /// `host:port`.
        address: String,
        /// Directory with `ca.pem`, `cert.pem` and `key.pem`.
        certs: PathBuf,
    },
    /// The docker command of another machine, through ssh.
    Ssh(Login),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(address) | Self::Https { address, .. } => write!(f, "tcp://{address}"),
            Self::Ssh(login) => login.fmt(f),
        }
    }
}

impl Host {
    /// Whether a socket of this machine leads to it. A forwarded one (ssh -L, a proxy) does as well, so that where
    /// a container is has to be found out from the container.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Http(address) | Self::Https { address, .. } => {
                let name = address.rsplit_once(':').map_or(address.as_str(), |(name, _)| name);
                let bare = name.trim_start_matches('[').trim_end_matches(']');
                bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
            Self::Ssh(_) => false,
        }
    }
}

/// What the choice of an engine depends on besides the command line.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Environment variables.
    pub vars: BTreeMap<String, String>,
    /// The user's home directory; `None` when HOME is not set.
    pub home: Option<PathBuf>,
    /// Sockets to look for when nothing names one, best first.
    pub sockets: Vec<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        let vars: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = vars.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let runtime = vars.get("XDG_RUNTIME_DIR").map(PathBuf::from);
        let sockets = [
            Some(PathBuf::from("/var/run/docker.sock")),
            runtime.as_ref().map(|dir| dir.join("docker.sock")),
            home.as_ref().map(|home| home.join(".docker/run/docker.sock")),
            Some(PathBuf::from("/run/podman/podman.sock")),
            runtime.as_ref().map(|dir| dir.join("podman/podman.sock")),
        ];
        Self { vars, home, sockets: sockets.into_iter().flatten().collect() }
    }

    /// A variable that is set to something.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The directory of docker's `config.json`: DOCKER_CONFIG or `~/.docker`.
    pub fn docker_config(&self) -> Option<PathBuf> {
        self.var("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(self.home.as_ref()?.join(".docker")))
    }
}

/// Finds the engine.
///
/// # Errors
/// When a named host or context cannot be understood, or no socket answers; says what was tried.
pub fn resolve(choice: &EngineChoice, here: &Surroundings) -> Result<Host> {
    match stated(choice, here)? {
        Some((host, _)) => Ok(host),
        None => usual_socket(here),
    }
}

/// The engine that somebody named, and where; `None` leaves it to the usual sockets.
///
/// # Errors
/// When the named host or context cannot be understood.
pub(super) fn stated(choice: &EngineChoice, here: &Surroundings) -> Result<Option<(Host, String)>> {
    let by_host = |text: &str, origin: &str| {
        let host = parse(text, None, choice, here).context(origin.to_owned())?;
        Ok(Some((host, origin.to_owned())))
    };
    let by_context = |name: &str, origin: &str| {
        let host = from_context(name, choice, here).context(origin.to_owned())?;
        Ok(Some((host, format!("{origin} {name}"))))
    };
    if let Some(text) = &choice.host {
        return by_host(text, "--host");
    }
    if let Some(name) = &choice.context {
        return by_context(name, "--context");
    }
    if let Some(text) = here.var("DOCKER_HOST") {
        return by_host(text, "DOCKER_HOST");
    }
    if let Some(name) = here.var("DOCKER_CONTEXT") {
        return by_context(name, "DOCKER_CONTEXT");
    }
    match current_context(here)? {
        Some(name) => by_context(&name, "the current docker context"),
        None => Ok(None),
    }
}

fn current_context(here: &Surroundings) -> Result<Option<String>> {
    let Some(file) = here.docker_config().map(|dir| dir.join("config.json")) else {
        return Ok(None);
    };
    let Some(config) = read_json(&file)? else {
        return Ok(None);
    };
    let name = config["currentContext"].as_str().unwrap_or_default();
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty() && name != "default"))
}

fn read_json(file: &Path) -> Result<Option<Value>> {
    match std::fs::read(file) {
        Ok(bytes) => {
            let value = serde_json::from_slice(&bytes);
            value.with_context(|| format!("read {} as JSON", file.display())).map(Some)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

/// Contexts are stored under the SHA-256 of their name (docker/cli, `cli/context/store`).
fn from_context(name: &str, choice: &EngineChoice, here: &Surroundings) -> Result<Host> {
    if name == "default" {
        return usual_socket(here);
    }
    let dir = here.docker_config().context("neither DOCKER_CONFIG nor HOME is set")?.join("contexts");
    let id = hex(&Sha256::digest(name.as_bytes()));
    let file = dir.join("meta").join(&id).join("meta.json");
    let Some(meta) = read_json(&file)? else {
        let text = format!("no docker context named {name:?}; `docker context ls` lists them");
        return Err(EngineError::Unreachable(text).into());
    };
    let Some(host) = meta["Endpoints"]["docker"]["Host"].as_str().filter(|host| !host.is_empty()) else {
        return usual_socket(here);
    };
    let certs = dir.join("tls").join(&id).join("docker");
    parse(host, certs.is_dir().then_some(certs), choice, here)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(text: &str, context_certs: Option<PathBuf>, choice: &EngineChoice, here: &Surroundings) -> Result<Host> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    let rest = rest.trim_end_matches('/');
    match scheme {
        "unix" if text.ends_with("://") => Err(bad(text, "it names no socket")),
        "unix" => Ok(Host::Unix(PathBuf::from(rest))),
        "http" => Ok(Host::Http(with_port(rest, "2375"))),
        "tcp" | "https" => {
            let asked = choice.tls_verify.unwrap_or_else(|| here.var("DOCKER_TLS_VERIFY").is_some());
            let tls = asked || scheme == "https" || context_certs.is_some() || here.var("DOCKER_TLS").is_some();
            if rest.is_empty() {
                return Err(bad(text, "it names no address"));
            }
            if !tls {
                return Ok(Host::Http(with_port(rest, "2375")));
            }
            let certs = certificates(context_certs, choice, here)?;
            Ok(Host::Https { address: with_port(rest, "2376"), certs })
        }
        "ssh" => Login::parse(text).map(Host::Ssh).map_err(|why| bad(text, &why)),
        _ => Err(bad(text, "use unix://PATH, tcp://HOST:PORT, http://, https:// or ssh://USER@HOST")),
    }
}

fn bad(text: &str, why: &str) -> anyhow::Error {
    EngineError::Unreachable(format!("cannot use the engine at {text}: {why}")).into()
}

fn with_port(address: &str, default: &str) -> String {
    let after_v6 = address.rsplit_once(']').map_or(address, |(_, rest)| rest);
    match after_v6.contains(':') {
        true => address.to_owned(),
        false => format!("{address}:{default}"),
    }
}

fn certificates(context: Option<PathBuf>, choice: &EngineChoice, here: &Surroundings) -> Result<PathBuf> {
    let explicit = choice.cert_path.clone().or(context);
    let dir = explicit
        .or_else(|| here.var("DOCKER_CERT_PATH").map(PathBuf::from))
        .or_else(|| here.docker_config())
        .context("TLS needs certificates: set DOCKER_CERT_PATH or give --tls-cert-path")?;
    if !dir.join("ca.pem").is_file() {
        let text = format!(
            "no ca.pem in {}; put ca.pem, cert.pem and key.pem there or give --tls-cert-path",
            dir.display()
        );
        return Err(EngineError::Unreachable(text).into());
    }
    Ok(dir)
}

fn usual_socket(here: &Surroundings) -> Result<Host> {
    let mut refused = None;
    for path in &here.sockets {
        match UnixStream::connect(path) {
            Ok(_) => return Ok(Host::Unix(path.clone())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => refused = refused.or(Some((path, error))),
        }
    }
    let text = match refused {
        Some((path, error)) if error.kind() == std::io::ErrorKind::PermissionDenied => format!(
            "permission denied on {}; run as root, join its group, or give --host",
            path.display()
        ),
        Some((path, error)) => format!("nobody answers at {}: {error}; start the engine or give --host", path.display()),
        None => format!(
            "no container engine found (looked at {}); start one, set DOCKER_HOST or give --host",
            here.sockets.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ),
    };
    Err(EngineError::Unreachable(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(vars: &[(&str, &str)], home: &Path) -> Surroundings {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Surroundings { vars, home: Some(home.to_owned()), sockets: vec![] }
    }

    fn find(text: &str, vars: &[(&str, &str)], home: &Path) -> String {
        let choice = EngineChoice { host: Some(text.into()), ..EngineChoice::default() };
        match resolve(&choice, &here(vars, home)) {
            Ok(Host::Unix(path)) => format!("unix {}", path.display()),
            Ok(Host::Http(address)) => format!("http {address}"),
            Ok(Host::Https { address, .. }) => format!("https {address}"),
            Ok(Host::Ssh(login)) => format!("ssh {login}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn hosts_are_spelled_as_for_docker() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".docker")).unwrap();
        std::fs::write(home.path().join(".docker/ca.pem"), "").unwrap();
        let tls = ("DOCKER_TLS_VERIFY", "1");
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let table: &[Row] = &[
            ("unix:///run/x.sock", &[], "unix /run/x.sock"),
            ("tcp://h:1", &[], "http h:1"),
            ("tcp://h", &[], "http h:2375"),
            ("h:1", &[], "http h:1"),
            ("tcp://[::1]", &[], "http [::1]:2375"),
            ("tcp://[::1]:7/", &[], "http [::1]:7"),
            ("http://h:1", &[tls], "http h:1"),
            ("tcp://h", &[tls], "https h:2376"),
            ("https://h:5", &[], "https h:5"),
            ("ssh://me@box:22/run/x.sock", &[tls], "ssh ssh://me@box:22/run/x.sock"),
        ];
        for (text, vars, expected) in table {
            assert_eq!(find(text, vars, home.path()), *expected, "{text}");
        }
    }

    #[test]
    fn a_host_that_cannot_be_used_says_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        for (text, remedy) in [
            ("ssh://me:secret@box", "use a key"),
            ("npipe:////./pipe/docker", "use unix://PATH"),
            ("tcp://", "names no address"),
            ("unix://", "names no socket"),
            ("https://h", "--tls-cert-path"),
        ] {
            let found = find(text, &[], home.path());
            assert!(found.contains(remedy), "{text}: {found}");
        }
    }

    fn add_context(home: &Path, name: &str, host: &str) {
        let id = hex(&Sha256::digest(name.as_bytes()));
        let dir = home.join(".docker/contexts/meta").join(id);
        std::fs::create_dir_all(&dir).unwrap();
        let meta = serde_json::json!({"Name": name, "Endpoints": {"docker": {"Host": host}}});
        std::fs::write(dir.join("meta.json"), meta.to_string()).unwrap();
    }

    #[test]
    fn the_command_line_comes_before_variables_before_the_current_context() {
        let home = tempfile::tempdir().unwrap();
        for name in ["flag", "variable", "current"] {
            add_context(home.path(), name, &format!("unix:///{name}"));
        }
        std::fs::write(home.path().join(".docker/config.json"), r#"{"currentContext":"current"}"#).unwrap();
        let unix = |name: &str| Host::Unix(PathBuf::from(format!("/{name}")));
        let both = [("DOCKER_HOST", "unix:///host"), ("DOCKER_CONTEXT", "variable")];
        let flag = EngineChoice { context: Some("flag".into()), ..EngineChoice::default() };
        assert_eq!(resolve(&flag, &here(&both, home.path())).unwrap(), unix("flag"));
        let none = EngineChoice::default();
        assert_eq!(resolve(&none, &here(&both, home.path())).unwrap(), unix("host"));
        assert_eq!(resolve(&none, &here(&both[1..], home.path())).unwrap(), unix("variable"));
        assert_eq!(resolve(&none, &here(&[], home.path())).unwrap(), unix("current"));
        let missing = EngineChoice { context: Some("nope".into()), ..EngineChoice::default() };
        let error = resolve(&missing, &here(&[], home.path())).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(EngineError::Unreachable(_))), "{error:#}");
    }

    #[test]
    fn without_an_engine_the_places_looked_at_are_named() {
        let home = tempfile::tempdir().unwrap();
        let mut here = here(&[], home.path());
        here.sockets = vec![home.path().join("a.sock"), home.path().join("b.sock")];
        let error = format!("{:#}", resolve(&EngineChoice::default(), &here).unwrap_err());
        assert!(error.contains("a.sock") && error.contains("b.sock") && error.contains("--host"), "{error}");
    }

    #[test]
    fn podman_is_found_at_its_own_sockets_only() {
        let home = tempfile::tempdir().unwrap();
        let socket = |name: &str| home.path().join(name);
        std::fs::create_dir(socket("podman")).unwrap();
        let mut here = here(&[], home.path());
        here.sockets = vec![socket("docker.sock"), socket("run/podman/podman.sock"), socket("podman/podman.sock")];
        let _docker = std::os::unix::net::UnixListener::bind(socket("docker.sock")).unwrap();
        let error = format!("{:#}", EngineChoice::default().podman(&here).unwrap_err());
        assert!(error.contains("run/podman/podman.sock") && !error.contains("docker.sock"), "{error}");
        let _podman = std::os::unix::net::UnixListener::bind(socket("podman/podman.sock")).unwrap();
        let found = EngineChoice::default().podman(&here).unwrap().host.unwrap();
        assert_eq!(found, format!("unix://{}", socket("podman/podman.sock").display()));
        here.vars.insert("CONTAINER_HOST".into(), "unix:///other".into());
        assert_eq!(EngineChoice::default().podman(&here).unwrap().host.unwrap(), "unix:///other");
    }

    #[test]
    fn loopback_is_local() {
        for (host, local) in [("127.0.0.1:1", true), ("[::1]:1", true), ("localhost:1", true), ("10.0.0.1:1", false)] {
            assert_eq!(Host::Http(host.into()).is_local(), local, "{host}");
        }
    }
}
