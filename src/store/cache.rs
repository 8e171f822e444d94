//! Cache: layers unpacked on this machine, each once, by what is in them (`diff_id`), for every build to share.
//!
//! ```text
//! ROOT/layers/HEX/        an unpacked layer, whole: it got this name when its digest was checked
//! ROOT/layers/.tmp-HEX/   one in the making
//! ROOT/layers/.lock-HEX   held (flock(2)) while it is made, so that others wait instead of doing it again
//! ROOT/layers/.lock       held shared by all who use layers, alone by who removes them
//! ```
//! A user that is not root has `layers-user/`, where the form differs ([`Form`]).

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

use super::digest::{Digest, Verified};
use super::unpack::{Form, unpack};
use crate::exit::Hint;

/// The unpacked layers of this machine. While it is open nothing is removed from it.
#[derive(Debug)]
pub struct LayerCache {
    dir: PathBuf,
    form: Form,
    _used: Flock<File>,
}

/// A layer that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// What is in it.
    pub diff_id: String,
    /// The unpacked directory.
    pub dir: PathBuf,
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
        let lock = || -> Result<_> {
            fs::create_dir_all(&dir)?;
            // Setuid programs of images are nobody's business.
            fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            take(&dir.join(".lock"), FlockArg::LockShared)
        };
        let used = lock()
            .context(Hint::new("set SLIM_CACHE_DIR to a directory that can be written"))
            .with_context(|| format!("open the cache {}", dir.display()))?;
        Ok(Self { dir, form, _used: used })
    }

    /// How its layers are written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The directory of an unpacked layer; `None` when it is not there.
    ///
    /// # Errors
    /// When `diff_id` is no digest.
    pub fn get(&self, diff_id: &str) -> Result<Option<PathBuf>> {
        let place = self.place(&Digest::parse(diff_id)?);
        Ok(place.is_dir().then_some(place))
    }

    /// The directory of an unpacked layer, unpacked first where it is not there yet. `open` gives the
    /// uncompressed tar stream and is called only then. The layer is checked against `diff_id`.
    ///
    /// # Errors
    /// When the layer is not what it should be, or the cache cannot be written; nothing is left of it then.
    pub fn layer(&self, diff_id: &str, open: impl FnOnce() -> Result<Box<dyn Read + Send>>) -> Result<PathBuf> {
        let digest = Digest::parse(diff_id)?;
        let place = self.place(&digest);
        if place.is_dir() {
            return Ok(place);
        }
        let file = self.dir.join(format!(".lock-{}", digest.hex()));
        let _making = take(&file, FlockArg::LockExclusive).with_context(|| format!("lock {}", file.display()))?;
        if place.is_dir() {
            return Ok(place);
        }
        let made = self.make(&digest, &place, open);
        if made.is_err() {
            let _ = fs::remove_dir_all(self.temporary(&digest));
        }
        let _ = fs::remove_file(&file);
        made.with_context(|| format!("unpack the layer {diff_id}"))?;
        Ok(place)
    }

    fn make(&self, digest: &Digest, place: &Path, open: impl FnOnce() -> Result<Box<dyn Read + Send>>) -> Result<()> {
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
        fs::rename(&temporary, place).context("name the unpacked layer")
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    fn temporary(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!(".tmp-{}", digest.hex()))
    }

    /// The layers that are there.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Cached>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).with_context(|| format!("read the cache {}", self.dir.display()))? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let kind = if name.len() == 128 { "sha512" } else { "sha256" };
            if let Ok(digest) = Digest::parse(&format!("{kind}:{name}")) {
                found.push(Cached { diff_id: digest.as_str().to_owned(), dir: entry.path() });
            }
        }
        found.sort_by(|a, b| a.diff_id.cmp(&b.diff_id));
        Ok(found)
    }

    /// Removes every layer, and what killed processes left; gives how many layers there were.
    ///
    /// # Errors
    /// When another process uses the cache, or something cannot be removed.
    pub fn prune(self) -> Result<usize> {
        let count = self.list()?.len();
        let Self { dir, _used: used, .. } = self;
        drop(used);
        let busy = || anyhow!("the cache {} is in use", dir.display());
        let _alone = take(&dir.join(".lock"), FlockArg::LockExclusiveNonblock)
            .map_err(|_| busy())
            .context(Hint::new("try again when no other slim runs"))?;
        for entry in fs::read_dir(&dir).with_context(|| format!("read the cache {}", dir.display()))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name == ".lock") {
                continue;
            }
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(count)
    }
}

fn is_full(cause: &(dyn std::error::Error + 'static)) -> bool {
    let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let call = cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
    matches!(io.or(call), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Root of this machine, not of a user namespace: there `trusted.` attributes are refused.
fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"];
    whole && nix::unistd::geteuid().is_root()
}

fn take(path: &Path, how: FlockArg) -> Result<Flock<File>> {
    loop {
        let file = File::options().create(true).truncate(false).write(true).read(true).open(path)?;
        let locked = Flock::lock(file, how).map_err(|(_, error)| error)?;
        // Whoever held it may have removed it: then we locked what has no name any more.
        use std::os::unix::fs::MetadataExt;
        match (fs::metadata(path), locked.metadata()) {
            (Ok(named), Ok(ours)) if named.ino() == ours.ino() => return Ok(locked),
            _ => {}
        }
    }
}
