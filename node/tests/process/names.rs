//! Bootnodes by name: `/dnsaddr` through a name server of the test's own.

use crate::lab::{Lab, eventually};
use crate::name_server::{Answer, NameServer};
use crate::ready;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use starling_node::net::names::{ADDRESSES_TRIED_MAX, LOOKUPS_MAX, RECORDS_MAX};
use starling_node::net::network::{NetEvent, Network, NetworkConfig};
use starling_protocol::peers::Address;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_node_finds_its_bootnode_by_dnsaddr_as_soon_as_the_name_server_answers() {
    let lab = Lab::new("dnsaddr", 0);
    let bootnode = lab.start_producer(&[]);
    let peer_id = bootnode.addresses().peer_id.clone();
    let server = NameServer::start(|_| Answer::ServerFailure).await;
    let by_name = format!("/dnsaddr/boot.test/p2p/{peer_id}");
    let flags = ["--bootnodes", &by_name, "--dns-servers", &server.address.to_string()];
    let node = lab.start("node", 2, &flags);
    let waits_for = || async {
        let answer = node.rpc().ready().await.expect("an answer");
        answer.waiting_for.iter().any(|it| it.contains("could not be reached")).then_some(())
    };
    eventually("the failure in the node's words", waits_for).await;
    let log = std::fs::read_to_string(lab.log("node")).expect("a log");
    let warning = log.lines().find(|line| line.contains("WARN") && line.contains(&by_name)).expect("a warning");
    assert!(warning.contains("cannot reach") && warning.to_lowercase().contains("server failure"), "{warning}");

    // What belongs to others is left out, and a record may lead to the next name.
    let listen = bootnode.addresses().listen[0].clone();
    let other = PeerId::random();
    server.change(move |name| match name {
        "_dnsaddr.boot.test" => Answer::Records(vec![
            "v=spf1 -all".to_owned(),
            "dnsaddr=nonsense".to_owned(),
            format!("dnsaddr=/ip4/127.77.0.250/tcp/1/p2p/{other}"),
            format!("dnsaddr=/dnsaddr/eu.boot.test/p2p/{peer_id}"),
        ]),
        "_dnsaddr.eu.boot.test" => Answer::Records(vec![format!("dnsaddr={listen}")]),
        _ => Answer::NoSuchName,
    });
    ready(&node.rpc()).await;
    assert!(server.asked().contains("_dnsaddr.eu.boot.test"));
    node.stop();

    // A lookup that hangs keeps neither the start nor the RPC nor the end waiting.
    server.change(|_| Answer::Silence);
    let cut_off = lab.start("cut-off", 3, &flags);
    assert!(!cut_off.rpc().ready().await.expect("an answer").ready);
    cut_off.stop();
    bootnode.stop();
}

/// Dials a peer at this address once, and says why that failed.
async fn dial(server: &NameServer, address: &str, id: PeerId) -> String {
    let mut config = NetworkConfig::new("0123abcd");
    config.listen = vec!["/ip4/127.0.0.21/tcp/0".parse().expect("an address")];
    config.name_servers = vec![starling_node::net::names::NameServer(server.address)];
    let keypair = Keypair::generate_ed25519();
    let mut network = Network::start(&config, &keypair, &mut Default::default()).await.expect("it starts");
    let address: Multiaddr = address.parse().expect("an address");
    let id = starling_node::net::network::to_protocol_id(&id).expect("short");
    network.dial(id, &[Address::from(address.to_vec())]);
    let failed = async {
        loop {
            if let NetEvent::DialFailed { reason, .. } = network.next_event().await {
                return reason;
            }
        }
    };
    tokio::time::timeout(crate::lab::DEADLINE, failed).await.expect("the dial ends")
}

#[tokio::test]
async fn records_that_lead_on_for_ever_cost_a_bounded_number_of_lookups() {
    let id = PeerId::random();
    let mut next = 0;
    // Two new names in each answer, so that no cache helps.
    let server = NameServer::start(move |_| {
        next += 2;
        Answer::Records((next..next + 2).map(|n| format!("dnsaddr=/dnsaddr/n{n}.test/p2p/{id}")).collect())
    })
    .await;
    let reason = dial(&server, "/dnsaddr/boot.test", id).await;
    assert_eq!(server.asked().len(), LOOKUPS_MAX, "{reason}");
    assert!(reason.contains("Too many DNS lookups"), "{reason}");
}

#[tokio::test]
async fn of_many_records_a_few_are_followed_and_of_many_addresses_a_few_are_tried() {
    let id = PeerId::random();
    let many = Answer::Records((0..40).map(|n| format!("dnsaddr=/dnsaddr/n{n}.test/p2p/{id}")).collect());
    let server = NameServer::start(move |name| match name {
        "_dnsaddr.boot.test" => many.clone(),
        _ => Answer::NoSuchName,
    })
    .await;
    let reason = dial(&server, "/dnsaddr/boot.test", id).await;
    assert_eq!(server.asked().len(), 1 + RECORDS_MAX, "{reason}");

    let victim = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = victim.local_addr().expect("bound").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let counting = tokio::spawn(async move {
        while victim.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    server.change(move |name| match name {
        "_dnsaddr.victim.test" => {
            Answer::Records((0..4).map(|n| format!("dnsaddr=/dnsaddr/v{n}.test/p2p/{id}")).collect())
        }
        _ => Answer::Records((0..10).map(|_| format!("dnsaddr=/ip4/127.0.0.1/tcp/{port}/p2p/{id}")).collect()),
    });
    let reason = dial(&server, "/dnsaddr/victim.test", id).await;
    let connections = connections.load(Ordering::Relaxed);
    assert!((2..=ADDRESSES_TRIED_MAX).contains(&connections), "{connections}: {reason}");
    counting.abort();
}

#[tokio::test]
async fn a_name_behind_an_ip_address_is_looked_up_by_nobody() {
    let id = PeerId::random();
    let server = NameServer::start(|_| Answer::NoSuchName).await;
    for hidden in ["dns4", "dns6", "dns", "dnsaddr"] {
        dial(&server, &format!("/ip4/127.0.0.1/tcp/1/{hidden}/secret.test"), id).await;
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    dial(&server, "/dns4/secret.test/tcp/1", id).await;
    assert!(server.asked().contains("secret.test"), "{:?}", server.asked());
}
