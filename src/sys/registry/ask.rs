//! One request: redirects, the login that is asked for, and what the answer means.

use std::io::Read as _;
use std::time::Duration;

use jiff::Timestamp;
use ureq::http::{HeaderMap, Response};
use ureq::{Body, Error, Timeout};

use super::Session;
use super::tried::{Got, Miss};
use crate::fault::Kind;
use crate::image::registry::endpoint::origin;
use crate::image::registry::{Answer, Endpoint, Trust, retry};
use crate::sys::signal;

/// How often one request is sent on.
const REDIRECTS: usize = 10;
/// How much of an error's body is read, in bytes.
const ERROR_BODY: u64 = 16 << 10;

/// An answer whose body has not been read.
pub(super) type Reply = Response<Body>;

/// What is asked.
pub(super) struct Ask<'a> {
    pub verb: Verb,
    pub url: &'a str,
    /// `Accept`; empty for anything.
    pub accept: &'a str,
    /// The first byte that is wanted.
    pub from: u64,
}

/// How.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Head,
}

impl Session {
    /// Asks `endpoint`, and once more after a login when it asks for one. Only an answer of success comes back.
    pub(super) fn ask(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Got<Reply> {
        let known = self.inner.logins.find(endpoint);
        let reply = self.send(endpoint, ask, known.as_deref())?;
        if reply.status().as_u16() != 401 {
            return answered(reply);
        }
        let challenge = joined(reply.headers(), "www-authenticate");
        let refused = answered(reply);
        match self.log_in(endpoint, &challenge)? {
            Some(login) if known.as_deref() != Some(login.as_str()) => answered(self.send(endpoint, ask, Some(&login))?),
            _ => refused,
        }
    }

    fn send(&self, endpoint: &Endpoint, ask: &Ask<'_>, authorization: Option<&str>) -> Got<Reply> {
        self.follow(&endpoint.trust, &endpoint.headers, ask, authorization)
    }

    /// Sends a request where redirects lead. What is secret stays with the origin that it is for (CVE-2020-15157): the login, the
    /// configured headers and the client's certificate.
    pub(super) fn follow(&self, trust: &Trust, headers: &[(String, String)], ask: &Ask<'_>, login: Option<&str>) -> Got<Reply> {
        let first = origin(ask.url);
        let mut url = ask.url.to_owned();
        for _ in 0..=REDIRECTS {
            let at_home = origin(&url) == first;
            let abroad = Trust { client: Vec::new(), ..trust.clone() };
            let agent = self.inner.agents.find(if at_home { trust } else { &abroad }, &url).map_err(Miss::Fatal)?;
            let mut request = if ask.verb == Verb::Head { agent.head(&url) } else { agent.get(&url) };
            if !ask.accept.is_empty() {
                request = request.header("Accept", ask.accept);
            }
            if ask.from > 0 {
                request = request.header("Range", format!("bytes={}-", ask.from));
            }
            if at_home {
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                if let Some(login) = login {
                    request = request.header("Authorization", login);
                }
            }
            let reply = request.call().map_err(missed)?;
            if !matches!(reply.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            url = target(&url, &header(reply.headers(), "location"))?;
        }
        Err(Miss::Closed(format!("redirected more than {REDIRECTS} times"), Kind::Unavailable))
    }
}

/// Where a redirect leads: an absolute URL, or one relative to `from`.
fn target(from: &str, location: &str) -> Got<String> {
    let (scheme, host, _) = origin(from);
    let authority = crate::image::registry::endpoint::authority(from);
    let to = match location {
        "" => return Err(Miss::Closed("redirected to nowhere".to_owned(), Kind::Unavailable)),
        whole if whole.starts_with("https://") || whole.starts_with("http://") => whole.to_owned(),
        rest if rest.starts_with("//") => format!("{scheme}:{rest}"),
        path if path.starts_with('/') => format!("{scheme}://{authority}{path}"),
        name => format!("{}/{name}", from.split(['?', '#']).next().and_then(|from| from.rsplit_once('/')).map_or(from, |(dir, _)| dir)),
    };
    if scheme == "https" && !to.starts_with("https://") {
        return Err(Miss::Closed(format!("{host} redirects from HTTPS to plain HTTP, which is not followed"), Kind::Unavailable));
    }
    Ok(to)
}

/// The answer, when it is one of success.
pub(super) fn answered(reply: Reply) -> Got<Reply> {
    let status = reply.status().as_u16();
    if matches!(status, 200 | 206) {
        return Ok(reply);
    }
    let wait = retry::retry_after(&header(reply.headers(), "retry-after"), Timestamp::now());
    let mut body = Vec::new();
    // What cannot be read of an error's body is not said.
    let _ = reply.into_body().into_with_config().limit(u64::MAX).reader().take(ERROR_BODY).read_to_end(&mut body);
    Err(Miss::Answered(Answer::parse(status, &body), wait.map(|wait| wait.max(Duration::from_millis(50)))))
}

/// A header as text; empty when it is not there or not text.
pub(super) fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ")
}

/// What an error of the transport means.
pub(super) fn missed(error: Error) -> Miss {
    use std::io::ErrorKind as Io;
    if let Err(fault) = signal::check() {
        return Miss::Fatal(fault);
    }
    match error {
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => Miss::Closed("no connection in time".to_owned(), Kind::DeadlineExceeded),
        Error::Timeout(_) => Miss::Broken("no answer in time".to_owned(), Kind::DeadlineExceeded),
        Error::HostNotFound => Miss::Closed("the host name is not known".to_owned(), Kind::Unavailable),
        Error::Io(error) => match error.kind() {
            Io::ConnectionRefused => Miss::Closed("connection refused".to_owned(), Kind::Unavailable),
            Io::HostUnreachable | Io::NetworkUnreachable => Miss::Closed("the network is unreachable".to_owned(), Kind::Unavailable),
            Io::TimedOut | Io::WouldBlock => Miss::Broken("no answer in time".to_owned(), Kind::DeadlineExceeded),
            // What rustls says of a certificate comes so.
            Io::InvalidData => Miss::Closed(error.to_string(), Kind::Unavailable),
            // A server without TLS or with another protocol.
            _ if error.get_ref().is_some_and(|inner| inner.to_string().contains("certificate")) => {
                Miss::Closed(error.to_string(), Kind::Unavailable)
            }
            Io::UnexpectedEof => Miss::Broken("the connection was cut".to_owned(), Kind::Unavailable),
            _ => Miss::Broken(error.to_string(), Kind::Unavailable),
        },
        other => Miss::Closed(other.to_string(), Kind::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say_and_never_out_of_tls() {
        for (from, location, to) in [
            ("https://a/v2/x/blobs/d?ns=q", "https://b/c?d", Some("https://b/c?d")),
            ("http://a/v2/x", "http://b/c", Some("http://b/c")),
            ("http://a:5000/v2/x", "/y", Some("http://a:5000/y")),
            ("https://a/v2/x?y/z", "w", Some("https://a/v2/w")),
            ("https://a/v2/x", "//b/y", Some("https://b/y")),
            ("https://a/v2/x", "http://a/v2/x", None),
            ("https://a/v2/x", "", None),
        ] {
            assert_eq!(target(from, location).ok().as_deref(), to, "{from} {location}");
        }
    }
}
