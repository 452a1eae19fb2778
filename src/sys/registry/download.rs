//! A blob into the store: from where a former pull left it, from whichever endpoint gives it, verified.

use std::fs::{File, Permissions};
use std::io::{Read, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ask::{Ask, Reply, Verb, header};
use super::flight::Flight;
use super::patience;
use super::tried::{Got, Miss, Tried};
use super::{Session, held};
use crate::fault::{Context as _, Fault, Kind, Result, kind_of_errno};
use crate::image::registry::{Challenge, Endpoint, challenge};
use crate::image::{Digest, Hasher, Reference};
use crate::sys::lock::{self, Lock};
use crate::sys::{Errno, Halt, blob_seal, file, store};

/// Bytes of one read.
const CHUNK: usize = 256 << 10;
/// A connection that gave so much before it broke counts as one that works: its tries begin again.
const PROGRESS: u64 = 64 << 10;
/// How often somebody who waits for another process looks around.
const GLANCE: Duration = Duration::from_millis(20);
/// How often a watcher is told of bytes.
const TOLD: Duration = Duration::from_millis(50);

/// Where a blob comes from, as the journal and a script say it: nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// The reference that led to it.
    pub reference: String,
    /// Where the endpoint that gave the manifest has it.
    pub url: String,
    /// What that endpoint asks for first.
    pub access: Access,
}

/// What a request must bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Nothing.
    Open,
    /// A name and password.
    Basic,
    /// A token from this URL.
    Token(String),
}

/// What is to be fetched.
struct Wanted<'a> {
    digest: &'a Digest,
    size: u64,
    target: PathBuf,
    halt: &'a Halt,
}

/// What is there of it.
struct Half {
    held: Lock,
    hash: Hasher,
    bytes: u64,
    /// Bytes that a former pull left.
    resumed: u64,
    told: Instant,
}

impl Session {
    /// Where the blob of `digest` is, for the journal.
    pub fn remote(&self, reference: &Reference, digest: &Digest) -> Result<Remote> {
        let endpoints = self.endpoints(reference)?;
        let endpoint = endpoints.iter().find(|endpoint| endpoint.pulls);
        let endpoint = endpoint.ok_or_else(|| Fault::new(Kind::FailedPrecondition, format!("nobody gives the blobs of {reference}")))?;
        let access = match self.inner.logins.challenge(endpoint) {
            None => Access::Open,
            Some(Challenge::Basic) => Access::Basic,
            Some(Challenge::Bearer { realm, service, scope }) => Access::Token(challenge::token_url(&realm, &service, &scope)),
        };
        Ok(Remote { reference: reference.to_string(), url: endpoint.blob(digest.as_str()), access })
    }

    /// Stores a blob. Another process that fetches it is waited for; what a dead one left is gone on from.
    ///
    /// A cut leaves what has come under a dot-name for the next pull. *Errors:* as [`Session::resolve`]; `Conflict` when what a former pull
    /// left was damaged, or an endpoint gave wrong bytes and there are others: then all begins anew.
    pub fn fetch(&self, store: &Path, (digest, size): (&Digest, u64), remote: &Remote, halt: &Halt) -> Result<()> {
        let flight = self.flight(digest);
        let wanted = Wanted { digest, size, target: digest.blob(store), halt };
        let partial = store::resumable(&wanted.target);
        let fetched = match self.lock(&wanted, &partial)? {
            None => Ok(()),
            // Only who holds the lock says what becomes of it.
            Some(held) => self.fetch_into(&wanted, remote, &flight, held).inspect_err(|_| flight.lose()),
        };
        fetched.inspect(|()| {
            flight.land();
            self.inner.options.watch.ends(digest);
        })
    }

    fn fetch_into(&self, wanted: &Wanted<'_>, remote: &Remote, flight: &Flight, held: Lock) -> Result<()> {
        let partial = held.path().to_path_buf();
        let mut half = Half::open(held, wanted)?;
        let _slot = self.inner.slots.take();
        self.inner.options.watch.begins(wanted.digest, wanted.size, half.bytes);
        flight.start(&partial, half.resumed > 0);
        let reference: Reference = remote.reference.parse()?;
        let giver = self.stream(wanted, &reference, &mut half, flight)?;
        self.settle(wanted, half, &partial, giver)
    }

    /// Waits for the lock of the unfinished blob; `None` when somebody else finished it.
    fn lock(&self, wanted: &Wanted<'_>, partial: &Path) -> Result<Option<Lock>> {
        let mut told = false;
        loop {
            if let Some(held) = lock::find_free(partial)? {
                if blob_seal::settle(&wanted.target, wanted.digest, wanted.size)? {
                    file::remove_file(partial)?;
                    return Ok(None);
                }
                return Ok(Some(held));
            }
            if !std::mem::replace(&mut told, true) {
                self.inner.options.watch.waits(wanted.digest);
            }
            patience::sleep(GLANCE, wanted.halt)?;
        }
    }

    /// Fetches what is missing; answers the endpoint that gave the last bytes.
    fn stream(&self, wanted: &Wanted<'_>, reference: &Reference, half: &mut Half, flight: &Flight) -> Result<Option<Endpoint>> {
        if half.bytes == wanted.size {
            return Ok(None);
        }
        let endpoints = self.endpoints(reference)?;
        let mut tried = Tried::default();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.pulls) {
            let lies = held(&self.inner.liars).iter().any(|(host, digest)| host == endpoint.host() && digest == wanted.digest);
            if lies || tried.has_answer_of(endpoint.host()) {
                continue;
            }
            let mut tries = 0;
            let miss = loop {
                patience::check(wanted.halt)?;
                let before = half.bytes;
                let miss = match self.stream_once(endpoint, wanted, half, flight) {
                    Ok(()) => return Ok(Some(endpoint.clone())),
                    Err(miss) => miss,
                };
                tries = if half.bytes - before >= PROGRESS { 1 } else { tries + 1 };
                let Some(pause) = miss.pause(tries) else { break miss };
                self.inner.options.watch.retries(&format!("{}: {miss}", endpoint.base));
                patience::sleep(pause, wanted.halt)?;
            };
            tried.note(endpoint, miss)?;
        }
        Err(tried.fault(&format!("blob {}", wanted.digest)))
    }

    fn stream_once(&self, endpoint: &Endpoint, wanted: &Wanted<'_>, half: &mut Half, flight: &Flight) -> Got<()> {
        let url = endpoint.blob(wanted.digest.as_str());
        let reply = self.ask(endpoint, &Ask { verb: Verb::Get, url: &url, accept: "", from: half.bytes })?;
        let skip = skipped(&reply, half.bytes, wanted.size)?;
        let mut body = reply.into_body().into_with_config().limit(u64::MAX).reader();
        let broken = |error: std::io::Error| match super::ask::missed(error.into()) {
            Miss::Closed(what, kind) | Miss::Broken(what, kind) => Miss::Cut(what, kind),
            other => other,
        };
        // The server gave the blob from its start: what is there already is passed over.
        std::io::copy(&mut (&mut body).take(skip), &mut std::io::sink()).map_err(broken)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            patience::check(wanted.halt).map_err(Miss::Fatal)?;
            let count = body.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                break;
            }
            if half.bytes + count as u64 > wanted.size {
                return Err(Miss::Wrong(format!("it gave more than the {} bytes that the manifest says", wanted.size)));
            }
            half.take(&buffer[..count]).map_err(Miss::Fatal)?;
            flight.reach(half.bytes);
            if half.told.elapsed() >= TOLD {
                half.told = Instant::now();
                self.inner.options.watch.reaches(wanted.digest, half.bytes);
            }
        }
        if half.bytes < wanted.size {
            return Err(Miss::Cut(format!("it ended after {} of {} bytes", half.bytes, wanted.size), Kind::Unavailable));
        }
        Ok(())
    }

    /// Verifies and names what has come.
    fn settle(&self, wanted: &Wanted<'_>, half: Half, partial: &Path, giver: Option<Endpoint>) -> Result<()> {
        let found = half.hash.clone().finish();
        if found != *wanted.digest {
            let resumed = half.resumed > 0;
            file::remove_file(partial)?;
            if resumed {
                return Err(Fault::new(Kind::Conflict, format!("what a former pull left of blob {} was damaged", wanted.digest)));
            }
            return Err(self.accuse(wanted, &found, giver));
        }
        blob_seal::seal(half.held.file(), wanted.digest).map_err(|error| call_fault("futimens", partial, &error))?;
        half.held.file().sync_all().map_err(|error| call_fault("fsync", partial, &error))?;
        file::rename(partial, &wanted.target)?;
        file::sync_parent(&wanted.target)?;
        Ok(())
    }

    /// Remembers who gave wrong bytes. The first time it is worth to try again: another endpoint may have the right ones.
    fn accuse(&self, wanted: &Wanted<'_>, found: &Digest, giver: Option<Endpoint>) -> Fault {
        let (base, host) = giver.map_or_else(Default::default, |endpoint| (endpoint.base.clone(), endpoint.host().to_owned()));
        let message = format!("{base} gave content with digest {found} for blob {}", wanted.digest);
        let mut liars = held(&self.inner.liars);
        liars.push((host, wanted.digest.clone()));
        let is_liar = |endpoint: &Endpoint| liars.iter().any(|(host, digest)| host == endpoint.host() && digest == wanted.digest);
        let others = held(&self.inner.routes).values().flat_map(|all| all.iter()).any(|endpoint| endpoint.pulls && !is_liar(endpoint));
        let kind = if others { Kind::Conflict } else { Kind::DataLoss };
        Fault::new(kind, message).hint("the registry or something on the way to it is damaged")
    }
}

/// How many bytes of the answer come before byte `from` of the blob, which must have `size` bytes there too.
fn skipped(reply: &Reply, from: u64, size: u64) -> Got<u64> {
    let other = |found: u64| Err(Miss::Wrong(format!("it has {found} bytes where the manifest says {size}")));
    if reply.status().as_u16() != 206 {
        return match header(reply.headers(), "content-length").parse::<u64>() {
            Ok(found) if found != size => other(found),
            _ => Ok(from),
        };
    }
    let range = header(reply.headers(), "content-range");
    let (span, total) = range.strip_prefix("bytes ").and_then(|range| range.split_once('/')).unwrap_or_default();
    if let Ok(found) = total.trim().parse::<u64>()
        && found != size
    {
        return other(found);
    }
    match span.split('-').next().and_then(|start| start.trim().parse::<u64>().ok()) {
        Some(start) if start == from => Ok(0),
        _ => Err(Miss::Wrong(format!("it answered range {range:?} where bytes {from}- were asked for"))),
    }
}

fn call_fault(call: &'static str, path: &Path, error: &std::io::Error) -> Fault {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Fault::new(kind_of_errno(errno), format!("{call} {}: {errno}", path.display()))
}

impl Half {
    /// Reads what is there; more than the blob has is nothing.
    fn open(held: Lock, wanted: &Wanted<'_>) -> Result<Self> {
        let mut half = Half { held, hash: Hasher::new(wanted.digest.algorithm()), bytes: 0, resumed: 0, told: Instant::now() };
        let (path, open) = (half.held.path().to_path_buf(), half.held.file());
        let failed = |call: &'static str| move |error: std::io::Error| call_fault(call, &path, &error);
        open.set_permissions(Permissions::from_mode(0o644)).map_err(failed.clone()("chmod"))?;
        if open.metadata().map_err(failed.clone()("fstat"))?.len() > wanted.size {
            open.set_len(0).map_err(failed.clone()("ftruncate"))?;
        }
        half.bytes = hash_all(open, &mut half.hash, wanted.halt).doing(|| format!("reading {}", half.held.path().display()))?;
        half.resumed = half.bytes;
        Ok(half)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.held.file().write_all(bytes).map_err(|error| call_fault("write", self.held.path(), &error))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn hash_all(open: &File, hash: &mut Hasher, halt: &Halt) -> Result<u64> {
    let (mut buffer, mut at) = (vec![0; CHUNK], 0);
    loop {
        patience::check(halt)?;
        let count = open.read_at(&mut buffer, at).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        if count == 0 {
            return Ok(at);
        }
        hash.update(&buffer[..count]);
        at += count as u64;
    }
}
