//! What happens when a container ends.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Result};

/// `--restart`.
///
/// *Shape:* `no`, `on-failure`, `on-failure:3`, `always`, `unless-stopped`. *Source:* Docker; with `always`, as with `unless-stopped`, a
/// container that was stopped by its user stays so until the next boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    /// It stays ended.
    #[default]
    No,
    /// It is started again when it failed, at most so many times in a row.
    OnFailure(Option<u32>),
    /// It is started again, and at boot.
    Always,
    /// It is started again, and at boot unless it was stopped before.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether a container that ended by itself with `exit_code`, started again `restarts` times already, is started once more.
    pub fn wants(self, exit_code: u8, restarts: u32) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure(limit) => exit_code != 0 && limit.is_none_or(|limit| restarts < limit),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        }
    }

    /// Whether a container is started at boot that ended with `exit_code`; `stopped` says that its user stopped it before.
    ///
    /// *Source:* what docker's daemon does when it starts.
    pub fn wants_at_boot(self, exit_code: u8, stopped: bool) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure(_) => exit_code != 0 && !stopped,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !stopped,
        }
    }

    /// Whether the policy ever starts a container again.
    pub fn is_active(self) -> bool {
        self != RestartPolicy::No
    }
}

impl FromStr for RestartPolicy {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Fault::invalid(format!("restart policy {text:?} is not known"))
                .hint("use no, on-failure, on-failure:TIMES, always or unless-stopped")
        };
        match text {
            "no" => Ok(RestartPolicy::No),
            "on-failure" => Ok(RestartPolicy::OnFailure(None)),
            "always" => Ok(RestartPolicy::Always),
            "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
            _ => {
                let limit: u32 = text.strip_prefix("on-failure:").and_then(|limit| limit.parse().ok()).ok_or_else(bad)?;
                // Docker: 0 is no limit.
                Ok(RestartPolicy::OnFailure((limit > 0).then_some(limit)))
            }
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartPolicy::No => f.write_str("no"),
            RestartPolicy::OnFailure(None) => f.write_str("on-failure"),
            RestartPolicy::OnFailure(Some(limit)) => write!(f, "on-failure:{limit}"),
            RestartPolicy::Always => f.write_str("always"),
            RestartPolicy::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> String {
        policy.to_string()
    }
}

/// How long a container waits before it is started again: 10 s, doubled each time up to 5 min, from the start again after 10 min of life.
///
/// *Source:* the kubelet's CrashLoopBackOff.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    const MOST: u32 = 30;
    const RESET: u32 = 60;

    /// The back-off whose first wait is `first`; all its other times are multiples of that.
    pub fn new(first: Duration) -> Self {
        Backoff { first, next: first }
    }

    /// The wait after a life of `lived`.
    pub fn after(&mut self, lived: Duration) -> Duration {
        if lived >= self.first * Self::RESET {
            self.next = self.first;
        }
        let wait = self.next;
        self.next = (self.next * 2).min(self.first * Self::MOST);
        wait
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written_the_same() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("on-failure:0".parse::<RestartPolicy>().unwrap(), RestartPolicy::OnFailure(None));
        for bad in ["", "yes", "on-failure:", "on-failure:x", "on-failure:-1", "always:3"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_failures_within_the_limit_are_tried_again() {
        let twice = RestartPolicy::OnFailure(Some(2));
        assert!(!twice.wants(0, 0) && twice.wants(1, 0) && twice.wants(137, 1) && !twice.wants(1, 2));
        assert!(!RestartPolicy::No.wants(1, 0) && RestartPolicy::Always.wants(0, 99));
    }

    #[test]
    fn the_wait_doubles_up_to_five_minutes_and_a_long_life_resets_it() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.after(Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.after(Duration::from_secs(600)).as_secs(), 10);
    }
}
