//! Whatever is read from an image is read without panic, hang or harm: seeds of fixtures/hostile, damaged in ways
//! that a fixed sequence of numbers chooses, so that a failure comes back.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use slim::store::compress;
use slim::store::digest::Digest;
use slim::store::image::Image;
use slim::store::manifest::Document;
use slim::store::merge::Merge;
use slim::store::place::{Place, TarFile};
use slim::store::unpack::{Form, unpack};
use slim::store::{Access, Source, Transport};

/// A linear congruential generator (Knuth's MMIX numbers): the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }

    /// The seed with one to four of: a byte changed, a piece cut out, doubled, moved, zeroed, or the end cut off.
    fn damage(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(64)).min(bytes.len());
            match self.below(8) {
                0..=2 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                3 if !bytes.is_empty() => bytes[at] = b"0/.-9\"}]\0\xff"[self.below(10)],
                4 => drop(bytes.drain(at..end)),
                5 => {
                    let piece = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                6 => bytes[at..end].fill(0),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

fn seed(name: &str) -> Vec<u8> {
    std::fs::read(Path::new("fixtures/hostile").join(name)).unwrap()
}

/// Reads the seed, which has to work, and damaged ones, which may fail but not panic.
fn smoke(name: &str, rounds: u64, read: impl Fn(&[u8]) -> anyhow::Result<()>) {
    let whole = seed(name);
    read(&whole).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let mut refused = 0;
    for round in 0..rounds {
        let bytes = Numbers(round).damage(&whole);
        match catch_unwind(AssertUnwindSafe(|| read(&bytes))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let text = format!("{error:#}");
                assert!(!text.contains('\u{1b}') && text.len() < 20_000, "{name} round {round}: {text}");
                refused += 1;
            }
            Err(_) => panic!("{name}: round {round} panics"),
        }
    }
    // A check that takes everything is none.
    assert!(refused > rounds / 10, "{name}: only {refused} of {rounds} were refused");
}

#[test]
fn damaged_manifests_and_configs_are_refused() {
    smoke("manifest.json", 3000, |bytes| Document::parse(bytes).map(drop));
    smoke("index.json", 3000, |bytes| Document::parse(bytes).map(drop));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("layer"), seed("layer.tar")).unwrap();
    let place = Place::Dir(dir.path().to_owned());
    smoke("config.json", 3000, |bytes| Image::of_files(bytes.to_vec(), &["layer".into()], place.clone()).map(drop));
}

#[test]
fn damaged_layers_are_refused() {
    smoke("layer.tar", 3000, |bytes| Merge::new().layer(bytes));
    for name in ["layer.tar.gz", "layer.tar.zst"] {
        let plain = seed("layer.tar");
        smoke(name, 2000, |bytes| {
            let (_, mut reader) = compress::plain(Box::new(Cursor::new(bytes.to_vec())))?;
            let mut read = Vec::new();
            reader.by_ref().take(1 << 24).read_to_end(&mut read)?;
            anyhow::ensure!(read == plain, "another layer");
            Ok(())
        });
    }
}

#[test]
fn damaged_layers_are_unpacked_inside_of_their_directory() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("outside"), "untouched").unwrap();
    smoke("layer.tar", 400, |bytes| {
        let dir = tempfile::Builder::new().prefix("layer").tempdir_in(place.path())?;
        let result = unpack(bytes, dir.path(), Form::User);
        // What was made may be locked.
        let _ = std::process::Command::new("chmod").arg("-R").arg("u+rwx").arg(dir.path()).output();
        result
    });
    let names: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["outside"]);
    assert_eq!(std::fs::read_to_string(place.path().join("outside")).unwrap(), "untouched");
}

#[test]
fn damaged_archives_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let access = Access::anonymous(std::sync::Arc::new(slim::progress::Void));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image.tar");
    for transport in [Transport::OciArchive(file.clone(), None), Transport::DockerArchive(file.clone(), None)] {
        smoke("image.tar", 1000, |bytes| {
            std::fs::write(&file, bytes)?;
            let image = runtime.block_on(async { Source::open(&transport, &access).await?.image(None).await })?;
            let tree = image.tree()?;
            anyhow::ensure!(Digest::of(&image.config) == image.id() && tree.len() > 5);
            Ok(())
        });
    }
    assert!(TarFile::open_path(&dir.path().join("absent.tar")).is_err());
}
