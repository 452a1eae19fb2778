//! The steps: every change that rkbox makes to a host, one kind to a file.
//!
//! A step is a plain value with four verbs. `look` reads what stands there now and changes nothing; `apply` makes the change
//! and may branch on what `look` found and on nothing else; `undo` puts that back, twice as well as once, and never removes
//! what does not bear our mark; `script` prints the same act in shell. The laws are tested for every kind.

use std::fmt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, Result};
use crate::script::Script;
use crate::sys::Host;
use crate::sys::nft::Piece;

pub mod holding;

/// Who takes a thing back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// Belongs to one box and goes with it.
    Private,
    /// Serves many boxes: taken back only by the rollback of the plan that made it, or by `rkbox gc`, and only while unused.
    Shared,
}

/// Which way a script goes.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a, B> {
    /// The act.
    Apply,
    /// Its undo, given what stood there before.
    Undo(&'a B),
}

/// One kind of change to a host.
pub trait Action: fmt::Display + Serialize + DeserializeOwned {
    /// What stood there before: all that an undo needs. The default means "nothing was there".
    type Before: Serialize + DeserializeOwned + Default;
    /// Who takes it back.
    const TENURE: Tenure = Tenure::Private;
    /// Whether `rkbox gc` takes it back when nobody uses it. Not so for a shared fact that stays true without users (a cursor).
    const RECLAIMED: bool = true;

    /// Whether it acts in the network namespace in which the bridges are, which is not always that of rkbox.
    const AT_BRIDGES: bool = false;

    /// Reads the host; changes nothing. What makes `apply` impossible (a name taken by somebody else) is an error here.
    fn look(&self, host: &Host) -> Result<Self::Before>;

    /// Whether the host already is as `apply` would make it, so that there is nothing to apply and nothing to undo.
    fn already(&self, _before: &Self::Before) -> bool {
        false
    }

    /// Makes the change.
    fn apply(&self, before: &Self::Before, host: &Host) -> Result<()>;

    /// The file that must survive a power cut before the plan settles. The engine syncs it beside the steps that follow.
    fn durable(&self) -> Option<PathBuf> {
        None
    }

    /// Puts `before` back; absence is fine. A shared thing that is in use is left alone (`Ok(Undone::Kept)`).
    fn undo(&self, before: &Self::Before, host: &Host) -> Result<Undone>;

    /// Removes what only the undo needs (a mark), once the plan holds and its journal goes; twice is as good as once.
    fn forget(&self, _before: &Self::Before, _host: &Host) -> Result<()> {
        Ok(())
    }

    /// Prints the same act, or its undo, as shell.
    fn script(&self, way: Way<'_, Self::Before>, out: &mut Script);
}

/// What an undo did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// The host is as it was before, as far as this step goes.
    Done,
    /// The thing is shared and somebody uses it.
    Kept,
}

#[cfg(test)]
mod network_laws;
#[cfg(test)]
mod network_speed;
#[cfg(test)]
mod plugin_laws;
#[cfg(test)]
mod port_laws;
#[cfg(test)]
mod test_world;

macro_rules! steps {
    ($($name:ident in $room:ident),+ $(,)?) => {
        $(pub mod $room; pub use $room::$name;)+

        /// Any step. The journal names its kind in `step`.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(tag = "step", rename_all = "kebab-case")]
        pub enum Step { $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name)),+ }

        $(impl From<$name> for Step { fn from(step: $name) -> Step { Step::$name(step) } })+

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Step::$name(step) => step.fmt(f)),+ }
            }
        }

        impl Step {
            /// See [`Action::TENURE`].
            pub fn tenure(&self) -> Tenure {
                match self { $(Step::$name(_) => <$name as Action>::TENURE),+ }
            }
            /// See [`Action::AT_BRIDGES`].
            pub fn is_at_bridges(&self) -> bool {
                match self { $(Step::$name(_) => <$name as Action>::AT_BRIDGES),+ }
            }
            /// See [`Action::RECLAIMED`].
            pub fn is_reclaimed(&self) -> bool {
                match self { $(Step::$name(_) => <$name as Action>::RECLAIMED),+ }
            }
            /// See [`Action::look`].
            pub fn look(&self, host: &Host) -> Result<Value> {
                match self { $(Step::$name(step) => look_at::<$name, _>(host, || to_value(&step.look(host)?))),+ }
            }
            /// See [`Action::already`].
            pub fn already(&self, before: &Value) -> Result<bool> {
                match self { $(Step::$name(step) => Ok(step.already(&from_value(before)?))),+ }
            }
            /// See [`Action::apply`].
            pub fn apply(&self, before: &Value, host: &Host) -> Result<()> {
                match self { $(Step::$name(step) => change::<$name>(host, || step.apply(&from_value(before)?, host))),+ }
            }
            /// See [`Action::durable`].
            pub fn durable(&self) -> Option<PathBuf> {
                match self { $(Step::$name(step) => step.durable()),+ }
            }
            /// The lock that everybody holds who attaches to the network of this pool; `None` for all other kinds.
            pub fn network_lock(&self) -> Option<PathBuf> {
                match self {
                    Step::Pool(pool) => Some(pool.dir.join("lock")),
                    _ => None,
                }
            }
            /// Whether its script needs a mount(8) that shows other ids.
            pub fn shows_other_ids(&self) -> bool {
                match self {
                    Step::Mount(step) => step.ids().is_some(),
                    Step::Pin(step) => step.ids.is_some(),
                    _ => false,
                }
            }
            /// What the step makes in nftables; `None` for all other kinds.
            pub fn piece(&self) -> Option<Piece> {
                match self {
                    Step::NatTable(_) => Some(Piece::MasqueradeTable),
                    Step::NatNetwork(step) => {
                        Some(Piece::MasqueradeNetwork { network: step.network.clone(), subnets: step.subnets.clone() })
                    }
                    Step::Masquerade(step) => {
                        Some(Piece::Masquerade { network: step.network.clone(), address: step.address, owner: step.owner.clone() })
                    }
                    Step::PortTable(_) => Some(Piece::PortTable),
                    Step::Fence(step) => Some(step.piece()),
                    Step::Hairpin(step) => Some(step.piece()),
                    Step::Publish(step) => Some(step.piece()),
                    Step::SpoofTable(_) => Some(Piece::SpoofTable),
                    Step::SpoofGuard(step) => Some(step.piece()),
                    _ => None,
                }
            }
            /// See [`Action::undo`].
            pub fn undo(&self, before: &Value, host: &Host) -> Result<Undone> {
                match self { $(Step::$name(step) => look_at::<$name, _>(host, || step.undo(&from_value(before)?, host))),+ }
            }
            /// See [`Action::forget`].
            pub fn forget(&self, before: &Value, host: &Host) -> Result<()> {
                match self { $(Step::$name(step) => step.forget(&from_value(before)?, host)),+ }
            }
            /// See [`Action::script`]; `None` prints the act, a value its undo.
            pub fn script(&self, before: Option<&Value>, out: &mut Script) -> Result<()> {
                match self { $(Step::$name(step) => match before {
                    None => step.script(Way::Apply, out),
                    Some(before) => step.script(Way::Undo(&from_value(before)?), out),
                }),+ }
                Ok(())
            }
            /// The `Before` of a host on which nothing of this step was there.
            pub fn before_nothing(&self) -> Result<Value> {
                match self { $(Step::$name(_) => to_value(&<$name as Action>::Before::default())),+ }
            }
        }
    };
}

/// Looks, or takes back: where there is no namespace for bridges any more, nothing is there.
fn look_at<A: Action, T: Send>(host: &Host, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if A::AT_BRIDGES { host.at_bridges(act) } else { act() }
}

fn change<A: Action>(host: &Host, act: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    if A::AT_BRIDGES { host.change_bridges(act) } else { act() }
}

fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Fault::from_error(crate::fault::Kind::Internal, error).doing("writing what a step found"))
}

fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|error| Fault::from_error(crate::fault::Kind::DataLoss, error).doing("reading what a step found"))
}

steps! {
    // Files and directories.
    Home in home,
    DriverChoice in driver_choice,
    Directory in directory,
    BundleDir in bundle_dir,
    File in file,
    Reservation in reservation,
    IdClaim in id_claim,
    // Images and root file systems.
    Blob in blob,
    Layer in layer,
    Layers in layers,
    Relist in relist,
    Repair in repair,
    Tag in tag,
    Amend in amend,
    Skeleton in skeleton,
    Flatten in flatten,
    ShiftedCopy in shifted_copy,
    Mount in mount,
    // Volumes and what else is mounted.
    Volume in volume,
    VolumeUse in volume_use,
    VolumeRemoval in volume_removal,
    CopyUp in copy_up,
    SourceDir in source_dir,
    Ownership in ownership,
    Pin in pin,
    LogPlace in log_place,
    // Names.
    SharedDir in shared_dir,
    NetnsFiles in netns_files,
    HostsName in hosts_name,
    HostsLines in hosts_lines,
    NameRelease in name_release,
    // Namespaces and networks.
    NetnsRoot in netns_root,
    RootlessNetns in rootless_netns,
    Pasta in pasta,
    Namespaces in namespaces,
    PidNamespace in pid_namespace,
    Pool in pool,
    Cursor in cursor,
    Lease in lease,
    Bridge in bridge,
    Gateway in gateway,
    Sysctl in sysctl,
    NatTable in nat_table,
    NatNetwork in nat_network,
    Masquerade in masquerade,
    PortTable in port_table,
    Fence in fence,
    Hairpin in hairpin,
    Publish in publish,
    PortRelay in port_relay,
    SpoofTable in spoof_table,
    SpoofGuard in spoof_guard,
    Veth in veth,
    HostEnd in host_end,
    Macvlan in macvlan,
    Loopback in loopback,
    Interface in interface,
    Tuning in tuning,
    Bandwidth in bandwidth,
    Firewall in firewall,
    Plugin in plugin,
    CachedResult in cached_result,
    // Processes.
    CgroupParent in cgroup_parent,
    Process in process,
    Bounds in bounds,
    Setting in setting,
    Watched in watched,
}
