//! How much of what it has inflated a zstd frame may look back at, all of which is kept in memory.

use std::io::{self, BufRead};

use crate::fault::{Fault, Kind};

/// The largest window: 2^25 bytes, those of `zstd -20 --ultra`, so that no image costs more than 64 MiB of memory. `zstd` itself takes
/// 2^27 without being asked.
const WINDOW_LOG: u32 = 25;
/// Bytes of the longest header of a frame.
pub const HEADER: usize = 18;

/// Inflates `source`, with a window of at most 32 MiB.
pub fn inflated<R: BufRead>(source: R) -> io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(source)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder)
}

/// The window of the frame that starts with these bytes; `None` when they are not the start of one.
///
/// *Source:* RFC 8878, 3.1.1.1: the window descriptor, or the content size of a frame that is a single segment.
pub fn window_of(frame: &[u8]) -> Option<u64> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, rest @ ..] = frame else { return None };
    if descriptor & 0x20 == 0 {
        let window = *rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = rest.get(dictionary..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*size.first()?),
        1 => u64::from(u16::from_le_bytes(*size.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*size.first_chunk()?)),
        _ => u64::from_le_bytes(*size.first_chunk()?),
    })
}

/// What to say when inflating failed because of a window; `window` is that of the first frame.
pub fn refusal(error: &io::Error, window: Option<u64>) -> Option<Fault> {
    // libzstd's words for it; the code itself does not come through.
    if !error.to_string().contains("too much memory") {
        return None;
    }
    let limit = 1_u64 << WINDOW_LOG;
    let (wanted, limit) = (window.filter(|window| *window > limit).map(mebibytes), mebibytes(limit));
    let wanted = wanted.map_or_else(|| format!("a window of more than {limit}"), |wanted| format!("a window of {wanted}"));
    let what = format!("the zstd frame needs {wanted} in memory, and rkbox gives it at most {limit}");
    Some(
        Fault::new(Kind::ResourceExhausted, what)
            .hint("compress it again with a smaller window (zstd --long=25, or a level below 21), or with gzip"),
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn compressed(content: &[u8], log: u32, whole: bool) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        if whole {
            encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
        }
        io::Write::write_all(&mut encoder, content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_window_is_read_from_the_header() {
        for log in [10, 19, 25, 27] {
            assert_eq!(window_of(&compressed(b"x", log, false)), Some(1 << log));
        }
        for size in [200, 300, 70_000] {
            assert_eq!(window_of(&compressed(&vec![0; size], 27, true)), Some(size as u64));
        }
        for bytes in [&b""[..], b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x00"] {
            assert_eq!(window_of(bytes), None);
        }
    }

    #[test]
    fn a_window_over_the_bound_is_refused_by_its_size() {
        let inflate = |bytes: &[u8]| inflated(bytes).and_then(|mut decoder| decoder.read_to_end(&mut Vec::new()));
        assert_eq!(inflate(&compressed(b"x", WINDOW_LOG, false)).unwrap(), 1);
        let larger = compressed(b"x", 27, false);
        let error = inflate(&larger).unwrap_err();
        let fault = refusal(&error, window_of(&larger)).unwrap();
        assert_eq!(fault.kind(), Kind::ResourceExhausted);
        assert!(fault.to_string().contains("a window of 128 MiB in memory, and rkbox gives it at most 32 MiB"), "{fault}");
        // A later frame.
        let both = [compressed(b"x", 10, false), larger].concat();
        let fault = refusal(&inflate(&both).unwrap_err(), window_of(&both)).unwrap();
        assert!(fault.to_string().contains("more than 32 MiB"), "{fault}");
        assert!(refusal(&inflate(&both[1..]).unwrap_err(), None).is_none());
    }

    /// What `zstd` makes of a stream, of several threads and of several files: frames without a size, of other windows, and frames
    /// to be skipped, before, between and behind.
    #[test]
    fn frames_of_every_kind_follow_each_other() {
        let skipped =
            |content: &[u8]| [&[0x53, 0x2a, 0x4d, 0x18][..], &u32::try_from(content.len()).unwrap().to_le_bytes(), content].concat();
        let parts: Vec<Vec<u8>> = (0..6_u8).map(|nth| vec![nth; 300_000]).collect();
        let frames = [10, 25, 17, 25, 10, 21].iter().zip(&parts).enumerate();
        let frames = frames.map(|(nth, (log, part))| [compressed(part, *log, nth % 3 == 1), skipped(b"index")].concat());
        let whole = [skipped(b"first"), frames.collect::<Vec<_>>().concat(), compressed(b"", 10, false)].concat();
        let mut content = Vec::new();
        inflated(&whole[..]).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, parts.concat());
        assert_eq!((crate::image::Compression::sniff(&whole), window_of(&whole)), (crate::image::Compression::Zstd, None));
        for cut in [whole.len() - 1, whole.len() - 20, 10, 3] {
            assert!(inflated(&whole[..cut]).unwrap().read_to_end(&mut Vec::new()).is_err(), "{cut}");
        }
    }
}
