//! Manifests drawn from a seed, for trying what nobody has thought of.
//!
//! Each draw leaves out most of the options and sets the others at random ("swarm testing": Groce and others, 2012), because what
//! many options do at once hides what each of them does. All faults end before the load does; then nothing goes wrong for long
//! enough that everything must be well again: all nodes have the same head, and every transaction is everywhere.

use super::error::Step;
use super::keys::{Blocks, Fault, Links, Manifest, Publishers, Times, Topology, Who, Window, Workload};
use crate::wan::Stream;

/// When the first fault begins, in seconds.
const FAULTS_FROM_S: f64 = 8.0;
/// Until when the last one has ended.
const FAULTS_UNTIL_S: f64 = 24.0;
/// When the load ends.
const LOAD_UNTIL_S: f64 = 26.0;
/// How long nothing goes wrong: longer than machines put off to dial each other again after so long a time of failures.
const HEALED_S: f64 = 60.3;

impl Manifest {
    /// The manifest of a seed.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut draw = Draw(Stream::new(seed, "manifest"));
        let nodes = draw.range(6, 30);
        let mut fault = Vec::new();
        for kind in 0..KINDS {
            if draw.chance(30) {
                fault.push(draw.fault(kind, nodes));
            }
        }
        let mut manifest = Self {
            format: super::FORMAT,
            name: "random".into(),
            about: "drawn from the seed".into(),
            seed,
            nodes,
            encode: draw.chance(10),
            time: Times { warm_up_s: 6.0, load_s: LOAD_UNTIL_S - 6.0, drain_s: HEALED_S, ..Times::default() },
            topology: draw.topology(nodes),
            usual_topology: false,
            links: draw.links(),
            limits: super::Limits::default(),
            cpu: super::Cpu::default(),
            disk: super::Disk::default(),
            blocks: Blocks { producers: draw.range(1, nodes.min(6)), slot_s: f64::from(draw.range(1, 3)) },
            workload: vec![draw.workload()],
            fault,
            attack: Vec::new(),
        };
        // Two of them may contradict each other.
        while let Err(problem) = super::conflicts::check(&manifest) {
            let Some(Step::Index(number)) = problem.path.get(1) else { break };
            manifest.fault.remove(*number);
        }
        manifest
    }
}

/// How many kinds of faults are drawn from.
const KINDS: u32 = 9;

struct Draw(Stream);

impl Draw {
    /// A number from the first to the last.
    fn range(&mut self, first: u32, last: u32) -> u32 {
        first + u32::try_from(self.0.below(u64::from(last - first) + 1)).expect("below a u32")
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    fn fault(&mut self, kind: u32, nodes: u32) -> Fault {
        let at_s = FAULTS_FROM_S + f64::from(self.range(0, 80)) / 10.0;
        let for_s = (f64::from(self.range(5, 80)) / 10.0).min(FAULTS_UNTIL_S - at_s);
        let who = if self.chance(50) {
            Who::Percent(f64::from(self.range(5, 40)))
        } else {
            Who::Nodes(vec![self.range(0, nodes - 1)])
        };
        match kind {
            0 => Fault::Kill { at_s, who, for_s: Some(for_s) },
            1 => Fault::Restart { at_s, who, for_s },
            2 => Fault::Pause { at_s, who, for_s },
            3 => Fault::Partition { at_s, who, for_s: Some(for_s) },
            4 => Fault::Degrade {
                at_s,
                from: who,
                to: Who::All(true),
                latency_ms: f64::from(self.range(1, 400)),
                loss_percent: f64::from(self.range(0, 10)),
                for_s: Some(for_s),
            },
            5 => {
                let percent_per_min = f64::from(self.range(20, 200));
                Fault::Churn { at_s, for_s: for_s / 2.0, percent_per_min, down_s: for_s / 2.0 }
            }
            6 => Fault::Clock { at_s, who, skew_s: f64::from(self.range(0, 600)) / 1e3 - 0.3 },
            7 => Fault::SlowCpu { at_s, who, factor: f64::from(self.range(2, 100)), for_s: Some(for_s) },
            _ => Fault::SlowDisk { at_s, who, factor: f64::from(self.range(2, 300)), for_s: Some(for_s) },
        }
    }

    fn topology(&mut self, nodes: u32) -> Topology {
        let degree = self.range(4, 12).min(nodes - 1);
        match self.range(0, 3) {
            0 => Topology::Random { degree },
            1 => Topology::Regional { degree, near_percent: self.range(0, 60) },
            2 => Topology::SmallWorld { degree, moved_percent: f64::from(self.range(10, 60)) },
            _ => Topology::Discovered { bootnodes: self.range(1, 3), target_peers: degree },
        }
    }

    fn links(&mut self) -> Links {
        Links {
            profile: if self.chance(70) { "wan" } else { "loopback" }.into(),
            loss_percent: if self.chance(30) { f64::from(self.range(1, 50)) / 10.0 } else { 0.0 },
            uplink_mbit_per_s: self.chance(20).then(|| f64::from(self.range(5, 50))),
            downlink_mbit_per_s: self.chance(20).then(|| f64::from(self.range(5, 50))),
            window: self.chance(30).then(Window::default),
            dead_after_s: f64::from(self.range(2, 30)),
        }
    }

    fn workload(&mut self) -> Workload {
        let (bytes, publishers) = (self.range(0, 3_000), Publishers::Count(self.range(1, 20)));
        let (from_s, until_s) = (0.0, None);
        match self.range(0, 2) {
            0 => Workload::Constant { per_s: f64::from(self.range(1, 5)), bytes, publishers, from_s, until_s },
            1 => Workload::Poisson { per_s: f64::from(self.range(1, 5)), bytes, publishers, from_s, until_s },
            _ => {
                let (every_s, messages) = (f64::from(self.range(1, 6)), self.range(1, 10));
                Workload::Bursts { every_s, messages, bytes, publishers, from_s, until_s }
            }
        }
    }
}
