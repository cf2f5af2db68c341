//! What is too much: calls, half-sent requests, and who may call what.

use super::{DEADLINE, HEAD_CALL, JSON, client, drive, raw, server, server_of};
use crate::api::{Command, NodeHandle};
use crate::rpc::RpcConfig;
use crate::rpc::client::{ClientError, RpcClient};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_client_that_asks_too_much_is_told_when_to_come_back() {
    let (handle, commands) = NodeHandle::channel();
    tokio::spawn(drive(commands));
    let (server, metrics) = server_of(&RpcConfig { units_per_second: 20, ..RpcConfig::default() }, handle).await;
    let client = client(&server);
    let mut taken = 0;
    let refused = loop {
        match client.chain_head().await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000, "never refused");
    };
    assert!(taken >= 40, "two seconds' worth at once, not {taken}");
    let ClientError::Refused { code: -32031, data: Some(data), .. } = refused else { panic!("{refused}") };
    assert_eq!(data.reason, "rate_limited");
    let wait = data.retry_after_ms.expect("when");
    assert!((1..=60).contains(&wait), "{wait} ms");
    assert_eq!(metrics.rpc.rate_limited.get(), 1);

    // Each call of a batch is paid for, and each is answered.
    let batch = format!("[{}]", [HEAD_CALL; 30].join(","));
    let (status, answer) = raw(&server, &super::post(JSON, &batch)).await;
    let answers: Vec<Value> = serde_json::from_str(&answer).expect("JSON");
    let refused = answers.iter().filter(|answer| answer["error"]["data"]["reason"] == "rate_limited").count();
    assert_eq!((status, answers.len()), (200, 30));
    assert!(refused > 20, "{refused} of 30");
    let get = "GET /metrics HTTP/1.1\r\nconnection: close\r\nhost: 127.0.0.1\r\n\r\n";
    let (status, page) = raw(&server, get).await;
    assert_eq!(status, 429, "{page}");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    let deadline = Instant::now() + DEADLINE;
    while client.chain_head().await.is_err() {
        assert!(Instant::now() < deadline, "it is never let in again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
}

/// What is no call has no price of its own, and leaves less for others all the same.
#[tokio::test]
async fn messages_that_are_no_calls_are_paid_for() {
    let notification = r#"{"jsonrpc":"2.0","method":"chain_head"}"#;
    for (headers, body) in [(JSON, notification), (JSON, "[{"), ("host: localhost\r\n", HEAD_CALL)] {
        let server = server(RpcConfig { units_per_second: 1, ..RpcConfig::default() }).await;
        for _ in 0..100 {
            raw(&server, &super::post(headers, body)).await;
        }
        let (status, _) = raw(&server, &super::post(JSON, HEAD_CALL)).await;
        assert_eq!(status, 429, "{headers}{body}");
        server.stop().await;
    }
}

/// Half-sent heads and bodies from the same address, many times as many as there are places, and a client among them.
#[tokio::test]
async fn half_sent_requests_do_not_keep_a_client_waiting() {
    let server = server(RpcConfig { connections_max: 16, ..RpcConfig::default() }).await;
    let half_head = "POST / HTTP/1.1\r\nhost: localhost\r\n".to_owned();
    let half_body = format!("POST / HTTP/1.1\r\n{JSON}content-length: 1000\r\n\r\n{{");
    let mut halves = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(server.local_address()).await.expect("connected");
        let half = if number % 2 == 0 { &half_head } else { &half_body };
        // Those that made room already are closed.
        let _closed = stream.write_all(half.as_bytes()).await;
        halves.push(stream);
        if number % 50 == 49 {
            let asked = Instant::now();
            assert_eq!(client(&server).chain_head().await.expect("an answer").height, 9);
            assert!(asked.elapsed() < Duration::from_secs(3), "after {:?}", asked.elapsed());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn half_sent_requests_are_given_up_in_time() {
    let server = server(RpcConfig { patience: Duration::from_millis(200), ..RpcConfig::default() }).await;
    let half_body = format!("POST / HTTP/1.1\r\n{JSON}content-length: 1000\r\n\r\n{{");
    for (half, answer) in [("POST / HT", ""), (half_body.as_str(), "did not come within")] {
        let mut stream = TcpStream::connect(server.local_address()).await.expect("connected");
        stream.write_all(half.as_bytes()).await.expect("sent");
        let mut read = String::new();
        let ended = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut read)).await.expect("it ends in time");
        assert!(ended.is_err() || read.contains(answer), "{read}");
    }
    server.stop().await;
}

/// Messages that never become calls, from clients that read nothing, are counted all the same.
#[tokio::test]
async fn rubbish_over_a_websocket_closes_it_and_keeps_nobody_waiting() {
    // With more patience than the test has, so that it is not for reading nothing that they are closed.
    let config = RpcConfig { connections_max: 64, units_per_second: 0, patience: 2 * DEADLINE, ..RpcConfig::default() };
    let server = server(config).await;
    let mut floods = tokio::task::JoinSet::new();
    // What is no call is answered with its id, however long it is.
    let long = format!("{{\"id\":\"{}\"}}", "a".repeat(60_000));
    for rubbish in ["x", "", "{", "[", "{}", "{\"id\":7}", "\"\"", &long] {
        let mut socket = super::WebSocket::open(&server).await;
        let length = match u8::try_from(rubbish.len()) {
            Ok(length @ 0..126) => vec![0x80 | length],
            _ => [&[0x80 | 126], &u16::try_from(rubbish.len()).expect("short").to_be_bytes()[..]].concat(),
        };
        let frame = [&[0x81], &length[..], &[0; 4], rubbish.as_bytes()].concat();
        let (frames, rubbish) = (frame.repeat(4_000 / frame.len() + 1), rubbish.to_owned());
        floods.spawn(async move {
            let mut sent = 0_usize;
            // Far more than the buffers of both sockets hold.
            while sent < 64 << 20 && socket.0.write_all(&frames).await.is_ok() {
                sent += frames.len();
            }
            (rubbish, sent)
        });
    }
    for _ in 0..20 {
        let asked = Instant::now();
        client(&server).chain_head().await.expect("an answer");
        assert!(asked.elapsed() < Duration::from_secs(3), "after {:?}", asked.elapsed());
    }
    while let Some(ended) = tokio::time::timeout(DEADLINE, floods.join_next()).await.expect("closed in time") {
        let (rubbish, sent) = ended.expect("no panic");
        assert!(sent < 64 << 20, "{rubbish:?} was never refused");
    }
    server.stop().await;
}

/// What HTTP's reader takes along with the head would escape the counting of messages.
#[tokio::test]
async fn a_websocket_begins_a_connection_and_waits_for_the_handshake() {
    let server = server(RpcConfig::default()).await;
    let close = |request: &str| request.replace("connection: upgrade", "connection: upgrade, close");
    let upgrade = super::upgrade("host: localhost\r\n");
    let early = [upgrade.as_bytes(), &[0x81, 0x81, 0, 0, 0, 0, b'x'].repeat(10)].concat();
    let early = close(std::str::from_utf8(&early.iter().map(|byte| byte & 0x7f).collect::<Vec<_>>()).expect("text"));
    let lenient = close(&upgrade).replace("\r\n\r\n", "\n\nrubbish\r\n\r\n");
    let second = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n{}", close(&upgrade));
    for request in [early, lenient, second] {
        let mut stream = TcpStream::connect(server.local_address()).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let _reset = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("it ends");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(" 101 ") && answer.contains("begins with the first request"), "{request:?}: {answer}");
    }
    // A handshake that fails ends the connection.
    let failed = super::upgrade("host: localhost\r\n").replace("version: 13", "version: 7");
    let (status, _) = super::raw(&server, &failed).await;
    assert_ne!(status, 101);
    server.stop().await;
}

/// Escapes make a text longer, and an error says it twice, so whoever may have its own text back gets more than it sent.
#[tokio::test]
async fn an_error_repeats_little_of_what_is_wrong() {
    const BYTES: usize = 1 << 20;
    let server = server(RpcConfig { request_bytes_max: 2 << 20, units_per_second: 0, ..RpcConfig::default() }).await;
    let call = |method: &str, params: &str| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{params}}}")
    };
    for text in ["\u{7f}", "\\u0000", "\\\"", "\u{10ffff}", "9", "1,"] {
        let long = text.repeat(BYTES / text.len());
        let (list, short) = (long.trim_end_matches(','), text.repeat(BYTES / 100));
        let is_number = text == "9" || text == "1,";
        let long = if is_number { "a" } else { &long };
        let short = if is_number { "a" } else { &short };
        let number = if is_number { list } else { "\"a\"" };
        for request in [
            call("tx_get", &format!("{{\"{long}\":1}}")),
            call("tx_get", &format!("[\"{long}\"]")),
            call("tx_submit", &format!("[\"{long}\"]")),
            call("mempool_list", &format!("[\"{long}\"]")),
            call("mempool_list", &format!("[{number}]")),
            call("chain_block", &format!("[[{number}]]")),
            call("tx_subscribe", &format!("{{\"ids\":[[{number}]]}}")),
            call(long, "[]"),
            format!("{{\"jsonrpc\":\"{long}\",\"id\":1,\"method\":\"chain_head\"}}"),
            format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{long}{}\",\"method\":\"chain_head\"}}", "a".repeat(300)),
            format!("{{\"jsonrpc\":\"2.0\",\"id\":[{number}],\"method\":\"chain_head\"}}"),
            format!("{{\"jsonrpc\":{number}"),
            format!("\"{long}\""),
            long.to_owned(),
            format!("[{{\"id\":\"{short}{}\"}}]", "a".repeat(300)),
        ] {
            let (_, answer) = raw(&server, &super::post(JSON, &request)).await;
            let start: String = request.chars().take(80).collect();
            assert!(answer.len() < 2_048, "{start:?}: {} bytes for {}", answer.len(), request.len());
            assert!(answer.contains("error"), "{start:?}: {answer}");
        }
    }
    let path = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "a".repeat(10_000));
    assert!(raw(&server, &path).await.1.len() < 2_048);
    let host = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", "a".repeat(10_000));
    assert!(raw(&server, &host).await.1.len() < 2_048);
    server.stop().await;
}

#[tokio::test]
async fn admin_methods_are_for_the_admin_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("admin.sock");
    let (handle, mut commands) = NodeHandle::channel();
    let config = RpcConfig { admin_socket: Some(path.clone()), units_per_second: 20, ..RpcConfig::default() };
    let (server, _) = server_of(&config, handle).await;
    for method in ["admin_shutdown", "admin_log_filter", "admin_bans", "admin_ban", "admin_unban"] {
        let error = client(&server).call::<Value>(method, json!([])).await.expect_err("over HTTP");
        assert_eq!(error.reason(), Some("admin_only"), "{method}: {error}");
        let text = error.to_string();
        assert!(text.contains("--datadir DIR") && !text.contains(path.to_str().expect("text")), "{text}");
    }
    let admin = RpcClient::over_unix_socket(&path);
    admin.admin_log_filter(None).await.expect("an answer");
    let wrong = admin.admin_log_filter(Some("starling=loud")).await.expect_err("no filter");
    assert_eq!(wrong.reason(), Some("invalid_params"), "{wrong}");
    let stopping = tokio::spawn(async move {
        let Some(Command::Shutdown { reply }) = commands.recv().await else { panic!("another command") };
        reply.send(()).expect("somebody waits");
        commands
    });
    assert!(admin.admin_shutdown().await.expect("an answer").stopping);
    let commands = stopping.await.expect("no panic");
    // No limit here: whoever can open the socket can also kill the process.
    for _ in 0..100 {
        admin.discover().await.expect("an answer");
    }
    let foreign = RpcClient::new(&format!("unix:{}", path.display())).expect("an address");
    foreign.discover().await.expect("the same by its name");
    drop((admin, foreign, commands));
    server.stop().await;
    assert!(!path.exists());

    let (handle, _commands) = NodeHandle::channel();
    let (server, _) = server_of(&RpcConfig::default(), handle).await;
    let error = client(&server).admin_shutdown().await.expect_err("over HTTP");
    assert!(error.to_string().contains("no admin socket"), "{error}");
    server.stop().await;
}

#[test]
fn the_documentation_has_every_error_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CLI.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let mut documented: Vec<(i32, String)> = text
        .lines()
        .filter(|line| line.starts_with("| -32"))
        .flat_map(cells)
        .collect::<Vec<_>>()
        .windows(2)
        .filter_map(|pair| Some((pair[0].parse().ok()?, pair[1].trim_matches('`').to_owned())))
        .collect();
    let mut known = crate::rpc::codes::all();
    documented.sort();
    known.sort();
    assert_eq!(documented, known, "docs/CLI.md and rpc::codes say different things");
    let mut codes: Vec<i32> = known.iter().map(|(code, _)| *code).collect();
    codes.dedup();
    assert_eq!(codes.len(), known.len(), "a code has two meanings");
}
