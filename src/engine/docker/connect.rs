//! Connect: from a choice to a client that was answered, or one line that says why not.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::{Context, Result};
use bollard::models::{SystemInfo, SystemVersion};
use bollard::{API_DEFAULT_VERSION, Docker};

use super::{Core, SLOW};
use crate::engine::{EngineInfo, ssh};
use crate::engine::error::{EngineError, deepest};
use crate::engine::host::{EngineChoice, Host, Surroundings, hex, resolve};
use crate::progress::Monitor;

/// Time for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// Time for calls that answer at once when the engine is well; creating on a slow disk included.
const ORDINARY: Duration = Duration::from_secs(180);

/// Connects, asks who it is and refuses what cannot work.
pub(super) async fn connect(choice: &EngineChoice, monitor: Arc<dyn Monitor>) -> Result<Core> {
    let host = resolve(choice, &Surroundings::here())?;
    let (api, info, about) = answer(&host).await?;
    check_platform(&info)?;
    Ok(Core {
        slow: api.clone().with_timeout(SLOW),
        api: api.with_timeout(ORDINARY),
        info,
        driver: about.driver.unwrap_or_default(),
        run: run_id()?,
        counter: AtomicU32::new(1),
        ledger: super::Ledger::default(),
        aliases: std::sync::Mutex::default(),
        monitor,
    })
}

/// The engine's first words.
pub(in crate::engine) async fn answer(host: &Host) -> Result<(Docker, EngineInfo, SystemInfo)> {
    let unreachable = |error: bollard::errors::Error| unreachable(host, &error);
    let api = client(host).map_err(unreachable)?.with_timeout(FIRST_ANSWER);
    let api = api.negotiate_version().await.map_err(unreachable)?;
    let version = api.version().await.map_err(unreachable)?;
    let about = api.info().await.map_err(unreachable)?;
    let info = info(host, &version, about.docker_root_dir.clone());
    Ok((api, info, about))
}

fn client(host: &Host) -> Result<Docker, bollard::errors::Error> {
    let docker = match host {
        Host::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), 120, API_DEFAULT_VERSION)?,
        Host::Http(address) => Docker::connect_with_http(&format!("tcp://{address}"), 120, API_DEFAULT_VERSION)?,
        Host::Https { address, certs } => {
            let file = |name: &str| certs.join(name);
            let (key, cert, ca) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
            Docker::connect_with_ssl(&format!("tcp://{address}"), &key, &cert, &ca, 120, API_DEFAULT_VERSION)?
        }
        Host::Ssh(login) => ssh::client(login, 120)?,
    };
    Ok(docker.with_request_modifier(|mut request| {
        // The API wants base64url here; with the other alphabet the engine silently drops the credentials.
        for name in ["x-registry-auth", "x-registry-config"] {
            let fixed = request.headers().get(name).and_then(|value| {
                let text = value.to_str().ok()?.replace('+', "-").replace('/', "_");
                http::HeaderValue::from_str(&text).ok()
            });
            if let Some(mut value) = fixed {
                value.set_sensitive(true);
                request.headers_mut().insert(name, value);
            }
        }
        request
    }))
}

fn unreachable(host: &Host, error: &bollard::errors::Error) -> anyhow::Error {
    let cause = match error {
        bollard::errors::Error::RequestTimeoutError => format!("no answer within {} s", FIRST_ANSWER.as_secs()),
        bollard::errors::Error::SocketNotFoundError(_) => "no such socket".into(),
        other => deepest(other),
    };
    let remedy = match host {
        Host::Unix(_) if cause.contains("ermission denied") => "run as root, join the socket's group, or give --host",
        Host::Unix(_) => "start the engine or give --host",
        Host::Http(_) => "start the engine, or ask for TLS with --tls-verify",
        Host::Https { .. } => "check the address and the certificates",
        Host::Ssh(_) => "check that `ssh HOST docker version` works without a password",
    };
    let text = format!("cannot reach the container engine at {host}: {cause}");
    match error {
        // It is there, and has no time.
        bollard::errors::Error::RequestTimeoutError
        | bollard::errors::Error::DockerResponseServerError { status_code: 429 | 502..=504, .. } => {
            EngineError::Busy(format!("{text}; try again in a moment")).into()
        }
        _ => EngineError::Unreachable(format!("{text}; {remedy}")).into(),
    }
}

fn info(host: &Host, version: &SystemVersion, root_dir: Option<String>) -> EngineInfo {
    let components = version.components.as_deref().unwrap_or_default();
    let podman = components.iter().find(|part| part.name.to_ascii_lowercase().contains("podman"));
    EngineInfo {
        name: if podman.is_some() { "podman" } else { "docker" }.to_owned(),
        version: podman.map(|part| part.version.clone()).or(version.version.clone()).unwrap_or_default(),
        os: version.os.clone().unwrap_or_default(),
        arch: go_arch(version.arch.as_deref().unwrap_or_default()).to_owned(),
        host: host.to_string(),
        local: host.is_local(),
        root_dir: root_dir.filter(|dir| Path::new(dir).is_absolute()),
    }
}

/// An architecture as Go names it, from any of the usual names.
pub(crate) fn go_arch(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "powerpc64le" => "ppc64le",
        other => other,
    }
}

pub(in crate::engine) fn check_platform(info: &EngineInfo) -> Result<()> {
    let ours = go_arch(std::env::consts::ARCH);
    if info.os != "linux" {
        let text = format!("the engine at {} runs {} containers; slim works with Linux containers only", info.host, info.os);
        return Err(EngineError::WrongPlatform(text).into());
    }
    if info.arch != ours {
        let text = format!(
            "the engine at {} is {}, this slim is {ours}; use an engine or a slim of the same architecture",
            info.host, info.arch
        );
        return Err(EngineError::WrongPlatform(text).into());
    }
    Ok(())
}

pub(crate) fn run_id() -> Result<String> {
    let mut bytes = [0u8; 6];
    let mut file = std::fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    file.read_exact(&mut bytes).context("read /dev/urandom")?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(os: &str, arch: &str) -> EngineInfo {
        let version = SystemVersion {
            os: Some(os.into()),
            arch: Some(arch.into()),
            ..SystemVersion::default()
        };
        info(&Host::Http("h:1".into()), &version, None)
    }

    #[test]
    fn only_linux_engines_of_our_architecture_are_used() {
        assert!(check_platform(&engine("linux", std::env::consts::ARCH)).is_ok());
        for other in [engine("windows", std::env::consts::ARCH), engine("linux", "s390x")] {
            let error = check_platform(&other).unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(EngineError::WrongPlatform(_))), "{error}");
        }
    }
}
