//! What happens regularly (gossipsub v1.0 "Heartbeat procedure"; v1.1 and v1.2 add to it).
//!
//! In order: scores decay; budgets are renewed; graylisted peers go; each mesh is maintained
//! (see [`super::upkeep`]); fanouts are maintained; recent messages are announced; the message cache's window moves on.
//!
//! **Self-health.** A heartbeat that is more than half an interval late says that we were starved of the processor, and
//! that what looks like others' silence is ours. Deficits and broken promises are then suspended for two intervals (the
//! idea of Lifeguard, arXiv 1707.00788), and the validations under way get the time back that we lost: their verdicts may be there and
//! merely unread. *Rationale:* a message whose validation runs out of time counts as seen and is never asked for
//! again, so a pause of the process would lose it for good. A late heartbeat is not made up for: the next is due one
//! interval later. The same is suspended when many peers turn bad at once ([`super::health`]).
//!
//! **Slow peers.** A peer whose send queue overflows in `slow_ticks_max` heartbeats in a row leaves our meshes, without a
//! penalty: it cannot keep up, and messages that rot in its queue are better pulled by it from elsewhere.

use super::Mesh;
use super::io::{Event, Output, PruneReason, Sink};
use super::peers::Budget;
use super::topic::TopicIndex;
use crate::id::PeerHandle;
use crate::time::{Duration, Time, micros};

impl Mesh {
    pub(super) fn heartbeat(&mut self, now: Time, out: &mut impl Sink<Output>) {
        self.beat.ticks += 1;
        self.counters.heartbeats += 1;
        self.schedule_next(now);
        self.scores.decay(now);
        self.tell_gater();
        self.gater.decay(now);
        self.backoffs.expire(now);
        self.seen.expire(now);
        self.recent.expire(self.beat.ticks);
        self.charge_promises(now);
        self.renew_budgets(now, out);
        self.close_graylisted(now, out);
        for topic in self.topics.iter() {
            if self.states[topic.index()].joined {
                self.maintain_mesh(now, topic, out);
                let degree = u32::try_from(self.states[topic.index()].mesh.len()).unwrap_or(u32::MAX);
                out.emit(Output::Event(Event::MeshDegree { topic: self.topics.name(topic).clone(), degree }));
            } else {
                self.maintain_fanout(now, topic);
            }
        }
        self.announce(out);
        self.cache.shift();
    }

    /// Sets the next heartbeat and notices when this one is late.
    fn schedule_next(&mut self, now: Time) {
        let interval = self.config.heartbeat.interval;
        let lateness = now.since(self.beat.next);
        let is_late = lateness > interval / 2;
        self.beat.late_by = [if is_late { lateness } else { Duration::ZERO }, self.beat.late_by[0]];
        if is_late {
            self.counters.heartbeats_late += 1;
            self.scores.suspend_deficits(now + interval * 2);
            self.pending.postpone(lateness, now + self.config.relay.validation_timeout);
        }
        if self.beat.ticks == 1 {
            // Nodes that were started together come apart here.
            let half_us = micros(interval) / 2;
            let delay_us = half_us + self.random.phase.below(half_us.max(1));
            self.beat.next = now + Duration::from_micros(delay_us);
            return;
        }
        let regular = self.beat.next + interval;
        self.beat.next = if regular > now { regular } else { now + interval };
    }

    /// Charges the promises that were broken since the last heartbeat, unless so many peers turned bad at once that the fault is likely ours.
    fn charge_promises(&mut self, now: Time) {
        if self.health.beat(now, self.peers.len()) {
            self.counters.doubts += 1;
            self.scores.suspend_deficits(now + self.config.heartbeat.interval * 2);
        }
        for (peer, count) in self.health.take_broken() {
            self.scores.broken_promises(now, peer, count);
        }
    }

    /// Gives every peer its budgets anew, and takes the persistently slow ones out of the mesh.
    fn renew_budgets(&mut self, now: Time, out: &mut impl Sink<Output>) {
        let slow_ticks_max = self.config.relay.slow_ticks_max;
        let asked_max = self.config.gossip.iwant_ids_max.max(1);
        // In a long heartbeat of ours a peer has had several, and what it asked for meanwhile is read in this one or the next. That many peers
        // turn bad at once excuses nobody who asks too much.
        let late_us = micros(self.beat.late_by[0].max(self.beat.late_by[1]));
        let more = u64::from(asked_max).saturating_mul(late_us) / micros(self.config.heartbeat.interval).max(1);
        let borne = asked_max.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        let mut slow = Vec::new();
        for slot in self.peers.iter_mut() {
            slot.slow_ticks = if core::mem::take(&mut slot.overflowed) { slot.slow_ticks.saturating_add(1) } else { 0 };
            if slot.slow_ticks >= slow_ticks_max {
                slot.slow_ticks = 0;
                slow.extend(slot.mesh.iter().map(|topic| (topic, slot.handle)));
            }
            let Budget { iwant_ids, .. } = core::mem::take(&mut slot.budget);
            let penalties = iwant_ids.saturating_sub(borne) / asked_max;
            if penalties > 0 {
                self.scores.penalize(slot.handle, penalties);
            }
        }
        for (topic, peer) in slow {
            self.prune(now, topic, peer, PruneReason::Slow, out);
        }
    }

    fn close_graylisted(&mut self, now: Time, out: &mut impl Sink<Output>) {
        // Closing one changes nothing about whether another one is graylisted.
        let graylisted = self.peers.iter().filter(|slot| !slot.closing && self.is_graylisted(slot));
        let peers: Vec<PeerHandle> = graylisted.map(|slot| slot.handle).collect();
        for peer in peers {
            self.close_if_graylisted(now, peer, out);
        }
    }

    /// Forgets the fanout some time after the last publication; until then, keeps it at D peers of sufficient score.
    fn maintain_fanout(&mut self, now: Time, topic: TopicIndex) {
        let Some(published) = self.states[topic.index()].fanout.as_ref().map(|fanout| fanout.published) else { return };
        if now.since(published) > self.config.relay.fanout_ttl {
            self.states[topic.index()].fanout = None;
            return;
        }
        let mut candidates = self.flood_candidates(topic);
        candidates.retain(|peer| self.peers.get(*peer).is_some_and(|slot| !slot.direct));
        let Some(fanout) = &mut self.states[topic.index()].fanout else { return };
        fanout.peers.retain(|peer| candidates.contains(peer));
        candidates.retain(|peer| !fanout.peers.contains(peer));
        let missing = self.config.degree.target.saturating_sub(fanout.peers.len());
        self.random.publish.sample(&mut candidates, missing);
        fanout.peers.extend(candidates);
        fanout.peers.sort_unstable();
    }

    /// Announces recent messages, on joined topics outside the mesh and on others outside the fanout.
    fn announce(&mut self, out: &mut impl Sink<Output>) {
        for topic in self.topics.iter() {
            let state = &self.states[topic.index()];
            if state.joined || state.fanout.is_some() {
                self.emit_gossip(topic, out);
            }
        }
    }
}
