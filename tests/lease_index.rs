//! The index of a large pool: valid only while it is right, whoever else writes leases, wherever rkbox is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod dice;
mod pool;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use dice::Dice;
use pool::Pool;
use rkbox::fault::Kind;
use rkbox::ids::IfName;
use rkbox::network::held_by;
use rkbox::sys::lease_index::{self, WORTHWHILE};
use serde_json::json;

/// How many leases others hold: enough for an index.
const OTHERS: usize = WORTHWHILE + 40;

fn large() -> Pool {
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/16"}]]));
    pool.fill(OTHERS);
    pool
}

fn eth0() -> IfName {
    "eth0".parse().unwrap()
}

fn is_valid(pool: &Pool) -> bool {
    lease_index::find_valid(&pool.host().run, &pool.dir()).is_some()
}

fn index_file(pool: &Pool) -> PathBuf {
    let all: Vec<PathBuf> = fs::read_dir(pool.host().run.join("pools")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(all.len(), 1);
    all[0].clone()
}

/// What the leases themselves say.
fn really_held(pool: &Pool, owner: &str) -> BTreeSet<IpAddr> {
    let content = Some(format!("{owner}\r\neth0").into_bytes());
    pool.state().into_iter().filter(|(_, (_, text))| *text == content).map(|(name, _)| name.parse().unwrap()).collect()
}

/// A valid index must know each address that an owner holds.
fn assert_complete(pool: &Pool, owners: impl IntoIterator<Item = String>) -> bool {
    let Some(index) = lease_index::find_valid(&pool.host().run, &pool.dir()) else { return false };
    for owner in owners {
        let known: BTreeSet<IpAddr> = index.addresses(&owner, "eth0").unwrap().into_iter().collect();
        assert!(known.is_superset(&really_held(pool, &owner)), "{owner}: {known:?}");
    }
    true
}

#[test]
fn histories_of_both_programs_leave_an_index_that_is_right_or_not_valid() {
    let pool = large();
    let mut dice = Dice(0x1234_5678);
    let (mut valid, mut not) = (0, 0);
    for round in 0..160 {
        let owner = format!("o{}", dice.roll(12));
        let held = really_held(&pool, &owner);
        match dice.roll(4) {
            0 => {
                let refused = pool.upstream_add(&owner).is_err();
                assert_eq!(refused, !held.is_empty(), "round {round}");
                assert!(refused || !is_valid(&pool), "round {round}: somebody else wrote a lease");
            }
            1 => {
                pool.upstream("DEL", &owner).unwrap();
                assert!(held.is_empty() || !is_valid(&pool), "round {round}: somebody else removed a lease");
            }
            2 => match pool.add(&owner) {
                Ok(_) => assert!(held.is_empty() && is_valid(&pool), "round {round}: {owner} held {held:?}"),
                Err(fault) => assert!(fault.kind() == Kind::AlreadyExists && !held.is_empty(), "round {round}: {fault}"),
            },
            _ => {
                let was = is_valid(&pool);
                pool.plugin("DEL", &owner).unwrap();
                assert!(really_held(&pool, &owner).is_empty());
                assert_eq!(is_valid(&pool), was, "round {round}: an index stays what it is");
            }
        }
        let here: BTreeSet<IpAddr> = held_by(&pool.host(), &pool.dir(), &owner, &eth0()).unwrap().into_iter().collect();
        assert_eq!(here, really_held(&pool, &owner), "round {round}");
        if assert_complete(&pool, (0..12).map(|nth| format!("o{nth}"))) { valid += 1 } else { not += 1 }
    }
    assert!(valid > 20 && not > 20, "{valid} {not}");
}

#[test]
fn a_change_within_the_same_tick_of_the_clock_is_seen() {
    let pool = large();
    for round in 0..200 {
        pool.add(&format!("o{round}")).unwrap();
        assert!(is_valid(&pool));
        // What upstream does, at once.
        fs::write(pool.dir().join(format!("10.0.200.{round}")), format!("u{round}\r\neth0")).unwrap();
        assert!(!is_valid(&pool), "round {round}");
        assert_eq!(pool.add(&format!("u{round}")).unwrap_err().kind(), Kind::AlreadyExists);
        fs::remove_file(pool.dir().join(format!("10.0.200.{round}"))).unwrap();
        assert!(!is_valid(&pool), "round {round}");
        pool.add(&format!("u{round}")).unwrap();
    }
}

#[test]
fn a_small_pool_has_no_index_and_a_removed_one_leaves_none() {
    let pool = Pool::new(json!([[{"subnet": "10.0.0.0/16"}]]));
    for nth in 0..5 {
        pool.add(&format!("o{nth}")).unwrap();
    }
    assert!(!pool.host().run.join("pools").exists());
    pool.fill(OTHERS);
    pool.add("me").unwrap();
    assert!(is_valid(&pool));
    // A second network, whose index stays, and one that no network uses, whose index goes.
    let gone = pool.host().run.join("pools/1-1");
    fs::write(&gone, "x").unwrap();
    let known = [pool.dir()];
    lease_index::sweep(&pool.host().run, &known).unwrap();
    assert!(is_valid(&pool) && !gone.exists());
    for (name, _) in pool.state() {
        fs::remove_file(pool.dir().join(name)).unwrap();
    }
    let whole = rkbox::step::Step::from(rkbox::step::Pool { dir: pool.dir() });
    whole.undo(&whole.before_nothing().unwrap(), &pool.host()).unwrap();
    assert!(!pool.dir().exists() && !pool.host().run.join("pools").exists());
}

#[test]
fn a_damaged_or_hostile_index_is_not_believed() {
    let pool = large();
    pool.add("me").unwrap();
    let index = index_file(&pool);
    let good = fs::read(&index).unwrap();
    let header = |from: &str, to: &str| {
        let text = String::from_utf8(good.clone()).unwrap();
        let (head, lines) = text.split_at(192);
        let head = format!("{:<191}\n", head.trim_end().replacen(from, to, 1));
        format!("{head}{lines}").into_bytes()
    };
    let size = format!(" {} ", good.len() - 192);
    let cases = [
        ("empty", Vec::new()),
        ("half a header", good[..100].to_vec()),
        ("only a header", good[..192].to_vec()),
        ("without its end", good[..good.len() - 1].to_vec()),
        ("zeros", vec![0; good.len()]),
        ("binary", (0..=255).cycle().take(5000).collect()),
        ("a huge size", header(&size, " 900000000 ")),
        ("a size over all", header(&size, " 18446744073709551615 ")),
        ("another version", header("leases-1", "leases-9")),
        ("another boot", header(&rkbox::sys::proc::boot_id().unwrap(), "00000000-0000-0000-0000-000000000000")),
    ];
    for (why, bytes) in cases {
        fs::write(&index, &bytes).unwrap();
        assert_eq!(pool.add("me").unwrap_err().kind(), Kind::AlreadyExists, "{why}");
        assert_eq!(pool.plugin("CHECK", "me"), Ok(()), "{why}");
    }
    // A line of a lease that is another's now, and one that leads elsewhere.
    pool.add("you").unwrap();
    let text = fs::read_to_string(&index).unwrap();
    let (mine, yours) = (really_held(&pool, "me"), really_held(&pool, "you"));
    let (mine, yours) = (mine.first().unwrap(), yours.first().unwrap());
    let swapped = text.replace(&format!("{mine} me"), &format!("{yours} me"));
    assert_ne!(swapped, text);
    fs::File::options().write(true).open(&index).unwrap().write_all_at(swapped.as_bytes(), 0).unwrap();
    assert_eq!(held_by(&pool.host(), &pool.dir(), "me", &eth0()).unwrap(), [*mine], "its lease is read");
    for (why, make) in [("a directory", 0), ("a symlink", 1), ("a FIFO", 2)] {
        fs::remove_file(&index).unwrap();
        match make {
            0 => fs::create_dir(&index).unwrap(),
            1 => std::os::unix::fs::symlink("/dev/zero", &index).unwrap(),
            _ => nix::unistd::mkfifo(&index, nix::sys::stat::Mode::S_IRUSR).unwrap(),
        }
        assert_eq!(pool.add("me").unwrap_err().kind(), Kind::AlreadyExists, "{why}");
        if make == 0 {
            fs::remove_dir(&index).unwrap();
            fs::write(&index, "").unwrap();
        }
    }
}

#[test]
fn a_directory_of_indexes_that_cannot_be_written_costs_only_time() {
    let pool = large();
    fs::create_dir_all(pool.host().run).unwrap();
    fs::write(pool.host().run.join("pools"), "a file").unwrap();
    pool.add("me").unwrap();
    assert_eq!(pool.add("me").unwrap_err().kind(), Kind::AlreadyExists);
    pool.plugin("DEL", "me").unwrap();
    assert!(really_held(&pool, "me").is_empty() && !is_valid(&pool));
}

#[test]
fn leases_in_old_forms_and_strange_ones_are_found_by_the_index() {
    let pool = large();
    let other = pool.dir().join("10.0.77.7");
    for (content, holds) in [
        (&b"me"[..], true),
        (b"me\n", true),
        (b" me\r\neth0 \n", true),
        (b"me\neth0", false),
        (b"me\r\neth1", false),
        (b"\xff\xfe", false),
        (b"", false),
        (b"x me\r\neth0", false),
    ] {
        fs::write(&other, content).unwrap();
        // Built by one, read by the next.
        pool.touch();
        pool.add("another").unwrap();
        assert!(is_valid(&pool));
        let held = !held_by(&pool.host(), &pool.dir(), "me", &eth0()).unwrap().is_empty();
        assert_eq!(held, holds, "{content:?}");
        match pool.add("me") {
            Ok(_) => assert!(!holds, "{content:?}"),
            Err(fault) => assert!(holds && fault.kind() == Kind::AlreadyExists, "{content:?}: {fault}"),
        }
        pool.plugin("DEL", "me").unwrap();
        pool.plugin("DEL", "another").unwrap();
    }
}

/// One of four programs that work on one pool at once.
fn work(pool: &Pool, worker: usize) -> (Vec<String>, Vec<String>) {
    let mut dice = Dice(0xabcd + worker as u64);
    let (mut kept, mut unsure) = (Vec::new(), Vec::new());
    for round in 0..170 {
        let owner = format!("w{worker}-{round}");
        if worker == 7 {
            // The disturber.
            match dice.roll(3) {
                0 => fs::read_dir(pool.host().run.join("pools")).into_iter().flatten().flatten().for_each(|entry| {
                    let _ = fs::remove_file(entry.path());
                }),
                1 => pool.touch(),
                _ => fs::set_permissions(pool.dir(), fs::Permissions::from_mode(0o755)).unwrap(),
            }
            std::thread::sleep(Duration::from_millis(20));
        } else if worker == 6 {
            // Killed at any time.
            pool.plugin_killed("ADD", &owner, Duration::from_micros(dice.roll(12_000) as u64));
            if dice.roll(2) == 0 {
                pool.plugin_killed("DEL", &owner, Duration::from_micros(dice.roll(12_000) as u64));
            }
            unsure.push(owner);
        } else {
            let call = |command: &str, owner: &str, ours: bool| match ours {
                true => pool.plugin(command, owner),
                false => pool.upstream(command, owner).map(drop),
            };
            call("ADD", &owner, worker.is_multiple_of(2)).unwrap();
            if dice.roll(2) == 0 {
                call("DEL", &owner, dice.roll(2) == 0).unwrap();
            } else {
                assert!(call("ADD", &owner, dice.roll(2) == 0).is_err(), "{owner} has a second lease");
                kept.push(owner);
            }
        }
    }
    (kept, unsure)
}

#[test]
fn two_thousand_operations_of_both_programs_killed_and_disturbed_lose_and_double_nothing() {
    let pool = large();
    let (mut kept, mut unsure) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|worker| (worker, &pool)).map(|(worker, pool)| scope.spawn(move || work(pool, worker))).collect();
        for worker in workers {
            let (more, maybe) = worker.join().unwrap();
            kept.extend(more);
            unsure.extend(maybe);
        }
    });
    let held = pool.state().into_iter().filter(|(name, _)| name.starts_with("10.")).filter_map(|(_, (_, text))| text);
    let held: Vec<String> = held.map(|text| String::from_utf8(text).unwrap().split("\r\n").next().unwrap().to_owned()).collect();
    let of_workers: Vec<&String> = held.iter().filter(|owner| owner.starts_with('w')).collect();
    let distinct: BTreeSet<&String> = of_workers.iter().copied().collect();
    assert_eq!(distinct.len(), of_workers.len(), "nobody has two leases");
    assert!(kept.iter().all(|owner| distinct.contains(owner)), "nobody lost one");
    assert!(distinct.iter().all(|owner| kept.contains(owner) || unsure.contains(owner)), "nothing is left over");
    assert_eq!(held.len() - of_workers.len(), OTHERS, "and the others are there");
    // Once more with an index, which must know all of them.
    pool.plugin("ADD", "last").unwrap();
    assert!(assert_complete(&pool, kept.iter().chain(&unsure).cloned()));
    for owner in kept.iter().chain(&unsure) {
        pool.plugin("DEL", owner).unwrap();
    }
    pool.plugin("DEL", "last").unwrap();
    assert_eq!(pool.state().keys().filter(|name| name.starts_with("10.")).count(), OTHERS);
    assert!(pool.state().keys().all(|name| !name.starts_with('.')), "{:?}", pool.state().keys());
}
