//! Which attackers can be processes, and what they need to show anything there.
//!
//! Nearly all can: the same adversaries are hosted over the node's own network code. A few need what only the simulator gives. And whoever
//! comes or turns when the load has ended attacks nothing, so that nothing could be said of it.

use super::{Attackers, KINDS};

/// More identities of one kind a host does not bear beside the nodes.
pub(crate) const COUNT_MAX: u32 = 100;

/// Kinds that need what only the simulator gives, and what that is.
const SIMULATED_ONLY: &[(&str, &str)] = &[
    ("censor", "to know which account a node signs with, and the load of processes signs with accounts of its own"),
    ("equivocate", "the key of a producer that no node has"),
];

impl Attackers {
    /// Whether they can be run as processes against so many real nodes, whose load ends `load_end_s` after the attackers' time begins.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub(crate) fn check_as_processes(&self, nodes: usize, load_end_s: f64) -> Result<(), String> {
        self.check(nodes).map_err(|error| error.to_string())?;
        if let Some((kind, need)) = SIMULATED_ONLY.iter().find(|(kind, _)| *kind == self.kind) {
            let only = |name: &str| SIMULATED_ONLY.iter().any(|(only, _)| *only == name);
            let others: Vec<&str> = KINDS.iter().map(|kind| kind.name).filter(|name| !only(name)).collect();
            return Err(format!(
                "attackers of kind `{kind}` run in the simulator only (`starling-testnet attacks`): they need {need}; against \
                 processes there are {}",
                others.join(", ")
            ));
        }
        if !(1..=COUNT_MAX).contains(&self.count) {
            let found = self.count;
            return Err(format!("there can be 1 to {COUNT_MAX} attackers of a kind as processes, and not {found}"));
        }
        for (key, what, at_s) in [("turn_s", "turn", self.param("turn_s")), ("at_s", "come", self.at_s)]
            .into_iter()
            .filter(|(.., s)| *s > 0.0)
        {
            if at_s >= load_end_s {
                let kind = &self.kind;
                return Err(format!(
                    "attackers of kind `{kind}` {what} after {at_s} s, but the load ends after {load_end_s} s; give a smaller {key} \
                     or a longer load"
                ));
            }
        }
        Ok(())
    }
}
