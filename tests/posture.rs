//! What a container may do, seen from inside: the filter call by call, capabilities, paths, limits, devices; and what is refused outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
#[path = "posture/mod.rs"]
mod inside;

use std::fs;

use common::{Output, World, with_busybox};
use inside::{answers, probe, shell};

const EPERM: &str = "1";
const ENOSYS: &str = "38";
const EAFNOSUPPORT: &str = "97";

/// A world with the busybox image.
fn native(number: i64, args: &str) -> String {
    format!("n:{number}{}{args}", if args.is_empty() { "" } else { ":" })
}

/// What leads out of a container or into the kernel's cellar: the call, its arguments, and what the filter answers. Without the filter
/// the kernel answers otherwise (`true`), or the same because a capability is missing.
fn refused() -> Vec<(&'static str, String, &'static str, bool)> {
    let call = |name, number: i64, args: &str, answer, differs| (name, native(number, args), answer, differs);
    vec![
        call("mount", libc::SYS_mount, "0:0:0:0:0", EPERM, false),
        call("umount2", libc::SYS_umount2, "0:0", EPERM, false),
        call("pivot_root", libc::SYS_pivot_root, "0:0", EPERM, false),
        call("unshare NEWUSER", libc::SYS_unshare, "0x10000000", EPERM, true),
        call("unshare NEWNS", libc::SYS_unshare, "0x20000", EPERM, false),
        call("unshare FS", libc::SYS_unshare, "0x200", "0", false),
        call("clone NEWUSER", libc::SYS_clone, "0x10000011", EPERM, true),
        call("clone NEWUSER and high bits", libc::SYS_clone, "0x110000011", EPERM, true),
        call("clone", libc::SYS_clone, "0x11", "0", false),
        call("clone3", libc::SYS_clone3, "0:0", ENOSYS, true),
        call("setns", libc::SYS_setns, "0:0", EPERM, true),
        call("keyctl", libc::SYS_keyctl, "0:0xfffffffd:0", EPERM, true),
        call("add_key", libc::SYS_add_key, "0:0:0:0:0", EPERM, true),
        call("request_key", libc::SYS_request_key, "0:0:0:0", EPERM, true),
        call("bpf", libc::SYS_bpf, "99:0:0", EPERM, false),
        call("io_uring_setup", libc::SYS_io_uring_setup, "0:0", EPERM, true),
        call("io_uring_enter", libc::SYS_io_uring_enter, "99:0:0:0:0:0", EPERM, true),
        call("perf_event_open", libc::SYS_perf_event_open, "0:0:0:0:0", EPERM, true),
        call("userfaultfd", libc::SYS_userfaultfd, "0xffffffff", EPERM, true),
        call("process_vm_readv", libc::SYS_process_vm_readv, "1:0:0:0:0:0", EPERM, true),
        call("kcmp", libc::SYS_kcmp, "1:1:99:0:0", EPERM, true),
        call("kexec_load", libc::SYS_kexec_load, "0:0:0:0", EPERM, false),
        call("kexec_file_load", libc::SYS_kexec_file_load, "0:0:0:0:0", EPERM, false),
        call("open_by_handle_at", libc::SYS_open_by_handle_at, "0:0:0", EPERM, false),
        call("init_module", libc::SYS_init_module, "0:0:0", EPERM, false),
        call("finit_module", libc::SYS_finit_module, "0:0:0", EPERM, false),
        call("reboot", libc::SYS_reboot, "0:0:0:0", EPERM, false),
        call("swapon", libc::SYS_swapon, "0:0", EPERM, false),
        call("iopl", libc::SYS_iopl, "3", EPERM, false),
        call("modify_ldt", libc::SYS_modify_ldt, "99:0:0", EPERM, true),
        call("syslog", libc::SYS_syslog, "99:0:0", EPERM, false),
        call("quotactl", libc::SYS_quotactl, "0:0:0:0", EPERM, true),
        call("fsopen", libc::SYS_fsopen, "0:0", EPERM, false),
        call("open_tree", libc::SYS_open_tree, "0:0:0xffff0000", EPERM, true),
        call("mount_setattr", libc::SYS_mount_setattr, "0:0:0:0:0", EPERM, true),
        call("personality ADDR_NO_RANDOMIZE", libc::SYS_personality, "0x40000", ENOSYS, true),
        call("personality, the question", libc::SYS_personality, "0xffffffff", "0", false),
        call("socket AF_VSOCK", libc::SYS_socket, "40:1:0", EAFNOSUPPORT, false),
        call("socket AF_ALG", libc::SYS_socket, "38:5:0", EAFNOSUPPORT, false),
        call("socket AF_INET with high bits", libc::SYS_socket, "0x100000002:1:0", EAFNOSUPPORT, true),
        call("socket AF_INET", libc::SYS_socket, "2:1:0", "0", false),
        call("socket AF_NETLINK audit", libc::SYS_socket, "16:3:9", "22", false),
        call("a call of the future", 1023, "", ENOSYS, false),
    ]
}

/// R21: the calls that lead out.
#[test]
fn what_leads_out_is_refused_by_the_filter() {
    let world = with_busybox();
    let refused = refused();
    let calls: Vec<String> = refused.iter().map(|(_, call, _, _)| call.clone()).collect();
    let filtered = answers(&world, &[], &calls);
    let bare = answers(&world, &["--security-opt", "seccomp=unconfined"], &calls);
    for (((name, _, expected, differs), inside), bare) in refused.iter().zip(&filtered).zip(&bare) {
        assert_eq!(inside, expected, "{name}");
        assert!(!differs || bare != inside, "{name} answers {bare} without the filter too");
    }
    // Exec'ed as another user it is the same filter.
    assert_eq!(answers(&world, &["--user", "1000:1000"], &calls[..3]), [EPERM; 3]);
}

/// The old doors of an x86_64 kernel: `int 0x80` and x32 have numbers of their own, and a filter that does not know them is none.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_calls_of_other_instruction_sets_are_refused() {
    let world = with_busybox();
    // getpid (20), mount (21), unshare (310), keyctl (288); and getpid (39), mount (165) with the bit of x32.
    let calls = ["i:20", "i:21:0:0:0", "i:310:0x10000000", "i:288:0:0", "x:39", "x:165:0:0:0:0:0"].map(str::to_owned);
    for answer in answers(&world, &[], &calls) {
        assert!([EPERM, ENOSYS, "signal 31"].contains(&answer.as_str()), "{answer}");
    }
    let all = answers(&world, &["--security-opt", "seccomp-archs=all"], &calls);
    assert_eq!(all[0].parse::<i32>().ok(), Some(0), "getpid of a 32-bit program, asked for: {all:?}");
    assert!(all[1..4].iter().all(|answer| answer == EPERM), "{all:?}");
}

#[test]
fn a_capability_opens_its_calls_and_a_profile_can_be_given() {
    let world = with_busybox();
    let mount = native(libc::SYS_mount, "0:0:0:0:0");
    let nested = native(libc::SYS_unshare, "0x20000");
    let calls = [mount.clone(), nested.clone()];
    assert_eq!(answers(&world, &["--cap-add", "SYS_ADMIN"], &calls)[1], "0");
    assert_eq!(answers(&world, &["--privileged"], &calls)[1], "0");
    // Podman's and Docker's file form, with conditions on capabilities.
    let profile = world.path("profile.json");
    fs::write(
        &profile,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["getsid"],"action":"SCMP_ACT_ERRNO","errnoRet":42,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":43,"includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#,
    )
    .unwrap();
    let option = format!("seccomp={}", profile.display());
    let calls = [native(libc::SYS_getsid, "0"), native(libc::SYS_mkdir, "0:0")];
    assert_eq!(answers(&world, &["--security-opt", &option], &calls), ["42", "14"]);
    world.rkbox(["run", "--rm", "--security-opt", "seccomp=/nowhere.json", "busybox", "true"]).fails(125).says("/nowhere.json");
    fs::write(&profile, "{}").unwrap();
    world.rkbox(["run", "--rm", "--security-opt", &option, "busybox", "true"]).fails(125).says("not a seccomp profile");
    // What `rkbox seccomp` prints is such a file, and podman's own default is one too.
    fs::write(&profile, world.rk("seccomp").ok().stdout).unwrap();
    assert_eq!(answers(&world, &["--security-opt", &option], &[mount])[0], EPERM);
    if fs::exists("/usr/share/containers/seccomp.json").unwrap() {
        shell(&world, &["--security-opt", "seccomp=/usr/share/containers/seccomp.json"], "grep Seccomp: /proc/self/status")
            .ok()
            .prints("2");
    }
}

/// The lines of `/proc/self/status` that say what a process may do.
fn status(world: &World, options: &[&str]) -> Vec<String> {
    let wanted = "^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Groups):";
    let out = shell(world, options, &format!("grep -E '{wanted}' /proc/self/status")).ok().stdout;
    out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

const NONE: &str = "0000000000000000";
/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
const ELEVEN: &str = "00000000800405fb";

#[test]
fn the_rights_of_a_process_are_those_of_the_table() {
    let world = with_busybox();
    let rights = |prm: &str, bnd: &str, amb: &str, fixed: u8, filter: u8| {
        [
            format!("CapInh: {amb}"),
            format!("CapPrm: {prm}"),
            format!("CapEff: {prm}"),
            format!("CapBnd: {bnd}"),
            format!("CapAmb: {amb}"),
            format!("NoNewPrivs: {fixed}"),
            format!("Seccomp: {filter}"),
        ]
    };
    let seen = |options: &[&str]| status(&world, options).into_iter().filter(|line| !line.starts_with("Groups")).collect::<Vec<_>>();
    assert_eq!(seen(&[]), rights(ELEVEN, ELEVEN, NONE, 1, 2));
    assert_eq!(seen(&["--user", "alice"]), rights(NONE, ELEVEN, NONE, 1, 2));
    assert_eq!(seen(&["--cap-drop", "all"]), rights(NONE, NONE, NONE, 1, 2));
    let net_raw = "0000000000002000";
    assert_eq!(seen(&["--cap-drop", "ALL", "--cap-add", "net_raw"]), rights(net_raw, net_raw, NONE, 1, 2));
    assert_eq!(seen(&["--cap-drop", "ALL", "--cap-add", "CAP_NET_RAW", "--user", "1000"]), rights(net_raw, net_raw, net_raw, 1, 2));
    assert_eq!(seen(&["--allow-new-privs"])[5], "NoNewPrivs: 0");
    assert_eq!(seen(&["--security-opt", "no-new-privileges=false"])[5], "NoNewPrivs: 0");
    assert_eq!(seen(&["--security-opt", "seccomp=unconfined"])[6], "Seccomp: 0");
    let all = seen(&["--privileged"]);
    assert_eq!((all[0].as_str(), all[5].as_str(), all[6].as_str()), (&*format!("CapInh: {NONE}"), "NoNewPrivs: 0", "Seccomp: 0"));
    // All that this process itself could pass on.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
    assert_eq!(all[3], format!("CapBnd: {own}"));
}

/// R11 for what enters a running container: no more rights than the container's own first process has.
#[test]
fn what_is_executed_into_a_container_has_no_more_rights() {
    let world = with_busybox();
    world.rk("run -d --name web --net none busybox sleep 300").ok();
    world.rk("run -d --name user --net none --user alice --cap-add NET_RAW busybox sleep 300").ok();
    let of = |args: &[&str]| {
        let wanted = "grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status";
        world.rkbox([&["exec"], args, &["sh", "-c", wanted]].concat()).ok().stdout
    };
    let first = |name: &str| world.rkbox(["exec", name, "sh", "-c", "grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/1/status"]).ok().stdout;
    assert_eq!(of(&["web"]), first("web"));
    assert!(of(&["web"]).contains(&format!("CapBnd:\t{ELEVEN}")), "{}", of(&["web"]));
    assert_eq!(of(&["user"]), first("user"));
    let other = of(&["--user", "1000", "web"]);
    assert!(other.contains(&format!("CapEff:\t{NONE}")) && other.contains("NoNewPrivs:\t1") && other.contains("Seccomp:\t2"), "{other}");
    world.rk("rm --force web user").ok();
}

#[test]
fn set_uid_programs_give_nothing_unless_asked() {
    let world = with_busybox();
    // The busybox of an image drops such rights itself; the probe does not, and `setuid(0)` then tells whether it had them.
    let line = format!("cp /probe /id && chmod 4755 /id && su alice -s /bin/sh -c '/id {}'", native(libc::SYS_setuid, "0"));
    let mount = format!("{}:/probe:ro", probe().display());
    let user = |more: &[&str]| shell(&world, &[&["-v", &mount], more].concat(), &line).ok().stdout;
    assert_eq!(user(&[]), format!("{EPERM}\n"));
    assert_eq!(user(&["--allow-new-privs"]), "0\n");
}

#[test]
fn kernel_paths_are_hidden_and_read_only() {
    let world = with_busybox();
    // A masked file is the null device, a masked directory an empty read-only one.
    let look = "for f in kcore keys timer_list interrupts sched_debug; do [ ! -e /proc/$f ] || echo $f $(head -c 100 /proc/$f | wc -c); done
        for d in /sys/firmware /sys/dev/block /proc/scsi /proc/acpi; do [ ! -e $d ] || echo $d $(ls $d | wc -l); done
        for f in /proc/sysrq-trigger /proc/sys/kernel/hostname /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /sys/kernel/mm/ksm/run; do
            [ ! -e $f ] || { (echo 0 > $f) 2>/dev/null && echo wrote $f; }; done; true";
    let said = shell(&world, &[], look).ok().stdout;
    assert!(said.lines().count() >= 4 && said.lines().all(|line| line.ends_with(" 0")), "{said}");
    let opened = shell(&world, &["--security-opt", "unmask=/proc/interrupts"], "wc -c < /proc/interrupts").ok().stdout;
    assert_ne!(opened.trim(), "0");
    let all = shell(&world, &["--security-opt", "systempaths=unconfined"], "echo web > /proc/sys/kernel/hostname; hostname").ok().stdout;
    assert_eq!(all, "web\n");
    shell(&world, &["--security-opt", "mask=/etc"], "ls /etc | wc -l").ok().prints("0");
    let writable = shell(&world, &["--privileged"], "grep -E ' /sys ' /proc/mounts").ok().stdout;
    assert!(writable.contains(" rw,"), "{writable}");
}

/// R22: no device but the few; none through a node that an image or a root of the container makes.
#[test]
fn devices_are_the_few_and_others_only_when_given() {
    let world = with_busybox();
    let few = shell(&world, &[], "ls /dev | grep -v ^core | tr '\\n' ' '").ok().stdout;
    assert_eq!(few.trim(), "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    // 1:11 is kmsg, 7:0 a loop device: neither is allowed by the device group, wherever the node is made.
    let make = "for where in /dev /tmp; do mknod $where/x c 1 11 && head -c 1 $where/x && echo read; mknod $where/y b 7 0 && head -c 1 $where/y && echo read; done 2>/dev/null; true";
    for options in [&["--cap-add", "MKNOD"][..], &["--cap-add", "MKNOD", "--security-opt", "seccomp=unconfined"], &[]] {
        assert_eq!(shell(&world, options, make).ok().stdout, "", "{options:?}");
    }
    // The root file system is mounted nodev: a device of the image is none, even one that the device group allows.
    let null = "mknod /tmp/null c 1 3 && echo x > /tmp/null";
    shell(&world, &["--cap-add", "MKNOD"], null).fails(1);
    let open = |options: &[&str], how: &str| shell(&world, options, &format!("test -c /dev/x && : {how} /dev/x"));
    open(&["--device", "/dev/fuse:/dev/x"], "<>").ok();
    open(&["--device", "/dev/fuse:/dev/x:r"], "<").ok();
    open(&["--device", "/dev/fuse:/dev/x:r"], ">").fails(1).says("not permitted");
    let made = ["--cap-add", "MKNOD", "--device-cgroup-rule", "c 10:229 rwm"];
    shell(&world, &made, "mknod /dev/x c 10 229 && : <> /dev/x").ok();
    shell(&world, &["--device", "/dev/net"], "test -c /dev/net/tun").ok();
    shell(&world, &["--privileged"], "test -c /dev/kmsg && : < /dev/kmsg && : <> /dev/net/tun").ok();
    for (device, word) in
        [("/etc/passwd", "not a device"), ("/dev/nothing", "No such file"), ("kmsg", "absolute"), ("a.b/c=d", "Device Interface")]
    {
        world.rkbox(["run", "--rm", "--device", device, "busybox", "true"]).fails(125).says(word);
    }
}

#[test]
fn limits_hold_by_default() {
    let world = with_busybox();
    let said = shell(&world, &[], "ulimit -c; ulimit -Sn; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; grep Max /proc/self/limits | grep -E 'open|core'; grep ' / ' /proc/mounts").ok();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[..3], ["0", "1024", "2048"], "{said}");
    assert!(said.stdout.lines().any(|line| line.contains(" / overlay") && line.contains("nodev")), "{said}");
    let umask = shell(&world, &[], "umask; cat /proc/self/oom_score_adj").ok().stdout;
    assert_eq!(umask, "0022\n0\n");
}

#[test]
fn a_network_of_its_own_lets_users_ping_and_take_low_ports() {
    let world = with_busybox();
    let user = ["--user", "1000:1000"];
    shell(&world, &user, "ping -c1 -W2 127.0.0.1 >/dev/null && nc -l -p 80 -e true & sleep 0.1; nc -w1 127.0.0.1 80 </dev/null; wait").ok();
    let seen = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range";
    assert_eq!(shell(&world, &user, seen).ok().stdout.split_whitespace().collect::<Vec<_>>(), ["0", "0", "2147483647"]);
    let said = shell(
        &world,
        &["--sysctl", "net.ipv4.ip_unprivileged_port_start=500", "--sysctl", "kernel.shmmni=7"],
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni",
    );
    assert_eq!(said.ok().stdout, "500\n7\n");
    world.rk("sandbox create web").ok();
    let args = ["run", "--rm", "--sandbox", "web", "--user", "1000", "busybox", "sh", "-c", seen];
    assert_eq!(world.rkbox(args).ok().stdout.split_whitespace().collect::<Vec<_>>(), ["0", "0", "2147483647"]);
    world
        .rkbox(["run", "--rm", "--sandbox", "web", "--sysctl", "net.core.somaxconn=1", "busybox", "true"])
        .fails(125)
        .says("not this container's own");
    world.rk("sandbox rm --force web").ok();
    // Not the namespace of somebody else.
    world.sh("ip netns add theirs").ok();
    world
        .rkbox(["run", "--rm", "--netns", "theirs", "busybox", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"])
        .ok()
        .prints("1024");
    world
        .rkbox(["run", "--rm", "--netns", "theirs", "--sysctl", "net.core.somaxconn=1", "busybox", "true"])
        .fails(125)
        .says("not this container's own");
    world.sh("ip netns delete theirs").ok();
    for bad in ["vm.swappiness=1", "kernel.core_pattern=|/bin/sh", "net.core.somaxconn=1\nx=y", "net.a/../../kernel.x=1"] {
        world.rkbox(["run", "--rm", "--sysctl", bad, "busybox", "true"]).fails(125).says("sysctl");
    }
}

#[test]
fn what_the_host_cannot_hold_is_refused_by_name() {
    let world = with_busybox();
    let refused = |option: &[&str], word: &str| {
        let args = [&["run", "--rm", "--net", "none"], option, &["busybox", "true"]].concat();
        world.rkbox(args).fails(125).says(word).says("hint:");
    };
    refused(&["--cap-add", "CAP_EVERYTHING"], "unknown");
    refused(&["--security-opt", "colour=red"], "not known");
    refused(&["--security-opt", "systempaths=confined"], "not known");
    refused(&["--userns", "elsewhere"], "--userns");
    shell(&world, &["--userns", "host"], "cat /proc/self/uid_map").ok().prints("4294967295");
    if !fs::exists("/sys/module/apparmor").unwrap() {
        refused(&["--security-opt", "apparmor=docker-default"], "AppArmor");
        shell(&world, &["--security-opt", "apparmor=unconfined"], "true").ok();
    }
    if !fs::exists("/sys/fs/selinux/enforce").unwrap() {
        refused(&["--security-opt", "label=type:spc_t"], "SELinux");
        shell(&world, &["--security-opt", "label=disable"], "true").ok();
    }
    // A capability that this process has not got cannot be given (most containers lack CAP_SYS_RESOURCE or more).
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let bounding =
        own.lines().find_map(|line| line.strip_prefix("CapBnd:")).map(|hex| u64::from_str_radix(hex.trim(), 16).unwrap()).unwrap();
    if bounding >> 24 & 1 == 0 {
        refused(&["--cap-add", "SYS_RESOURCE"], "CAP_SYS_RESOURCE");
    }
}

/// R1: descriptors that rkbox's caller left open reach neither the container nor the runtime.
#[test]
fn descriptors_of_the_caller_do_not_reach_the_container() {
    let world = with_busybox();
    let caller = "for fd in {9..60}; do eval \"exec $fd</etc/passwd\"; done; exec 3</ 4</root 5</dev/null; exec \"$0\" run --rm --net none busybox ls /proc/self/fd";
    let said = Output::of(world.command("/bin/bash").arg("-ec").arg(caller).arg(&world.program), world.limit).ok();
    // The fourth is the directory that `ls` itself reads.
    assert_eq!(said.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{said}");
    for dir in ["/proc/self/fd/3", "/proc/self/fd/7/", "/proc/1/cwd", "/./proc//self/fd/9"] {
        world.rkbox(["run", "--rm", "--net", "none", "--workdir", dir, "busybox", "true"]).fails(125).says("/proc");
    }
}

/// R15: of the caller's environment nothing comes along, and nothing of one container is in another.
#[test]
fn the_environment_is_clean() {
    let world = with_busybox();
    let said = world.sh("SECRET=1 LISTEN_FDS=3 NOTIFY_SOCKET=/x LD_PRELOAD= rkbox run --rm --net none -e A=1 busybox env").ok().stdout;
    let names: Vec<&str> = said.lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["PATH", "HOSTNAME", "A", "HOME"], "{said}");
    let other = world.rk("run --rm --net none busybox env").ok().stdout;
    assert!(!other.contains("A=1"), "{other}");
}
