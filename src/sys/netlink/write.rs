//! Typed writes: each is one send; a batch is one send too, with one ACK for each of its requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnetwork::IpNetwork;
use netlink_packet_core::{DefaultNla, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecUnspec, InfoBridgePort, InfoData, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkMessage,
};
use netlink_packet_route::route::RouteScope;
use rtnetlink::{AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::channel::ChannelError;
use super::error::{NetlinkError, Request};
use super::wire::Writer;
use super::{LO, NLM_F_REQUEST, Netlink};
use crate::ids::{IfName, Mac};

const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Both ends of a veth pair in the making.
#[derive(Clone, Copy, Debug)]
pub struct NewVeth<'a> {
    /// The end that becomes a port of the bridge, created up.
    pub host: &'a IfName,
    /// Its MAC.
    pub host_mac: Mac,
    /// The end in the other namespace, created down: the kernel refuses to open a peer before the pair is linked.
    pub inner: &'a IfName,
    /// Its MAC.
    pub inner_mac: Mac,
    /// The other namespace.
    pub netns: BorrowedFd<'a>,
    /// The bridge: name for errors, ifindex for the kernel.
    pub bridge: (&'a IfName, u32),
    /// MTU of both ends, in bytes.
    pub mtu: Option<u32>,
    /// Whether the bridge sends a port its own frames back.
    pub hairpin: bool,
}

/// All that an interface in a namespace is given, in the order in which it is given.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The interface: name for errors, ifindex for the kernel.
    pub link: (&'a IfName, u32),
    /// Whether lo is set up first.
    pub loopback: bool,
    /// Addresses with prefix; IPv6 addresses skip duplicate address detection.
    pub addresses: &'a [IpNetwork],
    /// Destination and next hop.
    pub routes: &'a [(IpNetwork, Option<IpAddr>)],
}

struct Ask {
    message: RouteNetlinkMessage,
    flags: u16,
    request: Request,
}

impl Ask {
    fn new(request: Request, flags: u16, message: RouteNetlinkMessage) -> Ask {
        Ask { message, flags, request }
    }
}

impl Netlink {
    /// Makes a bridge that must be new, up, with its MAC pinned (else it would follow the lowest MAC of its ports).
    pub fn create_bridge(&mut self, name: &IfName, mac: Mac, promisc: bool) -> Result<(), NetlinkError> {
        let mut builder = LinkBridge::new(name.as_ref()).address(mac.0.to_vec());
        if promisc {
            builder = builder.promiscuous(true);
        }
        let request = Request::CreateBridge { name: name.to_string() };
        self.carry_out(vec![Ask::new(request, NEW, RouteNetlinkMessage::NewLink(builder.build()))])
    }

    /// Sets the MTU of a link, in bytes.
    ///
    /// A bridge keeps an MTU that is set this way. One that it is created with follows the lowest of its ports, and goes back to
    /// 1500 with the last of them (seen on 6.18): only a change marks it as the user's.
    pub fn set_mtu(&mut self, name: &str, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.set_link(Request::SetMtu { name: name.to_owned(), mtu }, LinkUnspec::new_with_index(index).mtu(mtu).build())
    }

    /// Makes a veth pair that must be new: names, MACs, namespace, master, MTU and host side up in one RTM_NEWLINK.
    ///
    /// *Errors:* `EEXIST` when either name is taken in its namespace, `EXFULL` when the bridge has no free port.
    pub fn create_veth(&mut self, new: &NewVeth<'_>) -> Result<(), NetlinkError> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(new.inner.as_ref())
            .address(new.inner_mac.0.to_vec())
            .setns_by_fd(new.netns.as_raw_fd());
        let mut host = LinkMessageBuilder::<LinkVeth>::new(new.host.as_ref(), new.inner.as_ref())
            .address(new.host_mac.0.to_vec())
            .controller(new.bridge.1)
            .up();
        if let Some(mtu) = new.mtu {
            peer = peer.mtu(mtu);
            host = host.mtu(mtu);
        }
        let host = host.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build()))).build();
        let request = Request::CreateVeth { host: new.host.to_string(), inner: new.inner.to_string(), bridge: new.bridge.0.to_string() };
        let mut asks = vec![Ask::new(request, NEW, RouteNetlinkMessage::NewLink(host))];
        if new.hairpin {
            // By name and in the same send: no look-up of the new index is needed.
            let port = LinkMessageBuilder::<LinkUnspec>::new()
                .name(new.host.as_ref())
                .set_port_kind(InfoPortKind::Bridge)
                .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]))
                .build();
            asks.push(Ask::new(Request::SetHairpin { name: new.host.to_string() }, 0, RouteNetlinkMessage::NewLink(port)));
        }
        self.carry_out(asks)
    }

    /// Deletes a link by its ifindex; `name` is for errors. A veth takes its peer with it; the kernel waits 16 to 30 ms for readers.
    pub fn delete_link(&mut self, name: &str, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).build();
        self.carry_out(vec![Ask::new(Request::DeleteLink { name: name.to_owned() }, 0, RouteNetlinkMessage::DelLink(message))])
    }

    /// Sets a link up.
    pub fn set_up(&mut self, name: &str, index: u32) -> Result<(), NetlinkError> {
        self.set_link(Request::SetUp { name: name.to_owned() }, LinkUnspec::new_with_index(index).up().build())
    }

    /// Sets a link down.
    pub fn set_down(&mut self, name: &str, index: u32) -> Result<(), NetlinkError> {
        self.set_link(Request::SetDown { name: name.to_owned() }, LinkUnspec::new_with_index(index).down().build())
    }

    /// Sets the promiscuous mode of a link.
    pub fn set_promisc(&mut self, name: &str, index: u32, on: bool) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).promiscuous(on).build();
        self.set_link(Request::SetPromisc { name: name.to_owned() }, message)
    }

    fn set_link(&mut self, request: Request, message: LinkMessage) -> Result<(), NetlinkError> {
        self.carry_out(vec![Ask::new(request, 0, RouteNetlinkMessage::SetLink(message))])
    }

    /// Adds an address that must be new.
    pub fn add_address(&mut self, name: &str, index: u32, address: IpNetwork) -> Result<(), NetlinkError> {
        self.carry_out(vec![ask_address(name, index, address)])
    }

    /// Replaces addresses of a link by one other, in one send.
    pub fn replace_addresses(&mut self, name: &str, index: u32, old: &[IpNetwork], new: Option<IpNetwork>) -> Result<(), NetlinkError> {
        let mut asks: Vec<Ask> = old
            .iter()
            .map(|&address| {
                let request = Request::DeleteAddress { name: name.to_owned(), address };
                Ask::new(request, 0, RouteNetlinkMessage::DelAddress(address_message(index, address)))
            })
            .collect();
        asks.extend(new.map(|address| ask_address(name, index, address)));
        self.carry_out(asks)
    }

    /// Adds a route that must be new.
    pub fn add_route(&mut self, link: (&IfName, u32), dst: IpNetwork, gw: Option<IpAddr>) -> Result<(), NetlinkError> {
        self.carry_out(vec![ask_route(link, dst, gw)])
    }

    /// In one send: lo up if asked for, arp_notify, the addresses, up, the routes.
    pub fn configure(&mut self, setup: &Setup<'_>) -> Result<(), NetlinkError> {
        let (name, index) = setup.link;
        let mut asks = Vec::with_capacity(3 + setup.addresses.len() + setup.routes.len());
        if setup.loopback {
            let up = LinkUnspec::new_with_index(LO).up().build();
            asks.push(Ask::new(Request::SetUp { name: "lo".to_owned() }, 0, RouteNetlinkMessage::SetLink(up)));
        }
        // arp_notify before up, so that the neighbours hear of a MAC that is new for a used address (as upstream's bridge plugin).
        let notify = LinkUnspec::new_with_index(index).append_extra_attribute(arp_notify()).build();
        asks.push(Ask::new(Request::SetArpNotify { name: name.to_string() }, 0, RouteNetlinkMessage::SetLink(notify)));
        asks.extend(setup.addresses.iter().map(|&address| ask_address(name.as_ref(), index, address)));
        let up = LinkUnspec::new_with_index(index).up().build();
        asks.push(Ask::new(Request::SetUp { name: name.to_string() }, 0, RouteNetlinkMessage::SetLink(up)));
        asks.extend(setup.routes.iter().map(|&(dst, gw)| ask_route(setup.link, dst, gw)));
        self.carry_out(asks)
    }

    /// Sends requests in one datagram; the first that is refused is the error. The kernel goes on after a refusal.
    fn carry_out(&mut self, asks: Vec<Ask>) -> Result<(), NetlinkError> {
        let count = asks.len();
        let first = self.channel.sequence(count as u32);
        let mut out = Writer::default();
        let mut requests = Vec::with_capacity(count);
        for (seq, ask) in (first..).zip(asks) {
            let mut message = NetlinkMessage::from(ask.message);
            message.header.flags = NLM_F_REQUEST | NLM_F_ACK | ask.flags;
            message.header.sequence_number = seq;
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            out.raw(&bytes);
            requests.push((seq, ask.request));
        }
        let Some((_, named)) = requests.first().cloned() else { return Ok(()) };
        let answers = self
            .channel
            .exchange(out.bytes(), |answers| answers.verdicts.len() >= count)
            .map_err(|source| NetlinkError::Exchange { request: named, source })?;
        for (seq, request) in requests {
            match answers.verdicts.iter().find(|verdict| verdict.seq == seq) {
                Some(verdict) => {
                    if let Some(refusal) = verdict.refused.clone() {
                        return Err(NetlinkError::Refused { request, refusal });
                    }
                }
                None => return Err(NetlinkError::Exchange { request, source: ChannelError::NoAnswer }),
            }
        }
        Ok(())
    }
}

fn arp_notify() -> LinkAttribute {
    const IFLA_INET_CONF: u16 = 1;
    const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;
    let mut value = Writer::default();
    value.nest(IFLA_INET_CONF, |conf| conf.u32(IPV4_DEVCONF_ARP_NOTIFY, 1));
    let inet = DefaultNla::new(libc::AF_INET as u16, value.bytes().to_vec());
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Other(inet)])
}

fn address_message(index: u32, address: IpNetwork) -> AddressMessage {
    match address {
        IpNetwork::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4.ip(), v4.prefix()).build(),
        IpNetwork::V6(v6) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6.ip(), v6.prefix()).build();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
        }
    }
}

fn ask_address(name: &str, index: u32, address: IpNetwork) -> Ask {
    let request = Request::AddAddress { name: name.to_owned(), address };
    Ask::new(request, NEW, RouteNetlinkMessage::NewAddress(address_message(index, address)))
}

fn ask_route((name, index): (&IfName, u32), dst: IpNetwork, gw: Option<IpAddr>) -> Ask {
    let message = match dst {
        IpNetwork::V4(v4) => {
            let mut builder = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4.network(), v4.prefix()).output_interface(index);
            builder = match gw {
                Some(IpAddr::V4(gw)) => builder.gateway(gw),
                Some(IpAddr::V6(gw)) => builder.via(gw),
                None => builder.scope(RouteScope::Link),
            };
            builder.build()
        }
        IpNetwork::V6(v6) => {
            let builder = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6.network(), v6.prefix()).output_interface(index);
            match gw {
                Some(IpAddr::V6(gw)) => builder.gateway(gw).build(),
                _ => builder.build(),
            }
        }
    };
    let request = Request::AddRoute { name: name.to_string(), dst, gw };
    Ask::new(request, NEW, RouteNetlinkMessage::NewRoute(message))
}
