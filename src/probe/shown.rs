//! Shown: commands, paths and sizes as they may be read in reports and logs, without secrets.

use super::Action;

/// Parts of names whose values are not shown.
const SECRET: [&str; 12] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "auth",
    "credential",
    "signature",
    "session",
    "private",
];

const LONGEST: usize = 160;

/// Whether a name of a parameter, variable or flag announces a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part)) || matches!(name.as_str(), "key" | "sig" | "code")
}

/// A path with the values of secret-like query parameters left out.
pub(super) fn path(path: &str) -> String {
    let Some((before, query)) = path.split_once('?') else {
        return shorten(path);
    };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if is_secret_name(name) && !value.is_empty() => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    shorten(&format!("{before}?{}", shown.collect::<Vec<_>>().join("&")))
}

/// A command line with secret-like values left out: `--password=x`, `--token x`, `TOKEN=x`, `//user:x@host`.
pub(super) fn command(argv: &[String]) -> String {
    let mut hide_next = false;
    let mut words = Vec::new();
    for word in argv {
        let hidden = std::mem::take(&mut hide_next);
        if hidden && !word.starts_with('-') {
            words.push("***".to_owned());
            continue;
        }
        match word.split_once('=') {
            Some((name, value)) if is_secret_name(name) && !value.is_empty() => words.push(format!("{name}=***")),
            _ => {
                hide_next = word.starts_with('-') && is_secret_name(word);
                words.push(without_userinfo(word));
            }
        }
    }
    let quoted: Vec<_> =
        words.iter().map(|word| if word.contains("***") { word.into() } else { shell_words::quote(word) }).collect();
    shorten(&quoted.join(" "))
}

fn without_userinfo(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) if rest[..at].contains(':') => format!("{scheme}://***{}", &rest[at..]),
        _ => word.to_owned(),
    }
}

/// One printable line of at most 160 characters.
pub(super) fn shorten(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        line.pop();
        line.push('…');
    }
    line
}

/// `1.2 kB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

impl Action {
    /// The word for this kind of action in reports: `http`, `crawl`, `api`, `exec`, `host_exec`, `tcp`, `run`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Crawl { .. } => "crawl",
            Self::Api { .. } => "api",
            Self::Exec { .. } => "exec",
            Self::HostExec { .. } => "host_exec",
            Self::Tcp { .. } => "tcp",
            Self::Run => "run",
        }
    }

    /// The name a probe of this action has: `http GET /`, `exec convert /in.png /out.jpg`. Holds no secret.
    pub fn title(&self) -> String {
        match self {
            Self::Http(request) => format!("http {} {}", request.method, path(&request.path)),
            Self::Crawl { start, .. } => format!("crawl {} {}", start.method, path(&start.path)),
            Self::Api { start, .. } => format!("api {}", path(&start.path)),
            Self::Exec { argv } => format!("exec {}", command(argv)),
            Self::HostExec { argv, .. } => format!("host-exec {}", command(argv)),
            Self::Tcp { port, .. } => format!("tcp {port}"),
            Self::Run => "run".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<String> {
        shell_words::split(line).unwrap()
    }

    #[test]
    fn secret_values_are_not_shown() {
        for (line, shown) in [
            ("psql -c 'select 1'", "psql -c 'select 1'"),
            ("curl --token hunter2 /x", "curl --token *** /x"),
            ("app --db-password=hunter2", "app --db-password=***"),
            ("env API_KEY=hunter2 app", "env API_KEY=*** app"),
            ("psql postgres://me:hunter2@db/app", "psql postgres://***@db/app"),
        ] {
            assert_eq!(command(&argv(line)), shown, "{line}");
        }
        assert_eq!(path("/a?page=2&access_token=hunter2"), "/a?page=2&access_token=***");
    }

    #[test]
    fn a_shown_line_is_one_short_line() {
        let shown = shorten(&"ab\ncd".repeat(100));
        assert_eq!(shown.chars().count(), LONGEST);
        assert!(!shown.contains('\n'));
    }
}
