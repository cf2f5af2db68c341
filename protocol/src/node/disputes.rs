//! By which blocks peers of the mesh are tried ([`crate::mesh::trial`]), and by which not, because honest nodes may differ about them.
//!
//! # Rules
//!
//! - A block tries peers if it is news, which is to be of the present slot or the one before or no older than [`NEWS`]; if it is the only one of its
//!   slot; and if it follows on a canonical block, or on one by which they are tried and whose body is being verified. *Rationale:* others had an older one before, so they do not bring it; whether a block follows is known only to who has its parent; and whether the
//!   nonces of a block on a fork are right, only to who has adopted it. Whoever sends a node old blocks, or has a producer's key, could have it take honest peers for useless.
//! - A transaction tries nobody if it is in the chain and its block is no news, or if it expires within that time. *Rationale:* others had it before, or will
//!   refuse it. Who is surrounded by peers that bring nothing has transactions late, when the next block has them already: by these it has to try them.
//! - When its producer turns out to have signed twice for the slot, trials by it end without a verdict. *Rationale:* two blocks of a slot are passed on
//!   and further ones are not, so nodes that have seen others do not bring it.
//!
//! # Limits
//! While a node catches up, and on a fork, nobody is tried by blocks. The producer of a slot can see to it that nobody is tried by its blocks.

use super::Node;
use super::io::Output;
use crate::block::Header;
use crate::chain::Position;
use crate::id::{BlockId, MessageId};
use crate::mesh::{self, Sink, Verdict};
use crate::time::{Duration, Time};
use crate::transaction::Transaction;
use std::collections::VecDeque;

/// For so long something is new. A guess: longer than a large block takes across the world, however many slots that is.
const NEWS: Duration = Duration::from_secs(2);

/// So many blocks are remembered, of which each is the only one of its slot: as many as there are slots of 100 ms in the time in which they try anybody and a trial.
const TRYING_MAX: usize = 32;

/// The last blocks by which peers are tried, the latest first.
#[derive(Debug, Default)]
pub(super) struct Disputes {
    trying: VecDeque<(Position, MessageId)>,
}

impl Disputes {
    fn insert(&mut self, block: Position, message: MessageId) {
        self.trying.truncate(TRYING_MAX - 1);
        self.trying.push_front((block, message));
    }

    fn find(&self, id: &BlockId) -> Option<Position> {
        self.trying.iter().map(|(block, _)| *block).find(|block| block.id == *id)
    }

    /// The block of this slot by which peers are tried, which they are no more.
    fn take(&mut self, slot: u64) -> Option<MessageId> {
        let place = self.trying.iter().position(|(block, _)| block.slot == slot)?;
        self.trying.remove(place).map(|(_, message)| message)
    }
}

impl Node {
    /// The verdict on a block that is to be passed on.
    pub(super) fn pass_on(&mut self, now: Time, header: &Header, message: MessageId) -> Verdict {
        let parent = self.disputes.find(&header.parent).filter(|parent| self.chain.block(&parent.id).is_none());
        let follows = parent.is_some_and(|parent| header.height == parent.height + 1 && header.slot > parent.slot);
        if self.is_news(now, header.slot)
            && !self.chain.has_two(header.slot)
            && (follows || self.chain.is_canonical(&header.parent))
        {
            let block = Position { id: header.id(), height: header.height, slot: header.slot };
            self.disputes.insert(block, message);
            Verdict::Accept
        } else {
            Verdict::AcceptWithoutTrial
        }
    }

    /// The verdict on a transaction that is in the chain, if it is.
    pub(super) fn verdict_if_included(&self, now: Time, transaction: &Transaction) -> Option<Verdict> {
        let slot = self.chain.includes(self.moment(now), transaction)?;
        Some(if self.is_news(now, slot) { Verdict::Accept } else { Verdict::AcceptWithoutTrial })
    }

    fn is_news(&self, now: Time, slot: u64) -> bool {
        let slots = (crate::time::micros(NEWS) / self.genesis.slot_us()).max(1);
        slot.saturating_add(slots) >= self.moment(now).slot
    }

    /// Whether a transaction will have expired by the time at which it has been everywhere.
    pub(super) fn expires_soon(&self, now: Time, transaction: &Transaction) -> bool {
        let soon_us = self.clock.unix_us(now).map(|unix_us| unix_us.saturating_add(crate::time::micros(NEWS)));
        soon_us.and_then(|unix_us| self.genesis.slot_at(unix_us)).is_none_or(|slot| transaction.expiry_slot() < slot)
    }

    /// The producer of a slot has signed twice for it.
    pub(super) fn dispute(&mut self, now: Time, slot: u64, out: &mut impl Sink<Output>) {
        if let Some(id) = self.disputes.take(slot) {
            self.mesh_input(now, mesh::Input::Disputed { id }, out);
        }
    }
}
