//! Batch: several images at a time on one screen. What the process of each announces is shown as it comes, one line for
//! each event with the image's name in front; then what came of all of them.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Stage, Ui};
use crate::exit::Exit;
use crate::report::figures::{self, counted};
use crate::report::model::Image;
use crate::report::show::{Paint, Style, verdict_paint};
use crate::report::{VerdictKind, figures::bytes};
use crate::ui::Mode;

/// What came of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// As the settings file calls it.
    pub name: String,
    /// In a word.
    pub state: State,
    /// The original; `None` where its size is not known.
    pub source: Option<Image>,
    /// The slim image; `None` when there is none, or its size is not known.
    pub result: Option<Image>,
    /// References with digests.
    pub published: Vec<(String, String)>,
    /// Where the report is; `None` without one.
    pub report: Option<PathBuf>,
    /// How its process ended.
    pub exit: Exit,
}

/// What came of it in a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was built, and this is the line that says what it is worth.
    Verdict(VerdictKind, String),
    /// It was there.
    UpToDate,
    /// It could not be built, for this reason.
    Failed(String),
    /// A signal ended it.
    Interrupted,
    /// Nobody got to it.
    NotStarted,
}

/// What came of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// In the order of the settings file.
    pub outcomes: Vec<Outcome>,
    /// Layers together; `None` when those of no image are known.
    pub unique: Option<Unique>,
    /// Images that went well and are not in it.
    pub unknown: Vec<String>,
    /// How all of it ends.
    pub exit: Exit,
}

/// Uncompressed bytes of the layers of several images, each layer once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unique {
    /// How many images.
    pub images: u64,
    /// Of the originals.
    pub before: u64,
    /// Of the slim ones.
    pub after: u64,
}

impl Outcome {
    /// Of an image of which no more is known.
    pub fn new(name: &str, state: State) -> Self {
        Self { name: name.into(), state, source: None, result: None, published: Vec::new(), report: None, exit: Exit::Failed }
    }

    /// Takes in what its process announced.
    pub fn learn(&mut self, event: &Value) {
        let image = |value: &Value| serde_json::from_value::<Option<Image>>(value.clone()).ok().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("summary") => {
                let kind = serde_json::from_value(event["verdict"]["kind"].clone()).unwrap_or_default();
                self.state = State::Verdict(kind, text(&event["verdict"]["line"]));
                (self.source, self.result) = (image(&event["source"]), image(&event["result"]));
            }
            Some("up_to_date") => {
                self.state = State::UpToDate;
                (self.source, self.result) = (image(&event["source"]), image(&event["result"]));
            }
            Some("error") => {
                let hint = event["hint"].as_str().map(|hint| format!("; {hint}")).unwrap_or_default();
                self.state = State::Failed(text(&event["error"]) + &hint);
            }
            Some("result") => self.published.push((text(&event["ref"]), text(&event["digest"]))),
            _ => {}
        }
    }

    /// Its process has ended; `why` says so where nothing else did.
    pub fn end(&mut self, exit: Exit, why: impl FnOnce() -> String) {
        self.exit = exit;
        if exit >= Exit::HungUp {
            self.state = State::Interrupted;
        } else if self.state == State::NotStarted {
            self.state = State::Failed(why());
            self.exit = exit.max(Exit::Failed);
        }
    }

    /// The word, for people and programs.
    fn word(&self) -> (&'static str, Paint) {
        match &self.state {
            State::Verdict(kind, _) => {
                let word = match kind {
                    VerdictKind::Verified => "VERIFIED",
                    VerdictKind::Unverified => "UNVERIFIED",
                    VerdictKind::Failed => "FAILED",
                    VerdictKind::Flaky => "FLAKY",
                };
                (word, verdict_paint(*kind))
            }
            State::UpToDate => ("UP TO DATE", Paint::Good),
            State::Failed(_) => ("FAILED", Paint::Bad),
            State::Interrupted => ("INTERRUPTED", Paint::Caution),
            State::NotStarted => ("NOT STARTED", Paint::Caution),
        }
    }

    /// Sizes of what went well, the reason of what did not.
    fn text(&self) -> String {
        match &self.state {
            State::Verdict(..) | State::UpToDate if self.exit == Exit::Done => sizes(self.source.as_ref(), self.result.as_ref()),
            State::Verdict(_, line) => line.split_once(": ").map_or(line.as_str(), |(_, why)| why).to_owned(),
            State::Failed(why) => why.clone(),
            State::UpToDate | State::Interrupted | State::NotStarted => String::new(),
        }
    }
}

impl Ui {
    /// Something that the process of one of several images announced.
    pub fn of_image(&self, name: &str, mut event: Value) {
        let mut stage = self.stage();
        match self.mode {
            Mode::Json => {
                if let Some(fields) = event.as_object_mut().filter(|fields| fields["event"] != "begin") {
                    fields.insert("image".into(), name.into());
                    stage.event(event);
                }
            }
            Mode::Fancy | Mode::Plain | Mode::None => {
                if let Some(line) = line(&event, self.mode) {
                    let line = format!("{}: {}", self.clean(name), self.clean(&line));
                    stage.print(&line);
                }
            }
            Mode::Quiet => {}
        }
    }

    /// One of several images is done with.
    pub fn ended(&self, outcome: &Outcome) {
        let mut stage = self.stage();
        let (word, paint) = outcome.word();
        let (name, text) = (self.clean(&outcome.name), self.clean(&outcome.text()));
        let is_good = outcome.exit == Exit::Done;
        match self.mode {
            Mode::Fancy | Mode::Plain => {
                stage.print(format!("{name}: {} {text}", self.talk.paint(paint, word)).trim_end());
            }
            Mode::Quiet => {
                let lines: String = outcome.published.iter().map(|(name, digest)| format!("{name}@{digest}\n")).collect();
                // Nobody reads them any more: the exit code still tells.
                let _gone = stage.data(&lines);
                if !is_good {
                    let word = if text.is_empty() { word.to_lowercase() } else { text };
                    stage.talk(&format!("{} {name}: {word}\n", self.talk.paint(Paint::Bad, "slim:")));
                }
            }
            Mode::None | Mode::Json => {}
        }
    }

    /// The end of a batch: one line for each image, then what they take together; or one `batch` event.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn batch(&self, sum: &Sum) -> Result<()> {
        let mut stage = self.stage();
        stage.clear();
        match self.mode {
            Mode::Fancy | Mode::Plain | Mode::None => self.table(&mut stage, sum),
            Mode::Json => stage.event(event(sum)),
            Mode::Quiet => {}
        }
        Ok(())
    }

    fn table(&self, stage: &mut Stage, sum: &Sum) {
        let names: Vec<String> = sum.outcomes.iter().map(|outcome| self.clean(&outcome.name)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        for (outcome, name) in sum.outcomes.iter().zip(&names) {
            let (word, paint) = outcome.word();
            let pad = " ".repeat("INTERRUPTED".len() - word.len());
            let line = format!("{}{pad}  {name:width$}  {}", self.talk.paint(paint, word), self.clean(&outcome.text()));
            stage.talk(&format!("{}\n", line.trim_end()));
        }
        let unknown: Vec<String> = sum.unknown.iter().map(|name| self.clean(name)).collect();
        for line in together(sum, &unknown, self.talk) {
            stage.talk(&format!("{line}\n"));
        }
    }
}

/// What stays on the screen of an event; what `Ui::ended` tells is not among it.
fn line(event: &Value, mode: Mode) -> Option<String> {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let shown = match event["event"].as_str()? {
        "warning" => return Some(format!("warning: {}", text("text"))),
        "probe" if event["passed"] == false => return Some(format!("failed: {}: {}", text("name"), text("detail"))),
        "log" => return Some(format!("| {}", text("line"))),
        "phase" if mode == Mode::Plain => format!("{}: {}", text("name"), text("detail")),
        "phase_done" => {
            let took = event["seconds"].as_f64().map(|s| format!(" ({})", figures::seconds(s))).unwrap_or_default();
            let detail = if text("detail").is_empty() { "done" } else { text("detail") };
            format!("{}: {detail}{took}", text("name"))
        }
        "info" => text("text").to_owned(),
        _ => return None,
    };
    (mode != Mode::None).then(|| shown.trim_end_matches([':', ' ']).to_owned())
}

fn sizes(source: Option<&Image>, result: Option<&Image>) -> String {
    let size = |image: Option<&Image>| image.map_or("unknown".to_owned(), |image| bytes(image.size_bytes));
    let factor = match (source, result) {
        (Some(source), Some(result)) => figures::factor(source.size_bytes, result.size_bytes),
        _ => String::new(),
    };
    format!("{} -> {}{}", size(source), size(result), smaller(&factor))
}

/// How many times, where that says something.
fn smaller(factor: &str) -> String {
    if matches!(factor, "" | "1.0x") { String::new() } else { format!(" ({factor} smaller)") }
}

/// What all of them came to; `unknown` are the names of those that are not in it.
fn together(sum: &Sum, unknown: &[String], style: Style) -> Vec<String> {
    let good = sum.outcomes.iter().filter(|outcome| outcome.exit == Exit::Done).count();
    let mut first = format!("{good} of {}", counted(sum.outcomes.len() as u64, "image", "images"));
    first.push_str(if good == sum.outcomes.len() { " fine" } else { " fine, the others are not" });
    let mut lines = vec![first];
    if let Some(unique) = &sum.unique {
        let Unique { images, before, after } = *unique;
        let change = smaller(&figures::factor(before, after));
        let of = counted(images, "image", "images");
        lines.push(format!("layers of {of}, each counted once: {} -> {}{change}", bytes(before), bytes(after)));
        if after > before {
            let text = "together the slim images take more than the originals, which share layers";
            lines.push(format!("{} {text}", style.paint(Paint::Caution, "warning:")));
        }
    }
    if !unknown.is_empty() {
        lines.push(format!("layers, each counted once: unknown for {}", unknown.join(", ")));
    }
    lines
}

fn event(sum: &Sum) -> Value {
    let image = |outcome: &Outcome| {
        let size = |image: &Option<Image>| image.as_ref().map(|image| image.size_bytes);
        let text = outcome.text();
        let why = Some(text).filter(|text| outcome.exit != Exit::Done && !text.is_empty());
        json!({
            "image": outcome.name,
            "state": outcome.word().0.to_lowercase().replace(' ', "_"),
            "why": why,
            "before": size(&outcome.source),
            "after": size(&outcome.result),
            "report": outcome.report,
            "exit": outcome.exit.code(),
        })
    };
    let unique = sum.unique.map(|unique| json!({"images": unique.images, "before": unique.before, "after": unique.after}));
    json!({
        "event": "batch",
        "images": sum.outcomes.iter().map(image).collect::<Vec<_>>(),
        "unique_bytes": unique,
        "unknown": sum.unknown,
        "exit": sum.exit.code(),
    })
}
