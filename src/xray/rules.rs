//! Rules: what is taken for a secret, as data: `secrets.toml` beside this file, compiled in.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use regex::bytes::{Regex, RegexSet};
use serde::Deserialize;

use crate::report::secrets::looks_random;

const TABLE: &str = include_str!("secrets.toml");

/// Parts of values that stand where a secret would, in documentation and templates.
const PLACEHOLDERS: &[&str] = &["example", "changeme", "change_me", "placeholder", "xxxx", "your", "dummy", "redacted", "todo", "****"];

#[derive(Deserialize)]
struct Document {
    rule: Vec<Line>,
}

/// One rule as it is written.
#[derive(Deserialize)]
struct Line {
    name: String,
    description: String,
    #[serde(default)]
    paths: Vec<String>,
    content: Option<String>,
    #[serde(default)]
    anywhere: bool,
    #[serde(default)]
    random: bool,
}

/// One rule.
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it finds, for people.
    pub description: String,
    /// Whether it looks at some paths only.
    of_paths: bool,
    /// What it looks for in them; `None`: that they are there is enough.
    content: Option<Regex>,
    anywhere: bool,
    random: bool,
}

/// All rules.
pub struct Rules {
    all: Vec<Rule>,
    /// Contents of those that look for one, and their places in `all`: one search tells which are worth another.
    contents: RegexSet,
    of_content: Vec<usize>,
    /// The globs of all paths, and the places in `all` of their rules: one search for an image of a million files.
    paths: GlobSet,
    of_path: Vec<usize>,
}

/// A place in a text that a rule means.
pub struct Hit<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Where the value begins; `None` where the path says it all.
    pub at: Option<usize>,
    /// The value.
    pub value: Vec<u8>,
}

impl Rules {
    /// Those that are compiled in.
    ///
    /// # Errors
    /// Never: a test reads them all.
    pub fn new() -> Result<Self> {
        Self::parse(TABLE)
    }

    fn parse(text: &str) -> Result<Self> {
        let document: Document = toml::from_str(text).context("read the rules for secrets")?;
        let (mut globs, mut of_path) = (GlobSetBuilder::new(), Vec::new());
        for (at, line) in document.rule.iter().enumerate() {
            for glob in &line.paths {
                let glob = GlobBuilder::new(glob).literal_separator(true).empty_alternates(true).build();
                globs.add(glob.with_context(|| format!("read the rule {}", line.name))?);
                of_path.push(at);
            }
        }
        let paths = globs.build().context("read the rules for secrets")?;
        let all: Vec<Rule> = document.rule.into_iter().map(Rule::new).collect::<Result<_>>()?;
        let with = |rule: &(usize, &Rule)| rule.1.content.is_some();
        let of_content: Vec<usize> = all.iter().enumerate().filter(with).map(|(at, _)| at).collect();
        let patterns = of_content.iter().filter_map(|at| all[*at].content.as_ref()).map(Regex::as_str);
        let contents = RegexSet::new(patterns).context("read the rules for secrets")?;
        Ok(Self { all, contents, of_content, paths, of_path })
    }

    /// The rules that look at this path among others only, in their order.
    fn about(&self, path: &[u8]) -> BTreeSet<usize> {
        let found = self.paths.matches_candidate(&Candidate::from_bytes(path));
        found.into_iter().map(|glob| self.of_path[glob]).collect()
    }

    /// What a file's name says alone.
    pub fn of_path(&self, path: &[u8]) -> Vec<Hit<'_>> {
        let about = self.about(path).into_iter().map(|at| &self.all[at]);
        about.filter(|rule| rule.content.is_none()).map(|rule| Hit { rule, at: None, value: Vec::new() }).collect()
    }

    /// Whether the content of a file matters because of its name.
    pub fn asks_for(&self, path: &[u8]) -> bool {
        self.about(path).into_iter().any(|at| self.all[at].content.is_some())
    }

    /// What a file's content says, the first place for each rule.
    pub fn of_file(&self, path: &[u8], text: &[u8]) -> Vec<Hit<'_>> {
        let about = self.about(path);
        let named = |rule: &Rule| about.iter().any(|at| self.all[*at].name == rule.name);
        self.hits(text, 1, |rule| !rule.of_paths || named(rule))
    }

    /// What a text says that is no file: every place, for what is shown of it has to be masked.
    pub fn of_text(&self, text: &str) -> Vec<Hit<'_>> {
        self.hits(text.as_bytes(), usize::MAX, |rule| rule.anywhere)
    }

    fn hits<'a>(&'a self, text: &[u8], most: usize, asked: impl Fn(&Rule) -> bool) -> Vec<Hit<'a>> {
        let found = self.contents.matches(text);
        let rules = found.iter().map(|at| &self.all[self.of_content[at]]).filter(|rule| asked(rule));
        rules.flat_map(|rule| rule.places(text, most)).collect()
    }
}

impl Rule {
    fn new(line: Line) -> Result<Self> {
        let what = || format!("read the rule {}", line.name);
        let content = line.content.as_deref().map(Regex::new).transpose().with_context(what)?;
        Ok(Self { of_paths: !line.paths.is_empty(), content, anywhere: line.anywhere, random: line.random, description: line.description, name: line.name })
    }

    /// The first values in a text that are none of an example.
    fn places(&self, text: &[u8], most: usize) -> Vec<Hit<'_>> {
        let Some(content) = &self.content else { return Vec::new() };
        let values = content.captures_iter(text).filter_map(|found| found.name("secret").or_else(|| found.get(0)));
        let values = values.filter(|value| self.counts(value.as_bytes())).take(most);
        values.map(|value| Hit { rule: self, at: Some(value.start()), value: value.as_bytes().to_vec() }).collect()
    }

    fn counts(&self, value: &[u8]) -> bool {
        let text = String::from_utf8_lossy(value);
        let lower = text.to_lowercase();
        !PLACEHOLDERS.iter().any(|part| lower.contains(part)) && (!self.random || looks_random(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Examples {
        rule: Vec<Example>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "all fields that a rule may have, so that no other is taken for one")]
    struct Example {
        name: String,
        description: String,
        #[serde(default)]
        paths: Vec<String>,
        content: Option<String>,
        #[serde(default)]
        anywhere: bool,
        #[serde(default)]
        random: bool,
        finds: Vec<String>,
        passes: Vec<String>,
    }

    #[test]
    fn every_rule_finds_what_it_says_and_passes_over_what_it_says() {
        let document: Examples = toml::from_str(TABLE).unwrap();
        let rules = Rules::new().unwrap();
        for line in &document.rule {
            let found_in = |pieces: &[String]| {
                let (path, text) = match (line.paths.is_empty(), pieces.iter().position(|piece| piece.is_empty())) {
                    (true, _) => ("/file".to_owned(), pieces.concat()),
                    (false, Some(at)) => (pieces[..at].concat(), pieces[at..].concat()),
                    (false, None) => (pieces.concat(), String::new()),
                };
                let (named, held) = (rules.of_path(path.as_bytes()), rules.of_file(path.as_bytes(), text.as_bytes()));
                named.iter().chain(&held).any(|hit| hit.rule.name == line.name)
            };
            assert!(found_in(&line.finds), "{} does not find {:?}", line.name, line.finds);
            assert!(!found_in(&line.passes), "{} finds {:?}", line.name, line.passes);
            assert!(!line.description.is_empty());
        }
        assert!(document.rule.len() > 20);
    }

    #[test]
    fn a_rule_with_paths_does_not_look_elsewhere() {
        let rules = Rules::new().unwrap();
        let text = b"machine git.internal login me password hunter2hunter2";
        assert!(rules.of_file(b"/root/.netrc", text).iter().any(|hit| hit.rule.name == "netrc"));
        assert!(rules.of_file(b"/usr/share/doc/netrc.txt", text).is_empty());
    }
}
