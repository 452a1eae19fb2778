//! Door tree.
