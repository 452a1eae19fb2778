//! Room image.

pub mod layer;
pub mod layer_stamp;
pub mod layer_stream;
pub mod tar_entry;
pub mod tar_header;
pub mod tar_path;
pub mod tar_pax;
pub mod tar_reader;
