//! Names in Python texts (the language reference, "The import statement"): statements anywhere in the text, also in
//! functions, and calls of `import_module` and `__import__` with a literal. What only type checkers read is left
//! out.

/// The modules that a text names.
pub(super) fn names(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Statements that are indented deeper than this are for type checkers.
    let mut skipped: Option<usize> = None;
    for line in logical_lines(text) {
        if skipped.is_some_and(|depth| line.indent > depth) {
            continue;
        }
        skipped = None;
        let code = line.code.trim();
        if code.starts_with("if ") && code.ends_with("TYPE_CHECKING:") && !code.contains("not ") {
            skipped = Some(line.indent);
            continue;
        }
        for statement in code.split(';') {
            let statement = statement.trim();
            // `try: import x` and the like
            let behind = statement.split_once(": ").map(|(_, behind)| behind.trim());
            for part in std::iter::once(statement).chain(behind) {
                of_statement(part, &mut found);
            }
        }
        of_calls(code, &mut found);
    }
    found
}

fn of_statement(statement: &str, found: &mut Vec<String>) {
    if let Some(list) = statement.strip_prefix("import ") {
        found.extend(list.split(',').filter_map(first_word).filter(|name| is_name(name)).map(str::to_owned));
        return;
    }
    let Some((module, list)) = statement.strip_prefix("from ").and_then(|rest| split_import(rest)) else { return };
    if !is_name(module) {
        return;
    }
    found.push(module.to_owned());
    let dot = if module.ends_with('.') { "" } else { "." };
    let list = list.trim().trim_start_matches('(').trim_end_matches(')');
    let names = list.split(',').filter_map(first_word).filter(|name| is_name(name));
    found.extend(names.map(|name| format!("{module}{dot}{name}")));
}

/// `..a import b` as `..a` and `b`.
fn split_import(rest: &str) -> Option<(&str, &str)> {
    let at = rest.find("import")?;
    let (module, list) = rest.split_at(at);
    let list = &list["import".len()..];
    (list.starts_with([' ', '('])).then_some((module.trim(), list))
}

fn first_word(item: &str) -> Option<&str> {
    item.split_whitespace().next()
}

/// Letters of any alphabet, digits, `_`, and the dots between and before them.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
}

/// `import_module('a.b')`, `__import__("a")`.
fn of_calls(code: &str, found: &mut Vec<String>) {
    for call in ["import_module(", "__import__("] {
        for (at, _) in code.match_indices(call) {
            let rest = code[at + call.len()..].trim_start();
            let Some(quote) = rest.chars().next().filter(|c| ['\'', '"'].contains(c)) else { continue };
            let name = rest[1..].split(quote).next().unwrap_or_default();
            if is_name(name) {
                found.push(name.to_owned());
            }
        }
    }
}

/// A statement with what stands on its line.
struct Logical {
    indent: usize,
    code: String,
}

/// Lines joined in brackets and behind backslashes; without comments and long strings.
fn logical_lines(text: &str) -> Vec<Logical> {
    let mut lines = Vec::new();
    let mut line = Logical { indent: 0, code: String::new() };
    let (mut depth, mut fresh) = (0usize, true);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '\n' if depth == 0 => {
                lines.push(std::mem::replace(&mut line, Logical { indent: 0, code: String::new() }));
                fresh = true;
            }
            ' ' | '\t' if fresh && depth == 0 => line.indent += 1,
            '#' => taken = rest.find('\n').unwrap_or(rest.len()),
            '\\' if rest[1..].starts_with('\n') || rest[1..].starts_with("\r\n") => {
                taken = rest.find('\n').map_or(rest.len(), |at| at + 1);
                line.code.push(' ');
            }
            '\'' | '"' => {
                fresh = false;
                taken = string_length(rest);
                // Long strings hold no names; a short one may be a call's argument.
                let short = taken < 200 && !rest.starts_with("\"\"\"") && !rest.starts_with("'''");
                line.code.push_str(if short { &rest[..taken] } else { "''" });
            }
            _ => {
                match c {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                fresh = false;
                line.code.push(if c.is_whitespace() { ' ' } else { c });
            }
        }
        rest = &rest[taken..];
    }
    lines.push(line);
    lines
}

/// Bytes of the string literal at the beginning, quotes included; a short one that does not end on its line ends
/// there.
fn string_length(text: &str) -> usize {
    let quote = &text[..1];
    let long = text.starts_with(&quote.repeat(3));
    let end = if long { quote.repeat(3) } else { quote.to_owned() };
    let mut at = end.len();
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if bytes[at] == b'\\' {
            at += 2;
            continue;
        }
        if bytes[at..].starts_with(end.as_bytes()) {
            return at + end.len();
        }
        if bytes[at] == b'\n' && !long {
            return at;
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_modules_wherever_they_stand() {
        for (text, found) in [
            ("import os", "os"),
            ("import os.path as p, sys # and json", "os.path sys"),
            ("def f():\n    import lazy; import other", "lazy other"),
            ("from a.b import c, d as e", "a.b a.b.c a.b.d"),
            ("from a import (\n    b,  # first\n    c,\n)", "a a.b a.c"),
            ("from . import x", ". .x"),
            ("from ..a import b", "..a ..a.b"),
            ("from .a import(b)", ".a .a.b"),
            ("from a import *", "a"),
            ("from a \\\n  import b", "a a.b"),
            ("try: import fast\nexcept ImportError: import slow", "fast slow"),
            ("'''\nimport not_this\n'''\nimport this", "this"),
            ("x = \"import no\"  # import no\nimport yes", "yes"),
            ("m = importlib.import_module('a.b')\nn = __import__(\"c\")", "a.b c"),
            ("import_module(name)", ""),
            ("if TYPE_CHECKING:\n    import types_only\n    from a import b\nimport real", "real"),
            ("if typing.TYPE_CHECKING:\n    import types_only\nelse:\n    import real", "real"),
            ("raise ImportError('from x import y')", ""),
            ("yield from generate()", ""),
            ("x = 'unended\nimport after", "after"),
            ("", ""),
        ] {
            assert_eq!(names(text).join(" "), found, "{text:?}");
        }
    }

    #[test]
    fn any_text_is_survived() {
        for text in ["'", "\"\"\"", "\\", "(\\\n", "from", "from  import", "import ,", "\u{0}é'\\é", "]]]import x"] {
            let _any = names(text);
        }
    }
}
