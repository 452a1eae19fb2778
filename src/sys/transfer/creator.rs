//! Whose files this thread makes.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// Keeps the capabilities of the thread when its ids change (`SECBIT_NO_SETUID_FIXUP`, linux/securebits.h).
const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

/// Makes files from now on as these ids of the host; what the thread may do stays as it is.
///
/// On a mount that shows other ids (a volume of a container with a user namespace) nobody can make files whose id it does not show:
/// root of the host gets EOVERFLOW there. Where the capability for it is missing (`CAP_SETPCAP`) all is as before.
#[allow(unsafe_code)]
pub fn create_as((uid, gid): (u32, u32)) {
    // SAFETY: both calls take numbers alone.
    let keeps = unsafe {
        let bits = libc::prctl(libc::PR_GET_SECUREBITS);
        bits >= 0 && libc::prctl(libc::PR_SET_SECUREBITS, bits as libc::c_ulong | NO_SETUID_FIXUP) == 0
    };
    if keeps {
        setfsgid(Gid::from_raw(gid));
        setfsuid(Uid::from_raw(uid));
    }
}
