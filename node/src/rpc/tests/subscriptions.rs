//! Subscriptions over real WebSockets, with feeds that the tests fill.

use super::{DEADLINE, server_of};
use crate::api::feed::{Feeds, QUEUE_EVENTS_MAX, TransactionFilter};
use crate::api::{BlockName, ChainEvent, Command, NodeHandle, TransactionChange, TransactionEvent, TransactionName};
use crate::metrics::Metrics;
use crate::rpc::client::{ClientError, RpcClient, Subscription};
use crate::rpc::subscriptions::PER_CONNECTION_MAX;
use crate::rpc::{RpcConfig, RpcServer, codes};
use serde_json::{Value, json};
use starling_crypto::{Digest, PublicKeyBytes};
use starling_protocol::id::{BlockId, TransactionId};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A node that only takes subscriptions.
struct Source {
    server: RpcServer,
    metrics: Metrics,
    feeds: Arc<Mutex<Feeds>>,
}

impl Source {
    async fn start(config: RpcConfig) -> Self {
        let (handle, mut commands) = NodeHandle::channel();
        let feeds = Arc::<Mutex<Feeds>>::default();
        let taken = Arc::clone(&feeds);
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                if let Command::Subscribe { topic, reply } = command {
                    let feed = taken.lock().expect("unpoisoned").subscribe(topic).expect("room");
                    drop(reply.send(Ok(feed)));
                }
            }
        });
        let (server, metrics) = server_of(&config, handle).await;
        Self { server, metrics, feeds }
    }

    fn client(&self) -> RpcClient {
        RpcClient::new(&self.server.local_address().to_string()).expect("an address")
    }

    fn tell_head(&self, height: u64) {
        let block_id = BlockId(Digest::ZERO);
        self.feeds.lock().expect("unpoisoned").tell_chain(&ChainEvent {
            height,
            block_id,
            slot: height,
            transactions: None,
            final_height: 0,
            undone: Vec::new(),
            adopted: vec![BlockName { height, block_id }],
        });
    }

    fn subscribers(&self) -> usize {
        let mut feeds = self.feeds.lock().expect("unpoisoned");
        feeds.forget_gone();
        feeds.len()
    }
}

async fn next<T: serde::de::DeserializeOwned>(subscription: &mut Subscription<T>) -> Result<T, ClientError> {
    tokio::time::timeout(DEADLINE, subscription.next()).await.expect("in time")
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn events_arrive_in_order_and_filtered_and_a_dropped_subscription_is_over() {
    let source = Source::start(RpcConfig::default()).await;
    let client = source.client();
    let mut heads = client.chain_subscribe().await.expect("subscribed");
    let mut again = client.chain_subscribe().await.expect("subscribed twice");
    let mine = PublicKeyBytes([7; 32]);
    let filter = TransactionFilter { senders: [mine].into(), ..TransactionFilter::default() };
    let mut transactions = client.tx_subscribe(&filter).await.expect("subscribed");
    assert_eq!(source.subscribers(), 3);
    for height in 0..100 {
        source.tell_head(height);
    }
    for height in 0..100 {
        assert_eq!(next(&mut heads).await.expect("an event").height, height);
    }
    assert_eq!(next(&mut again).await.expect("an event").height, 0);
    let name = |number: u8| {
        let (id, sender) = (TransactionId(Digest([number; 32])), PublicKeyBytes([number; 32]));
        TransactionName { id, sender, nonce: 0 }
    };
    let event = TransactionChange::Accepted;
    let told = TransactionEvent { event, block: None, transactions: vec![name(6), name(7)] };
    source.feeds.lock().expect("unpoisoned").tell_transactions(&told);
    let heard = next(&mut transactions).await.expect("an event");
    assert_eq!((heard.event, heard.transactions), (event, vec![name(7)]));

    drop((again, transactions));
    until("the end of two subscriptions", || source.subscribers() == 1).await;
    source.tell_head(100);
    assert_eq!(next(&mut heads).await.expect("an event").height, 100);
    source.server.stop().await;
    let lost = next(&mut heads).await.expect_err("the server is gone");
    assert!(matches!(lost, ClientError::Lost { .. }), "{lost}");
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_is_told_so_at_the_end_of_what_it_has() {
    let source = Source::start(RpcConfig::default()).await;
    let mut heads = source.client().chain_subscribe().await.expect("subscribed");
    // Without giving way, so that nothing is sent meanwhile.
    for height in 0..=QUEUE_EVENTS_MAX as u64 {
        source.tell_head(height);
    }
    assert_eq!(source.subscribers(), 0, "it is dropped");
    for height in 0..QUEUE_EVENTS_MAX as u64 {
        assert_eq!(next(&mut heads).await.expect("an event").height, height);
    }
    let end = next(&mut heads).await.expect_err("over");
    assert_eq!(end.reason(), Some("too_slow"), "{end}");
    heads.reconnect(DEADLINE).await.expect("subscribed again");
    source.tell_head(7);
    assert_eq!(next(&mut heads).await.expect("an event").height, 7);
    source.server.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_never_reads_loses_its_connection() {
    let config = RpcConfig { patience: Duration::from_millis(300), ..RpcConfig::default() };
    let source = Source::start(config).await;
    let mut socket = super::WebSocket::open(&source.server).await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "chain_subscribe", "params": [] }).to_string();
    socket.exchange(format!("{call:<126}").as_bytes()).await;
    let mut height = 0;
    until("the subscriber to be dropped", || {
        // More than the sockets' buffers take, in portions that a reader would have kept up with, and a busy host has.
        for _ in 0..QUEUE_EVENTS_MAX / 16 {
            source.tell_head(height);
            height += 1;
        }
        source.subscribers() == 0
    })
    .await;
    until("its connection to be closed", || source.metrics.rpc.slow_readers_closed.get() == 1).await;
    // What was written before is still read; then the connection is over, long before the node stops.
    let read = async {
        let mut all = Vec::new();
        let _reset = tokio::io::AsyncReadExt::read_to_end(&mut socket.0, &mut all).await;
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the connection was closed");
    source.server.stop().await;
}

#[tokio::test]
async fn subscriptions_are_refused_where_they_cannot_be_served() {
    let source = Source::start(RpcConfig::default()).await;
    let refused = source.client().call::<Value>("chain_subscribe", json!([])).await.expect_err("over HTTP");
    assert_eq!(refused.reason(), Some("websocket_needed"), "{refused}");
    let mut socket = super::WebSocket::open(&source.server).await;
    let mut ask = async |body: Value| socket.exchange(format!("{body:<126}").as_bytes()).await;
    let subscribe = |id| json!({ "jsonrpc": "2.0", "id": id, "method": "chain_subscribe" });
    let batched = ask(json!([subscribe(1)])).await;
    assert_eq!(batched[0]["error"]["data"]["reason"], "invalid_request", "{batched}");
    let wrong = ask(json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_subscribe", "params": { "ids": ["zz"] } })).await;
    assert_eq!(wrong["error"]["code"], -32602, "{wrong}");
    let first = ask(subscribe(0)).await["result"].clone();
    for id in 1..PER_CONNECTION_MAX {
        assert!(ask(subscribe(id)).await["result"].is_number());
    }
    let excess = ask(subscribe(99)).await;
    assert_eq!(excess["error"]["code"], codes::of(crate::api::RefusalReason::TooManySubscriptions), "{excess}");
    let ended = ask(json!({ "jsonrpc": "2.0", "id": 1, "method": "chain_unsubscribe", "params": [first] })).await;
    assert_eq!(ended["result"], true, "{ended}");
    until("its end", || source.subscribers() == PER_CONNECTION_MAX as usize - 1).await;
    assert!(ask(subscribe(100)).await["result"].is_number(), "there is room again");
    source.server.stop().await;
}

/// Thousands of idle WebSockets leave room for calls, and for WebSockets that are used.
#[tokio::test]
async fn idle_websockets_keep_nobody_out() {
    let source = Source::start(RpcConfig { connections_max: 16, ..RpcConfig::default() }).await;
    let mut heads = source.client().chain_subscribe().await.expect("subscribed");
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(super::WebSocket::open(&source.server).await);
    }
    let held = source.client().chain_subscribe().await.expect("one of the idle ones made room");
    source.tell_head(1);
    assert_eq!(next(&mut heads).await.expect("the first is still there").height, 1);
    // Subscribers are in use: when they have all places, further WebSockets are refused, and calls still go through.
    let mut subscribers = vec![held];
    let refused = loop {
        match source.client().chain_subscribe().await {
            Ok(subscription) => subscribers.push(subscription),
            Err(error) => break error,
        }
        assert!(subscribers.len() < 8, "half of 16 places");
    };
    assert!(matches!(refused, ClientError::TurnedAway { status: 503, .. }), "{refused}");
    source.client().call::<Value>("rpc.discover", json!([])).await.expect("a plain call");
    source.server.stop().await;
}

#[test]
fn metrics_have_the_subscriptions() {
    let text = Metrics::new(prometheus_client::registry::Registry::default(), std::path::Path::new("/")).encode();
    for name in [
        "starling_rpc_subscriptions 0",
        "starling_rpc_subscribers_dropped_total 0",
        "starling_rpc_rate_limited_total 0",
    ] {
        assert!(text.contains(name), "{name}");
    }
}
