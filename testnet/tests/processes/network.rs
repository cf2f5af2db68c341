//! Small networks of real nodes, from start to report.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::support::{Ended, Tool, assert_gone, pid, wait_until};

/// Allows for a busy two-core machine; a run takes some ten seconds.
const DEADLINE: Duration = Duration::from_secs(120);
/// From a request to stop until nothing is left.
const STOP: Duration = Duration::from_secs(15);

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn start(&self, arguments: &[&str]) -> Tool {
        Tool::start(&self.out(), arguments)
    }
}

fn summary(out: &Path) -> Value {
    let text = fs::read_to_string(out.join("summary.json")).expect("a summary");
    serde_json::from_str(&text).expect("JSON")
}

fn assert_complete(ended: &Ended, out: &Path, nodes: u64) -> Value {
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let summary = summary(out);
    for class in ["transaction", "block"] {
        let figures = &summary["classes"][class];
        let published = figures["published"].as_u64().expect("published");
        assert!(published > 0, "no {class} was published");
        assert_eq!(figures["deliveries_expected"], published * (nodes - 1), "{class}");
        assert_eq!(figures["coverage"], 1.0, "{class}");
    }
    for name in ["manifest.toml", "deliveries.csv", "nodes.csv", "report.html", "genesis.toml", "profile.toml", "logs"]
    {
        assert!(out.join(name).exists(), "{name}");
    }
    summary
}

#[test]
fn a_loopback_network_delivers_everything_and_leaves_no_process() {
    let folder = Folder::new();
    let arguments =
        ["run", "--nodes", "5", "--profile", "loopback", "--duration", "4s", "--slot", "1s", "--tx-rate", "10"];
    let tool = folder.start(&arguments);
    let pids = tool.wait_for_nodes(5, DEADLINE);
    let ended = tool.end(DEADLINE);
    let summary = assert_complete(&ended, &folder.out(), 5);
    assert_gone(&pids, Duration::ZERO);
    assert_eq!(summary["profile"], "loopback");
    assert_eq!(summary["classes"]["transaction"]["published"], 40);
    assert_eq!(summary["classes"]["transaction"]["bound_ms"]["p99"], 0.0);
    assert!(summary["socket_bytes"].as_u64() > Some(40 * 4 * 256), "{summary}");
    assert!(summary["rss_mib_max"].as_f64() > Some(1.0), "{summary}");
    assert!(!folder.out().join("nodes").exists(), "data directories go unless they are asked for");
    assert!(ended.stdout.contains("coverage") && ended.stdout.contains("report.html"), "{}", ended.stdout);
}

#[test]
fn a_wide_area_network_is_no_faster_than_its_bound() {
    let folder = Folder::new();
    let arguments =
        ["run", "--nodes", "6", "--duration", "4s", "--slot", "1s", "--tx-rate", "10", "--seed", "5", "--keep"];
    let ended = folder.start(&arguments).end(DEADLINE);
    let summary = assert_complete(&ended, &folder.out(), 6);
    for class in ["transaction", "block"] {
        let figures = &summary["classes"][class];
        let quantile = |of: &str, point: &str| figures[of][point].as_f64().expect("a number");
        for point in ["p50", "p99"] {
            let (latency, bound) = (quantile("latency_ms", point), quantile("bound_ms", point));
            assert!(bound > 1.0 && latency > bound, "{class} {point}: {latency} ms against a bound of {bound} ms");
        }
    }
    assert!(folder.out().join("nodes/n00/trace.csv").exists(), "--keep keeps traces");
}

#[test]
fn deliveries_to_a_dead_node_are_missing_and_named() {
    let folder = Folder::new();
    let arguments =
        ["run", "--nodes", "4", "--profile", "loopback", "--duration", "6s", "--tx-rate", "10", "--slot", "1s"];
    let tool = folder.start(&arguments);
    let pids = tool.wait_for_nodes(4, DEADLINE);
    let traced =
        |node: &str| fs::read_to_string(folder.out().join("nodes").join(node).join("trace.csv")).unwrap_or_default();
    wait_until(DEADLINE, "transactions spread", || traced("n03").matches("arrive,transaction").count() > 3);
    let addresses = fs::read_to_string(folder.out().join("nodes/n03/addresses.json")).expect("addresses");
    let addresses: Value = serde_json::from_str(&addresses).expect("JSON");
    let victim = addresses["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a process id");
    kill_process(pid(victim), Signal::KILL).expect("the node runs");
    let ended = tool.end(DEADLINE);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("did not reach n03"), "{}", ended.stderr);
    assert!(ended.stdout.contains("node n03 ended during the run"), "{}", ended.stdout);
    let missing = fs::read_to_string(folder.out().join("missing.csv")).expect("missing deliveries");
    assert!(missing.lines().skip(1).all(|line| line.split(',').nth(3) == Some("n03")), "{missing}");
    assert!(folder.out().join("nodes/n03/trace.csv").exists(), "what is needed to find out why is kept");
    assert_gone(&pids, Duration::ZERO);
}

#[test]
fn a_network_to_play_with_answers_until_it_is_interrupted() {
    let folder = Folder::new();
    let tool = folder.start(&["up", "--nodes", "3", "--profile", "loopback"]);
    let pids = tool.wait_for_nodes(3, DEADLINE);
    wait_until(DEADLINE, "the mesh has formed", || {
        (0..3).all(|node| {
            let trace = folder.out().join(format!("nodes/n0{node}/trace.csv"));
            fs::read_to_string(trace).unwrap_or_default().contains("mesh,")
        })
    });
    tool.signal(Signal::INT);
    let ended = tool.end(STOP);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_gone(&pids, Duration::ZERO);
}

#[test]
fn killing_the_tool_leaves_no_node() {
    let folder = Folder::new();
    let mut tool = folder.start(&["up", "--nodes", "3"]);
    let pids = tool.wait_for_nodes(3, DEADLINE);
    tool.kill();
    assert_gone(&pids, STOP);
}
