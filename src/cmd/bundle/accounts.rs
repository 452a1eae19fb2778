//! The account files of an image before anything of it is unpacked: its layers streamed once, for two files.

use std::io::{BufRead, Read as _};

use crate::bundle::user::{self, Accounts, Identity};
use crate::cmd::image::SourceLayer;
use crate::fault::{Context as _, Fault, Result, cut};
use crate::image::layer::{Claim, read_layer};
use crate::image::tar_entry::{EntryKind, Verdict};
use crate::image::tar_reader::{Limits, TarReader};
use crate::step::blob::BlobSource;
use crate::sys::rootfs::ACCOUNT_FILE_LIMIT;
use crate::sys::tree;

/// Resolves the USER of an image; its layers are read only when that needs names.
///
/// *Errors:* `NotFound` for a name that the image does not have, `InvalidArgument` for account files that are not plain.
pub fn identity(wanted: &str, layers: &[SourceLayer]) -> Result<Identity> {
    let accounts = if is_numeric(wanted) { Accounts::default() } else { read(layers).doing(|| "reading the accounts of the image")? };
    // The hint of a run would speak of an option that a bundle does not have.
    user::resolve(wanted, &accounts, &[]).map_err(|fault| {
        Fault::new(fault.kind(), fault.to_string())
            .hint("give the image another user: umoci config --config.user UID:GID --image DIR:TAG")
            .doing(format!("resolving user {:?} of the image", cut(wanted)))
    })
}

/// Whether `user` says all by itself: nothing (root), or two numbers.
fn is_numeric(user: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    user.is_empty() || user.split_once(':').is_some_and(|(uid, gid)| number(uid) && number(gid))
}

fn read(layers: &[SourceLayer]) -> Result<Accounts> {
    let mut files = Files::default();
    for layer in layers {
        let BlobSource::Span { path, offset } = &layer.source else { return Err(Fault::internal("a layer without a file")) };
        let (digest, diff_id) = (layer.digest.as_str(), layer.diff_id.as_str());
        let claim = Claim { media_type: &layer.media_type, digest, size: layer.size, diff_id };
        let blob = tree::open_blob(path, *offset)?.take(layer.size);
        read_layer(blob, &claim, Limits::default(), |reader| files.pass(reader)).doing(|| format!("reading layer {diff_id}"))?;
    }
    let [passwd, group] = files.0;
    Ok(Accounts { passwd: passwd.text("/etc/passwd")?, group: group.text("/etc/group")? })
}

/// What an image has in the place of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Found {
    #[default]
    Nothing,
    Text(String),
    /// Something that is no plain file of its own, in words.
    Odd(&'static str),
}

impl Found {
    fn text(self, path: &str) -> Result<String> {
        match self {
            Found::Nothing => Ok(String::new()),
            Found::Text(text) => Ok(text),
            Found::Odd(what) => Err(Fault::invalid(format!("{path} of the image is {what}, so its names cannot be looked up"))
                .hint("use the store: rkbox image load, then rkbox run; or give the image a numeric user, UID:GID")),
        }
    }
}

const PATHS: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];

/// The two files as the layers so far make them.
#[derive(Debug, Default)]
struct Files([Found; 2]);

impl Files {
    /// Puts one layer on top. A whiteout hides what the layers below have, never what its own layer has, wherever it stands in it.
    fn pass<R: BufRead>(&mut self, reader: &mut TarReader<R>) -> Result<()> {
        let mut own: [Option<Found>; 2] = [None, None];
        let mut hidden = [false, false];
        while let Some(verdict) = reader.next_verdict()? {
            match verdict {
                Verdict::Whiteout(path) => (0..2).for_each(|nth| hidden[nth] |= path.as_bytes() == PATHS[nth] || path.as_bytes() == b"etc"),
                Verdict::Opaque(path) if path.is_root() || path.as_bytes() == b"etc" => hidden = [true, true],
                Verdict::Make(entry) if entry.path.as_bytes() == b"etc" => match entry.kind {
                    EntryKind::Directory => {}
                    EntryKind::Symlink(_) => own = [(); 2].map(|()| Some(Found::Odd("below a symbolic link"))),
                    _ => own = [(); 2].map(|()| Some(Found::Nothing)),
                },
                Verdict::Make(entry) => {
                    if let Some(nth) = PATHS.iter().position(|path| *path == entry.path.as_bytes()) {
                        own[nth] = Some(content(&entry.kind, entry.size, reader)?);
                    }
                }
                Verdict::Opaque(_) | Verdict::Ignore => {}
            }
        }
        for (nth, own) in own.into_iter().enumerate() {
            match own {
                Some(found) => self.0[nth] = found,
                None if hidden[nth] => self.0[nth] = Found::Nothing,
                None => {}
            }
        }
        Ok(())
    }
}

fn content<R: BufRead>(kind: &EntryKind, size: u64, reader: &mut TarReader<R>) -> Result<Found> {
    match kind {
        EntryKind::File if size > ACCOUNT_FILE_LIMIT => Ok(Found::Odd("larger than 10 MiB")),
        EntryKind::File => {
            let mut bytes = Vec::new();
            loop {
                let chunk = reader.chunk()?;
                if chunk.is_empty() {
                    return Ok(Found::Text(String::from_utf8_lossy(&bytes).into_owned()));
                }
                bytes.extend_from_slice(chunk);
                let count = chunk.len();
                reader.consume(count);
            }
        }
        EntryKind::Symlink(_) => Ok(Found::Odd("a symbolic link")),
        EntryKind::Hardlink(_) => Ok(Found::Odd("a hard link")),
        EntryKind::Directory | EntryKind::CharDevice(..) | EntryKind::BlockDevice(..) | EntryKind::Fifo => {
            Ok(Found::Odd("no regular file"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_lone_uids_need_the_image() {
        for user in ["", "0:0", "1000:44"] {
            assert!(is_numeric(user), "{user:?}");
        }
        for user in ["1000", "web", "1000:", ":1", "1000:web", "web:1", "-1:0", "1:2:3"] {
            assert!(!is_numeric(user), "{user:?}");
        }
        let root = identity("", &[]).unwrap();
        assert_eq!((root.uid, root.gid, root.groups), (0, 0, vec![0]));
        assert_eq!(identity("1000:44", &[]).unwrap().groups, [44]);
    }

    /// A tar of `path, type, content or target`.
    fn tar(entries: &[(&str, u8, &str)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (path, kind, text) in entries {
            let mut head = [0_u8; 512];
            let mut put = |at: usize, text: &[u8]| head[at..at + text.len()].copy_from_slice(text);
            put(0, path.as_bytes());
            put(100, b"0000644\0");
            put(108, b"0000000\0");
            put(116, b"0000000\0");
            put(124, format!("{:011o}\0", if *kind == b'0' { text.len() } else { 0 }).as_bytes());
            put(136, b"00000000000\0");
            put(148, b"        ");
            put(156, &[*kind]);
            if *kind == b'1' || *kind == b'2' {
                put(157, text.as_bytes());
            }
            put(257, b"ustar\x0000");
            let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
            head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            all.extend(head);
            if *kind == b'0' {
                all.extend(text.as_bytes());
                all.resize(all.len().next_multiple_of(512), 0);
            }
        }
        all.extend([0; 1024]);
        all
    }

    fn stacked(layers: &[&[(&str, u8, &str)]]) -> [Found; 2] {
        let mut files = Files::default();
        for layer in layers {
            let bytes = tar(layer);
            files.pass(&mut TarReader::new(&bytes[..], Limits::default())).unwrap();
        }
        files.0
    }

    #[test]
    fn layers_stack_as_they_unpack() {
        let base: &[(&str, u8, &str)] = &[("etc", b'5', ""), ("etc/passwd", b'0', "one"), ("etc/group", b'0', "two")];
        let text = |text: &str| Found::Text(text.to_owned());
        assert_eq!(stacked(&[base]), [text("one"), text("two")]);
        assert_eq!(stacked(&[base, &[("./etc/passwd", b'0', "new")]]), [text("new"), text("two")]);
        assert_eq!(stacked(&[base, &[("etc/.wh.passwd", b'0', "")]]), [Found::Nothing, text("two")]);
        for whiteout in [".wh.etc", "etc/.wh..wh..opq", ".wh..wh..opq"] {
            assert_eq!(stacked(&[base, &[(whiteout, b'0', "")]]), [Found::Nothing, Found::Nothing], "{whiteout}");
            // In any order, a whiteout spares its own layer.
            for pair in [[("etc/group", b'0', "own"), (whiteout, b'0', "")], [(whiteout, b'0', ""), ("etc/group", b'0', "own")]] {
                assert_eq!(stacked(&[base, &pair]), [Found::Nothing, text("own")], "{whiteout}");
            }
        }
    }

    #[test]
    fn what_is_no_plain_file_is_an_error_only_while_it_stands() {
        for (kind, target) in [(b'2', "/run/secrets"), (b'1', "bin/sh"), (b'6', ""), (b'5', "")] {
            let [found, _] = stacked(&[&[("etc/passwd", kind, target)]]);
            assert_eq!(found.text("/etc/passwd").unwrap_err().kind(), crate::fault::Kind::InvalidArgument);
            let [mended, _] = stacked(&[&[("etc/passwd", kind, target)], &[("etc/passwd", b'0', "x")]]);
            assert_eq!(mended, Found::Text("x".to_owned()));
        }
        assert_eq!(stacked(&[&[("etc", b'2', "/tmp")]])[0], Found::Odd("below a symbolic link"));
    }
}
