//! `rkbox create`: everything but the start.

use clap::Args;

use super::request::Facts;
use super::{ContainerArgs, events, from_file, making};
use crate::cmd::{Context, PlanArgs, carry, driver, image, output};
use crate::fault::Result;
use crate::ids::Id;
use crate::plan::Timings;
use crate::record::life::{EventKind, Launch};
use crate::sys::{monitor, privilege, proc};

/// Arguments of `rkbox create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// The container.
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// Makes a container that waits to be started; prints its id.
pub fn run(cx: &Context, args: &CreateArgs) -> Result<u8> {
    let mut timings = Timings::start();
    privilege::require()?;
    driver::check(cx)?;
    args.container.process.check_cidfile()?;
    let joined = args.container.network.sandbox.as_deref().map(|key| making::ready_sandbox(&cx.host, key)).transpose()?;
    let file = from_file::read(&cx.host, &args.container, joined.as_ref())?;
    let image = file.as_ref().map_or(args.container.image(), |file| file.image());
    let found = args.container.source.find(cx, image, args.plan.explain)?;
    let lowers = image::store::lowers(&cx.host, &found)?;
    let facts = Facts {
        args: &args.container,
        file: file.as_ref(),
        auto_remove: args.rm,
        launch: Some(Launch::Create),
        awaits_client: false,
        acting: !args.plan.explain,
        id: Id::from_bytes(proc::random::<32>()?),
        image: &found,
        lowers: &lowers,
        sandbox: joined.as_ref(),
    };
    let mut made = None;
    let carried = carry::carry(cx, args.plan, &mut timings, |timings| {
        let (plan, record) = making::plan(cx, &facts, timings)?;
        made = Some(record);
        Ok(plan)
    })?;
    let (Some(carried), Some(record)) = (carried, made) else { return Ok(0) };
    let alive = monitor::find(&super::run_dir(&cx.host, &record.id))?;
    args.container.process.write_id_files(record.id.as_str(), alive.map(|alive| alive.pid))?;
    carried.release();
    events::tell(&cx.host, &record, EventKind::Create);
    output::line(record.id.as_str());
    carry::report(cx, args.plan, timings);
    Ok(0)
}
