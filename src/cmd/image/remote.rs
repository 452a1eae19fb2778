//! An image of a registry as the steps that store it.

use std::ops::Range;

use super::load::{Found, composed, steps};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::entry::Origin;
use crate::image::layout::{self, Descriptor};
use crate::image::{Compression, Config, Digest, Manifest, Platform, Reference};
use crate::step::Step;
use crate::step::blob::BlobSource;
use crate::sys::registry::{Class, Session};
use crate::sys::{Host, blob_seal, proc, store};

/// An image of a registry, planned.
#[derive(Debug)]
pub(super) struct Remote {
    /// Blobs, then layers, then tags.
    pub steps: Vec<Step>,
    /// The image's id.
    pub id: Digest,
    /// What the reference leads to: a manifest or an index.
    pub digest: Digest,
    /// The manifest as it is stored.
    pub manifest_digest: Digest,
    /// What it is made for.
    pub platform: Platform,
    /// Bytes of the configuration and the layers.
    pub size: u64,
    /// Bytes that are to be fetched.
    pub missing: u64,
}

/// Reads the documents of `reference` and answers the steps that store its image under `names`. Nothing is changed.
///
/// *Errors:* as those of [`super::plan_load`], and those of registries.
pub(super) fn plan(host: &Host, session: &Session, reference: &Reference, names: &[Reference], platform: &Platform) -> Result<Remote> {
    let top = session.resolve(reference)?;
    let mut read = |wanted: &Descriptor| match wanted.digest == top.descriptor.digest {
        true => Ok(top.bytes.clone()),
        false => session.document(reference, wanted, Class::Manifest),
    };
    let (chosen, bytes) = layout::descend(&top.descriptor, platform, &mut read)?;
    let manifest = Manifest::named(&bytes, chosen.digest.clone()).doing(|| format!("reading manifest {}", chosen.digest))?;
    let of_config = |wanted: &Descriptor| document(host, session, reference, wanted);
    let config = Config::parse(&layout::read_verified(&manifest.config, &mut { of_config })?)?;
    config.check_against(&manifest)?;
    // An index says it better than a configuration, which often leaves the variant out.
    if chosen.digest == top.descriptor.digest && platform.rank(&config.platform()).is_none() {
        let message = format!("the image is made for {}, not for {platform}", config.platform());
        return Err(Fault::not_found(message).hint(format!("--platform {} pulls it all the same", config.platform())));
    }
    let found = found(session, reference, (manifest, bytes), config, names)?;
    let repository = reference.repository();
    let mut repo_digests = vec![format!("{repository}@{}", top.descriptor.digest)];
    if chosen.digest != top.descriptor.digest {
        repo_digests.push(format!("{repository}@{}", chosen.digest));
    }
    let origin = Origin { source: reference.domain().to_owned(), at: proc::now_rfc3339(), repo_digests };
    let (id, manifest_digest, platform) = (found.config.id(), found.manifest.digest(), found.config.platform());
    let size = crate::image::entry::size(&found.manifest, &found.config);
    let steps = steps(host, &[found], Some(&origin))?;
    let missing = missing(&steps, session)?;
    Ok(Remote { steps, id, digest: top.descriptor.digest, manifest_digest, platform, size, missing })
}

/// A configuration, from the store when it is there.
fn document(host: &Host, session: &Session, reference: &Reference, wanted: &Descriptor) -> Result<Vec<u8>> {
    match store::read_document(&host.images(), wanted) {
        Ok(bytes) => Ok(bytes),
        Err(_) => session.document(reference, wanted, Class::Blob),
    }
}

fn found(
    session: &Session,
    reference: &Reference,
    (manifest, bytes): (Manifest, Vec<u8>),
    config: Config,
    names: &[Reference],
) -> Result<Found> {
    let layers = manifest.layers.iter().map(|layer| session.remote(reference, &layer.digest).map(BlobSource::Registry));
    let layers = layers.collect::<Result<_>>()?;
    // An OCI layout holds OCI manifests; the id stays, because the configuration does.
    let (manifest, manifest_source) = if manifest.is_oci() {
        (manifest, text(&bytes)?)
    } else {
        let part = |layer: &Descriptor| Ok((layer.digest.clone(), layer.size, Compression::from_media_type(&layer.media_type)?));
        composed(&config.raw, &manifest.layers.iter().map(part).collect::<Result<Vec<_>>>()?)?
    };
    let config_source = text(&config.raw)?;
    Ok(Found { manifest, manifest_source, config, config_source, layers, names: names.to_vec() })
}

/// A document that was parsed as JSON, and so is UTF-8.
fn text(bytes: &[u8]) -> Result<BlobSource> {
    String::from_utf8(bytes.to_vec()).map(BlobSource::Text).map_err(|error| Fault::from_error(Kind::InvalidArgument, error))
}

/// Bytes that are not in the store yet; tells the session which blobs will come.
fn missing(steps: &[Step], session: &Session) -> Result<u64> {
    let mut missing = 0;
    for step in steps {
        let Step::Blob(blob) = step else { continue };
        let digest: Digest = blob.digest.parse()?;
        let path = digest.blob(&blob.store);
        if !matches!(blob.source, BlobSource::Registry(_)) || blob_seal::is_good(&path, &digest, blob.size)? {
            continue;
        }
        session.expect(&digest);
        // One without a seal is read first, and comes only when it is damaged.
        if store::find_blob_size(&path)? != Some(blob.size) {
            missing += blob.size;
        }
    }
    Ok(missing)
}

/// The runs of a pull: each blob beside all others and beside the layers, which are unpacked as their blobs come.
pub(super) fn runs(steps: &[Step]) -> Vec<Range<usize>> {
    let is_blob = |step: &Step| matches!(step, Step::Blob(_));
    let is_layer = |step: &Step| matches!(step, Step::Layer(_) | Step::Layers(_));
    let first = steps.iter().position(is_blob).unwrap_or(steps.len());
    let blobs = steps[first..].iter().take_while(|step| is_blob(step)).count();
    let layers = steps[first + blobs..].iter().take_while(|step| is_layer(step)).count();
    let mut runs: Vec<Range<usize>> = (first..first + blobs).map(|nth| nth..nth + 1).collect();
    if layers > 0 {
        runs.push(first + blobs..first + blobs + layers);
    }
    runs
}
