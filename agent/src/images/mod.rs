//! Releases on this host: taking them in (from a file or over the tether), keeping their content, and
//! giving their images to the engine.

pub mod config;
mod content;
pub mod intake;
pub mod load;
pub mod release;
pub mod room;

pub use content::{BlobWriter, Content};
pub use release::Loaded;
