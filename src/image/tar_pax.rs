//! PAX records: `LENGTH KEY=VALUE\n`, strict.

use super::tar_entry::{Moment, TarError};

/// The largest extended header, in bytes.
pub const MAX_PAX: u64 = 1 << 20;
/// The largest sum of extended attributes of one file, in bytes.
const MAX_XATTRS: usize = 64 << 10;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an `x` header says about the entry after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pax {
    /// Overrides the name.
    pub path: Option<Vec<u8>>,
    /// Overrides the link target.
    pub linkpath: Option<Vec<u8>>,
    /// Overrides the size, always.
    pub size: Option<u64>,
    /// Overrides the owner.
    pub uid: Option<u32>,
    /// Overrides the group.
    pub gid: Option<u32>,
    /// Overrides the modification time.
    pub mtime: Option<Moment>,
    /// Name and value of each `SCHILY.xattr.*`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pax {
    /// Reads the records of an `x` header found `at` bytes into the tar.
    ///
    /// *Errors:* any record that breaks the grammar, numbers out of range, NUL in a path, sparse files, xattrs over 64 KiB.
    /// *Source:* POSIX pax "Extended Header"; an empty value takes an override back, the last of two wins.
    pub fn parse(content: &[u8], at: u64) -> Result<Self, TarError> {
        let mut pax = Pax::default();
        each_record(content, at, |key, value| pax.take(key, value, at))?;
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), TarError> {
        let malformed = |why: &str| TarError::Malformed { at, why: format!("the PAX {} {why}", key.escape_ascii()) };
        if let Some(name) = key.strip_prefix(XATTR) {
            return self.take_xattr(name, value, at);
        }
        match key {
            b"path" | b"linkpath" if value.contains(&0) => return Err(malformed("contains a NUL byte")),
            b"path" => self.path = some_unless_empty(value),
            b"linkpath" => self.linkpath = some_unless_empty(value),
            b"size" => self.size = integer(value, 1 << 53).ok_or_else(|| malformed("is not a size"))?,
            b"uid" => self.uid = id(value).ok_or_else(|| malformed("is out of range"))?,
            b"gid" => self.gid = id(value).ok_or_else(|| malformed("is out of range"))?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(moment(value).ok_or_else(|| malformed("is not a time"))?),
            sparse if sparse.starts_with(b"GNU.sparse.") => return Err(malformed("asks for a sparse file, which is refused")),
            // Names of owners, atime, ctime, comments and other vendors' words change nothing in a tree.
            _ => {}
        }
        Ok(())
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8], at: u64) -> Result<(), TarError> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(TarError::Malformed { at, why: "the name of an extended attribute is not valid".to_owned() });
        }
        self.xattrs.retain(|(known, _)| known != name);
        self.xattrs.push((name.to_vec(), value.to_vec()));
        if self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_XATTRS {
            return Err(TarError::Limit { what: "the extended attributes of one entry", limit: MAX_XATTRS as u64 });
        }
        Ok(())
    }
}

/// Checks the grammar of the records of a `g` header; they change nothing (git puts its commit there).
pub fn check_global(content: &[u8], at: u64) -> Result<(), TarError> {
    each_record(content, at, |_, _| Ok(()))
}

fn each_record(mut rest: &[u8], at: u64, mut take: impl FnMut(&[u8], &[u8]) -> Result<(), TarError>) -> Result<(), TarError> {
    let malformed = || TarError::Malformed { at, why: "a PAX record is not well formed".to_owned() };
    while !rest.is_empty() {
        let space = rest.iter().take(21).position(|&byte| byte == b' ').ok_or_else(malformed)?;
        let length = integer(&rest[..space], MAX_PAX).flatten().and_then(|n| usize::try_from(n).ok()).ok_or_else(malformed)?;
        if length <= space + 1 || length > rest.len() {
            return Err(malformed());
        }
        let (record, after) = rest.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(malformed)?;
        let equals = record.iter().position(|&byte| byte == b'=').filter(|&at| at > 0).ok_or_else(malformed)?;
        take(&record[..equals], &record[equals + 1..])?;
        rest = after;
    }
    Ok(())
}

fn some_unless_empty(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

/// Plain decimal digits up to `max`; the outer `None` is a refusal, the inner an empty value.
fn integer(value: &[u8], max: u64) -> Option<Option<u64>> {
    if value.is_empty() {
        return Some(None);
    }
    let number = value.iter().try_fold(0_u64, |number, &digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })?;
    (number <= max).then_some(Some(number))
}

fn id(value: &[u8]) -> Option<Option<u32>> {
    let number = integer(value, u64::from(u32::MAX) - 1)?;
    Some(number.and_then(|id| u32::try_from(id).ok()))
}

/// Seconds with an optional fraction, whose digits after the ninth are dropped; floor for times before 1970.
fn moment(value: &[u8]) -> Option<Moment> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let whole = integer(parts.next()?, 1 << 53).flatten()?;
    let fraction = parts.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0_u32, |nanos, place| nanos * 10 + u32::from(fraction.get(place).map_or(0, |digit| digit - b'0')));
    let seconds = i64::try_from(whole).ok()?;
    Some(match (negative, nanos) {
        (false, nanos) => Moment { seconds, nanos },
        (true, 0) => Moment { seconds: -seconds, nanos: 0 },
        (true, nanos) => Moment { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let pax = Pax::parse(b"12 path=a/b\n6 a=b\n23 mtime=-1.5000000009\n25 SCHILY.xattr.user.x=1\n14 size=12345\n", 0).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(pax.mtime, Some(Moment { seconds: -2, nanos: 500_000_000 }));
        assert_eq!(pax.size, Some(12345));
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"1".to_vec())]);
    }

    #[test]
    fn bad_records_are_refused() {
        let bad: [&[u8]; 16] = [
            b"5 a=b\n",
            b"7 a=b\n",
            b"6 a=b ",
            b"6 ab \n",
            b"6 =ab\n",
            b"x a=b\n",
            b"-6 a=b\n",
            b"06 a=b",
            b"99999999999999999999999 a=b\n",
            b"18 uid=4294967295\n",
            b"18 uid=4294967296\n",
            b"10 uid=-1\n",
            b"11 size=-1\n",
            b"13 path=a\x00bc\n",
            b"22 GNU.sparse.major=1\n",
            b"25 SCHILY.xattr.a\x00user=1\n",
        ];
        for record in bad {
            assert!(Pax::parse(record, 0).is_err(), "{}", record.escape_ascii());
        }
        assert_eq!(Pax::parse(b"8 path=\n", 0).unwrap(), Pax::default());
    }
}
