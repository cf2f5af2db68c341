//! What is to be said of this host in a report. A figure that cannot be read is zero or empty rather than an error.

use std::fs;
use std::path::Path;
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

/// Memory that programs could take, in MiB, on the host and in the control groups (version 2) that this process is in, as containers and systemd make
/// them; none if the system does not say.
#[must_use]
pub fn available_mib() -> Option<u64> {
    let on_host = field_kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:") / 1_024;
    // What a system does not say is zero.
    let on_host = Some(on_host).filter(|available| *available > 0);
    let of_process = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let in_groups = available_in_groups_mib(Path::new("/sys/fs/cgroup"), &of_process);
    on_host.into_iter().chain(in_groups).min()
}

/// What the group of a process and those around it leave, by the tightest of them; none if there is no limit. `of_process` is `/proc/self/cgroup`.
///
/// See "Memory Interface Files" in the kernel's guide to control groups v2: what is `current` has the cache of files in it, which gives way. (`file` would be too
/// much: it has files in it that are in memory only.)
fn available_in_groups_mib(mounted: &Path, of_process: &str) -> Option<u64> {
    let group = Path::new(of_process.lines().find_map(|line| line.strip_prefix("0::/"))?);
    let left = |group: &Path| {
        let read = |file: &str| fs::read_to_string(mounted.join(group).join(file)).ok();
        let [max, current] = ["memory.max", "memory.current"].map(|file| read(file)?.trim().parse::<u64>().ok());
        let stat = read("memory.stat").unwrap_or_default();
        let field = |name| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let cached: u64 = ["inactive_file ", "active_file "].into_iter().filter_map(field).sum();
        Some(max?.saturating_sub(current?.saturating_sub(cached)) >> 20)
    };
    group.ancestors().filter_map(left).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_control_group_counts_and_its_cache_does_not() {
        let mounted = tempfile::tempdir().expect("a folder");
        let group = |path: &str, files: [(&str, &str); 3]| {
            let folder = mounted.path().join(path);
            fs::create_dir_all(&folder).expect("made");
            files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).expect("written"));
        };
        let mib = |mib: u64| format!("{}\n", mib << 20);
        let available = |line: &str| available_in_groups_mib(mounted.path(), line);
        assert_eq!(available("0::/outer/inner\n"), None, "there is no such group");
        group(
            "outer",
            [
                ("memory.max", &mib(100)),
                ("memory.current", &mib(90)),
                ("memory.stat", "anon 1\nfile 99999999\ninactive_file 31457280\nactive_file 10485760\n"),
            ],
        );
        group("outer/inner", [("memory.max", "max\n"), ("memory.current", &mib(80)), ("memory.stat", "")]);
        assert_eq!(available("9:name=systemd:/elsewhere\n0::/outer/inner\n"), Some(50));
        group("outer/inner", [("memory.max", &mib(85)), ("memory.current", &mib(80)), ("memory.stat", "")]);
        assert_eq!(available("0::/outer/inner\n"), Some(5));
        assert_eq!(available("0::/outer\n"), Some(50));
        assert_eq!(available("4:memory:/outer\n"), None, "version 1");
    }
}
