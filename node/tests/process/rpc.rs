//! The whole interface of running nodes: what is documented, subscribed to and administered.

use crate::attacker::{Attacker, Stream};
use crate::attacks::publish;
use crate::lab::{DEADLINE, Lab, eventually, wait_for};
use crate::{ready, schema, transaction};
use serde_json::{Value, json};
use starling_node::api::feed::TransactionFilter;
use starling_node::api::{PeerEvent, TransactionChange};
use starling_node::keyfile;
use starling_node::rpc::client::{ClientError, RpcClient, Subscription};
use std::collections::BTreeSet;
use std::time::Duration;

async fn next<T: serde::de::DeserializeOwned>(subscription: &mut Subscription<T>) -> T {
    tokio::time::timeout(DEADLINE, subscription.next()).await.expect("in time").expect("an event")
}

/// What a subscription tells, until the node ends it.
async fn everything(mut subscription: Subscription<Value>) -> Vec<Value> {
    let mut events = Vec::new();
    while let Ok(event) = subscription.next().await {
        events.push(event);
    }
    events
}

/// What the document says of a method.
fn described<'a>(document: &'a Value, name: &str) -> &'a Value {
    let methods = document["methods"].as_array().expect("methods");
    methods.iter().find(|method| method["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Calls these methods and compares the answers with what the document says of them.
async fn check_answers(admin: &RpcClient, document: &Value, calls: &[(&str, Value)]) {
    for (name, params) in calls {
        let answer: Value = admin.call(name, params.clone()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(problem) = schema::problem(document, &described(document, name)["result"]["schema"], &answer) {
            panic!("{name} answers {answer}, which is not as documented: {problem}");
        }
        let nothing = answer.as_array().is_some_and(Vec::is_empty)
            || answer["transactions"].as_array().is_some_and(Vec::is_empty);
        assert!(!nothing || *name == "chain_block", "{name} shows nothing, so that nothing was checked: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_and_event_is_as_documented() {
    let lab = Lab::new("documented", 0);
    let node = lab.start_producer(&[]);
    let admin = node.admin();
    let document = admin.discover().await.expect("a document");
    let methods = document["methods"].as_array().expect("methods");
    let subscriptions = ["tx_subscribe", "chain_subscribe", "net_subscribe"];
    let mut heard = Vec::new();
    for name in subscriptions {
        heard.push(tokio::spawn(everything(admin.subscribe(name, json!([])).await.expect("subscribed"))));
    }
    let bootnode = node.addresses().listen[0].clone();
    let other = lab.start("other", 2, &["--bootnodes", &bootnode]);
    ready(&node.rpc()).await;
    let key = keyfile::generate().expect("entropy");
    let slot = node.rpc().node_info().await.expect("an answer").slot_now;
    let first = transaction(&lab, &key, slot, |_| ());
    // One that waits for the nonce before it, so that the mempool has something to show.
    let waiting = transaction(&lab, &key, slot, |body| body.nonce = 3);
    let submitted = admin.tx_submit(&first).await.expect("taken");
    admin.tx_submit(&waiting).await.expect("taken");
    eventually("its block", || async {
        let answer: Value = admin.call("tx_get", json!([submitted.id])).await.expect("an answer");
        (answer["status"] == "included").then_some(())
    })
    .await;
    let second = transaction(&lab, &key, slot, |body| body.nonce = 1);
    misbehave(&lab, &bootnode, admin.subscribe("net_subscribe", json!([])).await.expect("subscribed")).await;
    let calls = [
        ("node_info", json!([])),
        ("net_info", json!([])),
        ("net_peers", json!([])),
        ("mempool_info", json!([])),
        ("mempool_list", json!({ "limit": 5 })),
        ("tx_submit", json!([hex::encode(&second)])),
        ("tx_publish", json!(["00ff"])),
        ("tx_get", json!([submitted.id])),
        ("tx_get", json!(["00".repeat(32)])),
        ("account_get", json!([key.public_key().to_bytes()])),
        ("chain_head", json!([])),
        ("chain_block", json!([1])),
        ("chain_block", json!([1_000_000])),
        ("admin_log_filter", json!([])),
        ("admin_ban", json!(["192.0.2.0/24", 60, "a test"])),
        ("admin_bans", json!([])),
        ("admin_unban", json!(["192.0.2.0/24"])),
        ("rpc.discover", json!([])),
    ];
    check_answers(&admin, &document, &calls).await;
    // So that its end is told, too.
    other.stop();
    eventually("no peer", || async { admin.net_peers().await.expect("an answer").is_empty().then_some(()) }).await;
    let last = [("admin_shutdown", json!([]))];
    check_answers(&admin, &document, &last).await;
    let called: Vec<&str> = calls.iter().chain(&last).map(|(name, _)| *name).collect();
    for method in methods {
        let name = method["name"].as_str().expect("a name");
        let checked = called.contains(&name) || subscriptions.contains(&name) || name.ends_with("_unsubscribe");
        assert!(checked, "{name} is not checked here");
    }
    // The last call has stopped it.
    let mut node = node;
    assert_eq!(node.wait().0.code(), Some(0));
    let mut kinds = BTreeSet::new();
    for (name, heard) in subscriptions.into_iter().zip(heard) {
        for event in heard.await.expect("no panic") {
            if let Some(problem) =
                schema::problem(&document, &described(&document, name)["x-subscription"]["event"], &event)
            {
                panic!("{name} tells {event}, which is not as documented: {problem}");
            }
            kinds.insert(event["event"].as_str().unwrap_or("head").to_owned());
        }
    }
    let peers = ["connected", "disconnected", "score", "grafted", "pruned", "graylisted", "banned", "unbanned"];
    for kind in ["accepted", "included", "head"].iter().chain(&peers) {
        assert!(kinds.contains(*kind), "{kind} was not told, so that it was not checked: {kinds:?}");
    }
    assert!(!lab.path("producer/admin.sock").exists() && !lab.path("producer/addresses.json").exists());
}

/// Has a peer send what is invalid until its score is low, and then until it is too low.
async fn misbehave(lab: &Lab, address: &str, mut told: Subscription<PeerEvent>) {
    let attacker = Attacker::connect(address, &lab.genesis.short_id()).await;
    let id = attacker.peer_id.to_string();
    let topic = lab.genesis.transaction_topic();
    attacker.write(Stream::Mesh, publish(topic, b"first")).await;
    while !matches!(next(&mut told).await, PeerEvent::Score { peer_id, .. } if peer_id == id) {}
    attacker.write(Stream::Mesh, [b"second", b"third!", b"fourth"].map(|data| publish(topic, data)).concat()).await;
    while !matches!(next(&mut told).await, PeerEvent::Graylisted { peer_id } if peer_id == id) {}
    while !matches!(next(&mut told).await, PeerEvent::Disconnected { peer_id } if peer_id == id) {}
}

#[tokio::test]
async fn the_mempool_is_listed_in_pages_without_gap_or_repetition() {
    let lab = Lab::new("pages", 0);
    // Nobody makes blocks, so that all stay.
    let node = lab.start("node", 1, &[]);
    let rpc = node.rpc();
    let mut submitted = BTreeSet::new();
    for number in 0..7_u8 {
        submitted.insert(rpc.tx_publish(&[number]).await.expect("taken").id);
    }
    for (limit, expected) in [(3, vec![3, 3, 1]), (7, vec![7]), (500, vec![7])] {
        let (mut lengths, mut listed, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = rpc.mempool_list(after.as_ref(), limit).await.expect("a page");
            assert_eq!(page.total, 7);
            lengths.push(page.transactions.len());
            listed.extend(page.transactions.iter().map(|pending| pending.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(lengths, expected);
        assert!(listed.iter().eq(&submitted), "each once, in the order of their ids: {listed:?}");
    }
    for limit in [0, 501] {
        let refused = rpc.mempool_list(None, limit).await.expect_err("no such page").to_string();
        assert!(refused.contains("from 1 to 500"), "{refused}");
    }
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_hear_of_transactions_blocks_and_peers() {
    let lab = Lab::new("subscribed", 0);
    let node = lab.start_producer(&[]);
    let rpc = node.rpc();
    let mut heads = rpc.chain_subscribe().await.expect("subscribed");
    let mut peers = rpc.net_subscribe().await.expect("subscribed");
    let key = keyfile::generate().expect("entropy");
    let filter = TransactionFilter { senders: [key.public_key().to_bytes()].into(), ..TransactionFilter::default() };
    let mut mine = rpc.tx_subscribe(&filter).await.expect("subscribed");

    let slot = rpc.node_info().await.expect("an answer").slot_now;
    rpc.tx_publish(b"somebody else's").await.expect("taken");
    let first = rpc.tx_submit(&transaction(&lab, &key, slot, |_| ())).await.expect("taken").id;
    let accepted = next(&mut mine).await;
    assert_eq!((accepted.event, accepted.transactions[0].id), (TransactionChange::Accepted, first));
    let included = next(&mut mine).await;
    assert_eq!((included.event, included.transactions[0].id), (TransactionChange::Included, first));
    let block = included.block.expect("its block");
    // A gap before it keeps it out of blocks until it expires.
    let late = transaction(&lab, &key, slot, |body| (body.nonce, body.expiry_slot) = (5, slot + 8));
    let late = rpc.tx_submit(&late).await.expect("taken").id;
    for expected in [TransactionChange::Accepted, TransactionChange::Expired] {
        let event = next(&mut mine).await;
        assert_eq!((event.event, event.transactions[0].id), (expected, late));
    }

    let mut before = next(&mut heads).await;
    loop {
        let head = next(&mut heads).await;
        assert_eq!(head.height, before.height + 1, "no block is left out");
        assert!(head.undone.is_empty() && head.adopted.last().is_some_and(|last| last.block_id == head.block_id));
        if head.height > block.height {
            break;
        }
        before = head;
    }

    let bootnode = node.addresses().listen[0].clone();
    let other = lab.start("other", 2, &["--bootnodes", &bootnode]);
    let other_id = other.addresses().peer_id.clone();
    let mut seen = Vec::new();
    let mut hear = async |wanted: fn(&PeerEvent) -> bool| {
        while !seen.last().is_some_and(wanted) {
            seen.push(next(&mut peers).await);
        }
        seen.last().cloned().expect("an event")
    };
    let came = hear(|event| matches!(event, PeerEvent::Connected { .. })).await;
    assert!(matches!(&came, PeerEvent::Connected { peer_id, .. } if *peer_id == other_id), "{came:?}");
    hear(|event| matches!(event, PeerEvent::Grafted { .. })).await;
    other.stop();
    let went = hear(|event| matches!(event, PeerEvent::Disconnected { .. })).await;
    assert!(matches!(&went, PeerEvent::Disconnected { peer_id } if *peer_id == other_id), "{went:?}");
    node.stop();
}

#[tokio::test]
async fn the_operator_sets_the_log_filter_and_a_killed_nodes_socket_is_no_obstacle() {
    let lab = Lab::new("administered", 0);
    let mut node = lab.start_producer(&[]);
    let socket = node.addresses().admin_socket.clone().expect("an admin socket");
    let admin = RpcClient::over_unix_socket(&socket);
    let filter = admin.admin_log_filter(None).await.expect("an answer").filter.expect("a log");
    assert!(filter.contains("info"), "{filter}");
    let log = || std::fs::read_to_string(lab.log("producer")).expect("a log");
    assert!(!log().contains("new head"), "told at debug only");
    admin.admin_log_filter(Some("info,starling_node=debug")).await.expect("set");
    wait_for("a line at debug", || log().contains("new head").then_some(()));
    let error = node.rpc().admin_shutdown().await.expect_err("over HTTP");
    assert!(error.to_string().contains("--datadir DIR"), "{error}");

    node.signal(rustix::process::Signal::KILL);
    node.wait();
    assert!(socket.exists(), "nobody has removed it");
    let again = lab.start_producer(&[]);
    let admin = RpcClient::over_unix_socket(again.addresses().admin_socket.as_deref().expect("an admin socket"));
    admin.chain_head().await.expect("everything is served there, too");
    again.stop();
    assert!(!socket.exists());

    let without = lab.start_producer(&["--admin-socket", "none"]);
    assert_eq!(without.addresses().admin_socket, None);
    let error = without.rpc().admin_bans().await.expect_err("nowhere");
    assert!(error.to_string().contains("no admin socket"), "{error}");
    without.stop();
}

/// Two thousand subscribers that only sit there: those that fit are served, the others are told so, and calls go through.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_subscribers_are_bounded_and_keep_no_caller_out() {
    let lab = Lab::new("idlers", 0);
    let node = lab.start_producer(&["--rpc-rate", "0"]);
    let rpc = node.rpc();
    let mut subscribed = Vec::new();
    for number in 0..2_000 {
        match rpc.net_subscribe().await {
            Ok(subscription) => subscribed.push(subscription),
            Err(ClientError::TurnedAway { status: 503, .. }) => {}
            Err(error) => assert_eq!(error.reason(), Some("too_many_subscriptions"), "{error}"),
        }
        if number % 500 == 499 {
            let asked = std::time::Instant::now();
            RpcClient::new(&node.addresses().rpc.to_string())
                .expect("an address")
                .chain_head()
                .await
                .expect("an answer");
            assert!(asked.elapsed() < Duration::from_secs(3), "after {:?}", asked.elapsed());
        }
    }
    assert!((64..=128).contains(&subscribed.len()), "{} are served", subscribed.len());
    node.admin().admin_ban("192.0.2.7", Duration::from_secs(60), "").await.expect("banned");
    for subscription in &mut subscribed {
        let event = next(subscription).await;
        assert!(matches!(&event, PeerEvent::Banned { target, .. } if target == "192.0.2.7"), "{event:?}");
    }
    node.stop();
}

/// A local program that half-sends requests without pause does not keep the operator's tools out.
#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests_keep_no_local_client_out() {
    let lab = Lab::new("dawdlers", 0);
    let node = lab.start_producer(&[]);
    let address = node.addresses().rpc;
    let flood = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        loop {
            let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { continue };
            let _closed = tokio::io::AsyncWriteExt::write_all(&mut stream, b"POST / HTTP/1.1\r\nhost: ").await;
            held.push_back(stream);
            if held.len() > 600 {
                held.pop_front();
            }
            // A thousand a second: faster, and it is a flood of connections, for which there are firewalls.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    for _ in 0..10 {
        let asked = std::time::Instant::now();
        RpcClient::new(&address.to_string()).expect("an address").chain_head().await.expect("an answer");
        assert!(asked.elapsed() < Duration::from_secs(3), "after {:?}", asked.elapsed());
    }
    flood.abort();
    node.stop();
}
