//! Files: texts that flags name: lists, environment files, command files. Line ends of any system, a byte
//! order mark, blank lines and comments are fine.

use std::path::Path;

use crate::cli::{UsageError, Vars};

/// A file's text, without its byte order mark.
///
/// # Errors
/// When it cannot be read or is not UTF-8: says where.
pub fn text(path: &Path) -> Result<String, UsageError> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| UsageError::new(format!("cannot read {shown}: {}", plain(&error))))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = good.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        UsageError::new(format!("{shown}:{line}:{column}: not UTF-8 text"))
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// What the system said, without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Entries of a list file, one to a line, each with the number of its line.
///
/// # Errors
/// When the file cannot be read.
pub fn list(path: &Path) -> Result<Vec<(usize, String)>, UsageError> {
    let text = text(path)?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim().to_owned()));
    Ok(lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect())
}

/// An environment file as `docker run --env-file` reads it: `NAME=value` with the value as it is, quotes too;
/// a bare NAME is taken from our environment when it is set there.
///
/// # Errors
/// When the file cannot be read or a line has no name.
pub fn env(path: &Path, vars: &Vars) -> Result<Vec<String>, UsageError> {
    let text = text(path)?;
    let mut env = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            let text = format!("{}:{}: {name:?} is no name of a variable", path.display(), at + 1);
            return Err(UsageError::new(text).hint("write NAME=value, one to a line"));
        }
        env.extend(variable(line, vars));
    }
    Ok(env)
}

/// `NAME=value` as it is; a bare NAME with its value here; `None` when it has none.
pub fn variable(line: &str, vars: &Vars) -> Option<String> {
    match line.contains('=') {
        true => Some(line.to_owned()),
        false => vars.get(line).map(|value| format!("{line}={value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn lists_may_have_crlf_bom_comments_and_blank_lines() {
        let file = file(b"\xef\xbb\xbf/a b\r\n\r\n  # no\r\n/c#d\r\n");
        assert_eq!(list(file.path()).unwrap(), [(1, "/a b".to_owned()), (4, "/c#d".to_owned())]);
    }

    #[test]
    fn environment_files_are_read_as_docker_reads_them() {
        let file = file(b"A=1\n#B=2\n\nC='x y' # z\nHERE\nGONE\n  D=\n");
        let vars = Vars::from([("HERE".to_owned(), "h".to_owned())]);
        assert_eq!(env(file.path(), &vars).unwrap(), ["A=1", "C='x y' # z", "HERE=h", "D="]);
        let bad = super::tests::file(b"A=1\nB C=2\n");
        let error = env(bad.path(), &vars).unwrap_err().to_string();
        assert!(error.contains(":2: \"B C\""), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_place() {
        let bad = file(b"ok\nab\xff\n");
        let error = text(bad.path()).unwrap_err().to_string();
        assert!(error.ends_with(":2:3: not UTF-8 text"), "{error}");
        let error = text(Path::new("/no/such")).unwrap_err().to_string();
        assert_eq!(error, "cannot read /no/such: no such file or directory");
    }
}
