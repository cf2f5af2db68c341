//! Every attack with what is demanded.
//!
//! # The baseline
//! The published one: honest nodes that dial 20 others each, a tenth of them publishing 120 messages of 2 KiB a second in all, delays of
//! 25 ms with a jitter of a tenth, no limit on bandwidth, 30 s of warm-up and then 3 min of load. Transactions expire after half a minute, so that
//! pools stay small without blocks.
//!
//! # Two scales
//! The full table has the published numbers of nodes and attackers. The quick one has the same ratios and degrees with fewer nodes, messages and
//! seconds; what that means for latencies that are demanded in milliseconds is said in [`super::demand`].

use super::demand::Demand;
use super::experiment::{Experiment, Outcome, Study};
use super::{Attackers, AttackersError};
use super::{attacks, faults, malformed};
use crate::sim::{Engine, Pace, Publishers, Scenario, Wiring, Workload};
use crate::wan::Profile;
use starling_protocol::time::{Duration, Time};

/// The network of the published evaluation.
const PUBLISHED: &str = include_str!("../../profiles/published.toml");
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
    /// Seconds from the start until attackers turn that behave at first: later than those graft again who were pruned at the start, which is
    /// 60 to 75 s later.
    pub turn_s: u64,
    /// Seconds of load when attackers turn late: until those have grafted again who were pruned for it.
    pub long_load_s: u64,
    /// Seconds for which honest nodes come later than attackers, in the two cases of the attack called dawn.
    pub late_s: [u64; 2],
    /// Whether what is demanded in milliseconds is scaled by the lengths of the shortest paths.
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
        turn_s: 80,
        long_load_s: 162,
        late_s: [10, 20],
        relative: true,
    };

    /// So many for each honest node.
    pub(super) fn per_node(&self, ratio: f64) -> usize {
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
    pub(super) fn attacked(&self, seed: u64, from_s: u64, attackers: Vec<Attackers>) -> Experiment {
        let turns = Time::from_secs(from_s);
        let scenario = self.baseline(seed);
        Experiment { scenario, attackers, turns, victim: None, study: Study::None, watched: self.relative }
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
    /// What is tried, at this scale and with this seed; nothing if the row is none of this scale.
    pub(super) cases: fn(&Scale, u64) -> Vec<Case>,
    /// Weaker engines, and what has to become of them.
    pub controls: &'static [(Engine, Fate)],
}

/// One thing that a row tries.
#[derive(Clone, Debug)]
pub struct Case {
    /// What sets it apart from the row's others; empty if there are none.
    pub label: &'static str,
    /// What is tried.
    pub trial: Trial,
    /// How often that is run for each seed, each time with a seed of its own: what is counted is summed up.
    pub repeats: u64,
}

/// What can be tried.
#[derive(Clone, Debug)]
pub enum Trial {
    /// A network.
    Network(Box<Experiment>),
    /// Decoders and machines, with so many inputs each, from a seed.
    Decoders {
        /// Inputs of each decoder; machines get fewer.
        inputs: u64,
        /// From which they are drawn.
        seed: u64,
    },
}

impl Trial {
    /// Tries it, with this engine.
    ///
    /// # Errors
    /// If the attackers cannot take part.
    pub fn run(&self, engine: Engine) -> Result<Outcome, AttackersError> {
        match self {
            Self::Network(experiment) => experiment.run(engine),
            Self::Decoders { inputs, seed } => Ok(malformed::run(engine.name, *inputs, *seed)),
        }
    }

    /// The same with another seed for each of these numbers, of which 0 changes nothing.
    pub(super) fn repeated(mut self, repeat: u64) -> Self {
        let seed = match &mut self {
            Self::Network(experiment) => &mut experiment.scenario.seed,
            Self::Decoders { seed, .. } => seed,
        };
        // Seeds of the table are small numbers.
        *seed = seed.wrapping_add(repeat << 32);
        self
    }

    /// Memory that it takes while it runs, in MiB, about.
    #[must_use]
    pub fn memory_mib(&self) -> u64 {
        match self {
            Self::Network(experiment) => experiment.memory_mib(),
            Self::Decoders { .. } => 0,
        }
    }
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

/// The row that others are measured by.
pub const BASELINE: &str = "baseline";

/// The whole table, the baseline first.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    attacks::ROWS.iter().chain(faults::ROWS)
}

/// The only case of a row.
pub(super) fn plain(experiment: Experiment) -> Case {
    network("", experiment)
}

/// A case that is tried on a network.
pub(super) fn network(label: &'static str, experiment: Experiment) -> Case {
    Case { label, trial: Trial::Network(Box::new(experiment)), repeats: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::demand::HEARTBEAT_S;

    #[test]
    fn every_row_can_be_run_at_both_scales() {
        for scale in [Scale::FULL, Scale::QUICK] {
            for row in rows() {
                for case in row.cases(&scale, 1) {
                    let Trial::Network(experiment) = case.trial else { continue };
                    for attackers in &experiment.attackers {
                        assert_eq!(attackers.check(scale.nodes), Ok(()), "{} {}", row.name, case.label);
                    }
                    assert!(experiment.turns < experiment.scenario.end(), "{}", row.name);
                    let load_ends = Time::ZERO + experiment.scenario.warm_up + experiment.scenario.duration;
                    let judged_s = load_ends.since(experiment.turns).as_secs_f64();
                    for demand in row.demands {
                        let demanded_s = match demand {
                            // And then they graft again.
                            Demand::HealedBeats(beats) => beats * HEARTBEAT_S + 60.0,
                            Demand::OutWithinS(limit_s) | Demand::OutOfBlocksWithinS(limit_s) => *limit_s,
                            Demand::HealedS(limit_s) | Demand::CaughtUpS(limit_s) => *limit_s,
                            _ => 0.0,
                        };
                        assert!(judged_s > demanded_s, "{} can fail: {judged_s} s of load, {demanded_s} s", row.name);
                    }
                }
            }
        }
        assert_eq!(rows().next().map(|row| row.name), Some(BASELINE));
        let mut names: Vec<&str> = rows().map(|row| row.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "names are unique");
    }
}
