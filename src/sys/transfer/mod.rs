//! Files into and out of containers, through descriptors alone: no path of a container is ever looked up by the host's eyes, and no program
//! of an image is run (CVE-2018-15664, CVE-2019-14271 and their kin).
//!
//! A container is entered through `/proc/PID/root`: what is opened below that descriptor is opened in the container's own mount
//! namespace, with its volumes, and `RESOLVE_IN_ROOT` keeps every link and `..` inside, however fast the container turns them.

mod creator;
mod root;
mod shifted;
mod sink;
mod tar_in;
mod tar_out;
mod walk;

use std::fs::File;

use crate::fault::Result;
use crate::image::tar_entry::{Attributes, EntryKind};
use crate::image::tar_path::TarPath;

pub use creator::create_as;
pub use root::{Found, Root};
pub use shifted::{Shifted, Towards};
pub use sink::{Owners, TreeSink};
pub use tar_in::read_tar;
pub use tar_out::TarSink;
pub use walk::{Bounds, walk};

/// One thing on its way.
#[derive(Debug)]
pub struct Item {
    /// Below the place that things are put into.
    pub path: TarPath,
    /// What it is.
    pub kind: EntryKind,
    /// How it is.
    pub attributes: Attributes,
    /// Bytes of content when it was looked at.
    pub size: u64,
    /// The content of a file, open; none where the sink is handed it in another way.
    pub data: Option<File>,
}

/// Where things are put.
pub trait Sink {
    /// Puts one thing; parents come before children.
    fn put(&mut self, item: Item) -> Result<()>;
    /// Puts a file whose content comes from a stream, exactly `item.size` bytes.
    fn put_stream(&mut self, item: Item, content: &mut dyn std::io::Read) -> Result<()>;
    /// What can only be done when all is there.
    fn finish(&mut self) -> Result<()>;
}
