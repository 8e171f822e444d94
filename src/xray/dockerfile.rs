//! Dockerfile: the instructions that made an image, as its history remembers them: of the classic builder, of BuildKit,
//! of buildah. What no builder of Dockerfiles wrote stands as a comment.

use serde_json::Value;

/// One entry of the history, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The instruction.
    pub text: String,
    /// Whether it made a layer.
    pub layered: bool,
}

/// Instructions that begin an entry of BuildKit.
const KEYWORDS: &[&str] = &[
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
];

/// The entries of a config's history.
pub fn entries(config: &Value) -> Vec<Entry> {
    let history = config["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entry = |entry: &Value| Entry {
        text: instruction(entry["created_by"].as_str().unwrap_or_default()),
        layered: entry["empty_layer"] != Value::Bool(true),
    };
    history.iter().map(entry).collect()
}

/// The instruction behind one `created_by`.
pub fn instruction(created_by: &str) -> String {
    let text = created_by.trim();
    let text = text.strip_suffix("# buildkit").unwrap_or(text).trim_end();
    if let Some((_, noted)) = text.split_once("#(nop)") {
        return noted.trim().to_owned();
    }
    let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match keyword {
        "" => "# nothing is said of it".to_owned(),
        "RUN" => format!("RUN {}", without_shell(without_arguments(rest)).unwrap_or(rest)),
        _ if KEYWORDS.contains(&keyword) => text.to_owned(),
        _ => match without_shell(without_arguments(text)) {
            Some(command) => format!("RUN {command}"),
            None => format!("# {text}"),
        },
    }
}

/// A command without the build arguments that both builders write in front of it: `|2 A=b C=d /bin/sh -c ...`.
fn without_arguments(text: &str) -> &str {
    if !text.starts_with('|') {
        return text;
    }
    // Their values may have blanks: the shell is the first word after them with a slash in front.
    let shell = text.match_indices(" /").map(|(at, _)| &text[at + 1..]).find(|rest| without_shell(rest).is_some());
    shell.unwrap_or(text)
}

/// The command that a shell is given; `None` where the text is no call of one.
fn without_shell(text: &str) -> Option<&str> {
    let (program, mut rest) = text.split_once(' ')?;
    let name = program.strip_prefix('/')?.rsplit('/').next()?;
    if !name.ends_with("sh") {
        return None;
    }
    // `-o pipefail -c`: options and their values, up to the one that says that a command follows.
    for _ in 0..8 {
        let (word, after) = rest.split_once(' ')?;
        rest = after.trim_start();
        if word.starts_with('-') && word.ends_with('c') {
            return Some(rest);
        }
        if !word.starts_with(['-', '+']) && !matches!(word, "pipefail" | "errexit" | "nounset") {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_every_builder_becomes_the_instruction_that_made_it() {
        for (created_by, expected) in [
            ("/bin/sh -c #(nop)  CMD [\"nginx\" \"-g\"]", "CMD [\"nginx\" \"-g\"]"),
            ("/bin/sh -c #(nop) ADD file:0a1b in / ", "ADD file:0a1b in /"),
            ("/bin/sh -c #(nop)  ENV A=b c", "ENV A=b c"),
            ("/bin/sh -c apt-get update", "RUN apt-get update"),
            ("|1 TOKEN=a b /bin/sh -c make /x", "RUN make /x"),
            ("/bin/bash -o pipefail -c curl x | tar x", "RUN curl x | tar x"),
            ("RUN /bin/sh -c apt-get update # buildkit", "RUN apt-get update"),
            ("RUN |2 A=/b C=d /bin/sh -c echo $A # buildkit", "RUN echo $A"),
            ("COPY app /app # buildkit", "COPY app /app"),
            ("WORKDIR /app", "WORKDIR /app"),
            ("ENTRYPOINT [\"/app\"]", "ENTRYPOINT [\"/app\"]"),
            ("RUN apk add curl", "RUN apk add curl"),
            ("bazel build ...", "# bazel build ..."),
            ("", "# nothing is said of it"),
        ] {
            assert_eq!(instruction(created_by), expected, "{created_by}");
        }
    }

    #[test]
    fn an_entry_makes_a_layer_unless_it_says_otherwise() {
        let config = serde_json::json!({"history": [{"created_by": "USER app", "empty_layer": true}, {"created_by": "COPY a /"}]});
        let made: Vec<bool> = entries(&config).iter().map(|entry| entry.layered).collect();
        assert_eq!(made, [false, true]);
        assert!(entries(&serde_json::json!({"history": "lies"})).is_empty());
    }
}
