//! Room image.
