//! Builds the freestanding programs, so that a checkout holds no binary and a fresh machine needs no second tool chain.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a build script starts the compiler and can only stop the build")]

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Flags that make a program small and free of any library.
const FLAGS: [&str; 11] = [
    "--edition=2024",
    "--crate-type=bin",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Cstrip=symbols",
    "-Crelocation-model=static",
    "-Cdebuginfo=0",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,--build-id=none,-n,--gc-sections,--no-eh-frame-hdr",
];

fn main() {
    println!("cargo::rerun-if-changed=freestanding");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    for name in ["pause", "init"] {
        compile(name);
    }
}

fn compile(name: &str) {
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo did not set {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join(name);
    let source = format!("freestanding/{name}.rs");

    // The compiler is called without its wrapper and without the flags of the crate: crt-static, sanitizers or
    // coverage have no meaning for a program without a library.
    let mut compiler = Command::new(variable("RUSTC"));
    compiler.args(FLAGS).arg("--crate-name").arg(name).arg("--target").arg(variable("TARGET")).arg("-o").arg(&program).arg(&source);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        compiler.env_remove(name);
    }
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("musl") {
        // musl targets bring start files of their own, which would define a second `_start`.
        compiler.arg("-Clink-self-contained=no");
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("-Clinker=");
        flag.push(linker);
        compiler.arg(flag);
    }
    match compiler.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("compiling {source}: {status}"),
        Err(error) => panic!("compiling {source}: {error}"),
    }
}
