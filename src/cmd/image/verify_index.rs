//! The index of the store and its mark, when they are lost or damaged: what can be known of the images without them.

use serde_json::Value;

use super::verify::Problem;
use crate::cmd::{Context, carry, output};
use crate::fault::{Fault, Kind, Result};
use crate::image::layout::{self, Index};
use crate::image::manifest::{self, DOCUMENT_LIMIT, INDEX_LIMIT};
use crate::image::{Algorithm, Config, Digest, Manifest, entry, json};
use crate::plan::{self, Keep, Plan, Timings};
use crate::step::Relist;
use crate::sys::{Host, file, store as disk};

/// What is wrong, and what puts it right.
pub(super) struct Lost {
    step: Relist,
    pub problems: Vec<Problem>,
}

fn problem(path: &str, problem: &str, detail: String) -> Problem {
    Problem { blob: None, layer: None, path: Some(path.to_owned()), problem: problem.to_owned(), detail, repaired: false }
}

/// Looks at `oci-layout` and `index.json`; `None` when both are good, or neither is there.
///
/// A new index has those entries of the old one that can be read, and besides each image of which everything else is in the store: its
/// name is lost, its id is not.
pub(super) fn find(host: &Host) -> Result<Option<Lost>> {
    let images = host.images();
    let marker = file::find(&images.join("oci-layout"), DOCUMENT_LIMIT)?;
    let index = disk::find_index(&images);
    if marker.is_none() && matches!(index, Ok(None)) {
        return Ok(None);
    }
    let mut problems = Vec::new();
    match marker.map(|bytes| layout::check_marker(&bytes)) {
        Some(Ok(())) => {}
        Some(Err(fault)) if fault.kind() == Kind::Unimplemented => return Err(fault),
        Some(Err(fault)) => problems.push(problem("oci-layout", "document", fault.to_string())),
        None => problems.push(problem("oci-layout", "missing", String::new())),
    }
    let marker = !problems.is_empty();
    match index {
        Ok(Some(_)) => {}
        Ok(None) => problems.push(problem("index.json", "missing", String::new())),
        Err(fault) if fault.kind() == Kind::DataLoss => problems.push(problem("index.json", "document", fault.to_string())),
        Err(fault) => return Err(fault),
    }
    let index = problems.iter().any(|problem| problem.path.as_deref() == Some("index.json")).then(|| recovered(host)).transpose()?;
    let step = Relist { store: images, index: index.map(|index| index.to_text()), marker };
    Ok((!problems.is_empty()).then_some(Lost { step, problems }))
}

fn recovered(host: &Host) -> Result<Index> {
    let path = disk::index_path(&host.images());
    // One that is too large to be read is read in no part.
    let old = file::find(&path, INDEX_LIMIT).ok().flatten().and_then(|bytes| json::read(&bytes, "index.json").ok());
    let listed = old.as_ref().and_then(|old| old.get("manifests")?.as_array());
    let mut entries: Vec<Value> = listed.into_iter().flatten().filter(|entry| manifest::descriptor(entry).is_ok()).cloned().collect();
    for algorithm in Algorithm::ALL {
        for name in file::list(&algorithm.blobs(&host.images()))? {
            let digest = Digest::from_file_name(&name).filter(|digest| digest.algorithm() == algorithm);
            let Some(digest) = digest.filter(|digest| !entries.iter().any(|known| known["digest"] == digest.as_str())) else { continue };
            entries.extend(image_at(host, &digest)?);
        }
    }
    Index::empty().with_entries(entries)
}

/// The entry of the manifest at `digest`; `None` when it is none, or not all of its image is there.
fn image_at(host: &Host, digest: &Digest) -> Result<Option<Value>> {
    let (images, path) = (host.images(), digest.blob(&host.images()));
    if disk::find_blob_size(&path)?.is_none_or(|size| size > DOCUMENT_LIMIT) {
        return Ok(None);
    }
    let bytes = file::read(&path, DOCUMENT_LIMIT)?;
    let sound = || {
        digest.verify(&bytes)?;
        let manifest = Manifest::named(&bytes, digest.clone())?;
        let config = Config::parse(&disk::read_document(&images, &manifest.config)?)?;
        config.check_against(&manifest).map(|()| (manifest, config))
    };
    let Ok((manifest, config)) = sound() else { return Ok(None) };
    for layer in &manifest.layers {
        if disk::find_blob_size(&layer.digest.blob(&images))? != Some(layer.size) {
            return Ok(None);
        }
    }
    for chain in config.chain_ids() {
        if !file::exists(&host.layers().join(chain.hex()))? {
            return Ok(None);
        }
    }
    Ok(manifest.is_oci().then(|| entry::describe(&manifest, &config, None)))
}

impl Lost {
    /// Whether nothing can be said of the images before this is repaired.
    pub fn hides_images(&self) -> bool {
        self.step.index.is_some()
    }

    fn plan(&self) -> Plan {
        let box_id = format!("image-{}", std::process::id());
        Plan::new(box_id, self.step.to_string(), vec![self.step.clone().into()]).kept(Keep::Result)
    }

    /// Puts it right.
    pub fn repair(&mut self, cx: &Context) -> Result<()> {
        plan::attempt(&cx.host, &mut Timings::start(), |_| Ok(self.plan()))?;
        self.problems.iter_mut().for_each(|problem| problem.repaired = true);
        let nameless = super::store::index(&cx.host)?.entries().iter().filter(|entry| entry.name().is_none()).count();
        if self.hides_images() && nameless > 0 {
            output::note(&format!("warning: {nameless} images have no name: rkbox image pull NAME or image tag ID NAME gives them theirs"));
        }
        Ok(())
    }

    /// Prints the script of it.
    pub fn explain(&self, host: &Host) -> Result<u8> {
        carry::show(&plan::explain::explain(&self.plan(), host)?);
        Ok(0)
    }
}

/// An index that is damaged, with the way out.
pub(super) fn with_way_out(fault: Fault) -> Fault {
    match fault.kind() {
        Kind::DataLoss => fault.hint("rkbox image verify --repair makes the index anew from what is in the store"),
        _ => fault,
    }
}
