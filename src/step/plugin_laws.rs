//! The laws of the steps that plugins bring: other programs, macvlan, point-to-point pairs. Each test in a world of its own thread.

use std::fs;
use std::path::{Path, PathBuf};

use super::test_world::{assert_laws, assert_script, assert_seen, leave, netns, observe, run, sh};
use super::*;
use crate::cni::cache::Attachment;
use crate::cni::macvlan::Mode;
use crate::fault::Kind;
use crate::ids::{VethNames, veth_names};

fn macvlan(netns: &Path, own_netns: bool) -> Macvlan {
    Macvlan {
        name: "eth0".parse().unwrap(),
        master: "up0".parse().unwrap(),
        inside: false,
        mode: Mode::Bridge,
        mac: Some("02:00:00:00:00:07".parse().unwrap()),
        mtu: Some(1300),
        netns: netns.into(),
        own_netns,
    }
}

#[test]
fn macvlans() {
    let host = leave();
    let path = netns("web");
    sh("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up");
    let step = macvlan(&path, false);
    assert_laws(&step, &host);
    assert_script(&step, &(), &host);
    assert_eq!(step.look(&host).unwrap_err().kind(), Kind::AlreadyExists);
    assert_eq!(step.apply(&(), &host).unwrap_err().kind(), Kind::Conflict);
    let applied = observe();
    Macvlan { mac: Some("02:00:00:00:00:08".parse().unwrap()), ..step }.undo(&(), &host).unwrap();
    assert_seen(&applied, "an undo took what does not bear its MAC");
}

#[test]
fn the_end_of_a_pair_on_the_host() {
    let host = leave();
    let path = netns("web");
    let VethNames { host: link, host_mac, inner_mac } = veth_names(&"n".parse().unwrap(), "owner", &"eth0".parse().unwrap());
    let inner = "eth0".parse().unwrap();
    let pair = Veth {
        host: link.clone(),
        host_mac,
        inner,
        inner_mac,
        netns: path,
        bridge: None,
        mtu: None,
        hairpin: false,
        isolated: false,
        own_netns: false,
    };
    assert_laws(&pair, &host);
    assert_script(&pair, &(), &host);
    let ends = vec![("10.77.0.1".parse().unwrap(), "10.77.0.2".parse().unwrap()), ("fd77::1".parse().unwrap(), "fd77::2".parse().unwrap())];
    let step = HostEnd { link, ends };
    step.look(&host).unwrap();
    step.apply(&(), &host).unwrap();
    let applied = observe();
    assert!(sh("ip route").contains("10.77.0.2 dev rk"), "{}", sh("ip route"));
    step.undo(&(), &host).unwrap();
    assert_seen(&applied, "addresses die with the link and not before");
    pair.undo(&(), &host).unwrap();
    run(|out| pair.script(Way::Apply, out));
    run(|out| step.script(Way::Apply, out));
    assert_seen(&applied, "the script makes something else");
}

const PLUGIN: &str = r#"#!/bin/sh
conf=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_ARGS $(echo "$conf" | jq -c .prevResult)" >>/run/calls
env | cut -d= -f1 | sort | xargs >/run/env
case $CNI_COMMAND in
ADD) [ ! -e /run/refuse ] || { echo noise >&2; echo '{"code":11,"msg":"not now","details":"later"}'; exit 1; }
    touch /run/made; echo '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.9.0.7/24"}]}' ;;
DEL) rm -f /run/made ;;
esac
"#;

fn plugin(netns: PathBuf) -> Plugin {
    fs::write("/run/my-plugin", PLUGIN).unwrap();
    sh("chmod +x /run/my-plugin; mkdir /run/results");
    Plugin {
        kind: "my-plugin".into(),
        words: vec!["/run/my-plugin".into()],
        conf: r#"{"name":"n","cniVersion":"1.0.0","type":"my-plugin"}"#.into(),
        version: "1.0.0".into(),
        owner: "owner".into(),
        ifname: "eth0".parse().unwrap(),
        netns,
        args: "A=b".into(),
        path: "/run".into(),
        state: None,
        limit_secs: 20,
        previous: None,
        result: "/run/results/0".into(),
        cached: "/run/n-owner-eth0".into(),
    }
}

#[test]
fn another_program_is_added_and_deleted() {
    let host = leave();
    let path = netns("web");
    let step = plugin(path.clone());
    step.look(&host).unwrap();
    assert!(!Path::new("/run/calls").exists(), "a look asks nobody");
    step.apply(&(), &host).unwrap();
    assert!(Path::new("/run/made").exists());
    assert_eq!(
        sh("cat /run/env"),
        "CNI_ARGS CNI_COMMAND CNI_CONTAINERID CNI_IFNAME CNI_NETNS CNI_PATH LANG PATH PWD _\n".replace(" _", "")
    );
    let result = fs::read_to_string("/run/results/0").unwrap();
    assert_eq!(result, r#"{"cniVersion":"1.0.0","dns":{},"ips":[{"address":"10.9.0.7/24"}]}"#);
    // The one after it is told what it answered; both are told the whole result when they are deleted.
    let second = Plugin { previous: Some(step.result.clone()), result: "/run/results/1".into(), ..step.clone() };
    second.apply(&(), &host).unwrap();
    let mut entry = Attachment::new(&"n".parse().unwrap(), "owner", &"eth0".parse().unwrap(), "{}");
    entry.netns = path.to_string_lossy().into_owned();
    let cached = CachedResult { path: step.cached.clone(), entry: entry.to_text().unwrap(), result: second.result.clone() };
    cached.look(&host).unwrap();
    cached.apply(&(), &host).unwrap();
    assert_eq!(cached.look(&host).unwrap_err().kind(), Kind::AlreadyExists);
    let written = fs::read_to_string(&step.cached).unwrap();
    assert!(written.contains(r#""result":{"cniVersion":"1.0.0""#), "{written}");
    for _ in 0..2 {
        second.undo(&(), &host).unwrap();
        step.undo(&(), &host).unwrap();
        cached.undo(&(), &host).unwrap();
    }
    assert!(!Path::new("/run/made").exists() && !step.cached.exists());
    let calls = sh("cut -d' ' -f1,2,3,4,5 /run/calls | sort | uniq -c | tr -s ' '");
    assert_eq!(calls, " 2 ADD owner eth0 /run/netns/web A=b\n 4 DEL owner eth0 /run/netns/web A=b\n");
    assert!(sh("grep -c '10.9.0.7' /run/calls").starts_with('5'), "{}", sh("cat /run/calls"));
}

#[test]
fn the_script_of_another_program_does_the_same() {
    let host = leave();
    let step = plugin(netns("web"));
    let cached = CachedResult {
        path: step.cached.clone(),
        entry: Attachment::new(&"n".parse().unwrap(), "owner", &"eth0".parse().unwrap(), "{}").to_text().unwrap(),
        result: step.result.clone(),
    };
    run(|out| step.script(Way::Apply, out));
    run(|out| cached.script(Way::Apply, out));
    assert!(Path::new("/run/made").exists());
    let entry = Attachment::parse(&fs::read(&step.cached).unwrap()).unwrap();
    assert_eq!(entry.result["ips"][0]["address"], "10.9.0.7/24");
    run(|out| cached.script(Way::Undo(&()), out));
    run(|out| step.script(Way::Undo(&()), out));
    assert!(!Path::new("/run/made").exists() && !step.cached.exists());
    sh("ip netns del web");
    step.undo(&(), &host).unwrap();
    assert!(sh("tail -n1 /run/calls").starts_with("DEL owner eth0  A=b"), "{}", sh("tail -n1 /run/calls"));
}

#[test]
fn the_error_of_another_program_is_kept_with_its_stderr() {
    let host = leave();
    let step = plugin(netns("web"));
    sh("touch /run/refuse");
    let fault = step.apply(&(), &host).unwrap_err();
    assert_eq!(fault.kind(), Kind::Unavailable);
    assert_eq!(fault.to_string(), "ADD of /run/my-plugin: not now; later (code 11)\nnoise");
    let slow = Plugin { words: vec!["/bin/sleep".into(), "30".into()], limit_secs: 1, ..step.clone() };
    assert_eq!(slow.apply(&(), &host).unwrap_err().kind(), Kind::DeadlineExceeded);
    let bad = Plugin { words: vec!["/bin/echo".into(), "hello".into()], ..step };
    assert_eq!(bad.apply(&(), &host).unwrap_err().kind(), Kind::DataLoss);
}
