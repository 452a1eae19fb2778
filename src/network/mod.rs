//! What attaching to a network takes: which networks there are, the addresses that are free, the steps that make or take back an
//! attachment. The commands, the CNI plugins and later a CRI endpoint are thin faces of it.

mod addresses;
pub mod attach;
pub mod detach;
pub mod networks;
pub mod publish;

pub use addresses::{held_by, pool_dir};
