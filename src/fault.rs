//! What went wrong, said once: a kind that decides the exit status, what was being done, and a way out.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A fallible result whose error is a [`Fault`].
pub type Result<T> = std::result::Result<T, Fault>;

/// The kind of a fault; one to one with the gRPC status codes that a CRI endpoint answers.
///
/// *Source:* google.rpc.Code, the subset that CRI clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The user (or SIGINT, SIGTERM) asked to stop.
    Cancelled,
    /// A name, path or document that is not well formed.
    InvalidArgument,
    /// A deadline passed before the host answered.
    DeadlineExceeded,
    /// The named thing is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// A capability or permission is missing.
    PermissionDenied,
    /// A pool, quota or disk is full.
    ResourceExhausted,
    /// The host is in a state in which this cannot be done.
    FailedPrecondition,
    /// A race was lost; the same command may succeed when planned again.
    Conflict,
    /// Asked for something that rkbox does not do.
    Unimplemented,
    /// A program or service that is needed did not answer.
    Unavailable,
    /// Credentials are missing or refused.
    Unauthenticated,
    /// Stored data does not match its digest or does not parse.
    DataLoss,
    /// Anything else: an unexpected errno, a broken invariant.
    Internal,
}

impl Kind {
    /// The exit status of every command but `run` and `exec` (which answer 125 for all of them).
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::InvalidArgument => 2,
            Kind::NotFound => 3,
            Kind::AlreadyExists => 4,
            Kind::FailedPrecondition => 5,
            Kind::ResourceExhausted => 6,
            Kind::PermissionDenied => 7,
            Kind::Unavailable => 8,
            Kind::Unimplemented => 9,
            Kind::DeadlineExceeded => 10,
            Kind::Conflict => 11,
            Kind::Unauthenticated => 12,
            Kind::DataLoss => 13,
            Kind::Cancelled => 130,
        }
    }
}

/// An error on its way to `main`, which prints it once.
///
/// *Shape:* `cannot create sandbox web: add veth rkb3f2 to cni0: no such device (ENODEV)`.
#[derive(Debug)]
pub struct Fault {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    /// Innermost first.
    doing: Vec<String>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<String>,
    /// Undo faults that came after this one.
    also: Vec<Fault>,
}

impl Fault {
    /// Makes a fault of `kind` that says `message` (lower case, no full stop).
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let inner = Inner { kind, doing: Vec::new(), message: message.into(), source: None, hints: Vec::new(), also: Vec::new() };
        Fault { inner: Box::new(inner) }
    }

    /// Makes a fault of `kind` from a lower error, whose text becomes the message.
    pub fn from_error(kind: Kind, source: impl StdError + Send + Sync + 'static) -> Self {
        let mut fault = Fault::new(kind, source.to_string());
        fault.inner.source = Some(Box::new(source));
        fault
    }

    /// Shorthand for [`Kind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Fault::new(Kind::InvalidArgument, message)
    }

    /// Shorthand for [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Fault::new(Kind::NotFound, message)
    }

    /// Shorthand for [`Kind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Fault::new(Kind::Internal, message)
    }

    /// Adds what was being done, a gerund and its object: `reading 10-connet.conflist`.
    pub fn doing(mut self, what: impl Into<String>) -> Self {
        self.inner.doing.push(what.into());
        self
    }

    /// Adds a way out that the reader can act on.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hints.push(hint.into());
        self
    }

    /// Sets the kind, keeping everything else.
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.inner.kind = kind;
        self
    }

    /// Lists `later` under this fault, which stays the first one.
    pub fn and_also(mut self, later: Fault) -> Self {
        self.inner.also.push(later);
        self
    }

    /// The kind, which decides the exit status.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The ways out, in the order they were added.
    pub fn hints(&self) -> &[String] {
        &self.inner.hints
    }

    /// The undo faults that followed.
    pub fn later(&self) -> &[Fault] {
        &self.inner.also
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in self.inner.doing.iter().rev() {
            write!(f, "{what}: ")?;
        }
        f.write_str(&self.inner.message)
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The faults of several tries that do not stop each other: the first one stays the first.
#[derive(Debug, Default)]
pub struct Faults(Option<Fault>);

impl Faults {
    /// Lists `fault` under the first one, or makes it the first.
    pub fn note(&mut self, fault: Fault) {
        self.0 = Some(match self.0.take() {
            None => fault,
            Some(first) => first.and_also(fault),
        });
    }

    /// The value of a try that went well; the fault of one that did not is noted.
    pub fn keep<T>(&mut self, tried: Result<T>) -> Option<T> {
        tried.map_err(|fault| self.note(fault)).ok()
    }

    /// `value` when nothing was noted.
    pub fn or<T>(self, value: T) -> Result<T> {
        self.0.map_or(Ok(value), Err)
    }
}

/// Adds context to a result on its way up.
pub trait Context<T> {
    /// Adds what was being done, a gerund and its object.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
    /// Adds a way out.
    fn hint<S: Into<String>>(self, hint: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Fault>> Context<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().doing(what()))
    }

    fn hint<S: Into<String>>(self, hint: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().hint(hint()))
    }
}

/// The kind that fits an errno when the call itself knows nothing better.
pub fn kind_of_errno(errno: nix::errno::Errno) -> Kind {
    use nix::errno::Errno as E;
    match errno {
        E::ENOENT | E::ENODEV | E::ESRCH => Kind::NotFound,
        E::EEXIST => Kind::AlreadyExists,
        E::EPERM | E::EACCES | E::EROFS => Kind::PermissionDenied,
        E::ENOSPC | E::EDQUOT | E::EMFILE | E::ENFILE | E::ENOMEM => Kind::ResourceExhausted,
        E::EBUSY | E::ENOTEMPTY | E::ENOTDIR | E::EISDIR => Kind::FailedPrecondition,
        E::EINTR => Kind::Cancelled,
        _ => Kind::Internal,
    }
}

/// The start of a stranger's text, as much as a message bears.
///
/// *Shape:* `aaa…`, at most 100 characters and the ellipsis.
pub fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(100).collect();
    if chars.next().is_some() { start + "…" } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_puts_the_outermost_context_first() {
        let fault = Fault::not_found("no such file").doing("opening a").doing("reading b");
        assert_eq!(fault.to_string(), "reading b: opening a: no such file");
    }

    #[test]
    fn later_faults_do_not_hide_the_first() {
        let fault = Fault::invalid("first").and_also(Fault::internal("second"));
        assert_eq!(fault.kind(), Kind::InvalidArgument);
        assert_eq!(fault.to_string(), "first");
        assert_eq!(fault.later()[0].to_string(), "second");
    }
}
