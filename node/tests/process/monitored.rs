//! What monitors see of a node: the service manager, `/health`, `/ready` and `starling health`, `/metrics`.

use crate::lab::{Lab, Running, eventually};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::Duration;

/// The status line and body of a page.
fn page(node: &Running, path: &str) -> (String, String) {
    page_at(node.addresses().rpc, path)
}

pub(crate) fn page_at(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().expect("a status").to_owned(), body.to_owned())
}

fn health(lab: &Lab, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    command.arg("health").args(["--datadir", "producer"]).args(flags).current_dir(lab.dir.path());
    command.output().expect("runs")
}

fn series(text: &str) -> BTreeSet<&str> {
    // The counts of buckets of libp2p's come and go with protocols, which our own listeners decide.
    text.lines()
        .filter(|line| line.starts_with("starling_"))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, _)| name)
        .collect()
}

#[tokio::test]
async fn a_node_tells_its_service_manager_and_its_monitors_how_it_is() {
    let lab = Lab::new("monitored", 0);
    let socket = UnixDatagram::bind(lab.path("notify")).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let next = || {
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).expect("the node tells");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    };
    let mut command = lab.command("producer", 1, &["--producer-key", "producer.pem"]);
    command.env("NOTIFY_SOCKET", lab.path("notify")).env("WATCHDOG_USEC", "30000000");
    let node = lab.start_command(command, "producer");

    // Alone it lives and waits; the manager hears of both, and gets its signs of life.
    assert_eq!(next(), "READY=1");
    let heard: Vec<String> = (0..4).map(|_| next()).collect();
    let waits = "STATUS=waits for the first peer: none is known; name one with --bootnodes, or wait until somebody dials this node";
    assert!(heard.iter().any(|text| text == waits), "{heard:?}");
    assert!(heard.iter().filter(|text| *text == "WATCHDOG=1").count() >= 3, "{heard:?}");
    let (status, body) = page(&node, "/health");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert!(status.contains("200"), "{status}");
    assert_eq!(answer["status"], "ok");
    assert_eq!(
        (&answer["ready"], &answer["storage"]["state"], &answer["clock"]["state"]),
        (&false.into(), &"ok".into(), &"ok".into())
    );
    let (status, body) = page(&node, "/ready");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert!(status.contains("503"), "{status}");
    assert_eq!(answer["reasons"], serde_json::json!(["no_peers"]));
    assert!(health(&lab, &[]).status.success());
    let refused = health(&lab, &["--ready"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the node is not ready: it waits for the first peer"), "{said}");
    let (_, before) = page(&node, "/metrics");

    // With a peer it is ready, and transactions and blocks leave no series that was not there before.
    let listen = node.addresses().listen[0].clone();
    let other = lab.start("other", 2, &["--bootnodes", &listen]);
    eventually("readiness", || async { page(&node, "/ready").0.contains("200").then_some(()) }).await;
    assert!(health(&lab, &["--ready"]).status.success());
    for number in 0..20 {
        other.rpc().tx_publish(&[number; 100]).await.expect("accepted");
    }
    let arrived = "starling_messages_arrived_total{class=\"transaction\"} 20";
    let (_, after) = eventually("the metrics", || async {
        let page = page(&node, "/metrics");
        page.1.lines().any(|line| line == arrived).then_some(page)
    })
    .await;
    let known = series(&before);
    let unknown: Vec<_> =
        series(&after).into_iter().filter(|name| !known.contains(name) && !name.contains("_rpc_")).collect();
    assert!(unknown.is_empty(), "new series: {unknown:?}");
    eventually("block delays", || async {
        let (_, text) = page(&other, "/metrics");
        let measured = |metric: &str| text.lines().any(|line| line.starts_with(metric) && !line.ends_with(" 0"));
        (measured("starling_block_arrival_delay_seconds_count ")
            && measured("starling_block_head_delay_seconds_count ")
            && measured("starling_storage_commit_seconds_count ")
            && measured("starling_mesh_control_total{kind=\"graft\",direction=\"received\"} ")
            && measured("starling_ready "))
        .then_some(())
    })
    .await;

    other.stop();
    node.stop();
    let mut last = next();
    while !last.starts_with("STOPPING=1") {
        last = next();
    }
}
