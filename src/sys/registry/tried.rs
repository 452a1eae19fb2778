//! What went wrong with a request, and the list of all that was tried.

use std::time::Duration;

use crate::fault::{Fault, Kind, Result};
use crate::image::registry::{Answer, Endpoint, retry};

/// What a request gave, or why it gave nothing.
pub(super) type Got<T> = std::result::Result<T, Miss>;

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Miss {
    /// The server answered with another status; what it said of when to come back.
    Answered(Answer, Option<Duration>),
    /// No answer; asking again may help.
    Broken(String, Kind),
    /// Only the start of an answer; asking again may help.
    Cut(String, Kind),
    /// An answer that is not what was asked for.
    Wrong(String),
    /// Asking again does not help: no such host, nobody listens there, a certificate that nobody vouches for.
    Closed(String, Kind),
    /// Cannot be done: no endpoint is asked any more.
    Fatal(Fault),
}

impl Miss {
    /// How long to wait before the same is asked again; `None` when that makes no sense.
    pub fn pause(&self, tries: u32) -> Option<Duration> {
        let ours = || retry::pause(tries, spread());
        match self {
            _ if tries >= retry::TRIES => None,
            Miss::Answered(answer, wait) if retry::is_transient(answer.status) => {
                let wait = wait.unwrap_or_else(ours);
                (wait <= retry::PATIENCE).then_some(wait)
            }
            Miss::Broken(..) | Miss::Cut(..) => Some(ours()),
            _ => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Miss::Answered(answer, _) => match answer.status {
                401 => Kind::Unauthenticated,
                403 => Kind::PermissionDenied,
                404 => Kind::NotFound,
                400..=499 if !retry::is_transient(answer.status) => Kind::InvalidArgument,
                _ => Kind::Unavailable,
            },
            Miss::Broken(_, kind) | Miss::Cut(_, kind) | Miss::Closed(_, kind) => *kind,
            Miss::Wrong(_) => Kind::DataLoss,
            Miss::Fatal(fault) => fault.kind(),
        }
    }

    /// Whether a registry spoke: then the same host is not asked by another scheme.
    pub fn is_answer(&self) -> bool {
        match self {
            // What a server of HTTPS says to plain HTTP.
            Miss::Answered(answer, _) => answer.status != 400,
            Miss::Cut(..) | Miss::Wrong(_) => true,
            Miss::Broken(..) | Miss::Closed(..) | Miss::Fatal(_) => false,
        }
    }
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Miss::Answered(answer, _) => answer.fmt(f),
            Miss::Broken(what, _) | Miss::Cut(what, _) | Miss::Wrong(what) | Miss::Closed(what, _) => f.write_str(what),
            Miss::Fatal(fault) => fault.fmt(f),
        }
    }
}

/// A byte that differs from call to call.
fn spread() -> u8 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| (now.subsec_nanos() >> 8).to_le_bytes()[0])
}

/// The endpoints that gave nothing.
#[derive(Debug, Default)]
pub(super) struct Tried(Vec<(String, String, Miss)>);

impl Tried {
    /// Notes a miss. *Errors:* a fatal one, at once.
    pub fn note(&mut self, endpoint: &Endpoint, miss: Miss) -> Result<()> {
        match miss {
            Miss::Fatal(fault) => Err(fault),
            miss => {
                self.0.push((endpoint.base.clone(), endpoint.host().to_owned(), miss));
                Ok(())
            }
        }
    }

    /// Whether the same host has already spoken.
    pub fn has_answer_of(&self, host: &str) -> bool {
        self.0.iter().any(|(_, known, miss)| known == host && miss.is_answer())
    }

    /// One fault for all of them. Its kind is that of the last one that answered, else of the last.
    pub fn fault(self, what: &str) -> Fault {
        let chosen = self.0.iter().rev().find(|(_, _, miss)| miss.is_answer()).or(self.0.last());
        let (kind, host) = chosen.map_or((Kind::Unavailable, String::new()), |(_, host, miss)| (miss.kind(), host.clone()));
        let list: Vec<String> = self.0.iter().map(|(base, _, miss)| format!("{base}: {miss}")).collect();
        let fault = Fault::new(kind, format!("{what} cannot be fetched: {}", list.join("; ")));
        match kind {
            Kind::Unauthenticated | Kind::PermissionDenied => fault.hint(format!(
                "log in with skopeo login {host}, or give --creds USER:PASSWORD; a name that is not there is answered so too"
            )),
            Kind::NotFound => fault.hint("look at the name and tag"),
            Kind::Unavailable | Kind::DeadlineExceeded => fault.hint("what was fetched is kept: the same command goes on from there"),
            _ => fault,
        }
    }
}
