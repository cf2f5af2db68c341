//! What the operating system says of this host and its processes, read from `/proc`.
//!
//! A figure that cannot be read is zero, empty or absent rather than an error: a measurement should not fail because a
//! process has just ended or a system lays out `/proc` differently.

use std::fs;

use starling_node::clock;

use super::ClusterError;
pub(super) use crate::host::facts;
use crate::host::{available_mib, field_kib};
pub(super) use crate::host::{command_line, cores, date_time};

/// What a node takes resident, as it was measured.
const NODE_MIB: u64 = 44;
/// What this process keeps of one message at one node until the report is written.
const DELIVERY_BYTES: u64 = 128;

/// Whether the memory that there is will do for so many nodes, and for what is measured of so many messages at each.
///
/// # Errors
/// When it will not.
pub(super) fn has_room(nodes: usize, messages: u64) -> Result<(), ClusterError> {
    available_mib().map_or(Ok(()), |available_mib| has_room_in(available_mib, nodes as u64, messages))
}

fn has_room_in(available_mib: u64, nodes: u64, messages: u64) -> Result<(), ClusterError> {
    let deliveries_mib = nodes.saturating_mul(messages).saturating_mul(DELIVERY_BYTES) >> 20;
    let needed_mib = nodes.saturating_mul(NODE_MIB).saturating_add(deliveries_mib);
    if needed_mib <= available_mib {
        return Ok(());
    }
    Err(ClusterError::Options(format!(
        "{nodes} processes and {messages} messages need some {needed_mib} MiB of memory and {available_mib} MiB are free; run fewer, or \
         simulate them with `starling-testnet sim`"
    )))
}

/// Processor time of the whole host since its start, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HostTicks {
    busy: u64,
    idle: u64,
}

impl HostTicks {
    /// Reads the counters.
    pub(super) fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is already counted in user and nice.
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
        Self { busy: at(0) + at(1) + at(2) + at(5) + at(6) + at(7), idle: at(3) + at(4) }
    }

    /// The share of all processors' time since `earlier` that was spent working, from 0 to 1.
    pub(super) fn busy_fraction_since(self, earlier: Self) -> f64 {
        let busy = self.busy.saturating_sub(earlier.busy);
        let all = busy + self.idle.saturating_sub(earlier.idle);
        if all == 0 { 0.0 } else { crate::report::format::float(busy) / crate::report::format::float(all) }
    }
}

/// Processor time that a process has used, in microseconds, all its threads together; zero if it is gone.
pub(super) fn cpu_us(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    cpu_ticks(&stat).saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1)
}

/// User and system ticks of a line of `/proc/PID/stat`.
fn cpu_ticks(stat: &str) -> u64 {
    // The second field, the program's name in parentheses, may hold spaces and parentheses itself.
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0 };
    let at = |index: usize| fields.split_whitespace().nth(index).and_then(|field| field.parse::<u64>().ok());
    at(11).unwrap_or(0) + at(12).unwrap_or(0)
}

/// The most memory that a process has had resident, in KiB; zero if it is gone.
pub(super) fn rss_kib_max(pid: u32) -> u64 {
    field_kib(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), "VmHWM:")
}

/// Memory that a process has resident now, in KiB; zero if it is gone.
pub(super) fn rss_kib(pid: u32) -> u64 {
    field_kib(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), "VmRSS:")
}

/// File descriptors that a process has open; zero if it is gone.
pub(super) fn open_files(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

/// The monotonic clock that all processes of the host share, in microseconds.
pub(super) fn now_us() -> u64 {
    clock::now().as_micros()
}

/// Microseconds since 1970.
pub(super) fn unix_us() -> u64 {
    now_us().saturating_add_signed(clock::wall_offset_us())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_an_odd_program_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 700 33 99 99 20 0 1 0 5";
        assert_eq!(cpu_ticks(stat), 733);
        assert_eq!(cpu_ticks(""), 0);
    }

    #[test]
    fn what_would_not_fit_is_refused() {
        assert!(has_room_in(440, 10, 0).is_ok());
        let error = has_room_in(439, 10, 0).expect_err("too little");
        assert!(error.is_usage() && error.to_string().contains("440 MiB"), "{error}");
        assert!(has_room_in(450, 10, 1 << 20).is_err(), "what is measured counts too");
        assert!(has_room_in(u64::MAX - 1, u64::MAX, u64::MAX).is_err());
    }

    #[test]
    fn the_busy_share_leaves_waiting_for_disks_out() {
        let before = HostTicks::parse("cpu  100 0 100 1000 50 0 0 0 0 0\ncpu0 1 2 3");
        let after = HostTicks::parse("cpu  130 10 120 1030 60 0 0 0 7 7");
        assert!((after.busy_fraction_since(before) - 0.6).abs() < 1e-9);
        assert!(before.busy_fraction_since(before).abs() < 1e-9);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let pid = std::process::id();
        assert!(rss_kib_max(pid) > 500 && rss_kib(pid) > 500 && open_files(pid) >= 3);
        assert_eq!((rss_kib(u32::MAX), open_files(u32::MAX)), (0, 0), "no such process");
        let mut sum = 0_u64;
        while cpu_us(pid) == 0 {
            sum = sum.wrapping_add(1);
        }
        let facts = facts();
        assert!(facts.cores > 0 && facts.memory_mib > 100 && facts.system.starts_with("Linux"), "{facts:?}");
        assert_eq!(cpu_us(u32::MAX), 0, "no such process");
    }
}
