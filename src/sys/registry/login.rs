//! Logging in: credentials from options, files and helpers, and the tokens that they are good for.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::ask::{Ask, Verb, answered, missed};
use super::settings::Settings;
use super::tried::{Got, Miss};
use super::{Session, held};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::registry::auth_file::Found;
use crate::image::registry::endpoint::{is_loopback, origin};
use crate::image::registry::{Challenge, Credential, Endpoint, Trust, challenge};
use crate::sys::exec::{self, Exec, Stream};

/// How long a credential helper may take: it may ask a service far away.
const HELPER_LIMIT: Duration = Duration::from_secs(60);
/// The largest answer of a token server, in bytes.
const TOKEN_LIMIT: u64 = 1 << 20;
/// So long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(10);

/// What is known of logins.
#[derive(Default)]
pub(super) struct Logins {
    known: Mutex<HashMap<(String, String), Login>>,
    credentials: Mutex<HashMap<String, Option<Credential>>>,
}

struct Login {
    /// The value of `Authorization`.
    value: String,
    until: Option<Instant>,
    challenge: Challenge,
}

impl Logins {
    /// The value of `Authorization` that `endpoint` took last.
    pub fn find(&self, endpoint: &Endpoint) -> Option<String> {
        let known = held(&self.known);
        let login = known.get(&key(endpoint))?;
        login.until.is_none_or(|until| Instant::now() < until).then(|| login.value.clone())
    }

    /// What `endpoint` asked for last.
    pub fn challenge(&self, endpoint: &Endpoint) -> Option<Challenge> {
        held(&self.known).get(&key(endpoint)).map(|login| login.challenge.clone())
    }
}

fn key(endpoint: &Endpoint) -> (String, String) {
    (endpoint.base.clone(), endpoint.repository.clone())
}

impl Session {
    /// Answers a challenge; `None` when there is nothing to answer with.
    pub(super) fn log_in(&self, endpoint: &Endpoint, header: &str) -> Got<Option<String>> {
        let challenge = Challenge::parse(header).map_err(|fault| Miss::Closed(fault.to_string(), fault.kind()))?;
        let credential = self.find_credential(endpoint).map_err(Miss::Fatal)?;
        let (value, until) = match (&challenge, credential) {
            (_, Some(Credential::Registry(token))) => (format!("Bearer {token}"), None),
            (Challenge::Basic, Some(Credential::Password { user, password })) => (Credential::basic(&user, &password), None),
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let scope = if scope.is_empty() { format!("repository:{}:pull", endpoint.repository) } else { scope.clone() };
                let (token, seconds) = self.fetch_token(endpoint, realm, &[("service", service), ("scope", &scope)], credential)?;
                (format!("Bearer {token}"), Some(Instant::now() + Duration::from_secs(seconds) - MARGIN))
            }
        };
        held(&self.inner.logins.known).insert(key(endpoint), Login { value: value.clone(), until, challenge });
        Ok(Some(value))
    }

    /// Asks a token server.
    fn fetch_token(&self, endpoint: &Endpoint, realm: &str, words: &[(&str, &str)], credential: Option<Credential>) -> Got<(String, u64)> {
        let exposed = endpoint.base.starts_with("https://") && realm.starts_with("http://");
        if credential.is_some() && exposed && !is_loopback(&origin(realm).1) {
            let why = format!("the token server {realm} is asked by plain HTTP, so that no credentials are sent to it");
            return Err(Miss::Closed(why, Kind::Unauthenticated));
        }
        let same = origin(realm) == origin(&endpoint.base);
        let trust = if same { endpoint.trust.clone() } else { Trust { client: Vec::new(), ..endpoint.trust.clone() } };
        let reply = match credential {
            Some(Credential::Identity(token)) => {
                let agent = self.inner.agents.find(&trust, realm).map_err(Miss::Fatal)?;
                let form = [("grant_type", "refresh_token"), ("client_id", "rkbox"), ("refresh_token", token.as_str())];
                answered(agent.post(realm).send_form(form.iter().chain(words).copied()).map_err(missed)?)?
            }
            credential => {
                let scope = words.iter().find(|(name, _)| *name == "scope").map_or("", |(_, scope)| scope);
                let service = words.iter().find(|(name, _)| *name == "service").map_or("", |(_, service)| service);
                let url = challenge::token_url(realm, service, scope);
                let login = match credential {
                    Some(Credential::Password { user, password }) => Some(Credential::basic(&user, &password)),
                    _ => None,
                };
                let ask = Ask { verb: Verb::Get, url: &url, accept: "application/json", from: 0 };
                answered(self.follow(&trust, &[], &ask, login.as_deref())?)?
            }
        };
        let mut body = Vec::new();
        let read = reply.into_body().into_with_config().limit(TOKEN_LIMIT).reader().read_to_end(&mut body);
        read.map_err(|error| Miss::Broken(error.to_string(), Kind::Unavailable))?;
        challenge::token(&body).map_err(|fault| Miss::Closed(fault.to_string(), fault.kind()))
    }

    /// The credential for an endpoint: the option, which is for the registry itself, then the first file that knows one.
    fn find_credential(&self, endpoint: &Endpoint) -> Result<Option<Credential>> {
        if let Some(given) = self.inner.options.credential.clone().filter(|_| endpoint.own) {
            return Ok(Some(given));
        }
        if let Some(known) = held(&self.inner.logins.credentials).get(&endpoint.account) {
            return Ok(known.clone());
        }
        let found = self.look_up(&endpoint.account).doing(|| format!("looking for credentials for {}", endpoint.account))?;
        held(&self.inner.logins.credentials).insert(endpoint.account.clone(), found.clone());
        Ok(found)
    }

    fn look_up(&self, account: &str) -> Result<Option<Credential>> {
        for path in self.inner.settings.auth_files() {
            let Some(file) = Settings::find_auth_file(path)? else { continue };
            let found = match file.find(account).doing(|| format!("reading {}", path.display()))? {
                None => None,
                Some(Found::Credential(credential)) => Some(credential),
                Some(Found::Helper { name, keys }) => ask_helper(&name, &keys)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// Asks `docker-credential-NAME`. *Source:* docker-credential-helpers: the name on standard input, JSON on standard output.
fn ask_helper(name: &str, keys: &[String]) -> Result<Option<Credential>> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(Fault::invalid(format!("credential helper {name:?} is not a name")));
    }
    let program = format!("docker-credential-{name}");
    let path = exec::find(&program).hint(|| "install it, or take it out of credsStore and credHelpers")?;
    for key in keys {
        let (reader, mut writer) = std::io::pipe().map_err(|error| Fault::from_error(Kind::Internal, error))?;
        // A pipe takes a host name without a reader.
        writer.write_all(format!("{key}\n").as_bytes()).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        drop(writer);
        let mut helper = Exec::new(&path).arg("get").streams(Stream::Fd(reader.into()), Stream::Null, Stream::Null);
        // It is the user's own program and finds its key ring by the environment.
        for (name, value) in std::env::vars_os() {
            helper = helper.env(&name.to_string_lossy(), value);
        }
        let ended = helper.capture(HELPER_LIMIT)?;
        let said = String::from_utf8_lossy(&ended.stdout).to_ascii_lowercase();
        if ended.status.success() {
            if let Some(found) = Credential::of_helper(&ended.stdout).doing(|| format!("asking {program}"))? {
                return Ok(Some(found));
            }
        } else if !said.contains("not found") && !said.contains("no credentials") {
            let why = said.lines().next().filter(|line| !line.is_empty()).unwrap_or(ended.stderr.lines().next().unwrap_or_default());
            return Err(Fault::new(Kind::Unavailable, format!("{program} failed: {}", why.chars().take(200).collect::<String>())));
        }
    }
    Ok(None)
}
