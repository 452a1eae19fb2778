//! Side by side with podman: same image, same command, same result; where rkbox differs on purpose, exactly so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod peers;

use peers::{Made, Peers};

const SHELL: &str = r#"["/bin/sh", "-c"]"#;

#[test]
fn entrypoint_and_cmd() {
    let made: Vec<Made> = [&[][..], &["echo", "E"], &["/bin/sh", "-c", "echo S $0 $*"]]
        .iter()
        .enumerate()
        .flat_map(|(e, entry)| {
            let cmds = [&[][..], &["echo", "C"], &["/bin/sh", "-c", "echo T"]];
            cmds.into_iter().enumerate().map(move |(c, cmd)| {
                let made = Made::of("busybox", &format!("e{e}c{c}")).with(&["--clear", "config.entrypoint", "--clear", "config.cmd"]);
                let made = entry.iter().fold(made, |made, word| made.with(&["--config.entrypoint", word]));
                cmd.iter().fold(made, |made, word| made.with(&["--config.cmd", word]))
            })
        })
        .collect();
    let mut peers = Peers::new(&made);
    let mut ran = 0;
    for made in &made {
        for entry in [None, Some("echo"), Some(""), Some(r#"["echo", "-n", "x y"]"#), Some("echo z")] {
            let options = entry.map_or(vec![], |entry| vec!["--entrypoint", entry]);
            for args in [&[][..], &["echo", "a"], &["-n", "b"]] {
                ran += usize::from(peers.same(&[&options[..], &[made.name.as_str()], args].concat()).0 == 0);
            }
        }
    }
    assert_eq!(ran, 86, "of which ran");
    peers.end(135);
}

#[test]
fn users() {
    let user = |name: &str, user: &str| Made::of("busybox", name).with(&["--config.user", user]);
    let mut peers =
        Peers::new(&[Made::of("busybox", "none"), user("group", "alice:audio"), user("number", "1000"), user("odd", "12345:6")]);
    let line = "echo $(id -u) $(id -g) $(id -G); echo $HOME";
    let words = |image: &'static str, options: &[&'static str]| [options, &["--entrypoint", SHELL, image, line]].concat();
    for image in ["none", "group", "number", "odd"] {
        peers.same(&words(image, &[]));
        for user in [
            "",
            "root",
            "0",
            "alice",
            "1000",
            "alice:video",
            "alice:44",
            "1000:video",
            "1000:0",
            "12345",
            "12345:audio",
            ":audio",
            "daemon",
        ] {
            peers.same(&words(image, &["--user", user]));
        }
    }
    for user in ["", "alice", "alice:audio", "1000:1000", "12345:6"] {
        peers.same(&words("group", &["--user", user, "--group-add", "video", "--group-add", "77"]));
    }
    // As docker has it: who is not there is found out before anything is made, and that is rkbox's failure, not the command's.
    for options in [&["--user", "nobody"][..], &["--user", "alice:nobody"], &["--user", "2147483648"], &["--group-add", "nobody"]] {
        peers.differ(&words("none", options), (126, ""), (125, ""));
    }
    // As docker and containerd have it: an empty group is none, so those of the group file are his.
    peers.differ(&words("none", &["--user", "alice:"]), (0, "1000 1000 1000\n/home/alice\n"), (0, "1000 1000 1000 29 44\n/home/alice\n"));
    peers.end(4 * 14 + 5 + 5);
}

#[test]
fn environment() {
    let words = ["A=image", "B=image", "C=", "D=x=y z"].iter().flat_map(|pair| ["--config.env", pair]).collect::<Vec<_>>();
    let mut peers = Peers::new(&[Made::of("busybox", "env").with(&words)]);
    let file = peers.write("file", "# comment\n\nA=file\nF=file  \n  G=file\nFROM_CALLER\nH\nI=\nJ=\"q\"\n");
    let more = peers.write("more", "A=more\nK=more\n");
    let (file, more) = (file.as_str(), more.as_str());
    // Sorted: podman's order is another each time. What podman sets besides is left out.
    let line = "env | grep -v -e ^SHLVL -e ^PWD -e ^container= -e ^TERM=xterm -e ^HOSTNAME=[0-9a-f]*$ | sort";
    for options in [
        &[][..],
        &["-e", "A=cli"],
        &["-e", "B=cli", "-e", "A=cli"],
        &["-e", "A=1", "-e", "A=2"],
        &["-e", "N=new"],
        &["-e", "A="],
        &["-e", "FROM_CALLER"],
        &["-e", "UNSET"],
        &["-e", "N=a=b"],
        &["-e", "N= s "],
        &["-e", "PATH=/x:/bin"],
        &["-e", "HOME=/elsewhere"],
        &["-e", "TERM=dumb"],
        &["-e", "HOSTNAME=me"],
        &["--hostname", "named"],
        &["--env-file", file],
        &["--env-file", file, "-e", "A=cli"],
        &["-e", "A=cli", "--env-file", file],
        &["--env-file", file, "--env-file", more],
        &["--env-file", more, "--env-file", file],
        &["--env-file", "/nowhere"],
        &["-e", "=x"],
    ] {
        peers.same(&[options, &["env", "sh", "-c", line]].concat());
    }
    // As docker has it: a name alone that the caller does not have takes the image's away.
    let rest = "B=image\nC=\nD=x=y z\nHOME=/root\nPATH=/bin\n";
    peers.differ(&["-e", "A", "env", "sh", "-c", line], (0, &format!("A=image\n{rest}")), (0, rest));
    peers.end(23);
}

#[test]
fn working_directory() {
    let missing = Made::of("busybox", "missing").with(&["--config.workingdir", "/srv/new/deep", "--config.user", "alice"]);
    let mut peers = Peers::new(&[Made::of("busybox", "none"), Made::of("layers", "home"), missing]);
    let words =
        |image: &'static str, options: &[&'static str]| [options, &["--entrypoint", SHELL, image, "pwd; stat -c '%u %g' ."]].concat();
    for image in ["none", "home", "missing"] {
        for dir in ["/tmp", "/", "/tmp/../etc", "/bin/"] {
            peers.same(&words(image, &["-w", dir]));
        }
    }
    for image in ["none", "home"] {
        peers.same(&words(image, &[]));
        peers.same(&words(image, &["-w", ""]));
    }
    // As docker has it: a directory that is missing is made, and is root's.
    peers.differ(&words("missing", &[]), (0, "/srv/new/deep\n1000 1000\n"), (0, "/srv/new/deep\n0 0\n"));
    peers.differ(&words("none", &["-w", "/a/b"]), (126, ""), (0, "/a/b\n0 0\n"));
    peers.differ(&words("none", &["-w", "relative"]), (126, ""), (125, ""));
    peers.differ(&words("none", &["-w", "/etc/passwd"]), (126, ""), (125, ""));
    // What once led out of containers is no place to work in.
    peers.differ(&words("none", &["-w", "/proc/self/fd"]), (0, "/proc/1/fd\n0 0\n"), (125, ""));
    peers.end(12 + 4 + 5);
}

#[test]
fn exit_codes() {
    let mut peers = Peers::new(&[Made::of("busybox", "b")]);
    let mut codes = Vec::new();
    for words in [
        &["b", "true"][..],
        &["b", "false"],
        &["b", "sh", "-c", "exit 125"],
        &["b", "sh", "-c", "exit 255"],
        &["b", "sh", "-c", "exit 300"],
        &["b", "sh", "-c", "kill -9 $$"],
        &["b", "sh", "-c", "kill -15 $$"],
        &["b", "sh", "-c", "sleep 9 & kill -9 $!; wait $!"],
        &["b", "sh", "-c", "sleep 9 & kill -15 $!; wait $!"],
        &["b", "no-such"],
        &["b", "/no/such"],
        &["b", "/etc"],
        &["b", "/etc/passwd"],
        &["b", "./etc"],
        &["--entrypoint", "/etc/passwd", "b"],
        &["--no-such-option", "b"],
        &["-v", "/no/such:/x:nonsense", "b"],
        &["--memory", "lots", "b"],
        &["--pull", "never", "localhost/no-such-image:1"],
        &["UPPER", "true"],
        &[],
    ] {
        codes.push(peers.same(words).0);
    }
    // A first process that signals itself has no handler, and goes on.
    assert_eq!(codes, [0, 1, 125, 255, 44, 0, 0, 137, 143, 127, 127, 126, 126, 126, 126, 125, 125, 125, 125, 125, 125]);
    peers.end(21);
}

#[test]
fn volumes() {
    let mut peers = Peers::new(&[Made::of("layers", "filled").with(&["--config.user", "0"])]);
    // Without those of several links: podman gives them what the last of their entries says, the image's first is right.
    let look = "cd /data; stat -c '%a %u %g' .; for f in [!fs]*; do stat -c '%n %F %a %u %g %h %s' $f; done; readlink absolute; cat first";
    let words = |options: &[&'static str], line: &'static str| [options, &["--entrypoint", SHELL, "filled", line]].concat();
    // The image's own, one by name and one without, one that is there already, a place that the image does not have.
    let (code, seen) = peers.same(&words(&[], look));
    assert!(code == 0 && seen.starts_with("2775 0 44\n") && seen.contains("late regular file 644 1000 0 1 6\n"), "{seen}");
    assert_eq!(peers.same(&words(&["-v", "named:/data"], look)).1, seen);
    assert_eq!(peers.same(&words(&["-v", "/data"], look)).1, seen);
    peers.same(&words(&["-v", "named:/data"], "rm /data/first; echo mine > /data/mine"));
    let kept = peers.same(&words(&["-v", "named:/data"], look)).1;
    assert!(kept.contains("mine") && !kept.contains("first"), "{kept}");
    peers.same(&words(&["-v", "named:/elsewhere"], "ls /elsewhere"));
    peers.same(&words(&["-v", "fresh:/no/such/place"], "stat -c '%a %u %g' /no/such/place; ls -A /no/such/place"));
    peers.same(&words(&["-v", "one:/home/alice"], "stat -c '%a %u %g' /home/alice; ls -A /home/alice"));
    peers.same(&words(&["-v", "two:/home/alice:ro"], "ls -A /home/alice; touch /home/alice/x 2>/dev/null || echo no"));
    // Used empty first, it is new no longer; emptied, neither.
    peers.same(&words(&["-v", "three:/no/such/place"], "true"));
    peers.same(&words(&["-v", "four:/data"], "rm -rf /data/* /data/.[a-z]*"));
    peers.same(&words(&["-v", "five:/data:nocopy"], "ls -A /data"));
    peers.end(12);
}

#[test]
fn stop_signals() {
    let image = |name: &str, signal: &str| Made::of("busybox", name).with(&["--config.stopsignal", signal]);
    let mut peers = Peers::new(&[Made::of("busybox", "plain"), image("int", "SIGINT"), image("number", "10"), image("real", "RTMIN+3")]);
    let traps = "trap 'exit 2' INT; trap 'exit 10' USR1; trap 'exit 37' 37; trap 'exit 15' TERM; echo up; while :; do sleep 0.05; done";
    let mut seen = Vec::new();
    for (options, image, line) in [
        (&[][..], "plain", traps),
        (&[], "int", traps),
        (&[], "number", traps),
        (&[], "real", traps),
        (&["--stop-signal", "USR1"], "plain", traps),
        (&["--stop-signal", "SIGUSR1"], "int", traps),
        (&["--stop-signal", "2"], "plain", traps),
        (&["--stop-signal", "KILL"], "plain", traps),
        // No handler: only SIGKILL ends a first process.
        (&[], "plain", "echo up; exec sleep 1000"),
    ] {
        seen.push(peers.same_end(options, image, line));
    }
    assert_eq!(seen, [15, 2, 10, 37, 10, 10, 2, 137, 137]);
    peers.end(9);
}
