//! The first process of a container with `--init`: starts the command, hands signals on to it, reaps orphans, ends with its status.
//! Freestanding, about 2 KB.
//!
//! Called as `init -- COMMAND [ARGUMENT…]`. It blocks every signal and takes them one by one, as the pause program does. All go on to
//! the command alone, as with docker's init and podman's: what becomes of the processes that it started is its own matter. The
//! command leads a process group of its own, in the foreground of the terminal if there is one, so that Ctrl-C reaches that
//! group and not this process.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "the other program uses the rest")]

mod kernel;

use core::ptr;

use kernel::{ANY_CHILD, SIGCHLD, WNOHANG, block, call, exit, next_signal, number};

type Text = *const u8;

const SIGTTIN: isize = 21;
const SIGTTOU: isize = 22;
const EVERY_SIGNAL: u64 = u64::MAX;
const SIG_SETMASK: usize = 2;
const TIOCSPGRP: usize = 0x5410;
const ENOENT: isize = -2;
const ENOTDIR: isize = -20;
const EACCES: isize = -13;
/// The longest path that the kernel takes, with its end.
const PATH_MAX: usize = 4096;
/// Where programs are looked for without PATH. *Source:* runc has none then, and finds nothing; neither do we.
const PATH: [u8; 5] = *b"PATH=";

extern "C" fn run(stack: *const usize) -> ! {
    // SAFETY: the kernel has put argc, argv and envp there, each list with a null at its end.
    let (count, arguments, environment) = unsafe {
        let count = *stack;
        (count, stack.add(1).cast::<Text>(), stack.add(count + 2).cast::<Text>())
    };
    if count < 3 {
        say(b"rkbox-init: no command\n");
        exit(127);
    }
    let before = block(EVERY_SIGNAL);
    let child = call(number::CLONE, SIGCHLD as usize, 0, 0, 0);
    if child < 0 {
        say(b"rkbox-init: cannot make a process\n");
        exit(126);
    }
    if child == 0 {
        // SAFETY: after the program's name and `--`.
        command(unsafe { arguments.add(2) }, environment, before);
    }
    attend(child as usize);
}

/// Hands signals on to the command and reaps whoever ends; ends when the command does.
fn attend(child: usize) -> ! {
    loop {
        match next_signal(EVERY_SIGNAL) {
            SIGCHLD => reap(child),
            // Of a terminal to whoever is not in its foreground, which is us.
            SIGTTIN | SIGTTOU => {}
            signal if signal > 0 => {
                call(number::KILL, child, signal as usize, 0, 0);
            }
            _ => {}
        }
    }
}

/// Reaps all that have ended: one SIGCHLD may stand for many.
fn reap(child: usize) {
    loop {
        let mut status = 0_i32;
        let pid = call(number::WAIT4, ANY_CHILD, &raw mut status as usize, WNOHANG, 0);
        if pid <= 0 {
            return;
        }
        if pid as usize == child {
            let (signal, code) = ((status & 0x7f) as usize, (status >> 8 & 0xff) as usize);
            exit(if signal == 0 { code } else { 128 + signal });
        }
    }
}

/// Becomes the command: a group of its own, in the foreground, with the signals that were blocked when we began.
fn command(arguments: *const Text, environment: *const Text, blocked: u64) -> ! {
    let group = call(number::GETPID, 0, 0, 0, 0) as i32;
    call(number::SETPGID, 0, 0, 0, 0);
    // Fails without a terminal. SIGTTOU, which it would bring to a group in the background, is blocked still.
    call(number::IOCTL, 0, TIOCSPGRP, &raw const group as usize, 0);
    call(number::RT_SIGPROCMASK, SIG_SETMASK, &raw const blocked as usize, 0, size_of::<u64>());
    // SAFETY: there is at least one.
    let name = unsafe { *arguments };
    let error = execute(name, arguments, environment);
    say(b"rkbox-init: ");
    say(text(name));
    say(match error {
        ENOENT | ENOTDIR => b": no such program\n".as_slice(),
        EACCES => b": may not be executed\n",
        _ => b": cannot be executed\n",
    });
    exit(if matches!(error, ENOENT | ENOTDIR) { 127 } else { 126 });
}

/// Executes `name`, looked for in PATH unless it has a slash; answers the error that says most.
fn execute(name: Text, arguments: *const Text, environment: *const Text) -> isize {
    let at = |path: Text| call(number::EXECVE, path as usize, arguments as usize, environment as usize, 0);
    // `contains` would call a search of the library's.
    if text(name).iter().any(|byte| *byte == b'/') {
        return at(name);
    }
    let mut worst = ENOENT;
    for dir in search_path(environment).split(|byte| *byte == b':') {
        if dir.is_empty() || dir.len() + text(name).len() + 2 > PATH_MAX {
            continue;
        }
        let mut path = [const { core::mem::MaybeUninit::<u8>::uninit() }; PATH_MAX];
        let mut end = path.as_mut_ptr().cast::<u8>();
        for byte in dir.iter().chain(b"/").chain(text(name)).chain(b"\0") {
            // SAFETY: it fits, as was seen above. Volatile, or the compiler makes a call of memcpy, which nobody has.
            unsafe {
                ptr::write_volatile(end, *byte);
                end = end.add(1);
            }
        }
        match at(path.as_ptr().cast()) {
            ENOENT | ENOTDIR => {}
            error => worst = error,
        }
    }
    worst
}

fn search_path(environment: *const Text) -> &'static [u8] {
    let mut entry = environment;
    // SAFETY: a null ends the list.
    while let Some(variable) = unsafe { (*entry).as_ref() } {
        let variable = text(variable);
        if let Some(path) = variable.strip_prefix(&PATH) {
            return path;
        }
        entry = entry.wrapping_add(1);
    }
    b""
}

/// The bytes of a text that the kernel put on our stack, which stays.
fn text(start: Text) -> &'static [u8] {
    let mut length = 0;
    // SAFETY: a zero byte ends it.
    unsafe {
        while ptr::read_volatile(start.add(length)) != 0 {
            length += 1;
        }
        core::slice::from_raw_parts(start, length)
    }
}

/// Says something on standard error; there is nobody to tell when that fails.
fn say(text: &[u8]) {
    call(number::WRITE, 2, text.as_ptr() as usize, text.len(), 0);
}
