//! The simulator against reality: one manifest, simulated and run on processes, side by side.
//!
//! # What is compared
//! Both runs have the same nodes in the same places, the same links and the same messages at the same times from the same publishers
//! ([`super::scripted`]). What differs is chance in the machines (who grafts whom), jitter, and everything that the model leaves out. Of both the
//! latencies of all deliveries over the mesh are taken, and their quantiles put side by side.
//!
//! # What is demanded
//! That p50 and p99 of each class differ by no more than an allowance, of the processes' figure. A run of processes on a host that was
//! saturated says nothing, because its latencies contain the wait for a processor, and is not judged.
//!
//! The first message of a class is shown and not judged. With it all processes touch memory for the first time, the kernel's for sockets
//! included, at the same time; that is a matter of the host, which a virtual machine may have to wait for in addition, and not of what comes after.
//!
//! # Limits
//! Few messages make a p99 of few deliveries: a class is judged if it has at least 200 of them in both.

use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::plan::make_empty;
use super::scripted::{Played, ScriptOptions, play};
use super::{ClusterError, file_error};
use crate::cli::folder::keep_scenario;
use crate::manifest::Manifest;
use crate::measure::statistics::nearest_rank;
use crate::measure::{Class, ClassStatistics};
use crate::report::format::{float, milliseconds};
use crate::report::{self, Run};
use crate::sim::memory::fits;
use crate::sim::run::simulate;

/// Below this a p99 is a matter of single deliveries.
const DELIVERIES_MIN: usize = 200;
/// The quantiles that are shown, in percent.
const SHOWN: [usize; 8] = [1, 10, 25, 50, 75, 90, 99, 100];
/// The quantiles that are judged.
const JUDGED: [usize; 2] = [50, 99];

/// What to compare.
#[derive(Debug, Clone)]
pub struct RealityOptions {
    /// Manifests, each with the folder from which its paths count.
    pub manifests: Vec<(Manifest, PathBuf)>,
    /// By how much the simulator may be off, in percent of the processes' figure.
    pub within_percent: f64,
    /// The folder for all results; made if absent.
    pub out: PathBuf,
    /// Whether to leave the nodes' data directories.
    pub keep: bool,
    /// The command line, for the reports.
    pub command: Vec<String>,
}

/// One class of one manifest, side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// The manifest.
    pub manifest: String,
    /// The class of messages.
    pub class: &'static str,
    /// Whether the host of the processes was saturated.
    pub saturated: bool,
    /// The share of the host's processor time that was spent working.
    pub cpu_busy_fraction: f64,
    /// Deliveries in the simulation, and among the processes.
    pub deliveries: [usize; 2],
    /// Copies for each delivery, in the same order.
    pub copies_per_delivery: [Option<f64>; 2],
    /// Quantiles of the latency in microseconds, in the same order, each with its percentage.
    pub latency_us: Vec<(usize, u64, u64)>,
    /// The median latency of the first message, which is in none of the other figures, in the same order.
    pub first_us: [Option<u64>; 2],
}

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Reality {
    /// All classes of all manifests.
    pub sides: Vec<Side>,
    /// What is further off than allowed, or wrong in one of the runs.
    pub findings: Vec<String>,
}

/// Simulates each manifest, runs it on processes, and compares.
///
/// # Errors
/// If the folder is not empty, a run cannot be made, or its folder not be written.
pub async fn reality(options: &RealityOptions) -> Result<Reality, ClusterError> {
    let mut reality = Reality::default();
    for (manifest, base) in &options.manifests {
        fits(manifest, base, 1)?;
    }
    make_empty(&options.out)?;
    for (manifest, base) in &options.manifests {
        let dir = options.out.join(&manifest.name);
        make_empty(&dir)?;
        let simulated = simulated(manifest, base, &dir.join("simulated"))?;
        reality.findings.extend(simulated.findings.iter().map(|what| format!("{}, simulated: {what}", manifest.name)));
        let played = play(&ScriptOptions {
            manifest: manifest.clone(),
            base: base.clone(),
            out: dir.join("processes"),
            keep: options.keep,
            node_bin: None,
            node_args: Vec::new(),
            command: options.command.clone(),
        })
        .await?;
        reality.findings.extend(played.findings.iter().map(|what| format!("{}, processes: {what}", manifest.name)));
        for class in Class::ALL {
            let Some(side) = Side::of(&manifest.name, class, &simulated.run, &played.run) else { continue };
            say!("{}", side.table());
            reality.findings.extend(side.findings(options.within_percent));
            reality.sides.push(side);
        }
        reality.findings.extend(unjudged(&manifest.name, &reality.sides));
    }
    let path = options.out.join("reality.json");
    let text = serde_json::to_string_pretty(&reality.sides).expect("figures and names are always JSON");
    std::fs::write(&path, text + "\n").map_err(file_error("write", path))?;
    Ok(reality)
}

/// That there was too little of a manifest to judge.
fn unjudged(manifest: &str, sides: &[Side]) -> Option<String> {
    sides.iter().all(|side| side.manifest != manifest).then(|| {
        format!(
            "{manifest}: neither transactions nor blocks came to {DELIVERIES_MIN} deliveries in both runs, which are too few to judge; \
             give it more messages or nodes"
        )
    })
}

fn simulated(manifest: &Manifest, base: &Path, out: &Path) -> Result<Played, ClusterError> {
    make_empty(out)?;
    let simulated = simulate(manifest, base, false, |_| {})?;
    keep_scenario(out, manifest, base).map_err(|error| ClusterError::Lost(error.to_string()))?;
    report::write(&simulated.run, out).map_err(file_error("complete", out))?;
    Ok(Played { run: simulated.run, findings: simulated.findings })
}

impl Side {
    /// None if one of the runs has too few deliveries of the class.
    fn of(manifest: &str, class: Class, simulated: &Run, processes: &Run) -> Option<Self> {
        let of = |run: &Run| ClassStatistics::of(class, &run.deliveries.without_first(class), &run.bounds);
        let both = [of(simulated)?, of(processes)?];
        if both.iter().any(|statistics| statistics.latency_us.len() < DELIVERIES_MIN) {
            return None;
        }
        let quantile = |number: usize| {
            let [simulated, processes] =
                [0, 1].map(|at| nearest_rank(&both[at].latency_us, number).expect("there are deliveries"));
            (number, simulated, processes)
        };
        Some(Self {
            manifest: manifest.to_owned(),
            class: match class {
                Class::Transaction => "transactions",
                Class::Block => "blocks",
            },
            saturated: processes.is_saturated(),
            cpu_busy_fraction: processes.host.cpu_busy_fraction,
            deliveries: [0, 1].map(|at| both[at].latency_us.len()),
            copies_per_delivery: [0, 1].map(|at| both[at].copies_per_delivery()),
            latency_us: SHOWN.map(quantile).to_vec(),
            first_us: [simulated, processes].map(|run| first_us(run, class)),
        })
    }

    /// By how much the simulator is off at each quantile, in percent of the processes' figure.
    fn off(&self) -> impl Iterator<Item = (usize, f64)> {
        self.latency_us.iter().map(|(number, simulated, processes)| {
            (*number, (float(*simulated) / float((*processes).max(1)) - 1.0) * 100.0)
        })
    }

    fn findings(&self, within_percent: f64) -> Vec<String> {
        let Self { manifest, class, .. } = self;
        if self.saturated {
            let busy = self.cpu_busy_fraction * 100.0;
            return vec![format!(
                "{manifest}: the host was saturated ({busy:.0} % busy), so the {class} of the processes say nothing; try an idle host, or \
                 fewer messages"
            )];
        }
        let judged = self.off().filter(|(number, off)| JUDGED.contains(number) && off.abs() > within_percent);
        judged
            .map(|(number, off)| {
                format!("{manifest}: p{number} of simulated {class} is {off:+.1} % off, more than {within_percent} %")
            })
            .collect()
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header([&*format!("{}, {}", self.manifest, self.class), "simulated", "processes", "off"]);
        for ((number, simulated, processes), (_, off)) in self.latency_us.iter().zip(self.off()) {
            let label = if *number == 100 { "latency max".to_owned() } else { format!("latency p{number}") };
            table.add_row([label, milliseconds(*simulated), milliseconds(*processes), format!("{off:+.1} %")]);
        }
        let [simulated, processes] = self.copies_per_delivery.map(|copies| copies.unwrap_or(0.0));
        table.add_row([
            "copies per delivery".into(),
            format!("{simulated:.2}"),
            format!("{processes:.2}"),
            String::new(),
        ]);
        let [simulated, processes] = self.deliveries;
        table.add_row(["deliveries".into(), simulated.to_string(), processes.to_string(), String::new()]);
        let [simulated, processes] = self.first_us.map(|first_us| first_us.map_or("none".into(), milliseconds));
        table.add_row(["first message, p50".into(), simulated, processes, "not judged".into()]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{table}\nhost {:.0} % busy", self.cpu_busy_fraction * 100.0)
    }
}

/// After how long half of those who got the first message of a class had it.
fn first_us(run: &Run, class: Class) -> Option<u64> {
    let first = run.deliveries.of_class(class).next()?;
    let arrivals = run.deliveries.arrivals(first);
    let mut latency_us: Vec<u64> = arrivals.map(|(_, arrival)| arrival.t_us.saturating_sub(first.t0_us)).collect();
    latency_us.sort_unstable();
    nearest_rank(&latency_us, 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(p50_us: [u64; 2], saturated: bool) -> Side {
        Side {
            manifest: "m".into(),
            class: "transactions",
            saturated,
            cpu_busy_fraction: 0.9,
            deliveries: [500, 500],
            copies_per_delivery: [None, None],
            latency_us: vec![(50, p50_us[0], p50_us[1]), (90, 1, 1_000), (99, 2_000, 2_000)],
            first_us: [Some(1_000), Some(9_000)],
        }
    }

    #[test]
    fn a_folder_in_use_is_refused_before_anything_is_simulated() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("precious"), "").expect("written");
        let manifest = Manifest::parse("format = 1\nnodes = 2\n", "two").expect("a manifest");
        let error = simulated(&manifest, Path::new(""), dir.path()).map(drop).expect_err("not empty");
        assert!(matches!(error, ClusterError::OutNotEmpty(_)), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_manifest_of_which_nothing_could_be_judged_is_found() {
        let sides = [side([1_000, 1_000], false)];
        assert_eq!(unjudged("m", &sides), None);
        let finding = unjudged("other", &sides).expect("nothing of it was judged");
        assert!(finding.contains("other: ") && finding.contains("200 deliveries"), "{finding}");
    }

    #[test]
    fn what_is_further_off_than_allowed_is_found() {
        assert!(side([1_149, 1_000], false).findings(15.0).is_empty(), "p90 is shown and not judged");
        let finding = side([840, 1_000], false).findings(15.0).join("\n");
        assert!(finding.contains("p50 of simulated transactions is -16.0 % off"), "{finding}");
        let saturated = side([1_000, 1_000], true).findings(15.0).join("\n");
        assert!(saturated.contains("saturated (90 % busy)"), "{saturated}");
    }
}
