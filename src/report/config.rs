//! Config changes: how a new image's config differs from the original's, without values of the environment.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::model::ConfigChange;
use super::secrets::{MASK, Redactor, is_secret_name};
use crate::image::ImageConfig;

/// Top-level fields that every new image changes.
const ALWAYS: &[&str] = &["created", "history", "rootfs", "config"];

/// Objects that are compared member by member.
const MAPS: &[&str] = &["ExposedPorts", "Labels", "Volumes"];

/// The changed fields, in the order of their names.
pub fn changes(before: &ImageConfig, after: &ImageConfig, redactor: &Redactor) -> Vec<ConfigChange> {
    compare(&settings(before, redactor), &settings(after, redactor))
}

/// All fields of a config that do not always change, by the names that reports have for them.
pub fn settings(config: &ImageConfig, redactor: &Redactor) -> BTreeMap<String, Field> {
    let empty = Map::new();
    let all = config.value().as_object().unwrap_or(&empty);
    let kept = all.iter().filter(|(name, _)| !ALWAYS.contains(&name.as_str()));
    let mut settings = fields(kept.map(|(name, value)| (name.clone(), value)), redactor);
    let run = config.value()["config"].as_object().unwrap_or(&empty);
    settings.extend(fields(flat(run).into_iter(), redactor));
    for line in config.env() {
        let (name, value) = line.split_once('=').unwrap_or((&line, ""));
        settings.insert(format!("Env.{name}"), Field { shown: "set".to_owned(), value: value.to_owned() });
    }
    settings
}

/// Where two lists of fields differ, in the order of their names.
pub fn compare(old: &BTreeMap<String, Field>, new: &BTreeMap<String, Field>) -> Vec<ConfigChange> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().filter_map(|name| change(name, old.get(name), new.get(name))).collect()
}

/// A field as it is compared and as it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    /// As it is compared; may be a secret.
    pub value: String,
    /// As it is shown.
    pub shown: String,
}

fn change(name: &str, old: Option<&Field>, new: Option<&Field>) -> Option<ConfigChange> {
    if old.map(|field| &field.value) == new.map(|field| &field.value) {
        return None;
    }
    let shown = |field: Option<&Field>| field.map(|field| field.shown.clone());
    let mut to = shown(new);
    if name.starts_with("Env.") && old.is_some() && new.is_some() {
        to = Some("set to another value".to_owned());
    }
    Some(ConfigChange { field: name.to_owned(), from: shown(old), to })
}

/// The run settings with [`MAPS`] spread out, without the environment and without what is absent or null.
fn flat(run: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut out = Vec::new();
    for (name, value) in run {
        match value.as_object() {
            _ if name == "Env" => {}
            Some(members) if MAPS.contains(&name.as_str()) => {
                out.extend(members.iter().map(|(member, value)| (format!("{name}.{member}"), value)));
            }
            _ => out.push((name.clone(), value)),
        }
    }
    out
}

fn fields<'a>(from: impl Iterator<Item = (String, &'a Value)>, redactor: &Redactor) -> BTreeMap<String, Field> {
    from.filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let label = name.strip_prefix("Labels.");
            let shown = match label {
                Some(label) if is_secret_name(label) => MASK.to_owned(),
                _ => shown(value, redactor).to_string(),
            };
            (name, Field { value: value.to_string(), shown })
        })
        .collect()
}

/// The value with secrets masked; lists of texts are command lines.
fn shown(value: &Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => Value::String(redactor.text(text)),
        Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            match words {
                Some(words) => redactor.arguments(&words).into(),
                None => items.iter().map(|item| shown(item, redactor)).collect(),
            }
        }
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shown(value, redactor))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_fields_and_never_show_the_environment() {
        let config = |text: &str| ImageConfig::parse(text.as_bytes()).unwrap();
        let before = config(
            r#"{"created":"a","config":{"Env":["A=one","PW=hunter2","GONE=x"],"Cmd":["a"],"Labels":{"v":"1"},"User":""}}"#,
        );
        let after = config(
            r#"{"created":"b","config":{"Env":["A=two","PW=hunter2"],"Cmd":["a","--password=hunter2"],"Labels":{"v":"1","api-token":"hunter2"},"User":""}}"#,
        );
        let changes = changes(&before, &after, &Redactor::new());
        let lines: Vec<String> = changes
            .iter()
            .map(|c| format!("{} {} {}", c.field, c.from.as_deref().unwrap_or("-"), c.to.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(
            lines,
            [
                r#"Cmd ["a"] ["a","--password=***"]"#,
                "Env.A set set to another value",
                "Env.GONE set -",
                "Labels.api-token - ***",
            ]
        );
    }
}
