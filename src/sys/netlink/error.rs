//! What rtnetlink was asked, and what it answered instead of an ACK.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::channel::{ChannelError, Refusal};
use crate::fault::{Fault, Kind, kind_of_errno};
use crate::sys::ns::NsError;

/// One request, with its arguments, as errors show it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Request {
    FindLink { name: String },
    ListLinks,
    ListAddresses,
    ListRoutes,
    CreateBridge { name: String },
    CreateVeth { host: String, inner: String, bridge: Option<String> },
    CreateMacvlan { name: String, master: String },
    CreateIfb { name: String },
    ListQdiscs { name: String },
    AddQdisc { name: String, kind: &'static str },
    AddFilter { name: String },
    Tune { name: String },
    SetPort { name: String },
    DeleteLink { name: String },
    SetUp { name: String },
    SetDown { name: String },
    SetPromisc { name: String },
    SetMtu { name: String, mtu: u32 },
    SetArpNotify { name: String },
    AddAddress { name: String, address: IpNetwork },
    DeleteAddress { name: String, address: IpNetwork },
    AddRoute { name: String, dst: IpNetwork, gw: Option<IpAddr> },
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::FindLink { name } => write!(f, "look up link {name}"),
            Request::ListLinks => write!(f, "list links"),
            Request::ListAddresses => write!(f, "list addresses"),
            Request::ListRoutes => write!(f, "list routes"),
            Request::CreateBridge { name } => write!(f, "create bridge {name}"),
            Request::CreateVeth { host, inner, bridge: Some(bridge) } => write!(f, "create veth {host} on {bridge} with peer {inner}"),
            Request::CreateVeth { host, inner, bridge: None } => write!(f, "create veth {host} with peer {inner}"),
            Request::CreateMacvlan { name, master } => write!(f, "create macvlan {name} on {master}"),
            Request::CreateIfb { name } => write!(f, "create ifb {name}"),
            Request::ListQdiscs { name } => write!(f, "list the queueing disciplines of {name}"),
            Request::AddQdisc { name, kind } => write!(f, "add queueing discipline {kind} to {name}"),
            Request::AddFilter { name } => write!(f, "add a filter to {name}"),
            Request::Tune { name } => write!(f, "tune {name}"),
            Request::SetPort { name } => write!(f, "set the port mode of {name}"),
            Request::DeleteLink { name } => write!(f, "delete link {name}"),
            Request::SetUp { name } => write!(f, "set {name} up"),
            Request::SetDown { name } => write!(f, "set {name} down"),
            Request::SetPromisc { name } => write!(f, "set {name} promiscuous"),
            Request::SetMtu { name, mtu } => write!(f, "set the MTU of {name} to {mtu}"),
            Request::SetArpNotify { name } => write!(f, "set arp_notify of {name}"),
            Request::AddAddress { name, address } => write!(f, "add {address} to {name}"),
            Request::DeleteAddress { name, address } => write!(f, "remove {address} from {name}"),
            Request::AddRoute { name, dst, gw: Some(gw) } => write!(f, "add route {dst} via {gw} dev {name}"),
            Request::AddRoute { name, dst, gw: None } => write!(f, "add route {dst} dev {name}"),
        }
    }
}

/// What rtnetlink answered.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused one request.
    #[error("{request}: {errno}{note}", errno = .refusal.errno, note = note_of(request, refusal))]
    Refused {
        /// What was asked.
        request: Request,
        /// What the kernel answered.
        refusal: Refusal,
    },
    /// The exchange did not take place.
    #[error("{request}: {source}")]
    Exchange {
        /// What was asked.
        request: Request,
        /// Why not.
        source: ChannelError,
    },
    /// No socket.
    #[error(transparent)]
    Open(ChannelError),
    /// The namespace could not be entered.
    #[error(transparent)]
    Enter(#[from] NsError),
}

fn note_of(request: &Request, refusal: &Refusal) -> String {
    match (request, refusal.errno, &refusal.note) {
        (Request::CreateVeth { bridge: Some(bridge), .. }, Errno::EXFULL, _) => {
            format!(" (bridge {bridge} has all of its 1023 ports taken)")
        }
        (_, _, Some(note)) => format!(" ({note})"),
        (_, _, None) => String::new(),
    }
}

impl NetlinkError {
    /// What the kernel answered to the request, when it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetlinkError::Refused { refusal, .. } => Some(refusal.errno),
            NetlinkError::Exchange { source, .. } | NetlinkError::Open(source) => source.errno(),
            NetlinkError::Enter(_) => None,
        }
    }
}

impl From<NetlinkError> for Fault {
    fn from(error: NetlinkError) -> Fault {
        let kind = match &error {
            NetlinkError::Refused { request: Request::CreateVeth { .. }, refusal } if refusal.errno == Errno::EXFULL => {
                let hint = "put some of the sandboxes on another bridge (another network with its own \"bridge\" key)";
                return Fault::from_error(Kind::ResourceExhausted, error).hint(hint);
            }
            NetlinkError::Enter(_) => return enter_fault(error),
            other => other.errno().map_or(Kind::Internal, kind_of_errno),
        };
        Fault::from_error(kind, error)
    }
}

fn enter_fault(error: NetlinkError) -> Fault {
    match error {
        NetlinkError::Enter(source) => source.into(),
        other => Fault::from_error(Kind::Internal, other),
    }
}
