//! What of a manifest real processes can do.
//!
//! Processes are given links by the nodes' own link emulation, and are started and stopped by signals: all of that needs no rights
//! that a user does not have. What would need them, and what only the simulator's model has, is refused before anything starts. What
//! only describes the model (`[cpu]`, `[disk]`, `encode`) is passed over: real processors and disks take what they take.

use crate::attack::processes::check_as_processes;

use super::check::of_attackers;
use super::error::Problem;
use super::error::Step::{Index, Key};
use super::keys::{Fault, Limits, Manifest};

/// More processes than this one host does not hold.
const PROCESSES_MAX: u32 = 1_000;
/// The most that can be added to a latency: what the emulation takes, less what a path takes by itself.
const ADDED_MS_MAX: f64 = 4_000.0;

/// Checks that real processes can do what a manifest asks for.
pub(super) fn check(manifest: &Manifest) -> Result<(), Problem> {
    if manifest.nodes > PROCESSES_MAX {
        let message =
            format!("at most {PROCESSES_MAX} processes can be run; simulate more with `starling-testnet sim`");
        return Err(Problem::new(&[Key("nodes")], message));
    }
    if manifest.links.window.is_some() {
        let message = "emulated links have no congestion windows; remove the key, or simulate the manifest with `starling-testnet sim`";
        return Err(Problem::new(&[Key("links"), Key("window")], message));
    }
    if manifest.links.downlink_mbit_per_s.is_some() {
        let message = "emulated links do not limit what a node receives; remove the key, or simulate the manifest with \
                       `starling-testnet sim`";
        return Err(Problem::new(&[Key("links"), Key("downlink_mbit_per_s")], message));
    }
    if manifest.limits != Limits::default() {
        let message = "processes take as many connections as nodes do by default; remove the section, or simulate the manifest with \
                       `starling-testnet sim`";
        return Err(Problem::new(&[Key("limits")], message));
    }
    for (number, fault) in manifest.fault.iter().enumerate() {
        check_fault(fault).map_err(|(key, message)| Problem::new(&[Key("fault"), Index(number), Key(key)], message))?;
    }
    let load_end_s = manifest.time.warm_up_s + manifest.time.load_s;
    check_as_processes(&manifest.attack, manifest.nodes as usize, load_end_s)
        .map_err(|(number, error)| of_attackers(&[Key("attack"), Index(number)], error.key(), &error))?;
    Ok(())
}

fn check_fault(fault: &Fault) -> Result<(), (&'static str, String)> {
    let impossible = |what: &str| {
        let message =
            format!("{what}, which takes root; remove the fault, or simulate the manifest with `starling-testnet sim`");
        Err(("kind", message))
    };
    match fault {
        Fault::Clock { .. } => impossible("a process cannot be given a clock of its own without changing the host's"),
        Fault::SlowCpu { .. } => impossible("a process is made slow by control groups"),
        Fault::SlowDisk { .. } => impossible("a disk is made slow by control groups"),
        Fault::Degrade { latency_ms, .. } if *latency_ms > ADDED_MS_MAX => Err((
            "latency_ms",
            format!(
                "emulated links can be made slower by at most {ADDED_MS_MAX} ms; give less, or simulate the manifest with `starling-testnet sim`"
            ),
        )),
        _ => Ok(()),
    }
}
