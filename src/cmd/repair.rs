//! `rkbox repair`: gives containers that lost their monitor a new one.

use clap::Args;

use super::{Context, container, output};
use crate::fault::Result;

/// Arguments of `rkbox repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {}

/// Adopts every container that runs and whose monitor is dead; prints their names.
pub fn run(cx: &Context, _args: &RepairArgs) -> Result<u8> {
    let (adopted, faults) = container::adopt_all(&cx.host)?;
    adopted.iter().for_each(|name| output::line(&format!("watched again: {name}")));
    faults.or(0)
}
