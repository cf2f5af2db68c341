//! What becomes of a data directory behind a node's back: damaged before it starts, or gone while it runs.

use crate::lab::{Lab, Running, eventually, wait_for};
use starling_node::api::StorageState;
use std::fs;
use std::path::PathBuf;

/// What a damaged or foreign store is answered with: no panic, the file's name, and what to do.
fn assert_explained(lab: &Lab, name: &str, case: &str, codes: &[i32]) {
    let (code, error) = lab.refuse(name, 1, &[]);
    assert!(code.is_some_and(|code| codes.contains(&code)), "{case}: {code:?}: {error}");
    let last = error.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(last.contains("chain.redb"), "{case}: the file is not named: {error}");
    assert!(last.contains("; ") || last.contains(", or "), "{case}: there is no remedy: {error}");
}

/// A node's store with some blocks in it, and a height that it surely has.
async fn stored(lab: &Lab) -> (PathBuf, u64) {
    let node = lab.start_producer(&[]);
    let rpc = node.rpc();
    rpc.tx_publish(b"precious").await.expect("taken");
    eventually("some blocks", || async { (rpc.chain_head().await.ok()?.height >= 3).then_some(()) }).await;
    node.stop();
    (lab.path("producer").join("chain.redb"), 3)
}

#[tokio::test]
async fn a_damaged_store_is_named_at_the_start_and_left_as_it_is() {
    let lab = Lab::new("damaged", 0);
    let (path, _) = stored(&lab).await;
    let whole = fs::read(&path).expect("a store");
    let flipped = |at: usize, bytes: usize| {
        let mut damaged = whole.clone();
        damaged[at..at + bytes].iter_mut().for_each(|byte| *byte ^= 0xff);
        damaged
    };
    // The header and both of its commit slots are in the first page; the stamp and the blocks come after.
    let cases = [
        ("not a store at all", b"precious text of somebody else".repeat(1_000)),
        ("without its first bytes", flipped(0, 32)),
        ("with a wrong header", flipped(32, 480)),
        ("cut off in the header", whole[..100].to_vec()),
        ("cut in half", whole[..whole.len() / 2].to_vec()),
    ];
    for (case, damaged) in cases {
        fs::write(&path, &damaged).expect("written");
        assert_explained(&lab, "producer", case, &[1]);
        assert_eq!(fs::read(&path).expect("still there").len(), damaged.len(), "{case}: it was changed");
    }
    // The remedy that the message names works: moved away, the node begins anew.
    fs::rename(&path, path.with_extension("moved")).expect("moved");
    let node = lab.start_producer(&[]);
    let rpc = node.rpc();
    eventually("blocks again", || async { (rpc.chain_head().await.ok()?.height > 0).then_some(()) }).await;
    node.stop();
}

/// Damage inside of pages may be anywhere. Wherever it is, a node that starts serves what is whole, and one that does not says
/// why; nothing panics.
#[tokio::test]
async fn damage_anywhere_in_the_store_never_panics_a_node() {
    let lab = Lab::new("rotten", 0);
    let (path, _) = stored(&lab).await;
    let whole = fs::read(&path).expect("a store");
    let used = whole.iter().rposition(|byte| *byte != 0).expect("some content");
    for part in 1..8 {
        let at = used * part / 8;
        let mut damaged = whole.clone();
        let end = (at + 700).min(damaged.len());
        damaged[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(&path, &damaged).expect("written");
        let log = lab.log("producer");
        fs::write(&log, "").expect("a log");
        let mut child = lab.command("producer", 1, &["--producer-key", "producer.pem"]).spawn().expect("it starts");
        let addresses = path.with_file_name("addresses.json");
        let ended = wait_for("an end or a beginning", || match child.try_wait().expect("a child") {
            Some(status) => Some(Some(status)),
            None => addresses.exists().then_some(None),
        });
        drop(child.stdin.take());
        let status = child.wait().expect("it ends");
        let text = fs::read_to_string(&log).expect("a log");
        assert!(!text.contains("panicked"), "damage at {at}: {text}");
        assert!(matches!(status.code(), Some(0..=2)), "damage at {at}: {status}: {text}");
        if ended.is_some() {
            assert!(text.contains("chain.redb") || text.contains("stored block"), "damage at {at}: {text}");
        }
    }
}

/// Whether a node still makes and serves blocks.
async fn goes_on(node: &Running) {
    let rpc = node.rpc();
    let height = rpc.chain_head().await.expect("an answer").height;
    eventually("the chain to go on", || async { (rpc.chain_head().await.ok()?.height > height + 3).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_data_directory_that_vanishes_ends_nothing_and_comes_back_empty() {
    let lab = Lab::new("vanished", 0);
    let node = lab.start_producer(&[]);
    goes_on(&node).await;
    // The file stays as long as the node has it open; what is lost is the way to it.
    fs::rename(lab.path("producer"), lab.path("elsewhere")).expect("moved");
    fs::remove_dir_all(lab.path("elsewhere")).expect("removed");
    // It says so, and makes no blocks that it could not keep.
    eventually("the node to miss it", || async {
        let storage = node.rpc().ready().await.expect("it still answers").storage;
        matches!(storage, StorageState::Failing { cause } if cause.contains("no longer there")).then_some(())
    })
    .await;
    let log = fs::read_to_string(lab.log("producer")).expect("a log");
    assert!(!log.contains("panicked"), "{log}");
    node.stop();
    // The next start makes a new directory, with a new identity, and a chain from its beginning.
    let node = lab.start_producer(&[]);
    goes_on(&node).await;
    node.stop();
}
