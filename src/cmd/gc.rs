//! `rkbox gc`: undoes what killed commands left, and takes shared things that nobody uses.

use clap::Args;

use super::{Context, Format, container, driver, image, network, output, salvage, sandbox, userns, volume};
use crate::fault::{Faults, Result};
use crate::plan::{ledger, recover};
use crate::sys::file;

/// Arguments of `rkbox gc`.
#[derive(Debug, Args)]
pub struct GcArgs {}

/// Runs every part even when one fails; prints what went.
pub fn run(cx: &Context, _args: &GcArgs) -> Result<u8> {
    let host = &cx.host;
    let mut gone: Vec<String> = Vec::new();
    let mut faults = Faults::default();
    collect(
        recover::recover(host).map(|all| all.into_iter().map(|one| format!("{} ({})", one.command, one.box_id)).collect()),
        &mut gone,
        &mut faults,
    );
    collect(container::reclaim(host), &mut gone, &mut faults);
    collect(container::reclaim_names(host), &mut gone, &mut faults);
    collect(sandbox::reclaim(host), &mut gone, &mut faults);
    collect(network::reclaim(host), &mut gone, &mut faults);
    collect(volume::reclaim(host), &mut gone, &mut faults);
    collect(userns::reclaim(host), &mut gone, &mut faults);
    collect(image::sweep(host), &mut gone, &mut faults);
    collect(ledger::reclaim(host), &mut gone, &mut faults);
    collect(driver::reclaim(host), &mut gone, &mut faults);
    for dir in [host.journals(), host.runtime_root(), host.run.clone()] {
        if let Err(error) = file::remove_dir_if_empty(&dir) {
            faults.note(error.into());
        }
    }
    match cx.format {
        Format::Json => output::json(&gone)?,
        Format::Table => gone.iter().for_each(|what| output::line(&format!("taken back: {what}"))),
    }
    faults.or(0)
}

fn collect(part: Result<Vec<String>>, gone: &mut Vec<String>, faults: &mut Faults) {
    let part = part.map_err(|fault| salvage::point_out(fault, "rkbox rm --force, or rkbox sandbox rm --force"));
    gone.extend(faults.keep(part).into_iter().flatten());
}
