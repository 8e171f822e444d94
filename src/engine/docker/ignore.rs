//! Ignore: `.dockerignore`, which files of a build context are not sent.
//!
//! The rules are Docker's: paths from the context's root, `*` within a component, `**` across them, a pattern
//! covers what lies below it, `!` takes back, the last pattern that matches decides.

use regex::Regex;

use crate::engine::error::EngineError;

/// The patterns of one `.dockerignore`.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    patterns: Vec<(Regex, Verdict)>,
}

/// What a pattern says of what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ignored,
    Kept,
}

impl Ignore {
    /// Reads the file's text.
    pub(super) fn parse(text: &str) -> Result<Self, EngineError> {
        let mut patterns = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            let (verdict, glob) = match line.strip_prefix('!') {
                Some(rest) => (Verdict::Kept, rest.trim()),
                None => (Verdict::Ignored, line),
            };
            let bad = || EngineError::Refused(format!(".dockerignore line {}: {line:?} is no pattern", number + 1));
            let glob = clean(glob);
            if glob.is_empty() {
                return Err(bad());
            }
            patterns.push((Regex::new(&expression(&glob)).map_err(|_| bad())?, verdict));
        }
        Ok(Self { patterns })
    }

    /// These paths are sent whatever the patterns say.
    pub(super) fn keep(mut self, paths: &[&str]) -> Self {
        let exact = paths.iter().filter_map(|path| Regex::new(&format!("^{}$", regex::escape(path))).ok());
        self.patterns.extend(exact.map(|regex| (regex, Verdict::Kept)));
        self
    }

    /// Whether a path (relative, with `/`) is left out.
    pub(super) fn covers(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let all: Vec<&str> = above.chain([path]).collect();
        let last = self.patterns.iter().rev().find(|(regex, _)| all.iter().any(|path| regex.is_match(path)));
        last.is_some_and(|(_, verdict)| *verdict == Verdict::Ignored)
    }

    /// Whether something below an ignored directory may be sent after all.
    pub(super) fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|(_, verdict)| *verdict == Verdict::Kept)
    }
}

/// As Go's `filepath.Clean` does, and without the leading slash that means the context's root.
fn clean(glob: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in glob.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn expression(glob: &str) -> String {
    let mut text = String::from("^");
    let mut rest = glob.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                let slash = rest.next_if_eq(&'/').is_some();
                match (rest.peek(), slash) {
                    (None, _) => text.push_str(".*"),
                    (Some(_), _) => text.push_str("(.*/)?"),
                }
            }
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '[' | ']' | '-' => text.push(c),
            '\\' => text.push_str(&regex::escape(&rest.next().unwrap_or('\\').to_string())),
            c => text.push_str(&regex::escape(&c.to_string())),
        }
    }
    text.push('$');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_docker_leaves_out() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("node_modules", &["node_modules", "node_modules/a/b"], &["src/node_modules", "node_modules2"]),
            ("/target/", &["target/x"], &["a/target"]),
            ("*.log", &["a.log"], &["d/a.log", "a.logs"]),
            ("**/*.log", &["a.log", "d/e/a.log"], &["a.txt"]),
            ("**/cache/**", &["cache/a", "x/cache/y/z"], &["cached"]),
            ("docs/**", &["docs/a", "docs/a/b"], &["doc"]),
            ("a?c", &["abc"], &["a/c", "ac"]),
            ("[ab]x", &["ax", "bx/y"], &["cx"]),
            ("a.b", &["a.b"], &["axb"]),
            ("*\n!keep", &["a", "d/x"], &["keep", "keep/inner"]),
            ("d\n!d/keep\nd/keep/not", &["d/a", "d/keep/not/x"], &["d/keep", "d/keep/yes"]),
            ("# comment\n\n  x  \n", &["x"], &["# comment"]),
            ("./a/../b", &["b"], &["a"]),
            ("\\*x", &["*x"], &["ax"]),
        ];
        for (text, ignored, sent) in table {
            let ignore = Ignore::parse(text).unwrap();
            for path in *ignored {
                assert!(ignore.covers(path), "{text:?} leaves {path} out");
            }
            for path in *sent {
                assert!(!ignore.covers(path), "{text:?} sends {path}");
            }
        }
    }

    #[test]
    fn the_dockerfile_is_always_sent() {
        let ignore = Ignore::parse("*").unwrap().keep(&["Dockerfile", ".dockerignore"]);
        assert!(!ignore.covers("Dockerfile") && ignore.covers("Dockerfile2"));
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_line() {
        let error = Ignore::parse("a\n[z").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("[z"), "{error}");
    }
}
