//! Compressed: how many bytes a layer has as gzip, which is what a registry transfers and what a host pulls.
//! Measured while other things go on; nothing is written.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::task::JoinHandle;

use super::archive::PackedImage;

/// What `docker push` and most other writers of layers use.
const LEVEL: u32 = 6;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;

/// A layer that is being compressed; it stops when this is dropped.
#[derive(Debug)]
pub struct Measuring {
    task: JoinHandle<io::Result<Option<u64>>>,
    stop: Arc<AtomicBool>,
}

impl Measuring {
    /// Begins, on a thread that may block.
    ///
    /// # Errors
    /// When the layer's temporary file cannot be opened again.
    pub fn start(image: &PackedImage) -> Result<Self> {
        let file = image.layer_file.try_clone().context("open the packed layer again")?;
        let bytes = image.layer.tar_bytes;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::task::spawn_blocking(move || gzipped(&file, bytes, &stopped));
        Ok(Self { task, stop })
    }

    /// Bytes of the layer as gzip.
    ///
    /// # Errors
    /// When the layer's temporary file cannot be read.
    pub async fn bytes(mut self) -> Result<u64> {
        let measured = (&mut self.task).await.context("compress the layer")?.context("read the packed layer")?;
        measured.context("the layer was given up while it was compressed")
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Bytes of a plain stream as gzip, measured in the same way. Blocks.
///
/// # Errors
/// When the stream cannot be read.
pub fn size(mut plain: impl io::Read) -> io::Result<u64> {
    let mut gzip = GzEncoder::new(Count(0), Compression::new(LEVEL));
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        // Blocks of another length would be compressed a little differently.
        match plain.by_ref().take(BLOCK as u64).read_to_end(&mut block)? {
            0 => return Ok(gzip.finish()?.0),
            _ => gzip.write_all(&block)?,
        }
        block.clear();
    }
}

/// `None` when it was stopped. Reads at offsets of its own: others move the file's position.
fn gzipped(file: &File, bytes: u64, stop: &AtomicBool) -> io::Result<Option<u64>> {
    let mut gzip = GzEncoder::new(Count(0), Compression::new(LEVEL));
    let mut block = vec![0u8; BLOCK];
    let mut at = 0;
    while at < bytes {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let want = BLOCK.min(usize::try_from(bytes - at).unwrap_or(BLOCK));
        file.read_exact_at(&mut block[..want], at)?;
        gzip.write_all(&block[..want])?;
        at += want as u64;
    }
    Ok(Some(gzip.finish()?.0))
}

/// Counts what is written, and forgets it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_gzip_makes_of_it_and_a_stopped_one_is_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        let text: Vec<u8> = (0..3_000_000u32).flat_map(|n| (n / 7).to_le_bytes()).take(3 * BLOCK + 5).collect();
        file.write_all(&text).unwrap();
        let mut whole = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
        whole.write_all(&text).unwrap();
        let expected = whole.finish().unwrap().len() as u64;
        let measured = gzipped(&file, text.len() as u64, &AtomicBool::new(false)).unwrap().unwrap();
        assert!(measured.abs_diff(expected) < expected / 100, "{measured}, {expected}");
        assert_eq!(size(&text[..]).unwrap(), measured);
        assert_eq!(gzipped(&file, text.len() as u64, &AtomicBool::new(true)).unwrap(), None);
        assert!(gzipped(&file, text.len() as u64 + 1, &AtomicBool::new(false)).is_err());
    }
}
