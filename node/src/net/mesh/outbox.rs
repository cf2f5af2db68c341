//! One peer's send queue, between the behaviour that fills it and the connection task that empties it.
//!
//! The queue belongs to the peer, not to a connection: when the mesh moves from one connection of the peer to another,
//! what waits moves along. The behaviour pushes and cancels directly, so that an IDONTWANT takes effect at once instead of waiting in a
//! channel behind the frames that it is about; the lock is held for no longer than one push or pop.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use starling_protocol::id::MessageId;
use starling_protocol::rpc::Frame;
use starling_protocol::send_queue::{PushResult, SendQueue, SendQueueConfig, SendQueueStats};
use starling_protocol::wire::EncodedRpc;

use crate::clock;

/// Bytes asked of the queue at a time. A guess: large enough that a heartbeat's control is one RPC, small enough that a
/// more urgent frame never waits for long behind what was taken before it.
const RPC_BYTES_WANTED: usize = 32 * 1_024;

/// A send queue and whoever waits for it to fill.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: SendQueue,
    /// Bytes of RPCs that were taken to be written.
    written_bytes: u64,
    writer: Option<Waker>,
}

impl Outbox {
    pub(super) fn new(config: SendQueueConfig) -> Self {
        Self { inner: Mutex::new(Inner { queue: SendQueue::new(config), written_bytes: 0, writer: None }) }
    }

    /// Adds a frame and wakes the writer; how many frames were dropped for it.
    pub(super) fn push(&self, frame: Frame) -> u64 {
        let mut inner = self.lock();
        let result = inner.queue.push(clock::now(), frame);
        let writer = inner.writer.take();
        drop(inner);
        if let Some(writer) = writer {
            writer.wake();
        }
        match result {
            PushResult::Ok => 0,
            PushResult::Dropped { frames } => frames.total(),
        }
    }

    /// Removes what waits of these messages; how many there were.
    pub(super) fn cancel(&self, ids: &[MessageId]) -> u32 {
        self.lock().queue.cancel(ids)
    }

    /// The next RPC to write.
    pub(super) fn poll_pop(&self, context: &Context<'_>) -> Poll<EncodedRpc> {
        let mut inner = self.lock();
        match inner.queue.pop(clock::now(), RPC_BYTES_WANTED) {
            Some(rpc) => {
                inner.written_bytes = inner.written_bytes.saturating_add(rpc.len as u64);
                Poll::Ready(rpc)
            }
            None => {
                inner.writer = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Bytes that wait, and what the queue has done so far.
    pub(super) fn stats(&self) -> (usize, SendQueueStats) {
        let inner = self.lock();
        (inner.queue.bytes(), inner.queue.stats())
    }

    /// Bytes of RPCs that were taken to be written, with length prefixes.
    pub(super) fn written_bytes(&self) -> u64 {
        self.lock().written_bytes
    }

    /// The queue keeps its own invariants through every call, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
