//! `rkbox image df`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::catalog::{Catalog, Listed};
use super::ls::{ago, human_size};
use super::sweep::{self, Use};
use crate::cmd::{Context, Format, output};
use crate::fault::Result;
use crate::image::layout::Index;
use crate::image::{Algorithm, Digest};
use crate::sys::store::{self as disk, Reach};
use crate::sys::{Host, file};

/// Arguments of `rkbox image df`.
#[derive(Clone, Debug, Default, Args)]
pub struct DfArgs {
    /// One row for each image: what it shares with others and what is its own
    #[arg(short, long)]
    pub verbose: bool,
}

/// One kind of thing on the disk.
struct Row {
    kind: &'static str,
    total: usize,
    active: usize,
    bytes: u64,
    reclaimable: u64,
}

/// Prints how much room images take and how much `prune -a` and `gc` would make.
pub fn run(cx: &Context, args: &DfArgs) -> Result<u8> {
    let host = &cx.host;
    let catalog = Catalog::read(host)?;
    let uses = sweep::uses(host)?;
    if args.verbose {
        return each(cx, &catalog, &uses);
    }
    let rows = rows(host, &catalog, &uses)?;
    if cx.format == Format::Json {
        let objects = rows.iter().map(
            |row| json!({"type": row.kind, "total": row.total, "active": row.active, "size": row.bytes, "reclaimable": row.reclaimable}),
        );
        output::json(&objects.collect::<Vec<Value>>())?;
        return Ok(0);
    }
    let cells = |row: &Row| {
        let share = (row.reclaimable * 100).checked_div(row.bytes).unwrap_or(0);
        let reclaimable = format!("{} ({share}%)", human_size(row.reclaimable));
        vec![row.kind.to_owned(), row.total.to_string(), row.active.to_string(), human_size(row.bytes), reclaimable]
    };
    output::table(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &rows.iter().map(cells).collect::<Vec<_>>());
    Ok(0)
}

/// What the entries of some images lead to.
fn reach_of<'a>(host: &Host, catalog: &Catalog, images: impl IntoIterator<Item = &'a Listed>) -> Result<Reach> {
    let entries = images.into_iter().flat_map(|image| &image.entries).map(|&nth| catalog.index.raw_entries()[nth].clone());
    Reach::of(&host.images(), &Index::empty().with_entries(entries.collect())?)
}

fn rows(host: &Host, catalog: &Catalog, uses: &[Use]) -> Result<Vec<Row>> {
    let is_active = |image: &&Listed| uses.iter().any(|used| used.image_id == image.id);
    let active = reach_of(host, catalog, catalog.images.iter().filter(is_active))?;
    let all = Reach::of(&host.images(), &catalog.index)?;
    let held: BTreeSet<&Digest> = active.chains.iter().chain(uses.iter().flat_map(|used| &used.chains)).collect();
    let mut images = Row { kind: "Images", total: catalog.images.len(), active: 0, bytes: 0, reclaimable: 0 };
    images.active = catalog.images.iter().filter(is_active).count();
    for blob in &all.blobs {
        let bytes = disk::find_blob_size(&blob.blob(&host.images()))?.unwrap_or(0);
        images.bytes += bytes;
        images.reclaimable += if active.blobs.contains(blob) { 0 } else { bytes };
    }
    let mut layers = Row { kind: "Layers", total: 0, active: 0, bytes: 0, reclaimable: 0 };
    let mut garbage = Row { kind: "Garbage", total: 0, active: 0, bytes: 0, reclaimable: 0 };
    for name in file::list(&host.layers())? {
        let bytes = file::disk_usage(&host.layers().join(&name))?;
        let chain = Digest::from_file_name(&name);
        let row = match &chain {
            Some(chain) if all.chains.contains(chain) || held.contains(chain) => &mut layers,
            _ => &mut garbage,
        };
        let is_held = chain.is_some_and(|chain| held.contains(&chain));
        row.total += 1;
        row.active += usize::from(is_held);
        row.bytes += bytes;
        row.reclaimable += if is_held { 0 } else { bytes };
    }
    for path in orphan_blobs(host, &all)? {
        let bytes = disk::find_blob_size(&path)?.unwrap_or(0);
        garbage.total += 1;
        garbage.bytes += bytes;
        garbage.reclaimable += bytes;
    }
    Ok(vec![images, layers, garbage])
}

/// Blobs that no image leads to, unfinished ones among them.
fn orphan_blobs(host: &Host, all: &Reach) -> Result<Vec<PathBuf>> {
    let mut orphans = Vec::new();
    for dir in Algorithm::ALL.map(|algorithm| algorithm.blobs(&host.images())) {
        let strange = |name: &String| Digest::from_file_name(name).is_none_or(|digest| !all.blobs.contains(&digest));
        orphans.extend(file::list(&dir)?.into_iter().filter(strange).map(|name| dir.join(name)));
    }
    Ok(orphans)
}

fn each(cx: &Context, catalog: &Catalog, uses: &[Use]) -> Result<u8> {
    let host = &cx.host;
    let reaches = catalog.images.iter().map(|image| reach_of(host, catalog, [image])).collect::<Result<Vec<Reach>>>()?;
    let mut count: std::collections::BTreeMap<&Digest, u32> = Default::default();
    reaches.iter().flat_map(|reach| &reach.blobs).for_each(|blob| *count.entry(blob).or_default() += 1);
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for (image, reach) in catalog.images.iter().zip(&reaches) {
        let (mut shared, mut unique) = (0, 0);
        for blob in &reach.blobs {
            let bytes = disk::find_blob_size(&blob.blob(&host.images()))?.unwrap_or(0);
            *(if count.get(blob).is_some_and(|&users| users > 1) { &mut shared } else { &mut unique }) += bytes;
        }
        let users = uses.iter().filter(|used| used.image_id == image.id).count();
        let name = image.references.first().map_or_else(|| "<none>".to_owned(), ToString::to_string);
        let created = image.created.as_deref().map_or_else(|| "<none>".to_owned(), |text| ago(text, jiff::Timestamp::now()));
        objects.push(json!({"id": image.id, "references": image.references, "size": shared + unique, "shared": shared, "unique": unique,
            "users": users, "pinned": image.pinned}));
        rows.push(vec![
            name,
            image.short().to_owned(),
            created,
            human_size(shared + unique),
            human_size(shared),
            human_size(unique),
            users.to_string(),
        ]);
    }
    match cx.format {
        Format::Json => output::json(&objects)?,
        Format::Table => output::table(&["IMAGE", "IMAGE ID", "CREATED", "SIZE", "SHARED", "UNIQUE", "USERS"], &rows),
    }
    Ok(0)
}
