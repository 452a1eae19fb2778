//! `rkbox image pull`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use serde_json::{Value, json};

use super::LoadArgs;
use super::catalog::Catalog;
use super::load::home_dirs;
use super::need::{self, NeedArgs};
use super::registry_args::{RegistryArgs, Talk};
use super::remote::{self, Remote};
use crate::cmd::{Context, PlanArgs, carry, output};
use crate::fault::{Context as _, Fault, Faults, Result};
use crate::image::{Platform, Reference};
use crate::plan::{Keep, Plan, Timings};
use crate::step::Home;
use crate::sys::registry::Session;
use crate::sys::{Host, signal, store};

const WHERE: &str = "\
Where an image is fetched from, in this order: --mirror; HOST/hosts.toml below
/etc/containerd/certs.d, /etc/containers/certs.d or /etc/docker/certs.d, the
first that is there; without one the [[registry]] of registries.conf that fits;
without one the registry itself, on this machine by plain HTTP before HTTPS.
Credentials: --creds, else --authfile or REGISTRY_AUTH_FILE, else the auth.json
of podman and skopeo and the config.json of docker, with their helpers.
Proxies: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.
What a failed or killed pull has fetched is kept: the next one goes on from
there, and rkbox gc takes it away. Layers leave --keep-free of the file system
free (5%): the one that would take more is refused.";

/// Arguments of `rkbox image pull`.
#[derive(Debug, Args)]
#[command(after_help = WHERE)]
pub struct PullArgs {
    /// [docker://][REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(required_unless_present = "need", value_name = "REFERENCE")]
    pub references: Vec<String>,
    /// Images that a cluster needs, besides; those that are in the store stay
    /// as they are.
    #[command(flatten)]
    pub need: NeedArgs,
    /// Platform to choose from an image for several ones
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Print only the ids of the images
    #[arg(short, long)]
    pub quiet: bool,
    /// How many blobs, and how many images, come at the same time
    #[arg(short, long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// `--creds` and its like.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// What is to be pulled, and how.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The host's when absent.
    pub platform: Option<Platform>,
    /// Names instead of the reference.
    pub names: Vec<Reference>,
    /// No name at all.
    pub nameless: bool,
    /// How many images at the same time; 0 is one.
    pub jobs: usize,
    /// `--explain`, `--timings`.
    pub plan: PlanArgs,
}

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// As it was asked for.
    pub reference: Reference,
    /// `sha256:HEX`.
    pub id: String,
    /// `--format json` prints this.
    pub facts: Value,
    /// Whether nothing had to be fetched and nothing was changed.
    pub up_to_date: bool,
}

/// How many blobs come at the same time, when nothing is said of it.
pub const JOBS: usize = 6;

/// Reads a reference, with or without skopeo's name of the transport.
pub fn reference(text: &str) -> Result<Reference> {
    text.strip_prefix("docker://").unwrap_or(text).parse()
}

/// Runs `rkbox image pull`.
pub fn run(cx: &Context, args: &PullArgs) -> Result<u8> {
    let mut references = Vec::new();
    for text in &args.references {
        let reference = reference(text)?;
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    let mut faults = Faults::default();
    let there = needed(cx, args, &mut references, &mut faults)?;
    let talk = if args.quiet || args.plan.explain { Talk::Quiet } else { Talk::Progress };
    let session = args.registry.session(usize::from(args.jobs), talk)?;
    let wanted = Wanted { platform: args.platform.clone(), jobs: usize::from(args.jobs), plan: args.plan, ..Wanted::default() };
    let mut facts = Vec::new();
    let (mut new, mut same, mut failed) = (0, 0, 0);
    let outcomes = pull_all(cx, &session, &references, &wanted).into_iter().map(|(_, outcome)| outcome);
    for outcome in outcomes.chain(there.into_iter().map(|pulled| Ok(Some(pulled)))) {
        failed += usize::from(outcome.is_err());
        let Some(pulled) = faults.keep(outcome).flatten() else { continue };
        *(if pulled.up_to_date { &mut same } else { &mut new }) += 1;
        match (cx.format, args.quiet) {
            (output::Format::Json, _) => facts.push(pulled.facts),
            (output::Format::Table, true) => output::line(&pulled.id),
            (output::Format::Table, false) if pulled.up_to_date => output::line(&format!("Image is up to date: {}", pulled.reference)),
            (output::Format::Table, false) => output::line(&format!("Pulled image: {}", pulled.reference)),
        }
    }
    if args.need.is_asked() && !args.quiet && !args.plan.explain {
        output::note(&format!("{} images: {new} pulled, {same} already there, {failed} failed", new + same + failed));
    }
    if cx.format == output::Format::Json && !args.plan.explain {
        output::json(&facts)?;
    }
    faults.or(0)
}

/// Adds what a cluster needs to `references`; answers what of it is in the store, as kubeadm's `IfNotPresent` leaves it alone.
fn needed(cx: &Context, args: &PullArgs, references: &mut Vec<Reference>, faults: &mut Faults) -> Result<Vec<Pulled>> {
    let mut there: Vec<Pulled> = Vec::new();
    if !args.need.is_asked() {
        return Ok(there);
    }
    let (texts, told) = need::images(&args.need);
    faults.keep(told.or(()));
    let catalog = Catalog::read(&cx.host)?;
    for text in texts {
        let Some(reference) = faults.keep(reference(&text).doing(|| format!("cannot pull {text:?}"))) else { continue };
        if references.contains(&reference) || there.iter().any(|pulled| pulled.reference == reference) {
            continue;
        }
        match catalog.find(&reference.to_string()) {
            Ok(image) => {
                let facts = json!({"reference": reference, "id": image.id, "up_to_date": true});
                there.push(Pulled { reference, id: image.id.clone(), facts, up_to_date: true });
            }
            Err(_) => references.push(reference),
        }
    }
    Ok(there)
}

/// Pulls several images side by side; one that fails does not stop the others. Answers in the order of `references`; `None` for one that
/// was only explained.
pub fn pull_all(cx: &Context, session: &Session, references: &[Reference], wanted: &Wanted) -> Vec<(Reference, Result<Option<Pulled>>)> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let _vigil = session.watch_signals();
    let at_once = if wanted.plan.explain { 1 } else { wanted.jobs.clamp(1, references.len().max(1)) };
    let work = || {
        while let Some((nth, reference)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|nth| Some((nth, references.get(nth)?))) {
            let outcome = signal::check().and_then(|()| pull_one(cx, session, (nth, reference), wanted));
            done.lock().unwrap_or_else(PoisonError::into_inner).push((nth, outcome));
        }
    };
    std::thread::scope(|scope| {
        (1..at_once).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(nth, _)| *nth);
    done.into_iter().filter_map(|(nth, outcome)| Some((references.get(nth)?.clone(), outcome))).collect()
}

fn pull_one(cx: &Context, session: &Session, (nth, reference): (usize, &Reference), wanted: &Wanted) -> Result<Option<Pulled>> {
    let mut timings = Timings::start();
    let cx = Context { host: Host { registry: Some(session.clone()), ..cx.host.clone() }, ..cx.clone() };
    let platform = wanted.platform.clone().unwrap_or_else(Platform::of_host);
    let names = if wanted.names.is_empty() && !wanted.nameless { vec![name_of(reference)?] } else { wanted.names.clone() };
    let _shared = store::share(&cx.host.images())?;
    // A journal that a dead process of the same pid left is unwound first by the engine.
    let box_id = format!("image-{}-{nth}", std::process::id());
    let mut pulled = None;
    let carried = carry::carry(&cx, wanted.plan, &mut timings, |_| {
        let cannot = || format!("cannot pull {reference}");
        let remote = remote::plan(&cx.host, session, reference, &names, &platform).doing(cannot)?;
        pulled = Some(facts(reference, &remote, &cx.host).doing(cannot)?);
        let mut steps = vec![Home { dirs: home_dirs(&cx.host, &remote.steps) }.into()];
        steps.extend(remote.steps);
        let runs = remote::runs(&steps);
        Ok(Plan::new(box_id.clone(), format!("pull {reference}"), steps).kept(Keep::Result).side_by_side(runs))
    })?;
    carry::report(&cx, wanted.plan, timings);
    match (carried, pulled) {
        (None, _) => Ok(None),
        (Some(_), Some(pulled)) => Ok(Some(pulled)),
        (Some(_), None) => Err(Fault::internal("a pull without a plan")),
    }
}

/// The name that an image gets: that of the reference, in which a tag beside a digest does not count, as everywhere.
fn name_of(reference: &Reference) -> Result<Reference> {
    match reference.digest() {
        Some(digest) => Ok(reference.at(digest)),
        None => Ok(reference.clone()),
    }
}

fn facts(reference: &Reference, remote: &Remote, host: &Host) -> Result<Pulled> {
    let mut up_to_date = true;
    for step in &remote.steps {
        up_to_date = up_to_date && step.already(&step.look(host)?)?;
    }
    let facts = json!({
        "reference": reference, "id": remote.id, "digest": remote.digest, "manifest_digest": remote.manifest_digest,
        "platform": remote.platform.to_string(), "size": remote.size, "fetched": remote.missing, "up_to_date": up_to_date,
    });
    Ok(Pulled { reference: reference.clone(), id: remote.id.to_string(), facts, up_to_date })
}

/// `rkbox image load docker://REFERENCE`: a pull, under the names that were asked for.
pub fn load(cx: &Context, source: &str, args: &LoadArgs) -> Result<u8> {
    if let Some(name) = args.name.iter().find(|name| name.digest().is_some()) {
        return Err(Fault::invalid(format!("name {name} has a digest")).hint("name it with a tag"));
    }
    let reference = reference(source)?;
    let talk = if args.plan.explain { Talk::Quiet } else { Talk::Progress };
    let session = RegistryArgs::default().session(JOBS, talk)?;
    let wanted = Wanted { platform: args.platform.clone(), names: args.name.clone(), jobs: 1, plan: args.plan, ..Wanted::default() };
    for (reference, outcome) in pull_all(cx, &session, std::slice::from_ref(&reference), &wanted) {
        let Some(pulled) = outcome? else { continue };
        if cx.format == output::Format::Json {
            output::json(&[pulled.facts])?;
            continue;
        }
        let names = if args.name.is_empty() { std::slice::from_ref(&reference) } else { args.name.as_slice() };
        names.iter().for_each(|name| output::line(&format!("Loaded image: {name}")));
    }
    Ok(0)
}
