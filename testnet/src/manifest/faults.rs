//! From faults to a timeline of primitive actions.

use super::check::total_s;
use super::keys::{Fault, Manifest, Who};
use crate::sim::faults::{Action, Degradation};
use crate::wan::{Stream, Topology};
use starling_protocol::time::{Duration, Time, micros};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is done when, in the order of time. Of one moment, what ends comes before what begins, whichever the manifest names first; the rest is in
/// the order of the manifest.
pub(super) fn timeline(manifest: &Manifest, network: &Topology) -> Vec<(Time, Action)> {
    let mut all = Vec::new();
    for (number, fault) in (0_u32..).zip(&manifest.fault) {
        let stream = Stream::new(manifest.seed.wrapping_add(u64::from(number) << 40), "faults");
        Expansion { manifest, network, stream, all: &mut all }.add(number, fault);
    }
    all.sort_by_key(|(at, action)| (*at, action.begins()));
    all
}

struct Expansion<'a> {
    manifest: &'a Manifest,
    network: &'a Topology,
    stream: Stream,
    all: &'a mut Vec<(Time, Action)>,
}

impl Expansion<'_> {
    fn add(&mut self, number: u32, fault: &Fault) {
        let (at_s, for_s) = fault.when();
        let (at, until) = (time(at_s), for_s.map(|for_s| time(at_s) + duration(for_s)));
        match fault {
            Fault::Kill { who, .. } => self.each(who, at, until, Action::Kill, Action::Start),
            Fault::Restart { who, .. } => self.each(who, at, until, Action::Stop, Action::Start),
            Fault::Pause { who, .. } => self.each(who, at, until, Action::Pause, Action::Resume),
            Fault::Partition { who, .. } => {
                let sides = self.members(who).iter().map(|inside| u8::from(*inside)).collect();
                self.push(at, Action::Partition(sides));
                // One that is healed sooner must not heal the next one when its own time is up.
                if let Some(until) = until.filter(|until| !self.is_healed_within(at, *until)) {
                    self.push(until, Action::Heal);
                }
            }
            Fault::Heal { .. } => self.push(at, Action::Heal),
            Fault::Degrade { from, to, latency_ms, loss_percent, .. } => {
                let (from, to) = (self.members(from), self.members(to));
                let latency = duration(latency_ms / 1e3);
                let loss_ppm = ppm(*loss_percent);
                self.push(at, Action::Degrade(Degradation { number, from, to, latency, loss_ppm }));
                if let Some(until) = until {
                    self.push(until, Action::Mend(number));
                }
            }
            Fault::Churn { percent_per_min, down_s, .. } => {
                self.churn((at, until.unwrap_or(at)), *percent_per_min, duration(*down_s));
            }
            Fault::Clock { who, skew_s, .. } => {
                let off_us = whole(skew_s.abs() * 1e6).cast_signed();
                let off_us = if *skew_s < 0.0 { -off_us } else { off_us };
                self.each(who, at, None, |node| Action::Clock(node, off_us), Action::Start);
            }
            Fault::SlowCpu { who, factor, .. } => {
                let permille = permille(*factor);
                let (slow, usual) = (|node| Action::Cpu(node, permille), |node| Action::Cpu(node, 1_000));
                self.each(who, at, until, slow, usual);
            }
            Fault::SlowDisk { who, factor, .. } => {
                let permille = permille(*factor);
                let (slow, usual) = (|node| Action::Disk(node, permille), |node| Action::Disk(node, 1_000));
                self.each(who, at, until, slow, usual);
            }
        }
    }

    /// Whether a `heal` comes after `at` and before `until`.
    fn is_healed_within(&self, at: Time, until: Time) -> bool {
        let heals = |fault: &Fault| matches!(fault, Fault::Heal { at_s } if (at..until).contains(&time(*at_s)));
        self.manifest.fault.iter().any(heals)
    }

    /// Does something to each of some nodes, and undoes it.
    fn each(
        &mut self,
        who: &Who,
        at: Time,
        until: Option<Time>,
        begin: impl Fn(u32) -> Action,
        end: impl Fn(u32) -> Action,
    ) {
        let members = self.members(who);
        for (node, _) in (0_u32..).zip(members.iter()).filter(|(_, inside)| **inside) {
            self.push(at, begin(node));
            if let Some(until) = until {
                self.push(until, end(node));
            }
        }
    }

    /// Kills nodes at regular intervals, each drawn from those that run, while the run lasts.
    fn churn(&mut self, (from, until): (Time, Time), percent_per_min: f64, down: Duration) {
        let every = churn_interval(self.manifest.nodes, percent_per_min);
        let until = until.min(time(total_s(self.manifest)));
        let mut running = Running::all(self.manifest.nodes);
        // All are down for the same time, so those that went first are back first.
        let mut down_until: VecDeque<(Time, u32)> = VecDeque::new();
        let mut at = from;
        while at < until {
            while let Some((_, node)) = down_until.front().copied().filter(|(back, _)| *back <= at) {
                down_until.pop_front();
                running.add(node);
            }
            // It may be that nobody is left to be killed.
            if let Some(node) = running.take_any(&mut self.stream) {
                self.push(at, Action::Kill(node));
                self.push(at + down, Action::Start(node));
                down_until.push_back((at + down, node));
            }
            at = at + every;
        }
    }

    /// Whether each node is meant.
    fn members(&mut self, who: &Who) -> Arc<[bool]> {
        let nodes = self.manifest.nodes as usize;
        match who {
            Who::All(_) => vec![true; nodes].into(),
            Who::Nodes(named) => {
                let mut members = vec![false; nodes];
                named.iter().for_each(|node| members[*node as usize] = true);
                members.into()
            }
            Who::Percent(share) => {
                let count = count_of(*share, self.manifest.nodes);
                let mut order: Vec<usize> = (0..nodes).collect();
                self.stream.shuffle(&mut order);
                let mut members = vec![false; nodes];
                order.iter().take(count as usize).for_each(|node| members[*node] = true);
                members.into()
            }
            Who::Regions(regions) => {
                (0..nodes).map(|node| regions.iter().any(|name| name == self.network.region_name(node))).collect()
            }
        }
    }

    fn push(&mut self, at: Time, action: Action) {
        self.all.push((at, action));
    }
}

/// Nodes that run, of which any can be drawn at the same cost however few they are.
struct Running {
    nodes: Vec<u32>,
    /// Where each node is in that list, if it runs.
    places: Vec<Option<usize>>,
}

impl Running {
    /// So often a node is drawn among all before it is drawn among those that run. *Rationale:* this is how it was always drawn, and
    /// runs are to stay the same; it takes too long where nearly all are down.
    const DRAWS_MAX: usize = 64;

    fn all(nodes: u32) -> Self {
        Self { nodes: (0..nodes).collect(), places: (0..nodes as usize).map(Some).collect() }
    }

    fn add(&mut self, node: u32) {
        self.places[node as usize] = Some(self.nodes.len());
        self.nodes.push(node);
    }

    fn take_any(&mut self, stream: &mut Stream) -> Option<u32> {
        if self.nodes.is_empty() {
            // Where nobody runs, this is noticed by drawing somebody.
            stream.index(self.places.len());
            return None;
        }
        let drawn = (0..Self::DRAWS_MAX).find_map(|_| self.places[stream.index(self.places.len())]);
        let place = drawn.unwrap_or_else(|| stream.index(self.nodes.len()));
        let node = self.nodes.swap_remove(place);
        self.places[node as usize] = None;
        if let Some(moved) = self.nodes.get(place) {
            self.places[*moved as usize] = Some(place);
        }
        Some(node)
    }
}

impl Manifest {
    /// How many actions its faults take at most, a list of nodes counted as those that take as much room.
    pub(crate) fn actions(&self) -> u64 {
        self.fault.iter().map(|fault| self.actions_of(fault)).fold(0, u64::saturating_add)
    }

    fn actions_of(&self, fault: &Fault) -> u64 {
        let nodes = u64::from(self.nodes);
        let list = 1 + nodes / size_of::<(Time, Action)>() as u64;
        let members = |who: &Who| match who {
            Who::All(_) | Who::Regions(_) => nodes,
            Who::Nodes(named) => nodes.min(named.len() as u64),
            Who::Percent(share) => whole(share / 100.0 * f64::from(self.nodes)).max(1),
        };
        let (at_s, for_s) = fault.when();
        match fault {
            Fault::Kill { who, .. }
            | Fault::Restart { who, .. }
            | Fault::Pause { who, .. }
            | Fault::Clock { who, .. }
            | Fault::SlowCpu { who, .. }
            | Fault::SlowDisk { who, .. } => members(who) * (1 + u64::from(for_s.is_some())),
            Fault::Partition { .. } => 1 + list,
            Fault::Heal { .. } => 1,
            Fault::Degrade { .. } => 1 + 2 * list,
            Fault::Churn { percent_per_min, .. } => {
                let length = duration((total_s(self) - at_s).min(for_s.unwrap_or(0.0)).max(0.0));
                2 * micros(length).div_ceil(micros(churn_interval(self.nodes, *percent_per_min)))
            }
        }
    }
}

/// Between two nodes that are killed by churn.
fn churn_interval(nodes: u32, percent_per_min: f64) -> Duration {
    let per_min = percent_per_min / 100.0 * f64::from(nodes);
    duration(60.0 / per_min).max(Duration::from_micros(1))
}

/// A number of seconds, which the checks have found to be one.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::from_micros(whole(seconds * 1e6))
}

pub(super) fn time(seconds: f64) -> Time {
    Time::ZERO + duration(seconds)
}

/// How many nodes a share of them is: at least one.
pub(super) fn count_of(percent: f64, nodes: u32) -> u32 {
    u32::try_from(whole(percent / 100.0 * f64::from(nodes))).unwrap_or(u32::MAX).clamp(1, nodes)
}

pub(super) fn ppm(percent: f64) -> u32 {
    u32::try_from(whole(percent * 1e4)).unwrap_or(u32::MAX)
}

pub(super) fn permille(factor: f64) -> u32 {
    u32::try_from(whole(factor * 1e3)).unwrap_or(u32::MAX)
}

/// The whole number next to one that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
pub(super) fn whole(number: f64) -> u64 {
    (number + 0.5) as u64
}
