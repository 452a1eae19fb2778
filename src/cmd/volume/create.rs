//! `rkbox volume create`.

use super::{CreateArgs, dir, read};
use crate::bundle::mounts;
use crate::cmd::{Context, Format, carry, output, records};
use crate::fault::{Fault, Kind, Result};
use crate::ids::Id;
use crate::plan::{Keep, Plan, Timings};
use crate::record::{Pairs, VERSION, VolumeRecord};
use crate::step::{Home, Step, Volume};
use crate::sys::{Host, file, privilege, proc};

/// Makes a volume; prints its name. One that is there already with these labels is fine, as for Docker.
pub fn run(cx: &Context, args: &CreateArgs) -> Result<u8> {
    let mut timings = Timings::start();
    privilege::require()?;
    let name = match &args.name {
        Some(name) => mounts::volume_name(name)?,
        None => Id::from_bytes(proc::random::<32>()?).to_string(),
    };
    let labels: Pairs = args.labels.iter().cloned().collect();
    if file::exists(&dir(&cx.host).join(&name))? {
        let known = read(&cx.host, &name)?;
        if known.labels != labels {
            let other = Fault::new(Kind::AlreadyExists, format!("volume {name} is there already, with other labels"));
            return Err(other.hint(format!("rkbox volume inspect {name} shows them")));
        }
        return said(cx, &known);
    }
    let record = record(&name, labels, args.name.is_none());
    let steps: Vec<Step> = steps(&cx.host, &record, true)?;
    let carried = carry::carry(cx, args.plan, &mut timings, |_| {
        Ok(Plan::new(format!("volume-{name}"), format!("create volume {name}"), steps.clone()).kept(Keep::Result))
    })?;
    if carried.is_none() {
        return Ok(0);
    }
    let answer = said(cx, &record);
    carry::report(cx, args.plan, timings);
    answer
}

fn said(cx: &Context, record: &VolumeRecord) -> Result<u8> {
    match cx.format {
        Format::Json => output::json(record)?,
        Format::Table => output::line(&record.name),
    }
    Ok(0)
}

/// What is written of a new volume.
pub(super) fn record(name: &str, labels: Pairs, anonymous: bool) -> VolumeRecord {
    VolumeRecord {
        v: VERSION,
        name: name.to_owned(),
        labels,
        anonymous,
        created_at: proc::now_rfc3339(),
        rkbox: env!("CARGO_PKG_VERSION").to_owned(),
        extra: serde_json::Map::new(),
    }
}

/// The steps that make a volume.
pub(super) fn steps(host: &Host, record: &VolumeRecord, durable: bool) -> Result<Vec<Step>> {
    let volume = Volume { path: dir(host).join(&record.name), record: records::write(record)?, durable };
    Ok(vec![Home { dirs: vec![host.root.clone(), dir(host)] }.into(), volume.into()])
}
