//! Rust: the crates that a program was built from, as cargo-auditable leaves them: JSON in zlib, in the section `.dep-v0`
//! (its PARSING.md).

use std::io::Read;

use serde::Deserialize;

use super::elf::Sections;
use super::{Found, Language};

/// More is not unpacked, in bytes: a workspace of 1000 crates has 100 kB.
const MAX: u64 = 8 << 20;

#[derive(Deserialize)]
struct Audit {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    /// `runtime` where nothing is said.
    #[serde(default)]
    kind: Option<String>,
}

/// The crates whose code is in the program: not those that only built it.
pub(super) fn read(sections: &Sections) -> Vec<Found> {
    let mut json = Vec::new();
    let read = flate2::read::ZlibDecoder::new(&sections.rust[..]).take(MAX).read_to_end(&mut json);
    let audit: Option<Audit> = read.ok().and_then(|_| serde_json::from_slice(&json).ok());
    let packages = audit.map(|audit| audit.packages).unwrap_or_default().into_iter();
    let runs = packages.filter(|one| one.kind.as_deref().is_none_or(|kind| kind == "runtime"));
    runs.map(|one| Found::new(Language::Rust, one.name, one.version)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(json: &[u8]) -> Sections {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(json).unwrap();
        Sections { go: Vec::new(), rust: packer.finish().unwrap(), segments: Vec::new() }
    }

    #[test]
    fn crates_that_only_build_are_not_in_the_program() {
        let json = br#"{"packages":[{"name":"a","version":"1.0.0","source":"crates.io","root":true},
            {"name":"cc","version":"2.0.0","kind":"build"},{"name":"b","version":"3.0.0","kind":"runtime","dependencies":[0]}]}"#;
        let found = read(&packed(json));
        assert_eq!(found, [Found::new(Language::Rust, "a", "1.0.0"), Found::new(Language::Rust, "b", "3.0.0")]);
    }

    #[test]
    fn what_unpacks_to_more_than_is_believed_holds_nothing() {
        let bomb = packed(&vec![b' '; 64 << 20]);
        assert!(bomb.rust.len() < 1 << 17);
        assert_eq!(read(&bomb), []);
        assert_eq!(read(&Sections { rust: b"no zlib".to_vec(), ..packed(b"") }), []);
    }
}
