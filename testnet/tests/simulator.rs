//! The simulator, seen from outside: the same run twice, sharing against encoding, and what its options do.

use starling_protocol::time::{Duration, Time};
use starling_testnet::sim::{Pace, Scenario, WindowModel, Wiring, World};

/// A network that is simulated in a fraction of a second, in debug builds too.
fn small(seed: u64) -> Scenario {
    let mut scenario = Scenario::scale(24, seed);
    scenario.wiring = Wiring::Random { degree: 10 };
    scenario.warm_up = Duration::from_secs(4);
    scenario.duration = Duration::from_secs(3);
    scenario.drain = Duration::from_secs(3);
    scenario
}

fn run(scenario: Scenario) -> World {
    let mut world = World::new(scenario);
    world.run();
    world.check();
    world
}

/// Latencies of all deliveries in microseconds, ascending.
fn latencies_us(world: &World) -> Vec<u32> {
    let mut all: Vec<u32> = world.observer().messages().iter().flat_map(|message| message.arrivals_us()).collect();
    all.sort_unstable();
    all
}

#[test]
fn every_message_reaches_every_node_once() {
    let world = run(small(1));
    let messages = world.observer().messages();
    assert_eq!(messages.len(), 30);
    for message in messages {
        assert_eq!((message.arrivals_us().count(), message.accepted()), (23, 23), "message {:?}", message.id);
    }
    assert_eq!(world.observer().refused, 0);
    let copies = world.observer().duplicates + 30 * 23;
    assert_eq!(world.wire().messages, copies, "what was sent has arrived");
}

#[test]
fn the_same_scenario_gives_the_same_trace() {
    let (first, again, other) = (run(small(1)), run(small(1)), run(small(2)));
    assert_eq!((first.trace(), first.counts()), (again.trace(), again.counts()));
    assert_ne!(first.trace(), other.trace());
    // In pieces as in one go.
    let mut pieces = World::new(small(1));
    (1..=10).for_each(|second| pieces.run_until(Time::from_secs(second)));
    assert_eq!(pieces.trace(), first.trace());
}

#[test]
fn encoding_everything_changes_nothing() {
    // Slow uplinks, so that the queues come into it.
    let slow = |encode| {
        let mut scenario = small(3);
        scenario.encode = encode;
        scenario.workloads[0].payload_bytes = 20_000;
        scenario.window = Some(WindowModel::default());
        run(scenario)
    };
    let (shared, encoded) = (slow(false), slow(true));
    assert_eq!((shared.trace(), shared.wire()), (encoded.trace(), encoded.wire()));
    assert!(shared.wire().cancelled > 0, "nothing was ever taken out of a queue: {:?}", shared.wire());
}

#[test]
fn losses_windows_and_downlinks_cost_time_and_no_messages() {
    let with = |change: fn(&mut Scenario)| {
        let mut scenario = small(4);
        scenario.workloads[0].payload_bytes = 60_000;
        // Seldom enough that a window begins anew.
        scenario.workloads[0].pace = Pace::Constant { messages_per_ks: 2_000 };
        let mut changed = scenario.clone();
        change(&mut changed);
        let (base, changed) = (run(scenario), run(changed));
        for world in [&base, &changed] {
            assert_eq!(latencies_us(world).len(), 6 * 23, "every message reaches every node");
        }
        let median = |world: &World| latencies_us(world)[latencies_us(world).len() / 2];
        (median(&base), median(&changed), changed.wire())
    };
    let (base, lossy, wire) = with(|scenario| scenario.loss_ppm = 20_000);
    assert!(lossy > base + 10_000 && wire.chunks_lost > 20, "{base} us, {lossy} us with losses, {wire:?}");
    let (base, windowed, _) = with(|scenario| scenario.window = Some(WindowModel::default()));
    assert!(windowed > base + 30_000, "60 kB take two more round trips: {base} us, {windowed} us");
    let (base, narrow, _) = with(|scenario| scenario.downlink_bits_per_s = Some(8_000_000));
    assert!(narrow > base + 25_000, "60 kB take 60 ms: {base} us, {narrow} us");
}

/// Whoever has one message followed through a long run does not keep the losses of all others.
#[test]
fn of_losses_those_are_kept_that_the_followed_message_can_have_met() {
    let scenario = || Scenario { loss_ppm: 100_000, ..small(5) };
    let plain = run(scenario());
    let message = &plain.observer().messages()[15];
    let last_us = message.arrivals_us().max().expect("it arrived");
    assert_eq!(message.arrivals_us().count(), 23);
    let mut world = World::new(scenario());
    world.observer_mut().follow(&message.id.to_string());
    world.run();
    assert_eq!(world.trace(), plain.trace(), "to look on changes nothing");
    let losses = world.observer().losses();
    let (begin, end) = (message.published, message.published + Duration::from_micros(u64::from(last_us)));
    let concerned = |due: Time, late_us: u64| due + Duration::from_micros(late_us) > begin;
    assert!(losses.iter().all(|loss| concerned(loss.due, loss.late_us)), "what was made good before is forgotten");
    let longest = Duration::from_secs(1);
    assert!(losses.iter().all(|loss| loss.due < end + longest), "and what came after it has arrived was not kept");
    assert!(losses.iter().any(|loss| loss.due < begin) && losses.iter().any(|loss| loss.due > begin));
    let all = world.wire().chunks_lost;
    assert!(losses.len() * 3 < usize::try_from(all).expect("few"), "{} of {all}", losses.len());
}

#[test]
fn a_slow_processor_delays_everybody_behind_it() {
    let median = |cost_ns| {
        let mut scenario = small(5);
        scenario.cpu.signature_ns = cost_ns;
        let world = run(scenario);
        latencies_us(&world)[latencies_us(&world).len() / 2]
    };
    let (fast, slow) = (median(0), median(20_000_000));
    assert!(slow > fast + 15_000, "nearly one signature more: {fast} us and {slow} us");
}
