//! Why: what a report says about a path. A kept path has its reasons, each followed back to something that
//! really happened; a path that went has the group it went with.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use globset::{GlobBuilder, GlobMatcher};

use super::figures::{bytes, counted};
use super::model::{FileKind, Group, Kept, LeftOut, Reason, RemovedPath, Report};
use super::show::{Paint, Style};
use crate::image::path::printable;
use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath, Kind, Tree};
use crate::keep::ENGINE_PATHS;

/// The answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The question.
    pub query: String,
    /// What was found, in path order, kept paths first. Empty when a name or glob matches nothing; a path
    /// always has one finding.
    pub findings: Vec<Finding>,
    /// Whether the list of removed paths was there to look into.
    pub whole: bool,
}

/// What became of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The path, symlinks on the way resolved.
    pub path: ImagePath,
    /// The path as it was asked for, when symlinks led from it to `path`.
    pub asked: Option<ImagePath>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It stays: index into [`Report::kept`].
    Kept(usize),
    /// Touched, and left out by this rule.
    LeftOut(String),
    /// It was in the image and nothing asked for it.
    Removed(Box<RemovedPath>),
    /// It is not kept; without the list of removed paths nobody knows whether it was ever there.
    Gone,
    /// Engines put their own there in every container; nobody knows what the image's layers have.
    Engines,
    /// It was not in the image.
    NeverThere,
}

/// Finds a path: exactly, through kept symlinks, by its name alone (no `/`), or by a glob (`*` stops at `/`,
/// `**` does not). `removed` is the full list, where it can be had.
///
/// # Errors
/// When a glob is malformed.
pub fn find(report: &Report, removed: Option<&[RemovedPath]>, query: &str) -> Result<Found> {
    let index = Index::new(report, removed);
    let found = |findings| Found { query: query.to_owned(), findings, whole: removed.is_some() };
    let is_glob = query.contains(['*', '?', '[', '{']);
    if !query.starts_with('/') {
        return Ok(found(index.matching(&glob(&format!("**/{query}"))?)));
    }
    let exact = ImagePath::decode(query).unwrap_or_else(|| ImagePath::new(query));
    if let Some(fate) = index.fate(&exact) {
        return Ok(found(vec![Finding { path: exact, asked: None, fate }]));
    }
    if is_glob {
        return Ok(found(index.matching(&glob(query)?)));
    }
    let path = through_links(report, &exact);
    let of_engine = ENGINE_PATHS.iter().any(|known| path.as_bytes() == known.as_bytes());
    let unknown = match removed {
        _ if of_engine => Fate::Engines,
        Some(_) => Fate::NeverThere,
        None => Fate::Gone,
    };
    let fate = index.fate(&path).unwrap_or(unknown);
    let asked = (path != exact).then_some(exact);
    Ok(found(vec![Finding { path, asked, fate }]))
}

impl Found {
    /// Whether any finding is a kept path.
    pub fn any_kept(&self) -> bool {
        self.findings.iter().any(|finding| matches!(finding.fate, Fate::Kept(_)))
    }

    /// The findings as text: one with everything that is known, several with a line each.
    pub fn tell(&self, report: &Report, style: Style) -> String {
        let chains = Chains::new(report);
        match &self.findings[..] {
            [] => {
                let whose = if self.whole { "no path of the original image" } else { "no kept path" };
                format!("{whose} matches `{}`\n", printable(self.query.as_bytes()))
            }
            [finding] => chains.whole(finding, style),
            many => many.iter().map(|finding| chains.brief(finding, style)).collect(),
        }
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    Ok(glob.with_context(|| format!("read `{}` as a glob", printable(pattern.as_bytes())))?.compile_matcher())
}

/// What a report has under each path.
struct Index<'a> {
    kept: HashMap<&'a ImagePath, usize>,
    left_out: HashMap<&'a ImagePath, &'a LeftOut>,
    removed: HashMap<&'a ImagePath, &'a RemovedPath>,
}

impl<'a> Index<'a> {
    fn new(report: &'a Report, removed: Option<&'a [RemovedPath]>) -> Self {
        Self {
            kept: report.kept.iter().enumerate().map(|(n, kept)| (&kept.path, n)).collect(),
            left_out: report.left_out.iter().map(|left| (&left.path, left)).collect(),
            removed: removed.unwrap_or_default().iter().map(|gone| (&gone.path, gone)).collect(),
        }
    }

    fn fate(&self, path: &ImagePath) -> Option<Fate> {
        let kept = self.kept.get(path).map(|n| Fate::Kept(*n));
        kept.or_else(|| self.left_out.get(path).map(|left| Fate::LeftOut(left.rule.clone())))
            .or_else(|| self.removed.get(path).map(|gone| Fate::Removed(Box::new((*gone).clone()))))
    }

    /// Every path that matches, in path order, kept ones first.
    fn matching(&self, glob: &GlobMatcher) -> Vec<Finding> {
        let matches = |path: &ImagePath| glob.is_match(Path::new(OsStr::from_bytes(path.as_bytes())));
        let all: HashSet<&ImagePath> =
            self.kept.keys().chain(self.left_out.keys()).chain(self.removed.keys()).copied().collect();
        let mut found: Vec<Finding> = all
            .into_iter()
            .filter(|path| matches(path))
            .filter_map(|path| Some(Finding { path: path.clone(), asked: None, fate: self.fate(path)? }))
            .collect();
        found.sort_by(|a, b| {
            let kept = |finding: &Finding| !matches!(finding.fate, Fate::Kept(_));
            kept(a).cmp(&kept(b)).then_with(|| a.path.cmp(&b.path))
        });
        found
    }
}

/// Where the slim image's own symlinks lead from a path; the last component may be missing there.
fn through_links(report: &Report, path: &ImagePath) -> ImagePath {
    let entry = |kept: &Kept| {
        let kind = match (&kept.target, kept.kind) {
            (Some(target), _) => Kind::Symlink { target: target.0.clone() },
            (None, FileKind::Directory) => Kind::Directory,
            (None, _) => Kind::File,
        };
        (kept.path.clone(), Entry::new(kind))
    };
    let tree: Tree = report.kept.iter().map(entry).collect();
    let root = ImagePath::root();
    if let Some(found) = tree.resolve(&root, path.as_bytes(), Follow::NotLast).found {
        return found;
    }
    // The nearest directory above it that exists says where the rest would be.
    for above in path.ancestors() {
        if let Some(found) = tree.resolve(&root, above.as_bytes(), Follow::All).found {
            let rest = &path.as_bytes()[above.as_bytes().len()..];
            let mut full = found.as_bytes().to_vec();
            full.push(b'/');
            full.extend_from_slice(rest);
            return ImagePath::new(full);
        }
    }
    path.clone()
}

/// A report with its kept paths looked up by name.
struct Chains<'a> {
    report: &'a Report,
    kept: HashMap<&'a ImagePath, &'a Kept>,
}

impl<'a> Chains<'a> {
    fn new(report: &'a Report) -> Self {
        Self { report, kept: report.kept.iter().map(|kept| (&kept.path, kept)).collect() }
    }

    /// The path, and each reason followed back to its end.
    fn whole(&self, finding: &Finding, style: Style) -> String {
        let mut text = format!("{}\n", self.head(finding, style));
        if let Some(asked) = &finding.asked {
            text.push_str(&format!("  {asked} leads there\n"));
        }
        let Fate::Kept(n) = finding.fate else {
            text.push_str(&format!("  {}\n", self.not_kept(finding)));
            return text;
        };
        let kept = &self.report.kept[n];
        for reason in self.reasons(kept) {
            text.push_str(&format!("  {}\n", say(reason)));
            for step in self.back(kept, reason) {
                text.push_str(&format!("    <- {}\n", say(step)));
            }
        }
        if kept.more_reasons > 0 {
            text.push_str(&format!("  and {} of these kinds\n", counted(kept.more_reasons, "more reason", "more reasons")));
        }
        if kept.reasons.is_empty() {
            text.push_str("  the report gives no reason\n");
        }
        if kept.kind == FileKind::Directory {
            text.push_str(&self.below(kept));
        }
        text
    }

    /// One line: the path and the strongest reason with its chain.
    fn brief(&self, finding: &Finding, style: Style) -> String {
        let path = style.paint(Paint::Strong, &finding.path.to_string());
        let Fate::Kept(n) = finding.fate else {
            return format!("{path}  {}\n", self.not_kept(finding));
        };
        let kept = &self.report.kept[n];
        let Some(reason) = self.reasons(kept).next() else {
            return format!("{path}  kept\n");
        };
        let mut steps = vec![say(reason)];
        steps.extend(self.back(kept, reason).into_iter().map(say));
        format!("{path}  {}\n", steps.join(" <- "))
    }

    fn head(&self, finding: &Finding, style: Style) -> String {
        let path = style.paint(Paint::Strong, &finding.path.to_string());
        let (kind, mode, size) = match &finding.fate {
            Fate::Kept(n) => {
                let kept = &self.report.kept[*n];
                if let Some(target) = &kept.target {
                    return format!("{path} -> {}", printable(&target.0));
                }
                (kept.kind, kept.mode, kept.size)
            }
            Fate::Removed(gone) => (gone.kind, gone.mode, gone.size),
            Fate::LeftOut(_) | Fate::Gone | Fate::Engines | Fate::NeverThere => return path,
        };
        let size = if kind == FileKind::File { format!(", {}", bytes(size)) } else { String::new() };
        format!("{path}  {}, {mode}{size}", kind_word(kind))
    }

    fn not_kept(&self, finding: &Finding) -> String {
        match &finding.fate {
            Fate::Kept(_) => "kept".to_owned(),
            Fate::LeftOut(rule) => format!("not kept: touched, and left out by rule {}", printable(rule.as_bytes())),
            Fate::Removed(_) => format!("not kept: never touched{}", self.group_of(&finding.path)),
            Fate::Gone => format!(
                "not kept: never touched, or never in the image (the list of removed paths is not beside the report){}",
                self.group_of(&finding.path)
            ),
            Fate::Engines => "not kept: engines put their own there in every container; what the image's layers have there is \
                not known, and not counted as removed"
                .to_owned(),
            Fate::NeverThere => "not in the original image".to_owned(),
        }
    }

    /// The group that counts a removed path.
    fn group_of(&self, path: &ImagePath) -> String {
        let groups = &self.report.removed.groups;
        let above = |group: &&Group| path.starts_with(&group.directory);
        let Some(group) = groups.iter().filter(above).max_by_key(|group| group.directory.components().count()) else {
            return String::new();
        };
        let files = counted(group.files, "file", "files");
        format!("; it went with {} ({files}, {})", group.directory, bytes(group.bytes))
    }

    fn below(&self, dir: &Kept) -> String {
        let inside = |path: &ImagePath| path.starts_with(&dir.path) && *path != dir.path;
        let kept: Vec<&Kept> =
            self.report.kept.iter().filter(|kept| kept.kind != FileKind::Directory && inside(&kept.path)).collect();
        let size: u64 = kept.iter().map(|kept| kept.own_bytes()).sum();
        format!("  below it stay {}, {}\n", counted(kept.len() as u64, "file", "files"), bytes(size))
    }

    fn reasons(&self, kept: &Kept) -> impl Iterator<Item = &'a Reason> + use<'a> {
        let all = &self.report.reasons;
        kept.reasons.clone().into_iter().filter_map(|n| all.get(n))
    }

    /// The shortest way from a reason back to one that rests on no other path; empty when it is such a one.
    fn back(&self, from: &Kept, reason: &'a Reason) -> Vec<&'a Reason> {
        let mut seen: HashSet<&ImagePath> = HashSet::from([&from.path]);
        let mut queue: VecDeque<(&Reason, Vec<&Reason>)> = VecDeque::from([(reason, Vec::new())]);
        while let Some((at, way)) = queue.pop_front() {
            let Some(next) = rests_on(at) else {
                return way;
            };
            let Some(kept) = self.kept.get(next).filter(|_| seen.insert(next)) else {
                continue;
            };
            for reason in self.reasons(kept) {
                let mut way = way.clone();
                way.push(reason);
                queue.push_back((reason, way));
            }
        }
        Vec::new()
    }
}

/// The path that a reason points at; `None` for one that stands by itself.
pub(super) fn rests_on(reason: &Reason) -> Option<&ImagePath> {
    match reason {
        Reason::OnTheWay { to } => Some(to),
        Reason::LinkTo { target } => Some(target),
        Reason::InterpreterOf { program } => Some(program),
        Reason::NeededBy { object } => Some(object),
        Reason::HardlinkOf { name } => Some(name),
        Reason::Rule { by, .. } => by.as_ref(),
        Reason::Touched { .. }
        | Reason::App { .. }
        | Reason::Package { .. }
        | Reason::Include { .. }
        | Reason::Unknown => None,
    }
}

/// A reason in words.
pub fn say(reason: &Reason) -> String {
    let clean = |text: &str| printable(text.as_bytes());
    match reason {
        Reason::Touched { how, process, probe } => {
            let process = if process.is_empty() { "a process that was gone too soon" } else { process };
            let when = match probe.as_str() {
                "start" => "at the start".to_owned(),
                "stop" => "on the way down".to_owned(),
                probe => format!("while `{}` ran", clean(probe)),
            };
            format!("{} by {} {when}", clean(how), clean(process))
        }
        Reason::OnTheWay { to } => format!("on the way to {to}"),
        Reason::LinkTo { target } => format!("leads to {target}"),
        Reason::InterpreterOf { program } => format!("interpreter of {program}"),
        Reason::NeededBy { object } => format!("needed by {object}"),
        Reason::HardlinkOf { name } => format!("another name of {name}"),
        Reason::App { root } => format!("one of the application's files in {root}"),
        Reason::Package { name, needed_by: None } => format!("part of package {}, which is kept whole", clean(name)),
        Reason::Package { name, needed_by: Some(other) } => {
            format!("part of package {}, which {} needs", clean(name), clean(other))
        }
        Reason::Include { flag } => format!("asked for by {}", clean(flag)),
        Reason::Rule { name, by: Some(by) } => format!("rule {}, because of {by}", clean(name)),
        Reason::Rule { name, by: None } => format!("rule {}", clean(name)),
        Reason::Unknown => "a reason that this version does not know".to_owned(),
    }
}

fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "named pipe",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Unknown => "something",
    }
}
