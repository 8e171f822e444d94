//! Duplicates: files of the merged image with the same content and an inode each.

use std::collections::BTreeMap;

use super::layers::{Stack, Sum};
use super::model::Duplicate;
use crate::image::ImagePath;

/// So many groups are told.
const MOST: usize = 100;

/// The groups, those that spend most first, and the bytes that all of them spend.
pub fn duplicates(stack: &Stack) -> (Vec<Duplicate>, u64) {
    let mut equal: BTreeMap<(u64, Sum), Vec<&ImagePath>> = BTreeMap::new();
    for (path, bytes, origin) in stack.contents() {
        if let Some(sum) = origin.sum {
            equal.entry((bytes, sum)).or_default().push(path);
        }
    }
    let several = equal.into_iter().filter(|(_, paths)| paths.len() > 1);
    let mut groups: Vec<Duplicate> = several
        .map(|((bytes, sum), paths)| Duplicate {
            bytes,
            sha256: sum.iter().map(|byte| format!("{byte:02x}")).collect(),
            spent_bytes: bytes * (paths.len() as u64 - 1),
            paths: paths.into_iter().cloned().collect(),
        })
        .collect();
    let spent = groups.iter().map(|group| group.spent_bytes).sum();
    groups.sort_by(|a, b| b.spent_bytes.cmp(&a.spent_bytes).then_with(|| a.paths.cmp(&b.paths)));
    groups.truncate(MOST);
    (groups, spent)
}
