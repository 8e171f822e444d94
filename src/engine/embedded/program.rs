//! Program: this executable, as the processes that hold containers run it: a copy in memory that nobody can change.
//! A container's process 1 is that program until its last moment; an image whose own program is a link to
//! /proc/self/exe would otherwise have a handle on the file on disk (CVE-2019-5736).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Another executable than this one, for tests, which are not slim.
static OTHER: OnceLock<PathBuf> = OnceLock::new();

/// Makes this the executable that containers are held by, rather than the running one.
pub fn use_program(path: &Path) {
    OTHER.get_or_init(|| path.to_owned());
}

/// The program, by a path that is good for this process and its children up to their exec.
///
/// # Errors
/// When it cannot be read.
pub(super) fn program() -> Result<PathBuf> {
    static COPY: OnceLock<File> = OnceLock::new();
    let original = OTHER.get().map_or(Path::new("/proc/self/exe"), PathBuf::as_path);
    if COPY.get().is_none() {
        match sealed(original) {
            Ok(copy) => drop(COPY.set(copy)),
            // Memory that cannot be executed (vm.memfd_noexec): then as it is.
            Err(error) if error.is::<nix::errno::Errno>() => return Ok(original.to_owned()),
            Err(error) => return Err(error),
        }
    }
    let copy = COPY.get().context("copy this executable")?;
    Ok(format!("/proc/self/fd/{}", copy.as_raw_fd()).into())
}

fn sealed(original: &Path) -> Result<File> {
    let mut copy = File::from(memfd_create(c"slim", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    let mut file = File::open(original).context("read this executable")?;
    std::io::copy(&mut file, &mut copy).context("copy this executable")?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
}
