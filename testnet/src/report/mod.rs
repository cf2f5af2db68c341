//! Telling people and programs what a run measured.
//!
//! A [`Run`] holds all there is to tell; each part of this module tells it in one form:
//! [`terminal`] as tables, [`summary`] as JSON for programs, [`tables`] as CSV files of everything raw, [`manifest`] as
//! what it takes to do the run again, and [`html`] as a page with charts. [`write()`] makes the folder of a run complete, so
//! that it can be moved, archived and compared without the tool or a network.
//!
//! Nothing here knows how the messages travelled: a simulator makes the same report as the process launcher.

pub mod attackers;
pub mod attacks;
mod charts;
pub mod format;
pub mod html;
pub mod manifest;
mod plot;
pub mod scaling;
pub mod soak;
pub mod summary;
pub mod tables;
pub mod terminal;
mod verdict;

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::measure::{Activity, Class, ClassStatistics, Deliveries, Window};
use crate::wan::Bounds;

pub use manifest::Manifest;
pub use summary::Summary;
pub use verdict::{Partition, Verdict};

/// A host that was busier than this for the whole measurement slowed the nodes down.
pub const BUSY_FRACTION_MAX: f64 = 0.85;
/// A node whose event loop lagged more than this could not keep up, in microseconds.
pub const LAG_P99_US_MAX: u64 = 5_000;

/// Everything that a report tells of one run.
#[derive(Debug)]
pub struct Run {
    /// What was asked for and where it ran.
    pub manifest: Manifest,
    /// What became of every message.
    pub deliveries: Deliveries,
    /// The least delay between every two nodes.
    pub bounds: Bounds,
    /// When the load began and ended.
    pub window: Window,
    /// How busy the host was.
    pub host: HostLoad,
    /// What each node did, in the order of the manifest's nodes.
    pub nodes: Vec<NodeUsage>,
    /// From the first spawn until every node had held enough mesh links for one heartbeat; none if it never came to that.
    pub ready_s: Option<f64>,
    /// Submissions that a node refused, each with its reason.
    pub refused: Vec<String>,
    /// Anything else that a reader of the figures must know, in sentences.
    pub notes: Vec<String>,
    /// What became of attackers, where real nodes were attacked.
    pub attackers: Vec<attackers::AttackerGroup>,
    /// Messages of attackers that a node passed on although they are not valid.
    pub passed_on: usize,
    /// The verdict on a manifest, by which transactions may come late or in blocks; none where every delivery counts.
    pub verdict: Option<Verdict>,
    /// How the last partition ended; none if there was none.
    pub partition: Option<Partition>,
    /// What is to be said of a simulation; none where real nodes ran.
    pub simulation: Option<Simulation>,
}

/// What is to be said of a simulation beside what it measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Simulation {
    /// The hash of everything that happened: the same for the same manifest and seed.
    pub trace_hash: String,
    /// Inputs of machines that consumed a delivery, a verdict or a due timer.
    pub events: u64,
    /// How many of them were computed in a second; a report says nothing of it if that took less than [`COMPUTED_S_MIN`].
    pub events_per_s: f64,
    /// How long that took, in processor time of one thread.
    pub computed_s: f64,
    /// The most memory that this process had resident, the report not counted, in MiB.
    pub resident_mib_max: f64,
}

/// In less time than this nothing can be said of how fast it went.
pub const COMPUTED_S_MIN: f64 = 0.01;

impl Simulation {
    /// How many events were computed in a second, if it took long enough to say that.
    #[must_use]
    pub fn speed(&self) -> Option<f64> {
        (self.computed_s >= COMPUTED_S_MIN).then_some(self.events_per_s)
    }
}

/// How busy the host was between the start of the load and the end of the drain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostLoad {
    /// Processors that the run could use.
    pub cores: usize,
    /// The share of their time that was spent working for anyone, from 0 to 1.
    pub cpu_busy_fraction: f64,
}

/// What one node used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct NodeUsage {
    /// What its trace says.
    pub activity: Activity,
    /// Processor time from the start of the load to the end of the drain, in microseconds.
    pub cpu_us: u64,
    /// The most memory that was resident at any time, in KiB.
    pub rss_kib_max: u64,
    /// Whether the node was gone, or did not answer, when the measurement ended.
    pub lost: bool,
}

impl Run {
    /// The statistics of both classes; `None` for one without messages.
    #[must_use]
    pub fn classes(&self) -> [Option<ClassStatistics>; 2] {
        Class::ALL.map(|class| ClassStatistics::of(class, &self.deliveries, &self.bounds))
    }

    /// The worst node's event-loop lag, in microseconds.
    #[must_use]
    pub fn lag_p99_us(&self) -> Option<u64> {
        self.nodes.iter().filter_map(|node| node.activity.lag_p99_us).max()
    }

    /// Whether the host was too busy for the latencies to speak of the network alone.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.host.cpu_busy_fraction > BUSY_FRACTION_MAX
            || self.lag_p99_us().is_some_and(|lag_us| lag_us > LAG_P99_US_MAX)
    }

    /// What to say of the host if it was too busy.
    #[must_use]
    pub fn saturation(&self) -> Option<String> {
        let busy = Some(self.host.cpu_busy_fraction).filter(|busy| *busy > BUSY_FRACTION_MAX);
        let lag = self.lag_p99_us().filter(|lag_us| *lag_us > LAG_P99_US_MAX);
        let busy = busy.map(|busy| format!("{} busy", format::load(busy)));
        let lag =
            lag.map(|lag_us| format!("an event-loop lag of {} (p99 of the worst node)", format::milliseconds(lag_us)));
        let causes: Vec<String> = busy.into_iter().chain(lag).collect();
        (!causes.is_empty()).then(|| {
            format!(
                "The host was saturated: {}. The latencies include waiting for a processor and say little of the \
                 network; use fewer nodes, a lower rate or more cores.",
                causes.join(" and "),
            )
        })
    }

    /// When the mesh was ready, in words.
    #[must_use]
    pub fn ready(&self) -> String {
        let Some(ready_s) = self.ready_s else { return "never before the end".to_owned() };
        // The clock of a simulation begins with the run; that of processes has begun before.
        let load_s = format::float(self.window.load_start_us) / 1e6;
        if self.simulation.is_some() && ready_s > load_s {
            return format!("after {ready_s:.1} s, when the load had already begun at {load_s:.1} s");
        }
        format!("after {ready_s:.1} s")
    }

    /// Drops what is known of single messages, which is most of the memory of a run.
    pub fn forget_messages(&mut self) {
        self.deliveries = Deliveries::new(self.deliveries.nodes(), Vec::new(), 0, 0);
    }

    /// Whether every submitted message reached every node over the mesh in time, and nodes held against attackers.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let held = self.attackers.iter().all(attackers::AttackerGroup::hold) && self.passed_on == 0;
        self.refused.is_empty() && self.strange() == 0 && self.deliveries.missing().next().is_none() && held
    }

    /// Messages that nobody says to have published, unless attackers can have made them up.
    #[must_use]
    pub fn strange(&self) -> usize {
        if self.attackers.is_empty() { self.deliveries.without_origin() } else { 0 }
    }
}

/// A table with more rows than this is of no use to a spreadsheet and takes gigabytes; it is left out.
pub const DELIVERIES_ROWS_MAX: usize = 2_000_000;

/// Writes all files of a run but the nodes' own into the folder `dir`: `manifest.toml`, `summary.json`, `deliveries.csv` (up to
/// [`DELIVERIES_ROWS_MAX`] rows), `nodes.csv`, `report.html`, and where there is something to name, `missing.csv` and `refused.txt`.
///
/// # Errors
/// If a file cannot be written; the error names it.
pub fn write(run: &Run, dir: &Path) -> io::Result<()> {
    let mut files = vec![
        ("manifest.toml", run.manifest.to_toml()),
        ("summary.json", Summary::of(run).to_json()),
        ("nodes.csv", tables::nodes(run)),
        ("report.html", html::page(run)),
    ];
    if run.deliveries.messages().len().saturating_mul(run.deliveries.nodes()) <= DELIVERIES_ROWS_MAX {
        files.push(("deliveries.csv", tables::deliveries(run)));
    }
    if run.deliveries.missing().next().is_some() {
        files.push(("missing.csv", tables::missing(run)));
    }
    if !run.refused.is_empty() {
        files.push(("refused.txt", run.refused.join("\n") + "\n"));
    }
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(())
}
