//! The rows of the table with attackers in them. What each attacker does is told by [`super::KINDS`].

use super::demand::Demand;
use super::engines;
use super::experiment::{Experiment, Study};
use super::table::{BASELINE, Case, Fate, Row, Scale, network, plain};
use super::{Attackers, Targets};
use crate::sim::{Engine, Pace, Scenario, Wiring};
use starling_protocol::time::{Duration, Time};

const LOSERS: &[(Engine, Fate)] = &[
    (engines::GOSSIPSUB_1_0, Fate::Loses),
    (engines::SQUARE_ROOT_PUSH, Fate::Loses),
    (engines::FLOODSUB, Fate::DeliversAtGreatCost),
];

/// The rows. The baseline is the first one, because others are measured by it.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: BASELINE,
        about: "no attack",
        demands: &[Demand::Everything, Demand::P99Ms(130.0), Demand::MaxMs(200.0), Demand::CopiesTimesDegree(1.1)],
        cases: |scale, seed| vec![plain(scale.attacked(seed, 0, Vec::new()))],
        controls: &[],
    },
    Row {
        name: "eclipse-network",
        about: "four silent sybils for each node come in the middle, with 100 connections each",
        demands: &[Demand::Everything, Demand::P99Times(1.1)],
        cases: |scale, seed| vec![plain(later(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 100)))],
        controls: &[],
    },
    Row {
        name: "eclipse-publishers",
        about: "four silent sybils for each node come in the middle, and connect with publishers only",
        demands: &[Demand::Everything, Demand::P99Times(1.1)],
        cases: |scale, seed| {
            let publishers = Targets::Named("publishers".into());
            vec![plain(later(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 100).aimed(publishers)))]
        },
        controls: &[],
    },
    Row {
        name: "eclipse-node",
        about: "as many silent sybils as there are nodes connect with one node in the middle",
        demands: &[Demand::Everything, Demand::VictimLinks(2)],
        cases: |scale, seed| {
            let sybils = Attackers::new("sybil", scale.nodes, 1).aimed(Targets::Nodes(vec![0]));
            vec![plain(Experiment { victim: Some(0), ..later(scale, seed, sybils) })]
        },
        controls: &[],
    },
    Row {
        name: "censor",
        about: "two sybils for each node forward all but what one node publishes",
        demands: &[Demand::Everything, Demand::P99Times(1.2), Demand::VictimP99Times(1.2)],
        cases: |scale, seed| {
            let censors = Attackers::new("censor", scale.per_node(2.0), 20);
            vec![plain(Experiment { victim: Some(0), ..later(scale, seed, censors) })]
        },
        controls: &[],
    },
    Row {
        name: "degrade",
        about: "two sybils for each node drop a share of the messages",
        demands: &[Demand::Everything, Demand::P99Times(1.5)],
        cases: |scale, seed| {
            let drops = [("25 %", 0.25), ("50 %", 0.5), ("90 %", 0.9)];
            let sybils = |drop| Attackers::new("sybil", scale.per_node(2.0), 20).with("drop", drop);
            drops.map(|(label, drop)| network(label, later(scale, seed, sybils(drop)))).into()
        },
        controls: &[],
    },
    Row {
        name: "cold-boot",
        about: "four silent sybils for each node come together with the honest nodes, with 20 connections each",
        demands: &[Demand::Everything, Demand::P99Ms(180.0), Demand::HardMaxMs(1_000.0)],
        cases: |scale, seed| {
            vec![plain(scale.attacked(seed, 0, vec![Attackers::new("sybil", scale.per_node(4.0), 20)]))]
        },
        controls: LOSERS,
    },
    Row {
        name: "covert-flash",
        about: "four sybils for each node come together with the honest nodes, behave at first, and then all fall silent at once",
        demands: &[Demand::Everything, Demand::P99Ms(250.0), Demand::HardMaxMs(1_000.0), Demand::HealedBeats(30.0)],
        cases: |scale, seed| vec![plain(turning(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 20)))],
        controls: LOSERS,
    },
    Row {
        name: "dawn",
        about: "four silent sybils for each node are there first; honest nodes connect later",
        demands: &[Demand::Everything, Demand::HardMaxMs(1_000.0)],
        cases: |scale, seed| {
            let case = |(label, late_s): (&'static str, u64)| {
                let sybils = Attackers::new("sybil", scale.per_node(4.0), 20);
                let mut experiment = scale.attacked(seed, 0, vec![sybils]);
                experiment.scenario.connect_from = Duration::from_secs(late_s);
                experiment.scenario.warm_up += Duration::from_secs(late_s);
                network(label, experiment)
            };
            vec![case(("first late", scale.late_s[0])), case(("second late", scale.late_s[1]))]
        },
        controls: &[],
    },
    Row {
        name: "first-comers",
        about: "four sybils for each node take all places for others before anybody else connects, with 100 connections each",
        demands: &[Demand::Everything],
        cases: |scale, seed| {
            let case = |(label, kind)| {
                let attackers = Attackers::new(kind, scale.per_node(4.0), 100);
                network(label, scale.attacked(seed, scale.warm_up_s, vec![attackers]))
            };
            [("silent", "sybil"), ("mirrors", "mirror")].map(case).into()
        },
        controls: &[],
    },
    Row {
        name: "found-sybils",
        about: "four sybils for each node come together with honest nodes that find each other: of five peers that a lookup names four are attackers",
        demands: &[Demand::Everything],
        cases: |scale, seed| {
            let case = |(label, kind)| {
                let mut experiment = scale.attacked(seed, 0, vec![Attackers::new(kind, scale.per_node(4.0), 20)]);
                experiment.scenario.wiring = found();
                network(label, experiment)
            };
            [("silent", "sybil"), ("mirrors", "mirror"), ("colluding", "collude")].map(case).into()
        },
        controls: &[],
    },
    Row {
        name: "equivocation",
        about: "one of four producers makes two blocks for each of its slots and sends each to half of its peers",
        demands: &[Demand::Everything, Demand::OneChain { equivocated: true }, Demand::ChainGrows(60.0)],
        cases: |scale, seed| vec![plain(with_producer(scale, seed, "equivocate"))],
        controls: &[],
    },
    Row {
        name: "misplaced-blocks",
        about: "one of four producers gives half of its peers a block and the others one that follows it and cannot, which these pass on without knowing",
        demands: &[
            Demand::Everything,
            Demand::OneChain { equivocated: true },
            Demand::ChainGrows(60.0),
            Demand::NobodyBlamed,
        ],
        // A block cannot be higher than its slot: some slots have to be empty before.
        cases: |scale, seed| {
            let mut experiment = with_producer(scale, seed, "misplace");
            experiment.attackers[0].at_s = scale.warm_up_s as f64;
            vec![plain(experiment)]
        },
        controls: &[],
    },
    Row {
        name: "colocation",
        about: "four sybils for each node, 160 to an address, come together with the honest nodes with 100 connections each, and do their part",
        demands: &[Demand::Everything, Demand::PerIp(5)],
        cases: |scale, seed| {
            // Who does its part is put out of no mesh for anything but its address.
            let sybils = Attackers::new("sybil", scale.per_node(4.0), 100).with("drop", 0.0);
            let sybils = Attackers { per_ip: 160, ..sybils };
            vec![plain(scale.attacked(seed, 0, vec![sybils]))]
        },
        controls: &[],
    },
    Row {
        name: "withhold-blocks",
        about: "a sybil for each node is good on transactions and silent on blocks (CVE-2022-47547), of which there is one in one second or in two; it dials, or is found and dialled",
        demands: &[Demand::Everything, Demand::OutOfBlocksWithinS(60.0)],
        cases: |scale, seed| {
            let case = |label, slot_s, wiring: Option<Wiring>| {
                let mut experiment = scale.attacked(seed, 0, vec![Attackers::new("withhold", scale.nodes, 20)]);
                let scenario = &mut experiment.scenario;
                scenario.wiring = wiring.unwrap_or(scenario.wiring.clone());
                scenario.producers = 3;
                scenario.slot = Duration::from_secs(slot_s);
                scenario.workloads[0].pace = Pace::Constant { messages_per_ks: scale.messages_per_ks / 10 };
                scenario.duration = scenario.duration.max(Duration::from_secs(90 * slot_s));
                // Ends between two blocks.
                scenario.drain = Duration::from_millis(9_800);
                network(label, experiment)
            };
            vec![
                case("slots of 1 s", 1, None),
                case("slots of 2 s", 2, None),
                case("found and dialled, slots of 2 s", 2, Some(found())),
            ]
        },
        controls: &[],
    },
    persistent(
        "mirror",
        "four sybils for each node, with 100 connections each, send messages back to whom they came from",
        |scale, seed| vec![plain(many(scale, seed, Attackers::new("mirror", scale.per_node(4.0), 100)))],
    ),
    Row {
        name: "collusion",
        about: "four sybils for each node, with 100 connections each, bring nothing but what they see that they are tried by",
        demands: &[Demand::Everything, Demand::P99Times(1.5)],
        cases: |scale, seed| vec![plain(many(scale, seed, Attackers::new("collude", scale.per_node(4.0), 100)))],
        controls: &[],
    },
    persistent(
        "slip-away",
        "sybils bring nothing, and leave each mesh and ask for their places again: four for each node with 100 connections each do so three times a second, four of five peers that nodes find and dial every 2 s",
        |scale, seed| {
            // Longer than a trial, and shorter than one that says nothing is awaited.
            let mut dialled = many(scale, seed, Attackers::new("slip", scale.per_node(4.0), 20).with("every_s", 2.0));
            dialled.scenario.wiring = found();
            vec![
                network("they dial", many(scale, seed, Attackers::new("slip", scale.per_node(4.0), 100))),
                network("found and dialled", dialled),
            ]
        },
    ),
    persistent(
        "slow-drip",
        "four sybils for each node, with 100 connections each, forward one message of twenty",
        |scale, seed| {
            vec![plain(many(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 100).with("drop", 0.95)))]
        },
    ),
    persistent(
        "score-banking",
        "four sybils for each node, with 100 connections each, forward everything for a while and then nothing",
        |scale, seed| vec![plain(banking(scale, seed, Attackers::new("sybil", scale.per_node(4.0), 100).at_s(SOON_S)))],
    ),
    persistent(
        "fast-then-withhold",
        "four sybils for each node, with 100 connections each, forward everything before anybody else for a while and then nothing",
        |scale, seed| {
            vec![plain(banking(scale, seed, Attackers::new("outrun", scale.per_node(4.0), 100).at_s(SOON_S)))]
        },
    ),
    Row {
        name: "whitewashing",
        about: "four silent sybils for each node, with 100 connections each, come again under new ids every 20 s to the end",
        // No place can last longer than a life, so what is judged beside delivery is what new ids gain: the places of all of them together.
        demands: &[Demand::Everything, Demand::P99Times(1.5), Demand::HealedS(120.0)],
        cases: |scale, seed| {
            let sybils = Attackers::new("whitewash", scale.per_node(4.0), 100).with("life_s", WHITEWASHED_S);
            let mut experiment = many(scale, seed, sybils);
            let ends_s = experiment.scenario.end().since(Time::ZERO).as_secs_f64();
            for sybils in &mut experiment.attackers {
                sybils.params.insert("lives".to_owned(), ((ends_s - sybils.at_s) / WHITEWASHED_S).ceil());
            }
            vec![plain(experiment)]
        },
        controls: &[],
    },
    persistent(
        "announce-only",
        "a sybil for each node, with 100 connections, announces everything first and delivers nothing",
        |scale, seed| vec![plain(many(scale, seed, Attackers::new("announce", scale.per_node(1.0), 100)))],
    ),
    Row {
        name: "invalid-messages",
        about: "three of ten peers of each node send 4,000 messages a second that are not valid, or 400 that conflict, and are back 2 s after they were thrown out",
        demands: &[
            Demand::Everything,
            Demand::P99Times(1.2),
            Demand::Rejected(3),
            Demand::Verified(3),
            Demand::GoneWithinS(10.0),
        ],
        cases: |scale, seed| {
            let at_line_rate = |kind| spammers(scale, kind, LINE_RATE_PER_S);
            let conflicting = spammers(scale, "conflict", LINE_RATE_PER_S / 10.0);
            let case =
                |label, kind| network(label, spammed(scale, seed, at_line_rate(kind).at_s(scale.attack_s as f64)));
            let banked = at_line_rate("invalid").with("turn_s", scale.attack_s as f64);
            vec![
                case("bad signature", "invalid"),
                network("bad signature after good service", spammed(scale, seed, banked)),
                case("garbage", "garbage"),
                network("conflicting", spammed(scale, seed, conflicting.at_s(scale.attack_s as f64))),
            ]
        },
        controls: &[],
    },
    Row {
        name: "forged-blocks",
        about: "three of ten peers of each node send 4,000 blocks a second under the name of whose turn it is, and are back 2 s after they were thrown out",
        demands: &[
            Demand::Everything,
            Demand::OneChain { equivocated: false },
            Demand::ChainGrows(90.0),
            Demand::HonestKept,
            Demand::Rejected(3),
            Demand::Verified(3),
            Demand::GoneWithinS(10.0),
        ],
        cases: |scale, seed| {
            let forgers = spammers(scale, "forge", LINE_RATE_PER_S).at_s(scale.attack_s as f64);
            let mut experiment = spammed(scale, seed, forgers);
            experiment.study = Study::Agreement;
            with_blocks(scale, &mut experiment.scenario, 4);
            vec![plain(experiment)]
        },
        controls: &[],
    },
    Row {
        name: "floods",
        about: "two peers of each node send ten times what a heartbeat allows, without end",
        demands: &[Demand::Everything, Demand::P99Times(1.2), Demand::AtMostMiB(16.0)],
        cases: |scale, seed| {
            let flooders = |kind| vec![Attackers::new(kind, scale.per_node(0.1), 20).at_s(scale.warm_up_s as f64)];
            let kinds = ["ihave", "iwant", "idontwant", "graft", "subscribe", "exchange"];
            let case = |kind| {
                let mut experiment = scale.attacked(seed, scale.warm_up_s, flooders(kind));
                // What does not pile up in so long does not pile up.
                experiment.scenario.duration = Duration::from_secs(scale.load_s.min(30));
                network(kind, experiment)
            };
            kinds.map(case).into()
        },
        controls: &[],
    },
    Row {
        name: "stale-messages",
        about: "two peers of each node send old messages again, transactions that have expired, or all that they have stamped",
        demands: &[Demand::Everything, Demand::P99Times(1.2), Demand::Spammed],
        cases: |scale, seed| {
            let spammers = |kind| Attackers::new(kind, scale.per_node(0.1), 20).at_s(scale.attack_s as f64);
            let case = |label, attackers| network(label, scale.attacked(seed, scale.attack_s, vec![attackers]));
            // Of messages of this age there are some for most of the run.
            let replayed = spammers("replay").with("age_s", (scale.load_s / 4) as f64);
            vec![
                case("replayed", replayed),
                case("expired", spammers("expired")),
                case("stamped beforehand", spammers("ground")),
            ]
        },
        controls: &[],
    },
];

/// Three of ten peers of each node, who are back soon after they were thrown out.
fn spammers(scale: &Scale, kind: &str, per_s: f64) -> Attackers {
    Attackers::new(kind, scale.per_node(0.85), 20).with("per_s", per_s).with("redial_s", 2.0)
}

/// What they send does not get worse with time, so they are not watched for long.
fn spammed(scale: &Scale, seed: u64, spammers: Attackers) -> Experiment {
    let mut experiment = scale.attacked(seed, scale.attack_s, vec![spammers]);
    experiment.scenario.duration = Duration::from_secs(scale.attack_s - scale.warm_up_s + 20);
    experiment
}

/// A network in which one of four producers is an attacker of this kind, connected with 40 nodes.
fn with_producer(scale: &Scale, seed: u64, kind: &str) -> Experiment {
    let mut experiment = scale.attacked(seed, scale.warm_up_s, vec![Attackers::new(kind, 1, 40)]);
    experiment.study = Study::Agreement;
    with_blocks(scale, &mut experiment.scenario, 3);
    experiment.scenario.absent_producers = 1;
    experiment
}

/// Has so many nodes make blocks, one a second, of a quarter of the usual load.
fn with_blocks(scale: &Scale, scenario: &mut Scenario, producers: usize) {
    scenario.producers = producers;
    scenario.slot = Duration::from_secs(1);
    scenario.workloads[0].pace = Pace::Constant { messages_per_ks: scale.messages_per_ks / 4 };
    // Ends between two blocks.
    scenario.drain = Duration::from_millis(9_800);
}

/// Nodes that find each other: they find attackers, too, and dial them.
pub(super) fn found() -> Wiring {
    Wiring::Discovered { bootnodes: 3, target_peers: 40 }
}

/// For how long a sybil goes by one id.
const WHITEWASHED_S: f64 = 20.0;

/// Messages of 300 bytes that a line of 10 Mbit/s carries in a second.
const LINE_RATE_PER_S: f64 = 4_000.0;

/// A row of attackers that try to stay in meshes. They seek ten connections for each honest link; a node has room for some of them.
const fn persistent(name: &'static str, about: &'static str, cases: fn(&Scale, u64) -> Vec<Case>) -> Row {
    Row { name, about, demands: &[Demand::Everything, Demand::OutWithinS(120.0)], cases, controls: &[] }
}

/// Attackers that come while the load runs.
fn later(scale: &Scale, seed: u64, attackers: Attackers) -> Experiment {
    scale.attacked(seed, scale.attack_s, vec![attackers.at_s(scale.attack_s as f64)])
}

/// When attackers come that would otherwise take all the places that nodes have for others before honest nodes are connected: who is first is
/// another attack.
const SOON_S: f64 = 3.0;

/// Attackers that come when the honest nodes are connected, seen for longer than they may stay.
fn many(scale: &Scale, seed: u64, attackers: Attackers) -> Experiment {
    let mut experiment = scale.attacked(seed, scale.warm_up_s, vec![attackers.at_s(SOON_S)]);
    experiment.scenario.duration = experiment.scenario.duration.max(Duration::from_secs(130));
    experiment.scenario.workloads[0].pace = Pace::Constant { messages_per_ks: scale.messages_per_ks / 4 };
    experiment
}

/// Attackers that behave at first and turn later, seen for longer than they may stay.
fn banking(scale: &Scale, seed: u64, attackers: Attackers) -> Experiment {
    // As long as it takes to be known as useful.
    let turn_s = scale.attack_s.max(scale.warm_up_s + 30);
    let scale = Scale { turn_s, long_load_s: turn_s - scale.warm_up_s + 130, ..*scale };
    let mut experiment = turning(&scale, seed, attackers);
    experiment.scenario.workloads[0].pace = Pace::Constant { messages_per_ks: scale.messages_per_ks / 4 };
    experiment
}

/// Attackers that behave at first and turn later.
fn turning(scale: &Scale, seed: u64, attackers: Attackers) -> Experiment {
    let attackers = attackers.with("turn_s", scale.turn_s as f64);
    let mut experiment = scale.attacked(seed, scale.turn_s, vec![attackers]);
    experiment.scenario.duration = Duration::from_secs(scale.long_load_s);
    experiment
}
