//! The nftables table of rkbox, spoken over netlink by an encoder of our own.
//!
//! *Shape:* `nft list table inet rkbox` prints what [`table_text`] and [`network_text`] write. A pod is one element of a map,
//! its address → jump to the chain of its network, so the cost of a pod does not grow with their number.

mod batch;
mod entry;
mod error;
mod expr;
mod forward;
mod hairpin;
mod parting;
mod piece;
mod ports;
mod read;
mod rule;
mod spoof;
mod table;
mod text;
mod write;

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::ids::{NetworkName, hex};
use crate::sys::netlink::ChannelError;
use crate::sys::netlink::channel::Channel;
use crate::sys::ns::{self, NsId};

use batch::Batch;
pub use entry::Novelty;
pub use error::{NftError, NftRequest};
pub use expr::Family;
pub use forward::{ForwardChains, Passage};
pub use hairpin::Hairpin;
pub use parting::part;
pub use piece::{Piece, Presence};
pub use ports::{Fence, PORT_TABLE, Publisher, fence_removal};
pub use spoof::{SPOOF_TABLE, SpoofPort};
pub use text::{element_text, network_text, table_text};

/// The table, of family inet.
pub const TABLE: &str = "rkbox";
/// Its base chain.
pub const POSTROUTING: &str = "postrouting";

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;

/// Message types of nf_tables.
mod msg {
    pub const NEWTABLE: u16 = 0;
    pub const GETTABLE: u16 = 1;
    pub const DELTABLE: u16 = 2;
    pub const NEWCHAIN: u16 = 3;
    pub const GETCHAIN: u16 = 4;
    pub const DELCHAIN: u16 = 5;
    pub const NEWRULE: u16 = 6;
    pub const GETRULE: u16 = 7;
    pub const DELRULE: u16 = 8;
    pub const NEWSET: u16 = 9;
    pub const NEWSETELEM: u16 = 12;
    pub const GETSETELEM: u16 = 13;
    pub const DELSETELEM: u16 = 14;
    pub const GETGEN: u16 = 16;
}

fn message_kind(kind: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | kind
}

/// An open nf_tables socket.
#[derive(Debug)]
pub struct Nft {
    /// `None` only while it is dropped.
    channel: Option<Channel>,
    deleted: bool,
}

/// Sockets that have deleted something, each with its network namespace.
///
/// The kernel destroys what a transaction has deleted after a grace period, and whoever closes an nf_tables socket before that
/// waits for it: 7 to 13 ms (seen on 6.18, `nft_rcv_nl_event`). So such a socket is kept, and used again by the next to open one; [`part`] disposes of it.
static KEPT: Mutex<Vec<(NsId, Channel)>> = Mutex::new(Vec::new());

/// What became of a thing that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was deleted.
    Deleted,
    /// It was not there.
    Absent,
    /// It was left: others use it, or it is not ours.
    InUse,
}

/// A rule as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFound {
    /// Its comment.
    pub comment: Option<String>,
}

/// A pod in a masquerade map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The pod's address.
    pub address: IpAddr,
    /// The chain of its network.
    pub chain: String,
    /// Its owner.
    pub comment: Option<String>,
}

impl Element {
    /// Whether `owner` (cut to what a comment holds) is the comment; an empty owner is no comment.
    pub fn is_of(&self, owner: &str) -> bool {
        expr::comment_in(&expr::comment(owner)).filter(|text| !text.is_empty()) == self.comment
    }
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Nft, NftError> {
        let channel = match take_kept() {
            Some(channel) => channel,
            None => Channel::open(netlink_sys::protocols::NETLINK_NETFILTER).map_err(NftError::Open)?,
        };
        Ok(Nft { channel: Some(channel), deleted: false })
    }

    fn channel(&mut self) -> Result<&mut Channel, NftError> {
        self.channel.as_mut().ok_or(NftError::Open(ChannelError::NoAnswer))
    }
}

impl Drop for Nft {
    fn drop(&mut self) {
        if let (true, Some(channel), Some(here)) = (self.deleted, self.channel.take(), ns::own_netns_id()) {
            KEPT.lock().unwrap_or_else(PoisonError::into_inner).push((here, channel));
        }
    }
}

fn take_kept() -> Option<Channel> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.is_empty() {
        return None;
    }
    let here = ns::own_netns_id()?;
    let at = kept.iter().position(|(netns, _)| *netns == here)?;
    Some(kept.swap_remove(at).1)
}

/// The chain of a network: `masq-<network>`.
pub fn chain_of(network: &NetworkName) -> String {
    format!("masq-{network}")
}

/// The comment on the masquerade rule of a network: its subnets, or their digest where a comment is too short for them.
pub fn mark_of(subnets: &[IpNetwork]) -> String {
    use sha2::{Digest, Sha256};
    let text = subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if text.len() <= 120 { text } else { format!("sha256:{}", hex(&Sha256::digest(text.as_bytes()))) }
}

/// How many rules the chain of a network has.
pub fn rule_count(subnets: &[IpNetwork]) -> usize {
    subnets.len() + multicast_of(subnets).count() + 1
}

fn map_of_family(family: Family) -> &'static str {
    match family {
        Family::V4 => "masq",
        Family::V6 => "masq6",
    }
}

fn map_of(address: IpAddr) -> &'static str {
    map_of_family(if address.is_ipv4() { Family::V4 } else { Family::V6 })
}

/// The multicast ranges of the families that are among `subnets`; multicast is not masqueraded.
fn multicast_of(subnets: &[IpNetwork]) -> impl Iterator<Item = IpNetwork> {
    let v4 = Ipv4Network::new([224, 0, 0, 0].into(), 4).ok().map(IpNetwork::V4).filter(|_| subnets.iter().any(IpNetwork::is_ipv4));
    let v6 = Ipv6Network::new([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8)
        .ok()
        .map(IpNetwork::V6)
        .filter(|_| subnets.iter().any(IpNetwork::is_ipv6));
    v4.into_iter().chain(v6)
}
