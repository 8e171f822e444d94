//! Store: where images lie outside of an engine, read and written without one: directories, archives, registries,
//! and their layers unpacked on this machine.

pub mod archive;
pub mod cache;
pub mod compress;
pub mod digest;
pub mod image;
pub mod layout;
pub mod limits;
pub mod manifest;
pub mod members;
pub mod merge;
pub mod outgoing;
pub mod place;
pub mod push;
pub mod registry;
pub mod sink;
pub mod source;
pub mod transport;
mod trouble;
pub mod unpack;
pub mod whiteout;

pub use cache::LayerCache;
pub use image::Image;
pub use registry::Access;
pub use source::Source;
pub use transport::Transport;
