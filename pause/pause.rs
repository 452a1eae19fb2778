//! The first process of a sandbox: waits for the end, reaps orphans meanwhile. Freestanding, about 1 KB.
//!
//! It blocks INT, TERM and CHLD and takes them one by one with rt_sigtimedwait(2): so no handler is needed, and the kernel, which
//! ignores unhandled signals to the first process of a pid namespace, still queues those that are blocked.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(70)
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
}

#[cfg(target_arch = "x86_64")]
fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer;
    // SAFETY: the callers pass what the call of that number takes; rcx and r11 are what the instruction destroys.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer;
    // SAFETY: the callers pass what the call of that number takes.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => answer, in("x1") b, in("x2") c, in("x3") d, options(nostack));
    }
    answer
}

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {run}", "ud2", run = sym run);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "bl {run}", "brk 0", run = sym run);

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const ANY_CHILD: usize = usize::MAX;

fn exit(code: usize) -> ! {
    loop {
        call(number::EXIT_GROUP, code, 0, 0, 0);
    }
}

extern "C" fn run() -> ! {
    let set: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    let address = &raw const set as usize;
    call(number::RT_SIGPROCMASK, SIG_BLOCK, address, 0, size_of::<u64>());
    loop {
        match call(number::RT_SIGTIMEDWAIT, address, 0, 0, size_of::<u64>()) {
            SIGINT | SIGTERM => exit(0),
            // One SIGCHLD may stand for many children.
            SIGCHLD => while call(number::WAIT4, ANY_CHILD, 0, WNOHANG, 0) > 0 {},
            _ => {}
        }
    }
}
