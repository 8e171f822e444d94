//! Report: what a build found out and did, as one document. The JSON is the model; everything that people
//! read (terminal, `why`, and what comes later) is a view of it.

pub mod bom;
pub mod build;
pub mod config;
pub mod figures;
pub mod file;
pub mod journal;
pub mod model;
pub mod packages;
pub mod removed;
pub mod scan;
pub mod schema;
pub mod secrets;
pub mod show;
pub mod surface;
pub mod verdict;
pub mod views;
pub mod why;

pub use build::{Builder, Finished, Options};
pub use file::{check_path, load, load_removed};
pub use journal::Journal;
pub use model::{Report, SCHEMA, VerdictKind};
pub use secrets::Redactor;
