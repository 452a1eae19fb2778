//! Manifests and configurations: small, verified, from the first endpoint that has them.

use std::io::Read as _;

use super::Session;
use super::ask::{Ask, Reply, Verb, header};
use super::patience;
use super::tried::{Got, Miss, Tried};
use crate::fault::{Fault, Kind, Result};
use crate::image::layout::Descriptor;
use crate::image::manifest::DOCUMENT_LIMIT;
use crate::image::registry::{ACCEPT, Endpoint};
use crate::image::{Digest, Reference};
use crate::sys::Halt;

/// What a reference leads to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The media type that the registry gave, the digest of the bytes, and their number.
    pub descriptor: Descriptor,
    /// A manifest or an index.
    pub bytes: Vec<u8>,
}

/// What is fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A manifest or an index.
    Manifest,
    /// A configuration.
    Blob,
}

impl Session {
    /// Fetches what `reference` names.
    ///
    /// *Errors:* `NotFound`, `Unauthenticated`, `Unavailable` …, with every endpoint that was tried and what it answered.
    pub fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let which = which(reference);
        self.first(reference, &reference.to_string(), |endpoint| {
            let (bytes, media_type) = self.read(endpoint, &endpoint.manifest(&which), ACCEPT)?;
            // A tag leads to the digest that every registry has; by another algorithm it must be asked for.
            let digest = Digest::by(reference.digest().map(Digest::algorithm).unwrap_or_default(), &bytes);
            if let Some(wanted) = reference.digest().filter(|wanted| **wanted != digest) {
                return Err(Miss::Wrong(format!("what it gave has digest {digest}, not {wanted}")));
            }
            let descriptor = Descriptor { media_type, size: bytes.len() as u64, digest, platform: None, annotations: Default::default() };
            Ok(Resolved { descriptor, bytes })
        })
    }

    /// The digest that `reference` has now, without its document when the registry says it.
    pub fn digest_of(&self, reference: &Reference) -> Result<Digest> {
        let which = which(reference);
        self.first(reference, &reference.to_string(), |endpoint| {
            let url = endpoint.manifest(&which);
            let reply = self.ask(endpoint, &Ask { verb: Verb::Head, url: &url, accept: ACCEPT, from: 0 })?;
            match header(reply.headers(), "docker-content-digest").parse::<Digest>() {
                Ok(digest) => Ok(digest),
                Err(_) => Ok(Digest::of(&self.read(endpoint, &url, ACCEPT)?.0)),
            }
        })
    }

    /// Fetches the document of `descriptor`, unverified: the caller holds it against size and digest.
    pub fn document(&self, reference: &Reference, descriptor: &Descriptor, class: Class) -> Result<Vec<u8>> {
        let digest = descriptor.digest.as_str();
        self.first(reference, digest, |endpoint| {
            let (bytes, _) = match class {
                Class::Manifest => self.read(endpoint, &endpoint.manifest(digest), ACCEPT)?,
                Class::Blob => self.read(endpoint, &endpoint.blob(digest), "")?,
            };
            let found = Digest::by(descriptor.digest.algorithm(), &bytes);
            if found != descriptor.digest {
                return Err(Miss::Wrong(format!("what it gave has digest {found}")));
            }
            Ok(bytes)
        })
    }

    /// The answer of the first endpoint that has one; each is asked again while that may help.
    fn first<T>(&self, reference: &Reference, what: &str, ask: impl Fn(&Endpoint) -> Got<T>) -> Result<T> {
        let endpoints = self.endpoints(reference)?;
        let (mut tried, halt) = (Tried::default(), Halt::default());
        for (nth, endpoint) in endpoints.iter().enumerate() {
            let usable = if what.parse::<Digest>().is_ok() || reference.digest().is_some() { endpoint.pulls } else { endpoint.resolves };
            if !usable || tried.has_answer_of(endpoint.host()) {
                continue;
            }
            let mut tries = 0;
            let miss = loop {
                patience::check(&halt)?;
                match ask(endpoint) {
                    Ok(found) => {
                        self.prefer(reference, nth);
                        return Ok(found);
                    }
                    Err(miss) => {
                        tries += 1;
                        let Some(pause) = miss.pause(tries) else { break miss };
                        self.inner.options.watch.retries(&format!("{}: {miss}", endpoint.base));
                        patience::sleep(pause, &halt)?;
                    }
                }
            };
            tried.note(endpoint, miss)?;
        }
        Err(tried.fault(what))
    }

    fn read(&self, endpoint: &Endpoint, url: &str, accept: &str) -> Got<(Vec<u8>, String)> {
        let reply = self.ask(endpoint, &Ask { verb: Verb::Get, url, accept, from: 0 })?;
        let media_type = media_type(&reply);
        let mut bytes = Vec::new();
        let body = reply.into_body().into_with_config().limit(u64::MAX).reader();
        body.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| Miss::Cut(error.to_string(), Kind::Unavailable))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Miss::Fatal(Fault::invalid(format!("{url} is larger than {DOCUMENT_LIMIT} bytes, which no manifest is"))));
        }
        Ok((bytes, media_type))
    }
}

/// A digest is what counts, when there is a tag too.
fn which(reference: &Reference) -> String {
    reference.digest().map_or_else(|| reference.tag().unwrap_or("latest").to_owned(), Digest::to_string)
}

/// `Content-Type` without its parameters; empty for the types that say nothing.
fn media_type(reply: &Reply) -> String {
    let said = header(reply.headers(), "content-type");
    let bare = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(bare.as_str(), "application/json" | "application/octet-stream" | "text/plain") { String::new() } else { bare }
}
