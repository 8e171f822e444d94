//! Names in JavaScript texts (ECMA-262, "Imports", and Node's CommonJS): `require('x')`, `import ... from 'x'`,
//! `export ... from 'x'`, `import 'x'`, `import('x')`, `require.resolve('x')`, anywhere in the text. Comments,
//! other strings, templates and regular expressions are passed over.

/// What stands right before a string that is a module's name.
const BEFORE: &[&str] = &["require(", "require.resolve(", "import(", "import", "from"];

/// How much of the code before a string is looked at, in bytes.
const WINDOW: usize = 24;

/// The modules that a text names.
pub(super) fn names(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // The last bytes of code, without blanks and comments.
    let mut code = Code::default();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'/' if bytes[at..].starts_with(b"//") => at = end_of_line(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => {
                at = text[at + 2..].find("*/").map_or(bytes.len(), |end| at + 2 + end + 2);
            }
            b'/' if code.expects_a_value() => {
                at = regex_end(bytes, at);
                code.push(b'r');
            }
            b'\'' | b'"' => {
                let end = string_end(bytes, at);
                let literal = text.get(at + 1..end.saturating_sub(1)).unwrap_or_default();
                if code.names_a_module() && is_name(literal) {
                    found.push(literal.to_owned());
                }
                code.push(b's');
                at = end;
            }
            b'`' => {
                at = template_end(bytes, at);
                code.push(b's');
            }
            byte => {
                code.see(*byte);
                at += 1;
            }
        }
    }
    found
}

/// Names that are no addresses and have nothing that a literal would spell with an escape.
fn is_name(literal: &str) -> bool {
    !literal.is_empty() && literal.len() < 256 && !literal.contains(['\\', '\n', ':']) || literal.starts_with("node:")
}

/// The code before a place.
#[derive(Default)]
struct Code {
    tail: Vec<u8>,
    blank: bool,
}

impl Code {
    fn see(&mut self, byte: u8) {
        if byte.is_ascii_whitespace() {
            self.blank = true;
        } else {
            self.push(byte);
        }
    }

    fn push(&mut self, byte: u8) {
        if self.tail.len() == 2 * WINDOW {
            self.tail.drain(..WINDOW);
        }
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$';
        if self.blank && word(byte) && self.tail.last().is_some_and(|last| word(*last)) {
            self.tail.push(b' ');
        }
        self.blank = false;
        self.tail.push(byte);
    }

    fn names_a_module(&self) -> bool {
        let tail = self.tail.as_slice();
        BEFORE.iter().any(|before| {
            let Some(ahead) = tail.strip_suffix(before.as_bytes()) else { return false };
            // `x.require(` and `myrequire(` are something else; `}from'x'` is not.
            ahead.last().is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"_$.".contains(byte))
        })
    }

    /// Whether a `/` here begins a regular expression rather than divides.
    fn expects_a_value(&self) -> bool {
        const WORDS: &[&[u8]] = &[b"return", b"typeof", b"case", b"in", b"of", b"do", b"else", b"void", b"delete", b"throw"];
        match self.tail.last() {
            None => true,
            Some(last) if b"(,=:[!&|?{};+-*%~^<>".contains(last) => true,
            Some(_) => WORDS.iter().any(|word| {
                let ahead = self.tail.strip_suffix(*word);
                ahead.is_some_and(|ahead| ahead.last().is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"_$.".contains(byte)))
            }),
        }
    }
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| at + end)
}

/// Behind the closing quote, or at the end of the line: strings do not go on there.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\n' => return at,
            byte if byte == bytes[start] => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Behind the closing backtick; a template within a template is found by its braces.
fn template_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    // Open braces within each substitution that is open.
    let mut braces: Vec<usize> = Vec::new();
    let mut inside = vec![true];
    while at < bytes.len() {
        let in_text = *inside.last().unwrap_or(&true);
        match bytes[at] {
            b'\\' => at += 1,
            b'`' if in_text => {
                inside.pop();
                if inside.is_empty() {
                    return at + 1;
                }
            }
            b'`' => inside.push(true),
            b'$' if in_text && bytes.get(at + 1) == Some(&b'{') => {
                inside.push(false);
                braces.push(0);
                at += 1;
            }
            b'\'' | b'"' if !in_text => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' if !in_text => {
                if let Some(open) = braces.last_mut() {
                    *open += 1;
                }
            }
            b'}' if !in_text => match braces.last_mut() {
                Some(0) => {
                    braces.pop();
                    inside.pop();
                }
                Some(open) => *open -= 1,
                None => {}
            },
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Behind the closing slash, or at the end of the line.
fn regex_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    let mut class = false;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\n' => return at,
            b'[' => class = true,
            b']' => class = false,
            b'/' if !class => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_that_name_modules_are_found() {
        for (text, found) in [
            ("const a = require('a'), b = require( \"./b\" );", "a ./b"),
            ("import x, {y} from 'x'; import 'side'; import*as z from\"z\"", "x side z"),
            ("export * from './all'; export {q} from '../q.js'", "./all ../q.js"),
            ("const late = await import('./late.mjs')", "./late.mjs"),
            ("require.resolve('@scope/pkg/sub')", "@scope/pkg/sub"),
            ("var fs=require(\"node:fs\");", "node:fs"),
            ("// require('no')\n/* import 'no' */ require('yes')", "yes"),
            ("x = \"require('no')\"; y = `require('no') ${require('deep') + `${1}`} `; require('yes')", "yes"),
            ("x = /['\"`]/.test(y); require('after')", "after"),
            ("a = b / c; d = 'x' / 2; require('after')", "after"),
            ("return /[/'\"]/g; require('after')", "after"),
            ("obj.require('no'); myrequire('no'); Array.from('no'); $import('no')", ""),
            ("require(name); require('a' + b)", "a"),
            ("import('data:text/javascript,1')", ""),
            ("(0,r.a)(require('x'))", "x"),
        ] {
            assert_eq!(names(text).join(" "), found, "{text:?}");
        }
    }

    #[test]
    fn any_text_is_survived() {
        for text in ["'", "`", "`${", "`${`", "/", "/[", "/*", "\\", "'\\", "require('", "é`é${é}", "import(\"\u{0}\")"] {
            let _any = names(text);
        }
    }
}
