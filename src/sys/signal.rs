//! Signals to rkbox itself: noted while it works, handed on while it waits for a container in the foreground.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::fault::{Fault, Kind, Result, kind_of_errno};

static NOTED: AtomicI32 = AtomicI32::new(0);
static TARGET: AtomicI32 = AtomicI32::new(0);

/// What is handed on to a process in the foreground.
const FORWARDED: [Signal; 7] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];

/// Notes SIGINT and SIGTERM from now on, instead of dying of them: the step at work is finished, then taken back.
pub fn install() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        set(signal, &action)?;
    }
    Ok(())
}

/// The signal that was noted first, if any.
pub fn pending() -> Option<i32> {
    match NOTED.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// Fails with `Cancelled` when a signal was noted.
pub fn check() -> Result<()> {
    match pending() {
        None => Ok(()),
        Some(signal) => {
            let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
            Err(Fault::new(Kind::Cancelled, format!("interrupted by {name}")))
        }
    }
}

/// Gives SIGINT and SIGTERM their default action again and forgets what was noted.
pub fn restore() -> Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        set(signal, &action)?;
    }
    NOTED.store(0, Ordering::Relaxed);
    Ok(())
}

/// Hands signals on to one child until it is dropped, then puts the old actions back.
#[derive(Debug)]
pub struct Forwarding {
    old: Vec<(Signal, SigAction)>,
}

impl Forwarding {
    /// Starts to hand signals on to `pid`, a child that the caller has not reaped and will not reap while this lives.
    ///
    /// What a terminal sends goes to the whole process group, the child included, and is not sent a second time.
    pub fn to(pid: i32) -> Result<Self> {
        TARGET.store(pid, Ordering::SeqCst);
        let action = SigAction::new(SigHandler::SigAction(forward), SaFlags::SA_RESTART | SaFlags::SA_SIGINFO, SigSet::empty());
        let mut forwarding = Forwarding { old: Vec::new() };
        for signal in FORWARDED {
            forwarding.old.push((signal, set(signal, &action)?));
        }
        // A signal that was noted between the plan and now belongs to the container.
        if let Some(signal) = pending() {
            NOTED.store(0, Ordering::Relaxed);
            send(signal);
        }
        Ok(forwarding)
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        TARGET.store(0, Ordering::SeqCst);
        for (signal, action) in self.old.drain(..) {
            let _ = set(signal, &action);
        }
    }
}

extern "C" fn note(signal: libc::c_int) {
    let _ = NOTED.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
}

#[allow(unsafe_code)]
extern "C" fn forward(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo for the time of the call.
    let from_terminal = unsafe { info.as_ref() }.is_some_and(|info| info.si_code == libc::SI_KERNEL);
    if !from_terminal {
        send(signal);
    }
}

#[allow(unsafe_code)]
fn send(signal: i32) {
    let pid = TARGET.load(Ordering::SeqCst);
    if pid > 0 {
        let errno = Errno::last_raw();
        // SAFETY: kill is async-signal-safe; the pid is of a child that is not reaped while TARGET names it.
        unsafe { libc::kill(pid, signal) };
        Errno::set_raw(errno);
    }
}

#[allow(unsafe_code)]
fn set(signal: Signal, action: &SigAction) -> Result<SigAction> {
    // SAFETY: the handlers only touch atomics and call kill(2).
    unsafe { sigaction(signal, action) }.map_err(|errno| Fault::new(kind_of_errno(errno), format!("sigaction {signal}: {errno}")))
}

/// Whether process `pid` waits in rt_sigtimedwait(2): the kernel shows none of the signals that it waits for as blocked (seen on 6.1).
pub fn waits_for_signals(pid: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(&libc::SYS_rt_sigtimedwait.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::exec::{Bond, Exec, find};
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_forwarded_signal_reaches_the_child_and_not_us() {
        let mut child = Exec::new(&find("sleep").unwrap()).arg("60").spawn(Bond::Helper).unwrap();
        let forwarding = Forwarding::to(child.id().cast_signed()).unwrap();
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        let pidfd = crate::sys::proc::open_pidfd(child.id().cast_signed()).unwrap();
        use std::os::fd::AsFd;
        assert!(crate::sys::proc::wait_readable(pidfd.as_fd(), std::time::Duration::from_secs(5)).unwrap());
        drop(forwarding);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGUSR1));
    }
}
