//! Image: a read-only view of what a container image holds: paths, the merged file tree, its config.

pub mod config;
pub mod path;
pub mod reference;
pub mod tree;

pub use config::ImageConfig;
pub use path::ImagePath;
pub use reference::Reference;
pub use tree::{Entry, Kind, Tree};
