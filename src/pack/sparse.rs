//! Sparse: a temporary file in which long runs of zeros take no room on disk, as in the files of the image that they
//! come from. What is read from it has them again.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// A file that is written once, from its beginning to its end; complete when it was flushed.
#[derive(Debug)]
pub struct Sparse(pub File);

/// How many bytes are looked at together.
const BLOCK: usize = 1 << 16;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let block = &bytes[..bytes.len().min(BLOCK)];
        if block == ZEROS {
            self.0.seek(SeekFrom::Current(BLOCK as i64))?;
            return Ok(BLOCK);
        }
        self.0.write(block)
    }

    fn flush(&mut self) -> io::Result<()> {
        let end = self.0.stream_position()?;
        self.0.set_len(end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufWriter, Read};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_take_no_room_and_come_back() {
        let mut file = tempfile::tempfile().unwrap();
        let mut out = BufWriter::with_capacity(1 << 20, Sparse(file.try_clone().unwrap()));
        let mut expected = vec![0; 20 << 20];
        expected[5_000_000] = 1;
        expected[..3].copy_from_slice(b"abc");
        out.write_all(&expected).unwrap();
        out.flush().unwrap();
        drop(out);
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20, "{} blocks", file.metadata().unwrap().blocks());
        let mut got = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut got).unwrap();
        assert!(got == expected);
    }
}
