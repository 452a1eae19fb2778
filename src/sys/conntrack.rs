//! The connection tracking table over netlink: flows that the kernel must forget when a port begins or ceases to lead elsewhere.
//!
//! A UDP flow keeps the way that it was given for as long as its client sends, so a client that asked too early, or that asked a
//! container which is gone, would never reach the new one. *Source:* linux/netfilter/nfnetlink_conntrack.h.

use std::net::IpAddr;

use super::netlink::ChannelError;
use super::netlink::channel::{Channel, Reply};
use super::netlink::wire::{self, Malformed, Writer};
use crate::fault::{Fault, Kind, kind_of_errno};
use crate::ports::{Forward, Protocol};

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;

/// What went wrong with the table.
#[derive(Debug, thiserror::Error)]
#[error("conntrack: {call}: {source}")]
pub struct ConntrackError {
    call: &'static str,
    source: ChannelError,
}

impl From<ConntrackError> for Fault {
    fn from(error: ConntrackError) -> Fault {
        let kind = error.source.errno().map_or(Kind::Internal, kind_of_errno);
        Fault::from_error(kind, error)
    }
}

/// A flow.
struct Flow {
    protocol: u8,
    destination: IpAddr,
    port: u16,
    answered_by: IpAddr,
    /// The attributes that name it.
    name: Vec<(u16, Vec<u8>)>,
}

/// Makes the kernel forget the UDP flows to the ports of `forwards`: those that lead to their containers, and those to the addresses
/// of this host (`own`) that lead nowhere else. Answers how many they were.
pub fn forget_flows(forwards: &[Forward], own: &[IpAddr]) -> Result<usize, ConntrackError> {
    let udp: Vec<&Forward> = forwards.iter().filter(|forward| forward.protocol == Protocol::Udp).collect();
    let mut forgotten = 0;
    for v4 in [true, false] {
        let family: Vec<&&Forward> = udp.iter().filter(|forward| forward.target.is_ipv4() == v4).collect();
        if family.is_empty() {
            continue;
        }
        let failed = |call| move |source| ConntrackError { call, source };
        let mut channel = Channel::open(netlink_sys::protocols::NETLINK_NETFILTER).map_err(failed("open"))?;
        let number = if v4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
        for flow in flows(&mut channel, number).map_err(failed("list the flows"))? {
            if family.iter().any(|forward| is_stale(&flow, forward, own)) {
                forgotten += usize::from(delete(&mut channel, number, &flow).map_err(failed("delete a flow"))?);
            }
        }
    }
    Ok(forgotten)
}

fn is_stale(flow: &Flow, forward: &Forward, own: &[IpAddr]) -> bool {
    if flow.protocol != forward.protocol.number() || flow.port != forward.host_port {
        return false;
    }
    let is_ours = forward.host_ip.is_none_or(|address| address == flow.destination);
    flow.answered_by == forward.target || (is_ours && own.contains(&flow.destination))
}

fn flows(channel: &mut Channel, family: u8) -> Result<Vec<Flow>, ChannelError> {
    let seq = channel.sequence(1);
    let mut out = Writer::default();
    out.message(GET, NLM_F_REQUEST | NLM_F_DUMP, seq, |m| m.raw(&[family, 0, 0, 0]));
    let answers = channel.exchange(out.bytes(), |answers| answers.done || !answers.verdicts.is_empty())?;
    if let Some(refusal) = answers.verdicts.iter().find_map(|verdict| verdict.refused.clone()) {
        return Err(ChannelError::Receive(refusal.errno));
    }
    let mut all = Vec::new();
    for reply in &answers.replies {
        all.extend(flow_in(reply)?);
    }
    Ok(all)
}

/// Deletes a flow; `false` when it went by itself.
fn delete(channel: &mut Channel, family: u8, flow: &Flow) -> Result<bool, ChannelError> {
    let seq = channel.sequence(1);
    let mut out = Writer::default();
    out.message(DELETE, NLM_F_REQUEST | NLM_F_ACK, seq, |m| {
        m.raw(&[family, 0, 0, 0]);
        for (kind, value) in &flow.name {
            m.attribute(*kind, value);
        }
    });
    let answers = channel.exchange(out.bytes(), |answers| !answers.verdicts.is_empty())?;
    match answers.verdicts.first().map(|verdict| verdict.refused.clone()) {
        Some(None) => Ok(true),
        Some(Some(refusal)) if refusal.errno == nix::errno::Errno::ENOENT => Ok(false),
        Some(Some(refusal)) => Err(ChannelError::Receive(refusal.errno)),
        None => Err(ChannelError::NoAnswer),
    }
}

fn flow_in(reply: &Reply) -> Result<Option<Flow>, Malformed> {
    let attributes = reply.body.get(4..).unwrap_or_default();
    let (Some(there), Some(back)) = (wire::find(attributes, CTA_TUPLE_ORIG)?, wire::find(attributes, CTA_TUPLE_REPLY)?) else {
        return Ok(None);
    };
    let (Some(destination), Some(answered_by)) = (address_in(there, 2)?, address_in(back, 1)?) else { return Ok(None) };
    let Some(transport) = wire::find(there, 2)? else { return Ok(None) };
    let protocol = wire::find(transport, 1)?.and_then(|value| value.first().copied()).unwrap_or_default();
    let port = wire::find(transport, 3)?.and_then(|value| <[u8; 2]>::try_from(value).ok()).map_or(0, u16::from_be_bytes);
    // The bit that says "nested" is asked for by the kernel.
    let mut name = vec![(CTA_TUPLE_ORIG | 1 << 15, there.to_vec())];
    for kind in [CTA_ID, CTA_ZONE] {
        name.extend(wire::find(attributes, kind)?.map(|value| (kind, value.to_vec())));
    }
    Ok(Some(Flow { protocol, destination, port, answered_by, name }))
}

/// Source (`which` 1) or destination (2) of a tuple.
fn address_in(tuple: &[u8], which: u16) -> Result<Option<IpAddr>, Malformed> {
    let Some(ip) = wire::find(tuple, 1)? else { return Ok(None) };
    let v4 = wire::find(ip, which)?.and_then(|value| <[u8; 4]>::try_from(value).ok()).map(IpAddr::from);
    let v6 = wire::find(ip, which + 2)?.and_then(|value| <[u8; 16]>::try_from(value).ok()).map(IpAddr::from);
    Ok(v4.or(v6))
}
