//! The producer's turns: at most one block for each, whatever happens to the process or the clock.
//!
//! # Rules
//! 1. A block is signed only for a slot that is *recorded*: the disk has confirmed [`StoreOp::SetSigned`] with this slot
//!    or a later one in this life. *Rationale:* two blocks for one slot are proof of misbehaviour that nobody can tell
//!    from malice, and what a process remembers does not survive it.
//! 2. A slot up to which an earlier life has recorded is never signed for again, even where that life made no block.
//! 3. While a slot lasts, the next one is recorded if it is our turn. If it is not on the disk when its slot begins, the
//!    block is made as soon as it is, or not at all when the slot has passed: a block that comes after its slot only
//!    makes others undo theirs.
//! 4. While blocks that a peer claims to have are being fetched, at most [`TURNS_LEFT_OUT_MAX`] turns are left out. They count anew only
//!    when blocks that were fetched have moved the head, and one is forgotten every [`TURN_FORGOTTEN_SLOTS`] slots. *Rationale:* a producer that has just started would build on what
//!    the others have left behind; peers that lie must not keep it from producing, and that others' blocks move the head does not make what they claim true.
//! 5. A block that our key has signed and we have not, for a slot that began after we did, tells of *another node with our key*:
//!    [`Event::KeyElsewhere`]. It can be nobody else, so nobody can have a false alarm raised.
//! 6. In its first turn a producer listens for [`NodeConfig::listen_first`] before it makes its block. *Rationale:* nodes with one key that
//!    have the same transactions make the very same block, which looks like our own coming back, until one day they
//!    differ and the blocks are proof of misbehaviour. A producer that starts beside another learns of it by not being the
//!    first. Validators of other networks listen much longer, which costs them turns.
//!
//! [`NodeConfig::listen_first`]: super::NodeConfig::listen_first

use super::io::{Event, Output};
use super::{Node, Ticket};
use crate::block::{Block, Header};
use crate::chain::Template;
use crate::id::BlockId;
use crate::mesh::{self, Sink};
use crate::message::Payload;
use crate::store::StoreOp;
use crate::sync::SyncState;
use crate::time::{Duration, Time};
use std::collections::BTreeMap;

/// How many of our blocks are remembered as made by us: more than slots in which blocks are relayed.
const MADE_MAX: usize = 1_024;

/// How many turns in a row are left out for blocks that do not come. A guess: a request and its repetition to another
/// peer have timed out by then.
const TURNS_LEFT_OUT_MAX: u32 = 3;

/// After how many slots it is forgotten that a turn was left out. A guess: rarely enough that claims alone cost next to nothing.
const TURN_FORGOTTEN_SLOTS: u64 = 256;

/// For which slots we may sign.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Up to here an earlier life may have signed.
    signed_before: Option<u64>,
    /// Up to here it is recorded that this life may have signed.
    recorded: Option<u64>,
    /// What is being recorded.
    recording: Option<(Ticket, u64)>,
    /// The slot in which a block is to be made when that is done.
    waiting: Option<u64>,
    /// How many turns were left out, and the height of the head and the slot at the last one.
    left_out: (u32, u64, u64),
    /// The slot in which this life began, if the network had.
    began: Option<u64>,
    /// The blocks that this life has made, by their slots; the last ones.
    made: BTreeMap<u64, BlockId>,
    /// The last slot for which another node has signed with our key.
    elsewhere: Option<u64>,
    /// Until when we listen in our first turn, and its slot.
    listening: Option<(Time, u64)>,
    /// Whether that is over.
    listened: bool,
}

impl Turns {
    pub(super) fn new(signed_before: Option<u64>) -> Self {
        Self { signed_before, ..Self::default() }
    }

    /// The wall clock is known, and this is the slot; to be told at the start.
    pub(super) fn begin(&mut self, slot: u64) {
        self.began.get_or_insert(slot);
    }

    /// When there is something to do.
    pub(super) fn next_wake(&self) -> Option<Time> {
        self.listening.map(|(until, _)| until)
    }

    /// Whether a block that our key has signed was made elsewhere. What an earlier life of ours can have made does not count.
    fn is_elsewhere(&self, slot: u64, id: &BlockId) -> bool {
        let earlier = self.began.max(self.signed_before);
        let forgotten = self.made.first_key_value().filter(|_| self.made.len() >= MADE_MAX).map(|(first, _)| *first);
        earlier.max(forgotten).is_none_or(|known| slot > known) && self.made.get(&slot) != Some(id)
    }

    fn note_made(&mut self, slot: u64, id: BlockId) {
        self.made.insert(slot, id);
        if self.made.len() > MADE_MAX {
            self.made.pop_first();
        }
    }
}

impl Node {
    /// The last slot for which another node has signed with our producer key.
    #[must_use]
    pub fn key_elsewhere(&self) -> Option<u64> {
        self.turns.elsewhere
    }

    /// Looks at who has signed a block; its signature is valid.
    pub(super) fn note_signer(&mut self, now: Time, header: &Header, out: &mut impl Sink<Output>) {
        let ours = self.producer.as_ref().is_some_and(|key| key.public_key().to_bytes() == header.producer);
        let (slot, id) = (header.slot, header.id());
        // Without a clock it is not known what came before this life.
        if ours && self.slot(now).is_some() && self.turns.is_elsewhere(slot, &id) {
            self.turns.elsewhere = self.turns.elsewhere.max(Some(slot));
            out.emit(Output::Event(Event::KeyElsewhere { slot, block: id, height: header.height }));
        }
    }

    /// Makes the block of our first turn, if we have listened long enough.
    pub(super) fn act_on_turn(&mut self, now: Time, out: &mut impl Sink<Output>) {
        if let Some((_, slot)) = self.turns.listening.take_if(|(until, _)| *until <= now) {
            self.turns.listened = true;
            if self.slot(now) == Some(slot) && !self.storage_is_failing() {
                self.produce_block(now, slot, out);
            }
        }
    }

    /// Whether our block of this slot has to wait, because it would be the first.
    fn listens_first(&mut self, now: Time, slot: u64) -> bool {
        let listens = self.config.listen_first;
        if self.turns.listened || listens == Duration::ZERO {
            return false;
        }
        self.turns.listening = Some((now + listens, slot));
        true
    }

    /// Does what our turn asks for, if it is ours, and prepares the next one.
    pub(super) fn produce(&mut self, now: Time, slot: u64, out: &mut impl Sink<Output>) {
        self.turns.waiting = None;
        if self.is_our_turn(slot) && !self.storage_is_failing() {
            if let Some(signed) = self.turns.signed_before.filter(|signed| slot <= *signed) {
                out.emit(Output::Event(Event::SlotSigned { slot, signed }));
            } else if self.turns.recorded.is_some_and(|recorded| slot <= recorded) {
                self.produce_block(now, slot, out);
            } else {
                self.turns.waiting = Some(slot);
                self.record_turn(slot, out);
            }
        }
        self.prepare_turn_after(slot, out);
    }

    /// Has the turn after this slot recorded, if it is ours.
    fn prepare_turn_after(&mut self, slot: u64, out: &mut impl Sink<Output>) {
        if let Some(next) = slot.checked_add(1)
            && self.is_our_turn(next)
            && !self.storage_is_failing()
        {
            self.record_turn(next, out);
        }
    }

    /// The answer to a batch, if it was a record of a turn.
    pub(super) fn turn_recorded(
        &mut self,
        now: Time,
        ticket: Ticket,
        durable: bool,
        out: &mut impl Sink<Output>,
    ) -> bool {
        let Some((_, recorded)) = self.turns.recording.take_if(|(recording, _)| *recording == ticket) else {
            return false;
        };
        let waiting = self.turns.waiting;
        if durable {
            self.turns.recorded = self.turns.recorded.max(Some(recorded));
            if let Some(slot) = waiting.filter(|slot| *slot <= recorded) {
                self.turns.waiting = None;
                if self.slot(now) == Some(slot) {
                    self.produce_block(now, slot, out);
                }
                self.prepare_turn_after(slot, out);
            } else if let Some(slot) = waiting {
                self.record_turn(slot, out);
            }
        }
        true
    }

    fn is_our_turn(&self, slot: u64) -> bool {
        self.producer.as_ref().is_some_and(|key| *self.genesis.producer_of(slot) == key.public_key())
    }

    /// Has it recorded that we may sign up to this slot, unless something is being recorded already: that is a slot
    /// earlier, and its answer leads here again if it is waited for.
    fn record_turn(&mut self, slot: u64, out: &mut impl Sink<Output>) {
        let done = self.turns.recorded.is_some_and(|recorded| slot <= recorded);
        let passed = self.turns.signed_before.is_some_and(|signed| slot <= signed);
        if done || passed || self.turns.recording.is_some() {
            return;
        }
        let ticket = self.ticket();
        self.turns.recording = Some((ticket, slot));
        out.emit(Output::Persist { ticket, batch: vec![StoreOp::SetSigned { slot }] });
    }

    fn produce_block(&mut self, now: Time, slot: u64, out: &mut impl Sink<Output>) {
        if self.listens_first(now, slot) || self.is_behind_peers(now, slot, out) {
            return;
        }
        let Some(key) = &self.producer else { return };
        let Some(template) = self.chain.produce_candidate(slot, &self.mempool) else { return };
        let Template { slot, height, parent, transactions } = template;
        let count = transactions.len();
        let block = Block::produce(&self.genesis, key, (slot, height, parent), transactions)
            .expect("it is our turn, and the chain keeps to the limits of the genesis");
        self.turns.note_made(slot, block.id());
        let payload = Payload::new(self.genesis.block_topic(), block.bytes());
        let transactions = u32::try_from(count).unwrap_or(u32::MAX);
        out.emit(Output::Event(Event::Produced { id: block.id(), height, slot, transactions }));
        self.mesh_input(now, mesh::Input::Publish { payload }, out);
        self.insert_own_block(now, block, out);
    }

    /// Whether to leave out this turn, because the blocks to build on are being fetched.
    fn is_behind_peers(&mut self, now: Time, slot: u64, out: &mut impl Sink<Output>) -> bool {
        let sync = self.chain.sync_progress(now);
        let (count, height_then, slot_then) = self.turns.left_out;
        // That others' blocks move the head says nothing of what is claimed. Only that what was fetched is placed shows that it is true.
        let comes_true = sync.blocks_per_second > 0.0 && sync.state == SyncState::Blocks && sync.height > height_then;
        let forgotten = u32::try_from(slot.saturating_sub(slot_then) / TURN_FORGOTTEN_SLOTS).unwrap_or(u32::MAX);
        let count = if comes_true { 0 } else { count.saturating_sub(forgotten) };
        let claimed = (sync.peer.is_some() || sync.waiting) && sync.target > sync.height;
        let behind = claimed && count < TURNS_LEFT_OUT_MAX;
        if behind {
            self.turns.left_out = (count + 1, sync.height, slot);
            out.emit(Output::Event(Event::BehindPeers { slot, height: sync.height, target: sync.target }));
        }
        behind
    }
}
