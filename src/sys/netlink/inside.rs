//! The socket in another namespace that was used last, kept for the next step: entering a namespace costs a thread.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Netlink, NetlinkError};
use crate::sys::ns;

/// Which namespace: device and inode on nsfs, which no other gets while a socket keeps this one alive.
type Key = (u64, u64);

thread_local! {
    static LAST: RefCell<Option<(Key, Netlink)>> = const { RefCell::new(None) };
}

/// A socket in another network namespace.
#[derive(Debug)]
pub struct Inside {
    netlink: ManuallyDrop<Netlink>,
    key: Option<Key>,
}

impl Inside {
    /// Opens a socket in the namespace at `netns`, or takes the one that was used last.
    pub(super) fn open(netns: &Path) -> Result<Inside, NetlinkError> {
        let key = std::fs::metadata(netns).ok().map(|meta| (meta.dev(), meta.ino()));
        let kept = LAST.with_borrow_mut(Option::take).filter(|(last, _)| Some(*last) == key);
        let netlink = match kept {
            Some((_, netlink)) => netlink,
            None => ns::inside(netns, Netlink::open)??,
        };
        Ok(Inside { netlink: ManuallyDrop::new(netlink), key })
    }
}

/// Closes the kept socket: it keeps its namespace alive, and with it the veth pairs in it.
pub fn forget() {
    drop(LAST.with_borrow_mut(Option::take));
}

impl Deref for Inside {
    type Target = Netlink;
    fn deref(&self) -> &Netlink {
        &self.netlink
    }
}

impl DerefMut for Inside {
    fn deref_mut(&mut self) -> &mut Netlink {
        &mut self.netlink
    }
}

impl Drop for Inside {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: this is the drop of the owner, after which nobody can reach the field.
        let netlink = unsafe { ManuallyDrop::take(&mut self.netlink) };
        if let Some(key) = self.key {
            // At the end of the thread there may be no place to keep it any more: then it closes here.
            let _ = LAST.try_with(|last| last.replace(Some((key, netlink))));
        }
    }
}
