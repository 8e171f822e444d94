//! Config of the result: the source's document with its own bytes, only `rootfs`, `history` and what was asked for
//! changed.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::patch::patched;
use crate::image::ImageConfig;
use crate::plan::ConfigEdits;

/// Label with the keep set's digest.
pub const LABEL_KEEP_SET: &str = "slim.keep-set";
/// Label with the source's image ID.
pub const LABEL_SOURCE: &str = "slim.source";
/// Label with the digest of all that the result follows from; not there when that is not known, or nothing is verified.
pub const LABEL_INPUTS: &str = "slim.inputs";
/// Label with the level of keeping (`--keep`).
pub const LABEL_LEVEL: &str = "slim.level";
/// Label with this program's version.
pub const LABEL_VERSION: &str = "slim.version";
/// Label, and annotation of the manifest, with the source's name (OCI image-spec `annotations.md`).
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// Annotation of the manifest with the digest of the source's manifest (there, too).
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// What the last entry of a result's history says.
pub const CREATED_BY: &str = "slim build";

/// What the result's labels say of its making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Image ID of the source.
    pub source_id: String,
    /// [`crate::keep::KeepSet`]'s digest.
    pub keep_set: String,
    /// `--keep`: `touched`, `app` or `package`.
    pub level: String,
    /// The source's name, every part spelled out. `None`: it has none.
    pub base_name: Option<String>,
    /// Digest of what it follows from, for [`LABEL_INPUTS`]. `None`: not known, or nothing that anybody may rely on.
    pub inputs: Option<String>,
}

/// The result's config document. How it differs from the source's is for the report to say (`report::config`).
///
/// # Errors
/// When the source document has no object where one is needed.
pub fn build(
    source: &ImageConfig,
    diff_id: &str,
    edits: &ConfigEdits,
    provenance: &Provenance,
) -> Result<Vec<u8>> {
    let mut document = source.value().clone();
    let top = document.as_object_mut().context("the image config is not an object")?;
    let created = epoch_time().unwrap_or_else(|| source.created().to_owned());
    if !created.is_empty() {
        top.insert("created".into(), json!(created));
    }
    top.insert("rootfs".into(), json!({"type": "layers", "diff_ids": [diff_id]}));
    top.insert("history".into(), history(source, &created));
    let config = top.entry("config").or_insert_with(|| json!({}));
    if config.is_null() {
        *config = json!({});
    }
    let config = config.as_object_mut().context("the image config's `config` is not an object")?;
    // An earlier result may be the source now, and what its builder wrote speaks of the source's own base.
    if config.get("Labels").is_some_and(Value::is_object) {
        let labels = object(config, "Labels");
        for name in [LABEL_INPUTS, BASE_NAME, BASE_DIGEST] {
            labels.shift_remove(name);
        }
    }
    let base = provenance.base_name.as_deref();
    if let Some(name) = base {
        object(config, "Labels").insert(BASE_NAME.into(), json!(name));
    }
    // What was asked for beats what is known of the base.
    edit(config, edits);
    let labels = object(config, "Labels");
    let inputs = provenance.inputs.as_deref().map(|inputs| (LABEL_INPUTS, inputs));
    for (key, value) in inputs.into_iter().chain([
        (LABEL_KEEP_SET, provenance.keep_set.as_str()),
        (LABEL_LEVEL, provenance.level.as_str()),
        (LABEL_SOURCE, provenance.source_id.as_str()),
        (LABEL_VERSION, env!("CARGO_PKG_VERSION")),
    ]) {
        labels.insert(key.into(), json!(value));
    }
    Ok(patched(source.text(), source.value(), &document)?.into_bytes())
}

/// Whether an image is as [`build`] makes it. Labels are inherited: one that somebody made from a result has them, and
/// a history that goes on.
pub fn is_result(config: &ImageConfig) -> bool {
    let last = config.value()["history"].as_array().and_then(|history| history.last());
    let is_ours = last.is_some_and(|step| step["created_by"] == CREATED_BY) && config.diff_ids().len() == 1;
    is_ours && config.labels().contains_key(LABEL_KEEP_SET)
}

/// The source's history, every entry without a layer now, and ours.
fn history(source: &ImageConfig, created: &str) -> Value {
    let mut entries: Vec<Value> = source.value()["history"].as_array().cloned().unwrap_or_default();
    for entry in &mut entries {
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("empty_layer".into(), json!(true));
        }
    }
    let mut ours = Map::new();
    if !created.is_empty() {
        ours.insert("created".into(), json!(created));
    }
    ours.insert("created_by".into(), json!(CREATED_BY));
    entries.push(Value::Object(ours));
    Value::Array(entries)
}

/// SOURCE_DATE_EPOCH (the Reproducible Builds specification) as RFC 3339; `None` when it is not set.
fn epoch_time() -> Option<String> {
    let seconds: i64 = std::env::var("SOURCE_DATE_EPOCH").ok()?.parse().ok()?;
    Some(rfc3339(seconds))
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

fn edit(config: &mut Map<String, Value>, edits: &ConfigEdits) {
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(key.to_owned(), value);
        }
    };
    set("Entrypoint", edits.entrypoint.as_ref().map(|argv| json!(argv)));
    // Docker: a new entrypoint without a new command leaves no command that was meant for the old one.
    let cmd = edits.cmd.clone().or_else(|| edits.entrypoint.as_ref().map(|_| Vec::new()));
    set("Cmd", cmd.map(|argv| if argv.is_empty() { Value::Null } else { json!(argv) }));
    set("User", edits.user.as_ref().map(|user| json!(user)));
    set("WorkingDir", edits.workdir.as_ref().map(|dir| json!(dir)));
    set("StopSignal", edits.stop_signal.as_ref().map(|signal| json!(signal)));
    if edits.remove_healthcheck {
        config.shift_remove("Healthcheck");
    }
    edit_env(config, edits);
    edit_keys(config, "ExposedPorts", &with_protocol(&edits.expose), &with_protocol(&edits.remove_expose));
    edit_keys(config, "Volumes", &edits.volumes, &edits.remove_volumes);
    for label in &edits.labels {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        object(config, "Labels").insert(key.to_owned(), json!(value));
    }
    for key in &edits.remove_labels {
        object(config, "Labels").shift_remove(key);
    }
}

fn with_protocol(ports: &[String]) -> Vec<String> {
    let full = |port: &String| if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
    ports.iter().map(full).collect()
}

fn edit_env(config: &mut Map<String, Value>, edits: &ConfigEdits) {
    if edits.env.is_empty() && edits.remove_env.is_empty() {
        return;
    }
    let name_of = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let old = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut env: Vec<String> = old.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
    for name in &edits.remove_env {
        env.retain(|line| name_of(line) != *name);
    }
    for line in &edits.env {
        let name = name_of(line);
        match env.iter_mut().find(|old| name_of(old) == name) {
            Some(old) => *old = line.clone(),
            None => env.push(line.clone()),
        }
    }
    config.insert("Env".into(), json!(env));
}

fn edit_keys(config: &mut Map<String, Value>, field: &str, add: &[String], remove: &[String]) {
    for key in add {
        object(config, field).insert(key.clone(), json!({}));
    }
    for key in remove {
        object(config, field).shift_remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"{"architecture":"amd64","x-unknown":[1,2],"config":{"Env":["A=1","B=2"],"Healthcheck":{"Test":["CMD","x"],"StartInterval":5},"StopSignal":"SIGQUIT","Shell":["/bin/bash","-c"],"OnBuild":["RUN x"]},"created":"2020-01-02T03:04:05Z","history":[{"created_by":"a"},{"created_by":"b","empty_layer":true}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:1","sha256:2"]},"variant":"v2"}"#;

    fn provenance() -> Provenance {
        Provenance {
            source_id: "sha256:s".into(),
            keep_set: "sha256:k".into(),
            level: "touched".into(),
            base_name: Some("host:5000/app:1".into()),
            inputs: Some("sha256:i".into()),
        }
    }

    #[test]
    fn only_rootfs_history_and_labels_change_when_nothing_is_asked() {
        let source = ImageConfig::parse(SOURCE.as_bytes()).unwrap();
        let bytes = build(&source, "sha256:d", &ConfigEdits::default(), &provenance()).unwrap();
        let mut made: Value = serde_json::from_slice(&bytes).unwrap();
        let mut want = source.value().clone();
        assert_eq!(made["rootfs"]["diff_ids"], json!(["sha256:d"]));
        assert_eq!(made["history"].as_array().unwrap().len(), 3);
        for field in ["rootfs", "history"] {
            made[field] = Value::Null;
            want[field] = Value::Null;
        }
        made["config"].as_object_mut().unwrap().remove("Labels");
        assert_eq!(serde_json::to_string(&made).unwrap(), serde_json::to_string(&want).unwrap());
    }

    #[test]
    fn what_does_not_change_keeps_its_bytes() {
        let source = r#"{ "architecture" : "amd64",
  "x-number": [1e3, 1.0, 123456789012345678901234567890], "\u0078-key": "\u00fc\/\ud83d\ude00",
  "config": {"Env" : ["A=\u0041"], "x-other":{ "deep" : 0.10 },"Labels":{"\u0061": "\u0062"} },
  "rootfs": {"type":"layers","diff_ids":["sha256:1"]}, "history": [], "os": "linux" }
"#;
        let config = ImageConfig::parse(source.as_bytes()).unwrap();
        let bytes = build(&config, "sha256:d", &ConfigEdits::default(), &provenance()).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let expected = source
            .replace("sha256:1", "sha256:d")
            .replace("\"history\": []", r#""history": [{"created_by":"slim build"}]"#)
            .replace(
                r#""\u0062"}"#,
                &format!(r#""\u0062","org.opencontainers.image.base.name":"host:5000/app:1","slim.inputs":"sha256:i","slim.keep-set":"sha256:k","slim.level":"touched","slim.source":"sha256:s","slim.version":"{version}"}}"#),
            );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn what_an_earlier_result_followed_from_is_not_taken_over() {
        let source = ImageConfig::parse(SOURCE.as_bytes()).unwrap();
        let bytes = build(&source, "sha256:d", &ConfigEdits::default(), &provenance()).unwrap();
        let made = ImageConfig::parse(&bytes).unwrap();
        assert_eq!(made.labels().get(LABEL_INPUTS).map(String::as_str), Some("sha256:i"));
        let unknown = Provenance { inputs: None, ..provenance() };
        let again = build(&made, "sha256:d", &ConfigEdits::default(), &unknown).unwrap();
        assert_eq!(ImageConfig::parse(&again).unwrap().labels().get(LABEL_INPUTS), None);
    }

    #[test]
    fn labels_of_a_base_speak_of_the_source_or_are_gone() {
        let source = r#"{"config":{"Labels":{"org.opencontainers.image.base.name":"docker.io/library/debian:12","org.opencontainers.image.base.digest":"sha256:d"}},"rootfs":{"diff_ids":["sha256:1"]}}"#;
        let source = ImageConfig::parse(source.as_bytes()).unwrap();
        let named = |edits: &ConfigEdits, base_name: Option<&str>| {
            let provenance = Provenance { base_name: base_name.map(str::to_owned), ..provenance() };
            let labels = ImageConfig::parse(&build(&source, "sha256:d", edits, &provenance).unwrap()).unwrap().labels();
            assert_eq!(labels.get(BASE_DIGEST), None);
            labels.get(BASE_NAME).cloned()
        };
        assert_eq!(named(&ConfigEdits::default(), Some("host:5000/app:1")).as_deref(), Some("host:5000/app:1"));
        assert_eq!(named(&ConfigEdits::default(), None), None);
        let edits = ConfigEdits { labels: vec![format!("{BASE_NAME}=mine")], ..ConfigEdits::default() };
        assert_eq!(named(&edits, Some("host:5000/app:1")).as_deref(), Some("mine"));
    }

    #[test]
    fn a_result_is_known_and_what_was_made_from_one_is_none() {
        let source = ImageConfig::parse(SOURCE.as_bytes()).unwrap();
        let made = build(&source, "sha256:d", &ConfigEdits::default(), &provenance()).unwrap();
        let more = String::from_utf8(made.clone()).unwrap().replace(r#"{"created":"2020-01-02T03:04:05Z","created_by":"slim build"}"#, r#"{"created_by":"slim build"},{"created_by":"RUN x"}"#);
        let is = |bytes: &[u8]| is_result(&ImageConfig::parse(bytes).unwrap());
        assert_eq!((is(SOURCE.as_bytes()), is(&made), is(more.as_bytes())), (false, true, false));
    }

    #[test]
    fn edits_change_what_they_name() {
        let source = ImageConfig::parse(SOURCE.as_bytes()).unwrap();
        let edits = ConfigEdits {
            entrypoint: Some(vec!["/new".into()]),
            env: vec!["B=secret".into(), "C=3".into()],
            remove_env: vec!["A".into()],
            expose: vec!["80".into()],
            remove_healthcheck: true,
            ..ConfigEdits::default()
        };
        let bytes = build(&source, "sha256:d", &edits, &provenance()).unwrap();
        let made: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(made["config"]["Env"], json!(["B=secret", "C=3"]));
        assert_eq!(made["config"]["ExposedPorts"], json!({"80/tcp": {}}));
        assert_eq!(made["config"].get("Healthcheck"), None);
    }

    #[test]
    fn rfc3339_is_the_inverse_of_reading_it() {
        for seconds in [0, 951_865_200, 1_795_466_580, 4_107_542_400, -1] {
            assert_eq!(super::super::source::seconds_of_rfc3339(&rfc3339(seconds)), Some(seconds));
        }
    }
}
