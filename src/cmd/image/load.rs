//! `rkbox image load`: finds the images of a source and plans their blobs, layers and tags.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::source::{Form, Source};
use super::{LoadArgs, stream};
use crate::cmd::{Context, carry, output};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::entry::Origin;
use crate::image::layout::{self, Descriptor, Index};
use crate::image::{Algorithm, Compression, Config, Digest, Manifest, Platform, Reference, Transport, docker_archive, entry};
use crate::plan::{Keep, Plan, Timings};
use crate::step::blob::BlobSource;
use crate::step::{Blob, Home, Layer, Layers, Step, Tag};
use crate::sys::archive::Span;
use crate::sys::{Host, file, proc, store};

/// What the caller wants beside the source.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Names instead of those the image was saved with; then the source must give one image.
    pub names: Vec<Reference>,
    /// Platform to choose; the host's when absent.
    pub platform: Option<Platform>,
    /// Where the images come from, to be noted in the index.
    pub origin: Option<Origin>,
    /// What images are called of which only a tag was saved; by default the name of the source.
    pub stem: Option<String>,
}

/// An image that the steps will put into the store.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// `sha256:HEX`.
    pub id: String,
    /// The names it gets; none at all for an image that was saved without one.
    pub references: Vec<Reference>,
    /// `sha256:HEX`.
    pub manifest_digest: String,
}

/// The plan of a load.
#[derive(Debug)]
pub struct Loaded {
    /// Blobs, then layers, lowest first, then tags.
    pub steps: Vec<Step>,
    /// What they bring.
    pub images: Vec<LoadedImage>,
    /// Warnings for people.
    pub notes: Vec<String>,
}

/// The directories that `steps` need to load images: those of the store, and that of each algorithm of a blob.
pub fn home_dirs(host: &Host, steps: &[Step]) -> Vec<PathBuf> {
    let images = host.images();
    let of = |step: &Step| if let Step::Blob(blob) = step { blob.digest.parse::<Digest>().ok() } else { None };
    let mut algorithms: BTreeSet<Algorithm> = steps.iter().filter_map(of).map(|digest| digest.algorithm()).collect();
    algorithms.insert(Algorithm::Sha256);
    let mut dirs = vec![host.root.clone(), images.clone(), images.join("blobs")];
    dirs.extend(algorithms.into_iter().map(|algorithm| algorithm.blobs(&images)));
    dirs.push(host.layers());
    dirs
}

/// An image as found in a source.
pub(super) struct Found {
    pub manifest: Manifest,
    pub manifest_source: BlobSource,
    pub config: Config,
    pub config_source: BlobSource,
    pub layers: Vec<BlobSource>,
    pub names: Vec<Reference>,
}

/// Reads `source` and answers the steps that load it. Nothing is changed.
///
/// *Errors:* `InvalidArgument` for what is no image, `DataLoss` for wrong digests and sizes, `Unimplemented` for kinds of images that
/// rkbox does not run, `NotFound` when the image asked for is not in it.
pub fn plan_load(host: &Host, source: &Transport, wish: &Wish) -> Result<Loaded> {
    let opened = Source::open(source)?;
    let platform = wish.platform.clone().unwrap_or_else(Platform::of_host);
    let mut found = images_of(&opened, &platform, wish.stem.as_deref().unwrap_or(source.stem()))?;
    if !wish.names.is_empty() {
        let [only] = found.as_mut_slice() else {
            return Err(Fault::invalid(format!("the source has {} images, so that one name cannot stand for all", found.len()))
                .hint("choose one of them: oci-archive:PATH:NAME or docker-archive:PATH:NAME"));
        };
        if let Some(name) = wish.names.iter().find(|name| name.digest().is_some()) {
            return Err(Fault::invalid(format!("name {name} has a digest")).hint("name it with a tag"));
        }
        only.names = wish.names.clone();
    }
    let mut notes = Vec::new();
    for image in &found {
        if image.names.is_empty() {
            notes.push(format!("image {} was saved without a name; --name gives it one", image.config.id().short()));
        }
        let offered = image.config.platform();
        if platform.rank(&offered).is_none() {
            let message = format!("image {} is made for {offered}, not for {platform}", image.config.id().short());
            if wish.platform.is_some() {
                return Err(Fault::not_found(message).hint("load one that is made for it, or leave --platform out"));
            }
            notes.push(message);
        }
    }
    let mut loaded = Loaded { steps: steps(host, &found, wish.origin.as_ref())?, images: Vec::new(), notes };
    for image in found {
        let (id, manifest_digest) = (image.config.id().to_string(), image.manifest.digest().to_string());
        loaded.images.push(LoadedImage { id, references: image.names, manifest_digest });
    }
    Ok(loaded)
}

/// The images of a source; `stem` names those of which only a tag was saved.
pub(super) fn images_of(source: &Source, platform: &Platform, stem: &str) -> Result<Vec<Found>> {
    match source.form {
        Form::Oci => from_layout(source, platform, stem),
        Form::Docker => from_docker(source),
    }
}

fn span(span: Span) -> BlobSource {
    BlobSource::Span { path: span.path, offset: span.offset }
}

fn from_layout(source: &Source, platform: &Platform, stem: &str) -> Result<Vec<Found>> {
    if let Some(marker) = source.find("oci-layout")? {
        layout::check_marker(&marker.read(64 << 10)?)?;
    }
    let index = Index::parse(&source.document("index.json")?).doing(|| "reading index.json")?;
    let mut found = Vec::new();
    for entry in index.select(source.which.as_deref(), platform)? {
        let name = entry.name().map_or("without a name".to_owned(), |name| format!("{name:?}"));
        found.push(layout_image(source, entry, platform, stem).doing(|| format!("reading image {name}"))?);
    }
    Ok(found)
}

fn layout_image(source: &Source, entry: &Descriptor, platform: &Platform, stem: &str) -> Result<Found> {
    let mut read = |wanted: &Descriptor| Ok(source.blob(wanted)?.read(wanted.size)?);
    let (top, bytes) = layout::descend(entry, platform, &mut read)?;
    let manifest = Manifest::named(&bytes, top.digest.clone()).doing(|| format!("reading manifest {}", top.digest))?;
    let config = Config::parse(&layout::read_verified(&manifest.config, &mut read)?)?;
    config.check_against(&manifest)?;
    let layers = manifest.layers.iter().map(|layer| source.blob(layer).map(span)).collect::<Result<_>>()?;
    let config_source = span(source.blob(&manifest.config)?);
    let names = match entry.name() {
        // A tag alone (umoci's `oci:busybox:latest`) says nothing of the repository: the directory or archive is called after it.
        Some(tag) if is_tag_only(tag) => Ok(format!("{stem}:{tag}").parse().ok()),
        name => name.map(str::parse).transpose().hint(|| "give it a name with --name"),
    };
    // An OCI layout holds OCI manifests (skopeo and umoci look for no others); the id stays, because the configuration does.
    let (manifest, manifest_source) = if manifest.is_oci() {
        (manifest, span(source.blob(&top)?))
    } else {
        let part = |layer: &Descriptor| Ok((layer.digest.clone(), layer.size, Compression::from_media_type(&layer.media_type)?));
        composed(&config.raw, &manifest.layers.iter().map(part).collect::<Result<Vec<_>>>()?)?
    };
    Ok(Found { manifest_source, config_source, layers, names: names?.into_iter().collect(), manifest, config })
}

/// Whether the name of an index entry can only be meant as a tag: `latest`, `1.36`, `v2`.
fn is_tag_only(name: &str) -> bool {
    let version = name.strip_prefix('v').unwrap_or(name).starts_with(|c: char| c.is_ascii_digit());
    !name.contains(['/', ':', '@']) && (name == "latest" || version)
}

pub(super) fn composed(config: &[u8], parts: &[(Digest, u64, Compression)]) -> Result<(Manifest, BlobSource)> {
    let manifest = Manifest::compose(config, parts)?;
    let text = String::from_utf8(manifest.raw.clone()).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    Ok((manifest, BlobSource::Text(text)))
}

fn from_docker(source: &Source) -> Result<Vec<Found>> {
    let mut images = docker_archive::parse(&source.document("manifest.json")?)?;
    if let Some(which) = &source.which {
        match which.strip_prefix('@').map(str::parse::<usize>) {
            Some(Ok(nth)) if nth < images.len() => images = vec![images.swap_remove(nth)],
            Some(_) => return Err(Fault::not_found(format!("the archive has {} images, so that {which:?} is none of them", images.len()))),
            None => {
                let wanted: Reference = which.parse()?;
                images.retain(|image| image.references.contains(&wanted));
                images.truncate(1);
                images.iter_mut().for_each(|image| image.references = vec![wanted.clone()]);
            }
        }
    }
    if images.is_empty() {
        return Err(Fault::not_found(format!("no image of the archive is called {:?}", source.which.as_deref().unwrap_or_default())));
    }
    images.into_iter().map(|image| docker_image(source, image)).collect()
}

fn docker_image(source: &Source, image: docker_archive::ArchivedImage) -> Result<Found> {
    let name = image.references.first().map_or("without a name".to_owned(), Reference::to_string);
    let doing = || format!("reading image {name}");
    let config_span = source.member(&image.config).doing(doing)?;
    let bytes = source.document(&image.config).doing(doing)?;
    if let Some(id) = &image.id {
        id.verify(&bytes).doing(|| format!("reading {:?}", image.config)).doing(doing)?;
    }
    let config = Config::parse(&bytes).doing(doing)?;
    if config.diff_ids.len() != image.layers.len() {
        let message = format!("manifest.json has {} layers, image config has {} diff ids", image.layers.len(), config.diff_ids.len());
        return Err(Fault::invalid(message).doing(doing()));
    }
    let (mut layers, mut parts) = (Vec::new(), Vec::new());
    for (member, diff_id) in image.layers.iter().zip(&config.diff_ids) {
        let found = source.member(member).doing(doing)?;
        let compression = Compression::sniff(&found.head()?);
        // A plain tar must have the digest that the configuration names; storing it holds it against that, so it is read once.
        let digest = if compression == Compression::None { diff_id.clone() } else { found.digest()? };
        parts.push((digest, found.size, compression));
        layers.push(span(found));
    }
    let (manifest, manifest_source) = composed(&bytes, &parts)?;
    Ok(Found { manifest_source, config_source: span(config_span), layers, names: image.references, manifest, config })
}

pub(super) fn steps(host: &Host, found: &[Found], origin: Option<&Origin>) -> Result<Vec<Step>> {
    let known = super::store::index(host)?;
    let (mut blobs, mut layers, mut tags): (Vec<Step>, Vec<Layer>, Vec<Step>) = Default::default();
    let (mut stored, mut unpacked) = (BTreeSet::new(), BTreeSet::new());
    for image in found {
        let mut blob = |digest: &Digest, size: u64, source: &BlobSource| {
            if stored.insert(digest.clone()) {
                blobs.push(Blob { store: host.images(), digest: digest.to_string(), size, source: source.clone() }.into());
            }
        };
        for (layer, source) in image.manifest.layers.iter().zip(&image.layers) {
            blob(&layer.digest, layer.size, source);
        }
        blob(&image.manifest.config.digest, image.config.raw.len() as u64, &image.config_source);
        let (digest, size) = (image.manifest.digest(), image.manifest.raw.len() as u64);
        blob(&digest, size, &image.manifest_source);
        let mut lowers: Vec<PathBuf> = Vec::new();
        for ((layer, diff_id), chain) in image.manifest.layers.iter().zip(&image.config.diff_ids).zip(image.config.chain_ids()) {
            let path = host.layers().join(chain.hex());
            if unpacked.insert(chain) && !file::exists(&path)? {
                let (blob, lowers) = (layer.digest.blob(&host.images()), lowers.clone());
                let (digest, diff_id) = (layer.digest.to_string(), diff_id.to_string());
                let media_type = layer.media_type.clone();
                layers.push(Layer { blob, digest, size: layer.size, media_type, diff_id, path: path.clone(), lowers });
            }
            lowers.insert(0, path);
        }
        let pinned = known.entries().iter().any(|other| other.digest == digest && entry::is_pinned(other));
        let manifest = entry::with_pin(entry::describe(&image.manifest, &image.config, origin), pinned).to_string();
        let names = image.names.iter().map(Reference::to_string);
        let names: Vec<String> = if image.names.is_empty() { vec![String::new()] } else { names.collect() };
        tags.extend(names.into_iter().map(|reference| Tag { store: host.images(), reference, manifest: manifest.clone() }.into()));
    }
    if !layers.is_empty() {
        blobs.push(Layers { layers }.into());
    }
    blobs.append(&mut tags);
    Ok(blobs)
}

/// Runs `rkbox image load`.
pub fn run(cx: &Context, args: &LoadArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let source = args.source.as_deref().or(args.input.as_deref()).unwrap_or("-");
    if source.starts_with("docker://") {
        return super::pull::load(cx, source, args);
    }
    let asked: Transport = source.parse()?;
    let origin = Origin { source: source.to_owned(), at: proc::now_rfc3339(), repo_digests: Vec::new() };
    let stem = Some(asked.stem().to_owned());
    let wish = Wish { names: args.name.clone(), platform: args.platform.clone(), origin: Some(origin), stem };
    let spooled = stream::spooled(&cx.host, &asked, &cx.host.images(), args.plan.explain).doing(|| format!("cannot load {source:?}"))?;
    let transport = stream::elsewhere(&asked, spooled.as_ref()).unwrap_or(asked);
    let _shared = store::share(&cx.host.images())?;
    // A journal that a dead process of the same pid left is unwound first by the engine.
    let box_id = format!("image-{}", std::process::id());
    let mut images = Vec::new();
    let carried = carry::carry(cx, args.plan, &mut timings, |_| {
        let loaded = plan_load(&cx.host, &transport, &wish).doing(|| format!("cannot load {source:?}"))?;
        loaded.notes.iter().for_each(|note| output::note(&format!("warning: {note}")));
        progress(&loaded.steps);
        images = loaded.images;
        let mut steps = vec![Home { dirs: home_dirs(&cx.host, &loaded.steps) }.into()];
        steps.extend(loaded.steps);
        Ok(Plan::new(box_id.clone(), format!("load {source:?}"), steps).kept(Keep::Result))
    })?;
    if carried.is_some() {
        report(cx, &images)?;
    }
    carry::report(cx, args.plan, timings);
    Ok(0)
}

/// One line for each layer that is going to be unpacked. The engine does not tell where it is, so they come before it starts.
fn progress(steps: &[Step]) {
    let layers: Vec<&Layer> =
        steps.iter().flat_map(|step| if let Step::Layers(step) = step { step.layers.as_slice() } else { &[] }).collect();
    for (nth, layer) in layers.iter().enumerate() {
        output::note(&format!("loading layer {}/{} {} ({})", nth + 1, layers.len(), layer.digest, super::ls::human_size(layer.size)));
    }
}

fn report(cx: &Context, images: &[LoadedImage]) -> Result<()> {
    if cx.format == output::Format::Json {
        let list = images
            .iter()
            .map(|image| serde_json::json!({"id": image.id, "references": image.references, "manifest_digest": image.manifest_digest}));
        return output::json(&list.collect::<Vec<_>>());
    }
    for image in images {
        image.references.iter().for_each(|reference| output::line(&format!("Loaded image: {reference}")));
        if image.references.is_empty() {
            output::line(&format!("Loaded image ID: {}", image.id));
        }
    }
    Ok(())
}
