//! The CRI log format: one record a line, long lines in parts.
//!
//! *Shape:* `2016-10-06T00:17:09.669794202Z stdout F content\n`; the tag is `P` for a part whose line goes on. *Source:* the kubelet's
//! `pkg/kubelet/kuberuntime/logs`; containerd `pkg/cri/io/logger.go` for the 16 KiB.

use serde::{Deserialize, Serialize};

/// The most bytes of content in one record.
pub const RECORD_LIMIT: usize = 16 << 10;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl StreamName {
    fn word(self) -> &'static [u8] {
        match self {
            StreamName::Stdout => b" stdout ",
            StreamName::Stderr => b" stderr ",
        }
    }
}

/// Makes records of a stream of bytes; keeps what has no newline yet.
#[derive(Debug)]
pub struct Splitter {
    stream: StreamName,
    pending: Vec<u8>,
}

impl Splitter {
    /// A splitter at the start of a line of `stream`.
    pub fn new(stream: StreamName) -> Self {
        Splitter { stream, pending: Vec::new() }
    }

    /// Appends the records of `bytes`, read at `time`, to `out`.
    pub fn push(&mut self, mut bytes: &[u8], time: &str, out: &mut Vec<u8>) {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let line = &bytes[..at];
            bytes = &bytes[at + 1..];
            self.line(line, time, out);
        }
        self.pending.extend_from_slice(bytes);
        // A carriage return may belong to the newline that follows: the last byte waits for it.
        let mut from = 0;
        while self.pending.len() - from > RECORD_LIMIT {
            self.record(&self.pending[from..from + RECORD_LIMIT], b'P', time, out);
            from += RECORD_LIMIT;
        }
        self.pending.drain(..from);
        if self.pending.is_empty() && self.pending.capacity() > 0 {
            self.pending = Vec::new();
        }
    }

    /// Appends what has no newline, as a part: the stream has ended.
    pub fn finish(&mut self, time: &str, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.record(&rest, b'P', time, out);
        }
    }

    fn line(&mut self, line: &[u8], time: &str, out: &mut Vec<u8>) {
        if self.pending.is_empty() {
            return self.whole(line, time, out);
        }
        let mut all = std::mem::take(&mut self.pending);
        all.extend_from_slice(line);
        self.whole(&all, time, out);
    }

    /// A line that has its newline.
    fn whole(&self, line: &[u8], time: &str, out: &mut Vec<u8>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut rest = line;
        while rest.len() > RECORD_LIMIT {
            self.record(&rest[..RECORD_LIMIT], b'P', time, out);
            rest = &rest[RECORD_LIMIT..];
        }
        self.record(rest, b'F', time, out);
    }

    fn record(&self, content: &[u8], tag: u8, time: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(self.stream.word());
        out.extend_from_slice(&[tag, b' ']);
        out.extend_from_slice(content);
        out.push(b'\n');
    }
}

/// One record, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// RFC 3339.
    pub time: &'a str,
    /// The stream.
    pub stream: StreamName,
    /// Whether the line goes on in the next record of this stream.
    pub partial: bool,
    /// Bytes without a newline.
    pub content: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads one record, given without its newline; `None` for anything else.
    pub fn parse(record: &'a [u8]) -> Option<Self> {
        let mut fields = record.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?;
        let stream = match fields.next()? {
            b"stdout" => StreamName::Stdout,
            b"stderr" => StreamName::Stderr,
            _ => return None,
        };
        // The tag may be extended with `:`.
        let partial = match fields.next()?.split(|byte| *byte == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Line { time, stream, partial, content: fields.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut splitter, mut out) = (Splitter::new(StreamName::Stdout), Vec::new());
        chunks.iter().for_each(|chunk| splitter.push(chunk, "T", &mut out));
        splitter.finish("T", &mut out);
        out
    }

    #[test]
    fn lines_are_records_and_what_has_no_newline_is_a_part() {
        assert_eq!(split(&[b"a\nb", b"c\r\n\nd"]), b"T stdout F a\nT stdout F bc\nT stdout F \nT stdout P d\n");
        let long = [b'x'; RECORD_LIMIT * 2];
        let records = split(&[&long, b"\n"]);
        let lengths: Vec<_> =
            records.split(|b| *b == b'\n').filter_map(Line::parse).map(|line| (line.partial, line.content.len())).collect();
        assert_eq!(lengths, [(true, RECORD_LIMIT), (false, RECORD_LIMIT)]);
    }

    #[test]
    fn only_records_are_read() {
        let line = Line::parse(b"2016-10-06T00:17:09.669794202Z stderr P:x a b").unwrap();
        assert_eq!((line.stream, line.partial, line.content), (StreamName::Stderr, true, &b"a b"[..]));
        for bad in [&b""[..], b"T stdout F", b"T other F x", b"T stdout X x", b"\xff stdout F x"] {
            assert_eq!(Line::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_byte_is_lost_or_doubled(runs in prop::collection::vec((any::<u8>(), 1_usize..9000), 0..24), cuts in prop::collection::vec(1_usize..40_000, 1..6)) {
            let byte = |byte: u8| match byte % 4 { 0 => b'\n', 1 => b'\r', _ => byte };
            let given: Vec<u8> = runs.iter().flat_map(|(kind, length)| std::iter::repeat_n(byte(*kind), *length)).collect();
            let (mut chunks, mut rest) = (Vec::new(), given.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let mut back = Vec::new();
            for record in split(&chunks).split(|byte| *byte == b'\n').filter(|record| !record.is_empty()) {
                let line = Line::parse(record).unwrap();
                prop_assert!(line.content.len() <= RECORD_LIMIT);
                back.extend_from_slice(line.content);
                if !line.partial { back.push(b'\n'); }
            }
            let mut wanted = Vec::new();
            for byte in given {
                if byte == b'\n' && wanted.last() == Some(&b'\r') { wanted.pop(); }
                wanted.push(byte);
            }
            prop_assert_eq!(wanted, back);
        }
    }
}
