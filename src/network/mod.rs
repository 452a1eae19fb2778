//! What attaching to a network takes: which networks there are, the addresses that are free, the steps that make or take back an
//! attachment. The commands, the CNI plugins and later a CRI endpoint are thin faces of it.

pub mod addresses;
pub mod attach;
mod bridge;
pub mod call;
mod chained;
pub mod check;
pub mod detach;
pub mod direct;
pub mod foreign;
pub mod lease_book;
mod lease_search;
mod loopback;
mod macvlan;
pub mod networks;
pub mod portmap;
mod ptp;
pub mod publish;
pub mod upstream;
mod wiring;

pub use addresses::pool_dir;
pub use lease_search::held_by;
