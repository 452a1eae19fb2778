//! Typed writes: each is one send; a batch is one send too, with one ACK for each of its requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnetwork::IpNetwork;
use netlink_packet_core::{DefaultNla, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecUnspec, InfoBridgePort, InfoData, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkMessage, MacVlanMode,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope};
use rtnetlink::{AddressMessageBuilder, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::channel::ChannelError;
use super::error::{NetlinkError, Request};
use super::wire::Writer;
use super::{LO, NLM_F_REQUEST, Netlink};
use crate::cni::macvlan::Mode;
use crate::cni::result::Metrics;
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
    /// The bridge, if there is one: name for errors, ifindex for the kernel.
    pub bridge: Option<(&'a IfName, u32)>,
    /// MTU of both ends, in bytes.
    pub mtu: Option<u32>,
    /// Whether the bridge sends a port its own frames back.
    pub hairpin: bool,
    /// Whether the bridge keeps a port from others of the kind.
    pub isolated: bool,
}

/// All that an interface in a namespace is given, in the order in which it is given.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The interface: name for errors, ifindex for the kernel.
    pub link: (&'a IfName, u32),
    /// Whether lo is set up first.
    pub loopback: bool,
    /// Addresses with prefix.
    pub addresses: &'a [IpNetwork],
    /// How the addresses are added.
    pub manner: AddressManner,
    /// Routes through it.
    pub routes: &'a [NewRoute],
}

/// How addresses are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressManner {
    /// IPv6 addresses are used only when nobody else answers for them.
    pub dad: bool,
    /// The kernel makes no route to their subnets.
    pub no_prefix_route: bool,
}

/// A route in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRoute {
    /// Destination; prefix 0 is the default route.
    pub dst: IpNetwork,
    /// Next hop.
    pub gw: Option<IpAddr>,
    /// The address that packets leave with.
    pub src: Option<IpAddr>,
    /// What else is said of it.
    pub metrics: Metrics,
}

impl NewRoute {
    /// A route without anything special.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> NewRoute {
        NewRoute { dst, gw, src: None, metrics: Metrics::default() }
    }
}

/// A macvlan interface in the making.
#[derive(Clone, Copy, Debug)]
pub struct NewMacvlan<'a> {
    /// The interface.
    pub name: &'a IfName,
    /// The link that carries it: name for errors, ifindex for the kernel.
    pub master: (&'a IfName, u32),
    /// How neighbours reach each other.
    pub mode: Mode,
    /// Its MAC; none is the kernel's choice.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// The namespace that it is made in.
    pub netns: BorrowedFd<'a>,
}

pub(super) struct Ask {
    message: RouteNetlinkMessage,
    flags: u16,
    request: Request,
}

impl Ask {
    fn new(request: Request, flags: u16, message: RouteNetlinkMessage) -> Ask {
        Ask { message, flags, request }
    }

    /// The request that deletes a link by its ifindex; `name` is for errors.
    pub(super) fn delete_link(name: &str, index: u32) -> Ask {
        let message = LinkUnspec::new_with_index(index).build();
        Ask::new(Request::DeleteLink { name: name.to_owned() }, 0, RouteNetlinkMessage::DelLink(message))
    }

    /// As it is sent, to be acknowledged; and what it was, for errors.
    pub(super) fn into_bytes(self, seq: u32) -> (Vec<u8>, Request) {
        let mut message = NetlinkMessage::from(self.message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | self.flags;
        message.header.sequence_number = seq;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        (bytes, self.request)
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
        let mut host = LinkMessageBuilder::<LinkVeth>::new(new.host.as_ref(), new.inner.as_ref()).address(new.host_mac.0.to_vec()).up();
        if let Some((_, index)) = new.bridge {
            host = host.controller(index);
        }
        if let Some(mtu) = new.mtu {
            peer = peer.mtu(mtu);
            host = host.mtu(mtu);
        }
        let host = host.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build()))).build();
        let request = Request::CreateVeth {
            host: new.host.to_string(),
            inner: new.inner.to_string(),
            bridge: new.bridge.map(|(name, _)| name.to_string()),
        };
        let mut asks = vec![Ask::new(request, NEW, RouteNetlinkMessage::NewLink(host))];
        let mut modes = Vec::new();
        modes.extend(new.hairpin.then_some(InfoBridgePort::HairpinMode(true)));
        modes.extend(new.isolated.then_some(InfoBridgePort::Isolated(true)));
        if new.bridge.is_some() && !modes.is_empty() {
            // By name and in the same send: no look-up of the new index is needed.
            let port = LinkMessageBuilder::<LinkUnspec>::new()
                .name(new.host.as_ref())
                .set_port_kind(InfoPortKind::Bridge)
                .set_port_data(InfoPortData::BridgePort(modes))
                .build();
            asks.push(Ask::new(Request::SetPort { name: new.host.to_string() }, 0, RouteNetlinkMessage::NewLink(port)));
        }
        self.carry_out(asks)
    }

    /// Makes a macvlan interface that must be new, in its namespace from the first.
    pub fn create_macvlan(&mut self, new: &NewMacvlan<'_>) -> Result<(), NetlinkError> {
        let mode = match new.mode {
            Mode::Bridge => MacVlanMode::Bridge,
            Mode::Private => MacVlanMode::Private,
            Mode::Vepa => MacVlanMode::Vepa,
            Mode::Passthru => MacVlanMode::Passthrough,
        };
        let mut builder = LinkMacVlan::new(new.name.as_ref(), new.master.1, mode).setns_by_fd(new.netns.as_raw_fd());
        if let Some(mac) = new.mac {
            builder = builder.address(mac.0.to_vec());
        }
        if let Some(mtu) = new.mtu {
            builder = builder.mtu(mtu);
        }
        let request = Request::CreateMacvlan { name: new.name.to_string(), master: new.master.0.to_string() };
        self.carry_out(vec![Ask::new(request, NEW, RouteNetlinkMessage::NewLink(builder.build()))])
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

    pub(super) fn set_link(&mut self, request: Request, message: LinkMessage) -> Result<(), NetlinkError> {
        self.carry_out(vec![Ask::new(request, 0, RouteNetlinkMessage::SetLink(message))])
    }

    /// Adds an address that must be new.
    pub fn add_address(&mut self, name: &str, index: u32, address: IpNetwork) -> Result<(), NetlinkError> {
        self.carry_out(vec![ask_address(name, index, address, AddressManner::default())])
    }

    /// Replaces addresses of a link by one other, in one send.
    pub fn replace_addresses(&mut self, name: &str, index: u32, old: &[IpNetwork], new: Option<IpNetwork>) -> Result<(), NetlinkError> {
        let mut asks: Vec<Ask> = old
            .iter()
            .map(|&address| {
                let request = Request::DeleteAddress { name: name.to_owned(), address };
                Ask::new(request, 0, RouteNetlinkMessage::DelAddress(address_message(index, address, AddressManner::default())))
            })
            .collect();
        asks.extend(new.map(|address| ask_address(name, index, address, AddressManner::default())));
        self.carry_out(asks)
    }

    /// Adds a route that must be new.
    pub fn add_route(&mut self, link: (&IfName, u32), dst: IpNetwork, gw: Option<IpAddr>) -> Result<(), NetlinkError> {
        self.carry_out(vec![ask_route(link, &NewRoute::new(dst, gw))])
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
        asks.extend(setup.addresses.iter().map(|&address| ask_address(name.as_ref(), index, address, setup.manner)));
        let up = LinkUnspec::new_with_index(index).up().build();
        asks.push(Ask::new(Request::SetUp { name: name.to_string() }, 0, RouteNetlinkMessage::SetLink(up)));
        asks.extend(setup.routes.iter().map(|route| ask_route(setup.link, route)));
        self.carry_out(asks)
    }

    /// Sends requests in one datagram; the first that is refused is the error. The kernel goes on after a refusal.
    pub(super) fn carry_out(&mut self, asks: Vec<Ask>) -> Result<(), NetlinkError> {
        let count = asks.len();
        let first = self.channel.sequence(count as u32);
        let mut out = Writer::default();
        let mut requests = Vec::with_capacity(count);
        for (seq, ask) in (first..).zip(asks) {
            let (bytes, request) = ask.into_bytes(seq);
            out.raw(&bytes);
            requests.push((seq, request));
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

fn address_message(index: u32, address: IpNetwork, manner: AddressManner) -> AddressMessage {
    let mut message = match address {
        IpNetwork::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4.ip(), v4.prefix()).build(),
        IpNetwork::V6(v6) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6.ip(), v6.prefix()).build();
            if !manner.dad {
                message.header.flags |= AddressHeaderFlags::Nodad;
            }
            message
        }
    };
    if manner.no_prefix_route {
        // This attribute takes the place of the flags in the header.
        let dad = if address.is_ipv6() && !manner.dad { AddressFlags::Nodad } else { AddressFlags::empty() };
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute | dad));
    }
    message
}

fn ask_address(name: &str, index: u32, address: IpNetwork, manner: AddressManner) -> Ask {
    let request = Request::AddAddress { name: name.to_owned(), address };
    Ask::new(request, NEW, RouteNetlinkMessage::NewAddress(address_message(index, address, manner)))
}

fn ask_route((name, index): (&IfName, u32), route: &NewRoute) -> Ask {
    let mut message = match route.dst {
        IpNetwork::V4(v4) => {
            let mut builder = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4.network(), v4.prefix()).output_interface(index);
            builder = match route.gw {
                Some(IpAddr::V4(gw)) => builder.gateway(gw),
                Some(IpAddr::V6(gw)) => builder.via(gw),
                None => builder.scope(RouteScope::Link),
            };
            if let Some(IpAddr::V4(src)) = route.src {
                builder = builder.pref_source(src);
            }
            builder.build()
        }
        IpNetwork::V6(v6) => {
            let mut builder = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6.network(), v6.prefix()).output_interface(index);
            if let Some(IpAddr::V6(gw)) = route.gw {
                builder = builder.gateway(gw);
            }
            if let Some(IpAddr::V6(src)) = route.src {
                builder = builder.pref_source(src);
            }
            builder.build()
        }
    };
    measure(&mut message, route.metrics);
    let request = Request::AddRoute { name: name.to_string(), dst: route.dst, gw: route.gw };
    Ask::new(request, NEW, RouteNetlinkMessage::NewRoute(message))
}

/// Adds what a route says besides destination and next hop.
fn measure(message: &mut RouteMessage, metrics: Metrics) {
    let limits = [(metrics.mtu, RouteMetric::Mtu(metrics.mtu)), (metrics.advmss, RouteMetric::Advmss(metrics.advmss))];
    let limits: Vec<RouteMetric> = limits.into_iter().filter(|(value, _)| *value != 0).map(|(_, metric)| metric).collect();
    if !limits.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(limits));
    }
    if metrics.priority != 0 {
        message.attributes.push(RouteAttribute::Priority(metrics.priority));
    }
    if let Some(table) = metrics.table {
        message.header.table = u8::try_from(table).unwrap_or(0);
        message.attributes.push(RouteAttribute::Table(table));
    }
    if let Some(scope) = metrics.scope {
        message.header.scope = RouteScope::from(scope);
    }
}
