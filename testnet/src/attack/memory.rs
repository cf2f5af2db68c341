//! The memory that attackers take, and what they have honest nodes take, known before a run starts.
//!
//! It goes by the numbers of the attack: how many there are, how many connections they find, how much they send, and for how long. What each
//! of these takes is a fit to what was measured: see `docs/SIMULATOR.md`.

use super::flood::Flood;
use super::{Attackers, Targets};
use crate::sim::Scenario;
use starling_protocol::mempool;
use starling_protocol::mesh::seen::SeenConfig;
use starling_protocol::time::{Duration, Time};

/// An attacker without connections, beside its place in the network.
const ATTACKER_BYTES: u128 = 2 << 10;
/// An attacker's end of a connection: its line, its places in lists, and what waits there.
const END_BYTES: u128 = 3 << 10;
/// A connection that an attacker seeks and does not find: it dials again and again, and takes places in turns.
const SOUGHT_BYTES: u128 = 2 << 10;
/// What an attacker remembers of a message that it has heard.
const HEARD_BYTES: u128 = 48;
/// A message that is not accepted, where it is remembered.
const REFUSED_BYTES: u128 = 100;
/// A valid message that an attacker has made, at each node.
const MADE_BYTES: u128 = 500;
/// Whoever makes messages, beside those that are on their way.
const MAKER_BYTES: u128 = 128 << 10;
/// A message on its way that an attacker has made.
const UNDER_WAY_BYTES: u128 = 600;

/// How many bytes attackers take in a network in which an end of a connection takes `link_bytes`, a place `place_bytes`, and a message stays
/// known for a while, in which `heard` are published.
pub(crate) fn bytes(
    attackers: &[Attackers],
    scenario: &Scenario,
    (place_bytes, link_bytes): (u128, u128),
    heard: u128,
) -> u128 {
    let of = |some: &Attackers| {
        let links = some.links(scenario);
        some.identities() as u128 * (place_bytes + ATTACKER_BYTES)
            + u128::from(some.count) * heard * HEARD_BYTES
            + links.found * (END_BYTES + u128::from(some.lives()) * link_bytes + some.kept_of_flood())
            + (links.sought - links.found) * SOUGHT_BYTES
            + some.messages(scenario, links.found)
    };
    attackers.iter().map(of).sum()
}

/// Connections of attackers at a time.
struct Links {
    /// How many they seek.
    sought: u128,
    /// For how many there is room.
    found: u128,
}

impl Attackers {
    /// How many connections they have at a time: nodes take so many of others, and so many with one host.
    fn links(&self, scenario: &Scenario) -> Links {
        let targets = self.targets_len(scenario) as u128;
        let sought = u128::from(self.count) * targets.min(self.connections as u128);
        let limits = &scenario.limits;
        let hosts = u128::from(self.count.div_ceil(self.per_ip.max(1)));
        let room = (limits.inbound_max.min(limits.connections_max) as u128).min(hosts * limits.per_ip_max as u128);
        Links { sought, found: sought.min(targets * room) }
    }

    /// With how many nodes each of them can be connected.
    fn targets_len(&self, scenario: &Scenario) -> usize {
        match &self.targets {
            Targets::Named(name) if name == "publishers" => scenario.publishers_len(),
            Targets::Nodes(numbers) => numbers.len(),
            Targets::Named(_) => scenario.nodes,
        }
    }

    /// What a node keeps of what a flooder sends it over one connection.
    fn kept_of_flood(&self) -> u128 {
        match Flood::named(&self.kind) {
            Some(Flood::IDontWant) => 11 << 17,
            Some(Flood::IHave) => 1 << 20,
            Some(Flood::IWant) => 1 << 18,
            Some(Flood::Graft | Flood::Subscribe | Flood::Exchange) | None => 0,
        }
    }

    /// What the messages take that they make.
    fn messages(&self, scenario: &Scenario, links: u128) -> u128 {
        let per_s = self.param("per_s");
        if per_s <= 0.0 {
            return 0;
        }
        let rate = per_s;
        let begins_s = self.at_s.max(self.param("turn_s"));
        let lasts_s = (scenario.end().since(Time::ZERO).as_secs_f64() - begins_s).max(0.0);
        let within = |longest: Duration| rounded(rate * lasts_s.min(longest.as_secs_f64()));
        let (makers, nodes, seen) = (u128::from(self.count), scenario.nodes as u128, SeenConfig::default());
        let refused =
            (links * within(seen.refused_age_max)).min(nodes * seen.refused_entries_max as u128) * REFUSED_BYTES;
        let made = makers * (MAKER_BYTES + rounded(rate) * UNDER_WAY_BYTES);
        made + match self.kind.as_str() {
            "ground" | "rivals" => {
                // Pools take so many of each, and no more while nothing is put into blocks; others are not passed on.
                let quota = mempool::Config::default().sender_transactions_max as u128;
                let each = within(seen.accepted_age_max);
                let each = if scenario.producers == 0 { each.min(quota) } else { each };
                nodes * (makers * each).min(seen.accepted_entries_max as u128) * MADE_BYTES + refused
            }
            "expired" => refused,
            // Whoever sends others is gone at once, or sends what is known already.
            _ => 0,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and times are checked to be from 0 to millions"
)]
fn rounded(value: f64) -> u128 {
    value as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: u128 = 10_000;
    const LINK: u128 = 3_000;

    /// A hundred nodes that take 128 connections of others, eight of them with one host.
    fn of(attackers: Attackers) -> u128 {
        bytes(&[attackers], &Scenario::scale(100, 1), (PLACE, LINK), 50)
    }

    /// That many attackers with so many connections each.
    fn sybils(attackers: u128, connections: u128) -> u128 {
        attackers * (PLACE + ATTACKER_BYTES + 50 * HEARD_BYTES + connections * (END_BYTES + LINK))
    }

    #[test]
    fn connections_count_as_often_as_there_is_room_for_them() {
        assert_eq!(of(Attackers::new("sybil", 10, 20)), sybils(10, 20));
        assert_eq!(of(Attackers::new("sybil", 10, 100)), sybils(10, 100));
        assert_eq!(of(Attackers::new("sybil", 10, 1_000)), sybils(10, 100), "with each node one");
        assert_eq!(of(Attackers::new("sybil", 10, 20).aimed(Targets::Nodes(vec![1, 2]))), sybils(10, 2));
        let publishers = Targets::Named("publishers".into());
        assert_eq!(of(Attackers::new("sybil", 10, 100).aimed(publishers)), sybils(10, 64));
        // 12,800 of 20,000 find a place.
        assert_eq!(of(Attackers::new("sybil", 200, 100)), sybils(200, 64) + 7_200 * SOUGHT_BYTES);
        let together = Attackers { per_ip: 160, ..Attackers::new("sybil", 200, 100) };
        assert_eq!(of(together), sybils(200, 8) + 18_400 * SOUGHT_BYTES, "two hosts");
        let two = [Attackers::new("sybil", 10, 20), Attackers::new("mirror", 1, 7)];
        let both = bytes(&two, &Scenario::scale(100, 1), (PLACE, LINK), 50);
        assert_eq!(both, sybils(10, 20) + sybils(1, 7));
    }

    /// Nodes remember who has gone.
    #[test]
    fn every_life_leaves_something_behind() {
        let lives = of(Attackers::new("whitewash", 10, 20).with("lives", 4.0));
        assert_eq!(lives, sybils(10, 20) + 10 * 3 * (PLACE + ATTACKER_BYTES + 20 * LINK));
    }

    #[test]
    fn floods_and_messages_that_attackers_make_count() {
        let sent = |kind: &str| of(Attackers::new(kind, 10, 20)) - sybils(10, 20);
        assert_eq!((sent("graft"), sent("exchange"), sent("mirror")), (0, 0, 0));
        assert_eq!((sent("ihave"), sent("iwant")), (200 << 20, 200 << 18));
        assert_eq!(sent("idontwant"), 275 << 20);
        assert_eq!(sent("garbage"), 10 * (MAKER_BYTES + 1_000 * UNDER_WAY_BYTES));
        // A hundred a second for the 50 s of the run over each of 200 connections.
        let own = 10 * (MAKER_BYTES + 100 * UNDER_WAY_BYTES);
        assert_eq!(sent("expired") - own, 200 * 5_000 * REFUSED_BYTES);
        let late = of(Attackers::new("expired", 10, 20).at_s(49.0)) - sybils(10, 20);
        assert_eq!(late - own, 200 * 100 * REFUSED_BYTES);
        // Of which pools take 256 of each.
        assert_eq!(sent("rivals") - sent("expired"), 100 * 2_560 * MADE_BYTES);
        // Ten a second.
        assert_eq!(
            sent("ground") - 200 * 500 * REFUSED_BYTES - 100 * 2_560 * MADE_BYTES,
            10 * (MAKER_BYTES + 10 * UNDER_WAY_BYTES)
        );
    }
}
