//! Resource limits of processes (`--ulimit`).

use std::str::FromStr;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use super::spec::internal;
use crate::fault::{Fault, Result};

/// The names, as Docker spells them.
const NAMES: [(&str, PosixRlimitType); 16] = [
    ("as", PosixRlimitType::RlimitAs),
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];

/// One `--ulimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name, without `RLIMIT_`.
    pub name: &'static str,
    /// What a process has at its start.
    pub soft: u64,
    /// What it may raise that to; `u64::MAX` is no bound.
    pub hard: u64,
}

impl FromStr for Ulimit {
    type Err = Fault;

    /// Reads `NAME=SOFT[:HARD]`; -1 and `unlimited` are no bound.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Fault::invalid(format!("ulimit {text:?} {why}")).hint("the form is nofile=1024:4096; -1 is no bound");
        let (name, values) = text.split_once('=').ok_or_else(|| bad("has no ="))?;
        let name = name.to_ascii_lowercase();
        let name = NAMES.iter().find(|(known, _)| *known == name).ok_or_else(|| bad("has a name that is not known"))?.0;
        let value = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            digits => digits.parse::<u64>().map_err(|_| bad("has a value that is no number")),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if soft > hard {
            return Err(bad("has a soft limit above the hard one"));
        }
        Ok(Ulimit { name, soft, hard })
    }
}

impl Ulimit {
    /// For the runtime.
    pub fn rlimit(&self) -> Result<PosixRlimit> {
        let kind = NAMES.iter().find(|(name, _)| *name == self.name).map_or(PosixRlimitType::RlimitCore, |(_, kind)| *kind);
        PosixRlimitBuilder::default().typ(kind).soft(self.soft).hard(self.hard).build().map_err(internal)
    }

    /// Lowered to what a process without CAP_SYS_RESOURCE may have where its own hard limit is `hard`; `true` when that changed it.
    pub fn lowered_to(&self, hard: u64) -> (Self, bool) {
        let fitting = Ulimit { name: self.name, soft: self.soft.min(hard), hard: self.hard.min(hard) };
        let changed = fitting != *self;
        (fitting, changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_are_read_as_docker_reads_them() {
        let read = |text: &str| text.parse::<Ulimit>().map(|limit| (limit.name, limit.soft, limit.hard));
        assert_eq!(read("nofile=1024:4096").unwrap(), ("nofile", 1024, 4096));
        assert_eq!(read("NPROC=7").unwrap(), ("nproc", 7, 7));
        assert_eq!(read("core=0:-1").unwrap(), ("core", 0, u64::MAX));
        assert_eq!(read("memlock=unlimited").unwrap(), ("memlock", u64::MAX, u64::MAX));
        for bad in ["", "nofile", "nofile=", "x=1", "nofile=2:1", "nofile=a", "nofile=1:2:3", "=1", "nofile=-2", "core=-1:0"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_limit_is_lowered_to_what_the_host_allows() {
        let limit: Ulimit = "nofile=1024:4096".parse().unwrap();
        assert_eq!(limit.lowered_to(9999), (limit.clone(), false));
        assert_eq!(limit.lowered_to(512), (Ulimit { name: "nofile", soft: 512, hard: 512 }, true));
        assert_eq!(limit.rlimit().unwrap().hard(), 4096);
    }
}
