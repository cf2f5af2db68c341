//! What waits to be sent to one peer.
//!
//! The engine emits frames one by one; a connection takes whole RPCs whenever its stream accepts more. In between stands
//! this queue. It decides what goes first, what goes together, and what is given up when the peer reads too slowly. It is
//! pure, so that the node's connection tasks and a simulated link run the same code.
//!
//! # Rules
//! 1. **Classes.** Frames wait in the order of [`Class`]: control, own publications and blocks, forwards, replies, gossip.
//!    Within a class the oldest goes first.
//!    *Rationale:* control is small and everything depends on it; what nobody else can send comes before what several
//!    peers send; a reply repairs one message of one peer; gossip is repeated by others.
//! 2. **Bounded in bytes.** [`SendQueue::bytes`] never exceeds [`SendQueueConfig::bytes_max`]. What a piece costs covers its
//!    bytes on the wire and the memory that it occupies here, so many empty messages are bounded like few large ones.
//! 3. **Under pressure the least urgent goes.** To make room for a frame, others are dropped: the oldest of the least urgent
//!    class first, gossip before replies before forwards, up to and including the frame's own class. Frames of a more
//!    urgent class are never touched. When that would not make enough room, nothing is touched and the frame itself is
//!    dropped. [`PushResult`] tells what was.
//!    *Rationale:* the oldest of a class is the likeliest to have reached the peer on another way or to be of no use any more.
//! 4. **Control coalesces.** Of the subscription changes of a topic that still wait the last one stands, and so of GRAFT and
//!    PRUNE: what the peer has not been told need not be taken back. Control has a bound of its own within the whole
//!    ([`SendQueueConfig::control_bytes_max`]); the oldest IDONTWANTs make room first, then a new frame is refused.
//! 5. **A message waits once.** A second copy of a waiting message changes nothing, unless its class is more urgent: then it
//!    moves there.
//! 6. **Cancelling.** [`SendQueue::cancel`] removes the waiting copy of a message, whatever its class: a peer that says
//!    IDONTWANT has it, and no class makes a second copy useful. It takes constant time for each id: messages are nodes of
//!    linked lists in a slab, found by a hash index. Nothing is remembered about ids that do not wait.
//! 7. **Ageing.** A frame that waited longer than its class allows is dropped at the next [`SendQueue::pop`] rather than sent.
//!    Subscriptions, GRAFT and PRUNE do not age. IDONTWANT ages like a forward: by then what it was to prevent has happened.
//!    A forward or publication that ages **leaves its id behind**: an IHAVE of its topic takes its place, and the peer
//!    asks for the message if nobody else brought it. There is none for a message that waited longer than gossip may: it
//!    would be out of the message cache, and announcing what cannot be served breaks a promise.
//!    *Rationale:* the engine takes what it has handed to a queue for sent, and announces to peers outside the mesh
//!    only. A peer whose neighbours are all in its mesh, and that did not read for a second, would never hear of what aged.
//!    The IHAVEs go out at most every [`SendQueueConfig::lapsed_interval`] while there is anything else to send, because
//!    stock peers look at ten of them per heartbeat.
//! 8. **RPCs.** [`SendQueue::pop`] puts as much as fits into one RPC, in the order of the classes, within what the strictest
//!    stock implementation accepts (see [`crate::wire::limits`]): messages per RPC, bytes of control per RPC and ids of
//!    IDONTWANT per RPC. Long lists of ids are split. An eighth of the RPC is kept for gossip when some waits.
//!    *Rationale of the eighth:* under strict priority a busy link would never carry the 22 bytes of an IWANT, and IWANT is
//!    what repairs a loss.
//! 9. **Progress.** `pop` on a queue that is not empty after ageing answers an RPC, whatever the limits: a message larger than
//!    the wanted size goes alone. A message larger than [`SendQueueConfig::rpc_bytes_max`] can never be sent to this peer and
//!    is dropped when it is pushed.
//!
//! # Complexity
//! `push` is amortised over what it evicts; finding a message is O(1) with a keyed hash (message ids can be ground by whoever
//! makes messages), control O(log topics), `pop` linear in what it takes and in what has aged. The index is looked up, never
//! iterated: nothing depends on the key but time.

mod control;
mod gossip;
mod lapsed;
mod messages;

use crate::id::MessageId;
use crate::message::Payload;
use crate::rpc::{Class, Frame};
use crate::time::{Duration, Time};
use crate::wire::limits::{
    CONTROL_BYTES_PER_RPC_MAX, FRAME_BYTES_MAX, FRAME_HEADROOM_BYTES, IDONTWANT_IDS_PER_RPC_MAX, PUBLISH_PER_RPC_MAX,
};
use crate::wire::{EncodedRpc, RpcAssembly, RpcBuilder, SharedRpc};
use control::ControlQueue;
use core::ops::{AddAssign, Index, IndexMut};
use gossip::GossipQueue;
use lapsed::Lapsed;
use messages::{MessageClass, MessageQueue};
use std::sync::Arc;

/// What any waiting piece costs beyond its bytes on the wire: list nodes, index entries, topic and time.
pub const PIECE_OVERHEAD_BYTES: usize = 128;

/// The most ids that wait to be announced in place of messages that aged; the oldest go first. A guess: some seconds of what
/// a connection to a stock peer can be behind.
pub const LAPSED_IDS_MAX: usize = 1_024;

/// Limits of one peer's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendQueueConfig {
    /// What may wait in all, in bytes as [`SendQueue::bytes`] counts them.
    pub bytes_max: usize,
    /// How much of that control may take.
    pub control_bytes_max: usize,
    /// The longest frame that the peer accepts, length prefix not counted. Towards stock peers: their maximum less
    /// [`FRAME_HEADROOM_BYTES`].
    pub rpc_bytes_max: usize,
    /// Messages in one RPC.
    pub rpc_publish_max: usize,
    /// Bytes of subscriptions and control in one RPC.
    pub rpc_control_bytes_max: usize,
    /// Ids of IDONTWANT in one RPC.
    pub rpc_idontwant_ids_max: usize,
    /// How long own publications and blocks may wait.
    pub priority_age_max: Duration,
    /// How long forwards and IDONTWANT may wait.
    pub forward_age_max: Duration,
    /// How long answers to IWANT may wait.
    pub reply_age_max: Duration,
    /// How long IHAVE and IWANT may wait; also how old a message may be whose id is announced when it aged.
    pub gossip_age_max: Duration,
    /// The least time between two announcements of messages that aged, while there is anything else to send.
    pub lapsed_interval: Duration,
    /// Key of the hash index; to be drawn at random (see [`crate::random::Streams::hash_key`]). It influences time only.
    pub hash_key: [u8; 16],
}

impl Default for SendQueueConfig {
    fn default() -> Self {
        Self {
            // A guess: two of the largest frames.
            bytes_max: 2 * FRAME_BYTES_MAX,
            // A guess: some 1,700 IDONTWANTs of one id.
            control_bytes_max: 256 * 1024,
            rpc_bytes_max: FRAME_BYTES_MAX - FRAME_HEADROOM_BYTES,
            rpc_publish_max: PUBLISH_PER_RPC_MAX as usize,
            rpc_control_bytes_max: CONTROL_BYTES_PER_RPC_MAX,
            rpc_idontwant_ids_max: IDONTWANT_IDS_PER_RPC_MAX,
            // rust-libp2p gives up a publication after 5 s and a forward after 1 s in the queue.
            priority_age_max: Duration::from_secs(5),
            forward_age_max: Duration::from_secs(1),
            // The time after which an unanswered IWANT counts as a broken promise (`IWantFollowupTime` of
            // go-libp2p-pubsub): whoever asked has turned to somebody else.
            reply_age_max: Duration::from_secs(3),
            // Three heartbeats of one second: what is announced leaves the message cache's gossip window then.
            gossip_age_max: Duration::from_secs(3),
            // Stock peers look at ten IHAVEs of a peer in a heartbeat of one second (`MaxIHaveMessages` of go-libp2p-pubsub);
            // four leave room for the regular ones of a peer that leaves the mesh.
            lapsed_interval: Duration::from_millis(250),
            hash_key: [0; 16],
        }
    }
}

/// What became of a pushed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PushResult {
    /// It waits, or it adds nothing to what waits already.
    Ok,
    /// Frames were dropped: those that made room for the new one, or the new one itself.
    Dropped {
        /// How many of each class.
        frames: ClassCounts,
    },
}

/// A number for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts([u64; 5]);

impl ClassCounts {
    /// Of all classes together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn one(class: Class) -> Self {
        let mut counts = Self::default();
        counts[class] = 1;
        counts
    }
}

impl Index<Class> for ClassCounts {
    type Output = u64;
    fn index(&self, class: Class) -> &u64 {
        &self.0[class as usize]
    }
}

impl IndexMut<Class> for ClassCounts {
    fn index_mut(&mut self, class: Class) -> &mut u64 {
        &mut self.0[class as usize]
    }
}

impl AddAssign for ClassCounts {
    fn add_assign(&mut self, rhs: Self) {
        self.0.iter_mut().zip(rhs.0).for_each(|(total, more)| *total += more);
    }
}

// What is left of a message that aged takes less than the message did.
const _: () = assert!(lapsed::ID_BYTES <= PIECE_OVERHEAD_BYTES);

/// What a queue has done since it was made, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendQueueStats {
    /// Dropped for want of room, or because they can never be sent to the peer.
    pub dropped: ClassCounts,
    /// Dropped because they had waited too long.
    pub expired: ClassCounts,
    /// Messages removed by [`SendQueue::cancel`].
    pub cancelled: u64,
}

impl AddAssign for SendQueueStats {
    fn add_assign(&mut self, rhs: Self) {
        self.dropped += rhs.dropped;
        self.expired += rhs.expired;
        self.cancelled += rhs.cancelled;
    }
}

/// The frames that wait for one peer. See the module for its rules.
#[derive(Debug)]
pub struct SendQueue {
    config: SendQueueConfig,
    control: ControlQueue,
    messages: MessageQueue,
    gossip: GossipQueue,
    lapsed: Lapsed,
    stats: SendQueueStats,
}

impl SendQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(config: SendQueueConfig) -> Self {
        Self {
            control: ControlQueue::default(),
            messages: MessageQueue::new(&config.hash_key),
            gossip: GossipQueue::default(),
            lapsed: Lapsed::default(),
            stats: SendQueueStats::default(),
            config,
        }
    }

    /// Adds a frame. A message of class `Control` waits as `Priority`, one of class `Gossip` as `Reply`: these two classes
    /// hold no messages.
    pub fn push(&mut self, now: Time, frame: Frame) -> PushResult {
        let frames = match frame {
            Frame::Publish { payload, class } => {
                let class = MessageClass::of(class);
                if payload.encoded().len() > self.config.rpc_bytes_max {
                    ClassCounts::one(class.into())
                } else if self.messages.class_of(payload.id()).is_some_and(|waiting| waiting <= class) {
                    ClassCounts::default()
                } else {
                    self.messages.remove(payload.id());
                    let (dropped, fits) = self.make_room(messages::cost(&payload), class.into());
                    if fits {
                        self.messages.push(now, payload, class);
                    }
                    dropped
                }
            }
            Frame::IHave { ref ids, .. } if ids.is_empty() => ClassCounts::default(),
            Frame::IWant(ref ids) | Frame::IDontWant(ref ids) if ids.is_empty() => ClassCounts::default(),
            Frame::IHave { .. } | Frame::IWant(_) => self.push_gossip(now, frame),
            Frame::Subscription(_) | Frame::Graft(_) | Frame::Prune(_) | Frame::IDontWant(_) => {
                self.push_control(now, frame)
            }
        };
        self.stats.dropped += frames;
        if frames.total() == 0 { PushResult::Ok } else { PushResult::Dropped { frames } }
    }

    fn push_gossip(&mut self, now: Time, frame: Frame) -> ClassCounts {
        let (dropped, fits) = self.make_room(gossip::cost(&frame), Class::Gossip);
        if fits {
            self.gossip.push(now, frame);
        }
        dropped
    }

    fn push_control(&mut self, now: Time, frame: Frame) -> ClassCounts {
        let frame = control::within(frame, self.config.rpc_control_bytes_max);
        // What the frame replaces makes room for it.
        self.control.forget_superseded(&frame);
        let cost = self.control.cost(&frame);
        let mut dropped = ClassCounts::default();
        if cost <= self.config.control_bytes_max.saturating_sub(self.control.lasting_bytes()) {
            while self.control.bytes() + cost > self.config.control_bytes_max && self.control.drop_oldest_idontwant() {
                dropped[Class::Control] += 1;
            }
            let (evicted, fits) = self.make_room(cost, Class::Control);
            dropped += evicted;
            if fits {
                self.control.push(now, frame);
            }
            return dropped;
        }
        ClassCounts::one(Class::Control)
    }

    /// Removes the waiting copies of these messages; how many there were.
    pub fn cancel(&mut self, ids: &[MessageId]) -> u32 {
        let mut cancelled = 0;
        for id in ids {
            cancelled += u32::from(self.messages.remove(*id));
        }
        self.stats.cancelled += u64::from(cancelled);
        cancelled
    }

    /// Takes the next RPC, of at most `max_bytes` (its length prefix not counted) or of one piece; `None` when nothing
    /// waits.
    ///
    /// The less is asked for at a time, the later it is decided what goes first, and the more an IDONTWANT can still cancel.
    pub fn pop(&mut self, now: Time, max_bytes: usize) -> Option<EncodedRpc> {
        self.take(now, max_bytes).map(RpcBuilder::finish)
    }

    /// As [`Self::pop`], but as what the receiver decodes rather than as bytes, for receivers in the same process.
    pub fn pop_shared(&mut self, now: Time, max_bytes: usize) -> Option<SharedRpc> {
        self.take(now, max_bytes)
    }

    fn take<R: RpcAssembly>(&mut self, now: Time, max_bytes: usize) -> Option<R> {
        self.expire(now);
        let max_bytes = max_bytes.min(self.config.rpc_bytes_max);
        let mut rpc = R::default();
        let control_max = self.config.rpc_control_bytes_max.min(max_bytes);
        self.control.fill(&mut rpc, control_max, self.config.rpc_idontwant_ids_max);
        self.announce_lapsed(now, rpc.is_empty());
        let messages_max = max_bytes - self.gossip.bytes().min(max_bytes / 8);
        self.messages.fill(&mut rpc, messages_max, self.config.rpc_publish_max);
        self.gossip.fill(&mut rpc, max_bytes, self.config.rpc_control_bytes_max);
        (!rpc.is_empty()).then_some(rpc)
    }

    /// Bytes that wait, including what they cost to keep.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.control.bytes() + self.messages.bytes() + self.gossip.bytes() + self.lapsed.bytes()
    }

    /// Frames that wait. A frame of which a part was sent counts until the rest is, and a message that aged until it is
    /// announced.
    #[must_use]
    pub fn len(&self) -> usize {
        self.control.len() + self.messages.len() + self.gossip.len() + self.lapsed.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the oldest waiting message was pushed: how far behind the peer is.
    #[must_use]
    pub fn oldest_message(&self) -> Option<Time> {
        self.messages.oldest()
    }

    /// What the queue has done since it was made.
    #[must_use]
    pub fn stats(&self) -> SendQueueStats {
        self.stats
    }

    /// Drops what has waited too long, and keeps the ids of the messages that the peer may not hear of otherwise. An id is
    /// counted with less than its message was, so this never needs room.
    fn expire(&mut self, now: Time) {
        let Self { config, stats: SendQueueStats { expired, .. }, messages, lapsed, .. } = self;
        let mut lapse = |payload: Arc<Payload>, queued| lapsed.push(queued, payload.topic().clone(), payload.id());
        expired[Class::Control] += self.control.expire(now - config.forward_age_max);
        let oldest = now - config.priority_age_max;
        expired[Class::Priority] += messages.expire(MessageClass::Priority, oldest, &mut lapse);
        expired[Class::Forward] += messages.expire(MessageClass::Forward, now - config.forward_age_max, &mut lapse);
        expired[Class::Reply] += messages.expire(MessageClass::Reply, now - config.reply_age_max, |_, _| ());
        expired[Class::Gossip] += self.gossip.expire(now - config.gossip_age_max);
    }

    /// Turns the ids of messages that aged into gossip, when that is due or nothing else waits. `idle` says whether the RPC
    /// in the making is empty.
    fn announce_lapsed(&mut self, now: Time, idle: bool) {
        let alone = idle && self.messages.len() == 0 && self.gossip.len() == 0;
        if alone || self.lapsed.is_due(now, self.config.lapsed_interval) {
            for frame in self.lapsed.take(now, now - self.config.gossip_age_max) {
                let dropped = self.push_gossip(now, frame);
                self.stats.dropped += dropped;
            }
        }
    }

    /// Drops frames until `cost` more bytes fit, none more urgent than `class`. Answers what was dropped and whether the
    /// frame that wanted the room fits; if it does not, it is the only one dropped.
    fn make_room(&mut self, cost: usize, class: Class) -> (ClassCounts, bool) {
        // Control makes room among itself by its own rule, before it comes here.
        let more_urgent = MessageClass::ALL.into_iter().filter(|other| Class::from(*other) < class);
        let kept = self.control.bytes()
            + self.lapsed.bytes()
            + more_urgent.map(|other| self.messages.bytes_of(other)).sum::<usize>();
        if cost > self.config.bytes_max.saturating_sub(kept) {
            return (ClassCounts::one(class), false);
        }
        let mut dropped = ClassCounts::default();
        while self.bytes() + cost > self.config.bytes_max {
            dropped[self.drop_least_urgent()] += 1;
        }
        (dropped, true)
    }

    /// Drops the oldest frame of the least urgent class that holds one, control excepted; says which class that was.
    fn drop_least_urgent(&mut self) -> Class {
        if self.gossip.drop_oldest() {
            return Class::Gossip;
        }
        let class = MessageClass::ALL.into_iter().rev().find(|class| self.messages.drop_oldest(*class));
        class.expect("what must be kept leaves enough room").into()
    }

    /// Recomputes everything that is kept up to date otherwise, and asserts that it holds.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn check(&self) {
        self.control.check();
        self.messages.check();
        self.gossip.check();
        assert!(self.bytes() <= self.config.bytes_max, "the queue is bounded");
        assert!(self.control.bytes() <= self.config.control_bytes_max, "control is bounded");
        assert_eq!(self.is_empty(), self.bytes() == 0, "only what waits costs");
    }
}
