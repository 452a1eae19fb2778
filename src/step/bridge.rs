//! Ensures a bridge, up.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, Mac};
use crate::script::{Script, quote};
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::netlink::Netlink;
use crate::sys::{Errno, Host, sysctl};


/// Ensures a bridge, up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bridge {
    /// The bridge.
    pub name: IfName,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Promiscuous mode.
    pub promisc: bool,
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ensure bridge {name}", name = self.name)
    }
}

/// What was there under the name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeBefore {
    /// A bridge.
    pub existed: bool,
    /// It was up.
    pub up: bool,
    /// It was promiscuous.
    pub promisc: bool,
}

/// How long an undo waits for ports whose namespaces are dying.
const DYING: Duration = Duration::from_millis(300);

impl Action for Bridge {
    type Before = BridgeBefore;
    const TENURE: Tenure = Tenure::Shared;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<BridgeBefore> {
        match Netlink::open()?.find_link(self.name.as_ref())? {
            None => Ok(BridgeBefore::default()),
            Some(link) if link.is_bridge() => Ok(BridgeBefore { existed: true, up: link.up, promisc: link.promisc }),
            Some(link) => {
                let kind = link.kind.as_deref().unwrap_or("no virtual link");
                Err(Fault::new(Kind::FailedPrecondition, format!("link {} is not a bridge ({kind})", self.name))
                    .hint("give the network another \"bridge\" name"))
            }
        }
    }

    fn already(&self, before: &BridgeBefore) -> bool {
        before.existed && before.up && (before.promisc || !self.promisc)
    }

    /// A bridge that was there keeps its MTU, MAC and addresses, as upstream's plugin leaves them.
    fn apply(&self, before: &BridgeBefore, _: &Host) -> Result<()> {
        let mut netlink = Netlink::open()?;
        if !before.existed {
            // Without ports nothing can arrive before the router advertisements are shut out.
            netlink.create_bridge(&self.name, bridge_mac(&self.name), self.promisc).map_err(|error| match error.errno() {
                Some(Errno::EEXIST) => Fault::from(error).of_kind(Kind::Conflict),
                _ => error.into(),
            })?;
            sysctl::ignore_router_advertisements(self.name.as_ref())?;
        }
        let name = self.name.as_ref();
        let link = netlink.find_link(name)?.ok_or_else(|| Fault::new(Kind::Conflict, format!("bridge {name} is gone")))?;
        if let (Some(mtu), false) = (self.mtu, before.existed) {
            netlink.set_mtu(name, link.index, mtu)?;
        }
        if self.promisc && before.existed && !before.promisc {
            netlink.set_promisc(name, link.index, true)?;
        }
        if before.existed && !before.up {
            netlink.set_up(name, link.index)?;
        }
        Ok(())
    }

    /// Only a bridge that bears our MAC, and only without ports. One that was there stays as it now is: others may use it by now.
    fn undo(&self, before: &BridgeBefore, _: &Host) -> Result<Undone> {
        if before.existed {
            return Ok(Undone::Kept);
        }
        let mut netlink = Netlink::open()?;
        let Some(link) = netlink.find_link(self.name.as_ref())? else { return Ok(Undone::Done) };
        let is_ours = link.is_bridge() && link.mac == Some(bridge_mac(&self.name));
        if !is_ours || !netlink.wait_without_ports(link.index, DYING)? {
            return Ok(Undone::Kept);
        }
        match netlink.remove_link(&link.name, link.index) {
            Err(error) if error.errno() != Some(Errno::ENODEV) => Err(error.into()),
            _ => Ok(Undone::Done),
        }
    }

    fn script(&self, way: Way<'_, BridgeBefore>, out: &mut Script) {
        let name = quote(self.name.as_ref());
        match way {
            Way::Apply => {
                // A MAC that is set stays; else the bridge takes the lowest of its ports, and changes with them.
                out.raw(&format!("ip link show dev {name} type bridge >/dev/null 2>&1 || {{"));
                out.raw(&format!("  ip link add {name} address {} type bridge", bridge_mac(&self.name)));
                out.raw(&format!("  [ ! -e /proc/sys/net/ipv6/conf/{name}/accept_ra ] || echo 0 > /proc/sys/net/ipv6/conf/{name}/accept_ra"));
                if let Some(mtu) = self.mtu {
                    out.raw(&format!("  ip link set dev {name} mtu {mtu}"));
                }
                out.raw("}");
                if self.promisc {
                    out.run(["ip", "link", "set", "dev", self.name.as_ref(), "promisc", "on"]);
                }
                out.run(["ip", "link", "set", "dev", self.name.as_ref(), "up"]);
            }
            Way::Undo(before) if before.existed => {}
            Way::Undo(_) => out.raw(&format!("[ -n \"$(ip -o link show master {name})\" ] || ip link delete dev {name} type bridge")),
        }
    }
}

/// The MAC of a bridge that rkbox makes, its mark: a function of the boot and the name, so that no two hosts share one.
pub fn bridge_mac(name: &IfName) -> Mac {
    let digest = Sha256::digest(format!("rkbox bridge\0{}\0{name}", sysctl::boot_id_or_empty()).as_bytes());
    let mut mac = [0; 6];
    mac.copy_from_slice(&digest[..6]);
    mac[0] = (mac[0] & 0xfe) | 0x02;
    Mac(mac)
}
