//! Peers that have proven useful, as they are remembered beyond a connection and a restart.
//!
//! A node that comes back, or whose peer comes back, meets far more attackers than friends: they cost nothing. What they cannot have is a past in
//! which they were of use to this node. [`Acquaintances`] keeps whom that is known of, so that both ends of a former link find each other again.
//!
//! # Rules
//! 1. **Merit** is in how many turns (some seconds each) a peer brought an accepted message that it did not have from us, at most [`MERIT_MAX`]. With
//!    [`PROVEN`] it can become an acquaintance. *Rationale:* not the first copies alone: of a link that carries messages both ways, the end that
//!    is farther from the publishers brings none, and both ends have to know each other.
//! 2. There are at most [`ACQUAINTANCES_MAX`], of one group of addresses [`ACQUAINTANCES_PER_GROUP`], and of those that dialled us half of all.
//!    Where a bound is reached, a peer takes the place of whoever has least merit among those whom the bound is about, if it has more itself.
//!    *Rationale:* whom we dial is our own choice, and groups are what an attacker has few of; the rest is a matter of work that was done for us.
//! 3. Every [`FADES_AFTER`] of the node's life all merits are halved, and who has none left is forgotten. *Rationale:* who was of use long ago
//!    gives way to who is now. A node that is down forgets nobody.
//! 4. Who is sent away for what it did, or banned, is forgotten at once.
//!
//! What this leaves an attacker: with peers that serve for long, better than honest ones do and from many networks, it can win places. It has been
//! of use as long then, and nothing depends on acquaintances alone: they are dialled beside others and have half of a mesh at most.
//!
//! # Bounds
//! [`ACQUAINTANCES_MAX`] entries of at most [`BOOK_ADDRESSES_MAX`](super::BOOK_ADDRESSES_MAX) addresses. Operations are O(entries) at most, and take
//! place once in a turn for each peer.

use super::{Address, address_bytes};
use crate::id::PeerId;
use crate::memory::tree_bytes;
use crate::peers::address::Group;
use crate::time::Duration;
use std::collections::BTreeMap;

/// Acquaintances of a node. A guess: several times the links of all meshes, so that among them some are there again.
pub const ACQUAINTANCES_MAX: usize = 64;
/// Those of one group of addresses.
pub const ACQUAINTANCES_PER_GROUP: usize = 4;
/// Turns of use that make an acquaintance. A guess: more than chance brings, and less than a node is up for.
pub const PROVEN: u8 = 3;
/// The most merit that there is.
pub const MERIT_MAX: u8 = u8::MAX;
/// After so long in the life of a node all merits are halved.
pub const FADES_AFTER: Duration = Duration::from_secs(3_600);

/// A peer that has proven useful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquaintance {
    /// Where, if that is known.
    pub addresses: Vec<Address>,
    /// The group of the address that it was connected from.
    pub group: Group,
    /// Whether we had dialled it when it was of use.
    pub dialled: bool,
    /// In how many turns it was of use; at least one.
    pub merit: u8,
}

/// Who has proven useful. See the module documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquaintances {
    entries: BTreeMap<PeerId, Acquaintance>,
}

impl Acquaintances {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &Acquaintance)> {
        self.entries.iter()
    }

    /// The merit of a peer: none if it is no acquaintance.
    #[must_use]
    pub fn merit(&self, id: &PeerId) -> u8 {
        self.entries.get(id).map_or(0, |it| it.merit)
    }

    /// A peer was of use in one more turn, and this is what is known of it now; of a peer that is no acquaintance `merit` says how often. True
    /// if it has become one.
    pub fn credit(&mut self, id: PeerId, known: Acquaintance) -> bool {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.merit = entry.merit.saturating_add(1);
            entry.dialled |= known.dialled;
            if !known.addresses.is_empty() {
                entry.addresses = known.addresses;
            }
            return false;
        }
        known.merit >= PROVEN && self.make_room(&known) && self.entries.insert(id, known).is_none()
    }

    /// Takes in an entry of a file; false if it breaks a rule.
    pub(super) fn restore(&mut self, id: PeerId, entry: Acquaintance) -> bool {
        let fits = entry.merit > 0 && !self.entries.contains_key(&id) && self.bound_reached(&entry).is_none();
        if fits {
            self.entries.insert(id, entry);
        }
        fits
    }

    /// Which of the entries a newcomer would have to stand behind, if a bound is reached; the narrowest bound counts.
    fn bound_reached(&self, newcomer: &Acquaintance) -> Option<impl Fn(&Acquaintance) -> bool + use<>> {
        let (group, dialled) = (newcomer.group, newcomer.dialled);
        let count = |what: &dyn Fn(&Acquaintance) -> bool| self.entries.values().filter(|it| what(it)).count();
        let same_group = count(&|it| it.group == group) >= ACQUAINTANCES_PER_GROUP;
        let inbound = !dialled && count(&|it| !it.dialled) >= ACQUAINTANCES_MAX / 2;
        let all = self.entries.len() >= ACQUAINTANCES_MAX;
        (same_group || inbound || all)
            .then_some(move |it: &Acquaintance| (!same_group || it.group == group) && (!inbound || !it.dialled))
    }

    /// Has whoever has least merit make room for one that has more; false if there is no room.
    fn make_room(&mut self, newcomer: &Acquaintance) -> bool {
        let Some(concerned) = self.bound_reached(newcomer) else { return true };
        let rivals = self.entries.iter().filter(|(_, it)| concerned(it));
        let least = rivals.min_by_key(|(id, it)| (it.merit, **id)).map(|(id, it)| (*id, it.merit));
        let Some((id, _)) = least.filter(|(_, merit)| *merit < newcomer.merit) else { return false };
        self.entries.remove(&id);
        true
    }

    /// Halves all merits.
    pub fn fade(&mut self) {
        self.entries.retain(|_, entry| {
            entry.merit /= 2;
            entry.merit > 0
        });
    }

    /// Forgets a peer; true if it was known.
    pub fn forget(&mut self, id: &PeerId) -> bool {
        self.entries.remove(id).is_some()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let addresses = self.entries.values().flat_map(|entry| &entry.addresses);
        tree_bytes::<(PeerId, Acquaintance)>(self.entries.len()) + address_bytes(addresses)
    }

    pub(super) fn check(&self) {
        assert!(self.entries.len() <= ACQUAINTANCES_MAX, "too many acquaintances");
        let inbound = self.entries.values().filter(|it| !it.dialled).count();
        assert!(inbound <= ACQUAINTANCES_MAX / 2, "too many acquaintances that dialled us");
        for entry in self.entries.values() {
            assert!(entry.merit > 0, "an acquaintance without merit");
            let of_group = self.entries.values().filter(|it| it.group == entry.group).count();
            assert!(of_group <= ACQUAINTANCES_PER_GROUP, "too many acquaintances of one group");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn id(number: u64) -> PeerId {
        PeerId::from_number(number)
    }

    /// Of the network with this number.
    fn known(network: u8, dialled: bool, merit: u8) -> Acquaintance {
        let group = Group::of(IpAddr::from([20, network, 1, 1])).expect("a public address");
        Acquaintance { addresses: Vec::new(), group, dialled, merit }
    }

    #[test]
    fn chance_makes_no_acquaintance_and_each_turn_counts() {
        let mut all = Acquaintances::default();
        assert!(!all.credit(id(1), known(1, false, PROVEN - 1)));
        assert_eq!((all.len(), all.merit(&id(1))), (0, 0));
        assert!(all.credit(id(1), known(1, false, PROVEN)));
        let address = Address::from_static(&[4, 20, 1, 1, 1, 6, 1, 2]);
        let reached = Acquaintance { addresses: vec![address.clone()], ..known(1, true, 1) };
        assert!(!all.credit(id(1), reached), "it is one already");
        assert!(!all.credit(id(1), known(1, false, 1)));
        let (_, entry) = all.iter().next().expect("one");
        assert_eq!((entry.merit, entry.dialled, &entry.addresses[..]), (PROVEN + 2, true, &[address][..]));
        for _ in 0..300 {
            all.credit(id(1), known(1, false, 1));
        }
        assert_eq!(all.merit(&id(1)), MERIT_MAX);
        assert!(all.forget(&id(1)) && !all.forget(&id(1)));
    }

    #[test]
    fn merit_fades_until_nobody_is_left() {
        let mut all = Acquaintances::default();
        all.credit(id(1), known(1, true, 12));
        all.credit(id(2), known(2, true, 3));
        let merits = |all: &Acquaintances| [1, 2].map(|number| all.merit(&id(number)));
        let mut found = vec![merits(&all)];
        while !all.is_empty() {
            all.fade();
            found.push(merits(&all));
        }
        assert_eq!(found, [[12, 3], [6, 1], [3, 0], [1, 0], [0, 0]]);
    }

    #[test]
    fn who_dialled_us_takes_half_of_the_places_at_most() {
        let mut all = Acquaintances::default();
        for number in 0..ACQUAINTANCES_MAX as u64 {
            all.credit(id(number), known(u8::try_from(number).expect("small"), false, PROVEN));
        }
        assert_eq!(all.len(), ACQUAINTANCES_MAX / 2);
        for number in 100..100 + ACQUAINTANCES_MAX as u64 {
            all.credit(id(number), known(u8::try_from(number).expect("small"), true, PROVEN));
        }
        assert_eq!(all.len(), ACQUAINTANCES_MAX);
        all.check();
        // One of more merit takes the place of one of the same kind.
        assert!(all.credit(id(99), known(99, false, PROVEN + 1)));
        assert_eq!(all.iter().filter(|(_, it)| !it.dialled).count(), ACQUAINTANCES_MAX / 2);
        assert_eq!(all.merit(&id(0)), 0, "the first of those that have least");
        assert!(all.credit(id(200), known(200, true, PROVEN + 1)), "whom we dial takes any place");
        all.check();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Against a list that is searched for the first rule that is broken.
        #[test]
        fn who_comes_in_and_who_goes_is_as_in_the_naive_model(
            steps in prop::collection::vec((0..90_u64, 0..30_u8, any::<bool>(), 0..12_u8), 0..200),
        ) {
            let mut all = Acquaintances::default();
            let mut naive: Vec<(PeerId, Acquaintance)> = Vec::new();
            for (number, network, dialled, merit) in steps {
                let newcomer = known(network, dialled, merit);
                all.credit(id(number), newcomer.clone());
                if let Some((_, entry)) = naive.iter_mut().find(|(other, _)| *other == id(number)) {
                    entry.merit = entry.merit.saturating_add(1);
                    entry.dialled |= dialled;
                } else if merit >= PROVEN {
                    let group: Vec<PeerId> = naive.iter().filter(|it| it.1.group == newcomer.group).map(|it| it.0).collect();
                    let inbound: Vec<PeerId> = naive.iter().filter(|it| !it.1.dialled).map(|it| it.0).collect();
                    let mut rivals: Option<Vec<PeerId>> = None;
                    let mut narrow = |those: Vec<PeerId>| {
                        rivals = Some(match rivals.take() {
                            Some(before) => before.into_iter().filter(|id| those.contains(id)).collect(),
                            None => those,
                        });
                    };
                    if group.len() == ACQUAINTANCES_PER_GROUP {
                        narrow(group);
                    }
                    if !dialled && inbound.len() == ACQUAINTANCES_MAX / 2 {
                        narrow(inbound);
                    }
                    if naive.len() == ACQUAINTANCES_MAX {
                        narrow(naive.iter().map(|it| it.0).collect());
                    }
                    let weakest = rivals.as_ref().and_then(|rivals| {
                        naive.iter().filter(|it| rivals.contains(&it.0)).map(|it| (it.1.merit, it.0)).min()
                    });
                    if rivals.is_none() || weakest.is_some_and(|(least, _)| least < merit) {
                        naive.retain(|it| Some(it.0) != weakest.map(|(_, id)| id));
                        naive.push((id(number), newcomer));
                    }
                }
                naive.sort_unstable_by_key(|it| it.0);
                let found: Vec<(PeerId, Acquaintance)> = all.iter().map(|(id, it)| (*id, it.clone())).collect();
                prop_assert_eq!(found, naive.clone());
            }
            all.check();
        }
    }
}
