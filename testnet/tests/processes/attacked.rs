//! Real attackers against real nodes, over the loopback interface.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Tool;

/// Allows for a busy two-core machine; a run takes some twenty seconds.
const DEADLINE: Duration = Duration::from_secs(240);

/// Runs the tool with these attackers; its exit code, its summary and what it said.
fn run(arguments: &[&str]) -> (Option<i32>, Value, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out");
    let ended = Tool::start(&out, &[&["run", "--profile", "loopback"], arguments].concat()).end(DEADLINE);
    let said = format!("{}\n{}", ended.stdout, ended.stderr);
    let summary = fs::read_to_string(out.join("summary.json")).unwrap_or_else(|error| panic!("{error}: {said}"));
    (ended.code, serde_json::from_str(&summary).expect("JSON"), said)
}

fn is_delivered(summary: &Value) -> bool {
    ["transaction", "block"].iter().all(|class| summary["classes"][class]["coverage"] == 1.0)
}

fn assert_delivered(summary: &Value, said: &str) {
    assert!(is_delivered(summary), "{said}");
}

/// Asserts that everything was delivered and all that is demanded holds, and gives the figures of each kind of attackers.
fn assert_held(code: Option<i32>, summary: &Value, said: &str) -> Vec<Value> {
    assert_delivered(summary, said);
    let groups = summary["attackers"].as_array().expect("attackers").clone();
    for group in &groups {
        assert_eq!(group["complaints"], json!([]), "{said}");
        assert!(group["sent_bytes"].as_u64() > Some(0), "{group}");
    }
    assert_eq!(code, Some(0), "{said}");
    groups
}

#[test]
fn whoever_sends_what_is_invalid_is_thrown_out_by_every_node() {
    let arguments = ["--nodes", "3", "--duration", "4s", "--slot", "1s", "--tx-rate", "10", "--attack", "invalid:1"];
    let (code, summary, said) = run(&arguments);
    let groups = assert_held(code, &summary, &said);
    let [group] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!((&group["kind"], &group["attackers"]), (&json!("invalid"), &json!(1)));
    assert_eq!((&group["links"], &group["dropped"]), (&json!(3), &json!(3)), "{said}");
    assert!(said.contains("invalid: 1 attacker, dropped on 3 of 3 links"), "{said}");
}

#[test]
fn whoever_is_of_no_use_loses_its_place_in_meshes() {
    // A node replaces who is of no use, so there have to be others to choose from: more than a mesh holds. What is withheld is
    // transactions, because there are many, so that nodes find out soon.
    let arguments = [
        "--nodes",
        "12",
        "--target-peers",
        "11",
        "--duration",
        "16s",
        "--slot",
        "500ms",
        "--tx-rate",
        "30",
        "--attack",
        "iwant:1",
        "--attack",
        "withhold:3,topic=0",
    ];
    // A run may show nothing about withholders: meshes are full before they ask, so that they have no place to lose, or by
    // chance they are taken in late by a good part of the nodes, which the tool says itself. With three of them that is rare. And on a
    // host without a processor to spare nodes beat late, and bear more of who asks and asks for as long; the last messages may come after the end.
    let mut found = Vec::new();
    let is_shown = (0..3).any(|_| {
        let (code, summary, said) = run(&arguments);
        let is_saturated = summary["host"]["saturated"] == json!(true);
        if is_saturated && !is_delivered(&summary) {
            found.push(said);
            return false;
        }
        assert_delivered(&summary, &said);
        let groups = summary["attackers"].as_array().expect("attackers");
        let [iwant, withhold] = &groups[..] else { panic!("{groups:?}") };
        for (group, kind, links) in [(iwant, "iwant", 12), (withhold, "withhold", 36)] {
            assert_eq!((&group["kind"], &group["links"]), (&json!(kind), &json!(links)), "{said}");
        }
        assert!(iwant["sent_bytes"].as_u64() > Some(1 << 20), "{said}");
        found.push(format!("{iwant}\n{withhold}"));
        // Who asks and asks is sent away altogether; 10 s are not demanded, but it takes five.
        let is_sent_away = iwant["complaints"] == json!([]) && iwant["connected_s_max"].as_f64() < Some(10.0);
        // Among all the other tests the host may be busy throughout; the tool says so, and then nothing is said about how soon it was.
        let is_sent_away = is_sent_away || is_saturated;
        code == Some(0) && is_sent_away && withhold["mesh_s_max"][0].as_f64() > Some(0.0)
    });
    assert!(
        is_shown,
        "in none of three runs who asks was sent away and withholders had places and lost them: {found:#?}"
    );
}

#[test]
fn an_attacking_process_refuses_nodes_of_other_hosts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let genesis = dir.path().join("genesis.toml");
    let key = starling_crypto::SecretKey::from_seed(&[1; 32]).public_key().to_bytes();
    let parameters = starling_protocol::genesis::GenesisParameters {
        name: "elsewhere".into(),
        start_time_ms: 1,
        slot_ms: 1_000,
        producers: vec![key],
        limits: starling_protocol::genesis::Limits::default(),
        stamp_bits: 0,
    };
    let text = starling_protocol::genesis::Genesis::new(parameters).expect("a genesis").to_toml();
    fs::write(&genesis, text).expect("written");
    let attack = |node: &str, home: &str| {
        let orders = json!({
            "genesis": genesis, "seed": 1, "nodes": [node], "homes": [home], "zero_us": 0,
            "attackers": { "kind": "invalid", "count": 1 }, "diary": dir.path().join("diary"),
        });
        let path = dir.path().join("orders.json");
        fs::write(&path, orders.to_string()).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_starling-testnet"))
            .arg("attack-process")
            .arg(path)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (child.wait().expect("it ends").code(), said)
    };
    let id = "p2p/12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4";
    let (code, said) = attack(&format!("/ip4/192.0.2.1/tcp/1/{id}"), "127.0.0.1");
    assert!(code == Some(1) && said.contains("nodes of this host only"), "{said}");
    let (code, said) = attack(&format!("/ip4/127.0.0.1/tcp/1/{id}"), "192.0.2.1");
    assert!(code == Some(1) && said.contains("127.0.0.0/8"), "{said}");
}

#[test]
fn attackers_that_cannot_be_are_refused_before_anything_starts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (arguments, part) in [
        (&["run", "--attack", "invalid-spam:1"][..], "there is no attacker of kind `invalid-spam`"),
        (&["run", "--attack", "censor:1"], "simulator only"),
        (&["run", "--attack", "invalid"], "KIND:COUNT"),
        (&["up", "--attack", "invalid:1"], "with `run` only"),
    ] {
        let ended = Tool::start(&dir.path().join("out"), arguments).end(DEADLINE);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
        assert!(!dir.path().join("out").exists(), "nothing was begun");
    }
}
