//! Parse: the commands in a shell script, by a shell's own grammar (the `brush-parser` crate).
//!
//! The parser has no bounds of its own: what is read here may be hostile, so [`crate::build`] reads it in a
//! process apart.

use std::collections::BTreeSet;

use brush_parser::ast::{self, Command, CommandPrefixOrSuffixItem as Item, CompoundCommand, CompoundList, IoRedirect};
use brush_parser::{Parser, ParserOptions, SourceInfo, word};

use super::carriers::{self, base, is_builtin, is_shell};
use super::words::{Alternatives, Variables, substitutions};
use super::{Call, CallKind, Script};

/// How deep texts may lie in texts (substitutions, `sh -c`, `eval`).
const DEEPEST: usize = 16;
/// Calls beyond these are not told.
const MOST_CALLS: usize = 4096;

/// Something that a script does, found in its tree.
enum Part<'a> {
    Simple(&'a ast::SimpleCommand),
    Function(&'a ast::FunctionDefinition),
    For(&'a ast::ForClauseCommand),
    /// A word that is expanded.
    Word(&'a str),
    /// A here-document.
    Document(&'a str),
}

/// Reads scripts into one list of calls.
#[derive(Default)]
pub(super) struct Reader {
    script: Script,
    seen: BTreeSet<(String, CallKind)>,
    variables: Variables,
    depth: usize,
}

impl Reader {
    /// What was found.
    pub fn finish(self) -> Script {
        let Script { mut calls, functions, unread } = self.script;
        calls.retain(|call| call.kind != CallKind::Program || !functions.contains(&call.name));
        Script { calls, functions, unread }
    }

    /// Reads a script.
    pub fn text(&mut self, text: &str) {
        if self.depth >= DEEPEST {
            return;
        }
        let options = ParserOptions::default();
        match Parser::new(text.as_bytes(), &options, &SourceInfo::default()).parse_program() {
            Ok(program) => {
                self.depth += 1;
                let mut parts = Vec::new();
                for list in &program.complete_commands {
                    walk_list(list, &mut parts);
                }
                parts.iter().for_each(|part| self.learn(part, &options));
                parts.iter().for_each(|part| self.part(part, &options));
                self.depth -= 1;
            }
            // A text inside of a script may be no script at all.
            Err(error) if self.depth == 0 => {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                self.script.unread.get_or_insert(first);
            }
            Err(_) => {}
        }
    }

    /// Functions and variables, wherever they are defined.
    fn learn(&mut self, part: &Part<'_>, options: &ParserOptions) {
        match part {
            Part::Function(function) => _ = self.script.functions.insert(function.fname.value.clone()),
            Part::For(each) => {
                for value in each.values.iter().flatten() {
                    let values = self.variables.expand(&value.value, options);
                    self.variables.assign(&each.variable_name, values);
                }
            }
            Part::Simple(command) => {
                for item in items(command) {
                    let Item::AssignmentWord(assignment, _) = item else { continue };
                    let ast::AssignmentName::VariableName(name) = &assignment.name else { continue };
                    let value = match &assignment.value {
                        ast::AssignmentValue::Scalar(word) => Some(word),
                        ast::AssignmentValue::Array(words) => words.first().map(|(_, word)| word),
                    };
                    if let Some(word) = value.filter(|_| !assignment.append) {
                        let values = self.variables.expand(&word.value, options);
                        self.variables.assign(name, values);
                    }
                }
            }
            Part::Word(_) | Part::Document(_) => {}
        }
    }

    fn part(&mut self, part: &Part<'_>, options: &ParserOptions) {
        match part {
            Part::Simple(command) => {
                let words: Vec<&ast::Word> = command.word_or_name.iter().chain(arguments(command)).collect();
                for word in &words {
                    self.inside(&word.value, options);
                }
                for item in command.prefix.iter().flat_map(|prefix| &prefix.0) {
                    if let Item::AssignmentWord(_, word) = item {
                        self.inside(&word.value, options);
                    }
                }
                let expanded: Vec<Alternatives> = words.iter().map(|word| self.variables.expand(&word.value, options)).collect();
                let Some(first) = words.first() else { return };
                self.split(&first.value, expanded);
            }
            Part::Word(text) => self.inside(text, options),
            Part::Document(text) => {
                self.inside(&unquoted(text), options);
            }
            Part::Function(_) | Part::For(_) => {}
        }
    }

    fn inside(&mut self, text: &str, options: &ParserOptions) {
        if text.contains("$(") || text.contains('`') || text.contains("${") {
            self.run_substitutions(&word::parse(text, options).unwrap_or_default());
        }
    }

    fn run_substitutions(&mut self, pieces: &[word::WordPieceWithSource]) {
        let mut texts = Vec::new();
        substitutions(pieces, &mut texts);
        texts.iter().for_each(|text| self.text(text));
    }

    /// A command whose first word, not being quoted, may stand for several.
    fn split(&mut self, first: &str, mut words: Vec<Alternatives>) {
        let quoted = first.contains(['"', '\'', '\\']);
        let Some(heads) = words.first_mut().map(std::mem::take) else { return };
        for head in heads {
            let parts: Vec<Alternatives> = match quoted {
                true => vec![vec![head]],
                false => head.split_whitespace().map(|part| vec![part.to_owned()]).collect(),
            };
            let whole: Vec<Alternatives> = parts.into_iter().chain(words.iter().skip(1).cloned()).collect();
            self.command(&whole, true);
        }
    }

    /// A command. `direct`: a shell runs it, so that builtins and functions come first.
    pub fn command(&mut self, words: &[Alternatives], direct: bool) {
        let Some((heads, arguments)) = words.split_first() else { return };
        for head in heads.iter().filter(|head| !head.is_empty()) {
            self.one(head, arguments, direct);
        }
    }

    fn one(&mut self, name: &str, words: &[Alternatives], direct: bool) {
        let first = |word: &Alternatives| word.first().cloned();
        let known: Vec<Option<String>> = words.iter().map(first).collect();
        let known: Vec<Option<&str>> = known.iter().map(Option::as_deref).collect();
        if direct && self.builtin(name, words, &known) {
            return;
        }
        self.call(name, CallKind::Program);
        match base(name) {
            "find" => self.find(words, &known),
            "run-parts" => known.last().copied().flatten().into_iter().for_each(|dir| self.call(dir, CallKind::Directory)),
            "start-stop-daemon" => {
                let named = |word: &Option<&str>| word.is_some_and(|word| ["-x", "--exec", "-a", "--startas"].contains(&word));
                for at in (0..known.len()).filter(|at| known.get(*at).is_some_and(named)) {
                    self.command(words.get(at + 1..at + 2).unwrap_or_default(), false);
                }
            }
            "su" | "runuser" if known.iter().flatten().any(|word| ["-c", "--command"].contains(word)) => {
                self.text_after(words, &known, &["-c", "--command"]);
            }
            "flock" if known.contains(&Some("-c")) => self.text_after(words, &known, &["-c"]),
            "env" if known.iter().flatten().any(|word| word.starts_with("-S")) => self.env_split(&known),
            shell if is_shell(shell) => self.shell(words, &known),
            _ => self.carried(name, words, &known),
        }
    }

    fn carried(&mut self, name: &str, words: &[Alternatives], known: &[Option<&str>]) {
        if let Some(carrier) = carriers::find(name) {
            let at = carrier.command_at(known);
            self.command(words.get(at..).unwrap_or_default(), false);
        }
    }

    /// What a shell does itself; whether it was that.
    fn builtin(&mut self, name: &str, words: &[Alternatives], known: &[Option<&str>]) -> bool {
        match name {
            "." | "source" => {
                let file = words.iter().find(|word| word.first().is_none_or(|word| word != "--"));
                file.into_iter().flatten().for_each(|file| self.call(file, CallKind::Source));
            }
            "eval" => {
                let text: Vec<&str> = known.iter().flatten().copied().collect();
                self.text(&text.join(" "));
            }
            "trap" => words.iter().take(1).flatten().filter(|text| !text.starts_with('-')).for_each(|text| self.text(text)),
            // A program is named for `exec "$@"` to run it.
            "set" => {
                let at = known.iter().position(|word| *word == Some("--")).map(|at| at + 1);
                let program = at.and_then(|at| words.get(at)).into_iter().flatten();
                program.filter(|word| !word.starts_with('-')).for_each(|word| self.one(word, &[], true));
            }
            "command" if known.iter().flatten().take_while(|word| word.starts_with('-')).any(|word| word.contains(['v', 'V'])) => {}
            "command" | "builtin" | "time" => {
                let at = known.iter().take_while(|word| word.is_some_and(|word| word.starts_with('-'))).count();
                self.command(words.get(at..).unwrap_or_default(), true);
            }
            "exec" => self.carried(name, words, known),
            _ => return is_builtin(name) || self.script.functions.contains(name),
        }
        true
    }

    /// `find ... -exec PROGRAM ... ;`
    fn find(&mut self, words: &[Alternatives], known: &[Option<&str>]) {
        for (at, word) in known.iter().enumerate() {
            if word.is_some_and(|word| ["-exec", "-execdir", "-ok", "-okdir"].contains(&word)) {
                let ends = |word: &Option<&str>| matches!(word, Some(";" | "+"));
                let end = known.iter().skip(at).position(ends).map_or(known.len(), |n| at + n);
                self.command(words.get(at + 1..end).unwrap_or_default(), false);
            }
        }
    }

    /// `env -S 'PROGRAM ARGUMENTS'`
    fn env_split(&mut self, known: &[Option<&str>]) {
        let text: Vec<&str> = known.iter().flatten().map(|word| word.strip_prefix("-S").unwrap_or(word)).collect();
        let words = text.join(" ");
        let words: Vec<Alternatives> = words.split_whitespace().map(|word| vec![word.to_owned()]).collect();
        let known: Vec<Option<&str>> = words.iter().map(|word| word.first().map(String::as_str)).collect();
        self.carried("env", &words, &known);
    }

    fn text_after(&mut self, words: &[Alternatives], known: &[Option<&str>], options: &[&str]) {
        let at = known.iter().position(|word| word.is_some_and(|word| options.contains(&word)));
        let texts = at.and_then(|at| words.get(at + 1)).into_iter().flatten();
        texts.for_each(|text| self.text(text));
    }

    /// `sh -c TEXT`, `sh FILE`.
    fn shell(&mut self, words: &[Alternatives], known: &[Option<&str>]) {
        let mut text = false;
        let mut at = 0;
        while let Some(Some(word)) = known.get(at) {
            if !word.starts_with(['-', '+']) {
                break;
            }
            text |= !word.starts_with("--") && word.contains('c');
            at += 1 + usize::from(!word.starts_with("--") && word.ends_with(['o', 'O']));
        }
        for word in words.get(at).into_iter().flatten() {
            match text {
                true => self.text(word),
                false => self.call(word, CallKind::Source),
            }
        }
    }

    /// Notes a call.
    pub fn call(&mut self, name: &str, kind: CallKind) {
        let odd = name.is_empty() || name.starts_with('-') || name.contains(['\0', '\n']);
        if !odd && self.script.calls.len() < MOST_CALLS && self.seen.insert((name.to_owned(), kind)) {
            self.script.calls.push(Call { name: name.to_owned(), kind });
        }
    }
}

/// A here-document without the quotes that mean nothing in it: those outside of what it runs.
fn unquoted(text: &str) -> String {
    let (mut depth, mut ticks, mut before) = (0usize, false, ' ');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '(' if depth > 0 || before == '$' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '`' => ticks = !ticks,
            _ => {}
        }
        if depth > 0 || ticks || !['"', '\''].contains(&c) {
            out.push(c);
        }
        before = c;
    }
    out
}

fn items(command: &ast::SimpleCommand) -> impl Iterator<Item = &Item> {
    let prefix = command.prefix.iter().flat_map(|prefix| &prefix.0);
    prefix.chain(command.suffix.iter().flat_map(|suffix| &suffix.0))
}

fn arguments(command: &ast::SimpleCommand) -> impl Iterator<Item = &ast::Word> {
    command.suffix.iter().flat_map(|suffix| &suffix.0).filter_map(|item| match item {
        Item::Word(word) | Item::AssignmentWord(_, word) => Some(word),
        Item::IoRedirect(_) | Item::ProcessSubstitution(..) => None,
    })
}

fn walk_list<'a>(list: &'a CompoundList, parts: &mut Vec<Part<'a>>) {
    for ast::CompoundListItem(and_or, _) in &list.0 {
        for (_, pipeline) in and_or {
            pipeline.seq.iter().for_each(|command| walk(command, parts));
        }
    }
}

fn walk<'a>(command: &'a Command, parts: &mut Vec<Part<'a>>) {
    match command {
        Command::Simple(simple) => {
            parts.push(Part::Simple(simple));
            for item in items(simple) {
                match item {
                    Item::IoRedirect(redirect) => walk_redirect(redirect, parts),
                    Item::ProcessSubstitution(_, inner) => walk_list(&inner.list, parts),
                    Item::Word(_) | Item::AssignmentWord(..) => {}
                }
            }
        }
        Command::Compound(compound, redirects) => {
            walk_compound(compound, parts);
            redirects.iter().flat_map(|list| &list.0).for_each(|redirect| walk_redirect(redirect, parts));
        }
        Command::Function(function) => {
            parts.push(Part::Function(function));
            walk_compound(&function.body.0, parts);
        }
        Command::ExtendedTest(test) => walk_test(&test.expr, parts),
    }
}

fn walk_compound<'a>(compound: &'a CompoundCommand, parts: &mut Vec<Part<'a>>) {
    match compound {
        CompoundCommand::Arithmetic(arithmetic) => parts.push(Part::Word(&arithmetic.expr.value)),
        CompoundCommand::ArithmeticForClause(each) => walk_list(&each.body.list, parts),
        CompoundCommand::BraceGroup(group) => walk_list(&group.list, parts),
        CompoundCommand::Subshell(shell) => walk_list(&shell.list, parts),
        CompoundCommand::ForClause(each) => {
            parts.push(Part::For(each));
            parts.extend(each.values.iter().flatten().map(|word| Part::Word(&word.value)));
            walk_list(&each.body.list, parts);
        }
        CompoundCommand::CaseClause(case) => {
            parts.push(Part::Word(&case.value.value));
            for item in &case.cases {
                parts.extend(item.patterns.iter().map(|word| Part::Word(&word.value)));
                item.cmd.iter().for_each(|list| walk_list(list, parts));
            }
        }
        CompoundCommand::IfClause(choice) => {
            walk_list(&choice.condition, parts);
            walk_list(&choice.then, parts);
            for other in choice.elses.iter().flatten() {
                other.condition.iter().for_each(|list| walk_list(list, parts));
                walk_list(&other.body, parts);
            }
        }
        CompoundCommand::WhileClause(ast::WhileOrUntilClauseCommand(condition, body, _))
        | CompoundCommand::UntilClause(ast::WhileOrUntilClauseCommand(condition, body, _)) => {
            walk_list(condition, parts);
            walk_list(&body.list, parts);
        }
    }
}

fn walk_redirect<'a>(redirect: &'a IoRedirect, parts: &mut Vec<Part<'a>>) {
    match redirect {
        IoRedirect::File(_, _, ast::IoFileRedirectTarget::ProcessSubstitution(_, inner)) => walk_list(&inner.list, parts),
        IoRedirect::File(_, _, ast::IoFileRedirectTarget::Filename(word) | ast::IoFileRedirectTarget::Duplicate(word))
        | IoRedirect::HereString(_, word)
        | IoRedirect::OutputAndError(word, _) => parts.push(Part::Word(&word.value)),
        IoRedirect::HereDocument(_, document) if document.requires_expansion => {
            parts.push(Part::Document(&document.doc.value));
        }
        IoRedirect::HereDocument(..) | IoRedirect::File(_, _, ast::IoFileRedirectTarget::Fd(_)) => {}
    }
}

fn walk_test<'a>(test: &'a ast::ExtendedTestExpr, parts: &mut Vec<Part<'a>>) {
    match test {
        ast::ExtendedTestExpr::And(one, other) | ast::ExtendedTestExpr::Or(one, other) => {
            walk_test(one, parts);
            walk_test(other, parts);
        }
        ast::ExtendedTestExpr::Not(one) | ast::ExtendedTestExpr::Parenthesized(one) => walk_test(one, parts),
        ast::ExtendedTestExpr::UnaryTest(_, word) => parts.push(Part::Word(&word.value)),
        ast::ExtendedTestExpr::BinaryTest(_, one, other) => {
            parts.extend([Part::Word(&one.value), Part::Word(&other.value)]);
        }
    }
}
