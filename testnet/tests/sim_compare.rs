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
    let bad = first.to_string().replace("\"good\":true", "\"good\":false");
    std::fs::write(path("bad/3/summary.json"), bad).expect("written");
    let shown = said(&["compare", &path("a"), &path("bad"), "--fail-above", "900"], 1);
    assert!(shown.contains("\nended well: 1 of 2 in B, and yes in A\n") && !shown.contains("one chain: "), "{shown}");
    said(&["compare", &path("bad"), &path("a"), "--fail-above", "900"], 0);
    said(&["compare", &path("a"), &path("bad")], 0);
}

/// A case as `attacks` writes it, with a run for each p99 in milliseconds.
fn case(label: &str, holds: bool, p99_ms: &[u64], out_s: u64) -> serde_json::Value {
    let run = |p99_ms: &u64| {
        serde_json::json!({
            "nodes": 120, "expected": 200, "delivered": 200, "p99_us": p99_ms * 1_000, "max_us": 150_000, "copies": 5.0
        })
    };
    let findings = serde_json::json!([
        { "demanded": "latency p99 <= 117 ms", "measured": format!("{p99_ms:?}"), "holds": true },
        { "demanded": "longest place of an attacker <= 120 s", "measured": format!("{out_s} s"), "holds": holds },
    ]);
    let runs: Vec<_> = p99_ms.iter().map(run).collect();
    serde_json::json!({ "case": label, "holds": holds, "findings": findings, "controls": [], "runs": runs })
}

#[test]
fn tables_of_attacks_are_compared_case_by_case() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    let folder = |name: &str, file: &str, content: &str| {
        std::fs::create_dir(path(name)).expect("made");
        std::fs::write(temporary.path().join(name).join(file), content).expect("written");
    };
    let table = |rows: &[(&str, Vec<serde_json::Value>)]| {
        let rows: Vec<_> =
            rows.iter().map(|(row, cases)| serde_json::json!({ "scenario": row, "cases": cases })).collect();
        serde_json::json!({ "kind": "attacks", "rows": rows }).to_string()
    };
    let degrade = |p99_ms: &[u64], out_s| vec![case("25 %", true, &[80], 9), case("90 %", true, p99_ms, out_s)];
    let before = [
        ("baseline", vec![case("", true, &[78], 0)]),
        ("degrade", degrade(&[80], 20)),
        ("old", vec![case("x", true, &[1], 1)]),
    ];
    let after = [
        ("baseline", vec![case("", true, &[78], 0)]),
        ("degrade", [degrade(&[90, 110], 24), vec![case("99 %", true, &[80], 9)]].concat()),
        ("new", vec![case("x", true, &[1], 1), case("y", true, &[1], 1)]),
    ];
    folder("a", "attacks.json", &table(&before));
    folder("b", "attacks.json", &table(&after));
    folder("fails", "attacks.json", &table(&[("baseline", vec![case("", false, &[78], 0)])]));

    let shown = said(&["compare", &path("a"), &path("b")], 0);
    let row =
        |about: &str| shown.lines().find(|line| line.contains(about)).unwrap_or_else(|| panic!("{shown}")).to_owned();
    assert!(
        ["degrade", "80.0", "100.0 (90.0 to 110.0)", "+25.0 %"].iter().all(|part| row("p99").contains(part)),
        "{shown}"
    );
    assert!(row("longest place").contains("20 s") && row("longest place").contains("24 s"), "{shown}");
    assert!(
        !["max (ms)", "copies", "latency", "25 %"].iter().any(|same| shown.contains(same)),
        "only what differs: {shown}"
    );
    assert!(shown.contains("3 cases in both, 2 of them with the same figures"), "{shown}");
    assert!(shown.contains("only in A: old\n") && shown.contains("only in B: degrade, 99 %; new\n"), "{shown}");
    let shown = said(&["compare", &path("a"), &path("b"), "--fail-above", "25%"], 1);
    assert!(shown.contains("\nold: B does not have it\n") && !shown.contains("worse"), "{shown}");
    folder("more", "attacks.json", &table(&[&before[..2], &after[1..], &before[2..]].concat()));
    said(&["compare", &path("a"), &path("more"), "--fail-above", "0"], 0);
    let shown = said(&["compare", &path("more"), &path("a"), "--fail-above", "0"], 1);
    assert!(shown.contains("\ndegrade, 99 %: B does not have it\nnew: B does not have it\n"), "{shown}");
    let shown = said(&["compare", &path("a"), &path("b"), "--fail-above", "24%"], 1);
    assert!(shown.contains("degrade, 90 %: p99 (ms) is worse by 25.0 %, more than 24 %"), "{shown}");
    assert!(said(&["compare", &path("a"), &path("fails")], 0).contains("FAILS"));
    let shown = said(&["compare", &path("a"), &path("fails"), "--fail-above", "50"], 1);
    assert!(shown.contains("baseline does not hold any more"), "{shown}");
    let panicked = table(&before).replace("\"runs\":[{", "\"runs\":[null,{");
    folder("panicked", "attacks.json", &panicked);
    let shown = said(&["compare", &path("a"), &path("panicked")], 0);
    assert!(shown.contains("80.0, 1 of 2 seeds"), "{shown}");
    let shown = said(&["compare", &path("a"), &path("panicked"), "--fail-above", "900"], 1);
    assert!(shown.contains("\nbaseline: p99 (ms) is worse: B has it for only 1 of 2 seeds\n"), "{shown}");
    // A case that fails in both can fail for another reason.
    let mut other = case("", false, &[78], 0);
    (other["findings"][0]["holds"], other["findings"][1]["holds"]) = (false.into(), true.into());
    folder("otherwise", "attacks.json", &table(&[("baseline", vec![other])]));
    let shown = said(&["compare", &path("fails"), &path("otherwise"), "--fail-above", "50"], 1);
    assert!(shown.contains("\nbaseline: latency p99 <= 117 ms does not hold any more\n"), "{shown}");
    let scaled = |name: &str, nodes: u32, messages: f64| {
        let mut all: serde_json::Value = serde_json::from_str(&table(&before)).expect("JSON");
        all["scale"] = serde_json::json!({ "nodes": nodes, "messages_per_s": messages, "quick": true });
        folder(name, "attacks.json", &all.to_string());
    };
    scaled("larger", 240, 20.0);
    scaled("busier", 120, 30.0);
    scaled("like-it", 120, 20.0);
    assert!(said(&["compare", &path("a"), &path("like-it"), "--fail-above", "0"], 0).contains("120 nodes and 20 mess"));
    folder("elsewhere", "attacks.json", &table(&before[2..]));
    folder("elsewhere-2", "attacks.json", &table(&after[2..]));

    folder("run", "summary.json", "{ \"kind\": \"simulation\", \"socket_bytes\": 1 }");
    folder("soak", "summary.json", "{ \"kind\": \"soak\" }");
    folder("broken", "attacks.json", "{}");
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
        let shown = said(&["compare", &path(a), &path(b)], 2);
        assert!(shown.contains(why) && !shown.contains('┆'), "{a} and {b}: {shown}");
    }
}
