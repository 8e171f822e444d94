//! Model: how two images or reports differ, as one document. The views show it; docs/formats.md, "Diff", is the same
//! list in prose. What a side does not know is `None`, never 0.

use clap::ValueEnum;
use serde::Serialize;

use crate::image::ImagePath;
use crate::report::model::{ConfigChange, FileKind, Group, Standing, VerdictKind};
use crate::xray::model::Secret;

/// The format's name and version.
pub const SCHEMA: &str = "slim.diff/1";

/// How two sides differ.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// What it is compared with.
    pub before: About,
    /// What it is about.
    pub after: About,
    /// The sections that were asked for; the others are `None`.
    pub only: Vec<Section>,
    /// How `after` stands with `--fail-on`; empty without.
    pub budgets: Vec<Standing>,
    /// What is to be known in advance: that the two share nothing, for example.
    pub notes: Vec<String>,
    /// What cannot be compared, and why.
    pub unknown: Vec<String>,
    /// Sizes.
    pub sizes: Option<Sizes>,
    /// Requests; `None` where neither side asked any.
    pub probes: Option<Probes>,
    /// What looks like a secret; `None` where a side does not know.
    pub secrets: Option<Secrets>,
    /// What an attacker would look for; `None` where neither side knows.
    pub programs: Option<Vec<Programs>>,
    /// Packages; `None` where a side does not know.
    pub packages: Option<Packages>,
    /// Files; `None` where a side does not know.
    pub files: Option<Files>,
    /// Changed settings, by name; `None` where a side does not know.
    pub config: Option<Vec<ConfigChange>>,
    /// The layers, those of `before` first; `None` where neither side knows.
    pub layers: Option<Vec<Layer>>,
    /// Time of each phase; `None` where neither side took any.
    pub time: Option<Vec<Phase>>,
}

/// A part of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Sizes, and what a host pulls
    Sizes,
    /// Requests and their outcome
    Probes,
    /// What looks like a secret
    Secrets,
    /// Programs, shells and what else an attacker would look for
    Programs,
    /// Packages
    Packages,
    /// Files added, changed and removed
    Files,
    /// Settings of the image
    Config,
    /// Layers
    Layers,
    /// Seconds of each phase
    Time,
}

/// What a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SideKind {
    /// An image that was read.
    Image,
    /// The result that a report speaks of.
    ReportResult,
    /// The original that a report speaks of, where it has no result.
    ReportSource,
    /// A report of SlimToolkit.
    SlimtoolkitReport,
    /// What `slim xray` said of an image.
    Xray,
}

/// A side.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// What the user called it.
    pub given: String,
    /// What that is.
    pub kind: SideKind,
    /// The image, as it is called there.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Image ID; `None` where nobody says.
    pub id: Option<String>,
    /// The verdict of a report; `None` elsewhere.
    pub verdict: Option<VerdictKind>,
}

/// A figure of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// `None` where it is not known.
    pub before: Option<u64>,
    /// As `before`.
    pub after: Option<u64>,
}

/// Who says how large something is when it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// The manifest.
    Manifest,
    /// It was compressed for this, with gzip at level 6.
    Gzip,
    /// The report, which measured it the same way.
    Report,
}

/// Sizes.
#[derive(Clone, Debug, Serialize)]
pub struct Sizes {
    /// Sum of the layers, as engines count.
    pub size_bytes: Pair,
    /// What a registry transfers.
    pub compressed_bytes: Pair,
    /// Who says so of `before`; `None` where nobody does.
    pub compressed_before: Option<Measured>,
    /// The same of `after`.
    pub compressed_after: Option<Measured>,
    /// Content of the merged files, each inode once.
    pub content_bytes: Pair,
    /// Everything that is no directory.
    pub files: Pair,
    /// Layers.
    pub layers: Pair,
    /// What a host that has `before` pulls to have `after`; `None` where layers are not known.
    pub pull: Option<Pull>,
}

/// Layers that have to be pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pull {
    /// How many.
    pub layers: u64,
    /// What they take when unpacked; `None` where one is not known.
    pub bytes: Option<u64>,
    /// What is transferred; `None` where one is not known.
    pub compressed_bytes: Option<u64>,
}

/// Which side has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Both.
    Shared,
    /// `before` only.
    Gone,
    /// `after` only.
    New,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Who has it.
    pub state: State,
    /// Digest of its tar.
    pub diff_id: String,
    /// Uncompressed; `None` where it is not known.
    pub bytes: Option<u64>,
    /// As it travels; `None` where it is not known.
    pub compressed_bytes: Option<u64>,
    /// The instruction that made it, secrets masked; empty where nobody says.
    pub made_by: String,
}

/// Files.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Files {
    /// What of them was compared: `content` (by SHA-256) or `size`, `mode`, `owner`, `capabilities`.
    pub compared: Vec<&'static str>,
    /// How many are the same, directories not counted.
    pub same: u64,
    /// Those of `after` only, the largest first.
    pub added: FileList,
    /// Those that differ: first who may do what, then content, the largest difference first.
    pub changed: FileList,
    /// Those of `before` only, the largest first.
    pub removed: FileList,
}

/// Files of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileList {
    /// How many; directories count among the changed ones only.
    pub files: u64,
    /// Their content, each inode once; of changed ones that of `after`.
    pub bytes: u64,
    /// The same by directory, in path order; empty for changed ones.
    pub groups: Vec<Group>,
    /// The first of them.
    pub list: Vec<File>,
    /// How many more there are than `list` has.
    pub more: u64,
}

/// A file that is not on both sides the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Where.
    pub path: ImagePath,
    /// What; of `after` where that has it.
    pub kind: FileKind,
    /// Content.
    pub bytes: Pair,
    /// What differs; empty for added and removed ones.
    pub changes: Vec<Change>,
    /// The package that owns it, `SYSTEM:NAME`; `None` for what no package owns.
    pub package: Option<String>,
    /// Why it is there, as the report of `after` has it; `None` without one, and for what is removed.
    pub reason: Option<String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `capabilities`, `mode`, `owner`, `kind`, `target`, `content`.
    pub what: &'static str,
    /// What it was; empty for content.
    pub from: String,
    /// What it is; empty for content.
    pub to: String,
}

/// Packages.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Packages {
    /// How many are on both sides with all that they had before.
    pub whole: u64,
    /// How many of each of the other states there are, by its name.
    pub counts: std::collections::BTreeMap<&'static str, u64>,
    /// All that are not `whole`: by state, the largest first.
    pub list: Vec<Package>,
    /// How many more there are than `list` has.
    pub more: u64,
}

/// What became of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Only `after` has it.
    New,
    /// It has another version.
    Version,
    /// It has more files than before.
    More,
    /// It has fewer files than before.
    Part,
    /// Nothing of it is there, or nobody says so any more.
    Gone,
    /// It has all that it had.
    Whole,
}

/// One package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Package {
    /// What became of it.
    pub state: Fate,
    /// `dpkg`, `python` ...
    pub system: String,
    /// Its name.
    pub name: String,
    /// What `before` has of it; `None` for nothing.
    pub before: Option<Share>,
    /// What `after` has of it; `None` for nothing.
    pub after: Option<Share>,
    /// A database of `after` still lists it, though none of its files is there.
    pub only_listed: bool,
}

/// What a side has of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Empty when it says none.
    pub version: String,
    /// Files of it that are there.
    pub files: u64,
    /// Their content.
    pub bytes: u64,
    /// How many files it has where it is whole; `None` where that is not known.
    pub of: Option<u64>,
}

/// What an attacker would look for, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Programs {
    /// `programs`, `shells`, `setuid` ...
    pub name: &'static str,
    /// How many.
    pub count: Pair,
    /// Those of `after` only, at most a hundred, in path order; `None` where paths are not known.
    pub new: Option<Vec<ImagePath>>,
    /// Those of `before` only, in the same way. Programs and libraries are not listed here.
    pub gone: Option<Vec<ImagePath>>,
}

/// What looks like a secret.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Secrets {
    /// Whether the content of files was searched on both sides, or their names alone.
    pub by_content: bool,
    /// Those of `after` only.
    pub new: Vec<Secret>,
    /// Those of `before` only.
    pub gone: Vec<Secret>,
    /// Those of both.
    pub same: u64,
}

/// Requests of two reports.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Probes {
    /// How many were asked.
    pub asked: Pair,
    /// How many passed.
    pub passed: Pair,
    /// Those that passed before and fail now, and new ones that fail.
    pub failing: Vec<Probe>,
    /// Those that failed before and pass now.
    pub mended: Vec<String>,
    /// Those that nobody asked before and that pass.
    pub new: Vec<String>,
    /// Those that nobody asks any more.
    pub gone: Vec<String>,
}

/// A request that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// Whether it was asked before.
    pub known: bool,
    /// Why.
    pub failure: String,
}

/// Time of a phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Seconds; `None` where there was no such phase.
    pub before: Option<f64>,
    /// As `before`.
    pub after: Option<f64>,
}
