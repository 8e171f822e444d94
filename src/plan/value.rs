//! Value: texts that stand for times, sizes, ports and command lines. Each reader says what it wanted.

use std::time::Duration;

/// `500ms`, `10s`, `2m`, `1h`, `7d`, `1m30s`; a bare number counts seconds.
///
/// # Errors
/// When it is no time.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write 500ms, 10s, 2m or a number of seconds");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ms" => 0.001,
            "" if total.is_zero() => 1.0,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        rest = &rest[end..];
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    Ok(total)
}

/// `64m`, `1.5g`, `1024`: bytes; units count by 1024, as for docker.
///
/// # Errors
/// When it is no size.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write 64m, 1g or a number of bytes");
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let number: f64 = lower[..end].parse().map_err(|_| wrong())?;
    let unit = lower[end..].trim().trim_end_matches("ib").trim_end_matches('b');
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let bytes = number * (1u64 << shift) as f64;
    // 2^53: above it a float does not count bytes any more.
    if !(0.0..9_007_199_254_740_992.0).contains(&bytes) {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

/// A command line: a JSON array of texts, or words split as a shell would, without running one.
///
/// # Errors
/// When quotes do not close or the array is none.
pub fn argv(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    match serde_json::from_str(text) {
        Ok(words) => return Ok(words),
        Err(error) if text.starts_with('[') && !text.starts_with("[ ") => {
            return Err(format!("{text:?} is no JSON array of texts: {error}"));
        }
        Err(_) => {}
    }
    shell_words::split(text).map_err(|_| format!("a quote does not close in {text:?}"))
}

/// A command line with at least a program in it, that wants no shell.
///
/// # Errors
/// When it is empty or written for a shell.
pub fn program(text: &str) -> Result<Vec<String>, String> {
    const SHELL: &[&str] = &["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "2>/dev/null", ">/dev/null"];
    let words = argv(text)?;
    if words.first().is_none_or(String::is_empty) {
        return Err("the command is empty".into());
    }
    let bare: Vec<&str> = text.split_whitespace().collect();
    let shell = words.iter().find(|word| SHELL.contains(&word.as_str()) && bare.contains(&word.as_str()));
    match shell {
        Some(word) if !text.trim_start().starts_with('[') => {
            Err(format!("no shell runs {text:?}, so `{word}` would be an argument"))
        }
        _ => Ok(words),
    }
}

/// A port number.
///
/// # Errors
/// When it is not one of 1 to 65535.
pub fn port(text: &str) -> Result<u16, String> {
    let number = text.trim().parse().ok().filter(|port| *port != 0u16);
    number.ok_or_else(|| format!("{text:?} is no port; ports are 1 to 65535"))
}

/// `80`, `53/udp`, `8000-8003/tcp`: each port with its protocol left as it was written.
///
/// # Errors
/// When a port or the protocol is none.
pub fn exposed(text: &str) -> Result<Vec<String>, String> {
    let (range, protocol) = match text.trim().split_once('/') {
        Some((range, protocol)) => (range, Some(protocol.to_ascii_lowercase())),
        None => (text.trim(), None),
    };
    if protocol.as_deref().is_some_and(|protocol| !["tcp", "udp", "sctp"].contains(&protocol)) {
        return Err(format!("{text:?} has an unknown protocol; it is tcp, udp or sctp"));
    }
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(range)?, port(range)?),
    };
    if first > last {
        return Err(format!("{text:?} ends before it begins"));
    }
    let suffix = protocol.map(|protocol| format!("/{protocol}")).unwrap_or_default();
    Ok((first..=last).map(|port| format!("{port}{suffix}")).collect())
}

/// A name that has something in it and neither `=` nor white space.
///
/// # Errors
/// When it is none.
pub fn variable_name(name: &str) -> Result<(), String> {
    match name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '=' || c == '\0') {
        true => Err(format!("{name:?} is no name of a variable")),
        false => Ok(()),
    }
}

/// Paths with commas between them: `/a,/b` are two; `/a,b` and `/a.{b,c}` are one.
pub fn paths(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0u32);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 && text[at + 1..].trim_start().starts_with(['/', '*']) => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let table = [
            ("10s", 10_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("30", 30_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("1h", 3_600_000),
            ("0", 0),
        ];
        for (text, millis) in table {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "10x", "-1s", "1m30", "ten", "1e400s", "1..2s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("64m", 64 << 20), ("1g", 1 << 30), ("1.5k", 1536), ("10MB", 10 << 20), ("2GiB", 2 << 30), ("7", 7), ("9b", 9)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1 2", "99999999t"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn command_lines_are_split_without_a_shell() {
        assert_eq!(argv("convert '/in x.png' /out.jpg").unwrap(), ["convert", "/in x.png", "/out.jpg"]);
        assert_eq!(argv(r#"["a b", "$c"]"#).unwrap(), ["a b", "$c"]);
        assert_eq!(argv("").unwrap(), Vec::<String>::new());
        assert_eq!(argv("[ -f /x ]").unwrap(), ["[", "-f", "/x", "]"]);
        assert!(argv("a 'b").unwrap_err().contains("quote"));
        assert!(argv(r#"["a", 1]"#).unwrap_err().contains("JSON"));
        assert!(program("a && b").unwrap_err().contains("no shell"));
        assert!(program("").is_err());
        assert_eq!(program("sh -c 'a && b'").unwrap().len(), 3);
        assert_eq!(program("grep '|' /x").unwrap().len(), 3);
    }

    #[test]
    fn ports_and_ranges_are_read() {
        assert_eq!(exposed("8000-8002/UDP").unwrap(), ["8000/udp", "8001/udp", "8002/udp"]);
        assert_eq!(exposed("80").unwrap(), ["80"]);
        for text in ["0", "65536", "9-8", "80/icmp", "x", ""] {
            assert!(exposed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_comma_ends_a_path_only_where_another_begins() {
        assert_eq!(paths("/a,/b/*.{py,/c}, **/c"), ["/a", "/b/*.{py,/c}", "**/c"]);
        assert_eq!(paths("/a,b"), ["/a,b"]);
        assert_eq!(paths(""), [""; 0]);
    }
}
