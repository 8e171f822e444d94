//! Survey: whether the engine in this program can run containers here, found out without running one.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::{AccessFlags, access};

use super::plan::Network;
use super::{EmbeddedEngine, cache_dir, ids, inside};
use crate::engine::survey::Found;
use crate::exit::causes;

/// Capabilities that holding a container takes, capabilities(7): their numbers and names.
const NEEDED: [(u32, &str); 5] =
    [(21, "CAP_SYS_ADMIN"), (NET_ADMIN, "CAP_NET_ADMIN"), (1, "CAP_DAC_OVERRIDE"), (CHOWN, "CAP_CHOWN"), (8, "CAP_SETPCAP")];

/// What files of others take.
const CHOWN: u32 = 0;

/// What a network namespace of the container's own takes.
const NET_ADMIN: u32 = 12;

/// The engine in this program, as one of a list.
pub fn found() -> Found {
    let dir = cache_dir();
    let info = EmbeddedEngine::about(dir.as_deref().unwrap_or(Path::new("-")));
    let maps = ids::maps();
    let rootless = maps.as_ref().is_ok_and(Option::is_some);
    let usable = || -> Result<()> {
        writable(&dir?)?;
        match maps? {
            Some(maps) => inside::enter(&maps),
            None => capabilities(&Network::Own),
        }
    };
    let problem = usable().err().map(|error| causes(&error));
    Found::embedded(info, rootless, problem)
}

/// Whether a directory is there and can be written, or can be made.
fn writable(dir: &Path) -> Result<()> {
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let text = || format!("cannot write to the cache {}; set SLIM_CACHE_DIR to a directory that can be written", dir.display());
    access(there, AccessFlags::W_OK | AccessFlags::X_OK).with_context(text)
}

/// Whether root can unpack a layer. Without that it may lack more, and all of it is named.
///
/// # Errors
/// When it cannot.
pub(super) fn can_unpack() -> Result<()> {
    match effective()? & (1 << CHOWN) {
        0 => capabilities(&Network::Own),
        _ => Ok(()),
    }
}

/// The capabilities of this process.
fn effective() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("/proc/self/status has no CapEff")?;
    u64::from_str_radix(line.trim(), 16).context("understand CapEff")
}

/// Whether root has what it takes to hold a container with such a network.
///
/// # Errors
/// When it has not; all that is missing is named.
pub(super) fn capabilities(network: &Network) -> Result<()> {
    let has = effective()?;
    let asked = NEEDED.iter().filter(|(number, _)| *number != NET_ADMIN || *network == Network::Own);
    let missing: Vec<&str> = asked.filter(|(number, _)| has & (1 << number) == 0).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        let text = "root lacks them here; in a container, start that with --cap-add, or run slim as an ordinary user";
        bail!(anyhow!("needs {}: {text}", missing.join(" and ")));
    }
    Ok(())
}
