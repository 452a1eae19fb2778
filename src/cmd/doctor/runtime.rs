//! The OCI runtime: which, how old, and what is known against it.

use std::path::Path;

use super::Finding;
use crate::bundle::advisories;
use crate::sys::{Host, packaging, runc};

/// The first runc with `features` and every flag that rkbox passes.
const OLDEST: (u32, u32, u32) = (1, 1, 0);

pub(super) fn look(host: &Host, all: &mut Vec<Finding>) {
    let found = runc::find(host).and_then(|runc| Ok((runc.version()?, runc)));
    let (line, runc) = match found {
        Ok(found) => found,
        Err(fault) => return all.push(Finding::fail("runtime", fault.to_string(), "apt-get install runc, or name another with --runtime")),
    };
    let Some(version) = advisories::version_of_runc(&line) else {
        let hint = "rkbox is tested with runc; try it: rkbox run --rm IMAGE true";
        return all.push(Finding::warn("runtime", format!("{} is {line}", runc.program().display()), hint));
    };
    if version < OLDEST {
        return all.push(Finding::fail("runtime", line, "install runc 1.1 or newer"));
    }
    all.push(Finding::ok("runtime", format!("{} is {line}", runc.program().display())));
    // A distribution mends without changing the version, and says so in its change log.
    let mended = packaging::changelog(Path::new("/usr/share/doc/runc/changelog.Debian.gz")).unwrap_or_default();
    let open: Vec<_> = advisories::against(version).filter(|advisory| !mended.contains(advisory.id)).collect();
    if open.is_empty() {
        return all.push(Finding::ok("advisories", "none is known against this runc"));
    }
    let list = open.iter().map(|advisory| advisory.id).collect::<Vec<_>>().join(" ");
    let hint = "rkbox keeps hostile images from them with an init layer of its own; other tools on this host do not: upgrade runc";
    all.push(Finding::warn("advisories", format!("against this runc: {list}"), hint));
}
