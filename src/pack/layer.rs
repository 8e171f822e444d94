//! Layer: a tar archive of kept files. The same tree and keep set give the same bytes: entries in path order,
//! no clock, no names of users, original times.
//!
//! Format: POSIX ustar headers with PAX records (pax(1)) where a value does not fit, `SCHILY.xattr.` records
//! for extended attributes, as the OCI image-spec's `layer.md` asks. The `tar` crate's builder writes no PAX
//! records, so headers are made here.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::image::{Entry, ImagePath, Kind, Tree};

/// A piece of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes.
    Data(Bytes),
    /// So many zeros.
    Hole(u64),
    /// The file is complete.
    End,
}

/// Gives the contents of an untouched image's files, in the order asked.
#[async_trait]
pub trait Contents: Send {
    /// Asks for the contents of these regular files.
    async fn request(&mut self, paths: Vec<ImagePath>) -> Result<()>;
    /// The next piece; [`Chunk::End`] after each file.
    async fn next_chunk(&mut self) -> Result<Chunk>;
}

/// What a written layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// `sha256:` and hex, of the uncompressed tar.
    pub diff_id: String,
    /// Length of the tar in bytes.
    pub tar_bytes: u64,
    /// Bytes of file content in it, each inode once.
    pub content_bytes: u64,
    /// The layer's size as engines count it: that, and the targets of its symlinks.
    pub engine_bytes: u64,
    /// Entries in it.
    pub entries: u64,
    /// Kept paths that a layer cannot hold (sockets).
    pub skipped: Vec<ImagePath>,
}

/// How many files are asked for at a time: the agent's queue stays short and it never waits for us.
const WINDOW: usize = 4096;

/// Writes the layer that holds `kept` (all of which are in `tree`) to `out`.
///
/// # Errors
/// When content cannot be read, does not have the size that the tree says, or `out` cannot be written.
pub async fn write<'a, W: Write + Send>(
    tree: &'a Tree,
    kept: impl Iterator<Item = &'a ImagePath>,
    contents: &mut dyn Contents,
    out: &mut W,
) -> Result<LayerInfo> {
    let mut writer = Writer {
        out,
        hash: Sha256::new(),
        info: LayerInfo {
            diff_id: String::new(),
            tar_bytes: 0,
            content_bytes: 0,
            engine_bytes: 0,
            entries: 0,
            skipped: Vec::new(),
        },
    };
    let plan = arrange(tree, kept, &mut writer.info.skipped)?;
    let mut files = plan.iter().filter(|item| item.has_content()).map(|item| item.path.clone());
    let mut asked = 0usize;
    for item in &plan {
        writer.header(item)?;
        if !item.has_content() {
            continue;
        }
        if asked == 0 {
            let batch: Vec<ImagePath> = files.by_ref().take(WINDOW).collect();
            asked = batch.len();
            contents.request(batch).await?;
        }
        asked -= 1;
        writer.content(item, contents).await?;
    }
    writer.end()
}

/// One entry of the layer to be.
struct Item<'a> {
    path: ImagePath,
    entry: &'a Entry,
    /// `Some`: a further name of that earlier entry's inode.
    link_to: Option<ImagePath>,
}

impl Item<'_> {
    fn has_content(&self) -> bool {
        self.link_to.is_none() && self.entry.is_file() && self.entry.size > 0
    }
}

fn arrange<'a>(
    tree: &'a Tree,
    kept: impl Iterator<Item = &'a ImagePath>,
    skipped: &mut Vec<ImagePath>,
) -> Result<Vec<Item<'a>>> {
    let mut first_name: BTreeMap<u64, ImagePath> = BTreeMap::new();
    let mut plan = Vec::new();
    let mut paths: Vec<&ImagePath> = kept.collect();
    paths.sort();
    for path in paths {
        let entry = tree.get(path).with_context(|| format!("{path} is kept but not in the image"))?;
        if entry.kind == Kind::Socket {
            skipped.push(path.clone());
            continue;
        }
        // A root directory as engines make it needs no entry.
        if path.is_root() && entry.mode == 0o755 && entry.uid == 0 && entry.gid == 0 && entry.xattrs.is_empty() {
            continue;
        }
        let link_to = entry.hardlink.and_then(|inode| first_name.get(&inode).cloned());
        if let (None, Some(inode)) = (&link_to, entry.hardlink) {
            first_name.insert(inode, path.clone());
        }
        plan.push(Item { path: path.clone(), entry, link_to });
    }
    Ok(plan)
}

struct Writer<'a, W> {
    out: &'a mut W,
    hash: Sha256,
    info: LayerInfo,
}

impl<W: Write + Send> Writer<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.info.tar_bytes += bytes.len() as u64;
        self.out.write_all(bytes).context("write the layer")
    }

    fn zeros(&mut self, mut count: u64) -> Result<()> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        while count > 0 {
            let n = count.min(ZEROS.len() as u64) as usize;
            self.put(&ZEROS[..n])?;
            count -= n as u64;
        }
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        self.zeros(self.info.tar_bytes.next_multiple_of(512) - self.info.tar_bytes)
    }

    fn header(&mut self, item: &Item<'_>) -> Result<()> {
        let (records, header) = header_of(item)?;
        if !records.is_empty() {
            let mut pax = Header::new_ustar();
            pax.set_path("PaxHeaders.0/entry").context("name a PAX header")?;
            pax.set_entry_type(EntryType::XHeader);
            pax.set_mode(0o644);
            pax.set_uid(0);
            pax.set_gid(0);
            pax.set_mtime(0);
            pax.set_size(records.len() as u64);
            pax.set_cksum();
            self.put(pax.as_bytes())?;
            self.put(&records)?;
            self.pad()?;
        }
        self.info.entries += 1;
        if item.link_to.is_none() {
            self.info.engine_bytes += item.entry.link_target().map_or(0, |target| target.len() as u64);
        }
        self.put(header.as_bytes())
    }

    async fn content(&mut self, item: &Item<'_>, contents: &mut dyn Contents) -> Result<()> {
        let start = self.info.tar_bytes;
        let path = &item.path;
        loop {
            match contents.next_chunk().await.with_context(|| format!("read {path} from the image"))? {
                Chunk::Data(bytes) => self.put(&bytes)?,
                Chunk::Hole(count) if count <= item.entry.size => self.zeros(count)?,
                Chunk::Hole(_) => bail!("{path} has another size than the image's listing says"),
                Chunk::End => break,
            }
        }
        let written = self.info.tar_bytes - start;
        if written != item.entry.size {
            bail!("{path} has {written} bytes where the image's listing says {}", item.entry.size);
        }
        self.info.content_bytes += written;
        self.info.engine_bytes += written;
        self.pad()
    }

    fn end(mut self) -> Result<LayerInfo> {
        self.zeros(1024)?;
        self.out.flush().context("write the layer")?;
        self.info.diff_id = format!("sha256:{:x}", self.hash.finalize());
        Ok(self.info)
    }
}

/// The PAX records (possibly none) and the ustar header of an entry.
fn header_of(item: &Item<'_>) -> Result<(Vec<u8>, Header)> {
    let entry = item.entry;
    let mut records = Records::default();
    let mut header = Header::new_ustar();
    let mut name = item.path.relative().to_vec();
    if item.path.is_root() {
        name = b"./".to_vec();
    } else if entry.is_dir() {
        name.push(b'/');
    }
    let ustar = header.as_ustar_mut().context("make a ustar header")?;
    field(&mut ustar.name, "path", &name, &mut records);
    let link: &[u8] = match (&item.link_to, &entry.kind) {
        (Some(first), _) => first.relative(),
        (None, Kind::Symlink { target }) => target,
        _ => b"",
    };
    field(&mut ustar.linkname, "linkpath", link, &mut records);
    header.set_entry_type(match (&item.link_to, &entry.kind) {
        (Some(_), _) => EntryType::Link,
        (None, Kind::File) => EntryType::Regular,
        (None, Kind::Directory) => EntryType::Directory,
        (None, Kind::Symlink { .. }) => EntryType::Symlink,
        (None, Kind::Fifo) => EntryType::Fifo,
        (None, Kind::CharDevice { .. }) => EntryType::Char,
        (None, Kind::BlockDevice { .. }) => EntryType::Block,
        (None, Kind::Socket) => bail!("{} is a socket, which no layer can hold", item.path),
    });
    if let Kind::CharDevice { rdev } | Kind::BlockDevice { rdev } = entry.kind {
        header.set_device_major(rdev.0).context("set the device number")?;
        header.set_device_minor(rdev.1).context("set the device number")?;
    }
    header.set_mode(entry.mode);
    header.set_uid(records.number("uid", entry.uid.into(), 0o7777777));
    header.set_gid(records.number("gid", entry.gid.into(), 0o7777777));
    let size = if item.has_content() { entry.size } else { 0 };
    header.set_size(records.number("size", size, 0o77777777777));
    let (seconds, nanos) = entry.mtime;
    if nanos == 0 && (0..=0o77777777777).contains(&seconds) {
        header.set_mtime(seconds as u64);
    } else {
        header.set_mtime(seconds.clamp(0, 0o77777777777) as u64);
        records.add("mtime", decimal_time(seconds, nanos).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        records.add(&format!("SCHILY.xattr.{name}"), value);
    }
    header.set_cksum();
    Ok((records.0, header))
}

/// Puts a value into a fixed header field, or into a PAX record where it does not fit.
fn field(place: &mut [u8], key: &str, value: &[u8], records: &mut Records) {
    if value.len() > place.len() {
        records.add(key, value);
    }
    let n = value.len().min(place.len());
    place[..n].copy_from_slice(&value[..n]);
}

/// A PAX time: seconds with a fraction, trailing zeros cut. Before 1970 the whole value is negative.
fn decimal_time(seconds: i64, nanos: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// PAX extended header records: `LENGTH KEY=VALUE\n`, the length counting itself.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// The value for the header field: itself, or 0 with a record where it exceeds `max`.
    fn number(&mut self, key: &str, value: u64, max: u64) -> u64 {
        if value <= max {
            return value;
        }
        self.add(key, value.to_string().as_bytes());
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::io::Read;

    /// Contents held in memory.
    struct Memory {
        files: BTreeMap<ImagePath, Vec<u8>>,
        queue: VecDeque<Chunk>,
    }

    #[async_trait]
    impl Contents for Memory {
        async fn request(&mut self, paths: Vec<ImagePath>) -> Result<()> {
            for path in paths {
                self.queue.push_back(Chunk::Data(self.files[&path].clone().into()));
                self.queue.push_back(Chunk::End);
            }
            Ok(())
        }
        async fn next_chunk(&mut self) -> Result<Chunk> {
            self.queue.pop_front().context("nothing asked")
        }
    }

    fn file(tree: &mut Tree, memory: &mut Memory, path: &[u8], text: &str, change: impl FnOnce(&mut Entry)) {
        let mut entry = Entry::new(Kind::File);
        entry.size = text.len() as u64;
        change(&mut entry);
        tree.insert(ImagePath::new(path), entry);
        memory.files.insert(ImagePath::new(path), text.as_bytes().to_vec());
    }

    fn packed(tree: &Tree, memory: &mut Memory) -> (Vec<u8>, LayerInfo) {
        let mut bytes = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let info = runtime
            .block_on(write(tree, tree.iter().map(|(path, _)| path), memory, &mut bytes))
            .unwrap();
        (bytes, info)
    }

    #[test]
    fn what_goes_in_comes_out_through_another_reader() {
        let (mut tree, mut memory) = (Tree::new(), Memory { files: BTreeMap::new(), queue: VecDeque::new() });
        let long = format!("/d/{}", "x".repeat(200));
        tree.insert("/".into(), Entry::new(Kind::Directory));
        tree.insert("/d".into(), Entry { mode: 0o3711, gid: 3_000_000, ..Entry::new(Kind::Directory) });
        file(&mut tree, &mut memory, long.as_bytes(), "long", |e| e.mtime = (-5, 500_000_000));
        file(&mut tree, &mut memory, b"/d/\xff odd\n", "odd", |e| e.mode = 0o4755);
        // No newline in the value: the tar crate's reader splits records at them, which pax(1) does not.
        file(&mut tree, &mut memory, b"/d/caps", "", |e| {
            e.xattrs.insert("security.capability".into(), b"\x01\x00\x00=".to_vec());
        });
        file(&mut tree, &mut memory, b"/a", "linked", |e| e.hardlink = Some(9));
        file(&mut tree, &mut memory, b"/d/b", "linked", |e| e.hardlink = Some(9));
        tree.insert("/l".into(), Entry::new(Kind::Symlink { target: b"/gone".to_vec() }));
        let (bytes, info) = packed(&tree, &mut memory);
        assert_eq!((info.content_bytes, info.engine_bytes), (4 + 3 + 6, 4 + 3 + 6 + 5));

        let mut archive = tar::Archive::new(&bytes[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path_bytes().into_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let pax: BTreeMap<String, Vec<u8>> = match entry.pax_extensions().unwrap() {
                Some(records) => records
                    .map(|r| r.unwrap())
                    .map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec()))
                    .collect(),
                None => BTreeMap::new(),
            };
            seen.push((path, entry.header().entry_type(), text, pax, entry.header().mode().unwrap()));
        }
        let names: Vec<&[u8]> = seen.iter().map(|s| &s.0[..]).collect();
        let long = long.trim_start_matches('/').as_bytes();
        assert_eq!(names, [&b"a"[..], b"d/", b"d/b", b"d/caps", long, b"d/\xff odd\n", b"l"]);
        assert_eq!((seen[2].1, seen[2].2.as_str()), (EntryType::Link, ""));
        assert_eq!(seen[3].3["SCHILY.xattr.security.capability"], b"\x01\x00\x00=");
        assert_eq!(seen[4].3["mtime"], b"-4.5");
        assert_eq!(seen[5].4, 0o4755);
        assert_eq!(seen[1].3["gid"], b"3000000");
        assert_eq!(bytes, packed(&tree, &mut memory).0);
    }

    #[test]
    fn a_pax_record_counts_its_own_length() {
        for n in [1usize, 90, 91, 92, 980, 990] {
            let mut records = Records::default();
            records.add("k", &vec![b'v'; n]);
            let text = String::from_utf8(records.0).unwrap();
            let stated: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, text.len(), "value of {n}");
        }
    }

    #[test]
    fn a_file_that_is_shorter_than_listed_is_an_error() {
        let (mut tree, mut memory) = (Tree::new(), Memory { files: BTreeMap::new(), queue: VecDeque::new() });
        file(&mut tree, &mut memory, b"/a", "four", |e| e.size = 5);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let paths = [ImagePath::from("/a")];
        let error = runtime.block_on(write(&tree, paths.iter(), &mut memory, &mut Vec::new())).unwrap_err();
        assert!(error.to_string().contains("has 4 bytes"), "{error}");
    }
}
