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

/// The most that is read of all segments: headers may name the same bytes thousands of times.
const MAX_SEGMENTS: usize = 64 << 20;

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
            // The first of a name: a header may say it as often as it likes.
            if !wanted.is_empty() {
                continue;
            }
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
        let mut room = MAX_SEGMENTS;
        for segment in segments.iter().filter(is_loaded).filter(|segment| !is_executable(segment.p_flags(endian))) {
            let (at, size) = place(segment);
            let part = bytes(data, at, size.min(room as u64));
            room -= part.len().min(room);
            found.segments.push((segment.p_vaddr(endian).into(), part));
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A little endian ELF64 object whose segments all are the same bytes, in which Go's head has pointers.
    fn repeated(segments: u16, length: usize) -> Vec<u8> {
        let (head, size) = (64, 56);
        let at = head + size * usize::from(segments);
        let mut object = vec![0_u8; at];
        object[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        object[16..20].copy_from_slice(&[2, 0, 62, 0]);
        object[20] = 1;
        object[32] = head as u8;
        object[52] = head as u8;
        object[54] = size as u8;
        object[56..58].copy_from_slice(&segments.to_le_bytes());
        for n in 0..usize::from(segments) {
            let one = &mut object[head + n * size..][..size];
            one[0] = 1;
            one[4] = 6;
            // Each of another length, so that nobody takes it for one that was read already.
            one[8..16].copy_from_slice(&(at as u64).to_le_bytes());
            one[32..40].copy_from_slice(&((length - n) as u64).to_le_bytes());
        }
        object.extend(b"\xff Go buildinf:\x08\x00");
        object.resize(at + length, 0);
        object
    }

    #[test]
    fn segments_that_are_the_same_bytes_are_not_read_without_end() {
        let found = sections(&mut Cursor::new(repeated(1000, 1 << 20))).unwrap();
        assert_eq!(found.segments.len(), 1000);
        assert_eq!(found.segments.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), MAX_SEGMENTS);
    }
}
