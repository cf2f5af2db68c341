//! Payloads that the node signs itself, and stamps where the network asks for that.

use crate::bench::Bench;
use crate::support::*;
use starling_protocol::genesis::Genesis;
use starling_protocol::node::{Input, SubmitError};
use starling_protocol::transaction::{TransactionBuilder, TransactionError};
use starling_protocol::verify::{Job, Outcome};

/// Rarely found by the first job, but soon.
const BITS: u8 = 15;

fn stamped() -> Genesis {
    genesis_with(1, |parameters| parameters.stamp_bits = BITS)
}

#[test]
fn payloads_submitted_together_get_different_nonces_and_valid_stamps() {
    let mut bench = Bench::new(&stamped());
    let tickets: Vec<_> = (0..5_u8).map(|number| bench.publish(&[number; 10])).collect();
    assert!(bench.out.iter().all(|output| !format!("{output:?}").contains("SubmitResult")), "nothing is stamped yet");
    assert_eq!(bench.jobs.len(), 1, "one stamp is sought at a time");
    bench.work();
    for (nonce, ticket) in (0..).zip(tickets) {
        let submitted = bench.answer(ticket).expect("an answer").expect("is taken in");
        assert_eq!(submitted.nonce, nonce);
        let transaction = bench.node.mempool().get(&submitted.id).expect("waits");
        assert_eq!(transaction.check(&bench.genesis), Ok(()));
        assert_eq!(transaction.verify_signature(), Ok(()));
        assert_eq!(transaction.payload(), [u8::try_from(nonce).expect("small"); 10]);
    }
    assert_eq!(bench.node.under_way(), Default::default());
}

#[test]
fn without_stamps_payloads_are_signed_at_once() {
    let mut bench = Bench::new(&genesis(1));
    for nonce in 0..3 {
        let ticket = bench.publish(b"now");
        assert_eq!(bench.answer(ticket).expect("an answer").expect("is taken in").nonce, nonce);
    }
    assert!(bench.jobs.is_empty());
}

#[test]
fn a_search_goes_on_in_small_jobs_and_ends() {
    let mut bench = Bench::new(&stamped());
    let ticket = bench.publish(b"no luck");
    let mut jobs = 0;
    while let Some((job_ticket, job)) = bench.jobs.pop() {
        assert!(matches!(job, Job::Stamp { .. }));
        jobs += 1;
        bench.input(Input::Verified { ticket: job_ticket, outcome: Outcome::Stamp(None) });
    }
    assert_eq!(jobs, (64 << BITS) / starling_protocol::verify::STAMP_TRIES);
    let error = bench.answer(ticket).expect("an answer").expect_err("no stamp was found");
    assert!(matches!(error, SubmitError::Transaction(TransactionError::StampNotFound { needed: 15, .. })), "{error}");
    assert_eq!(bench.node.under_way(), Default::default());
}

#[test]
fn a_nonce_used_elsewhere_meanwhile_begins_the_search_again() {
    let mut bench = Bench::new(&stamped());
    let ticket = bench.publish(b"mine");
    let elsewhere = TransactionBuilder::new(&bench.genesis, 10).payload(*b"elsewhere").build(&key(100)).expect("valid");
    let searching = std::mem::take(&mut bench.jobs);
    let other = bench.submit(&elsewhere);
    bench.work();
    assert_eq!(bench.answer(other).expect("an answer").expect("is taken in").nonce, 0);
    bench.jobs = searching;
    bench.work();
    assert_eq!(bench.answer(ticket).expect("an answer").expect("is taken in").nonce, 1);
}

#[test]
fn waiting_payloads_are_bounded_and_each_is_answered() {
    let mut bench = Bench::new(&stamped());
    let tickets: Vec<_> = (0..70_u8).map(|number| bench.publish(&[number])).collect();
    let refused = |bench: &Bench| tickets.iter().filter_map(|ticket| bench.answer(*ticket)).collect::<Vec<_>>();
    assert_eq!(refused(&bench), vec![Err(SubmitError::Overloaded); 6], "64 may wait");
    // The workers shed the search; the others go on.
    bench.shed();
    assert_eq!(bench.answer(tickets[0]), Some(Err(SubmitError::Overloaded)));
    assert_eq!(bench.jobs.len(), 1);
    let too_long = bench.publish(&[0; 5 << 10]);
    let error = bench.answer(too_long).expect("at once").expect_err("is too long");
    assert!(matches!(error, SubmitError::Transaction(TransactionError::PayloadTooLong { .. })), "{error}");
}

#[test]
fn nothing_is_searched_for_what_cannot_be_taken_in() {
    let mut bench = Bench::with(&stamped(), |parts| parts.config.mempool.sender_transactions_max = 1);
    let first = bench.publish(b"first");
    bench.work();
    assert!(bench.answer(first).expect("an answer").is_ok());
    let second = bench.publish(b"second");
    assert!(bench.jobs.is_empty());
    let error = bench.answer(second).expect("at once").expect_err("one at a time").to_string();
    assert!(error.contains("wait until some are included"), "{error}");
}

#[test]
fn without_a_key_the_remedy_is_named() {
    let mut bench = Bench::with(&genesis(1), |parts| parts.account = None);
    let ticket = bench.publish(b"anything");
    assert_eq!(bench.answer(ticket), Some(Err(SubmitError::NoAccountKey)));
}
