//! Tests of request tracking. The first two have the names of go-libp2p-pubsub's `gossip_tracer_test.go`; the last runs a naive
//! copy of the rules, without any index, in lockstep.

use super::*;
use crate::id::MESSAGE_ID_BYTES;
use proptest::prelude::*;

fn id(number: u8) -> MessageId {
    MessageId([number; MESSAGE_ID_BYTES])
}

fn peer(slot: u32) -> PeerHandle {
    PeerHandle { slot, generation: 0 }
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn asks(due: &Due) -> Vec<(u32, u8)> {
    due.requests.iter().flat_map(|(peer, ids)| ids.iter().map(|id| (peer.slot, id.0[0]))).collect()
}

/// Waits 30 ms at first, retries after a second and blames after three.
fn promises() -> Promises {
    Promises::new(PromiseConfig::default())
}

#[test]
fn broken_promises() {
    let mut promises = Promises::new(PromiseConfig::classic());
    for number in 0..100 {
        // The first peer announces a hundred messages, the second fifty, the third ten; each message has one announcer.
        let slot = if number < 50 {
            0
        } else if number < 90 {
            1
        } else {
            2
        };
        assert!(promises.announced(at(0), id(number), peer(slot)));
    }
    assert_eq!(asks(&promises.due(at(0))).len(), 100, "all is asked for at once");
    assert_eq!(promises.due(at(2_999)), Due::default(), "nobody is blamed too early");
    // The first peer delivers but one, the second all, the third nothing.
    for number in 0..90 {
        if number != 30 {
            assert_eq!(promises.delivered(at(2_999), &id(number), peer(u32::from(number >= 50))), Arrival::Pulled);
        }
    }
    let due = promises.due(at(3_000));
    assert_eq!(due.broken, [(peer(0), 1), (peer(2), 1)], "one request each, however many messages it named");
    assert!(due.requests.is_empty() && promises.is_empty() && promises.next_due().is_none());
    promises.check();
}

#[test]
fn no_broken_promises() {
    let mut promises = Promises::new(PromiseConfig::classic());
    (0..100).for_each(|number| assert!(promises.announced(at(0), id(number), peer(0))));
    assert_eq!(asks(&promises.due(at(0))).len(), 100);
    (0..100).for_each(|number| {
        promises.delivered(at(2_000), &id(number), peer(0));
    });
    assert_eq!(promises.due(at(10_000)), Due::default());
    promises.check();
}

#[test]
fn a_push_that_follows_its_announcement_is_not_asked_for() {
    let mut promises = promises();
    promises.announced(at(0), id(1), peer(0));
    assert_eq!(promises.next_due(), Some(at(30)));
    assert_eq!(promises.due(at(29)), Due::default());
    assert_eq!(promises.delivered(at(29), &id(1), peer(5)), Arrival::Pushed);
    assert_eq!(promises.next_due(), None);
}

#[test]
fn the_wait_follows_what_pushes_need() {
    let first_wait = |delay_ms: u64| {
        let mut promises = promises();
        for round in 0..100 {
            promises.announced(at(round * 1_000), id(1), peer(0));
            promises.delivered(at(round * 1_000 + delay_ms), &id(1), peer(1));
        }
        promises.announced(at(200_000), id(1), peer(0));
        promises.next_due().expect("announced").since(at(200_000))
    };
    assert_eq!(first_wait(1), Duration::from_millis(5), "never below the minimum");
    let wait = first_wait(40);
    assert!((40..45).contains(&wait.as_millis()), "got {wait:?}");
    assert_eq!(first_wait(10_000), Duration::from_millis(100), "never above the maximum");
}

#[test]
fn the_next_announcer_is_asked_after_twice_the_round_trip_but_blame_waits_for_the_follow_up() {
    let mut promises = promises();
    promises.measured_rtt(peer(0), Duration::from_millis(150));
    (0..3).for_each(|slot| {
        promises.announced(at(0), id(1), peer(slot));
    });
    assert_eq!(asks(&promises.due(at(30))), [(0, 1)]);
    assert!(promises.is_asked(&id(1)));
    assert_eq!(promises.next_due(), Some(at(330)));
    assert_eq!(asks(&promises.due(at(330))), [(1, 1)]);
    assert_eq!(
        promises.next_due(),
        Some(at(830)),
        "an unknown round trip is taken as long, and half as long for the second"
    );
    assert_eq!(asks(&promises.due(at(830))), [(2, 1)]);
    assert_eq!(promises.due(at(3_030)).broken, [(peer(0), 1)]);
    assert_eq!(promises.delivered(at(3_100), &id(1), peer(0)), Arrival::Pulled, "late is still asked for");
    assert_eq!(promises.due(at(10_000)), Due::default(), "a delivery by one settles the promises of all");
    promises.check();
}

#[test]
fn whoever_breaks_promises_is_asked_last() {
    let mut promises = promises();
    promises.announced(at(0), id(1), peer(0));
    promises.due(at(30));
    promises.due(at(3_030));
    promises.announced(at(4_000), id(2), peer(0));
    promises.announced(at(4_001), id(2), peer(1));
    assert_eq!(asks(&promises.due(at(5_000))), [(1, 2)]);
    promises.announced(at(5_000), id(3), peer(1));
    promises.announced(at(5_000), id(3), peer(2));
    assert_eq!(asks(&promises.due(at(5_100))), [(2, 3)], "and whoever is busy, later");
}

#[test]
fn a_disconnected_peer_is_replaced_at_once_and_leaves_nothing() {
    let mut promises = promises();
    for number in 1..=2 {
        promises.announced(at(0), id(number), peer(0));
    }
    promises.announced(at(0), id(1), peer(1));
    promises.measured_rtt(peer(0), Duration::from_millis(1));
    assert_eq!(asks(&promises.due(at(30))), [(0, 1), (0, 2)]);
    promises.disconnected(peer(0));
    promises.check();
    let due = promises.due(at(31));
    assert_eq!((asks(&due), due.broken), (vec![(1, 1)], Vec::new()));
    promises.disconnected(peer(1));
    promises.check();
    assert!(promises.is_empty() && promises.peers.is_empty() && promises.timers.is_empty());
}

#[test]
fn what_is_forgotten_is_nobodys_fault() {
    let mut promises = promises();
    promises.announced(at(0), id(1), peer(0));
    promises.due(at(30));
    promises.forget(&id(1));
    assert_eq!(promises.due(at(100_000)), Due::default());
    promises.check();
}

#[test]
fn announcements_are_bounded_by_peer() {
    let config = PromiseConfig { announced_max: 10, ..PromiseConfig::default() };
    let mut promises = Promises::new(config);
    let filed = (0..200).filter(|number| promises.announced(at(0), id(*number), peer(0))).count();
    assert_eq!(filed, 10);
    assert!(promises.announced(at(0), id(0), peer(1)), "one peer's flood does not keep out another");
    promises.check();
}

/// A dozen who announce a message first, do not deliver it, and take as long as they can hold it up for three seconds, and once.
#[test]
fn those_who_announce_first_and_deliver_late_keep_nobody_out() {
    let (mut promises, colluders, honest) = (promises(), 12, 12);
    let mut asked_after_ms = Vec::new();
    for round in 0..4_u8 {
        let start_ms = 10_000 * u64::from(round);
        (0..colluders).for_each(|slot| assert!(promises.announced(at(start_ms), id(round), peer(slot))));
        assert!(promises.announced(at(start_ms + 100), id(round), peer(honest)), "there is room for everybody");
        let mut asked = Vec::new();
        while !asked.contains(&(honest, round)) {
            let now = promises.next_due().expect("somebody can be asked still");
            asked.extend(asks(&promises.due(now)));
            asked_after_ms.truncate(usize::from(round));
            asked_after_ms.push(now.as_micros() / 1_000 - start_ms);
        }
        // The first of those who were asked brings it late, which takes its own strike back: it can do so again, and the others cannot.
        promises.delivered(at(start_ms + 9_000), &id(round), peer(asked[0].0));
        promises.check();
    }
    assert!(asked_after_ms[0] < 3_000, "{asked_after_ms:?}");
    assert!(asked_after_ms[1..].iter().all(|after_ms| *after_ms <= 1_030), "{asked_after_ms:?}");
}

/// It is late once, whoever of those that were asked after it leaves.
#[test]
fn one_late_delivery_is_one_strike() {
    let mut promises = promises();
    (0..3).for_each(|slot| assert!(promises.announced(at(0), id(1), peer(slot))));
    assert_eq!(asks(&promises.due(at(30))), [(0, 1)]);
    assert_eq!(asks(&promises.due(at(1_030))), [(1, 1)]);
    promises.disconnected(peer(1));
    assert_eq!(asks(&promises.due(at(1_530))), [(2, 1)]);
    assert_eq!(promises.delivered(at(1_600), &id(1), peer(0)), Arrival::Pulled);
    [0, 3].into_iter().for_each(|slot| assert!(promises.announced(at(2_000), id(2), peer(slot))));
    assert_eq!(asks(&promises.due(at(2_100))), [(0, 2)], "it is as good as one that was never asked");
}

#[test]
fn contradictory_times_are_refused() {
    PromiseConfig::default().validate().expect("the defaults are valid");
    PromiseConfig::classic().validate().expect("the classic times are valid");
    let base = PromiseConfig::default;
    let wait = PromiseConfig { wait_max: Duration::ZERO, ..base() };
    let retry = PromiseConfig { retry_min: Duration::ZERO, ..base() };
    let blame = PromiseConfig { follow_up: Duration::from_millis(1), ..base() };
    let room = PromiseConfig { announced_max: 0, ..base() };
    assert_eq!(wait.validate(), Err(PromiseConfigError::WaitOrder));
    assert_eq!(retry.validate(), Err(PromiseConfigError::RetryOrder));
    assert_eq!(blame.validate(), Err(PromiseConfigError::RetryOrder));
    assert_eq!(room.validate(), Err(PromiseConfigError::NoRoom));
}

proptest! {
    /// The promise that matters: as long as one announcer is honest, the message is asked of it in time.
    #[test]
    fn one_honest_announcer_is_enough(honest in 0_u32..200, silent in 0_u32..200, rtt_ms in 1_u64..2_000) {
        let mut promises = promises();
        let announcers = silent.max(honest) + 1;
        for slot in 0..announcers {
            promises.measured_rtt(peer(slot), Duration::from_millis(rtt_ms));
            promises.announced(at(0), id(1), peer(slot));
        }
        let mut asked_ms = None;
        while let Some(now) = promises.next_due().filter(|_| asked_ms.is_none()) {
            let due = promises.due(now);
            promises.check();
            prop_assert!(due.requests.len() <= 1, "one at a time");
            if asks(&due).contains(&(honest, 1)) {
                asked_ms = Some(now.as_micros() / 1_000);
            }
        }
        let asked_ms = asked_ms.expect("the honest announcer is asked");
        // A second, half of one, a quarter and an eighth, and a tenth for each more; sixteen in three seconds.
        prop_assert!(asked_ms <= 30 + 1_875 + u64::from(announcers) * 100 + u64::from(announcers / 16) * 3_000);
        prop_assert!(announcers > 16 || asked_ms <= 30 + u64::from(announcers) * (2 * rtt_ms).clamp(100, 1_000));
    }
}

const MESSAGES: u8 = 5;
const PEERS: u32 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Announce(u8, u32),
    Deliver(u8, u32),
    Forget(u8),
    Disconnect(u32),
    Rtt(u32, u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..MESSAGES, 0..PEERS).prop_map(|(message, slot)| Step::Announce(message, slot)),
        1 => (0..MESSAGES, 0..PEERS).prop_map(|(message, slot)| Step::Deliver(message, slot)),
        1 => (0..MESSAGES).prop_map(Step::Forget),
        1 => (0..PEERS).prop_map(Step::Disconnect),
        1 => (0..PEERS, 0_u64..2_000).prop_map(|(slot, ms)| Step::Rtt(slot, ms)),
        6 => (0_u64..1_500).prop_map(Step::Pass),
    ]
}

fn model_config() -> PromiseConfig {
    let wait = Duration::from_millis(30);
    // A fixed wait: the estimate has a test of its own.
    PromiseConfig {
        wait_initial: wait,
        wait_min: wait,
        wait_max: wait,
        announced_max: 4,
        asked_max: 2,
        ..PromiseConfig::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fact {
    Waiting,
    /// When, and whether another one was since.
    Asked(u64, bool),
    Failed,
}

type Asks = Vec<(u32, u8)>;
type Broken = BTreeSet<(u32, u64)>;

#[derive(Debug, Default)]
struct Model {
    /// By message: announcers in order, and when the next may be asked.
    messages: BTreeMap<u8, (Vec<(u32, Fact)>, u64)>,
    strikes: BTreeMap<u32, u32>,
    rtts: BTreeMap<u32, u64>,
}

impl Model {
    fn strikes(&self, slot: u32) -> u32 {
        self.strikes.get(&slot).copied().unwrap_or(0)
    }

    fn in_flight(&self, slot: u32) -> usize {
        let facts = self.messages.values().flat_map(|(announcers, _)| announcers);
        facts.filter(|(other, fact)| *other == slot && matches!(fact, Fact::Asked(..))).count()
    }

    fn announce(&mut self, now_ms: u64, message: u8, slot: u32) -> bool {
        let of_peer = self.messages.values().filter(|(list, _)| list.iter().any(|(other, _)| *other == slot)).count();
        let known = self.messages.get(&message).map_or(&[][..], |(list, _)| list);
        if known.iter().any(|(other, _)| *other == slot) {
            return true;
        }
        if of_peer >= 4 {
            return false;
        }
        let mut list = known.to_vec();
        list.push((slot, Fact::Waiting));
        self.messages.entry(message).or_insert((Vec::new(), now_ms + 30)).0 = list;
        true
    }

    /// The earliest moment at which something happens to a message, and which.
    fn next(&self) -> Option<(u64, u8)> {
        let moments = self.messages.iter().flat_map(|(message, (list, ask_ms))| {
            list.iter().filter_map(move |(_, fact)| match fact {
                Fact::Waiting => Some((*ask_ms, *message)),
                Fact::Asked(asked_ms, _) => Some((asked_ms + 3_000, *message)),
                Fact::Failed => None,
            })
        });
        moments.min()
    }

    /// Whom to ask for what, and who broke a request made when.
    fn due(&mut self, now_ms: u64) -> (Asks, Broken) {
        let (mut asks, mut broken) = (Vec::new(), BTreeSet::new());
        while let Some((_, message)) = self.next().filter(|(moment_ms, _)| *moment_ms <= now_ms) {
            let (mut list, mut ask_ms) = self.messages.remove(&message).expect("it has a moment");
            for (slot, fact) in &mut list {
                if let Fact::Asked(asked_ms, _) = *fact
                    && asked_ms + 3_000 <= now_ms
                {
                    *fact = Fact::Failed;
                    broken.insert((*slot, asked_ms));
                    *self.strikes.entry(*slot).or_default() += 1;
                }
            }
            self.messages.insert(message, (list.clone(), ask_ms));
            let waiting = || list.iter().filter(|(_, fact)| *fact == Fact::Waiting).map(|(slot, _)| *slot);
            if let Some(next) = waiting().min_by_key(|slot| (self.strikes(*slot), self.in_flight(*slot)))
                && ask_ms <= now_ms
            {
                let open: Vec<(u64, u32)> = list
                    .iter()
                    .filter_map(|(slot, fact)| match fact {
                        Fact::Asked(asked_ms, _) => Some((*asked_ms, *slot)),
                        Fact::Waiting | Fact::Failed => None,
                    })
                    .collect();
                if open.len() >= 2 {
                    let first_ms = open.iter().map(|(asked_ms, _)| *asked_ms).min().expect("two are asked");
                    self.messages.insert(message, (list, first_ms + 3_000));
                    continue;
                }
                if let Some((_, late)) = open.into_iter().max_by_key(|(asked_ms, _)| *asked_ms) {
                    for (_, fact) in list.iter_mut().filter(|(slot, _)| *slot == late) {
                        if let Fact::Asked(_, struck @ false) = fact {
                            *struck = true;
                            *self.strikes.entry(late).or_default() += 1;
                        }
                    }
                }
                asks.push((next, message));
                let most_ms = match list.iter().filter(|(_, fact)| *fact != Fact::Waiting).count() {
                    0 => 1_000,
                    1 => 500,
                    2 => 250,
                    _ => 125,
                };
                ask_ms = now_ms + self.rtts.get(&next).map_or(most_ms, |rtt_ms| (2 * rtt_ms).clamp(100, most_ms));
                let asked = Fact::Asked(now_ms, false);
                list.iter_mut().filter(|(slot, _)| *slot == next).for_each(|(_, fact)| *fact = asked);
            }
            self.messages.insert(message, (list, ask_ms));
            self.messages.retain(|_, (list, _)| !list.iter().all(|(_, fact)| *fact == Fact::Failed));
        }
        (asks, broken)
    }

    fn deliver(&mut self, message: u8, slot: u32) -> Arrival {
        let Some((list, _)) = self.messages.remove(&message) else { return Arrival::Pushed };
        match list.iter().find(|(other, _)| *other == slot).map(|(_, fact)| *fact) {
            None | Some(Fact::Waiting) => return Arrival::Pushed,
            Some(Fact::Asked(_, false)) => *self.strikes.entry(slot).or_default() /= 2,
            Some(Fact::Asked(_, true)) => {
                let strikes = self.strikes.entry(slot).or_default();
                *strikes = strikes.saturating_sub(1);
            }
            Some(Fact::Failed) => {}
        }
        Arrival::Pulled
    }

    fn disconnect(&mut self, slot: u32) {
        for (list, ask_ms) in self.messages.values_mut() {
            let asked = |list: &[(u32, Fact)]| list.iter().any(|(_, fact)| matches!(fact, Fact::Asked(..)));
            let before = asked(list);
            list.retain(|(other, _)| *other != slot);
            if before && !asked(list) {
                *ask_ms = 0;
            }
        }
        self.messages.retain(|_, (list, _)| !list.iter().all(|(_, fact)| *fact == Fact::Failed));
        self.strikes.remove(&slot);
        self.rtts.remove(&slot);
    }
}

fn apply(step: Step, now_ms: &mut u64, promises: &mut Promises, model: &mut Model) {
    match step {
        Step::Announce(message, slot) => {
            let expected = model.announce(*now_ms, message, slot);
            assert_eq!(promises.announced(at(*now_ms), id(message), peer(slot)), expected);
        }
        Step::Deliver(message, slot) => {
            assert_eq!(promises.delivered(at(*now_ms), &id(message), peer(slot)), model.deliver(message, slot));
        }
        Step::Forget(message) => {
            promises.forget(&id(message));
            model.messages.remove(&message);
        }
        Step::Disconnect(slot) => {
            promises.disconnected(peer(slot));
            model.disconnect(slot);
        }
        Step::Rtt(slot, ms) => {
            promises.measured_rtt(peer(slot), Duration::from_millis(ms));
            model.rtts.insert(slot, ms);
        }
        Step::Pass(ms) => *now_ms += ms,
    }
}

proptest! {
    #[test]
    fn request_tracking_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 1..150)) {
        let (mut promises, mut model, mut now_ms) = (Promises::new(model_config()), Model::default(), 0);
        for step in steps {
            apply(step, &mut now_ms, &mut promises, &mut model);
            promises.check();
            let due = promises.due(at(now_ms));
            promises.check();
            let (mut expected_asks, broken) = model.due(now_ms);
            expected_asks.sort_by_key(|(slot, _)| *slot);
            prop_assert_eq!(asks(&due), expected_asks);
            let mut expected_broken: BTreeMap<u32, u32> = BTreeMap::new();
            broken.iter().for_each(|(slot, _)| *expected_broken.entry(*slot).or_default() += 1);
            let actual_broken: Vec<(u32, u32)> = due.broken.iter().map(|(peer, count)| (peer.slot, *count)).collect();
            prop_assert_eq!(actual_broken, expected_broken.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(promises.next_due(), model.next().map(|(moment_ms, _)| at(moment_ms)));
            prop_assert_eq!(promises.len(), model.messages.len());
        }
    }
}
