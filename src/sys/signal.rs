//! Door signal.

/// Stub.
pub fn pending() -> Option<i32> {
    None
}
