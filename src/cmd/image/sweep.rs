//! Garbage of the image store: what no index entry and no container leads to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::verify_index::with_way_out;
use crate::fault::{Context, Fault, Kind, Result};
use crate::image::layout::Index;
use crate::image::manifest::DOCUMENT_LIMIT;
use crate::image::{Algorithm, Digest};
use crate::sys::dir_lock::{self, Beside};
use crate::sys::store::{self, Reach};
use crate::sys::{Host, file};

/// How long loads are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest container record, in bytes.
const RECORD_LIMIT: u64 = 16 << 20;

/// Who holds something of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A container, by its name, or its id when it has none.
    Container(String),
    /// `image mount`, which shows it here.
    Mount(PathBuf),
}

/// What a container or a mount holds of the store.
#[derive(Clone, Debug)]
pub struct Use {
    /// Who.
    pub holder: Holder,
    /// `sha256:HEX`.
    pub image_id: String,
    /// Chain ids of its layers.
    pub chains: Vec<Digest>,
}

/// Reads from the container records and the journals of mounts which images are used.
///
/// *Errors:* `DataLoss` for a record that cannot be read, because then nobody knows what it uses.
pub fn uses(host: &Host) -> Result<Vec<Use>> {
    let dir = host.root.join("containers");
    let mut uses = super::mount::uses(host)?;
    for id in file::list(&dir)? {
        let path = dir.join(&id).join("record.json");
        let Some(bytes) = file::find(&path, RECORD_LIMIT)? else { continue };
        let damaged = |error| Fault::from_error(Kind::DataLoss, error).doing(format!("reading {}", path.display()));
        let record: Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let image_id = text(&record["image_id"]).unwrap_or_default();
        let image_id = if image_id.is_empty() || image_id.contains(':') { image_id } else { format!("sha256:{image_id}") };
        let chains = record["image"]["chain"].as_array().into_iter().flatten().filter_map(|chain| chain.as_str()?.parse().ok());
        // The images that are mounted in it, each for itself.
        for mount in record["mounts"].as_array().into_iter().flatten().filter(|mount| mount["from"]["type"] == "image") {
            let chains = mount["from"]["chain"].as_array().into_iter().flatten().filter_map(|chain| chain.as_str()?.parse().ok()).collect();
            let holder = Holder::Container(text(&record["name"]).unwrap_or_else(|| id.clone()));
            uses.push(Use { holder, image_id: text(&mount["from"]["image_id"]).unwrap_or_default(), chains });
        }
        let holder = Holder::Container(text(&record["name"]).unwrap_or(id));
        uses.push(Use { holder, image_id, chains: chains.collect() });
    }
    Ok(uses)
}

/// Removes the blobs of `orphans` that nobody needs, and renames their layers away; answers the trees that are left to remove.
///
/// The caller holds the lock of the index, which no longer leads to `orphans`.
pub(super) fn discard(host: &Host, orphans: &Reach, needed: &Reach, uses: &[Use]) -> Result<Vec<PathBuf>> {
    let (blobs, layers) = to_discard(host, orphans, needed, uses);
    for blob in blobs {
        file::remove_file(&blob)?;
    }
    let moved = layers.iter().map(|layer| set_aside(layer)).collect::<Result<Vec<_>>>()?;
    Ok(moved.into_iter().flatten().collect())
}

/// The blobs and layers of `orphans` that neither `needed` nor a container has.
pub(super) fn to_discard(host: &Host, orphans: &Reach, needed: &Reach, uses: &[Use]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let blobs = orphans.blobs.difference(&needed.blobs).map(|digest| digest.blob(&host.images())).collect();
    let held: BTreeSet<&Digest> = uses.iter().flat_map(|used| &used.chains).collect();
    let free = orphans.chains.difference(&needed.chains).filter(|chain| !held.contains(chain));
    (blobs, free.map(|chain| host.layers().join(chain.hex())).collect())
}

/// Renames a layer, so that a removal that is cut off leaves no half layer under a good name. `None` when it is not there.
fn set_aside(path: &Path) -> Result<Option<PathBuf>> {
    if !file::exists(path)? {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = (0..10_000).map(|nth| path.with_file_name(format!("{name}.partial-{}-rm{nth}", std::process::id())));
    for aside in aside {
        if !file::exists(&aside)? {
            file::rename(path, &aside)?;
            return Ok(Some(aside));
        }
    }
    Err(Fault::internal(format!("no free name beside {}", path.display())))
}

/// Removes unreferenced blobs and layers and what dead writers left; answers the paths that are gone.
///
/// *Errors:* `DeadlineExceeded` while images are loaded; `DataLoss` when an image cannot be read, because then nobody knows what it needs.
pub fn sweep(host: &Host) -> Result<Vec<String>> {
    let images = host.images();
    let Some(_seized) = store::seize(&images, PATIENCE).doing(|| "waiting for images that are being loaded")? else {
        return Ok(Vec::new());
    };
    let Some(held) = store::lock_index(&images)? else { return Ok(Vec::new()) };
    let mut gone = store::remove_partials(&images, None)?;
    for name in file::list(&images)?.into_iter().filter(|name| name.starts_with('.') && name.ends_with(".tmp")) {
        gone.push(images.join(name));
    }
    let uses = uses(host)?;
    let index = store::find_index(&images).map_err(with_way_out)?;
    // Without an index nothing is needed, and all would go.
    if index.is_none() && file::exists(&images.join("oci-layout"))? {
        return Err(with_way_out(Fault::new(Kind::DataLoss, format!("{} is not there", store::index_path(&images).display()))));
    }
    let needed = Reach::of(&images, &index.unwrap_or_else(Index::empty))?;
    if let Some(first) = needed.broken.first() {
        return Err(Fault::new(Kind::DataLoss, first.clone()).hint("load that image again, or remove it with rkbox image rm"));
    }
    let orphans = everything(host)?;
    let used: BTreeSet<Digest> = uses.iter().filter_map(|used| used.image_id.parse().ok()).collect();
    for digest in orphans.blobs.difference(&needed.blobs) {
        if !is_config_of(&images, digest, &used)? {
            gone.push(digest.blob(&images));
        }
    }
    for path in &gone {
        file::remove_file(path)?;
    }
    let orphans = Reach { blobs: BTreeSet::new(), ..orphans };
    let mut trees = discard(host, &orphans, &needed, &uses)?;
    drop(held);
    trees.extend(abandoned(&host.layers())?.into_iter().filter(|tree| !trees.contains(tree)).collect::<Vec<_>>());
    for tree in &trees {
        file::remove_tree(tree)?;
    }
    gone.extend(trees);
    Ok(gone.iter().map(|path| path.display().to_string()).collect())
}

/// Whether a blob is the configuration of one of the images `used`, whose ids are SHA-256 whatever the blob goes by.
fn is_config_of(images: &Path, digest: &Digest, used: &BTreeSet<Digest>) -> Result<bool> {
    if digest.algorithm() == Algorithm::Sha256 || used.is_empty() {
        return Ok(used.contains(digest));
    }
    let path = digest.blob(images);
    let small = store::find_blob_size(&path)?.is_some_and(|size| size <= DOCUMENT_LIMIT);
    Ok(small && used.contains(&store::digest_blob(&path, Algorithm::Sha256)?))
}

/// All blobs and layers that are on the disk. Files that are not ours have other names and are left alone.
fn everything(host: &Host) -> Result<Reach> {
    let digests = |dir: PathBuf| Ok::<_, Fault>(file::list(&dir)?.iter().filter_map(|name| Digest::from_file_name(name)).collect());
    let mut blobs: BTreeSet<Digest> = BTreeSet::new();
    for algorithm in Algorithm::ALL {
        let found: BTreeSet<Digest> = digests(algorithm.blobs(&host.images()))?;
        blobs.extend(found.into_iter().filter(|digest| digest.algorithm() == algorithm));
    }
    Ok(Reach { blobs, chains: digests(host.layers())?, broken: Vec::new() })
}

/// Unfinished layers whose maker is dead: the directory's own lock, which its maker holds, is free.
fn abandoned(layers: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in file::list(layers)?.into_iter().filter(|name| name.contains(".partial")) {
        let path = layers.join(name);
        match dir_lock::acquire(&path, Beside::Nobody, Duration::ZERO) {
            Ok(Some(_)) => found.push(path),
            Ok(None) => {}
            Err(fault) if fault.kind() == Kind::DeadlineExceeded => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(found)
}
