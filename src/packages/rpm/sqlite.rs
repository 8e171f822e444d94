//! The blobs of one table of a SQLite database that is in memory ("Database File Format" of SQLite's own
//! documentation). Tables only, no index, no write-ahead log; each page and each byte is read at most once, so
//! that a database which points at itself comes to an end.

use std::collections::BTreeSet;

/// How deep a b-tree of pages can be; real ones have three levels.
const MAX_DEPTH: usize = 16;

/// The blobs in the second column of a table, by row. What is damaged is left out, and `Err` says what it was:
/// the blobs before it come with it.
pub(super) fn blobs(file: &[u8], table: &str) -> (Vec<Vec<u8>>, Option<&'static str>) {
    let Some(mut pages) = Pages::new(file) else { return (Vec::new(), Some("it is no SQLite database")) };
    let mut root = None;
    let mut damage = pages.rows(1, 0, &mut |record| {
        let values = values(record);
        // sqlite_schema: type, name, tbl_name, rootpage, sql.
        if let [kind, name, _, page, ..] = values.as_slice()
            && *kind == b"table"
            && *name == table.as_bytes()
        {
            root = Some(number(page));
        }
    });
    let Some(root) = root else { return (Vec::new(), damage.or(Some("it has no table of packages"))) };
    let mut found = Vec::new();
    damage = pages.rows(root, 0, &mut |record| {
        if let [_, blob, ..] = values(record).as_slice() {
            found.push(blob.to_vec());
        }
    });
    (found, damage)
}

struct Pages<'a> {
    file: &'a [u8],
    size: usize,
    /// Bytes of a page that SQLite uses itself.
    usable: usize,
    seen: BTreeSet<u64>,
}

impl<'a> Pages<'a> {
    fn new(file: &'a [u8]) -> Option<Self> {
        let head = file.first_chunk::<100>()?;
        let size = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65536,
            size => usize::from(size),
        };
        let usable = size.checked_sub(usize::from(head[20]))?;
        let sane = head.starts_with(b"SQLite format 3\0") && size.is_power_of_two() && size >= 512 && usable >= 480;
        sane.then_some(Self { file, size, usable, seen: BTreeSet::new() })
    }

    /// A page that was not read before.
    fn take(&mut self, number: u64) -> Option<&'a [u8]> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?.checked_mul(self.size)?;
        let page = self.file.get(at..at.checked_add(self.size)?)?;
        self.seen.insert(number).then_some(page)
    }

    /// Calls `with` with each record below a page of a table's b-tree; `Some` says what was damaged.
    fn rows(&mut self, number: u64, depth: usize, with: &mut dyn FnMut(&[u8])) -> Option<&'static str> {
        let Some(page) = self.take(number).filter(|_| depth < MAX_DEPTH) else {
            return Some("a page of it is missing, or in two places");
        };
        // The first page has the file's header before its own.
        let head = &page[if number == 1 { 100 } else { 0 }..];
        let (leaf, pointers) = match head[0] {
            13 => (true, &head[8..]),
            5 => (false, &head[12..]),
            _ => return Some("a page of it is no page of a table"),
        };
        let count = usize::from(u16::from_be_bytes([head[3], head[4]]));
        let mut damage = None;
        for pointer in pointers.chunks_exact(2).take(count) {
            let cell = page.get(usize::from(u16::from_be_bytes([pointer[0], pointer[1]]))..).unwrap_or_default();
            let of_cell = match (leaf, cell.first_chunk::<4>()) {
                (true, _) => self.record(cell).map(|record| with(&record)).map_or(Some("a row of it is damaged"), |()| None),
                (false, Some(child)) => self.rows(u64::from(u32::from_be_bytes(*child)), depth + 1, with),
                (false, None) => Some("a page of it is damaged"),
            };
            damage = damage.or(of_cell);
        }
        if !leaf {
            let last = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
            damage = damage.or(self.rows(u64::from(last), depth + 1, with));
        }
        damage
    }

    /// A row's record, with what of it lies in overflow pages.
    fn record(&mut self, cell: &[u8]) -> Option<Vec<u8>> {
        let (length, rest) = varint(cell)?;
        let (_row, rest) = varint(rest)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= self.file.len())?;
        let max_here = self.usable - 35;
        if length <= max_here {
            return Some(rest.get(..length)?.to_vec());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = least + (length - least) % (self.usable - 4);
        let here = if here <= max_here { here } else { least };
        let mut record = rest.get(..here)?.to_vec();
        let mut next = u32::from_be_bytes(*rest.get(here..)?.first_chunk()?);
        while record.len() < length {
            let page = self.take(u64::from(next))?;
            next = u32::from_be_bytes(*page.first_chunk()?);
            let more = (length - record.len()).min(self.usable - 4);
            record.extend_from_slice(page.get(4..4 + more)?);
        }
        Some(record)
    }
}

/// A number of one to nine bytes, seven bits each but for the ninth, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Some(((value << 8) | u64::from(*byte), &bytes[9..]));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

/// A record's values as stored, as far as they are there; none for a damaged one.
fn values(record: &[u8]) -> Vec<&[u8]> {
    let read = || {
        let (head_length, _) = varint(record)?;
        let (head, mut body) = record.split_at_checked(usize::try_from(head_length).ok()?)?;
        let (_, mut head) = varint(head)?;
        let mut values = Vec::new();
        // No table here has more columns.
        while !head.is_empty() && values.len() < 8 {
            let (kind, rest) = varint(head)?;
            head = rest;
            let length = match kind {
                0 | 8 | 9 => 0,
                1..=4 => kind,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return None,
                _ => (kind - 12) / 2,
            };
            let (value, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
            (body, _) = (rest, values.push(value));
        }
        Some(values)
    };
    read().unwrap_or_default()
}

/// A big-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |value, byte| (value << 8) | u64::from(*byte))
}
