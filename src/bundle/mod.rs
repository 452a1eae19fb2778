//! Image configuration and options in, runtime specification out. Pure: text and values, no I/O.
//!
//! Every value of an image is chosen by a stranger; what cannot be said safely is refused here, before the host is touched.
//! What a container may do is bounded by its capabilities, `no_new_privs`, its seccomp filter, its namespaces and its masked paths.

pub mod advisories;
pub mod canonical;
pub mod capabilities;
pub mod cgroup;
pub mod cgroup_peers;
pub mod devices;
pub mod etc;
pub mod init;
pub mod mounts;
pub mod paths;
pub mod pause;
pub mod posture;
pub mod process;
pub mod resources;
pub mod seccomp;
pub mod security_opt;
pub mod size;
pub mod spec;
pub mod sysctl;
pub mod ulimit;
pub mod unified;
pub mod usage;
pub mod user;
