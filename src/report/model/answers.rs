//! Answers: what was recorded, asked and compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::ImagePath;

/// One request and its answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Probe {
    /// Name of the request, unique in a report: `GET /about.html`.
    pub name: String,
    /// The planned probe that it belongs to; a crawl has many requests.
    pub probe: String,
    /// `http`, `exec`, `host_exec`, `tcp`, `run`.
    pub kind: String,
    /// Somebody stated what it must answer; if not, the baseline is whatever the original answered.
    pub stated: bool,
    /// What was stated, for people. `None` when nothing was.
    pub expected: Option<String>,
    /// What the original image answered. `None` when it was not asked.
    pub baseline: Option<Answer>,
    /// What the slim image answered. `None` when it was not asked.
    pub slim: Option<Answer>,
    /// The original passed, and so did the slim image where it was asked.
    pub passed: bool,
    /// Why not; `None` when passed.
    pub failure: Option<String>,
}

/// An answer without its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Answer {
    /// HTTP status or exit status. `None` for tcp, or when nothing came.
    pub status: Option<i32>,
    /// Of HTTP.
    pub content_type: Option<String>,
    /// HTTP body, stdout, or what a tcp peer sent. `None` when nothing came.
    pub body: Option<Body>,
    /// Of commands.
    pub stderr: Option<Body>,
    /// Why nothing came. `None` when something did.
    pub error: Option<String>,
}

/// Bytes by their length and hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Body {
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 as hex.
    pub sha256: String,
    /// Its beginning in the lossless text form, known secrets masked; only with `--report-bodies`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

/// The comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Verify {
    /// What was compared, and how closely.
    pub compared: Compared,
    /// Answers that differ.
    pub differences: Vec<Difference>,
    /// How many times the slim image was made: once, and once more for each repair.
    pub rounds: u32,
    /// Paths that the first slim image turned out to lack and that were added.
    pub repaired: Vec<ImagePath>,
    /// Paths that the slim image still looked for and did not find when no more repairs were allowed.
    pub missed: Vec<ImagePath>,
    /// Why it is not known, or not of every run, what the slim image looks for and does not find. `None`: it is.
    pub unsearched: Option<String>,
    /// Nobody looked for that, because only a comparison was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_compared: bool,
    /// Last lines of the slim image's log; only when something differs.
    pub log_tail: Vec<String>,
}

/// One slim image on the way to the last: what it missed, and how it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Round {
    /// From 1.
    pub round: u32,
    /// What it looked for and did not find.
    pub misses: Vec<Miss>,
    /// Answers that differed, before anything was done about it.
    pub differences: Vec<Difference>,
    /// Its size in bytes, as in `result.size_bytes`.
    pub size_bytes: u64,
}

/// A path that a slim image looked for and did not find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Miss {
    /// The path.
    pub path: ImagePath,
    /// The executable that looked for it.
    pub process: String,
    /// The probe that ran.
    pub probe: String,
}

/// `--holdout`: what was kept out of the recording, and how the first slim image answered it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Holdout {
    /// Of the requests that could be kept out.
    pub fraction: f64,
    /// By which they were drawn.
    pub seed: u64,
    /// Their names, sorted.
    pub names: Vec<String>,
    /// How many count: those of which the original is sure itself.
    pub kept_out: u64,
    /// How many were answered as by the original, before any repair.
    pub passed: u64,
    /// Those that were not.
    pub failures: Vec<Difference>,
}

/// A trace file that went into the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TraceUse {
    /// Where it was.
    pub path: String,
    /// SHA-256 of the file as hex.
    pub sha256: String,
    /// The image it was recorded from, as it was called.
    pub image: String,
    /// Its ID.
    pub id: String,
    /// The recorded command line.
    pub argv: Vec<String>,
    /// Paths in it.
    pub paths: u64,
    /// Paths that only it brought.
    pub new_paths: u64,
    /// Requests that both images were asked again.
    pub asked: u64,
    /// Why not all of it was asked again. `None`: all was.
    pub not_asked: Option<String>,
}

impl std::ops::AddAssign for Compared {
    fn add_assign(&mut self, other: Self) {
        self.answers += other.answers;
        self.whole += other.whole;
        self.masked += other.masked;
        self.status_only += other.status_only;
    }
}

/// How closely answers were compared. `answers` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Compared {
    /// Answers compared.
    pub answers: u64,
    /// Byte for byte.
    pub whole: u64,
    /// Apart from pieces that differed between two answers of the original.
    pub masked: u64,
    /// By status (and type) only: the original never gave the same body twice, or it was too long.
    pub status_only: u64,
}

/// One answer that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Difference {
    /// The request's name.
    pub request: String,
    /// What the original answered.
    pub expected: String,
    /// What the slim image answered.
    pub got: String,
}

/// The recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Trace {
    /// Nothing was lost.
    pub complete: bool,
    /// Which recorders ran: `fanotify`, `syscalls (user-notification)`.
    pub recorders: Vec<String>,
    /// Why one is missing; empty when both ran.
    pub why: String,
    /// Events folded: accesses, equal ones of one process image counted once.
    pub events: u64,
    /// Recording runs.
    pub runs: u32,
    /// Every run became quiet before its settle bound ran out.
    pub settled: bool,
    /// How many paths each run added; the last says whether another run would pay.
    pub new_paths_per_run: Vec<u64>,
    /// Notes of the sensor.
    pub notes: Vec<String>,
}
