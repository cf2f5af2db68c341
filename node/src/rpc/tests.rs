//! The server against a driver made for the test, over real sockets.

mod answers;
mod limits;
mod subscriptions;

use super::client::{ClientError, RpcClient};
use super::{RpcConfig, RpcError, RpcServer, codes};
use crate::api::{
    AccountReply, BlockSelector, Command, HeadReply, NodeHandle, ReadyReply, Refusal, RefusalReason, Submitted,
    TransactionReply, TransactionStatus,
};
use crate::metrics::Metrics;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use starling_crypto::{Digest, PublicKeyBytes};
use starling_protocol::id::{BlockId, TransactionId};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For anything that takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A driver that knows just enough to answer.
async fn drive(mut commands: tokio::sync::mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::SubmitTransaction { transaction, reply } => drop(reply.send(if transaction == [1, 2] {
                Ok(Submitted { id: TransactionId(Digest::ZERO), message_id: "00".repeat(20), nonce: 4 })
            } else {
                Err(Refusal::new(RefusalReason::Expired, "slot 3 has passed", "sign it again with a later expiry slot"))
            })),
            Command::TransactionStatus { id, reply } => {
                let status = TransactionStatus::Pending;
                drop(reply.send(Ok(TransactionReply { id, status, transaction: None })));
            }
            Command::Account { public_key, reply } => {
                let (next_nonce, next_nonce_included, pending) = (2, 1, 1);
                drop(reply.send(AccountReply { public_key, next_nonce, next_nonce_included, pending }));
            }
            Command::Block { block, reply } => {
                assert!(matches!(block, BlockSelector::Height(7) | BlockSelector::Id(_)));
                drop(reply.send(Ok(None)));
            }
            Command::ChainHead { reply } => {
                let block_id = BlockId(Digest::ZERO);
                drop(reply.send(HeadReply { height: 9, block_id, slot: 10, slot_now: 11 }));
            }
            Command::Ready { reply } => {
                let waiting_for = vec!["peers".to_owned()];
                let reply_value = ReadyReply { waiting_for, height: 9, ..ReadyReply::default() };
                drop(reply.send(reply_value));
            }
            // Dropped: the asker is told that the node is stopping.
            _ => {}
        }
    }
}

async fn server(config: RpcConfig) -> RpcServer {
    let (handle, commands) = NodeHandle::channel();
    tokio::spawn(drive(commands));
    server_of(&config, handle).await.0
}

async fn server_of(config: &RpcConfig, handle: NodeHandle) -> (RpcServer, Metrics) {
    let metrics = Metrics::new(Registry::default(), std::path::Path::new("/"));
    (RpcServer::start(config, handle, metrics.clone()).await.expect("a server"), metrics)
}

fn client(server: &RpcServer) -> RpcClient {
    RpcClient::new(&server.local_address().to_string()).expect("an address")
}

/// Sends these bytes and reads until the server closes: status and body.
async fn raw(server: &RpcServer, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.local_address()).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("read");
    let answer = String::from_utf8(answer).expect("text");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

const JSON: &str = "host: localhost\r\ncontent-type: application/json\r\n";
const HEAD_CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"chain_head"}"#;

#[tokio::test]
async fn methods_answer_by_name_and_by_position() {
    let server = server(RpcConfig::default()).await;
    let client = client(&server);
    assert_eq!(client.chain_head().await.expect("a head").height, 9);
    assert_eq!(client.tx_submit(&[1, 2]).await.expect("taken").nonce, 4);
    let id = TransactionId(Digest([7; 32]));
    assert_eq!(client.tx_get(&id).await.expect("a status").status, TransactionStatus::Pending);
    let key = PublicKeyBytes([8; 32]);
    assert_eq!(client.account_get(&key).await.expect("an account").public_key, key);
    assert_eq!(client.chain_block(BlockSelector::Height(7)).await.expect("an answer"), None);
    assert_eq!(client.chain_block(BlockSelector::Id(BlockId(Digest::ZERO))).await.expect("an answer"), None);
    let by_position: Value = client.call("chain_block", json!([7])).await.expect("an answer");
    assert_eq!(by_position, Value::Null);
    let _: Value = client.call("chain_head", json!({})).await.expect("an empty object is no parameters");
    server.stop().await;
}

#[tokio::test]
async fn a_notification_is_not_answered_and_a_page_is_asked_for_by_its_head() {
    let server = server(RpcConfig::default()).await;
    let call = r#"{"jsonrpc":"2.0","method":"chain_head"}"#;
    for body in [call.to_owned(), format!("[{call},{call}]")] {
        assert_eq!(raw(&server, &post(JSON, &body)).await, (204, String::new()), "{body}");
    }
    let answered = raw(&server, &post(JSON, &format!("[{call},{HEAD_CALL}]"))).await;
    assert!(answered.0 == 200 && answered.1.starts_with('['), "{answered:?}");
    for (page, status) in [("/health", 200), ("/ready", 503), ("/metrics", 200)] {
        let request = format!("HEAD {page} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        assert_eq!(raw(&server, &request).await, (status, String::new()), "{page}");
    }
    server.stop().await;
}

#[tokio::test]
async fn refusals_carry_code_cause_and_remedy() {
    let server = server(RpcConfig::default()).await;
    let client = client(&server);
    let refused = |error: ClientError| match error {
        ClientError::Refused { code, message, data } => (code, message, data.expect("data")),
        other => panic!("{other}"),
    };
    let (code, message, data) = refused(client.tx_submit(&[9]).await.expect_err("expired"));
    assert_eq!(code, codes::of(RefusalReason::Expired));
    assert_eq!((data.reason.as_str(), data.cause.as_str()), ("expired", "slot 3 has passed"));
    assert!(message.contains(&data.cause) && message.contains(&data.remedy));
    let (code, ..) = refused(client.net_info().await.expect_err("the driver drops it"));
    assert_eq!(code, codes::STOPPED);

    for (method, params, cause) in [
        ("tx_submit", json!({ "transaction": "0x01" }), "'x' as character 2"),
        ("tx_submit", json!({ "transaction": "012" }), "odd number"),
        ("tx_submit", json!({ "transaction": 5 }), "not a string"),
        ("tx_submit", json!({ "tx": "01" }), "no parameter \"tx\""),
        ("tx_submit", json!([]), "1 parameter is needed"),
        ("tx_submit", json!({}), "is missing"),
        ("tx_get", json!({ "id": "01" }), "expected 64 hex digits"),
        ("account_get", json!(["zz"]), "hex digits only"),
        ("chain_block", json!({ "height": -1 }), "no block height"),
        ("chain_block", json!({ "height": 1, "id": "00".repeat(32) }), "both a height and a block id"),
        ("chain_block", json!({ "height": 1, "id": "00" }), "expected 64 hex digits"),
        ("chain_block", json!({}), "neither a height nor a block id"),
        ("chain_block", json!([true]), "no block height"),
        ("mempool_list", json!({ "limit": 501 }), "\"limit\" is 501"),
        ("mempool_list", json!({ "limit": 1.5 }), "no whole number"),
        ("mempool_list", json!([null, 1, 2]), "2 parameters at most"),
        ("chain_head", json!([1]), "takes no parameters"),
    ] {
        let (code, message, data) = refused(client.call::<Value>(method, params.clone()).await.expect_err("refused"));
        assert_eq!(code, -32602, "{method} {params}");
        assert!(data.cause.contains(cause), "{method} {params}: {message}");
        assert!(!data.remedy.is_empty());
    }
    let (code, message, _) = refused(client.call::<Value>("tx_sumbit", json!([])).await.expect_err("no such method"));
    assert_eq!(code, -32601);
    assert!(message.contains("did you mean tx_submit?"), "{message}");
    server.stop().await;
}

#[tokio::test]
async fn strange_hosts_and_origins_are_refused_on_every_path() {
    let server = server(RpcConfig { allow_origins: vec!["https://ok.example".into()], ..RpcConfig::default() }).await;
    let json = "content-type: application/json\r\n";
    let (status, body) = raw(&server, &post(&format!("host: evil.example\r\n{json}"), HEAD_CALL)).await;
    assert_eq!(status, 403);
    assert!(body.contains("evil.example") && body.contains("--rpc-allow-host"), "{body}");
    let (status, body) = raw(&server, &post(&format!("{JSON}origin: https://evil.example\r\n"), HEAD_CALL)).await;
    assert_eq!(status, 403);
    assert!(body.contains("--rpc-allow-origin"), "{body}");
    let (status, body) = raw(&server, &post(JSON, HEAD_CALL)).await;
    assert_eq!(status, 200, "{body}");
    let (status, _) = raw(&server, &post(&format!("{JSON}origin: https://ok.example\r\n"), HEAD_CALL)).await;
    assert_eq!(status, 200);

    for path in ["/health", "/ready", "/metrics"] {
        let get = format!("GET {path} HTTP/1.1\r\nconnection: close\r\nhost: evil.example\r\n\r\n");
        assert_eq!(raw(&server, &get).await.0, 403, "{path}");
        let get = format!(
            "GET {path} HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\nsec-fetch-site: cross-site\r\n\r\n"
        );
        assert_eq!(raw(&server, &get).await.0, 403, "{path} as an image of a page");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_content_type_may_have_parameters() {
    let server = server(RpcConfig::default()).await;
    for kind in ["application/json; charset=\"utf-8\"", "application/json;charset=utf8", "Application/JSON ; a=b"] {
        let headers = format!("host: localhost\r\ncontent-type: {kind}\r\n");
        let (status, body) = raw(&server, &post(&headers, HEAD_CALL)).await;
        assert_eq!(status, 200, "{kind}: {body}");
    }
    server.stop().await;
}

fn upgrade(headers: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A WebSocket of RFC 6455, as much of it as the test needs.
struct WebSocket(TcpStream);

impl WebSocket {
    async fn open(server: &RpcServer) -> Self {
        let mut stream = TcpStream::connect(server.local_address()).await.expect("connected");
        stream.write_all(upgrade("host: localhost\r\n").as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a byte"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// Sends a final text frame, masked with zeros, so the payload stands in the clear; the answer's payload.
    async fn exchange(&mut self, payload: &[u8]) -> Value {
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend_from_slice(&u16::try_from(payload.len()).expect("short").to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await.expect("sent");
        let mut start = [0; 2];
        self.0.read_exact(&mut start).await.expect("a frame");
        // The server pings at once and then now and then, without a payload.
        while start == [0x89, 0] {
            self.0.read_exact(&mut start).await.expect("a frame");
        }
        assert_eq!(start[0], 0x81, "a text frame");
        let length = match start[1] {
            126 => usize::from(self.0.read_u16().await.expect("a length")),
            short => usize::from(short),
        };
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer).await.expect("a payload");
        serde_json::from_slice(&answer).expect("JSON")
    }
}

#[tokio::test]
async fn a_websocket_answers_and_is_guarded_like_http() {
    let config = RpcConfig { request_bytes_max: 1_000, batch_calls_max: 2, ..RpcConfig::default() };
    let server = server(config).await;
    let mut socket = WebSocket::open(&server).await;
    // Length in two bytes is only for payloads of 126 bytes and more; blanks after JSON mean nothing.
    let padded = |text: &str| format!("{text:<126}").into_bytes();
    assert_eq!(socket.exchange(&padded(HEAD_CALL)).await["result"]["height"], 9);
    assert_eq!(socket.exchange(&padded("{\"jsonrpc\":")).await["error"]["code"], -32700);
    let oversized = socket.exchange(format!("{HEAD_CALL:<2000}").as_bytes()).await;
    assert_eq!(oversized["error"]["code"], -32007, "{oversized}");
    let (open, close) = ("[".repeat(400), "]".repeat(400));
    let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tx_get\",\"params\":{open}{close}}}");
    let deep = socket.exchange(deep.as_bytes()).await;
    assert!(deep["error"]["code"].is_i64(), "{deep}");
    let batch = socket.exchange(&padded(&format!("[{HEAD_CALL},{HEAD_CALL},{HEAD_CALL}]"))).await;
    assert_eq!(batch["error"]["code"], -32010, "{batch}");
    assert_eq!(socket.exchange(&padded(HEAD_CALL)).await["result"]["height"], 9, "it goes on after all that");
    assert_eq!(WebSocket::open(&server).await.exchange(&padded(HEAD_CALL)).await["result"]["height"], 9);

    for headers in ["host: evil.example\r\n", "host: localhost\r\norigin: http://localhost\r\n"] {
        let (status, _) =
            raw(&server, &upgrade(headers).replace("connection: upgrade", "connection: upgrade, close")).await;
        assert_eq!(status, 403, "{headers}");
    }
    server.stop().await;
}

/// A client that sends without waiting for answers is read only as fast as it is answered.
#[tokio::test]
async fn a_websocket_has_a_bounded_number_of_calls_under_way() {
    const SENT: usize = 5_000;
    let (handle, mut commands) = NodeHandle::channel();
    let metrics = Metrics::new(Registry::default(), std::path::Path::new("/"));
    let server = RpcServer::start(&RpcConfig::default(), handle, metrics).await.expect("listens");
    let mut socket = WebSocket::open(&server).await;
    let call = format!("{HEAD_CALL:<126}").into_bytes();
    let frame = [&[0x81, 0x80 | 126, 0, 126, 0, 0, 0, 0][..], &call].concat();
    let flood = tokio::spawn(async move {
        socket.0.write_all(&frame.repeat(SENT)).await.expect("sent");
        socket
    });
    // Nobody answers, so what comes is what may be unanswered at once.
    let mut unanswered = Vec::new();
    while let Ok(Some(command)) = tokio::time::timeout(Duration::from_millis(300), commands.recv()).await {
        unanswered.push(command);
    }
    assert_eq!(unanswered.len() as u64, super::connections::MESSAGES_MAX);
    // With answers the others come.
    drop(unanswered);
    for _ in 0..SENT / 4 {
        drop(tokio::time::timeout(DEADLINE, commands.recv()).await.expect("in time").expect("a call"));
    }
    flood.abort();
    server.stop().await;
}

#[tokio::test]
async fn malformed_and_oversized_bodies_are_explained() {
    let (open, close) = ("[".repeat(400), "]".repeat(400));
    let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tx_get\",\"params\":{open}{close}}}");
    let server = server(RpcConfig { request_bytes_max: 1_000, batch_calls_max: 2, ..RpcConfig::default() }).await;
    for (body, status, cause) in [
        ("", 400, "is empty"),
        ("{", 400, "is not JSON"),
        ("\u{1}", 400, "is not JSON"),
        (&"[".repeat(900), 400, "nested more than 32 deep"),
        (&"[".repeat(20), 400, "is not JSON"),
        ("[]", 400, "the batch is empty"),
        ("{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"chain_head\"}", 400, "version"),
        ("{\"jsonrpc\":\"1.0\",\"id\":\"mine\",\"method\":\"chain_head\"}", 400, "\"id\":\"mine\""),
        ("{\"id\":1,\"method\":\"chain_head\"}", 400, "\"id\":1,"),
        (&format!("\"{}\"", "a".repeat(2_000)), 413, "more than 1000 bytes"),
        ("7", 400, "neither an object nor an array"),
        ("{\"jsonrpc\":\"2.0\"}", 400, "missing field `method`"),
        ("{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"chain_head\"}", 400, "not a JSON-RPC call"),
        (&deep, 400, "nested more than 32 deep"),
        (&format!("[{HEAD_CALL},{HEAD_CALL},{HEAD_CALL}]"), 400, "2 at most are taken"),
    ] {
        let (found, answer) = raw(&server, &post(JSON, body)).await;
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer.contains(cause), "{body}: {answer}");
    }
    let (status, answer) = raw(&server, &post("host: localhost\r\ncontent-type: text/plain\r\n", HEAD_CALL)).await;
    assert_eq!(status, 415);
    assert!(answer.contains("Content-Type: application/json"), "{answer}");
    let (status, answer) = raw(&server, &post(JSON, &format!("[{HEAD_CALL},{HEAD_CALL}]"))).await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&answer).expect("JSON").as_array().map(Vec::len), Some(2));
    assert_eq!(client(&server).chain_head().await.expect("still alive").height, 9);
    server.stop().await;
}

#[tokio::test]
async fn pages_tell_health_readiness_and_metrics() {
    let server = server(RpcConfig::default()).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nconnection: close\r\nhost: 127.0.0.1\r\n\r\n");
    let (status, body) = raw(&server, &get("/health")).await;
    assert_eq!((status, serde_json::from_str::<Value>(&body).expect("JSON")["height"].clone()), (200, json!(9)));
    let (status, body) = raw(&server, &get("/ready")).await;
    assert_eq!(status, 503);
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON")["waiting_for"], json!(["peers"]));
    assert!(!client(&server).ready().await.expect("an answer").ready);
    client(&server).chain_head().await.expect("a head");
    let (status, body) = raw(&server, &get("/metrics")).await;
    assert_eq!(status, 200);
    let line = "starling_rpc_requests_total{method=\"chain_head\",outcome=\"ok\"} 1";
    assert!(body.lines().any(|found| found == line), "{body}");
    assert_eq!(raw(&server, &get("/admin")).await.0, 404);
    assert_eq!(raw(&server, &get("/")).await.0, 405);
    server.stop().await;
}

#[tokio::test]
async fn a_port_in_use_and_connections_are_refused_when_all_are_being_answered() {
    // Nobody answers the commands.
    let (handle, mut commands) = NodeHandle::channel();
    let config = RpcConfig { connections_max: 1, ..RpcConfig::default() };
    let server = RpcServer::start(&config, handle, Metrics::new(Registry::default(), std::path::Path::new("/")))
        .await
        .expect("a server");
    let (handle, _commands) = NodeHandle::channel();
    let config = RpcConfig { listen: server.local_address(), ..RpcConfig::default() };
    let error = RpcServer::start(&config, handle, Metrics::new(Registry::default(), std::path::Path::new("/")))
        .await
        .expect_err("taken");
    assert!(matches!(error, RpcError::InUse { .. }) && error.to_string().contains("--rpc"), "{error}");

    let mut first = TcpStream::connect(server.local_address()).await.expect("connected");
    first
        .write_all(format!("POST / HTTP/1.1\r\n{JSON}content-length: 46\r\n\r\n{HEAD_CALL}").as_bytes())
        .await
        .expect("sent");
    let asked = tokio::time::timeout(DEADLINE, commands.recv()).await.expect("in time");
    let mut second = TcpStream::connect(server.local_address()).await.expect("connected");
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("too many RPC connections"), "{answer}");
    drop(asked);
    server.stop().await;
}
