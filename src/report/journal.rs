//! Journal: keeps what stages announced (their times, their warnings) for the report, and passes it on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::model::Phase;
use crate::progress::{Fact, Monitor};

/// A [`Monitor`] in front of another one.
pub struct Journal {
    next: Arc<dyn Monitor>,
    /// When the first phase can have begun.
    began: Instant,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    open: Vec<(usize, Instant)>,
    phases: Vec<Phase>,
    warnings: Vec<String>,
}

impl Journal {
    /// Passes everything on to `next`.
    pub fn new(next: Arc<dyn Monitor>) -> Self {
        Self { next, began: Instant::now(), pages: Mutex::default() }
    }

    /// The phases in the order they began; one that has not ended counts up to now.
    pub fn phases(&self) -> Vec<Phase> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut phases = pages.phases.clone();
        for (at, began) in &pages.open {
            phases[*at].seconds = milliseconds(began);
        }
        phases
    }

    /// Every warning so far.
    pub fn warnings(&self) -> Vec<String> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).warnings.clone()
    }
}

fn milliseconds(began: &Instant) -> f64 {
    began.elapsed().as_millis() as f64 / 1000.0
}

impl Monitor for Journal {
    fn tell(&self, fact: Fact) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        match &fact {
            Fact::Phase { name, .. } => {
                let at = pages.phases.len();
                pages.phases.push(Phase { name: (*name).to_owned(), start: milliseconds(&self.began), ..Phase::default() });
                pages.open.push((at, Instant::now()));
            }
            Fact::PhaseDone { name, .. } => {
                let open = pages.open.iter().rposition(|(at, _)| pages.phases[*at].name == *name);
                if let Some(open) = open {
                    let (at, began) = pages.open.remove(open);
                    pages.phases[at].seconds = milliseconds(&began);
                }
            }
            Fact::Bytes { done, .. } => {
                if let Some((at, _)) = pages.open.last().copied() {
                    pages.phases[at].bytes = Some(*done);
                }
            }
            Fact::Warning { text } => pages.warnings.push(text.clone()),
            Fact::Probe { .. } | Fact::Log { .. } | Fact::Info { .. } => {}
        }
        drop(pages);
        self.next.tell(fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Void;

    #[test]
    fn phases_nest_and_an_open_one_is_listed() {
        let journal = Journal::new(Arc::new(Void));
        let phase = |name| journal.tell(Fact::Phase { name, detail: String::new() });
        phase("record");
        phase("probe");
        journal.tell(Fact::Bytes { done: 7, total: None });
        journal.tell(Fact::PhaseDone { name: "probe", detail: String::new() });
        let names: Vec<(String, Option<u64>)> = journal.phases().into_iter().map(|p| (p.name, p.bytes)).collect();
        assert_eq!(names, [("record".to_owned(), None), ("probe".to_owned(), Some(7))]);
    }
}
