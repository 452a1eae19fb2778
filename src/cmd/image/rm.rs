//! `rkbox image rm`.

use std::collections::BTreeSet;

use clap::Args;

use super::catalog::{Catalog, Listed};
use super::removal::{Removal, Removed};
use super::sweep::{self, Holder, Use};
use super::{mount, store};
use crate::cmd::{Context, Format, carry, output};
use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::sys::dir_lock::DirLock;
use crate::sys::{Host, store as disk};

/// Arguments of `rkbox image rm`.
#[derive(Clone, Debug, Default, Args)]
pub struct RmArgs {
    /// NAME[:TAG] takes that one name away, and the image with its last name;
    /// NAME@DIGEST takes the names of that repository which have the digest,
    /// NAME:TAG@DIGEST that one name if it has the digest;
    /// an id, or the unique start of one, takes all names and the image.
    /// Layers go when no image and no container uses them
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Pinned and mounted images too; a missing one is no error. What a
    /// container uses stays all the same
    #[arg(short, long)]
    pub force: bool,
    /// Print a POSIX shell script that does the same, and do nothing
    #[arg(long)]
    pub explain: bool,
}

/// Removes every image that is named; goes on after a failure and then answers the first.
pub fn run(cx: &Context, args: &RmArgs) -> Result<u8> {
    let (mut all, mut faults) = (Vec::new(), Faults::default());
    for text in &args.images {
        let doing = || format!("cannot remove image {text:?}");
        if args.explain {
            carry::show(&decide(&cx.host, text, args.force).doing(doing)?.script(&cx.host, &format!("remove image {text}")));
            continue;
        }
        match take(&cx.host, text, args.force).doing(doing) {
            Ok(removed) => all.push(removed),
            Err(fault) if args.force && fault.kind() == Kind::NotFound => {}
            Err(fault) => faults.note(fault),
        }
    }
    let objects = all.iter().map(|removed| serde_json::json!({"untagged": removed.untagged, "deleted": removed.deleted.first()}));
    if cx.format == Format::Json && !args.explain {
        output::json(&objects.collect::<Vec<_>>())?;
    }
    for removed in &all {
        tell(cx, removed);
    }
    for removed in &all {
        faults.keep(removed.empty_trash());
    }
    faults.or(0)
}

/// Prints what is gone, as `docker rmi` does.
pub(super) fn tell(cx: &Context, removed: &Removed) {
    removed.notes.iter().for_each(|note| output::note(&format!("warning: {note}")));
    if cx.format == Format::Table {
        removed.untagged.iter().for_each(|reference| output::line(&format!("Untagged: {reference}")));
        removed.deleted.iter().for_each(|id| output::line(&format!("Deleted: {id}")));
    }
}

/// Removes one name of an image, or (by id) all; with the last name go its blobs, and its layers lose their names.
///
/// *Errors:* `NotFound`; `FailedPrecondition` when a container uses the image, or (without `force`) it is pinned or mounted, and its
/// last name would go.
pub(super) fn take(host: &Host, text: &str, force: bool) -> Result<Removed> {
    if force {
        let (_, catalog, gone, uses) = chosen(host, text)?;
        for image in doomed(&catalog, &gone) {
            refuse_used(image, &uses)?;
            mount::take_off(host, &image.id)?;
        }
    }
    decide(host, text, force)?.carry_out(host)
}

fn decide(host: &Host, text: &str, force: bool) -> Result<Removal> {
    let (held, catalog, mut gone, uses) = chosen(host, text)?;
    let mut with_it: Vec<usize> = Vec::new();
    for image in doomed(&catalog, &gone) {
        refuse_used(image, &uses)?;
        refuse_kept(image, &uses, force)?;
        // With the last name go the entries without one.
        with_it.extend(&image.entries);
    }
    gone.extend(with_it);
    Removal::of(host, held, &catalog, &gone, uses)
}

/// The entries that `text` speaks of, with the lock of the index, all that is in it, and who uses what.
fn chosen(host: &Host, text: &str) -> Result<(DirLock, Catalog, BTreeSet<usize>, Vec<Use>)> {
    let images = host.images();
    let missing = || Fault::not_found(format!("image {text:?} is not in the store")).hint("rkbox image ls lists what is there");
    let Some(held) = disk::lock_index(&images)? else { return Err(missing()) };
    let index = disk::find_index(&images)?.ok_or_else(missing)?;
    let catalog = Catalog::of(host, index)?;
    let gone = catalog.choose(text)?.into_iter().collect();
    Ok((held, catalog, gone, sweep::uses(host)?))
}

/// The images that have no name left without the entries `gone`.
fn doomed<'a>(catalog: &'a Catalog, gone: &BTreeSet<usize>) -> Vec<&'a Listed> {
    let is_named = |nth: &usize| !gone.contains(nth) && store::reference_of(&catalog.index.entries()[*nth]).is_some();
    let touched = |image: &&Listed| image.entries.iter().any(|nth| gone.contains(nth)) && !image.entries.iter().any(is_named);
    catalog.images.iter().filter(touched).collect()
}

fn refuse_used(image: &Listed, uses: &[Use]) -> Result<()> {
    let user = |used: &Use| match &used.holder {
        Holder::Container(name) if used.image_id == image.id => Some(name.clone()),
        _ => None,
    };
    let users: Vec<String> = uses.iter().filter_map(user).collect();
    let Some(first) = users.first() else { return Ok(()) };
    let more = if users.len() > 1 { format!(" and {} more", users.len() - 1) } else { String::new() };
    let fault = Fault::new(Kind::FailedPrecondition, format!("image is used by container {first:?}{more}"));
    Err(fault.hint(format!("rkbox rm {first}")))
}

fn refuse_kept(image: &Listed, uses: &[Use], force: bool) -> Result<()> {
    for used in uses.iter().filter(|used| used.image_id == image.id) {
        if let Holder::Mount(path) = &used.holder {
            let fault = Fault::new(Kind::FailedPrecondition, format!("image is mounted on {}", path.display()));
            return Err(fault.hint(format!("rkbox image unmount {}", image.short())));
        }
    }
    if image.pinned && !force {
        let fault = Fault::new(Kind::FailedPrecondition, "image is pinned");
        return Err(fault.hint(format!("rkbox image unpin {}, or rm --force", image.short())));
    }
    Ok(())
}
