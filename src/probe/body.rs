//! Body: the bytes of an answer. All of them are hashed; only so many are held.

use sha2::{Digest, Sha256};

use super::{Body, MAX_BODY};

/// Takes bytes as they come and becomes a [`Body`]. Memory stays within [`MAX_BODY`].
#[derive(Clone, Default)]
pub struct Collector {
    hash: Sha256,
    length: u64,
    held: Option<Vec<u8>>,
    overflowed: bool,
}

impl Collector {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        if self.length > MAX_BODY as u64 {
            self.overflowed = true;
            self.held = None;
        } else if !self.overflowed {
            self.held.get_or_insert_default().extend_from_slice(bytes);
        }
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// All that came.
    pub fn finish(self) -> Body {
        let bytes = (!self.overflowed).then(|| self.held.unwrap_or_default());
        Body { length: self.length, sha256: hex(&self.hash.finalize()), bytes }
    }
}

impl Body {
    /// A body of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut collector = Collector::default();
        collector.push(bytes);
        collector.finish()
    }

    /// Whether it contains this text. `None` when it is too long to be held.
    pub fn contains(&self, text: &str) -> Option<bool> {
        let bytes = self.bytes.as_ref()?;
        let found = text.is_empty() || bytes.windows(text.len()).any(|window| window == text.as_bytes());
        Some(found)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_keeps_its_hash_and_drops_its_bytes() {
        let long = vec![b'x'; MAX_BODY + 1];
        assert_eq!(Body::of(&long).bytes, None);
        assert_eq!(Body::of(&long).length, MAX_BODY as u64 + 1);
        assert_eq!(Body::of(&long[1..]).bytes.unwrap().len(), MAX_BODY);
    }

    #[test]
    fn an_empty_body_is_held() {
        let body = Body::of(b"");
        assert_eq!(body.bytes.as_deref(), Some(&b""[..]));
        assert!(body.sha256.starts_with("e3b0c442"));
    }

    #[test]
    fn text_is_found_in_a_body() {
        let body = Body::of(b"Welcome to nginx!");
        assert_eq!(body.contains("nginx"), Some(true));
        assert_eq!(body.contains("apache"), Some(false));
    }
}
