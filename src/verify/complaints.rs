//! Complaints: lines of error level in the log of the slim image that the untouched image's log has not. A
//! program may answer as before and yet say that something is gone.

use std::collections::BTreeSet;

use crate::image::path::printable;

/// Words that make a line one of error level, in lower case.
const WORDS: &[&str] = &[
    "error",
    "fatal",
    "panic",
    "critical",
    "emerg",
    "exception",
    "traceback",
    "no such file",
    "not found",
    "cannot",
    "can't",
    "could not",
    "unable to",
    "failed",
];

/// No more of them than these are shown.
const MOST: usize = 20;

/// The lines that only the slim image wrote, each once, with what differs from run to run (numbers, times,
/// addresses) taken for the same.
pub fn new_complaints(original: &[u8], slim: &[u8]) -> Vec<String> {
    let mut known: BTreeSet<Vec<u8>> = lines(original).map(shape).collect();
    let new = lines(slim).filter(|line| complains(line) && known.insert(shape(line)));
    new.take(MOST).map(printable).collect()
}

fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    log.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

fn complains(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line).to_lowercase();
    WORDS.iter().any(|word| line.contains(word))
}

/// A line without what changes: each run of hexadecimal digits that has a digit in it becomes one mark.
fn shape(line: &[u8]) -> Vec<u8> {
    let mut shape = Vec::with_capacity(line.len());
    for word in line.chunk_by(|a, b| a.is_ascii_alphanumeric() == b.is_ascii_alphanumeric()) {
        match word.iter().any(u8::is_ascii_digit) {
            true => shape.push(b'#'),
            false => shape.extend_from_slice(word),
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_error_level_that_are_new_are_told_once_each() {
        let original = b"12:00:01 [7] started\n12:00:02 [7] ERROR: no cache at 10.0.0.3\n";
        let slim = b"12:09:44 [9] started\n12:09:45 [9] ERROR: no cache at 10.0.0.8\n\
            [9] error: cannot open /usr/share/x\n[8] error: cannot open /usr/share/x\n[9] bye\n\
            Traceback (most recent call last):\n";
        let found = new_complaints(original, slim);
        assert_eq!(found, ["[9] error: cannot open /usr/share/x", "Traceback (most recent call last):"]);
    }

    #[test]
    fn a_hostile_log_is_shown_safely_and_not_without_end() {
        let log: Vec<u8> = (b'a'..=b'z').flat_map(|c| [b"error \x1b[2J \xff ", &[c][..], b"\n"].concat()).collect();
        let found = new_complaints(b"", &log);
        assert_eq!(found.len(), MOST);
        assert_eq!(found[0], "error \\u{1b}[2J \\xff a");
    }
}
