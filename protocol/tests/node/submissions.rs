//! Ready-made transactions that are submitted to the node, and what becomes of them.

use crate::bench::Bench;
use crate::support::*;
use starling_protocol::mesh::Verdict;
use starling_protocol::node::SubmitError;
use starling_protocol::time::Duration;
use starling_protocol::transaction::{SignedTransaction, Transaction};

#[test]
fn a_valid_transaction_is_published_once_and_answered_with_its_names() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let peer = bench.connect();
    let transaction = transaction(&genesis, 1, 3, 10);
    let ticket = bench.submit(&transaction);
    assert_eq!(bench.answer(ticket), None, "its signature is being verified");
    bench.work();
    let submitted = bench.answer(ticket).expect("an answer").expect("is taken in");
    assert_eq!((submitted.id, submitted.nonce), (transaction.id(), 3));
    assert_eq!(bench.sent_to(transaction.bytes()), [peer]);
    let again = bench.submit(&transaction);
    let error = bench.answer(again).expect("at once").expect_err("is here already").to_string();
    assert!(error.contains("in the pool already"), "{error}");
    assert!(bench.jobs.is_empty());
}

#[test]
fn what_is_wrong_is_said_with_the_remedy_and_nothing_is_sent() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let peer = bench.connect();
    bench.run_to_slot(5);
    let good = transaction(&genesis, 1, 0, 10);
    let foreign = genesis_with(1, |parameters| parameters.name = "other".into());
    let mut long = good.to_parts().body;
    long.payload = vec![1; 5 << 10];
    let mut trailing = good.bytes().to_vec();
    trailing.push(0);
    let stolen = Transaction::from_parts(SignedTransaction {
        body: good.to_parts().body,
        signature: transaction(&genesis, 2, 0, 10).signature(),
    });
    let cases: [(Vec<u8>, &str); 7] = [
        (b"garbage".to_vec(), "not a transaction"),
        (trailing, "not a transaction"),
        (transaction(&foreign, 1, 0, 10).bytes().to_vec(), "sign it with this network's genesis"),
        (long.sign(&key(1)).bytes().to_vec(), "not a transaction"),
        (transaction(&genesis, 1, 0, 4).bytes().to_vec(), "sign it again with a later expiry slot"),
        (transaction(&genesis, 1, 0, 5 + EXPIRY_SLOTS_MAX + 1).bytes().to_vec(), "sign it again with an earlier one"),
        (stolen.bytes().to_vec(), "sign the transaction id with the sender's key"),
    ];
    for (bytes, remedy) in cases {
        let ticket = bench.submit_bytes(&bytes);
        bench.work();
        let error = bench.answer(ticket).expect("an answer").expect_err("is refused").to_string();
        assert!(error.contains(remedy), "{error}");
        assert_eq!(bench.sent_to(&bytes), []);
    }
    assert!(bench.score(peer) >= 0.0, "no peer is blamed for what was submitted here");
}

#[test]
fn the_same_transaction_from_a_peer_and_from_here_is_answered_and_spread_once() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let (sender, other) = (bench.connect(), bench.connect());
    let transaction = transaction(&genesis, 1, 0, 10);
    let topic = genesis.transaction_topic().clone();
    // The peer's copy is being verified when the submission comes, and is done first.
    bench.send(sender, &topic, transaction.bytes());
    let ticket = bench.submit(&transaction);
    assert_eq!(bench.jobs.len(), 2);
    bench.work();
    assert_eq!(bench.verdict(&topic, transaction.bytes()), Some(Verdict::Accept));
    let error = bench.answer(ticket).expect("an answer").expect_err("is here already");
    assert!(matches!(error, SubmitError::Mempool(_)), "{error}");
    assert_eq!(bench.sent_to(transaction.bytes()), [other]);
    assert_eq!(bench.node.mempool().len(), 1);
}

#[test]
fn what_waits_is_sent_again_ever_more_rarely_until_it_is_included() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let transaction = transaction(&genesis, 1, 0, 35);
    bench.submit(&transaction);
    bench.work();
    // Nobody is there; it is due since slot 4.
    bench.run_to_slot(9);
    assert_eq!(bench.sent_to(transaction.bytes()), []);
    let peer = bench.connect();
    bench.out.clear();
    let mut sent = Vec::new();
    for slot in 10..40 {
        bench.run_to_slot(slot);
        sent.extend(bench.sent_to(transaction.bytes()).into_iter().map(|to| (to, slot)));
        bench.out.clear();
    }
    assert_eq!(sent, [(peer, 10), (peer, 18), (peer, 34)], "it expires after slot 35");
}

#[test]
fn what_is_included_soon_is_never_sent_again() {
    let genesis = genesis(1);
    let mut bench = Bench::with(&genesis, |parts| parts.producer = Some(producer(0)));
    let peer = bench.connect();
    let transaction = transaction(&genesis, 1, 0, 35);
    bench.submit(&transaction);
    bench.work();
    bench.run(Duration::from_secs(38));
    assert_eq!(bench.sent_to(transaction.bytes()), [peer]);
}
