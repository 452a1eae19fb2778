//! What a distribution says of its packages.

use std::io::Read as _;
use std::path::Path;

use super::file;

/// The largest change log that is read, compressed and not, in bytes.
const LIMIT: u64 = 4 << 20;

/// The text of a compressed change log; `None` when there is none.
pub fn changelog(path: &Path) -> Option<String> {
    let packed = file::find(path, LIMIT).ok()??;
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(packed.as_slice()).take(LIMIT).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    #[test]
    fn a_change_log_is_read_and_its_absence_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changelog.gz");
        let mut packed = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        packed.write_all(b"runc (1) fixes CVE-2024-21626").unwrap();
        packed.finish().unwrap();
        assert!(super::changelog(&path).unwrap().contains("CVE-2024-21626"));
        assert_eq!(super::changelog(&dir.path().join("none")), None);
        std::fs::write(&path, "not gzip").unwrap();
        assert_eq!(super::changelog(&path), None);
    }
}
