//! Door mount.
