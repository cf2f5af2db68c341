//! What the run of a manifest came to. The same is asked of a simulation and of processes, and told of both in the same words.

use serde::Serialize;

/// Whether all is well at the end of a manifest's run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether nothing is wrong.
    good: bool,
    /// Whether all nodes that run agree about the chain, but for a block that is on its way.
    one_chain: bool,
    /// What is wrong, in sentences.
    findings: Vec<String>,
}

impl Verdict {
    /// The verdict that these findings are.
    #[must_use]
    pub fn new(one_chain: bool, findings: Vec<String>) -> Self {
        Self { good: findings.is_empty(), one_chain, findings }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.good
    }

    /// What is wrong, in sentences; nothing if all is well.
    #[must_use]
    pub fn findings(&self) -> &[String] {
        &self.findings
    }
}

/// How the last partition of a manifest ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Partition {
    /// When it was healed, in seconds from the start of the run; none if that was not before the end.
    pub healed_at_s: Option<f64>,
    /// How long after that all nodes had one head again, in seconds; none if they never had.
    pub one_head_after_s: Option<f64>,
}

impl Partition {
    /// The same in a sentence.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.healed_at_s, self.one_head_after_s) {
            (None, _) => "The partition was not healed before the end of the run.".to_owned(),
            (_, Some(after_s)) => {
                format!("All nodes had one head again {after_s:.2} s after the partition was healed.")
            }
            (_, None) => "The nodes never had one head again after the partition was healed.".to_owned(),
        }
    }
}
