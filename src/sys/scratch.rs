//! Nameless files in memory: where a program writes its last words when a pipe would tie its children to us.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::FromRawFd as _;

/// How much of the end is read, in bytes.
const TAIL: u64 = 16 << 10;

/// Makes a nameless file in memory, for the errors of a program whose children keep them open.
#[allow(unsafe_code)]
pub fn create() -> std::io::Result<File> {
    // SAFETY: the name ends in NUL; the descriptor is new and belongs to nobody else.
    unsafe {
        let fd = libc::memfd_create(c"rkbox".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 { Err(std::io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd)) }
    }
}

/// The end of what was written to a file of [`create`].
pub fn tail(mut file: File) -> String {
    let mut text = Vec::new();
    let length = file.metadata().map_or(0, |meta| meta.len());
    let read = file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).and_then(|_| file.read_to_end(&mut text));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&text).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_end_of_what_was_written_is_read() {
        let mut file = create().unwrap();
        file.write_all(&[b'x'; 20 << 10]).unwrap();
        file.write_all(b"last\n\n").unwrap();
        let tail = tail(file);
        assert!(tail.ends_with("xlast") && tail.len() < 16 << 10, "{}", tail.len());
    }
}
