//! Named places at which a debug build can be made to fail or die, so that tests reach every one of them.

use crate::fault::Result;

/// Fails or aborts here when `RKBOX_FAULT` is `PHASE:INDEX:fail` or `PHASE:INDEX:abort`, and appends `PHASE:INDEX` to the file that
/// `RKBOX_FAULT_TRACE` names; nothing in a release build.
#[cfg(debug_assertions)]
pub fn reach(phase: &str, index: usize) -> Result<()> {
    if let Ok(trace) = std::env::var("RKBOX_FAULT_TRACE") {
        crate::sys::file::append(std::path::Path::new(&trace), &format!("{phase}:{index}\n"))?;
    }
    let Ok(wanted) = std::env::var("RKBOX_FAULT") else { return Ok(()) };
    let point = format!("{phase}:{index}:");
    match wanted.strip_prefix(&point) {
        Some("abort") => std::process::abort(),
        Some("fail") => Err(crate::fault::Fault::internal(format!("fault injected at {phase}:{index}"))),
        _ => Ok(()),
    }
}

/// Nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_phase: &str, _index: usize) -> Result<()> {
    Ok(())
}
