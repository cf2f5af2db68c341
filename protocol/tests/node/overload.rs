//! More than can be verified, and answers that come late or never.

use crate::bench::{Bench, response};
use crate::support::*;
use bytes::Bytes;
use starling_protocol::chain::Position;
use starling_protocol::mesh::Verdict;
use starling_protocol::node::{Input, Output, SubmitError, Ticket};
use starling_protocol::request::{Answer, Request};
use starling_protocol::time::Duration;
use starling_protocol::verify::Outcome;

fn narrow(verifications_max: usize) -> Bench {
    Bench::with(&genesis(1), |parts| parts.config.verifications_max = verifications_max)
}

#[test]
fn beyond_the_bound_messages_are_shed_and_submissions_refused() {
    let mut bench = narrow(2);
    let (peer, topic) = (bench.connect(), bench.genesis.transaction_topic().clone());
    let transactions: Vec<_> = (0..4).map(|sender| transaction(&bench.genesis, sender, 0, 10)).collect();
    for transaction in &transactions[..3] {
        bench.send(peer, &topic, transaction.bytes());
    }
    assert_eq!(bench.jobs.len(), 2);
    assert_eq!(bench.verdict(&topic, transactions[2].bytes()), Some(Verdict::Shed));
    assert!(bench.score(peer) >= 0.0, "our overload is nobody's fault");
    let ticket = bench.submit(&transactions[3]);
    assert_eq!(bench.answer(ticket), Some(Err(SubmitError::Overloaded)));
    let block = block(&bench.genesis, &origin(&bench.genesis), 1, Vec::new());
    bench.run_to_slot(1);
    bench.send_block(peer, &block);
    assert_eq!(bench.verdict(bench.genesis.block_topic(), block.bytes()), Some(Verdict::Shed));
    bench.work();
    // What was shed is not held against it: the next copy gets its chance.
    bench.send(peer, &topic, transactions[2].bytes());
    bench.send_block(peer, &block);
    bench.work();
    let ticket = bench.submit(&transactions[3]);
    bench.work();
    assert_eq!(bench.verdict(&topic, transactions[2].bytes()), Some(Verdict::Accept));
    assert!(bench.answer(ticket).expect("an answer").is_ok());
    assert_eq!(bench.node.chain().head().id, block.id());
}

#[test]
fn large_messages_are_bounded_by_their_bytes() {
    let genesis = genesis(1);
    let mut bench = Bench::with(&genesis, |parts| parts.config.verification_bytes_max = 8_000);
    bench.run_to_slot(2);
    let (peer, topic) = (bench.connect(), genesis.block_topic().clone());
    // Whatever its size, one block may always be verified.
    let large: Vec<_> = (0..40).map(|nonce| transaction(&genesis, 1, nonce, 20)).collect();
    let blocks = [block(&genesis, &origin(&genesis), 1, large), block(&genesis, &origin(&genesis), 1, Vec::new())];
    assert!(blocks[0].encoded_len() > 8_000);
    for block in &blocks {
        bench.send_block(peer, block);
    }
    assert_eq!((bench.jobs.len(), bench.verdict(&topic, blocks[1].bytes())), (1, Some(Verdict::Shed)));
    // What we asked for ourselves is verified all the same.
    let (ticket, ..) = bench.requests().pop().expect("a new peer is asked how it stands");
    let fetched = block(&genesis, &origin(&genesis), 2, vec![transaction(&genesis, 2, 0, 20)]);
    let head = Position::of(&fetched);
    let body = response(&genesis, &head, Answer::Status);
    bench.input(Input::Response { ticket, body: Some(body) });
    let (ticket, _, request) = bench.requests().pop().expect("its chain is followed");
    assert!(matches!(request, Request::Headers { .. }), "{request:?}");
    let body = response(&genesis, &head, Answer::Headers(vec![*fetched.signed_header()]));
    bench.input(Input::Response { ticket, body: Some(body) });
    assert_eq!(bench.jobs.len(), 2);
    bench.work();
    bench.send_block(peer, &blocks[1]);
    bench.work();
    assert_eq!(bench.verdict(&topic, blocks[1].bytes()), Some(Verdict::Accept));
    assert!(bench.score(peer) >= 0.0);
}

#[test]
fn what_the_workers_shed_may_come_again() {
    let mut bench = narrow(100);
    let (peer, topic) = (bench.connect(), bench.genesis.transaction_topic().clone());
    let transaction = transaction(&bench.genesis, 1, 0, 10);
    bench.send(peer, &topic, transaction.bytes());
    bench.shed();
    assert_eq!(bench.verdict(&topic, transaction.bytes()), Some(Verdict::Shed));
    assert!(bench.score(peer) >= 0.0);
    bench.send(peer, &topic, transaction.bytes());
    bench.work();
    assert_eq!(bench.verdict(&topic, transaction.bytes()), Some(Verdict::Accept));
}

#[test]
fn a_block_whose_body_was_not_verified_is_fetched_when_its_child_comes() {
    let genesis = genesis(1);
    let mut bench = narrow(1);
    let peer = bench.connect();
    // Two jobs, of which only one fits.
    let transactions: Vec<_> = (0..33_u64).map(|nonce| transaction(&genesis, 1, nonce, 30)).collect();
    let parent = block(&genesis, &origin(&genesis), 1, transactions);
    let child = block(&genesis, &Position::of(&parent), 2, Vec::new());
    bench.run_to_slot(2);
    bench.send_block(peer, &parent);
    bench.work();
    assert_eq!(bench.verdict(genesis.block_topic(), parent.bytes()), Some(Verdict::Accept), "it is passed on");
    assert_eq!(bench.node.chain().head().height, 0, "but not adopted unverified");
    bench.send_block(peer, &child);
    bench.work();
    let (ticket, asked, request) = bench.requests().pop().expect("the parent is asked for");
    assert_eq!((asked, request), (peer, Request::Blocks(vec![parent.id()])));
    assert!(bench.score(peer) >= 0.0);
    let body = response(&genesis, &Position::of(&child), Answer::Blocks(vec![parent.bytes().clone()]));
    bench.input(Input::Response { ticket, body: Some(body) });
    bench.work();
    assert_eq!(bench.node.chain().head().height, 0, "still too much at once");
    bench.run(Duration::from_secs(30));
    assert_eq!(bench.node.under_way().blocks, 0);
}

#[test]
fn late_answers_are_harmless() {
    let genesis = genesis(1);
    let mut bench = narrow(100);
    bench.run_to_slot(3);
    let (peer, topic) = (bench.connect(), genesis.transaction_topic().clone());
    let good = transaction(&genesis, 1, 0, 10);
    let parent = block(&genesis, &origin(&genesis), 1, vec![good]);
    let orphan = block(&genesis, &Position::of(&parent), 2, Vec::new());
    bench.send(peer, &topic, transaction(&genesis, 2, 0, 10).bytes());
    bench.send_block(peer, &parent);
    bench.input(Input::Request { ticket: Ticket(900), peer, body: &Request::Blocks(vec![orphan.id()]).encode() });
    let (jobs, requests) = (std::mem::take(&mut bench.jobs), bench.requests());
    assert!(!requests.is_empty());
    let loads: Vec<Ticket> = bench
        .out
        .iter()
        .filter_map(|output| match output {
            Output::Load { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .collect();
    assert_eq!(loads.len(), 1);

    bench.disconnect(peer);
    // Another peer takes the place.
    let other = bench.connect();
    assert_eq!(other.slot, peer.slot);
    for (ticket, job) in jobs {
        let outcome = job.run(&genesis);
        for _ in 0..2 {
            bench.input(Input::Verified { ticket, outcome: outcome.clone() });
        }
    }
    bench.work();
    for (ticket, ..) in requests {
        bench.input(Input::Response { ticket, body: Some(Bytes::from_static(b"garbage")) });
        bench.input(Input::Response { ticket, body: None });
    }
    bench.input(Input::Loaded { ticket: loads[0], blocks: Some(vec![orphan.bytes().clone()]) });
    bench.input(Input::Loaded { ticket: loads[0], blocks: None });
    let answered = |output: &&Output| matches!(output, Output::Respond { ticket: Ticket(900), .. });
    assert_eq!(bench.out.iter().filter(answered).count(), 1);
    for ticket in 1_000..1_010 {
        let ticket = Ticket(ticket);
        bench.input(Input::Verified { ticket, outcome: Outcome::Valid });
        bench.input(Input::Response { ticket, body: Some(Bytes::from_static(b"garbage")) });
        bench.input(Input::Loaded { ticket, blocks: None });
        bench.input(Input::Persisted { ticket, durable: true });
    }
    assert!(bench.score(other) >= 0.0, "the former occupant's answers are not held against the new one");
    assert_eq!(bench.node.chain().head().id, parent.id(), "what was verified late is of use still");
    bench.disconnect(other);
    assert_eq!(bench.node.under_way(), Default::default());
}

#[test]
fn a_block_with_a_missing_parent_has_it_fetched_from_its_sender() {
    let genesis = genesis(1);
    let mut bench = narrow(100);
    bench.run_to_slot(4);
    let blocks = blocks_after(&genesis, &origin(&genesis), 3);
    let (silent, sender) = (bench.connect(), bench.connect());
    // The sync that a new peer is probed with ends.
    for (ticket, ..) in bench.requests() {
        bench.input(Input::Response { ticket, body: None });
    }
    bench.run(Duration::from_millis(10));
    for (ticket, ..) in bench.requests() {
        bench.input(Input::Response { ticket, body: None });
    }
    bench.out.clear();
    bench.send_block(sender, &blocks[1]);
    bench.work();
    let (ticket, asked, request) = bench.requests().pop().expect("a request");
    assert_eq!((asked, request), (sender, Request::Blocks(vec![blocks[0].id()])));
    let body = response(&genesis, &Position::of(&blocks[1]), Answer::Blocks(vec![blocks[0].bytes().clone()]));
    bench.input(Input::Response { ticket, body: Some(body) });
    bench.work();
    assert_eq!(bench.node.chain().head().height, 2);
    assert!(bench.score(sender) >= 0.0 && bench.score(silent) >= 0.0);
}

#[test]
fn a_peer_that_asks_or_answers_with_garbage_is_blamed() {
    let mut bench = narrow(100);
    let peer = bench.connect();
    let (ticket, asked, _) = bench.requests().pop().expect("a new peer is asked for its chain");
    assert_eq!(asked, peer);
    bench.input(Input::Response { ticket, body: Some(Bytes::from_static(b"garbage")) });
    assert!(bench.score(peer) >= 0.0, "once may be an accident");
    bench.input(Input::Request { ticket: Ticket(900), peer, body: b"garbage" });
    assert!(bench.score(peer) < 0.0);
    assert!(bench.out.iter().any(|output| matches!(output, Output::Respond { ticket: Ticket(900), body: None })));
    for number in 901..904 {
        bench.input(Input::Request { ticket: Ticket(number), peer, body: b"garbage" });
    }
    let disconnected = |output: &Output| matches!(output, Output::Disconnect { .. });
    assert!(bench.out.iter().any(disconnected), "five are enough to be sent away");
}
