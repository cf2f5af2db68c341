//! The arithmetic of link emulation, without clock or sockets.
//!
//! Times are nanoseconds since an epoch of the caller's choosing. Both types are O(1) in time and
//! memory, but for the queue of those who wait for the uplink, which is linear in their number.

use std::collections::{BTreeMap, VecDeque};

/// How far ahead of real time the uplink may be committed. It plays the part of the queue of a
/// network card: deep enough that a late timer does not leave the link idle, shallow enough that
/// a message admitted now leaves almost at once.
pub const BACKLOG: std::time::Duration = std::time::Duration::from_nanos(BACKLOG_NS);

/// Most bytes admitted at once; also the amount after which another waiting connection has its
/// turn.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// Fewest bytes a chunk is cut to at low rates: about what one Ethernet frame carries.
pub const CHUNK_BYTES_MIN: usize = 1_460;

const NS_PER_S: u128 = 1_000_000_000;
const BACKLOG_NS: u64 = 2_000_000;

/// The transmitter that all connections of a node share: a virtual-clock rate limiter.
///
/// It keeps the time until which the link is committed. Admitting `n` bytes commits it for
/// `n x 8 / rate` longer, and their last bit leaves at the new end. A chunk is admissible while the
/// commitment reaches less than [`BACKLOG`] into the future. Unlike a token bucket with a burst,
/// idle time is never saved up to be sent faster than the line rate, so serialisation delay is
/// right for a single message too.
#[derive(Debug, Clone)]
pub struct UplinkSchedule {
    bits_per_s: u64,
    chunk_bytes: usize,
    committed_until_ns: u64,
}

impl UplinkSchedule {
    /// A link of the given rate, idle. `None` when the rate is 0, which means unlimited.
    #[must_use]
    pub fn new(bits_per_s: u64) -> Option<Self> {
        if bits_per_s == 0 {
            return None;
        }
        let in_backlog = u128::from(bits_per_s) * u128::from(BACKLOG_NS) / (8 * NS_PER_S);
        let chunk_bytes = usize::try_from(in_backlog).unwrap_or(usize::MAX).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        Some(Self { bits_per_s, chunk_bytes, committed_until_ns: 0 })
    }

    /// Most bytes to admit at once.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// The earliest time at which the next chunk may be admitted.
    #[must_use]
    pub fn admissible_at_ns(&self) -> u64 {
        // One nanosecond is added so that "less than the backlog" holds at the returned time.
        (self.committed_until_ns + 1).saturating_sub(BACKLOG_NS)
    }

    /// Commits the link for `bytes` more and returns the time at which their last bit leaves.
    ///
    /// The caller asks [`UplinkSchedule::admissible_at_ns`] first.
    pub fn admit(&mut self, now_ns: u64, bytes: usize) -> u64 {
        debug_assert!(now_ns >= self.admissible_at_ns());
        let bits = bytes as u128 * 8;
        let serialisation_ns = (bits * NS_PER_S).div_ceil(u128::from(self.bits_per_s));
        let serialisation_ns = u64::try_from(serialisation_ns).unwrap_or(u64::MAX);
        self.committed_until_ns = self.committed_until_ns.max(now_ns).saturating_add(serialisation_ns);
        self.committed_until_ns
    }
}

/// Leave to send so many bytes, the last of which leaves the uplink at `departure_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How many bytes.
    pub bytes: usize,
    /// When they have left.
    pub departure_ns: u64,
}

/// Who may use the uplink next.
///
/// A connection that finds the link committed, or others waiting, joins the end of the queue with the size of the chunk
/// it wants. When the link becomes admissible the head of the queue is granted its chunk, and whatever was kept with it (a
/// waker) is handed back. The grant is made out at once rather than when the woken connection comes back, so one that never
/// does (its task was cancelled) costs a chunk of bandwidth but blocks nobody.
#[derive(Debug)]
pub struct UplinkQueue<W> {
    /// `None` on an unlimited link, where nobody ever waits.
    schedule: Option<UplinkSchedule>,
    waiters: VecDeque<Waiter<W>>,
    grants: BTreeMap<u64, Grant>,
}

#[derive(Debug)]
struct Waiter<W> {
    connection: u64,
    wanted_bytes: usize,
    kept: W,
}

impl<W> UplinkQueue<W> {
    /// An idle uplink of this rate; 0 is unlimited.
    #[must_use]
    pub fn new(bits_per_s: u64) -> Self {
        Self { schedule: UplinkSchedule::new(bits_per_s), waiters: VecDeque::new(), grants: BTreeMap::new() }
    }

    /// Asks for leave to send up to `wanted_bytes`. `None` means that the connection waits; `keep` is then called, and its
    /// result is handed back by [`UplinkQueue::serve`] when the connection should ask again.
    pub fn ask(
        &mut self,
        now_ns: u64,
        connection: u64,
        wanted_bytes: usize,
        keep: impl FnOnce() -> W,
    ) -> Option<Grant> {
        let Some(schedule) = &mut self.schedule else {
            return Some(Grant { bytes: wanted_bytes.min(CHUNK_BYTES_MAX), departure_ns: now_ns });
        };
        if let Some(mut grant) = self.grants.remove(&connection) {
            // Bytes that were not there when the link was free leave no earlier than now.
            grant.departure_ns = grant.departure_ns.max(now_ns);
            return Some(grant);
        }
        let wanted_bytes = wanted_bytes.min(schedule.chunk_bytes());
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| waiter.connection == connection) {
            waiter.wanted_bytes = wanted_bytes;
            waiter.kept = keep();
            return None;
        }
        if self.waiters.is_empty() && schedule.admissible_at_ns() <= now_ns {
            return Some(Grant { bytes: wanted_bytes, departure_ns: schedule.admit(now_ns, wanted_bytes) });
        }
        self.waiters.push_back(Waiter { connection, wanted_bytes, kept: keep() });
        None
    }

    /// Makes out grants to as many waiters as the link admits now and hands back what was kept with them.
    pub fn serve(&mut self, now_ns: u64) -> Vec<W> {
        let mut served = Vec::new();
        let Some(schedule) = &mut self.schedule else { return served };
        while schedule.admissible_at_ns() <= now_ns {
            let Some(waiter) = self.waiters.pop_front() else { break };
            let departure_ns = schedule.admit(now_ns, waiter.wanted_bytes);
            self.grants.insert(waiter.connection, Grant { bytes: waiter.wanted_bytes, departure_ns });
            served.push(waiter.kept);
        }
        served
    }

    /// When to call [`UplinkQueue::serve`]; `None` while nobody waits.
    #[must_use]
    pub fn serve_at_ns(&self) -> Option<u64> {
        let schedule = self.schedule.as_ref()?;
        (!self.waiters.is_empty()).then(|| schedule.admissible_at_ns())
    }

    /// Forgets a connection that is gone.
    pub fn forget(&mut self, connection: u64) {
        self.waiters.retain(|waiter| waiter.connection != connection);
        self.grants.remove(&connection);
    }
}

/// When bytes that left the uplink of one connection reach the remote: a delay, plus uniform jitter, plus a retransmission when a
/// segment is lost, never before what was sent earlier.
///
/// The order constraint biases jitter upwards on a busy connection: a chunk waits for an earlier
/// one that drew a larger jitter. That is what in-order delivery does to TCP as well.
#[derive(Debug, Clone)]
pub struct DueTimes {
    delay_ns: u64,
    loss_ppm: u32,
    jitter_ns_max: u64,
    last_due_ns: u64,
    random: SplitMix64,
    /// Of its own, so that losses change no jitter.
    losses: SplitMix64,
}

/// What one segment of TCP carries.
const SEGMENT_BYTES: usize = 1_460;
/// What Linux adds to the round trip at the least before it sends again; RFC 6298 wants a second in all.
const RETRANSMISSION_TIMEOUT_NS: u64 = 200_000_000;
/// The most that Linux waits before it sends again.
const RETRANSMISSION_TIMEOUT_NS_MAX: u64 = 120_000_000_000;
/// A segment is sent again so many times after the first at most; Linux gives a connection up after that (`tcp_retries2`).
const RETRIES_MAX: u32 = 15;
/// So many segments behind a lost one show that it is lacking (RFC 5681, section 3.2).
const DUPLICATES_THAT_SHOW_A_GAP: usize = 3;

impl DueTimes {
    /// A path with the given one-way delay and jitter, both in microseconds.
    #[must_use]
    pub fn new(delay_us: u32, jitter_us_max: u32, seed: u64) -> Self {
        Self {
            delay_ns: u64::from(delay_us) * 1_000,
            loss_ppm: 0,
            losses: SplitMix64(!seed),
            jitter_ns_max: u64::from(jitter_us_max) * 1_000,
            last_due_ns: 0,
            random: SplitMix64(seed),
        }
    }

    /// Has the path be otherwise from now on.
    pub fn change(&mut self, delay_us: u32, loss_ppm: u32) {
        (self.delay_ns, self.loss_ppm) = (u64::from(delay_us) * 1_000, loss_ppm);
    }

    /// The time at which so many bytes that leave at `departure_ns` are to be delivered.
    pub fn stamp(&mut self, departure_ns: u64, bytes: usize) -> u64 {
        let jitter_ns = self.random.at_most(self.jitter_ns_max);
        let due_ns = departure_ns.saturating_add(self.delay_ns + jitter_ns + self.retransmission_ns(bytes));
        self.last_due_ns = self.last_due_ns.max(due_ns);
        self.last_due_ns
    }

    /// How much longer a chunk takes because a segment of it is lost; zero if none is. What is sent again may be lost, too: then it waits for a
    /// timeout, which doubles each time (RFC 6298, section 5.5).
    fn retransmission_ns(&mut self, bytes: usize) -> u64 {
        let segments = bytes.div_ceil(SEGMENT_BYTES);
        if self.loss_ppm == 0 || !(0..segments).any(|_| self.loses()) {
            return 0;
        }
        let round_trip_ns = 2 * self.delay_ns;
        let timeout_ns = round_trip_ns + RETRANSMISSION_TIMEOUT_NS;
        let (mut late_ns, mut next_ns) = if segments > DUPLICATES_THAT_SHOW_A_GAP {
            (round_trip_ns, timeout_ns)
        } else {
            (timeout_ns, 2 * timeout_ns)
        };
        for _ in 0..RETRIES_MAX {
            if !self.loses() {
                break;
            }
            late_ns += next_ns.min(RETRANSMISSION_TIMEOUT_NS_MAX);
            next_ns = next_ns.saturating_mul(2);
        }
        late_ns
    }

    /// Draws whether a segment is lost.
    fn loses(&mut self) -> bool {
        self.losses.at_most(999_999) < u64::from(self.loss_ppm)
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014): small and good enough for jitter, which nobody has an interest in predicting.
#[derive(Debug, Clone)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `[0, max]`, by multiplication; the bias is below `max / 2^64`.
    pub fn at_most(&mut self, max: u64) -> u64 {
        let product = u128::from(self.draw()) * (u128::from(max) + 1);
        u64::try_from(product >> 64).unwrap_or(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_message_on_an_idle_link_takes_exactly_its_serialisation_time() {
        let mut link = UplinkSchedule::new(8_000_000).unwrap();
        assert_eq!(link.admit(5 * MS, 1_000), 6 * MS);
        // Idle time is not saved up: much later, the same bytes take as long again.
        assert_eq!(link.admit(100 * MS, 1_000), 101 * MS);
    }

    #[test]
    fn saturated_link_keeps_its_rate_and_never_commits_further_than_backlog_and_one_chunk() {
        let bits_per_s = 20_000_000;
        let mut link = UplinkSchedule::new(bits_per_s).unwrap();
        let chunk = link.chunk_bytes();
        assert_eq!(chunk, 5_000);
        let chunk_ns = chunk as u64 * 8 * 1_000 / 20;
        let (mut now, mut sent, mut departure) = (0, 0u64, 0);
        while now < 1_000 * MS {
            departure = link.admit(now, chunk);
            assert!(departure <= now + BACKLOG_NS + chunk_ns);
            sent += chunk as u64;
            now = now.max(link.admissible_at_ns());
        }
        let expected_ns = sent * 8 * 1_000 / 20;
        assert_eq!(departure, expected_ns);
    }

    #[test]
    fn chunk_shrinks_with_the_rate_within_its_limits() {
        let chunk = |rate| UplinkSchedule::new(rate).unwrap().chunk_bytes();
        assert_eq!(chunk(8_000), CHUNK_BYTES_MIN);
        assert_eq!(chunk(10_000_000_000), CHUNK_BYTES_MAX);
        assert!(UplinkSchedule::new(0).is_none());
    }

    #[test]
    fn not_admissible_before_the_backlog_has_drained() {
        let mut link = UplinkSchedule::new(8_000_000).unwrap();
        let departure = link.admit(0, 4_000);
        assert_eq!(departure, 4 * MS);
        assert_eq!(link.admissible_at_ns(), 2 * MS + 1);
    }

    /// Connections that always have more to send, in virtual time: how many bytes each was granted by the end.
    fn saturate(queue: &mut UplinkQueue<u64>, wanted_bytes: &[usize], until_ns: u64) -> Vec<usize> {
        let mut sent = vec![0; wanted_bytes.len()];
        let mut asking: Vec<u64> = (0..wanted_bytes.len() as u64).collect();
        let mut now_ns = 0;
        while now_ns < until_ns {
            for connection in asking.drain(..) {
                let index = usize::try_from(connection).unwrap();
                while let Some(grant) = queue.ask(now_ns, connection, wanted_bytes[index], || connection) {
                    sent[index] += grant.bytes;
                }
            }
            now_ns = queue.serve_at_ns().expect("everybody has more to send").max(now_ns);
            asking = queue.serve(now_ns);
        }
        sent
    }

    #[test]
    fn those_who_wait_take_turns_chunk_by_chunk() {
        let mut queue = UplinkQueue::new(16_000_000);
        let sent = saturate(&mut queue, &[100_000, 100_000, 100_000], 1_000 * MS);
        let total: usize = sent.iter().sum();
        assert!((1_990_000..=2_010_000).contains(&total), "{total}");
        assert!(sent.iter().all(|bytes| bytes.abs_diff(total / 3) <= 2 * 4_000), "{sent:?}");
    }

    #[test]
    fn nobody_overtakes_those_who_wait_even_when_the_link_is_free() {
        let mut queue = UplinkQueue::new(8_000_000);
        while queue.ask(0, 1, 2_000, || 1).is_some() {}
        assert!(queue.ask(0, 2, 2_000, || 2).is_none());
        let free_ns = queue.serve_at_ns().unwrap() + 100 * MS;
        assert!(queue.ask(free_ns, 3, 2_000, || 3).is_none(), "the link is free, but 1 and 2 came first");
        assert_eq!(queue.serve(free_ns), [1]);
        let next_ns = queue.serve_at_ns().unwrap();
        assert_eq!(queue.serve(next_ns), [2]);
    }

    #[test]
    fn a_grant_is_for_its_connection_once_and_leaves_no_earlier_than_it_is_used() {
        let mut queue = UplinkQueue::new(8_000_000);
        while queue.ask(0, 1, 2_000, || ()).is_some() {}
        let at_ns = queue.serve_at_ns().unwrap();
        assert_eq!(queue.serve(at_ns).len(), 1);
        assert!(queue.ask(at_ns, 2, 2_000, || ()).is_none());
        let late_ns = at_ns + 500 * MS;
        assert_eq!(queue.ask(late_ns, 1, 2_000, || ()), Some(Grant { bytes: 2_000, departure_ns: late_ns }));
        assert!(queue.ask(late_ns, 1, 2_000, || ()).is_none(), "behind 2");
        queue.forget(2);
        queue.forget(1);
        assert_eq!(queue.serve_at_ns(), None);
    }

    #[test]
    fn due_times_keep_order_and_stay_within_delay_and_jitter() {
        let mut path = DueTimes::new(35_000, 2_000, 1);
        let (mut last, mut lowest, mut highest) = (0, u64::MAX, 0);
        for step in 0..10_000u64 {
            // Far enough apart that order never forces a later due time.
            let departure = step * 10 * MS;
            let due = path.stamp(departure, 100);
            assert!(due >= last);
            last = due;
            lowest = lowest.min(due - departure);
            highest = highest.max(due - departure);
        }
        assert!((35 * MS..35 * MS + 20_000).contains(&lowest), "{lowest}");
        assert!((37 * MS - 20_000..=37 * MS).contains(&highest), "{highest}");

        let mut dense = DueTimes::new(1_000, 5_000, 2);
        let dues: Vec<u64> = (0..1_000).map(|step| dense.stamp(step * 1_000, 100)).collect();
        assert!(dues.is_sorted());
    }

    #[test]
    fn what_is_lost_comes_a_retransmission_later_and_changes_no_jitter() {
        let late_by = |bytes: usize, loss_ppm: u32| {
            let (mut usual, mut lossy) = (DueTimes::new(40_000, 2_000, 7), DueTimes::new(10_000, 2_000, 7));
            lossy.change(40_000, loss_ppm);
            let departures = (0..10_000u64).map(|step| step * 1_000 * MS);
            let late = departures.map(|at| lossy.stamp(at, bytes) - usual.stamp(at, bytes));
            late.filter(|late_ns| *late_ns > 0).collect::<Vec<u64>>()
        };
        assert!(late_by(500, 0).is_empty());
        let (small, large) = (late_by(500, 20_000), late_by(14_600, 20_000));
        assert!((150..250).contains(&small.len()), "2 % of 10,000, not {}", small.len());
        assert!((1_700..1_960).contains(&large.len()), "1 - 0.98^10 of 10,000, not {}", large.len());
        let times = |of: &[u64], ms: u64| of.iter().filter(|late_ns| **late_ns == ms * MS).count();
        assert!((1..12).contains(&times(&small, 280 + 560)), "2 % of these are lost again, and wait twice as long");
        assert!((20..60).contains(&times(&large, 80 + 280)), "what follows does not show the gap a second time");
        assert!(times(&small, 280) + 12 > small.len() && times(&large, 80) + 60 > large.len());
    }

    #[test]
    fn jitter_depends_on_the_seed_only() {
        let draw = |seed| {
            let mut path = DueTimes::new(0, 1_000, seed);
            (0..20).map(|i| path.stamp(i * MS, 100)).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
