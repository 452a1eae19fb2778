//! Door exec.
