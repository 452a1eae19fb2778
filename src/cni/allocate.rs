//! Which address comes next: host-local's round-robin as a function of ranges, taken addresses and the last one given.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::ranges::{Range, RangeSet, after};

/// An address that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The address with the prefix of its subnet.
    pub address: IpNetwork,
    /// The gateway of its range.
    pub gateway: IpAddr,
}

/// Why there is no address; `Display` is host-local's wording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Every address is held.
    #[error("no IP addresses available in range set: {0}")]
    Exhausted(String),
    /// The address asked for is of no range.
    #[error("{0} not in range set {1}")]
    Outside(IpAddr, String),
    /// The address asked for is the gateway.
    #[error("requested ip {0} is subnet's gateway")]
    Gateway(IpAddr),
    /// The address asked for is held.
    #[error("requested IP address {0} is not available in range set {1}")]
    Taken(IpAddr, String),
}

/// Chooses the address that host-local would give.
///
/// Starts one after `last` when that lies in the set, else at the start of the first range; skips each range's gateway; goes
/// round the ranges once. `taken` is asked once for each address on the way. *Source:* host-local `IPAllocator.Get`, `RangeIter.Next`.
pub fn choose(set: &RangeSet, taken: impl Fn(IpAddr) -> bool, last: Option<IpAddr>, requested: Option<IpAddr>) -> Result<Choice, Refusal> {
    if let Some(address) = requested {
        let range = set.find(address).ok_or_else(|| Refusal::Outside(address, set.to_string()))?;
        if address == range.gateway {
            return Err(Refusal::Gateway(address));
        }
        if taken(address) {
            return Err(Refusal::Taken(address, set.to_string()));
        }
        return Ok(choice(range, address));
    }
    let exhausted = || Refusal::Exhausted(set.to_string());
    let mut place = begin(set, last).ok_or_else(exhausted)?;
    let first = place;
    loop {
        let (range, address) = place;
        if address != range.gateway && !taken(address) {
            return Ok(choice(range, address));
        }
        place = step(set, place).ok_or_else(exhausted)?;
        if place.1 == first.1 {
            return Err(exhausted());
        }
    }
}

type Place<'a> = (&'a Range, IpAddr);

fn begin(set: &RangeSet, last: Option<IpAddr>) -> Option<Place<'_>> {
    if let Some((range, last)) = last.and_then(|last| Some((set.find(last)?, last))) {
        return step(set, (range, last));
    }
    set.0.first().map(|range| (range, range.start))
}

fn step<'a>(set: &'a RangeSet, (range, address): Place<'a>) -> Option<Place<'a>> {
    if address != range.end {
        return Some((range, after(address)));
    }
    let at = set.0.iter().position(|known| known == range)?;
    let next = &set.0[(at + 1) % set.0.len()];
    Some((next, next.start))
}

fn choice(range: &Range, address: IpAddr) -> Choice {
    // Ranges are checked when they are parsed: the prefix fits the family.
    let address = IpNetwork::new(address, range.subnet.prefix()).unwrap_or_else(|_| IpNetwork::from(address));
    Choice { address, gateway: range.gateway }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::ranges::RangeText;
    use super::*;

    fn set(ranges: &[(&str, &str, &str)]) -> RangeSet {
        let texts: Vec<RangeText> = ranges
            .iter()
            .map(|(subnet, start, end)| RangeText {
                subnet: (*subnet).into(),
                start: (*start).into(),
                end: (*end).into(),
                ..RangeText::default()
            })
            .collect();
        RangeSet::parse(&texts).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_slash_29_gives_five_and_then_says_so() {
        let set = set(&[("10.0.0.0/29", "", "")]);
        let mut taken = BTreeSet::new();
        let mut last = None;
        for expected in 2..=6 {
            let given = choose(&set, |a| taken.contains(&a), last, None).unwrap();
            assert_eq!(given.address.to_string(), format!("10.0.0.{expected}/29"));
            taken.insert(given.address.ip());
            last = Some(given.address.ip());
        }
        let refusal = choose(&set, |a| taken.contains(&a), last, None).unwrap_err();
        assert_eq!(refusal.to_string(), "no IP addresses available in range set: 10.0.0.1-10.0.0.6");
        taken.remove(&ip("10.0.0.4"));
        for last in ["10.0.0.6", "10.0.0.4", "10.0.0.1", "9.9.9.9"] {
            assert_eq!(choose(&set, |a| taken.contains(&a), Some(ip(last)), None).unwrap().address.ip(), ip("10.0.0.4"), "{last}");
        }
    }

    #[test]
    fn it_goes_on_from_the_last_one_across_ranges() {
        let set = set(&[("10.0.0.0/24", "10.0.0.5", "10.0.0.6"), ("10.0.1.0/24", "10.0.1.1", "10.0.1.2")]);
        let next = |last: &str| choose(&set, |_| false, Some(ip(last)), None).unwrap().address.ip();
        assert_eq!(next("10.0.0.5"), ip("10.0.0.6"));
        assert_eq!(next("10.0.0.6"), ip("10.0.1.2"));
        assert_eq!(next("10.0.1.2"), ip("10.0.0.5"));
    }

    #[test]
    fn requests_are_met_or_refused_by_reason() {
        let set = set(&[("10.0.0.0/24", "", "")]);
        let ask = |address: &str| choose(&set, |a| a == ip("10.0.0.9"), None, Some(ip(address)));
        assert_eq!(ask("10.0.0.8").unwrap().address.to_string(), "10.0.0.8/24");
        assert!(matches!(ask("10.0.0.9"), Err(Refusal::Taken(..))));
        assert!(matches!(ask("10.0.0.1"), Err(Refusal::Gateway(..))));
        assert!(matches!(ask("10.0.1.1"), Err(Refusal::Outside(..))));
        assert!(matches!(ask("10.0.0.255"), Err(Refusal::Outside(..))));
    }

    #[test]
    fn a_full_half_of_the_v6_world_costs_no_more_than_what_is_taken() {
        let set = set(&[("::/1", "", "")]);
        let given = choose(&set, |a| a < ip("::100"), Some(ip("::50")), None).unwrap();
        assert_eq!(given.address.to_string(), "::100/1");
    }

    proptest! {
        #[test]
        fn what_is_given_is_free_in_range_and_no_gateway(held in proptest::collection::btree_set(0_u8..16, 0..16), last in 0_u8..32) {
            let set = set(&[("10.0.0.0/28", "", "10.0.0.6"), ("10.0.1.0/28", "10.0.1.9", "")]);
            let taken = |a: IpAddr| matches!(a, IpAddr::V4(v4) if held.contains(&v4.octets()[3]));
            let last = IpAddr::from([10, 0, last >> 4, last & 15]);
            match choose(&set, taken, Some(last), None) {
                Ok(given) => {
                    let range = set.find(given.address.ip()).unwrap();
                    prop_assert!(!taken(given.address.ip()) && given.address.ip() != range.gateway);
                }
                Err(refusal) => {
                    prop_assert!(matches!(refusal, Refusal::Exhausted(_)), "{}", refusal);
                    prop_assert!((2..=6).chain(9..=14).all(|n| held.contains(&n)));
                }
            }
        }
    }
}
