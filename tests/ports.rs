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
