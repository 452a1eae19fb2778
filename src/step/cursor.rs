//! Moves `last_reserved_ip.N` of a pool.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Action, Tenure, Undone, Way, pool};
use crate::fault::{Kind, Result};
use crate::script::{Script, quote};
use crate::sys::file::{self, Durable, FileError};
use crate::sys::Host;

/// More than an address is garbage, which reads as the empty text.
const LIMIT: u64 = 256;

/// Moves `last_reserved_ip.N` of a pool, so that the next address is another one.
///
/// Only a rollback moves it back, and only if nobody moved it since; the removal of a box does not, or a container that dies
/// and starts again would get the same address for ever. *Source:* host-local `disk.Store.Reserve`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// The pool.
    pub dir: PathBuf,
    /// Index of the range set.
    pub set: usize,
    /// The address just chosen.
    pub last: IpAddr,
}

/// What a cursor file was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorBefore {
    /// Its text.
    pub text: String,
    /// Its permission bits: releases of host-local differ.
    pub mode: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "move the cursor of {dir} to {last}", dir = self.dir.display(), last = self.last)
    }
}

impl Cursor {
    fn path(&self) -> PathBuf {
        self.dir.join(format!("last_reserved_ip.{}", self.set))
    }

    fn current(&self) -> Result<Option<String>> {
        match file::find(&self.path(), LIMIT) {
            Ok(content) => Ok(content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            Err(FileError::TooLarge { .. }) => Ok(Some(String::new())),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes in place, as host-local does: a cursor is a hint, and one that a crash left half written leads to another free address.
    fn write(&self, mode: u32, text: &str) -> Result<()> {
        let (path, text) = (self.path(), text.as_bytes());
        match file::write_in_place(&path, text).map_err(|error| (error.errno(), error)) {
            Err((Some(Errno::ENOENT), _)) => file::create_atomic(&path, mode, text, Durable::No)?,
            Err((Some(Errno::ELOOP), _)) => file::write_atomic(&path, mode, text, Durable::No)?,
            other => other.map_err(|(_, error)| error)?,
        }
        Ok(())
    }
}

impl Action for Cursor {
    /// The file, if there was one.
    type Before = Option<CursorBefore>;
    const TENURE: Tenure = Tenure::Shared;
    const RECLAIMED: bool = false;

    fn look(&self, _host: &Host) -> Result<Option<CursorBefore>> {
        let Some(text) = self.current()? else { return Ok(None) };
        Ok(file::find_mode(&self.path())?.map(|mode| CursorBefore { text, mode }))
    }

    fn already(&self, before: &Option<CursorBefore>) -> bool {
        before.as_ref().is_some_and(|before| before.text == self.last.to_string())
    }

    fn apply(&self, before: &Option<CursorBefore>, _host: &Host) -> Result<()> {
        let mode = before.as_ref().map_or(0o600, |before| before.mode);
        match self.write(mode, &self.last.to_string()) {
            // In a pool that is just made and that nobody could hold.
            Err(fault) if fault.kind() == Kind::AlreadyExists => self.write(mode, &self.last.to_string()),
            other => other,
        }
    }

    fn undo(&self, before: &Option<CursorBefore>, host: &Host) -> Result<Undone> {
        let Some(_held) = pool::hold(host, &self.dir)? else { return Ok(Undone::Done) };
        if self.current()?.as_deref() != Some(self.last.to_string().as_str()) {
            return Ok(Undone::Done);
        }
        match before {
            Some(before) => self.write(before.mode, &before.text)?,
            None => {
                file::remove_file(&self.path())?;
            }
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, Option<CursorBefore>>, out: &mut Script) {
        let path = self.path();
        let path = path.to_string_lossy();
        match way {
            Way::Apply => out.write_file(&path, 0o600, self.last.to_string().as_bytes()),
            Way::Undo(before) => {
                out.raw(&format!("if [ \"$(cat {} 2>/dev/null || true)\" = {} ]; then", quote(&path), self.last));
                match before {
                    Some(before) => out.write_file(&path, before.mode, before.text.as_bytes()),
                    None => out.run(["rm", "-f", &path]),
                }
                out.raw("fi");
            }
        }
    }
}
