//! host-local's ranges: what a configuration says, checked and completed. Both families by 128-bit arithmetic.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::fault::{Context, Fault, Result};

/// A range as a configuration writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeText {
    /// `subnet`.
    pub subnet: String,
    /// `rangeStart`.
    pub start: String,
    /// `rangeEnd`.
    pub end: String,
    /// `gateway`.
    pub gateway: String,
}

/// A range of addresses of one subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The subnet, without host bits.
    pub subnet: IpNetwork,
    /// The first address, inclusive.
    pub start: IpAddr,
    /// The last address, inclusive.
    pub end: IpAddr,
    /// Never given out; may stand outside of start to end.
    pub gateway: IpAddr,
}

/// Ranges of one family out of which one address is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(pub Vec<Range>);

impl Range {
    /// Checks a range and fills in what it leaves out: gateway and start `.1`, end the last address (v4: before the broadcast).
    ///
    /// *Errors:* `InvalidArgument` in host-local's words. *Source:* host-local `Range.Canonicalize`; an end before the start is
    /// refused here also when the end is the default one, where upstream walks out of the subnet.
    pub fn parse(text: &RangeText) -> Result<Range> {
        let subnet = parse_cidr(&text.subnet)?;
        let width = width(subnet.ip());
        if subnet.prefix() > width - 2 {
            return Err(Fault::invalid(format!("Network {subnet} too small to allocate from")));
        }
        if subnet.ip() != subnet.network() {
            return Err(Fault::invalid(format!(
                "Network has host bits set. For a subnet mask of length {} the network address is {}",
                subnet.prefix(),
                subnet.network()
            )));
        }
        let first = after(subnet.ip());
        let gateway = parse_address(&text.gateway)?.unwrap_or(first);
        if gateway.is_ipv4() != first.is_ipv4() {
            return Err(Fault::invalid(format!("gateway {gateway} is not of the family of {subnet}")));
        }
        let start = parse_address(&text.start)?.unwrap_or(first);
        if !subnet.contains(start) {
            return Err(Fault::invalid(format!("RangeStart {start} not in network {subnet}")));
        }
        let end = parse_address(&text.end)?.unwrap_or_else(|| last(subnet));
        if !subnet.contains(end) || bits(end) < bits(start) {
            return Err(Fault::invalid(format!("RangeEnd {end} not in network {subnet}")));
        }
        Ok(Range { subnet, start, end, gateway })
    }

    /// Whether an address lies between start and end, both inclusive.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4() && (bits(self.start)..=bits(self.end)).contains(&bits(address))
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.contains(other.start) || self.contains(other.end) || other.contains(self.start) || other.contains(self.end)
    }
}

impl RangeSet {
    /// Checks the ranges of one set.
    ///
    /// *Errors:* an empty set, two families, overlaps. *Source:* host-local `RangeSet.Canonicalize`.
    pub fn parse(texts: &[RangeText]) -> Result<RangeSet> {
        let ranges = texts.iter().map(Range::parse).collect::<Result<Vec<_>>>()?;
        let Some(first) = ranges.first() else { return Err(Fault::invalid("empty range set")) };
        if ranges.iter().any(|range| range.start.is_ipv4() != first.start.is_ipv4()) {
            return Err(Fault::invalid("mixed address families"));
        }
        for (nth, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges[nth + 1..].iter().find(|other| one.overlaps(other)) {
                return Err(Fault::invalid(format!("subnets {one} and {other} overlap")));
            }
        }
        Ok(RangeSet(ranges))
    }

    /// The range that an address lies in.
    pub fn find(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// How many addresses can be given out; the most that fits when it is more.
    pub fn size(&self) -> u128 {
        let of = |range: &Range| {
            let all = (bits(range.end) - bits(range.start)).saturating_add(1);
            all - u128::from(range.contains(range.gateway))
        };
        self.0.iter().fold(0, |sum, range| sum.saturating_add(of(range)))
    }

    /// Whether the addresses are of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|range| range.start.is_ipv4())
    }
}

/// Checks several sets against each other.
///
/// *Errors:* overlaps; `at_most_one_per_family` (below 0.3.0) and more than one. *Source:* host-local `LoadIPAMConfig`.
pub fn parse_sets(sets: &[Vec<RangeText>], at_most_one_per_family: Option<&str>) -> Result<Vec<RangeSet>> {
    if sets.is_empty() {
        return Err(Fault::invalid("no IP ranges specified"));
    }
    let mut parsed: Vec<RangeSet> = Vec::new();
    for (nth, texts) in sets.iter().enumerate() {
        parsed.push(RangeSet::parse(texts).doing(|| format!("invalid range set {nth}"))?);
    }
    if let Some(version) = at_most_one_per_family {
        let v4 = parsed.iter().filter(|set| set.is_ipv4()).count();
        if v4 > 1 || parsed.len() - v4 > 1 {
            return Err(Fault::invalid(format!("CNI version {version} does not support more than 1 address per family")));
        }
    }
    for (nth, one) in parsed.iter().enumerate() {
        for (other_nth, other) in parsed.iter().enumerate().skip(nth + 1) {
            if one.0.iter().any(|range| other.0.iter().any(|other_range| range.overlaps(other_range))) {
                return Err(Fault::invalid(format!("range set {nth} overlaps with {other_nth}")));
            }
        }
    }
    Ok(parsed)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Range::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// Reads `address/length`; host bits stay as they are.
///
/// *Source:* Go `net.ParseCIDR`: a prefix length is needed, a netmask is none.
pub fn parse_cidr(text: &str) -> Result<IpNetwork> {
    let bad = || Fault::invalid(format!("invalid CIDR address: {text}"));
    let (address, length) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    IpNetwork::new(address, length.parse().map_err(|_| bad())?).map_err(|_| bad())
}

/// Reads an address; the empty text is none; an IPv4 address in IPv6 form is an IPv4 address.
pub fn parse_address(text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: IpAddr = text.parse().map_err(|_| Fault::invalid(format!("invalid IP address: {text}")))?;
    Ok(Some(address.to_canonical()))
}

/// The address after this one.
pub fn after(address: IpAddr) -> IpAddr {
    like(address, bits(address).wrapping_add(1))
}

/// The first address of a subnet after its own, which is the gateway when nobody says otherwise.
pub fn default_gateway(address: IpNetwork) -> IpAddr {
    after(address.network())
}

fn last(subnet: IpNetwork) -> IpAddr {
    let host_bits = u32::from(width(subnet.ip()) - subnet.prefix());
    let ones = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
    let broadcast = bits(subnet.ip()) | ones;
    like(subnet.ip(), if subnet.is_ipv4() { broadcast - 1 } else { broadcast })
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn like(family: IpAddr, bits: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(subnet: &str, start: &str, end: &str, gateway: &str) -> RangeText {
        RangeText { subnet: subnet.into(), start: start.into(), end: end.into(), gateway: gateway.into() }
    }

    #[test]
    fn defaults_are_those_of_host_local() {
        let v4 = Range::parse(&text("10.88.0.0/16", "", "", "")).unwrap();
        assert_eq!((v4.to_string().as_str(), v4.gateway.to_string().as_str()), ("10.88.0.1-10.88.255.254", "10.88.0.1"));
        let v6 = Range::parse(&text("fd00::/64", "", "", "")).unwrap();
        assert_eq!(v6.to_string(), "fd00::1-fd00::ffff:ffff:ffff:ffff");
        let inner = Range::parse(&text("10.0.0.0/24", "10.0.0.10", "10.0.0.20", "")).unwrap();
        assert_eq!(inner.gateway.to_string(), "10.0.0.1");
        assert!(!inner.contains(inner.gateway));
        assert!(inner.contains("10.0.0.10".parse().unwrap()) && inner.contains("10.0.0.20".parse().unwrap()));
        assert_eq!(Range::parse(&text("0.0.0.0/0", "", "", "")).unwrap().to_string(), "0.0.0.1-255.255.255.254");
        assert_eq!(Range::parse(&text("::/0", "", "", "")).unwrap().start.to_string(), "::1");
    }

    #[test]
    fn bad_ranges_are_refused_in_upstream_words() {
        let cases = [
            (text("10.0.0.1/24", "", "", ""), "Network has host bits set. For a subnet mask of length 24 the network address is 10.0.0.0"),
            (text("10.0.0.0/31", "", "", ""), "Network 10.0.0.0/31 too small to allocate from"),
            (text("fd00::/127", "", "", ""), "Network fd00::/127 too small to allocate from"),
            (text("10.0.0.0/24", "10.0.1.1", "", ""), "RangeStart 10.0.1.1 not in network 10.0.0.0/24"),
            (text("10.0.0.0/24", "", "10.0.1.1", ""), "RangeEnd 10.0.1.1 not in network 10.0.0.0/24"),
            (text("10.0.0.0/24", "10.0.0.9", "10.0.0.8", ""), "RangeEnd 10.0.0.8 not in network 10.0.0.0/24"),
            (text("10.0.0.0/24", "10.0.0.255", "", ""), "RangeEnd 10.0.0.254 not in network 10.0.0.0/24"),
            (text("10.0.0.0", "", "", ""), "invalid CIDR address: 10.0.0.0"),
            (text("10.0.0.0/255.0.0.0", "", "", ""), "invalid CIDR address: 10.0.0.0/255.0.0.0"),
            (text("10.0.0.0/33", "", "", ""), "invalid CIDR address: 10.0.0.0/33"),
            (text("10.0.0.0/+8", "", "", ""), "invalid CIDR address: 10.0.0.0/+8"),
            (text("", "", "", ""), "invalid CIDR address: "),
            (text("10.0.0.0/24", "x", "", ""), "invalid IP address: x"),
            (text("10.0.0.0/24", "", "", "fd00::1"), "gateway fd00::1 is not of the family of 10.0.0.0/24"),
        ];
        for (range, expected) in cases {
            assert_eq!(Range::parse(&range).unwrap_err().to_string(), expected, "{range:?}");
        }
    }

    #[test]
    fn sets_may_not_overlap_nor_mix() {
        let one = vec![text("10.0.0.0/24", "", "", "")];
        let two = vec![text("10.0.0.0/16", "10.0.0.200", "10.0.1.3", "")];
        let six = vec![text("fd00::/64", "", "", "")];
        let error = |sets: &[Vec<RangeText>]| parse_sets(sets, None).unwrap_err().to_string();
        assert_eq!(error(&[one.clone(), two.clone()]), "range set 0 overlaps with 1");
        assert_eq!(
            error(&[[one.clone(), two].concat()]),
            "invalid range set 0: subnets 10.0.0.1-10.0.0.254 and 10.0.0.200-10.0.1.3 overlap"
        );
        assert_eq!(error(&[[one.clone(), six.clone()].concat()]), "invalid range set 0: mixed address families");
        assert_eq!(error(&[vec![]]), "invalid range set 0: empty range set");
        assert_eq!(error(&[]), "no IP ranges specified");
        assert_eq!(parse_sets(&[one.clone(), six], None).unwrap().len(), 2);
        let three = vec![text("10.9.0.0/24", "", "", "")];
        assert!(parse_sets(&[one, three], Some("0.2.0")).unwrap_err().to_string().contains("more than 1 address per family"));
    }
}
