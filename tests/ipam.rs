//! host-local is the oracle: the same state gives the same address, the same files and the same refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods, reason = "tests")]

mod dice;
mod pool;

use std::fs;
use std::process::Command;

use dice::Dice;
use pool::{Pool, State, assert_same, ipam_steps};
use rkbox::fault::Kind;
use rkbox::step::{Step, Undone};
use serde_json::{Value, json};

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
    let cases = vec![
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
    let holders: Vec<String> = (0..5).map(|nth| format!("10.0.0.{} by eth0 of o{nth}", nth + 2)).collect();
    assert_eq!(fault.to_string(), format!("network n: {message}; 5 are held: {}", holders.join(", ")));
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
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/16"}]]));
    let given: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut given = Vec::new();
                    for round in 0..220 {
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
    let (address, ifname) = ("10.0.0.2".parse().unwrap(), "eth0".parse().unwrap());
    let lease = rkbox::step::Lease { dir: pool.dir(), address, owner: "me".into(), ifname, in_new_pool: false };
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
    pool.fill(10_000);
    // The machine may be busy with other things: the best of five, each beside the reference.
    let cursor = pool.dir().join("last_reserved_ip.0");
    let in_time = (0..5).any(|_| {
        let started = std::time::Instant::now();
        pool.upstream_add("they").unwrap();
        let theirs = started.elapsed();
        pool.upstream("DEL", "they").unwrap();
        fs::remove_file(&cursor).unwrap();
        let started = std::time::Instant::now();
        assert_eq!(pool.add("me").unwrap(), ["10.0.39.18/16"]);
        let ours = started.elapsed();
        pool.del("me");
        fs::remove_file(&cursor).unwrap();
        println!("ADD beside 10 000 leases: {ours:?}, host-local {theirs:?}");
        ours < theirs * 2
    });
    assert!(in_time);
}
