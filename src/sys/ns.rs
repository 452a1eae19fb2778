//! Door ns.
