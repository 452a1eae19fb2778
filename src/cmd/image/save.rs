//! `rkbox image save`: images out of the store, into an archive that every tool loads, or into an OCI layout.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::store::{self, Image};
use crate::cmd::{Context, PlanArgs, carry, output};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::layout::REF_NAME;
use crate::image::{Compression, Config, Digest, Reference, Transport, entry};
use crate::plan::{Keep, Plan, Timings};
use crate::step::blob::BlobSource;
use crate::step::{Blob, Directory, Step, Tag};
use crate::sys::archive_write::{Content, Member, write};
use crate::sys::new_file::NewFile;
use crate::sys::{Host, file, signal, store as disk};

/// Arguments of `rkbox image save`.
#[derive(Clone, Debug, Args)]
pub struct SaveArgs {
    /// Names, which the archive keeps, or ids, which it keeps without a name
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Where the archive goes; - and nothing stand for standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// docker-archive[:FILE], oci-archive[:FILE] or oci:DIR; one image may be
    /// named anew: oci-archive:FILE:NAME. Without it a docker-archive, which
    /// is an oci-archive too
    #[arg(long, value_name = "TRANSPORT[:PATH[:NAME]]")]
    pub to: Option<String>,
    /// Compress the whole archive: gzip or zstd
    #[arg(long, value_name = "HOW")]
    pub compress: Option<How>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// How a whole archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[clap(rename_all = "lower")]
pub enum How {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// What is written, and where.
enum Target {
    Archive { docker: bool, file: Option<PathBuf>, name: Option<String> },
    Layout { dir: PathBuf, name: Option<String> },
}

/// An image and the names under which it is saved.
struct Saved {
    image: Image,
    names: Vec<String>,
}

/// Saves images; equal images give equal bytes.
pub fn run(cx: &Context, args: &SaveArgs) -> Result<u8> {
    let target = target(args)?;
    // The blobs of the store are read to the end.
    let _shared = disk::share(&cx.host.images())?;
    let saved = |name: &Option<String>| chosen(&cx.host, &args.images, name.as_deref()).doing(|| "cannot save images");
    match &target {
        Target::Layout { dir, name } => into_layout(cx, args, dir, &saved(name)?),
        Target::Archive { docker, file, name } => {
            if args.plan.explain || args.plan.timings {
                return Err(Fault::invalid("an archive is one file, and no plan").hint("--explain and --timings are for --to oci:DIR"));
            }
            let members = members(&cx.host, &saved(name)?, *docker)?;
            into_archive(args, file.as_deref(), &members).doing(|| "cannot save images")
        }
    }
}

fn target(args: &SaveArgs) -> Result<Target> {
    let wrong = |text: &str| {
        Fault::invalid(format!("images cannot be saved to {text:?}")).hint("use --to docker-archive:FILE, oci-archive:FILE or oci:DIR")
    };
    let file = |path: PathBuf| if path == Path::new("-") { None } else { Some(path) };
    let text = match args.to.as_deref() {
        None => return Ok(Target::Archive { docker: true, file: args.output.clone().and_then(file), name: None }),
        Some(kind @ ("docker-archive" | "oci-archive")) => {
            return Ok(Target::Archive { docker: kind == "docker-archive", file: args.output.clone().and_then(file), name: None });
        }
        Some(text) => text,
    };
    if args.output.is_some() {
        return Err(Fault::invalid("the place is named twice").hint("leave out --output, or the path of --to"));
    }
    match text.parse::<Transport>().map_err(|_| wrong(text))? {
        Transport::DockerArchive { path, reference } => Ok(Target::Archive { docker: true, file: file(path), name: reference }),
        Transport::OciArchive { path, tag } => Ok(Target::Archive { docker: false, file: file(path), name: tag }),
        Transport::Oci { .. } if args.compress.is_some() => {
            Err(Fault::invalid("a directory is not compressed").hint("leave --compress out"))
        }
        Transport::Oci { path, tag } => Ok(Target::Layout {
            dir: std::path::absolute(&path).map_err(|error| Fault::invalid(format!("{}: {error}", path.display())))?,
            name: tag,
        }),
        _ => Err(wrong(text)),
    }
}

/// The images that `texts` name, each once, with those of their names that were said.
fn chosen(host: &Host, texts: &[String], name: Option<&str>) -> Result<Vec<Saved>> {
    let mut all: Vec<Saved> = Vec::new();
    for text in texts {
        let image = store::find(host, text)?;
        let said = text.parse::<Reference>().ok().and_then(|reference| named(&image, &reference));
        let names = name.map(str::to_owned).or(said.map(|reference| reference.to_string()));
        match all.iter_mut().find(|other| other.image.id == image.id && other.image.manifest_digest == image.manifest_digest) {
            Some(same) => same.names.extend(names),
            None => all.push(Saved { image, names: names.into_iter().collect() }),
        }
    }
    if name.is_some() && all.len() > 1 {
        return Err(Fault::invalid(format!("one name cannot stand for {} images", all.len())).hint("leave NAME out of --to"));
    }
    for saved in &mut all {
        saved.names.sort();
        saved.names.dedup();
    }
    Ok(all)
}

/// The name of `image` that `reference` says: with a tag, and without the digest.
fn named(image: &Image, reference: &Reference) -> Option<Reference> {
    let fits = |known: &&Reference| known.repository() == reference.repository() && known.tag() == reference.tag() && known.tag().is_some();
    image.references.iter().find(fits).cloned()
}

/// Documents first, so that a reader of a stream knows what comes; then the blobs in the order of their digests.
fn members(host: &Host, all: &[Saved], docker: bool) -> Result<Vec<Member>> {
    let (mut blobs, mut entries, mut archived): (BTreeSet<Digest>, Vec<Value>, Vec<Value>) = Default::default();
    for Saved { image, names } in all {
        let config = Config::parse(&image.config_raw)?;
        blobs.extend(image.manifest.layers.iter().map(|layer| layer.digest.clone()));
        blobs.extend([image.manifest.config.digest.clone(), image.manifest.digest()]);
        let plain = json!({"mediaType": image.manifest.media_type, "digest": image.manifest.digest(), "size": image.manifest.raw.len(),
            "platform": config.platform()});
        let named = names.iter().map(|name| {
            let mut entry = plain.clone();
            // containerd and Docker read the first, skopeo and podman the second.
            entry["annotations"] = json!({"io.containerd.image.name": name, REF_NAME: name});
            entry
        });
        entries.extend(named);
        if names.is_empty() {
            entries.push(plain);
        }
        let layers: Vec<String> = image.manifest.layers.iter().map(|layer| layer.digest.member()).collect();
        archived.push(json!({"Config": image.manifest.config.digest.member(), "RepoTags": names, "Layers": layers}));
    }
    let text = |name: &str, value: &Value| Member { name: name.to_owned(), content: Content::Bytes(value.to_string().into_bytes()) };
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
    let mut members = vec![text("oci-layout", &json!({"imageLayoutVersion": "1.0.0"})), text("index.json", &index)];
    if docker {
        members.push(text("manifest.json", &Value::from(archived)));
    }
    let dirs: BTreeSet<String> = blobs.iter().map(|digest| format!("blobs/{}/", digest.algorithm().name())).collect();
    let dirs = std::iter::once("blobs/".to_owned()).chain(dirs);
    members.extend(dirs.map(|name| Member { name, content: Content::Directory }));
    members.extend(
        blobs
            .into_iter()
            .map(|digest| Member { name: digest.member(), content: Content::Blob { path: digest.blob(&host.images()), digest } }),
    );
    Ok(members)
}

fn into_archive(args: &SaveArgs, path: Option<&Path>, members: &[Member]) -> Result<u8> {
    let compression = match args.compress {
        None => Compression::None,
        Some(How::Gzip) => Compression::Gzip,
        Some(How::Zstd) => Compression::Zstd,
    };
    // Nothing has to be taken back: the file has no name until it is whole.
    signal::restore()?;
    if let Some(path) = path {
        let mut new = NewFile::begin(path)?;
        write(std::io::BufWriter::with_capacity(1 << 20, &mut new), compression, members)?;
        new.commit()?;
        return Ok(0);
    }
    let out = std::io::stdout();
    if out.is_terminal() {
        return Err(Fault::invalid("an archive is not for a terminal").hint("name a file with --output, or redirect standard output"));
    }
    write(std::io::BufWriter::with_capacity(1 << 20, out.lock()), compression, members)?;
    Ok(0)
}

/// Writes an OCI layout, or adds to one that is there, by the same steps as a load does to the store.
fn into_layout(cx: &Context, args: &SaveArgs, dir: &Path, all: &[Saved]) -> Result<u8> {
    let mut timings = Timings::start();
    let box_id = format!("image-{}", std::process::id());
    let command = format!("save images to {}", dir.display());
    carry::carry(cx, args.plan, &mut timings, |_| {
        let steps = layout_steps(&cx.host, dir, all).doing(|| format!("cannot {command}"))?;
        Ok(Plan::new(box_id.clone(), command.clone(), steps).kept(Keep::Result))
    })?;
    carry::report(cx, args.plan, timings);
    if cx.format == output::Format::Json && !args.plan.explain {
        output::json(&all.iter().map(|saved| json!({"id": saved.image.id, "names": saved.names})).collect::<Vec<_>>())?;
    }
    Ok(0)
}

fn layout_steps(host: &Host, dir: &Path, all: &[Saved]) -> Result<Vec<Step>> {
    if file::exists(dir)? && !file::list(dir)?.is_empty() && !file::exists(&dir.join("index.json"))? {
        let fault = Fault::new(Kind::FailedPrecondition, format!("{} is not empty, and no OCI layout", dir.display()));
        return Err(fault.hint("name a new directory"));
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut tags: Vec<Step> = Vec::new();
    for Saved { image, names } in all {
        let config = Config::parse(&image.config_raw)?;
        blobs.extend(image.manifest.layers.iter().map(|layer| (layer.digest.clone(), layer.size)));
        blobs.extend([
            (image.manifest.config.digest.clone(), config.raw.len() as u64),
            (image.manifest.digest(), image.manifest.raw.len() as u64),
        ]);
        let manifest = entry::describe(&image.manifest, &config, None).to_string();
        let names = if names.is_empty() { vec![String::new()] } else { names.clone() };
        tags.extend(names.into_iter().map(|reference| Tag { store: dir.to_path_buf(), reference, manifest: manifest.clone() }.into()));
    }
    let homes: BTreeSet<PathBuf> = blobs.keys().map(|digest| digest.algorithm().blobs(dir)).collect();
    for new in [dir.to_path_buf(), dir.join("blobs")].into_iter().chain(homes) {
        if !file::exists(&new)? {
            steps.push(Directory::new(new, 0o755).into());
        }
    }
    for (digest, size) in blobs {
        let source = BlobSource::Span { path: digest.blob(&host.images()), offset: 0 };
        steps.push(Blob { store: dir.to_path_buf(), digest: digest.to_string(), size, source }.into());
    }
    steps.append(&mut tags);
    Ok(steps)
}
