//! Everybody that the node is dealing with, apart by whether something goes on with them.
//!
//! Strangers that come and go leave hundreds of peers behind that are put off, about each of which nothing is to be known until its time has come.
//! So they stand apart, in the order of their times, and whatever looks at everybody looks at the few others: who is connected or
//! dialled, missed, an anchor, or named by the operator. Of most that were put off nobody knows where they are, because they dialled us; these
//! have an order of their own.
//!
//! # Invariants
//! - A candidate is among the resting exactly if it [rests](Candidate::rests).
//! - The orders by time have exactly the resting, each with its time, apart by whether it is [somewhere](Candidate::is_somewhere).
//! - The counts are those of all candidates.
//! - Who is new here since the last [`Candidates::take_new`] is listed.

use super::candidate::{Candidate, Counts};
use crate::id::PeerId;
use crate::memory::tree_bytes;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// The candidates and how many of them are in which state.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    engaged: BTreeMap<PeerId, Candidate>,
    resting: BTreeMap<PeerId, Candidate>,
    /// Of the resting, those of whom nobody knows where they are, and the others.
    by_time: [BTreeSet<(Time, PeerId)>; 2],
    counts: Counts,
    new: Vec<PeerId>,
}

impl Candidates {
    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        tree_bytes::<(PeerId, Candidate)>(self.engaged.len())
            + tree_bytes::<(PeerId, Candidate)>(self.resting.len())
            + tree_bytes::<(Time, PeerId)>(self.resting.len())
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn get(&self, id: &PeerId) -> Option<&Candidate> {
        self.engaged.get(id).or_else(|| self.resting.get(id))
    }

    /// Those with whom something goes on, in the order of their ids.
    pub(super) fn engaged(&self) -> impl Iterator<Item = (&PeerId, &Candidate)> {
        self.engaged.iter()
    }

    /// All others, in the order of their ids.
    pub(super) fn resting(&self) -> impl Iterator<Item = (&PeerId, &Candidate)> {
        self.resting.iter()
    }

    /// Those of them that can be dialled when their time has come, in the order of their times.
    pub(super) fn resting_somewhere(&self) -> impl Iterator<Item = (&PeerId, &Candidate)> {
        self.by_time[1].iter().filter_map(|(_, id)| self.resting.get_key_value(id))
    }

    /// Who has become a candidate since this was last asked.
    pub(super) fn take_new(&mut self) -> Vec<PeerId> {
        core::mem::take(&mut self.new)
    }

    /// Changes a candidate, if it is one.
    pub(super) fn change<R>(&mut self, id: PeerId, change: impl FnOnce(&mut Candidate) -> R) -> Option<R> {
        if let Some(candidate) = self.engaged.get_mut(&id) {
            self.counts.remove(candidate);
            let answer = change(candidate);
            self.counts.add(candidate);
            if candidate.rests() {
                self.rest(id);
            }
            return Some(answer);
        }
        let mut candidate = self.remove(&id)?;
        let answer = change(&mut candidate);
        self.put(id, candidate);
        Some(answer)
    }

    /// The same of one that is made if there is none.
    pub(super) fn change_or_insert<R>(
        &mut self,
        id: PeerId,
        new: impl FnOnce() -> Candidate,
        change: impl FnOnce(&mut Candidate) -> R,
    ) -> R {
        if self.get(&id).is_none() {
            self.insert(id, new());
        }
        self.change(id, change).expect("it was made")
    }

    /// Changes all with whom something goes on, in the order of their ids.
    pub(super) fn change_engaged(&mut self, mut change: impl FnMut(&PeerId, &mut Candidate)) {
        let mut tired = Vec::new();
        for (id, candidate) in &mut self.engaged {
            self.counts.remove(candidate);
            change(id, candidate);
            self.counts.add(candidate);
            if candidate.rests() {
                tired.push(*id);
            }
        }
        tired.into_iter().for_each(|id| self.rest(id));
    }

    /// Replaces whoever has this id.
    pub(super) fn insert(&mut self, id: PeerId, candidate: Candidate) {
        self.remove(&id);
        self.new.push(id);
        self.put(id, candidate);
    }

    fn put(&mut self, id: PeerId, candidate: Candidate) {
        self.counts.add(&candidate);
        if candidate.rests() {
            self.by_time[usize::from(candidate.is_somewhere())].insert((candidate.retry_at, id));
            self.resting.insert(id, candidate);
        } else {
            self.engaged.insert(id, candidate);
        }
    }

    pub(super) fn remove(&mut self, id: &PeerId) -> Option<Candidate> {
        let candidate = self.engaged.remove(id).or_else(|| {
            let candidate = self.resting.remove(id)?;
            self.by_time[usize::from(candidate.is_somewhere())].remove(&(candidate.retry_at, *id));
            Some(candidate)
        })?;
        self.counts.remove(&candidate);
        Some(candidate)
    }

    /// Who is forgotten if there are too many: of those that are idle and not named by the operator the one that is put off for the shortest
    /// time.
    pub(super) fn first_to_go(&self) -> Option<PeerId> {
        let engaged = self.engaged.iter().filter(|(_, it)| it.is_spare()).map(|(id, it)| (it.retry_at, *id));
        let resting = self.by_time.iter().filter_map(BTreeSet::first).copied();
        engaged.chain(resting).min().map(|(_, id)| id)
    }

    /// Lets go of those of the resting whose time has come, and who are not in the book.
    pub(super) fn forget_rested(&mut self, now: Time) {
        let rested = |order| BTreeSet::iter(order).take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        let not_in_book = |id: &PeerId| self.resting.get(id).is_some_and(|it| !it.in_book);
        let gone: Vec<PeerId> = self.by_time.iter().flat_map(rested).filter(not_in_book).collect();
        for id in gone {
            self.remove(&id);
        }
    }

    /// Asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub(super) fn check(&self) {
        let mut counts = Counts::default();
        self.engaged.values().chain(self.resting.values()).for_each(|it| counts.add(it));
        assert_eq!(counts, self.counts, "the counts");
        assert!(self.engaged.values().all(|it| !it.rests()), "somebody rests among the engaged");
        assert!(self.resting.values().all(Candidate::rests), "somebody among the resting does not rest");
        let [nowhere, somewhere] = &self.by_time;
        assert_eq!(nowhere.len() + somewhere.len(), self.resting.len());
        let order = |it: &Candidate| if it.is_somewhere() { somewhere } else { nowhere };
        assert!(self.resting.iter().all(|(id, it)| order(it).contains(&(it.retry_at, *id))));
    }

    fn rest(&mut self, id: PeerId) {
        if let Some(candidate) = self.engaged.remove(&id) {
            self.by_time[usize::from(candidate.is_somewhere())].insert((candidate.retry_at, id));
            self.resting.insert(id, candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidate::State;
    use super::super::{DialPurpose, Standing};
    use super::*;
    use crate::id::Direction;
    use proptest::prelude::*;
    use std::net::IpAddr;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Drawn),
        Change(Drawn),
        ChangeOrInsert(Drawn),
        Remove(u64),
        /// Of those with whom something goes on, who is not missed any more.
        FindAll,
        ForgetRested(u64),
        FirstGoes,
    }

    /// Who, in which state, whether a bootnode, anchor, missed and in the book, and until when it is put off.
    type Drawn = (u64, u8, bool, bool, bool, bool, u64);

    fn candidate(drawn: Drawn) -> (PeerId, Candidate) {
        let (number, state, pinned, anchor, missed, in_book, retry_at) = drawn;
        let since = Time::ZERO;
        let ip = IpAddr::from([20, 1, 1, 1]);
        let state = match state {
            0 => State::Dialling { since, purpose: DialPurpose::Connect, answered: false },
            1 => State::Dialling { since, purpose: DialPurpose::Feeler, answered: false },
            2 => State::Connected { since, direction: Direction::Inbound, ip },
            3 => State::Connected { since, direction: Direction::Outbound, ip },
            _ => State::Idle,
        };
        let standing = if pinned { Standing::Bootnode } else { Standing::Heard };
        let new = Candidate::new(standing, Time::from_secs(retry_at), state);
        (PeerId::from_number(number), Candidate { anchor, missed, in_book, ..new })
    }

    fn step() -> impl Strategy<Value = Step> {
        let seldom = || prop::bool::weighted(0.2);
        let drawn = || (0..20_u64, 0..12_u8, seldom(), seldom(), seldom(), any::<bool>(), 0..30_u64);
        prop_oneof![
            drawn().prop_map(Step::Insert),
            drawn().prop_map(Step::Change),
            drawn().prop_map(Step::ChangeOrInsert),
            (0..20_u64).prop_map(Step::Remove),
            Just(Step::FindAll),
            (0..30_u64).prop_map(Step::ForgetRested),
            Just(Step::FirstGoes),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_one_map_does(steps in prop::collection::vec(step(), 1..200)) {
            let mut candidates = Candidates::default();
            let mut naive: BTreeMap<PeerId, Candidate> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(drawn) => {
                        let (id, it) = candidate(drawn);
                        candidates.insert(id, it);
                        naive.insert(id, candidate(drawn).1);
                    }
                    Step::Change(drawn) => {
                        let id = candidate(drawn).0;
                        let changed = candidates.change(id, |it| *it = candidate(drawn).1);
                        prop_assert_eq!(changed, naive.get_mut(&id).map(|it| *it = candidate(drawn).1));
                    }
                    Step::ChangeOrInsert(drawn) => {
                        let (id, new) = candidate(drawn);
                        candidates.change_or_insert(id, || candidate(drawn).1, |it| it.merit += 1);
                        naive.entry(id).or_insert(new).merit += 1;
                    }
                    Step::Remove(number) => {
                        let id = PeerId::from_number(number);
                        prop_assert_eq!(candidates.remove(&id).is_some(), naive.remove(&id).is_some());
                    }
                    Step::FindAll => {
                        candidates.change_engaged(|_, it| it.missed = false);
                        naive.values_mut().for_each(|it| it.missed = false);
                    }
                    Step::ForgetRested(s) => {
                        let now = Time::from_secs(s);
                        candidates.forget_rested(now);
                        naive.retain(|_, it| !it.rests() || it.retry_at > now || it.in_book);
                    }
                    Step::FirstGoes => {
                        let first = naive.iter().filter(|(_, it)| it.is_spare()).map(|(id, it)| (it.retry_at, *id)).min();
                        prop_assert_eq!(candidates.first_to_go(), first.map(|(_, id)| id));
                        if let Some((_, id)) = first {
                            candidates.remove(&id);
                            naive.remove(&id);
                        }
                    }
                }
                candidates.check();
                prop_assert_eq!(candidates.engaged().chain(candidates.resting()).count(), naive.len());
                for (id, it) in &naive {
                    let found = candidates.get(id).map(|it| format!("{it:?}"));
                    prop_assert_eq!(found, Some(format!("{it:?}")));
                }
                prop_assert!(candidates.engaged().map(|(id, _)| *id).is_sorted());
                let somewhere: Vec<_> = candidates.resting_somewhere().map(|(id, it)| (it.retry_at, *id)).collect();
                prop_assert!(somewhere.is_sorted());
                prop_assert_eq!(somewhere.len(), naive.values().filter(|it| it.rests() && it.in_book).count());
            }
        }
    }
}
