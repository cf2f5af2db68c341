//! A node that has seen nothing of its network for a while suspects that it is cut off.
//!
//! # Rules
//! 1. *News* is a block of others that was accepted, and every block that was fetched. Our own blocks are none: whoever is cut off goes on making
//!    them. A transaction of others is news only while the chain has no block: afterwards there should be more, and anybody can make
//!    transactions.
//! 2. After [`NodeConfig::suspect_after_slots`] slots, but at least [`PATIENCE_MIN`], without news the node looks for
//!    peers at once, dials its bootnodes whatever failed before, asks all connected peers how they stand, and says so
//!    ([`Event::CutOff`]). It does so again after twice as long, and so on up to [`DOUBLINGS_MAX`] times; news end it.
//! 3. Nothing is suspected before the network starts, nor by the only producer of a network, who has nobody to hear from.
//!
//! *Rationale:* an attacker that surrounds a node, and a network that was cut, look like a quiet network from inside.
//! Blocks come every few slots, so silence is the one sign that cannot be faked away: to break it the attacker would have to
//! pass on the honest chain.

use super::Node;
use super::io::{Event, Output};
use crate::chain::Moment;
use crate::mesh::Sink;
use crate::time::{Duration, Time};

#[cfg(doc)]
use super::NodeConfig;

/// With short slots a few of them are no time at all. A guess: longer than a new connection takes to be of use.
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// How often the time between two looks doubles at most.
const DOUBLINGS_MAX: u32 = 4;

/// Since when nothing was seen, and what was done about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    last_news: Time,
    /// When to look next.
    look_at: Time,
    /// How often we have looked since the last news.
    looks: u32,
}

impl Silence {
    pub(super) fn new(now: Time, patience: Duration) -> Self {
        Self { last_news: now, look_at: now + patience, looks: 0 }
    }

    pub(super) fn next_wake(&self) -> Time {
        self.look_at
    }
}

impl Node {
    /// For how many slots nothing has been seen of the network, if that makes us suspect that we are cut off.
    #[must_use]
    pub fn silent_slots(&self, now: Time) -> Option<u64> {
        let silent = crate::time::micros(now.since(self.silence.last_news));
        (self.silence.looks > 0).then(|| silent / self.genesis.slot_us())
    }

    /// Something of the network was seen.
    pub(super) fn news(&mut self, now: Time) {
        self.silence = Silence::new(now, self.patience());
    }

    /// Looks for the network if it has been silent for too long.
    pub(super) fn act_on_silence(&mut self, now: Time, out: &mut impl Sink<Output>) {
        if self.silence.look_at > now {
            return;
        }
        let alone = self.genesis.producers().len() == 1 && self.producer.is_some();
        if alone || self.slot(now).is_none() {
            return self.news(now);
        }
        let pause = self.patience() * (1 << self.silence.looks.min(DOUBLINGS_MAX));
        self.silence.looks += 1;
        self.silence.look_at = now + pause;
        self.peers.look_now(now);
        let (mut effects, at): (_, Moment) = (Vec::new(), self.moment(now));
        self.chain.ask_all(at, &mut effects);
        self.chain_effects(now, effects, out);
        let slots = self.silent_slots(now).unwrap_or(0);
        out.emit(Output::Event(Event::CutOff { slots, peers: self.peers.stats().connected }));
    }

    fn patience(&self) -> Duration {
        patience(self.config.suspect_after_slots, self.genesis.slot_us())
    }
}

/// How long a node hears nothing before it suspects anything.
pub(super) fn patience(slots: u64, slot_us: u64) -> Duration {
    Duration::from_micros(slots.saturating_mul(slot_us)).max(PATIENCE_MIN)
}
