//! Writes things as a tar stream (GNU names, PAX attributes), which every tar reads.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Item, Sink};
use crate::fault::{Fault, Kind, Result};
use crate::image::tar_entry::{Attributes, EntryKind};

/// Writes things as a tar stream.
pub struct TarSink<W: Write> {
    builder: tar::Builder<W>,
}

impl<W: Write> TarSink<W> {
    /// Starts a stream.
    pub fn new(out: W) -> Self {
        TarSink { builder: tar::Builder::new(out) }
    }

    fn header(kind: tar::EntryType, attributes: &Attributes, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode);
        header.set_uid(attributes.uid.into());
        header.set_gid(attributes.gid.into());
        header.set_mtime(u64::try_from(attributes.mtime.seconds).unwrap_or(0));
        header.set_size(size);
        header
    }

    fn extensions(&mut self, attributes: &Attributes) -> std::io::Result<()> {
        if attributes.xattrs.is_empty() {
            return Ok(());
        }
        let named: Vec<(String, &[u8])> = attributes
            .xattrs
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value.as_slice()))
            .collect();
        self.builder.append_pax_extensions(named.iter().map(|(name, value)| (name.as_str(), *value)))
    }

    fn put_file(&mut self, item: &Item, content: &mut dyn Read) -> std::io::Result<()> {
        self.extensions(&item.attributes)?;
        let mut header = Self::header(tar::EntryType::Regular, &item.attributes, item.size);
        // A file that grows or shrinks meanwhile: exactly what was announced, zeros for what is gone.
        let exact = content.chain(std::io::repeat(0)).take(item.size);
        self.builder.append_data(&mut header, path(item), exact)
    }
}

fn path(item: &Item) -> &Path {
    Path::new(OsStr::from_bytes(item.path.as_bytes()))
}

fn written(error: std::io::Error) -> Fault {
    let kind = if error.kind() == std::io::ErrorKind::BrokenPipe { Kind::Cancelled } else { Kind::Internal };
    Fault::from_error(kind, error).doing("writing the tar stream")
}

impl<W: Write> Sink for TarSink<W> {
    fn put(&mut self, mut item: Item) -> Result<()> {
        let attributes = item.attributes.clone();
        let numbers = |header: &mut tar::Header, major: u64, minor: u64| {
            header.set_device_major(u32::try_from(major).unwrap_or(0))?;
            header.set_device_minor(u32::try_from(minor).unwrap_or(0))
        };
        let put = match item.kind.clone() {
            EntryKind::File => {
                let mut data = item.data.take();
                match &mut data {
                    Some(data) => self.put_file(&item, data),
                    None => self.put_file(&item, &mut std::io::empty()),
                }
            }
            EntryKind::Directory => {
                let mut name = item.path.as_bytes().to_vec();
                name.push(b'/');
                let mut header = Self::header(tar::EntryType::Directory, &attributes, 0);
                self.builder.append_data(&mut header, Path::new(OsStr::from_bytes(&name)), std::io::empty())
            }
            EntryKind::Symlink(target) => {
                let mut header = Self::header(tar::EntryType::Symlink, &attributes, 0);
                self.builder.append_link(&mut header, path(&item), Path::new(OsStr::from_bytes(&target)))
            }
            EntryKind::Hardlink(first) => {
                let mut header = Self::header(tar::EntryType::Link, &attributes, 0);
                self.builder.append_link(&mut header, path(&item), Path::new(OsStr::from_bytes(first.as_bytes())))
            }
            EntryKind::CharDevice(major, minor) => {
                let mut header = Self::header(tar::EntryType::Char, &attributes, 0);
                numbers(&mut header, major, minor).and_then(|()| self.builder.append_data(&mut header, path(&item), std::io::empty()))
            }
            EntryKind::BlockDevice(major, minor) => {
                let mut header = Self::header(tar::EntryType::Block, &attributes, 0);
                numbers(&mut header, major, minor).and_then(|()| self.builder.append_data(&mut header, path(&item), std::io::empty()))
            }
            EntryKind::Fifo => {
                let mut header = Self::header(tar::EntryType::Fifo, &attributes, 0);
                self.builder.append_data(&mut header, path(&item), std::io::empty())
            }
        };
        put.map_err(written)
    }

    fn put_stream(&mut self, item: Item, content: &mut dyn Read) -> Result<()> {
        self.put_file(&item, content).map_err(written)
    }

    fn finish(&mut self) -> Result<()> {
        self.builder.finish().and_then(|()| self.builder.get_mut().flush()).map_err(written)
    }
}
