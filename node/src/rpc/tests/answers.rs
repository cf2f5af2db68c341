//! Large answers that nobody reads.

use super::{DEADLINE, HEAD_CALL, JSON, WebSocket, client, raw, server_of};
use crate::api::{BlockReply, BlockSelector, Command, HeadReply, NodeHandle};
use crate::metrics::Metrics;
use crate::rpc::answers::{BATCH_BYTES_MAX, RESPONSE_BYTES_MAX};
use crate::rpc::{RpcConfig, RpcServer};
use serde_json::Value;
use starling_crypto::{Digest, PublicKeyBytes};
use starling_protocol::genesis::TRANSACTIONS_PER_BLOCK_MAX;
use starling_protocol::id::{BlockId, TransactionId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const BLOCK_CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"chain_block","params":[7]}"#;

/// A block of the most transactions.
fn block() -> BlockReply {
    BlockReply {
        block_id: BlockId(Digest::ZERO),
        height: 7,
        slot: 7,
        parent_id: BlockId(Digest::ZERO),
        transaction_root: Digest::ZERO,
        producer: PublicKeyBytes([0; 32]),
        canonical: true,
        encoded_bytes: 4 << 20,
        transactions: vec![TransactionId(Digest([7; 32])); TRANSACTIONS_PER_BLOCK_MAX as usize],
    }
}

/// A server whose blocks are of the largest kind, and how often it was asked for one.
async fn server(config: &RpcConfig) -> (RpcServer, Metrics, Arc<AtomicUsize>) {
    let (handle, mut commands) = NodeHandle::channel();
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Block { reply, .. } => {
                    count.fetch_add(1, Ordering::AcqRel);
                    drop(reply.send(Ok(Some(block()))));
                }
                Command::ChainHead { reply } => {
                    let block_id = BlockId(Digest::ZERO);
                    drop(reply.send(HeadReply { height: 9, block_id, slot: 10, slot_now: 11 }));
                }
                _ => {}
            }
        }
    });
    let (server, metrics) = server_of(config, handle).await;
    (server, metrics, asked)
}

/// A large answer to a client that reads it, and asks again when it is told so, as it may be on a busy host.
async fn read_block(server: &RpcServer) -> BlockReply {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match client(server).chain_block(BlockSelector::Height(7)).await {
            Ok(block) => return block.expect("a block"),
            Err(error) => assert!(error.reason() == Some("busy") && Instant::now() < deadline, "{error}"),
        }
    }
}

/// Clients over HTTP and WebSockets ask for much more than there is room for, and read nothing.
#[tokio::test]
async fn who_never_reads_makes_room_for_who_does() {
    const ROOM: u32 = 2 * RESPONSE_BYTES_MAX;
    const CLIENTS: usize = 12;
    const CALLS: usize = 16;
    // With more patience than the test has, so that it is for the room alone that they are closed.
    let config = RpcConfig {
        connections_max: 64,
        units_per_second: 0,
        answer_bytes_max: ROOM,
        patience: 2 * DEADLINE,
        ..RpcConfig::default()
    };
    let (server, metrics, asked) = server(&config).await;
    let (mut over_http, mut over_websocket) = (Vec::new(), Vec::new());
    let post = format!("POST / HTTP/1.1\r\n{JSON}content-length: {}\r\n\r\n{BLOCK_CALL}", BLOCK_CALL.len());
    let length = 0x80 | u8::try_from(BLOCK_CALL.len()).expect("short");
    let frame = [&[0x81, length, 0, 0, 0, 0], BLOCK_CALL.as_bytes()].concat();
    for _ in 0..CLIENTS / 2 {
        let mut stream = TcpStream::connect(server.local_address()).await.expect("connected");
        stream.write_all(post.repeat(CALLS).as_bytes()).await.expect("sent");
        over_http.push(stream);
        let mut socket = WebSocket::open(&server).await;
        socket.0.write_all(&frame.repeat(CALLS)).await.expect("sent");
        over_websocket.push(socket);
    }
    // Until there is no place for another answer of the largest kind.
    let deadline = Instant::now() + DEADLINE;
    loop {
        let held = metrics.rpc.answer_bytes.get();
        assert!(held <= i64::from(ROOM), "{held}");
        // On a busy host so much time goes by that the first ones are closed for those that wait.
        if held > i64::from(ROOM - RESPONSE_BYTES_MAX) || metrics.rpc.slow_readers_closed.get() > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "the room is never full: {held} bytes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..3 {
        let honest = Instant::now();
        assert_eq!(client(&server).chain_head().await.expect("a small answer").height, 9);
        assert!(honest.elapsed() < DEADLINE / 3, "after {:?}", honest.elapsed());
        let block = read_block(&server).await;
        assert_eq!(block.transactions.len(), TRANSACTIONS_PER_BLOCK_MAX as usize);
    }
    assert!(metrics.rpc.slow_readers_closed.get() > 0, "somebody had to go");
    // Of what was asked for, most was never made: the room, and what the system took for each.
    assert!(asked.load(Ordering::Acquire) < CLIENTS * CALLS / 2, "{asked:?}");
    drop((over_http, over_websocket));
    let deadline = Instant::now() + DEADLINE;
    while metrics.rpc.answer_bytes.get() > 0 {
        assert!(Instant::now() < deadline, "{} bytes are never given back", metrics.rpc.answer_bytes.get());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_batch_has_a_bounded_answer_and_a_block_alone_a_larger_one() {
    let (server, ..) = server(&RpcConfig::default()).await;
    let batch = |calls: &[&str]| super::post(JSON, &format!("[{}]", calls.join(",")));
    let (status, one) = raw(&server, &batch(&[HEAD_CALL, BLOCK_CALL])).await;
    assert!(status == 200 && one.len() > BATCH_BYTES_MAX / 2, "{} bytes", one.len());
    let (_, two) = raw(&server, &batch(&[HEAD_CALL, BLOCK_CALL, BLOCK_CALL])).await;
    let refused: Value = serde_json::from_str(&two).expect("JSON");
    assert_eq!(refused["error"]["data"]["reason"], "batch_response_too_large", "{refused}");
    assert!(refused["error"]["data"]["remedy"].as_str().is_some_and(|remedy| remedy.contains("in parts")), "{refused}");
    // Many on one connection, one after the other, by a client that reads.
    let mut stream = WebSocket::open(&server).await;
    let length = 0x80 | u8::try_from(BLOCK_CALL.len()).expect("short");
    stream.0.write_all(&[&[0x81, length, 0, 0, 0, 0], BLOCK_CALL.as_bytes()].concat().repeat(4)).await.expect("sent");
    let mut read = vec![0; 4 * BATCH_BYTES_MAX / 2];
    let reading = tokio::io::AsyncReadExt::read_exact(&mut stream.0, &mut read);
    tokio::time::timeout(DEADLINE, reading).await.expect("in time").expect("read");
    server.stop().await;
}
