//! Which attackers can be processes, and what they need to show anything there.
//!
//! Nearly all can: the same adversaries are hosted over the node's own network code. A few need what only the simulator gives. And whoever
//! comes or turns when the load has ended attacks nothing, so that nothing could be said of it.

use super::{Attackers, AttackersError, KINDS};
use std::fmt;

/// More identities of one kind a host does not bear beside the nodes.
pub(crate) const COUNT_MAX: u32 = 100;

/// Kinds that need what only the simulator gives, and what that is.
const SIMULATED_ONLY: &[(&str, &str)] = &[
    ("censor", "to know which account a node signs with, and the load of processes signs with accounts of its own"),
    ("equivocate", "the key of a producer that no node has"),
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
        /// What was given.
        found: u32,
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

impl Attackers {
    /// Whether they can be run as processes against so many real nodes, whose load ends `load_end_s` after the attackers' time begins.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub(crate) fn check_as_processes(&self, nodes: usize, load_end_s: f64) -> Result<(), ProcessesError> {
        self.check(nodes)?;
        if let Some((kind, need)) = SIMULATED_ONLY.iter().find(|(kind, _)| *kind == self.kind) {
            return Err(ProcessesError::SimulatedOnly { kind, need });
        }
        if !(1..=COUNT_MAX).contains(&self.count) {
            return Err(ProcessesError::Count { found: self.count });
        }
        for (what, at_s) in [(Late::Turn, self.param("turn_s")), (Late::Come, self.at_s)] {
            if at_s > 0.0 && at_s >= load_end_s {
                return Err(ProcessesError::Late { kind: self.kind.clone(), what, at_s, load_end_s });
            }
        }
        Ok(())
    }
}
