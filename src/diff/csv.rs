//! CSV: one line for each file that differs, in path order (RFC 4180, lines end with CR LF).

use super::model::{Diff, File};
use crate::report::views::csv::{kind, path, row};

/// The table, with at most `top` lines of each state. Paths are in the lossless text form.
pub fn csv(diff: &Diff, top: usize) -> String {
    let mut table = "state,path,kind,bytes_before,bytes_after,changes,package,reason\r\n".to_owned();
    let Some(files) = &diff.files else { return table };
    let states = [("added", &files.added), ("changed", &files.changed), ("removed", &files.removed)];
    let mut rows: Vec<(&str, &File)> =
        states.into_iter().flat_map(|(state, list)| list.list.iter().take(top).map(move |file| (state, file))).collect();
    rows.sort_by(|a, b| a.1.path.cmp(&b.1.path));
    let number = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
    for (state, file) in rows {
        let changes: Vec<String> = file.changes.iter().map(|change| match change.what {
            "content" => "content".to_owned(),
            what => format!("{what} {}>{}", change.from, change.to),
        }).collect();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        row(&mut table, &[
            state,
            &path(&file.path),
            kind(file.kind),
            &number(file.bytes.before),
            &number(file.bytes.after),
            &changes.join("; "),
            &crate::image::path::printable(text(&file.package).as_bytes()),
            &text(&file.reason),
        ]);
    }
    table
}
