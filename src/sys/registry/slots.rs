//! How many blobs come at the same time.

use std::sync::{Condvar, Mutex};

use super::held;

/// A number of slots.
pub(super) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One taken slot; dropping it frees it.
pub(super) struct Slot<'a>(&'a Slots);

impl Slots {
    pub fn new(count: usize) -> Self {
        Slots { free: Mutex::new(count.max(1)), freed: Condvar::new() }
    }

    /// Waits for a slot; whoever holds one is at work and frees it.
    pub fn take(&self) -> Slot<'_> {
        let mut free = held(&self.free);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *held(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}
