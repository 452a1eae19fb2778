//! What the freestanding programs share: system calls, the way in, the way out. No library, no start files.

use core::arch::{asm, global_asm};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(70)
}

#[cfg(target_arch = "x86_64")]
pub mod number {
    pub const WRITE: usize = 1;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETPGID: usize = 109;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
pub mod number {
    pub const IOCTL: usize = 29;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const SETPGID: usize = 154;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
}

#[cfg(target_arch = "x86_64")]
pub fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer;
    // SAFETY: the callers pass what the call of that number takes; rcx and r11 are what the instruction destroys.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

#[cfg(target_arch = "aarch64")]
pub fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer;
    // SAFETY: the callers pass what the call of that number takes.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => answer, in("x1") b, in("x2") c, in("x3") d, options(nostack));
    }
    answer
}

// The stack that the kernel made (argc, argv, NULL, envp, NULL, …) is the one argument of `run`.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {run}", "ud2", run = sym crate::run);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "mov x0, sp", "bl {run}", "brk 0", run = sym crate::run);

pub const SIGCHLD: isize = 17;
pub const SIG_BLOCK: usize = 0;
pub const WNOHANG: usize = 1;
pub const ANY_CHILD: usize = usize::MAX;

pub fn exit(code: usize) -> ! {
    loop {
        call(number::EXIT_GROUP, code, 0, 0, 0);
    }
}

/// Blocks the signals of `set`; answers those that were blocked before.
pub fn block(set: u64) -> u64 {
    let mut before = 0_u64;
    call(number::RT_SIGPROCMASK, SIG_BLOCK, &raw const set as usize, &raw mut before as usize, size_of::<u64>());
    before
}

/// Waits for a signal of `set`, which are blocked; a negative number is none.
pub fn next_signal(set: u64) -> isize {
    call(number::RT_SIGTIMEDWAIT, &raw const set as usize, 0, 0, size_of::<u64>())
}
