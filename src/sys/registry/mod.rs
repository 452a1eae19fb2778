//! Registries: a synchronous client of the distribution API. The only HTTP of the crate.
//!
//! A [`Session`] lives as long as a command. It finds the endpoints of a reference, logs in where it is asked to, retries what may pass
//! and goes on to the next endpoint with what does not, and keeps the blobs that are on their way, so that a layer can be unpacked
//! while its blob still comes. Credentials go to the origin that they are for and to no other, whatever a redirect says.

mod agents;
mod ask;
mod document;
mod download;
mod flight;
mod login;
mod patience;
mod settings;
mod slots;
mod tried;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fault::Result;
use crate::image::registry::endpoint::Place;
use crate::image::registry::{Credential, Endpoint, Sources, route};
use crate::image::{Digest, Reference};

use agents::Agents;
use flight::Flight;
use login::Logins;
use settings::Settings;
use slots::Slots;

pub use document::{Class, Resolved};
pub use download::{Access, Remote};
pub use flight::BlobReader;
pub use patience::Vigil;

/// What a session is told of by its downloads; the command line draws it.
pub trait Watch: Send + Sync {
    /// A blob begins to come; `have` of its bytes were there from a former pull.
    fn begins(&self, _digest: &Digest, _size: u64, _have: u64) {}
    /// So many bytes of it are here.
    fn reaches(&self, _digest: &Digest, _bytes: u64) {}
    /// Another process fetches it.
    fn waits(&self, _digest: &Digest) {}
    /// Something went wrong that is tried again: `https://…: 503 Service Unavailable`.
    fn retries(&self, _what: &str) {}
    /// It is stored.
    fn ends(&self, _digest: &Digest) {}
    /// Its layer was read to the end.
    fn unpacked(&self, _digest: &Digest) {}
}

/// Nobody looks.
#[derive(Debug)]
pub struct Blind;

impl Watch for Blind {}

/// What a command wants of its session.
#[derive(Clone)]
pub struct Options {
    /// `--mirror`, in order.
    pub mirrors: Vec<Place>,
    /// `--creds`: for the registry that the reference names, not for its mirrors.
    pub credential: Option<Credential>,
    /// The one file with credentials, instead of the usual ones.
    pub auth_file: Option<PathBuf>,
    /// Directories like `/etc/containerd/certs.d`, instead of the usual ones.
    pub hosts_dirs: Vec<PathBuf>,
    /// Whether certificates are checked and plain HTTP is refused where nothing allows it.
    pub verify: bool,
    /// How many blobs come at the same time.
    pub jobs: usize,
    /// Who is told.
    pub watch: Arc<dyn Watch>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            mirrors: Vec::new(),
            credential: None,
            auth_file: None,
            hosts_dirs: Vec::new(),
            verify: true,
            jobs: 6,
            watch: Arc::new(Blind),
        }
    }
}

/// One command's dealings with registries; a clone is the same one.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    settings: Settings,
    agents: Agents,
    logins: Logins,
    slots: Slots,
    routes: Mutex<HashMap<String, Arc<Vec<Endpoint>>>>,
    flights: Mutex<HashMap<Digest, Arc<Flight>>>,
    /// Hosts that gave a blob with wrong bytes.
    liars: Mutex<Vec<(String, Digest)>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

/// A lock whose holder panicked is as good as any: what it guards is whole after each statement.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Reads the configuration of this host.
    ///
    /// *Errors:* those of `registries.conf`.
    pub fn open(options: Options) -> Result<Self> {
        let settings = Settings::read(&options)?;
        let (agents, slots) = (Agents::new(settings.proxies.clone()), Slots::new(options.jobs));
        let logins = Logins::default();
        let (routes, flights, liars) = Default::default();
        Ok(Session { inner: Arc::new(Inner { options, settings, agents, logins, slots, routes, flights, liars }) })
    }

    /// The endpoints of `reference`; one that answered comes first from then on.
    fn endpoints(&self, reference: &Reference) -> Result<Arc<Vec<Endpoint>>> {
        let key = reference.to_string();
        if let Some(known) = held(&self.inner.routes).get(&key) {
            return Ok(known.clone());
        }
        let inner = &self.inner;
        let host_dir = |host: &str| inner.settings.find_host_dir(host);
        let sources = Sources { mirrors: &inner.options.mirrors, host_dir: &host_dir, registries: &inner.settings.registries };
        let mut endpoints = route(reference, &sources)?;
        if !inner.options.verify {
            allow_anything(&mut endpoints);
        }
        let endpoints = Arc::new(endpoints);
        held(&inner.routes).insert(key, endpoints.clone());
        Ok(endpoints)
    }

    /// Puts the endpoint that answered first.
    fn prefer(&self, reference: &Reference, nth: usize) {
        if let Some(known) = held(&self.inner.routes).get_mut(&reference.to_string()).filter(|_| nth > 0) {
            let mut endpoints = known.as_ref().clone();
            if nth < endpoints.len() {
                let first = endpoints.remove(nth);
                endpoints.insert(0, first);
                *known = Arc::new(endpoints);
            }
        }
    }
}

/// `--tls-verify=false`: any certificate will do, and plain HTTP where there is no HTTPS.
fn allow_anything(endpoints: &mut Vec<Endpoint>) {
    let mut all = Vec::with_capacity(endpoints.len() * 2);
    for endpoint in endpoints.drain(..) {
        let plain = endpoint.base.strip_prefix("https://").map(|rest| format!("http://{rest}"));
        let trust = crate::image::registry::Trust { skip_verify: true, ..endpoint.trust.clone() };
        all.push(Endpoint { trust, ..endpoint.clone() });
        all.extend(plain.map(|base| Endpoint { base, ..endpoint }));
    }
    // Both may be there already, on this machine.
    for endpoint in all {
        if !endpoints.iter().any(|known| known.base == endpoint.base && known.repository == endpoint.repository) {
            endpoints.push(endpoint);
        }
    }
}
