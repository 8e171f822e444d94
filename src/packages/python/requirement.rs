//! Requirement: what a distribution says it needs, and under which circumstances ("Dependency specifiers" of
//! packaging.python.org, earlier PEP 508). What a marker asks and an image cannot tell counts as true.

use std::cmp::Ordering;

/// How deep a marker may nest.
const MAX_DEPTH: usize = 32;

/// One line of `Requires-Dist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    /// The distribution, normalised.
    pub name: String,
    /// Its extras that are asked for, normalised.
    pub extras: Vec<String>,
    /// When it is needed; empty for always.
    pub marker: String,
}

/// What markers may ask about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Environment<'a> {
    /// Major and minor version; `None` when it is not known.
    pub version: Option<(u32, u32)>,
    /// The extra in question, normalised; `None` for the distribution without one.
    pub extra: Option<&'a str>,
}

/// A name as all spellings of it compare (PEP 503): lower case, runs of `-`, `_` and `.` as one `-`.
pub(super) fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            _ => normal.extend(c.to_lowercase()),
        }
    }
    normal
}

impl Requirement {
    /// Reads one. `None` where no name stands.
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let end = line.find(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        if name.is_empty() {
            return None;
        }
        let rest = rest.trim_start();
        let (extras, rest) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((extras, rest)) => (extras, rest),
            None => ("", rest),
        };
        // A URL may hold a semicolon: there a space stands before that of the marker.
        let before = if rest.trim_start().starts_with('@') { " ;" } else { ";" };
        let marker = rest.split_once(before).map_or("", |(_, marker)| marker.trim());
        Some(Self {
            name: normal(name),
            extras: extras.split(',').map(normal).filter(|extra| !extra.is_empty()).collect(),
            marker: marker.to_owned(),
        })
    }

    /// Whether it counts: unless its marker is surely false.
    pub fn applies(&self, environment: &Environment<'_>) -> bool {
        if self.marker.is_empty() {
            return true;
        }
        let Some(tokens) = tokens(&self.marker) else { return true };
        let mut marker = Marker { tokens: &tokens, environment, depth: 0 };
        let value = marker.either();
        if marker.tokens.is_empty() { value != Some(false) } else { true }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    /// A variable, `and`, `or`, `in`, `not`.
    Word(String),
    Sign(String),
    Open,
    Close,
}

/// `None` for what is no marker.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '\'' | '"' => {
                let inner = rest[1..].split_once(first)?.0;
                (Token::Text(inner.to_owned()), inner.len() + 2)
            }
            '<' | '>' | '=' | '!' | '~' => {
                let length = rest.find(|c| !"<>=!~".contains(c)).unwrap_or(rest.len());
                (Token::Sign(rest[..length].to_owned()), length)
            }
            _ if first.is_ascii_alphabetic() => {
                let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
                (Token::Word(rest[..length].to_owned()), length)
            }
            _ => return None,
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

/// A marker while it is evaluated: true, false, or `None` for what cannot be known.
struct Marker<'a> {
    tokens: &'a [Token],
    environment: &'a Environment<'a>,
    depth: usize,
}

impl Marker<'_> {
    fn word(&mut self, word: &str) -> bool {
        match self.tokens.split_first() {
            Some((Token::Word(found), rest)) if found == word => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn either(&mut self) -> Option<bool> {
        let mut value = self.both();
        while self.word("or") {
            value = match (value, self.both()) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
        }
        value
    }

    fn both(&mut self) -> Option<bool> {
        let mut value = self.one();
        while self.word("and") {
            value = match (value, self.one()) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
        }
        value
    }

    fn one(&mut self) -> Option<bool> {
        if let Some((Token::Open, rest)) = self.tokens.split_first() {
            if self.depth == MAX_DEPTH {
                return None;
            }
            self.tokens = rest;
            self.depth += 1;
            let value = self.either();
            self.depth -= 1;
            // Without its end, something is left over, and then the whole is unknown.
            if let Some((Token::Close, rest)) = self.tokens.split_first() {
                self.tokens = rest;
            }
            return value;
        }
        let left = self.operand()?;
        let sign = self.sign()?;
        let right = self.operand()?;
        self.compare(&left, &sign, &right)
    }

    fn operand(&mut self) -> Option<Token> {
        let (token, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        matches!(token, Token::Text(_) | Token::Word(_)).then(|| token.clone())
    }

    fn sign(&mut self) -> Option<String> {
        if self.word("in") {
            return Some("in".into());
        }
        if self.word("not") {
            return self.word("in").then(|| "not in".into());
        }
        let (token, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        match token {
            Token::Sign(sign) => Some(sign.clone()),
            _ => None,
        }
    }

    fn compare(&self, left: &Token, sign: &str, right: &Token) -> Option<bool> {
        match (left, right) {
            (Token::Word(variable), Token::Text(text)) => match variable.as_str() {
                "python_version" => compare_versions(self.environment.version?, sign, text, Precision::Minor),
                "python_full_version" => compare_versions(self.environment.version?, sign, text, Precision::Full),
                "extra" => match sign {
                    "==" => Some(self.environment.extra == Some(normal(text).as_str())),
                    "!=" => Some(self.environment.extra != Some(normal(text).as_str())),
                    _ => None,
                },
                _ => compare_texts(value(variable)?, sign, text),
            },
            (Token::Text(text), Token::Word(variable)) => match (variable.as_str(), sign) {
                ("python_version" | "python_full_version" | "extra", "==" | "!=") => self.compare(right, sign, left),
                ("python_version" | "python_full_version", "<") => self.compare(right, ">", left),
                ("python_version" | "python_full_version", "<=") => self.compare(right, ">=", left),
                ("python_version" | "python_full_version", ">") => self.compare(right, "<", left),
                ("python_version" | "python_full_version", ">=") => self.compare(right, "<=", left),
                _ => compare_texts(text, sign, value(variable)?),
            },
            _ => None,
        }
    }
}

/// What is the same in every Linux image.
fn value(variable: &str) -> Option<&'static str> {
    match variable {
        "sys_platform" => Some("linux"),
        "platform_system" => Some("Linux"),
        "os_name" | "os.name" => Some("posix"),
        _ => None,
    }
}

fn compare_texts(left: &str, sign: &str, right: &str) -> Option<bool> {
    match sign {
        "==" | "===" => Some(left == right),
        "!=" => Some(left != right),
        "in" => Some(right.contains(left)),
        "not in" => Some(!right.contains(left)),
        _ => None,
    }
}

/// What is known of a version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precision {
    /// Major and minor are all there is.
    Minor,
    /// There is more, and it is not known.
    Full,
}

fn compare_versions(version: (u32, u32), sign: &str, text: &str, precision: Precision) -> Option<bool> {
    let parts: Vec<u32> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let part = |index: usize| parts.get(index).copied().unwrap_or(0);
    let mut order = version.cmp(&(part(0), part(1)));
    if order == Ordering::Equal {
        if precision == Precision::Full {
            // 3.11.x is not less than 3.11; more cannot be told.
            let is_first = parts.iter().skip(2).all(|part| *part == 0);
            return match sign {
                "<" if is_first => Some(false),
                ">=" if is_first => Some(true),
                _ => None,
            };
        }
        if parts.iter().skip(2).any(|part| *part > 0) {
            order = Ordering::Less;
        }
    }
    match sign {
        "<" => Some(order.is_lt()),
        "<=" => Some(order.is_le()),
        ">" => Some(order.is_gt()),
        ">=" => Some(order.is_ge()),
        "==" => Some(order.is_eq()),
        "!=" => Some(order.is_ne()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_as_pep_503_says() {
        assert_eq!(normal("Foo__Bar-.baz"), "foo-bar-baz");
        let spelled = Requirement::parse("zope.Interface[Test_A, docs] (>=5.0) ; extra == 'x'").unwrap();
        assert_eq!((spelled.name.as_str(), spelled.marker.as_str()), ("zope-interface", "extra == 'x'"));
        assert_eq!(spelled.extras, ["test-a", "docs"]);
        let from_url = Requirement::parse("pip @ https://x/pip;v=1.zip ; os_name == 'nt'").unwrap();
        assert_eq!(from_url.marker, "os_name == 'nt'");
        assert_eq!(Requirement::parse(">=3"), None);
    }

    #[test]
    fn only_what_is_surely_not_needed_is_left_out() {
        for (marker, needed) in [
            ("python_version < '3.8'", false),
            ("python_version < '3.11.1'", true),
            ("python_version >= \"3\"", true),
            ("'3.10' > python_version", false),
            ("python_full_version < '3.11.3'", true),
            ("python_full_version < '3.9.1'", false),
            ("python_full_version < '3.11'", false),
            ("python_full_version > '3.11'", true),
            ("python_version == '3.*'", true),
            ("sys_platform == 'win32'", false),
            ("sys_platform in 'darwin win32'", false),
            ("'linux' in sys_platform", true),
            ("platform_system != 'Windows'", true),
            ("extra == 'socks'", false),
            ("platform_machine == 'ppc64'", true),
            ("platform_machine == 'ppc64' and sys_platform == 'win32'", false),
            ("(os_name == 'nt' or python_version > '3') and platform_python_implementation == 'PyPy'", true),
            ("extra == 'a' and (python_version > '3' or os_name == 'nt')", false),
            ("nonsense ~~ (", true),
            ("os_name == 'nt' )", true),
            ("os_name == 'nt", true),
        ] {
            let requirement = Requirement::parse(&format!("x; {marker}")).unwrap();
            let environment = Environment { version: Some((3, 11)), extra: None };
            assert_eq!(requirement.applies(&environment), needed, "{marker}");
        }
    }

    #[test]
    fn an_extra_that_is_asked_for_counts() {
        let requirement = Requirement::parse("PySocks; extra == 'Socks_5'").unwrap();
        assert!(requirement.applies(&Environment { version: None, extra: Some("socks-5") }));
        assert!(!requirement.applies(&Environment { version: None, extra: Some("other") }));
    }

    #[test]
    fn a_marker_without_end_is_survived() {
        let requirement = Requirement { name: "x".into(), extras: Vec::new(), marker: "(".repeat(100_000) };
        assert!(requirement.applies(&Environment::default()));
    }
}
