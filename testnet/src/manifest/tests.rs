use super::*;
use crate::attack::Attackers;
use crate::sim::faults::Action;
use crate::sim::workload::{Submission, submissions};
use crate::wan;
use starling_protocol::mempool;
use starling_protocol::time::Time;
use std::path::Path;

const HEAD: &str = "format = 1\nnodes = 16\n[topology]\nkind = \"random\"\ndegree = 4\n";

fn error(rest: &str) -> String {
    let text = format!("{HEAD}{rest}");
    let folder = Path::new("");
    let parsed = Manifest::parse(&text, "test.toml").and_then(|manifest| manifest.scenario(folder));
    parsed.map(|_| ()).expect_err("it is wrong").to_string()
}

#[test]
fn every_preset_is_a_manifest_and_makes_a_scenario() {
    for preset in PRESETS {
        let (manifest, folder) = Manifest::named(preset.name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(manifest.name, preset.name);
        assert!(!manifest.about.is_empty() && manifest.about.len() < 130, "{}", preset.name);
        let scenario = manifest.scenario(&folder).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.nodes, manifest.nodes as usize);
        let again = Manifest::parse(&manifest.to_toml(), "again").unwrap_or_else(|error| panic!("{error}"));
        // Links that were left to the default are written down as what they came to.
        let written = Manifest { usual_topology: false, ..manifest };
        assert_eq!(again, written, "what is written down is the same manifest");
    }
}

#[test]
fn what_measures_the_simulator_does_so_with_any_number_of_nodes() {
    for (preset, nodes) in [("scale", 12), ("scale", 10_000), ("baseline", 12)] {
        let (manifest, folder) = Manifest::named(preset).expect("it is there");
        let manifest = manifest.with(&[format!("nodes={nodes}")]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(manifest.topology, Topology::Random { degree: (nodes - 1).min(40) });
        manifest.scenario(&folder).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn links_that_are_drawn_and_leave_the_network_in_parts_are_refused() {
    let said = |topology: &str| {
        let text = format!("format = 1\nnodes = 40\n[topology]\n{topology}");
        let manifest = Manifest::parse(&text, "m.toml")?;
        manifest.scenario(std::path::Path::new(".")).map(drop)
    };
    let error = said("kind = \"random\"\ndegree = 1\n").expect_err("pairs").to_string();
    assert!(error.contains("no way from node 0 to node") && error.contains("a higher degree"), "{error}");
    assert!(said("kind = \"random\"\ndegree = 3\n").is_ok());
    let error = said("kind = \"small_world\"\ndegree = 2\nmoved_percent = 100\n").expect_err("parts").to_string();
    assert!(error.contains("with seed 1"), "{error}");
}

/// Where nobody makes blocks, messages stay in the pools until they expire; a full pool refuses what its own node publishes.
#[test]
fn the_pools_hold_what_presets_publish_without_producers() {
    let mut looked_at = 0;
    for preset in PRESETS {
        let (manifest, folder) = Manifest::named(preset.name).unwrap_or_else(|error| panic!("{error}"));
        let scenario = manifest.scenario(&folder).unwrap_or_else(|error| panic!("{error}"));
        if scenario.producers > 0 {
            continue;
        }
        looked_at += 1;
        let pool = mempool::Config::default();
        // Half of what the genesis allows is what nodes give their own transactions; and what signature and fields take, and some slots of grace.
        let slots = u32::try_from(crate::sim::Scenario::genesis_limits().expiry_slots_max / 2 + 8).expect("few");
        let lived = scenario.slot * slots;
        let load = |message: &Submission| message.payload_bytes as usize + 256 + mempool::OVERHEAD_BYTES;
        let all = submissions(&scenario);
        let (mut first, mut bytes) = (0, 0);
        for (number, message) in all.iter().enumerate() {
            bytes += load(message);
            while message.at.since(all[first].at) > lived {
                bytes -= load(&all[first]);
                first += 1;
            }
            let count = number + 1 - first;
            assert!(bytes <= pool.bytes_max && count <= pool.transactions_max, "{}: {count}, {bytes}", preset.name);
        }
    }
    assert!(looked_at > 1, "the baseline and the one for speed have no producers");
}

#[test]
fn every_seed_makes_a_good_manifest() {
    for seed in 0..200 {
        let manifest = Manifest::random(seed);
        let again =
            Manifest::parse(&manifest.to_toml(), "random").unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(again, manifest);
        manifest.scenario(Path::new("")).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn the_published_schema_is_the_present_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manifest.schema.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, schema()).expect("written");
    }
    let published = std::fs::read_to_string(&path).expect("the schema is published");
    assert!(published == schema(), "run UPDATE_DOCS=1 cargo test -p starling-testnet manifest to publish it again");
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_a_remedy() {
    for (rest, expected) in [
        ("[links]\nwindwo = {}\n", &["line 7 (links.windwo)", "expected one of"][..]),
        (
            "[[fault]]\nkind = \"kill\"\nat_s = 1\nwho = { nodes = [3, 16] }\n",
            &["line 9 (fault.0.who)", "node 16 does not exist", "numbered from 0 to 15"],
        ),
        (
            "[[attack]]\nkind = \"outrun\"\ncount = 1\n",
            &["(attack.0.params.turn_s)", "turn after 60 s", "ends after 50 s", "a smaller turn_s"],
        ),
        (
            "[[attack]]\nkind = \"replay\"\ncount = 1\n[attack.params]\nage_s = 50\n",
            &["line 10 (attack.0.params.age_s)", "is 50 s old", "a smaller age_s"],
        ),
        ("[[attack]]\nkind = \"withhold\"\ncount = 1\n", &["line 7 (attack.0.kind)", "no blocks", "blocks.producers"]),
        (
            "[[attack]]\nkind = \"sybil\"\ncount = 1\ntargets = \"publishers\"\n",
            &["line 9 (attack.0.targets)", "nobody publishes", "[[workload]]"],
        ),
        (
            "[[attack]]\nkind = \"equivocate\"\ncount = 1024\n[blocks]\nproducers = 1\n",
            &["line 10 (blocks.producers)", "1025 producers", "1024 at most"],
        ),
        ("[cpu]\nrpc_us = 0\nbyte_ns = 0\n", &["line 7 (cpu.rpc_us)", "never infinitely fast"]),
        ("[[workload]]\nkind = \"constant\"\nper_s = -3\nbytes = 10\n", &["line 8 (workload.0.per_s)", "from 0.001"]),
        ("[[fault]]\nkind = \"meteor\"\nat_s = 1\n", &["line 7 (fault.0.kind)", "meteor", "`kill`"]),
        (
            "[[fault]]\nkind = \"pause\"\nat_s = -1\nfor_s = 2\nwho = { all = true }\n",
            &["line 8 (fault.0.at_s)", "before 50 s"],
        ),
        ("[links]\nloss_percent = 90\n", &["line 7 (links.loss_percent)", "0 to 50"]),
        ("[blocks]\nproducers = 17\n", &["line 7 (blocks.producers)", "only 16 nodes"]),
        ("[blocks]\nslot_s = 0.01\n", &["line 7 (blocks.slot_s)", "from 0.1 to 3600 s"]),
        ("[time]\nload_s = -1\n", &["line 7 (time.load_s)", "negative"]),
        ("[[fault]]\nkind = \"heal\"\nat_s = 3\n", &["line 8 (fault.0.at_s)", "nothing to heal"]),
        (
            "[[fault]]\nkind = \"degrade\"\nat_s = 3\nlatency_ms = 3\nfrom = { regions = [\"atlantis\"] }\n",
            &["fault.0.from", "atlantis", "us-east-1"],
        ),
        (
            "[[fault]]\nkind = \"partition\"\nat_s = 3\nwho = { all = true }\n",
            &["line 9 (fault.0.who)", "nobody would be on the other side"],
        ),
        ("[[attack]]\nkind = \"x\"\ncount = 3\n", &["line 7 (attack.0.kind)", "no attacker of kind `x`", "sybil"]),
        ("[blocks]\nproducers = \"two\"\n", &["line 7 (blocks.producers)", "a whole number", "the text \"two\""]),
        ("[time]\nload_s = \"long\"\n", &["line 7 (time.load_s)", "a number"]),
        ("[cpu]\nbyte_ns = 9000000000000000000\n", &["line 7 (cpu.byte_ns)", "from 0 to 1000000000 ns"]),
        ("[time]\nload = 3\n", &["line 7", "`load`", "`load_s`"]),
    ] {
        let error = error(rest);
        for part in expected {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
    }
    let degree = Manifest::parse("format = 1\nnodes = 5\n[topology]\nkind = \"random\"\ndegree = 5\n", "test.toml");
    let degree = degree.expect_err("impossible").to_string();
    assert!(degree.contains("line 5 (topology.degree)") && degree.contains("from 1 to 4"), "{degree}");
    let named = |name: &str| {
        let error = Manifest::parse(&format!("format = 1\nnodes = 2\nname = \"{name}\"\n"), "test.toml");
        error.map(drop).map_err(|error| error.to_string())
    };
    assert!(named("../up").is_err_and(|error| error.contains("line 3 (name)") && error.contains("no slash")));
    assert!(named("").is_err_and(|error| error.contains("1 to 100 characters")));
    for name in [".", "..", "a\\\\b", &"\u{10348}".repeat(51)] {
        assert!(named(name).is_err_and(|error| error.contains("folders are called by it")), "{name}");
    }
    assert_eq!(named(&"\u{10348}".repeat(50)), Ok(()));
    assert_eq!(named("..."), Ok(()));
    assert_eq!(named("two nodes"), Ok(()));
    let unknown = Manifest::named("no-such").expect_err("unknown").to_string();
    assert!(unknown.contains("baseline") && unknown.contains("partition"), "{unknown}");
}

#[test]
fn files_that_cannot_be_used_are_said_with_the_line_that_names_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.toml");
    let named = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        Manifest::named(path.to_str().expect("a path in UTF-8")).map(|(manifest, _)| manifest)
    };
    for (text, expected) in [
        ("[links]\nprofile = \"mars\"\n", &["my.toml, line 4 (links.profile)", "mars", "wan, flat and loopback"][..]),
        ("[topology]\nkind = \"file\"\npath = \"no.txt\"\n", &["my.toml, line 5 (topology.path)", "no.txt"]),
    ] {
        let error = named(format!("format = 1\nnodes = 9\n{text}").as_bytes()).expect_err(text).to_string();
        for part in expected {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
    }
    #[cfg(unix)]
    for text in ["[links]\nprofile = \"/dev/zero\"\n", "[topology]\nkind = \"file\"\npath = \"/dev/zero\"\n"] {
        let error = named(format!("format = 1\nnodes = 9\n{text}").as_bytes()).expect_err(text).to_string();
        assert!(error.contains("my.toml, line") && error.contains("a pipe or a device"), "{error}");
    }
    #[cfg(unix)]
    assert!(Manifest::named("/dev/zero").is_err_and(|error| error.to_string().contains("a pipe or a device")));
    // Folders are called by the name of a manifest, which is that of its file where that can be.
    for (file, name) in [("mine.toml", "mine"), ("...toml", "unnamed")] {
        let path = folder.path().join(file);
        std::fs::write(&path, "format = 1\nnodes = 9\n").expect("written");
        let (manifest, _) = Manifest::named(path.to_str().expect("a path in UTF-8")).expect("a manifest");
        assert_eq!(manifest.name, name);
    }
    let binary = named(&[0xff; 99]).expect_err("no text").to_string();
    assert!(binary.contains("cannot read") && binary.contains("as a manifest") && binary.contains("quick"), "{binary}");
    let endless = named(&[b'x'; 100_000]).expect_err("no manifest").to_string();
    assert!(endless.contains("my.toml") && endless.len() < 2_000, "{} bytes", endless.len());
    let unclosed = named(b"format = 1\nnodes = [9\nseed = 1\n").expect_err("no manifest").to_string();
    assert!(unclosed.contains("my.toml") && unclosed.contains("line 3"), "{unclosed}");
    let folder = Manifest::named(folder.path().to_str().expect("a path in UTF-8")).expect_err("a folder").to_string();
    assert!(folder.contains("directory"), "{folder}");
}

/// The two keys without a default are enough for a run, however few nodes there are.
#[test]
fn a_manifest_of_two_keys_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.toml");
    for (nodes, degree) in [(2, 1), (16, 15), (41, 40), (1_000, 40)] {
        std::fs::write(&path, format!("format = 1\nnodes = {nodes}\n")).expect("written");
        let (manifest, folder) = Manifest::named(path.to_str().expect("a path in UTF-8")).expect("a good manifest");
        assert_eq!((manifest.topology.clone(), &*manifest.name), (Topology::Random { degree }, "tiny"));
        manifest.scenario(&folder).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Where nodes are depends on the seed, so what fits none in the file may fit the one of the command line.
#[test]
fn what_the_seed_decides_is_judged_by_the_seed_of_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("region.toml");
    let text = "format = 1\nnodes = 20\n[[fault]]\nkind = \"kill\"\nat_s = 11\nwho = { regions = [\"ap-south-1\"] }\n";
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("a path in UTF-8");
    let error = Manifest::named(path).expect_err("nobody is there").to_string();
    assert!(error.contains("region.toml, line 6") && error.contains("with seed 1 none of the 20 nodes"), "{error}");
    let fits = |seed: u64| {
        let (manifest, folder) = Manifest::named_to_be_set(path).expect("a manifest");
        manifest.with(&[format!("seed={seed}")]).expect("a seed").scenario(&folder).map(drop)
    };
    assert!(fits(1).is_err() && (2..20).any(|seed| fits(seed).is_ok()));
}

#[test]
fn what_processes_cannot_do_is_said_with_its_line_and_a_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("test.toml");
    let named = |rest: &str| {
        std::fs::write(&path, format!("{HEAD}{rest}")).expect("written");
        let path = path.to_str().expect("a path in UTF-8");
        Manifest::named(path).expect("a good manifest");
        Manifest::named_for_processes(path, false).map(drop).map_err(|error| error.to_string())
    };
    let clock = "[[fault]]\nkind = \"clock\"\nat_s = 1\nwho = { all = true }\nskew_s = 1\n";
    let slow = |kind: &str| format!("[[fault]]\nkind = \"{kind}\"\nat_s = 1\nwho = {{ all = true }}\nfactor = 2\n");
    for (rest, expected) in [
        (clock.to_owned(), &["line 7 (fault.0.kind)", "clock of its own", "`starling-testnet sim`"][..]),
        (slow("slow_cpu"), &["line 7 (fault.0.kind)", "control groups"]),
        (slow("slow_disk"), &["line 7 (fault.0.kind)", "control groups"]),
        ("[links]\nwindow = {}\n".into(), &["line 7 (links.window)", "no congestion windows"]),
        ("[links]\ndownlink_mbit_per_s = 5\n".into(), &["line 7 (links.downlink", "receives"]),
        ("[limits]\ninbound_max = 9\n".into(), &["line 6 (limits)", "by default"]),
        (
            "[[fault]]\nkind = \"degrade\"\nat_s = 3\nlatency_ms = 9000\nfrom = { all = true }\n".into(),
            &["line 9 (fault.0.latency_ms)", "4000"],
        ),
        (
            "[[attack]]\ncount = 3\nkind = \"censor\"\n".into(),
            &["line 8 (attack.0.kind)", "in the simulator only", "there are sybil, withhold"],
        ),
        (
            "[[attack]]\nkind = \"sybil\"\ncount = 1\n[[attack]]\nkind = \"sybil\"\ncount = 101\n".into(),
            &["line 11 (attack.1.count)", "1 to 100"],
        ),
        (
            "[[attack]]\nkind = \"sybil\"\ncount = 60\n[[attack]]\nkind = \"sybil\"\ncount = 60\n".into(),
            &["line 11 (attack.1.count)", "1 to 100", "not 120"],
        ),
        (
            "[[attack]]\nkind = \"sybil\"\ncount = 1\nat_s = 46\n".into(),
            &["line 9 (attack.0.at_s)", "come after 46 s", "the load ends after 45 s", "a smaller at_s"],
        ),
        (
            "[[attack]]\nkind = \"sybil\"\ncount = 1\n[attack.params]\nturn_s = 45\n".into(),
            &["line 10 (attack.0.params.turn_s)", "turn after 45 s", "a smaller turn_s"],
        ),
    ] {
        let error = named(&rest).expect_err(&rest);
        for part in expected {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
    }
    let everything = "[links]\nloss_percent = 1\n[cpu]\nrpc_us = 3\n[[fault]]\nkind = \"pause\"\nat_s = 1\nfor_s = 2\nwho = { all = true }\n\
                      [[attack]]\nkind = \"invalid\"\ncount = 2\n";
    assert_eq!(named(everything), Ok(()));
    let (quick, _) = Manifest::named_for_processes("partition", false).expect("a preset that processes can run");
    let large = quick.with(&["nodes=1001".to_owned()]).expect("the simulator can");
    assert!(large.for_processes().is_err_and(|error| error.to_string().contains("nodes")));
    // Whatever else is wrong with attackers is said with its key, too.
    let mut attacked = quick;
    attacked.attack.push(Attackers::new("sybil", 1, 0));
    let error = attacked.for_processes().expect_err("without connections").to_string();
    assert!(error.contains(", attack.0.connections: ") && error.contains("at least 1"), "{error}");
}

#[test]
fn values_are_set_by_their_paths() {
    let (manifest, folder) = Manifest::named("partition").expect("a preset");
    let with =
        |assignments: &[&str]| manifest.with(&assignments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let changed =
        with(&["nodes=20", "links.loss_percent=2", "fault.0.at_s=11", "topology.degree=6", "links.window={}"]);
    let changed = changed.unwrap_or_else(|error| panic!("{error}"));
    let scenario = changed.scenario(&folder).expect("a scenario");
    assert_eq!((scenario.nodes, scenario.loss_ppm, scenario.faults[0].0), (20, 20_000, Time::from_secs(11)));
    assert!(scenario.window.is_some());
    for (assignment, expected) in [
        ("nodes", "write key=value"),
        ("links.los=2", "los"),
        ("=2", "write key=value"),
        ("fault.7.at_s=2", "only entry 0"),
        ("attack.0.at_s=2", "no such entry"),
        ("nodes=1", "with what the command line sets, nodes: there must be from 2"),
        ("fault.first.at_s=2", "is no number"),
        ("nodes=many", "nodes: it must be a whole number from 2 to 200000, and not the text \"many\""),
        ("nodes=-1", "from 2 to 200000, and not -1"),
        ("links.loss_percent=nan", "a finite number"),
        ("seed=9999999999999999999", "cannot be read: a whole number can be at most 9223372036854775807"),
        ("links.window={bytes_max=18446744073709551615}", "can be at most 9223372036854775807"),
        ("links.window=5", "links.window: it must be a table, and not 5"),
        ("fault.0.who={nodes=[1}", "the value cannot be read: missing comma"),
        ("name=\"unended", "the value cannot be read: invalid basic string"),
        ("name=1.2.3", "the value cannot be read: invalid float"),
        ("nodes=3rd", "and not the text \"3rd\""),
        ("nodes=12\nseed=4", "--set once for each"),
        ("topology.kind=discovered", "--set 'topology={ kind"),
        ("fault.0.who.nodes=1", "a list in brackets"),
        ("fault.0.who.percent=3", "one of { nodes = [0, 1] }"),
        ("fault.0.who.regions=[\"us-east-1\"]", "and not a table of `nodes`, `regions`"),
        ("a.".repeat(100_000).as_str(), "write key=value"),
        (format!("{}a=1", "a.".repeat(100_000)).as_str(), "no key has so many parts"),
        ("topology.degree=99", "from 1 to 15"),
    ] {
        let error = with(&[assignment]).expect_err(assignment).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn faults_become_a_timeline() {
    let text = format!(
        "{HEAD}[[fault]]\nkind = \"restart\"\nat_s = 9\nwho = {{ nodes = [2] }}\n\
         [[fault]]\nkind = \"clock\"\nat_s = 4\nwho = {{ nodes = [1] }}\nskew_s = -0.5\n\
         [[fault]]\nkind = \"partition\"\nat_s = 5\nfor_s = 2\nwho = {{ percent = 25 }}\n\
         [[fault]]\nkind = \"churn\"\nat_s = 10\nfor_s = 30\npercent_per_min = 100\ndown_s = 3\n"
    );
    let manifest = Manifest::parse(&text, "test.toml").unwrap_or_else(|error| panic!("{error}"));
    let scenario = manifest.scenario(Path::new("")).expect("a scenario");
    let faults = &scenario.faults;
    assert!(faults.is_sorted_by_key(|(at, _)| *at));
    assert_eq!(faults[0], (Time::from_secs(4), Action::Clock(1, -500_000)));
    let Action::Partition(sides) = &faults[1].1 else { panic!("{:?}", faults[1]) };
    assert_eq!(sides.iter().filter(|side| **side == 1).count(), 4);
    assert_eq!(faults[2], (Time::from_secs(7), Action::Heal));
    assert_eq!(faults[3], (Time::from_secs(9), Action::Stop(2)));
    let kills = faults.iter().filter(|(_, action)| matches!(action, Action::Kill(_))).count();
    assert_eq!(kills, 8, "half a minute of sixteen nodes a minute");
    let starts = faults.iter().filter(|(_, action)| matches!(action, Action::Start(_))).count();
    assert_eq!(starts, 9);
    // Nobody is killed who is down.
    let mut down = std::collections::BTreeSet::new();
    for (_, action) in faults {
        match action {
            Action::Kill(node) => assert!(down.insert(*node)),
            Action::Start(node) => drop(down.remove(node)),
            _ => {}
        }
    }
}

/// Whichever is written first.
#[test]
fn what_ends_comes_before_what_begins_at_that_moment() {
    let actions = |faults: &[&str]| {
        let faults: String = faults.iter().map(|fault| format!("[[fault]]\n{fault}\n")).collect();
        let manifest = Manifest::parse(&format!("{HEAD}{faults}"), "test.toml")
            .unwrap_or_else(|error| panic!("{faults}: {error}"));
        manifest.scenario(Path::new("")).expect("a scenario").faults
    };
    let who = "who = { nodes = [2] }";
    for (kind, rest) in
        [("partition", ""), ("kill", ""), ("pause", ""), ("slow_cpu", "factor = 3"), ("slow_disk", "factor = 3")]
    {
        let first = format!("kind = \"{kind}\"\nat_s = 5\nfor_s = 4\n{rest}\n{who}");
        let second = format!("kind = \"{kind}\"\nat_s = 9\nfor_s = 3\n{rest}\n{who}");
        let faults = actions(&[&second, &first]);
        assert_eq!(faults, actions(&[&first, &second]), "{kind}");
        assert_eq!(faults.iter().map(|(_, action)| action.begins()).collect::<Vec<_>>(), [true, false, true, false]);
    }
    let (first, heal) = (format!("kind = \"partition\"\nat_s = 5\nfor_s = 6\n{who}"), "kind = \"heal\"\nat_s = 9");
    let second = format!("kind = \"partition\"\nat_s = 9\n{who}");
    let faults = actions(&[&second, &first, heal]);
    let times: Vec<_> = faults.iter().map(|(at, action)| (at.as_micros() / 1_000_000, action.begins())).collect();
    assert_eq!(times, [(5, true), (9, false), (9, true)], "what was healed early does not heal the next one");
}

/// However many nodes are down, and however long it is said to last.
#[test]
fn churn_ends_with_the_run_and_is_counted_before_it_is_made() {
    let churn = |rate: u32, down_s: &str| {
        format!(
            "format = 1\nnodes = 1000\n[[fault]]\nkind = \"churn\"\nat_s = 0\nfor_s = 1e7\npercent_per_min = {rate}\ndown_s = {down_s}\n"
        )
    };
    let faults = |text: &str| {
        let manifest = Manifest::parse(text, "test.toml").unwrap_or_else(|error| panic!("{error}"));
        let faults = manifest.scenario(Path::new("")).expect("a scenario").faults;
        assert!(manifest.actions() >= faults.len() as u64, "{} are more than were foreseen", faults.len());
        faults
    };
    let brief = faults(&churn(6_000, "0.001"));
    assert_eq!(brief.len(), 2 * 50_000, "one in each of the 50,000 ms");
    // Each goes once, and then nobody is left.
    let long = faults(&churn(6_000, "1e6"));
    let killed: std::collections::BTreeSet<u32> = long
        .iter()
        .filter_map(|(_, action)| match action {
            Action::Kill(node) => Some(*node),
            _ => None,
        })
        .collect();
    assert_eq!((long.len(), killed.len()), (2_000, 1_000));
    let refused = |text: &str| Manifest::parse(text, "test.toml").expect_err("refused").to_string();
    assert!(refused(&churn(6_000, "0.0009")).contains("line 8 (fault.0.down_s): a node must be down for at least"));
    let many = churn(6_000, "1").replace("nodes = 1000", "nodes = 120000");
    let many = refused(&many);
    assert!(many.contains("up to 12500000 actions, and 10000000 are the most"), "{many}");
}

/// What becomes of a network whose links are in a file.
fn with_links(nodes: u32, settings: &[String], links: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("format = 1\nnodes = {nodes}\n[topology]\nkind = \"file\"\npath = \"links.txt\"\n");
    let manifest =
        Manifest::parse(&text, "test.toml").and_then(|manifest| manifest.with(settings)).expect("a manifest");
    std::fs::write(folder.path().join("links.txt"), links).expect("written");
    manifest.scenario(folder.path()).map(drop).map_err(|error| error.to_string())
}

#[test]
fn links_come_from_a_file() {
    let with = |links| with_links(3, &[], links);
    assert!(with("\u{feff}0 1\n1 2\n").is_ok(), "some editors begin a text with a mark");
    assert!(with("# a triangle\n0 1\n1 2 # and\n\n2 0\n").is_ok());
    for (links, expected) in [
        ("0 1\n1 3\n", "line 2: node 3 does not exist"),
        ("0 1 2", "line 1: write two"),
        ("1 1", "itself"),
        ("0 1\n1 0", "already"),
        ("", "no links"),
        ("0 1", "node 2 has no link"),
    ] {
        let error = with(links).expect_err(links);
        assert!(error.contains(expected) && error.contains("links.txt"), "{error}");
    }
    for (key, expected) in [
        ("inbound_max", "node 1 is dialled by 2 nodes, but limits.inbound_max = 1"),
        ("connections_max", "node 1 is linked with 2 nodes, but limits.connections_max = 1"),
    ] {
        let error = with_links(3, &[format!("limits.{key}=1")], "0 1\n2 1\n").expect_err("too many");
        assert!(error.contains("topology.path") && error.contains(expected), "{error}");
    }
    let network = wan::Topology::new(crate::wan::Profile::wan(), 3, 1);
    assert_eq!(network.nodes(), 3);
}

#[test]
fn links_that_leave_a_network_in_parts_are_refused() {
    let with = |links| with_links(5, &[], links);
    let error = with("0 3\n1 2\n2 4\n").expect_err("two parts");
    assert!(error.contains("no way leads from node 0 to node 1") && error.contains("topology.path"), "{error}");
    assert_eq!(with("0 3\n1 2\n2 4\n4 3\n"), Ok(()));
}

/// Each row: what is written below the head, the line and key that are named, and what is said of it.
#[test]
fn values_of_a_wrong_kind_are_said_with_their_own_line_and_key() {
    let fault = |rest: &str| format!("[[fault]]\nkind = \"kill\"\n{rest}\n");
    let load = |rest: &str| format!("[[workload]]\nkind = \"constant\"\nper_s = 1\n{rest}\n");
    for (rest, place, said) in [
        (
            fault("who = { all = true }\nat_s = \"soon\""),
            "line 9 (fault.0.at_s)",
            "a number, and not the text \"soon\"",
        ),
        (load("bytes = -1"), "line 9 (workload.0.bytes)", "from 0 to 1048576, and not -1"),
        (load("bytes = 1\npublishers = { count = -1 }"), "line 10 (workload.0.publishers.count)", "not -1"),
        (load("bytes = 1\npublishers = 5"), "line 10 (workload.0.publishers)", "{ count = 5 }, { nodes = [0, 1] }"),
        (load("bytes = 1\nbyte = 1"), "line 10 (workload.0.byte)", "`bytes`"),
        (load("bytes = 1\nuntil_s = nan"), "line 10 (workload.0.until_s)", "a finite number"),
        (load("bytes = 1\nfrom_s = inf"), "line 10 (workload.0.from_s)", "a finite number"),
        (load(""), "line 6 (workload.0)", "the key `bytes` is missing; it must be a whole number from 0 to 1048576"),
        (fault("at_s = 1\nwho = \"all\""), "line 9 (fault.0.who)", "{ all = true }"),
        (fault("at_s = 1\nwho = { all = true, percent = 3 }"), "line 9 (fault.0.who)", "a table of `all`, `percent`"),
        (fault("at_s = 1\nwho = { regions = \"us-east-1\" }"), "line 9 (fault.0.who.regions)", "a list in brackets"),
        (fault("at_s = 1\nwho = { nodes = [1, -1] }"), "line 9 (fault.0.who.nodes.1)", "not -1"),
        ("[workload]\nkind = \"constant\"\n".into(), "line 6 (workload)", "write [[workload]]"),
        ("[[fault]]\nat_s = 1\n".into(), "line 6 (fault.0)", "`kind` is missing"),
        ("[links]\nwindow = 3\n".into(), "line 7 (links.window)", "a table, and not 3"),
        ("[[attack]]\nkind = \"sybil\"\ncount = 1\ntargets = 3\n".into(), "line 9 (attack.0.targets)", "`publishers`"),
        (
            "[[attack]]\nkind = \"sybil\"\ncount = 1\nparams.drop = \"all\"\n".into(),
            "line 9 (attack.0.params.drop)",
            "a number",
        ),
    ] {
        let error = error(&rest);
        assert!(error.contains(place) && error.contains(said), "{place}, {said:?}: {error}");
    }
    let deep = format!("format = 1\n{}a = 1\n", "a.".repeat(100_000));
    for (text, expected) in [
        (deep.as_str(), "line 2: no key of a manifest has so many parts"),
        ("format = 1\nnodes = 99999999999999999999999\n", "line 2 (nodes): it must be a whole number from 2 to"),
        ("format = 1\n", "the key `nodes` is missing; it must be a whole number"),
        (
            "format = 1\nnodes = 9\n[[fault]]\nkind = \"kill\"\nat_s = 1\n",
            "`who` is missing; it must be one of { nodes = [0, 1] }, { percent = 5 }",
        ),
        (
            "format = 1\nnodes = 3\n[topology]\nkind = \"regional\"\ndegree = 2\nnear_percent = \"half\"\n",
            "line 6 (topology.near_percent)",
        ),
    ] {
        let error = Manifest::parse(text, "test.toml").expect_err(text).to_string();
        assert!(error.contains(expected), "{expected:?}: {error}");
    }
}

/// What is refused because nothing would come of it, or because of what else is in the manifest.
#[test]
fn what_does_nothing_is_refused() {
    let load = |rest: &str| format!("[[workload]]\nkind = \"constant\"\nper_s = 1\nbytes = 1\n{rest}\n");
    let fault = |kind: &str, rest: &str| format!("[[fault]]\nkind = \"{kind}\"\n{rest}\n");
    let attack = |kind: &str, rest: &str| format!("[[attack]]\nkind = \"{kind}\"\n{rest}\n");
    for (rest, place, said) in [
        (load("until_s = -1"), "line 10 (workload.0.until_s)", "after 0 and at most 30 s"),
        (load("from_s = 5\nuntil_s = 5"), "line 10 (workload.0.from_s)", "from_s = 5 must be before until_s = 5"),
        (load("from_s = 30"), "line 10 (workload.0.from_s)", "before 30 s, when the load ends"),
        (fault("partition", "who = { percent = 100 }\nat_s = 3"), "line 8 (fault.0.who)", "not all of them"),
        (
            fault("partition", "who = { nodes = [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,15] }\nat_s = 3"),
            "line 8 (fault.0.who)",
            "not all of them",
        ),
        (fault("kill", "who = { all = true }\nat_s = 50"), "line 9 (fault.0.at_s)", "before 50 s"),
        (fault("pause", "who = { all = true }\nat_s = 5\nfor_s = 1e-12"), "line 10 (fault.0.for_s)", "from 0.001"),
        ("[limits]\nper_ip_max = 0\n".into(), "line 7 (limits.per_ip_max)", "at least 1"),
        ("[limits]\nper_subnet_max = 0\n".into(), "line 7 (limits.per_subnet_max)", "at least 1"),
        ("[limits]\nconnections_max = 0\n".into(), "line 7 (limits.connections_max)", "at least 1"),
        ("[limits]\ninbound_max = 0\n".into(), "line 7 (limits.inbound_max)", "at least 1"),
        ("[links]\ndead_after_s = 1e-9\n".into(), "line 7 (links.dead_after_s)", "from 0.1"),
        ("[time]\nconnect_within_s = 51\n".into(), "line 7 (time.connect_within_s)", "at most 50"),
        (attack("sybil", "count = 0"), "line 8 (attack.0.count)", "from 1"),
        (attack("sybil", "count = 1\nconnections = 0"), "line 9 (attack.0.connections)", "at least 1"),
        (attack("sybil", "count = 1\ntargets = []"), "line 9 (attack.0.targets)", "aim at nobody"),
        (attack("sybil", "count = 1\ntargets = [16]"), "line 9 (attack.0.targets)", "from 0 to 15"),
        (attack("sybil", "count = 1\nparams.dorp = 1"), "line 9 (attack.0.params.dorp)", "drop"),
        (attack("sybil", "count = 1\nparams.drop = 2"), "line 9 (attack.0.params.drop)", "from 0 to 1"),
        (attack("invalid", "count = 1\nparams.per_s = 0"), "line 9 (attack.0.params.per_s)", "from 0.001"),
        (attack("ihave", "count = 1\nparams.times_cap = 0"), "line 9 (attack.0.params.times_cap)", "from 0.001"),
        (attack("whitewash", "count = 1\nparams.lives = 0"), "line 9 (attack.0.params.lives)", "from 1"),
        (attack("censor", "count = 1\nparams.victim = 999"), "line 9 (attack.0.params.victim)", "from 0 to 15"),
        (attack("censor", "count = 1\nparams.victim = 0.5"), "line 9 (attack.0.params.victim)", "a whole number"),
        (attack("withhold", "count = 1\nparams.topic = 0.5"), "line 9 (attack.0.params.topic)", "a whole number"),
        (attack("equivocate", "count = 1"), "line 7 (attack.0.kind)", "blocks.producers"),
        (attack("stall", "count = 1"), "line 7 (attack.0.kind)", "blocks.producers"),
    ] {
        let error = error(&rest);
        assert!(error.contains(place) && error.contains(said), "{place}, {said:?}: {error}");
    }
}

#[test]
fn regions_must_have_nodes_and_others_outside() {
    let text = |rest: &str| format!("format = 1\nnodes = 3\n[topology]\nkind = \"random\"\ndegree = 2\n{rest}");
    let said = |text: &str| {
        let manifest = Manifest::parse(text, "test.toml").unwrap_or_else(|error| panic!("{error}"));
        manifest.scenario(Path::new("")).map(drop).expect_err("nothing would happen").to_string()
    };
    let profile = crate::wan::Profile::wan();
    let names: Vec<String> = profile.regions().iter().map(|region| format!("\"{}\"", region.name)).collect();
    let fault = |kind: &str, regions: &str| {
        text(&format!("[[fault]]\nkind = \"{kind}\"\nat_s = 1\nwho = {{ regions = [{regions}] }}\n"))
    };
    let empty = names
        .iter()
        .map(|name| fault("kill", name))
        .filter_map(|text| Manifest::parse(&text, "test.toml").expect("good").scenario(Path::new("")).err());
    let empty: Vec<String> = empty.map(|error| error.to_string()).collect();
    assert!(empty.len() >= names.len() - 3, "three nodes are in three regions at most");
    assert!(
        empty
            .iter()
            .all(|error| error.contains("none of the 3 nodes is in the region") && error.contains("fault.0.who"))
    );
    let used: Vec<String> = names
        .into_iter()
        .filter(|name| {
            Manifest::parse(&fault("kill", name), "test.toml").expect("good").scenario(Path::new("")).is_ok()
        })
        .collect();
    let all = said(&fault("partition", &used.join(", ")));
    assert!(all.contains("nobody would be on the other side"), "{all}");
    let tight = "format = 1\nnodes = 20\n[limits]\nconnections_max = 4\n";
    let tight = Manifest::parse(tight, "test.toml").expect_err("refused").to_string();
    assert!(tight.contains("line 3 (limits)") && tight.contains("must be from 1 to 4"), "{tight}");
    let islands = said("format = 1\nnodes = 40\n[topology]\nkind = \"regional\"\ndegree = 4\nnear_percent = 100\n");
    assert!(islands.contains("topology.near_percent") && islands.contains("from one region to another"), "{islands}");
}

/// Where nothing is said of the topology, it follows the number of nodes that is set.
#[test]
fn the_usual_topology_follows_the_number_of_nodes() {
    let manifest = Manifest::parse("format = 1\nnodes = 100\n", "test.toml").expect("a good manifest");
    let degree = |assignments: &[&str]| {
        let set: Vec<String> = assignments.iter().map(|text| (*text).to_owned()).collect();
        manifest.with(&set).map(|manifest| manifest.topology)
    };
    assert_eq!(degree(&["nodes=12"]).expect("good"), Topology::Random { degree: 11 });
    assert_eq!(degree(&["nodes=12", "nodes=200"]).expect("good"), Topology::Random { degree: 40 });
    assert_eq!(degree(&["topology.degree=6", "nodes=12"]).expect("good"), Topology::Random { degree: 6 });
    let whole = degree(&["topology={kind=\"discovered\"}"]).expect("all keys of another kind at once");
    assert_eq!(whole, Topology::Discovered { bootnodes: 3, target_peers: 24 });
}
