//! Said: what the runtime says when a step fails. Its errors lose their causes on the way from the process that fails
//! to the one that waits; what it logs names them.

use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Level, Metadata, Subscriber, dispatcher};

/// Writes errors into a file that every process of the runtime has open, a line each.
struct Errors(File);

/// From now on the errors of this process and its children go into a file.
///
/// # Errors
/// When it cannot be made.
pub(super) fn listen(file: &Path) -> Result<()> {
    let out = File::options().create(true).append(true).open(file).context("make the runtime's log")?;
    // A second container in one process would be told into the first one's file; there is none.
    let _first = dispatcher::set_global_default(dispatcher::Dispatch::new(Errors(out)));
    Ok(())
}

/// What a container that slim runs in has to be given, by the call that fails with EPERM without it.
const REMEDIES: &[(&str, &str)] = &[
    (
        "mount(proc)",
        "parts of /proc are hidden here, and the kernel lets no user namespace uncover them: in a container, start that \
         with --security-opt systempaths=unconfined, or run slim as root",
    ),
    (
        "mount(sysfs)",
        "parts of /sys are hidden here, and the kernel lets no user namespace uncover them: in a container, start that \
         with --security-opt systempaths=unconfined, or run slim as root",
    ),
    (
        "pivot_root",
        "a profile of system calls forbids it: in a container, start that with --security-opt seccomp=unconfined",
    ),
];

/// The call that failed, with its errno and what to do about it; `None` when that was not said.
pub(super) fn cause(file: &Path) -> Option<String> {
    understood(&std::fs::read_to_string(file).ok()?)
}

/// The first line is the cause of the others. Which call it was is in its words, the errno there or in the next line.
fn understood(text: &str) -> Option<String> {
    let first = text.lines().next()?;
    let call = match first.split_once("typ: Some(\"").and_then(|(_, rest)| rest.split_once('"')) {
        Some((kind, _)) => format!("mount({kind})"),
        None if first.contains("failed to pivot root") => "pivot_root".to_owned(),
        None => first.trim_start_matches("message=").trim().to_owned(),
    };
    let errno = text.lines().take(2).find_map(|line| {
        let at = line.find("Nix(E").map(|at| at + 4).or_else(|| line.find("errno=E").map(|at| at + 6))?;
        line[at..].split(|c: char| !c.is_ascii_alphanumeric()).next()
    });
    let Some(errno) = errno else { return Some(call) };
    let remedy = REMEDIES.iter().find(|(known, _)| *known == call && errno == "EPERM");
    Some(format!("{call} = {errno}{}", remedy.map(|(_, text)| format!("; {text}")).unwrap_or_default()))
}

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.is_event()
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        // Nobody is left to hear of a failure to report a failure.
        let _ = (&self.0).write_all(format!("{}\n", line.0.replace('\n', " ")).as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's fields behind one another.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into memory does not fail.
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

#[cfg(test)]
mod tests {
    use super::understood;

    #[test]
    fn the_call_that_failed_is_named_with_what_to_do() {
        let mount = "message=failed to mount Mount { destination: \"/proc\", typ: Some(\"proc\"), source: Some(\"proc\") }: syscall \n\
                     message=failed to prepare rootfs err=Mount(Syscall(Nix(EPERM))) \n";
        assert!(understood(mount).unwrap().starts_with("mount(proc) = EPERM; parts of /proc are hidden here"));
        assert_eq!(understood(&mount.replace("EPERM", "ENODEV")).unwrap(), "mount(proc) = ENODEV");
        let pivot = "message=failed to pivot root to errno=EPERM path=\"/x\" \nerr=Nix(EPERM) msg=\"failed to pivot root\" \n";
        assert!(understood(pivot).unwrap().starts_with("pivot_root = EPERM; a profile of system calls forbids it"));
        assert_eq!(understood("message=failed to chdir e=Os { code: 2 } \n").unwrap(), "failed to chdir e=Os { code: 2 }");
        assert_eq!(understood(""), None);
    }
}
