//! Repairing what `rkbox image verify` found, layer by layer: one that cannot be repaired does not stop the others.

use std::path::PathBuf;

use super::pull::{self, Wanted};
use super::registry_args::{RegistryArgs, Talk};
use super::store::LayerRef;
use super::verify::{Damaged, Problem, Scope, blob_problem, verify_layer};
use crate::cmd::{Context, carry, output};
use crate::fault::{Fault, Result};
use crate::image::Digest;
use crate::image::layer_stamp::LIST;
use crate::plan::{self, Keep, Plan, Timings};
use crate::step::{Layer, Repair, Step};
use crate::sys::{Host, file, tree_repair};

/// Fetches damaged layers' blobs again from the registries of their images, and marks those that came. A blob that does not come is
/// left as it was.
pub(super) fn refetch(cx: &Context, args: &RegistryArgs, scope: &Scope, blobs: &mut [Problem]) -> Result<()> {
    let session = args.session(1, Talk::Progress)?;
    for image in &scope.images {
        let Some(name) = image.references.first() else { continue };
        let of_image = |problem: &Problem| {
            let is_bad = |layer: &LayerRef| problem.blob.as_ref().is_some_and(|blob| blob.as_str() == layer.digest);
            !problem.repaired && image.layers.iter().any(is_bad)
        };
        let bad: Vec<&mut Problem> = blobs.iter_mut().filter(|problem| of_image(problem)).collect();
        if bad.is_empty() {
            continue;
        }
        let mut aside = Vec::new();
        for blob in bad.iter().filter_map(|problem| problem.blob.as_ref()) {
            let path = blob.blob(&cx.host.images());
            // What a death leaves of it is swept as an unfinished blob.
            let hidden = path.with_file_name(format!(".partial-{}-{}-damaged", blob.hex(), std::process::id()));
            if file::exists(&path)? {
                file::rename(&path, &hidden)?;
                aside.push((hidden, path));
            }
        }
        let reference = format!("{}@{}", name.repository(), image.manifest_digest).parse()?;
        let wanted = Wanted { names: image.references.clone(), ..Wanted::default() };
        for (_, outcome) in pull::pull_all(cx, &session, &[reference], &wanted) {
            if let Err(fault) = outcome {
                output::fault(&fault);
            }
        }
        for (hidden, path) in aside {
            match file::exists(&path)? {
                true => drop(file::remove_file(&hidden)?),
                false => file::rename(&hidden, &path)?,
            }
        }
        for problem in bad {
            let size = problem.blob.as_ref().and_then(|blob| scope.blobs.get(blob)).copied().unwrap_or(0);
            if let Some(blob) = &problem.blob {
                problem.repaired = blob_problem(&cx.host, blob, size, false)?.is_none();
            }
        }
    }
    Ok(())
}

/// Prints the script of all repairs.
pub(super) fn explain(host: &Host, scope: &Scope, damaged: &[Damaged]) -> Result<u8> {
    let steps = damaged.iter().filter_map(|layer| repair_of(scope, layer).transpose()).collect::<Result<_>>()?;
    let plan = Plan::new("image-verify".to_owned(), "repair layers".to_owned(), steps);
    carry::show(&plan::explain::explain(&plan, host)?);
    Ok(0)
}

/// Repairs each damaged layer and marks what was put right.
pub(super) fn repair(cx: &Context, scope: &Scope, damaged: &mut [Damaged]) {
    for layer in damaged {
        match repair_one(cx, scope, layer) {
            Ok(()) => layer.problems.iter_mut().for_each(|problem| problem.repaired = true),
            Err(fault) => output::fault(&fault),
        }
    }
}

fn repair_one(cx: &Context, scope: &Scope, damaged: &Damaged) -> Result<()> {
    let (Some(step), Some(layer)) = (repair_of(scope, damaged)?, scope.layers.get(&damaged.chain)) else { return Ok(()) };
    let box_id = format!("image-{}", std::process::id());
    let command = format!("repair layer {}", damaged.chain.short());
    let plan = |_: &mut Timings| Ok(Plan::new(box_id.clone(), command.clone(), vec![step.clone()]).kept(Keep::Result));
    plan::attempt(&cx.host, &mut Timings::start(), plan)?;
    match verify_layer(&damaged.chain, layer, false)? {
        (None, _) => Ok(()),
        (Some(left), _) => Err(Fault::new(
            crate::fault::Kind::DataLoss,
            format!("layer {} still has {} problems", damaged.chain.short(), left.problems.len()),
        )),
    }
}

fn repair_of(scope: &Scope, damaged: &Damaged) -> Result<Option<Step>> {
    let Some(layer) = scope.layers.get(&damaged.chain).cloned() else { return Ok(None) };
    let by_path = |path: &PathBuf| -> Option<Layer> {
        let chain = Digest::from_file_name(&path.file_name()?.to_string_lossy())?;
        scope.layers.get(&chain).cloned()
    };
    let below = layer.lowers.iter().filter_map(by_path).collect();
    let damages = match damaged.found.as_slice() {
        [] => Vec::new(),
        found => tree_repair::Repair::of(&layer.path.join(LIST), found)?.damages(),
    };
    Ok(Some(Repair { layer, below, damages }.into()))
}
