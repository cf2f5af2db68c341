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
//!    none. The client's bytes then wait in its own socket, which is what TCP's window is for ([`super::paced`]).
//! 4. **Every message is paid for**, one unit and one more for each [`super::paced::BYTES_PER_UNIT`], whatever is in it; so is
//!    every frame that is not a message, such as a ping. Who has no units left is not read until it has.
//! 5. **Who sends rubbish goes.** After [`MALFORMED_MAX`] messages that were no calls, one more closes the connection. No
//!    library sends any; a person who tries things out does not get that far.
//! 6. **Who takes nothing goes.** A connection that has taken no byte of what waits for it for
//!    [`super::RpcConfig::patience`] is closed.

use super::limits::Limits;
use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;
use tokio::time::Instant;

/// Messages of one WebSocket that may be unanswered before it is read on; a batch counts as one. A guess: enough to keep
/// the node busy from one connection.
pub(super) const MESSAGES_MAX: u64 = 16;

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
    open: Mutex<Open>,
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
}

impl Messages {
    fn unanswered(self) -> u64 {
        self.taken.saturating_sub(self.silent + self.answered)
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
    /// For at most so many at a time, whose messages have at most so many bytes, and who share these limits.
    pub(super) fn new(max: u32, message_bytes_max: u32, limits: Arc<Limits>) -> Arc<Self> {
        Arc::new(Self { max: max.max(1) as usize, message_bytes_max, limits, open: Mutex::default() })
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

    /// Closes what has taken no byte for too long.
    pub(super) fn close_stuck(&self, patience: Duration) {
        let mut open = lock(&self.open);
        let stuck = |connection: &&Arc<Connection>| lock(&connection.refuses).is_some_and(|at| at.elapsed() > patience);
        let stuck: Vec<u64> = open.by_number.values().filter(stuck).map(|connection| connection.number).collect();
        for number in stuck {
            open.close(number);
        }
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
        let mut crowds: BTreeMap<Option<IpAddr>, usize> = BTreeMap::new();
        for (client, ..) in &waiting {
            *crowds.entry(*client).or_default() += 1;
        }
        // Among crowds of one size the greatest address, so that the choice does not depend on anything else.
        let (crowd, _) = crowds.into_iter().max_by_key(|(client, size)| (*size, *client))?;
        let of_crowd = waiting.iter().filter(|(client, ..)| *client == crowd);
        of_crowd.min_by_key(|(_, since, number)| (*since, *number)).map(|(.., number)| *number)
    }

    /// Its place is free at once; its task notices when it next runs.
    fn close(&mut self, number: u64) {
        if let Some(connection) = self.by_number.remove(&number) {
            connection.close();
        }
    }
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

    /// A message is complete.
    pub(super) fn message_taken(&self) {
        lock(&self.messages).taken += 1;
    }

    /// A message is a call or a batch.
    pub(super) fn message_called(&self) {
        lock(&self.messages).called += 1;
    }

    /// A message that was [called](Self::message_called) is not to be answered.
    pub(super) fn message_silent(&self) {
        lock(&self.messages).silent += 1;
        self.reader.wake();
    }

    /// So many answers are written.
    pub(super) fn messages_answered(&self, answers: u64) {
        let messages = {
            let mut messages = lock(&self.messages);
            messages.answered += answers;
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
        lock(&self.messages).unanswered() >= MESSAGES_MAX
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
        self.reader.wake();
        self.writer.wake();
    }

    pub(super) fn set_refuses(&self, refuses: bool) {
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
mod tests {
    use super::*;

    fn connections(max: u32) -> Arc<Connections> {
        Connections::new(max, 1_000, Arc::new(Limits::new(0)))
    }

    fn from(host: u8) -> Door {
        Door::Tcp { local: IpAddr::from([127, 0, 0, 1]), remote: IpAddr::from([192, 0, 2, host]) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiting_of_the_largest_crowd_makes_room_and_nobody_who_is_answered() {
        let all = connections(4);
        let lone = all.admit(from(1)).expect("room");
        let mut crowd = Vec::new();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            crowd.push(all.admit(from(2)).expect("room"));
        }
        let answered = crowd[0].answering();
        let newcomer = all.admit(from(3)).expect("somebody makes room");
        let closed: Vec<bool> = crowd.iter().map(|connection| connection.is_closed()).collect();
        assert_eq!(closed, [false, true, false], "the first is being answered, the second has waited longest");
        assert!(!lone.is_closed() && !newcomer.is_closed());

        let busy: Vec<_> = [&lone, &crowd[2], &newcomer].map(|connection| connection.answering()).into();
        assert!(all.admit(from(4)).is_none(), "everybody is being answered");
        drop(answered);
        all.admit(from(4)).expect("room again");
        assert!(crowd[0].is_closed());
        drop(busy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dawdler_closes_its_own_and_never_a_client_that_asks_at_once() {
        let all = connections(8);
        let mut dawdlers: Vec<_> = (0..8).filter_map(|_| all.admit(from(2))).collect();
        for _ in 0..100 {
            let client = all.admit(from(2)).expect("room, although the address is the same");
            dawdlers.extend((0..6).filter_map(|_| all.admit(from(2))));
            assert!(!client.is_closed(), "it has come later than those that make room");
            let answered = client.answering();
            dawdlers.extend((0..20).filter_map(|_| all.admit(from(2))));
            assert!(!client.is_closed(), "it is being answered");
            drop(answered);
            all.forget(&client);
        }
        assert!(lock(&all.open).by_number.len() <= 8);
    }

    #[tokio::test(start_paused = true)]
    async fn websockets_take_half_of_the_places_and_idle_ones_make_room() {
        let all = connections(4);
        let sockets: Vec<_> = (0..4).map(|_| all.admit(from(1)).expect("room")).collect();
        assert!(all.upgrade(&sockets[0]) && all.upgrade(&sockets[1]));
        let held = sockets[0].hold_subscription(1).expect("the first");
        assert!(sockets[0].hold_subscription(1).is_none(), "one is the most");
        assert!(all.upgrade(&sockets[2]), "an idle one makes room");
        assert!(sockets[1].is_closed() && !sockets[0].is_closed());
        sockets[2].message_taken();
        assert!(!all.upgrade(&sockets[3]), "none is idle");
        drop(held);
        assert!(all.upgrade(&sockets[3]));
        assert!(sockets[0].is_closed());
    }

    #[test]
    fn a_host_of_ip_version_6_is_its_subnet() {
        let client = |remote: &str| {
            let remote = remote.parse().expect("an address");
            Door::Tcp { local: remote, remote }.client().map(|client| client.to_string())
        };
        assert_eq!(client("2001:db8::1:2:3:4"), Some("2001:db8::".to_owned()));
        assert_eq!(client("::ffff:192.0.2.1"), Some("192.0.2.1".to_owned()));
        assert_eq!(Door::Admin.client(), None);
    }
}
