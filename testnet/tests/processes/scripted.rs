//! Manifests on real processes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Ended, Tool, assert_gone, is_alive};

/// Allows for a busy two-core machine; the run takes some twenty seconds.
const DEADLINE: Duration = Duration::from_secs(180);

const NETWORK: &str = r#"
format = 1
name = "small"
nodes = 4
seed = 3

[time]
warm_up_s = 4
load_s = 6
drain_s = 3.5

[topology]
kind = "random"
degree = 3

[links]
profile = "flat"
dead_after_s = 1

[blocks]
producers = 4
slot_s = 0.5

[[workload]]
kind = "constant"
per_s = 4
bytes = 100
publishers = { count = 4 }
"#;

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn with(rest: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("small.toml"), format!("{NETWORK}{rest}")).expect("written");
        Self { dir }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn start(&self, command: &str, rest: &[&str]) -> Tool {
        let manifest = self.dir.path().join("small.toml");
        let manifest = manifest.to_str().expect("a path in UTF-8");
        let named = if command == "run" { vec!["run", "--manifest", manifest] } else { vec![command, manifest] };
        Tool::start(&self.out(), &[&named, rest].concat())
    }

    fn summary(&self, ended: &Ended) -> Value {
        let text = fs::read_to_string(self.out().join("summary.json"));
        serde_json::from_str(&text.unwrap_or_else(|_| panic!("no summary: {}", ended.stderr))).expect("JSON")
    }
}

#[test]
fn killed_paused_and_parted_nodes_have_everything_in_the_end() {
    let folder = Folder::with(
        "[[fault]]\nkind = \"kill\"\nat_s = 4.2\nwho = { nodes = [3] }\nfor_s = 1\n\
         [[fault]]\nkind = \"pause\"\nat_s = 4.5\nwho = { nodes = [2] }\nfor_s = 0.5\n\
         [[fault]]\nkind = \"partition\"\nat_s = 6\nwho = { nodes = [0, 1] }\nfor_s = 2.5\n\
         [[fault]]\nkind = \"degrade\"\nat_s = 4\nfrom = { nodes = [1] }\nlatency_ms = 30\nloss_percent = 5\n",
    );
    let tool = folder.start("run", &[]);
    let pids = tool.wait_for_nodes(4, DEADLINE);
    let ended = tool.end(DEADLINE);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert_gone(&pids, Duration::ZERO);
    let summary = folder.summary(&ended);
    assert_eq!((&summary["kind"], &summary["nodes"]), (&Value::from("processes"), &Value::from(4)));
    let transactions = &summary["classes"]["transaction"];
    assert!(transactions["published"].as_u64() >= Some(15), "{summary}");
    let late_ms = transactions["latency_ms"]["max"].as_f64();
    assert!(
        late_ms > Some(700.0),
        "what was published while the network was parted came late to the other side: {summary}"
    );
    assert!(ended.stdout.contains("one head again"), "{}", ended.stdout);
    assert_eq!(summary["verdict"], serde_json::json!({ "good": true, "one_chain": true, "findings": [] }));
    // The simulator comes to the same verdict on it.
    let simulated = folder.dir.path().join("simulated");
    let manifest = folder.dir.path().join("small.toml");
    let ended = Tool::start(&simulated, &["sim", manifest.to_str().expect("a path in UTF-8")]).end(DEADLINE);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let simulated = fs::read_to_string(simulated.join("summary.json")).expect("a summary");
    let simulated: Value = serde_json::from_str(&simulated).expect("JSON");
    assert_eq!((&simulated["kind"], &simulated["verdict"]), (&Value::from("simulation"), &summary["verdict"]));
    let partition = &summary["partition"];
    assert!(partition["healed_at_s"].as_f64().is_some_and(|at_s| (8.4..30.0).contains(&at_s)), "{partition}");
    assert!(partition["one_head_after_s"].as_f64().is_some_and(|after_s| after_s >= 0.0), "{partition}");
    let log = fs::read_to_string(folder.out().join("logs/n03.log")).expect("a log");
    assert!(log.matches("listening").count() >= 2, "it was killed and started again: {log}");
    let scenario = folder.out().join("scenario.toml");
    assert!(fs::read_to_string(scenario).expect("the manifest is kept").contains("partition"));
}

#[test]
fn a_node_that_is_killed_for_good_is_not_expected_and_a_network_that_is_never_healed_fails() {
    let folder = Folder::with(
        "[[fault]]\nkind = \"kill\"\nat_s = 2\nwho = { nodes = [3] }\n\
         [[fault]]\nkind = \"partition\"\nat_s = 3\nwho = { nodes = [0] }\n\
         [[fault]]\nkind = \"pause\"\nat_s = 3\nwho = { nodes = [2] }\nfor_s = 0.1\n",
    );
    let tool = folder.start("run", &["--set", "time.load_s=3"]);
    let pids = tool.wait_for_nodes(4, DEADLINE);
    let ended = tool.end(DEADLINE);
    assert_eq!(ended.code, Some(1), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("neither over the mesh nor in a block"), "{}", ended.stderr);
    assert!(ended.stderr.contains("highest head") || ended.stderr.contains("different heads"), "{}", ended.stderr);
    assert!(ended.stderr.contains("fault.1, the partition at 3 s, has neither for_s nor a heal"), "{}", ended.stderr);
    let summary = folder.summary(&ended);
    assert_eq!((&summary["verdict"]["good"], &summary["verdict"]["one_chain"]), (&false.into(), &false.into()));
    assert_eq!(summary["partition"], serde_json::json!({ "healed_at_s": null, "one_head_after_s": null }));
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    let nodes = fs::read_to_string(folder.out().join("missing.csv")).expect("what is missing is named");
    assert!(!nodes.contains("n03"), "who does not run is not expected to get anything: {nodes}");
}

#[test]
fn what_processes_cannot_do_is_refused_before_anything_starts() {
    let folder = Folder::with("[[fault]]\nkind = \"clock\"\nat_s = 1\nwho = { all = true }\nskew_s = 2\n");
    let ended = folder.start("run", &[]).end(DEADLINE);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in ["small.toml", "line 30 (fault.0.kind)", "starling-testnet sim"] {
        assert!(ended.stderr.contains(part), "{part:?} is not in {:?}", ended.stderr);
    }
    let ended = folder.start("run", &["--nodes", "5"]).end(DEADLINE);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(!folder.out().exists());
}

#[test]
fn attackers_of_a_manifest_are_processes_that_come_when_it_says() {
    let folder = Folder::with("[[attack]]\nkind = \"invalid\"\ncount = 1\nat_s = 4.5\nparams = { per_s = 50 }\n");
    let tool = folder.start("run", &[]);
    let ended = tool.end(DEADLINE);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let summary = folder.summary(&ended);
    let [group] = &summary["attackers"].as_array().expect("attackers")[..] else { panic!("{summary}") };
    assert_eq!((&group["kind"], &group["links"], &group["dropped"]), (&"invalid".into(), &4.into(), &4.into()));
    assert_eq!(summary["classes"]["transaction"]["coverage"], 1.0, "{summary}");

    // It turns so late that nobody can have found out by the end.
    let rest = "[[attack]]\nkind = \"sybil\"\ncount = 1\nparams = { turn_s = 7.5 }\n";
    let ended = Folder::with(rest).start("run", &[]).end(DEADLINE);
    assert_eq!(ended.code, Some(1), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("dropped on") && ended.stderr.contains("too short to tell"), "{}", ended.stderr);
}
