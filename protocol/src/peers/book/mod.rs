//! The addresses that a node remembers, in a form that an attacker cannot make its own.
//!
//! A node that restarts can only be brought back by whom it remembers. Whoever fills that memory with its own addresses decides whom
//! the node meets next, and surrounds it. [`AddressBook`] bounds what each party can have of it, after the tables of Bitcoin Core's
//! addrman and Heilman, Kendler, Zohar and Goldberg, "Eclipse attacks on Bitcoin's peer-to-peer network" (USENIX Security 2015).
//!
//! # Rules
//! 1. An entry is a peer with its addresses. It stands in one of two tables: **tried**, those that we reached by a dial of our own choice,
//!    and **new**, those that we were told of. Each table has buckets, each bucket slots, and the place of an entry is decided by a
//!    keyed hash (SipHash-2-4 with a secret key):
//!    - new: the bucket by the group of the source and the group of the address, such that one source group reaches at most
//!      [`BookConfig::new_buckets_per_source`] buckets;
//!    - tried: the bucket by the group of the address and the peer, such that one group reaches at most
//!      [`BookConfig::tried_buckets_per_group`] buckets;
//!    - the slot by the peer.
//!
//!    *Rationale:* to fill a share of a table an attacker needs sources or addresses in a share of the groups, and cannot compute which
//!    entries push out which. Everything that lookups bring counts as one source, because nobody knows who said it.
//! 2. In new, whoever is there stays, unless a dial to it failed and it never answered, or it failed [`REPLACEABLE_FAILURES`] times since.
//!    *Rationale:* otherwise the last to speak wins, and an attacker never stops speaking.
//! 3. **Test before evict:** in tried, whoever is there stays too. An entry that should come to its place waits (at most
//!    [`COLLISIONS_MAX`]) until a feeler has tested the present one: if that fails, they change places; if it succeeds, or did so
//!    within [`RECENT`], the newcomer stays in new.
//! 4. Only what the node itself dialled is ever called good. An inbound peer, or an address proven by a dial-back that the peer provoked,
//!    is new like any other.
//! 5. An entry in new is forgotten after [`NEW_FAILURES_MAX`] failures in a row; one in tried falls back to new after
//!    [`TRIED_FAILURES_MAX`].
//! 6. To dial, a table is chosen by a coin, then a bucket with entries, then an entry, each equally likely.
//! 7. **Anchors** are the [`ANCHORS_MAX`] peers that a node dials first after a restart. They are kept with their addresses, apart from
//!    the tables.
//! 8. **[`acquaintances`]** are peers that have proven useful. They, too, are kept apart from the tables.
//! 9. An address is taken only if it begins with an IP address that can be reached at all, and is not of a narrower scope than its
//!    source (see [`super::address`]). What gossip says of a peer in tried is added while there is room and never replaces anything.
//!
//! Unlike Bitcoin's, an entry has one place in new, however many tell of it: repeats are what an attacker has most of.
//!
//! # Bounds
//! `new_buckets` · `slots` and `tried_buckets` · `slots` entries of at most [`BOOK_ADDRESSES_MAX`] addresses: some 10,000 entries, one
//! MiB in memory and on disk where addresses are of the usual length. Operations are O(log n), but for choosing, which is O(buckets) as a
//! rule and O(n) when few entries are eligible.

pub mod acquaintances;
mod file;
mod table;
#[cfg(test)]
mod tests;

pub use file::FILE_BYTES_MAX;

use super::address::{Group, Scope, ip_of};
use super::{ADDRESS_BYTES_MAX, Address};
use crate::id::PeerId;
use crate::memory::{boxed_bytes, tree_bytes};
use crate::random::Stream;
use crate::time::{Duration, Time};
use acquaintances::Acquaintances;
use core::hash::Hasher as _;
use siphasher::sip::SipHasher24;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use table::{Place, Table};

/// Addresses kept of an entry.
pub const BOOK_ADDRESSES_MAX: usize = 4;
/// Failures after which an entry in new that once answered may be replaced.
pub const REPLACEABLE_FAILURES: u8 = 3;
/// Failures in a row after which an entry in new is forgotten.
pub const NEW_FAILURES_MAX: u8 = 4;
/// Failures in a row after which an entry in tried falls back to new.
pub const TRIED_FAILURES_MAX: u8 = 8;
/// Entries that wait for a place in tried; as in addrman.
pub const COLLISIONS_MAX: usize = 10;
/// A success so recent that it needs no test; four hours, as in addrman.
pub const RECENT: Duration = Duration::from_secs(4 * 3_600);
/// Peers dialled first after a restart. One more than in Bitcoin Core, where they bring blocks only: a mesh of two links is easily cut.
pub const ANCHORS_MAX: usize = 3;

/// Sizes of the tables. They are part of the file's format: another size is another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookConfig {
    /// Buckets of new.
    pub new_buckets: u16,
    /// Of these, how many one source group reaches.
    pub new_buckets_per_source: u16,
    /// Buckets of tried.
    pub tried_buckets: u16,
    /// Of these, how many one group of addresses reaches.
    pub tried_buckets_per_group: u16,
    /// Slots of a bucket.
    pub slots: u16,
}

impl Default for BookConfig {
    /// A quarter of addrman's buckets, with half as many slots: made for networks of thousands of nodes, where that is for tens of thousands.
    /// The shares per source and per group are the same sixteenth for tried and an eighth (twice addrman's) for new.
    fn default() -> Self {
        Self { new_buckets: 256, new_buckets_per_source: 32, tried_buckets: 64, tried_buckets_per_group: 4, slots: 32 }
    }
}

/// A peer to be dialled first after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Who.
    pub id: PeerId,
    /// Where; never empty.
    pub addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Where; never empty. In tried the first one is where it was reached.
    addresses: Vec<Address>,
    /// Of the first address at the time when the place was decided.
    group: Group,
    /// Who told of it.
    source: Group,
    place: Place,
    tried: bool,
    failures: u8,
    /// When it was last reached, in this life of the process.
    reached: Option<Time>,
}

/// The tables. See the module documentation.
#[derive(Debug)]
pub struct AddressBook {
    config: BookConfig,
    key: [u8; 16],
    random: Stream,
    entries: BTreeMap<PeerId, Entry>,
    new: Table,
    tried: Table,
    /// Peers that were reached and whose place in tried is taken, oldest first.
    collisions: VecDeque<PeerId>,
    anchors: Vec<Anchor>,
    acquaintances: Acquaintances,
    /// Who has come into the tables or gone from them since that was last asked; none while nobody asks.
    moved: Option<Vec<PeerId>>,
}

/// Bytes that these addresses have allocated, estimated.
fn address_bytes<'a>(addresses: impl Iterator<Item = &'a Address>) -> usize {
    addresses.map(|address| boxed_bytes::<Address>(1) + address.len()).sum()
}

impl AddressBook {
    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        let addresses = self.entries.values().flat_map(|entry| &entry.addresses);
        tree_bytes::<(PeerId, Entry)>(self.entries.len())
            + address_bytes(addresses)
            + self.new.memory_bytes()
            + self.tried.memory_bytes()
            + self.acquaintances.memory_bytes()
    }

    /// An empty book.
    #[must_use]
    pub fn new(config: BookConfig, key: [u8; 16], random: Stream) -> Self {
        Self {
            config,
            key,
            random,
            entries: BTreeMap::new(),
            new: Table::new(config.new_buckets),
            tried: Table::new(config.tried_buckets),
            collisions: VecDeque::new(),
            anchors: Vec::new(),
            acquaintances: Acquaintances::default(),
            moved: None,
        }
    }

    /// Takes in what a source of this group and scope says; true if the peer was not known and now is.
    pub fn add<'a>(
        &mut self,
        id: PeerId,
        addresses: impl IntoIterator<Item = &'a Address>,
        source: Group,
        source_scope: Scope,
    ) -> bool {
        let believed = |address: &&Address| {
            let scope = ip_of(address).and_then(Scope::of);
            address.len() <= ADDRESS_BYTES_MAX && scope.is_some_and(|scope| scope >= source_scope)
        };
        let mut believed = addresses.into_iter().filter(believed).peekable();
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.learn(believed);
            return false;
        }
        let Some(group) = believed.peek().and_then(|address| ip_of(address)).and_then(Group::of) else { return false };
        let place = self.new_place(id, group, source);
        if let Some(present) = self.new.get(place) {
            if !self.entries[&present].is_replaceable() {
                return false;
            }
            self.forget(present);
        }
        let mut entry = Entry { addresses: Vec::new(), group, source, place, tried: false, failures: 0, reached: None };
        entry.learn(believed);
        self.new.insert(place, id);
        self.entries.insert(id, entry);
        self.moved.iter_mut().for_each(|moved| moved.push(id));
        true
    }

    /// A dial of our own choice reached the peer at this address. A peer that new has no place for goes straight to tried.
    pub fn reached(&mut self, now: Time, id: PeerId, address: &Address) {
        let proven = ip_of(address).and_then(Group::of).filter(|_| address.len() <= ADDRESS_BYTES_MAX);
        let Some(entry) = self.entries.get_mut(&id) else {
            if let Some(group) = proven {
                self.add_tried(now, id, address, group);
            }
            return;
        };
        entry.failures = 0;
        entry.reached = Some(now);
        if proven.is_some() {
            entry.addresses.retain(|other| other != address);
            entry.addresses.insert(0, address.clone());
            entry.addresses.truncate(BOOK_ADDRESSES_MAX);
        }
        if entry.tried {
            return;
        }
        let place = self.tried_place(id);
        if self.tried.get(place).is_none() {
            self.promote(id, place);
        } else if !self.collisions.contains(&id) && self.collisions.len() < COLLISIONS_MAX {
            self.collisions.push_back(id);
        }
    }

    fn add_tried(&mut self, now: Time, id: PeerId, address: &Address, group: Group) {
        let place = self.tried_place_in(id, group);
        if self.tried.get(place).is_none() {
            let addresses = vec![address.clone()];
            let entry = Entry { addresses, group, source: group, place, tried: true, failures: 0, reached: Some(now) };
            self.tried.insert(place, id);
            self.entries.insert(id, entry);
            self.moved.iter_mut().for_each(|moved| moved.push(id));
        }
    }

    /// A dial did not reach the peer, although others can be reached.
    pub fn failed(&mut self, id: PeerId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.failures = entry.failures.saturating_add(1);
        let failures = entry.failures;
        if !entry.tried {
            if failures >= NEW_FAILURES_MAX {
                self.forget(id);
            }
            return;
        }
        let place = entry.place;
        let rival = self.collisions.iter().copied().find(|rival| {
            self.entries.get(rival).is_some_and(|entry| !entry.tried) && self.tried_place(*rival) == place
        });
        if rival.is_some() || failures >= TRIED_FAILURES_MAX {
            self.demote(id);
        }
        if let Some(rival) = rival.filter(|rival| self.entries.contains_key(rival)) {
            self.collisions.retain(|other| *other != rival);
            self.promote(rival, place);
        }
    }

    /// Somebody to dial among the eligible: see rule 6.
    pub fn choose(&mut self, mut eligible: impl FnMut(PeerId, Group) -> bool) -> Option<PeerId> {
        let Self { entries, new, tried, random, .. } = self;
        let tables = if random.chance(1, 2) { [tried, new] } else { [new, tried] };
        tables.into_iter().find_map(|table| table.pick(random, |id| eligible(id, entries[&id].group)))
    }

    /// Whom a feeler should visit: one whose place in tried another waits for, else somebody new. `idle` says who can be dialled, and
    /// `connected` who is connected and needs no test.
    pub fn choose_for_feeler(
        &mut self,
        now: Time,
        idle: impl Fn(PeerId) -> bool,
        connected: impl Fn(PeerId) -> bool,
    ) -> Option<PeerId> {
        for _ in 0..self.collisions.len() {
            let newcomer = self.collisions.pop_front()?;
            if self.entries.get(&newcomer).is_none_or(|entry| entry.tried) {
                continue;
            }
            let place = self.tried_place(newcomer);
            let Some(present) = self.tried.get(place) else {
                self.promote(newcomer, place);
                continue;
            };
            let reached = self.entries[&present].reached;
            if connected(present) || reached.is_some_and(|at| now.since(at) < RECENT) {
                continue;
            }
            self.collisions.push_back(newcomer);
            if idle(present) {
                return Some(present);
            }
        }
        self.new.pick(&mut self.random, idle)
    }

    /// Where a peer is, if it is in the book.
    #[must_use]
    pub fn addresses(&self, id: &PeerId) -> Option<&[Address]> {
        self.entries.get(id).map(|entry| &entry.addresses[..])
    }

    /// The group of a peer, if it is in the book.
    #[must_use]
    pub fn group(&self, id: &PeerId) -> Option<Group> {
        self.entries.get(id).map(|entry| entry.group)
    }

    /// Whether the peer is in the book.
    #[must_use]
    pub fn contains(&self, id: &PeerId) -> bool {
        self.entries.contains_key(id)
    }

    /// Who has come into the tables, or gone from them, since this was last asked; some perhaps both. Nobody at first.
    pub(super) fn take_moved(&mut self) -> Vec<PeerId> {
        self.moved.replace(Vec::new()).unwrap_or_default()
    }

    /// Entries in new and in tried.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.new.len(), self.tried.len())
    }

    /// Forgets a peer.
    pub fn forget(&mut self, id: PeerId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.moved.iter_mut().for_each(|moved| moved.push(id));
        if entry.tried {
            self.tried.remove(entry.place);
        } else {
            self.new.remove(entry.place);
        }
        self.collisions.retain(|other| *other != id);
    }

    /// Forgets everybody whose first address satisfies this.
    pub fn forget_if(&mut self, mut unwanted: impl FnMut(PeerId, Option<IpAddr>) -> bool) {
        let first = |entry: &Entry| entry.addresses.first().and_then(ip_of);
        let gone: Vec<PeerId> =
            self.entries.iter().filter(|(id, entry)| unwanted(**id, first(entry))).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.forget(id));
    }

    /// The anchors.
    #[must_use]
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// Who has proven useful.
    #[must_use]
    pub fn acquaintances(&self) -> &Acquaintances {
        &self.acquaintances
    }

    /// The same, to be changed.
    pub fn acquaintances_mut(&mut self) -> &mut Acquaintances {
        &mut self.acquaintances
    }

    /// Names the anchors, the best first; those without a known address are left out. True if they are others than before.
    pub fn set_anchors(&mut self, ids: &[PeerId]) -> bool {
        let anchor = |id: &PeerId| {
            let known = self.anchors.iter().find(|anchor| anchor.id == *id).map(|anchor| &anchor.addresses[..]);
            Some(Anchor { id: *id, addresses: self.addresses(id).or(known)?.to_vec() })
        };
        let mut anchors: Vec<Anchor> = ids.iter().filter_map(anchor).take(ANCHORS_MAX).collect();
        anchors.sort_by_key(|anchor| anchor.id);
        anchors.dedup_by_key(|anchor| anchor.id);
        if anchors == self.anchors {
            return false;
        }
        self.anchors = anchors;
        true
    }

    /// Asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        self.new.check();
        self.tried.check();
        self.acquaintances.check();
        assert_eq!(self.new.len() + self.tried.len(), self.entries.len(), "each entry has one place");
        for (id, entry) in &self.entries {
            let addresses = &entry.addresses;
            assert!((1..=BOOK_ADDRESSES_MAX).contains(&addresses.len()));
            assert!(addresses.iter().all(|a| a.len() <= ADDRESS_BYTES_MAX && ip_of(a).and_then(Group::of).is_some()));
            let (table, place) = if entry.tried {
                (&self.tried, self.tried_place_in(*id, entry.group))
            } else {
                (&self.new, self.new_place(*id, entry.group, entry.source))
            };
            assert_eq!(entry.place, place, "an entry is where it does not belong");
            assert_eq!(table.get(place), Some(*id));
            assert!(entry.tried || entry.failures < NEW_FAILURES_MAX.max(TRIED_FAILURES_MAX + 1));
        }
        assert!(self.collisions.len() <= COLLISIONS_MAX && self.anchors.len() <= ANCHORS_MAX);
        assert!(self.collisions.iter().all(|id| self.entries.contains_key(id)), "somebody forgotten waits for a place");
    }

    fn promote(&mut self, id: PeerId, place: Place) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.new.remove(entry.place);
        entry.group = entry.first_group();
        entry.tried = true;
        entry.place = place;
        self.tried.insert(place, id);
    }

    /// Moves an entry back to new, where it has to find a place like any other.
    fn demote(&mut self, id: PeerId) {
        let Some(entry) = self.entries.get(&id) else { return };
        let place = self.new_place(id, entry.group, entry.source);
        if let Some(present) = self.new.get(place) {
            if !self.entries[&present].is_replaceable() {
                return self.forget(id);
            }
            self.forget(present);
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            self.tried.remove(entry.place);
            (entry.tried, entry.place) = (false, place);
            self.new.insert(place, id);
        }
    }

    fn new_place(&self, id: PeerId, group: Group, source: Group) -> Place {
        let within = self.hash("source", &[&source.to_bytes(), &group.to_bytes()]);
        let within = within % u64::from(self.config.new_buckets_per_source);
        let bucket = self.hash("new", &[&source.to_bytes(), &within.to_le_bytes()]);
        self.place("new slot", bucket, self.config.new_buckets, id)
    }

    fn tried_place(&self, id: PeerId) -> Place {
        self.tried_place_in(id, self.entries[&id].first_group())
    }

    fn tried_place_in(&self, id: PeerId, group: Group) -> Place {
        let within = self.hash("peer", &[id.as_bytes()]) % u64::from(self.config.tried_buckets_per_group);
        let bucket = self.hash("tried", &[&group.to_bytes(), &within.to_le_bytes()]);
        self.place("tried slot", bucket, self.config.tried_buckets, id)
    }

    fn place(&self, label: &str, bucket: u64, buckets: u16, id: PeerId) -> Place {
        let narrow = |hash: u64, bound: u16| u16::try_from(hash % u64::from(bound)).expect("below a u16");
        let bucket = narrow(bucket, buckets);
        let slot = self.hash(label, &[&bucket.to_le_bytes(), id.as_bytes()]);
        Place { bucket, slot: narrow(slot, self.config.slots) }
    }

    /// All parts but the last have a fixed length, so no two lists of parts look the same.
    fn hash(&self, label: &str, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(label.as_bytes());
        hasher.write(&[0]);
        parts.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }
}

impl Entry {
    fn first_group(&self) -> Group {
        self.addresses.first().and_then(ip_of).and_then(Group::of).unwrap_or(self.group)
    }

    fn is_replaceable(&self) -> bool {
        self.failures >= REPLACEABLE_FAILURES || (self.failures > 0 && self.reached.is_none())
    }

    /// Adds what is new. In tried nothing is replaced; in new the oldest goes, but never the first one, which decided the place.
    fn learn<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        for address in addresses {
            if self.addresses.contains(address) {
                continue;
            }
            if self.addresses.len() == BOOK_ADDRESSES_MAX {
                if self.tried {
                    return;
                }
                self.addresses.remove(1);
            }
            self.addresses.push(address.clone());
        }
    }
}
