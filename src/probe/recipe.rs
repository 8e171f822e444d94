//! Recipe: ready-made probes for one kind of program, as data. The format is documented in
//! `probes/README.md`; the recipes there are compiled in, a user's own file has the same format.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::TcpStep;

/// Probes for one kind of program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What `--probe` calls it: the file's name without `.toml`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Ports by which `auto` knows it; the first one is the default.
    pub ports: Vec<u16>,
    /// Programs by which `auto` knows it.
    pub programs: Vec<String>,
    /// What its probes wait for when it is not a port: a regular expression for a line of the log.
    pub(super) ready_log: Option<String>,
    /// At least this long is waited for readiness. `None`: the usual time.
    pub(super) ready_timeout: Option<Duration>,
    pub(super) steps: Vec<Step>,
}

/// One probe of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: Option<String>,
    pub(super) what: What,
    /// `None`: the recipe's ports that the image exposes, or each http port when the recipe has none.
    pub(super) port: Option<u16>,
    pub(super) stated: bool,
    pub(super) status: Option<i32>,
    pub(super) contains: Option<String>,
    pub(super) timeout: Option<Duration>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Http { ask: HttpDoc, crawl: bool },
    Exec(Vec<String>),
    HostExec(Vec<String>),
    Tcp(Vec<TcpStep>),
    Run,
}

const BUILT_IN: [(&str, &str); 8] = [
    ("exec", include_str!("../../probes/exec.toml")),
    ("http", include_str!("../../probes/http.toml")),
    ("memcached", include_str!("../../probes/memcached.toml")),
    ("mysql", include_str!("../../probes/mysql.toml")),
    ("postgresql", include_str!("../../probes/postgresql.toml")),
    ("redis", include_str!("../../probes/redis.toml")),
    ("static-site", include_str!("../../probes/static-site.toml")),
    ("tcp", include_str!("../../probes/tcp.toml")),
];

/// The recipes that are compiled in, by name.
///
/// # Errors
/// Never in a tested build: a recipe that does not parse fails this package's tests.
pub fn recipes() -> Result<Vec<Recipe>> {
    BUILT_IN.iter().map(|(name, text)| parse(text, &format!("probes/{name}.toml"), name)).collect()
}

/// A compiled-in recipe as it is written; `None` when there is none of that name.
pub fn text_of(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A compiled-in recipe.
///
/// # Errors
/// When there is none of that name: says which there are.
pub fn named(name: &str) -> Result<Recipe> {
    let known = recipes()?;
    let names: Vec<String> = known.iter().map(|recipe| recipe.name.clone()).collect();
    match known.into_iter().find(|recipe| recipe.name == name) {
        Some(recipe) => Ok(recipe),
        None => {
            bail!("there is no recipe `{name}`; there are {}, or give a file: --probe ./{name}.toml", names.join(", "))
        }
    }
}

/// A user's recipe.
///
/// # Errors
/// When it cannot be read: says line and column.
pub fn from_file(path: &Path) -> Result<Recipe> {
    let bytes = std::fs::read(path).with_context(|| format!("read the probe recipe {}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("{}:{line}: it is not UTF-8 text", path.display())
    })?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    parse(&text, &path.display().to_string(), &name)
}

/// Reads a recipe; `file` is named in errors, as `file:line:column: why`.
pub(super) fn parse(text: &str, file: &str, name: &str) -> Result<Recipe> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document: Document = toml::from_str(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        anyhow::anyhow!("{file}:{line}:{column}: {}", error.message().replace('\n', " "))
    })?;
    if document.format != 1 {
        bail!("{file}: format {} is not known; this program reads format 1", document.format);
    }
    if document.step.is_empty() {
        bail!("{file}: there is no [[step]]");
    }
    let steps = document
        .step
        .into_iter()
        .enumerate()
        .map(|(index, step)| step.read().with_context(|| format!("{file}: step {}", index + 1)));
    Ok(Recipe {
        name: name.to_owned(),
        description: document.description,
        ports: document.matches.ports,
        programs: document.matches.programs,
        ready_log: document.ready.log.map(|pattern| pattern.0),
        ready_timeout: document.ready.timeout.map(|time| time.0),
        steps: steps.collect::<Result<_>>()?,
    })
}

/// Line and column, both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    description: String,
    #[serde(default, rename = "match")]
    matches: MatchDoc,
    #[serde(default)]
    ready: ReadyDoc,
    #[serde(default)]
    step: Vec<StepDoc>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MatchDoc {
    ports: Vec<u16>,
    programs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReadyDoc {
    log: Option<Pattern>,
    timeout: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepDoc {
    name: Option<String>,
    http: Option<HttpDoc>,
    #[serde(default)]
    crawl: bool,
    exec: Option<Vec<String>>,
    host_exec: Option<Vec<String>>,
    tcp: Option<Vec<TcpDoc>>,
    #[serde(default)]
    run: bool,
    port: Option<u16>,
    #[serde(default)]
    discovered: bool,
    status: Option<i32>,
    contains: Option<String>,
    timeout: Option<Time>,
}

/// The `http` table of a step.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpDoc {
    pub(super) path: String,
    #[serde(default = "get")]
    pub(super) method: String,
    #[serde(default)]
    pub(super) headers: Vec<super::command::Header>,
    pub(super) body: Option<String>,
    pub(super) tls: Option<bool>,
    #[serde(default)]
    pub(super) http2: bool,
    pub(super) host: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TcpDoc {
    Send(String),
    SendHex(Hex),
    Expect(Pattern),
    ExpectClose,
}

/// Bytes in hexadecimal, spaces ignored.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Hex(Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect();
        bytes.map(Hex).ok_or(format!("`{text}` is not bytes in hexadecimal"))
    }
}

/// A regular expression on bytes.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match regex::bytes::Regex::new(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => {
                Err(format!("`{text}` is not a regular expression: {}", error.to_string().replace('\n', " ")))
            }
        }
    }
}

/// `500ms`, `30s`, `2m`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Time(Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: Option<u64> = text[..digits].parse().ok();
        let time = match (number, &text[digits..]) {
            (Some(n), "ms") => Some(Duration::from_millis(n)),
            (Some(n), "s") => Some(Duration::from_secs(n)),
            (Some(n), "m") => n.checked_mul(60).map(Duration::from_secs),
            _ => None,
        };
        time.map(Time).ok_or(format!("`{text}` is not a time such as 500ms, 30s or 2m"))
    }
}

impl StepDoc {
    fn read(self) -> Result<Step> {
        let crawl = self.crawl;
        if crawl && self.http.is_none() {
            bail!("`crawl` goes with `http`");
        }
        let tcp = self.tcp.map(|steps| What::Tcp(steps.into_iter().map(TcpDoc::read).collect()));
        let kinds = [
            self.http.map(|ask| What::Http { ask, crawl }),
            self.exec.map(What::Exec),
            self.host_exec.map(What::HostExec),
            tcp,
            self.run.then_some(What::Run),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let (Some(what), None) = (kinds.next(), kinds.next()) else {
            bail!("it needs exactly one of `http`, `exec`, `host_exec`, `tcp` and `run`");
        };
        if let What::Exec(argv) | What::HostExec(argv) = &what
            && argv.is_empty()
        {
            bail!("the command is empty");
        }
        Ok(Step {
            name: self.name,
            what,
            port: self.port,
            stated: !self.discovered,
            status: self.status,
            contains: self.contains,
            timeout: self.timeout.map(|time| time.0),
        })
    }
}

impl TcpDoc {
    fn read(self) -> TcpStep {
        match self {
            Self::Send(text) => TcpStep::Send(text.into_bytes()),
            Self::SendHex(Hex(bytes)) => TcpStep::Send(bytes),
            Self::Expect(Pattern(pattern)) => TcpStep::Expect(pattern),
            Self::ExpectClose => TcpStep::ExpectClose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_recipe_parses() {
        let all = recipes().unwrap();
        assert_eq!(all.len(), BUILT_IN.len());
        assert!(all.iter().all(|recipe| !recipe.description.is_empty() && !recipe.steps.is_empty()));
    }

    #[test]
    fn an_error_names_file_line_and_column() {
        for (text, error) in [
            ("format = 1\ndescription = 3\n", "p.toml:2:15: invalid type: integer `3`, expected a string"),
            (
                "format = 1\ndescription = 'd'\n[[step]]\ntcp = [{expect = '('}]\n",
                "p.toml:4:8: `(` is not a regular expression",
            ),
            (
                "format = 1\ndescription = 'd'\n[[step]]\ntcp = [{send_hex = 'xy'}]\n",
                "p.toml:4:8: `xy` is not bytes in hexadecimal",
            ),
            (
                "format = 1\ndescription = 'd'\n[[step]]\nrun = true\ntimeout = 'soon'\n",
                "p.toml:5:11: `soon` is not a time",
            ),
            ("format = 1\ndescription = 'd'\n[[step]]\nport = 80\nhtp = 1\n", "p.toml:5:1: unknown field `htp`"),
        ] {
            let got = format!("{:#}", parse(text, "p.toml", "p").unwrap_err());
            assert!(got.starts_with(error), "{got}\n{error}");
        }
    }

    #[test]
    fn a_step_does_exactly_one_thing() {
        for step in ["", "run = true\nexec = ['a']", "crawl = true\nexec = ['a']", "exec = []"] {
            let text = format!("format = 1\ndescription = 'd'\n[[step]]\n{step}\n");
            assert!(
                format!("{:#}", parse(&text, "p.toml", "p").unwrap_err()).starts_with("p.toml: step 1: "),
                "{step}"
            );
        }
    }
}
