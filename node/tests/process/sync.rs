//! Catching up, between real processes.

use crate::lab::{Lab, eventually};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

/// Blocks that the producer has before the test begins.
const HEIGHT: u64 = 5_000;
const SLOT_MS: u64 = 100;

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
    let lab = Lab::old("catch-up", HEIGHT, SLOT_MS);
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
