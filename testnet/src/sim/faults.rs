//! What goes wrong, and how it is made good.
//!
//! A scenario has a timeline of [`Action`]s. They are primitive: a restart is a kill and a start, churn is many of them. So they
//! can be carried out by whatever runs the nodes, and what a manifest says of faults is worked out once (`crate::manifest`).

use super::event::{Event, Rare};
use super::world::World;
use crate::wan::Topology;
use starling_protocol::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Something that is done to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process ends at once.
    Kill(u32),
    /// The process saves what it can and ends.
    Stop(u32),
    /// A process starts where none runs.
    Start(u32),
    /// The process stands still.
    Pause(u32),
    /// It goes on.
    Resume(u32),
    /// Nodes on different sides do not reach each other; one side for each node, later ones being on side 0.
    Partition(Arc<[u8]>),
    /// Everybody reaches everybody again.
    Heal,
    /// Paths become worse.
    Degrade(Degradation),
    /// The degradation with this number ends.
    Mend(u32),
    /// The wall clock of a node is off by so many microseconds.
    Clock(u32, i64),
    /// Computations of a node take so many thousandths of their usual time.
    Cpu(u32, u32),
    /// The disk of a node takes so many thousandths of its usual time.
    Disk(u32, u32),
}

impl Action {
    /// Whether it makes something unusual, and does not undo it.
    pub(crate) fn begins(&self) -> bool {
        match self {
            Self::Kill(_)
            | Self::Stop(_)
            | Self::Pause(_)
            | Self::Partition(_)
            | Self::Degrade(_)
            | Self::Clock(..) => true,
            Self::Start(_) | Self::Resume(_) | Self::Heal | Self::Mend(_) => false,
            Self::Cpu(_, permille) | Self::Disk(_, permille) => *permille != 1_000,
        }
    }
}

/// Paths that are worse than usual, in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degradation {
    /// Names it.
    pub number: u32,
    /// Whether a node is at one end; later ones are not.
    pub from: Arc<[bool]>,
    /// Whether a node is at the other end.
    pub to: Arc<[bool]>,
    /// Added to the latency.
    pub latency: Duration,
    /// Of a million segments, how many are lost and sent again, if that is more than usual.
    pub loss_ppm: u32,
}

impl Degradation {
    /// Whether it makes the path between these two worse.
    pub(crate) fn is_between(&self, a: u32, b: u32) -> bool {
        let is_in = |set: &[bool], node: u32| set.get(node as usize).copied().unwrap_or(false);
        is_in(&self.from, a) && is_in(&self.to, b) || is_in(&self.from, b) && is_in(&self.to, a)
    }
}

/// From when until when something was so at a node, if it ended.
pub(crate) type Span = (u32, Time, Option<Time>);

/// The spans of a timeline, of which an action begins (true) or ends one at a node. What has begun does not begin again. First come those that
/// ended, in the order of their ends.
pub(crate) fn spans(faults: &[(Time, Action)], mut edge: impl FnMut(&Action) -> Option<(u32, bool)>) -> Vec<Span> {
    let (mut open, mut spans) = (BTreeMap::new(), Vec::new());
    for (at, action) in faults {
        match edge(action) {
            Some((node, true)) => drop(open.entry(node).or_insert(*at)),
            Some((node, false)) => spans.extend(open.remove(&node).map(|from| (node, from, Some(*at)))),
            None => {}
        }
    }
    spans.extend(open.into_iter().map(|(node, from)| (node, from, None)));
    spans
}

/// From when until when nodes did not run.
pub(crate) fn absences(faults: &[(Time, Action)]) -> Vec<Span> {
    spans(faults, |action| match action {
        Action::Kill(node) | Action::Stop(node) => Some((*node, true)),
        Action::Start(node) => Some((*node, false)),
        _ => None,
    })
}

/// From when until when processes stood still: whoever does not run cannot, and who is killed does not any more.
pub(crate) fn standstills(faults: &[(Time, Action)]) -> Vec<Span> {
    let mut down = BTreeSet::new();
    spans(faults, |action| match action {
        Action::Pause(node) => (!down.contains(node)).then_some((*node, true)),
        Action::Resume(node) => Some((*node, false)),
        Action::Kill(node) | Action::Stop(node) => {
            down.insert(*node);
            Some((*node, false))
        }
        Action::Start(node) => {
            down.remove(node);
            None
        }
        _ => None,
    })
}

/// A partition of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parted {
    pub(crate) from: Time,
    /// None if it lasts to the end.
    pub(crate) until: Option<Time>,
    /// One side for each node, later ones being on side 0.
    pub(crate) sides: Arc<[u8]>,
}

impl Parted {
    /// Whether it is between these two.
    pub(crate) fn is_between(&self, a: u32, b: u32) -> bool {
        let side = |node: u32| self.sides.get(node as usize).copied().unwrap_or(0);
        side(a) != side(b)
    }
}

/// The partitions of a timeline in their order: each lasts until the next one, or until everybody reaches everybody again.
pub(crate) fn partitions(faults: &[(Time, Action)]) -> Vec<Parted> {
    let mut open: Option<(Time, Arc<[u8]>)> = None;
    let mut partitions = Vec::new();
    let parted = |(from, sides), until| Parted { from, until, sides };
    for (at, action) in faults {
        let next = match action {
            Action::Partition(sides) => Some((*at, Arc::clone(sides))),
            Action::Heal => None,
            _ => continue,
        };
        partitions.extend(open.take().map(|before| parted(before, Some(*at))));
        open = next;
    }
    partitions.extend(open.map(|last| parted(last, None)));
    partitions
}

/// When something gets through from one node to another that tries to at `at`; none if it never does.
pub(super) fn gets_through(partitions: &[Parted], (a, b): (u32, u32), at: Time) -> Option<Time> {
    let mut at = at;
    for parted in partitions.iter().filter(|parted| parted.is_between(a, b)) {
        if parted.from <= at && parted.until.is_none_or(|until| at < until) {
            at = parted.until?;
        }
    }
    Some(at)
}

/// What is wrong with paths at present.
#[derive(Debug, Default)]
pub struct Faults {
    sides: Option<Arc<[u8]>>,
    /// Counts the partitions.
    pub(super) cut: u32,
    degradations: Vec<Degradation>,
}

impl Faults {
    /// Takes an action in; says whether it is one that changes paths.
    pub fn take(&mut self, action: &Action) -> bool {
        match action {
            Action::Partition(sides) => {
                self.sides = Some(Arc::clone(sides));
                self.cut += 1;
            }
            Action::Heal => self.sides = None,
            Action::Degrade(degradation) => self.degradations.push(degradation.clone()),
            Action::Mend(number) => self.degradations.retain(|worse| worse.number != *number),
            _ => return false,
        }
        true
    }

    /// Whether nothing gets from one to the other.
    #[must_use]
    pub fn is_cut(&self, a: u32, b: u32) -> bool {
        let Some(sides) = &self.sides else { return false };
        let side = |node: u32| sides.get(node as usize).copied().unwrap_or(0);
        side(a) != side(b)
    }

    /// The one-way delay between two nodes.
    #[must_use]
    pub fn latency(&self, network: &Topology, a: u32, b: u32) -> Duration {
        let usual = Duration::from_micros(network.one_way_us(a as usize, b as usize));
        self.between(a, b).fold(usual, |latency, worse| latency + worse.latency)
    }

    /// The loss between two nodes, given what it usually is.
    #[must_use]
    pub fn loss_ppm(&self, usual: u32, a: u32, b: u32) -> u32 {
        self.between(a, b).fold(usual, |loss_ppm, worse| loss_ppm.max(worse.loss_ppm))
    }

    fn between(&self, a: u32, b: u32) -> impl Iterator<Item = &Degradation> {
        self.degradations.iter().filter(move |worse| worse.is_between(a, b))
    }
}

impl World {
    /// Carries out an action of the timeline.
    pub(super) fn strike(&mut self, at: Time, number: u32) {
        let (_, action) = self.shared.scenario.faults[number as usize].clone();
        self.shared.trace.mix(at.as_micros());
        self.shared.trace.mix(u64::from(number));
        self.faults.take(&action);
        match action {
            Action::Kill(node) => self.kill(at, node),
            Action::Stop(node) => self.stop(at, node),
            Action::Start(node) => self.start(at, node),
            Action::Pause(node) => self.pause(node),
            Action::Resume(node) => self.resume(at, node),
            Action::Partition(_) | Action::Heal => self.cut_lines(at),
            Action::Degrade(_) | Action::Mend(_) => self.refresh_paths(),
            Action::Clock(node, off_us) => {
                self.machines[node as usize].clock_off_us = off_us;
                self.shared.rare(at, node, Rare::Clock { off_us });
            }
            Action::Cpu(node, permille) => self.machines[node as usize].cpu_permille = u64::from(permille),
            Action::Disk(node, permille) => self.machines[node as usize].disk_permille = u64::from(permille),
        }
    }

    /// Brings all lines in step with who reaches whom.
    fn cut_lines(&mut self, at: Time) {
        let dead_after = self.shared.scenario.dead_after;
        for node in 0..u32::try_from(self.machines.len()).expect("fewer than 2^32 nodes") {
            for peer in self.machines[node as usize].handles() {
                let line = &mut self.machines[node as usize].lines[peer.index()];
                let (far, far_handle, latency_us) = (line.far, line.far_handle, line.latency_us);
                let (before, now) = (line.cut, self.faults.is_cut(node, far));
                line.cut = now;
                if now {
                    let cut = self.faults.cut;
                    self.shared.rare(at + dead_after, node, Rare::GivenUp { peer, cut });
                } else if before {
                    self.mended(at, node, peer.slot);
                    if self.machines[far as usize].line(far_handle).is_none() {
                        // Whoever is there now knows of no connection and says so.
                        let heard = at + Duration::from_micros(u64::from(latency_us) * 2);
                        self.shared.rare(heard, node, Rare::Closed { peer });
                    }
                }
            }
        }
    }

    /// What waited on a line goes on, unless its node stands still.
    fn mended(&mut self, at: Time, node: u32, slot: u32) {
        let line = &self.machines[node as usize].lines[slot as usize];
        if line.busy.is_some() {
            self.shared.queue.push(at, Event::Line { node, slot, generation: line.generation });
        }
    }

    fn refresh_paths(&mut self) {
        let usual = self.shared.scenario.loss_ppm;
        for (node, machine) in (0_u32..).zip(&mut self.machines) {
            for line in machine.lines.iter_mut().filter(|line| !line.is_free()) {
                let latency = self.faults.latency(&self.shared.network, node, line.far);
                line.latency_us = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
                line.loss_ppm = self.faults.loss_ppm(usual, node, line.far);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_run_cannot_stand_still() {
        let at = Time::from_secs;
        let found = standstills(&[
            (at(1), Action::Kill(1)),
            (at(2), Action::Pause(1)),
            (at(3), Action::Start(1)),
            (at(4), Action::Resume(1)),
            (at(5), Action::Pause(1)),
            (at(6), Action::Stop(1)),
            (at(7), Action::Start(1)),
            (at(8), Action::Resume(1)),
            (at(9), Action::Pause(1)),
        ]);
        assert_eq!(found, [(1, at(5), Some(at(6))), (1, at(9), None)]);
    }

    #[test]
    fn what_is_kept_back_by_partitions_goes_through_between_them() {
        let at = Time::from_secs;
        let parted = |sides: [u8; 3]| Action::Partition(sides.into());
        let all = partitions(&[
            (at(2), parted([0, 1, 1])),
            (at(4), parted([0, 1, 0])),
            (at(6), Action::Heal),
            (at(8), parted([0, 1, 1])),
        ]);
        let through = |ends, at_s| gets_through(&all, ends, at(at_s));
        assert_eq!([1, 2, 3, 5, 6, 7].map(|at_s| through((0, 1), at_s)), [1, 6, 6, 6, 6, 7].map(|at_s| Some(at(at_s))));
        assert_eq!((through((1, 0), 8), through((0, 2), 3), through((1, 2), 3)), (None, Some(at(4)), Some(at(3))));
        assert_eq!((through((1, 2), 5), through((1, 2), 9)), (Some(at(6)), Some(at(9))), "sides may change");
    }

    #[test]
    fn a_span_lasts_from_the_first_beginning_to_the_first_end_after_it() {
        let at = Time::from_secs;
        let faults = [
            (at(1), Action::Stop(3)),
            (at(2), Action::Start(4)),
            (at(2), Action::Kill(1)),
            (at(3), Action::Pause(2)),
            (at(4), Action::Kill(3)),
            (at(5), Action::Start(3)),
            (at(6), Action::Start(3)),
            (at(7), Action::Kill(3)),
            (at(8), Action::Start(3)),
            (at(9), Action::Kill(0)),
        ];
        let found = spans(&faults, |action| match action {
            Action::Kill(node) | Action::Stop(node) => Some((*node, true)),
            Action::Start(node) => Some((*node, false)),
            _ => None,
        });
        let ended = [(3, at(1), Some(at(5))), (3, at(7), Some(at(8)))];
        let open = [(0, at(9), None), (1, at(2), None)];
        assert_eq!(found, [ended, open].concat(), "whoever starts was gone, and who stands still is not");
    }
}
