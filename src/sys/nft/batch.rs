//! One nf_tables transaction: all of its requests take effect, or none.

use super::error::{NftError, NftRequest};
use super::table::TableFamily;
use super::{NFNL_SUBSYS_NFTABLES, NLM_F_ACK, NLM_F_REQUEST, Nft, message_kind, msg};
use crate::sys::netlink::ChannelError;
use crate::sys::netlink::channel::Channel;
use crate::sys::netlink::wire::Writer;

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNL_BATCH_GENID: u16 = 1;

const DELETIONS: [u16; 4] = [msg::DELTABLE, msg::DELCHAIN, msg::DELRULE, msg::DELSETELEM];

/// One request of a transaction.
#[derive(Debug)]
struct Ask {
    request: NftRequest,
    family: TableFamily,
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

/// A transaction in the making.
#[derive(Debug, Default)]
pub struct Batch {
    asks: Vec<Ask>,
    generation: Option<u32>,
}

impl Batch {
    /// A transaction that fails with `ERESTART` unless the ruleset still is of `generation`.
    pub fn at(generation: u32) -> Batch {
        Batch { asks: Vec::new(), generation: Some(generation) }
    }

    /// Adds one request of family inet: nf_tables message `kind`, netlink `flags`, attributes.
    pub fn ask(&mut self, request: NftRequest, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer)) {
        self.ask_in(TableFamily::Inet, request, (kind, flags), fill);
    }

    /// Adds one request.
    pub fn ask_in(&mut self, family: TableFamily, request: NftRequest, (kind, flags): (u16, u16), fill: impl FnOnce(&mut Writer)) {
        let mut body = Writer::default();
        fill(&mut body);
        self.asks.push(Ask { request, family, kind, flags, body: body.bytes().to_vec() });
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    fn encode(&self, first: u32) -> Writer {
        let mut out = Writer::default();
        let subsystem = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        out.message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, first, |m| {
            m.raw(&[0, 0, subsystem[0], subsystem[1]]);
            if let Some(generation) = self.generation {
                m.be32(NFNL_BATCH_GENID, generation);
            }
        });
        let last = self.asks.len();
        for (nth, Ask { family, kind, flags, body, .. }) in self.asks.iter().enumerate() {
            // An ACK for the last request stands for all. Kernels before 6.10 give none for the end of a batch.
            let ack = if nth + 1 == last { NLM_F_ACK } else { 0 };
            out.message(message_kind(*kind), NLM_F_REQUEST | ack | flags, first + 1 + nth as u32, |m| {
                m.raw(&[family.number(), 0, 0, 0]);
                m.raw(body);
            });
        }
        out.message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, first + 1 + last as u32, |m| m.raw(&[0, 0, subsystem[0], subsystem[1]]));
        out
    }

    fn request(&self, first: u32, seq: u32) -> NftRequest {
        let nth = seq.wrapping_sub(first + 1) as usize;
        self.asks.get(nth).map_or(NftRequest::Commit, |ask| ask.request.clone())
    }
}

impl Nft {
    /// Carries out a transaction; the first refused request is the error.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), NftError> {
        self.deleted |= batch.asks.iter().any(|ask| DELETIONS.contains(&ask.kind));
        let channel: &mut Channel = self.channel()?;
        let first = channel.sequence(batch.asks.len() as u32 + 2);
        let out = batch.encode(first);
        let failed = |source: ChannelError| NftError::Exchange { request: NftRequest::Commit, source };
        // Never enough: a commit that fails says so after the ACKs of its requests.
        let answers = channel.exchange(out.bytes(), |_| false).map_err(failed)?;
        let mut acked = false;
        for verdict in answers.verdicts {
            match verdict.refused {
                Some(refusal) => return Err(NftError::Refused { request: batch.request(first, verdict.seq), refusal }),
                None => acked = true,
            }
        }
        if acked { Ok(()) } else { Err(failed(ChannelError::NoAnswer)) }
    }
}
