//! What every integration test stands on: a world of its own, what can be observed of it, and real images.
//!
//! Nothing in here knows how rkbox works. It looks at the kernel with `ip`, `nft`, `/proc` and the file system, so that a
//! test compares worlds, not what rkbox says about them.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "tests")]

mod cgroup;
mod diff;
mod files;
mod gate;
mod images;
mod kernel;
mod normal;
mod observation;
mod output;
pub mod portmap;
mod process;
pub mod reboot;
pub mod registry;
mod user;
pub mod world;

pub use gate::{Act, Gate, Request, apart};
pub use images::images;
pub use normal::shapes;
pub use observation::Observation;
pub use output::Output;
pub use process::{until, wait_for};
pub use reboot::reboot;
pub use registry::{HTPASSWD, Registry};
pub use user::{User, with_images as user_with_images};
pub use world::{World, with_busybox, with_busybox_only};
