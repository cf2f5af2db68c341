//! What `compare` promises, as it is called from a shell.

mod tool;

use tool::{MANIFEST, said, summary};

#[test]
fn what_only_one_run_has_is_shown_and_counts() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), MANIFEST).expect("written");
    said(&["sim", &path("tiny.toml"), "--seed", "3", "--out", &path("a")], 0);
    let first = summary(&temporary.path().join("a"));
    // Nothing is better in a network that does nothing.
    let barren =
        ["sim", &path("tiny.toml"), "--seeds", "3..4", "--set", "blocks.producers=0", "--out", &path("barren")];
    said(&barren, 0);
    assert!(said(&["compare", &path("barren"), &path("a"), "--fail-above", "900"], 0).contains("blocks: coverage"));
    let shown = said(&["compare", &path("a"), &path("barren"), "--fail-above", "900"], 1);
    let row = shown.lines().find(|line| line.contains("blocks: coverage")).expect("what A has is shown");
    assert_eq!(row.split('┆').nth(2).map(str::trim), Some("-"), "{shown}");
    assert!(shown.contains("\nblocks: coverage is worse: B has none\n"), "{shown}");
    assert!(!shown.contains("ended well: "), "{shown}");
    // The same figures, and another end.
    said(&["sim", &path("tiny.toml"), "--seed", "4", "--out", &path("bad/4")], 0);
    std::fs::create_dir(path("bad/3")).expect("made");
    std::fs::copy(path("a/scenario.toml"), path("bad/3/scenario.toml")).expect("copied");
    let bad = first.to_string().replace("\"good\":true", "\"good\":false");
    std::fs::write(path("bad/3/summary.json"), bad).expect("written");
    let shown = said(&["compare", &path("a"), &path("bad"), "--fail-above", "900"], 1);
    assert!(shown.contains("\nended well: 1 of 2 in B, and yes in A\n") && !shown.contains("one chain: "), "{shown}");
    said(&["compare", &path("bad"), &path("a"), "--fail-above", "900"], 0);
    said(&["compare", &path("a"), &path("bad")], 0);
}

/// Runs that happen to be in one folder are no seeds of one thing.
#[test]
fn runs_of_different_manifests_are_not_taken_for_seeds() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    std::fs::write(path("tiny.toml"), MANIFEST).expect("written");
    said(&["sim", &path("tiny.toml"), "--seed", "3", "--out", &path("all/3")], 0);
    said(&["sim", &path("tiny.toml"), "--seed", "4", "--set", "blocks.producers=0", "--out", &path("all/4")], 0);
    let other = said(&["compare", &path("all/3"), &path("all/4")], 0);
    assert!(other.contains("one seed, 12 nodes\n") && other.contains("of different manifests"), "{other}");
    let same = said(&["compare", &path("all/3"), &path("all/3")], 0);
    assert!(!same.contains("different manifests"), "{same}");
    let refused = said(&["compare", &path("all"), &path("all/3")], 2);
    assert!(refused.contains("differ in more than the seed; name one of them"), "{refused}");
}

/// A case as `attacks` writes it, with a run for each p99 in milliseconds.
fn case(label: &str, holds: bool, p99_ms: &[u64], out_s: u64) -> serde_json::Value {
    let run = |p99_ms: &u64| {
        serde_json::json!({
            "nodes": 120, "expected": 200, "delivered": 200, "p99_us": p99_ms * 1_000, "max_us": 150_000, "copies": 5.0,
            "trace": format!("{p99_ms}-{out_s}")
        })
    };
    let findings = serde_json::json!([
        { "demanded": "latency p99 <= 117 ms", "measured": format!("{p99_ms:?}"), "holds": true },
        { "demanded": "longest place of an attacker <= 120 s", "measured": format!("{out_s} s"), "holds": holds },
    ]);
    let runs: Vec<_> = p99_ms.iter().map(run).collect();
    serde_json::json!({ "case": label, "holds": holds, "findings": findings, "controls": [], "runs": runs })
}

/// Rows of a table, each with its cases.
type Rows<'a> = [(&'a str, Vec<serde_json::Value>)];

/// Folders that are compared with each other.
struct Folders {
    dir: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    fn add(&self, name: &str, file: &str, content: &str) {
        let folder = self.dir.path().join(name);
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join(file), content).expect("written");
    }

    fn add_table(&self, name: &str, rows: &Rows<'_>) {
        self.add(name, "attacks.json", &table(rows).to_string());
    }

    /// What `compare A B` prints when it ends with this code.
    fn compare(&self, a: &str, b: &str, fail_above: Option<&str>, code: i32) -> String {
        let [a, b] = [a, b].map(|name| self.dir.path().join(name).display().to_string());
        let most = fail_above.map_or_else(Vec::new, |most| vec!["--fail-above", most]);
        said(&[&["compare", &*a, &*b][..], &most].concat(), code)
    }
}

fn table(rows: &Rows<'_>) -> serde_json::Value {
    let row = |(row, cases): &(&str, Vec<_>)| serde_json::json!({ "scenario": row, "cases": cases });
    serde_json::json!({ "kind": "attacks", "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

fn degrade(p99_ms: &[u64], out_s: u64) -> Vec<serde_json::Value> {
    vec![case("25 %", true, &[80], 9), case("90 %", true, p99_ms, out_s)]
}

fn before() -> [(&'static str, Vec<serde_json::Value>); 3] {
    [
        ("baseline", vec![case("", true, &[78], 0)]),
        ("degrade", degrade(&[80], 20)),
        ("old", vec![case("x", true, &[1], 1)]),
    ]
}

fn after() -> [(&'static str, Vec<serde_json::Value>); 3] {
    [
        ("baseline", vec![case("", true, &[78], 0)]),
        ("degrade", [degrade(&[90, 110], 24), vec![case("99 %", true, &[80], 9)]].concat()),
        ("new", vec![case("x", true, &[1], 1), case("y", true, &[1], 1)]),
    ]
}

#[test]
fn tables_of_attacks_are_compared_case_by_case() {
    let folders = Folders::new();
    folders.add_table("a", &before());
    folders.add_table("b", &after());
    let shown = folders.compare("a", "b", None, 0);
    let row = |about: &str| shown.lines().find(|line| line.contains(about)).unwrap_or_else(|| panic!("{shown}"));
    let parts = ["degrade", "80.0", "100.0 (90.0 to 110.0)", "+25.0 %"];
    assert!(parts.iter().all(|part| row("p99").contains(part)), "{shown}");
    assert!(row("longest place").contains("20 s") && row("longest place").contains("24 s"), "{shown}");
    let same = ["max (ms)", "copies", "latency", "25 %"];
    assert!(!same.iter().any(|same| shown.contains(same)), "only what differs: {shown}");
    assert!(shown.contains("3 cases in both, 2 of them with the same figures, 2 the very same runs"), "{shown}");
    assert!(shown.contains("only in A: old\n") && shown.contains("only in B: degrade, 99 %; new\n"), "{shown}");
}

#[test]
fn cases_that_became_worse_or_are_missing_are_told() {
    let folders = Folders::new();
    let (before, after) = (before(), after());
    folders.add_table("a", &before);
    folders.add_table("b", &after);
    let shown = folders.compare("a", "b", Some("25%"), 1);
    assert!(shown.contains("\nold: B does not have it\n") && !shown.contains("worse"), "{shown}");
    let shown = folders.compare("a", "b", Some("24%"), 1);
    assert!(shown.contains("degrade, 90 %: p99 (ms) is worse by 25.0 %, more than 24 %"), "{shown}");
    folders.add_table("more", &[&before[..2], &after[1..], &before[2..]].concat());
    folders.compare("a", "more", Some("0"), 0);
    let shown = folders.compare("more", "a", Some("0"), 1);
    assert!(shown.contains("\ndegrade, 99 %: B does not have it\nnew: B does not have it\n"), "{shown}");

    let panicked = table(&before).to_string().replace("\"runs\":[{", "\"runs\":[null,{");
    folders.add("panicked", "attacks.json", &panicked);
    assert!(folders.compare("a", "panicked", None, 0).contains("80.0, 1 of 2 seeds"));
    let shown = folders.compare("a", "panicked", Some("900"), 1);
    assert!(shown.contains("\nbaseline: p99 (ms) is worse: B has it for only 1 of 2 seeds\n"), "{shown}");
}

#[test]
fn cases_that_do_not_hold_any_more_are_told() {
    let folders = Folders::new();
    folders.add_table("a", &before());
    folders.add_table("fails", &[("baseline", vec![case("", false, &[78], 0)])]);
    assert!(folders.compare("a", "fails", None, 0).contains("FAILS"));
    let shown = folders.compare("a", "fails", Some("50"), 1);
    assert!(shown.contains("baseline does not hold any more"), "{shown}");
    // A case that fails in both can fail for another reason.
    let mut other = case("", false, &[78], 0);
    (other["findings"][0]["holds"], other["findings"][1]["holds"]) = (false.into(), true.into());
    folders.add_table("otherwise", &[("baseline", vec![other])]);
    let shown = folders.compare("fails", "otherwise", Some("50"), 1);
    assert!(shown.contains("\nbaseline: latency p99 <= 117 ms does not hold any more\n"), "{shown}");
}

#[test]
fn what_has_nothing_in_common_is_not_compared() {
    let folders = Folders::new();
    folders.add_table("a", &before());
    for (name, nodes, messages_per_s) in [("larger", 240, 20.0), ("busier", 120, 30.0), ("like-it", 120, 20.0)] {
        let mut all = table(&before());
        all["scale"] = serde_json::json!({ "nodes": nodes, "messages_per_s": messages_per_s, "quick": true });
        folders.add(name, "attacks.json", &all.to_string());
    }
    assert!(folders.compare("a", "like-it", Some("0"), 0).contains("120 nodes and 20 mess"));
    folders.add_table("elsewhere", &before()[2..]);
    folders.add_table("elsewhere-2", &after()[2..]);
    folders.add("run", "summary.json", "{ \"kind\": \"simulation\", \"socket_bytes\": 1 }");
    folders.add("soak", "summary.json", "{ \"kind\": \"soak\" }");
    folders.add("broken", "attacks.json", "{}");
    for (a, b, why) in [
        ("a", "run", "compare two tables, or two runs"),
        ("run", "a", "compare two tables, or two runs"),
        ("soak", "soak", "its kind is soak"),
        ("run", "soak", "its kind is soak"),
        ("a", "broken", "it is not what `starling-testnet attacks` writes"),
        ("a", "larger", "its table is of 240 nodes and 20 messages a second (--quick), and that of"),
        ("like-it", "busier", "120 nodes and 30 messages a second (--quick), and that of"),
        ("elsewhere", "elsewhere-2", "no case is in both"),
    ] {
        let shown = folders.compare(a, b, None, 2);
        assert!(shown.contains(why) && !shown.contains('┆'), "{a} and {b}: {shown}");
    }
}
