//! What is to be said of this host in a report. A figure that cannot be read is zero or empty rather than an error.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use starling_protocol::genesis::date;

use crate::report::manifest;

/// Processors that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The machine, for the manifest.
#[must_use]
pub fn facts() -> manifest::Host {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    manifest::Host {
        system: format!(
            "{} {} {}",
            line("/proc/sys/kernel/ostype"),
            line("/proc/sys/kernel/osrelease"),
            std::env::consts::ARCH
        ),
        processor: processor.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
        cores: cores(),
        memory_mib: field_kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:") / 1_024,
    }
}

/// Memory that programs could take, in MiB; none if the system does not say.
#[must_use]
pub fn available_mib() -> Option<u64> {
    let available = field_kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:") / 1_024;
    (available > 0).then_some(available)
}

/// The most memory that this process has had resident, in KiB.
#[must_use]
pub fn own_rss_kib_max() -> u64 {
    field_kib(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmHWM:")
}

/// Seconds for which this thread has worked; none if the system does not say.
#[must_use]
pub fn own_thread_s() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// A figure in KiB from a file of `Name: figure kB` lines.
pub(crate) fn field_kib(text: &str, name: &str) -> u64 {
    let field = text.lines().find_map(|line| line.strip_prefix(name));
    field.and_then(|field| field.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The command line of this process, for a report. What of it is no Unicode is shown as well as it can be.
#[must_use]
pub fn command_line() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// The present time in RFC 3339, UTC.
#[must_use]
pub fn date_time() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date::to_rfc3339(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
