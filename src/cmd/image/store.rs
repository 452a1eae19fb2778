//! Reading the image store: images by name, id or start of an id.

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use crate::fault::{Context, Fault, Kind, Result};
use crate::image::layout::{self, Descriptor, Index};
use crate::image::{Config, Digest, Manifest, Platform, Reference};
use crate::step::layer::overlay_lowers;
use crate::sys::{Host, file, store};

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

/// The images of the store, oldest entry first, and in words what could not be read.
pub fn list(host: &Host) -> Result<(Vec<Image>, Vec<String>)> {
    let (mut images, mut broken): (Vec<Image>, Vec<String>) = (Vec::new(), Vec::new());
    let Some(index) = store::find_index(&host.images())? else { return Ok((images, broken)) };
    for entry in index.entries() {
        match open(host, entry) {
            Ok(image) => match images.iter_mut().find(|known| known.id == image.id) {
                Some(known) => known.references.extend(image.references),
                None => images.push(image),
            },
            Err(fault) => broken.push(format!("image {:?}: {fault}", entry.name().unwrap_or("<none>"))),
        }
    }
    for image in &mut images {
        image.references.sort();
        image.references.dedup();
    }
    Ok((images, broken))
}

/// Finds an image by reference, id, or unique start of an id, in this order.
///
/// *Errors:* `NotFound`, with the way to load it; `InvalidArgument` when the start of an id fits several images.
pub fn find(host: &Host, text: &str) -> Result<Image> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let whole = Digest::from_hex(digits);
    if whole.is_none()
        && let Ok(reference) = text.parse::<Reference>()
        && let Some(image) = find_named(host, &reference)?
    {
        return Ok(image);
    }
    let missing = || Fault::not_found(format!("image {:?} is not in the store", text.chars().take(300).collect::<String>()));
    let hinted = || missing().hint("rkbox image load ARCHIVE brings it, rkbox image ls lists what is there");
    if digits.is_empty() || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        // A text that is no reference at all is told why; one that is, that it is not there.
        return Err(text.parse::<Reference>().err().unwrap_or_else(hinted));
    }
    let (images, _) = list(host)?;
    let fits =
        |image: &Image| image.id[7..].starts_with(digits) || whole.as_ref().is_some_and(|whole| image.manifest_digest == whole.as_str());
    let mut found: Vec<Image> = images.into_iter().filter(fits).collect();
    match (found.pop(), found.len()) {
        (Some(image), 0) => Ok(image),
        (None, _) => Err(hinted()),
        (Some(last), _) => {
            let ids: Vec<&str> = found.iter().chain([&last]).map(Image::short).collect();
            Err(Fault::invalid(format!("image id {text:?} is not unique")).hint(format!("it fits {}", ids.join(", "))))
        }
    }
}

fn find_named(host: &Host, reference: &Reference) -> Result<Option<Image>> {
    let Some(index) = store::find_index(&host.images())? else { return Ok(None) };
    let named = |entry: &&Descriptor| {
        let known = reference_of(entry);
        match (reference.digest(), &known) {
            (None, Some(known)) => known == reference,
            (Some(digest), Some(known)) => known.repository() == reference.repository() && entry.digest == *digest,
            (_, None) => false,
        }
    };
    let Some(entry) = index.entries().iter().find(named) else { return Ok(None) };
    let mut image = open(host, entry).doing(|| format!("reading image {reference}"))?;
    let same = index.entries().iter().filter(|other| other.digest == entry.digest);
    image.references = same.filter_map(reference_of).collect();
    image.references.sort();
    image.references.dedup();
    Ok(Some(image))
}

/// The name of an entry, when it is one of ours: in its normal form.
pub(super) fn reference_of(entry: &Descriptor) -> Option<Reference> {
    let text = entry.annotations.get(layout::REF_NAME)?;
    text.parse::<Reference>().ok().filter(|reference| reference.to_string() == *text)
}

/// Opens the image of one index entry, verified; its references are those of the entry alone.
pub(super) fn open(host: &Host, entry: &Descriptor) -> Result<Image> {
    let store = host.images();
    let mut read = |wanted: &Descriptor| Ok(file::read(&wanted.digest.blob(&store), layout_limit())?);
    let (found, bytes) = layout::descend(entry, &Platform::of_host(), &mut read).map_err(stored)?;
    let manifest = Manifest::parse(&bytes)?;
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
        references: reference_of(entry).into_iter().collect(),
        manifest_digest: found.digest.to_string(),
        layers: layers.collect(),
        manifest,
        config: config.spec,
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
    Ok(store::find_index(&host.images())?.unwrap_or_else(Index::empty))
}
