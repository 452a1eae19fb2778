//! Maps of user and group ids between a user namespace and the host.

use serde::{Deserialize, Serialize};

use crate::fault::{Context as _, Fault, Kind, Result};

/// How many ids a namespace of `auto` has.
pub const AUTO_SIZE: u32 = 65_536;

/// The most ranges that a map has. *Source:* user_namespaces(7).
const MOST_RANGES: usize = 340;

/// The range that `auto` takes from when nothing of `/etc/subuid` is `rkbox`'s: a quarter of all ids, from the middle of them on.
pub const OWN: Span = Span { start: 1 << 31, count: 1 << 30 };

/// Ids that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first one inside.
    pub inside: u32,
    /// The first one on the host.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// The ids of a user namespace; users and groups are mapped alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdMap(pub Vec<IdRange>);

/// Whose ids a box has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The host's: no user namespace.
    Host,
    /// A range of its own, of this many ids.
    Auto(u32),
    /// The host's, in a user namespace: root is the host's root to files, and has no capability outside.
    KeepId,
    /// As told.
    Map(IdMap),
}

/// Ids of the host that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl Span {
    fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }

    /// Reads the name of a claim.
    ///
    /// *Shape:* `START-SIZE`.
    pub fn of_claim(name: &str) -> Option<Span> {
        let (start, count) = name.split_once('-')?;
        Some(Span { start: start.parse().ok()?, count: count.parse().ok()? })
    }

    /// Whether an id is in both.
    pub fn meets(self, other: Span) -> bool {
        u64::from(self.start) < other.end() && u64::from(other.start) < self.end()
    }
}

impl IdMap {
    /// The ids from 0 on, at `outside` on the host.
    pub fn contiguous(outside: u32, size: u32) -> Self {
        IdMap(vec![IdRange { inside: 0, outside, size }])
    }

    /// The id on the host; `None` for one that is not mapped.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find(|range| inside >= range.inside && inside - range.inside < range.size).map(|r| r.outside + (inside - r.inside))
    }

    /// The id inside; `None` for one that is not mapped.
    pub fn inside(&self, outside: u32) -> Option<u32> {
        self.0.iter().find(|r| outside >= r.outside && outside - r.outside < r.size).map(|r| r.inside + (outside - r.outside))
    }

    /// The host's ids of root.
    pub fn root(&self) -> (u32, u32) {
        let root = self.outside(0).unwrap_or(0);
        (root, root)
    }

    /// Owner and group on the host; what is not mapped stays.
    pub fn shift(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (self.outside(uid).unwrap_or(uid), self.outside(gid).unwrap_or(gid))
    }

    /// Owner and group inside; what is not mapped is nobody's.
    pub fn unshift(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (self.inside(uid).unwrap_or(65_534), self.inside(gid).unwrap_or(65_534))
    }

    /// Whether files need no shifting.
    pub fn is_identity(&self) -> bool {
        self.0.iter().all(|range| range.inside == range.outside)
    }

    /// As the kernel reads it: `0 100000 65536`, a range a line.
    pub fn kernel_text(&self) -> String {
        self.0.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.size)).collect()
    }

    /// Reads what the kernel says of a namespace, in `uid_map` or `gid_map`; lines that are none are passed over.
    pub fn of_kernel(text: &str) -> Self {
        let ranges = text.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
            Some(IdRange { inside: numbers.next()??, outside: numbers.next()??, size: numbers.next()?? })
        });
        IdMap(ranges.collect())
    }

    /// The last of the ids from 0 on that all are mapped; `None` when 0 is not.
    pub fn last_without_gap(&self) -> Option<u32> {
        let mut next = 0_u32;
        while let Some(range) = self.0.iter().find(|range| range.inside == next) {
            next = range.inside.checked_add(range.size)?;
        }
        next.checked_sub(1)
    }

    /// As `--userns` takes it: `0:100000:65536,…`.
    pub fn words(&self) -> String {
        let words = self.0.iter().map(|range| format!("{}:{}:{}", range.inside, range.outside, range.size));
        words.collect::<Vec<_>>().join(",")
    }

    /// The map of these ranges, checked for what the kernel would refuse without saying why.
    ///
    /// *Errors:* `InvalidArgument`.
    pub fn checked(ranges: Vec<IdRange>) -> Result<Self> {
        let bad = |why: String| Err(Fault::invalid(why).hint("such as 0:100000:65536: the first inside, the first on the host, how many"));
        if ranges.len() > MOST_RANGES {
            return bad(format!("{} ranges are more than {MOST_RANGES}", ranges.len()));
        }
        for (nth, range) in ranges.iter().enumerate() {
            let spans = |range: &IdRange| [range.inside, range.outside].map(|start| Span { start, count: range.size });
            if range.size == 0 || spans(range).iter().any(|span| span.end() > u64::from(u32::MAX)) {
                return bad(format!("range {}:{}:{} does not fit", range.inside, range.outside, range.size));
            }
            for other in &ranges[..nth] {
                if spans(range).iter().zip(spans(other)).any(|(one, other)| one.meets(other)) {
                    return bad("two ranges overlap".to_owned());
                }
            }
        }
        let map = IdMap(ranges);
        if map.outside(0).is_none() {
            return bad("root (0) is not mapped, and the runtime needs it".to_owned());
        }
        Ok(map)
    }
}

/// Reads `--userns`.
///
/// *Shape:* `host`, `auto`, `auto:size=N`, `keep-id`, `CONTAINER:HOST:SIZE[,…]`. *Source:* podman-run(1), for the words.
pub fn parse(text: &str) -> Result<Mode> {
    match text {
        "host" | "" => return Ok(Mode::Host),
        "auto" => return Ok(Mode::Auto(AUTO_SIZE)),
        "keep-id" => return Ok(Mode::KeepId),
        _ => {}
    }
    let bad = || {
        Fault::invalid(format!("--userns {text:?} is not host, auto, keep-id or CONTAINER:HOST:SIZE"))
            .hint("leave it out, or say --userns auto")
    };
    if let Some(size) = text.strip_prefix("auto:size=") {
        let size = size.parse::<u32>().ok().filter(|size| (1..=OWN.count).contains(size)).ok_or_else(bad)?;
        return Ok(Mode::Auto(size));
    }
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let numbers: Vec<u32> = part.split(':').map(|number| number.parse().map_err(|_| bad())).collect::<Result<_>>()?;
        let [inside, outside, size] = numbers[..] else { return Err(bad()) };
        ranges.push(IdRange { inside, outside, size });
    }
    IdMap::checked(ranges).map(Mode::Map).doing(|| "--userns")
}

/// The ranges that a file such as `/etc/subuid` gives to `user`, and those of all others.
///
/// *Shape:* `user:start:count`, a line each; what is none is passed over. *Source:* subuid(5).
pub fn subordinate(text: &str, user: &str) -> (Vec<Span>, Vec<Span>) {
    let mut both = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut parts = line.trim().split(':');
        let (Some(name), Some(start), Some(count), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else { continue };
        let (Ok(start), Ok(count)) = (start.parse(), count.parse()) else { continue };
        if name == user { both.0.push(Span { start, count }) } else { both.1.push(Span { start, count }) }
    }
    both
}

/// Chooses where the next range of `size` ids starts: the lowest place in `own` that meets nothing of `taken`.
///
/// *Errors:* `ResourceExhausted` when there is none.
pub fn choose(own: &[Span], taken: &[Span], size: u32) -> Result<u32> {
    for span in own {
        let mut start = u64::from(span.start);
        while start + u64::from(size) <= span.end() {
            let Ok(at) = u32::try_from(start) else { break };
            match taken.iter().filter(|other| other.meets(Span { start: at, count: size })).map(|other| other.end()).max() {
                None => return Ok(at),
                Some(end) => start = end,
            }
        }
    }
    Err(Fault::new(Kind::ResourceExhausted, format!("no range of {size} subordinate ids is free"))
        .hint("remove boxes that have one, or give rkbox more: a line rkbox:START:COUNT in /etc/subuid and in /etc/subgid"))
}

/// What may be taken from: `rkbox`'s of both files, or [`OWN`] when neither has any.
///
/// *Errors:* `FailedPrecondition` when [`OWN`] is somebody else's, and when the two files have no id in common.
pub fn own_ranges(subuid: &str, subgid: &str) -> Result<Vec<Span>> {
    let line = format!("add a line rkbox:START:COUNT to /etc/subuid and to /etc/subgid, such as rkbox:{}:{}", OWN.start, OWN.count);
    let ((uids, other_uids), (gids, other_gids)) = (subordinate(subuid, "rkbox"), subordinate(subgid, "rkbox"));
    if uids.is_empty() && gids.is_empty() {
        if let Some(other) = other_uids.iter().chain(&other_gids).find(|other| other.meets(OWN)) {
            return Err(Fault::new(
                Kind::FailedPrecondition,
                format!("the ids from {} on are somebody else's in /etc/subuid", other.start),
            )
            .hint(line));
        }
        return Ok(vec![OWN]);
    }
    // Users and groups are mapped alike: what counts is in both.
    let mut common = Vec::new();
    for (one, other) in uids.iter().flat_map(|one| gids.iter().map(move |other| (one, other))) {
        let (start, end) = (one.start.max(other.start), one.end().min(other.end()));
        if let Ok(count) = u32::try_from(end.saturating_sub(u64::from(start)))
            && count > 0
        {
            common.push(Span { start, count });
        }
    }
    if common.is_empty() {
        return Err(
            Fault::new(Kind::FailedPrecondition, "the ranges of rkbox in /etc/subuid and /etc/subgid have no id in common").hint(line)
        );
    }
    Ok(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u32, count: u32) -> Span {
        Span { start, count }
    }

    #[test]
    fn modes_are_read_and_maps_that_the_kernel_refuses_are_refused() {
        assert_eq!(parse("auto").unwrap(), Mode::Auto(65_536));
        assert_eq!(parse("auto:size=10").unwrap(), Mode::Auto(10));
        assert_eq!(parse("keep-id").unwrap(), Mode::KeepId);
        assert_eq!(parse("host").unwrap(), Mode::Host);
        let Mode::Map(map) = parse("0:100000:10,10:5000:1").unwrap() else { panic!() };
        assert_eq!(map.kernel_text(), "0 100000 10\n10 5000 1\n");
        assert_eq!((map.outside(9), map.outside(10), map.outside(11)), (Some(100_009), Some(5000), None));
        assert_eq!((map.last_without_gap(), IdMap::of_kernel(&map.kernel_text())), (Some(10), map.clone()));
        assert_eq!((map.inside(5000), map.inside(100_010)), (Some(10), None));
        assert_eq!((map.shift((3, 99)), map.unshift((100_003, 7))), ((100_003, 99), (3, 65_534)));
        for bad in [
            "auto:size=0",
            "auto:size=x",
            "self",
            "1:2",
            "0:1:0",
            "1:1:1",
            "0:0:4294967295,5:9:1",
            "0:10:5,9:12:5",
            "0:4294967295:2",
            "0:1:1:1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_is_chosen_that_nobody_has() {
        let taken = [span(100, 10), span(115, 10), span(0, 50)];
        assert_eq!(choose(&[span(100, 100)], &taken, 5).unwrap(), 110);
        assert_eq!(choose(&[span(100, 100)], &taken, 6).unwrap(), 125);
        assert_eq!(choose(&[span(100, 20), span(900, 10)], &taken, 10).unwrap(), 900);
        assert_eq!(choose(&[span(100, 20)], &taken, 10).unwrap_err().kind(), Kind::ResourceExhausted);
        assert_eq!(choose(&[span(u32::MAX - 10, 10)], &[], 10).unwrap(), u32::MAX - 10);
    }

    #[test]
    fn what_is_ours_is_in_both_files() {
        assert_eq!(own_ranges("", "junk\nx:1:2\n").unwrap(), [OWN]);
        assert_eq!(own_ranges("rkbox:100:50\nrkbox:500:10\n", "rkbox:120:400\n").unwrap(), [span(120, 30), span(500, 10)]);
        assert!(own_ranges("rkbox:100:50\n", "").unwrap_err().to_string().contains("no id in common"));
        assert!(own_ranges("joe:2147483648:65536\n", "").unwrap_err().to_string().contains("somebody else's"));
    }
}
