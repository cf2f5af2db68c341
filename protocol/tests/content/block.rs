use super::{key, network, parameters, transaction};
use proptest::prelude::*;
use starling_crypto::{Digest, SecretKey, SignatureError};
use starling_protocol::block::{BLOCK_OVERHEAD_BYTES, Block, BlockError, BodyError, Header};
use starling_protocol::codec::CodecError;
use starling_protocol::genesis::{Genesis, GenesisParameters};
use starling_protocol::id::NetworkId;
use starling_protocol::transaction::{Transaction, TransactionBody, TransactionBuilder, TransactionError};
use starling_protocol::verify::{Job, Outcome};

/// A valid block of slot 3 with `count` transactions.
fn block(genesis: &Genesis, count: u64) -> Block {
    let transactions = (0..count).map(|nonce| transaction(genesis, nonce)).collect();
    with(genesis, transactions)
}

/// The block of slot 3 with these transactions.
fn with(genesis: &Genesis, transactions: Vec<Transaction>) -> Block {
    let position = (3, 1, genesis.block_id());
    Block::produce(genesis, &key(2), position, transactions).expect("slot 3 is key 2's")
}

/// The block with its header changed and signed anew by `key`.
fn changed(block: &Block, key: &SecretKey, change: impl FnOnce(&mut Header)) -> Block {
    let mut header = *block.header();
    change(&mut header);
    Block::from_parts(header.sign(key), block.transactions().to_vec())
}

fn received(block: &Block) -> Result<Block, BlockError> {
    let genesis = network();
    let block = Block::decode(block.bytes().clone(), &genesis)?;
    block.verify_header_signature(&genesis)?;
    Ok(block)
}

#[test]
fn it_arrives_as_it_was_made() {
    let genesis = network();
    for count in 0..=4 {
        let made = block(&genesis, count);
        let received = received(&made).unwrap();
        assert_eq!(received, made);
        assert_eq!((received.id(), received.signed_header()), (made.id(), made.signed_header()));
        assert_eq!(received.transactions(), made.transactions());
        assert_eq!(received.verify_bodies(&genesis), Ok(()));
        let bodies: usize = received.transactions().iter().map(Transaction::encoded_len).sum();
        assert_eq!(received.encoded_len(), BLOCK_OVERHEAD_BYTES + bodies);
        for (one, other) in received.transactions().iter().zip(made.transactions()) {
            assert_eq!((one.id(), one.payload()), (other.id(), other.payload()));
        }
    }
}

#[test]
fn one_of_another_network_is_refused() {
    let other = Genesis::new(GenesisParameters { name: "other".into(), ..parameters() }).unwrap();
    let (found, expected) = (other.network_id(), network().network_id());
    assert_eq!(received(&block(&other, 1)), Err(BlockError::Network { found, expected }));
}

#[test]
fn only_the_producer_of_the_slot_makes_its_block() {
    let genesis = network();
    let [first, second, stranger] = [key(1), key(2), key(9)];
    let bytes = |key: &SecretKey| key.public_key().to_bytes();
    let out_of_turn =
        |found: &SecretKey| Err(BlockError::OutOfTurn { slot: 3, found: bytes(found), expected: bytes(&second) });
    let valid = block(&genesis, 1);
    for other in [&first, &stranger] {
        let taken = changed(&valid, other, |header| header.producer = bytes(other));
        assert_eq!(received(&taken), out_of_turn(other));
        let position = (3, 1, genesis.block_id());
        assert_eq!(Block::produce(&genesis, other, position, vec![]), out_of_turn(other));
        // Naming the right producer and signing oneself is no better.
        let posing = changed(&valid, other, |_| {});
        assert_eq!(received(&posing), Err(BlockError::Signature(SignatureError)));
    }
    let next = changed(&valid, &first, |header| (header.slot, header.producer) = (4, bytes(&first)));
    assert_eq!(received(&next).map(|block| block.header().slot), Ok(4));
}

#[test]
fn impossible_positions_are_refused() {
    let genesis = network();
    let valid = block(&genesis, 0);
    let placed = |slot: u64, height: u64| {
        received(&changed(&valid, &key(2), |header| (header.slot, header.height) = (slot, height)))
    };
    assert_eq!(placed(3, 0), Err(BlockError::Position { slot: 3, height: 0 }));
    assert_eq!(placed(3, 4), Err(BlockError::Position { slot: 3, height: 4 }));
    assert!(placed(3, 3).is_ok() && placed(u64::MAX, u64::MAX).is_ok());
    let produced = Block::produce(&genesis, &key(2), (1, 2, genesis.block_id()), vec![]);
    assert_eq!(produced, Err(BlockError::Position { slot: 1, height: 2 }));
}

#[test]
fn transactions_and_bytes_are_limited() {
    let genesis = network();
    let five: Vec<_> = (0..5).map(|nonce| transaction(&genesis, nonce)).collect();
    let too_many = Err(BlockError::TooManyTransactions { found: 5, max: 4 });
    let position = (3, 1, genesis.block_id());
    assert_eq!(Block::produce(&genesis, &key(2), position, five), too_many);
    let small = block(&genesis, 0);
    let overfull = changed(&small, &key(2), |header| header.transaction_count = 5);
    assert_eq!(received(&overfull), too_many);

    let long = |nonce| TransactionBuilder::new(&genesis, 12).nonce(nonce).payload([0; 100]).build(&key(9)).unwrap();
    let found = BLOCK_OVERHEAD_BYTES + 4 * 260;
    let too_long = Err(BlockError::TooLong { found, max: 1_000 });
    let four: Vec<_> = (0..4).map(long).collect();
    assert_eq!(Block::produce(&genesis, &key(2), position, four.clone()), too_long);
    assert_eq!(received(&Block::from_parts(*small.signed_header(), four)), too_long);
}

#[test]
fn the_body_must_be_the_one_of_the_header() {
    let genesis = network();
    let valid = block(&genesis, 2);
    let exchanged = |transactions: Vec<Transaction>| received(&Block::from_parts(*valid.signed_header(), transactions));
    let [first, second] = [valid.transactions()[0].clone(), valid.transactions()[1].clone()];
    assert_eq!(exchanged(vec![first.clone()]), Err(BlockError::Count { header: 2, body: 1 }));
    let three = vec![first.clone(), second.clone(), second.clone()];
    assert_eq!(exchanged(three), Err(BlockError::Count { header: 2, body: 3 }));
    assert!(matches!(exchanged(vec![second.clone(), first.clone()]), Err(BlockError::Root { .. })));
    assert!(matches!(exchanged(vec![first.clone(), transaction(&genesis, 7)]), Err(BlockError::Root { .. })));
    // A relay that spoils a transaction's signature breaks the root, and so takes the blame itself.
    let mut parts = second.to_parts();
    parts.signature.0[40] ^= 1;
    let spoilt = Transaction::from_parts(parts);
    assert_eq!(spoilt.id(), second.id());
    assert!(matches!(exchanged(vec![first, spoilt]), Err(BlockError::Root { .. })));
    let rerooted = changed(&valid, &key(2), |header| header.transaction_root = Digest::ZERO);
    let body = valid.header().transaction_root;
    assert_eq!(received(&rerooted), Err(BlockError::Root { header: Digest::ZERO, body }));
}

type IsExpected = fn(&TransactionError) -> bool;

#[test]
fn a_bad_transaction_is_the_producers_fault() {
    let genesis = network();
    let good = transaction(&genesis, 0);
    let resigned = |change: &dyn Fn(&mut TransactionBody)| {
        let mut body = transaction(&genesis, 1).to_parts().body;
        change(&mut body);
        body.grind_stamp(4, 64 << 4).unwrap();
        body.sign(&key(9))
    };
    let other_network = NetworkId(Digest([5; 32]));
    let cases: [(Transaction, IsExpected); 5] = [
        (resigned(&|body| body.expiry_slot = 2), |error| matches!(error, TransactionError::Expired { slot: 3, .. })),
        (resigned(&|body| body.expiry_slot = 14), |error| matches!(error, TransactionError::ExpiryTooFar { .. })),
        (resigned(&|body| body.network = other_network), |error| matches!(error, TransactionError::Network { .. })),
        (resigned(&|body| body.payload = vec![0; 101]), |error| {
            matches!(error, TransactionError::PayloadTooLong { .. })
        }),
        (resigned(&|body| body.sender = key(8).public_key().to_bytes()), |error| {
            matches!(error, TransactionError::Signature(_))
        }),
    ];
    for (bad, expected) in cases {
        // The header is in order, so the block is passed on; only looking inside shows it.
        let block = received(&with(&genesis, vec![good.clone(), bad])).unwrap();
        let Err(BodyError::Transaction { index: 1, error }) = block.verify_bodies(&genesis) else {
            panic!("the second transaction is bad: {block:?}");
        };
        assert!(expected(&error), "{error}");
    }
    let block = received(&with(&genesis, vec![good.clone(), transaction(&genesis, 1), good.clone()])).unwrap();
    let twice = BodyError::Duplicate { first: 0, second: 2, id: good.id() };
    assert_eq!(block.verify_bodies(&genesis), Err(twice));
}

#[test]
fn a_headers_signature_can_be_verified_without_its_body() {
    let genesis = network();
    let mut header = *block(&genesis, 2).signed_header();
    assert_eq!(header.verify(&genesis), Ok(()));
    header.header.height += 1;
    assert_eq!(header.verify(&genesis), Err(BlockError::Signature(SignatureError)));
    header.header.slot = 4;
    assert!(matches!(header.verify(&genesis), Err(BlockError::OutOfTurn { .. })));
}

#[test]
fn a_detached_transaction_does_not_keep_its_block_alive() {
    let genesis = network();
    let block = Block::decode(block(&genesis, 2).bytes().clone(), &genesis).unwrap();
    let range = block.bytes().as_ptr_range();
    let transaction = &block.transactions()[1];
    assert!(range.contains(&transaction.bytes().as_ptr()), "decoding copies nothing");
    assert!(!range.contains(&transaction.detached().bytes().as_ptr()));
    assert_eq!(&transaction.detached(), transaction);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_flipped_bit_is_noticed_before_a_block_is_passed_on(count in 0_u64..4, place: prop::sample::Index) {
        let genesis = network();
        let made = block(&genesis, count);
        let mut bytes = made.bytes().to_vec();
        let bit = place.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let received = Block::decode(bytes, &genesis);
        prop_assert!(received.is_err() || received.unwrap().verify_header_signature(&genesis).is_err());
    }

    #[test]
    fn cut_or_extended_bytes_are_refused(place: prop::sample::Index, extra in prop::collection::vec(any::<u8>(), 1..9)) {
        let genesis = network();
        let made = block(&genesis, 2);
        let cut = made.bytes().slice(..place.index(made.encoded_len()));
        prop_assert_eq!(Block::decode(cut, &genesis), Err(CodecError::Truncated.into()));
        let longer = [made.bytes(), &extra[..]].concat();
        prop_assert_eq!(Block::decode(longer, &genesis), Err(CodecError::TrailingBytes.into()));
    }
}

/// Whoever is no producer has nobody decode anything but a header.
#[test]
fn a_relayed_block_is_decoded_only_if_its_producer_has_signed_it() {
    let genesis = network();
    let good = block(&genesis, 3);
    let decoded = |encoded: &[u8]| match Job::Relayed(encoded.to_vec().into()).run(&genesis) {
        Outcome::Block(decoded) => Some(decoded.map(|decoded| (decoded.block, decoded.body))),
        Outcome::Invalid { index: 0 } => None,
        other => panic!("{other:?} is no answer to this job"),
    };
    assert_eq!(decoded(good.bytes()), Some(Ok((good.clone(), Ok(())))));
    let other_body = changed(&good, &key(2), |header| header.transaction_root = Digest::ZERO);
    assert!(matches!(decoded(other_body.bytes()), Some(Err(BlockError::Root { .. }))));
    let repeated = with(&genesis, vec![transaction(&genesis, 1), transaction(&genesis, 1)]);
    assert!(matches!(decoded(repeated.bytes()), Some(Ok((_, Err(BodyError::Duplicate { first: 0, second: 1, .. }))))));
    // That the body is garbage is not found out, because nobody looks.
    for block in [changed(&good, &key(3), |_| ()), changed(&good, &key(2), |header| header.slot = 4)] {
        let mut spoilt = block.bytes().to_vec();
        spoilt.truncate(BLOCK_OVERHEAD_BYTES + 9);
        assert_eq!(decoded(&spoilt), None);
    }
    assert_eq!(decoded(&good.bytes()[..BLOCK_OVERHEAD_BYTES / 2]), None);
}
