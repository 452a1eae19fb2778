//! The meaning of CNI: configurations, host-local's ranges and files, results, libcni's cache. Pure: text and values only.
//!
//! *Source:* CNI specification 0.1.0 to 1.1.0; the behaviour of libcni and of the reference plugins `bridge` and `host-local`.

pub mod allocate;
pub mod args;
pub mod attachment_id;
pub mod bandwidth;
pub mod base64;
pub mod bridge;
pub mod built_in;
pub mod cache;
pub mod config;
pub mod draft;
pub mod firewall;
pub mod host_local;
pub mod inject;
pub mod ipam;
pub mod keys;
pub mod lease_file;
pub mod lease_index;
pub mod list;
pub mod macvlan;
pub mod portmap;
pub mod ports;
pub mod ptp;
pub mod ranges;
pub mod request;
pub mod resolv_conf;
pub mod result;
pub mod static_ipam;
pub mod tuning;
pub mod version;
pub mod vlan;

/// The network that there is when `/etc/cni/net.d` holds none: the file shipped as `cni-conf/10-connet.conflist`.
pub const BUILT_IN: &str = include_str!("../../cni-conf/10-connet.conflist");
