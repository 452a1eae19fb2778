//! Door netlink.
