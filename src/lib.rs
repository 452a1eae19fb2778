//! rkbox: a low-level OCI and CNI sandbox tool that drives runc directly.
//!
//! Every change to the host is a value ([`step::Step`]) that can be looked at, carried out, taken back, timed,
//! journaled and printed as shell. The floors, lowest first: words ([`fault`], [`ids`], [`json`], [`script`]), meaning
//! ([`image`], [`bundle`], [`cni`]), doors ([`sys`]), steps ([`step`]), the plan ([`plan`]) and what a network takes
//! ([`network`]), commands ([`cmd`]).
#![deny(unsafe_code)]
// A test may write a file or start a program; what ships is linted in the ordinary build.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod bundle;
pub mod cmd;
pub mod cni;
pub mod cni_plugin;
pub mod fault;
pub mod idmap;
pub mod ids;
pub mod image;
pub mod json;
pub mod monitor;
pub mod network;
pub mod plan;
pub mod pod;
pub mod ports;
pub mod record;
pub mod script;
pub mod step;
pub mod sys;
