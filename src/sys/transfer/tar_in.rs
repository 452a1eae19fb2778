//! Reads things from a tar stream.

use std::io::{BufReader, Read};

use super::{Item, Sink};
use crate::fault::{Fault, Result};
use crate::image::tar_entry::{EntryKind, Verdict};
use crate::image::tar_reader::{Limits, TarReader};

/// The content of one entry.
struct Content<'a, R>(&'a mut TarReader<R>);

impl<R: std::io::BufRead> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let chunk = self.0.chunk().map_err(std::io::Error::other)?;
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.0.consume(count);
        Ok(count)
    }
}

/// Hands all entries of the stream to `sink`, with every name kept below it.
///
/// *Errors:* what is no tar; names with `..`; names that layers of images use for what is gone (`.wh.`), which could not be told apart.
pub fn read_tar(source: impl Read, limits: Limits, sink: &mut dyn Sink) -> Result<u64> {
    let mut reader = TarReader::new(BufReader::with_capacity(256 << 10, source), limits);
    while let Some(verdict) = reader.next_verdict()? {
        let entry = match verdict {
            Verdict::Make(entry) => entry,
            Verdict::Whiteout(path) | Verdict::Opaque(path) => {
                return Err(Fault::invalid(format!("an entry hides {path}, as in a layer of an image"))
                    .hint("leave out names that start with .wh."));
            }
            Verdict::Ignore => continue,
        };
        let item = Item { path: entry.path, kind: entry.kind, attributes: entry.attributes, size: entry.size, data: None };
        match item.kind {
            EntryKind::File => sink.put_stream(item, &mut Content(&mut reader))?,
            _ => sink.put(item)?,
        }
    }
    Ok(reader.bytes())
}
