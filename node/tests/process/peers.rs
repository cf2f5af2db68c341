//! What a node remembers of its peers, and whom it keeps out, across restarts.

use crate::attacker::Attacker;
use crate::lab::{Lab, Running, eventually, wait_for};
use crate::ready;
use starling_node::api::PeerDirection;
use starling_protocol::id::PeerId;
use starling_protocol::peers::Address;
use starling_protocol::peers::address::{Group, Scope};
use starling_protocol::peers::book::{AddressBook, BookConfig};
use starling_protocol::random::Stream;
use starling_protocol::time::Time;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn read_book(path: &Path) -> AddressBook {
    let bytes = std::fs::read(path).expect("a book");
    AddressBook::from_file(&bytes, BookConfig::default(), Stream::from_seed([1; 32])).expect("whole")
}

async fn outbound(node: &Running) -> Vec<String> {
    let peers = node.rpc().net_peers().await.expect("an answer");
    peers.into_iter().filter(|peer| peer.direction == PeerDirection::Outbound).map(|peer| peer.peer_id).collect()
}

fn starling(args: &[&str], node: &Running) -> Output {
    let rpc = node.admin_address();
    Command::new(env!("CARGO_BIN_EXE_starling")).args(args).args(["--rpc", &rpc]).output().expect("it runs")
}

#[tokio::test]
async fn a_node_comes_back_without_bootnodes_and_a_damaged_book_keeps_it_from_nothing() {
    let lab = Lab::new("remembering", 0);
    let first = lab.start_producer(&[]);
    let bootnode = first.addresses().listen[0].clone();
    let peer_id = first.addresses().peer_id.clone();
    let second = lab.start("second", 2, &["--bootnodes", &bootnode]);
    ready(&second.rpc()).await;
    let book = lab.path("second/peers.book");
    // Soon after the anchors are known, without waiting for a stop. A book that is saved before they are has none.
    wait_for("an anchor in the book", || (book.exists() && read_book(&book).anchors().len() == 1).then_some(()));
    let mut killed = second;
    killed.signal(rustix::process::Signal::KILL);
    killed.wait();

    // On another port, so that nobody can find it at its old address.
    let again = lab.start("second", 2, &[]);
    eventually("the first peer again, dialled from memory", || async {
        outbound(&again).await.contains(&peer_id).then_some(())
    })
    .await;
    again.stop();

    std::fs::write(&book, [&b"starbook"[..], &[7; 100]].concat()).expect("written");
    let third = lab.start("second", 2, &["--bootnodes", &bootnode]);
    ready(&third.rpc()).await;
    // The mesh is looked at now and then, and whoever is in it becomes an anchor.
    eventually("an anchor", || async { (crate::attacks::metric(&third, "starling_anchors") == 1).then_some(()) }).await;
    third.stop();
    let log = std::fs::read_to_string(lab.log("second")).expect("a log");
    let warning = log.lines().find(|line| line.contains("WARN") && line.contains("peers.book")).expect("a warning");
    assert!(warning.contains("checksum is wrong") && warning.contains("peers.book.damaged"), "{warning}");
    assert!(lab.path("second/peers.book.damaged").exists());
    assert_eq!(read_book(&book).anchors().len(), 1, "a new one has been begun");
    first.stop();
}

#[tokio::test]
async fn a_node_whose_memory_was_poisoned_and_whose_slots_are_taken_still_reaches_honest_peers() {
    let lab = Lab::new("poisoned", 0);
    let honest = lab.start_producer(&[]);
    let bootnode = honest.addresses().listen[0].clone();
    let honest_id = honest.addresses().peer_id.clone();
    let limits = ["--target-peers", "4", "--max-peers", "10"];
    let mut victim = lab.start("victim", 2, &[&["--bootnodes", &bootnode][..], &limits].concat());
    ready(&victim.rpc()).await;
    let path = lab.path("victim/peers.book");
    wait_for("the anchor on the disk", || (path.exists() && read_book(&path).anchors().len() == 1).then_some(()));
    victim.signal(rustix::process::Signal::KILL);
    victim.wait();

    let mut book = read_book(&path);
    let address = |number: u32| {
        let ip = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(127, 66, 0, 0)) + number % 1_000);
        Address::from([&[4][..], &ip.octets(), &[6, 0, 9]].concat())
    };
    for number in 0..4_000u32 {
        let id = PeerId::from_bytes(libp2p::PeerId::random().to_bytes().as_slice()).expect("short enough");
        let source = Group::of(Ipv4Addr::new(127, 66, 0, (number % 8) as u8).into()).expect("reachable");
        book.add(id, &[address(number)], source, Scope::Loopback);
        if number % 4 == 0 {
            book.reached(Time::ZERO, id, &address(number));
        }
    }
    let (new, tried) = book.sizes();
    assert!(new > 500 && tried > 500, "{new} {tried}");
    std::fs::write(&path, book.to_file()).expect("written");

    let victim = lab.start("victim", 2, &limits);
    let mut attackers = Vec::new();
    for _ in 0..7 {
        attackers.push(Attacker::connect(&victim.addresses().listen[0], &lab.genesis.short_id()).await);
    }
    eventually("a link of our own with an honest peer", || async {
        outbound(&victim).await.contains(&honest_id).then_some(())
    })
    .await;
    ready(&victim.rpc()).await;
    drop(attackers);
    victim.stop();
    honest.stop();
}

#[tokio::test]
async fn a_ban_holds_at_once_and_across_a_restart_until_it_is_lifted() {
    let lab = Lab::new("banning", 0);
    let node = lab.start_producer(&[]);
    let bootnode = node.addresses().listen[0].clone();
    let other = lab.start("other", 2, &["--bootnodes", &bootnode]);
    ready(&node.rpc()).await;
    let peer_id = other.addresses().peer_id.clone();

    let banned = starling(&["peers", "ban", &peer_id, "--for", "1h", "--reason", "test"], &node);
    assert_eq!(String::from_utf8_lossy(&banned.stdout), format!("banned {peer_id} for 1 h 0 min\n"), "{banned:?}");
    let alone = async |node: &Running| {
        eventually("the banned peer to be gone", || async {
            node.rpc().net_peers().await.expect("an answer").is_empty().then_some(())
        })
        .await;
    };
    alone(&node).await;
    alone(&other).await;
    let listen = bootnode.split("/p2p/").next().expect("an address").to_owned();
    node.stop();

    let again = lab.start("producer", 1, &["--producer-key", "producer.pem", "--listen", &listen]);
    let bans = again.admin().admin_bans().await.expect("an answer");
    assert_eq!(bans.len(), 1);
    assert!(bans[0].target == peer_id && bans[0].reason == "test" && bans[0].remaining_s <= 3_600, "{bans:?}");
    // By its address as well, which is seen before the handshake.
    again.admin().admin_ban("127.77.0.2", Duration::from_secs(600), "").await.expect("banned");
    let refused = || async {
        (crate::attacks::metric(&again, "starling_connections_refused_total{reason=\"banned\"}") > 1).then_some(())
    };
    eventually("the banned peer to be refused", refused).await;
    assert!(again.rpc().net_peers().await.expect("an answer").is_empty());
    let text = String::from_utf8(starling(&["peers", "list"], &again).stdout).expect("text");
    assert!(text.contains("127.77.0.2") && text.contains("test"), "{text}");

    for target in [&peer_id[..], "127.77.0.2"] {
        assert!(starling(&["peers", "unban", target], &again).status.success());
    }
    let twice = starling(&["peers", "unban", "127.77.0.2"], &again);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("was not banned"), "{twice:?}");
    eventually("the peer again", || async {
        (again.rpc().net_peers().await.expect("an answer").len() == 1).then_some(())
    })
    .await;
    again.stop();
    other.stop();
}
