//! The machine: disk, limits, ports, clock.

use super::{Finding, Patient};
use crate::cli::output::format;
use crate::cli::status::{FREE_BYTES_LITTLE, FREE_BYTES_MIN};
use crate::files;
use crate::storage::DataDir;
use rustix::process::{Resource, getrlimit};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// A disk that takes longer than this for a small synced write holds submissions up. A guess: a disk with moving parts takes
/// 10 ms to 20 ms.
const SYNC_SLOW: Duration = Duration::from_millis(100);

/// Synced writes that are timed.
const SYNC_TRIES: usize = 5;

/// Descriptors besides peers: RPC connections, database, log, listening sockets, the runtime, dials under way.
const DESCRIPTORS_BESIDES_PEERS: u64 = 256 + 64;

/// The name of the file that is written to the data directory and removed again.
const PROBE: &str = ".doctor-probe";

/// 2025-01-01T00:00:00Z, before this program was written: a clock that reads less was never set.
const WRITTEN_UNIX_S: u64 = 1_735_689_600;

pub(super) fn disk(patient: &Patient) -> Vec<Finding> {
    let datadir = &patient.datadir;
    if !datadir.is_dir() {
        return vec![Finding::fail(
            "disk",
            format!("there is no data directory {}", datadir.display()),
            format!("`starling init --genesis FILE --datadir {}` makes it", datadir.display()),
        )];
    }
    let mut findings = Vec::new();
    match rustix::fs::statvfs(datadir) {
        Ok(stat) => findings.push(space(stat.f_bavail.saturating_mul(stat.f_frsize), database_bytes(patient))),
        Err(error) => findings.push(Finding::failed("disk", format!("cannot ask for free space: {error}"))),
    }
    findings.push(match synced_writes(datadir) {
        Ok(longest) if longest > SYNC_SLOW => Finding::warn(
            "disk",
            format!("a small write took {} ms to reach the disk", longest.as_millis()),
            "use a faster disk, or find what else keeps this one busy: submissions wait for it",
        ),
        Ok(longest) => Finding::ok("disk", format!("writes reach the disk within {} ms", longest.as_millis().max(1))),
        Err(error) => Finding::fail(
            "disk",
            format!("cannot write to {}: {error}", datadir.display()),
            "make room, mount it writable, or give its owner's rights to the user that runs the node",
        ),
    });
    findings
}

fn database_bytes(patient: &Patient) -> u64 {
    std::fs::metadata(patient.store_file()).map_or(0, |metadata| metadata.len())
}

fn space(free_bytes: u64, database_bytes: u64) -> Finding {
    let what = format!("{} free, database {}", format::bytes(free_bytes), format::bytes(database_bytes));
    let remedy = "make room, or keep fewer blocks";
    match free_bytes {
        ..FREE_BYTES_MIN => Finding::fail("disk", what, remedy),
        FREE_BYTES_MIN..FREE_BYTES_LITTLE => Finding::warn("disk", what, remedy),
        _ => Finding::ok("disk", what),
    }
}

/// The longest of several small synced writes.
fn synced_writes(datadir: &Path) -> io::Result<Duration> {
    let path = datadir.join(PROBE);
    let write = || {
        let mut file = files::begin(&path, 0o600)?;
        let mut longest = Duration::ZERO;
        for _ in 0..SYNC_TRIES {
            let begun = Instant::now();
            file.write_all(&[0; 4_096])?;
            file.sync_data()?;
            longest = longest.max(begun.elapsed());
        }
        Ok(longest)
    };
    let result = write();
    // Nothing to remove if it could not be made.
    let _absent = std::fs::remove_file(&path);
    result
}

pub(super) fn file_limit(patient: &Patient) -> Vec<Finding> {
    let needed = patient.values.count_u64("network.max_peers").saturating_add(DESCRIPTORS_BESIDES_PEERS);
    // A running node may have another limit than this shell.
    let of_node = patient.addresses.as_ref().filter(|_| patient.locked).and_then(|addresses| limit_of(addresses.pid));
    let (whose, limit) = match of_node {
        Some(limit) => ("the node", limit),
        None => ("this shell", getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)),
    };
    vec![limit_finding(whose, limit, needed)]
}

fn limit_finding(whose: &str, limit: u64, needed: u64) -> Finding {
    if limit >= needed {
        return Finding::ok("limits", format!("{whose} may open {limit} files; {needed} are needed at most"));
    }
    Finding::fail(
        "limits",
        format!("{whose} may open {limit} files, and the node needs up to {needed}"),
        format!("`ulimit -n {needed}` before starting it, LimitNOFILE={needed} in its unit, or a lower --max-peers"),
    )
}

/// The limit of open files of a process, which Linux shows to its owner.
fn limit_of(pid: u32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

pub(super) fn ports(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut check = |name: &str, setting: &str, any: bool, bound: io::Result<()>| {
        findings.push(match bound {
            Ok(()) if any => Finding::ok("ports", format!("{name} takes any free port")),
            Ok(()) => Finding::ok("ports", format!("{name} is free")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::fail(
                "ports",
                format!("{name} is in use by another program"),
                format!("stop that, choose another port with {setting}, or give --instance N"),
            ),
            Err(error) => Finding::fail(
                "ports",
                format!("cannot listen on {name}: {error}"),
                format!("choose an address of this machine, and a port above 1023, with {setting}"),
            ),
        });
    };
    if patient.locked {
        let count = patient.addresses.as_ref().map_or(0, |addresses| addresses.listen.len() + 1);
        return vec![Finding::ok("ports", format!("the running node has its {count} addresses"))];
    }
    for text in patient.values.list("network.listen") {
        let Some((address, udp)) = text.parse().ok().as_ref().and_then(crate::config::socket) else { continue };
        let bound = if udp { UdpSocket::bind(address).map(drop) } else { TcpListener::bind(address).map(drop) };
        check(text, "--listen", address.port() == 0, bound);
    }
    let rpc: SocketAddr = patient.values.parsed("rpc.listen");
    check(&format!("RPC {rpc}"), "--rpc", rpc.port() == 0, TcpListener::bind(rpc).map(drop));
    findings
}

/// Whether the clock can be right. Without asking a server this is what can be known: it was set at all, nothing on the disk is
/// from the future, and something keeps it.
pub(super) fn clock(patient: &Patient) -> Vec<Finding> {
    let remedy = "set the clock, and let NTP keep it (`timedatectl set-ntp true`)";
    let now = SystemTime::now();
    let unix_s = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if unix_s < WRITTEN_UNIX_S {
        return vec![Finding::fail("clock", "the clock was never set", remedy)];
    }
    for path in [patient.store_file(), DataDir::genesis_file(&patient.datadir)] {
        let written = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        let ahead = written.ok().and_then(|written| written.duration_since(now).ok()).unwrap_or_default();
        if ahead > Duration::from_secs(60) {
            let by = format::duration(ahead.as_secs());
            return vec![Finding::fail("clock", format!("{} was written {by} from now", path.display()), remedy)];
        }
    }
    let mut findings = vec![match time_service() {
        Some(service) => Finding::ok("clock", format!("kept by {service}")),
        None => Finding::warn(
            "clock",
            "nothing was found that keeps the clock right",
            format!("{remedy}; in a container that is up to the host"),
        ),
    }];
    if let Some(genesis) = &patient.genesis {
        let begins_in_s = (genesis.parameters().start_time_ms / 1_000).saturating_sub(unix_s);
        if begins_in_s > 0 {
            findings.push(Finding::warn(
                "clock",
                format!("the network begins in {}", format::duration(begins_in_s)),
                "wait; if it should have begun already, set the clock",
            ));
        }
    }
    findings
}

/// The time service that runs on this machine.
fn time_service() -> Option<String> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some("systemd-timesyncd, which is synchronised".into());
    }
    let known = ["chronyd", "ntpd", "ntpsec", "openntpd", "ptp4l", "systemd-timesyn"];
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("comm")).ok()).find_map(|name| {
        let name = name.trim();
        known.contains(&name).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        assert_eq!(space(FREE_BYTES_LITTLE, 0).verdict, Verdict::Ok);
        assert_eq!(space(FREE_BYTES_LITTLE - 1, 0).verdict, Verdict::Warn);
        assert_eq!(space(FREE_BYTES_MIN - 1, 1 << 20).what, "64.0 MiB free, database 1.0 MiB");
        assert_eq!(space(FREE_BYTES_MIN - 1, 0).verdict, Verdict::Fail);
    }

    #[test]
    fn a_limit_that_is_too_low_is_told_with_the_number_that_is_needed() {
        assert_eq!(limit_finding("this shell", 416, 416).verdict, Verdict::Ok);
        let low = limit_finding("this shell", 256, 416);
        assert_eq!(low.verdict, Verdict::Fail);
        assert!(low.remedy.expect("a remedy").contains("ulimit -n 416"));
        assert_eq!(limit_of(std::process::id()), getrlimit(Resource::Nofile).current);
    }

    #[test]
    fn a_write_that_cannot_be_made_is_told_and_one_that_can_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        synced_writes(dir.path()).expect("written");
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0);
        synced_writes(&dir.path().join("absent")).expect_err("no such directory");
    }
}
