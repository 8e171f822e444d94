//! Layers of a size that no fixture has, read by GNU tar: a file of more than 8 GiB, and 100,000 files.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::process::Command;

use anyhow::Result;
use async_trait::async_trait;
use slim::image::{Entry, ImagePath, Kind, Tree};
use slim::pack::layer::{self, Chunk, Contents};
use slim::pack::sparse::Sparse;

/// Every file is one hole.
struct Holes {
    size: u64,
    ends: bool,
}

#[async_trait]
impl Contents for Holes {
    async fn request(&mut self, _paths: Vec<ImagePath>) -> Result<()> {
        Ok(())
    }

    async fn next_chunk(&mut self) -> Result<Chunk> {
        self.ends = !self.ends;
        Ok(if self.ends { Chunk::Hole(self.size) } else { Chunk::End })
    }
}

/// What GNU tar lists of a layer with these files, each a hole of so many bytes.
fn listed(paths: impl Iterator<Item = String>, size: u64) -> String {
    let mut tree = Tree::new();
    for path in paths {
        let mut entry = Entry::new(Kind::File);
        entry.size = size;
        tree.insert(ImagePath::from(path.as_str()), entry);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = Sparse(file.reopen().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut holes = Holes { size, ends: false };
    let info = runtime.block_on(layer::write(&tree, tree.iter().map(|(path, _)| path), &mut holes, &mut out)).unwrap();
    out.flush().unwrap();
    assert_eq!(info.content_bytes, size * tree.len() as u64);
    assert_eq!(out.0.metadata().unwrap().len(), info.tar_bytes);
    let tar = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(file.path()).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    String::from_utf8(tar.stdout).unwrap()
}

#[test]
#[ignore = "takes the checksum of 8 GiB"]
fn a_file_of_more_than_8_gib_has_its_size() {
    let size = (8 << 30) + 12345;
    let list = listed(["/disk.img".to_owned()].into_iter(), size);
    assert_eq!(list, format!("-rw-r--r-- 0/0      {size} 1970-01-01 00:00 disk.img\n"));
}

#[test]
fn a_hundred_thousand_files_are_all_there() {
    let list = listed((0..100_000).map(|n| format!("/d/{}/{n}", n % 100)), 0);
    assert_eq!(list.lines().count(), 100_000);
}
