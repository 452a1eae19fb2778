//! Links, addresses and routes over rtnetlink: rtnetlink's message builders on a synchronous socket.
//!
//! A socket belongs for ever to the network namespace in which it was opened. So nothing but the opening has to enter a
//! namespace, and that is done by a throw-away thread. No runtime is needed: the kernel carries out a request inside `send`.

pub(in crate::sys) mod channel;
mod error;
mod inside;
mod read;
mod removal;
mod traffic;
mod tune;
pub(in crate::sys) mod wire;
mod write;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use crate::ids::Mac;

pub use channel::{ChannelError, Refusal};
pub use error::{NetlinkError, Request};
pub use inside::{Inside, forget};
pub use traffic::TokenBucket;
pub use tune::Tune;
pub use write::{AddressManner, NewMacvlan, NewRoute, NewVeth, Setup};

/// The ifindex of lo: the kernel gives it the first one of every namespace.
pub const LO: u32 = 1;
const NLM_F_REQUEST: u16 = 1;

/// An open rtnetlink socket.
#[derive(Debug)]
pub struct Netlink {
    channel: channel::Channel,
}

/// A link as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its ifindex.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`, …; `None` for what has no kind (`lo`, hardware).
    pub kind: Option<String>,
    /// Its MAC, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is set up (not: whether it has a carrier).
    pub up: bool,
    /// Whether it is promiscuous by its own flag.
    pub promisc: bool,
    /// Whether it receives all multicast frames by its own flag.
    pub allmulti: bool,
    /// Length of its transmit queue in packets.
    pub tx_queue: u32,
    /// The ifindex of its bridge or bond.
    pub master: Option<u32>,
    /// The ifindex of a veth's other end, in that end's namespace.
    pub peer: Option<u32>,
    /// Hairpin mode of a bridge port.
    pub hairpin: bool,
    /// Whether a bridge port is kept from others of the kind.
    pub isolated: bool,
}

impl Link {
    /// Whether this is a bridge.
    pub fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }
}

/// A unicast route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Destination; prefix 0 is the default route.
    pub dst: IpNetwork,
    /// Next hop.
    pub gw: Option<IpAddr>,
    /// The ifindex through which it goes.
    pub index: Option<u32>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Netlink, NetlinkError> {
        let channel = channel::Channel::open(netlink_sys::protocols::NETLINK_ROUTE).map_err(NetlinkError::Open)?;
        Ok(Netlink { channel })
    }

    /// Opens a socket in the network namespace at `netns`, by a thread that enters it and ends; the last one is used again.
    pub fn open_in(netns: &Path) -> Result<Inside, NetlinkError> {
        Inside::open(netns)
    }

    /// Waits until no IPv6 address of a link is tentative; answers whether all can be used.
    pub fn settle_addresses(&mut self, index: u32, limit: Duration) -> Result<bool, NetlinkError> {
        let started = Instant::now();
        loop {
            match self.address_flags(index)? {
                flags if flags & read::DAD_FAILED != 0 => return Ok(false),
                flags if flags & read::TENTATIVE == 0 => return Ok(true),
                _ if started.elapsed() >= limit => return Ok(false),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until the bridge with ifindex `bridge` has no ports; answers whether it has none.
    ///
    /// The kernel destroys a namespace, and the veth pairs in it, some 50 ms after the last reference is gone.
    pub fn wait_without_ports(&mut self, bridge: u32, limit: Duration) -> Result<bool, NetlinkError> {
        let started = Instant::now();
        loop {
            if self.ports(bridge)?.is_empty() {
                return Ok(true);
            }
            if started.elapsed() >= limit {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
