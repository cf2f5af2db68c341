//! Whole nodes that find each other, spread transactions and blocks, stop and come back.

mod common;

use common::{DEADLINE, TestNode, eventually, genesis, key};
use starling_node::api::feed::{Feed, Topic, TransactionFilter};
use starling_node::api::{BlockName, ChainEvent, TransactionChange, TransactionEvent, TransactionStatus};
use starling_node::storage::Store;
use starling_protocol::block::Block;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::store::StoreOp;
use starling_protocol::transaction::{Transaction, TransactionBuilder};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

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

/// Two producers' network of fifty seconds ago, in which nobody has made a block since.
fn abandoned() -> Genesis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    Genesis::new(GenesisParameters {
        name: "two-halves".into(),
        start_time_ms: u64::try_from(now).expect("fits") - 50_000,
        slot_ms: 500,
        producers: vec![key(50).public_key().to_bytes(), key(51).public_key().to_bytes()],
        limits: Limits { expiry_slots_max: 1_000, ..Limits::default() },
        stamp_bits: 0,
    })
    .expect("a valid genesis")
}

/// A data directory whose chain has these blocks: their slots and transactions.
fn stored(genesis: &Genesis, blocks: &[(u64, Vec<Transaction>)]) -> (TempDir, Vec<Block>) {
    let datadir = TempDir::new().expect("a temporary directory");
    let store = Store::open(&datadir.path().join("chain.redb"), genesis.network_id()).expect("a store");
    let (mut made, mut batch, mut parent) = (Vec::new(), Vec::new(), genesis.block_id());
    for ((slot, transactions), height) in blocks.iter().zip(1..) {
        let produce =
            |number| Block::produce(genesis, &key(number), (*slot, height, parent), transactions.clone()).ok();
        let block = [50, 51].into_iter().find_map(produce).expect("the turn of one of them");
        let (id, bytes) = (block.id(), block.bytes().clone());
        parent = id;
        batch.push(StoreOp::PutBlock { id, height, slot: *slot, bytes });
        batch.push(StoreOp::SetCanonical { height, id });
        batch.push(StoreOp::SetHead { height, id, slot: *slot });
        made.push(block);
    }
    store.apply([&batch[..]]).expect("stored");
    (datadir, made)
}

async fn next<T: serde::de::DeserializeOwned>(feed: &mut Feed) -> T {
    let event = tokio::time::timeout(DEADLINE, feed.next()).await.expect("in time").expect("an event");
    serde_json::from_str(&event).expect("as documented")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_is_told_as_one_event_and_its_transactions_return() {
    let genesis = abandoned();
    let transaction = |number, payload: &'static [u8]| {
        TransactionBuilder::new(&genesis, 900).payload(payload).build(&key(number)).expect("valid")
    };
    let (lost, kept) = (transaction(8, b"in one half"), transaction(9, b"in both"));
    let (shorter, losing) = stored(&genesis, &[(3, vec![lost.clone(), kept.clone()]), (5, vec![])]);
    let (longer, winning) = stored(&genesis, &[(4, vec![]), (6, vec![kept.clone()]), (8, vec![])]);
    let names = |blocks: &[Block]| -> Vec<BlockName> {
        blocks.iter().map(|block| BlockName { height: block.header().height, block_id: block.id() }).collect()
    };
    let mut undone = names(&losing);
    undone.reverse();

    let minority = TestNode::start_in(shorter, &genesis, 1, &[]).await;
    let mut heads = minority.handle.subscribe(Topic::Chain).await.expect("subscribed");
    let all = Topic::Transactions(TransactionFilter::default());
    let mut transactions = minority.handle.subscribe(all).await.expect("subscribed");
    let majority = TestNode::start_in(longer, &genesis, 2, std::slice::from_ref(&minority.address)).await;

    // The branches may be equally long for a moment on the way, so the undoing need not come with the last block.
    let mut adopted = Vec::new();
    let mut reorganisations = Vec::new();
    while adopted.len() < winning.len() {
        let event: ChainEvent = next(&mut heads).await;
        assert_eq!(event.adopted.last().map(|last| last.block_id), Some(event.block_id), "{event:?}");
        adopted.extend(event.adopted);
        if !event.undone.is_empty() {
            reorganisations.push(event.undone);
        }
    }
    assert_eq!(adopted, names(&winning));
    assert_eq!(reorganisations, [undone], "each block is undone once, the highest first");

    let mut told = Vec::new();
    while !told.iter().any(|(event, _, id)| (*event, *id) == (TransactionChange::Included, kept.id())) {
        let TransactionEvent { event, block, transactions } = next(&mut transactions).await;
        told.extend(transactions.iter().map(|name| (event, block, name.id)));
    }
    let [first, second] = [names(&losing)[0], names(&winning)[1]];
    assert!(told.contains(&(TransactionChange::Returned, Some(first), lost.id())), "{told:?}");
    assert!(told.contains(&(TransactionChange::Included, Some(second), kept.id())), "{told:?}");
    let status = minority.handle.transaction_status(lost.id()).await.expect("answers").status;
    assert_eq!(status, TransactionStatus::Pending, "it waits for another block");
    for node in [minority, majority] {
        node.stop().await;
    }
}
