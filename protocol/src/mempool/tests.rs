use super::*;
use crate::genesis::{GenesisParameters, Limits};
use starling_crypto::SecretKey;

const NEVER: u64 = 100;

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

fn genesis() -> Genesis {
    Genesis::new(GenesisParameters {
        name: "mempool".into(),
        start_time_ms: 0,
        slot_ms: 1_000,
        producers: vec![key(200).public_key().to_bytes()],
        limits: Limits { expiry_slots_max: NEVER, nonce_window: 8, ..Limits::default() },
        stamp_bits: 0,
    })
    .expect("a valid genesis")
}

fn transaction_expiring(sender: u8, nonce: u64, expiry_slot: u64, payload: &[u8]) -> Transaction {
    crate::transaction::TransactionBuilder::new(&genesis(), expiry_slot)
        .nonce(nonce)
        .payload(payload)
        .build(&key(sender))
        .expect("a valid transaction")
}

fn transaction(sender: u8, nonce: u64) -> Transaction {
    transaction_expiring(sender, nonce, NEVER, b"")
}

fn pool(config: Config) -> Mempool {
    Mempool::new(config, &genesis(), Stream::from_seed([9; 32]))
}

fn block(transactions: Vec<Transaction>) -> Block {
    Block::produce(&genesis(), &key(200), (1, 1, genesis().block_id()), transactions).expect("a valid block")
}

fn ids(transactions: &[Transaction]) -> Vec<TransactionId> {
    transactions.iter().map(Transaction::id).collect()
}

#[test]
fn nonce_order_without_gaps_whatever_the_order_of_arrival() {
    let mut pool = pool(Config::default());
    for nonce in [3, 1, 0, 5, 2] {
        pool.insert(transaction(1, nonce), Source::Local, Some(0), 0).expect("room");
        pool.check();
    }
    let selected = pool.select(10, usize::MAX, 0, |_| Some(0));
    assert_eq!(selected.iter().map(Transaction::nonce).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(pool.stats(), Stats { transactions: 5, future: 1, bytes: 5 * selected[0].encoded_len(), senders: 1 });
    assert_eq!(pool.status(&transaction(1, 5).id()), Some(Status::Pending { executable: false }));
    assert_eq!(pool.status(&transaction(1, 3).id()), Some(Status::Pending { executable: true }));
    assert_eq!(pool.next_free_nonce(&transaction(1, 0).sender(), Some(0)), 4);
}

#[test]
fn senders_take_turns_and_the_longest_waiting_goes_first() {
    let mut pool = pool(Config::default());
    for (sender, nonce) in [(1, 0), (1, 1), (1, 2), (2, 0), (3, 0), (2, 1)] {
        pool.insert(transaction(sender, nonce), Source::Local, Some(0), 0).expect("room");
    }
    let selected = pool.select(5, usize::MAX, 0, |_| Some(0));
    let expected = [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)].map(|(sender, nonce)| transaction(sender, nonce).id());
    assert_eq!(ids(&selected), expected);
    let two = 2 * transaction(1, 0).encoded_len();
    assert_eq!(pool.select(5, two + 1, 0, |_| Some(0)).len(), 2, "the byte limit holds");
}

#[test]
fn a_transaction_that_does_not_fit_ends_its_senders_part_only() {
    let mut pool = pool(Config::default());
    let large = transaction_expiring(1, 0, NEVER, &[0; 5_000]);
    let limit = large.encoded_len() - 1;
    pool.insert(large, Source::Local, Some(0), 0).expect("room");
    pool.insert(transaction(1, 1), Source::Local, Some(0), 0).expect("room");
    pool.insert(transaction(2, 0), Source::Local, Some(0), 0).expect("room");
    assert_eq!(ids(&pool.select(9, limit, 0, |_| Some(0))), [transaction(2, 0).id()]);
}

#[test]
fn each_refusal_names_the_cause() {
    let mut pool = pool(Config { sender_transactions_max: 3, ..Config::default() });
    let tell = |pool: &Mempool, transaction: &Transaction, next, slot| {
        let error = pool.precheck(transaction, next, slot).expect_err("refused");
        (error.to_string(), error.fault())
    };
    pool.insert(transaction(1, 4), Source::Local, Some(4), 0).expect("room");
    let cases = [
        (transaction(1, 4), Some(4), 0, "in the pool already", Fault::Nobody),
        (transaction_expiring(1, 5, 9, b""), Some(4), 10, "expired at the end of slot 9", Fault::Nobody),
        (transaction_expiring(1, 5, NEVER + 2, b""), Some(4), 0, "latest allowed now is 100", Fault::Nobody),
        (transaction_expiring(1, 5, NEVER + 3, b""), Some(4), 0, "latest allowed now is 100", Fault::Peer),
        (transaction(1, 3), Some(4), 0, "next one is 4", Fault::Nobody),
        (transaction(1, 12), Some(4), 0, "nonces 4 to 11", Fault::Nobody),
        (transaction(1, u64::MAX), None, 0, "never valid", Fault::Nobody),
        (transaction_expiring(1, 4, NEVER, b"other"), Some(4), 0, "use nonce 5", Fault::Nobody),
    ];
    for (transaction, next, slot, words, fault) in cases {
        let told = tell(&pool, &transaction, next, slot);
        assert!(told.0.contains(words), "{told:?} says {words}");
        assert_eq!(told.1, fault, "{told:?}");
    }
    pool.insert(transaction(1, 11), Source::Local, Some(4), 0).expect("the last of the window");
    pool.insert(transaction(1, 5), Source::Local, Some(4), 0).expect("room");
    assert!(tell(&pool, &transaction(1, 6), Some(4), 0).0.contains("has 3 transactions"));
    pool.check();
}

#[test]
fn a_sender_unknown_to_the_chain_may_begin_anywhere_within_one_window() {
    let mut pool = pool(Config::default());
    let sender = transaction(1, 0).sender();
    pool.insert(transaction(1, 17), Source::Local, None, 5).expect("any nonce may be the first");
    pool.insert(transaction(1, 10), Source::Local, None, 5).expect("the window moves down");
    let error = pool.insert(transaction(1, 9), Source::Local, None, 5).expect_err("too far below 17");
    assert_eq!(error, MempoolError::NonceGap { nonce: 9, first: 10, last: 17 });
    // The first nonce waits for a whole slot, in case that a lower one is on its way.
    assert_eq!(pool.select(9, usize::MAX, 6, |_| None), []);
    assert_eq!(ids(&pool.select(9, usize::MAX, 7, |_| None)), [transaction(1, 10).id()]);
    pool.insert(transaction(2, 0), Source::Local, None, 6).expect("room");
    assert_eq!(ids(&pool.select(9, usize::MAX, 6, |_| None)), [transaction(2, 0).id()], "nothing can precede 0");
    assert_eq!(pool.next_free_nonce(&sender, None), 11);
    pool.check();
}

#[test]
fn future_transactions_make_room_and_never_take_it_from_executable_ones() {
    let mut pool = pool(Config { transactions_max: 3, ..Config::default() });
    pool.insert(transaction(1, 0), Source::Local, Some(0), 0).expect("room");
    pool.insert(transaction(2, 0), Source::Local, Some(0), 0).expect("room");
    pool.insert(transaction(3, 5), Source::Local, Some(0), 0).expect("room");
    let error = pool.insert(transaction(4, 5), Source::Local, Some(0), 0).expect_err("an equal does not push out");
    assert!(matches!(error, MempoolError::Full { count: 3, .. }), "{error:?}");
    let inserted = pool.insert(transaction(4, 0), Source::Local, Some(0), 0).expect("pushes the future one out");
    assert_eq!(inserted, Inserted { executable: true, evicted: vec![transaction(3, 5).id()] });
    assert_eq!(pool.status(&transaction(3, 5).id()), Some(Status::Evicted));
    let error = pool.insert(transaction(5, 1), Source::Local, Some(0), 0).expect_err("future");
    assert!(error.to_string().contains("full with 3 transactions"), "{error}");
    pool.check();
}

#[test]
fn whoever_has_most_gives_way_to_whoever_has_least() {
    let mut pool = pool(Config { transactions_max: 3, ..Config::default() });
    for nonce in 0..3 {
        pool.insert(transaction(1, nonce), Source::Local, Some(0), 0).expect("room");
    }
    let inserted = pool.insert(transaction(2, 0), Source::Local, Some(0), 0).expect("a fair share");
    assert_eq!(inserted.evicted, [transaction(1, 2).id()]);
    // Now 2 to 1; a third sender still gets a place, a second one of the second sender does not.
    pool.insert(transaction(2, 1), Source::Local, Some(0), 0).expect_err("would only turn the shares round");
    pool.insert(transaction(3, 0), Source::Local, Some(0), 0).expect("a fair share");
    pool.insert(transaction(4, 0), Source::Local, Some(0), 0).expect_err("all have one");
    pool.check();
}

/// Where places are scarce, many small ones weigh more than a few large ones.
#[test]
fn many_small_transactions_give_way_to_a_few_large_ones() {
    let large = |nonce| transaction_expiring(2, nonce, NEVER, &[0; 900]);
    let mut pool = pool(Config { transactions_max: 8, bytes_max: 8 * 2_048, ..Config::default() });
    for nonce in 0..2 {
        pool.insert(large(nonce), Source::Local, Some(0), 0).expect("room");
    }
    for nonce in 0..6 {
        pool.insert(transaction(1, nonce), Source::Local, Some(0), 0).expect("room");
    }
    assert!(2 * large(0).encoded_len() > 6 * transaction(1, 0).encoded_len(), "the large ones have more bytes");
    let inserted = pool.insert(large(2), Source::Local, Some(0), 0).expect("a fair share");
    assert_eq!(inserted.evicted, [transaction(1, 5).id()]);
    pool.check();
}

#[test]
fn the_byte_bound_holds() {
    let room_for_two = 2 * (transaction(1, 0).encoded_len() + OVERHEAD_BYTES);
    let mut pool = pool(Config { bytes_max: room_for_two, ..Config::default() });
    pool.insert(transaction(1, 0), Source::Local, Some(0), 0).expect("room");
    pool.insert(transaction(1, 1), Source::Local, Some(0), 0).expect("room");
    pool.insert(transaction(1, 2), Source::Local, Some(0), 0).expect_err("no room");
    pool.check();
    assert_eq!(pool.len(), 2);
}

#[test]
fn a_block_takes_included_and_superseded_transactions_along() {
    let mut pool = pool(Config::default());
    for (sender, nonce) in [(1, 0), (1, 1), (1, 2), (2, 0)] {
        pool.insert(transaction(sender, nonce), Source::Local, Some(0), 0).expect("room");
    }
    let other = transaction_expiring(1, 1, NEVER, b"other");
    let adopted = block(vec![transaction(1, 0), other]);
    let one = transaction(1, 0).sender();
    let next = |account: &Account| Some(if *account == one { 2 } else { 0 });
    let settled = pool.on_head_changed(&[], std::slice::from_ref(&adopted), 1, next);
    assert_eq!(settled, Settled { superseded: 1, ..Settled::default() });
    assert_eq!(pool.status(&transaction(1, 0).id()), None, "the chain knows");
    assert_eq!(pool.status(&transaction(1, 1).id()), Some(Status::Superseded));
    assert_eq!(ids(&pool.select(9, usize::MAX, 1, next)), [transaction(1, 2).id(), transaction(2, 0).id()]);
    pool.check();

    // The block is undone: its transactions come back, but not those that the new one includes.
    let settled = pool
        .on_head_changed(&[adopted], &[block(vec![transaction(1, 0)])], 1, |account| Some(u64::from(*account == one)));
    assert_eq!(settled, Settled { returned: 1, ..Settled::default() });
    assert_eq!(pool.get_by_nonce(&one, 1).map(Transaction::payload), Some(&b"other"[..]));
    assert_eq!(pool.source(&pool.get_by_nonce(&one, 1).expect("is back").id()), Some(Source::Reorganisation));
    pool.check();
}

#[test]
fn expired_transactions_go_and_are_remembered_for_a_while() {
    let mut pool = pool(Config { outcomes_max: 2, ..Config::default() });
    for sender in 1..=3 {
        pool.insert(transaction_expiring(sender, 0, 9 + u64::from(sender), b""), Source::Local, Some(0), 0)
            .expect("room");
    }
    assert_eq!(pool.expire(10), 0, "the expiry slot itself is still good");
    assert_eq!(pool.expire(13), 3);
    assert!(pool.is_empty());
    let status = |sender: u8| pool.status(&transaction_expiring(sender, 0, 9 + u64::from(sender), b"").id());
    assert_eq!([status(1), status(2), status(3)], [None, Some(Status::Expired), Some(Status::Expired)]);
    pool.check();
}

#[test]
fn an_expired_transaction_is_not_selected_and_stops_its_sender() {
    let mut pool = pool(Config::default());
    pool.insert(transaction_expiring(1, 0, 5, b""), Source::Local, Some(0), 0).expect("room");
    pool.insert(transaction(1, 1), Source::Local, Some(0), 0).expect("room");
    assert_eq!(pool.select(9, usize::MAX, 6, |_| Some(0)), []);
    assert_eq!(pool.expire(6), 1);
    assert_eq!(pool.stats().future, 1, "the gap makes the other one wait");
    pool.check();
}

#[test]
fn changes_are_recorded_for_whoever_asks_and_only_then() {
    let mut pool = pool(Config { transactions_max: 3, ..Config::default() });
    pool.insert(transaction_expiring(9, 0, 4, b""), Source::Local, Some(0), 0).expect("room");
    assert_eq!(pool.take_changes(), [], "nobody has asked");
    pool.record_changes(true);
    for (sender, nonce) in [(1, 0), (1, 1)] {
        pool.insert(transaction(sender, nonce), Source::Local, Some(0), 0).expect("room");
    }
    let seen = |pool: &mut Mempool| -> Vec<_> {
        pool.take_changes().iter().map(|change| (change.id, change.nonce, change.status)).collect()
    };
    let pending = Status::Pending { executable: false };
    let one = |nonce| transaction(1, nonce).id();
    assert_eq!(seen(&mut pool), [(one(0), 0, pending), (one(1), 1, pending)]);

    // One that is turned away for want of room leaves no trace; one that makes room for another does.
    pool.insert(transaction(1, 2), Source::Local, Some(0), 0).expect_err("no room");
    assert_eq!(seen(&mut pool), []);
    pool.insert(transaction(2, 0), Source::Local, Some(0), 0).expect("room");
    let two = transaction(2, 0).id();
    assert_eq!(seen(&mut pool), [(two, 0, pending), (one(1), 1, Status::Evicted)]);

    let sender = transaction(1, 0).sender();
    let other = block(vec![transaction_expiring(1, 0, NEVER, b"other")]);
    pool.on_head_changed(&[], &[other], 5, |account| Some(u64::from(*account == sender)));
    let late = transaction_expiring(9, 0, 4, b"").id();
    assert_eq!(seen(&mut pool), [(one(0), 0, Status::Superseded), (late, 0, Status::Expired)]);
    pool.record_changes(false);
    pool.expire(NEVER + 1);
    assert_eq!(pool.take_changes(), []);
    pool.check();
}

#[test]
fn pages_follow_on_one_another_in_the_order_of_ids() {
    let mut pool = pool(Config::default());
    for sender in 1..=5 {
        pool.insert(transaction(sender, 0), Source::Local, Some(0), u64::from(sender)).expect("room");
    }
    let all: Vec<_> = pool.iter().map(Transaction::id).collect();
    let first: Vec<_> = pool.page(None).take(2).map(|(transaction, _)| transaction.id()).collect();
    let rest: Vec<_> = pool.page(first.last()).map(|(transaction, _)| transaction.id()).collect();
    assert_eq!([first, rest].concat(), all);
    let (found, arrived) = pool.page(None).next().expect("five");
    assert_eq!(transaction(u8::try_from(arrived).expect("small"), 0).id(), found.id());
}

#[test]
fn a_message_is_kept_with_its_transaction_or_made_once() {
    let mut pool = pool(Config::default());
    let topic = crate::id::Topic::new("transactions");
    let make = |transaction: &Transaction| Payload::new(&topic, transaction.bytes());
    let [first, second, third] = [3, 2, 1].map(|sender| transaction(sender, 0));
    let came = make(&second);
    pool.insert(first, Source::Local, Some(0), 0).expect("room");
    let candidate = Candidate { transaction: second, message: Some(Arc::clone(&came)) };
    pool.insert(candidate, Source::Local, Some(0), 0).expect("room");
    pool.insert(third.clone(), Source::Local, Some(0), 0).expect("room");
    let youngest = pool.youngest(2, make);
    let expected = [came.id(), make(&third).id()];
    assert_eq!(youngest.iter().map(|message| message.id()).collect::<Vec<_>>(), expected, "in the order of coming");
    assert!(Arc::ptr_eq(&youngest[0], &came), "the one that it came in");
    let again = pool.message(&third.id(), |_| unreachable!("it was made before")).expect("it is here");
    assert!(Arc::ptr_eq(&youngest[1], &again));
    assert!(pool.message(&transaction(4, 0).id(), make).is_none());
}

#[test]
fn what_expires_goes_in_the_order_of_ids_and_once_even_where_its_place_was_used_before() {
    let mut pool = pool(Config::default());
    let included = transaction_expiring(9, 0, 5, b"");
    pool.insert(included.clone(), Source::Local, Some(0), 0).expect("room");
    pool.on_head_changed(&[], &[block(vec![included])], 1, |_| Some(1));
    pool.record_changes(true);
    let mut expected: Vec<TransactionId> = (1..6).map(|sender| transaction_expiring(sender, 0, 5, b"").id()).collect();
    for sender in 1..6 {
        pool.insert(transaction_expiring(sender, 0, 5, b""), Source::Local, Some(0), 1).expect("room");
    }
    pool.insert(transaction_expiring(6, 0, 6, b""), Source::Local, Some(0), 1).expect("room");
    pool.take_changes();
    assert_eq!(pool.expire(6), expected.len());
    expected.sort_unstable();
    let gone: Vec<TransactionId> = pool.take_changes().into_iter().map(|change| change.id).collect();
    assert_eq!(gone, expected);
    assert_eq!(pool.len(), 1);
    pool.check();
}

/// Places are used again, so that their order is not that of arrival.
#[test]
fn what_came_first_comes_first_even_where_its_place_was_used_before() {
    let mut pool = pool(Config::default());
    pool.insert(transaction(1, 0), Source::Local, Some(0), 0).expect("room");
    pool.insert(transaction(2, 0), Source::Local, Some(0), 0).expect("room");
    // The first of the sender has been included meanwhile, and the place is free.
    pool.insert(transaction(1, 1), Source::Local, Some(1), 0).expect("room");
    pool.check();
    let expected = [transaction(2, 0).id(), transaction(1, 1).id()];
    assert_eq!(pool.by_arrival().into_iter().map(Transaction::id).collect::<Vec<_>>(), expected);
    let topic = crate::id::Topic::new("transactions");
    let make = |transaction: &Transaction| Payload::new(&topic, &transaction.id().as_bytes()[..]);
    let youngest: Vec<_> = pool.youngest(1, make).iter().map(|payload| payload.data().to_vec()).collect();
    assert_eq!(youngest, [expected[1].as_bytes().to_vec()]);
}

#[test]
fn what_may_not_come_back_from_an_undone_block_is_remembered() {
    let mut pool = pool(Config::default());
    let undone = transaction(1, 0);
    let settled = pool.on_head_changed(&[block(vec![undone.clone()])], &[], 0, |_| Some(1));
    assert_eq!((settled.refused, settled.returned, pool.len()), (1, 0, 0));
    assert_eq!(pool.status(&undone.id()), Some(Status::Superseded));
}
