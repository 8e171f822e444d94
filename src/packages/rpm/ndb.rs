//! The headers in rpm's own database format, `Packages.db` of SUSE (rpm, `lib/backend/ndb/rpmpkg.c`): pages of
//! slots, each the place of a blob in units of 16 bytes. Numbers are little-endian.

/// Bytes of a page of slots.
const PAGE: usize = 4096;

/// The headers of all packages. What is damaged is left out, and said.
pub(super) fn blobs(file: &[u8]) -> (Vec<Vec<u8>>, Option<&'static str>) {
    if !file.starts_with(b"RpmP") || number(file, 4) != Some(0) {
        return (Vec::new(), Some("it is no ndb database"));
    }
    let pages = number(file, 12).unwrap_or(0);
    let end = pages.saturating_mul(PAGE).min(file.len());
    let mut found = Vec::new();
    let mut damage = (end < pages.saturating_mul(PAGE)).then_some("it is cut short");
    // No byte is in two blobs: all of them together are no longer than the file.
    let mut left = file.len();
    let slots = file.get(32..end).unwrap_or_default();
    for slot in slots.chunks_exact(16).filter(|slot| number(slot, 8) != Some(0)) {
        match blob(file, slot).filter(|blob| blob.len() <= left) {
            Some(blob) => {
                left -= blob.len();
                found.push(blob.to_vec());
            }
            None => damage = damage.or(Some("a package of it is damaged")),
        }
    }
    (found, damage)
}

fn blob<'a>(file: &'a [u8], slot: &[u8]) -> Option<&'a [u8]> {
    let at = number(slot, 8)?.checked_mul(16)?;
    let head = file.get(at..)?.first_chunk::<16>()?;
    let same_package = number(&head[..], 4) == number(slot, 4);
    if !slot.starts_with(b"Slot") || !head.starts_with(b"BlbS") || !same_package {
        return None;
    }
    let start = at + 16;
    file.get(start..start.checked_add(number(&head[..], 12)?)?)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}
