//! Sizes and spans of time, as the peers write them.

use std::time::Duration;

use crate::fault::{Fault, Result};

/// Bytes: `4096`, `64k`, `10m`, `10MiB`, `1g`; powers of 1024.
pub fn bytes(text: &str) -> Result<u64> {
    let bad = || Fault::invalid(format!("{text:?} is not a size")).hint("the form is a number with b, k, m, g or t behind it: 64k, 10m");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// A span of time: `30`, `30s`, `1m30s`, `500ms`, `1h`; without a unit seconds.
pub fn span(text: &str) -> Result<Duration> {
    let bad = || Fault::invalid(format!("{text:?} is not a span of time")).hint("the form is 30s, 1m30s, 500ms or 1h");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        rest = after;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, size) in [("0", 0), ("4096", 4096), ("64k", 65536), ("10M", 10 << 20), ("1GiB", 1 << 30), ("2tb", 2 << 40)] {
            assert_eq!(bytes(text).unwrap(), size, "{text}");
        }
        for bad in ["", "k", "1x", "-1", "1.5m", "99999999999t"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_add_up() {
        for (text, millis) in [("30", 30_000), ("1m30s", 90_000), ("500ms", 500), ("1.5h", 5_400_000), ("0s", 0)] {
            assert_eq!(span(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "s", "1x", "-1s", "1m-30s", "1e9h", "99999999999999999999h"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
