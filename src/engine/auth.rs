//! Auth: credentials for a registry, from where the docker command keeps them: `config.json` in
//! DOCKER_CONFIG or `~/.docker`, the credential helpers it names, and podman's `auth.json`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Credentials;
use super::host::Surroundings;
use crate::image::reference::DEFAULT_REGISTRY;

/// How to log in. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Account and password.
    Password(Credentials),
    /// A refresh token, which a token server takes instead of a password.
    Token(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password(credentials) => credentials.fmt(f),
            Self::Token(_) => f.write_str("Token(...)"),
        }
    }
}

/// The key of the default registry in `config.json`.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";

/// Credentials for a registry (`host[:port]`); `None` when there are none.
///
/// # Errors
/// When a file cannot be read or a helper fails otherwise than by not knowing the registry.
pub fn find(registry: &str, here: &Surroundings) -> Result<Option<Login>> {
    for file in files(here) {
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let config: Value =
            serde_json::from_slice(&bytes).with_context(|| format!("read {} as JSON", file.display()))?;
        let found = in_config(&config, registry, here);
        if let Some(login) = found.with_context(|| format!("find credentials for {registry} in {}", file.display()))? {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

fn files(here: &Surroundings) -> Vec<PathBuf> {
    let docker = here.docker_config().map(|dir| dir.join("config.json"));
    let explicit = here.var("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let podman = here.var("XDG_RUNTIME_DIR").map(|dir| Path::new(dir).join("containers/auth.json"));
    [docker, explicit, podman].into_iter().flatten().collect()
}

fn in_config(config: &Value, registry: &str, here: &Surroundings) -> Result<Option<Login>> {
    let keys = keys(registry);
    let helpers = &config["credHelpers"];
    if let Some((key, helper)) = keys.iter().find_map(|key| Some((key, helpers[key].as_str()?))) {
        return ask_helper(helper, key, here);
    }
    if let Some(store) = config["credsStore"].as_str().filter(|store| !store.is_empty())
        && let Some(login) = ask_helper(store, &keys[0], here)?
    {
        return Ok(Some(login));
    }
    let Some(auths) = config["auths"].as_object() else {
        return Ok(None);
    };
    let entry = auths.iter().find(|(key, _)| keys.iter().any(|wanted| host_of(wanted) == host_of(key)));
    entry.map_or(Ok(None), |(_, entry)| in_entry(entry))
}

/// Names under which a registry is found, the one that docker writes first.
fn keys(registry: &str) -> Vec<String> {
    match registry {
        DEFAULT_REGISTRY => vec![DEFAULT_KEY.into(), DEFAULT_REGISTRY.into(), "index.docker.io".into()],
        other => vec![other.into(), format!("https://{other}"), format!("http://{other}")],
    }
}

fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn in_entry(entry: &Value) -> Result<Option<Login>> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Login::Token(token)));
    }
    if let Some(auth) = text("auth") {
        // The decoded text is a secret: it is in no error.
        let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((username, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            bail!("its `auth` is not the base64 of NAME:PASSWORD; log in again");
        };
        let secret = secret.trim_end_matches('\0').to_owned();
        return Ok(Some(Login::Password(Credentials { username: username.into(), secret })));
    }
    let pair = text("username").zip(text("password"));
    Ok(pair.map(|(username, secret)| Login::Password(Credentials { username, secret })))
}

/// Asks `docker-credential-NAME get` (the protocol of docker-credential-helpers).
fn ask_helper(name: &str, key: &str, here: &Surroundings) -> Result<Option<Login>> {
    if name.contains('/') {
        bail!("{name:?} is no credential helper's name");
    }
    let program = format!("docker-credential-{name}");
    let path = here.var("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let found = std::env::split_paths(path).map(|dir| dir.join(&program)).find(|file| file.is_file());
    let file = found.with_context(|| format!("{program} is not in PATH; install it or log in again"))?;
    let mut child = Command::new(file)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that reads nothing says why in its output.
        let _ = stdin.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let why = format!("{} {}", said.trim(), String::from_utf8_lossy(&output.stderr).trim());
        return match ["not found", "no credentials", "NotFound"].iter().any(|text| why.contains(text)) {
            true => Ok(None),
            false => bail!("{program} failed: {}", why.trim()),
        };
    }
    let answer: Value = serde_json::from_str(&said).ok().with_context(|| format!("{program} answered no JSON"))?;
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Ok(match (text("Username"), text("Secret")) {
        (_, secret) if secret.is_empty() => None,
        (username, secret) if username == "<token>" => Some(Login::Token(secret)),
        (username, secret) => Some(Login::Password(Credentials { username, secret })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new(config: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("config.json"), config).unwrap();
            Self(dir)
        }

        fn helper(self, name: &str, script: &str) -> Self {
            let file = self.0.path().join(format!("docker-credential-{name}"));
            // Written by another process: a test that forks while we had it open would make it "text file busy".
            let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
            let mut shell = std::process::Command::new("/bin/sh");
            assert!(shell.args(["-c", write]).arg(&file).arg(script).status().unwrap().success());
            self
        }

        fn find(&self, registry: &str) -> Result<Option<Login>> {
            let dir = self.0.path().to_str().unwrap().to_owned();
            let vars = [("DOCKER_CONFIG", dir.clone()), ("PATH", format!("{dir}:/usr/bin:/bin"))];
            let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            super::find(registry, &Surroundings { vars, ..Surroundings::default() })
        }
    }

    fn password(username: &str, secret: &str) -> Option<Login> {
        Some(Login::Password(Credentials { username: username.into(), secret: secret.into() }))
    }

    #[test]
    fn credentials_come_from_the_config_file() {
        let auth = STANDARD.encode("me:se:cret");
        let home = Home::new(&format!(
            r#"{{"auths":{{"host:5000":{{"auth":"{auth}"}},
                 "https://index.docker.io/v1/":{{"username":"u","password":"p"}},
                 "https://other.example/v2/":{{"identitytoken":"t"}}, "empty.example":{{}}}}}}"#
        ));
        assert_eq!(home.find("host:5000").unwrap(), password("me", "se:cret"));
        assert_eq!(home.find("docker.io").unwrap(), password("u", "p"));
        assert_eq!(home.find("other.example").unwrap(), Some(Login::Token("t".into())));
        assert_eq!(home.find("empty.example").unwrap(), None);
        assert_eq!(home.find("host").unwrap(), None);
    }

    #[test]
    fn a_helper_for_the_registry_comes_before_the_store_before_the_file() {
        let home = Home::new(
            r#"{"credHelpers":{"a.example":"one"},"credsStore":"two","auths":{"c.example":{"username":"f","password":"p"}}}"#,
        )
        .helper("one", r#"read s; echo "{\"Username\":\"one\",\"Secret\":\"$s\"}""#)
        .helper(
            "two",
            r#"read s; case $s in b.*) echo '{"Username":"<token>","Secret":"t"}';;
               *) echo credentials not found in native keychain; exit 1;; esac"#,
        );
        assert_eq!(home.find("a.example").unwrap(), password("one", "a.example"));
        assert_eq!(home.find("b.example").unwrap(), Some(Login::Token("t".into())));
        assert_eq!(home.find("c.example").unwrap(), password("f", "p"));
        assert_eq!(home.find("d.example").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is() {
        for (config, expected) in [
            (r#"{"auths":{"h":{"auth":"aHVudGVyMg=="}}}"#, "NAME:PASSWORD"),
            (r#"{"credsStore":"absent"}"#, "docker-credential-absent is not in PATH"),
            (r#"{"credsStore":"../x"}"#, "no credential helper's name"),
            ("{", "as JSON"),
        ] {
            let error = format!("{:#}", Home::new(config).find("h").unwrap_err());
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        let home = Home::new(r#"{"credsStore":"bad"}"#).helper("bad", "echo locked >&2; exit 3");
        assert!(format!("{:#}", home.find("h").unwrap_err()).contains("docker-credential-bad failed: locked"));
        assert_eq!(format!("{:?}", password("me", "hunter2")), "Some(Credentials { username: \"me\", .. })");
    }
}
