//! Connections: what each has under way, and who gives way when there are too many.
//!
//! # Rules
//! 1. **A full house makes room.** When a connection comes and the most are open, one that *waits* is closed: no complete
//!    request of it is being answered (it is idle, has sent half a head or body, or does not read its answer). It is taken
//!    from the address that has most of these, the one that has waited longest first. Only when all are being answered is
//!    the newcomer turned away.
//!    *Rationale:* whoever sends its request at once waits for a moment only, and is the last to be closed. A client that
//!    opens connections and dawdles closes its own ones, so it keeps no others out, not even those that share its address.
//! 2. **WebSockets take half of the places at most**, so that plain calls always find one. When these are taken, one
//!    without subscriptions and calls makes room, the oldest first; else the upgrade is refused.
//! 3. **Nobody asks faster than it is answered.** `jsonrpsee` spawns a task for every message of a WebSocket, a call or not,
//!    whose answer waits in that task when the other end does not read. So no further message of a connection is read while
//!    [`MESSAGES_MAX`] of it are unanswered, and nothing at all while it does not take what is written to it. A message is
//!    answered when the system has taken the last byte of its answer, or when it turns out to be a notification, which has
//!    none. The client's bytes then wait in its own socket, which is what TCP's window is for ([`super::paced`]). Neither is
//!    any read while [`UNANSWERED_BYTES_MAX`] are unanswered: what is no call is answered by `jsonrpsee` with its id, which
//!    may be as long as the message, so that the answer is not larger than what was taken in for it.
//! 4. **Every message is paid for**, one unit and one more for each [`super::paced::BYTES_PER_UNIT`], whatever is in it; so is
//!    every frame that is not a message, such as a ping. Who has no units left is not read until it has.
//! 5. **Who sends rubbish goes.** After [`MALFORMED_MAX`] messages that were no calls, one more closes the connection. No
//!    library sends any; a person who tries things out does not get that far.
//! 6. **Who takes nothing goes.** A connection that has taken no byte of what waits for it for
//!    [`super::RpcConfig::patience`] is closed. For large answers there is more to be kept ([`super::answers`]).

use super::answers::{Budget, Reading, Room};
use super::limits::Limits;
use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Messages of one WebSocket that may be unanswered before it is read on; a batch counts as one. A guess: enough to keep
/// the node busy from one connection.
pub(super) const MESSAGES_MAX: u64 = 16;

/// Bytes of the messages of one WebSocket that may be unanswered before it is read on; one message may go beyond. Calls have
/// some hundred bytes, so only large transactions are taken one after the other.
pub(super) const UNANSWERED_BYTES_MAX: u64 = 256 << 10;

/// Messages of one WebSocket that may be no calls. A guess.
pub(super) const MALFORMED_MAX: u64 = 16;

/// Where a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Over TCP.
    Tcp {
        /// The address that it called.
        local: IpAddr,
        /// Its own.
        remote: IpAddr,
    },
    /// Over the admin socket, whose file only the node's user can open.
    Admin,
}

impl Door {
    /// Who shares limits: an address of IP version 4, or a /64 of version 6, which is what one host is given. None for the
    /// admin socket.
    pub(super) fn client(self) -> Option<IpAddr> {
        let Self::Tcp { remote, .. } = self else { return None };
        Some(match remote.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// All open connections of one listener.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    message_bytes_max: u32,
    limits: Arc<Limits>,
    answers: Budget,
    open: Mutex<Open>,
    /// How many were closed because they read too slowly.
    slow_closed: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    numbers: u64,
    by_number: BTreeMap<u64, Arc<Connection>>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    door: Door,
    stage: Mutex<Stage>,
    websocket: AtomicBool,
    /// More has come than the head of a first request.
    spoke_early: AtomicBool,
    messages: Mutex<Messages>,
    subscriptions: AtomicU32,
    /// For large answers, of which there is one at a time.
    turn: Arc<Semaphore>,
    reading: Mutex<Reading>,
    /// Since when the other end takes no more bytes.
    refuses: Mutex<Option<Instant>>,
    refusing: AtomicBool,
    closed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For a complete request, or for its answer to be read.
    Waiting { since: Instant },
    /// A request is complete and its answer is not.
    Answering,
    /// It speaks WebSocket.
    WebSocket { since: Instant },
}

/// How many messages of a WebSocket there were: complete ones, and of these
#[derive(Clone, Copy, Debug, Default)]
struct Messages {
    taken: u64,
    /// those that turned out to be calls, batches or notifications,
    called: u64,
    /// those to which there is no answer,
    silent: u64,
    /// those whose answer is written.
    answered: u64,
    /// Bytes of the messages since all were answered.
    unanswered_bytes: u64,
}

impl Messages {
    fn unanswered(self) -> u64 {
        self.taken.saturating_sub(self.silent + self.answered)
    }

    fn settle(&mut self) {
        if self.unanswered() == 0 {
            self.unanswered_bytes = 0;
        }
    }

    /// As many as are known: an answer that nobody gave who was called is to what was no call.
    fn malformed(self) -> u64 {
        (self.silent + self.answered).saturating_sub(self.called)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// For at most so many at a time, whose messages have at most so many bytes, their large answers together so many, and
    /// who share these limits.
    pub(super) fn new(max: u32, message_bytes_max: u32, answer_bytes_max: u32, limits: Arc<Limits>) -> Arc<Self> {
        Arc::new(Self {
            max: max.max(1) as usize,
            message_bytes_max,
            limits,
            answers: Budget::new(answer_bytes_max),
            open: Mutex::default(),
            slow_closed: AtomicU64::new(0),
        })
    }

    pub(super) fn message_bytes_max(&self) -> u64 {
        self.message_bytes_max.into()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Admits a connection, if need be in the place of one that waits; none when all places are busy.
    pub(super) fn admit(&self, door: Door) -> Option<Arc<Connection>> {
        let mut open = lock(&self.open);
        if open.by_number.len() >= self.max {
            let victim = open.longest_waiting()?;
            open.close(victim);
        }
        open.numbers += 1;
        let connection = Arc::new(Connection {
            number: open.numbers,
            door,
            stage: Mutex::new(Stage::Waiting { since: Instant::now() }),
            websocket: AtomicBool::new(false),
            spoke_early: AtomicBool::new(false),
            messages: Mutex::default(),
            subscriptions: AtomicU32::new(0),
            turn: Arc::new(Semaphore::new(1)),
            reading: Mutex::default(),
            refuses: Mutex::new(None),
            refusing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        });
        open.by_number.insert(connection.number, Arc::clone(&connection));
        Some(connection)
    }

    /// Makes a connection a WebSocket; `false` when there are too many.
    pub(super) fn upgrade(&self, connection: &Connection) -> bool {
        let mut open = lock(&self.open);
        let stages = open.by_number.values().map(|connection| (connection, *lock(&connection.stage)));
        let websockets = stages.filter_map(|(connection, stage)| match stage {
            Stage::WebSocket { since } => Some((connection, since)),
            _ => None,
        });
        let websockets: Vec<_> = websockets.collect();
        if websockets.len() >= (self.max / 2).max(1) {
            let idle = websockets.iter().filter(|(other, _)| other.is_idle());
            let Some(number) = idle.min_by_key(|(other, since)| (*since, other.number)).map(|(other, _)| other.number)
            else {
                return false;
            };
            open.close(number);
        }
        *lock(&connection.stage) = Stage::WebSocket { since: Instant::now() };
        connection.websocket.store(true, Ordering::Release);
        true
    }

    /// Closes what has taken no byte for too long, or too few of a large answer; and who is slow, if others wait for room. To
    /// be called now and then.
    pub(super) fn close_stuck(&self, patience: Duration) {
        let mut open = lock(&self.open);
        let stuck = |connection: &&Arc<Connection>| {
            let is_stuck = lock(&connection.refuses).is_some_and(|at| at.elapsed() > patience);
            lock(&connection.reading).is_too_slow() || is_stuck
        };
        let stuck: Vec<u64> = open.by_number.values().filter(stuck).map(|connection| connection.number).collect();
        for number in stuck {
            self.slow_closed.fetch_add(1, Ordering::AcqRel);
            open.close(number);
        }
        drop(open);
        self.make_room();
    }

    /// Room for a large answer to a call of this connection; none if there is none in time.
    pub(super) async fn room(&self, connection: &Connection) -> Option<Room> {
        let turn = Arc::clone(&connection.turn).acquire_owned().await.ok()?;
        self.answers.take(turn, || self.make_room()).await
    }

    /// Closes those that read slowest, as long as somebody waits for what they hold.
    fn make_room(&self) {
        let lacking = self.answers.lacking();
        if lacking == 0 {
            return;
        }
        let mut open = lock(&self.open);
        let mut freed = 0;
        while freed < lacking
            && let Some((number, bytes)) = open.slowest()
        {
            self.slow_closed.fetch_add(1, Ordering::AcqRel);
            open.close(number);
            freed += bytes;
        }
    }

    /// Bytes of large answers that are being made or wait to be read.
    pub(super) fn answer_bytes(&self) -> usize {
        self.answers.taken()
    }

    /// How many connections were closed since this was asked last because they read too slowly.
    pub(super) fn take_slow_closed(&self) -> u64 {
        self.slow_closed.swap(0, Ordering::AcqRel)
    }

    pub(super) fn forget(&self, connection: &Connection) {
        lock(&self.open).by_number.remove(&connection.number);
    }
}

impl Open {
    fn longest_waiting(&self) -> Option<u64> {
        let waiting = self.by_number.values().filter_map(|connection| match *lock(&connection.stage) {
            Stage::Waiting { since } => Some((connection.door.client(), since, connection.number)),
            _ => None,
        });
        let waiting: Vec<_> = waiting.collect();
        let crowd = largest(waiting.iter().map(|(client, ..)| (*client, 1)))?;
        let of_crowd = waiting.iter().filter(|(client, ..)| *client == crowd);
        of_crowd.min_by_key(|(_, since, number)| (*since, *number)).map(|(.., number)| *number)
    }

    /// Who takes its answer most slowly, of the client that holds most, and how many bytes it holds.
    fn slowest(&self) -> Option<(u64, usize)> {
        let slow = self.by_number.values().filter_map(|connection| {
            let (bytes, rate) = lock(&connection.reading).may_make_room()?;
            Some((connection.door.client(), rate, connection.number, bytes))
        });
        let slow: Vec<_> = slow.collect();
        let crowd = largest(slow.iter().map(|(client, .., bytes)| (*client, *bytes)))?;
        let of_crowd = slow.iter().filter(|(client, ..)| *client == crowd);
        of_crowd.min_by_key(|(_, rate, number, _)| (*rate, *number)).map(|(.., number, bytes)| (*number, *bytes))
    }

    /// Its place is free at once; its task notices when it next runs.
    fn close(&mut self, number: u64) {
        if let Some(connection) = self.by_number.remove(&number) {
            connection.close();
        }
    }
}

/// The client with the largest sum; among several the greatest address, so that the choice does not depend on anything else.
fn largest(of_clients: impl Iterator<Item = (Option<IpAddr>, usize)>) -> Option<Option<IpAddr>> {
    let mut sums: BTreeMap<Option<IpAddr>, usize> = BTreeMap::new();
    for (client, size) in of_clients {
        *sums.entry(client).or_default() += size;
    }
    sums.into_iter().max_by_key(|(client, sum)| (*sum, *client)).map(|(client, _)| client)
}

impl Connection {
    pub(super) fn door(&self) -> Door {
        self.door
    }

    /// A request is complete; what is returned goes when its answer is.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        *lock(&self.stage) = Stage::Answering;
        Answering(Arc::clone(self))
    }

    /// The handshake failed, and HTTP goes on.
    pub(super) fn is_no_websocket(&self) {
        self.websocket.store(false, Ordering::Release);
        *lock(&self.stage) = Stage::Waiting { since: Instant::now() };
    }

    /// More has come than the head of a first request.
    pub(super) fn set_spoke_early(&self) {
        self.spoke_early.store(true, Ordering::Release);
    }

    /// Whether nothing has come but the head of a first request, so that all frames will be seen.
    pub(super) fn may_upgrade(&self) -> bool {
        !self.spoke_early.load(Ordering::Acquire)
    }

    pub(super) fn is_websocket(&self) -> bool {
        self.websocket.load(Ordering::Acquire)
    }

    /// A message of so many bytes is complete.
    pub(super) fn message_taken(&self, bytes: u64) {
        let mut messages = lock(&self.messages);
        messages.taken += 1;
        messages.unanswered_bytes = messages.unanswered_bytes.saturating_add(bytes);
        // Its answer may have been there before: one that is too large is answered when its header has come.
        messages.settle();
    }

    /// A message is a call or a batch.
    pub(super) fn message_called(&self) {
        lock(&self.messages).called += 1;
    }

    /// A message that was [called](Self::message_called) is not to be answered.
    pub(super) fn message_silent(&self) {
        {
            let mut messages = lock(&self.messages);
            messages.silent += 1;
            messages.settle();
        }
        self.reader.wake();
    }

    /// So many answers are written.
    pub(super) fn messages_answered(&self, answers: u64) {
        let messages = {
            let mut messages = lock(&self.messages);
            messages.answered += answers;
            messages.settle();
            *messages
        };
        if messages.malformed() > MALFORMED_MAX {
            self.close();
        }
        self.reader.wake();
    }

    pub(super) fn register_reader(&self, context: &Context<'_>) {
        self.reader.register(context.waker());
    }

    pub(super) fn register_writer(&self, context: &Context<'_>) {
        self.writer.register(context.waker());
    }

    /// Takes one of so many subscriptions, until what is returned goes; none when they are all taken.
    pub(super) fn hold_subscription(self: &Arc<Self>, max: u32) -> Option<Held> {
        let more = |held: u32| (held < max).then_some(held + 1);
        self.subscriptions.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Held(Arc::clone(self)))
    }

    fn is_idle(&self) -> bool {
        lock(&self.messages).unanswered() == 0 && self.subscriptions.load(Ordering::Acquire) == 0
    }

    pub(super) fn has_too_much(&self) -> bool {
        let messages = lock(&self.messages);
        messages.unanswered() >= MESSAGES_MAX || messages.unanswered_bytes >= UNANSWERED_BYTES_MAX
    }

    /// A large answer of so many bytes is to be written.
    pub(super) fn large_begins(&self, room: Room, bytes: usize) {
        let mut reading = lock(&self.reading);
        reading.begin(room, bytes);
        if self.is_refusing() {
            reading.refused();
        }
    }

    /// The large answer is written.
    pub(super) fn large_ended(&self) {
        let _given_back = lock(&self.reading).end();
    }

    /// The other end has taken so many bytes.
    pub(super) fn took(&self, bytes: usize) {
        lock(&self.reading).took(bytes);
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Its task notices when it next runs.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Nobody waits here for a turn any more, and what there was to be read goes with the connection.
        self.turn.close();
        self.large_ended();
        self.reader.wake();
        self.writer.wake();
    }

    pub(super) fn set_refuses(&self, refuses: bool) {
        if refuses {
            lock(&self.reading).refused();
        }
        if self.refusing.swap(refuses, Ordering::AcqRel) == refuses {
            return;
        }
        *lock(&self.refuses) = refuses.then(Instant::now);
        if !refuses {
            self.reader.wake();
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut stage = lock(&self.0.stage);
        if *stage == Stage::Answering {
            *stage = Stage::Waiting { since: Instant::now() };
        }
    }
}

/// A subscription that is counted.
#[derive(Debug)]
pub(super) struct Held(Arc<Connection>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.subscriptions.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
