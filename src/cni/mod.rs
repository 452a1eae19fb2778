//! Room cni.
