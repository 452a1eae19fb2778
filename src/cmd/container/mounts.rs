//! The mounts of a container: what was asked, resolved on this host into a record, and its steps.

use std::path::{Path, PathBuf};

use super::from_file;
use super::request::Facts;
use crate::bundle::mounts::{Access, Ask, Entry, Options, Propagation, Source, check_destination};
use crate::cmd::renewal::MOUNTS;
use crate::cmd::volume as volumes;
use crate::cmd::{Context, image, output, records};
use crate::fault::{Context as _, Fault, Kind, Result, cut};
use crate::ids::Id;
use crate::record::{ContainerRecord, Mount, MountFrom, Shift, UserNs};
use crate::step::mount::MountKind;
use crate::step::{Directory, Mount as MountStep, Ownership, Pin, SourceDir, Step};
use crate::sys::{Host, file, pin, proc, security};

/// Resolves what was asked, and the volumes of the image, for a process of `owner`.
///
/// *Errors:* `NotFound` for a missing source of `--mount`; `FailedPrecondition` for a source behind a link that a container could have made,
/// and for a shared mount of what is not shared.
pub fn resolve(cx: &Context, facts: &Facts<'_>, userns: Option<&UserNs>, owner: (u32, u32)) -> Result<Vec<Mount>> {
    let mut asks = facts.file.map_or_else(|| facts.args.mounts.asked(), from_file::asks)?;
    let config = facts.image.config.config().as_ref();
    for path in config.and_then(|config| config.volumes().clone()).unwrap_or_default() {
        let destination = check_destination(&path).doing(|| format!("VOLUME {:?} of the image", cut(&path)))?;
        if asks.iter().all(|ask| ask.destination != destination) {
            asks.push(Ask { source: Source::Anonymous, destination, options: Options::default() });
        }
    }
    // By depth: what is mounted first may hold the place of what comes after.
    asks.sort_by_key(|ask| ask.destination.matches('/').count());
    let mut mounts = Vec::new();
    for (nth, ask) in asks.iter().enumerate() {
        warn_of_labels(ask)?;
        let held = held(&cx.host.container_dir(facts.id.as_str()), nth);
        let shown = userns.is_some_and(|userns| userns.shift == Shift::Mounts);
        let mut mount = one(cx, ask, held.clone()).doing(|| format!("mounting on {}", ask.destination))?;
        // A volume is shown with the ids of the container: its disk has those inside, and the user's is its owner.
        let is_volume = matches!(mount.from, MountFrom::Volume { .. });
        if is_volume && shown {
            mount.source = held;
        }
        let outside = userns.filter(|_| !(is_volume && shown)).map_or(owner, |userns| userns.map.shift(owner));
        mount.owner = ask.options.chown.then_some(outside);
        mounts.push(mount);
    }
    Ok(mounts)
}

/// Where the `nth` mount is held for the runtime.
fn held(bundle: &Path, nth: usize) -> PathBuf {
    bundle.join(MOUNTS).join(nth.to_string())
}

fn warn_of_labels(ask: &Ask) -> Result<()> {
    match (ask.options.relabel, security::has_selinux()) {
        (None, _) => Ok(()),
        (Some(_), false) => {
            output::note(&format!("warning: z and Z have no effect on {}: this host has no SELinux", ask.destination));
            Ok(())
        }
        (Some(_), true) => {
            Err(Fault::new(Kind::Unimplemented, format!("labelling the source of {} for SELinux is not done", ask.destination))
                .hint("label it yourself: chcon -R -t container_file_t SOURCE, and leave z and Z out"))
        }
    }
}

fn one(cx: &Context, ask: &Ask, held: PathBuf) -> Result<Mount> {
    let words = ask.options.bind_words()?;
    let (from, source, options) = match &ask.source {
        Source::Tmpfs => (MountFrom::Tmpfs, PathBuf::from("tmpfs"), ask.options.tmpfs_words()),
        Source::Host { path, create } => (bind(&cx.host, path, *create, ask.options.propagation().0)?, held, words),
        Source::Named(name) => (volume(name.clone(), false, &ask.options), volume_source(&cx.host, name, &ask.options, held), words),
        Source::Anonymous => {
            let name = Id::from_bytes(proc::random::<32>()?).to_string();
            let source = volume_source(&cx.host, &name, &ask.options, held);
            (volume(name, true, &ask.options), source, words)
        }
        Source::Image(reference) => {
            let mut options = ask.options.clone();
            options.access = Some(options.access.unwrap_or(Access::ReadOnly));
            let rootfs = held.join("rootfs");
            let source = if options.subpath.is_some() { held.join("part") } else { rootfs };
            (image_mount(cx, reference, &options)?, source, options.bind_words()?)
        }
    };
    Ok(Mount { from, source, destination: ask.destination.clone(), options, owner: None })
}

fn volume(name: String, anonymous: bool, options: &Options) -> MountFrom {
    let copy = !options.nocopy && options.subpath.is_none();
    MountFrom::Volume { name, anonymous, copy, subpath: options.subpath.clone() }
}

fn volume_source(host: &Host, name: &str, options: &Options, held: PathBuf) -> PathBuf {
    if options.subpath.is_some() { held } else { volumes::data(host, name) }
}

fn bind(host: &Host, path: &Path, create: bool, propagation: Propagation) -> Result<MountFrom> {
    let (real, links) = pin::links_on_the_way(path)?;
    if !links.is_empty() {
        refuse_links_of_containers(host, &links)?;
    }
    if !file::exists(&real)? {
        if !create {
            return Err(Fault::not_found(format!("{} is not there", path.display()))
                .hint("make it first, or mend the path; -v makes a missing directory"));
        }
        output::note(&format!("warning: {} was not there: it is made, an empty directory", path.display()));
    }
    let sharing = pin::sharing_of(&real)?;
    let fits = match propagation {
        Propagation::Private => true,
        Propagation::Slave => sharing.shared || sharing.slave,
        Propagation::Shared => sharing.shared,
    };
    if !fits {
        let word = if propagation == Propagation::Shared { "shared" } else { "shared or slave" };
        return Err(Fault::new(Kind::FailedPrecondition, format!("{} is not on a {word} mount", path.display()))
            .hint(format!("make it one: mount --bind {0} {0} && mount --make-shared {0}", crate::script::quote(&real.to_string_lossy()))));
    }
    Ok(MountFrom::Bind { path: path.to_path_buf(), real, create })
}

/// Whoever may write where a link stands chose where it leads: with a container's link that could be any place of the host.
fn refuse_links_of_containers(host: &Host, links: &[PathBuf]) -> Result<()> {
    let mut writable = vec![(volumes::dir(host), "a volume".to_owned())];
    for id in records::ids(host, records::BoxKind::Container)? {
        let Ok(record) = records::container(host, &id) else { continue };
        for mount in record.mounts.iter().filter(|mount| mount.is_writable()) {
            if let MountFrom::Bind { real, .. } = &mount.from {
                writable.push((real.clone(), format!("a mount of container {}", record.name)));
            }
        }
    }
    for link in links {
        if let Some((_, whose)) = writable.iter().find(|(dir, _)| link.starts_with(dir)) {
            return Err(Fault::new(
                Kind::FailedPrecondition,
                format!("{} is a symbolic link in {whose}, which could lead anywhere", link.display()),
            )
            .hint("name the directory that it leads to"));
        }
    }
    Ok(())
}

fn image_mount(cx: &Context, reference: &str, options: &Options) -> Result<MountFrom> {
    let found = image::store::find(&cx.host, reference)?;
    Ok(MountFrom::Image {
        reference: reference.to_owned(),
        image_id: found.id.clone(),
        chain: found.layers.iter().map(|layer| layer.chain_id.clone()).collect(),
        lowers: image::store::lowers(&cx.host, &found)?,
        subpath: options.subpath.clone(),
    })
}

/// What the runtime is told.
pub fn entries(record: &ContainerRecord) -> Vec<Entry> {
    let entry = |mount: &Mount| Entry {
        destination: mount.destination.clone(),
        kind: if matches!(mount.from, MountFrom::Tmpfs) { "tmpfs" } else { "bind" }.to_owned(),
        source: mount.source.clone(),
        options: mount.options.clone(),
    };
    record.mounts.iter().map(entry).collect()
}

/// The steps that make the mounts of `record` ready for the runtime, once its root file system is mounted.
pub fn steps(host: &Host, record: &ContainerRecord) -> Vec<Step> {
    let mut all = Vec::new();
    let holds = |mount: &Mount| mount.source.starts_with(&record.bundle);
    if record.mounts.iter().any(holds) {
        all.push(Directory::new(record.bundle.join(MOUNTS), 0o700).into());
    }
    volumes::use_steps(host, record, &mut all);
    let ids = record.userns.as_ref().and_then(UserNs::shown);
    for (nth, mount) in record.mounts.iter().enumerate() {
        let held = held(&record.bundle, nth);
        let given = match &mount.from {
            MountFrom::Bind { real, create, .. } => {
                if *create {
                    all.push(SourceDir { path: real.clone() }.into());
                }
                Some(real.clone())
            }
            MountFrom::Volume { name, .. } => Some(volumes::data(host, name)),
            MountFrom::Image { .. } | MountFrom::Tmpfs => None,
        };
        if let (Some(path), Some(owner)) = (&given, mount.owner) {
            all.push(Ownership { path: path.clone(), owner }.into());
        }
        match &mount.from {
            MountFrom::Bind { real, .. } => {
                let shared = mount.options.iter().any(|word| matches!(word.as_str(), "shared" | "rshared"));
                all.push(Pin { source: real.clone(), below: None, target: held, shared, ids: None }.into());
            }
            MountFrom::Volume { name, subpath, .. } if subpath.is_some() || ids.is_some() => {
                let source = volumes::data(host, name);
                all.push(Pin { source, below: subpath.clone(), target: held, shared: false, ids: ids.clone() }.into());
            }
            MountFrom::Image { lowers, subpath, .. } => image_steps(&held, lowers, subpath.as_ref(), record.userns.as_ref(), &mut all),
            MountFrom::Volume { .. } | MountFrom::Tmpfs => {}
        }
    }
    all
}

/// The steps that mount the `nth` mount of `record` where the runtime is told to find it.
pub fn steps_of(host: &Host, record: &ContainerRecord, nth: usize) -> Vec<Step> {
    let held = held(&record.bundle, nth);
    let is_its = |step: &Step| match step {
        Step::Directory(step) => step.path.starts_with(&held),
        Step::Mount(step) => step.target.starts_with(&held),
        Step::Pin(step) => step.target.starts_with(&held),
        _ => false,
    };
    steps(host, record).into_iter().filter(is_its).collect()
}

/// An image is mounted as a root file system is, its writable layer the container's own.
fn image_steps(held: &Path, lowers: &[PathBuf], below: Option<&String>, userns: Option<&UserNs>, all: &mut Vec<Step>) {
    let [upper, work, rootfs] = ["upper", "work", "rootfs"].map(|name| held.join(name));
    all.push(Directory::new(held, 0o700).into());
    match userns {
        None => all.push(Directory { like: lowers.to_vec(), ..Directory::new(upper.clone(), 0o755) }.into()),
        Some(userns) => all.push(Directory { owner: userns.map.root(), ..Directory::new(upper.clone(), 0o755) }.into()),
    }
    all.push(Directory::new(work.clone(), 0o700).into());
    all.push(Directory::new(rootfs.clone(), 0o755).into());
    all.push(
        MountStep {
            what: MountKind::Overlay { lowers: lowers.to_vec(), upper, work, ids: userns.and_then(UserNs::shown) },
            target: rootfs.clone(),
        }
        .into(),
    );
    if let Some(below) = below {
        all.push(Pin { source: rootfs, below: Some(below.clone()), target: held.join("part"), shared: false, ids: None }.into());
    }
}
