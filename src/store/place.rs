//! Place: files by name, wherever an image's are: in a directory, or at their places in a tar that is not
//! unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::compress;
use super::limits;
use super::members::{Members, What};
use crate::exit::Hint;
use crate::image::{ImagePath, Kind};

/// Where files are found by name.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a directory.
    Dir(PathBuf),
    /// In a tar.
    Tar(Arc<TarFile>),
    /// One file, whatever the name: a layer that was just made.
    One(Arc<File>),
}

/// A tar whose members are known and stay where they are.
#[derive(Debug)]
pub struct TarFile {
    path: PathBuf,
    file: File,
    members: BTreeMap<ImagePath, At>,
}

#[derive(Debug)]
enum At {
    File { offset: u64, size: u64 },
    Link(Vec<u8>),
}

impl Place {
    /// Opens a file; `None` when there is none of that name.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>> {
        match self {
            Self::Dir(dir) => match File::open(dir.join(name)) {
                Ok(file) if file.metadata()?.is_file() => Ok(Some(Box::new(file))),
                Ok(_) => bail!("{} is no file", dir.join(name).display()),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error).with_context(|| format!("open {}", dir.join(name).display())),
            },
            Self::Tar(tar) => tar.open(name),
            Self::One(file) => {
                let end = file.metadata()?.len();
                Ok(Some(Box::new(Section { file: file.try_clone()?, at: 0, end })))
            }
        }
    }

    /// All of a small file; `None` when there is none of that name.
    ///
    /// # Errors
    /// When it cannot be read or has more than `most` bytes.
    pub fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        limits::read_at_most(file, most).with_context(|| format!("read {name} of {self}")).map(Some)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dir(dir) => write!(f, "{}", dir.display()),
            Self::Tar(tar) => write!(f, "{}", tar.path.display()),
            Self::One(_) => write!(f, "the new layer"),
        }
    }
}

impl TarFile {
    /// Opens an archive. One that is compressed or cannot be read out of order is copied to an unnamed temporary
    /// file first.
    ///
    /// # Errors
    /// When it cannot be read, is no tar or is cut short.
    pub fn open_path(path: &Path) -> Result<Self> {
        let what = || format!("read the archive {}", path.display());
        let mut file = File::open(path).with_context(what)?;
        let mut start = Vec::new();
        let plain_file = file.metadata().with_context(what)?.is_file();
        if plain_file {
            (&file).take(6).read_to_end(&mut start).with_context(what)?;
            file.rewind().with_context(what)?;
        }
        if !plain_file || compress::Compression::of(&start) != compress::Compression::None {
            let (_, mut plain) = compress::plain(Box::new(file)).with_context(what)?;
            let mut copy = tempfile::tempfile().context("make a temporary file").context(Hint::new("set TMPDIR"))?;
            io::copy(&mut plain, &mut copy).and_then(|_| copy.flush()).with_context(what)?;
            file = copy;
        }
        Self::new(path, file)
    }

    /// Takes an open tar file; `path` is for messages.
    ///
    /// # Errors
    /// When it is no tar or is cut short.
    pub fn new(path: &Path, mut file: File) -> Result<Self> {
        let what = || format!("read the archive {}", path.display());
        file.rewind().with_context(what)?;
        let length = file.metadata().with_context(what)?.len();
        let mut members = BTreeMap::new();
        let mut reader = Members::new(Skipping { file: file.try_clone().with_context(what)?, length });
        let mut count = 0;
        while let Some(member) = reader.next_member().with_context(what)? {
            count += 1;
            if count > limits::ARCHIVE_MEMBERS {
                bail!("the archive {} has more than {} members", path.display(), limits::ARCHIVE_MEMBERS);
            }
            let offset = reader.get_mut().file.stream_position().with_context(what)?;
            let at = match member.what {
                What::Kind(Kind::File) => At::File { offset, size: member.size },
                What::Kind(Kind::Symlink { target }) => At::Link(target),
                What::Hardlink(target) => At::Link([b"/", target.as_slice()].concat()),
                _ => continue,
            };
            // From here on the content is passed over, not read.
            reader.pass().with_context(what)?;
            members.insert(ImagePath::new(&member.path), at);
        }
        Ok(Self { path: path.to_owned(), file, members })
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>> {
        let mut at = ImagePath::new(name);
        for _ in 0..8 {
            match self.members.get(&at) {
                None => return Ok(None),
                Some(At::File { offset, size }) => {
                    let file = self.file.try_clone().context("open the archive again")?;
                    return Ok(Some(Box::new(Section { file, at: *offset, end: offset + size })));
                }
                // Old engines save a layer that occurs twice as a link.
                Some(At::Link(target)) => at = at.parent().unwrap_or_else(ImagePath::root).join(target),
            }
        }
        bail!("{name} of {} is a link that leads nowhere", self.path.display())
    }
}

/// A file that passes over by seeking, and notices its end.
struct Skipping {
    file: File,
    length: u64,
}

impl Read for Skipping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl super::members::Pass for Skipping {
    fn pass(&mut self, count: u64) -> io::Result<bool> {
        let at = self.file.stream_position()?;
        match at.checked_add(count).filter(|end| *end <= self.length) {
            Some(end) => self.file.seek(SeekFrom::Start(end)).map(|_| true),
            None => Ok(false),
        }
    }
}

/// A piece of a file. Several can be read at once.
struct Section {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = (self.end - self.at).min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..most], self.at)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the archive is cut short")),
            n => {
                self.at += n as u64;
                Ok(n)
            }
        }
    }
}
