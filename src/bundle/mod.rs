//! Room bundle.
