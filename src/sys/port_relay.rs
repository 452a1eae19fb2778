//! The process that publishes ports for an ordinary user: it listens on this host and leads into the network namespace of his bridges.
//!
//! It is known by its words alone, as pasta is: a pid that was written down could be another's by now.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::exec::{Bond, Exec, Stream};
use super::relay::{Relay, Remote, Way};
use super::{file, proc, signal};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ports::Forward;

/// The name under which rkbox is called to be one (`argv[0]`).
pub const PROGRAM: &str = "rkbox-ports";
/// What it says when it listens on all its ports.
const READY: &str = "ready\n";
/// How long one may take to go.
const END_LIMIT: Duration = Duration::from_secs(5);
/// A longer answer is none.
const ANSWER_LIMIT: u64 = 4096;

/// The words of the call: the namespace, whose ports they are, and each port.
///
/// *Shape:* `/run/user/1000/netns/rkbox 0fa3… tcp 0.0.0.0:8080 10.88.0.2:80`.
pub fn words(netns: &Path, owner: &str, forwards: &[Forward]) -> Vec<String> {
    let mut words = vec![netns.to_string_lossy().into_owned(), owner.to_owned()];
    for forward in forwards {
        let (near, far) =
            (SocketAddr::new(forward.host_address(), forward.host_port), SocketAddr::new(forward.target, forward.target_port));
        words.extend([forward.protocol.to_string(), near.to_string(), far.to_string()]);
    }
    words
}

/// Starts one, and waits until it listens.
///
/// *Errors:* what it said: a port that somebody has, an address that is not this host's.
pub fn start(netns: &Path, owner: &str, forwards: &[Forward]) -> Result<()> {
    let exec = Exec::new(Path::new("/proc/self/exe")).arg0(PROGRAM).args(words(netns, owner, forwards));
    let mut child = exec.streams(Stream::Null, Stream::Pipe, Stream::Null).spawn(Bond::Detached)?;
    let pipe = child.stdout.take().ok_or_else(|| Fault::internal("the relay of ports has no pipe"))?;
    let mut said = String::new();
    pipe.take(ANSWER_LIMIT).read_to_string(&mut said).map_err(|error| Fault::internal(error.to_string()))?;
    if said == READY {
        return Ok(());
    }
    let _ = (child.kill(), child.wait());
    let kind = if said.contains("in use") { Kind::AlreadyExists } else { Kind::FailedPrecondition };
    let said = if said.trim().is_empty() { "the relay of ports ended without a word" } else { said.trim() };
    Err(Fault::new(kind, said).hint("choose another port, or an address of this host"))
}

/// The processes with these words.
pub fn find(netns: &Path, owner: &str, forwards: &[Forward]) -> Vec<i32> {
    let words = words(netns, owner, forwards);
    proc::pids().into_iter().filter(|pid| is_of(*pid, &words)).collect()
}

fn is_of(pid: i32, words: &[String]) -> bool {
    let Ok(text) = file::read_kernel(Path::new(&format!("/proc/{pid}/cmdline"))) else { return false };
    let mut told = text.trim_end_matches('\0').split('\0');
    told.next() == Some(PROGRAM) && told.eq(words.iter().map(String::as_str))
}

/// Ends those with these words; absence is fine.
pub fn stop(netns: &Path, owner: &str, forwards: &[Forward]) -> Result<()> {
    let words = words(netns, owner, forwards);
    for pid in find(netns, owner, forwards) {
        let Ok(pidfd) = proc::open_pidfd(pid) else { continue };
        if is_of(pid, &words) {
            proc::send_kill(pidfd.as_fd())?;
            proc::wait_readable(pidfd.as_fd(), END_LIMIT)?;
        }
    }
    Ok(())
}

/// Is one: `argv` as [`words`] made it.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout();
    let opened = signal::install().and_then(|()| open(&words));
    let said = match &opened {
        Ok(_) => READY.to_owned(),
        Err(fault) => fault.to_string(),
    };
    if out.write_all(said.as_bytes()).and_then(|()| out.flush()).is_err() || super::streams::let_go().is_err() {
        return ExitCode::FAILURE;
    }
    match opened.and_then(|relay| relay.run(&mut |_| {})) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn open(words: &[String]) -> Result<Relay> {
    let bad = || Fault::invalid("the words of a relay of ports are a namespace, an owner, and PROTOCOL NEAR FAR for each port");
    let [netns, _, ports @ ..] = words else { return Err(bad()) };
    let ways: Option<Vec<Way>> = ports
        .chunks(3)
        .map(|port| {
            let [protocol, near, far] = port else { return None };
            Some(Way { protocol: protocol.parse().ok()?, local: near.parse().ok()?, remote: Remote::At(far.parse().ok()?) })
        })
        .collect();
    Relay::open(Path::new(netns), &ways.ok_or_else(bad)?).doing(|| "publishing ports").map(|(relay, _)| relay)
}
