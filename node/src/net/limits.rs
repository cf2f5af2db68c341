//! How many connections, and whose.
//!
//! # Rules
//! 1. At most [`ConnectionLimits::established_max`] connections in all and
//!    [`ConnectionLimits::established_inbound_max`] inbound, so that inbound peers cannot take the places of those we dial:
//!    a third is kept free for these.
//! 2. At most [`ConnectionLimits::per_peer_max`] with one peer. Two, not one: with one, two nodes that dial each other at
//!    the same time each refuse the other's connection and both are left with none.
//! 3. At most [`ConnectionLimits::per_ip_max`] with one host (IPv4 address, IPv6 /56) and [`ConnectionLimits::per_subnet_max`] with one
//!    subnet (IPv4 /24, IPv6 /48), inbound and outbound. Loopback is exempt from the subnet limit: a local network of processes lives in one.
//! 4. At most [`ConnectionLimits::pending_inbound_max`] inbound handshakes and
//!    [`ConnectionLimits::pending_outbound_max`] dials at once. Handshakes are counted against the address too. Of the places for
//!    handshakes **a group of addresses may hold a quarter of those that are still free** (dynamic thresholds: Choudhury and Hahne, 1998):
//!    51 of 256 if it is alone, seven each if there are 32 groups, which together leave more than twenty free.
//!    *Rationale:* whoever wants to keep newcomers out by handshakes that never go on then needs some 250 groups (IPv4 /16), and not 32
//!    addresses.
//! 5. When rule 1 refuses an inbound peer, it may still be a **visitor** for [`VISIT_MAX`]: long enough to be identified and to ask
//!    Kademlia who else is there, and then its connection is closed. At most [`ConnectionLimits::visitors_max`] visit at once, on top
//!    of rule 1. *Rationale:* otherwise a newcomer whose only bootnode is full never learns of anybody else.
//!    Before that, if the machine has named somebody who is worth less than a newcomer ([`Behaviour::set_evictable`]), that one's connection
//!    is closed and the newcomer stays. *Rationale:* otherwise whoever comes first keeps all places for ever. One is named for strangers and one
//!    for those that the machine knows ([`Behaviour::set_acquaintances`]). *Rationale:* otherwise a crowd of strangers takes every place that is
//!    given up before somebody who has proven useful does.
//! 6. A host may begin [`ConnectionLimits::burst_per_ip`] inbound connections at once, and one more every
//!    [`ConnectionLimits::refill_per_ip`] from then on. Loopback is exempt.
//! 7. Whom the operator banned is refused: by address before the handshake, by peer id after it; and disconnected when the ban comes.
//! 8. A connection whose peer has not become a peer of the mesh ([`Behaviour::introduced`]) is closed after [`INTRODUCTION_MAX`]; if it is
//!    inbound and there is no room, after [`VISIT_MAX`], the one that has been there longest first, and before anybody else makes room.
//!    *Rationale:* the machine, which says who makes room, does not know of such a connection, and one stream that is open and says nothing
//!    keeps it from being idle. Otherwise whoever never speaks gossipsub keeps a place for ever.
//!
//! An inbound connection is checked before its handshake, by address, and after it, by peer; a dial is checked when its
//! address is known, at the end. Every map holds live connections only, so rules 1, 4 and 5
//! bound all of them; of rule 6 at most [`RATES_MAX`] hosts are remembered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use starling_protocol::peers::address::Group;
use starling_protocol::peers::bans::BanList;
use starling_protocol::peers::eviction::Newcomer;
use tokio::time::{Instant, Sleep};

use crate::clock;

#[cfg(test)]
mod tests;

/// How long a visitor may stay. A guess: a lookup takes a few round trips, and `libp2p-kad` begins one within half a second.
pub const VISIT_MAX: Duration = Duration::from_secs(5);

/// How long a connected peer may take to become a peer of the mesh. A guess: a few round trips do, and negotiating a stream may take 10 s.
pub const INTRODUCTION_MAX: Duration = Duration::from_secs(15);

/// Limits on connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Established connections in all.
    pub established_max: usize,
    /// Established connections that were dialled by the remote.
    pub established_inbound_max: usize,
    /// Established connections with one peer.
    pub per_peer_max: usize,
    /// Connections with one IP address, inbound handshakes included.
    pub per_ip_max: usize,
    /// Connections with one subnet, inbound handshakes included; loopback is exempt.
    pub per_subnet_max: usize,
    /// Inbound handshakes in progress.
    pub pending_inbound_max: usize,
    /// Dials in progress.
    pub pending_outbound_max: usize,
    /// Inbound connections of visitors, on top of `established_max`.
    pub visitors_max: usize,
    /// Inbound connections that one host may begin at once.
    pub burst_per_ip: u32,
    /// After that, how long until it may begin one more.
    pub refill_per_ip: Duration,
}

impl Default for ConnectionLimits {
    /// Guesses, for a node whose target is a few dozen peers; the yardstick is go-libp2p's resource manager, which admits
    /// 8 connections from one IPv4 address by default.
    fn default() -> Self {
        Self {
            established_max: 192,
            established_inbound_max: 128,
            per_peer_max: 2,
            per_ip_max: 8,
            per_subnet_max: 32,
            pending_inbound_max: 256,
            pending_outbound_max: 32,
            visitors_max: 8,
            // A peer that reconnects, feelers and dial-backs together stay far below.
            burst_per_ip: 16,
            refill_per_ip: Duration::from_secs(2),
        }
    }
}

impl ConnectionLimits {
    /// The defaults with this many established connections in all, a third of which only we can fill by dialling.
    #[must_use]
    pub fn for_peers(established_max: usize) -> Self {
        Self { established_max, established_inbound_max: established_max * 2 / 3, ..Self::default() }
    }
}

/// Hosts whose rate of connections is remembered.
pub const RATES_MAX: usize = 4_096;

/// Why connections are refused, as the metrics call it.
pub const REASONS: [&str; 5] = ["banned", "handshakes", "address", "rate", "room"];

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A limit is reached.
    #[error("the limit of {max} {what} is reached; close one of them or raise the limit")]
    Limit {
        /// One of [`REASONS`].
        reason: &'static str,
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The host begins connections too fast.
    #[error("this address begins connections too fast; wait a moment")]
    Rate,
    /// The operator banned the peer or its address.
    #[error("the peer or its address is banned; `starling peers unban` ends that")]
    Banned,
}

impl Refused {
    /// One of [`REASONS`].
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Limit { reason, .. } => reason,
            Self::Rate => "rate",
            Self::Banned => "banned",
        }
    }
}

/// The behaviour that enforces [`ConnectionLimits`]. It must come first in the combined behaviour, so that no other
/// creates state for a connection that is refused.
#[derive(Debug)]
pub struct Behaviour {
    limits: ConnectionLimits,
    /// Address of every inbound handshake in progress.
    pending_inbound: BTreeMap<ConnectionId, Option<IpAddr>>,
    pending_outbound: BTreeMap<ConnectionId, ()>,
    established: BTreeMap<ConnectionId, Established>,
    /// Connections that were let in as visits and are not in `established` yet.
    arriving: BTreeSet<ConnectionId>,
    /// Connected peers that are peers of the mesh.
    introduced: BTreeSet<PeerId>,
    /// Fires when the first connection that is to end does.
    timer: Option<Pin<Box<Sleep>>>,
    /// How many connections each host has begun of late.
    rates: BTreeMap<Group, Rate>,
    bans: BanList,
    /// Connections to be closed, because their peer is banned now or makes room.
    banned: VecDeque<(PeerId, ConnectionId)>,
    /// Who makes room for the next newcomer: a stranger, or an acquaintance.
    evictable: [Option<PeerId>; 2],
    /// Who has proven useful.
    acquaintances: BTreeSet<PeerId>,
    refused: BTreeMap<&'static str, u64>,
}

/// A bucket of tokens, as the moment at which it would be full.
#[derive(Debug)]
struct Rate {
    full_at: Instant,
}

#[derive(Debug)]
struct Established {
    peer: PeerId,
    ip: Option<IpAddr>,
    address: Multiaddr,
    inbound: bool,
    /// Whether it was let in beyond the bound.
    visitor: bool,
    since: Instant,
    /// When it is to be closed, if that is known.
    until: Option<Instant>,
    /// Whether it is being closed to make room.
    makes_room: bool,
}

impl Established {
    fn leave(&mut self) {
        let visited = Instant::now() + VISIT_MAX;
        self.until = Some(self.until.map_or(visited, |until| until.min(visited)));
    }
}

impl Behaviour {
    /// No connections yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            pending_inbound: BTreeMap::new(),
            pending_outbound: BTreeMap::new(),
            established: BTreeMap::new(),
            arriving: BTreeSet::new(),
            introduced: BTreeSet::new(),
            timer: None,
            rates: BTreeMap::new(),
            bans: BanList::default(),
            banned: VecDeque::new(),
            evictable: [None; 2],
            acquaintances: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Enforces these bans from now on.
    pub fn set_bans(&mut self, bans: BanList) {
        self.bans = bans;
        let connected = self.established.iter();
        let banned = connected.filter(|(_, it)| self.check_bans(Some(it.peer), it.ip).is_err());
        let banned: Vec<_> = banned.map(|(id, it)| (it.peer, *id)).collect();
        self.banned.extend(banned);
    }

    /// Whether such a newcomer would find no room now and nobody who makes room for it.
    #[must_use]
    pub fn is_full(&self, newcomer: Newcomer) -> bool {
        self.evictable[place(newcomer)].is_none() && self.check_room(true).is_err() && self.not_introduced().is_none()
    }

    /// Names who is to make room for the next such newcomer that finds none. One newcomer for each time that this is called.
    pub fn set_evictable(&mut self, newcomer: Newcomer, peer: PeerId) {
        self.evictable[place(newcomer)] = Some(peer);
    }

    /// Says who is an acquaintance.
    pub fn set_acquaintances(&mut self, peers: BTreeSet<PeerId>) {
        self.acquaintances = peers;
    }

    /// Says that this peer is a peer of the mesh: its connections stay.
    pub fn introduced(&mut self, peer: PeerId) {
        for it in self.established.values_mut().filter(|it| it.peer == peer && !it.visitor) {
            it.until = None;
            self.introduced.insert(peer);
        }
    }

    /// The inbound connection that has been there longest of those which have no peer of the mesh after [`VISIT_MAX`].
    fn not_introduced(&self) -> Option<ConnectionId> {
        let staying = self.established.iter().filter(|(_, it)| it.inbound && !it.visitor && !it.makes_room);
        let strange = staying.filter(|(_, it)| !self.introduced.contains(&it.peer) && it.since.elapsed() >= VISIT_MAX);
        strange.min_by_key(|(_, it)| it.since).map(|(id, _)| *id)
    }

    /// Has somebody make room for this peer: whoever has not become a peer of the mesh, or who was named and is still there as an inbound
    /// peer.
    fn make_room(&mut self, peer: PeerId) -> bool {
        let strange = self.not_introduced().and_then(|id| Some((id, self.established.get_mut(&id)?)));
        if let Some((id, it)) = strange {
            it.makes_room = true;
            self.banned.push_back((it.peer, id));
            return true;
        }
        let known = self.acquaintances.contains(&peer);
        let newcomer = if known { Newcomer::Acquaintance } else { Newcomer::Stranger };
        let Some(peer) = self.evictable[place(newcomer)].take() else { return false };
        let of_it = |it: &Established| it.peer == peer && it.inbound && !it.visitor;
        let Some(connection) = self.established.iter().find(|(_, it)| of_it(it)).map(|(id, _)| *id) else {
            return false;
        };
        self.banned.push_back((peer, connection));
        true
    }

    /// Where we dialled this peer, if we did and are connected.
    #[must_use]
    pub fn dialled_address(&self, peer: PeerId) -> Option<&Multiaddr> {
        self.established.values().find(|it| it.peer == peer && !it.inbound).map(|it| &it.address)
    }

    /// How many connections were refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refused.iter().map(|(reason, count)| (*reason, *count))
    }

    /// Counts a refusal and puts it into the form that a swarm takes.
    fn denied(&mut self, refused: Refused) -> ConnectionDenied {
        *self.refused.entry(refused.reason()).or_insert(0) += 1;
        ConnectionDenied::new(refused)
    }

    /// Rule 7.
    fn check_bans(&self, peer: Option<PeerId>, ip: Option<IpAddr>) -> Result<(), Refused> {
        if self.bans.is_empty() {
            return Ok(());
        }
        let id = peer.and_then(|peer| super::network::to_protocol_id(&peer));
        if self.bans.is_banned(id, ip, Some(clock::unix_s())) { Err(Refused::Banned) } else { Ok(()) }
    }

    /// Rule 6; counts the connection if it may begin.
    fn check_rate(&mut self, ip: Option<IpAddr>) -> Result<(), Refused> {
        let Some(ip) = ip.filter(|ip| !ip.is_loopback()) else { return Ok(()) };
        let (now, refill) = (Instant::now(), self.limits.refill_per_ip);
        let host = Group::host(ip);
        if !self.rates.contains_key(&host) && self.rates.len() >= RATES_MAX {
            self.rates.retain(|_, rate| rate.full_at > now);
            if self.rates.len() >= RATES_MAX {
                // So many hosts at once are not stopped by a rate for each; the other rules bound them.
                return Ok(());
            }
        }
        let rate = self.rates.entry(host).or_insert(Rate { full_at: now });
        let full_at = rate.full_at.max(now) + refill;
        if full_at.duration_since(now) > refill * self.limits.burst_per_ip {
            return Err(Refused::Rate);
        }
        rate.full_at = full_at;
        Ok(())
    }

    /// Rule 4.
    fn check_handshakes(&self, ip: Option<IpAddr>) -> Result<(), Refused> {
        let (pending, max) = (self.pending_inbound.len(), self.limits.pending_inbound_max);
        check(pending, max, "handshakes", "inbound handshakes in progress")?;
        let Some(group) = ip.and_then(Group::of) else { return Ok(()) };
        let of_group = self.pending_inbound.values().flatten().filter(|ip| Group::of(**ip) == Some(group)).count();
        let share = ((max - pending) / HANDSHAKES_SHARE).max(1);
        check(of_group, share, "handshakes", "inbound handshakes in progress with one network")
    }

    /// Inbound and outbound established connections.
    #[must_use]
    pub fn established(&self) -> (usize, usize) {
        let inbound = self.established.values().filter(|connection| connection.inbound).count();
        (inbound, self.established.len() - inbound)
    }

    /// Rule 3.
    fn check_address(&self, ip: Option<IpAddr>) -> Result<(), Refused> {
        let Some(ip) = ip else { return Ok(()) };
        let established = self.established.values().filter_map(|connection| connection.ip);
        let known = || established.clone().chain(self.pending_inbound.values().copied().flatten());
        let of_ip = known().filter(|other| Group::host(*other) == Group::host(ip)).count();
        check(of_ip, self.limits.per_ip_max, "address", "connections with one IP address")?;
        if ip.is_loopback() {
            return Ok(());
        }
        let of_subnet = known().filter(|other| Group::subnet(*other) == Group::subnet(ip)).count();
        check(of_subnet, self.limits.per_subnet_max, "address", "connections with one subnet")
    }

    /// Whether the peer is connected as a visitor.
    #[must_use]
    pub fn is_visitor(&self, peer: PeerId) -> bool {
        self.established.values().any(|connection| connection.peer == peer && connection.visitor)
    }

    /// Ends an inbound connection as if it were a visit, after [`VISIT_MAX`]; false for any other.
    pub fn see_off(&mut self, connection: ConnectionId) -> bool {
        let Some(known) = self.established.get_mut(&connection).filter(|known| known.inbound) else { return false };
        known.leave();
        true
    }

    /// Ends all connections with a peer as if they were visits.
    pub fn see_off_peer(&mut self, peer: PeerId) {
        self.established.values_mut().filter(|it| it.peer == peer).for_each(Established::leave);
    }

    fn check_peer(&self, peer: PeerId) -> Result<(), Refused> {
        let of_peer = self.established.values().filter(|connection| connection.peer == peer).count();
        check(of_peer, self.limits.per_peer_max, "room", "connections with one peer")
    }

    /// Rule 1.
    fn check_room(&self, inbound: bool) -> Result<(), Refused> {
        let staying = || self.established.values().filter(|connection| !connection.visitor);
        if inbound {
            let of_others = staying().filter(|connection| connection.inbound).count();
            check(of_others, self.limits.established_inbound_max, "room", "inbound connections")?;
        }
        check(staying().count(), self.limits.established_max, "room", "connections in all")
    }

    /// Rule 5.
    fn check_visitors(&self) -> Result<(), Refused> {
        let visiting = self.established.values().filter(|connection| connection.visitor).count();
        let visiting = visiting + self.arriving.len();
        check(visiting, self.limits.visitors_max, "room", "visitors beyond the limit of connections")
    }

    /// A visit or an introduction whose time is up.
    fn poll_visits(&mut self, context: &mut Context<'_>) -> Poll<(PeerId, ConnectionId)> {
        let visits = self.established.iter_mut().filter_map(|(id, connection)| {
            let until = connection.until.as_mut()?;
            Some((until, connection.peer, *id))
        });
        let Some((until, peer, connection)) = visits.min_by_key(|(until, ..)| **until) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(*until)));
        if timer.deadline() != *until {
            timer.as_mut().reset(*until);
        }
        ready!(timer.as_mut().poll(context));
        // It keeps its place until it has gone, and is not asked again at once.
        *until += VISIT_MAX;
        Poll::Ready((peer, connection))
    }
}

fn place(newcomer: Newcomer) -> usize {
    usize::from(newcomer == Newcomer::Acquaintance)
}

/// The part of the free places for handshakes that one group may hold.
const HANDSHAKES_SHARE: usize = 4;

fn check(present: usize, max: usize, reason: &'static str, what: &'static str) -> Result<(), Refused> {
    if present < max { Ok(()) } else { Err(Refused::Limit { reason, what, max }) }
}

/// The IP address that a multiaddr begins with.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = ip_of(remote);
        self.check_bans(None, ip)
            .and_then(|()| self.check_handshakes(ip))
            .and_then(|()| self.check_address(ip))
            .and_then(|()| self.check_rate(ip))
            .map_err(|refused| self.denied(refused))?;
        self.pending_inbound.insert(connection, ip);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_inbound.remove(&connection);
        self.check_bans(Some(peer), None)
            .and_then(|()| self.check_peer(peer))
            .and_then(|()| self.check_address(ip_of(remote)))
            .map_err(|refused| self.denied(refused))?;
        if let Err(full) = self.check_room(true)
            && !self.make_room(peer)
        {
            // Who is refused hears of the limit that an operator can raise.
            self.check_visitors().map_err(|_too_many| self.denied(full))?;
            self.arriving.insert(connection);
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        check(self.pending_outbound.len(), self.limits.pending_outbound_max, "handshakes", "dials in progress")
            .and_then(|()| self.check_bans(peer, None))
            .map_err(|refused| self.denied(refused))?;
        self.pending_outbound.insert(connection, ());
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_outbound.remove(&connection);
        self.check_bans(Some(peer), ip_of(address))
            .and_then(|()| self.check_peer(peer))
            .and_then(|()| self.check_room(false))
            .and_then(|()| self.check_address(ip_of(address)))
            .map_err(|refused| self.denied(refused))?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                let ip = ip_of(endpoint.get_remote_address());
                let visitor = self.arriving.remove(&connection_id);
                let (since, peer) = (Instant::now(), peer_id);
                let until = match visitor {
                    true => Some(since + VISIT_MAX),
                    false => (!self.introduced.contains(&peer)).then(|| since + INTRODUCTION_MAX),
                };
                let (address, inbound) = (endpoint.get_remote_address().clone(), endpoint.is_listener());
                let makes_room = false;
                let connection = Established { peer, ip, address, inbound, visitor, since, until, makes_room };
                self.established.insert(connection_id, connection);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.established.remove(&closed.connection_id);
                if closed.remaining_established == 0 {
                    self.introduced.remove(&closed.peer_id);
                }
            }
            FromSwarm::DialFailure(failure) => {
                self.pending_outbound.remove(&failure.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.pending_inbound.remove(&failure.connection_id);
                self.arriving.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let banned = self.banned.pop_front().map_or(Poll::Pending, Poll::Ready);
        let next = if banned.is_ready() { banned } else { self.poll_visits(context) };
        next.map(|(peer_id, connection)| ToSwarm::CloseConnection {
            peer_id,
            connection: CloseConnection::One(connection),
        })
    }
}
