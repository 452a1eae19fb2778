//! The engine on steps that need no privileges: files and directories.

use std::collections::BTreeMap;
use std::path::Path;

use super::journal::{self, Event, Journal, VERSION};
use super::{Keep, Plan, Timings, carry_out, ledger, recover, unwind};
use crate::fault::Kind;
use crate::ids::Id;
use crate::step::{Directory, File, Home, Reservation, Step};
use crate::sys::{Host, file, proc};

/// Every path below `dir` with its content, journals and the ledger left out.
fn observe(dir: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = path.to_string_lossy().into_owned();
        if path.is_symlink() {
            seen.insert(name, format!("-> {}", std::fs::read_link(&path).unwrap().display()));
        } else if path.is_dir() {
            seen.insert(name.clone(), "dir".to_owned());
            seen.extend(observe(&path));
        } else {
            seen.insert(name, String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned());
        }
    }
    seen
}

/// How many boxes recovery takes; asked again while a child that another test is just starting holds a copy of the lock.
fn recover_soon(host: &Host) -> usize {
    (0..250)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            recover::recover(host).unwrap().len()
        })
        .find(|count| *count > 0)
        .unwrap_or(0)
}

fn id(byte: u8) -> Id {
    Id::from_bytes([byte; 32])
}

fn steps(host: &Host, byte: u8) -> Vec<Step> {
    let dir = host.sandbox_dir(id(byte).as_str());
    vec![
        Home { dirs: vec![host.root.clone(), host.root.join("names"), host.root.join("sandboxes")] }.into(),
        Reservation { path: host.root.join("names/web"), id: id(byte) }.into(),
        Directory::new(dir.clone(), 0o700).into(),
        File { path: dir.join("record.json"), mode: 0o600, content: "{}\n".to_owned(), durable: true, owner: (0, 0) }.into(),
    ]
}

fn plan(host: &Host, byte: u8) -> Plan {
    Plan::new(id(byte).as_str(), "create sandbox web", steps(host, byte))
}

#[test]
fn a_box_comes_whole_and_goes_whole() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    let before = observe(world.path());
    let mut timings = Timings::start();
    carry_out(plan(&host, 1), &host, &mut timings).unwrap().release();
    assert_eq!(std::fs::read_to_string(host.sandbox_dir(id(1).as_str()).join("record.json")).unwrap(), "{}\n");
    assert!(timings.finish().0.iter().any(|row| row.what == "reserve the name web"));
    assert!(unwind(id(1).as_str(), &host, 0).unwrap());
    assert!(!unwind(id(1).as_str(), &host, 0).unwrap());
    ledger::reclaim(&host).unwrap();
    file::remove_dir_if_empty(&host.journals()).unwrap();
    file::remove_dir_if_empty(&host.run).unwrap();
    assert_eq!(observe(world.path()), before);
}

#[test]
fn a_failed_step_takes_everything_back_and_names_itself() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    carry_out(plan(&host, 1), &host, &mut Timings::start()).unwrap().release();
    let before = observe(&host.root);
    let fault = carry_out(plan(&host, 2), &host, &mut Timings::start()).unwrap_err();
    assert_eq!(fault.kind(), Kind::AlreadyExists);
    assert!(fault.to_string().starts_with("cannot create sandbox web: reserve the name web: the name web is taken"), "{fault}");
    assert!(fault.hints().iter().any(|hint| hint.contains("rkbox sandbox rm web")), "{:?}", fault.hints());
    assert_eq!(observe(&host.root), before);
    assert!(!file::exists(&journal::path(&host, id(2).as_str())).unwrap());
}

#[test]
fn steps_side_by_side_come_whole_or_not_at_all() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    let made =
        |name: &str| Step::from(File { path: host.root.join(name), mode: 0o600, content: "x".to_owned(), durable: true, owner: (0, 0) });
    let home = || Step::from(Home { dirs: vec![host.root.clone()] });
    let before = observe(world.path());
    let plan = |steps: Vec<Step>, runs| Plan::new("image-1", "pull", steps).side_by_side(runs);

    let good = plan(vec![home(), made("a"), made("b"), made("c"), made("d")], vec![1..2, 2..4]);
    let mut timings = Timings::start();
    carry_out(good, &host, &mut timings).unwrap().release();
    assert_eq!(file::list(&host.root).unwrap(), ["a", "b", "c", "d"]);
    let rows: Vec<(String, bool)> = timings.finish().0.into_iter().map(|row| (row.what, row.beside)).collect();
    let at = rows.iter().position(|(what, _)| what == "3 steps side by side").unwrap_or_else(|| panic!("{rows:?}"));
    let below: Vec<bool> = rows[at..].iter().map(|(_, beside)| *beside).take(4).collect();
    assert_eq!(below, [false, true, true, true], "{rows:?}");
    assert!(unwind("image-1", &host, 0).unwrap());

    let fault = carry_out(plan(vec![home(), made("a"), made("gone/b"), made("c")], vec![1..2, 2..3, 3..4]), &host, &mut Timings::start());
    assert!(fault.unwrap_err().to_string().contains("gone/b"));
    for dir in [host.journals(), host.run.clone(), host.root.clone()] {
        file::remove_dir_if_empty(&dir).unwrap();
    }
    ledger::reclaim(&host).unwrap();
    file::remove_dir_if_empty(&host.run).unwrap();
    assert_eq!(observe(world.path()), before);
}

#[test]
fn what_a_dead_command_began_is_recovered_and_what_a_live_one_holds_is_not() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    let before = observe(world.path());
    for reached in 0..=4 {
        let planned = steps(&host, 1);
        let journal = Journal::create(&host, id(1).as_str()).unwrap();
        let boot = proc::boot_id().unwrap();
        journal
            .append(&Event::Planned { v: VERSION, command: "c".to_owned(), boot, keep: Keep::UntilRemoved, steps: planned.clone() })
            .unwrap();
        for (index, step) in planned.iter().enumerate().take(reached) {
            let found = step.look(&host).unwrap();
            journal.append(&Event::Started { index, before: found.clone() }).unwrap();
            // The last one dies before its own apply: only the intent is written.
            if index + 1 < reached {
                step.apply(&found, &host).unwrap();
            }
        }
        assert!(recover::recover(&host).unwrap().is_empty(), "a held journal is a live command");
        drop(journal);
        assert_eq!(recover_soon(&host), 1);
        file::remove_dir_if_empty(&host.journals()).unwrap();
        file::remove_dir_if_empty(&host.run).unwrap();
        assert_eq!(observe(world.path()), before, "after {reached} steps");
    }
}

#[test]
fn a_removal_that_was_killed_is_finished() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    carry_out(plan(&host, 1), &host, &mut Timings::start()).unwrap().release();
    let journal = Journal::open(&host, id(1).as_str()).unwrap().unwrap();
    journal.append(&Event::Removing { down_to: 2 }).unwrap();
    drop(journal);
    assert_eq!(recover_soon(&host), 1);
    assert!(!file::exists(&host.sandbox_dir(id(1).as_str())).unwrap());
    assert!(file::exists(&journal::path(&host, id(1).as_str())).unwrap(), "stopped, not removed");
    assert!(file::find_symlink(&host.root.join("names/web")).unwrap().is_some());
    assert!(recover::recover(&host).unwrap().is_empty());
}

#[test]
fn a_name_whose_holder_is_gone_is_taken_over() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    std::fs::create_dir_all(host.root.join("names")).unwrap();
    file::create_symlink(id(9).as_str(), &host.root.join("names/web")).unwrap();
    carry_out(plan(&host, 1), &host, &mut Timings::start()).unwrap().release();
    assert_eq!(file::find_symlink(&host.root.join("names/web")).unwrap().unwrap(), id(1).as_str());
    assert_eq!(file::list(&host.root.join("names")).unwrap(), ["web"]);
}

#[test]
fn shared_directories_stay_while_used_and_go_with_gc() {
    let world = tempfile::tempdir().unwrap();
    let host = Host::below(world.path());
    carry_out(plan(&host, 1), &host, &mut Timings::start()).unwrap().release();
    assert!(ledger::reclaim(&host).unwrap().is_empty(), "in use");
    unwind(id(1).as_str(), &host, 0).unwrap();
    assert!(file::exists(&host.root).unwrap(), "rm leaves shared things");
    assert_eq!(ledger::reclaim(&host).unwrap().len(), 1);
    assert!(!file::exists(&host.root).unwrap());
}
