//! An rpm header as databases hold it (rpm, `docs/manual/format_header.md`): two big-endian counts, an index of
//! tag, type, offset and count, and the data.

/// Tags that are read (rpm, `include/rpm/rpmtag.h`).
pub(super) mod tag {
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    pub const ARCH: u32 = 1022;
    pub const OLD_FILE_NAMES: u32 = 1027;
    pub const FILE_STATES: u32 = 1029;
    pub const FILE_MODES: u32 = 1030;
    pub const SOURCE_RPM: u32 = 1044;
    pub const PROVIDE_NAME: u32 = 1047;
    pub const REQUIRE_NAME: u32 = 1049;
    pub const DIR_INDEXES: u32 = 1116;
    pub const BASE_NAMES: u32 = 1117;
    pub const DIR_NAMES: u32 = 1118;
}

/// One package's header.
pub(super) struct Header<'a> {
    /// 16 bytes each.
    index: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    /// `None` for bytes that are none.
    pub fn parse(blob: &'a [u8]) -> Option<Self> {
        let (counts, rest) = blob.split_first_chunk::<8>()?;
        let entries = number(&counts[..4]) as usize;
        let (index, data) = rest.split_at_checked(entries.checked_mul(16)?)?;
        Some(Self { index, data })
    }

    /// The data from a tag's first value on, the size of one in bytes (0: up to a NUL), and how many there are.
    fn find(&self, tag: u32) -> Option<(&'a [u8], usize, usize)> {
        let entry = self.index.chunks_exact(16).find(|entry| number(&entry[..4]) == tag)?;
        let size = match number(&entry[4..8]) {
            1 | 2 | 7 => 1,
            3 => 2,
            4 => 4,
            5 => 8,
            _ => 0,
        };
        Some((self.data.get(number(&entry[8..12]) as usize..)?, size, number(&entry[12..]) as usize))
    }

    /// The texts of a tag, as many as are there.
    pub fn texts(&self, tag: u32) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (data, size, count) = self.find(tag).unwrap_or_default();
        let count = if size == 0 && !data.is_empty() { count } else { 0 };
        data.split(|b| *b == 0).take(count)
    }

    /// The first text of a tag; empty when there is none.
    pub fn text(&self, tag: u32) -> String {
        String::from_utf8_lossy(self.texts(tag).next().unwrap_or_default()).into_owned()
    }

    /// The numbers of a tag, as many as are there.
    pub fn numbers(&self, tag: u32) -> impl Iterator<Item = u32> + use<'a> {
        let (data, size, count) = self.find(tag).unwrap_or_default();
        data.chunks_exact(size.max(1)).take(if size == 0 { 0 } else { count }).map(number)
    }
}

/// A big-endian number; of more than four bytes the last four.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}
