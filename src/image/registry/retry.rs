//! When to ask again.

use std::time::Duration;

use jiff::Timestamp;

/// How often one endpoint is asked again for one thing without having given anything.
pub const TRIES: u32 = 5;
/// The longest pause between two tries of our own choice.
const LONGEST: Duration = Duration::from_secs(8);
/// The longest pause that a server may ask for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a status may be another one in a moment.
pub fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// The pause before try `nth` (1 is the first repetition), from a quarter of a second, doubled, `spread` (0 to 255) apart.
pub fn pause(nth: u32, spread: u8) -> Duration {
    let base = Duration::from_millis(250).saturating_mul(1 << nth.saturating_sub(1).min(10)).min(LONGEST);
    // Between three quarters and five quarters of it: many that were cut at once do not come back at once.
    base.mul_f64(0.75 + f64::from(spread) / 510.0)
}

/// What `Retry-After` asks for: seconds or a date; `None` when it says nothing.
pub fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(header).ok()?;
    Duration::try_from(date.duration_since(now)).ok().or(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        assert_eq!(pause(1, 127).as_millis(), 249);
        assert!(pause(3, 0) > pause(2, 0) && pause(60, 255) <= LONGEST.mul_f64(1.25));
    }

    #[test]
    fn servers_say_when() {
        let now: Timestamp = "2026-11-25T07:28:00Z".parse().unwrap();
        for (header, wants) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("Wed, 25 Nov 2026 07:28:30 GMT", Some(30)),
            ("Wed, 25 Nov 2020 07:28:30 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(header, now).map(|wait| wait.as_secs()), wants, "{header}");
        }
    }
}
