//! Boxes of a former boot made ready again: the same planner, from the record, for what a reboot takes.

use std::net::IpAddr;
use std::path::Path;

use crate::fault::Result;
use crate::plan::Plan;
use crate::record::{Attachment, Renewal};
use crate::step::pool::Hold;
use crate::step::{File, Step};
use crate::sys::{Host, file, proc};

/// The largest of a box's own files.
const LIMIT: u64 = 16 << 20;

/// The plan of a box that a reboot has ended: `note` and then all that made it, of which what outlived the reboot is only adopted.
///
/// `network_end` is the index of the last step of its network in `all`; its pools are held until then.
pub fn plan(host: &Host, mut planned: Plan, note: Step, network_end: usize, locks: Vec<Hold>) -> Plan {
    planned.steps.insert(0, note);
    let steps = planned.steps.iter().enumerate().skip(1);
    let outlived = steps.filter(|(_, step)| !is_volatile(step, host)).map(|(index, _)| index).collect();
    locks.into_iter().fold(planned.adopting(outlived), |plan, lock| plan.release_after(network_end + 1, lock))
}

/// Whether a reboot takes what a step makes: all but what lies with the records and the names and ranges that a box holds.
fn is_volatile(step: &Step, host: &Host) -> bool {
    match step {
        Step::Reservation(_) | Step::IdClaim(_) | Step::Skeleton(_) | Step::ShiftedCopy(_) | Step::VolumeUse(_) => false,
        Step::NetnsFiles(_) | Step::LogPlace(_) => false,
        Step::Directory(directory) => directory.path.strip_prefix(&host.root).map_or(true, holds_mounts),
        Step::File(file) => !file.path.starts_with(&host.root),
        _ => true,
    }
}

/// What holds the mounts of a container is made anew: nothing is mounted there after a reboot.
fn holds_mounts(below_root: &Path) -> bool {
    below_root.components().any(|part| part.as_os_str() == MOUNTS)
}

/// The directory of a container's mounts in its bundle.
pub const MOUNTS: &str = "mounts";

/// The step that writes down what this boot changed of a box whose record is in `dir`.
pub fn note(dir: &Path, attachments: Vec<Attachment>) -> Result<Step> {
    let boot = proc::boot_id()?;
    let (path, content) = (dir.join(Renewal::file_name(&boot)), Renewal::new(boot, attachments).to_text()?);
    Ok(File { path, mode: 0o600, content, durable: true, owner: (0, 0) }.into())
}

/// Removes what boots before this one wrote down of the box in `dir`.
pub fn forget_former(dir: &Path) -> Result<()> {
    let ours = Renewal::file_name(&proc::boot_id()?);
    for name in file::list(dir)?.iter().filter(|name| Renewal::is_name(name) && **name != ours) {
        file::remove_file(&dir.join(name))?;
    }
    Ok(())
}

/// One of the files of a box, empty when it is not there.
pub fn text(dir: &Path, name: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&file::find(&dir.join(name), LIMIT)?.unwrap_or_default()).into_owned())
}

/// Writes the box's own new addresses into its `hosts`, in place.
pub fn move_hosts(path: &Path, hostname: &str, attachments: &[Attachment]) -> Result<()> {
    let Some(old) = file::find(path, LIMIT)? else { return Ok(()) };
    let old = String::from_utf8_lossy(&old).into_owned();
    let addresses: Vec<IpAddr> = attachments.iter().flat_map(|one| &one.addresses).map(ipnetwork::IpNetwork::ip).collect();
    let new = moved(&old, hostname, &addresses);
    if new != old {
        file::write_in_place(path, new.as_bytes())?;
    }
    Ok(())
}

/// The text with the lines of `hostname` leading to `addresses`, in their order; there are as many as before.
fn moved(text: &str, hostname: &str, addresses: &[IpAddr]) -> String {
    let mut left = addresses.to_vec();
    let mut line = |line: &str| {
        let (address, names) = line.split_once(char::is_whitespace)?;
        let address: IpAddr = address.parse().ok()?;
        if address.is_loopback() || !names.split_whitespace().any(|name| name == hostname) {
            return None;
        }
        let at = left.iter().position(|new| new.is_ipv4() == address.is_ipv4())?;
        Some(format!("{}\t{}", left.remove(at), names.trim_start()))
    };
    text.lines().map(|old| line(old).unwrap_or_else(|| old.to_owned()) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Directory;

    #[test]
    fn a_root_may_lie_in_a_directory_called_mounts() {
        let world = tempfile::tempdir().unwrap();
        let host = Host::below(&world.path().join(MOUNTS));
        let bundle = host.container_dir("id");
        let made = |path: &Path| is_volatile(&Directory::new(path, 0o700).into(), &host);
        assert!(made(&bundle.join(MOUNTS)) && made(&bundle.join(MOUNTS).join("0")));
        assert!(!made(&bundle) && !made(&bundle.join("upper")));
        assert!(made(&host.run.join("containers")));
    }

    #[test]
    fn only_the_lines_of_the_box_itself_move() {
        let old = "127.0.0.1\tlocalhost web\n10.88.0.2\tweb web.local\nfd00::2\tweb\n10.88.0.9\tdb\n# end\n";
        let new = moved(old, "web", &["fd00::7".parse().unwrap(), "10.88.0.7".parse().unwrap()]);
        assert_eq!(new, "127.0.0.1\tlocalhost web\n10.88.0.7\tweb web.local\nfd00::7\tweb\n10.88.0.9\tdb\n# end\n");
        assert_eq!(moved(old, "web", &["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]), old);
    }
}
