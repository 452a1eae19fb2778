//! Ensures the value of a kernel parameter.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::{Path, PathBuf};

use crate::fault::{Fault, Result};
use crate::ids::IfName;
use crate::script::{Script, quote};
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::netlink::{Link, Netlink};
use crate::sys::{Errno, Host, file};


/// Ensures the value of a kernel parameter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sysctl {
    /// Path below /proc/sys: `net/ipv4/ip_forward`.
    pub key: String,
    /// The value.
    pub value: String,
    /// A bridge that needs the value only while it has ports: the one of the same plan, which goes after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<IfName>,
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {key} to {value}", key = self.key, value = self.value)
    }
}

/// What the parameter was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlBefore {
    /// Its value; `None` when it was not looked at.
    pub value: Option<String>,
}

impl Sysctl {
    fn path(&self) -> Result<PathBuf> {
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if self.key.split('/').all(is_plain) {
            return Ok(Path::new("/proc/sys").join(&self.key));
        }
        Err(Fault::invalid(format!("{:?} is not the name of a kernel parameter", self.key)))
    }
}

impl Sysctl {
    /// Shell that prints the bridges for which the value must stay.
    fn bridges_in_need(&self) -> String {
        match &self.bridge {
            None => "ip -o link show type bridge".to_owned(),
            Some(bridge) => {
                let ports = format!("ip -o link show master {} 2>/dev/null", quote(bridge.as_ref()));
                let others = format!("ip -o link show type bridge | grep -vF {}", quote(&format!(" {bridge}:")));
                format!("{ports}; {others}")
            }
        }
    }
}

impl Action for Sysctl {
    type Before = SysctlBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<SysctlBefore> {
        Ok(SysctlBefore { value: Some(file::read_kernel(&self.path()?)?) })
    }

    fn already(&self, before: &SysctlBefore) -> bool {
        before.value.as_deref() == Some(self.value.as_str())
    }

    fn apply(&self, _: &SysctlBefore, _: &Host) -> Result<()> {
        Ok(file::write_kernel(&self.path()?, &self.value)?)
    }

    /// Puts the old value back only while the value still is ours and no bridge is left in the network namespace but an empty
    /// one of ours: who else forwards cannot be known, but without a bridge it is no container.
    fn undo(&self, before: &SysctlBefore, _: &Host) -> Result<Undone> {
        let Some(old) = before.value.as_deref().filter(|old| *old != self.value) else { return Ok(Undone::Done) };
        let path = self.path()?;
        match file::read_kernel(&path) {
            Ok(now) if now == self.value => {}
            Ok(now) if now == old => return Ok(Undone::Done),
            Ok(_) => return Ok(Undone::Kept),
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(Undone::Done),
            Err(error) => return Err(error.into()),
        }
        let links = Netlink::open()?.links()?;
        let is_ours = |link: &Link| self.bridge.as_ref().is_some_and(|bridge| link.name == bridge.as_ref());
        let has_port = |bridge: &Link| links.iter().any(|link| link.master == Some(bridge.index));
        if links.iter().any(|link| link.is_bridge() && (!is_ours(link) || has_port(link))) {
            return Ok(Undone::Kept);
        }
        file::write_kernel(&path, old)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, SysctlBefore>, out: &mut Script) {
        let value = match way {
            Way::Apply => &self.value,
            Way::Undo(SysctlBefore { value: Some(old) }) if *old != self.value => old,
            Way::Undo(_) => return,
        };
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = ["sysctl".to_owned(), "-q".to_owned(), "-w".to_owned(), format!("{}={value}", self.key)];
        match way {
            Way::Apply => out.run(words),
            Way::Undo(_) => {
                let line = words.map(|word| quote(&word)).join(" ");
                out.raw(&format!("[ -n \"$({})\" ] || {line}", self.bridges_in_need()));
            }
        }
    }
}
