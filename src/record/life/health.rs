//! Health checks: what is run, how often, and what came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a container is asked whether it is well. *Source:* Docker's HEALTHCHECK; times in nanoseconds as there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is run in it: words, or one text for `/bin/sh -c`.
    pub command: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many failures in a row make it unhealthy.
    pub retries: u32,
    /// How long after the start a failure does not count.
    pub start_period: Duration,
}

/// What the checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// None has passed yet, and not enough have failed.
    #[default]
    Starting,
    /// The last one passed.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

impl HealthState {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            HealthState::Starting => "starting",
            HealthState::Healthy => "healthy",
            HealthState::Unhealthy => "unhealthy",
        }
    }
}

/// What one check answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When it began.
    pub at: String,
    /// Its exit code; 0 is well.
    pub exit_code: u8,
    /// The start of what it printed.
    #[serde(default)]
    pub output: String,
}

/// The file `health.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// What the checks say.
    pub state: HealthState,
    /// Failures in a row.
    pub failing: u32,
    /// The last check.
    pub last: Option<Outcome>,
}

impl HealthStatus {
    /// Takes one outcome in, `age` after the start; answers whether the state changed.
    pub fn note(&mut self, outcome: Outcome, health: &Health, age: Duration) -> bool {
        let before = self.state;
        if outcome.exit_code == 0 {
            self.failing = 0;
            self.state = HealthState::Healthy;
        } else if self.state != HealthState::Starting || age >= health.start_period {
            self.failing += 1;
            if self.failing >= health.retries {
                self.state = HealthState::Unhealthy;
            }
        }
        self.last = Some(outcome);
        self.state != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_only_after_the_start_period_and_in_a_row() {
        let second = Duration::from_secs(1);
        let health = Health { command: Vec::new(), interval: second, timeout: second, retries: 2, start_period: second * 10 };
        let outcome = |exit_code| Outcome { at: String::new(), exit_code, output: String::new() };
        let mut status = HealthStatus::default();
        assert!(!status.note(outcome(1), &health, second) && !status.note(outcome(1), &health, second));
        assert_eq!((status.state, status.failing), (HealthState::Starting, 0));
        assert!(status.note(outcome(0), &health, second));
        assert!(!status.note(outcome(1), &health, second));
        assert!(status.note(outcome(1), &health, second));
        assert_eq!(status.state, HealthState::Unhealthy);
        assert!(status.note(outcome(0), &health, second) && status.failing == 0);
    }
}
