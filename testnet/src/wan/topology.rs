//! Nodes placed in a profile, the delay between any two of them, and the least delay that any scheme can reach.

use super::placement::{Site, place};
use super::profile::Profile;

/// Makes another seed of one, so that more nodes are not placed as the first ones are.
const MORE: u64 = 0x6d6f_7265;

/// A profile with nodes in it. Nodes are numbered from zero.
#[derive(Debug, Clone)]
pub struct Topology {
    profile: Profile,
    sites: Vec<Site>,
}

impl Topology {
    /// Places `nodes` nodes in the regions of `profile`. The same arguments give the same topology.
    #[must_use]
    pub fn new(profile: Profile, nodes: usize, seed: u64) -> Self {
        let sites = place(&profile, nodes, seed);
        Self { profile, sites }
    }

    /// The same with so many more nodes behind the others, which stay where they are.
    #[must_use]
    pub fn and_more(mut self, more: usize, seed: u64) -> Self {
        self.sites.extend(place(&self.profile, more, seed ^ MORE));
        self
    }

    /// The profile that the nodes are placed in.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.sites.len()
    }

    /// Where a node is.
    #[must_use]
    pub fn site(&self, node: usize) -> &Site {
        &self.sites[node]
    }

    /// The name of a node's region.
    #[must_use]
    pub fn region_name(&self, node: usize) -> &str {
        &self.profile.regions()[self.sites[node].region].name
    }

    /// The delay of a frame on the direct way between two nodes, in microseconds, jitter and sending time excluded.
    /// Zero from a node to itself.
    #[must_use]
    pub fn one_way_us(&self, a: usize, b: usize) -> u64 {
        if a == b {
            return 0;
        }
        let (a, b) = (&self.sites[a], &self.sites[b]);
        self.profile.rtt_us(a.region, b.region) / 2 + a.last_mile_us + b.last_mile_us
    }

    /// The least delay between every two nodes, through any nodes of the network: see the [module](super).
    ///
    /// A node in the middle of a path costs its last mile twice, so of each region only the node with the shortest one is
    /// ever worth a detour; and a detour within the region of either end never is. So shortest paths between regions decide, and
    /// this is cubic in the number of regions and linear in that of nodes.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let regions = self.profile.regions().len();
        let between = |a: usize, b: usize| self.profile.rtt_us(a, b) / 2;
        let mut least_us: Vec<u64> =
            (0..regions).flat_map(|a| (0..regions).map(move |b| (a, b))).map(|(a, b)| between(a, b)).collect();
        for via in 0..regions {
            let inside = self.sites.iter().filter(|site| site.region == via);
            let Some(last_mile_us) = inside.map(|site| site.last_mile_us).min() else { continue };
            for a in (0..regions).filter(|a| *a != via) {
                for b in (0..regions).filter(|b| *b != via) {
                    let detour_us = least_us[a * regions + via] + 2 * last_mile_us + least_us[via * regions + b];
                    least_us[a * regions + b] = least_us[a * regions + b].min(detour_us);
                }
            }
        }
        let sites = self.sites.iter().map(|site| (site.region, site.last_mile_us)).collect();
        Bounds { regions, least_us, sites }
    }
}

/// The least one-way delay between every two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    regions: usize,
    /// Between two regions, last miles at both ends excluded.
    least_us: Vec<u64>,
    /// Region and last mile of each node.
    sites: Vec<(usize, u64)>,
}

impl Bounds {
    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.sites.len()
    }

    /// The least delay from one node to another, in microseconds.
    #[must_use]
    pub fn least_us(&self, from: usize, to: usize) -> u64 {
        if from == to {
            return 0;
        }
        let ((a, a_us), (b, b_us)) = (self.sites[from], self.sites[to]);
        self.least_us[a * self.regions + b] + a_us + b_us
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_direct_way_is_half_the_round_trip_and_two_last_miles() {
        let topology = Topology::new(Profile::wan(), 32, 1);
        let (a, b) = (topology.site(3), topology.site(17));
        let expected = topology.profile().rtt_us(a.region, b.region) / 2 + a.last_mile_us + b.last_mile_us;
        assert_eq!(topology.one_way_us(3, 17), expected);
        assert_eq!(topology.one_way_us(17, 3), expected);
        assert_eq!(topology.one_way_us(5, 5), 0);
    }

    /// A detour through a middle region is taken when it is shorter, its node's last mile passed twice.
    #[test]
    fn a_detour_counts_its_last_miles() {
        let profile = Profile::parse(
            r#"
            format = 1
            name = "detour"
            jitter_ms_max = 9.0
            [last_mile]
            quantiles_ms = [1.0]
            [weights]
            west = 1
            middle = 1
            east = 1
            [rtt_ms]
            regions = ["west", "middle", "east"]
            matrix = [[0.0, 20.0, 100.0], [20.0, 0.0, 20.0], [100.0, 20.0, 0.0]]
            "#,
        )
        .expect("a good profile");
        let topology = Topology::new(profile, 3, 0);
        let at = |name| (0..3).find(|&node| topology.region_name(node) == name).expect("one node in each");
        let bounds = topology.bounds();
        assert_eq!(topology.one_way_us(at("west"), at("east")), 52_000);
        assert_eq!(bounds.least_us(at("west"), at("east")), 24_000);
        assert_eq!(bounds.least_us(at("west"), at("middle")), 12_000);
    }

    proptest! {
        /// Against Floyd and Warshall's algorithm over all nodes.
        #[test]
        fn bounds_agree_with_a_second_algorithm(nodes in 1_usize..24, seed: u64) {
            let topology = Topology::new(Profile::wan(), nodes, seed);
            let bounds = topology.bounds();
            let mut least: Vec<Vec<u64>> =
                (0..nodes).map(|a| (0..nodes).map(|b| topology.one_way_us(a, b)).collect()).collect();
            for via in 0..nodes {
                for a in 0..nodes {
                    for b in 0..nodes {
                        least[a][b] = least[a][b].min(least[a][via] + least[via][b]);
                    }
                }
            }
            for (a, row) in least.iter().enumerate() {
                for (b, least_us) in row.iter().enumerate() {
                    prop_assert_eq!(bounds.least_us(a, b), *least_us, "from {} to {}", a, b);
                }
            }
        }
    }

    /// The shipped matrix breaks the triangle inequality: for 38 of its 306 ordered pairs of regions the way
    /// through a third region is shorter, even before last miles. This pins the figures as they were copied.
    #[test]
    fn some_pairs_of_the_wan_profile_have_a_shorter_detour() {
        let profile = Profile::wan();
        let regions = profile.regions().len();
        let direct: Vec<Vec<u64>> = (0..regions)
            .map(|a| (0..regions).map(|b| if a == b { 0 } else { profile.rtt_us(a, b) }).collect())
            .collect();
        let mut least = direct.clone();
        for via in 0..regions {
            for a in 0..regions {
                for b in 0..regions {
                    least[a][b] = least[a][b].min(least[a][via] + least[via][b]);
                }
            }
        }
        let shorter = |&(a, b): &(usize, usize)| least[a][b] < direct[a][b];
        assert_eq!((0..regions).flat_map(|a| (0..regions).map(move |b| (a, b))).filter(shorter).count(), 38);
    }
}
