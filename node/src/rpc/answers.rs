//! Answers that wait to be read: how many bytes of them there may be, and who gives way when there are too many.
//!
//! Whoever asks for much and reads nothing leaves its answers in the memory of the node: a block has up to 1.1 MB of ids, a
//! transaction's payload up to 8 MiB of hex, and there are hundreds of connections.
//!
//! # Rules
//! 1. **One budget for all.** A call whose answer may be large takes room for the largest there is ([`RESPONSE_BYTES_MAX`]) before
//!    its method runs, and keeps as much as its answer turns out to have until the system has taken the last byte of it. So
//!    there are never more than [`super::RpcConfig::answer_bytes_max`], in answers that are being made and those that wait.
//! 2. **One large answer for each connection.** The next call that may have one waits for its turn: to be made fast is of no use
//!    to who cannot read fast. So that a batch, whose answers are one, does not take the whole budget for itself, it has
//!    [`BATCH_BYTES_MAX`] at most.
//! 3. **Small answers need no room**, so that what a wallet or a monitor asks is answered while others fill the budget. A method says
//!    that its answers are small, and an answer of more than [`SMALL_BYTES_MAX`] is none then. They are bounded by the
//!    messages that may be unanswered (`connections`, rule 3): 16 of 16 KiB on each of 128 WebSockets are 32 MiB.
//! 4. **The slowest make room.** When the budget is used up and a call waits for it, connections are closed that hold answers and have
//!    kept us waiting for [`MAKE_ROOM_AFTER`] or longer: of the client that holds the most bytes that one which has
//!    taken the fewest a second. Only when nobody is slow, or it does not help within [`ROOM_WAIT_MAX`], the call is told
//!    that the node is busy. *Rationale:* refusing newcomers would let a few clients that never read shut out all others.
//! 5. **There is a least rate.** Who takes fewer than [`TAKEN_BYTES_MIN`] in [`TAKEN_WINDOW`] while something waits for it all the time
//!    is closed. Without it a byte now and then would hold answers forever, since rule 6 of `connections` asks for no more.
//! 6. **Bytes are paid for**: a unit for each [`super::paced::BYTES_PER_UNIT`] of a large answer, when it is known how many there are. The
//!    answer is sent nevertheless; what follows waits ([`super::limits`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Largest answer: a transaction whose payload fills the largest block of any genesis, in hex, and what stands around it.
pub(super) const RESPONSE_BYTES_MAX: u32 = 2 * starling_protocol::genesis::BLOCK_BYTES_MAX + (64 << 10);

/// Largest answer to a batch: a block of the most transactions, or dozens of common ones. A guess.
pub(super) const BATCH_BYTES_MAX: usize = 2 << 20;

/// Largest answer that needs no room. Most have some hundred bytes; events of subscriptions, which need none either, have 15 kB.
pub(super) const SMALL_BYTES_MAX: usize = 16 << 10;

/// How long a connection must have kept us waiting before it may be closed to make room: longer than a client needs that is
/// interrupted for a moment.
const MAKE_ROOM_AFTER: Duration = Duration::from_secs(2);

/// How long a call waits for room. Long enough for a budget that has just been filled to be emptied by rule 4.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);

/// Over how long it is measured how much a slow client takes. A shorter time would close clients over links that stall.
pub(super) const TAKEN_WINDOW: Duration = Duration::from_secs(30);

/// How much a slow client must take in that time: 8 KiB a second, which the slowest link that anybody works over carries. The
/// largest answer takes 17 minutes then.
pub(super) const TAKEN_BYTES_MIN: u64 = 30 * (8 << 10);

/// The bytes that answers may have, together.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    whole: u32,
    waiting: AtomicUsize,
}

/// Room for an answer, and the connection's turn to have one. It is given back when this goes.
#[derive(Debug)]
pub(super) struct Room {
    bytes: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl Budget {
    pub(super) fn new(bytes: u32) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes as usize)), whole: bytes, waiting: AtomicUsize::new(0) }
    }

    /// Room for the largest answer, in turn; none when there is none in time. `make_room` is called if there is none at once.
    pub(super) async fn take(&self, turn: OwnedSemaphorePermit, make_room: impl FnOnce()) -> Option<Room> {
        let wanted = RESPONSE_BYTES_MAX.min(self.whole);
        let bytes = match Arc::clone(&self.bytes).try_acquire_many_owned(wanted) {
            Ok(bytes) => bytes,
            Err(_too_few) => {
                let _waiting = Waiting::new(&self.waiting);
                make_room();
                let bytes = Arc::clone(&self.bytes).acquire_many_owned(wanted);
                tokio::time::timeout(ROOM_WAIT_MAX, bytes).await.ok()?.ok()?
            }
        };
        Some(Room { bytes, _turn: turn })
    }

    /// How many bytes those lack who wait; an estimate from above.
    pub(super) fn lacking(&self) -> usize {
        self.waiting.load(Ordering::Acquire).saturating_mul(RESPONSE_BYTES_MAX.min(self.whole) as usize)
    }

    /// How many bytes are taken.
    pub(super) fn taken(&self) -> usize {
        (self.whole as usize).saturating_sub(self.bytes.available_permits())
    }
}

/// Counts somebody who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Room {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.num_permits()
    }

    /// Gives back what is not needed.
    fn shrink(&mut self, bytes: usize) {
        drop(self.bytes.split(self.bytes().saturating_sub(bytes)));
    }
}

/// How a connection reads its large answer.
#[derive(Debug, Default)]
pub(super) struct Reading {
    unread: Option<Room>,
    /// Since it did not take all at once.
    slow: Option<Slow>,
}

#[derive(Clone, Copy, Debug)]
struct Slow {
    since: Instant,
    window_since: Instant,
    taken_in_window: u64,
    taken: u64,
}

impl Reading {
    /// A large answer of so many bytes is to be written.
    pub(super) fn begin(&mut self, mut room: Room, bytes: usize) {
        room.shrink(bytes);
        self.unread = Some(room);
    }

    /// The system has taken all of the large answer, or nobody will.
    pub(super) fn end(&mut self) -> Option<Room> {
        self.slow = None;
        self.unread.take()
    }

    /// The other end takes no more for now.
    pub(super) fn refused(&mut self) {
        if self.unread.is_some() && self.slow.is_none() {
            let now = Instant::now();
            self.slow = Some(Slow { since: now, window_since: now, taken_in_window: 0, taken: 0 });
        }
    }

    /// It has taken so many bytes.
    pub(super) fn took(&mut self, bytes: usize) {
        if let Some(slow) = &mut self.slow {
            slow.taken_in_window = slow.taken_in_window.saturating_add(bytes as u64);
            slow.taken = slow.taken.saturating_add(bytes as u64);
        }
    }

    /// Whether it has taken too little; to be asked now and then.
    pub(super) fn is_too_slow(&mut self) -> bool {
        let Some(slow) = &mut self.slow else { return false };
        if slow.window_since.elapsed() < TAKEN_WINDOW {
            return false;
        }
        let taken = std::mem::take(&mut slow.taken_in_window);
        slow.window_since = Instant::now();
        taken < TAKEN_BYTES_MIN
    }

    /// How many bytes wait, and how many it takes a second, if it may be closed to make room.
    pub(super) fn may_make_room(&self) -> Option<(usize, u64)> {
        let (room, slow) = (self.unread.as_ref()?, self.slow?);
        let waited = slow.since.elapsed();
        let rate = || slow.taken.saturating_mul(1_000) / u64::try_from(waited.as_millis()).unwrap_or(u64::MAX).max(1);
        (waited >= MAKE_ROOM_AFTER).then(|| (room.bytes(), rate()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().expect("the first")
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_keeps_as_much_as_it_has_and_who_finds_no_room_is_told_in_time() {
        let budget = Budget::new(2 * RESPONSE_BYTES_MAX);
        let first = budget.take(turn(), || panic!("there is room")).await.expect("room");
        let second = budget.take(turn(), || panic!("there is room")).await.expect("room");
        assert_eq!(budget.taken(), 2 * RESPONSE_BYTES_MAX as usize);
        let (mut reading, mut asked) = (Reading::default(), 0);
        reading.begin(first, 1_000);
        assert_eq!(budget.taken(), 1_000 + RESPONSE_BYTES_MAX as usize);
        let before = Instant::now();
        assert!(budget.take(turn(), || asked += 1).await.is_none());
        assert_eq!((before.elapsed().as_secs(), asked), (ROOM_WAIT_MAX.as_secs(), 1));
        assert_eq!(budget.lacking(), 0, "nobody waits any more");
        drop(second);
        let third = budget.take(turn(), || panic!("there is room")).await.expect("room");
        let (waited, ended) = tokio::join!(budget.take(turn(), || asked += 1), async {
            assert_eq!(budget.lacking(), RESPONSE_BYTES_MAX as usize);
            drop(third);
            drop(reading.end());
        });
        assert!(waited.is_some());
        drop((waited, ended));
        assert_eq!((budget.taken(), asked), (0, 2));
        let small = Budget::new(1_000);
        assert_eq!(small.take(turn(), || ()).await.expect("all of it").bytes(), 1_000);
    }

    /// Whether a client is given up that takes so many bytes in each second of so many.
    async fn is_given_up(bytes: usize, seconds: u64) -> bool {
        let budget = Budget::new(2 * RESPONSE_BYTES_MAX);
        let mut reading = Reading::default();
        reading.begin(budget.take(turn(), || ()).await.expect("room"), 1 << 20);
        reading.refused();
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            reading.took(bytes);
            if reading.is_too_slow() {
                return true;
            }
            reading.refused();
        }
        false
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_least_rate_for_whoever_keeps_an_answer_waiting() {
        assert!(is_given_up(8_000, 30).await);
        assert!(!is_given_up(8_000, 29).await);
        assert!(!is_given_up(8 << 10, 120).await);
        assert!(is_given_up(1, 30).await);
        // Who waits for nothing takes its time.
        let mut idle = Reading::default();
        idle.refused();
        tokio::time::advance(2 * TAKEN_WINDOW).await;
        assert!(!idle.is_too_slow());
    }
}
