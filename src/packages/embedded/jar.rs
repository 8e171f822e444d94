//! Jar: Maven's artifacts in an archive of Java, and in the archives in it (`META-INF/maven/*/*/pom.properties`; the
//! main section of a manifest, "JAR File Specification"). Of ZIP (APPNOTE.TXT) what is needed for that: the list of
//! files at its end, stored and deflated files, no ZIP64.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom};

use super::{Found, Language};
use crate::image::ImagePath;

/// Archives in archives in archives.
const MAX_DEPTH: u32 = 3;

/// Bytes that are unpacked of all archives in one file together.
const MAX_UNPACKED: u64 = 256 << 20;

/// Bytes of a text in an archive, and of a list of files.
const MAX_TEXT: u64 = 1 << 20;
const MAX_LIST: usize = 64 << 20;

/// The record at the end is this long, with a comment of at most 65535 bytes behind it.
const END: usize = 22;
const END_MAGIC: &[u8] = b"PK\x05\x06";
const ENTRY_MAGIC: &[u8] = b"PK\x01\x02";
const FILE_MAGIC: &[u8] = b"PK\x03\x04";

/// The artifacts in a jar.
pub(super) fn read(path: &ImagePath, file: &mut (impl Read + Seek)) -> Vec<Found> {
    let name = String::from_utf8_lossy(path.file_name().unwrap_or_default()).into_owned();
    let mut room = MAX_UNPACKED;
    artifacts(&name, file, MAX_DEPTH, &mut room)
}

fn artifacts<F: Read + Seek>(name: &str, file: &mut F, depth: u32, room: &mut u64) -> Vec<Found> {
    let Some(entries) = entries(file) else { return Vec::new() };
    let mut found = Vec::new();
    let mut manifest = BTreeMap::new();
    for entry in &entries {
        let last = entry.name.rsplit('/').next().unwrap_or_default();
        match last {
            "pom.properties" => {
                let pairs = content(file, entry, MAX_TEXT, room).map(|text| pairs(&text, '=')).unwrap_or_default();
                if let [Some(group), Some(artifact), Some(version)] = ["groupId", "artifactId", "version"].map(|key| pairs.get(key)) {
                    found.push(Found::new(Language::Java, format!("{group}:{artifact}"), version));
                }
            }
            "MANIFEST.MF" if entry.name == "META-INF/MANIFEST.MF" => {
                manifest = content(file, entry, MAX_TEXT, room).map(|text| pairs(&text, ':')).unwrap_or_default();
            }
            _ if is_archive(last) && depth > 1 => {
                let bytes = content(file, entry, *room, room).unwrap_or_default();
                found.extend(artifacts(last, &mut Cursor::new(bytes), depth - 1, room));
            }
            _ => {}
        }
    }
    found.extend(by_name(name, &manifest).filter(|own| !found.iter().any(|known| is_same(known, own))));
    found
}

fn is_archive(name: &str) -> bool {
    [".jar", ".war", ".ear", ".par"].iter().any(|end| name.to_ascii_lowercase().ends_with(end))
}

/// Whether an artifact with a group is the one that a file's name tells of.
fn is_same(known: &Found, own: &Found) -> bool {
    known.name.rsplit(':').next() == Some(&own.name) && (known.version == own.version || own.version.is_empty())
}

/// What a file is by its name `ARTIFACT-VERSION.jar`, or by its name and the version in its manifest. No group: what
/// manifests say of it is a vendor's name more often than a group.
fn by_name(name: &str, manifest: &BTreeMap<String, String>) -> Option<Found> {
    let stem = name.rsplit_once('.')?.0;
    let starts = stem.match_indices('-').map(|(at, _)| at).find(|at| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    if let Some(at) = starts {
        return Some(Found::new(Language::Java, &stem[..at], &stem[at + 1..]));
    }
    let version = ["Implementation-Version", "Bundle-Version"].iter().find_map(|key| manifest.get(*key))?;
    Some(Found::new(Language::Java, stem, version))
}

/// Lines `KEY=value` or `KEY: value` up to an empty one, a line that begins with a blank going on with the one before.
fn pairs(text: &[u8], between: char) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n").replace("\n ", "");
    let lines = text.lines().take_while(|line| between == '=' || !line.trim().is_empty());
    let split = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(between));
    split.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).filter(|(_, value)| !value.is_empty()).collect()
}

/// A file of an archive.
struct Entry {
    name: String,
    deflated: bool,
    packed: u64,
    /// Where its own head stands.
    at: u64,
}

/// The list of files; `None` for what is no archive.
fn entries(file: &mut (impl Read + Seek)) -> Option<Vec<Entry>> {
    let length = file.seek(SeekFrom::End(0)).ok()?;
    let tail_at = length.saturating_sub((END + 0xffff) as u64);
    let tail = bytes(file, tail_at, usize::try_from(length - tail_at).ok()?)?;
    let end = (0..=tail.len().checked_sub(END)?).rev().find(|at| tail[*at..].starts_with(END_MAGIC))?;
    let (size, start) = (number(&tail[end + 12..end + 16]), number(&tail[end + 16..end + 20]));
    if size as usize > MAX_LIST {
        return None;
    }
    // A program may stand in front of the archive, which does not count it.
    let list_at = (tail_at + end as u64).checked_sub(size)?;
    let before = list_at.checked_sub(start)?;
    let list = bytes(file, list_at, size as usize)?;
    let mut rest = &list[..];
    let mut found = Vec::new();
    while rest.starts_with(ENTRY_MAGIC) && rest.len() >= 46 {
        let [name, extra, comment] = [28, 30, 32].map(|at| number(&rest[at..at + 2]) as usize);
        let Some(text) = rest.get(46..46 + name) else { break };
        let method = number(&rest[10..12]);
        if method == 0 || method == 8 {
            found.push(Entry {
                name: String::from_utf8_lossy(text).into_owned(),
                deflated: method == 8,
                packed: number(&rest[20..24]),
                at: before + number(&rest[42..46]),
            });
        }
        rest = rest.get(46 + name + extra + comment..).unwrap_or_default();
    }
    Some(found)
}

/// A file's content, at most `most` bytes of it and what there is room for; `None` where it is longer, or is not there.
fn content(file: &mut (impl Read + Seek), entry: &Entry, most: u64, room: &mut u64) -> Option<Vec<u8>> {
    let head = bytes(file, entry.at, 30)?;
    let most = most.min(*room);
    if !head.starts_with(FILE_MAGIC) || entry.packed > most {
        return None;
    }
    let skipped = 30 + number(&head[26..28]) + number(&head[28..30]);
    file.seek(SeekFrom::Start(entry.at + skipped)).ok()?;
    let packed = file.take(entry.packed);
    let mut unpacked = Vec::new();
    match entry.deflated {
        true => flate2::read::DeflateDecoder::new(packed).take(most + 1).read_to_end(&mut unpacked).ok()?,
        false => { packed }.read_to_end(&mut unpacked).ok()?,
    };
    *room = room.saturating_sub(unpacked.len() as u64);
    (unpacked.len() as u64 <= most).then_some(unpacked)
}

fn bytes(file: &mut (impl Read + Seek), at: u64, length: usize) -> Option<Vec<u8>> {
    file.seek(SeekFrom::Start(at)).ok()?;
    let mut found = Vec::new();
    file.take(length as u64).read_to_end(&mut found).ok()?;
    (found.len() == length).then_some(found)
}

/// Little endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An archive; a name that ends in `.jar` is stored, everything else deflated.
    fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut archive, mut list) = (Vec::new(), Vec::new());
        for (name, content) in files {
            let stored = name.ends_with(".jar");
            let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            packer.write_all(content).unwrap();
            let packed = if stored { content.to_vec() } else { packer.finish().unwrap() };
            let method: u16 = if stored { 0 } else { 8 };
            let at = archive.len() as u32;
            archive.extend(FILE_MAGIC);
            archive.extend([20, 0, 0, 0]);
            archive.extend(method.to_le_bytes());
            archive.extend([0; 8]);
            archive.extend((packed.len() as u32).to_le_bytes());
            archive.extend((content.len() as u32).to_le_bytes());
            archive.extend((name.len() as u16).to_le_bytes());
            archive.extend([0; 2]);
            archive.extend(name.bytes());
            archive.extend(&packed);
            list.extend(ENTRY_MAGIC);
            list.extend([0; 6]);
            list.extend(method.to_le_bytes());
            list.extend([0; 8]);
            list.extend((packed.len() as u32).to_le_bytes());
            list.extend((content.len() as u32).to_le_bytes());
            list.extend((name.len() as u16).to_le_bytes());
            list.extend([0; 12]);
            list.extend(at.to_le_bytes());
            list.extend(name.bytes());
        }
        let at = archive.len() as u32;
        archive.extend(&list);
        archive.extend(END_MAGIC);
        archive.extend([0; 8]);
        archive.extend((list.len() as u32).to_le_bytes());
        archive.extend(at.to_le_bytes());
        archive.extend([0; 2]);
        archive
    }

    fn names(path: &str, archive: &[u8]) -> Vec<String> {
        read(&path.into(), &mut Cursor::new(archive)).iter().map(|one| format!("{}@{}", one.name, one.version)).collect()
    }

    #[test]
    fn artifacts_of_a_jar_and_of_the_jars_in_it_are_told() {
        let pom = b"#made\nversion=1.2\r\ngroupId=org.x\nartifactId=y\n";
        let inner = zip(&[("META-INF/maven/org.x/y/pom.properties", pom)]);
        let plain = zip(&[("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\nBundle-Version: 4.\n 5\n\nName: x\n")]);
        let outer = zip(&[("BOOT-INF/lib/y-1.2.jar", &inner), ("lib/guava-33.0.jar", &plain), ("lib/z.jar", &plain)]);
        assert_eq!(names("/app/app.jar", &outer), ["org.x:y@1.2", "guava@33.0", "z@4.5"]);
        // As Spring Boot makes executable ones.
        assert_eq!(names("/app/app.jar", &[&b"#!/bin/sh\n"[..], &outer].concat()).len(), 3);
        assert_eq!(names("/app/app-2.0.jar", &zip(&[])), ["app@2.0"]);
    }

    #[test]
    fn hostile_archives_do_no_harm() {
        let bomb = zip(&[("META-INF/maven/a/b/pom.properties", &vec![b'a'; 32 << 20][..])]);
        assert_eq!(names("/a.jar", &bomb), [] as [&str; 0]);
        let inner = zip(&[("META-INF/maven/org.x/y/pom.properties", b"groupId=a\nartifactId=b\nversion=1\n")]);
        let mut nested = inner.clone();
        for _ in 0..8 {
            nested = zip(&[("a.jar", &nested[..])]);
        }
        assert_eq!(names("/a.jar", &nested), [] as [&str; 0]);
        for at in 0..inner.len() {
            for byte in [0, 1, 0x80, 0xff] {
                let mut bad = inner.clone();
                bad[at] = byte;
                let _ = names("/a.jar", &bad);
            }
            let _ = names("/a.jar", &inner[..at]);
        }
    }
}
