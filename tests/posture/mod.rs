//! A program that makes single system calls inside a container.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{Output, World};

/// The static program, compiled once (a virtual machine without a compiler is given it).
pub fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        if let Some(given) = std::env::var_os("RKBOX_PROBE") {
            return PathBuf::from(given);
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/posture/probe.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}", std::process::id()));
        let built = Command::new("gcc").args(["-static", "-O1", "-o"]).arg(&program).arg(&source).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        program
    })
}

/// Makes `calls` in a container that is run with `options`; answers a line for each.
#[track_caller]
pub fn answers(world: &World, options: &[&str], calls: &[String]) -> Vec<String> {
    let mount = format!("{}:/probe:ro", probe().display());
    let mut args = vec!["run", "--rm", "--net", "none", "-v", &mount];
    args.extend(options);
    args.extend(["busybox", "/probe"]);
    args.extend(calls.iter().map(String::as_str));
    let out = world.rkbox(args).ok();
    let lines: Vec<String> = out.stdout.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), calls.len(), "{out}");
    lines
}

/// Runs a shell line in a container with `options`.
#[track_caller]
pub fn shell(world: &World, options: &[&str], line: &str) -> Output {
    let mut args = vec!["run", "--rm", "--net", "none"];
    args.extend(options);
    args.extend(["busybox", "sh", "-c", line]);
    world.rkbox(args)
}
