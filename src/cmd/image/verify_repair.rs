//! Repairing what `rkbox image verify` found, layer by layer: one that cannot be repaired does not stop the others.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::pull::{self, Wanted};
use super::registry_args::{RegistryArgs, Talk};
use super::store;
use super::verify::{Damaged, Problem, Scope, blob_problem, verify_layer};
use crate::cmd::{Context, PlanArgs, carry, output};
use crate::fault::{Fault, Result};
use crate::image::entry::Origin;
use crate::image::layer_stamp::LIST;
use crate::image::layout::Descriptor;
use crate::image::{Digest, Reference};
use crate::plan::{self, Keep, Plan, Timings};
use crate::step::{Layer, Repair, Step};
use crate::sys::registry::Session;
use crate::sys::tree_repair;

/// What some entries of the index lead to, and where it may come from again.
#[derive(Debug)]
pub(super) struct Subject {
    /// All names of the manifest.
    pub names: Vec<Reference>,
    /// The first entry.
    pub entry: Descriptor,
    /// Where the image came from.
    pub origin: Option<Origin>,
    /// Manifest, configuration, layers; of an image that cannot be read, the manifest alone.
    pub blobs: BTreeSet<Digest>,
    /// Whether its documents can be read.
    pub readable: bool,
}

impl Subject {
    fn is_bad(&self, blobs: &[Problem]) -> bool {
        let bad = |problem: &Problem| !problem.repaired && problem.blob.as_ref().is_some_and(|blob| self.blobs.contains(blob));
        !self.readable || blobs.iter().any(bad)
    }

    /// What a registry may know the manifest as: the digests under which it was pulled, its own before that of its index.
    fn remotes(&self) -> Vec<Reference> {
        match &self.origin {
            Some(origin) => origin.repo_digests.iter().rev().filter_map(|text| text.parse().ok()).collect(),
            // Another tool wrote the entry: only its name tells where it may be.
            None => self.names.first().map(|name| name.at(&self.entry.digest)).into_iter().collect(),
        }
    }

    fn wanted(&self, plan: PlanArgs) -> Wanted {
        let platform = self.entry.platform.clone();
        Wanted { platform, names: self.names.clone(), nameless: self.names.is_empty(), plan, ..Wanted::default() }
    }

    /// Says how an image comes back that no registry has.
    fn tell(&self) {
        let name = self.names.first().map_or_else(|| self.entry.digest.to_string(), ToString::to_string);
        match &self.origin {
            Some(origin) => output::note(&format!(
                "warning: image {name} came from {source}, and not from a registry: rkbox image load {source} brings it back",
                source = origin.source
            )),
            None => output::note(&format!("warning: nobody knows where image {name} came from: load it again")),
        }
    }
}

/// Fetches damaged manifests, configurations and layers again from the registries of their images, and marks those that came. What does
/// not come is left as it was, and said.
pub(super) fn refetch(cx: &Context, args: &RegistryArgs, scope: &mut Scope, blobs: &mut [Problem]) -> Result<()> {
    let session = args.session(1, Talk::Progress)?;
    for subject in &scope.subjects {
        if !subject.is_bad(blobs) {
            continue;
        }
        let (remotes, mut faults) = (subject.remotes(), Vec::new());
        for reference in &remotes {
            match pull_one(cx, &session, reference, &subject.wanted(PlanArgs::default())) {
                Ok(()) => break,
                Err(fault) => faults.push(fault),
            }
        }
        if faults.len() == remotes.len() {
            faults.iter().for_each(output::fault);
            subject.tell();
        }
        for problem in blobs.iter_mut().chain(&mut scope.problems) {
            let Some(blob) = problem.blob.as_ref().filter(|blob| subject.blobs.contains(*blob)) else { continue };
            problem.repaired = match scope.blobs.get(blob) {
                _ if !subject.readable && store::open(&cx.host, &subject.entry).is_err() => false,
                Some(size) => blob_problem(&cx.host, blob, *size, false)?.is_none(),
                None => true,
            };
        }
    }
    Ok(())
}

fn pull_one(cx: &Context, session: &Session, reference: &Reference, wanted: &Wanted) -> Result<()> {
    let outcomes = pull::pull_all(cx, session, std::slice::from_ref(reference), wanted);
    outcomes.into_iter().try_for_each(|(_, outcome)| outcome.map(drop))
}

/// Prints the script of all repairs: first the pulls that bring damaged blobs back, then the layers.
pub(super) fn explain(cx: &Context, args: &RegistryArgs, scope: &Scope, (blobs, damaged): (&[Problem], &[Damaged])) -> Result<u8> {
    for subject in scope.subjects.iter().filter(|subject| subject.is_bad(blobs)) {
        let Some(reference) = subject.remotes().into_iter().next() else {
            subject.tell();
            continue;
        };
        let plan = PlanArgs { explain: true, ..PlanArgs::default() };
        pull_one(cx, &args.session(1, Talk::Quiet)?, &reference, &subject.wanted(plan))?;
    }
    let steps: Vec<Step> = damaged.iter().filter_map(|layer| repair_of(scope, layer).transpose()).collect::<Result<_>>()?;
    let plan = Plan::new("image-verify".to_owned(), "repair layers".to_owned(), steps);
    carry::show(&plan::explain::explain(&plan, &cx.host)?);
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
