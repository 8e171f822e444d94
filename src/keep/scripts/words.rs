//! Words: what a word of a script may stand for, as far as its text says.
//!
//! A word has alternatives: a variable stands for each of the literals that the script assigns to it. One that it
//! never assigns stays as `${NAME}`, for the environment to fill in; the directory of the script is [`HERE`]. A
//! word of which something is not known has none.

use std::collections::BTreeMap;

use brush_parser::word::{Parameter, ParameterExpr, SpecialParameter, WordPiece, WordPieceWithSource};
use brush_parser::{ParserOptions, word};

/// Stands for the directory in which the script is.
pub(in crate::keep) const HERE: &str = "${0%/*}";

/// A word has at most so many alternatives, and they are no longer than this.
const MOST: usize = 16;
const LONGEST: usize = 4096;

/// What a word may be; empty when that is not known.
pub(super) type Alternatives = Vec<String>;

/// What a script's variables may hold.
#[derive(Default)]
pub(super) struct Variables(BTreeMap<String, Alternatives>);

impl Variables {
    /// One more assignment.
    pub fn assign(&mut self, name: &str, values: Alternatives) {
        let known = self.0.entry(name.to_owned()).or_default();
        for value in values {
            if known.len() < MOST && !known.contains(&value) {
                known.push(value);
            }
        }
    }

    fn of(&self, parameter: &Parameter) -> Alternatives {
        match parameter {
            Parameter::Named(name) | Parameter::NamedWithIndex { name, .. } | Parameter::NamedWithAllIndices { name, .. } => {
                match self.0.get(name) {
                    Some(values) if !values.is_empty() => values.clone(),
                    _ => vec![format!("${{{name}}}")],
                }
            }
            Parameter::Positional(_) | Parameter::Special(_) => Vec::new(),
        }
    }

    /// What a word may stand for.
    pub fn expand(&self, text: &str, options: &ParserOptions) -> Alternatives {
        let pieces = word::parse(text, options).unwrap_or_default();
        self.join(&pieces, options)
    }

    fn join(&self, pieces: &[WordPieceWithSource], options: &ParserOptions) -> Alternatives {
        let mut whole = vec![String::new()];
        for piece in pieces {
            let next = self.piece(&piece.piece, options);
            whole = whole
                .iter()
                .flat_map(|head| next.iter().map(move |tail| format!("{head}{tail}")))
                .filter(|text| text.len() <= LONGEST)
                .take(MOST)
                .collect();
        }
        whole
    }

    fn piece(&self, piece: &WordPiece, options: &ParserOptions) -> Alternatives {
        match piece {
            WordPiece::Text(text) | WordPiece::SingleQuotedText(text) | WordPiece::AnsiCQuotedText(text) => vec![text.clone()],
            WordPiece::DoubleQuotedSequence(pieces) | WordPiece::GettextDoubleQuotedSequence(pieces) => {
                self.join(pieces, options)
            }
            WordPiece::EscapeSequence(text) => vec![text.strip_prefix('\\').unwrap_or(text).to_owned()],
            WordPiece::ParameterExpansion(expr) => self.parameter(expr, options),
            WordPiece::CommandSubstitution(text) | WordPiece::BackquotedCommandSubstitution(text) if is_here(text) => {
                vec![HERE.to_owned()]
            }
            WordPiece::CommandSubstitution(_)
            | WordPiece::BackquotedCommandSubstitution(_)
            | WordPiece::TildePrefix(_)
            | WordPiece::ArithmeticExpression(_) => Vec::new(),
        }
    }

    fn parameter(&self, expr: &ParameterExpr, options: &ParserOptions) -> Alternatives {
        match expr {
            ParameterExpr::Parameter { parameter, indirect: false }
            | ParameterExpr::IndicateErrorIfNullOrUnset { parameter, indirect: false, .. } => self.of(parameter),
            ParameterExpr::UseDefaultValues { parameter, indirect: false, default_value: other, .. }
            | ParameterExpr::AssignDefaultValues { parameter, indirect: false, default_value: other, .. } => {
                let mut values = self.of(parameter);
                values.extend(other.as_deref().map(|text| self.expand(text, options)).unwrap_or_default());
                values
            }
            ParameterExpr::UseAlternativeValue { alternative_value: Some(text), .. } => {
                let mut values = self.expand(text, options);
                values.push(String::new());
                values
            }
            ParameterExpr::RemoveSmallestSuffixPattern { parameter: Parameter::Special(SpecialParameter::ShellName), pattern: Some(pattern), .. }
                if pattern == "/*" =>
            {
                vec![HERE.to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// `dirname "$0"`, however it is made absolute.
fn is_here(text: &str) -> bool {
    let of_script = ["$0", "BASH_SOURCE"].iter().any(|name| text.contains(name));
    text.contains("dirname") && of_script && !text.contains("..")
}

/// Texts that a word runs: its command substitutions, at any depth.
pub(super) fn substitutions(pieces: &[WordPieceWithSource], found: &mut Vec<String>) {
    for piece in pieces {
        match &piece.piece {
            WordPiece::CommandSubstitution(text) | WordPiece::BackquotedCommandSubstitution(text) => found.push(text.clone()),
            WordPiece::DoubleQuotedSequence(pieces) | WordPiece::GettextDoubleQuotedSequence(pieces) => {
                substitutions(pieces, found);
            }
            WordPiece::ParameterExpansion(expr) => found.extend(operand(expr).map(|text| format!(": {text}"))),
            WordPiece::ArithmeticExpression(expr) if expr.value.contains("$(") => found.push(format!(": \"{}\"", expr.value)),
            WordPiece::ArithmeticExpression(_)
            | WordPiece::Text(_)
            | WordPiece::SingleQuotedText(_)
            | WordPiece::AnsiCQuotedText(_)
            | WordPiece::EscapeSequence(_)
            | WordPiece::TildePrefix(_) => {}
        }
    }
}

/// The word inside of `${NAME:-word}` and its like, where it runs something.
fn operand(expr: &ParameterExpr) -> Option<&str> {
    let text = match expr {
        ParameterExpr::UseDefaultValues { default_value: text, .. }
        | ParameterExpr::AssignDefaultValues { default_value: text, .. }
        | ParameterExpr::IndicateErrorIfNullOrUnset { error_message: text, .. }
        | ParameterExpr::UseAlternativeValue { alternative_value: text, .. } => text.as_deref()?,
        _ => return None,
    };
    (text.contains("$(") || text.contains('`')).then_some(text)
}
