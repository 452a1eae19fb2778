//! The event log: one line for each change of a container's state, appended by many processes.

use std::path::Path;

use super::file;
use crate::fault::Result;
use crate::record::life::Event;

/// When a log is moved to `….1`, in bytes.
const LIMIT: u64 = 4 << 20;

/// Appends one event. A line is shorter than PIPE_BUF and written at once, so that the lines of two processes do not mix.
pub fn append(path: &Path, event: &Event) -> Result<()> {
    if let Some(dir) = path.parent() {
        file::ensure_dir(dir, 0o700)?;
    }
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LIMIT) {
        file::rename(path, &path.with_extension("log.1"))?;
    }
    file::append(path, &event.line())?;
    Ok(())
}
