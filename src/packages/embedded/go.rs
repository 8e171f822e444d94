//! Go: the modules that a program was built from, as its linker wrote them (Go's `debug/buildinfo` and the format of
//! `runtime/debug.BuildInfo`).

use super::elf::Sections;
use super::{Found, Language};

/// What stands at the beginning, at an address that is a multiple of [`ALIGNED`].
const MAGIC: &[u8] = b"\xff Go buildinf:";
const ALIGNED: usize = 16;

/// Flags in byte 15: numbers are big endian; the texts follow the head in place of pointers to them.
const BIG_ENDIAN: u8 = 1;
const INLINE: u8 = 2;

/// The head is this long.
const HEAD: usize = 32;

/// Texts of this many bytes stand before and behind the list of modules, to be found in memory.
const SENTINEL: usize = 16;

/// The modules, the main one without a version where it has only `(devel)`, and the standard library.
pub(super) fn read(sections: &Sections) -> Vec<Found> {
    let Some((version, modules)) = texts(sections) else { return Vec::new() };
    let Some(version) = version.strip_prefix("go") else { return Vec::new() };
    // Experiments and a vendor's own words stand behind the version.
    let version = version.split(' ').next().unwrap_or_default().split("-X:").next().unwrap_or_default();
    let mut found = vec![Found::new(Language::Go, "stdlib", format!("v{version}"))];
    found.extend(listed(&modules));
    found
}

/// Whether the head leads to its texts by pointers (before Go 1.18).
pub(super) fn has_pointers(data: &[u8]) -> bool {
    head(data).and_then(|data| data.get(15)).is_some_and(|flags| flags & INLINE == 0)
}

fn head(data: &[u8]) -> Option<&[u8]> {
    let at = (0..data.len()).step_by(ALIGNED).find(|at| data[*at..].starts_with(MAGIC))?;
    data.get(at..).filter(|data| data.len() >= HEAD)
}

/// The version of Go, and the list of modules.
fn texts(sections: &Sections) -> Option<(String, String)> {
    let data = head(&sections.go)?;
    let (pointer, flags) = (usize::from(data[14]), data[15]);
    let (version, modules) = if flags & INLINE != 0 {
        let (version, rest) = counted(&data[HEAD..])?;
        (version, counted(rest).map(|(modules, _)| modules).unwrap_or_default())
    } else {
        let text = |at: usize| {
            let address = number(data.get(at..at + pointer)?, flags)?;
            let head = at_address(sections, address, 2 * pointer)?;
            let length = usize::try_from(number(&head[pointer..], flags)?).ok()?;
            at_address(sections, number(&head[..pointer], flags)?, length)
        };
        if pointer != 4 && pointer != 8 {
            return None;
        }
        (text(16)?, text(16 + pointer).unwrap_or_default())
    };
    let bare = match modules.len() {
        length if length > 2 * SENTINEL && modules[length - SENTINEL - 1] == b'\n' => &modules[SENTINEL..length - SENTINEL],
        _ => &[],
    };
    Some((String::from_utf8_lossy(version).into_owned(), String::from_utf8_lossy(bare).into_owned()))
}

/// A text behind its length as a base-128 number (`binary.Uvarint`), and what follows.
fn counted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut at) = (0_u64, 0);
    loop {
        let byte = *data.get(at)?;
        length |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at == 9 {
            return None;
        }
    }
    data.get(at..)?.split_at_checked(usize::try_from(length).ok()?)
}

fn number(bytes: &[u8], flags: u8) -> Option<u64> {
    let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
    match bytes.len() {
        4 | 8 if flags & BIG_ENDIAN != 0 => Some(bytes.iter().fold(0, fold)),
        4 | 8 => Some(bytes.iter().rev().fold(0, fold)),
        _ => None,
    }
}

fn at_address(sections: &Sections, address: u64, length: usize) -> Option<&[u8]> {
    sections.segments.iter().find_map(|(start, bytes)| {
        let at = usize::try_from(address.checked_sub(*start)?).ok()?;
        bytes.get(at..at.checked_add(length)?)
    })
}

/// Lines `mod`, `dep` and `=>` (which takes the place of the one before): path, version and sum behind tabs.
fn listed(modules: &str) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for line in modules.lines() {
        let mut parts = line.split('\t');
        let kind = parts.next().unwrap_or_default();
        let (path, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let one = Found::new(Language::Go, path, if version == "(devel)" { "" } else { version });
        match kind {
            "mod" | "dep" => found.push(one),
            "=>" => {
                found.pop();
                found.push(one);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "path\tx.test/main\nmod\tx.test/main\t(devel)\t\ndep\tx.test/a\tv1.0.0\th1:x\ndep\tx.test/b\tv1.0.0\t\n=>\tx.test/c\tv2.0.0\th1:y\nbuild\tGOOS=linux\n";

    fn names(found: &[Found]) -> Vec<String> {
        found.iter().map(|one| format!("{}@{}", one.name, one.version)).collect()
    }

    fn inline(version: &str, list: &str) -> Vec<u8> {
        let mut data = MAGIC.to_vec();
        data.extend([8, INLINE]);
        data.resize(HEAD, 0);
        data.push(version.len() as u8);
        data.extend(version.bytes());
        let list = format!("{}{list}{}", "s".repeat(SENTINEL), "e".repeat(SENTINEL));
        data.extend([(list.len() & 0x7f | 0x80) as u8, (list.len() >> 7) as u8]);
        data.extend(list.bytes());
        data
    }

    fn sections(go: Vec<u8>) -> Sections {
        Sections { go, rust: Vec::new(), segments: Vec::new() }
    }

    #[test]
    fn modules_are_told_with_those_that_replace_them_and_the_standard_library() {
        let data = [vec![0; 32], inline("go1.22.1 X:loopvar", LIST)].concat();
        assert_eq!(names(&read(&sections(data))), ["stdlib@v1.22.1", "x.test/main@", "x.test/a@v1.0.0", "x.test/c@v2.0.0"]);
    }

    #[test]
    fn before_go_1_18_pointers_lead_to_the_texts() {
        let list = format!("{}{LIST}{}", "s".repeat(SENTINEL), "e".repeat(SENTINEL));
        let base = 0x1000_u64;
        let mut memory = Vec::new();
        let mut place = |text: &str| {
            let at = base + memory.len() as u64;
            memory.extend(text.bytes());
            let head = base + memory.len() as u64;
            memory.extend(at.to_le_bytes());
            memory.extend((text.len() as u64).to_le_bytes());
            head
        };
        let (version, modules) = (place("go1.16"), place(&list));
        let mut data = MAGIC.to_vec();
        data.extend([8, 0]);
        data.extend(version.to_le_bytes());
        data.extend(modules.to_le_bytes());
        assert!(has_pointers(&data));
        let found = Sections { segments: vec![(base, memory)], ..sections(data) };
        assert_eq!(names(&read(&found))[..2], ["stdlib@v1.16", "x.test/main@"]);
    }

    #[test]
    fn hostile_heads_do_no_harm() {
        let data = inline("go1.22", LIST);
        for at in 0..data.len() {
            assert!(read(&sections(data[..at].to_vec())).len() <= 2);
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = data.clone();
                bad[at] = byte;
                let _ = read(&sections(bad));
            }
        }
        assert_eq!(counted(&[0xff; 20]), None);
    }
}
