//! Door signal.
