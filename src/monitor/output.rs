//! From the streams to the log.

use crate::fault::Result;
use crate::record::life::{LogOrder, Splitter, StreamName};
use crate::sys::log_file::LogFile;
use crate::sys::proc;

/// The log of a container, with what has no newline yet.
#[derive(Debug)]
pub struct Output {
    log: Option<LogFile>,
    stdout: Splitter,
    stderr: Splitter,
    records: Vec<u8>,
}

impl Output {
    /// Opens the log that is ordered.
    pub fn open(order: Option<&LogOrder>) -> Result<Self> {
        let log = order.map(|order| LogFile::open(&order.path, order.max_bytes, order.max_files)).transpose()?;
        Ok(Output { log, stdout: Splitter::new(StreamName::Stdout), stderr: Splitter::new(StreamName::Stderr), records: Vec::new() })
    }

    /// Writes down what a stream printed.
    pub fn write(&mut self, stream: StreamName, bytes: &[u8]) {
        let Some(log) = &mut self.log else { return };
        let time = proc::now_rfc3339();
        self.records.clear();
        let splitter = if stream == StreamName::Stdout { &mut self.stdout } else { &mut self.stderr };
        splitter.push(bytes, &time, &mut self.records);
        log.append(&self.records, |lost| gap(lost, &time));
    }

    /// Writes down what has no newline: the streams have ended.
    pub fn finish(&mut self) {
        let Some(log) = &mut self.log else { return };
        let time = proc::now_rfc3339();
        self.records.clear();
        self.stdout.finish(&time, &mut self.records);
        self.stderr.finish(&time, &mut self.records);
        if !self.records.is_empty() {
            log.append(&self.records, |lost| gap(lost, &time));
        }
    }

    /// Begins a new file where the old one was moved away; false without a log.
    pub fn reopen(&mut self) -> Result<bool> {
        self.log.as_mut().map_or(Ok(false), |log| log.reopen().map(|()| true))
    }

    /// Sets other bounds; false without a log.
    pub fn limit(&mut self, max_bytes: u64, max_files: u32) -> bool {
        let Some(log) = &mut self.log else { return false };
        log.limit(max_bytes, max_files);
        true
    }
}

fn gap(lost: u64, time: &str) -> Vec<u8> {
    format!("{time} stderr F rkbox: {lost} bytes of the log could not be written and are lost\n").into_bytes()
}
