//! Slots: wall time, as far as the protocol needs it.

use super::Node;
use crate::genesis::Genesis;
use crate::mesh::Sink;
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

    fn unix_us(&self, now: Time) -> Option<u64> {
        Some(self.unix_us_at_zero?.saturating_add(now.as_micros()))
    }
}

impl Node {
    /// Does what the beginning of a slot asks for.
    pub(super) fn act_on_slot<S: Sink<super::Output>>(&mut self, now: Time, _out: &mut S) {
        let Some(slot) = self.clock.enter(now, &self.genesis) else { return };
        self.mempool.expire(slot);
    }
}
