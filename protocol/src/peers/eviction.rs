//! Which inbound peer makes room for a newcomer when all places for others are taken.
//!
//! Whoever comes first could otherwise keep the places for ever: attackers that are there before honest nodes connect cut these off from each
//! other, and it costs them one silent connection for each place. So a newcomer may take the place of somebody who is worth less to us than the chance
//! that it is somebody better. As in Bitcoin Core's `SelectNodeToEvict`, nobody is ranked; some are protected, by several measures of
//! which none is easy to fake together with the others, and somebody of the rest goes.
//!
//! # Rules
//! 1. Only inbound peers are evicted, and never one that is banned from being so: trusted and direct peers ([`Inbound::kept`]).
//! 2. Whoever is connected for less than [`GRACE`] is left alone by strangers. *Rationale:* it had no time to show anything, and two newcomers
//!    would evict each other in turn.
//! 3. Protected are, in this order, each time among those who are left:
//!    [`PROTECTED_PROVEN`] of most merit, who were of use in former connections, too (`peers/proven.rs`);
//!    [`PROTECTED_USEFUL`] that brought us a first copy of an accepted message most recently, for each topic;
//!    [`PROTECTED_NEAR`] of the lowest round-trip time; the oldest of each of [`PROTECTED_GROUPS`] groups of addresses that a
//!    secret of ours picks; and half of the rest, those that have been connected for longest.
//!    *Rationale:* messages have to be brought before anybody else does; nearness and groups are what an attacker cannot choose; and who wants to
//!    drive out old peers by coming anew finds half of them out of reach.
//!    The last of these comes after the next rule.
//! 4. Where [`IDLE_MIN`] at least and a quarter of the rest have been idle for half a minute ([`super::renewal`]), the others are left alone. *Rationale:* a silent peer costs an attacker nothing, and honest
//!    ones announce what they have; where nobody has anything to say all are idle. Where few are idle, they are rather clients that have little to say.
//! 5. Of the rest, the youngest of the largest group of addresses goes; of groups of the same size, that with the youngest
//!    peer. *Rationale:* many connections from few networks are the cheapest attack.
//! 6. If nobody is left, the newcomer is refused.
//! 7. Whoever asks bounds how often ([`EVICTION_INTERVAL`]), for strangers and for acquaintances each: an attacker that dials without end must not
//!    turn over all places, nor be the only one that is let in.
//!
//! # Cost
//! O(n log n) for n inbound peers, for each newcomer that finds no room.

use super::address::Group;
use crate::id::PeerHandle;
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How long a newcomer is left alone. A guess: some heartbeats, and long enough to be tried in a mesh.
pub const GRACE: Duration = Duration::from_secs(15);
/// At least so long between two evictions.
pub const EVICTION_INTERVAL: Duration = Duration::from_secs(1);
/// Peers that are protected for their merit: an eighth of all places for others.
pub const PROTECTED_PROVEN: usize = 16;
/// Peers that are protected for what they brought, for each topic. Guesses as in Bitcoin Core, of the size of a mesh.
pub const PROTECTED_USEFUL: usize = 8;
/// Peers that are protected for being near.
pub const PROTECTED_NEAR: usize = 8;
/// So many peers that say nothing are no chance. A guess.
pub const IDLE_MIN: usize = 8;
/// Peers that are protected by the group of their addresses.
pub const PROTECTED_GROUPS: usize = 4;

/// For whom somebody makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomer {
    /// Nobody knows.
    Stranger,
    /// Somebody who has proven useful before.
    Acquaintance,
}

/// What is known of an inbound peer.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Who.
    pub peer: PeerHandle,
    /// Its address.
    pub ip: IpAddr,
    /// When it connected.
    pub since: Time,
    /// Its round-trip time, if it was measured.
    pub rtt: Option<Duration>,
    /// By topic, when it last brought a first copy that was accepted; none if it never did.
    pub brought: Vec<Option<Time>>,
    /// In how many turns it has been of use, in all connections; zero if it is no acquaintance.
    pub merit: u8,
    /// Whether it has neither brought nor announced anything for some turns, and is in no mesh.
    pub idle: bool,
    /// Whether it is to stay, whatever happens.
    pub kept: bool,
}

impl Inbound {
    /// The group that it counts with; addresses that belong to none count as one each.
    fn group(&self) -> Group {
        Group::of(self.ip).unwrap_or_else(|| Group::host(self.ip))
    }
}

/// Who is to go for this newcomer, if anybody; `secret` says which groups are protected.
#[must_use]
pub fn choose(now: Time, inbound: &[Inbound], newcomer: Newcomer, secret: u64) -> Option<PeerHandle> {
    let grace = if newcomer == Newcomer::Stranger { GRACE } else { Duration::ZERO };
    let mut rest: Vec<&Inbound> = inbound.iter().filter(|it| !it.kept && now.since(it.since) >= grace).collect();
    // An order that depends on nothing but who there is.
    rest.sort_unstable_by_key(|it| it.peer);
    rest.sort_by_key(|it| core::cmp::Reverse(it.merit));
    let proven = rest.iter().filter(|it| it.merit > 0).count();
    rest.drain(..proven.min(PROTECTED_PROVEN));
    let topics = inbound.iter().map(|it| it.brought.len()).max().unwrap_or(0);
    for topic in 0..topics {
        let brought = |it: &Inbound| it.brought.get(topic).copied().flatten();
        rest.sort_by_key(|it| core::cmp::Reverse(brought(it)));
        let useful = rest.iter().filter(|it| brought(it).is_some()).count();
        rest.drain(..useful.min(PROTECTED_USEFUL));
    }
    rest.sort_by_key(|it| it.rtt.unwrap_or(Duration::MAX));
    let measured = rest.iter().filter(|it| it.rtt.is_some()).count();
    rest.drain(..measured.min(PROTECTED_NEAR));
    let groups: BTreeSet<(u64, Group)> = rest.iter().map(|it| (keyed(it.group(), secret), it.group())).collect();
    for (_, group) in groups.into_iter().take(PROTECTED_GROUPS) {
        let oldest = rest.iter().filter(|it| it.group() == group).min_by_key(|it| (it.since, it.peer));
        let oldest = oldest.map(|it| it.peer);
        rest.retain(|it| Some(it.peer) != oldest);
    }
    let idle = rest.iter().filter(|it| it.idle).count();
    if idle >= IDLE_MIN && idle * 4 >= rest.len() {
        rest.retain(|it| it.idle);
    }
    rest.sort_by_key(|it| it.since);
    rest.drain(..rest.len() / 2);
    let mut by_group: BTreeMap<Group, Vec<&Inbound>> = BTreeMap::new();
    // The youngest of each comes last.
    rest.into_iter().for_each(|it| by_group.entry(it.group()).or_default().push(it));
    let youngest = |members: &[&Inbound]| members.last().map(|it| (it.since, it.peer));
    let largest = by_group.values().max_by_key(|members| (members.len(), youngest(members)))?;
    youngest(largest).map(|(_, peer)| peer)
}

/// A number for each group that nobody else can tell (the finaliser of splitmix64 over the group's bits and the secret).
fn keyed(group: Group, secret: u64) -> u64 {
    let mut hash = secret;
    for word in group.words() {
        hash = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_secs(1_000);

    fn handle(slot: u32) -> PeerHandle {
        PeerHandle { slot, generation: 0 }
    }

    /// A peer of a network of its own that has been there for so long and done nothing.
    fn silent(slot: u32, age_s: u64) -> Inbound {
        let [.., a, b] = slot.to_be_bytes();
        Inbound {
            peer: handle(slot),
            ip: IpAddr::from([20 + a, b, 1, 1]),
            since: Time::from_secs(1_000 - age_s),
            rtt: None,
            merit: 0,
            brought: vec![None, None],
            idle: false,
            kept: false,
        }
    }

    fn newcomer() -> impl Strategy<Value = Newcomer> {
        prop_oneof![Just(Newcomer::Stranger), Just(Newcomer::Acquaintance)]
    }

    fn arbitrary() -> impl Strategy<Value = Inbound> {
        let brought = prop::collection::vec(prop::option::of(0_u64..1_000), 2);
        let rtt = prop::option::of(1_u64..300);
        let merit = prop_oneof![3 => Just(0), 2 => any::<u8>()];
        (0_u8..6, 0_u64..200, rtt, brought, merit, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
            |(network, age_s, rtt, brought, merit, idle, kept)| Inbound {
                idle,
                merit,
                ip: IpAddr::from([20, network, 1, 1]),
                rtt: rtt.map(Duration::from_millis),
                brought: brought.into_iter().map(|at| at.map(Time::from_secs)).collect(),
                kept,
                ..silent(0, age_s)
            },
        )
    }

    /// The same by taking away one peer after the other.
    fn naive(inbound: &[Inbound], newcomer: Newcomer, secret: u64) -> Option<PeerHandle> {
        let mut left: Vec<&Inbound> = inbound.iter().collect();
        left.retain(|it| !it.kept && (newcomer == Newcomer::Acquaintance || NOW.since(it.since) >= GRACE));
        for _ in 0..PROTECTED_PROVEN {
            let best = left.iter().filter(|it| it.merit > 0).map(|it| (it.merit, u32::MAX - it.peer.slot)).max();
            left.retain(|it| best != Some((it.merit, u32::MAX - it.peer.slot)));
        }
        for topic in 0..2 {
            for _ in 0..PROTECTED_USEFUL {
                let latest = left.iter().filter_map(|it| Some((it.brought[topic]?, it.peer.slot))).max();
                left.retain(|it| Some(it.peer.slot) != latest.map(|(_, slot)| slot));
            }
        }
        for _ in 0..PROTECTED_NEAR {
            let nearest = left.iter().filter_map(|it| Some((it.rtt?, it.peer.slot))).min();
            left.retain(|it| Some(it.peer.slot) != nearest.map(|(_, slot)| slot));
        }
        let mut groups: Vec<Group> = left.iter().map(|it| it.group()).collect();
        groups.sort_by_key(|group| keyed(*group, secret));
        groups.dedup();
        for group in groups.into_iter().take(PROTECTED_GROUPS) {
            let since = left.iter().filter(|it| it.group() == group).map(|it| it.since).min();
            left.retain(|it| it.group() != group || Some(it.since) != since);
        }
        let idle: Vec<&Inbound> = left.iter().filter(|it| it.idle).copied().collect();
        left = if idle.len() < 8 || idle.len() * 4 < left.len() { left } else { idle };
        for _ in 0..left.len() / 2 {
            let oldest = left.iter().map(|it| it.since).min();
            let place = left.iter().position(|it| Some(it.since) == oldest)?;
            left.remove(place);
        }
        let size = |it: &Inbound| left.iter().filter(|other| other.group() == it.group()).count();
        let newest = |it: &Inbound| left.iter().filter(|other| other.group() == it.group()).map(|it| it.since).max();
        left.iter().max_by_key(|it| (size(it), newest(it), it.since)).map(|it| it.peer)
    }

    proptest! {
        #[test]
        fn it_does_what_the_naive_model_does(
            mut inbound in prop::collection::vec(arbitrary(), 0..80),
            newcomer in newcomer(),
            secret in any::<u64>(),
        ) {
            // All different, because no rule decides between equals.
            for (slot, it) in (0_u32..).zip(&mut inbound) {
                let apart = Duration::from_micros(u64::from(slot));
                it.peer = handle(slot);
                it.since = it.since + apart;
                it.rtt = it.rtt.map(|rtt| rtt + apart);
                it.brought.iter_mut().flatten().for_each(|at| *at = *at + apart);
            }
            prop_assert_eq!(choose(NOW, &inbound, newcomer, secret), naive(&inbound, newcomer, secret));
        }

        #[test]
        fn whoever_goes_is_in_no_protected_class(
            mut inbound in prop::collection::vec(arbitrary(), 0..80),
            newcomer in newcomer(),
            secret in any::<u64>(),
        ) {
            inbound.iter_mut().zip(0..).for_each(|(it, slot)| it.peer = handle(slot));
            let chosen = choose(NOW, &inbound, newcomer, secret);
            let mut mirrored = inbound.clone();
            mirrored.reverse();
            prop_assert_eq!(choose(NOW, &mirrored, newcomer, secret), chosen, "the order of the list means nothing");
            let old: Vec<&Inbound> = inbound.iter().filter(|it| !it.kept && (newcomer == Newcomer::Acquaintance || NOW.since(it.since) >= GRACE)).collect();
            let protected = PROTECTED_PROVEN + 2 * PROTECTED_USEFUL + PROTECTED_NEAR + PROTECTED_GROUPS;
            prop_assert!(chosen.is_some() || old.len() <= protected, "somebody of {} goes", old.len());
            let Some(gone) = chosen.and_then(|peer| inbound.iter().find(|it| it.peer == peer)) else { return Ok(()) };
            prop_assert!(old.iter().any(|it| it.peer == gone.peer));
            let better = old.iter().filter(|it| it.merit >= gone.merit).count();
            prop_assert!(gone.merit == 0 || better > PROTECTED_PROVEN, "it is among those of most merit");
            for topic in 0..2 {
                let later = old.iter().filter(|it| it.brought[topic] >= gone.brought[topic]).count();
                prop_assert!(gone.brought[topic].is_none() || later > PROTECTED_USEFUL, "it was of use of late");
            }
            let nearer = old.iter().filter(|it| it.rtt.is_some_and(|rtt| gone.rtt.is_some_and(|own| rtt <= own))).count();
            prop_assert!(gone.rtt.is_none() || nearer > PROTECTED_NEAR, "it is among the nearest");
        }
    }

    #[test]
    fn attackers_that_were_first_make_room_and_whoever_is_of_use_stays() {
        let mut inbound: Vec<Inbound> = (0..100).map(|slot| silent(slot, 900)).collect();
        inbound.extend((100..108).map(|slot| Inbound { brought: vec![Some(NOW), None], ..silent(slot, 20) }));
        inbound.extend((108..128).map(|slot| silent(slot, 5)));
        for _ in 0..40 {
            let gone = choose(NOW, &inbound, Newcomer::Stranger, 7).expect("somebody makes room");
            assert!(gone.slot < 100, "{gone:?} is of use or has just come");
            inbound.retain(|it| it.peer != gone);
        }
    }

    #[test]
    fn the_idle_go_before_others_however_long_they_have_been_there() {
        let mut inbound: Vec<Inbound> = (0..60).map(|slot| Inbound { idle: true, ..silent(slot, 900) }).collect();
        inbound.extend((60..120).map(|slot| silent(slot, 20)));
        let mut gone = Vec::new();
        while let Some(peer) = choose(NOW, &inbound, Newcomer::Stranger, 7).filter(|peer| peer.slot < 60) {
            gone.push(peer);
            inbound.retain(|it| it.peer != peer);
        }
        // Of the others forty are protected by none of the rules before.
        assert!((35..45).contains(&gone.len()), "{} of sixty that say nothing", gone.len());
        assert!(choose(NOW, &inbound, Newcomer::Stranger, 7).is_some(), "and then others");
        // A few that have little to say are not set upon.
        let mut few: Vec<Inbound> = (0..IDLE_MIN)
            .map(|slot| Inbound { idle: true, ..silent(u32::try_from(slot).expect("few"), 900) })
            .collect();
        few.extend((60..70).map(|slot| silent(slot, 20)));
        few.remove(0);
        assert!(choose(NOW, &few, Newcomer::Stranger, 7).is_some_and(|gone| gone.slot >= 60));
    }

    #[test]
    fn the_largest_group_gives_and_of_it_the_youngest() {
        let mut inbound: Vec<Inbound> = (0..60).map(|slot| silent(slot, 100)).collect();
        for slot in 60..70 {
            let ip = IpAddr::from([99, 99, 1, u8::try_from(slot).expect("small")]);
            inbound.push(Inbound { ip, ..silent(slot, 90 - u64::from(slot - 60)) });
        }
        let gone = choose(NOW, &inbound, Newcomer::Stranger, 7);
        assert_eq!(gone, Some(handle(69)));
    }

    #[test]
    fn a_few_peers_are_all_protected() {
        let few: Vec<Inbound> = (0..4).map(|slot| silent(slot, 100)).collect();
        assert_eq!(choose(NOW, &few, Newcomer::Stranger, 7), None);
        let kept: Vec<Inbound> = (0..50).map(|slot| Inbound { kept: true, ..silent(slot, 100) }).collect();
        assert_eq!(choose(NOW, &kept, Newcomer::Stranger, 7), None);
    }
}
