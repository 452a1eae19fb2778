//! The matches and verdicts of published ports, fences and the guard of bridge ports; each says itself in bytes and in words.

use std::net::IpAddr;

use super::expr::{Family, REG_1, REG_VERDICT, Rule, octets};
use crate::ids::IfName;
use crate::sys::netlink::wire::Writer;

const META_IIF: u32 = 4;
const META_IIFNAME: u32 = 6;
const META_L4PROTO: u32 = 16;
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CMP_NEQ: u32 = 1;
const NF_DROP: i32 = 0;
const RTN_LOCAL: u32 = 2;
const FIB_DESTINATION: u32 = 2;
const FIB_ADDRTYPE: u32 = 3;
const CT_STATUS: u32 = 2;
const IPS_DST_NAT: u32 = 0x20;
const REG_2: u32 = 2;
/// The 32-bit registers behind the first: `REG_1` is the first four of them.
const REG32_00: u32 = 8;
const LOOKUP_INVERTED: u32 = 1;
/// UDP and ICMPv6, as `meta l4proto` has them.
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// A field of a frame that is looked up together with the port that it came in by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    EtherSource,
    ArpEther,
    ArpAddress,
    Source(Family),
    /// The target of a neighbour advertisement.
    Target,
}

impl Field {
    /// Header, offset, length, words.
    fn facts(self) -> (u32, u32, u32, &'static str) {
        match self {
            Field::EtherSource => (LINK_HEADER, 6, 6, "ether saddr"),
            Field::ArpEther => (NETWORK_HEADER, 8, 6, "arp saddr ether"),
            Field::ArpAddress => (NETWORK_HEADER, 14, 4, "arp saddr ip"),
            Field::Source(Family::V4) => (NETWORK_HEADER, 12, 4, "ip saddr"),
            Field::Source(Family::V6) => (NETWORK_HEADER, 8, 16, "ip6 saddr"),
            Field::Target => (TRANSPORT_HEADER, 8, 16, "@th,64,128"),
        }
    }
}

impl Rule {
    fn meta(self, key: u32, register: u32) -> Rule {
        self.expression("meta", |d| {
            d.be32(1, register);
            d.be32(2, key);
        })
    }

    fn bytes_of(self, (base, offset, length): (u32, u32, u32), register: u32) -> Rule {
        self.expression("payload", |d| {
            d.be32(1, register);
            d.be32(2, base);
            d.be32(3, offset);
            d.be32(4, length);
        })
    }

    fn differs(self, value: &[u8]) -> Rule {
        self.compare(CMP_NEQ, value)
    }

    pub(super) fn verdict(self, code: i32, chain: Option<&str>) -> Rule {
        self.expression("immediate", |d| {
            d.be32(1, REG_VERDICT);
            d.nest(2, |v| {
                v.nest(2, |verdict| {
                    verdict.be32(1, code as u32);
                    if let Some(chain) = chain {
                        verdict.string(2, chain);
                    }
                });
            });
        })
    }

    /// `drop`.
    pub fn drop(self) -> Rule {
        self.verdict(NF_DROP, None).saying("drop")
    }

    /// `jump chain`.
    pub fn jump_to(self, chain: &str) -> Rule {
        self.verdict(super::expr::NFT_JUMP, Some(chain)).saying(&format!("jump {chain}"))
    }

    /// `iif != "lo"`.
    pub fn entering_from_elsewhere(self) -> Rule {
        self.meta(META_IIF, REG_1).differs(&crate::sys::netlink::LO.to_ne_bytes()).saying("iif != \"lo\"")
    }

    /// `iifname != "cni0"`.
    pub fn not_from(self, link: &IfName) -> Rule {
        self.meta(META_IIFNAME, REG_1).differs(&ifname_bytes(link.as_ref())).saying(&format!("iifname != \"{link}\""))
    }

    /// `fib daddr type local`.
    pub fn destined_here(self) -> Rule {
        self.expression("fib", |d| {
            d.be32(1, REG_1);
            d.be32(2, FIB_ADDRTYPE);
            d.be32(3, FIB_DESTINATION);
        })
        .equals(&RTN_LOCAL.to_ne_bytes())
        .saying("fib daddr type local")
    }

    /// `ip6 daddr ::1`.
    pub fn destined_to(self, address: IpAddr) -> Rule {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        self.of_family(family).load(family.destination()).equals(&octets(address)).saying(&format!("{} daddr {address}", family.word()))
    }

    /// `ct status dnat`.
    pub fn was_led_here(self) -> Rule {
        self.expression("ct", |d| {
            d.be32(1, REG_1);
            d.be32(2, CT_STATUS);
        })
        .masked(&IPS_DST_NAT.to_ne_bytes())
        .differs(&[0; 4])
        .saying("ct status dnat")
    }

    /// `dnat ip to [ip daddr .] meta l4proto . th dport map @ports`.
    pub fn lead(self, family: Family, with_address: bool, map: &str) -> Rule {
        let (offset, length) = family.destination();
        let first = if with_address { length / 4 } else { 0 };
        // The first four registers of 32 bits are one of 128; whole ones are named as such, as nft does.
        let register = |nth: u32| if nth.is_multiple_of(4) { nth / 4 + 1 } else { REG32_00 + nth };
        let mut rule = self;
        let mut words = String::new();
        if with_address {
            rule = rule.of_family(family).bytes_of((NETWORK_HEADER, offset, length), REG_1);
            words = format!("{} daddr . ", family.word());
        }
        let data_port = register(length / 4);
        rule.meta(META_L4PROTO, register(first))
            .bytes_of((TRANSPORT_HEADER, 2, 2), register(first + 1))
            .expression("lookup", |d| {
                d.string(1, map);
                d.be32(2, REG_1);
                d.be32(3, REG_1);
            })
            .expression("nat", |d| {
                d.be32(1, 1);
                d.be32(2, u32::from(family.nfproto()));
                d.be32(3, REG_1);
                d.be32(5, data_port);
            })
            .saying(&format!("dnat {} to {words}meta l4proto . th dport map @{map}", family.word()))
    }

    /// `iifname @ports`.
    pub fn entering_one_of(self, set: &str) -> Rule {
        self.meta(META_IIFNAME, REG_1).look_up(set, 0).saying(&format!("iifname @{set}"))
    }

    /// `iifname . ether saddr @macs`, or `!= @macs`.
    pub fn pair(self, field: Field, is_in: bool, set: &str) -> Rule {
        let (base, offset, length, words) = field.facts();
        let (flags, sign) = if is_in { (0, "") } else { (LOOKUP_INVERTED, "!= ") };
        self.meta(META_IIFNAME, REG_1)
            .bytes_of((base, offset, length), REG_2)
            .look_up(set, flags)
            .saying(&format!("iifname . {words} {sign}@{set}"))
    }

    fn look_up(self, set: &str, flags: u32) -> Rule {
        self.expression("lookup", |d: &mut Writer| {
            d.string(1, set);
            d.be32(2, REG_1);
            if flags != 0 {
                d.be32(5, flags);
            }
        })
    }

    /// `ether type ip`, which `nft` leaves out where the next match says it.
    pub fn of_frame(self, kind: Frame) -> Rule {
        let (number, word) = match kind {
            Frame::Arp => (0x0806_u16, "arp"),
            Frame::Ip(Family::V4) => (0x0800, "ip"),
            Frame::Ip(Family::V6) => (0x86dd, "ip6"),
        };
        self.bytes_of((LINK_HEADER, 12, 2), REG_1).equals(&number.to_be_bytes()).saying(&format!("ether type {word}"))
    }

    /// `arp saddr ip 0.0.0.0`: a probe that asks whether an address is free.
    pub fn arp_probe(self) -> Rule {
        self.bytes_of((NETWORK_HEADER, 14, 4), REG_1).equals(&[0; 4]).saying("arp saddr ip 0.0.0.0")
    }

    /// `ip6 saddr ::`, in a frame known to be IPv6.
    pub fn ipv6_unspecified(self) -> Rule {
        self.bytes_of((NETWORK_HEADER, 8, 16), REG_1).equals(&[0; 16]).saying("ip6 saddr ::")
    }

    /// `udp sport 67`.
    pub fn udp_from(self, port: u16) -> Rule {
        self.meta(META_L4PROTO, REG_1)
            .equals(&[UDP])
            .bytes_of((TRANSPORT_HEADER, 0, 2), REG_1)
            .equals(&port.to_be_bytes())
            .saying(&format!("udp sport {port}"))
    }

    /// `icmpv6 type nd-router-advert`.
    pub fn icmpv6(self, (number, word): (u8, &str)) -> Rule {
        self.meta(META_L4PROTO, REG_1)
            .equals(&[ICMPV6])
            .bytes_of((TRANSPORT_HEADER, 0, 1), REG_1)
            .equals(&[number])
            .saying(&format!("icmpv6 type {word}"))
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame {
    Arp,
    Ip(Family),
}

/// An interface name as a key: its bytes and zeroes, 16 in all.
pub(super) fn ifname_bytes(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    bytes
}
