//! `rkbox image mount` and `unmount`: an image as a read-only directory. The journal of a mount is all that is kept of it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::catalog::Catalog;
use super::store;
use super::sweep::{Holder, Use};
use crate::cmd::{Context, Format, PlanArgs, carry, output};
use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::image::Digest;
use crate::image::layer_stamp::TREE;
use crate::plan::journal::{self, Status};
use crate::plan::{self, Plan, Timings, explain};
use crate::step::mount::{Mount, MountKind};
use crate::step::{Directory, Home, Step};
use crate::sys::{Host, file, mount, privilege, store as disk};

/// Arguments of `rkbox image mount`.
#[derive(Clone, Debug, Args)]
pub struct MountArgs {
    /// Names, ids or unique starts of ids; the path of each is printed
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Arguments of `rkbox image unmount`.
#[derive(Clone, Debug, Args)]
pub struct UnmountArgs {
    /// Names, ids or unique starts of ids; however often an image was mounted,
    /// once takes it off
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Take all of them off
    #[arg(short, long, conflicts_with = "images")]
    pub all: bool,
    /// One that is not mounted is no error
    #[arg(short, long)]
    pub force: bool,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// What the name of a mount's journal begins with; the id of the image follows.
const PREFIX: &str = "mount-";

fn place(host: &Host, hex: &str) -> PathBuf {
    host.run.join("mounts").join(hex)
}

fn target(host: &Host, hex: &str) -> PathBuf {
    place(host, hex).join("rootfs")
}

/// The images that are mounted, or being so, by the hex digits of their ids.
fn mounted(host: &Host) -> Result<Vec<(String, Status)>> {
    let mut all = Vec::new();
    for name in file::list(&host.journals())? {
        let Some(hex) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(".jsonl")) else { continue };
        if Digest::from_hex(hex).is_some()
            && let Some(status) = journal::read(&host.journals().join(&name))?
        {
            all.push((hex.to_owned(), status));
        }
    }
    Ok(all)
}

/// What mounts hold of the store.
pub(super) fn uses(host: &Host) -> Result<Vec<Use>> {
    let layers = |status: &Status| {
        let shown = status.steps.iter().find_map(|step| match step {
            Step::Mount(Mount { what: MountKind::Layers { lowers }, .. }) => Some(lowers.clone()),
            _ => None,
        });
        let chain = |lower: &PathBuf| Digest::from_file_name(lower.strip_prefix(host.layers()).ok()?.parent()?.to_str()?);
        shown.unwrap_or_default().iter().filter(|lower| lower.ends_with(TREE)).filter_map(chain).collect()
    };
    let used = |(hex, status): (String, Status)| Use {
        holder: Holder::Mount(target(host, &hex)),
        image_id: format!("sha256:{hex}"),
        chains: layers(&status),
    };
    Ok(mounted(host)?.into_iter().map(used).collect())
}

/// Takes the mount of image `id` off, if there is one; answers whether there was.
pub(super) fn take_off(host: &Host, id: &str) -> Result<bool> {
    plan::unwind(&format!("{PREFIX}{}", id.strip_prefix("sha256:").unwrap_or(id)), host, 0)
}

/// Mounts images and prints where; one that is mounted already stays so.
pub fn run(cx: &Context, args: &MountArgs) -> Result<u8> {
    if args.images.is_empty() {
        return list(cx);
    }
    let (mut faults, mut shown) = (Faults::default(), Vec::new());
    for text in &args.images {
        let Some((id, path)) = faults.keep(one(cx, args, text).doing(|| format!("cannot mount image {text:?}"))) else { continue };
        if !args.plan.explain && cx.format == Format::Table {
            output::line(&path.display().to_string());
        }
        shown.push(json!({"id": id, "path": path}));
    }
    if !args.plan.explain && cx.format == Format::Json {
        output::json(&shown)?;
    }
    faults.or(0)
}

fn one(cx: &Context, args: &MountArgs, text: &str) -> Result<(String, PathBuf)> {
    let (host, mut timings) = (&cx.host, Timings::start());
    // Keeps a sweep away until the journal says what is used.
    let _shared = disk::share(&host.images())?;
    let image = store::find(host, text)?;
    let hex = image.id.strip_prefix("sha256:").unwrap_or(&image.id).to_owned();
    let (box_id, path) = (format!("{PREFIX}{hex}"), target(host, &hex));
    if !args.plan.explain {
        privilege::require()?;
        match journal::read(&journal::path(host, &box_id))? {
            Some(status) if status.settled && status.removing.is_none() && mount::is_mountpoint(&path)? => return Ok((image.id, path)),
            // Somebody took it off by hand, or a removal was cut short.
            Some(status) if status.settled => drop(plan::unwind(&box_id, host, 0)?),
            _ => {}
        }
    }
    let command = format!("mount image {}", image.short());
    let carried = carry::carry(cx, args.plan, &mut timings, |_| {
        Ok(Plan::new(box_id.clone(), command.clone(), steps(host, &hex, store::lowers(host, &image)?)))
    })?;
    if let Some(carried) = carried {
        carried.release();
        store::note_use(host, &image.id);
    }
    carry::report(cx, args.plan, timings);
    Ok((image.id, path))
}

fn steps(host: &Host, hex: &str, mut lowers: Vec<PathBuf>) -> Vec<Step> {
    let place = place(host, hex);
    let mut steps: Vec<Step> = vec![
        Home { dirs: vec![host.run.clone(), host.run.join("mounts")] }.into(),
        Directory::new(&place, 0o700).into(),
        Directory::new(place.join("rootfs"), 0o755).into(),
    ];
    // overlayfs wants two layers when none is writable.
    for nth in lowers.len()..2 {
        let empty = place.join(format!("empty-{nth}"));
        steps.push(Directory::new(&empty, 0o755).into());
        lowers.push(empty);
    }
    steps.push(Mount { what: MountKind::Layers { lowers }, target: place.join("rootfs") }.into());
    steps
}

fn list(cx: &Context) -> Result<u8> {
    let catalog = Catalog::read(&cx.host)?;
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for (hex, status) in mounted(&cx.host)?.into_iter().filter(|(_, status)| status.settled) {
        let (id, path) = (format!("sha256:{hex}"), target(&cx.host, &hex));
        let names: Vec<String> =
            catalog.images.iter().filter(|image| image.id == id).flat_map(|image| &image.references).map(ToString::to_string).collect();
        let name = names.first().cloned().unwrap_or_else(|| "<none>".to_owned());
        let state = if status.removing.is_none() && mount::is_mountpoint(&path)? { "mounted" } else { "gone" };
        rows.push(vec![hex[..12].to_owned(), name, state.to_owned(), path.display().to_string()]);
        objects.push(json!({"id": id, "references": names, "state": state, "path": path}));
    }
    match cx.format {
        Format::Json => output::json(&objects)?,
        Format::Table => output::table(&["IMAGE ID", "NAME", "STATE", "PATH"], &rows),
    }
    Ok(0)
}

/// Takes mounts off; one that fails does not stop the others.
pub fn unmount(cx: &Context, args: &UnmountArgs) -> Result<u8> {
    let all: Vec<String> = mounted(&cx.host)?.into_iter().map(|(hex, _)| hex).collect();
    let keys = if args.all { all.clone() } else { args.images.clone() };
    carry::remove_each(&keys, args.force, args.plan, |text| {
        off(cx, args.plan, text, &all).doing(|| format!("cannot unmount image {text:?}"))
    })
}

fn off(cx: &Context, args: PlanArgs, text: &str, all: &[String]) -> Result<()> {
    let id = match Catalog::read(&cx.host)?.find(text) {
        Ok(image) => image.id.clone(),
        // The image may be gone; its mount goes by its id all the same.
        Err(fault) => match all.iter().find(|hex| text.strip_prefix("sha256:").unwrap_or(text) == hex.as_str()) {
            Some(hex) => format!("sha256:{hex}"),
            None => return Err(fault),
        },
    };
    let mut timings = Timings::start();
    let hex = id.strip_prefix("sha256:").unwrap_or(&id);
    let not_mounted = || Fault::new(Kind::NotFound, "it is not mounted").hint("rkbox image mount lists what is");
    if args.explain {
        let status = journal::read(&journal_path(&cx.host, hex))?.ok_or_else(not_mounted)?;
        carry::show(&explain::explain_removal(&format!("unmount image {}", &hex[..12]), &status, 0, &cx.host)?);
        return Ok(());
    }
    privilege::require()?;
    if !take_off(&cx.host, &id)? {
        return Err(not_mounted());
    }
    timings.row("take back");
    carry::report(cx, args, timings);
    Ok(())
}

fn journal_path(host: &Host, hex: &str) -> PathBuf {
    journal::path(host, &format!("{PREFIX}{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_any_number_of_layers_has_two_to_mount() {
        let host = Host::below(std::path::Path::new("/w"));
        for count in 0..4 {
            let lowers: Vec<PathBuf> = (0..count).map(|nth| PathBuf::from(format!("/l{nth}"))).collect();
            let steps = steps(&host, &"a".repeat(64), lowers.clone());
            let Some(Step::Mount(Mount { what: MountKind::Layers { lowers: mounted }, .. })) = steps.last() else { panic!("no mount") };
            assert!(mounted.len() >= 2 && mounted.starts_with(&lowers), "{mounted:?}");
            assert_eq!(steps.len(), 4 + 2_usize.saturating_sub(count));
        }
    }
}
