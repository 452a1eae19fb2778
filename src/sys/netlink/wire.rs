//! The netlink wire format: messages and attributes, written with padding and read with every length checked.

use std::ops::Range;

/// A message or attribute whose length does not fit the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's answer has a {0} of a wrong length")]
pub struct Malformed(pub &'static str);

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;

/// One message out of a received buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub seq: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// Splits a received buffer into its messages.
pub fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (Some(length), Some(kind), Some(flags), Some(seq)) = (u32_at(bytes, 0), u16_at(bytes, 4), u16_at(bytes, 6), u32_at(bytes, 8))
        else {
            bytes = &[];
            return Some(Err(Malformed("message header")));
        };
        let length = length as usize;
        let Some(body) = bytes.get(HEADER..length) else {
            bytes = &[];
            return Some(Err(Malformed("message")));
        };
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some(Ok(Frame { kind, flags, seq, body }))
    })
}

/// Splits bytes into attributes: type without the flag bits, and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else {
            bytes = &[];
            return Some(Err(Malformed("attribute header")));
        };
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else {
            bytes = &[];
            return Some(Err(Malformed("attribute")));
        };
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some(Ok((kind & TYPE_MASK, value)))
    })
}

/// The value of the first attribute of type `kind`.
pub fn find(bytes: &[u8], kind: u16) -> Result<Option<&[u8]>, Malformed> {
    for attribute in attributes(bytes) {
        let (found, value) = attribute?;
        if found == kind {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// A native-endian u32 that fills its attribute.
pub fn u32_of(value: &[u8], what: &'static str) -> Result<u32, Malformed> {
    value.try_into().map(u32::from_ne_bytes).map_err(|_| Malformed(what))
}

/// A big-endian u32 that fills its attribute.
pub fn be32_of(value: &[u8], what: &'static str) -> Result<u32, Malformed> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Malformed(what))
}

/// A string with or without its NUL; bytes that are not UTF-8 are replaced.
pub fn string_of(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Messages in the making, one after the other, ready for one send.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Everything written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds one message whose body `fill` writes.
    pub fn message(&mut self, kind: u16, flags: u16, seq: u32, fill: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        fill(self);
        let length = (self.bytes.len() - start) as u32;
        self.patch(start..start + 4, &length.to_ne_bytes());
        self.pad();
    }

    /// Adds bytes as they stand (a fixed header of a protocol, or a whole encoded message), padded to four.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    /// Adds a NUL-terminated string.
    pub fn string(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// Adds a native-endian u32.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds a big-endian u32.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Adds an attribute that holds the attributes that `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.patch(start..start + 2, &length.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    fn patch(&mut self, range: Range<usize>, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(range) {
            place.copy_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Writer::default();
        out.message(16, 5, 7, |m| {
            m.raw(&[1, 2, 3, 4]);
            m.string(3, "eth0");
            m.nest(9, |n| n.be32(1, 42));
        });
        out.message(17, 0, 8, |_| {});
        let read: Vec<_> = frames(out.bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!((read.len(), read[0].kind, read[0].flags, read[0].seq, read[1].seq), (2, 16, 5, 7, 8));
        let body = &read[0].body[4..];
        assert_eq!(string_of(find(body, 3).unwrap().unwrap()), "eth0");
        assert_eq!(be32_of(find(find(body, 9).unwrap().unwrap(), 1).unwrap().unwrap(), "x"), Ok(42));
    }

    #[test]
    fn wrong_lengths_are_errors_and_never_a_loop_or_a_panic() {
        for bytes in [&[1_u8][..], &[0; 16], &[15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[255; 40]] {
            assert!(frames(bytes).any(|frame| frame.is_err()), "{bytes:?}");
            assert!(frames(bytes).count() < 4);
        }
        for bytes in [&[1_u8][..], &[0, 0, 1, 0], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 2, 3, 4], &[255; 7]] {
            assert!(attributes(bytes).any(|attribute| attribute.is_err()), "{bytes:?}");
        }
        assert!(u32_of(&[1, 2, 3], "x").is_err());
    }
}
