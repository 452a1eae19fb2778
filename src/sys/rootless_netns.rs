//! The network namespace in which an ordinary user's bridges are, and `pasta`, the way out of it.
//!
//! Both are told by the kernel alone: the namespace by what is mounted on its file, pasta by the link that dies with it.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::exec::{self, Bond, Exec, Stream};
use super::file;
use super::netlink::Netlink;
use super::ns::{self, NsKind};
use super::{Host, dir_lock, proc, scratch};
use crate::fault::{Context as _, Fault, Kind, Result};

/// The program.
pub const PROGRAM: &str = "pasta";
/// Its link in the namespace.
pub const LINK: &str = "pasta0";
/// Of what Debian calls the package.
pub const WAY_TO_GET_IT: &str = "apt install passt; or say --net none or --net host";

/// How long pasta may take until its link has a route.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long another command may take that makes the namespace or starts pasta.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

impl Host {
    /// Where the file of that namespace is below `run`, or beside it: where the AppArmor profile of Debian lets pasta look.
    pub fn rootless_netns_of(run: &Path) -> PathBuf {
        run.with_file_name("netns").join(run.file_name().unwrap_or_default())
    }

    /// Runs `act` where the bridges are; where none can be yet, in an empty namespace, in which nothing is found.
    pub fn at_bridges<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match &self.rootless_netns {
            None => act(),
            Some(path) if ns::is_namespace(path, NsKind::Net)? => ns::inside(path, act)?,
            Some(_) => ns::inside_nothing(act)?,
        }
    }

    /// As [`Host::at_bridges`], to change something there: a namespace that somebody just took away is a lost race.
    pub fn change_bridges<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match &self.rootless_netns {
            Some(path) if !ns::is_namespace(path, NsKind::Net)? => {
                Err(Fault::new(Kind::Conflict, format!("network namespace {} is gone", path.display())).hint("try again"))
            }
            _ => self.at_bridges(act),
        }
    }
}

/// Holds off other commands that make or take away the namespace at `path` or its way out.
pub fn hold(path: &Path) -> Result<Option<dir_lock::DirLock>> {
    dir_lock::acquire(path.parent().unwrap_or(path), dir_lock::Beside::Nobody, LOCK_LIMIT)
}

/// Whether there is a link of a network in the namespace at `path`.
pub fn is_used(path: &Path) -> Result<bool> {
    if !ns::is_namespace(path, NsKind::Net)? {
        return Ok(false);
    }
    ns::inside(path, has_links)?
}

fn has_links() -> Result<bool> {
    Ok(Netlink::open()?.links()?.iter().any(|link| !matches!(link.name.as_str(), "lo" | LINK)))
}

fn has_gateway() -> Result<bool> {
    let mut netlink = Netlink::open()?;
    for link in netlink.links()?.iter().filter(|link| link.is_bridge()) {
        if netlink.addresses(link.index)?.iter().any(|address| !matches!(address.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes the namespace away while nobody uses it, and its pasta; whether it is gone.
///
/// Who began to use it meanwhile keeps it: a step that found it gone tries again, and none has made a link and its port in between.
pub fn remove(path: &Path) -> Result<bool> {
    let _held = hold(path)?;
    if is_used(path)? {
        return Ok(false);
    }
    let opened = ns::open(path, NsKind::Net).ok();
    ns::unpin(path)?;
    match opened {
        Some(netns) if ns::inside_open(&netns, path, has_links)?? => {
            ns::pin_open(&netns, path)?;
            Ok(false)
        }
        _ => stop(path).map(|()| true),
    }
}

/// Whether the way out stands.
pub fn has_way_out(path: &Path) -> Result<bool> {
    if !ns::is_namespace(path, NsKind::Net)? {
        return Ok(false);
    }
    ns::inside(path, || -> Result<bool> {
        let mut netlink = Netlink::open()?;
        let Some(link) = netlink.find_link(LINK)? else { return Ok(false) };
        Ok(netlink.routes()?.iter().any(|route| route.dst.prefix() == 0 && route.index == Some(link.index)))
    })?
}

/// Whether this host itself has a way out that pasta could use.
pub fn has_default_route() -> Result<bool> {
    Ok(Netlink::open()?.routes()?.iter().any(|route| route.dst.prefix() == 0))
}

/// The words of the call, without the name of the program.
///
/// Nothing is forwarded inwards, and neither the gateway nor loopback leads to this host.
pub fn words(path: &Path) -> Vec<String> {
    let mut words = ["--config-net", "--quiet", "--no-map-gw", "--ns-ifname", LINK].map(str::to_owned).to_vec();
    words.extend(["-t", "-u", "-T", "-U"].iter().flat_map(|option| [(*option).to_owned(), "none".to_owned()]));
    words.extend(["--netns".to_owned(), path.to_string_lossy().into_owned()]);
    words
}

/// Starts pasta for the namespace at `path`, and waits until its link leads out.
///
/// *Errors:* `Unavailable` when it is not installed, or ended with what it said.
pub fn start(path: &Path) -> Result<()> {
    let program = find_program()?;
    let _held = hold(path)?;
    if has_way_out(path)? {
        return Ok(());
    }
    // One that was killed, or that a killed command had just started.
    stop(path)?;
    let io = |error: std::io::Error| Fault::internal(error.to_string());
    let told = scratch::create().map_err(io)?;
    let stderr = Stream::Fd(OwnedFd::from(told.try_clone().map_err(io)?));
    let exec = Exec::new(&program).arg("--foreground").args(words(path)).streams(Stream::Null, Stream::Null, stderr);
    let mut child = exec.spawn(Bond::Detached)?;
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if has_way_out(path)? {
            return Ok(());
        }
        if exec::wait_timeout(&mut child, Duration::from_millis(5))?.is_some() {
            let said = without_syslog(&scratch::tail(told));
            return Err(Fault::new(Kind::Unavailable, said).doing("starting pasta").hint(hint()));
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            let said = without_syslog(&scratch::tail(told));
            return Err(Fault::new(Kind::DeadlineExceeded, format!("no way out after {START_LIMIT:?}: {said}")).doing("starting pasta"));
        }
    }
}

/// Starts pasta again where it was killed and a network with a gateway is left; whether it had to.
pub fn mend(path: &Path) -> Result<bool> {
    if !ns::is_namespace(path, NsKind::Net)? {
        return Ok(false);
    }
    let lost = ns::inside(path, has_gateway)?? && !has_way_out(path)? && has_default_route()?;
    if lost {
        start(path)?;
    }
    Ok(lost)
}

/// Finds pasta.
pub fn find_program() -> Result<PathBuf> {
    exec::find(PROGRAM).hint(|| WAY_TO_GET_IT)
}

/// What pasta says beside its own complaints about a log that is not there.
fn without_syslog(said: &str) -> String {
    let lines = said.lines().filter(|line| !line.contains("to syslog") && !line.trim().is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// Opens the device that pasta needs.
pub fn open_tun() -> std::io::Result<()> {
    std::fs::File::options().read(true).write(true).open("/dev/net/tun").map(drop)
}

fn hint() -> String {
    match open_tun() {
        Err(error) => format!("/dev/net/tun cannot be opened ({error}): as root, modprobe tun, chmod 0666 /dev/net/tun; or --net none"),
        Ok(_) => "rkbox doctor tells what is missing; or say --net none".to_owned(),
    }
}

/// Ends the pasta of the namespace at `path`; absence is fine.
///
/// It is known by its words, and by this host's network, which it leads to: a pid that was written down could be another's by now.
pub fn stop(path: &Path) -> Result<()> {
    for pid in proc::pids() {
        let is_ours = || is_of(pid, path);
        if !is_ours() {
            continue;
        }
        let Ok(pidfd) = proc::open_pidfd(pid) else { continue };
        if is_ours() {
            proc::send_kill(pidfd.as_fd())?;
            proc::wait_readable(pidfd.as_fd(), Duration::from_secs(5))?;
        }
    }
    Ok(())
}

fn is_of(pid: i32, path: &Path) -> bool {
    let Ok(text) = file::read_kernel(Path::new(&format!("/proc/{pid}/cmdline"))) else { return false };
    let words: Vec<&str> = text.split('\0').collect();
    let program = words.first().and_then(|word| Path::new(word).file_name());
    let is_told =
        program.is_some_and(|name| name == PROGRAM) && words.windows(2).any(|pair| pair[0] == "--netns" && Path::new(pair[1]) == path);
    is_told && ns::is_own_netns(Path::new(&format!("/proc/{pid}/ns/net"))).unwrap_or(false)
}
