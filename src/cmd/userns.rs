//! User namespaces of boxes: which ids they get, and the steps around them.

use std::path::{Path, PathBuf};

use super::output;
use crate::bundle::user::Identity;
use crate::fault::{Fault, Kind, Result};
use crate::idmap::{self, IdMap, IdRange, Mode, Span};
use crate::ids::Id;
use crate::record::{Shift, UserNs};
use crate::step::namespaces::NewUser;
use crate::step::{Directory, Home, IdClaim, Pin, SharedDir, Step, holding};
use crate::sys::{Host, file, mapped, rootless};

/// Settles what `--userns` asks for; `run` is the volatile directory of the box.
///
/// *Errors:* `InvalidArgument` for what is no mode, `ResourceExhausted` when no range is free.
pub fn settle(host: &Host, asked: Option<&str>, id: &Id, run: &Path) -> Result<Option<UserNs>> {
    let mode = asked.unwrap_or("host");
    let (map, claim) = match idmap::parse(mode)? {
        Mode::Host => return Ok(None),
        _ if rootless::is_rootless() => {
            return Err(Fault::new(Kind::Unimplemented, format!("--userns {mode} needs root"))
                .hint("leave it out: an ordinary user's containers are in a user namespace of his already"));
        }
        Mode::Auto(size) => {
            let start = free_range(host, size)?;
            (IdMap::contiguous(start, size), Some(host.id_claims().join(format!("{start}-{size}"))))
        }
        Mode::KeepId => (IdMap(vec![IdRange { inside: 0, outside: 0, size: u32::MAX }]), None),
        Mode::Map(map) => (map, None),
    };
    let shift = match map.is_identity() {
        true => Shift::None,
        false if mapped::works(&nearest(&host.root)?) => Shift::Mounts,
        false => Shift::Copy,
    };
    Ok(Some(UserNs { mode: mode.to_owned(), pin: run.join("user"), map, claim, root: host.userns_roots().join(id.as_str()), shift }))
}

/// The user namespace of a container in a sandbox that has one.
pub fn joined(host: &Host, sandbox: &UserNs, id: &Id) -> UserNs {
    UserNs { claim: None, root: host.userns_roots().join(id.as_str()), ..sandbox.clone() }
}

/// The nearest directory at or above `path` that is there.
fn nearest(path: &Path) -> Result<PathBuf> {
    for dir in path.ancestors() {
        if file::exists(dir)? {
            return Ok(dir.to_path_buf());
        }
    }
    Ok(PathBuf::from("/"))
}

fn free_range(host: &Host, size: u32) -> Result<u32> {
    let text = |path: &str| -> Result<String> {
        Ok(file::find(Path::new(path), 1 << 20)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    };
    let own = idmap::own_ranges(&text("/etc/subuid")?, &text("/etc/subgid")?)?;
    let mut taken = Vec::new();
    for name in file::list(&host.id_claims())? {
        let Some(span) = Span::of_claim(&name) else { continue };
        let holder = file::find_symlink(&host.id_claims().join(&name))?;
        if let Some(holder) = holder
            && holding::is_alive(&holder, host)?
        {
            taken.push(span);
        }
    }
    idmap::choose(&own, &taken, size)
}

/// The claim of a box, and the directory of all claims: first of all steps but the box's name.
pub fn claim_steps(host: &Host, userns: Option<&UserNs>, id: &Id) -> Vec<Step> {
    let Some(path) = userns.and_then(|userns| userns.claim.clone()) else { return Vec::new() };
    vec![Home { dirs: vec![host.id_claims()] }.into(), IdClaim { path, id: id.clone() }.into()]
}

/// The namespace to be made.
pub fn new(userns: Option<&UserNs>) -> Option<NewUser> {
    userns.map(|userns| NewUser { path: userns.pin.clone(), map: userns.map.clone() })
}

/// The steps that show the directory `rootfs` where the root of the namespace may go: its own way there leads through `0700`.
pub fn root_steps(host: &Host, userns: Option<&UserNs>, rootfs: PathBuf) -> Vec<Step> {
    let Some(userns) = userns else { return Vec::new() };
    vec![
        SharedDir { path: host.userns_roots(), mode: 0o711 }.into(),
        Directory { owner: userns.map.root(), ..Directory::new(userns.root.clone(), 0o700) }.into(),
        Pin { source: rootfs, below: None, target: userns.rootfs(), shared: false, ids: None }.into(),
    ]
}

/// Refuses a process whose user or group the namespace does not have; supplementary groups that it does not have are left out, and told.
pub fn fit_identity(userns: Option<&UserNs>, identity: &mut Identity) -> Result<()> {
    let Some(userns) = userns else { return Ok(()) };
    let lacks = |id: &u32| userns.map.outside(*id).is_none();
    let left: Vec<String> = identity.groups.iter().filter(|id| lacks(id)).map(ToString::to_string).collect();
    identity.groups.retain(|id| !lacks(id));
    if !left.is_empty() {
        output::note(&format!("warning: the user namespace has no groups {}: the process is not in them", left.join(", ")));
    }
    match [identity.uid, identity.gid].iter().find(|id| lacks(id)) {
        None => Ok(()),
        Some(id) => Err(Fault::invalid(format!("id {id} of the process is not in its user namespace ({})", userns.mode))
            .hint("map it, give --userns auto:size=N, or another --user")),
    }
}

/// The user namespace that is left of a box whose record is damaged.
pub fn salvage(host: &Host, id: &Id, run: &Path) -> Result<Option<UserNs>> {
    let root = host.userns_roots().join(id.as_str());
    let mut claim = None;
    for name in file::list(&host.id_claims())? {
        let path = host.id_claims().join(name);
        if file::find_symlink(&path)?.as_deref() == Some(id.as_str()) {
            claim = Some(path);
        }
    }
    if claim.is_none() && !file::exists(&root)? {
        return Ok(None);
    }
    Ok(Some(UserNs { mode: String::new(), pin: run.join("user"), map: IdMap::default(), claim, root, shift: Shift::None }))
}

/// Takes back claims whose boxes are gone.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for name in file::list(&host.id_claims())? {
        let path = host.id_claims().join(&name);
        let Some(holder) = file::find_symlink(&path)? else { continue };
        if !holding::is_alive(&holder, host)? {
            file::remove_file(&path)?;
            gone.push(format!("the ids {name} of a box that is gone"));
        }
    }
    Ok(gone)
}
