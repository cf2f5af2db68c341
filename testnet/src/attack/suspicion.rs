//! Who is suspected to be gone, rightly and wrongly, and what a fixed timeout would have made of the same arrivals.
//!
//! - *Ours*: an honest node takes another one out of its mesh for bringing nothing or for its score. Of one that has stopped for ever that
//!   is right, of any other it is a false suspicion, however slow it is.
//! - *Detection*: from the moment at which a node stops without a word, connections and all, until each node that had it in its mesh
//!   has it there no more; looked at every tenth of a second. What takes it into a mesh later is counted apart, from then on: of a newcomer more silence is borne. It is given twice: by the clock, and in the time for which the one who finds it
//!   ran meanwhile, because who stands still itself finds nothing.
//! - *The fixed timeout*: whoever has heard nothing from a peer of its mesh for so long suspects it. The timeout is the one that would have
//!   found the same crashes as late, at the 99th percentile, as ours: our 99th percentile itself. Both are counted in the time for which the one who
//!   listens ran: a timeout that counts what it slept through would be a worse one than need be. It suspects wrongly once for every longer
//!   silence on a link of a mesh between two nodes of which neither has stopped for ever. Who has left the mesh before the timeout was over was not
//!   suspected. Silences that began before the load, when nobody had anything to say, do not count.

use crate::measure::statistics::nearest_rank;
use crate::sim::World;
use crate::sim::faults::{Span, standstills};
use crate::sim::gaps::Gap;
use serde::{Deserialize, Serialize};
use starling_protocol::id::PeerHandle;
use starling_protocol::time::{Duration, Time, micros};
use std::collections::{BTreeMap, BTreeSet};

/// Who was suspected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// False suspicions of our own.
    pub ours: u64,
    /// Those of a fixed timeout on the same arrivals.
    pub fixed: u64,
    /// Links to nodes that stopped for ever.
    pub crashed: u64,
    /// Of these, how many were taken out of the mesh.
    pub found: u64,
    /// How long that took at the 99th percentile, in seconds for which the one who found it ran.
    pub found_p99_s: f64,
    /// The same by the clock.
    pub found_clock_p99_s: f64,
    /// Links to nodes that had stopped before, and were taken into a mesh all the same.
    pub again: u64,
    /// How long it took until they were out of it, at the 99th percentile, in seconds for which the one who found it ran.
    pub again_p99_s: f64,
}

/// Since when a link is in a mesh, and until when it was.
type Stay = (Time, Option<Time>);

/// What is watched.
#[derive(Debug)]
pub(super) struct Watch {
    /// Who stops for ever when.
    crashes: BTreeMap<u32, Time>,
    /// By observer and handle: since when it is in the mesh, and until when it was. The last stay counts.
    stays: BTreeMap<(u32, PeerHandle), (u32, Stay)>,
    /// Links to nodes that have stopped and are still in a mesh, and since when.
    waiting: BTreeMap<(u32, PeerHandle), Time>,
    counted: BTreeSet<u32>,
    found_us: Vec<u64>,
    found_clock_us: Vec<u64>,
    /// Links to nodes that had stopped before they came into a mesh, and since when they are in it.
    waiting_again: BTreeMap<(u32, PeerHandle), Time>,
    again_us: Vec<u64>,
    /// When nodes stand still.
    standstills: Vec<Span>,
}

impl Watch {
    pub(super) fn new(crashes: &[(u32, Time)], world: &mut World) -> Self {
        world.listen_for_gaps();
        Self {
            crashes: crashes.iter().copied().collect(),
            stays: BTreeMap::new(),
            waiting: BTreeMap::new(),
            counted: BTreeSet::new(),
            found_us: Vec::new(),
            found_clock_us: Vec::new(),
            waiting_again: BTreeMap::new(),
            again_us: Vec::new(),
            standstills: standstills(&world.scenario().faults),
        }
    }

    fn has_crashed(&self, node: u32, at: Time) -> bool {
        self.crashes.get(&node).is_some_and(|crash| *crash <= at)
    }

    pub(super) fn at(&mut self, world: &World, now: Time) {
        let mut present = BTreeSet::new();
        for (number, node) in world.running() {
            if self.has_crashed(number, now) {
                continue;
            }
            for peer in node.mesh().mesh_peers(node.genesis().transaction_topic()) {
                let Some(far) = world.connections(number).find(|(handle, _)| handle == peer).map(|(_, far)| far) else {
                    continue;
                };
                present.insert((number, *peer));
                let entry = self.stays.entry((number, *peer)).or_insert((far, (now, None)));
                if entry.1.1.is_some() {
                    entry.1 = (now, None);
                }
            }
        }
        for (link, (far, stay)) in &mut self.stays {
            let crash = self.crashes.get(far).filter(|crash| **crash <= now);
            if present.contains(link) {
                match crash {
                    Some(crash) if !self.counted.contains(far) => drop(self.waiting.insert(*link, *crash)),
                    // Who takes a node into its mesh that has stopped, again or for the first time, has that to find.
                    Some(crash) if stay.0 > *crash => drop(self.waiting_again.insert(*link, stay.0)),
                    Some(_) | None => {}
                }
            } else if stay.1.is_none() {
                stay.1 = Some(now);
                // Who has stopped itself has found nothing, and will not.
                if self.crashes.get(&link.0).is_some_and(|crash| *crash <= now) {
                    self.waiting.remove(link);
                    self.waiting_again.remove(link);
                } else if let Some(since) = self.waiting_again.remove(link) {
                    let stood = stood_us(&self.standstills, link.0, since, now);
                    self.again_us.push(micros(now.since(since)) - stood);
                } else if let Some(crash) = self.waiting.remove(link) {
                    let clock_us = micros(now.since(crash));
                    let stood = stood_us(&self.standstills, link.0, crash, now);
                    self.found_clock_us.push(clock_us);
                    self.found_us.push(clock_us - stood);
                }
            }
        }
        let crashed = self.crashes.iter().filter(|(_, crash)| **crash <= now);
        self.counted.extend(crashed.map(|(node, _)| *node));
    }

    pub(super) fn finish(mut self, world: &World) -> Suspicion {
        self.found_us.sort_unstable();
        self.found_clock_us.sort_unstable();
        // Who was not found by the end has not been for so long at least.
        let (end, waiting) = (world.now(), core::mem::take(&mut self.waiting_again));
        let not_found = waiting
            .iter()
            .map(|((finder, _), since)| micros(end.since(*since)) - stood_us(&self.standstills, *finder, *since, end));
        self.again_us.extend(not_found);
        self.again_us.sort_unstable();
        let p99 = |us: &[u64]| Duration::from_micros(nearest_rank(us, 99).unwrap_or(0));
        let timeout = p99(&self.found_us);
        let load_start = Time::ZERO + world.scenario().warm_up;
        let slept = |gap: &Gap| Duration::from_micros(stood_us(&self.standstills, gap.node, gap.from, gap.until));
        let long = |gap: &Gap| gap.from >= load_start && gap.until.since(gap.from) > timeout + slept(gap);
        let fixed = world.gaps().filter(long).filter(|gap| {
            let stay = self.stays.get(&(gap.node, gap.peer));
            // Who was out of the mesh before the timeout was over was not suspected.
            let stayed = stay.is_some_and(|(_, (since, left))| {
                *since <= gap.from && left.is_none_or(|left| gap.from + timeout + slept(gap) <= left)
            });
            let far = stay.map_or(u32::MAX, |(far, _)| *far);
            stayed && !self.has_crashed(far, gap.until) && !self.has_crashed(gap.node, gap.until)
        });
        let ours = world.observer().prunes.iter();
        Suspicion {
            ours: ours.filter(|(at, _, far)| !self.has_crashed(*far, *at)).count() as u64,
            fixed: fixed.count() as u64,
            crashed: (self.found_us.len() + self.waiting.len()) as u64,
            found: self.found_us.len() as u64,
            found_p99_s: p99(&self.found_us).as_secs_f64(),
            found_clock_p99_s: p99(&self.found_clock_us).as_secs_f64(),
            again: self.again_us.len() as u64,
            again_p99_s: p99(&self.again_us).as_secs_f64(),
        }
    }
}

/// For how long a node stood still between two moments. That it does for ever does not count: then it finds nothing.
fn stood_us(standstills: &[Span], node: u32, from: Time, until: Time) -> u64 {
    let own = standstills.iter().filter(|(still, ..)| *still == node);
    let ended = own.filter_map(|(_, begin, end)| Some((*begin, (*end)?)));
    ended.map(|(begin, end)| micros(end.min(until).since(begin.max(from)))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::faults::Action;

    #[test]
    fn what_a_finder_stood_still_is_taken_off() {
        let at = Time::from_secs;
        let faults = [
            (at(1), Action::Pause(7)),
            (at(2), Action::Pause(8)),
            (at(4), Action::Resume(7)),
            (at(6), Action::Pause(7)),
        ];
        let standstills = standstills(&faults);
        let stood_s = |from, until| stood_us(&standstills, 7, at(from), at(until)) / 1_000_000;
        assert_eq!((stood_s(0, 9), stood_s(2, 3), stood_s(3, 9), stood_s(4, 9), stood_s(0, 1)), (3, 1, 1, 0, 0));
        assert_eq!(stood_us(&standstills, 8, at(0), at(9)), 0, "it never goes on");
    }
}
