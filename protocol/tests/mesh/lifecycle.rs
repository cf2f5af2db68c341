//! Nothing is left behind, nothing depends on chance, and no sequence of inputs breaks an invariant.

use crate::bench::{Bench, config, large_message, message, other_topic, topic};
use crate::network::{Faults, Network};
use proptest::prelude::*;
use starling_protocol::id::{Direction, PeerHandle, PeerId, Topic, Version};
use starling_protocol::mesh::{Event, Input, Mesh, MeshConfigError, Output, ValidationTicket, Verdict, WakeReason};
use starling_protocol::rpc::{IHave, Prune, Rpc, Subscription};
use starling_protocol::time::{Duration, Time};
use std::net::{IpAddr, Ipv4Addr};

const MS: Duration = Duration::from_millis(1);

#[test]
fn peer_lifecycle_leaves_nothing_behind() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(10);
    for (number, peer) in (0..).zip(&peers) {
        bench.publish_from(*peer, &message(number));
        bench.idontwant_from(*peer, &message(number + 100));
        bench.ihave_from(*peer, &[message(number + 200), message(number + 201)]);
    }
    bench.judge(Verdict::Accept);
    bench.pass(MS * 120);
    bench.publish(&large_message(1));
    peers.iter().for_each(|peer| bench.iwant_from(*peer, &large_message(1)));
    for peer in &peers {
        bench.disconnect(*peer);
        assert!(!bench.mesh.knows(*peer));
        bench.publish_from(*peer, &message(300));
        assert!(bench.mesh.peer_view(*peer).is_none(), "a late RPC does not bring it back");
    }
    assert_eq!((bench.mesh.peers_len(), bench.mesh.wanted_len()), (0, 0));
    assert_eq!(bench.mesh.mesh_degree(&topic()), 0);
}

#[test]
fn a_slot_that_was_not_freed_is_taken_over() {
    let mut bench = Bench::joined(config());
    let first = bench.subscriber();
    let second = PeerHandle { slot: first.slot, generation: first.generation + 1 };
    let (id, ip) = (PeerId::from_number(99), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (direction, version) = (Direction::Inbound, Version::V1_2);
    bench.input(Input::Connected { peer: second, id, ip, direction, version });
    assert!(!bench.mesh.knows(first) && bench.mesh.knows(second));
}

#[test]
fn the_engine_says_when_and_why_it_wants_to_be_woken() {
    let mut bench = Bench::joined(config());
    let (due, reason) = bench.mesh.next_wake().expect("a heartbeat");
    assert_eq!(reason, WakeReason::Heartbeat);
    assert!((Time::from_millis(100)..Time::from_millis(200)).contains(&due), "the first comes soon, at {due}");
    let peer = bench.subscriber();
    bench.take();
    // A spurious wake does nothing.
    let mut out = Vec::new();
    bench.mesh.on_wake(bench.now, &mut out);
    assert!(out.is_empty());
    bench.heartbeat();
    bench.ihave_from(peer, &[message(1)]);
    assert_eq!(bench.mesh.next_wake().expect("a pull").1, WakeReason::Pull);
    // Heartbeats keep their interval.
    let before = bench.mesh.counters().heartbeats;
    bench.pass(MS * 70_000);
    let beats = bench.mesh.counters().heartbeats - before;
    assert!((99..=101).contains(&beats), "{beats} heartbeats in 70 s");
}

#[test]
fn an_accepted_message_is_delivered_once_and_events_tell_its_story() {
    let mut bench = Bench::joined(config());
    let (one, two) = (bench.subscriber(), bench.subscriber());
    bench.take();
    bench.publish_from(one, &message(1));
    bench.publish_from(two, &message(1));
    bench.judge(Verdict::Accept);
    let story: Vec<String> = bench
        .take()
        .into_iter()
        .filter_map(|output| match output {
            Output::Event(Event::Arrived { peer, .. }) => Some(format!("arrived from {}", peer.slot)),
            Output::Event(Event::Duplicate { peer, frame_bytes, .. }) => {
                Some(format!("duplicate of {frame_bytes} bytes from {}", peer.slot))
            }
            Output::Event(Event::Validated { verdict, .. }) => Some(format!("{verdict:?}")),
            Output::Validate { .. } => Some("validate".into()),
            Output::Deliver { .. } => Some("deliver".into()),
            _ => None,
        })
        .collect();
    let bytes = message(1).encoded().len();
    let expected = ["arrived from 0", "validate", &format!("duplicate of {bytes} bytes from 1"), "Accept", "deliver"];
    assert_eq!(story, expected);
}

#[test]
fn our_own_word_settles_a_validation_under_way() {
    let mut bench = Bench::joined(config());
    let (one, two) = (bench.subscriber(), bench.subscriber());
    bench.take();
    bench.publish_from(one, &message(1));
    let ticket = bench.tickets()[0];
    bench.publish(&message(1));
    assert_eq!((bench.copies_to(one, &message(1)), bench.copies_to(two, &message(1))), (0, 1));
    bench.take();
    bench.input(Input::Verdict { ticket, verdict: Verdict::Ignore });
    assert!(bench.take().is_empty());
}

/// Runs a busy network and returns its trace.
fn trace(seed: u8) -> (u64, u64) {
    let mut network = Network::new(12, seed, |_| config());
    network.checked = false;
    network.traced = true;
    network.faults = Faults { loss_permille: 20, duplication_permille: 20, jitter: MS * 30, ..Faults::NONE };
    network.connect_some(5, MS * 10);
    for number in 0..30 {
        network.publish(usize::try_from(number % 12).expect("few"), &message(number));
        network.run(MS * 100);
    }
    let copies = network.nodes.iter().map(|node| node.copies).sum();
    (network.trace, copies)
}

#[test]
fn the_same_seed_gives_the_same_outputs() {
    let first = trace(21);
    assert_eq!(first, trace(21));
    assert_ne!(first.0, trace(22).0, "the trace does not depend on the seed: it shows nothing");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_values() {
    let refused = |change: fn(&mut starling_protocol::mesh::MeshConfig)| {
        let mut config = config();
        change(&mut config);
        config.validate().expect_err("must be refused").to_string()
    };
    assert!(refused(|config| config.degree.low = 7).contains("D_low <= D <= D_high"));
    assert!(refused(|config| config.degree.outbound = 4).contains("D_out"));
    assert!(refused(|config| config.topics.clear()).contains("between 1 and 32"));
    assert!(refused(|config| config.heartbeat.interval = Duration::ZERO).contains("heartbeat interval"));
    assert!(refused(|config| config.gossip.factor_percent = 101).contains("gossip factor"));
    assert!(refused(|config| config.relay.pending_max = usize::MAX).contains("seen-cache"));
    assert!(refused(|config| config.cache.gossip_windows = 9).contains("serves only"));
    assert!(refused(|config| config.score.thresholds.graylist = 1.0).contains("threshold"));
    let mut twice = config();
    twice.topics.push(twice.topics[0].clone());
    assert_eq!(twice.validate().unwrap_err(), MeshConfigError::TopicTwice { topic: topic() });
}

/// One step of a random sequence.
#[derive(Clone, Debug)]
enum Step {
    Connect { slot: u32, version: u8, outbound: bool },
    Disconnect { slot: u32 },
    Rpc { slot: u32, rpc: RpcSketch },
    Verdict { ticket: u64, verdict: u8 },
    Publish { message: u8, other: bool },
    Membership { other: bool, join: bool },
    Rtt { slot: u32, millis: u64 },
    Misbehaved { slot: u32, penalties: u32 },
    Overflow { slot: u32 },
    Pass { millis: u64 },
}

/// An RPC in numbers.
#[derive(Clone, Debug)]
struct RpcSketch {
    subscribe: Vec<(bool, u8)>,
    publish: Vec<u8>,
    signed: u32,
    ihave: Vec<(u8, Vec<u8>)>,
    iwant: Vec<u8>,
    graft: Vec<u8>,
    prune: Vec<(u8, Option<u64>)>,
    idontwant: Vec<u8>,
}

fn topic_of(number: u8) -> Topic {
    match number % 3 {
        0 => topic(),
        1 => other_topic(),
        _ => Topic::new("unknown"),
    }
}

fn payload_of(number: u8) -> std::sync::Arc<starling_protocol::message::Payload> {
    if number.is_multiple_of(4) { large_message(u64::from(number)) } else { message(u64::from(number)) }
}

impl RpcSketch {
    fn build(&self) -> Rpc {
        let ids = |numbers: &[u8]| numbers.iter().map(|number| payload_of(*number).id()).collect::<Vec<_>>();
        Rpc {
            subscriptions: self
                .subscribe
                .iter()
                .map(|(subscribe, topic)| Subscription { subscribe: *subscribe, topic: topic_of(*topic) })
                .collect(),
            publish: self.publish.iter().map(|number| payload_of(*number)).collect(),
            publish_signed: self.signed,
            ihave: self
                .ihave
                .iter()
                .map(|(topic, numbers)| IHave { topic: topic_of(*topic), ids: ids(numbers) })
                .collect(),
            iwant: ids(&self.iwant),
            graft: self.graft.iter().map(|number| topic_of(*number)).collect(),
            prune: self
                .prune
                .iter()
                .map(|(topic, seconds)| Prune { topic: topic_of(*topic), backoff_seconds: *seconds, peers: Vec::new() })
                .collect(),
            idontwant: ids(&self.idontwant),
            foreign_ids: 0,
        }
    }
}

fn rpc_sketch() -> impl Strategy<Value = RpcSketch> {
    let few = || proptest::collection::vec(any::<u8>(), 0..4);
    let backoff = prop_oneof![Just(None), (0..100_u64).prop_map(Some), Just(Some(u64::MAX))];
    (
        proptest::collection::vec((any::<bool>(), any::<u8>()), 0..3),
        few(),
        prop_oneof![9 => Just(0), 1 => 0..3_u32],
        proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..6)), 0..3),
        few(),
        few(),
        proptest::collection::vec((any::<u8>(), backoff), 0..2),
        few(),
    )
        .prop_map(|(subscribe, publish, signed, ihave, iwant, graft, prune, idontwant)| RpcSketch {
            subscribe,
            publish,
            signed,
            ihave,
            iwant,
            graft,
            prune,
            idontwant,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..8_u32;
    prop_oneof![
        3 => (slot(), 0..3_u8, any::<bool>())
            .prop_map(|(slot, version, outbound)| Step::Connect { slot, version, outbound }),
        1 => slot().prop_map(|slot| Step::Disconnect { slot }),
        12 => (slot(), rpc_sketch()).prop_map(|(slot, rpc)| Step::Rpc { slot, rpc }),
        6 => (0..40_u64, 0..8_u8).prop_map(|(ticket, verdict)| Step::Verdict { ticket, verdict }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(message, other)| Step::Publish { message, other }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(other, join)| Step::Membership { other, join }),
        1 => (slot(), 0..500_u64).prop_map(|(slot, millis)| Step::Rtt { slot, millis }),
        1 => (slot(), 0..4_u32).prop_map(|(slot, penalties)| Step::Misbehaved { slot, penalties }),
        1 => slot().prop_map(|slot| Step::Overflow { slot }),
        4 => prop_oneof![3 => 0..100_u64, 2 => 0..2_000_u64, 1 => 0..100_000_u64]
            .prop_map(|millis| Step::Pass { millis }),
    ]
}

/// Drives one engine through the steps, checking every invariant, and returns all that it put out.
fn drive(steps: &[Step]) -> Vec<String> {
    let mut driven = Driven::new();
    for step in steps {
        driven.step(step);
    }
    driven.log
}

/// An engine, and what its driver knows of the peers.
struct Driven {
    mesh: Mesh,
    now: Time,
    generations: [u32; 8],
    connected: [bool; 8],
    log: Vec<String>,
}

impl Driven {
    fn new() -> Self {
        let mut config = config();
        config.degree.target = 3;
        config.degree.low = 2;
        config.degree.high = 4;
        config.degree.score = 1;
        config.degree.outbound = 1;
        config.degree.near = 1;
        config.relay.pending_max = 6;
        config.relay.pending_per_peer_max = 3;
        config.heartbeat.nearer_ticks = 2;
        config.heartbeat.opportunistic_ticks = 3;
        config.direct_peers.insert(PeerId::from_number(7));
        let mesh = Mesh::new(config.validate().expect("valid"), [3; 32], Time::ZERO);
        Self { mesh, now: Time::ZERO, generations: [0; 8], connected: [false; 8], log: Vec::new() }
    }

    fn handle(&self, slot: u32) -> PeerHandle {
        PeerHandle { slot, generation: self.generations[slot as usize] }
    }

    fn step(&mut self, step: &Step) {
        let mut out: Vec<Output> = Vec::new();
        match step {
            Step::Connect { slot, version, outbound } => self.connect(*slot, *version, *outbound, &mut out),
            Step::Disconnect { slot } => self.disconnect(*slot, &mut out),
            Step::Pass { millis } => self.pass(*millis, &mut out),
            Step::Rpc { slot, rpc } => {
                let (rpc, peer) = (rpc.build(), self.handle(*slot));
                self.mesh.handle(self.now, Input::Rpc { peer, rpc: &rpc, received: self.now }, &mut out);
            }
            other => self.mesh.handle(self.now, self.input(other), &mut out),
        }
        self.mesh.check();
        let (due, now) = (self.mesh.next_wake().expect("there is always a heartbeat").0, self.now);
        assert!(due > now || !matches!(step, Step::Pass { .. }), "what was due at {due} is not done at {now}");
        for output in &out {
            if let Output::Send { peer, .. } | Output::Cancel { peer, .. } = output {
                let live = self.connected[peer.slot as usize] && self.handle(peer.slot) == *peer;
                assert!(live, "a frame for a peer that is not connected");
            }
        }
        self.log.extend(out.iter().map(|output| format!("{now} {output:?}")));
    }

    /// The input that a step is, if it is nothing else.
    fn input(&self, step: &Step) -> Input<'static> {
        match *step {
            Step::Verdict { ticket, verdict } => {
                let verdicts = [Verdict::Ignore, Verdict::Reject, Verdict::Shed];
                let verdict = verdicts.get(usize::from(verdict)).copied().unwrap_or(Verdict::Accept);
                Input::Verdict { ticket: ValidationTicket(ticket), verdict }
            }
            Step::Publish { message, other: true } => {
                Input::Publish { payload: starling_protocol::message::Payload::new(&other_topic(), &[message]) }
            }
            Step::Publish { message, other: false } => Input::Publish { payload: payload_of(message) },
            Step::Membership { other, join } => {
                let topic = if other { other_topic() } else { topic() };
                if join { Input::Subscribe { topic } } else { Input::Unsubscribe { topic } }
            }
            Step::Rtt { slot, millis } => Input::Rtt { peer: self.handle(slot), rtt: Duration::from_millis(millis) },
            Step::Misbehaved { slot, penalties } => Input::Misbehaved { peer: self.handle(slot), penalties },
            Step::Overflow { slot } => Input::SendQueueFull { peer: self.handle(slot), dropped: 1 },
            Step::Connect { .. } | Step::Disconnect { .. } | Step::Rpc { .. } | Step::Pass { .. } => {
                unreachable!("{step:?} is more than an input")
            }
        }
    }

    fn connect(&mut self, slot: u32, version: u8, outbound: bool, out: &mut Vec<Output>) {
        if std::mem::replace(&mut self.connected[slot as usize], true) {
            return;
        }
        let version = [Version::V1_0, Version::V1_1, Version::V1_2][usize::from(version)];
        let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
        let (peer, id) = (self.handle(slot), PeerId::from_number(u64::from(slot)));
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + slot / 4));
        self.mesh.handle(self.now, Input::Connected { peer, id, ip, direction, version }, out);
    }

    fn disconnect(&mut self, slot: u32, out: &mut Vec<Output>) {
        let peer = self.handle(slot);
        self.mesh.handle(self.now, Input::Disconnected { peer }, out);
        assert!(!self.mesh.knows(peer));
        self.connected[slot as usize] = false;
        self.generations[slot as usize] += 1;
    }

    /// Lets time pass, sometimes in many steps, sometimes in one late one.
    fn pass(&mut self, millis: u64, out: &mut Vec<Output>) {
        let end = self.now + Duration::from_millis(millis);
        while let Some((due, _)) = self.mesh.next_wake().filter(|(due, _)| *due <= end && millis.is_multiple_of(2)) {
            self.now = self.now.max(due);
            self.mesh.on_wake(self.now, out);
            self.mesh.check();
        }
        self.now = end;
        self.mesh.on_wake(self.now, out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_breaks_an_invariant_or_repeatability(steps in proptest::collection::vec(step(), 1..120)) {
        let log = drive(&steps);
        prop_assert_eq!(log, drive(&steps));
    }
}
