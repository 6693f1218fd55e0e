//! Releases on this host: taking them in (from a file or over the tether), keeping their content, and
//! giving their images to the engine.

pub mod config;
mod content;
pub mod delta;
pub mod intake;
pub mod load;
pub mod release;
#[cfg(test)]
pub(crate) mod resuming;
pub mod room;
mod stream;

pub use content::{BlobWriter, Content, Unneeded};
pub use release::Loaded;
pub use stream::StreamReader;
