//! Ui: what the program shows. The only place that prints: stdout is data, stderr is talk.
//!
//! Stages announce facts ([`crate::progress`]); this chooses words, colours and whether to show them at all.
//! Everything shown goes through the redactor and is made printable, whoever wrote it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::engine::exit_of;
use crate::exit::{Hint, causes};
use crate::image::path::printable;
use crate::progress::{Fact, Monitor};
use crate::report::figures;
use crate::report::show::{Paint, Style, show};
use crate::report::model::Image;
use crate::report::{Redactor, Report};

pub mod batch;
pub mod cache;
mod fancy;
mod json;
pub mod terminal;

pub use terminal::{Color, Mode};

use fancy::Fancy;
use json::Json;

/// What the program shows, in one mode.
pub struct Ui {
    mode: Mode,
    talk: Style,
    data: Style,
    redactor: RwLock<Redactor>,
    stage: Mutex<Stage>,
}

/// What is on the screen now, and the streams that lead there.
struct Stage {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Phases that have not ended, the latest last.
    open: Vec<(&'static str, Instant)>,
    fancy: Option<Fancy>,
    json: Json,
}

impl Ui {
    /// A ui that writes to this process's stdout and stderr.
    pub fn new(mode: Mode, color: Color) -> Self {
        let mut ui = Self::to(mode, Style::default(), Box::new(io::stdout()), Box::new(io::stderr()));
        ui.talk = terminal::style(color, &io::stderr());
        ui.data = terminal::style(color, &io::stdout());
        ui
    }

    /// A ui that writes somewhere else: data to `out`, talk to `err`. Bars still move on stderr.
    pub fn to(mode: Mode, style: Style, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        let fancy = (mode == Mode::Fancy).then(Fancy::new);
        Self {
            mode,
            talk: style,
            data: style,
            redactor: RwLock::default(),
            stage: Mutex::new(Stage { out, err, open: Vec::new(), fancy, json: Json::default() }),
        }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How text on stdout is set, for [`Ui::print_stdout`].
    pub fn data_style(&self) -> Style {
        self.data
    }

    /// From now on these secrets are masked in everything shown.
    pub fn redact(&self, redactor: Redactor) {
        *self.redactor.write().unwrap_or_else(PoisonError::into_inner) = redactor;
    }

    /// The end of a build: the report on one screen (stderr), or one `summary` event; with `-q` the verdict
    /// alone, of a build that did not publish. `file` is where the report was written.
    pub fn summary(&self, report: &Report, file: Option<&Path>) {
        let file = file.map(|path| path.display().to_string());
        let mut stage = self.stage();
        stage.clear();
        match self.mode {
            Mode::Fancy | Mode::Plain | Mode::None => stage.talk(&show(report, self.talk, file.as_deref())),
            Mode::Json => stage.event(json::summary(report, file.as_deref())),
            // That nothing was published has a reason, and no error says it.
            Mode::Quiet if report.exit.code != 0 => {
                let line = self.clean(&report.verdict.line);
                let missed: String = report.missed_budgets().map(|standing| format!("  {}\n", self.clean(&standing.line))).collect();
                stage.talk(&format!("{} {line}\n{missed}", self.talk.paint(Paint::Bad, "slim:")));
            }
            Mode::Quiet => {}
        }
    }

    /// The result was there already: one line on stderr, or one `up_to_date` event.
    pub fn up_to_date(&self, name: &str, source: Option<&Image>, result: Option<&Image>) {
        let mut stage = self.stage();
        stage.clear();
        match self.mode {
            Mode::Fancy | Mode::Plain | Mode::None => stage.talk(&format!("up to date: {}\n", self.clean(name))),
            Mode::Json => stage.event(json::up_to_date(name, source, result)),
            Mode::Quiet => {}
        }
    }

    /// The images that were made: with `-q` one `ref@digest` line each on stdout, and one event each as JSON.
    ///
    /// # Errors
    /// When stdout cannot be written; a reader that went away is no error.
    pub fn result(&self, images: &[(String, String)]) -> Result<()> {
        let mut stage = self.stage();
        stage.clear();
        match self.mode {
            Mode::Quiet => {
                let lines: String = images.iter().map(|(name, digest)| format!("{name}@{digest}\n")).collect();
                stage.data(&lines)
            }
            Mode::Json => {
                images.iter().for_each(|(name, digest)| stage.event(json::result(name, digest)));
                Ok(())
            }
            Mode::Fancy | Mode::Plain | Mode::None => Ok(()),
        }
    }

    /// Secrets that turned up on the way (the image's own environment) are masked from now on, too.
    pub fn learn_env(&self, lines: &[String]) {
        self.redactor.write().unwrap_or_else(PoisonError::into_inner).learn_env(lines);
    }

    /// An error: `slim: ` and its chain of causes in one line, then what can be done about it.
    pub fn error(&self, error: &anyhow::Error) {
        let text = self.clean(&causes(error));
        let hint = error.downcast_ref::<Hint>().map(|hint| self.clean(&hint.to_string()));
        let mut stage = self.stage();
        stage.clear();
        if self.mode == Mode::Json {
            stage.event(json::error(&text, hint.as_deref(), exit_of(error)));
        }
        let mut out = format!("{} {text}\n", self.talk.paint(Paint::Bad, "slim:"));
        if let Some(hint) = hint {
            out.push_str(&format!("{} {hint}\n", self.talk.paint(Paint::Caution, "hint:")));
        }
        stage.talk(&out);
    }

    /// Data that a command was asked for (`why`, `probes`, completions), as it is.
    ///
    /// # Errors
    /// When stdout cannot be written; a reader that went away (`| head`) is no error.
    pub fn print_stdout(&self, text: &str) -> Result<()> {
        let mut stage = self.stage();
        stage.clear();
        stage.data(text)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Secrets masked, control characters escaped, one line.
    fn clean(&self, text: &str) -> String {
        let redacted = self.redactor.read().unwrap_or_else(PoisonError::into_inner).text(text);
        printable(redacted.trim_end().as_bytes())
    }

    fn clean_fact(&self, fact: Fact) -> Fact {
        let clean = |text: String| self.clean(&text);
        match fact {
            Fact::Phase { name, detail } => Fact::Phase { name, detail: clean(detail) },
            Fact::PhaseDone { name, detail } => Fact::PhaseDone { name, detail: clean(detail) },
            Fact::Bytes { done, total } => Fact::Bytes { done, total },
            Fact::Probe { name, result } => {
                Fact::Probe { name: clean(name), result: result.map(clean).map_err(clean) }
            }
            Fact::Log { line } => Fact::Log { line: clean(line) },
            Fact::Warning { text } => Fact::Warning { text: clean(text) },
            Fact::Info { text } => Fact::Info { text: clean(text) },
        }
    }
}

impl Monitor for Ui {
    fn tell(&self, fact: Fact) {
        if self.mode == Mode::Quiet {
            return;
        }
        let fact = self.clean_fact(fact);
        let mut stage = self.stage();
        let took = stage.follow(&fact);
        match self.mode {
            Mode::Json => {
                if let Some(event) = stage.json.fact(&fact, took) {
                    stage.event(event);
                }
            }
            Mode::Fancy | Mode::Plain | Mode::None => {
                if let Some(fancy) = &mut stage.fancy {
                    fancy.fact(&fact);
                }
                let line = match self.mode {
                    Mode::Plain => plain(&fact, took, self.talk),
                    Mode::Fancy => lasting(&fact, took, self.talk),
                    Mode::None | Mode::Quiet | Mode::Json => alarm(&fact, self.talk),
                };
                if let Some(line) = line {
                    stage.print(&line);
                }
            }
            Mode::Quiet => {}
        }
    }
}

impl Stage {
    /// Keeps count of open phases; gives the seconds of one that ends.
    fn follow(&mut self, fact: &Fact) -> Option<f64> {
        match fact {
            Fact::Phase { name, .. } => {
                self.open.push((name, Instant::now()));
                None
            }
            Fact::PhaseDone { name, .. } => {
                let at = self.open.iter().rposition(|(open, _)| open == name)?;
                Some(self.open.remove(at).1.elapsed().as_secs_f64())
            }
            _ => None,
        }
    }

    /// A line that stays, above whatever moves.
    fn print(&mut self, line: &str) {
        let Self { err, fancy, .. } = self;
        match fancy {
            Some(fancy) => fancy.above(|| talk(err, &format!("{line}\n"))),
            None => talk(err, &format!("{line}\n")),
        }
    }

    /// Writes to stderr.
    fn talk(&mut self, text: &str) {
        talk(&mut self.err, text);
    }

    /// Writes to stdout. A reader that went away is no error.
    fn data(&mut self, text: &str) -> Result<()> {
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("write to stdout"),
        }
    }

    /// Writes an event. A full disk behind stdout must not stop a build half way: the exit code and the
    /// report still tell.
    fn event(&mut self, event: Value) {
        let lines = self.json.lines(&event);
        let _ = self.data(&lines);
    }

    /// Takes away whatever moves.
    fn clear(&mut self) {
        if let Some(fancy) = &mut self.fancy {
            fancy.clear();
        }
    }
}

/// Every phase when it begins and when it ends.
fn plain(fact: &Fact, took: Option<f64>, style: Style) -> Option<String> {
    match fact {
        Fact::Phase { name, detail } => Some(format!("{name}: {detail}").trim_end_matches([':', ' ']).to_owned()),
        _ => lasting(fact, took, style),
    }
}

/// What stays on a screen that shows running phases by itself.
fn lasting(fact: &Fact, took: Option<f64>, style: Style) -> Option<String> {
    match fact {
        Fact::PhaseDone { name, detail } => {
            let took = took.map(|s| format!(" ({})", figures::seconds(s))).unwrap_or_default();
            let detail = if detail.is_empty() { "done" } else { detail };
            Some(format!("{name}: {detail}{}", style.paint(Paint::Faint, &took)))
        }
        Fact::Log { line } => Some(format!("{} {line}", style.paint(Paint::Faint, "|"))),
        Fact::Info { text } => Some(text.clone()),
        _ => alarm(fact, style),
    }
}

/// What is told even where no progress is wanted.
fn alarm(fact: &Fact, style: Style) -> Option<String> {
    match fact {
        Fact::Warning { text } => Some(format!("{} {text}", style.paint(Paint::Caution, "warning:"))),
        Fact::Probe { name, result: Err(why) } => Some(format!("{} {name}: {why}", style.paint(Paint::Bad, "failed:"))),
        Fact::Log { line } => Some(format!("| {line}")),
        Fact::Probe { result: Ok(_), .. }
        | Fact::Phase { .. }
        | Fact::PhaseDone { .. }
        | Fact::Bytes { .. }
        | Fact::Info { .. } => None,
    }
}

/// Talk that nobody can hear is lost: stderr has no better place to complain.
fn talk(err: &mut dyn Write, text: &str) {
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_masked_and_cannot_move_the_cursor() {
        let ui = Ui::new(Mode::None, Color::Never);
        let mut redactor = Redactor::new();
        redactor.learn("canary-4711");
        ui.redact(redactor);
        assert_eq!(ui.clean("a\x1b[2J canary-4711\r\n"), "a\\u{1b}[2J ***");
    }
}
