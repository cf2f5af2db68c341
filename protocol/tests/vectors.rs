//! The bytes of `docs/PROTOCOL.md`, pinned: `vectors/content.toml` was written by an independent implementation
//! (`vectors/make.py`), and everything that the network signs, names or sends must come out the same here.

use bytes::Bytes;
use serde::Deserialize;
use starling_crypto::{Digest, Domain, PublicKeyBytes, SecretKey, merkle};
use starling_protocol::block::{Block, Header};
use starling_protocol::codec;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::id::{BlockId, NetworkId, TransactionId};
use starling_protocol::message::message_id;
use starling_protocol::request::{Answer, HEADERS_MAX, Head, Request, Response, Status};
use starling_protocol::transaction::{Transaction, TransactionBuilder};

#[derive(Deserialize)]
struct Vectors {
    digest: Vec<DigestVector>,
    key: Vec<KeyVector>,
    merkle: Vec<MerkleVector>,
    genesis: GenesisVector,
    transaction: Vec<TransactionVector>,
    block: Vec<BlockVector>,
    message: Vec<MessageVector>,
    request: Vec<ExchangeVector>,
    response: Vec<ExchangeVector>,
}

#[derive(Deserialize)]
struct DigestVector {
    domain: String,
    of_abc: Digest,
}

#[derive(Deserialize)]
struct KeyVector {
    seed: String,
    public_key: PublicKeyBytes,
}

#[derive(Deserialize)]
struct MerkleVector {
    leaves: u8,
    root: Digest,
}

#[derive(Deserialize)]
struct GenesisVector {
    encoded: String,
    network_id: NetworkId,
    block_id: BlockId,
    transaction_topic: String,
    block_topic: String,
    kademlia_protocol: String,
}

#[derive(Deserialize)]
struct TransactionVector {
    seed: String,
    nonce: toml::Value,
    expiry_slot: toml::Value,
    payload: String,
    stamp: u64,
    encoded: String,
    id: TransactionId,
    leaf: Digest,
}

#[derive(Deserialize)]
struct BlockVector {
    seed: String,
    slot: u64,
    height: u64,
    parent: BlockId,
    transaction_root: Digest,
    transaction_count: u32,
    encoded: String,
    id: BlockId,
}

#[derive(Deserialize)]
struct MessageVector {
    topic: String,
    data: String,
    id: String,
}

/// A request or response of its kind.
#[derive(Deserialize)]
struct ExchangeVector {
    kind: String,
    encoded: String,
}

fn vectors() -> Vectors {
    toml::from_str(include_str!("vectors/content.toml")).expect("the file of vectors is well-formed")
}

fn key(seed: &str) -> SecretKey {
    let seed = hex::decode(seed).expect("seeds are hex");
    SecretKey::from_seed(&seed.try_into().expect("seeds have 32 bytes"))
}

/// TOML's integers are signed: what does not fit is written as text.
fn number(value: &toml::Value) -> u64 {
    match value {
        toml::Value::String(text) => text.parse().expect("text of a number"),
        other => other.as_integer().and_then(|value| u64::try_from(value).ok()).expect("a number"),
    }
}

fn genesis() -> Genesis {
    Genesis::new(GenesisParameters {
        name: "vectors".into(),
        start_time_ms: 1_800_000_000_123,
        slot_ms: 2_000,
        producers: vectors().key.iter().map(|key| key.public_key).collect(),
        limits: Limits {
            payload_bytes_max: 16_384,
            transactions_per_block_max: 2_048,
            block_bytes_max: 1_048_576,
            expiry_slots_max: 256,
            nonce_window: 64,
        },
        stamp_bits: 8,
    })
    .expect("the values are within their bounds")
}

#[test]
fn digests() {
    let vectors = vectors().digest;
    assert_eq!(vectors.len(), Domain::ALL.len());
    for (domain, vector) in Domain::ALL.into_iter().zip(vectors) {
        assert_eq!(domain.name(), vector.domain);
        assert_eq!(domain.digest(b"abc"), vector.of_abc, "{}", vector.domain);
    }
}

#[test]
fn keys() {
    for vector in vectors().key {
        assert_eq!(key(&vector.seed).public_key().to_bytes(), vector.public_key);
    }
}

#[test]
fn merkle_roots() {
    for vector in vectors().merkle {
        let root = merkle::root((0..vector.leaves).map(|place| merkle::leaf(&[place])));
        assert_eq!(root, vector.root, "{} leaves", vector.leaves);
    }
}

#[test]
fn names_of_the_network() {
    let (genesis, vector) = (genesis(), vectors().genesis);
    assert_eq!(hex::encode(codec::encode(genesis.parameters())), vector.encoded);
    assert_eq!(genesis.network_id(), vector.network_id);
    assert_eq!(genesis.block_id(), vector.block_id);
    assert_eq!(genesis.transaction_topic().as_str(), vector.transaction_topic);
    assert_eq!(genesis.block_topic().as_str(), vector.block_topic);
    assert_eq!(genesis.kademlia_protocol(), vector.kademlia_protocol);
}

#[test]
fn transactions() {
    let genesis = genesis();
    for vector in vectors().transaction {
        let payload = hex::decode(&vector.payload).expect("payloads are hex");
        let transaction = TransactionBuilder::new(&genesis, number(&vector.expiry_slot))
            .nonce(number(&vector.nonce))
            .payload(payload)
            .build(&key(&vector.seed))
            .expect("the payload is short");
        assert_eq!(hex::encode(transaction.bytes()), vector.encoded);
        assert_eq!(transaction.id(), vector.id);
        assert_eq!(transaction.leaf(), vector.leaf);
        assert_eq!(transaction.stamp(), vector.stamp);
        let decoded = Transaction::decode(transaction.bytes().clone(), &genesis).expect("it is valid");
        decoded.verify_signature().expect("it is signed");
    }
}

#[test]
fn blocks() {
    let (genesis, vectors) = (genesis(), vectors());
    for vector in vectors.block {
        let encoded = hex::decode(&vector.encoded).expect("blocks are hex");
        let decoded = Block::decode(encoded, &genesis).expect("it is valid");
        decoded.verify_header_signature(&genesis).expect("it is signed");
        assert_eq!(decoded.id(), vector.id);
        let header = decoded.header();
        assert_eq!((header.slot, header.height, header.parent), (vector.slot, vector.height, vector.parent));
        assert_eq!(header.transaction_root, vector.transaction_root);
        assert_eq!(header.transaction_count, vector.transaction_count);

        let position = (vector.slot, vector.height, vector.parent);
        let produced = Block::produce(&genesis, &key(&vector.seed), position, decoded.transactions().to_vec())
            .expect("it is the producer's turn");
        assert_eq!(hex::encode(produced.bytes()), vector.encoded);
    }
}

#[test]
fn message_ids() {
    for vector in vectors().message {
        let data = hex::decode(&vector.data).expect("data is hex");
        assert_eq!(message_id(&vector.topic, &data).to_string(), vector.id);
    }
}

/// The two blocks of the vectors.
fn two_blocks(genesis: &Genesis) -> [Block; 2] {
    let blocks = vectors().block;
    [&blocks[0], &blocks[1]].map(|vector| {
        let encoded = hex::decode(&vector.encoded).expect("blocks are hex");
        Block::decode(encoded, genesis).expect("it is valid")
    })
}

fn status(genesis: &Genesis, head: &Block, earliest: u64) -> Status {
    let Header { height, slot, .. } = *head.header();
    Status { network: genesis.network_id(), head: Head { height, id: head.id(), slot }, earliest }
}

#[test]
fn requests_about_the_chain() {
    let genesis = genesis();
    let [first, second] = two_blocks(&genesis);
    let expected = [
        ("status", Request::Status(status(&genesis, &first, 1))),
        ("headers", Request::Headers { locator: vec![first.id(), genesis.block_id()], headers_max: HEADERS_MAX }),
        ("blocks", Request::Blocks(vec![second.id(), BlockId(Digest([7; 32]))])),
    ];
    let vectors = vectors().request;
    assert_eq!(vectors.len(), expected.len());
    for (vector, (kind, request)) in vectors.iter().zip(expected) {
        assert_eq!((vector.kind.as_str(), vector.encoded.clone()), (kind, hex::encode(request.encode())));
        let encoded = hex::decode(&vector.encoded).expect("requests are hex");
        assert_eq!(Request::decode(&encoded), Ok(request));
    }
}

#[test]
fn responses_about_the_chain() {
    let genesis = genesis();
    let [first, second] = two_blocks(&genesis);
    let expected = [
        ("status", Answer::Status),
        ("headers", Answer::Headers(vec![*first.signed_header(), *second.signed_header()])),
        ("blocks", Answer::Blocks(vec![second.bytes().clone(), Bytes::new()])),
        ("busy", Answer::Busy),
    ];
    let vectors = vectors().response;
    assert_eq!(vectors.len(), expected.len());
    for (vector, (kind, answer)) in vectors.iter().zip(expected) {
        let response = Response { status: status(&genesis, &second, 2), answer };
        assert_eq!((vector.kind.as_str(), vector.encoded.clone()), (kind, hex::encode(response.encode())));
        let encoded = Bytes::from(hex::decode(&vector.encoded).expect("responses are hex"));
        assert_eq!(Response::decode(&encoded, &genesis), Ok(response));
    }
}
