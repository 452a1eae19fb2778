//! Limits what a sandbox receives and sends, on the link that it has on the host.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, Mac};
use crate::script::Script;
use crate::sys::netlink::{Netlink, TokenBucket};
use crate::sys::{Errno, Host, sysctl};

/// How long a packet may wait, in microseconds.
const LATENCY: u64 = 25_000;
const SECOND: u64 = 1_000_000;

/// A rate in bits per second and a burst in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Bits per second.
    pub rate: u64,
    /// Bits.
    pub burst: u64,
}

impl Limit {
    /// *Source:* reference `bandwidth` `CreateIngressQdisc`: whole bytes, 25 ms of latency.
    fn bucket(self, ticks_per_microsecond: f64) -> TokenBucket {
        let (rate, burst) = (self.rate / 8, self.burst / 8);
        let microseconds = (burst as f64 * SECOND as f64 / rate as f64) as u32;
        let waiting = u32::try_from(rate * LATENCY / SECOND).unwrap_or(u32::MAX);
        let limit = waiting.saturating_add(u32::try_from(burst).unwrap_or(u32::MAX));
        TokenBucket { rate, limit, buffer: (f64::from(microseconds) * ticks_per_microsecond) as u32 }
    }

    fn words(self) -> [String; 6] {
        let bytes = |bits: u64| format!("{}b", bits / 8);
        let rate = format!("{}bps", self.rate / 8);
        ["rate".to_owned(), rate, "burst".to_owned(), bytes(self.burst), "latency".to_owned(), "25ms".to_owned()]
    }
}

/// Limits what a sandbox receives and sends.
///
/// What it sends goes through an ifb: a link can only limit what leaves it. *Source:* reference `bandwidth`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bandwidth {
    /// The link on the host; the bucket on it dies with it.
    pub link: IfName,
    /// Of what the sandbox receives.
    pub ingress: Option<Limit>,
    /// Of what the sandbox sends.
    pub egress: Option<Limit>,
    /// The ifb for what it sends.
    pub ifb: IfName,
    /// Its MAC, our mark.
    pub ifb_mac: Mac,
}

impl Bandwidth {
    /// What is not as it was made: the buckets, the ifb, the detour to it.
    ///
    /// *Source:* CHECK of the reference `bandwidth`.
    pub fn differences(&self) -> Result<Vec<String>> {
        let mut netlink = Netlink::open()?;
        let ticks = sysctl::ticks_per_microsecond()?;
        let mut found = Vec::new();
        let sides = [(&self.link, self.ingress, false), (&self.ifb, self.egress, false), (&self.link, self.egress, true)];
        for (name, limit, is_detour) in sides {
            let Some(limit) = limit else { continue };
            let Some(link) = netlink.find_link(name.as_ref())? else {
                found.push(format!("link {name} is gone"));
                continue;
            };
            let qdiscs = netlink.qdiscs(name.as_ref(), link.index)?;
            if is_detour && !qdiscs.iter().any(|qdisc| qdisc.kind == "ingress") {
                found.push(format!("what {name} receives is not led through {}", self.ifb));
            }
            if is_detour {
                continue;
            }
            match qdiscs.iter().find_map(|qdisc| qdisc.bucket) {
                None => found.push(format!("{name} has no token bucket")),
                Some(bucket) if bucket != limit.bucket(ticks) => {
                    let (now, wanted) = (bucket.rate * 8, limit.rate / 8 * 8);
                    found.push(format!("the token bucket of {name} is another: {now} bits per second, not {wanted}, or another burst"));
                }
                Some(_) => {}
            }
        }
        Ok(found)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit the bandwidth of {}", self.link)
    }
}

impl Action for Bandwidth {
    type Before = ();
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<()> {
        match Netlink::open()?.find_link(self.ifb.as_ref())? {
            Some(_) if self.egress.is_some() => {
                let fault = Fault::new(Kind::AlreadyExists, format!("link {} is there already", self.ifb));
                Err(fault.hint(format!("if nothing uses it: ip link delete dev {}", self.ifb)))
            }
            _ => Ok(()),
        }
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let mut netlink = Netlink::open()?;
        let name = self.link.as_ref();
        let link = netlink.find_link(name)?.ok_or_else(|| Fault::not_found(format!("link {name} is not there")))?;
        let ticks = sysctl::ticks_per_microsecond()?;
        if let Some(limit) = self.ingress {
            netlink.add_token_bucket(name, link.index, limit.bucket(ticks))?;
        }
        if let Some(limit) = self.egress {
            let ifb = self.ifb.as_ref();
            netlink.create_ifb(ifb, self.ifb_mac, link.mtu).map_err(|error| match error.errno() {
                Some(Errno::EEXIST) => Fault::from(error).of_kind(Kind::Conflict),
                Some(Errno::EOPNOTSUPP) => Fault::from(error).hint("load the kernel module: modprobe ifb"),
                _ => error.into(),
            })?;
            let found = netlink.find_link(ifb)?.ok_or_else(|| Fault::new(Kind::Conflict, format!("link {ifb} is gone")))?;
            netlink.redirect_received(name, link.index, found.index)?;
            netlink.add_token_bucket(ifb, found.index, limit.bucket(ticks))?;
        }
        Ok(())
    }

    /// The ifb with our MAC, or with our name where upstream gave it one; all else dies with the link on the host.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        let mut netlink = Netlink::open()?;
        let found = netlink.find_link(self.ifb.as_ref())?;
        let Some(link) = found.filter(|link| link.kind.as_deref() == Some("ifb")) else { return Ok(Undone::Done) };
        match netlink.remove_link(&link.name, link.index) {
            Err(error) if error.errno() != Some(Errno::ENODEV) => Err(error.into()),
            _ => Ok(Undone::Done),
        }
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let (link, ifb) = (self.link.as_ref(), self.ifb.as_ref());
        if let Way::Undo(()) = way {
            out.run_ignoring(["ip", "link", "delete", "dev", ifb, "type", "ifb"]);
            return;
        }
        let bucket = |dev: &str, limit: Limit, out: &mut Script| {
            let mut words: Vec<String> = ["tc", "qdisc", "add", "dev", dev, "root", "handle", "1:", "tbf"].map(str::to_owned).to_vec();
            words.extend(limit.words());
            out.run(words);
        };
        if let Some(limit) = self.ingress {
            bucket(link, limit, out);
        }
        if let Some(limit) = self.egress {
            let mtu = format!("$(cat /sys/class/net/{link}/mtu)");
            out.raw(&format!("ip link add name {ifb} address {} mtu {mtu} type ifb", self.ifb_mac));
            out.run(["ip", "link", "set", "dev", ifb, "up"]);
            out.run(["tc", "qdisc", "add", "dev", link, "ingress"]);
            let filter = "tc filter add dev LINK parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev IFB";
            out.run(filter.split(' ').map(|word| word.replace("LINK", link).replace("IFB", ifb)));
            bucket(ifb, limit, out);
        }
    }
}
