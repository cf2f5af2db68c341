//! Which attackers can be processes, and what they need to show anything there.
//!
//! Nearly all can: the same adversaries are hosted over the node's own network code. A few need what only the simulator gives. And whoever
//! comes or turns when the load has ended attacks nothing, so that nothing could be said of it.

use super::{Attackers, AttackersError, KINDS};
use std::fmt;

/// More identities of one kind a host does not bear beside the nodes, however many entries they are written in.
const COUNT_MAX: u32 = 100;

const TO_FOLLOW_THE_CHAIN: &str = "to follow the chain, and the processes of attackers verify nothing and have no disk";

/// Kinds that need what only the simulator gives, and what that is.
const SIMULATED_ONLY: &[(&str, &str)] = &[
    ("censor", "to know which account a node signs with, which the processes of attackers are not told"),
    ("equivocate", "the key of a producer that no node has"),
    ("misplace", "the key of a producer that no node has"),
    ("stall", TO_FOLLOW_THE_CHAIN),
    ("sip", TO_FOLLOW_THE_CHAIN),
    ("mute", TO_FOLLOW_THE_CHAIN),
];

/// Why attackers cannot be processes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum ProcessesError {
    /// They cannot take part in any network of so many nodes.
    #[error(transparent)]
    Attackers(#[from] AttackersError),
    /// They need what only the simulator gives.
    #[error(
        "attackers of kind `{kind}` run in the simulator only (`starling-testnet attacks`): they need {need}; against processes there are {}",
        kinds().join(", ")
    )]
    SimulatedOnly {
        /// Their kind.
        kind: &'static str,
        /// What they need.
        need: &'static str,
    },
    /// They are none, or too many for a host.
    #[error("there can be 1 to {COUNT_MAX} attackers of a kind as processes, and not {found}")]
    Count {
        /// What was given, of all entries of the kind.
        found: u64,
    },
    /// They would do no harm before the load has ended.
    #[error(
        "attackers of kind `{kind}` {what} after {at_s} s, but the load ends after {load_end_s} s; give a smaller {} or a longer load",
        what.key()
    )]
    Late {
        /// Their kind.
        kind: String,
        /// What they do too late.
        what: Late,
        /// When.
        at_s: f64,
        /// When the load ends.
        load_end_s: f64,
    },
}

/// What attackers can do too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// They begin to do harm.
    Turn,
    /// They come.
    Come,
}

impl Late {
    fn key(self) -> &'static str {
        match self {
            Self::Turn => "turn_s",
            Self::Come => "at_s",
        }
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => "turn",
            Self::Come => "come",
        })
    }
}

impl ProcessesError {
    /// The key of a section that is wrong, and the parameter if it is one.
    pub(crate) fn key(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Attackers(error) => error.key(),
            Self::SimulatedOnly { .. } => ("kind", None),
            Self::Count { .. } => ("count", None),
            Self::Late { what: Late::Turn, .. } => ("params", Some(Late::Turn.key())),
            Self::Late { what: Late::Come, .. } => (Late::Come.key(), None),
        }
    }
}

/// Kinds that can be processes.
fn kinds() -> Vec<&'static str> {
    let only = |name: &str| SIMULATED_ONLY.iter().any(|(only, _)| *only == name);
    KINDS.iter().map(|kind| kind.name).filter(|name| !only(name)).collect()
}

/// Whether all of these can be run as processes against so many real nodes, whose load ends `load_end_s` after the attackers' time begins.
///
/// # Errors
/// The number of the entry that cannot, or with which they are too many of its kind; what is wrong and what would be right.
pub(crate) fn check_as_processes(
    all: &[Attackers],
    nodes: usize,
    load_end_s: f64,
) -> Result<(), (usize, ProcessesError)> {
    for (number, attackers) in all.iter().enumerate() {
        attackers.check_as_process(nodes, load_end_s).map_err(|error| (number, error))?;
        let of_kind = all[..=number].iter().filter(|other| other.kind == attackers.kind);
        let found = of_kind.map(|other| u64::from(other.count)).sum();
        if !(1..=u64::from(COUNT_MAX)).contains(&found) {
            return Err((number, ProcessesError::Count { found }));
        }
    }
    Ok(())
}

impl Attackers {
    /// Whether these can be, as far as one entry tells.
    fn check_as_process(&self, nodes: usize, load_end_s: f64) -> Result<(), ProcessesError> {
        self.check(nodes)?;
        if let Some((kind, need)) = SIMULATED_ONLY.iter().find(|(kind, _)| *kind == self.kind) {
            return Err(ProcessesError::SimulatedOnly { kind, need });
        }
        for (what, at_s) in [(Late::Turn, self.param("turn_s")), (Late::Come, self.at_s)] {
            if at_s > 0.0 && at_s >= load_end_s {
                return Err(ProcessesError::Late { kind: self.kind.clone(), what, at_s, load_end_s });
            }
        }
        Ok(())
    }
}

/// Reads `KIND:COUNT[,KEY=VALUE]…`, which tells of attackers on the command line of processes.
///
/// # Errors
/// Says what is wrong and what would be right.
#[cfg(any(test, feature = "cluster"))]
pub(crate) fn order(text: &str) -> Result<Attackers, String> {
    const EXPECTED: &str = "write KIND:COUNT, and settings behind it, as in withhold:2,topic=1,at_s=5";
    let mut parts = text.split(',');
    let (kind, count) = parts.next().and_then(|first| first.split_once(':')).ok_or(EXPECTED)?;
    let count: u32 =
        count.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count)).ok_or_else(|| {
            format!("there can be 1 to {COUNT_MAX} attackers of a kind, and not {count:?}; {EXPECTED}")
        })?;
    let mut attackers = Attackers::new(kind, count as usize, 1_000);
    let mut given = Vec::new();
    for part in parts {
        let (key, value) = part.split_once('=').ok_or(EXPECTED)?;
        if given.contains(&key) {
            return Err(format!("{key} is given twice; give it once"));
        }
        given.push(key);
        let number: f64 =
            value.parse().map_err(|_not_a_number| format!("{key} must be a number, and not {value:?}; {EXPECTED}"))?;
        let whole =
            value.parse::<u32>().map_err(|_not_whole| format!("{key} must be a whole number, and not {value:?}"));
        match key {
            "at_s" => attackers.at_s = number,
            "connections" => attackers.connections = whole? as usize,
            "per_ip" => attackers.per_ip = whole?,
            _ => {
                attackers.params.insert(key.to_owned(), number);
            }
        }
    }
    Ok(attackers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_a_kind_a_number_and_settings() {
        let attackers = order("withhold:2,topic=0,at_s=1.5,connections=3,per_ip=2").expect("well formed");
        assert_eq!((&*attackers.kind, attackers.count, attackers.at_s), ("withhold", 2, 1.5));
        assert_eq!((attackers.connections, attackers.per_ip, attackers.params["topic"]), (3, 2, 0.0));
        assert_eq!(check_as_processes(&[attackers], 4, 2.0), Ok(()));
        for (wrong, part) in [
            ("invalid", "KIND:COUNT"),
            ("invalid:0", "1 to 100"),
            ("invalid:x", "1 to 100"),
            ("invalid:1,topic", "KIND:COUNT"),
            ("invalid:1,per_s=fast", "per_s must be a number"),
            ("invalid:1,connections=1.5", "whole number"),
            ("sybil:1,at_s=1,at_s=2", "at_s is given twice"),
            ("sybil:1,drop=1,at_s=2,drop=1", "drop is given twice"),
        ] {
            assert!(order(wrong).is_err_and(|error| error.contains(part)), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused_before_anything_starts() {
        let checked = |texts: &[&str]| {
            let all: Vec<_> = texts.iter().map(|text| order(text).expect("well formed")).collect();
            check_as_processes(&all, 4, 20.0).map_err(|(number, error)| (number, error.to_string()))
        };
        let refused = |text: &str| checked(&[text]).expect_err(text).1;
        assert!(refused("invalid-spam:1").contains("there is no attacker of kind `invalid-spam`; the kinds are"));
        assert!(refused("invalid:1,per_a=3").contains("have no parameter `per_a`; they have per_s"));
        assert!(refused("equivocate:1,slots=3").ends_with("have no parameter `slots`; they have none"));
        assert!(refused("censor:1").contains("simulator only") && refused("censor:1").contains("invalid"));
        assert!(refused("stall:1").contains("simulator only") && refused("mute:1").contains("follow the chain"));
        assert!(refused("outrun:1").contains("turn after 60 s"));
        assert!(refused("iwant:1,at_s=20").contains("give a smaller at_s"));
        // A host bears no more of them because they are written in parts.
        assert_eq!(checked(&["sybil:60", "mirror:60", "sybil:40,at_s=5"]), Ok(()));
        let (number, error) = checked(&["sybil:60", "mirror:60", "sybil:41,at_s=5"]).expect_err("too many sybils");
        assert!(number == 2 && error.contains("1 to 100") && error.ends_with("and not 101"), "{number}: {error}");
    }
}
