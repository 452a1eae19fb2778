//! Images as documents: references, transports, indexes, manifests, configurations, layers. Pure, no I/O.

pub mod config;
pub mod digest;
pub mod docker_archive;
pub mod entry;
pub mod file_list;
pub mod glob;
pub mod json;
pub mod layer;
pub mod layer_stamp;
pub mod layer_stream;
pub mod layout;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod registry;
pub mod tar_entry;
pub mod tar_header;
pub mod tar_path;
pub mod tar_pax;
pub mod tar_reader;
pub mod transport;
pub mod two_digests;
pub mod zstd_window;

pub use config::Config;
pub use digest::{Algorithm, Digest, Hasher};
pub use manifest::{Compression, Manifest};
pub use platform::Platform;
pub use reference::Reference;
pub use transport::Transport;
