//! `rkbox image verify`: blobs against their digests, unpacked files against the lists that were taken when they were unpacked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Args;
use serde::Serialize;

use super::catalog::Catalog;
use super::registry_args::RegistryArgs;
use super::store::{self, Image};
use super::verify_index;
use super::verify_repair::{self as mending, Subject};
use crate::cmd::{Context, Format, output};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::layer_stamp::{LIST, TREE};
use crate::image::{Digest, entry};
use crate::step::Layer;
use crate::step::layer::find_stamp;
use crate::sys::tree_verify::{self, Depth, Finding};
use crate::sys::{Host, blob_seal, file, store as disk};

/// Arguments of `rkbox image verify`.
#[derive(Clone, Debug, Default, Args)]
pub struct VerifyArgs {
    /// Names, ids or unique starts of ids; all images when none is given
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Read only files that were changed since they were unpacked, and no blobs but their
    /// sizes: what a disk did by itself is not seen
    #[arg(long)]
    pub quick: bool,
    /// Put damaged files back from the stored blobs, and damaged manifests,
    /// configurations and layers from the registry of their image
    #[arg(long)]
    pub repair: bool,
    /// Print a POSIX shell script that repairs the same, and do nothing
    #[arg(long, requires = "repair")]
    pub explain: bool,
    /// Where damaged blobs are fetched from.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// Digest of the blob, for a problem of a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
    /// Chain id of the layer, for a problem of a layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// Path in the layer; `None` when it is the whole blob or layer.
    pub path: Option<String>,
    /// `missing`, `size`, `content`, `list`, `document`, or what is wrong with a path.
    pub problem: String,
    /// What was found, and what should be.
    pub detail: String,
    /// Whether it was put right.
    pub repaired: bool,
}

/// What is verified: everything that the chosen images need, once.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Size by digest.
    pub blobs: BTreeMap<Digest, u64>,
    /// Layers by chain id.
    pub layers: BTreeMap<Digest, Layer>,
    /// How many images can be read.
    pub images: usize,
    /// What may be pulled again.
    pub subjects: Vec<Subject>,
    /// Documents that cannot be read.
    pub problems: Vec<Problem>,
}

/// A layer and what is wrong with it.
pub(super) struct Damaged {
    pub chain: Digest,
    /// Empty when the layer itself, its stamp or its list is not usable.
    pub found: Vec<Finding>,
    pub problems: Vec<Problem>,
}

/// Runs `rkbox image verify`.
///
/// *Errors:* `DataLoss` when something is wrong and stays so.
pub fn run(cx: &Context, args: &VerifyArgs) -> Result<u8> {
    let host = &cx.host;
    let _shared = disk::share(&host.images())?;
    let mut lost = verify_index::find(host)?;
    match &mut lost {
        Some(lost) if args.explain => return lost.explain(host),
        Some(lost) if args.repair => lost.repair(cx)?,
        Some(lost) if lost.hides_images() => {
            let scope = Scope { problems: std::mem::take(&mut lost.problems), ..Scope::default() };
            return report(cx, &scope, 0);
        }
        _ => {}
    }
    let mut scope = scope(host, &args.images)?;
    let mut blobs = damaged_blobs(host, &scope, args.quick)?;
    if args.repair && !args.explain && !(blobs.is_empty() && scope.problems.is_empty()) {
        mending::refetch(cx, &args.registry, &mut scope, &mut blobs)?;
        if scope.problems.iter().any(|problem| problem.repaired) {
            // Images that can be read now have blobs and layers of which nobody knew.
            let told = std::mem::take(&mut scope.problems);
            scope = self::scope(host, &args.images)?;
            scope.problems.retain(|new| !told.iter().any(|old| old.blob == new.blob));
            let mut new = damaged_blobs(host, &scope, args.quick)?;
            new.retain(|new| !blobs.iter().any(|old| old.blob == new.blob));
            mending::refetch(cx, &args.registry, &mut scope, &mut new)?;
            blobs.append(&mut new);
            scope.problems.extend(told);
        }
    }
    let (mut damaged, mut files) = (Vec::new(), 0);
    for (chain, layer) in &scope.layers {
        let (found, count) = verify_layer(chain, layer, args.quick).doing(|| format!("verifying layer {chain}"))?;
        files += count;
        damaged.extend(found);
    }
    if args.explain {
        return mending::explain(cx, &args.registry, &scope, (&blobs, &damaged));
    }
    if args.repair {
        mending::repair(cx, &scope, &mut damaged);
    }
    scope.problems.extend(lost.into_iter().flat_map(|lost| lost.problems));
    scope.problems.append(&mut blobs);
    scope.problems.extend(damaged.into_iter().flat_map(|layer| layer.problems));
    report(cx, &scope, files)
}

fn scope(host: &Host, images: &[String]) -> Result<Scope> {
    let catalog = Catalog::read(host)?;
    let entries: Vec<usize> = match images {
        [] => (0..catalog.index.entries().len()).collect(),
        some => some.iter().map(|text| catalog.choose(text)).collect::<Result<Vec<_>>>()?.concat(),
    };
    let mut scope = Scope::default();
    for entry in entries.iter().map(|&nth| &catalog.index.entries()[nth]) {
        scope.blobs.insert(entry.digest.clone(), entry.size);
        if scope.subjects.iter().any(|known| known.entry.digest == entry.digest) {
            continue;
        }
        let twins = catalog.index.entries().iter().filter(|other| other.digest == entry.digest);
        let names = twins.clone().filter_map(store::reference_of).collect();
        // Not that of the image: another manifest of it may be in another registry.
        let origin = twins.filter_map(entry::origin).reduce(|mut first, other| {
            first.repo_digests.extend(other.repo_digests);
            first
        });
        let mut subject = Subject { names, origin, entry: entry.clone(), blobs: [entry.digest.clone()].into(), readable: true };
        match store::open(host, entry) {
            Ok(image) => subject.blobs.extend(scope.add(host, &image)?),
            Err(fault) => {
                subject.readable = false;
                scope.problems.push(Problem {
                    blob: Some(entry.digest.clone()),
                    layer: None,
                    path: None,
                    problem: "document".to_owned(),
                    detail: fault.to_string(),
                    repaired: false,
                });
            }
        }
        scope.subjects.push(subject);
    }
    Ok(scope)
}

impl Scope {
    /// Adds what an image needs; answers its blobs.
    fn add(&mut self, host: &Host, image: &Image) -> Result<Vec<Digest>> {
        let mut blobs = vec![image.manifest.digest(), image.manifest.config.digest.clone()];
        self.blobs.insert(image.manifest.digest(), image.manifest.raw.len() as u64);
        self.blobs.insert(image.manifest.config.digest.clone(), image.manifest.config.size);
        let mut lowers: Vec<PathBuf> = Vec::new();
        for layer in &image.layers {
            let (digest, chain): (Digest, Digest) = (layer.digest.parse()?, layer.chain_id.parse()?);
            let path = host.layers().join(chain.hex());
            let blob = digest.blob(&host.images());
            let (media_type, diff_id) = (layer.media.clone(), layer.diff_id.clone());
            let unpacked =
                Layer { blob, media_type, digest: layer.digest.clone(), size: layer.size, diff_id, path, lowers: lowers.clone() };
            lowers.insert(0, unpacked.path.clone());
            blobs.push(digest.clone());
            self.blobs.insert(digest, layer.size);
            self.layers.insert(chain, unpacked);
        }
        self.images += 1;
        Ok(blobs)
    }
}

/// Reads all blobs, on all cores; with `quick` only their sizes.
fn damaged_blobs(host: &Host, scope: &Scope, quick: bool) -> Result<Vec<Problem>> {
    let blobs: Vec<(&Digest, u64)> = scope.blobs.iter().map(|(digest, size)| (digest, *size)).collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new((Vec::new(), None)));
    let work = || {
        while let Some((digest, size)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let answer = blob_problem(host, digest, *size, quick);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(problem) => found.0.extend(problem),
                Err(fault) => drop(found.1.get_or_insert(fault)),
            }
        }
    };
    std::thread::scope(|threads| {
        (1..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(threads.spawn(work)));
        work();
    });
    let (mut problems, fault) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    problems.sort_by(|one, two| one.blob.cmp(&two.blob));
    fault.map_or(Ok(problems), Err)
}

/// What is wrong with one blob.
pub(super) fn blob_problem(host: &Host, digest: &Digest, size: u64, quick: bool) -> Result<Option<Problem>> {
    let path = digest.blob(&host.images());
    let problem = |problem: &str, detail: String| {
        let (blob, problem) = (Some(digest.clone()), problem.to_owned());
        Ok(Some(Problem { blob, layer: None, path: None, problem, detail, repaired: false }))
    };
    match disk::find_blob_size(&path) {
        Ok(None) => problem("missing", String::new()),
        Ok(Some(found)) if found != size => problem("size", format!("{found} bytes, not {size}")),
        Err(fault) if fault.kind() == Kind::FailedPrecondition => problem("type", fault.to_string()),
        Err(fault) => Err(fault),
        Ok(Some(_)) if quick => Ok(None),
        Ok(Some(_)) => match disk::digest_blob(&path, digest.algorithm())? {
            found if found == *digest => Ok(None),
            found => {
                // So that a pull or a load does not take it for good.
                blob_seal::break_seal(&path);
                problem("content", found.to_string())
            }
        },
    }
}

/// What is wrong with one layer, and how many paths it has.
pub(super) fn verify_layer(chain: &Digest, layer: &Layer, quick: bool) -> Result<(Option<Damaged>, u64)> {
    let whole = |problem: &str, detail: String| {
        let (layer, problem) = (Some(chain.clone()), problem.to_owned());
        let problems = vec![Problem { blob: None, layer, path: None, problem, detail, repaired: false }];
        Ok((Some(Damaged { chain: chain.clone(), found: Vec::new(), problems }), 0))
    };
    if !file::exists(&layer.path.join(TREE))? {
        return whole("missing", "the layer is not unpacked".to_owned());
    }
    let stamp = match find_stamp(&layer.path) {
        Ok(Some(stamp)) if stamp.diff_id == layer.diff_id => stamp,
        Ok(Some(stamp)) => return whole("stamp", format!("it is of layer {}", stamp.diff_id)),
        Ok(None) => return whole("stamp", "it has none".to_owned()),
        Err(fault) if matches!(fault.kind(), Kind::DataLoss | Kind::InvalidArgument) => return whole("stamp", fault.to_string()),
        Err(fault) => return Err(fault),
    };
    let Some(digest) = &stamp.list else { return whole("list", "it was unpacked without one".to_owned()) };
    let depth = stamp.sealed_at().filter(|_| quick).map_or(Depth::Whole, Depth::ChangedAfter);
    let (found, count) = match tree_verify::verify(&layer.path.join(TREE), &layer.path.join(LIST), digest, depth) {
        Ok(answer) => answer,
        Err(fault) if matches!(fault.kind(), Kind::DataLoss | Kind::NotFound | Kind::InvalidArgument) => {
            return whole("list", fault.to_string());
        }
        Err(fault) => return Err(fault),
    };
    let problem = |finding: &Finding| Problem {
        blob: None,
        layer: Some(chain.clone()),
        path: Some(finding.path.to_string()),
        problem: finding.flaw.to_string(),
        detail: finding.detail.clone(),
        repaired: false,
    };
    let problems: Vec<Problem> = found.iter().map(problem).collect();
    Ok(((!problems.is_empty()).then(|| Damaged { chain: chain.clone(), found, problems }), count))
}

fn report(cx: &Context, scope: &Scope, files: u64) -> Result<u8> {
    let (problems, blobs, layers) = (&scope.problems, scope.blobs.len(), scope.layers.len());
    let left = problems.iter().filter(|problem| !problem.repaired).count();
    match cx.format {
        Format::Json => output::json(&serde_json::json!({
            "images": scope.images, "blobs": blobs, "layers": layers, "files": files, "problems": problems,
        }))?,
        Format::Table => {
            let row = |problem: &Problem| {
                let of = |digest: &Option<Digest>| digest.as_ref().map_or("-".to_owned(), |digest| digest.short().to_owned());
                let where_ = if problem.layer.is_some() { of(&problem.layer) } else { of(&problem.blob) };
                let path = problem.path.clone().unwrap_or_else(|| if problem.blob.is_some() { "(blob)" } else { "(layer)" }.to_owned());
                let detail = if problem.repaired { "repaired".to_owned() } else { problem.detail.clone() };
                vec![where_, path, problem.problem.clone(), detail]
            };
            if !problems.is_empty() {
                output::table(&["LAYER", "PATH", "PROBLEM", "DETAIL"], &problems.iter().map(row).collect::<Vec<_>>());
            }
            output::note(&format!("verified {blobs} blobs and {files} files of {layers} layers: {} problems", problems.len()));
        }
    }
    if left == 0 {
        return Ok(0);
    }
    let fault = Fault::new(Kind::DataLoss, format!("{left} problems in the image store"));
    let damaged_blob = problems.iter().any(|problem| !problem.repaired && problem.blob.is_some());
    Err(fault.hint(match (damaged_blob, problems.iter().any(|problem| problem.repaired)) {
        (true, _) => "rkbox image verify --repair fetches a damaged blob from the registry of its image; one from an archive comes when you load it again",
        (false, true) => "what could not be repaired is said above",
        (false, false) => "rkbox image verify --repair puts back what is bad",
    }))
}
