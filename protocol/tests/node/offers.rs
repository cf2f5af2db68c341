//! Pending transactions are offered to those who may lack them, and invalid ones are not worked through.

use crate::bench::Bench;
use crate::support::*;
use starling_protocol::chain::Position;
use starling_protocol::id::{Direction, PeerHandle};
use starling_protocol::mesh::{self, DisconnectReason, Verdict};
use starling_protocol::message::{Payload, message_id};
use starling_protocol::node::{Event, Input, Output};
use starling_protocol::rpc::{Frame, Rpc};
use starling_protocol::time::Duration;
use starling_protocol::transaction::{SignedTransaction, Transaction};
use starling_protocol::verify::Outcome;

/// Whether the peer was told of the transaction by its id.
fn is_told(bench: &Bench, peer: PeerHandle, transaction: &Transaction) -> bool {
    let id = message_id(bench.genesis.transaction_topic().as_str(), transaction.bytes());
    bench.out.iter().any(|output| match output {
        Output::Send { peer: to, frame: Frame::IHave { ids, .. } } => *to == peer && ids.contains(&id),
        _ => false,
    })
}

/// A node with a transaction that everybody has heard of who was there.
fn pending() -> (Bench, Transaction) {
    let mut bench = Bench::new(&genesis(1));
    let transaction = transaction(&bench.genesis, 1, 0, 30);
    assert_eq!(bench.judge_transaction(&transaction).verdict, Some(Verdict::Accept));
    bench.run(Duration::from_secs(10));
    bench.out.clear();
    (bench, transaction)
}

#[test]
fn whom_we_dial_is_offered_what_is_pending_and_served() {
    let (mut bench, transaction) = pending();
    let peer = bench.connect_as(Direction::Outbound);
    assert!(is_told(&bench, peer, &transaction));
    bench.out.clear();
    let id = message_id(bench.genesis.transaction_topic().as_str(), transaction.bytes());
    bench.rpc(peer, &Rpc { iwant: vec![id], ..Rpc::default() });
    assert_eq!(bench.sent_to(transaction.bytes()), [peer]);
    // It is nobody else's news, and is told once.
    let other = bench.connect_as(Direction::Outbound);
    bench.out.clear();
    bench.run(Duration::from_secs(5));
    assert!(![peer, other].iter().any(|peer| is_told(&bench, *peer, &transaction)));
}

#[test]
fn who_dials_us_is_offered_it_when_it_is_in_our_mesh() {
    let (mut bench, transaction) = pending();
    // The first ones are grafted at once, the last ones find the mesh full.
    let peers: Vec<PeerHandle> = (0..9).map(|_| bench.connect()).collect();
    let topic = bench.genesis.transaction_topic().clone();
    let mesh = bench.node.mesh().mesh_peers(&topic).to_vec();
    assert!((1..9).contains(&mesh.len()), "{} in the mesh", mesh.len());
    for peer in peers {
        assert_eq!(is_told(&bench, peer, &transaction), mesh.contains(&peer));
    }
}

#[test]
fn what_undone_blocks_give_back_is_offered_to_the_mesh() {
    let genesis = genesis(2);
    let mut bench = Bench::new(&genesis);
    let transaction = transaction(&genesis, 1, 0, 30);
    bench.run_to_slot(1);
    let weak = block(&genesis, &origin(&genesis), 1, vec![transaction.clone()]);
    assert_eq!(bench.judge_block(&weak).verdict, Some(Verdict::Accept));
    assert_eq!(bench.node.chain().head().height, 1);
    bench.run(Duration::from_secs(4));
    let peer = bench.connect();
    bench.out.clear();
    let first = block(&genesis, &origin(&genesis), 2, Vec::new());
    let second = block(&genesis, &Position { id: first.id(), height: 1, slot: 2 }, 3, Vec::new());
    for block in [&first, &second] {
        bench.send_block(peer, block);
        bench.work();
    }
    assert_eq!(bench.node.chain().head().height, 2);
    assert!(bench.node.mempool().get(&transaction.id()).is_some(), "it came back");
    assert!(is_told(&bench, peer, &transaction));
}

/// Transactions whose signatures are wrong.
fn spoilt(bench: &Bench, count: u64) -> Vec<Transaction> {
    let signature = key(99).sign(&starling_crypto::Domain::TransactionSigning.digest(b"something else"));
    let good = (0..count).map(|nonce| transaction(&bench.genesis, 1, nonce, 10).to_parts());
    good.map(|parts| Transaction::from_parts(SignedTransaction { signature, ..parts })).collect()
}

fn rejected(bench: &Bench) -> usize {
    let event = |output: &&Output| {
        let Output::Event(Event::Mesh(mesh::Event::Validated { verdict, .. })) = output else { return false };
        *verdict == Verdict::Reject
    };
    bench.out.iter().filter(event).count()
}

#[test]
fn of_many_invalid_messages_in_one_rpc_no_more_than_three_are_judged() {
    let mut bench = Bench::new(&genesis(1));
    let topic = bench.genesis.transaction_topic().clone();
    let graylisted =
        |output: &Output| matches!(output, Output::Disconnect { reason: DisconnectReason::Graylisted, .. });
    let peer = bench.connect();
    bench.out.clear();
    let publish = spoilt(&bench, 16).iter().map(|transaction| Payload::new(&topic, transaction.bytes())).collect();
    bench.rpc(peer, &Rpc { publish, ..Rpc::default() });
    let jobs = std::mem::take(&mut bench.jobs);
    assert_eq!(jobs.len(), 16);
    for (number, (ticket, _)) in jobs.iter().enumerate() {
        if number >= 3 {
            assert!(bench.out.iter().any(graylisted));
            assert_eq!(bench.node.under_way().verifications, 0, "nobody waits for the others");
        }
        // Workers that had begun may answer.
        bench.input(Input::Verified { ticket: *ticket, outcome: Outcome::Invalid { index: 0 } });
    }
    let judged = rejected(&bench);
    assert!((1..=3).contains(&judged), "{judged} were judged");
    let abandoned = bench.out.iter().find_map(|output| match output {
        Output::Abandon { tickets } => Some(tickets.clone()),
        _ => None,
    });
    let waiting: Vec<_> = jobs[judged..].iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(abandoned, Some(waiting));

    // What can be judged at once is not judged after the third either.
    let peer = bench.connect();
    bench.out.clear();
    let publish = (0..16).map(|number| Payload::new(&topic, format!("garbage {number}").as_bytes())).collect();
    bench.rpc(peer, &Rpc { publish, ..Rpc::default() });
    assert_eq!(rejected(&bench), judged);
    assert!(bench.out.iter().any(graylisted));
}
