//! What a container may use: options of the command line in, `linux.resources` out.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::{LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};
use serde::{Deserialize, Serialize};

use super::{size, spec::internal, unified};
use crate::fault::{Fault, Result};

/// The most processes and threads of a container unless told otherwise. *Source:* podman.
pub const DEFAULT_PIDS: i64 = 2048;

/// The period of processor time unless told otherwise, in microseconds. *Source:* Linux, Docker, Kubernetes.
pub const PERIOD: u64 = 100_000;

/// What a container may use; `None` leaves what the kernel gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Memory that it is pressed down to when the host has little, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<i64>,
    /// Memory and swap together, in bytes; -1 is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<i64>,
    /// Weight against its neighbours, 2 to 262144.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Processor time in a period, in microseconds; -1 is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    /// The period, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<u64>,
    /// Processors that it may run on: `0-3,5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads; -1 is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    /// Weight of its block device requests, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u16>,
    /// Files of its group of version 2, and what is written to them after all the rest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// The words of the command line, unread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words<'a> {
    /// `--memory`.
    pub memory: Option<&'a str>,
    /// `--memory-reservation`.
    pub memory_reservation: Option<&'a str>,
    /// `--memory-swap`.
    pub memory_swap: Option<&'a str>,
    /// `--cpus`.
    pub cpus: Option<&'a str>,
    /// `--cpu-shares`.
    pub cpu_shares: Option<u64>,
    /// `--cpu-quota`.
    pub cpu_quota: Option<i64>,
    /// `--cpu-period`.
    pub cpu_period: Option<u64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<&'a str>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<&'a str>,
    /// `--pids-limit`.
    pub pids: Option<i64>,
    /// `--blkio-weight`.
    pub blkio_weight: Option<u16>,
    /// Each `--cgroup-conf`.
    pub unified: &'a [String],
}

/// A bound, the controller that holds it, and whether it is set.
pub type Held = (&'static str, &'static str, bool);

/// The weight of a request of `millis` thousandths of a processor. *Source:* kubelet `MilliCPUToShares`.
pub fn shares_of_millis(millis: i64) -> u64 {
    (millis.max(0).unsigned_abs() * 1024 / 1000).clamp(2, 262_144)
}

/// The quota of a limit of `millis` thousandths of a processor, in microseconds; 0 is none. *Source:* kubelet `MilliCPUToQuota`.
pub fn quota_of_millis(millis: i64, period: u64) -> i64 {
    if millis <= 0 {
        return 0;
    }
    let quota = i128::from(millis) * i128::from(period) / 1000;
    i64::try_from(quota).unwrap_or(i64::MAX).max(1000)
}

/// Reads `--cpus`: a decimal number of processors, at least 0.01.
fn quota_of_cpus(text: &str) -> Result<i64> {
    let bad = || Fault::invalid(format!("--cpus {text:?} is not a number of processors of 0.01 or more")).hint("give a number such as 1.5");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !(digits(whole) && digits(fraction)) || (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 || whole.len() > 6 {
        return Err(bad());
    }
    let number = |part: &str| if part.is_empty() { Ok(0) } else { part.parse::<i64>().map_err(|_| bad()) };
    let nano = number(whole)? * 1_000_000_000 + number(&format!("{fraction:0<9}"))?;
    // 100 ms of a nanoth of a processor.
    let quota = nano / 10_000;
    if quota < 1000 { Err(bad()) } else { Ok(quota) }
}

impl Resources {
    /// Each bound by its option, with its controller by the name of version 2.
    pub fn held(&self) -> [Held; 10] {
        [
            ("--memory", "memory", self.memory.is_some()),
            ("--memory-reservation", "memory", self.memory_reservation.is_some()),
            ("--memory-swap", "memory", self.memory_swap.is_some()),
            ("--cpu-shares", "cpu", self.cpu_shares.is_some()),
            ("--cpus or --cpu-quota", "cpu", self.cpu_quota.is_some()),
            ("--cpu-period", "cpu", self.cpu_period.is_some()),
            ("--cpuset-cpus", "cpuset", self.cpuset_cpus.is_some()),
            ("--cpuset-mems", "cpuset", self.cpuset_mems.is_some()),
            ("--pids-limit", "pids", self.pids.is_some_and(|pids| pids != -1)),
            ("--blkio-weight", "io", self.blkio_weight.is_some()),
        ]
    }

    /// Reads the words of the command line.
    ///
    /// *Errors:* `InvalidArgument` for what is no size or number, is out of the kernel's range, or contradicts another. *Source:* the checks
    /// of dockerd's `verifyPlatformContainerResources`.
    pub fn parse(words: &Words<'_>) -> Result<Self> {
        if words.cpus.is_some() && (words.cpu_quota.is_some() || words.cpu_period.is_some()) {
            return Err(Fault::invalid("--cpus says the same as --cpu-quota and --cpu-period").hint("give --cpus alone, or the other two"));
        }
        let bytes = |name: &str, text: Option<&str>| text.map(|text| bytes(name, text)).transpose();
        let cpus = words.cpus.map(quota_of_cpus).transpose()?;
        let read = Resources {
            memory: bytes("--memory", words.memory)?,
            memory_reservation: bytes("--memory-reservation", words.memory_reservation)?,
            memory_swap: match words.memory_swap {
                Some("-1") => Some(-1),
                other => bytes("--memory-swap", other)?,
            },
            cpu_shares: words.cpu_shares.filter(|shares| *shares != 0),
            cpu_quota: cpus.or(words.cpu_quota).filter(|quota| *quota != 0),
            cpu_period: cpus.map(|_| PERIOD).or(words.cpu_period).filter(|period| *period != 0),
            cpuset_cpus: words.cpuset_cpus.map(|text| cpuset("--cpuset-cpus", text)).transpose()?,
            cpuset_mems: words.cpuset_mems.map(|text| cpuset("--cpuset-mems", text)).transpose()?,
            pids: words.pids.map(|pids| if pids <= 0 { -1 } else { pids }),
            blkio_weight: words.blkio_weight.filter(|weight| *weight != 0),
            unified: unified::parse(words.unified)?,
        };
        read.check_ranges()?;
        Ok(read)
    }

    fn check_ranges(&self) -> Result<()> {
        let wrong = [
            (self.memory.is_some_and(|bytes| bytes < 6 << 20), "--memory is less than 6m, with which nothing starts"),
            (self.cpu_quota.is_some_and(|quota| quota != -1 && quota < 1000), "--cpu-quota is less than 1000 microseconds"),
            (
                self.cpu_period.is_some_and(|period| !(1000..=1_000_000).contains(&period)),
                "--cpu-period is not between 1000 and 1000000 microseconds",
            ),
            (self.cpu_shares.is_some_and(|shares| !(2..=262_144).contains(&shares)), "--cpu-shares is not between 2 and 262144"),
            (self.blkio_weight.is_some_and(|weight| !(10..=1000).contains(&weight)), "--blkio-weight is not between 10 and 1000"),
        ];
        match wrong.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(Fault::invalid(why).hint("give another number, or leave the option out")),
            None => Ok(()),
        }
    }

    /// Refuses bounds of memory that contradict each other; called on what is in force together (after an `update` too).
    pub fn check_memory(&self) -> Result<()> {
        let (memory, swap) = (self.memory, self.memory_swap);
        let wrong = [
            (swap.is_some_and(|swap| swap >= 0) && memory.is_none(), "--memory-swap needs --memory: it bounds both together"),
            (
                matches!((memory, swap), (Some(memory), Some(swap)) if swap >= 0 && swap < memory),
                "--memory-swap is less than --memory: it bounds both together",
            ),
            (
                matches!((memory, self.memory_reservation), (Some(memory), Some(reserved)) if reserved > memory),
                "--memory-reservation is more than --memory",
            ),
        ];
        match wrong.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(Fault::invalid(why).hint("give both, the swap bound as large as the memory bound or larger")),
            None => Ok(()),
        }
    }

    /// These bounds with those of `change` in their place.
    #[must_use]
    pub fn changed_by(&self, change: &Self) -> Self {
        let mut all = self.clone();
        all.memory = change.memory.or(all.memory);
        all.memory_reservation = change.memory_reservation.or(all.memory_reservation);
        all.memory_swap = change.memory_swap.or(all.memory_swap);
        all.cpu_shares = change.cpu_shares.or(all.cpu_shares);
        all.cpu_quota = change.cpu_quota.or(all.cpu_quota);
        all.cpu_period = change.cpu_period.or(all.cpu_period);
        all.cpuset_cpus = change.cpuset_cpus.clone().or(all.cpuset_cpus);
        all.cpuset_mems = change.cpuset_mems.clone().or(all.cpuset_mems);
        all.pids = change.pids.or(all.pids);
        all.blkio_weight = change.blkio_weight.or(all.blkio_weight);
        all.unified.extend(change.unified.clone());
        all
    }

    /// The bound of memory and swap that is in force: twice the memory unless told otherwise. *Source:* Docker, podman.
    pub fn effective_swap(&self) -> Option<i64> {
        self.memory_swap.or_else(|| self.memory.map(|memory| memory.saturating_mul(2)))
    }

    /// Adds these to `builder`; `swap` tells whether the kernel counts swap at all.
    pub fn build(&self, mut builder: LinuxResourcesBuilder, swap: Swap) -> Result<LinuxResourcesBuilder> {
        if let Some(limit) = self.pids {
            builder = builder.pids(LinuxPidsBuilder::default().limit(limit).build().map_err(internal)?);
        }
        if self.memory.is_some() || self.memory_reservation.is_some() || self.memory_swap.is_some() {
            let mut memory = LinuxMemoryBuilder::default();
            memory = if let Some(bytes) = self.memory { memory.limit(bytes) } else { memory };
            memory = if let Some(bytes) = self.memory_reservation { memory.reservation(bytes) } else { memory };
            memory = if let Some(bytes) = self.effective_swap().filter(|_| swap == Swap::Counted) { memory.swap(bytes) } else { memory };
            builder = builder.memory(memory.build().map_err(internal)?);
        }
        if let Some(weight) = self.blkio_weight {
            builder = builder.block_io(LinuxBlockIoBuilder::default().weight(weight).build().map_err(internal)?);
        }
        if !self.unified.is_empty() {
            builder = builder.unified(self.unified.clone().into_iter().collect::<HashMap<_, _>>());
        }
        if self.cpu_shares.is_none()
            && self.cpu_quota.is_none()
            && self.cpu_period.is_none()
            && self.cpuset_cpus.is_none()
            && self.cpuset_mems.is_none()
        {
            return Ok(builder);
        }
        let mut cpu = LinuxCpuBuilder::default();
        cpu = if let Some(shares) = self.cpu_shares { cpu.shares(shares) } else { cpu };
        cpu = if let Some(quota) = self.cpu_quota { cpu.quota(quota) } else { cpu };
        cpu = if let Some(period) = self.cpu_period { cpu.period(period) } else { cpu };
        cpu = if let Some(cpus) = &self.cpuset_cpus { cpu.cpus(cpus.clone()) } else { cpu };
        cpu = if let Some(mems) = &self.cpuset_mems { cpu.mems(mems.clone()) } else { cpu };
        Ok(builder.cpu(cpu.build().map_err(internal)?))
    }
}

/// Whether the kernel counts swap for control groups: without it a bound of swap cannot be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swap {
    /// It does.
    #[default]
    Counted,
    /// It does not (`swapaccount=0`, no swap in the kernel).
    Uncounted,
}

fn bytes(name: &str, text: &str) -> Result<i64> {
    size::parse(text).map_err(|fault| fault.doing(name))
}

/// A list of numbers and ranges: `0-3,5`.
fn cpuset(name: &str, text: &str) -> Result<String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let part = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    };
    if text.split(',').all(part) {
        return Ok(text.to_owned());
    }
    Err(Fault::invalid(format!("{name} {text:?} is not a list of numbers")).hint("the form is 0-3,5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut Words<'static>)) -> Result<Resources> {
        let mut words = Words::default();
        change(&mut words);
        Resources::parse(&words).and_then(|read| read.check_memory().map(|()| read))
    }

    #[test]
    fn processor_time_is_counted_as_docker_and_kubernetes_count_it() {
        for (text, quota) in [("1.5", 150_000), ("1", 100_000), (".5", 50_000), ("0.01", 1000), ("2.", 200_000), ("0.123456789", 12_345)] {
            let read = parse(|words| words.cpus = Some(text)).unwrap();
            assert_eq!((read.cpu_quota, read.cpu_period, read.cpu_shares), (Some(quota), Some(100_000), None), "{text}");
        }
        for bad in ["", ".", "0", "0.009", "-1", "1e3", "x", "1.5.5", "9999999", "1.0000000001"] {
            assert!(parse(|words| words.cpus = Some(bad)).is_err(), "{bad:?}");
        }
        // requests.cpu and limits.cpu of the same amount, from the kubelet's own tables.
        for (millis, shares, quota) in
            [(0, 2, 0), (1, 2, 1000), (2, 2, 1000), (10, 10, 1000), (100, 102, 10_000), (500, 512, 50_000), (1500, 1536, 150_000)]
        {
            assert_eq!((shares_of_millis(millis), quota_of_millis(millis, PERIOD)), (shares, quota), "{millis}m");
        }
        assert_eq!(shares_of_millis(1_000_000), 262_144);
        assert!(parse(|words| (words.cpus, words.cpu_quota) = (Some("1"), Some(1))).is_err());
    }

    #[test]
    fn bounds_out_of_range_and_in_contradiction_are_refused() {
        let good = parse(|words| {
            (words.memory, words.memory_swap, words.memory_reservation) = (Some("64m"), Some("-1"), Some("32m"));
            (words.pids, words.cpuset_cpus, words.blkio_weight) = (Some(0), Some("0-1,3"), Some(0));
        });
        let good = good.unwrap();
        assert_eq!((good.memory, good.memory_swap, good.pids, good.blkio_weight), (Some(64 << 20), Some(-1), Some(-1), None));
        assert_eq!(parse(|words| words.memory = Some("64m")).unwrap().effective_swap(), Some(128 << 20));
        assert!(parse(|words| words.memory = Some("5m")).is_err());
        assert!(parse(|words| words.memory = Some("64q")).unwrap_err().to_string().contains("--memory"));
        assert!(parse(|words| words.memory_swap = Some("64m")).is_err());
        assert!(parse(|words| (words.memory, words.memory_swap) = (Some("64m"), Some("32m"))).is_err());
        assert!(parse(|words| (words.memory, words.memory_reservation) = (Some("64m"), Some("65m"))).is_err());
        assert!(parse(|words| words.cpu_quota = Some(999)).is_err() && parse(|words| words.cpu_quota = Some(-1)).is_ok());
        assert!(parse(|words| words.cpu_period = Some(999)).is_err());
        assert!(parse(|words| words.cpu_shares = Some(1)).is_err());
        assert!(parse(|words| words.blkio_weight = Some(9)).is_err());
        for bad in ["", "a", "1-", "-1", "3-1", "0,,1", "0 1", "70000"] {
            assert!(parse(|words| words.cpuset_cpus = Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let old = parse(|words| (words.memory, words.pids) = (Some("64m"), Some(9))).unwrap();
        let new = old.changed_by(&parse(|words| words.memory = Some("32m")).unwrap());
        assert_eq!((new.memory, new.pids), (Some(32 << 20), Some(9)));
    }
}
