//! An ordinary user's rkbox: it enters a user and a mount namespace of the user's own and goes on there as their root.
//!
//! A process that waits keeps the namespaces from command to command, as podman's pause process does; it ends with the login or by its pid.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::unistd::{execve, getegid, geteuid};

use super::dir_lock::{self, Beside};
use super::exec::{self, Exec};
use super::file::{self, Durable};
use super::ns::holder::Holder;
use super::{proc, tree_xattr};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::idmap::{self, IdMap, IdRange, Span};

/// Says to the rkbox inside that it is one.
pub const MARK: &str = "RKBOX_ROOTLESS";

/// Where an ordinary user's state is: the variable, the base directory's variable and its default below the home directory, the rest.
const PLACES: [(&str, &str, &str, &str); 4] = [
    ("RKBOX_ROOT", "XDG_DATA_HOME", ".local/share", "rkbox"),
    ("RKBOX_CNI_CONF_DIR", "XDG_CONFIG_HOME", ".config", "cni/net.d"),
    ("RKBOX_CNI_STATE_DIR", "XDG_DATA_HOME", ".local/share", "cni"),
    ("RKBOX_RUN", "XDG_RUNTIME_DIR", "", "rkbox"),
];

/// Whether the user namespace is not the first one: attributes of layers are then those of `user.overlay`.
pub fn in_user_namespace() -> bool {
    file::read_kernel(Path::new("/proc/self/uid_map")).is_ok_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"]))
}

/// Whether this is the root of an ordinary user's own namespace.
pub fn is_rootless() -> bool {
    std::env::var_os(MARK).is_some() && in_user_namespace()
}

/// What an ordinary user's rkbox cannot do, refused by name with the way to get it.
pub fn refuse(what: &str, hint: &str) -> Result<()> {
    if !is_rootless() {
        return Ok(());
    }
    Err(Fault::new(Kind::Unimplemented, format!("{what} needs root")).hint(hint.to_owned()))
}

/// Goes on as root of the user's own namespaces; comes back only when this user has no subordinate ids, or with an error.
///
/// *Errors:* `FailedPrecondition` when newuidmap is not there or `XDG_RUNTIME_DIR` is not set.
pub fn enter() -> Result<()> {
    if !is_ordinary_user() {
        return Ok(());
    }
    let Some((uids, gids)) = own_maps()? else { return Ok(()) };
    let places = places()?;
    let run = PathBuf::from(&places.iter().find(|(name, _)| name == "RKBOX_RUN").map(|(_, path)| path.clone()).unwrap_or_default());
    let _ = file::create_dir(&run, 0o700);
    // Two first commands at once make one holder.
    let _held = dir_lock::acquire(&run, Beside::Nobody, Duration::from_secs(30))?;
    if !holder_of(&run).is_some_and(join) && !replace_holder(&run)? {
        let holder = Holder::begin_lasting(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| {
            Fault::new(Kind::PermissionDenied, format!("making a user namespace: {errno}"))
                .hint("sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone")
        })?;
        write_map("newuidmap", &holder, &uids)?;
        write_map("newgidmap", &holder, &gids)?;
        let pid = note_holder(&run, holder)?;
        if !join(pid) {
            return Err(Fault::new(Kind::Conflict, "the user namespace ended at once"));
        }
    }
    execute(places)
}

/// Whether this is an ordinary user's rkbox that has not entered his namespaces.
pub fn is_ordinary_user() -> bool {
    !geteuid().is_root()
}

/// Whether a program has rights that its caller lacks: set-uid, or a capability of its file.
pub fn gives_rights(program: &Path) -> bool {
    let has_capability = |file: &File| tree_xattr::find(file.as_fd(), b"security.capability").is_ok_and(|found| found.is_some());
    let is_setuid = fs::metadata(program).is_ok_and(|meta| meta.mode() & 0o4000 != 0);
    is_setuid || File::open(program).is_ok_and(|file| has_capability(&file))
}

/// The name of this user, or his number.
pub fn own_name() -> String {
    let uid = geteuid();
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// The maps of this user; `None` when he has no subordinate ids.
pub fn own_maps() -> Result<Option<(IdMap, IdMap)>> {
    maps(geteuid().as_raw(), getegid().as_raw())
}

/// Makes a user and a mount namespace, and lets them go.
pub fn try_namespace() -> nix::Result<()> {
    Holder::begin(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map(drop)
}

/// The maps of a user: himself as root, then his subordinate ids; `None` when he has none.
fn maps(uid: u32, gid: u32) -> Result<Option<(IdMap, IdMap)>> {
    let text = |path: &str| -> Result<String> {
        Ok(file::find(Path::new(path), 1 << 20)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    };
    let name = own_name();
    let spans = |path: &str| -> Result<Vec<Span>> {
        let text = text(path)?;
        let (mut own, _) = idmap::subordinate(&text, &name);
        own.extend(idmap::subordinate(&text, &uid.to_string()).0);
        Ok(own)
    };
    let (uids, gids) = (spans("/etc/subuid")?, spans("/etc/subgid")?);
    if uids.is_empty() || gids.is_empty() {
        return Ok(None);
    }
    let map = |own: u32, spans: &[Span]| {
        let mut ranges = vec![IdRange { inside: 0, outside: own, size: 1 }];
        let mut next = 1;
        for span in spans {
            ranges.push(IdRange { inside: next, outside: span.start, size: span.count });
            next += span.count;
        }
        IdMap(ranges)
    };
    Ok(Some((map(uid, &uids), map(gid, &gids))))
}

fn write_map(program: &str, holder: &Holder, map: &IdMap) -> Result<()> {
    let path = exec::find(program).map_err(|error| Fault::from(error).hint("apt-get install uidmap, or run rkbox as root"))?;
    let words = map.0.iter().flat_map(|range| [range.inside, range.outside, range.size]).map(|number| number.to_string());
    let done = Exec::new(&path).arg(holder.pid().to_string()).args(words).capture(Duration::from_secs(10))?;
    if done.status.success() {
        return Ok(());
    }
    Err(Fault::new(Kind::PermissionDenied, format!("{program}: {}", done.stderr.trim()))
        .hint("mend the user's lines in /etc/subuid and /etc/subgid"))
}

/// Where the state is, as variables: what is set already stays.
pub fn places() -> Result<Vec<(String, OsString)>> {
    let home = std::env::var_os("HOME").filter(|home| Path::new(home).is_absolute());
    let mut all = Vec::new();
    for (name, base, below_home, rest) in PLACES {
        if let Some(said) = std::env::var_os(name) {
            all.push((name.to_owned(), said));
            continue;
        }
        let base_dir = match (std::env::var_os(base).filter(|dir| Path::new(dir).is_absolute()), &home) {
            (Some(dir), _) => PathBuf::from(dir),
            (None, Some(home)) if !below_home.is_empty() => Path::new(home).join(below_home),
            _ => {
                return Err(
                    Fault::new(Kind::FailedPrecondition, format!("{base} is not set")).hint(format!("log in properly, or set {name}"))
                );
            }
        };
        all.push((name.to_owned(), base_dir.join(rest).into_os_string()));
    }
    Ok(all)
}

/// The pid that was written down.
fn holder_of(run: &Path) -> Option<i32> {
    let bytes = file::find(&run.join("holder.pid"), 64).ok().flatten()?;
    String::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// Writes down who holds the namespaces, and which they are; the holder lives on.
fn note_holder(run: &Path, holder: Holder) -> Result<i32> {
    let pid = holder.keep();
    let names = namespaces_of(pid).unwrap_or_default();
    file::write_atomic(&run.join("holder.ns"), 0o600, names.as_bytes(), Durable::No).doing(|| "keeping the namespaces")?;
    file::write_atomic(&run.join("holder.pid"), 0o600, pid.to_string().as_bytes(), Durable::No).doing(|| "keeping the namespaces")?;
    Ok(pid)
}

/// *Shape:* `user:[4026532201] mnt:[4026532202]`.
fn namespaces_of(pid: i32) -> Option<String> {
    let link = |kind: &str| Some(fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?.to_string_lossy().into_owned());
    Some(format!("{} {}", link("user")?, link("mnt")?))
}

/// Enters the namespaces of a holder that was killed by way of another process in them, a monitor, and begins a new holder there.
fn replace_holder(run: &Path) -> Result<bool> {
    let Some(lost) = file::find(&run.join("holder.ns"), 256)? else { return Ok(false) };
    let lost = String::from_utf8_lossy(&lost).into_owned();
    if !proc::pids().into_iter().any(|pid| namespaces_of(pid).is_some_and(|names| names == lost) && join(pid)) {
        return Ok(false);
    }
    let holder = Holder::begin_lasting(CloneFlags::empty()).map_err(|errno| Fault::internal(format!("fork: {errno}")))?;
    note_holder(run, holder).map(|_| true)
}

/// Enters the namespaces of a process; `false` when there is none, or not one of this user's.
fn join(pid: i32) -> bool {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    // Another process may have got the number: it must be this user's, and wait where we left it.
    let ours = fs::metadata(&dir).is_ok_and(|meta| meta.uid() == geteuid().as_raw());
    let (Ok(user), Ok(mounts)) = (File::open(dir.join("ns/user")), File::open(dir.join("ns/mnt"))) else { return false };
    let other = |kind: &str| fs::read_link(dir.join("ns").join(kind)).ok() != fs::read_link(Path::new("/proc/self/ns").join(kind)).ok();
    if !ours || !other("user") || !other("mnt") {
        return false;
    }
    let here = std::env::current_dir();
    if setns(&user, CloneFlags::CLONE_NEWUSER).is_err() || setns(&mounts, CloneFlags::CLONE_NEWNS).is_err() {
        return false;
    }
    let _ = here.and_then(std::env::set_current_dir);
    true
}

/// Executes this program again: as root of the namespaces that were entered.
fn execute(places: Vec<(String, OsString)>) -> Result<()> {
    let word = |word: OsString| CString::new(word.into_vec()).map_err(|_| Fault::internal("a word with a NUL byte"));
    let pair = |name: &OsString, value: &OsString| word(OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat()));
    let mut environment: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| places.iter().all(|(known, _)| name != known.as_str())).collect();
    environment.extend(places.into_iter().map(|(name, value)| (name.into(), value)));
    environment.push((MARK.into(), geteuid().as_raw().to_string().into()));
    let arguments = std::env::args_os().map(word).collect::<Result<Vec<_>>>()?;
    let environment = environment.iter().map(|(name, value)| pair(name, value)).collect::<Result<Vec<_>>>()?;
    let program = word(exec::own_program()?.into_os_string())?;
    match execve(&program, &arguments, &environment) {
        Ok(never) => match never {},
        Err(errno) => Err(Fault::internal(format!("exec of rkbox itself: {errno}"))),
    }
}
