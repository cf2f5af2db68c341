//! The rows of the table in which nobody attacks but something goes wrong, and those that take a network of another kind.

use super::Attackers;
use super::attackers::Targets;
use super::attacks::found;
use super::demand::Demand;
use super::experiment::{Experiment, Study};
use super::table::{Case, Row, Scale, Trial, network, plain};
use crate::sim::faults::Action;
use crate::sim::{Pace, Publishers, Wiring};
use crate::wan::Stream;
use starling_protocol::time::{Duration, Time};

/// The rows.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "ten-thousand",
        about: "no attack, 10,000 nodes, 10 messages a second for half a minute; full table only",
        demands: &[Demand::Everything, Demand::P99Ms(170.0)],
        cases: |scale, seed| if scale.relative { Vec::new() } else { vec![plain(large(scale, seed))] },
        controls: &[],
    },
    Row {
        name: "poisoned-restart",
        about: "victims whose address books name four attackers for each honest node, and whose places for others are all taken by attackers, are started again and again",
        demands: &[Demand::Eclipsed(1.0)],
        cases: |scale, seed| restarts(scale, seed, &Restarts::victims(scale)),
        controls: &[],
    },
    Row {
        name: "poisoned-network",
        about: "all nodes are started again at once, each with an address book that names four attackers for each honest node: who comes back finds everybody's places taken",
        demands: &[Demand::EclipsedLong(1.0)],
        cases: |scale, seed| restarts(scale, seed, &Restarts::everybody(scale)),
        controls: &[],
    },
    Row {
        name: "misled",
        about: "nodes that have missed blocks come back, and of five peers that they find four claim a long chain and do not give it, while they do their part in everything else",
        demands: &[Demand::Everything, Demand::CaughtUpS(60.0)],
        cases: |scale, seed| {
            let case = |(label, kind)| network(label, misled(scale, seed, kind));
            [("busy", "stall"), ("a header at a time", "sip"), ("headers without blocks", "mute")].map(case).into()
        },
        controls: &[],
    },
    Row {
        name: "partition",
        about: "two halves do not reach each other for 10 min, with producers in both",
        // Either half has half of the producers.
        demands: &[Demand::OneHeadS(10.0), Demand::PendingSlots(2.0), Demand::ChainGrows(40.0)],
        cases: |scale, seed| {
            let given = Wiring::Random { degree: 40 };
            let case = |(label, wiring)| network(label, partition(scale, seed, wiring));
            [("links that are given", given), ("links that are found", found())].map(case).into()
        },
        controls: &[],
    },
    Row {
        name: "churn",
        about: "a quarter of the nodes are killed in a minute and come back 10 s later, while 5 % of segments are lost",
        // More than is demanded, which is 99.99 % pushed and the others within that time.
        demands: &[Demand::Everything, Demand::HardMaxMs(5_000.0)],
        cases: |scale, seed| vec![plain(churn(scale, seed))],
        controls: &[],
    },
    Row {
        name: "starved",
        about: "a tenth of the nodes stand still for up to 3 s again and again, and now and then one of the others stops for ever",
        demands: &[Demand::FewerSuspicions(100.0), Demand::CrashesFoundS(5.0)],
        cases: |scale, seed| vec![plain(starved(scale, seed))],
        controls: &[],
    },
    Row {
        name: "false-prunes",
        about: "nobody attacks; a transaction and a block every two seconds, and 2 % of segments are lost",
        demands: &[Demand::FalsePrunes(0.001)],
        // 201 times 60 nodes for 6 h are 3015 node-days, enough to say so if nothing is found.
        cases: |scale, seed| vec![Case { repeats: if scale.relative { 1 } else { 201 }, ..plain(quiet(scale, seed)) }],
        controls: &[],
    },
    Row {
        name: "malformed",
        about: "bytes that mean nothing, into every decoder and state machine",
        demands: &[Demand::NoPanic],
        cases: |scale, seed| {
            let inputs = if scale.relative { 10_000 } else { 1_000_000 };
            vec![Case { label: "", trial: Trial::Decoders { inputs, seed }, repeats: 1 }]
        },
        controls: &[],
    },
];

/// Nodes of the large network, and of the quiet ones.
const LARGE: usize = 10_000;
const QUIET: usize = 60;

fn large(scale: &Scale, seed: u64) -> Experiment {
    let scale = Scale { nodes: LARGE, messages_per_ks: 10_000, warm_up_s: 15, load_s: 30, ..*scale };
    scale.attacked(seed, 0, Vec::new())
}

/// When the first node is started again, in seconds, and since when there are messages then.
const RESTARTS_FROM_S: u64 = 40;
const MESSAGES_FROM_S: u64 = 10;

/// Who is started again among attackers.
struct Restarts {
    /// Whom all attackers connect with.
    victims: Vec<u32>,
    /// How often each of them is started again.
    rounds: u64,
    /// For how long the nodes are looked at after the last start.
    looked_at_s: u64,
}

impl Restarts {
    /// A tenth of the nodes. In the full table so often that one in a hundred can be told.
    fn victims(scale: &Scale) -> Self {
        let victims: Vec<u32> = (0..number(scale.nodes)).step_by(10).collect();
        let starts: u64 = if scale.relative { 120 } else { 400 };
        let rounds = starts.div_ceil(victims.len() as u64);
        Self { victims, rounds, looked_at_s: 35 }
    }

    fn everybody(scale: &Scale) -> Self {
        Self { victims: (0..number(scale.nodes)).collect(), rounds: 1, looked_at_s: 125 }
    }

    /// One after the other within a minute, in each round.
    fn experiment(&self, scale: &Scale, seed: u64, messages_from_s: u64, turn_s: f64) -> Experiment {
        const DOWN: Duration = Duration::from_secs(5);
        const ROUND_MS: u64 = 60_000;
        let sybils = Attackers::new("sybil", scale.per_node(4.0), 100).at_s(5.0).with("turn_s", turn_s);
        let sybils = sybils.aimed(Targets::Nodes(self.victims.clone()));
        let mut experiment = scale.attacked(seed, RESTARTS_FROM_S, vec![sybils]);
        let scenario = &mut experiment.scenario;
        scenario.wiring = found();
        scenario.warm_up = Duration::from_secs(messages_from_s);
        let restarts = Duration::from_millis(ROUND_MS * self.rounds);
        scenario.duration = Duration::from_secs(RESTARTS_FROM_S - messages_from_s + self.looked_at_s) + restarts;
        scenario.workloads[0].pace = Pace::Constant { messages_per_ks: scale.messages_per_ks / 4 };
        let mut starts = Vec::new();
        let count = self.victims.len() as u64;
        for (turn, node) in (0..count * self.rounds).zip(self.victims.iter().cycle()) {
            let at = Time::from_secs(RESTARTS_FROM_S) + Duration::from_millis(ROUND_MS * turn / count);
            // Every other one is killed: what it has not written yet is lost.
            scenario.faults.push((at, if turn % 2 == 0 { Action::Stop(*node) } else { Action::Kill(*node) }));
            scenario.faults.push((at + DOWN, Action::Start(*node)));
            starts.push((*node, at + DOWN));
        }
        in_order(&mut scenario.faults);
        experiment.study = Study::Restarts(starts);
        experiment
    }
}

/// Among attackers that are silent all the time, among such as serve until the first restart and so are known as useful, and where no message is sent
/// before it, so that nobody has proven useful.
fn restarts(scale: &Scale, seed: u64, who: &Restarts) -> Vec<Case> {
    let turn_s = RESTARTS_FROM_S as f64;
    let cases = [
        ("silent", MESSAGES_FROM_S, 0.0),
        ("of good service before", MESSAGES_FROM_S, turn_s),
        ("where nobody was of use before", RESTARTS_FROM_S, 0.0),
    ];
    let case = |(label, from_s, turn_s)| network(label, who.experiment(scale, seed, from_s, turn_s));
    cases.map(case).into()
}

/// A tenth of the nodes are down for half a minute, and come back one after the other.
fn misled(scale: &Scale, seed: u64, kind: &str) -> Experiment {
    const FROM_S: u64 = 20;
    const DOWN: Duration = Duration::from_secs(30);
    /// The first of them comes back so long before the last one.
    const BETWEEN_MS: u64 = 10_000;
    /// Longer than is demanded.
    const LOOKED_AT: Duration = Duration::from_secs(70);
    let mut experiment = scale.attacked(seed, FROM_S, vec![Attackers::new(kind, scale.per_node(4.0), 20)]);
    let scenario = &mut experiment.scenario;
    scenario.wiring = found();
    (scenario.producers, scenario.slot) = (3, Duration::from_secs(1));
    scenario.warm_up = Duration::from_secs(10);
    scenario.duration = Duration::from_secs(FROM_S - 10) + DOWN + Duration::from_millis(BETWEEN_MS) + LOOKED_AT;
    // Ends between two blocks.
    scenario.drain = Duration::from_millis(9_800);
    scenario.workloads[0].pace = Pace::Constant { messages_per_ks: scale.messages_per_ks / 10 };
    // None of them is a producer.
    let away: Vec<u32> = (5..number(scale.nodes)).step_by(10).collect();
    let mut returns = Vec::new();
    for (turn, node) in (0_u64..).zip(&away) {
        let at = Time::from_secs(FROM_S) + Duration::from_millis(BETWEEN_MS * turn / away.len() as u64);
        scenario.faults.push((at, Action::Stop(*node)));
        scenario.faults.push((at + DOWN, Action::Start(*node)));
        returns.push((*node, at + DOWN));
    }
    in_order(&mut scenario.faults);
    experiment.study = Study::Returns(returns);
    experiment
}

/// Even and odd numbers do not reach each other; the producers are the first four.
fn partition(scale: &Scale, seed: u64, wiring: Wiring) -> Experiment {
    const FROM_S: u64 = 30;
    const UNTIL_S: u64 = FROM_S + 600;
    let mut experiment = scale.attacked(seed, UNTIL_S, Vec::new());
    let scenario = &mut experiment.scenario;
    scenario.wiring = wiring;
    scenario.producers = 4;
    scenario.slot = Duration::from_secs(2);
    scenario.warm_up = Duration::from_secs(20);
    scenario.duration = Duration::from_secs(UNTIL_S + 20 - 20);
    scenario.drain = Duration::from_secs(40);
    scenario.workloads[0].pace = Pace::Constant { messages_per_ks: 2_000 };
    scenario.workloads[0].payload_bytes = 256;
    let sides: Vec<u8> = (0..scale.nodes).map(|node| u8::from(node % 2 == 1)).collect();
    scenario.faults.push((Time::from_secs(FROM_S), Action::Partition(sides.into())));
    scenario.faults.push((Time::from_secs(UNTIL_S), Action::Heal));
    experiment.study = Study::Heals(Time::from_secs(UNTIL_S));
    experiment
}

fn churn(scale: &Scale, seed: u64) -> Experiment {
    const DOWN: Duration = Duration::from_secs(10);
    let mut experiment = scale.attacked(seed, 0, Vec::new());
    let scenario = &mut experiment.scenario;
    scenario.loss_ppm = 50_000;
    scenario.duration = scenario.duration.max(Duration::from_secs(60));
    scenario.workloads[0].publishers = Publishers::Spread(scale.nodes);
    let every_us = 60_000_000 / (scale.nodes as u64 / 4).max(1);
    let mut random = Stream::new(seed, "churn");
    let mut back = vec![Time::ZERO; scale.nodes];
    let (mut at, end) = (Time::ZERO + scenario.warm_up, Time::ZERO + scenario.warm_up + scenario.duration);
    while at < end {
        let node = random.index(scale.nodes);
        if back[node] <= at {
            back[node] = at + DOWN;
            scenario.faults.push((at, Action::Kill(number(node))));
            scenario.faults.push((back[node], Action::Start(number(node))));
            at = at + Duration::from_micros(every_us);
        }
    }
    in_order(&mut scenario.faults);
    experiment
}

/// Nodes that stop for ever, so many that a hundred links lead to them.
const CRASHES: usize = 18;
/// One of a thousand nodes stops in so many milliseconds; of fewer nodes, one in more.
const CRASHED_MS: u64 = 3_600_000;

/// The first tenth of the nodes stand still now and then; some of the others stop for ever, one after the other.
fn starved(scale: &Scale, seed: u64) -> Experiment {
    let mut experiment = scale.attacked(seed, 0, Vec::new());
    let scenario = &mut experiment.scenario;
    scenario.workloads[0].publishers = Publishers::Nodes((number(scale.nodes / 10)..number(scale.nodes / 5)).collect());
    // Crashes are rare: about one link of a hundred is younger than the 20 s after which a peer is known.
    let every = Duration::from_millis(CRASHED_MS / scale.nodes as u64);
    let crashing: Vec<u32> =
        (number(scale.nodes / 5)..number(scale.nodes)).step_by(scale.nodes * 4 / 5 / CRASHES).collect();
    let settled = Duration::from_secs(30);
    scenario.duration = scenario.duration.max(settled + every * number(crashing.len()) + Duration::from_secs(10));
    scenario.workloads[0].pace = Pace::Constant { messages_per_ks: 20_000 };
    let mut random = Stream::new(seed, "starved");
    let begins = Time::ZERO + scenario.warm_up;
    let end = begins + scenario.duration;
    let length =
        |random: &mut Stream, from_ms: u64, to_ms: u64| Duration::from_millis(from_ms + random.below(to_ms - from_ms));
    for node in 0..number(scale.nodes / 10) {
        let mut at = begins + length(&mut random, 0, 1_000);
        while at < end {
            let goes_on = at + length(&mut random, 100, 3_000);
            scenario.faults.push((at, Action::Pause(node)));
            scenario.faults.push((goes_on, Action::Resume(node)));
            at = goes_on + length(&mut random, 100, 1_000);
        }
    }
    // Neither starved nor a publisher.
    let crashes: Vec<(u32, Time)> =
        crashing.into_iter().zip(0_u32..).map(|(node, turn)| (node, begins + settled + every * turn)).collect();
    scenario.faults.extend(crashes.iter().map(|(node, at)| (*at, Action::Pause(*node))));
    in_order(&mut scenario.faults);
    experiment.study = Study::Suspects(crashes);
    experiment
}

/// Small networks for a long time: what is counted happens on single links.
fn quiet(scale: &Scale, seed: u64) -> Experiment {
    // A message a second, half of them blocks: links are judged by each topic alone.
    let scale = Scale { nodes: QUIET, messages_per_ks: 500, ..*scale };
    let mut experiment = scale.attacked(seed, 0, Vec::new());
    let scenario = &mut experiment.scenario;
    scenario.wiring = Wiring::Random { degree: 20 };
    scenario.loss_ppm = 20_000;
    scenario.workloads[0].publishers = Publishers::Spread(QUIET);
    scenario.workloads[0].payload_bytes = 256;
    scenario.producers = 3;
    scenario.slot = Duration::from_secs(2);
    let hours = if scale.relative { 1 } else { 6 };
    scenario.duration = Duration::from_secs(hours * 3_600);
    experiment.study = Study::Links;
    experiment
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a simulation has fewer than 2^32 nodes")
}

fn in_order(faults: &mut [(Time, Action)]) {
    faults.sort_by_key(|(at, _)| *at);
}
