//! Copy: a directory with all that is in it, owners, modes, times, xattrs, hardlinks and special files, where a mount
//! cannot show it: into an empty volume, and for layers where no overlay can be had.

use std::collections::HashMap;
use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

/// Names that files with several of them have got so far, by device and inode.
type Links = HashMap<(u64, u64), PathBuf>;

/// Copies what is in `from` into `to`, which exists; `to` gets the owner and mode of `from`.
///
/// # Errors
/// Names the file that could not be copied.
pub fn directory(from: &Path, to: &Path) -> Result<()> {
    walk(from, to, &mut Links::new(), false)
}

/// Copies a layer over what is in `to`: its whiteouts take away.
///
/// # Errors
/// As [`directory`].
pub fn layer(from: &Path, to: &Path) -> Result<()> {
    walk(from, to, &mut Links::new(), true)
}

fn walk(from: &Path, to: &Path, links: &mut Links, whiteouts: bool) -> Result<()> {
    let meta = fs::symlink_metadata(from).with_context(|| format!("look at {}", from.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        one(&source, &target, links, whiteouts).with_context(|| format!("copy {}", source.display()))?;
    }
    dress(from, to, &meta)
}

fn one(source: &Path, target: &Path, links: &mut Links, whiteouts: bool) -> Result<()> {
    let meta = fs::symlink_metadata(source)?;
    let kind = meta.file_type();
    let old = fs::symlink_metadata(target).ok();
    let opaque = whiteouts && is_opaque(source);
    if old.as_ref().is_some_and(|old| opaque || !(old.is_dir() && meta.is_dir())) {
        remove(target)?;
    }
    if whiteouts && kind.is_char_device() && meta.rdev() == 0 {
        return Ok(());
    }
    if meta.is_dir() {
        if fs::symlink_metadata(target).is_err() {
            fs::create_dir(target)?;
        }
        return walk(source, target, links, whiteouts);
    }
    if meta.nlink() > 1 {
        if let Some(first) = links.get(&(meta.dev(), meta.ino())) {
            return Ok(fs::hard_link(first, target)?);
        }
        links.insert((meta.dev(), meta.ino()), target.to_owned());
    }
    if kind.is_symlink() {
        symlink(fs::read_link(source)?, target)?;
    } else if kind.is_file() {
        fs::copy(source, target)?;
    } else {
        let kind = SFlag::from_bits_truncate(meta.mode() & libc::S_IFMT);
        mknod(target, kind, Mode::from_bits_truncate(meta.mode() & 0o7777), meta.rdev())?;
    }
    dress(source, target, &meta)
}

fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => Ok(fs::remove_dir_all(path)?),
        false => Ok(fs::remove_file(path)?),
    }
}

fn is_opaque(path: &Path) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| xattr::get(path, name).ok().flatten().is_some_and(|value| value == b"y"))
}

/// Owner, mode, xattrs and times; in this order, for a change of owner takes set-uid bits and capabilities away.
fn dress(source: &Path, target: &Path, meta: &Metadata) -> Result<()> {
    lchown(target, Some(meta.uid()), Some(meta.gid())).context("chown")?;
    if !meta.file_type().is_symlink() {
        fs::set_permissions(target, Permissions::from_mode(meta.mode() & 0o7777)).context("chmod")?;
    }
    for name in xattr::list(source).into_iter().flatten() {
        let own = name.to_string_lossy().contains(".overlay.");
        if let (false, Some(value)) = (own, xattr::get(source, &name).ok().flatten()) {
            xattr::set(target, &name, &value).with_context(|| format!("set {}", name.to_string_lossy()))?;
        }
    }
    let time = |seconds: i64, nanos: i64| TimeSpec::new(seconds, nanos);
    let (accessed, modified) = (time(meta.atime(), meta.atime_nsec()), time(meta.mtime(), meta.mtime_nsec()));
    utimensat(AT_FDCWD, target, &accessed, &modified, UtimensatFlags::NoFollowSymlink).context("set its times")
}
