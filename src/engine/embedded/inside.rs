//! Inside: what an ordinary user's engine does as root of a user namespace, each time in a process of its own: to
//! unpack layers whose files belong to others, and to remove what containers wrote as others.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::images::Images;
use super::plan::IdMaps;
use super::program::program;
use super::shim::userns;

/// The role of this executable that does it.
pub const ROLE: &str = "runtime-inside";

/// Takes an image of an archive in.
///
/// # Errors
/// As [`Images::add`].
pub(super) fn load(root: &Path, maps: &IdMaps, archive: File, id: &str) -> Result<()> {
    call(maps, &["load".into(), root.into(), id.into()], archive.into())
}

/// Does nothing there, to find out whether it can be done.
///
/// # Errors
/// When this user may have no user namespace.
pub(super) fn enter(maps: &IdMaps) -> Result<()> {
    call(maps, &["nothing".into(), "-".into()], Stdio::null())
}

/// Removes a directory.
///
/// # Errors
/// When something in it cannot be removed.
pub(super) fn remove(dir: &Path, maps: Option<&IdMaps>) -> Result<()> {
    match (fs::remove_dir_all(dir), maps) {
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        (Err(_), Some(maps)) => call(maps, &["remove".into(), dir.into()], Stdio::null()),
        (removed, _) => removed.with_context(|| format!("remove {}", dir.display())),
    }
}

fn call(maps: &IdMaps, words: &[OsString], stdin: Stdio) -> Result<()> {
    let mut command = Command::new(program()?);
    command.arg(ROLE).arg(serde_json::to_string(maps)?).args(words);
    let output = command.stdin(stdin).output().context("start a process in a user namespace")?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("{}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

/// Does one of these things.
///
/// # Errors
/// What [`load`] and [`remove`] give.
pub fn run(mut words: std::env::ArgsOs) -> Result<()> {
    let mut word = || words.next().context("this is a role inside slim, not a command");
    let maps: IdMaps = serde_json::from_str(&word()?.to_string_lossy()).context("understand the ids")?;
    let what = word()?;
    let path = word()?;
    userns::enter(&maps)?;
    match what.to_str() {
        Some("load") => {
            let id = word()?.to_string_lossy().into_owned();
            let stdin = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned().context("read the archive")?;
            let archive = Archive::open(File::from(stdin))?;
            Images::open(Path::new(&path), Some(&maps))?.add(&archive, &archive.image(&id)?).map(drop)
        }
        Some("nothing") => Ok(()),
        Some("remove") => fs::remove_dir_all(&path).with_context(|| format!("remove {}", Path::new(&path).display())),
        _ => bail!("this is a role inside slim, not a command"),
    }
}
