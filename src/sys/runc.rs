//! Door runc.
