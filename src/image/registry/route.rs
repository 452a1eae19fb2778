//! From a reference to the places that serve it, in the order in which they are tried.

use super::endpoint::{Endpoint, Place, Trust, home, is_loopback, split_port};
use super::hosts_toml;
use super::registries_conf::{RegistriesConf, Registry};
use crate::fault::{Fault, Kind, Result};
use crate::image::Reference;

/// What `certs.d/HOST` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostDir {
    /// A `hosts.toml`: containerd's way.
    Hosts(Vec<hosts_toml::Host>),
    /// Only certificates: Docker's and the containers tools' way.
    Certificates(Trust),
}

/// All that says where a reference is served.
pub struct Sources<'a> {
    /// `--mirror`, in order.
    pub mirrors: &'a [Place],
    /// Finds the directory of a host below `certs.d`.
    pub host_dir: &'a dyn Fn(&str) -> Result<Option<HostDir>>,
    /// `registries.conf`.
    pub registries: &'a RegistriesConf,
}

/// The places that serve `reference`, in the order in which they are tried.
///
/// `--mirror` first. Then the `hosts.toml` of its host, when there is one; else the `[[registry]]` of `registries.conf` that fits, mirrors
/// first; else the registry itself: by HTTPS, on this machine by HTTP before HTTPS. A blocked registry is blocked in any case.
/// *Errors:* `FailedPrecondition` for a blocked one.
pub fn route(reference: &Reference, sources: &Sources<'_>) -> Result<Vec<Endpoint>> {
    let registry = sources.registries.find(reference);
    if let Some(registry) = registry.filter(|registry| registry.blocked) {
        let message = format!("registry {} is blocked by registries.conf", registry.prefix);
        return Err(Fault::new(Kind::FailedPrecondition, message).hint("blocked = true there forbids to pull from it"));
    }
    let mut endpoints: Vec<Endpoint> = sources.mirrors.iter().map(|place| mirror(reference, place)).collect();
    match ((sources.host_dir)(reference.domain())?, registry) {
        (Some(HostDir::Hosts(hosts)), _) => endpoints.extend(hosts.into_iter().flat_map(|host| of_host(reference, host))),
        (dir, Some(registry)) => {
            let own = if let Some(HostDir::Certificates(trust)) = dir { trust } else { Trust::default() };
            endpoints.extend(of_registry(reference, registry, &own, sources)?);
        }
        (Some(HostDir::Certificates(trust)), None) => endpoints.extend(upstream(reference, &trust)),
        (None, None) => endpoints.extend(upstream(reference, &Trust::default())),
    }
    let by_digest = reference.digest().is_some();
    if !endpoints.iter().any(|endpoint| if by_digest { endpoint.pulls } else { endpoint.resolves }) {
        return Err(Fault::new(Kind::FailedPrecondition, format!("no configured host may be asked for {reference}"))
            .hint("give one of them the capabilities pull and resolve"));
    }
    Ok(endpoints)
}

/// `ns` for a host that is not the registry's own. *Source:* containerd `remotes/docker/registry.go` (`isProxy`).
fn namespace(reference: &Reference, authority: &str) -> Option<String> {
    (authority != home(reference.domain()) && authority != reference.domain()).then(|| reference.domain().to_owned())
}

/// The name under which the credentials of a host for `repository` are kept.
fn account(reference: &Reference, authority: &str, repository: &str) -> String {
    if authority == home(reference.domain()) { reference.repository() } else { format!("{authority}/{repository}") }
}

fn endpoint(reference: &Reference, authority: &str, base: String, repository: &str) -> Endpoint {
    Endpoint {
        base,
        repository: repository.to_owned(),
        namespace: None,
        trust: Trust::default(),
        headers: Vec::new(),
        resolves: true,
        pulls: true,
        account: account(reference, authority, repository),
        own: authority == home(reference.domain()),
    }
}

fn mirror(reference: &Reference, place: &Place) -> Endpoint {
    let plain = endpoint(reference, &place.authority, place.base(false), reference.path());
    Endpoint { namespace: namespace(reference, &place.authority), ..plain }
}

fn of_host(reference: &Reference, host: hosts_toml::Host) -> Vec<Endpoint> {
    let hosts_toml::Host { place, override_path, resolves, pulls, trust, headers } = host;
    let Some(place) = place else {
        return upstream(reference, &trust).into_iter().map(|own| Endpoint { resolves, pulls, headers: headers.clone(), ..own }).collect();
    };
    let plain = endpoint(reference, &place.authority, place.base(override_path), reference.path());
    vec![Endpoint { namespace: namespace(reference, &place.authority), trust, headers, resolves, pulls, ..plain }]
}

/// The registry itself.
fn upstream(reference: &Reference, trust: &Trust) -> Vec<Endpoint> {
    let authority = home(reference.domain());
    over(reference, authority, reference.path(), is_loopback(authority) && split_port(authority).1 != Some(443))
        .into_iter()
        .map(|own| Endpoint { trust: trust.clone(), ..own })
        .collect()
}

/// By HTTPS; on this machine, where `plain` is allowed, by HTTP first.
fn over(reference: &Reference, authority: &str, repository: &str, plain: bool) -> Vec<Endpoint> {
    let at = |scheme: &str| endpoint(reference, authority, format!("{scheme}://{authority}/v2"), repository);
    match (plain, is_loopback(authority)) {
        (false, _) => vec![at("https")],
        (true, true) => vec![at("http"), at("https")],
        (true, false) => vec![at("https"), at("http")],
    }
}

fn of_registry(reference: &Reference, registry: &Registry, own: &Trust, sources: &Sources<'_>) -> Result<Vec<Endpoint>> {
    let by_digest = reference.digest().is_some();
    let mut endpoints = Vec::new();
    for location in registry.mirrors.iter().chain([&registry.own]) {
        // An image that is found by its tag is fetched from where the tag was found.
        let fits = if by_digest { location.digests } else { location.tags };
        if !fits {
            continue;
        }
        let name = registry.renamed(location, reference);
        let (authority, repository) = name.split_once('/').unwrap_or((&name, ""));
        let authority = home(authority);
        let certificates = if authority == home(reference.domain()) { Some(own.clone()) } else { trusted(authority, sources)? };
        let trust = Trust { skip_verify: location.insecure, ..certificates.unwrap_or_default() };
        let plain = location.insecure || (is_loopback(authority) && split_port(authority).1 != Some(443));
        endpoints.extend(over(reference, authority, repository, plain).into_iter().map(|one| Endpoint { trust: trust.clone(), ..one }));
    }
    Ok(endpoints)
}

/// The certificates for a host that `registries.conf` names.
fn trusted(authority: &str, sources: &Sources<'_>) -> Result<Option<Trust>> {
    Ok(match (sources.host_dir)(authority)? {
        Some(HostDir::Certificates(trust)) => Some(trust),
        Some(HostDir::Hosts(hosts)) => hosts.into_iter().next_back().map(|host| host.trust),
        None => None,
    })
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
