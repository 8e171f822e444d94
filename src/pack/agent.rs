//! Agent: the role of this executable in a container of the untouched image that never runs the target. It
//! tells what files there are, what is in those that deciding asks about, and sends the content of kept ones.
//!
//! Requests come as JSON lines on stdin. Replies go out on stdout as frames: one byte of kind, four bytes of
//! length (big endian), payload. The engine's own mounts are detached first, so that the image's files
//! beneath them are seen. Docker's init layer stays in view; see [`super::source`] for what that means.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};

use crate::image::{Entry, ImagePath, Kind};
use crate::keep::{FileFacts, Want, imports};
use crate::packages::embedded;
use crate::sensor::control::{SENSOR_DIR, TraceOf};
use crate::sys::unescape_mount;

/// Controller to agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Answered by [`FrameKind::Entries`] frames and [`FrameKind::End`].
    Tree,
    /// Answered by one [`FrameKind::Facts`] frame and [`FrameKind::End`].
    Facts {
        /// Files to look into.
        want: Vec<(ImagePath, Want)>,
    },
    /// Answered by [`FrameKind::Inside`] frames and [`FrameKind::End`].
    Inside {
        /// Regular files that may hold packages.
        paths: Vec<ImagePath>,
    },
    /// Answered, per path in order, by [`FrameKind::Data`] and [`FrameKind::Hole`] frames and an
    /// [`FrameKind::End`].
    Contents {
        /// Regular files.
        paths: Vec<ImagePath>,
    },
    /// A trace that the sensor wrote into the shared volume; answered like one content.
    Trace {
        /// Which.
        of: TraceOf,
    },
}

/// The first byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// JSON: a list of `(path, entry)`.
    Entries = b'T' as isize,
    /// JSON: a list of `(path, facts)`.
    Facts = b'F' as isize,
    /// JSON: `(path, packages in it)`, for a file that holds any.
    Inside = b'I' as isize,
    /// Bytes of a file.
    Data = b'D' as isize,
    /// Eight bytes, big endian: so many zeros of a sparse file.
    Hole = b'H' as isize,
    /// The answer, or one of its files, is complete.
    End = b'.' as isize,
    /// Text: a warning for the report.
    Warning = b'W' as isize,
    /// Text: the request failed.
    Error = b'E' as isize,
}

impl FrameKind {
    /// Reads a frame's first byte; `None` for one that is no kind.
    pub fn of(byte: u8) -> Option<Self> {
        use FrameKind::{Data, End, Entries, Error, Facts, Hole, Inside, Warning};
        [Entries, Facts, Inside, Data, Hole, End, Warning, Error]
            .into_iter()
            .find(|kind| *kind as isize == byte as isize)
    }
}

/// The most payload a frame has, in bytes.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// How many entries go into one frame.
const BATCH: usize = 1000;

/// The largest text that a rule may ask for, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// Mounts that stay: the kernel's own file systems are not image content, and we still need ours.
const NOT_CONTENT: &[&str] = &["/", "/proc", "/sys", "/dev", SENSOR_DIR];

/// Runs the role until stdin ends.
///
/// # Errors
/// When stdout cannot be written: the controller is gone.
pub fn run() -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
    for warning in detach_mounts() {
        send(&mut out, FrameKind::Warning, warning.as_bytes())?;
    }
    for line in io::stdin().lock().lines() {
        let line = line.context("read a request")?;
        let answered = serde_json::from_str(&line)
            .context("understand a request")
            .and_then(|request| answer(&mut out, request));
        if let Err(error) = answered {
            send(&mut out, FrameKind::Error, format!("{error:#}").as_bytes())?;
        }
        out.flush().context("write an answer")?;
    }
    Ok(())
}

fn answer(out: &mut impl Write, request: Request) -> Result<()> {
    match request {
        Request::Tree => {
            send_tree(out)?;
            send(out, FrameKind::End, &[])
        }
        Request::Facts { want } => {
            let mut facts = Vec::with_capacity(want.len());
            for (path, want) in want {
                match facts_of(&path, want) {
                    Ok(found) => facts.push((path, found)),
                    Err(error) => {
                        send(out, FrameKind::Warning, format!("{error:#}").as_bytes())?;
                        facts.push((path, FileFacts::default()));
                    }
                }
            }
            send(out, FrameKind::Facts, &serde_json::to_vec(&facts)?)?;
            send(out, FrameKind::End, &[])
        }
        Request::Inside { paths } => send_inside(out, &paths),
        Request::Contents { paths } => {
            for path in paths {
                send_file(out, &host(&path)).with_context(|| format!("read {path} from the image"))?;
                send(out, FrameKind::End, &[])?;
            }
            Ok(())
        }
        Request::Trace { of } => {
            let path = Path::new(SENSOR_DIR).join(of.file());
            send_file(out, &path).context("read the trace")?;
            send(out, FrameKind::End, &[])
        }
    }
}

fn send_inside(out: &mut impl Write, paths: &[ImagePath]) -> Result<()> {
    for path in paths {
        match File::open(host(path)) {
            Ok(mut file) => {
                let found = embedded::inside(path, &mut file);
                if !found.is_empty() {
                    send(out, FrameKind::Inside, &serde_json::to_vec(&(path, found))?)?;
                }
            }
            Err(error) => send(out, FrameKind::Warning, format!("cannot look into {path}: {error}").as_bytes())?,
        }
    }
    send(out, FrameKind::End, &[])
}

fn send(out: &mut impl Write, kind: FrameKind, payload: &[u8]) -> Result<()> {
    let length = u32::try_from(payload.len()).context("a frame is too long")?;
    out.write_all(&[kind as isize as u8])
        .and_then(|()| out.write_all(&length.to_be_bytes()))
        .and_then(|()| out.write_all(payload))
        .context("write an answer")
}

/// The path in this container's own root.
fn host(path: &ImagePath) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path.as_bytes()))
}

/// Detaches every mount that hides files of the image, deepest first; gives warnings for those that stay.
fn detach_mounts() -> Vec<String> {
    let Ok(table) = fs::read("/proc/self/mountinfo") else {
        return vec!["cannot read /proc/self/mountinfo: files under mounts may be missing".into()];
    };
    let mut points: Vec<PathBuf> = table
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(unescape_mount)
        .filter(|point| !is_kernel_mount(point))
        .collect();
    points.sort();
    points.dedup();
    let failed = |point: &PathBuf| {
        let error = umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).err()?;
        Some(format!("cannot look beneath the mount at {}: {error}", point.display()))
    };
    points.iter().rev().filter_map(failed).collect()
}

fn is_kernel_mount(point: &Path) -> bool {
    NOT_CONTENT.iter().any(|keep| point == Path::new(keep))
        || ["/proc", "/sys", "/dev"].iter().any(|dir| point.starts_with(dir))
}

fn send_tree(out: &mut impl Write) -> Result<()> {
    let root = fs::symlink_metadata("/").context("stat /")?;
    let mut batch = vec![(ImagePath::root(), entry_of(Path::new("/"), &root)?)];
    let mut todo = vec![(PathBuf::from("/"), root.dev())];
    while let Some((dir, dev)) = todo.pop() {
        let names = match fs::read_dir(&dir) {
            Ok(names) => names,
            Err(error) => {
                let text = format!("cannot list {}: {error}", dir.display());
                send(out, FrameKind::Warning, text.as_bytes())?;
                continue;
            }
        };
        for name in names {
            let path = name.with_context(|| format!("list {}", dir.display()))?.path();
            if path == Path::new(SENSOR_DIR) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).with_context(|| format!("stat {}", path.display()))?;
            let entry = entry_of(&path, &meta)?;
            // A mount that stayed is listed as an empty directory.
            if entry.is_dir() && same_tree(&path, meta.dev(), dev) {
                todo.push((path.clone(), dev));
            }
            batch.push((ImagePath::new(path.as_os_str().as_bytes()), entry));
            if batch.len() == BATCH {
                send(out, FrameKind::Entries, &serde_json::to_vec(&batch)?)?;
                batch.clear();
            }
        }
    }
    send(out, FrameKind::Entries, &serde_json::to_vec(&batch)?)
}

/// Whether a directory belongs to the image: overlayfs shows one device for directories (kernel
/// Documentation/filesystems/overlayfs.rst), and the kernel's mounts are known by name.
fn same_tree(path: &Path, dev: u64, parent: u64) -> bool {
    dev == parent && !is_kernel_mount(path)
}

fn entry_of(path: &Path, meta: &fs::Metadata) -> Result<Entry> {
    let file_type = meta.file_type();
    let device = || {
        let rdev = meta.rdev();
        (nix::sys::stat::major(rdev) as u32, nix::sys::stat::minor(rdev) as u32)
    };
    let kind = if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        let target = fs::read_link(path).with_context(|| format!("read link {}", path.display()))?;
        Kind::Symlink { target: target.into_os_string().into_vec() }
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_socket() {
        Kind::Socket
    } else if file_type.is_char_device() {
        Kind::CharDevice { rdev: device() }
    } else if file_type.is_block_device() {
        Kind::BlockDevice { rdev: device() }
    } else {
        Kind::File
    };
    let regular = kind == Kind::File;
    Ok(Entry {
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: (meta.mtime(), meta.mtime_nsec() as u32),
        size: if regular { meta.len() } else { 0 },
        allocated: if regular { meta.blocks() * 512 } else { 0 },
        hardlink: (!file_type.is_dir() && meta.nlink() > 1).then(|| meta.ino()),
        xattrs: xattrs_of(path).with_context(|| format!("read the attributes of {}", path.display()))?,
        kind,
    })
}

/// Extended attributes that a layer carries. `trusted.*` is overlayfs' own bookkeeping, `security.selinux`
/// belongs to the host.
fn xattrs_of(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in names {
        let Some(text) = name.to_str() else { continue };
        if text.starts_with("trusted.") || text == "security.selinux" {
            continue;
        }
        if let Some(value) = xattr::get(path, &name)? {
            found.insert(text.to_owned(), value);
        }
    }
    Ok(found)
}

fn facts_of(path: &ImagePath, want: Want) -> Result<FileFacts> {
    let place = host(path);
    let meta = fs::symlink_metadata(&place).with_context(|| format!("look into {path}"))?;
    if !meta.is_file() {
        bail!("{path} is not a regular file");
    }
    let mut file = File::open(&place).with_context(|| format!("open {path}"))?;
    let mut facts = crate::keep::elf::facts(&mut file);
    let largest = match want {
        Want::Head => return Ok(facts),
        Want::Text | Want::Calls(_) => MAX_TEXT,
        Want::Imports => imports::MAX_TEXT,
    };
    if meta.len() > largest {
        return Ok(facts);
    }
    let mut text = Vec::new();
    File::open(&place)
        .and_then(|file| file.take(largest).read_to_end(&mut text))
        .with_context(|| format!("read {path}"))?;
    match want {
        Want::Imports => facts.imports = Some(imports::names(path, &text)),
        Want::Head | Want::Text | Want::Calls(_) => facts.text = Some(text),
    }
    Ok(facts)
}

/// Sends a file's bytes; long runs of zeros go as holes, so a sparse file costs what it holds.
fn send_file(out: &mut impl Write, path: &Path) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let zeros = vec![0u8; 1 << 17];
    let mut block = zeros.clone();
    let mut hole = 0u64;
    loop {
        let n = read_block(&mut file, &mut block)?;
        let full = n == block.len();
        if full && block == zeros {
            hole += n as u64;
            continue;
        }
        if hole > 0 {
            send(out, FrameKind::Hole, &hole.to_be_bytes())?;
            hole = 0;
        }
        if n > 0 {
            send(out, FrameKind::Data, &block[..n])?;
        }
        if !full {
            return Ok(());
        }
    }
}

/// Reads until the block is full or the file ends.
fn read_block(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
