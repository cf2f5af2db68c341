//! Faults that do not go together.
//!
//! Who is drawn from the seed may meet other faults by chance, as churn does: what is refused is only what meets with every seed.

use super::check::Checked;
use super::error::Problem;
use super::error::Step::{Index, Key};
use super::faults::{count_of, duration, time};
use super::keys::{Fault, Manifest, Who};
use crate::report::format::float;
use starling_protocol::time::Time;
use std::collections::BTreeSet;

/// Checks that faults go together.
pub(super) fn check(manifest: &Manifest) -> Checked {
    partitions(manifest)?;
    for (later, fault) in manifest.fault.iter().enumerate() {
        for (earlier, other) in manifest.fault.iter().enumerate() {
            let (at, other_at) = (time(fault.when().0), time(other.when().0));
            // Of two at the same time the one that is written first counts as the earlier one.
            if earlier == later || (other_at, earlier) > (at, later) {
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
        (
            Fault::Kill { .. } | Fault::Restart { .. },
            Fault::Kill { .. } | Fault::Restart { .. } | Fault::Pause { .. },
        ) => ("is down", false),
        (Fault::Pause { .. }, Fault::Pause { .. }) => ("stands still", false),
        (Fault::SlowCpu { .. }, Fault::SlowCpu { .. }) => ("has a slow processor", false),
        (Fault::SlowDisk { .. }, Fault::SlowDisk { .. }) => ("has a slow disk", false),
        _ => return None,
    };
    let ((began_s, for_s), (at_s, _)) = (earlier.when(), later.when());
    let until = for_s.map(|for_s| time(began_s) + duration(for_s));
    if until.is_some_and(|until| time(at_s) >= until) {
        return None;
    }
    let until_s = until.map(seconds);
    let node = common(nodes, earlier.who()?, later.who()?)?;
    let (until, remedy) = match until_s {
        Some(until_s) => (format!("until {until_s} s"), format!("begin at {until_s} s or later")),
        None if for_good => ("for good".into(), "give the other one for_s".into()),
        None => ("to the end".into(), "give the other one for_s".into()),
    };
    Some(format!("{node} {what} already, from {began_s} s {until}; {remedy}, or name other nodes"))
}

fn seconds(time: Time) -> f64 {
    float(time.as_micros()) / 1e6
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
    // Of one moment, what ends comes first.
    let when = |fault: &Fault| (time(fault.when().0), matches!(fault, Fault::Partition { .. }));
    order.sort_by_key(|number| when(&manifest.fault[*number]));
    let mut parted: Option<(usize, Time)> = None;
    for number in order {
        let fault = &manifest.fault[number];
        let at = time(fault.when().0);
        let present = parted.filter(|(_, until)| at < *until);
        match fault {
            Fault::Partition { for_s, .. } => {
                if let Some((other, until)) = present {
                    let until = match until {
                        Time::MAX => "to the end".to_owned(),
                        until => format!("until {} s", seconds(until)),
                    };
                    let message = format!(
                        "it overlaps with the partition fault.{other}, which lasts {until}; heal that one first, or describe both as one"
                    );
                    let place = [Key("fault"), Index(number), Key("at_s")];
                    return Err(Problem::new(&place, message).beside(&[Key("fault"), Index(other)]));
                }
                parted = Some((number, for_s.map_or(Time::MAX, |for_s| at + duration(for_s))));
            }
            Fault::Heal { .. } if present.is_none() => {
                let message =
                    "there is nothing to heal: no partition lasts until then; remove it, or begin one before it";
                return Err(Problem::new(&[Key("fault"), Index(number), Key("at_s")], message));
            }
            Fault::Heal { .. } => parted = None,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen nodes, and a run of 50 s.
    const HEAD: &str = "format = 1\nnodes = 16\n[topology]\nkind = \"random\"\ndegree = 4\n";
    const ONE: &str = "who = { nodes = [1, 2] }";

    fn fault(kind: &str, rest: &str) -> String {
        format!("[[fault]]\nkind = \"{kind}\"\n{rest}\n")
    }

    fn good(faults: &str) {
        Manifest::parse(&format!("{HEAD}{faults}"), "test.toml").unwrap_or_else(|error| panic!("{faults}: {error}"));
    }

    fn error(faults: &str) -> String {
        Manifest::parse(&format!("{HEAD}{faults}"), "test.toml").expect_err(faults).to_string()
    }

    /// It is the times that decide, not the order of the sections.
    fn contradict(first: &str, second: &str, said: &str) {
        let error = error(&format!("{first}{second}"));
        assert!(error.contains("(fault.1.at_s)") && error.contains("fault.0 in line 6"), "{error}");
        assert!(error.contains(said), "{said:?} is missing in: {error}");
        let turned = self::error(&format!("{second}{first}"));
        assert!(turned.contains("(fault.0.at_s)") && turned.contains("fault.1 in line"), "{turned}");
    }

    #[test]
    fn who_is_killed_for_good_can_neither_be_killed_nor_started_again_nor_stand_still() {
        let killed = fault("kill", &format!("{ONE}\nat_s = 1"));
        let said = "node 1 is killed already, from 1 s for good; give the other one for_s, or name other nodes";
        contradict(&killed, &fault("kill", &format!("{ONE}\nat_s = 9")), said);
        contradict(&killed, &fault("restart", &format!("{ONE}\nat_s = 9")), said);
        contradict(&killed, &fault("pause", "who = { all = true }\nfor_s = 1\nat_s = 9"), "for good");
        good(&(killed + &fault("kill", "who = { nodes = [3] }\nat_s = 4")));
        // Times are microseconds, whatever their sum is as a floating-point number.
        let short = fault("kill", &format!("{ONE}\nfor_s = 0.2\nat_s = 0.1"));
        good(&(short.clone() + &fault("kill", &format!("{ONE}\nat_s = 0.3"))));
        contradict(&short, &fault("kill", &format!("{ONE}\nat_s = 0.2")), "until 0.3 s; begin at 0.3 s or later");
    }

    #[test]
    fn who_is_down_can_neither_be_killed_nor_started_again() {
        let killed = fault("kill", &format!("{ONE}\nfor_s = 9\nat_s = 1"));
        let restarted = fault("restart", &format!("{ONE}\nfor_s = 9\nat_s = 1"));
        let said = "node 1 is down already, from 1 s until 10 s; begin at 10 s or later, or name other nodes";
        for down in [&killed, &restarted] {
            contradict(down, &fault("kill", &format!("{ONE}\nat_s = 2")), said);
            contradict(down, &fault("restart", &format!("{ONE}\nat_s = 9.9")), said);
            good(&format!("{down}{}", fault("kill", &format!("{ONE}\nat_s = 10"))));
            // Whoever does not run cannot stand still; it can be slow as soon as it runs again.
            contradict(down, &fault("pause", &format!("{ONE}\nfor_s = 20\nat_s = 2")), said);
            good(&format!("{down}{}", fault("slow_cpu", &format!("{ONE}\nfactor = 9\nfor_s = 20\nat_s = 2"))));
        }
    }

    #[test]
    fn what_is_so_already_cannot_begin() {
        for (kind, rest, said) in [
            ("pause", "for_s = 9", "stands still already, from 1 s until 10 s; begin at 10 s or later"),
            ("slow_cpu", "factor = 9\nfor_s = 9", "has a slow processor already, from 1 s until 10 s"),
            ("slow_disk", "factor = 9\nfor_s = 9", "has a slow disk already, from 1 s until 10 s"),
            ("slow_cpu", "factor = 9", "has a slow processor already, from 1 s to the end; give the other one for_s"),
            ("slow_disk", "factor = 9", "has a slow disk already, from 1 s to the end; give the other one for_s"),
        ] {
            let begins = |at_s: u32| fault(kind, &format!("{ONE}\n{rest}\nat_s = {at_s}"));
            contradict(&begins(1), &begins(2), said);
            if rest.contains("for_s") {
                good(&(begins(1) + &begins(10)));
            }
        }
        let slow = |kind: &str| fault(kind, &format!("{ONE}\nfactor = 9\nat_s = 1"));
        good(&(slow("slow_cpu") + &slow("slow_disk")));
    }

    #[test]
    fn of_two_at_the_same_time_the_second_one_is_refused() {
        let killed = fault("kill", &format!("{ONE}\nfor_s = 3\nat_s = 1"));
        let twice = error(&(killed.clone() + &killed));
        assert!(twice.contains("(fault.1.at_s)") && twice.contains("fault.0 in line 6"), "{twice}");
    }

    /// What meets with some seeds only is no contradiction.
    #[test]
    fn groups_meet_if_they_do_with_every_seed() {
        let killed = |who: &str, at_s: u32| fault("kill", &format!("who = {who}\nat_s = {at_s}"));
        let (us, asia) = ("{ regions = [\"us-east-1\"] }", "{ regions = [\"ap-east-1\"] }");
        for (one, other, node) in [
            ("{ nodes = [3, 1] }", "{ nodes = [2, 1] }", "node 1"),
            (us, us, "each node of us-east-1"),
            (us, "{ all = true }", "at least one of the nodes"),
            ("{ all = true }", "{ nodes = [7] }", "at least one of the nodes"),
            ("{ percent = 60 }", "{ percent = 60 }", "at least one of the nodes"),
            ("{ percent = 80 }", "{ nodes = [1, 2, 3, 4] }", "at least one of the nodes"),
        ] {
            contradict(&killed(one, 1), &killed(other, 2), &format!(": {node} is killed already"));
        }
        for (one, other) in [
            ("{ nodes = [3, 1] }", "{ nodes = [2, 4] }"),
            (us, asia),
            (us, "{ nodes = [0] }"),
            ("{ percent = 50 }", "{ percent = 50 }"),
            ("{ percent = 75 }", "{ nodes = [1, 2, 3, 4, 4] }"),
        ] {
            good(&(killed(one, 1) + &killed(other, 2)));
        }
    }

    #[test]
    fn partitions_must_not_overlap() {
        let partition =
            |at_s: u32, for_s: &str| fault("partition", &format!("at_s = {at_s}\n{for_s}\nwho = {{ percent = 50 }}"));
        let overlapping = error(&(partition(20, "for_s = 5") + &partition(10, "for_s = 11")));
        let said = "it overlaps with the partition fault.1, which lasts until 21 s";
        assert!(overlapping.contains("line 8 (fault.0.at_s)") && overlapping.contains(said), "{overlapping}");
        good(&(partition(10, "for_s = 10") + &partition(20, "for_s = 5")));
        let endless = error(&(partition(10, "") + &partition(20, "for_s = 5")));
        assert!(endless.contains("(fault.1.at_s)") && endless.contains("fault.0, which lasts to the end"), "{endless}");
    }

    #[test]
    fn only_what_is_parted_can_be_healed() {
        let partition =
            |at_s: u32, for_s: &str| fault("partition", &format!("at_s = {at_s}\n{for_s}\nwho = {{ percent = 50 }}"));
        let heal = |at_s: u32| fault("heal", &format!("at_s = {at_s}"));
        good(&(heal(15) + &partition(10, "") + &partition(15, "")));
        good(&(partition(10, "for_s = 9") + &heal(15) + &partition(16, "for_s = 1")));
        for early_or_late in [
            heal(9) + &partition(10, ""),
            heal(15) + &partition(10, "for_s = 5"),
            heal(20) + &partition(10, "") + &heal(12),
        ] {
            let error = error(&early_or_late);
            assert!(error.contains("line 8 (fault.0.at_s): there is nothing to heal"), "{error}");
        }
    }
}
