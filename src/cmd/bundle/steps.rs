//! The plans of bundles: a function of the record and of the texts that the files hold.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::place::Place;
use super::request::{FILES, HOSTNAME};
use crate::bundle::etc;
use crate::cmd::image::SourceImage;
use crate::fault::Result;
use crate::image::Digest;
use crate::image::layer_stamp::TREE;
use crate::record::{BundleLayer, BundleRecord};
use crate::step::blob::BlobSource;
use crate::step::flatten::LayerBlob;
use crate::step::mount::MountKind;
use crate::step::{Blob, BundleDir, Directory, File, Flatten, Layer, Layers, Mount, Skeleton, Step};

/// What the files of a bundle hold; with empty texts the steps are good enough to take it back.
#[derive(Debug, Default)]
pub struct Texts {
    /// `record.json`, also to take it back.
    pub record: String,
    /// `config.json`.
    pub config: String,
    /// `resolv.conf`.
    pub resolv_conf: String,
}

/// A plain bundle: `config.json` and `rootfs`, nothing else.
pub fn flat(place: &Place, image: &SourceImage, config: String) -> Vec<Step> {
    let layer = |layer: &crate::cmd::image::SourceLayer| LayerBlob {
        source: layer.source.clone(),
        media_type: layer.media_type.clone(),
        digest: layer.digest.to_string(),
        size: layer.size,
        diff_id: layer.diff_id.to_string(),
    };
    vec![
        BundleDir { path: place.path.clone(), record: String::new() }.into(),
        Flatten { layers: image.layers.iter().map(layer).collect(), path: place.path.join("rootfs"), mounted_on: true }.into(),
        File { path: place.path.join("config.json"), mode: 0o600, content: config, durable: true, owner: (0, 0) }.into(),
    ]
}

/// A bundle with layers of its own under an overlay.
///
/// *Errors:* `InvalidArgument` for a record with a digest that is none: digests become paths.
pub fn layered(record: &BundleRecord, texts: Texts) -> Result<Vec<Step>> {
    let dir = &record.path;
    let directory = |path: PathBuf, mode: u32| Step::from(Directory::new(path, mode));
    let mut all: Vec<Step> = vec![BundleDir { path: dir.clone(), record: texts.record }.into()];
    let store = dir.join("image");
    if record.copied {
        let homes = record.layers.iter().map(|layer| Ok(layer.digest.parse::<Digest>()?.algorithm().blobs(&store)));
        let homes: BTreeSet<PathBuf> = homes.collect::<Result<_>>()?;
        all.extend([store.clone(), store.join("blobs")].into_iter().chain(homes).map(|path| directory(path, 0o700)));
    }
    let (mut blobs, mut unpacked): (Vec<Step>, Vec<Layer>) = Default::default();
    let (mut known, mut lowers): (Vec<&str>, Vec<PathBuf>) = Default::default();
    for layer in &record.layers {
        if record.copied && !known.contains(&layer.digest.as_str()) {
            known.push(&layer.digest);
            let source = BlobSource::Span { path: layer.file.clone(), offset: layer.offset };
            blobs.push(Blob { store: store.clone(), digest: layer.digest.clone(), size: layer.size, source }.into());
        }
        let chain: Digest = layer.chain_id.parse()?;
        let path = dir.join("layers").join(chain.hex());
        unpacked.push(unpack(layer, record.copied.then_some(&store), path.clone(), lowers.clone())?);
        lowers.insert(0, path);
    }
    all.append(&mut blobs);
    all.push(directory(dir.join("layers"), 0o700));
    if !unpacked.is_empty() {
        all.push(Layers { layers: unpacked }.into());
    }
    let like: Vec<PathBuf> = lowers.iter().map(|layer| layer.join(TREE)).collect();
    let [init, upper, work, rootfs] = ["init", "upper", "work", "rootfs"].map(|name| dir.join(name));
    let lowers = std::iter::once(init.clone()).chain(like.iter().cloned()).collect();
    all.extend([
        Skeleton { path: init, pause: false, init: false, like: like.clone() }.into(),
        // The merged root has the attributes of the upper one.
        Directory { like, ..Directory::new(upper.clone(), 0o755) }.into(),
        directory(work.clone(), 0o700),
        directory(rootfs.clone(), 0o755),
        Mount { what: MountKind::Overlay { lowers, upper, work, ids: None }, target: rootfs }.into(),
    ]);
    let contents = [etc::hosts(HOSTNAME, &[]), format!("{HOSTNAME}\n"), texts.resolv_conf];
    for (name, content) in FILES.into_iter().zip(contents) {
        all.push(File { path: dir.join(name), mode: 0o644, content, durable: false, owner: (0, 0) }.into());
    }
    all.push(File { path: dir.join("config.json"), mode: 0o600, content: texts.config, durable: true, owner: (0, 0) }.into());
    Ok(all)
}

fn unpack(layer: &BundleLayer, copied_to: Option<&PathBuf>, path: PathBuf, lowers: Vec<PathBuf>) -> Result<Layer> {
    let digest: Digest = layer.digest.parse()?;
    Ok(Layer {
        blob: copied_to.map_or_else(|| layer.file.clone(), |store| digest.blob(store)),
        media_type: layer.media_type.clone(),
        digest: layer.digest.clone(),
        size: layer.size,
        diff_id: layer.diff_id.clone(),
        path,
        lowers,
    })
}
