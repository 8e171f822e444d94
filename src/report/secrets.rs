//! Secrets: values that must not leave a run. A [`Redactor`] masks values that it was told, and text that
//! looks like a secret by the word before it or by its own shape.

use std::sync::LazyLock;

use base64::Engine as _;
use regex::{Captures, Regex};

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// A told value of fewer bytes is masked only as a whole word: `root` or `abc` occur inside other words.
const WHOLE_WORD_BELOW: usize = 8;

/// The same for small letters alone, which may be a word: `postgres` occurs in `/usr/lib/postgresql`.
const WHOLE_PLAIN_WORD_BELOW: usize = 16;

/// Settings that stand in secret-like variables and are no secrets.
const NO_VALUES: &[&str] = &["auto", "disabled", "enabled", "false", "none", "null", "off", "trust", "true", "yes"];

/// Knows secret values and masks them in text.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Longest first, so that a value inside another one does not break it.
    values: Vec<String>,
}

impl Redactor {
    /// Knows no value yet; shapes are masked all the same.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns the values of secret-like names from `NAME=value` lines, and passwords inside URLs of any.
    pub fn learn_env<S: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = S>) {
        for line in lines {
            let Some((name, value)) = line.as_ref().split_once('=') else {
                continue;
            };
            if is_secret_name(name) {
                self.learn(value);
            } else if let Some(found) = URL_PASSWORD.captures(value) {
                self.learn(&found["secret"]);
            }
        }
    }

    /// Learns the value of a request header, whatever its name: nobody needs it in a report. Harmless ones
    /// (media types, `close`) are left alone.
    pub fn learn_header(&mut self, name: &str, value: &str) {
        const HARMLESS: &[&str] =
            &["accept", "accept-encoding", "accept-language", "connection", "content-type", "host", "user-agent"];
        if HARMLESS.contains(&name.to_ascii_lowercase().as_str()) {
            return;
        }
        self.learn(value);
        let Some((scheme, credentials)) = value.trim().split_once(' ') else {
            return;
        };
        self.learn(credentials);
        if !scheme.eq_ignore_ascii_case("basic") {
            return;
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(credentials.trim());
        if let Some(pair) = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
            self.learn(&pair);
            if let Some((_, password)) = pair.split_once(':') {
                self.learn(password);
            }
        }
    }

    /// Learns one value, also as URLs and base64 spell it. Fewer than three bytes, switches (`true`) and small
    /// numbers say nothing and are not learnt.
    pub fn learn(&mut self, value: &str) {
        let value = value.trim();
        let small_number = value.len() < 5 && value.bytes().all(|b| b.is_ascii_digit());
        if value.len() < 3 || small_number || NO_VALUES.contains(&value.to_ascii_lowercase().as_str()) {
            return;
        }
        let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let mut spellings = vec![value.to_owned(), encoded.replace('+', "%20"), encoded];
        spellings.extend(value.lines().filter(|line| line.len() >= WHOLE_WORD_BELOW).map(str::to_owned));
        if value.len() >= WHOLE_WORD_BELOW {
            spellings.push(base64::engine::general_purpose::STANDARD.encode(value));
        }
        for spelling in spellings {
            if !self.values.contains(&spelling) {
                self.values.push(spelling);
            }
        }
        self.values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    }

    /// It knows its values also as Rust's `{:?}` writes them inside of quotes.
    #[must_use]
    pub fn of_quoted(mut self) -> Self {
        let quoted: Vec<String> = self.values.iter().map(|value| format!("{value:?}")).collect();
        self.values.extend(quoted.iter().map(|quoted| quoted[1..quoted.len() - 1].to_owned()));
        self.values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.values.dedup();
        self
    }

    /// The text with every secret masked.
    pub fn text(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for value in &self.values {
            if out.contains(value.as_str()) {
                out = mask_value(&out, value);
            }
        }
        mask_shapes(&out)
    }

    /// The lines of a log with every secret masked, also one that spans lines.
    pub fn lines(&self, lines: &[String]) -> Vec<String> {
        if lines.is_empty() { Vec::new() } else { self.text(&lines.join("\n")).lines().map(str::to_owned).collect() }
    }

    /// A command line with secret arguments masked: `--password=x`, `--password x`, `token=x`, and the short
    /// options of programs that are known to take a password by one.
    pub fn arguments(&self, argv: &[String]) -> Vec<String> {
        let program = argv.first().map(|word| word.rsplit('/').next().unwrap_or_default()).unwrap_or_default();
        let mut out = Vec::with_capacity(argv.len());
        let mut next_is_secret = false;
        for (at, word) in argv.iter().enumerate() {
            if std::mem::take(&mut next_is_secret) && !word.starts_with('-') {
                out.push(MASK.to_owned());
                continue;
            }
            let option = word.starts_with('-');
            next_is_secret = option && !word.contains('=') && takes_secret(program, word);
            if at > 0 && option && glued_password(program, word) {
                out.push(format!("-p{MASK}"));
                continue;
            }
            out.push(match word.split_once('=') {
                Some((name, value)) if is_secret_name(name) && !value.is_empty() => format!("{name}={MASK}"),
                _ => self.text(word),
            });
        }
        out
    }
}

/// Whether a name (of a variable, option, header or field) announces a secret. `PASSWORD_FILE` does not: its
/// value is a path.
pub fn is_secret_name(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "apikey", "auth", "authorization", "cookie", "cookies", "credential", "credentials", "creds", "dsn", "jwt",
        "key", "keys", "pass", "passphrase", "passwd", "password", "passwords", "privatekey", "pswd", "pw", "pwd",
        "secret", "secrets", "session", "sessionid", "signature", "token", "tokens",
    ];
    const NO_SECRETS: &[&str] = &["dir", "file", "method", "name", "path", "type", "user", "username"];
    const ENDS: &[&str] = &["password", "passwd", "passphrase", "secret", "token", "apikey", "secretkey", "credential"];
    let lower = name.trim_start_matches('-').to_ascii_lowercase();
    if matches!(lower.as_str(), "pwd" | "oldpwd") {
        return false;
    }
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.last().is_some_and(|last| NO_SECRETS.contains(last)) {
        return false;
    }
    words.iter().any(|word| {
        let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let stem = stem.strip_suffix('s').unwrap_or(stem);
        WORDS.contains(word) || ENDS.iter().any(|end| stem.ends_with(end))
    })
}

/// Whether an option of a program is followed by a secret.
fn takes_secret(program: &str, option: &str) -> bool {
    let by_program = match program {
        "sshpass" => option == "-p",
        "redis-cli" => matches!(option, "-a" | "--pass"),
        "redis-server" | "valkey-server" => matches!(option, "--requirepass" | "--masterauth"),
        "curl" => matches!(option, "-u" | "--user" | "-U" | "--proxy-user" | "-b" | "--cookie"),
        "docker" | "podman" | "skopeo" => matches!(option, "-p" | "--creds" | "--src-creds" | "--dest-creds"),
        _ => false,
    };
    by_program || option.starts_with("--") && is_secret_name(option)
}

/// `-pSECRET`, as the clients of MySQL and MariaDB and sshpass take it.
fn glued_password(program: &str, word: &str) -> bool {
    let family = program.starts_with("mysql") || program.starts_with("mariadb") || program == "sshpass";
    family && word.len() > 2 && word.starts_with("-p")
}

fn mask_value(text: &str, value: &str) -> String {
    let plain = value.bytes().all(|b| b.is_ascii_lowercase());
    let whole_word = value.len() < if plain { WHOLE_PLAIN_WORD_BELOW } else { WHOLE_WORD_BELOW };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(value) {
        let (head, tail) = (&rest[..at], &rest[at + value.len()..]);
        let left = head.chars().next_back().or(before);
        let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let masked = !whole_word || !(inside(left) || inside(tail.chars().next()));
        out.push_str(head);
        out.push_str(if masked { MASK } else { value });
        before = value.chars().next_back();
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[allow(clippy::unwrap_used, reason = "the patterns are constants, and a test compiles them all")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

/// `scheme://user:secret@host`.
static URL_PASSWORD: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<head>[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:)(?P<secret>[^\s/@]+)(?P<tail>@)"));

/// `Authorization: Bearer x`, `Cookie: a=b; c=d`: to the end of the line or string.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?im)(?P<head>\b(?:proxy-)?authorization|\b(?:set-)?cookie|\bx-api-key)(?P<sep>["']?\s*[:=]\s*["']?)(?P<secret>[^\r\n"']+)"#)
});

/// `name=value`, `"name": "value"`, `--name value`; the name is judged by [`is_secret_name`].
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?P<head>[A-Za-z][A-Za-z0-9_.-]*)(?P<sep>["']?\s*[:=]\s*)(?:"(?P<dq>[^"\r\n]+)"|'(?P<sq>[^'\r\n]+)'|(?P<secret>[^\s"'&,;)}\]]+))"#)
});

/// `--password value` inside a longer text, such as the argument of `sh -c`.
static OPTION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?P<head>--[A-Za-z][A-Za-z0-9-]*)(?P<sep>\s+)(?P<secret>[^\s"'-][^\s"']*)"#));

/// A word such as `token` or `password`, then a long string that looks drawn at random.
static NEAR_WORD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?i)(?P<head>\b(?:bearer|basic|token|secret|password|passwd|passphrase|api[_ -]?key|key)\b)(?P<sep>(?:\s+is)?[\s:"'`(]+)(?P<secret>[A-Za-z0-9+/_.=~-]{16,})"#)
});

/// Tokens that are known by their shape alone.
static SHAPES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)
        \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*   # JSON web token (RFC 7519)
        | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                              # AWS access key
        | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,}
        | \bglpat-[A-Za-z0-9_-]{16,}
        | \bxox[abprs]-[A-Za-z0-9-]{10,}                             # Slack
        | \b[sr]k_(?:live|test)_[A-Za-z0-9]{10,}                     # Stripe
        | \bsk-[A-Za-z0-9_-]{20,}
        | \bnpm_[A-Za-z0-9]{30,} | \bpypi-[A-Za-z0-9_-]{30,} | \bAIza[A-Za-z0-9_-]{30,}
        | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY-----(?s:.*?)(?:-----END\ [A-Z\ ]*PRIVATE\ KEY-----|\z)",
    )
});

fn mask_shapes(text: &str) -> String {
    let keep_ends = |found: &Captures| format!("{}{MASK}{}", &found["head"], &found["tail"]);
    let after_word = |found: &Captures| format!("{}{}{MASK}", &found["head"], &found["sep"]);
    let out = SHAPES.replace_all(text, MASK);
    let out = URL_PASSWORD.replace_all(&out, keep_ends);
    let out = HEADER.replace_all(&out, after_word);
    let out = mask_named(&out);
    let out = OPTION.replace_all(&out, |found: &Captures| {
        if is_secret_name(&found["head"]) { after_word(found) } else { found[0].to_owned() }
    });
    let out = NEAR_WORD.replace_all(&out, |found: &Captures| {
        if looks_random(&found["secret"]) { after_word(found) } else { found[0].to_owned() }
    });
    out.into_owned()
}

/// What names of secrets have as their values. The value of any other name is looked into, for it may be such
/// a pair itself: `error: password=x`.
fn mask_named(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = NAMED.captures_at(text, at) {
        let value = ["dq", "sq", "secret"].iter().find_map(|part| found.name(part)).map_or("", |part| part.as_str());
        let secret = is_secret_name(&found["head"]) && !(is_weak_name(&found["head"]) && is_weak_value(value));
        let until = |part: usize| found.get(part).map_or(text.len(), |part| part.end());
        // Head and separator are the first two groups.
        out.push_str(&text[at..until(2)]);
        at = until(2);
        if secret {
            out.push_str(MASK);
            at = until(0);
        }
    }
    out.push_str(&text[at..]);
    out
}

/// Names that, alone, stand for many other things too: `pass: 3`, `key: id`.
fn is_weak_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    matches!(lower.as_str(), "auth" | "key" | "keys" | "pass" | "session" | "signature" | "tokens")
}

/// Counts and short words.
fn is_weak_value(value: &str) -> bool {
    value.len() < 6 || value.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a string mixes digits and letters and has many different characters, as drawn ones do: at least
/// 3 bits of Shannon entropy per character.
pub fn looks_random(text: &str) -> bool {
    let digits = text.bytes().any(|b| b.is_ascii_digit());
    let letters = text.bytes().any(|b| b.is_ascii_alphabetic());
    let mut counts = [0u32; 256];
    for b in text.bytes() {
        counts[usize::from(b)] += 1;
    }
    let total = text.len() as f64;
    let share = |n: &u32| f64::from(*n) / total;
    let entropy: f64 = counts.iter().filter(|n| **n > 0).map(|n| -share(n) * share(n).log2()).sum();
    digits && letters && entropy >= 3.0
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
