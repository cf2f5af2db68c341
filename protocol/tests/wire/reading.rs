//! The rules of reading, one by one.

use super::decode;
use super::mirror::{ControlMessage, ControlPrune, Message, PeerInfo, Rpc};
use prost::Message as _;
use starling_protocol::wire::WireError;

/// GHSA advisories of rust-libp2p (CVE-2026-33040, CVE-2026-34219): a back-off near the end of the number range.
#[test]
fn an_absurd_prune_backoff_is_clamped() {
    for (sent, read) in
        [(0, 0), (60, 60), (3_600, 3_600), (3_601, 3_600), (u64::MAX, 3_600), (u64::MAX / 1_000_000, 3_600)]
    {
        let prune = vec![ControlPrune { backoff: Some(sent), ..Default::default() }];
        let frame = Rpc { control: Some(ControlMessage { prune, ..Default::default() }), ..Default::default() };
        let rpc = decode(&frame.encode_to_vec()).expect("decodes");
        assert_eq!(rpc.prune[0].backoff_seconds, Some(read), "{sent}");
    }
}

#[test]
fn exchanged_peers_are_cut_at_sixteen_and_impossible_ones_are_skipped() {
    let peer = |id: Vec<u8>, record: usize| PeerInfo { id: Some(id), signed_record: Some(vec![7; record]) };
    let mut peers = vec![
        peer(vec![], 10),
        peer(vec![1; 49], 10),
        PeerInfo::default(),
        peer(vec![2; 38], 4_096),
        peer(vec![3; 38], 4_097),
    ];
    peers.extend((0..20).map(|i| peer(vec![i; 34], 1)));
    let prune = vec![ControlPrune { peers, ..Default::default() }];
    let frame = Rpc { control: Some(ControlMessage { prune, ..Default::default() }), ..Default::default() };
    let rpc = decode(&frame.encode_to_vec()).expect("decodes");
    let read = &rpc.prune[0].peers;
    assert_eq!(read.len(), 16 - 3);
    assert_eq!(read[0].signed_record.as_ref().map(|record| record.len()), Some(4_096));
    assert_eq!((read[1].id.as_bytes(), &read[1].signed_record), (&[3; 38][..], &None));
}

#[test]
fn messages_with_author_sequence_number_signature_or_key_are_counted_even_when_these_are_empty() {
    let plain = Message { data: Some(b"x".to_vec()), topic: Some("tx".to_owned()), ..Default::default() };
    let empty = Some(Vec::new());
    let signed = [
        Message { from: empty.clone(), ..plain.clone() },
        Message { seqno: empty.clone(), ..plain.clone() },
        Message { signature: empty.clone(), ..plain.clone() },
        Message { key: empty, ..plain.clone() },
        Message { from: Some(vec![1; 38]), seqno: Some(vec![2; 8]), signature: Some(vec![3; 64]), ..plain.clone() },
    ];
    for message in signed {
        let frame = Rpc { publish: vec![plain.clone(), message, plain.clone()], ..Default::default() };
        let rpc = decode(&frame.encode_to_vec()).expect("decodes");
        assert_eq!((rpc.publish.len(), rpc.publish_signed), (2, 1));
    }
}

#[test]
fn of_a_repeated_scalar_the_last_one_counts() {
    // publish { data: "a", data: "bc", topic: "a", topic: "tx" }
    let rpc = decode(b"\x12\x0e\x12\x01a\x12\x02bc\x22\x01a\x22\x02tx").expect("decodes");
    assert_eq!((rpc.publish[0].data(), rpc.publish[0].topic().as_str()), (&b"bc"[..], "tx"));
}

#[test]
fn every_number_but_zero_is_true() {
    let subscribed = |frame: &[u8]| decode(frame).expect("decodes").subscriptions[0].subscribe;
    assert!(!subscribed(b"\x0a\x00"));
    assert!(!subscribed(b"\x0a\x02\x08\x00"));
    assert!(subscribed(b"\x0a\x02\x08\x01"));
    assert!(subscribed(b"\x0a\x02\x08\x02"));
}

#[test]
fn a_known_field_in_a_wrong_wire_type_is_named() {
    assert_eq!(decode(b"\x10\x01"), Err(WireError::WrongWireType { field: "RPC.publish", at: 1 }));
    assert_eq!(decode(b"\x0a\x02\x0a\x00"), Err(WireError::WrongWireType { field: "SubOpts.subscribe", at: 4 }));
    assert_eq!(
        decode(b"\x1a\x04\x22\x02\x1a\x00"),
        Err(WireError::WrongWireType { field: "ControlPrune.backoff", at: 6 })
    );
}

#[test]
fn unknown_fields_are_skipped_but_groups_are_refused() {
    // Fields 7 (varint), 9 (64 bit), 11 (bytes) and 13 (32 bit) between two subscriptions.
    let frame = b"\x0a\x02\x08\x01\x38\x05\x49\x01\x02\x03\x04\x05\x06\x07\x08\x5a\x02\xff\xff\x6d\x01\x02\x03\x04\x0a\x02\x08\x00";
    assert_eq!(decode(frame).expect("decodes").subscriptions.len(), 2);
    assert_eq!(decode(b"\x3b\x3c"), Err(WireError::BadWireType { wire_type: 3, at: 0 }));
}
