//! What a manifest's faults kept from going on, so that a wait is not put down to something else.

use std::fmt;
use std::sync::Arc;

use crate::report::format::float;
use crate::sim::Scenario;
use crate::sim::faults::{Action, Span, spans};
use starling_protocol::time::Time;

/// Something that a fault prevented for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    what: What,
    from: Time,
    /// None if it never ended.
    until: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Nodes on different sides did not reach each other; one side for each node, later ones being on side 0.
    Parted(Arc<[u8]>),
    /// The node's process stood still.
    StoodStill(u32),
    /// It did not run.
    DidNotRun(u32),
}

/// A fault's share of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    pub(super) us: u64,
    pub(super) kept: &'a Kept,
}

impl Kept {
    /// All that the faults of a scenario prevented.
    pub(super) fn all(scenario: &Scenario) -> Vec<Self> {
        let nodes = |what: fn(u32) -> What, spans: Vec<Span>| {
            spans.into_iter().map(move |(node, from, until)| Self { what: what(node), from, until })
        };
        let still = spans(&scenario.faults, |action| match action {
            Action::Pause(node) => Some((*node, true)),
            Action::Resume(node) | Action::Kill(node) | Action::Stop(node) => Some((*node, false)),
            _ => None,
        });
        let gone = spans(&scenario.faults, |action| match action {
            Action::Kill(node) | Action::Stop(node) => Some((*node, true)),
            Action::Start(node) => Some((*node, false)),
            _ => None,
        });
        let mut all = partitions(&scenario.faults);
        all.extend(nodes(What::StoodStill, still));
        all.extend(nodes(What::DidNotRun, gone));
        all
    }

    /// The fault that took most of the time from `begin_us` until `end_us`, in which one node's message was to come to another; of a node's
    /// own work both are the same.
    pub(super) fn most(all: &[Self], (from, to): (u32, u32), (begin_us, end_us): (u64, u64)) -> Option<Share<'_>> {
        let concerned = all.iter().filter(|kept| kept.concerns(from, to));
        let shares = concerned.map(|kept| Share { us: kept.within_us(begin_us, end_us), kept });
        shares.filter(|share| share.us > 0).max_by_key(|share| share.us)
    }

    fn concerns(&self, from: u32, to: u32) -> bool {
        match &self.what {
            What::Parted(sides) => {
                let side = |node: u32| sides.get(node as usize).copied().unwrap_or(0);
                side(from) != side(to)
            }
            What::StoodStill(node) => *node == from || *node == to,
            // A sender that ended has sent before, or not at all.
            What::DidNotRun(node) => *node == to,
        }
    }

    fn within_us(&self, begin_us: u64, end_us: u64) -> u64 {
        let until_us = self.until.map_or(u64::MAX, Time::as_micros);
        until_us.min(end_us).saturating_sub(self.from.as_micros().max(begin_us))
    }

    /// Says it of these two nodes, which have names.
    pub(super) fn of(&self, from: &str, to: &str, name: impl Fn(u32) -> String) -> String {
        match &self.what {
            What::Parted(_) => format!("a partition kept {from} and {to} apart {self}"),
            What::StoodStill(node) => format!("{} stood still {self}", name(*node)),
            What::DidNotRun(node) => format!("{} did not run {self}", name(*node)),
        }
    }
}

/// From when until when, in seconds of the run.
impl fmt::Display for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Time| float(time.as_micros()) / 1e6;
        match self.until {
            Some(until) => write!(formatter, "from {} s to {} s", seconds(self.from), seconds(until)),
            None => write!(formatter, "from {} s on", seconds(self.from)),
        }
    }
}

/// A partition lasts until the next one or until everybody reaches everybody again.
fn partitions(faults: &[(Time, Action)]) -> Vec<Kept> {
    let mut open: Option<(Time, Arc<[u8]>)> = None;
    let mut partitions = Vec::new();
    let kept = |(from, sides), until| Kept { what: What::Parted(sides), from, until };
    for (at, action) in faults {
        let next = match action {
            Action::Partition(sides) => Some((*at, Arc::clone(sides))),
            Action::Heal => None,
            _ => continue,
        };
        partitions.extend(open.take().map(|before| kept(before, Some(*at))));
        open = next;
    }
    partitions.extend(open.map(|last| kept(last, None)));
    partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_put_down_to_the_fault_that_took_most_of_it() {
        let at = Time::from_secs;
        let parted = |sides: [u8; 3]| Action::Partition(sides.into());
        let mut all = partitions(&[
            (at(2), parted([0, 1, 1])),
            (at(4), parted([0, 0, 1])),
            (at(5), Action::Heal),
            (at(8), parted([0, 1, 1])),
        ]);
        all.push(Kept { what: What::StoodStill(2), from: at(4), until: Some(at(5)) });
        all.push(Kept { what: What::DidNotRun(0), from: at(0), until: None });
        let most = |pair, from_s: u64, to_s: u64| {
            let share = Kept::most(&all, pair, (from_s * 1_000_000, to_s * 1_000_000))?;
            Some((share.us / 1_000_000, share.kept.of("a", "b", |node| format!("n{node}"))))
        };
        let found = |us: u64, text: &str| Some((us, text.to_owned()));
        assert_eq!(most((0, 1), 3, 9), found(1, "a partition kept a and b apart from 8 s on"));
        assert_eq!(most((0, 1), 0, 7), found(2, "a partition kept a and b apart from 2 s to 4 s"));
        assert_eq!(most((1, 2), 2, 4), None, "they were on one side");
        assert_eq!(most((2, 2), 3, 9), found(1, "n2 stood still from 4 s to 5 s"));
        assert_eq!(most((1, 0), 0, 7), found(7, "n0 did not run from 0 s on"));
    }
}
