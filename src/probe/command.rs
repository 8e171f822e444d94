//! Command: one HTTP request as a user states it: `[crawl:][PROTO:][METHOD:]path`, or an entry of a JSON file
//! of `{"commands": [...]}`, or of the array alone.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::HttpRequest;
use super::request::HttpCommand;

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

/// Reads `[crawl:][PROTO:][METHOD:]path`.
///
/// # Errors
/// When the protocol or the method is not one, or the path does not begin with `/`.
pub fn http_command(text: &str) -> Result<HttpCommand> {
    let Some(at) = text.find('/') else {
        bail!("the probe `{text}` has no path that begins with /; write [crawl:][PROTO:][METHOD:]/path");
    };
    let (words, path) = text.split_at(at);
    let mut command =
        HttpCommand { request: HttpRequest::get(0, path), crawl: false, status: None, contains: None };
    for word in words.strip_suffix(':').unwrap_or(words).split(':').filter(|word| !word.is_empty()) {
        if word.eq_ignore_ascii_case("crawl") {
            command.crawl = true;
        } else if let Ok(Protocol { tls, http2, foreign: None }) = Protocol::try_from(word.to_ascii_lowercase()) {
            (command.request.tls, command.request.http2) = (tls, http2);
        } else if let Ok(method) = method(word) {
            command.request.method = method;
        } else {
            bail!("`{word}` in `{text}` is neither a method ({}) nor a protocol ({PROTOCOLS})", METHODS.join(", "));
        }
    }
    if !words.is_empty() && !words.ends_with(':') {
        bail!("the path of the probe `{text}` does not begin with /; write [crawl:][PROTO:][METHOD:]/path");
    }
    if command.crawl && command.request.method != "GET" {
        bail!("the probe `{text}` cannot crawl: links are followed from a GET only");
    }
    Ok(command)
}

/// Reads `Name: value`.
///
/// # Errors
/// When it is no header. The value may be a secret and is not repeated.
pub fn header(text: &str) -> Result<(String, String), String> {
    Header::try_from(text.to_owned()).map(|Header(name, value)| (name, value))
}

/// `env:VAR` stands for the value of that variable.
///
/// # Errors
/// When it is not set.
pub fn resolve(value: &str, vars: &BTreeMap<String, String>) -> Result<String> {
    match value.strip_prefix("env:") {
        Some(name) => vars.get(name).cloned().with_context(|| format!("the variable {name} is not set")),
        None => Ok(value.to_owned()),
    }
}

fn method(word: &str) -> Result<String> {
    let upper = word.to_ascii_uppercase();
    match METHODS.contains(&upper.as_str()) {
        true => Ok(upper),
        false => bail!("`{word}` is not an HTTP method; there are {}", METHODS.join(", ")),
    }
}

/// What a JSON command file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandFile {
    /// In order.
    pub commands: Vec<HttpCommand>,
    /// Entries that are left out, and what is not looked at: one line each.
    pub skipped: Vec<String>,
}

/// Reads a JSON command file. `name` is its path: errors name it as `name:line:column`. A `body_file` is looked
/// for in the current directory, then beside it. Values of headers and passwords may be `env:VAR`. Line ends may
/// be CRLF, a byte order mark may come first. Entries that the peer's program knows and this one cannot ask
/// (WebSocket, FastCGI, generated bodies, forms) are skipped.
///
/// # Errors
/// When it is not JSON of the documented shape, or a body file cannot be read.
pub fn command_file(text: &str, name: &str, vars: &BTreeMap<String, String>) -> Result<CommandFile> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The first character tells the two forms apart; trying both would lose the place of an error.
    let entries: serde_json::Result<Vec<Entry>> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text),
        false => serde_json::from_str(text).map(|File { commands }| commands),
    };
    let entries = entries.map_err(|error| {
        let message = error.to_string();
        let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason);
        anyhow::anyhow!("{name}:{}:{}: {reason}", error.line(), error.column())
    })?;
    let mut file = CommandFile::default();
    for (index, entry) in entries.into_iter().enumerate() {
        let place = format!("{name}: command {}", index + 1);
        match entry.foreign() {
            Some(what) => file.skipped.push(format!("{place} is skipped: {what} cannot be asked here")),
            None => file.commands.push(entry.read(name, vars).context(place)?),
        }
    }
    Ok(file)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    commands: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(alias = "path")]
    resource: Path,
    #[serde(default)]
    method: Method,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    headers: Vec<Header>,
    body: Option<String>,
    body_file: Option<String>,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    crawl: bool,
    username: Option<String>,
    password: Option<String>,
    host: Option<String>,
    status: Option<i32>,
    contains: Option<String>,
    #[serde(default)]
    body_generate: serde_json::Value,
    #[serde(default)]
    body_is_form: serde_json::Value,
    #[serde(default)]
    form_field_name: serde_json::Value,
    #[serde(default)]
    form_file_name: serde_json::Value,
    #[serde(default)]
    fastcgi: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Path(String);

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" => Ok(Self("/".to_owned())),
            path if path.starts_with('/') => Ok(Self(text)),
            path => Err(format!("the resource `{path}` does not begin with /")),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Method(String);

impl Default for Method {
    fn default() -> Self {
        Self("GET".to_owned())
    }
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" => Ok(Self::default()),
            word => method(word).map(Self).map_err(|error| error.to_string()),
        }
    }
}

/// What can be spoken.
const PROTOCOLS: &str = "http, https, http2, http2c";

/// Protocols of the peer's command files that are not spoken here.
const FOREIGN: [&str; 4] = ["ws", "wss", "fcgi", "fastcgi"];

/// `http`, `https`, `http2` (over TLS), `http2c` (in clear).
#[derive(Default, Deserialize)]
#[serde(try_from = "String")]
struct Protocol {
    tls: Option<bool>,
    http2: bool,
    /// It is no HTTP, so nothing can be asked.
    foreign: Option<String>,
}

impl TryFrom<String> for Protocol {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if FOREIGN.contains(&text.as_str()) {
            return Ok(Self { foreign: Some(text), ..Self::default() });
        }
        let (tls, http2) = match text.as_str() {
            "" => (None, false),
            "http" => (Some(false), false),
            "https" => (Some(true), false),
            "http2" => (Some(true), true),
            "http2c" => (Some(false), true),
            other => return Err(format!("the protocol `{other}` is not known; there are {PROTOCOLS}")),
        };
        Ok(Self { tls, http2, foreign: None })
    }
}

/// `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Header(pub(super) String, pub(super) String);

impl TryFrom<String> for Header {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("a header is not of the form `Name: value`")?;
        let (name, value) = (name.trim(), value.trim());
        if http::HeaderName::try_from(name).is_err() || http::HeaderValue::try_from(value).is_err() {
            // The value may be a secret: it is not repeated.
            return Err(format!("the header `{}` is not one", name.escape_default()));
        }
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

impl Entry {
    /// What it asks for that cannot be asked here; `None` when all of it can.
    fn foreign(&self) -> Option<String> {
        let says = |value: &serde_json::Value| match value {
            serde_json::Value::Null => false,
            serde_json::Value::Bool(is) => *is,
            serde_json::Value::String(text) => !text.is_empty(),
            _ => true,
        };
        let protocol = self.protocol.foreign.as_ref().map(|name| format!("the protocol {name}"));
        let fields = [
            ("body_generate", &self.body_generate),
            ("body_is_form", &self.body_is_form),
            ("form_field_name", &self.form_field_name),
            ("form_file_name", &self.form_file_name),
            ("fastcgi", &self.fastcgi),
        ];
        protocol.or_else(|| fields.iter().find(|(_, value)| says(value)).map(|(name, _)| format!("`{name}`")))
    }

    fn read(self, file: &str, vars: &BTreeMap<String, String>) -> Result<HttpCommand> {
        let Method(method) = self.method;
        if self.crawl && method != "GET" {
            bail!("links are followed from a GET only, not from a {method}");
        }
        let body = match (self.body.filter(|text| !text.is_empty()), self.body_file.filter(|path| !path.is_empty())) {
            (Some(_), Some(_)) => bail!("`body` and `body_file` exclude each other"),
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(path)) => {
                let beside = std::path::Path::new(file).parent().unwrap_or(std::path::Path::new("")).join(&path);
                let path = Some(std::path::PathBuf::from(path)).filter(|path| path.exists()).unwrap_or(beside);
                Some(std::fs::read(&path).with_context(|| format!("read the body file {}", path.display()))?)
            }
            (None, None) => None,
        };
        let mut headers = Vec::new();
        for Header(name, value) in self.headers {
            headers.push((name, resolve(&value, vars)?));
        }
        if let Some(username) = self.username.filter(|name| !name.is_empty()) {
            let password = resolve(&self.password.unwrap_or_default(), vars)?;
            let secret = STANDARD.encode(format!("{username}:{password}"));
            headers.push(("Authorization".to_owned(), format!("Basic {secret}")));
        }
        let Protocol { tls, http2, .. } = self.protocol;
        let request =
            HttpRequest { tls, http2, port: self.port, method, path: self.resource.0, headers, body, host: self.host };
        Ok(HttpCommand { request, crawl: self.crawl, status: self.status, contains: self.contains })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_an_optional_crawl_and_method() {
        for (text, crawl, method, path) in [
            ("/", false, "GET", "/"),
            ("post:/api/items", false, "POST", "/api/items"),
            ("crawl:/docs/", true, "GET", "/docs/"),
            ("crawl:GET:/docs/", true, "GET", "/docs/"),
            ("/time/12:30", false, "GET", "/time/12:30"),
        ] {
            let command = http_command(text).unwrap();
            assert_eq!(
                (command.crawl, command.request.method.as_str(), command.request.path.as_str()),
                (crawl, method, path)
            );
        }
        for text in ["", "index.html", "FETCH:/", "crawl:POST:/x"] {
            assert!(http_command(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_command_file_with_crlf_and_a_byte_order_mark_is_read() {
        let text = "\u{feff}{\"commands\":[\r\n {\"resource\":\"/a\",\"method\":\"post\",\"protocol\":\"https\",\"headers\":[\"A: b\"],\r\n  \"body\":\"x\",\"port\":8443,\"username\":\"u\",\"password\":\"p\"},\r\n {\"resource\":\"/\",\"crawl\":true}]}";
        let commands = command_file(text, "c.json", &BTreeMap::new()).unwrap().commands;
        let first = &commands[0].request;
        assert_eq!(
            (first.method.as_str(), first.tls, first.port, first.body.as_deref()),
            ("POST", Some(true), 8443, Some(&b"x"[..]))
        );
        assert_eq!(first.headers, [("A".into(), "b".into()), ("Authorization".into(), "Basic dTpw".into())]);
        assert!(commands[1].crawl);
    }

    #[test]
    fn what_only_the_peer_can_ask_is_skipped_and_told() {
        let text = r#"{"commands":[{"resource":"/a","body_is_form":false,"fastcgi":null,"body_generate":""},
            {"resource":"/b","protocol":"wss"},{"resource":"/c","body_generate":"text"},{"resource":"/d"}]}"#;
        let file = command_file(text, "c.json", &BTreeMap::new()).unwrap();
        let paths: Vec<_> = file.commands.iter().map(|command| command.request.path.as_str()).collect();
        assert_eq!(paths, ["/a", "/d"]);
        assert_eq!(
            file.skipped,
            [
                "c.json: command 2 is skipped: the protocol wss cannot be asked here",
                "c.json: command 3 is skipped: `body_generate` cannot be asked here",
            ]
        );
        assert!(http_command("ws:/x").is_err(), "on the command line it is refused");
    }

    #[test]
    fn an_error_in_a_command_file_names_line_and_column() {
        for (text, error) in [
            ("{\"commands\":[\n {\"resource\":\"x\"}]}", "c.json:2:17: the resource `x` does not begin with /"),
            (
                "{\"commands\":[\n {\"resource\":\"/\",\n  \"protocol\":\"gopher\"}]}",
                "c.json:3:22: the protocol `gopher` is not known",
            ),
            ("{\"commands\":[\n\n}", "c.json:3:1: "),
            ("{\"commands\":[{\"resource\":\"/\",\"metod\":\"GET\"}]}", "c.json:1:36: unknown field `metod`"),
            ("{\"commands\":[{\"resource\":\"/\",\"method\":\"GET\",\"crawl\":1}]}", "c.json:1:53: invalid type"),
        ] {
            let got = format!("{:#}", command_file(text, "c.json", &BTreeMap::new()).unwrap_err());
            assert!(got.starts_with(error), "{got}\n{error}");
        }
    }
}
