//! `rkbox run`: plan, settle, start, wait, and take back with `--rm`; or with `-d` leave it to its monitor.

use std::io::IsTerminal as _;

use clap::{ArgAction, Args};

use super::request::Facts;
use super::{ContainerArgs, attach, events, foreground, from_file, keys, making, remove, rename, script};
use crate::cmd::salvage::Damage;
use crate::cmd::{Context, PlanArgs, carry, driver, image, output, records};
use crate::fault::{Fault, Result};
use crate::ids::Id;
use crate::plan::{Carried, Timings};
use crate::record::ContainerRecord;
use crate::record::life::{EventKind, Launch};
use crate::sys::{monitor, privilege, proc};

/// Arguments of `rkbox run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Leave it running, print its id
    #[arg(short, long)]
    pub detach: bool,
    /// Keys that leave a terminal without ending the container
    #[arg(long, value_name = "KEYS", default_value = keys::DETACH_KEYS, value_parser = keys::parse_keys)]
    pub detach_keys: keys::Keys,
    /// Hand signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub sig_proxy: bool,
    /// `--explain`, `--timings`.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// The container.
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// How a container is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// With our streams, without a monitor.
    Plain,
    /// Under a monitor, with us as its client.
    Attached,
    /// Under a monitor, without us.
    Detached,
}

impl RunArgs {
    fn way(&self) -> Way {
        let (process, life) = (&self.container.process, &self.container.life);
        // The log of a file is the monitor's to write.
        let watched = self.container.config.is_some()
            || process.tty
            || process.pidfile.is_some()
            // Only who is there before the control group goes sees that the kernel killed somebody for lack of memory.
            || (self.container.resources.group.memory.is_some() && !self.rm)
            || life.restart.is_active()
            || life.health_cmd.is_some()
            || !self.sig_proxy;
        match (self.detach, watched) {
            (true, _) => Way::Detached,
            // A script has no monitor: it is explained as the runtime does it.
            (false, true) if !self.plan.explain => Way::Attached,
            _ => Way::Plain,
        }
    }
}

/// Runs a container; answers its own exit status, or 0 when it is left running.
pub fn run(cx: &Context, args: &RunArgs) -> Result<u8> {
    let mut timings = Timings::start();
    privilege::require()?;
    driver::check(cx)?;
    let way = args.way();
    let process = &args.container.process;
    let joined = args.container.network.sandbox.as_deref().map(|key| making::ready_sandbox(&cx.host, key)).transpose()?;
    let file = from_file::read(&cx.host, &args.container, joined.as_ref())?;
    let tty = file.as_ref().map_or(process.tty, |file| file.config.tty);
    if tty && way == Way::Attached && !std::io::stdin().is_terminal() {
        return Err(Fault::invalid("--tty: standard input is not a terminal").hint("leave --tty out, or call rkbox from a terminal"));
    }
    process.check_cidfile()?;
    let found = args.container.source.find(cx, file.as_ref().map_or(args.container.image(), |file| file.image()), args.plan.explain)?;
    let lowers = image::store::lowers(&cx.host, &found)?;
    let facts = Facts {
        args: &args.container,
        file: file.as_ref(),
        auto_remove: args.rm,
        launch: (way != Way::Plain).then_some(Launch::Run),
        awaits_client: way == Way::Attached,
        acting: !args.plan.explain,
        id: Id::from_bytes(proc::random::<32>()?),
        image: &found,
        lowers: &lowers,
        sandbox: joined.as_ref(),
    };
    let mut made = None;
    let mut planned = |timings: &mut Timings| {
        let (plan, record) = making::plan(cx, &facts, timings)?;
        made = Some(record);
        Ok(plan)
    };
    if args.plan.explain && way == Way::Plain {
        let plan = planned(&mut timings)?;
        let record = made.ok_or_else(|| Fault::internal("a plan without a record"))?;
        carry::show(&script::foreground(cx, &plan, &record)?);
        return Ok(0);
    }
    let carried = match carry::carry(cx, args.plan, &mut timings, planned) {
        Err(fault) if way != Way::Plain => return foreground::failed_start(foreground::start_fault(fault)),
        other => other?,
    };
    let (Some(carried), Some(record)) = (carried, made) else { return Ok(0) };
    events::tell(&cx.host, &record, EventKind::Create);
    match way {
        Way::Plain => plain(cx, args, carried, &record, timings),
        Way::Attached => attached(cx, args, carried, &record, timings),
        Way::Detached => {
            write_id_files(cx, args, &record)?;
            carried.release();
            output::line(record.id.as_str());
            carry::report(cx, args.plan, timings);
            Ok(0)
        }
    }
}

fn write_id_files(cx: &Context, args: &RunArgs, record: &ContainerRecord) -> Result<()> {
    let process = &args.container.process;
    let pid = match process.pidfile {
        Some(_) => monitor::find(&super::run_dir(&cx.host, &record.id))?.map(|alive| alive.pid),
        None => None,
    };
    process.write_id_files(record.id.as_str(), pid)
}

fn plain(cx: &Context, args: &RunArgs, carried: Carried, record: &ContainerRecord, mut timings: Timings) -> Result<u8> {
    write_id_files(cx, args, record)?;
    let outcome = foreground::start(&cx.host, record, &mut timings);
    let removed = match args.rm {
        true => remove_own(cx, carried, record),
        false => {
            carried.release();
            Ok(())
        }
    };
    timings.row("take back");
    carry::report(cx, args.plan, timings);
    match (outcome, removed) {
        (Ok(status), Ok(())) => Ok(status),
        (Ok(_), Err(fault)) => Err(fault),
        (Err(fault), Ok(())) => foreground::failed_start(fault),
        (Err(fault), Err(later)) => Err(fault.and_also(later)),
    }
}

/// Takes back the container of this command, whatever it is named by now.
fn remove_own(cx: &Context, carried: Carried, record: &ContainerRecord) -> Result<()> {
    let now = records::container(&cx.host, &record.id).unwrap_or_else(|_| record.clone());
    carried.remove(&cx.host)?;
    rename::release(&cx.host, &now.id, &now.name)?;
    events::tell(&cx.host, &now, EventKind::Remove);
    Ok(())
}

fn attached(cx: &Context, args: &RunArgs, carried: Carried, record: &ContainerRecord, mut timings: Timings) -> Result<u8> {
    write_id_files(cx, args, record)?;
    carried.release();
    let how = attach::How { stdin: record.stdin, pace: true, sig_proxy: args.sig_proxy, keys: args.detach_keys.clone() };
    let outcome = attach::copy(record, &how, attach::connect(&cx.host, record, &how)?)?;
    timings.row("run the container");
    if let (true, attach::Outcome::Ended(_)) = (args.rm, outcome) {
        // The monitor calls for the same; who comes second finds nothing to do.
        remove::remove(&cx.host, &record.id, Damage::Refuse)?;
        timings.row("take back");
    }
    carry::report(cx, args.plan, timings);
    Ok(outcome.code())
}
