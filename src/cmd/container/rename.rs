//! `rkbox rename`: another name for a container.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::{events, renew, run_dir, start};
use crate::cmd::records::BoxKind;
use crate::cmd::{Context, PlanArgs, carry, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{Id, Name};
use crate::plan::{Keep, Plan, Timings};
use crate::record::ContainerRecord;
use crate::record::life::EventKind;
use crate::step::holding::{Holding, is_alive};
use crate::step::setting::Change;
use crate::step::{HostsLines, NameRelease, Reservation, Setting, Step};
use crate::sys::dir_lock::{self, Beside};
use crate::sys::{Host, file};

/// The largest hosts file that is read.
const HOSTS: u64 = 1 << 20;

/// Arguments of `rkbox rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// Name, id or unique prefix of an id
    #[arg(value_name = "CONTAINER")]
    pub key: String,
    /// The new name, which no other container has
    #[arg(value_name = "NEW")]
    pub name: Name,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Gives a container another name, whether it runs or not; its host name and its network namespace keep theirs.
///
/// *Errors:* `AlreadyExists` when a container has the name.
pub fn run(cx: &Context, args: &RenameArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let id = records::find(&cx.host, BoxKind::Container, &args.key)?;
    let doing = || format!("cannot rename container {}", args.key);
    let gone = || Fault::not_found(format!("container {} was removed just now", args.key));
    let dir = cx.host.container_dir(id.as_str());
    // Two renamings come one after the other, and `gc` leaves the names of both alone meanwhile.
    let _alone = match args.plan.explain {
        true => None,
        false => Some(dir_lock::acquire(&dir, Beside::Nobody, start::PATIENCE).doing(doing)?.ok_or_else(gone)?),
    };
    let record = records::container(&cx.host, &id)?;
    let carried = carry::carry(cx, args.plan, &mut timings, |_| plan(&cx.host, &record, &args.name)).doing(doing)?;
    if carried.is_some() {
        let former = record.name.to_string();
        let record = ContainerRecord { name: args.name.clone(), ..record };
        events::tell_detail(&cx.host, &record, EventKind::Rename, |event| event.detail = Some(former));
        output::line(args.name.as_ref());
        carry::report(cx, args.plan, timings);
    }
    Ok(0)
}

fn plan(host: &Host, record: &ContainerRecord, to: &Name) -> Result<Plan> {
    let (id, from) = (&record.id, &record.name);
    if from == to {
        return Err(Fault::invalid(format!("it is named {to} already")));
    }
    let mut steps: Vec<Step> = vec![Reservation { path: reservation(host, to), id: id.clone() }.into()];
    let change = Change::Name { from: from.clone(), to: to.clone() };
    steps.push(Setting { id: id.clone(), bundle: record.bundle.clone(), run: run_dir(host, id), change }.into());
    let (path, lines) = hosts_lines(record, to)?;
    if !lines.is_empty() {
        steps.push(HostsLines { path, lines }.into());
    }
    steps.push(NameRelease { path: reservation(host, from), id: id.clone() }.into());
    Ok(Plan::new(format!("rename-{id}"), format!("rename container {from} to {to}"), steps).kept(Keep::Result))
}

/// The symlink that reserves a name.
fn reservation(host: &Host, name: &Name) -> PathBuf {
    host.root.join(BoxKind::Container.names()).join(name.as_ref())
}

/// The lines of its own addresses in its hosts file, as they are and as they become; none when that is a sandbox's, which bears no name of it.
fn hosts_lines(record: &ContainerRecord, to: &Name) -> Result<(PathBuf, Vec<(String, String)>)> {
    let path = record.bundle.join("hosts");
    let Some(text) = file::find(&path, HOSTS)? else { return Ok((path, Vec::new())) };
    let hostname = renew::hostname(record)?;
    let own: Vec<IpAddr> = record.attachments.iter().flat_map(|one| &one.addresses).map(ipnetwork::IpNetwork::ip).collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((path, renamed_lines(&text, &own, (&hostname, record.name.as_ref(), to.as_ref()))))
}

/// The lines of `own` addresses in which `from` becomes `to`; where it is the host name too, `to` comes beside it.
fn renamed_lines(text: &str, own: &[IpAddr], (hostname, from, to): (&str, &str, &str)) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (address, names) = line.split_once(char::is_whitespace)?;
        let names: Vec<&str> = names.split_whitespace().collect();
        if !address.parse().is_ok_and(|address| own.contains(&address)) || !names.contains(&hostname) {
            return None;
        }
        let mut kept: Vec<&str> = names.into_iter().filter(|name| *name == hostname || (*name != from && *name != to)).collect();
        if to != hostname {
            kept.push(to);
        }
        let new = format!("{address}\t{}", kept.join(" "));
        (new != line).then(|| (line.to_owned(), new))
    };
    text.lines().filter_map(line).collect()
}

/// Gives back the name that container `id` was given by a renaming; its journal knows only the one that it was made with.
pub fn release(host: &Host, id: &Id, name: &Name) -> Result<()> {
    Holding { path: &reservation(host, name), id }.give_back().map(drop)
}

/// The network namespace of a new container: by its name, unless a container that was renamed has the one of that name.
pub fn netns_path(host: &Host, id: &Id, name: &str) -> Result<PathBuf> {
    let path = host.netns_path(name);
    for other in records::renamed(host)? {
        if records::container(host, &other).is_ok_and(|record| record.netns.as_ref() == Some(&path)) {
            return Ok(host.netns_path(&format!("{name}-{}", id.short())));
        }
    }
    Ok(path)
}

/// Gives back names whose container is gone, and those of containers that have another one: what a killed renaming or removal left.
pub fn reclaim(host: &Host) -> Result<Vec<String>> {
    let dir = host.root.join(BoxKind::Container.names());
    let mut gone = Vec::new();
    for name in file::list(&dir)? {
        let (path, Ok(reserved)) = (dir.join(&name), name.parse::<Name>()) else { continue };
        let Some(id) = file::find_symlink(&path)?.and_then(|target| target.parse::<Id>().ok()) else { continue };
        if is_alive(id.as_str(), host)? && !is_stale(host, &id, &reserved)? {
            continue;
        }
        Holding { path: &path, id: &id }.give_back()?;
        gone.push(format!("name {name} of container {}", id.short()));
    }
    Ok(gone)
}

/// Whether a container that is there has another name, and nobody is renaming it.
fn is_stale(host: &Host, id: &Id, reserved: &Name) -> Result<bool> {
    let has_another = || records::container(host, id).is_ok_and(|record| record.name != *reserved);
    if !has_another() {
        return Ok(false);
    }
    match dir_lock::acquire(&host.container_dir(id.as_str()), Beside::Nobody, std::time::Duration::ZERO) {
        Ok(held) => Ok(held.is_some() && has_another()),
        Err(fault) if fault.kind() == Kind::DeadlineExceeded => Ok(false),
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_lines_of_a_hosts_file_change() {
        let own = ["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let text = "127.0.0.1\tlocalhost\n10.88.0.2\tabc old\nfd00::2\tabc old\n10.88.0.3\tabc old\n10.88.0.2\tother\n";
        let line = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(
            renamed_lines(text, &own, ("abc", "old", "new")),
            [line("10.88.0.2\tabc old", "10.88.0.2\tabc new"), line("fd00::2\tabc old", "fd00::2\tabc new")]
        );
        // The host name stays; a name that is the host name is not said twice.
        assert_eq!(renamed_lines("10.88.0.2\tabc\n", &own, ("abc", "abc", "new")), [line("10.88.0.2\tabc", "10.88.0.2\tabc new")]);
        assert_eq!(renamed_lines("10.88.0.2\tabc new\n", &own, ("abc", "new", "abc")), [line("10.88.0.2\tabc new", "10.88.0.2\tabc")]);
    }
}
