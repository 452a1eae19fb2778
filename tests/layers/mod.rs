//! Worlds for the layer tests: a tar writer that can be wrong on purpose, a listing of trees, the two forms of a stack.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests, and no file of them uses all"
)]

pub mod archive;
pub mod judge;

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rkbox::fault::Result;
use rkbox::step::blob::BlobSource;
use rkbox::step::flatten::LayerBlob;
use rkbox::step::layer::{find_stamp, overlay_lowers};
use rkbox::step::{Action, Flatten, Layer, Layers};
use rkbox::sys::tree_verify::{self, Depth, Finding};
use rkbox::sys::{CgroupDriver, Host};
use sha2::{Digest, Sha256};

/// A tar in the making. Times are 1000, owners 0:0.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// A header's fields, as text where a number can be wrong.
#[derive(Clone)]
pub struct Head {
    pub name: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: Vec<u8>,
    pub gid: Vec<u8>,
    pub size: Vec<u8>,
    pub mtime: Vec<u8>,
    pub link: Vec<u8>,
    pub major: Vec<u8>,
    pub minor: Vec<u8>,
    pub spoil: bool,
}

impl Head {
    pub fn new(name: impl AsRef<[u8]>, kind: u8, mode: u32) -> Self {
        Head {
            name: name.as_ref().to_vec(),
            kind,
            mode,
            uid: b"0000000".to_vec(),
            gid: b"0000000".to_vec(),
            size: b"00000000000".to_vec(),
            mtime: b"00000001750".to_vec(),
            link: Vec::new(),
            major: b"0000000".to_vec(),
            minor: b"0000000".to_vec(),
            spoil: false,
        }
    }

    fn block(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put =
            |at: usize, bytes: &[u8], max: usize| block[at..at + bytes.len().min(max)].copy_from_slice(&bytes[..bytes.len().min(max)]);
        put(0, &self.name, 100);
        put(100, format!("{:07o}", self.mode).as_bytes(), 8);
        put(108, &self.uid, 8);
        put(116, &self.gid, 8);
        put(124, &self.size, 12);
        put(136, &self.mtime, 12);
        put(148, b"        ", 8);
        put(156, &[self.kind], 1);
        put(157, &self.link, 100);
        put(257, b"ustar\x0000", 8);
        put(329, &self.major, 8);
        put(337, &self.minor, 8);
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum::<u32>() + u32::from(self.spoil);
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }
}

pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

impl Tar {
    pub fn new() -> Self {
        Tar::default()
    }
    pub fn head(mut self, head: &Head, content: &[u8]) -> Self {
        self.0.extend(head.block());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    fn sized(self, mut head: Head, content: &[u8]) -> Self {
        head.size = format!("{:011o}", content.len()).into_bytes();
        self.head(&head, content)
    }
    /// A name of any length.
    fn named(self, head: Head, content: &[u8]) -> Self {
        let mut tar = self;
        if head.name.len() > 100 {
            tar = tar.pax(&[record("path", &head.name)]);
        }
        if head.link.len() > 100 {
            tar = tar.pax(&[record("linkpath", &head.link)]);
        }
        tar.sized(head, content)
    }
    pub fn file(self, name: impl AsRef<[u8]>, content: &str) -> Self {
        self.named(Head::new(name, b'0', 0o644), content.as_bytes())
    }
    pub fn mode_file(self, name: &str, mode: u32, content: &str) -> Self {
        self.named(Head::new(name, b'0', mode), content.as_bytes())
    }
    pub fn dir(self, name: impl AsRef<[u8]>, mode: u32) -> Self {
        self.named(Head::new(name, b'5', mode), b"")
    }
    pub fn sym(self, name: &str, target: impl AsRef<[u8]>) -> Self {
        self.named(Head { link: target.as_ref().to_vec(), ..Head::new(name, b'2', 0o777) }, b"")
    }
    pub fn hard(self, name: &str, target: &str) -> Self {
        self.named(Head { link: target.as_bytes().to_vec(), ..Head::new(name, b'1', 0o644) }, b"")
    }
    pub fn device(self, name: &str, kind: u8, major: u32, minor: u32) -> Self {
        let head = Head { major: format!("{major:07o}").into(), minor: format!("{minor:07o}").into(), ..Head::new(name, kind, 0o600) };
        self.head(&head, b"")
    }
    pub fn pax(self, records: &[Vec<u8>]) -> Self {
        self.sized(Head::new("pax", b'x', 0o644), &records.concat())
    }
    pub fn ext(self, kind: u8, content: &[u8]) -> Self {
        self.sized(Head::new("././@LongLink", kind, 0o644), content)
    }
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

pub fn sum(bytes: &[u8]) -> String {
    format!("sha256:{}", rkbox::ids::hex(&Sha256::digest(bytes)))
}

/// One test's own place: a private mount namespace, roots, and a canary outside of all of them.
pub struct World {
    pub dir: tempfile::TempDir,
    pub host: Host,
}

impl World {
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        for name in ["root/layers", "run", "canary", "view", "empty", "flat"] {
            fs::create_dir_all(at.join(name)).unwrap();
        }
        fs::write(at.join("canary/keep"), "keep").unwrap();
        let host = Host {
            root: at.join("root"),
            run: at.join("run"),
            netns: at.join("netns"),
            cni_conf: at.join("conf"),
            cni_state: at.join("cni"),
            plugins: rkbox::sys::Plugins::default(),
            runtime: "false".into(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_parent: "/none".into(),
            ..Host::below(at)
        };
        World { dir, host }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn layer_steps(&self, tars: &[Vec<u8>]) -> Vec<Layer> {
        let mut lowers: Vec<PathBuf> = Vec::new();
        let mut steps = Vec::new();
        for (nth, tar) in tars.iter().enumerate() {
            let blob = self.at(&format!("blob{nth}"));
            fs::write(&blob, tar).unwrap();
            let path = self.host.layers().join(format!("l{nth}"));
            steps.push(Layer {
                blob,
                media_type: String::new(),
                digest: sum(tar),
                size: tar.len() as u64,
                diff_id: sum(tar),
                path: path.clone(),
                lowers: lowers.clone(),
            });
            lowers.insert(0, path);
        }
        steps
    }

    pub fn flatten_step(&self, tars: &[Vec<u8>]) -> Flatten {
        let layers = self.layer_steps(tars).into_iter().map(|layer| LayerBlob {
            source: BlobSource::Span { path: layer.blob, offset: 0 },
            media_type: String::new(),
            digest: layer.digest,
            size: layer.size,
            diff_id: layer.diff_id,
        });
        Flatten { layers: layers.collect(), path: self.at("flat/rootfs"), mounted_on: false }
    }

    /// Unpacks a stack, mounts it and lists it.
    pub fn overlay(&self, tars: &[Vec<u8>]) -> Result<Vec<String>> {
        let steps = self.layer_steps(tars);
        let listed = (|| {
            run(&Layers { layers: steps.clone() }, &self.host)?;
            steps.iter().for_each(|step| assert_eq!(verify(step, Depth::Whole), [], "the list of {} is wrong", step.path.display()));
            let layers: Vec<PathBuf> = steps.iter().rev().map(|step| step.path.clone()).collect();
            let mut lowers: Vec<String> = overlay_lowers(&layers)?.iter().map(|lower| lower.display().to_string()).collect();
            lowers.push(self.at("empty").display().to_string());
            let options = format!("lowerdir={},index=off,metacopy=off,redirect_dir=nofollow,xino=off", lowers.join(":"));
            mount(Some("overlay"), &self.at("view"), Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str())).unwrap();
            let listed = list(&self.at("view"));
            // A child that another test is just starting holds a copy of every descriptor until it executes.
            nix::mount::umount2(&self.at("view"), nix::mount::MntFlags::MNT_DETACH).unwrap();
            Ok(listed)
        })();
        for step in steps.iter().rev() {
            step.undo(&Default::default(), &self.host).unwrap();
        }
        assert_eq!(names(&self.host.layers()), Vec::<String>::new(), "layers are left");
        listed
    }

    /// Unpacks a stack into a plain directory and lists it.
    pub fn flat(&self, tars: &[Vec<u8>]) -> Result<Vec<String>> {
        let step = self.flatten_step(tars);
        let before = step.look(&self.host)?;
        let listed = step.apply(&before, &self.host).map(|()| list(&step.path));
        for _ in 0..2 {
            step.undo(&before, &self.host).unwrap();
        }
        assert_eq!(names(&self.at("flat")), Vec::<String>::new(), "a flat tree is left");
        assert_eq!(names(&self.at("run")), Vec::<String>::new(), "a mark is left");
        listed
    }

    pub fn canary(&self) -> Vec<String> {
        let mut lines = list(&self.at("canary"));
        let meta = fs::metadata(self.at("canary")).unwrap();
        lines.push(format!("{} {} {:o}", meta.ctime(), meta.ctime_nsec(), meta.mode()));
        lines.extend(names(self.dir.path()));
        lines
    }
}

/// What differs from the list of a layer.
pub fn verify(layer: &Layer, depth: Depth) -> Vec<Finding> {
    let digest = find_stamp(&layer.path).unwrap().unwrap().list.unwrap();
    tree_verify::verify(&layer.path.join("fs"), &layer.path.join("layer.mtree"), &digest, depth).unwrap().0
}

pub fn run<A: Action>(step: &A, host: &Host) -> Result<()> {
    let before = step.look(host)?;
    if step.already(&before) { Ok(()) } else { step.apply(&before, host) }
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Lists a tree: `f usr/x 644 0:0 =content`, `d a 755 0:0`, `l x -> y`; `@TIME` where it is not 1000, `{xattr=value}`.
pub fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines.retain(|line| line != "d . 755 0:0 @0");
    lines.sort();
    lines
}

fn walk(root: &Path, path: &Path, lines: &mut Vec<String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
    let kind = meta.file_type();
    let letter =
        [(kind.is_dir(), 'd'), (kind.is_file(), 'f'), (kind.is_symlink(), 'l'), (kind.is_fifo(), 'p'), (kind.is_block_device(), 'b')];
    let letter = letter.iter().find(|(is, _)| *is).map_or('c', |(_, letter)| *letter);
    let mut line =
        format!("{letter} {} {:o} {}:{}", if name.is_empty() { "." } else { &name }, meta.mode() & 0o7777, meta.uid(), meta.gid());
    match letter {
        'f' if meta.len() < 100 => line += &format!(" ={}", fs::read(path).unwrap().escape_ascii()),
        'f' => line += &format!(" {}", sum(&fs::read(path).unwrap())),
        'l' => line += &format!(" -> {}", fs::read_link(path).unwrap().display()),
        'c' | 'b' => line += &format!(" {}:{}", nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev())),
        _ => {}
    }
    if (meta.mtime(), meta.mtime_nsec()) != (1000, 0) {
        line += &format!(" @{}", meta.mtime());
        if meta.mtime_nsec() != 0 {
            line += &format!(".{:09}", meta.mtime_nsec());
        }
    }
    for (name, value) in xattrs(path) {
        line += &format!(" {{{}={}}}", name.escape_ascii(), value.escape_ascii());
    }
    lines.push(line);
    if letter == 'd' {
        for name in fs::read_dir(path).unwrap() {
            walk(root, &name.unwrap().path(), lines);
        }
    }
}

#[allow(unsafe_code)]
fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let c_path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut buffer = vec![0_u8; 65536];
    // SAFETY: the path ends with NUL and the buffer has the length that is passed.
    let count = unsafe { libc::llistxattr(c_path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let listed = buffer[..usize::try_from(count).unwrap_or(0)].to_vec();
    let mut pairs = Vec::new();
    for name in listed.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let c_name = CString::new(name).unwrap();
        // SAFETY: as above.
        let count = unsafe { libc::lgetxattr(c_path.as_ptr(), c_name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
        pairs.push((name.to_vec(), buffer[..usize::try_from(count).unwrap_or(0)].to_vec()));
    }
    pairs.sort();
    pairs
}

pub fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
