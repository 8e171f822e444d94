//! Fancy: phases that move, on a terminal. A bar for each open phase, with bytes and rate where it has them.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::progress::Fact;

/// The moving part of the screen.
pub(super) struct Fancy {
    screen: MultiProgress,
    open: Vec<(&'static str, ProgressBar)>,
}

impl Fancy {
    /// Nothing moves yet.
    pub(super) fn new() -> Self {
        Self { screen: MultiProgress::new(), open: Vec::new() }
    }

    /// Follows what is announced.
    pub(super) fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Phase { name, detail } => {
                let bar = ProgressBar::new_spinner().with_style(spinner()).with_prefix(*name);
                let bar = self.screen.add(bar.with_message(detail.clone()));
                bar.enable_steady_tick(Duration::from_millis(120));
                self.open.push((name, bar));
            }
            Fact::PhaseDone { name, .. } => {
                if let Some(at) = self.open.iter().rposition(|(open, _)| open == name) {
                    self.open.remove(at).1.finish_and_clear();
                }
            }
            Fact::Bytes { done, total } => {
                if let Some((_, bar)) = self.open.last() {
                    follow_bytes(bar, *done, *total);
                }
            }
            Fact::Probe { name, result: Ok(answer) } => {
                if let Some((_, bar)) = self.open.last() {
                    bar.set_message(format!("{name}: {answer}"));
                }
            }
            Fact::Probe { result: Err(_), .. } | Fact::Log { .. } | Fact::Warning { .. } | Fact::Info { .. } => {}
        }
    }

    /// Prints while nothing moves.
    pub(super) fn above(&self, print: impl FnOnce()) {
        self.screen.suspend(print);
    }

    /// Ends everything that moves.
    pub(super) fn clear(&mut self) {
        for (_, bar) in self.open.drain(..) {
            bar.finish_and_clear();
        }
    }
}

fn follow_bytes(bar: &ProgressBar, done: u64, total: Option<u64>) {
    match total {
        Some(total) if bar.length() != Some(total) => {
            bar.set_length(total);
            bar.set_style(template("{spinner} {prefix:8} {bar:24} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {wide_msg}"));
        }
        None if bar.position() == 0 && done > 0 => {
            bar.set_style(template("{spinner} {prefix:8} {decimal_bytes} {decimal_bytes_per_sec} {wide_msg}"));
        }
        _ => {}
    }
    bar.set_position(done);
}

fn spinner() -> ProgressStyle {
    template("{spinner} {prefix:8} {wide_msg} {elapsed}")
}

/// A style with our ticks; a template that does not parse falls back to the library's own.
fn template(text: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_spinner());
    style.tick_chars("|/-\\ ").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for text in [
            "{spinner} {prefix:8} {bar:24} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {wide_msg}",
            "{spinner} {prefix:8} {decimal_bytes} {decimal_bytes_per_sec} {wide_msg}",
            "{spinner} {prefix:8} {wide_msg} {elapsed}",
        ] {
            assert!(ProgressStyle::with_template(text).is_ok(), "{text}");
        }
    }
}
