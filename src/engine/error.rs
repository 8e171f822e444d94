//! Error: what went wrong at an engine, as far as a caller does something different about it.
//!
//! An [`EngineError`] is the root of an `anyhow` chain: `error.downcast_ref::<EngineError>()` finds it under
//! any context. The text of an engine decides the kind where its status code does not (Docker answers 500 to
//! most things that a registry or a disk did).

use bollard::errors::Error as Bollard;
use thiserror::Error;

use crate::exit::Exit;

/// The exit status of an error: what its chain names; trouble of an engine that may pass is worth a retry.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    match (Exit::of(error), error.downcast_ref::<EngineError>()) {
        (Exit::Failed, Some(engine)) if engine.is_retryable() => Exit::Retry,
        (exit, _) => exit,
    }
}

/// What an engine could not do.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Nobody answers where the engine should be, or it may not be talked to.
    #[error("{0}")]
    Unreachable(String),
    /// It does not have what was asked for.
    #[error("{0}")]
    NotFound(String),
    /// A registry wants (other) credentials.
    #[error("{0}")]
    Unauthorized(String),
    /// The network, a registry or the engine itself was not there for a moment: worth retrying.
    #[error("{0}")]
    Busy(String),
    /// Its containers are not what this executable can be the sensor of.
    #[error("{0}")]
    WrongPlatform(String),
    /// Its disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// The program of a container cannot be executed; the status is what `docker run` would exit with.
    #[error("{message}")]
    CannotExecute {
        /// 126: found, but not executable; 127: not found.
        status: i32,
        /// What the engine said.
        message: String,
    },
    /// Something of the same name, or in use, stands in the way.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for makes no sense to it: an option, a reference, a build that fails.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl EngineError {
    /// Whether the same command may succeed a little later (exit code 75).
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    /// Whether it is about the engine or the way to it, not about what was asked for.
    pub fn is_trouble(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unreachable(_) | Self::NoSpace(_) | Self::Conflict(_))
    }

    /// The engine does not have it (any more).
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Reads a failed API call.
    pub(crate) fn from_api(error: Bollard) -> Self {
        match error {
            Bollard::DockerResponseServerError { status_code, message } => {
                Self::from_status(status_code, message.trim().to_owned())
            }
            Bollard::DockerStreamError { error } => Self::from_text(error.trim().to_owned()),
            Bollard::SocketNotFoundError(path) => Self::Unreachable(format!("no such socket: {path}")),
            Bollard::RequestTimeoutError => Self::Busy("the engine did not answer in time".into()),
            Bollard::IOError { err } => Self::Busy(format!("the connection to the engine broke: {err}")),
            Bollard::HyperResponseError { err } => {
                Self::Busy(format!("the connection to the engine broke: {}", deepest(&err)))
            }
            Bollard::HyperLegacyError { err } if err.is_connect() => {
                Self::Busy(format!("cannot connect to the engine: {}", deepest(&err)))
            }
            Bollard::HyperLegacyError { err } => {
                Self::Busy(format!("the connection to the engine broke: {}", deepest(&err)))
            }
            other => Self::Other(other.to_string()),
        }
    }

    fn from_status(status: u16, message: String) -> Self {
        match (status, Self::from_text(message)) {
            (_, kind @ (Self::NoSpace(_) | Self::CannotExecute { .. } | Self::Unauthorized(_))) => kind,
            (404, kind) => Self::NotFound(kind.to_string()),
            (401 | 403, kind) => Self::Unauthorized(kind.to_string()),
            (409, kind) => Self::Conflict(kind.to_string()),
            (400 | 406, kind) => Self::Refused(kind.to_string()),
            (429 | 502..=504, kind) => Self::Busy(kind.to_string()),
            (_, kind) => kind,
        }
    }

    /// Reads an engine's words where it gives nothing else.
    pub(crate) fn from_text(message: String) -> Self {
        let text = message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(NO_SPACE) {
            return Self::NoSpace(message);
        }
        if says(EXECUTING) && says(NOT_EXECUTABLE) {
            return Self::CannotExecute { status: 126, message };
        }
        if says(EXECUTING) && says(NO_PROGRAM) {
            return Self::CannotExecute { status: 127, message };
        }
        if says(UNAUTHORIZED) {
            return Self::Unauthorized(message);
        }
        if says(MISSING) {
            return Self::NotFound(message);
        }
        if says(PASSING) {
            return Self::Busy(message);
        }
        Self::Other(message)
    }
}

const NO_SPACE: &[&str] = &["no space left on device", "disk quota exceeded"];
/// How runc and crun begin what they say of the program itself, not of a mount or a device.
const EXECUTING: &[&str] = &["exec: \"", "exec user process", "exec /", "container process: exec", "executable file"];
const NOT_EXECUTABLE: &[&str] = &["permission denied", "exec format error", "is a directory"];
const NO_PROGRAM: &[&str] = &["executable file not found", "no such file or directory", "not found in $path"];
const UNAUTHORIZED: &[&str] = &[
    "unauthorized",
    "no basic auth credentials",
    "authentication required",
    "incorrect username or password",
    "access denied",
    "denied:",
];
const MISSING: &[&str] = &["manifest unknown", "not found: manifest", "no such image", "name unknown"];
const PASSING: &[&str] = &[
    "toomanyrequests",
    "too many requests",
    "connection refused",
    "connection reset",
    "no route to host",
    "network is unreachable",
    "i/o timeout",
    "tls handshake timeout",
    "deadline exceeded",
    "no such host",
    "temporary failure in name resolution",
    "service unavailable",
    "bad gateway",
    "unexpected eof",
    "request canceled while waiting for connection",
];

/// The last cause of an error: the one that names what the kernel or the peer said.
pub(crate) fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &EngineError) -> &'static str {
        match error {
            EngineError::Unreachable(_) => "unreachable",
            EngineError::NotFound(_) => "not found",
            EngineError::Unauthorized(_) => "unauthorized",
            EngineError::Busy(_) => "busy",
            EngineError::WrongPlatform(_) => "platform",
            EngineError::NoSpace(_) => "no space",
            EngineError::CannotExecute { status: 126, .. } => "126",
            EngineError::CannotExecute { .. } => "127",
            EngineError::Conflict(_) => "conflict",
            EngineError::Refused(_) => "refused",
            EngineError::Other(_) => "other",
        }
    }

    #[test]
    fn an_engines_words_decide_what_the_caller_does() {
        let table = [
            (404, "No such image: x:latest", "not found"),
            (404, "manifest for h:5000/a:b not found: manifest unknown: manifest unknown", "not found"),
            (
                404,
                "pull access denied for x, repository does not exist or may require 'docker login': denied: ...",
                "unauthorized",
            ),
            (500, "Get \"http://h:5000/v2/\": no basic auth credentials", "unauthorized"),
            (500, "Head \"http://h:5000/v2/a/manifests/b\": unauthorized: authentication required", "unauthorized"),
            (500, "Get \"http://h:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused", "busy"),
            (500, "Get \"https://h/v2/\": dial tcp: lookup h on 8.8.8.8:53: no such host", "busy"),
            (500, "toomanyrequests: You have reached your pull rate limit", "busy"),
            (500, "write /x: no space left on device", "no space"),
            (409, "Conflict. The container name is already in use", "conflict"),
            (400, "invalid reference format", "refused"),
            (
                400,
                "OCI runtime create failed: exec: \"nope\": executable file not found in $PATH: unknown",
                "127",
            ),
            (
                400,
                "OCI runtime create failed: exec: \"/etc/passwd\": permission denied: unknown",
                "126",
            ),
            (400, "OCI runtime create failed: error mounting \"/x\": no such file or directory", "refused"),
            (503, "starting up", "busy"),
            (500, "something", "other"),
        ];
        for (status, text, expected) in table {
            assert_eq!(kind(&EngineError::from_status(status, text.into())), expected, "{text}");
        }
    }

    #[test]
    fn only_what_passes_is_worth_retrying() {
        assert!(EngineError::Busy(String::new()).is_retryable());
        assert!(!EngineError::Unreachable(String::new()).is_retryable());
        assert!(!EngineError::NotFound(String::new()).is_retryable());
    }
}
