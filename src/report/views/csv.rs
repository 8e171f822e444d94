//! CSV: one line for each path, kept or removed (RFC 4180, lines end with CR LF).

use super::super::model::{FileKind, RemovedPath, Report};
use super::super::why::say;
use crate::image::ImagePath;
use crate::image::path::printable;

/// The table. Paths are in the lossless text form; without the list of removed paths it has those that stay.
pub fn csv(report: &Report, removed: Option<&[RemovedPath]>) -> String {
    let mut table = "state,path,kind,bytes,mode,package,reason\r\n".to_owned();
    for kept in &report.kept {
        let reason = kept.reasons.first().and_then(|n| report.reasons.get(*n)).map(say).unwrap_or_default();
        let package = kept.package.as_deref().unwrap_or_default();
        row(&mut table, &["kept", &path(&kept.path), kind(kept.kind), &kept.size.to_string(), &kept.mode.to_string(), package, &reason]);
    }
    for gone in removed.unwrap_or_default() {
        let package = gone.package.as_deref().unwrap_or_default();
        row(&mut table, &["removed", &path(&gone.path), kind(gone.kind), &gone.size.to_string(), &gone.mode.to_string(), package, ""]);
    }
    table
}

/// The lossless form, and what a terminal would act on as escapes.
pub fn path(path: &ImagePath) -> String {
    printable(path.encode().as_bytes())
}

/// The word for a kind.
pub fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "char_device",
        FileKind::BlockDevice => "block_device",
        FileKind::Unknown => "unknown",
    }
}

/// Adds a row.
pub fn row(table: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    table.push_str(&cells.join(","));
    table.push_str("\r\n");
}

fn cell(text: &str) -> String {
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
