//! `rkbox bundle create`.

use super::place::{self, Place};
use super::steps::{self, Texts};
use super::{CreateArgs, request};
use crate::bundle::etc;
use crate::cmd::image::store::note_use;
use crate::cmd::image::{Finding, Opening, PullPolicy, SourceImage, Talk, find_or_pull, open_source};
use crate::cmd::{Context, carry, output, parse, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::{Platform, Transport};
use crate::plan::{Keep, Plan, Timings};
use crate::record::{BundleLayer, BundleRecord, RawConfig, VERSION};
use crate::step::Step;
use crate::step::blob::BlobSource;
use crate::sys::{file, privilege, store};

/// Makes a bundle; prints where it is.
pub fn run(cx: &Context, args: &CreateArgs) -> Result<u8> {
    let mut timings = Timings::start();
    let place = place::place(&args.out)?;
    let cannot = || format!("cannot create bundle {}", place.path.display());
    refuse_taken(&place).doing(cannot)?;
    privilege::require()?;
    if args.source.starts_with("docker://") {
        let policy = if args.plan.explain { PullPolicy::Never } else { PullPolicy::Always };
        let finding = Finding { policy, registry: &args.registry, platform: None, talk: Talk::Progress };
        find_or_pull(cx, &args.source, &finding).doing(cannot)?;
        timings.row("pull the image");
    }
    // The blobs of the store are read until the plan is carried out.
    let _shared = store::share(&cx.host.images())?;
    let how = Opening { platform: &Platform::of_host(), near: &place.path, explain: args.plan.explain };
    let image = open_source(&cx.host, &args.source, &how).doing(|| format!("reading {:?}", args.source)).doing(cannot)?;
    warn_of_platform(&image);
    timings.row("read the source");
    let steps = plan_steps(args, &place, &image).doing(cannot)?;
    let keep = if args.flat { Keep::Result } else { Keep::UntilRemoved };
    let carried = carry::carry(cx, args.plan, &mut timings, |_| {
        Ok(Plan::new(place.id.clone(), format!("create bundle {}", place.path.display()), steps.clone()).kept(keep))
    })?;
    let Some(carried) = carried else { return Ok(0) };
    carried.release();
    note_use(&cx.host, image.config.id().as_str());
    match cx.format {
        output::Format::Json => output::json(&serde_json::json!({
            "path": place.path, "image_id": image.config.id(), "manifest_digest": image.manifest.digest(), "flat": args.flat,
        }))?,
        output::Format::Table => output::line(&place.path.display().to_string()),
    }
    carry::report(cx, args.plan, timings);
    Ok(0)
}

/// Said before the source is read; the first step looks again.
fn refuse_taken(place: &Place) -> Result<()> {
    if !file::exists(&place.path)? {
        return Ok(());
    }
    let fault = Fault::new(Kind::AlreadyExists, format!("{} is there already", place.path.display()));
    let path = crate::script::quote(&place.path.to_string_lossy());
    Err(match file::exists(&place.path.join(crate::step::bundle_dir::RECORD))? {
        true => fault.hint(format!("rkbox bundle rm {path}, or name a new directory")),
        false => fault.hint("name a new directory"),
    })
}

fn warn_of_platform(image: &SourceImage) {
    let (host, offered) = (Platform::of_host(), image.config.platform());
    if host.rank(&offered).is_none() {
        output::note(&format!("warning: image {} is made for {offered}, not for {host}", image.config.id().short()));
    }
}

fn plan_steps(args: &CreateArgs, place: &Place, image: &SourceImage) -> Result<Vec<Step>> {
    if args.flat {
        return Ok(steps::flat(place, image, request::config(image, None)?));
    }
    let record = record(args, place, image)?;
    let texts = Texts {
        record: records::write(&told(args, &record, image)?)?,
        config: request::config(image, Some(&place.path))?,
        resolv_conf: etc::resolv_conf(&parse::host_resolv_conf()),
    };
    steps::layered(&record, texts)
}

/// The record as it is kept: the plain copy of a compressed archive is gone when somebody reads it.
fn told(args: &CreateArgs, record: &BundleRecord, image: &SourceImage) -> Result<BundleRecord> {
    let mut told = record.clone();
    if image.plain.is_some() {
        let archive = args.source.parse::<Transport>()?.path().to_path_buf();
        told.layers.iter_mut().for_each(|layer| layer.file.clone_from(&archive));
    }
    Ok(told)
}

fn record(args: &CreateArgs, place: &Place, image: &SourceImage) -> Result<BundleRecord> {
    let mut layers = Vec::new();
    for layer in &image.layers {
        let BlobSource::Span { path, offset } = &layer.source else { return Err(Fault::internal("a layer without a file")) };
        layers.push(BundleLayer {
            file: path.clone(),
            offset: *offset,
            media_type: layer.media_type.clone(),
            digest: layer.digest.to_string(),
            size: layer.size,
            diff_id: layer.diff_id.to_string(),
            chain_id: layer.chain_id.to_string(),
        });
    }
    Ok(BundleRecord {
        v: VERSION,
        id: place.id.clone(),
        path: place.path.clone(),
        source: args.source.clone(),
        image_id: image.config.id().to_string(),
        manifest: image.manifest.digest().to_string(),
        copied: !image.in_files,
        layers,
        rkbox: env!("CARGO_PKG_VERSION").to_owned(),
        // Not the whole command line: how it was asked to print is nothing of the bundle's.
        config: RawConfig { kind: "rkbox.v1".to_owned(), raw: serde_json::json!(["bundle", "create", args.source, args.out]) },
        extra: serde_json::Map::new(),
    })
}
