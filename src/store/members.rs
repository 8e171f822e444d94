//! Members: a layer's tar stream, one entry after the other.
//!
//! Formats: v7, ustar, GNU's long names and base-256 numbers, PAX records (pax(1)). The `tar` crate gives the
//! header's fields; its own reader splits PAX records at newlines, which breaks binary extended attributes, and
//! has no limits.

use std::collections::BTreeMap;
use std::io::{self, Read};

use anyhow::{Context, Result, anyhow, bail};
use tar::{EntryType, Header};

use super::limits;
use crate::image::Kind;

const BLOCK: usize = 512;

/// What a member is: a file of its own, or a further name of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A file of this kind.
    Kind(Kind),
    /// A further name of the file with this name.
    Hardlink(Vec<u8>),
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, as it stands there.
    pub path: Vec<u8>,
    /// What it is.
    pub what: What,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Length of its content; 0 for everything but regular files.
    pub size: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Member {
    /// A directory that no entry describes: it is there because something lies in it.
    pub fn directory() -> Self {
        let what = What::Kind(Kind::Directory);
        Self { path: Vec::new(), what, mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), size: 0, xattrs: BTreeMap::new() }
    }

    /// An empty regular file.
    #[cfg(test)]
    pub fn named(path: &[u8]) -> Self {
        Self { path: path.to_vec(), what: What::Kind(Kind::File), mode: 0o644, ..Self::directory() }
    }
}

/// The members of a stream.
pub struct Members<R> {
    from: R,
    /// Content of the current member that was not read yet.
    left: u64,
    /// What fills its last block.
    padding: u64,
    count: u64,
    ended: bool,
}

impl<R: Read> Members<R> {
    /// Reads the members of a tar stream.
    pub fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0, count: 0, ended: false }
    }

    /// The next member; what is left of the content of the one before is skipped. `None` at the end.
    ///
    /// # Errors
    /// When the stream is no tar, is cut short, or exceeds a limit.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        let mut extra = Extra::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return match extra.is_empty() {
                    true => Ok(None),
                    false => Err(anyhow!("the layer ends after a header that belongs to a further entry")),
                };
            };
            let size = header.entry_size().context("read the length of an entry")?;
            match header.entry_type() {
                EntryType::XHeader => extra.pax(&self.special(size, limits::PAX_BYTES)?)?,
                EntryType::XGlobalHeader => drop(self.special(size, limits::PAX_BYTES)?),
                EntryType::GNULongName => extra.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => extra.link = Some(self.long_name(size)?),
                kind => {
                    let member = extra.member(&header, kind, size)?;
                    if member.size > limits::LAYER_BYTES {
                        bail!("the entry {:?} says that it has {} bytes", crate::image::path::printable(&member.path), member.size);
                    }
                    self.begin(member.size);
                    return Ok(Some(member));
                }
            }
        }
    }

    /// The content of the current member.
    pub fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// The stream itself.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.from
    }

    /// What is left of the stream after its last member.
    pub fn into_inner(self) -> R {
        self.from
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip(&mut self) -> Result<()> {
        let rest = self.left + std::mem::take(&mut self.padding);
        self.left = 0;
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink()).context("read the layer")?;
        if skipped < rest {
            bail!("it is cut short");
        }
        Ok(())
    }

    /// The next header; `None` at the end: two blocks of zeros, or the end of the stream.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0u8; BLOCK];
        if !self.block(&mut block)? {
            self.ended = true;
            return Ok(None);
        }
        if block == [0; BLOCK] {
            self.ended = true;
            if self.block(&mut block)? && block != [0; BLOCK] {
                bail!("the layer goes on after its end: one reader sees other files in it than the next");
            }
            return Ok(None);
        }
        self.count += 1;
        if self.count > limits::LAYER_ENTRIES {
            bail!("the layer has more than {} entries", limits::LAYER_ENTRIES);
        }
        let sum: u32 = block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        let header = Header::from_byte_slice(&block).clone();
        match header.cksum() {
            Ok(stated) if stated == sum => Ok(Some(header)),
            _ => bail!("it is no tar archive, or damaged: the checksum of a header does not match"),
        }
    }

    /// Reads one block; false at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        let mut got = 0;
        while got < BLOCK {
            match self.from.read(&mut block[got..]) {
                Ok(0) if got == 0 => return Ok(false),
                Ok(0) => bail!("it is cut short"),
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read the layer"),
            }
        }
        Ok(true)
    }

    fn special(&mut self, size: u64, most: u64) -> Result<Vec<u8>> {
        if size > most {
            bail!("an entry of the layer has {size} bytes of attributes; {most} are allowed");
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes).context("read the layer")?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut bytes = self.special(size, limits::PATH_BYTES as u64 + 1)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(bytes)
    }
}

/// A stream that can pass over bytes without reading them.
pub trait Pass {
    /// Passes over so many bytes; false where there are fewer.
    ///
    /// # Errors
    /// When the stream cannot be moved.
    fn pass(&mut self, count: u64) -> io::Result<bool>;
}

impl<R: Read + Pass> Members<R> {
    /// Passes over the content of the current member.
    ///
    /// # Errors
    /// When the stream ends within it.
    pub fn pass(&mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        match self.from.pass(rest).context("read the archive")? {
            true => Ok(()),
            false => bail!("it is cut short"),
        }
    }
}

/// Reads the content of one member; an error where the stream ends within it.
pub struct Content<'a, R>(&'a mut Members<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.0.left.min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        match self.0.from.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short")),
            n => {
                self.0.left -= n as u64;
                Ok(n)
            }
        }
    }
}

fn has_content(kind: EntryType) -> bool {
    matches!(kind, EntryType::Regular | EntryType::Continuous) || kind.as_byte() == 0
}

/// What stands before a header because it does not fit into it.
#[derive(Default)]
struct Extra {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: BTreeMap<String, Vec<u8>>,
    seen: bool,
}

impl Extra {
    fn is_empty(&self) -> bool {
        !self.seen && self.path.is_none() && self.link.is_none()
    }

    fn pax(&mut self, records: &[u8]) -> Result<()> {
        self.seen = true;
        for (key, value) in pax_records(records)? {
            let number = || -> Result<u64> {
                let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                text.and_then(|text| text.parse().ok()).with_context(|| format!("the PAX record {key} is no number"))
            };
            match key {
                "path" => self.path = Some(value.to_vec()),
                "linkpath" => self.link = Some(value.to_vec()),
                "size" => self.size = Some(number()?),
                "uid" => self.uid = Some(number()?),
                "gid" => self.gid = Some(number()?),
                "mtime" => self.mtime = Some(pax_time(value).context("the PAX record mtime is no time")?),
                key if key.starts_with("GNU.sparse.") => {
                    bail!("the layer has a sparse file in GNU's own form, which is not read; save the image again with an engine")
                }
                key => {
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                        self.xattrs.insert(name.to_owned(), value.to_vec());
                    }
                }
            }
        }
        Ok(())
    }

    fn member(&mut self, header: &Header, kind: EntryType, size: u64) -> Result<Member> {
        let path = self.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let header_link = || header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        let link = self.link.take().unwrap_or_else(header_link);
        let shown = || crate::image::path::printable(&path);
        if path.len().max(link.len()) > limits::PATH_BYTES {
            bail!("an entry of the layer has a path of {} bytes", path.len().max(link.len()));
        }
        if path.contains(&0) || link.contains(&0) {
            bail!("the name {:?} has a NUL in it", shown());
        }
        let what = what_of(header, kind, &path, link).with_context(|| format!("read the entry {:?}", shown()))?;
        let old = header.as_old();
        let id = |pax: Option<u64>, field: &[u8], plain: io::Result<u64>| -> Result<u32> {
            let plain = if is_blank(field) { Ok(0) } else { plain };
            let id = pax.map_or(plain, Ok).with_context(|| format!("read the owner of {:?}", shown()))?;
            u32::try_from(id).with_context(|| format!("{:?} has the owner {id}", shown()))
        };
        let mtime = match self.mtime {
            Some(time) => time,
            None => (header.mtime().unwrap_or(0).min(i64::MAX as u64) as i64, 0),
        };
        let is_file = matches!(what, What::Kind(Kind::File));
        Ok(Member {
            what,
            mode: if is_blank(&old.mode) { Ok(0) } else { header.mode() }.with_context(|| format!("read the mode of {:?}", shown()))? & 0o7777,
            uid: id(self.uid, &old.uid, header.uid())?,
            gid: id(self.gid, &old.gid, header.gid())?,
            mtime,
            size: if is_file { self.size.unwrap_or(size) } else { 0 },
            xattrs: std::mem::take(&mut self.xattrs),
            path,
        })
    }
}

/// A number that nobody wrote is zero, as Go's archive/tar has it: some tools leave owners out.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

fn what_of(header: &Header, kind: EntryType, path: &[u8], link: Vec<u8>) -> Result<What> {
    let rdev = || -> Result<(u32, u32)> {
        let number = |n: io::Result<Option<u32>>| n.ok().flatten().context("it is a device without a number");
        Ok((number(header.device_major())?, number(header.device_minor())?))
    };
    let kind = match kind {
        // In the oldest format a slash at the end is all that makes a directory.
        kind if has_content(kind) && path.ends_with(b"/") => Kind::Directory,
        kind if has_content(kind) => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink if link.is_empty() => bail!("it is a symlink to nothing"),
        EntryType::Symlink => Kind::Symlink { target: link },
        EntryType::Link => return Ok(What::Hardlink(link)),
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => Kind::CharDevice { rdev: rdev()? },
        EntryType::Block => Kind::BlockDevice { rdev: rdev()? },
        EntryType::GNUSparse => bail!("it is sparse in GNU's own form, which is not read; save the image again with an engine"),
        other => bail!("its type {:?} is unknown", other.as_byte() as char),
    };
    Ok(What::Kind(kind))
}

/// `LENGTH KEY=VALUE\n`, one after the other; values may hold anything.
fn pax_records(mut rest: &[u8]) -> Result<Vec<(&str, &[u8])>> {
    let mut records = Vec::new();
    while !rest.is_empty() {
        let wrong = || anyhow!("the layer has broken PAX records");
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
        let digits = std::str::from_utf8(&rest[..space]).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length: usize = digits.and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        if length <= space + 1 || length > rest.len() || rest[length - 1] != b'\n' {
            return Err(wrong());
        }
        let record = &rest[space + 1..length - 1];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
        let key = std::str::from_utf8(&record[..equals]).map_err(|_| wrong())?;
        records.push((key, &record[equals + 1..]));
        rest = &rest[length..];
    }
    Ok(records)
}

/// Seconds with a fraction, maybe negative: `-4.5` is half a second before `-4`.
fn pax_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) || whole.is_empty() || whole.len() > 18 {
        return None;
    }
    let nanos: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let total = sign * (whole.parse::<i128>().ok()? * 1_000_000_000 + nanos.parse::<i128>().ok()?);
    Some((total.div_euclid(1_000_000_000) as i64, total.rem_euclid(1_000_000_000) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_are_split_by_their_length_alone() {
        let records = b"15 key=a\nb=\n\x00c\n8 x=\xff\xfe\n\n";
        let read = pax_records(&records[..]).unwrap();
        assert_eq!(read, [("key", &b"a\nb=\n\x00c"[..]), ("x", b"\xff\xfe\n")]);
        for bad in [&b"5 a=b"[..], b"99 a=b\n", b"0 a=b\n", b"x a=b\n", b"6 ab=\n\n", b"4 a\n", b"18446744073709551616 a=b\n"] {
            assert!(pax_records(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn times_before_1970_have_their_fraction() {
        assert_eq!(pax_time(b"-4.5"), Some((-5, 500_000_000)));
        assert_eq!(pax_time(b"1.000000001"), Some((1, 1)));
        assert_eq!(pax_time(b"12"), Some((12, 0)));
        for bad in [&b""[..], b"-", b"1e9", b"9999999999999999999"] {
            assert_eq!(pax_time(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
