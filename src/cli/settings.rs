//! Settings: flags that were not typed but set, by variables and by `slim.toml`. Each becomes the words that
//! would have been typed, so that there is one grammar and one place that checks it.

use std::collections::{BTreeMap, BTreeSet};

use super::{UsageError, absent, is_switch};

mod file;

pub use file::{Section, SettingsFile};

/// Environment variables.
pub type Vars = BTreeMap<String, String>;

/// Where flags that were not typed come from: long name to `SLIM_TAG` or `slim.toml:3:1`.
pub type Origins = BTreeMap<String, String>;

/// Flags of which the highest named one silences the others.
const EXCLUSIVE: &[&[&str]] = &[
    &["image", "target", "dockerfile"],
    &["args", "cmd"],
    &["http-probe", "http-probe-off"],
    &["json", "quiet", "progress"],
    &["registry-secret", "registry-secret-stdin"],
];

/// Variables of older minimizers whose names do not follow from the flag.
const OLD_NAMES: &[(&str, &str)] = &[
    ("add-host", "DSLIM_RC_ETC_HOSTS_MAP"),
    ("cmd", "DSLIM_RC_CMD"),
    ("copy-meta-artifacts", "DSLIM_CP_META_ARTIFACTS"),
    ("dns", "DSLIM_RC_DNS"),
    ("dockerfile", "DSLIM_BUILD_DOCKERFILE"),
    ("dockerfile-context", "DSLIM_BUILD_DOCKERFILE_CTX"),
    ("entrypoint", "DSLIM_RC_ENTRYPOINT"),
    ("env", "DSLIM_RC_ENV"),
    ("env-file", "DSLIM_RC_ENV_FILE"),
    ("exec", "DSLIM_RC_EXE"),
    ("exec-file", "DSLIM_RC_EXE_FILE"),
    ("expose", "DSLIM_RC_EXPOSE"),
    ("hostname", "DSLIM_RC_HOSTNAME"),
    ("http-probe-apispec", "DSLIM_HTTP_PROBE_API_SPEC"),
    ("http-probe-apispec-file", "DSLIM_HTTP_PROBE_API_SPEC_FILE"),
    ("image-overrides", "DSLIM_TARGET_OVERRIDES"),
    ("label", "DSLIM_RC_LABEL"),
    ("link", "DSLIM_RC_LINK"),
    ("network", "DSLIM_RC_NET"),
    ("remove-env", "DSLIM_RM_ENV"),
    ("remove-expose", "DSLIM_RM_EXPOSE"),
    ("remove-label", "DSLIM_RM_LABEL"),
    ("remove-volume", "DSLIM_RM_VOLUME"),
    ("tag", "DSLIM_TARGET_TAG"),
    ("tag-fat", "DSLIM_TARGET_TAG_FAT"),
    ("user", "DSLIM_RC_USER"),
    ("volume", "DSLIM_RC_VOLUME"),
    ("workdir", "DSLIM_RC_WORKDIR"),
];

/// Lists that were one text in older minimizers: their variables are not split at commas.
const WHOLE: &[&str] = &["exec", "exec-sh", "host-exec", "http-probe-cmd", "before-run"];

/// A flag that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Long name, without dashes.
    pub name: String,
    /// Its variables, the first that is set counts: `SLIM_...` before `DSLIM_...`.
    pub vars: Vec<String>,
    /// Whether it can be repeated.
    pub list: bool,
    /// Whether it is on or off.
    pub switch: bool,
    /// How an entry of a table becomes a value: `=` for NAME=VALUE, `: ` for headers; `None` for no tables.
    joint: Option<&'static str>,
}

/// A flag that is set, as the words that say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Long name.
    pub flag: String,
    /// Where it comes from.
    pub origin: String,
    /// `--name=value`, one for each value.
    pub words: Vec<String>,
}

impl Setting {
    /// The values alone.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.words.iter().filter_map(|word| word.split_once('=')).map(|(_, value)| value)
    }
}

/// The flags of a command (built, so that it has those that all commands share).
pub fn flags(command: &clap::Command) -> Vec<Flag> {
    // Whether one image is meant or all is for the command line to say, and so is what only has the name of a flag
    // of builds.
    let settable = |arg: &&clap::Arg| {
        let id = arg.get_id().as_str();
        !matches!(id, "help" | "version" | "all") && !id.starts_with("own_")
    };
    command.get_arguments().filter(settable).filter_map(flag).collect()
}

fn flag(arg: &clap::Arg) -> Option<Flag> {
    let name = arg.get_long()?.to_owned();
    let mut names = vec![name.clone()];
    names.extend(arg.get_all_aliases().unwrap_or_default().into_iter().map(str::to_owned));
    let variable = |prefix: &str, name: &String| format!("{prefix}{}", name.to_uppercase().replace('-', "_"));
    let mut vars: Vec<String> = names.iter().map(|name| variable("SLIM_", name)).collect();
    vars.extend(names.iter().map(|name| variable("DSLIM_", name)));
    vars.extend(OLD_NAMES.iter().filter(|(new, _)| *new == name).map(|(_, old)| (*old).to_owned()));
    let value_name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let joint = match value_name {
        "NAME: VALUE" => Some(": "),
        named if named.starts_with("NAME") && named.contains('=') => Some("="),
        _ => None,
    };
    let list = matches!(arg.get_action(), clap::ArgAction::Append);
    Some(Flag { name, vars, list, switch: is_switch(arg), joint })
}

/// Everything that is set and that nothing higher decides. `file` has the layers of the settings file, the
/// highest first.
pub fn gather(
    known: &[Flag],
    said: &BTreeSet<String>,
    vars: &Vars,
    file: Vec<Vec<Setting>>,
) -> Vec<Setting> {
    let by_vars = |prefix: &str| known.iter().filter_map(|flag| from_vars(flag, vars, prefix)).collect();
    let mut layers: Vec<Vec<Setting>> = vec![by_vars("SLIM_"), by_vars("DSLIM_")];
    layers.extend(file);
    let mut decided = said.clone();
    let mut found = Vec::new();
    for layer in layers {
        let silent: BTreeSet<&str> = EXCLUSIVE
            .iter()
            .filter(|group| group.iter().any(|name| decided.contains(*name)))
            .flat_map(|group| group.iter().copied())
            .collect();
        let fresh = |setting: &Setting| !decided.contains(&setting.flag) && !silent.contains(setting.flag.as_str());
        let layer: Vec<Setting> = layer.into_iter().filter(fresh).collect();
        decided.extend(layer.iter().map(|setting| setting.flag.clone()));
        found.extend(layer);
    }
    // The settings file itself was found already.
    found.retain(|setting| setting.flag != "config" && known.iter().any(|flag| flag.name == setting.flag));
    found
}

/// What is set for some flags of `slim build` and an image, by variables and the settings file.
///
/// # Errors
/// When the settings file cannot be read, or has something in it that is no setting.
pub fn of_image(typed: Option<&std::path::Path>, vars: &Vars, image: &str, names: &[&str]) -> Result<Vec<Setting>, UsageError> {
    let mut grammar = super::command();
    grammar.build();
    let known = grammar.find_subcommand("build").map(flags).unwrap_or_default();
    let layers = SettingsFile::find(typed, vars)?.layers(&known, Some(image))?;
    let wanted: Vec<Flag> = known.into_iter().filter(|flag| names.contains(&flag.name.as_str())).collect();
    Ok(gather(&wanted, &BTreeSet::new(), vars, layers))
}

/// Variables with our prefix that name no flag: a warning for each.
pub fn strangers(known: &[Flag], vars: &Vars) -> Vec<String> {
    let ours = |name: &&String| {
        (name.starts_with("SLIM_") && !name.starts_with("SLIM_TEST_") && !name.starts_with("SLIM_TARGET_"))
            || name.starts_with("DSLIM_")
    };
    // Read where directories are looked for.
    let ours = |name: &&String| ours(name) && name.as_str() != "SLIM_CACHE_DIR";
    let build = super::command();
    let mut all = known.to_vec();
    all.extend(build.find_subcommand("build").map(flags).unwrap_or_default());
    let unknown = |name: &&String| !all.iter().any(|flag| flag.vars.contains(name));
    vars.keys().filter(ours).filter(unknown).map(|name| stranger(name)).collect()
}

fn stranger(variable: &str) -> String {
    let bare = variable.trim_start_matches("DSLIM_").trim_start_matches("SLIM_");
    match absent::instead_of(&bare.to_lowercase().replace('_', "-")) {
        Some(instead) => format!("{variable} has no effect: {instead}"),
        None => format!("{variable} has no effect: no flag has that name"),
    }
}

fn from_vars(flag: &Flag, vars: &Vars, prefix: &str) -> Option<Setting> {
    let set = |name: &&String| name.starts_with(prefix) && vars.get(*name).is_some_and(|value| !value.is_empty());
    let name = flag.vars.iter().find(set)?;
    let text = vars.get(name)?;
    let values = match flag.list {
        true => list(flag, text, prefix == "DSLIM_"),
        false => vec![text.clone()],
    };
    let words = values.iter().map(|value| word(flag, value)).collect();
    Some(Setting { flag: flag.name.clone(), origin: name.clone(), words })
}

fn word(flag: &Flag, value: &str) -> String {
    format!("--{}={value}", flag.name)
}

/// A list in a variable: a JSON array of texts, or one value to a line; commas too where they always were.
fn list(flag: &Flag, text: &str, commas: bool) -> Vec<String> {
    if let Ok(values) = serde_json::from_str::<Vec<String>>(text) {
        return values;
    }
    let whole = WHOLE.contains(&flag.name.as_str()) || flag.name.ends_with("-file");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let split = |line: &str| match commas && !whole {
        true => line.split(',').map(|part| part.trim().to_owned()).collect(),
        false => vec![line.to_owned()],
    };
    lines.flat_map(split).collect()
}
