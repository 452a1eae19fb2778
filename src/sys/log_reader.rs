//! Reading a log whose writer cuts it into files while it is read: no record is missed or read twice.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::log_file::nth;

/// The most files of one log that are looked for.
const MOST: u32 = 1000;

/// A place in a log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: Option<BufReader<File>>,
    inode: u64,
    /// The start of a record that is not written whole yet.
    rest: Vec<u8>,
}

fn open(path: &Path) -> Option<(BufReader<File>, u64)> {
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
    let inode = file.metadata().ok()?.ino();
    Some((BufReader::with_capacity(64 << 10, file), inode))
}

fn inode_of(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

impl LogReader {
    /// The start of the oldest file of the log at `path`, which needs not be there yet.
    pub fn oldest(path: &Path) -> Self {
        let mut reader = LogReader { path: path.to_path_buf(), file: None, inode: 0, rest: Vec::new() };
        reader.rewind();
        reader
    }

    fn rewind(&mut self) {
        let last = (1..MOST).take_while(|n| nth(&self.path, *n).exists()).last().unwrap_or(0);
        // A rotation in between moves the files on: then the one before is opened.
        let found = (0..=last + 1).rev().find_map(|n| open(&nth(&self.path, n)));
        if let Some((file, inode)) = found {
            (self.file, self.inode) = (Some(file), inode);
        }
    }

    /// Reads the next whole record into `record`, without its newline; false when there is none now.
    pub fn next(&mut self, record: &mut Vec<u8>) -> bool {
        loop {
            if self.read_line(record) {
                return true;
            }
            if !self.advance(record) {
                return false;
            }
            if !record.is_empty() {
                return true;
            }
        }
    }

    fn read_line(&mut self, record: &mut Vec<u8>) -> bool {
        let Some(file) = &mut self.file else { return false };
        record.clear();
        if file.read_until(b'\n', &mut self.rest).is_err() || self.rest.last() != Some(&b'\n') {
            return false;
        }
        std::mem::swap(record, &mut self.rest);
        self.rest.clear();
        record.pop();
        true
    }

    /// Goes on to the file after this one, where there is one; what was appended to this one before it was moved is read first, into
    /// `record`. False when this is the newest.
    fn advance(&mut self, record: &mut Vec<u8>) -> bool {
        record.clear();
        if self.file.is_none() {
            self.rewind();
            return self.file.is_some();
        }
        if inode_of(&self.path) == Some(self.inode) {
            return false;
        }
        // It was moved: nobody appends to it any more.
        if self.read_line(record) {
            return true;
        }
        let find = || {
            (1..MOST).take_while(|n| *n < 3 || nth(&self.path, n - 1).exists()).find(|n| inode_of(&nth(&self.path, *n)) == Some(self.inode))
        };
        // A file that is just being moved can be missed once.
        let Some(place) = find().or_else(find) else {
            // Moved away by somebody else, or so far back that it is gone.
            let before = self.inode;
            self.rewind();
            return self.inode != before && self.fresh();
        };
        // Between the move of this one and the making of the next there is none.
        let Some((file, inode)) = open(&nth(&self.path, place - 1)) else { return false };
        // Moved once more in between: found again in the next round.
        if inode == self.inode {
            return true;
        }
        (self.file, self.inode) = (Some(file), inode);
        self.fresh()
    }

    fn fresh(&mut self) -> bool {
        self.rest.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::log_file::LogFile;

    #[test]
    fn a_reader_follows_through_rotations() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("log");
        let mut reader = LogReader::oldest(&path);
        let (mut record, mut seen) = (Vec::new(), Vec::new());
        assert!(!reader.next(&mut record));
        let mut log = LogFile::open(&path, 200, 5).unwrap();
        let mut random = 7_u32;
        for n in 0..2000 {
            log.append(format!("record {n}\n").as_bytes(), |_| Vec::new());
            random = random.wrapping_mul(1_103_515_245).wrapping_add(12345);
            if random >> 28 < 4 {
                while reader.next(&mut record) {
                    seen.push(String::from_utf8(record.clone()).unwrap());
                }
            }
        }
        while reader.next(&mut record) {
            seen.push(String::from_utf8(record.clone()).unwrap());
        }
        let all: Vec<String> = (0..2000).map(|n| format!("record {n}")).collect();
        assert!(seen == all, "{} of {}, first difference at {:?}", seen.len(), all.len(), seen.iter().zip(&all).position(|(a, b)| a != b));
    }

    #[test]
    fn half_a_record_waits_for_its_end() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("log");
        std::fs::write(&path, "one\ntw").unwrap();
        let (mut reader, mut record) = (LogReader::oldest(&path), Vec::new());
        assert!(reader.next(&mut record) && record == b"one");
        assert!(!reader.next(&mut record));
        use std::io::Write as _;
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"o\n").unwrap();
        assert!(reader.next(&mut record) && record == b"two");
    }
}
