//! Everything that can be seen of a world, as sorted lines of *what* and *how it is*.
//!
//! Left out by rule, and nothing else: indexes and handles that the kernel counts up, counters, timers, times of files, other
//! processes of the machine, `run/journals`, which is rkbox's memory of a command and not a change to the host, and `events`, its diary.

use std::time::Duration;

use super::{World, cgroup, diff, files, kernel, normal, process};

/// Time the kernel is given to finish what it does behind our back (a veth dies up to 60 ms after its namespace).
const DEADLINE: Duration = Duration::from_secs(5);

/// One line: what it is (`link web/eth0`, `file lib/layers/…`) and how it is.
pub type Fact = (String, String);

/// The full state of a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Sorted; one key can be there more than once.
    pub facts: Vec<Fact>,
}

impl Observation {
    /// Looks at `world` until two looks are the same.
    pub fn take(world: &World) -> Self {
        let mut last = Self::glance(world);
        let same = |pair: &(Self, Self)| pair.0 == pair.1;
        let ask = || {
            let next = Self::glance(world);
            (std::mem::replace(&mut last, next.clone()), next)
        };
        match process::until(DEADLINE, ask, same) {
            Ok((_, settled)) => settled,
            Err((before, after)) => panic!("the world does not come to rest:\n{}", diff::text(&before.facts, &after.facts)),
        }
    }

    /// Looks at `world` once.
    pub fn glance(world: &World) -> Self {
        let mut facts = kernel::links_routes_rules();
        facts.extend(kernel::mounts());
        facts.extend(files::below(&[super::world::DIR, "/run", "/etc/netns"], &world.run_dir().join("journals")));
        let events = format!("file {}", world.root().join("events").display());
        facts.retain(|(key, _)| !key.starts_with(&events));
        facts.extend(process::of(world).into_iter().map(|process| ("process".to_owned(), process.cmdline)));
        facts.extend(cgroup::below(&world.cgroup_parent).into_iter().map(|path| (format!("cgroup {path}"), String::new())));
        Observation { facts }.rewrite(|text| text.replace(&world.cgroup_parent, "/CGROUPS"))
    }

    /// Asserts that two observations are the same.
    #[track_caller]
    pub fn assert_same(before: &Self, after: &Self) {
        assert!(
            before == after,
            "the worlds differ (- only in the first, + only in the second):\n{}",
            diff::text(&before.facts, &after.facts)
        );
    }

    /// Asserts that `world` is, or within five seconds becomes, as it was.
    #[track_caller]
    pub fn assert_again(&self, world: &World, why: &str) {
        self.assert_one_of(&[], world, why);
    }

    /// Asserts that `world` is, or within five seconds becomes, like this or like one of `others`.
    #[track_caller]
    pub fn assert_one_of(&self, others: &[&Self], world: &World, why: &str) {
        let good = |now: &Self| now == self || others.contains(&now);
        if let Err(now) = process::until(DEADLINE, || Self::glance(world), good) {
            let nearest = others.iter().copied().chain([self]).min_by_key(|other| diff::lines(&other.facts, &now.facts).len());
            let wanted = nearest.unwrap_or(self);
            panic!("{why}: the world differs (- is missing, + is left over):\n{}", diff::text(&wanted.facts, &now.facts));
        }
    }

    /// The lines of difference to `other`: `- what: how`, `+ what: how`.
    pub fn difference(&self, other: &Self) -> Vec<String> {
        diff::lines(&self.facts, &other.facts)
    }

    /// The ids (64 hex digits) of the boxes of this world, by the records that name them; sandboxes, containers, anonymous volumes.
    pub fn ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for room in ["sandboxes", "containers", "volumes"] {
            for (key, _) in &self.facts {
                let below = key.split_once(&format!("/{room}/")).map(|(_, below)| below);
                let id = below.and_then(|below| below.split('/').next()).filter(|id| id.len() == 64 && normal::is_hex(id));
                if let Some(id) = id.filter(|id| !ids.contains(&(*id).to_owned())) {
                    ids.push(id.to_owned());
                }
            }
        }
        ids.sort_by_cached_key(|id| self.seen_of(id));
        ids
    }

    /// What is said of an id, with all ids masked: the same in two worlds whose ids differ, so that it puts them in order.
    fn seen_of(&self, id: &str) -> Vec<String> {
        let about = self.facts.iter().filter(|(key, value)| key.contains(id) || value.contains(id));
        let mask = |text: &str| {
            normal::shapes(text).split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() < 12).collect::<Vec<_>>().join(" ")
        };
        let mut said: Vec<String> = about.map(|(key, value)| format!("{} {}", mask(key), mask(value))).collect();
        said.sort();
        said
    }

    /// Replaces every `from` by its `to`, then what differs between any two runs by its shape ([`super::shapes`]).
    pub fn normalise(&self, replacements: &[(String, String)]) -> Self {
        self.rewrite(|text| {
            let replaced = replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
            normal::shapes(&replaced)
        })
    }

    /// Normalises with the ids of this very world, which are random.
    pub fn normalise_ids(&self) -> Self {
        let numbered = self.ids().into_iter().enumerate();
        let pairs = numbered.flat_map(|(n, id)| {
            let short = id[..12].to_owned();
            [(id, format!("<id{n}>")), (short, format!("<short{n}>"))]
        });
        self.normalise(&pairs.collect::<Vec<_>>())
    }

    /// Keeps the facts whose key `wanted` accepts.
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Observation { facts: self.facts.iter().filter(|(key, _)| wanted(key)).cloned().collect() }
    }

    fn rewrite(&self, with: impl Fn(&str) -> String) -> Self {
        let mut facts: Vec<Fact> = self.facts.iter().map(|(key, value)| (with(key), with(value))).collect();
        facts.sort();
        Observation { facts }
    }
}
