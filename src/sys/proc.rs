//! Door proc.

/// Stub.
pub fn boot_id() -> crate::fault::Result<String> {
    Ok(crate::sys::file::read_kernel(std::path::Path::new("/proc/sys/kernel/random/boot_id"))?)
}
