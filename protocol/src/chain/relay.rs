//! What may be relayed, and what is remembered of producers' faults.

use super::Chain;
use super::io::{Effect, Event, IgnoreReason, Invalid, Misplaced, Moment, Position, Relay};
use crate::block::{Header, SignedHeader};
use crate::id::BlockId;
use crate::mesh::Sink;
use std::collections::{BTreeMap, BTreeSet};

/// For how many slots headers are kept as possible evidence. Above the window in which blocks are relayed, so that the
/// bound only matters for blocks that were fetched.
const HEADER_SLOTS_MAX: usize = 1_024;
/// How many invalid blocks are remembered. One that is forgotten is found invalid again.
const INVALID_BLOCKS_MAX: usize = 1_024;

impl Chain {
    /// Judges a block by its header before its signature is verified. [`Header::check`] must have passed.
    #[must_use]
    pub fn precheck_relay(&self, at: Moment, header: &Header) -> Relay {
        let (slot, id) = (header.slot, header.id());
        if slot > at.slot_ahead {
            return Relay::Ignore(IgnoreReason::Early { slot });
        }
        if self.invalid.contains(&id) || self.invalid.contains(&header.parent) {
            return Relay::Ignore(IgnoreReason::Invalid);
        }
        if slot <= self.tree.root().slot || slot.saturating_add(self.config.relay_slots_max) < at.slot {
            return Relay::Ignore(IgnoreReason::Late { slot });
        }
        if self.headers.is_third(slot, &id) {
            return Relay::Ignore(IgnoreReason::Third { slot });
        }
        Relay::Accept
    }

    /// Judges a block by its header after its signature was verified, and remembers the header. On [`Relay::Accept`]
    /// the block should be relayed, its body verified, and the result given to [`Chain::insert_block`].
    ///
    /// That height and slot do not follow on the parent's is held against the block only now: whoever wants it to be ignored at no risk has to
    /// have its producer's signature.
    pub fn check_relay(&mut self, at: Moment, header: &SignedHeader, out: &mut impl Sink<Effect>) -> Relay {
        let relay = self.precheck_relay(at, &header.header);
        if relay != Relay::Accept {
            return relay;
        }
        if self.headers.is_signed_again(header) {
            out.emit(Effect::Disputed { slot: header.header.slot });
            return Relay::Ignore(IgnoreReason::SignedAgain { slot: header.header.slot });
        }
        self.record_header(header, true, out);
        let position = Position { id: header.header.id(), height: header.header.height, slot: header.header.slot };
        if let Err(reason) = self.header_follows(&header.header) {
            self.mark_invalid(&position, Invalid::Position(reason), out);
            return Relay::Ignore(IgnoreReason::Invalid);
        }
        if self.tree.position(&position.id).is_none() && !self.orphans.contains(&position.id) {
            self.fetch.body_awaited(at, position.id);
        }
        relay
    }

    /// Whether two blocks are known for a slot, so that there may be others.
    #[must_use]
    pub fn has_two(&self, slot: u64) -> bool {
        self.headers.has_two(slot)
    }

    /// Whether height and slot follow on the parent's, if the parent is known.
    pub(super) fn header_follows(&self, header: &Header) -> Result<(), Misplaced> {
        let Some(parent) = self.tree.position(&header.parent) else { return Ok(()) };
        let (height, slot) = (header.height, header.slot);
        if parent.height.checked_add(1) != Some(height) {
            Err(Misplaced::Height { height, parent: parent.height })
        } else if slot <= parent.slot {
            Err(Misplaced::Slot { slot, parent: parent.slot })
        } else {
            Ok(())
        }
    }

    /// Keeps a header whose signature is valid as possible evidence; says whether it came to be passed on, or was fetched.
    pub(super) fn record_header(&mut self, header: &SignedHeader, passed_on: bool, out: &mut dyn Sink<Effect>) {
        if let Some(first) = self.headers.record(header, passed_on) {
            out.emit(Effect::Disputed { slot: header.header.slot });
            out.emit(Effect::Event(Event::Equivocation { headers: Box::new([first, *header]) }));
        }
    }
}

/// At most two signed headers a slot, which is at most two a slot's producer.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers {
    by_slot: BTreeMap<u64, (Kept, Option<Kept>)>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    signed: SignedHeader,
    /// Whether the block was passed on with this signature.
    passed_on: bool,
}

impl Headers {
    /// Keeps a header. If it is the second of its slot, returns the first.
    fn record(&mut self, header: &SignedHeader, passed_on: bool) -> Option<SignedHeader> {
        let slot = header.header.slot;
        let kept = Kept { signed: *header, passed_on };
        let evidence = match self.by_slot.get_mut(&slot) {
            None => {
                self.by_slot.insert(slot, (kept, None));
                None
            }
            Some((first, second)) => {
                let is_it = |known: &&mut Kept| known.signed.header == header.header;
                let known = [Some(&mut *first), second.as_mut()].into_iter().flatten().find(is_it);
                if let Some(known) = known {
                    if passed_on && !known.passed_on {
                        *known = kept;
                    }
                    None
                } else if second.is_none() {
                    *second = Some(kept);
                    Some(first.signed)
                } else {
                    None
                }
            }
        };
        if self.by_slot.len() > HEADER_SLOTS_MAX {
            self.by_slot.pop_first();
        }
        evidence
    }

    fn is_third(&self, slot: u64, id: &BlockId) -> bool {
        match self.by_slot.get(&slot) {
            Some((first, Some(second))) => [first, second].iter().all(|known| known.signed.header.id() != *id),
            _ => false,
        }
    }

    pub(super) fn has(&self, slot: u64) -> bool {
        self.by_slot.contains_key(&slot)
    }

    /// Whether this block was passed on with another signature, of which a producer can make as many as it likes.
    fn is_signed_again(&self, header: &SignedHeader) -> bool {
        let is_it = |known: &Kept| {
            known.passed_on && known.signed.header == header.header && known.signed.signature != header.signature
        };
        self.of(header.header.slot).any(is_it)
    }

    fn of(&self, slot: u64) -> impl Iterator<Item = &Kept> {
        self.by_slot.get(&slot).into_iter().flat_map(|(first, second)| [Some(first), second.as_ref()]).flatten()
    }

    fn has_two(&self, slot: u64) -> bool {
        matches!(self.by_slot.get(&slot), Some((_, Some(_))))
    }

    pub(super) fn forget_up_to(&mut self, slot: u64) {
        while self.by_slot.first_key_value().is_some_and(|(first, _)| *first <= slot) {
            self.by_slot.pop_first();
        }
    }

    pub(super) fn check(&self) {
        assert!(self.by_slot.len() <= HEADER_SLOTS_MAX, "too many headers");
    }
}

/// Blocks that are invalid whoever sends them, with their slots. Those of the lowest slots are forgotten first.
#[derive(Clone, Debug, Default)]
pub(super) struct InvalidBlocks {
    slots: BTreeMap<BlockId, u64>,
    by_slot: BTreeSet<(u64, BlockId)>,
}

impl InvalidBlocks {
    pub(super) fn contains(&self, id: &BlockId) -> bool {
        self.slots.contains_key(id)
    }

    pub(super) fn insert(&mut self, id: BlockId, slot: u64) {
        self.slots.insert(id, slot);
        self.by_slot.insert((slot, id));
        if self.slots.len() > INVALID_BLOCKS_MAX
            && let Some((_, lowest)) = self.by_slot.pop_first()
        {
            self.slots.remove(&lowest);
        }
    }

    pub(super) fn forget_up_to(&mut self, slot: u64) {
        while let Some((first, id)) = self.by_slot.first().copied()
            && first <= slot
        {
            self.by_slot.pop_first();
            self.slots.remove(&id);
        }
    }

    pub(super) fn check(&self) {
        assert!(self.slots.len() <= INVALID_BLOCKS_MAX, "too many invalid blocks");
        assert_eq!(self.slots.len(), self.by_slot.len(), "the index of invalid blocks");
    }
}
