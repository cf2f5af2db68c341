//! `summary.json`, format 1: the figures of a run for programs.
//!
//! Times are in milliseconds, sizes in bytes unless the name says otherwise. A class without messages is `null`. The names,
//! their units and their meaning are listed in `docs/TESTNET.md`; a change of any of them is a new format.

use serde::Serialize;

use super::attackers::AttackerGroup;
use super::format::float;
use super::{Partition, Run, Simulation, Verdict};
use crate::measure::{ClassStatistics, Quantiles};

/// The summary of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    format: u32,
    kind: String,
    seed: u64,
    nodes: usize,
    profile: String,
    duration_s: f64,
    host: Host,
    classes: Classes,
    /// Bytes that all nodes wrote to their sockets from the start of the load to the end of the drain.
    socket_bytes: u64,
    /// Processor time of all nodes in that time over all deliveries; null without deliveries.
    cpu_us_per_delivery: Option<f64>,
    /// The most memory that any node had resident at any time.
    rss_mib_max: f64,
    /// Null if the mesh never was.
    ready_s: Option<f64>,
    /// Null where no manifest was run.
    verdict: Option<Verdict>,
    /// Null if there was none.
    partition: Option<Partition>,
    /// Only where nodes were attacked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attackers: Vec<AttackerGroup>,
    /// Only of simulations.
    #[serde(flatten)]
    simulation: Option<Simulation>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Host {
    cores: usize,
    cpu_busy_fraction: f64,
    saturated: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Classes {
    transaction: Option<Class>,
    block: Option<Class>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Class {
    published: usize,
    deliveries_expected: usize,
    deliveries: usize,
    coverage: f64,
    latency_ms: Option<LatencyMs>,
    bound_ms: Option<BoundMs>,
    copies_per_delivery: Option<f64>,
    frame_bytes_per_delivery: Option<f64>,
    payload_bytes: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct LatencyMs {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct BoundMs {
    p50: f64,
    p99: f64,
}

impl Summary {
    /// The summary of `run`.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let [transaction, block] = run.classes();
        let deliveries = [&transaction, &block].into_iter().flatten().map(|class| class.deliveries as u64).sum();
        let cpu_us: u64 = run.nodes.iter().map(|node| node.cpu_us).sum();
        let rss_kib_max = run.nodes.iter().map(|node| node.rss_kib_max).max().unwrap_or(0);
        Self {
            format: 1,
            kind: run.manifest.kind.clone(),
            seed: run.manifest.seed,
            nodes: run.manifest.network.nodes,
            profile: run.manifest.network.profile.clone(),
            duration_s: run.manifest.load.duration_s,
            host: Host {
                cores: run.host.cores,
                cpu_busy_fraction: run.host.cpu_busy_fraction,
                saturated: run.is_saturated(),
            },
            classes: Classes {
                transaction: transaction.map(|class| (&class).into()),
                block: block.map(|class| (&class).into()),
            },
            socket_bytes: run.nodes.iter().map(|node| node.activity.bytes.socket_out).sum(),
            cpu_us_per_delivery: (deliveries > 0).then(|| float(cpu_us) / float(deliveries)),
            rss_mib_max: float(rss_kib_max) / 1_024.0,
            ready_s: run.ready_s,
            verdict: run.verdict.clone(),
            partition: run.partition,
            attackers: run.attackers.clone(),
            simulation: run.simulation.clone().map(|simulation| Simulation {
                // A number by the format of the file, like all figures of a simulation.
                events_per_s: simulation.speed().unwrap_or(0.0),
                ..simulation
            }),
        }
    }

    /// Bytes that all nodes wrote to their sockets.
    #[must_use]
    pub fn socket_bytes(&self) -> u64 {
        self.socket_bytes
    }

    /// Processor time of all nodes over all deliveries, in microseconds.
    #[must_use]
    pub fn cpu_us_per_delivery(&self) -> Option<f64> {
        self.cpu_us_per_delivery
    }

    /// The most memory that any node had resident, in MiB.
    #[must_use]
    pub fn rss_mib_max(&self) -> f64 {
        self.rss_mib_max
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("numbers, text and nulls are always JSON");
        text.push('\n');
        text
    }
}

impl From<&ClassStatistics> for Class {
    fn from(statistics: &ClassStatistics) -> Self {
        let ms = |time_us: u64| float(time_us) / 1e3;
        let latency = Quantiles::of_sorted(&statistics.latency_us);
        let bound = Quantiles::of_sorted(&statistics.bound_us);
        Self {
            published: statistics.published,
            deliveries_expected: statistics.expected,
            deliveries: statistics.deliveries,
            coverage: statistics.coverage(),
            latency_ms: latency.map(|q| LatencyMs { p50: ms(q.p50), p90: ms(q.p90), p99: ms(q.p99), max: ms(q.max) }),
            bound_ms: bound.map(|q| BoundMs { p50: ms(q.p50), p99: ms(q.p99) }),
            copies_per_delivery: statistics.copies_per_delivery(),
            frame_bytes_per_delivery: statistics.frame_bytes_per_delivery(),
            payload_bytes: statistics.payload_bytes_mean(),
        }
    }
}
