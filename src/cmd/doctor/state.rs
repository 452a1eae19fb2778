//! Where rkbox keeps its state, and who else can look into it.

use std::path::Path;

use super::Finding;
use crate::sys::{Host, file, mount};

pub(super) fn look(host: &Host, all: &mut Vec<Finding>) {
    for (dir, survives) in [(&host.root, true), (&host.run, false)] {
        let shown = dir.display();
        match file::find_mode(dir) {
            Ok(None) => all.push(Finding::ok("state", format!("{shown} is not there yet"))),
            Ok(Some(mode)) if mode & 0o077 == 0 => all.push(Finding::ok("state", format!("{shown} is its owner's alone"))),
            Ok(Some(mode)) => {
                let hint = format!("chmod 0700 {}", crate::script::quote(&dir.to_string_lossy()));
                all.push(Finding::warn("state", format!("{shown} has mode {mode:04o}: others can look in"), hint));
            }
            Err(error) => all.push(Finding::fail("state", error.to_string(), "name another directory with --root or --run")),
        }
        if !survives && kind_of(dir).is_some_and(|kind| kind != "tmpfs") {
            let hint = "rkbox knows by the boot id that what is there is of an earlier boot; a tmpfs is faster";
            all.push(Finding::warn("state", format!("{shown} is not on a tmpfs"), hint));
        }
    }
}

/// The type of the file system that `dir` is, or is going to be, on.
fn kind_of(dir: &Path) -> Option<String> {
    let mounts = mount::list().ok()?;
    let row = mounts.into_iter().filter(|row| dir.starts_with(&row.target)).max_by_key(|row| row.target.as_os_str().len())?;
    Some(row.kind)
}
