//! Sizes as people write them.

use crate::fault::{Fault, Result};

/// Reads a size in bytes: `512`, `64m`, `64MB`, `64MiB`, `1.5g`; every unit is a power of 1024, letters of any case.
///
/// *Errors:* `InvalidArgument` for anything else, a negative size, and one over 2^63-1. *Source:* Docker's `units.RAMInBytes`, which podman and
/// nerdctl use too.
pub fn parse(text: &str) -> Result<i64> {
    let bad = |why: &str| Fault::invalid(format!("size {text:?} {why}")).hint("the form is NUMBER[b|k|m|g|t], such as 64m or 1.5g");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start().to_ascii_lowercase());
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(bad("has an unknown unit")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || (number.contains('.') && !digits(fraction)) || fraction.len() > 9 {
        return Err(bad("is not a number with a unit"));
    }
    let too_large = || bad("is too large");
    let whole = whole.parse::<i128>().map_err(|_| too_large())?;
    let part = format!("{fraction:0<9}").parse::<i128>().map_err(|_| too_large())?;
    let bytes = (whole << shift) + ((part << shift) / 1_000_000_000);
    if whole > i128::from(i64::MAX) {
        return Err(too_large());
    }
    i64::try_from(bytes).map_err(|_| too_large())
}

/// Writes a size for people: `64MiB`, `1.5GiB`, `512B`.
pub fn text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut nth = 0;
    let mut unit = 1_u64;
    while nth + 1 < UNITS.len() && bytes / unit >= 1024 {
        unit *= 1024;
        nth += 1;
    }
    let tenths = u64::try_from(u128::from(bytes) * 10 / u128::from(unit)).unwrap_or(u64::MAX);
    match tenths % 10 {
        0 => format!("{}{}", tenths / 10, UNITS[nth]),
        rest => format!("{}.{rest}{}", tenths / 10, UNITS[nth]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("32b", 32),
            ("32kb", 32 << 10),
            ("32Kib", 32 << 10),
            ("64m", 64 << 20),
            ("64 MB", 64 << 20),
            ("1.5g", 3 << 29),
            ("0.5k", 512),
            ("1T", 1 << 40),
            ("2p", 2 << 50),
        ] {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "m", "-1", "-1m", "1x", "1.m", ".5m", "1e3", "1,5m", "9999999p", "99999999999999999999", "1..5m", "64mm", " 1m"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_written_for_people() {
        assert_eq!([0, 512, 64 << 20, 3 << 29, u64::MAX].map(text), ["0B", "512B", "64MiB", "1.5GiB", "16383.9PiB"]);
    }
}
