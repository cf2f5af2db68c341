//! Whom to dial, and when.
//!
//! [`PeerBook`] decides which of the peers that the node remembers to dial next, so that it reaches its target number of peers, keeps
//! enough links of its own choosing, and comes back to a lost peer without hammering it. It is pure: it is told who was discovered,
//! reached, connected, lost or unreachable, and says whom to dial, when to look for more, and when to write down what it knows.
//!
//! Whom it remembers is the business of [`book`]; here is what happens to those that it is dealing with at the moment.
//!
//! # Rules
//! 1. A trusted peer is dialled whenever it is not connected and its back-off has passed, beyond every target. So are the anchors after
//!    a start, until they have been connected or have failed [`ANCHOR_FAILURES_MAX`] times. *Rationale:* where attackers take every other
//!    place, an anchor that has no room at the first try is the way out. A node that has no anchors takes its bootnodes for them: at a
//!    first start, strangers that connect before anybody else can name thousands of their own, and would be dialled in their stead.
//! 2. Otherwise nobody is dialled while connected peers plus dials in flight reach `target_peers`, with one exception:
//!    dialling goes on while fewer than `outbound_min` links, or fewer than three in ten of all, are outbound.
//!    *Rationale:* an attacker can fill every inbound slot; only links that we chose ourselves are hard to win
//!    (Heilman et al., "Eclipse attacks on Bitcoin's peer-to-peer network", 2015).
//!    The target itself rises by [`SHORTAGE_STEP`] each time that the mesh has been short of links for `shortage_patience`
//!    although the target is reached, up to half as much again; it falls back when the mesh has had its links for
//!    `shortage_relief`. *Rationale:* the meshes of all connected peers may be full; then only others can help.
//! 3. Candidates come from the [`AddressBook`], those of groups in which we have fewer than [`OUTBOUND_PER_GROUP`] outbound links or dials
//!    first. A bootnode is chosen with one draw in [`BOOTNODE_SHARE`], and when nobody else is left. *Rationale:* any order that a
//!    remote can influence (freshness, number of mentions) can be gamed; groups are what an attacker has few of.
//! 4. A failed dial, and a connection that ends, put the peer off: `retry_first`, doubled with each failure up to
//!    `retry_max`, and jittered by up to a half so that a network that restarts does not dial in step. A connection
//!    that lasted `stable_after` clears the failures. A peer that was sent away for its behaviour is put off for
//!    `retry_max` at once: we would only send it away again.
//! 5. A failed dial counts against the peer's entry only while somebody is connected and the peer did not answer at all: a node that has
//!    lost its own network must not forget everybody, and who answers but has no room is worth keeping.
//! 6. While below the target without enough candidates to dial, discovery is asked for: at `discover_first` intervals
//!    at first, doubling up to `discover_max` while it brings nothing new; at `discover_max` when the target is
//!    reached, so that the book stays fresh. The first connection after none, and the first news after a pause, begin anew:
//!    before them there was nobody to ask.
//! 7. A **feeler** is sent every `feeler_interval` (jittered by half) while no more peers are wanted: a dial that ends with its handshake and
//!    only shows whether somebody is there. So entries of new come to be tried, and those of tried are tested before they are
//!    replaced.
//! 8. The anchors are the outbound peers in our mesh that have been connected for longest, those first that have proven useful; while there
//!    are too few of these, the former ones stay. Who has proven useful is remembered, found again and let in again (`proven.rs`).
//! 9. A banned peer or address is neither dialled nor remembered, whatever its standing.
//! 10. When all places for others are taken, a newcomer may take that of somebody who is of little use ([`eviction`]).
//! 11. Peers that were lost many at once are dialled again and again beyond the target, until some of them are back ([`reunion`]).
//! 12. A node whose peers are of no use seeks those that were, and has some that it dialled make room for others ([`renewal`]).
//!
//! # Bounds
//! Beside the address book at most `candidates_max` peers are remembered that are put off, besides those that are pinned (bootnode, trusted),
//! connected or being dialled. A call looks at the latter ones, some dozens; at those that are put off only where more peers are wanted
//! (`candidates.rs`).

pub mod address;
pub mod bans;
pub mod book;
mod candidate;
mod candidates;
mod config;
mod dialling;
pub mod eviction;
mod keeping_out;
mod proven;
pub mod renewal;
pub mod reunion;
mod sealed;
mod shortage;
#[cfg(test)]
mod tests;

pub use candidate::PeerStats;
pub use config::PeerConfig;
pub use sealed::FileError;
pub use shortage::SHORTAGE_STEP;

use crate::id::{Direction, PeerId};
use crate::random::Stream;
use crate::time::{Duration, Time};
use address::{Group, Scope, ip_of};
use bans::BanList;
use book::AddressBook;
use book::acquaintances::FADES_AFTER;
use bytes::Bytes;
use candidate::{Candidate, Counts, State};
use candidates::Candidates;
use eviction::Newcomer;
use proven::Seeking;
use renewal::{IDLE_TURNS, Renewal};
use reunion::Reunion;
use shortage::Shortage;
use std::net::IpAddr;

/// Addresses kept of one peer that the operator named, and taken from one announcement.
pub const ADDRESSES_MAX: usize = 8;
/// Longest address kept, in bytes of its binary multiaddr.
pub const ADDRESS_BYTES_MAX: usize = 128;

/// How often the wait after failures doubles at most; any `retry_max` that makes sense is reached before.
const DOUBLINGS_MAX: u32 = 16;

/// Outbound links with peers of one group before those of other groups are preferred.
pub const OUTBOUND_PER_GROUP: usize = 2;

/// One draw in so many goes to a bootnode. A guess: enough that an address book full of attackers does not keep a node from a good bootnode
/// for more than a few dials, and few enough that bootnodes are not everybody's peers.
pub const BOOTNODE_SHARE: u64 = 8;

/// Failures in a row after which an anchor is given up.
pub const ANCHOR_FAILURES_MAX: u32 = 4;

/// A multiaddr in binary form; only its IP address is looked at (see [`address::ip_of`]).
pub type Address = Bytes;

/// What the book wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAction {
    /// Dial this peer at one of these addresses; answer with `reached` and `connected`, or with `dial_failed`.
    Dial {
        /// Whom.
        id: PeerId,
        /// Where, in no particular order; never empty.
        addresses: Vec<Address>,
        /// What for.
        purpose: DialPurpose,
    },
    /// Look for more peers (a Kademlia random walk).
    Discover,
    /// Write [`PeerBook::to_file`] to the disk, when there is time.
    Save,
}

/// What a dial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialPurpose {
    /// To have a peer.
    Connect,
    /// To see whether somebody is there. The connection is closed when its handshake has shown who it is; the answer is `reached` or
    /// `dial_failed`.
    Feeler,
}

/// How much a candidate is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Heard of: from discovery, peer exchange or an inbound connection.
    Heard,
    /// A bootnode: never forgotten.
    Bootnode,
    /// Named by the operator: never forgotten, and always to be connected.
    Trusted,
}

/// Who tells of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operator.
    Operator,
    /// A lookup: nobody knows who of those that were asked.
    Lookup,
    /// This peer, perhaps of itself.
    Peer(PeerId),
}

/// The candidates and their states.
#[derive(Debug)]
pub struct PeerBook {
    config: PeerConfig,
    own: PeerId,
    candidates: Candidates,
    book: AddressBook,
    bans: BanList,
    /// Unix time in microseconds at [`Time::ZERO`], for bans.
    unix_us_at_zero: Option<u64>,
    random: Stream,
    discover_at: Time,
    discover_interval: Duration,
    /// Whether discovery brought anybody new since it was last asked for.
    discovered_new: bool,
    feeler_at: Time,
    /// Whether the address book differs from what was last saved.
    unsaved: bool,
    save_at: Time,
    shortage: Shortage,
    reunion: Reunion,
    renewal: Renewal,
    seeking: Seeking,
    /// When peers were last credited with what they brought.
    credited_at: Time,
    /// Acquaintances from before the start that have been of use since, and whether these were enough.
    found: usize,
    found_all: bool,
    /// When merits fade next.
    fades_at: Time,
    /// Who was last named to make room for a stranger, and for an acquaintance.
    making_room: [Option<PeerId>; 2],
    /// Which groups of addresses are protected from eviction.
    secret: u64,
    /// What [`PeerBook::next_wake`] answers; brought up to date by every change.
    wake: Time,
}

/// What a book is made of.
#[derive(Debug)]
pub struct PeerParts {
    /// Settings.
    pub config: PeerConfig,
    /// The address book as it was saved; none to begin with an empty one.
    pub book: Option<Vec<u8>>,
    /// The bans as they were saved.
    pub bans: BanList,
}

impl From<PeerConfig> for PeerParts {
    fn from(config: PeerConfig) -> Self {
        Self { config, book: None, bans: BanList::default() }
    }
}

impl PeerBook {
    /// The peers of the node `own`. A saved address book that is not one counts as none: whoever reads the file has checked it with
    /// [`Self::check_file`] and told the operator.
    #[must_use]
    pub fn new(parts: PeerParts, own: PeerId, mut random: Stream, now: Time) -> Self {
        let PeerParts { config, book, bans } = parts;
        let mut seed = [0; 32];
        random.fill(&mut seed);
        let restored = book.and_then(|file| AddressBook::from_file(&file, config.book, Stream::from_seed(seed)).ok());
        let book = restored.unwrap_or_else(|| {
            let mut key = [0; 16];
            random.fill(&mut key);
            AddressBook::new(config.book, key, Stream::from_seed(seed))
        });
        let secret = random.below(u64::MAX);
        let mut peers = Self {
            secret,
            credited_at: now,
            found: 0,
            found_all: false,
            fades_at: now + FADES_AFTER,
            making_room: [None; 2],
            discover_interval: config.discover_first,
            feeler_at: now + config.feeler_interval,
            // A bootnode that is killed early knows nobody else to dial.
            save_at: now + config.save_soon,
            config,
            own,
            candidates: Candidates::default(),
            book,
            bans,
            unix_us_at_zero: None,
            random,
            discover_at: now,
            discovered_new: true,
            unsaved: false,
            shortage: Shortage::default(),
            reunion: Reunion::default(),
            renewal: Renewal::default(),
            seeking: Seeking::default(),
            wake: now,
        };
        peers.book.forget(own);
        for anchor in peers.book.anchors().to_vec() {
            let mut candidate = Candidate::new(Standing::Heard, now, State::Idle);
            candidate.anchor = true;
            candidate.addresses = anchor.addresses;
            peers.candidates.insert(anchor.id, candidate);
        }
        peers.seek_acquaintances(now, false);
        peers.plan();
        peers
    }

    /// Whether these bytes are a saved address book.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_file(config: &PeerConfig, file: &[u8]) -> Result<(), FileError> {
        AddressBook::from_file(file, config.book, Stream::from_seed([0; 32])).map(drop)
    }

    /// What to write to the disk, so that the next life begins with it.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        self.book.to_file()
    }

    /// Learns addresses of a peer. Our own id and addresses that cannot be dialled are ignored; a standing is only ever
    /// raised.
    pub fn discovered(&mut self, now: Time, id: PeerId, addresses: &[Address], standing: Standing, source: Source) {
        if id == self.own {
            return;
        }
        let fitting = addresses.iter().filter(|a| !a.is_empty() && a.len() <= ADDRESS_BYTES_MAX).take(ADDRESSES_MAX);
        if standing > Standing::Heard {
            let new = || Candidate::new(standing, now, State::Idle);
            let is_nowhere = self.candidates.change_or_insert(id, new, |candidate| {
                let untried = candidate.state == State::Idle && candidate.failures == 0;
                candidate.anchor |= untried && self.book.anchors().is_empty();
                candidate.standing = candidate.standing.max(standing);
                candidate.add_addresses(fitting);
                candidate.addresses.is_empty() && candidate.state == State::Idle
            });
            if is_nowhere {
                self.candidates.remove(&id);
            }
            return self.plan();
        }
        let (group, scope) = self.credentials(source);
        let unix_s = self.unix_s(now);
        let allowed = fitting.filter(|address| !self.bans.is_banned(Some(id), ip_of(address), unix_s));
        if self.book.add(id, allowed, group, scope) {
            self.unsaved = true;
            self.discovered_new = true;
            if self.discover_interval > self.config.discover_first && self.wanted() > 0 {
                self.discover_soon(now + self.config.discover_first);
            }
        }
        self.plan();
    }

    /// A dial that was asked for has reached the peer at this address: the handshake has shown that it is the one.
    pub fn reached(&mut self, now: Time, id: PeerId, address: &Address) {
        let is_of_our_choice = self.candidates.change(id, |candidate| {
            match &mut candidate.state {
                State::Dialling { answered, purpose: DialPurpose::Connect, .. } => *answered = true,
                State::Dialling { purpose: DialPurpose::Feeler, .. } => {
                    candidate.state = State::Idle;
                    candidate.failures = 0;
                    candidate.retry_at = now;
                }
                State::Connected { direction: Direction::Outbound, .. } => {}
                State::Connected { .. } | State::Idle => return false,
            }
            true
        });
        if is_of_our_choice != Some(true) {
            return;
        }
        self.book.reached(now, id, address);
        self.unsaved = true;
        self.drop_if_useless(now, id);
        self.plan();
    }

    /// A connection with the peer is up, whoever dialled.
    pub fn connected(&mut self, now: Time, id: PeerId, ip: IpAddr, direction: Direction) {
        if self.candidates.counts().connected == 0 {
            self.discover_soon(now);
        }
        let state = State::Connected { since: now, direction, ip };
        // Perhaps an inbound peer whose listening address is not known yet. It is counted, and it may be over the bound for
        // as long as it is connected; the driver bounds connections.
        let new = || Candidate::new(Standing::Heard, now, state);
        self.candidates.change_or_insert(id, new, |candidate| {
            candidate.state = state;
            candidate.anchor = false;
            (candidate.makes_room, candidate.kept_away, candidate.idle_turns) = (false, false, 0);
        });
        self.found_again(id);
        self.plan();
    }

    /// Somebody else dialled the connection that is used than was said.
    pub fn turned(&mut self, id: PeerId, direction: Direction) {
        self.candidates.change(id, |candidate| {
            if let State::Connected { direction: known, .. } = &mut candidate.state {
                *known = direction;
            }
        });
        self.plan();
    }

    /// The last connection with the peer is gone.
    pub fn disconnected(&mut self, now: Time, id: PeerId) {
        let by_us = self.candidates.change(id, |candidate| {
            if let State::Connected { since, .. } = candidate.state
                && now.since(since) >= self.config.stable_after
            {
                candidate.failures = 0;
            }
            let by_us = core::mem::take(&mut candidate.sent_away) | core::mem::take(&mut candidate.makes_room);
            candidate.kept_away = by_us;
            if by_us {
                candidate.failures = candidate.failures.max(DOUBLINGS_MAX);
            }
            candidate.state = State::Idle;
            by_us
        });
        let Some(by_us) = by_us else { return };
        self.put_off(now, id);
        if !by_us && !self.making_room.contains(&Some(id)) {
            self.lost(now, id);
        }
        self.drop_if_useless(now, id);
        self.plan();
    }

    /// A connected peer is being disconnected because of what it did.
    pub fn sent_away(&mut self, id: PeerId) {
        let is_connected = self.candidates.change(id, |candidate| {
            candidate.sent_away |= matches!(candidate.state, State::Connected { .. });
            candidate.sent_away
        });
        if is_connected == Some(true) {
            self.unsaved |= self.book.acquaintances_mut().forget(&id);
        }
    }

    /// A dial that was asked for did not lead to a connection.
    pub fn dial_failed(&mut self, now: Time, id: PeerId) {
        self.fail(now, id);
        self.plan();
    }

    fn fail(&mut self, now: Time, id: PeerId) {
        let network_works = self.candidates.counts().connected > 0;
        let Some(candidate) = self.candidates.get(&id) else { return };
        let answered = match candidate.state {
            State::Connected { .. } => return,
            State::Dialling { answered, .. } => answered,
            State::Idle => true,
        };
        let missed = candidate.missed;
        self.candidates.change(id, |candidate| candidate.state = State::Idle);
        self.put_off(now, id);
        if network_works && !answered && !missed {
            self.book.failed(id);
            self.unsaved = true;
        }
        self.candidates.change(id, |candidate| candidate.anchor &= candidate.failures < ANCHOR_FAILURES_MAX);
        self.drop_if_useless(now, id);
    }

    /// Does what is due. A call before [`Self::next_wake`] does nothing.
    pub fn on_wake(&mut self, now: Time, mut act: impl FnMut(PeerAction)) {
        if now < self.wake {
            return;
        }
        self.expire_dials(now);
        self.forget_rested(now);
        self.dial_first(now, &mut act);
        self.dial_missed(now, &mut act);
        while self.wanted() > 0 && self.room() > self.kept_for_missed() {
            let Some(id) = self.choose(now) else { break };
            self.fill_vacancy();
            self.dial(now, id, DialPurpose::Connect, &mut act);
        }
        if self.discover_at <= now {
            self.discover_interval = if self.wanted() == 0 {
                self.config.discover_max
            } else if core::mem::take(&mut self.discovered_new) {
                self.config.discover_first
            } else {
                (self.discover_interval * 2).min(self.config.discover_max)
            };
            self.discover_at = now + self.discover_interval;
            act(PeerAction::Discover);
        }
        if self.feeler_at <= now {
            self.feeler(now, &mut act);
        }
        if self.unsaved && self.save_at <= now {
            self.unsaved = false;
            self.save_at = now + self.config.save_interval;
            act(PeerAction::Save);
        }
        self.plan();
    }

    /// When there is something to do next. O(1).
    #[must_use]
    pub fn next_wake(&self) -> Time {
        self.wake
    }

    /// To be called after every change.
    fn plan(&mut self) {
        self.note_who_is_in_the_book();
        let wanted = self.wanted() > 0;
        let room = self.room() > 0;
        let wanted = wanted && self.room() > self.kept_for_missed();
        let mut wake = self.discover_at.min(self.feeler_at);
        if self.unsaved {
            wake = wake.min(self.save_at);
        }
        if let Some(at) = self.next_missed() {
            wake = wake.min(at);
        }
        for (id, candidate) in self.candidates.engaged() {
            match candidate.state {
                State::Idle if room && self.may_be_dialled(id, candidate) => {
                    // Who is missed and not in the tables cannot be chosen, and has its own time.
                    let can_be_chosen =
                        !candidate.missed || candidate.standing == Standing::Bootnode || candidate.in_book;
                    if wanted && can_be_chosen || candidate.standing == Standing::Trusted || candidate.anchor {
                        wake = wake.min(candidate.retry_at);
                    }
                }
                State::Dialling { since, .. } => wake = wake.min(since + self.config.dial_timeout),
                State::Idle | State::Connected { .. } => {}
            }
        }
        if wanted && room {
            wake = wake.min(self.next_choice());
        }
        self.wake = wake;
    }

    /// When somebody of the book, or of those that were put off, can be chosen to be dialled: [`Time::ZERO`] where somebody in the book has
    /// never been dealt with.
    fn next_choice(&self) -> Time {
        let (new, tried) = self.book.sizes();
        if new + tried > self.candidates.counts().in_book {
            return Time::ZERO;
        }
        let mut resting = self.candidates.resting_somewhere().filter(|(id, it)| self.may_be_dialled(id, it));
        resting.next().map_or(Time::MAX, |(_, it)| it.retry_at)
    }

    fn note_who_is_in_the_book(&mut self) {
        let moved = self.book.take_moved().into_iter().chain(self.candidates.take_new());
        for id in moved {
            let in_book = self.book.contains(&id);
            self.candidates.change(id, |candidate| candidate.in_book = in_book);
        }
    }

    /// Looks for peers at once, for a node that suspects that it is cut off: bootnodes and trusted peers are dialled whatever
    /// failed before, acquaintances and some more peers are sought than there are, since those may be cut off with us, and some of these make room
    /// at the next turn if they are of no use ([`renewal`]).
    pub fn look_now(&mut self, now: Time) {
        self.candidates.change_engaged(|_, candidate| {
            if candidate.standing >= Standing::Bootnode {
                candidate.retry_at = candidate.retry_at.min(now);
            }
        });
        self.shortage.extra = (self.shortage.extra + SHORTAGE_STEP).min(self.config.target_peers / 2);
        self.is_ill_served(now);
        self.discover_soon(now);
        self.plan();
    }

    /// Rule 6: begins with the shortest interval again. The caller plans.
    fn discover_soon(&mut self, at: Time) {
        self.discover_at = self.discover_at.min(at);
        self.discover_interval = self.config.discover_first;
    }

    /// Since when an inbound peer is connected and from where, whether it is to stay whatever happens, and whether it is idle ([`renewal`]).
    pub(crate) fn inbound(&self, id: &PeerId) -> Option<(Time, IpAddr, bool, bool)> {
        let candidate = self.candidates.get(id)?;
        match candidate.state {
            State::Connected { since, direction: Direction::Inbound, ip } => {
                Some((since, ip, candidate.standing == Standing::Trusted, candidate.idle_turns >= IDLE_TURNS))
            }
            _ => None,
        }
    }

    /// This peer is to make room for a stranger or an acquaintance: its going is no loss.
    pub(crate) fn makes_room(&mut self, id: PeerId, newcomer: Newcomer) {
        self.making_room[usize::from(newcomer == Newcomer::Acquaintance)] = Some(id);
    }

    /// What only we know, for [`eviction`].
    pub(crate) fn secret(&self) -> u64 {
        self.secret
    }

    /// The address of a connected peer.
    #[must_use]
    pub fn connected_ip(&self, id: &PeerId) -> Option<IpAddr> {
        match self.candidates.get(id)?.state {
            State::Connected { ip, .. } => Some(ip),
            State::Idle | State::Dialling { .. } => None,
        }
    }

    /// Asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        self.book.check();
        let knows_itself = self.candidates.get(&self.own).is_some() || self.book.contains(&self.own);
        assert!(!knows_itself, "the book must not list its own node");
        self.candidates.check();
        for (id, candidate) in self.candidates.engaged().chain(self.candidates.resting()) {
            assert!(candidate.addresses.len() <= ADDRESSES_MAX);
            assert!(candidate.addresses.iter().all(|a| !a.is_empty() && a.len() <= ADDRESS_BYTES_MAX));
            let connected = matches!(candidate.state, State::Connected { .. });
            let pinned = candidate.standing > Standing::Heard;
            assert_eq!(candidate.in_book, self.book.contains(id), "who is in the book");
            assert!(!pinned || connected || !candidate.addresses.is_empty(), "a pinned peer has no address: {id:?}");
        }
        let Counts { dialling, feelers, spare, .. } = self.candidates.counts();
        assert!(spare <= self.config.candidates_max, "{spare} candidates");
        assert!(dialling + feelers <= self.config.dials_max && feelers <= 1, "too many dials in flight");
    }

    /// Lets go of those whose back-off has passed and whom the address book does not know any more.
    fn forget_rested(&mut self, now: Time) {
        self.note_who_is_in_the_book();
        self.candidates.forget_rested(now);
    }

    /// Keeps the number of idle candidates within its bound, by dropping those that are put off for the shortest time.
    fn drop_if_useless(&mut self, now: Time, id: PeerId) {
        if let Some(candidate) = self.candidates.get(&id)
            && candidate.is_spare()
            && candidate.retry_at <= now
            && candidate.failures == 0
        {
            // Nothing is remembered of it that the address book does not know.
            self.candidates.remove(&id);
        }
        while self.candidates.counts().spare > self.config.candidates_max {
            let id = self.candidates.first_to_go().expect("there are too many");
            self.candidates.remove(&id);
        }
    }

    /// The group that a source speaks from, and the narrowest scope of which it can tell.
    fn credentials(&self, source: Source) -> (Group, Scope) {
        if let Source::Peer(id) = source
            && let Some(ip) = self.connected_ip(&id)
            && let (Some(group), Some(scope)) = (Group::of(ip), Scope::of(ip))
        {
            return (group, scope);
        }
        // Any connected peer may have said it, and the farthest can be believed the least.
        let scopes = self.candidates.engaged().filter_map(|(id, _)| self.connected_ip(id)).filter_map(Scope::of);
        (Group::LOOKUPS, scopes.max().unwrap_or(Scope::Global))
    }
}
