//! Progress: facts announced while a build runs. Stages announce; only the ui chooses words and colours.

/// Something that happened, announced by a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A stage began: `pull`, `record`, `probe`, `decide`, `pack`, `load`, `verify`.
    Phase {
        /// Its name.
        name: &'static str,
        /// What it works on, for people.
        detail: String,
    },
    /// The stage that began last has ended.
    PhaseDone {
        /// Its name.
        name: &'static str,
        /// What came of it, for people.
        detail: String,
    },
    /// Long work moved on.
    Bytes {
        /// Done so far.
        done: u64,
        /// `None` when the total is unknown.
        total: Option<u64>,
    },
    /// A request was answered.
    Probe {
        /// Its name.
        name: String,
        /// `Ok`: what came (`200 text/html 1.2 kB`); `Err`: why it failed.
        result: Result<String, String>,
    },
    /// A line of the target's log (`--show-clogs`, or after a failure).
    Log {
        /// The line, made printable.
        line: String,
    },
    /// A thing the user should know and may act on.
    Warning {
        /// One line.
        text: String,
    },
    /// A thing worth knowing.
    Info {
        /// One line.
        text: String,
    },
}

/// Takes announcements. Terminal, JSON lines, collecting for tests, and void implement it.
pub trait Monitor: Send + Sync {
    /// Takes one announcement; must not block for long.
    fn tell(&self, fact: Fact);
}

/// Keeps announcements back until it is known whether they count.
#[derive(Debug, Default)]
pub struct Later(std::sync::Mutex<Vec<Fact>>);

impl Later {
    /// Makes the announcements.
    pub fn tell_all(&self, monitor: &dyn Monitor) {
        let facts = std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        facts.into_iter().for_each(|fact| monitor.tell(fact));
    }
}

impl Monitor for Later {
    fn tell(&self, fact: Fact) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(fact);
    }
}

/// Forgets everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Void;

impl Monitor for Void {
    fn tell(&self, _: Fact) {}
}
