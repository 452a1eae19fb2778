//! Putting damaged paths of an unpacked layer back as they are listed; contents come from blobs and are known by their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, linkat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fault::{Fault, Kind, Result, kind_of_errno};
use crate::ids::hex;
use crate::image::file_list::{FileKind, FileList, FileRecord, parse_path_text, path_text};
use crate::image::tar_entry::{Attributes, EntryKind, Verdict};
use crate::image::tar_path::TarPath;
use crate::image::tar_reader::TarReader;

use super::file::remove_below;
use super::tree::{Wrote, call, open_beneath, open_blob, open_path, open_root};
use super::tree_copy::{create_file, create_special, finish_special};
use super::tree_pending::{own_and_mode, stamp};
use super::tree_verify::{Depth, Finding, Flaw, check, look};
use super::tree_xattr;

/// Contents that are still needed, by digest, with their sizes.
pub type Wanted = BTreeMap<[u8; 32], u64>;

/// One damaged path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// As lists have it: `./usr/bin/x`, what is not plain as `\ooo`.
    pub path: String,
    /// What is wrong.
    pub flaw: Flaw,
    /// Of what it is another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_of: Option<String>,
}

impl Damage {
    /// Where it is.
    ///
    /// *Errors:* `DataLoss` when that is not a path.
    pub fn finding(&self) -> Result<Finding> {
        Ok(Finding { path: parse_path_text(&self.path)?, flaw: self.flaw, detail: String::new() })
    }
}

/// What has to be done to a tree.
#[derive(Debug, Default)]
pub struct Repair {
    bad: BTreeMap<TarPath, (FileRecord, BTreeSet<Flaw>)>,
    extra: Vec<TarPath>,
    /// The directories above all of these, whose times change with them.
    above: BTreeMap<TarPath, FileRecord>,
}

/// Whether a path with this flaw is made anew.
fn is_made_anew(flaw: Flaw) -> bool {
    matches!(flaw, Flaw::Missing | Flaw::Type | Flaw::Size | Flaw::Content | Flaw::Target | Flaw::Device | Flaw::HardLink)
}

impl Repair {
    /// Looks up in the list at `list` what the paths of `found` should be; other names of a file come along.
    pub fn of(list: &Path, found: &[Finding]) -> Result<Self> {
        let mut repair = Repair::default();
        let (mut flaws, mut above): (BTreeMap<TarPath, BTreeSet<Flaw>>, BTreeSet<TarPath>) = Default::default();
        for finding in found {
            let mut parent = finding.path.parent();
            while above.insert(parent.clone()) {
                parent = parent.parent();
            }
            match finding.flaw {
                Flaw::Extra => repair.extra.push(finding.path.clone()),
                flaw => drop(flaws.entry(finding.path.clone()).or_default().insert(flaw)),
            }
        }
        let mut list = FileList::new(BufReader::with_capacity(256 << 10, open_blob(list, 0)?));
        while let Some(record) = list.next_record()? {
            if record.link_of.as_ref().is_some_and(|first| flaws.contains_key(first)) {
                flaws.entry(record.path.clone()).or_default().insert(Flaw::HardLink);
                above.insert(record.path.parent());
            }
            if above.contains(&record.path) {
                repair.above.insert(record.path.clone(), record.clone());
            }
            if let Some(flaws) = flaws.get(&record.path) {
                repair.bad.insert(record.path.clone(), (record, flaws.clone()));
            }
        }
        Ok(repair)
    }

    /// All that is going to be put right, by path: more than was found when a file has other names.
    pub fn damages(&self) -> Vec<Damage> {
        let bad = self.bad.values().flat_map(|(record, flaws)| {
            let link_of = record.link_of.as_ref().map(path_text);
            flaws.iter().map(move |flaw| Damage { path: path_text(&record.path), flaw: *flaw, link_of: link_of.clone() })
        });
        let extra = |path: &TarPath| Damage { path: path_text(path), flaw: Flaw::Extra, link_of: None };
        bad.chain(self.extra.iter().map(extra)).collect()
    }

    /// The contents that must be found in blobs.
    pub fn wanted(&self) -> Wanted {
        let content = |(record, flaws): &(FileRecord, BTreeSet<Flaw>)| match record.kind {
            FileKind::File { size: Some(size), digest: Some(digest) } if size > 0 && flaws.iter().copied().any(is_made_anew) => {
                Some((digest, size))
            }
            _ => None,
        };
        self.bad.values().filter_map(content).collect()
    }

    /// Repairs the tree at `root` with the contents in `spool` ([`gather`]), which is on the same file system.
    ///
    /// Each file is whole under another name before it takes its own. *Errors:* `DataLoss` when something is still wrong afterwards.
    pub fn carry_out(&self, root: &Path, spool: &Path) -> Result<()> {
        let (root, spool_dir) = (open_root(root)?, open_root(spool)?);
        for path in &self.extra {
            remove(&root, path)?;
        }
        let (links, others): (Vec<_>, Vec<_>) = self.bad.values().partition(|(record, _)| record.link_of.is_some());
        for (record, flaws) in others {
            mend(&root, (spool, &spool_dir), record, flaws)?;
        }
        for (record, flaws) in links {
            relink(&root, record, flaws)?;
        }
        for record in self.above.values().chain(self.bad.values().map(|(record, _)| record)) {
            if let (FileKind::Directory, Some(mtime)) = (&record.kind, record.mtime) {
                stamp(directory(&root, &record.path)?.as_fd(), mtime, &record.path)?;
            }
        }
        for record in self.bad.values().map(|(record, _)| record).chain(self.above.values()) {
            if let Some(finding) = check(&root, record, Depth::Whole)?.first() {
                let message = format!("{} is still wrong: {} {}", finding.path, finding.flaw, finding.detail);
                return Err(Fault::new(Kind::DataLoss, message));
            }
        }
        nix::unistd::syncfs(root.as_fd()).map_err(|errno| Fault::new(kind_of_errno(errno), format!("syncfs: {}", errno.desc())))
    }
}

fn directory(root: &OwnedFd, path: &TarPath) -> Wrote<OwnedFd> {
    open_path(root.as_fd(), path).map_err(call("openat2", path))
}

fn parent_of(root: &OwnedFd, path: &TarPath) -> Wrote<(OwnedFd, Vec<u8>)> {
    let (parent, name) = path.split_last().unwrap_or((TarPath::root(), b"."));
    Ok((directory(root, &parent)?, name.to_vec()))
}

fn remove(root: &OwnedFd, path: &TarPath) -> Wrote<()> {
    let Some((dir, _)) = look(root, path).map_err(call("fstatat", path))? else { return Ok(()) };
    let device = fstat(&dir).map_err(call("fstat", path))?.st_dev;
    let name = CString::new(path.split_last().map_or(&b""[..], |(_, name)| name)).map_err(|_| call("unlinkat", path)(Errno::EINVAL))?;
    remove_below(dir.as_raw_fd(), &name, device).map_err(call("unlinkat", path))
}

fn mend(root: &OwnedFd, spool: (&Path, &OwnedFd), record: &FileRecord, flaws: &BTreeSet<Flaw>) -> Wrote<()> {
    let path = &record.path;
    let anew = flaws.iter().copied().any(is_made_anew);
    if flaws.contains(&Flaw::Type) {
        remove(root, path)?;
    }
    let attributes = attributes_of(record);
    match &record.kind {
        FileKind::File { .. } if anew => return replace_file(root, spool, record),
        FileKind::File { .. } => {
            let (dir, name) = parent_of(root, path)?;
            let file = open_beneath(dir.as_fd(), &name, OFlag::O_RDONLY).map_err(call("openat2", path))?;
            return describe(&file, record);
        }
        FileKind::Directory => {
            let (dir, name) = parent_of(root, path)?;
            match mkdirat(&dir, name.as_slice(), Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(call("mkdirat", path)(errno)),
            }
            return describe(&directory(root, path)?, record);
        }
        _ => {}
    }
    if anew {
        remove(root, path)?;
    }
    let (dir, name) = parent_of(root, path)?;
    if record.is_whiteout() {
        mknodat(&dir, name.as_slice(), SFlag::S_IFCHR, Mode::empty(), 0).map_err(call("mknodat", path))?;
        let root_owner = (Some(Uid::from_raw(0)), Some(Gid::from_raw(0)));
        return fchownat(&dir, name.as_slice(), root_owner.0, root_owner.1, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(call("fchownat", path));
    }
    let Some(kind) = special(&record.kind) else { return Ok(()) };
    if anew {
        create_special(dir.as_fd(), &name, &kind).map_err(call("mknodat", path))?;
    }
    finish_special(dir.as_fd(), &name, &kind, &attributes, path)
}

fn special(kind: &FileKind) -> Option<EntryKind> {
    Some(match kind {
        FileKind::Symlink(target) => EntryKind::Symlink(target.clone()),
        FileKind::CharDevice(major, minor) => EntryKind::CharDevice(*major, *minor),
        FileKind::BlockDevice(major, minor) => EntryKind::BlockDevice(*major, *minor),
        FileKind::Fifo => EntryKind::Fifo,
        FileKind::File { .. } | FileKind::Directory | FileKind::Other => return None,
    })
}

/// Makes a file in the spool and renames it over whatever has its name.
fn replace_file(root: &OwnedFd, (spool, spool_dir): (&Path, &OwnedFd), record: &FileRecord) -> Wrote<()> {
    let path = &record.path;
    let failed = |name| move |error: std::io::Error| call(name, path)(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
    let mut new = File::from(create_file(spool_dir.as_fd(), b"new").map_err(call("openat", path))?);
    if let FileKind::File { size: Some(1..), digest: Some(digest) } = &record.kind {
        let mut content = File::open(spool.join(hex(digest))).map_err(failed("find the content of"))?;
        std::io::copy(&mut content, &mut new).map_err(failed("copy_file_range"))?;
    }
    new.flush().and_then(|()| new.sync_all()).map_err(failed("fsync"))?;
    describe(&OwnedFd::from(new), record)?;
    let (dir, name) = parent_of(root, path)?;
    renameat(spool_dir, "new", &dir, name.as_slice()).map_err(call("renameat", path))
}

/// Gives an open file or directory the attributes that are listed.
fn describe(file: &OwnedFd, record: &FileRecord) -> Wrote<()> {
    let path = &record.path;
    let attributes = attributes_of(record);
    own_and_mode(file.as_fd(), &attributes, path)?;
    tree_xattr::replace_listed(file.as_fd(), &record.xattrs).map_err(call("fsetxattr", path))?;
    stamp(file.as_fd(), attributes.mtime, path)
}

fn attributes_of(record: &FileRecord) -> Attributes {
    let mtime = record.mtime.unwrap_or_default();
    Attributes { mode: record.mode, uid: record.uid, gid: record.gid, mtime, xattrs: record.xattrs.clone() }
}

/// Makes a path another name of the file it was one of; what is wrong with the file itself was mended under its first name.
fn relink(root: &OwnedFd, record: &FileRecord, flaws: &BTreeSet<Flaw>) -> Wrote<()> {
    let (Some(target), true) = (&record.link_of, flaws.iter().copied().any(is_made_anew)) else { return Ok(()) };
    remove(root, &record.path)?;
    let ((from, old), (to, new)) = (parent_of(root, target)?, parent_of(root, &record.path)?);
    linkat(&from, old.as_slice(), &to, new.as_slice(), AtFlags::empty()).map_err(call("linkat", &record.path))
}

/// Copies from a layer the contents that are wanted into `spool`, named by their digests, and strikes them off.
pub fn gather<R: BufRead>(reader: &mut TarReader<R>, wanted: &mut Wanted, spool: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        Fault::new(kind_of_errno(errno), format!("write {}: {}", spool.display(), errno.desc()))
    };
    while let Some(verdict) = reader.next_verdict()? {
        let Verdict::Make(entry) = verdict else { continue };
        if entry.kind != EntryKind::File || !wanted.values().any(|size| *size == entry.size) {
            continue;
        }
        let coming = spool.join("coming");
        let (mut file, mut digest) = (File::create(&coming).map_err(failed)?, Sha256::new());
        loop {
            let chunk = reader.chunk()?;
            if chunk.is_empty() {
                break;
            }
            file.write_all(chunk).map_err(failed)?;
            digest.update(chunk);
            let count = chunk.len();
            reader.consume(count);
        }
        let digest: [u8; 32] = digest.finalize().into();
        if wanted.remove(&digest).is_some() {
            fs::rename(&coming, spool.join(hex(&digest))).map_err(failed)?;
        }
    }
    Ok(())
}
