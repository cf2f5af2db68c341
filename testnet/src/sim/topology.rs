//! Who is connected with whom.

use crate::wan::Stream;
use std::collections::BTreeSet;

/// How often another partner is drawn for a link that exists already, before the link is left out.
const DRAWS_MAX: usize = 32;

/// Links as pairs: the first node dialled the second.
pub type Links = Vec<(u32, u32)>;

/// A random network in which every node has `degree` links and dialled half of them: the union of `degree / 2` random rings
/// through all nodes. It is connected, and looks like a random regular graph (for a fixed degree the two models are contiguous:
/// Kim and Wormald, "Random matchings which induce Hamilton cycles", 2001). Where two rings share a link and no other partner
/// is found, it counts once, so that in very small networks some nodes have fewer links.
#[must_use]
pub fn random_regular(nodes: usize, degree: usize, stream: &mut Stream) -> Links {
    let mut links = Links::new();
    let mut known = BTreeSet::new();
    let mut ring: Vec<u32> = (0..u32::try_from(nodes).expect("a simulation has fewer than 2^32 nodes")).collect();
    for _ in 0..degree.div_ceil(2) {
        stream.shuffle(&mut ring);
        for place in 0..nodes {
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
    fn tiny_networks_have_what_links_there_are() {
        assert!(random_regular(1, 4, &mut Stream::new(1, "topology")).is_empty());
        assert_eq!(random_regular(2, 4, &mut Stream::new(1, "topology")).len(), 1);
        assert!(random_regular(5, 4, &mut Stream::new(1, "topology")).len() >= 5);
    }
}
