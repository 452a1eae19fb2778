//! Sets lo up in a namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use crate::fault::Result;
use crate::script::Script;
use crate::step::{Action, Undone, Way};
use crate::sys::netlink::{LO, Netlink};
use crate::sys::ns::{self, NsKind};
use crate::sys::Host;


/// Sets lo up in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loopback {
    /// The namespace.
    pub netns: PathBuf,
    /// Whether the namespace is made by the same plan: then nothing is looked at and nothing need be undone.
    #[serde(default)]
    pub own_netns: bool,
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set lo up in {netns}", netns = self.netns.display())
    }
}

/// What lo was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopbackBefore {
    /// It was up.
    pub up: bool,
    /// It had an address; the kernel gives it 127.0.0.1/8 when it goes up without one.
    pub addressed: bool,
}

fn is_given(address: &IpNetwork) -> bool {
    address.ip().is_loopback() && address.prefix() == 8
}

impl Action for Loopback {
    type Before = LoopbackBefore;

    fn look(&self, _: &Host) -> Result<LoopbackBefore> {
        if self.own_netns {
            return Ok(LoopbackBefore::default());
        }
        drop(ns::open_foreign_netns(&self.netns)?);
        let mut inside = Netlink::open_in(&self.netns)?;
        let link = inside.find_link("lo")?;
        Ok(LoopbackBefore { up: link.is_some_and(|link| link.up), addressed: !inside.addresses(LO)?.is_empty() })
    }

    fn already(&self, before: &LoopbackBefore) -> bool {
        before.up
    }

    fn apply(&self, _: &LoopbackBefore, _: &Host) -> Result<()> {
        Ok(Netlink::open_in(&self.netns)?.set_up("lo", LO)?)
    }

    /// A namespace of our own takes lo with it. Another's gets lo down again, unless links of other networks are still in it.
    fn undo(&self, before: &LoopbackBefore, _: &Host) -> Result<Undone> {
        if self.own_netns || before.up || !ns::is_namespace(&self.netns, NsKind::Net)? || ns::is_own_netns(&self.netns)? {
            return Ok(Undone::Done);
        }
        let mut inside = Netlink::open_in(&self.netns)?;
        let links = inside.links()?;
        if links.iter().any(|link| link.up && link.name != "lo") {
            return Ok(Undone::Kept);
        }
        inside.set_down("lo", LO)?;
        let given: Vec<IpNetwork> = inside.addresses(LO)?.into_iter().filter(|address| !before.addressed && is_given(address)).collect();
        inside.replace_addresses("lo", LO, &given, None)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, LoopbackBefore>, out: &mut Script) {
        match way {
            Way::Apply => out.run(in_netns(&self.netns, &["ip", "link", "set", "dev", "lo", "up"])),
            Way::Undo(before) if before.up || self.own_netns => {}
            Way::Undo(before) => {
                out.run(in_netns(&self.netns, &["ip", "link", "set", "dev", "lo", "down"]));
                if !before.addressed {
                    out.run_ignoring(in_netns(&self.netns, &["ip", "address", "delete", "127.0.0.1/8", "dev", "lo"]));
                }
            }
        }
    }
}

/// The words of an `ip` command, carried out in a namespace: `ip -n NAME …`, or `nsenter --net=PATH ip …` where it has no name.
pub(super) fn in_netns<S: AsRef<str>>(netns: &Path, words: &[S]) -> Vec<String> {
    let path = netns.to_string_lossy();
    let mut all = match path.strip_prefix("/run/netns/") {
        Some(name) if words.first().is_some_and(|word| word.as_ref() == "ip") => vec!["ip".to_owned(), "-n".to_owned(), name.to_owned()],
        _ => vec!["nsenter".to_owned(), format!("--net={path}"), words.first().map_or(String::new(), |word| word.as_ref().to_owned())],
    };
    all.extend(words.iter().skip(1).map(|word| word.as_ref().to_owned()));
    all
}
