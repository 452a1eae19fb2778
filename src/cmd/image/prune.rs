//! `rkbox image prune`.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use super::catalog::{Catalog, Listed};
use super::filter::{self, Filter};
use super::ls::human_size;
use super::removal::Removal;
use super::sweep::{self, Use};
use super::{rm, store};
use crate::cmd::{Context, Format, carry, output};
use crate::fault::{Context as _, Fault, Faults, Result};
use crate::sys::{Host, file, store as disk};

/// Arguments of `rkbox image prune`.
#[derive(Clone, Debug, Default, Args)]
pub struct PruneArgs {
    /// Also images with a name that no container uses
    #[arg(short, long)]
    pub all: bool,
    /// Only images for which all of these hold: until=TIME, label=KEY[=VALUE],
    /// label!=KEY[=VALUE], reference=PATTERN, before=IMAGE, since=IMAGE,
    /// unused-for=TIME (such as 168h: no container, mount or bundle since)
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,
    /// Taken for the sake of scripts: rkbox never asks
    #[arg(short, long)]
    pub force: bool,
    /// Print a POSIX shell script that does the same, and do nothing
    #[arg(long)]
    pub explain: bool,
}

/// Removes images that nobody uses, never pinned ones; says what went and how much room that made.
pub fn run(cx: &Context, args: &PruneArgs) -> Result<u8> {
    let Some(removal) = decide(&cx.host, args).doing(|| "cannot prune images")? else { return report(cx, &[], &[], 0) };
    if args.explain {
        carry::show(&removal.script(&cx.host, "prune images"));
        return Ok(0);
    }
    let removed = removal.carry_out(&cx.host).doing(|| "cannot prune images")?;
    rm::tell(cx, &removed);
    let (mut faults, mut freed) = (Faults::default(), removed.freed);
    for tree in &removed.trash {
        freed += file::disk_usage(tree)?;
        faults.keep(file::remove_tree(tree).map_err(Fault::from));
    }
    let untagged: Vec<String> = removed.untagged.iter().map(ToString::to_string).collect();
    report(cx, &untagged, &removed.deleted, freed)?;
    faults.or(0)
}

fn report(cx: &Context, untagged: &[String], deleted: &[String], freed: u64) -> Result<u8> {
    match cx.format {
        Format::Json => output::json(&json!({"untagged": untagged, "deleted": deleted, "freed": freed}))?,
        Format::Table => output::line(&format!("Total reclaimed space: {}", human_size(freed))),
    }
    Ok(0)
}

/// `None` when there is nothing to remove.
fn decide(host: &Host, args: &PruneArgs) -> Result<Option<Removal>> {
    let Some(held) = disk::lock_index(&host.images())? else { return Ok(None) };
    let catalog = Catalog::of(host, store::index(host)?)?;
    let uses = sweep::uses(host)?;
    let mut gone: BTreeSet<usize> = BTreeSet::new();
    for image in catalog.images.iter().filter(|image| is_free(image, &uses) && (args.all || image.references.is_empty())) {
        if filter::keep(host, &catalog, &args.filter, image)? {
            gone.extend(&image.entries);
        }
    }
    if gone.is_empty() { Ok(None) } else { Removal::of(host, held, &catalog, &gone, uses).map(Some) }
}

/// Whether nothing holds an image: no pin, no container, no mount.
pub(super) fn is_free(image: &Listed, uses: &[Use]) -> bool {
    !image.pinned && !uses.iter().any(|used| used.image_id == image.id)
}
