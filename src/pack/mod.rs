//! Pack: turns a keep set into an image: one layer with content from the untouched image, and its config.

pub mod agent;
pub mod archive;
pub mod compressed;
pub mod config;
pub mod layer;
pub mod overlay;
mod patch;
pub mod source;
pub mod sparse;

pub use source::PristineImage;
