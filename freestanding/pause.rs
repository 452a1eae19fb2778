//! The first process of a sandbox: waits for the end, reaps orphans meanwhile. Freestanding, about 1 KB.
//!
//! It blocks INT, TERM and CHLD and takes them one by one with rt_sigtimedwait(2): so no handler is needed, and the kernel, which
//! ignores unhandled signals to the first process of a pid namespace, still queues those that are blocked.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "the other program uses the rest")]

mod kernel;

use kernel::{ANY_CHILD, SIGCHLD, WNOHANG, block, call, exit, next_signal, number};

const SIGINT: isize = 2;
const SIGTERM: isize = 15;

extern "C" fn run(_: *const usize) -> ! {
    let set: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    block(set);
    loop {
        match next_signal(set) {
            SIGINT | SIGTERM => exit(0),
            // One SIGCHLD may stand for many children.
            SIGCHLD => while call(number::WAIT4, ANY_CHILD, 0, WNOHANG, 0) > 0 {},
            _ => {}
        }
    }
}
