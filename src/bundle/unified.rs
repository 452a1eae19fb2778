//! Files of a control group of version 2 by their names: `--cgroup-conf` in, `linux.resources.unified` out.

use std::collections::BTreeMap;

use crate::fault::{Fault, Result};

/// What a file may begin with: the controllers of Linux.
const CONTROLLERS: [&str; 9] = ["cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "pids", "rdma"];
/// The files of a group itself that bound it; the others move processes, end them or change what kind of group it is.
const OWN: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];
/// The kernel takes a page at once.
const LIMIT: usize = 4095;

/// Reads each `KEY=VALUE`; the last of a key counts.
///
/// *Shape:* `memory.high=1073741824`, `io.max=8:0 rbps=1048576`. *Errors:* as [`check`], and a word without `=`. *Source:* podman
/// `--cgroup-conf`, cgroup-v2 of the kernel's documentation.
pub fn parse(words: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Fault::invalid(format!("{word:?} has no value")).hint("the form is memory.high=1073741824")),
    };
    let read: Result<BTreeMap<_, _>> = words.iter().map(pair).collect();
    let read = read.and_then(|read| check(&read).map(|()| read));
    read.map_err(|fault| fault.doing("--cgroup-conf"))
}

/// Refuses a key that is no file of a controller, or that could be one elsewhere, and a value that the kernel does not take as one.
///
/// *Errors:* `InvalidArgument`, with the key.
pub fn check(pairs: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in pairs {
        let why = if !is_file(key) {
            "is no file of a control group"
        } else if key.starts_with("cgroup.") && !OWN.contains(&key.as_str()) {
            "does not bound a group: the runtime writes it itself"
        } else if !key.starts_with("cgroup.") && !CONTROLLERS.contains(&controller(key)) {
            "belongs to no controller of Linux"
        } else if value.is_empty() || value.len() > LIMIT || value.contains(|c: char| c.is_control()) {
            "needs a value of one line"
        } else {
            continue;
        };
        return Err(Fault::invalid(format!("{key:?} {why}"))
            .hint(format!("the form is memory.high=1073741824; controllers are {}", CONTROLLERS.join(", "))));
    }
    Ok(())
}

/// The controller of a file: `hugetlb` of `hugetlb.2MB.max`.
pub fn controller(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

/// Words of letters, digits, `_` and `-` with dots between: no path, and nothing that a terminal or a log reads otherwise.
fn is_file(key: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    key.len() <= 255 && key.contains('.') && key.split('.').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<BTreeMap<String, String>> {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn keys_are_files_of_controllers_and_the_last_counts() {
        let good = read(&["memory.high=1", "io.max=8:0 rbps=1048576", "hugetlb.2MB.rsvd.max=0", "memory.high=2", "cgroup.max.depth=0"]);
        let good: Vec<_> = good.unwrap().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(good, ["cgroup.max.depth=0", "hugetlb.2MB.rsvd.max=0", "io.max=8:0 rbps=1048576", "memory.high=2"]);
        assert_eq!(controller("hugetlb.2MB.max"), "hugetlb");
    }

    #[test]
    fn paths_control_characters_and_files_that_bound_nothing_are_refused() {
        for (bad, why) in [
            ("memory.high", "no value"),
            ("memory.high=", "a value of one line"),
            ("memory.high=1\n2", "a value of one line"),
            ("memory.high=\u{1b}[2J", "a value of one line"),
            ("../memory.high=1", "no file"),
            ("memory./../../x.y=1", "no file"),
            ("/memory.high=1", "no file"),
            (".memory=1", "no file"),
            ("memory..high=1", "no file"),
            ("memory=1", "no file"),
            ("=1", "no file"),
            ("mem ory.high=1", "no file"),
            ("memory.\u{1b}high=1", "no file"),
            ("memory.\0high=1", "no file"),
            ("nothing.max=1", "no controller"),
            ("cgroup.procs=1", "does not bound"),
            ("cgroup.subtree_control=-memory", "does not bound"),
            ("cgroup.kill=1", "does not bound"),
        ] {
            let fault = read(&[bad]).unwrap_err().to_string();
            assert!(
                fault.contains(why) && fault.contains("--cgroup-conf") && !fault.contains(|c: char| c.is_control()),
                "{bad:?}: {fault}"
            );
        }
        let long = format!("memory.high={}", "1".repeat(5000));
        assert!(read(&[&long]).is_err());
    }
}
