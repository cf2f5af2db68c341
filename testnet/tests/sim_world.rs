//! The world around the machines: processes that end and begin again, paths that break, requests for blocks, discovery, and places
//! taken by attackers.

use std::sync::Arc;

use starling_protocol::id::{Direction, PeerHandle};
use starling_protocol::mesh::Sink;
use starling_protocol::node::{Input, Output};
use starling_protocol::peers::DialPurpose;
use starling_protocol::time::{Duration, Time};
use starling_testnet::sim::faults::{Action, Degradation};
use starling_testnet::sim::{self, Adversary, Pace, Recruit, Scenario, Wiring, World};

/// A network with blocks that is simulated in a fraction of a second, in debug builds too.
fn small(nodes: usize, seed: u64) -> Scenario {
    let mut scenario = Scenario::scale(nodes, seed);
    scenario.wiring = Wiring::Random { degree: 8 };
    scenario.workloads[0].pace = Pace::Constant { messages_per_ks: 3_000 };
    scenario.workloads[0].payload_bytes = 300;
    scenario.producers = 3;
    scenario.slot = Duration::from_secs(1);
    scenario.warm_up = Duration::from_secs(4);
    scenario.duration = Duration::from_secs(10);
    // So that it ends between two blocks.
    scenario.drain = Duration::from_millis(8_800);
    scenario
}

fn run(scenario: Scenario) -> World {
    let mut world = World::new(scenario);
    world.run();
    world.check();
    world
}

fn at(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

/// The heads of all nodes, by height and id.
fn heads(world: &World) -> Vec<(u64, String)> {
    let mut heads: Vec<_> =
        world.nodes().map(|node| (node.chain().head().height, format!("{:?}", node.chain().head().id))).collect();
    heads.sort();
    heads.dedup();
    heads
}

#[test]
fn blocks_are_made_and_everybody_agrees() {
    let world = run(small(16, 1));
    let heads = heads(&world);
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].0 >= 15, "a block a slot for 22 slots: {heads:?}");
}

/// However long computing takes, times end at the last one that there is.
#[test]
fn a_processor_that_never_gets_done_is_no_error() {
    let mut scenario = small(4, 1);
    scenario.cpu.byte_ns = u64::MAX;
    scenario.cpu.signature_ns = u64::MAX;
    let heads = heads(&run(scenario));
    assert!(heads.iter().all(|(height, _)| *height <= 20), "{heads:?}");
}

#[test]
fn a_killed_node_comes_back_with_its_disk_and_catches_up() {
    let mut scenario = small(16, 2);
    scenario.faults = vec![
        (at(6), Action::Kill(9)),
        (at(12), Action::Start(9)),
        (at(13), Action::Kill(1)),
        (at(15), Action::Start(1)),
    ];
    let mut world = World::new(scenario);
    world.run_until(at(11));
    assert_eq!(world.running().count(), 15);
    world.run_until(at(12) + Duration::from_millis(1));
    let (_, node) = world.running().find(|(number, _)| *number == 9).expect("it has just started");
    let (height, peers) = (node.chain().head().height, node.mesh().peers_len());
    assert!(
        peers == 0 && (4..=6).contains(&height),
        "from its disk it has {height} blocks, before it has {peers} peers"
    );
    world.run();
    world.check();
    assert_eq!(world.running().count(), 16);
    assert_eq!(heads(&world).len(), 1, "{:?}", heads(&world));
    let (_, node) = world.running().find(|(number, _)| *number == 9).expect("it runs again");
    assert!(node.mesh().peers_len() >= 6, "{} connections", node.mesh().peers_len());
}

#[test]
fn a_paused_node_takes_in_everything_later() {
    let mut scenario = small(16, 3);
    scenario.producers = 0;
    scenario.faults = vec![(at(6), Action::Pause(5)), (at(9), Action::Resume(5))];
    let world = run(scenario);
    for message in world.observer().messages().iter().filter(|message| message.origin != 5) {
        assert_eq!(message.arrivals_us().count(), 15);
    }
    let slowest = world.observer().messages().iter().flat_map(|message| message.arrivals_us().max()).max();
    assert!(slowest.is_some_and(|us| (2_500_000..4_000_000).contains(&us)), "{slowest:?}");
}

/// Its host has heard that the other end is gone.
#[test]
fn a_paused_node_learns_later_who_has_gone_meanwhile() {
    let mut scenario = small(8, 3);
    (scenario.wiring, scenario.producers) = (Wiring::Random { degree: 7 }, 0);
    scenario.faults =
        vec![(at(6), Action::Pause(5)), (at(7), Action::Kill(2)), (at(8), Action::Stop(3)), (at(9), Action::Resume(5))];
    let world = run(scenario);
    let mut peers: Vec<u32> = world.connections(5).map(|(_, far)| far).collect();
    peers.sort_unstable();
    assert_eq!(peers, [0, 1, 4, 6, 7]);
}

#[test]
fn a_partition_parts_the_network_and_healing_joins_it() {
    for (length_s, dead_after_s) in [(5, 30), (6, 2)] {
        let mut scenario = small(16, 4);
        scenario.dead_after = Duration::from_secs(dead_after_s);
        scenario.duration = Duration::from_secs(15);
        scenario.drain = Duration::from_millis(15_800);
        let sides: Vec<u8> = (0..16).map(|node| u8::from(node >= 8)).collect();
        scenario.faults = vec![(at(6), Action::Partition(Arc::from(sides))), (at(6 + length_s), Action::Heal)];
        let mut world = World::new(scenario);
        world.run_until(at(5 + length_s) + Duration::from_millis(800));
        let peers: usize = world.nodes().map(|node| node.mesh().peers_len()).sum();
        // Links across the cut are there until they are given up.
        assert_eq!(peers < 16 * 6, dead_after_s == 2, "{peers} links");
        assert_eq!(heads(&world).len(), 2, "one head on each side: {:?}", heads(&world));
        world.run();
        world.check();
        assert_eq!(heads(&world).len(), 1, "{:?}", heads(&world));
        let peers: usize = world.nodes().map(|node| node.mesh().peers_len()).sum();
        assert!(peers > 16 * 7, "{peers} links");
    }
}

/// Half of all segments are lost, so that now and then nothing gets through for seconds.
#[test]
fn a_connection_on_which_nothing_comes_for_too_long_is_given_up() {
    let given_up = |dead_after_s| {
        let mut scenario = small(4, 7);
        (scenario.wiring, scenario.producers) = (Wiring::Random { degree: 3 }, 0);
        (scenario.loss_ppm, scenario.dead_after) = (500_000, Duration::from_secs(dead_after_s));
        scenario.duration = Duration::from_secs(600);
        let world = run(scenario);
        let generations =
            (0..4).flat_map(|node| world.connections(node).map(|(peer, _)| peer.generation).collect::<Vec<_>>());
        generations.max()
    };
    // There may be none at the end.
    assert_ne!(given_up(3), Some(0));
    assert_eq!(given_up(3_000), Some(0), "the first ones are there still");
}

#[test]
fn worse_paths_slow_computers_and_slow_disks_cost_time() {
    let median = |faults: Vec<(Time, Action)>| {
        let mut scenario = small(16, 5);
        scenario.producers = 0;
        scenario.faults = faults;
        let world = run(scenario);
        let mut all: Vec<u32> = world.observer().messages().iter().flat_map(|m| m.arrivals_us()).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let base = median(Vec::new());
    let everybody: Arc<[bool]> = Arc::from([true; 16]);
    let latency = Duration::from_millis(100);
    let worse = Degradation { number: 1, from: everybody.clone(), to: everybody, latency, loss_ppm: 0 };
    let degraded = median(vec![(at(3), Action::Degrade(worse.clone()))]);
    assert!(degraded > base + 90_000, "{base} and {degraded} us");
    let mended = median(vec![(at(3), Action::Degrade(worse)), (at(4), Action::Mend(1))]);
    assert!(mended < base + 20_000, "{base} and {mended} us");
    let slow = median((0..16).map(|node| (at(3), Action::Cpu(node, 500_000))).collect());
    assert!(slow > base + 20_000, "{base} and {slow} us");
}

/// A node publishes what it was given when that is on its disk, and makes blocks when it takes it to be time.
#[test]
fn slow_disks_delay_what_is_to_be_kept_and_wrong_clocks_move_blocks() {
    let published = |faults: Vec<(Time, Action)>| {
        let world = run(Scenario { faults, ..small(16, 7) });
        let messages = world.observer().messages().iter().filter(|message| message.published > at(5));
        messages.map(|message| (message.is_block, message.origin, message.published)).collect::<Vec<_>>()
    };
    let usual = published(Vec::new());
    let of = |all: &[(bool, u32, Time)], block| {
        let times = all.iter().filter(|(is_block, ..)| *is_block == block);
        times.map(|(_, origin, time)| (*origin, time.as_micros() % 1_000_000)).collect::<Vec<_>>()
    };
    let slow = published((0..16).map(|node| (at(3), Action::Disk(node, 50_000))).collect());
    let sum = |all: &[(bool, u32, Time)]| {
        let transactions = all.iter().filter(|(is_block, ..)| !is_block);
        transactions.map(|(.., time)| time.as_micros()).sum::<u64>() / of(all, false).len() as u64
    };
    assert_eq!(of(&usual, false).len(), of(&slow, false).len());
    assert!(sum(&slow) > sum(&usual) + 10_000, "{} and {}", sum(&usual), sum(&slow));
    let producer = of(&usual, true)[0].0;
    let behind = published(vec![(at(3), Action::Clock(producer, -300_000))]);
    let of_producer = |all: &[(bool, u32, Time)]| {
        of(all, true).into_iter().filter(|(origin, _)| *origin == producer).map(|(_, time)| time).collect::<Vec<_>>()
    };
    let (right, wrong) = (of_producer(&usual), of_producer(&behind));
    assert!(right.len() > 3 && right.iter().all(|us| *us < 50_000), "{right:?}");
    assert!(wrong.len() > 3 && wrong.iter().all(|us| (300_000..350_000).contains(us)), "{wrong:?}");
}

#[test]
fn nodes_that_discover_each_other_have_the_links_that_they_want() {
    let mut scenario = small(40, 6);
    scenario.wiring = Wiring::Discovered { bootnodes: 2, target_peers: 10 };
    scenario.duration = Duration::from_secs(25);
    let world = run(scenario);
    for (number, node) in world.running() {
        let stats = node.peer_stats();
        assert!(stats.connected >= 8 && stats.outbound >= 3, "node {number}: {stats:?}");
    }
    assert_eq!(heads(&world).len(), 1);
}

/// Connects with everybody, counts what it is told, and hangs up on whoever grafts it.
#[derive(Debug, Default)]
struct Rude {
    honest: Vec<starling_protocol::id::PeerId>,
    dialled: bool,
    connected: Vec<PeerHandle>,
    told: u64,
    ended: u64,
    report: std::rc::Rc<std::cell::Cell<(usize, u64, u64)>>,
}

impl Adversary for Rude {
    fn handle(&mut self, _: Time, input: Input<'_>, out: &mut dyn Sink<Output>) {
        match input {
            Input::WallClock { .. } if !self.dialled => {
                self.dialled = true;
                for id in &self.honest {
                    out.emit(Output::Dial { id: *id, addresses: Vec::new(), purpose: DialPurpose::Connect });
                }
            }
            Input::Connected { peer, direction: Direction::Outbound, .. } => self.connected.push(peer),
            Input::Rpc { peer, .. } => {
                self.told += 1;
                if self.told == 5 {
                    out.emit(Output::Disconnect { peer, reason: starling_protocol::mesh::DisconnectReason::Requested });
                }
            }
            Input::Disconnected { .. } => self.ended += 1,
            _ => {}
        }
        self.report.set((self.connected.len(), self.told, self.ended));
    }

    fn on_wake(&mut self, _: Time, _: &mut dyn Sink<Output>) {}

    fn next_wake(&self) -> Option<Time> {
        None
    }
}

#[test]
fn an_attacker_takes_part_at_the_boundary_of_the_machine() {
    let report = std::rc::Rc::default();
    let mut scenario = small(16, 7);
    scenario.producers = 0;
    let mut world = World::with_adversaries(scenario, |setting| {
        assert_eq!((setting.honest.len(), setting.first), (16, 16));
        let adversary =
            Rude { honest: setting.honest.to_vec(), report: std::rc::Rc::clone(&report), ..Rude::default() };
        vec![Recruit { adversary: Box::new(adversary), starts: at(2), ip: None }]
    });
    world.run_until(at(1));
    assert_eq!(report.get(), (0, 0, 0));
    world.run();
    world.check();
    let (connected, told, ended) = report.get();
    assert_eq!((connected, ended), (16, 1));
    assert!(told >= 16, "everybody tells it of subscriptions: {told}");
    assert_eq!(world.running().count(), 16, "attackers are no nodes");
    for message in world.observer().messages() {
        assert_eq!(message.arrivals_us().count(), 15, "honest nodes reach each other, and attackers are not counted");
    }
    assert_eq!(sim::peer_id(3), starling_protocol::id::PeerId::from_number(4));
}

/// Does nothing, and may have ended.
#[derive(Debug)]
struct Still {
    there: bool,
}

impl Adversary for Still {
    fn handle(&mut self, _: Time, _: Input<'_>, _: &mut dyn Sink<Output>) {}

    fn on_wake(&mut self, _: Time, _: &mut dyn Sink<Output>) {}

    fn next_wake(&self) -> Option<Time> {
        None
    }

    fn is_there(&self) -> bool {
        self.there
    }
}

#[test]
fn an_attacker_that_has_ended_is_not_reached() {
    for there in [true, false] {
        let report = std::rc::Rc::default();
        let mut world = World::with_adversaries(small(4, 7), |setting| {
            let dials = vec![sim::peer_id(setting.first)];
            let dialler = Rude { honest: dials, report: std::rc::Rc::clone(&report), ..Rude::default() };
            let still = Recruit { adversary: Box::new(Still { there }), starts: at(0), ip: None };
            vec![still, Recruit { adversary: Box::new(dialler), starts: at(2), ip: None }]
        });
        world.run_until(at(4));
        assert_eq!(report.get().0, usize::from(there));
    }
}

#[test]
fn faults_do_not_disturb_determinism() {
    let scenario = || {
        let mut scenario = small(16, 8);
        scenario.wiring = Wiring::Discovered { bootnodes: 1, target_peers: 6 };
        scenario.faults = vec![
            (at(5), Action::Kill(3)),
            (at(6), Action::Pause(4)),
            (at(7), Action::Start(3)),
            (at(8), Action::Resume(4)),
            (at(9), Action::Clock(5, -3_000_000)),
            (at(9), Action::Disk(6, 20_000)),
            (at(10), Action::Stop(6)),
            (at(11), Action::Start(6)),
        ];
        scenario
    };
    let (first, again) = (run(scenario()), run(scenario()));
    assert_eq!((first.trace(), first.counts()), (again.trace(), again.counts()));
    let mut encoded = scenario();
    encoded.encode = true;
    assert_eq!(run(encoded).trace(), first.trace());
}

/// What it dials at the time at which it does it waits until it goes on, and the time for it may be over then.
#[test]
fn a_dial_that_its_process_slept_through_has_failed() {
    let mut scenario = small(4, 1);
    scenario.wiring = Wiring::Random { degree: 2 };
    let sides = Arc::from([1_u8, 0, 0, 0]);
    scenario.faults = vec![
        (at(0), Action::Partition(sides)),
        (at(5), Action::Pause(0)),
        (at(15), Action::Resume(0)),
        (at(16), Action::Heal),
    ];
    scenario.duration = Duration::from_secs(30);
    assert_eq!(heads(&run(scenario)).len(), 1);
}
