//! Reading the image store: images by name, id or start of an id.

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use super::catalog::Catalog;
use crate::fault::{Context, Fault, Kind, Result};
use crate::image::entry::{self, Origin};
use crate::image::layout::{self, Descriptor, Index};
use crate::image::{Config, Digest, Manifest, Platform, Reference};
use crate::step::layer::overlay_lowers;
use crate::sys::{Host, blob_seal, file, store};

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct LayerRef {
    /// Digest of the blob.
    pub digest: String,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Media type of the blob.
    pub media: String,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// Digest of it and all below it.
    pub chain_id: String,
}

/// An image of the store.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:HEX`, the digest of the configuration.
    pub id: String,
    /// Its names, sorted.
    pub references: Vec<Reference>,
    /// `sha256:HEX`.
    pub manifest_digest: String,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfiguration,
    /// The configuration as stored.
    pub config_raw: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<LayerRef>,
    /// Whether a removal needs `--force`.
    pub pinned: bool,
    /// Where it came from.
    pub origin: Option<Origin>,
}

impl Image {
    /// The first 12 digits of the id, for people.
    pub fn short(&self) -> &str {
        self.id.get(7..19).unwrap_or(&self.id)
    }

    /// Bytes of the configuration and the layers as stored.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum::<u64>() + self.config_raw.len() as u64
    }
}

/// Finds an image by reference, id, or unique start of an id, in this order. A tag beside a digest does not matter, as in CRI.
///
/// *Errors:* `NotFound`, with the way to load it; `InvalidArgument` when the start of an id fits several images.
pub fn find(host: &Host, text: &str) -> Result<Image> {
    let catalog = Catalog::read(host)?;
    let chosen = match (catalog.choose(text), text.parse::<Reference>()) {
        (Err(fault), Ok(reference)) if fault.kind() == Kind::NotFound && reference.tag().is_some() => match reference.digest() {
            Some(digest) => catalog.choose(&format!("{}@{digest}", reference.repository()))?,
            None => return Err(fault),
        },
        (chosen, _) => chosen?,
    };
    let first = chosen.first().copied().unwrap_or_default();
    let entry = &catalog.index.entries()[first];
    let mut image = open(host, entry).doing(|| format!("reading image {}", entry.name().unwrap_or(text)))?;
    if let Some(listed) = catalog.image_of(first) {
        (image.references, image.pinned, image.origin) = (listed.references.clone(), listed.pinned, listed.origin.clone());
    }
    Ok(image)
}

/// The name of an entry, when it is one of ours: in its normal form.
pub(super) fn reference_of(entry: &Descriptor) -> Option<Reference> {
    let text = entry.annotations.get(layout::REF_NAME)?;
    text.parse::<Reference>().ok().filter(|reference| reference.to_string() == *text)
}

/// Opens the image of one index entry, verified; its references are those of the entry alone.
pub(super) fn open(host: &Host, found_in: &Descriptor) -> Result<Image> {
    let store = host.images();
    let mut read = |wanted: &Descriptor| Ok(file::read(&wanted.digest.blob(&store), layout_limit())?);
    let (found, bytes) = layout::descend(found_in, &Platform::of_host(), &mut read).map_err(stored)?;
    let manifest = Manifest::named(&bytes, found.digest.clone())?;
    let config = Config::parse(&layout::read_verified(&manifest.config, &mut read).map_err(stored)?)?;
    config.check_against(&manifest)?;
    let chain = config.chain_ids();
    let layers = manifest.layers.iter().zip(&config.diff_ids).zip(&chain).map(|((layer, diff_id), chain_id)| LayerRef {
        digest: layer.digest.to_string(),
        size: layer.size,
        media: layer.media_type.clone(),
        diff_id: diff_id.to_string(),
        chain_id: chain_id.to_string(),
    });
    Ok(Image {
        id: config.id().to_string(),
        references: reference_of(found_in).into_iter().collect(),
        manifest_digest: found.digest.to_string(),
        layers: layers.collect(),
        manifest,
        config: config.spec,
        pinned: entry::is_pinned(found_in),
        origin: entry::origin(found_in),
        config_raw: config.raw,
    })
}

fn layout_limit() -> u64 {
    crate::image::manifest::DOCUMENT_LIMIT
}

/// A blob that an index of ours leads to and that is not there is lost data.
fn stored(fault: Fault) -> Fault {
    match fault.kind() {
        Kind::NotFound | Kind::InvalidArgument => fault.of_kind(Kind::DataLoss).hint("load the image again"),
        _ => fault,
    }
}

/// Where the configuration of an image is, by the image's id and, if it has been read, by its manifest.
///
/// It goes by the id itself unless another tool gave it another digest.
fn config_of(host: &Host, id: &str, entry: Option<&Descriptor>) -> Option<Digest> {
    let id: Digest = id.parse().ok()?;
    if file::exists(&id.blob(&host.images())).ok()? {
        return Some(id);
    }
    Some(open(host, entry?).ok()?.manifest.config.digest)
}

/// Notes that an image is used now. One that is not in the store any more is passed over.
pub fn note_use(host: &Host, id: &str) {
    let catalog = || Catalog::read(host).ok();
    let entry = |catalog: &Catalog| {
        let image = catalog.images.iter().find(|image| image.id == id)?;
        catalog.index.entries().get(*image.entries.first()?).cloned()
    };
    let config = config_of(host, id, None).or_else(|| config_of(host, id, catalog().as_ref().and_then(entry).as_ref()));
    if let Some(config) = config {
        blob_seal::note_use(&config.blob(&host.images()));
    }
}

/// When an image was used last, by a container, a mount or a bundle; `None` when it was not since it came.
pub fn last_use(host: &Host, id: &str, entry: Option<&Descriptor>) -> Option<jiff::Timestamp> {
    let config = config_of(host, id, entry)?;
    blob_seal::last_use(&config.blob(&host.images()), &config)?.try_into().ok()
}

/// The unpacked layers of `image` as overlayfs wants them: the topmost first, cut below one that hides all under it.
///
/// *Errors:* `DataLoss` when one is not there, with the way to bring it back.
pub fn lowers(host: &Host, image: &Image) -> Result<Vec<PathBuf>> {
    let mut lowers = Vec::new();
    for layer in image.layers.iter().rev() {
        let chain: Digest = layer.chain_id.parse()?;
        let path = host.layers().join(chain.hex());
        if !file::exists(&path)? {
            let message = format!("layer {chain} of image {} is not unpacked", image.short());
            return Err(Fault::new(Kind::DataLoss, message).hint("load the image again"));
        }
        lowers.push(path);
    }
    overlay_lowers(&lowers)
}

/// The index, empty when there is none.
pub(super) fn index(host: &Host) -> Result<Index> {
    Ok(store::find_index(&host.images()).map_err(super::verify_index::with_way_out)?.unwrap_or_else(Index::empty))
}
