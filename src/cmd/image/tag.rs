//! `rkbox image tag`, `untag`, `pin` and `unpin`: changes of index entries, each one atomic.

use clap::Args;
use serde_json::Value;

use super::catalog::Catalog;
use super::store;
use crate::cmd::{Context, PlanArgs, carry, output};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::{Config, Reference, entry};
use crate::plan::{Keep, Plan, Timings};
use crate::step::amend::{Amend, Change};
use crate::step::{Step, Tag};
use crate::sys::Host;

/// Arguments of `rkbox image tag`.
#[derive(Clone, Debug, Args)]
pub struct TagArgs {
    /// Name, id or unique start of an id
    pub image: String,
    /// The names it gets; another image that has one loses it
    #[arg(required = true, value_name = "NAME[:TAG]")]
    pub names: Vec<Reference>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Arguments of `rkbox image untag`.
#[derive(Clone, Debug, Args)]
pub struct UntagArgs {
    /// Name, id or unique start of an id
    pub image: String,
    /// The names it loses; all of them when none is given
    #[arg(value_name = "NAME[:TAG]")]
    pub names: Vec<Reference>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Arguments of `rkbox image pin` and `unpin`.
#[derive(Clone, Debug, Args)]
pub struct PinArgs {
    /// Names, ids or unique starts of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// Gives an image more names.
pub fn tag(cx: &Context, args: &TagArgs) -> Result<u8> {
    if let Some(name) = args.names.iter().find(|name| name.digest().is_some()) {
        return Err(Fault::invalid(format!("name {name} has a digest")).hint("an image is named with a tag"));
    }
    carry_out(cx, args.plan, format!("tag image {:?}", args.image), |host| {
        let catalog = Catalog::read(host)?;
        let manifest = bare_entry(host, &catalog, &args.image)?.to_string();
        let step = |name: &Reference| Tag { store: host.images(), reference: name.to_string(), manifest: manifest.clone() }.into();
        Ok(args.names.iter().map(step).collect())
    })
}

/// The entry of an image without its name, with the facts that rkbox notes.
fn bare_entry(host: &Host, catalog: &Catalog, text: &str) -> Result<Value> {
    let first = catalog.choose(text)?.first().copied().unwrap_or_default();
    let known = &catalog.index.entries()[first];
    if entry::facts(known).is_some() {
        return Ok(entry::with_name(catalog.index.raw_entries()[first].clone(), None));
    }
    let image = store::open(host, known)?;
    Ok(entry::describe(&image.manifest, &Config::parse(&image.config_raw)?, None))
}

/// Takes names away and keeps the image; one that has no name left stays until it is pruned.
pub fn untag(cx: &Context, args: &UntagArgs) -> Result<u8> {
    let command = format!("untag image {:?}", args.image);
    carry_out(cx, args.plan, command.clone(), |host| {
        let catalog = Catalog::read(host)?;
        let image = catalog.find(&args.image)?;
        if let Some(other) = args.names.iter().find(|name| !image.references.contains(name)) {
            return Err(Fault::not_found(format!("image {} is not called {other}", image.short())));
        }
        let goes = |nth: &usize| {
            let name = store::reference_of(&catalog.index.entries()[*nth]);
            name.is_some_and(|name| args.names.is_empty() || args.names.contains(&name))
        };
        let (gone, mut left): (Vec<usize>, Vec<usize>) = image.entries.iter().copied().partition(goes);
        let mut changes = Vec::new();
        for at in gone {
            let old = catalog.index.raw_entries()[at].clone();
            // The last entry of a manifest stays, without a name.
            let digest = &catalog.index.entries()[at].digest;
            let new = match left.iter().any(|other| catalog.index.entries()[*other].digest == *digest) {
                true => None,
                false => {
                    left.push(at);
                    Some(entry::with_pin(entry::with_name(old.clone(), None), image.pinned))
                }
            };
            changes.push(Change { at, old, new });
        }
        Ok(amendment(host, &command, changes))
    })
}

/// Pins or unpins images: a pinned one survives `prune`, and `rm` without `--force`.
pub fn pin(cx: &Context, args: &PinArgs, pinned: bool) -> Result<u8> {
    let command = format!("{} image {}", if pinned { "pin" } else { "unpin" }, args.images.join(" "));
    carry_out(cx, args.plan, command.clone(), |host| {
        let catalog = Catalog::read(host)?;
        let mut places = std::collections::BTreeSet::new();
        for text in &args.images {
            places.extend(&catalog.find(text)?.entries);
        }
        let change = |at: usize| {
            let old = catalog.index.raw_entries()[at].clone();
            let new = entry::with_pin(old.clone(), pinned);
            (new != old).then_some(Change { at, old, new: Some(new) })
        };
        Ok(amendment(host, &command, places.into_iter().filter_map(change).collect()))
    })
}

fn amendment(host: &Host, phrase: &str, changes: Vec<Change>) -> Vec<Step> {
    if changes.is_empty() {
        return Vec::new();
    }
    vec![Amend { store: host.images(), phrase: phrase.to_owned(), changes }.into()]
}

fn carry_out(cx: &Context, args: PlanArgs, command: String, steps: impl Fn(&Host) -> Result<Vec<Step>>) -> Result<u8> {
    let mut timings = Timings::start();
    // A journal that a dead process of the same pid left is unwound first by the engine.
    let box_id = format!("image-{}", std::process::id());
    carry::carry(cx, args, &mut timings, |_| {
        let steps = steps(&cx.host).doing(|| format!("cannot {command}"))?;
        Ok(Plan::new(box_id.clone(), command.clone(), steps).kept(Keep::Result))
    })
    .map_err(|fault| if fault.kind() == Kind::Conflict { fault.hint("try again") } else { fault })?;
    carry::report(cx, args, timings);
    if cx.format == output::Format::Json && !args.explain {
        output::json(&serde_json::json!({"done": command}))?;
    }
    Ok(0)
}
