//! host-local is the oracle: the same state gives the same address, the same files and the same refusal.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rkbox::cmd::network::attach::{self, Attach, Attached};
use rkbox::cmd::network::networks;
use rkbox::fault::{Fault, Kind};
use rkbox::ids::{CgroupDriver, IfName};
use rkbox::step::{Step, Undone};
use rkbox::sys::Host;
use serde_json::{Value, json};
use tempfile::TempDir;

const PLUGIN: &str = "/usr/lib/cni/host-local";

/// A directory with one network called `n`, whose pool both programs use.
struct Pool {
    world: TempDir,
    ipam: Value,
}

/// What a pool holds: name → (mode, content); directories have no content.
type State = BTreeMap<String, (u32, Option<Vec<u8>>)>;

impl Pool {
    fn new(ranges: Value) -> Self {
        let world = tempfile::tempdir().unwrap();
        let pool = Pool { ipam: json!({"type": "host-local", "ranges": ranges, "dataDir": world.path().join("networks")}), world };
        fs::create_dir_all(pool.host().cni_conf).unwrap();
        fs::write(pool.host().cni_conf.join("n.conf"), pool.conf("1.0.0").to_string()).unwrap();
        pool
    }

    fn host(&self) -> Host {
        let at = |below: &str| self.world.path().join(below);
        Host {
            root: at("lib"),
            run: at("run"),
            netns: at("netns"),
            cni_conf: at("conf"),
            cni_state: at("cni"),
            runtime: "runc".into(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_parent: "/x".into(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.world.path().join("networks/n")
    }

    fn conf(&self, version: &str) -> Value {
        json!({"cniVersion": version, "name": "n", "type": "bridge", "ipam": self.ipam})
    }

    fn state(&self) -> State {
        let mut state = State::new();
        for entry in fs::read_dir(self.dir()).into_iter().flatten() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            state.insert(entry.file_name().into_string().unwrap(), (mode, fs::read(entry.path()).ok()));
        }
        state.remove("lock");
        state
    }

    fn restore(&self, state: &State) {
        fs::remove_dir_all(self.dir()).ok();
        fs::create_dir_all(self.dir()).unwrap();
        for (name, (mode, content)) in state {
            let path = self.dir().join(name);
            match content {
                Some(content) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
                None => fs::create_dir(&path).unwrap(),
            }
        }
    }

    /// Runs the reference plugin; the error is its message.
    fn upstream(&self, command: &str, owner: &str) -> Result<Value, String> {
        let mut child = Command::new(PLUGIN)
            .env_clear()
            .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", owner), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/x"), ("CNI_PATH", "/x")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(self.conf("1.0.0").to_string().as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        if out.status.success() { Ok(answer) } else { Err(answer["msg"].as_str().unwrap_or_default().to_owned()) }
    }

    fn upstream_add(&self, owner: &str) -> Result<Vec<String>, String> {
        let answer = self.upstream("ADD", owner)?;
        Ok(answer["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap().to_owned()).collect())
    }

    fn plan(&self, owner: &str) -> Result<Attached, Fault> {
        let host = self.host();
        let network = networks::find_network(&host, None)?;
        let ifname: IfName = "eth0".parse().unwrap();
        let attach = Attach { network: &network, owner, ifname: &ifname, netns: Path::new("/x"), own_netns: true, acting: true };
        attach::plan_attach(&host, &attach)
    }

    /// Plans and carries out what concerns the pool.
    fn add(&self, owner: &str) -> Result<Vec<String>, Fault> {
        let attached = self.plan(owner)?;
        for step in ipam_steps(&attached) {
            let before = step.look(&self.host())?;
            if !step.already(&before)? {
                step.apply(&before, &self.host())?;
            }
        }
        Ok(attached.addresses.iter().map(ToString::to_string).collect())
    }

    /// Takes back the leases of an owner, as a removal does.
    fn del(&self, owner: &str) {
        for (name, (_, content)) in self.state() {
            let Ok(address) = name.parse() else { continue };
            if content == Some(format!("{owner}\r\neth0").into_bytes()) {
                let lease = rkbox::step::Lease { dir: self.dir(), address, owner: owner.into(), ifname: "eth0".parse().unwrap() };
                let step = Step::from(lease);
                step.undo(&step.before_nothing().unwrap(), &self.host()).unwrap();
            }
        }
    }
}

/// Modes aside: releases before 1.6 make lease files 0644, later ones and rkbox 0600.
fn contents(state: State) -> Vec<(String, Option<Vec<u8>>)> {
    state.into_iter().map(|(name, (_, content))| (name, content)).collect()
}

fn ipam_steps(attached: &Attached) -> impl Iterator<Item = &Step> {
    attached.steps.iter().filter(|step| matches!(step, Step::Pool(_) | Step::Cursor(_) | Step::Lease(_)))
}

/// Both programs on one state: the same answer and the same files after it. The rkbox side is what stays.
fn assert_same(pool: &Pool, owner: &str, why: &str) -> Result<Vec<String>, String> {
    let before = pool.state();
    let theirs = pool.upstream_add(owner);
    let theirs_after = pool.state();
    pool.restore(&before);
    let ours = pool.add(owner);
    match (&theirs, &ours) {
        (Ok(their_addresses), Ok(our_addresses)) => assert_eq!(their_addresses, our_addresses, "{why}"),
        (Err(their_message), Err(fault)) => assert!(fault.to_string().contains(their_message.as_str()), "{why}: {their_message} / {fault}"),
        _ => panic!("{why}: upstream {theirs:?}, rkbox {ours:?}"),
    }
    if theirs.is_ok() {
        assert_eq!(contents(theirs_after), contents(pool.state()), "{why}");
    }
    theirs
}

/// A small deterministic generator (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

fn shapes() -> Vec<Value> {
    vec![
        json!([[{"subnet": "10.0.0.0/29"}]]),
        json!([[{"subnet": "10.0.0.0/28", "gateway": "10.0.0.7"}]]),
        json!([[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.250", "rangeEnd": "10.0.0.255"}]]),
        json!([[{"subnet": "10.0.0.0/29", "rangeStart": "10.0.0.1", "rangeEnd": "10.0.0.2"}, {"subnet": "10.0.1.0/29", "rangeEnd": "10.0.1.3"}]]),
        json!([[{"subnet": "10.0.0.0/29"}], [{"subnet": "10.1.0.0/29"}, {"subnet": "10.2.0.0/30"}]]),
        json!([[{"subnet": "10.0.0.0/30", "rangeStart": "10.0.0.2", "rangeEnd": "10.0.0.2"}]]),
    ]
}

#[test]
fn random_histories_give_the_same_addresses_and_files() {
    for (nth, ranges) in shapes().into_iter().enumerate() {
        let pool = Pool::new(ranges.clone());
        let mut dice = Dice(0x9e37_79b9 + nth as u64);
        let mut owners: Vec<String> = Vec::new();
        let (mut given, mut refused) = (0, 0);
        for round in 0..60 {
            if dice.roll(5) < 3 || owners.is_empty() {
                let owner = if dice.roll(12) == 0 { owners.first().cloned().unwrap_or("o".into()) } else { format!("o{round}") };
                match assert_same(&pool, &owner, &format!("{ranges} round {round}")) {
                    Ok(_) => {
                        given += 1;
                        owners.push(owner);
                    }
                    Err(_) => refused += 1,
                }
            } else {
                let owner = owners.swap_remove(dice.roll(owners.len()));
                let before = pool.state();
                pool.upstream("DEL", &owner).unwrap();
                let theirs = pool.state();
                pool.restore(&before);
                pool.del(&owner);
                assert_eq!(theirs, pool.state(), "{ranges} round {round}: DEL {owner}");
            }
        }
        assert!(given > 5 && refused > 0, "{ranges}: {given} given, {refused} refused");
    }
}

#[test]
fn damaged_pools_are_read_as_upstream_reads_them() {
    let file = |content: &[u8]| (0o600, Some(content.to_vec()));
    let cases: Vec<(&str, &str, (u32, Option<Vec<u8>>))> = vec![
        ("garbage cursor", "last_reserved_ip.0", file(b"garbage")),
        ("empty cursor", "last_reserved_ip.0", file(b"")),
        ("cursor with a newline", "last_reserved_ip.0", file(b"10.0.0.4\n")),
        ("cursor elsewhere", "last_reserved_ip.0", file(b"192.168.0.1")),
        ("cursor on the gateway", "last_reserved_ip.0", file(b"10.0.0.1")),
        ("cursor in the v6 form of v4", "last_reserved_ip.0", file(b"::ffff:10.0.0.4")),
        ("a directory as lease", "10.0.0.2", (0o755, None)),
        ("a lease that is binary", "10.0.0.2", file(b"\xff\xfe\0")),
        ("a lease of 1 MB", "10.0.0.2", file(&vec![b'x'; 1 << 20])),
        ("an old lease of ours", "10.0.0.2", file(b"me")),
        ("an old lease of ours with a newline", "10.0.0.2", file(b"me\n")),
        ("a lease of ours with spaces", "10.0.0.2", file(b" me\r\neth0 \n")),
        ("a lease with LF", "10.0.0.2", file(b"me\neth0")),
        ("a lease of another interface", "10.0.0.2", file(b"me\r\neth1")),
        ("a name that is no address", "hello", file(b"me\r\neth0")),
        ("a lease outside of the ranges", "10.9.9.9", file(b"me\r\neth0")),
        ("a just created empty lease", "10.0.0.2", file(b"")),
    ];
    for (why, name, entry) in cases {
        let pool = Pool::new(json!([[{"subnet": "10.0.0.0/29"}]]));
        pool.restore(&State::from([(name.to_owned(), entry)]));
        let _ = assert_same(&pool, "me", why);
    }
}

#[test]
fn exhaustion_says_what_upstream_says_and_who_holds_the_pool() {
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/29"}]]));
    for nth in 0..5 {
        pool.add(&format!("o{nth}")).unwrap();
    }
    let message = pool.upstream_add("late").unwrap_err();
    let fault = pool.add("late").unwrap_err();
    assert_eq!(fault.kind(), Kind::ResourceExhausted);
    assert_eq!(message, "failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6");
    assert_eq!(fault.to_string(), format!("{message}; 5 are held: by o0 (eth0), o1 (eth0), o2 (eth0), 2 more"));
    assert!(fault.hints().iter().any(|hint| hint.contains("rkbox gc")));
    for round in 0..20 {
        let owner = format!("o{}", round % 5);
        pool.del(&owner);
        assert_eq!(pool.add(&owner).unwrap().len(), 1);
        assert!(pool.add("late").is_err());
    }
}

#[test]
fn an_empty_lease_without_a_writer_is_reclaimed_where_upstream_loses_it() {
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/30"}]]));
    pool.restore(&State::from([("10.0.0.2".to_owned(), (0o600, Some(Vec::new())))]));
    assert!(pool.upstream_add("me").is_err());
    assert!(pool.add("me").is_err(), "a writer may be at work");
    let path = pool.dir().join("10.0.0.2");
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();
    assert!(pool.upstream_add("me").is_err());
    assert_eq!(pool.add("me").unwrap(), ["10.0.0.2/30"]);
    assert_eq!(fs::read(&path).unwrap(), b"me\r\neth0");
}

#[test]
fn both_programs_at_once_never_give_an_address_twice() {
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/24"}]]));
    let given: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut given = Vec::new();
                    for round in 0..12 {
                        let owner = format!("w{worker}-{round}");
                        let addresses = if worker % 2 == 0 { pool.upstream_add(&owner).unwrap() } else { retried(pool, &owner) };
                        match (round % 4, worker % 3) {
                            (3, 0) => {
                                pool.upstream("DEL", &owner).unwrap();
                            }
                            (3, 1) => pool.del(&owner),
                            _ => given.extend(addresses),
                        }
                    }
                    given
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let mut distinct = given.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), given.len());
    let held = pool.state().keys().filter(|name| name.starts_with("10.")).count();
    assert_eq!(held, given.len());
    assert!(pool.dir().join("lock").exists());
    assert!(pool.state().keys().all(|name| !name.starts_with('.')), "{:?}", pool.state().keys());
}

/// As the engine does: a race that is lost is planned again.
fn retried(pool: &Pool, owner: &str) -> Vec<String> {
    for _ in 0..8 {
        match pool.add(owner) {
            Err(fault) if fault.kind() == Kind::Conflict => {}
            other => return other.unwrap(),
        }
    }
    panic!("{owner} lost eight races");
}

#[test]
fn a_rollback_leaves_the_pool_as_it_was() {
    for existing in [false, true] {
        let pool = Pool::new(json!([[{"subnet": "10.0.0.0/29"}], [{"subnet": "10.1.0.0/29"}]]));
        if existing {
            pool.upstream_add("other").unwrap();
        }
        let before = pool.state();
        let existed = pool.world.path().join("networks").exists();
        let mut attached = pool.plan("me").unwrap();
        // The engine frees the lock before it takes anything back.
        attached.lock = None;
        let steps: Vec<&Step> = ipam_steps(&attached).collect();
        for applied in 0..=steps.len() {
            let befores: Vec<Value> = steps[..applied]
                .iter()
                .map(|step| {
                    let found = step.look(&pool.host()).unwrap();
                    if !step.already(&found).unwrap() {
                        step.apply(&found, &pool.host()).unwrap();
                    }
                    found
                })
                .collect();
            // A crash in the middle: the next step was begun and nothing came of it.
            let mut begun: Vec<(&Step, Value)> = steps.iter().copied().zip(befores).collect();
            if let Some(next) = steps.get(applied) {
                begun.push((next, next.look(&pool.host()).unwrap()));
            }
            for _ in 0..2 {
                for (step, found) in begun.iter().rev() {
                    if !step.already(found).unwrap() {
                        assert_eq!(step.undo(found, &pool.host()).unwrap(), Undone::Done, "{step}");
                    }
                }
            }
            assert_eq!(before, pool.state(), "{applied} of {}", steps.len());
            assert_eq!(existed, pool.world.path().join("networks").exists());
        }
    }
}

#[test]
fn an_undo_leaves_what_does_not_bear_our_mark() {
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/29"}]]));
    pool.add("other").unwrap();
    let lease =
        rkbox::step::Lease { dir: pool.dir(), address: "10.0.0.2".parse().unwrap(), owner: "me".into(), ifname: "eth0".parse().unwrap() };
    let step = Step::from(lease);
    let nothing = step.before_nothing().unwrap();
    assert_eq!(step.look(&pool.host()).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(step.apply(&nothing, &pool.host()).unwrap_err().kind(), Kind::Conflict);
    let before = pool.state();
    step.undo(&nothing, &pool.host()).unwrap();
    assert_eq!(before, pool.state());
    let whole = Step::from(rkbox::step::Pool { dir: pool.dir() });
    assert_eq!(whole.undo(&whole.before_nothing().unwrap(), &pool.host()).unwrap(), Undone::Kept);
    assert_eq!(before, pool.state());
}

#[test]
fn the_script_does_what_apply_does_and_takes_it_back() {
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/29"}]]));
    let attached = pool.plan("me").unwrap();
    let mut apply = rkbox::script::Script::new();
    let mut undo = rkbox::script::Script::new();
    for step in ipam_steps(&attached) {
        step.script(None, &mut apply).unwrap();
    }
    let befores: Vec<Value> = ipam_steps(&attached).map(|step| step.look(&pool.host()).unwrap()).collect();
    for (step, before) in ipam_steps(&attached).zip(&befores).collect::<Vec<_>>().into_iter().rev() {
        step.script(Some(before), &mut undo).unwrap();
    }
    sh(apply.as_str());
    let scripted = pool.state();
    for _ in 0..2 {
        sh(undo.as_str());
        assert!(!pool.world.path().join("networks").exists(), "{}", undo.as_str());
    }
    pool.add("me").unwrap();
    assert_eq!(scripted, pool.state(), "{}", apply.as_str());
}

fn sh(script: &str) {
    let status = Command::new("sh").args(["-c", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn a_large_pool_is_read_in_time() {
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/16"}]]));
    fs::create_dir_all(pool.dir()).unwrap();
    for nth in 2..10_002_u32 {
        let address = std::net::Ipv4Addr::from_bits((10 << 24) + nth);
        fs::write(pool.dir().join(address.to_string()), format!("{nth:064x}\r\neth0")).unwrap();
    }
    let started = std::time::Instant::now();
    pool.upstream_add("they").unwrap();
    let theirs = started.elapsed();
    pool.upstream("DEL", "they").unwrap();
    fs::remove_file(pool.dir().join("last_reserved_ip.0")).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(pool.add("me").unwrap(), ["10.0.39.18/16"]);
    let took = started.elapsed();
    println!("ADD beside 10 000 leases: {took:?}, host-local {theirs:?}");
    assert!(took.as_millis() < 400, "{took:?}");
}
