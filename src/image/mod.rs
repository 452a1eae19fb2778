//! Images as documents: references, transports, indexes, manifests, configurations. Pure, no I/O.

pub mod config;
pub mod digest;
pub mod docker_archive;
pub mod layout;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod transport;

pub use config::Config;
pub use digest::Digest;
pub use manifest::{Compression, Manifest};
pub use platform::Platform;
pub use reference::Reference;
pub use transport::Transport;
