//! Containers: made, run, watched, stopped, listed, removed.

mod adopt;
mod attach;
mod create;
mod events;
mod exec;
mod exec_process;
mod exec_terminal;
mod foreground;
mod from_file;
mod inspect;
mod keys;
mod kill;
mod launch;
mod logs;
mod making;
mod mounts;
mod oci;
mod options;
mod ps;
mod remove;
mod rename;
mod renew;
mod request;
mod restart;
mod run;
mod said;
mod script;
mod start;
mod state;
mod steps;
mod stop;
mod wait;

use std::path::PathBuf;

use super::{Context, records};
use crate::fault::Result;
use crate::ids::Id;
use crate::record::ContainerRecord;
use crate::sys::Host;

pub use adopt::adopt_all;
pub use attach::{AttachArgs, run as attach};
pub use create::{CreateArgs, run as create};
pub use events::{EventsArgs, run as events};
pub use exec::{ExecArgs, run as exec};
pub use inspect::{InspectArgs, run as inspect};
pub use kill::{FreezeArgs, KillArgs, pause, run as kill, unpause};
pub use logs::{LogsArgs, run as logs};
pub use mounts::steps_of as mount_steps;
pub use options::{ContainerArgs, GroupArgs, Owns, SecurityArgs, fitting, swap};
pub use ps::{PsArgs, run as ps};
pub use remove::{RmArgs, end, reclaim, remove, run as rm};
pub use rename::{RenameArgs, reclaim as reclaim_names, run as rename};
pub use restart::run as restart;
pub use run::{RunArgs, run};
pub use start::{StartArgs, run as start};
pub use steps::of_root as root_steps;
pub use stop::{StopArgs, run as stop};
pub use wait::{WaitArgs, run as wait};

/// The containers of a sandbox.
pub fn of_sandbox(host: &Host, sandbox: &Id) -> Result<Vec<Id>> {
    let mut members = Vec::new();
    for id in records::ids(host, records::BoxKind::Container)? {
        if records::container(host, &id).is_ok_and(|record| record.sandbox_id.as_ref() == Some(sandbox)) {
            members.push(id);
        }
    }
    Ok(members)
}

/// Whether a container runs under the command that waits for it, and has no monitor.
pub fn runs_in_the_foreground(cx: &Context, record: &ContainerRecord) -> Result<bool> {
    let state = state::of(&cx.host, record)?;
    Ok(state.pid.is_some() && state.watcher == state::Watcher::Command)
}

/// Where the volatile things of container `id` are.
pub fn run_dir(host: &Host, id: &Id) -> PathBuf {
    host.run.join("containers").join(id.as_str())
}
