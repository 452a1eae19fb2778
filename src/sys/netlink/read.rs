//! Typed reads: links, addresses, routes. Attributes that are not known are passed over, lengths are not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::channel::Reply;
use super::error::{NetlinkError, Request};
use super::wire::{self, Malformed, Writer};
use super::{Link, NLM_F_REQUEST, Netlink, RouteEntry};
use crate::ids::Mac;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_DUMP: u16 = 0x300;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// An IPv6 address that is not sure to be free yet.
pub(super) const TENTATIVE: u32 = 0x40;
/// An IPv6 address that somebody else has.
pub(super) const DAD_FAILED: u32 = 0x08;
const IFA_FLAGS: u16 = 8;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;

impl Netlink {
    /// The link called `name`, if there is one.
    pub fn find_link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let request = Request::FindLink { name: name.to_owned() };
        let seq = self.channel.sequence(1);
        let mut out = Writer::default();
        out.message(RTM_GETLINK, NLM_F_REQUEST, seq, |m| {
            m.raw(&[0; 16]);
            m.string(libc::IFLA_IFNAME, name);
            m.u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        });
        let answers = self
            .channel
            .exchange(out.bytes(), |answers| !answers.replies.is_empty() || !answers.verdicts.is_empty())
            .map_err(|source| NetlinkError::Exchange { request: request.clone(), source })?;
        if let Some(refusal) = answers.verdicts.into_iter().find_map(|verdict| verdict.refused) {
            return if refusal.errno == nix::errno::Errno::ENODEV { Ok(None) } else { Err(NetlinkError::Refused { request, refusal }) };
        }
        let reply = answers.replies.first().map(|reply| link_in(&reply.body)).transpose();
        reply.map_err(|source| NetlinkError::Exchange { request, source: source.into() })
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        self.dump_links(None)
    }

    /// The ports of the bridge with ifindex `bridge`.
    pub fn ports(&mut self, bridge: u32) -> Result<Vec<Link>, NetlinkError> {
        let mut ports = self.dump_links(Some(bridge))?;
        ports.retain(|link| link.master == Some(bridge));
        Ok(ports)
    }

    fn dump_links(&mut self, master: Option<u32>) -> Result<Vec<Link>, NetlinkError> {
        let replies = self.dump(&Request::ListLinks, RTM_GETLINK, |m| {
            m.raw(&[0; 16]);
            m.u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
            if let Some(index) = master {
                m.u32(libc::IFLA_MASTER, index);
            }
        })?;
        parse_all(&Request::ListLinks, &replies, RTM_NEWLINK, |body| link_in(body).map(Some))
    }

    /// The addresses of the link with ifindex `index`, in the kernel's order.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<IpNetwork>, NetlinkError> {
        let replies = self.dump(&Request::ListAddresses, RTM_GETADDR, |m| {
            m.raw(&[&[0; 4][..], &index.to_ne_bytes()].concat());
        })?;
        parse_all(&Request::ListAddresses, &replies, RTM_NEWADDR, |body| address_in(body, index))
    }

    /// The flags of all addresses of a link, put together.
    pub(super) fn address_flags(&mut self, index: u32) -> Result<u32, NetlinkError> {
        let replies = self.dump(&Request::ListAddresses, RTM_GETADDR, |m| {
            m.raw(&[&[0; 4][..], &index.to_ne_bytes()].concat());
        })?;
        let flags = parse_all(&Request::ListAddresses, &replies, RTM_NEWADDR, |body| {
            let (Some(&short), Some(of), Some(rest)) = (body.get(2), body.get(4..8), body.get(8..)) else {
                return Err(Malformed("address header"));
            };
            let long = wire::find(rest, IFA_FLAGS)?.map(|value| wire::u32_of(value, "address flags")).transpose()?;
            Ok((wire::u32_of(of, "address index")? == index).then_some(long.unwrap_or(u32::from(short))))
        })?;
        Ok(flags.into_iter().fold(0, |all, flags| all | flags))
    }

    /// The unicast routes of the main table, both families.
    pub fn routes(&mut self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            let replies = self.dump(&Request::ListRoutes, RTM_GETROUTE, |m| {
                m.raw(&[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            })?;
            routes.extend(parse_all(&Request::ListRoutes, &replies, RTM_NEWROUTE, route_in)?);
        }
        Ok(routes)
    }

    /// One dump; again when something changed meanwhile.
    pub(super) fn dump(&mut self, request: &Request, kind: u16, fill: impl Fn(&mut Writer)) -> Result<Vec<Reply>, NetlinkError> {
        let mut last = Vec::new();
        for _ in 0..8 {
            let seq = self.channel.sequence(1);
            let mut out = Writer::default();
            out.message(kind, NLM_F_REQUEST | NLM_F_DUMP, seq, &fill);
            let answers = self
                .channel
                .exchange(out.bytes(), |answers| answers.done || !answers.verdicts.is_empty())
                .map_err(|source| NetlinkError::Exchange { request: request.clone(), source })?;
            if let Some(refusal) = answers.verdicts.into_iter().find_map(|verdict| verdict.refused) {
                return Err(NetlinkError::Refused { request: request.clone(), refusal });
            }
            last = answers.replies;
            if !answers.interrupted {
                break;
            }
        }
        Ok(last)
    }
}

pub(super) fn parse_all<T>(
    request: &Request,
    replies: &[Reply],
    kind: u16,
    parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
) -> Result<Vec<T>, NetlinkError> {
    let ours = replies.iter().filter(|reply| reply.kind == kind);
    let parsed: Result<Vec<Option<T>>, Malformed> = ours.map(|reply| parse(&reply.body)).collect();
    match parsed {
        Ok(all) => Ok(all.into_iter().flatten().collect()),
        Err(source) => Err(NetlinkError::Exchange { request: request.clone(), source: source.into() }),
    }
}

fn link_in(body: &[u8]) -> Result<Link, Malformed> {
    let (Some(index), Some(flags), Some(rest)) = (body.get(4..8), body.get(8..12), body.get(16..)) else {
        return Err(Malformed("link header"));
    };
    let flags = wire::u32_of(flags, "link flags")?;
    let mut link = Link {
        index: wire::u32_of(index, "link index")?,
        up: flags & libc::IFF_UP as u32 != 0,
        promisc: flags & libc::IFF_PROMISC as u32 != 0,
        allmulti: flags & libc::IFF_ALLMULTI as u32 != 0,
        ..Link::default()
    };
    for attribute in wire::attributes(rest) {
        let (kind, value) = attribute?;
        match kind {
            libc::IFLA_IFNAME => link.name = wire::string_of(value),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
            libc::IFLA_MTU => link.mtu = wire::u32_of(value, "MTU")?,
            libc::IFLA_TXQLEN => link.tx_queue = wire::u32_of(value, "queue length")?,
            libc::IFLA_MASTER => link.master = Some(wire::u32_of(value, "master")?),
            libc::IFLA_LINK => link.peer = Some(wire::u32_of(value, "peer")?),
            libc::IFLA_LINKINFO => read_info(value, &mut link)?,
            _ => {}
        }
    }
    Ok(link)
}

fn read_info(info: &[u8], link: &mut Link) -> Result<(), Malformed> {
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_SLAVE_KIND: u16 = 4;
    const IFLA_INFO_SLAVE_DATA: u16 = 5;
    const IFLA_BRPORT_MODE: u16 = 4;
    const IFLA_BRPORT_ISOLATED: u16 = 33;
    link.kind = wire::find(info, IFLA_INFO_KIND)?.map(wire::string_of);
    let is_port = wire::find(info, IFLA_INFO_SLAVE_KIND)?.map(wire::string_of).is_some_and(|kind| kind == "bridge");
    if let (true, Some(data)) = (is_port, wire::find(info, IFLA_INFO_SLAVE_DATA)?) {
        link.hairpin = wire::find(data, IFLA_BRPORT_MODE)?.is_some_and(|mode| mode.first() == Some(&1));
        link.isolated = wire::find(data, IFLA_BRPORT_ISOLATED)?.is_some_and(|mode| mode.first() == Some(&1));
    }
    Ok(())
}

fn ip_of(value: &[u8]) -> Result<IpAddr, Malformed> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Ok(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    <[u8; 16]>::try_from(value).map(|v6| IpAddr::V6(Ipv6Addr::from(v6))).map_err(|_| Malformed("IP address"))
}

fn network_of(address: IpAddr, prefix: u8) -> Result<IpNetwork, Malformed> {
    IpNetwork::new(address, prefix).map_err(|_| Malformed("prefix"))
}

fn address_in(body: &[u8], index: u32) -> Result<Option<IpNetwork>, Malformed> {
    let (Some(&prefix), Some(of), Some(rest)) = (body.get(1), body.get(4..8), body.get(8..)) else {
        return Err(Malformed("address header"));
    };
    if wire::u32_of(of, "address index")? != index {
        return Ok(None);
    }
    // IFA_LOCAL is the address itself where both are there; IFA_ADDRESS may be the peer of a point-to-point link.
    let value = match wire::find(rest, libc::IFA_LOCAL)? {
        Some(local) => Some(local),
        None => wire::find(rest, libc::IFA_ADDRESS)?,
    };
    value.map(|value| ip_of(value).and_then(|address| network_of(address, prefix))).transpose()
}

fn route_in(body: &[u8]) -> Result<Option<RouteEntry>, Malformed> {
    let (Some(&[family, prefix]), Some(&[table, _, _, kind]), Some(rest)) =
        (body.first_chunk::<2>(), body.get(4..8).and_then(|four| four.first_chunk::<4>()), body.get(12..))
    else {
        return Err(Malformed("route header"));
    };
    if table != RT_TABLE_MAIN || kind != RTN_UNICAST {
        return Ok(None);
    }
    let any = if i32::from(family) == libc::AF_INET { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let dst = wire::find(rest, libc::RTA_DST)?.map_or(Ok(any), ip_of)?;
    Ok(Some(RouteEntry {
        dst: network_of(dst, prefix)?,
        gw: wire::find(rest, libc::RTA_GATEWAY)?.map(ip_of).transpose()?,
        index: wire::find(rest, libc::RTA_OIF)?.map(|value| wire::u32_of(value, "route link")).transpose()?,
    }))
}
