//! What is remembered of the messages of the last heartbeats, by their fingerprints: what became of each, who has it, and who does not
//! want it.
//!
//! Nearly everything that peers send is about such messages: further copies, IDONTWANT, announcements. One entry answers all of it, so
//! that an input about a message touches one place in memory besides what is kept of its sender. The seen-cache remembers for minutes and is
//! asked only about what is not here.
//!
//! # Rules
//! - An entry begins with what is heard first of a message: an IDONTWANT, a copy, or our own publication. It stays for the configured number
//!   of heartbeats after its last change of [`Fate`] or IDONTWANT, and in any case while the message is being validated.
//! - *Holders* sent us the message or were sent it. **A copy counts for its sender at most once, and never when we had sent the message to
//!   that peer before.** *Rationale:* otherwise a peer that only mirrors our messages back to us earns the score of one that delivers.
//! - *Refusers* said IDONTWANT; that is forgotten [`RecentConfig::refusal_ticks`] heartbeats after the last of them said so.
//! - Peers are named by their slots. A peer that disconnects is taken out of all entries, so that whoever gets its slot inherits nothing.
//!
//! # Limits and cost
//! At most [`SETTLED_MAX`] entries of messages that were judged, the oldest heartbeat's going first, and besides them those under validation and as many as the budgets for
//! IDONTWANT of all peers admit: a shared bound could be filled by some to starve the others. An entry takes some hundred bytes. Everything takes
//! constant time but [`Recent::disconnected`], which looks at all entries. Entries stand in a list whose places are used again, and are found
//! by an [`Index`] that also says whether anything but a refusal is known of the message, so that an announcement of thirty messages is
//! judged without a look at their entries.

use super::ValidationTicket;
use super::index::Index;
use super::seen::{Fingerprint, SeenState};
use super::slots::SlotSet;
use crate::id::PeerHandle;
use crate::memory::Fetch;
use crate::time::Time;
use std::collections::VecDeque;

/// Messages that are remembered when they have been judged; four seconds of 4000 messages a second.
pub(super) const SETTLED_MAX: usize = 16_384;

/// For how many heartbeats what is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentConfig {
    /// What became of a message, and who has it.
    pub(super) ticks: u32,
    /// That a peer does not want it; at most `ticks`.
    pub(super) refusal_ticks: u32,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing that is known here; the seen-cache may know more.
    Unknown,
    /// It is being validated.
    Pending(ValidationTicket),
    /// It was accepted then.
    Accepted(Time),
    Rejected,
    Ignored,
}

impl Fate {
    fn is_settled(self) -> bool {
        matches!(self, Self::Accepted(_) | Self::Rejected | Self::Ignored)
    }

    pub(super) fn seen(self) -> Option<SeenState> {
        match self {
            Self::Unknown => None,
            Self::Pending(_) => Some(SeenState::Pending),
            Self::Accepted(_) => Some(SeenState::Accepted),
            Self::Rejected => Some(SeenState::Rejected),
            Self::Ignored => Some(SeenState::Ignored),
        }
    }
}

/// What is remembered of a message: one line of the processor's cache. Heartbeats are counted in 32 bits, which lasts for a century.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    key: Fingerprint,
    fate: Fate,
    holders: SlotSet,
    refusers: SlotSet,
    /// The heartbeat at which the entry is forgotten.
    until: u32,
    /// The heartbeat at which `refusers` are forgotten.
    refused_until: u32,
}

const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    fn is_refused_by(&self, tick: u32, slot: u32) -> bool {
        self.refused_until > tick && self.refusers.contains(slot)
    }
}

/// The messages of the last heartbeats.
#[derive(Debug)]
pub(super) struct Recent {
    config: RecentConfig,
    /// Where the entry of each message stands, with the flag that its fate is not [`Fate::Unknown`].
    index: Index,
    /// The entries, and among them such as are forgotten.
    entries: Vec<Entry>,
    /// Where these stand.
    free: Vec<u32>,
    /// What may be forgotten at each heartbeat: every entry is listed at its `until`, and perhaps earlier. Ascending.
    due: VecDeque<(u32, Vec<Fingerprint>)>,
    /// Entries of messages that were accepted, rejected or ignored.
    settled: usize,
    tick: u32,
}

impl Recent {
    pub(super) fn new(config: RecentConfig) -> Self {
        let (index, entries, free) = (Index::default(), Vec::new(), Vec::new());
        Self { config, index, entries, free, due: VecDeque::new(), settled: 0, tick: 0 }
    }

    /// What is known of the message.
    pub(super) fn fate(&self, key: Fingerprint) -> Fate {
        self.get(key).map_or(Fate::Unknown, |entry| entry.fate)
    }

    /// Whether anything is known of the message but who refuses it.
    #[inline]
    pub(super) fn is_known(&self, key: Fingerprint) -> bool {
        self.index.find(key).is_some_and(|(_, known)| known)
    }

    /// Has fetched what nearly every question looks at; see [`Fetch`].
    pub(super) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.index);
        fetch.value(&self.entries);
        fetch.value(&self.tick);
    }

    /// Has fetched where it is said where the message's entry stands; see [`Fetch`].
    pub(super) fn fetch_place(&self, key: Fingerprint, fetch: &mut impl Fetch) {
        self.index.fetch(key, fetch);
    }

    /// Has the message's entry fetched, or the place of the next one; says whether anything is known of the message but who refuses it.
    pub(super) fn fetch_entry(&self, key: Fingerprint, fetch: &mut impl Fetch) -> bool {
        let found = self.index.find(key);
        let next = || self.free.last().map_or(self.entries.len(), |place| *place as usize);
        fetch.item(&self.entries, found.map_or_else(next, |(place, _)| place));
        found.is_some_and(|(_, known)| known)
    }

    /// Sets what became of the message. Who has it stays, unless nothing is known any more, and is given back.
    pub(super) fn settle(&mut self, key: Fingerprint, fate: Fate) -> SlotSet {
        let entry = self.entry(key, self.config.ticks);
        if fate == Fate::Unknown {
            entry.holders = SlotSet::default();
        }
        let before = core::mem::replace(&mut entry.fate, fate);
        let holders = entry.holders.clone();
        self.index.set_flag(key, fate != Fate::Unknown);
        self.settled = self.settled + usize::from(fate.is_settled()) - usize::from(before.is_settled());
        self.enforce_bound();
        holders
    }

    /// Notes that the peer has the message, if anything is known of it. Says what is known, and whether it is news that the peer has it.
    pub(super) fn note(&mut self, key: Fingerprint, slot: u32) -> (Fate, bool) {
        match self.index.find(key) {
            Some((place, true)) => {
                let entry = &mut self.entries[place];
                (entry.fate, entry.holders.insert(slot))
            }
            _ => (Fate::Unknown, false),
        }
    }

    /// The slots of all who have the message.
    pub(super) fn holders(&self, key: Fingerprint) -> SlotSet {
        self.get(key).map_or_else(SlotSet::default, |entry| entry.holders.clone())
    }

    /// Notes that the peer does not want the message; says what is known of it.
    pub(super) fn refuse(&mut self, key: Fingerprint, slot: u32) -> Fate {
        let (tick, ticks) = (self.tick, self.config.refusal_ticks);
        let entry = self.entry(key, ticks);
        if entry.refused_until <= tick {
            entry.refusers = SlotSet::default();
        }
        entry.refused_until = tick.saturating_add(ticks);
        entry.refusers.insert(slot);
        entry.fate
    }

    /// Whether the peer said that it does not want the message.
    pub(super) fn is_refused_by(&self, key: Fingerprint, slot: u32) -> bool {
        self.get(key).is_some_and(|entry| entry.is_refused_by(self.tick, slot))
    }

    /// Sends a message, of which something is known, to those of the peers who neither have it nor refuse it: they have it from then on.
    /// Says how many refused it.
    pub(super) fn spread(
        &mut self,
        key: Fingerprint,
        peers: impl IntoIterator<Item = PeerHandle>,
        mut send: impl FnMut(PeerHandle),
    ) -> u64 {
        let Some((place, _)) = self.index.find(key) else { return 0 };
        let entry = &mut self.entries[place];
        let mut refused = 0;
        for peer in peers {
            if entry.is_refused_by(self.tick, peer.slot) {
                refused += 1;
            } else if entry.holders.insert(peer.slot) {
                send(peer);
            }
        }
        refused
    }

    /// A heartbeat: forgets what is due.
    pub(super) fn expire(&mut self, tick: u64) {
        let tick = u32::try_from(tick).unwrap_or(u32::MAX);
        self.tick = tick;
        while self.due.front().is_some_and(|(until, _)| *until <= tick)
            && let Some((_, keys)) = self.due.pop_front()
        {
            for key in keys {
                self.forget(key, tick);
            }
        }
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        let listed: usize = self.due.iter().map(|(_, keys)| keys.capacity()).sum();
        self.index.memory_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * size_of::<u32>()
            + listed * size_of::<Fingerprint>()
    }

    /// A peer is gone.
    pub(super) fn disconnected(&mut self, slot: u32) {
        for entry in &mut self.entries {
            entry.holders.remove(slot);
            entry.refusers.remove(slot);
        }
    }
}

impl Recent {
    /// Asserts every invariant. `known` says what the seen-cache knows of a message.
    pub(super) fn check(&self, known: impl Fn(Fingerprint) -> Option<SeenState>) {
        assert_eq!(self.listed().count(), self.index.len(), "a message is not listed at the heartbeat that forgets it");
        assert_eq!(self.index.len() + self.free.len(), self.entries.len(), "every place is in use or free");
        for (key, entry) in self.listed() {
            assert_eq!(entry.key, key, "an entry is found by the name of another message");
            assert_eq!(self.is_known(key), entry.fate != Fate::Unknown, "the flag of {key:?} has drifted");
        }
        let settled = self.listed().filter(|(_, entry)| entry.fate.is_settled()).count();
        assert_eq!(self.settled, settled, "the count of settled messages has drifted");
        assert!(settled <= SETTLED_MAX, "too many messages are remembered");
        assert!(self.due.iter().is_sorted_by(|(a, _), (b, _)| a < b), "heartbeats are ascending");
        for (key, entry) in self.listed() {
            assert!(entry.refused_until <= entry.until, "refusals outlive {key:?}");
            let elsewhere = known(key);
            let agrees = entry.fate == Fate::Unknown || elsewhere.is_none() || entry.fate.seen() == elsewhere;
            assert!(agrees, "{key:?} is {:?} here and {elsewhere:?} in the seen-cache", entry.fate);
        }
    }

    /// How many messages the peer refuses.
    pub(super) fn refused_by(&self, slot: u32) -> usize {
        self.listed().filter(|(_, entry)| entry.refusers.contains(slot)).count()
    }

    /// Whether any entry names the peer.
    pub(super) fn knows(&self, slot: u32) -> bool {
        self.listed().any(|(_, entry)| entry.holders.contains(slot) || entry.refusers.contains(slot))
    }

    /// All entries, in the order in which they are forgotten.
    fn listed(&self) -> impl Iterator<Item = (Fingerprint, &Entry)> {
        self.due.iter().flat_map(|(until, keys)| {
            let entries = keys.iter().filter_map(|key| Some((*key, self.get(*key)?)));
            entries.filter(|(_, entry)| entry.until == *until)
        })
    }

    fn get(&self, key: Fingerprint) -> Option<&Entry> {
        let (place, _) = self.index.find(key)?;
        self.entries.get(place)
    }

    /// The entry of the message, which is made if there is none, and kept for so many heartbeats from now on.
    fn entry(&mut self, key: Fingerprint, ticks: u32) -> &mut Entry {
        let until = self.tick.saturating_add(ticks);
        let place = match self.index.find(key) {
            Some((place, _)) => place,
            None => self.make(key),
        };
        let entry = &mut self.entries[place];
        if entry.until < until {
            entry.until = until;
            list(&mut self.due, until, key);
        }
        entry
    }

    /// Makes an entry, of which nothing is known; says where it stands.
    fn make(&mut self, key: Fingerprint) -> usize {
        let entry = Entry {
            key,
            fate: Fate::Unknown,
            holders: SlotSet::default(),
            refusers: SlotSet::default(),
            until: 0,
            refused_until: 0,
        };
        let number = self.free.pop().unwrap_or_else(|| u32::try_from(self.entries.len()).expect("entries are bounded"));
        self.index.insert(key, number);
        let place = number as usize;
        match self.entries.get_mut(place) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
        place
    }

    /// Forgets the message unless it is to be kept for longer.
    fn forget(&mut self, key: Fingerprint, tick: u32) {
        let Some((place, _)) = self.index.find(key) else { return };
        let entry = &mut self.entries[place];
        if entry.until > tick {
            return;
        }
        if matches!(entry.fate, Fate::Pending(_)) {
            entry.until = self.tick.saturating_add(self.config.ticks).max(tick.saturating_add(1));
            return list(&mut self.due, entry.until, key);
        }
        self.settled -= usize::from(entry.fate.is_settled());
        (entry.holders, entry.refusers) = (SlotSet::default(), SlotSet::default());
        self.index.remove(key);
        self.free.push(u32::try_from(place).expect("a place is numbered in 32 bits"));
    }

    /// While too many messages are settled, forgets those of the oldest heartbeat.
    fn enforce_bound(&mut self) {
        while self.settled > SETTLED_MAX
            && let Some((until, keys)) = self.due.front_mut()
        {
            let (until, key) = (*until, keys.pop());
            match key {
                Some(key) => self.forget(key, until),
                None => drop(self.due.pop_front()),
            }
        }
    }
}

/// Lists the message at the heartbeat that may forget it.
fn list(due: &mut VecDeque<(u32, Vec<Fingerprint>)>, until: u32, key: Fingerprint) {
    // Nearly always the last or the one before it.
    let place = due.iter().rposition(|(tick, _)| *tick <= until);
    match place {
        Some(place) if due[place].0 == until => due[place].1.push(key),
        _ => due.insert(place.map_or(0, |place| place + 1), (until, vec![key])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const CONFIG: RecentConfig = RecentConfig { ticks: 4, refusal_ticks: 2 };

    fn peer(slot: u32) -> PeerHandle {
        PeerHandle { slot, generation: 0 }
    }

    /// The same by scanning.
    #[derive(Default)]
    struct Model {
        tick: u64,
        fates: BTreeMap<u64, (Fate, u64)>,
        holders: BTreeSet<(u64, u32)>,
        /// All refusals of a message end together.
        refusers: BTreeMap<u64, (BTreeSet<u32>, u64)>,
    }

    impl Model {
        fn fate(&self, key: u64) -> Fate {
            self.fates.get(&key).map_or(Fate::Unknown, |(fate, _)| *fate)
        }

        fn refuses(&self, key: u64, slot: u32) -> bool {
            self.refusers.get(&key).is_some_and(|(slots, until)| *until > self.tick && slots.contains(&slot))
        }

        fn expire(&mut self) {
            self.tick += 1;
            let tick = self.tick;
            // Whatever is heard of a message keeps all that is known of it.
            let kept = |until: u64, key: &u64, refusers: &BTreeMap<u64, (BTreeSet<u32>, u64)>| {
                until > tick || refusers.get(key).is_some_and(|(_, until)| *until > tick)
            };
            let refusers = &self.refusers;
            self.fates.retain(|key, (fate, until)| matches!(fate, Fate::Pending(_)) || kept(*until, key, refusers));
            let fates = &self.fates;
            self.holders.retain(|(key, _)| fates.contains_key(key));
            self.refusers.retain(|_, (_, until)| *until > tick);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Settle(u64, u8),
        Note(u64, u32),
        Refuse(u64, u32),
        Spread(u64),
        Disconnect(u32),
        Tick,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (key, slot) = (0_u64..6, prop_oneof![0_u32..4, 62_u32..66, Just(200)]);
        prop_oneof![
            4 => (key.clone(), 0_u8..5).prop_map(|(key, fate)| Step::Settle(key, fate)),
            4 => (key.clone(), slot.clone()).prop_map(|(key, slot)| Step::Note(key, slot)),
            4 => (key.clone(), slot.clone()).prop_map(|(key, slot)| Step::Refuse(key, slot)),
            2 => key.prop_map(Step::Spread),
            1 => slot.prop_map(Step::Disconnect),
            3 => Just(Step::Tick),
        ]
    }

    fn apply(step: &Step, recent: &mut Recent, model: &mut Model) -> Result<(), TestCaseError> {
        match *step {
            Step::Settle(key, fate) => {
                let fates = [
                    Fate::Unknown,
                    Fate::Pending(ValidationTicket(key)),
                    Fate::Accepted(Time::from_secs(key)),
                    Fate::Rejected,
                    Fate::Ignored,
                ];
                let fate = fates[usize::from(fate)];
                recent.settle(Fingerprint(key), fate);
                model.fates.insert(key, (fate, model.tick + u64::from(CONFIG.ticks)));
                if fate == Fate::Unknown {
                    model.fates.remove(&key);
                    model.holders.retain(|(other, _)| *other != key);
                }
            }
            Step::Note(key, slot) => {
                let fate = model.fate(key);
                let news = fate != Fate::Unknown && model.holders.insert((key, slot));
                prop_assert_eq!(recent.note(Fingerprint(key), slot), (fate, news));
            }
            Step::Refuse(key, slot) => {
                prop_assert_eq!(recent.refuse(Fingerprint(key), slot), model.fate(key));
                let refusers = model.refusers.entry(key).or_default();
                refusers.0.insert(slot);
                refusers.1 = model.tick + u64::from(CONFIG.refusal_ticks);
            }
            Step::Spread(key) if model.fate(key) != Fate::Unknown => {
                let mut sent = Vec::new();
                let slots = [0, 1, 2, 3, 62, 63, 64, 65, 200];
                let refused = recent.spread(Fingerprint(key), slots.map(peer), |peer| sent.push(peer.slot));
                let (unwilling, willing): (Vec<u32>, Vec<u32>) =
                    slots.into_iter().partition(|slot| model.refuses(key, *slot));
                let expected: Vec<u32> =
                    willing.into_iter().filter(|slot| model.holders.insert((key, *slot))).collect();
                prop_assert_eq!((sent, refused), (expected, unwilling.len() as u64));
            }
            Step::Spread(_) => {}
            Step::Disconnect(slot) => {
                recent.disconnected(slot);
                prop_assert!(!recent.knows(slot));
                model.holders.retain(|(_, other)| *other != slot);
                model.refusers.values_mut().for_each(|(slots, _)| slots.retain(|other| *other != slot));
            }
            Step::Tick => {
                model.expire();
                recent.expire(model.tick);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn the_table_remembers_what_the_naive_model_remembers(steps in prop::collection::vec(step(), 1..80)) {
            let (mut recent, mut model) = (Recent::new(CONFIG), Model::default());
            for step in &steps {
                apply(step, &mut recent, &mut model)?;
                recent.check(|_| None);
                for key in 0..6 {
                    prop_assert_eq!(recent.fate(Fingerprint(key)), model.fate(key), "fate of {}", key);
                    for slot in [0, 1, 63, 64, 200] {
                        let refuses = model.refuses(key, slot);
                        prop_assert_eq!(recent.is_refused_by(Fingerprint(key), slot), refuses, "{} to {}", key, slot);
                    }
                    let holders = model.holders.iter().filter(|(other, _)| *other == key).map(|(_, slot)| *slot);
                    prop_assert!(recent.holders(Fingerprint(key)).iter().eq(holders), "holders of {}", key);
                }
            }
        }
    }

    #[test]
    fn the_oldest_messages_that_were_judged_make_room_and_those_under_validation_do_not() {
        let mut recent = Recent::new(CONFIG);
        recent.settle(Fingerprint(0), Fate::Pending(ValidationTicket(0)));
        recent.settle(Fingerprint(1), Fate::Rejected);
        recent.expire(1);
        for key in 2..=SETTLED_MAX as u64 + 1 {
            recent.settle(Fingerprint(key), Fate::Rejected);
        }
        assert_eq!(recent.fate(Fingerprint(0)), Fate::Pending(ValidationTicket(0)));
        assert_eq!(recent.fate(Fingerprint(1)), Fate::Unknown);
        assert!((2..=SETTLED_MAX as u64 + 1).all(|key| recent.fate(Fingerprint(key)) == Fate::Rejected));
        recent.check(|_| None);
    }
}
