//! The tool's care for its processes and its folder, tried on nodes that are shell scripts: what it does when nodes
//! misbehave does not depend on what nodes do when they behave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Tool, assert_gone, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A node that says where it listens, then does `then`.
fn script(dir: &Path, then: &str) -> PathBuf {
    let path = dir.join("node.sh");
    let text = format!(
        "#!/bin/sh\n\
         # $1 is run, $2 --datadir, $3 the directory.\n\
         announce() {{\n\
           printf '{{\"peer_id\":\"%s\",\"listen\":[\"/ip4/127.0.0.1/tcp/1\"],\"rpc\":\"127.0.0.1:1\",\"pid\":%s}}' \"$3\" \"$$\" > \"$3/new\"\n\
           mv \"$3/new\" \"$3/addresses.json\"\n\
         }}\n\
         {then}\n"
    );
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    path
}

struct Setup {
    dir: tempfile::TempDir,
    node: PathBuf,
}

impl Setup {
    fn new(then: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let node = script(dir.path(), then);
        Self { dir, node }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn start(&self, command: &str) -> Tool {
        let node = self.node.to_str().expect("a path in UTF-8");
        Tool::start(&self.out(), &[command, "--nodes", "3", "--profile", "loopback", "--node-bin", node])
    }
}

/// Waits for its standard input to close, as a node does.
const OBEDIENT: &str = "announce \"$@\"; while read -r line; do :; done";

#[test]
fn a_node_that_dies_at_its_start_is_named_with_the_end_of_its_log() {
    let setup = Setup::new("echo 'the disk is made of cheese' >&2; exit 3");
    let ended = setup.start("run").end(SOON);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for part in ["node n00 ended while it started", "exit status: 3", "the disk is made of cheese", "n00.log"] {
        assert!(ended.stderr.contains(part), "{part:?} is not in {:?}", ended.stderr);
    }
}

#[test]
fn an_executable_that_cannot_run_is_named() {
    let setup = Setup::new("");
    fs::write(&setup.node, [0x7f, b'E', b'L', b'F', 0]).expect("written");
    let ended = setup.start("run").end(SOON);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("node.sh") && ended.stderr.contains("--node-bin"), "{}", ended.stderr);
}

#[test]
fn interrupting_a_run_leaves_no_node() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let setup = Setup::new(OBEDIENT);
        let tool = setup.start("run");
        let pids = tool.wait_for_nodes(3, SOON);
        tool.signal(signal);
        let ended = tool.end(SOON);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains("interrupted by"), "{}", ended.stderr);
        assert_gone(&pids, Duration::ZERO);
    }
}

#[test]
fn interrupting_a_trial_leaves_no_node() {
    for command in ["crash", "soak"] {
        let setup = Setup::new(OBEDIENT);
        let node = setup.node.to_str().expect("a path in UTF-8");
        let tool = Tool::start(&setup.out(), &[command, "--nodes", "3", "--node-bin", node]);
        let pids = tool.wait_for_nodes(3, SOON);
        tool.signal(Signal::TERM);
        let ended = tool.end(SOON);
        assert_eq!(ended.code, Some(143), "{}", ended.stderr);
        assert_gone(&pids, Duration::ZERO);
        assert!(setup.out().join("nodes").exists(), "what was there is left for whoever looks into it");
    }
}

#[test]
fn a_node_that_does_not_stop_is_killed() {
    let setup = Setup::new("trap '' TERM INT HUP; announce \"$@\"; while :; do sleep 1; done");
    let tool = setup.start("run");
    let pids = tool.wait_for_nodes(3, SOON);
    tool.signal(Signal::INT);
    assert_eq!(tool.end(SOON).code, Some(130));
    assert_gone(&pids, Duration::ZERO);
}

#[test]
fn killing_the_tool_closes_the_nodes_standard_input() {
    let setup = Setup::new(OBEDIENT);
    let mut tool = setup.start("run");
    let pids = tool.wait_for_nodes(3, SOON);
    tool.kill();
    assert_gone(&pids, SOON);
}

#[test]
fn a_second_signal_ends_the_tool_at_once() {
    // Takes note of being asked to stop, and goes on until its standard input closes.
    let setup = Setup::new(
        "trap ': > \"$3/asked\"' TERM; exec 3<&0; announce \"$@\"\n\
         cat <&3 > /dev/null & while kill -0 $! 2> /dev/null; do wait $!; done",
    );
    let tool = setup.start("run");
    let pids = tool.wait_for_nodes(3, SOON);
    tool.signal(Signal::INT);
    let asked = setup.out().join("nodes/n00/asked");
    wait_until(SOON, "the tool has begun to stop its nodes", || asked.exists());
    tool.signal(Signal::INT);
    assert_eq!(tool.end(Duration::from_secs(1)).code, Some(130));
    assert_gone(&pids, SOON);
}

#[test]
fn what_cannot_be_asked_for_ends_with_code_2_and_leaves_no_folder() {
    let setup = Setup::new(OBEDIENT);
    let node = setup.node.to_str().expect("a path in UTF-8");
    let missing = setup.dir.path().join("missing");
    let missing = missing.to_str().expect("a path in UTF-8");
    let bad_profile = setup.dir.path().join("bad.toml");
    fs::write(&bad_profile, "format = 1\nname = \"bad\"\n").expect("written");
    let bad_profile = bad_profile.to_str().expect("a path in UTF-8");
    for (arguments, part) in [
        (&["run", "--nodes", "1"][..], "2..=1000"),
        (&["run", "--duration", "20"], "such as 20s"),
        (&["run", "--tx-rate=-1"], "rate"),
        (&["run", "--profile", "moon", "--node-bin", node], "wan, flat and loopback"),
        (&["run", "--profile", bad_profile, "--node-bin", node], "missing field"),
        (&["run", "--node-bin", missing], "is no file"),
        (&["run", "--slot", "1ms", "--node-bin", node], "from 100ms"),
        (&["run", "--frobnicate"], "unexpected argument"),
        (&["crash", "--rounds", "0"], "1..=100000"),
        (&["crash", "--nodes", "2"], "3..=100"),
        (&["soak", "--tx-rate", "0"], "without a load nothing is tried"),
        (&["soak", "--node-bin", missing], "is no file"),
        (&["walk"], "unrecognized subcommand"),
    ] {
        let ended = Tool::start(&setup.out(), arguments).end(SOON);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{arguments:?}: {part:?} is not in {:?}", ended.stderr);
        assert!(ended.stdout.is_empty() && !setup.out().exists(), "{arguments:?}");
    }
}

#[test]
fn a_folder_in_use_is_refused_with_code_2() {
    let setup = Setup::new(OBEDIENT);
    fs::create_dir(setup.out()).expect("made");
    fs::write(setup.out().join("precious"), "data").expect("written");
    let ended = setup.start("run").end(SOON);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("is not empty"), "{}", ended.stderr);
    assert_eq!(fs::read_dir(setup.out()).expect("readable").count(), 1);
}
