//! Published ports: who reaches them, from where, and as whom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;
mod lab;

use lab::Lab;

/// The cases for both protocols. The kernel limits how often it says that nobody listens on a UDP port.
fn both(cases: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    let of = |protocol: &str| cases.iter().map(|(place, wanted)| (format!("{protocol} {place}"), *wanted)).collect::<Vec<_>>();
    let quiet = |(question, wanted): (String, &'static str)| (question, if wanted == "refused" { "nothing" } else { wanted });
    [of("tcp"), of("udp").into_iter().map(quiet).collect()].concat()
}

#[track_caller]
fn expect(lab: &Lab, netns: &str, cases: &[(&str, &'static str)]) {
    let cases = both(cases);
    lab.expect(netns, &cases.iter().map(|(question, wanted)| (question.as_str(), *wanted)).collect::<Vec<_>>());
}

const GATEWAY: &str = "10.88.0.1";

fn matrix(bridge_netfilter: bool) {
    let mut lab = Lab::new();
    lab.bridge_netfilter(bridge_netfilter);
    let ports = "-p 8080:80 -p 8080:80/udp -p 192.0.2.1:8081:80 -p 192.0.2.1:8081:80/udp -p 127.0.0.1:8082:80 -p 127.0.0.1:8082:80/udp";
    lab.world.rk(&format!("sandbox create web {ports}")).ok();
    lab.world.rk("sandbox create db").ok();
    lab.serve("web", "", &["80", "81"]);
    // Published on all addresses: the client is seen as it is, but for who comes from the bridge or from loopback.
    expect(&lab, "lan", &[("192.0.2.1 8080", "192.0.2.9"), ("192.0.2.2 8080", "192.0.2.9"), ("192.0.2.1 80", "refused")]);
    expect(
        &lab,
        "host",
        &[("192.0.2.1 8080", "192.0.2.1"), ("10.88.0.1 8080", GATEWAY), ("127.0.0.1 8080", GATEWAY), ("127.0.0.2 8080", GATEWAY)],
    );
    for inside in ["web", "db"] {
        expect(&lab, inside, &[("192.0.2.1 8080", GATEWAY), ("192.0.2.2 8080", GATEWAY), ("10.88.0.1 8080", GATEWAY)]);
    }
    // On one address: there and nowhere else.
    expect(&lab, "lan", &[("192.0.2.1 8081", "192.0.2.9"), ("192.0.2.2 8081", "refused")]);
    expect(&lab, "host", &[("192.0.2.1 8081", "192.0.2.1"), ("127.0.0.1 8081", "refused"), ("10.88.0.1 8081", "refused")]);
    expect(&lab, "db", &[("192.0.2.1 8081", GATEWAY), ("10.88.0.1 8081", "refused"), ("192.0.2.2 8081", "refused")]);
    expect(&lab, "web", &[("192.0.2.1 8081", GATEWAY), ("192.0.2.2 8081", "refused")]);
    // On loopback: for the host alone.
    expect(&lab, "host", &[("127.0.0.1 8082", GATEWAY), ("127.0.0.2 8082", "refused"), ("192.0.2.1 8082", "refused")]);
    expect(&lab, "lan", &[("192.0.2.1 8082", "refused")]);
    expect(&lab, "db", &[("192.0.2.1 8082", "refused"), ("10.88.0.1 8082", "refused")]);
    // Neighbours on the bridge speak to each other as ever.
    expect(&lab, "db", &[("10.88.0.2 80", "10.88.0.3"), ("10.88.0.2 81", "10.88.0.3")]);
    expect(&lab, "host", &[("10.88.0.2 80", GATEWAY), ("10.88.0.2 81", GATEWAY)]);
    lab.world.rk("sandbox rm --force web").ok();
    expect(&lab, "lan", &[("192.0.2.1 8080", "refused")]);
    expect(&lab, "host", &[("127.0.0.1 8082", "refused")]);
}

#[test]
fn ports_are_reached_from_everywhere_they_should_be() {
    matrix(false);
}

#[test]
fn ports_are_reached_with_bridges_that_show_their_frames_to_ip() {
    matrix(true);
}

#[test]
fn port_forward_leads_inside_without_any_rule() {
    let mut lab = Lab::new();
    lab.world.rk("sandbox create web").ok();
    lab.serve("web", "", &["127.0.0.1@80", "::1@81"]);
    let before = lab.host_facts();
    let said = lab.world.path("said");
    let mut command = lab.world.command(&lab.world.program);
    command.args(["port-forward", "web", "8080:80", "8081:81", "8082:80/udp", ":80", "8083:9"]);
    let mut child = command.stdout(std::fs::File::create(&said).unwrap()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let text = || std::fs::read_to_string(&said).unwrap();
    let ready = common::until(std::time::Duration::from_secs(10), text, |text| text.lines().count() == 10);
    let lines = ready.unwrap();
    assert!(
        lines.contains("Forwarding from 127.0.0.1:8080 -> 80\n") && lines.contains("Forwarding from [::1]:8082 -> 80/udp\n"),
        "{lines}"
    );
    let free = lines
        .lines()
        .filter_map(|line| line.strip_prefix("Forwarding from 127.0.0.1:")?.strip_suffix(" -> 80"))
        .find(|port| *port != "8080");
    lab.expect(
        "host",
        &[
            ("tcp 127.0.0.1 8080", "127.0.0.1"),
            ("tcp ::1 8080", "127.0.0.1"),
            ("tcp 127.0.0.1 8081", "::1"),
            ("udp 127.0.0.1 8082", "127.0.0.1"),
            ("udp ::1 8082", "127.0.0.1"),
            (&format!("tcp 127.0.0.1 {}", free.unwrap()), "127.0.0.1"),
            // Accepted, and closed again: nobody listens inside.
            ("tcp 127.0.0.1 8083", ""),
        ],
    );
    lab.expect("lan", &[("tcp 192.0.2.1 8080", "refused")]);
    let many: Vec<String> = vec!["tcp 127.0.0.1 8080".to_owned(); 200];
    assert!(lab.ask("host", &many).iter().all(|answer| answer == "127.0.0.1"));
    common::Observation::assert_same(&before, &lab.host_facts());
    lab.world.rk("port-forward web 8080:80").fails(4).says("8080");
    lab.world.rk("port-forward nobody 80").fails(3);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = common::until(std::time::Duration::from_secs(10), || child.try_wait().unwrap(), Option::is_some);
    assert!(ended.unwrap().unwrap().success());
}

/// Eight megabytes each way at once, and each half closed on its own.
#[test]
fn port_forward_keeps_every_byte() {
    let lab = Lab::new();
    lab.world.rk("sandbox create web").ok();
    let program = r#"
import socket, threading, hashlib, subprocess, sys, time
def echo():
    s = socket.socket(); s.bind(("127.0.0.1", 80)); s.listen()
    print("ready", flush=True)
    c, _ = s.accept()
    while data := c.recv(65536):
        c.sendall(data)
    c.sendall(b"end")
    c.close()
echo()
"#;
    std::fs::write(lab.world.path("echo.py"), program).unwrap();
    let client = r#"
import socket, threading, hashlib, os
payload = os.urandom(8 << 20)
s = socket.create_connection(("127.0.0.1", 8080))
def send():
    s.sendall(payload); s.shutdown(socket.SHUT_WR)
t = threading.Thread(target=send); t.start()
back = b""
while data := s.recv(65536):
    back += data
t.join()
assert back == payload + b"end", len(back)
"#;
    std::fs::write(lab.world.path("client.py"), client).unwrap();
    let program = lab.world.program.display();
    lab.world
        .sh(&format!(
            "nsenter --net=/run/netns/web python3 $HOME/echo.py > $HOME/echoed & echo=$!
             {program} port-forward web 8080:80 > $HOME/forwarded & relay=$!
             for n in $(seq 200); do [ -s $HOME/echoed ] && [ -s $HOME/forwarded ] && break; sleep 0.05; done
             python3 $HOME/client.py; wait $echo; kill -INT $relay; wait $relay"
        ))
        .ok();
}
