//! Reason: a reason in words, and which reasons of a path are worth holding.

use std::fmt;

use super::Reason;
use crate::sensor::event::AccessKind;

/// The word for a path that only a directory walker looked at or whose owner it set.
pub(super) const WALKED: &str = "walked";
/// The word for a directory in which a program looked for a name that the image does not have.
pub(super) const SEARCHED: &str = "searched for a missing name";

/// Uses of a path, strongest evidence first.
const STRENGTH: &[&str] = &[
    "executed",
    "opened",
    "opened directory",
    "entered",
    "connected to",
    "read link",
    "watched",
    "made, moved or removed",
    "metadata written",
    "stat()ed",
    SEARCHED,
    WALKED,
];

/// The word for a kind of use, as [`Reason::Touched`] has it.
pub(super) fn how(kind: AccessKind) -> &'static str {
    match kind {
        AccessKind::Exec => "executed",
        AccessKind::Open => "opened",
        AccessKind::OpenDir => "opened directory",
        AccessKind::Chdir => "entered",
        AccessKind::Socket => "connected to",
        AccessKind::Readlink => "read link",
        AccessKind::Watch => "watched",
        AccessKind::Name => "made, moved or removed",
        AccessKind::Meta => "metadata written",
        AccessKind::Stat => "stat()ed",
    }
}

impl Reason {
    /// Whether it is evidence of a directory walker only.
    pub fn is_walked(&self) -> bool {
        matches!(self, Reason::Touched { how, .. } if how == WALKED)
    }

    /// Whether it is evidence that what is in the file was used.
    pub fn is_use_of_content(&self) -> bool {
        let words = [how(AccessKind::Exec), how(AccessKind::Open)];
        matches!(self, Reason::Touched { how, .. } if words.contains(&how.as_str()))
    }

    /// Whether the path matters itself, so that what it needs is kept too; not so for directories and links
    /// on the way, nor for what a directory walker looked at.
    pub(super) fn has_consequences(&self) -> bool {
        match self {
            Reason::Touched { how, .. } => how != WALKED && how != SEARCHED,
            Reason::OnTheWay { .. } | Reason::LinkTo { .. } => false,
            Reason::InterpreterOf { .. }
            | Reason::NeededBy { .. }
            | Reason::HardlinkOf { .. }
            | Reason::App { .. }
            | Reason::Package { .. }
            | Reason::Include { .. }
            | Reason::Rule { .. } => true,
        }
    }

    /// Place in the order of a path's reasons: smaller is stronger.
    pub(super) fn strength(&self) -> usize {
        let last = STRENGTH.len();
        match self {
            Reason::Touched { how, .. } => STRENGTH.iter().position(|word| word == how).unwrap_or(last),
            Reason::InterpreterOf { .. } => last + 1,
            Reason::NeededBy { .. } => last + 2,
            Reason::Include { .. } => last + 3,
            Reason::Package { .. } => last + 4,
            Reason::Rule { .. } => last + 5,
            Reason::App { .. } => last + 6,
            Reason::HardlinkOf { .. } => last + 7,
            Reason::LinkTo { .. } => last + 8,
            Reason::OnTheWay { .. } => last + 9,
        }
    }

    /// Whether `self` says nothing that `known` does not: the first process and probe of each kind of use,
    /// the first dependent, stand for the rest.
    pub(super) fn repeats(&self, known: &Reason) -> bool {
        match (self, known) {
            (Reason::Touched { how, .. }, Reason::Touched { how: known, .. }) => how == known,
            (Reason::Rule { name, .. }, Reason::Rule { name: known, .. }) => name == known,
            (Reason::Include { .. }, _) | (Reason::Package { .. }, _) => self == known,
            _ => std::mem::discriminant(self) == std::mem::discriminant(known),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Touched { how, process, probe } => {
                let when = match probe.as_str() {
                    "start" => "at start".into(),
                    "stop" => "on the way down".into(),
                    probe => format!("while `{probe}` ran"),
                };
                let (before, after) = match how.as_str() {
                    "opened directory" => ("opened as a directory", ""),
                    "entered" => ("made the working or root directory", ""),
                    "read link" => ("read as a link", ""),
                    SEARCHED => ("searched", " for a name that the image does not have"),
                    WALKED => ("walked over", ""),
                    "metadata written" => ("given new metadata", ""),
                    how => (how, ""),
                };
                write!(f, "{before} by {process}{after} {when}")
            }
            Reason::OnTheWay { to } => write!(f, "on the way to {to}"),
            Reason::LinkTo { target } => write!(f, "link to {target}"),
            Reason::InterpreterOf { program } => write!(f, "interpreter of {program}"),
            Reason::NeededBy { object } => write!(f, "needed by {object}"),
            Reason::HardlinkOf { name } => write!(f, "another name of {name}"),
            Reason::App { root } => write!(f, "one of the application's files in {root}"),
            Reason::Package { name, needed_by: None } => write!(f, "part of package {name}"),
            Reason::Package { name, needed_by: Some(other) } => {
                write!(f, "part of package {name}, which {other} needs")
            }
            Reason::Include { flag } => write!(f, "asked for by {flag}"),
            Reason::Rule { name, by: Some(by) } => write!(f, "rule {name}, because of {by}"),
            Reason::Rule { name, by: None } => write!(f, "rule {name}"),
        }
    }
}
