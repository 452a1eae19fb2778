//! The meaning of `-p` and `-P`: which port of the host leads where.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::fault::{Fault, Kind, Result};
use crate::ports::{Forward, Protocol};

/// One `-p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortAsk {
    /// The text as it was given, for errors.
    pub text: String,
    /// The address of the host; `0.0.0.0` and `::` are all of their family, `None` is all.
    pub host_ip: Option<IpAddr>,
    /// Ports of the host; `None` is any free one.
    pub host: Option<RangeInclusive<u16>>,
    /// Ports of the container.
    pub container: RangeInclusive<u16>,
    /// The protocol.
    pub protocol: Protocol,
}

const FORM: &str = "the form is [IP:][HOST[-LAST]:]CONTAINER[-LAST][/tcp|udp|sctp]; an IPv6 address stands in brackets";

/// Reads one `-p`.
///
/// *Shape:* `80`, `8080:80`, `8000-8010:80`, `7000-7002:7000-7002/udp`, `127.0.0.1::80`, `[::1]:8080:80`. *Source:* docker's
/// `nat.ParsePortSpec`: a host range for one container port is any free one of the range.
pub fn parse(text: &str) -> Result<PortAsk> {
    let bad = |why: String| Fault::invalid(format!("cannot publish {text:?}: {why}")).hint(FORM);
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, protocol)) => (rest, protocol.parse().map_err(|fault: Fault| bad(fault.to_string()))?),
        None => (text, Protocol::Tcp),
    };
    let (host_ip, rest) = split_address(rest).map_err(bad)?;
    let (host, container) = match (host_ip, rest.split_once(':')) {
        (_, Some((host, container))) => (host, container),
        (None, None) => ("", rest),
        (Some(_), None) => return Err(bad("an address needs a port of the host, which may be empty, and one of the container".into())),
    };
    let container = ports(container).map_err(bad)?;
    let host = if host.is_empty() { None } else { Some(ports(host).map_err(bad)?) };
    let lengths = |range: &RangeInclusive<u16>| usize::from(range.end() - range.start()) + 1;
    if let Some(host) = &host
        && lengths(host) != lengths(&container)
        && lengths(&container) != 1
    {
        return Err(bad(format!("{} ports of the host cannot lead to {} of the container", lengths(host), lengths(&container))));
    }
    Ok(PortAsk { text: text.to_owned(), host_ip, host, container, protocol })
}

/// Reads one of an image's exposed ports: `80/tcp`, `53/udp`, `7000-7002`.
pub fn parse_exposed(text: &str) -> Result<PortAsk> {
    let ask = parse(text)?;
    if ask.host.is_some() || ask.host_ip.is_some() {
        return Err(Fault::invalid(format!("the image exposes {text:?}, which is not a port")));
    }
    Ok(ask)
}

fn split_address(text: &str) -> std::result::Result<(Option<IpAddr>, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once("]:").ok_or("a bracket is not closed")?;
        let address: Ipv6Addr = address.parse().map_err(|_| format!("{address:?} is not an IPv6 address"))?;
        return Ok((Some(IpAddr::V6(address).to_canonical()), rest));
    }
    match text.splitn(3, ':').collect::<Vec<_>>()[..] {
        ["", ..] if text.matches(':').count() == 1 => Ok((None, text)),
        [address, ..] if text.matches(':').count() == 2 => {
            let parsed =
                if address.is_empty() { None } else { Some(address.parse().map_err(|_| format!("{address:?} is not an IP address"))?) };
            Ok((parsed, &text[address.len() + 1..]))
        }
        [_, _, _] => Err("there are too many colons".into()),
        _ => Ok((None, text)),
    }
}

fn ports(text: &str) -> std::result::Result<RangeInclusive<u16>, String> {
    let port = |word: &str| match word.parse::<u16>() {
        Ok(port) if port > 0 && word.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{word:?} is not a port from 1 to 65535")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the range {first}-{last} runs backwards"));
    }
    Ok(first..=last)
}

/// Which of a range of host ports is free; the second word is the address, `None` for all of the family of the target.
pub type Pick<'a> = dyn FnMut(&PortAsk, &[Forward]) -> Result<u16> + 'a;

/// The forwards that `asks` mean for a container with `addresses`; `pick` chooses where there is a choice.
///
/// One host port of one `-p` is the same in both families. *Errors:* `InvalidArgument` for an address of a family that the
/// container lacks, and for two that collide; `Unimplemented` for `[::1]`.
pub fn wanted(asks: &[PortAsk], addresses: &[IpAddr], pick: &mut Pick<'_>) -> Result<Vec<Forward>> {
    let mut all: Vec<Forward> = Vec::new();
    for ask in asks {
        let targets = targets(ask, addresses)?;
        let host_ip = ask.host_ip.filter(|address| !address.is_unspecified());
        for (nth, target_port) in ask.container.clone().enumerate() {
            let to = |host_port| {
                let forward = move |target: &IpAddr| Forward { protocol: ask.protocol, host_ip, host_port, target: *target, target_port };
                targets.iter().map(forward).collect::<Vec<_>>()
            };
            let single = ask.container.start() == ask.container.end();
            let fixed = ask.host.as_ref().filter(|host| !single || host.start() == host.end());
            let host_port = match fixed {
                Some(host) => host.start() + nth as u16,
                None => pick(ask, &[&all[..], &to(0)[..]].concat())?,
            };
            for forward in to(host_port) {
                if let Some(other) = all.iter().find(|other| other.collides_with(&forward)) {
                    return Err(Fault::invalid(format!("{:?}: port {forward} is published twice, also as {other}", ask.text)));
                }
                all.push(forward);
            }
        }
    }
    Ok(all)
}

/// The first address of each family that is asked for.
fn targets(ask: &PortAsk, addresses: &[IpAddr]) -> Result<Vec<IpAddr>> {
    if ask.host_ip == Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
        let fault = Fault::new(Kind::Unimplemented, format!("cannot publish {:?}: no answer finds its way back to [::1]", ask.text));
        return Err(fault
            .hint("publish it on 127.0.0.1, or on [::] for all addresses but ::1")
            .hint("or lead it there by a process: rkbox port-forward"));
    }
    let first = |v4: bool| addresses.iter().copied().find(|address| address.is_ipv4() == v4);
    let found: Vec<IpAddr> = match ask.host_ip {
        Some(address) => first(address.is_ipv4()).into_iter().collect(),
        None => first(true).into_iter().chain(first(false)).collect(),
    };
    if !found.is_empty() {
        return Ok(found);
    }
    let family = if ask.host_ip.is_some_and(|address| address.is_ipv6()) { "IPv6" } else { "IPv4" };
    let fault = Fault::invalid(format!("cannot publish {:?}: the container has no {family} address on its network", ask.text));
    Err(fault.hint(format!("give the network an {family} range, or publish on an address of the other family")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<IpAddr>, Option<RangeInclusive<u16>>, RangeInclusive<u16>, Protocol) {
        let ask = parse(text).unwrap();
        (ask.host_ip, ask.host, ask.container, ask.protocol)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn every_form_of_docker_is_read() {
        use Protocol::{Sctp, Tcp, Udp};
        assert_eq!(read("80"), (None, None, 80..=80, Tcp));
        assert_eq!(read(":80"), (None, None, 80..=80, Tcp));
        assert_eq!(read("8080:80"), (None, Some(8080..=8080), 80..=80, Tcp));
        assert_eq!(read("8000-8010:80/udp"), (None, Some(8000..=8010), 80..=80, Udp));
        assert_eq!(read("7000-7002:8000-8002/SCTP"), (None, Some(7000..=7002), 8000..=8002, Sctp));
        assert_eq!(read("7000-7002"), (None, None, 7000..=7002, Tcp));
        assert_eq!(read("127.0.0.1:8080:80"), (ip("127.0.0.1"), Some(8080..=8080), 80..=80, Tcp));
        assert_eq!(read("127.0.0.1::80"), (ip("127.0.0.1"), None, 80..=80, Tcp));
        assert_eq!(read("0.0.0.0:1:65535"), (ip("0.0.0.0"), Some(1..=1), 65535..=65535, Tcp));
        assert_eq!(read("[::1]:8080:80"), (ip("::1"), Some(8080..=8080), 80..=80, Tcp));
        assert_eq!(read("[::]::80/udp"), (ip("::"), None, 80..=80, Udp));
        assert_eq!(read("[::ffff:192.0.2.1]:1:2"), (ip("192.0.2.1"), Some(1..=1), 2..=2, Tcp));
    }

    #[test]
    fn what_is_no_port_is_refused_with_the_form() {
        for bad in [
            "",
            "/tcp",
            "80/",
            "80/icmp",
            "0",
            "65536",
            "-1",
            "+80",
            "80-",
            "-80",
            "90-80",
            "80:",
            "a:80",
            "1.2.3.4:80",
            "1.2.3:80:80",
            "::1:80:80",
            "[::1]80:80",
            "[::1:80:80",
            "[1.2.3.4]:80:80",
            "1.2.3.4:80:80:80",
            "8000-8001:80-82",
            "80:8000-8001",
            " 80",
            "8 0",
            "80-90-95",
            "[fe80::1%eth0]:80:80",
            "8080:80/tcp/udp",
            "\u{661}",
        ] {
            let fault = parse(bad).map(|ask| panic!("{bad:?} is {ask:?}")).unwrap_err();
            assert_eq!(fault.kind(), Kind::InvalidArgument, "{bad}");
            assert!(!fault.hints().is_empty(), "{bad}");
        }
    }

    fn want(asks: &[&str], addresses: &[&str]) -> Result<Vec<String>> {
        let asks: Vec<PortAsk> = asks.iter().map(|text| parse(text).unwrap()).collect();
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let mut next = 40000;
        let mut pick = |ask: &PortAsk, _: &[Forward]| {
            next += 1;
            Ok(ask.host.as_ref().map_or(next, |host| *host.end()))
        };
        Ok(wanted(&asks, &addresses, &mut pick)?.iter().map(|forward| format!("{forward} {}", forward.target)).collect())
    }

    #[test]
    fn a_port_is_published_in_each_family_that_the_container_has() {
        let both = ["10.88.0.2", "fd00::2"];
        assert_eq!(want(&["8080:80"], &both).unwrap(), ["0.0.0.0:8080->80/tcp 10.88.0.2", "[::]:8080->80/tcp fd00::2"]);
        assert_eq!(want(&["8080:80"], &both[..1]).unwrap(), ["0.0.0.0:8080->80/tcp 10.88.0.2"]);
        assert_eq!(want(&["0.0.0.0:8080:80"], &both).unwrap(), ["0.0.0.0:8080->80/tcp 10.88.0.2"]);
        assert_eq!(want(&["[::]:8080:80"], &both).unwrap(), ["[::]:8080->80/tcp fd00::2"]);
        assert_eq!(want(&["127.0.0.1:1:2"], &both).unwrap(), ["127.0.0.1:1->2/tcp 10.88.0.2"]);
        assert_eq!(want(&["80/udp"], &both).unwrap(), ["0.0.0.0:40001->80/udp 10.88.0.2", "[::]:40001->80/udp fd00::2"]);
        assert_eq!(want(&["8000-8010:80"], &both[..1]).unwrap(), ["0.0.0.0:8010->80/tcp 10.88.0.2"]);
        assert_eq!(want(&["7-8:1-2"], &both[..1]).unwrap(), ["0.0.0.0:7->1/tcp 10.88.0.2", "0.0.0.0:8->2/tcp 10.88.0.2"]);
        assert!(want(&["[::2]:80:80"], &both[..1]).unwrap_err().to_string().contains("no IPv6 address"));
        assert_eq!(want(&["[::1]:80:80"], &both).unwrap_err().kind(), Kind::Unimplemented);
        assert!(want(&["80:80", "127.0.0.1:80:81"], &both).unwrap_err().to_string().contains("published twice"));
        assert_eq!(want(&["80:80", "80:80/udp"], &both[..1]).unwrap().len(), 2);
    }
}
