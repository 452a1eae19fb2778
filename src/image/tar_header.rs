//! One 512-byte tar header: checksum, numbers that never wrap, strings.
//!
//! The layout of the fields is the `tar` crate's; the numbers are read here, because a number that does not fit must be
//! refused by name and not cut.

use super::tar_entry::TarError;

/// The size of a tar record.
pub const BLOCK: usize = 512;
/// The largest size or time, in bytes or seconds: what a double holds exactly.
const MAX_NUMBER: i128 = 1 << 53;

/// A header whose checksum is right.
pub struct Header<'a> {
    inner: &'a tar::Header,
    at: u64,
}

impl<'a> Header<'a> {
    /// Checks the checksum of the block found `at` bytes into the tar.
    ///
    /// *Errors:* `Malformed`. Both the unsigned sum of POSIX and the signed one of old writers are right.
    pub fn parse(block: &'a [u8; BLOCK], at: u64) -> Result<Self, TarError> {
        let header = Header { inner: tar::Header::from_byte_slice(block), at };
        let stored = header.number("checksum", &header.inner.as_old().cksum)?;
        // The checksum itself counts as spaces.
        let (before, after) = (&block[..148], &block[156..]);
        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let high = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte >> 7)).sum::<u32>();
        let unsigned = i128::from(sum(before) + 8 * u32::from(b' ') + sum(after));
        let signed = unsigned - 256 * i128::from(high(before) + high(after));
        if stored == unsigned || stored == signed { Ok(header) } else { Err(header.malformed("the header's checksum is wrong")) }
    }

    /// The typeflag.
    pub fn kind(&self) -> u8 {
        self.inner.as_old().linkflag[0]
    }

    /// The name, the ustar prefix included.
    pub fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.inner.as_old().name);
        let Some(ustar) = self.inner.as_ustar() else { return name.to_vec() };
        // star writes its times where the end of the prefix would be, and marks the header with "tar\0" at its end.
        let star = &self.inner.as_bytes()[508..] == b"tar\0";
        let prefix = until_nul(if star { &ustar.prefix[..131] } else { &ustar.prefix });
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The link target of the header itself.
    pub fn link_name(&self) -> Vec<u8> {
        until_nul(&self.inner.as_old().linkname).to_vec()
    }

    /// The size field.
    pub fn size(&self) -> Result<u64, TarError> {
        self.within("size", &self.inner.as_old().size, MAX_NUMBER)
    }

    /// The permission bits; the type bits that some writers add are dropped.
    pub fn mode(&self) -> Result<u32, TarError> {
        let mode = self.within("mode", &self.inner.as_old().mode, i128::from(u32::MAX))?;
        Ok(u32::try_from(mode & 0o7777).unwrap_or(0))
    }

    /// The owner.
    pub fn uid(&self) -> Result<u32, TarError> {
        self.id("uid", &self.inner.as_old().uid)
    }

    /// The group.
    pub fn gid(&self) -> Result<u32, TarError> {
        self.id("gid", &self.inner.as_old().gid)
    }

    /// The modification time, in seconds; may be before 1970.
    pub fn mtime(&self) -> Result<i64, TarError> {
        let seconds = self.number("mtime", &self.inner.as_old().mtime)?;
        i64::try_from(seconds).ok().filter(|&s| i128::from(s).abs() <= MAX_NUMBER).ok_or_else(|| self.malformed("mtime is out of range"))
    }

    /// Device major and minor: 12 and 20 bits, as the kernel keeps them.
    pub fn device(&self) -> Result<(u64, u64), TarError> {
        let bytes = self.inner.as_bytes();
        Ok((self.within("device major", &bytes[329..337], 0xfff)?, self.within("device minor", &bytes[337..345], 0xf_ffff)?))
    }

    fn id(&self, field: &str, bytes: &[u8]) -> Result<u32, TarError> {
        let id = self.within(field, bytes, i128::from(u32::MAX) - 1)?;
        u32::try_from(id).map_err(|_| self.malformed(&format!("{field} is out of range")))
    }

    fn within(&self, field: &str, bytes: &[u8], max: i128) -> Result<u64, TarError> {
        let number = self.number(field, bytes)?;
        if !(0..=max).contains(&number) {
            return Err(self.malformed(&format!("{field} {number} is out of range")));
        }
        u64::try_from(number).map_err(|_| self.malformed(&format!("{field} is out of range")))
    }

    /// Reads an octal or base-256 field of at most 12 bytes, which always fits.
    fn number(&self, field: &str, bytes: &[u8]) -> Result<i128, TarError> {
        let first = bytes.first().copied().unwrap_or(0);
        if first & 0x80 != 0 {
            let start = if first & 0x40 != 0 { -1 } else { i128::from(first & 0x7f) };
            return Ok(bytes.iter().skip(1).fold(start, |number, &byte| (number << 8) | i128::from(byte)));
        }
        let text = until_nul(bytes.trim_ascii_start()).trim_ascii();
        text.iter().try_fold(0_i128, |number, &digit| match digit {
            b'0'..=b'7' => Ok(number * 8 + i128::from(digit - b'0')),
            _ => Err(self.malformed(&format!("{field} {:?} is not a number", text.escape_ascii().to_string()))),
        })
    }

    /// Says that something in this header is not well formed.
    pub fn malformed(&self, why: &str) -> TarError {
        TarError::Malformed { at: self.at, why: why.to_owned() }
    }
}

/// The bytes before the first NUL.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(change: impl FnOnce(&mut [u8; BLOCK])) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..1].copy_from_slice(b"f");
        block[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut block);
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    #[test]
    fn numbers_are_refused_and_never_wrapped() {
        // uid as base 256: 2^32, 2^32 - 1, -1.
        for bytes in [[0x80, 0, 0, 1, 0, 0, 0, 0], [0x80, 0, 0, 0, 255, 255, 255, 255], [255; 8]] {
            let raw = block(|b| b[108..116].copy_from_slice(&bytes));
            assert!(Header::parse(&raw, 0).unwrap().uid().is_err());
        }
        let raw = block(|b| b[108..116].copy_from_slice(&[0x80, 0, 0, 0, 255, 255, 255, 254]));
        assert_eq!(Header::parse(&raw, 0).unwrap().uid().unwrap(), u32::MAX - 1);
        // Device 4097:3 is 1:3 to whoever keeps 12 bits of it.
        let raw = block(|b| {
            b[329..337].copy_from_slice(b"0010001\0");
            b[337..345].copy_from_slice(b"0000003\0");
        });
        assert!(Header::parse(&raw, 0).unwrap().device().is_err());
        let raw = block(|b| b[136..148].copy_from_slice(&[255; 12]));
        assert_eq!(Header::parse(&raw, 0).unwrap().mtime().unwrap(), -1);
        let raw = block(|b| b[124..136].copy_from_slice(&[255; 12]));
        assert!(Header::parse(&raw, 0).unwrap().size().is_err());
        let raw = block(|b| b[124..136].copy_from_slice(b"0000000001x\0"));
        assert!(Header::parse(&raw, 0).unwrap().size().is_err());
    }

    #[test]
    fn a_wrong_checksum_is_refused_and_a_prefix_is_joined() {
        let mut raw = block(|b| b[345..348].copy_from_slice(b"usr"));
        assert_eq!(Header::parse(&raw, 0).unwrap().name(), b"usr/f");
        raw[0] = b'g';
        assert!(Header::parse(&raw, 0).is_err());
    }
}
