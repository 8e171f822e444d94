//! Cache: layers unpacked on this machine, each once, by what is in them (`diff_id`), for every build to share.
//!
//! ```text
//! ROOT/layers/HEX/        an unpacked layer, whole: it got this name when its digest was checked
//! ROOT/layers/.tmp-HEX/   one in the making
//! ROOT/layers/.gone-HEX/  one that is being removed
//! ROOT/layers/.lock-HEX   held (flock(2)) shared by all who use the layer, alone by who makes or removes it; its
//!                         time is that of the last use, its text the layer's bytes
//! ```
//! A user that is not root has `layers-user/`, where the form differs ([`Form`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use super::digest::{Digest, Verified};
use super::unpack::{Form, unpack};
use crate::exit::Hint;

/// The unpacked layers of this machine. What was asked of it stays there as long as it is open.
#[derive(Debug)]
pub struct LayerCache {
    dir: PathBuf,
    form: Form,
    held: Mutex<BTreeMap<String, Flock<File>>>,
}

/// A layer that is there, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// What is in it.
    pub diff_id: String,
    /// The unpacked directory.
    pub dir: PathBuf,
    /// What its files hold.
    pub bytes: u64,
    /// When somebody last asked for it.
    pub used: SystemTime,
    /// Somebody uses it now.
    pub busy: bool,
    /// It is whole; otherwise a killed process left it.
    pub whole: bool,
}

/// Where the cache is: SLIM_CACHE_DIR, else `slim` in XDG_CACHE_HOME, else in `~/.cache`.
///
/// # Errors
/// When none of these variables nor HOME is set.
pub fn default_root(var: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let set = |name: &str| var(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".cache"));
    let xdg = || set("XDG_CACHE_HOME").or_else(home).map(|dir| dir.join("slim"));
    set("SLIM_CACHE_DIR").or_else(xdg).context(Hint::new("set SLIM_CACHE_DIR to a directory")).context("there is no cache directory")
}

impl LayerCache {
    /// Opens the cache, and makes it where it is missing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(root: &Path) -> Result<Self> {
        let form = if is_root() { Form::Root } else { Form::User };
        Self::open_as(root, form)
    }

    /// Opens the cache of layers in this form.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open_as(root: &Path, form: Form) -> Result<Self> {
        let dir = root.join(match form {
            Form::Root => "layers",
            Form::User => "layers-user",
        });
        let made = || -> Result<()> {
            fs::create_dir_all(&dir)?;
            // Setuid programs of images are nobody's business.
            fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            drop(tempfile::tempfile_in(&dir)?);
            Ok(())
        };
        made()
            .context(Hint::new("set SLIM_CACHE_DIR to a directory that can be written"))
            .with_context(|| format!("open the cache {}", dir.display()))?;
        Ok(Self::at(dir, form))
    }

    /// A directory of layers that is there already.
    pub fn at(dir: PathBuf, form: Form) -> Self {
        Self { dir, form, held: Mutex::default() }
    }

    /// How its layers are written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The directory of an unpacked layer, which stays as long as this is open; `None` when it is not there.
    ///
    /// # Errors
    /// When `diff_id` is no digest, or the cache cannot be written.
    pub fn get(&self, diff_id: &str) -> Result<Option<PathBuf>> {
        self.hold(&Digest::parse(diff_id)?)
    }

    /// The directory of an unpacked layer, unpacked first where it is not there yet. `open` gives the
    /// uncompressed tar stream and is called only then. The layer is checked against `diff_id`.
    ///
    /// # Errors
    /// When the layer is not what it should be, or the cache cannot be written; nothing is left of it then.
    pub fn layer(&self, diff_id: &str, open: impl Fn() -> Result<Box<dyn Read + Send>>) -> Result<PathBuf> {
        let digest = Digest::parse(diff_id)?;
        loop {
            if let Some(place) = self.hold(&digest)? {
                return Ok(place);
            }
            let place = self.place(&digest);
            let file = self.lock_file(&digest);
            let mut making = take(&file, FlockArg::LockExclusive).with_context(|| format!("lock {}", file.display()))?;
            if place.is_dir() {
                continue;
            }
            let made = self.make(&digest, &place, &open).and_then(|bytes| write!(making, "{bytes}").context("write to the cache"));
            if made.is_err() {
                let _ = fs::remove_dir_all(self.temporary(&digest));
                let _ = fs::remove_file(&file);
            }
            made.with_context(|| format!("unpack the layer {diff_id}"))?;
            // Whoever removes layers may come between this lock and the next: then once more.
        }
    }

    /// Takes the lock of who uses a layer.
    fn hold(&self, digest: &Digest) -> Result<Option<PathBuf>> {
        let place = self.place(digest);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(digest.hex()) {
            return Ok(Some(place));
        }
        if !place.is_dir() {
            return Ok(None);
        }
        let file = self.lock_file(digest);
        let lock = take(&file, FlockArg::LockShared).with_context(|| format!("lock {}", file.display()))?;
        if !place.is_dir() {
            return Ok(None);
        }
        // The time of a file that another user made cannot be set; it is a hint and no more.
        let _ = lock.set_modified(SystemTime::now());
        held.insert(digest.hex().to_owned(), lock);
        Ok(Some(place))
    }

    /// Removes a layer, or what is left of one, unless somebody uses it; gives whether it is gone. `wipe` removes a
    /// directory.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, diff_id: &str, wipe: impl Fn(&Path) -> Result<()>) -> Result<bool> {
        let digest = Digest::parse(diff_id)?;
        let file = self.lock_file(&digest);
        let Some(_alone) = try_take(&file).with_context(|| format!("lock {}", file.display()))? else { return Ok(false) };
        let gone = self.dir.join(format!(".gone-{}", digest.hex()));
        wipe(&gone)?;
        wipe(&self.temporary(&digest))?;
        match fs::rename(self.place(&digest), &gone) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(|| format!("remove the layer {diff_id}")),
            _ => wipe(&gone)?,
        }
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        Ok(true)
    }

    /// Unpacks a layer; gives its bytes.
    fn make(&self, digest: &Digest, place: &Path, open: impl Fn() -> Result<Box<dyn Read + Send>>) -> Result<u64> {
        let temporary = self.temporary(digest);
        // What a killed process left.
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("take away an old attempt"),
            _ => {}
        }
        let hint = "free some space, or set SLIM_CACHE_DIR to a directory with more; `slim cache prune` empties the cache";
        let full = |error: anyhow::Error| match error.chain().any(is_full) {
            true => error.context(Hint::new(hint)),
            false => error,
        };
        fs::create_dir(&temporary).context("make a directory in the cache")?;
        fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let stream = Verified::new(open()?, digest.clone(), None);
        unpack(stream, &temporary, self.form).map_err(full)?;
        // The name says that the layer is whole, so its bytes have to be on the disk first.
        let dir = File::open(&temporary).context("open the unpacked layer")?;
        nix::unistd::syncfs(&dir).context("write the layer to the disk").map_err(full)?;
        let bytes = size(&temporary);
        fs::rename(&temporary, place).context("name the unpacked layer")?;
        Ok(bytes)
    }

    fn lock_file(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!(".lock-{}", digest.hex()))
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    fn temporary(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!(".tmp-{}", digest.hex()))
    }

    /// The layers that are there, and what killed processes left of others.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Cached>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).with_context(|| format!("read the cache {}", self.dir.display()))? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let left = [".tmp-", ".gone-"].iter().find_map(|prefix| name.strip_prefix(prefix));
            let hex = left.unwrap_or(&name);
            let kind = if hex.len() == 128 { "sha512" } else { "sha256" };
            let Ok(digest) = Digest::parse(&format!("{kind}:{hex}")) else { continue };
            let (lock, dir) = (self.lock_file(&digest), entry.path());
            let about = fs::metadata(&lock).or_else(|_| entry.metadata());
            let cached = Cached {
                diff_id: digest.as_str().to_owned(),
                bytes: fs::read_to_string(&lock).ok().filter(|_| left.is_none()).and_then(|text| text.parse().ok()).unwrap_or_else(|| size(&dir)),
                used: about.and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH),
                busy: lock.exists() && !matches!(try_take(&lock), Ok(Some(_))),
                whole: left.is_none(),
                dir,
            };
            found.insert((cached.diff_id.clone(), name), cached);
        }
        Ok(found.into_values().collect())
    }

    /// The bytes of a layer that is there.
    ///
    /// # Errors
    /// When `diff_id` is no digest.
    pub fn bytes(&self, diff_id: &str) -> Result<u64> {
        let digest = Digest::parse(diff_id)?;
        let written = fs::read_to_string(self.lock_file(&digest)).ok().and_then(|text| text.parse().ok());
        Ok(written.unwrap_or_else(|| size(&self.place(&digest))))
    }
}

/// The bytes of the files in a directory, hardlinks once, as engines count them; without what may not be looked at.
pub fn size(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut seen = BTreeSet::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.is_file() && (meta.nlink() == 1 || seen.insert(meta.ino())) {
                bytes += meta.len();
            }
        }
    }
    bytes
}

fn is_full(cause: &(dyn std::error::Error + 'static)) -> bool {
    let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let call = cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
    matches!(io.or(call), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Root of this machine, not of a user namespace: there `trusted.` attributes are refused.
fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    crate::sys::process::is_every_user(&map) && nix::unistd::geteuid().is_root()
}

/// Takes the lock of a file, which is made where it is missing.
///
/// # Errors
/// When it cannot be made.
pub fn take(path: &Path, how: FlockArg) -> Result<Flock<File>> {
    loop {
        let file = File::options().create(true).truncate(false).write(true).read(true).open(path)?;
        let locked = Flock::lock(file, how).map_err(|(_, error)| error)?;
        // Whoever held it may have removed it: then we locked what has no name any more.
        match (fs::metadata(path), locked.metadata()) {
            (Ok(named), Ok(ours)) if named.ino() == ours.ino() => return Ok(locked),
            _ => {}
        }
    }
}

/// The same, alone; `None` when somebody else has it.
fn try_take(path: &Path) -> Result<Option<Flock<File>>> {
    match take(path, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.downcast_ref() == Some(&nix::errno::Errno::EWOULDBLOCK) => Ok(None),
        Err(error) => Err(error),
    }
}
