//! Digest: the name of a blob that says what its bytes are (OCI image-spec `descriptor.md`), and readers that
//! hold it to that.

use std::fmt;
use std::io::{self, Read};

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256, Sha512};

/// `sha256:HEX` or `sha512:HEX`, checked: it may be part of a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Reads a digest.
    ///
    /// # Errors
    /// When it is of another kind or has not the right digits.
    pub fn parse(text: &str) -> Result<Self> {
        let hex = |digits: &str, count| {
            digits.len() == count && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        match text.split_once(':') {
            Some(("sha256", digits)) if hex(digits, 64) => Ok(Self(text.to_owned())),
            Some(("sha512", digits)) if hex(digits, 128) => Ok(Self(text.to_owned())),
            _ => {
                let shown: String = text.chars().take(100).collect();
                bail!("{shown:?} is no digest that can be checked; sha256: and sha512: are known")
            }
        }
    }

    /// The SHA-256 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{:x}", Sha256::digest(bytes)))
    }

    /// With its algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The digits alone.
    pub fn hex(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// Where an OCI layout keeps the blob, `blobs/sha256/HEX`.
    pub fn blob_path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm(), self.hex())
    }

    /// Whether it is that of these bytes.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        let mut hash = Hash::like(self);
        hash.update(bytes);
        hash.finish() == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A digest in the making.
#[derive(Clone)]
pub enum Hash {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Box<Sha512>),
}

impl Hash {
    /// Of the same kind as a digest.
    pub fn like(digest: &Digest) -> Self {
        match digest.algorithm() {
            "sha512" => Self::Sha512(Box::default()),
            _ => Self::Sha256(Sha256::new()),
        }
    }

    /// Of the kind that new digests have.
    pub fn new() -> Self {
        Self::Sha256(Sha256::new())
    }

    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all that came in.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest(format!("sha256:{:x}", hash.finalize())),
            Self::Sha512(hash) => Digest(format!("sha512:{:x}", hash.finalize())),
        }
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

/// A stream that fails at its end when it was not what its digest says, and as soon as it is too long.
pub struct Verified<R> {
    inner: R,
    expected: Digest,
    /// `None` where only the digest is known.
    size: Option<u64>,
    hash: Option<Hash>,
    seen: u64,
}

impl<R: Read> Verified<R> {
    /// Holds `inner` to its digest, and to its size where that is known.
    pub fn new(inner: R, expected: Digest, size: Option<u64>) -> Self {
        let hash = Some(Hash::like(&expected));
        Self { inner, expected, size, hash, seen: 0 }
    }

    fn wrong(&self, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} {what}; it was damaged or changed", self.expected))
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buffer)?;
        self.seen += n as u64;
        if let Some(size) = self.size.filter(|size| self.seen > *size) {
            return Err(self.wrong(&format!("has more than the {size} bytes that it should have")));
        }
        let Some(hash) = self.hash.as_mut() else { return Ok(n) };
        if n > 0 {
            hash.update(&buffer[..n]);
            return Ok(n);
        }
        if let Some(size) = self.size.filter(|size| self.seen < *size) {
            return Err(self.wrong(&format!("ends after {} of {size} bytes", self.seen)));
        }
        match self.hash.take().map(Hash::finish) {
            Some(actual) if actual != self.expected => Err(self.wrong(&format!("is really {actual}"))),
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], of: &[u8], size: Option<u64>) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        let mut verified = Verified::new(bytes, Digest::of(of), size);
        verified.read_to_end(&mut all).map_err(|error| error.to_string()).map(|_| all)
    }

    #[test]
    fn a_stream_is_held_to_its_digest_and_size() {
        assert_eq!(read(b"abc", b"abc", Some(3)).unwrap(), b"abc");
        assert_eq!(read(b"abc", b"abc", None).unwrap(), b"abc");
        for (bytes, size, expected) in [
            (&b"abd"[..], Some(3), "is really sha256:"),
            (b"abcd", Some(3), "more than the 3 bytes"),
            (b"ab", Some(3), "ends after 2 of 3"),
        ] {
            let error = read(bytes, b"abc", size).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn only_what_can_be_checked_and_cannot_leave_a_directory_is_a_digest() {
        let good = Digest::of(b"");
        assert_eq!(Digest::parse(good.as_str()).unwrap(), good);
        assert!(Digest::parse(&format!("sha512:{}", "0".repeat(128))).unwrap().blob_path().starts_with("blobs/sha512/00"));
        for bad in ["", "sha256:", "sha256:../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", &good.as_str().to_uppercase()] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }
}
