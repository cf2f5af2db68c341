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
//! 3. **Nobody asks faster than it is answered.** `jsonrpsee` spawns a task for every message of a WebSocket, whose answer
//!    waits in that task when the other end does not read. So a connection is not read while [`CALLS_MAX`] of its calls
//!    are under way, or while it does not take what is written to it. The client's bytes then wait in its own socket,
//!    which is what TCP's window is for. After each read the reader gives way once, so that the tasks of what it read
//!    begin, and are counted, before it reads on. What one read brings may therefore exceed [`CALLS_MAX`]; nothing more.
//! 4. **Who takes nothing goes.** A connection that has taken no byte of what waits for it for
//!    [`super::RpcConfig::patience`] is closed.

use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Calls of one connection that may be under way before it is read on; a batch counts as one. A guess: enough to keep the
/// node busy from one connection.
pub(super) const CALLS_MAX: usize = 16;

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
    calls: AtomicUsize,
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// For at most so many at a time.
    pub(super) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self { max: max.max(1) as usize, open: Mutex::default() })
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
            calls: AtomicUsize::new(0),
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

    fn forget(&self, number: u64) {
        lock(&self.open).by_number.remove(&number);
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
            connection.closed.store(true, Ordering::Release);
            connection.reader.wake();
            connection.writer.wake();
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

    /// A call begins, until what is returned goes.
    pub(super) fn begin_call(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::AcqRel);
        Call(Arc::clone(self))
    }

    /// Takes one of so many subscriptions, until what is returned goes; none when they are all taken.
    pub(super) fn hold_subscription(self: &Arc<Self>, max: u32) -> Option<Held> {
        let more = |held: u32| (held < max).then_some(held + 1);
        self.subscriptions.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Held(Arc::clone(self)))
    }

    fn is_idle(&self) -> bool {
        self.calls.load(Ordering::Acquire) == 0 && self.subscriptions.load(Ordering::Acquire) == 0
    }

    fn has_too_much(&self) -> bool {
        self.calls.load(Ordering::Acquire) >= CALLS_MAX || self.refusing.load(Ordering::Acquire)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn set_refuses(&self, refuses: bool) {
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

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Call(Arc<Connection>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
        self.0.reader.wake();
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

/// The stream of a connection, which has its place until the stream goes.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    connection: Arc<Connection>,
    all: Arc<Connections>,
    gives_way: bool,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>, all: Arc<Connections>) -> Self {
        Self { stream, connection, all, gives_way: false }
    }
}

impl<S> Drop for Paced<S> {
    fn drop(&mut self) {
        self.all.forget(self.connection.number);
    }
}

fn made_room() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "closed to make room, or because nothing was read")
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.gives_way) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Before anything is looked at, so that whatever changes it from now on is noticed.
        self.connection.reader.register(context.waker());
        if self.connection.is_closed() {
            return Poll::Ready(Err(made_room()));
        }
        if self.connection.has_too_much() {
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.gives_way = read.is_ready();
        read
    }
}

impl<S: AsyncWrite + Unpin> Paced<S> {
    fn write(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.connection.writer.register(context.waker());
        if self.connection.is_closed() {
            return Poll::Ready(Err(made_room()));
        }
        let written = write(Pin::new(&mut self.stream), context);
        self.connection.set_refuses(written.is_pending());
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn from(host: u8) -> Door {
        Door::Tcp { local: IpAddr::from([127, 0, 0, 1]), remote: IpAddr::from([192, 0, 2, host]) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiting_of_the_largest_crowd_makes_room_and_nobody_who_is_answered() {
        let all = Connections::new(4);
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
        let all = Connections::new(8);
        let mut dawdlers: Vec<_> = (0..8).filter_map(|_| all.admit(from(2))).collect();
        for _ in 0..100 {
            let client = all.admit(from(2)).expect("room, although the address is the same");
            dawdlers.extend((0..6).filter_map(|_| all.admit(from(2))));
            assert!(!client.is_closed(), "it has come later than those that make room");
            let answered = client.answering();
            dawdlers.extend((0..20).filter_map(|_| all.admit(from(2))));
            assert!(!client.is_closed(), "it is being answered");
            drop(answered);
            all.forget(client.number);
        }
        assert!(lock(&all.open).by_number.len() <= 8);
    }

    #[tokio::test(start_paused = true)]
    async fn websockets_take_half_of_the_places_and_idle_ones_make_room() {
        let all = Connections::new(4);
        let sockets: Vec<_> = (0..4).map(|_| all.admit(from(1)).expect("room")).collect();
        assert!(all.upgrade(&sockets[0]) && all.upgrade(&sockets[1]));
        let held = sockets[0].hold_subscription(1).expect("the first");
        assert!(sockets[0].hold_subscription(1).is_none(), "one is the most");
        assert!(all.upgrade(&sockets[2]), "an idle one makes room");
        assert!(sockets[1].is_closed() && !sockets[0].is_closed());
        let _call = sockets[2].begin_call();
        assert!(!all.upgrade(&sockets[3]), "none is idle");
        drop(held);
        assert!(all.upgrade(&sockets[3]));
        assert!(sockets[0].is_closed());
    }

    #[tokio::test]
    async fn nothing_is_read_while_too_much_is_under_way() {
        let all = Connections::new(4);
        let connection = all.admit(from(1)).expect("room");
        let (mut client, server) = tokio::io::duplex(1_000);
        let mut server = Paced::new(server, Arc::clone(&connection), Arc::clone(&all));
        client.write_all(b"ab").await.expect("room");
        assert_eq!(server.read_u8().await.expect("a byte"), b'a');
        let mut calls: Vec<Call> = (0..CALLS_MAX).map(|_| connection.begin_call()).collect();
        let reading = tokio::spawn(async move {
            let byte = server.read_u8().await.expect("a byte");
            (server, byte)
        });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished(), "it waits for a call to end");
        calls.pop();
        let (mut server, byte) = reading.await.expect("no panic");
        assert_eq!(byte, b'b');
        drop(calls);

        // The client reads nothing: once its buffer is full, it is not read either, until it takes something.
        client.write_all(b"c").await.expect("room");
        let mut writing = Box::pin(server.write_all(&[7; 2_000]));
        assert!(futures::poll!(writing.as_mut()).is_pending());
        drop(writing);
        let reading = tokio::spawn(async move {
            let mut answer = [0; 1_000];
            client.read_exact(&mut answer).await.expect("an answer");
            client
        });
        let _client = reading.await.expect("no panic");
        let (mut read, mut write) = tokio::io::split(server);
        assert!(connection.has_too_much());
        write.write_all(b"more").await.expect("room again");
        assert_eq!(read.read_u8().await.expect("a byte"), b'c');
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_closed_and_gives_its_place_back() {
        let all = Connections::new(1);
        let connection = all.admit(from(1)).expect("room");
        let answered = connection.answering();
        let (client, server) = tokio::io::duplex(10);
        let mut server = Paced::new(server, Arc::clone(&connection), Arc::clone(&all));
        let writing = tokio::spawn(async move { server.write_all(&[7; 20]).await.map_err(|error| error.kind()) });
        tokio::task::yield_now().await;
        let patience = Duration::from_secs(10);
        tokio::time::advance(patience).await;
        all.close_stuck(patience);
        assert!(!connection.is_closed());
        tokio::time::advance(Duration::from_millis(1)).await;
        all.close_stuck(patience);
        assert_eq!(writing.await.expect("no panic"), Err(io::ErrorKind::ConnectionAborted));
        all.admit(from(1)).expect("its place is free");
        drop((client, answered));
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
