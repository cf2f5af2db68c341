use super::{key, network, parameters, transaction};
use proptest::prelude::*;
use starling_crypto::{KeyError, Signature, SignatureError};
use starling_protocol::codec::CodecError;
use starling_protocol::genesis::{Genesis, GenesisParameters};
use starling_protocol::transaction::{
    SignedTransaction, TRANSACTION_OVERHEAD_BYTES, Transaction, TransactionBody, TransactionBuilder, TransactionError,
};

/// The transaction with its body changed and signed anew.
fn changed(transaction: &Transaction, change: impl FnOnce(&mut TransactionBody)) -> Transaction {
    let mut body = transaction.to_parts().body;
    change(&mut body);
    body.sign(&key(9))
}

fn received(transaction: &Transaction) -> Result<Transaction, TransactionError> {
    Transaction::decode(transaction.bytes().clone(), &network())
}

#[test]
fn it_arrives_as_it_was_made() {
    let genesis = network();
    let made = transaction(&genesis, 3);
    let received = received(&made).unwrap();
    assert_eq!(received, made);
    assert_eq!(received.verify_signature(), Ok(()));
    assert_eq!((received.id(), received.leaf()), (made.id(), made.leaf()));
    assert_eq!((received.nonce(), received.expiry_slot(), received.payload()), (3, 12, &b"payload 3"[..]));
    assert_eq!((received.sender(), received.network()), (key(9).public_key().to_bytes(), genesis.network_id()));
    assert!(received.stamp_bits() >= 4);
    assert_eq!(received.encoded_len(), TRANSACTION_OVERHEAD_BYTES + 9);
    assert_eq!(received.to_parts().body.id(), received.id());
    assert_eq!(Transaction::from_parts(received.to_parts()), made);
    assert_eq!((received.detached(), received.detached().id()), (made.clone(), made.id()));
}

#[test]
fn one_of_another_network_is_refused() {
    let other = Genesis::new(GenesisParameters { name: "other".into(), ..parameters() }).unwrap();
    let foreign = transaction(&other, 0);
    let (found, expected) = (other.network_id(), network().network_id());
    assert_eq!(received(&foreign), Err(TransactionError::Network { found, expected }));
    // Relabelling it breaks the signature.
    let relabelled = SignedTransaction {
        body: TransactionBody { network: expected, ..foreign.to_parts().body },
        signature: foreign.signature(),
    };
    let relabelled = Transaction::from_parts(relabelled);
    assert_eq!(relabelled.verify_signature(), Err(TransactionError::Signature(SignatureError)));
}

#[test]
fn payloads_are_limited() {
    let genesis = network();
    let with = |bytes: usize| TransactionBuilder::new(&genesis, 12).payload(vec![7; bytes]).build(&key(9));
    assert_eq!(received(&with(100).unwrap()).unwrap().payload().len(), 100);
    assert_eq!(with(101), Err(TransactionError::PayloadTooLong { found: 101, max: 100 }));
    let long = changed(&transaction(&genesis, 0), |body| body.payload = vec![7; 101]);
    assert_eq!(long.check(&genesis), Err(TransactionError::PayloadTooLong { found: 101, max: 100 }));
    // On the way in, size is judged before anything is decoded.
    let (found, max) = (TRANSACTION_OVERHEAD_BYTES + 101, TRANSACTION_OVERHEAD_BYTES + 100);
    assert_eq!(received(&long), Err(CodecError::TooLong { found, max }.into()));
}

#[test]
fn a_stamp_without_enough_work_is_refused() {
    let genesis = network();
    let weak = (0..).map(|stamp| changed(&transaction(&genesis, 0), |body| body.stamp = stamp));
    let weak = weak.into_iter().find(|transaction| transaction.stamp_bits() == 3).unwrap();
    assert_eq!(received(&weak), Err(TransactionError::Stamp { found: 3, needed: 4 }));
    // Work done for one body is worth nothing for another: of sixteen others, about one passes by luck.
    let stamped = transaction(&genesis, 0);
    let lucky = (1..=64).filter(|&nonce| received(&changed(&stamped, |body| body.nonce = nonce)).is_ok()).count();
    assert!(lucky < 20, "{lucky} of 64");
}

#[test]
fn the_search_for_a_stamp_is_bounded() {
    let mut body = transaction(&network(), 0).to_parts().body;
    assert_eq!(body.grind_stamp(200, 50), Err(TransactionError::StampNotFound { needed: 200, tries: 50 }));
    assert_eq!(body.grind_stamp(0, 1), Ok(()));
    assert_eq!(body.stamp, 0);
    assert_eq!(body.grind_stamp(8, 64 << 8), Ok(()));
    assert!(body.sign(&key(9)).stamp_bits() >= 8);
}

#[test]
fn expiry_is_judged_by_slot() {
    let genesis = network();
    let transaction = transaction(&genesis, 0);
    assert_eq!(
        transaction.check_expiry(1, &genesis),
        Err(TransactionError::ExpiryTooFar { expiry_slot: 12, latest: 11 })
    );
    assert_eq!(transaction.check_expiry(2, &genesis), Ok(()));
    assert_eq!(transaction.check_expiry(12, &genesis), Ok(()));
    assert_eq!(transaction.check_expiry(13, &genesis), Err(TransactionError::Expired { expiry_slot: 12, slot: 13 }));
    let eternal = changed(&transaction, |body| body.expiry_slot = u64::MAX);
    assert!(matches!(eternal.check_expiry(0, &genesis), Err(TransactionError::ExpiryTooFar { .. })));
    assert_eq!(eternal.check_expiry(u64::MAX, &genesis), Ok(()));
}

#[test]
fn nobody_signs_for_another() {
    let genesis = network();
    let body = transaction(&genesis, 0).to_parts().body;
    assert_eq!(body.clone().sign(&key(8)).verify_signature(), Err(TransactionError::Signature(SignatureError)));
    // With the identity point as sender, S = 0 and R = the identity, lenient verifiers accept any message.
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let forged = Transaction::from_parts(SignedTransaction {
        body: TransactionBody { sender: identity.into(), ..body },
        signature: Signature(signature),
    });
    let expected = KeyError::SmallOrder(identity.into());
    assert_eq!(forged.verify_signature(), Err(TransactionError::Sender(expected)));
}

#[test]
fn the_id_is_of_the_body_and_the_leaf_is_of_everything() {
    let original = transaction(&network(), 0);
    let mut parts = original.to_parts();
    parts.signature.0[0] ^= 1;
    let spoilt = Transaction::from_parts(parts);
    assert_eq!(spoilt.id(), original.id());
    assert_ne!(spoilt.leaf(), original.leaf());
    assert_ne!(spoilt, original);
    assert!(spoilt.verify_signature().is_err());
}

#[test]
fn errors_name_the_cause_and_the_remedy() {
    let genesis = network();
    let shown = |error: TransactionError| error.to_string();
    let transaction = transaction(&genesis, 0);
    assert_eq!(
        shown(transaction.check_expiry(13, &genesis).unwrap_err()),
        "the transaction expired at the end of slot 12, and it is slot 13; sign it again with a later one"
    );
    let cut = Transaction::decode(transaction.bytes().slice(..40), &genesis).unwrap_err();
    assert_eq!(
        shown(cut),
        "not a transaction: the bytes end in the middle of a value, or a length prefix claims more than follows; \
         send the whole encoding"
    );
    let hex = Transaction::decode(hex::encode(transaction.bytes()).into_bytes(), &genesis).unwrap_err();
    assert!(shown(hex).starts_with("not a transaction: "));
}

proptest! {
    #[test]
    fn any_flipped_bit_is_noticed(nonce: u64, payload in prop::collection::vec(any::<u8>(), 0..100), place: prop::sample::Index) {
        let genesis = network();
        let made = TransactionBuilder::new(&genesis, 12).nonce(nonce).payload(payload).build(&key(9)).unwrap();
        prop_assert_eq!(&received(&made).unwrap(), &made);
        let mut bytes = made.bytes().to_vec();
        let bit = place.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = Transaction::decode(bytes, &genesis) {
            prop_assert_ne!(other.leaf(), made.leaf());
            prop_assert!(other.verify_signature().is_err());
        }
    }

    #[test]
    fn cut_or_extended_bytes_are_refused(place: prop::sample::Index, extra in prop::collection::vec(any::<u8>(), 1..9)) {
        let genesis = network();
        let made = transaction(&genesis, 0);
        let cut = made.bytes().slice(..place.index(made.encoded_len()));
        prop_assert_eq!(Transaction::decode(cut, &genesis), Err(CodecError::Truncated.into()));
        let longer = [made.bytes(), &extra[..]].concat();
        prop_assert_eq!(Transaction::decode(longer, &genesis), Err(CodecError::TrailingBytes.into()));
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Transaction::decode(bytes, &network()).is_err());
    }
}
