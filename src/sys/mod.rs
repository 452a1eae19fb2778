//! The doors to the host: the only `unsafe`, nix, libc, netlink and `Command` of the crate.
//!
//! One error variant per call, with its arguments and errno. Everything goes through [`Host`], which holds the roots,
//! so that a test gives it a world of its own and nothing of the real host can be reached by mistake.
#![allow(clippy::disallowed_methods, reason = "the doors own these methods; tests/floors.rs holds which door owns which")]

pub mod archive;
pub mod archive_write;
pub mod blob_seal;
pub mod cgroup;
pub mod cgroup_lock;
pub mod changes;
pub mod conntrack;
pub mod control;
pub mod device;
pub mod dir_lock;
pub mod event_log;
pub mod exec;
pub mod file;
mod host;
pub mod iptables;
pub mod lease_index;
pub mod lock;
pub mod log_file;
pub mod log_reader;
pub mod mapped;
pub mod monitor;
pub mod mount;
pub mod netlink;
pub mod new_file;
pub mod nft;
pub mod ns;
pub mod packaging;
pub mod pin;
pub mod plugin;
pub mod privilege;
pub mod proc;
pub mod pty;
pub mod reaper;
pub mod registry;
pub mod relay;
pub mod room;
pub mod rootfs;
pub mod rootless;
pub mod rootless_netns;
pub mod runc;
pub mod runc_log;
pub mod scratch;
pub mod security;
pub mod signal;
pub mod sockets;
pub mod store;
pub mod streams;
pub mod subgroup;
pub mod sysctl;
pub mod transfer;
pub mod tree;
pub mod tree_clone;
mod tree_copy;
pub mod tree_diff;
mod tree_hide;
mod tree_list;
mod tree_merged;
mod tree_names;
pub mod tree_owner;
pub mod tree_partial;
mod tree_pending;
pub mod tree_repair;
pub mod tree_verify;
mod tree_write;
mod tree_xattr;
mod twin_digest;
pub mod usage;
pub mod view;
pub mod watch;

pub use crate::ids::CgroupDriver;
pub use host::{Halt, Host, Plugins};
pub use nix::errno::Errno;
