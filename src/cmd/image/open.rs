//! One image of any source, to be read where it is.

use std::path::{Path, PathBuf};

use super::load::{Found, images_of};
use super::source::{Members, Source};
use super::{store, stream};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::{Config, Digest, Manifest, Platform, Reference, Transport};
use crate::step::blob::BlobSource;
use crate::sys::new_file::Spool;
use crate::sys::{Host, file};

/// One layer of a source.
#[derive(Clone, Debug)]
pub struct SourceLayer {
    /// Where its blob is.
    pub source: BlobSource,
    /// Media type of the blob.
    pub media_type: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Digest of it and all below it.
    pub chain_id: Digest,
}

/// How a source is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Platform to choose.
    pub platform: &'a Platform,
    /// In whose file system the plain copy of a compressed archive is made.
    pub near: &'a Path,
    /// Whether a script is asked for, which cannot have that copy.
    pub explain: bool,
}

/// One image of a source: its documents verified, its layers not yet read.
#[derive(Debug)]
pub struct SourceImage {
    /// The manifest; for a docker-archive the one that it gets when it is loaded.
    pub manifest: Manifest,
    /// The configuration.
    pub config: Config,
    /// Lowest first.
    pub layers: Vec<SourceLayer>,
    /// The names it has there.
    pub references: Vec<Reference>,
    /// Whether each layer's blob is a file of its own.
    pub in_files: bool,
    /// The plain copy of a compressed archive, in which the layers lie.
    pub plain: Option<Spool>,
}

/// Opens the one image that `text` names: a transport, a path, or the name or id of an image of the store.
///
/// `docker://REFERENCE` is an image of the store as well: the caller has pulled it. A text that starts like a path is one; any other is an image of the store first, then a path. *Errors:* as those of
/// [`super::plan_load`] and [`store::find`]; `InvalidArgument` when a source has several images and none is chosen.
pub fn open_source(host: &Host, text: &str, how: &Opening<'_>) -> Result<SourceImage> {
    if let Some(name) = text.strip_prefix("docker://") {
        return from_store(host, store::find(host, name)?);
    }
    match text.parse::<Transport>() {
        Ok(Transport::Bare(path)) if is_like_a_path(text) => from_source(host, &Transport::Bare(path), how),
        Ok(Transport::Bare(path)) => match store::find(host, text) {
            Err(fault) if matches!(fault.kind(), Kind::NotFound | Kind::InvalidArgument) && file::exists(&path)? => {
                from_source(host, &Transport::Bare(path), how)
            }
            found => from_store(host, found?),
        },
        Ok(transport) => from_source(host, &transport, how),
        // `docker:24` is a name as well.
        Err(fault) if fault.kind() == Kind::Unimplemented => from_store(host, store::find(host, text).map_err(|_| fault)?),
        Err(fault) => Err(fault),
    }
}

fn is_like_a_path(text: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| text.starts_with(start)) || matches!(text, "." | ".." | "-")
}

fn from_source(host: &Host, transport: &Transport, how: &Opening<'_>) -> Result<SourceImage> {
    let plain = stream::spooled(host, transport, how.near, how.explain)?;
    let source = Source::open(&stream::elsewhere(transport, plain.as_ref()).map_or_else(|| absolute(transport), Ok)?)?;
    let mut found = images_of(&source, how.platform, transport.stem())?;
    let (Some(image), true) = (found.pop(), found.is_empty()) else {
        return Err(Fault::invalid(format!("the source has {} images", found.len() + 1))
            .hint("choose one of them: oci:PATH:NAME, oci-archive:PATH:NAME or docker-archive:PATH:NAME"));
    };
    let Found { manifest, config, layers: sources, names: references, .. } = image;
    let in_files = matches!(source.members, Members::Directory(_));
    Ok(SourceImage { layers: layers(&manifest, &config, sources), manifest, config, references, in_files, plain })
}

fn from_store(host: &Host, image: store::Image) -> Result<SourceImage> {
    let config = Config::parse(&image.config_raw).doing(|| format!("reading image {}", image.short()))?;
    let at = host.images();
    let sources = image.manifest.layers.iter().map(|layer| BlobSource::Span { path: layer.digest.blob(&at), offset: 0 }).collect();
    let layers = layers(&image.manifest, &config, sources);
    Ok(SourceImage { layers, manifest: image.manifest, config, references: image.references, in_files: true, plain: None })
}

fn layers(manifest: &Manifest, config: &Config, sources: Vec<BlobSource>) -> Vec<SourceLayer> {
    let facts = manifest.layers.iter().zip(sources).zip(&config.diff_ids).zip(config.chain_ids());
    let layer = |(((blob, source), diff_id), chain_id): (((&crate::image::layout::Descriptor, BlobSource), &Digest), Digest)| SourceLayer {
        source,
        media_type: blob.media_type.clone(),
        digest: blob.digest.clone(),
        size: blob.size,
        diff_id: diff_id.clone(),
        chain_id,
    };
    facts.map(layer).collect()
}

/// The same place, told so that it means the same in every working directory: it goes into journals and scripts.
fn absolute(transport: &Transport) -> Result<Transport> {
    let whole = |path: &Path| -> Result<PathBuf> {
        std::path::absolute(path).map_err(|error| Fault::invalid(format!("{}: {error}", path.display())))
    };
    Ok(match transport {
        Transport::Oci { path, tag } => Transport::Oci { path: whole(path)?, tag: tag.clone() },
        Transport::OciArchive { path, tag } => Transport::OciArchive { path: whole(path)?, tag: tag.clone() },
        Transport::DockerArchive { path, reference } => Transport::DockerArchive { path: whole(path)?, reference: reference.clone() },
        Transport::Bare(path) => Transport::Bare(whole(path)?),
    })
}
