//! Signals by name and number.

use crate::fault::{Fault, Result};

/// Names of the signals of Linux, from 1; x86 and ARM have the same.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD",
    "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first and last real-time signal as a C library counts them.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Reads a signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `SIGRTMAX-1`, in any case.
///
/// *Errors:* `InvalidArgument` for no signal, and for 0. *Source:* Docker's `--stop-signal`; signal(7).
pub fn parse_signal(text: &str) -> Result<i32> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = |rest: &str, from: i32, sign: i32| match rest {
        "" => Some(from),
        rest => {
            let count = rest.strip_prefix(if sign > 0 { '+' } else { '-' })?;
            count.parse::<i32>().ok().filter(|_| count.bytes().all(|byte| byte.is_ascii_digit()))?.checked_mul(sign)?.checked_add(from)
        }
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        realtime(rest, RTMIN, 1)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        realtime(rest, RTMAX, -1)
    } else if let Some(at) = NAMES.iter().position(|known| *known == name) {
        i32::try_from(at + 1).ok()
    } else {
        match name {
            "IOT" => Some(6),
            "CLD" => Some(17),
            "POLL" => Some(29),
            _ => upper.parse().ok(),
        }
    };
    number.filter(|number| (1..=RTMAX).contains(number) && !(32..RTMIN).contains(number)).ok_or_else(|| {
        Fault::invalid(format!("{text:?} is not a signal")).hint("use a name such as TERM or SIGTERM, RTMIN+3, or a number from 1 to 64")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_numbers_and_offsets() {
        for (text, number) in [
            ("TERM", 15),
            ("sigkill", 9),
            ("15", 15),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("rtmax-1", 63),
            ("SIGIOT", 6),
            ("WINCH", 28),
            ("SYS", 31),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "33", "SIG", "NOPE", "RTMIN+99", "RTMIN-1", "RTMAX+1", "RTMIN+-1", "-9", "SIG15x"] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
    }
}
