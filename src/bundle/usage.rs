//! What a control group has used: the kernel's texts in, numbers out, the same for both versions.

use serde::Serialize;

/// What a container has used since its start, and may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Processor time, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory that cannot be dropped at once (the working set), in bytes.
    pub memory_bytes: u64,
    /// All memory, page cache included, in bytes.
    pub memory_total_bytes: u64,
    /// The bound of memory, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// The bound of processes and threads.
    pub pids_limit: Option<u64>,
    /// Read from block devices, in bytes.
    pub block_read_bytes: u64,
    /// Written to block devices, in bytes.
    pub block_written_bytes: u64,
    /// Received by all interfaces but lo, in bytes.
    pub network_received_bytes: u64,
    /// Sent by all interfaces but lo, in bytes.
    pub network_sent_bytes: u64,
}

/// The texts of the files of a control group, by version 2's names and version 1's; an absent one is empty.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// `cpu.stat`.
    pub cpu_stat: String,
    /// `cpuacct.usage`.
    pub cpuacct_usage: String,
    /// `memory.current` or `memory.usage_in_bytes`.
    pub memory: String,
    /// `memory.stat`.
    pub memory_stat: String,
    /// `memory.max` or `memory.limit_in_bytes`.
    pub memory_limit: String,
    /// `pids.current`.
    pub pids: String,
    /// `pids.max`.
    pub pids_limit: String,
    /// `io.stat`.
    pub io_stat: String,
    /// `blkio.throttle.io_service_bytes_recursive`.
    pub blkio: String,
    /// `/proc/PID/net/dev`.
    pub net_dev: String,
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn row(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').and_then(number))
}

impl Usage {
    /// Reads the texts. *Source:* kernel cgroup-v1 and cgroup-v2 documents; the working set as cadvisor and the kubelet count it.
    pub fn read(texts: &Texts) -> Self {
        let total = number(&texts.memory).unwrap_or(0);
        // Version 1 counts the group alone under the plain names, its children too under `total_`.
        let inactive = row(&texts.memory_stat, "total_inactive_file").or_else(|| row(&texts.memory_stat, "inactive_file")).unwrap_or(0);
        let (block_read_bytes, block_written_bytes) = block_io(texts);
        let (network_received_bytes, network_sent_bytes) = network(&texts.net_dev);
        Usage {
            cpu_nanos: number(&texts.cpuacct_usage).or_else(|| row(&texts.cpu_stat, "usage_usec").map(|micros| micros * 1000)).unwrap_or(0),
            memory_bytes: total.saturating_sub(inactive),
            memory_total_bytes: total,
            // Without a bound version 1 tells the largest multiple of a page, version 2 `max`.
            memory_limit_bytes: number(&texts.memory_limit).filter(|bytes| *bytes < 1 << 62),
            pids: number(&texts.pids).unwrap_or(0),
            pids_limit: number(&texts.pids_limit),
            block_read_bytes,
            block_written_bytes,
            network_received_bytes,
            network_sent_bytes,
        }
    }
}

/// *Shape:* `8:0 rbytes=1 wbytes=2 rios=…` (version 2); `8:0 Read 1` and `8:0 Write 2` (version 1).
fn block_io(texts: &Texts) -> (u64, u64) {
    let sum = |key: &str| texts.io_stat.split_whitespace().filter_map(|word| word.strip_prefix(key).and_then(number)).sum::<u64>();
    let old = |kind: &str| {
        let of_kind = |line: &str| {
            let mut words = line.split_whitespace();
            (words.next().is_some_and(|device| device.contains(':')) && words.next() == Some(kind))
                .then(|| words.next().and_then(number))
                .flatten()
        };
        texts.blkio.lines().filter_map(of_kind).sum::<u64>()
    };
    (sum("rbytes=") + old("Read"), sum("wbytes=") + old("Write"))
}

/// *Shape:* two lines of headings, then `  eth0: RX-BYTES … (8 fields) TX-BYTES …`.
fn network(net_dev: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in net_dev.lines() {
        let Some((name, fields)) = line.split_once(':') else { continue };
        let fields: Vec<u64> = fields.split_whitespace().filter_map(number).collect();
        if name.trim() != "lo" && fields.len() >= 9 {
            sums.0 += fields[0];
            sums.1 += fields[8];
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_give_the_same_numbers() {
        let net_dev =
            "Inter-| Receive\n face |bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n"
                .to_owned();
        let text = str::to_owned;
        let new = Texts {
            cpu_stat: text("usage_usec 5\nuser_usec 3\n"),
            memory: text("1000\n"),
            memory_stat: text("anon 7\nfile 900\ninactive_file 400\n"),
            memory_limit: text("max\n"),
            pids: text("3\n"),
            pids_limit: text("max"),
            io_stat: text("8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n"),
            net_dev: net_dev.clone(),
            ..Texts::default()
        };
        let old = Texts {
            cpuacct_usage: text("5000\n"),
            memory: text("1000\n"),
            memory_stat: text("inactive_file 1\ntotal_inactive_file 400\n"),
            memory_limit: text("9223372036854771712\n"),
            pids: text("3\n"),
            pids_limit: text("max\n"),
            blkio: text("8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n"),
            net_dev,
            ..Texts::default()
        };
        let wanted = Usage {
            cpu_nanos: 5000,
            memory_bytes: 600,
            memory_total_bytes: 1000,
            pids: 3,
            block_read_bytes: 11,
            block_written_bytes: 22,
            network_received_bytes: 100,
            network_sent_bytes: 200,
            ..Usage::default()
        };
        assert_eq!((Usage::read(&new), Usage::read(&old)), (wanted.clone(), wanted));
        assert_eq!(Usage::read(&Texts::default()), Usage::default());
        assert_eq!(Usage::read(&Texts { memory_limit: text("64"), ..Texts::default() }).memory_limit_bytes, Some(64));
    }
}
