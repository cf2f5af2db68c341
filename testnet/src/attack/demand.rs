//! What is demanded of an outcome, and whether it holds.
//!
//! # Milliseconds at another scale
//! The demands in milliseconds were made for the published network of 1000 nodes. A smaller one is faster whatever its engine does, so at another
//! scale they are multiplied by what the shortest paths through the baseline's own connections take, against what those of the published network
//! take ([`super::floor`], [`PUBLISHED_FLOOR_MS`]). So no demand is held against what the engine itself has measured, but for those
//! that are multiples of the baseline.
//!
//! # Rates
//! Of events as rare as one in a thousand days a short run can say little: beside what was counted stands the rate that it excludes at 95 %
//! (the upper limit for a Poisson variable, by the approximation of Wilson and Hilferty, 1931).

use super::experiment::Outcome;
use super::table::Scale;
use crate::report::format::{counted, grouped};

/// The 99th percentile of the least latencies in the published network of 1000 nodes, in milliseconds; a test works it out.
pub const PUBLISHED_FLOOR_MS: f64 = 67.6;
/// Heartbeats of the published engine, in which some demands are written, last a second; ours are shorter, which makes the demand harder.
pub const HEARTBEAT_S: f64 = 0.7;

/// What is demanded of an outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// Attackers were connected with honest nodes. Of every row that has attackers, whatever else is demanded of it.
    Attacked,
    /// No rule is broken that holds whatever happens. Of every row where they are watched ([`super::experiment::Experiment::watched`]).
    Rules,
    /// Every message reaches every node.
    Everything,
    /// The 99th percentile of latency is at most so many milliseconds.
    P99Ms(f64),
    /// The same of the victim's own messages.
    VictimP99Times(f64),
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
    /// The same after so many seconds.
    HealedS(f64),
    /// No attacker keeps a place in a mesh of transactions for longer than so many seconds.
    OutWithinS(f64),
    /// The same of blocks.
    OutOfBlocksWithinS(f64),
    /// At most so many peers of one address could be in a mesh.
    PerIp(usize),
    /// The attackers have sent a hundred messages each, or else nothing is shown.
    Spammed,
    /// So many messages of one attacker are rejected by one node at most.
    Rejected(u64),
    /// So many invalid transactions and forged blocks of one attacker are verified by one node at most.
    Verified(u64),
    /// No attacker stays connected with a node for longer than so many seconds.
    GoneWithinS(f64),
    /// No node needs more memory than so many MiB for everything: what all attackers together cost it is less, and what each of them does certainly is.
    AtMostMiB(f64),
    /// All nodes have one head so many seconds after a division.
    OneHeadS(f64),
    /// So many in a hundred slots have a block in the chain of the node that has the lowest.
    ChainGrows(f64),
    /// Every transaction that was pending then is in the chain or everywhere, so many slots later.
    PendingSlots(f64),
    /// The nodes agree about the chain in the end, and have seen producers make two blocks for a slot, or none.
    OneChain {
        /// Whether some did.
        equivocated: bool,
    },
    /// No peer is sent away for its score, and no honest one taken out of a mesh.
    NobodyBlamed,
    /// No honest peer is taken out of a mesh.
    HonestKept,
    /// Of nodes that are started again, less than so many in a hundred have no honest peer.
    Eclipsed(f64),
    /// The same two minutes after a start.
    EclipsedLong(f64),
    /// Nodes that come back have what they have missed within so many seconds.
    CaughtUpS(f64),
    /// Honest links are taken for silent ones so many times a day and node at most.
    FalsePrunes(f64),
    /// There are so many times fewer false suspicions than with a fixed timeout.
    FewerSuspicions(f64),
    /// Nodes that stop for ever are out of all meshes within so many seconds, at the 99th percentile, counted for each node while it runs.
    CrashesFoundS(f64),
    /// No input makes a decoder or a machine panic. That it did is found by its being run.
    NoPanic,
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
            if scale.relative || scale.nodes != Scale::FULL.nodes {
                limit_ms / PUBLISHED_FLOOR_MS * baseline.floor_p99_us as f64 / 1e3
            } else {
                limit_ms
            }
        };
        match self {
            Self::Attacked => {
                let Outcome { connected, connected_least, connected_at_once, places_at_once, .. } = outcome;
                Finding {
                    demanded: format!("connections of attackers >= {connected_least}"),
                    measured: format!(
                        "{connected}; {connected_at_once} and {places_at_once} places in meshes at once, at most"
                    ),
                    holds: connected >= connected_least,
                    strain: *connected_least as f64 / (*connected).max(1) as f64,
                }
            }
            Self::Rules => Finding {
                demanded: "no rule of safety broken".into(),
                measured: outcome.violations.first().map_or_else(|| "none".into(), Clone::clone),
                holds: outcome.violations.is_empty(),
                strain: outcome.violations.len() as f64,
            },
            Self::Everything => {
                let missing = outcome.expected - outcome.delivered;
                let share = format!("{:.4} %", outcome.coverage() * 100.0);
                let measured = if missing == 0 { "100 %".into() } else { format!("{share} ({missing} missing)") };
                let holds = missing == 0 && outcome.unpublished == 0 && outcome.published > 0;
                Finding {
                    demanded: "100 % of messages delivered".into(),
                    measured,
                    holds,
                    strain: 1.0 + 1.0 - outcome.coverage(),
                }
            }
            Self::P99Ms(limit_ms) => at_most("latency p99", "ms", p99_ms, scaled(limit_ms)),
            Self::MaxMs(limit_ms) => at_most("latency max", "ms", max_ms, scaled(limit_ms)),
            Self::HardMaxMs(limit_ms) => at_most("latency max", "ms", max_ms, limit_ms),
            Self::P99Times(times) => at_most("latency p99", "ms", p99_ms, times * baseline_ms),
            Self::VictimP99Times(times) => {
                let found_ms = outcome.victim_p99_us.map_or(f64::INFINITY, |us| us as f64 / 1e3);
                at_most("latency p99 of the victim's messages", "ms", found_ms, times * baseline_ms)
            }
            Self::CopiesTimesDegree(times) => {
                at_most("copies per delivery", "", outcome.copies, times * (outcome.degree - 1.0))
            }
            Self::VictimLinks(least) => {
                let found = outcome.victim_links.unwrap_or(0);
                let demanded = format!("honest links of the victim >= {least}");
                let strain = least as f64 / found.max(1) as f64;
                Finding { demanded, measured: found.to_string(), holds: found >= least, strain }
            }
            Self::HealedBeats(beats) => {
                let finding = Self::HealedS(beats * HEARTBEAT_S).judge(outcome, baseline, scale);
                Finding { demanded: format!("{} ({beats} heartbeats)", finding.demanded), ..finding }
            }
            Self::HealedS(limit_s) => placed(
                outcome,
                at_most_or_never("80 % of mesh links honest for good after", "s", outcome.healed_s, limit_s),
            ),
            Self::OutWithinS(limit_s) => placed(
                outcome,
                at_most("longest place of an attacker in a mesh of transactions", "s", outcome.clung_s, limit_s),
            ),
            Self::OutOfBlocksWithinS(limit_s) => placed(
                outcome,
                at_most("longest place of an attacker in a mesh of blocks", "s", outcome.clung_blocks_s, limit_s),
            ),
            Self::PerIp(most) => {
                count("peers of one address that could be in a mesh", outcome.per_ip as u64, most as u64)
            }
            Self::Spammed => {
                let (sent, least) = (outcome.sent, 100 * outcome.attackers as u64);
                Finding {
                    demanded: format!("messages of attackers >= {}", grouped(least)),
                    measured: grouped(sent),
                    holds: sent >= least && least > 0,
                    strain: least as f64 / sent.max(1) as f64,
                }
            }
            Self::Rejected(most) => count("rejections of one attacker at a node", outcome.rejected_max, most),
            Self::Verified(most) => count("verified in vain for one attacker at a node", outcome.verified_max, most),
            Self::GoneWithinS(limit_s) => at_most("longest connection of an attacker", "s", outcome.stayed_s, limit_s),
            Self::AtMostMiB(limit) => {
                at_most("memory of a node, all in all", "MiB", outcome.memory_bytes as f64 / f64::from(1 << 20), limit)
            }
            _ => self.judge_recovery(outcome),
        }
    }

    /// Why deliveries may be missing where this is demanded in place of them all.
    #[must_use]
    pub fn losses_allowed(self) -> Option<&'static str> {
        match self {
            Self::OneHeadS(_) => Some(
                "Missing deliveries are what was published on one side while the network was divided, and a block that was made as the run \
                 ended. Blocks that a side catches up on afterwards are no delivery over the mesh. Transactions that are still pending then are \
                 offered to new peers and count when they come; those that were in the chain which is given up and have expired are \
                 in no chain any more. What is demanded in place of all deliveries is one head, and that every transaction which is pending at the end of the division gets into the chain or is \
                 pending at every node.",
            ),
            Self::CrashesFoundS(_) => Some(
                "Missing deliveries are those to nodes that have stopped for ever, which the others cannot know: they count as expected like any \
                 others. Nodes that stand still for a while get theirs when they go on.",
            ),
            _ => None,
        }
    }

    /// The same for what only studies find.
    fn judge_recovery(self, outcome: &Outcome) -> Finding {
        let (recovery, suspicion) = (&outcome.recovery, &outcome.suspicion);
        match self {
            Self::OneHeadS(limit_s) => {
                let finding = at_most_or_never("one head after", "s", recovery.head_s, limit_s);
                let measured = format!("{}; {} in the end", finding.measured, counted(recovery.heads, "chain"));
                Finding { measured, holds: finding.holds && recovery.heads == 1, ..finding }
            }
            Self::ChainGrows(percent) => {
                let (height, slots) = (recovery.height, recovery.slots);
                let share = 100.0 * height as f64 / slots.max(1) as f64;
                Finding {
                    demanded: format!("blocks in at least {percent} % of the slots"),
                    measured: format!("{share:.0} % ({height} of {slots})"),
                    holds: slots > 0 && share >= percent,
                    strain: percent / share.max(1e-9),
                }
            }
            Self::PendingSlots(limit) => {
                let finding = at_most_or_never("pending everywhere after", "slots", recovery.pending_slots, limit);
                let measured = format!("{} ({} pending)", finding.measured, recovery.pending);
                // Nothing is shown where nothing was pending.
                Finding { measured, holds: finding.holds && recovery.pending > 0, ..finding }
            }
            Self::OneChain { equivocated } => {
                let finding = count("chains in the end", recovery.heads, 1);
                let measured = format!("{} ({} equivocations seen)", recovery.heads, outcome.equivocations);
                // Nothing is shown where nobody equivocated, and nobody may seem to who did not.
                Finding { measured, holds: finding.holds && (outcome.equivocations > 0) == equivocated, ..finding }
            }
            Self::NobodyBlamed => {
                let (sent_away, pruned) = (outcome.graylisted, outcome.false_prunes);
                let measured = format!("{sent_away} sent away, {pruned} taken out of meshes");
                Finding { measured, ..count("peers blamed", sent_away + pruned, 0) }
            }
            Self::HonestKept => count("honest peers taken out of meshes", outcome.false_prunes, 0),
            Self::Eclipsed(percent) => eclipsed("eclipsed", percent, recovery.eclipsed, recovery.restarts),
            Self::EclipsedLong(percent) => {
                eclipsed("eclipsed for 2 min", percent, recovery.eclipsed_long, recovery.restarts_long)
            }
            Self::CaughtUpS(limit_s) => {
                let (came_back, caught_up) = (recovery.came_back, recovery.caught_up);
                let all = caught_up == came_back && came_back > 0;
                let finding = at_most("what was missed is there after", "s", recovery.caught_up_s, limit_s);
                let measured = format!("{}, {caught_up} of {came_back}", finding.measured);
                Finding { measured, holds: finding.holds && all, ..finding }
            }
            Self::FalsePrunes(per_day) => {
                let (found, days) = (outcome.false_prunes as f64, outcome.node_days);
                let excluded = upper_limit(found) / days.max(1e-9);
                Finding {
                    demanded: format!("false prunes <= {per_day} per node-day"),
                    measured: format!("{found} in {days:.1} node-days; above {excluded:.4} excluded at 95 %"),
                    // Where there are too few days to show it, nothing may be found at all.
                    holds: excluded <= per_day || found == 0.0 && upper_limit(0.0) > per_day * days,
                    strain: found / (per_day * days).max(1e-9),
                }
            }
            Self::FewerSuspicions(times) => {
                let (ours, fixed) = (suspicion.ours, suspicion.fixed);
                let ratio = fixed as f64 / ours.max(1) as f64;
                Finding {
                    demanded: format!("false suspicions {times} x fewer than a fixed timeout's"),
                    measured: format!("{ours} against {fixed}"),
                    holds: ratio >= times,
                    strain: times / ratio.max(1e-9),
                }
            }
            Self::CrashesFoundS(limit_s) => {
                let all = suspicion.found == suspicion.crashed && suspicion.crashed > 0;
                let finding = at_most("crash found while the finder ran, p99", "s", suspicion.found_p99_s, limit_s);
                let (found, crashed, clock_s) = (suspicion.found, suspicion.crashed, suspicion.found_clock_p99_s);
                let mut measured = format!("{}, {found} of {crashed}; {clock_s:.2} s by the clock", finding.measured);
                if suspicion.again > 0 {
                    let (again, again_s) = (suspicion.again, suspicion.again_p99_s);
                    measured.push_str(&format!("; {again_s:.2} s where it was taken in again, {again} times"));
                }
                let holds = finding.holds && all && suspicion.again_p99_s <= limit_s;
                Finding { measured, holds, ..finding }
            }
            Self::NoPanic => Finding {
                demanded: "no panic".into(),
                measured: format!("none in {} inputs", outcome.inputs),
                holds: outcome.inputs > 0,
                strain: 0.0,
            },
            _ => unreachable!("the others are judged above"),
        }
    }
}

fn eclipsed(what: &str, percent: f64, eclipsed: u64, restarts: u64) -> Finding {
    let share = eclipsed as f64 / restarts.max(1) as f64 * 100.0;
    let excluded = upper_limit(eclipsed as f64) / restarts.max(1) as f64 * 100.0;
    Finding {
        demanded: format!("{what} < {percent} %"),
        measured: format!("{eclipsed} of {restarts} starts; above {excluded:.1} % excluded at 95 %"),
        holds: share < percent && restarts > 0,
        strain: share / percent,
    }
}

/// Nothing is shown of places where attackers never had one.
fn placed(outcome: &Outcome, finding: Finding) -> Finding {
    let measured = if outcome.places_at_once > 0 { finding.measured } else { "no attacker ever had a place".into() };
    Finding { measured, holds: finding.holds && outcome.places_at_once > 0, ..finding }
}

fn count(what: &str, found: u64, most: u64) -> Finding {
    Finding {
        measured: found.to_string(),
        demanded: format!("{what} <= {most}"),
        ..at_most(what, "", found as f64, most as f64)
    }
}

fn at_most_or_never(what: &str, unit: &str, found: Option<f64>, limit: f64) -> Finding {
    match found {
        Some(found) => at_most(what, unit, found, limit),
        None => Finding { measured: "never".into(), ..at_most(what, unit, f64::INFINITY, limit) },
    }
}

/// The largest mean of a Poisson variable with which so few events are at least one case in twenty.
fn upper_limit(found: f64) -> f64 {
    let next = found + 1.0;
    let root = 1.0 - 1.0 / (9.0 * next) + 1.645 / (3.0 * next.sqrt());
    next * root * root * root
}

fn at_most(what: &str, unit: &str, found: f64, limit: f64) -> Finding {
    let digits = if limit < 20.0 { 2 } else { 0 };
    let show = |value: f64| format!("{value:.digits$} {unit}").trim_end().to_owned();
    let strain = if limit > 0.0 { found / limit } else { 1.0 + found };
    Finding { demanded: format!("{what} <= {}", show(limit)), measured: show(found), holds: found <= limit, strain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::floor::least_p99_us;
    use crate::attack::recovery::Recovery;
    use crate::attack::suspicion::Suspicion;

    #[test]
    fn the_floor_of_the_published_network_is_what_milliseconds_are_scaled_by() {
        let floor_us = least_p99_us(&Scale::FULL.baseline(1));
        assert!((floor_us as f64 / 1e3 - PUBLISHED_FLOOR_MS).abs() < 0.5, "{floor_us} us");
    }

    #[test]
    fn rates_are_excluded_as_by_the_exact_limits() {
        // Chi-squared tables: 3.00, 4.74, 10.51.
        for (found, limit) in [(0.0, 3.00), (1.0, 4.74), (5.0, 10.51)] {
            assert!((upper_limit(found) - limit).abs() < 0.05, "{found}: {}", upper_limit(found));
        }
    }

    /// Who stands still itself finds nothing meanwhile, and that is not the protocol's slowness.
    #[test]
    fn finding_crashes_is_judged_by_the_time_for_which_the_finder_ran() {
        for (ran_s, clock_s, holds) in [(4.9, 7.5, true), (5.0, 5.0, true), (5.1, 7.5, false)] {
            let suspicion = Suspicion {
                crashed: 10,
                found: 10,
                found_p99_s: ran_s,
                found_clock_p99_s: clock_s,
                ..Suspicion::default()
            };
            let outcome = Outcome { suspicion, ..Outcome::default() };
            let finding = Demand::CrashesFoundS(5.0).judge(&outcome, &Outcome::default(), &Scale::QUICK);
            assert_eq!((finding.holds, finding.strain), (holds, ran_s / 5.0), "{finding:?}");
            assert_eq!(finding.measured, format!("{ran_s:.2} s, 10 of 10; {clock_s:.2} s by the clock"));
        }
    }

    fn one_of_each() -> Vec<Demand> {
        vec![
            Demand::Attacked,
            Demand::Rules,
            Demand::Everything,
            Demand::P99Ms(130.0),
            Demand::MaxMs(200.0),
            Demand::HardMaxMs(1_000.0),
            Demand::P99Times(1.2),
            Demand::VictimP99Times(1.2),
            Demand::CopiesTimesDegree(1.1),
            Demand::VictimLinks(2),
            Demand::HealedBeats(30.0),
            Demand::HealedS(120.0),
            Demand::OutWithinS(120.0),
            Demand::OutOfBlocksWithinS(60.0),
            Demand::PerIp(5),
            Demand::Spammed,
            Demand::Rejected(3),
            Demand::Verified(3),
            Demand::GoneWithinS(10.0),
            Demand::AtMostMiB(16.0),
            Demand::OneHeadS(10.0),
            Demand::PendingSlots(2.0),
            Demand::ChainGrows(40.0),
            Demand::OneChain { equivocated: true },
            Demand::NobodyBlamed,
            Demand::HonestKept,
            Demand::Eclipsed(1.0),
            Demand::EclipsedLong(1.0),
            Demand::CaughtUpS(60.0),
            Demand::FalsePrunes(0.001),
            Demand::FewerSuspicions(100.0),
            Demand::CrashesFoundS(5.0),
            Demand::NoPanic,
        ]
    }

    /// Each demand holds of a good outcome and does not of a bad one.
    #[test]
    fn every_demand_can_fail() {
        let baseline = Outcome { p99_us: 100_000, floor_p99_us: 67_600, memory_bytes: 1 << 20, ..Outcome::default() };
        let good = Outcome {
            published: 10,
            attackers: 2,
            sent: 250,
            connected: 80,
            connected_least: 50,
            places_at_once: 7,
            expected: 100,
            delivered: 100,
            p99_us: 100_000,
            max_us: 150_000,
            victim_p99_us: Some(100_000),
            copies: 4.0,
            degree: 6.0,
            healed_s: Some(5.0),
            victim_links: Some(4),
            per_ip: 1,
            memory_bytes: 2 << 20,
            node_days: 3_100.0,
            inputs: 1,
            equivocations: 1,
            recovery: Recovery {
                head_s: Some(3.0),
                pending_slots: Some(1.0),
                pending: 5,
                heads: 1,
                height: 45,
                slots: 100,
                restarts: 200,
                eclipsed: 0,
                restarts_long: 200,
                eclipsed_long: 0,
                came_back: 12,
                caught_up: 12,
                caught_up_s: 3.0,
            },
            suspicion: Suspicion {
                ours: 0,
                fixed: 200,
                crashed: 10,
                found: 10,
                found_p99_s: 2.0,
                found_clock_p99_s: 2.0,
                again: 1,
                again_p99_s: 3.0,
            },
            ..Outcome::default()
        };
        let bad = Outcome {
            connected: 3,
            sent: 199,
            violations: vec!["at 1 s: a rule".to_owned()],
            delivered: 90,
            p99_us: 500_000,
            victim_p99_us: Some(500_000),
            max_us: 9_000_000,
            copies: 40.0,
            healed_s: None,
            clung_s: 500.0,
            clung_blocks_s: 500.0,
            stayed_s: 100.0,
            rejected_max: 4,
            verified_max: 20,
            memory_bytes: 100 << 20,
            victim_links: Some(1),
            per_ip: 9,
            false_prunes: 4,
            inputs: 0,
            recovery: Recovery {
                head_s: None,
                pending_slots: None,
                heads: 2,
                height: 39,
                eclipsed: 20,
                eclipsed_long: 20,
                caught_up: 11,
                ..good.recovery.clone()
            },
            suspicion: Suspicion { ours: 200, found: 3, ..good.suspicion.clone() },
            ..good.clone()
        };
        for demand in one_of_each() {
            let (holds, fails) =
                (demand.judge(&good, &baseline, &Scale::QUICK), demand.judge(&bad, &baseline, &Scale::QUICK));
            assert!(holds.holds && !fails.holds, "{demand:?}: {holds:?} {fails:?}");
            assert!(fails.strain >= holds.strain, "{demand:?}");
        }
        // Each part of a demand counts by itself.
        let fails = |demand: Demand, outcome: Outcome| !demand.judge(&outcome, &baseline, &Scale::QUICK).holds;
        for demand in [Demand::HealedS(120.0), Demand::OutWithinS(120.0), Demand::OutOfBlocksWithinS(60.0)] {
            assert!(fails(demand, Outcome { places_at_once: 0, ..good.clone() }), "nobody had a place");
        }
        let forked = Recovery { heads: 2, ..good.recovery };
        assert!(fails(Demand::OneHeadS(10.0), Outcome { recovery: forked, ..good.clone() }));
        // Who is seen to do what nobody does is framed.
        assert!(fails(Demand::OneChain { equivocated: false }, good.clone()));
        let quiet = Outcome { equivocations: 0, ..good.clone() };
        assert!(fails(Demand::OneChain { equivocated: true }, quiet.clone()));
        assert!(!fails(Demand::OneChain { equivocated: false }, quiet));
        let late = Recovery { caught_up_s: 61.0, ..good.recovery };
        assert!(fails(Demand::CaughtUpS(60.0), Outcome { recovery: late, ..good.clone() }));
        let again = Suspicion { again_p99_s: 5.1, ..good.suspicion };
        assert!(fails(Demand::CrashesFoundS(5.0), Outcome { suspicion: again, ..good.clone() }));
        assert!(fails(Demand::NobodyBlamed, Outcome { graylisted: 1, ..good }));
        // A slow baseline does not excuse itself.
        let slow = Outcome { p99_us: 140_000, ..baseline };
        assert!(!Demand::P99Ms(130.0).judge(&slow, &slow, &Scale::QUICK).holds);
    }
}
