//! `rkbox port-forward`: ports of this host lead to ports inside a sandbox for as long as the command runs, without any rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::records::{self, BoxKind};
use super::{Context, output};
use crate::fault::{Fault, Kind, Result};
use crate::ports::Protocol;
use crate::sys::Host;
use crate::sys::relay::{Relay, Remote, Way};

/// Arguments of `rkbox port-forward`.
#[derive(Debug, Args)]
pub struct PortForwardArgs {
    /// Name or id of a sandbox or container
    #[arg(value_name = "BOX")]
    key: String,
    /// Ports: REMOTE, LOCAL:REMOTE, or :REMOTE for any free local one
    #[arg(required = true, value_name = "[LOCAL:]REMOTE", value_parser = parse)]
    ports: Vec<Ask>,
    /// Address of this host to listen on; by default 127.0.0.1 and ::1
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
}

/// One port that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    local: u16,
    remote: u16,
    protocol: Protocol,
}

/// *Source:* kubectl `port-forward`.
fn parse(text: &str) -> Result<Ask> {
    let bad = |why: &str| Fault::invalid(format!("cannot forward {text:?}: {why}")).hint("the form is [LOCAL:]REMOTE[/tcp|/udp]");
    let (ports, protocol) =
        text.split_once('/').map_or(Ok((text, Protocol::Tcp)), |(ports, word)| word.parse().map(|word| (ports, word)))?;
    let port = |word: &str| match word.parse::<u16>() {
        Ok(port) if port > 0 && word.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(bad(&format!("{word:?} is not a port from 1 to 65535"))),
    };
    match ports.split_once(':') {
        None => port(ports).map(|port| Ask { local: port, remote: port, protocol }),
        Some(("" | "0", remote)) => Ok(Ask { local: 0, remote: port(remote)?, protocol }),
        Some((local, remote)) => Ok(Ask { local: port(local)?, remote: port(remote)?, protocol }),
    }
}

/// Forwards until SIGINT or SIGTERM, which is no failure.
///
/// *Shape:* `Forwarding from 127.0.0.1:8080 -> 80`, a line for each, when it is ready.
pub fn run(cx: &Context, args: &PortForwardArgs) -> Result<u8> {
    let netns = netns(&cx.host, &args.key)?;
    let (relay, opened) = open(&netns, args)?;
    for way in opened {
        let protocol = if way.protocol == Protocol::Udp { "/udp" } else { "" };
        output::line(&format!("Forwarding from {} -> {}{protocol}", way.local, way.remote));
    }
    relay.run(&mut |text| output::note(&format!("rkbox: {text}")))?;
    Ok(0)
}

/// Without an address the same port on both loopbacks, the IPv6 one where there is one.
fn open(netns: &std::path::Path, args: &PortForwardArgs) -> Result<(Relay, Vec<Way>)> {
    let ways = |addresses: &[IpAddr], ask: &Ask| {
        let way = |address: &IpAddr| Way {
            protocol: ask.protocol,
            local: SocketAddr::new(*address, ask.local),
            remote: Remote::Loopback(ask.remote),
        };
        addresses.iter().map(way).collect::<Vec<_>>()
    };
    let all = |addresses: &[IpAddr], asks: &[Ask]| asks.iter().flat_map(|ask| ways(addresses, ask)).collect::<Vec<_>>();
    if !args.addresses.is_empty() {
        return Relay::open(netns, &all(&args.addresses, &args.ports));
    }
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let (first, opened) = Relay::open(netns, &all(&[v4], &args.ports))?;
    let beside: Vec<Way> = opened.iter().map(|way| Way { local: SocketAddr::new(v6, way.local.port()), ..*way }).collect();
    match Relay::open(netns, &beside) {
        Ok((second, more)) => Ok((first.with(second), [opened, more].concat())),
        // No IPv6 here, or somebody has the port there: 127.0.0.1 is enough.
        Err(_) => Ok((first, opened)),
    }
}

fn netns(host: &Host, key: &str) -> Result<PathBuf> {
    let netns = match records::find(host, BoxKind::Sandbox, key) {
        Ok(id) => records::sandbox(host, &id)?.netns,
        Err(fault) if fault.kind() == Kind::NotFound => match records::find(host, BoxKind::Container, key) {
            Ok(id) => records::container(host, &id)?.netns,
            Err(fault) if fault.kind() == Kind::NotFound => {
                return Err(
                    Fault::not_found(format!("no sandbox or container is named {key}")).hint("rkbox sandbox ls and rkbox ps show them")
                );
            }
            Err(fault) => return Err(fault),
        },
        Err(fault) => return Err(fault),
    };
    netns.ok_or_else(|| {
        Fault::new(Kind::FailedPrecondition, format!("{key} is on the host's network")).hint("its ports are reachable as they are")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_are_those_of_kubectl() {
        let ask = |local, remote, protocol| Ask { local, remote, protocol };
        assert_eq!(parse("80").unwrap(), ask(80, 80, Protocol::Tcp));
        assert_eq!(parse("8080:80").unwrap(), ask(8080, 80, Protocol::Tcp));
        assert_eq!(parse(":80").unwrap(), ask(0, 80, Protocol::Tcp));
        assert_eq!(parse("0:53/udp").unwrap(), ask(0, 53, Protocol::Udp));
        for bad in ["", ":", "80:", "0", "a:80", "1:2:3", "80/icmp", "65536", "+1:2"] {
            assert_eq!(parse(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad}");
        }
    }
}
