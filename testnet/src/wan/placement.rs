//! Placing nodes in a profile's regions.
//!
//! Regions are filled by systematic sampling: with one random offset, every region gets its expected number
//! of nodes rounded down or up, and exactly its expected number on average. Independent draws would give the same
//! average, but at 16 nodes the geography, and with it every latency, would differ widely between seeds.
//! Then the order is shuffled, so that a node's number says nothing of its region.

use super::profile::Profile;
use super::random::Stream;

/// Where one node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// The node's region, as its place in [`Profile::regions`].
    pub region: usize,
    /// The one-way delay between the node and its region, in microseconds.
    pub last_mile_us: u64,
    /// What the node can send in all; `None` when sending is not limited.
    pub uplink_bits_per_s: Option<u64>,
}

/// Places `nodes` nodes. The same arguments give the same sites, in the same order.
pub(super) fn place(profile: &Profile, nodes: usize, seed: u64) -> Vec<Site> {
    let mut last_miles = Stream::new(seed, "last mile");
    let mut uplinks = Stream::new(seed, "uplink");
    regions(profile, nodes, &mut Stream::new(seed, "region"))
        .into_iter()
        .map(|region| Site {
            region,
            last_mile_us: last_mile_us(profile.last_mile_quantiles_us(), last_miles.next_u32()),
            uplink_bits_per_s: (!profile.uplinks().is_empty()).then(|| {
                let kind = uplinks.weighted(profile.uplinks().iter().map(|uplink| uplink.weight));
                profile.uplinks()[kind].bits_per_s
            }),
        })
        .collect()
}

/// The region of each node.
fn regions(profile: &Profile, nodes: usize, stream: &mut Stream) -> Vec<usize> {
    let total: u64 = profile.regions().iter().map(|region| u64::from(region.weight)).sum();
    // On a ruler of length `total * nodes`, a region covers its weight times `nodes`, and there is one node at the
    // offset into every stretch of length `total`.
    let offset = stream.below(total);
    let mut placed = Vec::with_capacity(nodes);
    let mut end = 0;
    for (index, region) in profile.regions().iter().enumerate() {
        end += u64::from(region.weight) * nodes as u64;
        while placed.len() < nodes && placed.len() as u64 * total + offset < end {
            placed.push(index);
        }
    }
    stream.shuffle(&mut placed);
    placed
}

/// The last mile at the quantile `draw / 2^32`, by straight lines between the given quantiles.
fn last_mile_us(quantiles_us: &[u64], draw: u32) -> u64 {
    let position = u64::from(draw) * (quantiles_us.len() as u64 - 1);
    let index = usize::try_from(position >> 32).expect("below the number of quantiles");
    let fraction = position & u64::from(u32::MAX);
    let low = quantiles_us[index];
    let high = quantiles_us.get(index + 1).copied().unwrap_or(low);
    // No delay of a profile needs more than 24 bits, so the product fits.
    low + (((high - low) * fraction) >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_region_gets_its_share_rounded(nodes in 1_usize..2_000, seed: u64) {
            let profile = Profile::wan();
            let sites = place(&profile, nodes, seed);
            prop_assert_eq!(sites.len(), nodes);
            for (index, region) in profile.regions().iter().enumerate() {
                let count = sites.iter().filter(|site| site.region == index).count();
                let exact = nodes * region.weight as usize;
                prop_assert!(count == exact / 100 || count == exact.div_ceil(100), "{} of {nodes} in {}", count, region.name);
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let profile = Profile::wan();
        assert_eq!(place(&profile, 64, 1), place(&profile, 64, 1));
        assert_ne!(place(&profile, 64, 1), place(&profile, 64, 2));
    }

    #[test]
    fn last_miles_follow_their_quantiles() {
        let profile = Profile::wan();
        let mut last_miles: Vec<u64> = place(&profile, 5_000, 3).iter().map(|site| site.last_mile_us).collect();
        last_miles.sort_unstable();
        assert!((2_400..2_600).contains(&last_miles[2_500]), "median {}", last_miles[2_500]);
        assert!((4_600..4_900).contains(&last_miles[4_500]), "p90 {}", last_miles[4_500]);
        assert!(last_miles[0] >= 690 && last_miles[4_999] <= 9_063);
        assert_eq!(last_mile_us(&[100, 200, 400], 0), 100);
        assert_eq!(last_mile_us(&[100, 200, 400], 1 << 31), 200);
        assert_eq!(last_mile_us(&[100, 200, 400], 3 << 30), 300);
        assert_eq!(last_mile_us(&[100], u32::MAX), 100);
    }
}
