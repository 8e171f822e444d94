//! Sensor: the role of this executable inside the target's container. It arms the recorders, starts the
//! target, is an invisible parent to it, and writes down which files it touches.

mod arm;
mod call;
pub mod control;
pub mod event;
mod exec;
pub(crate) mod filter;
pub(crate) mod identity;
mod journal;
pub(crate) mod namespace;
mod opens;
mod parent;
mod signals;
pub(crate) mod spawn;
pub(crate) mod table;
mod talk;
mod traps;
mod who;

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

use control::{Reply, SENSOR_DIR, START_FILE, Start};
use talk::Talk;

/// Exit status when the sensor itself failed.
const FAILED: u8 = 125;

/// The sensor's whole life. Gives the exit status: that of the target, or 125 when it could not be started
/// or recorded. Must be called before this process has a second thread.
pub fn run() -> u8 {
    let dir = Path::new(SENSOR_DIR);
    let start = match read_start(&dir.join(START_FILE)) {
        Ok(start) => start,
        Err(error) => return fail("", &error, None),
    };
    let nonce = start.nonce.clone();
    // What a panic says is not the target's output.
    std::panic::set_hook(Box::new(|_| {}));
    match std::panic::catch_unwind(|| record(start, dir)) {
        Ok(Ok(status)) => status,
        Ok(Err(Failure { error, target })) => fail(&nonce, &error, target),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say where");
            fail(&nonce, &anyhow::anyhow!("the sensor has a bug: {text}"), None)
        }
    }
}

/// Why there was no recording.
struct Failure {
    error: anyhow::Error,
    /// Exit status when it is the target's program that could not be executed.
    target: Option<i32>,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            error,
            target: None,
        }
    }
}

fn record(start: Start, dir: &Path) -> Result<u8, Failure> {
    let path = dir.join(start.trace.file());
    let trace = File::options().create(true).append(true).open(&path);
    let trace = trace.with_context(|| format!("cannot make {}", path.display()))?;
    let talk = Talk::new(&start.nonce).context("cannot take over stderr")?;
    let hidden = nix::mount::umount2(dir, nix::mount::MntFlags::MNT_DETACH);
    let mut notes = Vec::new();
    if let Err(error) = hidden {
        notes.push(format!(
            "the target can reach the trace: umount2({}) = {error}",
            dir.display()
        ));
    }
    let armed = arm::arm(&start, trace, talk, notes)?;
    armed.run()
}

fn read_start(path: &Path) -> Result<Start> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what this version reads", path.display()))
}

/// Says why there is no recording, in a frame that is short enough.
fn fail(nonce: &str, error: &anyhow::Error, target: Option<i32>) -> u8 {
    let text = talk::shorten(&format!("{error:#}"), 2000).to_owned();
    if let Ok(mut talk) = Talk::new(nonce) {
        talk.say(&Reply::Failed {
            error: text,
            target,
        });
        talk.finish();
    }
    target
        .and_then(|status| u8::try_from(status).ok())
        .unwrap_or(FAILED)
}
