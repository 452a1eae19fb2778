//! The list of the files of an unpacked layer, in the format of mtree(5), which `mtree -f` and `bsdtar` read.
//!
//! *Shape:* one line for each path, a directory before what is in it:
//!
//! ```text
//! #mtree
//! /set type=file uid=0 gid=0 mode=0644
//! ./usr/bin/x mode=0755 size=12 time=1.000000000 sha256digest=64 hex digits
//! ```
//!
//! Comments before a line carry what the format has no word for: `#link ./a` (the line is another name of that file, whose line has
//! the content) and `#xattr NAME=HEX`. A whiteout is `type=char device=0`. Bytes that are not plain are `\ooo`.

use std::io::{BufRead, Read};

use crate::fault::{Fault, Kind, Result};
use crate::ids::hex;

use super::tar_entry::Moment;
use super::tar_path::TarPath;

/// What a list starts with.
pub const HEAD: &str = "#mtree\n/set type=file uid=0 gid=0 mode=0644\n";
/// The longest line: a path and a link target, four bytes for each of theirs, or an extended attribute of 64 KiB in hex.
const LINE_LIMIT: u64 = 256 << 10;

/// What kind of thing a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file; both are absent in the line of another name.
    File {
        /// Bytes.
        size: Option<u64>,
        /// SHA-256 of the content.
        digest: Option<[u8; 32]>,
    },
    /// A directory.
    Directory,
    /// A symbolic link to this text.
    Symlink(Vec<u8>),
    /// A character device; 0:0 is a whiteout.
    CharDevice(u64, u64),
    /// A block device.
    BlockDevice(u64, u64),
    /// A FIFO.
    Fifo,
    /// Nothing that a layer can hold (a socket); only ever seen on the disk.
    Other,
}

/// One path of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Below the root of the layer.
    pub path: TarPath,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time; none for a whiteout, whose time means nothing.
    pub mtime: Option<Moment>,
    /// The attributes that layers carry and those of overlayfs, by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The path whose line has the content, when this is another name of it.
    pub link_of: Option<TarPath>,
}

impl FileRecord {
    /// Whether this hides what lower layers have.
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileKind::CharDevice(0, 0)
    }

    /// Adds the line to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        if let Some(of) = &self.link_of {
            out.extend_from_slice(b"#link ");
            write_path(of, out);
            out.push(b'\n');
        }
        for (name, value) in &self.xattrs {
            out.extend_from_slice(b"#xattr ");
            escape(name, out);
            out.push(b'=');
            out.extend_from_slice(hex(value).as_bytes());
            out.push(b'\n');
        }
        write_path(&self.path, out);
        let (kind, rest) = match &self.kind {
            FileKind::File { size, digest } => {
                let size = size.map(|size| format!(" size={size}")).unwrap_or_default();
                ("file", size + &digest.map(|digest| format!(" sha256digest={}", hex(&digest))).unwrap_or_default())
            }
            FileKind::Directory => ("dir", String::new()),
            FileKind::Symlink(_) => ("link", String::new()),
            FileKind::CharDevice(0, 0) => ("char", " device=0".to_owned()),
            FileKind::CharDevice(major, minor) => ("char", format!(" device=native,{major},{minor}")),
            FileKind::BlockDevice(major, minor) => ("block", format!(" device=native,{major},{minor}")),
            FileKind::Fifo => ("fifo", String::new()),
            FileKind::Other => ("socket", String::new()),
        };
        if kind != "file" {
            out.extend_from_slice(format!(" type={kind}").as_bytes());
        }
        for (key, value, usual) in [("uid", self.uid, 0), ("gid", self.gid, 0)] {
            if value != usual {
                out.extend_from_slice(format!(" {key}={value}").as_bytes());
            }
        }
        if self.mode != 0o644 {
            out.extend_from_slice(format!(" mode={:04o}", self.mode).as_bytes());
        }
        if let Some(Moment { seconds, nanos }) = self.mtime {
            out.extend_from_slice(format!(" time={seconds}.{nanos:09}").as_bytes());
        }
        out.extend_from_slice(rest.as_bytes());
        if let FileKind::Symlink(target) = &self.kind {
            out.extend_from_slice(b" link=");
            escape(target, out);
        }
        out.push(b'\n');
    }
}

/// A path as lists have it.
pub fn path_text(path: &TarPath) -> String {
    let mut text = Vec::new();
    write_path(path, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads what [`path_text`] wrote.
///
/// *Errors:* `DataLoss`.
pub fn parse_path_text(text: &str) -> Result<TarPath> {
    parse_path(text.as_bytes()).ok_or_else(|| Fault::new(Kind::DataLoss, format!("{text:?} is not a path of a layer")))
}

fn write_path(path: &TarPath, out: &mut Vec<u8>) {
    out.push(b'.');
    if !path.is_root() {
        out.push(b'/');
        escape(path.as_bytes(), out);
    }
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"._/+,:@~-".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
        }
    }
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(3)?;
        let octal =
            |value: u16, &digit: &u8| digit.is_ascii_digit().then_some(()).and(value.checked_mul(8)?.checked_add(u16::from(digit - b'0')));
        bytes.push(u8::try_from(digits.iter().try_fold(0, octal)?).ok()?);
        rest = after;
    }
    Some(bytes)
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Reads a list, record by record.
pub struct FileList<R> {
    source: R,
    line: Vec<u8>,
}

impl<R: BufRead> FileList<R> {
    /// Starts at the head.
    pub fn new(source: R) -> Self {
        FileList { source, line: Vec::new() }
    }

    /// The next record; `None` at the end.
    ///
    /// *Errors:* `DataLoss` for anything that [`FileRecord::write_to`] does not write.
    pub fn next_record(&mut self) -> Result<Option<FileRecord>> {
        let (mut link_of, mut xattrs) = (None, Vec::new());
        loop {
            self.line.clear();
            let read = (&mut self.source).take(LINE_LIMIT).read_until(b'\n', &mut self.line);
            if read.map_err(|error| Fault::from_error(Kind::DataLoss, error).doing("reading the list of files"))? == 0 {
                return Ok(None);
            }
            let Some(line) = self.line.strip_suffix(b"\n") else { return Err(damaged(&self.line)) };
            if let Some(of) = line.strip_prefix(b"#link ") {
                link_of = Some(parse_path(of).ok_or_else(|| damaged(line))?);
            } else if let Some(pair) = line.strip_prefix(b"#xattr ") {
                xattrs.push(parse_xattr(pair).ok_or_else(|| damaged(line))?);
            } else if !line.starts_with(b"#") && !line.starts_with(b"/set ") {
                let record = parse_line(line).ok_or_else(|| damaged(line))?;
                return Ok(Some(FileRecord { xattrs, link_of, ..record }));
            }
        }
    }
}

fn damaged(line: &[u8]) -> Fault {
    let shown = line.get(..100).unwrap_or(line).escape_ascii().to_string();
    Fault::new(Kind::DataLoss, format!("the list of files has a line that is not valid: {shown}"))
}

fn parse_path(text: &[u8]) -> Option<TarPath> {
    let path = TarPath::parse(&unescape(text)?).ok()?;
    text.starts_with(b".").then_some(path)
}

fn parse_xattr(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let equals = text.iter().position(|&byte| byte == b'=')?;
    Some((unescape(&text[..equals])?, unhex(&text[equals + 1..])?))
}

fn parse_line(line: &[u8]) -> Option<FileRecord> {
    let mut words = line.split(|&byte| byte == b' ');
    let path = parse_path(words.next()?)?;
    let (mut kind, mut size, mut digest, mut link, mut device) = (&b"file"[..], None, None, Vec::new(), (0, 0));
    let mut record =
        FileRecord { path, kind: FileKind::Directory, mode: 0o644, uid: 0, gid: 0, mtime: None, xattrs: Vec::new(), link_of: None };
    for word in words {
        let equals = word.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (&word[..equals], &word[equals + 1..]);
        let text = || std::str::from_utf8(value).ok();
        match key {
            b"type" => kind = value,
            b"mode" => record.mode = u32::from_str_radix(text()?, 8).ok()?,
            b"uid" => record.uid = text()?.parse().ok()?,
            b"gid" => record.gid = text()?.parse().ok()?,
            b"size" => size = Some(text()?.parse().ok()?),
            b"time" => {
                let (seconds, nanos) = text()?.split_once('.')?;
                record.mtime = Some(Moment { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? });
            }
            b"sha256digest" => digest = Some(unhex(value)?.try_into().ok()?),
            b"link" => link = unescape(value)?,
            b"device" if value == b"0" => {}
            b"device" => {
                let (major, minor) = text()?.strip_prefix("native,")?.split_once(',')?;
                device = (major.parse().ok()?, minor.parse().ok()?);
            }
            _ => return None,
        }
    }
    record.kind = match kind {
        b"file" => FileKind::File { size, digest },
        b"dir" => FileKind::Directory,
        b"link" => FileKind::Symlink(link),
        b"char" => FileKind::CharDevice(device.0, device.1),
        b"block" => FileKind::BlockDevice(device.0, device.1),
        b"fifo" => FileKind::Fifo,
        _ => return None,
    };
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &[u8], kind: FileKind) -> FileRecord {
        let mtime = Some(Moment { seconds: -7, nanos: 5 });
        let path = TarPath::parse(path).unwrap();
        FileRecord { path, kind, mode: 0o4755, uid: 1, gid: 4_294_967_294, mtime, xattrs: Vec::new(), link_of: None }
    }

    #[test]
    fn what_is_written_is_read() {
        let records = [
            record(b"", FileKind::Directory),
            record(b"a b/\n\\x=#\xff*[", FileKind::File { size: Some(3), digest: Some([7; 32]) }),
            FileRecord { link_of: Some(TarPath::parse(b"a b/x").unwrap()), ..record(b"l", FileKind::File { size: None, digest: None }) },
            FileRecord { xattrs: vec![(b"user.a=b".to_vec(), b"\0\xff".to_vec())], ..record(b"x", FileKind::Fifo) },
            record(b"s", FileKind::Symlink(b"/to \n nowhere".to_vec())),
            record(b"c", FileKind::CharDevice(1, 3)),
            record(b"b", FileKind::BlockDevice(8, 0)),
            FileRecord { mode: 0o644, uid: 0, gid: 0, mtime: None, ..record(b"w", FileKind::CharDevice(0, 0)) },
        ];
        let mut text = HEAD.as_bytes().to_vec();
        records.iter().for_each(|record| record.write_to(&mut text));
        let mut list = FileList::new(text.as_slice());
        let mut found = Vec::new();
        while let Some(record) = list.next_record().unwrap() {
            found.push(record);
        }
        assert_eq!(found, records);
        assert!(found[7].is_whiteout());
        assert!(String::from_utf8(text).unwrap().contains("./a\\040b/\\012\\134x\\075\\043\\377\\052\\133 uid=1"));
    }

    #[test]
    fn damaged_lines_are_refused() {
        for line in
            ["./a type=sock\n", "./a b\n", "./a mode=9\n", "a\n", "./../a\n", "./a\\9\n", "./a", "./a size=-1\n", "#xattr a\n", "./a x=1\n"]
        {
            let fault = FileList::new(line.as_bytes()).next_record().unwrap_err();
            assert_eq!(fault.kind(), Kind::DataLoss, "{line}");
        }
    }
}
