//! Compress: layers as they travel: plain, gzip or zstd (OCI image-spec `layer.md`).
//!
//! Compressed here, a layer is a sequence of independent gzip members or zstd frames of [`CHUNK`] bytes each: the
//! processors share the work, and the bytes are the same however many there are.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};

use super::limits::{Counted, Metered};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// gzip, which every engine and registry reads
    #[default]
    Gzip,
    /// zstd: smaller and quicker, for engines from 2021 on
    Zstd,
    /// Not at all
    None,
}

/// Bytes that are compressed at a time.
const CHUNK: usize = 4 << 20;
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// The largest window of a zstd frame that is read, as the zstd command has it by default (128 MiB).
const ZSTD_WINDOW_LOG: u32 = 27;

impl Compression {
    /// What the first bytes of a stream say. Plain is what is nothing else.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, with which some tools begin.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Decompresses a stream, whatever its first bytes say that it is; also gives that.
///
/// # Errors
/// When it cannot be read.
pub fn plain(from: Box<dyn Read + Send>) -> Result<(Compression, Box<dyn Read + Send>)> {
    let taken = Arc::new(AtomicU64::new(0));
    let mut from = BufReader::with_capacity(1 << 16, Counted::new(from, taken.clone()));
    let kind = Compression::of(from.fill_buf().context("read the layer")?);
    Ok((kind, match kind {
        Compression::None => Box::new(from),
        Compression::Gzip => Box::new(Metered::new(flate2::bufread::MultiGzDecoder::new(from), taken)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(from).context("read zstd")?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).context("read zstd")?;
            Box::new(Metered::new(decoder, taken))
        }
    }))
}

/// Compresses a stream.
///
/// # Errors
/// When it cannot be read, or the result not be written.
pub fn compress(mut from: impl Read, to: &mut impl Write, how: Compression) -> Result<()> {
    if how == Compression::None {
        io::copy(&mut from, to).context("copy the layer")?;
        return Ok(());
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let mut first = true;
    loop {
        let mut chunks = Vec::new();
        for _ in 0..threads {
            let mut chunk = Vec::new();
            from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).context("read the layer")?;
            let short = chunk.len() < CHUNK;
            if !chunk.is_empty() || (first && chunks.is_empty()) {
                chunks.push(chunk);
            }
            if short {
                break;
            }
        }
        let last = chunks.len() < threads || chunks.last().is_none_or(|chunk| chunk.len() < CHUNK);
        for packed in all_at_once(&chunks, how)? {
            to.write_all(&packed).context("write the compressed layer")?;
        }
        first = false;
        if last {
            return Ok(());
        }
    }
}

fn all_at_once(chunks: &[Vec<u8>], how: Compression) -> Result<Vec<Vec<u8>>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = chunks.iter().map(|chunk| scope.spawn(move || one(chunk, how))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
            thread.join().map_err(|_| io::Error::other("a compressing thread ended early")).and_then(|packed| packed)
        };
        threads.into_iter().map(|thread| join(thread).context("compress the layer")).collect()
    })
}

fn one(chunk: &[u8], how: Compression) -> io::Result<Vec<u8>> {
    match how {
        Compression::None => Ok(chunk.to_vec()),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(chunk)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::bulk::compress(chunk, ZSTD_LEVEL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(bytes: &[u8], how: Compression) -> Vec<u8> {
        let mut packed = Vec::new();
        compress(bytes, &mut packed, how).unwrap();
        let (found, mut reader) = plain(Box::new(io::Cursor::new(packed))).unwrap();
        assert_eq!(found, how);
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        back
    }

    #[test]
    fn what_is_compressed_comes_back_at_every_length() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 / 7) as u8 % 11).collect();
            for how in [Compression::Gzip, Compression::Zstd] {
                assert!(through(&bytes, how) == bytes, "{length} {how:?}");
            }
        }
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error() {
        for how in [Compression::Gzip, Compression::Zstd] {
            let mut packed = Vec::new();
            compress(&b"some text that is long enough"[..], &mut packed, how).unwrap();
            packed.truncate(packed.len() - 3);
            let (_, mut reader) = plain(Box::new(io::Cursor::new(packed))).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err(), "{how:?}");
        }
    }
}
