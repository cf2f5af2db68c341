//! Every attack with what is demanded.
//!
//! # The baseline
//! The published one: honest nodes that dial 20 others each, a tenth of them publishing 120 messages of 2 KiB a second in all, delays of
//! 25 ms with a jitter of a tenth, no limit on bandwidth, 30 s of warm-up and then 3 min of load. Transactions expire after half a minute, so that
//! pools stay small without blocks.
//!
//! # Two scales
//! The full table has the published numbers of nodes and attackers. The quick one has the same ratios and degrees with fewer nodes, messages and
//! seconds, and where a latency is demanded in milliseconds, it demands the same multiple of the baseline of its own size: a smaller
//! network is faster.

use super::engines;
use super::experiment::{Experiment, Outcome};
use super::{Attackers, Targets};
use crate::sim::{Engine, Pace, Publishers, Scenario, Wiring, Workload};
use crate::wan::Profile;
use starling_protocol::time::{Duration, Time};

/// The network of the published evaluation.
const PUBLISHED: &str = include_str!("../../profiles/published.toml");
/// What the baseline may take at the 99th percentile.
const BASELINE_P99_MS: f64 = 130.0;

/// Heartbeats of the published engine, in which some demands are written, last a second; ours are shorter, which makes the demand harder.
const HEARTBEAT_S: f64 = 0.7;

/// How large a table is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Honest nodes. The published number is 1000.
    pub nodes: usize,
    /// Messages in a thousand seconds. The published number is 120,000.
    pub messages_per_ks: u64,
    /// Seconds of warm-up.
    pub warm_up_s: u64,
    /// Seconds of load.
    pub load_s: u64,
    /// Seconds from the start until attackers come that do not come at once.
    pub attack_s: u64,
    /// Seconds from the start until attackers turn that behave at first.
    pub turn_s: u64,
    /// Seconds of load when attackers turn late.
    pub long_load_s: u64,
    /// Seconds for which honest nodes come later than attackers, in the two cases of the attack called dawn.
    pub late_s: [u64; 2],
    /// Whether milliseconds are demanded as multiples of the baseline.
    pub relative: bool,
}

impl Scale {
    /// The published one.
    pub const FULL: Self = Self {
        nodes: 1_000,
        messages_per_ks: 120_000,
        warm_up_s: 30,
        load_s: 180,
        attack_s: 60,
        turn_s: 120,
        long_load_s: 270,
        late_s: [10, 120],
        relative: false,
    };
    /// Fewer nodes and messages for less long, for continuous integration.
    pub const QUICK: Self = Self {
        nodes: 120,
        messages_per_ks: 20_000,
        warm_up_s: 8,
        load_s: 40,
        attack_s: 16,
        turn_s: 20,
        long_load_s: 52,
        late_s: [10, 20],
        relative: true,
    };

    /// So many for each honest node.
    fn per_node(&self, ratio: f64) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
        let count = (self.nodes as f64 * ratio).round() as usize;
        count
    }

    /// The published baseline.
    #[must_use]
    pub fn baseline(&self, seed: u64) -> Scenario {
        Scenario {
            profile: Profile::parse(PUBLISHED).expect("the profile is checked by a test"),
            wiring: Wiring::Random { degree: 40 },
            workloads: vec![Workload {
                pace: Pace::Constant { messages_per_ks: self.messages_per_ks },
                payload_bytes: 2 << 10,
                publishers: Publishers::Spread(self.nodes / 10),
                from: Duration::ZERO,
                until: None,
            }],
            warm_up: Duration::from_secs(self.warm_up_s),
            duration: Duration::from_secs(self.load_s),
            drain: Duration::from_secs(10),
            producers: 0,
            slot: Duration::from_millis(250),
            ..Scenario::scale(self.nodes, seed)
        }
    }

    /// The baseline under attack from then on.
    fn attacked(&self, seed: u64, from_s: u64, attackers: Vec<Attackers>) -> Experiment {
        let turns = Time::from_secs(from_s);
        Experiment { scenario: self.baseline(seed), attackers, turns, victim: None }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As `--only` names it.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// What is demanded of every case.
    pub demands: &'static [Demand],
    /// What is tried, at this scale and with this seed.
    cases: fn(&Scale, u64) -> Vec<Case>,
    /// Weaker engines, and what has to become of them.
    pub controls: &'static [(Engine, Fate)],
}

/// One thing that a row tries.
#[derive(Clone, Debug)]
pub struct Case {
    /// What sets it apart from the row's others; empty if there are none.
    pub label: &'static str,
    /// What is tried.
    pub experiment: Experiment,
}

impl Row {
    /// What is tried, at this scale and with this seed.
    #[must_use]
    pub fn cases(&self, scale: &Scale, seed: u64) -> Vec<Case> {
        (self.cases)(scale, seed)
    }
}

/// What has to become of a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It loses messages, or else the attack is too weak.
    Loses,
    /// It delivers all, at 30 copies and more.
    DeliversAtGreatCost,
}

impl Fate {
    /// Whether it is what became of the control.
    #[must_use]
    pub fn holds(self, outcome: &Outcome) -> bool {
        match self {
            Self::Loses => outcome.delivered < outcome.expected,
            Self::DeliversAtGreatCost => outcome.delivered == outcome.expected && outcome.copies >= 30.0,
        }
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Loses => "loses messages",
            Self::DeliversAtGreatCost => "delivers all at 30 copies and more",
        }
    }
}

/// What is demanded of an outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// Every message reaches every node.
    Everything,
    /// The 99th percentile of latency is at most so many milliseconds.
    P99Ms(f64),
    /// The latency is at most so many milliseconds.
    MaxMs(f64),
    /// The latency is at most so many milliseconds, at any scale: what counts is a heartbeat, not the number of hops.
    HardMaxMs(f64),
    /// The 99th percentile of latency is at most so many times that of the baseline.
    P99Times(f64),
    /// Copies for each delivery are at most so many times the mean degree of the mesh but one.
    CopiesTimesDegree(f64),
    /// The victim keeps so many mesh links to honest nodes.
    VictimLinks(usize),
    /// Four of five mesh links are honest after so many heartbeats.
    HealedBeats(f64),
    /// No attacker keeps a place in a mesh of transactions for longer than so many seconds.
    OutWithinS(f64),
    /// The same of blocks.
    OutOfBlocksWithinS(f64),
    /// At most so many peers of one address are in a mesh.
    PerIp(usize),
}

/// What was found of a demand.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What is demanded, with the numbers of this scale.
    pub demanded: String,
    /// What was measured.
    pub measured: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was measured as a part of what is allowed: above one it does not hold.
    pub strain: f64,
}

impl Demand {
    /// Holds an outcome against it, given the baseline of the same scale and seed.
    #[must_use]
    pub fn judge(self, outcome: &Outcome, baseline: &Outcome, scale: &Scale) -> Finding {
        let baseline_ms = baseline.p99_us as f64 / 1e3;
        let (p99_ms, max_ms) = (outcome.p99_us as f64 / 1e3, outcome.max_us as f64 / 1e3);
        let scaled = |limit_ms: f64| {
            if scale.relative { limit_ms / BASELINE_P99_MS * baseline_ms.max(1.0) } else { limit_ms }
        };
        match self {
            Self::Everything => {
                let missing = outcome.expected - outcome.delivered;
                let share = format!("{:.4} %", outcome.coverage() * 100.0);
                let measured = if missing == 0 { "100 %".into() } else { format!("{share} ({missing} missing)") };
                let holds = missing == 0 && outcome.unpublished == 0 && outcome.published > 0;
                Finding { demanded: "100 %".into(), measured, holds, strain: 1.0 + 1.0 - outcome.coverage() }
            }
            Self::P99Ms(limit_ms) => at_most("p99", "ms", p99_ms, scaled(limit_ms)),
            Self::MaxMs(limit_ms) => at_most("max", "ms", max_ms, scaled(limit_ms)),
            Self::HardMaxMs(limit_ms) => at_most("max", "ms", max_ms, limit_ms),
            Self::P99Times(times) => at_most("p99", "ms", p99_ms, times * baseline_ms),
            Self::CopiesTimesDegree(times) => at_most("copies", "", outcome.copies, times * (outcome.degree - 1.0)),
            Self::VictimLinks(least) => {
                let found = outcome.victim_links.unwrap_or(0);
                let demanded = format!("honest links of the victim >= {least}");
                let strain = least as f64 / found.max(1) as f64;
                Finding { demanded, measured: found.to_string(), holds: found >= least, strain }
            }
            Self::HealedBeats(beats) => match outcome.healed_s {
                Some(healed_s) => at_most("80 % honest after", "s", healed_s, beats * HEARTBEAT_S),
                None => Finding {
                    measured: "never".into(),
                    ..at_most("80 % honest after", "s", f64::INFINITY, beats * HEARTBEAT_S)
                },
            },
            Self::OutWithinS(limit_s) => at_most("longest place in a mesh", "s", outcome.clung_s, limit_s),
            Self::OutOfBlocksWithinS(limit_s) => {
                at_most("longest place in a mesh of blocks", "s", outcome.clung_blocks_s, limit_s)
            }
            Self::PerIp(most) => {
                let finding = at_most("mesh peers of an address", "", outcome.per_ip as f64, most as f64);
                Finding { measured: outcome.per_ip.to_string(), ..finding }
            }
        }
    }
}

fn at_most(what: &str, unit: &str, found: f64, limit: f64) -> Finding {
    let digits = if limit < 20.0 { 2 } else { 0 };
    let show = |value: f64| format!("{value:.digits$} {unit}").trim_end().to_owned();
    let strain = if limit > 0.0 { found / limit } else { 1.0 + found };
    Finding { demanded: format!("{what} <= {}", show(limit)), measured: show(found), holds: found <= limit, strain }
}

const LOSERS: &[(Engine, Fate)] = &[
    (engines::GOSSIPSUB_1_0, Fate::Loses),
    (engines::SQUARE_ROOT_PUSH, Fate::Loses),
    (engines::FLOODSUB, Fate::DeliversAtGreatCost),
];

/// The whole table. The baseline is the first row, because others are measured by it.
pub const ROWS: &[Row] = &[
    Row {
        name: "baseline",
        about: "no attack",
        demands: &[Demand::Everything, Demand::P99Ms(130.0), Demand::MaxMs(200.0), Demand::CopiesTimesDegree(1.1)],
        cases: |scale, seed| vec![plain(scale.attacked(seed, 0, Vec::new()))],
        controls: &[],
    },
    Row {
        name: "eclipse-network",
        about: "four silent sybils for each node come in the middle, with 100 connections each",
        demands: &[Demand::Everything, Demand::P99Times(1.1)],
        cases: |scale, seed| vec![plain(later(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 100)))],
        controls: &[],
    },
    Row {
        name: "eclipse-publishers",
        about: "the same, but they connect with publishers only",
        demands: &[Demand::Everything, Demand::P99Times(1.1)],
        cases: |scale, seed| {
            let publishers = Targets::Named("publishers".into());
            vec![plain(later(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 100).aimed(publishers)))]
        },
        controls: &[],
    },
    Row {
        name: "eclipse-node",
        about: "as many silent sybils as there are nodes connect with one node in the middle",
        demands: &[Demand::Everything, Demand::VictimLinks(2)],
        cases: |scale, seed| {
            let sybils = Attackers::new("sybil", scale.nodes, 1).aimed(Targets::Nodes(vec![0]));
            vec![plain(Experiment { victim: Some(0), ..later(scale, seed, sybils) })]
        },
        controls: &[],
    },
    Row {
        name: "censor",
        about: "two sybils for each node forward all but what one node publishes",
        demands: &[Demand::Everything, Demand::P99Times(1.2)],
        cases: |scale, seed| vec![plain(later(scale, seed, Attackers::new("censor", scale.per_node(2.0), 20)))],
        controls: &[],
    },
    Row {
        name: "degrade",
        about: "two sybils for each node drop a share of the messages",
        demands: &[Demand::Everything, Demand::P99Times(1.5)],
        cases: |scale, seed| {
            let drops = [("25 %", 0.25), ("50 %", 0.5), ("90 %", 0.9)];
            let sybils = |drop| Attackers::new("sybil", scale.per_node(2.0), 20).with("drop", drop);
            drops.map(|(label, drop)| Case { label, experiment: later(scale, seed, sybils(drop)) }).into()
        },
        controls: &[],
    },
    Row {
        name: "cold-boot",
        about: "four silent sybils for each node come together with the honest nodes, with 20 connections each",
        demands: &[Demand::Everything, Demand::P99Ms(180.0), Demand::HardMaxMs(1_000.0)],
        cases: |scale, seed| {
            vec![plain(scale.attacked(seed, 0, vec![Attackers::new("sybil", scale.per_node(4.0), 20)]))]
        },
        controls: LOSERS,
    },
    Row {
        name: "covert-flash",
        about: "the same, but they behave at first and then all fall silent at once",
        demands: &[Demand::Everything, Demand::P99Ms(250.0), Demand::HardMaxMs(1_000.0), Demand::HealedBeats(30.0)],
        cases: |scale, seed| vec![plain(turning(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 20)))],
        controls: LOSERS,
    },
    Row {
        name: "dawn",
        about: "four silent sybils for each node are there first; honest nodes connect later",
        demands: &[Demand::Everything, Demand::HardMaxMs(1_000.0)],
        cases: |scale, seed| {
            let case = |(label, late_s): (&'static str, u64)| {
                let sybils = Attackers::new("sybil", scale.per_node(4.0), 20);
                let mut experiment = scale.attacked(seed, 0, vec![sybils]);
                experiment.scenario.connect_from = Duration::from_secs(late_s);
                experiment.scenario.warm_up += Duration::from_secs(late_s);
                Case { label, experiment }
            };
            vec![case(("first late", scale.late_s[0])), case(("second late", scale.late_s[1]))]
        },
        controls: &[],
    },
    Row {
        name: "colocation",
        about: "four silent sybils for each node, 160 to an address, come together with the honest nodes",
        demands: &[Demand::Everything, Demand::PerIp(5)],
        cases: |scale, seed| {
            let sybils = Attackers { per_ip: 160, ..Attackers::new("sybil", scale.per_node(4.0), 20) };
            vec![plain(scale.attacked(seed, 0, vec![sybils]))]
        },
        controls: &[],
    },
    Row {
        name: "withhold-blocks",
        about: "a sybil for each node is good on transactions and silent on blocks (CVE-2022-47547)",
        demands: &[Demand::Everything, Demand::OutOfBlocksWithinS(60.0)],
        cases: |scale, seed| {
            let mut experiment = scale.attacked(seed, 0, vec![Attackers::new("withhold", scale.nodes, 20)]);
            let scenario = &mut experiment.scenario;
            scenario.producers = 3;
            scenario.slot = Duration::from_secs(1);
            scenario.workloads[0].pace = Pace::Constant { messages_per_ks: scale.messages_per_ks / 10 };
            scenario.duration = scenario.duration.max(Duration::from_secs(90));
            // Ends between two blocks.
            scenario.drain = Duration::from_millis(9_800);
            vec![plain(experiment)]
        },
        controls: &[],
    },
    persistent("mirror", "sends messages back to whom they came from", |scale, seed| {
        vec![plain(many(scale, seed, Attackers::new("mirror", scale.per_node(4.0), 100)))]
    }),
    persistent("slow-drip", "forwards one message of twenty", |scale, seed| {
        vec![plain(many(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 100).with("drop", 0.95)))]
    }),
    persistent("score-banking", "forwards everything for a while and then nothing", |scale, seed| {
        vec![plain(turning(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 100).at_s(SOON_S)))]
    }),
    persistent(
        "fast-then-withhold",
        "forwards everything before anybody else for a while and then nothing",
        |scale, seed| {
            vec![plain(turning(scale, seed, Attackers::new("outrun", scale.per_node(4.0), 100).at_s(SOON_S)))]
        },
    ),
    persistent("whitewashing", "is silent and comes again under a new id", |scale, seed| {
        vec![plain(many(scale, seed, Attackers::new("whitewash", scale.per_node(2.0), 100).with("life_s", 10.0)))]
    }),
    persistent("announce-only", "announces everything first and delivers nothing", |scale, seed| {
        vec![plain(many(scale, seed, Attackers::new("announce", scale.per_node(1.0), 100)))]
    }),
    Row {
        name: "invalid-messages",
        about: "three of ten peers of each node send messages that are not valid as fast as their lines carry",
        demands: &[Demand::Everything, Demand::P99Times(1.2)],
        cases: |scale, seed| {
            let spammers = |kind| vec![Attackers::new(kind, scale.per_node(0.85), 20).at_s(scale.attack_s as f64)];
            let case = |label, kind| Case { label, experiment: scale.attacked(seed, scale.attack_s, spammers(kind)) };
            vec![case("bad signature", "invalid"), case("garbage", "garbage"), case("conflicting", "conflict")]
        },
        controls: &[],
    },
    Row {
        name: "floods",
        about: "two peers of each node send ten times what a heartbeat allows, without end",
        demands: &[Demand::Everything, Demand::P99Times(1.2)],
        cases: |scale, seed| {
            let flooders = |kind| vec![Attackers::new(kind, scale.per_node(0.1), 20).at_s(scale.attack_s as f64)];
            let kinds = ["ihave", "iwant", "idontwant", "graft", "subscribe", "exchange"];
            let case = |kind| Case { label: kind, experiment: scale.attacked(seed, scale.attack_s, flooders(kind)) };
            kinds.map(case).into()
        },
        controls: &[],
    },
    Row {
        name: "stale-messages",
        about: "two peers of each node send old messages again, or transactions that have expired",
        demands: &[Demand::Everything, Demand::P99Times(1.2)],
        cases: |scale, seed| {
            let spammers = |kind| vec![Attackers::new(kind, scale.per_node(0.1), 20).at_s(scale.attack_s as f64)];
            let case = |label, kind| Case { label, experiment: scale.attacked(seed, scale.attack_s, spammers(kind)) };
            vec![case("replayed", "replay"), case("expired", "expired")]
        },
        controls: &[],
    },
];

/// A row of attackers that try to stay in meshes, ten for each honest link.
const fn persistent(name: &'static str, about: &'static str, cases: fn(&Scale, u64) -> Vec<Case>) -> Row {
    Row { name, about, demands: &[Demand::Everything, Demand::OutWithinS(120.0)], cases, controls: &[] }
}

fn plain(experiment: Experiment) -> Case {
    Case { label: "", experiment }
}

/// Attackers that come while the load runs.
fn later(scale: &Scale, seed: u64, attackers: Attackers) -> Experiment {
    scale.attacked(seed, scale.attack_s, vec![attackers.at_s(scale.attack_s as f64)])
}

/// When attackers come that would otherwise take all the places that nodes have for others before honest nodes are connected: who is first is
/// another attack.
const SOON_S: f64 = 3.0;

/// Attackers that come when the honest nodes are connected, seen for longer than they may stay.
fn many(scale: &Scale, seed: u64, attackers: Attackers) -> Experiment {
    let mut experiment = scale.attacked(seed, scale.warm_up_s, vec![attackers.at_s(SOON_S)]);
    experiment.scenario.duration = experiment.scenario.duration.max(Duration::from_secs(130));
    experiment.scenario.workloads[0].pace = Pace::Constant { messages_per_ks: scale.messages_per_ks / 4 };
    experiment
}

/// Attackers that behave at first and turn later.
fn turning(scale: &Scale, seed: u64, attackers: Attackers) -> Experiment {
    let attackers = attackers.with("turn_s", scale.turn_s as f64);
    let mut experiment = scale.attacked(seed, scale.turn_s, vec![attackers]);
    experiment.scenario.duration = Duration::from_secs(scale.long_load_s);
    experiment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_run_at_both_scales() {
        for scale in [Scale::FULL, Scale::QUICK] {
            for row in ROWS {
                for case in row.cases(&scale, 1) {
                    for attackers in &case.experiment.attackers {
                        assert_eq!(attackers.check(scale.nodes), Ok(()), "{} {}", row.name, case.label);
                    }
                    assert!(case.experiment.turns < case.experiment.scenario.end(), "{}", row.name);
                }
            }
        }
        assert_eq!(ROWS[0].name, "baseline");
    }
}
