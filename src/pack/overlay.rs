//! Overlay: contents of files that are written rather than copied, laid over the untouched image's.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Result;
use async_trait::async_trait;

use super::layer::{Chunk, Contents};
use crate::image::ImagePath;

/// Gives some files' contents from memory and all others' from the image.
pub struct Overlay<'a> {
    below: &'a mut dyn Contents,
    written: &'a BTreeMap<ImagePath, Vec<u8>>,
    /// What was asked and not yet answered in full; `None` for a file of the image.
    asked: VecDeque<Option<&'a [u8]>>,
    /// The content of the first of them was given, its end not yet.
    ends: bool,
}

impl<'a> Overlay<'a> {
    /// `written` over `below`.
    pub fn new(below: &'a mut dyn Contents, written: &'a BTreeMap<ImagePath, Vec<u8>>) -> Self {
        Self { below, written, asked: VecDeque::new(), ends: false }
    }
}

#[async_trait]
impl Contents for Overlay<'_> {
    async fn request(&mut self, paths: Vec<ImagePath>) -> Result<()> {
        self.asked.extend(paths.iter().map(|path| self.written.get(path).map(Vec::as_slice)));
        let others: Vec<ImagePath> = paths.into_iter().filter(|path| !self.written.contains_key(path)).collect();
        if others.is_empty() {
            return Ok(());
        }
        self.below.request(others).await
    }

    async fn next_chunk(&mut self) -> Result<Chunk> {
        let chunk = match self.asked.front() {
            Some(Some(_)) if self.ends => Chunk::End,
            Some(Some(content)) => Chunk::Data(content.to_vec().into()),
            Some(None) | None => self.below.next_chunk().await?,
        };
        self.ends = chunk != Chunk::End;
        if chunk == Chunk::End {
            self.asked.pop_front();
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file's content is its own path.
    struct Named(VecDeque<Chunk>);

    #[async_trait]
    impl Contents for Named {
        async fn request(&mut self, paths: Vec<ImagePath>) -> Result<()> {
            for path in paths {
                self.0.extend([Chunk::Data(path.as_bytes().to_vec().into()), Chunk::Hole(3), Chunk::End]);
            }
            Ok(())
        }
        async fn next_chunk(&mut self) -> Result<Chunk> {
            self.0.pop_front().ok_or_else(|| anyhow::anyhow!("nothing asked"))
        }
    }

    #[test]
    fn written_files_come_in_the_order_asked_among_the_others() {
        let written = BTreeMap::from([("/b".into(), b"new".to_vec()), ("/c".into(), Vec::new())]);
        let mut below = Named(VecDeque::new());
        let mut overlay = Overlay::new(&mut below, &written);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let chunks = runtime.block_on(async {
            overlay.request(["/a", "/b", "/c", "/d"].map(ImagePath::from).to_vec()).await.unwrap();
            let mut chunks = Vec::new();
            while let Ok(chunk) = overlay.next_chunk().await {
                chunks.push(match chunk {
                    Chunk::Data(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                    Chunk::Hole(count) => format!("hole {count}"),
                    Chunk::End => "end".into(),
                });
            }
            chunks
        });
        assert_eq!(chunks, ["/a", "hole 3", "end", "new", "end", "", "end", "/d", "hole 3", "end"]);
    }
}
