//! Faults that do not go together.
//!
//! Who is drawn from the seed may meet other faults by chance, as churn does: what is refused is only what meets with every seed.

use super::check::Checked;
use super::error::Problem;
use super::error::Step::{Index, Key};
use super::faults::count_of;
use super::keys::{Fault, Manifest, Who};
use std::collections::BTreeSet;

/// Checks that faults go together.
pub(super) fn check(manifest: &Manifest) -> Checked {
    partitions(manifest)?;
    for (later, fault) in manifest.fault.iter().enumerate() {
        for (earlier, other) in manifest.fault.iter().enumerate() {
            let (at_s, other_at_s) = (fault.when().0, other.when().0);
            // Of two at the same time the one that is written first counts as the earlier one.
            if earlier == later || (other_at_s, earlier) > (at_s, later) {
                continue;
            }
            if let Some(message) = contradiction(manifest.nodes, other, fault) {
                let at = [Key("fault"), Index(later)];
                return Err(
                    Problem::new(&[&at[..], &[Key("at_s")]].concat(), message).beside(&[Key("fault"), Index(earlier)])
                );
            }
        }
    }
    Ok(())
}

/// Why a fault cannot come after another one has begun, if so.
fn contradiction(nodes: u32, earlier: &Fault, later: &Fault) -> Option<String> {
    let (what, for_good) = match (earlier, later) {
        (Fault::Kill { for_s: None, .. }, Fault::Kill { .. } | Fault::Restart { .. } | Fault::Pause { .. }) => {
            ("is killed", true)
        }
        (Fault::Kill { .. } | Fault::Restart { .. }, Fault::Kill { .. } | Fault::Restart { .. }) => ("is down", false),
        (Fault::Pause { .. }, Fault::Pause { .. }) => ("stands still", false),
        (Fault::SlowCpu { .. }, Fault::SlowCpu { .. }) => ("has a slow processor", false),
        (Fault::SlowDisk { .. }, Fault::SlowDisk { .. }) => ("has a slow disk", false),
        _ => return None,
    };
    let ((began_s, for_s), (at_s, _)) = (earlier.when(), later.when());
    let until_s = for_s.map(|for_s| began_s + for_s);
    if until_s.is_some_and(|until_s| at_s >= until_s) {
        return None;
    }
    let node = common(nodes, earlier.who()?, later.who()?)?;
    let (until, remedy) = match until_s {
        Some(until_s) => (format!("until {until_s} s"), format!("begin at {until_s} s or later")),
        None if for_good => ("for good".into(), "give the other one for_s".into()),
        None => ("to the end".into(), "give the other one for_s".into()),
    };
    Some(format!("{node} {what} already, from {began_s} s {until}; {remedy}, or name other nodes"))
}

/// A node that is in both groups, whatever the seed.
fn common(nodes: u32, one: &Who, other: &Who) -> Option<String> {
    let count = |who: &Who| match who {
        Who::All(_) => nodes,
        Who::Percent(share) => count_of(*share, nodes),
        Who::Nodes(named) => distinct(named),
        // Where nodes are depends on the seed.
        Who::Regions(_) => 1,
    };
    match (one, other) {
        (Who::Nodes(one), Who::Nodes(other)) => {
            one.iter().find(|node| other.contains(node)).map(|node| format!("node {node}"))
        }
        (Who::Regions(one), Who::Regions(other)) => {
            one.iter().find(|region| other.contains(region)).map(|region| format!("each node of {region}"))
        }
        _ if u64::from(count(one)) + u64::from(count(other)) > u64::from(nodes) => {
            Some("at least one of the nodes".into())
        }
        _ => None,
    }
}

/// How many different nodes are named.
pub(super) fn distinct(named: &[u32]) -> u32 {
    u32::try_from(named.iter().collect::<BTreeSet<_>>().len()).unwrap_or(u32::MAX)
}

/// There is one partition at a time, and only what is parted can be healed.
fn partitions(manifest: &Manifest) -> Checked {
    let mut order: Vec<usize> = (0..manifest.fault.len()).collect();
    order.sort_by(|a, b| manifest.fault[*a].when().0.total_cmp(&manifest.fault[*b].when().0));
    let mut parted: Option<(usize, f64)> = None;
    for number in order {
        let fault = &manifest.fault[number];
        let (at_s, _) = fault.when();
        let present = parted.filter(|(_, until_s)| at_s < *until_s);
        match fault {
            Fault::Partition { for_s, .. } => {
                if let Some((other, until_s)) = present {
                    let until = if until_s.is_finite() { format!("until {until_s} s") } else { "to the end".into() };
                    let message = format!(
                        "it overlaps with the partition fault.{other}, which lasts {until}; heal that one first, or describe both as one"
                    );
                    return Err(Problem::new(&[Key("fault"), Index(number), Key("at_s")], message));
                }
                parted = Some((number, for_s.map_or(f64::INFINITY, |for_s| at_s + for_s)));
            }
            Fault::Heal { .. } if present.is_none() => {
                let message = "there is nothing to heal: no partition lasts until then";
                return Err(Problem::new(&[Key("fault"), Index(number), Key("at_s")], message));
            }
            Fault::Heal { .. } => parted = None,
            _ => {}
        }
    }
    Ok(())
}
