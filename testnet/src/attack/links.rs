//! The connections that an attacker keeps up.
//!
//! It dials its targets one after the other until it has as many connections as it wants. A place is sought again a while after a dial
//! has failed or a connection has ended, with the next target, so that an attacker that was sent away goes on elsewhere. When it has tried all
//! targets it begins again with the first one.

use crate::wan::Stream;
use starling_protocol::id::{PeerHandle, PeerId};
use starling_protocol::mesh::Sink;
use starling_protocol::node::{Input, Output};
use starling_protocol::peers::DialPurpose;
use starling_protocol::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// How long a place stays empty that could not be filled or that somebody has thrown us out of, unless something else is said. A guess: an
/// attacker that is in no hurry gives itself away less.
const REDIAL: Duration = Duration::from_secs(10);

/// Connections of one attacker.
#[derive(Debug)]
pub(super) struct Links {
    targets: Rc<[PeerId]>,
    /// The next target to dial.
    next: usize,
    wanted: usize,
    dialling: BTreeSet<PeerId>,
    connected: BTreeMap<PeerHandle, PeerId>,
    /// How many of these connections are with the same peer.
    with: BTreeMap<PeerId, usize>,
    /// When places are sought again, one entry for each place: in order, because all stay empty for the same time.
    empty: VecDeque<Time>,
    redial: Duration,
}

impl Links {
    /// So many connections with some of the targets, beginning anywhere among them.
    pub(super) fn new(targets: Rc<[PeerId]>, wanted: usize, random: &mut Stream) -> Self {
        let next = if targets.is_empty() { 0 } else { random.index(targets.len()) };
        let wanted = wanted.min(targets.len());
        Self {
            next,
            wanted,
            targets,
            dialling: BTreeSet::new(),
            connected: BTreeMap::new(),
            with: BTreeMap::new(),
            empty: VecDeque::new(),
            redial: REDIAL,
        }
    }

    /// The same, which seeks a place again after so long.
    pub(super) fn redialling(self, redial: Duration) -> Self {
        Self { redial, ..self }
    }

    /// Begins to dial.
    pub(super) fn begin(&mut self, out: &mut dyn Sink<Output>) {
        for _ in self.dialling.len() + self.connected.len()..self.wanted {
            self.dial(out);
        }
    }

    /// Keeps account of connections; gives the peer that is connected now, if that is what happened.
    pub(super) fn handle(&mut self, now: Time, input: &Input<'_>) -> Option<PeerHandle> {
        match input {
            Input::Connected { peer, id, .. } => {
                self.dialling.remove(id);
                self.connected.insert(*peer, *id);
                *self.with.entry(*id).or_default() += 1;
                return Some(*peer);
            }
            Input::Disconnected { peer } => {
                if let Some(id) = self.connected.remove(peer) {
                    self.parted(id);
                    self.empty.push_back(now + self.redial);
                }
            }
            Input::DialFailed { id } if self.dialling.remove(id) => self.empty.push_back(now + self.redial),
            _ => {}
        }
        None
    }

    fn parted(&mut self, id: PeerId) {
        if let Some(left) = self.with.get_mut(&id) {
            *left -= 1;
            if *left == 0 {
                self.with.remove(&id);
            }
        }
    }

    /// Seeks places again that are due.
    pub(super) fn on_wake(&mut self, now: Time, out: &mut dyn Sink<Output>) {
        while self.empty.front().is_some_and(|at| *at <= now) {
            self.empty.pop_front();
            self.dial(out);
        }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        self.empty.front().copied()
    }

    /// Peers that are connected.
    pub(super) fn connected(&self) -> impl Iterator<Item = PeerHandle> {
        self.connected.keys().copied()
    }

    /// Whom a connection is with.
    pub(super) fn id_of(&self, peer: PeerHandle) -> Option<PeerId> {
        self.connected.get(&peer).copied()
    }

    /// Ends all connections and seeks no others.
    pub(super) fn end(&mut self, out: &mut dyn Sink<Output>) {
        self.wanted = 0;
        self.empty.clear();
        self.with.clear();
        for peer in core::mem::take(&mut self.connected).into_keys() {
            out.emit(Output::Disconnect { peer, reason: starling_protocol::mesh::DisconnectReason::Requested });
        }
    }

    fn dial(&mut self, out: &mut dyn Sink<Output>) {
        if self.dialling.len() + self.connected.len() >= self.wanted {
            return;
        }
        for _ in 0..self.targets.len() {
            let id = self.targets[self.next];
            self.next = (self.next + 1) % self.targets.len();
            if !self.with.contains_key(&id) && self.dialling.insert(id) {
                return out.emit(Output::Dial { id, addresses: Vec::new(), purpose: DialPurpose::Connect });
            }
        }
    }
}
