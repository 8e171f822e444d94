//! Model: the fields of `slim.report.json`. docs/formats.md, "Report", is the same list in prose.
//!
//! Reading is lenient: unknown fields are skipped, missing ones take their empty value, so that a report of
//! another minor version still reads. Writing is strict: same input, same bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit::ExitRecord;

mod answers;
mod files;

pub use answers::{
    Answer, Body, Compared, Difference, Holdout, Miss, Probe, Round, Trace, TraceUse, Verify,
};
pub use files::{
    AppRoot, Call, Script, Change, Embedded, FileKind, Group, Kept, LeftOut, LinkTarget, Mode, Os, Package, Reason, Removed, RemovedPath,
    Secret, SecretPlace, Surface, Walker,
};

/// What this program writes into [`Report::schema`]: a name and a major version.
pub const SCHEMA: &str = "slim.report/1";

/// A whole report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What wrote it.
    pub tool: Tool,
    /// The one line that matters.
    pub verdict: Verdict,
    /// The image that was made smaller.
    pub source: Image,
    /// The image that was made; `None` when none was.
    pub result: Option<Image>,
    /// Programs that an attacker would look for, before and after. `None` when nothing was decided.
    pub surface: Option<Surface>,
    /// The original's packages, by system, name and version, each with what of it stays.
    pub packages: Vec<Package>,
    /// Packages that are in files of the original, by file, language, name and version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embedded: Vec<Embedded>,
    /// The distribution of the original; `None` where it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<Os>,
    /// When the result was made by its config (RFC 3339); `None` where no result was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What of the original looks like a secret, and whether it is gone; `None` when nobody looked.
    pub secrets: Option<Vec<Secret>>,
    /// `--keep`: `touched`, `app` or `package`; empty when nothing was decided.
    pub level: String,
    /// The application's directories: how much of the user's own stays. In path order.
    pub app: Vec<AppRoot>,
    /// Every kept path, in path order.
    pub kept: Vec<Kept>,
    /// The reasons that [`Kept::reasons`] point at, in the order of their first use.
    pub reasons: Vec<Reason>,
    /// What went.
    pub removed: Removed,
    /// Bytes of the files that processes really opened or executed, each inode once: no image can be smaller that
    /// does the same. `None` when nothing was decided.
    pub floor_bytes: Option<u64>,
    /// Paths that were touched and left out on purpose.
    pub left_out: Vec<LeftOut>,
    /// Shell scripts, cron tables and the like that matter, and what they call. In path order.
    pub scripts: Vec<Script>,
    /// Processes that walked over whole directories.
    pub walkers: Vec<Walker>,
    /// One entry for each request that was made, in order.
    pub probes: Vec<Probe>,
    /// The comparison of the two images; `None` when there was none.
    pub verify: Option<Verify>,
    /// One entry for each slim image that was made and looked at, the last is the result.
    pub rounds: Vec<Round>,
    /// What was kept out of the recording; `None` without `--holdout`.
    pub holdout: Option<Holdout>,
    /// How it stands with its budgets, in their order; empty without budgets, and where none was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Standing>,
    /// The recording; `None` when it never began.
    pub trace: Option<Trace>,
    /// Trace files that went into it.
    pub traces: Vec<TraceUse>,
    /// How the new image's config differs.
    pub config: Config,
    /// How the image ran.
    pub target: Target,
    /// Where the time went.
    pub phases: Vec<Phase>,
    /// Things the user should know and may act on.
    pub warnings: Vec<String>,
    /// How the program ended.
    pub exit: ExitRecord,
}

/// What wrote a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tool {
    /// `slim`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// How a report stands with one budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Standing {
    /// The budget as it was given.
    pub rule: String,
    /// Whether the report keeps it.
    pub kept: bool,
    /// The figure and the limit, for people.
    pub line: String,
}

/// The outcome in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// The slim image answered as the original did.
    Verified,
    /// Nobody compared.
    #[default]
    Unverified,
    /// The slim image answers differently, or the build did not get that far.
    Failed,
    /// The original itself answers differently from run to run.
    Flaky,
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Verdict {
    /// In a word.
    pub kind: VerdictKind,
    /// In a line, with what was counted.
    pub line: String,
}

/// An image in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Image {
    /// The reference it is known by; empty when it has none.
    #[serde(rename = "ref")]
    pub reference: String,
    /// All references that it was given, `ref` first.
    pub tags: Vec<String>,
    /// Archive that it was written to. `None` without `-o`.
    pub archive: Option<String>,
    /// Image ID (`sha256:...` of its config).
    pub digest: String,
    /// Uncompressed size in bytes as the engine counts it: the sum of its layers.
    pub size_bytes: u64,
    /// Bytes of its files in the merged view, each inode once.
    pub content_bytes: u64,
    /// What a registry transfers. `None` when nobody compressed it.
    pub compressed_bytes: Option<u64>,
    /// Everything in the merged view that is not a directory.
    pub files: u64,
    /// Layers.
    pub layers: u64,
    /// USER of its config, empty for root; `None` where the report does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// They, lowest first; `None` where the engine does not say how large each is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_list: Option<Vec<Layer>>,
}

/// A layer of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Layer {
    /// `sha256:` of its plain tar: the same layer in another image has the same.
    pub diff_id: String,
    /// Uncompressed, as the engine counts.
    pub bytes: u64,
}

/// How the config differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Changed fields, in the order of their names. rootfs, history and created always change and are not here.
    pub changed: Vec<ConfigChange>,
}

/// One changed field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigChange {
    /// `Cmd`, `Labels.maintainer`, `Env.PATH`.
    pub field: String,
    /// JSON of the value before; for an environment variable only `set`. `None` when there was none.
    pub from: Option<String>,
    /// The same after.
    pub to: Option<String>,
}

/// How the image ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Target {
    /// Command line, arguments that look secret masked.
    pub argv: Vec<String>,
    /// USER as written; empty for root by default.
    pub user: String,
    /// Working directory.
    pub workdir: String,
    /// Names of its environment variables, sorted.
    pub env_names: Vec<String>,
}

/// Time that a stage took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// When it began, in seconds since the build did.
    pub start: f64,
    /// Wall clock, to the millisecond.
    pub seconds: f64,
    /// Bytes it moved. `None` when it moves none.
    pub bytes: Option<u64>,
}
