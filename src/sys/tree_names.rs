//! Sets of paths, kept small: 16 bytes each.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::image::tar_path::TarPath;

/// A set of paths, of which only two keyed hashes are kept: the keys are random, so that an image cannot choose names that
/// are taken for each other, and five million entries fit into 100 MiB.
#[derive(Default)]
pub(super) struct PathSet {
    keys: (RandomState, RandomState),
    hashes: HashSet<(u64, u64)>,
}

impl PathSet {
    fn hash(&self, path: &TarPath) -> (u64, u64) {
        (self.keys.0.hash_one(path), self.keys.1.hash_one(path))
    }

    /// Adds a path; answers whether it is new.
    pub(super) fn insert(&mut self, path: &TarPath) -> bool {
        let hash = self.hash(path);
        self.hashes.insert(hash)
    }

    /// Whether the path is in the set.
    pub(super) fn contains(&self, path: &TarPath) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&self.hash(path))
    }

    /// Whether the path or a directory above it is in the set.
    pub(super) fn covers(&self, path: &TarPath) -> bool {
        if self.hashes.is_empty() {
            return false;
        }
        let mut at = path.clone();
        loop {
            if self.contains(&at) {
                return true;
            }
            if at.is_root() {
                return false;
            }
            at = at.parent();
        }
    }
}
