//! What both configurations have: resources, labels of SELinux, images.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::fault::{Fault, Result};

/// `LinuxContainerResources`; 0 and an empty text are "not specified".
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LinuxResources {
    /// Period of processor time, in microseconds.
    pub cpu_period: i64,
    /// Processor time in a period, in microseconds; -1 is no bound.
    pub cpu_quota: i64,
    /// Weight against its neighbours.
    pub cpu_shares: i64,
    /// Bytes of memory.
    pub memory_limit_in_bytes: i64,
    /// Bytes of memory and swap together; -1 is no bound.
    pub memory_swap_limit_in_bytes: i64,
    /// How soon it is killed when the host has no memory.
    pub oom_score_adj: i64,
    /// Processors, such as `0-3,5`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Bounds of huge pages.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Files of control group version 2 and what is written to them.
    pub unified: BTreeMap<String, String>,
}

/// `HugepageLimit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HugepageLimit {
    /// Such as `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: i64,
}

impl LinuxResources {
    /// Refuses what no kernel takes; `path` is where it stands.
    pub(super) fn check(&self, path: &str) -> Result<()> {
        let swap = self.memory_swap_limit_in_bytes;
        let wrong = [
            (self.cpu_period != 0 && !(1000..=1_000_000).contains(&self.cpu_period), "cpu_period", "is not between 1000 and 1000000"),
            (self.cpu_quota != 0 && self.cpu_quota != -1 && self.cpu_quota < 1000, "cpu_quota", "is neither -1 nor 1000 or more"),
            (self.cpu_shares != 0 && !(2..=262_144).contains(&self.cpu_shares), "cpu_shares", "is not between 2 and 262144"),
            (
                self.memory_limit_in_bytes != 0 && self.memory_limit_in_bytes < 6 << 20,
                "memory_limit_in_bytes",
                "is less than 6 MiB, with which nothing starts",
            ),
            (
                swap > 0 && self.memory_limit_in_bytes == 0,
                "memory_swap_limit_in_bytes",
                "needs memory_limit_in_bytes: it bounds both together",
            ),
            (
                swap > 0 && swap < self.memory_limit_in_bytes,
                "memory_swap_limit_in_bytes",
                "is less than memory_limit_in_bytes: it bounds both together",
            ),
            (swap < -1, "memory_swap_limit_in_bytes", "is neither -1 nor 0 or more"),
            (!(-1000..=1000).contains(&self.oom_score_adj), "oom_score_adj", "is not between -1000 and 1000"),
            (!is_cpuset(&self.cpuset_cpus), "cpuset_cpus", "is not a list such as 0-3,5"),
            (!is_cpuset(&self.cpuset_mems), "cpuset_mems", "is not a list such as 0-3,5"),
        ];
        if let Some((_, name, why)) = wrong.into_iter().find(|(wrong, ..)| *wrong) {
            return Err(Fault::invalid(format!("{path}.{name}: it {why}")).hint("give another value, or leave it out"));
        }
        for (nth, pages) in self.hugepage_limits.iter().enumerate() {
            let unit = pages.page_size.trim_start_matches(|c: char| c.is_ascii_digit());
            if !matches!(unit, "KB" | "MB" | "GB") || unit.len() == pages.page_size.len() {
                return Err(Fault::invalid(format!("{path}.hugepage_limits[{nth}].page_size: {:?} is no size of pages", pages.page_size))
                    .hint("such as 2MB or 1GB"));
            }
        }
        let plain = |key: &String| !key.is_empty() && !key.contains('/') && key.contains('.') && !key.starts_with('.');
        match self.unified.iter().find(|(key, value)| !plain(key) || value.contains('\n')) {
            Some((key, _)) => Err(Fault::invalid(format!("{path}.unified[{key:?}]: it is no file of a control group with a line for it"))),
            None => Ok(()),
        }
    }
}

fn is_cpuset(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let part = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    };
    text.is_empty() || text.split(',').all(part)
}

/// `SELinuxOption`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SelinuxOption {
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub r#type: String,
    /// Level, such as `s0:c1,c2`.
    pub level: String,
}

impl SelinuxOption {
    /// The parts that are said, as `--security-opt label=` names them.
    pub fn parts(&self) -> Vec<(&'static str, &str)> {
        let all = [("user", &self.user), ("role", &self.role), ("type", &self.r#type), ("level", &self.level)];
        all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(word, value)| (word, value.as_str())).collect()
    }
}

/// `ImageSpec`: the record keeps all of it, the image is found by `image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageSpec {
    /// A reference, an id, or a reference with a digest.
    pub image: String,
    /// Whatever the caller keeps of it.
    pub annotations: BTreeMap<String, String>,
    /// What the author of the pod wrote.
    pub user_specified_image: String,
    /// Digest that the caller knows of it.
    pub image_ref: String,
}
