//! File: `slim.toml` as text, understood where it is asked for its settings. What is wrong is said with line and column.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Flag, Setting, Vars, absent, word};
use crate::cli::UsageError;
use crate::image::reference::Reference;

/// The file that is looked for.
const FILE: &str = "slim.toml";

/// A section of the settings file for one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The image.
    pub name: String,
    /// Where the section begins.
    pub origin: String,
    at: usize,
    settings: Vec<Setting>,
}

impl Section {
    /// Whether it sets this flag.
    pub fn sets(&self, flag: &str) -> bool {
        self.settings.iter().any(|setting| setting.flag == flag)
    }
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
        let (build, sections) = self.read(known)?;
        let target = build.iter().find(|setting| setting.flag == "target");
        let named = image.map(str::to_owned).or_else(|| Some(value_of(target?)));
        let own = sections.into_iter().filter(|one| named.as_ref().is_some_and(|named| same_image(&one.name, named)));
        Ok(vec![own.flat_map(|section| section.settings).collect(), build])
    }

    /// The images that have sections of their own, in the order of the file.
    ///
    /// # Errors
    /// As [`SettingsFile::layers`], and when there is none, or two are for the same image.
    pub fn images(&self, known: &[Flag]) -> Result<Vec<Section>, UsageError> {
        let how = "write a section [image.\"NAME\"] for each";
        if self.path.as_os_str().is_empty() {
            return Err(UsageError::new(format!("--all: there is no {FILE} that lists images")).hint(how));
        }
        let sections = self.read(known)?.1;
        if sections.is_empty() {
            return Err(UsageError::new(format!("--all: {} lists no images", self.path.display())).hint(how));
        }
        for (number, section) in sections.iter().enumerate() {
            let wrong = |text: String| Err(self.wrong(section.at, text));
            if section.name.is_empty() || section.name.starts_with('-') {
                return wrong(format!("{:?} is no image; allowed are names, IDs and transports as oci:DIR", section.name));
            }
            if let Some(first) = sections[..number].iter().find(|first| same_image(&first.name, &section.name)) {
                return wrong(format!("{:?} has a section already, at {}", section.name, first.origin));
            }
        }
        Ok(sections)
    }

    /// The settings of `[build]`, and the sections of images in the order of the file.
    fn read(&self, known: &[Flag]) -> Result<(Vec<Setting>, Vec<Section>), UsageError> {
        let document = DeTable::parse(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.wrong(at, format!("not TOML: {}", error.message().trim()))
        })?;
        let (mut build, mut sections) = (Vec::new(), Vec::new());
        for (key, value) in document.get_ref() {
            let table = value.get_ref().as_table();
            match (key.get_ref().as_ref(), table) {
                ("build", Some(table)) => build = self.settings(table, known)?,
                ("image", Some(table)) => sections = self.sections(table, known)?,
                (name, _) => {
                    let text = format!("there is no section `{name}`; allowed are [build] and [image.\"NAME\"]");
                    return Err(self.wrong(key.span().start, text));
                }
            }
        }
        sections.sort_by_key(|section| section.at);
        Ok((build, sections))
    }

    fn sections(&self, table: &DeTable<'_>, known: &[Flag]) -> Result<Vec<Section>, UsageError> {
        let one = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let (name, at): (&std::borrow::Cow<'_, str>, _) = (key.get_ref(), key.span().start);
            let Some(table) = value.get_ref().as_table() else {
                return Err(self.wrong(at, format!("write [image.\"NAME\"], with `{name}` below it")));
            };
            if let Some((key, _)) = table.iter().find(|(key, _)| key.get_ref() == "target") {
                return Err(self.wrong(key.span().start, "`target` has no place here: the section's name is the image"));
            }
            let settings = self.settings(table, known)?;
            Ok(Section { name: name.to_string(), origin: self.place(at), at, settings })
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
