//! The gater. The first three have the names of go-libp2p-pubsub's `peer_gater_test.go`; a connection here has no direction, so
//! that the latter two are about several connections of one address.

use crate::id::PeerHandle;
use crate::mesh::score::gater::{Gater, GaterConfig, GaterConfigError, Outcome};
use crate::random::Stream;
use crate::time::{Duration, Time};
use std::net::IpAddr;

fn peer(slot: u32) -> PeerHandle {
    PeerHandle { slot, generation: 0 }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([1, 2, 3, last])
}

fn gater() -> Gater {
    Gater::new(GaterConfig { threshold: 0.1, own_decay: 0.9, source_decay: 0.999, ..GaterConfig::default() })
}

/// How many of ten thousand messages pass.
fn admitted(gater: &Gater, now: Time, slot: u32) -> usize {
    let mut random = Stream::from_seed([3; 32]);
    (0..10_000).filter(|_| gater.admits(now, peer(slot), &mut random)).count()
}

#[test]
fn peer_gater() {
    let mut gater = gater();
    gater.connected(peer(0), address(4));
    assert_eq!(admitted(&gater, Time::ZERO, 0), 10_000);
    gater.validating();
    assert_eq!(admitted(&gater, Time::ZERO, 0), 10_000);
    gater.shed(Time::ZERO);
    gater.shed(Time::ZERO);
    assert_eq!(admitted(&gater, Time::ZERO, 0), 10_000, "an address without a history is believed");
    for _ in 0..100 {
        gater.outcome(peer(0), Outcome::Ignored);
        gater.outcome(peer(0), Outcome::Rejected);
    }
    assert!((1..50).contains(&admitted(&gater, Time::ZERO, 0)), "one in 1701 passes");
    (0..100).for_each(|_| gater.outcome(peer(0), Outcome::Accepted));
    let share = admitted(&gater, Time::ZERO, 0);
    assert!((480..640).contains(&share), "101 in 1801 pass, got {share} of 10000");
    gater.decay(Time::from_secs(59));
    assert_eq!(admitted(&gater, Time::from_secs(59), 0), 10_000, "what was shed has decayed");
    gater.disconnected(Time::from_secs(59), peer(0));
    gater.check();
    assert_eq!(gater.sources_len(), 1, "the address is remembered");
    gater.decay(Time::from_secs(59 + 6 * 3_600));
    assert_eq!(gater.sources_len(), 0, "for a time");
    gater.check();
}

#[test]
fn peer_gater_removes_the_stats_of_a_peer_that_is_gone() {
    let mut gater = gater();
    gater.connected(peer(0), address(4));
    gater.outcome(peer(0), Outcome::Rejected);
    gater.disconnected(Time::ZERO, peer(0));
    gater.disconnected(Time::ZERO, peer(0));
    gater.outcome(peer(0), Outcome::Rejected);
    gater.check();
    // The address is not washed clean by a new identity.
    gater.connected(peer(1), address(4));
    gater.validating();
    gater.shed(Time::ZERO);
    let share = admitted(&gater, Time::ZERO, 1);
    assert!((480..700).contains(&share), "one in seventeen passes, got {share} of 10000");
    gater.decay(Time::from_secs(10 * 3_600));
    gater.check();
    assert_eq!(gater.sources_len(), 1, "an address in use does not expire");
}

#[test]
fn peer_gater_keeps_an_address_while_any_peer_is_left() {
    let mut gater = gater();
    gater.connected(peer(0), address(4));
    gater.connected(peer(1), address(4));
    gater.disconnected(Time::ZERO, peer(0));
    gater.decay(Time::from_secs(10 * 3_600));
    gater.check();
    assert_eq!(gater.sources_len(), 1);
    gater.disconnected(Time::from_secs(10 * 3_600), peer(1));
    gater.decay(Time::from_secs(20 * 3_600));
    assert_eq!(gater.sources_len(), 0);
}

#[test]
fn the_gate_is_open_while_we_keep_up() {
    let mut gater = gater();
    gater.connected(peer(0), address(4));
    (0..100).for_each(|_| gater.outcome(peer(0), Outcome::Rejected));
    (0..100).for_each(|_| gater.validating());
    (0..9).for_each(|_| gater.shed(Time::ZERO));
    assert!(!gater.is_closed(Time::ZERO), "nine in a hundred are below the threshold");
    gater.shed(Time::ZERO);
    assert!(gater.is_closed(Time::from_secs(60)));
    assert!(!gater.is_closed(Time::from_secs(61)), "a minute without shedding opens it");
    gater.check();
}

#[test]
fn the_good_keep_their_share_when_the_bad_lose_theirs() {
    let mut gater = gater();
    for (slot, outcome) in
        [(0, Outcome::Accepted), (1, Outcome::Duplicate), (2, Outcome::Ignored), (3, Outcome::Rejected)]
    {
        gater.connected(peer(slot), address(u8::try_from(slot).expect("small")));
        (0..16).for_each(|_| gater.outcome(peer(slot), outcome));
    }
    gater.shed(Time::ZERO);
    let shares = [0, 1, 2, 3].map(|slot| admitted(&gater, Time::ZERO, slot));
    assert_eq!(shares[0], 10_000);
    assert!(shares.is_sorted_by(|better, worse| better > worse), "{shares:?}");
}

#[test]
fn addresses_are_bounded_and_those_in_use_stay() {
    let mut gater = Gater::new(GaterConfig { sources_max: 4, ..GaterConfig::default() });
    gater.connected(peer(200), address(200));
    for slot in 0..100 {
        gater.connected(peer(slot), address(u8::try_from(slot).expect("small")));
        gater.check();
        gater.disconnected(Time::from_secs(u64::from(slot)), peer(slot));
        gater.check();
    }
    assert_eq!(gater.sources_len(), 4);
    gater.outcome(peer(200), Outcome::Rejected);
    gater.shed(Time::ZERO);
    assert!(admitted(&gater, Time::ZERO, 200) < 10_000, "the connected address is still known");
}

#[test]
fn peer_gater_params_validation() {
    let base = GaterConfig::default();
    base.validate().expect("the defaults are valid");
    for value in [0.0, 1.0, -0.5, f64::NAN] {
        let refused = GaterConfig { threshold: value, ..base }.validate();
        assert!(matches!(refused, Err(GaterConfigError::NotAFraction { parameter: "threshold", .. })), "{value}");
    }
    let weight = GaterConfig { rejected_weight: f64::INFINITY, ..base }.validate();
    assert!(matches!(weight, Err(GaterConfigError::NotAWeight { parameter: "rejected_weight", .. })));
    assert_eq!(GaterConfig { quiet: Duration::ZERO, ..base }.validate(), Err(GaterConfigError::Zero("quiet")));
    assert_eq!(GaterConfig { sources_max: 0, ..base }.validate(), Err(GaterConfigError::Zero("sources_max")));
}
