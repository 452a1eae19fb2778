//! Archives that cannot be read in place: standard input, pipes, compressed files.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use crate::fault::{Fault, Kind, Result};
use crate::image::Transport;
use crate::sys::new_file::{self, Spool};
use crate::sys::{Host, signal};

/// A plain copy of an archive that is compressed or cannot be sought in; it lives as long as the answer.
///
/// The copy is made in the file system of `near`.
pub(super) fn spooled(host: &Host, source: &Transport, near: &Path, explain: bool) -> Result<Option<Spool>> {
    if matches!(source, Transport::Oci { .. }) {
        return Ok(None);
    }
    let path = source.path();
    let (is_input, input) = (path == Path::new("-"), std::io::stdin());
    if is_input && input.is_terminal() {
        return Err(Fault::invalid("standard input is a terminal").hint("name an archive, or redirect standard input"));
    }
    // Nothing is to be taken back yet: an interrupted read may end at once.
    signal::restore()?;
    let plain = new_file::spool((!is_input).then_some(path), near, host.keep_free)?;
    signal::install()?;
    if explain && (is_input || plain.is_some()) {
        let fault = Fault::new(Kind::Unimplemented, "a script cannot read a stream twice");
        return Err(fault.hint("unpack the archive into a plain file first: gzip -dc, or zstd -dc"));
    }
    Ok(plain)
}

/// Where an archive is read that is not read where it lies: its plain copy, or standard input.
pub(super) fn elsewhere(source: &Transport, spooled: Option<&Spool>) -> Option<Transport> {
    let path = match spooled {
        Some(plain) => plain.path(),
        None if source.path() == Path::new("-") => PathBuf::from("/dev/stdin"),
        None => return None,
    };
    Some(source.clone().at(path))
}
