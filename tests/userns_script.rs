//! `--explain` of a box with a user namespace: the script shows other ids by mount(8), where that can.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;

use common::with_busybox;

/// mount(8) of util-linux 2.39, for as much of it as scripts use of it, on top of that of this machine.
const MOUNT_2_39: &str = r#"#!/usr/bin/env python3
import ctypes, os, struct, sys
words = sys.argv[1:]
ids = [word for word in words if word.startswith('X-mount.idmap=')]
if words == ['--version']:
    print('mount from util-linux 2.39.3 (libmount 2.39.3: btrfs)')
elif not ids:
    os.execv('/usr/bin/mount', ['mount', *words])
else:
    source, target = words[-2:]
    call = ctypes.CDLL(None, use_errno=True).syscall
    def must(*args):
        answer = call(*args)
        if answer < 0:
            sys.exit(os.strerror(ctypes.get_errno()))
        return answer
    tree = must(428, -100, source.encode(), 0x80001)
    userns = os.open(ids[0].split('=', 1)[1], os.O_RDONLY)
    must(442, tree, b'', 0x1000, struct.pack('QQQQ', 0x100000, 0, 0, userns), 32)
    must(429, tree, b'', -100, target.encode(), 4)
"#;

/// The script shows other ids as the command does, where mount(8) can; where it cannot it says so before anything is made.
#[test]
fn the_script_shows_the_ids_or_refuses_by_name() {
    let world = with_busybox();
    world.rk("volume create vol").ok();
    let look = "stat -c %u:%g /bin/busybox /v; touch /v/x /x; stat -c %u /v/x /x";
    let run = ["run", "--rm", "--net", "none", "--userns", "auto", "-v", "vol:/v", "busybox", "sh", "-euc", look];
    let by_command = world.rkbox(run).ok().stdout;
    let explained = run.iter().take(1).chain(&["--explain"]).chain(&run[1..]).copied().collect::<Vec<_>>();
    let script = world.rkbox(&explained).ok().stdout;
    fs::write(world.path("script"), &script).unwrap();
    world.sh(&format!("sh -n {}/script", common::world::DIR)).ok();
    assert_eq!(script.matches("X-mount.idmap=").count(), script.matches("mount --bind -o X-mount.idmap=").count(), "{script}");
    let before = world.observe();
    let old = fs::metadata("/usr/bin/mount").map(|_| world.sh("mount --version").ok().stdout).unwrap();
    if old.contains("util-linux 2.38") {
        let refused = world.sh(&format!("sh -eu {}/script", common::world::DIR));
        refused.fails(1).says("util-linux 2.38").says("X-mount.idmap is of 2.39");
        before.assert_again(&world, "after a script that was refused");
    }
    world.sh("mkdir $HOME/bin").ok();
    fs::write(world.path("bin/mount"), MOUNT_2_39).unwrap();
    let said = world.sh(&format!("chmod 755 $HOME/bin/mount; PATH=$HOME/bin:$PATH sh -eu {}/script", common::world::DIR)).ok().stdout;
    assert_eq!(said, by_command);
    world.rk("volume rm vol").ok();
    world.rk("gc").ok();
}
