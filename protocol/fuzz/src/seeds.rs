//! Valid inputs for every target, from which mutations start.

use bytes::Bytes;
use starling_crypto::SecretKey;
use starling_protocol::block::Block;
use starling_protocol::codec;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, MessageId, PeerId, Topic};
use starling_protocol::message::Payload;
use starling_protocol::peers::address::{Group, Scope};
use starling_protocol::peers::bans::{Ban, BanList, BanTarget};
use starling_protocol::peers::book::acquaintances::{Acquaintance, PROVEN};
use starling_protocol::peers::book::{AddressBook, BookConfig};
use starling_protocol::random::Stream;
use starling_protocol::request::{Answer, Head, Request, Response, Status};
use starling_protocol::rpc::{Class, ExchangedPeer, Frame, Prune, Subscription};
use starling_protocol::time::Time;
use starling_protocol::transaction::{Transaction, TransactionBuilder};
use starling_protocol::wire;
use std::net::IpAddr;
use std::sync::LazyLock;

fn key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn genesis_of(stamp_bits: u8) -> Genesis {
    let producer = key().public_key().to_bytes();
    let text = format!(
        "name = \"fuzz\"\nstart_time = 2026-01-01T00:00:00Z\nslot_ms = 1000\nstamp_bits = {stamp_bits}\n\
         producers = [\"{producer}\"]\n\n[limits]\npayload_bytes_max = 1024\ntransactions_per_block_max = 100\n\
         block_bytes_max = 65536\nexpiry_slots_max = 1000\nnonce_window = 16\n"
    );
    Genesis::from_toml(&text).expect("a valid genesis")
}

/// The network of all seeds.
pub(crate) fn genesis() -> Genesis {
    static GENESIS: LazyLock<Genesis> = LazyLock::new(|| genesis_of(0));
    GENESIS.clone()
}

/// A network that asks for proof of work.
pub(crate) fn genesis_with_stamp() -> Genesis {
    static GENESIS: LazyLock<Genesis> = LazyLock::new(|| genesis_of(4));
    GENESIS.clone()
}

/// Names and contents of the seeds of a target.
#[must_use]
pub fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    match target {
        "rpc" => rpcs(),
        "transaction" => vec![
            ("empty-payload", transaction(&genesis(), 0, &[]).bytes().to_vec()),
            ("payload", transaction(&genesis(), 3, &[9; 200]).bytes().to_vec()),
            ("stamped", transaction(&genesis_with_stamp(), 1, &[7; 20]).bytes().to_vec()),
        ],
        "block" => vec![("empty", block(0).bytes().to_vec()), ("three", block(3).bytes().to_vec())],
        "genesis" => vec![("plain", genesis().to_toml().into()), ("stamped", genesis_with_stamp().to_toml().into())],
        "codec" => vec![
            ("header", codec::encode(block(0).signed_header())),
            ("transaction", transaction(&genesis(), 0, &[5; 5]).bytes().to_vec()),
            ("genesis", codec::encode(genesis().parameters())),
            ("request", request().encode()),
        ],
        "request" => vec![
            ("status", Request::Status(status()).encode()),
            ("headers", request().encode()),
            ("blocks", Request::Blocks(vec![genesis().block_id(), block(0).id()]).encode()),
            ("status-response", response(Answer::Status)),
            ("headers-response", response(Answer::Headers(vec![*block(0).signed_header(), *block(2).signed_header()]))),
            ("blocks-response", response(Answer::Blocks(vec![block(1).bytes().clone(), Vec::new().into()]))),
            ("busy-response", response(Answer::Busy)),
        ],
        "key" => vec![("pkcs8", key().to_pem().as_bytes().to_vec())],
        "send_queue" => vec![("small", operations(7, 400)), ("large", operations(11, 1_500))],
        "mesh" => vec![("one-peer", mesh_of(1)), ("many-peers", mesh_of(16))],
        "node" => vec![("producer", node_of(1)), ("observer", node_of(0)), ("varied", operations(3, 1_200))],
        "address_book" => vec![("empty", address_book(0)), ("small", address_book(3)), ("larger", address_book(40))],
        "bans" => vec![("empty", BanList::default().to_file()), ("three", bans().to_file())],
        _ => Vec::new(),
    }
}

/// A book with so many peers, every third of them reached, the first of these as anchors, and every fourth an acquaintance.
fn address_book(peers: u8) -> Vec<u8> {
    let mut book = AddressBook::new(BookConfig::default(), [7; 16], Stream::from_seed([0; 32]));
    let ids: Vec<PeerId> = (1..=peers).map(|number| PeerId::from_number(u64::from(number))).collect();
    for (number, id) in (1..=peers).zip(&ids) {
        let address = Bytes::from(vec![4, 20, number, 1, 1, 6, 1, 2]);
        book.add(*id, [&address], Group::LOOKUPS, Scope::Global);
        if number % 3 == 1 {
            book.reached(Time::ZERO, *id, &address);
        }
        if number % 4 == 1 {
            let group = Group::of(IpAddr::from([20, number, 1, 1])).expect("a public address");
            let known = Acquaintance { addresses: vec![address], group, dialled: number % 8 == 1, merit: PROVEN };
            assert!(book.acquaintances_mut().credit(*id, known), "there is room");
        }
    }
    book.set_anchors(&ids);
    book.to_file()
}

fn bans() -> BanList {
    let mut bans = BanList::default();
    let subnet = |text: &str| BanTarget::Addresses(text.parse().expect("a subnet"));
    let targets = [BanTarget::Peer(PeerId::from_number(1)), subnet("192.0.2.0/24"), subnet("2001:db8::/32")];
    for (until_unix_s, target) in (100..).zip(targets) {
        bans.ban(Ban { target, until_unix_s, reason: "why".to_owned() }, None).expect("room");
    }
    bans
}

fn transaction(genesis: &Genesis, nonce: u64, payload: &[u8]) -> Transaction {
    let builder = TransactionBuilder::new(genesis, 100).nonce(nonce).payload(payload);
    builder.build(&key()).expect("a valid transaction")
}

fn block(transactions: u64) -> Block {
    let body = (0..transactions).map(|nonce| transaction(&genesis(), nonce, &[3; 30])).collect();
    Block::produce(&genesis(), &key(), (5, 1, genesis().block_id()), body).expect("a valid block")
}

fn request() -> Request {
    Request::Headers { locator: vec![block(0).id(), genesis().block_id()], headers_max: 10 }
}

fn status() -> Status {
    let head = Head { height: 1, id: BlockId(block(0).id().0), slot: 5 };
    Status { network: genesis().network_id(), head, earliest: 1 }
}

fn response(answer: Answer) -> Vec<u8> {
    Response { status: status(), answer }.encode()
}

fn frame(frames: &[Frame]) -> Vec<u8> {
    let encoded = wire::encode(frames).to_vec();
    let prefix = wire::read_prefix(&encoded, &wire::WireLimits::default()).expect("in the limits").expect("complete");
    encoded[prefix.prefix_bytes..].to_vec()
}

fn publish(data: &[u8]) -> Frame {
    Frame::Publish { payload: Payload::new(&Topic::new("t"), data), class: Class::Forward }
}

fn control() -> [Frame; 7] {
    let topic = Topic::new("t");
    let ids = [MessageId([1; 20]), MessageId([2; 20])];
    let peer = ExchangedPeer { id: PeerId::from_number(7), signed_record: Some(vec![8; 30].into()) };
    [
        Frame::Subscription(Subscription { subscribe: true, topic: topic.clone() }),
        Frame::Subscription(Subscription { subscribe: false, topic: Topic::new("b") }),
        Frame::Graft(topic.clone()),
        Frame::Prune(Prune { topic: topic.clone(), backoff_seconds: Some(60), peers: vec![peer] }),
        Frame::IHave { topic, ids: ids.into() },
        Frame::IWant(ids.to_vec().into()),
        Frame::IDontWant(ids.to_vec().into()),
    ]
}

fn rpcs() -> Vec<(&'static str, Vec<u8>)> {
    let mut everything = control().to_vec();
    everything.extend([publish(b"hello"), publish(&[4; 300])]);
    // publish { from, data, seqno, topic, signature, key }
    let signed = b"\x12\x17\x0a\x02pp\x12\x01x\x1a\x02nn\x22\x01t\x2a\x02ss\x32\x02kk".to_vec();
    // control { extensions { 10: true, 6492434: true } }, partial { topic }, 6492434: {}
    let extensions = b"\x1a\x09\x32\x07\x50\x01\x90\x91\xe2\x18\x01\x52\x03\x0a\x01t\x92\x91\xe2\x18\x00".to_vec();
    let two_controls = [frame(&control()[2..4]), frame(&control()[4..])].concat();
    vec![
        ("empty", Vec::new()),
        ("message", frame(&[publish(b"hello")])),
        ("control", frame(&control())),
        ("everything", frame(&everything)),
        ("signed", signed),
        ("extensions", extensions),
        ("two-controls", two_controls),
        ("prefixed", wire::encode(&everything).to_vec()),
    ]
}

/// Bytes that a target of operations reads as a long and varied sequence.
fn operations(step: u8, len: usize) -> Vec<u8> {
    let mut byte = 0u8;
    let head = [0x40, 0x1f, 0x00, 0x20, 0x00, 0x40, 0x08, 0x00, 0x20, 0x05];
    head.into_iter()
        .chain((0..len).map(|index| {
            byte = byte.wrapping_mul(5).wrapping_add(step).wrapping_add(index.to_le_bytes()[0] >> 3);
            byte
        }))
        .collect()
}

/// Operations of the mesh target: join, connect, subscribe and graft from the other side, messages, verdicts, time.
fn mesh_of(peers: u8) -> Vec<u8> {
    let rpc = |peer: u8, frames: &[Frame]| {
        let frame = frame(frames);
        let mut operation = vec![2, u8::try_from(frame.len()).expect("a short frame")];
        operation.extend(frame);
        operation.push(peer);
        operation
    };
    let mut bytes = vec![7, 0, 1, 7, 1, 1];
    for peer in 0..peers {
        bytes.extend([0, 0, peer % 4, peer % 2, 2]);
        bytes.extend(rpc(peer, &[control()[0].clone(), control()[2].clone()]));
    }
    for round in 0..6u8 {
        bytes.extend([11, 20]);
        bytes.extend(rpc(round, &[publish(&[round; 40])]));
        bytes.extend(rpc(round + 1, &[publish(&[round; 40])]));
        bytes.extend([8, 0, 0, 6, 0, round, 10, round, 30]);
        bytes.extend(rpc(round, &control()[3..]));
        bytes.extend([11, 70]);
    }
    bytes
}

/// Operations of the node target: a right clock, six peers that subscribe and graft, then all transactions and blocks in
/// order, each verified, with time passing and requests both ways.
fn node_of(producer: u8) -> Vec<u8> {
    let mut bytes = vec![producer, 14, 0, 1];
    for peer in 0..6 {
        bytes.extend([0, peer, peer, peer % 2, 2, 0, 0, 0, 0, peer]);
    }
    for number in 0..15 {
        bytes.extend([3, 0, number, number % 6, 7, 0, 1, 3, 1, number, number % 5, 7, 0, 1, 8, 0, 1]);
        bytes.extend([12, number % 2, number, 7, 0, 1, 15, 40, 10, 0, number, 5, number, number, 1, 0, 2]);
        bytes.extend([11, 0, 1, number, 1, number, 13, 0, 2, number, number, 7, 0, 1, 7, 0, 1]);
    }
    bytes
}
