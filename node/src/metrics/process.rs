//! The process as the kernel sees it, looked at whenever the scraper asks.
//!
//! Names and meanings are those of Prometheus's own client libraries
//! ([standard process metrics](https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics)), so that
//! dashboards made for them fit. What the system does not tell is left out.

use crate::clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;

pub(super) fn register(registry: &mut Registry) {
    let now = i64::try_from(clock::now().as_micros()).unwrap_or(i64::MAX);
    let process = Process { start_time_seconds: clock::wall_offset_us().saturating_add(now) as f64 / 1e6 };
    registry.sub_registry_with_prefix("process").register_collector(Box::new(process));
}

#[derive(Debug)]
struct Process {
    start_time_seconds: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
        let cpu_encoder = encoder.encode_descriptor(
            "cpu",
            "Processor time, user and system",
            Some(&Unit::Seconds),
            cpu.metric_type(),
        )?;
        cpu.encode(cpu_encoder)?;
        let mut gauge = |name, help, unit: Option<Unit>, value: Option<f64>| match value {
            None => Ok(()),
            Some(value) => {
                let metric = ConstGauge::new(value);
                metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
            }
        };
        let (bytes, seconds) = (Some(Unit::Bytes), Some(Unit::Seconds));
        gauge("start_time", "Start of the process in Unix time", seconds, Some(self.start_time_seconds))?;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        gauge("resident_memory", "Memory in use", bytes.clone(), status_kib(&status, "VmRSS").map(|kib| kib * 1024.0))?;
        gauge("virtual_memory", "Address space", bytes, status_kib(&status, "VmSize").map(|kib| kib * 1024.0))?;
        gauge("threads", "Threads", None, status_kib(&status, "Threads"))?;
        gauge("open_fds", "Open file descriptors", None, open_files())?;
        let files_max = getrlimit(Resource::Nofile).current;
        gauge("max_fds", "File descriptors that may be open", None, files_max.map(|limit| limit as f64))
    }
}

/// A number of `/proc/self/status`; sizes are in KiB there.
fn status_kib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<f64> {
    // One of them is the directory that is being read.
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(entries as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen_as_it_is() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing from\n{text}")).parse().expect("a number")
        };
        assert!((1e6..1e11).contains(&value("process_resident_memory_bytes")), "{text}");
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") < value("process_max_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
    }
}
