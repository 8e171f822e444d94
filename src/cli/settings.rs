//! Settings: flags that were not typed but set, by variables and by `slim.toml`. Each becomes the words that
//! would have been typed, so that there is one grammar and one place that checks it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{UsageError, absent, is_switch};
use crate::image::reference::Reference;

/// Environment variables.
pub type Vars = BTreeMap<String, String>;

/// Where flags that were not typed come from: long name to `SLIM_TAG` or `slim.toml:3:1`.
pub type Origins = BTreeMap<String, String>;

/// The file that is looked for.
const FILE: &str = "slim.toml";

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

/// The flags of a command (built, so that it has those that all commands share).
pub fn flags(command: &clap::Command) -> Vec<Flag> {
    let settable = |arg: &&clap::Arg| !matches!(arg.get_id().as_str(), "help" | "version");
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

/// `slim.toml`, read as text; empty when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsFile {
    path: PathBuf,
    text: String,
}

impl SettingsFile {
    /// The file that was named (typed, then by variable), else `slim.toml` of the current directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(typed: Option<&Path>, vars: &Vars) -> Result<Self, UsageError> {
        let variable = ["SLIM_CONFIG", "DSLIM_CONFIG"].iter().find_map(|name| vars.get(*name));
        let named = typed.map(Path::to_path_buf).or_else(|| variable.map(PathBuf::from));
        let path = match named {
            Some(path) if path.as_os_str() == "off" => return Ok(Self::default()),
            Some(path) => path,
            None if Path::new(FILE).exists() => PathBuf::from(FILE),
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UsageError::new(format!("cannot read the settings file {}: {error}", path.display())))?;
        // Offsets of errors count from here, so the mark goes before anything else looks at the text.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Ok(Self { path, text })
    }

    fn place(&self, offset: usize) -> String {
        let before = &self.text[..offset.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }

    fn wrong(&self, at: usize, text: impl Into<String>) -> UsageError {
        UsageError::new(format!("{}: {}", self.place(at), text.into()))
    }

    /// Two layers: the settings of the image, then those of `[build]`.
    ///
    /// # Errors
    /// When there is something in it that is no setting: says line and column.
    pub fn layers(&self, known: &[Flag], image: Option<&str>) -> Result<Vec<Vec<Setting>>, UsageError> {
        let document = DeTable::parse(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.wrong(at, format!("not TOML: {}", error.message().trim()))
        })?;
        let mut build = Vec::new();
        let mut images = Vec::new();
        for (key, value) in document.get_ref() {
            let table = value.get_ref().as_table();
            match (key.get_ref().as_ref(), table) {
                ("build", Some(table)) => build = self.settings(table, known)?,
                ("image", Some(table)) => images = self.images(table, known)?,
                (name, _) => {
                    let text = format!("there is no section `{name}`; allowed are [build] and [image.\"NAME\"]");
                    return Err(self.wrong(key.span().start, text));
                }
            }
        }
        let target = build.iter().find(|setting| setting.flag == "target");
        let named = image.map(str::to_owned).or_else(|| Some(value_of(target?)));
        let own = images.into_iter().filter(|(name, _)| named.as_ref().is_some_and(|named| same_image(name, named)));
        Ok(vec![own.flat_map(|(_, settings)| settings).collect(), build])
    }

    fn images(&self, table: &DeTable<'_>, known: &[Flag]) -> Result<Vec<(String, Vec<Setting>)>, UsageError> {
        let one = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            match value.get_ref().as_table() {
                Some(table) => Ok((name.to_string(), self.settings(table, known)?)),
                None => Err(self.wrong(key.span().start, format!("write [image.\"NAME\"], with `{name}` below it"))),
            }
        };
        table.iter().map(one).collect()
    }

    fn settings(&self, table: &DeTable<'_>, known: &[Flag]) -> Result<Vec<Setting>, UsageError> {
        let mut found = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().replace('_', "-");
            let settable = |flag: &&Flag| flag.name == name && name != "config";
            let Some(flag) = known.iter().find(settable) else {
                return Err(self.unknown(key.span().start, &name, known));
            };
            let values = self.values(flag, value)?;
            let words = values.iter().map(|value| word(flag, value)).collect();
            found.push(Setting { flag: name, origin: self.place(key.span().start), words });
        }
        Ok(found)
    }

    fn unknown(&self, at: usize, name: &str, known: &[Flag]) -> UsageError {
        let error = self.wrong(at, format!("there is no setting `{name}`"));
        if let Some(instead) = absent::instead_of(name) {
            return error.hint(instead);
        }
        let near = known.iter().map(|flag| (distance(name, &flag.name), &flag.name)).min();
        match near {
            Some((steps, near)) if steps <= 3 => error.hint(format!("did you mean `{near}`?")),
            _ => error.hint("allowed are the flags that `slim build --help` lists, without dashes in front"),
        }
    }

    fn values(&self, flag: &Flag, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, UsageError> {
        let at = value.span().start;
        match (value.get_ref(), flag.list) {
            (DeValue::Array(items), true) => items.iter().map(|item| self.text(flag, item)).collect(),
            (DeValue::Table(table), true) => {
                let joint = flag.joint.ok_or_else(|| self.wrong(at, format!("`{}` is a list of texts", flag.name)))?;
                let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                    let key: &std::borrow::Cow<'_, str> = key.get_ref();
                    Ok(format!("{key}{joint}{}", self.text(flag, value)?))
                };
                table.iter().map(entry).collect()
            }
            _ => Ok(vec![self.text(flag, value)?]),
        }
    }

    /// One value as it would be typed. An array of texts is a command line, typed as JSON.
    fn text(&self, flag: &Flag, value: &Spanned<DeValue<'_>>) -> Result<String, UsageError> {
        let at = value.span().start;
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Boolean(on) => Ok(on.to_string()),
            DeValue::Integer(number) => Ok(number.as_str().to_owned()),
            DeValue::Float(number) => Ok(number.as_str().to_owned()),
            DeValue::Array(items) if !flag.switch => {
                let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
                let texts = texts.ok_or_else(|| self.wrong(at, format!("`{}` needs texts in its array", flag.name)))?;
                Ok(serde_json::Value::from(texts).to_string())
            }
            DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_) => {
                let wanted = if flag.switch { "true or false" } else { "a text" };
                let kind = value.get_ref().type_str();
                Err(self.wrong(at, format!("`{}` takes {wanted}, not a TOML {kind}", flag.name)))
            }
        }
    }
}

fn value_of(setting: &Setting) -> String {
    let first = setting.words.first().and_then(|word| word.split_once('='));
    first.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

fn same_image(a: &str, b: &str) -> bool {
    let full = |text: &str| Reference::parse(text).map(|reference| reference.normalised());
    a == b || matches!((full(a), full(b)), (Ok(a), Ok(b)) if a == b)
}

/// How many letters have to be added, removed or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
