//! Elf: the sections and segments of an ELF object in which compilers leave what it was built from. Everything is
//! bounded: what stands in a header is an image's word.

use std::io::{Read, Seek, SeekFrom};

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, elf};

/// More sections or segments than any object has.
const MAX_HEADERS: usize = 4096;

/// The most that is read of one section or segment, in bytes.
const MAX_SECTION: u64 = 16 << 20;

/// What was built in.
pub(super) struct Sections {
    /// Of `.go.buildinfo`, else the beginning of the first writable segment, where older linkers put the same.
    pub go: Vec<u8>,
    /// Of `.dep-v0`; empty where it has none.
    pub rust: Vec<u8>,
    /// Loaded segments with their addresses, as far as Go's pointers lead there; only read when there is no other way.
    pub segments: Vec<(u64, Vec<u8>)>,
}

/// Finds them. `None` for what is no ELF object, or one with neither.
pub(super) fn sections(file: &mut (impl Read + Seek)) -> Option<Sections> {
    let mut head = [0; 16];
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_exact(&mut head).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let cache = ReadCache::new(file);
    match head[4] {
        1 => parse::<elf::FileHeader32<Endianness>, _>(&cache),
        2 => parse::<elf::FileHeader64<Endianness>, _>(&cache),
        _ => None,
    }
}

fn parse<'data, E, R>(data: R) -> Option<Sections>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = E::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut found = Sections { go: Vec::new(), rust: Vec::new(), segments: Vec::new() };
    if header.shnum(endian, data).ok()? as usize <= MAX_HEADERS
        && let Ok(table) = header.sections(endian, data)
    {
        for section in table.iter().filter(|section| section.sh_type(endian) == elf::SHT_PROGBITS) {
            let name = table.section_name(endian, section).unwrap_or_default();
            let wanted = match name {
                b".go.buildinfo" => &mut found.go,
                b".dep-v0" => &mut found.rust,
                _ => continue,
            };
            let (at, size): (u64, u64) = (section.sh_offset(endian).into(), section.sh_size(endian).into());
            *wanted = bytes(data, at, size);
        }
    }
    let segments = match header.phnum(endian, data) {
        Ok(count) if count as usize <= MAX_HEADERS => header.program_headers(endian, data).unwrap_or(&[]),
        _ => &[],
    };
    let is_loaded = |segment: &&E::ProgramHeader| segment.p_type(endian) == elf::PT_LOAD;
    let place = |segment: &E::ProgramHeader| -> (u64, u64) { (segment.p_offset(endian).into(), segment.p_filesz(endian).into()) };
    if found.go.is_empty()
        && found.rust.is_empty()
        && let Some(first) = segments.iter().filter(is_loaded).find(|segment| is_written(segment.p_flags(endian)))
    {
        // A program of another compiler has its data here: the beginning is enough to know.
        let (at, size) = place(first);
        found.go = bytes(data, at, size.min(1 << 16));
    }
    if super::go::has_pointers(&found.go) {
        for segment in segments.iter().filter(is_loaded).filter(|segment| !is_executable(segment.p_flags(endian))) {
            let (at, size) = place(segment);
            found.segments.push((segment.p_vaddr(endian).into(), bytes(data, at, size)));
        }
    }
    (!found.go.is_empty() || !found.rust.is_empty()).then_some(found)
}

fn is_written(flags: elf::ProgramFlags) -> bool {
    flags.contains(elf::PF_W) && !is_executable(flags)
}

fn is_executable(flags: elf::ProgramFlags) -> bool {
    flags.contains(elf::PF_X)
}

/// At most [`MAX_SECTION`] of them; none where they are not in the file.
fn bytes<'data, R: ReadRef<'data>>(data: R, at: u64, size: u64) -> Vec<u8> {
    data.read_bytes_at(at, size.min(MAX_SECTION)).map(<[u8]>::to_vec).unwrap_or_default()
}
