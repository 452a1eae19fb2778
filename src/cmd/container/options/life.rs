//! What happens beyond a container's first process: its end, its log, its health.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::units::{bytes, span};
use crate::fault::{Fault, Result};
use crate::record::life::{Health, Life, LogOrder, RestartPolicy, parse_signal};

/// The life of a container.
#[derive(Debug, Args)]
#[command(next_help_heading = "Life")]
pub struct LifeArgs {
    /// When it ends: no, on-failure or on-failure:TIMES, always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", hide_default_value = true)]
    pub restart: RestartPolicy,
    /// Signal that asks it to end, instead of the image's
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds from there to SIGKILL (10)
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// Size at which a log file is put away (10m)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub log_max_size: Option<u64>,
    /// How many log files there are at most (5)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub log_max_files: Option<u32>,
    /// Health: a command for the container's shell
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two checks (30s)
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub health_interval: Option<Duration>,
    /// Longest time of one check (30s)
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub health_timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy (3)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub health_retries: Option<u32>,
    /// Time at the start in which failures do not count (0s)
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub health_start_period: Option<Duration>,
    /// No health check, whatever the image says
    #[arg(long, conflicts_with = "health_cmd")]
    pub no_healthcheck: bool,
}

/// What Docker takes where nothing is said.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

impl LifeArgs {
    /// What is asked, with what the image says (its configuration as stored); the log is in `dir`.
    pub fn life(&self, image: &[u8], dir: &Path) -> Result<Life> {
        let mut log = LogOrder::new(dir.join("container.log"));
        log.max_bytes = self.log_max_size.unwrap_or(log.max_bytes);
        log.max_files = self.log_max_files.unwrap_or(log.max_files);
        if log.max_bytes < 4096 {
            return Err(Fault::invalid("--log-max-size is less than 4096 bytes").hint("a single record can be longer: give 1m or more"));
        }
        Ok(Life { restart: self.restart, stop_timeout: self.stop_timeout, stdin_once: false, log: Some(log), health: self.health(image) })
    }

    /// The signal that asks it to end; `image` is what the image says.
    pub fn stop_signal(&self, image: String) -> Result<String> {
        let text = self.stop_signal.clone().unwrap_or(image);
        if text.is_empty() {
            return Ok("SIGTERM".to_owned());
        }
        parse_signal(&text)?;
        Ok(text)
    }

    fn health(&self, image: &[u8]) -> Option<Health> {
        if self.no_healthcheck {
            return None;
        }
        let value: serde_json::Value = serde_json::from_slice(image).unwrap_or_default();
        let check = &value["config"]["Healthcheck"];
        let shell = |command: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()];
        let command = match &self.health_cmd {
            Some(command) if command == "none" => return None,
            Some(command) => shell(command),
            None => {
                let words: Vec<String> = serde_json::from_value(check["Test"].clone()).unwrap_or_default();
                match words.split_first() {
                    Some((kind, [command])) if kind == "CMD-SHELL" => shell(command),
                    Some((kind, words)) if kind == "CMD" && !words.is_empty() => words.to_vec(),
                    _ => return None,
                }
            }
        };
        // The image counts nanoseconds; 0 is not said.
        let said = |name: &str| check[name].as_u64().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
        let retries = check["Retries"].as_u64().and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
        Some(Health {
            command,
            interval: self.health_interval.or(said("Interval")).unwrap_or(INTERVAL),
            timeout: self.health_timeout.or(said("Timeout")).unwrap_or(TIMEOUT),
            retries: self.health_retries.or(retries).unwrap_or(RETRIES),
            start_period: self.health_start_period.or(said("StartPeriod")).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        life: LifeArgs,
    }

    #[test]
    fn the_health_check_of_the_image_can_be_changed_and_left_out() {
        let image = br#"{"config":{"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000,"Retries":0}}}"#;
        let health = |words: &[&str], image: &[u8]| {
            Line::try_parse_from([&["x"], words].concat()).unwrap().life.life(image, Path::new("/c")).unwrap().health
        };
        let of_image = health(&[], image).unwrap();
        assert_eq!((of_image.command[2].as_str(), of_image.interval.as_secs(), of_image.retries), ("true", 1, 3));
        assert_eq!(health(&["--health-timeout=5s"], image).unwrap().timeout.as_secs(), 5);
        assert_eq!(health(&["--health-cmd", "x y"], b"{}").unwrap().command, ["/bin/sh", "-c", "x y"]);
        for (words, image) in
            [(&["--no-healthcheck"][..], &image[..]), (&[], b"{}"), (&[], br#"{"config":{"Healthcheck":{"Test":["NONE"]}}}"#)]
        {
            assert_eq!(health(words, image), None);
        }
    }
}
