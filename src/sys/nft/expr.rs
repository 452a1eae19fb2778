//! Rules as nf_tables has them: short programs over registers. The encoding is what `nft --debug=netlink` shows for the same text.

use ipnetwork::IpNetwork;

use crate::sys::netlink::wire::Writer;

pub(super) const REG_VERDICT: u32 = 0;
pub(super) const REG_1: u32 = 1;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFT_META_NFPROTO: u32 = 15;
const NFT_CMP_EQ: u32 = 0;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_RETURN: i32 = -5;
pub(super) const NFT_JUMP: i32 = -3;

/// IPv4 or IPv6, with all that a rule needs to know of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of a network.
    pub fn of(network: &IpNetwork) -> Family {
        if network.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(super) fn nfproto(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    pub(super) fn source(self) -> (u32, u32) {
        match self {
            Family::V4 => (12, 4),
            Family::V6 => (8, 16),
        }
    }

    pub(super) fn destination(self) -> (u32, u32) {
        match self {
            Family::V4 => (16, 4),
            Family::V6 => (24, 16),
        }
    }

    /// Its name for `nft`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// The type number that `nft` knows for an address, and its size in bytes.
    pub fn data_type(self) -> (u32, u32) {
        match self {
            Family::V4 => (7, 4),
            Family::V6 => (8, 16),
        }
    }
}

/// The expressions of one rule in the making.
#[derive(Debug, Default)]
pub struct Rule {
    out: Writer,
    text: String,
}

impl Rule {
    /// The attributes, for `NFTA_RULE_EXPRESSIONS`.
    pub fn bytes(&self) -> &[u8] {
        self.out.bytes()
    }

    /// The same for `nft`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds `words` to the text.
    pub(super) fn saying(mut self, words: &str) -> Rule {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(words);
        self
    }

    pub(super) fn expression(mut self, name: &str, data: impl FnOnce(&mut Writer)) -> Rule {
        self.out.nest(NFTA_LIST_ELEM, |element| {
            element.string(NFTA_EXPR_NAME, name);
            element.nest(NFTA_EXPR_DATA, data);
        });
        self
    }

    /// `meta nfproto ipv4` or `ipv6`.
    pub fn of_family(self, family: Family) -> Rule {
        self.expression("meta", |d| {
            d.be32(1, REG_1);
            d.be32(2, NFT_META_NFPROTO);
        })
        .equals(&[family.nfproto()])
    }

    pub(super) fn load(self, (offset, length): (u32, u32)) -> Rule {
        self.expression("payload", |d| {
            d.be32(1, REG_1);
            d.be32(2, NFT_PAYLOAD_NETWORK_HEADER);
            d.be32(3, offset);
            d.be32(4, length);
        })
    }

    pub(super) fn equals(self, value: &[u8]) -> Rule {
        self.compare(NFT_CMP_EQ, value)
    }

    pub(super) fn compare(self, operator: u32, value: &[u8]) -> Rule {
        self.expression("cmp", |d| {
            d.be32(1, REG_1);
            d.be32(2, operator);
            d.nest(3, |v| v.attribute(NFTA_DATA_VALUE, value));
        })
    }

    /// `ip saddr vmap @map`.
    pub fn source_verdict(self, family: Family, map: &str) -> Rule {
        self.load(family.source())
            .expression("lookup", |d| {
                d.string(1, map);
                d.be32(2, REG_1);
                d.be32(3, REG_VERDICT);
            })
            .saying(&format!("{} saddr vmap @{map}", family.word()))
    }

    /// `ip daddr 10.88.0.0/16`.
    pub fn destination_in(self, network: &IpNetwork) -> Rule {
        let family = Family::of(network);
        self.within(family.destination(), network).saying(&format!("{} daddr {}/{}", family.word(), network.network(), network.prefix()))
    }

    /// `ip saddr 10.88.0.0/16`.
    pub fn source_in(self, network: &IpNetwork) -> Rule {
        let family = Family::of(network);
        self.within(family.source(), network).saying(&format!("{} saddr {}/{}", family.word(), network.network(), network.prefix()))
    }

    fn within(self, place: (u32, u32), network: &IpNetwork) -> Rule {
        let family = Family::of(network);
        let rule = self.load(place);
        let (mask, value) = (octets(network.mask()), octets(network.network()));
        if network.prefix() == (family.data_type().1 * 8) as u8 {
            return rule.equals(&value);
        }
        rule.masked(&mask).equals(&value)
    }

    pub(super) fn masked(self, mask: &[u8]) -> Rule {
        self.expression("bitwise", |d| {
            d.be32(1, REG_1);
            d.be32(2, REG_1);
            d.be32(3, mask.len() as u32);
            d.nest(4, |v| v.attribute(NFTA_DATA_VALUE, mask));
            d.nest(5, |v| v.attribute(NFTA_DATA_VALUE, &vec![0; mask.len()]));
        })
    }

    /// `return`.
    pub fn back(self) -> Rule {
        self.expression("immediate", |d| {
            d.be32(1, REG_VERDICT);
            d.nest(2, |v| v.nest(NFTA_DATA_VERDICT, |code| code.be32(1, NFT_RETURN as u32)));
        })
        .saying("return")
    }

    /// `masquerade`.
    pub fn masquerade(self) -> Rule {
        self.expression("masq", |_| {}).saying("masquerade")
    }
}

/// The verdict `jump chain`, as an attribute of a map element.
pub fn jump(out: &mut Writer, chain: &str) {
    out.nest(NFTA_DATA_VERDICT, |verdict| {
        verdict.be32(1, NFT_JUMP as u32);
        verdict.string(2, chain);
    });
}

/// A comment as `nft` keeps it in user data: type 0, length, text with its NUL; at most 127 bytes of text.
pub fn comment(text: &str) -> Vec<u8> {
    let mut end = text.len().min(127);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut data = vec![0, end as u8 + 1];
    data.extend_from_slice(&text.as_bytes()[..end]);
    data.push(0);
    data
}

/// The comment in user data; `None` when there is none.
pub fn comment_in(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(crate::sys::netlink::wire::string_of(value));
        }
        data = &rest[usize::from(*length)..];
    }
    None
}

/// An address in network order.
pub fn octets(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_come_back_and_are_bounded() {
        assert_eq!(comment_in(&comment("web eth0")).as_deref(), Some("web eth0"));
        assert_eq!(comment_in(&comment(&"é".repeat(100))).map(|text| text.len()), Some(126));
        assert_eq!(comment_in(&[1, 1, 7, 0, 2, b'a', 0]).as_deref(), Some("a"));
        assert_eq!(comment_in(&[0, 9, 1]), None);
        assert_eq!(comment_in(&[]), None);
    }
}
