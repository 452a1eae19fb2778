//! Makes the network namespace in which an ordinary user's bridges are.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Kind, Result};
use crate::script::{Script, quote};
use crate::step::{Action, Tenure, Undone, Way};
use crate::sys::netlink::{LO, Netlink};
use crate::sys::ns::{NsKind, Pins};
use crate::sys::{Errno, Host, file, ns, rootless_netns};

/// Makes the network namespace in which an ordinary user's bridges are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootlessNetns {
    /// The file on which it is pinned.
    pub path: PathBuf,
}

impl fmt::Display for RootlessNetns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make network namespace {}", self.path.display())
    }
}

/// What was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsBefore {
    /// The namespace.
    pub there: bool,
}

impl Action for RootlessNetns {
    type Before = NetnsBefore;
    const TENURE: Tenure = Tenure::Shared;

    fn look(&self, _: &Host) -> Result<NetnsBefore> {
        Ok(NetnsBefore { there: ns::is_namespace(&self.path, NsKind::Net)? })
    }

    fn already(&self, before: &NetnsBefore) -> bool {
        before.there
    }

    fn apply(&self, _: &NetnsBefore, _: &Host) -> Result<()> {
        if let Some(dir) = self.path.parent() {
            file::ensure_dir(dir, 0o700)?;
        }
        // An undo beside us takes the directory while it is empty.
        let gone = || Fault::new(Kind::Conflict, format!("the directory of {} is gone", self.path.display()));
        let _held = rootless_netns::hold(&self.path)?.ok_or_else(gone)?;
        if ns::is_namespace(&self.path, NsKind::Net)? {
            return Ok(());
        }
        // The file of a namespace that went with its mount, when the last process of a login ended.
        ns::unpin(&self.path)?;
        ns::create_pinned(&Pins { net: Some(&self.path), ..Pins::default() }).map_err(|error| match error.errno() {
            Some(Errno::EEXIST) => {
                let path = self.path.display();
                Fault::new(Kind::AlreadyExists, format!("{path} is somebody else's")).hint(format!("if nobody needs it: rm {path}"))
            }
            Some(Errno::ENOENT) => gone(),
            _ => error.into(),
        })?;
        ns::inside(&self.path, || Netlink::open()?.set_up("lo", LO))??;
        Ok(())
    }

    fn undo(&self, before: &NetnsBefore, _: &Host) -> Result<Undone> {
        if !before.there {
            if !rootless_netns::remove(&self.path)? {
                return Ok(Undone::Kept);
            }
            if let Some(dir) = self.path.parent() {
                file::remove_dir_if_empty(dir)?;
            }
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, NetnsBefore>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        let quoted = quote(&path);
        match way {
            Way::Apply => {
                if let Some(dir) = self.path.parent() {
                    out.run(["mkdir", "-p", "-m", "0700", &dir.to_string_lossy()]);
                }
                out.raw(&format!("echo rkbox > {quoted} && chmod 0444 {quoted}"));
                out.run(["unshare".to_owned(), format!("--net={path}"), "ip".into(), "link".into(), "set".into(), "lo".into(), "up".into()]);
            }
            Way::Undo(before) if before.there => {}
            Way::Undo(_) => out.raw(&format!(
                "[ \"$(nsenter --net={quoted} ls /sys/class/net 2>/dev/null | grep -vcE '^(lo|{0})$')\" != 0 ] || {{ umount -l {quoted}; rm -f {quoted}; }}",
                rootless_netns::LINK
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::test_world::{assert_laws, assert_script, assert_seen, leave, observe, sh};
    use crate::step::{Bridge, Pasta, Step};

    const PATH: &str = "/run/netns/rkbox";

    fn host() -> (Host, RootlessNetns) {
        let host = Host { rootless_netns: Some(PATH.into()), ..leave() };
        (host, RootlessNetns { path: PATH.into() })
    }

    #[test]
    fn a_namespace_for_bridges_obeys_the_laws_and_stays_while_it_has_one() {
        let (host, step) = host();
        let before = assert_laws(&step, &host);
        assert_script(&step, &before, &host);
        assert!(step.already(&step.look(&host).unwrap()));
        let bridge: Step = Bridge { name: "cni0".parse().unwrap(), mtu: None, promisc: false }.into();
        let nothing = bridge.look(&host).unwrap();
        bridge.apply(&nothing, &host).unwrap();
        assert_eq!(sh("ip -o link show type bridge"), "", "the bridge is here and not there");
        assert!(sh(&format!("nsenter --net={PATH} ip -o link show type bridge")).contains("cni0"));
        assert_eq!(step.undo(&before, &host).unwrap(), Undone::Kept);
        bridge.undo(&nothing, &host).unwrap();
        assert_eq!(step.undo(&before, &host).unwrap(), Undone::Done);
        // Without the namespace there is nothing to take back, and to make something there is a race that was lost.
        assert_eq!(bridge.undo(&nothing, &host).unwrap(), Undone::Done);
        assert_eq!(bridge.look(&host).unwrap(), nothing);
        assert_eq!(bridge.apply(&nothing, &host).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(sh("ip -o link show type bridge"), "");
    }

    #[test]
    fn what_a_lost_mount_leaves_is_replaced_and_what_is_somebody_elses_is_not() {
        let (host, step) = host();
        sh(&format!("mkdir /run/netns; echo rkbox >{PATH}; chmod 0444 {PATH}"));
        step.apply(&step.look(&host).unwrap(), &host).unwrap();
        assert!(ns::is_namespace(&step.path, NsKind::Net).unwrap());
        step.undo(&NetnsBefore::default(), &host).unwrap();
        sh(&format!("mkdir -p /run/netns; echo precious >{PATH}"));
        let start = observe();
        let refused = step.apply(&step.look(&host).unwrap(), &host).unwrap_err();
        assert_eq!(refused.kind(), Kind::AlreadyExists);
        step.undo(&NetnsBefore::default(), &host).unwrap();
        assert_seen(&start, "another's file was touched");
        assert_eq!(sh(&format!("cat {PATH}")), "precious\n");
    }

    #[test]
    fn without_a_way_out_of_this_host_pasta_says_why_and_leaves_nothing() {
        let (host, step) = host();
        step.apply(&NetnsBefore::default(), &host).unwrap();
        let start = observe();
        let pasta = Pasta { netns: PATH.into() };
        let before = pasta.look(&host).unwrap();
        assert!(!pasta.already(&before));
        let refused = pasta.apply(&before, &host).unwrap_err();
        assert!(refused.to_string().contains("routable interface"), "{refused}");
        pasta.undo(&before, &host).unwrap();
        assert_seen(&start, "pasta left something");
    }
}
