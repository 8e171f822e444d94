//! Config: the image's own JSON (OCI image-spec `config.md`, Docker's extensions included), carried verbatim.
//!
//! Unknown fields survive because the document stays a [`serde_json::Value`] in its original key order, beside its
//! text; the accessors below read the few fields that a run needs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// An image's config document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageConfig {
    value: Value,
    text: String,
}

/// A HEALTHCHECK (Docker's `config.Healthcheck`; durations in nanoseconds there, 0 meaning the default).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// The argv to run; for `CMD-SHELL` it starts with the image's shell.
    pub argv: Vec<String>,
    /// Time between checks; Docker's default is 30 s.
    pub interval: Duration,
    /// Time one check may take; default 30 s.
    pub timeout: Duration,
    /// Time in which failures do not count; default 0 s.
    pub start_period: Duration,
    /// Time between checks during the start period; default 5 s.
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy; default 3.
    pub retries: u32,
}

impl ImageConfig {
    /// Reads a config document.
    ///
    /// # Errors
    /// When the bytes are not a JSON object or `config` is neither an object nor absent.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes).context("read the image config as JSON")?;
        if !value.is_object() {
            bail!("the image config is not a JSON object");
        }
        if !matches!(value.get("config"), None | Some(Value::Null | Value::Object(_))) {
            bail!("the image config's `config` is not a JSON object");
        }
        let text = String::from_utf8(bytes.to_vec()).context("read the image config as UTF-8")?;
        Ok(Self { value, text })
    }

    /// The whole document.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Its text, as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn run(&self, key: &str) -> &Value {
        &self.value["config"][key]
    }

    fn string(value: &Value) -> &str {
        value.as_str().unwrap_or_default()
    }

    fn list(value: &Value) -> Vec<String> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    fn keys(value: &Value) -> Vec<String> {
        let object = value.as_object();
        object.map(|o| o.keys().cloned().collect()).unwrap_or_default()
    }

    /// `architecture`, as Go names it (`amd64`, `arm64`).
    pub fn architecture(&self) -> &str {
        Self::string(&self.value["architecture"])
    }

    /// `os`.
    pub fn os(&self) -> &str {
        Self::string(&self.value["os"])
    }

    /// `created`, RFC 3339; empty when absent.
    pub fn created(&self) -> &str {
        Self::string(&self.value["created"])
    }

    /// USER as written: empty, name, uid, `name:group`, `uid:gid`.
    pub fn user(&self) -> &str {
        Self::string(self.run("User"))
    }

    /// ENV as `NAME=value` lines.
    pub fn env(&self) -> Vec<String> {
        Self::list(self.run("Env"))
    }

    /// ENTRYPOINT.
    pub fn entrypoint(&self) -> Vec<String> {
        Self::list(self.run("Entrypoint"))
    }

    /// CMD.
    pub fn cmd(&self) -> Vec<String> {
        Self::list(self.run("Cmd"))
    }

    /// WORKDIR; `/` when absent.
    pub fn workdir(&self) -> &str {
        match Self::string(self.run("WorkingDir")) {
            "" => "/",
            dir => dir,
        }
    }

    /// SHELL; Docker's default `/bin/sh -c` when absent.
    pub fn shell(&self) -> Vec<String> {
        match Self::list(self.run("Shell")) {
            shell if shell.is_empty() => vec!["/bin/sh".into(), "-c".into()],
            shell => shell,
        }
    }

    /// VOLUME paths, in the document's order.
    pub fn volumes(&self) -> Vec<String> {
        Self::keys(self.run("Volumes"))
    }

    /// EXPOSE, as `80/tcp`, in the document's order.
    pub fn exposed_ports(&self) -> Vec<String> {
        Self::keys(self.run("ExposedPorts"))
    }

    /// STOPSIGNAL as written; `SIGTERM` when absent.
    pub fn stop_signal(&self) -> &str {
        match Self::string(self.run("StopSignal")) {
            "" => "SIGTERM",
            signal => signal,
        }
    }

    /// StopTimeout; Docker's default of 10 s when absent.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.run("StopTimeout").as_u64().unwrap_or(10))
    }

    /// LABELs.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let Some(labels) = self.run("Labels").as_object() else {
            return BTreeMap::new();
        };
        let pair = |(key, value): (&String, &Value)| (key.clone(), Self::string(value).to_owned());
        labels.iter().map(pair).collect()
    }

    /// `rootfs.diff_ids`, lowest layer first.
    pub fn diff_ids(&self) -> Vec<String> {
        Self::list(&self.value["rootfs"]["diff_ids"])
    }

    /// HEALTHCHECK; `None` when there is none or it is `NONE`.
    pub fn healthcheck(&self) -> Option<Healthcheck> {
        let check = self.run("Healthcheck");
        let test = Self::list(&check["Test"]);
        let (how, args) = test.split_first()?;
        let argv = match how.as_str() {
            "CMD" => args.to_vec(),
            "CMD-SHELL" => [self.shell().as_slice(), args].concat(),
            _ => return None,
        };
        let nanos = |key: &str, default: u64| match check[key].as_u64() {
            None | Some(0) => Duration::from_secs(default),
            Some(n) => Duration::from_nanos(n),
        };
        Some(Healthcheck {
            argv,
            interval: nanos("Interval", 30),
            timeout: nanos("Timeout", 30),
            start_period: nanos("StartPeriod", 0),
            start_interval: nanos("StartInterval", 5),
            retries: check["Retries"].as_u64().filter(|n| *n > 0).map_or(3, |n| n.min(1000) as u32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_key_order_survive() {
        let text = r#"{"zebra":1,"architecture":"amd64","config":{"Weird":[1],"Env":["A=b"]}}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(config.value()).unwrap(), text);
        assert_eq!(config.env(), ["A=b"]);
        assert_eq!(config.stop_signal(), "SIGTERM");
    }

    #[test]
    fn a_healthcheck_runs_in_the_images_shell() {
        let text = r#"{"config":{"Shell":["/bin/bash","-c"],"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000}}}"#;
        let check = ImageConfig::parse(text.as_bytes()).unwrap().healthcheck().unwrap();
        assert_eq!(check.argv, ["/bin/bash", "-c", "true"]);
        assert_eq!(check.interval, Duration::from_secs(1));
        assert_eq!(check.retries, 3);
    }

    #[test]
    fn what_is_not_a_config_is_refused() {
        for text in ["[]", "{\"config\":3}", "{"] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
