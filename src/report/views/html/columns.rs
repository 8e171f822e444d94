//! Columns: every path of a report, as lists of numbers that point at texts which are there once. A hundred thousand
//! paths are a few megabytes in this form, and are read in a moment.

use std::collections::HashMap;

use serde::Serialize;

use super::super::super::model::{FileKind, RemovedPath, Report};
use super::super::super::why::{rests_on, say};
use crate::image::ImagePath;
use crate::image::path::printable;

/// The kind of an entry that stands for removed files of a directory which nobody lists.
const GROUP: u8 = 8;

/// The paths: one entry in each of `dirs`, `names`, `kinds`, `sizes`, `modes`, `packages`. Kept ones come first.
#[derive(Debug, Default, Serialize)]
pub struct Columns {
    strings: Vec<String>,
    /// Directories: the one above, and the name; the root is the first, and its own parent.
    dir_parents: Vec<usize>,
    dir_names: Vec<usize>,
    kept: usize,
    dirs: Vec<usize>,
    names: Vec<usize>,
    kinds: Vec<u8>,
    sizes: Vec<u64>,
    modes: Vec<u16>,
    /// -1 for a path that no package owns.
    packages: Vec<i64>,
    /// Of kept paths: an index into `why_lists`, which hold indexes into `reasons`.
    whys: Vec<usize>,
    why_lists: Vec<Vec<usize>>,
    reasons: Vec<String>,
    /// The path that each reason rests on: an entry, -1 for one that stands by itself, -2 for one that is not kept.
    rests: Vec<i64>,
    /// Entries that are further names of an inode.
    again: Vec<usize>,
    /// Entries that are symlinks, and where they point.
    targets: Vec<(usize, String)>,
    /// Entries with more reasons than the report lists, and how many.
    more: Vec<(usize, u64)>,
    /// Entries of the kind [`GROUP`], and how many files each stands for.
    groups: Vec<(usize, u64)>,
}

/// What was given a number already.
#[derive(Default)]
struct Known<'a> {
    strings: HashMap<String, usize>,
    dirs: HashMap<ImagePath, usize>,
    whys: HashMap<&'a [usize], usize>,
}

impl Columns {
    /// Those of a report, and of the list of removed paths; without one, a report's groups.
    pub fn new(report: &Report, removed: Option<&[RemovedPath]>) -> Self {
        let (mut columns, mut known) = (Self::default(), Known::default());
        columns.dir(&ImagePath::root(), &mut known);
        for kept in &report.kept {
            let at = columns.entry(&kept.path, (code(kept.kind), kept.size, kept.mode.0), kept.package.as_deref(), &mut known);
            let why = *known.whys.entry(kept.reasons.as_slice()).or_insert_with(|| {
                let given = kept.reasons.iter().copied().filter(|n| *n < report.reasons.len());
                columns.why_lists.push(given.collect());
                columns.why_lists.len() - 1
            });
            columns.whys.push(why);
            columns.again.extend(kept.same_as.as_ref().map(|_| at));
            columns.targets.extend(kept.target.as_ref().map(|target| (at, printable(&target.0))));
            columns.more.extend((kept.more_reasons > 0).then_some((at, kept.more_reasons)));
        }
        columns.kept = report.kept.len();
        for gone in removed.unwrap_or_default() {
            let at = columns.entry(&gone.path, (code(gone.kind), gone.size, gone.mode.0), gone.package.as_deref(), &mut known);
            columns.again.extend(gone.same_as.as_ref().map(|_| at));
        }
        for group in report.removed.groups.iter().filter(|_| removed.is_none()) {
            let inside = group.directory.child(b"-");
            let at = columns.entry(&inside, (GROUP, group.bytes, 0), None, &mut known);
            columns.groups.push((at, group.files));
        }
        columns.reasons = report.reasons.iter().map(say).collect();
        let places: HashMap<&ImagePath, usize> = report.kept.iter().enumerate().map(|(n, kept)| (&kept.path, n)).collect();
        let place = |path| places.get(path).map_or(-2, |n| *n as i64);
        columns.rests = report.reasons.iter().map(|reason| rests_on(reason).map_or(-1, place)).collect();
        columns
    }

    fn entry(&mut self, path: &ImagePath, (kind, size, mode): (u8, u64, u16), package: Option<&str>, known: &mut Known<'_>) -> usize {
        let dir = self.dir(&path.parent().unwrap_or_else(ImagePath::root), known);
        let name = self.string(path.file_name().unwrap_or_default(), known);
        self.dirs.push(dir);
        self.names.push(name);
        self.kinds.push(kind);
        self.sizes.push(size);
        self.modes.push(mode);
        let package = package.map_or(-1, |package| self.string(package.as_bytes(), known) as i64);
        self.packages.push(package);
        self.names.len() - 1
    }

    fn dir(&mut self, path: &ImagePath, known: &mut Known<'_>) -> usize {
        if let Some(at) = known.dirs.get(path) {
            return *at;
        }
        let above = path.parent().map_or(0, |above| self.dir(&above, known));
        let name = self.string(path.file_name().unwrap_or_default(), known);
        self.dir_parents.push(above);
        self.dir_names.push(name);
        known.dirs.insert(path.clone(), self.dir_names.len() - 1);
        self.dir_names.len() - 1
    }

    fn string(&mut self, raw: &[u8], known: &mut Known<'_>) -> usize {
        let text = printable(raw);
        *known.strings.entry(text).or_insert_with_key(|text| {
            self.strings.push(text.clone());
            self.strings.len() - 1
        })
    }
}

fn code(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 0,
        FileKind::Directory => 1,
        FileKind::Symlink => 2,
        FileKind::Fifo => 3,
        FileKind::Socket => 4,
        FileKind::CharDevice => 5,
        FileKind::BlockDevice => 6,
        FileKind::Unknown => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::model::{Group, Kept, Reason};
    use super::*;

    fn kept(path: &str, reasons: &[usize]) -> Kept {
        serde_json::from_value(serde_json::json!({ "path": path, "size": 7, "kind": "file", "reasons": reasons })).unwrap()
    }

    fn report() -> Report {
        let reasons = vec![
            Reason::NeededBy { object: "/usr/bin/a".into() },
            Reason::Rule { name: "r".into(), by: None },
            Reason::LinkTo { target: "/gone".into() },
        ];
        let kept = vec![kept("/usr/bin/a", &[1]), kept("/usr/lib/a", &[0]), kept("/usr/lib/b", &[0]), kept("/x", &[2])];
        Report { kept, reasons, ..Report::default() }
    }

    fn path_of(columns: &Columns, at: usize) -> String {
        let mut path = format!("/{}", columns.strings[columns.names[at]]);
        let mut dir = columns.dirs[at];
        while dir != 0 {
            path = format!("/{}{path}", columns.strings[columns.dir_names[dir]]);
            dir = columns.dir_parents[dir];
        }
        path
    }

    #[test]
    fn paths_come_out_as_they_went_in_and_names_are_there_once() {
        let gone: RemovedPath = serde_json::from_value(serde_json::json!({ "path": "/usr/lib/c/a", "package": "dpkg:c" })).unwrap();
        let columns = Columns::new(&report(), Some(&[gone]));
        let paths: Vec<String> = (0..columns.names.len()).map(|at| path_of(&columns, at)).collect();
        assert_eq!(paths, ["/usr/bin/a", "/usr/lib/a", "/usr/lib/b", "/x", "/usr/lib/c/a"]);
        assert_eq!(columns.kept, 4);
        assert_eq!(columns.strings.iter().filter(|text| *text == "a").count(), 1);
        assert_eq!(columns.strings[columns.packages[4] as usize], "dpkg:c");
    }

    #[test]
    fn reasons_lead_to_the_paths_that_they_rest_on() {
        let columns = Columns::new(&report(), None);
        assert_eq!(columns.rests, [0, -1, -2]);
        assert_eq!(columns.whys, [0, 1, 1, 2], "equal lists are one");
        assert_eq!(columns.reasons[0], "needed by /usr/bin/a");
    }

    #[test]
    fn groups_stand_in_only_where_nobody_lists_what_went() {
        let mut report = report();
        report.removed.groups = vec![Group { directory: "/usr/share".into(), files: 9, bytes: 99 }];
        assert_eq!(Columns::new(&report, None).groups, [(4, 9)]);
        assert!(Columns::new(&report, Some(&[])).groups.is_empty());
    }
}
