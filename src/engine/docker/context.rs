//! Context: a directory on this machine as the tar stream that an engine builds from.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::ignore::Ignore;
use crate::engine::error::EngineError;

/// Bytes that are sent at once.
const PIECE: usize = 128 << 10;
/// Pieces that may wait to be sent.
const WAITING: usize = 8;

/// A context on its way: the stream, and how making it went.
pub(super) struct Sent {
    /// What the engine reads.
    pub(super) stream: mpsc::Receiver<io::Result<Bytes>>,
    /// Ends when the stream does.
    pub(super) outcome: tokio::task::JoinHandle<Result<()>>,
}

/// Packs a directory, without what its `.dockerignore` leaves out.
pub(super) fn send(dir: &Path, dockerfile: &str) -> Result<Sent> {
    let ignore = read_ignore(dir, dockerfile)?;
    let dir = dir.to_owned();
    let (sender, stream) = mpsc::channel(WAITING);
    let outcome = tokio::task::spawn_blocking(move || {
        let result = pack(&dir, &ignore, Pieces { sender: sender.clone(), held: Vec::with_capacity(PIECE) });
        if let Err(error) = &result {
            // The engine must not take what came so far for the whole.
            let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
        }
        result
    });
    Ok(Sent { stream, outcome })
}

/// `Dockerfile.dockerignore` beside the Dockerfile comes before `.dockerignore` in the root.
fn read_ignore(dir: &Path, dockerfile: &str) -> Result<Ignore> {
    let own = format!("{dockerfile}.dockerignore");
    let name = if dir.join(&own).is_file() { own.as_str() } else { ".dockerignore" };
    let text = match std::fs::read(dir.join(name)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", dir.join(name).display())),
    };
    Ok(Ignore::parse(&text)?.keep(&[dockerfile, ".dockerignore"]))
}

fn pack(dir: &Path, ignore: &Ignore, out: Pieces) -> Result<()> {
    let mut tar = tar::Builder::new(out);
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let at = dir.join(&below);
        let entries = std::fs::read_dir(&at).with_context(|| format!("list {}", at.display()))?;
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        let mut names = names.with_context(|| format!("list {}", at.display()))?;
        names.sort_unstable();
        for name in names {
            let path = below.join(&name);
            let covered = ignore.covers(&path.to_string_lossy());
            let file = dir.join(&path);
            let metadata = file.symlink_metadata().with_context(|| format!("look at {}", file.display()))?;
            if metadata.is_dir() && (!covered || ignore.has_exceptions()) {
                todo.push(path.clone());
            }
            if !covered {
                append(&mut tar, &file, &path, &metadata).with_context(|| format!("send {}", file.display()))?;
            }
        }
    }
    let mut out = tar.into_inner().context("end the build context")?;
    out.flush().context("end the build context")
}

fn append(tar: &mut tar::Builder<Pieces>, file: &Path, path: &Path, metadata: &std::fs::Metadata) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_metadata_in_mode(metadata, tar::HeaderMode::Complete);
    // The owner on this machine means nothing in an image.
    header.set_uid(0);
    header.set_gid(0);
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let target = std::fs::read_link(file)?;
        header.set_size(0);
        return Ok(tar.append_link(&mut header, path, target)?);
    }
    if kind.is_dir() {
        header.set_size(0);
        return Ok(tar.append_data(&mut header, path, io::empty())?);
    }
    if !kind.is_file() {
        // Sockets and the like: docker does not send them either.
        return Ok(());
    }
    let content = std::fs::File::open(file)?;
    // A file that shrinks meanwhile would leave the archive torn; the copy must have the size announced.
    let size = metadata.size();
    header.set_size(size);
    header.set_cksum();
    let mut exact = Exact { inner: io::Read::take(content, size), left: size };
    Ok(tar.append_data(&mut header, path, &mut exact)?)
}

/// Reads exactly as many bytes as were announced, or fails.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: io::Read> io::Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A writer whose bytes go to the request's body.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    held: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.held, Vec::with_capacity(PIECE));
        let sent = self.sender.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine stopped reading the build context"))
    }
}

/// Checks that there is something to build, before the engine is asked.
pub(super) fn check(dir: &Path, dockerfile: &str) -> Result<()> {
    let refuse = |text: String| Err(EngineError::Refused(text).into());
    if !dir.is_dir() {
        return refuse(format!("{} is no directory to build from", dir.display()));
    }
    let file = Path::new(dockerfile);
    if file.is_absolute() || file.components().any(|part| part.as_os_str().as_bytes() == b"..") {
        return refuse(format!("the Dockerfile {dockerfile} is outside of its context {}", dir.display()));
    }
    if !dir.join(file).is_file() {
        return refuse(format!("no {dockerfile} in {}", dir.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn names(dir: &Path) -> Result<Vec<String>> {
        let mut sent = send(dir, "Dockerfile")?;
        let mut bytes = Vec::new();
        while let Some(piece) = sent.stream.recv().await {
            bytes.extend_from_slice(&piece?);
        }
        sent.outcome.await??;
        let mut archive = tar::Archive::new(&bytes[..]);
        let names = archive.entries()?.map(|entry| {
            let entry = entry?;
            assert_eq!((entry.header().uid()?, entry.header().gid()?), (0, 0));
            Ok(format!("{}:{}", entry.path()?.display(), entry.header().size()?))
        });
        names.collect()
    }

    #[tokio::test]
    async fn a_context_is_sent_without_what_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("skip/deep")).unwrap();
        std::fs::create_dir(at("src")).unwrap();
        for (name, size) in [("Dockerfile", 3), ("src/a", PIECE * 2 + 1), ("skip/b", 1), ("skip/deep/yes", 2)] {
            std::fs::write(at(name), vec![b'x'; size]).unwrap();
        }
        let long = "n".repeat(150);
        std::fs::write(at(&long), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        std::fs::write(at(".dockerignore"), "skip\n!skip/deep/yes\nDockerfile\n").unwrap();
        let mut found = names(dir.path()).await.unwrap();
        found.sort_unstable();
        let large = format!("src/a:{}", PIECE * 2 + 1);
        let expected =
            [".dockerignore:31", "Dockerfile:3", "link:0", &format!("{long}:0"), "skip/deep/yes:2", &large, "src:0"];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_cannot_be_built_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for (path, dockerfile, expected) in [
            (dir.path().join("none"), "Dockerfile", "is no directory"),
            (dir.path().to_owned(), "Dockerfile", "no Dockerfile in"),
            (dir.path().to_owned(), "../Dockerfile", "outside of its context"),
        ] {
            let error = check(&path, dockerfile).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
