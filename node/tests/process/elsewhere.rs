//! Two nodes with one producer key.

use crate::lab::{Lab, Running, eventually};
use crate::ready;
use starling_node::keyfile;

async fn height(node: &Running) -> u64 {
    node.rpc().chain_head().await.expect("an answer").height
}

async fn elsewhere(node: &Running) -> Option<u64> {
    node.rpc().node_info().await.expect("an answer").producer_elsewhere_slot
}

/// Neither has a transaction, so that both make the very same blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_starts_beside_another_with_its_key_says_so() {
    let key = keyfile::generate().expect("entropy");
    let lab = Lab::begun("twins", &[&key], 600, 0);
    keyfile::create(&lab.path("producer.pem"), &key).expect("made");
    let first = lab.start_producer(&[]);
    let address = first.addresses().listen[0].clone();
    let other = lab.start("other", 2, &["--bootnodes", &address]);
    ready(&other.rpc()).await;
    eventually("blocks", || async { (height(&other).await >= 3).then_some(()) }).await;

    let flags = ["--bootnodes", &address, "--producer-key", "producer.pem"];
    let twin = lab.start("twin", 3, &flags);
    eventually("the twin to notice", || async { elsewhere(&twin).await }).await;
    let doctor = lab.run(&["doctor", "--datadir", "twin"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("another node signs blocks with this node's producer key"), "{doctor:?}");
    let status = lab.run(&["status", "--datadir", "twin"]).good();
    assert!(status.contains("another node signs blocks with this node's producer key"), "{status}");
    let log = std::fs::read_to_string(lab.log("twin")).expect("a log");
    assert!(log.contains("another node signs blocks with the producer key of this one"), "{log}");
    twin.stop();

    // One that has lost its data directory finds its own blocks at others, and raises no alarm.
    first.stop();
    let before = height(&other).await;
    let address = other.addresses().listen[0].clone();
    let again = lab.start("again", 1, &["--bootnodes", &address, "--producer-key", "producer.pem"]);
    eventually("the chain, and blocks on it", || async { (height(&again).await > before + 2).then_some(()) }).await;
    assert_eq!((elsewhere(&again).await, elsewhere(&other).await), (None, None));
    again.stop();
    other.stop();
}
