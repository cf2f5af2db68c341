//! Manifests drawn from a seed, for trying what nobody has thought of.
//!
//! Each draw leaves out most of the options and sets the others at random ("swarm testing": Groce and others, 2012), because what
//! many options do at once hides what each of them does. All faults end before the load does; then nothing goes wrong for long
//! enough that everything must be well again: all nodes have the same head, and every transaction is everywhere. Attackers stay to the
//! end, because nobody can wish them away.

use super::error::Step;
use super::keys::{Blocks, Fault, Links, Manifest, Publishers, Times, Topology, Who, Window, Workload};
use super::{Cpu, Disk, Limits};
use crate::attack::{Attackers, KINDS as ATTACKERS, Targets};
use crate::wan::Stream;

/// When the first fault begins, in seconds.
const FAULTS_FROM_S: f64 = 8.0;
/// Until when the last one has ended.
const FAULTS_UNTIL_S: f64 = 24.0;
/// When the load ends.
const LOAD_UNTIL_S: f64 = 26.0;
/// How long nothing goes wrong: longer than machines put off to dial each other again after so long a time of failures. It ends late in a slot, so that
/// two blocks of one producer for the last slot have become known to everybody.
const HEALED_S: f64 = 60.8;

impl Manifest {
    /// The manifest of a seed.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut draw = Draw(Stream::new(seed, "manifest"));
        // Streams of their own: a seed that once found something keeps its faults, and more beside them.
        let mut machine = Draw(Stream::new(seed, "manifest: machines"));
        let mut enemy = Draw(Stream::new(seed, "manifest: attackers"));
        let nodes = draw.range(6, 30);
        let mut fault = Vec::new();
        for kind in 0..KINDS {
            if draw.chance(30) {
                fault.push(draw.fault(kind, nodes));
            }
        }
        let (encode, topology) = (draw.chance(10), draw.topology(nodes));
        let degree = match topology {
            Topology::Discovered { target_peers, .. } => target_peers,
            Topology::Random { degree } | Topology::Regional { degree, .. } | Topology::SmallWorld { degree, .. } => {
                degree
            }
            Topology::File { .. } => nodes - 1,
        };
        let mut manifest = Self {
            format: super::FORMAT,
            name: "random".into(),
            about: "drawn from the seed".into(),
            seed,
            nodes,
            encode,
            time: Times { warm_up_s: 6.0, load_s: LOAD_UNTIL_S - 6.0, drain_s: HEALED_S, ..Times::default() },
            topology,
            usual_topology: false,
            links: draw.links(),
            limits: machine.limits(degree),
            cpu: machine.cpu(),
            disk: machine.disk(),
            blocks: Blocks { producers: draw.range(1, nodes.min(6)), slot_s: f64::from(draw.range(1, 3)) },
            workload: vec![draw.workload()],
            fault,
            attack: enemy.attack(nodes),
        };
        // Attackers send as fast as they like, and nothing in the model tells them to wait for a receiver that is slow.
        if manifest.attack.iter().any(|attackers| attackers.is_flood()) {
            manifest.links.downlink_mbit_per_s = None;
        }
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

    fn limits(&mut self, degree: u32) -> Limits {
        if !self.chance(20) {
            return Limits::default();
        }
        // What its honest links need, and from nothing to much for others.
        let connections_max = degree * 2 + self.range(1, 60);
        let inbound_max = self.range(degree, connections_max);
        Limits { connections_max, inbound_max, ..Limits::default() }
    }

    fn cpu(&mut self) -> Cpu {
        if !self.chance(20) {
            return Cpu::default();
        }
        let (rpc_us, byte_ns) = (f64::from(self.range(1, 150)), u64::from(self.range(0, 30)));
        Cpu { rpc_us, byte_ns, input_us: f64::from(self.range(1, 50)), signature_us: f64::from(self.range(10, 600)) }
    }

    fn disk(&mut self) -> Disk {
        if !self.chance(20) {
            return Disk::default();
        }
        Disk { latency_ms: f64::from(self.range(0, 50)), mbyte_per_s: f64::from(self.range(5, 500)) }
    }

    /// No attackers in half of the draws, and few kinds at a time in the others.
    fn attack(&mut self, nodes: u32) -> Vec<Attackers> {
        let kinds = if self.chance(50) { 0 } else { self.range(1, 3) };
        (0..kinds).map(|_| self.attackers(nodes)).collect()
    }

    fn attackers(&mut self, nodes: u32) -> Attackers {
        let kind = &ATTACKERS[self.0.index(ATTACKERS.len())];
        // Who floods takes time to simulate, and what is valid takes the time of honest nodes, however little it is worth.
        let has = |name: &str| kind.params.iter().any(|(known, _)| *known == name);
        let most = if has("per_s") || has("times_cap") { 3 } else { 2 * nodes };
        let is_valid = matches!(kind.name, "replay" | "rivals" | "ground");
        let mut attackers = Attackers::new(kind.name, self.range(1, most) as usize, self.range(1, nodes) as usize);
        attackers.at_s = f64::from(self.range(0, 240)) / 10.0;
        attackers.per_ip = if self.chance(30) { self.range(1, attackers.count) } else { 1 };
        if self.chance(30) {
            attackers.targets = Targets::Nodes(vec![self.range(0, nodes - 1)]);
        }
        for (name, usual) in kind.params {
            if !(self.chance(50) || is_valid) {
                continue;
            }
            let value = match *name {
                "drop" => f64::from(self.range(1, 10)) / 10.0,
                "topic" => f64::from(self.range(0, 1)),
                "victim" => f64::from(self.range(0, nodes - 1)),
                "lives" => f64::from(self.range(1, 6)),
                "per_s" if is_valid => f64::from(self.range(1, 10)),
                // From a tenth to twice of what is usual, and where that is at once, up to half a minute.
                _ if *usual == 0.0 => f64::from(self.range(1, 30)),
                // Before the run ends.
                "turn_s" | "age_s" => usual * f64::from(self.range(1, 20)) / 30.0,
                _ => usual * f64::from(self.range(1, 20)) / 10.0,
            };
            attackers.params.insert((*name).to_owned(), value);
        }
        attackers
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
