//! Facts of a file: what its first bytes, and the dynamic section of an ELF object, say about the other files
//! it cannot do without. The file is read as the loader reads it, by program headers, and only where needed;
//! it may be hostile.

use std::io::{Read, Seek, SeekFrom};

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, NoteIterator, ProgramHeader};
use object::read::{ReadCache, ReadRef, StringTable};

use super::{Elf, FileFacts};

/// The kernel reads this much of a file to find out how to run it (BINPRM_BUF_SIZE, binfmt_script(5)).
const HEAD: u64 = 256;
/// Limits that no sound object comes near: program headers, bytes of a segment that is read, names in a list.
const MAX_HEADERS: u32 = 4096;
const MAX_SEGMENT: u64 = 1 << 20;
const MAX_NAMES: usize = 4096;
/// `.note.dlopen`: owner "FDO", type 0x407c0c0a, a JSON array (systemd's "ELF dlopen metadata").
const DLOPEN_NOTE: u32 = 0x407c_0c0a;

/// Reads ELF and shebang facts. Whatever cannot be understood is left out: the kernel would refuse it too.
pub fn facts(file: &mut (impl Read + Seek)) -> FileFacts {
    let mut head = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.by_ref().take(HEAD).read_to_end(&mut head));
    let mut facts = FileFacts::default();
    if read.is_err() {
        return facts;
    }
    if head.starts_with(b"#!") {
        facts.shebang = shebang(&head);
    } else if head.starts_with(b"\x7fELF") {
        let cache = ReadCache::new(file);
        facts.elf = match head.get(4) {
            Some(1) => parse::<FileHeader32<Endianness>, _>(&cache, 32),
            Some(2) => parse::<FileHeader64<Endianness>, _>(&cache, 64),
            _ => None,
        };
    }
    facts
}

/// The words after `#!`, as the kernel splits them: the interpreter and at most one argument, which may hold
/// blanks. `None` where it would answer ENOEXEC.
fn shebang(head: &[u8]) -> Option<Vec<String>> {
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let line = head.get(2..)?;
    let whole = line.iter().position(|b| *b == b'\n' || *b == 0);
    let line = &line[..whole.unwrap_or(line.len())];
    let start = line.iter().position(|b| !blank(b))?;
    let end = line.iter().rposition(|b| !blank(b))? + 1;
    let line = &line[start..end];
    let cut = line.iter().position(blank);
    if cut.is_none() && whole.is_none() && head.len() as u64 == HEAD {
        return None; // the interpreter's name was cut off
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(cut) = cut else { return Some(vec![text(line)]) };
    let argument = line[cut..].iter().position(|b| !blank(b)).map(|at| &line[cut + at..]);
    Some([Some(&line[..cut]), argument].into_iter().flatten().map(text).collect())
}

/// `None` for what is no ELF object of this class.
fn parse<'data, E, R>(data: R, class: u8) -> Option<Elf>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = E::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut facts = Elf { class, machine: header.e_machine(endian).0, ..Elf::default() };
    if header.phnum(endian, data).ok()? > MAX_HEADERS {
        return Some(facts);
    }
    let segments = header.program_headers(endian, data).unwrap_or(&[]);
    for segment in segments {
        let size: u64 = segment.p_filesz(endian).into();
        if size > MAX_SEGMENT {
            continue;
        }
        match segment.p_type(endian) {
            elf::PT_INTERP => {
                let name = segment.data(endian, data).ok().and_then(|bytes| bytes.split(|b| *b == 0).next());
                facts.interpreter = name.map(text);
            }
            elf::PT_DYNAMIC => {
                if let Ok(Some(entries)) = segment.dynamic(endian, data) {
                    dynamic::<E, R>(&mut facts, endian, data, segments, entries);
                }
            }
            elf::PT_NOTE => {
                if let Ok(Some(notes)) = segment.notes(endian, data) {
                    facts.dlopen.extend(dlopen_names::<E>(endian, notes));
                }
            }
            _ => {}
        }
    }
    Some(facts)
}

/// Takes what ld.so(8) acts on from the dynamic section.
fn dynamic<'data, E, R>(
    facts: &mut Elf,
    endian: Endianness,
    data: R,
    segments: &'data [E::ProgramHeader],
    entries: &'data [E::Dyn],
) where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let sound: Vec<(elf::DynamicTag, u64)> = entries
        .iter()
        .map(|entry| (entry.d_tag(endian), entry.d_val(endian).into()))
        .take_while(|(tag, _)| *tag != elf::DT_NULL)
        .collect();
    let value = |wanted| sound.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
    let Some(start) = value(elf::DT_STRTAB).and_then(|at| offset::<E>(endian, segments, at)) else { return };
    let end = start.saturating_add(value(elf::DT_STRSZ).unwrap_or(u64::MAX)).min(data.len().unwrap_or(0));
    if start >= end {
        return;
    }
    let strings = StringTable::new(data, start, end);
    for (tag, value) in sound.into_iter().take(MAX_NAMES) {
        let Some(name) = u32::try_from(value).ok().and_then(|at| strings.get(at).ok()) else { continue };
        match tag {
            elf::DT_NEEDED => facts.needed.push(text(name)),
            elf::DT_SONAME => facts.soname = Some(text(name)),
            elf::DT_RPATH => facts.rpath = text(name).split(':').map(str::to_owned).collect(),
            elf::DT_RUNPATH => facts.runpath = text(name).split(':').map(str::to_owned).collect(),
            _ => {}
        }
    }
}

/// Where in the file the loader would find an address.
fn offset<E: FileHeader<Endian = Endianness>>(
    endian: Endianness,
    segments: &[E::ProgramHeader],
    address: u64,
) -> Option<u64> {
    let loads = segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD);
    loads
        .map(|segment| -> (u64, u64, u64) {
            let sizes = segment.p_filesz(endian).into();
            (segment.p_vaddr(endian).into(), sizes, segment.p_offset(endian).into())
        })
        .find(|(start, size, _)| address >= *start && address - start < *size)
        .and_then(|(start, _, at)| at.checked_add(address - start))
}

/// Libraries that the notes say the object may open by dlopen(3); those merely "suggested" are left out.
fn dlopen_names<E: FileHeader<Endian = Endianness>>(endian: Endianness, mut notes: NoteIterator<'_, E>) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Feature {
        #[serde(default)]
        soname: Vec<String>,
        #[serde(default)]
        priority: String,
    }
    let mut names = Vec::new();
    while let Ok(Some(note)) = notes.next() {
        if note.n_type(endian).0 != DLOPEN_NOTE || note.name() != b"FDO" {
            continue;
        }
        let json = note.desc().split(|b| *b == 0).next().unwrap_or_default();
        let features: Vec<Feature> = serde_json::from_slice(json).unwrap_or_default();
        let wanted = features.into_iter().filter(|feature| feature.priority != "suggested");
        names.extend(wanted.flat_map(|feature| feature.soname));
        names.truncate(MAX_NAMES);
    }
    names
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_shebang_is_split_as_the_kernel_does() {
        let long = format!("#!/bin/{}", "x".repeat(300));
        for (head, words) in [
            ("#!/bin/sh\n", Some(vec!["/bin/sh"])),
            ("#! /bin/sh -e -u \necho", Some(vec!["/bin/sh", "-e -u"])),
            ("#!\t/usr/bin/env\tpython3", Some(vec!["/usr/bin/env", "python3"])),
            ("#!/bin/sh\r\n", Some(vec!["/bin/sh\r"])),
            ("#!\n/bin/sh\n", None),
            ("#!", None),
            (&long, None),
        ] {
            let facts = facts(&mut Cursor::new(head));
            let words = words.map(|w| w.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(facts.shebang, words, "{head:?}");
        }
    }

    #[test]
    fn this_very_test_is_an_elf_object() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let found = facts(&mut Cursor::new(&own)).elf.unwrap();
        assert_eq!(found.class, 64);
        assert_ne!(found.machine, 0);
    }

    #[test]
    fn hostile_objects_do_no_harm() {
        let own = std::fs::read("/bin/sh").unwrap();
        let head = own[..own.len().min(4096)].to_vec();
        // Every header byte turned over, alone and in every truncation that could matter.
        for at in 0..1024.min(head.len()) {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = own.clone();
                bad[at] ^= flip;
                let _ = facts(&mut Cursor::new(&bad));
            }
            let _ = facts(&mut Cursor::new(&head[..at]));
        }
    }
}
