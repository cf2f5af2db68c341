//! What is on the disk before it is promised, and what follows when the disk refuses.

use crate::bench::{Bench, Disk};
use crate::support::*;
use starling_protocol::node::persist::UNSAVED_BLOCKS_MAX;
use starling_protocol::node::{Event, Input, Output, SubmitError};
use starling_protocol::time::Duration;
use starling_protocol::transaction::Transaction;

/// A restarted node with what the disk of another one holds.
fn restarted(of: &Bench, change: impl FnOnce(&mut starling_protocol::node::NodeParts)) -> Bench {
    let (genesis, store) = (of.genesis.clone(), of.store.clone());
    let mut bench = Bench::with(&genesis, |parts| {
        let blocks = store.chain(&genesis);
        let stored = starling_protocol::chain::Chain::restore(genesis.clone(), Default::default(), blocks);
        parts.chain = stored.expect("what is stored is a chain");
        parts.signed_slot = store.signed;
        change(parts);
    });
    bench.now = of.now;
    bench.set_clock(0);
    let pending = store.pending.iter().map(|(id, bytes)| (*id, bytes.clone())).collect();
    bench.store = store.clone();
    bench.input(Input::Restore { pending, pool: store.pool });
    bench.work();
    bench
}

#[test]
fn a_submission_is_neither_answered_nor_sent_before_it_is_on_the_disk() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    bench.disk = Disk::Slow;
    let peer = bench.connect();
    let transaction = transaction(&genesis, 1, 0, 30);
    let first = bench.submit(&transaction);
    let second = bench.submit(&transaction);
    bench.work();
    assert_eq!((bench.answer(first), bench.answer(second)), (None, None));
    assert_eq!(bench.sent_to(transaction.bytes()), []);
    assert_eq!((bench.node.mempool().len(), bench.batches.len()), (0, 1), "one row for both");
    bench.write(true);
    assert!(bench.answer(first).expect("an answer").is_ok());
    assert!(bench.answer(second).expect("an answer").is_ok(), "the same transaction, submitted twice");
    assert_eq!(bench.sent_to(transaction.bytes()), [peer]);
    assert!(bench.store.pending.contains_key(&transaction.id()));
}

#[test]
fn payloads_that_wait_for_the_disk_have_nonces_of_their_own() {
    let mut bench = Bench::new(&genesis(1));
    bench.disk = Disk::Slow;
    let tickets: Vec<_> = (0..5_u8).map(|number| bench.publish(&[number])).collect();
    bench.write(true);
    for (nonce, ticket) in (0..).zip(tickets) {
        assert_eq!(bench.answer(ticket).expect("an answer").expect("is taken in").nonce, nonce);
    }
    let rival = transaction(&bench.genesis, 1, 7, 30);
    let mut other = rival.to_parts().body;
    other.payload = b"another one with the same nonce".to_vec();
    let other = other.sign(&key(1));
    bench.disk = Disk::Slow;
    let (first, second) = (bench.submit(&rival), bench.submit(&other));
    bench.work();
    let error = bench.answer(second).expect("at once").expect_err("the nonce is taken").to_string();
    assert!(error.contains("nonce 7"), "{error}");
    bench.write(true);
    assert!(bench.answer(first).expect("an answer").is_ok());
}

#[test]
fn what_could_not_be_stored_is_refused_and_leaves_nothing() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let peer = bench.connect();
    bench.disk = Disk::Slow;
    let tickets: Vec<_> = (0..3_u8).map(|number| bench.publish(&[number])).collect();
    bench.out.clear();
    bench.write(false);
    for ticket in tickets {
        assert_eq!(bench.answer(ticket), Some(Err(SubmitError::Storage)));
    }
    assert_eq!((bench.node.mempool().len(), bench.store.pending.len()), (0, 0));
    let sent = bench.out.iter().filter(|output| matches!(output, Output::Send { .. })).count();
    assert_eq!(sent, 0, "nothing was sent to {peer:?}");
    let failures = bench.out.iter().filter(|output| matches!(output, Output::Event(Event::StorageFailed))).count();
    assert_eq!(failures, 1, "said once");
    // Refused at once while nothing can be stored, and taken in with the same nonce when it can be.
    let refused = bench.publish(b"meanwhile");
    assert_eq!(bench.answer(refused), Some(Err(SubmitError::Storage)));
    assert!(bench.batches.is_empty());
    bench.disk = Disk::Prompt;
    bench.input(Input::StorageBack);
    let taken = bench.publish(b"again");
    assert_eq!(bench.answer(taken).expect("an answer").expect("is taken in").nonce, 0);
}

#[test]
fn blocks_that_could_not_be_stored_are_stored_in_order_when_the_disk_is_back() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    bench.run_to_slot(30);
    let peer = bench.connect();
    let blocks = blocks_after(&genesis, &origin(&genesis), 30);
    let feed = |bench: &mut Bench, blocks: &[starling_protocol::block::Block]| {
        for block in blocks {
            bench.send_block(peer, block);
            bench.work();
        }
    };
    feed(&mut bench, &blocks[..10]);
    bench.disk = Disk::Full;
    feed(&mut bench, &blocks[10..20]);
    assert_eq!((bench.node.chain().head().height, bench.store.canonical.len()), (20, 10), "the memory goes on");
    assert_eq!(bench.node.storage().unsaved_blocks, 10);
    bench.disk = Disk::Prompt;
    feed(&mut bench, &blocks[20..25]);
    assert_eq!(bench.store.canonical.len(), 10, "nothing is stored before the disk is back");
    bench.input(Input::StorageBack);
    assert_eq!((bench.store.canonical.len(), bench.node.storage().unsaved_blocks), (25, 0));
    feed(&mut bench, &blocks[25..]);
    assert_eq!(bench.store.canonical.len(), 30);
}

#[test]
fn no_more_blocks_are_adopted_than_can_wait_but_they_are_relayed() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let count = UNSAVED_BLOCKS_MAX as u64 + 5;
    bench.run_to_slot(count + 1);
    let (peer, other) = (bench.connect(), bench.connect());
    bench.disk = Disk::Full;
    let blocks = blocks_after(&genesis, &origin(&genesis), count);
    let last = blocks.last().expect("some").clone();
    for block in &blocks {
        // Older ones are fetched rather than relayed; to the chain it is the same.
        bench.set_clock(-(i64::try_from((count + 1 - block.header().slot) * SLOT_MS).expect("small")));
        bench.send_block(peer, block);
        bench.work();
    }
    assert_eq!(bench.node.chain().head().height, UNSAVED_BLOCKS_MAX as u64);
    assert!(bench.node.storage().import_paused);
    assert_eq!(bench.sent_to(last.bytes()), [other], "it is relayed all the same");
}

#[test]
fn what_was_acknowledged_is_offered_again_after_a_crash_until_it_is_included_for_good() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let transactions: Vec<Transaction> = (0..5).map(|nonce| transaction(&genesis, 1, nonce, 35)).collect();
    for transaction in &transactions {
        let ticket = bench.submit(transaction);
        bench.work();
        assert!(bench.answer(ticket).expect("an answer").is_ok());
    }
    bench.run_to_slot(2);
    let mut bench = restarted(&bench, |parts| parts.producer = None);
    assert_eq!(bench.node.mempool().len(), 5);
    let peer = bench.connect();
    bench.out.clear();
    bench.run_to_slot(3);
    for transaction in &transactions {
        assert_eq!(bench.sent_to(transaction.bytes()), [peer], "it is offered as soon as there is somebody");
    }
    // Included: the rows stay while the block can be undone.
    let block = block(&genesis, &origin(&genesis), 3, transactions.clone());
    bench.send_block(peer, &block);
    bench.work();
    assert_eq!((bench.node.mempool().len(), bench.store.pending.len()), (0, 5));
    let again = restarted(&bench, |_| {});
    assert_eq!((again.node.mempool().len(), again.node.storage().pending_rows), (0, 5));
    bench.out.clear();
    bench.run_to_slot(30);
    assert_eq!(bench.sent_to(transactions[0].bytes()), [], "what is included is not offered");
}

#[test]
fn rows_go_when_a_transaction_has_expired_and_not_because_a_clock_jumps() {
    let genesis = genesis(1);
    let mut bench = Bench::with(&genesis, |parts| parts.producer = Some(producer(0)));
    bench.run_to_slot(2);
    // Its nonce leaves a gap, so that no block includes it.
    let waiting = transaction(&genesis, 1, 0, 20);
    let ahead = transaction(&genesis, 1, 2, 20);
    for transaction in [&waiting, &ahead] {
        bench.submit(transaction);
        bench.work();
    }
    bench.run_to_slot(5);
    assert_eq!(bench.store.pending.len(), 2);
    let mut jumped = restarted(&bench, |_| {});
    jumped.set_clock(1_000_000);
    jumped.run(Duration::from_secs(3));
    assert_eq!(jumped.store.pending.len(), 2, "the chain has not come that far");
    bench.run_to_slot(30);
    assert_eq!(bench.store.pending.len(), 0);
}

#[test]
fn a_producer_does_not_sign_before_its_turn_is_recorded_nor_again_after_a_restart() {
    let genesis = genesis(1);
    let mut bench = Bench::with(&genesis, |parts| parts.producer = Some(producer(0)));
    bench.disk = Disk::Slow;
    bench.run_to_slot(1);
    assert_eq!(bench.produced(), []);
    bench.write(true);
    assert_eq!(bench.produced(), [1], "as soon as it is recorded");
    bench.disk = Disk::Prompt;
    bench.run_to_slot(4);
    assert_eq!((bench.produced(), bench.store.signed), (vec![1, 2, 3, 4], Some(5)));
    // The clock is set back while the node is down.
    let mut again = restarted(&bench, |parts| parts.producer = Some(producer(0)));
    again.out.clear();
    again.set_clock(-3_000);
    again.run(Duration::from_secs(3));
    assert_eq!(again.produced(), [] as [u64; 0]);
    again.run(Duration::from_secs(3));
    assert!(again.produced().iter().all(|slot| *slot > 5), "{:?}", again.produced());
    assert!(!again.produced().is_empty());
}

#[test]
fn a_producer_whose_disk_is_full_makes_no_blocks_until_it_is_back() {
    let genesis = genesis(1);
    let mut bench = Bench::with(&genesis, |parts| parts.producer = Some(producer(0)));
    bench.run_to_slot(3);
    bench.disk = Disk::Full;
    bench.run_to_slot(8);
    let produced = bench.produced();
    assert!(produced.iter().all(|slot| *slot <= 4), "{produced:?}: slot 4 was recorded before");
    bench.disk = Disk::Prompt;
    bench.input(Input::StorageBack);
    bench.run_to_slot(10);
    assert_eq!(bench.produced().last(), Some(&10));
}

#[test]
fn the_pool_of_the_last_stop_waits_again_and_is_not_sent() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let sender = bench.connect();
    let transaction = transaction(&genesis, 1, 0, 30);
    bench.send(sender, &genesis.transaction_topic().clone(), transaction.bytes());
    bench.work();
    assert_eq!(bench.node.mempool().len(), 1);
    let batch = bench.node.pool_batch();
    bench.store.apply(&batch);
    bench.store.pool.push(bytes::Bytes::from_static(b"garbage"));
    let mut again = restarted(&bench, |_| {});
    assert_eq!((again.node.mempool().len(), again.node.storage().pending_rows), (1, 0));
    again.connect();
    again.run(Duration::from_secs(20));
    assert_eq!(again.sent_to(transaction.bytes()), []);
}
