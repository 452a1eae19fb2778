//! Image configuration and options in, runtime specification out. Pure: text and values, no I/O.
//!
//! Every value of an image is chosen by a stranger; what cannot be said safely is refused here, before the host is touched.
//! There is no seccomp profile yet (it is a piece of work of its own): what a container may do is bounded by its
//! capabilities, `no_new_privs`, its namespaces and its masked paths.

pub mod canonical;
pub mod capabilities;
pub mod cgroup;
pub mod device;
pub mod etc;
pub mod mounts;
pub mod paths;
pub mod pause;
pub mod process;
pub mod resources;
pub mod size;
pub mod spec;
pub mod sysctl;
pub mod ulimit;
pub mod user;
