//! A look at merged layers without mounting them anywhere: a detached mount that dies with its descriptor.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::mount::{fs_config, fs_flag, fs_mount, fs_open};
use super::rootless::in_user_namespace;
use super::{file, rootfs};
use crate::bundle::user::Accounts;
use crate::fault::{Fault, Result, kind_of_errno};

/// Reads the account files of an image from its layers, highest first, as its containers will see them.
///
/// The host is not changed: the overlay is never attached to a path. On a kernel that cannot do this (before 6.5) each file is taken
/// from the highest layer that has it.
pub fn read_accounts(layers: &[PathBuf]) -> Result<Accounts> {
    match layers {
        [] => Ok(Accounts::default()),
        [only] => Ok(rootfs::read_accounts(only)?),
        several => match merged(several) {
            Ok(view) => Ok(rootfs::read_accounts(Path::new(&format!("/proc/self/fd/{}", view.as_raw_fd())))?),
            Err(Errno::ENOSYS | Errno::EINVAL) => highest(several),
            Err(errno) => Err(Fault::new(kind_of_errno(errno), format!("fsopen overlay of {} layers: {errno}", several.len()))),
        },
    }
}

fn merged(layers: &[PathBuf]) -> nix::Result<OwnedFd> {
    let context = fs_open(c"overlay")?;
    fs_config(&context, "source", Path::new("rkbox"))?;
    for layer in layers {
        fs_config(&context, "lowerdir+", layer)?;
    }
    fs_config(&context, "redirect_dir", Path::new("nofollow"))?;
    if in_user_namespace() {
        fs_flag(&context, c"userxattr")?;
    }
    fs_mount(&context, false)
}

fn highest(layers: &[PathBuf]) -> Result<Accounts> {
    let mut accounts = Accounts::default();
    for layer in layers.iter().rev() {
        let found = rootfs::read_accounts(layer)?;
        if file::exists(&layer.join("etc/passwd"))? {
            accounts.passwd = found.passwd;
        }
        if file::exists(&layer.join("etc/group"))? {
            accounts.group = found.group;
        }
    }
    Ok(accounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_layer_wins_and_nothing_is_mounted() {
        let world = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = ["top", "bottom"].map(|name| world.path().join(name)).into();
        for layer in &layers {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        std::fs::write(layers[0].join("etc/passwd"), "top:x:1:1::/:\n").unwrap();
        std::fs::write(layers[1].join("etc/passwd"), "bottom:x:1:1::/:\n").unwrap();
        std::fs::write(layers[1].join("etc/group"), "g:x:5:\n").unwrap();
        let mounts = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().count();
        let before = mounts();
        let accounts = read_accounts(&layers).unwrap();
        assert_eq!(accounts.passwd, "top:x:1:1::/:\n");
        assert_eq!(accounts.group, "g:x:5:\n");
        assert_eq!(highest(&layers).unwrap(), accounts);
        assert_eq!(mounts(), before);
    }
}
