//! Where the time of a command went: rows that add up to the wall clock.

use std::time::{Duration, Instant};

/// One row of `--timings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What took the time.
    pub what: String,
    /// The time.
    pub took: Duration,
    /// Whether it ran beside others, inside the time of the row above that counts: then it is no part of the sum.
    pub beside: bool,
}

/// The rows of `--timings`.
#[derive(Debug)]
pub struct Timings {
    started: Instant,
    /// What is accounted for so far, measured from `started`.
    accounted: Duration,
    rows: Vec<Row>,
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
        self.add(what, now.saturating_sub(self.accounted));
        self.accounted = now;
    }

    /// As [`Self::row`], for steps that ran side by side: below it, what each of them took.
    pub(super) fn stage(&mut self, what: impl Into<String>, steps: impl IntoIterator<Item = (String, Duration)>) {
        self.row(what);
        self.rows.extend(steps.into_iter().map(|(what, took)| Row { what, took, beside: true }));
    }

    fn add(&mut self, what: impl Into<String>, took: Duration) {
        self.rows.push(Row { what: what.into(), took, beside: false });
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
        self.add("plan", planning);
        self.add("wait for locks", now.saturating_sub(self.accounted).saturating_sub(planning));
        self.accounted = now;
    }

    /// Notes that a race was lost and the plan is made again.
    pub fn retried(&mut self) {
        self.row("roll back, a race was lost");
    }

    /// The rows and the total, which is the sum of those that are not [`Row::beside`].
    pub fn finish(mut self) -> (Vec<Row>, Duration) {
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
        timings.stage("two side by side", [("fetch".to_owned(), Duration::from_secs(3)), ("unpack".to_owned(), Duration::from_secs(4))]);
        let (rows, total) = timings.finish();
        let wall = outer.elapsed();
        assert_eq!(rows.iter().filter(|row| !row.beside).map(|row| row.took).sum::<Duration>(), total);
        assert!(total <= wall);
        let names = ["plan", "wait for locks", "add veth", "two side by side", "fetch", "unpack", "finish"];
        assert_eq!(rows.iter().map(|row| row.what.as_str()).collect::<Vec<_>>(), names);
    }
}
