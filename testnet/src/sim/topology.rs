//! Who is connected with whom.

use super::scenario::Wiring;
use crate::wan::{Stream, Topology};
use std::collections::BTreeSet;

/// How often another partner is drawn for a link that exists already, before the link is left out.
const DRAWS_MAX: usize = 32;

/// Links as pairs: the first node dialled the second.
pub type Links = Vec<(u32, u32)>;

/// The links of a wiring, for so many nodes that are where `network` says.
#[must_use]
pub fn links(wiring: &Wiring, network: &Topology, nodes: usize, seed: u64) -> Links {
    let mut stream = Stream::new(seed, "topology");
    match wiring {
        Wiring::Random { degree } => random_regular(nodes, *degree, &mut stream),
        Wiring::Regional { degree, near_percent } => regional(nodes, *degree, *near_percent, network, &mut stream),
        Wiring::SmallWorld { degree, moved_permille } => small_world(nodes, *degree, *moved_permille, &mut stream),
        Wiring::Given(links) => links.to_vec(),
        Wiring::Discovered { bootnodes, .. } => {
            let number = |node: usize| u32::try_from(node).expect("a simulation has fewer than 2^32 nodes");
            let named = |node| (0..*bootnodes).filter(move |bootnode| *bootnode != node);
            (0..nodes).flat_map(|node| named(node).map(move |bootnode| (number(node), number(bootnode)))).collect()
        }
    }
}

/// Random rings through each region for a share of the links, and random rings through all nodes for the rest. Where a region has too few nodes for
/// its share, these have links with others of whom the same is true.
fn regional(nodes: usize, degree: usize, near_percent: u32, network: &Topology, stream: &mut Stream) -> Links {
    let near = degree * near_percent as usize / 100;
    let mut links = random_regular(nodes, degree - near, stream);
    let mut known: BTreeSet<(u32, u32)> = links.iter().map(|(a, b)| pair(*a, *b)).collect();
    // Each node as often as it has links to spare.
    let mut spare = Vec::new();
    for region in 0..network.profile().regions().len() {
        let inside = |node: &u32| network.site(*node as usize).region == region;
        let members: Vec<u32> = (0..).take(nodes).filter(inside).collect();
        let possible = near.min(members.len().saturating_sub(1));
        for (a, b) in random_regular(members.len(), possible, stream) {
            let (a, b) = (members[a as usize], members[b as usize]);
            if known.insert(pair(a, b)) {
                links.push((a, b));
            }
        }
        spare.extend(members.iter().flat_map(|node| std::iter::repeat_n(*node, near - possible)));
    }
    stream.shuffle(&mut spare);
    while let Some(from) = spare.pop() {
        let partner = spare.iter().rposition(|to| *to != from && !known.contains(&pair(from, *to)));
        if let Some(to) = partner.map(|place| spare.remove(place)) {
            known.insert(pair(from, to));
            links.push((from, to));
        }
    }
    links
}

/// Each node dials the next ones of a ring, but some of these links lead to nodes drawn at random. Of an odd number every other node dials the last one.
fn small_world(nodes: usize, degree: usize, moved_permille: u32, stream: &mut Stream) -> Links {
    let number = |node: usize| u32::try_from(node % nodes).expect("a simulation has fewer than 2^32 nodes");
    let mut known = BTreeSet::new();
    let mut links = Links::new();
    for step in 1..=degree.div_ceil(2) {
        let is_half = step * 2 > degree && degree + 1 < nodes;
        for node in (0..nodes).filter(|node| !is_half || node / step % 2 == 0) {
            let from = number(node);
            let mut to = number(node + step);
            for _ in 0..DRAWS_MAX {
                if to != from && !known.contains(&pair(from, to)) && stream.below(1_000) >= u64::from(moved_permille) {
                    break;
                }
                to = number(stream.index(nodes));
                if to != from && !known.contains(&pair(from, to)) {
                    break;
                }
            }
            if to != from && known.insert(pair(from, to)) {
                links.push((from, to));
            }
        }
    }
    links
}

/// A random network in which every node has `degree` links and dialled half of them: the union of `degree / 2` random rings
/// through all nodes. It is connected, and looks like a random regular graph (for a fixed degree the two models are contiguous:
/// Kim and Wormald, "Random matchings which induce Hamilton cycles", 2001). Where two rings share a link and no other partner
/// is found, it counts once, so that in very small networks some nodes have fewer links. Of an odd degree the last link is that of a random matching, so
/// that with an odd number of nodes one has a link less.
#[must_use]
pub fn random_regular(nodes: usize, degree: usize, stream: &mut Stream) -> Links {
    let mut links = Links::new();
    let mut known = BTreeSet::new();
    let mut ring: Vec<u32> = (0..u32::try_from(nodes).expect("a simulation has fewer than 2^32 nodes")).collect();
    for round in 0..degree.div_ceil(2) {
        stream.shuffle(&mut ring);
        let is_half = round * 2 + 1 == degree && degree + 1 < nodes;
        for place in 0..nodes {
            if is_half && (place % 2 == 1 || place + 1 == nodes) {
                continue;
            }
            let from = ring[place];
            let next = (place + 1) % nodes;
            for _ in 0..DRAWS_MAX {
                if ring[next] != from && !known.contains(&pair(from, ring[next])) {
                    break;
                }
                // The partners of places that are still to come can be exchanged without touching links that were made.
                if next == 0 || next + 1 >= nodes {
                    break;
                }
                ring.swap(next, next + stream.index(nodes - next));
            }
            if ring[next] != from && known.insert(pair(from, ring[next])) {
                links.push((from, ring[next]));
            }
        }
    }
    links
}

fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wan::Profile;

    #[test]
    fn regions_that_are_too_small_leave_nobody_with_too_few_links() {
        let nodes = 20;
        for (near_percent, seed) in [(80, 1), (50, 2), (20, 3)] {
            let network = Topology::new(Profile::wan(), nodes, seed);
            let mut all = vec![0; nodes];
            for (a, b) in links(&Wiring::Regional { degree: 10, near_percent }, &network, nodes, seed) {
                all[a as usize] += 1;
                all[b as usize] += 1;
            }
            // The last ones may find nobody left with whom they are not linked already.
            assert!(all.iter().all(|count| (8..=10).contains(count)), "{near_percent} %: {all:?}");
        }
    }

    #[test]
    fn every_node_has_its_links_and_dialled_half_of_them() {
        for (nodes, degree) in [(1_000, 40), (200, 6), (50, 10)] {
            let links = random_regular(nodes, degree, &mut Stream::new(1, "topology"));
            let (mut dialled, mut all) = (vec![0; nodes], vec![0; nodes]);
            let mut pairs = BTreeSet::new();
            for (from, to) in &links {
                assert_ne!(from, to);
                assert!(pairs.insert(pair(*from, *to)), "a link is made once");
                dialled[*from as usize] += 1;
                all[*from as usize] += 1;
                all[*to as usize] += 1;
            }
            let missing = nodes * degree / 2 - links.len();
            assert!(missing * 100 <= nodes, "{missing} links are missing");
            assert!(all.iter().all(|count| (degree - 4..=degree).contains(count)));
            assert!(dialled.iter().all(|count| (degree / 2 - 2..=degree / 2).contains(count)));
        }
    }

    #[test]
    fn an_odd_degree_is_no_even_one() {
        let mean = |links: &Links, nodes: usize| links.len() as f64 * 2.0 / nodes as f64;
        for (nodes, degree) in [(1_000, 3), (301, 5), (20, 7), (9, 3)] {
            let links = random_regular(nodes, degree, &mut Stream::new(1, "topology"));
            let counts = degrees(nodes, &links);
            assert!(counts.iter().all(|count| *count <= degree), "{nodes} nodes, {degree}: {counts:?}");
            let missing = (degree as f64 - mean(&links, nodes)) * nodes as f64;
            assert!((0.0..=4.0).contains(&missing.round()), "{nodes} nodes, {degree}: {missing}");
        }
        let network = Topology::new(Profile::wan(), 300, 1);
        let wiring = Wiring::SmallWorld { degree: 5, moved_permille: 100 };
        let found = mean(&links(&wiring, &network, 300, 1), 300);
        assert!((4.9..=5.1).contains(&found), "{found}");
    }

    fn degrees(nodes: usize, links: &Links) -> Vec<usize> {
        let mut all = vec![0; nodes];
        for (from, to) in links {
            assert_ne!(from, to);
            all[*from as usize] += 1;
            all[*to as usize] += 1;
        }
        let pairs: BTreeSet<_> = links.iter().map(|(a, b)| pair(*a, *b)).collect();
        assert_eq!(pairs.len(), links.len(), "a link is made once");
        all
    }

    #[test]
    fn regional_links_stay_in_their_region() {
        let network = Topology::new(Profile::wan(), 500, 1);
        let near = |near_percent| {
            let links = links(&Wiring::Regional { degree: 20, near_percent }, &network, 500, 1);
            let within = |(a, b): &&(u32, u32)| network.site(*a as usize).region == network.site(*b as usize).region;
            assert!(degrees(500, &links).iter().sum::<usize>() > 500 * 17);
            links.iter().filter(within).count() * 100 / links.len()
        };
        let (few, many) = (near(0), near(60));
        assert!(few < 20 && (50..75).contains(&many), "{few} % and {many} %");
    }

    #[test]
    fn a_small_world_is_a_ring_with_shortcuts() {
        let network = Topology::new(Profile::wan(), 300, 1);
        let far = |moved_permille| {
            let links = links(&Wiring::SmallWorld { degree: 10, moved_permille }, &network, 300, 1);
            let all = degrees(300, &links);
            assert!(all.iter().sum::<usize>() >= 300 * 10 - 30);
            links
                .iter()
                .filter(|(a, b)| (5..295).contains(&(a.abs_diff(*b))))
                .filter(|(a, b)| a.abs_diff(*b) > 5)
                .count()
        };
        assert_eq!(far(0), 0);
        assert!((90..230).contains(&far(100)), "{}", far(100));
    }

    #[test]
    fn everybody_knows_the_bootnodes() {
        let network = Topology::new(Profile::wan(), 5, 1);
        let wiring = Wiring::Discovered { bootnodes: 2, target_peers: 3 };
        assert_eq!(links(&wiring, &network, 4, 1), [(0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]);
    }

    #[test]
    fn tiny_networks_have_what_links_there_are() {
        assert!(random_regular(1, 4, &mut Stream::new(1, "topology")).is_empty());
        assert_eq!(random_regular(2, 4, &mut Stream::new(1, "topology")).len(), 1);
        assert!(random_regular(5, 4, &mut Stream::new(1, "topology")).len() >= 5);
    }
}
