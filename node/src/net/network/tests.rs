//! Real swarms on loopback addresses. Every wait is for a condition, with a deadline.

use starling_protocol::id::{Direction, Topic, Version};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Class, Subscription};

use super::*;
use crate::net::emulation::LinkEmulation;
use crate::net::limits::ConnectionLimits;

mod raw;
mod reach;

const DEADLINE: Duration = Duration::from_secs(30);

/// Conditions on counters change without an event.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A network and what it reported.
struct Host {
    network: Network,
    events: Vec<NetEvent>,
}

impl Host {
    async fn start(config: NetworkConfig) -> Self {
        Self::start_as(config, &Keypair::generate_ed25519()).await
    }

    async fn start_as(config: NetworkConfig, keypair: &Keypair) -> Self {
        let network = Network::start(&config, keypair, &mut Registry::default()).await.unwrap();
        Self { network, events: Vec::new() }
    }

    fn addresses(&self) -> Vec<Address> {
        self.network.listening().iter().cloned().map(to_address).collect()
    }

    /// The handles of connected peers, in the order in which they connected.
    fn peers(&self) -> Vec<(PeerHandle, PeerId)> {
        let mut peers = Vec::new();
        for event in &self.events {
            match event {
                NetEvent::Connected { peer, id, .. } => peers.push((*peer, *id)),
                NetEvent::Disconnected { peer, .. } => peers.retain(|(other, _)| other != peer),
                _ => {}
            }
        }
        peers
    }

    fn received(&self) -> Vec<&[u8]> {
        let rpcs = self.events.iter().filter_map(|event| match event {
            NetEvent::Rpc { rpc, .. } => Some(rpc),
            _ => None,
        });
        rpcs.flat_map(|rpc| rpc.publish.iter().map(|payload| payload.data())).collect()
    }

    /// Who dialled the last connection that was spoken of.
    fn direction(&self) -> Option<Direction> {
        self.events.iter().rev().find_map(|event| match event {
            NetEvent::Connected { direction, .. } | NetEvent::Turned { direction, .. } => Some(*direction),
            _ => None,
        })
    }

    fn dial_failures(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, NetEvent::DialFailed { .. })).count()
    }
}

fn config(ip: &str) -> NetworkConfig {
    let mut config = NetworkConfig::new("0123abcd");
    config.listen = vec![format!("/ip4/{ip}/tcp/0").parse().unwrap()];
    config.mesh.settle_after = Duration::from_millis(200);
    config.mesh.close_after = Duration::from_millis(200);
    config
}

/// Runs all hosts until the condition holds, which is looked at after every event and now and then.
async fn run(hosts: &mut [&mut Host], mut done: impl FnMut(&mut [&mut Host]) -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !done(hosts) {
        let now = tokio::time::Instant::now();
        if now > deadline {
            let events: Vec<_> = hosts.iter().map(|host| &host.events).collect();
            panic!("the condition does not hold after {DEADLINE:?}; events: {events:#?}");
        }
        let next = {
            let waiting = hosts.iter_mut().map(|host| Box::pin(host.network.next_event()));
            let next = tokio::time::timeout_at(now + LOOK_AGAIN, futures::future::select_all(waiting)).await;
            next.map(|(event, index, _)| (event, index))
        };
        if let Ok((event, index)) = next {
            hosts[index].events.push(event);
        }
    }
}

fn dial(from: &mut Host, to: &Host) {
    from.network.dial(to.network.own_id(), &to.addresses());
}

fn message(data: &[u8]) -> Frame {
    Frame::Publish { payload: Payload::new(&Topic::new("t"), data), class: Class::Forward }
}

async fn exchange(mut config_a: NetworkConfig, mut config_b: NetworkConfig) {
    config_a.mesh.send_queue.bytes_max = 8 << 20;
    config_b.mesh.send_queue.bytes_max = 8 << 20;
    let (mut a, mut b) = (Host::start(config_a).await, Host::start(config_b).await);
    dial(&mut a, &b);
    run(&mut [&mut a, &mut b], |hosts| hosts.iter().all(|host| host.peers().len() == 1)).await;
    let (to_b, _) = a.peers()[0];
    let (to_a, id_of_a) = b.peers()[0];
    assert_eq!(id_of_a, a.network.own_id());

    let large = vec![7; 1_500_000];
    a.network.send(to_b, Frame::Subscription(Subscription { subscribe: true, topic: Topic::new("t") }));
    a.network.send(to_b, message(&large));
    a.network.send(to_b, message(b"small"));
    b.network.send(to_a, message(b"back"));
    run(&mut [&mut a, &mut b], |hosts| hosts[0].received().len() == 1 && hosts[1].received().len() == 2).await;
    assert_eq!(a.received(), [b"back"]);
    assert!(b.received().contains(&&large[..]) && b.received().contains(&&b"small"[..]));
    let subscriptions = b.events.iter().filter_map(|event| match event {
        NetEvent::Rpc { rpc, .. } => Some(rpc.subscriptions.len()),
        _ => None,
    });
    assert_eq!(subscriptions.sum::<usize>(), 1);
    assert!(a.network.mesh_counters().written_bytes() > 1_500_000);
    assert!(b.network.mesh_counters().read_bytes() > 1_500_000);

    a.network.disconnect(to_b);
    run(&mut [&mut a, &mut b], |hosts| hosts.iter().all(|host| host.peers().is_empty())).await;
    a.network.send(to_b, message(b"to nobody"));
    assert_eq!(a.network.queue_stats(to_b), None);
}

#[tokio::test]
async fn two_nodes_exchange_rpcs_over_tcp() {
    exchange(config("127.0.0.3"), config("127.0.0.4")).await;
}

#[tokio::test]
async fn two_nodes_exchange_rpcs_over_quic() {
    let quic = |ip: &str| {
        let mut config = config(ip);
        config.listen = vec![format!("/ip4/{ip}/udp/0/quic-v1").parse().unwrap()];
        config
    };
    exchange(quic("127.0.0.3"), quic("127.0.0.4")).await;
}

#[tokio::test]
async fn two_nodes_exchange_rpcs_over_an_emulated_link() {
    let emulated = |ip: &str| {
        let mut config = config(ip);
        config.link_emulation = Some(LinkEmulation {
            seed: 1,
            uplink_bits_per_s: 50_000_000,
            default_delay_us: 10_000,
            jitter_us_max: 1_000,
            ..LinkEmulation::default()
        });
        config
    };
    exchange(emulated("127.0.0.3"), emulated("127.0.0.4")).await;
}

#[tokio::test]
async fn older_peers_get_the_highest_common_version() {
    let mut old = config("127.0.0.3");
    old.mesh.highest_version = Version::V1_0;
    let (mut a, mut b) = (Host::start(old).await, Host::start(config("127.0.0.4")).await);
    dial(&mut b, &a);
    run(&mut [&mut a, &mut b], |hosts| hosts.iter().all(|host| host.peers().len() == 1)).await;
    for host in [&a, &b] {
        assert!(host.events.iter().any(|event| matches!(event, NetEvent::Connected { version: Version::V1_0, .. })));
    }
}

#[tokio::test]
async fn three_nodes_find_each_other_through_kademlia() {
    let mut bootnode = Host::start(config("127.0.0.3")).await;
    let mut b = Host::start(config("127.0.0.4")).await;
    let mut c = Host::start(config("127.0.0.5")).await;
    dial(&mut b, &bootnode);
    dial(&mut c, &bootnode);
    // The bootnode proves by dial-back where b and c listen; only then can it tell others.
    run(&mut [&mut bootnode, &mut b, &mut c], |hosts| hosts[0].network.table_size() == 2).await;
    let id_of_b = b.network.own_id();
    let address_of_b = b.addresses();
    let found = |host: &Host| {
        host.events.iter().find_map(|event| match event {
            NetEvent::Discovered { id, addresses, proven: false } if *id == id_of_b => Some(addresses.clone()),
            _ => None,
        })
    };
    run(&mut [&mut bootnode, &mut b, &mut c], |hosts| {
        hosts[2].network.discover();
        found(hosts[2]).is_some()
    })
    .await;
    let addresses = found(&c).unwrap();
    assert_eq!(addresses, address_of_b);
    c.network.dial(id_of_b, &addresses);
    run(&mut [&mut bootnode, &mut b, &mut c], |hosts| hosts[1].peers().len() == 2 && hosts[2].peers().len() == 2).await;
    // The dial-backs were short: every pair has one connection, and nobody was ever disconnected.
    run(&mut [&mut bootnode, &mut b, &mut c], |hosts| {
        hosts.iter().all(|host| host.network.connections().0 + host.network.connections().1 == 2)
    })
    .await;
    for host in [&bootnode, &b, &c] {
        assert!(!host.events.iter().any(|event| matches!(event, NetEvent::Disconnected { .. })));
        assert!(
            host.events.iter().any(|event| { matches!(event, NetEvent::Identified { signed_record: Some(_), .. }) })
        );
    }
}

#[tokio::test]
async fn simultaneous_dials_leave_one_working_connection() {
    for _ in 0..3 {
        let (mut a, mut b) = (Host::start(config("127.0.0.3")).await, Host::start(config("127.0.0.4")).await);
        dial(&mut a, &b);
        dial(&mut b, &a);
        run(&mut [&mut a, &mut b], |hosts| hosts.iter().all(|host| host.peers().len() == 1)).await;
        let (to_b, to_a) = (a.peers()[0].0, b.peers()[0].0);
        let mut sent = [0u32; 2];
        // Messages flow in both directions while the mesh moves to the connection that stays. They are large enough that the
        // stream is nearly always in the middle of one, and few enough that the queue drops none.
        run(&mut [&mut a, &mut b], |hosts| {
            for (host, (peer, sent)) in hosts.iter_mut().zip([to_b, to_a].into_iter().zip(&mut sent)) {
                if host.network.queue_stats(peer).is_some_and(|(waiting_bytes, _)| waiting_bytes < 100_000) {
                    *sent += 1;
                    let payload = Payload::new(&Topic::new("t"), &sent.to_le_bytes().repeat(16 * 1_024));
                    host.network.send(peer, Frame::Publish { payload, class: Class::Priority });
                }
            }
            hosts.iter().all(|host| host.network.connections().0 + host.network.connections().1 == 1)
        })
        .await;
        let all = sent.map(|sent| sent as usize);
        run(&mut [&mut a, &mut b], |hosts| hosts[0].received().len() >= all[1] && hosts[1].received().len() >= all[0])
            .await;
        assert_eq!(a.peers().len() + b.peers().len(), 2, "neither saw the other go");
        let expected = if a.network.own_id() < b.network.own_id() {
            [Direction::Outbound, Direction::Inbound]
        } else {
            [Direction::Inbound, Direction::Outbound]
        };
        assert_eq!([a.direction(), b.direction()], expected.map(Some), "both know who dialled the one that stays");
        let dialled_by_smaller = if a.network.own_id() < b.network.own_id() { &a } else { &b };
        assert!(
            a.dial_failures() + b.dial_failures() == 0,
            "both dials are answered by the connection, whoever made it"
        );
        assert_eq!(dialled_by_smaller.network.connections().1 + dialled_by_smaller.network.connections().0, 1);
    }
}

#[tokio::test]
async fn dials_that_lead_nowhere_are_reported_once() {
    let mut a = Host::start(config("127.0.0.3")).await;
    let gone = Host::start(config("127.0.0.4")).await;
    let (id, addresses) = (gone.network.own_id(), gone.addresses());
    drop(gone);
    a.network.dial(id, &addresses);
    a.network.dial(PeerId::from_number(7), &addresses);
    a.network.dial(id, &[Bytes::from_static(b"no multiaddr")]);
    run(&mut [&mut a], |hosts| hosts[0].dial_failures() >= 2).await;
    let other = Host::start(config("127.0.0.4")).await;
    // The peer at the address is not the one that was dialled.
    a.network.dial(id, &other.addresses());
    let before = a.dial_failures();
    let mut other = other;
    run(&mut [&mut a, &mut other], |hosts| hosts[0].dial_failures() > before).await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_remedy() {
    let taken = Host::start(config("127.0.0.3")).await;
    let mut same = config("127.0.0.3");
    same.listen = taken.network.listening().to_vec();
    let refused = Network::start(&same, &Keypair::generate_ed25519(), &mut Registry::default()).await;
    let message = refused.err().unwrap().to_string();
    assert!(message.contains(&same.listen[0].to_string()) && message.contains("free port"), "{message}");
    assert!(message.contains("in use"), "{message}");

    same.listen = vec!["/ip4/127.0.0.3/udp/0/quic-v1".parse().unwrap()];
    same.link_emulation = Some(LinkEmulation::default());
    let refused = Network::start(&same, &Keypair::generate_ed25519(), &mut Registry::default()).await;
    assert!(matches!(refused.err(), Some(NetworkError::EmulatedQuic { .. })));
}

/// Sends to every peer as soon as it is there, as a node does that tells its subscriptions.
fn greet(hosts: &mut [&mut Host]) {
    for host in hosts {
        for (peer, _) in host.peers() {
            host.network.send(peer, Frame::Subscription(Subscription { subscribe: true, topic: Topic::new("secret") }));
            host.network.send(peer, message(b"of one network"));
        }
    }
}

#[tokio::test]
async fn nodes_of_different_networks_part_without_a_frame() {
    for _ in 0..3 {
        let mut other = config("127.0.0.4");
        other.network = "ffffffff".to_owned();
        let (mut a, mut b) = (Host::start(config("127.0.0.3")).await, Host::start(other).await);
        dial(&mut a, &b);
        dial(&mut b, &a);
        run(&mut [&mut a, &mut b], |hosts| {
            greet(hosts);
            hosts.iter().all(|host| host.dial_failures() == 1 && host.network.connections() == (0, 0))
        })
        .await;
        for host in [&mut a, &mut b] {
            assert_eq!(host.network.table_size(), 0);
            let frames = host.network.mesh_counters();
            assert_eq!((frames.written_frames(), frames.read_frames()), (0, 0));
            assert!(!host.events.iter().any(|event| matches!(event, NetEvent::Connected { .. })), "{:?}", host.events);
        }
        // Who is told of a peer of another network by mistake must be able to find out.
        let reasons = [&a, &b].into_iter().flat_map(|host| &host.events).filter_map(|event| match event {
            NetEvent::DialFailed { reason, .. } => Some(reason),
            _ => None,
        });
        assert!(
            reasons.into_iter().any(|reason| reason.contains("another network, \"/starling/")),
            "{:?} {:?}",
            a.events,
            b.events
        );
    }
}

#[tokio::test]
async fn a_full_node_tells_a_newcomer_of_others_and_sends_it_on() {
    let mut full = config("127.0.0.3");
    full.limits = ConnectionLimits { established_inbound_max: 1, visitors_max: 1, ..ConnectionLimits::default() };
    let mut bootnode = Host::start(full).await;
    let mut b = Host::start(config("127.0.0.4")).await;
    let mut newcomer = Host::start(config("127.0.0.5")).await;
    dial(&mut b, &bootnode);
    run(&mut [&mut bootnode, &mut b], |hosts| hosts[0].network.table_size() == 1 && hosts[0].peers().len() == 1).await;

    dial(&mut newcomer, &bootnode);
    let id_of_b = b.network.own_id();
    let heard_of_b = |host: &Host| {
        host.events.iter().any(|event| matches!(event, NetEvent::Discovered { id, .. } if *id == id_of_b))
    };
    run(&mut [&mut bootnode, &mut b, &mut newcomer], |hosts| {
        greet(&mut hosts[2..]);
        heard_of_b(hosts[2])
    })
    .await;
    // While one visits there is no room for another.
    let mut late = Host::start(config("127.0.0.6")).await;
    dial(&mut late, &bootnode);
    run(&mut [&mut bootnode, &mut b, &mut newcomer, &mut late], |hosts| hosts[3].dial_failures() == 1).await;
    // The visit ends, and the bootnode never took the newcomer into its mesh.
    run(&mut [&mut bootnode, &mut b, &mut newcomer], |hosts| {
        hosts[0].network.connections() == (1, 0) && hosts[2].peers().is_empty()
    })
    .await;
    assert_eq!(bootnode.peers().len(), 1);
    assert_eq!(bootnode.network.mesh_counters().read_frames(), 0);
}

#[tokio::test]
async fn requests_are_answered_or_fail_with_a_reason() {
    let mut small = config("127.0.0.3");
    small.response_bytes_max = 1_000;
    let mut generous = config("127.0.0.4");
    generous.response_bytes_max = 5_000;
    let (mut a, mut b) = (Host::start(small).await, Host::start(generous).await);
    dial(&mut a, &b);
    run(&mut [&mut a, &mut b], |hosts| hosts.iter().all(|host| host.peers().len() == 1)).await;
    let to_b = a.peers()[0].0;
    a.network.request(to_b, 1, b"short".to_vec());
    a.network.request(to_b, 2, b"long".to_vec());
    a.network.request(PeerHandle { slot: 9, generation: 9 }, 3, Vec::new());
    let answers = |host: &Host| {
        let all = host.events.iter().filter_map(|event| match event {
            NetEvent::Response { ticket, result, .. } => Some((*ticket, result.clone())),
            _ => None,
        });
        all.collect::<BTreeMap<_, _>>()
    };
    run(&mut [&mut a, &mut b], |hosts| {
        let unanswered = std::mem::take(&mut hosts[1].events);
        for event in unanswered {
            match event {
                NetEvent::Request { request, body, .. } => {
                    let length = if body == b"short" { 1_000 } else { 1_001 };
                    hosts[1].network.respond(request, vec![1; length]);
                }
                other => hosts[1].events.push(other),
            }
        }
        answers(hosts[0]).len() == 3
    })
    .await;
    let answers = answers(&a);
    assert_eq!(answers[&1].as_deref(), Ok(&[1; 1_000][..]));
    assert_eq!(answers[&2], Err(RequestError::Broken));
    assert_eq!(answers[&3], Err(RequestError::Disconnected));
}
