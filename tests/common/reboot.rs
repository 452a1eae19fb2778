//! A reboot, as far as one world can have it.

use super::World;

/// Takes what a reboot takes: processes, namespaces, mounts, links, rules, /run, control groups. The records are then of another boot.
pub const SCRIPT: &str = r#"
    for pid in $(cat $HOME/run/containers/*/monitor.json 2>/dev/null | jq '.monitor, .pid') $(rkbox --format json sandbox ls | jq '.[].pid // empty'); do
        kill -9 $pid 2>/dev/null || true
    done
    umount -R /run/netns/* 2>/dev/null || true
    for mount in $(awk -v home=$HOME/ '$5 ~ "^" home {print $5}' /proc/self/mountinfo | sort -r); do umount -l $mount; done
    umount /run/netns 2>/dev/null || true
    rm -rf $HOME/run $HOME/run-userns /run/netns
    for link in $(ip -j link show type bridge | jq -r '.[].ifname'); do ip link delete $link; done
    nft flush ruleset
    sysctl -q net.ipv4.ip_forward=0
    for way in /sys/fs/cgroup/*/ /sys/fs/cgroup/; do
        for nth in 1 2 3 4 5 6 7 8 9; do
            ! find $way$RKBOX_CGROUP_PARENT -depth -mindepth 1 -type d -exec rmdir {} + 2>&1 | grep -q busy || sleep 0.1
        done
    done
    boot=$(cat /proc/sys/kernel/random/boot_id)
    for record in $HOME/lib/containers/*/record.json $HOME/lib/sandboxes/*/record.json; do
        [ ! -e $record ] || sed -i s/$boot/a-former-boot/ $record
    done
    for file in $HOME/lib/*/*/boot-*.json; do [ ! -e $file ] || mv $file ${file%/*}/boot-a-former-boot.json; done
"#;

/// Reboots a world.
#[track_caller]
pub fn reboot(world: &World) {
    world.sh(SCRIPT).ok();
}
