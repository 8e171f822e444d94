//! Limits: how much an image may ask of this machine before it is taken for an attack.
//!
//! Everything that is read here was made by somebody else. Each limit is far beyond what real images have.

use std::io::{self, Read};

/// Greatest manifest or index, as the distribution specification suggests to registries.
pub const MANIFEST_BYTES: u64 = 4 << 20;
/// Greatest config document.
pub const CONFIG_BYTES: u64 = 32 << 20;
/// Most layers of an image. Overlayfs and engines stop at about 128.
pub const LAYERS: usize = 1024;
/// Most manifests of an index.
pub const MANIFESTS: usize = 4096;
/// Most members of an archive that holds an image.
pub const ARCHIVE_MEMBERS: usize = 100_000;
/// Most entries of a layer.
pub const LAYER_ENTRIES: u64 = 4_000_000;
/// Longest path and longest link target, as the kernel has it (PATH_MAX).
pub const PATH_BYTES: usize = 4096;
/// Longest set of PAX records of one entry; extended attributes of 64 KiB fit several times over.
pub const PAX_BYTES: u64 = 1 << 20;
/// Most bytes of an unpacked layer.
pub const LAYER_BYTES: u64 = 256 << 30;
/// So many unpacked bytes are fine however well they were compressed.
const FREE_BYTES: u64 = 16 << 30;
/// Beyond those, so many unpacked bytes for each compressed one.
const RATIO: u64 = 200;

/// Counts what a decompressor takes and what it gives, and stops a bomb.
pub struct Metered<R> {
    inner: R,
    taken: std::sync::Arc<std::sync::atomic::AtomicU64>,
    given: u64,
}

impl<R> Metered<R> {
    /// Watches the output `inner` of a decompressor; `taken` grows with what it reads.
    pub fn new(inner: R, taken: std::sync::Arc<std::sync::atomic::AtomicU64>) -> Self {
        Self { inner, taken, given: 0 }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.given += n as u64;
        let taken = self.taken.load(std::sync::atomic::Ordering::Relaxed);
        if is_bomb(taken, self.given) {
            let text = format!("{taken} compressed bytes became {} and more: that is no layer but a bomb", self.given);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(n)
    }
}

fn is_bomb(taken: u64, given: u64) -> bool {
    given > LAYER_BYTES || (given > FREE_BYTES && given / RATIO > taken)
}

/// A reader that adds what passes to a counter.
pub struct Counted<R> {
    inner: R,
    count: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl<R> Counted<R> {
    /// Counts what is read from `inner`.
    pub fn new(inner: R, count: std::sync::Arc<std::sync::atomic::AtomicU64>) -> Self {
        Self { inner, count }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.fetch_add(n as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(n)
    }
}

/// All of a stream that must not be longer than `most` bytes.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn read_at_most(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_what_is_large_and_came_from_next_to_nothing() {
        assert!(!is_bomb(1, FREE_BYTES));
        assert!(is_bomb(1 << 20, FREE_BYTES + RATIO));
        assert!(!is_bomb(1 << 30, FREE_BYTES + RATIO));
        assert!(is_bomb(1 << 40, LAYER_BYTES + 1));
    }

    #[test]
    fn a_document_that_is_too_long_is_not_read() {
        assert_eq!(read_at_most(&b"abc"[..], 3).unwrap(), b"abc");
        assert!(read_at_most(io::repeat(b'x'), 3).unwrap_err().to_string().contains("longer than 3"));
    }
}
