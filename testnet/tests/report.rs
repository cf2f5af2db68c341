//! The report of a run that never took place: messages flooded over a random graph, with all arrival times computed, so
//! that every figure can be checked against what it must be.

use std::collections::BinaryHeap;
use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use starling_testnet::measure::{Class, Deliveries, Event, Readiness, Recorder, Window};
use starling_testnet::report::{
    self, HostLoad, Manifest, NodeUsage, Partition, Run, Simulation, Summary, Verdict, manifest, terminal,
};
use starling_testnet::wan::{Profile, Stream, Topology};

const HOP_US: u64 = 400;
const WINDOW: Window = Window { load_start_us: 5_000_000, load_end_us: 25_000_000, drain_end_us: 35_000_000 };

/// What to compute.
struct Spec {
    profile: Profile,
    nodes: usize,
    links: usize,
    transactions: u64,
    blocks: u64,
    /// This node receives nothing from the tenth transaction on.
    deaf: Option<usize>,
}

const SMALL: fn() -> Spec =
    || Spec { profile: Profile::wan(), nodes: 12, links: 4, transactions: 40, blocks: 4, deaf: None };

/// Floods every message over a random graph and feeds the traces that the nodes would have written to a recorder.
fn run(spec: &Spec) -> Run {
    let topology = Topology::new(spec.profile.clone(), spec.nodes, 11);
    let links = random_links(spec.nodes, spec.links);
    let peers: Vec<String> = (0..spec.nodes).map(|node| format!("12D3KooWSynthetic{node:04}")).collect();
    let mut recorder = Recorder::new(peers.clone(), Readiness::new(spec.nodes, 0, 1));
    let mut stream = Stream::new(11, "load");
    for number in 0..spec.transactions + spec.blocks {
        let (class, payload_bytes) = if number < spec.transactions { ("transaction", 380) } else { ("block", 14_000) };
        let origin = stream.index(spec.nodes);
        let t0_us = WINDOW.load_start_us + stream.below(WINDOW.load_end_us - WINDOW.load_start_us);
        let deaf = spec.deaf.filter(|_| number >= 10);
        let id = format!("{number:040x}");
        let mut lines = vec![(origin, format!("publish,{class},{id},{t0_us},{payload_bytes}"))];
        let mut reached = vec![false; spec.nodes];
        reached[origin] = true;
        // Frames in flight, the earliest first: arrival, receiver, sender.
        let mut flights = BinaryHeap::new();
        let mut send = |flights: &mut BinaryHeap<_>, from: usize, not_to: usize, t_us: u64| {
            for &to in links[from].iter().filter(|&&to| to != not_to) {
                let t_us = t_us + HOP_US + topology.one_way_us(from, to) + stream.below(2_000);
                flights.push((std::cmp::Reverse(t_us), to, from));
            }
        };
        send(&mut flights, origin, origin, t0_us);
        while let Some((std::cmp::Reverse(t_us), to, from)) = flights.pop() {
            let (peer, bytes) = (&peers[from], payload_bytes + 60);
            if deaf == Some(to) {
                continue;
            }
            if std::mem::replace(&mut reached[to], true) {
                lines.push((to, format!("copy,{class},{id},{t_us},{peer},{bytes}")));
            } else {
                let how = if (to + from) % 40 == 0 { "pulled" } else { "pushed" };
                lines.push((to, format!("arrive,{class},{id},{t_us},{peer},{how},{bytes}")));
                lines.push((to, format!("accept,{class},{id},{}", t_us + 900)));
                send(&mut flights, to, from, t_us + 300);
            }
        }
        for (node, line) in lines {
            recorder.record(node, &Event::parse(&line).expect("a good line"));
        }
    }
    for (node, links) in links.iter().enumerate() {
        let mut text = String::new();
        writeln!(text, "mesh,1,transaction,{0}\nmesh,1,block,{0}\nlag,6000000,80,900,4000", links.len()).expect("text");
        writeln!(text, "bytes,4900000,1000,1000,900,900\nbytes,34000000,601000,501000,500900,400900").expect("text");
        text.lines().for_each(|line| recorder.record(node, &Event::parse(line).expect("a good line")));
    }
    let usage = |node| NodeUsage {
        activity: recorder.activity(node, &WINDOW),
        cpu_us: 1_000_000 + node as u64 * 1_000,
        rss_kib_max: 30 * 1_024,
        lost: spec.deaf == Some(node),
    };
    Run {
        manifest: manifest(spec, &topology, &peers),
        deliveries: recorder.deliveries(&WINDOW),
        bounds: topology.bounds(),
        window: WINDOW,
        host: HostLoad { cores: 2, cpu_busy_fraction: 0.5 },
        nodes: (0..spec.nodes).map(usage).collect(),
        ready_s: Some(3.25),
        refused: Vec::new(),
        notes: Vec::new(),
        attackers: Vec::new(),
        passed_on: 0,
        verdict: None,
        partition: None,
        simulation: None,
    }
}

/// A ring with random chords: connected, and about `degree` links for each node.
fn random_links(nodes: usize, degree: usize) -> Vec<Vec<usize>> {
    let mut stream = Stream::new(11, "graph");
    let mut links: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    let ring = (0..nodes).map(|node| (node, (node + 1) % nodes));
    let chords: Vec<_> = (0..nodes * (degree - 2) / 2).map(|_| (stream.index(nodes), stream.index(nodes))).collect();
    for (a, b) in ring.chain(chords) {
        if a != b && !links[a].contains(&b) {
            links[a].push(b);
            links[b].push(a);
        }
    }
    links
}

fn manifest(spec: &Spec, topology: &Topology, peers: &[String]) -> Manifest {
    Manifest {
        format: 1,
        kind: "synthetic".to_owned(),
        version: "0.0.0".to_owned(),
        command: vec!["starling-testnet".to_owned(), "<run>".to_owned()],
        started: "2026-01-02T03:04:05Z".to_owned(),
        seed: 11,
        network: manifest::Network {
            nodes: spec.nodes,
            target_peers: spec.links,
            slot_s: 2.0,
            profile: spec.profile.name().to_owned(),
            network_id: String::new(),
        },
        load: manifest::Load { duration_s: 20.0, tx_rate: 50.0, tx_bytes: 256 },
        host: manifest::Host { system: "Linux".to_owned(), processor: "Test".to_owned(), cores: 2, memory_mib: 4_096 },
        node: (0..spec.nodes)
            .map(|node| manifest::Node {
                name: format!("n{node:02}"),
                region: topology.region_name(node).to_owned(),
                ip: Ipv4Addr::new(127, 1, 0, u8::try_from(node + 1).expect("few nodes")),
                peer_id: peers[node].clone(),
                producer: node < 3,
                last_mile_us: topology.site(node).last_mile_us,
                uplink_bits_per_s: topology.site(node).uplink_bits_per_s,
            })
            .collect(),
    }
}

fn written(run: &Run, name: &str) -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a folder for the run");
    report::write(run, &dir).expect("the run is written");
    dir
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_summary_has_every_field_of_format_1_and_no_other() {
    let run = run(&SMALL());
    let json: serde_json::Value = serde_json::from_str(&Summary::of(&run).to_json()).expect("JSON");
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().expect("an object").keys().map(String::clone).collect()
    };
    let sorted = |names: &str| {
        let mut names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        names.sort();
        names
    };
    let top = "format kind seed nodes profile duration_s host classes socket_bytes cpu_us_per_delivery rss_mib_max ready_s \
               verdict partition";
    assert_eq!(keys(&json), sorted(top));
    assert_eq!(keys(&json["host"]), sorted("cores cpu_busy_fraction saturated"));
    assert_eq!(keys(&json["classes"]), sorted("transaction block"));
    let class = &json["classes"]["transaction"];
    let fields = "published deliveries_expected deliveries coverage latency_ms bound_ms copies_per_delivery \
                  frame_bytes_per_delivery payload_bytes";
    assert_eq!(keys(class), sorted(fields));
    assert_eq!(keys(&class["latency_ms"]), sorted("p50 p90 p99 max"));
    assert_eq!(keys(&class["bound_ms"]), sorted("p50 p99"));
    assert_eq!(json["format"], 1);
    assert_eq!(class["published"], 40);
    assert_eq!(class["deliveries_expected"], 40 * 11);
    assert_eq!(class["coverage"], 1.0);
    assert_eq!(class["payload_bytes"], 380.0);
    assert_eq!(json["classes"]["block"]["published"], 4);
    assert_eq!(json["socket_bytes"], 12 * 500_000);
    assert_eq!(json["rss_mib_max"], 30.0);
    let copies = class["copies_per_delivery"].as_f64().expect("a number");
    let frame_bytes = class["frame_bytes_per_delivery"].as_f64().expect("a number");
    assert!(copies > 1.0 && (frame_bytes - copies * 440.0).abs() < 1e-6, "{copies} copies of 440 bytes: {frame_bytes}");
}

#[test]
fn no_delivery_beats_its_bound_and_a_full_mesh_meets_it() {
    let full = run(&Spec { links: 60, ..SMALL() });
    for class in full.classes().into_iter().flatten() {
        let most_us = HOP_US * 2 + 2_000 + 300;
        for (latency_us, bound_us) in class.latency_us.iter().zip(&class.bound_us) {
            assert!(latency_us > bound_us, "{latency_us} us against a bound of {bound_us} us");
            assert!(latency_us - bound_us <= most_us + 2_000, "{latency_us} us against a bound of {bound_us} us");
        }
    }
}

#[test]
fn a_class_without_messages_is_null() {
    let run = run(&Spec { blocks: 0, ..SMALL() });
    let json: serde_json::Value = serde_json::from_str(&Summary::of(&run).to_json()).expect("JSON");
    assert!(json["classes"]["block"].is_null());
    let page = report::html::page(&run);
    assert_eq!(page.matches("No block was published while the load ran.").count(), 1);
    assert_eq!(page.matches("class=\"card block\"").count(), 1, "nothing but that it was not published");
    let sections = page.matches("<section>").count();
    assert!(sections > 3 && page.matches("class=\"card transaction\"").count() == 1 + sections, "{sections}");
    let both = report::html::page(&self::run(&SMALL()));
    assert_eq!(both.matches("class=\"card block\"").count(), 1 + sections, "each class has its charts");
    assert!(!both.contains("<section>"));
    let neither = report::html::page(&self::run(&Spec { blocks: 0, transactions: 0, ..SMALL() }));
    assert!(neither.contains("No transaction was published while the load ran.") && !neither.contains("<svg"));
}

#[test]
fn the_folder_of_a_complete_run_is_complete() {
    let run = run(&SMALL());
    assert!(run.is_complete());
    let dir = written(&run, "complete");
    let csv = read(&dir, "deliveries.csv");
    assert_eq!(csv.lines().next(), Some("message,class,origin,node,t0,arrival,accepted,from,hops,how,copies"));
    assert_eq!(csv.lines().count(), 1 + 44 * 11);
    assert!(csv.lines().all(|line| line.split(',').count() == 11));
    assert_eq!(read(&dir, "nodes.csv").lines().count(), 1 + 12);
    assert!(!dir.join("missing.csv").exists() && !dir.join("refused.txt").exists());
    let manifest: toml::Table = read(&dir, "manifest.toml").parse().expect("TOML");
    assert_eq!(manifest["seed"].as_integer(), Some(11));
    assert_eq!(manifest["node"].as_array().map(Vec::len), Some(12));
    assert!(terminal::complaints(&run).is_empty());
    assert!(terminal::figures(&run).contains("100 %"));
}

/// The CSV is enough to compute the summary anew.
#[test]
fn the_summary_can_be_recomputed_from_the_deliveries() {
    let run = run(&SMALL());
    let csv = report::tables::deliveries(&run);
    let mut latencies_us: Vec<u64> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|fields| fields[1] == "transaction")
        .map(|fields| fields[5].parse::<u64>().expect("arrival") - fields[4].parse::<u64>().expect("t0"))
        .collect();
    latencies_us.sort_unstable();
    let json: serde_json::Value = serde_json::from_str(&Summary::of(&run).to_json()).expect("JSON");
    let p99_us = latencies_us[(latencies_us.len() * 99).div_ceil(100) - 1];
    let p99_ms = json["classes"]["transaction"]["latency_ms"]["p99"].as_f64().expect("a number");
    assert!((p99_ms * 1e3 - p99_us as f64).abs() < 1e-6);
}

#[test]
fn missing_deliveries_are_named() {
    let run = run(&Spec { deaf: Some(7), ..SMALL() });
    assert!(!run.is_complete());
    let complaints = terminal::complaints(&run).join("\n");
    assert!(complaints.contains("transaction deliveries are missing:"), "{complaints}");
    assert!(complaints.contains("did not reach n07"), "{complaints}");
    assert!(complaints.contains("more, in missing.csv"), "{complaints}");
    let dir = written(&run, "missing");
    let missing = read(&dir, "missing.csv");
    assert!(missing.lines().skip(1).all(|line| line.split(',').nth(3) == Some("n07")), "{missing}");
    let page = read(&dir, "report.html");
    assert!(page.contains("verdict bad\">Not every message reached every node over the mesh."));
    assert!(page.contains("did not reach n07"));
    let judged = Run { verdict: Some(Verdict::new(true, Vec::new())), ..run };
    let page = report::html::page(&judged);
    assert!(
        page.contains("every node that ran has every transaction in the end") && page.contains("did not reach n07")
    );
    assert!(!page.contains("verdict bad"), "a run that ended well is no bad news");
    assert!(terminal::figures(&judged).contains("every node that ran has every transaction in the end"));
    let verdict = Some(Verdict::new(false, vec!["there are 2 different heads at height <7>".to_owned()]));
    let page = report::html::page(&Run { verdict, ..judged });
    assert!(
        page.contains("verdict bad\">there are 2 different heads at height &lt;7&gt;<"),
        "what is wrong is on the page"
    );
}

/// The same run, if it had been simulated.
fn simulated(run: Run) -> Run {
    let simulation = Simulation {
        trace_hash: "00".to_owned(),
        events: 1,
        events_per_s: 1.0,
        computed_s: 1.0,
        resident_mib_max: 1.0,
    };
    Run { simulation: Some(simulation), ..run }
}

/// What took no time that can be measured would have been computed at any speed.
#[test]
fn nothing_is_said_of_the_speed_of_the_smallest_runs() {
    for (computed_s, said, speed) in [
        (0.0, "436 engine events in less than 0.1 s\n", 0.0),
        (0.009, "436 engine events in less than 0.1 s\n", 0.0),
        (0.02, "436 engine events in less than 0.1 s, 0.02 million a second\n", 21_800.0),
        (4.0, "436 engine events in 4.0 s, 0.02 million a second\n", 21_800.0),
    ] {
        let run = simulated(run(&SMALL()));
        let simulation = run.simulation.clone().map(|it| Simulation {
            events: 436,
            computed_s,
            events_per_s: if computed_s < 0.01 { 4.36e11 } else { 21_800.0 },
            ..it
        });
        let run = Run { simulation, ..run };
        let figures = terminal::figures(&run);
        assert!(figures.contains(said), "{figures}");
        assert_eq!(summary(&run)["events_per_s"], speed);
        assert!(report::html::page(&run).contains(said.trim_end().split(',').next().unwrap_or_default()));
    }
}

#[test]
fn what_came_later_with_the_chain_is_told_from_what_never_came() {
    let run = run(&Spec { deaf: Some(7), ..SMALL() });
    let mut messages = run.deliveries.messages().to_vec();
    let missing: Vec<_> = run.deliveries.missing().map(|(message, ..)| message.id).collect();
    let transactions = messages.iter_mut().filter(|message| message.class == Class::Transaction);
    for message in transactions.filter(|message| missing.contains(&message.id)).take(5) {
        message.receptions[7].had_in_the_end = true;
    }
    let deliveries = Deliveries::new(run.deliveries.nodes(), messages, WINDOW.drain_end_us, 0);
    let run = simulated(Run { deliveries, ..run });
    let csv = report::tables::missing(&run);
    assert_eq!(csv.lines().filter(|line| line.ends_with(",later")).count(), 5, "{csv}");
    assert_eq!(csv.lines().filter(|line| line.ends_with(",no")).count(), missing.len() - 5);
    let figures = terminal::figures(&run);
    let row = figures.lines().find(|line| line.contains("later, with the chain")).expect("a row of its own");
    assert_eq!(row.split('┆').nth(1).map(str::trim), Some("5"), "{figures}");
    assert_eq!(terminal::complaints(&run).join("\n").matches("(it came later, with the chain)").count(), 5);
}

#[test]
fn charts_say_what_did_not_come() {
    let whole = report::html::page(&run(&SMALL()));
    assert!(!whole.contains("of those expected did not come"));
    let page = report::html::page(&run(&Spec { deaf: Some(7), ..SMALL() }));
    assert!(page.contains("of those expected did not come over the mesh"));
    assert!(!page.contains("Share of expected deliveries"), "quantiles are of what came");
    assert!(page.contains("class=\"dot unreached\"") && page.contains("<i class=\"unreached\"></i>"), "with a legend");
    assert!(page.contains("Time since the load began (s)"));
}

/// Nobody has half of a message, and nothing comes between two arrivals: all curves of a run are level or upright.
#[test]
fn no_curve_slants() {
    let page = report::html::page(&run(&Spec { deaf: Some(7), ..SMALL() }));
    for kind in ["line", "band"] {
        let mark = format!("<path class=\"{kind} ");
        let paths = page.split(&mark).skip(1).filter_map(|path| path.split(" d=\"M").nth(1)?.split(['"', 'Z']).next());
        let paths: Vec<&str> = paths.collect();
        assert!(paths.len() >= 4, "{kind}: {}", paths.len());
        for path in paths {
            let points: Vec<_> = path.split('L').filter_map(|point| point.split_once(' ')).collect();
            let slants = |ends: &&[(&str, &str)]| ends[0].0 != ends[1].0 && ends[0].1 != ends[1].1;
            assert_eq!(points.windows(2).find(slants), None, "{kind}: {path}");
        }
    }
}

#[test]
fn without_a_bound_there_is_no_multiple() {
    let page = report::html::page(&run(&Spec { profile: Profile::loopback(), ..SMALL() }));
    assert!(!page.contains("- the bound") && !page.contains(", -<"));
    let page = report::html::page(&run(&SMALL()));
    assert!(page.contains(" x the bound of "));
}

#[test]
fn when_the_mesh_was_ready_is_said_as_it_was() {
    let ready = |ready_s| simulated(Run { ready_s, ..run(&SMALL()) }).ready();
    assert_eq!(ready(Some(3.25)), "after 3.2 s");
    assert_eq!(ready(Some(76.75)), "after 76.8 s, when the load had already begun at 5.0 s");
    assert_eq!(ready(None), "never before the end");
    let never = Run { ready_s: None, ..run(&SMALL()) };
    assert!(summary(&never)["ready_s"].is_null());
}

fn summary(run: &Run) -> serde_json::Value {
    serde_json::from_str(&Summary::of(run).to_json()).expect("JSON")
}

#[test]
fn programs_are_told_the_verdict_where_there_is_one() {
    let without = summary(&run(&SMALL()));
    assert!(without["verdict"].is_null() && without["partition"].is_null(), "{without}");
    let verdict = Some(Verdict::new(true, vec!["something is wrong".to_owned()]));
    let partition = Some(Partition { healed_at_s: Some(40.0), one_head_after_s: None });
    let with = summary(&Run { verdict, partition, ..run(&SMALL()) });
    let verdict = serde_json::json!({ "good": false, "one_chain": true, "findings": ["something is wrong"] });
    assert_eq!(with["verdict"], verdict);
    assert_eq!(with["partition"], serde_json::json!({ "healed_at_s": 40.0, "one_head_after_s": null }));
}

#[test]
fn the_head_of_the_page_has_no_endless_numbers() {
    let mut run = run(&SMALL());
    run.manifest.load.tx_rate = 8.458_333_333_333_334;
    let page = report::html::page(&run);
    assert!(page.contains("8.46 transactions of 256 B payload a second"), "rounded");
}

#[test]
fn a_saturated_host_is_stated_everywhere() {
    let mut run = run(&SMALL());
    assert!(run.saturation().is_none());
    run.host.cpu_busy_fraction = 0.851;
    assert!(run.is_saturated() && terminal::figures(&run).contains("saturated: 85.1 % busy"));
    assert!(report::html::page(&run).contains("The host was saturated"));
    assert!(!run.saturation().expect("saturated").contains("lag"), "only what is too much is named");
    run.host.cpu_busy_fraction = 0.2;
    run.nodes[5].activity.lag_p99_us = Some(5_001);
    assert!(run.is_saturated(), "one node that cannot keep up is enough");
    let cause = run.saturation().expect("saturated");
    assert!(cause.starts_with("The host was saturated: an event-loop lag of ") && !cause.contains("busy"), "{cause}");
    run.nodes[5].activity.lag_p99_us = Some(5_000);
    assert!(!run.is_saturated());
}

#[test]
fn the_page_needs_no_network_and_lets_no_text_out() {
    let page = read(&written(&run(&SMALL()), "page"), "report.html");
    for address in ["http:", "https:", "//", "@import", "url("] {
        // The only double slash allowed starts a comment of the script.
        let allowed = page.matches("\n// ").count();
        let found = page.matches(address).count();
        assert!(found == 0 || (address == "//" && found == allowed), "the page refers to {address}");
    }
    assert!(!page.contains("src=") && !page.contains("<link"));
    assert!(page.contains("&lt;run&gt;") && !page.contains("<run>"));
    assert_eq!(page.matches("<svg").count(), 10, "five charts for each class");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(!page.contains("NaN") && !page.contains("inf "), "every coordinate is a number");
}

/// The largest page that the tests make, also for looking at: `target/tmp/large/report.html`.
#[test]
fn a_large_run_makes_a_page_of_bearable_size() {
    let spec = Spec { profile: Profile::wan(), nodes: 64, links: 10, transactions: 400, blocks: 10, deaf: None };
    let dir = written(&run(&spec), "large");
    let bytes = fs::metadata(dir.join("report.html")).expect("written").len();
    assert!(bytes < 2_000_000, "{bytes} bytes");
}
