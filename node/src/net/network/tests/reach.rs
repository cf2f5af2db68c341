//! Own addresses: which are found out, tested and told.

use std::io;

use super::*;
use crate::net::swarm::BehaviourEvent;

#[tokio::test]
async fn an_address_that_two_peers_name_is_confirmed_before_it_is_told_to_others() {
    let mut behind = config("0.0.0.0");
    behind.confirm_local = true;
    let mut node = Host::start(behind).await;
    let (mut b, mut c) = (Host::start(config("127.0.9.2")).await, Host::start(config("127.0.9.3")).await);
    // As if every address that it knows itself were one that nobody else can use.
    let own = node.network.listening.clone();
    let port = own[0].iter().nth(1).expect("a port");
    node.network.listening = vec![Multiaddr::from(std::net::Ipv4Addr::new(10, 9, 9, 9)).with(port)];
    dial(&mut node, &b);
    run(&mut [&mut node, &mut b, &mut c], |hosts| hosts[0].peers().len() == 1).await;
    assert_eq!(node.network.external().count(), 0, "one peer's word is not enough");
    dial(&mut node, &c);
    run(&mut [&mut node, &mut b, &mut c], |hosts| hosts[0].network.external().count() > 0).await;
    let confirmed = node.network.external().next().expect("one").clone();
    assert!(own.contains(&confirmed), "{confirmed} of {own:?}");
    assert_eq!(node.network.reach(), [(&confirmed, Reach::Confirmed)]);
}

#[tokio::test]
async fn an_address_at_which_nobody_is_reached_is_known_for_that() {
    let mut behind = config("127.0.9.4");
    behind.confirm_local = true;
    let mut node = Host::start(behind).await;
    let (mut b, mut c) = (Host::start(config("127.0.9.5")).await, Host::start(config("127.0.9.6")).await);
    // As if the port outside were another one, that nothing forwards.
    let closed = std::net::TcpListener::bind("127.0.9.4:0").expect("a port").local_addr().expect("bound").port();
    let inside = Multiaddr::from(std::net::Ipv4Addr::new(10, 9, 9, 9)).with(Protocol::Tcp(closed));
    node.network.listening = vec![inside];
    dial(&mut node, &b);
    dial(&mut node, &c);
    run(&mut [&mut node, &mut b, &mut c], |hosts| !hosts[0].network.reach().is_empty()).await;
    let reach = node.network.reach();
    assert!(matches!(reach[..], [(_, Reach::Failed)]), "{reach:?}");
    assert_eq!(node.network.external().count(), 0);
}

#[tokio::test]
async fn an_address_that_the_operator_gives_is_all_that_others_are_told() {
    let mut behind = config("127.0.9.1");
    behind.nat = Nat::External("192.0.2.7".parse().unwrap());
    let mut node = Host::start(behind).await;
    let mut other = Host::start(config("127.0.9.2")).await;
    dial(&mut node, &other);
    let told = |host: &Host| {
        host.events.iter().find_map(|event| match event {
            NetEvent::Identified { addresses, .. } => Some(addresses.clone()),
            _ => None,
        })
    };
    run(&mut [&mut node, &mut other], |hosts| told(hosts[1]).is_some()).await;
    let expected = translated(&node.network.listening()[0], "192.0.2.7".parse().unwrap()).expect("IPv4");
    assert_eq!(told(&other).expect("identified"), [to_address(expected)]);
}

/// Has the server's next test of an address of the client's ended, in whatever way.
async fn tested(server: &mut Host, client: &mut Host) {
    let ended = async {
        loop {
            tokio::select! {
                event = client.network.next_event() => client.events.push(event),
                event = server.network.swarm.select_next_some() => {
                    let done = matches!(event, SwarmEvent::Behaviour(BehaviourEvent::ReachabilityOfOthers(_)));
                    server.network.translate(event);
                    if done {
                        return;
                    }
                }
            }
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("the test ends");
}

#[tokio::test]
async fn nobody_has_an_address_tested_that_is_not_its_own() {
    let mut server = Host::start(config("127.0.9.7")).await;
    let mut client = Host::start(config("127.0.9.8")).await;
    let victim = std::net::TcpListener::bind("127.0.9.9:0").expect("a port");
    victim.set_nonblocking(true).expect("it can");
    let address = victim.local_addr().expect("bound");
    let of_victim = Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()));
    client.network.swarm.behaviour_mut().reachability.as_mut().expect("--nat any").test(&of_victim);
    dial(&mut client, &server);
    tested(&mut server, &mut client).await;
    let accepted = victim.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{accepted:?}");
    // One round trip later the client knows, and has not been told that nobody answers there.
    let peer = client.peers()[0].0;
    client.network.request(peer, 1, b"any".to_vec());
    let answered = |host: &Host| host.events.iter().any(|event| matches!(event, NetEvent::Response { .. }));
    run(&mut [&mut client, &mut server], |hosts| {
        let asked: Vec<_> = hosts[1]
            .events
            .iter()
            .filter_map(|event| match event {
                NetEvent::Request { request, .. } => Some(*request),
                _ => None,
            })
            .collect();
        asked.into_iter().for_each(|request| hosts[1].network.refuse(request));
        answered(hosts[0])
    })
    .await;
    assert_eq!(client.network.reach(), []);
}
