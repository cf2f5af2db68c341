//! Slots: wall time, as far as the protocol needs it.

use super::Node;
use super::io::{Event, Output};
use crate::block::Block;
use crate::chain::Template;
use crate::genesis::Genesis;
use crate::mesh::{self, Sink};
use crate::message::Payload;
use crate::time::Time;

/// Turns the driver's monotonic time into slots of the network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotClock {
    /// Unix time in microseconds at [`Time::ZERO`].
    unix_us_at_zero: Option<u64>,
    /// The last slot that was acted upon.
    acted: Option<u64>,
}

impl SlotClock {
    pub(super) fn set(&mut self, unix_us_at_zero: u64) {
        self.unix_us_at_zero = Some(unix_us_at_zero);
    }

    /// The slot at this moment; none before the network starts or while the wall clock is unknown.
    pub(super) fn slot(&self, now: Time, genesis: &Genesis) -> Option<u64> {
        genesis.slot_at(self.unix_us(now)?)
    }

    /// The moment when this slot begins; [`Time::ZERO`] if that was before the driver's epoch.
    pub(super) fn start_of(&self, slot: u64, genesis: &Genesis) -> Option<Time> {
        Some(Time::from_micros(genesis.slot_start(slot).saturating_sub(self.unix_us_at_zero?)))
    }

    /// When the next slot that was not acted upon begins.
    pub(super) fn next_slot(&self, genesis: &Genesis) -> Option<Time> {
        self.start_of(self.acted.map_or(0, |slot| slot.saturating_add(1)), genesis)
    }

    /// The slot, if it has not been acted upon; it counts as acted upon from now on. A wall clock that was set back makes no
    /// slot come twice.
    fn enter(&mut self, now: Time, genesis: &Genesis) -> Option<u64> {
        let slot = self.slot(now, genesis)?;
        if self.acted.is_some_and(|acted| slot <= acted) {
            return None;
        }
        self.acted = Some(slot);
        Some(slot)
    }

    /// Unix time in microseconds; none while the wall clock is unknown.
    pub(super) fn unix_us(&self, now: Time) -> Option<u64> {
        Some(self.unix_us_at_zero?.saturating_add(now.as_micros()))
    }
}

impl Node {
    /// Does what the beginning of a slot asks for.
    pub(super) fn act_on_slot(&mut self, now: Time, out: &mut impl Sink<Output>) {
        let first = self.clock.acted.is_none();
        let Some(slot) = self.clock.enter(now, &self.genesis) else { return };
        self.mempool.expire(slot);
        // A producer that restarts within its slot may have signed a block for it that was lost with the disk's cache. A second
        // one would be equivocation, so only slots that begin while we run are ours.
        if !first {
            self.produce(now, slot, out);
        }
    }

    fn produce(&mut self, now: Time, slot: u64, out: &mut impl Sink<Output>) {
        let Some(key) = &self.producer else { return };
        if *self.genesis.producer_of(slot) != key.public_key() {
            return;
        }
        let Some(template) = self.chain.produce_candidate(slot, &self.mempool) else { return };
        let Template { slot, height, parent, transactions } = template;
        let count = transactions.len();
        let block = Block::produce(&self.genesis, key, (slot, height, parent), transactions)
            .expect("it is our turn, and the chain keeps to the limits of the genesis");
        let payload = Payload::new(self.genesis.block_topic(), block.bytes());
        let transactions = u32::try_from(count).unwrap_or(u32::MAX);
        out.emit(Output::Event(Event::Produced { id: block.id(), height, slot, transactions }));
        self.mesh_input(now, mesh::Input::Publish { payload }, out);
        self.insert_own_block(now, block, out);
    }
}
