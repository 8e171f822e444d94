//! Secrets: what looks like one, in the files of any layer, in the history and in the environment. A value leaves this
//! module as its first characters only; the redactor that is made here masks it wherever else it stands.

use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use super::model::{Place, Secret, Slimming};
use super::rules::{Hit, Rules};
use crate::image::{ImageConfig, ImagePath};
use crate::report::Redactor;
use crate::report::secrets::{MASK, is_secret_name};

/// Longer files are not searched, only their names are.
pub const MAX_TEXT: u64 = 1 << 20;
/// So many are told, of one image.
pub const MOST: usize = 1000;
/// Most characters of a value that are shown.
const SHOWN: usize = 4;
/// Values that are longer are masked elsewhere by their beginning.
const LEARNT: usize = 4096;

/// Finds secrets, and remembers their values to mask them.
pub struct Finder {
    rules: Rules,
    redactor: Redactor,
    /// All that were found.
    pub found: Vec<Secret>,
    /// How many more there were than are told.
    pub more: u64,
}

impl Finder {
    /// Nothing found yet.
    ///
    /// # Errors
    /// Never: a test reads the rules.
    pub fn new() -> Result<Self> {
        Ok(Self { rules: Rules::new()?, redactor: Redactor::new(), found: Vec::new(), more: 0 })
    }

    /// Looks at a file of a layer; `text` is its content, `None` where that is too long.
    pub fn file(&mut self, path: &ImagePath, layer: u64, text: Option<&[u8]>) {
        // What has zeros is no text.
        let text = text.filter(|text| !text.contains(&0));
        let mut hits = self.rules.of_path(path.as_bytes());
        hits.extend(text.map(|text| self.rules.of_file(path.as_bytes(), text)).unwrap_or_default());
        // The content says more than the name of a key does.
        let named_too = hits.iter().any(|hit| hit.rule.name == "private-key");
        hits.retain(|hit| !(named_too && hit.rule.name == "ssh-key"));
        let secrets: Vec<(Secret, Vec<u8>)> = hits.into_iter().map(|hit| {
            let line = hit.at.zip(text).map(|(at, text)| 1 + text[..at].iter().filter(|b| **b == b'\n').count() as u64);
            (Secret { path: Some(path.clone()), line, layer: Some(layer), ..of_hit(&hit, Place::File) }, hit.value)
        }).collect();
        secrets.into_iter().for_each(|(secret, value)| self.add(secret, &value));
    }

    /// Whether a rule asks for the content of a file because of its name.
    pub fn is_suspect(&self, path: &ImagePath) -> bool {
        self.rules.asks_for(path.as_bytes())
    }

    /// Looks at the environment, the labels and the history of a config. `layers` are those that the entries of the
    /// history made, from 1.
    pub fn config(&mut self, config: &ImageConfig, layers: &[Option<u64>]) {
        for line in config.env() {
            self.text(&line, Place::Environment, None);
        }
        for (name, value) in config.labels() {
            self.text(&format!("{name}={value}"), Place::Label, None);
        }
        let history = config.value()["history"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (at, entry) in history.iter().enumerate() {
            for field in ["created_by", "comment", "author"] {
                let text = entry[field].as_str().unwrap_or_default();
                self.text(text, Place::History, layers.get(at).copied().flatten());
            }
        }
        // What is not taken for one by any rule is still not to be shown.
        self.redactor.learn_env(config.env());
    }

    /// The text with every secret masked.
    pub fn masked(&self, text: &str) -> String {
        self.redactor.text(text)
    }

    /// A command line with every secret masked.
    pub fn masked_words(&self, words: &[String]) -> Vec<String> {
        self.redactor.arguments(words)
    }

    fn text(&mut self, text: &str, place: Place, layer: Option<u64>) {
        let name = match place {
            Place::Environment | Place::Label => text.split_once('=').map(|(name, _)| name.to_owned()),
            Place::File | Place::History => None,
        };
        let hits = self.rules.of_text(text);
        let mut secrets: Vec<(Secret, Vec<u8>)> = hits
            .into_iter()
            .map(|hit| (Secret { name: name.clone(), layer, ..of_hit(&hit, place) }, hit.value))
            .collect();
        for found in VARIABLE.captures_iter(text) {
            let (variable, value) = (&found["name"], found["value"].trim_matches(['"', '\'']));
            let known = secrets.iter().any(|(_, other)| value.as_bytes().windows(other.len().max(1)).any(|part| part == other));
            if is_variable_of_secret(variable) && is_value(value) && !known {
                let secret = Secret {
                    rule: "variable".to_owned(),
                    description: "variable that is named like a secret".to_owned(),
                    name: Some(variable.to_owned()),
                    shown: shown(value.as_bytes()),
                    layer,
                    ..empty(place)
                };
                secrets.push((secret, value.as_bytes().to_vec()));
            }
        }
        secrets.into_iter().for_each(|(secret, value)| self.add(secret, &value));
    }

    fn add(&mut self, secret: Secret, value: &[u8]) {
        let value = String::from_utf8_lossy(&value[..value.len().min(LEARNT)]).into_owned();
        // Of a file nothing but its path is shown: what is in the config is masked, however much of it there is.
        if secret.place != Place::File || self.found.len() < MOST {
            self.redactor.learn(&value);
        }
        if self.found.len() == MOST {
            self.more += 1;
        } else if !self.found.contains(&secret) {
            self.found.push(secret);
        }
    }
}

/// `NAME=value` in an instruction.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::unwrap_used, reason = "a constant, which every test of this module compiles")]
    Regex::new(r#"(?:^|[\s;&|])(?P<name>[A-Za-z_][A-Za-z0-9_.]*)=(?P<value>"[^"]*"|'[^']*'|[^\s;&|]+)"#).unwrap()
});

/// Whether a variable is named like a secret. Keys that are named after those who sign packages are fingerprints.
fn is_variable_of_secret(name: &str) -> bool {
    const PUBLIC: &[&str] = &["gpg", "pgp", "public", "fingerprint", "keyserver", "keyring", "sha256"];
    let lower = name.to_ascii_lowercase();
    is_secret_name(name) && !PUBLIC.iter().any(|part| lower.contains(part))
}

/// Whether it may be a secret itself: no switch, no path, no other variable.
fn is_value(value: &str) -> bool {
    value.len() >= 6 && !value.starts_with(['/', '$', '<', '{', '-']) && !value.contains("$(") && value != MASK
}

fn empty(place: Place) -> Secret {
    Secret {
        package: None,
        rule: String::new(),
        description: String::new(),
        place,
        path: None,
        name: None,
        line: None,
        layer: None,
        gone_in: None,
        replaced: false,
        shown: String::new(),
        slimming: Slimming::default(),
    }
}

fn of_hit(hit: &Hit<'_>, place: Place) -> Secret {
    Secret { rule: hit.rule.name.clone(), description: hit.rule.description.clone(), shown: shown(&hit.value), ..empty(place) }
}

/// The first characters of a value, and no more than a quarter of it.
fn shown(value: &[u8]) -> String {
    if value.is_empty() {
        return String::new();
    }
    let start = value.iter().take(SHOWN.min(value.len() / 4)).take_while(|b| b.is_ascii_graphic());
    format!("{}{MASK}", start.map(|b| char::from(*b)).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str) -> Finder {
        let mut finder = Finder::new().unwrap();
        finder.config(&ImageConfig::parse(config.as_bytes()).unwrap(), &[Some(1)]);
        finder
    }

    #[test]
    fn a_value_shows_four_characters_at_most_and_a_quarter_of_it() {
        for (value, expected) in [("", ""), ("abc", "***"), ("abcdefgh", "ab***"), ("abcdefghijklmnopqrstuvwxyz", "abcd***"), ("\u{1b}[2Jabcdefghijk", "***")] {
            assert_eq!(shown(value.as_bytes()), expected);
        }
    }

    #[test]
    fn a_value_of_the_environment_is_masked_in_the_history_too() {
        let config = r#"{"config":{"Env":["PATH=/bin","DB_PASSWORD=canary-4711-x"]},"history":[{"created_by":"RUN |1 X=1 /bin/sh -c login canary-4711-x"},
            {"created_by":"RUN API_TOKEN=other-4711-y make","empty_layer":true}]}"#;
        let finder = of(config);
        let names: Vec<_> = finder.found.iter().map(|secret| (secret.place, secret.name.clone().unwrap())).collect();
        assert_eq!(names, [(Place::Environment, "DB_PASSWORD".to_owned()), (Place::History, "API_TOKEN".to_owned())]);
        assert_eq!(finder.masked("login canary-4711-x other-4711-y"), "login *** ***");
    }

    #[test]
    fn every_value_of_an_instruction_is_masked() {
        let key = |c: char| format!("{}==", c.to_string().repeat(85) + "b");
        let config = format!(r#"{{"history":[{{"created_by":"RUN x AccountKey={}; y AccountKey={}"}}]}}"#, key('K'), key('Y'));
        let finder = of(&config);
        let masked = finder.masked(&format!("a {} b {}", key('K'), key('Y')));
        assert_eq!(masked, "a *** b ***");
    }

    #[test]
    fn fingerprints_switches_paths_and_references_are_no_secrets() {
        let config = r#"{"config":{"Env":["GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D","AUTH=true","TOKEN=$OTHER","SECRET_KEY=/run/secrets/key"]}}"#;
        assert_eq!(of(config).found, []);
    }

    #[test]
    fn a_file_is_searched_when_it_is_text_and_named_by_the_line() {
        let mut finder = Finder::new().unwrap();
        let token = ["gh", "p_16C7e42F292c6912E7710c838347Ae178B4a"].concat();
        finder.file(&"/app/a.py".into(), 2, Some(format!("x\ny = '{token}'\n").as_bytes()));
        finder.file(&"/app/b.bin".into(), 2, Some(format!("\0{token}").as_bytes()));
        finder.file(&"/root/.ssh/id_rsa".into(), 3, None);
        let found: Vec<_> = finder.found.iter().map(|s| (s.rule.as_str(), s.line, s.layer, s.shown.as_str())).collect();
        assert_eq!(found, [("github-token", Some(2), Some(2), "ghp_***"), ("ssh-key", None, Some(3), "")]);
    }
}
