//! Connections: how they come about and how they end.
//!
//! - A dial takes two one-way delays. It fails after one if nobody listens at the other end, if either end has no room left
//!   ([`ConnectionLimits`]), and after [`DIAL_TIMEOUT`] if nothing comes back.
//! - Where all places for others are taken, a machine may name a peer that makes room, as the real node does: once in
//!   [`EVICTION_INTERVAL`] for strangers, and as often for those that it knows.
//! - Whoever hangs up hears of the end at once, the other one when everything has come that was sent before.
//! - Where nothing gets through any more, both ends find out by themselves, each after [`super::Scenario::dead_after`] without a sign;
//!   if the path is mended before, what waited goes on.

use super::directory::{multiaddr, place_of};
use super::event::Rare;
use super::link::Line;
use super::machine::Phase;
use super::peer_id;
use super::scenario::{ConnectionLimits, Wiring};
use super::world::World;
use starling_protocol::id::{Direction, PeerHandle, PeerId, Version};
use starling_protocol::node::Input;
use starling_protocol::peers::address::Group;
use starling_protocol::peers::eviction::{EVICTION_INTERVAL, Newcomer};
use starling_protocol::peers::{DialPurpose, Source, Standing};
use starling_protocol::time::{Duration, Time};

/// How long whoever dials waits for an answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// When the first packet of a dial is sent again that was not answered, after the first time: the first retransmission timeout of TCP and its
/// doublings (RFC 6298), as far as whoever dials waits.
const DIALS_AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];
/// How long a lookup takes: a few round trips. A guess.
const LOOKUP: Duration = Duration::from_millis(500);
/// How many peers a lookup finds: the bucket size of Kademlia.
const LOOKUP_PEERS: usize = 20;

impl World {
    /// A machine dials somebody.
    pub(super) fn dial(&mut self, at: Time, node: u32, id: PeerId, purpose: DialPurpose, since: Time) {
        let life = self.machines[node as usize].life;
        let to = place_of(&id).filter(|to| *to != node && (*to as usize) < self.machines.len());
        let Some(to) = to else {
            return self.shared.rare_in(at + DIAL_TIMEOUT, node, life, Rare::DialFailed { id });
        };
        // One that was taken up late, because the process stood still, has failed by then.
        let fails = (since + DIAL_TIMEOUT).max(at);
        if self.faults.is_cut(node, to) {
            let again = DIALS_AGAIN.into_iter().map(|after| since + after).find(|again| *again > at);
            return match again {
                Some(again) => self.shared.rare_in(again, node, life, Rare::Dial { id, purpose, since }),
                None => self.shared.rare_in(fails, node, life, Rare::DialFailed { id }),
            };
        }
        let there = at + self.faults.latency(&self.shared.network, node, to) * 2;
        match self.machines[to as usize].phase {
            Phase::Up | Phase::Down if there > fails => self.shared.rare_in(fails, node, life, Rare::DialFailed { id }),
            Phase::Up => self.shared.rare_in(there, node, life, Rare::Reached { to, purpose }),
            Phase::Down => self.shared.rare_in(there, node, life, Rare::DialFailed { id }),
            Phase::Paused => self.shared.rare_in(fails, node, life, Rare::DialFailed { id }),
        }
    }

    /// The handshake of a dial is done, if there still is somebody.
    pub(super) fn reached(&mut self, at: Time, node: u32, to: u32, purpose: DialPurpose) {
        let id = peer_id(to);
        let connected = self.machines[node as usize].handle_of(to).is_some();
        let far = &self.machines[to as usize];
        let there = far.phase == Phase::Up && far.actor.is_there() && !self.faults.is_cut(node, to);
        if !there || !connected && !self.has_room(node, to) && !self.make_room(at, node, to) {
            return self.input(at, node, Input::DialFailed { id });
        }
        let address = multiaddr(self.addresses[to as usize]);
        self.input(at, node, Input::Reached { id, address });
        if purpose == DialPurpose::Connect && !connected {
            self.connect(at, node, to);
        }
    }

    /// Whether both ends have room for one more connection, which the first one dialled.
    fn has_room(&self, from: u32, to: u32) -> bool {
        self.has_room_without(from, to, None)
    }

    /// The same if this peer of the second one were gone.
    fn has_room_without(&self, from: u32, to: u32, gone: Option<PeerHandle>) -> bool {
        let ConnectionLimits { connections_max, inbound_max, per_ip_max, per_subnet_max } = self.shared.scenario.limits;
        let fits = |node: u32, far: u32, inbound: bool| {
            let gone = gone.filter(|_| node == to).map(PeerHandle::index);
            let lines = self.machines[node as usize].lines.iter().enumerate();
            let lines = lines.filter(|(place, line)| !line.is_free() && Some(*place) != gone).map(|(_, line)| line);
            let of_others = || lines.clone().filter(|line| line.direction == Direction::Inbound).count();
            // What most dials of attackers fail for is looked at first: it takes no addresses.
            if lines.clone().count() >= connections_max || inbound && of_others() >= inbound_max {
                return false;
            }
            let ip = self.addresses[far as usize];
            let (host, subnet) = (Group::host(ip), Group::subnet(ip));
            let (mut of_host, mut of_subnet) = (0, 0);
            for line in lines {
                let other = self.addresses[line.far as usize];
                of_host += usize::from(Group::host(other) == host);
                of_subnet += usize::from(Group::subnet(other) == subnet);
            }
            of_host < per_ip_max && of_subnet < per_subnet_max
        };
        fits(from, to, false) && fits(to, from, true)
    }

    /// Has somebody make room at the second one, which the first one dialled, if that is what is lacking; false if there is no room.
    fn make_room(&mut self, at: Time, from: u32, to: u32) -> bool {
        let machine = &mut self.machines[to as usize];
        let Some(node) = machine.actor.node_mut() else { return false };
        let newcomer = node.newcomer(&peer_id(from));
        let evicts_at = &mut machine.evicts_at[usize::from(newcomer == Newcomer::Acquaintance)];
        if *evicts_at > at {
            return false;
        }
        let Some(peer) = node.evictable(at, newcomer) else { return false };
        *evicts_at = at + EVICTION_INTERVAL;
        // What else is lacking is not to cost anybody its place.
        let fits = self.has_room_without(from, to, Some(peer));
        if fits {
            self.hang_up(at, to, peer);
        }
        fits
    }

    fn connect(&mut self, at: Time, from: u32, to: u32) {
        let nodes = self.shared.honest;
        self.attackers_connected += u64::from((from < nodes) != (to < nodes));
        // Whoever dials again has ended what the other end may not have heard of yet.
        if let Some(former) = self.machines[to as usize].handle_of(from) {
            self.closed(at, to, former);
        }
        let (near, far) = (self.machines[from as usize].next_handle(), self.machines[to as usize].next_handle());
        let latency = self.faults.latency(&self.shared.network, from, to);
        let loss_ppm = self.faults.loss_ppm(self.shared.scenario.loss_ppm, from, to);
        for (node, peer, other, other_handle, direction) in
            [(from, near, to, far, Direction::Outbound), (to, far, from, near, Direction::Inbound)]
        {
            let line = Line {
                far: other,
                far_handle: other_handle,
                latency_us: u32::try_from(latency.as_micros()).unwrap_or(u32::MAX),
                loss_ppm,
                direction,
                ..Line::free(peer.generation)
            };
            self.machines[node as usize].connect(line);
            let (id, ip) = (peer_id(other), self.addresses[other as usize]);
            self.input(at, node, Input::Connected { peer, id, ip, direction, version: Version::V1_2 });
            self.shared.rare(at + latency * 2, node, Rare::Identified { peer });
        }
    }

    /// The first round trip on a connection is over.
    pub(super) fn identified(&mut self, at: Time, node: u32, peer: PeerHandle) {
        let Some(line) = self.machines[node as usize].line(peer) else { return };
        let (far, rtt) = (line.far, Duration::from_micros(u64::from(line.latency_us) * 2));
        self.input(at, node, Input::Rtt { peer, rtt });
        if self.has_directory() {
            let (id, addresses) = (peer_id(far), [multiaddr(self.addresses[far as usize])]);
            let (standing, source) = (Standing::Heard, Source::Peer(id));
            self.input(at, node, Input::Discovered { id, addresses: &addresses, standing, source });
        }
    }

    /// A machine asks who else there is. Those that it is connected with have to be asked, so alone it learns nothing.
    pub(super) fn discover(&mut self, at: Time, node: u32) {
        let alone = self.machines[node as usize].handles().is_empty();
        if alone || !self.has_directory() {
            return;
        }
        let up = |place: &u32| *place != node && self.machines[*place as usize].phase == Phase::Up;
        let places = self.machines.len() as u64;
        let draws = (0..LOOKUP_PEERS).filter_map(|_| u32::try_from(self.found.below(places)).ok());
        let mut peers: Vec<u32> = draws.filter(up).collect();
        peers.sort_unstable();
        peers.dedup();
        let life = self.machines[node as usize].life;
        self.shared.rare_in(at + LOOKUP, node, life, Rare::Found { peers });
    }

    pub(super) fn found(&mut self, at: Time, node: u32, peers: &[u32]) {
        for peer in peers {
            let (id, addresses) = (peer_id(*peer), [multiaddr(self.addresses[*peer as usize])]);
            let (standing, source) = (Standing::Heard, Source::Lookup);
            self.input(at, node, Input::Discovered { id, addresses: &addresses, standing, source });
        }
    }

    fn has_directory(&self) -> bool {
        matches!(self.shared.scenario.wiring, Wiring::Discovered { .. })
    }

    /// A machine ends a connection.
    pub(super) fn hang_up(&mut self, at: Time, node: u32, peer: PeerHandle) {
        if self.abandon(at, node, peer) {
            self.parted(at, node, peer);
        }
    }

    /// Ends a connection on one side and lets the other one know; false if there was none.
    pub(super) fn abandon(&mut self, at: Time, node: u32, peer: PeerHandle) -> bool {
        let Some(line) = self.machines[node as usize].disconnect(peer) else { return false };
        if !line.cut {
            let heard_us = (at.as_micros() + u64::from(line.latency_us)).max(line.arrival_us);
            self.shared.rare(Time::from_micros(heard_us), line.far, Rare::Ended { peer: line.far_handle });
        }
        true
    }

    /// The other end has ended a connection.
    pub(super) fn closed(&mut self, at: Time, node: u32, peer: PeerHandle) {
        if self.machines[node as usize].disconnect(peer).is_some() {
            self.parted(at, node, peer);
        }
    }

    /// A connection counts as broken if it still is cut as it was.
    pub(super) fn given_up(&mut self, at: Time, node: u32, peer: PeerHandle, cut: u32) {
        if cut == self.faults.cut && self.machines[node as usize].line(peer).is_some_and(|line| line.cut) {
            self.closed(at, node, peer);
        }
    }

    /// Tells a machine that a connection is over, and that what it asked there will not be answered.
    fn parted(&mut self, at: Time, node: u32, peer: PeerHandle) {
        self.input(at, node, Input::Disconnected { peer });
        for asker in self.shared.askers.take_of(node, peer) {
            self.input(at, node, Input::Response { ticket: asker.ticket, body: None });
        }
    }
}
