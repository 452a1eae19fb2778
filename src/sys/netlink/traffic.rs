//! Traffic control: token buckets, and a detour of what a link receives through an ifb.

use super::channel::ChannelError;
use super::error::{NetlinkError, Request};
use super::read::parse_all;
use super::wire::{self, Malformed, Writer};
use super::{NLM_F_REQUEST, Netlink};
use crate::ids::Mac;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const ETH_P_ALL: u16 = 3;
const IFF_UP: u32 = 1;

/// A token bucket as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that may wait.
    pub limit: u32,
    /// The burst in ticks of the packet scheduler.
    pub buffer: u32,
}

/// A queueing discipline as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Its kind: `tbf`, `ingress`.
    pub kind: String,
    /// What it lets through, if it is a token bucket.
    pub bucket: Option<TokenBucket>,
}

/// A discipline out of the message of the kernel, if it is of the link with ifindex `index`.
fn qdisc_in(body: &[u8], index: u32) -> Result<Option<Qdisc>, Malformed> {
    let (Some(of), Some(rest)) = (body.get(4..8), body.get(20..)) else { return Err(Malformed("qdisc header")) };
    if wire::u32_of(of, "qdisc link")? != index {
        return Ok(None);
    }
    let kind = wire::find(rest, TCA_KIND)?.map(wire::string_of).unwrap_or_default();
    let options = if kind == "tbf" { wire::find(rest, TCA_OPTIONS)? } else { None };
    let bucket = options.map(token_bucket_in).transpose()?.flatten();
    Ok(Some(Qdisc { kind, bucket }))
}

/// *Shape:* `struct tc_tbf_qopt` and, beside it, a rate that does not fit its 32 bits.
fn token_bucket_in(options: &[u8]) -> Result<Option<TokenBucket>, Malformed> {
    let Some(told) = wire::find(options, 1)? else { return Ok(None) };
    let word = |at: usize| told.get(at..at + 4).ok_or(Malformed("token bucket")).and_then(|word| wire::u32_of(word, "token bucket"));
    let long = wire::find(options, 4)?.and_then(|rate| rate.try_into().ok()).map(u64::from_ne_bytes);
    Ok(Some(TokenBucket { rate: long.unwrap_or(u64::from(word(8)?)), limit: word(24)?, buffer: word(28)? }))
}

fn tcmsg(m: &mut Writer, index: u32, handle: u32, parent: u32, info: u32) {
    let words = [index, handle, parent, info].map(u32::to_ne_bytes).concat();
    m.raw(&[&[0; 4][..], &words].concat());
}

impl Netlink {
    /// Makes an ifb that must be new, up.
    pub fn create_ifb(&mut self, name: &str, mac: Mac, mtu: u32) -> Result<(), NetlinkError> {
        self.ask_raw(Request::CreateIfb { name: name.to_owned() }, RTM_NEWLINK, |m| {
            let header = [&[0; 8][..], &IFF_UP.to_ne_bytes(), &IFF_UP.to_ne_bytes()].concat();
            m.raw(&header);
            m.string(libc::IFLA_IFNAME, name);
            m.attribute(libc::IFLA_ADDRESS, &mac.0);
            m.u32(libc::IFLA_MTU, mtu);
            m.nest(libc::IFLA_LINKINFO, |info| info.string(1, "ifb"));
        })
    }

    /// Limits what a link sends by a token bucket at its root.
    pub fn add_token_bucket(&mut self, name: &str, index: u32, bucket: TokenBucket) -> Result<(), NetlinkError> {
        self.ask_raw(Request::AddQdisc { name: name.to_owned(), kind: "tbf" }, RTM_NEWQDISC, |m| {
            tcmsg(m, index, 1 << 16, TC_H_ROOT, 0);
            m.string(TCA_KIND, "tbf");
            m.nest(TCA_OPTIONS, |options| {
                let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
                // struct tc_tbf_qopt: rate and peak rate of twelve bytes each, limit, buffer, MTU.
                let ratespec = [[0; 8].as_slice(), &rate.to_ne_bytes()].concat();
                let rest = [bucket.limit, bucket.buffer, 0].map(u32::to_ne_bytes).concat();
                options.attribute(1, &[ratespec, vec![0; 12], rest].concat());
                if bucket.rate > u64::from(u32::MAX) {
                    options.attribute(4, &bucket.rate.to_ne_bytes());
                }
            });
        })
    }

    /// The queueing disciplines of a link, in the kernel's order.
    pub fn qdiscs(&mut self, name: &str, index: u32) -> Result<Vec<Qdisc>, NetlinkError> {
        let request = Request::ListQdiscs { name: name.to_owned() };
        let replies = self.dump(&request, RTM_GETQDISC, |m| tcmsg(m, index, 0, 0, 0))?;
        parse_all(&request, &replies, RTM_NEWQDISC, |body| qdisc_in(body, index))
    }

    /// Sends all that a link receives out of another link instead.
    pub fn redirect_received(&mut self, name: &str, index: u32, to: u32) -> Result<(), NetlinkError> {
        self.ask_raw(Request::AddQdisc { name: name.to_owned(), kind: "ingress" }, RTM_NEWQDISC, |m| {
            tcmsg(m, index, INGRESS_HANDLE, TC_H_INGRESS, 0);
            m.string(TCA_KIND, "ingress");
        })?;
        self.ask_raw(Request::AddFilter { name: name.to_owned() }, RTM_NEWTFILTER, |m| {
            tcmsg(m, index, 0, INGRESS_HANDLE, 1 << 16 | u32::from(ETH_P_ALL.to_be()));
            m.string(TCA_KIND, "u32");
            m.nest(TCA_OPTIONS, |options| {
                // struct tc_u32_sel: terminal, one key that every frame has.
                let selector = [[1, 0, 1, 0].as_slice(), &[0; 12], &[0; 16]].concat();
                options.attribute(5, &selector);
                options.nest(7, |actions| {
                    actions.nest(1, |action| {
                        action.string(1, "mirred");
                        action.nest(2, |told| {
                            // struct tc_mirred: the frame is stolen (4) and leaves through the other link (1).
                            let words = [0, 0, 4, 0, 0, 1, to].map(u32::to_ne_bytes).concat();
                            told.attribute(2, &words);
                        });
                    });
                });
            });
        })
    }

    /// One request that makes something new.
    fn ask_raw(&mut self, request: Request, kind: u16, fill: impl FnOnce(&mut Writer)) -> Result<(), NetlinkError> {
        let seq = self.channel.sequence(1);
        let mut out = Writer::default();
        out.message(kind, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, seq, fill);
        let failed = |source: ChannelError| NetlinkError::Exchange { request: request.clone(), source };
        let answers = self.channel.exchange(out.bytes(), |answers| !answers.verdicts.is_empty()).map_err(failed)?;
        match answers.verdicts.into_iter().next() {
            Some(verdict) => verdict.refused.map_or(Ok(()), |refusal| Err(NetlinkError::Refused { request: request.clone(), refusal })),
            None => Err(failed(ChannelError::NoAnswer)),
        }
    }
}
