//! Boxes of a former boot made ready again: the same planner, from the record, for what a reboot takes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::fault::Result;
use crate::plan::{Plan, explain};
use crate::record::{Attachment, Renewal};
use crate::script::Script;
use crate::step::pool::Hold;
use crate::step::{File, HostsLines, Step};
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
    for path in former_notes(dir)? {
        file::remove_file(&path)?;
    }
    Ok(())
}

fn former_notes(dir: &Path) -> Result<Vec<PathBuf>> {
    let ours = Renewal::file_name(&proc::boot_id()?);
    let names = file::list(dir)?.into_iter().filter(|name| Renewal::is_name(name) && *name != ours);
    Ok(names.map(|name| dir.join(name)).collect())
}

/// One of the files of a box, empty when it is not there.
pub fn text(dir: &Path, name: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&file::find(&dir.join(name), LIMIT)?.unwrap_or_default()).into_owned())
}

/// The lines of the box's own addresses in its `hosts`, as they are and with the new ones.
pub fn moved_lines(path: &Path, hostname: &str, attachments: &[Attachment]) -> Result<HostsLines> {
    let old = file::find(path, LIMIT)?.unwrap_or_default();
    let old = String::from_utf8_lossy(&old).into_owned();
    let addresses: Vec<IpAddr> = attachments.iter().flat_map(|one| &one.addresses).map(ipnetwork::IpNetwork::ip).collect();
    let new = moved(&old, hostname, &addresses);
    let both = old.lines().zip(new.lines()).filter(|(old, new)| old != new);
    Ok(HostsLines { path: path.to_path_buf(), lines: both.map(|(old, new)| (old.to_owned(), new.to_owned())).collect() })
}

/// How a box is made ready again: what is taken back before, and the plan.
#[derive(Debug)]
pub struct Told {
    /// The attachments of the former boot, taken back by their undo.
    pub former: Vec<Plan>,
    /// The new addresses in its `hosts`.
    pub hosts: HostsLines,
    /// The plan, planned for `--explain`.
    pub plan: Plan,
}

/// Appends the script that makes a box ready again; `dir` holds its record.
pub fn append(host: &Host, dir: &Path, told: &Told, script: &mut Script) -> Result<()> {
    script.comment(&told.plan.command);
    for plan in &told.former {
        explain::append_removal(plan, host, script)?;
    }
    script.blank();
    let hosts: Step = told.hosts.clone().into();
    script.comment(&hosts.to_string());
    explain::print(&hosts, None, host, script)?;
    let mut gone = vec!["rm".to_owned(), "-rf".to_owned(), "--one-file-system".to_owned(), dir.join(MOUNTS).display().to_string()];
    gone.extend(former_notes(dir)?.iter().map(|path| path.display().to_string()));
    script.run(gone);
    script.blank();
    explain::append(&told.plan, host, script)
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
