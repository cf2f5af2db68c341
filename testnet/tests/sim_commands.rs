//! The simulator's commands, as they are called from a shell.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const MANIFEST: &str = r#"
format = 1
name = "tiny"
nodes = 12
[time]
warm_up_s = 4
load_s = 4
drain_s = 3.5
[topology]
kind = "random"
degree = 6
[blocks]
producers = 2
slot_s = 1
[[workload]]
kind = "constant"
per_s = 4
bytes = 200
publishers = { count = 4 }
"#;

fn tool(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_starling-testnet");
    Command::new(program).args(arguments).output().expect("the tool starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the tool prints when it ends with this code.
fn said(arguments: &[&str], code: i32) -> String {
    let output = tool(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
    out + &err
}

fn summary(dir: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(dir.join("summary.json")).expect("there is a summary");
    serde_json::from_str(&text).expect("it is JSON")
}

/// The allocator says what it was told when it is asked to be verbose.
#[cfg(unix)]
#[test]
fn the_allocator_keeps_its_pages_unless_it_is_told_otherwise() {
    let delay_of = |told: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling-testnet"));
        command.args(["sim", "--list"]).env("MIMALLOC_VERBOSE", "1").env_remove("MIMALLOC_PURGE_DELAY");
        if let Some(delay) = told {
            command.env("MIMALLOC_PURGE_DELAY", delay);
        }
        let output = command.output().expect("the tool starts");
        assert!(output.status.success() && text(&output.stdout).contains("scale"), "its arguments are the same");
        let said = text(&output.stderr);
        let delays = said.lines().filter_map(|line| line.split_once("'purge_delay': "));
        delays.map(|(_, delay)| delay.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(delay_of(None).last().map(String::as_str), Some("-1"));
    assert_eq!(delay_of(Some("7")), ["7"]);
}

#[test]
fn a_simulation_is_reported_reproduced_explained_and_compared() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), MANIFEST).expect("written");
    let shown = said(&["sim", &path("tiny.toml"), "--seed", "3", "--check", "--out", &path("a")], 0);
    assert!(shown.contains("coverage") && shown.contains("report.html"), "{shown}");
    for name in ["scenario.toml", "manifest.toml", "summary.json", "deliveries.csv", "nodes.csv", "report.html"] {
        assert!(temporary.path().join("a").join(name).is_file(), "{name}");
    }
    let first = summary(&temporary.path().join("a"));
    assert_eq!((&first["kind"], &first["seed"]), (&"simulation".into(), &3.into()));
    assert!(first["events"].as_u64() > Some(1_000) && first["events_per_s"].as_f64() > Some(0.0), "{first}");
    assert_eq!(first["classes"]["transaction"]["coverage"], 1.0);

    let trace = first["trace_hash"].as_str().expect("a hash").to_owned();
    assert!(said(&["reproduce", &path("a")], 0).contains(&trace));
    let csv = std::fs::read_to_string(temporary.path().join("a/deliveries.csv")).expect("a table");
    let id = csv.lines().find(|line| line.contains(",transaction,")).and_then(|line| line.get(..12)).expect("one");
    let shown = said(&["explain", &path("a"), "--message", id], 0);
    assert!(shown.contains("11 of 11 other nodes") && shown.contains("pushed by"), "{shown}");
    said(&["explain", &path("a"), "--message", "00112233445566"], 1);
    assert!(
        said(&["explain", &path("a"), "--message", id, "--node", "12"], 2).contains("12 nodes are numbered from 0")
    );

    // Much latency more, and another trace.
    let slower = ["sim", &path("tiny.toml"), "--seeds", "3..4", "--set", "links.loss_percent=8", "--out", &path("b")];
    assert!(said(&slower, 0).contains("simulation of 2 seeds"));
    assert_ne!(summary(&temporary.path().join("b/seed-3"))["trace_hash"], trace.as_str());
    assert!(said(&["compare", &path("a"), &path("a"), "--fail-above", "1%"], 0).contains("+0.0 %"));
    let shown = said(&["compare", &path("a"), &path("b"), "--fail-above", "10%"], 1);
    assert!(shown.contains("p99") && shown.contains("is worse by"), "{shown}");
    let scenario = temporary.path().join("a/scenario.toml");
    let changed = std::fs::read_to_string(&scenario).expect("kept").replace("degree = 6", "degree = 4");
    std::fs::write(&scenario, changed).expect("written");
    assert!(said(&["reproduce", &path("a")], 1).contains("another trace"));
}

/// File systems take names that are no Unicode; reports show them as well as they can.
#[cfg(unix)]
#[test]
fn a_folder_may_have_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let temporary = tempfile::tempdir().expect("a folder");
    let manifest = temporary.path().join("tiny.toml");
    std::fs::write(&manifest, MANIFEST).expect("written");
    let folder = temporary.path().join(std::ffi::OsStr::from_bytes(b"out-\xff"));
    let tool = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(env!("CARGO_BIN_EXE_starling-testnet")).args(arguments).output().expect("it starts");
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    tool(&["sim".as_ref(), manifest.as_ref(), "--out".as_ref(), folder.as_ref()]);
    tool(&["reproduce".as_ref(), folder.as_ref()]);
    let facts = std::fs::read_to_string(folder.join("manifest.toml")).expect("there is a report");
    assert!(facts.contains("out-\u{fffd}"), "{facts}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    std::fs::write(path("wrong.toml"), MANIFEST.replace("degree = 6", "degree = 12")).expect("written");
    let shown = said(&["sim", &path("wrong.toml"), "--out", &path("out")], 2);
    assert!(shown.contains("line 11 (topology.degree)") && shown.contains("from 1 to 11"), "{shown}");
    assert!(!temporary.path().join("out").exists());
    let elsewhere = "[[fault]]\nkind = \"kill\"\nat_s = 5\nwho = { regions = [\"atlantis\"] }\n";
    std::fs::write(path("elsewhere.toml"), format!("{MANIFEST}{elsewhere}")).expect("written");
    let shown = said(&["sim", &path("elsewhere.toml"), "--out", &path("out")], 2);
    assert!(shown.contains("line 23 (fault.0.who)") && shown.contains("us-east-1"), "{shown}");
    assert!(said(&["sim", "no-such-preset"], 2).contains("baseline"));
    assert!(said(&["sim", "quick", "--set", "nodes=1"], 2).contains("from 2"));
    std::fs::write(path("precious"), "").expect("written");
    let folder = temporary.path().display().to_string();
    assert!(said(&["sim", "quick", "--out", &folder], 2).contains("is not empty"));
    let huge = ["sim", "scale", "--nodes", "200000", "--set", "topology.degree=150", "--out", &path("out")];
    assert!(said(&huge, 2).contains("MiB of memory"));
    let endless = ["--set", "workload.0.per_s=1000000", "--set", "time.load_s=1000000", "--seeds", "1..2"];
    let endless = said(&[&["sim", "quick", "--out", &path("out")][..], &endless].concat(), 2);
    assert!(endless.contains("MiB of memory"), "counted, not made: {endless}");
    let many = ["attacks", "--nodes", "20000", "--jobs", "64", "--out", &path("out")];
    assert!(said(&many, 2).contains("fewer --jobs"));
    assert!(!temporary.path().join("out").exists(), "nothing is written for what does not fit");
    for command in [&["sim", "quick"][..], &["attacks", "--quick"]] {
        let shown = said(&[command, &["--out", &path("precious")]].concat(), 2);
        assert!(shown.contains("cannot write to") && shown.contains("with --out"), "{shown}");
        let shown = said(&[command, &["--nodes", "-5"]].concat(), 2);
        assert!(shown.contains("invalid value '-5' for '--nodes <N>'"), "{shown}");
    }
    for command in
        [&["reproduce", &folder][..], &["compare", &folder, &folder], &["explain", &folder, "--message", "a"]]
    {
        let shown = said(command, 2);
        assert!(shown.contains("is no folder of a run") && shown.contains("no summary.json"), "{shown}");
    }
    let list = said(&["sim", "--list"], 0);
    assert!(["baseline", "scale", "partition", "churn", "random"].iter().all(|name| list.contains(name)), "{list}");
}

#[test]
fn attackers_of_a_manifest_take_part() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    let attack = "[[attack]]\nkind = \"mirror\"\ncount = 8\nconnections = 12\n";
    let run = |name: &str, attack: &str| {
        std::fs::write(path("attacked.toml"), format!("{MANIFEST}{attack}")).expect("written");
        said(&["sim", &path("attacked.toml"), "--seed", "3", "--out", &path(name)], 0);
        let summary = summary(&temporary.path().join(name));
        (summary["trace_hash"].to_string(), summary["classes"]["transaction"]["copies_per_delivery"].as_f64())
    };
    let (alone, attacked) = (run("alone", ""), run("attacked", attack));
    assert_eq!(alone.0, run("nobody", &attack.replace("count = 8", "count = 0")).0);
    assert_ne!(alone.0, attacked.0);
    // Whoever mirrors sends back what it gets, so nodes receive more copies.
    assert!(attacked.1 > alone.1.map(|copies| copies + 0.5), "{attacked:?} and {alone:?}");
    let late = format!("{MANIFEST}{attack}at_s = 1000\n");
    std::fs::write(path("late.toml"), late).expect("written");
    assert!(said(&["sim", &path("late.toml"), "--out", &path("late")], 2).contains("attack.0"));
}

/// As in `starling-testnet sim --schema | head -3`.
#[test]
fn who_reads_may_go_before_the_end() {
    for arguments in [&["sim", "--schema"][..], &["sim", "--list"], &["attacks", "--list"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_starling-testnet"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        drop(child.stdout.take());
        let ended = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{arguments:?}: {} {said}", ended.status);
    }
}
