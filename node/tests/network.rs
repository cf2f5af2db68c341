//! Whole nodes that find each other, spread transactions and blocks, stop and come back.

mod common;

use common::{TestNode, eventually, genesis, key};
use starling_node::api::TransactionStatus;
use starling_protocol::transaction::TransactionBuilder;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_submitted_to_one_node_is_found_in_a_block_at_another() {
    let genesis = genesis("three-nodes");
    let producer = TestNode::start(&genesis, 1, &[]).await;
    let second = TestNode::start(&genesis, 2, std::slice::from_ref(&producer.address)).await;
    let third = TestNode::start(&genesis, 3, std::slice::from_ref(&producer.address)).await;
    for node in [&producer, &second, &third] {
        eventually("every node finds both others and is ready", || async {
            let ready = node.handle.ready().await.expect("answers");
            (ready.ready && ready.peers == 2).then_some(())
        })
        .await;
    }

    let expiry_slot = second.handle.node_info().await.expect("answers").slot_now + 500;
    let transaction =
        TransactionBuilder::new(&genesis, expiry_slot).payload(*b"hello").build(&key(9)).expect("a valid transaction");
    let submitted = second.handle.submit_transaction(transaction.bytes().to_vec()).await.expect("is taken");
    assert_eq!(submitted.id, transaction.id());

    for node in [&producer, &second, &third] {
        let (height, block_id) = eventually("the transaction is included everywhere", || async {
            match node.handle.transaction_status(submitted.id).await.expect("answers").status {
                TransactionStatus::Included { height, block_id, .. } => Some((height, block_id)),
                _ => None,
            }
        })
        .await;
        let selector = starling_node::api::BlockSelector::Height(height);
        let block = node.handle.block(selector).await.expect("answers").expect("is there");
        assert_eq!(block.block_id, block_id);
        assert!(block.transactions.contains(&submitted.id));
    }
    for node in [producer, second, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_catches_up_and_one_that_restarts_remembers() {
    let genesis = genesis("restart");
    let producer = TestNode::start(&genesis, 1, &[]).await;
    eventually("the producer makes blocks", || async {
        (producer.handle.chain_head().await.expect("answers").height >= 3).then_some(())
    })
    .await;

    let late = TestNode::start(&genesis, 2, std::slice::from_ref(&producer.address)).await;
    let height = eventually("the late node catches up", || async {
        let height = late.handle.chain_head().await.expect("answers").height;
        (height >= 3).then_some(height)
    })
    .await;

    let datadir = late.stop().await;
    let again = TestNode::start_in(datadir, &genesis, 2, &[]).await;
    let remembered = again.handle.chain_head().await.expect("answers").height;
    assert!(remembered >= height, "stopped at {height}, came back at {remembered}");
    again.stop().await;
    producer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_with_different_genesis_never_meet() {
    let (one, other) = (genesis("one"), genesis("other"));
    let first = TestNode::start(&one, 1, &[]).await;
    let stranger = TestNode::start(&other, 2, std::slice::from_ref(&first.address)).await;
    let friend = TestNode::start(&one, 3, std::slice::from_ref(&first.address)).await;
    eventually("the friend finds the first node", || async {
        (friend.handle.ready().await.expect("answers").ready).then_some(())
    })
    .await;
    // The stranger dialled before the friend did; by now it has been turned away.
    eventually("the stranger is turned away", || async {
        let peers = stranger.handle.peers().await.expect("answers");
        peers.is_empty().then_some(())
    })
    .await;
    let known: Vec<String> =
        first.handle.peers().await.expect("answers").into_iter().map(|peer| peer.peer_id).collect();
    assert_eq!(known, std::slice::from_ref(&friend.peer_id));
    assert_eq!(stranger.handle.chain_head().await.expect("answers").height, 0);
    for node in [first, stranger, friend] {
        node.stop().await;
    }
}
