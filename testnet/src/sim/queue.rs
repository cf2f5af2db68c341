//! What happens next: a calendar of events in the order of their times.
//!
//! # Promises
//! - Events come out in the order of (time, sequence number), where the sequence number counts the pushes: of two
//!   events of one moment, the one that was pushed first comes first. No heap's or hash's accident decides.
//! - Nothing is pushed before the bucket of the event that came out last, or of the end up to which nothing came out; whoever
//!   tries gets a panic, because the past cannot be changed.
//!
//! # How
//! A calendar queue (Brown, "Calendar queues: a fast O(1) priority queue implementation for the simulation event set
//! problem", 1988) with fixed widths and three levels:
//!
//! 1. *The present*: the events of one bucket of [`BUCKET_US`], sorted when the bucket is entered. An event that is
//!    pushed into it while it is being emptied is put into its place; where more than `SHIFTED_MAX` others would have to
//!    move for it, it goes into a heap beside them. So thousands that act in one moment, as attackers do, do not cost the square of their number.
//! 2. *The wheels*: [`WHEEL_BUCKETS`] buckets each, half a second, one for the present lap and one for the next. A bucket is an unsorted
//!    list; the lists that were emptied last are used first.
//! 3. *Later*: lists by lap, in an ordered map; what is in a lap goes onto a wheel one lap before it begins.
//!
//! Within a bucket the order is that of one number, of which the upper bits are where in the bucket the event lies and the rest is the sequence
//! number: it says the time of the event, too, and is all that is kept beside it. The list of a bucket is written as the events
//! are pushed and read when they are due, so every byte of them is moved through the processor's caches twice.
//!
//! *Rationale for the width:* a bucket should hold so few events that sorting it is cheap, and so many that there is something to read
//! ahead ([`EventQueue::present`]) and that the lists of all buckets with pending events, some 150 milliseconds of them, stay in the
//! processor's caches. Networks of a thousand to ten thousand nodes have ten to a hundred every 128 microseconds. A binary heap would
//! touch a dozen places spread over all pending events for each push and pop.
//!
//! # Cost
//! A push is O(1), plus O(log laps) beyond the wheels and O(log k) into the present bucket; a pop is amortised O(log k) for k events in its bucket. Lists keep the size of
//! their largest hour.

use starling_protocol::time::Time;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

/// Width of a bucket in microseconds.
pub const BUCKET_US: u64 = 1 << BUCKET_BITS;
/// How many buckets the wheel has.
pub const WHEEL_BUCKETS: u64 = 1 << WHEEL_BITS;

/// How many events of the present bucket are moved to put another one into its place: some lines of the processor's cache.
const SHIFTED_MAX: usize = 64;

const BUCKET_BITS: u32 = 7;
const WHEEL_BITS: u32 = 12;

/// Events that are still to come; see the module.
#[derive(Debug)]
pub struct EventQueue<T> {
    /// The rest of the bucket that is being emptied, the next event last.
    present: Vec<Entry<T>>,
    /// What was pushed into that bucket too far from its next event.
    late: BinaryHeap<Reverse<Entry<T>>>,
    /// The bucket that `present` belongs to, counted from the beginning of time.
    bucket: u64,
    /// The present lap and the next one, by whether their number is even.
    wheels: [Wheel<T>; 2],
    /// What is in laps after these, with the buckets.
    later: BTreeMap<u64, Vec<(u64, Entry<T>)>>,
    /// Empty lists that have an allocation.
    spare: Vec<Vec<Entry<T>>>,
    sequence: u64,
    /// Events that came out.
    popped: u64,
    now: Time,
    /// Whether a bucket of several events was entered since that was last asked.
    entered: bool,
}

#[derive(Debug)]
struct Wheel<T> {
    buckets: Vec<Vec<Entry<T>>>,
    /// One bit for each bucket that is not empty.
    occupied: Vec<u64>,
}

/// An event of a known bucket.
#[derive(Debug)]
struct Entry<T> {
    /// The order within the bucket: see the module.
    key: u64,
    event: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keys are unique within a bucket.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// Bits of an order that are the sequence number: enough for a million events a second during four thousand years.
const SEQUENCE_BITS: u32 = u64::BITS - BUCKET_BITS;

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        let buckets = usize::try_from(WHEEL_BUCKETS).expect("a small number");
        Self { buckets: (0..buckets).map(|_| Vec::new()).collect(), occupied: vec![0; buckets / 64] }
    }
}

impl<T> Default for EventQueue<T> {
    fn default() -> Self {
        Self {
            present: Vec::new(),
            late: BinaryHeap::new(),
            bucket: 0,
            wheels: Default::default(),
            later: BTreeMap::new(),
            spare: Vec::new(),
            sequence: 0,
            popped: 0,
            now: Time::ZERO,
            entered: false,
        }
    }
}

impl<T> Wheel<T> {
    /// The list of a bucket to which an event is to be added. One without an allocation gets one of the spare ones.
    #[inline]
    fn list(&mut self, bucket: u64, spare: &mut Vec<Vec<Entry<T>>>) -> &mut Vec<Entry<T>> {
        let place = place_of(bucket);
        let list = &mut self.buckets[place];
        if list.capacity() == 0 {
            self.occupied[place / 64] |= 1 << (place % 64);
            if let Some(other) = spare.pop() {
                *list = other;
            }
        }
        list
    }

    fn take(&mut self, place: usize) -> Vec<Entry<T>> {
        self.occupied[place / 64] &= !(1 << (place % 64));
        core::mem::take(&mut self.buckets[place])
    }

    /// The first bucket from this place on that is not empty.
    fn first_occupied(&self, from: usize) -> Option<usize> {
        let word = from / 64;
        let first = self.occupied[word] & (u64::MAX << (from % 64));
        if first != 0 {
            return Some(word * 64 + first.trailing_zeros() as usize);
        }
        let (offset, bits) = self.occupied[word + 1..].iter().enumerate().find(|(_, bits)| **bits != 0)?;
        Some((word + 1 + offset) * 64 + bits.trailing_zeros() as usize)
    }
}

impl<T> EventQueue<T> {
    /// Adds an event.
    ///
    /// # Panics
    /// When `at` lies in a bucket that has passed.
    // Inlined, so that the event is made in its place: what is moved right after it was written field by field stalls the processor.
    #[inline(always)]
    pub fn push(&mut self, at: Time, event: T) {
        let at_us = at.as_micros();
        let (bucket, key) = (at_us >> BUCKET_BITS, at_us << SEQUENCE_BITS | self.sequence);
        self.sequence += 1;
        let lap = lap_of(bucket);
        if bucket > self.bucket && lap <= lap_of(self.bucket) + 1 {
            self.wheels[parity(lap)].list(bucket, &mut self.spare).push(Entry { key, event });
        } else {
            self.push_elsewhere(at, Entry { key, event });
        }
    }

    /// Adds an event that happens in the present bucket or beyond the wheels.
    #[inline(never)]
    fn push_elsewhere(&mut self, at: Time, entry: Entry<T>) {
        let bucket = at.as_micros() >> BUCKET_BITS;
        assert!(bucket >= self.bucket, "an event at {at} comes too late: that moment has passed");
        if bucket > self.bucket {
            return self.later.entry(lap_of(bucket)).or_default().push((bucket, entry));
        }
        let place = self.present.partition_point(|other| other.key > entry.key);
        if self.present.len() - place <= SHIFTED_MAX {
            self.present.insert(place, entry);
        } else {
            self.late.push(Reverse(entry));
        }
    }

    /// Takes out the next event, unless it happens after `end`; then it is `end`, and nothing can be pushed before.
    pub fn pop(&mut self, end: Time) -> Option<(Time, T)> {
        if self.present.is_empty() && self.late.is_empty() && !self.enter_next_bucket(end.as_micros() >> BUCKET_BITS) {
            return None;
        }
        let begins_us = self.bucket << BUCKET_BITS;
        let at_us = |entry: &Entry<T>| begins_us | entry.key >> SEQUENCE_BITS;
        let entry = if self.late.is_empty() {
            self.present.pop_if(|entry| at_us(entry) <= end.as_micros())?
        } else {
            self.pop_among_late(|entry| at_us(entry) <= end.as_micros())?
        };
        self.popped += 1;
        self.now = Time::from_micros(at_us(&entry));
        Some((self.now, entry.event))
    }

    /// Takes out the next event of the present bucket if it is wanted, where some are late.
    #[cold]
    fn pop_among_late(&mut self, wanted: impl Fn(&Entry<T>) -> bool) -> Option<Entry<T>> {
        match (self.present.last(), self.late.peek()) {
            (Some(next), Some(Reverse(late))) if next < late => self.present.pop_if(|entry| wanted(entry)),
            (_, Some(Reverse(late))) if wanted(late) => self.late.pop().map(|Reverse(entry)| entry),
            _ => None,
        }
    }

    /// When the event happened that came out last.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Whether another bucket of several events was entered since this was last asked.
    pub fn has_entered(&mut self) -> bool {
        core::mem::take(&mut self.entered)
    }

    /// The events of the bucket that was entered last, the next one last.
    pub fn present(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator + Clone {
        self.present.iter().map(|entry| &entry.event)
    }

    /// The events of the next bucket that is not empty, as far as they are known and it belongs to the present lap; in any order.
    pub fn following(&self) -> impl Iterator<Item = &T> + Clone {
        let wheel = &self.wheels[parity(lap_of(self.bucket))];
        let list = wheel.first_occupied(place_of(self.bucket)).map_or(&[][..], |place| &wheel.buckets[place]);
        list.iter().map(|entry| &entry.event)
    }

    /// When the bucket ends that was entered last.
    #[must_use]
    pub fn bucket_end(&self) -> Time {
        Time::from_micros((self.bucket + 1) << BUCKET_BITS)
    }

    /// How many events are still to come.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.sequence - self.popped).expect("fewer than there are bytes of memory")
    }

    /// Whether nothing is still to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequence == self.popped
    }

    /// Bytes that the queue has allocated.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        let wheels = self.wheels.iter().flat_map(|wheel| &wheel.buckets);
        let lists = wheels.chain(&self.spare).chain([&self.present]);
        let later = self.later.values().map(|list| list.capacity() * size_of::<(u64, Entry<T>)>()).sum::<usize>();
        let headers = self.spare.capacity() + self.wheels.iter().map(|wheel| wheel.buckets.len()).sum::<usize>();
        lists.map(|list| list.capacity() * size_of::<Entry<T>>()).sum::<usize>()
            + self.late.capacity() * size_of::<Entry<T>>()
            + later
            + headers * size_of::<Vec<Entry<T>>>()
    }

    /// Goes on to the next bucket that is not empty and sorts it; false when there is none up to `last`.
    fn enter_next_bucket(&mut self, last: u64) -> bool {
        let (lap, place) = loop {
            let lap = lap_of(self.bucket);
            // Buckets of the present lap up to the present one are empty.
            if let Some(place) = self.wheels[parity(lap)].first_occupied(place_of(self.bucket)) {
                break (lap, place);
            }
            if !self.begin_next_lap(lap, lap_of(last)) {
                return false;
            }
        };
        let bucket = (lap << WHEEL_BITS) + place as u64;
        if bucket > last {
            return false;
        }
        self.bucket = bucket;
        let emptied = core::mem::replace(&mut self.present, self.wheels[parity(lap)].take(place));
        if emptied.capacity() > 0 {
            self.spare.push(emptied);
        }
        self.present.sort_unstable_by_key(|entry| Reverse(entry.key));
        self.entered = self.present.len() > 1;
        true
    }

    /// Goes on to the next lap that has events, where the present one has none left; false when there is none up to `last`.
    fn begin_next_lap(&mut self, lap: u64, last: u64) -> bool {
        let next = match self.wheels[parity(lap + 1)].first_occupied(0) {
            Some(_) => Some(lap + 1),
            None => self.later.first_key_value().map(|(lap, _)| *lap),
        };
        let Some(next) = next.filter(|next| *next <= last) else { return false };
        self.bucket = next << WHEEL_BITS;
        for lap in [next, next + 1] {
            for (bucket, entry) in self.later.remove(&lap).into_iter().flatten() {
                self.wheels[parity(lap)].list(bucket, &mut self.spare).push(entry);
            }
        }
        true
    }
}

fn parity(lap: u64) -> usize {
    usize::from(lap % 2 == 1)
}

const fn lap_of(bucket: u64) -> u64 {
    bucket >> WHEEL_BITS
}

fn place_of(bucket: u64) -> usize {
    usize::try_from(bucket & (WHEEL_BUCKETS - 1)).expect("below the number of buckets")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Delays that fall into the present bucket, onto the wheel, into the next laps and far away.
    fn delay_us() -> impl Strategy<Value = u64> {
        prop_oneof![0_u64..4, 0_u64..100, 0_u64..600_000, 0_u64..3_000_000, Just(60_000_000), Just(1 << 40)]
    }

    /// Delays of what is pushed between two looks: a few, and now and then more into one bucket than are moved for another one.
    fn pushes() -> impl Strategy<Value = Vec<u64>> {
        prop_oneof![
            9 => prop::collection::vec(delay_us(), 0..6),
            1 => prop::collection::vec(0_u64..4, SHIFTED_MAX..3 * SHIFTED_MAX),
        ]
    }

    proptest! {
        #[test]
        fn events_come_out_as_from_an_ordered_map(
            steps in prop::collection::vec((pushes(), 0_usize..5, delay_us()), 1..80)
        ) {
            let (mut queue, mut model) = (EventQueue::default(), BTreeMap::new());
            let (mut now_us, mut sequence) = (0_u64, 0_u64);
            for (delays, pops, look_us) in steps {
                for delay_us in delays {
                    queue.push(Time::from_micros(now_us + delay_us), sequence);
                    model.insert((now_us + delay_us, sequence), sequence);
                    sequence += 1;
                }
                for _ in 0..pops {
                    let end_us = now_us + look_us;
                    let expected = model.first_entry().filter(|first| first.key().0 <= end_us);
                    let expected = expected.map(|first| (Time::from_micros(first.key().0), first.remove()));
                    prop_assert_eq!(queue.pop(Time::from_micros(end_us)), expected);
                    now_us = expected.map_or(end_us, |(at, _)| at.as_micros());
                }
                prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            }
            while let Some(((at_us, _), event)) = model.pop_first() {
                prop_assert_eq!(queue.pop(Time::MAX), Some((Time::from_micros(at_us), event)));
            }
            prop_assert_eq!(queue.pop(Time::MAX), None);
        }
    }

    #[test]
    fn nothing_comes_out_after_the_end_that_is_asked_for() {
        let mut queue = EventQueue::default();
        queue.push(Time::from_secs(2), 'b');
        queue.push(Time::from_micros(3), 'a');
        assert_eq!(queue.pop(Time::from_micros(2)), None);
        assert_eq!(queue.pop(Time::from_micros(3)), Some((Time::from_micros(3), 'a')));
        assert_eq!(queue.pop(Time::from_secs(1)), None);
        // Looking ahead must not make impossible to push what comes before the next event.
        queue.push(Time::from_secs(1), 'c');
        assert_eq!(queue.pop(Time::MAX), Some((Time::from_secs(1), 'c')));
        assert_eq!(queue.pop(Time::MAX), Some((Time::from_secs(2), 'b')));
    }

    #[test]
    fn what_follows_is_the_next_bucket_that_is_not_empty() {
        let mut queue = EventQueue::default();
        let following = |queue: &EventQueue<char>| queue.following().copied().collect::<String>();
        for (at_us, event) in [(3, 'a'), (5, 'b'), (5 * BUCKET_US, 'c'), (6 * BUCKET_US - 1, 'd'), (6 * BUCKET_US, 'e')]
        {
            queue.push(Time::from_micros(at_us), event);
        }
        queue.pop(Time::MAX);
        assert_eq!((queue.bucket_end(), following(&queue)), (Time::from_micros(BUCKET_US), "cd".into()));
        queue.pop(Time::MAX);
        queue.pop(Time::MAX);
        assert_eq!((queue.bucket_end(), following(&queue)), (Time::from_micros(6 * BUCKET_US), "e".into()));
        while queue.pop(Time::MAX).is_some() {}
        assert_eq!(following(&queue), "", "nothing follows the last bucket");
        // The next lap is looked at when it begins.
        queue.push(Time::from_micros((WHEEL_BUCKETS + 9) * BUCKET_US), 'f');
        assert_eq!(following(&queue), "");
    }

    #[test]
    fn allocations_are_used_again() {
        let mut queue = EventQueue::default();
        for round in 0..1_000_u64 {
            for offset in 0..10 {
                queue.push(Time::from_millis(round * 30 + offset + 100), ());
            }
            while queue.pop(Time::from_millis(round * 30)).is_some() {}
        }
        let allocated = queue.allocated_bytes() - EventQueue::<()>::default().allocated_bytes();
        assert!(allocated < 20_000, "{allocated} bytes for a few dozen pending events");
    }

    #[test]
    #[should_panic(expected = "that moment has passed")]
    fn the_past_cannot_be_changed() {
        let mut queue = EventQueue::default();
        queue.push(Time::from_secs(1), ());
        queue.pop(Time::MAX);
        queue.push(Time::from_millis(999), ());
    }
}
