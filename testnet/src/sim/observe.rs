//! What is measured: when and how each message reached each node.
//!
//! t0 is when the origin's machine publishes the message, *arrival* when a node takes in the first copy, *acceptance* when its
//! validation has said yes. Times are exact, because there is one clock. Nothing is condensed here: there is a record for each message and
//! node, of [`RECORD_BYTES`] bytes.

use super::dealings::Dealings;
use super::ids::DigestMap;
use starling_protocol::chain;
use starling_protocol::id::{MessageId, PeerHandle, Topic, TransactionId};
use starling_protocol::memory::Fetch;
use starling_protocol::mesh::{self, PruneReason};
use starling_protocol::node::Event;
use starling_protocol::time::{Duration, Time, micros};
use starling_protocol::transaction::Transaction;

/// What a message takes for each node.
pub const RECORD_BYTES: usize = size_of::<Record>();
/// In place of a time or a node that is not known.
const NONE: u32 = u32::MAX;

/// Deliveries of all messages.
#[derive(Debug)]
pub struct Observer {
    nodes: usize,
    blocks: Topic,
    index: DigestMap<u32>,
    messages: Vec<Message>,
    /// Copies of messages that came after the first one.
    pub duplicates: u64,
    /// Messages that were not accepted.
    pub refused: u64,
    /// Each node's latest mesh degrees, for transactions and blocks.
    pub degrees: Vec<[u32; 2]>,
    /// Two blocks of one producer for one slot, as often as a node noticed.
    pub equivocations: u64,
    /// Nodes that others took out of their meshes for bringing nothing or for their score, attackers not counted: when, by whom, and who.
    pub prunes: Vec<(Time, u32, u32)>,
    /// What nodes had to do with attackers.
    pub dealings: Dealings,
    followed: Option<Followed>,
}

/// The message whose copies are written down.
#[derive(Debug)]
struct Followed {
    prefix: String,
    id: Option<MessageId>,
    /// Nodes that it has not come to.
    missing: usize,
    copies: Vec<Copy>,
    losses: Vec<Loss>,
}

/// One message and what became of it.
#[derive(Debug)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// Whether it is a block; otherwise it is a transaction.
    pub is_block: bool,
    /// The transaction that it carries.
    pub transaction: Option<TransactionId>,
    /// Who published it.
    pub origin: u32,
    /// When.
    pub published: Time,
    /// Bytes of its payload.
    pub payload_bytes: u32,
    /// Bytes that a copy takes in a mesh frame.
    pub frame_bytes: u32,
    records: Vec<Record>,
}

/// What became of a message at a node. Times are in microseconds since its publication.
#[derive(Clone, Copy, Debug)]
struct Record {
    arrival_us: u32,
    accepted_us: u32,
    in_block_us: u32,
    from: u32,
    copies: u16,
    pulled: bool,
}

/// What is known of a message at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    /// When the first copy came, in microseconds since the publication.
    pub arrival_us: Option<u32>,
    /// Who sent it; none if the connection was gone when it was taken in.
    pub from: Option<u32>,
    /// Whether the node had asked for it.
    pub pulled: bool,
    /// When it was accepted.
    pub accepted_us: Option<u32>,
    /// When it was seen in a block before.
    pub in_block_us: Option<u32>,
    /// How many copies came.
    pub copies: u16,
}

/// A copy of the message that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// When it was taken in.
    pub at: Time,
    /// By whom.
    pub node: u32,
    /// Who sent it, as far as known.
    pub from: Option<u32>,
    /// Whether it had been asked for; none for one that came after the first.
    pub pulled: Option<bool>,
}

/// Something that was lost on its way and sent again, while a message is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Who sent it.
    pub from: u32,
    /// To whom.
    pub to: u32,
    /// When it would have come.
    pub due: Time,
    /// How much later it came, in microseconds.
    pub late_us: u64,
    /// Whether a fault had the path lose more than usual.
    pub by_fault: bool,
}

impl Observer {
    pub(super) fn new(nodes: usize, blocks: Topic) -> Self {
        Self {
            nodes,
            blocks,
            index: DigestMap::default(),
            messages: Vec::new(),
            duplicates: 0,
            refused: 0,
            degrees: vec![[0; 2]; nodes],
            equivocations: 0,
            prunes: Vec::new(),
            dealings: Dealings::default(),
            followed: None,
        }
    }

    /// Writes down every copy of the first message whose id begins with these hexadecimal digits, and every loss on any line from its publication
    /// on, or not made good by then, until it has come to every node: what is lost keeps what comes after it waiting.
    pub fn follow(&mut self, prefix: &str) {
        let missing = self.nodes.saturating_sub(1);
        let (copies, losses) = (Vec::new(), Vec::new());
        self.followed = Some(Followed { prefix: prefix.to_owned(), id: None, missing, copies, losses });
    }

    /// The message that is followed, if it has been published.
    #[must_use]
    pub fn followed(&self) -> Option<MessageId> {
        self.followed.as_ref()?.id
    }

    /// Its copies, in the order in which they were taken in.
    #[must_use]
    pub fn copies(&self) -> &[Copy] {
        self.followed.as_ref().map_or(&[], |followed| &followed.copies)
    }

    /// What was lost meanwhile.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        self.followed.as_ref().map_or(&[], |followed| &followed.losses)
    }

    /// Takes in that something was lost.
    #[cold]
    pub(super) fn lost(&mut self, loss: Loss) {
        if let Some(followed) = self.followed.as_mut().filter(|followed| followed.missing > 0) {
            followed.losses.push(loss);
        }
    }

    /// Takes in what a machine says. `far` tells which node a handle of it stands for.
    pub(super) fn event(&mut self, now: Time, node: u32, event: &Event, far: impl Fn(PeerHandle) -> Option<u32>) {
        match event {
            Event::Mesh(event) => self.mesh(now, node, event, far),
            Event::InBlock { message, .. } => {
                if let Some((message, record)) = self.record(message, node) {
                    set(&mut record.in_block_us, now, message);
                }
            }
            Event::Chain(chain::Event::Equivocation { .. }) => self.equivocations += 1,
            _ => {}
        }
    }

    fn mesh(&mut self, now: Time, node: u32, event: &mesh::Event, far: impl Fn(PeerHandle) -> Option<u32>) {
        match event {
            mesh::Event::Published { payload } => {
                let index = u32::try_from(self.messages.len()).expect("fewer than 2^32 messages");
                if self.index.get(payload.id().as_bytes()).is_some() {
                    return;
                }
                if let Some(Followed { prefix, id: id @ None, losses, .. }) = &mut self.followed {
                    losses.retain(|loss| loss.due + Duration::from_micros(loss.late_us) > now);
                    *id = payload.id().to_string().starts_with(&*prefix).then(|| payload.id());
                }
                self.index.insert(payload.id().as_bytes(), index);
                self.messages.push(Message {
                    id: payload.id(),
                    is_block: *payload.topic() == self.blocks,
                    transaction: payload.transaction().map(Transaction::id),
                    origin: node,
                    published: now,
                    payload_bytes: u32::try_from(payload.data().len()).unwrap_or(NONE),
                    frame_bytes: u32::try_from(payload.encoded().len()).unwrap_or(NONE),
                    records: vec![Record::default(); self.nodes],
                });
            }
            mesh::Event::Arrived { payload, received, peer, how } => {
                let (id, pulled) = (payload.id(), *how == mesh::Arrival::Pulled);
                if let Some(attacker) = far(*peer).filter(|far| *far as usize >= self.nodes) {
                    self.dealings.taken_in(node, attacker, payload);
                }
                if let Some((message, record)) = self.record(&id, node) {
                    let is_first = record.arrival_us == NONE;
                    if is_first {
                        set(&mut record.arrival_us, *received, message);
                        record.from = far(*peer).unwrap_or(NONE);
                        record.pulled = pulled;
                    }
                    record.copies = record.copies.saturating_add(1);
                    if let Some(followed) = self.followed.as_mut().filter(|it| it.id == Some(id) && is_first) {
                        followed.missing = followed.missing.saturating_sub(1);
                    }
                }
                self.copy(&id, Copy { at: *received, node, from: far(*peer), pulled: Some(pulled) });
            }
            mesh::Event::Duplicate { id, peer, received, .. } => self.duplicate(node, id, (*peer, *received), far),
            mesh::Event::Validated { payload, verdict, .. } => {
                self.dealings.judged(node, payload, *verdict);
                if *verdict != mesh::Verdict::Accept {
                    self.refused += 1;
                } else if let Some((message, record)) = self.record(&payload.id(), node) {
                    set(&mut record.accepted_us, now, message);
                }
            }
            mesh::Event::MeshDegree { topic, degree } => {
                let class = usize::from(*topic == self.blocks);
                self.degrees[node as usize][class] = *degree;
            }
            mesh::Event::Pruned {
                peer, reason: PruneReason::Silent | PruneReason::Score | PruneReason::Slow, ..
            } => {
                let far = far(*peer).filter(|far| (*far as usize) < self.nodes);
                self.prunes.extend(far.map(|far| (now, node, far)));
            }
            mesh::Event::Grafted { .. } | mesh::Event::Pruned { .. } => {}
        }
    }

    /// Takes in that a further copy came to a machine, as [`Self::event`] does.
    pub(super) fn copied(&mut self, node: u32, copy: &mesh::Copied<'_>, far: impl Fn(PeerHandle) -> Option<u32>) {
        self.duplicate(node, &copy.payload.id(), (copy.peer, copy.received), far);
    }

    fn duplicate(
        &mut self,
        node: u32,
        id: &MessageId,
        (peer, at): (PeerHandle, Time),
        far: impl Fn(PeerHandle) -> Option<u32>,
    ) {
        self.duplicates += 1;
        if let Some((_, record)) = self.record(id, node) {
            record.copies = record.copies.saturating_add(1);
        }
        if self.followed.is_some() {
            self.copy(id, Copy { at, node, from: far(peer), pulled: None });
        }
    }

    /// All messages, in the order of their publication.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Has the record of a message at a node fetched.
    pub(super) fn fetch(&self, id: &MessageId, node: u32, fetch: &mut impl Fetch) {
        let message = self.index.get(id.as_bytes()).and_then(|index| self.messages.get(*index as usize));
        if let Some(message) = message {
            fetch.item(&message.records, node as usize);
        }
    }

    /// When the message arrived there first, in microseconds since its publication.
    pub(super) fn arrival_us(&self, id: &MessageId, node: u32) -> Option<u32> {
        let message = self.messages.get(*self.index.get(id.as_bytes())? as usize)?;
        message.records.get(node as usize).and_then(|record| known(record.arrival_us))
    }

    fn copy(&mut self, id: &MessageId, copy: Copy) {
        if let Some(followed) = &mut self.followed
            && followed.id == Some(*id)
        {
            followed.copies.push(copy);
        }
    }

    /// A node's record of a message, and when that was published.
    fn record(&mut self, id: &MessageId, node: u32) -> Option<(Time, &mut Record)> {
        let index = *self.index.get(id.as_bytes())?;
        let message = self.messages.get_mut(index as usize)?;
        Some((message.published, message.records.get_mut(node as usize)?))
    }
}

impl Message {
    /// What is known of it at each node.
    pub fn receptions(&self) -> impl Iterator<Item = Reception> + '_ {
        self.records.iter().map(|record| Reception {
            arrival_us: known(record.arrival_us),
            from: known(record.from),
            pulled: record.pulled,
            accepted_us: known(record.accepted_us),
            in_block_us: known(record.in_block_us),
            copies: record.copies,
        })
    }

    /// Microseconds from publication to each arrival, in the order of nodes.
    pub fn arrivals_us(&self) -> impl Iterator<Item = u32> + '_ {
        self.records.iter().filter_map(|record| known(record.arrival_us))
    }

    /// Bytes that are allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
    }

    /// How many nodes accepted it, its origin not counted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.records.iter().filter(|record| record.accepted_us != NONE).count()
    }
}

impl Default for Record {
    fn default() -> Self {
        Self { arrival_us: NONE, accepted_us: NONE, in_block_us: NONE, from: NONE, copies: 0, pulled: false }
    }
}

fn known(value: u32) -> Option<u32> {
    (value != NONE).then_some(value)
}

/// Notes the time since the publication, the first time.
fn set(time_us: &mut u32, now: Time, published: Time) {
    if *time_us == NONE {
        *time_us = u32::try_from(micros(now.since(published))).unwrap_or(NONE - 1).min(NONE - 1);
    }
}
