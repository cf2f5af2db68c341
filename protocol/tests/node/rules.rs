//! What is done with what a peer sends, in which order, and who is blamed.

use crate::bench::{Bench, Judgement, response};
use crate::support::*;
use starling_protocol::block::{Block, Header};
use starling_protocol::chain::{self, Position};
use starling_protocol::genesis::Genesis;
use starling_protocol::mesh::{self, Verdict};
use starling_protocol::node::{Event, Input, Output, TransactionStatus};
use starling_protocol::request::{Answer, Request};
use starling_protocol::time::Duration;
use starling_protocol::transaction::{SignedTransaction, Transaction, TransactionBuilder};

const ACCEPTED: Judgement = Judgement { verdict: Some(Verdict::Accept), verified: true, blamed: false };
/// Refused without a look at the signature, and nobody's fault.
const IGNORED: Judgement = Judgement { verdict: Some(Verdict::Ignore), verified: false, blamed: false };
/// Refused, and nobody's fault, because the signature is good.
const USELESS: Judgement = Judgement { verdict: Some(Verdict::Ignore), verified: true, blamed: false };
/// Refused without a look at the signature; no honest node would have sent it.
const REJECTED: Judgement = Judgement { verdict: Some(Verdict::Reject), verified: false, blamed: true };
/// Refused after its header's signature was verified, which was good.
const REJECTED_DECODED: Judgement = BADLY_SIGNED;
const BADLY_SIGNED: Judgement = Judgement { verdict: Some(Verdict::Reject), verified: true, blamed: true };

fn spoilt(transaction: &Transaction) -> Transaction {
    let parts = transaction.to_parts();
    let signature = key(99).sign(&starling_crypto::Domain::TransactionSigning.digest(b"something else"));
    Transaction::from_parts(SignedTransaction { signature, ..parts })
}

fn with_payload(genesis: &Genesis, bytes: usize) -> Transaction {
    // A genesis that allows more, and is the same network otherwise, does not exist; so the body is put together by
    // hand.
    let mut body = transaction(genesis, 1, 0, 10).to_parts().body;
    body.payload = vec![1; bytes];
    body.sign(&key(1))
}

#[test]
fn a_duplicate_never_reaches_verification() {
    let mut bench = Bench::new(&genesis(1));
    let (first, second) = (bench.connect(), bench.connect());
    let transaction = transaction(&bench.genesis, 1, 0, 10);
    let topic = bench.genesis.transaction_topic().clone();
    for peer in [first, second, first] {
        bench.send(peer, &topic, transaction.bytes());
    }
    assert_eq!(bench.jobs.len(), 1, "copies during verification");
    bench.work();
    assert_eq!(bench.verdict(&topic, transaction.bytes()), Some(Verdict::Accept));
    bench.send(second, &topic, transaction.bytes());
    assert!(bench.jobs.is_empty(), "a copy after verification");
    let copies = |output: &&Output| matches!(output, Output::Event(Event::Mesh(mesh::Event::Duplicate { .. })));
    assert_eq!(bench.out.iter().filter(copies).count(), 3);

    let spoilt = spoilt(&crate::support::transaction(&bench.genesis, 2, 0, 10));
    assert_eq!(bench.judge_transaction(&spoilt), BADLY_SIGNED);
    let again = bench.judge_transaction(&spoilt);
    assert_eq!((again.verdict, again.verified), (None, false), "a copy of a rejected message is known");
    assert!(again.blamed, "but whoever passes it on is to blame");
}

#[test]
fn transactions_are_judged_cheaply_first_and_blame_falls_where_it_is_due() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    bench.run_to_slot(5);
    let good = transaction(&genesis, 1, 0, 10);
    let mut trailing = good.bytes().to_vec();
    trailing.push(0);
    let topic = genesis.transaction_topic().clone();
    assert_eq!(bench.judge(&topic, b"garbage"), REJECTED);
    assert_eq!(bench.judge(&topic, &trailing), REJECTED, "not canonical");
    assert_eq!(bench.judge_transaction(&with_payload(&genesis, 5 << 10)), REJECTED, "too large");
    let foreign = genesis_with(1, |parameters| parameters.name = "other".into());
    assert_eq!(bench.judge_transaction(&transaction(&foreign, 1, 0, 10)), REJECTED, "of another network");
    assert_eq!(bench.judge_transaction(&transaction(&genesis, 1, 0, 4)), USELESS, "expired on the way");
    let latest = 5 + EXPIRY_SLOTS_MAX;
    assert_eq!(bench.judge_transaction(&transaction(&genesis, 1, 0, latest + 1)), USELESS, "clocks differ");
    let day = 86_400_000 / SLOT_MS;
    assert_eq!(
        bench.judge_transaction(&transaction(&genesis, 1, 0, latest + day)),
        REJECTED,
        "no clock is that far off"
    );
    assert_eq!(bench.judge_transaction(&spoilt(&good)), BADLY_SIGNED);
    assert_eq!(bench.judge_transaction(&good), ACCEPTED);
    assert_eq!(bench.judge_transaction(&spoilt(&good)).verdict, None, "known to be rejected");
    let other = TransactionBuilder::new(&genesis, 11).payload(*b"other").build(&key(1)).expect("valid");
    assert_eq!(bench.judge_transaction(&other), USELESS, "the nonce is taken");
    assert_eq!(bench.judge_transaction(&transaction(&genesis, 1, 1_000, 10)), USELESS, "the nonce is too far ahead");
    assert_eq!(bench.node.mempool().len(), 1);
}

#[test]
fn a_spoilt_copy_that_comes_first_does_not_keep_the_good_one_out() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let good = transaction(&genesis, 1, 0, 10);
    assert_eq!(bench.judge_transaction(&spoilt(&good)), BADLY_SIGNED);
    assert_eq!(bench.judge_transaction(&good), ACCEPTED);
    // The other way round: the id is known, and nobody has passed on such a signature in good faith.
    let (good, late) = (transaction(&genesis, 2, 0, 10), spoilt(&transaction(&genesis, 2, 0, 10)));
    assert_eq!(bench.judge_transaction(&good), ACCEPTED);
    assert_eq!(bench.judge_transaction(&late), BADLY_SIGNED);
}

#[test]
fn whoever_forges_what_is_of_no_use_is_blamed_for_it() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    bench.run_to_slot(5);
    assert_eq!(bench.judge_transaction(&transaction(&genesis, 1, 0, 10)), ACCEPTED);
    let rival = TransactionBuilder::new(&genesis, 11).payload(*b"rival").build(&key(1)).expect("valid");
    assert_eq!(bench.judge_transaction(&spoilt(&rival)), BADLY_SIGNED, "the nonce is taken");
    assert_eq!(bench.judge_transaction(&rival), USELESS, "and here it is the sender who is at fault");
    assert_eq!(bench.judge_transaction(&spoilt(&transaction(&genesis, 2, 0, 4))), BADLY_SIGNED, "expired");
    assert_eq!(bench.judge_transaction(&spoilt(&transaction(&genesis, 1, 1_000, 10))), BADLY_SIGNED, "too far ahead");
}

/// Nobody waits for a message because others are verified that are of no use.
#[test]
fn what_is_of_no_use_is_not_verified_while_there_is_more_to_verify() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let peer = bench.connect();
    let topic = genesis.transaction_topic().clone();
    assert_eq!(bench.judge_transaction(&transaction(&genesis, 1, 0, 10)), ACCEPTED);
    for number in 2..10 {
        bench.send(peer, &topic, transaction(&genesis, number, 0, 10).bytes());
    }
    assert_eq!(bench.jobs.len(), 8);
    let rival = TransactionBuilder::new(&genesis, 11).payload(*b"rival").build(&key(1)).expect("valid");
    let other = bench.connect();
    bench.send(other, &topic, spoilt(&rival).bytes());
    assert_eq!(bench.jobs.len(), 8);
    assert_eq!(bench.verdict(&topic, spoilt(&rival).bytes()), Some(Verdict::Ignore));
    bench.work();
    assert_eq!(bench.node.mempool().len(), 9);
}

/// Whoever sends many at a time is to be found out before more of them are verified.
#[test]
fn of_what_is_of_no_use_one_of_a_peer_is_verified_at_a_time() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let topic = genesis.transaction_topic().clone();
    assert_eq!(bench.judge_transaction(&transaction(&genesis, 1, 0, 10)), ACCEPTED);
    let (peer, other) = (bench.connect(), bench.connect());
    let rival = |number: u8| {
        let rival = TransactionBuilder::new(&genesis, 11).payload([number]).build(&key(1)).expect("valid");
        spoilt(&rival)
    };
    for (sender, number, under_way) in [(peer, 0, 1), (peer, 1, 1), (other, 2, 2), (other, 3, 2)] {
        bench.send(sender, &topic, rival(number).bytes());
        assert_eq!(bench.jobs.len(), under_way);
    }
    assert_eq!(bench.verdict(&topic, rival(1).bytes()), Some(Verdict::Ignore));
    bench.work();
    assert_eq!(bench.verdict(&topic, rival(0).bytes()), Some(Verdict::Reject));
    bench.send(peer, &topic, rival(4).bytes());
    assert_eq!(bench.jobs.len(), 1, "the next one");
}

#[test]
fn a_wrong_stamp_is_seen_before_the_signature() {
    let genesis = genesis_with(1, |parameters| parameters.stamp_bits = 12);
    let mut bench = Bench::new(&genesis);
    let good = transaction(&genesis, 1, 0, 10);
    let mut body = good.to_parts().body;
    body.stamp += 1;
    assert_eq!(bench.judge_transaction(&body.sign(&key(1))), REJECTED);
    assert_eq!(bench.judge_transaction(&good), ACCEPTED);
}

#[test]
fn a_transaction_that_was_included_is_not_taken_in_again() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let included = transaction(&genesis, 1, 0, 20);
    bench.run_to_slot(1);
    let block = block(&genesis, &origin(&genesis), 1, vec![included.clone()]);
    assert_eq!(bench.judge_block(&block), ACCEPTED);
    assert!(matches!(bench.node.transaction_status(&included.id()), TransactionStatus::Included(_)));
    // The block overtook it: it is passed on, for the sake of nodes that have it only from us, and nothing else.
    let overtaken = Judgement { verdict: Some(Verdict::Accept), verified: false, blamed: false };
    assert_eq!(bench.judge_transaction(&included), overtaken);
    assert_eq!(bench.judge_transaction(&spoilt(&included)), BADLY_SIGNED, "another signature is not the one included");
    assert_eq!(bench.node.mempool().len(), 0);
    let ticket = bench.submit(&included);
    let error = bench.answer(ticket).expect("at once").expect_err("is used").to_string();
    assert_eq!(error, "nonce 0 of this sender is already used; the next one is 1");
}

#[test]
fn without_a_clock_nobody_is_blamed_for_times() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    // The network begins in an hour, by our clock.
    bench.set_clock(-3_600_000);
    assert_eq!(bench.node.slot(bench.now), None);
    assert_eq!(bench.judge_transaction(&transaction(&genesis, 1, 0, 100_000)), USELESS);
    assert_eq!(bench.judge_block(&block(&genesis, &origin(&genesis), 3, Vec::new())), IGNORED);
}

fn misplaced(block: &Block, change: impl FnOnce(&mut Header)) -> Block {
    let mut header = *block.header();
    change(&mut header);
    Block::from_parts(header.sign(&producer(usize::try_from(header.slot % 2).expect("small"))), Vec::new())
}

#[test]
fn blocks_are_judged_cheaply_first_and_blame_falls_where_it_is_due() {
    let genesis = genesis(2);
    let mut bench = Bench::new(&genesis);
    bench.run_to_slot(50);
    let topic = genesis.block_topic().clone();
    let start = origin(&genesis);
    let good = block(&genesis, &start, 48, Vec::new());
    assert_eq!(bench.judge(&topic, b"garbage"), REJECTED);
    let out_of_turn = Header { producer: producer(1).public_key().to_bytes(), ..*good.header() };
    let out_of_turn = Block::from_parts(out_of_turn.sign(&producer(1)), Vec::new());
    assert_eq!(bench.judge_block(&out_of_turn), REJECTED, "out of turn");
    let other_body = Block::from_parts(*good.signed_header(), vec![transaction(&genesis, 1, 0, 60)]);
    assert_eq!(bench.judge_block(&other_body), REJECTED_DECODED, "not the body that the header commits to");
    let by_another = Block::from_parts(good.header().sign(&producer(1)), Vec::new());
    assert_eq!(bench.judge_block(&by_another), BADLY_SIGNED);
    assert_eq!(bench.judge_block(&block(&genesis, &start, 52, Vec::new())), IGNORED, "from the future");
    assert_eq!(bench.judge_block(&block(&genesis, &start, 3, Vec::new())), IGNORED, "long past");
    assert_eq!(bench.judge_block(&misplaced(&good, |header| header.height = 2)), USELESS, "the height does not follow");
    assert_eq!(bench.judge_block(&good), ACCEPTED);
    assert_eq!(bench.node.chain().head(), Position::of(&good));
    let before_parent = block(&genesis, &Position { slot: 40, ..Position::of(&good) }, 47, Vec::new());
    assert_eq!(
        bench.judge_block(&before_parent),
        USELESS,
        "the slot is not after the parent's, and its producer signed that"
    );
}

/// The lowest byte of the height in an encoded block.
const HEIGHT_AT: usize = 40;

/// A producer gives a block to some nodes, and one that cannot follow it to the others, who cannot know. They pass it on.
#[test]
fn nobody_is_blamed_for_what_only_the_parent_tells() {
    let genesis = genesis(1);
    let [mut lacks_it, mut has_it] = [(); 2].map(|()| Bench::new(&genesis));
    let parent = block(&genesis, &origin(&genesis), 3, Vec::new());
    let same_slot = block(&genesis, &Position { height: 1, ..Position::of(&parent) }, 3, Vec::new());
    for bench in [&mut lacks_it, &mut has_it] {
        bench.run_to_slot(3);
    }
    assert_eq!(lacks_it.judge_block(&same_slot), ACCEPTED);
    assert_eq!(has_it.judge_block(&parent), ACCEPTED);
    // Whoever makes such a block up has no signature for it.
    let mut forged = same_slot.bytes().to_vec();
    forged[HEIGHT_AT] += 1;
    assert_eq!(has_it.judge(&genesis.block_topic().clone(), &forged), BADLY_SIGNED);
    assert_eq!(has_it.judge_block(&same_slot), USELESS);
    let invalid = |output: &Output| matches!(output, Output::Event(Event::Chain(chain::Event::Invalid { .. })));
    assert!(has_it.out.iter().any(invalid), "it is remembered against the block");
}

#[test]
fn a_block_with_a_bad_transaction_is_passed_on_but_not_adopted_and_its_relay_is_not_blamed() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let listener = bench.connect();
    bench.run_to_slot(3);
    let bad = [
        block(&genesis, &origin(&genesis), 1, vec![spoilt(&transaction(&genesis, 1, 0, 10))]),
        block(&genesis, &origin(&genesis), 2, vec![transaction(&genesis, 1, 0, 1)]),
        block(&genesis, &origin(&genesis), 3, vec![transaction(&genesis, 1, 7, 10), transaction(&genesis, 1, 7, 11)]),
    ];
    for block in &bad {
        assert_eq!(bench.judge_block(block), ACCEPTED, "{block:?}");
        assert_eq!(bench.sent_to(block.bytes()), [listener]);
        assert_eq!(bench.node.chain().head().height, 0);
        let invalid = |output: &Output| matches!(output, Output::Event(Event::Chain(chain::Event::Invalid { .. })));
        assert!(bench.out.iter().any(invalid), "{block:?} is found invalid");
    }
    bench.run_to_slot(4);
    let child = block(&genesis, &Position::of(&bad[0]), 4, Vec::new());
    assert_eq!(bench.judge_block(&child), IGNORED, "it follows an invalid block");
    let good = block(&genesis, &origin(&genesis), 4, Vec::new());
    assert_eq!(bench.judge_block(&good), ACCEPTED);
    assert_eq!(bench.node.chain().head().height, 1);
}

#[test]
fn two_blocks_for_a_slot_are_evidence_and_a_third_is_not_passed_on() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    bench.run_to_slot(2);
    let twins: Vec<Block> = (0..3)
        .map(|sender| block(&genesis, &origin(&genesis), 2, vec![transaction(&genesis, sender, 0, 10)]))
        .collect();
    assert_eq!(bench.judge_block(&twins[0]), ACCEPTED);
    assert_eq!(bench.judge_block(&twins[1]), ACCEPTED);
    let evidence = bench.out.iter().find_map(|output| match output {
        Output::Event(Event::Chain(chain::Event::Equivocation { headers })) => Some(headers.clone()),
        _ => None,
    });
    assert_eq!(evidence.map(|headers| headers.map(|signed| signed.header.id())), Some([twins[0].id(), twins[1].id()]));
    assert_eq!(bench.judge_block(&twins[2]), IGNORED);
    // All nodes that saw the two choose the same.
    let lowest = twins[..2].iter().map(Block::id).min();
    assert_eq!(Some(bench.node.chain().head().id), lowest);
    bench.run(Duration::from_secs(1));
}

#[test]
fn whether_the_chain_is_complete_is_not_known_until_a_peer_has_told() {
    let genesis = genesis(1);
    let mut bench = Bench::new(&genesis);
    let unheard = |bench: &Bench| bench.node.sync_progress(bench.now).unheard;
    assert!(!unheard(&bench), "nobody is there to tell");
    bench.connect();
    assert!(unheard(&bench));
    // One that does not speak of blocks at all, or has not got to it so far.
    for attempt in 1..=4 {
        let (asked, _, request) = bench.requests().pop().expect("it is asked how it stands");
        assert!(matches!(request, Request::Status(_)));
        assert!(unheard(&bench), "attempt {attempt}");
        bench.out.clear();
        bench.input(Input::Response { ticket: asked, body: None });
        assert_eq!(bench.requests(), [], "not at once");
        bench.run(Duration::from_secs(4));
    }
    assert!(!unheard(&bench), "it will not tell");
    bench.connect();
    assert!(unheard(&bench), "the second may know");
    let (second, _, request) = bench.requests().pop().expect("so is the second");
    assert!(matches!(request, Request::Status(_)));
    let body = response(&genesis, &origin(&genesis), Answer::Status);
    bench.input(Input::Response { ticket: second, body: Some(body) });
    bench.connect();
    assert!(!unheard(&bench), "one has told, whatever others will say");
}

/// Anybody can make transactions; to give blocks one has to pass on the chain.
#[test]
fn transactions_do_not_hide_that_there_are_no_blocks_any_more() {
    for with_block in [false, true] {
        let genesis = genesis(3);
        let mut bench = Bench::new(&genesis);
        bench.run_to_slot(1);
        if with_block {
            let first = block(&genesis, &origin(&genesis), 1, Vec::new());
            assert_eq!(bench.judge_block(&first), ACCEPTED);
        }
        for number in 1..=20 {
            bench.run_to_slot(1 + 2 * u64::from(number));
            let sent = transaction(&genesis, number, 0, 10 + 2 * u64::from(number));
            assert_eq!(bench.judge_transaction(&sent), ACCEPTED);
        }
        assert_eq!(bench.node.silent_slots(bench.now).is_some(), with_block);
    }
}
