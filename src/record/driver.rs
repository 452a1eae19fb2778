//! The record of the cgroup driver that was chosen for a host.

use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::ids::CgroupDriver;

/// Which driver the boxes of a host use, and why: written when the first one is made, and gone with the last.
///
/// *Shape:* `/var/lib/rkbox/cgroup-driver.json`. It holds no time, so that equal hosts have equal files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverRecord {
    /// [`super::VERSION`].
    pub v: u32,
    /// The driver.
    pub driver: CgroupDriver,
    /// What the host was then.
    pub why: String,
}

/// Name of the file, below the root.
pub const FILE: &str = "cgroup-driver.json";

impl DriverRecord {
    /// A record of this version.
    pub fn new(driver: CgroupDriver, why: &str) -> Self {
        DriverRecord { v: VERSION, driver, why: why.to_owned() }
    }

    /// The bytes of its file.
    pub fn text(&self) -> String {
        format!("{{\"v\":{},\"driver\":\"{}\",\"why\":{}}}\n", self.v, self.driver.word(), serde_json::Value::from(self.why.as_str()))
    }

    /// Reads the bytes of its file; `None` for what is none, which is then written anew.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|record: &DriverRecord| record.v == VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let record = DriverRecord::new(CgroupDriver::Systemd, "a \"b\"\n");
        assert_eq!(DriverRecord::parse(record.text().as_bytes()), Some(record));
        assert_eq!(DriverRecord::parse(b"{\"v\":2,\"driver\":\"systemd\",\"why\":\"\"}"), None);
        assert_eq!(DriverRecord::parse(b""), None);
    }
}
