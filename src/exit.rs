//! Exit: the status that the program ends with. The first failing stage sets it; a batch returns the highest.
//!
//! A stage names its status by putting it into the error chain (`.context(Exit::Trace)`); its meaning is then
//! also the first words that the user reads. A [`Hint`] travels the same way and gets a line of its own.

use std::fmt;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// Every status the program ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// 0: done, and verified or not asked to verify.
    #[default]
    Done,
    /// 1: could not, for a reason that has no status of its own.
    Failed,
    /// 2: the command line, a settings file or a probe file is wrong.
    Usage,
    /// 3: the probes already fail on the original image, or it answers differently from run to run.
    Baseline,
    /// 4: the recording is incomplete, so nothing may be decided from it.
    Trace,
    /// 5: the slim image behaves differently.
    Differs,
    /// 6: a budget or gate was missed.
    Gate,
    /// 70: a bug in this program (sysexits(3), EX_SOFTWARE).
    Bug,
    /// 75: worth trying again: network, engine busy or restarted (sysexits(3), EX_TEMPFAIL).
    Retry,
    /// 129: the terminal went away (128 + SIGHUP).
    HungUp,
    /// 130: interrupted by Ctrl-C (128 + SIGINT).
    Interrupted,
    /// 131: quit by Ctrl-\ (128 + SIGQUIT); no core is written.
    Quit,
    /// 143: terminated (128 + SIGTERM).
    Terminated,
}

/// All of them, in the order of their codes.
pub const ALL: [Exit; 13] = [
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::Baseline,
    Exit::Trace,
    Exit::Differs,
    Exit::Gate,
    Exit::Bug,
    Exit::Retry,
    Exit::HungUp,
    Exit::Interrupted,
    Exit::Quit,
    Exit::Terminated,
];

impl Exit {
    /// The process's exit status.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Baseline => 3,
            Exit::Trace => 4,
            Exit::Differs => 5,
            Exit::Gate => 6,
            Exit::Bug => 70,
            Exit::Retry => 75,
            Exit::HungUp => 129,
            Exit::Interrupted => 130,
            Exit::Quit => 131,
            Exit::Terminated => 143,
        }
    }

    /// What it means, in one phrase.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "could not do it",
            Exit::Usage => "the command line or a file it names is wrong",
            Exit::Baseline => "the original image does not pass the probes reliably",
            Exit::Trace => "the recording is incomplete",
            Exit::Differs => "the slim image behaves differently",
            Exit::Gate => "a budget was missed",
            Exit::Bug => "a bug in slim",
            Exit::Retry => "a passing trouble, worth trying again",
            Exit::HungUp => "hung up",
            Exit::Interrupted => "interrupted",
            Exit::Quit => "quit",
            Exit::Terminated => "terminated",
        }
    }

    /// The status with this code; `None` for a code that the program never gives.
    pub fn from_code(code: u8) -> Option<Self> {
        ALL.into_iter().find(|exit| exit.code() == code)
    }

    /// What an error asks for: the status nearest to the top of its chain, [`Exit::Failed`] without one.
    pub fn of(error: &anyhow::Error) -> Self {
        error.downcast_ref::<Exit>().copied().unwrap_or(Exit::Failed)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

impl std::error::Error for Exit {}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A status as reports hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExitRecord {
    /// [`Exit::code`].
    pub code: u8,
    /// [`Exit::meaning`].
    pub meaning: String,
}

impl From<Exit> for ExitRecord {
    fn from(exit: Exit) -> Self {
        Self { code: exit.code(), meaning: exit.meaning().to_owned() }
    }
}

/// What the user can do about an error. Put into the chain with `.context(Hint::new("..."))`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(String);

impl Hint {
    /// One line, small first letter, no period.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hint {}

/// The chain of causes in one line, each cause once; without the hint, which has a line of its own.
pub fn causes(error: &anyhow::Error) -> String {
    let hint = error.downcast_ref::<Hint>().map(ToString::to_string);
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if Some(&text) == hint.as_ref() {
            continue;
        }
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let text = lines.join("; ");
        // Some errors print their own source.
        if text.is_empty() || parts.iter().any(|part| part.ends_with(&text)) {
            continue;
        }
        parts.push(text);
    }
    parts.join(": ")
}

/// The first panic of this process, on whichever thread; `None` while there is none.
static PANIC: OnceLock<String> = OnceLock::new();

/// From now on a panic is remembered instead of printed, for [`bug`] to tell. With RUST_BACKTRACE it is printed too.
pub fn watch_panics() {
    let print = std::env::var_os("RUST_BACKTRACE").filter(|value| value != "0").map(|_| std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        let _not_the_first = PANIC.set(panic_text(info));
        if let Some(print) = &print {
            print(info);
        }
    }));
}

fn panic_text(info: &PanicHookInfo<'_>) -> String {
    let said = info.payload();
    let said = said.downcast_ref::<&str>().copied().or_else(|| said.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(|place| format!(", at {}:{}", place.file(), place.line())).unwrap_or_default();
    format!("{}{place}", said.unwrap_or("a panic without words"))
}

/// What is told of a panic; `None` when there was none.
pub fn bug() -> Option<anyhow::Error> {
    let text = PANIC.get()?;
    Some(anyhow::anyhow!("{text}; please report it, with the command line").context(Exit::Bug))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_documented_code() {
        let codes: Vec<u8> = ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 70, 75, 129, 130, 131, 143]);
        for exit in ALL {
            assert_eq!(Exit::from_code(exit.code()), Some(exit));
            assert!(!exit.meaning().is_empty());
        }
        assert_eq!(Exit::from_code(7), None);
    }

    #[test]
    fn a_batch_returns_the_highest() {
        assert_eq!([Exit::Done, Exit::Differs, Exit::Usage].into_iter().max(), Some(Exit::Differs));
    }

    #[test]
    fn the_status_is_found_anywhere_in_the_chain() {
        let error = anyhow::anyhow!("queue overflow").context(Exit::Trace).context("record the run");
        assert_eq!(Exit::of(&error), Exit::Trace);
        assert_eq!(Exit::of(&anyhow::anyhow!("no")), Exit::Failed);
    }

    #[test]
    fn an_error_is_one_line_of_causes_and_its_hint_is_apart() {
        let io = std::io::Error::from_raw_os_error(13);
        let error = anyhow::Error::new(io)
            .context("fanotify_init(CLASS_NOTIF)\nwas refused")
            .context(Hint::new("add CAP_SYS_ADMIN or use --sensor syscalls"))
            .context(Exit::Trace)
            .context("record the run");
        assert_eq!(
            causes(&error),
            "record the run: the recording is incomplete: fanotify_init(CLASS_NOTIF); was refused: \
             Permission denied (os error 13)"
        );
    }

    #[test]
    fn a_cause_that_its_error_already_says_is_not_said_twice() {
        let error = anyhow::anyhow!("no such host").context("connect: no such host");
        assert_eq!(causes(&error), "connect: no such host");
    }
}
