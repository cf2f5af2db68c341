//! Catching up, between real processes.

use crate::lab::{DEADLINE, Lab, Running, eventually};
use crate::ready;
use starling_crypto::SecretKey;
use starling_node::api::{BlockSelector, WaitReason};
use starling_node::keyfile;
use starling_protocol::block::Block;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::BlockId;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

/// Blocks that the producer has when a node joins.
const HEIGHT: u64 = 5_000;

async fn id_at(node: &Running, height: u64) -> Option<BlockId> {
    let block = node.rpc().chain_block(BlockSelector::Height(height)).await.expect("an answer");
    block.map(|block| block.block_id)
}

async fn height(node: &Running) -> u64 {
    node.rpc().chain_head().await.expect("an answer").height
}

fn metrics(rpc: SocketAddr) -> String {
    let mut stream = TcpStream::connect(rpc).expect("connected");
    stream
        .write_all(format!("GET /metrics HTTP/1.1\r\nhost: {rpc}\r\nconnection: close\r\n\r\n").as_bytes())
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_at_height_5000_and_catches_up_again_after_a_stop() {
    let lab = Lab::old("catch-up", HEIGHT, 100);
    let producer = lab.start_producer(&[]);
    let address = producer.addresses().listen[0].clone();
    let begun = Instant::now();
    let mut joiner = lab.start("joiner", 2, &["--bootnodes", &address]);
    let rpc = joiner.rpc();
    eventually("the chain", || async {
        let head = rpc.chain_head().await.expect("an answer");
        (head.height >= HEIGHT).then_some(())
    })
    .await;
    let took = begun.elapsed();
    println!("joined at height {HEIGHT} in {took:?}");
    // Metrics are published at intervals, and the whole chain may have come in less than one.
    eventually("requests for up to 64 blocks at a time", || async {
        let metrics = metrics(joiner.addresses().rpc);
        let sent =
            metrics.lines().find(|line| line.starts_with("starling_sync_requests_sent_total{outcome=\"all\"}"))?;
        let sent: u64 = sent.rsplit_once(' ')?.1.parse().expect("a count");
        assert!(sent < 1_000, "{sent} requests");
        (sent >= 10).then_some(())
    })
    .await;

    joiner.signal(rustix::process::Signal::TERM);
    assert_eq!(joiner.wait().0.code(), Some(0));
    let stopped_at = producer.rpc().chain_head().await.expect("an answer").height;
    eventually("blocks without the joiner", || async {
        (producer.rpc().chain_head().await.expect("an answer").height >= stopped_at + 20).then_some(())
    })
    .await;
    let joiner = lab.start("joiner", 2, &["--bootnodes", &address]);
    let rpc = joiner.rpc();
    eventually("both at one height", || async {
        let ours = rpc.chain_head().await.expect("an answer");
        let theirs = producer.rpc().chain_head().await.expect("an answer");
        (ours.height > stopped_at + 20 && ours.height + 1 >= theirs.height).then_some(())
    })
    .await;
    eventually("readiness", || async { rpc.ready().await.expect("an answer").ready.then_some(()) }).await;
    let log = std::fs::read_to_string(lab.log("joiner")).expect("a log");
    assert!(!log.contains("a peer failed us"), "{log}");
}

#[tokio::test]
async fn a_node_that_was_stopped_for_100_blocks_converges_by_itself() {
    let (lab, blocks) = Lab::old_with_blocks("stopped", 300, 100);
    lab.seed("sleeper", &blocks[..200]);
    let producer = lab.start_producer(&[]);
    let sleeper = lab.start("sleeper", 2, &["--bootnodes", &producer.addresses().listen[0]]);
    eventually("the blocks that were missed, and those made since", || async {
        let (ours, theirs) = (height(&sleeper).await, height(&producer).await);
        (ours > 300 && ours + 1 >= theirs).then_some(())
    })
    .await;
    for height in [200, 201, 300, 301] {
        assert_eq!(id_at(&sleeper, height).await, id_at(&producer, height).await, "height {height}");
    }
    assert_eq!(id_at(&sleeper, 300).await, Some(blocks[299].id()));
    ready(&sleeper.rpc()).await;
}

/// A way to this address on an address of its own, over which so many bytes come as it has permits.
async fn narrow_way(to: SocketAddr, permits: Arc<Semaphore>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.77.0.9:0").await.expect("a socket");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let there = tokio::net::TcpStream::connect(to).await.expect("connected");
            let ((mut from_here, mut to_here), (mut from_there, mut to_there)) =
                (here.into_split(), there.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_here, &mut to_there).await });
            let permits = permits.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4_096];
                while let Ok(read @ 1..) = from_there.read(&mut buffer).await {
                    let needed = u32::try_from(read).expect("a buffer's length");
                    permits.acquire_many(needed).await.expect("it is never closed").forget();
                    if to_here.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// What was told of the progress of a node that catches up.
#[derive(Debug, Default)]
struct Told {
    /// In `/ready`, whenever it was looked at.
    heights: Vec<u64>,
    /// How often with the rate and the time left.
    with_rate: usize,
    in_metrics: usize,
    in_status: usize,
}

impl Told {
    /// Looks once more; whether the node is up to date.
    async fn look(&mut self, lab: &Lab, joiner: &Running, chain: u64) -> bool {
        let ready = joiner.rpc().ready().await.expect("an answer");
        // Before it has heard of the chain it knows of nothing that it lacks.
        let Some(sync) = ready.sync else { return ready.ready && height(joiner).await >= chain };
        assert!(!ready.ready && sync.from <= sync.height && sync.height <= sync.target, "{sync:?}");
        if sync.target < chain || sync.height == 0 || sync.height + 100 > sync.target {
            return false;
        }
        assert!(ready.reasons.contains(&WaitReason::Chain), "{:?}", ready.reasons);
        let said = format!("the chain: at height {} of {}", sync.height, sync.target);
        assert!(ready.waiting_for.iter().any(|text| text.starts_with(&said)), "{said}: {:?}", ready.waiting_for);
        self.heights.push(sync.height);
        self.with_rate += usize::from(sync.blocks_per_s.is_some_and(|rate| rate > 0.0) && sync.remaining_s.is_some());
        let metrics = metrics(joiner.addresses().rpc);
        let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let waits = value("starling_waiting{reason=\"chain\"} ") == Some(1);
        let (height, target) = (value("starling_chain_height "), value("starling_sync_target_height "));
        self.in_metrics += usize::from(waits && height > Some(0) && height < target);
        let status = lab.run(&["status", "--datadir", "joiner"]).good();
        let shows = |line: &str| line.trim_start().starts_with("sync") && line.contains('%') && line.contains(" of ");
        self.in_status += usize::from(status.lines().any(shows));
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_while_a_node_catches_up() {
    const CHAIN: u64 = 2_000;
    /// Some thirty blocks.
    const BETWEEN_LOOKS: usize = 8 << 10;
    let lab = Lab::old("midway", CHAIN, 200);
    let producer = lab.start_producer(&[]);
    // What comes between two looks is little, however slow they are.
    let permits = Arc::new(Semaphore::new(0));
    let way = narrow_way(socket_of(&producer), permits.clone()).await;
    let bootnode = format!("/ip4/{}/tcp/{}/p2p/{}", way.ip(), way.port(), producer.addresses().peer_id);
    let joiner = lab.start("joiner", 2, &["--bootnodes", &bootnode]);
    let (mut told, deadline) = (Told::default(), Instant::now() + DEADLINE);
    while !told.look(&lab, &joiner, CHAIN).await {
        assert!(Instant::now() < deadline, "waited too long for the chain: {told:?}");
        permits.add_permits(BETWEEN_LOOKS);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let heights = &told.heights;
    assert!(heights.len() > 2 && heights.is_sorted() && heights.first() < heights.last(), "{told:?}");
    assert!(told.with_rate > 0 && told.in_metrics > 0 && told.in_status > 0, "{told:?}");
    assert!(height(&joiner).await >= CHAIN);
}

/// The only way between two halves of a network: connections are closed at once until it is opened.
struct Bridge {
    address: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Bridge {
    /// A bridge to this address on an address of its own.
    async fn to(there: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.77.0.9:0").await.expect("a socket");
        let (address, open) = (listener.local_addr().expect("bound"), Arc::new(AtomicBool::new(false)));
        let is_open = open.clone();
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                if is_open.load(Ordering::Relaxed) {
                    tokio::spawn(async move {
                        let mut there = tokio::net::TcpStream::connect(there).await.expect("connected");
                        // Either end may close it in any way.
                        let _closed = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    });
                }
            }
        });
        Self { address, open }
    }

    fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }
}

/// Where a node listens, from `/ip4/ADDRESS/tcp/PORT/p2p/ID`.
fn socket_of(node: &Running) -> SocketAddr {
    let address = &node.addresses().listen[0];
    let parts: Vec<&str> = address.split('/').collect();
    format!("{}:{}", parts[2], parts[4]).parse().unwrap_or_else(|_| panic!("{address}"))
}

/// Two branches of so many blocks each on 10 common blocks, made in turns by the two producers.
fn branches(genesis: &Genesis, producers: &[SecretKey; 2], each: u64) -> [Vec<Block>; 2] {
    let mut branches = [Vec::new(), Vec::new()];
    for slot in 1..=10 + 2 * each {
        let produce = |branch: &Vec<Block>| {
            let parent = branch.last().map_or(genesis.block_id(), Block::id);
            let position = (slot, branch.len() as u64 + 1, parent);
            producers.iter().find_map(|key| Block::produce(genesis, key, position, Vec::new()).ok()).expect("in turn")
        };
        if slot <= 10 {
            let block = produce(&branches[0]);
            branches.iter_mut().for_each(|branch| branch.push(block.clone()));
        } else {
            let in_turn = usize::from(*genesis.producer_of(slot) == producers[1].public_key());
            let block = produce(&branches[in_turn]);
            branches[in_turn].push(block);
        }
    }
    branches
}

#[tokio::test(flavor = "multi_thread")]
async fn two_halves_of_a_partition_that_is_healed_converge_by_themselves() {
    const BRANCH: u64 = 60;
    let producers = [(); 2].map(|()| keyfile::generate().expect("entropy"));
    // At 2.5 blocks a second and half, a busy host has more than a minute before a branch is too deep to be undone.
    let lab = Lab::begun("partition", &[&producers[0], &producers[1]], 200, 10 + 2 * BRANCH);
    let branches = branches(&lab.genesis, &producers, BRANCH);
    for (name, key, branch) in [("a1", &producers[0], &branches[0]), ("b1", &producers[1], &branches[1])] {
        keyfile::create(&lab.path(&format!("{name}.pem")), key).expect("made");
        lab.seed(name, branch);
    }
    let a1 = lab.start("a1", 1, &["--producer-key", "a1.pem"]);
    let bridge = Bridge::to(socket_of(&a1)).await;
    let across = format!("/ip4/{}/tcp/{}/p2p/{}", bridge.address.ip(), bridge.address.port(), a1.addresses().peer_id);
    let b1 = lab.start("b1", 2, &["--producer-key", "b1.pem", "--bootnodes", &across]);
    let a2 = lab.start("a2", 3, &["--bootnodes", &a1.addresses().listen[0]]);
    let b2 = lab.start("b2", 4, &["--bootnodes", &b1.addresses().listen[0]]);
    let nodes = [&a1, &a2, &b1, &b2];
    eventually("both halves to go on, each on its own branch", || async {
        let mut heights = Vec::new();
        for node in nodes {
            heights.push(height(node).await);
        }
        heights.iter().all(|height| *height > 10 + BRANCH).then_some(())
    })
    .await;
    let first = async || {
        let mut ids = Vec::new();
        for node in nodes {
            ids.push(id_at(node, 11).await.expect("a block"));
        }
        ids
    };
    let [of_a, of_b] = branches.each_ref().map(|branch| branch[10].id());
    assert_eq!(first().await, [of_a, of_a, of_b, of_b]);

    bridge.open();
    eventually("one branch", || async {
        (first().await.into_iter().collect::<BTreeSet<_>>().len() == 1).then_some(())
    })
    .await;
    let healed = height(&a1).await;
    eventually("blocks of both producers, the same everywhere", || async {
        let lowest = height(&a2).await.min(height(&b2).await);
        let mut made_by = BTreeSet::new();
        for height in healed..=lowest {
            let mut ids = BTreeSet::new();
            for node in nodes {
                let block = node.rpc().chain_block(BlockSelector::Height(height)).await.expect("an answer")?;
                ids.insert(block.block_id);
                made_by.insert(block.producer);
            }
            if ids.len() > 1 {
                return None;
            }
        }
        (made_by.len() == 2).then_some(())
    })
    .await;
    for (name, node) in ["a1", "a2", "b1", "b2"].into_iter().zip(nodes) {
        ready(&node.rpc()).await;
        let log = std::fs::read_to_string(lab.log(name)).expect("a log");
        assert!(!log.contains("a peer failed us"), "{log}");
    }
}

#[tokio::test]
async fn a_node_that_hears_nothing_suspects_itself_and_says_so() {
    let lab = Lab::new("silent", 0);
    // Two that know each other, and no producer.
    let one = lab.start("one", 2, &["--suspect-after-slots", "4"]);
    let address = &one.addresses().listen[0];
    let other = lab.start("other", 3, &["--bootnodes", address]);
    let rpc = other.rpc();
    let text = eventually("suspicion", || async {
        let ready = rpc.ready().await.expect("an answer");
        let place = ready.reasons.iter().position(|reason| *reason == WaitReason::Isolated)?;
        Some(ready.waiting_for[place].clone())
    })
    .await;
    assert!(text.starts_with("news of the network: no block for ") && text.contains("from 1 connected"), "{text}");
    eventually("a line in the log", || async {
        let log = std::fs::read_to_string(lab.log("other")).expect("a log");
        let told = |line: &&str| line.contains("WARN") && line.contains("this node suspects that it is cut off");
        log.lines().find(told).map(drop)
    })
    .await;
    // News end it.
    let _producer = lab.start_producer(&["--bootnodes", address]);
    ready(&rpc).await;
}
