//! What a hostile peer can do to a running node: nothing that others notice, at a bounded cost in memory.

use crate::attacker::{Attacker, Stream};
use crate::lab::{DEADLINE, Lab, Running, eventually};
use crate::{ready, transaction};
use starling_crypto::SecretKey;
use starling_node::api::TransactionStatus;
use starling_node::keyfile;
use starling_protocol::block::{Block, Header};
use starling_protocol::id::{MessageId, Topic};
use starling_protocol::message::{Payload, message_id};
use starling_protocol::request::{LOCATOR_IDS_MAX, Request};
use starling_protocol::rpc::{Class, Frame, Prune, Subscription};
use starling_protocol::wire;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

/// What one attacker may cost a node in memory, in KiB: the aim of the project for floods.
const RESIDENT_KIB_PER_ATTACKER: u64 = 16 * 1_024;

/// Messages that a spammer has ready.
const SPAM: u32 = 500;

impl Running {
    /// Resident memory in KiB.
    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line about memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

fn ids(from: u32, count: u32) -> Vec<MessageId> {
    (from..from + count).map(|number| message_id("flood", &number.to_le_bytes())).collect()
}

fn topic(number: u32) -> Topic {
    Topic::new(&format!("{number:0>200}"))
}

/// Ten times and more of what the caps admit, as one stream of frames for each kind of control.
fn floods(lab: &Lab) -> Vec<(&'static str, Vec<u8>)> {
    let known = lab.genesis.transaction_topic();
    let rpcs = |count: u32, make: &dyn Fn(u32) -> Vec<Frame>| {
        (0..count).flat_map(|number| wire::encode(&make(number)).to_vec()).collect::<Vec<u8>>()
    };
    let subscription = |topic| Frame::Subscription(Subscription { subscribe: true, topic });
    vec![
        ("subscriptions", rpcs(100, &|rpc| (0..500).map(|n| subscription(topic(rpc * 500 + n))).collect())),
        ("GRAFT of unknown topics", rpcs(500, &|rpc| (0..100).map(|n| Frame::Graft(topic(rpc * 100 + n))).collect())),
        ("GRAFT again and again", rpcs(20_000, &|_| vec![Frame::Graft(known.clone())])),
        (
            "PRUNE for ever",
            rpcs(2_000, &|rpc| {
                let prune = |topic| Prune { topic, backoff_seconds: Some(u64::MAX), peers: Vec::new() };
                (0..50)
                    .map(|n| Frame::Prune(prune(topic(rpc * 50 + n))))
                    .chain([Frame::Prune(prune(known.clone()))])
                    .collect()
            }),
        ),
        ("IHAVE", rpcs(200, &|rpc| vec![Frame::IHave { topic: known.clone(), ids: ids(rpc * 5_000, 5_000).into() }])),
        ("IWANT", rpcs(200, &|rpc| vec![Frame::IWant(ids(rpc * 5_000, 5_000).into())])),
        ("IDONTWANT", rpcs(1_000, &|rpc| vec![Frame::IDontWant(ids(rpc * 1_000, 1_000).into())])),
    ]
}

/// A message, as the bytes of a frame.
pub(crate) fn publish(topic: &Topic, data: &[u8]) -> Vec<u8> {
    let payload = Payload::new(topic, data);
    wire::encode(&[Frame::Publish { payload, class: Class::Forward }]).to_vec()
}

/// The sum of a metric over its labels.
pub(crate) fn metric(node: &Running, name: &str) -> u64 {
    let address = node.addresses().rpc;
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("sent");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page");
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Publishes through `from` until so many transactions are included at `node`; the slowest answer of `node` meanwhile.
async fn honest_traffic(lab: &Lab, from: &Running, node: &Running, transactions: u64) -> Duration {
    let (from, node) = (from.rpc(), node.rpc());
    let key = keyfile::generate().expect("entropy");
    let mut slowest = Duration::ZERO;
    for nonce in 0..transactions {
        let asked = Instant::now();
        let slot = node.node_info().await.expect("an answer").slot_now;
        slowest = slowest.max(asked.elapsed());
        let good = transaction(lab, &key, slot, |body| body.nonce = nonce);
        let id = from.tx_submit(&good).await.expect("taken").id;
        let deadline = asked + DEADLINE;
        loop {
            let asked = Instant::now();
            let status = node.tx_get(&id).await.expect("an answer").status;
            slowest = slowest.max(asked.elapsed());
            if matches!(status, TransactionStatus::Included { .. }) {
                break;
            }
            assert!(asked < deadline, "{id:?} is not included");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_cost_bounded_memory_and_lose_nothing() {
    let lab = Lab::new("floods", 0);
    let victim = lab.start_producer(&[]);
    let address = victim.addresses().listen[0].clone();
    let honest = lab.start("honest", 2, &["--bootnodes", &address]);
    ready(&honest.rpc()).await;
    let before = victim.resident_kib();
    let mut attackers = Vec::new();
    let mut sent = 0;
    for (kind, bytes) in floods(&lab) {
        let attacker = Attacker::connect(&address, &lab.genesis.short_id()).await;
        sent += bytes.len() as u64;
        attacker.write(Stream::Mesh, bytes).await;
        attackers.push((kind, attacker));
    }
    let slowest = honest_traffic(&lab, &honest, &victim, 4).await;
    eventually("an end of the floods", || async {
        let net = victim.rpc().net_info().await.expect("an answer");
        // Those of the attackers that are turned away do not come to the end.
        (net.frame_in_bytes > sent / 2 || attackers.iter().all(|(_, attacker)| attacker.is_out())).then_some(())
    })
    .await;
    let grown = victim.resident_kib().saturating_sub(before);
    assert!(grown < RESIDENT_KIB_PER_ATTACKER * attackers.len() as u64, "{grown} KiB more");
    assert!(slowest < Duration::from_secs(2), "an answer took {slowest:?}");
    for (kind, attacker) in &attackers {
        assert!(attacker.read_bytes() < 1 << 20, "{kind} was answered with {} bytes", attacker.read_bytes());
    }
    victim.stop();
}

/// What a hostile peer publishes, by number.
type Spam<'a> = (&'a str, &'a Topic, Box<dyn Fn(u32) -> Vec<u8> + 'a>);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_what_is_invalid_is_out_after_three() {
    let lab = Lab::new("invalid", 4);
    let stranger = Lab::new("stranger", 4);
    let victim = lab.start_producer(&[]);
    let address = victim.addresses().listen[0].clone();
    let rpc = victim.rpc();
    let producer = keyfile::read(&lab.path("producer.pem")).expect("a key");
    eventually("a block", || async { (rpc.chain_head().await.expect("an answer").height > 0).then_some(()) }).await;
    let head = rpc.chain_head().await.expect("an answer");
    let slot = head.slot_now;
    let sender = SecretKey::from_seed(&[9; 32]);
    let (transactions, blocks) = (lab.genesis.transaction_topic(), lab.genesis.block_topic());
    let numbered =
        |lab: &Lab, number: u32| transaction(lab, &sender, slot, |body| body.payload = number.to_le_bytes().to_vec());
    let header = |number: u32, producer: &SecretKey| Header {
        network: lab.genesis.network_id(),
        slot,
        height: head.height + 1 + u64::from(number),
        parent: head.block_id,
        transaction_root: starling_crypto::merkle::root([]),
        transaction_count: 0,
        producer: producer.public_key().to_bytes(),
    };
    let block = |header: Header, key: &SecretKey| Block::from_parts(header.sign(key), Vec::new()).bytes().to_vec();
    let kinds: Vec<Spam<'_>> = vec![
        ("garbage", transactions, Box::new(|number| number.to_le_bytes().repeat(50))),
        ("garbage for blocks", blocks, Box::new(|number| number.to_le_bytes().repeat(50))),
        (
            "transactions with forged signatures",
            transactions,
            Box::new(|number| {
                let mut bytes = numbered(&lab, number);
                *bytes.last_mut().expect("a signature") ^= 1;
                bytes
            }),
        ),
        ("transactions of another network", transactions, Box::new(|number| numbered(&stranger, number))),
        (
            "transactions with a weak stamp",
            transactions,
            Box::new(|number| {
                transaction(&lab, &sender, slot, |body| (body.nonce, body.stamp) = (0, 1 + 2 * u64::from(number)))
            }),
        ),
        (
            "transactions that expire too late",
            transactions,
            Box::new(|number| {
                transaction(&lab, &sender, slot, |body| body.expiry_slot = slot + 1_000_000 + u64::from(number))
            }),
        ),
        (
            "blocks whose body is another",
            blocks,
            Box::new(|number| {
                let mut header = header(number, &producer);
                header.transaction_count = 1;
                block(header, &producer)
            }),
        ),
        ("blocks that the producer did not sign", blocks, Box::new(|number| block(header(number, &producer), &sender))),
        ("blocks out of turn", blocks, Box::new(|number| block(header(number, &sender), &sender))),
    ];
    for (kind, topic, make) in &kinds {
        let rejected = metric(&victim, "starling_messages_rejected");
        let attacker = Attacker::connect(&address, &lab.genesis.short_id()).await;
        attacker.write(Stream::Mesh, (0..SPAM).flat_map(|number| publish(topic, &make(number))).collect()).await;
        eventually(kind, || async { attacker.is_out().then_some(()) }).await;
        let rejected = metric(&victim, "starling_messages_rejected") - rejected;
        // What is being verified while the verdict on the first ones comes is verified to the end.
        assert!(rejected >= 1 && rejected < u64::from(SPAM) / 2, "{kind}: {rejected} of {SPAM} looked at");
    }
    let height = rpc.chain_head().await.expect("an answer").height;
    eventually("more blocks", || async { (rpc.chain_head().await.expect("an answer").height > height).then_some(()) })
        .await;
    victim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_blocks_are_served_in_turn_and_garbage_is_turned_away() {
    let lab = Lab::new("requests", 0);
    let victim = lab.start_producer(&[]);
    let address = victim.addresses().listen[0].clone();
    let rpc = victim.rpc();
    eventually("blocks", || async { (rpc.chain_head().await.expect("an answer").height > 2).then_some(()) }).await;
    let framed = |body: &[u8]| {
        let length = u32::try_from(body.len()).expect("short");
        [length.to_le_bytes().as_slice(), body].concat()
    };
    let after = |ids: usize| {
        let locator = vec![lab.genesis.block_id(); ids];
        framed(&Request::Headers { locator, headers_max: u16::MAX }.encode())
    };
    let before = victim.resident_kib();
    let kinds = [
        ("everything at once", after(LOCATOR_IDS_MAX), false),
        ("a locator that is too long", after(LOCATOR_IDS_MAX + 1), true),
        ("garbage", framed(&[0xff; 1_000]), true),
        ("a length beyond every limit", [u32::MAX.to_le_bytes().to_vec(), vec![7; 100_000]].concat(), false),
        ("half a request", vec![4, 0], false),
    ];
    let mut attackers = Vec::new();
    for (kind, body, is_out) in kinds {
        let attacker = Attacker::connect(&address, &lab.genesis.short_id()).await;
        eventually("the attacker is a peer", || async {
            let peers = rpc.net_peers().await.expect("an answer");
            peers.iter().any(|peer| peer.peer_id == attacker.peer_id.to_string()).then_some(())
        })
        .await;
        for _ in 0..100 {
            attacker.write(Stream::Blocks, body.clone()).await;
        }
        if is_out {
            eventually(kind, || async { attacker.is_out().then_some(()) }).await;
        }
        attackers.push((kind, attacker));
    }
    let (kind, greedy) = &attackers[0];
    eventually(kind, || async { (greedy.read_bytes() > 1_000).then_some(()) }).await;
    rpc.chain_head().await.expect("an answer");
    let grown = victim.resident_kib().saturating_sub(before);
    assert!(grown < RESIDENT_KIB_PER_ATTACKER * attackers.len() as u64, "{grown} KiB more");
    victim.stop();
    let log = std::fs::read_to_string(lab.log("producer")).expect("a log");
    assert!(log.lines().count() < 200, "a peer must not be able to fill the log: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_frames_half_handshakes_and_garbage_keep_nobody_out() {
    let lab = Lab::new("halves", 0);
    let victim = lab.start_producer(&[]);
    let address = victim.addresses().listen[0].clone();
    let before = victim.resident_kib();
    let mut attackers = Vec::new();
    for _ in 0..4 {
        let attacker = Attacker::connect(&address, &lab.genesis.short_id()).await;
        // The length of a frame of 4 MiB, of which the last byte never comes, on more streams than are read.
        let mut half = vec![0x80, 0x80, 0x80, 0x02];
        half.resize(4 << 20, 0);
        for _ in 0..10 {
            attacker.write(Stream::Mesh, half.clone()).await;
        }
        attackers.push(attacker);
    }
    let port = address.split('/').nth(4).and_then(|port| port.parse().ok()).expect("a port");
    let mut sockets = Vec::new();
    for number in 0..20 * 10 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let from = std::net::SocketAddr::from(([127, 88, 0, 1 + number % 20], 0));
        socket.bind(from).expect("a loopback address");
        let mut stream = socket.connect(([127, 77, 0, 1], port).into()).await.expect("connected");
        if number % 3 == 0 {
            // Refused ones are closed already.
            let _closed = stream.write_all(&[number; 10_000]).await;
        }
        sockets.push(stream);
    }
    let begun = Instant::now();
    let honest = lab.start("honest", 2, &["--bootnodes", &address]);
    ready(&honest.rpc()).await;
    // Long before the handshakes time out.
    assert!(begun.elapsed() < Duration::from_secs(8), "ready after {:?}", begun.elapsed());
    honest_traffic(&lab, &honest, &victim, 2).await;
    let grown = victim.resident_kib().saturating_sub(before);
    assert!(grown < RESIDENT_KIB_PER_ATTACKER * attackers.len() as u64, "{grown} KiB more");
    drop(sockets);
    victim.stop();
}
