//! Whom to dial, and when.
//!
//! [`PeerBook`] keeps a bounded set of candidates with their addresses and decides which of them to dial next, so that
//! the node reaches its target number of peers, keeps enough links of its own choosing, and comes back to a lost peer
//! without hammering it. It is pure: it is told who was discovered, connected, lost or unreachable, and says whom to
//! dial and when to look for more.
//!
//! # Rules
//! 1. A trusted peer is dialled whenever it is not connected and its back-off has passed, beyond every target.
//! 2. Otherwise nobody is dialled while connected peers plus dials in flight reach `target_peers`, with one exception:
//!    while fewer than `outbound_min` links are outbound, dialling goes on up to that number.
//!    *Rationale:* an attacker can fill every inbound slot; only links that we chose ourselves are hard to win
//!    (Heilman et al., "Eclipse attacks on Bitcoin's peer-to-peer network", 2015).
//!    The target itself rises by [`SHORTAGE_STEP`] each time that the mesh has been short of links for `shortage_patience`
//!    although the target is reached, up to half as much again; it falls back when the mesh has had its links for
//!    `shortage_relief`. *Rationale:* the meshes of all connected peers may be full; then only others can help.
//! 3. Candidates are chosen uniformly at random among those whose back-off has passed. *Rationale:* any order that a
//!    remote can influence (freshness, number of mentions) can be gamed.
//! 4. A failed dial, and a connection that ends, put the peer off: `retry_first`, doubled with each failure up to
//!    `retry_max`, and jittered by up to a half so that a network that restarts does not dial in step. A connection
//!    that lasted `stable_after` clears the failures. A peer that was sent away for its behaviour is put off for
//!    `retry_max` at once: we would only send it away again.
//! 5. While below the target without enough candidates to dial, discovery is asked for: at `discover_first` intervals
//!    at first, doubling up to `discover_max` while it brings nothing new; at `discover_max` when the target is
//!    reached, so that the book stays fresh.
//!
//! # Bounds
//! At most `candidates_max` peers are known, `ADDRESSES_MAX` addresses of at most `ADDRESS_BYTES_MAX` bytes each. A
//! full book makes room by dropping a random candidate that is neither pinned (bootnode, trusted), connected nor being
//! dialled. Every call is O(candidates) at worst and happens a few times a second.

mod config;
#[cfg(test)]
mod tests;

pub use config::PeerConfig;

use crate::id::{Direction, PeerId};
use crate::random::Stream;
use crate::time::{Duration, Time};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Addresses kept of one peer.
pub const ADDRESSES_MAX: usize = 8;
/// Longest address kept, in bytes of its binary multiaddr.
pub const ADDRESS_BYTES_MAX: usize = 128;

/// How often the wait after failures doubles at most; any `retry_max` that makes sense is reached before.
const DOUBLINGS_MAX: u32 = 16;

/// How many more peers are sought when a mesh stays short of links.
pub const SHORTAGE_STEP: usize = 2;

/// A multiaddr in binary form, opaque to the protocol.
pub type Address = Bytes;

/// What the book wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAction {
    /// Dial this peer at one of these addresses; answer with `connected` or `dial_failed`.
    Dial {
        /// Whom.
        id: PeerId,
        /// Where, in no particular order; never empty.
        addresses: Vec<Address>,
    },
    /// Look for more peers (a Kademlia random walk).
    Discover,
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

#[derive(Debug)]
struct Candidate {
    addresses: Vec<Address>,
    standing: Standing,
    failures: u32,
    /// Whether we asked for the end of the connection because of what the peer did.
    sent_away: bool,
    /// Not to be dialled before.
    retry_at: Time,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Dialling { since: Time },
    Connected { since: Time, direction: Direction },
}

/// How the mesh fares with the peers that there are.
#[derive(Debug, Default)]
struct Shortage {
    /// Peers sought beyond the target.
    extra: usize,
    /// Since when the mesh has been short of links with the target reached, or since the last step.
    short_since: Option<Time>,
    /// Since when it has had its links.
    content_since: Option<Time>,
}

/// The candidates and their states.
#[derive(Debug)]
pub struct PeerBook {
    config: PeerConfig,
    own: PeerId,
    candidates: BTreeMap<PeerId, Candidate>,
    random: Stream,
    discover_at: Time,
    discover_interval: Duration,
    /// Whether discovery brought anybody new since it was last asked for.
    discovered_new: bool,
    shortage: Shortage,
    /// What [`PeerBook::next_wake`] answers; brought up to date by every change.
    wake: Time,
}

impl PeerBook {
    /// An empty book of the node `own`.
    #[must_use]
    pub fn new(config: PeerConfig, own: PeerId, random: Stream, now: Time) -> Self {
        Self {
            discover_interval: config.discover_first,
            config,
            own,
            candidates: BTreeMap::new(),
            random,
            discover_at: now,
            discovered_new: true,
            shortage: Shortage::default(),
            wake: now,
        }
    }

    /// Learns addresses of a peer. Our own id, empty or oversized addresses are ignored; a standing is only ever
    /// raised.
    pub fn discovered(&mut self, now: Time, id: PeerId, addresses: &[Address], standing: Standing) {
        if id == self.own {
            return;
        }
        let fitting = addresses.iter().filter(|a| !a.is_empty() && a.len() <= ADDRESS_BYTES_MAX);
        if let Some(known) = self.candidates.get_mut(&id) {
            known.standing = known.standing.max(standing);
            known.add_addresses(fitting);
            self.plan();
            return;
        }
        let mut candidate = Candidate::new(standing, now, State::Idle);
        candidate.add_addresses(fitting);
        if candidate.addresses.is_empty() || !self.make_room(standing) {
            return;
        }
        self.candidates.insert(id, candidate);
        self.discovered_new = true;
        self.plan();
    }

    /// A connection with the peer is up, whoever dialled.
    pub fn connected(&mut self, now: Time, id: PeerId, direction: Direction) {
        let state = State::Connected { since: now, direction };
        if let Some(candidate) = self.candidates.get_mut(&id) {
            candidate.state = state;
        } else {
            // An inbound peer whose listening address is not known yet. It is counted, and it may be over the bound for
            // as long as it is connected; the driver bounds connections.
            self.candidates.insert(id, Candidate::new(Standing::Heard, now, state));
        }
        self.plan();
    }

    /// Somebody else dialled the connection that is used than was said.
    pub fn turned(&mut self, id: PeerId, direction: Direction) {
        if let Some(Candidate { state: State::Connected { direction: known, .. }, .. }) = self.candidates.get_mut(&id) {
            *known = direction;
            self.plan();
        }
    }

    /// The last connection with the peer is gone.
    pub fn disconnected(&mut self, now: Time, id: PeerId) {
        let Some(candidate) = self.candidates.get_mut(&id) else { return };
        if let State::Connected { since, .. } = candidate.state
            && now.since(since) >= self.config.stable_after
        {
            candidate.failures = 0;
        }
        if core::mem::take(&mut candidate.sent_away) {
            candidate.failures = candidate.failures.max(DOUBLINGS_MAX);
        }
        candidate.state = State::Idle;
        self.put_off(now, id);
        self.drop_if_useless(id);
        self.plan();
    }

    /// A connected peer is being disconnected because of what it did.
    pub fn sent_away(&mut self, id: PeerId) {
        if let Some(candidate) = self.candidates.get_mut(&id)
            && matches!(candidate.state, State::Connected { .. })
        {
            candidate.sent_away = true;
        }
    }

    /// A dial that was asked for did not lead to a connection.
    pub fn dial_failed(&mut self, now: Time, id: PeerId) {
        self.fail(now, id);
        self.plan();
    }

    fn fail(&mut self, now: Time, id: PeerId) {
        let Some(candidate) = self.candidates.get_mut(&id) else { return };
        if matches!(candidate.state, State::Connected { .. }) {
            return;
        }
        candidate.state = State::Idle;
        self.put_off(now, id);
        let Some(candidate) = self.candidates.get(&id) else { return };
        if candidate.standing == Standing::Heard && candidate.failures >= self.config.failures_max {
            self.candidates.remove(&id);
        }
    }

    /// Does what is due. A call before [`Self::next_wake`] does nothing.
    pub fn on_wake(&mut self, now: Time, mut act: impl FnMut(PeerAction)) {
        if now < self.wake {
            return;
        }
        self.expire_dials(now);
        let (connected, outbound, dialling) = self.counts();
        let mut room = self.config.dials_max.saturating_sub(dialling);
        let below_target = self.target().saturating_sub(connected + dialling);
        let below_outbound = self.config.outbound_min.saturating_sub(outbound + dialling);
        let mut wanted = below_target.max(below_outbound);

        let (trusted, others): (Vec<PeerId>, Vec<PeerId>) = self
            .candidates
            .iter()
            .filter(|(_, c)| c.state == State::Idle && c.retry_at <= now && !c.addresses.is_empty())
            .map(|(id, _)| *id)
            .partition(|id| self.candidates[id].standing == Standing::Trusted);
        for id in trusted {
            if room == 0 {
                break;
            }
            room -= 1;
            wanted = wanted.saturating_sub(1);
            self.dial(now, id, &mut act);
        }
        let mut others = others;
        self.random.shuffle(&mut others);
        for id in others.into_iter().take(wanted.min(room)) {
            wanted -= 1;
            self.dial(now, id, &mut act);
        }
        if self.discover_at <= now {
            self.discover_interval = if wanted == 0 {
                self.config.discover_max
            } else if core::mem::take(&mut self.discovered_new) {
                self.config.discover_first
            } else {
                (self.discover_interval * 2).min(self.config.discover_max)
            };
            self.discover_at = now + self.discover_interval;
            act(PeerAction::Discover);
        }
        self.plan();
    }

    /// When there is something to do next. O(1).
    #[must_use]
    pub fn next_wake(&self) -> Time {
        self.wake
    }

    fn plan(&mut self) {
        let (connected, outbound, dialling) = self.counts();
        let below_target = connected + dialling < self.target();
        let below_outbound = outbound + dialling < self.config.outbound_min;
        let room = dialling < self.config.dials_max;
        let mut wake = self.discover_at;
        for candidate in self.candidates.values() {
            match candidate.state {
                State::Idle if room && !candidate.addresses.is_empty() => {
                    if below_target || below_outbound || candidate.standing == Standing::Trusted {
                        wake = wake.min(candidate.retry_at);
                    }
                }
                State::Dialling { since } => wake = wake.min(since + self.config.dial_timeout),
                State::Idle | State::Connected { .. } => {}
            }
        }
        self.wake = wake;
    }

    /// Learns whether the mesh of some topic is short of links. To be told every heartbeat or so.
    pub fn mesh_is_short(&mut self, now: Time, short: bool) {
        let reached = self.stats().connected >= self.target();
        let shortage = &mut self.shortage;
        if !short {
            shortage.short_since = None;
            let since = *shortage.content_since.get_or_insert(now);
            if shortage.extra > 0 && now.since(since) >= self.config.shortage_relief {
                shortage.extra = 0;
                self.plan();
            }
            return;
        }
        shortage.content_since = None;
        if !reached {
            shortage.short_since = None;
        } else if now.since(*shortage.short_since.get_or_insert(now)) >= self.config.shortage_patience {
            shortage.short_since = Some(now);
            shortage.extra = (shortage.extra + SHORTAGE_STEP).min(self.config.target_peers / 2);
            self.plan();
        }
    }

    /// How many peers are sought at present.
    fn target(&self) -> usize {
        self.config.target_peers + self.shortage.extra
    }

    /// Looks for peers at once, for a node that suspects that it is cut off.
    pub fn look_now(&mut self, now: Time) {
        self.discover_at = now;
        self.discover_interval = self.config.discover_first;
        self.plan();
    }

    /// Peers known, connected, connected by our own dial, and being dialled.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        let (connected, outbound, dialling) = self.counts();
        PeerStats { known: self.candidates.len(), connected, outbound, dialling }
    }

    /// Asserts every invariant.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        assert!(!self.candidates.contains_key(&self.own), "the book must not list its own node");
        let mut unpinned = 0;
        for candidate in self.candidates.values() {
            assert!(candidate.addresses.len() <= ADDRESSES_MAX);
            assert!(candidate.addresses.iter().all(|a| !a.is_empty() && a.len() <= ADDRESS_BYTES_MAX));
            let connected = matches!(candidate.state, State::Connected { .. });
            assert!(connected || !candidate.addresses.is_empty(), "a peer that cannot be dialled is forgotten");
            unpinned += usize::from(candidate.standing == Standing::Heard && !connected);
        }
        // A connected peer that the book had no room for becomes unpinned on disconnect only if it can be dialled.
        let connected = self.counts().0;
        assert!(unpinned <= self.config.candidates_max + connected, "{unpinned} candidates");
        assert!(self.counts().2 <= self.config.dials_max, "too many dials in flight");
    }

    fn dial(&mut self, now: Time, id: PeerId, act: &mut impl FnMut(PeerAction)) {
        if let Some(candidate) = self.candidates.get_mut(&id) {
            candidate.state = State::Dialling { since: now };
            act(PeerAction::Dial { id, addresses: candidate.addresses.clone() });
        }
    }

    /// A driver that never answers must not leak a place among the dials.
    fn expire_dials(&mut self, now: Time) {
        let timeout = self.config.dial_timeout;
        let late: Vec<PeerId> = self
            .candidates
            .iter()
            .filter(|(_, c)| matches!(c.state, State::Dialling { since } if since + timeout <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.fail(now, id);
        }
    }

    fn put_off(&mut self, now: Time, id: PeerId) {
        let Some(candidate) = self.candidates.get_mut(&id) else { return };
        let doublings = candidate.failures.min(DOUBLINGS_MAX);
        candidate.failures = candidate.failures.saturating_add(1);
        let delay = self.config.retry_first.saturating_mul(1 << doublings).min(self.config.retry_max);
        let jitter = self.random.below(crate::time::micros(delay) / 2 + 1);
        candidate.retry_at = now + delay + Duration::from_micros(jitter);
    }

    fn drop_if_useless(&mut self, id: PeerId) {
        let over = self.candidates.len() > self.config.candidates_max;
        if let Some(candidate) = self.candidates.get(&id)
            && candidate.standing == Standing::Heard
            && (candidate.addresses.is_empty() || over)
        {
            self.candidates.remove(&id);
        }
    }

    /// Whether one more candidate fits, after dropping a random one if need be.
    fn make_room(&mut self, standing: Standing) -> bool {
        if standing != Standing::Heard || self.candidates.len() < self.config.candidates_max {
            return true;
        }
        let droppable: Vec<PeerId> = self
            .candidates
            .iter()
            .filter(|(_, c)| c.standing == Standing::Heard && c.state == State::Idle)
            .map(|(id, _)| *id)
            .collect();
        let Some(victim) = self.random.choose(&droppable).copied() else { return false };
        self.candidates.remove(&victim);
        true
    }

    fn counts(&self) -> (usize, usize, usize) {
        let (mut connected, mut outbound, mut dialling) = (0, 0, 0);
        for candidate in self.candidates.values() {
            match candidate.state {
                State::Idle => {}
                State::Dialling { .. } => dialling += 1,
                State::Connected { direction, .. } => {
                    connected += 1;
                    outbound += usize::from(direction == Direction::Outbound);
                }
            }
        }
        (connected, outbound, dialling)
    }
}

impl Candidate {
    fn new(standing: Standing, retry_at: Time, state: State) -> Self {
        Self { addresses: Vec::new(), standing, failures: 0, sent_away: false, retry_at, state }
    }

    /// Adds what is new; when there are more than [`ADDRESSES_MAX`], the oldest go.
    fn add_addresses<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        for address in addresses {
            if !self.addresses.contains(address) {
                if self.addresses.len() == ADDRESSES_MAX {
                    self.addresses.remove(0);
                }
                self.addresses.push(address.clone());
            }
        }
    }
}

/// Numbers about the book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Peers in the book.
    pub known: usize,
    /// Connected peers.
    pub connected: usize,
    /// Connected peers that we dialled.
    pub outbound: usize,
    /// Dials in flight.
    pub dialling: usize,
}
