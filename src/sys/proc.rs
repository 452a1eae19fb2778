//! Door proc.
