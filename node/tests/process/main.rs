//! Running nodes as processes: what a user sees from start to stop, and what a node survives.

mod attacker;
mod attacks;
mod damage;
mod database;
mod disk;
mod durability;
mod elsewhere;
mod face;
mod lab;
mod monitored;
mod name_server;
mod names;
mod operator;
mod peers;
mod rpc;
mod schema;
mod start;
mod sync;

use lab::{Lab, eventually, wait_for};
use serde_json::{Value, json};
use starling_crypto::SecretKey;
use starling_node::api::{BlockSelector, RefusalReason, TransactionStatus};
use starling_node::keyfile;
use starling_node::rpc::client::{ClientError, RpcClient};
use starling_node::rpc::codes;
use starling_protocol::transaction::TransactionBody;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

pub(crate) async fn ready(node: &RpcClient) {
    eventually("the mesh", || async { node.ready().await.expect("an answer").ready.then_some(()) }).await;
}

#[tokio::test]
async fn a_transaction_sent_to_one_process_is_found_at_the_other_and_survives_a_restart() {
    let lab = Lab::new("two-processes", 0);
    let first = lab.start_producer(&[]);
    let bootnode = first.addresses().listen[0].clone();
    let second = lab.start("second", 2, &["--bootnodes", &bootnode, "--trace", "second.trace"]);
    let (first_rpc, second_rpc) = (first.rpc(), second.rpc());
    ready(&first_rpc).await;
    ready(&second_rpc).await;

    let submitted = second_rpc.tx_publish(b"hello").await.expect("taken");
    let included = eventually("the transaction in a block at both", || async {
        let mut at = Vec::new();
        for rpc in [&first_rpc, &second_rpc] {
            match rpc.tx_get(&submitted.id).await.expect("an answer").status {
                TransactionStatus::Included { block_id, .. } => at.push(block_id),
                _ => return None,
            }
        }
        Some(at)
    })
    .await;
    assert_eq!(included[0], included[1]);
    let found = first_rpc.tx_get(&submitted.id).await.expect("an answer").transaction.expect("its fields");
    assert_eq!(found.payload_hex, hex::encode("hello"));
    let peers = second_rpc.net_peers().await.expect("an answer");
    assert_eq!(peers.iter().map(|peer| &peer.peer_id).collect::<Vec<_>>(), [&first.addresses().peer_id]);

    let peer_id = second.addresses().peer_id.clone();
    eventually("a heartbeat in the trace, which is written while the node runs", || async {
        std::fs::read_to_string(lab.path("second.trace")).ok()?.contains("\nmesh,").then_some(())
    })
    .await;
    second.stop();
    assert!(!lab.path("second/addresses.json").exists(), "a stopped node has no addresses");
    let trace = std::fs::read_to_string(lab.path("second.trace")).expect("a trace");
    assert!(trace.starts_with("starling-trace,1\n") && trace.ends_with('\n'), "{trace}");
    for kind in ["publish,transaction,", "arrive,block,", "accept,block,", "lag,", "bytes,"] {
        assert!(trace.lines().any(|line| line.starts_with(kind)), "no line {kind} in {trace}");
    }

    // Alone, so that what it knows comes from its own disk.
    first.stop();
    let again = lab.start("second", 2, &[]);
    assert_eq!(again.addresses().peer_id, peer_id, "the identity is kept");
    let status = again.rpc().tx_get(&submitted.id).await.expect("an answer").status;
    assert!(matches!(status, TransactionStatus::Included { block_id, .. } if block_id == included[0]), "{status:?}");
    assert!(again.rpc().chain_block(BlockSelector::Id(included[0])).await.expect("an answer").is_some());
    again.stop();
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let lab = Lab::new("killed", 0);
    let mut node = lab.start_producer(&[]);
    let rpc = node.rpc();
    let submitted = rpc.tx_publish(b"durable").await.expect("taken");
    let included = eventually("a block with it", || async {
        match rpc.tx_get(&submitted.id).await.expect("an answer").status {
            TransactionStatus::Included { block_id, height, .. } => Some((height, block_id)),
            _ => None,
        }
    })
    .await;
    // A slot later the batch, which takes the disk some milliseconds, is there.
    eventually("another block", || async {
        (rpc.chain_head().await.expect("an answer").height > included.0).then_some(())
    })
    .await;
    node.signal(rustix::process::Signal::KILL);
    node.wait();
    let again = lab.start_producer(&[]);
    let block = again.rpc().chain_block(BlockSelector::Height(included.0)).await.expect("an answer");
    assert_eq!(block.expect("it is still there").block_id, included.1);
    let head = again.rpc().chain_head().await.expect("an answer").height;
    eventually("the chain to go on", || async {
        (again.rpc().chain_head().await.expect("an answer").height > head).then_some(())
    })
    .await;
    again.stop();
}

#[tokio::test]
async fn networks_with_different_genesis_never_exchange_anything() {
    let lab = Lab::new("one", 0);
    let stranger = Lab::new("other", 0);
    let node = lab.start_producer(&[]);
    let bootnode = node.addresses().listen[0].clone();
    let other = stranger.start("other", 2, &["--bootnodes", &bootnode, "--trusted-peers", &bootnode]);
    wait_for("a warning about the bootnode", || {
        let log = std::fs::read_to_string(stranger.log("other")).ok()?;
        let told = |line: &str| line.contains("WARN") && line.contains(&bootnode) && line.contains("another network");
        log.lines().any(told).then_some(())
    });
    let rpc = node.rpc();
    eventually("some blocks", || async { (rpc.chain_head().await.expect("an answer").height > 3).then_some(()) }).await;
    for rpc in [&rpc, &other.rpc()] {
        assert_eq!(rpc.net_peers().await.expect("an answer"), []);
        let net = rpc.net_info().await.expect("an answer");
        assert_eq!(net.peers_known, 0);
        // Not even the names of topics: identify tells them apart before the first frame.
        assert_eq!((net.frame_in_bytes, net.frame_out_bytes), (0, 0));
        assert!(!rpc.ready().await.expect("an answer").ready);
    }
    for log in [lab.log("producer"), stranger.log("other")] {
        assert!(!std::fs::read_to_string(&log).expect("a log").contains("ERROR"));
    }
    assert_eq!(other.rpc().chain_head().await.expect("an answer").height, 0);
    node.stop();
    other.stop();
}

#[test]
fn open_connections_do_not_hold_up_a_stop() {
    let lab = Lab::new("lingering", 0);
    let node = lab.start("node", 1, &[]);
    let rpc = node.addresses().rpc;
    let idle = std::net::TcpStream::connect(rpc).expect("connected");
    let mut half = std::net::TcpStream::connect(rpc).expect("connected");
    half.write_all(
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    )
    .expect("sent");
    node.stop();
    drop((idle, half));
}

#[test]
fn both_signals_and_the_end_of_standard_input_stop_a_node_cleanly() {
    let lab = Lab::new("stopping", 0);
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut node = lab.start("node", 1, &[]);
        node.signal(signal);
        let (status, took) = node.wait();
        assert_eq!(status.code(), Some(0), "after {took:?}");
    }
    let mut node = lab.start("node", 1, &["--log-format", "json"]);
    drop(node.child.stdin.take());
    assert_eq!(node.wait().0.code(), Some(0));
    let log = std::fs::read_to_string(lab.log("node")).expect("a log");
    assert!(!log.contains('\x1b'), "no colours in a file");
    let last: Value = serde_json::from_str(log.lines().last().expect("lines")).expect("JSON");
    assert_eq!(last["level"], "INFO");
}

#[test]
fn what_a_node_cannot_start_with_is_explained() {
    let lab = Lab::new("refusals", 0);
    let running = lab.start("node", 1, &[]);
    let explained = |(code, error): (Option<i32>, String), expected: i32, parts: &[&str]| {
        assert_eq!(code, Some(expected), "{error}");
        for part in parts {
            assert!(error.contains(part), "{part:?} is missing from {error:?}");
        }
    };
    let pid = running.child.id().to_string();
    explained(lab.refuse("node", 2, &[]), 1, &["in use by process", &pid, "--datadir"]);
    let rpc = running.addresses().rpc.to_string();
    explained(lab.refuse("other", 2, &["--rpc", &rpc]), 1, &["cannot listen for RPC", "in use", "--rpc"]);
    let taken = running.addresses().listen[0].split("/p2p/").next().expect("an address").to_owned();
    explained(lab.refuse("other", 2, &["--listen", &taken]), 1, &["cannot listen on", &taken, "choose a free port"]);
    let (_, error) = lab.refuse("other", 2, &["--listen", &taken]);
    assert_eq!(error.matches("in use").count(), 1, "{error}");
    running.stop();

    let stranger = Lab::new("stranger", 0);
    std::fs::copy(stranger.path("genesis.toml"), lab.path("stranger.toml")).expect("copied");
    let mismatch = lab.refuse("node", 1, &["--genesis", "stranger.toml"]);
    explained(mismatch, 2, &["genesis does not match the data directory", "--datadir"]);
    explained(lab.refuse("other", 1, &["--bootnodes", "/ip4/127.0.0.1/tcp/1"]), 2, &["append /p2p/PEER_ID"]);
    std::fs::write(lab.path("other/config.toml"), "[rpc]\nlisten_on = \"127.0.0.1:0\"").expect("written");
    explained(lab.refuse("other", 1, &[]), 2, &["config.toml:2: rpc.listen_on", "did you mean `rpc.listen`?"]);

    open_to_others(&lab.path("node/account.pem"));
    explained(lab.refuse("node", 1, &[]), 2, &["0644", "chmod 600"]);
}

fn open_to_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("set");
}

#[tokio::test]
async fn an_unreachable_bootnode_is_named_and_the_node_goes_on() {
    let lab = Lab::new("unreachable", 0);
    let peer = keyfile::libp2p_keypair(&keyfile::generate().expect("entropy")).public().to_peer_id();
    let bootnode = format!("/ip4/127.77.0.9/tcp/9/p2p/{peer}");
    let node = lab.start_producer(&["--bootnodes", &bootnode]);
    wait_for("a warning", || {
        let log = std::fs::read_to_string(lab.log("producer")).ok()?;
        let warning = log.lines().find(|line| line.contains("WARN") && line.contains("/ip4/127.77.0.9/tcp/9"))?;
        assert_eq!(warning.matches("Connection refused").count(), 1, "{warning}");
        assert!(warning.contains("Check the address"), "{warning}");
        Some(())
    });
    let rpc = node.rpc();
    eventually("blocks all the same", || async {
        (rpc.chain_head().await.expect("an answer").height > 0).then_some(())
    })
    .await;
    node.stop();
}

/// A transaction of this network, good unless `change` spoils it.
pub(crate) fn transaction(
    lab: &Lab,
    key: &SecretKey,
    slot_now: u64,
    change: impl FnOnce(&mut TransactionBody),
) -> Vec<u8> {
    let mut body = TransactionBody {
        network: lab.genesis.network_id(),
        sender: key.public_key().to_bytes(),
        nonce: 0,
        expiry_slot: slot_now + 500,
        payload: b"payload".to_vec(),
        stamp: 0,
    };
    change(&mut body);
    // Kept as it is if the change was about the stamp.
    if body.stamp == 0 {
        body.grind_stamp(lab.genesis.stamp_bits(), 1 << 20).expect("a stamp");
    }
    body.sign(key).bytes().to_vec()
}

#[tokio::test]
async fn bad_transactions_are_refused_by_name_and_the_node_goes_on() {
    let lab = Lab::new("bad-transactions", 8);
    let node = lab.start_producer(&[]);
    let rpc = node.rpc();
    let key = keyfile::generate().expect("entropy");
    let slot_now = rpc.node_info().await.expect("an answer").slot_now;
    let reason = async |bytes: &[u8]| match rpc.tx_submit(bytes).await.expect_err("refused") {
        ClientError::Refused { code, message, data } => {
            let data = data.expect("cause and remedy");
            assert!(!data.cause.is_empty() && !data.remedy.is_empty(), "{message}");
            code
        }
        other => panic!("{other}"),
    };
    let good = transaction(&lab, &key, slot_now, |_| ());
    assert_eq!(reason(b"garbage").await, codes::of(RefusalReason::Malformed));
    assert_eq!(reason(&good[..good.len() - 1]).await, codes::of(RefusalReason::Malformed));
    let unsigned = [&good[..good.len() - 64], &[0; 64]].concat();
    assert_eq!(reason(&unsigned).await, codes::of(RefusalReason::BadSignature));
    let stranger = Lab::new("stranger", 8);
    let foreign = transaction(&stranger, &key, slot_now, |_| ());
    assert_eq!(reason(&foreign).await, codes::of(RefusalReason::WrongNetwork));
    // Of 256 stamps 255 show less than 8 bits of work; a number that fails is soon found.
    let mut weak = (1..).map(|stamp| transaction(&lab, &key, slot_now, |body| body.stamp = stamp));
    let weak = weak.find(|bytes| {
        let decoded = starling_protocol::transaction::Transaction::decode(bytes.clone(), &lab.genesis);
        matches!(decoded, Err(starling_protocol::transaction::TransactionError::Stamp { .. }))
    });
    assert_eq!(reason(&weak.expect("a weak one")).await, codes::of(RefusalReason::WrongStamp));
    let large = transaction(&lab, &key, slot_now, |body| body.payload = vec![7; 1_001]);
    assert!([RefusalReason::PayloadTooLarge, RefusalReason::Malformed].map(codes::of).contains(&reason(&large).await));
    let far = transaction(&lab, &key, slot_now, |body| body.expiry_slot = slot_now + 1_000_000);
    assert_eq!(reason(&far).await, codes::of(RefusalReason::ExpiryTooFar));

    let submitted = rpc.tx_submit(&good).await.expect("taken");
    assert_eq!(reason(&good).await, codes::of(RefusalReason::AlreadyKnown));
    eventually("a block with it", || async {
        let status = rpc.tx_get(&submitted.id).await.expect("an answer").status;
        matches!(status, TransactionStatus::Included { .. }).then_some(())
    })
    .await;
    let replayed = [RefusalReason::AlreadyKnown, RefusalReason::NonceUsed].map(codes::of);
    assert!(replayed.contains(&reason(&good).await));
    let rival = transaction(&lab, &key, slot_now, |body| body.payload = b"another".to_vec());
    assert_eq!(reason(&rival).await, codes::of(RefusalReason::NonceUsed));
    let gap = transaction(&lab, &key, slot_now, |body| body.nonce = 1_000);
    assert_eq!(reason(&gap).await, codes::of(RefusalReason::NonceTooFar));
    let late = transaction(&lab, &key, slot_now, |body| (body.nonce, body.expiry_slot) = (1, 0));
    assert_eq!(reason(&late).await, codes::of(RefusalReason::Expired));
    let next = transaction(&lab, &key, slot_now, |body| body.nonce = 1);
    rpc.tx_submit(&next).await.expect("the node still takes good ones");
    assert_eq!(rpc.account_get(&key.public_key().to_bytes()).await.expect("an answer").next_nonce, 2);
    node.stop();
}

#[test]
fn a_web_page_cannot_make_the_node_sign_and_garbage_does_not_stop_it() {
    let lab = Lab::new("guarded", 0);
    let node = lab.start("node", 1, &[]);
    let rpc = node.addresses().rpc;
    let exchange = |host: &str, more: &str, body: &str| {
        let mut stream = std::net::TcpStream::connect(rpc).expect("connected");
        let length = body.len();
        let head =
            format!("POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n");
        stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).expect("sent");
        let mut answer = String::new();
        // The server may close before it has read all of a body that it refuses.
        let _reset = stream.read_to_string(&mut answer);
        answer
    };
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_publish", "params": ["00"] }).to_string();
    let json_type = "content-type: application/json\r\n";
    let answer = exchange("evil.example", json_type, &call);
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("DNS rebinding"), "{answer}");
    let answer = exchange(&rpc.to_string(), &format!("{json_type}origin: https://evil.example\r\n"), &call);
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("web page"), "{answer}");
    let answer = exchange(&rpc.to_string(), "content-type: text/plain\r\n", &call);
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    let answer = exchange(&rpc.to_string(), json_type, "{\"jsonrpc\":");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("is not JSON"), "{answer}");
    let answer = exchange(&rpc.to_string(), json_type, &"[".repeat(2 << 20));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    let mut garbage = std::net::TcpStream::connect(rpc).expect("connected");
    let _closed = garbage.write_all(&[0xff; 100_000]);
    let answer = exchange(&rpc.to_string(), json_type, &call);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"result\""), "{answer}");
    node.stop();
}

/// The command line against a running node, found through its data directory.
#[test]
fn the_command_line_finds_the_node_of_a_data_directory() {
    let lab = Lab::new("command-line", 0);
    let node = lab.start_producer(&[]);
    let ask = |args: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_starling"))
            .args(args)
            .args(["--datadir", "producer", "--json"])
            .current_dir(lab.dir.path())
            .output()
            .expect("the program starts");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let sent = ask(&["tx", "send", "hello", "--wait"]);
    assert_eq!(sent["status"], "included");
    let signed_here = ask(&["tx", "send", "--hex", "00ff", "--key", "producer.pem", "--wait"]);
    assert_eq!(signed_here["transaction"]["payload_hex"], "00ff");
    let block = ask(&["block", "get", &sent["height"].to_string()]);
    assert_eq!(block["block_id"], sent["block_id"]);
    assert_eq!(ask(&["block", "get", sent["block_id"].as_str().expect("text")]), block);
    assert_eq!(ask(&["tx", "get", sent["id"].as_str().expect("text")])["status"], "included");
    assert_eq!(ask(&["peers"]), json!([]));
    let status = ask(&["status"]);
    assert_eq!(status["node"]["network_name"], "command-line");
    assert_eq!(status["node"]["peer_id"], node.addresses().peer_id);
    let disk = &status["ready"]["disk"];
    assert!(disk["free_bytes"].as_u64() > Some(0) && disk["file_bytes"].as_u64() > Some(0), "{disk}");
    assert_eq!((&disk["earliest"], &disk["keep_blocks"]), (&json!(1), &json!(0)), "{disk}");
    node.stop();
}
