//! Terminals and attached clients, through the real binary and a real pty.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{World, wait_for, with_busybox_only};

/// What `inspect` says of a container.
#[track_caller]
fn seen(world: &World, name: &str) -> serde_json::Value {
    world.rkbox(["inspect", name]).ok().json()[0].clone()
}

/// A person at a terminal: python's pty, so that it is a real one.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
def start(*words):
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(words[0], words, os.environ)
    return pid, master
def until(master, text, limit=20):
    seen, end = b'', time.time() + limit
    while text.encode() not in seen:
        ready, _, _ = select.select([master], [], [], max(0, end - time.time()))
        try: more = os.read(master, 65536) if ready else b''
        except OSError: more = b''
        if not more: sys.exit(f'{text!r} did not come: {seen!r}')
        seen += more
    return seen.decode()
def size(master, rows, columns): fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
def cooked(master): return bool(termios.tcgetattr(master)[3] & termios.ICANON)
def status(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
rkbox = sys.argv[1]
"#;

#[track_caller]
fn at_a_terminal(world: &World, script: &str) -> String {
    std::fs::write(world.path("terminal.py"), format!("{TERMINAL}{script}")).unwrap();
    let line = format!("python3 $HOME/terminal.py {}", world.program.display());
    world.sh(&line).ok().stdout
}

#[test]
fn a_terminal_has_its_size_its_keys_and_is_put_back() {
    let world = with_busybox_only();
    at_a_terminal(
        &world,
        r#"
pid, master = start(rkbox, 'run', '--rm', '-it', 'busybox', 'sh')
size(master, 33, 99)
until(master, '# ')
assert not cooked(master)
os.write(master, b'stty size; tty; echo $TERM\r')
seen = until(master, 'xterm')
assert '33 99' in seen and '/dev/pts' in seen or '/dev/console' in seen, seen
size(master, 44, 111)
time.sleep(0.5)
os.write(master, b'stty size\r')
until(master, '44 111')
os.write(master, b'sleep 100\r'); time.sleep(0.5); os.write(master, b'\x03')
os.write(master, b'echo stat=$?\r')
until(master, 'stat=130')
os.write(master, b'exit 9\r')
code = status(pid)
assert code == 9, code
"#,
    );
    assert_eq!(world.rk("ps -aq").ok().stdout, "");
    wait_for("quiet", || world.leaks().is_empty());
}

#[test]
fn a_terminal_is_left_by_its_keys_and_attached_to_again() {
    let world = with_busybox_only();
    at_a_terminal(
        &world,
        r#"
pid, master = start(rkbox, 'run', '-it', '--name', 'c', 'busybox', 'sh')
until(master, '# ')
os.write(master, b'echo a$((1+1))b\r')
until(master, 'a2b')
os.write(master, b'\x10\x11')
assert status(pid) == 0
pid, master = start(rkbox, 'attach', '--detach-keys', 'ctrl-x,x', 'c')
time.sleep(0.5)
os.write(master, b'echo c$((2+2))d\r')
until(master, 'c4d')
assert not cooked(master)
os.write(master, b'\x18x')
assert status(pid) == 0
pid, master = start(rkbox, 'exec', '-it', 'c', 'sh', '-c', 'tty; exit 5')
until(master, 'pts')
assert status(pid) == 5
"#,
    );
    assert_eq!(seen(&world, "c")["state"], "running");
    world.rk("rm -f c").ok();
}

#[test]
fn keys_of_a_terminal_reach_the_command_of_an_init() {
    let world = with_busybox_only();
    at_a_terminal(
        &world,
        r#"
pid, master = start(rkbox, 'run', '--rm', '-it', '--init', 'busybox', 'sh', '-c', 'echo ready; exec sleep 1000')
until(master, 'ready'); time.sleep(0.3)
os.write(master, b'\x03')
assert status(pid) == 130
pid, master = start(rkbox, 'run', '--rm', '-it', '--init', 'busybox', 'sh')
until(master, '# ')
os.write(master, b'sleep 100\r'); time.sleep(0.5); os.write(master, b'\x1a')
until(master, 'Stopped')
os.write(master, b'fg\r'); time.sleep(0.5); os.write(master, b'\x03')
os.write(master, b'echo stat=$?\r')
until(master, 'stat=130')
os.write(master, b'exit 9\r')
assert status(pid) == 9
"#,
    );
    assert_eq!(world.rk("ps -aq").ok().stdout, "");
}

#[test]
fn a_process_is_left_by_its_keys_and_keeps_its_terminal() {
    let world = with_busybox_only();
    world.rk("run -d --net none --name c busybox sleep 1000").ok();
    at_a_terminal(
        &world,
        r#"
# More than fits into a terminal's buffer is printed after it was left: somebody must go on reading.
work = 'read x; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i of many that nobody reads; done; test -t 0 && test -t 1 && touch /done; exec sleep 1000'
pid, master = start(rkbox, 'exec', '-it', '--detach-keys', 'ctrl-x,x', 'c', 'sh', '-c', 'echo ready; ' + work)
size(master, 20, 70)
until(master, 'ready')
assert not cooked(master)
os.write(master, b'go\r')
until(master, 'line 1 ')
os.write(master, b'\x18x')
assert status(pid) == 0
assert cooked(master)
pid, master = start(rkbox, 'exec', '-it', 'c', 'sh', '-c', 'stty size; exit 7')
until(master, ' ')
assert status(pid) == 7
pid, master = start(rkbox, 'exec', '-it', 'c', 'sh', '-c', 'echo $$; sleep 100; echo code $?')
until(master, '\n'); time.sleep(0.3)
os.write(master, b'\x03')
assert status(pid) == 130
pid, master = start(rkbox, 'exec', '-it', '--timeout', '1s', 'c', 'sleep', '100')
assert status(pid) == 124
pid, master = start(rkbox, 'exec', '-it', 'c', 'no-such-program')
assert status(pid) == 127
# Typed faster than it is read; an end of input is ctrl-d.
pid, master = start(rkbox, 'exec', '-it', 'c', 'sh', '-c', 'stty -echo; echo ready; sleep 1; wc -l')
until(master, 'ready')
for n in range(200): os.write(master, b'a line of input\r')
os.write(master, b'\x04')
until(master, '200')
assert status(pid) == 0
"#,
    );
    // It goes on without us, and its terminal was never closed.
    wait_for("its work", || world.rk("exec c test -e /done").code == 0);
    assert_eq!(world.sh("ls $RKBOX_RUN/containers/*/ | grep -c exec- || true").ok().stdout.trim(), "0");
    world.rk("rm -f c").ok();
    wait_for("quiet", || world.leaks().is_empty());
}

#[test]
fn many_attach_and_a_slow_one_holds_nobody_up() {
    let world = with_busybox_only();
    world.rkbox(["create", "--name", "c", "-i", "busybox", "sh", "-c", "read line; yes $line | head -n 2000000; echo end"]).ok();
    // Attached before it is started; one of them is stopped.
    let told = world.sh(
        "rkbox attach --no-stdin c >$HOME/one 2>$HOME/told & one=$!; rkbox attach --no-stdin c >$HOME/two 2>>$HOME/told & two=$!; rkbox attach --no-stdin c >$HOME/slow 2>>$HOME/told & slow=$!
        sleep 0.5; kill -STOP $slow
        rkbox start c >/dev/null; echo hello | rkbox attach c >/dev/null
        wait $one; wait $two; kill -CONT $slow; wait $slow
        tail -n 1 $HOME/one $HOME/two; cmp $HOME/one $HOME/two && echo same; wc -c $HOME/one $HOME/two $HOME/slow; cat $HOME/told",
    );
    let told = told.ok().stdout;
    assert!(told.matches("end").count() >= 2, "{told}");
    world.rk("rm -f c").ok();
}
