//! The reader stack of a layer: blob → size and digest → inflate │ diffID → tar, all checked before anything is kept.
//!
//! Each stage is a thread (read and digest | inflate | parse and write | digest) with a bounded pipe before it. The last one digests
//! the tar and the files in it in one pass, for the blocks of both are the same.

use std::io::{self, BufRead, Read};
use std::thread::ScopedJoinHandle;

use flate2::bufread::MultiGzDecoder;

use crate::fault::{Context as _, Fault, Kind, Result};

use super::Digest;
use super::layer_stream::{Digested, Feed, Stream, deep_pipe, pipe};
use super::tar_reader::{Limits, TarReader};
use super::zstd_window;

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    Plain,
    /// gzip, of any number of members.
    Gzip,
    /// zstd, of any number of frames.
    Zstd,
}

/// What is promised about a layer.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// From the manifest; empty when there is none (then the first bytes decide).
    pub media_type: &'a str,
    /// Of the blob, `sha256:HEX` or `sha512:HEX`.
    pub digest: &'a str,
    /// Of the blob, in bytes.
    pub size: u64,
    /// Of the uncompressed tar, by either too.
    pub diff_id: &'a str,
}

impl Compression {
    /// What a media type says; `None` for the empty one.
    ///
    /// *Errors:* `Unimplemented` for a type that is not that of a layer that rkbox reads.
    pub fn of_media_type(media_type: &str) -> Result<Option<Compression>> {
        let unknown = || Fault::new(Kind::Unimplemented, format!("layers of type {media_type:?} cannot be unpacked"));
        let oci = media_type
            .strip_prefix("application/vnd.oci.image.layer.v1.")
            .or_else(|| media_type.strip_prefix("application/vnd.oci.image.layer.nondistributable.v1."));
        let docker = media_type
            .strip_prefix("application/vnd.docker.image.rootfs.diff.")
            .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff."));
        match (media_type, oci, docker) {
            ("", ..) => Ok(None),
            (_, Some("tar"), _) | (_, _, Some("tar")) => Ok(Some(Compression::Plain)),
            (_, Some("tar+gzip"), _) | (_, _, Some("tar.gzip")) => Ok(Some(Compression::Gzip)),
            (_, Some("tar+zstd"), _) | (_, _, Some("tar.zstd")) => Ok(Some(Compression::Zstd)),
            _ => Err(unknown()),
        }
    }

    /// What the first bytes say.
    ///
    /// *Errors:* `Unimplemented` for bzip2 and xz.
    pub fn of_first_bytes(bytes: &[u8]) -> Result<Compression> {
        let named = |name: &str| Err(Fault::new(Kind::Unimplemented, format!("layers compressed with {name} cannot be unpacked")));
        match bytes {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [b'B', b'Z', b'h', ..] => named("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => named("xz"),
            _ => Ok(Compression::Plain),
        }
    }
}

/// Reads a layer through `consume`, then to its end, and answers only when size, digest and diffID are as claimed.
///
/// The blob may still be on its way: it is read as it comes, and nothing of it is kept. *Errors:* those of `consume` first;
/// `DataLoss` when the blob is not the claimed one or is broken. What `consume` made must be thrown away after any error.
pub fn read_layer<T>(
    blob: impl Read + Send,
    claim: &Claim<'_>,
    limits: Limits,
    consume: impl FnOnce(&mut TarReader<Stream>) -> Result<T>,
) -> Result<T> {
    let [of_blob, of_tar] = [claim.digest, claim.diff_id].map(|text| text.parse::<Digest>().map(|digest| digest.algorithm()));
    let (of_blob, of_tar) = (of_blob?, of_tar?);
    let expected = Compression::of_media_type(claim.media_type)?;
    let mut blob = blob.take(claim.size.saturating_add(1));
    std::thread::scope(|scope| {
        let (feed, mut raw) = pipe();
        let reading = scope.spawn(move || feed.pump_digested(of_blob, &mut blob));
        let compression = compression_of(&mut raw, expected)?;
        let (made, inflated, tar) = if compression == Compression::Plain {
            let (tar, tar_digesting) = raw.digested_behind(of_tar, scope);
            (read_tar(tar, limits, consume), Ok(()), joined(tar_digesting)?)
        } else {
            let (feed, tar) = deep_pipe();
            let inflating = scope.spawn(move || inflate(raw, compression, &feed));
            let (tar, tar_digesting) = tar.digested_behind(of_tar, scope);
            let made = read_tar(tar, limits, consume);
            (made, joined(inflating)?, joined(tar_digesting)?)
        };
        let made = settle(made, inflated, joined(reading)?.map_err(broken), claim)?;
        let tar = tar.ok_or_else(|| Fault::internal("a layer was not read to its end"))?;
        check_tar(claim, tar.0.as_str()).map(|()| made)
    })
}

/// Which of several faults is told: a broken blob shows first as a broken tar, and what its own stage says of it is clearer.
fn settle<T>(made: Result<T>, inflated: Result<()>, read: Result<Option<Digested>>, claim: &Claim<'_>) -> Result<T> {
    // A cut or changed blob is better told as a blob that is not the claimed one.
    if let Ok(Some((digest, size))) = &read {
        check_blob(claim, digest.as_str(), *size)?;
    }
    let whole = matches!(read, Ok(Some(_)));
    match (made, read.and(inflated)) {
        (Err(fault), Err(below)) => Err(if fault.kind() == Kind::DataLoss { below } else { fault }),
        (Err(fault), Ok(())) => Err(fault),
        (Ok(_), Err(below)) => Err(below),
        (Ok(_), Ok(())) if !whole => Err(Fault::internal("a layer was not read to its end")),
        (Ok(made), Ok(())) => Ok(made),
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T> {
    thread.join().map_err(|_| Fault::internal("a thread that reads a layer panicked"))
}

fn broken(error: io::Error) -> Fault {
    Fault::new(Kind::DataLoss, error.to_string())
}

/// Reads the tar through `consume` and to its end; the stream is closed when this answers, so that no stage waits for it.
fn read_tar<T>(tar: Stream, limits: Limits, consume: impl FnOnce(&mut TarReader<Stream>) -> Result<T>) -> Result<T> {
    let mut reader = TarReader::new(tar, limits);
    let made = consume(&mut reader)?;
    reader.into_inner().drain().map_err(broken)?;
    Ok(made)
}

fn compression_of(blob: &mut Stream, expected: Option<Compression>) -> Result<Compression> {
    let compression = Compression::of_first_bytes(blob.fill_buf().map_err(broken)?)?;
    match expected {
        Some(expected) if expected != compression => {
            let why = format!("the media type says {expected:?}, the first bytes say {compression:?}").to_lowercase();
            Err(Fault::new(Kind::DataLoss, why))
        }
        _ => Ok(compression),
    }
}

fn wrong(what: String) -> Result<()> {
    Err(Fault::new(Kind::DataLoss, what).hint("import the image again: the stored blob is damaged"))
}

fn check_tar(claim: &Claim<'_>, diff_id: &str) -> Result<()> {
    if diff_id != claim.diff_id {
        return wrong(format!("the layer has diffID {diff_id} where {} is claimed", claim.diff_id));
    }
    Ok(())
}

fn check_blob(claim: &Claim<'_>, digest: &str, size: u64) -> Result<()> {
    if size != claim.size {
        let found = if size > claim.size { "more".to_owned() } else { size.to_string() };
        return wrong(format!("the blob has {found} bytes where {} are claimed", claim.size));
    }
    if digest != claim.digest {
        return wrong(format!("the blob has digest {digest} where {} is claimed", claim.digest));
    }
    Ok(())
}

/// Inflates to the end, or as far as somebody reads.
fn inflate(mut blob: Stream, compression: Compression, tar: &Feed) -> Result<()> {
    let window = zstd_window::window_of(blob.fill_buf().map_err(broken)?);
    let ended = match compression {
        Compression::Gzip => tar.pump(&mut MultiGzDecoder::new(&mut blob)),
        Compression::Plain => tar.pump(&mut blob),
        Compression::Zstd => zstd_window::inflated(&mut blob).and_then(|mut decoder| tar.pump(&mut decoder)),
    };
    let why = |error: io::Error| zstd_window::refusal(&error, window).unwrap_or_else(|| broken(error));
    if ended.map_err(why).doing(|| "inflating the blob")? {
        // A decoder ends at the end of the blob or with an error; this reads what it may have left.
        blob.drain().map_err(broken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Algorithm;
    use std::io::Write;

    fn sum(bytes: &[u8]) -> String {
        Digest::of(bytes).to_string()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn read(blob: &[u8], claim: &Claim<'_>) -> Result<()> {
        read_layer(blob, claim, Limits::default(), |reader| {
            while reader.next_verdict()?.is_some() {}
            Ok(())
        })
    }

    #[test]
    fn every_promise_is_checked() {
        let tar = vec![0; 1024];
        let members = [gzip(&tar[..100]), gzip(&tar[100..])].concat();
        for (blob, media_type) in [
            (tar.clone(), "application/vnd.oci.image.layer.v1.tar"),
            (members.clone(), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
            (zstd::encode_all(&tar[..], 1).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd"),
        ] {
            let (digest, diff_id) = (sum(&blob), sum(&tar));
            let [long, long_id] = [&blob, &tar].map(|bytes| Digest::by(Algorithm::Sha512, bytes).to_string());
            for (digest, diff_id) in [(&long, &long_id), (&long, &diff_id), (&digest, &long_id)] {
                let claim = Claim { media_type, digest, size: blob.len() as u64, diff_id };
                read(&blob, &claim).unwrap();
                let others = [long.replace(':', ":0")[..135].to_owned(), long_id.replace(':', ":0")[..135].to_owned()];
                let bad = [Claim { digest: &others[0], ..claim.clone() }, Claim { diff_id: &others[1], ..claim }];
                bad.iter().for_each(|claim| assert_eq!(read(&blob, claim).unwrap_err().kind(), Kind::DataLoss, "{claim:?}"));
            }
            let good = Claim { media_type, digest: &digest, size: blob.len() as u64, diff_id: &diff_id };
            read(&blob, &good).unwrap();
            read(&blob, &Claim { media_type: "", ..good.clone() }).unwrap();
            let other = sum(b"other");
            let bad = [
                Claim { digest: &other, ..good.clone() },
                Claim { diff_id: &other, ..good.clone() },
                Claim { size: good.size + 1, ..good.clone() },
                Claim { size: good.size - 1, ..good.clone() },
            ];
            for claim in bad {
                assert_eq!(read(&blob, &claim).unwrap_err().kind(), Kind::DataLoss, "{claim:?}");
            }
            assert_eq!(read(&blob[..blob.len() - 3], &good).unwrap_err().kind(), Kind::DataLoss, "{media_type}");
        }
    }

    #[test]
    fn a_media_type_that_lies_is_refused() {
        let tar = vec![0; 1024];
        let sums = sum(&tar);
        for media_type in ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd"] {
            let claim = Claim { media_type, digest: &sums, size: 1024, diff_id: &sums };
            assert_eq!(read(&tar, &claim).unwrap_err().kind(), Kind::DataLoss);
        }
        assert!(Compression::of_media_type("application/vnd.oci.image.layer.v1.tar+zstd+encrypted").is_err());
        assert!(Compression::of_first_bytes(b"BZh9").is_err());
    }

    #[test]
    fn garbage_after_the_last_member_is_refused() {
        let tar = vec![0; 1024];
        let blob = [gzip(&tar), b"garbage".to_vec()].concat();
        let (digest, diff_id) = (sum(&blob), sum(&tar));
        let claim = Claim { media_type: "", digest: &digest, size: blob.len() as u64, diff_id: &diff_id };
        assert!(read(&blob, &claim).is_err());
    }
}
