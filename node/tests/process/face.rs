//! What an operator lives with: the commands that watch a running node.

use crate::lab::{Lab, wait_for};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

/// A command against the node of data directory `producer`.
fn command(lab: &Lab, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    command.args(args).args(["--datadir", "producer"]).current_dir(lab.dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(lab: &Lab, args: &[&str]) -> Output {
    command(lab, args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A command that goes on, killed when the test is done with it.
struct Watching {
    child: Child,
    lines: BufReader<ChildStdout>,
    notes: BufReader<ChildStderr>,
}

impl Watching {
    fn start(lab: &Lab, args: &[&str]) -> Self {
        let mut child = command(lab, args).spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let notes = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, lines, notes }
    }

    /// The next line; empty when there are no more.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line
    }

    /// The next line of standard error.
    fn note(&mut self) -> String {
        let mut line = String::new();
        self.notes.read_line(&mut line).expect("text");
        line
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("a line of JSON")
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits for the end: the exit code and what went to standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let status = wait_for("the command's end", || self.child.try_wait().expect("a child"));
        let mut error = String::new();
        self.notes.read_to_string(&mut error).expect("text");
        (status.code(), error)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn height(line: &Value) -> u64 {
    assert_eq!(line["event"], "adopted", "{line}");
    line["height"].as_u64().expect("a number")
}

#[test]
fn watches_outlive_a_restart_of_the_node_and_end_cleanly() {
    let lab = Lab::new("watching", 0);
    let node = lab.start_producer(&[]);
    let mut blocks = Watching::start(&lab, &["block", "watch", "--from", "1", "--json"]);
    assert_eq!(height(&blocks.json()), 1);
    assert_eq!(height(&blocks.json()), 2);
    let mut status = Watching::start(&lab, &["status", "--watch", "1", "--json"]);
    assert_eq!(status.json()["node"]["network_name"], "watching");
    // The first is read; the pipe is closed while the watch waits for the second.
    let mut unread = Watching::start(&lab, &["block", "watch", "--from", "1"]);
    assert!(unread.line().starts_with("height 1  slot "));
    drop(std::mem::replace(&mut unread.lines, BufReader::new(empty_pipe())));
    let (code, error) = unread.end();
    assert_eq!((code, error.as_str()), (Some(0), ""));

    node.stop();
    assert!(blocks.note().contains("the node is gone"));
    let node = lab.start_producer(&[]);
    // On another port, and after a gap of heights or not, the watch goes on with the next block.
    let mut last = 2;
    wait_for("blocks of the restarted node", || {
        let next = height(&blocks.json());
        assert_eq!(next, last + 1, "no block is left out");
        last = next;
        (next > 6).then_some(())
    });
    blocks.signal(rustix::process::Signal::INT);
    let (code, error) = blocks.end();
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("the node answers again"), "{error}");
    wait_for("the restarted node", || {
        let shown = status.json();
        (shown["node"]["pid"] == node.child.id()).then_some(())
    });
    status.signal(rustix::process::Signal::TERM);
    assert_eq!(status.end().0, Some(0));
    node.stop();
}

/// The reading end of a pipe that nobody writes to.
fn empty_pipe() -> ChildStdout {
    Command::new("true").stdout(Stdio::piped()).spawn().expect("it starts").stdout.take().expect("piped")
}

#[test]
fn the_exit_code_of_a_watched_transaction_tells_its_fate() {
    let lab = Lab::new("fates", 0);
    let node = lab.start_producer(&[]);
    let sent = output(&lab, &["tx", "send", "hello", "--wait", "--json"]);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let notes = text(&sent.stderr);
    let sent: Value = serde_json::from_slice(&sent.stdout).expect("JSON");
    let id = sent["id"].as_str().expect("an id");
    assert!(notes.contains(&format!("sent transaction {id}; waiting")), "the id is told before its fate: {notes}");
    let watched = output(&lab, &["tx", "watch", id]);
    assert_eq!(watched.status.code(), Some(0));
    assert!(text(&watched.stdout).starts_with("included at height "), "{}", text(&watched.stdout));
    let unknown = "00".repeat(32);
    let timed_out = output(&lab, &["tx", "watch", &unknown, "--timeout", "500ms", "--json"]);
    assert_eq!(timed_out.status.code(), Some(5));
    assert!(text(&timed_out.stdout).contains("\"unknown\""), "{}", text(&timed_out.stdout));
    assert!(text(&timed_out.stderr).contains("--timeout"), "{}", text(&timed_out.stderr));
    let mut waiting = Watching::start(&lab, &["tx", "watch", &unknown]);
    assert_eq!(waiting.line(), "unknown to this node (yet); waiting for it\n");
    waiting.signal(rustix::process::Signal::INT);
    let (code, notes) = waiting.end();
    assert_eq!(code, Some(130), "{notes}");
    assert!(!notes.contains("transaction"), "said once: {notes}");
    let nothing = output(&lab, &["tx", "watch"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("--sender KEY") && text(&nothing.stderr).contains("--all"));
    node.stop();
}

#[test]
fn what_happens_to_many_transactions_is_told_as_it_happens() {
    let lab = Lab::new("streaming", 0);
    let node = lab.start_producer(&[]);
    let account: Value = serde_json::from_slice(&output(&lab, &["status", "--json"]).stdout).expect("JSON");
    let account = account["node"]["account"].as_str().expect("a key").to_owned();
    let mut all = Watching::start(&lab, &["tx", "watch", "--all"]);
    let mut own = Watching::start(&lab, &["tx", "watch", "--sender", &account, "--json"]);
    // Which of the watches is there first is not known; a transaction that both saw tells that both are.
    let (mut sent, mut seen) = (Vec::new(), None);
    wait_for("both watches", || {
        let answer = output(&lab, &["tx", "send", "hello", "--wait", "--json"]);
        let answer: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
        sent.push(answer["id"].as_str().expect("an id").to_owned());
        // Both have said something by then, or say it after the next one.
        seen = (sent.len() > 1).then(|| (all.line(), own.json()));
        seen.as_ref().map(|_seen| ())
    });
    let (line, event) = seen.expect("seen");
    assert!(sent.iter().any(|id| line.contains(id.as_str())), "{line}");
    assert!(["accepted", "included"].contains(&event["event"].as_str().expect("text")), "{event}");
    assert_eq!(event["transactions"][0]["sender"], account);
    let listed = output(&lab, &["mempool", "list"]);
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
    node.stop();
    wait_for("a note that the node is gone", || own.note().contains("is not shown").then_some(()));
    own.signal(rustix::process::Signal::INT);
    assert_eq!(own.end().0, Some(0));
}

#[test]
fn a_transaction_that_no_block_takes_expires() {
    let lab = Lab::new("expiring", 0);
    // Without the producer nobody makes blocks.
    let node = lab.start("producer", 1, &[]);
    let sent = output(&lab, &["tx", "send", "late", "--key", "producer.pem", "--expires-in", "3", "--wait", "--json"]);
    assert_eq!(sent.status.code(), Some(3), "{}", text(&sent.stderr));
    let last: Value = serde_json::from_slice(&sent.stdout).expect("JSON");
    assert_eq!(last["status"], "expired");
    let again = output(&lab, &["tx", "watch", last["id"].as_str().expect("an id")]);
    assert_eq!((again.status.code(), text(&again.stdout).as_str()), (Some(3), "expired before a block took it\n"));
    node.stop();
}

#[test]
fn a_payload_comes_from_a_file_or_standard_input_and_may_be_too_large() {
    let lab = Lab::new("payloads", 0);
    let node = lab.start_producer(&[]);
    let send = |payload: &[u8], args: &[&str]| {
        let mut child = command(&lab, args).stdin(Stdio::piped()).spawn().expect("the program starts");
        child.stdin.take().expect("piped").write_all(payload).expect("written");
        child.wait_with_output().expect("it ends")
    };
    for args in [["tx", "send", "-", "--json"], ["tx", "send", "--file=-", "--json"]] {
        let sent = send(args[2].as_bytes(), &args);
        let sent: Value = serde_json::from_slice(&sent.stdout).expect("JSON");
        let got = output(&lab, &["tx", "get", sent["id"].as_str().expect("an id"), "--json"]);
        let got: Value = serde_json::from_slice(&got.stdout).expect("JSON");
        assert_eq!(got["transaction"]["payload_hex"], hex::encode(args[2]));
    }
    let large = send(&[7; 1_001], &["tx", "send", "-"]);
    let error = text(&large.stderr);
    assert_eq!(large.status.code(), Some(1), "{error}");
    assert!(error.contains("1001") && error.contains("1000"), "{error}");
    let huge = send(&vec![7; 3 << 20], &["tx", "send", "-"]);
    let error = text(&huge.stderr);
    assert_eq!(huge.status.code(), Some(2), "{error}");
    assert!(error.contains("3145728 bytes") && error.contains("at most 1000"), "{error}");
    node.stop();
}

#[test]
fn status_and_peers_are_readable_at_any_width() {
    let lab = Lab::new("widths", 0);
    let node = lab.start_producer(&[]);
    let bootnode = node.addresses().listen[0].clone();
    let second = lab.start("second", 2, &["--bootnodes", &bootnode]);
    wait_for("the peer", || text(&output(&lab, &["peers"]).stdout).contains(&second.addresses().peer_id).then_some(()));
    for columns in ["0", "1", "20", "80", "120", "999999999999999999999"] {
        for args in [&["status"][..], &["peers"], &["peers", "--sort", "bytes"]] {
            let shown = command(&lab, args).env("COLUMNS", columns).output().expect("the program starts");
            assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
            let shown = text(&shown.stdout);
            assert!(!shown.contains('\x1b'), "no colours in a pipe");
            if columns == "80" {
                assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
            }
        }
    }
    let part = &second.addresses().peer_id[44..];
    let shown = text(&output(&lab, &["peers", "show", part]).stdout);
    assert!(shown.contains(&second.addresses().peer_id) && shown.contains("in: it dialled this node"), "{shown}");
    let nobody = output(&lab, &["peers", "show", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("`starling peers` lists"), "{}", text(&nobody.stderr));
    second.stop();
    node.stop();
}

/// What `starling doctor` finds: the exit code and the findings of one check.
fn doctor(lab: &Lab, check: &str) -> (Option<i32>, Vec<Value>) {
    let found = output(lab, &["doctor", "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&found.stdout).expect("JSON");
    for finding in &findings {
        assert_eq!(finding["verdict"] != "ok", finding["remedy"].is_string(), "{finding}");
    }
    (found.status.code(), findings.into_iter().filter(|finding| finding["check"] == check).collect())
}

#[test]
fn the_doctor_knows_a_running_node_from_a_stopped_one() {
    let lab = Lab::new("doctor", 0);
    let (code, disk) = doctor(&lab, "disk");
    assert_eq!((code, disk[0]["verdict"].as_str()), (Some(1), Some("fail")), "no data directory yet: {disk:?}");

    std::fs::create_dir(lab.path("producer")).expect("made");
    std::fs::copy(lab.path("genesis.toml"), lab.path("producer/genesis.toml")).expect("copied");
    std::fs::write(lab.path("producer/config.toml"), "[network]\nlisten = [\"/ip4/127.77.0.1/tcp/0\"]\n")
        .expect("written");
    let node = lab.start_producer(&[]);
    let (code, about) = doctor(&lab, "node");
    let whats: Vec<_> = about.iter().filter_map(|finding| finding["what"].as_str()).collect();
    assert_eq!(code, Some(0), "{whats:?}");
    assert!(whats[0].contains(&format!("process {}", node.child.id())) && whats[0].contains("on network doctor"));
    assert!(whats.iter().any(|what| what.contains("not ready")), "alone it waits for peers: {whats:?}");
    assert!(doctor(&lab, "ports").1[0]["what"].as_str().expect("text").contains("running node has"));
    assert!(doctor(&lab, "reach").1[0]["what"].as_str().expect("text").contains("loopback"));
    assert!(doctor(&lab, "limits").1[0]["what"].as_str().expect("text").starts_with("the node may open"));
    let rpc = node.addresses().rpc.to_string();
    let alone =
        Command::new(env!("CARGO_BIN_EXE_starling")).args(["doctor", "--rpc", &rpc]).output().expect("it starts");
    assert_eq!(alone.status.code(), Some(0), "{}", text(&alone.stdout));
    node.stop();

    let (code, database) = doctor(&lab, "database");
    assert_eq!((code, database[0]["verdict"].as_str()), (Some(0), Some("ok")), "{database:?}");
    assert!(doctor(&lab, "node").1[0]["what"].as_str().expect("text").starts_with("not running"));
}

#[test]
fn the_doctor_names_what_is_wrong_and_how_to_mend_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new("ailing", 0);
    lab.start_producer(&[]).stop();
    std::fs::copy(lab.path("genesis.toml"), lab.path("producer/genesis.toml")).expect("copied");
    let taken = std::net::TcpListener::bind("127.77.0.1:0").expect("a port").local_addr().expect("bound");
    let holder = std::net::TcpListener::bind(taken).expect("still free");
    let config = format!("[rpc]\nlisten = \"{taken}\"\n[network]\nmax_peer = 9\n");
    std::fs::write(lab.path("producer/config.toml"), config).expect("written");
    let account = lab.path("producer/account.pem");
    std::fs::set_permissions(&account, std::fs::Permissions::from_mode(0o644)).expect("set");

    let failing = |check: &str, part: &str| {
        let (code, findings) = doctor(&lab, check);
        assert_eq!(code, Some(1));
        let failed = |finding: &&Value| finding["verdict"] == "fail" && finding.to_string().contains(part);
        assert!(findings.iter().any(|finding| failed(&finding)), "{part:?} is missing from {findings:?}");
    };
    failing("config", "max_peer");
    failing("keys", "chmod 600");
    failing("ports", "in use by another program");
    drop(holder);
    std::fs::write(lab.path("producer/chain.redb"), "this is no database").expect("written");
    failing("database", "chain.redb");
    let stranger = Lab::new("stranger", 0);
    std::fs::copy(stranger.path("genesis.toml"), lab.path("producer/genesis.toml")).expect("copied");
    std::fs::remove_file(lab.path("producer/chain.redb")).expect("removed");
    std::fs::remove_file(lab.path("producer/config.toml")).expect("removed");
    let shown = text(&command(&lab, &["doctor"]).env("COLUMNS", "80").output().expect("it starts").stdout);
    assert!(shown.lines().all(|line| line.chars().count() <= 100) && shown.contains("-> "), "{shown}");
}

#[test]
fn a_node_that_hangs_is_given_up() {
    // It listens and accepts, and never answers.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let rpc = hangs.local_addr().expect("bound").to_string();
    let given_up =
        Command::new(env!("CARGO_BIN_EXE_starling")).args(["status", "--rpc", &rpc]).output().expect("it starts");
    let error = text(&given_up.stderr);
    assert_eq!(given_up.status.code(), Some(1), "{error}");
    assert!(error.contains("did not answer within") && error.contains("overloaded or stuck"), "{error}");
}
