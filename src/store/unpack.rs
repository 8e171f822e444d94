//! Unpack: a layer's members made files of a directory that overlayfs takes as a lower one.
//!
//! The layer is hostile until proven otherwise. Every path is opened by openat2(2) with RESOLVE_IN_ROOT: a
//! symlink of the layer leads nowhere but into the layer, as it would in a container, and the last component is
//! never followed. Nothing outside of the directory is read, written or linked to.
//!
//! As engines do: missing parents are made, a later entry takes the place of an earlier one, a whiteout hides
//! only what lies in other layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::members::{Member, Members, What};
use super::whiteout::{self, Meaning};
use crate::exit::Hint;
use crate::image::{ImagePath, Kind};

/// How what only root can write is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As root: owners and devices as they are, `trusted.overlay.` attributes.
    Root,
    /// For an overlay in a user namespace (mount option `userxattr`): `user.overlay.` attributes; owners and
    /// devices as far as this user may make them.
    User,
}

impl Form {
    fn opaque(self) -> &'static str {
        match self {
            Self::Root => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// Unpacks a layer (an uncompressed tar stream) into an empty directory.
///
/// # Errors
/// When the layer is malformed or exceeds a limit, or the directory cannot be written.
pub fn unpack(layer: impl Read, dir: &Path, form: Form) -> Result<()> {
    let root = File::open(dir).with_context(|| format!("open {}", dir.display()))?.into();
    let dirs = [(ImagePath::root(), Member::directory())].into();
    let mut unpacker = Unpacker { root, form, dirs, gone: BTreeSet::new(), at: None };
    let hint = || Hint::new("it takes openat2(2): Linux 5.6, and a seccomp profile that lets it pass");
    unpacker.open_dir(&ImagePath::root()).context("open the directory to unpack into").with_context(hint)?;
    let mut members = Members::new(layer);
    while let Some(member) = members.next_member()? {
        unpacker.place(&member, &mut members.content())?;
    }
    unpacker.finish()?;
    // What fills the archive's last record belongs to the digest.
    io::copy(&mut members.into_inner(), &mut io::sink()).context("read the layer")?;
    Ok(())
}

/// The directories of unpacked layers, lowest first, that can be seen: an opaque root hides those below it, which
/// overlayfs does not look for in the root of a layer.
pub fn visible(dirs: &[PathBuf]) -> &[PathBuf] {
    let opaque = |dir: &PathBuf| {
        let set = |name: &str| xattr::get(dir, name).ok().flatten().is_some_and(|value| value == b"y");
        set(Form::Root.opaque()) || set(Form::User.opaque())
    };
    &dirs[dirs.iter().rposition(opaque).unwrap_or(0)..]
}

struct Unpacker {
    root: OwnedFd,
    form: Form,
    /// Directories whose metadata is set at the end, when nothing is written in them any more.
    dirs: BTreeMap<ImagePath, Member>,
    /// Whiteouts of this layer.
    gone: BTreeSet<ImagePath>,
    /// The directory of the last entry, open.
    at: Option<(ImagePath, std::rc::Rc<OwnedFd>)>,
}

impl Unpacker {
    fn place(&mut self, member: &Member, content: &mut impl Read) -> Result<()> {
        match whiteout::meaning(member)? {
            Meaning::Nothing => Ok(()),
            Meaning::Entry(path) => self.entry(&path, member, content).with_context(|| format!("unpack {path}")),
            Meaning::Opaque(dir) => self.opaque(&dir).with_context(|| format!("unpack {dir}")),
            Meaning::Gone(path) => self.hide(&path).with_context(|| format!("unpack the whiteout of {path}")),
        }
    }

    fn entry(&mut self, path: &ImagePath, member: &Member, content: &mut impl Read) -> Result<()> {
        let is_dir = member.what == What::Kind(Kind::Directory);
        if path.is_root() {
            if !is_dir {
                bail!("the root is no directory");
            }
            self.dirs.insert(path.clone(), member.clone());
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        self.clear(&parent, name, is_dir)?;
        match &member.what {
            What::Kind(Kind::Directory) => {
                let made = mkdirat(&*parent, name, Mode::S_IRWXU);
                made.or_else(|error| if error == Errno::EEXIST { Ok(()) } else { Err(error) }).context("make it")?;
                if self.gone.contains(path) {
                    self.opaque(path)?;
                }
                self.dirs.insert(path.clone(), member.clone());
                return Ok(());
            }
            What::Kind(Kind::File) => self.file(&parent, name, content)?,
            What::Kind(Kind::Symlink { target }) => symlinkat(target.as_slice(), &*parent, name).context("make the symlink")?,
            What::Hardlink(target) => return self.hardlink(&parent, name, target),
            What::Kind(Kind::Fifo) => mknodat(&*parent, name, SFlag::S_IFIFO, Mode::S_IRUSR, 0).context("make the fifo")?,
            What::Kind(Kind::CharDevice { rdev }) => {
                if *rdev == (0, 0) {
                    bail!("it is the device 0/0, which overlayfs takes for a whiteout");
                }
                if !self.device(&parent, name, SFlag::S_IFCHR, *rdev)? {
                    return Ok(());
                }
            }
            What::Kind(Kind::BlockDevice { rdev }) => {
                if !self.device(&parent, name, SFlag::S_IFBLK, *rdev)? {
                    return Ok(());
                }
            }
            What::Kind(Kind::Socket) => bail!("no layer can hold a socket"),
        }
        self.metadata(&parent, name, member)
    }

    fn file(&self, parent: &OwnedFd, name: &[u8], content: &mut impl Read) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).context("make the file")?);
        copy_sparse(content, &mut file).context("write the file")
    }

    /// Makes a device; false where this user may not.
    fn device(&self, parent: &OwnedFd, name: &[u8], kind: SFlag, (major, minor): (u32, u32)) -> Result<bool> {
        match mknodat(parent, name, kind, Mode::S_IRUSR, makedev(major.into(), minor.into())) {
            Ok(()) => Ok(true),
            Err(Errno::EPERM) if self.form == Form::User => Ok(false),
            Err(error) => Err(error).context("make the device"),
        }
    }

    fn hardlink(&mut self, parent: &OwnedFd, name: &[u8], target: &[u8]) -> Result<()> {
        let target = whiteout::inside(target)?;
        let absent = || anyhow!("it is a hardlink to {target}, which the layer does not hold");
        let file = target.file_name().ok_or_else(absent)?;
        let found = self.open_dir(&target.parent().unwrap_or_else(ImagePath::root)).map_err(|_| absent())?;
        let stat = fstatat(&found, file, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|_| absent())?;
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        match kind {
            SFlag::S_IFDIR => bail!("it is a hardlink to the directory {target}"),
            SFlag::S_IFCHR if stat.st_rdev == 0 => Err(absent()),
            _ => linkat(&found, file, parent, name, AtFlags::empty()).with_context(|| format!("link it to {target}")),
        }
    }

    /// Takes away what is in the way of a new entry.
    fn clear(&mut self, parent: &OwnedFd, name: &[u8], keep_dir: bool) -> Result<()> {
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) if keep_dir => Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) => {
                self.at = None;
                std::fs::remove_dir_all(through(parent, name)).context("take away the directory of the same name")
            }
            Err(error) => Err(error).context("take away the entry of the same name"),
        }
    }

    fn hide(&mut self, path: &ImagePath) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        self.gone.insert(path.clone());
        match openat(&*parent, name, flags, Mode::empty()) {
            // This layer has it itself, so only what lies below is hidden.
            Ok(_) if self.is_dir(&parent, name) => self.opaque(path),
            Ok(_) => Ok(()),
            Err(Errno::ENOENT) => mknodat(&*parent, name, SFlag::S_IFCHR, Mode::empty(), 0).context("make the whiteout"),
            Err(error) => Err(error).context("look for it"),
        }
    }

    fn is_dir(&self, parent: &OwnedFd, name: &[u8]) -> bool {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(parent, name, flags, Mode::empty()).is_ok()
    }

    fn opaque(&mut self, dir: &ImagePath) -> Result<()> {
        let at = match dir.is_root() {
            true => through(&self.root, b"."),
            false => {
                let (parent, name) = self.parent(dir)?;
                if !self.is_dir(&parent, name) {
                    self.clear(&parent, name, false)?;
                    mkdirat(&*parent, name, Mode::S_IRWXU).context("make it")?;
                    self.dirs.insert(dir.clone(), Member::directory());
                }
                through(&parent, name)
            }
        };
        xattr::set(at, self.form.opaque(), b"y").context("make it opaque")
    }

    /// The directory that holds a path, open, made where it is missing.
    fn parent<'p>(&mut self, path: &'p ImagePath) -> Result<(std::rc::Rc<OwnedFd>, &'p [u8])> {
        let dir = path.parent().unwrap_or_else(ImagePath::root);
        let name = path.file_name().unwrap_or_default();
        if let Some((known, fd)) = &self.at
            && *known == dir
        {
            return Ok((fd.clone(), name));
        }
        let fd = match self.open_dir(&dir) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                self.make_dirs(&dir)?;
                self.open_dir(&dir).with_context(|| format!("open {dir}"))?
            }
            Err(error) => return Err(error).with_context(|| format!("open {dir}")),
        };
        let fd = std::rc::Rc::new(fd);
        self.at = Some((dir, fd.clone()));
        Ok((fd, name))
    }

    fn open_dir(&self, dir: &ImagePath) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        let path = if dir.is_root() { b"." } else { dir.relative() };
        openat2(&self.root, path, how)
    }

    fn make_dirs(&mut self, dir: &ImagePath) -> Result<()> {
        let mut at = ImagePath::root();
        for part in dir.components() {
            let below = at.child(part);
            match self.open_dir(&below) {
                Ok(_) => {}
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                    let parent = self.open_dir(&at).with_context(|| format!("open {at}"))?;
                    // A whiteout, a file or a link of that name that leads nowhere makes room.
                    self.clear(&parent, part, true)?;
                    mkdirat(&parent, part, Mode::S_IRWXU).with_context(|| format!("make {below}"))?;
                    self.dirs.insert(below.clone(), Member::directory());
                    if self.gone.contains(&below) {
                        xattr::set(through(&parent, part), self.form.opaque(), b"y").context("make it opaque")?;
                    }
                }
                Err(error) => return Err(error).with_context(|| format!("open {below}")),
            }
            at = below;
        }
        Ok(())
    }

    fn metadata(&self, parent: &OwnedFd, name: &[u8], member: &Member) -> Result<()> {
        let owner = fchownat(
            parent,
            name,
            Some(Uid::from_raw(member.uid)),
            Some(Gid::from_raw(member.gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        );
        match owner {
            Err(Errno::EPERM | Errno::EINVAL) if self.form == Form::User => {}
            other => other.context("set the owner")?,
        }
        // A symlink has no mode; anything else is no symlink, so that nothing is followed here.
        if !matches!(member.what, What::Kind(Kind::Symlink { .. })) {
            fchmodat(parent, name, Mode::from_bits_truncate(member.mode), FchmodatFlags::FollowSymlink).context("set the mode")?;
        }
        self.xattrs(&through(parent, name), member)?;
        let (seconds, nanos) = member.mtime;
        let time = TimeSpec::new(seconds, nanos.into());
        utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink).context("set the time")
    }

    fn xattrs(&self, path: &Path, member: &Member) -> Result<()> {
        for (name, value) in &member.xattrs {
            // What steers overlayfs is ours to write, never the layer's.
            if name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.") {
                continue;
            }
            match xattr::set(path, name, value) {
                Ok(()) => {}
                // As engines do: what this file system or this user cannot store is left out.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM | libc::EINVAL)) => {}
                Err(error) => {
                    let shown = crate::image::path::printable(name.as_bytes());
                    return Err(error).with_context(|| format!("set the attribute {shown}"));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        // Deepest first: a directory that may not be searched any more is set last.
        for (path, member) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let set = || -> Result<()> {
                if path.is_root() {
                    return self.metadata(&self.root, b".", &member);
                }
                let parent = match self.open_dir(&path.parent().unwrap_or_else(ImagePath::root)) {
                    Ok(parent) => parent,
                    // A later entry took its place.
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
                    Err(error) => return Err(error.into()),
                };
                let name = path.file_name().unwrap_or_default();
                if self.is_dir(&parent, name) { self.metadata(&parent, name, &member) } else { Ok(()) }
            };
            set().with_context(|| format!("unpack {path}"))?;
        }
        Ok(())
    }
}

/// An entry of an open directory as a path, for calls that take no descriptor. The last component may be a
/// symlink; whoever uses it must not follow it.
fn through(parent: &OwnedFd, name: &[u8]) -> PathBuf {
    let dir = PathBuf::from(format!("/proc/self/fd/{}", parent.as_fd().as_raw_fd()));
    dir.join(std::ffi::OsStr::from_bytes(name))
}

/// Copies, and leaves holes where a whole block is zeros.
fn copy_sparse(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0u8; 1 << 17];
    let mut length = 0u64;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        length += n as u64;
        match n >= 4096 && buffer[..n].iter().all(|b| *b == 0) {
            true => drop(to.seek(SeekFrom::Current(n as i64))?),
            false => to.write_all(&buffer[..n])?,
        }
    }
    to.set_len(length)
}
