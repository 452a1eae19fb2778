//! State is its owner's alone: another user of the machine, and a container on the network of the host, try every socket, lock, log and
//! record that rkbox has while boxes live.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{World, with_busybox};

/// Tries each path that it is told on standard input; prints what it could do.
const TRIES: &str = r"
import os, socket, stat, sys
for path in sys.stdin.read().split('\0'):
    if not path:
        continue
    for word, flags in (('read', os.O_RDONLY | os.O_NONBLOCK), ('write', os.O_WRONLY | os.O_NONBLOCK)):
        try:
            os.close(os.open(path, flags))
            print(word, path)
        except OSError:
            pass
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as tried:
            try:
                tried.connect(path if len(path) < 108 else '/proc/self/cwd')
                print('connect', path)
            except OSError:
                pass
";

/// A world in which everything that has state lives.
fn living() -> World {
    let world = with_busybox();
    world.rk("volume create vol").ok();
    world.rk("sandbox create web -p 8080:80").ok();
    world.rk("run -d --name in-web --sandbox web -v vol:/v busybox sleep 1000").ok();
    world.rkbox(["run", "-d", "--name", "alone", "--net", "none", "busybox", "sh", "-c", "echo secret; exec sleep 1000"]).ok();
    world.rk("run --name ended --net none --log-max-size 4k busybox echo secret").ok();
    world
}

/// Every path of ours, but for the files of images and containers, which have the modes that the image says.
fn ours(world: &World) -> Vec<String> {
    let roots = format!("{} {} {} /run/netns", world.root().display(), world.run_dir().display(), world.cni_state().display());
    let found = world.sh(&format!(
        "find {roots} \\( -path '*/layers/*/*' -o -path '*/rootfs/*' -o -path '*/upper/*' -o -path '*/init/*' -o -path '*/data/*' \\) -prune -o -print"
    ));
    found.ok().stdout.lines().map(str::to_owned).collect()
}

/// What user 1000 can do with these paths.
fn tried_by_another(world: &World, paths: &[String]) -> Vec<String> {
    std::fs::write(world.path("tries.py"), TRIES).unwrap();
    std::fs::write(world.path("paths"), paths.join("\0")).unwrap();
    world.sh("chmod 755 $HOME; chmod 644 $HOME/tries.py $HOME/paths").ok();
    let said = world.sh("setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all python3 $HOME/tries.py <$HOME/paths").ok();
    said.stdout.lines().map(str::to_owned).collect()
}

fn remove(world: &World) {
    world.rk("rm --force in-web alone ended").ok();
    world.rk("sandbox rm --force web").ok();
    world.rk("volume rm vol").ok();
}

#[test]
fn another_user_opens_no_socket_lock_log_or_record() {
    let world = living();
    let paths = ours(&world);
    for needed in
        ["/control.sock", "/record.json", "/config.json", ".jsonl", "container.log", "/lock", "/events/", "/monitor.json", "index.json"]
    {
        assert!(paths.iter().any(|path| path.contains(needed)), "there is no {needed}: the test tries too little\n{paths:#?}");
    }
    // What `ip netns` shows to everybody, and host-local's directories, which are its own.
    let public =
        |line: &String| line.ends_with("/run/netns") || line.contains("/run/netns/") || line.starts_with("read") && line.contains("/cni");
    let open = |paths: &[String]| tried_by_another(&world, paths).into_iter().filter(|line| !public(line)).collect::<Vec<_>>();
    assert_eq!(open(&paths), Vec::<String>::new());
    // The attempt is a real one: a file that is open is found open.
    world.sh("echo x >$HOME/open; chmod 666 $HOME/open").ok();
    let seen = tried_by_another(&world, &[world.path("open").display().to_string()]);
    assert_eq!(seen.len(), 2, "{seen:?}");
    // And with every directory open to all, each file and socket still has a mode of its own, but for what an image is (0644, as
    // skopeo writes it), what every user inside reads, the pins (0444, as `ip netns` makes them) and what the runtime itself writes.
    let roots = format!("{} {}", world.root().display(), world.run_dir().display());
    world.sh(&format!("find {roots} -type d -not -path '*/rootfs/*' -exec chmod o+rx {{}} + 2>/dev/null || true")).ok();
    let image = |line: &String| line.contains("/images/") || line.contains("/layers/");
    let for_all = |line: &String| {
        ["/hosts", "/hostname", "/resolv.conf", "/uts", "/ipc", "/pid", "/runtime.log"]
            .iter()
            .any(|end| line.starts_with("read") && line.ends_with(end))
    };
    let lax: Vec<String> = open(&paths).into_iter().filter(|line| !image(line) && !for_all(line)).filter(|line| is_file(line)).collect();
    assert_eq!(lax, Vec::<String>::new());
    remove(&world);
}

fn is_file(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(_, path)| !std::path::Path::new(path).is_dir())
}

#[test]
fn a_container_on_the_hosts_network_reaches_none_of_them() {
    let world = living();
    let paths = ours(&world);
    let sockets = std::fs::read_to_string("/proc/thread-self/net/unix").unwrap();
    let named: Vec<&str> = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7)).collect();
    assert!(named.iter().any(|name| name.ends_with("control.sock")), "{sockets}");
    assert!(!named.iter().any(|name| name.starts_with('@')), "a socket that the network namespace alone guards: {sockets}");
    // It sees the names of the sockets, and has no way to one.
    let list =
        paths.iter().chain(named.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().iter()).cloned().collect::<Vec<_>>().join("\n");
    std::fs::write(world.path("list"), list).unwrap();
    let mount = format!("{}:/list:ro", world.path("list").display());
    let script = "while read -r path; do [ ! -e \"$path\" ] || case $path in /run|/tmp) ;; *) echo \"$path\" ;; esac; done </list; cat /proc/net/unix | grep -c control.sock";
    for options in [&[][..], &["--cap-add", "DAC_READ_SEARCH,SYS_PTRACE"]] {
        let words = [&["run", "--rm", "--net", "host", "-v", &mount][..], options, &["busybox", "sh", "-c", script]].concat();
        let said = world.rkbox(words).ok().stdout;
        let (reached, seen): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with('/'));
        assert_eq!(reached, Vec::<&str>::new());
        assert_ne!(seen, ["0"], "it sees no socket: it is not on the network of the host");
    }
    remove(&world);
}

/// What a container is told in its environment may be a secret: an argument of a process is everybody's to read.
#[test]
fn no_word_of_an_environment_is_an_argument_of_a_process() {
    let world = with_busybox();
    std::fs::write(world.path("token"), "hunter-of-words").unwrap();
    // Everything that is started meanwhile is asked for its words, again and again: the runtime lives for milliseconds only.
    let watch = |line: &str| {
        let script = format!(
            "export TOKEN=$(cat $HOME/token)
             (while [ ! -e $HOME/over ]; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' >>$HOME/seen; done) & watcher=$!
             {line}
             touch $HOME/over; wait $watcher"
        );
        let _ = (std::fs::remove_file(world.path("over")), std::fs::remove_file(world.path("seen")));
        world.sh(&script).ok();
        String::from_utf8_lossy(&std::fs::read(world.path("seen")).unwrap()).into_owned()
    };
    let seen = watch(
        "rkbox sandbox create s; rkbox run -d --name c --sandbox s -e TOKEN busybox sleep 1000; rkbox exec -e TOKEN c sleep 0.3; \
        rkbox run --rm --net none -e TOKEN busybox sh -c 'test ${#TOKEN} = 15 && sleep 0.3'; rkbox restart -t 0 c",
    );
    assert!(seen.contains("rkbox-monitor") && seen.contains("runc"), "the test saw too little");
    assert!(!seen.contains("hunter-of-words"), "the secret is an argument");
    assert_eq!(world.rkbox(["exec", "c", "sh", "-c", "echo $TOKEN"]).ok().stdout.trim(), "hunter-of-words");
    // The search finds one that is there.
    assert!(watch("busybox sh -c 'sleep 0.4; :' $TOKEN").contains("hunter-of-words"));
    world.rk("rm --force c").ok();
    world.rk("sandbox rm --force s").ok();
}
