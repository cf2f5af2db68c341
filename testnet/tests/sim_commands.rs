//! The simulator's commands, as they are called from a shell.

mod tool;

use std::path::Path;
use std::process::{Command, Stdio};

use starling_testnet::manifest::Manifest;
use starling_testnet::sim::memory::memory_mib;
use tool::{MANIFEST, said, summary, text};

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
    assert_eq!(first["verdict"], serde_json::json!({ "good": true, "one_chain": true, "findings": [] }));
    assert!(first["partition"].is_null(), "{first}");

    let trace = first["trace_hash"].as_str().expect("a hash").to_owned();
    assert!(said(&["reproduce", &path("a")], 0).contains(&trace));
    let csv = std::fs::read_to_string(temporary.path().join("a/deliveries.csv")).expect("a table");
    let id = csv.lines().find(|line| line.contains(",transaction,")).and_then(|line| line.get(..12)).expect("one");
    let shown = said(&["explain", &path("a"), "--message", id], 0);
    assert!(shown.contains("11 of 11 other nodes") && shown.contains("pushed by"), "{shown}");
    assert!(shown.contains("after that one published it"), "{shown}");

    // Much latency more, and another trace.
    let slower = ["sim", &path("tiny.toml"), "--seeds", "3..4", "--set", "links.loss_percent=8", "--out", &path("b")];
    let shown = said(&slower, 0);
    assert!(shown.contains("simulation of 2 seeds"), "{shown}");
    let columns = shown.lines().find(|line| line.contains("least to most")).expect("a table");
    assert_eq!(columns.matches('┆').count(), 2, "every column has something to say: {columns}");
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

/// Of a message: its id, the number of its origin, and the longest time to a node in microseconds.
fn slowest_message(dir: &Path) -> (String, String, u64) {
    let csv = std::fs::read_to_string(dir.join("deliveries.csv")).expect("a table");
    let rows = csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let took = rows.filter(|row| row[9] != "in_block").map(|row| {
        let time = |column: usize| row[column].parse::<u64>().expect("a time");
        (time(5) - time(4), row[0].to_owned(), row[2].to_owned())
    });
    let (took_us, id, origin) = took.max().expect("something was delivered");
    (id, origin, took_us)
}

#[test]
fn explaining_says_which_message_and_which_node_it_is_about() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    let fault = "[[fault]]\nkind = \"kill\"\nat_s = 3\nwho = { nodes = [9] }\n";
    std::fs::write(path("tiny.toml"), format!("{MANIFEST}{fault}")).expect("written");
    said(&["sim", &path("tiny.toml"), "--seed", "3", "--out", &path("a")], 0);
    let (id, origin, _) = slowest_message(&temporary.path().join("a"));
    let explain = |more: &[&str], code| said(&[&["explain", &path("a")][..], more].concat(), code);
    assert!(explain(&[], 0).contains(&id), "the slowest one is meant unless another is named");

    let shown = explain(&["--message", &id, "--node", &origin], 0);
    assert!(shown.contains("it published the message"), "{shown}");
    let shown = explain(&["--message", &id, "--node", "n09"], 0);
    assert!(shown.contains("it never came to 1 of them: n09 ("), "{shown}");
    let why = shown.lines().find(|line| line.starts_with("  it never came")).expect("of n09");
    assert!(
        why.contains("n09 (") && why.contains(") did not run from 3 s on, ") && why.ends_with(" until the end"),
        "{why}"
    );
    assert_eq!(shown.matches("The way to n09").count(), 1, "{shown}");
    assert!(!shown.contains("not known who sent"), "{shown}");
    let shown_of_nine = explain(&["--message", &id, "--node", "9"], 0);
    assert_eq!(shown, shown_of_nine, "a name and a number are the same");
    assert!(explain(&["--node", "x5"], 2).contains("such as 5, or its name, such as n05"));
    assert!(explain(&["--message", &id, "--node", "12"], 2).contains("12 nodes are numbered from 0"));

    let csv = std::fs::read_to_string(temporary.path().join("a/deliveries.csv")).expect("a table");
    let ids: std::collections::BTreeSet<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    let digit = ids.iter().map(|id| &id[..1]).find(|digit| ids.iter().filter(|id| id.starts_with(digit)).count() > 1);
    let digit = digit.expect("of more than 16 ids two begin with the same digit");
    let shown = explain(&["--message", digit], 2);
    assert!(!shown.contains("way to"), "nothing is explained: {shown}");
    let meant: Vec<&&str> = ids.iter().filter(|id| id.starts_with(digit)).collect();
    assert!(meant.len() <= 10 && meant.iter().all(|id| shown.contains(**id)), "{meant:?}: {shown}");
    assert!(shown.contains("published by n"), "{shown}");

    // However it is written, and no matter how much of it.
    for id in [&*id.to_uppercase(), &id[..11]] {
        assert_eq!(explain(&["--message", id, "--node", "9"], 0), shown_of_nine, "{id}");
    }
    for wrong in ["", "xyz", &"0".repeat(41)] {
        assert!(explain(&["--message", wrong], 2).contains("up to 40 hexadecimal digits"), "{wrong}");
    }
    let unknown = ["--message", "00112233445566"];
    assert!(explain(&unknown, 1).contains(&format!("first column of {}/deliveries.csv", path("a"))));
    std::fs::remove_file(temporary.path().join("a/deliveries.csv")).expect("removed");
    assert!(explain(&unknown, 1).contains("left out beyond two million"));
}

/// No more are listed than a screen shows.
#[test]
fn of_many_messages_that_may_be_meant_some_are_listed() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), MANIFEST).expect("written");
    said(&["sim", &path("tiny.toml"), "--set", "workload.0.per_s=60", "--out", &path("a")], 0);
    let csv = std::fs::read_to_string(temporary.path().join("a/deliveries.csv")).expect("a table");
    let ids: std::collections::BTreeSet<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    let of = |digit: char| ids.iter().filter(|id| id.starts_with(digit)).count();
    let digit =
        "0123456789abcdef".chars().find(|digit| of(*digit) > 10).expect("of 240 ids more than 10 begin with one");
    let count = of(digit);
    let shown = said(&["explain", &path("a"), "--message", &digit.to_string()], 2);
    assert_eq!(ids.iter().filter(|id| shown.contains(**id)).count(), 10, "{shown}");
    assert!(shown.contains(&format!("the ids of {count} messages begin with {digit}; give more")), "{shown}");
    assert!(shown.contains(&format!("\n  and {} more\n", count - 10)), "{shown}");
}

#[test]
fn a_wait_has_one_cause_and_a_partition_is_named() {
    let temporary = tempfile::tempdir().expect("a folder");
    let dir = temporary.path().join("p").display().to_string();
    said(&["sim", "partition", "--seed", "1", "--out", &dir], 0);
    let (id, _, took_us) = slowest_message(&temporary.path().join("p"));
    assert!(took_us > 15_000_000, "the preset parts the nodes for 20 s");
    let shown = said(&["explain", &dir], 0);
    assert!(shown.contains(&id), "{shown}");
    let apart = |line: &&str| line.contains("a partition kept n") && line.contains("apart from 20 s to 40 s");
    assert_eq!(shown.lines().filter(apart).count(), 2, "at the hop, and as the cause of most of the time: {shown}");
    assert!(shown.contains("most of the rest: a partition kept n"), "{shown}");
    for line in shown.lines().filter(|line| line.contains("pulled from") || line.contains("pushed by")) {
        let (queued, asked) = (line.contains("in queues"), line.contains("announced"));
        assert!(queued != asked && asked == line.contains("pulled from"), "one cause for one wait: {line}");
    }
}

/// Paths to and from one node take 400 ms more for a while, or lose half of what is sent.
#[test]
fn what_a_degradation_took_is_put_down_to_it() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    let fault = "[[fault]]\nkind = \"degrade\"\nat_s = 4\nfor_s = 4\nfrom = { nodes = [0] }\nto = { all = true }\nlatency_ms = 400\n";
    std::fs::write(path("tiny.toml"), format!("{MANIFEST}{fault}")).expect("written");
    said(&["sim", &path("tiny.toml"), "--out", &path("a")], 0);
    assert!(slowest_message(&temporary.path().join("a")).2 > 400_000);
    let shown = said(&["explain", &path("a")], 0);
    let named = |line: &&str| {
        line.contains("a degradation made the path between n") && line.contains("400 ms longer from 4 s to 8 s")
    };
    assert_eq!(shown.lines().filter(named).count(), 2, "at the hop, and as the cause of most of the time: {shown}");
    assert!(shown.contains("400 ms of the time") && shown.contains("400 ms by faults"), "{shown}");

    let fault = fault.replace("latency_ms = 400", "latency_ms = 0\nloss_percent = 50");
    std::fs::write(path("tiny.toml"), format!("{MANIFEST}{fault}")).expect("written");
    said(&["sim", &path("tiny.toml"), "--out", &path("b")], 0);
    let shown = said(&["explain", &path("b")], 0);
    assert!(shown.contains("most of the rest: a degradation lost something between n"), "{shown}");
    let usual = ["sim", &path("tiny.toml"), "--set", "fault=[]", "--set", "links.loss_percent=40", "--out", &path("c")];
    said(&usual, 0);
    let shown = said(&["explain", &path("c")], 0);
    assert!(
        shown.contains("most of the rest: something was lost between n") && shown.contains(" by losses"),
        "{shown}"
    );
    assert!(!shown.contains("degradation") && !shown.contains("by faults"), "{shown}");
}

#[test]
fn runs_of_processes_are_not_simulated_and_kinds_are_not_mixed() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), MANIFEST).expect("written");
    said(&["sim", &path("tiny.toml"), "--seeds", "3..4", "--out", &path("both")], 0);
    let shown = said(&["explain", &path("both")], 2);
    assert!(shown.contains("2 runs") && shown.contains(&path("both/seed-3")), "{shown}");
    said(&["compare", &path("both"), &path("both")], 0);
    // What `reality` leaves has these files too.
    let of_processes = temporary.path().join("both/seed-4/summary.json");
    let summary = std::fs::read_to_string(&of_processes).expect("a summary");
    std::fs::write(&of_processes, summary.replace("\"simulation\"", "\"processes\"")).expect("written");
    for command in ["explain", "reproduce"] {
        let shown = said(&[command, &path("both/seed-4")], 2);
        assert!(shown.contains("real processes ran there") && !shown.contains("way to"), "{shown}");
    }
    assert!(!said(&["reproduce", &path("both")], 2).contains("the same trace"), "refused before anything is simulated");
    // One that is broken is none of processes, nor one of which something else came.
    let simulated = summary.clone();
    for (broken, problem) in [
        ("{}".to_owned(), "its `kind` is missing"),
        ("[]".to_owned(), "its `kind` is missing"),
        ("{\"kind\": 5}".to_owned(), "its `kind` must be \"simulation\", and not 5"),
        ("{\"kind\": \"soak\"}".to_owned(), "its `kind` must be \"simulation\", and not \"soak\""),
        (simulated.replace("trace_hash", "trash"), "its `trace_hash` is missing"),
        (
            simulated.replace("\"trace_hash\": ", "\"trace_hash\": 7, \"t\": "),
            "its `trace_hash` must be a text, and not 7",
        ),
        (simulated.replace('}', ""), "EOF"),
    ] {
        std::fs::write(&of_processes, broken).expect("written");
        let shown = said(&["reproduce", &path("both/seed-4")], 2);
        assert!(shown.contains(problem) && shown.contains("seed-4/summary.json is not the summary"), "{shown}");
    }
    std::fs::write(&of_processes, summary.replace("\"simulation\"", "\"processes\"")).expect("written");
    for (a, b) in [("both", "both/seed-3"), ("both/seed-3", "both")] {
        let shown = said(&["compare", &path(a), &path(b)], 2);
        assert!(shown.contains("not seeds of one thing") && shown.contains("is processes"), "{shown}");
    }
    said(&["compare", &path("both/seed-3"), &path("both/seed-4")], 0);
}

#[test]
fn the_help_of_every_command_tells_its_exit_codes_and_has_examples() {
    for (command, code) in [
        ("sim", "0 every node that runs at the end got every transaction"),
        ("attacks", "0 all that is demanded holds"),
        ("reproduce", "0 the same happened"),
        ("compare", "0 compared"),
        ("explain", "0 explained"),
    ] {
        let help = said(&[command, "--help"], 0);
        assert!(help.contains(&format!("Exit codes: {code}")), "{help}");
        let example = format!("Examples:\n  starling-testnet {command} ");
        assert!(help.contains(&example) && help.contains("2 usage"), "{help}");
        assert!(said(&["--help"], 0).lines().any(|line| line.trim_start().starts_with(command)), "{command}");
    }
    for (command, flags) in [
        (
            &["sim"][..],
            &["--nodes", "--seed", "--seeds", "--set", "--out", "--check", "--jobs", "--list", "--schema"][..],
        ),
        (&["sim", "scaling"], &["--nodes-max", "--seed", "--set", "--out"]),
        (
            &["attacks"],
            &["--quick", "--list", "--only", "--seeds", "--nodes", "--messages", "--no-controls", "--jobs", "--out"],
        ),
        (&["compare"], &["--fail-above"]),
        (&["explain"], &["--message", "--node"]),
    ] {
        let help = said(&[command, &["--help"]].concat(), 0);
        let tells = |flag: &str| help.lines().any(|line| line.trim_start().split([' ', ',']).any(|word| word == flag));
        assert!(flags.iter().all(|flag| tells(flag)), "{command:?}: {help}");
    }
}

/// Nothing happens in this run, so that it would end at once if it were made; all the same it is held to need memory for its messages.
#[test]
fn what_would_not_fit_is_not_explained_either() {
    let temporary = tempfile::tempdir().expect("a folder");
    let scenario = "format = 1\nnodes = 2\n[time]\nload_s = 1000\n[[fault]]\nkind = \"kill\"\nat_s = 0\nwho = { all = true }\n\
                    [[workload]]\nkind = \"constant\"\nper_s = 1000\nbytes = 1048576\n";
    std::fs::write(temporary.path().join("scenario.toml"), scenario).expect("written");
    std::fs::write(temporary.path().join("summary.json"), "{\"kind\": \"simulation\"}").expect("written");
    let shown = said(&["explain", &temporary.path().display().to_string(), "--message", "a"], 2);
    assert!(shown.contains("MiB of memory"), "{shown}");
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
    assert!(said(&["sim", "quick", "--nodes", "16"], 2).contains("--set topology.degree=15"));
    assert!(said(&["sim", "quick", "scale"], 2).contains("`sim` takes one scenario, and `scale` would be another one"));
    for (set, option) in [("nodes=300", "--nodes-max"), (" seed =3", "--seed")] {
        let shown = said(&["sim", "scaling", "--set", set, "--out", &path("out")], 2);
        assert!(shown.contains(&format!("--set {set} would do nothing here; use {option}")), "{shown}");
    }
    if cfg!(not(feature = "cluster")) {
        assert!(said(&["run", "--nodes", "3"], 2).contains("built without `run`"));
    }
    for name in ["..", ".", "../up", ""] {
        let shown = said(&["sim", "quick", "--set", &format!("name={name:?}"), "--out", &path("out")], 2);
        assert!(shown.contains("name: a name must have 1 to 100 characters"), "{name}: {shown}");
    }
    std::fs::write(path("precious"), "").expect("written");
    let folder = temporary.path().display().to_string();
    assert!(said(&["sim", "quick", "--out", &folder], 2).contains("is not empty"));
    let shown = said(&["attacks", "--quick", "--only", "baseline", "--nodes", "42", "--out", &folder], 2);
    assert!(
        shown.contains(&format!("{folder} holds elsewhere.toml, precious, wrong.toml, which `attacks`")),
        "{shown}"
    );
    assert!(!temporary.path().join("runs").exists(), "{shown}");
    let huge = ["sim", "scale", "--nodes", "200000", "--set", "topology.degree=150", "--out", &path("out")];
    assert!(said(&huge, 2).contains("MiB of memory"));
    let endless = ["--set", "workload.0.per_s=1000000", "--set", "time.load_s=1000000", "--seeds", "1..2"];
    let endless = said(&[&["sim", "quick", "--out", &path("out")][..], &endless].concat(), 2);
    assert!(endless.contains("MiB of memory"), "counted, not made: {endless}");
    let many = ["attacks", "--nodes", "20000", "--jobs", "64", "--out", &path("out")];
    assert!(said(&many, 2).contains(" needs some "));
    let one = said(&["attacks", "--nodes", "20000", "--messages", "1000", "--jobs", "1", "--out", &path("out")], 2);
    assert!(one.contains("needs some") && one.contains("--messages") && !one.contains("--jobs"), "{one}");
    assert!(said(&["attacks", "--seeds", "1..2", "--out", &path("out")], 2).contains("write how many, 1 to 1000"));
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
    let rows = [&["attacks", "--list"][..], &["attacks", "--list", "--quick"]].map(|arguments| said(arguments, 0));
    assert_eq!(rows.map(|rows| rows.contains("ten-thousand")), [true, false]);
    let list = said(&["sim", "--list"], 0);
    assert!(["baseline", "scale", "partition", "churn", "random"].iter().all(|name| list.contains(name)), "{list}");
}

#[test]
fn the_number_of_nodes_and_the_seed_on_the_command_line_win() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), MANIFEST).expect("written");
    let both = ["--set", " nodes =9", "--nodes", "10", "--set", "seed=5", "--seed", "3"];
    // Parted until after the end, so that it fails and says how to see that again.
    let parted = "[[fault]]\nkind = \"partition\"\nat_s = 5\nfor_s = 60\nwho = { nodes = [0, 2] }\n";
    std::fs::write(path("parted.toml"), format!("{MANIFEST}{parted}")).expect("written");
    let shown = said(&[&["sim", &path("parted.toml"), "--out", &path("out")][..], &both].concat(), 1);
    let summary = summary(&temporary.path().join("out"));
    assert_eq!((&summary["nodes"], &summary["seed"]), (&10.into(), &3.into()));
    assert!(shown.contains("--set nodes=10") && !shown.contains("nodes =9"), "{shown}");
    assert!(shown.contains("The partition was not healed before the end of the run."), "{shown}");
    assert_eq!(shown.matches("fault.0, the partition at 5 s, lasts until 65 s").count(), 1, "said before: {shown}");
    assert!(shown.contains(" of ") && shown.contains("transactions never happened, neither over"), "{shown}");
    let verdict = &summary["verdict"];
    assert_eq!((&verdict["good"], &verdict["one_chain"]), (&false.into(), &false.into()), "{summary}");
    let findings: Vec<&str> =
        verdict["findings"].as_array().expect("a list").iter().filter_map(|it| it.as_str()).collect();
    assert!(findings.len() > 1 && findings.iter().all(|finding| shown.contains(finding)), "{findings:?}: {shown}");
    assert_eq!(summary["partition"], serde_json::json!({ "healed_at_s": null, "one_head_after_s": null }));
}

/// What is missing over the mesh and yet there in the end is counted, so that the table does not contradict the verdict.
#[test]
fn what_a_partition_keeps_away_comes_with_the_chain() {
    let temporary = tempfile::tempdir().expect("a folder");
    let out = temporary.path().join("out");
    let shown = said(&["sim", "partition", "--out", &out.display().to_string()], 0);
    let missing = std::fs::read_to_string(out.join("missing.csv")).expect("something is missing");
    let rows = missing.lines().filter(|line| line.contains(",transaction,"));
    let later = rows.clone().filter(|line| line.ends_with(",later")).count();
    assert!(later > 0 && rows.clone().all(|line| line.ends_with(",later") || line.ends_with(",yes")), "{missing}");
    let row = shown.lines().find(|line| line.contains("later, with the chain")).expect("a row of its own");
    assert_eq!(row.split('┆').nth(1).map(str::trim), Some(later.to_string().as_str()), "{shown}");
    assert!(shown.contains("every node that ran has every transaction in the end"), "{shown}");
    let summary = summary(&out);
    assert_eq!((&summary["verdict"]["good"], &summary["partition"]["healed_at_s"]), (&true.into(), &40.0.into()));
    let after_s = summary["partition"]["one_head_after_s"].as_f64().expect("they came together");
    assert!(shown.contains(&format!("one head again {after_s:.2} s after")), "{after_s}: {shown}");
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
    assert_ne!(alone.0, attacked.0);
    // Whoever mirrors sends back what it gets, so nodes receive more copies.
    assert!(attacked.1 > alone.1.map(|copies| copies + 0.5), "{attacked:?} and {alone:?}");
    let late = format!("{MANIFEST}{attack}at_s = 1000\n");
    std::fs::write(path("late.toml"), late).expect("written");
    let shown = said(&["sim", &path("late.toml"), "--out", &path("late")], 2);
    assert!(shown.contains("line 24 (attack.0.at_s)"), "{shown}");
}

/// What attackers take is as much as was estimated, less than half of it never: four thousand connections.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_attackers_is_estimated() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    let attack = "[[attack]]\nkind = \"sybil\"\ncount = 100\nconnections = 40\n";
    let run = |name: &str, attack: &str| {
        let text = format!("{MANIFEST}{attack}").replace("nodes = 12", "nodes = 40").replace("per_s = 4", "per_s = 1");
        std::fs::write(path(name), &text).expect("written");
        said(&["sim", &path(name), "--out", &path(&format!("{name}-out"))], 0);
        let summary = summary(&temporary.path().join(format!("{name}-out")));
        let manifest = Manifest::parse(&text, name).expect("a manifest");
        let estimated = memory_mib(&manifest.scenario(Path::new("")).expect("a scenario"), &manifest.attack);
        (summary["resident_mib_max"].as_f64().expect("a figure"), estimated)
    };
    let (alone, attacked) = (run("alone", ""), run("attacked", attack));
    let (measured, estimated) = (attacked.0 - alone.0, (attacked.1 - alone.1) as f64);
    assert!((measured..2.0 * measured).contains(&estimated), "{estimated} MiB estimated, {measured:.1} measured");
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

/// Each seed draws a manifest of its own.
#[test]
fn drawn_networks_are_summed_up_and_compared_with_themselves_only() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    for (seeds, out) in [("4..5", "a"), ("5..6", "b")] {
        let shown = said(&["sim", "random", "--seeds", seeds, "--out", &path(out)], 0);
        assert!(shown.contains("simulation of 2 seeds"), "{shown}");
    }
    let shown = said(&["compare", &path("a"), &path("a")], 0);
    assert!(shown.contains("transactions: p99"), "{shown}");
    let shown = said(&["compare", &path("a"), &path("b")], 2);
    assert!(shown.contains("not seeds of one thing") && shown.contains("in more than the seed"), "{shown}");
}

/// What is set may go with what one seed draws and not with what another one does.
#[test]
fn every_seed_is_looked_at_before_anything_is_written() {
    let temporary = tempfile::tempdir().expect("a folder");
    let out = temporary.path().join("out").display().to_string();
    let faultless = |seed: u64| Manifest::random(seed).fault.is_empty();
    let seed = (2..).find(|seed| faultless(*seed) && !faultless(seed - 1)).expect("some draw no fault");
    let seeds = format!("{}..{seed}", seed - 1);
    let shown = said(&["sim", "random", "--seeds", &seeds, "--set", "fault.0.at_s=9", "--out", &out], 2);
    assert!(shown.contains(&format!("with seed {seed}:")) && shown.contains("no such entry"), "{shown}");
    assert!(!temporary.path().join("out").exists(), "nothing was written");
    for (arguments, expected) in
        [(["--seed", "-1"], "from 0 to 9223372036854775807"), (["--nodes", "ten"], "from 2 to 200000")]
    {
        let shown = said(&[&["sim", "quick", "--out", &out][..], &arguments].concat(), 2);
        assert!(shown.contains(expected), "{shown}");
    }
}
