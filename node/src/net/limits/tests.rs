//! The limits, driven as a swarm would.

use libp2p::core::ConnectedPoint;
use libp2p::swarm::behaviour::ListenFailure;
use libp2p::swarm::{DialError, ListenError};

use super::*;

/// Drives the behaviour as a swarm would for inbound connections.
struct Inbound {
    behaviour: Behaviour,
    next: usize,
}

impl Inbound {
    fn new(limits: ConnectionLimits) -> Self {
        Self { behaviour: Behaviour::new(limits), next: 0 }
    }

    fn begin(&mut self, ip: &str) -> Option<ConnectionId> {
        self.next += 1;
        let id = ConnectionId::new_unchecked(self.next);
        let pending = self.behaviour.handle_pending_inbound_connection(id, &address("127.0.0.1"), &address(ip));
        if pending.is_err() {
            self.fail(id, ip);
        }
        pending.ok().map(|()| id)
    }

    fn fail(&mut self, id: ConnectionId, ip: &str) {
        self.behaviour.on_swarm_event(FromSwarm::ListenFailure(ListenFailure {
            local_addr: &address("127.0.0.1"),
            send_back_addr: &address(ip),
            error: &ListenError::Aborted,
            connection_id: id,
            peer_id: None,
        }));
    }

    fn establish(&mut self, ip: &str, peer: PeerId) -> Option<ConnectionId> {
        let id = self.begin(ip)?;
        let (local, remote) = (address("127.0.0.1"), address(ip));
        self.behaviour.handle_established_inbound_connection(id, peer, &local, &remote).ok()?;
        self.behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: id,
            endpoint: &ConnectedPoint::Listener { local_addr: local, send_back_addr: remote },
            failed_addresses: &[],
            other_established: 0,
        }));
        Some(id)
    }
}

fn address(ip: &str) -> Multiaddr {
    Multiaddr::from(ip.parse::<IpAddr>().unwrap()).with(Protocol::Tcp(1))
}

#[test]
fn whoever_was_named_makes_room_for_one_newcomer() {
    let limits =
        ConnectionLimits { established_max: 3, established_inbound_max: 2, visitors_max: 0, ..Default::default() };
    let mut inbound = Inbound::new(limits);
    let peers: Vec<PeerId> = (0..6).map(|_| PeerId::random()).collect();
    let first = inbound.establish("1.0.0.1", peers[0]).expect("there is room");
    assert!(!inbound.behaviour.is_full(Newcomer::Stranger));
    inbound.establish("2.0.0.1", peers[1]).expect("there is room");
    assert!(inbound.behaviour.is_full(Newcomer::Stranger));
    assert!(inbound.establish("3.0.0.1", peers[2]).is_none(), "nobody was named");
    inbound.behaviour.set_evictable(Newcomer::Stranger, peers[0]);
    assert!(!inbound.behaviour.is_full(Newcomer::Stranger), "somebody makes room");
    inbound.establish("3.0.0.1", peers[2]).expect("the first one goes");
    let mut context = Context::from_waker(std::task::Waker::noop());
    let closed = inbound.behaviour.poll(&mut context);
    let Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) }) = closed else {
        panic!("the place is not given up")
    };
    assert_eq!((peer_id, connection), (peers[0], first));
    assert!(inbound.establish("4.0.0.1", peers[3]).is_none(), "one newcomer for one who goes");
    inbound.behaviour.set_evictable(Newcomer::Stranger, peers[5]);
    assert!(inbound.establish("5.0.0.1", peers[4]).is_none(), "who is not there cannot make room");
}

#[test]
fn a_crowd_of_strangers_does_not_take_the_place_that_is_kept_for_an_acquaintance() {
    let limits = ConnectionLimits { established_inbound_max: 2, visitors_max: 0, ..ConnectionLimits::default() };
    let mut inbound = Inbound::new(limits);
    let [first, second, friend, stranger] = [0; 4].map(|_| PeerId::random());
    inbound.establish("1.0.0.1", first).expect("room");
    inbound.establish("2.0.0.1", second).expect("room");
    inbound.behaviour.set_acquaintances([friend].into());
    inbound.behaviour.set_evictable(Newcomer::Acquaintance, second);
    assert!(inbound.behaviour.is_full(Newcomer::Stranger) && !inbound.behaviour.is_full(Newcomer::Acquaintance));
    assert!(inbound.establish("3.0.0.1", stranger).is_none(), "it is not for strangers");
    inbound.establish("4.0.0.1", friend).expect("it is for who is known");
    assert!(inbound.behaviour.is_full(Newcomer::Acquaintance), "once");
    let closed = inbound.behaviour.poll(&mut Context::from_waker(std::task::Waker::noop()));
    let Poll::Ready(ToSwarm::CloseConnection { peer_id, .. }) = closed else { panic!("the place is not given up") };
    assert_eq!(peer_id, second);
}

#[test]
fn one_address_and_one_subnet_get_their_share_and_no_more() {
    let limits = ConnectionLimits { per_ip_max: 2, per_subnet_max: 3, ..ConnectionLimits::default() };
    let mut swarm = Inbound::new(limits);
    assert!(swarm.establish("192.0.2.1", PeerId::random()).is_some());
    let pending = swarm.begin("192.0.2.1").expect("the second of two");
    assert!(swarm.begin("192.0.2.1").is_none(), "a handshake counts against its address");
    swarm.fail(pending, "192.0.2.1");
    assert!(swarm.establish("192.0.2.1", PeerId::random()).is_some());
    assert!(swarm.establish("192.0.2.2", PeerId::random()).is_some());
    assert!(swarm.establish("192.0.2.3", PeerId::random()).is_none(), "the subnet is full");
    assert!(swarm.establish("192.0.3.1", PeerId::random()).is_some());
    assert!(swarm.establish("2001:db8:0:100::1", PeerId::random()).is_some());
    assert!(swarm.establish("2001:db8:0:1ff::2", PeerId::random()).is_some(), "the second of the same /56");
    assert!(swarm.establish("2001:db8:0:133::3", PeerId::random()).is_none());
}

#[test]
fn loopback_is_one_subnet_without_a_limit() {
    let mut swarm = Inbound::new(ConnectionLimits { per_subnet_max: 1, ..ConnectionLimits::default() });
    assert!((1..20).all(|i| swarm.establish(&format!("127.0.0.{i}"), PeerId::random()).is_some()));
}

#[test]
fn a_peer_gets_two_connections_and_a_closed_one_makes_room() {
    let mut swarm = Inbound::new(ConnectionLimits::default());
    let peer = PeerId::random();
    let first = swarm.establish("192.0.2.1", peer).expect("the first");
    assert!(swarm.establish("192.0.2.1", peer).is_some());
    assert!(swarm.establish("192.0.2.1", peer).is_none());
    swarm.behaviour.on_swarm_event(FromSwarm::ConnectionClosed(libp2p::swarm::behaviour::ConnectionClosed {
        peer_id: peer,
        connection_id: first,
        endpoint: &ConnectedPoint::Listener { local_addr: address("::1"), send_back_addr: address("::1") },
        cause: None,
        remaining_established: 1,
    }));
    assert!(swarm.establish("192.0.2.1", peer).is_some());
    assert_eq!(swarm.behaviour.established(), (2, 0));
}

#[test]
fn inbound_connections_leave_room_for_dials() {
    let limits = ConnectionLimits {
        established_inbound_max: 1,
        established_max: 2,
        visitors_max: 0,
        ..ConnectionLimits::default()
    };
    let mut swarm = Inbound::new(limits);
    assert!(swarm.establish("192.0.2.1", PeerId::random()).is_some());
    assert!(swarm.establish("192.0.2.2", PeerId::random()).is_none());
    let dialled = swarm.behaviour.handle_established_outbound_connection(
        ConnectionId::new_unchecked(9),
        PeerId::random(),
        &address("192.0.2.3"),
        Endpoint::Dialer,
        PortUse::New,
    );
    assert!(dialled.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_full_node_has_room_for_visitors_who_are_sent_on_in_time() {
    let limits = ConnectionLimits { established_inbound_max: 1, visitors_max: 2, ..ConnectionLimits::default() };
    let mut swarm = Inbound::new(limits);
    let [staying, visiting] = [PeerId::random(), PeerId::random()];
    assert!(swarm.establish("192.0.2.1", staying).is_some());
    let visit = swarm.establish("192.0.2.2", visiting).expect("a visitor");
    assert!(swarm.establish("192.0.2.3", PeerId::random()).is_some());
    assert!(swarm.establish("192.0.2.4", PeerId::random()).is_none(), "two visit already");
    assert!(swarm.behaviour.is_visitor(visiting) && !swarm.behaviour.is_visitor(staying));

    let begun = Instant::now();
    let mut sent_on = Vec::new();
    for _ in 0..2 {
        let next = std::future::poll_fn(|context| swarm.behaviour.poll(context)).await;
        let ToSwarm::CloseConnection { connection: CloseConnection::One(id), .. } = next else { panic!("{next:?}") };
        sent_on.push(id);
    }
    assert!(begun.elapsed() >= VISIT_MAX && begun.elapsed() < VISIT_MAX * 2 && sent_on.contains(&visit));
}

#[test]
fn dials_in_progress_are_bounded_and_forgotten_when_they_fail() {
    let mut behaviour = Behaviour::new(ConnectionLimits { pending_outbound_max: 1, ..ConnectionLimits::default() });
    let dial = |id, behaviour: &mut Behaviour| {
        let id = ConnectionId::new_unchecked(id);
        behaviour.handle_pending_outbound_connection(id, None, &[], Endpoint::Dialer).is_ok()
    };
    assert!(dial(1, &mut behaviour));
    assert!(!dial(2, &mut behaviour));
    behaviour.on_swarm_event(FromSwarm::DialFailure(libp2p::swarm::DialFailure {
        peer_id: None,
        error: &DialError::Aborted,
        connection_id: ConnectionId::new_unchecked(1),
    }));
    assert!(dial(3, &mut behaviour));
}

#[test]
fn three_in_ten_places_are_kept_for_dials_whatever_the_limit() {
    for max in 1..=1_000 {
        let limits = ConnectionLimits::for_peers(max);
        assert!((max - limits.established_inbound_max) * 10 >= max * 3, "{max}");
    }
}

#[test]
fn half_open_handshakes_from_many_addresses_leave_room_for_newcomers() {
    let mut swarm = Inbound::new(ConnectionLimits::default());
    // Eight from each of 32 addresses in 32 networks filled all places once.
    let of_attackers = (0..32 * 8).filter(|n| swarm.begin(&format!("20.{}.1.1", n % 32)).is_some()).count();
    assert!((200..=232).contains(&of_attackers), "{of_attackers}");
    assert!((0..4).all(|host| swarm.begin(&format!("21.{host}.1.1")).is_some()), "newcomers");

    let mut swarm = Inbound::new(ConnectionLimits::default());
    let of_one_network = (0..256).filter(|n| swarm.begin(&format!("20.20.{}.1", n % 32)).is_some()).count();
    assert_eq!(of_one_network, 51, "as many as leave four times as many free");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_connects_too_fast_has_to_wait() {
    let limits = ConnectionLimits::default();
    let mut swarm = Inbound::new(limits.clone());
    let knock = |swarm: &mut Inbound, ip: &str| {
        let begun = swarm.begin(ip);
        begun.inspect(|id| swarm.fail(*id, ip)).is_some()
    };
    let burst = (0..100).filter(|_| knock(&mut swarm, "192.0.2.1")).count();
    assert_eq!(burst, limits.burst_per_ip as usize);
    assert!(knock(&mut swarm, "192.0.2.2"), "others do not wait for it");
    tokio::time::advance(limits.refill_per_ip).await;
    assert_eq!((0..100).filter(|_| knock(&mut swarm, "192.0.2.1")).count(), 1);
    assert!((0..100).all(|_| knock(&mut swarm, "127.0.0.1")), "a laboratory does not wait at all");
    assert!(swarm.behaviour.refused().any(|(reason, count)| reason == "rate" && count > 100));
}

#[tokio::test]
async fn whoever_is_banned_is_refused_as_early_as_can_be_and_disconnected() {
    use starling_protocol::peers::bans::{Ban, BanTarget};
    let mut swarm = Inbound::new(ConnectionLimits::default());
    let [peer, other] = [PeerId::random(), PeerId::random()];
    let first = swarm.establish("192.0.2.1", peer).expect("let in");
    let second = swarm.establish("198.51.100.1", other).expect("let in");
    let mut bans = BanList::default();
    let id = crate::net::network::to_protocol_id(&peer).expect("short enough");
    let targets = [BanTarget::Peer(id), BanTarget::Addresses("198.51.100.0/24".parse().unwrap())];
    for target in targets {
        let ban = Ban { target, until_unix_s: clock::unix_s() + 100, reason: String::new() };
        bans.ban(ban, None).expect("room");
    }
    swarm.behaviour.set_bans(bans.clone());
    let mut closed = Vec::new();
    for _ in 0..2 {
        let next = std::future::poll_fn(|context| swarm.behaviour.poll(context)).await;
        let ToSwarm::CloseConnection { connection: CloseConnection::One(id), .. } = next else { panic!("{next:?}") };
        closed.push(id);
    }
    assert_eq!(closed, [first, second]);

    assert!(swarm.begin("198.51.100.7").is_none(), "by address, before the handshake");
    assert!(swarm.begin("192.0.2.1").is_some() && swarm.establish("192.0.2.1", peer).is_none(), "by peer, after it");
    let dial = ConnectionId::new_unchecked(99);
    assert!(swarm.behaviour.handle_pending_outbound_connection(dial, Some(peer), &[], Endpoint::Dialer).is_err());
    let expired = BanList::default();
    swarm.behaviour.set_bans(expired);
    assert!(swarm.begin("198.51.100.7").is_some());
}

fn closed(behaviour: &mut Behaviour) -> Option<PeerId> {
    match behaviour.poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(ToSwarm::CloseConnection { peer_id, .. }) => Some(peer_id),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_become_a_peer_of_the_mesh_goes() {
    let mut inbound = Inbound::new(ConnectionLimits::default());
    let [peer, stranger] = [0; 2].map(|_| PeerId::random());
    inbound.establish("1.0.0.1", peer).expect("room");
    inbound.establish("2.0.0.1", stranger).expect("room");
    inbound.behaviour.introduced(peer);
    inbound.establish("1.0.0.1", peer).expect("a second connection of a peer");
    tokio::time::advance(INTRODUCTION_MAX - Duration::from_millis(1)).await;
    assert_eq!(closed(&mut inbound.behaviour), None);
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(closed(&mut inbound.behaviour), Some(stranger));
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(closed(&mut inbound.behaviour), None, "nobody is asked twice at once, and the peer stays");
}

#[tokio::test(start_paused = true)]
async fn who_is_no_peer_of_the_mesh_makes_room_before_whoever_was_named() {
    let limits = ConnectionLimits { established_inbound_max: 3, visitors_max: 0, ..ConnectionLimits::default() };
    let mut inbound = Inbound::new(limits);
    let [peer, first, second] = [0; 3].map(|_| PeerId::random());
    inbound.establish("1.0.0.1", peer).expect("room");
    inbound.behaviour.introduced(peer);
    inbound.establish("2.0.0.1", first).expect("room");
    tokio::time::advance(Duration::from_secs(1)).await;
    inbound.establish("3.0.0.1", second).expect("room");
    assert!(inbound.behaviour.is_full(Newcomer::Stranger), "they may be about to become peers");
    assert!(inbound.establish("4.0.0.1", PeerId::random()).is_none());
    tokio::time::advance(VISIT_MAX).await;
    inbound.behaviour.set_evictable(Newcomer::Stranger, peer);
    assert!(!inbound.behaviour.is_full(Newcomer::Acquaintance));
    for (ip, gone) in [("5.0.0.1", first), ("6.0.0.1", second), ("7.0.0.1", peer)] {
        inbound.establish(ip, PeerId::random()).expect("somebody makes room");
        assert_eq!(closed(&mut inbound.behaviour), Some(gone));
    }
    assert!(inbound.establish("8.0.0.1", PeerId::random()).is_none(), "each makes room once");
}
