//! The meaning of CNI: configurations, host-local's ranges and files, results, libcni's cache. Pure: text and values only.
//!
//! *Source:* CNI specification 0.1.0 to 1.1.0; the behaviour of libcni and of the reference plugins `bridge` and `host-local`.

pub mod allocate;
pub mod attachment_id;
pub mod base64;
pub mod bridge;
pub mod cache;
pub mod config;
pub mod host_local;
pub mod keys;
pub mod lease_file;
pub mod list;
pub mod ports;
pub mod ranges;
pub mod resolv_conf;
pub mod result;
pub mod version;

/// The network that there is when `/etc/cni/net.d` holds none: the file shipped as `cni-conf/10-connet.conflist`.
pub const BUILT_IN: &str = include_str!("../../cni-conf/10-connet.conflist");
