//! What a file system can still take, and what of it is kept back for the host.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::bundle::size;
use crate::fault::{Fault, Kind, Result, kind_of_errno};

/// How much of a file system no layer may take: the host needs some to go on, and to be cleaned up.
///
/// *Shape:* `5%` of its bytes and of its inodes; `10g` bytes, and then of its inodes the default share; `0` is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Percent.
    Share(u8),
    /// Bytes.
    Bytes(u64),
}

/// Percent that are kept back when nobody says otherwise.
const SHARE: u8 = 5;

impl Default for Reserve {
    fn default() -> Self {
        Reserve::Share(SHARE)
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reserve::Share(share) => write!(f, "{share} % of the whole"),
            Reserve::Bytes(bytes) => f.write_str(&size::text(*bytes)),
        }
    }
}

impl FromStr for Reserve {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Fault::invalid(format!("{text:?} is not what can be kept free")).hint("the form is 5%, 10g or 0");
        match text.strip_suffix('%') {
            Some(share) => share.parse().ok().filter(|share| *share < 100).map(Reserve::Share).ok_or_else(bad),
            None => size::parse(text).ok().and_then(|bytes| u64::try_from(bytes).ok()).map(Reserve::Bytes).ok_or_else(bad),
        }
    }
}

impl Reserve {
    fn of_bytes(self, whole: u64) -> u64 {
        match self {
            Reserve::Share(share) => part(whole, share),
            Reserve::Bytes(bytes) => bytes,
        }
    }

    fn of_inodes(self, whole: u64) -> u64 {
        match self {
            Reserve::Share(share) => part(whole, share),
            Reserve::Bytes(0) => 0,
            Reserve::Bytes(_) => part(whole, SHARE),
        }
    }
}

fn part(whole: u64, percent: u8) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(percent) / 100).unwrap_or(whole)
}

/// How much of something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stock {
    /// Free for root.
    pub free: u64,
    /// What no layer may take.
    pub kept: u64,
}

impl Stock {
    /// What a layer may take.
    pub fn usable(self) -> u64 {
        self.free.saturating_sub(self.kept)
    }
}

/// What a file system can still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: Stock,
    /// Files; `None` where they are made as they are needed (btrfs).
    pub inodes: Option<Stock>,
}

/// The room on the file system of `path`, of which `reserve` is kept back.
pub fn room(path: &Path, reserve: Reserve) -> Result<Room> {
    let stat = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| Fault::new(kind_of_errno(errno), format!("statvfs {}: {}", path.display(), errno.desc())))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let inodes = Stock { free: stat.files_available(), kept: reserve.of_inodes(stat.files()) };
    Ok(Room {
        bytes: Stock { free: bytes(stat.blocks_available()), kept: reserve.of_bytes(bytes(stat.blocks())) },
        inodes: (stat.files() > 0).then_some(inodes),
    })
}

/// Says that `what` does not fit on the file system of `above`, with what there is `of` bytes or inodes.
pub fn used_up(what: &str, above: &Path, (of, stock): (&str, Stock), reserve: Reserve) -> Fault {
    let (Stock { free, kept }, above) = (stock, above.display());
    let message = format!(
        "{what} does not fit on the file system of {above}: {free} {of} are free, and {kept} ({reserve}) are kept back for the host"
    );
    Fault::new(Kind::ResourceExhausted, message)
        .hint("make room there, then try again; rkbox gc and rkbox image prune take back what nobody uses")
        .hint("rkbox --root DIR keeps images and layers on another file system; --keep-free SHARE keeps back less of this one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_or_a_size_is_kept_back() {
        for (text, reserve, bytes, inodes) in [
            ("5%", Reserve::Share(5), 50, 50),
            ("0%", Reserve::Share(0), 0, 0),
            ("99%", Reserve::Share(99), 990, 990),
            ("0", Reserve::Bytes(0), 0, 0),
            ("1k", Reserve::Bytes(1024), 1024, 50),
        ] {
            let read: Reserve = text.parse().unwrap();
            assert_eq!((read, read.of_bytes(1000), read.of_inodes(1000)), (reserve, bytes, inodes), "{text}");
        }
        assert_eq!(part(u64::MAX, 99), u64::MAX / 100 * 99 + 14);
        assert_eq!(Stock { free: 5, kept: 9 }.usable(), 0);
        for bad in ["", "%", "100%", "-1%", "5.5%", "-1", "five", "5 %x", "9999999999t"] {
            let fault = bad.parse::<Reserve>().unwrap_err();
            assert!(fault.hints()[0].contains("5%"), "{bad}");
        }
    }
}
