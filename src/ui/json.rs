//! Json: progress for other programs, one JSON object a line on stdout. docs/formats.md, "Events".

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::exit::Exit;
use crate::progress::Fact;
use crate::report::Report;
use crate::report::file::to_line;
use crate::report::model::Image;

/// Name and major version of the event format.
const SCHEMA: &str = "slim.events/1";

/// `bytes` events come at most this often.
const BYTES_EVERY: Duration = Duration::from_millis(250);

/// Remembers what was written.
#[derive(Default)]
pub(super) struct Json {
    began: bool,
    last_bytes: Option<Instant>,
}

impl Json {
    /// The event for something announced; `took` are the seconds of a phase that ended. `None` for one of too
    /// many.
    pub(super) fn fact(&mut self, fact: &Fact, took: Option<f64>) -> Option<Value> {
        if let Fact::Bytes { done, total } = fact {
            let now = Instant::now();
            let last = *done > 0 && *total == Some(*done);
            if !last && self.last_bytes.is_some_and(|at| now - at < BYTES_EVERY) {
                return None;
            }
            self.last_bytes = Some(now);
        }
        Some(event(fact, took))
    }

    /// The event as text, after `begin` when it is the first.
    pub(super) fn lines(&mut self, event: &Value) -> String {
        let mut lines = String::new();
        if !std::mem::replace(&mut self.began, true) {
            let begin = json!({"event": "begin", "schema": SCHEMA, "version": env!("CARGO_PKG_VERSION")});
            lines.push_str(&format!("{begin}\n"));
        }
        lines.push_str(&to_line(event));
        lines.push('\n');
        lines
    }
}

/// An image that was made.
pub(super) fn result(name: &str, digest: &str) -> Value {
    json!({"event": "result", "ref": name, "digest": digest})
}

/// A result that was there already.
pub(super) fn up_to_date(name: &str, source: Option<&Image>, result: Option<&Image>) -> Value {
    json!({"event": "up_to_date", "name": name, "source": source, "result": result})
}

/// An error, before the program ends.
pub(super) fn error(text: &str, hint: Option<&str>, exit: Exit) -> Value {
    json!({"event": "error", "error": text, "hint": hint, "exit": exit.code()})
}

fn event(fact: &Fact, took: Option<f64>) -> Value {
    match fact {
        Fact::Phase { name, detail } => json!({"event": "phase", "name": name, "detail": detail}),
        Fact::PhaseDone { name, detail } => {
            let seconds = took.map(|s| (s * 1000.0).round() / 1000.0);
            json!({"event": "phase_done", "name": name, "detail": detail, "seconds": seconds})
        }
        Fact::Bytes { done, total } => json!({"event": "bytes", "done": done, "total": total}),
        Fact::Probe { name, result } => {
            let (passed, text) = match result {
                Ok(text) => (true, text),
                Err(text) => (false, text),
            };
            json!({"event": "probe", "name": name, "passed": passed, "detail": text})
        }
        Fact::Log { line } => json!({"event": "log", "line": line}),
        Fact::Warning { text } => json!({"event": "warning", "text": text}),
        Fact::Info { text } => json!({"event": "info", "text": text}),
    }
}

/// The report without its long lists.
pub(super) fn summary(report: &Report, file: Option<&str>) -> Value {
    json!({
        "event": "summary",
        "verdict": report.verdict,
        "source": report.source,
        "result": report.result,
        "surface": report.surface,
        "secrets": report.open_secrets().map(|open| json!({"present": open.len(), "gone": report.gone_secrets()})),
        "kept": {"files": report.kept_files(), "bytes": report.kept_bytes()},
        "removed": {"files": report.removed.files, "bytes": report.removed.bytes},
        "floor_bytes": report.floor_bytes,
        "holdout": report.holdout,
        "budgets": report.budgets,
        "verify": report.verify.as_ref().map(|verify| json!({"compared": verify.compared, "differences": verify.differences})),
        "warnings": report.warnings,
        "report": file,
        "exit": report.exit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_one_line_each_whatever_they_say() {
        let fact = Fact::Warning { text: "two\nlines".to_owned() };
        assert_eq!(event(&fact, None).to_string(), r#"{"event":"warning","text":"two\nlines"}"#);
        assert_eq!(
            event(&Fact::PhaseDone { name: "pack", detail: "1 layer".into() }, Some(0.12345)).to_string(),
            r#"{"event":"phase_done","name":"pack","detail":"1 layer","seconds":0.123}"#
        );
        assert!(!summary(&Report::default(), None).to_string().contains('\n'));
    }
}
