//! Slots: wall time, as far as the protocol needs it.

use super::Node;
use super::io::Output;
use crate::genesis::Genesis;
use crate::mesh::Sink;
use crate::time::Time;

/// Turns the driver's monotonic time into slots of the network, and says when one begins.
///
/// # Rules
/// 1. A slot is *entered* at most once, in rising order: a wall clock that is set back makes no slot come twice.
/// 2. A slot that we find ourselves in the middle of, at the start or because the wall clock was set, is not entered at
///    all. *Rationale:* a producer acts on the slots it enters. In a slot that began without us, or that an earlier
///    clock or an earlier life of ours may have seen already, it may have signed a block that was lost since; a second
///    one would be equivocation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotClock {
    /// Unix time in microseconds at [`Time::ZERO`].
    unix_us_at_zero: Option<u64>,
    /// The last slot that was entered or passed over.
    last: Option<u64>,
}

impl SlotClock {
    /// Sets the wall clock and passes over the present slot; returns it if it was not known before.
    fn set(&mut self, now: Time, unix_us_at_zero: u64, genesis: &Genesis) -> Option<u64> {
        self.unix_us_at_zero = Some(unix_us_at_zero);
        self.enter(now, genesis)
    }

    /// The slot at this moment; none before the network starts or while the wall clock is unknown.
    pub(super) fn slot(&self, now: Time, genesis: &Genesis) -> Option<u64> {
        genesis.slot_at(self.unix_us(now)?)
    }

    /// When the next slot to be entered begins; none while the wall clock is unknown, or when time ends before.
    pub(super) fn next_slot(&self, genesis: &Genesis) -> Option<Time> {
        let next = self.last.map_or(Some(0), |slot| slot.checked_add(1))?;
        // The start of a slot beyond the end of time saturates there.
        let start = Some(genesis.slot_start(next)).filter(|start| *start < u64::MAX)?;
        Some(Time::from_micros(start.saturating_sub(self.unix_us_at_zero?)))
    }

    /// The present slot, if it is later than every one before.
    fn enter(&mut self, now: Time, genesis: &Genesis) -> Option<u64> {
        let slot = self.slot(now, genesis)?;
        if self.last.is_some_and(|last| slot <= last) {
            return None;
        }
        self.last = Some(slot);
        Some(slot)
    }

    /// Unix time in microseconds; none while the wall clock is unknown.
    pub(super) fn unix_us(&self, now: Time) -> Option<u64> {
        Some(self.unix_us_at_zero?.saturating_add(now.as_micros()))
    }
}

impl Node {
    pub(super) fn set_wall_clock(&mut self, now: Time, unix_us_at_zero: u64) {
        if let Some(slot) = self.clock.set(now, unix_us_at_zero, &self.genesis) {
            self.turns.begin(slot);
            self.mempool.expire(slot);
        }
    }

    /// Does what the beginning of a slot asks for.
    pub(super) fn act_on_slot(&mut self, now: Time, out: &mut impl Sink<Output>) {
        if let Some(slot) = self.clock.enter(now, &self.genesis) {
            self.mempool.expire(slot);
            self.produce(now, slot, out);
            self.repeat_transactions(now, slot, out);
            self.restore_more(now, out);
        }
    }
}
