//! Where the time of a command went: rows that add up to the wall clock.

use std::time::{Duration, Instant};

/// The rows of `--timings`.
#[derive(Debug)]
pub struct Timings {
    started: Instant,
    /// What is accounted for so far, measured from `started`.
    accounted: Duration,
    rows: Vec<(String, Duration)>,
    waits: Duration,
}

impl Timings {
    /// Starts the clock.
    pub fn start() -> Self {
        Timings { started: Instant::now(), accounted: Duration::ZERO, rows: Vec::new(), waits: Duration::ZERO }
    }

    /// Gives everything since the last row to `what`.
    pub fn row(&mut self, what: impl Into<String>) {
        let now = self.started.elapsed();
        self.rows.push((what.into(), now.saturating_sub(self.accounted)));
        self.accounted = now;
    }

    /// Notes that a lock was waited for while planning.
    pub fn waited(&mut self, wait: Duration) {
        self.waits += wait;
    }

    /// Ends the planning: its time, with the lock waits in a row of their own.
    pub fn planned(&mut self) {
        let waits = std::mem::take(&mut self.waits);
        let now = self.started.elapsed();
        let planning = now.saturating_sub(self.accounted).saturating_sub(waits);
        self.rows.push(("plan".to_owned(), planning));
        self.rows.push(("wait for locks".to_owned(), now.saturating_sub(self.accounted).saturating_sub(planning)));
        self.accounted = now;
    }

    /// Notes that a race was lost and the plan is made again.
    pub fn retried(&mut self) {
        self.row("roll back, a race was lost");
    }

    /// The rows and the total, which is their sum.
    pub fn finish(mut self) -> (Vec<(String, Duration)>, Duration) {
        self.row("finish");
        (self.rows, self.accounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_add_up_to_the_wall_clock() {
        let outer = Instant::now();
        let mut timings = Timings::start();
        timings.waited(Duration::from_nanos(1));
        timings.planned();
        timings.row("add veth");
        let (rows, total) = timings.finish();
        let wall = outer.elapsed();
        assert_eq!(rows.iter().map(|(_, took)| *took).sum::<Duration>(), total);
        assert!(total <= wall);
        assert_eq!(rows.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["plan", "wait for locks", "add veth", "finish"]);
    }
}
