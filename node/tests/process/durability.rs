//! What survives a kill, and what a clean stop.

use crate::disk::included;
use crate::lab::{Lab, eventually};
use rustix::process::Signal;
use starling_node::storage::Store;
use starling_protocol::store::StoreOp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Nobody else knows of what is submitted here: it is on this node's disk, or lost.
#[tokio::test]
async fn what_was_accepted_is_offered_again_after_a_kill() {
    let lab = Lab::new("killed-after-the-answer", 0);
    let mut lonely = lab.start("lonely", 2, &[]);
    let rpc = lonely.rpc();
    let mut accepted = Vec::new();
    for number in 0..20_u8 {
        accepted.push(rpc.tx_publish(&[number; 100]).await.expect("accepted"));
    }
    lonely.signal(Signal::KILL);
    lonely.wait();
    let nonces: Vec<u64> = accepted.iter().map(|submitted| submitted.nonce).collect();
    assert_eq!(nonces, (0..20).collect::<Vec<_>>());

    let producer = lab.start_producer(&[]);
    let bootnode = producer.addresses().listen[0].clone();
    let lonely = lab.start("lonely", 2, &["--bootnodes", &bootnode]);
    let ids: Vec<_> = accepted.iter().map(|submitted| submitted.id).collect();
    included(&producer.rpc(), &ids).await;
    // And the next one follows on them.
    let next = lonely.rpc().tx_publish(b"next").await.expect("accepted");
    assert_eq!(next.nonce, 20);
    lonely.stop();
    producer.stop();
}

#[tokio::test]
async fn what_others_sent_waits_here_again_after_a_clean_stop() {
    let lab = Lab::new("pool", 0);
    let sender = lab.start("sender", 1, &[]);
    let bootnode = sender.addresses().listen[0].clone();
    let keeper = lab.start("keeper", 2, &["--bootnodes", &bootnode]);
    crate::ready(&keeper.rpc()).await;
    let submitted = sender.rpc().tx_publish(b"hello").await.expect("accepted");
    let waits = |rpc| {
        let id = submitted.id;
        async move {
            eventually("the transaction in the pool", || async {
                matches!(rpc_status(&rpc, &id).await, Some(starling_node::api::TransactionStatus::Pending))
                    .then_some(())
            })
            .await;
        }
    };
    waits(keeper.rpc()).await;
    keeper.stop();
    sender.stop();
    let keeper = lab.start("keeper", 2, &[]);
    waits(keeper.rpc()).await;
    keeper.stop();
}

/// The recorded slot is read at the start and kept to, and is never behind what was made.
#[tokio::test]
async fn a_producer_keeps_to_the_slot_that_it_has_recorded() {
    let lab = Lab::old("signed", 5, 300);
    let store = || Store::open(&lab.path("producer/chain.redb"), lab.genesis.network_id()).expect("a store");
    // As if the clock had been set back while the node was down.
    let unix_us = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let now = lab.genesis.slot_at(u64::try_from(unix_us).expect("fits")).expect("it has begun");
    let recorded = now + 12;
    store().apply([&[StoreOp::SetSigned { slot: recorded }][..]]).expect("stored");
    let mut node = lab.start_producer(&[]);
    let rpc = node.rpc();
    let head = eventually("a block", || async { rpc.chain_head().await.ok().filter(|head| head.height > 5) }).await;
    node.signal(Signal::KILL);
    node.wait();
    assert!(head.slot > recorded, "it made a block for slot {}, and may have made one before", head.slot);
    let recorded = store().signed().expect("readable").expect("a slot");
    assert!(recorded >= head.slot, "slot {recorded} is recorded, and a block for slot {} was made", head.slot);
}

async fn rpc_status(
    rpc: &starling_node::rpc::client::RpcClient,
    id: &starling_protocol::id::TransactionId,
) -> Option<starling_node::api::TransactionStatus> {
    rpc.tx_get(id).await.ok().map(|reply| reply.status)
}
